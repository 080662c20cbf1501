/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NIF library: load, and the table of functions.  All of them run on normal
 * schedulers and none waits (R1); erl/py_nif.erl says what each does.
 */
#include "epy_atoms.h"
#include "epy_callback.h"
#include "epy_exec.h"
#include "epy_executor.h"
#include "epy_interrupt.h"
#include "epy_lib.h"
#include "epy_map.h"
#include "epy_namespace.h"
#include "epy_request.h"
#include "epy_runtime.h"

#include <string.h>

static ERL_NIF_TERM make_bool(bool b)
{
    return b ? epy_atom.true_ : epy_atom.false_;
}

static ERL_NIF_TERM make_text(ErlNifEnv *env, const char *text)
{
    ERL_NIF_TERM term;
    size_t n = strlen(text);
    unsigned char *p = enif_make_new_binary(env, n, &term);
    if (p)
        memcpy(p, text, n);
    return term;
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

/* start(NumExecutors, NumSubinterps, MaxSpares, Schedulers, PythonPath) */
static ERL_NIF_TERM nif_start(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    epy_config config;
    ErlNifBinary path;
    (void)argc;
    if (!enif_get_int(env, argv[0], &config.num_executors) ||
        !enif_get_int(env, argv[1], &config.num_subinterp_workers) ||
        !enif_get_int(env, argv[2], &config.max_spare_executors) ||
        !enif_get_int(env, argv[3], &config.schedulers) ||
        !enif_inspect_binary(env, argv[4], &path) || path.size >= sizeof config.python_path)
        return enif_make_badarg(env);
    memcpy(config.python_path, path.data, path.size);
    config.python_path[path.size] = '\0';
    return code_term(env, epy_runtime_start(env, &config));
}

static ERL_NIF_TERM nif_stop(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    (void)argv;
    return code_term(env, epy_runtime_stop(env));
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

static int count_executors(void)
{
    epy_plan plan;
    epy_mode_plan(epy_runtime_config(), &plan);
    return plan.subinterps ? plan.subinterps : plan.main_executors;
}

/* info() -> {Variant, Mode, Version, State, Executors, HasSubinterps, Stdlib} */
static ERL_NIF_TERM nif_info(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    (void)argv;
    return enif_make_tuple7(env, make_text(env, EPY_VARIANT), enif_make_atom(env, epy_mode_name),
                            make_text(env, Py_GetVersion()), enif_make_atom(env, state_name()),
                            enif_make_int(env, count_executors()),
                            make_bool(epy_mode_has_subinterps),
                            make_text(env, EPY_PYTHON_STDLIB));
}

/* ---- requests ---- */

static ERL_NIF_TERM nif_bind(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    (void)argv;
    if (!epy_runtime_is_running())
        return epy_atom.not_running;
    return epy_namespace_make(env, epy_runtime_pick());
}

/* Reads (Namespace, Op, {Tag, ...}) into a request; NULL with *error set. */
static epy_request *new_request(ErlNifEnv *env, const ERL_NIF_TERM argv[], ERL_NIF_TERM *error)
{
    unsigned op;
    bool ok;
    epy_namespace *ns = epy_namespace_from(env, argv[0]);
    if (!ns || !enif_get_uint(env, argv[1], &op) || op >= EPY_OP_COUNT) {
        *error = enif_make_badarg(env);
        return NULL;
    }
    if (!epy_runtime_is_running()) {
        *error = epy_atom.not_running;
        return NULL;
    }
    epy_request *req = epy_request_new(env, (epy_op)op, argv[2], &ok);
    if (!req) {
        *error = ok ? enif_raise_exception(env, enif_make_atom(env, "system_limit"))
                    : enif_make_badarg(env);
        return NULL;
    }
    req->interp = ns->interp;
    if (epy_exec_needs_namespace(req)) {
        epy_namespace_keep(ns);
        req->ns = ns;
    }
    return req;
}

static ERL_NIF_TERM submit(ErlNifEnv *env, epy_request *req)
{
    /* The id first: once queued, the request may end at any moment. */
    ERL_NIF_TERM id = enif_make_uint64(env, epy_request_id(req));
    epy_interp_submit(req->interp, req);
    return id;
}

/* submit(Namespace, Op, {Tag, ...}) */
static ERL_NIF_TERM nif_submit(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    ERL_NIF_TERM error;
    (void)argc;
    epy_request *req = new_request(env, argv, &error);
    return req ? submit(env, req) : error;
}

static epy_executor *get_frame(ErlNifEnv *env, ERL_NIF_TERM term, ErlNifUInt64 *serial)
{
    const ERL_NIF_TERM *parts;
    int arity;
    unsigned index;
    if (!enif_get_tuple(env, term, &arity, &parts) || arity != 2 ||
        !enif_get_uint(env, parts[0], &index) || !enif_get_uint64(env, parts[1], serial))
        return NULL;
    return epy_executor_find(index);
}

/* nest(Namespace, Op, {Tag, ...}, Frame) */
static ERL_NIF_TERM nif_nest(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    ERL_NIF_TERM error;
    ErlNifUInt64 serial;
    (void)argc;
    epy_executor *ex = get_frame(env, argv[3], &serial);
    if (!ex)
        return enif_make_badarg(env);
    epy_request *req = new_request(env, argv, &error);
    if (!req)
        return error;
    ERL_NIF_TERM id = enif_make_uint64(env, epy_request_id(req));
    if (ex->interp == req->interp && epy_callback_nest(ex, serial, req))
        return id;
    return submit(env, req);
}

static ERL_NIF_TERM nif_cancel(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    ErlNifUInt64 id;
    (void)argc;
    if (!enif_get_uint64(env, argv[0], &id))
        return enif_make_badarg(env);
    return make_bool(epy_cancel(id));
}

static ERL_NIF_TERM nif_callback_return(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    ErlNifUInt64 serial;
    (void)argc;
    epy_executor *ex = get_frame(env, argv[0], &serial);
    if (!ex)
        return enif_make_badarg(env);
    return make_bool(epy_callback_return(ex, serial, argv[1]));
}

/* ---- load ---- */

static int load(ErlNifEnv *env, void **priv, ERL_NIF_TERM info)
{
    (void)priv;
    (void)info;
    int r = epy_lib_check();
    if (r != EPY_LOAD_OK)
        return r;
    epy_atoms_init(env);
    if (epy_namespace_open(env) < 0 || epy_map_init() < 0)
        return EPY_LOAD_NO_MEMORY;
    return epy_lib_pin();
}

/* The module was loaded again.  The state is the process's, so only what belongs
 * to the module is made anew. */
static int upgrade(ErlNifEnv *env, void **priv, void **old_priv, ERL_NIF_TERM info)
{
    (void)priv;
    (void)old_priv;
    (void)info;
    return epy_namespace_open(env) < 0 ? EPY_LOAD_NO_MEMORY : EPY_LOAD_OK;
}

static ErlNifFunc functions[] = {
    {"start", 5, nif_start, 0},
    {"stop", 0, nif_stop, 0},
    {"info", 0, nif_info, 0},
    {"bind", 0, nif_bind, 0},
    {"submit", 3, nif_submit, 0},
    {"nest", 4, nif_nest, 0},
    {"cancel", 1, nif_cancel, 0},
    {"callback_return", 2, nif_callback_return, 0},
};

ERL_NIF_INIT(py_nif, functions, load, NULL, upgrade, NULL)
