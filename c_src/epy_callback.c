/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_callback.h. */
#include "epy_callback.h"

#include "epy_atoms.h"
#include "epy_convert.h"
#include "epy_error.h"
#include "epy_interrupt.h"
#include "epy_stats.h"

/* On the stack of the executor that waits.  All but env: under frame_lock. */
struct epy_frame {
    epy_frame *outer;
    epy_request *req;      /* borrowed: runs on this stack, so outlives the frame */
    uint64_t serial;
    epy_request *nested;   /* to be run here, first to last by nested_next */
    ErlNifEnv *env;        /* owned: the outcome's, once there is one */
    ERL_NIF_TERM outcome;
    bool cancelled;
    pthread_cond_t changed;
};

static epy_frame *find(epy_executor *ex, uint64_t serial)
{
    epy_frame *f = ex->frames;
    while (f && f->serial != serial)
        f = f->outer;
    return f;
}

/* ---- from schedulers ---- */

bool epy_callback_return(epy_executor *ex, uint64_t serial, ERL_NIF_TERM outcome)
{
    ErlNifEnv *env = enif_alloc_env();
    if (!env)
        return false;
    outcome = enif_make_copy(env, outcome);
    pthread_mutex_lock(&ex->frame_lock);
    epy_frame *f = find(ex, serial);
    bool taken = f && !f->env;
    if (taken) {
        f->env = env;
        f->outcome = outcome;
        pthread_cond_signal(&f->changed);
    }
    pthread_mutex_unlock(&ex->frame_lock);
    if (!taken)
        enif_free_env(env);
    return taken;
}

bool epy_callback_nest(epy_executor *ex, uint64_t serial, epy_request *req)
{
    pthread_mutex_lock(&ex->frame_lock);
    epy_frame *f = find(ex, serial);
    if (f) {
        epy_request **last = &f->nested;
        while (*last)
            last = &(*last)->nested_next;
        req->nested_next = NULL;
        *last = req;
        pthread_cond_signal(&f->changed);
    }
    pthread_mutex_unlock(&ex->frame_lock);
    return f != NULL;
}

void epy_callback_cancel(epy_executor *ex, epy_request *req)
{
    pthread_mutex_lock(&ex->frame_lock);
    for (epy_frame *f = ex->frames; f; f = f->outer)
        if (f->req == req) {
            f->cancelled = true;
            pthread_cond_signal(&f->changed);
        }
    pthread_mutex_unlock(&ex->frame_lock);
}

/* ---- on the executor ---- */

/* Who runs the callback: the process that waits, or a server where none does. */
static bool callback_server(const epy_request *req, ErlNifEnv *env, ErlNifPid *pid)
{
    if (req->manner != EPY_SYNC)
        return enif_whereis_pid(env, epy_atom.py_async, pid);
    *pid = req->caller;
    return true;
}

/* Opens the frame and sends the message, unless the request was cancelled: both
 * under the lock, so that a canceller that has been here sees no message later. */
static bool open_and_send(epy_executor *ex, epy_frame *f, ErlNifEnv *env, ERL_NIF_TERM name,
                          ERL_NIF_TERM args)
{
    pthread_mutex_lock(&ex->frame_lock);
    f->serial = ++ex->frame_serial;
    ERL_NIF_TERM place = enif_make_tuple2(env, enif_make_int(env, ex->index),
                                          enif_make_uint64(env, f->serial));
    ERL_NIF_TERM message = enif_make_tuple5(env, enif_make_copy(env, f->req->tag),
                                            epy_atom.callback, place, name, args);
    ErlNifPid server;
    bool open = epy_request_state(f->req) == EPY_REQ_RUNNING &&
                callback_server(f->req, env, &server) && enif_send(NULL, &server, env, message);
    if (open) {
        f->outer = ex->frames;
        ex->frames = f;
    }
    pthread_mutex_unlock(&ex->frame_lock);
    return open;
}

/* Waits for the outcome or the cancel, and runs what comes nested meanwhile. */
static void wait_in(epy_executor *ex, epy_frame *f)
{
    bool outermost = !f->outer; /* else the executor has left its queue already */
    PyThreadState *ts = PyEval_SaveThread();
    if (outermost)
        epy_executor_leave_queue(ex);
    pthread_mutex_lock(&ex->frame_lock);
    while (!f->env && !f->cancelled) {
        epy_request *req = f->nested;
        if (!req) {
            pthread_cond_wait(&f->changed, &ex->frame_lock);
            continue;
        }
        f->nested = req->nested_next;
        pthread_mutex_unlock(&ex->frame_lock);
        PyEval_RestoreThread(ts);
        epy_executor_run(ex, req);
        ts = PyEval_SaveThread();
        pthread_mutex_lock(&ex->frame_lock);
    }
    ex->frames = f->outer;
    pthread_mutex_unlock(&ex->frame_lock);
    if (outermost)
        epy_executor_rejoin_queue(ex);
    PyEval_RestoreThread(ts);
}

