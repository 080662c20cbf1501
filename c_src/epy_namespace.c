/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_namespace.h. */
#include "epy_namespace.h"

#include "epy_interp.h"

static ErlNifResourceType *type;

/* R5: a destructor never enters Python; the reaper does. */
static void destroy(ErlNifEnv *env, void *object)
{
    (void)env;
    epy_namespace *ns = object;
    PyObject *globals = atomic_load(&ns->globals);
    if (globals)
        epy_interp_drop(ns->interp, globals);
    atomic_fetch_sub(&ns->interp->bound, 1);
}

int epy_namespace_open(ErlNifEnv *env)
{
    ErlNifResourceTypeInit init = {.dtor = destroy};
    type = enif_open_resource_type_x(env, "namespace", &init,
                                     ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER, NULL);
    return type ? EPY_OK : EPY_ENOMEM;
}

ERL_NIF_TERM epy_namespace_make(ErlNifEnv *env, epy_interp *interp)
{
    epy_namespace *ns = enif_alloc_resource(type, sizeof *ns);
    ns->interp = interp;
    atomic_init(&ns->globals, NULL);
    atomic_fetch_add(&interp->bound, 1);
    ERL_NIF_TERM term = enif_make_resource(env, ns);
    enif_release_resource(ns);
    return term;
}

epy_namespace *epy_namespace_from(ErlNifEnv *env, ERL_NIF_TERM term)
{
    void *ns;
    return enif_get_resource(env, term, type, &ns) ? ns : NULL;
}

void epy_namespace_keep(epy_namespace *ns)
{
    enif_keep_resource(ns);
}

void epy_namespace_put(epy_namespace *ns)
{
    enif_release_resource(ns);
}

static PyObject *new_globals(epy_interp *interp)
{
    PyObject *name = PyUnicode_FromString("__main__");
    PyObject *dict = PyDict_New();
    if (!name || !dict || PyDict_SetItemString(dict, "__name__", name) < 0 ||
        PyDict_SetItemString(dict, "__builtins__", interp->objects.builtins) < 0)
        Py_CLEAR(dict);
    Py_XDECREF(name);
    return dict;
}

PyObject *epy_namespace_globals(epy_namespace *ns)
{
    PyObject *globals = atomic_load(&ns->globals);
    if (globals)
        return globals;
    PyObject *expected = NULL;
    globals = new_globals(ns->interp);
    if (globals && !atomic_compare_exchange_strong(&ns->globals, &expected, globals)) {
        /* Another executor runs a request of the same process and was first. */
        Py_DECREF(globals);
        globals = expected;
    }
    return globals;
}
