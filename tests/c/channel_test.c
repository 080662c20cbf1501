/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue of a channel, driven without Python and Erlang.
 *
 * LINKS: epy_channel.c epy_queue.c
 *
 * What is shown: items come in their order and each is received once, whoever waits, gives up,
 * is gone or puts back; a channel holds no more than it may; and nobody waits for what has come,
 * be it an item, room or the end.
 */
#include <config.h>

#include "epy_channel.h"
#include "unit.h"

#include <sched.h>
#include <string.h>

#define SENDERS 3
#define RECEIVERS 3
#define ROUNDS 3000
#define MAX_SIZE 20

typedef struct thing {
    epy_item item;
    unsigned long value;
} thing;

static thing *new_thing(unsigned long value, size_t size)
{
    thing *t = malloc(sizeof *t);
    *t = (thing){.item = {.size = size}, .value = value};
    return t;
}

static thing *thing_of(epy_item *item)
{
    return (thing *)((char *)item - offsetof(thing, item));
}

static unsigned long free_thing(epy_item *item)
{
    unsigned long value = thing_of(item)->value;
    free(thing_of(item));
    return value;
}

/* ---- one thread ---- */

typedef struct asked {
    epy_waiter waiter;
    bool is_there;
    int times;
    epy_item *item;
} asked;

static bool give_asked(epy_waiter *w, epy_item *item, void *by)
{
    asked *a = (asked *)((char *)w - offsetof(asked, waiter));
    (void)by;
    a->times++;
    if (a->is_there)
        a->item = item;
    return a->is_there;
}

static asked new_asked(bool is_there)
{
    return (asked){.waiter = {.give = give_asked}, .is_there = is_there};
}

static void put(epy_channel *ch, unsigned long value, size_t size, epy_channel_code expected)
{
    thing *t = new_thing(value, size);
    epy_channel_code code = epy_channel_put(ch, &t->item, NULL, NULL);
    CHECK(code == expected);
    if (code != EPY_CHANNEL_DONE)
        free(t);
}

static void get(epy_channel *ch, unsigned long expected)
{
    epy_item *item;
    CHECK(epy_channel_get(ch, &item, NULL, NULL) == EPY_CHANNEL_DONE);
    CHECK(free_thing(item) == expected);
}

static void items_come_in_their_order(void)
{
    epy_channel ch;
    epy_item *item;
    epy_channel_init(&ch, 100);
    for (unsigned long i = 0; i < 3; i++)
        put(&ch, i, 1, EPY_CHANNEL_DONE);
    CHECK(epy_channel_get(&ch, &item, NULL, NULL) == EPY_CHANNEL_DONE);
    epy_channel_put_back(&ch, item, NULL);
    CHECK(epy_channel_look(&ch).size == 3 && epy_channel_look(&ch).count == 3);
    for (unsigned long i = 0; i < 3; i++)
        get(&ch, i);
    CHECK(epy_channel_get(&ch, &item, NULL, NULL) == EPY_CHANNEL_NOT_NOW);
    put(&ch, 7, 1, EPY_CHANNEL_DONE);
    get(&ch, 7);
    epy_channel_fini(&ch);
}

/* Takes all, and puts it back in this order. */
static void check_order(const int *order, int n)
{
    epy_channel ch;
    epy_item *items[8];
    epy_channel_init(&ch, 100);
    for (int i = 0; i < n; i++)
        put(&ch, (unsigned long)i, 1, EPY_CHANNEL_DONE);
    for (int i = 0; i < n; i++)
        CHECK(epy_channel_get(&ch, &items[i], NULL, NULL) == EPY_CHANNEL_DONE);
    put(&ch, (unsigned long)n, 1, EPY_CHANNEL_DONE);
    for (int i = 0; i < n; i++)
        epy_channel_put_back(&ch, items[order[i]], NULL);
    put(&ch, (unsigned long)n + 1, 1, EPY_CHANNEL_DONE);
    for (int i = 0; i < n + 2; i++)
        get(&ch, (unsigned long)i);
    put(&ch, 7, 1, EPY_CHANNEL_DONE); /* the end of the queue is where it was */
    get(&ch, 7);
    CHECK(epy_channel_look(&ch).count == 0 && epy_channel_look(&ch).size == 0);
    epy_channel_fini(&ch);
}

