/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The executor's thread.
 *
 *            thread starts          ready for requests         group closed
 *   ABSENT ----------------> STARTING ----------------> READY ---------------> ABSENT
 *                               |
 *                               +--> FAILED (a sub-interpreter could not be made)
 *
 * How many serve: `serving` counts the executors of a group that look at its queue.
 * Whoever lets one more serve raises it first, and only up to `wanted`, so that two
 * who see the same need do not both meet it; whoever parks, waits in a callback, is
 * stuck or ends lowers it.
 */
#include "epy_executor.h"

#include "epy_atoms.h"
#include "epy_error.h"
#include "epy_exec.h"
#include "epy_interrupt.h"
#include "epy_loop_idle.h"
#include "epy_output.h"
#include "epy_pool.h"
#include "epy_request.h"
#include "epy_runtime.h"
#include "epy_semaphore.h"
#include "epy_wakeup.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXECUTORS_MAX 8192
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
                 pthread_create(&thread, &attr, main, arg);
    if (!failed) {
        pthread_setname_np(thread, name); /* fails on a long name; it is but a help */
        pthread_detach(thread); /* only now: it may have ended already, and would be gone */
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return failed ? EPY_ETHREAD : EPY_OK;
}

void epy_thread_delete(PyThreadState *ts)
{
    PyThreadState_Clear(ts);
    PyThreadState_DeleteCurrent();
}

/* ---- one request ---- */

void epy_executor_count(epy_executor *ex, const epy_request *req, bool failed)
{
    epy_count(failed ? &ex->counts.failed : &ex->counts.done);
    if (req->submitted_ns) {
        epy_count_time(ex->counts.queue_time, req->queue_ns);
        epy_count_time(ex->counts.run_time, req->run_ns);
    }
}

static void come_back(epy_executor *ex);

/* R3: gives the slot back before the reply, so that a caller that has its answer does not
 * find its own slot taken. */
static void finish(epy_executor *ex, epy_request *req, epy_result result)
{
    if (!epy_request_move(req, EPY_REQ_RUNNING, EPY_REQ_DONE)) {
        epy_interrupt_end(ex, req);
        return;
    }
    atomic_store_explicit(&ex->current, req->outer, memory_order_release);
    if (atomic_load(&ex->stuck))
        come_back(ex);
    epy_executor_count(ex, req, result.failed);
    if (req->slot)
        epy_semaphore_end(NULL, req->number, true);
    epy_count(epy_request_reply(NULL, req, result.term) ? &ex->counts.sent : &ex->counts.unsent);
    epy_request_free(req);
}

static epy_result refusal(epy_request *req, ERL_NIF_TERM reason)
{
    return (epy_result){.term = epy_error_term(req->env, reason), .failed = true};
}

/* Nested requests are not measured: they are part of their outer one.  A request that follows
 * another at once begins when that ended, which saves a look at the clock. */
static epy_result run_measured(epy_executor *ex, epy_request *req)
{
    if (!req->submitted_ns)
        return epy_exec(ex->interp, req);
    uint64_t start = ex->clock_ns > req->submitted_ns ? ex->clock_ns : epy_now_ns();
    epy_result result = epy_exec(ex->interp, req);
    ex->clock_ns = epy_now_ns();
    req->queue_ns = start - req->submitted_ns;
    req->run_ns = ex->clock_ns - start;
    return result;
}

/* Nothing was called yet: the module does not load here, see epy_compat.h. */
static void move_to_main(epy_executor *ex, epy_request *req)
{
    unsigned life;
    epy_group *group = epy_pool_only_group(epy_pool_find(epy_atom.main_pool), &life);
    epy_request_set_group(req, group, life);
    if (!epy_request_move(req, EPY_REQ_RUNNING, EPY_REQ_QUEUED)) {
        epy_interrupt_end(ex, req);
        return;
    }
    /* A canceller from here on finds it in a queue, where it will be. */
    atomic_store_explicit(&ex->current, req->outer, memory_order_release);
    if (atomic_load(&ex->stuck))
        come_back(ex);
    if (req->slot)
        epy_semaphore_untake(); /* whoever runs it takes another */
    epy_group_submit(NULL, req);
}

