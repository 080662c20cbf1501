/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A task of an event loop waits for a channel: by a `_erlang.ChannelWait`, of which the loop's
 * mailbox tells (epy_mailbox.h).  What it was given is put back if nobody takes it.
 *
 * A wait ends with its interpreter, whatever becomes of its object: no item shall go to who cannot
 * take it, and no thread that runs a loop shall wait for one when Python joins it.
 */
#ifndef EPY_CHANNEL_TASK_H
#define EPY_CHANNEL_TASK_H

#include "epy_interp.h"

/* Pipe.start_receive(mailbox): a ChannelWait that stands in line, or that the mailbox tells of. */
EPY_GIL EPY_NEWREF PyObject *epy_channel_start_receive(PyObject *pipe, PyObject *mailbox);

/* Pipe.start_send(data, mailbox): None, or a ChannelWait that stands in line. */
EPY_GIL EPY_NEWREF PyObject *epy_channel_start_send(PyObject *pipe, PyObject *const *args,
                                                    Py_ssize_t n);

/* Ends all that wait; epy_calls_end() has said that the interpreter ends. */
EPY_ANY void epy_channel_waits_end(epy_interp *interp);

/* After that, attached: lets go of them. */
EPY_GIL void epy_channel_waits_put(epy_interp *interp);

/* Adds the type to the module `_erlang`. */
EPY_GIL int epy_channel_task_init(PyObject *module, epy_objects *objects);

#endif
