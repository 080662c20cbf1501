/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From terms to Python objects.  See epy_convert.h.
 *
 * The containers that are open stand on a stack, the innermost on top.  Each round fills
 * the top one until it meets another container, which is opened on top of it, or is full,
 * when it becomes a value of the one below.
 */
#include "epy_convert.h"

#include "epy_buffer.h"
#include "epy_handle.h"
#include "epy_request.h"
#include "epy_term.h"
#include "epy_types.h"

#include <string.h>

#define KEY_DEPTH 16  /* Python hashes and compares keys by recursion */
#define KEYS_KEPT 128 /* a power of two */
#define KEY_PLACES 4  /* of each key */
#define KEY_KEPT_MAX 32 /* bytes */

typedef enum kind { LIST, TUPLE, MAP } kind;

typedef struct level {
    kind kind;
    Py_ssize_t i, n;          /* the next element of a list or tuple; of how many, or pairs */
    PyObject *object;         /* strong: what is filled */
    PyObject *decoder;        /* TUPLE: strong; makes the value of it; or NULL */
    const ERL_NIF_TERM *elements; /* TUPLE: in the environment */
    ERL_NIF_TERM rest;        /* LIST: the cells to come; MAP: the key whose value is made */
    PyObject *key;            /* MAP: strong, of that value */
    ErlNifMapIterator it;     /* MAP */
} level;

typedef struct work {
    epy_conv *c;
    epy_room levels;
    PyObject *value; /* strong: of the last container that was closed */
    unsigned maps;   /* that were opened */
    PyObject **keys; /* strong: short str that were keys, by a hash of their bytes; or NULL */
} work;

static level *top(work *w)
{
    return (level *)w->levels.items + w->levels.n - 1;
}

/* ---- scalars ---- */

static PyObject *integer(epy_conv *c, ERL_NIF_TERM term)
{
    long i;
    ErlNifUInt64 u;
    if (enif_get_long(c->env, term, &i))
        return PyLong_FromLong(i);
    if (enif_get_uint64(c->env, term, &u))
        return PyLong_FromUnsignedLongLong(u);
    return epy_bigint_topy(c, term);
}

static PyObject *atom(epy_conv *c, ERL_NIF_TERM term)
{
    epy_name *name = epy_names_get(c->interp, term);
    if (!name)
        return NULL;
    if (c->flags & EPY_ATOM_STR && Py_TYPE(name->value) == (PyTypeObject *)c->interp->objects.atom_type)
        return Py_NewRef(name->text);
    return Py_NewRef(name->value);
}

static PyObject *text(epy_conv *c, const ErlNifBinary *bin)
{
    PyObject *o = PyUnicode_DecodeUTF8((const char *)bin->data, (Py_ssize_t)bin->size, NULL);
    if (o || !PyErr_ExceptionMatches(PyExc_UnicodeDecodeError))
        return o;
    PyErr_Clear(); /* not UTF-8: bytes, as documented, or said in our words */
    if (!(c->flags & EPY_BINARY_STR))
        return PyBytes_FromStringAndSize((const char *)bin->data, (Py_ssize_t)bin->size);
    epy_conv_refuse(c, "a binary is not valid UTF-8, and str was asked for");
    return NULL;
}

static PyObject *binary(epy_conv *c, ERL_NIF_TERM term)
{
    ErlNifBinary bin;
    if (!enif_inspect_binary(c->env, term, &bin))
        return epy_term_object(c, term); /* a bitstring */
    if (c->flags & EPY_BINARY_BYTES)
        return PyBytes_FromStringAndSize((const char *)bin.data, (Py_ssize_t)bin.size);
    return text(c, &bin);
}

static PyObject *reference(epy_conv *c, ERL_NIF_TERM term)
{
    bool is;
    PyObject *object = epy_handle_object(c, term, &is);
    return is ? object : epy_term_object(c, term);
}

