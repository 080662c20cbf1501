/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_interp.h. */
#include "epy_interp.h"

#include "epy_atoms.h"
#include "epy_monitor.h"
#include "epy_request.h"
#include "epy_runtime.h"

void epy_interp_init(epy_interp *interp, int id)
{
    interp->id = id;
    epy_queue_init(&interp->queue);
    epy_idle_init(&interp->idle);
    epy_idle_init(&interp->parking);
    epy_service_init(&interp->service, interp);
    epy_service_init(&interp->reaper, interp);
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

int epy_interp_setup(epy_interp *interp, const char *python_path)
{
    interp->state = PyInterpreterState_Get();
    interp->python_id = PyInterpreterState_GetID(interp->state);
    epy_runtime_add_interp(interp); /* the import of _erlang looks for it */
    if (epy_names_init(&interp->names) < 0 || find_objects(&interp->objects) < 0 ||
        prepend_path(python_path) < 0)
        return -1;
    interp->objects.module = PyImport_ImportModule("_erlang");
    if (!interp->objects.module)
        return -1;
    PyObject *package = PyImport_ImportModule("erlang");
    Py_XDECREF(package);
    return package ? 0 : -1;
}

epy_interp *epy_interp_current(void)
{
    PyInterpreterState *state = PyInterpreterState_Get();
    for (int i = 0; i < EPY_INTERPS_MAX; i++) {
        epy_interp *interp = epy_runtime_interp(i);
        if (interp && interp->state == state)
            return interp;
    }
    PyErr_SetString(PyExc_RuntimeError, "this interpreter was not made by erlang_python");
    return NULL;
}

/* ---- work ---- */

void epy_interp_submit(epy_interp *interp, epy_request *req)
{
    req->interp = interp;
    epy_queue_push(&interp->queue, &req->node);
    epy_idle_notify(&interp->idle);
    epy_monitor_notice();
    /* A stop that did not see this request in the queue has changed the state
     * before, and no executor might ever look again. */
    if (!epy_runtime_is_running())
        epy_interp_refuse_queued(interp);
}

void epy_interp_refuse_queued(epy_interp *interp)
{
    epy_qnode *n;
    while ((n = epy_queue_pop(&interp->queue)))
        epy_request_refuse(EPY_CONTAINER(n, epy_request, node), epy_atom.not_running);
}

typedef struct drop_job {
    epy_job job;
    PyObject *object; /* strong */
} drop_job;

static void run_drop(epy_job *job, epy_interp *interp)
{
    (void)interp;
    drop_job *drop = EPY_CONTAINER(job, drop_job, job);
    Py_DECREF(drop->object);
    enif_free(drop);
}

void epy_interp_drop(epy_interp *interp, PyObject *object)
{
    drop_job *drop = enif_alloc(sizeof *drop); /* aborts the VM rather than return NULL */
    drop->job.run = run_drop;
    drop->object = object;
    epy_service_post(&interp->reaper, &drop->job);
}
