/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pools: a name for one group of executors or several.  `default` and `io` are there
 * from the start, and in the mode with several interpreters `main`, for modules that
 * want the main one; users add others.
 *
 * Pools live in a table and are never freed; a pool that was closed may be opened
 * under another name.  They are written by the runtime's thread only, and read by
 * all: `count` is raised after a group was put in place.  Who has read it finds NULL in the
 * place of a group that was closed meanwhile.
 */
#ifndef EPY_POOL_H
#define EPY_POOL_H

#include "epy_group.h"

#define EPY_POOLS_MAX 64
#define EPY_POOL_GROUPS_MAX 256

struct epy_pool {
    _Atomic ERL_NIF_TERM name; /* an atom; 0 while the pool is not open */
    atomic_int count;          /* groups in use */
    atomic_uint next;          /* of epy_pool_spread() */
    _Atomic(epy_group *) groups[EPY_POOL_GROUPS_MAX];
};

extern epy_pool *const epy_pool_default;

/* The open pool of this name, or NULL. */
EPY_ANY epy_pool *epy_pool_find(ERL_NIF_TERM name);
EPY_ANY epy_pool *epy_pool_at(int index);
EPY_ANY int epy_pool_index(const epy_pool *pool);

/* The runtime's thread. */
epy_pool *epy_pool_new(ERL_NIF_TERM name); /* NULL: the name is taken, or the table full */
int epy_pool_add(epy_pool *pool, epy_group *group);
void epy_pool_set_count(epy_pool *pool, int count);
void epy_pool_free(epy_pool *pool); /* its groups are closed */

/* Is the group one of those in use? */
EPY_ANY bool epy_pool_has(const epy_pool *pool, const epy_group *group);

/* The group of a pool that has but one, else NULL. */
EPY_ANY epy_group *epy_pool_only_group(const epy_pool *pool, unsigned *life);

/* Binds a new process to a group: one that moves, with the fewest processes, of which it is one
 * then.  epy_group_unbind() ends that.  NULL: the pool has none. */
EPY_ANY epy_group *epy_pool_bind(epy_pool *pool, unsigned *life);

/* One after the other. */
EPY_ANY epy_group *epy_pool_spread(epy_pool *pool, unsigned *life);

#endif
