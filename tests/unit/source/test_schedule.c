#include "fixture.h"

#include "base/loop.h"

#include <sys/timerfd.h>
#include <time.h>

#define SECOND 1000
#define MINUTE 60000
#define HOUR 3600000LL
#define DAY (24 * HOUR)

struct sim {
    struct world world; /* first */
    struct clock_manual clock;
    struct timers timers;
};

static int64_t utc(const char *text)
{
    int64_t ms;
    assert_int_equal(time_parse(text, &ms), 0);
    return ms;
}

static int setup(void **state)
{
    struct sim *s = xcalloc(1, sizeof(*s));
    world_init(&s->world, &source_schedule);
    clock_manual_init(&s->clock, utc("2024-05-01T12:00:00Z"), 777);
    timers_init(&s->timers, NULL, NULL);
    s->world.env.clock = &s->clock.clock;
    s->world.env.timers = &s->timers;
    *state = s;
    return 0;
}

/* So many milliseconds pass. */
static void pass(struct sim *s, int64_t ms)
{
    int64_t end = s->clock.monotonic_ms + ms, due;
    for (;;) {
        world_work(&s->world);
        due = timers_next(&s->timers);
        if (due < 0 || due > end)
            break;
        if (due > s->clock.monotonic_ms)
            clock_manual_advance(&s->clock, due - s->clock.monotonic_ms);
        timers_run(&s->timers, s->clock.monotonic_ms);
    }
    clock_manual_advance(&s->clock, end - s->clock.monotonic_ms);
}

static void stop(struct sim *s)
{
    world_stop_begin(&s->world);
    while (!s->world.source) {
        int64_t due = timers_next(&s->timers);
        assert_true(due >= 0);
        timers_run(&s->timers, due);
    }
}

static int teardown(void **state)
{
    struct sim *s = *state;
    if (!s->world.stopped && s->world.source)
        stop(s);
    world_fini(&s->world);
    timers_fini(&s->timers);
    free(s);
    return 0;
}

/* Exactly these have fired so far, in this order; then they are forgotten. */
static void expect(struct sim *s, const char *const *times)
{
    size_t i = 0;
    const struct told *t;
    DL_FOREACH (s->world.events, t) {
        const char *at = value_get_string(t->data, "scheduled_at");
        if (!times[i])
            fail_msg("fired at %s and should not", at);
        if (utc(times[i]) != utc(at))
            fail_msg("%s expected, fired at %s", times[i], at);
        assert_string_equal(t->event_type, "schedule");
        i++;
    }
    if (times[i])
        fail_msg("%s expected, nothing fired", times[i]);
    world_forget_events(&s->world);
}
#define EXPECT(s, ...) expect(s, (const char *const[]){__VA_ARGS__, NULL})
#define EXPECT_NOTHING(s) expect(s, (const char *const[]){NULL})

static void test_cron(void **state)
{
    struct sim *s = *state;
    world_start(&s->world, "{\"cron\": \"*/5 * * * *\"}");
    assert_int_equal(s->world.reports, 0); /* never from inside start() */
    pass(s, 0);
    assert_int_equal(s->world.state, SOURCE_CONNECTED);
    assert_string_equal(s->world.reason, "Scheduled");
    assert_string_equal(s->world.message, "next at 2024-05-01T12:05:00.000Z");
    pass(s, 5 * MINUTE - 1);
    EXPECT_NOTHING(s);
    pass(s, 1);
    world_work(&s->world);
    assert_string_equal(s->world.events->identity, "schedule/2024-05-01T12:05:00.000Z");
    assert_string_equal(s->world.events->text,
                        "{\"scheduled_at\":\"2024-05-01T12:05:00.000Z\",\"fired_at\":\"2024-05-01T12:05:00.000Z\"}");
    EXPECT(s, "2024-05-01T12:05:00Z");
    pass(s, 10 * MINUTE);
    EXPECT(s, "2024-05-01T12:10:00Z", "2024-05-01T12:15:00Z");
    assert_string_equal(s->world.message, "next at 2024-05-01T12:20:00.000Z");
}

static void test_timezone(void **state)
{
    struct sim *s = *state;
    world_start(&s->world, "{\"cron\": \"30 15 * * *\", \"timezone\": \"Europe/Rome\"}");
    pass(s, 2 * DAY);
    EXPECT(s, "2024-05-01T13:30:00Z", "2024-05-02T13:30:00Z");
}

static void test_every_seconds(void **state)
{
    struct sim *s = *state;
    world_start(&s->world, "{\"every_seconds\": 0.25}");
    pass(s, 1000);
    world_work(&s->world);
    EXPECT(s, "2024-05-01T12:00:00.250Z", "2024-05-01T12:00:00.500Z", "2024-05-01T12:00:00.750Z",
           "2024-05-01T12:00:01Z");
    /* Over a restart it keeps its phase. */
    stop(s);
    pass(s, 330);
    world_start(&s->world, NULL);
    pass(s, 400);
    EXPECT(s, "2024-05-01T12:00:01.500Z");
}

