/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Binaries and buffers that share their bytes.
 *
 * To Python: {buffer, Bin} is a read-only memoryview of the binary's own bytes, which an
 * object behind it keeps alive.
 *
 * To Erlang: a binary whose bytes are those of a Python object, which is kept alive until
 * Erlang forgets the binary; then the reaper drops it (R5).  Only of objects that do not
 * change any more: bytes, str, and other exporters that nobody else refers to.  Never of
 * an own interpreter, whose memory goes with it.
 */
#ifndef EPY_BUFFER_H
#define EPY_BUFFER_H

#include "epy_convert.h"

#define EPY_SHARE_SMALL ((size_t)64)         /* worth it where it is asked for */
#define EPY_SHARE_LARGE ((size_t)256 << 10)  /* worth it where it is not */

int epy_buffer_open(ErlNifEnv *env); /* registers the resource type */

/* Adds the type to the module `_erlang` and to objects. */
EPY_GIL int epy_buffer_init(PyObject *module, epy_objects *objects);

/* A memoryview of a binary. */
EPY_GIL EPY_NEWREF PyObject *epy_buffer_view(epy_conv *c, ERL_NIF_TERM binary);

/* Is it a memoryview of a whole binary that came from Erlang?  Then *term is that one. */
EPY_GIL bool epy_buffer_origin(epy_conv *c, PyObject *object, ERL_NIF_TERM *term);

/* A binary of data, which belongs to the object and never changes: shared from `least` bytes
 * on, else copied. */
EPY_GIL int epy_buffer_share(epy_conv *c, PyObject *object, const char *data, size_t size,
                             size_t least, ERL_NIF_TERM *term);

/* A binary of what the object exports, shared if that is safe.  The caller has the only
 * reference that is not in the object's own hands, if any other is there. */
EPY_GIL int epy_buffer_toterm(epy_conv *c, PyObject *object, ERL_NIF_TERM *term);

#endif
