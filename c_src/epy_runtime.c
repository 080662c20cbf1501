/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_runtime.h. */
#include "epy_runtime.h"

#include "epy_atoms.h"
#include "epy_executor.h"
#include "epy_interrupt.h"
#include "epy_module.h"
#include "epy_monitor.h"
#include "epy_request.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define DRAIN_NS UINT64_C(1000000000) /* for calls to end by themselves, then when interrupted */

static struct {
    _Atomic(epy_state) state;
    atomic_bool eager;
    epy_config config;                           /* the runtime's thread */
    epy_interp slots[EPY_INTERPS_MAX];           /* used in order */
    _Atomic(epy_interp *) interps[EPY_INTERPS_MAX]; /* those that are set up */
    atomic_int first, count;                     /* the interpreters that processes are bound to */
    epy_queue commands;
    epy_idle idle;                               /* the runtime's thread */
    atomic_int python;                           /* futex word: result of start_python() */
    char error[600];                             /* the text of a failed start */
} runtime;

typedef struct command {
    epy_qnode node;
    void (*run)(struct command *cmd);
    epy_config config; /* of a start */
    ErlNifPid from;
} command;

enum { PYTHON_STARTING, PYTHON_STARTED, PYTHON_FAILED };

epy_state epy_runtime_state(void)
{
    return atomic_load(&runtime.state);
}

bool epy_runtime_is_running(void)
{
    return atomic_load_explicit(&runtime.state, memory_order_relaxed) == EPY_RUNNING;
}

bool epy_runtime_is_eager(void)
{
    return atomic_load_explicit(&runtime.eager, memory_order_relaxed);
}

const epy_config *epy_runtime_config(void)
{
    return &runtime.config;
}

epy_interp *epy_runtime_interp(int id)
{
    return atomic_load_explicit(&runtime.interps[id], memory_order_acquire);
}

void epy_runtime_add_interp(epy_interp *interp)
{
    atomic_store_explicit(&runtime.interps[interp->id], interp, memory_order_release);
}

epy_interp *epy_runtime_pick(void)
{
    int first = atomic_load(&runtime.first), count = atomic_load(&runtime.count);
    epy_interp *best = epy_runtime_interp(first);
    for (int i = first + 1; i < first + count; i++) {
        epy_interp *interp = epy_runtime_interp(i);
        if (atomic_load(&interp->bound) < atomic_load(&best->bound))
            best = interp;
    }
    return best;
}

/* A transition; the diagram is in epy_runtime.h. */
static bool move(epy_state from, epy_state to)
{
    return atomic_compare_exchange_strong(&runtime.state, &from, to);
}

/* ---- Python's start ---- */

static PyStatus preinitialize(void)
{
    /* Erlang's text is UTF-8 whatever the locale, and the locale is Erlang's. */
    PyPreConfig pre;
    PyPreConfig_InitPythonConfig(&pre);
    pre.utf8_mode = 1;
    pre.configure_locale = 0;
    pre.coerce_c_locale = 0;
    pre.parse_argv = 0;
    return Py_PreInitialize(&pre);
}

static PyStatus initialize(void)
{
    PyConfig config;
    PyStatus status = preinitialize();
    if (PyStatus_Exception(status))
        return status;
    PyConfig_InitPythonConfig(&config);
    config.install_signal_handlers = 0; /* signals are Erlang's */
    config.parse_argv = 0;
    config.buffered_stdio = 0; /* nothing is lost when the VM halts */
    status = PyConfig_SetBytesString(&config, &config.program_name, EPY_PYTHON_EXECUTABLE);
    if (!PyStatus_Exception(status))
        status = PyConfig_SetBytesString(&config, &config.executable, EPY_PYTHON_EXECUTABLE);
    if (!PyStatus_Exception(status))
        status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    return status;
}

static int fail(int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(runtime.error, sizeof runtime.error, format, args);
    va_end(args);
    return code;
}

