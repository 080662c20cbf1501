/* SPDX-License-Identifier: Apache-2.0 */
/* What both directions share.  See epy_convert.h. */
#include "epy_convert.h"

#include "epy_term.h"

#include <stdarg.h>
#include <string.h>

void epy_conv_init(epy_conv *c, epy_interp *interp, ErlNifEnv *env)
{
    *c = (epy_conv){.interp = interp, .env = env, .where = enif_make_list(env, 0)};
}

void epy_conv_fini(epy_conv *c)
{
    if (c->terms)
        epy_terms_put(c->terms);
    c->terms = NULL;
}

/* ---- errors ---- */

int epy_conv_refuse(epy_conv *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    PyErr_FormatV(c->interp->objects.conversion_error, format, args);
    va_end(args);
    c->refused = true;
    return -1;
}

void epy_conv_forget(epy_conv *c)
{
    c->refused = false;
    c->where = enif_make_list(c->env, 0);
}

void epy_conv_at(epy_conv *c, ERL_NIF_TERM step)
{
    if (c->refused)
        c->where = enif_make_list_cell(c->env, step, c->where);
}

void epy_conv_at_index(epy_conv *c, Py_ssize_t zero_based)
{
    epy_conv_at(c, enif_make_int64(c->env, zero_based + 1));
}

void epy_conv_at_pair(epy_conv *c, ERL_NIF_TERM kind, ERL_NIF_TERM key)
{
    epy_conv_at(c, enif_make_tuple2(c->env, kind, key));
}

/* ---- arrays ---- */

int epy_room_grow(epy_room *room, size_t more, size_t item_size)
{
    size_t size = room->size * 2 > room->n + more ? room->size * 2 : room->n + more;
    void *old = room->items == room->few ? NULL : room->items;
    void *items = size > PY_SSIZE_T_MAX / item_size ? NULL : PyMem_Realloc(old, size * item_size);
    if (!items) {
        PyErr_NoMemory();
        return -1;
    }
    if (!old)
        memcpy(items, room->few, room->n * item_size);
    room->items = items;
    room->size = size;
    return 0;
}

void epy_room_free(epy_room *room)
{
    if (room->items != room->few)
        PyMem_Free(room->items);
}
