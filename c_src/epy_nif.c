/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NIF library: load, and the table of functions.  All of them run on normal
 * schedulers and none waits (R1); erl/py_nif.erl says what each does.
 */
#include "epy_atoms.h"
#include "epy_buffer.h"
#include "epy_call.h"
#include "epy_callback.h"
#include "epy_error.h"
#include "epy_executor.h"
#include "epy_fork.h"
#include "epy_handle.h"
#include "epy_inline.h"
#include "epy_interrupt.h"
#include "epy_lib.h"
#include "epy_loop_idle.h"
#include "epy_map.h"
#include "epy_namespace.h"
#include "epy_pipe.h"
#include "epy_pool.h"
#include "epy_route.h"
#include "epy_runtime.h"
#include "epy_semaphore.h"
#include "epy_send.h"
#include "epy_state.h"
#include "epy_stats.h"
#include "epy_submit.h"
#include "epy_trace.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static ERL_NIF_TERM make_bool(bool b)
{
    return b ? epy_atom.true_ : epy_atom.false_;
}

static ERL_NIF_TERM make_text(ErlNifEnv *env, const char *text)
{
    return epy_binary_term(env, text, strlen(text));
}

/* ---- life cycle ---- */

static ERL_NIF_TERM code_term(ErlNifEnv *env, int code)
{
    switch (code) {
    case EPY_OK: return epy_atom.ok;
    case EPY_ETHREAD: return enif_make_tuple2(env, epy_atom.error, enif_make_atom(env, "thread"));
    default: return enif_make_tuple2(env, epy_atom.error, enif_make_atom(env, "state"));
    }
}

/* start(Ref, {NumExecutors, NumSubinterps, IoPoolSize, MaxSpares, Schedulers, MaxConcurrent,
 *             AcquireTimeout, Telemetry, ErrorsFull, RedirectOutput, PythonPath,
 *             NumAsyncWorkers}) */
static ERL_NIF_TERM nif_start(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    epy_config config;
    ErlNifBinary path;
    const ERL_NIF_TERM *t;
    int n;
    (void)argc;
    if (!enif_get_tuple(env, argv[1], &n, &t) || n != 12 ||
        !enif_get_int(env, t[0], &config.num_executors) ||
        !enif_get_int(env, t[1], &config.num_subinterp_workers) ||
        !enif_get_int(env, t[2], &config.io_pool_size) ||
        !enif_get_int(env, t[3], &config.max_spare_executors) ||
        !enif_get_int(env, t[4], &config.schedulers) ||
        !enif_get_int(env, t[5], &config.max_concurrent) ||
        !enif_get_uint(env, t[6], &config.acquire_timeout) ||
        !enif_get_int(env, t[11], &config.num_async_workers) ||
        !enif_inspect_binary(env, t[10], &path) || path.size >= sizeof config.python_path)
        return enif_make_badarg(env);
    config.telemetry = t[7] == epy_atom.true_;
    config.errors_full = t[8] == epy_atom.true_;
    config.redirect_output = t[9] == epy_atom.true_;
    memcpy(config.python_path, path.data, path.size);
    config.python_path[path.size] = '\0';
    return code_term(env, epy_runtime_start(env, argv[0], &config));
}

static ERL_NIF_TERM nif_stop(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    return code_term(env, epy_runtime_stop(env, argv[0]));
}

static const char *state_name(void)
{
    static const char *const names[] = {
        [EPY_UNINIT] = "uninit",   [EPY_INITING] = "initing",
        [EPY_RUNNING] = "running", [EPY_SHUTTING_DOWN] = "shutting_down",
        [EPY_STOPPED] = "stopped", [EPY_FAILED] = "failed",
    };
    return names[epy_runtime_state()];
}

