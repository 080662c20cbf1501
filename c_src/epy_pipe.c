/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_pipe.h. */
#include "epy_pipe.h"

#include "epy_atoms.h"
#include "epy_runtime.h"

#include <string.h>

#define WAITS_MAX 64 /* of processes, before those are looked for that are gone */

static ErlNifResourceType *type;

static struct {
    pthread_mutex_t lock; /* guards the list; taken before the locks of channels */
    epy_pipe *first;
} pipes = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- what is sent ---- */

static epy_piece *new_piece(enum epy_piece_kind kind, size_t size, size_t bytes)
{
    epy_piece *p = enif_alloc(sizeof *p + bytes);
    p->item.size = size ? size : 1; /* so that no channel takes them without end */
    p->kind = kind;
    p->offset = 0;
    return p;
}

epy_piece *epy_piece_bytes(const void *data, size_t size)
{
    epy_piece *p = new_piece(EPY_PIECE_BYTES, size, size);
    p->size = size;
    memcpy(p->bytes, data, size);
    return p;
}

epy_piece *epy_piece_term(ErlNifEnv *own_env, ERL_NIF_TERM term, size_t size)
{
    epy_piece *p = new_piece(EPY_PIECE_TERM, size, 0);
    p->env = own_env;
    p->term = term;
    return p;
}

void epy_piece_free(epy_piece *p)
{
    if (p->kind == EPY_PIECE_TERM)
        enif_free_env(p->env);
    enif_free(p);
}

bool epy_piece_inspect(const epy_piece *p, const unsigned char **data, size_t *size)
{
    ErlNifBinary bin;
    if (p->kind == EPY_PIECE_BYTES) {
        bin.data = (unsigned char *)p->bytes;
        bin.size = p->size;
    } else if (p->kind != EPY_PIECE_TERM || !enif_inspect_binary(p->env, p->term, &bin))
        return false;
    *data = bin.data + p->offset;
    *size = bin.size - p->offset;
    return true;
}

/* A message costs most of its time where it needs an environment: what is small has none. */
static epy_piece *small_piece(ErlNifEnv *env, ERL_NIF_TERM term)
{
    ErlNifSInt64 integer;
    double floating;
    ErlNifBinary bin;
    epy_piece *p = NULL;
    if (enif_is_atom(env, term)) {
        p = new_piece(EPY_PIECE_ATOM, sizeof term, 0);
        p->atom = term;
    } else if (enif_get_int64(env, term, &integer)) {
        p = new_piece(EPY_PIECE_INTEGER, sizeof integer, 0);
        p->integer = integer;
    } else if (enif_inspect_binary(env, term, &bin) && bin.size <= EPY_PIECE_SMALL) {
        p = epy_piece_bytes(bin.data, bin.size);
    } else if (enif_get_double(env, term, &floating)) {
        p = new_piece(EPY_PIECE_FLOAT, sizeof floating, 0);
        p->floating = floating;
    }
    return p;
}

static epy_piece *make_piece(ErlNifEnv *env, ERL_NIF_TERM term, size_t size)
{
    epy_piece *p = small_piece(env, term);
    if (p)
        return p;
    ErlNifEnv *own = enif_alloc_env(); /* as enif_alloc(): not NULL */
    return epy_piece_term(own, enif_make_copy(own, term), size);
}

/* A binary in env. */
static ERL_NIF_TERM piece_binary(ErlNifEnv *env, const epy_piece *p)
{
    ERL_NIF_TERM term;
    if (p->kind == EPY_PIECE_TERM) /* of a queue to Erlang, from which nobody takes a part */
        return enif_make_copy(env, p->term);
    memcpy(enif_make_new_binary(env, p->size, &term), p->bytes, p->size);
    return term;
}

static ERL_NIF_TERM received(ErlNifEnv *env, const epy_piece *p)
{
    return enif_make_tuple2(env, epy_atom.ok, piece_binary(env, p));
}

/* ---- the resource ---- */

