/* JSON values: what the parser takes and refuses, numbers digit for digit, printing, comparison, access. */
#include "base/util.h"
#include "model/value.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

static cJSON *json(const char *text)
{
    cJSON *v = NULL;
    struct error err = ERROR_INIT;
    if (value_parse(text, strlen(text), &v, &err) < 0)
        fail_msg("%u:%u: %s in %.200s", err.line, err.column, err.message, text);
    return v;
}

/* The same bytes at the end of a block of their own, so that reading past them is caught. */
static int parse_exact(const char *text, size_t len, cJSON **ret, struct error *err)
{
    char *copy = xmemdup(text, len);
    int r = value_parse(copy, len, ret, err);
    free(copy);
    return r;
}

static char *repeated(const char *before, const char *part, size_t n, const char *after)
{
    struct buf b = {0};
    buf_adds(&b, before);
    for (size_t i = 0; i < n; i++)
        buf_adds(&b, part);
    buf_adds(&b, after);
    return buf_steal(&b);
}

/* ---- parsing ---- */

static void test_accepts(void **state)
{
    (void)state;
    static const struct {
        const char *text, *printed; /* NULL: the same */
    } cases[] = {
        {"null", NULL},
        {"true", NULL},
        {"false", NULL},
        {"0", NULL},
        {"-0", NULL},
        {"-0.0", NULL},
        {"-1", NULL},
        {"1.50", NULL},
        {"1E5", NULL},
        {"1e+05", NULL},
        {"0e0", NULL},
        {"0.1e-7", NULL},
        {"1e999", NULL},
        {"-1e-999", NULL},
        {"1e99999999999999999999999", NULL},
        {"999999999999999", NULL},
        {"1000000000000000", NULL},
        {"-9007199254740991", NULL},
        {"9007199254740992", NULL},
        {"9007199254740993", NULL},
        {"18446744073709551616", NULL},
        {"123456789012345678901234567890", NULL},
        {"0.1000000000000000055511151231257827021181583404541015625", NULL},
        {"\"\"", NULL},
        {"[]", NULL},
        {"{}", NULL},
        {" \t\r\n[ 1 , 2 ]\n", "[1,2]"},
        {"{ \"a\" : { \"b\" : [ ] } }", "{\"a\":{\"b\":[]}}"},
        {"{\"\":0,\"a\":1,\"A\":2}", NULL},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\\"\\\\/\\b\\f\\n\\r\\t\""},
        {"\"\\u0001\\u001F\\u007f\"", "\"\\u0001\\u001f\x7f\""},
        {"\"\\u00e9\\u20AC\\ud83d\\uDE00\"", "\"é€😀\""},
        {"\"\xE2\x80\xA8\xE2\x80\xA9\"", NULL}, /* U+2028 needs no escape in JSON */
        {"\"\\uFFFE\\uffff\\uFDD0\"", "\"\xEF\xBF\xBE\xEF\xBF\xBF\xEF\xB7\x90\""},
        {"\"\xF4\x8F\xBF\xBF\"", NULL},
        {"\"\\\\u0000\"", NULL},
        {"\"\\u005Cu0000\"", "\"\\\\u0000\""},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cJSON *v = NULL;
        struct error err = ERROR_INIT;
        if (parse_exact(cases[i].text, strlen(cases[i].text), &v, &err) < 0)
            fail_msg("%s: %s", cases[i].text, err.message);
        _cleanup_(freep) char *text = value_print(v);
        assert_string_equal(text, cases[i].printed ? cases[i].printed : cases[i].text);
        if (!strchr(text, 0x7f)) { /* cJSON's own printer agrees */
            char *other = cJSON_PrintUnformatted(v);
            assert_string_equal(other, text);
            free(other);
        }
        cJSON_Delete(v);
    }
}

#define BYTES(s) s, sizeof(s) - 1

