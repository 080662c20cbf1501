/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_host.h.  All of it runs in a turn of the loop, but for LoopHost.wake(). */
#include "epy_host.h"

#include "epy_atoms.h"
#include "epy_error.h"
#include "epy_exec.h"
#include "epy_executor.h"
#include "epy_loop_idle.h"
#include "epy_spawned.h"
#include "epy_term.h"
#include "epy_trace.h"

#define CLOSING_NS UINT64_C(1000000000) /* after which code that blocks a loop's end is interrupted */
#define FAILURES_MAX 3   /* turns of a loop that fail before it is given up */
#define TASKS_AT_ONCE 32 /* are started before the loop looks at what else there is */

typedef struct host {
    PyObject_HEAD
    epy_interp *interp; /* constant; interpreters are never freed */
    epy_loop *loop;     /* constant, strong */
    PyObject *pending;  /* strong: the set of TaskEnd whose tasks run */
    PyObject *begin, *spawned, *cancel, *done, *result, *add_done_callback; /* strong: names of methods */
} host;

typedef struct task_end {
    PyObject_HEAD
    epy_request *req; /* until the task has ended; NULL then */
    ErlNifPid caller; /* constant: who asked for it */
    host *host;       /* constant, strong */
    PyObject *task;   /* strong or NULL */
} task_end;

/* ---- the end of a task ---- */

/* Of our part of it, from which the request is not to be touched any more. */
static epy_request *take_request(task_end *end)
{
    epy_request *req = end->req;
    end->req = NULL;
    req->task_end = NULL;
    return req;
}

static epy_result cancelled(epy_request *req)
{
    return (epy_result){.term = epy_error_term(req->env, epy_atom.cancelled), .failed = true};
}

/* Is the exception that is set asyncio's? */
static bool is_cancelled_error(host *h)
{
    PyObject *exception = epy_error_fetch(), *type = NULL;
    bool is = false;
    if (h->loop->object)
        type = PyObject_GetAttrString(h->loop->object, "cancelled_error");
    if (type)
        is = PyObject_IsInstance(exception, type) > 0;
    Py_XDECREF(type);
    PyErr_Clear(); /* the task's exception goes on, whatever became of looking at it */
    if (!is)
        epy_error_raise_again(exception);
    Py_DECREF(exception);
    return is;
}

static void end_task(task_end *end, PyObject *task)
{
    epy_result result;
    host *h = end->host;
    epy_request *req = take_request(end);
    PyObject *value = PyObject_CallMethodNoArgs(task, h->result);
    if (!value && is_cancelled_error(h))
        result = cancelled(req);
    else
        result = epy_exec_end(h->interp, req, value);
    epy_loop_end_task(req, result.term, result.failed);
}

/* The loop forgets it. */
static void leave(task_end *end)
{
    if (PySet_Discard(end->host->pending, (PyObject *)end) == 1)
        atomic_fetch_sub(&end->host->loop->running, 1);
    else
        PyErr_Clear(); /* it is not there, and its hash does not fail */
    Py_CLEAR(end->task);
}

static PyObject *call_end(PyObject *o, PyObject *args, PyObject *kwargs)
{
    task_end *end = (task_end *)o;
    PyObject *task;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O:TaskEnd", &task))
        return NULL;
    if (end->req) { /* else the loop was closed before */
        Py_INCREF(o);
        leave(end);
        end_task(end, task);
        Py_DECREF(o);
    }
    Py_RETURN_NONE;
}

static int end_traverse(PyObject *o, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(o));
    Py_VISIT(((task_end *)o)->host);
    Py_VISIT(((task_end *)o)->task);
    return 0;
}

static int end_clear(PyObject *o)
{
    Py_CLEAR(((task_end *)o)->task);
    return 0; /* the host is constant, and goes with us */
}

/* The loop keeps it while the request is to be ended. */
static void end_dealloc(PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    PyObject_GC_UnTrack(o);
    EPY_ASSERT(R3, !((task_end *)o)->req);
    (void)end_clear(o);
    Py_XDECREF(((task_end *)o)->host);
    type->tp_free(o);
    Py_DECREF(type);
}

