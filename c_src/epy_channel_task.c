/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_channel_task.h. */
#include "epy_channel_task.h"

#include "epy_channel_py.h"
#include "epy_inline.h"
#include "epy_mailbox.h"
#include "epy_term.h"

#include <stdlib.h>
#include <structmember.h>

typedef struct epy_task_wait {
    epy_told told; /* has the references */
    epy_interp *interp;                 /* constant */
    struct epy_task_wait *next, **link; /* interp->waits; under interp->calls_lock */
    epy_waiter waiter;
    epy_pipe *pipe;       /* strong */
    epy_channel *channel; /* one of its */
    epy_mailbox *mailbox; /* strong */
    _Atomic(epy_item *) item; /* what it was given, of who takes it out of here */
    atomic_bool ended;        /* by the end of the interpreter */
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
    atomic_store(&w->item, item);
    bool told = epy_mailbox_tell(w->mailbox, &w->told);
    if (!told)
        atomic_store(&w->item, NULL);
    return told;
}

/* An item that was given in vain is the next one's. */
static void cancel_wait(wait *w)
{
    (void)epy_channel_leave(w->channel, &w->waiter); /* false: it was given something */
    epy_item *item = atomic_exchange(&w->item, NULL);
    if (item)
        epy_channel_put_back(w->channel, item, epy_inline_env());
}

/* ---- those of an interpreter ---- */

static bool link_wait(wait *w)
{
    epy_interp *interp = w->interp;
    pthread_mutex_lock(&interp->calls_lock);
    bool taken = !interp->ending;
    if (taken) {
        w->next = interp->waits;
        w->link = &interp->waits;
        if (w->next)
            w->next->link = &w->next;
        interp->waits = w;
    }
    pthread_mutex_unlock(&interp->calls_lock);
    return taken;
}

/* Under the lock. */
static void unlink_wait(wait *w)
{
    if (w->link) {
        *w->link = w->next;
        if (w->next)
            w->next->link = w->link;
    }
    w->link = NULL;
}

/* With a reference; NULL: there is none. */
static wait *take_first(epy_interp *interp)
{
    pthread_mutex_lock(&interp->calls_lock);
    wait *w = interp->waits;
    if (w) {
        unlink_wait(w);
        atomic_fetch_add(&w->told.refs, 1);
    }
    pthread_mutex_unlock(&interp->calls_lock);
    return w;
}

void epy_channel_waits_end(epy_interp *interp)
{
    wait *w;
    while ((w = take_first(interp))) {
        atomic_store(&w->ended, true); /* before take() can find that there is nothing */
        cancel_wait(w);
        (void)epy_mailbox_tell(w->mailbox, &w->told); /* false: the loop is gone */
        w->next = interp->ended_waits;
        interp->ended_waits = w;
    }
}

void epy_channel_waits_put(epy_interp *interp)
{
    wait *w;
    while ((w = interp->ended_waits)) {
        interp->ended_waits = w->next;
        epy_told_put(&w->told);
    }
}

/* ---- ChannelWait ---- */

static void wait_dealloc(PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    wait *w = ((wait_object *)o)->wait;
    PyObject_ClearWeakRefs(o);
    if (w) {
        pthread_mutex_lock(&w->interp->calls_lock);
        unlink_wait(w);
        pthread_mutex_unlock(&w->interp->calls_lock);
        cancel_wait(w);
        epy_told_put(&w->told);
    }
    type->tp_free(o);
    Py_DECREF(type);
}

static void refuse(const epy_interp *interp)
{
    PyErr_SetString(interp->objects.process_error, "the interpreter ends");
}

PyDoc_STRVAR(take_doc, "take()\n--\n\n"
                       "The item that the loop's mailbox has told of; None of room.\n\n"
                       "Raises ChannelClosed where it told of that.");

static PyObject *take(PyObject *o, PyObject *unused)
{
    wait *w = ((wait_object *)o)->wait;
    epy_interp *interp = epy_interp_current();
    (void)unused;
    if (!interp)
        return NULL;
    epy_item *item = atomic_exchange(&w->item, NULL);
    if (item)
        return epy_channel_received(interp, w->pipe, item);
    if (atomic_load(&w->ended))
        return refuse(interp), NULL;
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

static wait *new_wait(epy_interp *interp, PyObject *object, epy_pipe *pipe, epy_channel *channel,
                      PyObject *mailbox)
{
    PyObject *weak = PyWeakref_NewRef(object, NULL);
    wait *w = weak ? calloc(1, sizeof *w) : NULL;
    if (!w) {
        Py_XDECREF(weak);
        PyErr_NoMemory();
        return NULL;
    }
    w->interp = interp;
    w->told.weak = weak;
    w->told.free = free_wait;
    atomic_init(&w->told.refs, 1);
    w->waiter.give = give_wait;
    epy_pipe_keep(w->pipe = pipe);
    w->channel = channel;
    epy_mailbox_keep(w->mailbox = epy_mailbox_of(mailbox));
    if (link_wait(w))
        return w;
    refuse(interp);
    epy_told_put(&w->told);
    return NULL;
}

/* One that stands in no line yet. */
static wait_object *new_wait_object(epy_interp *interp, epy_pipe *pipe, epy_channel *channel,
                                    PyObject *mailbox)
{
    PyTypeObject *type = (PyTypeObject *)interp->objects.channel_wait_type;
    if (Py_TYPE(mailbox) != (PyTypeObject *)interp->objects.mailbox_type) {
        PyErr_SetString(PyExc_TypeError, "tasks wait by a Mailbox");
        return NULL;
    }
    wait_object *self = (wait_object *)type->tp_alloc(type, 0);
    if (self && !(self->wait = new_wait(interp, (PyObject *)self, pipe, channel, mailbox)))
        Py_CLEAR(self);
    return self;
}

/* The end of the interpreter may have come before it stood there, and not have found it. */
static PyObject *stands_in_line(wait_object *self)
{
    if (atomic_load(&self->wait->ended))
        (void)epy_channel_leave(self->wait->channel, &self->wait->waiter); /* false: it did */
    return (PyObject *)self;
}

PyObject *epy_channel_start_receive(PyObject *o, PyObject *mailbox)
{
    epy_pipe *pipe = epy_pipe_of(o);
    epy_interp *interp = epy_interp_current();
    wait_object *self = interp ? new_wait_object(interp, pipe, &pipe->to_python, mailbox) : NULL;
    if (!self)
        return NULL;
    wait *w = self->wait;
    epy_item *item;
    epy_channel_code code = epy_channel_get(w->channel, &item, &w->waiter, epy_inline_env());
    if (code == EPY_CHANNEL_NOT_NOW)
        return stands_in_line(self);
    atomic_store(&w->item, item);
    if (epy_mailbox_tell(w->mailbox, &w->told))
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
    if (!self)
        return NULL;
    if (code == EPY_CHANNEL_NOT_NOW)
        return stands_in_line(self);
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
