/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_interp.h. */
#include "epy_interp.h"

#include "epy_atoms.h"
#include "epy_call.h"
#include "epy_channel_task.h"
#include "epy_compat.h"
#include "epy_executor.h"
#include "epy_runtime.h"
#include "epy_stats.h"

#include <string.h>

void epy_interp_init(epy_interp *interp, int id, bool own)
{
    bool again = atomic_load(&interp->life) > 0;
    interp->id = id;
    interp->own = own;
    atomic_store(&interp->preloaded, 0);
    atomic_store(&interp->gil_held, 0);
    atomic_store(&interp->inlining, false);
    atomic_store(&interp->spinning, false);
    interp->ending = false;
    epy_memory_init(&interp->memory);
    if (!again) { /* else a job that came late is still there, and finds that it is */
        pthread_mutex_init(&interp->calls_lock, NULL);
        epy_service_init(&interp->service, interp);
        epy_service_init(&interp->reaper, interp);
    }
    atomic_fetch_add(&interp->life, 1);
}

/* ---- set-up ---- */

/* First, so that no other module of that name hides the package. */
static int prepend_path(const char *path)
{
    int r = -1;
    PyObject *sys_path = PySys_GetObject("path"); /* borrowed */
    PyObject *dir = PyUnicode_DecodeFSDefault(path);
    if (!sys_path || !PyList_Check(sys_path))
        PyErr_SetString(PyExc_RuntimeError, "sys.path is not a list");
    else if (dir)
        r = PyList_Insert(sys_path, 0, dir);
    Py_XDECREF(dir);
    return r;
}

static int find_objects(epy_objects *o)
{
    PyObject *main = PyImport_AddModule("__main__"); /* borrowed */
    o->sys_modules = PyImport_GetModuleDict();       /* borrowed */
    o->builtins = PyImport_ImportModule("builtins");
    if (!main || !o->sys_modules || !o->builtins)
        return -1;
    Py_INCREF(o->sys_modules);
    o->main_dict = Py_NewRef(PyModule_GetDict(main));
    o->compile = PyObject_GetAttrString(o->builtins, "compile");
    o->framed_call = Py_CompileString("function(*args, **kwargs)", "<erlang>", Py_eval_input);
    o->eval_cache = PyDict_New();
    o->exec_cache = PyDict_New();
    return o->compile && o->framed_call && o->eval_cache && o->exec_cache ? 0 : -1;
}

static int find_codec(epy_objects *o)
{
    PyObject *codec = PyImport_ImportModule("erlang._codec");
    if (!codec)
        return -1;
    o->encoders = PyObject_GetAttrString(codec, "encoders");
    o->find_encoder = PyObject_GetAttrString(codec, "find_encoder");
    o->decoders = PyObject_GetAttrString(codec, "decoders");
    Py_DECREF(codec);
    return o->encoders && o->find_encoder && o->decoders ? 0 : -1;
}

/* See epy_interrupt_again(). */
static int hook_unraisable(epy_objects *o)
{
    PyObject *hook = PyObject_GetAttrString(o->module, "unraisable");
    PyObject *before = PySys_GetObject("unraisablehook"); /* borrowed */
    int r = -1;
    if (!before)
        PyErr_SetString(PyExc_RuntimeError, "there is no sys.unraisablehook");
    else if (hook) {
        o->unraisable_hook = Py_NewRef(before);
        r = PySys_SetObject("unraisablehook", hook);
    }
    Py_XDECREF(hook);
    return r;
}

/* What we keep in an own interpreter is needed as long as any of its threads runs: up to the
 * moment when Python calls this, after it has joined them. */
static int clear_at_exit(const epy_interp *interp)
{
    if (!interp->own)
        return 0; /* it never ends */
    PyObject *atexit = PyImport_ImportModule("atexit"), *r = NULL;
    PyObject *clear = PyObject_GetAttrString(interp->objects.module, "clear_interpreter");
    if (atexit && clear)
        r = PyObject_CallMethod(atexit, "register", "O", clear);
    Py_XDECREF(clear);
    Py_XDECREF(atexit);
    Py_XDECREF(r);
    return r ? 0 : -1;
}

int epy_interp_setup(epy_interp *interp, const char *python_path)
{
    interp->state = PyInterpreterState_Get();
    interp->python_id = PyInterpreterState_GetID(interp->state);
    epy_runtime_add_interp(interp); /* the import of _erlang looks for it */
    if (epy_names_init(&interp->names) < 0 || find_objects(&interp->objects) < 0 ||
        prepend_path(python_path) < 0)
        return -1;
    interp->objects.module = PyImport_ImportModule("_erlang");
    if (!interp->objects.module || clear_at_exit(interp) < 0)
        return -1;
    PyObject *package = PyImport_ImportModule("erlang");
    Py_XDECREF(package);
    return package && hook_unraisable(&interp->objects) == 0 && find_codec(&interp->objects) == 0 ? epy_compat_install(interp) : -1;
}

