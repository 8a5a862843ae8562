/* Lines out of bytes, however they come. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "spawn/lines.h"

#include <errno.h>

#define MAX_LINE ((size_t)1 << 20)

/* The same lines however the bytes come. */
static void lines_in_pieces(void **state)
{
    (void)state;
    static const char text[] = "one\n\ntwo and more\nthree";
    static const char *const want[] = {"one", "", "two and more"};
    for (size_t piece = 1; piece <= sizeof(text); piece++) {
        struct lines l = {.max = MAX_LINE};
        size_t n = 0, len;
        const char *line;
        for (size_t at = 0; at < strlen(text); at += piece) {
            size_t take = MIN(piece, strlen(text) - at);
            memcpy(lines_room(&l, take), text + at, take);
            lines_filled(&l, take);
            while (lines_next(&l, &line, &len) > 0) {
                assert_int_equal(len, strlen(want[n]));
                assert_memory_equal(line, want[n++], len);
            }
        }
        assert_int_equal(n, ARRAY_SIZE(want));
        assert_int_equal(lines_rest(&l), strlen("three"));
        lines_fini(&l);
    }
}

static int fill(struct lines *l, size_t len, bool newline)
{
    const char *line;
    size_t n;
    int r = 0;
    for (size_t at = 0; r == 0 && at < len; at += 8192) {
        size_t take = MIN((size_t)8192, len - at);
        memset(lines_room(l, take), 'x', take);
        lines_filled(l, take);
        r = lines_next(l, &line, &n);
    }
    if (r == 0 && newline) {
        *lines_room(l, 1) = '\n';
        lines_filled(l, 1);
        r = lines_next(l, &line, &n);
    }
    return r;
}

static void lines_are_bounded(void **state)
{
    (void)state;
    struct lines l = {.max = MAX_LINE};
    assert_int_equal(fill(&l, MAX_LINE, true), 1);
    assert_int_equal(fill(&l, MAX_LINE, true), 1);
    assert_int_equal(fill(&l, MAX_LINE + 1, false), -EMSGSIZE);
    lines_fini(&l);
}

/* A line that is too long is left out, in pieces of any size, and takes no memory; the next one is told. */
static void long_lines_are_skipped(void **state)
{
    (void)state;
    struct lines l = {.max = MAX_LINE};
    const char *line;
    size_t n;
    assert_int_equal(fill(&l, MAX_LINE + 1, false), -EMSGSIZE);
    lines_skip(&l);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(fill(&l, MAX_LINE, false), 0);
    assert_true(l.held.cap <= 2 * MAX_LINE + 64 * 1024);
    static const char rest[] = "xx\nnext\n";
    memcpy(lines_room(&l, strlen(rest)), rest, strlen(rest));
    lines_filled(&l, strlen(rest));
    assert_int_equal(lines_next(&l, &line, &n), 1);
    assert_int_equal(n, strlen("next"));
    assert_memory_equal(line, "next", n);
    assert_int_equal(fill(&l, MAX_LINE + 1, true), -EMSGSIZE);
    lines_skip(&l);
    assert_int_equal(lines_next(&l, &line, &n), 0);
    lines_fini(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_in_pieces),
        cmocka_unit_test(lines_are_bounded),
        cmocka_unit_test(long_lines_are_skipped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
