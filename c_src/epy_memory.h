/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much memory each interpreter has, and a limit to it.
 *
 * Python takes memory from two places: blocks from malloc(), and arenas, which its own
 * allocator cuts small objects from.  We stand in front of both and add up, for each
 * interpreter, what is there.  Past the limit an allocation fails, and Python raises
 * MemoryError.  An interpreter with a GIL of its own shares no arena with others, so that the
 * sum is its own (docs/decisions/0009-memory-limit.md).
 *
 * Nothing is written into a block, and each comes from malloc() and goes to free().  So it
 * does not matter who allocated a block, who frees it, and whether that was counted.
 *
 * Who pays: on a thread of ours its interpreter, for good.  On other threads, which Python
 * code started or which are schedulers, the interpreter that the thread is attached to, or
 * was last; the main one before that.
 */
#ifndef EPY_MEMORY_H
#define EPY_MEMORY_H

#include "epy.h"

typedef struct epy_memory {
    _Atomic int64_t used;  /* bytes; may be off by what crossed from one to another */
    _Atomic int64_t limit; /* 0: none */
} epy_memory;

/* Between Py_PreInitialize and Py_InitializeFromConfig.  Does nothing when Python was told to
 * use other allocators (PYTHONMALLOC) or has others (without a GIL). */
void epy_memory_install(void);

/* Is anything counted? */
EPY_ANY bool epy_memory_is_counted(void);

/* For another use of an interpreter's slot: nothing used, no limit. */
void epy_memory_init(epy_memory *memory);

/* From here on the calling thread's memory is that of this interpreter. */
void epy_memory_enter(epy_interp *interp);

/* The same, and a thread state in it, which the limit does not keep the thread from having;
 * NULL when there is no memory at all. */
EPY_NOGIL PyThreadState *epy_memory_enter_new_thread(epy_interp *interp);

/* Bytes, 0 for no limit.  EPY_ESTATE with a text when nothing is counted, EPY_ENOMEM when the
 * interpreter has more than that already. */
EPY_ANY int epy_memory_set_limit(epy_memory *memory, uint64_t limit, char *error, size_t size);

EPY_ANY uint64_t epy_memory_used(const epy_memory *memory);
EPY_ANY uint64_t epy_memory_limit(const epy_memory *memory);

#endif
