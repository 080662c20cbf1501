/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_loop.h. */
#include "epy_loop.h"

#include "epy_atoms.h"
#include "epy_error.h"
#include "epy_executor.h"
#include "epy_group.h"
#include "epy_host.h"
#include "epy_interrupt.h"
#include "epy_loop_idle.h"
#include "epy_pool.h"
#include "epy_runtime.h"
#include "epy_spawned.h"
#include "epy_stats.h"

#include <stdlib.h>
#include <string.h>

enum { IDLE, DUE, AGAIN };

struct epy_closer {
    epy_closer *next;
    ErlNifPid pid;
    ErlNifEnv *env; /* owned: of the tag */
    ERL_NIF_TERM tag;
};

/* The resource. */
typedef struct handle {
    epy_loop *loop; /* constant, strong */
} handle;

static ErlNifResourceType *loop_type;
static epy_loop *loops;                                      /* all; under list_lock */
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER; /* guards the list; a leaf but for
                                                                 epy_loops_resume() */
static _Atomic uint64_t loops_made;
static atomic_int tasks_now; /* waiting and running, of all loops */

static const epy_loop_hooks hooks;

void epy_loop_keep(epy_loop *loop)
{
    enif_keep_resource(loop->resource);
}

void epy_loop_put(epy_loop *loop)
{
    enif_release_resource(loop->resource);
}

/* ---- turns ---- */

/* Without memory for a turn the loop stays idle until somebody wakes it again. */
static void submit_turn(ErlNifEnv *env, epy_loop *loop)
{
    epy_request *req = epy_request_plain(EPY_OP_TURN, EPY_UNHEARD, &loop->owner);
    if (!req) {
        atomic_store(&loop->state, IDLE);
        return;
    }
    epy_loop_adopt(loop, req);
    epy_group_submit(env, req);
}

void epy_loop_wake(ErlNifEnv *env, epy_loop *loop)
{
    /* What the caller did before is seen by a turn that begins after the state was read. */
    atomic_thread_fence(memory_order_seq_cst);
    int state = atomic_load(&loop->state);
    do {
        if (state == AGAIN)
            return;
    } while (!atomic_compare_exchange_weak(&loop->state, &state, state == IDLE ? DUE : AGAIN));
    if (state == IDLE)
        submit_turn(env, loop);
}

/* Nothing is left to do, unless somebody has woken the loop meanwhile. */
static void hand_over(epy_loop *loop, bool again)
{
    int state = DUE;
    if (!again && atomic_compare_exchange_strong(&loop->state, &state, IDLE))
        return;
    atomic_store(&loop->state, DUE);
    submit_turn(NULL, loop);
}

static void begin_turn(epy_executor *ex, epy_loop *loop, epy_request *req)
{
    pthread_mutex_lock(&ex->interrupt_lock);
    ex->turn = loop;
    ex->turn_request = req;
    pthread_mutex_unlock(&ex->interrupt_lock);
    atomic_fetch_add(&loop->turns, 1);
    if (epy_loop_is_closing(loop) && !atomic_load(&loop->ending_ns))
        atomic_store(&loop->ending_ns, epy_now_ns());
}

/* Nothing that was raised for its tasks may hit what comes next. */
static void end_turn(epy_executor *ex)
{
    pthread_mutex_lock(&ex->interrupt_lock);
    ex->turn = NULL;
    ex->turn_request = NULL;
    if (ex->unblocked)
        epy_interrupt_take_back(ex);
    ex->unblocked = false;
    pthread_mutex_unlock(&ex->interrupt_lock);
}

/* With a GIL, which the caller has, the task cannot change between the look and the exception;
 * without one it can, in a moment after being blocked for long. */
void epy_loop_unblock(epy_executor *ex)
{
    pthread_mutex_lock(&ex->interrupt_lock);
    epy_loop *loop = ex->turn;
    if (loop)
        epy_loop_keep(loop);
    pthread_mutex_unlock(&ex->interrupt_lock);
    if (!loop)
        return;
    uint64_t turn = atomic_load(&loop->turns);
    bool blocked = epy_host_is_at_cancelled(loop);
    pthread_mutex_lock(&ex->interrupt_lock);
    if (blocked && ex->turn == loop && atomic_load(&loop->turns) == turn) {
        ex->unblocked = true;
        epy_interrupt_raise(ex);
        epy_frame_cancel(&ex->frames, ex->turn_request); /* one that waits for Erlang does not see it */
    }
    pthread_mutex_unlock(&ex->interrupt_lock);
    epy_loop_put(loop);
}

