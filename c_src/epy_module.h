/* SPDX-License-Identifier: Apache-2.0 */
/* The C module `_erlang`, the inner side of the Python package `erlang`. */
#ifndef EPY_MODULE_H
#define EPY_MODULE_H

#include "epy.h"

PyMODINIT_FUNC epy_module_init(void);

#endif
