#include "lang/cron.h"

#include "base/util.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#define MINUTE_MS 60000

/* The C library's own idea of time zones, as a second opinion. */
static void use_zone(const char *zone)
{
    setenv("TZ", zone, 1);
    tzset();
}

static int64_t utc(const char *text)
{
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%d %H:%M", &tm);
    assert_non_null(rest);
    if (*rest == ':')
        tm.tm_sec = atoi(rest + 1);
    return (int64_t)timegm(&tm) * 1000;
}

static struct cron *compiled(const char *text, const char *zone)
{
    struct cron *c = NULL;
    struct error err = ERROR_INIT;
    if (cron_create(text, zone, &c, &err) < 0)
        fail_msg("%s: %s", text, err.message);
    return c;
}

/* From `after` (UTC) the schedule fires at these times (UTC), in this order. */
static void expect(const char *text, const char *zone, const char *after, const char *const *times)
{
    struct cron *c = compiled(text, zone);
    int64_t at = utc(after);
    for (; *times; times++) {
        int64_t next = 0;
        assert_int_equal(cron_next(c, at, &next), 0);
        if (next != utc(*times)) {
            time_t seconds = (time_t)(next / 1000);
            fail_msg("%s in %s: %s expected, got %s", text, zone, *times, asctime(gmtime(&seconds)));
        }
        at = next;
    }
    cron_destroy(c);
}

#define EXPECT(text, zone, after, ...) expect(text, zone, after, (const char *const[]){__VA_ARGS__, NULL})

static void test_fields(void **state)
{
    (void)state;
    EXPECT("*/5 * * * *", NULL, "2024-05-01 12:00", "2024-05-01 12:05", "2024-05-01 12:10");
    EXPECT("*/7 * * * *", NULL, "2024-05-01 12:55", "2024-05-01 12:56", "2024-05-01 13:00");
    EXPECT("10-30/10,45 3 * * *", NULL, "2024-05-01 03:10", "2024-05-01 03:20", "2024-05-01 03:30", "2024-05-01 03:45",
           "2024-05-02 03:10");
    EXPECT("0 9-17/4 * * mon-fri", NULL, "2024-05-03 13:00", "2024-05-03 17:00", "2024-05-06 09:00");
    EXPECT("0 0 * Jan,DEC *", NULL, "2024-01-31 12:00", "2024-12-01 00:00");
    EXPECT("0 0 * * 7", NULL, "2024-05-01 00:00", "2024-05-05 00:00", "2024-05-12 00:00");
    EXPECT("0 0 * * 0", NULL, "2024-05-01 00:00", "2024-05-05 00:00");
    EXPECT("0 0 * * 5-7", NULL, "2024-05-01 00:00", "2024-05-03 00:00", "2024-05-04 00:00", "2024-05-05 00:00",
           "2024-05-10 00:00");
    EXPECT("0 0 * * FRI-SUN", NULL, "2024-05-01 00:00", "2024-05-03 00:00", "2024-05-04 00:00", "2024-05-05 00:00",
           "2024-05-10 00:00");
    EXPECT("0 0 31 * *", NULL, "2024-01-31 00:00", "2024-03-31 00:00", "2024-05-31 00:00");
    EXPECT("  0\t0  1 1 *  ", NULL, "2024-05-01 00:00", "2025-01-01 00:00");
    EXPECT("@hourly", NULL, "2024-05-01 00:30", "2024-05-01 01:00", "2024-05-01 02:00");
    EXPECT("@daily", NULL, "2024-05-01 00:00", "2024-05-02 00:00");
    EXPECT("@Midnight", NULL, "2024-05-01 00:00", "2024-05-02 00:00");
    EXPECT("@weekly", NULL, "2024-05-01 00:00", "2024-05-05 00:00");
    EXPECT("@monthly", NULL, "2024-05-01 00:00", "2024-06-01 00:00");
    EXPECT("@yearly", NULL, "2024-05-01 00:00", "2025-01-01 00:00");
    EXPECT("@annually", NULL, "2024-05-01 00:00", "2025-01-01 00:00");
    EXPECT("59 23 31 12 *", NULL, "2024-12-31 23:58:59", "2024-12-31 23:59", "2025-12-31 23:59");
    EXPECT("0 12 * * *", "+05:30", "2024-05-01 00:00", "2024-05-01 06:30", "2024-05-02 06:30");
    EXPECT("0 12 * * *", "Asia/Kathmandu", "2024-05-01 00:00", "2024-05-01 06:15");
    EXPECT("* * * * *", NULL, "1969-12-31 23:58:30", "1969-12-31 23:59", "1970-01-01 00:00");
}