static PyObject *run_turn(epy_interp *interp, epy_request *req)
{
    epy_loop *loop = req->loop;
    uint64_t next_ns = 0;
    req->hooks = NULL; /* it is we who deal with the state from here on */
    (void)atomic_exchange(&loop->state, DUE);
    begin_turn(epy_self, loop, req);
    bool again = epy_host_turn(interp, loop, &next_ns);
    end_turn(epy_self);
    if (!again) {
        epy_loop_set_timer(loop, next_ns);
        epy_loop_go_idle(loop, epy_self);
    }
    hand_over(loop, again);
    epy_loop_put(loop);
    return Py_NewRef(Py_None);
}

/* ---- requests ---- */

void epy_loop_adopt(epy_loop *loop, epy_request *req)
{
    epy_loop_keep(loop);
    req->loop = loop;
    req->hooks = &hooks;
    epy_request_set_group(req, loop->group, loop->group_life);
}

/* A turn that has not run was refused by a stop: who wakes the loop later submits another. */
static void over(epy_request *req)
{
    if (req->op == EPY_OP_TURN)
        atomic_store(&req->loop->state, IDLE);
    else
        atomic_fetch_sub(&tasks_now, 1);
    epy_loop_put(req->loop);
}

void epy_loop_part(epy_request *req)
{
    if (atomic_fetch_add(&req->parted, 1) == 1)
        epy_request_free(req);
}

bool epy_loops_have_tasks(void)
{
    return atomic_load_explicit(&tasks_now, memory_order_relaxed) > 0;
}

bool epy_loop_is_closing(epy_loop *loop)
{
    return atomic_load(&loop->closing);
}

bool epy_loop_admits(ErlNifEnv *env, epy_loop *loop, ERL_NIF_TERM *refusal)
{
    int waiting = atomic_load_explicit(&loop->waiting, memory_order_relaxed);
    if (epy_loop_is_closing(loop)) {
        *refusal = epy_atom.no_loop;
        return false;
    }
    if (waiting < EPY_TASKS_MAX)
        return true;
    epy_event_count(EPY_OVERLOADED);
    *refusal = enif_make_tuple3(env, epy_atom.overloaded, enif_make_int(env, waiting),
                                enif_make_int(env, EPY_TASKS_MAX));
    return false;
}

static epy_request *pop(epy_queue *queue, size_t offset)
{
    epy_qnode *n = epy_queue_pop(queue);
    return n ? (epy_request *)((char *)n - offset) : NULL;
}

epy_request *epy_loop_next_task(epy_loop *loop)
{
    epy_request *req = pop(&loop->tasks, offsetof(epy_request, node));
    if (req)
        atomic_fetch_sub(&loop->waiting, 1);
    return req;
}

epy_request *epy_loop_next_cancel(epy_loop *loop)
{
    return pop(&loop->cancels, offsetof(epy_request, interrupt.node));
}

/* What came when the loop was closed, or closes. */
static void refuse_tasks(ErlNifEnv *env, epy_loop *loop)
{
    epy_request *req;
    while ((req = epy_loop_next_task(loop)))
        if (epy_group_refuse(env, req, epy_atom.cancelled))
            epy_event_count(EPY_REFUSED);
}

bool epy_loop_is_closed(epy_loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    bool closed = loop->closed;
    pthread_mutex_unlock(&loop->lock);
    return closed;
}

/* Cancels that no turn will look at: the task's part is done. */
static void drop_cancels(epy_loop *loop)
{
    epy_request *req;
    while ((req = epy_loop_next_cancel(loop)))
        epy_loop_part(req);
}

static void cancel(ErlNifEnv *env, epy_request *req)
{
    epy_loop *loop = req->loop;
    epy_loop_keep(loop); /* the request may be gone before we are done */
    epy_queue_push(&loop->cancels, &req->interrupt.node);
    epy_loop_wake(env, loop);
    if (epy_loop_is_closing(loop) && epy_loop_is_closed(loop))
        drop_cancels(loop); /* no turn might ever look again */
    epy_loop_put(loop);
}

static const epy_loop_hooks hooks = {.turn = run_turn, .cancel = cancel, .over = over};

void epy_loop_submit(ErlNifEnv *env, epy_request *req)
{
    epy_loop *loop = req->loop;
    epy_loop_keep(loop);
    atomic_fetch_add(&tasks_now, 1);
    atomic_fetch_add(&loop->waiting, 1);
    epy_queue_push(&loop->tasks, &req->node);
    epy_loop_wake(env, loop);
    if (epy_loop_is_closing(loop) && epy_loop_is_closed(loop))
        refuse_tasks(env, loop); /* no turn might ever look again */
    epy_loop_put(loop);
}

