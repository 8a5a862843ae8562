/* Documents out of writes. */
#include "fs/gather.h"
#include "fs/names.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
// clang-format off
#include <cmocka.h>
// clang-format on

/* Feed one byte at a time; the number of bytes that made it complete, 0: incomplete, -1: bad. */
static int feed(const char *text)
{
    struct json_scan scan = {0};
    size_t used = 0;
    for (int i = 0; text[i]; i++) {
        enum json_scan_result r = json_scan_feed(&scan, text + i, 1, &used);
        if (r == JSON_SCAN_BAD)
            return -1;
        if (r == JSON_SCAN_COMPLETE)
            return i + 1;
    }
    return json_scan_end(&scan) ? (int)strlen(text) : 0;
}

static void test_complete_at_the_last_byte(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int used;
    } rows[] = {
        {"{}", 2},    {"[]", 2},       {" \n{\"a\": [1, -2.5e+10, true, false, null, \"x\\u00e9\\n\"]} ", 54},
        {"\"a\"", 3}, {"true ", 4},    {"null", 4},
        {"12 ", 3},   {"12\n", 3},     {"-0.5e-1", 7},
        {"0\t", 2},   {"[[[[]]]]", 8}, {"{\"a\":{\"b\":{}}}x", 14},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        int used = feed(rows[i].text);
        if (used != rows[i].used)
            fail_msg("%s: %d", rows[i].text, used);
    }
}

static void test_incomplete(void **state)
{
    (void)state;
    static const char *const rows[] = {"",        " ",        "{",         "[",       "[1",     "[1,", "{\"a\"",
                                       "{\"a\":", "{\"a\":1", "{\"a\":1,", "\"",      "\"\\",   "tru", "-",
                                       "1.",      "1e",       "1e+",       "\"\\u12", "[\"a\"", "[tr"};
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (feed(rows[i]) != 0)
            fail_msg("%s: %d", rows[i], feed(rows[i]));
}

static void test_what_can_never_become_json(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "x",  "}",          "]",    "[}",    "{]",       "{1",  "{\"a\" 1", "{\"a\":}", "[1 2",      "[,",
        "{,", "{\"a\":1,}", "[1,]", "trux",  "nul ",     "01",  "-x",       "1.x",      "1.e",       "1ex",
        "+1", "'a'",        "\"\n", "\"\\x", "\"\\u12g", "12x", "12{",      "[1}",      "{\"a\":1]", "\x01"};
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (feed(rows[i]) != -1)
            fail_msg("%s: %d", rows[i], feed(rows[i]));
}

static void test_depth_is_bounded(void **state)
{
    (void)state;
    char deep[2 * VALUE_DEPTH_MAX + 3];
    memset(deep, '[', VALUE_DEPTH_MAX);
    memset(deep + VALUE_DEPTH_MAX, ']', VALUE_DEPTH_MAX);
    deep[(size_t)2 * VALUE_DEPTH_MAX] = '\0';
    assert_int_equal(feed(deep), 2 * VALUE_DEPTH_MAX);
    memset(deep, '[', VALUE_DEPTH_MAX + 1);
    assert_int_equal(feed(deep), -1);
}

/* Whatever the scanner calls complete, the parser may still refuse, but never the other way round. */
static void test_it_agrees_with_the_parser(void **state)
{
    (void)state;
    static const char alphabet[] = "{}[]:,\"\\u0 1-.e+tfn\n";
    uint64_t seed = 12345;
    for (int round = 0; round < 200000; round++) {
        char text[12];
        size_t n = 1 + round % 10;
        for (size_t i = 0; i < n; i++) {
            seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
            text[i] = alphabet[(seed >> 33) % (sizeof(alphabet) - 1)];
        }
        text[n] = '\0';
        cJSON *value = NULL;
        if (value_parse(text, n, &value, NULL) == 0)
            assert_true(feed(text) > 0);
        cJSON_Delete(value);
    }
}

static void test_a_document_over_writes(void **state)
{
    (void)state;
    struct gather g = {0};
    cJSON *value = NULL;
    assert_int_equal(gather_write(&g, " \n", 2, &value), 0);
    assert_int_equal(gather_end(&g, &value), 0);
    assert_int_equal(gather_write(&g, "{\"a\"", 4, &value), 0);
    assert_int_equal(gather_write(&g, ": 1}\n \n", 7, &value), 1);
    _cleanup_(freep) char *text = value_print(value);
    assert_string_equal(text, "{\"a\":1}");
    cJSON_Delete(value);
    value = NULL;
    /* Something after it, what it is not, and what is not complete: nothing of it is left then. */
    assert_int_equal(gather_write(&g, "{} {}", 5, &value), -EINVAL);
    assert_int_equal(gather_write(&g, "{\"a\": 1, \"a\": 2}", 16, &value), -EINVAL);
    assert_int_equal(gather_write(&g, "[1", 2, &value), 0);
    assert_int_equal(gather_write(&g, "}", 1, &value), -EINVAL);
    assert_int_equal(gather_write(&g, "[1", 2, &value), 0);
    assert_int_equal(gather_end(&g, &value), -EINVAL);
    /* A scalar is complete at a newline, or at the end. */
    assert_int_equal(gather_write(&g, "1", 1, &value), 0);
    assert_int_equal(gather_write(&g, "2", 1, &value), 0);
    assert_int_equal(gather_end(&g, &value), 1);
    assert_int_equal(value->valuedouble, 12);
    cJSON_Delete(value);
    value = NULL;
    assert_int_equal(gather_write(&g, "7\n", 2, &value), 1);
    cJSON_Delete(value);
    gather_fini(&g);
}

static void test_a_document_is_bounded(void **state)
{
    (void)state;
    struct gather g = {0};
    cJSON *value = NULL;
    static char block[65536];
    memset(block, 'x', sizeof(block));
    assert_int_equal(gather_write(&g, "\"", 1, &value), 0);
    for (size_t n = 1; n + sizeof(block) <= GATHER_MAX; n += sizeof(block))
        assert_int_equal(gather_write(&g, block, sizeof(block), &value), 0);
    assert_int_equal(gather_write(&g, block, sizeof(block), &value), -EFBIG);
    assert_int_equal(gather_write(&g, "{}", 2, &value), 1); /* starts anew */
    cJSON_Delete(value);
    gather_fini(&g);
}

static void test_scratch_names(void **state)
{
    (void)state;
    static const char *const yes[] = {"4913",    ".a.yaml.swp", ".x.swo",
                                      "a.yaml~", ".#a.yaml",    "#a.yaml#",
                                      "x.tmp",   "sedAb12Cd",   ".goutputstream-AB12"};
    static const char *const no[] = {"a.yaml", "49130", "sedAb12C", "sedAb12Cde", "a.swp",
                                     ".git",   "#a",    "tmp",      ".a.swap",    ".goutputstream-"};
    for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
        if (!name_is_scratch(yes[i]))
            fail_msg("%s", yes[i]);
    for (size_t i = 0; i < ARRAY_SIZE(no); i++)
        if (name_is_scratch(no[i]))
            fail_msg("%s", no[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_complete_at_the_last_byte),  cmocka_unit_test(test_incomplete),
        cmocka_unit_test(test_what_can_never_become_json), cmocka_unit_test(test_depth_is_bounded),
        cmocka_unit_test(test_it_agrees_with_the_parser),  cmocka_unit_test(test_a_document_over_writes),
        cmocka_unit_test(test_a_document_is_bounded),      cmocka_unit_test(test_scratch_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
