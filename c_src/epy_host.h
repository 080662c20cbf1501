/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The side of an event loop without a thread that Python sees: `_erlang.LoopHost`, by which
 * erlang/_host.py drives its loop, and `_erlang.TaskEnd`, which ends a request when its task
 * has ended.
 */
#ifndef EPY_HOST_H
#define EPY_HOST_H

#include "epy_loop.h"

/* Runs a turn.  True: there is more to do at once.  Else *next_ns says when, if not 0. */
EPY_GIL bool epy_host_turn(epy_interp *interp, epy_loop *loop, uint64_t *next_ns);

/* Does the loop run code of a task whose request was cancelled?  From any thread of the interpreter. */
EPY_GIL bool epy_host_is_at_cancelled(epy_loop *loop);

/* The process that asked for the task in which the calling code runs. */
EPY_GIL bool epy_host_asker(epy_interp *interp, ErlNifPid *pid);

/* Adds the types to the module `_erlang` and to objects. */
EPY_GIL int epy_host_init(PyObject *module, epy_objects *objects);

#endif