void epy_loop_end_task(epy_request *req, ERL_NIF_TERM term, bool failed)
{
    if (!epy_request_move(req, EPY_REQ_RUNNING, EPY_REQ_DONE)) {
        epy_loop_part(req); /* it was cancelled */
        return;
    }
    if (req->submitted_ns)
        req->run_ns = epy_now_ns() - req->submitted_ns - req->queue_ns;
    epy_executor_count(epy_self, req, failed);
    epy_event_reply(epy_request_reply(NULL, req, term));
    epy_request_free(req);
}

/* One that does not close yet is kept by the list. */
static epy_loop *find_oldest(const epy_interp *interp, const epy_loop *but)
{
    epy_loop *oldest = NULL;
    pthread_mutex_lock(&list_lock);
    for (epy_loop *l = loops; l; l = l->next)
        if (l != but && l->group->interp == interp && !epy_loop_is_closing(l))
            oldest = l;
    if (oldest)
        epy_loop_keep(oldest);
    pthread_mutex_unlock(&list_lock);
    return oldest;
}

epy_loop *epy_loop_first(const epy_interp *interp)
{
    return find_oldest(interp, NULL);
}

bool epy_loop_move_to_main(epy_request *req)
{
    epy_loop *from = req->loop;
    epy_loop *to = find_oldest(epy_runtime_interp(0), from);
    if (!to)
        return false;
    req->loop = to; /* a canceller from here on tells that one */
    epy_request_set_group(req, to->group, to->group_life);
    epy_loop_put(from);
    if (epy_request_move(req, EPY_REQ_RUNNING, EPY_REQ_QUEUED)) {
        atomic_fetch_sub(&tasks_now, 1); /* is counted again */
        epy_loop_submit(NULL, req);
    } else
        epy_loop_part(req);
    return true;
}

/* ---- life ---- */

static void tell_closed(ErlNifEnv *env, epy_closer *c)
{
    /* Fails when the process is gone that wanted to know. */
    (void)enif_send(env, &c->pid, c->env, enif_make_tuple2(c->env, c->tag, epy_atom.closed));
    enif_free_env(c->env);
    enif_free(c);
}

void epy_loop_finish(epy_loop *loop)
{
    pthread_mutex_lock(&list_lock); /* who found it there open has kept it by now */
    atomic_store(&loop->closing, true);
    pthread_mutex_unlock(&list_lock);
    atomic_store(&loop->attached, false);
    pthread_mutex_lock(&loop->lock);
    epy_closer *next, *c = loop->closers;
    loop->closers = NULL;
    bool first = !loop->closed;
    loop->closed = true;
    pthread_mutex_unlock(&loop->lock);
    epy_loop_close_descriptors(loop);
    refuse_tasks(NULL, loop);
    drop_cancels(loop);
    epy_spawned_drop(loop);
    if (first)
        epy_loop_put(loop); /* the turn keeps it as well */
    for (; c; c = next) {
        next = c->next;
        tell_closed(NULL, c);
    }
}

static void owner_down(ErlNifEnv *env, void *resource, ErlNifPid *pid, ErlNifMonitor *monitor)
{
    epy_loop *loop = ((handle *)resource)->loop;
    (void)pid;
    (void)monitor;
    epy_loop_inherit(env, loop);
    epy_loop_release(env, loop); /* if it was asked for and did not come to it */
    atomic_store(&loop->closing, true);
    epy_loop_wake(env, loop);
}

