/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_interrupt.h. */
#include "epy_interrupt.h"

#include "epy_atoms.h"
#include "epy_error.h"
#include "epy_group.h"
#include "epy_loop.h" /* above us: whose turn is blocked */
#include "epy_semaphore.h"
#include "epy_stats.h"
#include "epy_wakeup.h"

/* The exception that the thread of this executor raises next; NULL: none.
 *
 * Before 3.12 the state of a thread that Python code has just started carries the identity of
 * its parent until it runs, and would be taken for it.  Its own is set then, whatever is there. */
static void set_async(epy_executor *ex, PyObject *exception)
{
#if PY_VERSION_HEX < 0x030C0000
    PyThreadState *ts = PyInterpreterState_ThreadHead(ex->interp->state);
    for (; ts; ts = PyThreadState_Next(ts))
        if (ts != ex->tstate && ts->thread_id == ex->ident)
            ts->thread_id = 0;
#endif
    PyThreadState_SetAsyncExc(ex->ident, exception);
}

static void run_interrupt(epy_job *job, epy_interp *interp)
{
    epy_request *req = EPY_CONTAINER(job, epy_request, interrupt);
    epy_executor *ex = req->executor;
    pthread_mutex_lock(&ex->interrupt_lock);
    /* The executor has not parted: it runs the request, maybe below a nested one,
     * or is about to. */
    if (atomic_load(&req->parted) == 0 && !req->told) {
        epy_wakeup_ring(ex);
        if (!req->quiet)
            set_async(ex, interp->objects.cancelled);
    }
    bool last = atomic_fetch_add(&req->parted, 1) == 1;
    pthread_mutex_unlock(&ex->interrupt_lock);
    if (last)
        epy_request_free(req);
}

/* The request has just become CANCELLED out of RUNNING by the calling thread. */
static void interrupt(ErlNifEnv *env, epy_request *req)
{
    if (req->op == EPY_OP_TASK) {
        req->hooks->cancel(env, req);
        return;
    }
    req->interrupt.run = run_interrupt;
    epy_service_post(&req->executor->group->interp->service, &req->interrupt);
}

/* Ends the request, if it is in this state.  Once it is cancelled in a queue its fields are not
 * ours: the view has them. */
static bool cancel_in(epy_request *req, uint64_t id, epy_req_state from, epy_request_view *view)
{
    return epy_request_look(req, view) && view->state == from &&
           epy_request_move_id(req, id, from, EPY_REQ_CANCELLED);
}

/* Gives its place in line to the next one. */
static void end_place(ErlNifEnv *env, const epy_request_view *view, bool ran)
{
    if (view->slot)
        epy_semaphore_end(env, view->number, ran);
}

/* Whoever takes it off its queue frees it. */
static bool cancel_queued(ErlNifEnv *env, epy_request *req, uint64_t id)
{
    epy_request_view view;
    if (!cancel_in(req, id, EPY_REQ_QUEUED, &view))
        return false;
    end_place(env, &view, false);
    if (view.op == EPY_OP_SLOT)
        epy_semaphore_recheck(env);
    else
        atomic_fetch_add_explicit(&view.group->gone, 1, memory_order_relaxed);
    return true;
}

bool epy_cancel_waiting(ErlNifEnv *env, uint64_t id)
{
    epy_request *req = epy_request_find(id);
    epy_request_view view;
    return req && epy_request_look(req, &view) && view.id == id && view.slot &&
           !epy_semaphore_is_admitted(view.number) && cancel_queued(env, req, id);
}

/* Moves a RUNNING request to CANCELLED; from then on no callback's message comes (R3). */
static epy_request *cancel_running(ErlNifEnv *env, uint64_t id)
{
    epy_request_view view;
    epy_request *req = epy_request_find(id);
    if (!req || !cancel_in(req, id, EPY_REQ_RUNNING, &view))
        return NULL;
    epy_executor *ex = req->executor; /* NULL: of a task, which a loop has */
    atomic_fetch_add_explicit(ex ? &ex->group->cancelled : &req->group->cancelled, 1,
                              memory_order_relaxed);
    if (ex)
        epy_frame_cancel(&ex->frames, req);
    epy_event_count(EPY_CANCELLED);
    end_place(env, &view, true);
    return req;
}

