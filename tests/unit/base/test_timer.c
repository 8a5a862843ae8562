#include "base/timer.h"

#include "base/random.h"
#include "base/util.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* What the callbacks share: the order of calls, and what a call is to do. */
struct scene {
    struct timers timers;
    struct timer *called[16];
    size_t count;
    struct timer *to_start, *to_stop;
    int64_t start_at;
    char *to_free;
    unsigned changes;
};

static void on_changed(struct timers *timers, void *ctx)
{
    (void)timers;
    ((struct scene *)ctx)->changes++;
}

static void note(struct timer *timer, void *ctx)
{
    struct scene *s = ctx;
    assert_false(timer_active(timer));
    s->called[s->count++ % ARRAY_SIZE(s->called)] = timer;
    if (s->to_stop)
        timer_stop(&s->timers, steal(&s->to_stop));
    if (s->to_start)
        timer_start(&s->timers, steal(&s->to_start), s->start_at);
    free(steal(&s->to_free));
}

static void in_order_of_due_then_start(void **state)
{
    (void)state;
    struct scene s = {.count = 0};
    struct timer t[5];
    timers_init(&s.timers, NULL, NULL);
    assert_int_equal(timers_next(&s.timers), -1);
    for (size_t i = 0; i < 5; i++)
        timer_init(&t[i], note, &s);
    timer_start(&s.timers, &t[0], 20);
    timer_start(&s.timers, &t[1], 10);
    timer_start(&s.timers, &t[2], 10);
    timer_start(&s.timers, &t[3], 5);
    timer_start(&s.timers, &t[4], 10);
    timer_start(&s.timers, &t[1], 10); /* started anew: last of its time */
    assert_int_equal(timers_next(&s.timers), 5);
    timers_run(&s.timers, 4);
    assert_int_equal(s.count, 0);
    timers_run(&s.timers, 10);
    assert_int_equal(s.count, 4);
    assert_ptr_equal(s.called[0], &t[3]);
    assert_ptr_equal(s.called[1], &t[2]);
    assert_ptr_equal(s.called[2], &t[4]);
    assert_ptr_equal(s.called[3], &t[1]);
    assert_int_equal(timers_next(&s.timers), 20);
    timer_stop(&s.timers, &t[0]);
    timer_stop(&s.timers, &t[0]);
    assert_int_equal(timers_next(&s.timers), -1);
    timers_fini(&s.timers);
}

static void callbacks_may_stop_what_is_due_too(void **state)
{
    (void)state;
    struct scene s = {.count = 0};
    struct timer a, b, c;
    timers_init(&s.timers, NULL, NULL);
    timer_init(&a, note, &s);
    timer_init(&b, note, &s);
    timer_init(&c, note, &s);
    timer_start(&s.timers, &a, 1);
    timer_start(&s.timers, &b, 2);
    timer_start(&s.timers, &c, 3);
    s.to_stop = &b;
    timers_run(&s.timers, 3);
    assert_int_equal(s.count, 2);
    assert_ptr_equal(s.called[0], &a);
    assert_ptr_equal(s.called[1], &c);
    timers_fini(&s.timers);
}

static void a_timer_may_start_itself_and_waits_for_the_next_run(void **state)
{
    (void)state;
    struct scene s = {.count = 0};
    struct timer a;
    timers_init(&s.timers, on_changed, &s);
    timer_init(&a, note, &s);
    timer_start(&s.timers, &a, 5);
    assert_int_equal(s.changes, 1);
    s.to_start = &a;
    s.start_at = 1; /* due already */
    timers_run(&s.timers, 5);
    assert_int_equal(s.count, 1);
    assert_int_equal(s.changes, 1); /* whoever runs looks afterwards */
    assert_int_equal(timers_next(&s.timers), 1);
    timers_run(&s.timers, 5);
    assert_int_equal(s.count, 2);
    assert_int_equal(timers_next(&s.timers), -1);
    timers_fini(&s.timers);
}

