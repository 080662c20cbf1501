/* SPDX-License-Identifier: Apache-2.0 */
/* From Python objects to terms.  See epy_convert.h. */
#include "epy_convert.h"

#include "epy_map.h"
#include "epy_types.h"

#include <math.h>
#include <string.h>

/* Terms on their way into a list, tuple or map: on the stack while they are few. */
typedef struct terms {
    ERL_NIF_TERM *items;
    Py_ssize_t n, room;
    ERL_NIF_TERM few[16];
} terms;

static int terms_init(terms *t, Py_ssize_t room)
{
    t->n = 0;
    t->room = room;
    t->items = t->few;
    if (room > (Py_ssize_t)(sizeof t->few / sizeof t->few[0])) {
        t->items = PyMem_New(ERL_NIF_TERM, (size_t)room);
        if (!t->items) {
            PyErr_NoMemory();
            return -1;
        }
    }
    return 0;
}

static void terms_fini(terms *t)
{
    if (t->items != t->few)
        PyMem_Free(t->items);
}

/* ---- scalars ---- */

static int bytes(epy_conv *c, const char *data, Py_ssize_t size, ERL_NIF_TERM *term)
{
    unsigned char *p = enif_make_new_binary(c->env, (size_t)size, term);
    if (!p) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(p, data, (size_t)size);
    return 0;
}

static int text(epy_conv *c, PyObject *o, ERL_NIF_TERM *term)
{
    Py_ssize_t size;
    if (Py_TYPE(o) == (PyTypeObject *)c->interp->objects.atom_type) {
        *term = ((epy_atom_object *)o)->atom;
        return 0;
    }
    const char *utf8 = PyUnicode_AsUTF8AndSize(o, &size);
    if (utf8)
        return bytes(c, utf8, size, term);
    if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
        return -1;
    PyErr_Clear(); /* said in our words, with the path */
    return epy_conv_refuse(c, "a str with a lone surrogate is not UTF-8");
}

static int integer(epy_conv *c, PyObject *o, ERL_NIF_TERM *term)
{
    int overflow;
    long long i = PyLong_AsLongLongAndOverflow(o, &overflow);
    if (overflow)
        return epy_bigint_toterm(c, o, term);
    if (i == -1 && PyErr_Occurred())
        return -1;
    *term = enif_make_int64(c->env, i);
    return 0;
}

static int floating(epy_conv *c, PyObject *o, ERL_NIF_TERM *term)
{
    double d = PyFloat_AS_DOUBLE(o);
    if (isfinite(d))
        *term = enif_make_double(c->env, d);
    else if (isnan(d))
        *term = epy_atom.nan;
    else
        *term = d > 0 ? epy_atom.infinity : epy_atom.neg_infinity;
    return 0;
}

/* ---- containers ---- */

static int convert_items(epy_conv *c, terms *t, PyObject *(*get)(PyObject *, Py_ssize_t),
                         PyObject *o)
{
    while (t->n < t->room) {
        PyObject *item = get(o, t->n);
        if (!item)
            return 0; /* the list became shorter */
        int r = epy_toterm(c, item, &t->items[t->n]);
        Py_DECREF(item);
        if (r < 0) {
            epy_conv_at_index(c, t->n);
            return -1;
        }
        t->n++;
    }
    return 0;
}

static int list(epy_conv *c, PyObject *o, ERL_NIF_TERM *term)
{
    terms t;
    if (terms_init(&t, PyList_GET_SIZE(o)) < 0)
        return -1;
    int r = convert_items(c, &t, epy_list_item, o);
    if (r == 0)
        *term = enif_make_list_from_array(c->env, t.items, (unsigned)t.n);
    terms_fini(&t);
    return r;
}

static PyObject *tuple_item(PyObject *o, Py_ssize_t i)
{
    return Py_NewRef(PyTuple_GET_ITEM(o, i));
}

static int tuple(epy_conv *c, PyObject *o, ERL_NIF_TERM *term)
{
    terms t;
    if (PyTuple_GET_SIZE(o) > 0xFFFFFF)
        return epy_conv_refuse(c, "a tuple of more than 16,777,215 elements has no Erlang term");
    if (terms_init(&t, PyTuple_GET_SIZE(o)) < 0)
        return -1;
    int r = convert_items(c, &t, tuple_item, o);
    if (r == 0)
        *term = enif_make_tuple_from_array(c->env, t.items, (unsigned)t.n);
    terms_fini(&t);
    return r;
}

static int set(epy_conv *c, PyObject *o, ERL_NIF_TERM *term)
{
    PyObject *l = PySequence_List(o);
    if (!l)
        return -1;
    int r = list(c, l, term);
    Py_DECREF(l);
    return r;
}

typedef struct pairs {
    epy_conv *c;
    terms keys, values;
} pairs;

static int visit_pair(void *arg, PyObject *key, PyObject *value)
{
    pairs *p = arg;
    if (p->keys.n == p->keys.room)
        return 0; /* another thread added it after the conversion began */
    ERL_NIF_TERM *k = &p->keys.items[p->keys.n], *v = &p->values.items[p->keys.n];
    if (epy_toterm(p->c, key, k) < 0) {
        epy_conv_at(p->c, epy_atom.key);
        return -1;
    }
    if (epy_toterm(p->c, value, v) < 0) {
        epy_conv_at_pair(p->c, epy_atom.value, *k);
        return -1;
    }
    p->keys.n++;
    return 0;
}

static int dict(epy_conv *c, PyObject *o, ERL_NIF_TERM *term)
{
    pairs p = {.c = c};
    Py_ssize_t size = PyDict_GET_SIZE(o);
    int r = -1;
    if (terms_init(&p.keys, size) < 0)
        return -1;
    if (terms_init(&p.values, size) < 0)
        goto keys;
    r = epy_dict_visit(o, visit_pair, &p);
    if (r == 0 && !epy_map_make(c->env, p.keys.items, p.values.items, (size_t)p.keys.n, term))
        r = epy_conv_refuse(c, "two keys of a dict are equal in Erlang");
    terms_fini(&p.values);
keys:
    terms_fini(&p.keys);
    return r;
}

static int nested(epy_conv *c, PyObject *o, ERL_NIF_TERM *term,
                  int (*convert)(epy_conv *, PyObject *, ERL_NIF_TERM *))
{
    if (epy_conv_enter(c) < 0)
        return -1;
    int r = convert(c, o, term);
    epy_conv_leave(c);
    return r;
}

int epy_toterm(epy_conv *c, PyObject *o, ERL_NIF_TERM *term)
{
    if (o == Py_None || o == Py_True || o == Py_False) {
        *term = o == Py_None ? epy_atom.none : o == Py_True ? epy_atom.true_ : epy_atom.false_;
        return 0;
    }
    if (PyLong_Check(o))
        return integer(c, o, term);
    if (PyUnicode_Check(o))
        return text(c, o, term);
    if (PyFloat_Check(o))
        return floating(c, o, term);
    if (PyBytes_Check(o))
        return bytes(c, PyBytes_AS_STRING(o), PyBytes_GET_SIZE(o), term);
    if (PyTuple_Check(o))
        return nested(c, o, term, tuple);
    if (PyList_Check(o))
        return nested(c, o, term, list);
    if (PyDict_Check(o))
        return nested(c, o, term, dict);
    if (PyAnySet_Check(o))
        return nested(c, o, term, set);
    return epy_conv_refuse(c, "an object of type '%.200s' has no Erlang term",
                           Py_TYPE(o)->tp_name);
}
