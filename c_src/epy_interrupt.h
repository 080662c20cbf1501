/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cancelling a request, and interrupting the Python code that it runs.
 *
 * A canceller that moves a RUNNING request to CANCELLED posts an interrupt to
 * the interpreter's service thread.  That raises erlang.Cancelled in the
 * executor, but only while the executor still runs this very request, which it
 * checks under the executor's interrupt_lock; and an executor that finds its
 * request cancelled takes back, under the same lock, what was raised and did
 * not fire.  So no other request is ever hit.  A request that was not cancelled
 * pays nothing: its end is the one exchange of its state.
 *
 * Executor and interrupter both hold a request that was cancelled while it ran;
 * the second one to part frees it.
 */
#ifndef EPY_INTERRUPT_H
#define EPY_INTERRUPT_H

#include "epy_executor.h"
#include "epy_request.h"

/* True: the request with this id ends without a reply (it may still run for a
 * while).  False: it has ended, and its reply was or is being sent.  env: of the calling
 * process, or NULL on a thread of ours. */
EPY_ANY bool epy_cancel(ErlNifEnv *env, uint64_t id);

/* As above, but only one that waits in line. */
EPY_ANY bool epy_cancel_waiting(ErlNifEnv *env, uint64_t id);

/* As epy_cancel(), of a request that runs, and sends {error, Reason} in place of the executor. */
EPY_ANY bool epy_cancel_reply(ErlNifEnv *env, uint64_t id, ERL_NIF_TERM atom_reason);

/* The code of this request is told of the cancel in another way, by an exception
 * that the caller raises: no second one follows. */
EPY_GIL void epy_interrupt_told(epy_executor *ex, epy_request *req);

/* Does the executor run this request, which is to hear of a cancel by its descriptor and has not? */
EPY_ANY bool epy_interrupt_is_untold(epy_executor *ex, epy_request *req);

/* The executor's end of a request that was cancelled while it ran. */
EPY_GIL void epy_interrupt_end(epy_executor *ex, epy_request *req);

/* A finalizer that ran in the middle of the request got the exception in its place, and CPython
 * says so to sys.unraisablehook: the request is to have it again.  False: it is not cancelled. */
EPY_GIL bool epy_interrupt_again(epy_executor *ex);

/* Under interrupt_lock: the exception is raised in what runs there; what was raised and did not
 * fire is taken back. */
EPY_GIL void epy_interrupt_raise(epy_executor *ex);
EPY_GIL void epy_interrupt_take_back(epy_executor *ex);

/* The same from elsewhere: the request goes on as if it had not been interrupted; or the turn of
 * a loop goes on for long, and one of its tasks that was cancelled may be why. */
EPY_ANY void epy_interrupt_remind(epy_executor *ex);

#endif
