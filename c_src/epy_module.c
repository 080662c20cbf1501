/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See epy_module.h.  Multi-phase initialization with the state per module, so
 * that each interpreter has its own.  The state is a pointer to the interpreter,
 * whose epy_objects hold what the module's types are.
 */
#include "epy_module.h"

#include "epy_callback.h"
#include "epy_channel_py.h"
#include "epy_compat.h"
#include "epy_error.h"
#include "epy_executor.h"
#include "epy_fault.h"
#include "epy_interp.h"
#include "epy_host.h"
#include "epy_interrupt.h"
#include "epy_mailbox.h"
#include "epy_mode.h"
#include "epy_output.h"
#include "epy_send.h"
#include "epy_spawned.h"
#include "epy_state.h"
#include "epy_trace.h"
#include "epy_types.h"
#include "epy_wakeup.h"

typedef struct module_state {
    epy_interp *interp; /* borrowed; interpreters are never freed */
} module_state;

PyDoc_STRVAR(call_doc, "call(name, *args)\n--\n\n"
                       "Call a function that Erlang registered with py:register_function/2,3.\n\n"
                       "Raises Error with the class, reason and stack of an Erlang exception.");

static PyObject *call(PyObject *module, PyObject *args)
{
    epy_interp *interp = epy_interp_current(); /* NULL in finalizers that run at its end */
    Py_ssize_t n = PyTuple_GET_SIZE(args);
    (void)module;
    if (!interp)
        return NULL;
    PyTypeObject *fun = (PyTypeObject *)interp->objects.fun_type;
    if (n < 1 || !(PyUnicode_Check(PyTuple_GET_ITEM(args, 0)) ||
                   PyObject_TypeCheck(PyTuple_GET_ITEM(args, 0), fun)))
        return PyErr_Format(PyExc_TypeError,
                            "call() takes the name of a function, or an erlang.Fun, first");
    PyObject *rest = PyTuple_GetSlice(args, 1, n), *result = NULL;
    if (rest)
        result = epy_callback_call(interp, PyTuple_GET_ITEM(args, 0), rest);
    Py_XDECREF(rest);
    return result;
}

/* fun(*args) */
static PyObject *call_fun(PyObject *fun, PyObject *args, PyObject *kwargs)
{
    if (kwargs && PyDict_GET_SIZE(kwargs) > 0)
        return PyErr_Format(PyExc_TypeError, "an Erlang fun takes no keyword arguments");
    epy_interp *interp = epy_interp_current();
    return interp ? epy_callback_call(interp, fun, args) : NULL;
}

/* For erlang/_compat.py; see epy_compat.h. */

static PyObject *look_first(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *name, *path;
    if (!PyArg_ParseTuple(args, "UO:look_first", &name, &path))
        return NULL;
    return epy_compat_look_first(name, path);
}

static PyObject *refused(PyObject *module, PyObject *name)
{
    (void)module;
    return epy_compat_refused(name);
}

static PyObject *gil_enabled(PyObject *module, PyObject *name)
{
    (void)module;
    return epy_compat_gil_enabled(name);
}

/* For atexit: see epy_interp.c. */
static PyObject *clear_interpreter(PyObject *module, PyObject *unused)
{
    module_state *state = PyModule_GetState(module);
    (void)unused;
    epy_interp_clear(state->interp);
    Py_RETURN_NONE;
}

/* For erlang/_setup.py: namespaces are to look into __main__ again. */
static PyObject *preloaded(PyObject *module, PyObject *unused)
{
    module_state *state = PyModule_GetState(module);
    (void)unused;
    atomic_fetch_add(&state->interp->preloaded, 1);
    Py_RETURN_NONE;
}

/* For erlang/_output.py. */

static PyObject *output(PyObject *module, PyObject *text)
{
    module_state *state = PyModule_GetState(module);
    if (!PyUnicode_Check(text))
        return PyErr_Format(PyExc_TypeError, "output() takes a str");
    int r = epy_output_write(state->interp, text);
    return r < 0 ? NULL : PyBool_FromLong(r);
}

