/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_runtime.h. */
#include "epy_runtime.h"

#include "epy_atoms.h"
#include "epy_call.h"
#include "epy_compat.h"
#include "epy_error.h"
#include "epy_executor.h"
#include "epy_fault.h"
#include "epy_interrupt.h"
#include "epy_loop.h"
#include "epy_module.h"
#include "epy_monitor.h"
#include "epy_namespace.h"
#include "epy_pipe.h"
#include "epy_pool.h"
#include "epy_request.h"
#include "epy_route.h"
#include "epy_semaphore.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define DRAIN_NS UINT64_C(1000000000) /* for calls to end by themselves, then when interrupted */

static struct {
    _Atomic(epy_state) state;
    atomic_bool eager;
    atomic_int max_spares, executors;
    epy_config config;                           /* the runtime's thread */
    epy_interp slots[EPY_INTERPS_MAX];
    atomic_bool taken[EPY_INTERPS_MAX];          /* by the runtime's thread; cleared by any */
    _Atomic(epy_interp *) interps[EPY_INTERPS_MAX]; /* those that are set up */
    epy_queue commands;
    epy_idle idle;                               /* the runtime's thread */
    atomic_int python;                           /* futex word: result of start_python() */
    char error[600];                             /* the text of a failed start */
} runtime;

