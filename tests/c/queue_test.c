/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue of requests and the sleeping of executors, driven without Python and Erlang.
 *
 * LINKS: epy_queue.c
 *
 * Producers and consumers are threads here, a request is a node with the number of its
 * producer and its place.  What is shown: each node is popped once, in the order of its
 * producer, and no consumer sleeps while there is work, whatever the interleaving.  A
 * wake-up that is lost shows as a test that does not end: a watchdog says so.
 */
#include <config.h>

#include "unit.h"

#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define THREADS_MAX 16
#define MS 1000000

typedef struct item {
    epy_qnode node;
    int producer;
    int place;
    atomic_int popped;
} item;

static item *item_of(epy_qnode *n)
{
    return (item *)((char *)n - offsetof(item, node));
}

/* What threads share here: nothing in it is anything but atomic. */
static void init(epy_queue *q, epy_idle *idle)
{
    epy_queue_init(q);
    epy_idle_init(idle);
    ATOMIC_FIELDS(*q);
    ATOMIC_FIELDS(*idle);
}

static void push(epy_queue *q, epy_qnode *n)
{
    ATOMIC_FIELDS(*n);
    HAPPENS_BEFORE(n);
    epy_queue_push(q, n);
}

static epy_qnode *pop(epy_queue *q)
{
    epy_qnode *n = epy_queue_pop(q);
    if (n)
        HAPPENS_AFTER(n);
    return n;
}

/* ---- one thread ---- */

static void pops_in_the_order_of_pushes(void)
{
    epy_queue q;
    item items[100];
    epy_queue_init(&q);
    CHECK(epy_queue_empty(&q));
    CHECK(!epy_queue_pop(&q));
    for (int round = 1; round <= 100; round++) {
        for (int i = 0; i < round; i++)
            epy_queue_push(&q, &items[i].node);
        for (int i = 0; i < round; i++) {
            CHECK(!epy_queue_empty(&q));
            CHECK(epy_queue_pop(&q) == &items[i].node);
        }
        CHECK(epy_queue_empty(&q));
        CHECK(!epy_queue_pop(&q));
    }
}

static void a_popped_node_can_be_pushed_again_at_once(void)
{
    epy_queue q;
    item a, b;
    epy_queue_init(&q);
    epy_queue_push(&q, &a.node);
    for (int i = 0; i < 1000; i++) {
        epy_queue_push(&q, &b.node);
        CHECK(epy_queue_pop(&q) == &a.node);
        epy_queue_push(&q, &a.node);
        CHECK(epy_queue_pop(&q) == &b.node);
    }
    CHECK(epy_queue_pop(&q) == &a.node);
    CHECK(epy_queue_empty(&q));
}

/* What a producer leaves that lost the processor between its exchange and its store. */
static void a_half_done_push_hides_what_comes_after_it_until_it_is_done(void)
{
    epy_queue q;
    item a, b, c;
    epy_queue_init(&q);
    epy_queue_push(&q, &a.node);

    atomic_store(&b.node.next, NULL);
    epy_qnode *before = atomic_exchange(&q.head, &b.node);
    epy_queue_push(&q, &c.node);

    CHECK(!epy_queue_empty(&q));
    CHECK(!epy_queue_pop(&q)); /* a is the last before the gap: its successor is not known */
    CHECK(!epy_queue_empty(&q));
    CHECK(before == &a.node);
    atomic_store(&before->next, &b.node);

    CHECK(epy_queue_pop(&q) == &a.node);
    CHECK(epy_queue_pop(&q) == &b.node);
    CHECK(epy_queue_pop(&q) == &c.node);
    CHECK(!epy_queue_pop(&q));
    CHECK(epy_queue_empty(&q));
}

static void a_half_done_push_into_an_empty_queue_is_not_empty(void)
{
    epy_queue q;
    item a;
    epy_queue_init(&q);
    atomic_store(&a.node.next, NULL);
    epy_qnode *before = atomic_exchange(&q.head, &a.node);
    CHECK(!epy_queue_empty(&q));
    CHECK(!epy_queue_pop(&q));
    atomic_store(&before->next, &a.node);
    CHECK(epy_queue_pop(&q) == &a.node);
    CHECK(epy_queue_empty(&q));
}

