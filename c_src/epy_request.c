/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of requests and its free list.  See epy_request.h.
 *
 * The free list is a stack of slot numbers with a tag against ABA in one word.
 * Slots are never freed, so reading `free_next` of a slot that somebody else
 * just took is harmless: the tag has changed and the exchange fails.
 */
#include "epy_request.h"

#include "epy_atoms.h"
#include "epy_namespace.h"

#include <pthread.h>
#include <stdlib.h>

#define CHUNK 256u
#define CHUNKS 65536u /* 16,777,216 requests at once */
#define STATE_BITS 3
#define STATE_MASK 7u
#define INDEX_BITS 24
#define GENERATION_MASK ((UINT64_C(1) << (64 - INDEX_BITS)) - 1) /* what an id has room for */

static _Atomic(epy_request *) chunks[CHUNKS];
static atomic_uint num_chunks;             /* written under grow_lock */
static _Atomic uint64_t free_list;         /* tag << 32 | index + 1 */
static atomic_bool telemetry;
static pthread_mutex_t grow_lock = PTHREAD_MUTEX_INITIALIZER; /* guards the growth of chunks */

static epy_request *slot(uint32_t index)
{
    epy_request *chunk = atomic_load_explicit(&chunks[index / CHUNK], memory_order_acquire);
    return chunk ? &chunk[index % CHUNK] : NULL;
}

/* ---- free list ---- */

static void push_free(epy_request *req)
{
    uint64_t old = atomic_load_explicit(&free_list, memory_order_relaxed), new;
    do {
        atomic_store_explicit(&req->free_next, (uint32_t)old, memory_order_relaxed);
        new = ((old >> 32) + 1) << 32 | (req->index + 1);
    } while (!atomic_compare_exchange_weak_explicit(&free_list, &old, new, memory_order_release,
                                                    memory_order_relaxed));
}

static epy_request *pop_free(void)
{
    uint64_t old = atomic_load_explicit(&free_list, memory_order_acquire), new;
    epy_request *req;
    do {
        if ((uint32_t)old == 0)
            return NULL;
        req = slot((uint32_t)old - 1);
        new = ((old >> 32) + 1) << 32 |
              atomic_load_explicit(&req->free_next, memory_order_relaxed);
    } while (!atomic_compare_exchange_weak_explicit(&free_list, &old, new, memory_order_acquire,
                                                    memory_order_acquire));
    return req;
}

static bool init_chunk(epy_request *chunk, uint32_t first)
{
    for (uint32_t i = 0; i < CHUNK; i++) {
        chunk[i].index = first + i;
        chunk[i].env = enif_alloc_env();
        if (!chunk[i].env) {
            while (i-- > 0)
                enif_free_env(chunk[i].env);
            return false;
        }
    }
    return true;
}

/* Adds a chunk, unless somebody gave a slot back meanwhile. */
static epy_request *grow(void)
{
    epy_request *req = NULL, *chunk = NULL;
    pthread_mutex_lock(&grow_lock);
    req = pop_free();
    uint32_t n = atomic_load(&num_chunks);
    if (req || n == CHUNKS)
        goto done;
    chunk = calloc(CHUNK, sizeof *chunk);
    if (!chunk)
        goto done;
    if (!init_chunk(chunk, n * CHUNK)) {
        free(chunk);
        goto done;
    }
    atomic_store_explicit(&chunks[n], chunk, memory_order_release);
    atomic_store(&num_chunks, n + 1);
    for (uint32_t i = CHUNK - 1; i > 0; i--)
        push_free(&chunk[i]);
    req = &chunk[0];
done:
    pthread_mutex_unlock(&grow_lock);
    return req;
}

/* ---- state ---- */

static epy_req_state state_of(uint64_t word)
{
    return (epy_req_state)(word & STATE_MASK);
}

epy_req_state epy_request_state(const epy_request *req)
{
    return state_of(atomic_load_explicit(&req->word, memory_order_acquire));
}

