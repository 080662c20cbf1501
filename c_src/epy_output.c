/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_output.h. */
#include "epy_output.h"

#include "epy_atoms.h"
#include "epy_callback.h"
#include "epy_error.h"
#include "epy_fork.h"
#include "epy_host.h"
#include "epy_request.h"
#include "epy_runtime.h"

#include <stdlib.h>
#include <string.h>

#define LINE_MAX_KEPT 8192 /* bytes of a line that has not ended */

/* [Text, Caller] to '$py_output'. */
static int send_callback(epy_executor *ex, const char *text, size_t size)
{
    epy_request *req = atomic_load(&ex->current);
    ErlNifEnv *env = enif_alloc_env();
    if (!env) {
        PyErr_NoMemory();
        return -1;
    }
    ErlNifPid caller;
    if (req->op != EPY_OP_TURN || !epy_host_asker(ex->interp, &caller))
        caller = req->caller;
    ERL_NIF_TERM args = enif_make_list2(env, epy_binary_term(env, text, size),
                                        enif_make_pid(env, &caller));
    PyObject *result = epy_callback_terms(ex->interp, env, epy_atom.output, args);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

/* Sends the first bytes of what is kept.  They leave the buffer first, as requests that are
 * nested in the callback print as well. */
static int send_kept(epy_executor *ex, size_t size)
{
    char text[LINE_MAX_KEPT];
    memcpy(text, ex->output, size);
    ex->output_size -= size;
    memmove(ex->output, ex->output + size, ex->output_size);
    return send_callback(ex, text, size);
}

static int keep(epy_executor *ex, const char *text, size_t size)
{
    if (!ex->output)
        ex->output = malloc(LINE_MAX_KEPT);
    if (!ex->output) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(ex->output + ex->output_size, text, size);
    ex->output_size += size;
    return 0;
}

static int write_line(epy_executor *ex, const char *text, size_t size)
{
    const char *newline = memrchr(text, '\n', size);
    size_t ended = newline ? (size_t)(newline - text) + 1 : 0;
    /* Not once only: what runs while Erlang is called may print, and finalizers of what that left. */
    while (ex->output_size > 0 && ex->output_size + size > LINE_MAX_KEPT)
        if (send_kept(ex, ex->output_size) < 0)
            return -1;
    if (size > LINE_MAX_KEPT)
        return send_callback(ex, text, size);
    size_t before = ex->output_size;
    if (keep(ex, text, size) < 0)
        return -1;
    return ended > 0 ? send_kept(ex, before + ended) : 0;
}

/* On a thread that serves no request just now. */
static int write_elsewhere(const char *text, size_t size)
{
    ErlNifPid to;
    if (enif_thread_type() != ERL_NIF_THR_UNDEFINED)
        return 0; /* a scheduler, which runs a function of the pool inline */
    ErlNifEnv *env = enif_alloc_env();
    bool sent = env && enif_whereis_pid(NULL, epy_atom.py_async, &to) &&
                enif_send(NULL, &to, env,
                          enif_make_tuple2(env, epy_atom.py_output,
                                           epy_binary_term(env, text, size)));
    if (env)
        enif_free_env(env);
    return sent;
}

int epy_output_write(epy_interp *interp, PyObject *text)
{
    if (!epy_runtime_config()->redirect_output || !epy_runtime_is_running() ||
        epy_fork_is_child())
        return 0;
    PyObject *utf8 = PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
    if (!utf8)
        return -1;
    int r = 1;
    const char *data = PyBytes_AS_STRING(utf8);
    size_t size = (size_t)PyBytes_GET_SIZE(utf8);
    epy_executor *ex = epy_self;
    if (!ex || ex->interp != interp || !atomic_load(&ex->current))
        r = write_elsewhere(data, size);
    else if (size > 0 && write_line(ex, data, size) < 0)
        r = -1;
    Py_DECREF(utf8);
    return r;
}

int epy_output_flush(void)
{
    epy_executor *ex = epy_self;
    if (!ex || ex->output_size == 0 || !atomic_load(&ex->current))
        return 0;
    return send_kept(ex, ex->output_size);
}

void epy_output_end(epy_executor *ex)
{
    if (ex->output_size > 0 && send_kept(ex, ex->output_size) < 0)
        PyErr_Clear(); /* the request was cancelled, or nobody is there who could write it */
}
