/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue of requests of one interpreter, and how its executors sleep.
 *
 * Neither Python nor the BEAM is known here, so that tests/c can drive the
 * code under helgrind and ThreadSanitizer.
 *
 * epy_queue: an intrusive FIFO (Vyukov's MPSC list).  Producers are wait-free:
 * one exchange, one store.  Consumers are serialized by a spin lock that is
 * held for a few instructions and never across a call, so several executors
 * may pop.
 *
 * epy_idle: the sleeping executors.  A wake-up costs more than a Python call,
 * so a producer wakes somebody only if nobody is `hot`.  A wake-up is a token:
 * it is given to exactly one sleeper and never lost, also not when that
 * sleeper times out in the same moment.
 */
#ifndef EPY_QUEUE_H
#define EPY_QUEUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define EPY_CACHE_LINE 64

typedef struct epy_qnode {
    _Atomic(struct epy_qnode *) next;
} epy_qnode;

typedef struct epy_queue {
    _Alignas(EPY_CACHE_LINE) _Atomic(epy_qnode *) head; /* last pushed; producers */
    _Alignas(EPY_CACHE_LINE) _Atomic(epy_qnode *) tail; /* next to pop; written under `popping` */
    atomic_flag popping;                                /* serializes consumers */
    epy_qnode stub;                                     /* never handed out */
} epy_queue;

void epy_queue_init(epy_queue *q);

/* Any thread.  The node belongs to the queue until it is popped. */
void epy_queue_push(epy_queue *q, epy_qnode *n);

/* Any thread.  NULL when empty, and also when the next push is half done: that
 * producer has yet to look for sleepers, so sleeping on a NULL is safe. */
epy_qnode *epy_queue_pop(epy_queue *q);

/* Any thread.  A hint: true may be stale, false may be stale. */
bool epy_queue_empty(epy_queue *q);

/* Any thread.  A hint: the node that would be popped next, or was a moment ago; NULL when
 * there is none.  Only for nodes that are never freed. */
epy_qnode *epy_queue_first(epy_queue *q);

typedef struct epy_idle {
    _Alignas(EPY_CACHE_LINE) atomic_int hot; /* threads that will look at the queue soon */
    atomic_int sleepers;                     /* asleep and not yet given a token */
    atomic_int tokens;                       /* futex word: wake-ups not yet taken */
    atomic_int spinning;                     /* at most one thread spins */
    atomic_int watching;                     /* a sleeper waits for a descriptor too, in `epoll` */
    atomic_int epoll, bell;                  /* -1 before the first watch, and never closed after;
                                                the bell wakes who sleeps in the other */
    int watched;                             /* the descriptor there, of who watches; or -1 */
    uint64_t whose;                          /* the same: the key with which it came */
} epy_idle;

void epy_idle_init(epy_idle *idle);

/* After a push.  Wakes one sleeper if nobody is hot; returns whether it did. */
bool epy_idle_notify(epy_idle *idle);

/* Wakes one sleeper, hot or not; false if there was none. */
bool epy_idle_wake(epy_idle *idle);

/* The calling thread will look at the queue soon / no more. */
void epy_idle_heat(epy_idle *idle);
void epy_idle_cool(epy_idle *idle);

/* Called hot.  Waits until ready(arg), a token comes, or timeout_ns passed (negative: for
 * ever): first spins for spin_ns if no other thread does, then sleeps.  ready may be NULL: a
 * token it is then; else who makes it true calls epy_idle_notify() afterwards.  Returns hot;
 * false on timeout. */
typedef bool (*epy_ready)(void *arg);
bool epy_idle_wait(epy_idle *idle, epy_ready ready, void *arg, int64_t spin_ns,
                   int64_t timeout_ns);

/* The same for a descriptor as well.  epy_idle_watch() begins that: false, one is watched already
 * or there is no descriptor left to do it with.  Then the wait, once or several times, which does
 * not spin; then the end.  The descriptor stays in the poll until that of another key comes, so that
 * the next watch of the same one is no system call: a key stands for one descriptor, for ever. */
typedef enum { EPY_WATCH_WOKEN, EPY_WATCH_READABLE, EPY_WATCH_TIMEOUT } epy_watch;
bool epy_idle_watch(epy_idle *idle, int fd, uint64_t key);
epy_watch epy_idle_wait_watching(epy_idle *idle, epy_ready ready, void *arg, int64_t timeout_ns);
void epy_idle_unwatch(epy_idle *idle);

/* Any thread, before it closes a descriptor that may be in the poll; its key does not come again. */
void epy_idle_forget(epy_idle *idle, int fd);

/* ready() for a queue: it is not empty. */
bool epy_queue_ready(void *queue);

void epy_pause(void);      /* a few cycles, in a loop that waits */
uint64_t epy_now_ns(void); /* CLOCK_MONOTONIC */
void epy_sleep_ns(int64_t ns);

/* Waits while *word == expected, for ns at most (negative: for ever); may return
 * early.  Wakes one thread that waits so. */
void epy_futex_wait(atomic_int *word, int expected, int64_t ns);
void epy_futex_wake_one(atomic_int *word);

#endif
