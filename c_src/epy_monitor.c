/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_monitor.h. */
#include "epy_monitor.h"

#include "epy_atoms.h"
#include "epy_executor.h"
#include "epy_gil.h"
#include "epy_group.h"
#include "epy_interrupt.h"
#include "epy_loop.h"
#include "epy_request.h"
#include "epy_runtime.h"
#include "epy_semaphore.h"
#include "epy_wakeup.h"

#define IDLE_TICKS 20    /* without work, before it sleeps */
#define STUCK_TICKS 4    /* after a cancel, before an executor counts as stuck */
#define REMIND_TICKS 5000 /* before it is interrupted once more; then twice as many each time */
#define REMIND_TICKS_MAX 1000000
#define GIL_HELD_TICKS 3 /* that inline calls keep away after a GIL was seen held */
#define MANY_GONE 256    /* cancelled requests in a queue, before they are taken off */
#define SWEEP_TICKS 50   /* between two looks at all requests that are queued */
#define STILL_TICKS 1000 /* that a queue waits for one executor, which waits for something itself */
#define BLOCKED_TICKS 200 /* a turn of a loop, before a task that was cancelled is suspected; and
                             between two such looks */
#define OWNER_TICKS 1000 /* a turn of a loop, after the owner's death, before it is interrupted */
#define TASKS_NS INT64_C(1000000000) /* between two looks for tasks whose callers are gone */

static atomic_int awake; /* futex word: 0 while the monitor sleeps or is about to */

/* The only executor of a group waits for something, maybe for a thread that calls Erlang, which
 * calls Python, and that call is in this queue. */
static void replace_waiting(epy_group *group)
{
    for (epy_executor *ex = atomic_load(&group->executors); ex; ex = ex->next) {
        epy_request *req = atomic_load(&ex->current);
        if (req && epy_executor_stick(ex, req, EPY_REQ_RUNNING))
            return;
    }
}

static void look_at_still(epy_group *group, bool still)
{
    if (!still || group->fixed || atomic_load(&group->wanted) != 1) {
        group->still_ticks = group->free_ticks = 0;
        return;
    }
    group->still_ticks++;
    group->free_ticks += epy_gil_is_free(group->interp->state);
    if (group->still_ticks < STILL_TICKS)
        return;
    if (group->free_ticks > STILL_TICKS / 2) /* else it computes */
        replace_waiting(group);
    group->still_ticks = group->free_ticks = 0;
}

/* Wakes an executor where nothing was taken off the queue for a tick.  Returns
 * whether there is, or was since the last look, any work. */
static bool look(epy_group *group)
{
    uint64_t popped = atomic_load_explicit(&group->popped, memory_order_relaxed);
    bool waiting = epy_group_has_work(group), moved = popped != group->seen;
    bool still = waiting && !moved && !epy_idle_wake(&group->idle);
    if (still)
        epy_executors_relieve(group);
    look_at_still(group, still);
    group->seen = popped;
    waiting |= !epy_queue_empty(&group->queue); /* for a slot */
    /* One that is hot may be between the queue and its request. */
    return waiting || moved || atomic_load(&group->idle.hot) > 0;
}

/* A request that was cancelled and whose executor does not come back.  It may have met code that
 * lets no exception pass: once in a while it is interrupted again, more and more rarely, as it
 * may be at its cleanup as well. */
static void look_at_overdue(epy_executor *ex)
{
    epy_request *req = atomic_load(&ex->current);
    uint64_t id = req ? epy_request_id(req) : 0;
    if (!req || epy_request_state(req) != EPY_REQ_CANCELLED) {
        ex->overdue_ticks = 0;
        return;
    }
    ex->overdue_ticks = ex->overdue == id ? ex->overdue_ticks + 1 : 0;
    ex->overdue = id;
    if (ex->overdue_ticks == 0)
        ex->remind_ticks = REMIND_TICKS;
    if (ex->overdue_ticks == STUCK_TICKS)
        (void)epy_executor_stick(ex, req, EPY_REQ_CANCELLED); /* false: it has just come back */
    if (ex->overdue_ticks == EPY_QUIET_TICKS && epy_interrupt_is_untold(ex, req))
        epy_interrupt_remind(ex);
    if (ex->overdue_ticks >= ex->remind_ticks) {
        epy_interrupt_remind(ex);
        ex->remind_ticks += ex->remind_ticks < REMIND_TICKS_MAX ? ex->remind_ticks : REMIND_TICKS_MAX;
    }
}

/* A turn that goes on for long: code of a task does not return to the loop, and the cancel of that
 * task waits for just this. */
static void look_at_turn(epy_executor *ex)
{
    epy_request_view view;
    epy_request *req = atomic_load(&ex->current);
    if (!req || !epy_request_look(req, &view) || view.op != EPY_OP_TURN) {
        ex->blocked = 0;
        return;
    }
    ex->blocked_ticks = ex->blocked == view.id ? ex->blocked_ticks + 1 : 0;
    ex->blocked = view.id;
    if (ex->blocked_ticks > 0 && ex->blocked_ticks % BLOCKED_TICKS == 0)
        epy_interrupt_remind(ex);
}

