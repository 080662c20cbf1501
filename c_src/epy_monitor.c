/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_monitor.h. */
#include "epy_monitor.h"

#include "epy_executor.h"
#include "epy_interp.h"
#include "epy_interrupt.h"
#include "epy_request.h"
#include "epy_runtime.h"

#define IDLE_TICKS 20 /* without work, before it sleeps */

static atomic_int awake; /* futex word: 0 while the monitor sleeps or is about to */

/* Wakes an executor where nothing was taken off the queue for a tick.  Returns
 * whether there is, or was since the last look, any work. */
static bool look(epy_interp *interp, uint64_t *seen)
{
    uint64_t popped = atomic_load_explicit(&interp->popped, memory_order_relaxed);
    bool waiting = !epy_queue_empty(&interp->queue), moved = popped != *seen;
    if (waiting && !moved && !epy_idle_wake(&interp->idle))
        epy_executors_relieve(interp);
    *seen = popped;
    /* One that is hot may be between the queue and its request. */
    return waiting || moved || atomic_load(&interp->idle.hot) > 0;
}

/* Cancels what an executor runs for a caller that is gone.  The request may end
 * at any moment; its id, read while it RUNS, names no other one. */
static bool look_at_caller(epy_executor *ex, ErlNifEnv *env)
{
    epy_request *req = atomic_load(&ex->current);
    if (!req)
        return false;
    uint64_t id = epy_request_id(req);
    ErlNifPid caller = req->caller;
    if (epy_request_state(req) == EPY_REQ_RUNNING && epy_request_id(req) == id &&
        !enif_is_process_alive(env, &caller))
        (void)epy_cancel(id); /* false: it has just ended */
    return true;
}

static bool look_at_callers(epy_interp *interp, ErlNifEnv *env)
{
    bool running = false;
    for (epy_executor *ex = atomic_load(&interp->executors); ex; ex = ex->next)
        running |= look_at_caller(ex, env);
    return running;
}

static bool look_at_all(uint64_t *seen, ErlNifEnv *env)
{
    bool work = false;
    for (int i = 0; i < EPY_INTERPS_MAX; i++) {
        epy_interp *interp = epy_runtime_interp(i);
        if (!interp)
            continue;
        work |= look(interp, &seen[i]);
        work |= look_at_callers(interp, env);
    }
    return work;
}

static void *monitor_main(void *arg)
{
    static uint64_t seen[EPY_INTERPS_MAX];
    int idle_ticks = 0;
    (void)arg;
    ErlNifEnv *env = enif_alloc_env();
    for (;;) {
        idle_ticks = look_at_all(seen, env) ? 0 : idle_ticks + 1;
        if (idle_ticks < IDLE_TICKS) {
            epy_sleep_ns(EPY_TICK_NS);
            continue;
        }
        /* Either the next producer sees that we sleep, or we see its request. */
        atomic_store(&awake, 0);
        if (!look_at_all(seen, env))
            epy_futex_wait(&awake, 0, -1);
        atomic_store(&awake, 1);
        idle_ticks = 0;
    }
    return NULL;
}

void epy_monitor_notice(void)
{
    /* The fence of epy_idle_notify() stands before this load. */
    if (!atomic_load_explicit(&awake, memory_order_relaxed) && !atomic_exchange(&awake, 1))
        epy_futex_wake_one(&awake);
}

int epy_monitor_start(void)
{
    atomic_store(&awake, 1);
    return epy_thread_start("epy_monitor", monitor_main, NULL);
}
