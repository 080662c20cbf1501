/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See epy_semaphore.h.
 *
 * `arrived` counts the requests that came; one word holds how many of them ended, and
 * how many run.  So both ends of a request cost one atomic addition.
 *
 * Why no queue is forgotten: who submits pushes its request and then looks for a free
 * slot, and wakes an executor if there is one.  Who gives a slot back when all were
 * taken looks at all queues afterwards.  Both are sequentially consistent, so one of
 * them sees the other.
 *
 * Those that wait to acquire stand in `line`, a queue that all threads push to and one at
 * a time drains: one that finds another at it leaves a note in `drains` and goes, and the
 * other looks once more.  So nobody waits for anybody (R1).
 */
#include "epy_semaphore.h"

#include "epy_atoms.h"
#include "epy_error.h"
#include "epy_group.h"
#include "epy_namespace.h"
#include "epy_runtime.h"
#include "epy_stats.h"

#define ENDED_ONE (UINT64_C(1) << 32)

static struct {
    _Alignas(EPY_CACHE_LINE) _Atomic uint32_t arrived;
    _Alignas(EPY_CACHE_LINE) _Atomic uint64_t word; /* ended << 32 | running */
    _Alignas(EPY_CACHE_LINE) atomic_int max;
    atomic_uint timeout_ms;                         /* acquire_timeout */
    atomic_int acquiring;                           /* in line; cancelled ones too */
    atomic_int drains;                              /* 0: nobody drains */
    epy_queue line;
    epy_request *head;                              /* the drainer's: out of line already */
} sem = {
    .max = 1,
    /* What epy_queue_init() does. */
    .line = {.head = &sem.line.stub, .tail = &sem.line.stub, .popping = ATOMIC_FLAG_INIT},
};

static int running(uint64_t word)
{
    return (int)(uint32_t)word;
}

/* How many of the requests up to this number have not ended. */
static int rank(uint32_t number, uint64_t word)
{
    return (int)(number - (uint32_t)(word >> 32));
}

static int limit(void)
{
    return atomic_load_explicit(&sem.max, memory_order_relaxed);
}

/* ---- slots ---- */

bool epy_semaphore_arrive(epy_request *req)
{
    req->slot = true;
    req->number = atomic_fetch_add(&sem.arrived, 1) + 1;
    return epy_semaphore_is_admitted(req->number);
}

bool epy_semaphore_is_admitted(uint32_t number)
{
    return rank(number, atomic_load(&sem.word)) <= limit();
}

bool epy_semaphore_is_free(void)
{
    return running(atomic_load(&sem.word)) < limit();
}

bool epy_semaphore_take(void)
{
    uint64_t word = atomic_load_explicit(&sem.word, memory_order_relaxed);
    while (running(word) < limit())
        if (atomic_compare_exchange_weak(&sem.word, &word, word + 1))
            return true;
    return false;
}

/* A slot is free; if all were taken before, executors of any group may wait for one. */
static void offer(uint64_t before)
{
    if (running(before) < limit())
        return;
    for (int id = 0, n = epy_group_count(); id < n; id++) {
        epy_group *group = epy_group_get(id);
        if (!epy_queue_empty(&group->queue))
            epy_idle_notify(&group->idle);
    }
}

void epy_semaphore_untake(void)
{
    offer(atomic_fetch_sub(&sem.word, 1));
}

static void drain(ErlNifEnv *env);

void epy_semaphore_end(ErlNifEnv *env, bool ran)
{
    uint64_t before = atomic_fetch_add(&sem.word, ran ? ENDED_ONE - 1 : ENDED_ONE);
    EPY_ASSERT(R3, !ran || running(before) > 0);
    if (atomic_load(&sem.acquiring) > 0)
        drain(env);
    if (ran)
        offer(before);
}

/* ---- acquire ---- */

static void grant(ErlNifEnv *env, epy_request *req)
{
    if (epy_request_move(req, EPY_REQ_QUEUED, EPY_REQ_DONE)) {
        atomic_fetch_add(&req->ns->slots, 1);
        epy_event_reply(epy_request_reply(env, req, epy_atom.ok));
    } else
        epy_semaphore_untake(); /* cancelled in this moment, and counted as ended then */
    epy_request_free(req);
}

static void refuse(ErlNifEnv *env, epy_request *req)
{
    if (epy_request_move(req, EPY_REQ_QUEUED, EPY_REQ_DONE)) {
        epy_event_count(EPY_REFUSED);
        epy_event_reply(epy_request_reply(env, req,
                                          epy_error_term(req->env, epy_atom.not_running)));
        atomic_fetch_add(&sem.word, ENDED_ONE);
    }
    epy_request_free(req);
}

/* Deals with the first in line; false: it has to wait, or there is none. */
static bool serve_first(ErlNifEnv *env)
{
    epy_request *req = sem.head;
    if (!req) {
        epy_qnode *n = epy_queue_pop(&sem.line);
        if (!n)
            return false;
        req = sem.head = EPY_CONTAINER(n, epy_request, node);
    }
    bool stopped = !epy_runtime_is_running();
    bool gone = epy_request_state(req) == EPY_REQ_CANCELLED;
    if (!stopped && !gone &&
        (!epy_semaphore_is_admitted(req->number) || !epy_semaphore_take()))
        return false;
    sem.head = NULL;
    atomic_fetch_sub(&sem.acquiring, 1);
    if (gone)
        epy_request_free(req);
    else if (stopped)
        refuse(env, req);
    else
        grant(env, req);
    return true;
}

static void drain(ErlNifEnv *env)
{
    if (atomic_fetch_add(&sem.drains, 1) > 0)
        return;
    int noted;
    do {
        noted = atomic_load(&sem.drains);
        while (serve_first(env))
            continue;
    } while (!atomic_compare_exchange_strong(&sem.drains, &noted, 0));
}

void epy_semaphore_acquire(ErlNifEnv *env, epy_request *req)
{
    atomic_fetch_add(&sem.acquiring, 1);
    epy_queue_push(&sem.line, &req->node);
    drain(env);
}

void epy_semaphore_left(ErlNifEnv *env)
{
    drain(env); /* those behind it may go on */
}

void epy_semaphore_refuse(ErlNifEnv *env)
{
    if (atomic_load(&sem.acquiring) > 0)
        drain(env);
}

/* ---- what is set and shown ---- */

epy_slots epy_semaphore_slots(void)
{
    uint64_t word = atomic_load(&sem.word);
    int n = rank(atomic_load(&sem.arrived), word), max = limit();
    int current = n < max ? n : max;
    if (current < running(word))
        current = running(word); /* inline ones too, or the limit was lowered */
    return (epy_slots){.current = current, .max = max, .waiting = n > current ? n - current : 0};
}

void epy_semaphore_set_max(ErlNifEnv *env, int max)
{
    int before = atomic_exchange(&sem.max, max);
    if (max <= before)
        return;
    drain(env);
    offer((uint64_t)max); /* as if all had been taken */
}

void epy_semaphore_set_timeout(unsigned ms)
{
    atomic_store(&sem.timeout_ms, ms);
}

unsigned epy_semaphore_timeout(void)
{
    return atomic_load_explicit(&sem.timeout_ms, memory_order_relaxed);
}

ERL_NIF_TERM epy_semaphore_overloaded(ErlNifEnv *env)
{
    epy_slots slots = epy_semaphore_slots();
    return enif_make_tuple3(env, epy_atom.overloaded, enif_make_int(env, slots.current),
                            enif_make_int(env, slots.max));
}