static void test_strictly_after(void **state)
{
    (void)state;
    struct cron *c = compiled("0 * * * *", NULL);
    int64_t hour = utc("2024-05-01 12:00"), next;
    assert_int_equal(cron_next(c, hour - 1, &next), 0);
    assert_int_equal(next, hour);
    assert_int_equal(cron_next(c, hour, &next), 0);
    assert_int_equal(next, hour + 60 * MINUTE_MS);
    assert_int_equal(cron_next(c, -1, &next), 0);
    assert_int_equal(next, 0);
    next = 7;
    assert_int_equal(cron_next(c, INT64_MAX, &next), -ERANGE);
    assert_int_equal(cron_next(c, INT64_MIN, &next), -ERANGE);
    assert_int_equal(next, 7);
    cron_destroy(c);
}

static void test_days(void **state)
{
    (void)state;
    /* both restricted: either (2024-05: the 13th is a Monday) */
    EXPECT("0 0 13 * FRI", NULL, "2024-05-10 12:00", "2024-05-13 00:00", "2024-05-17 00:00", "2024-05-24 00:00");
    /* one starts with `*`: both */
    EXPECT("0 0 */2 * MON", NULL, "2024-05-01 00:00", "2024-05-13 00:00", "2024-05-27 00:00", "2024-06-03 00:00");
    EXPECT("0 0 1-7 * */7", NULL, "2024-05-06 00:00", "2024-06-02 00:00", "2024-07-07 00:00");
    /* leap days */
    EXPECT("0 0 29 2 *", NULL, "2024-03-01 00:00", "2028-02-29 00:00", "2032-02-29 00:00");
    EXPECT("0 0 29 2 *", NULL, "2096-03-01 00:00", "2104-02-29 00:00");
    EXPECT("0 0 29 2 */7", NULL, "2024-03-01 00:00", "2032-02-29 00:00", "2060-02-29 00:00");
    EXPECT("0 0 29 2 */7", "Europe/Rome", "2088-03-01 00:00", "2128-02-28 23:00");
    EXPECT("30 * 29 2 */7", "Europe/Rome", "2088-03-01 00:00", "2128-02-28 23:30");
}

static void test_clock_changes(void **state)
{
    (void)state;
    /* Rome 2024: forward on 31 March at 01:00 UTC (02:00 → 03:00), back on 27 October at 01:00 UTC (03:00 → 02:00) */
    EXPECT("30 2 * * *", "Europe/Rome", "2024-03-30 00:00", "2024-03-30 01:30", "2024-03-31 01:00", "2024-04-01 00:30");
    EXPECT("0,30 2,3 * * *", "Europe/Rome", "2024-03-31 00:00", "2024-03-31 01:00", "2024-03-31 01:30",
           "2024-04-01 00:00");
    EXPECT("30 2 * * *", "Europe/Rome", "2024-10-26 12:00", "2024-10-27 00:30", "2024-10-28 01:30");
    EXPECT("30 2 * * *", "Europe/Rome", "2024-10-27 00:45", "2024-10-28 01:30");
    EXPECT("30 2 * * *", "Europe/Rome", "2024-10-27 01:15", "2024-10-28 01:30");
    EXPECT("0 3 * * *", "Europe/Rome", "2024-10-26 12:00", "2024-10-27 02:00");
    EXPECT("*/30 * * * *", "Europe/Rome", "2024-03-31 00:00", "2024-03-31 00:30", "2024-03-31 01:00",
           "2024-03-31 01:30");
    EXPECT("30 * * * *", "Europe/Rome", "2024-10-26 23:45", "2024-10-27 00:30", "2024-10-27 01:30", "2024-10-27 02:30");
    EXPECT("30 */2 * * *", "Europe/Rome", "2024-10-26 23:45", "2024-10-27 00:30", "2024-10-27 01:30",
           "2024-10-27 03:30");
    EXPECT("30 */2 * * *", "Europe/Rome", "2024-03-30 23:45", "2024-03-31 02:30");
    /* the same, written as a range: times of the day */
    EXPECT("30 0-23 * * *", "Europe/Rome", "2024-10-26 23:45", "2024-10-27 00:30", "2024-10-27 02:30");
    /* New York 2024: 10 March 07:00 UTC, 3 November 06:00 UTC */
    EXPECT("30 2 * * *", "America/New_York", "2024-03-10 00:00", "2024-03-10 07:00", "2024-03-11 06:30");
    EXPECT("30 1 * * *", "America/New_York", "2024-11-03 00:00", "2024-11-03 05:30", "2024-11-04 06:30");
    /* Lord Howe moves by half an hour: 7 April 2024 15:00 UTC on the 6th back, 6 October forward */
    EXPECT("45 1 * * *", "Australia/Lord_Howe", "2024-04-06 00:00", "2024-04-06 14:45", "2024-04-07 15:15");
    EXPECT("15 2 * * *", "Australia/Lord_Howe", "2024-10-05 00:00", "2024-10-05 15:30", "2024-10-06 15:15");
    EXPECT("*/15 * * * *", "Australia/Lord_Howe", "2024-04-06 14:40", "2024-04-06 14:45", "2024-04-06 15:00",
           "2024-04-06 15:15", "2024-04-06 15:30");
    /* Apia had no 30 December 2011: from the 29th 24:00 (10:00 UTC on the 30th) straight to the 31st */
    EXPECT("0 12 * * *", "Pacific/Apia", "2011-12-29 12:00", "2011-12-29 22:00", "2011-12-30 10:00",
           "2011-12-30 22:00");
    EXPECT("0 12 30 12 *", "Pacific/Apia", "2011-12-29 12:00", "2011-12-30 10:00", "2012-12-29 22:00");
    EXPECT("0 * 30 12 *", "Pacific/Apia", "2011-12-29 12:00", "2012-12-29 10:00");
    /* after the end of the table of the database, by its rule */
    EXPECT("30 2 * * *", "Europe/Rome", "2060-03-27 12:00", "2060-03-28 01:00", "2060-03-29 00:30");
}

