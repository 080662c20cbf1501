/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_types.h. */
#include "epy_types.h"

#include "epy_buffer.h"
#include "epy_term.h"

/* ---- Atom ---- */

static PyObject *atom_alloc(PyTypeObject *type, ERL_NIF_TERM atom, PyObject *text)
{
    PyObject *args = PyTuple_Pack(1, text);
    if (!args)
        return NULL;
    PyObject *self = PyUnicode_Type.tp_new(type, args, NULL);
    Py_DECREF(args);
    if (self)
        ((epy_atom_object *)self)->atom = atom;
    return self;
}

static PyObject *atom_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *text;
    if (kwargs && PyDict_GET_SIZE(kwargs) > 0)
        return PyErr_Format(PyExc_TypeError, "Atom() takes no keyword arguments");
    if (!PyArg_ParseTuple(args, "U:Atom", &text))
        return NULL;
    ERL_NIF_TERM atom = epy_atom_from_text(text);
    if (!atom)
        return PyErr_Format(PyExc_ValueError,
                            "Atom() takes at most 255 characters, and Python makes at most %d "
                            "atoms that Erlang does not know",
                            EPY_NEW_ATOMS_MAX);
    return atom_alloc(type, atom, text);
}

static PyObject *atom_repr(PyObject *self)
{
    PyObject *text = PyUnicode_Type.tp_repr(self);
    PyObject *repr = text ? PyUnicode_FromFormat("Atom(%U)", text) : NULL;
    Py_XDECREF(text);
    return repr;
}

PyDoc_STRVAR(atom_doc, "Atom(text)\n--\n\n"
                       "An Erlang atom: a str that comes back to Erlang as the atom.");

static PyType_Slot atom_slots[] = {
    {Py_tp_doc, (void *)atom_doc},
    {Py_tp_new, atom_new},
    {Py_tp_repr, atom_repr},
    {0, NULL},
};

static PyType_Spec atom_spec = {
    .name = "erlang.Atom",
    .basicsize = sizeof(epy_atom_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = atom_slots,
};

PyObject *epy_atom_value(const epy_objects *objects, ERL_NIF_TERM atom, PyObject *text)
{
    if (atom == epy_atom.true_)
        return Py_NewRef(Py_True);
    if (atom == epy_atom.false_)
        return Py_NewRef(Py_False);
    if (atom == epy_atom.none || atom == epy_atom.nil || atom == epy_atom.undefined)
        return Py_NewRef(Py_None);
    return atom_alloc((PyTypeObject *)objects->atom_type, atom, text);
}

/* ---- exceptions ---- */

PyDoc_STRVAR(error_doc, "An exception in Erlang.\n\n"
                        "class_: 'error', 'exit' or 'throw'; reason: the Erlang reason;\n"
                        "stack: a list of (module, function, arity, location), innermost first.");
PyDoc_STRVAR(cancelled_doc, "Raised in a request that timed out or was cancelled.\n\n"
                            "Derived from BaseException, so that `except Exception` lets it pass.");
PyDoc_STRVAR(process_doc, "There is no such Erlang process.");
PyDoc_STRVAR(conversion_doc, "A value has no counterpart on the other side.");

static int add_exception(PyObject *module, PyObject **slot, const char *name, const char *doc,
                         PyObject *base)
{
    char full[64];
    PyOS_snprintf(full, sizeof full, "erlang.%s", name);
    *slot = PyErr_NewExceptionWithDoc(full, doc, base, NULL);
    return *slot ? PyModule_AddObjectRef(module, name, *slot) : -1;
}

int epy_types_init(PyObject *module, epy_objects *objects, ternaryfunc call_fun)
{
    PyObject *bases = PyTuple_Pack(1, (PyObject *)&PyUnicode_Type);
    if (!bases)
        return -1;
    objects->atom_type = PyType_FromModuleAndSpec(module, &atom_spec, bases);
    Py_DECREF(bases);
    if (!objects->atom_type || PyModule_AddObjectRef(module, "Atom", objects->atom_type) < 0)
        return -1;
    if (epy_term_init(module, objects, call_fun) < 0 || epy_buffer_init(module, objects) < 0)
        return -1;
    if (add_exception(module, &objects->error, "Error", error_doc, NULL) < 0 ||
        add_exception(module, &objects->cancelled, "Cancelled", cancelled_doc,
                      PyExc_BaseException) < 0 ||
        add_exception(module, &objects->conversion_error, "ConversionError", conversion_doc,
                      PyExc_TypeError) < 0 ||
        add_exception(module, &objects->process_error, "ProcessError", process_doc,
                      PyExc_RuntimeError) < 0)
        return -1;
    return 0;
}