/* pop() saw that a is the last one; b was pushed before pop() put the stub behind it. */
static void a_push_before_the_stub_comes_back_is_not_empty(void)
{
    epy_queue q;
    item a, b;
    epy_queue_init(&q);
    epy_queue_push(&q, &a.node);
    atomic_store(&q.tail, &a.node);
    epy_queue_push(&q, &b.node);
    epy_queue_push(&q, &q.stub);
    CHECK(!epy_queue_empty(&q));
    CHECK(epy_queue_pop(&q) == &a.node);
    CHECK(!epy_queue_empty(&q));
    CHECK(epy_queue_pop(&q) == &b.node);
    CHECK(epy_queue_empty(&q));
    CHECK(!epy_queue_pop(&q));
}

static void a_wait_ends_at_its_timeout_and_is_hot_again(void)
{
    epy_queue q;
    epy_idle idle;
    epy_queue_init(&q);
    epy_idle_init(&idle);
    epy_idle_heat(&idle);
    for (int spin = 0; spin <= MS; spin += MS) {
        uint64_t begin = epy_now_ns();
        CHECK(!epy_idle_wait(&idle, epy_queue_ready, &q, spin, 20 * MS));
        uint64_t took = epy_now_ns() - begin;
        CHECK(took >= 20 * MS);
        CHECK(took < (uint64_t)5000 * MS);
        CHECK(atomic_load(&idle.hot) == 1);
        CHECK(atomic_load(&idle.sleepers) == 0);
        CHECK(atomic_load(&idle.tokens) == 0);
    }
}

static void a_wait_with_work_in_the_queue_does_not_sleep(void)
{
    epy_queue q;
    epy_idle idle;
    item a;
    epy_queue_init(&q);
    epy_idle_init(&idle);
    epy_idle_heat(&idle);
    epy_queue_push(&q, &a.node);
    CHECK(epy_idle_wait(&idle, epy_queue_ready, &q, 0, -1));
    CHECK(epy_idle_wait(&idle, epy_queue_ready, &q, MS, -1));
    CHECK(atomic_load(&idle.hot) == 1);
    CHECK(atomic_load(&idle.sleepers) == 0);
}

static void nobody_is_woken_while_somebody_is_hot_or_nobody_sleeps(void)
{
    epy_idle idle;
    epy_idle_init(&idle);
    CHECK(!epy_idle_notify(&idle));
    CHECK(!epy_idle_wake(&idle));
    epy_idle_heat(&idle);
    CHECK(!epy_idle_notify(&idle));
    epy_idle_cool(&idle);
    CHECK(atomic_load(&idle.tokens) == 0);
}

/* ---- many threads ---- */

typedef struct world {
    epy_queue q;
    epy_idle idle;
    int producers, consumers, each;
    item *items; /* producers * each */
    atomic_int left;
    int64_t spin_ns, timeout_ns;
    bool cool_while_busy; /* as executors do that run in parallel */
    bool pace;            /* so that consumers fall asleep in between */
    int watched;          /* 0; or an eventfd: each node comes with one event there as well */
    atomic_int events;    /* that are still to come */
    atomic_int number, ended;
} world;

static unsigned next_random(unsigned *state)
{
    *state = *state * 1103515245u + 12345u;
    return *state >> 16;
}

static void *produce(void *arg)
{
    world *w = arg;
    int me = atomic_fetch_add(&w->number, 1);
    unsigned random = (unsigned)me;
    for (int i = 0; i < w->each; i++) {
        item *it = &w->items[me * w->each + i];
        it->producer = me;
        it->place = i;
        push(&w->q, &it->node);
        epy_idle_notify(&w->idle);
        if (w->watched)
            CHECK(write(w->watched, &(uint64_t){1}, 8) == 8);
        if (w->pace && next_random(&random) % 8 == 0)
            epy_sleep_ns(next_random(&random) % 100000);
    }
    return NULL;
}

