/* SPDX-License-Identifier: Apache-2.0 */
/* The shared libraries: which libpython this is, and that it stays loaded. */
#ifndef EPY_LIB_H
#define EPY_LIB_H

#include "epy.h"

/* What load() of the NIF returns when it refuses; erl/py_variant.erl has the texts. */
enum {
    EPY_LOAD_OK = 0,
    EPY_LOAD_OTHER_PYTHON = 1, /* another libpython is in this process (R9) */
    EPY_LOAD_NO_STDLIB = 2,    /* the standard library of this Python is not installed */
    EPY_LOAD_DLOPEN = 3,       /* the libraries could not be pinned */
    EPY_LOAD_NO_MEMORY = 4,
};

/* Checks that this Python can run here. */
int epy_lib_check(void);

/* Makes libpython's symbols visible to extension modules, many of which are not
 * linked with it, and keeps it and the NIF loaded for the life of the process,
 * as threads of ours run in both. */
int epy_lib_pin(void);

/* Lets malloc() reuse blocks of some megabytes. */
void epy_lib_tune_malloc(void);

#endif
