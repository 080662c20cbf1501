/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_submit.h. */
#include "epy_submit.h"

#include "epy_atoms.h"
#include "epy_callback.h"
#include "epy_error.h"
#include "epy_exec.h"
#include "epy_handle.h"
#include "epy_inline.h"
#include "epy_loop.h"
#include "epy_namespace.h"
#include "epy_pool.h"
#include "epy_route.h"
#include "epy_runtime.h"
#include "epy_semaphore.h"
#include "epy_stats.h"

/* ---- tickets ---- */

typedef struct ticket {
    uint64_t id; /* constant once the request is submitted */
} ticket;

static ErlNifResourceType *ticket_type;

int epy_submit_open(ErlNifEnv *env)
{
    ErlNifResourceTypeInit init = {0};
    ticket_type = enif_open_resource_type_x(env, "ticket", &init,
                                            ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER, NULL);
    return ticket_type ? EPY_OK : EPY_ENOMEM;
}

bool epy_submit_id(ErlNifEnv *env, ERL_NIF_TERM term, uint64_t *id)
{
    void *t;
    ErlNifUInt64 n;
    if (enif_get_uint64(env, term, &n)) {
        *id = n;
        return true;
    }
    if (!enif_get_resource(env, term, ticket_type, &t))
        return false;
    *id = ((ticket *)t)->id;
    return true;
}

/* ---- where to ---- */

typedef struct target {
    epy_group *group; /* NULL: there is none such */
    unsigned life;
    bool named;       /* by the caller: a pool, or a context */
    epy_route *route; /* to the pool inline; else NULL */
} target;

static void use_pool(target *t, epy_namespace *ns, epy_pool *pool)
{
    t->group = epy_namespace_group(ns, pool, &t->life);
}

static void use_home(target *t, epy_namespace *ns)
{
    if (!ns->context && atomic_load_explicit(&ns->in_main, memory_order_relaxed)) {
        use_pool(t, ns, epy_pool_find(epy_atom.main_pool));
        return;
    }
    if (!ns->context && !epy_group_is(ns->home, ns->life)) {
        use_pool(t, ns, epy_pool_default); /* its pool was made anew */
        return;
    }
    t->group = ns->home;
    t->life = ns->life;
}

/* By the table of routes, if that says anything of this call. */
static void use_route(target *t, epy_namespace *ns, const ERL_NIF_TERM *terms, int arity)
{
    epy_route *route = arity >= 3 ? epy_route_of(terms[1], terms[2]) : NULL;
    epy_pool *pool = route ? epy_route_pool(route) : NULL;
    if (pool) {
        use_pool(t, ns, pool);
        return;
    }
    if (route && atomic_load(&route->target) == EPY_ROUTE_INLINE)
        t->route = route;
    use_home(t, ns);
}

/* py:parallel/1: over the whole default pool, but for what needs the caller's namespace. */
static void spread(target *t, epy_namespace *ns, const ERL_NIF_TERM *terms, int arity)
{
    bool bound = arity >= 2 && (terms[1] == epy_atom.main || terms[1] == epy_atom.builtins);
    use_route(t, ns, terms, arity);
    t->route = NULL;
    if (!bound && t->group == ns->home)
        t->group = epy_pool_spread(epy_pool_default, &t->life);
}

/* `name`: of a pool, or a handle whose object is where the request is to go. */
static target choose(ErlNifEnv *env, epy_namespace *ns, epy_op op, ERL_NIF_TERM name,
                     const ERL_NIF_TERM *terms, int arity)
{
    target t = {.named = ns->context};
    epy_pool *pool;
    if (op == EPY_OP_SLOT || (ns->context && name == epy_atom.undefined)) {
        use_home(&t, ns);
    } else if (name == epy_atom.spread) {
        spread(&t, ns, terms, arity);
    } else if (enif_is_ref(env, name)) {
        t.group = epy_handle_group(env, name, &t.life);
    } else if (name != epy_atom.undefined) {
        t.named = true;
        pool = epy_pool_find(name);
        if (pool)
            use_pool(&t, ns, pool);
    } else if (op == EPY_OP_CALL) {
        use_route(&t, ns, terms, arity);
    } else
        use_home(&t, ns);
    return t;
}

