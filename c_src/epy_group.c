/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_group.h. */
#include "epy_group.h"

#include "epy_atoms.h"
#include "epy_error.h"
#include "epy_executor.h"
#include "epy_interrupt.h"
#include "epy_monitor.h"
#include "epy_request.h"
#include "epy_runtime.h"
#include "epy_semaphore.h"
#include "epy_stats.h"

static epy_group table[EPY_GROUPS_MAX];
static atomic_int table_size; /* grows only; written under table_lock */
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER; /* guards `taken`; a leaf */

epy_group *epy_group_get(int id)
{
    return id >= 0 && id < atomic_load(&table_size) ? &table[id] : NULL;
}

int epy_group_count(void)
{
    return atomic_load(&table_size);
}

bool epy_group_is(const epy_group *group, unsigned life)
{
    return atomic_load_explicit(&group->life, memory_order_acquire) == life && life & 1;
}

bool epy_group_is_open(const epy_group *group)
{
    return atomic_load(&group->life) & 1;
}

/* ---- who is bound ---- */

static uint64_t bound_word(unsigned life, int n)
{
    return (uint64_t)life << 32 | (uint32_t)n;
}

int epy_group_bound(const epy_group *group)
{
    return (int)(uint32_t)atomic_load(&group->bound);
}

bool epy_group_bind(epy_group *group, unsigned life, int bound)
{
    uint64_t word = bound_word(life, bound);
    return atomic_compare_exchange_strong(&group->bound, &word, bound_word(life, bound + 1));
}

void epy_group_unbind(epy_group *group, unsigned life)
{
    uint64_t word = atomic_load(&group->bound);
    while (word >> 32 == life && !atomic_compare_exchange_weak(&group->bound, &word, word - 1))
        continue;
}

/* ---- open, close ---- */

static epy_group *new_group(int id)
{
    epy_group *group = &table[id];
    group->id = id;
    epy_queue_init(&group->queue);
    epy_queue_init(&group->riders);
    epy_idle_init(&group->idle);
    epy_idle_init(&group->parking);
    atomic_store(&table_size, id + 1);
    return group;
}

static epy_group *take(void)
{
    epy_group *group = NULL;
    pthread_mutex_lock(&table_lock);
    int n = atomic_load(&table_size);
    for (int id = 0; !group && id < n; id++)
        if (!atomic_load(&table[id].taken))
            group = &table[id];
    if (!group && n < EPY_GROUPS_MAX)
        group = new_group(n);
    if (group)
        atomic_store(&group->taken, true);
    pthread_mutex_unlock(&table_lock);
    return group;
}

epy_group *epy_group_open(epy_interp *interp, epy_pool *pool, int wanted, bool fixed)
{
    epy_group *group = take();
    if (!group)
        return NULL;
    EPY_ASSERT(R3, atomic_load(&group->serving) == 0 && atomic_load(&group->stuck) == 0 &&
                       atomic_load(&group->idle.hot) == 0);
    group->interp = interp;
    group->pool = pool;
    group->fixed = fixed;
    group->loops = false;
    atomic_store(&group->wanted, wanted);
    atomic_store(&group->replaced, 0);
    atomic_store(&group->bound, bound_word(atomic_load(&group->life) + 1, 0));
    atomic_store(&group->cancelled, 0);
    epy_executors_forget_counts(group);
    atomic_store(&group->live, 1);
    atomic_fetch_add(&group->life, 1);
    return group;
}

bool epy_group_shut(epy_group *group, unsigned life)
{
    return life & 1 && atomic_compare_exchange_strong(&group->life, &life, life + 1);
}

void epy_group_close(epy_group *group)
{
    if (epy_group_shut(group, atomic_load(&group->life)))
        epy_group_close_shut(group);
}

void epy_group_close_shut(epy_group *group)
{
    epy_group_refuse_queued(NULL, group, epy_atom.cancelled);
    epy_monitor_notice(); /* which ends the executors, see look_at_closing() */
    epy_group_drop(group);
}

bool epy_group_keep(epy_group *group)
{
    int n = atomic_load(&group->live);
    while (n > 0)
        if (atomic_compare_exchange_weak(&group->live, &n, n + 1))
            return true;
    return false;
}

void epy_group_drop(epy_group *group)
{
    if (atomic_fetch_sub(&group->live, 1) > 1)
        return;
    EPY_ASSERT(R3, !epy_group_is_open(group));
    epy_interp *interp = group->interp;
    epy_group_refuse_queued(NULL, group, epy_atom.cancelled); /* what came late */
    atomic_store(&group->taken, false);
    if (interp->own)
        epy_interp_end(interp);
}

/* ---- work ---- */

