/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an atom is in one interpreter: its text as an interned str, the one
 * erlang.Atom object that stands for it, and the module of that name.
 *
 * A hash table keyed by the atom's term, which is the same in every environment
 * and for the life of the node.  Entries are never removed, so the table is
 * bounded by the node's atom table.  Readers take no lock; a table that has
 * become too small is replaced, and the old one kept for those who still read.
 */
#ifndef EPY_NAMES_H
#define EPY_NAMES_H

#include "epy.h"
#include "epy_mode.h"

typedef struct epy_name {
    ERL_NIF_TERM atom;           /* constant */
    PyObject *text;              /* constant: exact str, interned */
    PyObject *value;             /* constant: what the atom converts to */
    _Atomic(PyObject *) module;  /* strong: sys.modules[text] when last seen whole */
} epy_name;

typedef struct epy_names {
    _Atomic(struct epy_name_table *) table;
    epy_gilless_lock lock;       /* guards insertion */
} epy_names;

EPY_GIL int epy_names_init(epy_names *names);

/* Before the interpreter ends; nobody else uses the table any more. */
EPY_GIL void epy_names_fini(epy_names *names);

/* The entry of an atom, made if need be; NULL with an exception set. */
EPY_GIL epy_name *epy_names_get(epy_interp *interp, ERL_NIF_TERM atom);

#endif
