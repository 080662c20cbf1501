/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rendezvous of callbacks, driven without Python and Erlang.
 *
 * LINKS: epy_frame.c epy_queue.c
 *
 * An executor is a thread here that opens frames and waits in them, also in the middle of work
 * that came nested.  Processes are threads that answer, nest and cancel whatever frame they know
 * of, be it closed by now.  What is shown: each frame ends once, each answer and each piece of
 * work has one owner whatever the interleaving, and nobody waits for what has come.
 */
#include <config.h>

#include "epy_frame.h"
#include "unit.h"

#include <sched.h>
#include <stddef.h>

#define EXECUTORS 3
#define PROCESSES 4
#define ROUNDS 500
#define DEPTH 3

/* ---- one thread ---- */

static uint64_t sent; /* the serial in the last message */

static bool send_it(epy_frame *f, void *arg)
{
    (void)arg;
    sent = f->serial;
    return true;
}

static bool refuse_it(epy_frame *f, void *arg)
{
    (void)f;
    (void)arg;
    return false;
}

static epy_answer answer_of(void *env)
{
    return (epy_answer){.env = env, .term = 7};
}

static void an_answer_ends_a_frame_once(void)
{
    epy_frames frames;
    epy_frame f;
    int env, other;
    epy_frames_init(&frames);
    CHECK(epy_frame_open(&frames, &f, &env, send_it, NULL));
    CHECK(!epy_frame_answer(&frames, sent + 1, answer_of(&other)));
    CHECK(epy_frame_answer(&frames, sent, answer_of(&env)));
    CHECK(!epy_frame_answer(&frames, sent, answer_of(&other)));
    epy_frame_cancel(&frames, &env);
    CHECK(!epy_frame_wait(&frames, &f));
    CHECK(f.answer.env == &env && f.answer.term == 7 && !f.cancelled);
    CHECK(!epy_frame_answer(&frames, sent, answer_of(&other)));
    CHECK(!frames.innermost);
}

static void a_cancel_ends_the_frames_of_its_owner_only(void)
{
    epy_frames frames;
    epy_frame outer, inner;
    int a, b;
    epy_frames_init(&frames);
    CHECK(epy_frame_open(&frames, &outer, &a, send_it, NULL));
    CHECK(epy_frame_open(&frames, &inner, &b, send_it, NULL));
    epy_frame_cancel(&frames, &b);
    CHECK(!epy_frame_answer(&frames, sent, answer_of(&a)));
    CHECK(!epy_frame_wait(&frames, &inner));
    CHECK(inner.cancelled && !outer.cancelled && frames.innermost == &outer);
    epy_frame_cancel(&frames, &b);
    CHECK(epy_frame_answer(&frames, outer.serial, answer_of(&a)));
    CHECK(!epy_frame_wait(&frames, &outer));
    CHECK(!outer.cancelled && outer.answer.env == &a);
}

static void nested_work_comes_in_its_order_and_none_after_the_end(void)
{
    epy_frames frames;
    epy_frame f;
    epy_fnode work[3];
    int env;
    epy_frames_init(&frames);
    CHECK(epy_frame_open(&frames, &f, &env, send_it, NULL));
    CHECK(!epy_frame_spin(&f, 1000));
    for (int i = 0; i < 2; i++)
        CHECK(epy_frame_nest(&frames, sent, &work[i]));
    CHECK(epy_frame_spin(&f, 1000));
    CHECK(epy_frame_wait(&frames, &f) == &work[0]);
    CHECK(epy_frame_spin(&f, 1000));
    CHECK(epy_frame_answer(&frames, sent, answer_of(&env)));
    CHECK(!epy_frame_nest(&frames, sent, &work[2]));
    CHECK(epy_frame_spin(&f, 1000));
    CHECK(!epy_frame_wait(&frames, &f));
    CHECK(epy_frame_take_rest(&f) == &work[1]);
    CHECK(!epy_frame_take_rest(&f));
}

static void a_frame_whose_message_was_not_sent_is_not_open(void)
{
    epy_frames frames;
    epy_frame f;
    int env;
    epy_frames_init(&frames);
    CHECK(!epy_frame_open(&frames, &f, &env, refuse_it, NULL));
    CHECK(!frames.innermost);
    CHECK(!epy_frame_answer(&frames, f.serial, answer_of(&env)));
}

static void a_frame_ends_when_its_time_is_over(void)
{
    epy_frames frames;
    epy_frame f;
    int env;
    epy_frames_init(&frames);
    CHECK(epy_frame_open(&frames, &f, &env, send_it, NULL));
    CHECK(!epy_frame_wait_until(&frames, &f, epy_now_ns() + 1000000));
    CHECK(!f.answer.env && !f.cancelled && !frames.innermost);
    CHECK(!epy_frame_answer(&frames, sent, answer_of(&env)));
    CHECK(epy_frame_open(&frames, &f, &env, send_it, NULL));
    CHECK(epy_frame_answer(&frames, sent, answer_of(&env)));
    CHECK(!epy_frame_wait_until(&frames, &f, 1)); /* long ago */
    CHECK(f.answer.env == &env && !frames.innermost);
}

/* ---- many threads ---- */

