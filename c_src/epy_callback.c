/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_callback.h. */
#include "epy_callback.h"

#include "epy_atoms.h"
#include "epy_call.h"
#include "epy_convert.h"
#include "epy_error.h"
#include "epy_fork.h"
#include "epy_group.h"
#include "epy_interrupt.h"
#include "epy_mode.h"
#include "epy_stats.h"
#include "epy_trace.h"

/* How long a thread looks out for the answer before it sleeps, and an executor lets another serve
 * in its place.  Most callbacks are short, and a wake-up costs more than they do. */
#define SPIN_NS 20000

/* ---- from schedulers ---- */

bool epy_callback_return(epy_executor *ex, uint64_t serial, ERL_NIF_TERM outcome)
{
    ErlNifEnv *env = enif_alloc_env();
    if (!env)
        return false;
    epy_answer answer = {.env = env, .term = enif_make_copy(env, outcome)};
    bool taken = epy_frame_answer(&ex->frames, serial, answer);
    if (!taken)
        enif_free_env(env);
    return taken;
}

/* ---- the message ---- */

int epy_callback_convert(epy_conv *c, PyObject *function, PyObject *args, epy_calling *calling)
{
    PyObject *list = PySequence_List(args);
    int r = list ? epy_toterm(c, function, &calling->function) : -1;
    if (r == 0)
        r = epy_toterm(c, list, &calling->args);
    calling->trace = r == 0 ? epy_trace_current(c->interp, c->env) : 0;
    Py_XDECREF(list);
    return r;
}

ERL_NIF_TERM epy_callback_message(ErlNifEnv *env, ERL_NIF_TERM tag, ERL_NIF_TERM place,
                                  const epy_calling *calling)
{
    ERL_NIF_TERM parts[] = {tag,           epy_atom.callback, place, calling->function,
                            calling->args, calling->trace};
    return enif_make_tuple_from_array(env, parts, calling->trace ? 6 : 5);
}

/* Who runs the callback: the process that waits, or a server where none does. */
static bool callback_server(const epy_request *req, ErlNifEnv *env, ErlNifPid *pid)
{
    if (req->manner != EPY_SYNC)
        return enif_whereis_pid(env, epy_atom.py_async, pid);
    *pid = req->caller;
    return true;
}

typedef struct outgoing {
    epy_executor *ex;
    epy_request *req;
    ErlNifEnv *env;
    const epy_calling *calling;
} outgoing;

/* Unless the request was cancelled: a canceller that has been at the frames sees no message
 * later. */
static bool send_call(epy_frame *f, void *arg)
{
    outgoing *out = arg;
    ErlNifPid server;
    if (epy_request_state(out->req) != EPY_REQ_RUNNING)
        return false;
    ERL_NIF_TERM place = enif_make_tuple2(out->env, enif_make_int(out->env, out->ex->index),
                                          enif_make_uint64(out->env, f->serial));
    ERL_NIF_TERM tag = enif_make_copy(out->env, out->req->tag);
    return callback_server(out->req, out->env, &server) &&
           enif_send(NULL, &server, out->env,
                     epy_callback_message(out->env, tag, place, out->calling));
}

/* ---- on the executor ---- */

bool epy_callback_spin(epy_interp *interp, epy_frame *f)
{
    if (atomic_exchange(&interp->spinning, true))
        return false;
    bool news = epy_frame_spin(f, SPIN_NS);
    atomic_store(&interp->spinning, false);
    return news;
}

static void run_nested(epy_executor *ex, epy_frame *f, epy_request *req)
{
    epy_levels before;
    epy_mode_enter_level(ex->tstate, epy_stack_left(), &before);
    Py_CLEAR(f->raised);
    epy_executor_run(ex, req);
    epy_mode_leave_level(ex->tstate, &before);
}

/* Waits until the frame has ended, and runs what comes nested meanwhile.  Only if that takes a
 * while does the executor leave its queue, where it has not left it for an outer frame. */
static void wait_in(epy_executor *ex, epy_frame *f)
{
    bool left = false;
    epy_fnode *nested;
    PyThreadState *ts = PyEval_SaveThread();
    for (;;) {
        if (!epy_callback_spin(ex->interp, f) && !atomic_load(&ex->away)) {
            epy_executor_leave_queue(ex);
            left = true;
        }
        nested = epy_frame_wait(&ex->frames, f);
        if (!nested)
            break;
        PyEval_RestoreThread(ts);
        run_nested(ex, f, EPY_CONTAINER(nested, epy_request, nested));
        ts = PyEval_SaveThread();
    }
    if (left)
        epy_executor_rejoin_queue(ex);
    PyEval_RestoreThread(ts);
}

/* Nested requests that came too late end without having run. */
static void refuse_rest(epy_frame *f)
{
    epy_fnode *nested;
    while ((nested = epy_frame_take_rest(f))) {
        epy_request *req = EPY_CONTAINER(nested, epy_request, nested);
        if (epy_group_refuse(NULL, req, epy_atom.cancelled))
            epy_event_count(EPY_REFUSED);
    }
}

/* ---- the outcome ---- */

/* The parts of a tuple that begins with this atom, or NULL. */
static const ERL_NIF_TERM *parts_of(ErlNifEnv *env, ERL_NIF_TERM term, ERL_NIF_TERM tag, int arity)
{
    const ERL_NIF_TERM *parts;
    int n;
    return enif_get_tuple(env, term, &n, &parts) && n == arity && parts[0] == tag ? parts : NULL;
}