static bool legal(epy_req_state from, epy_req_state to)
{
    static const uint8_t next[] = {
        [EPY_REQ_FREE] = 1 << EPY_REQ_QUEUED,
        [EPY_REQ_QUEUED] = 1 << EPY_REQ_RUNNING | 1 << EPY_REQ_DONE | 1 << EPY_REQ_CANCELLED,
        [EPY_REQ_RUNNING] = 1 << EPY_REQ_DONE | 1 << EPY_REQ_CANCELLED | 1 << EPY_REQ_QUEUED,
        [EPY_REQ_DONE] = 1 << EPY_REQ_FREE,
        [EPY_REQ_CANCELLED] = 1 << EPY_REQ_FREE,
    };
    return next[from] >> to & 1;
}

static bool move(epy_request *req, uint64_t old, epy_req_state to)
{
    EPY_ASSERT(R3, legal(state_of(old), to));
    return atomic_compare_exchange_strong_explicit(&req->word, &old,
                                                   (old & ~(uint64_t)STATE_MASK) | (uint64_t)to,
                                                   memory_order_acq_rel, memory_order_acquire);
}

bool epy_request_move(epy_request *req, epy_req_state from, epy_req_state to)
{
    uint64_t old = atomic_load_explicit(&req->word, memory_order_acquire);
    return state_of(old) == from && move(req, old, to);
}

uint64_t epy_request_id(const epy_request *req)
{
    uint64_t generation = atomic_load_explicit(&req->word, memory_order_relaxed) >> STATE_BITS;
    return generation << INDEX_BITS | req->index;
}

bool epy_request_move_id(epy_request *req, uint64_t id, epy_req_state from, epy_req_state to)
{
    uint64_t old = id >> INDEX_BITS << STATE_BITS | (uint64_t)from;
    return move(req, old, to);
}

epy_request *epy_request_find(uint64_t id)
{
    uint32_t index = id & ((1u << INDEX_BITS) - 1);
    if (index / CHUNK >= CHUNKS)
        return NULL;
    epy_request *req = slot(index);
    return req && epy_request_id(req) == id ? req : NULL;
}

void epy_request_each(void (*f)(epy_request *req, void *arg), void *arg)
{
    uint32_t n = atomic_load(&num_chunks) * CHUNK;
    for (uint32_t i = 0; i < n; i++)
        f(slot(i), arg);
}

/* ---- looks from outside ---- */

/* Who sees what a later request has in a field sees as well that its slot has another
 * generation: that was stored first. */
#define SHOW(field, value) __atomic_store(&(field), &(value), __ATOMIC_RELEASE)
#define LOOK(field, value) __atomic_load(&(field), &(value), __ATOMIC_ACQUIRE)

bool epy_request_look(const epy_request *req, epy_request_view *view)
{
    view->id = epy_request_id(req);
    view->state = epy_request_state(req);
    LOOK(req->op, view->op);
    LOOK(req->caller, view->caller);
    LOOK(req->group, view->group);
    LOOK(req->slot, view->slot);
    view->number = atomic_load_explicit(&req->number, memory_order_acquire);
    return epy_request_id(req) == view->id;
}

void epy_request_set_group(epy_request *req, epy_group *group, unsigned life)
{
    SHOW(req->group, group);
    req->group_life = life;
}

void epy_request_set_caller(epy_request *req, ErlNifPid caller)
{
    SHOW(req->caller, caller);
}

void epy_request_set_place(epy_request *req, uint32_t number)
{
    bool slot = true;
    SHOW(req->slot, slot);
    atomic_store_explicit(&req->number, number, memory_order_release);
}

/* ---- new, reply, free ---- */

ERL_NIF_TERM epy_request_trace(unsigned flags, const ERL_NIF_TERM *terms, int *arity)
{
    return flags & EPY_TRACED && *arity > 0 ? terms[--*arity] : 0;
}

/* All that a request has beside its terms. */
static void set_up(epy_request *req, epy_op op, epy_manner manner)
{
    bool slot = false;
    SHOW(req->op, op);
    SHOW(req->slot, slot);
    req->manner = manner;
    req->trace = 0;
    req->flags = 0;
    req->ns = NULL;
    req->submitted_ns = req->queue_ns = req->run_ns = 0;
    req->outer = NULL;
    req->told = req->quiet = req->left = false;
    req->executor = NULL;
    req->hooks = NULL;
    req->loop = NULL;
    req->task_end = NULL;
    atomic_store_explicit(&req->parted, 0, memory_order_relaxed);
}

