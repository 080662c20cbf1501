/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_call.h. */
#include "epy_call.h"

#include "epy_atoms.h"
#include "epy_callback.h"
#include "epy_error.h"
#include "epy_mailbox.h"
#include "epy_runtime.h"

#include <stdlib.h>

typedef struct place {
    epy_call *call; /* constant, strong */
} place;

static ErlNifResourceType *place_type;
static _Atomic uint64_t last_id;

/* ---- life ---- */

static bool link_call(epy_call *call)
{
    epy_interp *interp = call->interp;
    pthread_mutex_lock(&interp->calls_lock);
    bool taken = !interp->ending;
    if (taken) {
        call->next = interp->calls;
        call->link = &interp->calls;
        if (call->next)
            call->next->link = &call->next;
        interp->calls = call;
    }
    pthread_mutex_unlock(&interp->calls_lock);
    return taken;
}

static epy_call *new_call(epy_interp *interp, struct epy_mailbox *mailbox)
{
    epy_call *call = calloc(1, sizeof *call);
    if (!call) {
        PyErr_NoMemory();
        return NULL;
    }
    atomic_init(&call->refs, 1);
    call->interp = interp;
    epy_frames_init(&call->frames);
    call->id = atomic_fetch_add(&last_id, 1) + 1;
    call->mailbox = mailbox;
    if (mailbox)
        epy_mailbox_keep(mailbox);
    if (link_call(call))
        return call;
    PyErr_SetString(interp->objects.process_error, "the interpreter ends");
    epy_call_put(call);
    return NULL;
}

epy_call *epy_call_new(epy_interp *interp)
{
    return new_call(interp, NULL);
}

bool epy_call_missed_end(epy_call *call)
{
    pthread_mutex_lock(&call->interp->calls_lock);
    bool ending = call->interp->ending;
    pthread_mutex_unlock(&call->interp->calls_lock);
    return ending;
}

void epy_call_unlink(epy_call *call)
{
    pthread_mutex_lock(&call->interp->calls_lock);
    if (call->link) {
        *call->link = call->next;
        if (call->next)
            call->next->link = call->link;
        call->link = NULL;
    }
    pthread_mutex_unlock(&call->interp->calls_lock);
}

void epy_call_put(epy_call *call)
{
    if (atomic_fetch_sub(&call->refs, 1) > 1)
        return;
    if (call->mailbox)
        epy_mailbox_put(call->mailbox);
    pthread_mutex_destroy(&call->frames.lock);
    free(call);
}

/* ---- the answer ---- */

/* Takes the answer's environment, unless it returns false. */
static bool deliver(epy_call *call, epy_answer answer)
{
    if (!call->mailbox)
        return epy_frame_answer(&call->frames, 1, answer);
    if (atomic_exchange(&call->ended, true))
        return false;
    return epy_mailbox_push(call->mailbox, call, answer);
}

static bool answer_call(epy_call *call, ErlNifEnv *env, ERL_NIF_TERM outcome)
{
    bool taken = deliver(call, (epy_answer){.env = env, .term = outcome});
    if (!taken)
        enif_free_env(env);
    return taken;
}

bool epy_call_return(ErlNifEnv *env, ERL_NIF_TERM term, ERL_NIF_TERM outcome, bool *is)
{
    void *p;
    *is = enif_get_resource(env, term, place_type, &p);
    ErlNifEnv *own = *is ? enif_alloc_env() : NULL;
    return own && answer_call(((place *)p)->call, own, enif_make_copy(own, outcome));
}

/* {error, {exit, Reason, []}} */
static bool answer_exit(epy_call *call, ERL_NIF_TERM reason)
{
    ErlNifEnv *env = enif_alloc_env();
    if (!env)
        return false;
    ERL_NIF_TERM error = enif_make_tuple3(env, epy_atom.exit, reason, enif_make_list(env, 0));
    return answer_call(call, env, enif_make_tuple2(env, epy_atom.error, error));
}

static void destroy_place(ErlNifEnv *env, void *resource)
{
    (void)env;
    epy_call *call = ((place *)resource)->call;
    (void)answer_exit(call, epy_atom.noproc); /* false: it has its answer */
    epy_call_put(call);
}

