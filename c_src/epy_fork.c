/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_fork.h. */
#include "epy_fork.h"

#include "epy_error.h"
#include "epy_lib.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

typedef void (*handler)(int);

enum { SIGNALS = 65 };

static atomic_bool forked;
static handler emulators[SIGNALS]; /* by signal, before Python was started; set once */

static handler handler_of(int number)
{
    struct sigaction now;
    handler found = sigaction(number, NULL, &now) == 0 ? now.sa_handler : SIG_DFL;
    return found == SIG_IGN ? SIG_DFL : found;
}

static bool is_emulators(handler found)
{
    for (int number = 1; number < SIGNALS; number++)
        if (emulators[number] == found)
            return true;
    return false;
}

/* It has one handler for all that os:set_signal/2 may have it handle later. */
static void forget_handlers(void)
{
    struct sigaction none = {.sa_handler = SIG_DFL};
    for (int number = 1; number < SIGNALS; number++) {
        handler found = handler_of(number);
        if (found != SIG_DFL && is_emulators(found))
            (void)sigaction(number, &none, NULL);
    }
}

/* On the only thread of the process, where but little may be called. */
static void in_child(void)
{
    atomic_store_explicit(&forked, true, memory_order_relaxed);
    forget_handlers();
}

int epy_fork_init(void)
{
    for (int number = 1; number < SIGNALS; number++)
        emulators[number] = handler_of(number);
    return pthread_atfork(NULL, NULL, in_child) == 0 ? EPY_LOAD_OK : EPY_LOAD_NO_MEMORY;
}

bool epy_fork_is_child(void)
{
    return atomic_load_explicit(&forked, memory_order_relaxed);
}

int epy_fork_check(void)
{
    if (!epy_fork_is_child())
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "this is a forked process, in which there is no Erlang");
    return -1;
}

static void print(PyObject *value)
{
    PyObject *file = PySys_GetObject("stderr");
    if (file && file != Py_None && PyFile_WriteObject(value, file, Py_PRINT_RAW) == 0)
        PyFile_WriteString("\n", file);
}

/* The status of sys.exit(). */
static int exit_status(PyObject *error)
{
    int status = 1;
    PyObject *code = PyObject_GetAttrString(error, "code");
    if (code == Py_None)
        status = 0;
    else if (code && PyLong_Check(code))
        status = (int)PyLong_AsLong(code);
    else if (code)
        print(code);
    Py_XDECREF(code);
    return status;
}

static int error_status(void)
{
    PyObject *error = epy_error_fetch();
    int status = 1;
    if (PyErr_GivenExceptionMatches(error, PyExc_SystemExit)) {
        status = exit_status(error);
    } else {
        epy_error_raise_again(error);
        PyErr_PrintEx(0);
    }
    Py_DECREF(error);
    return status;
}

static void flush(const char *name)
{
    PyObject *file = PySys_GetObject(name);
    if (file && file != Py_None)
        Py_XDECREF(PyObject_CallMethod(file, "flush", NULL));
    PyErr_Clear(); /* there is nobody left to be told */
}

void epy_fork_end(void)
{
    int status = PyErr_Occurred() ? error_status() : 0;
    PyErr_Clear(); /* of what should have been printed: likewise */
    flush("stdout");
    flush("stderr");
    _exit(status);
}
