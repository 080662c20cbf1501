/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The executor's thread.
 *
 *            thread starts          ready for requests
 *   ABSENT ----------------> STARTING ----------------> READY
 *                               |
 *                               +--> FAILED (a sub-interpreter could not be made)
 */
#include "epy_executor.h"

#include "epy_atoms.h"
#include "epy_error.h"
#include "epy_exec.h"
#include "epy_interrupt.h"
#include "epy_request.h"
#include "epy_runtime.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXECUTORS_MAX 1024
#define YIELD_EVERY 16   /* requests, between two offers of the GIL to other threads */
#define SPIN_NS 20000    /* how long an idle executor looks at its queue before it sleeps */

enum { ABSENT, STARTING, READY, FAILED };

_Thread_local epy_executor *epy_self;

static epy_executor table[EXECUTORS_MAX];
static atomic_uint table_size; /* grows only; written under table_lock */
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER; /* guards taking a slot; a leaf */

int epy_thread_start(const char *name, void *(*main)(void *), void *arg)
{
    pthread_t thread;
    pthread_attr_t attr;
    sigset_t none, old;
    if (pthread_attr_init(&attr) != 0)
        return EPY_ETHREAD;
    /* Programs that Python starts inherit the mask of its thread.  The handlers are
     * Erlang's, which only write to a pipe and may run anywhere. */
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, &old);
    int failed = pthread_attr_setstacksize(&attr, EPY_STACK_SIZE) ||
                 pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED) ||
                 pthread_create(&thread, &attr, main, arg);
    if (!failed)
        pthread_setname_np(thread, name); /* fails on a long name; it is but a help */
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return failed ? EPY_ETHREAD : EPY_OK;
}

/* ---- one request ---- */

static void finish(epy_executor *ex, epy_request *req, ERL_NIF_TERM result)
{
    if (!epy_request_move(req, EPY_REQ_RUNNING, EPY_REQ_DONE)) {
        epy_interrupt_end(ex, req);
        return;
    }
    atomic_store_explicit(&ex->current, req->outer, memory_order_release);
    epy_request_reply(req, result);
    epy_request_free(req);
}

void epy_executor_run(epy_executor *ex, epy_request *req)
{
    ERL_NIF_TERM result;
    req->executor = ex;
    if (!epy_request_move(req, EPY_REQ_QUEUED, EPY_REQ_RUNNING)) {
        epy_request_free(req); /* cancelled before it ran */
        return;
    }
    req->outer = atomic_load(&ex->current);
    atomic_store_explicit(&ex->current, req, memory_order_release);
    if (!epy_runtime_is_running())
        result = epy_error_term(req->env, epy_atom.not_running);
    else if (!enif_is_process_alive(req->env, &req->caller))
        result = epy_error_term(req->env, epy_atom.cancelled); /* nobody waits: not run at all */
    else
        result = epy_exec(ex->interp, req);
    EPY_ASSERT(R10, !PyErr_Occurred());
    finish(ex, req, result);
}

/* ---- the loop ---- */

/* Executors that run in parallel are hot only while they look for work, those
 * that share a GIL as long as they are awake.  See epy_monitor.h. */
static void cool(epy_executor *ex)
{
    epy_idle_cool(&ex->interp->idle);
    if (!epy_queue_empty(&ex->interp->queue))
        epy_idle_notify(&ex->interp->idle);
}

static void run_queued(epy_executor *ex, epy_request *req)
{
    bool eager = epy_runtime_is_eager();
    if (eager)
        cool(ex);
    epy_executor_run(ex, req);
    if (eager)
        epy_idle_heat(&ex->interp->idle);
}

static void sleep_detached(epy_executor *ex)
{
    PyThreadState *ts = PyEval_SaveThread();
    epy_idle_wait(&ex->interp->idle, &ex->interp->queue, SPIN_NS, -1);
    PyEval_RestoreThread(ts);
}

/* Python hands its GIL over between bytecodes only; a run of short calls into C
 * has none. */
static void offer_gil(void)
{
    PyEval_RestoreThread(PyEval_SaveThread());
}

/* Lowers `serving` if more than wanted do; false if this one is wanted. */
static bool surplus(epy_interp *interp)
{
    int serving = atomic_load_explicit(&interp->serving, memory_order_relaxed);
    while (serving > atomic_load_explicit(&interp->wanted, memory_order_relaxed))
        if (atomic_compare_exchange_weak(&interp->serving, &serving, serving - 1))
            return true;
    return false;
}

/* A callback has ended and there is one executor too many: this one sleeps until
 * another callback begins. */
