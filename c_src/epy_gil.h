/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a GIL is held just now: what CPython has no function for. */
#ifndef EPY_GIL_STATE_H
#define EPY_GIL_STATE_H

#include <Python.h>

#include <stdbool.h>

/* A hint, for any thread: nobody holds the GIL of this interpreter, or it has none.
 * False where that cannot be told. */
bool epy_gil_is_free(PyInterpreterState *interp);

#endif