static void what_is_put_back_is_in_its_place(void)
{
    check_order((const int[]){0, 1, 2, 3}, 4);
    check_order((const int[]){3, 2, 1, 0}, 4);
    check_order((const int[]){1, 3, 0, 2}, 4);
    check_order((const int[]){2, 0, 3, 1}, 4);
    check_order((const int[]){0}, 1);
}

/* Some are put back while others have been taken again. */
static void what_is_put_back_twice_is_in_its_place(void)
{
    epy_channel ch;
    epy_item *items[3];
    epy_channel_init(&ch, 100);
    for (unsigned long i = 0; i < 3; i++)
        put(&ch, i, 1, EPY_CHANNEL_DONE);
    for (int i = 0; i < 3; i++)
        CHECK(epy_channel_get(&ch, &items[i], NULL, NULL) == EPY_CHANNEL_DONE);
    epy_channel_put_back(&ch, items[2], NULL);
    epy_channel_put_back(&ch, items[0], NULL);
    CHECK(epy_channel_get(&ch, &items[0], NULL, NULL) == EPY_CHANNEL_DONE);
    epy_channel_put_back(&ch, items[1], NULL);
    CHECK(epy_channel_get(&ch, &items[1], NULL, NULL) == EPY_CHANNEL_DONE);
    CHECK(epy_channel_get(&ch, &items[2], NULL, NULL) == EPY_CHANNEL_DONE);
    put(&ch, 3, 1, EPY_CHANNEL_DONE);
    epy_channel_put_back(&ch, items[2], NULL);
    epy_channel_put_back(&ch, items[1], NULL);
    epy_channel_put_back(&ch, items[0], NULL);
    for (unsigned long i = 0; i < 4; i++)
        get(&ch, i);
    epy_channel_fini(&ch);
}

static void a_full_channel_has_no_room_and_an_empty_one_has_it_for_any_item(void)
{
    epy_channel ch;
    epy_channel_init(&ch, 10);
    put(&ch, 1, 100, EPY_CHANNEL_DONE);
    put(&ch, 2, 1, EPY_CHANNEL_NOT_NOW);
    get(&ch, 1);
    put(&ch, 3, 6, EPY_CHANNEL_DONE);
    put(&ch, 4, 5, EPY_CHANNEL_NOT_NOW);
    put(&ch, 5, 4, EPY_CHANNEL_DONE);
    put(&ch, 6, 1, EPY_CHANNEL_NOT_NOW);
    get(&ch, 3);
    get(&ch, 5);
    epy_channel_fini(&ch);
}

static void an_item_goes_to_the_first_who_is_there(void)
{
    epy_channel ch;
    epy_item *item;
    asked gone = new_asked(false), left = new_asked(true);
    asked first = new_asked(true), second = new_asked(true);
    asked *all[] = {&gone, &left, &first, &second};
    epy_channel_init(&ch, 100);
    for (int i = 0; i < 4; i++)
        CHECK(epy_channel_get(&ch, &item, &all[i]->waiter, NULL) == EPY_CHANNEL_NOT_NOW);
    CHECK(epy_channel_leave(&ch, &left.waiter));
    CHECK(!epy_channel_leave(&ch, &left.waiter));
    put(&ch, 1, 1, EPY_CHANNEL_DONE);
    CHECK(gone.times == 1 && left.times == 0 && first.times == 1 && second.times == 0);
    CHECK(!epy_channel_leave(&ch, &first.waiter));
    epy_channel_put_back(&ch, first.item, NULL);
    CHECK(second.times == 1 && free_thing(second.item) == 1);
    put(&ch, 2, 1, EPY_CHANNEL_DONE);
    get(&ch, 2);
    epy_channel_fini(&ch);
}

static void senders_are_told_when_it_is_half_empty(void)
{
    epy_channel ch;
    asked a = new_asked(true), b = new_asked(true);
    thing *t = new_thing(9, 5);
    epy_channel_init(&ch, 10);
    for (unsigned long i = 0; i < 3; i++)
        put(&ch, i, 3, EPY_CHANNEL_DONE);
    CHECK(epy_channel_put(&ch, &t->item, &a.waiter, NULL) == EPY_CHANNEL_NOT_NOW);
    CHECK(epy_channel_put(&ch, &t->item, &b.waiter, NULL) == EPY_CHANNEL_NOT_NOW);
    get(&ch, 0);
    CHECK(a.times == 0 && b.times == 0);
    get(&ch, 1);
    CHECK(a.times == 1 && b.times == 1 && !a.item);
    CHECK(epy_channel_put(&ch, &t->item, &a.waiter, NULL) == EPY_CHANNEL_DONE);
    get(&ch, 2);
    get(&ch, 9);
    epy_channel_fini(&ch);
}