static void park(epy_executor *ex)
{
    epy_interp *interp = ex->interp;
    PyThreadState *ts = PyEval_SaveThread();
    cool(ex);
    epy_idle_heat(&interp->parking);
    epy_idle_wait(&interp->parking, NULL, 0, -1);
    epy_idle_cool(&interp->parking);
    atomic_fetch_add(&interp->serving, 1);
    epy_idle_heat(&interp->idle);
    PyEval_RestoreThread(ts);
}

static void loop(epy_executor *ex)
{
    epy_interp *interp = ex->interp;
    unsigned served = 0;
    atomic_fetch_add(&interp->serving, 1);
    epy_idle_heat(&interp->idle);
    for (;;) {
        if (surplus(interp)) {
            park(ex);
            continue;
        }
        epy_qnode *n = epy_queue_pop(&interp->queue);
        if (!n) {
            sleep_detached(ex);
            continue;
        }
        atomic_fetch_add_explicit(&interp->popped, 1, memory_order_relaxed);
        run_queued(ex, EPY_CONTAINER(n, epy_request, node));
        if (++served % YIELD_EVERY == 0)
            offer_gil();
    }
}

bool epy_executor_has_stack(const epy_executor *ex, size_t bytes)
{
    return (char *)__builtin_frame_address(0) - ex->stack_end > (ptrdiff_t)bytes;
}

static void set_state(epy_executor *ex, int state)
{
    atomic_store(&ex->ready, state);
    epy_futex_wake_one(&ex->ready);
}

/* Serves for ever; attached. */
static void serve(epy_executor *ex)
{
    ex->ident = PyThread_get_thread_ident();
    /* What the thread library and this function have taken is less than 64 KB. */
    ex->stack_end = (char *)__builtin_frame_address(0) - EPY_STACK_SIZE + (64 << 10);
    set_state(ex, READY);
    loop(ex);
}

static void *executor_main(void *arg)
{
    epy_executor *ex = epy_self = arg;
    ex->tstate = PyThreadState_New(ex->interp->state);
    if (!ex->tstate) {
        set_state(ex, FAILED);
        return NULL;
    }
    PyEval_RestoreThread(ex->tstate);
    serve(ex);
    return NULL;
}

/* ---- starting ---- */

static int wait_state(epy_executor *ex, int from)
{
    while (atomic_load(&ex->ready) == from)
        epy_futex_wait(&ex->ready, from, -1);
    return atomic_load(&ex->ready);
}

static void link_to(epy_executor *ex, epy_interp *interp)
{
    ex->interp = interp;
    ex->next = atomic_load(&interp->executors);
    atomic_store(&interp->executors, ex);
}

/* An executor of this interpreter whose thread did not start, or a new one; under
 * table_lock. */
static epy_executor *find_slot(epy_interp *interp)
{
    for (epy_executor *ex = atomic_load(&interp->executors); ex; ex = ex->next)
        if (atomic_load(&ex->ready) == ABSENT || atomic_load(&ex->ready) == FAILED)
            return ex;
    unsigned n = atomic_load(&table_size);
    if (n == EXECUTORS_MAX)
        return NULL;
    epy_executor *ex = &table[n];
    ex->index = (int)n;
    pthread_mutex_init(&ex->interrupt_lock, NULL);
    pthread_mutex_init(&ex->frame_lock, NULL);
    link_to(ex, interp);
    atomic_store(&table_size, n + 1);
    return ex;
}

static epy_executor *take_slot(epy_interp *interp)
{
    pthread_mutex_lock(&table_lock);
    epy_executor *ex = find_slot(interp);
    if (ex)
        atomic_store(&ex->ready, STARTING);
    pthread_mutex_unlock(&table_lock);
    return ex;
}

static int count(epy_interp *interp, int state)
{
    int n = 0;
    for (epy_executor *ex = atomic_load(&interp->executors); ex; ex = ex->next)
        n += atomic_load(&ex->ready) == state;
    return n;
}

static int start(epy_interp *interp, void *(*main)(void *), epy_executor **out)
{
    char name[16];
    epy_executor *ex = *out = take_slot(interp);
    if (!ex)
        return EPY_ENOMEM;
    snprintf(name, sizeof name, "epy_exec_%d", ex->index);
    int r = epy_thread_start(name, main, ex);
    if (r < 0)
        atomic_store(&ex->ready, ABSENT);
    return r;
}

static int start_and_wait(epy_interp *interp, void *(*main)(void *))
{
    epy_executor *ex;
    int r = start(interp, main, &ex);
    if (r == EPY_OK && wait_state(ex, STARTING) == FAILED)
        r = EPY_ENOMEM;
    return r;
}

