/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor: a thread that looks at the queues once a millisecond while there
 * is work, and sleeps while there is none.
 *
 * Executors that share a GIL gain nothing from being woken for every request,
 * as the one that is awake serves them faster than a thread can be woken.  So
 * a producer wakes an executor only if none is awake.  What is left is the case
 * of an executor that is awake and does not come back to its queue, because its
 * request waits for something or computes: when a queue did not move for a
 * tick, the monitor wakes another executor.
 *
 * It is also the one that notices what nobody tells: callers that are gone (R8), executors
 * whose request was cancelled and that do not come back, groups that are closed, and what
 * waits in line for too long.
 */
#ifndef EPY_MONITOR_H
#define EPY_MONITOR_H

#include "epy.h"

#define EPY_TICK_NS 1000000

int epy_monitor_start(void); /* once per VM */

/* After a request was queued: one load while the monitor is awake. */
EPY_ANY void epy_monitor_notice(void);

#endif