static void the_end_comes_after_the_items(void)
{
    epy_channel ch;
    epy_item *item;
    asked sender = new_asked(true), receiver = new_asked(true);
    thing *t = new_thing(2, 10);
    epy_channel_init(&ch, 10);
    put(&ch, 1, 10, EPY_CHANNEL_DONE);
    CHECK(epy_channel_put(&ch, &t->item, &sender.waiter, NULL) == EPY_CHANNEL_NOT_NOW);
    CHECK(epy_channel_close(&ch, NULL));
    CHECK(!epy_channel_close(&ch, NULL));
    CHECK(sender.times == 1);
    CHECK(epy_channel_put(&ch, &t->item, &sender.waiter, NULL) == EPY_CHANNEL_CLOSED);
    get(&ch, 1);
    CHECK(epy_channel_get(&ch, &item, &receiver.waiter, NULL) == EPY_CHANNEL_CLOSED);
    CHECK(!receiver.waiter.line && !sender.waiter.line);
    free(t);
    epy_channel_fini(&ch);
}

static void who_waits_is_told_of_the_end(void)
{
    epy_channel ch;
    epy_item *item;
    asked a = new_asked(true), b = new_asked(true);
    epy_channel_init(&ch, 10);
    CHECK(epy_channel_get(&ch, &item, &a.waiter, NULL) == EPY_CHANNEL_NOT_NOW);
    CHECK(epy_channel_get(&ch, &item, &b.waiter, NULL) == EPY_CHANNEL_NOT_NOW);
    CHECK(epy_channel_close(&ch, NULL));
    CHECK(a.times == 1 && b.times == 1 && !a.item && !b.item);
    epy_channel_fini(&ch);
}

static bool is_it(epy_waiter *w, void *arg)
{
    return w == arg;
}

static void a_waiter_is_found_in_either_line(void)
{
    epy_channel ch;
    epy_item *item;
    asked a = new_asked(true), b = new_asked(true);
    thing *t = new_thing(2, 1);
    epy_channel_init(&ch, 1);
    CHECK(epy_channel_get(&ch, &item, &a.waiter, NULL) == EPY_CHANNEL_NOT_NOW);
    CHECK(epy_channel_remove(&ch, is_it, &a.waiter) == &a.waiter);
    CHECK(!epy_channel_remove(&ch, is_it, &a.waiter));
    put(&ch, 1, 1, EPY_CHANNEL_DONE);
    CHECK(epy_channel_put(&ch, &t->item, &b.waiter, NULL) == EPY_CHANNEL_NOT_NOW);
    CHECK(epy_channel_remove(&ch, is_it, &b.waiter) == &b.waiter);
    CHECK(a.times == 0 && b.times == 0);
    CHECK((item = epy_channel_take_rest(&ch)) && free_thing(item) == 1);
    CHECK(!epy_channel_take_rest(&ch));
    free(t);
    epy_channel_fini(&ch);
}

/* ---- many threads ---- */

/* A thread that waits, as one in a frame does. */
typedef struct box {
    epy_waiter waiter;
    pthread_mutex_t lock; /* guards the next three */
    pthread_cond_t changed;
    bool open, told;
    epy_item *item;
} box;

static epy_channel channel;
static atomic_int senders_at_work;
static atomic_ulong sent_sum, received_sum, received_count, put_back_count;

static bool give_box(epy_waiter *w, epy_item *item, void *by)
{
    box *b = (box *)((char *)w - offsetof(box, waiter));
    (void)by;
    pthread_mutex_lock(&b->lock);
    bool open = b->open;
    if (open) {
        b->item = item;
        b->told = true;
        b->open = false;
        pthread_cond_signal(&b->changed);
    }
    pthread_mutex_unlock(&b->lock);
    return open;
}

static void open_box(box *b)
{
    *b = (box){.waiter = {.give = give_box}, .open = true};
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->changed, NULL);
}

/* Waits, or gives up at once. */
static void wait_for_box(box *b, bool patient)
{
    pthread_mutex_lock(&b->lock);
    while (patient && !b->told)
        pthread_cond_wait(&b->changed, &b->lock);
    b->open = false;
    pthread_mutex_unlock(&b->lock);
    (void)epy_channel_leave(&channel, &b->waiter);
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
}

