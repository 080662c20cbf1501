/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An executor: an OS thread of ours that is attached to one interpreter and
 * runs its requests, one after the other.  Without work it sleeps in
 * epy_idle_wait(), detached; that is also how it is parked when the application
 * stops.  Its struct is never freed, so a late cancel may look at it.
 */
#ifndef EPY_EXECUTOR_H
#define EPY_EXECUTOR_H

#include "epy_interp.h"

#include <pthread.h>

/* CPython needs 8 MB for its own limits of recursion; twice that leaves room
 * for the conversion of deep values on top. */
#define EPY_STACK_SIZE ((size_t)16 << 20)
#define EPY_STACK_RESERVE ((size_t)6 << 20) /* left for what runs at the end of a chain */
#define EPY_STACK_LAST ((size_t)512 << 10)  /* left at the deepest level of a conversion */

struct epy_executor {
    epy_executor *next;          /* interp->executors; constant once linked */
    int index;                   /* constant: place in the table of all executors */
    epy_interp *interp;          /* constant */
    PyThreadState *tstate;       /* the thread's own */
    unsigned long ident;         /* constant once ready: what PyThreadState_SetAsyncExc takes */
    char *stack_end;             /* constant: the stack grows down to here */
    atomic_int ready;            /* futex word: see the states in epy_executor.c */

    pthread_mutex_t interrupt_lock;   /* guards the delivery of interrupts; never waits */
    _Atomic(epy_request *) current;   /* innermost request; written by the thread */

    pthread_mutex_t frame_lock;  /* guards the two below; a leaf (R6) */
    epy_frame *frames;           /* innermost callback that waits; see epy_callback.c */
    uint64_t frame_serial;
};

/* The executor that the calling thread is, or NULL. */
extern _Thread_local epy_executor *epy_self;

/* Makes n executors serve the interpreter: starts some, or lets some park. */
EPY_NOGIL int epy_executors_resize(epy_interp *interp, int n);

/* Are so many bytes of the stack left?  The calling thread is this executor. */
bool epy_executor_has_stack(const epy_executor *ex, size_t bytes);

/* Starts the first executor of a sub-interpreter that does not exist yet: its
 * thread creates it and sets it up.  Waits for that; on failure `error` says why. */
EPY_NOGIL int epy_executor_start_subinterp(epy_interp *interp, char *error, size_t error_size);

/* The queue does not move and nobody is asleep: if executors wait in callbacks,
 * lets a spare serve. */
EPY_ANY void epy_executors_relieve(epy_interp *interp);

/* How many executors the interpreter has. */
EPY_ANY int epy_executors_count(epy_interp *interp);

/* By number; NULL when there is none. */
EPY_ANY epy_executor *epy_executor_find(unsigned index);

/* Runs one request to its end, on the calling executor. */
EPY_GIL void epy_executor_run(epy_executor *ex, epy_request *req);

/* The executor begins, ends to wait in a callback.  In between it does not look
 * at its queue; if it was the last that did, a spare takes its place. */
EPY_NOGIL void epy_executor_leave_queue(epy_executor *ex);
EPY_NOGIL void epy_executor_rejoin_queue(epy_executor *ex);

/* Is a request queued or running on this interpreter? */
EPY_ANY bool epy_executors_busy(epy_interp *interp);

/* A detached thread with the stack that Python needs and no signal blocked.
 * The name is what ps and gdb show: at most 15 characters. */
int epy_thread_start(const char *name, void *(*main)(void *), void *arg);

#endif