/* Nested requests that came too late end without having run. */
static void refuse_rest(epy_frame *f)
{
    epy_request *req;
    while ((req = f->nested)) {
        f->nested = req->nested_next;
        if (epy_request_move(req, EPY_REQ_QUEUED, EPY_REQ_DONE)) {
            epy_event_count(EPY_REFUSED);
            epy_event_reply(epy_request_reply(
                NULL, req, epy_error_term(req->env, epy_atom.cancelled)));
        }
        epy_request_free(req);
    }
}

static PyObject *convert_outcome(epy_interp *interp, epy_frame *f)
{
    const ERL_NIF_TERM *parts;
    int n;
    PyObject *result = NULL;
    epy_conv c;
    epy_conv_init(&c, interp, f->env);
    if (!enif_get_tuple(f->env, f->outcome, &n, &parts) || n != 2)
        return PyErr_Format(PyExc_SystemError, "a callback ends as {ok, V} or {error, E}");
    if (parts[0] == epy_atom.ok)
        result = epy_topy(&c, parts[1]);
    else
        epy_error_raise(&c, parts[1]);
    epy_conv_fini(&c);
    return result;
}

static int convert_call(epy_conv *c, PyObject *name, PyObject *args, ERL_NIF_TERM terms[2])
{
    PyObject *list = PySequence_List(args);
    int r = list ? epy_toterm(c, name, &terms[0]) : -1;
    if (r == 0)
        r = epy_toterm(c, list, &terms[1]);
    Py_XDECREF(list);
    return r;
}

/* Can the calling thread call Erlang? */
static int check(epy_executor *ex, epy_interp *interp)
{
    if (!ex && enif_thread_type() != ERL_NIF_THR_UNDEFINED)
        PyErr_Format(PyExc_RuntimeError,
                     "a function that runs in the pool inline cannot call Erlang");
    else if (!ex || !atomic_load(&ex->current) || ex->interp != interp)
        PyErr_Format(PyExc_RuntimeError,
                     "erlang.call() works on the thread of a request from Erlang only");
    else if (epy_stack_left() < EPY_STACK_RESERVE)
        PyErr_Format(PyExc_RecursionError, "Python and Erlang call each other too deeply");
    else
        return 0;
    return -1;
}

/* Sends the call and waits; then the outcome is in the frame. */
static int wait_outcome(epy_executor *ex, epy_frame *f, ErlNifEnv *env, ERL_NIF_TERM name,
                        ERL_NIF_TERM args)
{
    PyObject *cancelled = ex->interp->objects.cancelled;
    if (!open_and_send(ex, f, env, name, args)) {
        PyErr_SetString(cancelled, "the caller of this request is gone");
        return -1;
    }
    wait_in(ex, f);
    refuse_rest(f);
    if (!f->cancelled)
        return 0;
    epy_interrupt_told(ex, f->req);
    PyErr_SetString(cancelled, "the request was cancelled");
    return -1;
}

PyObject *epy_callback_terms(epy_interp *interp, ErlNifEnv *env, ERL_NIF_TERM name,
                             ERL_NIF_TERM args)
{
    epy_executor *ex = epy_self;
    PyObject *result = NULL;
    if (check(ex, interp) == 0) {
        epy_frame f = {.req = atomic_load(&ex->current), .changed = PTHREAD_COND_INITIALIZER};
        if (wait_outcome(ex, &f, env, name, args) == 0)
            result = convert_outcome(interp, &f);
        if (f.env)
            enif_free_env(f.env);
    }
    enif_free_env(env);
    return result;
}

PyObject *epy_callback_call(epy_interp *interp, PyObject *name, PyObject *args)
{
    ERL_NIF_TERM terms[2];
    epy_conv c;
    ErlNifEnv *env = check(epy_self, interp) == 0 ? enif_alloc_env() : NULL;
    if (!env)
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    epy_conv_init(&c, interp, env);
    int r = convert_call(&c, name, args, terms);
    epy_conv_fini(&c);
    if (r == 0)
        return epy_callback_terms(interp, env, terms[0], terms[1]);
    enif_free_env(env);
    return NULL;
}
