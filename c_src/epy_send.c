/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_send.h. */
#include "epy_send.h"

#include "epy_atoms.h"
#include "epy_convert.h"
#include "epy_error.h"
#include "epy_executor.h"
#include "epy_fork.h"
#include "epy_host.h"
#include "epy_inline.h"
#include "epy_request.h"
#include "epy_runtime.h"
#include "epy_term.h"
#include "epy_trace.h"

/* ---- addresses ---- */

/* The atom that a str of Python's names; 0 with an exception set. */
static ERL_NIF_TERM name_atom(PyObject *name)
{
    ERL_NIF_TERM atom = epy_atom_from_text(name);
    if (!atom)
        PyErr_Format(PyExc_ValueError, "%R is no name of a process", name);
    return atom;
}

static bool find_name(ERL_NIF_TERM atom, ErlNifPid *pid)
{
    return enif_whereis_pid(epy_inline_env(), atom, pid);
}

static int refuse(const epy_interp *interp, const char *format, PyObject *what)
{
    PyErr_Format(interp->objects.process_error, format, what);
    return -1;
}

/* {Name, Node} */
static int remote_name(epy_conv *c, PyObject *pair, ERL_NIF_TERM *address)
{
    ERL_NIF_TERM parts[2];
    for (int i = 0; i < 2; i++) {
        PyObject *name = PyTuple_GET_ITEM(pair, i);
        if (!PyUnicode_Check(name))
            return PyErr_Format(PyExc_TypeError, "send() takes (name, node), both of them str"), -1;
        parts[i] = name_atom(name);
        if (!parts[i])
            return -1;
    }
    *address = enif_make_tuple2(c->env, parts[0], parts[1]);
    return 0;
}

/* What stands for a process: 1 and *pid, if it is local; 0 and *address, for py_sender; -1. */
static int find_address(epy_conv *c, PyObject *dest, ErlNifPid *pid, ERL_NIF_TERM *address)
{
    if (PyUnicode_Check(dest)) {
        ERL_NIF_TERM atom = epy_atom_existing(c->env, dest); /* else nobody has it (R7) */
        return atom && find_name(atom, pid) ? 1 : refuse(c->interp, "no process is registered as %R", dest);
    }
    if (PyTuple_Check(dest) && PyTuple_GET_SIZE(dest) == 2)
        return remote_name(c, dest, address);
    if (!epy_term_get(c, dest, address) ||
        !(enif_is_pid(c->env, *address) || enif_is_ref(c->env, *address) ||
          enif_is_port(c->env, *address)))
        return PyErr_Format(PyExc_TypeError,
                            "send() takes a Pid, a name, (name, node), a Ref or a Port first, not %R",
                            (PyObject *)Py_TYPE(dest)),
               -1;
    return enif_get_local_pid(c->env, *address, pid);
}

/* ---- send ---- */

static int send_by_sender(epy_conv *c, ERL_NIF_TERM address, ERL_NIF_TERM message)
{
    ErlNifPid sender;
    ERL_NIF_TERM packed = enif_make_tuple3(c->env, epy_atom.py_send, address, message);
    if (find_name(epy_atom.py_sender, &sender) &&
        enif_send(epy_inline_env(), &sender, c->env, packed))
        return 0;
    PyErr_SetString(c->interp->objects.process_error,
                    "the application erlang_python does not run");
    return -1;
}

/* A process that has ended gets nothing, and nobody is told: as it is in Erlang. */
static int send_term(epy_conv *c, PyObject *dest, PyObject *value)
{
    ErlNifPid pid;
    ERL_NIF_TERM address, message;
    int local = find_address(c, dest, &pid, &address);
    if (local < 0 || epy_toterm(c, value, &message) < 0)
        return -1;
    if (!local)
        return send_by_sender(c, address, message);
    (void)enif_send(epy_inline_env(), &pid, c->env, message);
    return 0;
}

/* An environment for a message, kept by the thread: making one costs as much as sending. */
static ErlNifEnv *message_env(void)
{
    ErlNifEnv **kept = epy_self ? &epy_self->message_env : NULL;
    ErlNifEnv *env = kept ? *kept : NULL;
    if (!env)
        env = enif_alloc_env();
    if (kept)
        *kept = NULL; /* conversion may run Python code, which sends as well */
    if (!env)
        PyErr_NoMemory();
    return env;
}

static void message_env_done(ErlNifEnv *env)
{
    if (!epy_self || epy_self->message_env) {
        enif_free_env(env);
        return;
    }
    enif_clear_env(env);
    epy_self->message_env = env;
}

PyDoc_STRVAR(send_doc, "send(dest, term)\n--\n\n"
                       "Send a message to an Erlang process, and go on.\n\n"
                       "dest: a Pid, the name of a registered process, (name, node), a Ref that is\n"
                       "an alias, or a Port.  Raises ProcessError if no process has that name.");

