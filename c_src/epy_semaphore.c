/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See epy_semaphore.h.
 *
 * `arrived` counts the requests that came, and `open` is the highest number that is
 * admitted: it starts at max, and moves on by one when an admitted request ends.  A
 * request may leave the line before its turn, be it cancelled or run by an executor that
 * had nothing else to do; then `open` skips its number.  For that each number has a cell,
 * in a ring: who leaves early marks it LEFT, and `open` marks what it passes as PASSED.
 * Both are exchanges of the whole cell, so exactly one of them is first.
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

static struct {
    _Alignas(EPY_CACHE_LINE) _Atomic uint32_t arrived;
    _Alignas(EPY_CACHE_LINE) _Atomic uint32_t open;
    atomic_int running;
    _Alignas(EPY_CACHE_LINE) atomic_int max;
    atomic_int debt;          /* how much more are admitted than max, since it was lowered */
    atomic_uint timeout_ms;   /* acquire_timeout */
    atomic_int left;          /* cells that are LEFT */
    atomic_int acquiring;     /* in `line`; cancelled ones too */
    atomic_int drains;        /* 0: nobody drains */
    epy_queue line;
    epy_request *head;        /* the drainer's: out of line already */
} sem = {
    /* What epy_queue_init() does. */
    .line = {.head = &sem.line.stub, .tail = &sem.line.stub, .popping = ATOMIC_FLAG_INIT},
};

/* The low bits of the number and what became of it; a cell with other bits is of an
 * earlier one. */
enum { PASSED = 1, LEFT = 2 };
static _Atomic uint32_t cells[EPY_LINE_MAX];

static uint32_t mark(uint32_t number, uint32_t what)
{
    return number << 2 | what;
}

static _Atomic uint32_t *cell(uint32_t number)
{
    return &cells[number % EPY_LINE_MAX];
}

static int limit(void)
{
    return atomic_load_explicit(&sem.max, memory_order_relaxed);
}

/* ---- the line ---- */

/* How far behind the last admitted number; not positive: admitted. */
static int behind(uint32_t number)
{
    return (int)(number - atomic_load(&sem.open));
}

bool epy_semaphore_is_admitted(uint32_t number)
{
    return behind(number) <= 0;
}

bool epy_semaphore_is_full(void)
{
    /* Schedulers may pass this at once, a few at most. */
    return behind(atomic_load(&sem.arrived)) > (int)EPY_LINE_MAX - 4096;
}

bool epy_semaphore_arrive(epy_request *req)
{
    uint32_t number = atomic_fetch_add(&sem.arrived, 1) + 1;
    epy_request_set_place(req, number);
    return epy_semaphore_is_admitted(number);
}

/* Leaves the line before its turn; false: it had its turn. */
static bool leave(uint32_t number)
{
    uint32_t old = atomic_load(cell(number));
    if (epy_semaphore_is_admitted(number) || old == mark(number, PASSED) ||
        !atomic_compare_exchange_strong(cell(number), &old, mark(number, LEFT)))
        return false; /* the exchange fails only against PASSED */
    atomic_fetch_add(&sem.left, 1);
    return true;
}

/* Admits the next one that did not leave. */
static void admit_next(void)
{
    uint32_t number;
    do {
        number = atomic_fetch_add(&sem.open, 1) + 1;
        if (atomic_exchange(cell(number), mark(number, PASSED)) != mark(number, LEFT))
            return;
        atomic_fetch_sub(&sem.left, 1);
    } while (true);
}

/* An admitted request has ended. */
static void advance(void)
{
    int debt = atomic_load_explicit(&sem.debt, memory_order_relaxed);
    while (debt > 0)
        if (atomic_compare_exchange_weak(&sem.debt, &debt, debt - 1))
            return;
    admit_next();
}

/* ---- slots ---- */

static int limit_for(bool admitted)
{
    return admitted ? limit() : limit() - 1;
}

bool epy_semaphore_is_free(bool admitted)
{
    return atomic_load(&sem.running) < limit_for(admitted);
}

bool epy_semaphore_take(bool admitted)
{
    int n = atomic_load_explicit(&sem.running, memory_order_relaxed);
    while (n < limit_for(admitted))
        if (atomic_compare_exchange_weak(&sem.running, &n, n + 1))
            return true;
    return false;
}

/* Executors of any group may have waited for a slot, or for the admission of a request. */
static void offer(void)
{
    for (int id = 0, n = epy_group_count(); id < n; id++) {
        epy_group *group = epy_group_get(id);
        if (epy_group_has_work(group))
            epy_idle_notify(&group->idle);
    }
}

void epy_semaphore_untake(void)
{
    if (atomic_fetch_sub(&sem.running, 1) >= limit() - 1)
        offer();
}

void epy_semaphore_end(ErlNifEnv *env, uint32_t number, bool ran)
{
    EPY_ASSERT(R3, !ran || atomic_load(&sem.running) > 0);
    if (!leave(number))
        advance();
    if (ran)
        epy_semaphore_untake();
    else if (atomic_load(&sem.running) >= limit() - 1)
        offer();
    epy_semaphore_recheck(env);
}

void epy_semaphore_release(ErlNifEnv *env)
{
    advance();
    epy_semaphore_untake();
    epy_semaphore_recheck(env);
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
        if (!leave(req->number))
            advance();
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
        (!epy_semaphore_is_admitted(req->number) || !epy_semaphore_take(true)))
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

void epy_semaphore_recheck(ErlNifEnv *env)
{
    if (atomic_load(&sem.acquiring) > 0)
        drain(env);
}

/* ---- what is set and shown ---- */

epy_slots epy_semaphore_slots(void)
{
    int max = limit(), waiting = behind(atomic_load(&sem.arrived));
    int current = max + atomic_load(&sem.debt) + (waiting < 0 ? waiting : 0);
    int running = atomic_load(&sem.running); /* inline ones and early ones too */
    waiting -= atomic_load(&sem.left);
    return (epy_slots){.current = current > running ? current : running,
                       .max = max,
                       .waiting = waiting > 0 ? waiting : 0};
}

/* Takes one admission back: a number comes and ends at once.  If it was admitted, its end
 * pays the debt; else an end to come will. */
static void take_back(void)
{
    atomic_fetch_add(&sem.debt, 1);
    uint32_t number = atomic_fetch_add(&sem.arrived, 1) + 1;
    if (!leave(number))
        advance();
}

void epy_semaphore_set_max(ErlNifEnv *env, int max)
{
    int more = max - atomic_exchange(&sem.max, max);
    for (; more < 0; more++)
        take_back();
    for (; more > 0; more--)
        advance();
    epy_semaphore_recheck(env);
    atomic_fetch_add(&sem.running, 1);
    epy_semaphore_untake(); /* looks at all queues, if all slots may have been taken */
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