static void a_callback_may_move_what_is_due_to_later(void **state)
{
    (void)state;
    struct scene s = {.count = 0};
    struct timer a, b;
    timers_init(&s.timers, NULL, NULL);
    timer_init(&a, note, &s);
    timer_init(&b, note, &s);
    timer_start(&s.timers, &a, 1);
    timer_start(&s.timers, &b, 1);
    s.to_start = &b;
    s.start_at = 9;
    timers_run(&s.timers, 1);
    assert_int_equal(s.count, 1);
    assert_int_equal(timers_next(&s.timers), 9);
    timers_fini(&s.timers);
    assert_false(timer_active(&b));
    timer_stop(&s.timers, &b);
}

static void a_callback_may_free_its_timer_and_others(void **state)
{
    (void)state;
    struct scene s = {.count = 0};
    struct timer *pair = xcalloc(2, sizeof(*pair));
    timers_init(&s.timers, NULL, NULL);
    timer_init(&pair[0], note, &s);
    timer_init(&pair[1], note, &s);
    timer_start(&s.timers, &pair[0], 1);
    timer_start(&s.timers, &pair[1], 1);
    s.to_stop = &pair[1];
    s.to_free = (char *)pair;
    timers_run(&s.timers, 1);
    assert_int_equal(s.count, 1);
    timers_fini(&s.timers);
}

static void changed_is_told_only_when_the_earliest_changes(void **state)
{
    (void)state;
    struct scene s = {.count = 0};
    struct timer a, b;
    timers_init(&s.timers, on_changed, &s);
    timer_init(&a, note, &s);
    timer_init(&b, note, &s);
    timer_start(&s.timers, &a, 10);
    assert_int_equal(s.changes, 1);
    timer_start(&s.timers, &b, 20);
    timer_start(&s.timers, &b, 30);
    timer_stop(&s.timers, &b);
    timer_start(&s.timers, &b, 10);
    timer_stop(&s.timers, &a); /* b is due at the same time */
    assert_int_equal(s.changes, 1);
    timer_start(&s.timers, &a, 5);
    assert_int_equal(s.changes, 2);
    timer_stop(&s.timers, &a);
    timer_stop(&s.timers, &b);
    assert_int_equal(s.changes, 4);
    timers_fini(&s.timers);
}

struct checked {
    struct timer timer;
    int64_t expected; /* due, -1: stopped */
    bool called;
};

static int64_t last_due;
static void check_order(struct timer *timer, void *ctx)
{
    struct checked *c = ctx;
    assert_int_equal(timer->due_ms, c->expected);
    assert_true(timer->due_ms >= last_due);
    last_due = timer->due_ms;
    c->called = true;
}

static void random_starts_and_stops_keep_the_heap(void **state)
{
    (void)state;
    enum { N = 500 };
    struct random_seeded r;
    struct timers timers;
    struct checked *c = xcalloc(N, sizeof(*c));
    for (uint64_t seed = 1; seed <= 20; seed++) {
        random_seeded_init(&r, seed);
        timers_init(&timers, NULL, NULL);
        for (size_t i = 0; i < N; i++) {
            timer_init(&c[i].timer, check_order, &c[i]);
            c[i].expected = -1;
            c[i].called = false;
        }
        for (int i = 0; i < 5000; i++) {
            struct checked *one = &c[random_below(&r.random, N)];
            if (random_below(&r.random, 3) == 0) {
                timer_stop(&timers, &one->timer);
                one->expected = -1;
            } else {
                one->expected = (int64_t)random_below(&r.random, 1000);
                timer_start(&timers, &one->timer, one->expected);
            }
        }
        last_due = 0;
        for (int64_t now = 0; now < 1000; now += 100)
            timers_run(&timers, now);
        timers_run(&timers, 1000);
        for (size_t i = 0; i < N; i++)
            assert_int_equal(c[i].called, c[i].expected >= 0);
        assert_int_equal(timers_next(&timers), -1);
        timers_fini(&timers);
    }
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_order_of_due_then_start),
        cmocka_unit_test(callbacks_may_stop_what_is_due_too),
        cmocka_unit_test(a_timer_may_start_itself_and_waits_for_the_next_run),
        cmocka_unit_test(a_callback_may_move_what_is_due_to_later),
        cmocka_unit_test(a_callback_may_free_its_timer_and_others),
        cmocka_unit_test(changed_is_told_only_when_the_earliest_changes),
        cmocka_unit_test(random_starts_and_stops_keep_the_heap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
