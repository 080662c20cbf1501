/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_spawned.h. */
#include "epy_spawned.h"

#include "epy_inline.h"

struct epy_spawned {
    epy_spawned *next;
    PyObject *item; /* strong, as long as the interpreter has this life */
    unsigned life;
};

/* Its loop is woken after this: it closes, and drops it, or has a turn. */
static void append(epy_loop *loop, PyObject *item)
{
    epy_spawned *s = enif_alloc(sizeof *s); /* aborts the VM rather than return NULL */
    *s = (epy_spawned){.item = Py_NewRef(item), .life = atomic_load(&loop->group->interp->life)};
    pthread_mutex_lock(&loop->lock);
    epy_spawned **end = &loop->spawned;
    while (*end)
        end = &(*end)->next;
    *end = s;
    atomic_fetch_add(&loop->spawns, 1);
    pthread_mutex_unlock(&loop->lock);
}

static epy_spawned *take(epy_loop *loop)
{
    if (atomic_load(&loop->spawns) == 0)
        return NULL;
    pthread_mutex_lock(&loop->lock);
    epy_spawned *s = loop->spawned;
    if (s) {
        loop->spawned = s->next;
        atomic_fetch_sub(&loop->spawns, 1);
    }
    pthread_mutex_unlock(&loop->lock);
    return s;
}

PyObject *epy_spawned_next(epy_loop *loop)
{
    epy_spawned *s = take(loop);
    PyObject *item = s ? s->item : NULL;
    enif_free(s);
    return item;
}

void epy_spawned_drop(epy_loop *loop)
{
    epy_spawned *s;
    while ((s = take(loop))) {
        epy_interp_drop(loop->group->interp, s->life, s->item);
        enif_free(s);
    }
}

PyDoc_STRVAR(spawn_doc, "spawn(item)\n--\n\n"
                        "Give the first hosted loop of the interpreter something for its _spawned().\n\n"
                        "False if there is none.");

static PyObject *spawn(PyObject *module, PyObject *item)
{
    epy_interp *interp = epy_interp_current();
    (void)module;
    if (!interp)
        return NULL;
    epy_loop *loop = epy_loop_first(interp);
    if (!loop)
        Py_RETURN_FALSE;
    append(loop, item);
    epy_loop_wake(epy_inline_env(), loop);
    epy_loop_put(loop);
    Py_RETURN_TRUE;
}

static PyMethodDef functions[] = {
    {"spawn", spawn, METH_O, spawn_doc},
    {NULL, NULL, 0, NULL},
};

int epy_spawned_init(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
