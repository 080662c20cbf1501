/* SPDX-License-Identifier: Apache-2.0 */
/* Source text to code objects, through a cache per interpreter. */
#ifndef EPY_CODE_H
#define EPY_CODE_H

#include "epy_interp.h"

/* The code of an expression (exec false) or of statements.  Errors are those of
 * the built-in compile(): SyntaxError, also for a NUL byte, and so on. */
EPY_GIL EPY_NEWREF PyObject *epy_code_get(epy_interp *interp, const char *utf8, size_t size,
                                          bool exec);

#endif
