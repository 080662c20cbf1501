/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_buffer.h. */
#include "epy_buffer.h"

#include "epy_mode.h"
#include "epy_term.h"

#include <string.h>

/* ---- to Python ---- */

/* What a memoryview of a binary stands on. */
typedef struct binary_object {
    PyObject_HEAD
    epy_terms *terms;  /* strong */
    ERL_NIF_TERM term; /* in terms->env */
} binary_object;

static void dealloc(PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    epy_terms *terms = ((binary_object *)o)->terms;
    type->tp_free(o);
    Py_DECREF(type);
    epy_terms_put(terms);
}

static int get_buffer(PyObject *o, Py_buffer *view, int flags)
{
    ErlNifBinary bin;
    binary_object *self = (binary_object *)o;
    if (!enif_inspect_binary(self->terms->env, self->term, &bin)) {
        PyErr_SetString(PyExc_BufferError, "this is not a binary any more");
        return -1;
    }
    return PyBuffer_FillInfo(view, o, bin.data, (Py_ssize_t)bin.size, 1, flags);
}

static PyType_Slot binary_slots[] = {
    {Py_tp_doc, (void *)"The bytes of an Erlang binary, under a memoryview."},
    {Py_tp_dealloc, dealloc},
    {Py_bf_getbuffer, get_buffer},
    {0, NULL},
};

static PyType_Spec binary_spec = {
    .name = "erlang.Binary",
    .basicsize = sizeof(binary_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = binary_slots,
};

int epy_buffer_init(PyObject *module, epy_objects *objects)
{
    objects->binary_type = PyType_FromModuleAndSpec(module, &binary_spec, NULL);
    if (!objects->binary_type)
        return -1;
    ((PyTypeObject *)objects->binary_type)->tp_new = NULL; /* they come from Erlang only */
    return 0;
}

PyObject *epy_buffer_view(epy_conv *c, ERL_NIF_TERM binary)
{
    epy_terms *terms = epy_terms_of(c);
    PyTypeObject *type = (PyTypeObject *)c->interp->objects.binary_type;
    binary_object *self = terms ? (binary_object *)type->tp_alloc(type, 0) : NULL;
    if (!self)
        return NULL;
    atomic_fetch_add(&terms->refs, 1);
    self->terms = terms;
    self->term = enif_make_copy(terms->env, binary); /* of its header; the bytes are shared */
    PyObject *view = PyMemoryView_FromObject((PyObject *)self);
    Py_DECREF(self);
    return view;
}

/* Of a memoryview that was not released, whose base may else be gone. */
static bool is_whole(const epy_conv *c, PyObject *memoryview)
{
    ErlNifBinary bin;
    binary_object *base = (binary_object *)PyMemoryView_GET_BASE(memoryview);
    Py_buffer *view = PyMemoryView_GET_BUFFER(memoryview);
    return base && Py_TYPE(base) == (PyTypeObject *)c->interp->objects.binary_type &&
           enif_inspect_binary(base->terms->env, base->term, &bin) && view->buf == bin.data &&
           view->len == (Py_ssize_t)bin.size && PyBuffer_IsContiguous(view, 'C');
}

bool epy_buffer_origin(epy_conv *c, PyObject *o, ERL_NIF_TERM *term)
{
    PyObject *memoryview = PyMemoryView_Check(o) ? PyMemoryView_FromObject(o) : NULL;
    if (!memoryview) {
        PyErr_Clear(); /* it was released: whoever reads it says so */
        return false;
    }
    bool is = is_whole(c, memoryview);
    if (is)
        *term = enif_make_copy(c->env, ((binary_object *)PyMemoryView_GET_BASE(memoryview))->term);
    Py_DECREF(memoryview);
    return is;
}

/* ---- to Erlang ---- */

static ErlNifResourceType *type; /* of epy_kept */

int epy_buffer_open(ErlNifEnv *env)
{
    type = epy_kept_type(env, "buffer");
    return type ? EPY_OK : EPY_ENOMEM;
}

int epy_buffer_share(epy_conv *c, PyObject *object, const char *data, size_t size, size_t least,
                     ERL_NIF_TERM *term)
{
    if (size < least || c->interp->own)
        return epy_toterm_bytes(c, data, size, term);
    epy_kept *kept = enif_alloc_resource(type, sizeof *kept);
    epy_kept_init(kept, c->interp, object);
    *term = enif_make_resource_binary(c->env, kept, data, size);
    enif_release_resource(kept);
    return 0;
}

/* An array of numpy that owns its memory. */
static bool owns_data(PyObject *o)
{
    PyObject *flags = PyObject_GetAttrString(o, "flags");
    PyObject *owns = flags ? PyObject_GetAttrString(flags, "owndata") : NULL;
    if (!owns)
        PyErr_Clear(); /* some other exporter: copied */
    Py_XDECREF(owns);
    Py_XDECREF(flags);
    return owns == Py_True;
}

/* Does nobody but the caller refer to the object, so that nobody changes its bytes?  Its
 * views would refer to it. */
static bool is_alone(PyObject *o)
{
    return !PyMemoryView_Check(o) && epy_mode_is_only_reference(o) &&
           (PyByteArray_CheckExact(o) || owns_data(o));
}

/* The bytes in the order of their elements, wherever those are. */
static int copy(epy_conv *c, Py_buffer *view, ERL_NIF_TERM *term)
{
    unsigned char *p = enif_make_new_binary(c->env, (size_t)view->len, term);
    if (p)
        return PyBuffer_ToContiguous(p, view, view->len, 'C');
    PyErr_NoMemory();
    return -1;
}

/* The memoryview exports the object's bytes and keeps it alive. */
static int from_view(epy_conv *c, PyObject *memoryview, bool frozen, ERL_NIF_TERM *term)
{
    Py_buffer *view = PyMemoryView_GET_BUFFER(memoryview);
    if (frozen && PyBuffer_IsContiguous(view, 'C'))
        return epy_buffer_share(c, memoryview, view->buf, (size_t)view->len, EPY_SHARE_SMALL,
                                term);
    return copy(c, view, term);
}

int epy_buffer_toterm(epy_conv *c, PyObject *o, ERL_NIF_TERM *term)
{
    Py_ssize_t size;
    if (PyBytes_CheckExact(o))
        return epy_buffer_share(c, o, PyBytes_AS_STRING(o), (size_t)PyBytes_GET_SIZE(o),
                                EPY_SHARE_SMALL, term);
    if (PyUnicode_CheckExact(o)) {
        const char *utf8 = PyUnicode_AsUTF8AndSize(o, &size);
        return utf8 ? epy_buffer_share(c, o, utf8, (size_t)size, EPY_SHARE_SMALL, term) : -1;
    }
    if (!PyObject_CheckBuffer(o))
        return epy_conv_refuse(c, "an object of type '%.200s' is no buffer",
                               Py_TYPE(o)->tp_name);
    if (epy_buffer_origin(c, o, term))
        return 0;
    bool alone = is_alone(o);
    PyObject *view = PyMemoryView_FromObject(o);
    int r = view ? from_view(c, view, alone || PyBytes_CheckExact(PyMemoryView_GET_BASE(view)),
                             term)
                 : -1;
    Py_XDECREF(view);
    return r;
}
