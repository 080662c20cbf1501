/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See epy_exec.h.  The terms of a request, by operation:
 *
 *   EPY_OP_CALL  module, function, list of arguments, map of keyword arguments
 *   EPY_OP_EVAL  code as a binary, map of locals
 *   EPY_OP_EXEC  code as a binary
 *   EPY_OP_TASK  as a call
 */
#include "epy_exec.h"

#include "epy_atoms.h"
#include "epy_buffer.h"
#include "epy_code.h"
#include "epy_compat.h"
#include "epy_convert.h"
#include "epy_error.h"
#include "epy_executor.h"
#include "epy_fork.h"
#include "epy_handle.h"
#include "epy_namespace.h"
#include "epy_runtime.h"
#include "epy_trace.h"

#include <string.h>

/* An operation under way.  `root` tells in which of its parts a value is that
 * does not convert. */
typedef struct op {
    epy_interp *interp;
    epy_request *req;
    epy_conv conv;
    ERL_NIF_TERM root;
    bool elsewhere; /* see epy_result */
} op;

/* ---- finding the callable ---- */

/* Imports a module and remembers it, so that the next call finds it by one look
 * into sys.modules.  The import also waits for another thread that is still at
 * it: a module that is in sys.modules may be half executed. */
static PyObject *import(op *o, PyObject *text)
{
    if (o->req->manner == EPY_INLINE) {
        o->elsewhere = true; /* a scheduler does not wait for an import */
        return PyErr_Format(PyExc_ImportError, "not on a scheduler");
    }
    PyObject *module = PyImport_Import(text);
    return module;
}

static PyObject *import_named(op *o, epy_name *name)
{
    PyObject *module = import(o, name->text);
    if (module)
        Py_XDECREF(atomic_exchange(&name->module, Py_NewRef(module)));
    return module;
}

static PyObject *find_module(op *o, ERL_NIF_TERM term)
{
    if (!enif_is_atom(o->conv.env, term)) {
        PyObject *text = epy_topy_name(&o->conv, term, "a module");
        PyObject *module = text ? import(o, text) : NULL;
        Py_XDECREF(text);
        return module;
    }
    epy_name *name = epy_names_get(o->interp, term);
    if (!name)
        return NULL;
    PyObject *module = epy_dict_get(o->interp->objects.sys_modules, name->text);
    if (module && module == atomic_load_explicit(&name->module, memory_order_acquire))
        return module;
    Py_XDECREF(module);
    return PyErr_Occurred() ? NULL : import_named(o, name);
}

/* a.b.c of an object, one attribute after the other. */
static PyObject *walk(PyObject *object, PyObject *path)
{
    PyObject *dot = PyUnicode_FromString(".");
    PyObject *parts = dot ? PyUnicode_Split(path, dot, -1) : NULL;
    Py_XDECREF(dot);
    if (!parts)
        return NULL;
    Py_INCREF(object);
    for (Py_ssize_t i = 0; object && i < PyList_GET_SIZE(parts); i++) {
        PyObject *next = PyObject_GetAttr(object, PyList_GET_ITEM(parts, i));
        Py_DECREF(object);
        object = next;
    }
    Py_DECREF(parts);
    return object;
}

static bool is_dotted(PyObject *text)
{
    return PyUnicode_FindChar(text, '.', 0, PyUnicode_GET_LENGTH(text), 1) >= 0;
}

/* A function of '__main__': the caller's own, or the interpreter's. */
static PyObject *find_in_main(op *o, PyObject *name)
{
    PyObject *globals = epy_namespace_globals(o->req->ns, o->interp), *function = NULL, *rest = NULL;
    Py_ssize_t n = PyUnicode_GET_LENGTH(name), dot = PyUnicode_FindChar(name, '.', 0, n, 1);
    PyObject *first = dot < 0 ? Py_NewRef(name) : PyUnicode_Substring(name, 0, dot);
    if (globals && first)
        function = epy_dict_get(globals, first);
    if (!function && !PyErr_Occurred())
        function = epy_dict_get(o->interp->objects.main_dict, first);
    if (!function && !PyErr_Occurred())
        PyErr_Format(PyExc_AttributeError, "'%U' is not defined by this process's exec", first);
    if (function && dot >= 0) {
        PyObject *object = function;
        rest = PyUnicode_Substring(name, dot + 1, n);
        function = rest ? walk(object, rest) : NULL;
        Py_DECREF(object);
    }
    Py_XDECREF(rest);
    Py_XDECREF(first);
    return function;
}

