/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Python calls Erlang: the executor sends the call to the process that waits
 * for its request, and waits itself, detached, in a frame on its stack.
 *
 * A frame is named by the executor's number and a serial, and is open as long
 * as it is linked in the executor.  While it is open it takes the callback's
 * result, a cancel of its request, and nested requests of the same chain, which
 * it runs on its own stack (R2: nothing is suspended and run again).  What comes
 * for a frame that is closed is refused, so nothing is lost in between.
 */
#ifndef EPY_CALLBACK_H
#define EPY_CALLBACK_H

#include "epy_executor.h"
#include "epy_request.h"

/* Calls the registered Erlang function from Python code; args is a tuple. */
EPY_GIL EPY_NEWREF PyObject *epy_callback_call(epy_interp *interp, PyObject *name,
                                               PyObject *args);

/* The same of terms.  Frees env, in which they are. */
EPY_GIL EPY_NEWREF PyObject *epy_callback_terms(epy_interp *interp, ErlNifEnv *env,
                                                ERL_NIF_TERM name, ERL_NIF_TERM args);

/* Hands {ok, V} or {error, {Class, Reason, Stack}} to an open frame, copied. */
EPY_ANY bool epy_callback_return(epy_executor *ex, uint64_t serial, ERL_NIF_TERM outcome);

/* Hands a nested request to an open frame; false when there is none. */
EPY_ANY bool epy_callback_nest(epy_executor *ex, uint64_t serial, epy_request *req);

/* Wakes the frames that wait for this request, which was cancelled.  After it
 * returns, no callback message of this request will be sent any more. */
EPY_ANY void epy_callback_cancel(epy_executor *ex, epy_request *req);

#endif
