/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_channel.h. */
#include <config.h>

#include "epy_channel.h"

/* ---- life ---- */

static void line_init(epy_line *line)
{
    line->first = NULL;
    line->count = 0;
    line->last = &line->first;
}

/* The lock is held so briefly that to sleep costs more than to spin. */
static void lock_init(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
#ifdef __GLIBC__
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
#endif
    pthread_mutex_init(lock, &attr);
    pthread_mutexattr_destroy(&attr);
}

void epy_channel_init(epy_channel *ch, size_t max_size)
{
    lock_init(&ch->lock);
    ch->closed = false;
    ch->size = ch->count = 0;
    ch->max_size = max_size;
    ch->items = 0;
    ch->first = ch->put_back = NULL;
    ch->last = &ch->first;
    line_init(&ch->receivers);
    line_init(&ch->senders);
}

void epy_channel_fini(epy_channel *ch)
{
    pthread_mutex_destroy(&ch->lock);
}

/* ---- lines.  Under the lock. ---- */

static void enter(epy_line *line, epy_waiter *w)
{
    w->next = NULL;
    w->line = line;
    w->link = line->last;
    *line->last = w;
    line->last = &w->next;
    line->count++;
}

static void leave(epy_waiter *w)
{
    *w->link = w->next;
    if (w->next)
        w->next->link = w->link;
    else
        w->line->last = w->link;
    w->line->count--;
    w->line = NULL;
}

static epy_waiter *take_first(epy_line *line)
{
    epy_waiter *w = line->first;
    if (w)
        leave(w);
    return w;
}

/* To the first who is still there. */
static bool give_first(epy_channel *ch, epy_item *item, void *by)
{
    epy_waiter *w;
    while ((w = take_first(&ch->receivers)))
        if (w->give(w, item, by))
            return true;
    return false;
}

static void tell_all(epy_line *line, void *by)
{
    epy_waiter *w;
    while ((w = take_first(line)))
        (void)w->give(w, NULL, by); /* there is nothing that another one could have */
}

/* ---- items ---- */

static void append(epy_channel *ch, epy_item *item)
{
    item->next = NULL;
    *ch->last = item;
    ch->last = &item->next;
    ch->size += item->size;
    ch->count++;
}

static epy_item *detach_first(epy_channel *ch)
{
    epy_item *item = ch->first;
    if (!item)
        return NULL;
    ch->first = item->next;
    if (!ch->first)
        ch->last = &ch->first;
    if (ch->put_back == item)
        ch->put_back = NULL;
    ch->size -= item->size;
    ch->count--;
    return item;
}

static bool has_room(const epy_channel *ch, size_t size)
{
    return !ch->first || (ch->size < ch->max_size && size <= ch->max_size - ch->size);
}

epy_channel_code epy_channel_put(epy_channel *ch, epy_item *item, epy_waiter *waiter, void *by)
{
    epy_channel_code code = EPY_CHANNEL_DONE;
    pthread_mutex_lock(&ch->lock);
    item->number = ch->items;
    if (ch->closed)
        code = EPY_CHANNEL_CLOSED;
    else if (!has_room(ch, item->size))
        code = EPY_CHANNEL_NOT_NOW;
    else {
        ch->items++;
        if (!give_first(ch, item, by))
            append(ch, item);
    }
    if (code == EPY_CHANNEL_NOT_NOW && waiter)
        enter(&ch->senders, waiter);
    pthread_mutex_unlock(&ch->lock);
    return code;
}

epy_channel_code epy_channel_get(epy_channel *ch, epy_item **item, epy_waiter *waiter, void *by)
{
    epy_channel_code code = EPY_CHANNEL_DONE;
    pthread_mutex_lock(&ch->lock);
    *item = detach_first(ch);
    if (!*item)
        code = ch->closed ? EPY_CHANNEL_CLOSED : EPY_CHANNEL_NOT_NOW;
    else if (ch->senders.first && ch->size <= ch->max_size / 2)
        tell_all(&ch->senders, by);
    if (code == EPY_CHANNEL_NOT_NOW && waiter)
        enter(&ch->receivers, waiter);
    pthread_mutex_unlock(&ch->lock);
    return code;
}

/* Receivers that are cancelled one after the other put back what they have in one order or in the
 * other: both are found at once.  Else those are passed that were put back. */
static epy_item **place_of(epy_channel *ch, const epy_item *item)
{
    if (ch->put_back && ch->put_back->number < item->number)
        return &ch->put_back->next;
    epy_item **place = &ch->first;
    while (*place && (*place)->number < item->number)
        place = &(*place)->next;
    return place;
}

static void insert(epy_channel *ch, epy_item *item)
{
    epy_item **place = place_of(ch, item);
    if (!ch->put_back || ch->put_back->number < item->number)
        ch->put_back = item;
    item->next = *place;
    *place = item;
    if (!item->next)
        ch->last = &item->next;
    ch->size += item->size;
    ch->count++;
}

void epy_channel_put_back(epy_channel *ch, epy_item *item, void *by)
{
    pthread_mutex_lock(&ch->lock);
    if (!give_first(ch, item, by))
        insert(ch, item);
    pthread_mutex_unlock(&ch->lock);
}

epy_item *epy_channel_take_rest(epy_channel *ch)
{
    return detach_first(ch);
}

/* ---- leaving ---- */

bool epy_channel_leave(epy_channel *ch, epy_waiter *waiter)
{
    pthread_mutex_lock(&ch->lock);
    bool waits = waiter->line != NULL;
    if (waits)
        leave(waiter);
    pthread_mutex_unlock(&ch->lock);
    return waits;
}

static epy_waiter *find(const epy_line *line, bool (*is)(epy_waiter *w, void *arg), void *arg)
{
    epy_waiter *w = line->first;
    while (w && !is(w, arg))
        w = w->next;
    return w;
}

epy_waiter *epy_channel_remove(epy_channel *ch, bool (*is)(epy_waiter *w, void *arg), void *arg)
{
    pthread_mutex_lock(&ch->lock);
    epy_waiter *w = find(&ch->receivers, is, arg);
    if (!w)
        w = find(&ch->senders, is, arg);
    if (w)
        leave(w);
    pthread_mutex_unlock(&ch->lock);
    return w;
}

bool epy_channel_close(epy_channel *ch, void *by)
{
    pthread_mutex_lock(&ch->lock);
    bool open = !ch->closed;
    ch->closed = true;
    tell_all(&ch->receivers, by);
    tell_all(&ch->senders, by);
    pthread_mutex_unlock(&ch->lock);
    return open;
}

epy_channel_facts epy_channel_look(epy_channel *ch)
{
    pthread_mutex_lock(&ch->lock);
    epy_channel_facts facts = {.closed = ch->closed, .size = ch->size, .max_size = ch->max_size,
                               .count = ch->count, .receivers = ch->receivers.count};
    pthread_mutex_unlock(&ch->lock);
    return facts;
}
