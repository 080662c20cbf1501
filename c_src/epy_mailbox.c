/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_mailbox.h. */
#include "epy_mailbox.h"

#include "epy_atoms.h"
#include "epy_callback.h"
#include "epy_error.h"
#include "epy_fork.h"
#include "epy_interrupt.h"
#include "epy_mode.h"
#include "epy_term.h"

#include <stdlib.h>
#include <structmember.h>
#include <sys/eventfd.h>
#include <unistd.h>

typedef struct item {
    struct item *next;
    epy_call *call; /* strong; NULL: something that is no call */
    epy_answer answer;
    epy_told *told; /* strong: that */
} item;

struct epy_mailbox {
    atomic_int refs;
    pthread_mutex_t lock; /* guards the fields below; a leaf */
    int fd;               /* -1: closed */
    item *first, **last;
};

/* ---- from any thread ---- */

void epy_mailbox_keep(epy_mailbox *m)
{
    atomic_fetch_add(&m->refs, 1);
}

static void free_item(item *i)
{
    if (i->answer.env)
        enif_free_env(i->answer.env);
    if (i->call)
        epy_call_put(i->call);
    if (i->told)
        epy_told_put(i->told);
    enif_free(i);
}

void epy_told_put(epy_told *told)
{
    if (atomic_fetch_sub(&told->refs, 1) == 1)
        told->free(told);
}

void epy_mailbox_put(epy_mailbox *m)
{
    if (atomic_fetch_sub(&m->refs, 1) > 1)
        return;
    /* Its items would keep it, by their calls: there are none. */
    pthread_mutex_destroy(&m->lock);
    free(m);
}

/* Under the lock.  The counter of an eventfd is far from full. */
static void ring(epy_mailbox *m)
{
    (void)!eventfd_write(m->fd, 1);
}

/* False: the mailbox is closed. */
static bool append(epy_mailbox *m, item *i)
{
    pthread_mutex_lock(&m->lock);
    bool open = m->fd >= 0;
    if (open) {
        bool first = !m->first;
        *m->last = i;
        m->last = &i->next;
        if (first)
            ring(m);
    }
    pthread_mutex_unlock(&m->lock);
    return open;
}

/* enif_alloc() aborts the VM rather than return NULL. */

bool epy_mailbox_push(epy_mailbox *m, epy_call *call, epy_answer answer)
{
    item *i = enif_alloc(sizeof *i);
    atomic_fetch_add(&call->refs, 1);
    *i = (item){.call = call, .answer = answer};
    bool open = append(m, i);
    if (!open) {
        i->answer.env = NULL;
        free_item(i);
    }
    return open;
}

bool epy_mailbox_tell(epy_mailbox *m, epy_told *told)
{
    item *i = enif_alloc(sizeof *i);
    atomic_fetch_add(&told->refs, 1);
    *i = (item){.told = told};
    bool open = append(m, i);
    if (!open)
        free_item(i);
    return open;
}

static item *take_all(epy_mailbox *m)
{
    eventfd_t count;
    pthread_mutex_lock(&m->lock);
    item *first = m->first;
    m->first = NULL;
    m->last = &m->first;
    if (first && m->fd >= 0)
        (void)!eventfd_read(m->fd, &count);
    pthread_mutex_unlock(&m->lock);
    return first;
}

/* Those that were taken in vain, in front of what has come since. */
static void put_back(epy_mailbox *m, item *first)
{
    item *last = first;
    while (last->next)
        last = last->next;
    pthread_mutex_lock(&m->lock);
    last->next = m->first;
    if (!m->first)
        m->last = &last->next;
    m->first = first;
    if (m->fd >= 0)
        ring(m);
    pthread_mutex_unlock(&m->lock);
}

static void close_mailbox(epy_mailbox *m)
{
    item *i, *next;
    pthread_mutex_lock(&m->lock);
    int fd = m->fd;
    m->fd = -1;
    pthread_mutex_unlock(&m->lock);
    if (fd >= 0)
        close(fd);
    for (i = take_all(m); i; i = next) {
        next = i->next;
        free_item(i);
    }
}