void epy_interp_clear(epy_interp *interp)
{
    if (!interp->objects.module)
        return;
    /* The table knows it no more, so that nobody looks for it while it ends. */
    epy_runtime_remove_interp(interp);
    if (interp->objects.unraisable_hook)
        (void)PySys_SetObject("unraisablehook", interp->objects.unraisable_hook);
    epy_names_fini(&interp->names);
    PyObject **objects = (PyObject **)&interp->objects;
    for (size_t i = 0; i < sizeof interp->objects / sizeof *objects; i++)
        Py_CLEAR(objects[i]);
}

/* ---- the end of an own interpreter ---- */

static void *end_main(void *arg)
{
    epy_interp *interp = arg;
    epy_calls_end(interp, true); /* or threads that wait for an answer would not end */
    epy_channel_waits_end(interp);
    epy_service_stop(&interp->service);
    epy_service_stop(&interp->reaper);
    /* What Python does at its end must not run short of memory. */
    (void)epy_memory_set_limit(&interp->memory, 0, NULL, 0);
    PyThreadState *ts = epy_memory_enter_new_thread(interp);
    if (!ts)
        Py_FatalError("erlang_python: no memory to end an interpreter");
    PyEval_RestoreThread(ts);
    epy_channel_waits_put(interp);
    Py_EndInterpreter(ts); /* joins the threads that Python code started, and clears ours */
    epy_runtime_remove_interp(interp); /* if code has taken its callbacks of atexit away */
    memset(&interp->objects, 0, sizeof interp->objects);
    epy_runtime_free_interp(interp);
    return NULL;
}

void epy_interp_end(epy_interp *interp)
{
    /* Without a thread it stays for ever, which harms nobody but takes memory. */
    if (epy_thread_start("epy_end", end_main, interp) < 0)
        epy_event_count(EPY_NOT_ENDED);
}

epy_interp *epy_interp_current(void)
{
    PyInterpreterState *state = PyInterpreterState_Get();
    epy_interp *interp = epy_self && epy_self->interp->state == state
                             ? epy_self->interp
                             : epy_runtime_interp_of(state);
    if (!interp)
        PyErr_SetString(PyExc_RuntimeError, "this interpreter was not made by erlang_python");
    return interp;
}

/* ---- dropped references ---- */

typedef struct drop_job {
    epy_job job;
    PyObject *object; /* strong, as long as the interpreter has this life */
    unsigned life;
} drop_job;

static void run_drop(epy_job *job, epy_interp *interp)
{
    drop_job *drop = EPY_CONTAINER(job, drop_job, job);
    if (drop->life == atomic_load(&interp->life)) /* else it ended with its interpreter */
        Py_DECREF(drop->object);
    enif_free(drop);
    interp->reaper.unsettled = !epy_mode_has_gil;
}

/* Without a GIL the last reference that goes on another thread leaves the object to the thread
 * that made it, which frees it when it next runs Python code.  An executor may sleep for ever,
 * and with it the `finally` of a generator that nobody wants any more.  A collection frees
 * such objects as well. */
bool epy_interp_settle(epy_interp *interp)
{
    for (int i = 0, n = epy_group_count(); i < n; i++)
        if (epy_group_get(i)->interp == interp && epy_executors_busy(epy_group_get(i)))
            return false;
    (void)PyGC_Collect();
    return true;
}

void epy_interp_drop(epy_interp *interp, unsigned life, PyObject *object)
{
    if (life != atomic_load(&interp->life))
        return;
    drop_job *drop = enif_alloc(sizeof *drop); /* aborts the VM rather than return NULL */
    drop->job.run = run_drop;
    drop->object = object;
    drop->life = life;
    epy_service_post(&interp->reaper, &drop->job);
}

static void destroy_kept(ErlNifEnv *env, void *resource)
{
    (void)env;
    epy_kept *kept = resource;
    epy_interp_drop(kept->interp, kept->life, kept->object);
}

ErlNifResourceType *epy_kept_type(ErlNifEnv *env, const char *name)
{
    ErlNifResourceTypeInit init = {.dtor = destroy_kept};
    return enif_open_resource_type_x(env, name, &init, ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER,
                                     NULL);
}

void epy_kept_init(epy_kept *kept, epy_interp *interp, PyObject *object)
{
    *kept = (epy_kept){.interp = interp,
                       .life = atomic_load(&interp->life),
                       .object = Py_NewRef(object)};
}
