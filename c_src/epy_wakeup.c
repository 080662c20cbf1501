/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_wakeup.h. */
#include "epy_wakeup.h"

#include "epy_interp.h"
#include "epy_interrupt.h"

#include <sys/eventfd.h>
#include <unistd.h>

void epy_wakeup_ring(epy_executor *ex)
{
    if (ex->wakeup >= 0)
        (void)!eventfd_write(ex->wakeup, 1); /* its counter is far from full */
}

void epy_wakeup_clear(epy_executor *ex)
{
    eventfd_t count;
    if (ex->wakeup >= 0)
        (void)!eventfd_read(ex->wakeup, &count); /* or it was read, or never written */
}

void epy_wakeup_end(epy_executor *ex)
{
    pthread_mutex_lock(&ex->interrupt_lock);
    int fd = ex->wakeup;
    ex->wakeup = -1;
    pthread_mutex_unlock(&ex->interrupt_lock);
    if (fd >= 0)
        close(fd);
}

static int open_wakeup(epy_executor *ex)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    pthread_mutex_lock(&ex->interrupt_lock);
    ex->wakeup = fd;
    pthread_mutex_unlock(&ex->interrupt_lock);
    return 0;
}

PyDoc_STRVAR(wakeup_fd_doc,
             "wakeup_fd()\n--\n\n"
             "A descriptor that becomes readable when the request that this thread runs is\n"
             "cancelled; None on a thread that runs no requests.  It stays the thread's.");

static PyObject *wakeup_fd(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    epy_executor *ex = epy_self;
    if (!ex || !atomic_load(&ex->current))
        Py_RETURN_NONE;
    if (ex->wakeup < 0 && open_wakeup(ex) < 0)
        return NULL;
    return PyLong_FromLong(ex->wakeup);
}

/* The request that runs on the calling thread, or NULL. */
static epy_request *current(void)
{
    return epy_self ? atomic_load(&epy_self->current) : NULL;
}

static void mark_quiet(epy_executor *ex, epy_request *req, bool quiet)
{
    pthread_mutex_lock(&ex->interrupt_lock);
    req->quiet = quiet;
    pthread_mutex_unlock(&ex->interrupt_lock);
}

static void become_quiet(epy_executor *ex, epy_request *req)
{
    mark_quiet(ex, req, true);
    if (atomic_load(&ex->away))
        return; /* for an outer frame */
    req->left = true;
    PyThreadState *ts = PyEval_SaveThread();
    epy_executor_leave_queue(ex);
    PyEval_RestoreThread(ts);
}

void epy_wakeup_loud(epy_executor *ex, epy_request *req)
{
    mark_quiet(ex, req, false);
    if (req->left)
        epy_executor_rejoin_queue(ex);
    req->left = false;
}

PyDoc_STRVAR(set_quiet_doc,
             "set_quiet(quiet)\n--\n\n"
             "Whether this thread's request is told of a cancel by wakeup_fd() and\n"
             "check_cancelled(), rather than by an exception anywhere.  Returns what was before.");

static PyObject *set_quiet(PyObject *module, PyObject *value)
{
    (void)module;
    epy_request *req = current();
    int quiet = PyObject_IsTrue(value);
    if (quiet < 0)
        return NULL;
    if (!req)
        Py_RETURN_FALSE;
    bool before = req->quiet; /* this thread writes it */
    if (quiet && !before)
        become_quiet(epy_self, req);
    else if (!quiet && before)
        epy_wakeup_loud(epy_self, req);
    return PyBool_FromLong(before);
}

PyDoc_STRVAR(check_cancelled_doc,
             "check_cancelled()\n--\n\n"
             "Raise Cancelled if the request that this thread runs was cancelled.");

static PyObject *check_cancelled(PyObject *module, PyObject *unused)
{
    epy_request *req = current();
    (void)module;
    (void)unused;
    if (!req || epy_request_state(req) != EPY_REQ_CANCELLED)
        Py_RETURN_NONE;
    epy_interp *interp = epy_interp_current();
    if (!interp)
        return NULL;
    epy_interrupt_told(epy_self, req);
    PyErr_SetString(interp->objects.cancelled, "the request was cancelled");
    return NULL;
}

static PyMethodDef functions[] = {
    {"wakeup_fd", wakeup_fd, METH_NOARGS, wakeup_fd_doc},
    {"set_quiet", set_quiet, METH_O, set_quiet_doc},
    {"check_cancelled", check_cancelled, METH_NOARGS, check_cancelled_doc},
    {NULL, NULL, 0, NULL},
};

int epy_wakeup_init(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