static PyObject *find_function(op *o)
{
    PyObject *function = NULL;
    PyObject *name = epy_topy_name(&o->conv, o->req->terms[1], "a function");
    if (!name)
        return NULL;
    if (o->req->terms[0] == epy_atom.main) {
        function = find_in_main(o, name);
    } else {
        PyObject *module = find_module(o, o->req->terms[0]);
        if (module)
            function = is_dotted(name) ? walk(module, name) : PyObject_GetAttr(module, name);
        Py_XDECREF(module);
    }
    Py_DECREF(name);
    return function;
}

/* Nothing was called yet when this fails; then another interpreter may be the right one. */
static PyObject *search_function(op *o)
{
    epy_compat_begin();
    PyObject *function = find_function(o);
    if (!function && !o->elsewhere)
        o->elsewhere = epy_compat_is_refused(o->interp, o->req->terms[0]);
    return function;
}

/* ---- arguments ---- */

typedef struct args {
    PyObject **values; /* strong; values[-1] is room for the callee */
    PyObject *kwnames; /* strong tuple of str, or NULL */
    unsigned n;        /* values that are set */
    unsigned positional;
    PyObject *few[1 + 8];
    PyObject **many;
} args;

static int args_init(args *a, size_t n)
{
    a->n = 0;
    a->kwnames = NULL;
    a->many = NULL;
    a->values = a->few + 1;
    if (n + 1 > sizeof a->few / sizeof a->few[0]) {
        a->many = PyMem_New(PyObject *, n + 1);
        if (!a->many) {
            PyErr_NoMemory();
            return -1;
        }
        a->values = a->many + 1;
    }
    return 0;
}

static void args_fini(args *a)
{
    while (a->n > 0)
        Py_DECREF(a->values[--a->n]);
    Py_XDECREF(a->kwnames);
    PyMem_Free(a->many);
}

static int convert_positional(op *o, args *a, ERL_NIF_TERM list)
{
    ERL_NIF_TERM head;
    o->root = epy_atom.args;
    while (enif_get_list_cell(o->conv.env, list, &head, &list)) {
        PyObject *value = epy_topy(&o->conv, head);
        if (!value) {
            epy_conv_at_index(&o->conv, a->n);
            return -1;
        }
        a->values[a->n++] = value;
    }
    a->positional = a->n;
    return 0;
}

static int convert_keyword(op *o, args *a, Py_ssize_t i, ERL_NIF_TERM key, ERL_NIF_TERM value)
{
    PyObject *name = epy_topy_name(&o->conv, key, "a keyword");
    if (!name) {
        epy_conv_at_pair(&o->conv, epy_atom.key, key);
        return -1;
    }
    PyTuple_SET_ITEM(a->kwnames, i, name);
    PyObject *v = epy_topy(&o->conv, value);
    if (!v) {
        epy_conv_at_pair(&o->conv, epy_atom.value, key);
        return -1;
    }
    a->values[a->n++] = v;
    return 0;
}

/* An atom and a binary may be the same name.  Python would drop one in silence (R4). */
static int check_unique(PyObject *kwnames)
{
    PyObject *set = PySet_New(kwnames);
    int r = set && PySet_GET_SIZE(set) == PyTuple_GET_SIZE(kwnames) ? 0 : -1;
    if (set && r < 0)
        PyErr_SetString(PyExc_TypeError, "a keyword argument is given twice");
    Py_XDECREF(set);
    return r;
}

