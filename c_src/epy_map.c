/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See epy_map.h.
 *
 * To make a map of more than 32 keys from arrays, the emulator sorts their hashes, and if
 * there are more than 128 it asks its scheduler for a random pivot.  A thread of ours has
 * none, and the node crashes; that was repaired in later patches of each release (OTP-19495).
 * On an emulator before that, a larger map is made of 128 keys, and the others are put into
 * it one by one, for which nothing is sorted.
 */
#include "epy_map.h"

#include "epy_convert.h"

#include <stdio.h>
#include <string.h>

#define AT_ONCE_MAX 128
#define PARTS 4 /* of the number of a version */

/* The first version of the emulator that is repaired, by release. */
static const int repaired[][PARTS] = {{13, 2, 2, 14}, {14, 2, 5, 8}, {15, 2, 3, 0}};

static bool any_size; /* constant after load */

static bool is_repaired(const int version[PARTS])
{
    size_t n = sizeof repaired / sizeof repaired[0];
    for (size_t i = 0; i < n; i++)
        if (version[0] == repaired[i][0])
            for (int j = 1; j < PARTS; j++)
                if (version[j] != repaired[i][j])
                    return version[j] > repaired[i][j];
    return version[0] >= repaired[0][0]; /* that very version, or a later release */
}

void epy_map_init(void)
{
    ErlNifSysInfo info;
    int v[PARTS] = {0};
    enif_system_info(&info, sizeof info);
    sscanf(info.erts_version, "%d.%d.%d.%d", &v[0], &v[1], &v[2], &v[3]);
    any_size = is_repaired(v);
}

bool epy_map_at_once(size_t n)
{
    return n <= AT_ONCE_MAX || any_size || enif_thread_type() != ERL_NIF_THR_UNDEFINED;
}

/* ---- up to 32 keys ---- */

/* The order in which the map has the keys of the shape; each is there as the same word. */
static void learn(ErlNifEnv *env, epy_map_shape *shape, ERL_NIF_TERM map)
{
    ErlNifMapIterator it;
    ERL_NIF_TERM key, value;
    size_t i = 0;
    enif_map_iterator_create(env, map, &it, ERL_NIF_MAP_ITERATOR_FIRST);
    for (; enif_map_iterator_get_pair(env, &it, &key, &value); enif_map_iterator_next(env, &it)) {
        uint8_t j = 0;
        while (j < shape->n && shape->keys[j] != key)
            j++;
        if (j == shape->n)
            break;
        shape->order[i++] = j;
    }
    enif_map_iterator_destroy(env, &it);
    shape->known = i == shape->n;
}

/* The emulator sorts by insertion, and to compare two binaries takes as long as all else that
 * it does for a pair.  What comes sorted it compares once. */
static bool make_sorted(ErlNifEnv *env, epy_map_shape *shape, ERL_NIF_TERM keys[],
                        ERL_NIF_TERM values[], size_t n, ERL_NIF_TERM *map)
{
    ERL_NIF_TERM k[EPY_MAP_SORTED], v[EPY_MAP_SORTED];
    bool same = shape->n == n && !memcmp(shape->keys, keys, n * sizeof *keys);
    if (same && shape->known) {
        for (size_t i = 0; i < n; i++) {
            k[i] = keys[shape->order[i]];
            v[i] = values[shape->order[i]];
        }
        return enif_make_map_from_arrays(env, k, v, n, map);
    }
    if (!enif_make_map_from_arrays(env, keys, values, n, map))
        return false;
    if (same) {
        learn(env, shape, *map);
    } else {
        shape->n = n;
        shape->known = false;
        memcpy(shape->keys, keys, n * sizeof *keys);
    }
    return true;
}

/* ---- any number ---- */

bool epy_map_make(ErlNifEnv *env, epy_map_shape *shape, ERL_NIF_TERM keys[],
                  ERL_NIF_TERM values[], size_t n, ERL_NIF_TERM *map)
{
    size_t size, first = epy_map_at_once(n) ? n : AT_ONCE_MAX;
    epy_toterm_room(env);
    if (shape && n <= EPY_MAP_SORTED)
        return make_sorted(env, shape, keys, values, n, map);
    if (!enif_make_map_from_arrays(env, keys, values, first, map))
        return false;
    for (size_t i = first; i < n; i++) {
        epy_toterm_room(env);
        if (!enif_make_map_put(env, *map, keys[i], values[i], map))
            return false;
    }
    /* That keys are equal is told only of a map that is sorted by them. */
    return enif_get_map_size(env, *map, &size) && size == n;
}
