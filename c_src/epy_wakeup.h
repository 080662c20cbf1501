/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The descriptor by which a thread that waits in select() is told that its request was
 * cancelled: the exception of an interrupt comes only when Python code runs.
 *
 * A request that runs an event loop is *quiet*: it is told by the descriptor alone, and the loop
 * raises the exception between two callbacks, where no task's code can catch it.  Should
 * the loop not come to that, as a callback does not return, it is interrupted like others.
 *
 * Its executor has left the queue meanwhile, as it does for a callback: what the loop waits for may
 * be calls of Erlang that need this very interpreter.
 */
#ifndef EPY_WAKEUP_H
#define EPY_WAKEUP_H

#include "epy_executor.h"
#include "epy_request.h"

#define EPY_QUIET_TICKS 100 /* that a quiet request has before it is interrupted as others are */

/* Under interrupt_lock, by whoever tells the request of its cancel. */
EPY_ANY void epy_wakeup_ring(epy_executor *ex);

/* The request has ended; under interrupt_lock.  Nobody else shall hear of its cancel. */
EPY_ANY void epy_wakeup_clear(epy_executor *ex);

/* The request has ended without saying that it is not quiet any more, or has said so. */
EPY_GIL void epy_wakeup_loud(epy_executor *ex, epy_request *req);

/* The thread ends. */
EPY_ANY void epy_wakeup_end(epy_executor *ex);

/* Adds wakeup_fd(), set_quiet() and check_cancelled() to the module `_erlang`. */
EPY_GIL int epy_wakeup_init(PyObject *module);

#endif