static void test_errors(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
        unsigned column;
    } cases[] = {
        {"", "got 0", 1},
        {"* * * *", "got 4", 1},
        {"0 * * * * *", "got 6 (there are no seconds", 1},
        {"60 * * * *", "minute: 60 is not in 0-59", 1},
        {"* 24 * * *", "hour: 24 is not in 0-23", 3},
        {"* * 0 * *", "day-of-month: 0 is not in 1-31", 5},
        {"* * 32 * *", "day-of-month: 32", 5},
        {"* * * 13 *", "month: 13 is not in 1-12", 7},
        {"* * * * 8", "day-of-week: 8 is not in 0-7", 9},
        {"* * * FOO *", "month: expected 1-12, JAN-DEC or `*`, got `FOO`", 7},
        {"* * * JANUARY *", "month: expected", 7},
        {"* * * * MONDAY", "day-of-week: expected", 9},
        {"5/15 * * * *", "minute: a step needs a range, write 5-59/", 2},
        {"*/0 * * * *", "minute: the step 0 is not in 1-59", 3},
        {"*/60 * * * *", "minute: the step 60", 3},
        {"*/x * * * *", "minute: expected a step, got `x`", 3},
        {"*/ * * * *", "minute: expected a step at its end", 3},
        {"30-10 * * * *", "minute: the range 30-10 goes backwards", 1},
        {"1,, * * * *", "minute: expected", 3},
        {"1, * * * *", "minute: expected 0-59 or `*` at its end", 3},
        {"1- * * * *", "minute: expected", 3},
        {"1-2-3 * * * *", "minute: expected `,`", 4},
        {"-1 * * * *", "minute: expected", 1},
        {"99999999999999999999 * * * *", "minute: 99999999999999999999 is not in", 1},
        {"0 0 ? * *", "day-of-month: `?`", 5},
        {"0 0 L * *", "day-of-month: `L`", 5},
        {"0 0 15W * *", "day-of-month: `W`", 7},
        {"0 0 * * 5#2", "day-of-week: `#`", 10},
        {"0 0 * * 5L", "day-of-week: `L`", 10},
        {"H * * * *", "minute: `H`", 1},
        {"é * * * *", "minute: expected 0-59 or `*`, got `é`", 1},
        {"0 0 30 2 *", "never fires", 1},
        {"0 0 31 2,4,6,9,11 *", "never fires", 1},
        {"0 0 30 2 */2", "never fires", 1},
        {"@reboot", "`@reboot` is none of @hourly", 1},
        {"@daily 5", "nothing may follow `@daily`", 8},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct cron *c = (void *)0x1;
        struct error err = ERROR_INIT;
        assert_int_equal(cron_create(cases[i].text, NULL, &c, &err), -EINVAL);
        assert_ptr_equal(c, (void *)0x1);
        if (!strstr(err.message, cases[i].words))
            fail_msg("%s: %s", cases[i].text, err.message);
        assert_int_equal(err.column, cases[i].column);
    }
    /* with a weekday as well there are such days */
    struct cron *c = compiled("0 0 30 2 MON", NULL);
    cron_destroy(c);
    char longest[CRON_TEXT_MAX + 2];
    memset(longest, ' ', sizeof(longest));
    memcpy(longest, "0 0 1 1 *", 9);
    longest[CRON_TEXT_MAX + 1] = '\0';
    assert_int_equal(cron_create(longest, NULL, &c, NULL), -EINVAL);
    longest[CRON_TEXT_MAX] = '\0';
    assert_int_equal(cron_create(longest, NULL, &c, NULL), 0);
    cron_destroy(c);
}

