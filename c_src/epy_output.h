/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What Python prints.  The streams of erlang/_output.py hand their text to this file, which
 * sends it by lines to the process that serves the callbacks of the request, as a callback:
 * that process writes it to the group leader, and Python waits until it has.  So output
 * neither overtakes the answer of its request nor outruns whoever shows it.
 *
 * Threads without a request send a message to py_async and do not wait.
 */
#ifndef EPY_OUTPUT_H
#define EPY_OUTPUT_H

#include "epy_executor.h"

/* 1: taken; 0: not redirected, so it belongs on the stream that Python began with; -1 with an
 * exception set. */
EPY_GIL int epy_output_write(epy_interp *interp, PyObject *text);

/* Sends what the calling executor has kept of a line; -1 with an exception set. */
EPY_GIL int epy_output_flush(void);

/* The same at the end of a request, whose result does not depend on it. */
EPY_GIL void epy_output_end(epy_executor *ex);

#endif
