/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_error.h. */
#include "epy_error.h"

#include "epy_atoms.h"
#include "epy_request.h"
#include "epy_term.h"

#include <string.h>

ERL_NIF_TERM epy_error_term(ErlNifEnv *env, ERL_NIF_TERM reason)
{
    return enif_make_tuple2(env, epy_atom.error, reason);
}

ERL_NIF_TERM epy_binary_term(ErlNifEnv *env, const char *data, size_t size)
{
    ERL_NIF_TERM term;
    unsigned char *p = enif_make_new_binary(env, size, &term);
    if (p)
        memcpy(p, data, size);
    return term;
}

PyObject *epy_error_fetch(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (value && traceback)
        PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
#endif
}

/* The last part of a type's name, as `__name__` has it. */
static PyObject *type_name(PyTypeObject *type)
{
    const char *dot = strrchr(type->tp_name, '.');
    return PyUnicode_FromString(dot ? dot + 1 : type->tp_name);
}

ERL_NIF_TERM epy_error_type(ErlNifEnv *env, PyObject *exception)
{
    if (Py_IS_TYPE(exception, (PyTypeObject *)PyExc_MemoryError))
        return enif_make_atom(env, "MemoryError"); /* there may be no memory for its name */
    PyObject *mro = Py_TYPE(exception)->tp_mro;
    for (Py_ssize_t i = 0; mro && i < PyTuple_GET_SIZE(mro); i++) {
        PyObject *name = type_name((PyTypeObject *)PyTuple_GET_ITEM(mro, i));
        ERL_NIF_TERM atom = name ? epy_atom_from_text(name) : 0;
        Py_XDECREF(name);
        if (atom)
            return atom;
        PyErr_Clear(); /* no memory for a name: a base's will do */
    }
    return epy_atom.error;
}

/* str(exception) in UTF-8; lone surrogates as \udcxx. */
static ERL_NIF_TERM message(ErlNifEnv *env, PyObject *exception)
{
    static const char unprintable[] = "<str() of the exception failed>";
    PyObject *text = PyObject_Str(exception);
    PyObject *utf8 = text ? PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace") : NULL;
    ERL_NIF_TERM term;
    if (utf8)
        term = epy_binary_term(env, PyBytes_AS_STRING(utf8), (size_t)PyBytes_GET_SIZE(utf8));
    else {
        PyErr_Clear(); /* an error within an error: the first one is what counts */
        term = epy_binary_term(env, unprintable, sizeof unprintable - 1);
    }
    Py_XDECREF(utf8);
    Py_XDECREF(text);
    return term;
}

/* What erlang._errors makes of it; 0: not that, for which it has its reasons. */
static ERL_NIF_TERM described(epy_conv *c, PyObject *exception)
{
    ERL_NIF_TERM term = 0;
    PyObject *module = PyImport_ImportModule("erlang._errors");
    PyObject *map = module ? PyObject_CallMethod(module, "describe", "O", exception) : NULL;
    if (!map || epy_toterm(c, map, &term) < 0) {
        PyErr_Clear(); /* no memory, or no stack, as it is; the short form needs neither */
        epy_conv_forget(c);
        term = 0;
    }
    Py_XDECREF(map);
    Py_XDECREF(module);
    return term;
}

ERL_NIF_TERM epy_error_take(epy_conv *c, ERL_NIF_TERM root, PyObject **taken)
{
    PyObject *exception = *taken = epy_error_fetch();
    EPY_ASSERT(R10, exception);
    bool full = c->flags & EPY_ERRORS_FULL && !c->refused;
    ERL_NIF_TERM reason = full ? described(c, exception) : 0;
    ERL_NIF_TERM text = reason ? reason : message(c->env, exception);
    if (c->refused) {
        if (root)
            epy_conv_at(c, root);
        reason = enif_make_tuple3(c->env, epy_atom.conversion, text, c->where);
    } else if (!reason)
        reason = enif_make_tuple2(c->env, epy_error_type(c->env, exception), text);
    return reason;
}

bool epy_error_is(ErlNifEnv *env, PyObject *exception, ERL_NIF_TERM type, ERL_NIF_TERM text)
{
    return enif_is_identical(type, epy_error_type(env, exception)) &&
           enif_is_identical(text, message(env, exception));
}

void epy_error_raise_again(PyObject *exception)
{
    PyErr_Restore(Py_NewRef(Py_TYPE(exception)), Py_NewRef(exception),
                  PyException_GetTraceback(exception));
}

/* A term for Python to look at: itself where it converts, else as it is written. */
static PyObject *shown(epy_conv *c, ERL_NIF_TERM term)
{
    PyObject *o = epy_topy(c, term);
    if (o || !c->refused)
        return o;
    PyErr_Clear(); /* a reason may hold anything; then its text must do */
    epy_conv_forget(c);
    return epy_term_text(term);
}

/* What str() of the exception gives.  Bounded, since errors that pass through
 * many levels of a chain hold each other's text. */
static PyObject *error_text(ERL_NIF_TERM class, ERL_NIF_TERM reason)
{
    PyObject *c = epy_term_text(class), *r = epy_term_text(reason);
    PyObject *text = c && r ? PyUnicode_FromFormat("%U: %U", c, r) : NULL;
    Py_XDECREF(c);
    Py_XDECREF(r);
    return text;
}

void epy_error_raise(epy_conv *c, ERL_NIF_TERM class_reason_stack)
{
    static const char *const names[] = {"class_", "reason", "stack"};
    const ERL_NIF_TERM *parts;
    int n;
    if (!enif_get_tuple(c->env, class_reason_stack, &n, &parts) || n != 3) {
        PyErr_SetString(PyExc_SystemError, "an Erlang error has the form {Class, Reason, Stack}");
        return;
    }
    PyObject *text = error_text(parts[0], parts[1]);
    PyObject *exception = text ? PyObject_CallOneArg(c->interp->objects.error, text) : NULL;
    for (int i = 0; exception && i < 3; i++) {
        PyObject *value = shown(c, parts[i]);
        if (!value || PyObject_SetAttrString(exception, names[i], value) < 0)
            Py_CLEAR(exception);
        Py_XDECREF(value);
    }
    if (exception)
        PyErr_SetObject(c->interp->objects.error, exception);
    Py_XDECREF(exception);
    Py_XDECREF(text);
}
