/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_compat.h. */
#include "epy_compat.h"

#include "epy_atoms.h"
#include "epy_error.h"
#include "epy_executor.h"
#include "epy_request.h"
#include "epy_route.h"
#include "epy_runtime.h"
#include "epy_stats.h"

#include <stdlib.h>
#include <string.h>

#define NAMES_MAX 256 /* names in a list; more are counted in none */
#define CANCEL_POLL_NS 20000000

/* ---- lists of names ---- */

typedef struct names {
    pthread_mutex_t lock; /* guards both below; a leaf */
    char *texts[NAMES_MAX];
    int n;
} names;

static names refused = {.lock = PTHREAD_MUTEX_INITIALIZER}; /* extension modules, and what moved */
static names moved = {.lock = PTHREAD_MUTEX_INITIALIZER};   /* modules that were called */
static names gil_enablers = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* True when the name is new.  One for which there is no memory is not kept. */
static bool add_name(names *list, const char *text)
{
    bool new = true;
    char *copy = NULL;
    pthread_mutex_lock(&list->lock);
    for (int i = 0; new && i < list->n; i++)
        new = strcmp(list->texts[i], text) != 0;
    if (new && list->n < NAMES_MAX && (copy = strdup(text)))
        list->texts[list->n++] = copy;
    pthread_mutex_unlock(&list->lock);
    return new;
}

static ERL_NIF_TERM list_term(ErlNifEnv *env, names *list)
{
    ERL_NIF_TERM term = enif_make_list(env, 0);
    pthread_mutex_lock(&list->lock);
    for (int i = list->n; i-- > 0;)
        term = enif_make_list_cell(env, epy_binary_term(env, list->texts[i], strlen(list->texts[i])), term);
    pthread_mutex_unlock(&list->lock);
    return term;
}

ERL_NIF_TERM epy_compat_refused_modules(ErlNifEnv *env)
{
    return list_term(env, &refused);
}

ERL_NIF_TERM epy_compat_gil_enablers(ErlNifEnv *env)
{
    return list_term(env, &gil_enablers);
}

static void tell(ERL_NIF_TERM what, const char *text)
{
    ErlNifEnv *env = enif_alloc_env();
    if (env)
        epy_event_tell(NULL, env, enif_make_tuple2(env, what, epy_binary_term(env, text, strlen(text))));
}

/* ---- the look ---- */

static epy_service looker;

/* Held by who waits and by the thread that looks; the second to part frees it. */
typedef struct look {
    epy_job job;
    char *name, *path;  /* owned; path may be NULL */
    char *problem;      /* owned; NULL: none */
    atomic_int done;    /* futex word */
    atomic_int parted;
} look;

static void part(look *l)
{
    if (atomic_fetch_add(&l->parted, 1) == 0)
        return;
    free(l->name);
    free(l->path);
    free(l->problem);
    free(l);
}

static char *describe(PyObject *text)
{
    const char *utf8 = text ? PyUnicode_AsUTF8(text) : NULL;
    if (!utf8)
        PyErr_Clear(); /* the look failed in a way of its own: that is told */
    return strdup(utf8 ? utf8 : "it could not be asked");
}

static void run_look(epy_job *job, epy_interp *interp)
{
    (void)interp;
    look *l = EPY_CONTAINER(job, look, job);
    PyObject *compat = PyImport_ImportModule("erlang._compat");
    PyObject *text =
        compat ? PyObject_CallMethod(compat, "look", "sz", l->name, l->path) : NULL;
    l->problem = text == Py_None ? NULL : describe(text);
    Py_XDECREF(text);
    Py_XDECREF(compat);
    atomic_store(&l->done, 1);
    epy_futex_wake_one(&l->done);
    part(l);
}

static look *new_look(PyObject *name, PyObject *path)
{
    const char *n = PyUnicode_AsUTF8(name);
    const char *p = path == Py_None ? NULL : PyUnicode_AsUTF8(path);
    if (!n || (path != Py_None && !p))
        return NULL;
    look *l = calloc(1, sizeof *l);
    if (l) {
        l->job.run = run_look;
        l->name = strdup(n);
        l->path = p ? strdup(p) : NULL;
    }
    if (!l)
        PyErr_NoMemory();
    return l;
}

/* R8: a cancel of the request or a stop ends the wait; the look goes on without us. */
static bool is_called_off(void)
{
    epy_request *req = epy_self ? atomic_load(&epy_self->current) : NULL;
    return req && epy_request_state(req) == EPY_REQ_CANCELLED;
}

