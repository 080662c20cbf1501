/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_inline.h. */
#include "epy_inline.h"

#include "epy_atoms.h"
#include "epy_exec.h"
#include "epy_executor.h"
#include "epy_gil.h"
#include "epy_mode.h"
#include "epy_queue.h"
#include "epy_runtime.h"
#include "epy_semaphore.h"
#include "epy_stats.h"

#define ACCOUNT_NS 10000    /* 1 percent of a timeslice */
#define STRIKES 3           /* runs past the budget that are one too many */
#define FORGIVEN_AFTER 1000 /* good runs, after which they are forgotten */
#define SPINS 100           /* about 2 microseconds */
#define STACK_NEEDED ((size_t)400 << 10)

/* The thread state of the calling scheduler in each interpreter.  Schedulers, and the
 * interpreters in question, do not end. */
static _Thread_local PyThreadState *states[EPY_INTERPS_MAX];
static _Thread_local int c_levels; /* that this thread's stack has room for; 0: not known yet */
static _Thread_local uint64_t unaccounted_ns;
static _Thread_local ErlNifEnv *caller_env; /* while a function runs here */

ErlNifEnv *epy_inline_env(void)
{
    return caller_env;
}

/* ---- the scheduler's thread ---- */

/* A scheduler's stack is small: recursion in C has to end before it does. */
static int stack_levels(void)
{
    if (c_levels)
        return c_levels;
    size_t left = epy_stack_left();
    c_levels = left < STACK_NEEDED ? -1 : (int)((left - STACK_NEEDED / 2) / 4096);
    return c_levels;
}

static PyThreadState *state_in(epy_interp *interp)
{
    PyThreadState **ts = &states[interp->id];
    if (!*ts)
        *ts = PyThreadState_New(interp->state);
    return *ts;
}

/* Ours as long as we are quick?  Another scheduler is waited for as long as a run may
 * take that was worth the pool. */
static bool enter(epy_interp *interp)
{
    if (atomic_load_explicit(&interp->gil_held, memory_order_relaxed) > 0)
        return false;
    for (int spins = 0; spins < SPINS; spins++) {
        if (!atomic_load_explicit(&interp->inlining, memory_order_relaxed)) {
            if (!epy_gil_is_free(interp->state))
                return false;
            if (!epy_mode_has_gil || !atomic_exchange(&interp->inlining, true))
                return true;
        }
        epy_pause();
    }
    return false;
}

static void leave(epy_interp *interp)
{
    if (epy_mode_has_gil)
        atomic_store(&interp->inlining, false);
}

/* A slot for a call that runs at once, or the one that the process holds. */
/* Taken: one that is to be given back, as the process has none of its own. */
static bool hold_slot(const epy_namespace *ns, bool *taken)
{
    *taken = atomic_load_explicit(&ns->slots, memory_order_relaxed) == 0;
    return !*taken || epy_semaphore_take(true);
}

static void free_slot(bool taken)
{
    if (taken)
        epy_semaphore_untake();
}

/* ---- the run ---- */

static void account(ErlNifEnv *env, uint64_t ns)
{
    unaccounted_ns += ns;
    if (unaccounted_ns < ACCOUNT_NS)
        return;
    uint64_t percent = unaccounted_ns / ACCOUNT_NS;
    enif_consume_timeslice(env, percent > 100 ? 100 : (int)percent);
    unaccounted_ns = 0;
}

static void move_back(ErlNifEnv *env, epy_route *route, ERL_NIF_TERM function, uint64_t ns)
{
    unsigned us = (unsigned)(ns / 1000);
    if (!epy_route_move_back(route, function, us))
        return; /* another scheduler was first */
    ErlNifEnv *msg = enif_alloc_env();
    epy_event_tell(env, msg, enif_make_tuple4(msg, epy_atom.moved_back, route->module, function,
                                              enif_make_uint(msg, us)));
}

/* A run that the operating system stopped took long as well.  So a function that has been
 * quick before may exceed its budget now and then. */
static void judge(ErlNifEnv *env, epy_route *route, ERL_NIF_TERM function, uint64_t ns)
{
    if (ns <= EPY_INLINE_BUDGET_NS) {
        unsigned good = atomic_fetch_add_explicit(&route->good_runs, 1, memory_order_relaxed);
        if (good % FORGIVEN_AFTER == FORGIVEN_AFTER - 1)
            atomic_store_explicit(&route->strikes, 0, memory_order_relaxed);
        return;
    }
    if (atomic_load(&route->good_runs) == 0 || atomic_fetch_add(&route->strikes, 1) + 1 >= STRIKES)
        move_back(env, route, function, ns);
}

static epy_result exec_here(ErlNifEnv *env, epy_interp *interp, epy_namespace *ns,
                            unsigned flags, const ERL_NIF_TERM *terms, int n, PyThreadState *ts)
{
    epy_request req = {
        .op = EPY_OP_CALL, .flags = flags, .manner = EPY_INLINE, .env = env, .ns = ns};
    req.trace = epy_request_trace(flags, terms, &n);
    for (int i = 0; i < EPY_REQ_TERMS; i++)
        req.terms[i] = i < n ? terms[i] : epy_atom.undefined;
    PyEval_RestoreThread(ts);
    epy_mode_limit_c_stack(ts, c_levels);
    caller_env = env;
    epy_result result = epy_exec(interp, &req);
    caller_env = NULL;
    PyEval_SaveThread();
    return result;
}

bool epy_inline_run(ErlNifEnv *env, epy_namespace *ns, epy_route *route, unsigned flags,
                    const ERL_NIF_TERM *request, int arity, ERL_NIF_TERM *result,
                    uint64_t *run_ns)
{
    epy_interp *interp = ns->home->interp;
    bool taken;
    if (ns->context || arity < 3 || stack_levels() < 0 || !hold_slot(ns, &taken))
        return false;
    PyThreadState *ts = state_in(interp);
    if (!ts || !enter(interp)) {
        epy_event_count(EPY_INLINE_BUSY_RUN);
        free_slot(taken);
        return false;
    }
    uint64_t start = epy_now_ns();
    epy_result done = exec_here(env, interp, ns, flags, request + 1, arity - 1, ts);
    *run_ns = epy_now_ns() - start;
    *result = done.term;
    leave(interp);
    free_slot(taken);
    if (done.elsewhere)
        return false; /* it was not called, as that needs an import or more stack */
    epy_event_count(EPY_INLINE_RUN);
    account(env, *run_ns);
    judge(env, route, request[2], *run_ns);
    return true;
}
