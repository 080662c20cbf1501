/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The three shapes of running Python in parallel, behind one interface.
 * Nothing but epy_mode.[ch] asks which mode or kind of build this is.
 */
#ifndef EPY_MODE_H
#define EPY_MODE_H

#include "epy.h"

typedef struct epy_config {
    int num_executors;         /* of the main interpreter, where they share a GIL */
    int num_subinterp_workers; /* subinterp: interpreters beside the main one */
    int max_spare_executors;   /* of an interpreter, for executors that wait in callbacks */
    int io_pool_size;          /* executors of the pool io */
    int num_async_workers;     /* executors of event loops, but where each interpreter has one */
    int max_concurrent;        /* slots of the semaphore */
    unsigned acquire_timeout;      /* ms that a request waits for one */
    bool errors_full;          /* unless a request wants them short */
    bool redirect_output;      /* sys.stdout and sys.stderr go to the caller's group leader */
    bool telemetry;            /* replies say how long requests waited and ran */
    int schedulers;            /* online, when the application started */
    char python_path[4096];    /* directory with the package `erlang`; UTF-8 */
} epy_config;

typedef struct epy_plan {
    int main_executors; /* executors of the main interpreter */
    int subinterps;     /* sub-interpreters, one executor each */
    bool eager;         /* executors run in parallel: wake one whenever all are busy */
} epy_plan;

extern const char *const epy_mode_name;

/* Is there a GIL that the threads of an interpreter share? */
extern const bool epy_mode_has_gil;

/* Does this Python run sub-interpreters with a GIL of their own, soundly? */
extern const bool epy_mode_has_subinterps;

void epy_mode_plan(const epy_config *config, epy_plan *plan);

/* Creates a sub-interpreter for the calling thread, whose current thread state
 * (of the main interpreter) is left detached.  On success the new interpreter's
 * thread state is current; on failure *status says why and the old one is. */
EPY_GIL PyThreadState *epy_mode_subinterp_new(PyStatus *status);

/* Lets C recursion on the calling thread, whose stack is smaller than CPython expects, end in
 * RecursionError after so many levels. */
EPY_GIL void epy_mode_limit_c_stack(PyThreadState *ts, int levels);

/* Code that begins on the stack of other code, such as a nested request, may recurse as deeply
 * as it could on a thread of its own, in C as far as so many bytes of stack allow.  `before`
 * keeps how far the outer code had come. */
typedef struct epy_levels {
    int left, limit, c_left;
} epy_levels;
EPY_GIL void epy_mode_enter_level(PyThreadState *ts, size_t stack, epy_levels *before);
EPY_GIL void epy_mode_leave_level(PyThreadState *ts, const epy_levels *before);

/* The frame that a thread of the calling thread's interpreter is in; None: none. */
EPY_GIL EPY_NEWREF PyObject *epy_mode_thread_frame(PyThreadState *ts, unsigned long ident);

/* Iteration over containers that other threads may change meanwhile. */

/* New reference to l[i]; NULL (without an exception) when the list is shorter. */
EPY_GIL PyObject *epy_list_item(PyObject *l, Py_ssize_t i);

/* New references to the n keys, then the n values of a dict; false, and none, when it has
 * another size by now. */
EPY_GIL bool epy_dict_contents(PyObject *d, Py_ssize_t n, PyObject **out);

/* Has nobody but the caller a reference? */
EPY_GIL bool epy_mode_is_only_reference(PyObject *o);

/* A lock that exists only where no GIL serializes the threads of an interpreter. */
#ifdef Py_GIL_DISABLED
typedef PyMutex epy_gilless_lock;
#define EPY_GILLESS_LOCK(l) PyMutex_Lock(l)
#define EPY_GILLESS_UNLOCK(l) PyMutex_Unlock(l)
#else
typedef struct {
    char unused;
} epy_gilless_lock;
#define EPY_GILLESS_LOCK(l) ((void)(l))
#define EPY_GILLESS_UNLOCK(l) ((void)(l))
#endif

/* Looks a key up; a new reference, or NULL, with an exception only on error. */
EPY_GIL PyObject *epy_dict_get(PyObject *d, PyObject *key);

/* A new reference to what a weak one is to; NULL, without an exception: it is gone. */
EPY_GIL PyObject *epy_weakref_get(PyObject *ref);

/* The slots that tell an importing interpreter what the module `_erlang` bears. */
#if PY_VERSION_HEX >= 0x030D0000
#define EPY_MODULE_SLOTS                                            \
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED}, \
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#elif PY_VERSION_HEX >= 0x030C0000
#define EPY_MODULE_SLOTS {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#else
#define EPY_MODULE_SLOTS
#endif

#endif
