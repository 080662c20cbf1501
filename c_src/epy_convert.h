/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Conversion between terms and Python objects (R4: equal, or an error).
 *
 * A failed conversion raises erlang.ConversionError and collects the path to
 * the value: each level that the error passes puts its step in front of
 * `where`.  A step is the 1-based index in a list or tuple, {key, K} for a
 * map's key, {value, K} for the value at key K.
 */
#ifndef EPY_CONVERT_H
#define EPY_CONVERT_H

#include "epy_interp.h"

/* Deeper values are refused: each level takes some of the executor's stack. */
#define EPY_DEPTH_MAX 10000

typedef struct epy_conv {
    epy_interp *interp; /* attached to */
    ErlNifEnv *env;     /* where terms are read or made */
    int depth;          /* levels that are open now */
    bool no_stack;      /* it refused for want of stack, not for what the value is */
    bool refused;       /* the exception that is set is a ConversionError of ours */
    ERL_NIF_TERM where; /* list of steps; [] until refused */
} epy_conv;

void epy_conv_init(epy_conv *c, epy_interp *interp, ErlNifEnv *env);

/* Sets ConversionError; returns -1 for the caller to return. */
EPY_GIL int epy_conv_refuse(epy_conv *c, const char *format, ...);

/* Puts a step in front of the path, if the error is one of conversion. */
EPY_GIL void epy_conv_at(epy_conv *c, ERL_NIF_TERM step);
EPY_GIL void epy_conv_at_index(epy_conv *c, Py_ssize_t zero_based);
EPY_GIL void epy_conv_at_pair(epy_conv *c, ERL_NIF_TERM kind, ERL_NIF_TERM key);

/* One level deeper; -1 with the error set when that is too deep. */
EPY_GIL int epy_conv_enter(epy_conv *c);
static inline void epy_conv_leave(epy_conv *c)
{
    c->depth--;
}

EPY_GIL EPY_NEWREF PyObject *epy_topy(epy_conv *c, ERL_NIF_TERM term);

/* 0 and *term, or -1 with an exception set. */
EPY_GIL int epy_toterm(epy_conv *c, PyObject *object, ERL_NIF_TERM *term);

/* epy_bigint.c: integers beyond 64 bits, by way of the external term format. */
EPY_GIL EPY_NEWREF PyObject *epy_bigint_topy(epy_conv *c, ERL_NIF_TERM term);
EPY_GIL int epy_bigint_toterm(epy_conv *c, PyObject *integer, ERL_NIF_TERM *term);

/* A str, be it of an atom, a binary or a list of characters: names of modules,
 * functions, keywords.  `what` stands in the error. */
EPY_GIL EPY_NEWREF PyObject *epy_topy_name(epy_conv *c, ERL_NIF_TERM term, const char *what);

#endif
