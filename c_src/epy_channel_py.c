/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_channel_py.h. */
#include "epy_channel_py.h"

#include "epy_buffer.h"
#include "epy_channel_task.h"
#include "epy_channel_wait.h"
#include "epy_inline.h"
#include "epy_term.h"

#include <math.h>
#include <string.h>

#define FOREVER 1e9 /* seconds; no wait is as long */

typedef struct pipe_object {
    epy_opaque opaque; /* which keeps the resource */
    epy_pipe *pipe;    /* borrowed of it */
} pipe_object;

epy_pipe *epy_pipe_of(PyObject *o)
{
    return ((pipe_object *)o)->pipe;
}

static epy_piece *piece_of(epy_item *item)
{
    return EPY_CONTAINER(item, epy_piece, item);
}

/* ---- values ---- */

static PyObject *convert_term(epy_interp *interp, const epy_piece *p)
{
    epy_conv c;
    epy_conv_init(&c, interp, p->env);
    PyObject *o = epy_topy(&c, p->term);
    epy_conv_fini(&c);
    return o;
}

static PyObject *atom_value(epy_interp *interp, ERL_NIF_TERM atom)
{
    epy_name *name = epy_names_get(interp, atom);
    return name ? Py_NewRef(name->value) : NULL;
}

static PyObject *convert_bytes(const epy_piece *p)
{
    const unsigned char *data;
    size_t size;
    if (!epy_piece_inspect(p, &data, &size))
        return PyErr_Format(PyExc_SystemError, "a channel of bytes has something else");
    return PyBytes_FromStringAndSize((const char *)data, (Py_ssize_t)size);
}

static PyObject *convert(epy_interp *interp, const epy_pipe *pipe, const epy_piece *p)
{
    if (pipe->kind != EPY_PIPE_TERMS)
        return convert_bytes(p);
    switch (p->kind) {
    case EPY_PIECE_INTEGER: return PyLong_FromLongLong(p->integer);
    case EPY_PIECE_FLOAT: return PyFloat_FromDouble(p->floating);
    case EPY_PIECE_ATOM: return atom_value(interp, p->atom);
    case EPY_PIECE_BYTES: return epy_topy_text(p->bytes, p->size);
    default: return convert_term(interp, p);
    }
}

PyObject *epy_channel_received(epy_interp *interp, const epy_pipe *pipe, epy_item *item)
{
    PyObject *value = convert(interp, pipe, piece_of(item));
    epy_piece_free(piece_of(item));
    return value;
}

/* Bytes that nobody can change are not copied: the binary shares them. */
static epy_piece *shared_piece(epy_interp *interp, PyObject *data, size_t size)
{
    epy_conv c;
    ERL_NIF_TERM term;
    ErlNifEnv *env = enif_alloc_env();
    if (!env) {
        PyErr_NoMemory();
        return NULL;
    }
    epy_conv_init(&c, interp, env);
    int r = epy_buffer_toterm(&c, data, &term);
    epy_conv_fini(&c);
    if (r == 0)
        return epy_piece_term(env, term, size);
    enif_free_env(env);
    return NULL;
}

/* Of a memoryview it is plain that others have its object. */
static epy_piece *large_piece(epy_interp *interp, PyObject *data, size_t size)
{
    PyObject *o = PyBytes_CheckExact(data) ? Py_NewRef(data) : PyMemoryView_FromObject(data);
    epy_piece *p = o ? shared_piece(interp, o, size) : NULL;
    Py_XDECREF(o);
    return p;
}

static epy_piece *make_piece(epy_interp *interp, PyObject *data)
{
    Py_buffer view;
    if (PyBytes_CheckExact(data) && PyBytes_GET_SIZE(data) <= EPY_PIECE_SMALL)
        return epy_piece_bytes(PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data));
    if (PyObject_GetBuffer(data, &view, PyBUF_FULL_RO) < 0)
        return NULL; /* TypeError: a bytes-like object is required */
    size_t size = (size_t)view.len;
    bool small = size <= EPY_PIECE_SMALL && PyBuffer_IsContiguous(&view, 'C');
    epy_piece *p = small ? epy_piece_bytes(view.buf, size) : NULL;
    PyBuffer_Release(&view);
    return small ? p : large_piece(interp, data, size);
}

int epy_channel_raise_closed(const epy_interp *interp)
{
    PyErr_SetString(interp->objects.channel_closed, "the channel is closed");
    return -1;
}

/* ---- arguments ---- */

