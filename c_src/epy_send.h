/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages from Python to Erlang processes, without waiting for anything: erlang.send(),
 * whereis(), self(), and what Python logs and traces.
 *
 * Local processes get them straight from here; what has another address goes by the process
 * py_sender, as only a process can send there.  Logs and traces go to processes of ours, which
 * may be slower than Python: there are at most EPY_BACKLOG_MAX on their way, and those beyond are
 * counted and dropped.
 */
#ifndef EPY_SEND_H
#define EPY_SEND_H

#include "epy_interp.h"

#define EPY_BACKLOG_MAX 10000

typedef enum epy_backlog { EPY_BACKLOG_LOG, EPY_BACKLOG_SPANS, EPY_BACKLOGS } epy_backlog;

/* So many messages have been dealt with; how many were dropped since this was last asked. */
EPY_ANY unsigned epy_backlog_done(epy_backlog backlog, unsigned n);

/* Adds the functions to the module `_erlang`. */
EPY_GIL int epy_send_init(PyObject *module);

#endif
