/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A channel: items that wait for those who take them, and those who wait for items or for room.
 * One direction; knows neither Python nor the BEAM.
 *
 * An item is handed over to who has waited for it longest, under the lock, or stands in the
 * queue.  So there are items only while nobody waits for one, and no wake-up can be lost: what
 * was given is never taken by somebody else meanwhile.  Who waits for room is told to look
 * again, and all of them are, once the queue is half empty.
 *
 * What was taken in vain is put back to its place: items have the number with which they came.
 * What was not taken yet is younger than all that was, so those that were put back are in front.
 */
#ifndef EPY_CHANNEL_H
#define EPY_CHANNEL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Part of what is sent. */
typedef struct epy_item {
    struct epy_item *next;
    size_t size;     /* what it counts; constant while it is in a channel */
    uint64_t number; /* of the channel's items, as they came; set by epy_channel_put() */
} epy_item;

/* Part of what waits.  Of its owner, but for the time in which it stands in a line. */
typedef struct epy_waiter {
    struct epy_waiter *next, **link; /* in its line; under the lock, as the next one */
    struct epy_line *line;           /* NULL: it stands in none */
    /* Runs under the lock, when the waiter has just left its line.  For receivers an item, which
     * is the waiter's from now on, or NULL: closed.  For senders NULL: look again.  False: nobody
     * is there any more, and the next one gets it.  `by`: see epy_channel_put(). */
    bool (*give)(struct epy_waiter *w, epy_item *item, void *by);
} epy_waiter;

typedef struct epy_line {
    epy_waiter *first, **last;
    size_t count;
} epy_line;

typedef struct epy_channel {
    pthread_mutex_t lock; /* guards all of it, for a few instructions or a message */
    bool closed;
    size_t size, max_size, count; /* of the items in the queue */
    epy_item *first, **last;
    epy_item *put_back; /* the last of those in front that were put back; NULL: there are none */
    uint64_t items;     /* how many have come */
    epy_line receivers, senders;
} epy_channel;

typedef enum epy_channel_code {
    EPY_CHANNEL_DONE,
    EPY_CHANNEL_NOT_NOW, /* full, or empty: the waiter, if there is one, stands in line */
    EPY_CHANNEL_CLOSED,  /* and, for receivers, empty */
} epy_channel_code;

void epy_channel_init(epy_channel *ch, size_t max_size);

/* Nobody waits, and nobody knows of it any more.  What was left in the queue, one by one. */
epy_item *epy_channel_take_rest(epy_channel *ch);
void epy_channel_fini(epy_channel *ch);

/* Any thread.  DONE: the item is not the caller's any more.  An item that is larger than
 * max_size is taken when the queue is empty.  `by` is what give() may need to know of who
 * calls.  waiter: NULL, or stands in line if there is no room. */
epy_channel_code epy_channel_put(epy_channel *ch, epy_item *item, epy_waiter *waiter, void *by);

/* Any thread.  DONE: *item is the caller's. */
epy_channel_code epy_channel_get(epy_channel *ch, epy_item **item, epy_waiter *waiter, void *by);

/* An item that was taken in vain, or what is left of it: before all that came after it, but for
 * what others have taken meanwhile. */
void epy_channel_put_back(epy_channel *ch, epy_item *item, void *by);

/* The waiter is not to be given anything from now on.  False: it stood in no line. */
bool epy_channel_leave(epy_channel *ch, epy_waiter *waiter);

/* Takes the first waiter that is so out of its line; NULL: none is. */
epy_waiter *epy_channel_remove(epy_channel *ch, bool (*is)(epy_waiter *w, void *arg), void *arg);

/* No more items from now on.  False: it was closed before. */
bool epy_channel_close(epy_channel *ch, void *by);

typedef struct epy_channel_facts {
    bool closed;
    size_t size, max_size, count;
    size_t receivers; /* that wait */
} epy_channel_facts;

epy_channel_facts epy_channel_look(epy_channel *ch);

#endif