static void test_zones(void **state)
{
    (void)state;
    static const char *const good[] = {"UTC",
                                       "Europe/Rome",
                                       "America/Argentina/Ushuaia",
                                       "America/Port-au-Prince",
                                       "Etc/GMT+5",
                                       "EST5EDT",
                                       "+02:00",
                                       "-09:30",
                                       "Asia/Tokyo",
                                       "GMT",
                                       NULL};
    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        assert_int_equal(cron_check_timezone(good[i], NULL), 0);
    static const char *const bad[] = {"",      "Nowhere/Land", "Europe",      "Europe/rome", "europe/Rome",
                                      "UTC+2", "/etc/passwd",  "../../etc",   "Europe/",     "leapseconds",
                                      "+2",    "+99:00",       "+02:60",      "right/UTC",   "CET-1CEST,M3.5.0,M10.5.0",
                                      ":UTC",  "Rome2",        "Europe//Rome"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct error err = ERROR_INIT;
        if (cron_check_timezone(bad[i], &err) != -EINVAL)
            fail_msg("%s", bad[i]);
        assert_non_null(strstr(err.message, "no time zone"));
    }
    struct cron *c = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(cron_create("* * * * *", "Mars/Olympus", &c, &err), -EINVAL);
    assert_non_null(strstr(err.message, "Mars/Olympus"));
    assert_null(c);
}

/* ---- Against a slow reference ---- */

static uint32_t seed = 4711;