/* ---- the request ---- */

typedef struct input {
    epy_namespace *ns; /* borrowed from its term */
    epy_op op;
    unsigned flags;
    const ERL_NIF_TERM *terms; /* {Tag, ...} */
    int arity;
} input;

static bool read_input(ErlNifEnv *env, ERL_NIF_TERM ns, ERL_NIF_TERM op, ERL_NIF_TERM request,
                       input *in)
{
    unsigned n;
    in->ns = epy_namespace_from(env, ns);
    if (!in->ns || !enif_get_uint(env, op, &n) || (n & 0xFF) > EPY_OP_TASK ||
        n >> 8 > EPY_FLAGS_ALL)
        return false;
    in->op = (epy_op)(n & 0xFF);
    in->flags = n >> 8;
    return enif_get_tuple(env, request, &in->arity, &in->terms);
}

/* Where this input goes to; else false with what the native function returns. */
static bool find_target(ErlNifEnv *env, const input *in, ERL_NIF_TERM pool, target *t,
                        ERL_NIF_TERM *error)
{
    *error = epy_atom.not_running;
    if (!epy_runtime_is_running())
        return false;
    *t = choose(env, in->ns, in->op, pool, in->terms, in->arity);
    if (!t->group)
        *error = enif_is_atom(env, pool) ? epy_atom.no_pool : epy_atom.no_object;
    return t->group && epy_group_is(t->group, t->life); /* else the context was closed */
}

static epy_request *make(ErlNifEnv *env, const input *in, ERL_NIF_TERM request, const target *t,
                         ERL_NIF_TERM *error)
{
    bool ok;
    epy_request *req = epy_request_new(env, in->op, in->flags, request, &ok);
    if (!req) {
        *error = ok ? enif_raise_exception(env, enif_make_atom(env, "system_limit"))
                    : enif_make_badarg(env);
        return NULL;
    }
    epy_request_set_group(req, t->group, t->life);
    if (in->op == EPY_OP_SLOT || epy_exec_needs_namespace(req)) {
        epy_namespace_keep(in->ns);
        req->ns = in->ns;
    }
    return req;
}

/* A task goes to its loop, whoever asks for it: no loop is nested in a callback. */
static epy_request *make_task(ErlNifEnv *env, const input *in, ERL_NIF_TERM request,
                              ERL_NIF_TERM name, ERL_NIF_TERM *error)
{
    epy_loop *loop = epy_loop_find(env, name);
    *error = loop ? epy_atom.not_running : enif_make_badarg(env);
    if (!loop || !epy_runtime_is_running() || !epy_loop_admits(env, loop, error))
        return NULL;
    target t = {.group = loop->group, .life = loop->group_life};
    epy_request *req = make(env, in, request, &t, error);
    if (req) {
        req->submitted_ns = epy_now_ns();
        epy_loop_adopt(loop, req);
    }
    return req;
}

static ERL_NIF_TERM submit_task(ErlNifEnv *env, const input *in, ERL_NIF_TERM request,
                                ERL_NIF_TERM name)
{
    ERL_NIF_TERM error;
    epy_request *req = make_task(env, in, request, name, &error);
    if (!req)
        return error;
    ERL_NIF_TERM id = enif_make_uint64(env, epy_request_id(req)); /* once queued it may end */
    epy_loop_submit(env, req);
    return id;
}

/* ---- nested ---- */

epy_executor *epy_submit_frame(ErlNifEnv *env, ERL_NIF_TERM term, ErlNifUInt64 *serial)
{
    const ERL_NIF_TERM *parts;
    int arity;
    unsigned index;
    if (!enif_get_tuple(env, term, &arity, &parts) || arity != 2 ||
        !enif_get_uint(env, parts[0], &index) || !enif_get_uint64(env, parts[1], serial))
        return NULL;
    return epy_executor_find(index);
}

/* On the stack of the executor that waits, if it is of that interpreter; to a pool or context
 * that the caller named, only if it is one of that group. */
