/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Modules that do not go with the mode: the C side of python/erlang/_compat.py and of
 * docs/decisions/0006-modules-that-refuse.md.
 *
 * In a sub-interpreter the import of an extension module first has the main interpreter
 * look at it, on a thread of its own, and tells when it refused all the same.  A request
 * whose module met that, before anything of it was called, moves to the main interpreter,
 * and so do all later calls of that module (epy_route.h).
 */
#ifndef EPY_COMPAT_H
#define EPY_COMPAT_H

#include "epy_interp.h"

/* Starts the thread that looks; once, when the main interpreter is there. */
int epy_compat_start(epy_interp *main);

/* Prepares an interpreter; the last part of its set-up. */
EPY_GIL int epy_compat_install(epy_interp *interp);

/* Around the search for what is to be called, on an executor. */
EPY_GIL void epy_compat_begin(void);

/* The search failed with the exception that is set: was it that a module refused, so that
 * the request is to move?  Marks the module then. */
EPY_GIL bool epy_compat_is_refused(epy_interp *interp, ERL_NIF_TERM module);

/* Does code that begins with imports meet a module that refuses?  Does them in advance, which
 * changes nothing; -1 with an exception set when one fails for another reason. */
EPY_GIL int epy_compat_imports_refuse(epy_interp *interp, PyObject *source);

/* What _erlang offers to _compat.py. */
EPY_GIL EPY_NEWREF PyObject *epy_compat_look_first(PyObject *name, PyObject *path);
EPY_GIL EPY_NEWREF PyObject *epy_compat_refused(PyObject *name);
EPY_GIL EPY_NEWREF PyObject *epy_compat_gil_enabled(PyObject *name);

/* Lists of binaries. */
EPY_ANY ERL_NIF_TERM epy_compat_refused_modules(ErlNifEnv *env);
EPY_ANY ERL_NIF_TERM epy_compat_gil_enablers(ErlNifEnv *env);

#endif
