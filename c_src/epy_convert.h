/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Conversion between terms and Python objects (R4: equal, or an error).
 *
 * Both directions go through containers with a stack of their own on the heap, so a value
 * may be nested as deeply as memory holds.  A failed conversion raises
 * erlang.ConversionError and keeps the path to the value in `where`: from the outside in,
 * the 1-based index in a list or tuple, {key, K} for a map's key, {value, K} for the value
 * at key K, `key` for a key of a dict.
 */
#ifndef EPY_CONVERT_H
#define EPY_CONVERT_H

#include "epy_atoms.h"
#include "epy_interp.h"

struct epy_terms;

typedef struct epy_conv {
    epy_interp *interp; /* attached to */
    ErlNifEnv *env;     /* where terms are read or made */
    unsigned flags;     /* EPY_BINARY_STR ...: see epy_request.h */
    struct epy_terms *terms; /* strong, or NULL: what opaque objects made here share */
    bool refused;       /* the exception that is set is a ConversionError of ours */
    ERL_NIF_TERM where; /* list of steps; [] until refused */
} epy_conv;

void epy_conv_init(epy_conv *c, epy_interp *interp, ErlNifEnv *env);
void epy_conv_fini(epy_conv *c);

/* Sets ConversionError; returns -1 for the caller to return. */
EPY_GIL int epy_conv_refuse(epy_conv *c, const char *format, ...);

/* Forgets that it refused, as the exception was dealt with. */
void epy_conv_forget(epy_conv *c);

/* Puts a step in front of the path, if the error is one of conversion. */
EPY_GIL void epy_conv_at(epy_conv *c, ERL_NIF_TERM step);
EPY_GIL void epy_conv_at_index(epy_conv *c, Py_ssize_t zero_based);
EPY_GIL void epy_conv_at_pair(epy_conv *c, ERL_NIF_TERM kind, ERL_NIF_TERM key);

EPY_GIL EPY_NEWREF PyObject *epy_topy(epy_conv *c, ERL_NIF_TERM term);

/* What a binary of these bytes is, without any of the flags. */
EPY_GIL EPY_NEWREF PyObject *epy_topy_text(const void *data, size_t size);

/* 0 and *term, or -1 with an exception set. */
EPY_GIL int epy_toterm(epy_conv *c, PyObject *object, ERL_NIF_TERM *term);

/* A binary of these bytes. */
EPY_GIL int epy_toterm_bytes(epy_conv *c, const char *data, size_t size, ERL_NIF_TERM *term);

/* Before a binary or a map: for these the emulator takes memory to the word, a block for each,
 * which costs more than to fill it.  For a cell it takes some hundred words more, if there
 * are none left, in which the next terms find their place. */
EPY_ANY static inline void epy_toterm_room(ErlNifEnv *env)
{
    enif_make_list_cell(env, epy_atom.ok, epy_atom.ok);
}

/* epy_bigint.c: integers beyond 64 bits, by way of the external term format. */
EPY_GIL EPY_NEWREF PyObject *epy_bigint_topy(epy_conv *c, ERL_NIF_TERM term);
EPY_GIL int epy_bigint_toterm(epy_conv *c, PyObject *integer, ERL_NIF_TERM *term);

/* A str, be it of an atom, a binary or a list of characters: names of modules,
 * functions, keywords.  `what` stands in the error. */
EPY_GIL EPY_NEWREF PyObject *epy_topy_name(epy_conv *c, ERL_NIF_TERM term, const char *what);

/* An array that grows: on the stack while it is short.  `few` is the room it begins with. */
typedef struct epy_room {
    void *items;
    size_t n, size; /* in use; there is room for */
    void *few;
} epy_room;

#define EPY_ROOM(array) \
    {.items = (array), .n = 0, .size = sizeof(array) / sizeof((array)[0]), .few = (array)}

/* Makes room for so many more; -1 with MemoryError set. */
EPY_GIL int epy_room_grow(epy_room *room, size_t more, size_t item_size);
EPY_GIL void epy_room_free(epy_room *room);

static inline int epy_room_for(epy_room *room, size_t more, size_t item_size)
{
    return room->size - room->n >= more ? 0 : epy_room_grow(room, more, item_size);
}

#endif