static void send_thing(thing *t, unsigned *seed)
{
    for (;;) {
        box b;
        open_box(&b);
        epy_channel_code code = epy_channel_put(&channel, &t->item, &b.waiter, NULL);
        CHECK(code != EPY_CHANNEL_CLOSED);
        wait_for_box(&b, code == EPY_CHANNEL_NOT_NOW && rand_r(seed) % 8 != 0);
        CHECK(!b.item);
        if (code == EPY_CHANNEL_DONE)
            return;
        sched_yield();
    }
}

static void *sender(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    for (int i = 0; i < ROUNDS * scale; i++) {
        unsigned long value = (unsigned long)rand_r(&seed);
        atomic_fetch_add(&sent_sum, value);
        send_thing(new_thing(value, 1 + value % 5), &seed);
    }
    if (atomic_fetch_sub(&senders_at_work, 1) == 1)
        (void)epy_channel_close(&channel, NULL);
    return NULL;
}

/* 1: an item; 0: none this time; -1: it is closed. */
static int receive(epy_item **item, unsigned *seed)
{
    box b;
    open_box(&b);
    epy_channel_code code = epy_channel_get(&channel, item, &b.waiter, NULL);
    wait_for_box(&b, code == EPY_CHANNEL_NOT_NOW && rand_r(seed) % 4 != 0);
    if (code == EPY_CHANNEL_DONE)
        return 1;
    if (code == EPY_CHANNEL_CLOSED || (b.told && !b.item))
        return -1;
    *item = b.item;
    return b.item ? 1 : 0;
}

static void *receiver(void *arg)
{
    unsigned seed = 100 + (unsigned)(uintptr_t)arg;
    for (;;) {
        epy_item *item;
        int r = receive(&item, &seed);
        if (r < 0)
            return NULL;
        if (r == 0) {
            sched_yield();
        } else if (rand_r(&seed) % 8 == 0) {
            epy_channel_put_back(&channel, item, NULL);
            atomic_fetch_add(&put_back_count, 1);
        } else {
            atomic_fetch_add(&received_sum, free_thing(item));
            atomic_fetch_add(&received_count, 1);
        }
    }
}

/* Who puts an item back when the channel was closed meanwhile comes for it again. */
static void each_item_is_received_once_and_nobody_waits_in_vain(void)
{
    pthread_t threads[SENDERS + RECEIVERS];
    ATOMIC_FIELDS(senders_at_work);
    ATOMIC_FIELDS(sent_sum);
    ATOMIC_FIELDS(received_sum);
    ATOMIC_FIELDS(received_count);
    ATOMIC_FIELDS(put_back_count);
    epy_channel_init(&channel, MAX_SIZE);
    atomic_store(&senders_at_work, SENDERS);
    for (int i = 0; i < SENDERS + RECEIVERS; i++)
        CHECK(pthread_create(&threads[i], NULL, i < SENDERS ? sender : receiver,
                             (void *)(uintptr_t)(i + 1)) == 0);
    for (int i = 0; i < SENDERS + RECEIVERS; i++)
        pthread_join(threads[i], NULL);
    CHECK(atomic_load(&received_count) == (unsigned long)SENDERS * ROUNDS * (unsigned long)scale);
    CHECK(atomic_load(&received_sum) == atomic_load(&sent_sum));
    CHECK(atomic_load(&put_back_count) > 0);
    CHECK(epy_channel_look(&channel).size == 0 && epy_channel_look(&channel).count == 0);
    CHECK(!channel.receivers.first && !channel.senders.first);
    epy_channel_fini(&channel);
}

static const unit_test tests[] = {
    TEST(items_come_in_their_order),
    TEST(what_is_put_back_is_in_its_place),
    TEST(what_is_put_back_twice_is_in_its_place),
    TEST(a_full_channel_has_no_room_and_an_empty_one_has_it_for_any_item),
    TEST(an_item_goes_to_the_first_who_is_there),
    TEST(senders_are_told_when_it_is_half_empty),
    TEST(the_end_comes_after_the_items),
    TEST(who_waits_is_told_of_the_end),
    TEST(a_waiter_is_found_in_either_line),
    TEST(each_item_is_received_once_and_nobody_waits_in_vain),
};

int main(int argc, char **argv)
{
    return run_tests(tests, sizeof tests / sizeof tests[0], argc, argv);
}