typedef struct command {
    epy_qnode node;
    void (*run)(struct command *cmd);
    ErlNifPid from;
    ErlNifEnv *env;    /* owned: of ref and the reply; NULL when there is none */
    ERL_NIF_TERM ref;
    epy_config config; /* of a start */
    ERL_NIF_TERM name; /* of a pool; an atom */
    int size;
    epy_place place;
    bool fixed;
    uint64_t memory_limit;
    epy_group *group;  /* of a context */
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

int epy_runtime_max_spares(void)
{
    return atomic_load_explicit(&runtime.max_spares, memory_order_relaxed);
}

int epy_runtime_executors(void)
{
    return atomic_load_explicit(&runtime.executors, memory_order_relaxed);
}

const epy_config *epy_runtime_config(void)
{
    return &runtime.config;
}

epy_interp *epy_runtime_interp(int id)
{
    return atomic_load_explicit(&runtime.interps[id], memory_order_acquire);
}

epy_interp *epy_runtime_interp_of(const PyInterpreterState *state)
{
    for (int id = 0; id < EPY_INTERPS_MAX; id++) {
        epy_interp *interp = epy_runtime_interp(id);
        if (interp && interp->state == state)
            return interp;
    }
    return NULL;
}

void epy_runtime_add_interp(epy_interp *interp)
{
    atomic_store_explicit(&runtime.interps[interp->id], interp, memory_order_release);
}

void epy_runtime_remove_interp(epy_interp *interp)
{
    atomic_store_explicit(&runtime.interps[interp->id], NULL, memory_order_release);
}

void epy_runtime_free_interp(epy_interp *interp)
{
    atomic_store(&runtime.taken[interp->id], false);
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
    epy_memory_install();
    epy_fault_install();
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
    epy_interp_init(main, 0, false);
    epy_memory_enter(main);
    if (PyImport_AppendInittab("_erlang", epy_module_init) < 0)
        return fail(EPY_ENOMEM, "there is no memory");
    PyStatus status = initialize();
    if (PyStatus_Exception(status))
        return fail(EPY_EPYTHON, "Python does not start: %s",
                    status.err_msg ? status.err_msg : "it exited");
    atomic_store(&runtime.taken[0], true);
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
    return epy_service_start(&runtime.slots[0].reaper, "reaper") < 0 ||
                   epy_compat_start(&runtime.slots[0]) < 0
               ? fail(EPY_ETHREAD, "a thread could not be started")
               : EPY_OK;
}

/* ---- interpreters and groups, on the runtime's thread ---- */

static epy_interp *take_interp(bool own)
{
    for (int id = 1; id < EPY_INTERPS_MAX; id++)
        if (!atomic_exchange(&runtime.taken[id], true)) {
            epy_interp_init(&runtime.slots[id], id, own);
            return &runtime.slots[id];
        }
    return NULL;
}

/* A group with an interpreter of its own; NULL with the text in runtime.error. */
static epy_group *open_subinterp(epy_pool *pool, bool own, bool fixed)
{
    epy_interp *interp = take_interp(own);
    epy_group *group = interp ? epy_group_open(interp, pool, 1, fixed) : NULL;
    if (!group) {
        if (interp)
            epy_runtime_free_interp(interp);
        fail(EPY_ENOMEM, "there are %d interpreters already", EPY_INTERPS_MAX);
        return NULL;
    }
    if (epy_executor_start_subinterp(group, runtime.error, sizeof runtime.error) < 0) {
        interp->own = false; /* there is nothing to end */
        epy_group_close(group);
        epy_runtime_free_interp(interp);
        return NULL;
    }
    if (epy_service_start(&interp->service, "service") < 0 ||
        epy_service_start(&interp->reaper, "reaper") < 0) {
        fail(EPY_ETHREAD, "a thread could not be started");
        epy_group_close(group);
        return NULL;
    }
    return group;
}

/* A group on an interpreter that is there. */
static epy_group *open_on(epy_interp *interp, epy_pool *pool, int wanted, bool fixed)
{
    epy_group *group = epy_group_open(interp, pool, wanted, fixed);
    if (!group)
        fail(EPY_ENOMEM, "there are %d pools and contexts already", EPY_GROUPS_MAX);
    return group;
}

static int add_to_pool(epy_pool *pool, epy_group *group)
{
    if (!group)
        return EPY_ENOMEM; /* the text is there */
    return epy_pool_add(pool, group) < 0 ? fail(EPY_ENOMEM, "the pool is too large") : EPY_OK;
}

/* A pool that is one group on the main interpreter, of n executors. */
static int ensure_main_pool(ERL_NIF_TERM atom, int n, bool now)
{
    epy_pool *pool = epy_pool_find(atom);
    if (!pool) {
        pool = epy_pool_new(atom);
        int r = add_to_pool(pool, open_on(&runtime.slots[0], pool, n, false));
        if (r < 0)
            return r;
    }
    epy_group *group = atomic_load(&pool->groups[0]);
    if (now && epy_executors_resize(group, n) < 0)
        return fail(EPY_ETHREAD, "an executor could not be started");
    atomic_store(&group->wanted, n);
    return EPY_OK;
}

/* The default pool of n interpreters.  Those that an earlier start made and that are
 * not wanted now stay, unused, until they are. */
static int ensure_subinterps(int n)
{
    epy_pool *pool = epy_pool_find(epy_atom.default_);
    int r = EPY_OK, have = 0;
    if (!pool)
        pool = epy_pool_new(epy_atom.default_);
    while (have < n && atomic_load(&pool->groups[have]))
        have++;
    epy_pool_set_count(pool, have);
    while (r == EPY_OK && have++ < n)
        r = add_to_pool(pool, open_subinterp(pool, false, false));
    return r;
}

/* The interpreter of the n-th group of the pool of event loops. */
static epy_interp *async_interp(const epy_plan *plan, int n)
{
    return n < plan->subinterps ? atomic_load(&epy_pool_default->groups[n])->interp
                                : &runtime.slots[0];
}

static epy_group *open_for_loops(epy_interp *interp, epy_pool *pool)
{
    epy_group *group = open_on(interp, pool, 1, false);
    if (group)
        group->loops = true; /* before any executor has been started */
    return group;
}

/* Puts a group on this interpreter to this place, one that is further back or a new one. */
static int place_async_group(epy_pool *pool, int place, epy_interp *interp)
{
    int from = place, count = atomic_load(&pool->count), r = EPY_OK;
    while (from < count && atomic_load(&pool->groups[from])->interp != interp)
        from++;
    if (from == count)
        r = add_to_pool(pool, open_for_loops(interp, pool));
    if (r < 0 || from == place)
        return r;
    epy_group *other = atomic_load(&pool->groups[place]);
    atomic_store(&pool->groups[place], atomic_load(&pool->groups[from]));
    atomic_store(&pool->groups[from], other);
    return EPY_OK;
}

/* The pool of event loops: groups of one executor each, so that a loop stays on a thread.  With
 * several interpreters each has one, as code and data of its processes are there, and the main
 * one as well, for modules that load nowhere else. */
static int ensure_async_pool(const epy_plan *plan, int n)
{
    epy_pool *pool = epy_pool_find(epy_atom.async);
    int r = EPY_OK, have = 0;
    if (!pool)
        pool = epy_pool_new(epy_atom.async);
    if (plan->subinterps)
        n = plan->subinterps + 1;
    while (have < EPY_POOL_GROUPS_MAX && atomic_load(&pool->groups[have]))
        have++; /* by this start or earlier ones, which had other numbers */
    epy_pool_set_count(pool, have);
    for (int i = 0; r == EPY_OK && i < n; i++)
        r = place_async_group(pool, i, async_interp(plan, i));
    if (r == EPY_OK)
        epy_pool_set_count(pool, n);
    return r;
}

/* The pool `main` is the default one, where that is on the main interpreter. */
static int alias_main_pool(void)
{
    if (epy_pool_find(epy_atom.main_pool))
        return EPY_OK;
    return add_to_pool(epy_pool_new(epy_atom.main_pool), atomic_load(&epy_pool_default->groups[0]));
}

/* Makes what the plan asks for; what is there already stays. */
static int apply(const epy_config *config)
{
    epy_plan plan;
    epy_mode_plan(config, &plan);
    atomic_store(&runtime.eager, plan.eager);
    atomic_store(&runtime.max_spares, config->max_spare_executors);
    atomic_store(&runtime.executors, plan.subinterps ? plan.subinterps : plan.main_executors);
    epy_request_set_telemetry(config->telemetry);
    epy_semaphore_set_timeout(config->acquire_timeout);
    epy_semaphore_set_max(NULL, config->max_concurrent);
    /* The default pool comes first in the table. */
    int r = plan.subinterps ? ensure_subinterps(plan.subinterps)
                            : ensure_main_pool(epy_atom.default_, plan.main_executors, true);
    if (r == EPY_OK)
        r = ensure_main_pool(epy_atom.io, config->io_pool_size, false);
    if (r == EPY_OK)
        r = plan.subinterps ? ensure_main_pool(epy_atom.main_pool, plan.main_executors, false)
                            : alias_main_pool();
    return r == EPY_OK ? ensure_async_pool(&plan, config->num_async_workers) : r;
}

/* ---- replies ---- */

static ERL_NIF_TERM error_text(ErlNifEnv *env)
{
    return epy_error_term(env, epy_binary_term(env, runtime.error, strlen(runtime.error)));
}

static void answer(command *cmd, ERL_NIF_TERM reply)
{
    /* Fails when the process that asked is gone; nobody else wants to know. */
    (void)enif_send(NULL, &cmd->from, cmd->env,
                    enif_make_tuple3(cmd->env, epy_atom.py_runtime, cmd->ref, reply));
}

/* ---- the application's start and stop, on the runtime's thread ---- */

/* INITING or STOPPED, or RUNNING when the process that started it died, ->
 * RUNNING; STOPPED when something ran short; or FAILED, which is final, as Python
 * cannot be started twice.  A later start is then told the same reason. */
static void run_start(command *cmd)
{
    runtime.config = cmd->config;
    if (epy_runtime_state() == EPY_FAILED || ensure_python() < 0) {
        atomic_store(&runtime.state, EPY_FAILED);
        answer(cmd, error_text(cmd->env));
    } else if (apply(&cmd->config) < 0) {
        atomic_store(&runtime.state, EPY_STOPPED);
        answer(cmd, error_text(cmd->env));
    } else {
        atomic_store(&runtime.state, EPY_RUNNING);
        epy_loops_resume();
        answer(cmd, epy_atom.ok);
    }
}

static void each_open_group(void (*f)(epy_group *group))
{
    for (int id = 0; id < epy_group_count(); id++)
        if (epy_group_is_open(epy_group_get(id)))
            f(epy_group_get(id));
}

static bool any_busy(void)
{
    for (int id = 0; id < epy_group_count(); id++)
        if (epy_group_is_open(epy_group_get(id)) && epy_executors_busy(epy_group_get(id)))
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

static void refuse_queued(epy_group *group)
{
    epy_group_refuse_queued(NULL, group, epy_atom.not_running);
}

static void cancel_running(epy_request *req, void *arg)
{
    (void)arg;
    uint64_t id = epy_request_id(req);
    if (epy_request_state(req) == EPY_REQ_RUNNING)
        (void)epy_cancel_reply(NULL, id, epy_atom.cancelled); /* false: it has just ended */
}

/* What was cancelled before and runs all the same: it had its time. */
static void remind_cancelled(epy_group *group)
{
    for (epy_executor *ex = atomic_load(&group->executors); ex; ex = ex->next) {
        epy_request *req = atomic_load(&ex->current);
        if (req && epy_request_state(req) == EPY_REQ_CANCELLED)
            epy_interrupt_remind(ex);
    }
}

/* Of threads and tasks that Python started.  Those that requests wait for may go on until then. */
static void end_calls(void)
{
    for (int id = 0; id < EPY_INTERPS_MAX; id++) {
        epy_interp *interp = epy_runtime_interp(id);
        if (interp)
            epy_calls_end(interp, false);
    }
}

/* R8: what waits is refused, what runs may end, and what does not is cancelled.
 * A request that sits in a C call even then is left to itself. */
static void drain(void)
{
    epy_pipes_close(NULL);
    epy_semaphore_recheck(NULL);
    each_open_group(refuse_queued);
    bool idle = wait_idle();
    end_calls();
    if (idle && !epy_loops_have_tasks())
        return;
    each_open_group(remind_cancelled);
    epy_request_each(cancel_running, NULL);
    (void)wait_idle();
}

static void close_pool(epy_pool *pool)
{
    for (int i = 0; i < atomic_load(&pool->count); i++) {
        epy_group *group = atomic_load(&pool->groups[i]);
        atomic_store(&pool->groups[i], NULL);
        epy_group_close(group);
    }
    epy_pool_free(pool);
    epy_routes_forget(pool);
}

static bool is_built_in(ERL_NIF_TERM name)
{
    return name == epy_atom.default_ || name == epy_atom.io || name == epy_atom.main_pool ||
           name == epy_atom.async;
}

static void close_if_context(epy_group *group)
{
    if (!group->pool)
        epy_group_close(group);
}

/* Pools and contexts are the users'; the processes that stand for them are gone. */
static void close_users(void)
{
    for (int i = 0; i < EPY_POOLS_MAX; i++) {
        epy_pool *pool = epy_pool_at(i);
        if (atomic_load(&pool->name) && !is_built_in(atomic_load(&pool->name)))
            close_pool(pool);
    }
    each_open_group(close_if_context);
    epy_routes_forget_users();
}

static void run_stop(command *cmd)
{
    if (move(EPY_RUNNING, EPY_SHUTTING_DOWN)) {
        drain();
        close_users();
        atomic_store(&runtime.state, EPY_STOPPED);
    }
    answer(cmd, epy_atom.ok);
}

/* ---- contexts and pools ---- */

/* The limit comes last, so that the interpreter is there before it holds. */
static epy_group *open_own(const command *cmd)
{
    epy_group *group = open_subinterp(NULL, true, cmd->fixed);
    if (group && epy_memory_set_limit(&group->interp->memory, cmd->memory_limit, runtime.error,
                                      sizeof runtime.error) < 0) {
        epy_group_close(group);
        return NULL;
    }
    return group;
}

static epy_group *open_context(const command *cmd)
{
    unsigned life;
    epy_group *near;
    if (!epy_runtime_is_running()) {
        fail(EPY_ESTATE, "the application does not run");
        return NULL;
    }
    if (cmd->memory_limit && cmd->place != EPY_PLACE_OWN) {
        fail(EPY_ESTATE, "a memory limit needs an interpreter of its own (mode owngil)");
        return NULL;
    }
    switch (cmd->place) {
    case EPY_PLACE_OWN: return open_own(cmd);
    case EPY_PLACE_MAIN: return open_on(&runtime.slots[0], NULL, 1, cmd->fixed);
    default:
        near = epy_pool_spread(epy_pool_default, &life);
        return open_on(near->interp, NULL, 1, cmd->fixed);
    }
}

static void run_open_context(command *cmd)
{
    epy_group *group = open_context(cmd);
    if (!group) {
        answer(cmd, error_text(cmd->env));
        return;
    }
    unsigned life = atomic_load(&group->life);
    answer(cmd, enif_make_tuple2(cmd->env, epy_atom.ok,
                                 epy_namespace_make(cmd->env, group, life, true)));
}

static void run_close_context(command *cmd)
{
    epy_group_close_shut(cmd->group);
}

static int fill_pool(epy_pool *pool, int size, epy_place place)
{
    int r = EPY_OK;
    if (place == EPY_PLACE_MAIN)
        return add_to_pool(pool, open_on(&runtime.slots[0], pool, size, false));
    for (int i = 0; r == EPY_OK && i < size; i++)
        r = add_to_pool(pool, open_subinterp(pool, true, false));
    return r;
}

static int open_pool(const command *cmd)
{
    bool several = atomic_load(&epy_pool_default->groups[0])->interp->id != 0;
    epy_place place = cmd->place != EPY_PLACE_AUTO ? cmd->place
                      : several                    ? EPY_PLACE_OWN
                                                   : EPY_PLACE_MAIN;
    if (!epy_runtime_is_running())
        return fail(EPY_ESTATE, "the application does not run");
    epy_pool *pool = epy_pool_new(cmd->name);
    if (!pool)
        return fail(EPY_ENOMEM, "there is such a pool, or there are %d others", EPY_POOLS_MAX);
    int r = fill_pool(pool, cmd->size, place);
    if (r < 0)
        close_pool(pool);
    return r;
}

static void run_open_pool(command *cmd)
{
    answer(cmd, open_pool(cmd) < 0 ? error_text(cmd->env) : epy_atom.ok);
}

static void run_close_pool(command *cmd)
{
    epy_pool *pool = epy_pool_find(cmd->name);
    if (!pool || is_built_in(cmd->name)) {
        fail(EPY_ESTATE, pool ? "this pool cannot be closed" : "there is no such pool");
        answer(cmd, error_text(cmd->env));
        return;
    }
    close_pool(pool);
    answer(cmd, epy_atom.ok);
}

static void run_give_slot(command *cmd)
{
    (void)cmd;
    epy_semaphore_release(NULL);
}

/* ---- commands ---- */

static void free_command(command *cmd)
{
    if (cmd->env)
        enif_free_env(cmd->env);
    enif_free(cmd);
}

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
            free_command(cmd);
        } else
            epy_idle_wait(&runtime.idle, epy_queue_ready, &runtime.commands, 0, -1);
    }
    return NULL;
}