/* Lets one executor more serve: one that is parked, else a new one.  Without
 * either the calls that are queued wait until a callback ends. */
static void add_spare(epy_interp *interp)
{
    epy_executor *ex;
    if (epy_idle_wake(&interp->parking))
        return;
    int most = atomic_load(&interp->wanted) + epy_runtime_config()->max_spare_executors;
    if (count(interp, STARTING) + count(interp, READY) < most)
        (void)start(interp, executor_main, &ex);
}

void epy_executor_leave_queue(epy_executor *ex)
{
    if (!epy_runtime_is_eager())
        cool(ex);
    if (atomic_fetch_sub(&ex->interp->serving, 1) == 1)
        add_spare(ex->interp);
}

void epy_executor_rejoin_queue(epy_executor *ex)
{
    atomic_fetch_add(&ex->interp->serving, 1);
    if (!epy_runtime_is_eager())
        epy_idle_heat(&ex->interp->idle);
}

int epy_executors_resize(epy_interp *interp, int n)
{
    int r = EPY_OK;
    atomic_store(&interp->wanted, n); /* those above it park when they next look for work */
    for (int have = count(interp, READY); r == EPY_OK && have < n; have++)
        r = start_and_wait(interp, executor_main);
    while (epy_idle_wake(&interp->parking))
        continue; /* each serves, or parks again */
    return r;
}

void epy_executors_relieve(epy_interp *interp)
{
    if (atomic_load(&interp->serving) < atomic_load(&interp->wanted))
        add_spare(interp);
}

int epy_executors_count(epy_interp *interp)
{
    return count(interp, READY);
}

epy_executor *epy_executor_find(unsigned index)
{
    return index < atomic_load(&table_size) ? &table[index] : NULL;
}

bool epy_executors_busy(epy_interp *interp)
{
    if (!epy_queue_empty(&interp->queue))
        return true;
    for (epy_executor *ex = atomic_load(&interp->executors); ex; ex = ex->next)
        if (atomic_load(&ex->current))
            return true;
    return false;
}

/* ---- sub-interpreters ---- */

static const char *subinterp_error; /* of the thread that start() waits for */

/* The current exception as one line, for the error of a start that failed. */
static const char *describe_exception(void)
{
    static char line[512];
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *text = value ? PyObject_Str(value) : NULL;
    const char *utf8 = text ? PyUnicode_AsUTF8(text) : NULL;
    PyOS_snprintf(line, sizeof line, "%s: %s", type ? ((PyTypeObject *)type)->tp_name : "error",
                  utf8 ? utf8 : "?");
    PyErr_Clear(); /* of the description itself; the exception was taken */
    Py_XDECREF(text);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return line;
}

/* Attaches the calling thread to a new interpreter; false with the reason in
 * subinterp_error.  The thread state of the main interpreter that the creation
 * needs is deleted again, so that the thread has but one. */
static bool create_subinterp(epy_executor *ex)
{
    PyStatus status;
    PyThreadState *main_ts = PyThreadState_New(epy_runtime_interp(0)->state);
    if (!main_ts) {
        subinterp_error = "no memory";
        return false;
    }
    PyEval_RestoreThread(main_ts);
    ex->tstate = epy_mode_subinterp_new(&status);
    if (!ex->tstate)
        subinterp_error = status.err_msg ? status.err_msg : "it could not be created";
    else {
        PyEval_SaveThread();
        PyEval_RestoreThread(main_ts);
    }
    PyThreadState_Clear(main_ts);
    PyThreadState_DeleteCurrent();
    if (ex->tstate)
        PyEval_RestoreThread(ex->tstate);
    return ex->tstate != NULL;
}

static void *subinterp_main(void *arg)
{
    epy_executor *ex = epy_self = arg;
    if (!create_subinterp(ex)) {
        set_state(ex, FAILED);
        return NULL;
    }
    if (epy_interp_setup(ex->interp, epy_runtime_config()->python_path) < 0) {
        subinterp_error = describe_exception();
        Py_EndInterpreter(ex->tstate);
        set_state(ex, FAILED);
        return NULL;
    }
    serve(ex);
    return NULL;
}

int epy_executor_start_subinterp(epy_interp *interp, char *error, size_t error_size)
{
    subinterp_error = "the thread could not be started";
    atomic_store(&interp->wanted, 1);
    int r = start_and_wait(interp, subinterp_main);
    if (r < 0)
        PyOS_snprintf(error, error_size, "interpreter %d: %s", interp->id, subinterp_error);
    return r;
}
