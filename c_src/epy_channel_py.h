/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What Python has of a channel: the type `_erlang.Pipe`, a Term, of which erlang.channel derives
 * what users see.  Any thread may receive and send, and wait for that (epy_channel_wait.h);
 * tasks of event loops wait as epy_channel_task.h says.
 */
#ifndef EPY_CHANNEL_PY_H
#define EPY_CHANNEL_PY_H

#include "epy_interp.h"
#include "epy_pipe.h"

/* That of a Python object of type Pipe, which keeps it. */
EPY_GIL epy_pipe *epy_pipe_of(PyObject *object);

/* The value of an item to Python.  The item is gone then, also where it does not convert. */
EPY_GIL EPY_NEWREF PyObject *epy_channel_received(epy_interp *interp, const epy_pipe *pipe,
                                                  epy_item *item);

/* What is to be sent to Erlang; NULL with an exception set. */
EPY_GIL epy_piece *epy_channel_piece(epy_interp *interp, const epy_pipe *pipe, PyObject *data);

EPY_GIL int epy_channel_raise_closed(const epy_interp *interp); /* -1 */

/* Adds the types and exceptions to the module `_erlang`. */
EPY_GIL int epy_channel_py_init(PyObject *module, epy_objects *objects);

#endif
