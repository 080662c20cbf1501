/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See epy_code.h.  Compiling `1+1` takes some fifty times as long as running
 * it, so the code is kept, keyed by its source.  A full cache is emptied: what
 * is in use comes back at once, and what was built from changing text goes.
 */
#include "epy_code.h"

#define CACHE_ENTRIES 512
#define CACHE_SOURCE_MAX 4096 /* longer sources are not kept */

static PyObject *compile(epy_interp *interp, PyObject *source, bool exec)
{
    return PyObject_CallFunction(interp->objects.compile, "OssiO", source, "<erlang>",
                                 exec ? "exec" : "eval", 0, Py_True);
}

static int keep(PyObject *cache, PyObject *source, PyObject *code)
{
    if (PyUnicode_GET_LENGTH(source) > CACHE_SOURCE_MAX)
        return 0;
    if (PyDict_GET_SIZE(cache) >= CACHE_ENTRIES)
        PyDict_Clear(cache);
    return PyDict_SetItem(cache, source, code);
}

PyObject *epy_code_get(epy_interp *interp, const char *utf8, size_t size, bool exec)
{
    PyObject *cache = exec ? interp->objects.exec_cache : interp->objects.eval_cache;
    PyObject *code = NULL;
    /* As the built-in eval() does. */
    while (!exec && size > 0 && (*utf8 == ' ' || *utf8 == '\t')) {
        utf8++;
        size--;
    }
    PyObject *source = PyUnicode_DecodeUTF8(utf8, (Py_ssize_t)size, NULL);
    if (!source)
        return NULL;
    code = epy_dict_get(cache, source);
    if (!code && !PyErr_Occurred()) {
        code = compile(interp, source, exec);
        if (code && keep(cache, source, code) < 0)
            Py_CLEAR(code);
    }
    Py_DECREF(source);
    return code;
}
