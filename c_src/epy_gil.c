/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See epy_gil.h.  Up to 3.11 there is one GIL, and the thread state that is current in
 * the process is its holder.  From 3.12 on the GIL is found through the interpreter, by
 * CPython's own header; this is the one file that includes any such.  A free-threaded build
 * has the same word, which says that nobody holds the GIL unless a module turned it on.  It is
 * checked with the versions named here, and a later one is told nothing.
 */
#include <config.h>

#define Py_BUILD_CORE 1
#include "epy_gil.h"

#if PY_VERSION_HEX >= 0x030C0000 && PY_VERSION_HEX < 0x03100000
#include "internal/pycore_interp.h"
#endif

bool epy_gil_is_free(PyInterpreterState *interp)
{
#if PY_VERSION_HEX < 0x030C0000
    (void)interp;
    return _PyThreadState_UncheckedGet() == NULL;
#elif PY_VERSION_HEX < 0x030D0000
    return _Py_atomic_load_relaxed(&interp->ceval.gil->locked) <= 0;
#elif PY_VERSION_HEX < 0x03100000
    return _Py_atomic_load_int_relaxed(&interp->ceval.gil->locked) <= 0;
#else
    (void)interp;
    return false;
#endif
}