/* None, or seconds. */
static int get_deadline(PyObject *timeout, uint64_t *deadline)
{
    *deadline = 0;
    if (!timeout || timeout == Py_None)
        return 0;
    double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred())
        return -1;
    if (isnan(seconds)) {
        PyErr_SetString(PyExc_ValueError, "the timeout is not a number");
        return -1;
    }
    if (seconds < FOREVER)
        *deadline = seconds > 0 ? epy_now_ns() + (uint64_t)(seconds * 1e9) : 1; /* 1: over */
    return 0;
}

/* function(*required, timeout=None), as a deadline. */
static int get_arguments(PyObject *const *args, Py_ssize_t n, PyObject *names, Py_ssize_t required,
                         const char *usage, uint64_t *deadline)
{
    Py_ssize_t keywords = names ? PyTuple_GET_SIZE(names) : 0;
    bool fits = n >= required && n + keywords <= required + 1;
    if (fits && keywords)
        fits = PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "timeout") == 0;
    if (fits)
        return get_deadline(n + keywords > required ? args[required] : NULL, deadline);
    PyErr_Format(PyExc_TypeError, "the arguments are %s", usage);
    return -1;
}

/* ---- Pipe: receiving ---- */

/* NULL without an exception: it is closed. */
static PyObject *receive_until(epy_interp *interp, epy_pipe *pipe, uint64_t deadline)
{
    epy_waiting w = {.channel = &pipe->to_python, .deadline = deadline};
    int r = epy_channel_wait(interp, &w);
    return r == EPY_CHANNEL_DONE ? epy_channel_received(interp, pipe, w.item) : NULL;
}

PyDoc_STRVAR(receive_doc,
             "receive(timeout=None)\n--\n\n"
             "Take the next item out of the channel, and wait until there is one.\n\n"
             "Raises Timeout after so many seconds without one, and ChannelClosed when the\n"
             "channel is closed and empty.");

static PyObject *receive(PyObject *o, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    uint64_t deadline;
    epy_interp *interp = epy_interp_current();
    if (!interp || get_arguments(args, n, names, 0, "(timeout=None)", &deadline) < 0)
        return NULL;
    PyObject *value = receive_until(interp, epy_pipe_of(o), deadline);
    if (!value && !PyErr_Occurred())
        (void)epy_channel_raise_closed(interp);
    return value;
}

static PyObject *iter_next(PyObject *o)
{
    epy_interp *interp = epy_interp_current();
    return interp ? receive_until(interp, epy_pipe_of(o), 0) : NULL;
}

PyDoc_STRVAR(try_receive_doc,
             "try_receive(default=None)\n--\n\n"
             "Take the next item out of the channel; the default if there is none now.\n\n"
             "Raises ChannelClosed when the channel is closed and empty.");

static PyObject *try_receive(PyObject *o, PyObject *const *args, Py_ssize_t n)
{
    epy_pipe *pipe = epy_pipe_of(o);
    epy_item *item;
    epy_interp *interp = epy_interp_current();
    if (n > 1)
        return PyErr_Format(PyExc_TypeError, "the arguments are (default=None)");
    if (!interp)
        return NULL;
    switch (epy_channel_get(&pipe->to_python, &item, NULL, epy_inline_env())) {
    case EPY_CHANNEL_DONE: return epy_channel_received(interp, pipe, item);
    case EPY_CHANNEL_CLOSED: (void)epy_channel_raise_closed(interp); return NULL;
    default: return Py_NewRef(n ? args[0] : Py_None);
    }
}

/* Takes what fits, and puts the rest back. */
static Py_ssize_t take_part(epy_pipe *pipe, epy_piece *p, const Py_buffer *view)
{
    const unsigned char *data;
    size_t size, n = 0;
    if (epy_piece_inspect(p, &data, &size)) {
        n = size < (size_t)view->len ? size : (size_t)view->len;
        memcpy(view->buf, data, n);
        size -= n;
    } else
        size = 0;
    if (size == 0)
        epy_piece_free(p);
    else {
        p->offset += n;
        p->item.size = size;
        epy_channel_put_back(&pipe->to_python, &p->item, epy_inline_env());
    }
    return (Py_ssize_t)n;
}

PyDoc_STRVAR(receive_into_doc,
             "receive_into(buffer, timeout=None)\n--\n\n"
             "Fill the buffer with what there is, at least a byte: how many; 0 at the end.");