/* info() -> {Variant, Mode, Version, State, Executors, HasSubinterps, Stdlib} */
static ERL_NIF_TERM nif_info(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    (void)argv;
    return enif_make_tuple7(env, make_text(env, EPY_VARIANT), enif_make_atom(env, epy_mode_name),
                            make_text(env, Py_GetVersion()), enif_make_atom(env, state_name()),
                            enif_make_int(env, epy_runtime_executors()),
                            make_bool(epy_mode_has_subinterps),
                            make_text(env, EPY_PYTHON_STDLIB));
}

static ERL_NIF_TERM nif_stats(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    (void)argv;
    return epy_stats_term(env);
}

/* ---- contexts and pools ---- */

static bool get_place(ERL_NIF_TERM term, epy_place *place)
{
    *place = term == epy_atom.main_pool ? EPY_PLACE_MAIN
             : term == epy_atom.own     ? EPY_PLACE_OWN
                                        : EPY_PLACE_AUTO;
    return *place != EPY_PLACE_AUTO || term == epy_atom.auto_;
}

static ERL_NIF_TERM posted(int code)
{
    return code == EPY_OK ? epy_atom.ok : epy_atom.not_running;
}

/* context_open(Ref, Mode, Fixed, MemoryLimit) */
static ERL_NIF_TERM nif_context_open(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    epy_place place;
    ErlNifUInt64 limit;
    (void)argc;
    if (!get_place(argv[1], &place) || !enif_get_uint64(env, argv[3], &limit))
        return enif_make_badarg(env);
    return posted(
        epy_runtime_open_context(env, argv[0], place, argv[2] == epy_atom.true_, limit));
}

static ERL_NIF_TERM nif_context_close(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    epy_namespace *ns = epy_namespace_from(env, argv[0]);
    if (!ns || !ns->context)
        return enif_make_badarg(env);
    if (epy_namespace_close(ns))
        epy_runtime_close_context(ns->home, ns->life);
    return epy_atom.ok;
}

static ERL_NIF_TERM nif_interrupt(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    epy_namespace *ns = epy_namespace_from(env, argv[0]);
    if (!ns || !ns->context)
        return enif_make_badarg(env);
    bool open = epy_group_is(ns->home, ns->life);
    return enif_make_int(
        env, open ? epy_group_cancel_running(env, ns->home, epy_atom.cancelled) : 0);
}

static ERL_NIF_TERM nif_interp_id(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    epy_namespace *ns = epy_namespace_from(env, argv[0]);
    if (!ns)
        return enif_make_badarg(env);
    return enif_make_int(env, atomic_load(&ns->in_main) ? 0 : ns->home->interp->id);
}

/* pool_open(Ref, Name, Size, Mode) */
static ERL_NIF_TERM nif_pool_open(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    epy_place place;
    int size;
    (void)argc;
    if (!enif_is_atom(env, argv[1]) || !enif_get_int(env, argv[2], &size) || size < 1 ||
        !get_place(argv[3], &place))
        return enif_make_badarg(env);
    return posted(epy_runtime_open_pool(env, argv[0], argv[1], size, place));
}

static ERL_NIF_TERM nif_pool_close(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    if (!enif_is_atom(env, argv[1]))
        return enif_make_badarg(env);
    return posted(epy_runtime_close_pool(env, argv[0], argv[1]));
}

/* route(Module, Function, Pool) */
static ERL_NIF_TERM nif_route(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    int target = 0;
    (void)argc;
    if (!enif_is_atom(env, argv[0]) || !enif_is_atom(env, argv[1]) || !enif_is_atom(env, argv[2]))
        return enif_make_badarg(env);
    if (argv[2] == epy_atom.inline_) {
        target = EPY_ROUTE_INLINE;
    } else if (argv[2] != epy_atom.none) {
        epy_pool *pool = epy_pool_find(argv[2]);
        if (!pool)
            return epy_atom.no_pool;
        target = epy_pool_index(pool) + 1;
    }
    return epy_route_set(argv[0], argv[1], target) ? epy_atom.ok : epy_atom.full;
}

static ERL_NIF_TERM nif_routes(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    (void)argv;
    return epy_routes_term(env);
}

