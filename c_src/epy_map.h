/* SPDX-License-Identifier: Apache-2.0 */
/* Making maps on threads that are not schedulers. */
#ifndef EPY_MAP_H
#define EPY_MAP_H

#include "epy.h"

void epy_map_init(void); /* at load */

/* Is a map of so many keys made at once?  If not, each step leaves a piece of the one before
 * in the environment. */
EPY_ANY bool epy_map_at_once(size_t n);

#define EPY_MAP_SORTED 32 /* maps of up to so many keys are sorted by them */

/* The keys of the last such map.  The next one mostly has the same, in the same order. */
typedef struct epy_map_shape {
    size_t n;
    bool known; /* is their order as the emulator sorts them? */
    uint8_t order[EPY_MAP_SORTED];
    ERL_NIF_TERM keys[EPY_MAP_SORTED];
} epy_map_shape;

/* As enif_make_map_from_arrays(): false when two keys are equal.  shape: may be NULL. */
EPY_ANY bool epy_map_make(ErlNifEnv *env, epy_map_shape *shape, ERL_NIF_TERM keys[],
                          ERL_NIF_TERM values[], size_t n, ERL_NIF_TERM *map);

#endif
