/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pool a call goes to, by its module or by its function, and which modules want
 * the main interpreter.
 *
 * A hash table of fixed size that is read without a lock at every call, if anything was
 * ever registered.  Entries are added under a mutex and never removed; what they say is
 * one atomic word.
 */
#ifndef EPY_ROUTE_H
#define EPY_ROUTE_H

#include "epy_pool.h"

#define EPY_ROUTES_MAX 4096 /* modules and functions that were ever named */

typedef struct epy_route {
    ERL_NIF_TERM module;       /* constant; an atom */
    ERL_NIF_TERM function;     /* constant; an atom, `undefined` for the whole module */
    atomic_int target;         /* 0: none; pool index + 1; EPY_ROUTE_INLINE */
    atomic_bool refused;       /* the module does not load but in the main interpreter */
    atomic_uint moved_back_us; /* how long the run took that ended its inline time; else 0: then
                                  the entry says that the function takes the normal path */
    atomic_uint good_runs;     /* inline, within the budget; see epy_inline.c */
    atomic_uint strikes;       /* past it, since the last ones were forgotten */
} epy_route;

#define EPY_ROUTE_INLINE (-1)

/* The entry for a call: of the function, else of its module; NULL when neither has any. */
EPY_ANY epy_route *epy_route_of(ERL_NIF_TERM module, ERL_NIF_TERM function);

/* Where the entry sends to; NULL: nowhere, or inline. */
EPY_ANY epy_pool *epy_route_pool(const epy_route *route);

/* target as above; false when the table is full. */
EPY_ANY bool epy_route_set(ERL_NIF_TERM module, ERL_NIF_TERM function, int target);

/* The module wants the main interpreter; true when that is new. */
EPY_ANY bool epy_route_refuse(ERL_NIF_TERM module);

/* A call of this function took so long inline: it takes the normal path from now on, also when
 * its module is registered as a whole.  True when that is new. */
EPY_ANY bool epy_route_move_back(epy_route *route, ERL_NIF_TERM function, unsigned us);

EPY_ANY void epy_routes_forget(const epy_pool *pool); /* it is closed */
EPY_ANY void epy_routes_forget_users(void);           /* all but what refuses */

EPY_ANY ERL_NIF_TERM epy_routes_term(ErlNifEnv *env);       /* [{Module, Function, Pool}] */
EPY_ANY ERL_NIF_TERM epy_routes_moved_back(ErlNifEnv *env); /* [{Module, Function}] */

#endif
