/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From Python objects to terms.  See epy_convert.h.
 *
 * The containers that are open stand on a stack, the innermost on top, and the terms that
 * were made of their items on another.  When a container is through, its terms become one.
 *
 * Where a large map cannot be made at once (epy_map), what its steps leave behind would go
 * to the process that gets it, and be ten times as much as the map.  So such a map and all
 * in it are made in an environment of their own, and copied from there when it is whole.
 *
 * The contents of a dict are taken all at once, as another thread or an encoder may change
 * it meanwhile.  Lists are read item by item: one that becomes shorter ends there.
 */
#include "epy_convert.h"

#include "epy_buffer.h"
#include "epy_handle.h"
#include "epy_map.h"
#include "epy_mode.h"
#include "epy_request.h"
#include "epy_term.h"
#include "epy_types.h"

#include <math.h>
#include <string.h>

#define ENCODINGS_MAX 100  /* of one object by another */
#define LEVELS_MADE_MAX 10000 /* containers within each other that encoders made */
#define NEAR 32            /* levels that are looked through for a cycle one by one */
#define KEYS_KEPT 128      /* a power of two */
#define KEY_PLACES 4       /* of each key */

typedef enum kind { LIST, TUPLE, DICT } kind;

typedef struct level {
    kind kind;
    bool made;           /* an encoder made it */
    PyObject *object;    /* strong: the container */
    Py_ssize_t i, n;     /* the next item, of how many; of a dict all keys, then all values */
    size_t first_term;   /* of those made of its items */
    size_t first_object; /* DICT: of its contents */
} level;

typedef struct kept_key {
    PyObject *text; /* strong */
    ERL_NIF_TERM term;
} kept_key;

/* What is kept of the dicts before, which mostly have the same keys. */
typedef struct kept {
    epy_map_shape shape; /* of the last one */
    kept_key keys[KEYS_KEPT]; /* by a hash of their addresses, or close behind */
} kept;

typedef struct work {
    epy_conv *c;
    epy_room levels, terms, objects; /* level; ERL_NIF_TERM; PyObject *, strong */
    Py_ssize_t made;     /* levels that encoders made */
    PyObject **open;     /* hash set of the containers from level NEAR on; borrowed */
    size_t open_mask;
    unsigned dicts;      /* that were opened before keys were kept */
    kept *kept;          /* terms of c->env; or NULL */
    ErlNifEnv *outer;    /* that of the result, while a map is made in one of its own; or NULL */
    size_t outer_levels; /* those below that map */
} work;

static level *level_at(const work *w, size_t i)
{
    return (level *)w->levels.items + i;
}

static level *top(const work *w)
{
    return level_at(w, w->levels.n - 1);
}

static ERL_NIF_TERM *terms(const work *w)
{
    return w->terms.items;
}

static PyObject **objects(const work *w)
{
    return w->objects.items;
}

/* ---- scalars ---- */

int epy_toterm_bytes(epy_conv *c, const char *data, size_t size, ERL_NIF_TERM *term)
{
    epy_toterm_room(c->env);
    unsigned char *p = enif_make_new_binary(c->env, size, term);
    if (!p) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(p, data, size);
    return 0;
}

