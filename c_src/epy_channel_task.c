/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_channel_task.h. */
#include "epy_channel_task.h"

#include "epy_channel_py.h"
#include "epy_inline.h"
#include "epy_mailbox.h"
#include "epy_term.h"

#include <stdlib.h>
#include <structmember.h>

typedef struct wait {
    epy_told told; /* has the references */
    epy_waiter waiter;
    epy_pipe *pipe;       /* strong */
    epy_channel *channel; /* one of its */
    epy_mailbox *mailbox; /* strong */
    epy_item *item;       /* what it was given: set under the channel's lock, then the loop's */
} wait;

typedef struct wait_object {
    PyObject_HEAD
    wait *wait;         /* strong */
    PyObject *weakrefs; /* Python's */
} wait_object;

static void free_wait(epy_told *told)
{
    wait *w = EPY_CONTAINER(told, wait, told);
    Py_DECREF(told->weak);
    epy_mailbox_put(w->mailbox);
    epy_pipe_put(w->pipe);
    free(w);
}

static bool give_wait(epy_waiter *waiter, epy_item *item, void *by)
{
    wait *w = EPY_CONTAINER(waiter, wait, waiter);
    (void)by;
    w->item = item;
    bool told = epy_mailbox_tell(w->mailbox, &w->told);
    if (!told)
        w->item = NULL;
    return told;
}

/* An item that was given in vain is the next one's. */
static void cancel_wait(wait *w)
{
    (void)epy_channel_leave(w->channel, &w->waiter); /* false: it was given something */
    epy_item *item = w->item;
    w->item = NULL;
    if (item)
        epy_channel_put_back(w->channel, item, epy_inline_env());
}

static void wait_dealloc(PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    wait *w = ((wait_object *)o)->wait;
    PyObject_ClearWeakRefs(o);
    if (w) {
        cancel_wait(w);
        epy_told_put(&w->told);
    }
    type->tp_free(o);
    Py_DECREF(type);
}

PyDoc_STRVAR(take_doc, "take()\n--\n\n"
                       "The item that the loop's mailbox has told of; None of room.\n\n"
                       "Raises ChannelClosed where it told of that.");

static PyObject *take(PyObject *o, PyObject *unused)
{
    wait *w = ((wait_object *)o)->wait;
    epy_item *item = w->item;
    epy_interp *interp = epy_interp_current();
    (void)unused;
    if (!interp)
        return NULL;
    w->item = NULL;
    if (item)
        return epy_channel_received(interp, w->pipe, item);
    if (w->channel == &w->pipe->to_erlang)
        Py_RETURN_NONE;
    return epy_channel_raise_closed(interp), NULL;
}

static PyObject *wait_cancel(PyObject *o, PyObject *unused)
{
    (void)unused;
    cancel_wait(((wait_object *)o)->wait);
    Py_RETURN_NONE;
}

static wait *new_wait(PyObject *object, epy_pipe *pipe, epy_channel *channel, PyObject *mailbox)
{
    PyObject *weak = PyWeakref_NewRef(object, NULL);
    wait *w = weak ? calloc(1, sizeof *w) : NULL;
    if (!w) {
        Py_XDECREF(weak);
        PyErr_NoMemory();
        return NULL;
    }
    w->told.weak = weak;
    w->told.free = free_wait;
    atomic_init(&w->told.refs, 1);
    w->waiter.give = give_wait;
    epy_pipe_keep(w->pipe = pipe);
    w->channel = channel;
    epy_mailbox_keep(w->mailbox = epy_mailbox_of(mailbox));
    return w;
}

/* One that stands in no line yet. */
static wait_object *new_wait_object(const epy_interp *interp, epy_pipe *pipe, epy_channel *channel,
                                    PyObject *mailbox)
{
    PyTypeObject *type = (PyTypeObject *)interp->objects.channel_wait_type;
    if (Py_TYPE(mailbox) != (PyTypeObject *)interp->objects.mailbox_type) {
        PyErr_SetString(PyExc_TypeError, "tasks wait by a Mailbox");
        return NULL;
    }
    wait_object *self = (wait_object *)type->tp_alloc(type, 0);
    if (self && !(self->wait = new_wait((PyObject *)self, pipe, channel, mailbox)))
        Py_CLEAR(self);
    return self;
}

PyObject *epy_channel_start_receive(PyObject *o, PyObject *mailbox)
{
    epy_pipe *pipe = epy_pipe_of(o);
    epy_interp *interp = epy_interp_current();
    wait_object *self = interp ? new_wait_object(interp, pipe, &pipe->to_python, mailbox) : NULL;
    if (!self)
        return NULL;
    wait *w = self->wait;
    epy_channel_code code = epy_channel_get(w->channel, &w->item, &w->waiter, epy_inline_env());
    if (code == EPY_CHANNEL_NOT_NOW || epy_mailbox_tell(w->mailbox, &w->told))
        return (PyObject *)self;
    Py_DECREF(self); /* which puts the item back */
    return PyErr_Format(PyExc_ValueError, "the mailbox is closed");
}

PyObject *epy_channel_start_send(PyObject *o, PyObject *const *args, Py_ssize_t n)
{
    epy_pipe *pipe = epy_pipe_of(o);
    epy_interp *interp = epy_interp_current();
    if (n != 2)
        return PyErr_Format(PyExc_TypeError, "the arguments are (data, mailbox)");
    epy_piece *piece = interp ? epy_channel_piece(interp, pipe, args[0]) : NULL;
    wait_object *self = piece ? new_wait_object(interp, pipe, &pipe->to_erlang, args[1]) : NULL;
    epy_channel_code code = EPY_CHANNEL_NOT_NOW;
    if (self)
        code = epy_channel_put(self->wait->channel, &piece->item, &self->wait->waiter,
                               epy_inline_env());
    if (piece && code != EPY_CHANNEL_DONE)
        epy_piece_free(piece);
    if (!self || code == EPY_CHANNEL_NOT_NOW)
        return (PyObject *)self;
    Py_DECREF(self);
    return code == EPY_CHANNEL_DONE ? Py_NewRef(Py_None) : (epy_channel_raise_closed(interp), NULL);
}

/* ---- the type ---- */

static PyMethodDef wait_methods[] = {
    {"take", take, METH_NOARGS, take_doc},
    {"cancel", wait_cancel, METH_NOARGS,
     "cancel()\n--\n\nWait no more; what was given meanwhile is the next one's."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef wait_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(wait_object, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot wait_slots[] = {
    {Py_tp_doc, (void *)"A task that waits for a channel."},
    {Py_tp_new, epy_no_new},
    {Py_tp_dealloc, wait_dealloc},
    {Py_tp_methods, wait_methods},
    {Py_tp_members, wait_members},
    {0, NULL},
};

static PyType_Spec wait_spec = {
    .name = "erlang.ChannelWait",
    .basicsize = sizeof(wait_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = wait_slots,
};

int epy_channel_task_init(PyObject *module, epy_objects *o)
{
    o->channel_wait_type = PyType_FromModuleAndSpec(module, &wait_spec, NULL);
    if (!o->channel_wait_type)
        return -1;
    return PyModule_AddObjectRef(module, "ChannelWait", o->channel_wait_type);
}