bool epy_group_has_work(epy_group *group)
{
    return !epy_queue_empty(&group->riders) ||
           (!epy_queue_empty(&group->queue) &&
            epy_semaphore_is_free(epy_group_first_is_admitted(group)));
}

bool epy_group_first_is_admitted(epy_group *group)
{
    epy_qnode *first = epy_queue_first(&group->queue);
    return first && epy_semaphore_is_admitted(atomic_load_explicit(
                        &EPY_CONTAINER(first, epy_request, node)->number, memory_order_relaxed));
}

static void push(epy_group *group, epy_request *req)
{
    bool needed = !req->slot;
    if (req->manner != EPY_SYNC)
        atomic_store_explicit(&group->unwaited, true, memory_order_relaxed);
    epy_queue_push(req->slot ? &group->queue : &group->riders, &req->node);
    /* Either we see the slot that is given back, or who gives it sees the request. */
    atomic_thread_fence(memory_order_seq_cst);
    if (needed || epy_group_has_work(group))
        epy_idle_notify(&group->idle);
}

void epy_group_submit(ErlNifEnv *env, epy_request *req)
{
    epy_group *group = req->group;
    unsigned life = req->group_life;
    push(group, req);
    if (atomic_load_explicit(&group->serving, memory_order_relaxed) == 0)
        epy_executors_relieve(group);
    epy_monitor_notice();
    /* A stop or close that did not see this request in the queue has changed the
     * state before, and no executor might ever look again. */
    if (!epy_runtime_is_running())
        epy_group_refuse_queued(env, group, epy_atom.not_running);
    else if (!epy_group_is(group, life))
        epy_group_refuse_queued(env, group, epy_atom.cancelled);
}

/* One that came when the group was open again is not for us to refuse. */
static bool is_wanted(const epy_group *group, const epy_request *req)
{
    return epy_runtime_is_running() && epy_group_is(group, req->group_life);
}

bool epy_group_refuse(ErlNifEnv *env, epy_request *req, ERL_NIF_TERM reason)
{
    bool refused = epy_request_move(req, EPY_REQ_QUEUED, EPY_REQ_DONE);
    if (refused) {
        if (req->slot)
            epy_semaphore_end(env, req->number, false);
        epy_event_reply(epy_request_reply(env, req, epy_error_term(req->env, reason)));
    }
    epy_request_free(req);
    return refused;
}

static epy_request *pop(epy_queue *queue)
{
    epy_qnode *n = epy_queue_pop(queue);
    return n ? EPY_CONTAINER(n, epy_request, node) : NULL;
}

static void refuse_all(ErlNifEnv *env, epy_group *group, epy_queue *queue, ERL_NIF_TERM reason)
{
    epy_request *req;
    while ((req = pop(queue))) {
        if (is_wanted(group, req)) {
            push(group, req);
            return;
        }
        epy_event_count(EPY_REFUSED);
        (void)epy_group_refuse(env, req, reason); /* false: it was cancelled */
    }
}

void epy_group_refuse_queued(ErlNifEnv *env, epy_group *group, ERL_NIF_TERM reason)
{
    refuse_all(env, group, &group->riders, reason);
    refuse_all(env, group, &group->queue, reason);
}

/* Nobody waits in Erlang for the time in line of an asynchronous request to end. */
static bool is_too_old(const epy_request *req)
{
    return req->manner != EPY_SYNC && req->slot &&
           epy_now_ns() - req->submitted_ns > (uint64_t)epy_semaphore_timeout() * 1000000u &&
           !epy_semaphore_is_admitted(req->number);
}

/* True: the request has left its queue for good. */
static bool sift(epy_request *req)
{
    if (epy_request_state(req) == EPY_REQ_CANCELLED) {
        epy_request_free(req);
        return true;
    }
    if (!is_too_old(req))
        return false;
    epy_event_count(EPY_OVERLOADED);
    (void)epy_group_refuse(NULL, req, epy_semaphore_overloaded(req->env)); /* as above */
    return true;
}

void epy_group_sweep(epy_group *group)
{
    epy_request *req;
    epy_fnode *first = NULL, **end = &first;
    while ((req = pop(&group->queue)))
        if (!sift(req)) {
            req->nested.next = NULL;
            *end = &req->nested;
            end = &req->nested.next;
        }
    while (first) {
        req = EPY_CONTAINER(first, epy_request, nested);
        first = first->next;
        epy_group_submit(NULL, req);
    }
}

int epy_group_cancel_running(ErlNifEnv *env, epy_group *group, ERL_NIF_TERM reason)
{
    int n = 0;
    for (epy_executor *ex = atomic_load(&group->executors); ex; ex = ex->next) {
        uint64_t id = epy_executor_running(ex);
        n += id && epy_cancel_reply(env, id, reason);
    }
    return n;
}
