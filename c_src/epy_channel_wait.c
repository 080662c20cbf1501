/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_channel_wait.h. */
#include "epy_channel_wait.h"

#include "epy_call.h"
#include "epy_callback.h"
#include "epy_fork.h"
#include "epy_inline.h"
#include "epy_interrupt.h"
#include "epy_runtime.h"

static char nothing; /* in place of an item: the channel was closed, or has room */

static bool give(epy_waiter *waiter, epy_item *item, void *by)
{
    epy_waiting *w = EPY_CONTAINER(waiter, epy_waiting, waiter);
    (void)by;
    void *given = item ? (void *)item : &nothing;
    return epy_frame_answer(w->frames, w->serial, (epy_answer){.env = given});
}

static epy_channel_code attempt(epy_waiting *w, epy_waiter *waiter)
{
    void *by = epy_inline_env();
    return w->sends ? epy_channel_put(w->channel, w->item, waiter, by)
                    : epy_channel_get(w->channel, &w->item, waiter, by);
}

static void sleep_detached(const epy_waiting *w, epy_interp *interp, epy_executor *ex, epy_frame *f)
{
    PyThreadState *ts = PyEval_SaveThread();
    bool leaves = !epy_callback_spin(interp, f) && ex && !atomic_load(&ex->away);
    if (leaves)
        epy_executor_leave_queue(ex);
    (void)epy_frame_wait_until(w->frames, f, w->deadline); /* nobody nests in it: it has ended */
    if (leaves)
        epy_executor_rejoin_queue(ex);
    PyEval_RestoreThread(ts);
}

static int timed_out(const epy_interp *interp)
{
    PyErr_SetString(interp->objects.timeout, "nothing came in time");
    return -1;
}

/* Waits in an open frame, once.  NOT_NOW: there was room a moment ago. */
static int wait_in(epy_waiting *w, epy_interp *interp, epy_executor *ex, epy_frame *f)
{
    w->serial = f->serial;
    w->waiter = (epy_waiter){.give = give};
    epy_channel_code code = attempt(w, &w->waiter);
    if (code != EPY_CHANNEL_NOT_NOW) /* false: it was cancelled, and the interrupt is on its way */
        (void)epy_frame_answer(w->frames, f->serial, (epy_answer){.env = &nothing});
    sleep_detached(w, interp, ex, f);
    (void)epy_channel_leave(w->channel, &w->waiter); /* false: it is in no line any more */
    if (code != EPY_CHANNEL_NOT_NOW)
        return code;
    if (f->answer.env == &nothing)
        return w->sends ? EPY_CHANNEL_NOT_NOW : EPY_CHANNEL_CLOSED;
    if (!f->answer.env)
        return f->cancelled ? -1 : timed_out(interp);
    w->item = f->answer.env;
    return EPY_CHANNEL_DONE;
}

static bool is_running(epy_frame *f, void *req)
{
    (void)f;
    return epy_request_state(req) == EPY_REQ_RUNNING;
}

static int wait_in_request(epy_waiting *w, epy_interp *interp, epy_executor *ex)
{
    epy_frame f;
    epy_request *req = atomic_load(&ex->current);
    PyObject *cancelled = interp->objects.cancelled;
    w->frames = &ex->frames;
    if (!epy_frame_open(w->frames, &f, req, is_running, req)) {
        PyErr_SetString(cancelled, "the caller of this request is gone");
        return -1;
    }
    int r = wait_in(w, interp, ex, &f);
    if (r < 0 && f.cancelled) {
        epy_interrupt_told(ex, req);
        PyErr_SetString(cancelled, "the request was cancelled");
    }
    return r;
}

static bool application_runs(epy_frame *f, void *unused)
{
    (void)f;
    (void)unused;
    return epy_runtime_is_running();
}

static int wait_in_call(epy_waiting *w, epy_interp *interp, epy_call *call)
{
    epy_frame f;
    w->frames = &call->frames;
    if (!epy_frame_open(w->frames, &f, call, application_runs, NULL)) {
        PyErr_SetString(interp->objects.process_error,
                        "the application erlang_python does not run");
        return -1;
    }
    if (epy_call_missed_end(call))
        epy_frame_cancel(w->frames, call);
    int r = wait_in(w, interp, NULL, &f);
    if (r < 0 && f.cancelled)
        PyErr_SetString(interp->objects.cancelled,
                        "the application erlang_python or the interpreter ends");
    return r;
}

static int wait_on_thread(epy_waiting *w, epy_interp *interp)
{
    epy_call *call = epy_call_new(interp);
    if (!call)
        return -1;
    int r = wait_in_call(w, interp, call);
    epy_call_unlink(call);
    epy_call_put(call);
    return r;
}

static int wait_once(epy_waiting *w, epy_interp *interp)
{
    epy_executor *ex = epy_self;
    if (!ex && enif_thread_type() != ERL_NIF_THR_UNDEFINED) {
        PyErr_SetString(PyExc_RuntimeError,
                        "a function that runs in the pool inline cannot wait for a channel");
        return -1;
    }
    if (w->deadline && w->deadline <= epy_now_ns())
        return timed_out(interp);
    bool serves = ex && ex->interp == interp && atomic_load(&ex->current);
    return serves ? wait_in_request(w, interp, ex) : wait_on_thread(w, interp);
}

int epy_channel_wait(epy_interp *interp, epy_waiting *w)
{
    if (epy_fork_check() < 0)
        return -1;
    int r = attempt(w, NULL);
    while (r == EPY_CHANNEL_NOT_NOW)
        r = wait_once(w, interp);
    return r;
}