static void test_catching_up(void **state)
{
    struct sim *s = *state;
    char config[128];
    static const char *const policies[] = {"none", "one", "all"};
    for (size_t i = 0; i < 3; i++) {
        s->clock.realtime_ms = utc("2024-05-01T12:00:30Z") + (int64_t)i * DAY;
        s->world.host.is_new = true;
        snprintf(config, sizeof(config), "{\"cron\": \"* * * * *\", \"catch_up\": \"%s\"}", policies[i]);
        world_start(&s->world, config);
        pass(s, MINUTE);
        stop(s);
        world_forget_events(&s->world);
        pass(s, 3 * MINUTE);
        world_start(&s->world, NULL);
        pass(s, MINUTE);
        stop(s);
        if (i == 0)
            EXPECT(s, "2024-05-01T12:05:00Z");
        else if (i == 1)
            EXPECT(s, "2024-05-02T12:04:00Z", "2024-05-02T12:05:00Z");
        else
            EXPECT(s, "2024-05-03T12:02:00Z", "2024-05-03T12:03:00Z", "2024-05-03T12:04:00Z", "2024-05-03T12:05:00Z");
    }
}

/* Also those that came before the first one fired. */
static void test_catching_up_with_the_first(void **state)
{
    struct sim *s = *state;
    world_start(&s->world, "{\"cron\": \"0 13 * * *\", \"catch_up\": \"one\"}");
    pass(s, MINUTE);
    stop(s);
    pass(s, 2 * DAY);
    world_start(&s->world, NULL);
    pass(s, MINUTE);
    EXPECT(s, "2024-05-02T13:00:00Z");
}

static void catch_up_a_thousand(struct sim *s, const char *config, int64_t step, const char *last)
{
    world_start(&s->world, config);
    pass(s, MINUTE);
    stop(s);
    world_forget_events(&s->world);
    s->clock.realtime_ms = utc("2025-01-01T00:00:30Z");
    world_start(&s->world, NULL);
    world_work(&s->world);
    pass(s, SECOND);
    assert_int_equal(s->world.n_events, 1000);
    assert_non_null(strstr(s->world.message, "more than 1000"));
    int64_t expected = utc(last) - 999 * step;
    const struct told *t;
    DL_FOREACH (s->world.events, t) {
        assert_int_equal(utc(value_get_string(t->data, "scheduled_at")), expected);
        expected += step;
    }
    world_forget_events(&s->world);
    pass(s, step);
    assert_int_equal(s->world.n_events, 1);
    assert_null(strstr(s->world.message, "more than 1000"));
}

static void test_catching_up_is_bounded(void **state)
{
    catch_up_a_thousand(*state, "{\"cron\": \"*/2 * * * *\", \"catch_up\": \"all\"}", 2 * MINUTE,
                        "2025-01-01T00:00:00Z");
}

static void test_catching_up_is_bounded_for_every_seconds(void **state)
{
    catch_up_a_thousand(*state, "{\"every_seconds\": 30, \"catch_up\": \"all\"}", 30 * SECOND, "2025-01-01T00:00:30Z");
}

static void test_a_new_schedule_has_missed_nothing(void **state)
{
    struct sim *s = *state;
    world_start(&s->world, "{\"cron\": \"0 * * * *\", \"catch_up\": \"all\"}");
    pass(s, HOUR);
    stop(s);
    world_forget_events(&s->world);
    pass(s, HOUR);
    world_start(&s->world, "{\"cron\": \"*/30 * * * *\", \"catch_up\": \"all\"}");
    pass(s, 40 * MINUTE);
    EXPECT(s, "2024-05-01T14:30:00Z");
    stop(s);
    s->world.host.is_new = true; /* deleted, and another of that name */
    pass(s, DAY);
    world_start(&s->world, NULL);
    pass(s, 30 * MINUTE);
    EXPECT(s, "2024-05-02T15:00:00Z");
}

/* The clock is set forward over some times: they are missed. */
static void test_clock_set_forward(void **state)
{
    struct sim *s = *state;
    world_start(&s->world, "{\"cron\": \"0 * * * *\", \"catch_up\": \"one\"}");
    pass(s, MINUTE);
    s->clock.realtime_ms += 3 * HOUR;
    pass(s, HOUR); /* the longest that it sleeps */
    EXPECT(s, "2024-05-01T15:00:00Z", "2024-05-01T16:00:00Z");
}