static int convert_keywords(op *o, args *a, ERL_NIF_TERM map, size_t size)
{
    ErlNifMapIterator it;
    ERL_NIF_TERM key, value;
    int r = 0;
    o->root = epy_atom.kwargs;
    a->kwnames = PyTuple_New((Py_ssize_t)size);
    if (!a->kwnames)
        return -1;
    enif_map_iterator_create(o->conv.env, map, &it, ERL_NIF_MAP_ITERATOR_FIRST);
    for (Py_ssize_t i = 0; r == 0 && enif_map_iterator_get_pair(o->conv.env, &it, &key, &value);
         i++) {
        r = convert_keyword(o, a, i, key, value);
        enif_map_iterator_next(o->conv.env, &it);
    }
    enif_map_iterator_destroy(o->conv.env, &it);
    return r == 0 && size > 1 ? check_unique(a->kwnames) : r;
}

static int convert_args(op *o, args *a)
{
    ERL_NIF_TERM list = o->req->terms[2], map = o->req->terms[3];
    unsigned n = 0;
    size_t keywords = 0;
    if (!enif_get_list_length(o->conv.env, list, &n)) {
        PyErr_SetString(PyExc_TypeError, "the arguments must be a proper list");
        return -1;
    }
    if (!enif_get_map_size(o->conv.env, map, &keywords)) {
        PyErr_SetString(PyExc_TypeError, "the keyword arguments must be a map");
        return -1;
    }
    if (args_init(a, n + keywords) < 0)
        return -1;
    if (convert_positional(o, a, list) < 0 ||
        (keywords > 0 && convert_keywords(o, a, map, keywords) < 0)) {
        args_fini(a);
        return -1;
    }
    return 0;
}

/* ---- operations ---- */

/* The C functions of builtins may ask for the frame that they are called from:
 * eval, exec, globals, locals, vars and dir do, and fail without one. */
static bool wants_frame(op *o, PyObject *function)
{
    return o->req->terms[0] == epy_atom.builtins && PyCFunction_Check(function);
}

static PyObject *args_tuple(const args *a)
{
    PyObject *t = PyTuple_New(a->positional);
    for (unsigned i = 0; t && i < a->positional; i++)
        PyTuple_SET_ITEM(t, i, Py_NewRef(a->values[i]));
    return t;
}

static PyObject *args_dict(const args *a)
{
    PyObject *d = PyDict_New();
    for (unsigned i = a->positional; d && i < a->n; i++)
        if (PyDict_SetItem(d, PyTuple_GET_ITEM(a->kwnames, i - a->positional), a->values[i]) < 0)
            Py_CLEAR(d);
    return d;
}

/* Calls from a frame whose globals are the caller's namespace and whose locals
 * hold but what the call needs. */
static PyObject *call_in_frame(op *o, PyObject *function, const args *a)
{
    PyObject *globals = epy_namespace_globals(o->req->ns, o->interp), *result = NULL;
    PyObject *t = args_tuple(a), *d = args_dict(a);
    PyObject *locals = t && d ? Py_BuildValue("{sOsOsO}", "function", function, "args", t,
                                              "kwargs", d)
                              : NULL;
    if (globals && locals)
        result = PyEval_EvalCode(o->interp->objects.framed_call, globals, locals);
    Py_XDECREF(locals);
    Py_XDECREF(d);
    Py_XDECREF(t);
    return result;
}

/* eval(code) and exec(code) without a namespace of their own get the caller's: the
 * locals of a frame of ours would show, and would be lost. */
static bool wants_globals(PyObject *function, const args *a)
{
    const char *name = ((PyCFunctionObject *)function)->m_ml->ml_name;
    return a->n == 1 && a->positional == 1 && (!strcmp(name, "eval") || !strcmp(name, "exec"));
}

static PyObject *call_with_globals(op *o, PyObject *function, const args *a)
{
    PyObject *globals = epy_namespace_globals(o->req->ns, o->interp);
    return globals ? PyObject_CallFunctionObjArgs(function, a->values[0], globals, NULL) : NULL;
}

static PyObject *do_call(op *o)
{
    args a;
    PyObject *function = search_function(o), *result = NULL;
    int r = function ? convert_args(o, &a) : -1;
    if (r == 0) {
        o->root = epy_atom.result;
        if (wants_frame(o, function) && wants_globals(function, &a))
            result = call_with_globals(o, function, &a);
        else if (wants_frame(o, function))
            result = call_in_frame(o, function, &a);
        else
            result = PyObject_Vectorcall(function, a.values,
                                         a.positional | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                         a.kwnames);
        args_fini(&a);
    }
    Py_XDECREF(function);
    return result;
}

