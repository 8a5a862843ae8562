#include "base/clock.h"

#include "base/random.h"
#include "base/util.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

static void format_known_times(void **state)
{
    (void)state;
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {-1, "1969-12-31T23:59:59.999Z"},
        {951782400000, "2000-02-29T00:00:00.000Z"},
        {1767323045678, "2026-01-02T03:04:05.678Z"},
        {4107542399999, "2100-02-28T23:59:59.999Z"},
        {4107542400000, "2100-03-01T00:00:00.000Z"},
        {TIME_MIN_MS, "0000-01-01T00:00:00.000Z"},
        {TIME_MAX_MS, "9999-12-31T23:59:59.999Z"},
        {TIME_MIN_MS - 1, "0000-01-01T00:00:00.000Z"},
        {INT64_MAX, "9999-12-31T23:59:59.999Z"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char out[TIME_TEXT_SIZE];
        time_format(cases[i].ms, out);
        assert_string_equal(out, cases[i].text);
    }
}

static void format_agrees_with_libc_and_reads_back(void **state)
{
    (void)state;
    struct random_seeded r;
    random_seeded_init(&r, 7);
    for (int i = 0; i < 20000; i++) {
        int64_t ms = (int64_t)random_below(&r.random, (uint64_t)(TIME_MAX_MS - TIME_MIN_MS + 1)) + TIME_MIN_MS, back;
        char out[TIME_TEXT_SIZE], expected[64];
        time_t seconds = (time_t)((ms - TIME_MIN_MS) / 1000 + TIME_MIN_MS / 1000);
        struct tm tm;
        gmtime_r(&seconds, &tm);
        snprintf(expected, sizeof(expected), "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1,
                 tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)((ms - TIME_MIN_MS) % 1000));
        time_format(ms, out);
        assert_string_equal(out, expected);
        assert_int_equal(time_parse(out, &back), 0);
        assert_int_equal(back, ms);
    }
}

static void parse_accepts_rfc_3339(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"1970-01-01", 0},
        {"2026-01-02t03:04:05.678z", 1767323045678},
        {"2026-01-02 03:04:05.6789999Z", 1767323045678},
        {"2026-01-02T03:04:05.6Z", 1767323045600},
        {"2026-01-02T05:34:05.678+02:30", 1767323045678},
        {"2026-01-01T22:04:05.678-05:00", 1767323045678},
        {"2026-01-02T03:04:05.678-00:00", 1767323045678},
        {"2024-02-29", 1709164800000},
        {"2016-12-31T23:59:60Z", 1483228800000},
        {"2016-12-31T15:59:60.5-08:00", 1483228800000},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int64_t ms = 42;
        assert_int_equal(time_parse(cases[i].text, &ms), 0);
        assert_int_equal(ms, cases[i].ms);
    }
}

static void parse_refuses_all_else(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        "2026",
        "2026-1-2",
        "2026-01-02T03:04:05",
        "2026-01-02T03:04Z",
        "2026-01-02T03:04:05.Z",
        "2026-01-02T03:04:05,6Z",
        "2026-01-02T03:04:05Z ",
        " 2026-01-02",
        "2026-01-02T",
        "2026-01-02Z",
        "2026-00-02",
        "2026-13-02",
        "2026-01-00",
        "2026-01-32",
        "2026-02-29",
        "1900-02-29",
        "2026-04-31",
        "2026-01-02T24:00:00Z",
        "2026-01-02T03:60:00Z",
        "2026-01-02T03:04:60Z",
        "2026-01-02T23:59:61Z",
        "2026-01-02T03:04:05+24:00",
        "2026-01-02T03:04:05+01:60",
        "2026-01-02T03:04:05+0100",
        "2026-01-02T03:04:05+01",
        "0000-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "+2026-01-02",
        "12026-01-02",
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int64_t ms = 42;
        assert_int_equal(time_parse(cases[i], &ms), -EINVAL);
        assert_int_equal(ms, 42);
    }
}

static void durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {
        {"1h30m", 5400000},
        {"15m", 900000},
        {"90s", 90000},
        {"2d", 172800000},
        {"1w", 604800000},
        {"250ms", 250},
        {"1m1ms", 60001},
        {"1.5h", 5400000},
        {"0s", 0},
        {"0.001s", 1},
        {"1.0000000000000000000001s", 1000},
        {"366000d", 31622400000000},
        {"1w2d3h4m5s6ms", 788645006},
    };
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        int64_t ms = -7;
        assert_int_equal(duration_parse(good[i].text, &ms), 0);
        assert_int_equal(ms, good[i].ms);
    }
    static const char *const bad[] = {"",     "h",    "1",     "90",    "-1h",  "+1h",   "1 h", "1h ",
                                      "1H",   "1m1h", "1h1h",  "1y",    "1.h",  ".5h",   "1hm", "1.",
                                      "1e3s", "1mss", "1ms1s", "1h-1m", "1d1.", "1.1.1s"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        int64_t ms = -7;
        assert_int_equal(duration_parse(bad[i], &ms), -EINVAL);
        assert_int_equal(ms, -7);
    }
    static const char *const long_ones[] = {"366001d", "366000d1ms", "99999999999999999999999999w",
                                            "9223372036854775807ms"};
    for (size_t i = 0; i < ARRAY_SIZE(long_ones); i++) {
        int64_t ms = -7;
        assert_int_equal(duration_parse(long_ones[i], &ms), -ERANGE);
        assert_int_equal(ms, -7);
    }
}

static void since_takes_both(void **state)
{
    (void)state;
    int64_t ms = 42;
    assert_int_equal(time_parse_since("15m", 1000000, &ms), 0);
    assert_int_equal(ms, 100000);
    assert_int_equal(time_parse_since("1970-01-02", 5, &ms), 0);
    assert_int_equal(ms, 86400000);
    assert_int_equal(time_parse_since("yesterday", 5, &ms), -EINVAL);
    assert_int_equal(time_parse_since("1970-01-02Z", 5, &ms), -EINVAL);
    assert_int_equal(ms, 86400000);
    assert_int_equal(time_parse_since("1970-01-01T00:00:01.5", 5, &ms), 0);
    assert_int_equal(ms, 1500);
    assert_int_equal(time_parse("1970-01-01T00:00:01.5", &ms), -EINVAL);
    assert_int_equal(time_parse_since("1970-01-01T00:00:01.123456789", 5, &ms), 0);
    assert_int_equal(ms, 1123);
    assert_int_equal(time_parse_since("1970-01-01T00:00:01.1234567890", 5, &ms), -EINVAL);
}

static void clocks(void **state)
{
    (void)state;
    struct clock *system = clock_system();
    int64_t before = clock_monotonic_ms(system);
    assert_true(clock_monotonic_ms(system) >= before);
    assert_true(clock_realtime_ms(system) / 1000 - (int64_t)time(NULL) <= 1);
    struct clock_manual manual;
    clock_manual_init(&manual, 1000, 5);
    clock_manual_advance(&manual, 7);
    assert_int_equal(clock_realtime_ms(&manual.clock), 1007);
    assert_int_equal(clock_monotonic_ms(&manual.clock), 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(format_known_times),
        cmocka_unit_test(format_agrees_with_libc_and_reads_back),
        cmocka_unit_test(parse_accepts_rfc_3339),
        cmocka_unit_test(parse_refuses_all_else),
        cmocka_unit_test(durations),
        cmocka_unit_test(since_takes_both),
        cmocka_unit_test(clocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