static bool fits(const epy_executor *ex, const target *t)
{
    return t->named ? ex->group == t->group : ex->group->interp == t->group->interp;
}

static ERL_NIF_TERM submit_nested(ErlNifEnv *env, epy_request *req, const target *t,
                                  ERL_NIF_TERM frame)
{
    ErlNifUInt64 serial;
    ERL_NIF_TERM id = enif_make_uint64(env, epy_request_id(req));
    epy_executor *ex = epy_submit_frame(env, frame, &serial);
    if (!ex) {
        epy_request_discard(req);
        return enif_make_badarg(env);
    }
    if (!fits(ex, t) || !epy_frame_nest(&ex->frames, serial, &req->nested))
        epy_group_submit(env, req);
    return id;
}

/* ---- from outside ---- */

static void refuse(ErlNifEnv *env, epy_request *req)
{
    epy_event_count(EPY_OVERLOADED);
    if (epy_request_move(req, EPY_REQ_QUEUED, EPY_REQ_DONE)) {
        ERL_NIF_TERM reason = epy_semaphore_overloaded(req->env);
        epy_event_reply(epy_request_reply(env, req, epy_error_term(req->env, reason)));
    }
    epy_request_free(req);
}

/* Where nobody may wait, one that is not admitted is not queued: an executor that has nothing
 * else to do might run it before its caller gives it up. */
static ERL_NIF_TERM turn_away(ErlNifEnv *env, epy_request *req, ERL_NIF_TERM id)
{
    epy_semaphore_end(env, req->number, false);
    if (req->manner != EPY_SYNC) {
        refuse(env, req);
        return id;
    }
    epy_event_count(EPY_OVERLOADED);
    epy_request_discard(req);
    return epy_atom.overloaded;
}

static ERL_NIF_TERM submit_admitted(ErlNifEnv *env, const input *in, epy_request *req)
{
    /* The id first: once queued, the request may end at any moment. */
    ERL_NIF_TERM id = enif_make_uint64(env, epy_request_id(req));
    req->submitted_ns = epy_now_ns();
    if (in->op != EPY_OP_SLOT && atomic_load_explicit(&in->ns->slots, memory_order_relaxed) > 0) {
        epy_group_submit(env, req); /* on a slot that the process holds */
        return id;
    }
    bool admitted = epy_semaphore_arrive(req);
    if (!admitted && epy_semaphore_timeout() == 0 && in->op != EPY_OP_SLOT)
        return turn_away(env, req, id);
    if (in->op == EPY_OP_SLOT)
        epy_semaphore_acquire(env, req);
    else
        epy_group_submit(env, req);
    return admitted ? id
                    : enif_make_tuple3(env, epy_atom.waiting, id,
                                       enif_make_uint(env, epy_semaphore_timeout()));
}

static ERL_NIF_TERM done(ErlNifEnv *env, ERL_NIF_TERM result, uint64_t run_ns)
{
    return epy_request_telemetry()
               ? enif_make_tuple3(env, epy_atom.done, result, enif_make_uint64(env, run_ns))
               : enif_make_tuple2(env, epy_atom.done, result);
}

ERL_NIF_TERM epy_submit(ErlNifEnv *env, ERL_NIF_TERM ns, ERL_NIF_TERM op, ERL_NIF_TERM request,
                        ERL_NIF_TERM pool, ERL_NIF_TERM frame)
{
    input in;
    target t;
    ERL_NIF_TERM result;
    uint64_t run_ns;
    if (!read_input(env, ns, op, request, &in))
        return enif_make_badarg(env);
    if (in.op == EPY_OP_TASK)
        return submit_task(env, &in, request, pool);
    if (!find_target(env, &in, pool, &t, &result))
        return result;
    if (t.route && frame == epy_atom.none &&
        epy_inline_run(env, in.ns, t.route, in.flags, in.terms, in.arity, &result, &run_ns))
        return done(env, result, run_ns);
    if (frame == epy_atom.none && epy_semaphore_is_full()) {
        epy_event_count(EPY_OVERLOADED);
        return epy_atom.overloaded;
    }
    epy_request *req = make(env, &in, request, &t, &result);
    if (!req)
        return result;
    return frame == epy_atom.none ? submit_admitted(env, &in, req)
                                  : submit_nested(env, req, &t, frame);
}

