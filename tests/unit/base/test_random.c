#include "base/random.h"

#include "base/util.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void same_seed_same_bytes(void **state)
{
    (void)state;
    struct random_seeded a, b, c;
    unsigned char x[100], y[100], z[100];
    random_seeded_init(&a, 42);
    random_seeded_init(&b, 42);
    random_seeded_init(&c, 43);
    random_fill(&a.random, x, sizeof(x));
    random_fill(&b.random, y, sizeof(y));
    random_fill(&c.random, z, sizeof(z));
    assert_memory_equal(x, y, sizeof(x));
    assert_memory_not_equal(x, z, sizeof(x));
}

/* The first outputs of xoshiro256** from the state {1, 2, 3, 4}, as its reference implementation gives them. */
static void known_sequence(void **state)
{
    (void)state;
    struct random_seeded r;
    random_seeded_init(&r, 0);
    /* splitmix64 from 0 */
    assert_true(r.state[0] == 0xe220a8397b1dcdafULL);
    assert_true(r.state[1] == 0x6e789e6aa1b965f4ULL);
    r.state[0] = 1;
    r.state[1] = 2;
    r.state[2] = 3;
    r.state[3] = 4;
    static const uint64_t expected[] = {11520ULL, 0ULL, 1509978240ULL, 1215971899390074240ULL};
    for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
        assert_true(random_u64(&r.random) == expected[i]);
}

static void below_is_in_range_and_even(void **state)
{
    (void)state;
    struct random_seeded r;
    random_seeded_init(&r, 5);
    unsigned counts[6] = {0};
    for (int i = 0; i < 60000; i++) {
        uint64_t x = random_below(&r.random, 6);
        assert_true(x < 6);
        counts[x]++;
    }
    for (size_t i = 0; i < 6; i++)
        assert_in_range(counts[i], 9500, 10500);
    assert_int_equal(random_below(&r.random, 1), 0);
    for (int i = 0; i < 1000; i++) {
        double d = random_unit(&r.random);
        assert_true(d >= 0 && d < 1);
    }
}

static void system_differs(void **state)
{
    (void)state;
    assert_true(random_u64(random_system()) != random_u64(random_system()));
    unsigned char big[5000] = {0};
    random_fill(random_system(), big, sizeof(big));
    unsigned zeros = 0;
    for (size_t i = 0; i < sizeof(big); i++)
        zeros += big[i] == 0;
    assert_true(zeros < 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_seed_same_bytes),
        cmocka_unit_test(known_sequence),
        cmocka_unit_test(below_is_in_range_and_even),
        cmocka_unit_test(system_differs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