static uint32_t rnd(uint32_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

struct reference {
    bool minute[60], hour[24], day[32], month[13], weekday[7];
    bool day_star, weekday_star, hour_star;
};

/* One field's text and set. Returns whether it starts with `*`. */
static bool random_field(struct buf *text, bool *set, unsigned min, unsigned max, unsigned every_of_star)
{
    memset(set, 0, max + 1);
    bool star = rnd(every_of_star) == 0;
    if (star) {
        unsigned every = rnd(2) ? 1 : 1 + rnd(max);
        buf_printf(text, every == 1 ? "* " : "*/%u ", every);
        for (unsigned i = min; i <= max; i += every)
            set[i] = true;
        return true;
    }
    for (uint32_t n = 1 + rnd(3); n > 0; n--) {
        unsigned a = min + rnd(max - min + 1), b = min + rnd(max - min + 1), first = MIN(a, b), last = MAX(a, b);
        unsigned every = 1;
        if (rnd(2)) {
            last = first;
            buf_printf(text, "%u", first);
        } else {
            every = 1 + rnd(max);
            buf_printf(text, "%u-%u/%u", first, last, every);
        }
        for (unsigned i = first; i <= last; i += every)
            set[i] = true;
        buf_adds(text, n > 1 ? "," : " ");
    }
    return false;
}

static bool reference_matches(const struct reference *r, const struct tm *tm)
{
    bool day = r->day[tm->tm_mday], weekday = r->weekday[tm->tm_wday];
    return r->minute[tm->tm_min] && r->hour[tm->tm_hour] && r->month[tm->tm_mon + 1] &&
           (r->day_star || r->weekday_star ? day && weekday : day || weekday);
}

static const struct {
    const char *name, *from;
} zones[] = {
    {"Europe/Rome", "2024-01-01 00:00"},         {"America/New_York", "2024-01-01 00:00"},
    {"Australia/Lord_Howe", "2024-01-01 00:00"}, {"Pacific/Apia", "2011-07-01 00:00"},
    {"Asia/Tokyo", "2024-01-01 00:00"},          {"Africa/Casablanca", "2024-01-01 00:00"},
    {"Pacific/Kwajalein", "1993-03-01 00:00"},   {"America/Santiago", "2024-01-01 00:00"},
};

/* Walk a year minute by minute with the C library's clock; each time that the definition in cron.h makes must be the
 * next one that cron_next() gives. */
static void test_random_against_reference(void **state)
{
    (void)state;
    enum { MINUTES = 366 * 1440, EXPRESSIONS = 25, LEAD = 3 * 1440 };
    unsigned fires = 0, skipped = 0;
    for (size_t z = 0; z < ARRAY_SIZE(zones); z++) {
        use_zone(zones[z].name);
        int64_t start = utc(zones[z].from) / MINUTE_MS;
        int64_t *offset = xcalloc(MINUTES, sizeof(*offset)); /* minutes */
        for (int i = 0; i < MINUTES; i++) {
            time_t t = (time_t)((start + i) * 60);
            struct tm tm;
            localtime_r(&t, &tm);
            offset[i] = tm.tm_gmtoff / 60;
        }
        for (unsigned n = 0; n < EXPRESSIONS; n++) {
            struct reference r = {.hour_star = false};
            struct buf text = {0};
            random_field(&text, r.minute, 0, 59, 8);
            r.hour_star = random_field(&text, r.hour, 0, 23, 2);
            r.day_star = random_field(&text, r.day, 1, 31, 2);
            random_field(&text, r.month, 1, 12, 2);
            r.weekday_star = random_field(&text, r.weekday, 0, 6, 2);
            struct cron *c = NULL;
            if (cron_create(text.data, zones[z].name, &c, NULL) < 0) { /* a day that never comes */
                buf_fini(&text);
                skipped++;
                continue;
            }
            int64_t expected_after = (start + LEAD) * MINUTE_MS, shown = INT64_MIN;
            for (int i = 0; i < MINUTES; i++) {
                int64_t local = start + i + offset[i];
                bool fire = false;
                for (int64_t l = r.hour_star || shown == INT64_MIN ? local : shown + 1; l <= local && !fire; l++) {
                    time_t t = (time_t)(l * 60);
                    struct tm tm;
                    /* a cheap look first: gmtime_r is what makes this slow */
                    int64_t of_day = (l % 1440 + 1440) % 1440;
                    fire = r.minute[of_day % 60] && r.hour[of_day / 60] && reference_matches(&r, gmtime_r(&t, &tm));
                }
                shown = MAX(shown, local);
                if (!fire || i <= LEAD)
                    continue;
                int64_t next = 0, at = (start + i) * MINUTE_MS;
                assert_int_equal(cron_next(c, expected_after, &next), 0);
                if (next != at)
                    fail_msg("%s in %s after %lld: expected %lld, got %lld", text.data, zones[z].name,
                             (long long)expected_after, (long long)at, (long long)next);
                if (rnd(16) == 0) { /* from anywhere between the two */
                    int64_t between = expected_after + (int64_t)rnd((uint32_t)MIN(at - expected_after, 1 << 23));
                    assert_int_equal(cron_next(c, between, &next), 0);
                    assert_int_equal(next, at);
                }
                expected_after = at;
                fires++;
            }
            cron_destroy(c);
            buf_fini(&text);
        }
        free(offset);
    }
    use_zone("UTC");
    assert_true(fires > 10000);
    assert_true(skipped < EXPRESSIONS);
}

static void test_rare_times_are_cheap(void **state)
{
    (void)state;
    static const char *const texts[] = {"0 0 29 2 */7", "0 */23 29 2 */7", "0 5 31 12 *", "0 * 31 12 *"};
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct cron *c = compiled(texts[i], "Europe/Rome");
        clock_t start = clock();
        int64_t at = utc("2088-03-01 00:00"), next;
        for (unsigned n = 0; n < 1000; n++)
            assert_int_equal(cron_next(c, at + n, &next), 0);
        double us = (double)(clock() - start) / CLOCKS_PER_SEC * 1e6 / 1000;
        print_message("%-16s %.1f us\n", texts[i], us);
        assert_true(us < 2000);
        cron_destroy(c);
    }
}

int main(void)
{
    use_zone("UTC");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_strictly_after),
        cmocka_unit_test(test_days),
        cmocka_unit_test(test_clock_changes),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_zones),
        cmocka_unit_test(test_random_against_reference),
        cmocka_unit_test(test_rare_times_are_cheap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
