/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The request: the unit of work, from its submission to its one reply.
 *
 *                     executor                executor
 *   FREE --> QUEUED -----------> RUNNING -------------> DONE --> FREE
 *   submit     |                    |      before it sends
 *              | canceller          | canceller
 *              v                    v
 *           CANCELLED -----------------> (its holder frees)
 *
 * An executor moves a request back to QUEUED when its module loads in the main
 * interpreter only (epy_compat.h): nothing was called then.
 *
 * Whoever refuses a request that it took off a queue moves it from QUEUED to DONE.
 *
 * Each transition is one compare-and-exchange of `word`, so exactly one party
 * decides how the request ends (R3): the executor that reaches DONE sends the
 * reply; a canceller that reaches CANCELLED sends its own answer or none.
 *
 * Requests live in a table that grows and never shrinks.  An id names a slot
 * and its generation, so a late cancel finds that its request is gone.  Who does
 * not own a request looks at it by epy_request_look().
 */
#ifndef EPY_REQUEST_H
#define EPY_REQUEST_H

#include "epy.h"
#include "epy_frame.h"
#include "epy_queue.h"
#include "epy_service.h"

typedef enum epy_op {
    EPY_OP_CALL,
    EPY_OP_EVAL,
    EPY_OP_EXEC,
    EPY_OP_SLOT,
    EPY_OP_TASK, /* a call whose result an event loop awaits; see epy_loop.h */
    EPY_OP_TURN, /* a turn of an event loop: made here, never by Erlang */
    EPY_OP_COUNT
} epy_op;

typedef enum epy_req_state {
    EPY_REQ_FREE,
    EPY_REQ_QUEUED,
    EPY_REQ_RUNNING,
    EPY_REQ_DONE,
    EPY_REQ_CANCELLED,
} epy_req_state;

#define EPY_REQ_TERMS 4

/* Who hears of a request. */
typedef enum epy_manner {
    EPY_SYNC,  /* the caller waits, and serves callbacks itself */
    EPY_ASYNC, /* the caller gets the reply; callbacks go to the process py_async */
    EPY_CAST,  /* py_async is the caller, and outlives whoever submitted it */
    EPY_INLINE, /* not a request of the table: runs on the caller's scheduler */
    EPY_UNHEARD, /* nobody: a turn of an event loop; callbacks go to py_async */
} epy_manner;

/* How a request wants its values and errors; above the operation in the integer that
 * Erlang gives, erl/py_request.erl. */
enum {
    EPY_RETURN_HANDLE = 1, /* a handle, whatever the result is */
    EPY_RETURN_BUFFER = 2, /* a binary, without a copy if it can be */
    EPY_ERRORS_FULL = 4,
    EPY_ERRORS_SHORT = 8,  /* also where the application's default is full */
    EPY_BINARY_STR = 16,   /* binaries are str, or an error */
    EPY_BINARY_BYTES = 32, /* binaries are bytes */
    EPY_ATOM_STR = 64,     /* atoms are plain str */
    EPY_TRACED = 128,      /* the last element is the trace context that it runs in */
    EPY_FLAGS_ALL = 255,
};

/* What loops do with their requests; of epy_loop.c, which is above. */
typedef struct epy_loop_hooks {
    PyObject *(*turn)(epy_interp *interp, epy_request *req); /* EPY_GIL: runs a turn */
    void (*cancel)(ErlNifEnv *env, epy_request *req); /* a task has moved from RUNNING to CANCELLED */
    void (*over)(epy_request *req);                   /* it is about to be freed */
} epy_loop_hooks;

