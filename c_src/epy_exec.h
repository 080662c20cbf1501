/* SPDX-License-Identifier: Apache-2.0 */
/* What a request does: one table of operations. */
#ifndef EPY_EXEC_H
#define EPY_EXEC_H

#include "epy_interp.h"
#include "epy_request.h"

typedef struct epy_result {
    ERL_NIF_TERM term; /* {ok, V}, ok or {error, Reason}, in the request's environment */
    bool failed;       /* it is an error */
    bool elsewhere;    /* nothing was called: the module refuses to load in this interpreter */
} epy_result;

/* Runs the request's operation.  No exception is set afterwards. */
EPY_GIL epy_result epy_exec(epy_interp *interp, epy_request *req);

/* Does this operation, on these terms, look into the caller's namespace? */
EPY_ANY bool epy_exec_needs_namespace(const epy_request *req);

#endif
