/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_stats.h. */
#include "epy_stats.h"

#include "epy_atoms.h"
#include "epy_compat.h"
#include "epy_executor.h"
#include "epy_group.h"
#include "epy_inline.h"
#include "epy_pool.h"
#include "epy_route.h"
#include "epy_runtime.h"
#include "epy_semaphore.h"

#include <string.h>

static _Atomic uint64_t events[EPY_EVENT_COUNT];

void epy_event_count(epy_event event)
{
    atomic_fetch_add_explicit(&events[event], 1, memory_order_relaxed);
}

uint64_t epy_event_get(epy_event event)
{
    return atomic_load_explicit(&events[event], memory_order_relaxed);
}

void epy_event_reply(bool sent)
{
    epy_event_count(sent ? EPY_ELSEWHERE_SENT : EPY_ELSEWHERE_UNSENT);
}

void epy_event_tell(ErlNifEnv *caller_env, ErlNifEnv *env, ERL_NIF_TERM event)
{
    ErlNifPid to;
    if (enif_whereis_pid(caller_env, epy_atom.py_events, &to))
        (void)enif_send(caller_env, &to, env, enif_make_tuple2(env, epy_atom.py_event, event));
    enif_free_env(env);
}

void epy_count_time(_Atomic uint64_t histogram[EPY_BUCKETS], uint64_t ns)
{
    uint64_t us = ns / 1000;
    int bucket = us ? 64 - __builtin_clzll(us) : 0;
    epy_count(&histogram[bucket < EPY_BUCKETS ? bucket : EPY_BUCKETS - 1]);
}

void epy_counts_clear(epy_counts *c)
{
    _Atomic uint64_t *words = (_Atomic uint64_t *)c;
    for (size_t i = 0; i < sizeof *c / sizeof *words; i++)
        atomic_store_explicit(&words[i], 0, memory_order_relaxed);
}

void epy_counts_add(epy_counts *sum, const epy_counts *c)
{
    _Atomic uint64_t *to = (_Atomic uint64_t *)sum;
    const _Atomic uint64_t *from = (const _Atomic uint64_t *)c;
    for (size_t i = 0; i < sizeof *c / sizeof *to; i++)
        atomic_store_explicit(&to[i],
                              atomic_load_explicit(&to[i], memory_order_relaxed) +
                                  atomic_load_explicit(&from[i], memory_order_relaxed),
                              memory_order_relaxed);
}

/* ---- as terms ---- */

static ERL_NIF_TERM number(ErlNifEnv *env, uint64_t n)
{
    return enif_make_uint64(env, n);
}

static ERL_NIF_TERM put(ErlNifEnv *env, ERL_NIF_TERM map, const char *key, ERL_NIF_TERM value)
{
    enif_make_map_put(env, map, enif_make_atom(env, key), value, &map);
    return map;
}

/* [{UpToMicroseconds | infinity, Count}] without the empty buckets at the end. */
static ERL_NIF_TERM histogram(ErlNifEnv *env, const _Atomic uint64_t counts[EPY_BUCKETS])
{
    ERL_NIF_TERM list = enif_make_list(env, 0);
    int last = EPY_BUCKETS - 1;
    while (last >= 0 && !atomic_load_explicit(&counts[last], memory_order_relaxed))
        last--;
    for (int i = last; i >= 0; i--) {
        ERL_NIF_TERM bound = i == EPY_BUCKETS - 1 ? epy_atom.infinity
                                                  : number(env, UINT64_C(1) << i);
        list = enif_make_list_cell(
            env, enif_make_tuple2(env, bound, number(env, atomic_load(&counts[i]))), list);
    }
    return list;
}

typedef struct group_facts {
    int executors, idle, waiting, stuck;
    epy_counts counts;
} group_facts;

static void add_executor(group_facts *f, epy_executor *ex)
{
    epy_counts_add(&f->counts, &ex->counts);
    if (!epy_executor_is_live(ex))
        return;
    f->executors++;
    f->idle += !atomic_load(&ex->current);
    f->waiting += atomic_load(&ex->away);
}

