/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The namespace of one Erlang process, or of a context: where its requests go, and
 * the dictionaries in which its exec and eval run, one for each interpreter that it
 * came to.  A NIF resource that the process holds in its dictionary, so that it goes
 * when the process goes.
 *
 * Requests of one process may use it on several threads at once: both lists grow at
 * their heads only, by compare-and-exchange, and are freed with the namespace.
 */
#ifndef EPY_NAMESPACE_H
#define EPY_NAMESPACE_H

#include "epy_group.h"

typedef struct epy_binding {
    struct epy_binding *next; /* constant once linked */
    const epy_pool *pool;     /* constant; pools are never freed */
    epy_group *group;         /* constant; one of the pool's */
    unsigned life;            /* of the group */
} epy_binding;

typedef struct epy_globals {
    struct epy_globals *next; /* constant once linked */
    epy_interp *interp;       /* constant; interpreters are never freed */
    unsigned life;            /* of the interpreter */
    PyObject *dict;           /* strong, as long as the interpreter has that life */
    atomic_uint preloaded;    /* interp->preloaded when last looked at */
} epy_globals;

struct epy_namespace {
    epy_group *home;          /* constant: where requests go that name no pool */
    unsigned life;            /* constant: of home */
    bool context;             /* constant: home is this namespace's own */
    atomic_bool closed;       /* the context was closed */
    atomic_bool in_main;      /* the process has moved to the pool main; see epy_exec.c */
    atomic_int slots;         /* that py_semaphore:acquire/1 took for this process */
    _Atomic(epy_binding *) bindings; /* to groups of other pools than the default one */
    _Atomic(epy_globals *) globals;
};

int epy_namespace_open(ErlNifEnv *env); /* registers the resource type */

/* A term that holds a new namespace: of a process that is bound to this group, or of a context,
 * which closes its group when it goes. */
EPY_ANY ERL_NIF_TERM epy_namespace_make(ErlNifEnv *env, epy_group *home, unsigned life, bool context);

EPY_ANY epy_namespace *epy_namespace_from(ErlNifEnv *env, ERL_NIF_TERM term); /* borrowed */
EPY_ANY void epy_namespace_keep(epy_namespace *ns);
EPY_ANY void epy_namespace_put(epy_namespace *ns);

/* The group of this pool that the process is bound to: the same at each call, as long as
 * that is open.  NULL when the pool has none. */
EPY_ANY epy_group *epy_namespace_group(epy_namespace *ns, epy_pool *pool, unsigned *life);

/* True once: the caller is to close the group. */
EPY_ANY bool epy_namespace_close(epy_namespace *ns);

/* Has nothing been defined in it yet? */
EPY_GIL bool epy_namespace_is_empty(epy_namespace *ns, epy_interp *interp);

/* The dictionary in this interpreter, made if need be. */
EPY_GIL EPY_BORROWED PyObject *epy_namespace_globals(epy_namespace *ns, epy_interp *interp);

#endif
