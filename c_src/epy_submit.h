/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the terms of a native call to a request in the right queue: which group it goes
 * to, whether it rides on a slot that is held or asks for one, or runs at once.
 */
#ifndef EPY_SUBMIT_H
#define EPY_SUBMIT_H

#include "epy_executor.h"
#include "epy_request.h"

int epy_submit_open(ErlNifEnv *env); /* registers the resource type of tickets */

/* What these return is what py_nif.erl says of submit/3,5, async/4, cast/4, service/2. */
EPY_ANY ERL_NIF_TERM epy_submit(ErlNifEnv *env, ERL_NIF_TERM ns, ERL_NIF_TERM op,
                                ERL_NIF_TERM request, ERL_NIF_TERM pool, ERL_NIF_TERM frame);
EPY_ANY ERL_NIF_TERM epy_submit_async(ErlNifEnv *env, epy_manner manner, ERL_NIF_TERM ns,
                                      ERL_NIF_TERM op, ERL_NIF_TERM request, ERL_NIF_TERM pool);
EPY_ANY ERL_NIF_TERM epy_submit_service(ErlNifEnv *env, ERL_NIF_TERM interp,
                                        ERL_NIF_TERM request);

/* The id in a number or a ticket; false when it is neither. */
EPY_ANY bool epy_submit_id(ErlNifEnv *env, ERL_NIF_TERM term, uint64_t *id);

/* The executor in {Index, Serial}; NULL when it is not one. */
EPY_ANY epy_executor *epy_submit_frame(ErlNifEnv *env, ERL_NIF_TERM term, ErlNifUInt64 *serial);

#endif
