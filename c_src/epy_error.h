/* SPDX-License-Identifier: Apache-2.0 */
/* The one funnel from a Python exception to an Erlang error term. */
#ifndef EPY_ERROR_H
#define EPY_ERROR_H

#include "epy_convert.h"

/* Takes the exception that is set and makes its reason in c->env:
 *   {conversion, What, [Root | Where]}  when c refused a value; root may be 0
 *   #{type, message, ...}               with EPY_ERRORS_FULL in c->flags
 *   {Type, Message}                     else
 * No exception is set afterwards; *taken is it, a new reference. */
EPY_GIL ERL_NIF_TERM epy_error_take(epy_conv *c, ERL_NIF_TERM root, PyObject **taken);

/* Are these the type and message that Erlang has of this exception? */
EPY_GIL bool epy_error_is(ErlNifEnv *env, PyObject *exception, ERL_NIF_TERM type,
                          ERL_NIF_TERM text);

/* Sets an exception that was taken before, with its traceback. */
EPY_GIL void epy_error_raise_again(PyObject *exception);

/* Takes the exception that is set, normalized, with its traceback. */
EPY_GIL PyObject *epy_error_fetch(void);

/* The atom of an exception's type, or of the nearest base that has one (R7). */
EPY_GIL ERL_NIF_TERM epy_error_type(ErlNifEnv *env, PyObject *exception);

/* A binary of these bytes. */
EPY_ANY ERL_NIF_TERM epy_binary_term(ErlNifEnv *env, const char *data, size_t size);

/* {error, Reason} */
EPY_ANY ERL_NIF_TERM epy_error_term(ErlNifEnv *env, ERL_NIF_TERM reason);

/* Sets erlang.Error(class, reason, stack) from an Erlang {Class, Reason, Stack}. */
EPY_GIL void epy_error_raise(epy_conv *c, ERL_NIF_TERM class_reason_stack);

#endif