static PyObject *floating(epy_conv *c, ERL_NIF_TERM term)
{
    double d;
    enif_get_double(c->env, term, &d);
    return PyFloat_FromDouble(d);
}

static bool is_container(ErlNifTermType type)
{
    return type == ERL_NIF_TERM_TYPE_LIST || type == ERL_NIF_TERM_TYPE_TUPLE ||
           type == ERL_NIF_TERM_TYPE_MAP;
}

/* Of any type but those of containers. */
static PyObject *scalar(epy_conv *c, ERL_NIF_TERM term, ErlNifTermType type)
{
    switch ((int)type) {
    case ERL_NIF_TERM_TYPE_INTEGER: return integer(c, term);
    case ERL_NIF_TERM_TYPE_FLOAT: return floating(c, term);
    case ERL_NIF_TERM_TYPE_ATOM: return atom(c, term);
    case ERL_NIF_TERM_TYPE_BITSTRING: return binary(c, term);
    case ERL_NIF_TERM_TYPE_REFERENCE: return reference(c, term);
    default: return epy_term_object(c, term);
    }
}

/* Is it a number of this type, which the one before was?  It costs less to try than to ask. */
static inline bool number(epy_conv *c, ERL_NIF_TERM term, ErlNifTermType type, PyObject **value)
{
    long i;
    double d;
    if (type == ERL_NIF_TERM_TYPE_INTEGER && enif_get_long(c->env, term, &i))
        *value = PyLong_FromLong(i);
    else if (type == ERL_NIF_TERM_TYPE_FLOAT && enif_get_double(c->env, term, &d))
        *value = PyFloat_FromDouble(d);
    else
        return false;
    return true;
}

/* {bytes, B} and {buffer, B} are instructions; 0: this is none. */
static int instruction(epy_conv *c, const ERL_NIF_TERM *elements, int n, PyObject **value)
{
    ErlNifBinary bin;
    if (n != 2 || (elements[0] != epy_atom.bytes && elements[0] != epy_atom.buffer) ||
        !enif_inspect_binary(c->env, elements[1], &bin))
        return 0;
    *value = elements[0] == epy_atom.buffer
                 ? epy_buffer_view(c, elements[1])
                 : PyBytes_FromStringAndSize((const char *)bin.data, (Py_ssize_t)bin.size);
    return *value ? 1 : -1;
}

/* ---- keys of maps ---- */

/* Scalars and improper lists, and tuples of such, not too deep: what Python can hash. */
static bool is_hashable(ErlNifEnv *env, ERL_NIF_TERM term, int depth)
{
    const ERL_NIF_TERM *elements;
    int n;
    if (enif_get_tuple(env, term, &n, &elements)) {
        bool all = depth > 0;
        for (int i = 0; all && i < n; i++)
            all = is_hashable(env, elements[i], depth - 1);
        return all;
    }
    unsigned length;
    return !enif_get_list_length(env, term, &length) && !enif_is_map(env, term);
}

/* Of the length and the bytes, eight at a time; the last eight may overlap those before. */
static size_t kept_hash(const ErlNifBinary *bin)
{
    uint64_t h = bin->size, eight = 0;
    const unsigned char *data = bin->data;
    size_t i = 0;
    for (; i + 8 < bin->size; i += 8) {
        memcpy(&eight, data + i, 8);
        h = (h ^ eight) * UINT64_C(0x9E3779B97F4A7C15);
    }
    if (bin->size >= 8) {
        memcpy(&eight, data + bin->size - 8, 8);
    } else if (bin->size >= 4) {
        uint32_t first, last;
        memcpy(&first, data, 4);
        memcpy(&last, data + bin->size - 4, 4);
        eight = (uint64_t)first << 32 | last;
    } else
        for (; i < bin->size; i++)
            eight = eight << 8 | data[i];
    return ((h ^ eight) * UINT64_C(0x9E3779B97F4A7C15)) >> 40;
}

