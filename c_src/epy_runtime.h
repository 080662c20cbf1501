/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runtime: Python's start, the application's stop and start again, and the
 * table of interpreters.
 *
 *                start              ready                 stop
 *   UNINIT ------------> INITING ---------> RUNNING ----------------> SHUTTING_DOWN
 *                           |                  ^                            |
 *             Python failed v               |  start                     | drained
 *                         FAILED               +--------- STOPPED <---------+
 *
 * The transitions are made by the runtime's thread, which takes commands and is
 * never attached: interrupts and all else go on while it waits.  Python is
 * initialized once, on the thread that is the main interpreter's service thread
 * from then on, and never finalized.
 */
#ifndef EPY_RUNTIME_H
#define EPY_RUNTIME_H

#include "epy_interp.h"
#include "epy_mode.h"

#define EPY_INTERPS_MAX 256

typedef enum epy_state {
    EPY_UNINIT,
    EPY_INITING,
    EPY_RUNNING,
    EPY_SHUTTING_DOWN,
    EPY_STOPPED,
    EPY_FAILED,
} epy_state;

/* Commands.  Each returns at once and is done by the runtime's thread, one after the
 * other; the calling process then gets {py_runtime, Ref, Reply}. */

EPY_ANY int epy_runtime_start(ErlNifEnv *env, ERL_NIF_TERM ref, const epy_config *config);
EPY_ANY int epy_runtime_stop(ErlNifEnv *env, ERL_NIF_TERM ref);

typedef enum epy_place {
    EPY_PLACE_AUTO, /* an interpreter of the default pool, or for a pool own ones where there
                       are several */
    EPY_PLACE_MAIN, /* the main interpreter */
    EPY_PLACE_OWN,  /* a new interpreter, ended with the context or pool */
} epy_place;

/* Reply {ok, Namespace} | {error, Text}. */
EPY_ANY int epy_runtime_open_context(ErlNifEnv *env, ERL_NIF_TERM ref, epy_place place,
                                     bool fixed, uint64_t memory_limit);
/* Reply ok | {error, Text}. */
EPY_ANY int epy_runtime_open_pool(ErlNifEnv *env, ERL_NIF_TERM ref, ERL_NIF_TERM name, int size,
                                  epy_place place);
EPY_ANY int epy_runtime_close_pool(ErlNifEnv *env, ERL_NIF_TERM ref, ERL_NIF_TERM name);

/* Without a reply. */
EPY_ANY void epy_runtime_close_context(epy_group *group, unsigned life);
EPY_ANY void epy_runtime_give_slot(void);

EPY_ANY epy_state epy_runtime_state(void);
EPY_ANY bool epy_runtime_is_running(void);
EPY_ANY bool epy_runtime_is_eager(void);    /* epy_plan.eager */
EPY_ANY int epy_runtime_max_spares(void);   /* epy_config.max_spare_executors */
EPY_ANY int epy_runtime_executors(void);    /* of the default pool */

/* The runtime's thread, and those that it waits for. */
const epy_config *epy_runtime_config(void);

/* By number, 0 being the main one; NULL when there is none. */
EPY_ANY epy_interp *epy_runtime_interp(int id);

/* By CPython's state; NULL when it is none of ours. */
EPY_ANY epy_interp *epy_runtime_interp_of(const PyInterpreterState *state);

/* Makes the interpreter, whose state is set, known; and unknown, before it ends. */
void epy_runtime_add_interp(epy_interp *interp);
void epy_runtime_remove_interp(epy_interp *interp);

/* The interpreter has ended; its place may be taken. */
void epy_runtime_free_interp(epy_interp *interp);

#endif