/* ---- AsyncCall ---- */

typedef struct call_object {
    PyObject_HEAD
    epy_call *call;    /* strong */
    PyObject *future;  /* strong or NULL: for Python code to set */
    PyObject *pending; /* strong or NULL: the set of its mailbox, while it is in there */
} call_object;

/* It has ended: the mailbox keeps it no more. */
static int forget(call_object *self)
{
    PyObject *pending = self->pending;
    self->pending = NULL;
    self->call->object = NULL;
    int r = pending ? PySet_Discard(pending, (PyObject *)self) : 0;
    Py_XDECREF(pending);
    return r < 0 ? -1 : 0;
}

PyDoc_STRVAR(cancel_doc, "cancel()\n--\n\nGive the call up: its process in Erlang is ended.\n\n"
                         "False if the answer was there already.");

static PyObject *cancel(PyObject *o, PyObject *unused)
{
    call_object *self = (call_object *)o;
    (void)unused;
    if (!self->pending || !epy_call_cancel(self->call))
        Py_RETURN_FALSE;
    return forget(self) < 0 ? NULL : Py_NewRef(Py_True);
}

static int call_traverse(PyObject *o, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(o));
    Py_VISIT(((call_object *)o)->future);
    Py_VISIT(((call_object *)o)->pending);
    return 0;
}

static int call_clear(PyObject *o)
{
    Py_CLEAR(((call_object *)o)->future);
    Py_CLEAR(((call_object *)o)->pending);
    return 0;
}

static void call_dealloc(PyObject *o)
{
    call_object *self = (call_object *)o;
    PyTypeObject *type = Py_TYPE(o);
    PyObject_GC_UnTrack(o);
    if (self->call) {
        self->call->object = NULL;
        (void)epy_call_cancel(self->call);
        epy_call_put(self->call);
    }
    (void)call_clear(o);
    type->tp_free(o);
    Py_DECREF(type);
}

static PyMemberDef call_members[] = {
    {"future", T_OBJECT, offsetof(call_object, future), 0, "For the user of this object."},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef call_methods[] = {
    {"cancel", cancel, METH_NOARGS, cancel_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot call_slots[] = {
    {Py_tp_doc, (void *)"A call of Erlang whose answer comes to a Mailbox."},
    {Py_tp_new, epy_no_new},
    {Py_tp_dealloc, call_dealloc},
    {Py_tp_traverse, call_traverse},
    {Py_tp_clear, call_clear},
    {Py_tp_members, call_members},
    {Py_tp_methods, call_methods},
    {0, NULL},
};

static PyType_Spec call_spec = {
    .name = "erlang.AsyncCall",
    .basicsize = sizeof(call_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = call_slots,
};

/* ---- Mailbox ---- */

typedef struct mailbox_object {
    PyObject_HEAD
    epy_mailbox *m;    /* strong */
    PyObject *pending; /* strong: the set of calls that have no answer yet */
} mailbox_object;

static epy_mailbox *new_mailbox(void)
{
    epy_mailbox *m = calloc(1, sizeof *m);
    if (!m) {
        PyErr_NoMemory();
        return NULL;
    }
    atomic_init(&m->refs, 1);
    m->last = &m->first;
    m->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (m->fd < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        free(m);
        return NULL;
    }
    pthread_mutex_init(&m->lock, NULL);
    return m;
}

static PyObject *mailbox_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":Mailbox", names))
        return NULL;
    mailbox_object *self = (mailbox_object *)type->tp_alloc(type, 0);
    if (self && (!(self->pending = PySet_New(NULL)) || !(self->m = new_mailbox())))
        Py_CLEAR(self);
    return (PyObject *)self;
}

static int mailbox_traverse(PyObject *o, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(o));
    Py_VISIT(((mailbox_object *)o)->pending);
    return 0;
}

static int mailbox_clear(PyObject *o)
{
    Py_CLEAR(((mailbox_object *)o)->pending);
    return 0;
}

