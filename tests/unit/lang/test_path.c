/* JSONPath: the compliance suite of RFC 9535, the forms manifests may use, and the bounds on work. */
#include "base/util.h"
#include "lang/iregexp.h"
#include "lang/path.h"

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
        fail_msg("%u:%u: %s in %.200s", err.line, err.column, err.message, text);
    return v;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* What the path selects, as text; or "!" and the message. */
static char *select_text(const char *text, unsigned flags, const cJSON *doc)
{
    struct error err = ERROR_INIT;
    _cleanup_(path_destroyp) struct path *p = NULL;
    if (path_compile(text, flags, &p, &err) < 0)
        return xasprintf("!%u: %s", err.column, err.message);
    assert_string_equal(path_text(p), text);
    struct path_nodes nodes;
    if (path_select(p, doc, &nodes, &err) < 0)
        return xasprintf("!%s", err.message);
    struct buf out = {0};
    for (size_t i = 0; i < nodes.n; i++) {
        _cleanup_(freep) char *one = value_print(nodes.list[i]);
        buf_printf(&out, "%s%s", i > 0 ? " " : "", one);
    }
    path_nodes_fini(&nodes);
    return buf_steal(&out);
}

static void expect(const char *doc_text, const char *path, unsigned flags, const char *want)
{
    _cleanup_(cjson_deletep) cJSON *doc = json(doc_text);
    _cleanup_(freep) char *got = select_text(path, flags, doc);
    if (!streq(got, want))
        fail_msg("%s on %s: got %s, want %s", path, doc_text, got, want);
}

/* ---- compliance ---- */

static char *read_file(const char *path)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return NULL;
    struct buf b = {0};
    char chunk[65536];
    size_t n;
    while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0)
        buf_add(&b, chunk, n);
    fclose(f);
    return buf_steal(&b);
}

static bool nodes_are(const struct path_nodes *nodes, const cJSON *want)
{
    const cJSON *w = want->child;
    for (size_t i = 0; i < nodes->n; i++, w = w->next)
        if (!w || !value_equal(nodes->list[i], w))
            return false;
    return !w;
}

/* NULL: as the suite wants it; else why not. */
static const char *run_case(const cJSON *test, struct error *err)
{
    _cleanup_(path_destroyp) struct path *p = NULL;
    int r = path_compile(value_get_string(test, "selector"), PATH_STRICT, &p, err);
    if (value_get(test, "invalid_selector"))
        return r == -EINVAL ? (err->column > 0 ? NULL : "no place") : "was accepted";
    if (r < 0)
        return err->message;
    struct path_nodes nodes;
    if (path_select(p, value_get(test, "document"), &nodes, err) < 0)
        return err->message;
    bool good = false;
    const cJSON *result = value_get(test, "result"), *any;
    if (result)
        good = nodes_are(&nodes, result);
    else
        cJSON_ArrayForEach (any, value_get(test, "results"))
            good = good || nodes_are(&nodes, any);
    path_nodes_fini(&nodes);
    return good ? NULL : "selected something else";
}

static void test_compliance(void **state)
{
    (void)state;
    const char *file = TEST_SOURCE_DIR "/../shared/data/jsonpath-cts.json";
    _cleanup_(freep) char *text = read_file(file);
    if (!text) {
        print_message("SKIPPED: the JSONPath compliance suite is not at %s\n", file);
        skip();
    }
    /* Two selectors hold a raw U+0000, which no string here can: any other control character is as invalid there. */
    for (char *p = text; (p = strstr(p, "\\u0000"));)
        p[5] = '1';
    _cleanup_(cjson_deletep) cJSON *suite = json(text);
    int n = 0, passed = 0;
    const cJSON *test;
    cJSON_ArrayForEach (test, value_get(suite, "tests")) {
        struct error err = ERROR_INIT;
        const char *why = run_case(test, &err);
        n++;
        passed += !why;
        if (why)
            print_error("%s: %s: %s\n", value_get_string(test, "name"), value_get_string(test, "selector"), why);
    }
    print_message("JSONPath compliance: %d of %d\n", passed, n);
    assert_int_equal(passed, n);
    assert_true(n >= 703);
}