/* The order of one producer's nodes, as one consumer sees them, is that of its pushes. */
static void take(world *w, epy_qnode *n, int last[])
{
    item *it = item_of(n);
    CHECK(atomic_fetch_add(&it->popped, 1) == 0);
    CHECK(it->place > last[it->producer]);
    last[it->producer] = it->place;
    atomic_fetch_sub(&w->left, 1);
}

/* One of them at a time watches the descriptor, and is woken as the others are. */
static void rest(world *w)
{
    uint64_t n;
    if (!w->watched || !epy_idle_watch(&w->idle, w->watched, 1)) {
        epy_idle_wait(&w->idle, epy_queue_ready, &w->q, w->spin_ns, w->timeout_ns);
        return;
    }
    epy_watch end = epy_idle_wait_watching(&w->idle, epy_queue_ready, &w->q, w->timeout_ns);
    if (end == EPY_WATCH_READABLE) {
        CHECK(read(w->watched, &n, sizeof n) == sizeof n); /* only who watches reads */
        atomic_fetch_sub(&w->events, (int)n);
    }
    epy_idle_unwatch(&w->idle);
}

static void *consume(void *arg)
{
    world *w = arg;
    int last[THREADS_MAX];
    for (int i = 0; i < THREADS_MAX; i++)
        last[i] = -1;
    epy_idle_heat(&w->idle);
    while (atomic_load(&w->left) + atomic_load(&w->events) > 0) {
        epy_qnode *n = pop(&w->q);
        if (!n) {
            if (atomic_load(&w->left) + atomic_load(&w->events) > 0)
                rest(w);
            continue;
        }
        if (w->cool_while_busy) {
            epy_idle_cool(&w->idle);
            if (!epy_queue_empty(&w->q))
                epy_idle_notify(&w->idle);
        }
        take(w, n, last);
        if (w->cool_while_busy)
            epy_idle_heat(&w->idle);
    }
    epy_idle_cool(&w->idle);
    atomic_fetch_add(&w->ended, 1);
    return NULL;
}

/* Wakes those that went to sleep after the last node and event had been taken. */
static void join_consumers(world *w, pthread_t threads[])
{
    while (atomic_load(&w->ended) < w->consumers) {
        if (atomic_load(&w->left) + atomic_load(&w->events) == 0)
            epy_idle_wake(&w->idle);
        epy_sleep_ns(50000);
    }
    for (int i = 0; i < w->consumers; i++)
        pthread_join(threads[i], NULL);
}

static void run(world *w)
{
    pthread_t producers[THREADS_MAX], consumers[THREADS_MAX];
    int n = w->producers * w->each;
    init(&w->q, &w->idle);
    w->items = calloc((size_t)n, sizeof *w->items);
    CHECK(w->items);
    atomic_init(&w->left, n);
    atomic_init(&w->events, w->watched ? n : 0);
    atomic_init(&w->number, 0);
    atomic_init(&w->ended, 0);
    ATOMIC_FIELDS(w->left);
    ATOMIC_FIELDS(w->events);
    ATOMIC_FIELDS(w->number);
    ATOMIC_FIELDS(w->ended);
    for (int i = 0; i < n; i++)
        ATOMIC_FIELDS(w->items[i].popped);
    for (int i = 0; i < w->consumers; i++)
        CHECK(pthread_create(&consumers[i], NULL, consume, w) == 0);
    for (int i = 0; i < w->producers; i++)
        CHECK(pthread_create(&producers[i], NULL, produce, w) == 0);
    for (int i = 0; i < w->producers; i++)
        pthread_join(producers[i], NULL);
    join_consumers(w, consumers);
    for (int i = 0; i < n; i++)
        CHECK(atomic_load(&w->items[i].popped) == 1);
    CHECK(epy_queue_empty(&w->q));
    CHECK(atomic_load(&w->idle.hot) == 0);
    CHECK(atomic_load(&w->idle.sleepers) == 0);
    CHECK(atomic_load(&w->idle.tokens) == 0);
    free(w->items);
}

static void many_producers_and_one_consumer_lose_nothing(void)
{
    run(&(world){.producers = 8, .consumers = 1, .each = 2000 * scale, .timeout_ns = -1});
}

