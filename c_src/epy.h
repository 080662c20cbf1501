/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every file of the NIF shares: the headers, in the order that they need,
 * the markers of contracts, the error codes, and the types by name.
 */
#ifndef EPY_H
#define EPY_H

#include <config.h>

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <erl_nif.h>

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Markers of a prototype's contract.  They expand to nothing. */
#define EPY_GIL      /* the calling thread is attached to the interpreter concerned */
#define EPY_NOGIL    /* the calling thread is not attached to any interpreter */
#define EPY_ANY      /* any thread; never waits (R1) */
#define EPY_NEWREF   /* the result is a new reference, or NULL with an exception set */
#define EPY_BORROWED /* the result is borrowed, or NULL with an exception set */

/* Error codes of functions that do not report by a Python exception. */
enum {
    EPY_OK = 0,
    EPY_ENOMEM = -1,
    EPY_ESTATE = -2,  /* not running, or not any more */
    EPY_ETHREAD = -3, /* a thread could not be started */
    EPY_EPYTHON = -4, /* Python failed; the text says how */
};

typedef struct epy_interp epy_interp;
typedef struct epy_group epy_group;
typedef struct epy_pool epy_pool;
typedef struct epy_executor epy_executor;
typedef struct epy_request epy_request;
typedef struct epy_namespace epy_namespace;

/* The rules of README.md, checked in a build with --enable-debug. */
#ifdef EPY_DEBUG
#define EPY_ASSERT(rule, condition)                                                         \
    ((condition) ? (void)0                                                                  \
                 : Py_FatalError("erlang_python: rule " #rule " is broken: " #condition))
#else
#define EPY_ASSERT(rule, condition) ((void)(0 && (condition)))
#endif

#define EPY_CONTAINER(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* Python 3.9 lacks these. */
#if PY_VERSION_HEX < 0x030A0000
static inline PyObject *epy_newref(PyObject *o)
{
    Py_INCREF(o);
    return o;
}
#define Py_NewRef(o) epy_newref((PyObject *)(o))
static inline int PyModule_AddObjectRef(PyObject *m, const char *name, PyObject *value)
{
    Py_XINCREF(value);
    int r = PyModule_AddObject(m, name, value);
    if (r < 0)
        Py_XDECREF(value);
    return r;
}
#endif

#endif