void epy_executor_run(epy_executor *ex, epy_request *req)
{
    epy_result result;
    req->executor = ex;
    bool slot = req->slot; /* taken by the caller */
    if (!epy_request_move(req, EPY_REQ_QUEUED, EPY_REQ_RUNNING)) {
        epy_request_free(req); /* cancelled before it ran */
        if (slot)
            epy_semaphore_untake();
        return;
    }
    req->outer = atomic_load(&ex->current);
    atomic_store_explicit(&ex->current, req, memory_order_release);
    if (!epy_runtime_is_running())
        result = refusal(req, epy_atom.not_running);
    else if (!epy_group_is(req->group, req->group_life))
        result = refusal(req, epy_atom.cancelled); /* its pool or context was closed */
    else if (req->op != EPY_OP_TURN && !enif_is_process_alive(req->env, &req->caller))
        result = refusal(req, epy_atom.cancelled); /* nobody waits: not run at all */
    else {
        result = run_measured(ex, req);
        if (req->quiet)
            epy_wakeup_loud(ex, req);
        epy_output_end(ex);
    }
    EPY_ASSERT(R10, !PyErr_Occurred());
    if (result.elsewhere)
        move_to_main(ex, req);
    else
        finish(ex, req, result);
}

uint64_t epy_executor_running(epy_executor *ex)
{
    /* The request may end at any moment; its id, read while it RUNS, names no other. */
    epy_request *req = atomic_load(&ex->current);
    if (!req)
        return 0;
    uint64_t id = epy_request_id(req);
    return epy_request_state(req) == EPY_REQ_RUNNING && epy_request_id(req) == id ? id : 0;
}

/* ---- who serves ---- */

/* Counts one more as serving, if one more is wanted. */
static bool reserve(epy_group *group)
{
    int n = atomic_load(&group->serving);
    while (n < atomic_load_explicit(&group->wanted, memory_order_relaxed))
        if (atomic_compare_exchange_weak(&group->serving, &n, n + 1))
            return true;
    return false;
}

/* Lowers `serving` if more than wanted do; false if this one is wanted. */
static bool surplus(epy_group *group)
{
    int n = atomic_load_explicit(&group->serving, memory_order_relaxed);
    while (n > atomic_load_explicit(&group->wanted, memory_order_relaxed))
        if (atomic_compare_exchange_weak(&group->serving, &n, n - 1))
            return true;
    return false;
}

/* Executors that run in parallel are hot only while they look for work, those
 * that share a GIL as long as they are awake.  See epy_monitor.h. */
static void cool(epy_group *group)
{
    epy_idle_cool(&group->idle);
    if (epy_group_has_work(group))
        epy_idle_notify(&group->idle);
}

/* Does not serve from here on: waits for something, or is stuck. */
static void stop_serving(epy_group *group)
{
    if (!epy_runtime_is_eager())
        cool(group);
    if (atomic_fetch_sub(&group->serving, 1) == 1)
        epy_executors_relieve(group);
}

static void serve_again(epy_group *group)
{
    atomic_fetch_add(&group->serving, 1);
    if (!epy_runtime_is_eager())
        epy_idle_heat(&group->idle);
}

/* True: it was stuck.  Away: it is not to be taken for that from now on either. */
static bool free_stuck(epy_executor *ex, bool away)
{
    pthread_mutex_lock(&ex->interrupt_lock);
    bool was = atomic_load(&ex->stuck);
    atomic_store(&ex->stuck, false);
    if (away)
        atomic_store(&ex->away, true);
    pthread_mutex_unlock(&ex->interrupt_lock);
    if (was)
        atomic_fetch_sub(&ex->group->stuck, 1);
    return was;
}

static void come_back(epy_executor *ex)
{
    if (free_stuck(ex, false))
        serve_again(ex->group);
}

void epy_executor_leave_queue(epy_executor *ex)
{
    if (!free_stuck(ex, true)) /* else somebody serves in its place already */
        stop_serving(ex->group);
}

void epy_executor_rejoin_queue(epy_executor *ex)
{
    atomic_store(&ex->away, false);
    serve_again(ex->group);
}

/* One that has left its queue for a callback, below this request, does not serve anyway.  One whose
 * request ends at this moment either is seen to end, or sees what was done to it. */
static bool mark_stuck(epy_executor *ex, epy_request *req, epy_req_state state)
{
    pthread_mutex_lock(&ex->interrupt_lock);
    bool stuck = !atomic_load(&ex->stuck) && !atomic_load(&ex->away);
    if (stuck) {
        atomic_store(&ex->stuck, true);
        stuck = atomic_load(&ex->current) == req && epy_request_state(req) == state;
        atomic_store(&ex->stuck, stuck);
    }
    pthread_mutex_unlock(&ex->interrupt_lock);
    return stuck;
}