/* ---- requests ---- */

static ERL_NIF_TERM nif_bind(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    unsigned life;
    (void)argc;
    (void)argv;
    if (!epy_runtime_is_running())
        return epy_atom.not_running;
    epy_group *group = epy_pool_bind(epy_pool_default, &life);
    return group ? epy_namespace_make(env, group, life, false) : epy_atom.not_running;
}

static ERL_NIF_TERM nif_submit(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    return epy_submit(env, argv[0], argv[1], argv[2], argc > 3 ? argv[3] : epy_atom.undefined,
                      argc > 4 ? argv[4] : epy_atom.none);
}

static ERL_NIF_TERM nif_async(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    return epy_submit_async(env, EPY_ASYNC, argv[0], argv[1], argv[2], argv[3]);
}

static ERL_NIF_TERM nif_cast(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    return epy_submit_async(env, EPY_CAST, argv[0], argv[1], argv[2], argv[3]);
}

static ERL_NIF_TERM nif_service(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    return epy_submit_service(env, argv[0], argv[1]);
}

static ERL_NIF_TERM nif_cancel(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    uint64_t id;
    (void)argc;
    if (!epy_submit_id(env, argv[0], &id))
        return enif_make_badarg(env);
    return make_bool(epy_cancel(env, id));
}

static ERL_NIF_TERM nif_cancel_waiting(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    uint64_t id;
    (void)argc;
    if (!epy_submit_id(env, argv[0], &id))
        return enif_make_badarg(env);
    bool left = epy_cancel_waiting(env, id);
    if (left)
        epy_event_count(EPY_OVERLOADED);
    return make_bool(left);
}

static ERL_NIF_TERM nif_callback_return(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    ErlNifUInt64 serial;
    bool is;
    (void)argc;
    bool taken = epy_call_return(env, argv[0], argv[1], &is);
    if (is)
        return make_bool(taken);
    epy_executor *ex = epy_submit_frame(env, argv[0], &serial);
    if (!ex)
        return enif_make_badarg(env);
    return make_bool(epy_callback_return(ex, serial, argv[1]));
}

/* ---- admission ---- */

static ERL_NIF_TERM nif_slots(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    (void)argv;
    epy_slots slots = epy_semaphore_slots();
    return enif_make_tuple3(env, enif_make_int(env, slots.current),
                            enif_make_int(env, slots.max), enif_make_int(env, slots.waiting));
}

static ERL_NIF_TERM nif_set_max(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    int max;
    (void)argc;
    if (!enif_get_int(env, argv[0], &max) || max < 1)
        return enif_make_badarg(env);
    epy_semaphore_set_max(env, max);
    return epy_atom.ok;
}

static ERL_NIF_TERM nif_set_acquire_timeout(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    unsigned ms;
    (void)argc;
    if (!enif_get_uint(env, argv[0], &ms))
        return enif_make_badarg(env);
    epy_semaphore_set_timeout(ms);
    return epy_atom.ok;
}

static ERL_NIF_TERM nif_release(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    epy_namespace *ns = epy_namespace_from(env, argv[0]);
    if (!ns)
        return enif_make_badarg(env);
    int held = atomic_load(&ns->slots);
    while (held > 0)
        if (atomic_compare_exchange_weak(&ns->slots, &held, held - 1)) {
            epy_semaphore_release(env);
            return epy_atom.true_;
        }
    return epy_atom.false_;
}

/* ---- values ---- */

static ERL_NIF_TERM nif_is_handle(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    return make_bool(epy_handle_is(env, argv[0]));
}

/* frame_atom(Binary) -> Atom: the name of a function or module in a stack trace. */
static ERL_NIF_TERM nif_frame_atom(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    ErlNifBinary bin;
    (void)argc;
    if (!enif_inspect_binary(env, argv[0], &bin))
        return enif_make_badarg(env);
    ERL_NIF_TERM atom = epy_atom_from_utf8((const char *)bin.data, bin.size);
    return atom ? atom : enif_make_atom(env, "-");
}

