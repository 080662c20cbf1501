/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_pool.h. */
#include "epy_pool.h"

#include "epy_executor.h"

#define BUSY_LOAD 4 /* processes */

static epy_pool table[EPY_POOLS_MAX];

epy_pool *const epy_pool_default = &table[0];

epy_pool *epy_pool_find(ERL_NIF_TERM name)
{
    for (int i = 0; i < EPY_POOLS_MAX; i++)
        if (atomic_load(&table[i].name) == name)
            return &table[i];
    return NULL;
}

epy_pool *epy_pool_at(int index)
{
    return &table[index];
}

int epy_pool_index(const epy_pool *pool)
{
    return (int)(pool - table);
}

epy_pool *epy_pool_new(ERL_NIF_TERM name)
{
    if (epy_pool_find(name))
        return NULL;
    epy_pool *pool = epy_pool_find(0);
    if (pool) {
        atomic_store(&pool->count, 0);
        atomic_store(&pool->name, name);
    }
    return pool;
}

int epy_pool_add(epy_pool *pool, epy_group *group)
{
    int n = atomic_load(&pool->count);
    if (n == EPY_POOL_GROUPS_MAX)
        return EPY_ENOMEM;
    atomic_store(&pool->groups[n], group);
    atomic_store(&pool->count, n + 1);
    return EPY_OK;
}

void epy_pool_set_count(epy_pool *pool, int count)
{
    atomic_store(&pool->count, count);
}

void epy_pool_free(epy_pool *pool)
{
    atomic_store(&pool->count, 0);
    atomic_store(&pool->name, 0);
}

bool epy_pool_has(const epy_pool *pool, const epy_group *group)
{
    for (int i = 0, n = atomic_load(&pool->count); i < n; i++)
        if (atomic_load(&pool->groups[i]) == group)
            return true;
    return false;
}

static epy_group *group_at(const epy_pool *pool, int i, unsigned *life)
{
    epy_group *group = atomic_load_explicit(&pool->groups[i], memory_order_acquire);
    if (!group)
        return NULL; /* the pool is being closed */
    *life = atomic_load_explicit(&group->life, memory_order_acquire);
    return *life & 1 ? group : NULL;
}

epy_group *epy_pool_only_group(const epy_pool *pool, unsigned *life)
{
    return atomic_load_explicit(&pool->count, memory_order_acquire) == 1 ? group_at(pool, 0, life)
                                                                         : NULL;
}

/* A group whose executors have been busy for a while comes after all others, and one that is
 * busy at this moment after those with almost as many processes.  `load`: its processes. */
static int load_of(epy_group *group, int load)
{
    if (epy_executors_all_busy(group))
        load += BUSY_LOAD;
    return atomic_load(&group->unmoved) ? load + INT32_MAX / 2 : load;
}

/* *bound: of the group, as it was when that was the least loaded one. */
static epy_group *least_loaded(epy_pool *pool, unsigned *life, int *bound)
{
    epy_group *best = NULL;
    unsigned l;
    int least = 0;
    for (int i = 0, n = atomic_load(&pool->count); i < n; i++) {
        epy_group *group = group_at(pool, i, &l);
        int processes = group ? epy_group_bound(group) : 0;
        int load = group ? load_of(group, processes) : 0;
        if (group && (!best || load < least)) {
            best = group;
            least = load;
            *life = l;
            *bound = processes;
        }
    }
    return best;
}

/* Who finds that another one was bound there meanwhile looks again: one of them goes elsewhere. */
epy_group *epy_pool_bind(epy_pool *pool, unsigned *life)
{
    int bound;
    epy_group *group;
    do
        group = least_loaded(pool, life, &bound);
    while (group && !epy_group_bind(group, *life, bound));
    return group;
}

epy_group *epy_pool_spread(epy_pool *pool, unsigned *life)
{
    unsigned n = (unsigned)atomic_load(&pool->count);
    for (unsigned tries = 0; tries < n; tries++) {
        epy_group *group = group_at(pool, (int)(atomic_fetch_add(&pool->next, 1) % n), life);
        if (group)
            return group;
    }
    return NULL;
}