static PyObject *receive_into(PyObject *o, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    Py_buffer view;
    Py_ssize_t size = 0;
    epy_pipe *pipe = epy_pipe_of(o);
    epy_interp *interp = epy_interp_current();
    epy_waiting w = {.channel = &pipe->to_python};
    if (!interp || get_arguments(args, n, names, 1, "(buffer, timeout=None)", &w.deadline) < 0)
        return NULL;
    if (pipe->kind == EPY_PIPE_TERMS)
        return PyErr_Format(PyExc_TypeError, "a channel of terms has no bytes");
    if (PyObject_GetBuffer(args[0], &view, PyBUF_CONTIG) < 0)
        return NULL;
    int r = EPY_CHANNEL_DONE;
    while (view.len > 0 && size == 0 && r == EPY_CHANNEL_DONE)
        if ((r = epy_channel_wait(interp, &w)) == EPY_CHANNEL_DONE)
            size = take_part(pipe, piece_of(w.item), &view);
    PyBuffer_Release(&view);
    return r < 0 ? NULL : PyLong_FromSsize_t(size);
}

/* ---- Pipe: sending ---- */

epy_piece *epy_channel_piece(epy_interp *interp, const epy_pipe *pipe, PyObject *data)
{
    if (pipe->kind == EPY_PIPE_BYTES)
        return make_piece(interp, data);
    PyErr_SetString(PyExc_TypeError, "only Erlang sends to this channel");
    return NULL;
}

PyDoc_STRVAR(send_doc, "send(data, timeout=None)\n--\n\n"
                       "Send bytes to Erlang, and wait until there is room for them.\n\n"
                       "Raises Timeout after so many seconds without, and ChannelClosed.");

static PyObject *send(PyObject *o, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    epy_pipe *pipe = epy_pipe_of(o);
    epy_interp *interp = epy_interp_current();
    epy_waiting w = {.channel = &pipe->to_erlang, .sends = true};
    if (!interp || get_arguments(args, n, names, 1, "(data, timeout=None)", &w.deadline) < 0)
        return NULL;
    epy_piece *piece = epy_channel_piece(interp, pipe, args[0]);
    if (!piece)
        return NULL;
    w.item = &piece->item;
    int r = epy_channel_wait(interp, &w);
    if (r == EPY_CHANNEL_DONE)
        Py_RETURN_NONE;
    epy_piece_free(piece);
    if (r == EPY_CHANNEL_CLOSED)
        (void)epy_channel_raise_closed(interp);
    return NULL;
}

PyDoc_STRVAR(try_send_doc, "try_send(data)\n--\n\n"
                           "Send bytes to Erlang; False if there is no room for them now.\n\n"
                           "Raises ChannelClosed.");

static PyObject *try_send(PyObject *o, PyObject *data)
{
    epy_pipe *pipe = epy_pipe_of(o);
    epy_interp *interp = epy_interp_current();
    epy_piece *piece = interp ? epy_channel_piece(interp, pipe, data) : NULL;
    if (!piece)
        return NULL;
    epy_channel_code code = epy_channel_put(&pipe->to_erlang, &piece->item, NULL, epy_inline_env());
    if (code != EPY_CHANNEL_DONE)
        epy_piece_free(piece);
    if (code == EPY_CHANNEL_CLOSED)
        return epy_channel_raise_closed(interp), NULL;
    return PyBool_FromLong(code == EPY_CHANNEL_DONE);
}

/* ---- Pipe: the rest ---- */

PyDoc_STRVAR(close_doc, "close()\n--\n\n"
                        "Close the channel for both sides.\n\n"
                        "What was sent before can still be received.");

static PyObject *close_pipe(PyObject *o, PyObject *unused)
{
    (void)unused;
    (void)epy_pipe_close(epy_pipe_of(o), epy_inline_env()); /* a second time does nothing */
    Py_RETURN_NONE;
}

static PyObject *enter(PyObject *o, PyObject *unused)
{
    (void)unused;
    return Py_NewRef(o);
}

static PyObject *leave(PyObject *o, PyObject *args)
{
    (void)args;
    return close_pipe(o, NULL);
}

static PyObject *get_closed(PyObject *o, void *unused)
{
    (void)unused;
    return PyBool_FromLong(epy_channel_look(&epy_pipe_of(o)->to_python).closed);
}

static PyObject *get_kind(PyObject *o, void *unused)
{
    (void)unused;
    return PyLong_FromLong(epy_pipe_of(o)->kind);
}