static PyObject *get_code(op *o, bool exec)
{
    ErlNifBinary bin;
    if (!enif_inspect_binary(o->conv.env, o->req->terms[0], &bin))
        return PyErr_Format(PyExc_TypeError, "code must be a string, a binary or an iolist");
    return epy_code_get(o->interp, (const char *)bin.data, bin.size, exec);
}

static int put_local(op *o, PyObject *globals, ERL_NIF_TERM key, ERL_NIF_TERM value)
{
    int r = -1;
    PyObject *v = NULL, *name = epy_topy_name(&o->conv, key, "a name");
    if (!name) {
        epy_conv_at_pair(&o->conv, epy_atom.key, key);
        return -1;
    }
    v = epy_topy(&o->conv, value);
    if (v)
        r = PyDict_SetItem(globals, name, v);
    else
        epy_conv_at_pair(&o->conv, epy_atom.value, key);
    Py_DECREF(name);
    Py_XDECREF(v);
    return r;
}

/* The namespace with the locals laid over it.  One dictionary, since functions
 * and comprehensions in the expression see only what is global. */
static PyObject *with_locals(op *o, PyObject *globals, ERL_NIF_TERM map)
{
    ErlNifMapIterator it;
    ERL_NIF_TERM key, value;
    o->root = epy_atom.locals;
    if (!enif_map_iterator_create(o->conv.env, map, &it, ERL_NIF_MAP_ITERATOR_FIRST))
        return PyErr_Format(PyExc_TypeError, "the locals must be a map");
    size_t size = 0;
    PyObject *merged = PyDict_Copy(globals), *locals = PyDict_New();
    while (locals && enif_map_iterator_get_pair(o->conv.env, &it, &key, &value)) {
        if (put_local(o, locals, key, value) < 0)
            Py_CLEAR(locals);
        enif_map_iterator_next(o->conv.env, &it);
    }
    enif_map_iterator_destroy(o->conv.env, &it);
    enif_get_map_size(o->conv.env, map, &size);
    if (locals && (size_t)PyDict_GET_SIZE(locals) != size) {
        PyErr_SetString(PyExc_TypeError, "a local is given twice");
        Py_CLEAR(merged);
    } else if (!locals || (merged && PyDict_Update(merged, locals) < 0))
        Py_CLEAR(merged);
    Py_XDECREF(locals);
    return merged;
}

/* In a sub-interpreter, code that begins by importing what refuses to load there runs in the
 * main interpreter, and so does all that its process does from then on: before anything of
 * the code ran, and while the process has defined nothing that would stay behind. */
static int move_if_refused(op *o, bool exec)
{
    ErlNifBinary bin;
    epy_namespace *ns = o->req->ns;
    if (!exec || o->interp->id == 0 || !enif_inspect_binary(o->conv.env, o->req->terms[0], &bin) ||
        !memmem(bin.data, bin.size, "import", 6) || !epy_namespace_is_empty(ns, o->interp))
        return 0;
    PyObject *source = PyUnicode_DecodeUTF8((const char *)bin.data, (Py_ssize_t)bin.size, NULL);
    int r = source ? epy_compat_imports_refuse(o->interp, source) : -1;
    Py_XDECREF(source);
    if (r <= 0)
        return r;
    atomic_store(&ns->in_main, true);
    o->elsewhere = true;
    PyErr_SetString(PyExc_ImportError, "the main interpreter runs this");
    return -1;
}

static PyObject *run_code(op *o, bool exec, ERL_NIF_TERM locals)
{
    size_t n = 0;
    PyObject *globals = epy_namespace_globals(o->req->ns, o->interp), *result = NULL;
    PyObject *code = globals ? get_code(o, exec) : NULL;
    if (!code || move_if_refused(o, exec) < 0) {
        Py_XDECREF(code);
        return NULL;
    }
    if (enif_get_map_size(o->conv.env, locals, &n) && n == 0)
        Py_INCREF(globals);
    else
        globals = with_locals(o, globals, locals);
    if (globals) {
        o->root = epy_atom.result;
        result = PyEval_EvalCode(code, globals, globals);
    }
    Py_XDECREF(globals);
    Py_DECREF(code);
    return result;
}