/* Starts Python on the calling thread and leaves it attached. */
static int start_python(void)
{
    epy_interp *main = &runtime.slots[0];
    if (PyImport_AppendInittab("_erlang", epy_module_init) < 0)
        return fail(EPY_ENOMEM, "there is no memory");
    PyStatus status = initialize();
    if (PyStatus_Exception(status))
        return fail(EPY_EPYTHON, "Python does not start: %s",
                    status.err_msg ? status.err_msg : "it exited");
    epy_interp_init(main, 0);
    if (epy_interp_setup(main, runtime.config.python_path) == 0)
        return EPY_OK;
    PyErr_Print();
    return fail(EPY_EPYTHON, "the package erlang cannot be imported; stderr has the traceback");
}

/* Python's main thread: starts it, and serves the main interpreter. */
static void *python_main(void *arg)
{
    (void)arg;
    int r = start_python();
    atomic_store(&runtime.python, r < 0 ? PYTHON_FAILED : PYTHON_STARTED);
    epy_futex_wake_one(&runtime.python);
    if (r == 0)
        epy_service_loop(&runtime.slots[0].service);
    return NULL;
}

static int ensure_python(void)
{
    if (atomic_load(&runtime.python) == PYTHON_STARTED)
        return EPY_OK;
    if (epy_monitor_start() < 0 || epy_thread_start("epy_main", python_main, NULL) < 0)
        return fail(EPY_ETHREAD, "a thread could not be started");
    while (atomic_load(&runtime.python) == PYTHON_STARTING)
        epy_futex_wait(&runtime.python, PYTHON_STARTING, -1);
    if (atomic_load(&runtime.python) != PYTHON_STARTED)
        return EPY_EPYTHON;
    return epy_service_start(&runtime.slots[0].reaper, "reaper") < 0
               ? fail(EPY_ETHREAD, "a thread could not be started")
               : EPY_OK;
}

/* ---- the application's start and stop, on the runtime's thread ---- */

static int start_subinterp(int id)
{
    epy_interp *interp = &runtime.slots[id];
    epy_interp_init(interp, id);
    int r = epy_executor_start_subinterp(interp, runtime.error, sizeof runtime.error);
    if (r < 0) {
        atomic_store(&runtime.interps[id], NULL);
        return r;
    }
    if (epy_service_start(&interp->service, "service") < 0 ||
        epy_service_start(&interp->reaper, "reaper") < 0)
        return fail(EPY_ETHREAD, "a thread could not be started");
    return EPY_OK;
}

/* Makes what the plan asks for; what is there already stays. */
static int apply(const epy_config *config)
{
    epy_plan plan;
    int r = EPY_OK;
    epy_mode_plan(config, &plan);
    atomic_store(&runtime.eager, plan.eager);
    if (epy_executors_resize(&runtime.slots[0], plan.main_executors) < 0)
        return fail(EPY_ETHREAD, "an executor could not be started");
    for (int id = 1; r == EPY_OK && id <= plan.subinterps; id++)
        if (!epy_runtime_interp(id))
            r = start_subinterp(id);
    atomic_store(&runtime.count, plan.subinterps ? plan.subinterps : 1);
    atomic_store(&runtime.first, plan.subinterps ? 1 : 0);
    return r;
}

static void answer(const ErlNifPid *to, ERL_NIF_TERM atom, const char *error)
{
    ErlNifEnv *env = enif_alloc_env();
    ERL_NIF_TERM what = atom, text;
    if (error) {
        size_t n = strlen(error);
        memcpy(enif_make_new_binary(env, n, &text), error, n);
        what = enif_make_tuple2(env, epy_atom.error, text);
    }
    /* Fails when the process that asked is gone; nobody else wants to know. */
    (void)enif_send(NULL, to, env, enif_make_tuple2(env, epy_atom.py_runtime, what));
    enif_free_env(env);
}

/* INITING or STOPPED, or RUNNING when the process that started it died, ->
 * RUNNING; STOPPED when something ran short; or FAILED, which is final, as Python
 * cannot be started twice.  A later start is then told the same reason. */
