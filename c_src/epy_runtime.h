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

/* Begins to start or stop and returns; the calling process then gets
 * {py_runtime, started | stopped} or {py_runtime, {error, Text}}. */
EPY_ANY int epy_runtime_start(ErlNifEnv *env, const epy_config *config);
EPY_ANY int epy_runtime_stop(ErlNifEnv *env);

EPY_ANY epy_state epy_runtime_state(void);
EPY_ANY bool epy_runtime_is_running(void);
EPY_ANY bool epy_runtime_is_eager(void); /* epy_plan.eager */
const epy_config *epy_runtime_config(void);

/* By number, 0 being the main one; NULL when there is none. */
EPY_ANY epy_interp *epy_runtime_interp(int id);

/* The interpreter that a new process is bound to: the one with the fewest. */
EPY_ANY epy_interp *epy_runtime_pick(void);

/* Makes the interpreter, whose state is set, known. */
void epy_runtime_add_interp(epy_interp *interp);

#endif