static void queue(epy_request *req)
{
    uint64_t word = atomic_load_explicit(&req->word, memory_order_relaxed);
    atomic_store_explicit(&req->word, word | EPY_REQ_QUEUED, memory_order_release);
}

static epy_request *take(void)
{
    epy_request *req = pop_free();
    return req ? req : grow();
}

epy_request *epy_request_plain(epy_op op, epy_manner manner, const ErlNifPid *caller)
{
    epy_request *req = take();
    if (!req)
        return NULL;
    set_up(req, op, manner);
    req->tag = epy_atom.undefined;
    for (int i = 0; i < EPY_REQ_TERMS; i++)
        req->terms[i] = epy_atom.undefined;
    epy_request_set_caller(req, *caller);
    queue(req);
    return req;
}

epy_request *epy_request_new(ErlNifEnv *caller_env, epy_op op, unsigned flags,
                             ERL_NIF_TERM tuple, bool *ok)
{
    const ERL_NIF_TERM *elements;
    int arity;
    ErlNifPid caller;
    epy_request *req = take();
    *ok = true;
    if (!req)
        return NULL;
    /* One copy of the whole tuple is cheaper than one of each element. */
    tuple = enif_make_copy(req->env, tuple);
    *ok = enif_get_tuple(req->env, tuple, &arity, &elements);
    ERL_NIF_TERM trace = *ok ? epy_request_trace(flags, elements, &arity) : 0;
    *ok = *ok && arity >= 1 && arity <= EPY_REQ_TERMS + 1;
    if (!*ok) {
        enif_clear_env(req->env);
        push_free(req);
        return NULL;
    }
    req->tag = elements[0];
    for (int i = 0; i < EPY_REQ_TERMS; i++)
        req->terms[i] = i + 1 < arity ? elements[i + 1] : epy_atom.undefined;
    set_up(req, op, EPY_SYNC);
    req->trace = trace;
    req->flags = flags;
    epy_request_set_caller(req, *enif_self(caller_env, &caller));
    queue(req);
    return req;
}

void epy_request_free(epy_request *req)
{
    if (req->hooks)
        req->hooks->over(req);
    enif_clear_env(req->env);
    if (req->ns)
        epy_namespace_put(req->ns);
    req->ns = NULL;
    uint64_t word = atomic_load_explicit(&req->word, memory_order_relaxed);
    EPY_ASSERT(R3, legal(state_of(word), EPY_REQ_FREE));
    uint64_t generation = ((word >> STATE_BITS) + 1) & GENERATION_MASK;
    atomic_store_explicit(&req->word, generation << STATE_BITS, memory_order_release);
    push_free(req);
}

void epy_request_discard(epy_request *req)
{
    (void)epy_request_move(req, EPY_REQ_QUEUED, EPY_REQ_DONE); /* nobody else knows it */
    epy_request_free(req);
}

void epy_request_set_telemetry(bool on)
{
    atomic_store(&telemetry, on);
}

bool epy_request_telemetry(void)
{
    return atomic_load_explicit(&telemetry, memory_order_relaxed);
}

ERL_NIF_TERM epy_request_message(const epy_request *req, ErlNifEnv *env, ERL_NIF_TERM result)
{
    ERL_NIF_TERM tag = env == req->env ? req->tag : enif_make_copy(env, req->tag);
    if (!epy_request_telemetry())
        return enif_make_tuple2(env, tag, result);
    return enif_make_tuple4(env, tag, result, enif_make_uint64(env, req->queue_ns),
                            enif_make_uint64(env, req->run_ns));
}

bool epy_request_reply(ErlNifEnv *env, epy_request *req, ERL_NIF_TERM result)
{
    return req->manner == EPY_UNHEARD ||
           enif_send(env, &req->caller, req->env, epy_request_message(req, req->env, result));
}
