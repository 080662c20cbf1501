/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An event loop without a thread: an asyncio loop whose *turns* are requests, run by an executor
 * of the pool `async` when there is something to do.
 *
 *            wake                 wake
 *   IDLE ------------> DUE ---------------> AGAIN
 *     ^  submits a turn | ^                   |
 *     +-----------------+ +-------------------+
 *       a turn has ended     a turn begins, or has ended and submits another
 *
 * So there is one turn at most, queued or running, and whatever comes while it runs is seen by it
 * or by the next: who wakes has put his work where a turn looks, and then looks at the state.
 *
 * Erlang gives work by tasks: requests whose coroutine is started by a turn and whose reply is
 * sent when that ends, by a later one.
 *
 * How it hears of descriptors when it is idle is in epy_loop_idle.h; the side that Python sees is in
 * epy_host.h.
 */
#ifndef EPY_LOOP_H
#define EPY_LOOP_H

#include "epy_interp.h"
#include "epy_queue.h"
#include "epy_request.h"

#define EPY_TASKS_MAX 16384 /* that wait to be started by one loop */

typedef struct epy_closer epy_closer;
typedef struct epy_spawned epy_spawned;

/* Kept by its resource, which is kept by the terms that name it, by requests, by Python's loop and,
 * until it is closed, by the list of all. */
typedef struct epy_loop {
    void *resource;                /* constant, borrowed: it keeps us */
    struct epy_loop *next, **link; /* of all loops; under the list's lock */
    uint64_t id;                   /* constant, and of no other loop */
    epy_group *group;              /* constant: of one executor, so that turns stay on a thread */
    unsigned group_life;           /* constant */
    ErlNifPid owner;               /* constant */
    atomic_int state;
    atomic_bool armed;             /* the owner gets a message when a descriptor is ready */
    _Atomic uint64_t heard_ns;     /* when a descriptor was ready last */
    atomic_bool closing;           /* it takes no more tasks, and those that run are cancelled */
    _Atomic uint64_t ending_ns;    /* 0; or when the first turn began that does so; the turns' */
    atomic_bool attached;          /* Python's loop has been made, and has not been closed */
    epy_queue tasks, cancels;      /* of requests: to start; whose tasks are to be cancelled */
    atomic_int waiting, running;   /* tasks */
    _Atomic uint64_t turns, started;
    _Atomic(epy_request *) starting; /* borrowed: whose function the turn calls just now */
    int failures;                  /* the turn's: how many failed, one after the other */
    atomic_int spawns;             /* how many are in that list below */
    int timer;                     /* the turn's, like the next one: or -1 */
    uint64_t timer_ns;             /* when it rings; 0: not set */
    atomic_bool wanted;            /* the owner is to arm it */
    pthread_mutex_t lock;          /* guards the fields below; a leaf */
    int epoll;                     /* a duplicate, or -1 */
    bool released;                 /* that is to be closed */
    ErlNifPid hears;               /* of descriptors: the owner or, after it, py_async */
    PyObject *object;              /* strong: the HostedLoop; NULL before the first turn and
                                      after the last.  Written by turns, which read it freely */
    epy_spawned *spawned;          /* by Python code, for a turn to take; see epy_spawned.h */
    bool closed;
    epy_closer *closers;           /* who is told of the end */
} epy_loop;

int epy_loop_open(ErlNifEnv *env); /* registers the resource type */

/* The loop that this term names, or NULL. */
EPY_ANY epy_loop *epy_loop_find(ErlNifEnv *env, ERL_NIF_TERM term);

/* Native functions; see erl/py_nif.erl. */
EPY_ANY ERL_NIF_TERM epy_loop_new(ErlNifEnv *env, ERL_NIF_TERM n);
EPY_ANY ERL_NIF_TERM epy_loop_count(ErlNifEnv *env);
EPY_ANY ERL_NIF_TERM epy_loop_close(ErlNifEnv *env, ERL_NIF_TERM loop, ERL_NIF_TERM tag);
EPY_ANY ERL_NIF_TERM epy_loop_info(ErlNifEnv *env, ERL_NIF_TERM loop);

EPY_ANY void epy_loop_keep(epy_loop *loop);
EPY_ANY void epy_loop_put(epy_loop *loop);

/* The oldest loop in this interpreter that does not close, with a reference, or NULL. */
EPY_ANY epy_loop *epy_loop_first(const epy_interp *interp);

/* Is there room for one task more?  Else {overloaded, Current, Max}, or no_loop when it is closed. */
EPY_ANY bool epy_loop_admits(ErlNifEnv *env, epy_loop *loop, ERL_NIF_TERM *refusal);

/* Makes the request one of this loop, and queues it. */
EPY_ANY void epy_loop_adopt(epy_loop *loop, epy_request *req);
EPY_ANY void epy_loop_submit(ErlNifEnv *env, epy_request *req);

EPY_ANY bool epy_loop_is_closing(epy_loop *loop);
EPY_ANY bool epy_loop_is_closed(epy_loop *loop); /* it has no turns any more */

/* There is something to do.  env: of the calling process, or NULL on a thread of ours. */
EPY_ANY void epy_loop_wake(ErlNifEnv *env, epy_loop *loop);

/* The executor is at a turn that does not come to its end: if it runs code of a task whose request
 * was cancelled, that is interrupted.  On a service thread of the interpreter. */
EPY_GIL void epy_loop_unblock(epy_executor *ex);

/* Does any loop have a task that has not ended? */
EPY_ANY bool epy_loops_have_tasks(void);

/* The application has started again: ends what the stop before did not wait for. */
EPY_ANY void epy_loops_resume(void);

/* For epy_host.c, in a turn of this loop. */

/* The next task to start, and the next request whose task is to be cancelled; or NULL. */
EPY_GIL epy_request *epy_loop_next_task(epy_loop *loop);
EPY_GIL epy_request *epy_loop_next_cancel(epy_loop *loop);

/* The task of this request has ended, and the request with it; or only the part of the task, when
 * it was cancelled. */
EPY_GIL void epy_loop_end_task(epy_request *req, ERL_NIF_TERM term, bool failed);
EPY_ANY void epy_loop_part(epy_request *req);

/* The task's module loads in the main interpreter only: it goes to a loop there.  False: there is
 * none. */
EPY_GIL bool epy_loop_move_to_main(epy_request *req);

/* Python's loop is closed, or could not be made: the end. */
EPY_GIL void epy_loop_finish(epy_loop *loop);

#endif
