/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the answers to the asynchronous calls of an event loop arrive: a list, and an eventfd
 * that is readable while there is something in it, for add_reader() of whatever loop it is.
 *
 * The Python types below it, `_erlang.Mailbox` and `_erlang.AsyncCall`, are used by the thread
 * that runs the loop; answers are pushed from schedulers.
 */
#ifndef EPY_MAILBOX_H
#define EPY_MAILBOX_H

#include "epy_call.h"

typedef struct epy_mailbox epy_mailbox;

/* Part of what tells a loop something other than the answer to a call. */
typedef struct epy_told {
    atomic_int refs;
    PyObject *weak;   /* strong, constant: a weak reference to what Python gets, whose last
                         reference may go on any thread; put by free() */
    void (*free)(struct epy_told *told); /* EPY_GIL */
} epy_told;

EPY_ANY void epy_told_put(epy_told *told);

EPY_ANY void epy_mailbox_keep(epy_mailbox *m);
EPY_ANY void epy_mailbox_put(epy_mailbox *m);

/* Takes the answer's environment, unless it returns false: the mailbox is closed. */
EPY_ANY bool epy_mailbox_push(epy_mailbox *m, epy_call *call, epy_answer answer);

/* Has the loop take (object, True, None) out of the mailbox; keeps `told` until then.  False: the
 * mailbox is closed. */
EPY_ANY bool epy_mailbox_tell(epy_mailbox *m, epy_told *told);

/* That of a Python object of type Mailbox. */
EPY_GIL epy_mailbox *epy_mailbox_of(PyObject *mailbox);

/* Adds the types and async_start() to the module `_erlang`. */
EPY_GIL int epy_mailbox_init(PyObject *module, epy_objects *objects);

#endif
