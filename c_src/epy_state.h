/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters of the shared state: py_state keeps them in cells, which its table refers to, so that
 * Python and Erlang count without a message.
 *
 * A cell is one atomic word.  It may be killed, when its key gets another kind of value or goes:
 * from then on it counts nothing, and whoever meets it looks into the table again.  Python keeps
 * the cells of keys that it used, by their name.
 */
#ifndef EPY_STATE_H
#define EPY_STATE_H

#include "epy_interp.h"

int epy_state_open(ErlNifEnv *env); /* registers the resource type */

/* The native functions of py_nif: see there. */
EPY_ANY ERL_NIF_TERM epy_cell_new(ErlNifEnv *env, ERL_NIF_TERM value);
EPY_ANY ERL_NIF_TERM epy_cell_get(ErlNifEnv *env, ERL_NIF_TERM cell);
EPY_ANY ERL_NIF_TERM epy_cell_set(ErlNifEnv *env, ERL_NIF_TERM cell, ERL_NIF_TERM value);
EPY_ANY ERL_NIF_TERM epy_cell_add(ErlNifEnv *env, ERL_NIF_TERM cell, ERL_NIF_TERM n);
EPY_ANY ERL_NIF_TERM epy_cell_kill(ErlNifEnv *env, ERL_NIF_TERM cell);
EPY_ANY bool epy_cell_is_value(ErlNifEnv *env, ERL_NIF_TERM value);

/* All cells that there are count as dead from now on. */
EPY_ANY void epy_cells_reset(void);

/* Adds state_incr() to the module `_erlang`. */
EPY_GIL int epy_state_init(PyObject *module, epy_objects *objects);

#endif
