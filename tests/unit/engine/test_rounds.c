/* Which files count as a run's own, by the time at which they were written. */
#include "engine/internal.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define START_MS 1767225600000LL

struct rig {
    struct clock_manual clock;
    struct timers timers;
    struct engine engine;
    struct source_type type;
    struct trigger spec;
    struct live_trigger t;
};

static void rig_init(struct rig *r)
{
    *r = (struct rig){.type = {.own_writes = true}};
    clock_manual_init(&r->clock, START_MS, 1000);
    timers_init(&r->timers, NULL, NULL);
    r->engine.clock = &r->clock.clock;
    r->engine.timers = &r->timers;
    timer_init(&r->t.cooldown, NULL, NULL);
    r->t.engine = &r->engine;
    r->t.type = &r->type;
    r->t.spec = &r->spec;
}

static void rig_fini(struct rig *r)
{
    timer_stop(&r->timers, &r->t.cooldown);
    timers_fini(&r->timers);
    rounds_free(r->t.rounds);
}

/* Files one after the other, each so long after the one before it, and a run for each, which lasts `lasts_ms`: where that
 * is as long, it ends when the next file was told of. What a file's time says is that of the clock's last tick, of 4 ms.
 * Returns the most rounds that were counted; *ret_suspect: was one of them to wait? */
static int most_rounds(int64_t every_ms, int64_t lasts_ms, bool *ret_suspect)
{
    struct rig r;
    rig_init(&r);
    struct live_run run = {0};
    int most = 0;
    *ret_suspect = false;
    for (int i = 0; i < 20; i++) {
        int64_t now = r.clock.realtime_ms;
        struct occurrence o = {.occurred_ms = now, .written_ms = now / 4 * 4};
        struct live_event ev = {.round = rounds_count(&r.t, &o)};
        most = MAX(most, ev.round.n);
        *ret_suspect = *ret_suspect || rounds_suspect(&r.t, &ev.round, NULL);
        if (lasts_ms == every_ms)
            rounds_run_ended(&r.t, &run);
        run.row.started_ms = now;
        rounds_run_started(&r.t, &run, &ev);
        clock_manual_advance(&r.clock, lasts_ms);
        if (lasts_ms < every_ms)
            rounds_run_ended(&r.t, &run);
        clock_manual_advance(&r.clock, every_ms - lasts_ms);
    }
    rig_fini(&r);
    return most;
}

static void what_comes_after_the_end_is_of_others(void **state)
{
    (void)state;
    bool suspect;
    for (int64_t every_ms = 2; every_ms <= 8; every_ms++)
        assert_int_equal(most_rounds(every_ms, 1, &suspect), 0);
}

static void what_comes_before_the_end_is_the_runs(void **state)
{
    (void)state;
    bool suspect;
    assert_true(most_rounds(8, 8, &suspect) > 1);
    assert_true(suspect);
}

/* Files all at once, a run for each after them: before one is to wait, a run is over in whose time none came. */
static void many_at_once_are_of_others(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    struct live_run run = {0};
    enum { N = 200, LASTS_MS = 3 };
    struct round rounds[N];
    int64_t first = r.clock.realtime_ms, next = 0;
    for (int i = 0, begun = 0; begun < N; clock_manual_advance(&r.clock, 1)) {
        for (int64_t now = r.clock.realtime_ms; i < N && i <= (now - first) * 4; i++) { /* four a millisecond */
            struct occurrence o = {.occurred_ms = now, .written_ms = now / 4 * 4};
            rounds[i] = rounds_count(&r.t, &o);
        }
        if (r.clock.realtime_ms - first < next)
            continue;
        if (begun > 0)
            rounds_run_ended(&r.t, &run);
        assert_false(rounds_suspect(&r.t, &rounds[begun], NULL));
        struct live_event ev = {.round = rounds[begun++]};
        run.row.started_ms = r.clock.realtime_ms;
        rounds_run_started(&r.t, &run, &ev);
        next += LASTS_MS;
    }
    rig_fini(&r);
}

