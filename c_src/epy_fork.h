/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The child where Python forked.  It has the forking thread and no other: no scheduler that
 * would run an Erlang process, no executor that would wait for another request.  A callback
 * would wait there for ever, and a request that ends would leave a copy of the emulator that
 * does nothing and keeps all its sockets open.  So in a child
 *
 *   what Python prints goes to the files that the emulator was started with;
 *   what would call Erlang raises RuntimeError;
 *   signals do what they do by default, as the emulator's handlers write to a pipe that both
 *   share: the SIGTERM by which multiprocessing ends the processes of a Pool ended the node;
 *   the end of the request is the end of the process, as that of the program is in plain
 *   Python, but by _exit(): what the emulator does at its end is not the child's to do.
 */
#ifndef EPY_FORK_H
#define EPY_FORK_H

#include "epy.h"

#include <stdbool.h>

/* Once, at load; EPY_LOAD_*. */
int epy_fork_init(void);

EPY_ANY bool epy_fork_is_child(void);

/* 0; in a child -1 with RuntimeError set. */
EPY_GIL int epy_fork_check(void);

/* A child's request has ended, with the exception that is set or with none. */
EPY_GIL _Noreturn void epy_fork_end(void);

#endif