static void test_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t len;
        unsigned line, column;
        const char *message;
    } cases[] = {
        {BYTES(""), 1, 1, "expected a value, the text is empty"},
        {BYTES(" \n "), 2, 2, "expected a value, the text is empty"},
        {BYTES("01"), 1, 1, "leading zeros"},
        {BYTES("-01"), 1, 1, "leading zeros"},
        {BYTES("[00]"), 1, 2, "leading zeros"},
        {BYTES("+1"), 1, 1, "got '+'"},
        {BYTES(".5"), 1, 1, "expected a value, got '.5'"},
        {BYTES("5."), 1, 3, "ends inside a number"},
        {BYTES("[5.]"), 1, 2, "not a number"},
        {BYTES("[5.e1]"), 1, 2, "not a number"},
        {BYTES("[1e]"), 1, 2, "not a number"},
        {BYTES("[1e+]"), 1, 2, "not a number"},
        {BYTES("[-]"), 1, 2, "not a number"},
        {BYTES("[--1]"), 1, 2, "not a number"},
        {BYTES("-Infinity"), 1, 1, "not a number"},
        {BYTES("NaN"), 1, 1, "got 'NaN'"},
        {BYTES("0x1"), 1, 2, "nothing after the value"},
        {BYTES("1_000"), 1, 2, "nothing after the value"},
        {BYTES("1 2"), 1, 3, "nothing after the value, got '2'"},
        {BYTES("{} \0"), 1, 4, "got the byte 0x00"},
        {BYTES("\0"), 1, 1, "got the byte 0x00"},
        {BYTES("tru"), 1, 4, "ends inside a value"},
        {BYTES("True"), 1, 1, "got 'True'"},
        {BYTES("nul]"), 1, 1, "got 'nul'"},
        {BYTES("truex"), 1, 5, "nothing after"},
        {BYTES("'a'"), 1, 1, "got '''"},
        {BYTES("\xEF\xBB\xBF{}"), 1, 1, "byte order mark"},
        {BYTES("{}\xEF\xBB\xBF"), 1, 3, "nothing after"},
        {BYTES("\xFE\xFF"), 1, 1, "byte 0xFE"},
        {BYTES("\xC2\xA0"
               "1"),
         1, 1, "expected a value"}, /* a no-break space is no white space */
        {BYTES("\f1"), 1, 1, "byte 0x0C"},
        {BYTES("// c\n1"), 1, 1, "got '/'"},
        {BYTES("["), 1, 2, "before a value"},
        {BYTES("[1"), 1, 3, "inside an array"},
        {BYTES("[1,"), 1, 4, "before a value"},
        {BYTES("[1,]"), 1, 4, "got ']'"},
        {BYTES("[,1]"), 1, 2, "got ','"},
        {BYTES("[1,,2]"), 1, 4, "got ','"},
        {BYTES("[1 2]"), 1, 4, "expected ',' or ']'"},
        {BYTES("[1}"), 1, 3, "expected ',' or ']', got '}'"},
        {BYTES("]"), 1, 1, "got ']'"},
        {BYTES("{"), 1, 2, "inside an object"},
        {BYTES("{\"a"), 1, 4, "inside a string"},
        {BYTES("{\"a\""), 1, 5, "inside an object"},
        {BYTES("{\"a\":"), 1, 6, "before a value"},
        {BYTES("{\"a\":1"), 1, 7, "inside an object"},
        {BYTES("{\"a\":1,}"), 1, 8, "expected a member after ','"},
        {BYTES("{\"a\" 1}"), 1, 6, "expected ':'"},
        {BYTES("{\"a\":1 \"b\":2}"), 1, 8, "expected ',' or '}'"},
        {BYTES("{a:1}"), 1, 2, "a key in double quotes"},
        {BYTES("{1:1}"), 1, 2, "a key in double quotes"},
        {BYTES("{\"a\":1,\n \"b\":2,\n  \"a\":3}"), 3, 3, "the member \"a\" is there twice"},
        {BYTES("{\"a\":1,\"\\u0061\":2}"), 1, 8, "the member \"a\" is there twice"},
        {BYTES("{\"\":1,\"\":2}"), 1, 7, "the member \"\" is there twice"},
        {BYTES("{\"a\\n\":1,\"a\\n\":2}"), 1, 10, "the member \"a\\n\" is there twice"},
        {BYTES("\""), 1, 2, "inside a string"},
        {BYTES("\"a\nb\""), 1, 3, "0x0A must be escaped"},
        {BYTES("\"\t\""), 1, 2, "0x09 must be escaped"},
        {BYTES("\"\0\""), 1, 2, "0x00 must be escaped"},
        {BYTES("\"\\x41\""), 1, 3, "no such escape"},
        {BYTES("\"\\'\""), 1, 3, "no such escape"},
        {BYTES("\"\\\0\""), 1, 3, "no such escape"},
        {BYTES("\"\\"), 1, 3, "inside a string"},
        {BYTES("\"\\u12"), 1, 6, "inside a string"},
        {BYTES("\"\\u12G4\""), 1, 6, "four hexadecimal digits"},
        {BYTES("\"\\u 123\""), 1, 4, "four hexadecimal digits"},
        {BYTES("\"\\U0041\""), 1, 3, "no such escape"},
        {BYTES("\"é\\u0000\""), 1, 3, "\\u0000 is refused"},
        {BYTES("{\"a\\u0000b\":1}"), 1, 4, "\\u0000 is refused"},
        {BYTES("\"\\ud800\""), 1, 2, "\\ud800 is the first half"},
        {BYTES("\"\\uD800x\""), 1, 2, "\\uD800 is the first half"},
        {BYTES("\"\\ud800\\n\""), 1, 2, "first half"},
        {BYTES("\"\\ud800\\ud800\""), 1, 2, "first half"},
        {BYTES("\"\\ud800\\u0041\""), 1, 2, "first half"},
        {BYTES("\"\\udc00\""), 1, 2, "second half"},
        {BYTES("\"\\udc00\\ud800\""), 1, 2, "second half"},
        {BYTES("\"\x80\""), 1, 2, "not valid UTF-8 (byte 0x80)"},
        {BYTES("\"\xC0\xAF\""), 1, 2, "not valid UTF-8"},
        {BYTES("\"\xE0\x80\xAF\""), 1, 2, "not valid UTF-8"},
        {BYTES("\"\xED\xA0\x80\""), 1, 2, "not valid UTF-8"},
        {BYTES("\"\xF4\x90\x80\x80\""), 1, 2, "not valid UTF-8"},
        {BYTES("\"\xC3\""), 1, 2, "not valid UTF-8"},
        {BYTES("\"\xC3"), 1, 3, "inside a character"},
        {BYTES("\"\\q\xFF\""), 1, 4, "not valid UTF-8"},
        {BYTES("[\"a\",\r\n  \"é\", x]"), 2, 8, "got 'x'"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cJSON *v = NULL;
        struct error err = ERROR_INIT;
        int r = parse_exact(cases[i].text, cases[i].len, &v, &err);
        if (r != -EINVAL || v || err.code != -EINVAL || err.line != cases[i].line || err.column != cases[i].column ||
            !strstr(err.message, cases[i].message))
            fail_msg("%s: %d %u:%u %s, want %u:%u %s", cases[i].text, r, err.line, err.column, err.message,
                     cases[i].line, cases[i].column, cases[i].message);
        assert_null(strpbrk(err.message, "\n\r"));
    }
    cJSON *v = NULL;
    assert_int_equal(value_parse("[", 1, &v, NULL), -EINVAL); /* without an error object too */
    assert_int_equal(value_parse(NULL, 0, &v, NULL), -EINVAL);
}

