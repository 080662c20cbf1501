/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A handle: an Erlang reference that keeps one Python object alive.  It is a NIF
 * resource, so it goes when Erlang forgets it, in whatever process; the object is
 * given up by the reaper of its interpreter then (R5).
 *
 * Two terms for one object are two handles.  A handle in the arguments of a request is
 * that very object again, in its interpreter, and an error in any other.
 */
#ifndef EPY_HANDLE_H
#define EPY_HANDLE_H

#include "epy_convert.h"
#include "epy_group.h"

int epy_handle_open(ErlNifEnv *env); /* registers the resource type */

/* A new handle in c->env, whose calls go where the calling thread is. */
EPY_GIL ERL_NIF_TERM epy_handle_term(epy_conv *c, PyObject *object);

/* A handle of this node, whose object can be used. */
EPY_ANY bool epy_handle_is(ErlNifEnv *env, ERL_NIF_TERM term);

/* The object of a handle; NULL with *is false when the term is none, and with *is true and
 * ConversionError set when its object is not of this interpreter. */
EPY_GIL EPY_NEWREF PyObject *epy_handle_object(epy_conv *c, ERL_NIF_TERM term, bool *is);

/* Where calls on the object go: where it was made, or elsewhere in its interpreter.  NULL
 * when the term is no handle, or its interpreter has ended. */
EPY_ANY epy_group *epy_handle_group(ErlNifEnv *env, ERL_NIF_TERM term, unsigned *life);

#endif