/* Python's loop keeps the resource, and is closed by then. */
static void destroy(ErlNifEnv *env, void *resource)
{
    epy_loop *loop = ((handle *)resource)->loop;
    (void)env;
    pthread_mutex_lock(&list_lock);
    if (loop->link) {
        *loop->link = loop->next;
        if (loop->next)
            loop->next->link = loop->link;
    }
    pthread_mutex_unlock(&list_lock);
    epy_spawned_drop(loop); /* one that came while it was closed */
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

int epy_loop_open(ErlNifEnv *env)
{
    ErlNifResourceTypeInit init = {.dtor = destroy, .stop = epy_loop_stop_select, .down = owner_down};
    loop_type = enif_open_resource_type_x(env, "loop", &init,
                                          ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER, NULL);
    return loop_type ? EPY_OK : EPY_ENOMEM;
}

epy_loop *epy_loop_find(ErlNifEnv *env, ERL_NIF_TERM term)
{
    void *h;
    return enif_is_ref(env, term) && enif_get_resource(env, term, loop_type, &h)
               ? ((handle *)h)->loop
               : NULL;
}

static void link_loop(epy_loop *loop)
{
    pthread_mutex_lock(&list_lock);
    loop->next = loops;
    loop->link = &loops;
    if (loop->next)
        loop->next->link = &loop->next;
    loops = loop;
    epy_loop_keep(loop); /* until it is closed: tasks of others move to it, or are spawned there */
    pthread_mutex_unlock(&list_lock);
}

/* Turns that a stop refused are due.  The list keeps what is not closed, so that it is not being
 * destroyed. */
void epy_loops_resume(void)
{
    pthread_mutex_lock(&list_lock);
    for (epy_loop *loop = loops; loop; loop = loop->next)
        if (!epy_loop_is_closed(loop))
            epy_loop_wake(NULL, loop);
    pthread_mutex_unlock(&list_lock);
}

/* ---- native functions ---- */

static epy_group *find_group(unsigned n, unsigned *life)
{
    epy_pool *pool = epy_pool_find(epy_atom.async);
    unsigned count = pool ? (unsigned)atomic_load(&pool->count) : 0;
    epy_group *group = count ? atomic_load(&pool->groups[n % count]) : NULL;
    if (group)
        *life = atomic_load(&group->life);
    return group;
}

ERL_NIF_TERM epy_loop_count(ErlNifEnv *env)
{
    epy_pool *pool = epy_runtime_is_running() ? epy_pool_find(epy_atom.async) : NULL;
    return enif_make_int(env, pool ? atomic_load(&pool->count) : 0);
}

static epy_loop *new_loop(epy_group *group, unsigned life)
{
    epy_loop *loop = aligned_alloc(EPY_CACHE_LINE, sizeof *loop); /* the queues want that */
    handle *h = loop ? enif_alloc_resource(loop_type, sizeof *h) : NULL;
    if (!h)
        return NULL;
    memset(loop, 0, sizeof *loop);
    h->loop = loop;
    loop->id = atomic_fetch_add(&loops_made, 1) + 1;
    loop->resource = h;
    loop->group = group;
    loop->group_life = life;
    epy_queue_init(&loop->tasks);
    epy_queue_init(&loop->cancels);
    loop->epoll = loop->timer = -1;
    pthread_mutex_init(&loop->lock, NULL);
    return loop;
}

ERL_NIF_TERM epy_loop_new(ErlNifEnv *env, ERL_NIF_TERM number)
{
    unsigned n, life;
    if (!enif_get_uint(env, number, &n))
        return enif_make_badarg(env);
    epy_group *group = epy_runtime_is_running() ? find_group(n, &life) : NULL;
    if (!group)
        return epy_atom.not_running;
    epy_loop *loop = new_loop(group, life);
    if (!loop)
        return enif_raise_exception(env, enif_make_atom(env, "system_limit"));
    enif_self(env, &loop->owner);
    loop->hears = loop->owner;
    link_loop(loop);
    ERL_NIF_TERM term = enif_make_resource(env, loop->resource);
    /* The process is calling, so it lives. */
    (void)enif_monitor_process(env, loop->resource, &loop->owner, NULL);
    epy_loop_put(loop);
    return enif_make_tuple2(env, epy_atom.ok, term);
}

ERL_NIF_TERM epy_loop_close(ErlNifEnv *env, ERL_NIF_TERM term, ERL_NIF_TERM tag)
{
    epy_loop *loop = epy_loop_find(env, term);
    if (!loop)
        return enif_make_badarg(env);
    epy_closer *c = enif_alloc(sizeof *c); /* aborts the VM rather than return NULL */
    c->env = enif_alloc_env();
    c->tag = enif_make_copy(c->env, tag);
    enif_self(env, &c->pid);
    pthread_mutex_lock(&loop->lock);
    bool closed = loop->closed;
    if (!closed) {
        c->next = loop->closers;
        loop->closers = c;
    }
    pthread_mutex_unlock(&loop->lock);
    atomic_store(&loop->closing, true);
    if (closed)
        tell_closed(env, c);
    else
        epy_loop_wake(env, loop);
    return epy_atom.ok;
}

static void put(ErlNifEnv *env, ERL_NIF_TERM *map, const char *key, ERL_NIF_TERM value)
{
    enif_make_map_put(env, *map, enif_make_atom(env, key), value, map);
}

ERL_NIF_TERM epy_loop_info(ErlNifEnv *env, ERL_NIF_TERM term)
{
    epy_loop *loop = epy_loop_find(env, term);
    if (!loop)
        return enif_make_badarg(env);
    ERL_NIF_TERM map = enif_make_new_map(env);
    put(env, &map, "interp", enif_make_int(env, loop->group->interp->id));
    put(env, &map, "waiting", enif_make_int(env, atomic_load(&loop->waiting)));
    put(env, &map, "tasks", enif_make_int(env, atomic_load(&loop->running)));
    put(env, &map, "started", enif_make_uint64(env, atomic_load(&loop->started)));
    put(env, &map, "turns", enif_make_uint64(env, atomic_load(&loop->turns)));
    put(env, &map, "closing", epy_loop_is_closing(loop) ? epy_atom.true_ : epy_atom.false_);
    return map;
}
