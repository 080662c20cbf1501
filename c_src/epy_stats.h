/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the NIF counts: how requests ended, and for how long they waited and ran.
 *
 * An executor counts in a struct of its own, which only its thread writes, so that
 * counting costs no bus traffic; whoever asks adds them up.  What happens rarely or
 * anywhere is counted in one table of atomics.
 */
#ifndef EPY_STATS_H
#define EPY_STATS_H

#include "epy.h"

/* The buckets of a histogram: below 1 us, 2 us, 4 us ... and the rest. */
#define EPY_BUCKETS 28

typedef struct epy_counts {
    _Atomic uint64_t done, failed;
    _Atomic uint64_t sent, unsent; /* replies; unsent: the caller was gone */
    _Atomic uint64_t queue_time[EPY_BUCKETS], run_time[EPY_BUCKETS];
} epy_counts;

/* Adds one, on the only thread that writes this counter. */
static inline void epy_count(_Atomic uint64_t *counter)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

EPY_ANY void epy_count_time(_Atomic uint64_t histogram[EPY_BUCKETS], uint64_t ns);

void epy_counts_clear(epy_counts *c);
EPY_ANY void epy_counts_add(epy_counts *sum, const epy_counts *c); /* sum: the caller's own */

typedef enum epy_event {
    EPY_CANCELLED,  /* requests that a canceller ended */
    EPY_OVERLOADED, /* requests that found no slot in time */
    EPY_REFUSED,    /* requests that a stop or the end of a context or pool ended */
    EPY_INLINE_RUN,
    EPY_INLINE_BUSY_RUN, /* took the normal path, as the interpreter was not free */
    EPY_NOT_ENDED,  /* interpreters that could not be ended for want of a thread */
    EPY_ELSEWHERE_SENT, /* replies that no executor sent */
    EPY_ELSEWHERE_UNSENT,
    EPY_EVENT_COUNT,
} epy_event;

EPY_ANY void epy_event_count(epy_event event);
EPY_ANY uint64_t epy_event_get(epy_event event);
EPY_ANY void epy_event_reply(bool sent);

/* R10: {py_event, Event} to the process that logs such; without one info/0 has it all the same.
 * Frees env, in which the event is.  caller_env: of the calling process, or NULL on a thread of
 * ours. */
EPY_ANY void epy_event_tell(ErlNifEnv *caller_env, ErlNifEnv *env, ERL_NIF_TERM event);

/* The map of py_nif:stats/0. */
EPY_ANY ERL_NIF_TERM epy_stats_term(ErlNifEnv *env);

#endif