bool epy_executor_stick(epy_executor *ex, epy_request *req, epy_req_state state)
{
    bool stuck = mark_stuck(ex, req, state);
    if (stuck) {
        atomic_fetch_add(&ex->group->stuck, 1);
        atomic_fetch_add(&ex->group->replaced, 1);
        stop_serving(ex->group);
    }
    return stuck;
}

void epy_executor_unstick(epy_executor *ex)
{
    atomic_fetch_sub(&ex->group->stuck, 1);
    serve_again(ex->group);
}

/* ---- the loop ---- */

static void run_queued(epy_executor *ex, epy_request *req)
{
    bool eager = epy_runtime_is_eager();
    if (eager)
        cool(ex->group);
    epy_executor_run(ex, req);
    if (eager)
        epy_idle_heat(&ex->group->idle);
}

static bool has_work(void *group)
{
    return epy_group_has_work(group);
}

/* The loop that lingers is watched by somebody else from here on; its own turn, if that is the next
 * request, looks by itself what there is. */
static void leave_loop(epy_executor *ex, const epy_request *next)
{
    epy_loop *loop = ex->lingers;
    if (!loop)
        return;
    ex->lingers = NULL;
    if (!next || next->op != EPY_OP_TURN || next->loop != loop)
        epy_loop_arm(loop);
    epy_loop_put(loop);
}

static void sleep_detached(epy_executor *ex)
{
    PyThreadState *ts = PyEval_SaveThread();
    if (!ex->lingers)
        epy_idle_wait(&ex->group->idle, has_work, ex->group, SPIN_NS, -1);
    else if (!epy_loop_linger(ex->lingers, has_work))
        leave_loop(ex, NULL);
    PyEval_RestoreThread(ts);
}

/* Python hands its GIL over between bytecodes only; a run of short calls into C
 * has none. */
static void offer_gil(void)
{
    PyEval_RestoreThread(PyEval_SaveThread());
}

/* A callback has ended and there is one executor too many: this one sleeps until
 * it is wanted, and is then counted as serving by whoever wakes it. */
static void park(epy_executor *ex)
{
    epy_group *group = ex->group;
    PyThreadState *ts = PyEval_SaveThread();
    cool(group);
    epy_idle_heat(&group->parking);
    epy_idle_wait(&group->parking, NULL, NULL, 0, -1);
    epy_idle_cool(&group->parking);
    epy_idle_heat(&group->idle);
    PyEval_RestoreThread(ts);
}

/* The next request, with a slot if it needs one; NULL: none, or no slot. */
static epy_request *next_request(epy_group *group)
{
    epy_qnode *n = epy_queue_empty(&group->riders) ? NULL : epy_queue_pop(&group->riders);
    if (!n && !epy_queue_empty(&group->queue) &&
        epy_semaphore_take(epy_group_first_is_admitted(group))) {
        n = epy_queue_pop(&group->queue);
        if (!n)
            epy_semaphore_untake();
    }
    return n ? EPY_CONTAINER(n, epy_request, node) : NULL;
}

/* The turns of loops stay on one thread: it is a stand-in that parks, when it next looks for work. */
static bool stays(const epy_executor *ex)
{
    return ex->home && ex->group->loops;
}

/* Until the group is closed. */
static void loop(epy_executor *ex)
{
    epy_group *group = ex->group;
    unsigned served = 0;
    epy_idle_heat(&group->idle);
    while (epy_group_is_open(group)) {
        if (!stays(ex) && surplus(group)) {
            leave_loop(ex, NULL);
            park(ex);
            continue;
        }
        epy_request *req = next_request(group);
        if (!req) {
            sleep_detached(ex);
            ex->clock_ns = 0;
            continue;
        }
        leave_loop(ex, req);
        atomic_fetch_add_explicit(&group->popped, 1, memory_order_relaxed);
        run_queued(ex, req);
        if (++served % YIELD_EVERY == 0)
            offer_gil();
    }
    leave_loop(ex, NULL);
    epy_idle_cool(&group->idle);
    atomic_fetch_sub(&group->serving, 1);
}

