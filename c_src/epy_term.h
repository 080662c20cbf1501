/* SPDX-License-Identifier: Apache-2.0 */
/*
 * erlang.Term and what is derived from it, Pid, Ref, Port and Fun: terms that Python
 * cannot look into.  They come back as the very same term, are hashable, equal where
 * Erlang finds =:=, and ordered as Erlang orders terms.
 *
 * An object keeps its term alive in an environment.  Those that were made by one
 * conversion share theirs, which is freed with the last of them.
 */
#ifndef EPY_TERM_H
#define EPY_TERM_H

#include "epy_convert.h"

typedef struct epy_terms {
    atomic_int refs;
    ErlNifEnv *env; /* owned.  Grows during the conversion that made it, constant afterwards */
} epy_terms;

typedef struct epy_opaque {
    PyObject_HEAD
    ERL_NIF_TERM term; /* in terms->env, if that is needed */
    epy_terms *terms;  /* strong; NULL: the term is the same in every environment */
} epy_opaque;

EPY_ANY void epy_terms_put(epy_terms *terms);

/* The environment that objects made by this conversion share; NULL with MemoryError set. */
EPY_GIL EPY_BORROWED epy_terms *epy_terms_of(epy_conv *c);

/* Adds the types to the module `_erlang` and to objects.  call_fun: as in epy_types.h. */
EPY_GIL int epy_term_init(PyObject *module, epy_objects *objects, ternaryfunc call_fun);

/* Py_tp_new of a type whose objects are made here only. */
EPY_GIL PyObject *epy_no_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);

/* An object for this term, of the type that its kind has. */
EPY_GIL EPY_NEWREF PyObject *epy_term_object(epy_conv *c, ERL_NIF_TERM term);

/* The same of a type that is derived from Term and begins with an epy_opaque. */
EPY_GIL EPY_NEWREF PyObject *epy_term_object_of(epy_conv *c, PyTypeObject *type,
                                                ERL_NIF_TERM term);

/* Is it one of those?  Then *term in c->env. */
EPY_GIL bool epy_term_get(epy_conv *c, PyObject *object, ERL_NIF_TERM *term);

/* The term as Erlang writes it, cut where it becomes long. */
EPY_GIL EPY_NEWREF PyObject *epy_term_text(ERL_NIF_TERM term);

#endif
