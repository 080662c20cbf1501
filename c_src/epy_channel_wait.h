/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread of Python waits for a channel, in a frame, as it does for the answer to a callback: an
 * executor in one of its own, so that the wait ends with a cancel of the request, other threads in
 * that of an epy_call.
 */
#ifndef EPY_CHANNEL_WAIT_H
#define EPY_CHANNEL_WAIT_H

#include "epy_channel.h"
#include "epy_frame.h"
#include "epy_interp.h"

/* On the stack of the thread. */
typedef struct epy_waiting {
    epy_channel *channel;
    bool sends;
    epy_item *item;    /* what is sent; else NULL, and then what was received */
    uint64_t deadline; /* of epy_now_ns(); 0: never */
    /* These are epy_channel_wait()'s own. */
    epy_waiter waiter;
    epy_frames *frames; /* of the thread, with the frame of this number open */
    uint64_t serial;
} epy_waiting;

/* EPY_CHANNEL_DONE or EPY_CHANNEL_CLOSED; or -1 with an exception set, Timeout or Cancelled. */
EPY_GIL int epy_channel_wait(epy_interp *interp, epy_waiting *w);

#endif
