/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The namespace of one Erlang process: the interpreter that it is bound to and
 * the dictionary in which its exec and eval run.  A NIF resource that the
 * process holds in its dictionary, so that it goes when the process goes.
 */
#ifndef EPY_NAMESPACE_H
#define EPY_NAMESPACE_H

#include "epy.h"

struct epy_namespace {
    epy_interp *interp;          /* constant */
    _Atomic(PyObject *) globals; /* strong, or NULL; made by the first who needs it */
};

int epy_namespace_open(ErlNifEnv *env); /* registers the resource type */

/* A term that holds a new namespace, bound to an interpreter. */
EPY_ANY ERL_NIF_TERM epy_namespace_make(ErlNifEnv *env, epy_interp *interp);

EPY_ANY epy_namespace *epy_namespace_from(ErlNifEnv *env, ERL_NIF_TERM term); /* borrowed */
EPY_ANY void epy_namespace_keep(epy_namespace *ns);
EPY_ANY void epy_namespace_put(epy_namespace *ns);

/* The dictionary, made if need be. */
EPY_GIL EPY_BORROWED PyObject *epy_namespace_globals(epy_namespace *ns);

#endif
