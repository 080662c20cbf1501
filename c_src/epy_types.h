/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Python types of the NIF: erlang.Atom and the exceptions.  They are made
 * per interpreter; epy_objects holds them.
 */
#ifndef EPY_TYPES_H
#define EPY_TYPES_H

#include "epy_atoms.h"
#include "epy_interp.h"

/* A str that knows its atom: equal to, hashes as and is usable wherever that
 * string is, and converts back to the atom. */
typedef struct epy_atom_object {
    PyUnicodeObject str;
    ERL_NIF_TERM atom;
} epy_atom_object;

/* Adds the types to the module `_erlang` and to objects.  call_fun: what calling an erlang.Fun
 * does. */
EPY_GIL int epy_types_init(PyObject *module, epy_objects *objects, ternaryfunc call_fun);

/* What this atom converts to: True, False, None or an erlang.Atom. */
EPY_GIL EPY_NEWREF PyObject *epy_atom_value(const epy_objects *objects, ERL_NIF_TERM atom,
                                            PyObject *text);

#endif
