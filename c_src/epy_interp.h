/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An interpreter: a Python interpreter state with one queue of requests, its
 * executors, its service thread, and the Python objects that the NIF keeps in it.
 *
 * Interpreters are created when the application starts for the first time and
 * never freed: stopping parks them (docs/decisions/0002-park-interpreters.md).
 */
#ifndef EPY_INTERP_H
#define EPY_INTERP_H

#include "epy.h"
#include "epy_names.h"
#include "epy_queue.h"
#include "epy_service.h"

/* Python objects of one interpreter.  Strong references, set once while it is
 * set up, read by whoever is attached to it. */
typedef struct epy_objects {
    PyObject *module;           /* _erlang */
    PyObject *atom_type;        /* _erlang.Atom */
    PyObject *error;            /* _erlang.Error: an Erlang exception in Python */
    PyObject *cancelled;        /* _erlang.Cancelled */
    PyObject *conversion_error; /* _erlang.ConversionError */
    PyObject *sys_modules;      /* dict */
    PyObject *main_dict;        /* __main__.__dict__ */
    PyObject *builtins;         /* module */
    PyObject *compile;          /* builtins.compile */
    PyObject *framed_call;      /* code of `function(*args, **kwargs)` */
    PyObject *eval_cache;       /* dict: source -> code; see epy_code.c */
    PyObject *exec_cache;       /* the same for statements */
} epy_objects;

struct epy_interp {
    int id;                       /* constant; 0 is the main interpreter */
    PyInterpreterState *state;    /* constant once set up; never ended */
    int64_t python_id;            /* constant: PyInterpreterState_GetID */
    epy_objects objects;
    epy_names names;              /* atoms, and what they are in this interpreter */
    epy_queue queue;              /* of requests */
    epy_idle idle;                /* its executors */
    epy_service service;          /* interrupts */
    epy_service reaper;           /* dropped references: a destructor may block */
    epy_idle parking;             /* executors that are not needed now; epy_executor.c */
    atomic_int wanted;            /* executors that are to serve; written by the runtime */
    atomic_int serving;           /* executors that serve: neither parked nor in a callback */
    atomic_int bound;             /* namespaces that are bound here */
    _Atomic uint64_t popped;      /* requests taken off the queue; the monitor's clock */
    _Atomic(epy_executor *) executors; /* linked by next; pushed by the runtime only */
};

/* Initializes the parts without Python.  Before anything else. */
void epy_interp_init(epy_interp *interp, int id);

/* Takes the attached interpreter into `interp`: imports, objects, sys.path.
 * -1 with an exception set. */
EPY_GIL int epy_interp_setup(epy_interp *interp, const char *python_path);

/* The interpreter that the calling thread is attached to, or NULL with
 * RuntimeError set when it is none of ours. */
EPY_GIL epy_interp *epy_interp_current(void);

/* Queues the request and wakes an executor if that is called for. */
EPY_ANY void epy_interp_submit(epy_interp *interp, epy_request *req);

/* Ends all requests that are queued with {error, not_running}. */
EPY_ANY void epy_interp_refuse_queued(epy_interp *interp);

/* R5: gives up a reference from a thread that must not enter Python. */
EPY_ANY void epy_interp_drop(epy_interp *interp, PyObject *object);

#endif
