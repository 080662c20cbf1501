/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_memory.h. */
#include "epy_memory.h"

#include "epy_runtime.h"

#include <malloc.h>
#include <stdlib.h>

/* malloc() gives more than it is asked for: up to a page, when it maps the block. */
#define ROUNDING 4096

static bool counted; /* constant once Python is initialized */
static PyObjectArenaAllocator arenas; /* the one that stands behind ours; likewise */

/* Who pays for what the calling thread allocates. */
static _Thread_local struct {
    epy_interp *interp;        /* or NULL: not known yet */
    bool ours;                 /* a thread of ours: interp is constant */
    bool exempt;               /* the limit does not hold just now */
    PyInterpreterState *state; /* of others: interp's, when it had this life */
    unsigned life;
} self;

/* ---- who pays ---- */

static PyThreadState *attached(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyThreadState_GetUnchecked();
#else
    return _PyThreadState_UncheckedGet();
#endif
}

/* The interpreter that this thread, none of ours, is attached to or was last; else the main
 * one, or NULL while that is being set up. */
static epy_interp *look(void)
{
    PyThreadState *ts = attached();
    PyInterpreterState *state = ts ? PyThreadState_GetInterpreter(ts) : self.state;
    if (self.interp && self.state == state && self.life == atomic_load(&self.interp->life))
        return self.interp;
    epy_interp *interp = state ? epy_runtime_interp_of(state) : NULL;
    if (!interp)
        return epy_runtime_interp(0);
    self.interp = interp;
    self.state = state;
    self.life = atomic_load(&interp->life);
    return interp;
}

static epy_memory *payer(void)
{
    epy_interp *interp = self.ours ? self.interp : look();
    return interp ? &interp->memory : NULL;
}

/* An arena is the attached interpreter's.  That is not the thread's where a thread of ours
 * creates a sub-interpreter, for which it has to attach to the main one. */
static epy_memory *arena_payer(void)
{
    epy_interp *main = epy_runtime_interp(0);
    PyThreadState *ts = attached();
    return ts && main && PyThreadState_GetInterpreter(ts) == main->state ? &main->memory : payer();
}

/* ---- counting ---- */

static void add(epy_memory *m, int64_t n)
{
    if (m)
        atomic_fetch_add_explicit(&m->used, n, memory_order_relaxed);
}

/* What `more` bytes may come to is counted before they are there, so that several threads at
 * once do not get past the limit.  How much that was, for settle(); -1: it is too much. */
static int64_t reserve(epy_memory *m, int64_t more)
{
    int64_t limit = m ? atomic_load_explicit(&m->limit, memory_order_relaxed) : 0;
    if (!limit || more <= 0 || self.exempt)
        return 0;
    if (more > limit)
        return -1;
    int64_t n = more + ROUNDING;
    if (atomic_fetch_add_explicit(&m->used, n, memory_order_relaxed) + n <= limit)
        return n;
    add(m, -n);
    return -1;
}

static void settle(epy_memory *m, int64_t reserved, int64_t more)
{
    if (more != reserved)
        add(m, more - reserved);
}

static int64_t size_of(void *p)
{
    return (int64_t)malloc_usable_size(p); /* 0 of NULL */
}

/* ---- blocks: malloc() with Python's rules for zero ---- */

static void *block_malloc(void *ctx, size_t size)
{
    (void)ctx;
    epy_memory *m = payer();
    int64_t reserved = reserve(m, (int64_t)size);
    if (reserved < 0)
        return NULL;
    void *p = malloc(size ? size : 1);
    settle(m, reserved, size_of(p));
    return p;
}

static void *block_calloc(void *ctx, size_t n, size_t size)
{
    (void)ctx;
    size_t total;
    if (__builtin_mul_overflow(n, size, &total) || total > PTRDIFF_MAX)
        return NULL;
    epy_memory *m = payer();
    int64_t reserved = reserve(m, (int64_t)total);
    if (reserved < 0)
        return NULL;
    void *p = calloc(total ? total : 1, 1);
    settle(m, reserved, size_of(p));
    return p;
}

