/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_names.h. */
#include "epy_names.h"

#include "epy_atoms.h"
#include "epy_interp.h"
#include "epy_types.h"

typedef struct epy_name_table {
    size_t mask, used;              /* used: under the lock */
    struct epy_name_table *replaced; /* kept for readers; freed never */
    _Atomic(epy_name *) entries[];
} epy_name_table;

static epy_name_table *new_table(size_t size)
{
    epy_name_table *t = calloc(1, sizeof *t + size * sizeof t->entries[0]);
    if (t)
        t->mask = size - 1;
    return t;
}

int epy_names_init(epy_names *names)
{
    epy_name_table *t = new_table(256);
    if (!t) {
        PyErr_NoMemory();
        return -1;
    }
    atomic_store(&names->table, t);
    return 0;
}

static size_t hash(ERL_NIF_TERM atom)
{
    return (size_t)((uint64_t)atom * UINT64_C(0x9E3779B97F4A7C15) >> 32);
}

/* The place of an atom: its entry, or the first empty one. */
static _Atomic(epy_name *) *place(epy_name_table *t, ERL_NIF_TERM atom)
{
    for (size_t i = hash(atom);; i++) {
        _Atomic(epy_name *) *p = &t->entries[i & t->mask];
        epy_name *n = atomic_load_explicit(p, memory_order_acquire);
        if (!n || n->atom == atom)
            return p;
    }
}

/* Under the lock. */
static epy_name_table *with_room(epy_names *names)
{
    epy_name_table *old = atomic_load_explicit(&names->table, memory_order_relaxed);
    if (old->used < (old->mask + 1) / 2)
        return old;
    epy_name_table *t = new_table((old->mask + 1) * 2);
    if (!t)
        return NULL;
    for (size_t i = 0; i <= old->mask; i++) {
        epy_name *n = atomic_load_explicit(&old->entries[i], memory_order_relaxed);
        if (n)
            atomic_store_explicit(place(t, n->atom), n, memory_order_relaxed);
    }
    t->used = old->used;
    t->replaced = old;
    atomic_store_explicit(&names->table, t, memory_order_release);
    return t;
}

static void free_name(epy_name *n)
{
    Py_XDECREF(n->text);
    Py_XDECREF(n->value);
    free(n);
}

static epy_name *new_name(epy_interp *interp, ERL_NIF_TERM atom)
{
    epy_name *n = calloc(1, sizeof *n);
    if (!n) {
        PyErr_NoMemory();
        return NULL;
    }
    n->atom = atom;
    n->text = epy_atom_text(atom);
    if (n->text) {
        PyUnicode_InternInPlace(&n->text);
        n->value = epy_atom_value(&interp->objects, atom, n->text);
    }
    if (!n->value) {
        free_name(n);
        return NULL;
    }
    return n;
}

void epy_names_fini(epy_names *names)
{
    epy_name_table *t = atomic_exchange(&names->table, NULL);
    for (size_t i = 0; t && i <= t->mask; i++) {
        epy_name *n = atomic_load(&t->entries[i]);
        if (n) {
            Py_XDECREF(atomic_load(&n->module));
            free_name(n);
        }
    }
    while (t) {
        epy_name_table *replaced = t->replaced;
        free(t);
        t = replaced;
    }
}

static epy_name *insert(epy_names *names, epy_name *n)
{
    EPY_GILLESS_LOCK(&names->lock);
    epy_name_table *t = with_room(names);
    epy_name *present = NULL;
    if (t) {
        _Atomic(epy_name *) *p = place(t, n->atom);
        present = atomic_load_explicit(p, memory_order_relaxed);
        if (!present) {
            atomic_store_explicit(p, n, memory_order_release);
            t->used++;
            present = n;
        }
    }
    EPY_GILLESS_UNLOCK(&names->lock);
    if (present != n)
        free_name(n); /* another thread was first, or there is no memory */
    if (!present)
        PyErr_NoMemory();
    return present;
}

epy_name *epy_names_get(epy_interp *interp, ERL_NIF_TERM atom)
{
    epy_name_table *t = atomic_load_explicit(&interp->names.table, memory_order_acquire);
    epy_name *n = atomic_load_explicit(place(t, atom), memory_order_acquire);
    if (n)
        return n;
    n = new_name(interp, atom);
    return n ? insert(&interp->names, n) : NULL;
}