/* ---- shared state ---- */

static ERL_NIF_TERM nif_cell_new(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    return epy_cell_new(env, argv[0]);
}

static ERL_NIF_TERM nif_cell_get(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    return epy_cell_get(env, argv[0]);
}

static ERL_NIF_TERM nif_cell_set(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    return epy_cell_set(env, argv[0], argv[1]);
}

static ERL_NIF_TERM nif_cell_add(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    return epy_cell_add(env, argv[0], argv[1]);
}

static ERL_NIF_TERM nif_cell_kill(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    return epy_cell_kill(env, argv[0]);
}

static ERL_NIF_TERM nif_is_cell_value(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    return make_bool(epy_cell_is_value(env, argv[0]));
}

static ERL_NIF_TERM nif_cells_reset(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)env;
    (void)argc;
    (void)argv;
    epy_cells_reset();
    return epy_atom.ok;
}

/* ---- logs and traces ---- */

static ERL_NIF_TERM backlog_done(ErlNifEnv *env, epy_backlog backlog, ERL_NIF_TERM term)
{
    unsigned n;
    if (!enif_get_uint(env, term, &n))
        return enif_make_badarg(env);
    return enif_make_uint(env, epy_backlog_done(backlog, n));
}

static ERL_NIF_TERM nif_log_done(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    return backlog_done(env, EPY_BACKLOG_LOG, argv[0]);
}

static ERL_NIF_TERM nif_span_done(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    return backlog_done(env, EPY_BACKLOG_SPANS, argv[0]);
}

static ERL_NIF_TERM nif_set_tracing(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    if (argv[0] != epy_atom.true_ && argv[0] != epy_atom.false_)
        return enif_make_badarg(env);
    epy_trace_enable(argv[0] == epy_atom.true_);
    return epy_atom.ok;
}

/* ---- event loops ---- */

static ERL_NIF_TERM nif_loop_new(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    return epy_loop_new(env, argv[0]);
}

static ERL_NIF_TERM nif_loop_count(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    (void)argv;
    return epy_loop_count(env);
}

static ERL_NIF_TERM nif_loop_ready(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    return epy_loop_ready(env, argv[0]);
}

static ERL_NIF_TERM nif_loop_serve(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    return epy_loop_serve(env, argv[0]);
}

static ERL_NIF_TERM nif_loop_close(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    return epy_loop_close(env, argv[0], argv[1]);
}

static ERL_NIF_TERM nif_loop_info(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    return epy_loop_info(env, argv[0]);
}

/* ---- descriptors ---- */

/* As Python words it. */
static ERL_NIF_TERM os_error(ErlNifEnv *env, int error)
{
    char text[128];
    (void)snprintf(text, sizeof text, "[Errno %d] %s", error, strerror(error));
    return epy_error_term(env, enif_make_tuple2(env, enif_make_atom(env, "OSError"), make_text(env, text)));
}

/* dup_fd(Fd) */
static ERL_NIF_TERM nif_dup_fd(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    int fd;
    (void)argc;
    if (!enif_get_int(env, argv[0], &fd))
        fd = -1; /* no descriptor has such a number */
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return copy < 0 ? os_error(env, errno)
                    : enif_make_tuple2(env, epy_atom.ok, enif_make_int(env, copy));
}

/* ---- load ---- */

/* The resource types, which belong to the module. */
static int open_types(ErlNifEnv *env)
{
    int r = epy_namespace_open(env);
    if (r == EPY_OK)
        r = epy_submit_open(env);
    if (r == EPY_OK)
        r = epy_handle_open(env);
    if (r == EPY_OK)
        r = epy_call_open(env);
    if (r == EPY_OK)
        r = epy_state_open(env);
    if (r == EPY_OK)
        r = epy_pipe_open(env);
    if (r == EPY_OK)
        r = epy_loop_open(env);
    return r == EPY_OK ? epy_buffer_open(env) : r;
}