static void test_depth(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    cJSON *v = NULL;
    _cleanup_(freep) char *opens = repeated("", "[", VALUE_DEPTH_MAX, "");
    _cleanup_(freep) char *fits = repeated(opens, "]", VALUE_DEPTH_MAX, "");
    _cleanup_(freep) char *deeper = repeated("[", fits, 1, "]");
    assert_int_equal(value_parse(fits, strlen(fits), &v, &err), 0);
    _cleanup_(freep) char *text = value_print(v);
    assert_string_equal(text, fits);
    cJSON_Delete(v);
    v = NULL;
    assert_int_equal(value_parse(deeper, strlen(deeper), &v, &err), -EINVAL);
    assert_int_equal(err.column, VALUE_DEPTH_MAX + 1);
    assert_non_null(strstr(err.message, "deeper than 128"));
    _cleanup_(freep) char *bomb = repeated("", "[{\"a\":", 100000, "");
    assert_int_equal(value_parse(bomb, strlen(bomb), &v, &err), -EINVAL);
    assert_null(v);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Objects of every size around the change of method, with the duplicate at each end; and a large one in linear time. */
static void test_duplicates(void **state)
{
    (void)state;
    for (int n = 1; n < 80; n++)
        for (int twice = -1; twice<n; twice += n> 20 ? 7 : 1) {
            struct buf b = {0};
            for (int i = 0; i < n; i++)
                buf_printf(&b, "%s\"k%d\":%d", i > 0 ? "," : "{", i, i);
            size_t at = b.len + 1;
            buf_printf(&b, ",\"%s%d\":0}", twice < 0 ? "x" : "k", twice < 0 ? 0 : twice);
            cJSON *v = NULL;
            struct error err = ERROR_INIT;
            int r = value_parse(b.data, b.len, &v, &err);
            assert_int_equal(r, twice < 0 ? 0 : -EINVAL);
            if (r < 0)
                assert_int_equal(err.column, at + 1);
            else
                assert_int_equal(cJSON_GetArraySize(v), n + 1);
            cJSON_Delete(v);
            buf_fini(&b);
        }
    struct buf b = {0};
    for (int i = 0; i < 100000; i++)
        buf_printf(&b, "%s\"key-%d\":0", i > 0 ? "," : "{", i);
    buf_adds(&b, "}");
    cJSON *v = NULL;
    double start = seconds();
    assert_int_equal(value_parse(b.data, b.len, &v, NULL), 0);
    assert_true(seconds() - start < 1);
    cJSON_Delete(v);
    buf_fini(&b);
}

static void test_prefix(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int r;
        size_t used;
    } cases[] = {
        {"{\"a\":1}{\"b\":2}", 0, 7},
        {" \n[1] rest", 0, 5},
        {"true", 0, 4},
        {"nullx", 0, 4},
        {"\"a\"\"b\"", 0, 3},
        {"12 ", 0, 2},
        {"12,", 0, 2},
        {"12", -EAGAIN, 0},
        {"-", -EAGAIN, 0},
        {"1e", -EAGAIN, 0},
        {"1.", -EAGAIN, 0},
        {"", -EAGAIN, 0},
        {" \n", -EAGAIN, 0},
        {"tr", -EAGAIN, 0},
        {"{", -EAGAIN, 0},
        {"{\"a", -EAGAIN, 0},
        {"{\"a\"", -EAGAIN, 0},
        {"{\"a\":", -EAGAIN, 0},
        {"{\"a\":1", -EAGAIN, 0},
        {"{\"a\":1,", -EAGAIN, 0},
        {"[", -EAGAIN, 0},
        {"[1,", -EAGAIN, 0},
        {"[\"\\", -EAGAIN, 0},
        {"[\"\\u00", -EAGAIN, 0},
        {"[\"\\ud83d", -EAGAIN, 0},
        {"[\"\\ud83d\\", -EAGAIN, 0},
        {"[\"\\ud83d\\ude", -EAGAIN, 0},
        {"[\"\xF0\x9F\x98", -EAGAIN, 0},
        {"[\"\xE2\x82", -EAGAIN, 0},
        {"[\"\xED\x9F", -EAGAIN, 0},
        {"[\"\xC3", -EAGAIN, 0},
        {"[\"\\ud83dx", -EINVAL, 0},
        {"[\"\\x", -EINVAL, 0},
        {"[\"\xED\xA0", -EINVAL, 0},
        {"[\"\xFF", -EINVAL, 0},
        {"[1}", -EINVAL, 0},
        {"trx", -EINVAL, 0},
        {"}", -EINVAL, 0},
        {"{\"a\":1,\"a\":", -EINVAL, 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cJSON *v = NULL;
        size_t used = 0;
        struct error err = ERROR_INIT;
        char *copy = xmemdup(cases[i].text, strlen(cases[i].text));
        int r = value_parse_prefix(copy, strlen(cases[i].text), &v, &used, &err);
        free(copy);
        if (r != cases[i].r || used != cases[i].used || !v != (r < 0))
            fail_msg("%s: %d, %zu used: %s", cases[i].text, r, used, err.message);
        cJSON_Delete(v);
    }
    /* every cut of a valid text is -EAGAIN, never an error */
    const char *whole = "{\"k\\u00e9\\ud83d\\ude00é😀\":[-1.5e+3,true,{\"a\":null}, \"\\n\"]}";
    for (size_t n = 0; n < strlen(whole); n++) {
        cJSON *v = NULL;
        size_t used;
        assert_int_equal(value_parse_prefix(whole, n, &v, &used, NULL), -EAGAIN);
    }
}

struct places {
    struct buf text;
};

static void note_place(void *ctx, const cJSON *node, unsigned line, unsigned column, unsigned key_line,
                       unsigned key_column)
{
    struct places *p = ctx;
    buf_printf(&p->text, "%s@%u:%u", node->string ? node->string : "-", line, column);
    if (key_line > 0)
        buf_printf(&p->text, "/%u:%u", key_line, key_column);
    buf_adds(&p->text, " ");
}

static void test_places(void **state)
{
    (void)state;
    const char *text = "{\n  \"é\": [1,\n    {\"x\": \"é\", \"y\":2}],\n\"z\"\n:\n  null}";
    struct places p = {0};
    cJSON *v = NULL;
    assert_int_equal(value_parse_places(text, strlen(text), note_place, &p, &v, NULL), 0);
    assert_string_equal(p.text.data, "-@1:1 é@2:8/2:3 -@2:9 -@3:5 x@3:11/3:6 y@3:20/3:16 z@6:3/4:1 ");
    buf_fini(&p.text);
    cJSON_Delete(v);
}

/* ---- numbers ---- */

static void test_number_nodes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int type;
    } cases[] = {
        {"0", cJSON_Number},
        {"-1", cJSON_Number},
        {"999999999999999", cJSON_Number},
        {"-999999999999999", cJSON_Number},
        {"1000000000000000", cJSON_Raw},
        {"-0", cJSON_Raw},
        {"1.0", cJSON_Raw},
        {"1e3", cJSON_Raw},
        {"9007199254740993", cJSON_Raw},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_(cjson_deletep) cJSON *v = json(cases[i].text);
        assert_int_equal(v->type, cases[i].type);
        assert_true(value_is_number(v));
        assert_true(v->valuedouble == strtod(cases[i].text, NULL));
    }
    static const char *const none[] = {"", "-", "01", "1.", "1e", " 1", "1 ", "+1", "NaN", "0x1", "1,"};
    for (size_t i = 0; i < ARRAY_SIZE(none); i++)
        assert_null(value_number_from_text(none[i], strlen(none[i])));
    assert_null(value_number_from_double(NAN));
    assert_null(value_number_from_double(INFINITY));
    _cleanup_(cjson_deletep) cJSON *huge = json("1e999");
    assert_true(isinf(huge->valuedouble));

    static const int64_t ints[] = {0, 1, -1, 999999999999999, 1000000000000000, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < ARRAY_SIZE(ints); i++) {
        _cleanup_(cjson_deletep) cJSON *v = value_number_from_int(ints[i]);
        _cleanup_(freep) char *want = xasprintf("%lld", (long long)ints[i]);
        _cleanup_(freep) char *got = value_print(v);
        int64_t back = 42;
        assert_string_equal(got, want);
        assert_true(value_integer(v, &back) && back == ints[i]);
    }
    static const double doubles[] = {0.1, 1.0 / 3, 1e300, 5e-324, -2.5, 1.7976931348623157e308, 123456.789, 1e21, -0.0};
    for (size_t i = 0; i < ARRAY_SIZE(doubles); i++) {
        _cleanup_(cjson_deletep) cJSON *v = value_number_from_double(doubles[i]);
        _cleanup_(freep) char *text = value_print(v);
        assert_true(strtod(text, NULL) == doubles[i]);
        cJSON_Delete(json(text));
        /* a node of cJSON's own making prints as exactly */
        _cleanup_(cjson_deletep) cJSON *plain = cJSON_CreateNumber(doubles[i]);
        _cleanup_(freep) char *same = value_print(plain);
        assert_string_equal(same, text);
        assert_int_equal(value_number_compare(v, plain), 0);
    }
    _cleanup_(cjson_deletep) cJSON *tenth = value_number_from_double(0.1);
    assert_string_equal(tenth->valuestring, "0.1");
    _cleanup_(cjson_deletep) cJSON *plain = cJSON_CreateNumber(9007199254740991.0);
    _cleanup_(freep) char *text = value_print(plain);
    assert_string_equal(text, "9007199254740991");
}