/* A command with a reply to the calling process, or without one when env is NULL. */
static command *new_command(ErlNifEnv *env, ERL_NIF_TERM ref, void (*run)(command *))
{
    command *cmd = enif_alloc(sizeof *cmd); /* aborts the VM rather than return NULL */
    *cmd = (command){.run = run};
    if (env) {
        cmd->env = enif_alloc_env();
        cmd->ref = enif_make_copy(cmd->env, ref);
        enif_self(env, &cmd->from);
    }
    return cmd;
}

/* The same for one that makes sense only while the application runs; else NULL. */
static command *new_running(ErlNifEnv *env, ERL_NIF_TERM ref, void (*run)(command *))
{
    return epy_runtime_is_running() ? new_command(env, ref, run) : NULL;
}

static int post(command *cmd)
{
    epy_queue_push(&runtime.commands, &cmd->node);
    epy_idle_notify(&runtime.idle);
    return EPY_OK;
}

int epy_runtime_start(ErlNifEnv *env, ERL_NIF_TERM ref, const epy_config *config)
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
    command *cmd = new_command(env, ref, run_start);
    cmd->config = *config;
    return post(cmd);
}

/* Has Python been started, so that there is a runtime's thread that takes commands? */
static bool takes_commands(void)
{
    epy_state state = epy_runtime_state();
    return state != EPY_UNINIT && state != EPY_INITING && state != EPY_FAILED;
}

