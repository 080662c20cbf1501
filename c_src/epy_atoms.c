/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See epy_atoms.h.
 *
 * The NIF interface reads and makes atoms beyond Latin-1 only from OTP 26 on;
 * the external term format does it in every release.  Both ways are taken once
 * per atom and interpreter, and cached by epy_names.
 */
#include "epy_atoms.h"

#include <string.h>

epy_atoms epy_atom;

#define EPY_ATOM_MAKE(name) epy_atom.name = enif_make_atom(env, #name);

void epy_atoms_init(ErlNifEnv *env)
{
    EPY_ATOM_LIST(EPY_ATOM_MAKE)
    epy_atom.true_ = enif_make_atom(env, "true");
    epy_atom.false_ = enif_make_atom(env, "false");
    epy_atom.main = enif_make_atom(env, "__main__");
    epy_atom.main_pool = enif_make_atom(env, "main");
    epy_atom.auto_ = enif_make_atom(env, "auto");
    epy_atom.default_ = enif_make_atom(env, "default");
    epy_atom.inline_ = enif_make_atom(env, "inline");
    epy_atom.spread = enif_make_atom(env, "$spread");
    epy_atom.output = enif_make_atom(env, "$py_output");
}

/* Tags of the external term format, erts/doc "External Term Format". */
enum { ETF_VERSION = 131, ATOM_EXT = 100, ATOM_UTF8 = 118, SMALL_ATOM_EXT = 115, SMALL_ATOM_UTF8 = 119 };

static PyObject *decode(const unsigned char *p, size_t size)
{
    const char *text = NULL;
    size_t n = 0;
    if (size >= 3 && p[0] == ETF_VERSION && (p[1] == SMALL_ATOM_EXT || p[1] == SMALL_ATOM_UTF8)) {
        n = p[2];
        text = (const char *)p + 3;
    } else if (size >= 4 && p[0] == ETF_VERSION && (p[1] == ATOM_EXT || p[1] == ATOM_UTF8)) {
        n = (size_t)p[2] << 8 | p[3];
        text = (const char *)p + 4;
    }
    if (!text || (size_t)((const char *)p + size - text) < n)
        return PyErr_Format(PyExc_SystemError, "the emulator encoded an atom in an unknown way");
    if (p[1] == ATOM_EXT || p[1] == SMALL_ATOM_EXT)
        return PyUnicode_DecodeLatin1(text, (Py_ssize_t)n, NULL);
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)n, NULL);
}

PyObject *epy_atom_text(ERL_NIF_TERM atom)
{
    PyObject *text = NULL;
    ErlNifBinary bin;
    ErlNifEnv *env = enif_alloc_env();
    if (!env)
        return PyErr_NoMemory();
    if (enif_term_to_binary(env, atom, &bin)) {
        text = decode(bin.data, bin.size);
        enif_release_binary(&bin);
    } else
        PyErr_NoMemory();
    enif_free_env(env);
    return text;
}

static ERL_NIF_TERM make(const char *utf8, size_t size, bool must_exist)
{
    unsigned char buf[4 + 4 * 255] = {ETF_VERSION, ATOM_UTF8, (unsigned char)(size >> 8),
                                      (unsigned char)size};
    ERL_NIF_TERM atom = 0;
    ErlNifEnv *env = enif_alloc_env();
    if (!env)
        return 0;
    memcpy(buf + 4, utf8, size);
    if (!enif_binary_to_term(env, buf, size + 4, &atom, must_exist ? ERL_NIF_BIN2TERM_SAFE : 0) ||
        !enif_is_atom(env, atom))
        atom = 0;
    enif_free_env(env);
    return atom;
}

static size_t characters(const char *utf8, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < size; i++)
        n += ((unsigned char)utf8[i] & 0xC0) != 0x80;
    return n;
}

ERL_NIF_TERM epy_atom_from_utf8(const char *utf8, size_t size)
{
    static atomic_int made;
    if (size > 4 * 255 || characters(utf8, size) > 255)
        return 0;
    ERL_NIF_TERM atom = make(utf8, size, true);
    if (atom || atomic_load(&made) >= EPY_NEW_ATOMS_MAX)
        return atom;
    atomic_fetch_add(&made, 1);
    return make(utf8, size, false);
}

static const char *utf8_of(PyObject *text, Py_ssize_t *size)
{
    const char *utf8 = PyUnicode_AsUTF8AndSize(text, size);
    if (!utf8)
        PyErr_Clear(); /* a lone surrogate: no atom has such a name */
    return utf8;
}

ERL_NIF_TERM epy_atom_from_text(PyObject *text)
{
    Py_ssize_t size;
    const char *utf8 = utf8_of(text, &size);
    return utf8 ? epy_atom_from_utf8(utf8, (size_t)size) : 0;
}

ERL_NIF_TERM epy_atom_existing(ErlNifEnv *env, PyObject *text)
{
    Py_ssize_t size;
    ERL_NIF_TERM atom;
    const char *utf8 = utf8_of(text, &size);
    if (!utf8 || size > 4 * 255)
        return 0;
    if (!PyUnicode_IS_ASCII(text))
        return make(utf8, (size_t)size, true);
    return enif_make_existing_atom_len(env, utf8, (size_t)size, &atom, ERL_NIF_LATIN1) ? atom : 0;
}