static int text_term(epy_conv *c, PyObject *o, ERL_NIF_TERM *term)
{
    Py_ssize_t size;
    const char *utf8 = PyUnicode_AsUTF8AndSize(o, &size);
    if (utf8)
        return epy_buffer_share(c, o, utf8, (size_t)size, EPY_SHARE_LARGE, term);
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

static int bytes(epy_conv *c, PyObject *o, ERL_NIF_TERM *term)
{
    return epy_buffer_share(c, o, PyBytes_AS_STRING(o), (size_t)PyBytes_GET_SIZE(o),
                            EPY_SHARE_LARGE, term);
}

static void constant(PyObject *o, ERL_NIF_TERM *term)
{
    *term = o == Py_None ? epy_atom.none : o == Py_True ? epy_atom.true_ : epy_atom.false_;
}

enum { MADE, CONTAINER, OTHER }; /* or -1 */

/* The types that stand for themselves, and no class derived from them. */
static inline int exact(epy_conv *c, PyObject *o, ERL_NIF_TERM *term)
{
    PyTypeObject *type = Py_TYPE(o);
    if (type == &PyLong_Type)
        return integer(c, o, term);
    if (type == &PyFloat_Type)
        return floating(c, o, term);
    if (type == &PyUnicode_Type)
        return text_term(c, o, term);
    if (type == &PyList_Type || type == &PyTuple_Type || type == &PyDict_Type)
        return CONTAINER;
    if (type == (PyTypeObject *)c->interp->objects.atom_type)
        *term = ((epy_atom_object *)o)->atom;
    else if (o == Py_None || o == Py_True || o == Py_False)
        constant(o, term);
    else if (type == &PyBytes_Type)
        return bytes(c, o, term);
    else
        return OTHER;
    return MADE;
}

/* ---- objects of other types ---- */

/* What erlang._codec has for this type: a callable, or None; a new reference. */
static PyObject *find_encoder(epy_conv *c, PyObject *o)
{
    const epy_objects *objects = &c->interp->objects;
    PyObject *type = (PyObject *)Py_TYPE(o);
    PyObject *encoder = epy_dict_get(objects->encoders, type);
    return encoder || PyErr_Occurred() ? encoder
                                       : PyObject_CallOneArg(objects->find_encoder, type);
}

/* As what a class is derived from; of the rest a handle. */
static int as_base(epy_conv *c, PyObject *o, ERL_NIF_TERM *term)
{
    if (PyLong_Check(o))
        return integer(c, o, term);
    if (PyUnicode_Check(o))
        return text_term(c, o, term);
    if (PyFloat_Check(o))
        return floating(c, o, term);
    if (PyBytes_Check(o))
        return bytes(c, o, term);
    if (PyTuple_Check(o) || PyList_Check(o) || PyDict_Check(o) || PyAnySet_Check(o))
        return CONTAINER;
    *term = epy_handle_term(c, o);
    return MADE;
}

/* Encodes the object, whose reference it may replace, until it is of a type that stands for
 * itself or has no encoder.  *made: there was one. */
static int other(epy_conv *c, PyObject **o, ERL_NIF_TERM *term, bool *made)
{
    for (int i = 0; i < ENCODINGS_MAX; i++) {
        int r = exact(c, *o, term);
        *made = i > 0;
        if (r != OTHER)
            return r;
        if (epy_term_get(c, *o, term) || epy_buffer_origin(c, *o, term))
            return MADE;
        PyObject *encoder = find_encoder(c, *o);
        if (!encoder || encoder == Py_None) {
            Py_XDECREF(encoder);
            return encoder ? as_base(c, *o, term) : -1;
        }
        PyObject *encoded = PyObject_CallOneArg(encoder, *o);
        Py_DECREF(encoder);
        if (!encoded)
            return -1;
        Py_SETREF(*o, encoded);
    }
    return epy_conv_refuse(c, "the encoders made of an object of type '%.200s' one that needs "
                              "encoding, %d times in a row", Py_TYPE(*o)->tp_name, ENCODINGS_MAX);
}

/* ---- cycles ---- */

static size_t slot_of(const work *w, const PyObject *o)
{
    return (size_t)((uintptr_t)o / 16 * UINT64_C(0x9E3779B97F4A7C15) >> 20) & w->open_mask;
}

static bool in_set(const work *w, const PyObject *o)
{
    size_t i = slot_of(w, o);
    while (w->open[i] && w->open[i] != o)
        i = (i + 1) & w->open_mask;
    return w->open[i] != NULL;
}

static void put_in_set(work *w, PyObject *o)
{
    size_t i = slot_of(w, o);
    while (w->open[i])
        i = (i + 1) & w->open_mask;
    w->open[i] = o;
}

/* The last that came is the first that goes, so nobody's place was found beyond it. */
static void take_from_set(work *w, const PyObject *o)
{
    size_t i = slot_of(w, o);
    while (w->open[i] != o)
        i = (i + 1) & w->open_mask;
    w->open[i] = NULL;
}

/* Room for one more, at most half full.  Filled anew in the order of the levels. */
static int grow_set(work *w)
{
    size_t n = w->levels.n - NEAR + 1, size = w->open ? (w->open_mask + 1) * 2 : 256;
    if (w->open && n <= (w->open_mask + 1) / 2)
        return 0;
    PyMem_Free(w->open);
    w->open = PyMem_Calloc(size, sizeof *w->open);
    if (!w->open) {
        PyErr_NoMemory();
        return -1;
    }
    w->open_mask = size - 1;
    for (size_t i = NEAR; i < w->levels.n; i++)
        put_in_set(w, level_at(w, i)->object);
    return 0;
}

static bool is_open(const work *w, const PyObject *o)
{
    size_t n = w->levels.n;
    for (size_t i = 0; i < n && i < NEAR; i++)
        if (level_at(w, i)->object == o)
            return true;
    return n > NEAR && in_set(w, o);
}

/* ---- keys of dicts ---- */

static void drop_kept(work *w)
{
    for (int i = 0; w->kept && i < KEYS_KEPT; i++)
        Py_XDECREF(w->kept->keys[i].text);
    PyMem_Free(w->kept);
    w->kept = NULL;
}

/* Where the key is, or may be put. */
static kept_key *place_of(const work *w, const PyObject *text)
{
    size_t home = (uintptr_t)text / 16 * UINT64_C(0x9E3779B97F4A7C15) >> 32;
    for (size_t i = home; i < home + KEY_PLACES; i++) {
        kept_key *k = &w->kept->keys[i & (KEYS_KEPT - 1)];
        if (!k->text || k->text == text)
            return k;
    }
    return &w->kept->keys[home & (KEYS_KEPT - 1)];
}

/* Steals the key. */
static int kept_term(work *w, PyObject *text, ERL_NIF_TERM *term)
{
    kept_key *k = place_of(w, text);
    if (k->text == text) {
        *term = k->term;
        Py_DECREF(text);
        return 0;
    }
    if (text_term(w->c, text, term) < 0) {
        Py_DECREF(text);
        return -1;
    }
    k->term = *term;
    Py_XSETREF(k->text, text);
    return 0;
}

/* ---- maps in an environment of their own ---- */

/* The map that is about to be opened, unless it is in another such map. */
static int enter(work *w, const level *l)
{
    if (l->kind != DICT || w->outer || epy_map_at_once((size_t)l->n / 2))
        return 0;
    ErlNifEnv *env = enif_alloc_env();
    if (!env) {
        PyErr_NoMemory();
        return -1;
    }
    w->outer = w->c->env;
    w->outer_levels = w->levels.n;
    drop_kept(w);
    w->c->env = env;
    return 0;
}

/* Was the last level that was closed this map? */
static bool has_left(const work *w)
{
    return w->outer && w->outer_levels == w->levels.n;
}

/* Takes this term along; the others are gone. */
static ERL_NIF_TERM leave(work *w, ERL_NIF_TERM term)
{
    ERL_NIF_TERM copy = enif_make_copy(w->outer, term);
    drop_kept(w);
    enif_free_env(w->c->env);
    w->c->env = w->outer;
    w->outer = NULL;
    return copy;
}

/* ---- opening ---- */

static void drop_contents(work *w, size_t n)
{
    while (w->objects.n > n)
        Py_DECREF(objects(w)[--w->objects.n]);
}

/* All of the contents at once: first the keys, then the values. */
static int take_contents(work *w, level *l)
{
    Py_ssize_t n;
    do {
        n = PyDict_GET_SIZE(l->object);
        if (epy_room_for(&w->objects, 2 * (size_t)n, sizeof(PyObject *)) < 0)
            return -1;
    } while (!epy_dict_contents(l->object, n, objects(w) + w->objects.n));
    l->n = 2 * n;
    w->objects.n += 2 * (size_t)n;
    return 0;
}

static int measure(work *w, level *l)
{
    if (PyList_Check(l->object)) {
        l->kind = LIST;
        l->n = PyList_GET_SIZE(l->object);
        return 0;
    }
    if (PyTuple_Check(l->object)) {
        l->kind = TUPLE;
        l->n = PyTuple_GET_SIZE(l->object);
        return l->n <= 0xFFFFFF ? 0 : epy_conv_refuse(w->c, "a tuple of more than 16,777,215 "
                                                            "elements has no Erlang term");
    }
    l->kind = DICT;
    return take_contents(w, l);
}

/* A set is its items in a list. */
static int list_of_set(PyObject **object)
{
    if (!PyAnySet_Check(*object))
        return 0;
    PyObject *list = PySequence_List(*object);
    if (!list)
        return -1;
    Py_SETREF(*object, list);
    return 0;
}

/* Whether the container may be opened: not within itself, and not without an end. */
static int check(work *w, PyObject *object, bool made)
{
    if (is_open(w, object))
        return epy_conv_refuse(w->c, "an object of type '%.200s' contains itself",
                               Py_TYPE(object)->tp_name);
    if (made && w->made == LEVELS_MADE_MAX)
        return epy_conv_refuse(w->c, "encoders made more than %d containers within each other",
                               LEVELS_MADE_MAX);
    return 0;
}

/* From the second dict on, of those that are not too large. */
static int keep_keys(work *w, const level *l)
{
    if (l->kind != DICT || l->n > 2 * KEYS_KEPT || w->kept || w->dicts++ == 0)
        return 0;
    w->kept = PyMem_Calloc(1, sizeof *w->kept);
    if (!w->kept)
        PyErr_NoMemory();
    return w->kept ? 0 : -1;
}

/* What is to be done before the level counts. */
static int prepare(work *w, level *l)
{
    if ((w->levels.n >= NEAR && grow_set(w) < 0) || list_of_set(&l->object) < 0 ||
        measure(w, l) < 0)
        return -1;
    if (epy_room_for(&w->terms, (size_t)l->n + 1, sizeof(ERL_NIF_TERM)) < 0 ||
        keep_keys(w, l) < 0 || enter(w, l) < 0) {
        drop_contents(w, l->first_object);
        return -1;
    }
    return 0;
}

/* Opens a container, whose reference it steals. */
static int open_container(work *w, PyObject *object, bool made)
{
    if (check(w, object, made) < 0 || epy_room_for(&w->levels, 1, sizeof(level)) < 0) {
        Py_DECREF(object);
        return -1;
    }
    level *l = level_at(w, w->levels.n);
    *l = (level){.made = made, .object = object, .first_term = w->terms.n,
                 .first_object = w->objects.n};
    if (prepare(w, l) < 0) {
        Py_DECREF(l->object);
        return -1;
    }
    if (w->levels.n >= NEAR)
        put_in_set(w, l->object);
    w->made += made;
    w->levels.n++;
    return 0;
}

/* ---- going through ---- */

/* The next item, a new reference; NULL: there is none. */
static PyObject *next(const work *w, level *l)
{
    if (l->i >= l->n)
        return NULL;
    switch (l->kind) {
    case LIST: return epy_list_item(l->object, l->i);
    case TUPLE: return Py_NewRef(PyTuple_GET_ITEM(l->object, l->i));
    default: return Py_NewRef(objects(w)[l->first_object + (size_t)l->i]);
    }
}

static void push_term(work *w, ERL_NIF_TERM term)
{
    terms(w)[w->terms.n++] = term; /* whose container made room for it */
}

/* MADE: it is on the stack of terms; CONTAINER: it was opened; -1.  Steals the object. */
static int begin(work *w, PyObject *object)
{
    ERL_NIF_TERM term;
    bool made = false;
    int r = exact(w->c, object, &term);
    if (r == OTHER)
        r = other(w->c, &object, &term, &made);
    if (r == CONTAINER)
        return open_container(w, object, made) < 0 ? -1 : CONTAINER;
    if (r == MADE)
        push_term(w, term);
    Py_DECREF(object);
    return r;
}

/* The same of a key. */
static int begin_key(work *w, const level *l, PyObject *object)
{
    ERL_NIF_TERM term;
    if (!w->kept || l->n > 2 * KEYS_KEPT || !PyUnicode_CheckExact(object))
        return begin(w, object);
    if (kept_term(w, object, &term) < 0)
        return -1;
    push_term(w, term);
    return MADE;
}

static bool is_at_key(const level *l)
{
    return l->kind == DICT && l->i < l->n / 2;
}

/* What is on top until another container is opened, or to its end: MADE. */
static int go_on(work *w)
{
    PyObject *item;
    level *l = top(w);
    while ((item = next(w, l))) {
        int r = is_at_key(l) ? begin_key(w, l, item) : begin(w, item);
        if (r != MADE)
            return r;
        l->i++;
    }
    return MADE;
}

static int make_map(work *w, const level *l, ERL_NIF_TERM *term)
{
    ERL_NIF_TERM *keys = terms(w) + l->first_term;
    size_t n = (size_t)l->n / 2;
    return epy_map_make(w->c->env, w->kept ? &w->kept->shape : NULL, keys, keys + n, n, term)
               ? 0
               : epy_conv_refuse(w->c, "two keys of a dict are equal in Erlang");
}

static void clear(work *w, level *l)
{
    if (w->levels.n > NEAR && w->open)
        take_from_set(w, l->object);
    if (l->kind == DICT)
        drop_contents(w, l->first_object);
    w->made -= l->made;
    Py_DECREF(l->object);
    w->levels.n--;
}

/* The container on top becomes a term. */
static int finish(work *w)
{
    level *l = top(w);
    ERL_NIF_TERM term, *first = terms(w) + l->first_term;
    unsigned n = (unsigned)(w->terms.n - l->first_term);
    if (l->kind == DICT && make_map(w, l, &term) < 0)
        return -1;
    if (l->kind != DICT)
        term = l->kind == LIST ? enif_make_list_from_array(w->c->env, first, n)
                               : enif_make_tuple_from_array(w->c->env, first, n);
    w->terms.n = l->first_term;
    clear(w, l);
    push_term(w, has_left(w) ? leave(w, term) : term);
    return 0;
}

/* The step to the item that is under way; none when that is the dict as a whole. */
static void tell_step(work *w, const level *l)
{
    if (l->kind != DICT)
        epy_conv_at_index(w->c, l->i);
    else if (is_at_key(l))
        epy_conv_at(w->c, epy_atom.key);
    else if (l->i < l->n)
        epy_conv_at_pair(w->c, epy_atom.value,
                         terms(w)[l->first_term + (size_t)(l->i - l->n / 2)]);
}

static void unwind(work *w)
{
    while (w->levels.n > 0) {
        tell_step(w, top(w));
        clear(w, top(w));
        if (has_left(w))
            w->c->where = leave(w, w->c->where);
    }
}

static int run(work *w)
{
    while (w->levels.n > 0) {
        int r = go_on(w);
        if (r < 0 || (r == MADE && finish(w) < 0))
            return -1;
        if (r == MADE && w->levels.n > 0)
            top(w)->i++;
    }
    return 0;
}

static int convert(epy_conv *c, PyObject *o, ERL_NIF_TERM *term)
{
    level levels[8];
    ERL_NIF_TERM some_terms[32];
    PyObject *some_objects[16];
    work w = {.c = c, .levels = EPY_ROOM(levels), .terms = EPY_ROOM(some_terms),
              .objects = EPY_ROOM(some_objects)};
    int r = begin(&w, Py_NewRef(o));
    if (r == CONTAINER)
        r = run(&w);
    if (r < 0)
        unwind(&w);
    else
        *term = terms(&w)[0];
    PyMem_Free(w.open);
    drop_kept(&w);
    epy_room_free(&w.objects);
    epy_room_free(&w.terms);
    epy_room_free(&w.levels);
    return r < 0 ? -1 : 0;
}

int epy_toterm(epy_conv *c, PyObject *o, ERL_NIF_TERM *term)
{
    int r = exact(c, o, term);
    return r == MADE || r < 0 ? r : convert(c, o, term);
}
