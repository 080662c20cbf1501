/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What Erlang has of a channel: a NIF resource with a queue to Python and, where both sides
 * send bytes, one to Erlang (epy_channel.h); what is in the queues; and the processes that wait.
 *
 * It is closed by either side, by the end of the process that made it, and by the stop of the
 * application.  What is in the queues then can still be received.
 */
#ifndef EPY_PIPE_H
#define EPY_PIPE_H

#include "epy.h"
#include "epy_channel.h"

typedef enum epy_pipe_kind { /* as py_nif:channel_new/2 has them */
    EPY_PIPE_TERMS, /* to Python */
    EPY_PIPE_BYTES, /* both ways */
    EPY_PIPE_FILE,  /* bytes to Python, whose bounds do not matter */
} epy_pipe_kind;

typedef struct epy_pipe {
    struct epy_pipe *next, **link; /* of all there are; under the lock of the list */
    epy_pipe_kind kind;            /* constant */
    epy_channel to_python, to_erlang;
    atomic_uint waits; /* of processes, since those were looked for that are gone */
} epy_pipe;

/* What is sent. */
typedef struct epy_piece {
    epy_item item;
    enum epy_piece_kind {
        EPY_PIECE_INTEGER,
        EPY_PIECE_FLOAT,
        EPY_PIECE_ATOM,
        EPY_PIECE_BYTES,
        EPY_PIECE_TERM,
    } kind;
    size_t offset; /* BYTES, or TERM that is a binary: so many were taken already */
    union {
        int64_t integer;
        double floating;
        ERL_NIF_TERM atom;
        size_t size; /* BYTES */
        struct {
            ErlNifEnv *env; /* owned */
            ERL_NIF_TERM term;
        };
    };
    unsigned char bytes[];
} epy_piece;

#define EPY_PIECE_SMALL 512 /* bytes that are copied; more are shared where that can be */

/* Aborts the VM rather than return NULL, as enif_alloc() does. */
EPY_ANY epy_piece *epy_piece_bytes(const void *data, size_t size);
EPY_ANY epy_piece *epy_piece_term(ErlNifEnv *own_env, ERL_NIF_TERM term, size_t size);
EPY_ANY void epy_piece_free(epy_piece *piece);

/* The bytes of a piece that is BYTES or a binary, without those that were taken. */
EPY_ANY bool epy_piece_inspect(const epy_piece *piece, const unsigned char **data, size_t *size);

int epy_pipe_open(ErlNifEnv *env); /* registers the resource type */

EPY_ANY epy_pipe *epy_pipe_from(ErlNifEnv *env, ERL_NIF_TERM term); /* NULL: it is none */
EPY_ANY void epy_pipe_keep(epy_pipe *pipe);
EPY_ANY void epy_pipe_put(epy_pipe *pipe);

/* env: of the calling scheduler, or NULL on other threads. */
EPY_ANY bool epy_pipe_close(epy_pipe *pipe, ErlNifEnv *env);
EPY_ANY void epy_pipes_close(ErlNifEnv *env); /* all that there are */

/* The functions of py_nif. */
ERL_NIF_TERM epy_pipe_nif_new(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);
ERL_NIF_TERM epy_pipe_nif_send(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);
ERL_NIF_TERM epy_pipe_nif_receive(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);
ERL_NIF_TERM epy_pipe_nif_leave(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);
ERL_NIF_TERM epy_pipe_nif_close(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);
ERL_NIF_TERM epy_pipe_nif_info(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

#endif