static void test_number_integer(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool is;
        int64_t n;
    } cases[] = {
        {"1", true, 1},
        {"1.0", true, 1},
        {"1.00e2", true, 100},
        {"120e-1", true, 12},
        {"1e3", true, 1000},
        {"1e18", true, 1000000000000000000},
        {"-0", true, 0},
        {"0.0e99", true, 0},
        {"0e-99999999999999999999", true, 0},
        {"9223372036854775807", true, INT64_MAX},
        {"-9223372036854775808", true, INT64_MIN},
        {"-9223372036854775808.000", true, INT64_MIN},
        {"922337203685477580700e-2", true, INT64_MAX},
        {"9223372036854775808", false, 0},
        {"-9223372036854775809", false, 0},
        {"1e19", false, 0},
        {"1e99999999999999999999", false, 0},
        {"1.5", false, 0},
        {"1e-1", false, 0},
        {"0.0001", false, 0},
        {"9223372036854775807.5", false, 0},
        {"\"1\"", false, 0},
        {"null", false, 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_(cjson_deletep) cJSON *v = json(cases[i].text);
        int64_t n = 42;
        if (value_integer(v, &n) != cases[i].is || n != (cases[i].is ? cases[i].n : 42))
            fail_msg("%s: %lld", cases[i].text, (long long)n);
    }
    int64_t n;
    assert_false(value_integer(NULL, &n));
}