struct epy_request {
    epy_qnode node;             /* the queue's, while QUEUED */
    _Atomic uint64_t word;      /* generation << 3 | epy_req_state */
    _Atomic uint32_t free_next; /* index + 1 of the next free slot; free list's */
    uint32_t index;             /* constant */
    epy_op op;
    unsigned flags;             /* EPY_RETURN_HANDLE ...; set before QUEUED, then constant */
    epy_manner manner;
    bool slot;                  /* needs one to run, else it is a rider; set before QUEUED, then constant */
    _Atomic uint32_t number;    /* with slot: its place in line; see epy_semaphore.h.  Also read
                                   of a request that has just ended, as a hint */
    ErlNifEnv *env;             /* owned; submitter's until queued, then executor's */
    ErlNifPid caller;           /* constant while not FREE */
    ERL_NIF_TERM tag;           /* in env; constant while not FREE: the reply's reference */
    ERL_NIF_TERM terms[EPY_REQ_TERMS]; /* in env; by op, see epy_exec.c */
    ERL_NIF_TERM trace;         /* in env: the trace context that it came with; 0: none */
    epy_group *group;           /* where it is to run; groups are never freed */
    unsigned group_life;        /* for which life of the group it was meant */
    epy_namespace *ns;          /* strong; put in epy_request_free() */
    epy_executor *executor;     /* set before RUNNING; executors are never freed */
    epy_request *outer;         /* executor's: the request whose stack this one runs on */
    epy_fnode nested;           /* the frame's in which it is to run */
    const epy_loop_hooks *hooks; /* constant while not FREE; NULL: of no loop */
    struct epy_loop *loop;      /* strong, constant: whose task or turn; put by hooks->over */
    PyObject *task_end;         /* borrowed: see epy_host.c; of the loop's turn */
    bool quiet;                 /* the thread's: it runs a loop, which is told of a cancel by the
                                   descriptor of epy_wakeup.h; read under interrupt_lock */
    bool left;                  /* the thread's: its executor has left the queue for that */
    uint64_t submitted_ns;      /* epy_now_ns() when it was submitted; 0: nested, not measured */
    uint64_t queue_ns, run_ns;  /* executor's, for the reply */
    epy_job interrupt;          /* the service's, once cancelled while RUNNING */
    bool told;                  /* Cancelled was raised; under the executor's interrupt_lock */
    atomic_int parted;          /* of the executor and the interrupter, who is through */
};

/* Reads {Tag, Term1, ...}, by EPY_TRACED with the trace context at the end, into a new request in state QUEUED.  *ok is false when
 * the tuple is not of that shape; NULL with *ok true means no memory. */
EPY_ANY epy_request *epy_request_new(ErlNifEnv *caller_env, epy_op op, unsigned flags,
                                     ERL_NIF_TERM tuple, bool *ok);

/* A request without terms, in state QUEUED; NULL: no memory. */
EPY_ANY epy_request *epy_request_plain(epy_op op, epy_manner manner, const ErlNifPid *caller);

/* The last of these terms, which *arity counts no more then, if the flags say that it is the trace
 * context; else 0. */
EPY_ANY ERL_NIF_TERM epy_request_trace(unsigned flags, const ERL_NIF_TERM *terms, int *arity);

/* By its last owner: terms, namespace and slot are given back. */
EPY_ANY void epy_request_free(epy_request *req);

/* By its maker: the request was shown to nobody yet, and ends without a word. */
EPY_ANY void epy_request_discard(epy_request *req);

EPY_ANY uint64_t epy_request_id(const epy_request *req);

/* The request with this id if it still has this generation, else NULL. */
EPY_ANY epy_request *epy_request_find(uint64_t id);

/* Of a request that may end at any moment, and its slot be taken for another. */
typedef struct epy_request_view {
    uint64_t id;
    epy_req_state state;
    epy_op op;
    ErlNifPid caller;
    epy_group *group; /* or NULL: it has none yet */
    bool slot;
    uint32_t number;
} epy_request_view;

/* False: one has ended and another came meanwhile, of which the view may be part. */
EPY_ANY bool epy_request_look(const epy_request *req, epy_request_view *view);

/* By its maker: where it is to run, who gets its reply, and its place in line for a slot. */
EPY_ANY void epy_request_set_group(epy_request *req, epy_group *group, unsigned life);
EPY_ANY void epy_request_set_caller(epy_request *req, ErlNifPid caller);
EPY_ANY void epy_request_set_place(epy_request *req, uint32_t number);

/* Makes one transition; false when the request is not in state `from`. */
EPY_ANY bool epy_request_move(epy_request *req, epy_req_state from, epy_req_state to);

/* As above, but only for the generation of the id. */
EPY_ANY bool epy_request_move_id(epy_request *req, uint64_t id, epy_req_state from,
                                 epy_req_state to);

EPY_ANY epy_req_state epy_request_state(const epy_request *req);

/* Sends the reply to the caller; the terms of the request are gone then.  False: the
 * caller is gone.  env: of the calling process, or NULL on a thread of ours. */
EPY_ANY bool epy_request_reply(ErlNifEnv *env, epy_request *req, ERL_NIF_TERM result);

/* {Tag, Result}, or with the times of the request where telemetry is on. */
EPY_ANY ERL_NIF_TERM epy_request_message(const epy_request *req, ErlNifEnv *env,
                                         ERL_NIF_TERM result);

/* Replies say how long requests waited and ran. */
EPY_ANY void epy_request_set_telemetry(bool on);
EPY_ANY bool epy_request_telemetry(void);

/* Calls f for each slot of the table, whatever its state. */
void epy_request_each(void (*f)(epy_request *req, void *arg), void *arg);

#endif
