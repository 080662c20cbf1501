/* SPDX-License-Identifier: Apache-2.0 */
/* From terms to Python objects.  See epy_convert.h. */
#include "epy_convert.h"

#include "epy_executor.h"
#include "epy_types.h"

#include <stdarg.h>

/* ---- errors and depth, for both directions ---- */

void epy_conv_init(epy_conv *c, epy_interp *interp, ErlNifEnv *env)
{
    *c = (epy_conv){.interp = interp, .env = env, .where = enif_make_list(env, 0)};
}

int epy_conv_refuse(epy_conv *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    PyErr_FormatV(c->interp->objects.conversion_error, format, args);
    va_end(args);
    c->refused = true;
    return -1;
}

void epy_conv_at(epy_conv *c, ERL_NIF_TERM step)
{
    if (c->refused)
        c->where = enif_make_list_cell(c->env, step, c->where);
}

void epy_conv_at_index(epy_conv *c, Py_ssize_t zero_based)
{
    epy_conv_at(c, enif_make_int64(c->env, zero_based + 1));
}

void epy_conv_at_pair(epy_conv *c, ERL_NIF_TERM kind, ERL_NIF_TERM key)
{
    epy_conv_at(c, enif_make_tuple2(c->env, kind, key));
}

int epy_conv_enter(epy_conv *c)
{
    if (++c->depth <= EPY_DEPTH_MAX && epy_stack_left() > EPY_STACK_LAST)
        return 0;
    c->depth--;
    c->no_stack = c->depth < EPY_DEPTH_MAX;
    if (c->no_stack)
        return epy_conv_refuse(c, "the value is nested too deeply for what is left of the stack");
    return epy_conv_refuse(c, "the value is nested more than %d levels deep", EPY_DEPTH_MAX);
}

/* ---- scalars ---- */

static PyObject *integer(epy_conv *c, ERL_NIF_TERM term)
{
    ErlNifSInt64 i;
    ErlNifUInt64 u;
    if (enif_get_int64(c->env, term, &i))
        return PyLong_FromLongLong(i);
    if (enif_get_uint64(c->env, term, &u))
        return PyLong_FromUnsignedLongLong(u);
    return epy_bigint_topy(c, term);
}

static PyObject *atom(epy_conv *c, ERL_NIF_TERM term)
{
    epy_name *name = epy_names_get(c->interp, term);
    return name ? Py_NewRef(name->value) : NULL;
}

static PyObject *binary(epy_conv *c, ERL_NIF_TERM term)
{
    ErlNifBinary bin;
    if (!enif_inspect_binary(c->env, term, &bin)) {
        epy_conv_refuse(c, "a bitstring whose size is not a multiple of 8 has no Python value");
        return NULL;
    }
    PyObject *text = PyUnicode_DecodeUTF8((const char *)bin.data, (Py_ssize_t)bin.size, NULL);
    if (text || !PyErr_ExceptionMatches(PyExc_UnicodeDecodeError))
        return text;
    PyErr_Clear(); /* not UTF-8: bytes, as documented */
    return PyBytes_FromStringAndSize((const char *)bin.data, (Py_ssize_t)bin.size);
}

/* ---- containers ---- */

static PyObject *list(epy_conv *c, ERL_NIF_TERM term)
{
    unsigned n;
    ERL_NIF_TERM head;
    if (!enif_get_list_length(c->env, term, &n)) {
        epy_conv_refuse(c, "an improper list has no Python value");
        return NULL;
    }
    PyObject *l = PyList_New(n);
    for (unsigned i = 0; l && i < n; i++) {
        enif_get_list_cell(c->env, term, &head, &term);
        PyObject *item = epy_topy(c, head);
        if (item)
            PyList_SET_ITEM(l, i, item);
        else {
            epy_conv_at_index(c, i);
            Py_CLEAR(l);
        }
    }
    return l;
}

/* {bytes, Bin} always makes bytes; NULL without an exception: not that tuple. */
static PyObject *forced_bytes(epy_conv *c, const ERL_NIF_TERM *elements, int n)
{
    ErlNifBinary bin;
    if (n != 2 || elements[0] != epy_atom.bytes ||
        !enif_inspect_binary(c->env, elements[1], &bin))
        return NULL;
    return PyBytes_FromStringAndSize((const char *)bin.data, (Py_ssize_t)bin.size);
}

