/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What differs by mode: how many interpreters and executors there are, how a
 * sub-interpreter comes to be, and how a container is read safely.
 *
 *   multi_executor   the main interpreter, num_executors executors, one GIL
 *   subinterp        num_subinterp_workers interpreters with a GIL each, one executor
 *                    each, and the main one for what does not work in them
 *   free_threaded    the main interpreter, an executor per scheduler, no GIL
 */
#include "epy_mode.h"

#if defined(EPY_MODE_MULTI_EXECUTOR)
const char *const epy_mode_name = "multi_executor";
#elif defined(EPY_MODE_SUBINTERP)
const char *const epy_mode_name = "subinterp";
#if PY_VERSION_HEX < 0x030C0000
#error "the mode subinterp needs Python 3.12"
#endif
#elif defined(EPY_MODE_FREE_THREADED)
const char *const epy_mode_name = "free_threaded";
#ifndef Py_GIL_DISABLED
#error "the mode free_threaded needs a free-threaded Python"
#endif
#else
#error "the build names no mode"
#endif

#ifdef Py_GIL_DISABLED
const bool epy_mode_has_gil = false;
#else
const bool epy_mode_has_gil = true;
#endif

#if defined(EPY_MODE_SUBINTERP) || (PY_VERSION_HEX >= 0x030D0000 && !defined(Py_GIL_DISABLED))
#define HAS_SUBINTERPS
const bool epy_mode_has_subinterps = true;
#else
const bool epy_mode_has_subinterps = false; /* 3.12's are not sound unless asked for */
#endif

void epy_mode_plan(const epy_config *config, epy_plan *plan)
{
#if defined(EPY_MODE_MULTI_EXECUTOR)
    *plan = (epy_plan){.main_executors = config->num_executors};
#elif defined(EPY_MODE_SUBINTERP)
    *plan = (epy_plan){.main_executors = config->num_executors,
                       .subinterps = config->num_subinterp_workers};
#else
    *plan = (epy_plan){.main_executors = config->schedulers, .eager = true};
#endif
}

#ifdef HAS_SUBINTERPS
PyThreadState *epy_mode_subinterp_new(PyStatus *status)
{
    /* Daemon threads would be fatal at the interpreter's end (up to 3.13), and
     * fork would leave the child without the threads of the VM. */
    PyInterpreterConfig config = {
        .use_main_obmalloc = 0,
        .allow_fork = 0,
        .allow_exec = 0,
        .allow_threads = 1,
        .allow_daemon_threads = 0,
        .check_multi_interp_extensions = 1,
        .gil = PyInterpreterConfig_OWN_GIL,
    };
    PyThreadState *ts = NULL;
    *status = Py_NewInterpreterFromConfig(&ts, &config);
    return PyStatus_Exception(*status) ? NULL : ts;
}
#else
PyThreadState *epy_mode_subinterp_new(PyStatus *status)
{
    *status = PyStatus_Error("this Python has no sub-interpreters with a GIL of their own");
    return NULL;
}
#endif

/* The fields are public in cpython/pystate.h; from 3.14 on CPython looks at the real stack. */
void epy_mode_limit_c_stack(PyThreadState *ts, int levels)
{
#if PY_VERSION_HEX >= 0x030E0000
    (void)ts;
    (void)levels;
#elif PY_VERSION_HEX >= 0x030C0000
    if (ts->c_recursion_remaining > levels)
        ts->c_recursion_remaining = levels;
#elif PY_VERSION_HEX >= 0x030B0000
    if (ts->recursion_remaining > levels)
        ts->recursion_remaining = levels;
#else
    int limit = Py_GetRecursionLimit();
    if (limit - ts->recursion_depth > levels)
        ts->recursion_depth = limit - levels;
#endif
}

#if PY_VERSION_HEX >= 0x030C0000
#define LEVELS_LEFT(ts) (ts)->py_recursion_remaining
#define LEVELS_LIMIT(ts) (ts)->py_recursion_limit
#elif PY_VERSION_HEX >= 0x030B0000
#define LEVELS_LEFT(ts) (ts)->recursion_remaining
#define LEVELS_LIMIT(ts) (ts)->recursion_limit
#endif

/* From 3.14 on CPython looks at the stack itself. */
#if PY_VERSION_HEX < 0x030E0000 && defined(Py_C_RECURSION_LIMIT)
#define C_LEVELS Py_C_RECURSION_LIMIT
#elif PY_VERSION_HEX < 0x030D0000 && defined(C_RECURSION_LIMIT)
#define C_LEVELS C_RECURSION_LIMIT
#endif