/* ---- without a waiting process ---- */

/* The request's tag becomes a new ticket that names it. */
static ERL_NIF_TERM make_ticket(ErlNifEnv *env, epy_request *req)
{
    ticket *t = enif_alloc_resource(ticket_type, sizeof *t);
    t->id = epy_request_id(req);
    ERL_NIF_TERM term = enif_make_resource(env, t);
    enif_release_resource(t);
    req->tag = enif_make_copy(req->env, term);
    return term;
}

ERL_NIF_TERM epy_submit_async(ErlNifEnv *env, epy_manner manner, ERL_NIF_TERM ns,
                              ERL_NIF_TERM op, ERL_NIF_TERM request, ERL_NIF_TERM pool)
{
    input in;
    target t;
    ERL_NIF_TERM result;
    ErlNifPid server;
    if (!read_input(env, ns, op, request, &in) || in.op == EPY_OP_SLOT)
        return enif_make_badarg(env);
    if (!enif_whereis_pid(env, epy_atom.py_async, &server))
        return epy_atom.not_running;
    epy_request *req;
    if (in.op == EPY_OP_TASK)
        req = make_task(env, &in, request, pool, &result);
    else if (!find_target(env, &in, pool, &t, &result))
        return result;
    else
        req = make(env, &in, request, &t, &result);
    if (!req)
        return result;
    req->manner = manner;
    if (manner == EPY_CAST) {
        epy_request_set_caller(req, server);
        result = epy_atom.ok;
    } else
        result = make_ticket(env, req);
    if (in.op == EPY_OP_TASK)
        epy_loop_submit(env, req);
    else if (epy_semaphore_is_full())
        refuse(env, req);
    else
        (void)submit_admitted(env, &in, req);
    return result;
}

/* ---- on a service thread ---- */

static void run_service(epy_job *job, epy_interp *interp)
{
    epy_request *req = EPY_CONTAINER(job, epy_request, interrupt);
    /* It is never RUNNING: an interrupt would look for its executor. */
    if (epy_request_state(req) == EPY_REQ_QUEUED) {
        ERL_NIF_TERM term = epy_exec(interp, req).term;
        if (epy_request_move(req, EPY_REQ_QUEUED, EPY_REQ_DONE))
            epy_event_reply(epy_request_reply(NULL, req, term));
    }
    epy_request_free(req);
}

/* The thread has ended in this moment: the request stays in the queue, as one that is done. */
static void refuse_service(ErlNifEnv *env, epy_request *req, uint64_t id)
{
    if (!epy_request_move_id(req, id, EPY_REQ_QUEUED, EPY_REQ_DONE))
        return; /* it ran before that */
    ErlNifEnv *msg = enif_alloc_env();
    ERL_NIF_TERM result = epy_error_term(msg, epy_atom.not_running);
    epy_event_reply(enif_send(env, &req->caller, msg, epy_request_message(req, msg, result)));
    enif_free_env(msg);
}

ERL_NIF_TERM epy_submit_service(ErlNifEnv *env, ERL_NIF_TERM interp_id, ERL_NIF_TERM request)
{
    int id;
    bool ok;
    if (!enif_get_int(env, interp_id, &id) || id < 0 || id >= EPY_INTERPS_MAX)
        return enif_make_badarg(env);
    epy_interp *interp = epy_runtime_interp(id);
    if (!interp || !epy_runtime_is_running())
        return epy_atom.not_running;
    epy_request *req = epy_request_new(env, EPY_OP_CALL, 0, request, &ok);
    if (!req)
        return enif_make_badarg(env);
    if (epy_exec_needs_namespace(req)) {
        epy_request_discard(req); /* the thread has none */
        return enif_make_badarg(env);
    }
    uint64_t request_id = epy_request_id(req);
    req->interrupt.run = run_service;
    epy_service_post(&interp->service, &req->interrupt);
    if (!atomic_load(&interp->service.open))
        refuse_service(env, req, request_id);
    return epy_atom.ok;
}