static void run_start(command *cmd)
{
    runtime.config = cmd->config;
    if (epy_runtime_state() == EPY_FAILED || ensure_python() < 0) {
        atomic_store(&runtime.state, EPY_FAILED);
        answer(&cmd->from, 0, runtime.error);
    } else if (apply(&cmd->config) < 0) {
        atomic_store(&runtime.state, EPY_STOPPED);
        answer(&cmd->from, 0, runtime.error);
    } else {
        atomic_store(&runtime.state, EPY_RUNNING);
        answer(&cmd->from, epy_atom.started, NULL);
    }
}

static bool any_busy(void)
{
    for (int id = 0; id < EPY_INTERPS_MAX; id++)
        if (epy_runtime_interp(id) && epy_executors_busy(epy_runtime_interp(id)))
            return true;
    return false;
}

static bool wait_idle(void)
{
    uint64_t deadline = epy_now_ns() + DRAIN_NS;
    while (any_busy() && epy_now_ns() < deadline)
        epy_sleep_ns(1000000);
    return !any_busy();
}

static void cancel_running(epy_request *req, void *arg)
{
    (void)arg;
    if (epy_request_state(req) == EPY_REQ_RUNNING)
        (void)epy_cancel_reply(req, epy_atom.cancelled); /* false: it has just ended */
}

/* R8: what waits is refused, what runs may end, and what does not is cancelled.
 * A request that sits in a C call even then is left to itself. */
static void drain(void)
{
    for (int id = 0; id < EPY_INTERPS_MAX; id++)
        if (epy_runtime_interp(id))
            epy_interp_refuse_queued(epy_runtime_interp(id));
    if (wait_idle())
        return;
    epy_request_each(cancel_running, NULL);
    (void)wait_idle();
}

static void run_stop(command *cmd)
{
    if (move(EPY_RUNNING, EPY_SHUTTING_DOWN)) {
        drain();
        atomic_store(&runtime.state, EPY_STOPPED);
    }
    answer(&cmd->from, epy_atom.stopped, NULL);
}

/* ---- commands ---- */

/* The runtime's thread.  It is never attached. */
static void *runtime_main(void *arg)
{
    (void)arg;
    epy_idle_heat(&runtime.idle);
    for (;;) {
        epy_qnode *n = epy_queue_pop(&runtime.commands);
        if (n) {
            command *cmd = EPY_CONTAINER(n, command, node);
            cmd->run(cmd);
            enif_free(cmd);
        } else
            epy_idle_wait(&runtime.idle, &runtime.commands, 0, -1);
    }
    return NULL;
}

static void post(ErlNifEnv *env, void (*run)(command *), const epy_config *config)
{
    command *cmd = enif_alloc(sizeof *cmd); /* aborts the VM rather than return NULL */
    *cmd = (command){.run = run};
    if (config)
        cmd->config = *config;
    enif_self(env, &cmd->from);
    epy_queue_push(&runtime.commands, &cmd->node);
    epy_idle_notify(&runtime.idle);
}

int epy_runtime_start(ErlNifEnv *env, const epy_config *config)
{
    if (epy_runtime_state() == EPY_INITING)
        return EPY_ESTATE;
    if (move(EPY_UNINIT, EPY_INITING)) {
        epy_queue_init(&runtime.commands);
        epy_idle_init(&runtime.idle);
        if (epy_thread_start("epy_runtime", runtime_main, NULL) < 0) {
            atomic_store(&runtime.state, EPY_UNINIT);
            return EPY_ETHREAD;
        }
    }
    post(env, run_start, config);
    return EPY_OK;
}

int epy_runtime_stop(ErlNifEnv *env)
{
    epy_state state = epy_runtime_state();
    if (state == EPY_UNINIT || state == EPY_INITING || state == EPY_FAILED)
        return EPY_ESTATE;
    post(env, run_stop, NULL);
    return EPY_OK;
}
