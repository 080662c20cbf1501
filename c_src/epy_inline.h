/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool `inline`: functions that take microseconds run on the scheduler of the
 * calling process.  The one exception to R1, and only for functions that somebody
 * registered for it (docs/decisions/0007-inline.md).
 *
 * A run happens only when nobody holds the GIL at that moment, and one scheduler at a
 * time enters an interpreter.  A thread that comes back from a wait in this very moment
 * may still be first; the scheduler then waits for it as any thread would, which CPython
 * ends after its switch interval of 5 ms.  Each run is timed; a function that exceeds the budget goes back to the normal path.
 */
#ifndef EPY_INLINE_H
#define EPY_INLINE_H

#include "epy_namespace.h"
#include "epy_route.h"

#define EPY_INLINE_BUDGET_NS 1000000

/* Runs {Tag, M, F, Args, Kwargs}, with the flags of epy_request.h, and makes its result in env; false: take the normal path. */
EPY_ANY bool epy_inline_run(ErlNifEnv *env, epy_namespace *ns, epy_route *route,
                            unsigned flags, const ERL_NIF_TERM *request, int arity,
                            ERL_NIF_TERM *result, uint64_t *run_ns);

/* The environment of the process that runs a function here; NULL on a thread that is no
 * scheduler, which is what enif_send() and its like want there. */
EPY_ANY ErlNifEnv *epy_inline_env(void);

#endif
