#include "lang/schema.h"

#include "base/util.h"

#include <errno.h>
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
        fail_msg("%s: %s", text, err.message);
    return v;
}

static struct schema *compiled(const char *text)
{
    _cleanup_(cjson_deletep) cJSON *v = json(text);
    struct schema *s = NULL;
    struct issues issues = ISSUES_INIT;
    if (schema_compile(v, "", &s, &issues) < 0)
        fail_msg("%s: %s: %s", text, issues.items[0].path, issues.items[0].message);
    issues_fini(&issues);
    return s;
}

static void collect(void *ctx, const char *path, const char *message)
{
    struct buf *b = ctx;
    assert_true(utf8_valid(path, strlen(path)));
    assert_true(utf8_valid(message, strlen(message)));
    buf_printf(b, "%s%s: %s", b->len ? "\n" : "", path, message);
}

/* Valid and invalid values, one JSON text each, by keyword. */
static void test_keywords(void **state)
{
    (void)state;
    static const struct {
        const char *schema;
        const char *valid[12], *invalid[12];
    } cases[] = {
        {"true", {"1", "null", "{}"}, {NULL}},
        {"false", {NULL}, {"1", "null"}},
        {"{}", {"1", "\"x\""}, {NULL}},
        {"{\"type\": \"string\"}", {"\"\"", "\"x\""}, {"1", "null", "true", "[]", "{}"}},
        {"{\"type\": \"integer\"}",
         {"1", "-3", "1.0", "1e3", "123456789012345678901234567890", "1e400", "12.50e1"},
         {"1.5", "\"1\"", "1e-1", "0.1", "123456789012345678901234567890.5"}},
        {"{\"type\": \"number\"}", {"1", "1.5", "1e400"}, {"\"1\"", "null"}},
        {"{\"type\": \"boolean\"}", {"true", "false"}, {"0", "\"true\""}},
        {"{\"type\": \"null\"}", {"null"}, {"false", "0", "\"\""}},
        {"{\"type\": \"array\"}", {"[]"}, {"{}"}},
        {"{\"type\": \"object\"}", {"{}"}, {"[]", "null"}},
        {"{\"type\": [\"integer\", \"null\"]}", {"1", "null"}, {"1.5", "\"\""}},
        {"{\"enum\": [1, \"a\", {\"x\": [1, 2]}, null]}",
         {"1", "1.0", "\"a\"", "{\"x\": [1.0, 2]}", "null"},
         {"2", "\"b\"", "{\"x\": [2, 1]}", "false", "{}"}},
        {"{\"const\": {\"a\": 1, \"b\": 2}}", {"{\"b\": 2, \"a\": 1.0}"}, {"{\"a\": 1}", "null"}},
        {"{\"const\": null}", {"null"}, {"0"}},
        {"{\"const\": false}", {"false"}, {"0", "[]"}},
        {"{\"minimum\": 1.1}", {"1.1", "1.10", "2", "\"x\""}, {"1", "-5"}},
        {"{\"maximum\": 9007199254740993}", {"9007199254740993", "9007199254740992"}, {"9007199254740994", "1e400"}},
        {"{\"exclusiveMinimum\": 0}", {"0.0000001", "1"}, {"0", "-0.0", "-1"}},
        {"{\"exclusiveMaximum\": 3}", {"2.999999999999999999999999"}, {"3", "3.0", "4"}},
        {"{\"multipleOf\": 2}", {"4", "0", "-6", "1e300", "4.0"}, {"7", "0.5", "1e-300"}},
        {"{\"multipleOf\": 0.01}", {"19.99", "0.07", "1e20", "4.35"}, {"19.995", "0.005"}},
        {"{\"multipleOf\": 0.3}", {"0.9", "3", "1.2e0"}, {"1", "0.31"}},
        {"{\"multipleOf\": 1e2}", {"100", "1200"}, {"10", "150"}},
        {"{\"multipleOf\": 999999999999999999}",
         {"999999999999999999", "1999999999999999998", "999999999999999999000"},
         {"1000000000000000000", "12345678901234567890123"}},
        {"{\"minLength\": 2}", {"\"ab\"", "\"éé\"", "1"}, {"\"a\"", "\"é\"", "\"\""}},
        {"{\"maxLength\": 2}", {"\"日本\"", "\"\""}, {"\"abc\""}},
        {"{\"minLength\": 2.0}", {"\"ab\""}, {"\"a\""}},
        {"{\"pattern\": \"^a+$\"}", {"\"aaa\"", "3"}, {"\"aab\"", "\"aaa\\n\"", "\"\""}},
        {"{\"pattern\": \"b.d\"}", {"\"abcde\"", "\"béd\""}, {"\"bd\"", "\"b\\nd\""}},
        {"{\"pattern\": \"^\\\\d\\\\w\\\\s$\"}", {"\"1a \""}, {"\"١a \""}},
        {"{\"pattern\": \"^\\\\u00e9[^]\\\\/$\"}", {"\"é\\n/\""}, {"\"e\\n/\""}},
        {"{\"pattern\": \"^\\\\p{Lu}\"}", {"\"Éa\""}, {"\"éa\""}},
        {"{\"minItems\": 1}", {"[1]", "{}"}, {"[]"}},
        {"{\"maxItems\": 1}", {"[]", "[1]"}, {"[1, 2]"}},
        {"{\"uniqueItems\": true}",
         {"[]", "[1, 2, \"1\"]", "[[1], [2]]", "[{\"a\": 1}, {\"a\": 2}]", "[true, 1, false, 0, null, \"\"]",
          "[[], {}]"},
         {"[1, 1.0]", "[\"a\", 1, \"a\"]", "[{\"a\": 1, \"b\": [2]}, {\"b\": [2.0], \"a\": 1}]", "[[], []]",
          "[123456789012345678901234567890, 1.2345678901234567890123456789e29]"}},
        {"{\"uniqueItems\": false}", {"[1, 1]"}, {NULL}},
        {"{\"items\": {\"type\": \"integer\"}}", {"[]", "[1, 2]", "\"x\""}, {"[1, \"2\"]"}},
        {"{\"items\": false}", {"[]"}, {"[1]"}},
        {"{\"prefixItems\": [{\"type\": \"string\"}, true], \"items\": {\"type\": \"integer\"}}",
         {"[]", "[\"a\"]", "[\"a\", null, 3, 4]"},
         {"[1]", "[\"a\", 1, \"b\"]"}},
        {"{\"prefixItems\": [true], \"items\": false}", {"[1]"}, {"[1, 2]"}},
        {"{\"required\": [\"a\", \"b\"]}", {"{\"b\": 1, \"a\": null}", "[]"}, {"{\"a\": 1}", "{}"}},
        {"{\"properties\": {\"a\": {\"type\": \"string\"}, \"b\": false}}",
         {"{}", "{\"a\": \"x\", \"c\": 1}"},
         {"{\"a\": 1}", "{\"b\": null}"}},
        {"{\"properties\": {\"a\": true}, \"additionalProperties\": false}", {"{\"a\": 1}"}, {"{\"b\": 1}"}},
        {"{\"properties\": {\"a\": true}, \"additionalProperties\": {\"type\": \"null\"}}",
         {"{\"a\": 1, \"b\": null}"},
         {"{\"b\": 1}"}},
        {"{\"required\": [\"a\"], \"additionalProperties\": {\"type\": \"null\"}}", {"{\"a\": null}"}, {"{\"a\": 1}"}},
        {"{\"propertyNames\": {\"pattern\": \"^[a-z]+$\"}}", {"{\"abc\": 1}", "{}"}, {"{\"aBc\": 1}"}},
        {"{\"minProperties\": 1, \"maxProperties\": 2}",
         {"{\"a\": 1}", "{\"a\": 1, \"b\": 2}"},
         {"{}", "{\"a\": 1, \"b\": 2, \"c\": 3}"}},
        {"{\"allOf\": [{\"minimum\": 1}, {\"maximum\": 3}]}", {"2"}, {"0", "4"}},
        {"{\"anyOf\": [{\"type\": \"string\"}, {\"minimum\": 3}]}", {"\"x\"", "3", "null"}, {"2"}},
        {"{\"oneOf\": [{\"type\": \"integer\"}, {\"minimum\": 2}]}", {"1", "2.5"}, {"3", "1.5"}},
        {"{\"not\": {\"type\": \"string\"}}", {"1"}, {"\"x\""}},
        {"{\"not\": {\"not\": {\"type\": \"string\"}}}", {"\"x\""}, {"1"}},
        {"{\"not\": {\"anyOf\": [{\"const\": 1}, {\"const\": 2}]}}", {"3"}, {"1", "2"}},
        {"{\"anyOf\": [{\"oneOf\": [{\"const\": 1}, {\"const\": 1}]}, {\"const\": 2}]}", {"2"}, {"1"}},
        {"{\"$schema\": \"https://json-schema.org/draft/2020-12/schema\", \"$id\": \"x\", \"$comment\": \"c\","
         " \"title\": \"t\", \"description\": \"d\", \"default\": 1, \"examples\": [1], \"format\": \"email\","
         " \"deprecated\": true, \"readOnly\": true, \"writeOnly\": false, \"x-note\": {}}",
         {"1", "\"no mail\""},
         {NULL}},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct schema *s = compiled(cases[i].schema);
        for (unsigned want = 0; want <= 1; want++)
            for (const char *const *text = want ? cases[i].invalid : cases[i].valid; *text; text++) {
                _cleanup_(cjson_deletep) cJSON *v = json(*text);
                struct buf told = {0};
                int n = schema_validate(s, v, collect, &told, NULL);
                if (n < 0 || (n > 0) != want || (told.len > 0) != want)
                    fail_msg("%s with %s gives %d %s", cases[i].schema, *text, n, told.data);
                assert_int_equal(schema_validate(s, v, NULL, NULL, NULL), want);
                buf_fini(&told);
            }
        schema_destroy(s);
    }
}