static void enlist(epy_pipe *pipe)
{
    pthread_mutex_lock(&pipes.lock);
    pipe->next = pipes.first;
    pipe->link = &pipes.first;
    if (pipe->next)
        pipe->next->link = &pipe->next;
    pipes.first = pipe;
    pthread_mutex_unlock(&pipes.lock);
}

static void delist(epy_pipe *pipe)
{
    pthread_mutex_lock(&pipes.lock);
    *pipe->link = pipe->next;
    if (pipe->next)
        pipe->next->link = pipe->link;
    pthread_mutex_unlock(&pipes.lock);
}

bool epy_pipe_close(epy_pipe *pipe, ErlNifEnv *env)
{
    bool open = epy_channel_close(&pipe->to_python, env);
    (void)epy_channel_close(&pipe->to_erlang, env); /* both were open, or none */
    return open;
}

void epy_pipes_close(ErlNifEnv *env)
{
    pthread_mutex_lock(&pipes.lock);
    for (epy_pipe *p = pipes.first; p; p = p->next)
        (void)epy_pipe_close(p, env); /* false: somebody was faster */
    pthread_mutex_unlock(&pipes.lock);
}

/* The process that made it is gone. */
static void down(ErlNifEnv *env, void *resource, ErlNifPid *pid, ErlNifMonitor *monitor)
{
    (void)pid;
    (void)monitor;
    (void)epy_pipe_close(resource, env); /* false: it is closed already */
}

static void destroy_channel(epy_channel *ch);

static void destroy(ErlNifEnv *env, void *resource)
{
    epy_pipe *pipe = resource;
    (void)env;
    delist(pipe);
    destroy_channel(&pipe->to_python);
    destroy_channel(&pipe->to_erlang);
}

int epy_pipe_open(ErlNifEnv *env)
{
    ErlNifResourceTypeInit init = {.dtor = destroy, .down = down};
    type = enif_open_resource_type_x(env, "channel", &init,
                                     ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER, NULL);
    return type ? EPY_OK : EPY_ENOMEM;
}

epy_pipe *epy_pipe_from(ErlNifEnv *env, ERL_NIF_TERM term)
{
    void *pipe;
    return enif_get_resource(env, term, type, &pipe) ? pipe : NULL;
}

void epy_pipe_keep(epy_pipe *pipe)
{
    enif_keep_resource(pipe);
}

void epy_pipe_put(epy_pipe *pipe)
{
    enif_release_resource(pipe);
}

/* ---- processes that wait ---- */

typedef struct process {
    epy_waiter waiter;
    ErlNifPid pid;    /* constant */
    ErlNifEnv *env;   /* owned: of the message */
    ERL_NIF_TERM tag; /* in env */
} process;

static process *new_process(ErlNifEnv *env, ERL_NIF_TERM tag,
                            bool (*give)(epy_waiter *w, epy_item *item, void *by))
{
    ErlNifEnv *own = enif_alloc_env();
    process *p = enif_alloc(sizeof *p);
    *p = (process){.waiter = {.give = give}, .env = own, .tag = enif_make_copy(own, tag)};
    enif_self(env, &p->pid);
    return p;
}

static void free_process(process *p)
{
    enif_free_env(p->env);
    enif_free(p);
}

/* {Tag, What}; false: the process is gone. */
static bool send_process(process *p, ERL_NIF_TERM what, ErlNifEnv *caller)
{
    bool sent = enif_send(caller, &p->pid, p->env, enif_make_tuple2(p->env, p->tag, what));
    free_process(p);
    return sent;
}

static bool give_item(epy_waiter *w, epy_item *item, void *caller)
{
    process *p = EPY_CONTAINER(w, process, waiter);
    if (!item)
        return send_process(p, epy_atom.closed, caller);
    epy_piece *piece = EPY_CONTAINER(item, epy_piece, item);
    bool sent = send_process(p, received(p->env, piece), caller);
    if (sent)
        epy_piece_free(piece);
    return sent;
}