size_t epy_stack_left(void)
{
    static _Thread_local char *end; /* the stack grows down to here */
    pthread_attr_t attr;
    void *address;
    size_t size;
    if (!end) {
        if (pthread_getattr_np(pthread_self(), &attr) != 0)
            return 0;
        pthread_attr_getstack(&attr, &address, &size);
        pthread_attr_destroy(&attr);
        end = address;
    }
    return (size_t)((char *)__builtin_frame_address(0) - end);
}

static void set_state(epy_executor *ex, int state)
{
    atomic_store(&ex->ready, state);
    epy_futex_wake_one(&ex->ready);
}

/* Serves until its group is closed; attached, and detached for good afterwards. */
static void serve(epy_executor *ex)
{
    epy_group *group = ex->group;
    ex->ident = PyThread_get_thread_ident();
    set_state(ex, READY);
    loop(ex);
    if (ex->message_env)
        enif_free_env(ex->message_env);
    ex->message_env = NULL;
    epy_wakeup_end(ex);
    epy_thread_delete(ex->tstate);
    set_state(ex, ABSENT);
    epy_group_drop(group);
}

/* A thread that did not come to serve gives up what was reserved for it. */
static void fail_start(epy_executor *ex)
{
    epy_group *group = ex->group;
    atomic_fetch_sub(&group->serving, 1);
    epy_group_drop(group); /* first: who waits for the state may then take its interpreter for another */
    set_state(ex, FAILED);
}