static PyObject *output_flush(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    if (epy_output_flush() < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* For erlang/_errors.py. */
static PyObject *type_atom(PyObject *module, PyObject *exception)
{
    module_state *state = PyModule_GetState(module);
    ErlNifEnv *env = enif_alloc_env();
    if (!env)
        return PyErr_NoMemory();
    epy_name *name = epy_names_get(state->interp, epy_error_type(env, exception));
    enif_free_env(env);
    return name ? Py_NewRef(name->value) : NULL;
}

/* For erlang/_inspect.py. */
static PyObject *frames(PyObject *module, PyObject *unused)
{
    module_state *state = PyModule_GetState(module);
    (void)unused;
    return epy_executors_frames(state->interp);
}

#ifdef EPY_DEBUG
/* convert_failing(value, n) -> (value, failed): there and back with the n-th allocation
 * failing, if there are so many. */
static PyObject *convert_failing(PyObject *module, PyObject *args)
{
    module_state *state = PyModule_GetState(module);
    PyObject *value, *back = NULL;
    ERL_NIF_TERM term;
    long n;
    epy_conv c;
    if (!PyArg_ParseTuple(args, "Ol:convert_failing", &value, &n))
        return NULL;
    ErlNifEnv *env = enif_alloc_env();
    if (!env)
        return PyErr_NoMemory();
    epy_conv_init(&c, state->interp, env);
    epy_fault_arm(n);
    if (epy_toterm(&c, value, &term) == 0)
        back = epy_topy(&c, term);
    bool failed = epy_fault_disarm();
    epy_conv_fini(&c);
    enif_free_env(env);
    return back ? Py_BuildValue("NO", back, failed ? Py_True : Py_False) : NULL;
}
#endif

/* sys.unraisablehook, in front of the one that was there.  In C: Python code that interrupts
 * its own thread is hit by that itself. */
static PyObject *unraisable(PyObject *module, PyObject *what)
{
    module_state *state = PyModule_GetState(module);
    const epy_objects *objects = &state->interp->objects;
    PyObject *type = PyObject_GetAttrString(what, "exc_type");
    if (!type)
        return NULL;
    Py_DECREF(type); /* `what` has it */
    if (epy_self && type == objects->cancelled && epy_interrupt_again(epy_self))
        Py_RETURN_NONE;
    return PyObject_CallOneArg(objects->unraisable_hook, what);
}

static PyMethodDef methods[] = {
    {"unraisable", unraisable, METH_O, NULL},
#ifdef EPY_DEBUG
    {"convert_failing", convert_failing, METH_VARARGS, NULL},
#endif
    {"call", call, METH_VARARGS, call_doc},
    {"look_first", look_first, METH_VARARGS, NULL},
    {"refused", refused, METH_O, NULL},
    {"gil_enabled", gil_enabled, METH_O, NULL},
    {"output", output, METH_O, NULL},
    {"output_flush", output_flush, METH_NOARGS, NULL},
    {"type_atom", type_atom, METH_O, NULL},
    {"preloaded", preloaded, METH_NOARGS, NULL},
    {"clear_interpreter", clear_interpreter, METH_NOARGS, NULL},
    {"frames", frames, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static int exec_module(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
    state->interp = epy_interp_current();
    if (!state->interp)
        return -1;
    if (state->interp->objects.atom_type) {
        PyErr_SetString(PyExc_ImportError, "_erlang is loaded once in an interpreter");
        return -1;
    }
    epy_objects *objects = &state->interp->objects;
    if (epy_types_init(module, objects, call_fun) < 0 || epy_send_init(module) < 0 ||
        epy_mailbox_init(module, objects) < 0 || epy_state_init(module, objects) < 0 ||
        epy_host_init(module, objects) < 0 || epy_wakeup_init(module) < 0)
        return -1;
    if (epy_channel_py_init(module, objects) < 0 || epy_spawned_init(module) < 0)
        return -1;
    return epy_trace_init(module, objects);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, exec_module},
    EPY_MODULE_SLOTS
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_erlang",
    .m_doc = "The inner side of the package erlang; use that.",
    .m_size = sizeof(module_state),
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC epy_module_init(void)
{
    return PyModuleDef_Init(&definition);
}
