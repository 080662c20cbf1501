/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_loop_idle.h. */
#include "epy_loop_idle.h"

#include "epy_atoms.h"
#include "epy_executor.h"
#include "epy_group.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define LINGER_NS 100000000

/* ---- what it waits for ---- */

static int make_timer(int epoll)
{
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = timer};
    if (timer >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &event) < 0) {
        close(timer);
        timer = -1;
    }
    return timer;
}

int epy_loop_attach(epy_loop *loop, int epoll)
{
    int copy = fcntl(epoll, F_DUPFD_CLOEXEC, 0);
    int timer = copy < 0 ? -1 : make_timer(copy);
    if (timer < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        if (copy >= 0)
            close(copy);
        return -1;
    }
    loop->timer = timer;
    pthread_mutex_lock(&loop->lock);
    loop->epoll = copy;
    pthread_mutex_unlock(&loop->lock);
    atomic_store(&loop->attached, true);
    return 0;
}

/* Clears what has rung, and rings no later than that; 0: not at all.  One that is set to ring
 * too early may: the turn that it makes sets it again. */
void epy_loop_set_timer(epy_loop *loop, uint64_t ns)
{
    bool rung = loop->timer_ns && loop->timer_ns <= epy_now_ns();
    if (loop->timer < 0 || (!rung && (!ns || (loop->timer_ns && loop->timer_ns <= ns))))
        return;
    struct itimerspec at = {.it_value = {.tv_sec = (time_t)(ns / 1000000000),
                                         .tv_nsec = (long)(ns % 1000000000)}};
    timerfd_settime(loop->timer, TFD_TIMER_ABSTIME, &at, NULL); /* the arguments are right */
    loop->timer_ns = ns;
}

/* ---- an executor watches ---- */

/* A descriptor is ready. */
static void hear(ErlNifEnv *env, epy_loop *loop)
{
    atomic_store_explicit(&loop->heard_ns, epy_now_ns(), memory_order_relaxed);
    epy_loop_wake(env, loop);
}

void epy_loop_go_idle(epy_loop *loop, epy_executor *ex)
{
    if (!atomic_load(&loop->attached) || atomic_load(&loop->armed))
        return;
    if (epy_now_ns() - atomic_load_explicit(&loop->heard_ns, memory_order_relaxed) > LINGER_NS) {
        epy_loop_arm(loop);
        return;
    }
    epy_loop_keep(loop);
    ex->lingers = loop;
}

static bool watch(epy_loop *loop)
{
    pthread_mutex_lock(&loop->lock); /* nobody closes it meanwhile */
    bool done = loop->epoll >= 0 && epy_idle_watch(&loop->group->idle, loop->epoll, loop->id);
    pthread_mutex_unlock(&loop->lock);
    return done;
}

bool epy_loop_linger(epy_loop *loop, epy_ready has_work)
{
    if (!watch(loop))
        return false;
    epy_watch end = epy_idle_wait_watching(&loop->group->idle, has_work, loop->group, LINGER_NS);
    epy_idle_unwatch(&loop->group->idle);
    if (end == EPY_WATCH_READABLE)
        hear(NULL, loop);
    return end != EPY_WATCH_TIMEOUT;
}

/* ---- Erlang watches ---- */

/* {py_loop, Loop} to who hears of it, which calls epy_loop_serve(). */
static void ask(epy_loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    ErlNifPid hears = loop->hears;
    pthread_mutex_unlock(&loop->lock);
    ErlNifEnv *env = enif_alloc_env();
    ERL_NIF_TERM message = enif_make_tuple2(env, epy_atom.py_loop,
                                            enif_make_resource(env, loop->resource));
    /* Fails when that process is gone, whose end is made up for by owner_down(). */
    if (!enif_send(NULL, &hears, env, message) &&
        enif_whereis_pid(NULL, epy_atom.py_async, &hears))
        (void)enif_send(NULL, &hears, env, message);
    enif_free_env(env);
}

void epy_loop_arm(epy_loop *loop)
{
    if (!atomic_load(&loop->attached) || atomic_exchange(&loop->armed, true))
        return;
    atomic_store(&loop->wanted, true);
    ask(loop);
}

ERL_NIF_TERM epy_loop_ready(ErlNifEnv *env, ERL_NIF_TERM term)
{
    epy_loop *loop = epy_loop_find(env, term);
    if (!loop)
        return enif_make_badarg(env);
    atomic_store(&loop->armed, false);
    hear(env, loop);
    return epy_atom.ok;
}

static void select_ready(ErlNifEnv *env, epy_loop *loop)
{
    ErlNifPid self;
    enif_self(env, &self);
    pthread_mutex_lock(&loop->lock); /* nobody closes it meanwhile */
    bool done = loop->epoll < 0 || enif_select(env, loop->epoll, ERL_NIF_SELECT_READ, loop->resource,
                                               &self, epy_atom.undefined) >= 0;
    pthread_mutex_unlock(&loop->lock);
    if (done)
        return;
    atomic_store(&loop->armed, false); /* for want of memory: a turn looks by itself, and asks again */
    epy_loop_wake(env, loop);
}

ERL_NIF_TERM epy_loop_serve(ErlNifEnv *env, ERL_NIF_TERM term)
{
    epy_loop *loop = epy_loop_find(env, term);
    if (!loop)
        return enif_make_badarg(env);
    epy_loop_release(env, loop);
    if (atomic_exchange(&loop->wanted, false))
        select_ready(env, loop);
    return epy_loop_is_closed(loop) ? epy_atom.closed : epy_atom.ok;
}


/* A message that the owner did not take is made up for: the next turn looks by itself. */
void epy_loop_inherit(ErlNifEnv *env, epy_loop *loop)
{
    ErlNifPid heir;
    if (!enif_whereis_pid(env, epy_atom.py_async, &heir))
        return; /* the application stops */
    pthread_mutex_lock(&loop->lock);
    loop->hears = heir;
    pthread_mutex_unlock(&loop->lock);
    atomic_store(&loop->armed, false);
}

/* ---- the end ---- */

/* The emulator may look at the descriptor just now, and says when not any more. */
void epy_loop_release(ErlNifEnv *env, epy_loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    if (loop->released && loop->epoll >= 0) {
        epy_idle_forget(&loop->group->idle, loop->epoll);
        (void)enif_select(env, loop->epoll, ERL_NIF_SELECT_STOP, loop->resource, NULL,
                          epy_atom.undefined);
        loop->epoll = -1;
    }
    pthread_mutex_unlock(&loop->lock);
}

void epy_loop_close_descriptors(epy_loop *loop)
{
    if (loop->timer >= 0)
        close(loop->timer);
    loop->timer = -1;
    pthread_mutex_lock(&loop->lock);
    loop->released = true;
    pthread_mutex_unlock(&loop->lock);
    ask(loop);
}

void epy_loop_stop_select(ErlNifEnv *env, void *resource, ErlNifEvent fd, int direct)
{
    (void)env;
    (void)resource;
    (void)direct;
    close(fd);
}