static PyObject *tuple(epy_conv *c, ERL_NIF_TERM term)
{
    const ERL_NIF_TERM *elements;
    int n;
    enif_get_tuple(c->env, term, &n, &elements);
    PyObject *t = forced_bytes(c, elements, n);
    if (t || PyErr_Occurred())
        return t;
    t = PyTuple_New(n);
    for (int i = 0; t && i < n; i++) {
        PyObject *item = epy_topy(c, elements[i]);
        if (item)
            PyTuple_SET_ITEM(t, i, item);
        else {
            epy_conv_at_index(c, i);
            Py_CLEAR(t);
        }
    }
    return t;
}

static int put_pair(epy_conv *c, PyObject *dict, ERL_NIF_TERM key, ERL_NIF_TERM value)
{
    int r = -1;
    PyObject *v = NULL, *k = epy_topy(c, key);
    if (!k) {
        epy_conv_at_pair(c, epy_atom.key, key);
        return -1;
    }
    Py_ssize_t size = PyDict_GET_SIZE(dict);
    v = epy_topy(c, value);
    if (!v) {
        epy_conv_at_pair(c, epy_atom.value, key);
        goto done;
    }
    r = PyDict_SetItem(dict, k, v);
    if (r < 0 && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear(); /* said in our words, with the path */
        epy_conv_refuse(c, "a map key that contains a list or a map is not hashable in Python");
    } else if (r == 0 && PyDict_GET_SIZE(dict) == size)
        r = epy_conv_refuse(c, "two keys of a map are equal in Python");
    if (r < 0)
        epy_conv_at_pair(c, epy_atom.key, key);
done:
    Py_DECREF(k);
    Py_XDECREF(v);
    return r;
}

static PyObject *map(epy_conv *c, ERL_NIF_TERM term)
{
    ErlNifMapIterator it;
    ERL_NIF_TERM key, value;
    PyObject *dict = PyDict_New();
    if (!dict)
        return NULL;
    enif_map_iterator_create(c->env, term, &it, ERL_NIF_MAP_ITERATOR_FIRST);
    while (dict && enif_map_iterator_get_pair(c->env, &it, &key, &value)) {
        if (put_pair(c, dict, key, value) < 0)
            Py_CLEAR(dict);
        enif_map_iterator_next(c->env, &it);
    }
    enif_map_iterator_destroy(c->env, &it);
    return dict;
}

static PyObject *nested(epy_conv *c, ERL_NIF_TERM term,
                        PyObject *(*convert)(epy_conv *c, ERL_NIF_TERM term))
{
    if (epy_conv_enter(c) < 0)
        return NULL;
    PyObject *object = convert(c, term);
    epy_conv_leave(c);
    return object;
}

static PyObject *refuse(epy_conv *c, const char *what)
{
    epy_conv_refuse(c, "%s has no Python value", what);
    return NULL;
}

PyObject *epy_topy(epy_conv *c, ERL_NIF_TERM term)
{
    double d;
    switch (enif_term_type(c->env, term)) {
    case ERL_NIF_TERM_TYPE_INTEGER: return integer(c, term);
    case ERL_NIF_TERM_TYPE_FLOAT:
        enif_get_double(c->env, term, &d);
        return PyFloat_FromDouble(d);
    case ERL_NIF_TERM_TYPE_ATOM: return atom(c, term);
    case ERL_NIF_TERM_TYPE_BITSTRING: return binary(c, term);
    case ERL_NIF_TERM_TYPE_LIST: return nested(c, term, list);
    case ERL_NIF_TERM_TYPE_TUPLE: return nested(c, term, tuple);
    case ERL_NIF_TERM_TYPE_MAP: return nested(c, term, map);
    case ERL_NIF_TERM_TYPE_FUN: return refuse(c, "a fun");
    case ERL_NIF_TERM_TYPE_PID: return refuse(c, "a pid");
    case ERL_NIF_TERM_TYPE_PORT: return refuse(c, "a port");
    case ERL_NIF_TERM_TYPE_REFERENCE: return refuse(c, "a reference");
    default: return refuse(c, "a term of an unknown type");
    }
}

/* ---- names ---- */

PyObject *epy_topy_name(epy_conv *c, ERL_NIF_TERM term, const char *what)
{
    ErlNifBinary bin;
    if (enif_is_atom(c->env, term)) {
        epy_name *name = epy_names_get(c->interp, term);
        return name ? Py_NewRef(name->text) : NULL;
    }
    if (enif_inspect_binary(c->env, term, &bin))
        return PyUnicode_DecodeUTF8((const char *)bin.data, (Py_ssize_t)bin.size, NULL);
    epy_conv_refuse(c, "%s must be an atom, a binary or a string", what);
    return NULL;
}
