/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_term.h. */
#include "epy_term.h"

#include <stdlib.h>

typedef epy_opaque term_object;

/* ---- the environment ---- */

static epy_terms *terms_new(void)
{
    epy_terms *t = malloc(sizeof *t);
    ErlNifEnv *env = t ? enif_alloc_env() : NULL;
    if (!env) {
        free(t);
        PyErr_NoMemory();
        return NULL;
    }
    atomic_init(&t->refs, 1);
    t->env = env;
    return t;
}

void epy_terms_put(epy_terms *terms)
{
    if (atomic_fetch_sub(&terms->refs, 1) > 1)
        return;
    enif_free_env(terms->env);
    free(terms);
}

epy_terms *epy_terms_of(epy_conv *c)
{
    if (!c->terms)
        c->terms = terms_new();
    return c->terms;
}

/* ---- objects ---- */

static PyTypeObject *type_of(epy_conv *c, ERL_NIF_TERM term)
{
    const epy_objects *o = &c->interp->objects;
    switch (enif_term_type(c->env, term)) {
    case ERL_NIF_TERM_TYPE_PID: return (PyTypeObject *)o->pid_type;
    case ERL_NIF_TERM_TYPE_PORT: return (PyTypeObject *)o->port_type;
    case ERL_NIF_TERM_TYPE_REFERENCE: return (PyTypeObject *)o->ref_type;
    case ERL_NIF_TERM_TYPE_FUN: return (PyTypeObject *)o->fun_type;
    default: return (PyTypeObject *)o->term_type;
    }
}

/* Atoms and what is of this node and not on the heap need no environment. */
static bool is_immediate(ErlNifEnv *env, ERL_NIF_TERM term)
{
    ErlNifPid pid;
    ErlNifPort port;
    return enif_is_atom(env, term) || enif_get_local_pid(env, term, &pid) ||
           enif_get_local_port(env, term, &port);
}

PyObject *epy_term_object(epy_conv *c, ERL_NIF_TERM term)
{
    return epy_term_object_of(c, type_of(c, term), term);
}

PyObject *epy_term_object_of(epy_conv *c, PyTypeObject *type, ERL_NIF_TERM term)
{
    bool immediate = is_immediate(c->env, term);
    epy_terms *terms = immediate ? NULL : epy_terms_of(c);
    if (!terms && !immediate)
        return NULL;
    term_object *self = (term_object *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->term = terms ? enif_make_copy(terms->env, term) : term;
    self->terms = terms;
    if (terms)
        atomic_fetch_add(&terms->refs, 1);
    return (PyObject *)self;
}

static bool is_term(const epy_interp *interp, PyObject *o)
{
    return PyObject_TypeCheck(o, (PyTypeObject *)interp->objects.term_type);
}

bool epy_term_get(epy_conv *c, PyObject *o, ERL_NIF_TERM *term)
{
    if (!is_term(c->interp, o))
        return false;
    term_object *self = (term_object *)o;
    *term = self->terms ? enif_make_copy(c->env, self->term) : self->term;
    return true;
}

static void dealloc(PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    epy_terms *terms = ((term_object *)o)->terms;
    type->tp_free(o);
    Py_DECREF(type);
    if (terms)
        epy_terms_put(terms);
}

/* ---- what Python sees ---- */

static Py_hash_t hash(PyObject *o)
{
    return (Py_hash_t)enif_hash(ERL_NIF_PHASH2, ((term_object *)o)->term, 0);
}

static PyObject *compare(PyObject *a, PyObject *b, int op)
{
    epy_interp *interp = epy_interp_current();
    if (!interp)
        return NULL;
    if (!is_term(interp, a) || !is_term(interp, b))
        Py_RETURN_NOTIMPLEMENTED;
    ERL_NIF_TERM x = ((term_object *)a)->term, y = ((term_object *)b)->term;
    if (op == Py_EQ || op == Py_NE)
        return PyBool_FromLong((enif_is_identical(x, y) != 0) == (op == Py_EQ));
    Py_RETURN_RICHCOMPARE(enif_compare(x, y), 0, op);
}

PyObject *epy_term_text(ERL_NIF_TERM term)
{
    char buf[512];
    int n = enif_snprintf(buf, sizeof buf, "%T", term);
    bool cut = n < 0 || n >= (int)sizeof buf;
    PyObject *text = PyUnicode_DecodeUTF8(buf, cut ? (int)sizeof buf - 1 : n, "replace");
    if (text && cut)
        Py_SETREF(text, PyUnicode_FromFormat("%U...", text));
    return text;
}

static PyObject *repr(PyObject *o)
{
    PyObject *text = epy_term_text(((term_object *)o)->term);
    PyObject *name = text ? PyObject_GetAttrString((PyObject *)Py_TYPE(o), "__name__") : NULL;
    PyObject *result = name ? PyUnicode_FromFormat("%S(%U)", name, text) : NULL;
    Py_XDECREF(name);
    Py_XDECREF(text);
    return result;
}

/* Converts either way in an environment of its own, and forgets it. */
static PyObject *convert(PyObject *from, PyObject *(*make)(epy_conv *c, ERL_NIF_TERM term))
{
    epy_interp *interp = epy_interp_current();
    ErlNifEnv *env = interp ? enif_alloc_env() : NULL;
    PyObject *result = NULL;
    ERL_NIF_TERM term;
    epy_conv c;
    if (!env)
        return interp ? PyErr_NoMemory() : NULL;
    epy_conv_init(&c, interp, env);
    if (epy_toterm(&c, from, &term) == 0)
        result = make(&c, term);
    epy_conv_fini(&c);
    enif_free_env(env);
    return result;
}

static PyObject *new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *value;
    (void)type;
    if (kwargs && PyDict_GET_SIZE(kwargs) > 0)
        return PyErr_Format(PyExc_TypeError, "Term() takes no keyword arguments");
    return PyArg_ParseTuple(args, "O:Term", &value) ? convert(value, epy_term_object) : NULL;
}

