/* SPDX-License-Identifier: Apache-2.0 */
/* What a request does: one table of operations. */
#ifndef EPY_EXEC_H
#define EPY_EXEC_H

#include "epy_interp.h"
#include "epy_request.h"

/* Runs the request's operation; its result, {ok, V}, ok or {error, Reason}, in
 * the request's environment.  No exception is set afterwards. */
EPY_GIL ERL_NIF_TERM epy_exec(epy_interp *interp, epy_request *req);

/* Does this operation, on these terms, look into the caller's namespace? */
EPY_ANY bool epy_exec_needs_namespace(const epy_request *req);

#endif