static void gather(group_facts *f, const epy_group *group)
{
    *f = (group_facts){.stuck = atomic_load(&group->stuck)};
    for (epy_executor *ex = atomic_load(&group->executors); ex; ex = ex->next)
        add_executor(f, ex);
}

static ERL_NIF_TERM group_term(ErlNifEnv *env, const epy_group *group, int queued)
{
    group_facts f;
    ERL_NIF_TERM map = enif_make_new_map(env);
    gather(&f, group);
    int serving = atomic_load(&group->serving);
    int parked = f.executors - serving - f.waiting - f.stuck;
    map = put(env, map, "id", enif_make_int(env, group->id));
    map = put(env, map, "interp", enif_make_int(env, group->interp->id));
    map = put(env, map, "pool", group->pool ? group->pool->name : epy_atom.context);
    map = put(env, map, "executors", enif_make_int(env, f.executors));
    map = put(env, map, "idle", enif_make_int(env, f.idle));
    map = put(env, map, "parked", enif_make_int(env, parked > 0 ? parked : 0));
    map = put(env, map, "waiting_in_callback", enif_make_int(env, f.waiting));
    map = put(env, map, "stuck", enif_make_int(env, f.stuck));
    map = put(env, map, "replaced", enif_make_int(env, atomic_load(&group->replaced)));
    map = put(env, map, "queued", enif_make_int(env, queued));
    map = put(env, map, "wanted", enif_make_int(env, atomic_load(&group->wanted)));
    map = put(env, map, "done", number(env, f.counts.done));
    map = put(env, map, "failed", number(env, f.counts.failed));
    map = put(env, map, "cancelled", number(env, atomic_load(&group->cancelled)));
    map = put(env, map, "queue_time", histogram(env, f.counts.queue_time));
    return put(env, map, "run_time", histogram(env, f.counts.run_time));
}

/* A queue does not know its length.  The group may be of the slot's last use: a hint. */
static void count_queued(epy_request *req, void *arg)
{
    epy_request_view view;
    if (epy_request_look(req, &view) && view.state == EPY_REQ_QUEUED && view.group)
        ((int *)arg)[view.group->id]++;
}

/* Not one of an interpreter that an earlier start made and this one does not want; processes
 * that were bound to it then still are. */
static bool is_in_use(const epy_group *group)
{
    return epy_group_is_open(group) && (!group->pool || epy_pool_has(group->pool, group) ||
                                        epy_group_bound(group) > 0);
}

static ERL_NIF_TERM groups_term(ErlNifEnv *env)
{
    ERL_NIF_TERM list = enif_make_list(env, 0);
    int *queued = enif_alloc(EPY_GROUPS_MAX * sizeof *queued);
    memset(queued, 0, EPY_GROUPS_MAX * sizeof *queued);
    epy_request_each(count_queued, queued);
    for (int id = epy_group_count() - 1; id >= 0; id--)
        if (is_in_use(epy_group_get(id)))
            list = enif_make_list_cell(env, group_term(env, epy_group_get(id), queued[id]), list);
    enif_free(queued);
    return list;
}

/* All executors of a group are busy and were so before, and requests wait. */
static bool is_unresponsive(const epy_interp *interp)
{
    for (int id = 0; id < epy_group_count(); id++) {
        epy_group *group = epy_group_get(id);
        if (epy_group_is_open(group) && group->interp == interp &&
            atomic_load(&group->unmoved) && !epy_queue_empty(&group->queue))
            return true;
    }
    return false;
}

/* Executors beyond those that are wanted: stand-ins that serve or are parked. */
static int count_spares(void)
{
    int spares = 0;
    for (int id = 0; id < epy_group_count(); id++) {
        epy_group *group = epy_group_get(id);
        int more = atomic_load(&group->live) - 1 - atomic_load(&group->wanted);
        if (epy_group_is_open(group) && more > 0)
            spares += more;
    }
    return spares;
}