PyObject *epy_compat_look_first(PyObject *name, PyObject *path)
{
    PyObject *result = NULL;
    look *l = new_look(name, path);
    if (!l)
        return NULL;
    PyThreadState *ts = PyEval_SaveThread();
    epy_service_post(&looker, &l->job);
    while (!atomic_load(&l->done) && !is_called_off())
        epy_futex_wait(&l->done, 0, CANCEL_POLL_NS);
    PyEval_RestoreThread(ts);
    if (!atomic_load(&l->done))
        result = PyUnicode_FromString("the request was cancelled meanwhile");
    else
        result = l->problem ? PyUnicode_FromString(l->problem) : Py_NewRef(Py_None);
    part(l);
    return result;
}

/* ---- what _compat.py tells ---- */

static PyObject *note(names *list, ERL_NIF_TERM what, PyObject *name)
{
    const char *text = PyUnicode_AsUTF8(name);
    if (!text)
        return NULL;
    if (add_name(list, text) && what)
        tell(what, text);
    Py_RETURN_NONE;
}

PyObject *epy_compat_refused(PyObject *name)
{
    if (epy_self)
        epy_self->refused = true;
    return note(&refused, 0, name); /* which of its callers moves is told then */
}

PyObject *epy_compat_gil_enabled(PyObject *name)
{
    return note(&gil_enablers, epy_atom.gil_enabled, name);
}

/* ---- requests ---- */

void epy_compat_begin(void)
{
    if (epy_self)
        epy_self->refused = false;
}

/* The module of a call as text; NULL with no exception set when there is none. */
static PyObject *module_text(ErlNifEnv *env, ERL_NIF_TERM module)
{
    ErlNifBinary bin;
    PyObject *text = NULL;
    if (enif_is_atom(env, module))
        text = epy_atom_text(module);
    else if (enif_inspect_binary(env, module, &bin))
        text = PyUnicode_DecodeUTF8((const char *)bin.data, (Py_ssize_t)bin.size, NULL);
    if (!text)
        PyErr_Clear(); /* it is only for the log */
    return text;
}

static void mark(ErlNifEnv *env, ERL_NIF_TERM module)
{
    if (enif_is_atom(env, module))
        (void)epy_route_refuse(module); /* false: it is marked, or moves at each call */
    PyObject *text = module_text(env, module);
    const char *utf8 = text ? PyUnicode_AsUTF8(text) : NULL;
    if (utf8 && add_name(&moved, utf8)) {
        (void)add_name(&refused, utf8); /* false: it is itself the one that refused */
        tell(epy_atom.refused_module, utf8);
    }
    Py_XDECREF(text);
}

bool epy_compat_is_refused(epy_interp *interp, ERL_NIF_TERM module)
{
    epy_executor *ex = epy_self;
    if (!ex || !ex->refused || interp->id == 0 || !ex->group->pool)
        return false; /* who asked for a context is told that it does not work there */
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    mark(atomic_load(&ex->current)->env, module);
    PyErr_Restore(type, value, traceback);
    return true;
}

/* One of (name, fromlist), as the statement would import it. */
static int import_one(PyObject *pair)
{
    PyObject *name, *fromlist;
    if (!PyArg_ParseTuple(pair, "UO", &name, &fromlist))
        return -1;
    PyObject *module = PyImport_ImportModuleLevelObject(name, NULL, NULL, fromlist, 0);
    Py_XDECREF(module);
    return module ? 0 : -1;
}

int epy_compat_imports_refuse(epy_interp *interp, PyObject *source)
{
    epy_executor *ex = epy_self;
    if (!ex || interp->id == 0 || !ex->group->pool)
        return 0;
    PyObject *compat = PyImport_ImportModule("erlang._compat");
    PyObject *imports = compat ? PyObject_CallMethod(compat, "imports_of", "O", source) : NULL;
    int r = imports ? 0 : -1;
    ex->refused = false;
    for (Py_ssize_t i = 0; r == 0 && i < PyTuple_GET_SIZE(imports); i++)
        r = import_one(PyTuple_GET_ITEM(imports, i));
    Py_XDECREF(imports);
    Py_XDECREF(compat);
    if (r == 0 || !ex->refused)
        return r;
    PyErr_Clear(); /* the main interpreter has the last word */
    return 1;
}

/* ---- set-up ---- */

static void *looker_main(void *arg)
{
    epy_interp *main = arg;
    PyThreadState *ts = epy_memory_enter_new_thread(main);
    if (!ts)
        Py_FatalError("erlang_python: no memory for a thread's state");
    PyEval_RestoreThread(ts);
    epy_service_loop(&looker);
    return NULL;
}

int epy_compat_start(epy_interp *main)
{
    epy_service_init(&looker, main);
    return epy_thread_start("epy_looker", looker_main, main);
}

int epy_compat_install(epy_interp *interp)
{
    PyObject *compat = PyImport_ImportModule("erlang._compat");
    PyObject *done = compat ? PyObject_CallMethod(compat, "install", "O",
                                                  interp->id == 0 ? Py_True : Py_False)
                            : NULL;
    Py_XDECREF(done);
    Py_XDECREF(compat);
    return done ? 0 : -1;
}