int epy_call_open(ErlNifEnv *env)
{
    ErlNifResourceTypeInit init = {.dtor = destroy_place};
    place_type = enif_open_resource_type_x(env, "place", &init,
                                           ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER, NULL);
    return place_type ? EPY_OK : EPY_ENOMEM;
}

void epy_calls_end(epy_interp *interp, bool ending)
{
    pthread_mutex_lock(&interp->calls_lock);
    interp->ending = interp->ending || ending;
    for (epy_call *call = interp->calls; call; call = call->next)
        if (call->mailbox)
            (void)answer_exit(call, epy_atom.not_running);
        else
            epy_frame_cancel(&call->frames, call);
    pthread_mutex_unlock(&interp->calls_lock);
}

/* ---- the call ---- */

static ERL_NIF_TERM make_place(ErlNifEnv *env, epy_call *call)
{
    place *p = enif_alloc_resource(place_type, sizeof *p);
    atomic_fetch_add(&call->refs, 1);
    p->call = call;
    ERL_NIF_TERM term = enif_make_resource(env, p);
    enif_release_resource(p);
    return term;
}

typedef struct outgoing {
    ErlNifEnv *env; /* of the message */
    ERL_NIF_TERM message;
} outgoing;

static bool send_message(const outgoing *out)
{
    ErlNifPid server;
    return epy_runtime_is_running() && enif_whereis_pid(NULL, epy_atom.py_async, &server) &&
           enif_send(NULL, &server, out->env, out->message);
}

static bool send_call(epy_frame *f, void *arg)
{
    (void)f;
    return send_message(arg);
}

static void refuse(epy_interp *interp)
{
    PyErr_SetString(interp->objects.process_error, "the application erlang_python does not run");
}

static void wait_detached(epy_call *call, epy_frame *f)
{
    PyThreadState *ts = PyEval_SaveThread();
    (void)epy_callback_spin(call->interp, f);
    (void)epy_frame_wait(&call->frames, f); /* nothing is nested here: it has ended */
    PyEval_RestoreThread(ts);
}

static PyObject *wait_answer(epy_call *call, outgoing *out)
{
    epy_interp *interp = call->interp;
    PyObject *result = NULL;
    epy_frame f;
    if (!epy_frame_open(&call->frames, &f, call, send_call, out)) {
        refuse(interp);
        return NULL;
    }
    if (epy_call_missed_end(call))
        epy_frame_cancel(&call->frames, call);
    wait_detached(call, &f);
    if (f.cancelled)
        PyErr_SetString(interp->objects.cancelled, "the application erlang_python or the interpreter ends");
    else
        result = epy_callback_outcome(interp, f.answer.env, f.answer.term, NULL);
    if (f.answer.env)
        enif_free_env(f.answer.env);
    return result;
}

PyObject *epy_call_wait(epy_interp *interp, ErlNifEnv *env, const epy_calling *calling)
{
    epy_call *call = new_call(interp, NULL);
    if (!call)
        return NULL;
    outgoing out = {.env = env};
    out.message = epy_callback_message(env, epy_atom.thread, make_place(env, call), calling);
    PyObject *result = wait_answer(call, &out);
    epy_call_unlink(call);
    epy_call_put(call);
    return result;
}

epy_call *epy_call_post(epy_interp *interp, ErlNifEnv *env, const epy_calling *calling,
                        struct epy_mailbox *mailbox)
{
    epy_call *call = new_call(interp, mailbox);
    if (!call)
        return NULL;
    outgoing out = {.env = env};
    ERL_NIF_TERM tag = enif_make_tuple2(env, epy_atom.async, enif_make_uint64(env, call->id));
    out.message = epy_callback_message(env, tag, make_place(env, call), calling);
    if (send_message(&out))
        return call;
    refuse(interp);
    atomic_store(&call->ended, true);
    epy_call_unlink(call);
    epy_call_put(call);
    return NULL;
}

bool epy_call_cancel(epy_call *call)
{
    ErlNifPid server;
    epy_call_unlink(call);
    if (atomic_exchange(&call->ended, true))
        return false;
    ErlNifEnv *env = enif_alloc_env();
    if (env && enif_whereis_pid(NULL, epy_atom.py_async, &server)) /* else it is over anyway */
        enif_send(NULL, &server, env,
                  enif_make_tuple2(env, epy_atom.cancel_callback,
                                   enif_make_uint64(env, call->id)));
    if (env)
        enif_free_env(env);
    return true;
}