static PyType_Slot end_slots[] = {
    {Py_tp_doc, (void *)"Ends the request of a task; a callback for add_done_callback()."},
    {Py_tp_new, epy_no_new},
    {Py_tp_call, call_end},
    {Py_tp_dealloc, end_dealloc},
    {Py_tp_traverse, end_traverse},
    {Py_tp_clear, end_clear},
    {0, NULL},
};

static PyType_Spec end_spec = {
    .name = "erlang.TaskEnd",
    .basicsize = sizeof(task_end),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = end_slots,
};

static task_end *new_end(host *h, epy_request *req)
{
    PyTypeObject *type = (PyTypeObject *)h->interp->objects.task_end_type;
    task_end *end = (task_end *)type->tp_alloc(type, 0);
    if (end) {
        end->host = (host *)Py_NewRef(h);
        end->caller = req->caller;
        end->req = req;
        req->task_end = (PyObject *)end;
    }
    return end;
}

/* ---- the beginning of a task ---- */

/* The loop keeps it until it has ended. */
static int await_task(host *h, task_end *end, PyObject *task)
{
    if (PySet_Add(h->pending, (PyObject *)end) < 0)
        return -1;
    end->task = Py_NewRef(task);
    atomic_fetch_add(&h->loop->running, 1);
    PyObject *r = PyObject_CallMethodOneArg(task, h->add_done_callback, (PyObject *)end);
    if (!r)
        leave(end);
    Py_XDECREF(r);
    return r ? 0 : -1;
}

/* 1: the task runs; 0: it has ended, or is none; -1: it could not begin. */
static int follow(host *h, task_end *end, PyObject *task)
{
    PyObject *done = PyObject_CallMethodNoArgs(task, h->done);
    int r = done ? PyObject_IsTrue(done) : -1;
    Py_XDECREF(done);
    if (r == 0)
        return await_task(h, end, task) < 0 ? -1 : 1;
    if (r > 0)
        end_task(end, task);
    return r < 0 ? -1 : 0;
}

/* The function has returned this: what can be awaited becomes a task, all else is the result. */
static void go_on(host *h, task_end *end, PyObject *value)
{
    PyObject *task = PyObject_CallMethodOneArg(h->loop->object, h->begin, value);
    if (task && task != Py_None && follow(h, end, task) < 0)
        Py_CLEAR(task);
    if (end->req && !end->task) {
        epy_request *req = take_request(end);
        epy_result result = epy_exec_end(h->interp, req, task ? Py_NewRef(value) : NULL);
        epy_loop_end_task(req, result.term, result.failed);
    }
    Py_XDECREF(task);
    Py_DECREF(value);
}

static void begin(host *h, task_end *end)
{
    epy_result result;
    epy_request *req = end->req;
    const epy_objects *objects = &h->interp->objects;
    PyObject *asker = PyContextVar_Set(objects->asker, (PyObject *)end);
    PyObject *trace = asker ? epy_trace_begin(h->interp, req->env, req->trace, false) : NULL;
    PyObject *value = asker ? epy_exec_call(h->interp, req, &result) : NULL;
    if (value)
        go_on(h, end, value);
    else {
        (void)take_request(end);
        if (!asker)
            result = epy_exec_end(h->interp, req, NULL);
        if (!result.elsewhere || !epy_loop_move_to_main(req))
            epy_loop_end_task(req, result.term, true);
    }
    epy_trace_end(h->interp, trace);
    if (asker && PyContextVar_Reset(objects->asker, asker) < 0)
        PyErr_Clear(); /* the function has left the context in which it was set */
    Py_XDECREF(asker);
}

