/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_fault.h. */
#include "epy_fault.h"

#ifdef EPY_DEBUG

static PyMemAllocatorEx behind[2]; /* of the domains MEM and OBJ; constant after install */
static _Thread_local long left;    /* allocations to the one that fails; 0: none will */

static bool fails(void)
{
    return left > 0 && --left == 0;
}

static void *fault_malloc(void *ctx, size_t size)
{
    PyMemAllocatorEx *a = ctx;
    return fails() ? NULL : a->malloc(a->ctx, size);
}

static void *fault_calloc(void *ctx, size_t n, size_t size)
{
    PyMemAllocatorEx *a = ctx;
    return fails() ? NULL : a->calloc(a->ctx, n, size);
}

static void *fault_realloc(void *ctx, void *p, size_t size)
{
    PyMemAllocatorEx *a = ctx;
    return fails() ? NULL : a->realloc(a->ctx, p, size);
}

static void fault_free(void *ctx, void *p)
{
    PyMemAllocatorEx *a = ctx;
    a->free(a->ctx, p);
}

static void install(PyMemAllocatorDomain domain, PyMemAllocatorEx *a)
{
    PyMemAllocatorEx ours = {a, fault_malloc, fault_calloc, fault_realloc, fault_free};
    PyMem_GetAllocator(domain, a);
    PyMem_SetAllocator(domain, &ours);
}

void epy_fault_install(void)
{
    install(PYMEM_DOMAIN_MEM, &behind[0]);
    install(PYMEM_DOMAIN_OBJ, &behind[1]);
}

void epy_fault_arm(long n)
{
    left = n;
}

bool epy_fault_disarm(void)
{
    bool failed = left == 0;
    left = 0;
    return failed;
}

#endif