static int load(ErlNifEnv *env, void **priv, ERL_NIF_TERM info)
{
    (void)priv;
    (void)info;
    int r = epy_lib_check();
    if (r != EPY_LOAD_OK)
        return r;
    epy_atoms_init(env);
    epy_map_init();
    if (open_types(env) < 0)
        return EPY_LOAD_NO_MEMORY;
    epy_lib_tune_malloc();
    r = epy_lib_pin();
    return r == EPY_LOAD_OK ? epy_fork_init() : r;
}

/* The module was loaded again.  The state is the process's, so only what belongs
 * to the module is made anew. */
static int upgrade(ErlNifEnv *env, void **priv, void **old_priv, ERL_NIF_TERM info)
{
    (void)priv;
    (void)old_priv;
    (void)info;
    return open_types(env) < 0 ? EPY_LOAD_NO_MEMORY : EPY_LOAD_OK;
}

static ErlNifFunc functions[] = {
    {"start", 2, nif_start, 0},
    {"stop", 1, nif_stop, 0},
    {"info", 0, nif_info, 0},
    {"stats", 0, nif_stats, 0},
    {"service", 2, nif_service, 0},
    {"context_open", 4, nif_context_open, 0},
    {"context_close", 1, nif_context_close, 0},
    {"interrupt", 1, nif_interrupt, 0},
    {"interp_id", 1, nif_interp_id, 0},
    {"pool_open", 4, nif_pool_open, 0},
    {"pool_close", 2, nif_pool_close, 0},
    {"route", 3, nif_route, 0},
    {"routes", 0, nif_routes, 0},
    {"bind", 0, nif_bind, 0},
    {"submit", 3, nif_submit, 0},
    {"submit", 5, nif_submit, 0},
    {"async", 4, nif_async, 0},
    {"cast", 4, nif_cast, 0},
    {"cancel", 1, nif_cancel, 0},
    {"cancel_waiting", 1, nif_cancel_waiting, 0},
    {"callback_return", 2, nif_callback_return, 0},
    {"slots", 0, nif_slots, 0},
    {"set_max", 1, nif_set_max, 0},
    {"set_acquire_timeout", 1, nif_set_acquire_timeout, 0},
    {"release", 1, nif_release, 0},
    {"is_handle", 1, nif_is_handle, 0},
    {"channel_new", 2, epy_pipe_nif_new, 0},
    {"channel_send", 4, epy_pipe_nif_send, 0},
    {"channel_receive", 2, epy_pipe_nif_receive, 0},
    {"channel_leave", 2, epy_pipe_nif_leave, 0},
    {"channel_close", 1, epy_pipe_nif_close, 0},
    {"channel_info", 1, epy_pipe_nif_info, 0},
    {"frame_atom", 1, nif_frame_atom, 0},
    {"cell_new", 1, nif_cell_new, 0},
    {"cell_get", 1, nif_cell_get, 0},
    {"cell_set", 2, nif_cell_set, 0},
    {"cell_add", 2, nif_cell_add, 0},
    {"cell_kill", 1, nif_cell_kill, 0},
    {"is_cell_value", 1, nif_is_cell_value, 0},
    {"cells_reset", 0, nif_cells_reset, 0},
    {"log_done", 1, nif_log_done, 0},
    {"span_done", 1, nif_span_done, 0},
    {"set_tracing", 1, nif_set_tracing, 0},
    {"loop_new", 1, nif_loop_new, 0},
    {"loop_count", 0, nif_loop_count, 0},
    {"loop_ready", 1, nif_loop_ready, 0},
    {"loop_serve", 1, nif_loop_serve, 0},
    {"loop_close", 2, nif_loop_close, 0},
    {"loop_info", 1, nif_loop_info, 0},
    {"dup_fd", 1, nif_dup_fd, 0},
};

ERL_NIF_INIT(py_nif, functions, load, NULL, upgrade, NULL)