static void start(host *h, epy_request *req)
{
    if (!epy_request_move(req, EPY_REQ_QUEUED, EPY_REQ_RUNNING)) {
        epy_request_free(req); /* cancelled before it began */
        return;
    }
    if (epy_loop_is_closing(h->loop)) { /* who cancels all has looked already */
        epy_loop_end_task(req, cancelled(req).term, true);
        return;
    }
    if (req->submitted_ns)
        req->queue_ns = epy_now_ns() - req->submitted_ns;
    atomic_fetch_add_explicit(&h->loop->started, 1, memory_order_relaxed);
    task_end *end = new_end(h, req);
    if (end) {
        atomic_store(&h->loop->starting, req);
        begin(h, end);
        atomic_store(&h->loop->starting, NULL);
    } else
        epy_loop_end_task(req, epy_exec_end(h->interp, req, NULL).term, true);
    Py_XDECREF(end);
}

/* The request was ended by a canceller; its task is still to know. */
static void cancel_task(host *h, epy_request *req)
{
    task_end *end = (task_end *)req->task_end;
    PyObject *task = end && end->task ? Py_NewRef(end->task) : NULL;
    PyObject *r = task ? PyObject_CallMethodNoArgs(task, h->cancel) : NULL;
    if (task && !r)
        PyErr_WriteUnraisable(task);
    Py_XDECREF(r);
    Py_XDECREF(task);
    epy_loop_part(req);
}

/* Not any more when it closes: who cancels all has looked already. */
static void start_spawned(host *h)
{
    PyObject *item;
    while (!epy_loop_is_closing(h->loop) && (item = epy_spawned_next(h->loop))) {
        PyObject *r = PyObject_CallMethodOneArg(h->loop->object, h->spawned, item);
        if (!r)
            PyErr_WriteUnraisable(item);
        Py_XDECREF(r);
        Py_DECREF(item);
    }
}

/* ---- LoopHost ---- */

static PyObject *take(PyObject *o, PyObject *unused)
{
    host *h = (host *)o;
    epy_request *req;
    (void)unused;
    start_spawned(h);
    while ((req = epy_loop_next_cancel(h->loop)))
        cancel_task(h, req);
    for (int n = 0; n < TASKS_AT_ONCE && (req = epy_loop_next_task(h->loop)); n++)
        start(h, req);
    return PyBool_FromLong(atomic_load(&h->loop->waiting) > 0);
}

static PyObject *wake(PyObject *o, PyObject *unused)
{
    (void)unused;
    epy_loop_wake(NULL, ((host *)o)->loop);
    Py_RETURN_NONE;
}