bool epy_cancel(ErlNifEnv *env, uint64_t id)
{
    epy_request *req = epy_request_find(id);
    if (req && cancel_queued(env, req, id)) {
        epy_event_count(EPY_CANCELLED);
        return true;
    }
    req = cancel_running(env, id);
    if (req)
        interrupt(env, req);
    return req != NULL;
}

bool epy_cancel_reply(ErlNifEnv *env, uint64_t id, ERL_NIF_TERM atom_reason)
{
    ErlNifEnv *msg_env = enif_alloc_env();
    epy_request *req = msg_env ? cancel_running(env, id) : NULL;
    if (req) {
        /* The tag stays readable until both parties have parted. */
        ERL_NIF_TERM result = epy_error_term(msg_env, atom_reason);
        if (req->manner != EPY_UNHEARD)
            epy_event_reply(enif_send(env, &req->caller, msg_env,
                                      epy_request_message(req, msg_env, result)));
        interrupt(env, req);
    }
    if (msg_env)
        enif_free_env(msg_env);
    return req != NULL;
}

void epy_interrupt_end(epy_executor *ex, epy_request *req)
{
    pthread_mutex_lock(&ex->interrupt_lock);
    atomic_store(&ex->current, req->outer);
    set_async(ex, NULL);
    epy_wakeup_clear(ex);
    bool last = atomic_fetch_add(&req->parted, 1) == 1;
    bool replaced = atomic_load(&ex->stuck);
    atomic_store(&ex->stuck, false);
    pthread_mutex_unlock(&ex->interrupt_lock);
    if (last)
        epy_request_free(req);
    if (replaced)
        epy_executor_unstick(ex);
}

bool epy_interrupt_is_untold(epy_executor *ex, epy_request *req)
{
    pthread_mutex_lock(&ex->interrupt_lock);
    bool untold = atomic_load(&ex->current) == req && req->quiet && !req->told;
    pthread_mutex_unlock(&ex->interrupt_lock);
    return untold;
}

void epy_interrupt_told(epy_executor *ex, epy_request *req)
{
    pthread_mutex_lock(&ex->interrupt_lock);
    req->told = epy_request_state(req) == EPY_REQ_CANCELLED; /* else it is a task of this turn */
    set_async(ex, NULL);
    pthread_mutex_unlock(&ex->interrupt_lock);
}

bool epy_interrupt_again(epy_executor *ex)
{
    pthread_mutex_lock(&ex->interrupt_lock);
    epy_request *req = atomic_load(&ex->current);
    bool cancelled = req && epy_request_state(req) == EPY_REQ_CANCELLED;
    if (cancelled) {
        epy_wakeup_ring(ex);
        set_async(ex, ex->interp->objects.cancelled);
    }
    pthread_mutex_unlock(&ex->interrupt_lock);
    return cancelled;
}

void epy_interrupt_raise(epy_executor *ex)
{
    set_async(ex, ex->interp->objects.cancelled);
}

void epy_interrupt_take_back(epy_executor *ex)
{
    set_async(ex, NULL);
}

static void run_remind(epy_job *job, epy_interp *interp)
{
    epy_executor *ex = EPY_CONTAINER(job, epy_executor, remind);
    (void)interp;
    atomic_store(&ex->reminding, false);
    if (!epy_interrupt_again(ex))
        epy_loop_unblock(ex); /* which does nothing if it has come back meanwhile */
}

void epy_interrupt_remind(epy_executor *ex)
{
    if (atomic_exchange(&ex->reminding, true))
        return;
    ex->remind.run = run_remind;
    epy_service_post(&ex->group->interp->service, &ex->remind);
}