static void test_messages(void **state)
{
    (void)state;
    static const struct {
        const char *schema, *value, *told;
    } cases[] = {
        {"{\"type\": \"object\", \"required\": [\"file_path\", \"mode\"], \"properties\": {\"n\": {\"type\": "
         "\"integer\","
         " \"minimum\": 1}, \"mode\": {\"enum\": [\"batch\", \"live\"]}}, \"additionalProperties\": false}",
         "{\"n\": 0, \"mode\": \"fast\", \"filepath\": 1}",
         "n: expected at least 1, got 0\n"
         "mode: expected one of \"batch\", \"live\", got \"fast\"\n"
         "filepath: unknown key; did you mean \"file_path\"?\n"
         "file_path: required, but missing"},
        {"{\"type\": [\"string\", \"null\"]}", "[1]", ": expected string or null, got [1]"},
        {"{\"items\": {\"properties\": {\"id\": {\"type\": \"string\"}}}}", "[{}, {\"id\": 1}, {\"id\": null}]",
         "[1].id: expected string, got 1\n[2].id: expected string, got null"},
        {"{\"additionalProperties\": {\"items\": false}}", "{\"a b\": [1], \"\": [2], \"x\\ny\": [3]}",
         "[\"a b\"][0]: no value is allowed here\n[\"\"][0]: no value is allowed here\n"
         "[\"x\\ny\"][0]: no value is allowed here"},
        {"{\"const\": 5}", "6", ": expected 5, got 6"},
        {"{\"enum\": [5]}", "6", ": expected 5, got 6"},
        {"{\"multipleOf\": 0.5}", "0.7", ": expected a multiple of 0.5, got 0.7"},
        {"{\"pattern\": \"^a\"}", "\"b\"", ": expected a match of /^a/, got \"b\""},
        {"{\"maxLength\": 1}", "\"éé\"", ": expected at most 1 characters, got 2"},
        {"{\"uniqueItems\": true}", "[1, 2, 3, 2.0]", ": the items 1 and 3 are equal"},
        {"{\"properties\": {\"a\": {\"anyOf\": [{\"type\": \"string\"}, {\"type\": \"object\", \"required\": [\"k\"],"
         " \"properties\": {\"k\": {\"type\": \"integer\"}}}]}}}",
         "{\"a\": {\"k\": \"x\"}}", "a: matches no schema of `anyOf` (nearest: k: expected integer, got \"x\")"},
        {"{\"oneOf\": [{\"type\": \"string\"}, {\"type\": \"null\"}]}", "1",
         ": matches no schema of `oneOf` (nearest: expected string, got 1)"},
        {"{\"oneOf\": [{\"type\": \"null\"}, {\"type\": \"number\"}, {\"minimum\": 0}]}", "1",
         ": matches the schemas 2 and 3 of `oneOf`, may match one only"},
        {"{\"not\": {\"type\": \"number\"}}", "1", ": matches the schema of `not`"},
        {"{\"propertyNames\": {\"maxLength\": 2}}", "{\"abc\": 1}", "abc: expected at most 2 characters, got 3"},
        {"{\"allOf\": [{\"minimum\": 3}, {\"type\": \"string\"}]}", "1",
         ": expected at least 3, got 1\n: expected string, got 1"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct schema *s = compiled(cases[i].schema);
        _cleanup_(cjson_deletep) cJSON *v = json(cases[i].value);
        struct buf told = {0};
        assert_true(schema_validate(s, v, collect, &told, NULL) > 0);
        assert_string_equal(told.data, cases[i].told);
        buf_fini(&told);
        schema_destroy(s);
    }
}

static void test_compile_errors(void **state)
{
    (void)state;
    static const struct {
        const char *schema, *path, *words;
        bool at_key;
    } cases[] = {
        {"1", "in", "expected a schema", false},
        {"{\"typ\": \"string\"}", "in.typ", "did you mean \"type\"?", true},
        {"{\"minimun\": 1}", "in.minimun", "did you mean \"minimum\"?", true},
        {"{\"$ref\": \"#\"}", "in.$ref", "not supported here", true},
        {"{\"patternProperties\": {}}", "in.patternProperties", "not supported here", true},
        {"{\"type\": \"text\"}", "in.type", "unknown type \"text\"", false},
        {"{\"type\": \"strng\"}", "in.type", "did you mean \"string\"?", false},
        {"{\"type\": []}", "in.type", "at least one type", false},
        {"{\"type\": [1]}", "in.type", "name of a type", false},
        {"{\"properties\": []}", "in.properties", "an object of schemas", false},
        {"{\"properties\": {\"a\": {\"items\": 3}}}", "in.properties.a.items", "expected a schema", false},
        {"{\"required\": \"a\"}", "in.required", "a list of names", false},
        {"{\"required\": [1]}", "in.required", "a list of names", false},
        {"{\"enum\": []}", "in.enum", "at least one value", false},
        {"{\"minimum\": \"1\"}", "in.minimum", "a number, got \"1\"", false},
        {"{\"minLength\": -1}", "in.minLength", "at least 0", false},
        {"{\"maxItems\": 1.5}", "in.maxItems", "at least 0", false},
        {"{\"multipleOf\": 0}", "in.multipleOf", "above 0", false},
        {"{\"multipleOf\": -0.1}", "in.multipleOf", "above 0", false},
        {"{\"multipleOf\": 1.000000000000000001}", "in.multipleOf", "at most 18 digits", false},
        {"{\"pattern\": \"a(\"}", "in.pattern", "no regular expression", false},
        {"{\"pattern\": \"(a)\\\\1\"}", "in.pattern", "back references", false},
        {"{\"pattern\": 1}", "in.pattern", "a regular expression", false},
        {"{\"uniqueItems\": 1}", "in.uniqueItems", "true or false", false},
        {"{\"allOf\": []}", "in.allOf", "at least one schema", false},
        {"{\"anyOf\": [{}, 1]}", "in.anyOf[1]", "expected a schema", false},
        {"{\"title\": 1}", "in.title", "a string", false},
        {"{\"examples\": 1}", "in.examples", "a list", false},
        {"{\"items\": [{}]}", "in.items", "expected a schema", false},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_(cjson_deletep) cJSON *v = json(cases[i].schema);
        struct schema *s = (void *)0x1;
        struct issues issues = ISSUES_INIT;
        assert_int_equal(schema_compile(v, "in", &s, &issues), -EINVAL);
        assert_ptr_equal(s, (void *)0x1);
        assert_int_equal(issues.n, 1);
        assert_string_equal(issues.items[0].path, cases[i].path);
        if (!strstr(issues.items[0].message, cases[i].words))
            fail_msg("%s: %s", cases[i].schema, issues.items[0].message);
        assert_int_equal(issues.items[0].at_key, cases[i].at_key);
        assert_non_null(issues.items[0].node);
        issues_fini(&issues);
    }
    /* all at once */
    _cleanup_(cjson_deletep) cJSON *v = json("{\"typ\": 1, \"properties\": {\"a\": {\"type\": \"x\"}}, \"not\": 2}");
    struct schema *s;
    struct issues issues = ISSUES_INIT;
    assert_int_equal(schema_compile(v, "", &s, &issues), -EINVAL);
    assert_int_equal(issues.errors, 3);
    issues_fini(&issues);
}

static char *repeated(const char *head, const char *part, size_t n, const char *tail)
{
    struct buf b = {0};
    buf_adds(&b, head);
    for (size_t i = 0; i < n; i++)
        buf_adds(&b, part);
    buf_adds(&b, tail);
    return buf_steal(&b);
}

static void count(void *ctx, const char *path, const char *message)
{
    (void)path, (void)message;
    ++*(int *)ctx;
}

/* What a schema or a value of allowed size could blow up ends within the time of its steps. */
static void test_bounds(void **state)
{
    (void)state;
    struct {
        char *schema, *value;
        int result; /* -1: any but an error */
    } cases[] = {
        {xstrdup("{\"items\": {\"type\": \"string\"}}"), repeated("[", "1,", 5000, "1]"), SCHEMA_FAILURES_MAX},
        {xstrdup("{\"pattern\": \"^(a+)+$\"}"), repeated("\"", "a", 50000, "b\""), -E2BIG},
        {xstrdup("{\"pattern\": \"(a|aa)+$\"}"), repeated("\"", "a", 1000, "b\""), -E2BIG},
        {xstrdup("{\"pattern\": \"a*[bc]\"}"), repeated("\"", "a", 200000, "\""), -E2BIG},
        {xstrdup("{\"pattern\": \"(?:a|b)*[cd]\"}"), repeated("\"", "ab", 500000, "\""), -E2BIG},
        {xstrdup("{\"pattern\": \"(?R)?x\"}"), repeated("\"", "y", 1000, "\""), -1},
        {xstrdup("{\"not\": {\"pattern\": \"^(a+)+$\"}}"), repeated("\"", "a", 50000, "b\""), -E2BIG},
        {xstrdup("{\"anyOf\": [{\"pattern\": \"^(a+)+$\"}, true]}"), repeated("\"", "a", 50000, "b\""), -E2BIG},
        {xstrdup("{\"pattern\": \"^[a-z ]*$\", \"minLength\": 3}"), repeated("\"", "a bc", 250000, "\""), 0},
        {xstrdup("{\"pattern\": \"needle\"}"), repeated("\"", "hay ", 250000, "needle\""), 0},
        {xstrdup("{\"uniqueItems\": true}"), repeated("[0", ",0", 200000, "]"), 1},
        {xstrdup("{\"uniqueItems\": true}"), repeated("[0", ",[[],[],[]]", 1, "]"), 0},
        {xstrdup("{\"items\": {\"type\": \"integer\", \"minimum\": 0}}"), repeated("[0", ",1", 500000, "]"), 0},
        {repeated("{\"items\": {\"anyOf\": [", "{\"type\": \"string\"},", 1000, "true]}}"),
         repeated("[0", ",1", 100000, "]"), -E2BIG},
        {repeated("{\"items\": {\"enum\": [", "\"some word or other\",", 5000, "1]}}"),
         repeated("[0", ",1", 100000, "]"), -E2BIG},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct schema *s = compiled(cases[i].schema);
        cJSON *v = json(cases[i].value);
        int told = 0;
        clock_t start = clock();
        int rc = schema_validate(s, v, count, &told, NULL);
        double ms = (double)(clock() - start) / CLOCKS_PER_SEC * 1000;
        print_message("%.40s: %d in %.0f ms\n", cases[i].schema, rc, ms);
        assert_true(cases[i].result == -1 ? rc >= 0 : rc == cases[i].result);
        if (rc >= 0)
            assert_int_equal(told, rc);
        assert_true(ms < 10000);
        cJSON_Delete(v);
        schema_destroy(s);
        free(cases[i].schema);
        free(cases[i].value);
    }
    char pattern[SCHEMA_PATTERN_MAX + 64];
    for (int extra = 0; extra <= 1; extra++) {
        _cleanup_(freep) char *text = repeated("", "x", (size_t)(SCHEMA_PATTERN_MAX + extra), "");
        snprintf(pattern, sizeof(pattern), "{\"pattern\": \"%s\"}", text);
        _cleanup_(cjson_deletep) cJSON *v = json(pattern);
        struct schema *s = NULL;
        struct issues issues = ISSUES_INIT;
        assert_int_equal(schema_compile(v, "", &s, &issues), extra ? -EINVAL : 0);
        issues_fini(&issues);
        schema_destroy(s);
    }
    /* deeper than any document: made by hand */
    cJSON *deep = cJSON_CreateObject();
    for (int i = 0; i < VALUE_DEPTH_MAX + 10; i++) {
        cJSON *outer = cJSON_CreateObject();
        cJSON_AddItemToObject(outer, "not", deep);
        deep = outer;
    }
    struct schema *s = NULL;
    struct issues issues = ISSUES_INIT;
    assert_int_equal(schema_compile(deep, "", &s, &issues), -EINVAL);
    issues_fini(&issues);
    cJSON_Delete(deep);
    /* the deepest document under the deepest schema, every path told */
    _cleanup_(freep) char *inner = repeated("", "{\"items\":", 126, "false");
    _cleanup_(freep) char *schema_text = repeated(inner, "}", 126, "");
    _cleanup_(freep) char *arrays = repeated("", "[", 127, "");
    _cleanup_(freep) char *value_text = repeated(arrays, "]", 127, "");
    s = compiled(schema_text);
    cJSON *v = json(value_text);
    struct buf told = {0};
    assert_int_equal(schema_validate(s, v, collect, &told, NULL), 1);
    buf_fini(&told);
    cJSON_Delete(v);
    schema_destroy(s);
}

static void test_long_names_stay_utf8(void **state)
{
    (void)state;
    struct schema *s = compiled("{\"additionalProperties\": {\"additionalProperties\": false}}");
    for (size_t n = 0; n < 40; n++) {
        _cleanup_(freep) char *filler = repeated("", "é", 60 + n, "");
        _cleanup_(freep) char *text = xasprintf("{\"a%s\": {\"%s\": 1}}", filler, filler);
        cJSON *v = json(text);
        struct buf told = {0};
        assert_int_equal(schema_validate(s, v, collect, &told, NULL), 1);
        buf_fini(&told);
        cJSON_Delete(v);
    }
    schema_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keywords),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_compile_errors),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_long_names_stay_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