static bool is_text_of(PyObject *text, const ErlNifBinary *bin)
{
    return PyUnicode_IS_ASCII(text) && (size_t)PyUnicode_GET_LENGTH(text) == bin->size &&
           !memcmp(PyUnicode_1BYTE_DATA(text), bin->data, bin->size);
}

/* The maps of a list mostly have the same keys, of which one object each is enough: it knows
 * its hash, and is found at once. */
static PyObject *kept_text(work *w, const ErlNifBinary *bin)
{
    if (!w->keys)
        w->keys = PyMem_Calloc(KEYS_KEPT, sizeof *w->keys);
    if (!w->keys)
        return PyErr_NoMemory();
    size_t home = kept_hash(bin), i = home;
    while (i < home + KEY_PLACES && w->keys[i & (KEYS_KEPT - 1)]) {
        PyObject *kept = w->keys[i++ & (KEYS_KEPT - 1)];
        if (is_text_of(kept, bin))
            return Py_NewRef(kept);
    }
    PyObject *o = text(w->c, bin);
    if (o && PyUnicode_CheckExact(o)) {
        i = i < home + KEY_PLACES ? i : home;
        Py_XSETREF(w->keys[i & (KEYS_KEPT - 1)], Py_NewRef(o));
    }
    return o;
}

static void drop_keys(work *w)
{
    for (int i = 0; w->keys && i < KEYS_KEPT; i++)
        Py_XDECREF(w->keys[i]);
    PyMem_Free(w->keys);
}

/* A key, of any term; one that is a binary is not kept.  A container within it is a tuple. */
static PyObject *other_key(epy_conv *c, ERL_NIF_TERM term)
{
    const ERL_NIF_TERM *elements;
    int n;
    PyObject *o;
    ErlNifTermType type = enif_term_type(c->env, term);
    if (!is_container(type))
        return scalar(c, term, type);
    if (!enif_get_tuple(c->env, term, &n, &elements) || !is_hashable(c->env, term, KEY_DEPTH))
        return epy_term_object(c, term);
    if (instruction(c, elements, n, &o) != 0)
        return o;
    o = PyTuple_New(n);
    for (int i = 0; o && i < n; i++) {
        PyObject *item = other_key(c, elements[i]);
        if (item)
            PyTuple_SET_ITEM(o, i, item);
        else {
            epy_conv_at_index(c, i);
            Py_CLEAR(o);
        }
    }
    return o;
}

static PyObject *key(work *w, const level *l, ERL_NIF_TERM term)
{
    ErlNifBinary bin;
    epy_conv *c = w->c;
    if (c->flags & EPY_BINARY_BYTES || !enif_inspect_binary(c->env, term, &bin))
        return other_key(c, term);
    bool keep = w->maps > 1 && l->n <= KEYS_KEPT && bin.size <= KEY_KEPT_MAX;
    return keep ? kept_text(w, &bin) : text(c, &bin);
}

static int put_pair(epy_conv *c, PyObject *dict, PyObject *k, PyObject *value)
{
    Py_ssize_t size = PyDict_GET_SIZE(dict);
    if (PyDict_SetItem(dict, k, value) == 0)
        return PyDict_GET_SIZE(dict) > size
                   ? 0
                   : epy_conv_refuse(c, "two keys of a map are equal in Python");
    if (!PyErr_ExceptionMatches(PyExc_TypeError))
        return -1;
    PyErr_Clear(); /* of the object of a handle; said in our words, with the path */
    return epy_conv_refuse(c, "the key of a map is not hashable in Python");
}

/* ---- opening ---- */

/* A level for this object, which it steals; NULL: there is none, or no room. */
static level *push(work *w, kind what, PyObject *object)
{
    if (!object || epy_room_for(&w->levels, 1, sizeof(level)) < 0) {
        Py_XDECREF(object);
        return NULL;
    }
    w->levels.n++;
    level *l = top(w);
    l->kind = what;
    l->i = 0;
    l->object = object;
    l->decoder = l->key = NULL;
    return l;
}