static void test_number_order(void **state)
{
    (void)state;
    /* each line: equal numbers; the lines ascend */
    static const char *const lines[][5] = {
        {"-1e99999999999999999999"},
        {"-1e400"},
        {"-9007199254740994", "-9007199254740994.0"},
        {"-9007199254740993"},
        {"-1.5", "-15e-1", "-0.15e1"},
        {"-1", "-1.0"},
        {"-1e-999"},
        {"0", "-0", "0.000", "0e99", "-0.0e-5"},
        {"1e-99999999999999999999"},
        {"1e-999"},
        {"0.099"},
        {"0.1", "1e-1", "0.10", "10E-2"},
        {"0.10000000000000000001"},
        {"0.11"},
        {"1", "1.0", "10e-1", "0.1e1", "1e0"},
        {"1.5"},
        {"9"},
        {"10", "1e1", "1E+1", "10.00"},
        {"99"},
        {"100", "1e2"},
        {"9007199254740992"},
        {"9007199254740993", "9007199254740993.0", "900719925474099300e-2"},
        {"9007199254740993.1"},
        {"9007199254740994"},
        {"18446744073709551615"},
        {"18446744073709551616"},
        {"1e308"},
        {"1e999", "10e998"},
        {"1.1e999"},
        {"1e99999999999999999999"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
        for (size_t j = 0; j < ARRAY_SIZE(lines); j++)
            for (size_t x = 0; x < 5 && lines[i][x]; x++)
                for (size_t y = 0; y < 5 && lines[j][y]; y++) {
                    _cleanup_(cjson_deletep) cJSON *a = json(lines[i][x]);
                    _cleanup_(cjson_deletep) cJSON *b = json(lines[j][y]);
                    int order = value_number_compare(a, b), want = (i > j) - (i < j);
                    if ((order > 0) - (order < 0) != want)
                        fail_msg("%s against %s: %d", lines[i][x], lines[j][y], order);
                    assert_int_equal(value_equal(a, b), want == 0);
                    char k[64], l[64];
                    size_t m = value_number_key(a, k, sizeof(k)), n = value_number_key(b, l, sizeof(l));
                    assert_true(m > 0 && n > 0);
                    assert_int_equal(m == n && memcmp(k, l, m) == 0, want == 0);
                }
    _cleanup_(cjson_deletep) cJSON *v = json("-12.5");
    char key[64];
    size_t n = value_number_key(v, key, sizeof(key));
    for (size_t cap = 0; cap < n; cap++)
        assert_int_equal(value_number_key(v, key, cap), 0);
    assert_int_equal(value_number_key(v, key, n), n);
}

/* 100 000 digits: parsed, printed, compared, and soon. */
static void test_number_long(void **state)
{
    (void)state;
    double start = seconds();
    _cleanup_(freep) char *a = repeated("1", "7", 100000, ".0");
    _cleanup_(freep) char *b = repeated("1", "7", 99999, "8");
    _cleanup_(freep) char *zeros = repeated("0.", "0", 100000, "1e100001");
    _cleanup_(cjson_deletep) cJSON *x = json(a);
    _cleanup_(cjson_deletep) cJSON *y = json(b);
    _cleanup_(cjson_deletep) cJSON *one = json(zeros);
    _cleanup_(cjson_deletep) cJSON *other = json("1");
    _cleanup_(freep) char *text = value_print(x);
    assert_string_equal(text, a);
    assert_true(value_number_compare(x, y) < 0);
    assert_int_equal(value_number_compare(x, x), 0);
    assert_int_equal(value_number_compare(one, other), 0);
    char key[64];
    assert_int_equal(value_number_key(x, key, sizeof(key)), 0);
    assert_true(value_number_key(one, key, sizeof(key)) > 0);
    assert_true(seconds() - start < 1);
}

/* ---- printing, equality, access ---- */

static void test_pretty(void **state)
{
    (void)state;
    _cleanup_(cjson_deletep) cJSON *v = json("{\"a\":[1,{\"b\":null}],\"c\":{},\"d\":[],\"e\":\"x\\n\"}");
    _cleanup_(freep) char *text = value_print_pretty(v);
    assert_string_equal(text,
                        "{\n  \"a\": [\n    1,\n    {\n      \"b\": null\n    }\n  ],\n  \"c\": {},\n  \"d\": [],\n"
                        "  \"e\": \"x\\n\"\n}");
}

static void test_brief(void **state)
{
    (void)state;
    char out[VALUE_BRIEF_MAX], small[12], tiny[2];
    _cleanup_(cjson_deletep) cJSON *v = json("{\"a\":1}");
    assert_string_equal(value_brief(v, out, sizeof(out)), "{\"a\":1}");
    assert_string_equal(value_brief(v, tiny, sizeof(tiny)), "");
    _cleanup_(freep) char *text = repeated("\"", "é", 100000, "\"");
    _cleanup_(cjson_deletep) cJSON *s = json(text);
    value_brief(s, out, sizeof(out));
    _cleanup_(freep) char *want = repeated("\"", "é", 39, "…");
    assert_string_equal(out, want);
    assert_string_equal(value_brief(s, small, sizeof(small)), "\"ééé…");
    _cleanup_(freep) char *smiles = repeated("\"", "😀", 38, "\"");
    _cleanup_(cjson_deletep) cJSON *w = json(smiles);
    assert_string_equal(value_brief(w, out, sizeof(out)), smiles);
    _cleanup_(freep) char *more = repeated("\"", "😀", 39, "\"");
    _cleanup_(cjson_deletep) cJSON *x = json(more);
    value_brief(x, out, sizeof(out));
    assert_true(utf8_valid(out, strlen(out)) && strstr(out, "…"));
    assert_string_equal(value_brief(NULL, out, sizeof(out)), "nothing");
}

static void test_equal(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool equal;
    } cases[] = {
        {"{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}", true},
        {"{\"a\":1,\"b\":2}", "{\"b\":1,\"a\":2}", false},
        {"{\"a\":1,\"b\":2}", "{\"a\":1}", false},
        {"{\"a\":1}", "{\"a\":1,\"b\":2}", false},
        {"{\"a\":1}", "{\"A\":1}", false},
        {"{\"x\":0,\"a\":[{\"p\":1,\"q\":2}]}", "{\"x\":0,\"a\":[{\"q\":2.0,\"p\":1}]}", true},
        {"[1,2]", "[2,1]", false},
        {"[1,2]", "[1]", false},
        {"[]", "{}", false},
        {"true", "false", false},
        {"true", "true", true},
        {"null", "null", true},
        {"null", "false", false},
        {"1", "\"1\"", false},
        {"\"a\"", "\"\\u0061\"", true},
        {"\"a\"", "\"ab\"", false},
        {"1", "1.0", true},
        {"9007199254740993", "9007199254740992", false},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_(cjson_deletep) cJSON *a = json(cases[i].a);
        _cleanup_(cjson_deletep) cJSON *b = json(cases[i].b);
        if (value_equal(a, b) != cases[i].equal || value_equal(b, a) != cases[i].equal)
            fail_msg("%s and %s", cases[i].a, cases[i].b);
    }
    _cleanup_(cjson_deletep) cJSON *v = json("1");
    assert_true(value_equal(NULL, NULL));
    assert_false(value_equal(v, NULL) || value_equal(NULL, v));
    for (size_t n = 62; n < 67; n++) { /* around the chunks in which strings are compared */
        _cleanup_(freep) char *s = repeated("\"", "x", n, "\"");
        _cleanup_(freep) char *longer = repeated("\"", "x", n + 1, "\"");
        _cleanup_(cjson_deletep) cJSON *a = json(s);
        _cleanup_(cjson_deletep) cJSON *b = json(s);
        _cleanup_(cjson_deletep) cJSON *c = json(longer);
        assert_true(value_equal(a, b));
        assert_false(value_equal(a, c));
    }
    /* the bound */
    _cleanup_(cjson_deletep) cJSON *a = json("[1,2,3,4,5,6,7,8]");
    _cleanup_(cjson_deletep) cJSON *b = json("[1,2,3,4,5,6,7,8]");
    uint64_t steps = 5;
    assert_int_equal(value_equal_within(a, b, &steps), -E2BIG);
    steps = 1000;
    assert_int_equal(value_equal_within(a, b, &steps), 1);
    assert_true(steps < 1000);
}

static void test_access(void **state)
{
    (void)state;
    _cleanup_(cjson_deletep) cJSON *v = json("{\"a\":\"x\",\"ab\":2,\"A\":3}");
    assert_string_equal(value_get_string(v, "a"), "x");
    assert_null(value_get_string(v, "ab"));
    assert_null(value_get_string(v, "b"));
    assert_true(value_get(v, "A")->valueint == 3);
    assert_ptr_equal(value_getn(v, "abc", 2), value_get(v, "ab"));
    assert_ptr_equal(value_getn(v, "abc", 1), value_get(v, "a"));
    assert_null(value_getn(v, "abc", 3));
    assert_null(value_getn(v, "a\0b", 3));
    assert_null(value_get(NULL, "a"));
    assert_null(value_get(value_get(v, "a"), "a"));

    cJSON *item = value_string("y");
    value_set(v, "ab", item);
    assert_ptr_equal(value_get(v, "ab"), item);
    value_set(v, "new", value_string(NULL));
    cJSON *named = cJSON_DetachItemViaPointer(v, item); /* an item that has a name already takes the new one */
    value_set(v, "a", named);
    _cleanup_(freep) char *text = value_print(v);
    assert_string_equal(text, "{\"a\":\"y\",\"A\":3,\"new\":null}");

    static const struct {
        const char *text, *name;
    } types[] = {{"{}", "object"},  {"[]", "array"},     {"\"\"", "string"},   {"1", "number"},
                 {"1.5", "number"}, {"true", "boolean"}, {"false", "boolean"}, {"null", "null"}};
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        _cleanup_(cjson_deletep) cJSON *t = json(types[i].text);
        assert_string_equal(value_type_name(t), types[i].name);
        assert_int_equal(value_is_number(t), streq(types[i].name, "number"));
    }
    assert_false(value_is_number(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepts),      cmocka_unit_test(test_refuses),        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_duplicates),   cmocka_unit_test(test_prefix),         cmocka_unit_test(test_places),
        cmocka_unit_test(test_number_nodes), cmocka_unit_test(test_number_integer), cmocka_unit_test(test_number_order),
        cmocka_unit_test(test_number_long),  cmocka_unit_test(test_pretty),         cmocka_unit_test(test_brief),
        cmocka_unit_test(test_equal),        cmocka_unit_test(test_access),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
