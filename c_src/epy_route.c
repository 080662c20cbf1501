/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_route.h. */
#include "epy_route.h"

#include "epy_atoms.h"

#include <pthread.h>

#define PLACES (2 * EPY_ROUTES_MAX) /* a power of two; at least half of them are empty */

static _Atomic(epy_route *) places[PLACES];
static epy_route entries[EPY_ROUTES_MAX];
static atomic_uint num_entries;                              /* written under add_lock */
static pthread_mutex_t add_lock = PTHREAD_MUTEX_INITIALIZER; /* guards adding; a leaf */

static size_t hash(ERL_NIF_TERM module, ERL_NIF_TERM function)
{
    uint64_t h = (uint64_t)module * UINT64_C(0x9E3779B97F4A7C15) ^ (uint64_t)function;
    return (size_t)(h * UINT64_C(0x9E3779B97F4A7C15) >> 32);
}

/* The place of an entry, or the first empty one. */
static _Atomic(epy_route *) *place(ERL_NIF_TERM module, ERL_NIF_TERM function)
{
    for (size_t i = hash(module, function);; i++) {
        _Atomic(epy_route *) *p = &places[i % PLACES];
        epy_route *r = atomic_load_explicit(p, memory_order_acquire);
        if (!r || (r->module == module && r->function == function))
            return p;
    }
}

static epy_route *find(ERL_NIF_TERM module, ERL_NIF_TERM function)
{
    return atomic_load_explicit(place(module, function), memory_order_acquire);
}

static bool says_something(const epy_route *r)
{
    return r && (atomic_load_explicit(&r->target, memory_order_relaxed) ||
                 atomic_load_explicit(&r->refused, memory_order_relaxed) ||
                 atomic_load_explicit(&r->moved_back_us, memory_order_relaxed));
}

epy_route *epy_route_of(ERL_NIF_TERM module, ERL_NIF_TERM function)
{
    if (atomic_load_explicit(&num_entries, memory_order_relaxed) == 0)
        return NULL;
    epy_route *r = find(module, function);
    if (!says_something(r))
        r = find(module, epy_atom.undefined);
    return says_something(r) ? r : NULL;
}

/* Under add_lock. */
static epy_route *add(ERL_NIF_TERM module, ERL_NIF_TERM function)
{
    _Atomic(epy_route *) *p = place(module, function);
    epy_route *r = atomic_load(p);
    unsigned n = atomic_load(&num_entries);
    if (r || n == EPY_ROUTES_MAX)
        return r;
    r = &entries[n];
    r->module = module;
    r->function = function;
    atomic_store_explicit(p, r, memory_order_release);
    atomic_store(&num_entries, n + 1);
    return r;
}

static epy_route *ensure(ERL_NIF_TERM module, ERL_NIF_TERM function)
{
    pthread_mutex_lock(&add_lock);
    epy_route *r = add(module, function);
    pthread_mutex_unlock(&add_lock);
    return r;
}

bool epy_route_set(ERL_NIF_TERM module, ERL_NIF_TERM function, int target)
{
    epy_route *r = target ? ensure(module, function) : find(module, function);
    if (r) {
        atomic_store(&r->moved_back_us, 0);
        atomic_store(&r->good_runs, 0);
        atomic_store(&r->strikes, 0);
        atomic_store(&r->target, target);
    }
    return r || !target;
}

bool epy_route_refuse(ERL_NIF_TERM module)
{
    epy_route *r = ensure(module, epy_atom.undefined);
    return r && !atomic_exchange(&r->refused, true);
}

bool epy_route_move_back(epy_route *route, ERL_NIF_TERM function, unsigned us)
{
    int expected = EPY_ROUTE_INLINE;
    bool whole = route->function == epy_atom.undefined;
    epy_route *r = whole ? ensure(route->module, function) : route;
    if (!r)
        return false; /* the table is full: it stays where its module is */
    if (!whole && !atomic_compare_exchange_strong(&r->target, &expected, 0))
        return false;
    return atomic_exchange(&r->moved_back_us, us) == 0;
}

/* The module of this route has refused, as a whole. */
static bool is_refused(const epy_route *r)
{
    if (atomic_load(&r->refused))
        return true;
    const epy_route *module = find(r->module, epy_atom.undefined);
    return module && atomic_load(&module->refused);
}

epy_pool *epy_route_pool(const epy_route *r)
{
    unsigned life;
    int target = atomic_load(&r->target);
    epy_pool *pool = target > 0 ? epy_pool_at(target - 1) : NULL;
    if (!is_refused(r))
        return pool;
    /* Any pool will do that is on the main interpreter. */
    epy_group *only = pool ? epy_pool_only_group(pool, &life) : NULL;
    return only && only->interp->id == 0 ? pool : epy_pool_find(epy_atom.main_pool);
}

static void forget(int target)
{
    unsigned n = atomic_load(&num_entries);
    for (unsigned i = 0; i < n; i++)
        if (!target || atomic_load(&entries[i].target) == target) {
            atomic_store(&entries[i].target, 0);
            atomic_store(&entries[i].moved_back_us, 0);
        }
}

void epy_routes_forget(const epy_pool *pool)
{
    forget(epy_pool_index(pool) + 1);
}

void epy_routes_forget_users(void)
{
    forget(0);
}

/* ---- as terms ---- */

static ERL_NIF_TERM target_name(int target)
{
    return target == EPY_ROUTE_INLINE ? epy_atom.inline_
                                      : atomic_load(&epy_pool_at(target - 1)->name);
}

ERL_NIF_TERM epy_routes_term(ErlNifEnv *env)
{
    ERL_NIF_TERM list = enif_make_list(env, 0);
    for (unsigned i = atomic_load(&num_entries); i-- > 0;) {
        int target = atomic_load(&entries[i].target);
        ERL_NIF_TERM name = target ? target_name(target) : 0;
        if (name)
            list = enif_make_list_cell(
                env, enif_make_tuple3(env, entries[i].module, entries[i].function, name), list);
    }
    return list;
}

ERL_NIF_TERM epy_routes_moved_back(ErlNifEnv *env)
{
    ERL_NIF_TERM list = enif_make_list(env, 0);
    for (unsigned i = atomic_load(&num_entries); i-- > 0;)
        if (atomic_load(&entries[i].moved_back_us))
            list = enif_make_list_cell(
                env, enif_make_tuple2(env, entries[i].module, entries[i].function), list);
    return list;
}