static void *block_realloc(void *ctx, void *p, size_t size)
{
    (void)ctx;
    epy_memory *m = payer();
    int64_t old = size_of(p);
    int64_t reserved = reserve(m, (int64_t)size - old);
    if (reserved < 0)
        return NULL;
    void *q = realloc(p, size ? size : 1);
    settle(m, reserved, q ? size_of(q) - old : 0); /* NULL: p is still there */
    return q;
}

static void block_free(void *ctx, void *p)
{
    (void)ctx;
    if (!p)
        return;
    int64_t n = size_of(p);
    free(p);
    add(payer(), -n);
}

/* ---- arenas, and the stacks of frames ---- */

static void *arena_alloc(void *ctx, size_t size)
{
    (void)ctx;
    epy_memory *m = arena_payer();
    int64_t reserved = reserve(m, (int64_t)size);
    if (reserved < 0)
        return NULL;
    void *p = arenas.alloc(arenas.ctx, size);
    settle(m, reserved, p ? (int64_t)size : 0);
    return p;
}

static void arena_free(void *ctx, void *p, size_t size)
{
    (void)ctx;
    arenas.free(arenas.ctx, p, size);
    if (p)
        add(arena_payer(), -(int64_t)size);
}

/* ---- installing ---- */

static void replace(PyMemAllocatorDomain domain)
{
    PyMemAllocatorEx ours = {NULL, block_malloc, block_calloc, block_realloc, block_free};
    PyMem_SetAllocator(domain, &ours);
}

void epy_memory_install(void)
{
    PyMemAllocatorEx raw, mem, obj;
    if (!epy_mode_has_subinterps)
        return; /* nobody can have a limit */
    PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &raw);
    PyMem_GetAllocator(PYMEM_DOMAIN_MEM, &mem);
    PyMem_GetAllocator(PYMEM_DOMAIN_OBJ, &obj);
    /* Only debug hooks have a context, and what they return is no block of malloc().
     * mimalloc, unlike malloc and pymalloc, has two sets of functions. */
    if (raw.ctx || mem.malloc != obj.malloc)
        return;
    if (mem.malloc == raw.malloc) { /* PYTHONMALLOC=malloc: there are no arenas */
        replace(PYMEM_DOMAIN_MEM);
        replace(PYMEM_DOMAIN_OBJ);
    }
    replace(PYMEM_DOMAIN_RAW);
    PyObject_GetArenaAllocator(&arenas);
    PyObjectArenaAllocator ours = {NULL, arena_alloc, arena_free};
    PyObject_SetArenaAllocator(&ours);
    counted = true;
}

bool epy_memory_is_counted(void)
{
    return counted;
}

void epy_memory_init(epy_memory *memory)
{
    atomic_store(&memory->limit, 0);
    atomic_store(&memory->used, 0);
}

void epy_memory_enter(epy_interp *interp)
{
    self.interp = interp;
    self.ours = true;
}

PyThreadState *epy_memory_enter_new_thread(epy_interp *interp)
{
    epy_memory_enter(interp);
    self.exempt = true;
    PyThreadState *ts = PyThreadState_New(interp->state);
    self.exempt = false;
    return ts;
}

/* ---- the limit ---- */

int epy_memory_set_limit(epy_memory *memory, uint64_t limit, char *error, size_t size)
{
    uint64_t used = epy_memory_used(memory);
    if (limit && !counted) {
        PyOS_snprintf(error, size, "a memory limit needs Python's own allocator; PYTHONMALLOC "
                                   "has set another");
        return EPY_ESTATE;
    }
    if (limit && used > limit) {
        PyOS_snprintf(error, size, "the memory limit is %llu bytes, and an interpreter alone "
                                   "takes %llu", (unsigned long long)limit,
                      (unsigned long long)used);
        return EPY_ENOMEM;
    }
    atomic_store(&memory->limit, limit > INT64_MAX ? INT64_MAX : (int64_t)limit);
    return EPY_OK;
}

uint64_t epy_memory_used(const epy_memory *memory)
{
    int64_t used = atomic_load_explicit(&memory->used, memory_order_relaxed);
    return used > 0 ? (uint64_t)used : 0;
}

uint64_t epy_memory_limit(const epy_memory *memory)
{
    return (uint64_t)atomic_load_explicit(&memory->limit, memory_order_relaxed);
}
