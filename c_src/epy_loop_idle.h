/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How an event loop that has nothing to do hears of its descriptors.
 *
 * All of them are in the epoll set of the loop, and a timer is one more.  A loop that goes idle
 * within LINGER_NS of the last news from a descriptor *lingers*: its executor, if it has nothing else
 * to do, sleeps in a poll of that set for as long again.  After that, or when the executor has other
 * work, the set is *armed*, that is under enif_select(): the loop's owner, an Erlang process, gets a
 * message and calls epy_loop_ready().  It is the owner as well who calls enif_select(), and who lets go of the
 * descriptor, told by a message: newer emulators allow that on schedulers only.
 *
 * What is armed stays so until a descriptor is ready, and no turn looks at the set meanwhile; of a
 * loop that is not armed each turn does.
 */
#ifndef EPY_LOOP_IDLE_H
#define EPY_LOOP_IDLE_H

#include "epy_loop.h"

/* In a turn of the loop.  The epoll descriptor of the loop, which stays Python's; -1 with an
 * exception set. */
EPY_GIL int epy_loop_attach(epy_loop *loop, int epoll);

/* At the end of a turn: clears what has rung, and rings no later than that; 0: not at all. */
EPY_ANY void epy_loop_set_timer(epy_loop *loop, uint64_t ns);

/* The same: it lingers on the calling executor or is armed, if it is not yet. */
EPY_ANY void epy_loop_go_idle(epy_loop *loop, epy_executor *ex);

/* On an executor without work: sleeps until there is something to do, be it in the queue; then
 * true.  False: it has lingered for long enough. */
EPY_NOGIL bool epy_loop_linger(epy_loop *loop, epy_ready has_work);

/* Its owner hears of descriptors from now on, if there are any. */
EPY_ANY void epy_loop_arm(epy_loop *loop);

/* The owner has ended: py_async hears in its place, as tasks may wait for descriptors and timers
 * even now. */
EPY_ANY void epy_loop_inherit(ErlNifEnv *env, epy_loop *loop);

/* Python's loop is closed, of which the owner is told.  The second step is done on a scheduler. */
EPY_ANY void epy_loop_close_descriptors(epy_loop *loop);
EPY_ANY void epy_loop_release(ErlNifEnv *env, epy_loop *loop);

/* Of the resource. */
void epy_loop_stop_select(ErlNifEnv *env, void *resource, ErlNifEvent fd, int direct);

/* Native functions; see erl/py_nif.erl. */
EPY_ANY ERL_NIF_TERM epy_loop_ready(ErlNifEnv *env, ERL_NIF_TERM loop);
EPY_ANY ERL_NIF_TERM epy_loop_serve(ErlNifEnv *env, ERL_NIF_TERM loop);

#endif