/* Runs of 1 ms, one after the other, more than are kept apart; what the first of them wrote is told of late. */
static void what_is_told_late_is_found_among_many_runs(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    struct live_run run = {0};
    int64_t first = r.clock.realtime_ms;
    for (int i = 0; i < 2000; i++) {
        struct live_event ev = {.round = {.n = 1, .since_ms = first, .suspected = true}};
        run.row.started_ms = r.clock.realtime_ms;
        rounds_run_started(&r.t, &run, &ev);
        clock_manual_advance(&r.clock, 1);
        rounds_run_ended(&r.t, &run);
    }
    struct occurrence o = {.occurred_ms = r.clock.realtime_ms, .written_ms = first + 20};
    assert_int_equal(rounds_count(&r.t, &o).n, 2);
    clock_manual_advance(&r.clock, 1000);
    o = (struct occurrence){.occurred_ms = r.clock.realtime_ms, .written_ms = r.clock.realtime_ms};
    assert_int_equal(rounds_count(&r.t, &o).n, 0);
    rig_fini(&r);
}

/* Time goes on until the trigger does not stand still any more; a file that came so long after it began was of others. */
static void stand_still(struct rig *r, cJSON *data, int64_t others_after_ms)
{
    int64_t begun = r->clock.realtime_ms;
    for (; rounds_left(&r->t) > 0; rounds_judge(&r->t)) {
        clock_manual_advance(&r->clock, 1);
        int64_t now = r->clock.realtime_ms;
        struct occurrence o = {.data = data, .occurred_ms = now, .written_ms = now};
        if (others_after_ms > 0 && now == begun + others_after_ms)
            assert_int_equal(rounds_count(&r->t, &o).n, 0);
    }
}

/* One file; while each run for it lasts, it is written again. Returns how many ran before it was known whose it is. */
static int runs_for_one_file(int64_t others_after_ms, bool *ret_proved)
{
    struct rig r;
    rig_init(&r);
    struct live_run run = {0};
    _cleanup_(cjson_deletep) cJSON *data = cJSON_Parse("{\"path\":\"/log\"}");
    struct occurrence o = {.data = data, .occurred_ms = START_MS, .written_ms = START_MS};
    struct round round = {0};
    int runs = 0;
    bool held = false;
    do {
        struct live_event ev = {.round = round, .path = xstrdup("/log")};
        run.row.started_ms = r.clock.realtime_ms;
        rounds_run_started(&r.t, &run, &ev);
        runs++;
        clock_manual_advance(&r.clock, 100);
        o.occurred_ms = o.written_ms = r.clock.realtime_ms;
        round = rounds_count(&r.t, &o);
        assert_false(round.suspected || round.proved);
        r.t.n_running = 1;
        held = held || rounds_suspect(&r.t, &round, "/log");
        clock_manual_advance(&r.clock, 50);
        rounds_run_ended(&r.t, &run);
        r.t.n_running = 0;
        stand_still(&r, data, others_after_ms);
    } while (runs <= ROUNDS_MAX && (!held || rounds_suspect(&r.t, &round, "/log")));
    o.occurred_ms = r.clock.realtime_ms; /* told only now */
    *ret_proved = rounds_count(&r.t, &o).proved;
    rig_fini(&r);
    return runs;
}

static void a_file_that_is_written_while_nothing_runs_is_of_others(void **state)
{
    (void)state;
    bool proved;
    assert_in_range(runs_for_one_file(200, &proved), ROUNDS_MAX - 1, ROUNDS_MAX);
    assert_false(proved);
}

static void a_file_that_only_its_runs_write_is_a_loop(void **state)
{
    (void)state;
    bool proved;
    runs_for_one_file(0, &proved);
    assert_true(proved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_comes_after_the_end_is_of_others),
        cmocka_unit_test(what_comes_before_the_end_is_the_runs),
        cmocka_unit_test(many_at_once_are_of_others),
        cmocka_unit_test(what_is_told_late_is_found_among_many_runs),
        cmocka_unit_test(a_file_that_is_written_while_nothing_runs_is_of_others),
        cmocka_unit_test(a_file_that_only_its_runs_write_is_a_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
