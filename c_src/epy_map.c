/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See epy_map.h.
 *
 * The emulator keeps maps of more than 32 keys as hash maps, and to make one from
 * arrays, or from a smaller map with one key more, it sorts with a pivot from the random
 * state of the scheduler.  A thread of ours is none, and the node crashes (OTP 25).
 * Adding to a hash map that is there, and removing from it, does not sort.  So large maps
 * grow from a seed that was made on a scheduler, whose keys are references that nobody
 * else has, and are removed again when there are enough others.
 */
#include "epy_map.h"

#define FLAT_MAX 32
#define SEED_SIZE (FLAT_MAX + 1)

static ErlNifEnv *seed_env;                    /* owned, for ever */
static ERL_NIF_TERM seed, seed_keys[SEED_SIZE]; /* in seed_env; constant after load */

int epy_map_init(void)
{
    seed_env = enif_alloc_env();
    if (!seed_env)
        return EPY_ENOMEM;
    for (int i = 0; i < SEED_SIZE; i++)
        seed_keys[i] = enif_make_ref(seed_env);
    return enif_make_map_from_arrays(seed_env, seed_keys, seed_keys, SEED_SIZE, &seed)
               ? EPY_OK
               : EPY_ENOMEM;
}

static bool grow(ErlNifEnv *env, ERL_NIF_TERM keys[], ERL_NIF_TERM values[], size_t n,
                 ERL_NIF_TERM *map)
{
    size_t size;
    *map = enif_make_copy(env, seed);
    for (size_t i = 0; i < n; i++)
        if (!enif_make_map_put(env, *map, keys[i], values[i], map))
            return false;
    if (!enif_get_map_size(env, *map, &size) || size != n + SEED_SIZE)
        return false;
    for (int i = 0; i < SEED_SIZE; i++)
        if (!enif_make_map_remove(env, *map, seed_keys[i], map))
            return false;
    return true;
}

bool epy_map_make(ErlNifEnv *env, ERL_NIF_TERM keys[], ERL_NIF_TERM values[], size_t n,
                  ERL_NIF_TERM *map)
{
    return n > FLAT_MAX ? grow(env, keys, values, n, map)
                        : enif_make_map_from_arrays(env, keys, values, n, map);
}
