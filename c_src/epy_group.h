/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A group: one queue of requests and the executors that serve it, all of one
 * interpreter.  A pool is one group or several, a context is one.
 *
 *              open                close                 last executor ended
 *   FREE ------------> OPEN ----------------> CLOSING -------------------------> FREE
 *
 * Groups live in a table and are never freed, so a pointer to one is always good.
 * `life` tells one use of a group from the next: it is odd while the group is
 * open, and a request or a namespace that was meant for an earlier life is
 * refused.  Transitions are made by the runtime's thread, but for the last one.
 */
#ifndef EPY_GROUP_H
#define EPY_GROUP_H

#include "epy_interp.h"
#include "epy_queue.h"

#define EPY_GROUPS_MAX 4096

struct epy_group {
    int id;                      /* constant: place in the table */
    atomic_uint life;            /* odd: open.  Made odd by the runtime's thread; see epy_group_shut() */
    atomic_bool taken;           /* not FREE; set under the table's lock */
    epy_interp *interp;          /* constant while not FREE */
    epy_pool *pool;              /* constant while not FREE; NULL: of a context */
    bool fixed;                  /* constant while not FREE: one thread, never a stand-in */
    bool loops;                  /* the same: event loops have their turns here, by the first
                                    executor when that can */
    epy_queue queue;             /* of requests that need a slot */
    epy_queue riders;            /* of those that need none */
    epy_idle idle;               /* executors without work */
    epy_idle parking;            /* executors that are not needed now; epy_executor.c */
    atomic_int wanted;           /* executors that are to serve; the runtime's */
    atomic_int serving;          /* executors that serve: not parked, in a callback or stuck */
    atomic_int live;             /* who keeps it from being FREE: its owner, and each thread */
    atomic_int stuck;            /* executors whose request was cancelled and does not end */
    atomic_int replaced;         /* how often a stand-in was called for one that was stuck */
    _Atomic uint64_t bound;      /* life << 32 | namespaces that are bound here in that life */
    _Atomic uint64_t popped;     /* requests taken off the queue; the monitor's clock */
    atomic_bool unwaited;        /* requests were queued that nobody waits for, see sweep() */
    atomic_int gone;             /* requests that were cancelled in a queue since the last sweep */
    _Atomic uint64_t cancelled;  /* requests that were cancelled while they ran */
    _Atomic(epy_executor *) executors; /* linked by next; never unlinked */
    uint64_t seen;               /* the monitor's: popped at its last look */
    int still_ticks, free_ticks; /* the monitor's: how long the queue has not moved, and of that,
                                    how long nobody had the GIL */
    bool busy_tick;              /* the monitor's: all executors were busy at its last look */
    atomic_bool unmoved;         /* its executors have not come back for a tick and more; the monitor's */
};

/* A group for this interpreter; NULL when the table is full.  Executors are started
 * by epy_executors_resize(), or when requests come. */
epy_group *epy_group_open(epy_interp *interp, epy_pool *pool, int wanted, bool fixed);

/* No new requests from now on; those that are queued or run end as {error, cancelled}.
 * The executors end when they can.  The runtime's thread. */
EPY_NOGIL void epy_group_close(epy_group *group);

/* The same in two steps, so that what is asked of the group after the first is refused already.
 * False: it was closed before.  The second is the runtime's thread's. */
EPY_ANY bool epy_group_shut(epy_group *group, unsigned life);
EPY_NOGIL void epy_group_close_shut(epy_group *group);

/* Keeps the group from being taken for another use, unless that is too late: false. */
EPY_ANY bool epy_group_keep(epy_group *group);
EPY_NOGIL void epy_group_drop(epy_group *group);

EPY_ANY bool epy_group_is(const epy_group *group, unsigned life); /* open, and that life */
EPY_ANY bool epy_group_is_open(const epy_group *group);

/* Namespaces that are bound to the group.  One more is, if there are just so many; false: others
 * have come or gone meanwhile, or it was opened again.  And one fewer, if that life lasts. */
EPY_ANY int epy_group_bound(const epy_group *group);
EPY_ANY bool epy_group_bind(epy_group *group, unsigned life, int bound);
EPY_ANY void epy_group_unbind(epy_group *group, unsigned life);

/* The group with this number, or NULL. */
EPY_ANY epy_group *epy_group_get(int id);
EPY_ANY int epy_group_count(void); /* numbers that were ever given out */

/* Queues a request, whose group is set, and wakes an executor if that is
 * called for.  env: of the calling process, or NULL on a thread of ours. */
EPY_ANY void epy_group_submit(ErlNifEnv *env, epy_request *req);

/* Is there a request that an executor could run now? */
EPY_ANY bool epy_group_has_work(epy_group *group);

/* A hint: the first in the queue is admitted. */
EPY_ANY bool epy_group_first_is_admitted(epy_group *group);

/* Takes what is cancelled off the queues, and ends what nobody waits for and is too old.
 * Those that stay keep their order but towards requests that come meanwhile. */
EPY_NOGIL void epy_group_sweep(epy_group *group);

/* Ends a request that was taken off its queue with {error, Reason}.  False: it was cancelled before. */
EPY_ANY bool epy_group_refuse(ErlNifEnv *env, epy_request *req, ERL_NIF_TERM reason);

/* Ends all requests that are queued with {error, Reason}. */
EPY_ANY void epy_group_refuse_queued(ErlNifEnv *env, epy_group *group, ERL_NIF_TERM reason);

/* Cancels what runs in this group; its callers get {error, Reason}.  How many. */
EPY_NOGIL int epy_group_cancel_running(ErlNifEnv *env, epy_group *group, ERL_NIF_TERM reason);

#endif
