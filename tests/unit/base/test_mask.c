#include "base/mask.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static const struct {
    const char *values[4];
    const char *text, *shown;
} cases[] = {
    {{"swordfish"}, "", ""},
    {{"swordfish"}, "swordfish", "***"},
    {{"swordfish"}, "a swordfish, swordfish!", "a ***, ***!"},
    {{"swordfish"}, "swordfis swordfisH", "swordfis swordfisH"},
    {{"swordfish"}, "swordfisswordfish", "swordfis***"},
    {{"swordfish"}, "swordfishswordfish", "******"},
    {{"swordfish"}, "sswordfish", "s***"},
    {{"abc"}, "abcabc", "abcabc"}, /* too short to be told from other text */
    {{"abcd"}, "xabcdx", "x***x"},
    {{"abcd", "abcdef"}, "abcdef abcde abcd", "*** ***e ***"},
    {{"abcdef", "abcd"}, "abcdef abcde abcd", "*** ***e ***"},
    {{"abcd", "cdef", "efgh"}, "xabcdefghx", "x***x"}, /* one overlaps the next */
    {{"aaaa"}, "aaaaaaaab", "***b"},                   /* and itself */
    {{"abab"}, "abababax", "***ax"},
    {{"a\"b\\c"}, "raw a\"b\\c, JSON {\"x\":\"a\\\"b\\\\c\"}", "raw ***, JSON {\"x\":\"***\"}"},
    {{"one\ntwo"}, "one\ntwo \"one\\ntwo\" one two", "*** \"***\" one two"},
    {{"\xC3\xA9t\xC3\xA9"}, "l'\xC3\xA9t\xC3\xA9.", "l'***."},
};

static struct mask *mask_of(const char *const values[4])
{
    struct mask *m = mask_create();
    for (size_t i = 0; i < 4 && values[i]; i++)
        mask_add(m, values[i], strlen(values[i]));
    return m;
}

static void test_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct mask *m = mask_of(cases[i].values);
        struct buf out = {0};
        mask_bytes(m, cases[i].text, strlen(cases[i].text), &out);
        assert_string_equal(out.data ? out.data : "", cases[i].shown);
        buf_fini(&out);
        char *text = xstrdup(cases[i].text);
        mask_string(m, &text);
        assert_string_equal(text, cases[i].shown);
        free(text);
        mask_destroy(m);
    }
}

/* Cut anywhere, into two pieces and into single bytes, it comes to the same. */
static void test_pieces(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct mask *m = mask_of(cases[i].values);
        size_t len = strlen(cases[i].text);
        for (size_t cut = 0; cut <= len; cut++) {
            struct mask_stream s = {0};
            struct buf out = {0};
            mask_feed(m, &s, cases[i].text, cut, &out);
            mask_feed(m, &s, cases[i].text + cut, len - cut, &out);
            mask_flush(m, &s, &out);
            assert_string_equal(out.data ? out.data : "", cases[i].shown);
            buf_fini(&out);
        }
        struct mask_stream s = {0};
        struct buf out = {0};
        for (size_t k = 0; k < len; k++)
            mask_feed(m, &s, cases[i].text + k, 1, &out);
        mask_flush(m, &s, &out);
        assert_string_equal(out.data ? out.data : "", cases[i].shown);
        buf_fini(&out);
        mask_destroy(m);
    }
}

/* Only what may be the beginning of a value waits for more. */
static void test_held_back(void **state)
{
    (void)state;
    const char *const values[4] = {"swordfish"};
    struct mask *m = mask_of(values);
    struct mask_stream s = {0};
    struct buf out = {0};
    mask_feed(m, &s, "a line\n", 7, &out);
    assert_string_equal(out.data, "a line\n");
    mask_feed(m, &s, "sword", 5, &out);
    assert_string_equal(out.data, "a line\n");
    mask_feed(m, &s, "play\n", 5, &out);
    assert_string_equal(out.data, "a line\nswordplay\n");
    mask_feed(m, &s, "swordfis", 8, &out);
    mask_flush(m, &s, &out);
    assert_string_equal(out.data, "a line\nswordplay\nswordfis");
    mask_stream_fini(&s);
    buf_fini(&out);
    mask_destroy(m);
}

/* A value that becomes known while a stream is under way is found from then on. */
static void test_added_later(void **state)
{
    (void)state;
    struct mask *m = mask_create();
    assert_true(mask_is_empty(m) && mask_is_empty(NULL));
    struct mask_stream s = {0};
    struct buf out = {0};
    mask_feed(m, &s, "swordfish ", 10, &out);
    mask_add(m, "swordfish", 9);
    assert_false(mask_is_empty(m));
    mask_feed(m, &s, "swordfish", 9, &out);
    mask_flush(m, &s, &out);
    assert_string_equal(out.data, "swordfish ***");
    buf_fini(&out);
    mask_destroy(m);
    mask_destroy(NULL);
    char *none = NULL;
    mask_string(NULL, &none);
    assert_null(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_held_back),
        cmocka_unit_test(test_added_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