static PyObject *wrap(epy_conv *c, PyTypeObject *type, PyObject *ref)
{
    ERL_NIF_TERM term;
    epy_pipe *pipe = epy_term_get(c, ref, &term) ? epy_pipe_from(c->env, term) : NULL;
    if (!pipe)
        return PyErr_Format(PyExc_TypeError, "%s() takes a channel that comes from Erlang, not %R",
                            type->tp_name, ref);
    PyObject *o = epy_term_object_of(c, type, term);
    if (o)
        ((pipe_object *)o)->pipe = pipe;
    return o;
}

static PyObject *pipe_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *ref;
    epy_conv c;
    static char *names[] = {"ref", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O", names, &ref))
        return NULL;
    epy_interp *interp = epy_interp_current();
    ErlNifEnv *env = interp ? enif_alloc_env() : NULL;
    if (!env)
        return interp ? PyErr_NoMemory() : NULL;
    epy_conv_init(&c, interp, env);
    PyObject *o = wrap(&c, type, ref);
    epy_conv_fini(&c);
    enif_free_env(env);
    return o;
}

/* ---- the module ---- */

/* A cast by way of void: the signature is the one that METH_FASTCALL names. */
#define FAST(f) ((PyCFunction)(void (*)(void))(f))

PyDoc_STRVAR(start_receive_doc, "start_receive(mailbox)\n--\n\n"
                                "A ChannelWait: the mailbox tells of it when there is an item,\n"
                                "or none any more.");

PyDoc_STRVAR(start_send_doc, "start_send(data, mailbox)\n--\n\n"
                             "Send; None.  Or a ChannelWait: the mailbox tells of it when it\n"
                             "may be tried again.");

static PyMethodDef pipe_methods[] = {
    {"receive", FAST(receive), METH_FASTCALL | METH_KEYWORDS, receive_doc},
    {"try_receive", FAST(try_receive), METH_FASTCALL, try_receive_doc},
    {"receive_into", FAST(receive_into), METH_FASTCALL | METH_KEYWORDS, receive_into_doc},
    {"send", FAST(send), METH_FASTCALL | METH_KEYWORDS, send_doc},
    {"try_send", try_send, METH_O, try_send_doc},
    {"start_receive", epy_channel_start_receive, METH_O, start_receive_doc},
    {"start_send", FAST(epy_channel_start_send), METH_FASTCALL, start_send_doc},
    {"close", close_pipe, METH_NOARGS, close_doc},
    {"__enter__", enter, METH_NOARGS, NULL},
    {"__exit__", leave, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef pipe_getset[] = {
    {"closed", get_closed, NULL, "Whether either side closed it; there may still be items.", NULL},
    {"kind", get_kind, NULL, "0: terms; 1: bytes, both ways; 2: a stream of bytes.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot pipe_slots[] = {
    {Py_tp_doc, (void *)"Pipe(ref)\n--\n\nThe Python side of a channel."},
    {Py_tp_new, pipe_new},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, iter_next},
    {Py_tp_methods, pipe_methods},
    {Py_tp_getset, pipe_getset},
    {0, NULL},
};

static PyType_Spec pipe_spec = {
    .name = "erlang.Pipe",
    .basicsize = sizeof(pipe_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = pipe_slots,
};

static int add_exceptions(PyObject *module, epy_objects *o)
{
    o->timeout = PyErr_NewExceptionWithDoc("erlang.Timeout", "Something did not happen in time.",
                                           PyExc_TimeoutError, NULL);
    o->channel_closed = PyErr_NewExceptionWithDoc(
        "erlang.channel.ChannelClosed", "A channel is closed, and has nothing left.", NULL, NULL);
    if (!o->timeout || !o->channel_closed ||
        PyModule_AddObjectRef(module, "Timeout", o->timeout) < 0)
        return -1;
    return PyModule_AddObjectRef(module, "ChannelClosed", o->channel_closed);
}

int epy_channel_py_init(PyObject *module, epy_objects *o)
{
    PyObject *bases = PyTuple_Pack(1, o->term_type);
    if (!bases)
        return -1;
    o->pipe_type = PyType_FromModuleAndSpec(module, &pipe_spec, bases);
    Py_DECREF(bases);
    if (!o->pipe_type || PyModule_AddObjectRef(module, "Pipe", o->pipe_type) < 0 ||
        epy_channel_task_init(module, o) < 0)
        return -1;
    return add_exceptions(module, o);
}