static void test_clock_set_back(void **state)
{
    struct sim *s = *state;
    world_start(&s->world, "{\"cron\": \"0 * * * *\", \"catch_up\": \"all\"}");
    pass(s, 2 * HOUR + MINUTE);
    EXPECT(s, "2024-05-01T13:00:00Z", "2024-05-01T14:00:00Z");
    s->clock.realtime_ms -= HOUR;
    pass(s, 2 * HOUR);
    EXPECT(s, "2024-05-01T15:00:00Z");
    s->clock.realtime_ms -= 365 * DAY; /* that was no correction but another time; noticed within the hour */
    pass(s, 3 * HOUR);
    EXPECT(s, "2023-05-02T17:00:00Z", "2023-05-02T18:00:00Z");
}

static void test_every_seconds_follows_elapsed_time(void **state)
{
    struct sim *s = *state;
    world_start(&s->world, "{\"every_seconds\": 100, \"catch_up\": \"all\"}");
    pass(s, 150 * SECOND);
    EXPECT(s, "2024-05-01T12:01:40Z");
    s->clock.realtime_ms += DAY;
    pass(s, 100 * SECOND);
    EXPECT(s, "2024-05-02T12:03:20Z");
    s->clock.realtime_ms -= 10 * DAY;
    pass(s, 100 * SECOND);
    EXPECT(s, "2024-04-22T12:05:00Z");
}

static void test_jitter(void **state)
{
    struct sim *s = *state;
    struct random_seeded seeded;
    random_seeded_init(&seeded, 1);
    s->world.env.random = &seeded.random;
    world_start(&s->world, "{\"cron\": \"* * * * *\", \"jitter_seconds\": 90}");
    pass(s, 100 * MINUTE);
    assert_in_range(s->world.n_events, 98, 100);
    int64_t expected = utc("2024-05-01T12:01:00Z"), largest = 0;
    const struct told *t;
    DL_FOREACH (s->world.events, t) {
        int64_t at = utc(value_get_string(t->data, "scheduled_at"));
        int64_t late = utc(value_get_string(t->data, "fired_at")) - at;
        assert_int_equal(at, expected);
        assert_in_range(late, 0, 90 * SECOND);
        largest = MAX(largest, late);
        expected += MINUTE;
    }
    assert_true(largest > 60 * SECOND);
}

/* A report that is not recorded is repeated, word for word, and later ones wait for it. */
static void test_refused(void **state)
{
    struct sim *s = *state;
    world_start(&s->world, "{\"every_seconds\": 1}");
    pass(s, 0);
    s->world.refuse = 3;
    pass(s, 1100);
    EXPECT_NOTHING(s);
    assert_int_equal(s->world.refuse, 2);
    pass(s, 7000);
    const struct told *first = s->world.events;
    assert_string_equal(value_get_string(first->data, "scheduled_at"), "2024-05-01T12:00:01.000Z");
    assert_string_equal(value_get_string(first->data, "fired_at"), "2024-05-01T12:00:01.000Z");
    assert_int_equal(s->world.n_events, 8); /* and what waited behind it was not too late */
}

/* Killed after the record, before that is known: one event. Before the record: one too. */
static void test_crash(void **state)
{
    struct sim *s = *state;
    for (int recorded = 0; recorded < 2; recorded++) {
        world_start(&s->world, "{\"every_seconds\": 60}");
        pass(s, 0);
        int64_t due = s->clock.realtime_ms + MINUTE;
        s->world.hold = true;
        pass(s, MINUTE);
        world_work(&s->world);
        assert_non_null(s->world.unsettled);
        if (recorded) {
            struct told *t = s->world.unsettled;
            memory_put(&s->world.seen, t->identity, strlen(t->identity), t->text, strlen(t->text));
        }
        stop(s);
        world_lose(&s->world);
        s->world.hold = false;
        pass(s, 5 * SECOND);
        world_start(&s->world, NULL);
        pass(s, SECOND);
        assert_int_equal(s->world.n_events, !recorded);
        assert_int_equal(s->world.n_duplicates, recorded);
        if (!recorded)
            assert_int_equal(utc(value_get_string(s->world.events->data, "scheduled_at")), due);
        stop(s);
        world_forget_events(&s->world);
        memory_free(&s->world.kv);
    }
}

static void test_pause(void **state)
{
    struct sim *s = *state;
    world_start(&s->world, "{\"cron\": \"* * * * *\", \"catch_up\": \"one\"}");
    pass(s, MINUTE);
    world_work(&s->world);
    EXPECT(s, "2024-05-01T12:01:00Z");
    source_schedule.pause(s->world.source);
    pass(s, 5 * MINUTE + 30 * SECOND);
    EXPECT_NOTHING(s);
    source_schedule.resume(s->world.source);
    pass(s, MINUTE);
    EXPECT(s, "2024-05-01T12:06:00Z", "2024-05-01T12:07:00Z");
}