static bool give_room(epy_waiter *w, epy_item *item, void *caller)
{
    (void)item;
    return send_process(EPY_CONTAINER(w, process, waiter), epy_atom.room, caller);
}

static bool is_process(const epy_waiter *w)
{
    return w->give == give_item || w->give == give_room;
}

static bool is_gone(epy_waiter *w, void *env)
{
    return is_process(w) && !enif_is_process_alive(env, &EPY_CONTAINER(w, process, waiter)->pid);
}

static bool has_tag(epy_waiter *w, void *tag)
{
    return is_process(w) &&
           enif_is_identical(EPY_CONTAINER(w, process, waiter)->tag, *(ERL_NIF_TERM *)tag);
}

static bool remove_one(epy_channel *ch, bool (*is)(epy_waiter *w, void *arg), void *arg)
{
    epy_waiter *w = epy_channel_remove(ch, is, arg);
    if (w)
        free_process(EPY_CONTAINER(w, process, waiter));
    return w != NULL;
}

/* Those that were killed while they waited shall not pile up where nothing is ever sent. */
static void forget_gone(ErlNifEnv *env, epy_pipe *pipe)
{
    if (atomic_fetch_add(&pipe->waits, 1) + 1 < WAITS_MAX)
        return;
    atomic_store(&pipe->waits, 0);
    while (remove_one(&pipe->to_python, is_gone, env) ||
           remove_one(&pipe->to_erlang, is_gone, env))
        continue;
}

static bool is_any(epy_waiter *w, void *arg)
{
    (void)arg;
    EPY_ASSERT(R8, is_process(w)); /* the others keep the resource */
    return true;
}

/* A process that waited would have the term: it is gone. */
static void destroy_channel(epy_channel *ch)
{
    epy_item *item;
    while (remove_one(ch, is_any, NULL))
        continue;
    while ((item = epy_channel_take_rest(ch)))
        epy_piece_free(EPY_CONTAINER(item, epy_piece, item));
    epy_channel_fini(ch);
}

/* ---- natives ---- */

/* A number of bytes, or `infinity`. */
static bool get_max_size(ErlNifEnv *env, ERL_NIF_TERM term, size_t *size)
{
    ErlNifUInt64 n;
    *size = SIZE_MAX;
    if (term == epy_atom.infinity)
        return true;
    if (!enif_get_uint64(env, term, &n) || n < 1)
        return false;
    *size = n;
    return true;
}

/* channel_new(Kind, MaxSize) */
ERL_NIF_TERM epy_pipe_nif_new(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    int kind;
    size_t max_size;
    ErlNifPid self;
    (void)argc;
    if (!enif_get_int(env, argv[0], &kind) || kind < EPY_PIPE_TERMS || kind > EPY_PIPE_FILE ||
        !get_max_size(env, argv[1], &max_size))
        return enif_make_badarg(env);
    epy_pipe *pipe = enif_alloc_resource(type, sizeof *pipe);
    pipe->kind = (epy_pipe_kind)kind;
    epy_channel_init(&pipe->to_python, max_size);
    epy_channel_init(&pipe->to_erlang, max_size);
    atomic_init(&pipe->waits, 0);
    enlist(pipe);
    ERL_NIF_TERM term = enif_make_resource(env, pipe);
    if (enif_monitor_process(env, pipe, enif_self(env, &self), NULL) != 0)
        (void)epy_pipe_close(pipe, env); /* its maker is being killed just now */
    enif_release_resource(pipe);
    return epy_runtime_is_running() ? term : epy_atom.not_running; /* a stop closes what it finds */
}

static ERL_NIF_TERM code_term(epy_channel_code code, ERL_NIF_TERM not_now)
{
    switch (code) {
    case EPY_CHANNEL_DONE: return epy_atom.ok;
    case EPY_CHANNEL_CLOSED: return epy_atom.closed;
    default: return not_now;
    }
}

/* A process that does not stand in line is not needed any more. */
static epy_waiter *line_up(ErlNifEnv *env, epy_pipe *pipe, ERL_NIF_TERM tag,
                           bool (*give)(epy_waiter *w, epy_item *item, void *by))
{
    if (tag == epy_atom.none)
        return NULL;
    forget_gone(env, pipe);
    return &new_process(env, tag, give)->waiter;
}