/* Cancels what an executor runs for a caller that is gone. */
static bool look_at_caller(epy_executor *ex, ErlNifEnv *env)
{
    epy_request_view view;
    epy_request *req = atomic_load(&ex->current);
    if (!req)
        return false;
    if (!epy_request_look(req, &view) || view.state != EPY_REQ_RUNNING)
        return true;
    if (enif_is_process_alive(env, &view.caller)) {
        ex->dead_ticks = 0;
        return true;
    }
    /* The turns that end the loop of an owner that is gone are short. */
    if (view.op != EPY_OP_TURN || ++ex->dead_ticks > OWNER_TICKS)
        (void)epy_cancel(NULL, view.id); /* false: it has just ended */
    return true;
}

static bool look_at_executors(epy_group *group, ErlNifEnv *env)
{
    bool running = false;
    for (epy_executor *ex = atomic_load(&group->executors); ex; ex = ex->next) {
        running |= look_at_caller(ex, env);
        look_at_overdue(ex);
        look_at_turn(ex);
    }
    /* A tick ago all were busy, as now: new processes are better bound elsewhere. */
    bool busy = epy_executors_all_busy(group);
    atomic_store(&group->unmoved, busy && group->busy_tick);
    group->busy_tick = busy;
    return running;
}

/* Ends the executors of a group that was closed; what runs is cancelled level by level,
 * as chains unwind.  Returns whether any is left. */
static bool look_at_closing(epy_group *group)
{
    if (atomic_load(&group->live) == 0)
        return false;
    (void)epy_group_cancel_running(NULL, group, epy_atom.cancelled);
    epy_executors_wake_all(group);
    return true;
}

/* Where threads compute, their GIL is free for moments only, and a scheduler that took one
 * of these would wait for the next.  See epy_inline.c. */
static void look_at_gils(void)
{
    for (int id = 0; id < EPY_INTERPS_MAX; id++) {
        epy_interp *interp = epy_runtime_interp(id);
        if (!interp || interp->own)
            continue;
        int ticks = atomic_load(&interp->gil_held);
        if (!epy_gil_is_free(interp->state) && !atomic_load(&interp->inlining))
            atomic_store(&interp->gil_held, GIL_HELD_TICKS);
        else if (ticks > 0)
            atomic_store(&interp->gil_held, ticks - 1);
    }
}

static bool look_at_all(ErlNifEnv *env)
{
    bool work = false;
    look_at_gils();
    for (int id = 0; id < epy_group_count(); id++) {
        epy_group *group = epy_group_get(id);
        if (!atomic_load(&group->taken))
            continue;
        if (epy_group_is_open(group))
            work |= look(group);
        else
            work |= look_at_closing(group);
        work |= look_at_executors(group, env);
    }
    return work;
}

/* A caller that is gone gives its place in line to the next one, and its tasks are cancelled. */
static void look_at_request(epy_request *req, void *env)
{
    epy_request_view view;
    if (!epy_request_look(req, &view))
        return; /* the next sweep looks at the new one */
    bool waits = (view.state == EPY_REQ_QUEUED && view.op != EPY_OP_TURN) ||
                 (view.state == EPY_REQ_RUNNING && view.op == EPY_OP_TASK);
    if (waits && !enif_is_process_alive(env, &view.caller))
        (void)epy_cancel(NULL, view.id); /* false: it has just ended */
}

/* Clears queues of what was cancelled in them, when that is much, and ends what is too old
 * in line. */
static void sweep(unsigned tick, ErlNifEnv *env)
{
    if (tick % SWEEP_TICKS != 0)
        return;
    bool in_line = epy_semaphore_slots().waiting > 0;
    epy_request_each(look_at_request, env);
    for (int id = 0; id < epy_group_count(); id++) {
        epy_group *group = epy_group_get(id);
        if (atomic_load(&group->gone) > MANY_GONE || (in_line && atomic_load(&group->unwaited))) {
            atomic_store(&group->gone, 0);
            atomic_store(&group->unwaited, false);
            epy_group_sweep(group);
        }
    }
}

/* Tasks that wait need no executor, but their callers may die. */
static void sleep_long(ErlNifEnv *env)
{
    while (atomic_load(&awake) == 0) {
        epy_futex_wait(&awake, 0, epy_loops_have_tasks() ? TASKS_NS : -1);
        if (epy_loops_have_tasks())
            epy_request_each(look_at_request, env);
    }
}

static void *monitor_main(void *arg)
{
    int idle_ticks = 0;
    (void)arg;
    ErlNifEnv *env = enif_alloc_env();
    for (unsigned tick = 0;; tick++) {
        bool work = look_at_all(env);
        sweep(tick, env);
        idle_ticks = work ? 0 : idle_ticks + 1;
        if (idle_ticks < IDLE_TICKS) {
            epy_sleep_ns(EPY_TICK_NS);
            continue;
        }
        /* Either the next producer sees that we sleep, or we see its request. */
        atomic_store(&awake, 0);
        if (!look_at_all(env))
            sleep_long(env);
        atomic_store(&awake, 1);
        idle_ticks = 0;
    }
    return NULL;
}

void epy_monitor_notice(void)
{
    /* A sequentially consistent operation of the caller stands before this load. */
    if (!atomic_load_explicit(&awake, memory_order_relaxed) && !atomic_exchange(&awake, 1))
        epy_futex_wake_one(&awake);
}

int epy_monitor_start(void)
{
    atomic_store(&awake, 1);
    return epy_thread_start("epy_monitor", monitor_main, NULL);
}