/* 1: it was made at once, as an improper list is. */
static int open_list(work *w, ERL_NIF_TERM term, PyObject **value)
{
    unsigned n;
    if (enif_get_list_length(w->c->env, term, &n)) {
        level *l = push(w, LIST, PyList_New(n));
        if (!l)
            return -1;
        l->n = n;
        l->rest = term;
        return 0;
    }
    *value = epy_term_object(w->c, term);
    return *value ? 1 : -1;
}

/* The decoder that is registered for the tag, a new reference; NULL: none, or an exception. */
static PyObject *find_decoder(epy_conv *c, const ERL_NIF_TERM *elements, int n)
{
    PyObject *decoders = c->interp->objects.decoders;
    if (n == 0 || PyDict_GET_SIZE(decoders) == 0 || !enif_is_atom(c->env, elements[0]))
        return NULL;
    epy_name *name = epy_names_get(c->interp, elements[0]);
    return name ? epy_dict_get(decoders, name->text) : NULL;
}

static int open_tuple(work *w, ERL_NIF_TERM term, PyObject **value)
{
    const ERL_NIF_TERM *elements;
    int n;
    enif_get_tuple(w->c->env, term, &n, &elements);
    int r = instruction(w->c, elements, n, value);
    if (r != 0)
        return r;
    PyObject *decoder = find_decoder(w->c, elements, n);
    if (!decoder && PyErr_Occurred())
        return -1;
    int tag = decoder ? 1 : 0;
    level *l = push(w, TUPLE, PyTuple_New(n - tag));
    if (!l) {
        Py_XDECREF(decoder);
        return -1;
    }
    l->n = n - tag;
    l->elements = elements + tag;
    l->decoder = decoder;
    return 0;
}

static int open_map(work *w, ERL_NIF_TERM term)
{
    size_t n = 0;
    level *l = push(w, MAP, PyDict_New());
    if (!l)
        return -1;
    enif_get_map_size(w->c->env, term, &n);
    l->n = (Py_ssize_t)n;
    enif_map_iterator_create(w->c->env, term, &l->it, ERL_NIF_MAP_ITERATOR_FIRST);
    w->maps++;
    return 0;
}

/* 1 and *value: made at once; 0: a container was opened; -1. */
static int begin_as(work *w, ErlNifTermType type, ERL_NIF_TERM term, PyObject **value)
{
    switch ((int)type) {
    case ERL_NIF_TERM_TYPE_LIST: return open_list(w, term, value);
    case ERL_NIF_TERM_TYPE_TUPLE: return open_tuple(w, term, value);
    case ERL_NIF_TERM_TYPE_MAP: return open_map(w, term);
    default: *value = scalar(w->c, term, type); return *value ? 1 : -1;
    }
}

static int begin(work *w, ERL_NIF_TERM term, PyObject **value)
{
    return begin_as(w, enif_term_type(w->c->env, term), term, value);
}

/* ---- filling.  1: the container on top is full; 0: another was opened on top of it; -1. ---- */

static int fill_list(work *w, level *l)
{
    epy_conv *c = w->c;
    ERL_NIF_TERM head;
    ErlNifTermType type = ERL_NIF_TERM_TYPE_LIST; /* of the item before: anything but a number */
    PyObject *value;
    while (enif_get_list_cell(c->env, l->rest, &head, &l->rest)) {
        if (!number(c, head, type, &value)) {
            type = enif_term_type(c->env, head);
            int r = begin_as(w, type, head, &value);
            if (r <= 0)
                return r;
        }
        if (!value)
            return -1;
        PyList_SET_ITEM(l->object, l->i++, value);
    }
    return 1;
}

