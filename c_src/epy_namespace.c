/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_namespace.h. */
#include "epy_namespace.h"

#include "epy_interp.h"
#include "epy_pool.h"
#include "epy_runtime.h"

static ErlNifResourceType *type;

static void free_bindings(epy_namespace *ns)
{
    epy_binding *b = atomic_load(&ns->bindings);
    while (b) {
        epy_binding *next = b->next;
        epy_group_unbind(b->group, b->life);
        enif_free(b);
        b = next;
    }
}

/* R5: a destructor never enters Python; the reaper does. */
static void free_globals(epy_namespace *ns)
{
    epy_globals *g = atomic_load(&ns->globals);
    while (g) {
        epy_globals *next = g->next;
        epy_interp_drop(g->interp, g->life, g->dict);
        enif_free(g);
        g = next;
    }
}

static void destroy(ErlNifEnv *env, void *object)
{
    (void)env;
    epy_namespace *ns = object;
    free_bindings(ns);
    free_globals(ns);
    if (ns->context && epy_namespace_close(ns))
        epy_runtime_close_context(ns->home, ns->life);
    else if (!ns->context)
        epy_group_unbind(ns->home, ns->life);
    for (int n = atomic_load(&ns->slots); n > 0; n--)
        epy_runtime_give_slot(); /* a destructor sends no messages, and this may */
}

int epy_namespace_open(ErlNifEnv *env)
{
    ErlNifResourceTypeInit init = {.dtor = destroy};
    type = enif_open_resource_type_x(env, "namespace", &init,
                                     ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER, NULL);
    return type ? EPY_OK : EPY_ENOMEM;
}

ERL_NIF_TERM epy_namespace_make(ErlNifEnv *env, epy_group *home, unsigned life, bool context)
{
    epy_namespace *ns = enif_alloc_resource(type, sizeof *ns);
    ns->home = home;
    ns->life = life;
    ns->context = context;
    atomic_init(&ns->closed, false);
    atomic_init(&ns->in_main, false);
    atomic_init(&ns->slots, 0);
    atomic_init(&ns->bindings, NULL);
    atomic_init(&ns->globals, NULL);
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

bool epy_namespace_close(epy_namespace *ns)
{
    return !atomic_exchange(&ns->closed, true);
}

/* ---- bindings ---- */

static epy_binding *find_binding(epy_binding *b, const epy_pool *pool)
{
    while (b && (b->pool != pool || !epy_group_is(b->group, b->life)))
        b = b->next;
    return b;
}

/* Two requests of one process may be bound at once; then the later one is in vain, and
 * only its place in the count of the group is taken. */
static epy_group *bind(epy_namespace *ns, epy_pool *pool, unsigned *life)
{
    epy_group *group = epy_pool_bind(pool, life);
    if (!group)
        return NULL;
    epy_binding *b = enif_alloc(sizeof *b);
    *b = (epy_binding){.pool = pool, .group = group, .life = *life};
    b->next = atomic_load(&ns->bindings);
    while (!atomic_compare_exchange_weak(&ns->bindings, &b->next, b))
        continue;
    return group;
}

epy_group *epy_namespace_group(epy_namespace *ns, epy_pool *pool, unsigned *life)
{
    epy_group *only = epy_pool_only_group(pool, life);
    if (only)
        return only;
    if (pool == ns->home->pool && epy_group_is(ns->home, ns->life)) {
        *life = ns->life;
        return ns->home;
    }
    epy_binding *b = find_binding(atomic_load(&ns->bindings), pool);
    if (!b)
        return bind(ns, pool, life);
    *life = b->life;
    return b->group;
}

/* ---- globals ---- */

static PyObject *new_dict(epy_interp *interp)
{
    PyObject *name = PyUnicode_FromString("__main__");
    PyObject *dict = PyDict_New();
    if (!name || !dict || PyDict_SetItemString(dict, "__name__", name) < 0 ||
        PyDict_SetItemString(dict, "__builtins__", interp->objects.builtins) < 0)
        Py_CLEAR(dict);
    Py_XDECREF(name);
    return dict;
}

static epy_globals *find_globals(epy_globals *g, const epy_globals *end, epy_interp *interp)
{
    while (g != end && (g->interp != interp || g->life != atomic_load(&interp->life)))
        g = g->next;
    return g == end ? NULL : g;
}

/* The new entry, or that of another executor which was first. */
static epy_globals *link_globals(epy_namespace *ns, epy_globals *new)
{
    epy_globals *seen = NULL;
    new->next = atomic_load(&ns->globals);
    do {
        epy_globals *other = find_globals(new->next, seen, new->interp);
        if (other) {
            Py_DECREF(new->dict);
            enif_free(new);
            return other;
        }
        seen = new->next;
    } while (!atomic_compare_exchange_weak(&ns->globals, &new->next, new));
    return new;
}

static epy_globals *new_globals(epy_namespace *ns, epy_interp *interp)
{
    PyObject *dict = new_dict(interp);
    if (!dict)
        return NULL;
    epy_globals *g = enif_alloc(sizeof *g); /* aborts the VM rather than return NULL */
    *g = (epy_globals){.interp = interp, .life = atomic_load(&interp->life), .dict = dict};
    return link_globals(ns, g);
}

/* What was preloaded into the interpreter since this namespace last looked becomes
 * visible in it, but where the process has defined the name itself. */
static int add_preloaded(epy_globals *g)
{
    unsigned now = atomic_load(&g->interp->preloaded);
    if (atomic_load_explicit(&g->preloaded, memory_order_relaxed) == now)
        return 0;
    if (PyDict_Merge(g->dict, g->interp->objects.main_dict, 0) < 0)
        return -1;
    atomic_store(&g->preloaded, now);
    return 0;
}

PyObject *epy_namespace_globals(epy_namespace *ns, epy_interp *interp)
{
    epy_globals *g = find_globals(atomic_load(&ns->globals), NULL, interp);
    if (!g)
        g = new_globals(ns, interp);
    return g && add_preloaded(g) == 0 ? g->dict : NULL;
}

bool epy_namespace_is_empty(epy_namespace *ns, epy_interp *interp)
{
    epy_globals *g = find_globals(atomic_load(&ns->globals), NULL, interp);
    if (!g)
        return true;
    PyObject *fresh = new_dict(interp);
    bool empty = fresh &&
                 (atomic_load(&interp->preloaded) == 0 ||
                  PyDict_Merge(fresh, interp->objects.main_dict, 0) == 0) &&
                 PyDict_GET_SIZE(g->dict) <= PyDict_GET_SIZE(fresh);
    Py_XDECREF(fresh);
    PyErr_Clear(); /* no memory: then it counts as one that is not empty */
    return empty;
}