static void many_producers_and_many_consumers_lose_nothing(void)
{
    run(&(world){.producers = 8, .consumers = 8, .each = 2000 * scale, .timeout_ns = -1});
}

static void one_producer_and_many_consumers_lose_nothing(void)
{
    run(&(world){.producers = 1, .consumers = 8, .each = 5000 * scale, .timeout_ns = -1});
}

static void consumers_that_spin_lose_nothing(void)
{
    run(&(world){.producers = 4, .consumers = 4, .each = 2000 * scale, .spin_ns = 20000,
                 .timeout_ns = -1});
}

static void consumers_that_cool_while_busy_lose_nothing(void)
{
    run(&(world){.producers = 4, .consumers = 4, .each = 2000 * scale, .timeout_ns = -1,
                 .cool_while_busy = true});
}

/* Without a timeout: a wake-up that is lost would end the test. */
static void no_wakeup_is_lost_when_consumers_fall_asleep(void)
{
    run(&(world){.producers = 2, .consumers = 3, .each = 1000 * scale, .timeout_ns = -1,
                 .pace = true});
    run(&(world){.producers = 2, .consumers = 3, .each = 1000 * scale, .timeout_ns = -1,
                 .pace = true, .cool_while_busy = true, .spin_ns = 20000});
}

/* Sleepers that time out in the moment in which they are woken lose no token and keep none. */
static void timeouts_that_meet_wakeups_lose_nothing(void)
{
    for (int64_t timeout = 10000; timeout <= 200000; timeout *= 4)
        run(&(world){.producers = 2, .consumers = 4, .each = 500 * scale, .timeout_ns = timeout,
                     .pace = true});
}

/* ---- a descriptor that is watched ---- */

static void close_poller(epy_idle *idle)
{
    close(atomic_load(&idle->epoll));
    close(atomic_load(&idle->bell));
}

static void run_watched(world *w)
{
    w->watched = eventfd(0, 0);
    CHECK(w->watched > 0);
    run(w);
    CHECK(atomic_load(&w->idle.watching) == 0);
    close_poller(&w->idle);
    close(w->watched);
}

/* The timeout is longer than the test may take: what is lost ends it. */
static void who_watches_a_descriptor_loses_no_wakeup_and_no_event(void)
{
    run_watched(&(world){.producers = 2, .consumers = 1, .each = 1000 * scale,
                         .timeout_ns = INT64_C(1000000) * MS, .pace = true});
    run_watched(&(world){.producers = 2, .consumers = 3, .each = 1000 * scale,
                         .timeout_ns = INT64_C(1000000) * MS, .pace = true, .cool_while_busy = true});
}

static void a_watch_that_times_out_when_it_is_woken_loses_nothing(void)
{
    run_watched(&(world){.producers = 2, .consumers = 4, .each = 500 * scale, .timeout_ns = MS,
                         .pace = true});
}

typedef struct watcher {
    epy_queue q;
    epy_idle idle;
    int fd;
    epy_watch end;
} watcher;

static void begin_watcher(watcher *w)
{
    init(&w->q, &w->idle);
    w->fd = eventfd(0, 0);
    CHECK(w->fd >= 0);
    epy_idle_heat(&w->idle);
    CHECK(epy_idle_watch(&w->idle, w->fd, 1));
}

static void end_watcher(watcher *w)
{
    epy_idle_unwatch(&w->idle);
    CHECK(atomic_load(&w->idle.hot) == 1);
    CHECK(atomic_load(&w->idle.sleepers) == 0);
    CHECK(atomic_load(&w->idle.tokens) == 0);
    close_poller(&w->idle);
    close(w->fd);
}

static epy_watch wait_watching(watcher *w, int64_t timeout_ns)
{
    return epy_idle_wait_watching(&w->idle, epy_queue_ready, &w->q, timeout_ns);
}

