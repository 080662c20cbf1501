/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls of Erlang by Python code that serves no request: by a thread that Python started, which
 * waits for the answer, or by a task of an event loop, whose answer comes to the loop's mailbox
 * (epy_mailbox.h).  A process is made for each by py_async.
 *
 * The message has a reference for the place, a NIF resource.  Should all copies of it be gone
 * without an answer, the call ends with that error: no wait depends on anybody's good will.
 */
#ifndef EPY_CALL_H
#define EPY_CALL_H

#include "epy.h"
#include "epy_frame.h"
#include "epy_interp.h"

struct epy_calling;
struct epy_mailbox;

typedef struct epy_call {
    atomic_int refs;      /* of the waiting side and of the resource */
    epy_interp *interp;   /* constant; interpreters are never freed */
    struct epy_call *next, **link; /* interp->calls; under interp->calls_lock */
    uint64_t id;          /* constant: what a cancel names */
    epy_frames frames;    /* a thread's, with the one frame in which it waits */
    struct epy_mailbox *mailbox;   /* constant, strong: a task's; NULL: a thread's */
    PyObject *object;     /* borrowed: the task's AsyncCall; of the thread that runs the loop */
    atomic_bool ended;    /* a task's: answered or cancelled */
} epy_call;

int epy_call_open(ErlNifEnv *env); /* registers the resource type */

EPY_ANY void epy_call_put(epy_call *call);

/* What a thread that serves no request waits in for something else than a call: `frames` of
 * this.  epy_call_unlink() and epy_call_put() end it.  NULL with an exception set. */
EPY_GIL epy_call *epy_call_new(epy_interp *interp);

/* Did epy_calls_end() come before its frame was opened, and go without having seen it? */
EPY_ANY bool epy_call_missed_end(epy_call *call);

/* Calls and waits: the thread's part.  `call`: function and arguments in env. */
EPY_GIL EPY_NEWREF PyObject *epy_call_wait(epy_interp *interp, ErlNifEnv *env,
                                           const struct epy_calling *calling);

/* Calls, and has the answer put into the mailbox.  The call, with a reference for the caller, or
 * NULL with an exception set. */
EPY_GIL epy_call *epy_call_post(epy_interp *interp, ErlNifEnv *env,
                                const struct epy_calling *calling, struct epy_mailbox *mailbox);

/* By the event loop's thread: the call needs no end any more, as its answer was taken. */
EPY_ANY void epy_call_unlink(epy_call *call);

/* By the same: the answer is not wanted any more, and the process is told.  False: it is there. */
EPY_ANY bool epy_call_cancel(epy_call *call);

/* py_nif:callback_return/2 with such a place.  *is: it is one. */
EPY_ANY bool epy_call_return(ErlNifEnv *env, ERL_NIF_TERM place, ERL_NIF_TERM outcome, bool *is);

/* Ends all that wait: the application stops or, `ending`, the interpreter ends, and takes no more
 * of them. */
EPY_ANY void epy_calls_end(epy_interp *interp, bool ending);

#endif
