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

/* A task: calls its function.  What that returned; or NULL, and the result is there. */
EPY_GIL EPY_NEWREF PyObject *epy_exec_call(epy_interp *interp, epy_request *req,
                                           epy_result *result);

/* A task: its result.  Takes the value, or where that is NULL the exception that is set. */
EPY_GIL epy_result epy_exec_end(epy_interp *interp, epy_request *req, PyObject *value);

/* Does this operation, on these terms, look into the caller's namespace? */
EPY_ANY bool epy_exec_needs_namespace(const epy_request *req);

#endif