/* `undefined` where nobody counts. */
static ERL_NIF_TERM memory_term(ErlNifEnv *env, const epy_interp *interp)
{
    return epy_memory_is_counted() ? number(env, epy_memory_used(&interp->memory))
                                   : epy_atom.undefined;
}

static ERL_NIF_TERM memory_limit_term(ErlNifEnv *env, const epy_interp *interp)
{
    uint64_t limit = epy_memory_limit(&interp->memory);
    return limit ? number(env, limit) : epy_atom.infinity;
}

static ERL_NIF_TERM interp_term(ErlNifEnv *env, const epy_interp *interp)
{
    ERL_NIF_TERM map = put(env, enif_make_new_map(env), "id", enif_make_int(env, interp->id));
    map = put(env, map, "own", interp->own ? epy_atom.true_ : epy_atom.false_);
    map = put(env, map, "memory", memory_term(env, interp));
    map = put(env, map, "memory_limit", memory_limit_term(env, interp));
    return put(env, map, "unresponsive", is_unresponsive(interp) ? epy_atom.true_ : epy_atom.false_);
}

static ERL_NIF_TERM interps_term(ErlNifEnv *env)
{
    ERL_NIF_TERM list = enif_make_list(env, 0);
    for (int id = EPY_INTERPS_MAX - 1; id >= 0; id--)
        if (epy_runtime_interp(id))
            list = enif_make_list_cell(env, interp_term(env, epy_runtime_interp(id)), list);
    return list;
}

/* Of all executors that there ever were, also of groups that are closed. */
static ERL_NIF_TERM totals(ErlNifEnv *env, ERL_NIF_TERM map)
{
    epy_counts sum;
    epy_counts_clear(&sum);
    epy_executor *ex;
    for (unsigned i = 0; (ex = epy_executor_find(i)); i++)
        epy_counts_add(&sum, &ex->counts);
    epy_executors_add_ended(&sum);
    ERL_NIF_TERM requests = enif_make_new_map(env), replies = enif_make_new_map(env);
    requests = put(env, requests, "done", number(env, sum.done));
    requests = put(env, requests, "failed", number(env, sum.failed));
    requests = put(env, requests, "cancelled", number(env, epy_event_get(EPY_CANCELLED)));
    requests = put(env, requests, "overloaded", number(env, epy_event_get(EPY_OVERLOADED)));
    requests = put(env, requests, "refused", number(env, epy_event_get(EPY_REFUSED)));
    replies = put(env, replies, "sent",
                  number(env, sum.sent + epy_event_get(EPY_ELSEWHERE_SENT)));
    replies = put(env, replies, "failed",
                  number(env, sum.unsent + epy_event_get(EPY_ELSEWHERE_UNSENT)));
    return put(env, put(env, map, "requests", requests), "replies", replies);
}

static ERL_NIF_TERM inline_term(ErlNifEnv *env)
{
    ERL_NIF_TERM map = enif_make_new_map(env);
    map = put(env, map, "runs", number(env, epy_event_get(EPY_INLINE_RUN)));
    map = put(env, map, "busy", number(env, epy_event_get(EPY_INLINE_BUSY_RUN)));
    return put(env, map, "moved_back", epy_routes_moved_back(env));
}

ERL_NIF_TERM epy_stats_term(ErlNifEnv *env)
{
    epy_slots slots = epy_semaphore_slots();
    ERL_NIF_TERM map = enif_make_new_map(env);
    map = put(env, map, "interpreters", interps_term(env));
    map = put(env, map, "groups", groups_term(env));
    map = put(env, map, "slots",
              enif_make_tuple3(env, enif_make_int(env, slots.current),
                               enif_make_int(env, slots.max), enif_make_int(env, slots.waiting)));
    map = put(env, map, "spares", enif_make_int(env, count_spares()));
    map = put(env, map, "refused_modules", epy_compat_refused_modules(env));
    map = put(env, map, "gil_enablers", epy_compat_gil_enablers(env));
    map = put(env, map, "inline", inline_term(env));
    map = put(env, map, "interpreters_not_ended", number(env, epy_event_get(EPY_NOT_ENDED)));
    return totals(env, map);
}