static int fill_tuple(work *w, level *l)
{
    PyObject *value;
    while (l->i < l->n) {
        int r = begin(w, l->elements[l->i], &value);
        if (r <= 0)
            return r;
        PyTuple_SET_ITEM(l->object, l->i++, value);
    }
    return 1;
}

/* The value of l->key is there; steals it. */
static int put_value(work *w, level *l, PyObject *value)
{
    PyObject *k = l->key;
    int r = put_pair(w->c, l->object, k, value);
    if (r < 0)
        epy_conv_at_pair(w->c, epy_atom.key, l->rest);
    l->key = NULL;
    Py_DECREF(k);
    Py_DECREF(value);
    return r;
}

static int fill_map(work *w, level *l)
{
    ERL_NIF_TERM term;
    PyObject *value;
    while (enif_map_iterator_get_pair(w->c->env, &l->it, &l->rest, &term)) {
        enif_map_iterator_next(w->c->env, &l->it);
        l->key = key(w, l, l->rest);
        if (!l->key) {
            epy_conv_at_pair(w->c, epy_atom.key, l->rest);
            return -1;
        }
        int r = begin(w, term, &value);
        if (r <= 0)
            return r;
        if (put_value(w, l, value) < 0)
            return -1;
    }
    return 1;
}

static int fill(work *w)
{
    level *l = top(w);
    switch (l->kind) {
    case LIST: return fill_list(w, l);
    case TUPLE: return fill_tuple(w, l);
    default: return fill_map(w, l);
    }
}

/* The value of a container that was closed goes to the one below; steals it. */
static int take(work *w, PyObject *value)
{
    level *l = top(w);
    if (l->kind == MAP)
        return put_value(w, l, value);
    if (l->kind == LIST)
        PyList_SET_ITEM(l->object, l->i++, value);
    else
        PyTuple_SET_ITEM(l->object, l->i++, value);
    return 0;
}

static void clear(work *w, level *l)
{
    if (l->kind == MAP)
        enif_map_iterator_destroy(w->c->env, &l->it);
    Py_CLEAR(l->object);
    Py_CLEAR(l->decoder);
    Py_CLEAR(l->key);
}

/* The container on top is full, and becomes the value. */
static int finish(work *w)
{
    level *l = top(w);
    w->value = l->decoder ? PyObject_CallObject(l->decoder, l->object) : Py_NewRef(l->object);
    if (w->value) { /* else its place is still to be told */
        clear(w, l);
        w->levels.n--;
    }
    return w->value ? 0 : -1;
}

/* After a failure: what was made is dropped, and the path to the value told. */
static void unwind(work *w)
{
    for (; w->levels.n > 0; w->levels.n--) {
        level *l = top(w);
        if (l->kind != MAP)
            epy_conv_at_index(w->c, l->i + (l->decoder ? 1 : 0));
        else if (l->key) /* else it was the key, and its place is told */
            epy_conv_at_pair(w->c, epy_atom.value, l->rest);
        clear(w, l);
    }
}

static int run(work *w)
{
    while (w->levels.n > 0) {
        int r = fill(w);
        if (r < 0 || (r == 1 && finish(w) < 0))
            return -1;
        if (r == 1 && w->levels.n > 0 && take(w, w->value) < 0)
            return -1;
    }
    return 0;
}

PyObject *epy_topy_text(const void *data, size_t size)
{
    epy_conv c = {.flags = 0}; /* which refuses nothing */
    ErlNifBinary bin = {.data = (unsigned char *)data, .size = size};
    return text(&c, &bin);
}

PyObject *epy_topy(epy_conv *c, ERL_NIF_TERM term)
{
    level few[8];
    work w = {.c = c, .levels = EPY_ROOM(few)};
    int r = begin(&w, term, &w.value);
    if (r == 0)
        r = run(&w);
    if (r < 0) {
        unwind(&w);
        w.value = NULL;
    }
    drop_keys(&w);
    epy_room_free(&w.levels);
    return w.value;
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
