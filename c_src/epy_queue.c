/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See epy_queue.h for the contract.
 *
 * The list always has one node at its tail.  `stub` stands in when it would be
 * empty, so that a producer never needs to look at the tail, and a consumer
 * never at the head but to see that the list has become empty.
 *
 * Why no wake-up is lost: a producer links its node, then fences, then reads
 * `hot`; a consumer lowers `hot`, then (sequentially consistent) looks at the
 * queue again.  One of the two sees the other.
 */
#include "epy_queue.h"

#include <limits.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__) || defined(__i386__)
#define PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define PAUSE() __asm__ __volatile__("yield")
#else
#define PAUSE() atomic_signal_fence(memory_order_seq_cst)
#endif

void epy_pause(void)
{
    PAUSE();
}

uint64_t epy_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- queue ---- */

void epy_queue_init(epy_queue *q)
{
    atomic_init(&q->stub.next, NULL);
    atomic_init(&q->head, &q->stub);
    atomic_init(&q->tail, &q->stub);
    atomic_flag_clear(&q->popping);
}

void epy_queue_push(epy_queue *q, epy_qnode *n)
{
    atomic_store_explicit(&n->next, NULL, memory_order_relaxed);
    epy_qnode *prev = atomic_exchange_explicit(&q->head, n, memory_order_acq_rel);
    atomic_store_explicit(&prev->next, n, memory_order_release);
}

static epy_qnode *next_of(epy_qnode *n)
{
    return atomic_load_explicit(&n->next, memory_order_acquire);
}

static void set_tail(epy_queue *q, epy_qnode *n)
{
    atomic_store_explicit(&q->tail, n, memory_order_release); /* for epy_queue_first() */
}

/* Holder of `popping`. */
static epy_qnode *pop(epy_queue *q)
{
    epy_qnode *tail = atomic_load_explicit(&q->tail, memory_order_relaxed);
    epy_qnode *next = next_of(tail);
    if (tail == &q->stub) {
        if (!next)
            return NULL;
        tail = next;
        set_tail(q, tail);
        next = next_of(tail);
    }
    if (!next) {
        if (tail != atomic_load_explicit(&q->head, memory_order_acquire))
            return NULL; /* a push is half done */
        epy_queue_push(q, &q->stub);
        next = next_of(tail);
        if (!next)
            return NULL; /* another push came in between, and is half done */
    }
    set_tail(q, next);
    return tail;
}

epy_qnode *epy_queue_pop(epy_queue *q)
{
    while (atomic_flag_test_and_set_explicit(&q->popping, memory_order_acquire))
        PAUSE();
    epy_qnode *n = pop(q);
    atomic_flag_clear_explicit(&q->popping, memory_order_release);
    return n;
}

bool epy_queue_empty(epy_queue *q)
{
    /* The head alone does not tell: a push between pop()'s look at the head and
     * its push of the stub leaves its node before the stub.  Whoever put the
     * stub at the head had moved the tail off it before, so the tail that is
     * read after the head is not older than that. */
    return atomic_load_explicit(&q->head, memory_order_seq_cst) == &q->stub &&
           atomic_load_explicit(&q->tail, memory_order_acquire) == &q->stub;
}

epy_qnode *epy_queue_first(epy_queue *q)
{
    epy_qnode *tail = atomic_load_explicit(&q->tail, memory_order_acquire);
    epy_qnode *first = tail == &q->stub ? next_of(tail) : tail;
    return first == &q->stub ? NULL : first;
}

bool epy_queue_ready(void *queue)
{
    return !epy_queue_empty(queue);
}

/* ---- sleeping ---- */

void epy_futex_wait(atomic_int *word, int expected, int64_t ns)
{
    struct timespec ts = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, ns < 0 ? NULL : &ts, NULL, 0);
}

void epy_futex_wake_one(atomic_int *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void epy_sleep_ns(int64_t ns)
{
    struct timespec ts = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    nanosleep(&ts, NULL);
}

/* Lowers a counter that is above zero. */
static bool take(atomic_int *counter)
{
    int n = atomic_load_explicit(counter, memory_order_seq_cst);
    while (n > 0)
        if (atomic_compare_exchange_weak(counter, &n, n - 1))
            return true;
    return false;
}

void epy_idle_init(epy_idle *idle)
{
    atomic_init(&idle->hot, 0);
    atomic_init(&idle->sleepers, 0);
    atomic_init(&idle->tokens, 0);
    atomic_init(&idle->spinning, 0);
    atomic_init(&idle->watching, 0);
    atomic_init(&idle->epoll, -1);
    atomic_init(&idle->bell, -1);
    idle->watched = -1;
    idle->whose = 0;
}

/* For one that sleeps in epoll_wait().  It had said so before it was counted as a sleeper. */
static void ring(epy_idle *idle)
{
    uint64_t one = 1;
    if (atomic_load(&idle->watching))
        (void)!write(atomic_load(&idle->bell), &one, sizeof one); /* full is rung */
}

bool epy_idle_wake(epy_idle *idle)
{
    if (!take(&idle->sleepers))
        return false;
    /* On behalf of the sleeper, so that the next producer need not wake another. */
    atomic_fetch_add(&idle->hot, 1);
    atomic_fetch_add(&idle->tokens, 1);
    epy_futex_wake_one(&idle->tokens);
    ring(idle);
    return true;
}

bool epy_idle_notify(epy_idle *idle)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&idle->hot, memory_order_relaxed) > 0)
        return false;
    return epy_idle_wake(idle);
}

void epy_idle_heat(epy_idle *idle)
{
    atomic_fetch_add(&idle->hot, 1);
}

