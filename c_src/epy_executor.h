/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An executor: an OS thread of ours that is attached to one interpreter and
 * runs its requests, one after the other.  Without work it sleeps in
 * epy_idle_wait(), detached; that is also how it is parked when the application
 * stops.  Its struct is never freed, so a late cancel may look at it.
 */
#ifndef EPY_EXECUTOR_H
#define EPY_EXECUTOR_H

#include "epy.h"
#include "epy_frame.h"
#include "epy_group.h"
#include "epy_request.h"
#include "epy_stats.h"

#include <pthread.h>

/* CPython needs 8 MB for its own limits of recursion; twice that leaves room
 * for chains. */
#define EPY_STACK_SIZE ((size_t)16 << 20)
#define EPY_STACK_RESERVE ((size_t)6 << 20) /* left for what runs at the end of a chain */

struct epy_executor {
    epy_executor *next;          /* group->executors; constant once linked */
    int index;                   /* constant: place in the table of all executors */
    epy_group *group;            /* constant */
    epy_interp *interp;          /* the thread's: group->interp, constant while it lives */
    PyThreadState *tstate;       /* the thread's own */
    unsigned long ident;         /* constant once ready: what PyThreadState_SetAsyncExc takes */
    bool refused;                /* the thread's: an import met a module that refuses */
    atomic_int ready;            /* futex word: see the states in epy_executor.c */
    uint64_t clock_ns;           /* the thread's: when its last request ended; 0: it slept since */
    epy_counts counts;           /* written by the thread, read by all */

    pthread_mutex_t interrupt_lock;   /* guards the delivery of interrupts; never waits */
    _Atomic(epy_request *) current;   /* innermost request; written by the thread */
    int wakeup;                       /* an eventfd, or -1; under interrupt_lock: see epy_wakeup.h */
    atomic_bool stuck;                /* a stand-in serves in its place; written under interrupt_lock */
    uint64_t overdue;                 /* the monitor's: id of the cancelled request it saw last */
    int overdue_ticks;                /* the monitor's: for how long */
    int remind_ticks;                 /* the monitor's: when it is interrupted again */
    epy_job remind;                   /* the service's while `reminding` */
    atomic_bool reminding;
    struct epy_loop *turn;       /* borrowed: the hosted loop whose turn it runs, or NULL; under
                                    interrupt_lock, like the next one */
    epy_request *turn_request;   /* that turn's, borrowed; likewise */
    struct epy_loop *lingers;    /* the thread's, strong, or NULL: the loop that it watches while it
                                    has nothing else to do; see epy_loop_linger() */
    bool unblocked;              /* the code of that turn was interrupted; see epy_loop_unblock() */
    uint64_t blocked;            /* the monitor's: id of the turn that it saw last */
    int blocked_ticks;           /* the monitor's: for how long */
    int dead_ticks;              /* the monitor's: how long the owner of the loop is dead whose turn
                                    it runs */

    epy_frames frames;           /* the callbacks that wait here */
    ErlNifEnv *message_env;      /* the thread's, owned, or NULL: see epy_send.c */
    char *output;                /* the thread's, owned: what was printed of a line; or NULL */
    size_t output_size;
    bool home;                   /* constant: the first of its group */
    atomic_bool away;            /* waits in a callback, so does not serve; the thread's */
};

/* The executor that the calling thread is, or NULL. */
extern _Thread_local epy_executor *epy_self;

/* Makes n executors serve the group, and waits until they do: starts some, or lets some
 * park. */
EPY_NOGIL int epy_executors_resize(epy_group *group, int n);

/* Starts the first executor of a sub-interpreter that does not exist yet: its
 * thread creates it and sets it up.  Waits for that; on failure `error` says why. */
EPY_NOGIL int epy_executor_start_subinterp(epy_group *group, char *error, size_t error_size);

/* Fewer executors serve than are wanted, be it that none was started yet, that they
 * wait in callbacks or that they are stuck: lets one more serve. */
EPY_ANY void epy_executors_relieve(epy_group *group);

/* Wakes all that sleep, so that they see that their group is closed. */
EPY_ANY void epy_executors_wake_all(epy_group *group);

/* The request was cancelled a while ago and its executor does not come back, or it waits for
 * something while others wait for it: it counts as stuck, and a stand-in may serve.  State: that in
 * which the request is.  False: it has come back meanwhile. */
EPY_NOGIL bool epy_executor_stick(epy_executor *ex, epy_request *req, epy_req_state state);
EPY_GIL void epy_executor_unstick(epy_executor *ex); /* by itself, when it comes back */

/* How many bytes of the calling thread's stack are left. */
EPY_ANY size_t epy_stack_left(void);

/* By number; NULL when there is none. */
EPY_ANY epy_executor *epy_executor_find(unsigned index);

EPY_ANY bool epy_executor_is_live(const epy_executor *ex); /* has a thread that serves */

/* [(name, ident, frame or None)] of the executors of this interpreter. */
EPY_GIL EPY_NEWREF PyObject *epy_executors_frames(epy_interp *interp);

/* Counts the end of a request, for info/0; by the thread itself. */
EPY_GIL void epy_executor_count(epy_executor *ex, const epy_request *req, bool failed);

/* The id of the innermost request that runs here; 0 when there is none. */
EPY_ANY uint64_t epy_executor_running(epy_executor *ex);

/* Runs one request to its end, on the calling executor. */
EPY_GIL void epy_executor_run(epy_executor *ex, epy_request *req);

/* The executor begins, ends to wait in a callback.  In between it does not look
 * at its queue; if it was the last that did, a stand-in takes its place. */
EPY_NOGIL void epy_executor_leave_queue(epy_executor *ex);
EPY_ANY void epy_executor_rejoin_queue(epy_executor *ex);

/* Does each executor that serves run a request at this moment?  A hint. */
EPY_ANY bool epy_executors_all_busy(epy_group *group);

/* Is a request queued or running in this group? */
EPY_ANY bool epy_executors_busy(epy_group *group);

/* The group begins another life: its counts go to the sum of those that ended. */
void epy_executors_forget_counts(epy_group *group);
EPY_ANY void epy_executors_add_ended(epy_counts *sum);

/* A detached thread with the stack that Python needs and no signal blocked.
 * The name is what ps and gdb show: at most 15 characters. */
int epy_thread_start(const char *name, void *(*main)(void *), void *arg);

/* Ends the calling thread's state, which is current. */
EPY_GIL void epy_thread_delete(PyThreadState *ts);

#endif
