/* SPDX-License-Identifier: Apache-2.0 */
/* Making maps on threads that are not schedulers. */
#ifndef EPY_MAP_H
#define EPY_MAP_H

#include "epy.h"

int epy_map_init(void); /* on a scheduler, at load */

/* As enif_make_map_from_arrays(): false when two keys are equal. */
EPY_ANY bool epy_map_make(ErlNifEnv *env, ERL_NIF_TERM keys[], ERL_NIF_TERM values[], size_t n,
                          ERL_NIF_TERM *map);

#endif
