/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fault injection, in a build with --enable-debug: lets the n-th allocation of Python on the
 * calling thread fail, so that a test can try all paths of an error.
 */
#ifndef EPY_FAULT_H
#define EPY_FAULT_H

#include "epy.h"

#ifdef EPY_DEBUG

/* Puts a counter in front of Python's allocators.  Between Py_PreInitialize and
 * Py_InitializeFromConfig. */
void epy_fault_install(void);

/* The n-th allocation from here on fails; the ones before and after it do not. */
EPY_GIL void epy_fault_arm(long n);

/* Ends it.  Has it failed? */
EPY_GIL bool epy_fault_disarm(void);

#else
static inline void epy_fault_install(void)
{
}
#endif

#endif