static PyObject *send(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    epy_conv c;
    (void)module;
    if (n != 2)
        return PyErr_Format(PyExc_TypeError, "send() takes the destination and the message");
    if (epy_fork_check() < 0)
        return NULL;
    epy_interp *interp = epy_interp_current();
    ErlNifEnv *env = interp ? message_env() : NULL;
    if (!env)
        return NULL;
    epy_conv_init(&c, interp, env);
    int r = send_term(&c, args[0], args[1]);
    epy_conv_fini(&c);
    message_env_done(env);
    return r < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- who is where ---- */

PyDoc_STRVAR(whereis_doc, "whereis(name)\n--\n\n"
                          "The Pid or Port that is registered with this name here; None: none is.");

static PyObject *whereis(PyObject *module, PyObject *name)
{
    ErlNifPid pid;
    ErlNifPort port;
    epy_conv c;
    (void)module;
    if (!PyUnicode_Check(name))
        return PyErr_Format(PyExc_TypeError, "whereis() takes a name");
    epy_interp *interp = epy_interp_current();
    ErlNifEnv *env = interp ? message_env() : NULL;
    PyObject *result = NULL;
    if (!env)
        return NULL;
    epy_conv_init(&c, interp, env);
    ERL_NIF_TERM atom = epy_atom_existing(env, name);
    if (!atom)
        result = Py_NewRef(Py_None);
    else if (find_name(atom, &pid))
        result = epy_term_object(&c, enif_make_pid(env, &pid));
    else if (enif_whereis_port(epy_inline_env(), atom, &port))
        result = epy_term_object(&c, port.port_id);
    else
        result = Py_NewRef(Py_None);
    epy_conv_fini(&c);
    message_env_done(env);
    return result;
}

/* Who asked for what runs on the calling thread. */
static bool find_self(ErlNifPid *pid)
{
    ErlNifEnv *scheduler = epy_inline_env();
    if (scheduler)
        return enif_self(scheduler, pid) != NULL;
    epy_request *req = epy_self ? atomic_load(&epy_self->current) : NULL;
    if (req && req->op == EPY_OP_TURN)
        return epy_host_asker(epy_self->interp, pid);
    if (!req || req->manner == EPY_CAST)
        return false;
    *pid = req->caller;
    return true;
}

PyDoc_STRVAR(self_doc, "self()\n--\n\nThe Pid of the Erlang process that called this code.\n\n"
                       "Raises RuntimeError where none did: in a cast, or on a thread that Python\n"
                       "started.");

static PyObject *self(PyObject *module, PyObject *unused)
{
    ErlNifPid pid;
    epy_conv c;
    (void)module;
    (void)unused;
    epy_interp *interp = epy_interp_current();
    if (!interp)
        return NULL;
    if (!find_self(&pid))
        return PyErr_Format(PyExc_RuntimeError, "no Erlang process has called this code");
    ErlNifEnv *env = message_env();
    if (!env)
        return NULL;
    epy_conv_init(&c, interp, env);
    PyObject *result = epy_term_object(&c, enif_make_pid(env, &pid));
    epy_conv_fini(&c);
    message_env_done(env);
    return result;
}

/* ---- logs and traces ---- */

static struct {
    atomic_uint waiting, dropped;
} backlogs[EPY_BACKLOGS];

/* Not below 0: a process that begins forgets those that an earlier one had not dealt with. */
static void strike(epy_backlog which, unsigned n)
{
    unsigned waiting = atomic_load(&backlogs[which].waiting);
    while (!atomic_compare_exchange_weak(&backlogs[which].waiting, &waiting,
                                         waiting > n ? waiting - n : 0))
        continue;
}

unsigned epy_backlog_done(epy_backlog which, unsigned n)
{
    strike(which, n);
    return atomic_exchange(&backlogs[which].dropped, 0);
}

/* Counts one more, if there is room for it. */
static bool enlist(epy_backlog which)
{
    if (atomic_fetch_add(&backlogs[which].waiting, 1) < EPY_BACKLOG_MAX)
        return true;
    strike(which, 1);
    atomic_fetch_add(&backlogs[which].dropped, 1);
    return false;
}

/* (Tag, *values) to the process `name`.  1: sent; 0: dropped, or nobody is there; -1. */
static int report(epy_backlog which, ERL_NIF_TERM name, ERL_NIF_TERM tag, PyObject *const *values,
                  size_t n)
{
    ErlNifPid pid;
    epy_conv c;
    ERL_NIF_TERM terms[4] = {tag};
    epy_interp *interp = epy_interp_current();
    if (!interp)
        return -1;
    ErlNifEnv *env = message_env();
    if (!env)
        return -1;
    if (!find_name(name, &pid) || !enlist(which)) {
        message_env_done(env);
        return 0;
    }
    int r = 0;
    epy_conv_init(&c, interp, env);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = epy_toterm(&c, values[i], &terms[i + 1]);
    bool sent = r == 0 && enif_send(epy_inline_env(), &pid, env,
                                    enif_make_tuple_from_array(env, terms, (unsigned)n + 1));
    if (!sent)
        strike(which, 1);
    epy_conv_fini(&c);
    message_env_done(env);
    return r < 0 ? -1 : sent;
}

static PyObject *log_record(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    if (n != 3)
        return PyErr_Format(PyExc_TypeError, "log() takes level, message and metadata");
    int r = report(EPY_BACKLOG_LOG, epy_atom.py_logger, epy_atom.py_log, args, 3);
    return r < 0 ? NULL : PyBool_FromLong(r);
}

static PyObject *span_ended(PyObject *module, PyObject *span)
{
    (void)module;
    int r = report(EPY_BACKLOG_SPANS, epy_atom.py_tracer, epy_atom.py_span, &span, 1);
    return r < 0 ? NULL : PyBool_FromLong(r);
}

static PyObject *trace_enabled(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyBool_FromLong(epy_trace_enabled());
}

/* A cast by way of void: the signature is the one that METH_FASTCALL names. */
#define FAST(f) ((PyCFunction)(void (*)(void))(f))

static PyMethodDef functions[] = {
    {"send", FAST(send), METH_FASTCALL, send_doc},
    {"whereis", whereis, METH_O, whereis_doc},
    {"self", self, METH_NOARGS, self_doc},
    {"log", FAST(log_record), METH_FASTCALL, NULL},
    {"span_ended", span_ended, METH_O, NULL},
    {"trace_enabled", trace_enabled, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

int epy_send_init(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
