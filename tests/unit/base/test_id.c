#include "base/id.h"

#include "base/util.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct scene {
    struct clock_manual clock;
    struct random_seeded random;
    struct id_source source;
};

static void setup(struct scene *s, int64_t now)
{
    clock_manual_init(&s->clock, now, 0);
    random_seeded_init(&s->random, 1);
    id_source_init(&s->source, &s->clock.clock, &s->random.random);
}

/* A port that gives one byte over and over. */
struct constant_random {
    struct random random;
    unsigned char byte;
};
static void constant_fill(struct random *random, void *out, size_t len)
{
    memset(out, container_of(random, struct constant_random, random)->byte, len);
}

static void encoding(void **state)
{
    (void)state;
    struct clock_manual clock;
    struct constant_random zero = {{constant_fill}, 0}, ones = {{constant_fill}, 0xFF};
    struct id_source source;
    char out[ID_SIZE];
    /* The time of the specification's example. */
    clock_manual_init(&clock, 1469918176385, 0);
    id_source_init(&source, &clock.clock, &zero.random);
    id_next(&source, "", out);
    assert_string_equal(out, "01ARYZ6S410000000000000000");
    id_next(&source, "evt_", out);
    assert_string_equal(out, "evt_01ARYZ6S410000000000000001");
    id_source_init(&source, &clock.clock, &ones.random);
    id_next(&source, "evt_", out);
    assert_string_equal(out, "evt_01ARYZ6S41ZZZZZZZZZZZZZZZZ");
    /* The random part is used up: the time moves on. */
    id_next(&source, "evt_", out);
    assert_string_equal(out, "evt_01ARYZ6S42ZZZZZZZZZZZZZZZZ");
    clock.realtime_ms = INT64_MAX;
    id_next(&source, "", out);
    assert_string_equal(out, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
    clock.realtime_ms = -5;
    id_source_init(&source, &clock.clock, &zero.random);
    id_next(&source, "", out);
    assert_string_equal(out, "00000000000000000000000001"); /* not all zeros: time 0 was never "new" */
}

static void carry_between_the_halves(void **state)
{
    (void)state;
    struct scene s;
    char out[ID_SIZE];
    setup(&s, 1469918176385);
    id_source_after(&s.source, "01ARYZ6S4100000000ZZZZZZZZ");
    id_next(&s.source, "", out);
    assert_string_equal(out, "01ARYZ6S410000000100000000");
}

static void always_greater(void **state)
{
    (void)state;
    struct scene s;
    char last[ID_SIZE] = "", out[ID_SIZE];
    setup(&s, 1000000);
    for (int i = 0; i < 10000; i++) {
        id_next(&s.source, "run_", out);
        assert_true(id_valid(out, "run_"));
        assert_true(strcmp(out, last) > 0);
        memcpy(last, out, sizeof(out));
        if (i % 10 == 0)
            s.clock.realtime_ms += i % 3 == 0 ? -500 : 7; /* the clock is set back again and again */
    }
}

static void goes_on_after_a_restart(void **state)
{
    (void)state;
    struct scene s;
    char old[ID_SIZE], out[ID_SIZE];
    setup(&s, 2000000);
    id_next(&s.source, "evt_", old);
    setup(&s, 1000000); /* the clock stands behind */
    id_source_after(&s.source, old);
    id_next(&s.source, "run_", out);
    assert_true(strcmp(out + 4, old + 4) > 0);
    /* An older id than the last changes nothing. */
    char next[ID_SIZE];
    id_source_after(&s.source, old);
    id_next(&s.source, "run_", next);
    assert_true(strcmp(next, out) > 0);
    assert_int_equal(id_time_ms(next), 2000000);
}

static void validity(void **state)
{
    (void)state;
    assert_true(id_valid("evt_01ARYZ6S41TSV4RRFFQ69G5FAV", "evt_"));
    assert_true(id_valid("7ZZZZZZZZZZZZZZZZZZZZZZZZZ", ""));
    static const char *const bad[] = {
        "",
        "evt_",
        "evt_01ARYZ6S41TSV4RRFFQ69G5FA",
        "evt_01ARYZ6S41TSV4RRFFQ69G5FAV0",
        "run_01ARYZ6S41TSV4RRFFQ69G5FAV",
        "evt_01aryz6s41tsv4rrffq69g5fav",
        "evt_81ARYZ6S41TSV4RRFFQ69G5FAV",
        "evt_01ARYZ6S41TSV4RRFFQ69G5FAI",
        "evt_01ARYZ6S41TSV4RRFFQ69G5FAL",
        "evt_01ARYZ6S41TSV4RRFFQ69G5FAO",
        "evt_01ARYZ6S41TSV4RRFFQ69G5FAU",
        "evt_01ARYZ6S41TSV4RRFFQ69G5FA/",
        "evt_-1ARYZ6S41TSV4RRFFQ69G5FAV",
        "evt_01ARYZ6S41TSV4RRFFQ69G5F\xC3\xA9",
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(id_valid(bad[i], "evt_"));
}

static void bounds_by_time(void **state)
{
    (void)state;
    struct scene s;
    char first[ID_SIZE], out[ID_SIZE];
    setup(&s, 1767323045678);
    id_next(&s.source, "evt_", out);
    assert_int_equal(id_time_ms(out), 1767323045678);
    id_first_at(1767323045678, "evt_", first);
    assert_true(id_valid(first, "evt_"));
    assert_true(strcmp(first, out) <= 0);
    id_first_at(1767323045679, "evt_", first);
    assert_true(strcmp(first, out) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encoding),       cmocka_unit_test(carry_between_the_halves),
        cmocka_unit_test(always_greater), cmocka_unit_test(goes_on_after_a_restart),
        cmocka_unit_test(validity),       cmocka_unit_test(bounds_by_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
