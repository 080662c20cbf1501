/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The trace context, as W3C's `traceparent` has it: from the Erlang process that makes a
 * request into a context variable of Python's, and from there into callbacks.  All of it only
 * while tracing is enabled.
 *
 * The variable `_erlang.trace_context` is None, the text that came from Erlang, or an object
 * with an attribute `traceparent`, which is a span of erlang/_trace.py.
 */
#ifndef EPY_TRACE_H
#define EPY_TRACE_H

#include "epy_interp.h"

EPY_ANY void epy_trace_enable(bool on);
EPY_ANY bool epy_trace_enabled(void);

/* Adds the variable to the module `_erlang` and to objects. */
EPY_GIL int epy_trace_init(PyObject *module, epy_objects *objects);

/* The context that is current in Python, as a binary in env; 0: none, or not enabled. */
EPY_GIL ERL_NIF_TERM epy_trace_current(epy_interp *interp, ErlNifEnv *env);

/* Around a request: sets the context that it came with, a binary in env.  `trace` 0: none, then
 * that of the code outside of a nested request goes on.  What it returns is for the end; NULL:
 * nothing was set. */
EPY_GIL PyObject *epy_trace_begin(epy_interp *interp, ErlNifEnv *env, ERL_NIF_TERM trace,
                                  bool nested);
EPY_GIL void epy_trace_end(epy_interp *interp, PyObject *token);

#endif