static PyObject *attach(PyObject *o, PyObject *fd)
{
    int epoll = PyObject_AsFileDescriptor(fd);
    if (epoll < 0 || epy_loop_attach(((host *)o)->loop, epoll) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *get_armed(PyObject *o, void *unused)
{
    (void)unused;
    return PyBool_FromLong(atomic_load(&((host *)o)->loop->armed));
}

static PyObject *get_closing(PyObject *o, void *unused)
{
    (void)unused;
    return PyBool_FromLong(epy_loop_is_closing(((host *)o)->loop));
}

static int host_traverse(PyObject *o, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(o));
    Py_VISIT(((host *)o)->pending);
    return 0;
}

static int host_clear(PyObject *o)
{
    Py_CLEAR(((host *)o)->pending);
    return 0;
}

static void host_dealloc(PyObject *o)
{
    host *h = (host *)o;
    PyTypeObject *type = Py_TYPE(o);
    PyObject_GC_UnTrack(o);
    (void)host_clear(o);
    PyObject **names[] = {&h->begin, &h->spawned, &h->cancel, &h->done, &h->result, &h->add_done_callback};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        Py_CLEAR(*names[i]);
    if (h->loop)
        epy_loop_put(h->loop);
    type->tp_free(o);
    Py_DECREF(type);
}

static PyMethodDef host_methods[] = {
    {"take", take, METH_NOARGS,
     "take()\n--\n\nCancel and start the tasks that are to be; True: there are more."},
    {"wake", wake, METH_NOARGS,
     "wake()\n--\n\nThere is something to do.  From any thread of the interpreter."},
    {"attach", attach, METH_O,
     "attach(fd)\n--\n\nThe epoll descriptor of the loop, of which the host takes a duplicate."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef host_getset[] = {
    {"armed", get_armed, NULL, "A descriptor that becomes ready makes a turn.", NULL},
    {"closing", get_closing, NULL, "The loop is to be closed.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot host_slots[] = {
    {Py_tp_doc, (void *)"What drives a loop that has no thread."},
    {Py_tp_new, epy_no_new},
    {Py_tp_dealloc, host_dealloc},
    {Py_tp_traverse, host_traverse},
    {Py_tp_clear, host_clear},
    {Py_tp_methods, host_methods},
    {Py_tp_getset, host_getset},
    {0, NULL},
};

static PyType_Spec host_spec = {
    .name = "erlang.LoopHost",
    .basicsize = sizeof(host),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = host_slots,
};

static host *new_host(epy_interp *interp, epy_loop *loop)
{
    PyTypeObject *type = (PyTypeObject *)interp->objects.loop_host_type;
    host *h = (host *)type->tp_alloc(type, 0);
    if (!h)
        return NULL;
    epy_loop_keep(loop);
    h->loop = loop;
    h->interp = interp;
    h->pending = PySet_New(NULL);
    h->begin = PyUnicode_InternFromString("_begin");
    h->spawned = PyUnicode_InternFromString("_spawned");
    h->cancel = PyUnicode_InternFromString("cancel");
    h->done = PyUnicode_InternFromString("done");
    h->result = PyUnicode_InternFromString("result");
    h->add_done_callback = PyUnicode_InternFromString("add_done_callback");
    if (!h->pending || !h->begin || !h->spawned || !h->cancel || !h->done || !h->result || !h->add_done_callback)
        Py_CLEAR(h);
    return h;
}

/* ---- turns ---- */

static void set_object(epy_loop *loop, PyObject *object)
{
    pthread_mutex_lock(&loop->lock);
    loop->object = object;
    pthread_mutex_unlock(&loop->lock);
}

/* At the first turn. */
static int make_loop(epy_interp *interp, epy_loop *loop)
{
    PyObject *module = PyImport_ImportModule("erlang._host");
    host *h = module ? new_host(interp, loop) : NULL;
    PyObject *object = h ? PyObject_CallMethod(module, "HostedLoop", "O", (PyObject *)h) : NULL;
    set_object(loop, object);
    Py_XDECREF(h);
    Py_XDECREF(module);
    return object ? 0 : -1;
}

/* Those that are still under way, as they did not heed that they were cancelled. */
static void end_pending(PyObject *object)
{
    PyObject *o;
    host *h = (host *)PyObject_GetAttrString(object, "host");
    while (h && PySet_GET_SIZE(h->pending) > 0 && (o = PySet_Pop(h->pending))) {
        task_end *end = (task_end *)o;
        atomic_fetch_sub(&h->loop->running, 1);
        epy_request *req = take_request(end);
        Py_CLEAR(end->task);
        epy_loop_end_task(req, cancelled(req).term, true);
        Py_DECREF(o);
    }
    if (!h)
        PyErr_Clear(); /* it has one, as it was made */
    Py_XDECREF(h);
}

static void finish(epy_loop *loop)
{
    PyObject *object = loop->object;
    set_object(loop, NULL);
    if (object)
        end_pending(object);
    epy_loop_finish(loop);
    Py_XDECREF(object);
}

/* True: the turn was interrupted. */
static bool report(epy_interp *interp, PyObject *what)
{
    bool interrupted = PyErr_ExceptionMatches(interp->objects.cancelled);
    if (interrupted)
        PyErr_Clear(); /* what it ran has been told */
    else
        PyErr_WriteUnraisable(what);
    return interrupted;
}

/* It has no turns any more that could end its tasks: its selector fails, or there is no memory. */
static void give_up(epy_loop *loop, PyObject *object)
{
    PyObject *r = PyObject_CallMethod(object, "_close", NULL);
    if (!r)
        PyErr_WriteUnraisable(object);
    Py_XDECREF(r);
    finish(loop);
}

/* The turn has failed, which is nothing that a task does.  True: it is tried again. */
static bool fail(epy_interp *interp, epy_loop *loop, PyObject *object)
{
    if (report(interp, object) || ++loop->failures < FAILURES_MAX)
        return true;
    give_up(loop, object);
    return false;
}

bool epy_host_turn(epy_interp *interp, epy_loop *loop, uint64_t *next_ns)
{
    bool again = false;
    if (!loop->object && (epy_loop_is_closing(loop) || make_loop(interp, loop) < 0)) {
        if (PyErr_Occurred())
            (void)report(interp, Py_None);
        finish(loop);
        return false;
    }
    PyObject *object = Py_NewRef(loop->object);
    PyObject *next = PyObject_CallMethod(object, "_turn", NULL);
    if (next)
        loop->failures = 0;
    if (!next)
        again = fail(interp, loop, object);
    else if (next == Py_False)
        finish(loop);
    else if (PyFloat_Check(next))
        *next_ns = (uint64_t)(PyFloat_AS_DOUBLE(next) * 1e9) + 1;
    else
        again = next == Py_True;
    Py_XDECREF(next);
    Py_DECREF(object);
    return again;
}

/* ---- blocked turns ---- */

static PyObject *keep_object(epy_loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    PyObject *object = loop->object;
    Py_XINCREF(object);
    pthread_mutex_unlock(&loop->lock);
    return object;
}

static bool is_cancelled(epy_request *req)
{
    return req && epy_request_state(req) == EPY_REQ_CANCELLED;
}

/* Is this task, which may be None, one of a cancelled request? */
static bool is_of_cancelled(host *h, PyObject *task)
{
    bool is = false;
    PyObject *ends = PySequence_List(h->pending);
    for (Py_ssize_t i = 0; ends && !is && i < PyList_GET_SIZE(ends); i++) {
        task_end *end = (task_end *)PyList_GET_ITEM(ends, i);
        is = end->task == task && is_cancelled(end->req);
    }
    Py_XDECREF(ends);
    return is;
}

/* Then all of its tasks are cancelled ones. */
static bool closes_for_long(epy_loop *loop)
{
    uint64_t since = atomic_load(&loop->ending_ns);
    return since && epy_now_ns() - since > CLOSING_NS;
}

static bool any_cancelled(host *h)
{
    bool any = false;
    PyObject *ends = PySequence_List(h->pending);
    for (Py_ssize_t i = 0; ends && !any && i < PyList_GET_SIZE(ends); i++)
        any = is_cancelled(((task_end *)PyList_GET_ITEM(ends, i))->req);
    Py_XDECREF(ends);
    return any;
}

bool epy_host_is_at_cancelled(epy_loop *loop)
{
    bool is = is_cancelled(atomic_load(&loop->starting)) || closes_for_long(loop);
    PyObject *object = is ? NULL : keep_object(loop);
    host *h = object ? (host *)PyObject_GetAttrString(object, "host") : NULL;
    /* Without a GIL, asking which task it is may stop all threads. */
    PyObject *task = h && any_cancelled(h) ? PyObject_CallMethod(object, "_current", NULL) : NULL;
    if (task)
        is = is_of_cancelled(h, task);
    PyErr_Clear(); /* for want of memory: the next look may tell */
    Py_XDECREF(h);
    Py_XDECREF(task);
    Py_XDECREF(object);
    return is;
}

/* ---- who asked ---- */

bool epy_host_asker(epy_interp *interp, ErlNifPid *pid)
{
    PyObject *end = NULL;
    if (PyContextVar_Get(interp->objects.asker, NULL, &end) < 0)
        PyErr_Clear(); /* no memory */
    bool is = end && Py_IS_TYPE(end, (PyTypeObject *)interp->objects.task_end_type);
    if (is)
        *pid = ((task_end *)end)->caller;
    Py_XDECREF(end);
    return is;
}

int epy_host_init(PyObject *module, epy_objects *o)
{
    o->loop_host_type = PyType_FromModuleAndSpec(module, &host_spec, NULL);
    o->task_end_type = PyType_FromModuleAndSpec(module, &end_spec, NULL);
    o->asker = PyContextVar_New("erlang_asker", NULL);
    return o->loop_host_type && o->task_end_type && o->asker ? 0 : -1;
}
