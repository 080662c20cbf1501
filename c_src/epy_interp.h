/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An interpreter: a Python interpreter state, its service threads, and the Python
 * objects that the NIF keeps in it.  Its executors are in groups (epy_group.h).
 *
 * The main interpreter and those of the default pool are created when the application
 * starts for the first time and never ended: stopping parks them
 * (docs/decisions/0002-park-interpreters.md).  An *own* interpreter, of a context or of a
 * pool that a user started, is ended with it.  The structs are never freed.
 */
#ifndef EPY_INTERP_H
#define EPY_INTERP_H

#include "epy.h"
#include "epy_frame.h"
#include "epy_memory.h"
#include "epy_names.h"
#include "epy_queue.h"
#include "epy_service.h"

/* Python objects of one interpreter.  Strong references, set once while it is
 * set up, read by whoever is attached to it. */
typedef struct epy_objects {
    PyObject *module;           /* _erlang */
    PyObject *atom_type;        /* _erlang.Atom */
    PyObject *term_type, *pid_type, *ref_type, *port_type, *fun_type; /* _erlang.Term ... */
    PyObject *binary_type;      /* under the memoryviews of binaries */
    PyObject *encoders;         /* dict: type -> callable or None; erlang._codec's */
    PyObject *find_encoder;     /* fills it */
    PyObject *decoders;         /* dict: tag -> callable; likewise */
    PyObject *unraisable_hook;  /* sys.unraisablehook as it was before ours */
    PyObject *error;            /* _erlang.Error: an Erlang exception in Python */
    PyObject *cancelled;        /* _erlang.Cancelled */
    PyObject *conversion_error; /* _erlang.ConversionError */
    PyObject *process_error;    /* _erlang.ProcessError */
    PyObject *mailbox_type, *async_call_type; /* _erlang.Mailbox, _erlang.AsyncCall */
    PyObject *loop_host_type, *task_end_type; /* see epy_host.h */
    PyObject *asker;            /* contextvars.ContextVar: the TaskEnd of the task that runs */
    PyObject *pipe_type, *channel_wait_type; /* _erlang.Pipe, _erlang.ChannelWait */
    PyObject *channel_closed; /* erlang.channel.ChannelClosed */
    PyObject *timeout;          /* _erlang.Timeout */
    PyObject *trace_context;    /* contextvars.ContextVar; see epy_trace.h */
    PyObject *cell_type;        /* keeps a counter of the shared state */
    PyObject *state_cells;      /* dict: key -> such; see epy_state.c */
    PyObject *state_atom, *incr_atom; /* $py_state, incr */
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
    bool own;                     /* constant while in use: ended when its group is closed */
    atomic_uint life;             /* counts the uses of this slot; the runtime's */
    PyInterpreterState *state;    /* constant once set up */
    int64_t python_id;            /* constant: PyInterpreterState_GetID */
    epy_objects objects;
    epy_names names;              /* atoms, and what they are in this interpreter */
    epy_service service;          /* interrupts */
    epy_memory memory;            /* how much, and the limit */
    epy_service reaper;           /* dropped references: a destructor may block */
    atomic_int gil_held;          /* ticks that inline calls keep away, as the monitor saw the GIL
                                     held by others */
    atomic_bool inlining;         /* a scheduler runs a function of the pool inline */
    atomic_bool spinning;         /* a thread looks out for the answer to a callback */
    pthread_mutex_t calls_lock;   /* guards the lists; taken before the locks of a call */
    bool ending;                  /* takes no more of them, nor waits; under that lock */
    struct epy_call *calls;       /* that wait for an answer; see epy_call.h */
    struct epy_task_wait *waits;  /* of tasks for channels, under it too; see epy_channel_task.c */
    struct epy_task_wait *ended_waits; /* of the thread that ends the interpreter */
    atomic_uint preloaded;        /* how often code was preloaded; see epy_namespace.c */
};

/* Initializes the parts without Python.  Before anything else; also for another use. */
void epy_interp_init(epy_interp *interp, int id, bool own);

/* Takes the attached interpreter into `interp`: imports, objects, sys.path.
 * -1 with an exception set. */
EPY_GIL int epy_interp_setup(epy_interp *interp, const char *python_path);

/* The interpreter that the calling thread is attached to, or NULL with
 * RuntimeError set when it is none of ours. */
EPY_GIL epy_interp *epy_interp_current(void);

/* Drops all that epy_interp_setup() made; once.  Then no thread of the interpreter runs code. */
EPY_GIL void epy_interp_clear(epy_interp *interp);

/* Ends an own interpreter whose executors have ended, on a thread of its own. */
EPY_NOGIL void epy_interp_end(epy_interp *interp);

/* Some time after references were dropped: frees what waits for the threads that made it.
 * False: not now, they are at work. */
EPY_GIL bool epy_interp_settle(epy_interp *interp);

/* R5: gives up a reference from a thread that must not enter Python.  One that belonged to
 * an earlier life of the interpreter is gone already. */
EPY_ANY void epy_interp_drop(epy_interp *interp, unsigned life, PyObject *object);

/* An object that Erlang keeps, by a NIF resource that begins with this. */
typedef struct epy_kept { /* constant */
    epy_interp *interp;
    unsigned life;    /* of the interpreter */
    PyObject *object; /* strong, as long as the interpreter has that life */
} epy_kept;

/* The type of such resources, whose destructor drops the object; NULL when there is no memory. */
ErlNifResourceType *epy_kept_type(ErlNifEnv *env, const char *name);

EPY_GIL void epy_kept_init(epy_kept *kept, epy_interp *interp, PyObject *object);

#endif