static void line_done(epy_waiter *w, epy_channel_code code)
{
    if (w && code != EPY_CHANNEL_NOT_NOW)
        free_process(EPY_CONTAINER(w, process, waiter));
}

/* channel_send(Channel, Term, Size, Tag | none) */
ERL_NIF_TERM epy_pipe_nif_send(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    ErlNifUInt64 size;
    (void)argc;
    epy_pipe *pipe = epy_pipe_from(env, argv[0]);
    if (!pipe || !enif_get_uint64(env, argv[2], &size) ||
        (pipe->kind != EPY_PIPE_TERMS && !enif_is_binary(env, argv[1])))
        return enif_make_badarg(env);
    epy_waiter *w = line_up(env, pipe, argv[3], give_room);
    epy_piece *piece = make_piece(env, argv[1], size);
    epy_channel_code code = epy_channel_put(&pipe->to_python, &piece->item, w, env);
    line_done(w, code);
    if (code != EPY_CHANNEL_DONE)
        epy_piece_free(piece);
    return code_term(code, epy_atom.busy);
}

/* channel_receive(Channel, Tag | none) */
ERL_NIF_TERM epy_pipe_nif_receive(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    epy_item *item;
    (void)argc;
    epy_pipe *pipe = epy_pipe_from(env, argv[0]);
    if (!pipe || pipe->kind != EPY_PIPE_BYTES)
        return enif_make_badarg(env);
    epy_waiter *w = line_up(env, pipe, argv[1], give_item);
    epy_channel_code code = epy_channel_get(&pipe->to_erlang, &item, w, env);
    line_done(w, code);
    if (code != EPY_CHANNEL_DONE)
        return code_term(code, epy_atom.empty);
    epy_piece *piece = EPY_CONTAINER(item, epy_piece, item);
    ERL_NIF_TERM term = received(env, piece);
    epy_piece_free(piece);
    return term;
}

/* channel_leave(Channel, Tag) */
ERL_NIF_TERM epy_pipe_nif_leave(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    ERL_NIF_TERM tag = argv[1];
    epy_pipe *pipe = epy_pipe_from(env, argv[0]);
    if (!pipe)
        return enif_make_badarg(env);
    bool left = remove_one(&pipe->to_python, has_tag, &tag) ||
                remove_one(&pipe->to_erlang, has_tag, &tag);
    return left ? epy_atom.true_ : epy_atom.false_;
}

ERL_NIF_TERM epy_pipe_nif_close(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    epy_pipe *pipe = epy_pipe_from(env, argv[0]);
    if (!pipe)
        return enif_make_badarg(env);
    (void)epy_pipe_close(pipe, env); /* a second time does nothing */
    return epy_atom.ok;
}

static ERL_NIF_TERM facts_term(ErlNifEnv *env, epy_channel_facts f)
{
    return enif_make_tuple3(env, enif_make_uint64(env, f.size), enif_make_uint64(env, f.count),
                            enif_make_uint64(env, f.receivers));
}

/* channel_info(Channel) -> {Kind, Closed, MaxSize, To, To}, To being {Size, Count, Waiting} */
ERL_NIF_TERM epy_pipe_nif_info(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    epy_pipe *pipe = epy_pipe_from(env, argv[0]);
    if (!pipe)
        return enif_make_badarg(env);
    epy_channel_facts to_python = epy_channel_look(&pipe->to_python);
    ERL_NIF_TERM max = to_python.max_size == SIZE_MAX ? epy_atom.infinity
                                                      : enif_make_uint64(env, to_python.max_size);
    return enif_make_tuple5(env, enif_make_int(env, pipe->kind),
                            to_python.closed ? epy_atom.true_ : epy_atom.false_, max,
                            facts_term(env, to_python),
                            facts_term(env, epy_channel_look(&pipe->to_erlang)));
}