/* ---- forms ---- */

static void test_mapping_forms(void **state)
{
    (void)state;
    static const struct {
        const char *doc, *path, *want;
    } cases[] = {
        {"{\"a\":{\"items\":[7,8]}}", "$.a.items.0", "7"},
        {"{\"a\":{\"items\":[7,8]}}", "a.items.1", "8"},
        {"{\"a\":{\"items\":[7,8]}}", "a.items.2", ""},
        {"{\"a\":{\"items\":{\"0\":1}}}", "a.items.0", "1"},
        {"{\"items\":[[1,2],[3]]}", "items.0.1", "2"},
        {"[[5]]", "0.0", "5"},
        {"[5]", "$.00", ""},
        {"{\"00\":3}", "$.00", "3"},
        {"[5]", "$.99999999999999999999", ""},
        {"{\"99999999999999999999\":1}", "$.99999999999999999999", "1"},
        {"{\"items\":[{\"n\":1},{\"n\":2}]}", "$.items[*].n", "1 2"},
        {"{\"items\":[{\"n\":1},{\"n\":2}]}", "items[?@.n > 1].n", "2"},
        {"{\"items\":[{\"n\":[1]},{\"n\":[2]}]}", "$.items[?@.n.0 == 2].n.0", "2"},
        {"{\"headers\":{\"X-GitHub-Event\":\"push\"}}", "$.headers.X-GitHub-Event", "\"push\""},
        {"{\"headers\":{\"X-GitHub-Event\":\"push\"}}", "headers.X-GitHub-Event", "\"push\""},
        {"{\"@type\":1}", "$.@type", "1"},
        {"{\"@type\":1}", "@type", "1"},
        {"{\"a-b\":[{\"c:d\":1}]}", "$.a-b.0.c:d", "1"},
        {"{\"a\":{\"$ref\":1}}", "$.a.$ref", "1"},
        {"{\"a&&b\":1}", "$.a&&b", "1"},
        {"{\"données\":{\"naïve\":1}}", "données.naïve", "1"},
        {"{\"a\":1}", "$", "{\"a\":1}"},
        {"{\"a\":null}", "$.a", "null"},
        {"{\"A\":1}", "$.a", ""},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        expect(cases[i].doc, cases[i].path, PATH_MAPPING, cases[i].want);
}

/* What starts with '!' here must be refused; the column is where the user's own text is at fault. */
static void test_errors(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        unsigned flags;
        const char *want;
    } cases[] = {
        {"$.0", PATH_STRICT, "!3: expected a name or '*', got '0'"},
        {"a.b", PATH_STRICT, "!1: expected '$', got 'a'"},
        {"$.X-Y", PATH_STRICT, "!4: expected '.', '[' or the end of the path, got '-'"},
        {"$.@type", PATH_STRICT, "!3: expected a name or '*', got '@'"},
        {"", PATH_MAPPING, "!1: the path is empty"},
        {"$..0", PATH_MAPPING, "!4: expected a name or '*', got '0'"},
        {"$..X-Y", PATH_MAPPING, "!5: expected '.', '[' or the end of the path, got '-'"},
        {"$.a.", PATH_MAPPING, "!5: expected a name or '*', the path ends"},
        {"a.", PATH_MAPPING, "!3: expected a name or '*', the path ends"},
        {".a", PATH_MAPPING, "!1: expected '$', got '.'"},
        {"*", PATH_MAPPING, "!1: expected '$', got '*'"},
        {"$a", PATH_MAPPING, "!2: expected '.', '[' or the end of the path, got 'a'"},
        {"hello world", PATH_MAPPING, "!6: expected '.', '[' or the end of the path, got ' '"},
        {"a.X-Y[0]", PATH_MAPPING, "!4: expected '.', '[' or the end of the path, got '-'"},
        {"$.a[?size(@.b)>1]", PATH_MAPPING, "!6: no function size(); did you mean value()?"},
        {"$.a[?lenght(@.b)>1]", PATH_MAPPING, "!6: no function lenght(); did you mean length()?"},
        {"$[?length(@.*)>1]", PATH_MAPPING, "!11: length() takes one value; this query may select more"},
        {"$[?count(1)>1]", PATH_MAPPING, "!10: count() takes a query"},
        {"$[?@.a]]", PATH_MAPPING, "!8: expected '.', '[' or the end of the path, got ']'"},
        {"$['é'", PATH_MAPPING, "!6: expected ',' or ']', the path ends"},
        {"$[9007199254740992]", PATH_MAPPING, "!3: integers end at 2^53 - 1"},
        {"$['\\ud800']", PATH_STRICT, "!4: half a surrogate pair"},
        {"\xff", PATH_MAPPING, "!1: the path is not valid UTF-8"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        expect("[]", cases[i].path, cases[i].flags, cases[i].want);
}

static void test_event_data(void **state)
{
    (void)state;
    unsigned flags = PATH_MAPPING | PATH_EVENT_DATA;
    expect("{\"user\":{\"id\":1}}", "$.data.user.id", flags, "1");
    expect("{\"user\":{\"id\":1}}", "data.user.id", flags, "1");
    expect("{\"user\":{\"id\":1}}", "$['data'].user.id", flags, "1");
    expect("{\"user\":{\"id\":1}}", "$.data", flags, "{\"user\":{\"id\":1}}");
    expect("{\"user\":{\"id\":1}}", "$.user.id", flags, "1");
    expect("{\"data\":{\"user\":2},\"user\":1}", "$.data.user", flags, "2");
    expect("{\"data\":null,\"user\":1}", "$.data.user", flags, "");
    expect("[4,5]", "$.data.1", flags, "5");
    expect("7", "$.data", flags, "7");
    expect("{\"a\":[1,2],\"b\":2}", "$.a[?@ == $.data.b]", flags, "2");
    expect("{\"user\":1}", "$..data", flags, "");
    expect("{\"user\":1}", "$.x.data", flags, "");
    expect("{\"user\":1}", "$.data.user", PATH_MAPPING, "");
}

static void test_literals(void **state)
{
    (void)state;
    /* numbers are compared exactly, whatever their size and spelling */
    expect("[9007199254740993,9007199254740992]", "$[?@ == 9007199254740993]", PATH_STRICT, "9007199254740993");
    expect("[1.0,10e-1,1,2]", "$[?@ == 1]", PATH_STRICT, "1.0 10e-1 1");
    expect("[1e999,1e998]", "$[?@ > 1e998]", PATH_STRICT, "1e999");
    expect("[0.1,0.2]", "$[?@ == 0.1]", PATH_STRICT, "0.1");
    /* a literal with U+0000 equals only itself and sorts below all but the empty string */
    expect("[\"a\"]", "$[?@ == '\\u0000']", PATH_STRICT, "");
    expect("[\"a\"]", "$[?'\\u0000' == '\\u0000']", PATH_STRICT, "\"a\"");
    expect("[\"a\",\"\"]", "$[?'\\u0000' < @]", PATH_STRICT, "\"a\"");
    expect("[\"a\",\"\"]", "$[?length('\\u0000') == 1 && @ < '\\u0000']", PATH_STRICT, "\"\"");
    expect("{\"a\":1}", "$['\\u0000']", PATH_STRICT, "");
    expect("[\"é\",\"😀😀\"]", "$[?length(@) == 2]", PATH_STRICT, "\"😀😀\"");
    /* slices at the ends of the range of integers */
    expect("[1,2,3]", "$[-9007199254740991:9007199254740991:9007199254740991]", PATH_STRICT, "1");
    expect("[1,2,3]", "$[9007199254740991:-9007199254740991:-2]", PATH_STRICT, "3 1");
}

static void test_value(void **state)
{
    (void)state;
    static const struct {
        const char *path, *want;
        bool singular;
        const char *first;
    } cases[] = {
        {"$.a", "{\"b\":[1,2]}", true, "a"},
        {"$.a.b", "[1,2]", true, "a"},
        {"$['a']['b'][0]", "1", true, "a"},
        {"$.n", "null", true, "n"},
        {"$.f", "false", true, "f"},
        {"$.x", NULL, true, "x"},
        {"$", "{\"a\":{\"b\":[1,2]},\"n\":null,\"f\":false}", true, NULL},
        {"$.a.b[*]", "[1,2]", false, "a"},
        {"$.a.b[0:1]", "[1]", false, "a"},
        {"$.x[*]", NULL, false, "x"},
        {"$..b", "[[1,2]]", false, NULL},
        {"$['a','n']", "[{\"b\":[1,2]},null]", false, NULL},
        {"$[0]", NULL, true, NULL},
    };
    _cleanup_(cjson_deletep) cJSON *doc = json("{\"a\":{\"b\":[1,2]},\"n\":null,\"f\":false}");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_(path_destroyp) struct path *p = NULL;
        assert_int_equal(path_compile(cases[i].path, PATH_STRICT, &p, NULL), 0);
        assert_int_equal(path_is_singular(p), cases[i].singular);
        assert_true(streq(path_first_name(p), cases[i].first));
        _cleanup_(cjson_deletep) cJSON *v = NULL;
        int r = path_value(p, doc, &v, NULL);
        assert_int_equal(r, cases[i].want != NULL);
        if (!v) {
            assert_null(cases[i].want);
            continue;
        }
        assert_null(v->string);
        _cleanup_(freep) char *text = value_print(v);
        assert_string_equal(text, cases[i].want);
    }
}

/* ---- bounds ---- */

static cJSON *nested(const char *open, const char *close, int depth, const char *inside)
{
    struct buf b = {0};
    for (int i = 0; i < depth; i++)
        buf_adds(&b, open);
    buf_adds(&b, inside);
    for (int i = 0; i < depth; i++)
        buf_adds(&b, close);
    cJSON *v = json(b.data);
    buf_fini(&b);
    return v;
}

static cJSON *array_of(int n, const char *element)
{
    struct buf b = {0};
    for (int i = 0; i < n; i++)
        buf_printf(&b, "%s%s", i > 0 ? "," : "[", element);
    buf_adds(&b, "]");
    cJSON *v = json(b.data);
    buf_fini(&b);
    return v;
}

/* -E2BIG or an end, and in either case soon. Sanitizers slow all down by about 5. */
static int bounded(const char *path, const cJSON *doc)
{
    struct error err = ERROR_INIT;
    _cleanup_(path_destroyp) struct path *p = NULL;
    if (path_compile(path, PATH_MAPPING, &p, &err) < 0)
        fail_msg("%s: %s", path, err.message);
    struct path_nodes nodes = {0};
    double start = seconds();
    int r = path_select(p, doc, &nodes, &err);
    double took = seconds() - start;
    print_message("  %5.1f ms %s %.60s\n", took * 1000, r < 0 ? "refused " : "selected", path);
    path_nodes_fini(&nodes);
    if (r < 0) {
        assert_int_equal(r, -E2BIG);
        assert_int_equal(err.code, -E2BIG);
        assert_non_null(strstr(err.message, "too much work"));
    }
    assert_true(took < 0.5);
    return r;
}

static char *repeated(const char *before, const char *part, int n, const char *after)
{
    struct buf b = {0};
    buf_adds(&b, before);
    for (int i = 0; i < n; i++)
        buf_adds(&b, part);
    buf_adds(&b, after);
    return buf_steal(&b);
}

static void test_bounds(void **state)
{
    (void)state;
    _cleanup_(cjson_deletep) cJSON *wide = array_of(1000, "[1,2,3,4,5,6,7,8,9]");
    _cleanup_(cjson_deletep) cJSON *deep = nested("{\"a\":[1,2,", "]}", 60, "0");
    assert_int_equal(bounded("$..*", wide), 0);
    assert_int_equal(bounded("$[*][*]", wide), 0);
    assert_int_equal(bounded("$..*..*..*..*", deep), -E2BIG);
    assert_int_equal(bounded("$[?count($..*) > 1]", wide), -E2BIG);
    assert_int_equal(bounded("$[?@ == $]", wide), 0);
    assert_int_equal(bounded("$..[?$..[?$..[?@ == 5]]]", wide), -E2BIG);
    assert_int_equal(bounded("$[?$[?$[?$[?$[?@.x]]]]]", wide), -E2BIG);
    assert_int_equal(bounded("$[?$ == $]", wide), 0); /* the same node */
    _cleanup_(freep) char *dots = repeated("$", "..*", 1000, "");
    assert_int_equal(bounded(dots, deep), -E2BIG);
    _cleanup_(freep) char *wilds = repeated("$[*", ",*", 1500, "][*,*,*,*]");
    assert_int_equal(bounded(wilds, wide), -E2BIG);
    _cleanup_(freep) char *indexes = repeated("$[*][0", ",0", 1300, "]"); /* none of them finds anything */
    _cleanup_(cjson_deletep) cJSON *objects = array_of(50000, "{}");
    assert_int_equal(bounded(indexes, objects), -E2BIG);
    _cleanup_(freep) char *reversed = repeated("$[0", ",::-1", 600, "]");
    assert_int_equal(bounded(reversed, wide), -E2BIG);
    /* comparisons of large values: the copies below are equal, but not the same nodes */
    _cleanup_(cjson_deletep) cJSON *twice = json("{}");
    value_set(twice, "a", cJSON_Duplicate(wide, true));
    value_set(twice, "b", cJSON_Duplicate(wide, true));
    assert_int_equal(bounded("$.a[?$.a == $.b]", twice), -E2BIG);
    assert_int_equal(bounded("$[?$.a == $.b]", twice), 0);
    /* a small value against a large one, many times */
    struct buf members = {0};
    for (int i = 0; i < 50000; i++)
        buf_printf(&members, "%s\"k%d\":0", i > 0 ? "," : "{\"big\":{", i);
    buf_adds(&members, "},\"small\":[{}");
    for (int i = 0; i < 50000; i++)
        buf_adds(&members, ",{\"k\":1}");
    buf_adds(&members, "]}");
    _cleanup_(cjson_deletep) cJSON *uneven = json(members.data);
    buf_fini(&members);
    assert_int_equal(bounded("$.small[?@ == $.big]", uneven), 0);
    assert_int_equal(bounded("$.small[?$.big.nothing]", uneven), -E2BIG);
    assert_int_equal(bounded("$.small[?@ == $.big || length($.big) == 0]", uneven), -E2BIG);
}

/* `$.data` is looked for once, not for each query of a filter. */
static void test_bounds_event_data(void **state)
{
    (void)state;
    struct buf members = {0};
    for (int i = 0; i < 50000; i++)
        buf_printf(&members, "%s\"k%d\":{}", i > 0 ? "," : "{", i);
    buf_adds(&members, "}");
    _cleanup_(cjson_deletep) cJSON *doc = json(members.data);
    buf_fini(&members);
    _cleanup_(path_destroyp) struct path *p = NULL;
    assert_int_equal(path_compile("$[?$.data == 1]", PATH_MAPPING | PATH_EVENT_DATA, &p, NULL), 0);
    struct path_nodes nodes = {0};
    double start = seconds();
    assert_int_equal(path_select(p, doc, &nodes, NULL), 0);
    assert_true(seconds() - start < 0.5);
    path_nodes_fini(&nodes);
}

static void test_bounds_text(void **state)
{
    (void)state;
    _cleanup_(freep) char *xs = repeated("", "x", 1000000, "");
    _cleanup_(freep) char *digits = repeated("1", "0", 1000000, ".5");
    _cleanup_(cjson_deletep) cJSON *doc = array_of(2000, "\"\"");
    cJSON *object = cJSON_CreateObject();
    value_set(object, "s", value_string(xs));
    value_set(object, "t", value_string(xs));
    value_set(object, "n", value_number_from_text(digits, strlen(digits)));
    value_set(object, "m", value_number_from_text(digits, strlen(digits)));
    value_set(object, "list", cJSON_Duplicate(doc, true));
    assert_int_equal(bounded("$.list[?$.s == $.t]", object), -E2BIG);
    assert_int_equal(bounded("$.list[?$.s < $.t]", object), -E2BIG);
    assert_int_equal(bounded("$.list[?$.n == $.m]", object), -E2BIG);
    assert_int_equal(bounded("$.list[?$.n <= $.m]", object), -E2BIG);
    assert_int_equal(bounded("$.list[?length($.s) == 0]", object), -E2BIG);
    assert_int_equal(bounded("$.list[?search($.s, '(x+x+)+y')]", object), -E2BIG);
    assert_int_equal(bounded("$.list[?match($.s, $.t)]", object), -E2BIG);
    cJSON_Delete(object);
}

static void test_bounds_regex(void **state)
{
    (void)state;
    _cleanup_(freep) char *as = repeated("[\"", "a", 30000, "\"]");
    _cleanup_(cjson_deletep) cJSON *doc = json(as);
    assert_int_equal(bounded("$[?match(@, '(a+)+b')]", doc), 0);
    assert_int_equal(bounded("$[?match(@, '(a|a)*b')]", doc), 0);
    assert_int_equal(bounded("$[?search(@, '(a*)*$b')]", doc), 0);
    assert_int_equal(bounded("$[?match(@, '((a{0,30}){0,30})*b')]", doc), -E2BIG);
    _cleanup_(cjson_deletep) cJSON *many = array_of(20000, "\"(a{100}){30}\"");
    assert_int_equal(bounded("$[?match('b', @)]", many), -E2BIG);
    assert_int_equal(bounded("$[?match(@, '[(].*30[}]')]", many), -E2BIG);
    /* patterns that cost something before they fail */
    _cleanup_(cjson_deletep) cJSON *wrong = array_of(20000, "\"(a{100}){30}(\"");
    assert_int_equal(bounded("$[?match('b', @)]", wrong), -E2BIG);
    assert_int_equal(bounded("$[0:1000][?match(@, '[(].*30[}]')]", many), 0);
}

static void test_limits(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct path *p = NULL;
    _cleanup_(freep) char *fits = repeated("$", ".a", (PATH_TEXT_MAX - 2) / 2, "");
    _cleanup_(freep) char *longer = repeated("$", ".a", (PATH_TEXT_MAX) / 2, "");
    _cleanup_(freep) char *parens = repeated("$[?", "(", PATH_NESTING_MAX, "@.a");
    _cleanup_(freep) char *filters = repeated("$", "[?@", PATH_NESTING_MAX + 1, "");
    _cleanup_(freep) char *calls = repeated("$[?", "length(", PATH_NESTING_MAX + 1, "");
    assert_int_equal(path_compile(fits, PATH_STRICT, &p, &err), 0);
    path_destroy(p);
    assert_int_equal(path_compile(longer, PATH_MAPPING, &p, &err), -E2BIG);
    assert_int_equal(path_compile(parens, PATH_STRICT, &p, &err), -E2BIG);
    assert_int_equal(path_compile(filters, PATH_MAPPING, &p, &err), -E2BIG);
    assert_int_equal(path_compile(calls, PATH_STRICT, &p, &err), -E2BIG);
    assert_int_equal(path_compile("$[?match(@.a, '(a{4000}){4000}')]", PATH_MAPPING, &p, &err), -E2BIG);
    assert_int_equal(err.column, 4);

    /* what a query copies is bounded, what a single value is need not be */
    _cleanup_(cjson_deletep) cJSON *large = array_of(PATH_COPY_NODES_MAX + 10, "1");
    _cleanup_(freep) char *amplified = repeated("$['a'", ",'a'", 300, "]");
    _cleanup_(freep) char *mebibyte = repeated("", "x", 1 << 20, "");
    cJSON *object = cJSON_CreateObject();
    value_set(object, "a", value_string(mebibyte));
    cJSON *v = NULL;
    assert_int_equal(path_compile("$", PATH_STRICT, &p, &err), 0);
    assert_int_equal(path_value(p, large, &v, &err), 1);
    assert_int_equal(cJSON_GetArraySize(v), PATH_COPY_NODES_MAX + 10);
    cJSON_Delete(v);
    path_destroy(p);
    assert_int_equal(path_compile("$[*]", PATH_STRICT, &p, &err), 0);
    assert_int_equal(path_value(p, large, &v, &err), -E2BIG);
    path_destroy(p);
    assert_int_equal(path_compile(amplified, PATH_STRICT, &p, &err), 0);
    assert_int_equal(path_value(p, object, &v, &err), -E2BIG);
    assert_non_null(strstr(err.message, "too large"));
    path_destroy(p);
    cJSON_Delete(object);
}

/* ---- regular expressions ---- */

static int re_match(const char *pattern, const char *subject, bool search)
{
    struct iregexp *re;
    int r = iregexp_compile(pattern, NULL, &re, NULL);
    if (r < 0)
        return r;
    uint64_t steps = 1000000;
    r = iregexp_match(re, subject, search, &steps);
    iregexp_destroy(re);
    return r;
}

static void test_regex(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *subject;
        int match, search;
    } cases[] = {
        {"", "", 1, 1},
        {"", "a", 0, 1},
        {"a", "a", 1, 1},
        {"a", "ba", 0, 1},
        {"a|b|cd", "cd", 1, 1},
        {"a|b|cd", "c", 0, 0},
        {"|a", "", 1, 1},
        {"(a|b)*c", "ababc", 1, 1},
        {"(a|bc){2,3}", "abcabc", 0, 1},
        {"(a|bc){2,3}", "abca", 1, 1},
        {"a{3}", "aaa", 1, 1},
        {"a{3}", "aa", 0, 0},
        {"a{2,}", "aaaaa", 1, 1},
        {"a{2,}", "a", 0, 0},
        {"a{0}b", "b", 1, 1},
        {"a{0}b", "ab", 0, 1},
        {"a{0,2}b", "aab", 1, 1},
        {"a{0,2}b", "aaab", 0, 1},
        {"a{0,}b", "aaab", 1, 1},
        {"(a*)*", "aaa", 1, 1},
        {"(a*)+b", "aab", 1, 1},
        {"(){1000}", "", 1, 1},
        {"[a-c]+", "abcabc", 1, 1},
        {"[^a-c]+", "xyz", 1, 1},
        {"[^a-c]", "b", 0, 0},
        {"[-a]+", "-a-", 1, 1},
        {"[a-]+", "-a-", 1, 1},
        {"[\\n\\t\\]\\-]+", "\n\t]-", 1, 1},
        {"[.*+?(){}|$^,]+", ".*+?(){}|$^,", 1, 1},
        {"[é-ü]", "ñ", 1, 1},
        {".", "\n", 0, 0},
        {".", "\r", 0, 0},
        {".", "😀", 1, 1},
        {"\\.\\*\\+\\?\\(\\)\\[\\]\\{\\}\\|\\\\\\^\\-", ".*+?()[]{}|\\^-", 1, 1},
        {"\\p{L}+", "aé", 1, 1},
        {"\\p{Lu}\\p{Ll}", "Éé", 1, 1},
        {"\\P{L}", "1", 1, 1},
        {"[\\p{Nd}x]+", "1x٣", 1, 1},
        {"[\\P{Nd}]", "1", 0, 0},
        {"[^\\p{Nd}]", "a", 1, 1},
        {"^a$", "a", 1, 1},
        {"^a$", "ba", 0, 0},
        {"a^b", "ab", 0, 0},
        {"(^|x)a", "ba", 0, 0},
        {"(^|x)a", "xa", 1, 1},
        {"a($|b)", "xab", 0, 1},
        {"ab,-/:;<=>@_`~!\"#%&'", "ab,-/:;<=>@_`~!\"#%&'", 1, 1},
        /* no I-Regexp */
        {"(", "", -EINVAL, -EINVAL},
        {")", "", -EINVAL, -EINVAL},
        {"a)", "", -EINVAL, -EINVAL},
        {"[", "", -EINVAL, -EINVAL},
        {"[]", "", -EINVAL, -EINVAL},
        {"[^]", "", -EINVAL, -EINVAL},
        {"[a", "", -EINVAL, -EINVAL},
        {"[b-a]", "", -EINVAL, -EINVAL},
        {"[a-b-c]", "", -EINVAL, -EINVAL},
        {"[[a]]", "", -EINVAL, -EINVAL},
        {"]", "", -EINVAL, -EINVAL},
        {"}", "", -EINVAL, -EINVAL},
        {"*", "", -EINVAL, -EINVAL},
        {"a**", "", -EINVAL, -EINVAL},
        {"a+?", "", -EINVAL, -EINVAL},
        {"a|*", "", -EINVAL, -EINVAL},
        {"a{", "", -EINVAL, -EINVAL},
        {"a{}", "", -EINVAL, -EINVAL},
        {"a{,2}", "", -EINVAL, -EINVAL},
        {"a{2,1}", "", -EINVAL, -EINVAL},
        {"a{2", "", -EINVAL, -EINVAL},
        {"\\d", "", -EINVAL, -EINVAL},
        {"\\w", "", -EINVAL, -EINVAL},
        {"\\b", "", -EINVAL, -EINVAL},
        {"\\1", "", -EINVAL, -EINVAL},
        {"\\", "", -EINVAL, -EINVAL},
        {"\\p", "", -EINVAL, -EINVAL},
        {"\\p{", "", -EINVAL, -EINVAL},
        {"\\p{}", "", -EINVAL, -EINVAL},
        {"\\p{Cs}", "", -EINVAL, -EINVAL},
        {"\\p{Latin}", "", -EINVAL, -EINVAL},
        {"\\p{L", "", -EINVAL, -EINVAL},
        {"(?:a)", "", -EINVAL, -EINVAL},
        {"\xff", "", -EINVAL, -EINVAL},
        {"a{5000}", "", -E2BIG, -E2BIG},
        {"((a{100}){100}){100}", "", -E2BIG, -E2BIG},
        {"a{99999999999999999999}", "", -E2BIG, -E2BIG},
        {"(a{4000}){0}(a{4000}){0}", "", 1, 1},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int match = re_match(cases[i].pattern, cases[i].subject, false);
        int search = re_match(cases[i].pattern, cases[i].subject, true);
        if (match != cases[i].match || search != cases[i].search)
            fail_msg("'%s' on '%s': match %d, search %d", cases[i].pattern, cases[i].subject, match, search);
    }
    _cleanup_(freep) char *groups = repeated("", "(", IREGEXP_DEPTH_MAX + 1, "");
    assert_int_equal(re_match(groups, "", false), -E2BIG);
    _cleanup_(freep) char *dropped = repeated("", "(a{4000}){0}", 50, "");
    assert_int_equal(re_match(dropped, "", false), -E2BIG);
    _cleanup_(freep) char *branches = repeated("a", "|a", 1000, "");
    assert_int_equal(re_match(branches, "a", false), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compliance),  cmocka_unit_test(test_mapping_forms),
        cmocka_unit_test(test_errors),      cmocka_unit_test(test_event_data),
        cmocka_unit_test(test_literals),    cmocka_unit_test(test_value),
        cmocka_unit_test(test_bounds),      cmocka_unit_test(test_bounds_event_data),
        cmocka_unit_test(test_bounds_text), cmocka_unit_test(test_bounds_regex),
        cmocka_unit_test(test_limits),      cmocka_unit_test(test_regex),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