static void test_edit(void **state)
{
    struct sim *s = *state;
    char why[512];
    world_start(&s->world, "{\"cron\": \"* * * * *\"}");
    pass(s, 0);
    assert_int_equal(world_config(&s->world, "{\"cron\": \"* * * * *\", \"jitter_seconds\": 30}", why), 0);
    source_schedule.update(s->world.source, &s->world.trigger);
    pass(s, 90 * SECOND);
    const struct told *t = s->world.events;
    assert_non_null(t);
    assert_string_not_equal(value_get_string(t->data, "scheduled_at"), value_get_string(t->data, "fired_at"));
}

static void test_store_that_fails(void **state)
{
    struct sim *s = *state;
    s->world.store_fails = true;
    world_start(&s->world, "{\"every_seconds\": 1}");
    pass(s, 3 * SECOND);
    world_work(&s->world);
    assert_int_equal(s->world.n_events, 3);
}

static void test_stop_at_any_time(void **state)
{
    struct sim *s = *state;
    for (int steps = 0; steps < 12; steps++) {
        world_start(&s->world, "{\"every_seconds\": 1}");
        for (int i = 0; i < steps; i++)
            if (!world_work_one(&s->world))
                pass(s, 500);
        stop(s);
        world_work(&s->world);
    }
}

static void test_errors(void **state)
{
    struct sim *s = *state;
    static const char *const cases[][2] = {
        {"{}", "config: expected cron or every_seconds"},
        {"{\"cron\": \"* * * * *\", \"every_seconds\": 1}", "config.every_seconds: cron is given already"},
        {"{\"cron\": \"* * * *\"}", "config.cron: not a cron expression"},
        {"{\"cron\": \"61 * * * *\"}", "config.cron: "},
        {"{\"cron\": \"\"}", "config.cron: "},
        {"{\"cron\": \"* * * * *\", \"timezone\": \"Europe/Nowhere\"}", "config.timezone: "},
        {"{\"every_seconds\": 0}", "config.every_seconds: "},
        {"{\"every_seconds\": 0.05}", "config.every_seconds: "},
        {"{\"every_seconds\": 31622401}", "config.every_seconds: "},
        {"{\"every_seconds\": 1, \"jitter_seconds\": -1}", "config.jitter_seconds: "},
        {"{\"every_seconds\": 1, \"jitter_seconds\": 86401}", "config.jitter_seconds: "},
        {"{\"every_seconds\": 1, \"catch_up\": \"some\"}", "config.catch_up: "},
        {"{\"every_seconds\": 1, \"filter\": {}}", "config.filter: "},
    };
    char why[512];
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_true(world_config(&s->world, cases[i][0], why) > 0);
        if (strncmp(why, cases[i][1], strlen(cases[i][1])) != 0)
            fail_msg("%s: %s", cases[i][0], why);
    }
    assert_int_equal(world_config(&s->world, "{\"every_seconds\": 0.1}", why), 0);
    assert_int_equal(world_config(&s->world, "{\"cron\": \"@daily\", \"timezone\": \"+02:00\"}", why), 0);
}

/* On a real loop: the timers come, and stopping leaves nothing open. */
static void on_tick(struct timer *timer, void *ctx)
{
    struct world *w = ctx;
    world_work(w);
    if (w->n_events < 2) {
        loop_timer_start(w->env.loop, timer, 1);
        return;
    }
    world_stop_begin(w);
}

static void test_on_a_loop(void **state)
{
    (void)state;
    struct world w;
    struct loop loop;
    struct timer tick;
    world_init(&w, &source_schedule);
    assert_int_equal(loop_init(&loop), 0);
    w.env.loop = &loop;
    w.env.timers = &loop.timers;
    w.env.clock = clock_system();
    world_start(&w, "{\"every_seconds\": 0.1}");
    timer_init(&tick, on_tick, &w);
    loop_timer_start(&loop, &tick, 1);
    assert_int_equal(loop_run(&loop), 0);
    assert_non_null(w.source);
    world_work(&w);
    world_fini(&w);
    assert_int_equal(loop_fini(&loop), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_cron),
        TEST(test_timezone),
        TEST(test_every_seconds),
        TEST(test_catching_up),
        TEST(test_catching_up_with_the_first),
        TEST(test_catching_up_is_bounded),
        TEST(test_catching_up_is_bounded_for_every_seconds),
        TEST(test_a_new_schedule_has_missed_nothing),
        TEST(test_clock_set_forward),
        TEST(test_clock_set_back),
        TEST(test_every_seconds_follows_elapsed_time),
        TEST(test_jitter),
        TEST(test_refused),
        TEST(test_crash),
        TEST(test_pause),
        TEST(test_edit),
        TEST(test_store_that_fails),
        TEST(test_stop_at_any_time),
        TEST(test_errors),
        cmocka_unit_test(test_on_a_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
