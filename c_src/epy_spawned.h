/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What Python code that no loop runs gives to a hosted loop: coroutines, by erlang.spawn_task().
 *
 * Any thread of the interpreter gives, and a turn takes.  Python's loop need not have been made
 * then: the turn that is asked for makes it.
 */
#ifndef EPY_SPAWNED_H
#define EPY_SPAWNED_H

#include "epy_loop.h"

/* The next one, for a turn; NULL: there is none. */
EPY_GIL EPY_NEWREF PyObject *epy_spawned_next(epy_loop *loop);

/* Gives up those that no turn will take. */
EPY_ANY void epy_spawned_drop(epy_loop *loop);

/* Adds spawn() to the module `_erlang`. */
EPY_GIL int epy_spawned_init(PyObject *module);

#endif