int epy_runtime_stop(ErlNifEnv *env, ERL_NIF_TERM ref)
{
    return takes_commands() ? post(new_command(env, ref, run_stop)) : EPY_ESTATE;
}

int epy_runtime_open_context(ErlNifEnv *env, ERL_NIF_TERM ref, epy_place place, bool fixed,
                             uint64_t memory_limit)
{
    command *cmd = new_running(env, ref, run_open_context);
    if (!cmd)
        return EPY_ESTATE;
    cmd->place = place;
    cmd->fixed = fixed;
    cmd->memory_limit = memory_limit;
    return post(cmd);
}

int epy_runtime_open_pool(ErlNifEnv *env, ERL_NIF_TERM ref, ERL_NIF_TERM name, int size,
                          epy_place place)
{
    command *cmd = new_running(env, ref, run_open_pool);
    if (!cmd)
        return EPY_ESTATE;
    cmd->name = name;
    cmd->size = size;
    cmd->place = place;
    return post(cmd);
}

int epy_runtime_close_pool(ErlNifEnv *env, ERL_NIF_TERM ref, ERL_NIF_TERM name)
{
    command *cmd = new_running(env, ref, run_close_pool);
    if (!cmd)
        return EPY_ESTATE;
    cmd->name = name;
    return post(cmd);
}

void epy_runtime_close_context(epy_group *group, unsigned life)
{
    if (!epy_group_shut(group, life))
        return; /* it was closed before */
    command *cmd = new_command(NULL, 0, run_close_context);
    cmd->group = group;
    (void)post(cmd);
}

void epy_runtime_give_slot(void)
{
    (void)post(new_command(NULL, 0, run_give_slot));
}