static void mailbox_dealloc(PyObject *o)
{
    mailbox_object *self = (mailbox_object *)o;
    PyTypeObject *type = Py_TYPE(o);
    PyObject_GC_UnTrack(o);
    if (self->m) {
        close_mailbox(self->m);
        epy_mailbox_put(self->m);
    }
    (void)mailbox_clear(o);
    type->tp_free(o);
    Py_DECREF(type);
}

epy_mailbox *epy_mailbox_of(PyObject *mailbox)
{
    return ((mailbox_object *)mailbox)->m;
}

static PyObject *mailbox_fileno(PyObject *o, PyObject *unused)
{
    epy_mailbox *m = ((mailbox_object *)o)->m;
    (void)unused;
    pthread_mutex_lock(&m->lock);
    int fd = m->fd;
    pthread_mutex_unlock(&m->lock);
    return fd >= 0 ? PyLong_FromLong(fd) : PyErr_Format(PyExc_ValueError, "the mailbox is closed");
}

static PyObject *mailbox_close(PyObject *o, PyObject *unused)
{
    (void)unused;
    close_mailbox(((mailbox_object *)o)->m);
    Py_RETURN_NONE;
}

/* (AsyncCall, ok, value or exception).  NULL: with an exception that is not the call's. */
static PyObject *convert_item(epy_interp *interp, call_object *o, const item *i)
{
    PyObject *value = epy_callback_outcome(interp, i->answer.env, i->answer.term, NULL);
    bool ok = value != NULL;
    if (!ok && PyErr_ExceptionMatches(interp->objects.cancelled))
        return NULL;
    if (!ok)
        value = epy_error_fetch();
    return Py_BuildValue("OON", o, ok ? Py_True : Py_False, value);
}

static int drain_told(PyObject *list, const epy_told *told)
{
    PyObject *o = epy_weakref_get(told->weak);
    if (!o)
        return 0; /* nobody waits any more */
    PyObject *entry = PyTuple_Pack(3, o, Py_True, Py_None);
    int r = entry ? PyList_Append(list, entry) : -1;
    Py_XDECREF(entry);
    Py_DECREF(o);
    return r;
}

static int drain_item(PyObject *list, const item *i)
{
    if (i->told)
        return drain_told(list, i->told);
    call_object *o = (call_object *)i->call->object;
    if (!o)
        return 0; /* cancelled after its answer had come */
    Py_INCREF(o);
    PyObject *entry = convert_item(i->call->interp, o, i);
    int r = entry ? PyList_Append(list, entry) : -1;
    if (r == 0) {
        epy_call_unlink(i->call);
        r = forget(o);
    }
    Py_XDECREF(entry);
    Py_DECREF(o);
    return r;
}

/* Those before the one that failed are dealt with first; it fails again next time. */
static void fail_later(void)
{
    bool interrupted = !PyErr_ExceptionMatches(PyExc_Exception);
    PyErr_Clear(); /* it comes again, with the item or with the interrupt */
    if (interrupted && epy_self)
        (void)epy_interrupt_again(epy_self); /* false: what interrupted it was the code's own */
}

PyDoc_STRVAR(drain_doc, "drain()\n--\n\nA list of (AsyncCall, ok, value or exception).");

static PyObject *mailbox_drain(PyObject *o, PyObject *unused)
{
    (void)unused;
    epy_mailbox *m = ((mailbox_object *)o)->m;
    PyObject *list = PyList_New(0);
    item *next, *i = list ? take_all(m) : NULL;
    for (; i && drain_item(list, i) == 0; i = next) {
        next = i->next;
        free_item(i);
    }
    if (i) {
        put_back(m, i);
        if (PyList_GET_SIZE(list) == 0)
            Py_CLEAR(list);
        else
            fail_later();
    }
    return list;
}