static PyObject *do_eval(op *o)
{
    return run_code(o, false, o->req->terms[1]);
}

static PyObject *do_exec(op *o)
{
    return run_code(o, true, enif_make_new_map(o->conv.env));
}

static PyObject *do_turn(op *o)
{
    return o->req->hooks->turn(o->interp, o->req);
}

static PyObject *(*const operations[EPY_OP_COUNT])(op *) = {
    [EPY_OP_CALL] = do_call,
    [EPY_OP_EVAL] = do_eval,
    [EPY_OP_EXEC] = do_exec,
    [EPY_OP_TURN] = do_turn,
};

bool epy_exec_needs_namespace(const epy_request *req)
{
    ERL_NIF_TERM module = req->terms[0];
    bool call = req->op == EPY_OP_CALL || req->op == EPY_OP_TASK;
    return !call || module == epy_atom.main || module == epy_atom.builtins;
}

static int convert_result(epy_conv *c, PyObject *value, ERL_NIF_TERM *term)
{
    if (c->flags & EPY_RETURN_BUFFER)
        return epy_buffer_toterm(c, value, term);
    if (!(c->flags & EPY_RETURN_HANDLE))
        return epy_toterm(c, value, term);
    *term = epy_handle_term(c, value);
    return 0;
}

/* The frame in which a nested request ran keeps the exception, so that it can go on in the code
 * outside should the callback fail with it. */
static void keep_raised(const epy_request *req, PyObject *exception)
{
    epy_frame *f = req->outer ? epy_self->frames.innermost : NULL; /* this thread writes it */
    if (f)
        Py_XSETREF(*(PyObject **)&f->raised, exception);
    else
        Py_DECREF(exception);
}

static ERL_NIF_TERM take_error(op *o)
{
    PyObject *exception;
    ERL_NIF_TERM reason = epy_error_take(&o->conv, o->root, &exception);
    keep_raised(o->req, exception);
    return epy_error_term(o->conv.env, reason);
}

static void begin(op *o)
{
    epy_conv_init(&o->conv, o->interp, o->req->env);
    o->conv.flags = o->req->flags;
    if (epy_runtime_config()->errors_full && !(o->req->flags & EPY_ERRORS_SHORT))
        o->conv.flags |= EPY_ERRORS_FULL;
}

/* Takes the value; NULL: an exception is set. */
static epy_result end(op *o, PyObject *value)
{
    ERL_NIF_TERM term = epy_atom.ok;
    int r = value ? 0 : -1;
    if (value && o->req->op != EPY_OP_EXEC) {
        r = convert_result(&o->conv, value, &term);
        term = r == 0 ? enif_make_tuple2(o->req->env, epy_atom.ok, term) : term;
    }
    if (r < 0)
        term = take_error(o);
    Py_XDECREF(value);
    epy_conv_fini(&o->conv);
    return (epy_result){.term = term, .failed = r < 0, .elsewhere = o->elsewhere};
}

epy_result epy_exec(epy_interp *interp, epy_request *req)
{
    op o = {.interp = interp, .req = req};
    begin(&o);
    PyObject *trace = epy_trace_begin(interp, req->env, req->trace, req->outer != NULL);
    PyObject *value = operations[req->op](&o);
    if (epy_fork_is_child())
        epy_fork_end();
    epy_result result = end(&o, value);
    epy_trace_end(interp, trace);
    return result;
}

PyObject *epy_exec_call(epy_interp *interp, epy_request *req, epy_result *result)
{
    op o = {.interp = interp, .req = req};
    begin(&o);
    PyObject *value = do_call(&o);
    if (value)
        epy_conv_fini(&o.conv);
    else
        *result = end(&o, NULL);
    return value;
}

epy_result epy_exec_end(epy_interp *interp, epy_request *req, PyObject *value)
{
    op o = {.interp = interp, .req = req, .root = epy_atom.result};
    begin(&o);
    return end(&o, value);
}