static void a_watch_ends_by_work_or_the_descriptor_or_its_time(void)
{
    watcher w;
    item a;
    begin_watcher(&w);
    uint64_t begin = epy_now_ns();
    CHECK(wait_watching(&w, 20 * MS) == EPY_WATCH_TIMEOUT);
    CHECK(epy_now_ns() - begin >= 20 * MS);
    CHECK(write(w.fd, &(uint64_t){1}, 8) == 8);
    CHECK(wait_watching(&w, INT64_MAX / 2) == EPY_WATCH_READABLE);
    push(&w.q, &a.node);
    CHECK(wait_watching(&w, INT64_MAX / 2) == EPY_WATCH_WOKEN);
    end_watcher(&w);
}

static void one_descriptor_is_watched_at_a_time(void)
{
    watcher w;
    begin_watcher(&w);
    CHECK(!epy_idle_watch(&w.idle, w.fd, 2));
    epy_idle_unwatch(&w.idle);
    CHECK(!epy_idle_watch(&w.idle, -1, 2)); /* which leaves the place free */
    CHECK(epy_idle_watch(&w.idle, w.fd, 1));
    end_watcher(&w);
}

/* In the poll it stays until another comes, which is the only one that is heard of then. */
static void another_descriptor_takes_the_place_of_the_last_one(void)
{
    watcher w;
    int other = eventfd(0, 0);
    begin_watcher(&w);
    epy_idle_unwatch(&w.idle);
    CHECK(epy_idle_watch(&w.idle, other, 2));
    CHECK(write(w.fd, &(uint64_t){1}, 8) == 8);
    CHECK(wait_watching(&w, MS) == EPY_WATCH_TIMEOUT);
    CHECK(write(other, &(uint64_t){1}, 8) == 8);
    CHECK(wait_watching(&w, INT64_MAX / 2) == EPY_WATCH_READABLE);
    epy_idle_unwatch(&w.idle);
    CHECK(epy_idle_watch(&w.idle, w.fd, 1));
    CHECK(wait_watching(&w, INT64_MAX / 2) == EPY_WATCH_READABLE);
    end_watcher(&w);
    close(other);
}

/* Of one that was closed nothing is left, though the next has its number. */
static void a_number_that_is_used_again_is_another_descriptor(void)
{
    watcher w;
    begin_watcher(&w);
    epy_idle_unwatch(&w.idle);
    epy_idle_forget(&w.idle, w.fd);
    int number = w.fd;
    close(w.fd);
    w.fd = eventfd(1, 0);
    CHECK(w.fd == number);
    CHECK(epy_idle_watch(&w.idle, w.fd, 2));
    CHECK(wait_watching(&w, INT64_MAX / 2) == EPY_WATCH_READABLE);
    end_watcher(&w);
}

static void *watch_once(void *arg)
{
    watcher *w = arg;
    w->end = wait_watching(w, INT64_C(1000000) * MS);
    return NULL;
}

/* The set that is watched may be closed by its owner while a thread sleeps over it. */
static void a_forgotten_descriptor_is_not_heard_of(void)
{
    watcher w;
    pthread_t thread;
    begin_watcher(&w);
    CHECK(pthread_create(&thread, NULL, watch_once, &w) == 0);
    while (atomic_load(&w.idle.sleepers) == 0)
        epy_sleep_ns(100000);
    epy_idle_forget(&w.idle, w.fd);
    CHECK(write(w.fd, &(uint64_t){1}, 8) == 8);
    CHECK(epy_idle_wake(&w.idle));
    pthread_join(thread, NULL);
    CHECK(w.end == EPY_WATCH_WOKEN);
    end_watcher(&w);
}

/* ---- wake-ups between threads ---- */

/* Two threads hand one node to each other: neither may sleep while the other waits. */
typedef struct player {
    epy_queue *in, *out;
    epy_idle *in_idle, *out_idle;
    int rounds;
    item *ball; /* of the one who serves */
} player;

static void *play(void *arg)
{
    player *p = arg;
    epy_idle_heat(p->in_idle);
    if (p->ball) {
        push(p->out, &p->ball->node);
        epy_idle_notify(p->out_idle);
    }
    for (int i = 0; i < p->rounds;) {
        epy_qnode *n = pop(p->in);
        if (!n) {
            epy_idle_wait(p->in_idle, epy_queue_ready, p->in, 0, -1);
            continue;
        }
        i++;
        if (p->ball && i == p->rounds)
            break;
        push(p->out, n);
        epy_idle_notify(p->out_idle);
    }
    epy_idle_cool(p->in_idle);
    return NULL;
}

