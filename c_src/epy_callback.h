/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Python calls Erlang: the executor sends the call to the process that waits
 * for its request, and waits itself, detached, in a frame on its stack.
 *
 * The frame takes the callback's result, a cancel of its request, and nested requests of the
 * same chain, which run on the stack of the executor that waits (R2: nothing is suspended
 * and run again).  A thread that serves no request has no such process: see epy_call.h.
 */
#ifndef EPY_CALLBACK_H
#define EPY_CALLBACK_H

#include "epy_convert.h"
#include "epy_executor.h"
#include "epy_request.h"

/* Calls an Erlang function from Python code, on any thread: a registered one by its name, or
 * an erlang.Fun; args is a tuple. */
EPY_GIL EPY_NEWREF PyObject *epy_callback_call(epy_interp *interp, PyObject *function,
                                               PyObject *args);

/* The same of terms.  Frees env, in which they are. */
EPY_GIL EPY_NEWREF PyObject *epy_callback_terms(epy_interp *interp, ErlNifEnv *env,
                                                ERL_NIF_TERM function, ERL_NIF_TERM args);

/* What is called, all of it in the environment of the message. */
typedef struct epy_calling {
    ERL_NIF_TERM function, args;
    ERL_NIF_TERM trace; /* the context that is current in Python, or 0 */
} epy_calling;

/* {Tag, callback, Place, Function, Args}, with the trace context at the end if there is one. */
EPY_ANY ERL_NIF_TERM epy_callback_message(ErlNifEnv *env, ERL_NIF_TERM tag, ERL_NIF_TERM place,
                                          const epy_calling *calling);

/* What {ok, V} or {error, {Class, Reason, Stack}} in env is in Python.  `raised`: the exception
 * that ended the last nested request, or NULL: it goes on if the error is that one. */
EPY_GIL EPY_NEWREF PyObject *epy_callback_outcome(epy_interp *interp, ErlNifEnv *env,
                                                  ERL_NIF_TERM outcome, PyObject *raised);

/* Looks out for news in the frame for a moment, one thread of the interpreter at a time.  False:
 * it has to sleep. */
EPY_NOGIL bool epy_callback_spin(epy_interp *interp, epy_frame *f);

/* All of it as terms of c->env; -1 with an exception set. */
EPY_GIL int epy_callback_convert(epy_conv *c, PyObject *function, PyObject *args,
                                 epy_calling *calling);

/* Hands {ok, V} or {error, {Class, Reason, Stack}} to an open frame, copied. */
EPY_ANY bool epy_callback_return(epy_executor *ex, uint64_t serial, ERL_NIF_TERM outcome);

#endif
