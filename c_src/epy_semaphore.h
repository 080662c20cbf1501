/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Admission: how many requests may be in the system at a time, and how many run.
 *
 * Each request takes a number when it comes.  The first `max` are *admitted*, and for each
 * admitted one that ends the next in line; those behind wait, first come, first served,
 * and are overloaded when that takes too long.  The line is no list
 * of its own: every request stands in the queue of its group, so that the executor
 * which ends one takes the next at once, and nobody is woken only to submit.  No more
 * than `max` run at a time: an executor takes a slot before it takes a request.
 * See docs/decisions/0005-admission-in-c.md.
 *
 * Riders take no slot: nested requests, whose outer call holds one, and those of a
 * process that took one by py_semaphore:acquire/1.
 */
#ifndef EPY_SEMAPHORE_H
#define EPY_SEMAPHORE_H

#include "epy_request.h"

typedef struct epy_slots {
    int current, max, waiting;
} epy_slots;

/* Gives the request its number; is it admitted at once? */
EPY_ANY bool epy_semaphore_arrive(epy_request *req);

/* Is the request that took this number admitted by now? */
EPY_ANY bool epy_semaphore_is_admitted(uint32_t number);

/* A slot to run one request.  The last one is only for a request that is admitted, so that
 * where slots are scarce the order is that of the line also between groups.  The second
 * gives back one that was not used. */
EPY_ANY bool epy_semaphore_take(bool admitted);
EPY_ANY void epy_semaphore_untake(void);
EPY_ANY bool epy_semaphore_is_free(bool admitted);

/* By whoever has ended the request that took this number; ran: from a slot. */
EPY_ANY void epy_semaphore_end(ErlNifEnv *env, uint32_t number, bool ran);

/* By whoever gives back what py_semaphore:acquire/1 took. */
EPY_ANY void epy_semaphore_release(ErlNifEnv *env);

/* The line has EPY_LINE_MAX places; is the last one taken? */
EPY_ANY bool epy_semaphore_is_full(void);

#define EPY_LINE_MAX (1u << 18)

/* py_semaphore:acquire/1: replies to the request, which has its number, when it is admitted
 * and there is a slot.  env: of the calling process. */
EPY_ANY void epy_semaphore_acquire(ErlNifEnv *env, epy_request *req);

/* One of those that wait to acquire may go on or has left, or the application has stopped,
 * which ends them all. */
EPY_ANY void epy_semaphore_recheck(ErlNifEnv *env);

EPY_ANY epy_slots epy_semaphore_slots(void);
EPY_ANY void epy_semaphore_set_max(ErlNifEnv *env, int max);
EPY_ANY void epy_semaphore_set_timeout(unsigned ms);
EPY_ANY unsigned epy_semaphore_timeout(void);

/* {overloaded, Current, Max} */
EPY_ANY ERL_NIF_TERM epy_semaphore_overloaded(ErlNifEnv *env);

#endif