PyObject *epy_no_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    return PyErr_Format(PyExc_TypeError, "an object of type %s comes from Erlang", type->tp_name);
}

static PyObject *plain(epy_conv *c, ERL_NIF_TERM term)
{
    PyObject *o = epy_topy(c, term);
    if (o && is_term(c->interp, o)) {
        epy_conv_refuse(c, "this term has no other Python value");
        Py_CLEAR(o);
    }
    return o;
}

static PyObject *value(PyObject *self, PyObject *unused)
{
    (void)unused;
    return convert(self, plain);
}

static PyObject *itself(PyObject *self, PyObject *unused)
{
    (void)unused;
    return Py_NewRef(self);
}

PyDoc_STRVAR(value_doc, "value()\n--\n\n"
                        "The Python value of the term, such as the list of a key that is a list.\n\n"
                        "Raises ConversionError where there is none.");

static PyMethodDef methods[] = {
    {"value", value, METH_NOARGS, value_doc},
    {"__copy__", itself, METH_NOARGS, NULL},
    {"__deepcopy__", itself, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(term_doc, "Term(value)\n--\n\n"
                       "An Erlang term that Python does not look into, and that comes back equal.\n\n"
                       "Term(value) is what Erlang gets for the value.  Maps have keys of this type\n"
                       "where Python cannot hash the key: `d[Term([1, 2])]`.");

static PyType_Slot term_slots[] = {
    {Py_tp_doc, (void *)term_doc}, {Py_tp_new, new},      {Py_tp_dealloc, dealloc},
    {Py_tp_hash, hash},            {Py_tp_repr, repr},    {Py_tp_richcompare, compare},
    {Py_tp_methods, methods},      {0, NULL},
};

static PyType_Spec term_spec = {
    .name = "erlang.Term",
    .basicsize = sizeof(term_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = term_slots,
};

static int add(PyObject *module, PyObject **slot, PyType_Spec *spec, PyObject *bases)
{
    *slot = PyType_FromModuleAndSpec(module, spec, bases);
    return *slot ? PyModule_AddObjectRef(module, spec->name + sizeof "erlang." - 1, *slot) : -1;
}

static int add_derived(PyObject *module, PyObject **slot, PyObject *bases, const char *name,
                       const char *doc, ternaryfunc call)
{
    PyType_Slot slots[] = {
        {Py_tp_doc, (void *)doc},
        {Py_tp_new, epy_no_new},
        {call ? Py_tp_call : 0, (void *)call}, /* 0 ends the list */
        {0, NULL},
    };
    PyType_Spec spec = {.name = name,
                        .basicsize = sizeof(term_object),
                        .flags = Py_TPFLAGS_DEFAULT,
                        .slots = slots};
    return add(module, slot, &spec, bases);
}

PyDoc_STRVAR(fun_doc, "A fun of Erlang.\n\nTo call it is to run it in the Erlang process that called this code.");

int epy_term_init(PyObject *module, epy_objects *o, ternaryfunc call_fun)
{
    if (add(module, &o->term_type, &term_spec, NULL) < 0)
        return -1;
    PyObject *bases = PyTuple_Pack(1, o->term_type);
    int r = bases ? 0 : -1;
    if (r == 0)
        r = add_derived(module, &o->pid_type, bases, "erlang.Pid", "A process of Erlang.", NULL);
    if (r == 0)
        r = add_derived(module, &o->ref_type, bases, "erlang.Ref", "A reference of Erlang.", NULL);
    if (r == 0)
        r = add_derived(module, &o->port_type, bases, "erlang.Port", "A port of Erlang.", NULL);
    if (r == 0)
        r = add_derived(module, &o->fun_type, bases, "erlang.Fun", fun_doc, call_fun);
    Py_XDECREF(bases);
    return r;
}
