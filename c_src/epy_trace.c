/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_trace.h.  A context that cannot be had, for want of memory, is none: that must not
 * fail the call. */
#include "epy_trace.h"

#include "epy_error.h"

#define TRACEPARENT_MAX 256 /* bytes; version 00 has 55 */

static atomic_bool enabled;

void epy_trace_enable(bool on)
{
    atomic_store(&enabled, on);
}

bool epy_trace_enabled(void)
{
    return atomic_load_explicit(&enabled, memory_order_relaxed);
}

int epy_trace_init(PyObject *module, epy_objects *objects)
{
    objects->trace_context = PyContextVar_New("erlang_trace_context", Py_None);
    return objects->trace_context
               ? PyModule_AddObjectRef(module, "trace_context", objects->trace_context)
               : -1;
}

/* The text of a context: a new reference, or NULL if there is none. */
static PyObject *text_of(PyObject *context)
{
    if (context == Py_None)
        return NULL;
    PyObject *text = PyUnicode_Check(context)
                         ? Py_NewRef(context)
                         : PyObject_GetAttrString(context, "traceparent");
    if (text && !PyUnicode_Check(text))
        Py_CLEAR(text);
    if (!text)
        PyErr_Clear(); /* not such an object: somebody else has set the variable */
    return text;
}

ERL_NIF_TERM epy_trace_current(epy_interp *interp, ErlNifEnv *env)
{
    PyObject *context = NULL;
    Py_ssize_t size;
    ERL_NIF_TERM term = 0;
    if (!epy_trace_enabled() || PyContextVar_Get(interp->objects.trace_context, NULL, &context) < 0 ||
        !context) {
        PyErr_Clear(); /* no memory */
        return 0;
    }
    PyObject *text = text_of(context);
    const char *utf8 = text ? PyUnicode_AsUTF8AndSize(text, &size) : NULL;
    if (utf8 && size <= TRACEPARENT_MAX)
        term = epy_binary_term(env, utf8, (size_t)size);
    if (!utf8)
        PyErr_Clear(); /* no memory, or no text that UTF-8 can hold */
    Py_XDECREF(text);
    Py_DECREF(context);
    return term;
}

static PyObject *text_from(ErlNifEnv *env, ERL_NIF_TERM trace)
{
    ErlNifBinary bin;
    return trace && enif_inspect_binary(env, trace, &bin) && bin.size <= TRACEPARENT_MAX
               ? PyUnicode_DecodeASCII((const char *)bin.data, (Py_ssize_t)bin.size, "replace")
               : Py_NewRef(Py_None);
}

PyObject *epy_trace_begin(epy_interp *interp, ErlNifEnv *env, ERL_NIF_TERM trace, bool nested)
{
    if (!epy_trace_enabled() || (nested && !trace))
        return NULL;
    PyObject *text = text_from(env, trace);
    PyObject *token = text ? PyContextVar_Set(interp->objects.trace_context, text) : NULL;
    Py_XDECREF(text);
    if (!token)
        PyErr_Clear(); /* no memory */
    return token;
}

void epy_trace_end(epy_interp *interp, PyObject *token)
{
    if (!token)
        return;
    if (PyContextVar_Reset(interp->objects.trace_context, token) < 0)
        PyErr_Clear(); /* the code has left the context in which it was set */
    Py_DECREF(token);
}
