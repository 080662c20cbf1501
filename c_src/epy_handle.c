/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_handle.h. */
#include "epy_handle.h"

#include "epy_executor.h"
#include "epy_runtime.h"

typedef struct handle { /* constant */
    epy_kept kept;
    epy_group *group;    /* where it was made; NULL: outside of all groups */
    unsigned group_life;
} handle;

static ErlNifResourceType *type;

int epy_handle_open(ErlNifEnv *env)
{
    type = epy_kept_type(env, "handle");
    return type ? EPY_OK : EPY_ENOMEM;
}

ERL_NIF_TERM epy_handle_term(epy_conv *c, PyObject *object)
{
    handle *h = enif_alloc_resource(type, sizeof *h);
    epy_kept_init(&h->kept, c->interp, object);
    h->group = epy_self ? epy_self->group : NULL;
    h->group_life = h->group ? atomic_load(&h->group->life) : 0;
    ERL_NIF_TERM term = enif_make_resource(c->env, h);
    enif_release_resource(h);
    return term;
}

static handle *find(ErlNifEnv *env, ERL_NIF_TERM term)
{
    void *h;
    return enif_is_ref(env, term) && enif_get_resource(env, term, type, &h) ? h : NULL;
}

/* Its interpreter has ended, or its slot is used again. */
static bool is_over(const handle *h)
{
    return h->kept.life != atomic_load(&h->kept.interp->life) ||
           epy_runtime_interp(h->kept.interp->id) != h->kept.interp;
}

bool epy_handle_is(ErlNifEnv *env, ERL_NIF_TERM term)
{
    unsigned life;
    return epy_handle_group(env, term, &life) != NULL;
}

PyObject *epy_handle_object(epy_conv *c, ERL_NIF_TERM term, bool *is)
{
    handle *h = find(c->env, term);
    *is = h != NULL;
    if (!h)
        return NULL;
    if (h->kept.interp == c->interp && !is_over(h))
        return Py_NewRef(h->kept.object);
    if (is_over(h))
        epy_conv_refuse(c, "the interpreter of this handle has ended");
    else
        epy_conv_refuse(c, "the object of this handle is in interpreter %d, and this runs in "
                           "interpreter %d", h->kept.interp->id, c->interp->id);
    return NULL;
}

/* Any open group of the handle's interpreter. */
static epy_group *search(const handle *h, unsigned *life)
{
    for (int i = 0, n = epy_group_count(); i < n; i++) {
        epy_group *group = epy_group_get(i);
        *life = atomic_load(&group->life);
        if (group->interp == h->kept.interp && group->pool && epy_group_is(group, *life))
            return group;
    }
    return NULL;
}

epy_group *epy_handle_group(ErlNifEnv *env, ERL_NIF_TERM term, unsigned *life)
{
    handle *h = find(env, term);
    if (!h || is_over(h))
        return NULL;
    *life = h->group_life;
    return h->group && epy_group_is(h->group, *life) ? h->group : search(h, life);
}