/* Is the reason what py:apply/3 raises of this exception? */
static bool is_raised(ErlNifEnv *env, ERL_NIF_TERM reason, PyObject *raised)
{
    const ERL_NIF_TERM *parts = parts_of(env, reason, epy_atom.python, 3);
    return parts && epy_error_is(env, raised, parts[1], parts[2]);
}

/* Does the reason say that this exception was not expected: {Type, Message} as py:call/3 returns
 * it, alone or as what matched nothing? */
static bool is_about(ErlNifEnv *env, ERL_NIF_TERM reason, PyObject *raised)
{
    const ERL_NIF_TERM *parts = parts_of(env, reason, epy_atom.badmatch, 2);
    int n;
    if (!parts)
        parts = parts_of(env, reason, epy_atom.case_clause, 2);
    if (parts)
        reason = parts[1];
    if ((parts = parts_of(env, reason, epy_atom.error, 2)))
        reason = parts[1];
    return enif_get_tuple(env, reason, &n, &parts) && n == 2 &&
           epy_error_is(env, raised, parts[0], parts[1]);
}

/* Sets the exception for {Class, Reason, Stack}.  If that is about the exception that ended the
 * last nested request, it is that very one, or an erlang.Error with it as its cause. */
static void raise_outcome(epy_conv *c, ERL_NIF_TERM error, PyObject *raised)
{
    const ERL_NIF_TERM *parts = raised ? parts_of(c->env, error, epy_atom.error, 3) : NULL;
    if (parts && is_raised(c->env, parts[1], raised)) {
        epy_error_raise_again(raised);
        return;
    }
    bool about = parts && is_about(c->env, parts[1], raised);
    epy_error_raise(c, error);
    if (!about)
        return;
    PyObject *exception = epy_error_fetch();
    if (exception != raised)
        PyException_SetCause(exception, Py_NewRef(raised));
    epy_error_raise_again(exception);
    Py_DECREF(exception);
}

PyObject *epy_callback_outcome(epy_interp *interp, ErlNifEnv *env, ERL_NIF_TERM outcome,
                               PyObject *raised)
{
    const ERL_NIF_TERM *parts;
    int n;
    PyObject *result = NULL;
    epy_conv c;
    if (!enif_get_tuple(env, outcome, &n, &parts) || n != 2)
        return PyErr_Format(PyExc_SystemError, "a callback ends as {ok, V} or {error, E}");
    epy_conv_init(&c, interp, env);
    if (parts[0] == epy_atom.ok)
        result = epy_topy(&c, parts[1]);
    else
        raise_outcome(&c, parts[1], raised);
    epy_conv_fini(&c);
    return result;
}

/* ---- the call ---- */

/* Can the calling thread call Erlang? */
static int check(void)
{
    if (!epy_self && enif_thread_type() != ERL_NIF_THR_UNDEFINED)
        PyErr_Format(PyExc_RuntimeError,
                     "a function that runs in the pool inline cannot call Erlang");
    else if (epy_self && epy_stack_left() < EPY_STACK_RESERVE)
        PyErr_Format(PyExc_RecursionError, "Python and Erlang call each other too deeply");
    else
        return epy_fork_check();
    return -1;
}

/* Sends the call and waits; then the outcome is in the frame. */
static int wait_outcome(epy_executor *ex, epy_frame *f, ErlNifEnv *env,
                        const epy_calling *calling)
{
    PyObject *cancelled = ex->interp->objects.cancelled;
    epy_request *req = atomic_load(&ex->current);
    outgoing out = {.ex = ex, .req = req, .env = env, .calling = calling};
    if (!epy_frame_open(&ex->frames, f, req, send_call, &out)) {
        PyErr_SetString(cancelled, "the caller of this request is gone");
        return -1;
    }
    wait_in(ex, f);
    refuse_rest(f);
    if (!f->cancelled)
        return 0;
    epy_interrupt_told(ex, req);
    PyErr_SetString(cancelled, "the request was cancelled");
    return -1;
}

static PyObject *call_from_request(epy_executor *ex, ErlNifEnv *env, const epy_calling *calling)
{
    PyObject *result = NULL;
    epy_frame f = {.owner = NULL};
    if (wait_outcome(ex, &f, env, calling) == 0)
        result = epy_callback_outcome(ex->interp, f.answer.env, f.answer.term, f.raised);
    if (f.answer.env)
        enif_free_env(f.answer.env);
    Py_CLEAR(f.raised);
    return result;
}

/* Does the calling thread serve a request just now? */
static bool serves(const epy_executor *ex, const epy_interp *interp)
{
    return ex && ex->interp == interp && atomic_load(&ex->current);
}

/* Frees env. */
static PyObject *call(epy_interp *interp, ErlNifEnv *env, const epy_calling *calling)
{
    PyObject *result = serves(epy_self, interp) ? call_from_request(epy_self, env, calling)
                                                : epy_call_wait(interp, env, calling);
    enif_free_env(env);
    return result;
}

PyObject *epy_callback_terms(epy_interp *interp, ErlNifEnv *env, ERL_NIF_TERM function,
                             ERL_NIF_TERM args)
{
    epy_calling calling = {.function = function, .args = args};
    if (check() == 0)
        return call(interp, env, &calling);
    enif_free_env(env);
    return NULL;
}

PyObject *epy_callback_call(epy_interp *interp, PyObject *function, PyObject *args)
{
    epy_calling calling;
    epy_conv c;
    ErlNifEnv *env = check() == 0 ? enif_alloc_env() : NULL;
    if (!env)
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    epy_conv_init(&c, interp, env);
    int r = epy_callback_convert(&c, function, args, &calling);
    epy_conv_fini(&c);
    if (r == 0)
        return call(interp, env, &calling);
    enif_free_env(env);
    return NULL;
}
