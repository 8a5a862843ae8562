#include "base/error.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

static void errors_are_set_placed_and_wrapped(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    assert_int_equal(error_set_at(&err, -EINVAL, 7, 13, "got \"%s\"", "soon"), -EINVAL);
    assert_int_equal(error_wrap(&err, "config.%s", "debounce"), -EINVAL);
    assert_string_equal(err.message, "config.debounce: got \"soon\"");
    assert_int_equal(err.line, 7);
    assert_int_equal(err.column, 13);
    assert_int_equal(error_set(&err, -ENOENT, "gone"), -ENOENT);
    assert_int_equal(err.line, 0);
    error_clear(&err);
    assert_int_equal(err.code, 0);
    assert_string_equal(err.message, "");
    assert_int_equal(error_set(NULL, -EIO, "x"), -EIO);
    assert_int_equal(error_set_at(NULL, -EIO, 1, 1, "x"), -EIO);
    assert_int_equal(error_wrap(NULL, "x"), 0);
    error_clear(NULL);
}

static void long_errors_are_cut_between_characters(void **state)
{
    (void)state;
    char text[ERROR_MESSAGE_MAX * 2 + 8];
    for (size_t shift = 0; shift < 4; shift++) {
        memset(text, 'a', shift);
        for (size_t i = shift; i + 3 < sizeof(text); i += 3)
            memcpy(text + i, "€", 4);
        struct error err = ERROR_INIT;
        error_set(&err, -EINVAL, "%s", text);
        size_t len = strlen(err.message);
        assert_in_range(len, ERROR_MESSAGE_MAX - 6, ERROR_MESSAGE_MAX - 1);
        assert_true(utf8_valid(err.message, len));
        assert_string_equal(err.message + len - 3, "…");
        error_wrap(&err, "outer");
        assert_true(utf8_valid(err.message, strlen(err.message)));
        assert_string_equal(err.message + strlen(err.message) - 3, "…");
        assert_memory_equal(err.message, "outer: ", 7);
    }
    /* What just fits stays. */
    memset(text, 'b', ERROR_MESSAGE_MAX - 1);
    text[ERROR_MESSAGE_MAX - 1] = '\0';
    struct error err = ERROR_INIT;
    error_set(&err, -EINVAL, "%s", text);
    assert_string_equal(err.message, text);
}

static void strings(void **state)
{
    (void)state;
    assert_null(xstrdup0(NULL));
    _cleanup_(freep) char *a = xstrdup0("abc"), *b = xstrndup("abcdef", 2), *c = xstrndup("ab", 9);
    _cleanup_(freep) char *d = xasprintf("%d-%s", 7, "x");
    assert_string_equal(a, "abc");
    assert_string_equal(b, "ab");
    assert_string_equal(c, "ab");
    assert_string_equal(d, "7-x");
    assert_true(streq(NULL, NULL));
    assert_false(streq(NULL, ""));
    assert_false(streq("", NULL));
    assert_true(streq("ab", b));
    char *stolen = steal(&d);
    assert_null(d);
    free(stolen);
    free(xmalloc(0));
    free(xmemdup(NULL, 0));
    unsigned char *zero = xcalloc(3, 5);
    for (int i = 0; i < 15; i++)
        assert_int_equal(zero[i], 0);
    free(zero);
}

static void buffers(void **state)
{
    (void)state;
    struct buf b = {0};
    char *empty = buf_steal(&b);
    assert_string_equal(empty, "");
    free(empty);
    buf_addc(&b, 'a');
    assert_string_equal(b.data, "a");
    buf_adds(&b, "bc");
    buf_add(&b, "d\0e", 3);
    buf_add(&b, NULL, 0);
    assert_int_equal(b.len, 6);
    assert_memory_equal(b.data, "abcd\0e", 7);
    memcpy(buf_reserve(&b, 1000), "xyz", 3);
    assert_true(b.cap >= 6 + 1000 + 1);
    buf_fini(&b);
    assert_null(b.data);
    size_t expected = 0;
    for (int i = 0; i < 1000; i++) {
        buf_printf(&b, "%d,", i);
        expected += (size_t)snprintf(NULL, 0, "%d,", i);
    }
    assert_int_equal(b.len, expected);
    assert_int_equal(strlen(b.data), expected);
    char *out = buf_steal(&b);
    assert_int_equal(b.len + b.cap, 0);
    free(out);
}