static void a_ball_between_two_threads_never_stops(void)
{
    epy_queue a, b;
    epy_idle ai, bi;
    item ball;
    pthread_t threads[2];
    int rounds = 5000 * scale;
    player players[2] = {{&a, &b, &ai, &bi, rounds, &ball}, {&b, &a, &bi, &ai, rounds, NULL}};
    init(&a, &ai);
    init(&b, &bi);
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&threads[i], NULL, play, &players[i]) == 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    CHECK(epy_queue_empty(&a) && epy_queue_empty(&b));
}

/* A wake-up is given to one sleeper. */
static void *sleep_once(void *arg)
{
    world *w = arg;
    epy_idle_heat(&w->idle);
    epy_idle_wait(&w->idle, epy_queue_ready, &w->q, 0, -1);
    atomic_fetch_sub(&w->left, 1);
    epy_idle_cool(&w->idle);
    return NULL;
}

static void one_wakeup_wakes_one_sleeper(void)
{
    enum { N = 4 };
    world w = {.consumers = N};
    pthread_t threads[N];
    init(&w.q, &w.idle);
    atomic_init(&w.left, N);
    ATOMIC_FIELDS(w.left);
    for (int i = 0; i < N; i++)
        CHECK(pthread_create(&threads[i], NULL, sleep_once, &w) == 0);
    for (int woken = 0; woken < N; woken++) {
        while (atomic_load(&w.idle.sleepers) < N - woken || atomic_load(&w.idle.hot) > 0)
            epy_sleep_ns(100000);
        CHECK(epy_idle_wake(&w.idle));
        while (atomic_load(&w.left) > N - woken - 1)
            epy_sleep_ns(100000);
        epy_sleep_ns(2 * MS); /* time for a second one to wake up wrongly */
        CHECK(atomic_load(&w.left) == N - woken - 1);
    }
    for (int i = 0; i < N; i++)
        pthread_join(threads[i], NULL);
    CHECK(!epy_idle_wake(&w.idle));
    CHECK(atomic_load(&w.idle.tokens) == 0);
}

static const unit_test tests[] = {
    TEST(pops_in_the_order_of_pushes),
    TEST(a_popped_node_can_be_pushed_again_at_once),
    TEST(a_half_done_push_hides_what_comes_after_it_until_it_is_done),
    TEST(a_half_done_push_into_an_empty_queue_is_not_empty),
    TEST(a_push_before_the_stub_comes_back_is_not_empty),
    TEST(a_wait_ends_at_its_timeout_and_is_hot_again),
    TEST(a_wait_with_work_in_the_queue_does_not_sleep),
    TEST(nobody_is_woken_while_somebody_is_hot_or_nobody_sleeps),
    TEST(many_producers_and_one_consumer_lose_nothing),
    TEST(many_producers_and_many_consumers_lose_nothing),
    TEST(one_producer_and_many_consumers_lose_nothing),
    TEST(consumers_that_spin_lose_nothing),
    TEST(consumers_that_cool_while_busy_lose_nothing),
    TEST(no_wakeup_is_lost_when_consumers_fall_asleep),
    TEST(timeouts_that_meet_wakeups_lose_nothing),
    TEST(who_watches_a_descriptor_loses_no_wakeup_and_no_event),
    TEST(a_watch_that_times_out_when_it_is_woken_loses_nothing),
    TEST(a_watch_ends_by_work_or_the_descriptor_or_its_time),
    TEST(one_descriptor_is_watched_at_a_time),
    TEST(another_descriptor_takes_the_place_of_the_last_one),
    TEST(a_number_that_is_used_again_is_another_descriptor),
    TEST(a_forgotten_descriptor_is_not_heard_of),
    TEST(a_ball_between_two_threads_never_stops),
    TEST(one_wakeup_wakes_one_sleeper),
};

int main(int argc, char **argv)
{
    return run_tests(tests, sizeof tests / sizeof tests[0], argc, argv);
}