typedef struct work {
    epy_fnode node;
    char payload; /* written by its maker, read by who owns it last */
} work;

typedef struct executor {
    epy_frames frames;
    atomic_ulong serial; /* of its last message */
    char owners[DEPTH];
    unsigned long answered, cancelled, ran, left;
} executor;

static executor executors[EXECUTORS];
static atomic_ulong answers_taken, work_taken;
static atomic_int at_work;

static bool announce(epy_frame *f, void *arg)
{
    executor *ex = arg;
    atomic_store(&ex->serial, f->serial);
    return true;
}

static void take_work(work *w)
{
    HAPPENS_AFTER(w);
    CHECK(w->payload == 1);
    free(w);
}

static void wait_in_frame(executor *ex, int depth)
{
    epy_frame f;
    epy_fnode *n;
    CHECK(epy_frame_open(&ex->frames, &f, &ex->owners[depth], announce, ex));
    ATOMIC_FIELDS(f.news);
    (void)epy_frame_spin(&f, 2000);
    while ((n = epy_frame_wait(&ex->frames, &f))) {
        take_work((work *)((char *)n - offsetof(work, node)));
        ex->ran++;
        if (depth + 1 < DEPTH)
            wait_in_frame(ex, depth + 1);
    }
    for (; (n = epy_frame_take_rest(&f)); ex->left++)
        take_work((work *)((char *)n - offsetof(work, node)));
    CHECK(f.cancelled != (f.answer.env != NULL));
    ex->cancelled += f.cancelled;
    ex->answered += !f.cancelled;
    free(f.answer.env);
}

static void *execute(void *arg)
{
    executor *ex = arg;
    for (int i = 0; i < ROUNDS * scale; i++)
        wait_in_frame(ex, 0);
    atomic_fetch_sub(&at_work, 1);
    return NULL;
}

static void answer(executor *ex, uint64_t serial)
{
    char *env = malloc(1);
    *env = 1;
    if (epy_frame_answer(&ex->frames, serial, answer_of(env)))
        atomic_fetch_add(&answers_taken, 1);
    else
        free(env);
}

static void nest(executor *ex, uint64_t serial)
{
    work *w = malloc(sizeof *w);
    w->payload = 1;
    HAPPENS_BEFORE(w);
    if (epy_frame_nest(&ex->frames, serial, &w->node))
        atomic_fetch_add(&work_taken, 1);
    else
        free(w);
}

/* An answer is the most frequent, so that all frames end; the frames outside of the last one are
 * meant as well. */
static void *process(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    while (atomic_load(&at_work) > 0) {
        unsigned r = (unsigned)rand_r(&seed);
        executor *ex = &executors[r % EXECUTORS];
        uint64_t serial = atomic_load(&ex->serial) - (r >> 8) % DEPTH;
        switch ((r >> 16) % 8) {
        case 0: epy_frame_cancel(&ex->frames, &ex->owners[(r >> 20) % DEPTH]); break;
        case 1:
        case 2:
        case 3: nest(ex, serial); break;
        default: answer(ex, serial);
        }
        if ((r >> 24) % 4 == 0)
            sched_yield(); /* where threads run by turns, as under helgrind */
    }
    return NULL;
}

/* The last frames' senders may all have gone to another executor: they come back. */
static void frames_end_once_and_nothing_is_lost(void)
{
    pthread_t threads[EXECUTORS + PROCESSES];
    unsigned long answered = 0, taken = 0, cancelled = 0;
    ATOMIC_FIELDS(answers_taken);
    ATOMIC_FIELDS(work_taken);
    ATOMIC_FIELDS(at_work);
    atomic_store(&at_work, EXECUTORS);
    for (int i = 0; i < EXECUTORS; i++) {
        epy_frames_init(&executors[i].frames);
        ATOMIC_FIELDS(executors[i].serial);
        CHECK(pthread_create(&threads[i], NULL, execute, &executors[i]) == 0);
    }
    for (int i = 0; i < PROCESSES; i++)
        CHECK(pthread_create(&threads[EXECUTORS + i], NULL, process,
                             (void *)(uintptr_t)(i + 1)) == 0);
    for (int i = 0; i < EXECUTORS + PROCESSES; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < EXECUTORS; i++) {
        answered += executors[i].answered;
        cancelled += executors[i].cancelled;
        taken += executors[i].ran + executors[i].left;
        CHECK(!executors[i].frames.innermost);
    }
    CHECK(answered == atomic_load(&answers_taken));
    CHECK(taken == atomic_load(&work_taken));
    CHECK(answered > 0 && cancelled > 0 && taken > 0);
    CHECK(answered + cancelled >= (unsigned long)EXECUTORS * ROUNDS);
}

static const unit_test tests[] = {
    TEST(an_answer_ends_a_frame_once),
    TEST(a_cancel_ends_the_frames_of_its_owner_only),
    TEST(nested_work_comes_in_its_order_and_none_after_the_end),
    TEST(a_frame_whose_message_was_not_sent_is_not_open),
    TEST(a_frame_ends_when_its_time_is_over),
    TEST(frames_end_once_and_nothing_is_lost),
};

int main(int argc, char **argv)
{
    return run_tests(tests, sizeof tests / sizeof tests[0], argc, argv);
}