/* Of a stack, for one level of recursion in C: 10,000 take between 8 and 15 MB in 3.13. */
#define C_LEVEL_SIZE 1600

void epy_mode_enter_level(PyThreadState *ts, size_t stack, epy_levels *before)
{
    (void)stack;
#ifdef LEVELS_LEFT
    before->left = LEVELS_LEFT(ts);
    before->limit = LEVELS_LIMIT(ts);
    LEVELS_LEFT(ts) = before->limit;
#else
    before->left = ts->recursion_depth;
    ts->recursion_depth = 0;
#endif
#ifdef C_LEVELS
    before->c_left = ts->c_recursion_remaining;
    ts->c_recursion_remaining =
        stack / C_LEVEL_SIZE < C_LEVELS ? (int)(stack / C_LEVEL_SIZE) : C_LEVELS;
#endif
}

/* sys.setrecursionlimit() may have moved both meanwhile. */
void epy_mode_leave_level(PyThreadState *ts, const epy_levels *before)
{
#ifdef LEVELS_LEFT
    LEVELS_LEFT(ts) = before->left + LEVELS_LIMIT(ts) - before->limit;
#else
    ts->recursion_depth = before->left;
#endif
#ifdef C_LEVELS
    ts->c_recursion_remaining = before->c_left;
#endif
}

/* Not sys._current_frames() where there are GILs: up to 3.14 it goes through the threads of
 * all interpreters and holds but one of their GILs.  Without GILs it stops the world, which
 * a look at one thread does not. */
#ifdef Py_GIL_DISABLED
PyObject *epy_mode_thread_frame(PyThreadState *ts, unsigned long ident)
{
    (void)ts;
    PyObject *current = PySys_GetObject("_current_frames"); /* borrowed */
    PyObject *frames = current ? PyObject_CallNoArgs(current) : NULL;
    PyObject *key = frames ? PyLong_FromUnsignedLong(ident) : NULL;
    PyObject *frame = key ? epy_dict_get(frames, key) : NULL;
    Py_XDECREF(key);
    Py_XDECREF(frames);
    return frame || PyErr_Occurred() ? frame : Py_NewRef(Py_None);
}
#else
PyObject *epy_mode_thread_frame(PyThreadState *ts, unsigned long ident)
{
    (void)ident;
    PyObject *frame = (PyObject *)PyThreadState_GetFrame(ts);
    return frame ? frame : Py_NewRef(Py_None);
}
#endif

PyObject *epy_list_item(PyObject *l, Py_ssize_t i)
{
#ifdef Py_GIL_DISABLED
    PyObject *o = PyList_GetItemRef(l, i);
    if (!o)
        PyErr_Clear(); /* the list became shorter; the caller stops there */
    return o;
#else
    return i < PyList_GET_SIZE(l) ? Py_NewRef(PyList_GET_ITEM(l, i)) : NULL;
#endif
}

static bool dict_contents(PyObject *d, Py_ssize_t n, PyObject **out)
{
    PyObject *key, *value;
    Py_ssize_t pos = 0, i = 0;
    if (PyDict_GET_SIZE(d) != n)
        return false;
    for (; i < n && PyDict_Next(d, &pos, &key, &value); i++) {
        out[i] = Py_NewRef(key);
        out[n + i] = Py_NewRef(value);
    }
    return true;
}

bool epy_dict_contents(PyObject *d, Py_ssize_t n, PyObject **out)
{
    bool r;
#ifdef Py_GIL_DISABLED
    Py_BEGIN_CRITICAL_SECTION(d); /* nothing in it lets another thread in */
    r = dict_contents(d, n, out);
    Py_END_CRITICAL_SECTION();
#else
    r = dict_contents(d, n, out);
#endif
    return r;
}

bool epy_mode_is_only_reference(PyObject *o)
{
#if PY_VERSION_HEX >= 0x030E0000
    return PyUnstable_Object_IsUniquelyReferenced(o);
#else
    return Py_REFCNT(o) == 1;
#endif
}

PyObject *epy_weakref_get(PyObject *ref)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *o;
    (void)PyWeakref_GetRef(ref, &o); /* fails only for what is no weak reference */
    return o;
#else
    PyObject *o = PyWeakref_GetObject(ref); /* borrowed; None: it is gone */
    return o == Py_None ? NULL : Py_NewRef(o);
#endif
}

PyObject *epy_dict_get(PyObject *d, PyObject *key)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *value;
    (void)PyDict_GetItemRef(d, key, &value); /* sets value to NULL on error, too */
    return value;
#else
    PyObject *value = PyDict_GetItemWithError(d, key);
    Py_XINCREF(value);
    return value;
#endif
}
