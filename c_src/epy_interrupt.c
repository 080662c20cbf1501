/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_interrupt.h. */
#include "epy_interrupt.h"

#include "epy_atoms.h"
#include "epy_callback.h"
#include "epy_error.h"

static void run_interrupt(epy_job *job, epy_interp *interp)
{
    epy_request *req = EPY_CONTAINER(job, epy_request, interrupt);
    epy_executor *ex = req->executor;
    pthread_mutex_lock(&ex->interrupt_lock);
    /* The executor has not parted: it runs the request, maybe below a nested one,
     * or is about to. */
    if (atomic_load(&req->parted) == 0 && !req->told)
        PyThreadState_SetAsyncExc(ex->ident, interp->objects.cancelled);
    bool last = atomic_fetch_add(&req->parted, 1) == 1;
    pthread_mutex_unlock(&ex->interrupt_lock);
    if (last)
        epy_request_free(req);
}

/* The request has just become CANCELLED out of RUNNING by the calling thread. */
static void interrupt(epy_request *req)
{
    req->interrupt.run = run_interrupt;
    epy_service_post(&req->interp->service, &req->interrupt);
}

bool epy_cancel(uint64_t id)
{
    epy_request *req = epy_request_find(id);
    if (!req)
        return false;
    if (epy_request_move_id(req, id, EPY_REQ_QUEUED, EPY_REQ_CANCELLED))
        return true; /* whoever takes it off the queue frees it */
    if (!epy_request_move_id(req, id, EPY_REQ_RUNNING, EPY_REQ_CANCELLED))
        return false;
    epy_callback_cancel(req->executor, req);
    interrupt(req);
    return true;
}

bool epy_cancel_reply(epy_request *req, ERL_NIF_TERM atom_reason)
{
    ErlNifEnv *env = enif_alloc_env();
    if (!env || !epy_request_move(req, EPY_REQ_RUNNING, EPY_REQ_CANCELLED)) {
        if (env)
            enif_free_env(env);
        return false;
    }
    /* After this no callback's message follows the reply (R3).  The tag stays
     * readable until both parties have parted. */
    epy_callback_cancel(req->executor, req);
    ERL_NIF_TERM tag = enif_make_copy(env, req->tag);
    ERL_NIF_TERM message = enif_make_tuple2(env, tag, epy_error_term(env, atom_reason));
    (void)enif_send(NULL, &req->caller, env, message); /* fails when nobody waits any more */
    enif_free_env(env);
    interrupt(req);
    return true;
}

void epy_interrupt_end(epy_executor *ex, epy_request *req)
{
    pthread_mutex_lock(&ex->interrupt_lock);
    atomic_store(&ex->current, req->outer);
    PyThreadState_SetAsyncExc(ex->ident, NULL);
    bool last = atomic_fetch_add(&req->parted, 1) == 1;
    pthread_mutex_unlock(&ex->interrupt_lock);
    if (last)
        epy_request_free(req);
}

void epy_interrupt_told(epy_executor *ex, epy_request *req)
{
    pthread_mutex_lock(&ex->interrupt_lock);
    req->told = true;
    PyThreadState_SetAsyncExc(ex->ident, NULL);
    pthread_mutex_unlock(&ex->interrupt_lock);
}