static void nearest_names(void **state)
{
    (void)state;
    static const char *const names[] = {"pause", "resume", "describe", "delete"};
    assert_string_equal(nearest_name("puase", names, 4), "pause");
    assert_string_equal(nearest_name("delet", names, 4), "delete");
    assert_string_equal(nearest_name("", names, 4), "pause"); /* any distance; the first of equals: 5 letters */
    assert_null(nearest_name("x", names, 0));
    char big[1000];
    memset(big, 'd', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    assert_non_null(nearest_name(big, names, 4));
}

static void utf8(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t length;
    } cases[] = {
        {"a", 1},
        {"\x7f", 1},
        {"\xC2\x80", 2},
        {"\xDF\xBF", 2},
        {"\xE0\xA0\x80", 3},
        {"\xED\x9F\xBF", 3},
        {"\xEE\x80\x80", 3},
        {"\xF0\x90\x80\x80", 4},
        {"\xF4\x8F\xBF\xBF", 4},
        {"\x80", 0},     /* a continuation alone */
        {"\xC0\x80", 0}, /* overlong */
        {"\xC1\xBF", 0},
        {"\xE0\x9F\xBF", 0},
        {"\xF0\x8F\xBF\xBF", 0},
        {"\xED\xA0\x80", 0},     /* a surrogate */
        {"\xF4\x90\x80\x80", 0}, /* past U+10FFFF */
        {"\xF5\x80\x80\x80", 0},
        {"\xFF", 0},
        {"\xC3", 0}, /* cut off */
        {"\xE2\x82", 0},
        {"\xF0\x9F\x98", 0},
        {"\xC3(", 0},
        {"\xE2\x82(", 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        size_t len = strlen(cases[i].text);
        assert_int_equal(utf8_sequence(cases[i].text, len), cases[i].length);
        assert_int_equal(utf8_valid(cases[i].text, len), cases[i].length > 0);
        for (size_t before = 0; before < 18; before++)
            for (size_t after = 0; after < 10; after++) { /* at each place of the words that are looked at whole */
                char among[40];
                memset(among, 'x', before + len + after);
                memcpy(among + before, cases[i].text, len);
                assert_int_equal(utf8_valid(among, before + len + after), cases[i].length > 0);
            }
    }
    char mended[] = "a\xE2\x82 \xE2\x82\xAC\xFF\xC3";
    utf8_mend(mended);
    assert_string_equal(mended, "a?? \xE2\x82\xAC??");
    assert_int_equal(utf8_sequence("", 0), 0);
    assert_true(utf8_valid("", 0));
    assert_true(utf8_valid("a\0b", 3));
    assert_int_equal(utf8_sequence("\xE2\x82\xAC", 2), 0);
}

/* Each byte at each place of texts up to three words long, among neighbours that are nearly not plain; what comes after
 * the end is not looked at. */
static void plain_bytes_are_told_one_by_one(void **state)
{
    (void)state;
    static const char around[] = " !#[]\x7F";
    char text[32];
    for (size_t len = 0; len <= 24; len++)
        for (size_t at = 0; at <= len; at++)
            for (unsigned c = 0; c < 256; c++) {
                for (size_t i = 0; i < sizeof(text); i++)
                    text[i] = around[(i * 7 + at + c) % (sizeof(around) - 1)];
                memset(text + len, '"', sizeof(text) - len);
                text[at] = (char)c;
                bool plain = c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
                size_t expected = plain ? len : MIN(at, len);
                if (ascii_plain(text, len) != expected)
                    fail_msg("0x%02X at %zu of %zu: %zu", c, at, len, ascii_plain(text, len));
            }
}

static void hashes(void **state)
{
    (void)state;
    /* From the authors' test vectors of 64 bit FNV-1a. */
    assert_true(hash_bytes(0, "", 0) == 0xcbf29ce484222325ULL);
    assert_true(hash_bytes(0, "a", 1) == 0xaf63dc4c8601ec8cULL);
    assert_true(hash_bytes(0, "foobar", 6) == 0x85944171f73967e8ULL);
    assert_true(hash_bytes(hash_bytes(0, "foo", 3), "bar", 3) == 0x85944171f73967e8ULL);
}

static void descriptors_are_closed_by_scope(void **state)
{
    (void)state;
    int copy;
    {
        _cleanup_(closep) int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), none = -1;
        assert_true(fd >= 0);
        assert_int_equal(none, -1);
        copy = fd;
        errno = ENOENT;
    }
    assert_int_equal(errno, ENOENT);
    assert_int_equal(fcntl(copy, F_GETFD), -1);
    assert_int_equal(errno, EBADF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_set_placed_and_wrapped),
        cmocka_unit_test(long_errors_are_cut_between_characters),
        cmocka_unit_test(strings),
        cmocka_unit_test(buffers),
        cmocka_unit_test(nearest_names),
        cmocka_unit_test(utf8),
        cmocka_unit_test(plain_bytes_are_told_one_by_one),
        cmocka_unit_test(hashes),
        cmocka_unit_test(descriptors_are_closed_by_scope),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