static PyMethodDef mailbox_methods[] = {
    {"fileno", mailbox_fileno, METH_NOARGS, NULL},
    {"drain", mailbox_drain, METH_NOARGS, drain_doc},
    {"close", mailbox_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot mailbox_slots[] = {
    {Py_tp_doc, (void *)"Mailbox()\n--\n\nWhere the answers to async_start() arrive."},
    {Py_tp_new, mailbox_new},
    {Py_tp_dealloc, mailbox_dealloc},
    {Py_tp_traverse, mailbox_traverse},
    {Py_tp_clear, mailbox_clear},
    {Py_tp_methods, mailbox_methods},
    {0, NULL},
};

static PyType_Spec mailbox_spec = {
    .name = "erlang.Mailbox",
    .basicsize = sizeof(mailbox_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = mailbox_slots,
};

/* ---- async_start ---- */

static epy_call *post(epy_interp *interp, PyObject *function, PyObject *args, epy_mailbox *m)
{
    epy_calling calling;
    epy_conv c;
    ErlNifEnv *env = enif_alloc_env();
    epy_call *call = NULL;
    if (!env) {
        PyErr_NoMemory();
        return NULL;
    }
    epy_conv_init(&c, interp, env);
    if (epy_callback_convert(&c, function, args, &calling) == 0)
        call = epy_call_post(interp, env, &calling, m);
    epy_conv_fini(&c);
    enif_free_env(env);
    return call;
}

/* The object is in the set before the call is sent: its answer may come at any moment, but is
 * looked at by this thread only. */
static int start(epy_interp *interp, PyObject *function, PyObject *args, call_object *o,
                 mailbox_object *m)
{
    if (PySet_Add(m->pending, (PyObject *)o) < 0)
        return -1;
    o->call = post(interp, function, args, m->m);
    if (!o->call) {
        PyObject *exception = epy_error_fetch();
        (void)PySet_Discard(m->pending, (PyObject *)o);
        epy_error_raise_again(exception);
        Py_DECREF(exception);
        return -1;
    }
    o->call->object = (PyObject *)o;
    o->pending = Py_NewRef(m->pending);
    return 0;
}

static PyObject *async_start(PyObject *module, PyObject *args)
{
    PyObject *function, *arguments, *mailbox;
    epy_interp *interp = epy_interp_current();
    (void)module;
    if (!interp)
        return NULL;
    const epy_objects *objects = &interp->objects;
    if (!PyArg_ParseTuple(args, "OO!O!:async_start", &function, &PyTuple_Type, &arguments,
                          (PyTypeObject *)objects->mailbox_type, &mailbox))
        return NULL;
    if (!epy_self && enif_thread_type() != ERL_NIF_THR_UNDEFINED)
        return PyErr_Format(PyExc_RuntimeError,
                            "a function that runs in the pool inline cannot call Erlang");
    if (epy_fork_check() < 0)
        return NULL;
    PyTypeObject *type = (PyTypeObject *)objects->async_call_type;
    PyObject *o = type->tp_alloc(type, 0);
    if (o && start(interp, function, arguments, (call_object *)o, (mailbox_object *)mailbox) < 0) {
        PyObject *exception = epy_error_fetch();
        Py_CLEAR(o);
        epy_error_raise_again(exception);
        Py_DECREF(exception);
    }
    return o;
}

static PyMethodDef functions[] = {
    {"async_start", async_start, METH_VARARGS,
     "async_start(function, args, mailbox)\n--\n\nStart a call, and return its AsyncCall."},
    {NULL, NULL, 0, NULL},
};

int epy_mailbox_init(PyObject *module, epy_objects *o)
{
    o->mailbox_type = PyType_FromModuleAndSpec(module, &mailbox_spec, NULL);
    o->async_call_type = PyType_FromModuleAndSpec(module, &call_spec, NULL);
    if (!o->mailbox_type || !o->async_call_type ||
        PyModule_AddObjectRef(module, "Mailbox", o->mailbox_type) < 0 ||
        PyModule_AddObjectRef(module, "AsyncCall", o->async_call_type) < 0)
        return -1;
    return PyModule_AddFunctions(module, functions);
}
