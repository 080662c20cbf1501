/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_frame.h. */
#include <config.h>

#include "epy_frame.h"
#include "epy_queue.h"

#include <stddef.h>
#include <time.h>

void epy_frames_init(epy_frames *frames)
{
    pthread_mutex_init(&frames->lock, NULL);
    frames->innermost = NULL;
    frames->serial = 0;
}

static epy_frame *find(epy_frames *frames, uint64_t serial)
{
    epy_frame *f = frames->innermost;
    while (f && f->serial != serial)
        f = f->outer;
    return f;
}

static bool has_ended(const epy_frame *f)
{
    return f->answer.env || f->cancelled;
}

/* Under the lock. */
static void tell(epy_frame *f)
{
    atomic_fetch_add_explicit(&f->news, 1, memory_order_release);
    pthread_cond_signal(&f->changed);
}

/* Its deadlines are those of epy_now_ns(). */
static void changed_init(pthread_cond_t *changed)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(changed, &attr);
    pthread_condattr_destroy(&attr);
}

bool epy_frame_open(epy_frames *frames, epy_frame *f, const void *owner,
                    bool (*send)(epy_frame *f, void *arg), void *arg)
{
    *f = (epy_frame){.owner = owner};
    changed_init(&f->changed);
    pthread_mutex_lock(&frames->lock);
    f->serial = ++frames->serial;
    f->outer = frames->innermost;
    bool open = send(f, arg);
    if (open)
        frames->innermost = f;
    pthread_mutex_unlock(&frames->lock);
    if (!open)
        pthread_cond_destroy(&f->changed);
    return open;
}

bool epy_frame_answer(epy_frames *frames, uint64_t serial, epy_answer answer)
{
    pthread_mutex_lock(&frames->lock);
    epy_frame *f = find(frames, serial);
    bool taken = f && !has_ended(f);
    if (taken) {
        f->answer = answer;
        tell(f);
    }
    pthread_mutex_unlock(&frames->lock);
    return taken;
}

bool epy_frame_nest(epy_frames *frames, uint64_t serial, epy_fnode *work)
{
    pthread_mutex_lock(&frames->lock);
    epy_frame *f = find(frames, serial);
    bool taken = f && !has_ended(f);
    if (taken) {
        epy_fnode **last = &f->nested;
        while (*last)
            last = &(*last)->next;
        work->next = NULL;
        *last = work;
        tell(f);
    }
    pthread_mutex_unlock(&frames->lock);
    return taken;
}

void epy_frame_cancel(epy_frames *frames, const void *owner)
{
    pthread_mutex_lock(&frames->lock);
    for (epy_frame *f = frames->innermost; f; f = f->outer)
        if (f->owner == owner && !has_ended(f)) {
            f->cancelled = true;
            tell(f);
        }
    pthread_mutex_unlock(&frames->lock);
}

bool epy_frame_spin(epy_frame *f, uint64_t ns)
{
    uint64_t end = epy_now_ns() + ns;
    while (atomic_load_explicit(&f->news, memory_order_acquire) == 0) {
        if (epy_now_ns() >= end)
            return false;
        epy_pause();
    }
    return true;
}

static epy_fnode *take_work(epy_frame *f)
{
    epy_fnode *work = f->nested;
    if (work)
        f->nested = work->next;
    return work;
}

/* False: it is over. */
static bool wait_changed(epy_frames *frames, epy_frame *f, uint64_t deadline_ns)
{
    if (deadline_ns == 0)
        return pthread_cond_wait(&f->changed, &frames->lock) == 0;
    struct timespec end = {.tv_sec = (time_t)(deadline_ns / 1000000000),
                           .tv_nsec = (long)(deadline_ns % 1000000000)};
    return pthread_cond_timedwait(&f->changed, &frames->lock, &end) == 0;
}

/* Once it has ended, nothing that is nested in it begins. */
epy_fnode *epy_frame_wait_until(epy_frames *frames, epy_frame *f, uint64_t deadline_ns)
{
    epy_fnode *work = NULL;
    pthread_mutex_lock(&frames->lock);
    while (!has_ended(f) && !(work = take_work(f)) && wait_changed(frames, f, deadline_ns))
        continue;
    atomic_store_explicit(&f->news, f->nested || has_ended(f), memory_order_relaxed);
    if (!work)
        frames->innermost = f->outer;
    pthread_mutex_unlock(&frames->lock);
    if (!work)
        pthread_cond_destroy(&f->changed);
    return work;
}

epy_fnode *epy_frame_wait(epy_frames *frames, epy_frame *f)
{
    return epy_frame_wait_until(frames, f, 0);
}

epy_fnode *epy_frame_take_rest(epy_frame *f)
{
    return take_work(f);
}