static void *executor_main(void *arg)
{
    epy_executor *ex = epy_self = arg;
    ex->interp = ex->group->interp;
    ex->tstate = epy_memory_enter_new_thread(ex->interp);
    if (!ex->tstate) {
        fail_start(ex);
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

static void link_to(epy_executor *ex, epy_group *group)
{
    ex->group = group;
    ex->next = atomic_load(&group->executors);
    atomic_store(&group->executors, ex);
}

/* An executor of this group that has no thread, or a new one; under table_lock. */
static epy_executor *find_slot(epy_group *group)
{
    for (epy_executor *ex = atomic_load(&group->executors); ex; ex = ex->next)
        if (atomic_load(&ex->ready) == ABSENT || atomic_load(&ex->ready) == FAILED)
            return ex;
    unsigned n = atomic_load(&table_size);
    if (n == EXECUTORS_MAX)
        return NULL;
    epy_executor *ex = &table[n];
    ex->index = (int)n;
    pthread_mutex_init(&ex->interrupt_lock, NULL);
    ex->wakeup = -1;
    epy_frames_init(&ex->frames);
    ex->home = !atomic_load(&group->executors);
    link_to(ex, group);
    atomic_store(&table_size, n + 1);
    return ex;
}

static epy_executor *take_slot(epy_group *group)
{
    pthread_mutex_lock(&table_lock);
    epy_executor *ex = find_slot(group);
    if (ex)
        atomic_store(&ex->ready, STARTING);
    pthread_mutex_unlock(&table_lock);
    return ex;
}

/* Starts a thread that is counted as serving already, and keeps the group for it. */
static int start(epy_group *group, void *(*main)(void *), epy_executor **out)
{
    char name[16];
    epy_executor *ex = *out = NULL;
    int r = EPY_ESTATE;
    if (epy_group_keep(group)) {
        ex = *out = epy_group_is_open(group) ? take_slot(group) : NULL;
        if (ex) {
            snprintf(name, sizeof name, "epy_exec_%d", ex->index);
            r = epy_thread_start(name, main, ex);
            if (r < 0)
                atomic_store(&ex->ready, ABSENT);
        }
        if (r < 0)
            epy_group_drop(group);
    }
    if (r < 0)
        atomic_fetch_sub(&group->serving, 1);
    return r;
}

static int start_and_wait(epy_group *group, void *(*main)(void *))
{
    epy_executor *ex;
    int r = start(group, main, &ex);
    if (r == EPY_OK && wait_state(ex, STARTING) == FAILED)
        r = EPY_ENOMEM;
    return r;
}

static int most_threads(const epy_group *group)
{
    return group->fixed
               ? 1
               : atomic_load(&group->wanted) + epy_runtime_max_spares();
}

/* Lets one executor more serve, which is counted already: one that is parked, else a new
 * one.  Without either the calls that are queued wait until another comes back. */
static int add_one(epy_group *group, bool wait)
{
    epy_executor *ex;
    if (epy_idle_wake(&group->parking))
        return EPY_OK;
    if (atomic_load(&group->live) - 1 < most_threads(group))
        return wait ? start_and_wait(group, executor_main) : start(group, executor_main, &ex);
    atomic_fetch_sub(&group->serving, 1);
    return EPY_ESTATE;
}

int epy_executors_resize(epy_group *group, int n)
{
    int r = EPY_OK;
    atomic_store(&group->wanted, n); /* those above it park when they next look for work */
    while (r == EPY_OK && reserve(group))
        r = add_one(group, true);
    return r;
}

void epy_executors_relieve(epy_group *group)
{
    if (epy_group_is_open(group) && reserve(group))
        (void)add_one(group, false); /* then they wait, and info/0 shows it */
}

void epy_executors_wake_all(epy_group *group)
{
    /* Those that were parked end as if they had served. */
    while (epy_idle_wake(&group->parking))
        atomic_fetch_add(&group->serving, 1);
    while (epy_idle_wake(&group->idle))
        continue;
}

/* ---- looks from outside ---- */

bool epy_executor_is_live(const epy_executor *ex)
{
    return atomic_load(&ex->ready) == READY;
}

epy_executor *epy_executor_find(unsigned index)
{
    return index < atomic_load(&table_size) ? &table[index] : NULL;
}

static int add_frame(PyObject *list, epy_executor *ex)
{
    char name[16];
    PyOS_snprintf(name, sizeof name, "epy_exec_%d", ex->index);
    PyObject *frame = epy_mode_thread_frame(ex->tstate, ex->ident);
    PyObject *item = frame ? Py_BuildValue("skN", name, ex->ident, frame) : NULL;
    int r = item ? PyList_Append(list, item) : -1;
    Py_XDECREF(item);
    return r;
}

PyObject *epy_executors_frames(epy_interp *interp)
{
    PyObject *list = PyList_New(0);
    unsigned n = atomic_load(&table_size);
    for (unsigned i = 0; list && i < n; i++)
        if (table[i].interp == interp && epy_executor_is_live(&table[i]) &&
            add_frame(list, &table[i]) < 0)
            Py_CLEAR(list);
    return list;
}

bool epy_executors_all_busy(epy_group *group)
{
    int busy = 0, serving = atomic_load(&group->serving);
    for (epy_executor *ex = atomic_load(&group->executors); ex; ex = ex->next) {
        epy_request *req = atomic_load(&ex->current);
        busy += req && !atomic_load(&ex->away) && epy_request_state(req) == EPY_REQ_RUNNING;
    }
    return serving > 0 && busy >= serving;
}

bool epy_executors_busy(epy_group *group)
{
    if (!epy_queue_empty(&group->queue) || !epy_queue_empty(&group->riders))
        return true;
    for (epy_executor *ex = atomic_load(&group->executors); ex; ex = ex->next)
        if (atomic_load(&ex->current))
            return true;
    return false;
}

/* ---- counts of groups that are closed ---- */

static epy_counts ended; /* written by the runtime's thread, which opens groups */

void epy_executors_forget_counts(epy_group *group)
{
    for (epy_executor *ex = atomic_load(&group->executors); ex; ex = ex->next) {
        epy_counts_add(&ended, &ex->counts);
        epy_counts_clear(&ex->counts);
    }
}

void epy_executors_add_ended(epy_counts *sum)
{
    epy_counts_add(sum, &ended);
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
    epy_thread_delete(main_ts);
    if (ex->tstate)
        PyEval_RestoreThread(ex->tstate);
    return ex->tstate != NULL;
}

static void *subinterp_main(void *arg)
{
    epy_executor *ex = epy_self = arg;
    ex->interp = ex->group->interp;
    epy_memory_enter(ex->interp);
    if (!create_subinterp(ex)) {
        fail_start(ex);
        return NULL;
    }
    if (epy_interp_setup(ex->interp, epy_runtime_config()->python_path) < 0) {
        subinterp_error = describe_exception();
        epy_interp_clear(ex->interp);
        Py_EndInterpreter(ex->tstate);
        fail_start(ex);
        return NULL;
    }
    serve(ex);
    return NULL;
}

int epy_executor_start_subinterp(epy_group *group, char *error, size_t error_size)
{
    subinterp_error = "the thread could not be started";
    if (!reserve(group))
        return EPY_ESTATE;
    int r = start_and_wait(group, subinterp_main);
    if (r < 0)
        PyOS_snprintf(error, error_size, "interpreter %d: %s", group->interp->id,
                      subinterp_error);
    return r;
}
