/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the unit tests of the Python-free parts share: a check, a table of tests with a watchdog,
 * and what helgrind has to be told.
 *
 * They are to be run as they are, under ThreadSanitizer (configure --enable-sanitizer=thread),
 * which checks every access, and under helgrind.  That one takes C11 atomics for plain loads and
 * stores: where its header is installed, it is told which fields are atomic, and what happens
 * before what by way of them.  What it still checks is all else.
 */
#ifndef UNIT_H
#define UNIT_H

#include "epy_queue.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#if defined(__has_include)
#if __has_include(<valgrind/helgrind.h>)
#include <valgrind/helgrind.h>
#define ATOMIC_FIELDS(object) VALGRIND_HG_DISABLE_CHECKING(&(object), sizeof(object))
#define HAPPENS_BEFORE(object) ANNOTATE_HAPPENS_BEFORE(object)
#define HAPPENS_AFTER(object) ANNOTATE_HAPPENS_AFTER(object)
#endif
#endif
#ifndef ATOMIC_FIELDS
#define ATOMIC_FIELDS(object) ((void)0)
#define HAPPENS_BEFORE(object) ((void)0)
#define HAPPENS_AFTER(object) ((void)0)
#endif

#define CHECK(condition)                                                             \
    do {                                                                             \
        if (!(condition)) {                                                          \
            fprintf(stderr, "%s:%d: %s: failed: %s\n", __FILE__, __LINE__, __func__, \
                    #condition);                                                     \
            exit(1);                                                                 \
        }                                                                            \
    } while (0)

typedef struct unit_test {
    const char *name;
    void (*run)(void);
} unit_test;

#define TEST(name) {#name, name}

static int scale = 1; /* more rounds, by argument */
static const char *running;

static void *watch(void *arg)
{
    (void)arg;
    sleep(240 * (unsigned)scale);
    fprintf(stderr, "hangs: %s\n", running);
    exit(1);
}

/* The main program: all tests, each with the time that it took. */
static int run_tests(const unit_test *tests, size_t n, int argc, char **argv)
{
    pthread_t watchdog;
    if (argc > 1)
        scale = atoi(argv[1]);
    CHECK(scale >= 1);
    CHECK(pthread_create(&watchdog, NULL, watch, NULL) == 0);
    for (size_t i = 0; i < n; i++) {
        uint64_t begin = epy_now_ns();
        running = tests[i].name;
        tests[i].run();
        printf("%s: %.1f ms\n", running, (double)(epy_now_ns() - begin) / 1e6);
        fflush(stdout);
    }
    return 0;
}

#endif
