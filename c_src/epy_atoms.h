/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Atoms: the table of those that the NIF itself uses, and the bounded way from
 * text to an atom (R7) and back.
 */
#ifndef EPY_ATOMS_H
#define EPY_ATOMS_H

#include "epy.h"

#define EPY_ATOM_LIST(X) \
    X(args) \
    X(async) \
    X(badmatch) \
    X(builtins) \
    X(buffer) \
    X(busy) \
    X(bytes) \
    X(callback) \
    X(cancel_callback) \
    X(cancelled) \
    X(case_clause) \
    X(closed) \
    X(context) \
    X(conversion) \
    X(dead) \
    X(done) \
    X(empty) \
    X(error) \
    X(exit) \
    X(full) \
    X(gil_enabled) \
    X(infinity) \
    X(io) \
    X(key) \
    X(kwargs) \
    X(locals) \
    X(moved_back) \
    X(nan) \
    X(neg_infinity) \
    X(nil) \
    X(no_loop) \
    X(no_object) \
    X(no_pool) \
    X(none) \
    X(noproc) \
    X(not_running) \
    X(ok) \
    X(overflow) \
    X(overloaded) \
    X(own) \
    X(py_async) \
    X(py_event) \
    X(py_events) \
    X(py_log) \
    X(py_loop) \
    X(py_logger) \
    X(py_output) \
    X(py_runtime) \
    X(py_send) \
    X(py_sender) \
    X(py_span) \
    X(py_tracer) \
    X(python) \
    X(refused_module) \
    X(room) \
    X(result) \
    X(thread) \
    X(undefined) \
    X(value) \
    X(waiting)

#define EPY_ATOM_FIELD(name) ERL_NIF_TERM name;
typedef struct epy_atoms {
    EPY_ATOM_LIST(EPY_ATOM_FIELD)
    ERL_NIF_TERM true_, false_; /* stdbool.h has the plain names */
    ERL_NIF_TERM main;          /* '__main__' */
    ERL_NIF_TERM main_pool;     /* main */
    ERL_NIF_TERM auto_, default_, inline_; /* words of C */
    ERL_NIF_TERM spread;        /* '$spread' */
    ERL_NIF_TERM output;        /* '$py_output' */
} epy_atoms;

extern epy_atoms epy_atom; /* constant after load */

void epy_atoms_init(ErlNifEnv *env);

/* The text of any atom, whatever its characters. */
EPY_GIL EPY_NEWREF PyObject *epy_atom_text(ERL_NIF_TERM atom);

/* The atom of this text.  0 when it does not exist and must not be made, be it
 * that it is longer than 255 characters or that Python has made its share of
 * the node's atoms (R7).  No Python exception is set. */
EPY_GIL ERL_NIF_TERM epy_atom_from_text(PyObject *text);

/* The atom of this text if it exists, else 0.  No Python exception is set. */
EPY_GIL ERL_NIF_TERM epy_atom_existing(ErlNifEnv *env, PyObject *text);

/* As epy_atom_from_text(), of UTF-8. */
EPY_ANY ERL_NIF_TERM epy_atom_from_utf8(const char *utf8, size_t size);

#define EPY_NEW_ATOMS_MAX 65536

#endif