void epy_idle_cool(epy_idle *idle)
{
    atomic_fetch_sub(&idle->hot, 1);
}

/* Looks for work for a while without giving up the processor. */
static bool spin(epy_idle *idle, epy_ready ready, void *arg, int64_t spin_ns)
{
    if (spin_ns <= 0 || atomic_exchange(&idle->spinning, 1))
        return false;
    uint64_t end = epy_now_ns() + (uint64_t)spin_ns;
    bool found = false;
    do {
        for (int i = 0; i < 32 && !found; i++) {
            PAUSE();
            found = ready(arg);
        }
    } while (!found && epy_now_ns() < end);
    atomic_store(&idle->spinning, 0);
    return found;
}

/* Asleep and counted in `sleepers`.  True: a token was taken, which carries
 * the heat; false: timed out, no longer counted, not hot. */
static bool sleep_for_token(epy_idle *idle, int64_t timeout_ns)
{
    uint64_t end = timeout_ns < 0 ? 0 : epy_now_ns() + (uint64_t)timeout_ns;
    int64_t left = timeout_ns;
    for (;;) {
        if (take(&idle->tokens))
            return true;
        if (timeout_ns >= 0) {
            left = (int64_t)(end - epy_now_ns());
            if (left <= 0 && take(&idle->sleepers))
                return false;
            if (left <= 0)
                left = 1000000; /* a token was made for us and is on its way */
        }
        epy_futex_wait(&idle->tokens, 0, left);
    }
}

/* Counted as a sleeper, and cool; true: it has work instead, and is hot again. */
static bool lie_down(epy_idle *idle, epy_ready ready, void *arg)
{
    atomic_fetch_add(&idle->sleepers, 1);
    epy_idle_cool(idle);
    if (!ready || !ready(arg))
        return false;
    /* Not asleep after all.  If our place was given a token, take that. */
    if (take(&idle->sleepers))
        epy_idle_heat(idle);
    else
        (void)sleep_for_token(idle, -1);
    return true;
}

bool epy_idle_wait(epy_idle *idle, epy_ready ready, void *arg, int64_t spin_ns,
                   int64_t timeout_ns)
{
    if ((ready && spin(idle, ready, arg, spin_ns)) || lie_down(idle, ready, arg) ||
        sleep_for_token(idle, timeout_ns))
        return true;
    epy_idle_heat(idle);
    return false;
}

/* ---- sleeping, and watching a descriptor ---- */

static bool add(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* By who has claimed the watch. */
static bool open_poller(epy_idle *idle)
{
    if (atomic_load(&idle->bell) >= 0)
        return true;
    int epoll = epoll_create1(EPOLL_CLOEXEC), bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (epoll >= 0 && bell >= 0 && add(epoll, bell)) {
        atomic_store(&idle->epoll, epoll);
        atomic_store(&idle->bell, bell);
        return true;
    }
    if (epoll >= 0)
        close(epoll);
    if (bell >= 0)
        close(bell);
    return false;
}

void epy_idle_forget(epy_idle *idle, int fd)
{
    /* Fails when it is not there, which is as well. */
    (void)epoll_ctl(atomic_load(&idle->epoll), EPOLL_CTL_DEL, fd, NULL);
}

/* Those that were forgotten are not there any more, whatever has their number now. */
static bool replace_watched(epy_idle *idle, int fd, uint64_t key)
{
    if (idle->watched >= 0)
        epy_idle_forget(idle, idle->watched);
    bool added = add(atomic_load(&idle->epoll), fd);
    idle->watched = added ? fd : -1;
    idle->whose = key;
    return added;
}

bool epy_idle_watch(epy_idle *idle, int fd, uint64_t key)
{
    if (atomic_exchange(&idle->watching, 1))
        return false;
    if (open_poller(idle) &&
        ((idle->watched >= 0 && idle->whose == key) || replace_watched(idle, fd, key)))
        return true;
    atomic_store(&idle->watching, 0);
    return false;
}

void epy_idle_unwatch(epy_idle *idle)
{
    atomic_store(&idle->watching, 0);
}

/* Is the descriptor readable, after timeout_ns at most?  May return early. */
static bool poll_watched(epy_idle *idle, int64_t timeout_ns)
{
    struct epoll_event events[2];
    int64_t ms = timeout_ns < 0 ? 0 : timeout_ns / 1000000 + 1;
    int bell = atomic_load(&idle->bell);
    int n = epoll_wait(atomic_load(&idle->epoll), events, 2, ms > INT_MAX ? INT_MAX : (int)ms);
    bool readable = false;
    for (int i = 0; i < n; i++) {
        uint64_t rings;
        if (events[i].data.fd == bell)
            (void)!read(bell, &rings, sizeof rings); /* nobody else does: there is something */
        else
            readable = true;
    }
    return readable;
}

epy_watch epy_idle_wait_watching(epy_idle *idle, epy_ready ready, void *arg, int64_t timeout_ns)
{
    uint64_t end = epy_now_ns() + (uint64_t)timeout_ns;
    if (lie_down(idle, ready, arg))
        return EPY_WATCH_WOKEN;
    while (!take(&idle->tokens)) {
        int64_t left = (int64_t)(end - epy_now_ns());
        bool readable = poll_watched(idle, left);
        if (!readable && left > 0)
            continue;
        if (take(&idle->sleepers))
            epy_idle_heat(idle);
        else
            (void)sleep_for_token(idle, -1); /* it is on its way, and carries the heat */
        return readable ? EPY_WATCH_READABLE : EPY_WATCH_TIMEOUT;
    }
    return EPY_WATCH_WOKEN;
}
