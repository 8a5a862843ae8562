#include "lang/template.h"

#include "base/util.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static cJSON *json(const char *text)
{
    cJSON *v = NULL;
    struct error err = ERROR_INIT;
    if (value_parse(text, strlen(text), &v, &err) < 0)
        fail_msg("%s: %s", text, err.message);
    return v;
}

static struct template *compiled(const char *text, unsigned flags)
{
    struct template *t = NULL;
    struct error err = ERROR_INIT;
    if (template_compile(text, flags, &t, &err) < 0)
        fail_msg("%s: %s", text, err.message);
    return t;
}

static const char root_text[] =
    "{\"inputs\": {\"file\": \"/in/a b.csv\", \"n\": 3, \"big\": 123456789012345678901234567890, \"on\": false,"
    " \"none\": null, \"list\": [1, {\"x\": \"y\"}], \"od}}d\": \"odd\", \"brace\": \"{{ $.inputs.n }}\"},"
    " \"steps\": {\"load\": {\"output\": {\"rows\": [{\"id\": 1}, {\"id\": 2}]}}}}";

static void test_expand(void **state)
{
    (void)state;
    static const struct {
        const char *text, *value, *as_text; /* JSON; text where it differs from the value's */
    } cases[] = {
        {"plain", "\"plain\"", NULL},
        {"", "\"\"", NULL},
        {"{{ $.inputs.file }}", "\"/in/a b.csv\"", NULL},
        {"{{$.inputs.n}}", "3", "3"},
        {"{{ $.inputs.big }}", "123456789012345678901234567890", "123456789012345678901234567890"},
        {"{{ $.inputs.on }}", "false", "false"},
        {"{{ $.inputs.none }}", "null", "null"},
        {"{{ $.inputs.list }}", "[1,{\"x\":\"y\"}]", "[1,{\"x\":\"y\"}]"},
        {"{{ inputs.n }}", "3", "3"},
        {"{{ $.inputs.list.0 }}", "1", "1"},
        {"{{ $.steps.load.output.rows[*].id }}", "[1,2]", "[1,2]"},
        {"{{ $.steps.load.output.rows[?@.id == 2] }}", "[{\"id\":2}]", "[{\"id\":2}]"},
        {" {{ $.inputs.n }}", "\" 3\"", NULL},
        {"{{ $.inputs.n }}{{ $.inputs.n }}", "\"33\"", NULL},
        {"a{{ $.inputs.file }}b{{ $.inputs.list }}c", "\"a/in/a b.csvb[1,{\\\"x\\\":\\\"y\\\"}]c\"", NULL},
        {"n={{\t$.inputs.on\n}}", "\"n=false\"", NULL},
        {"{{ $.inputs['od}}d'] }}!", "\"odd!\"", NULL},
        {"{{ $.inputs[\"od}}d\"] }}", "\"odd\"", NULL},
        {"{{ $.inputs.list[?@.x == 'a\\'}}' || @.x] }}", "[{\"x\":\"y\"}]", "[{\"x\":\"y\"}]"},
        {"a }} b } {", "\"a }} b } {\"", NULL},
        {"{\"n\": {{ $.inputs.n }}}", "\"{\\\"n\\\": 3}\"", NULL},
        {"{{ $.inputs.n }}}}", "\"3}}\"", NULL},
        {"{{ \"{{\" }}.Names}}", "\"{{.Names}}\"", NULL},
        {"{{ '{{' }}", "\"{{\"", NULL},
        {"{{'a \"}} b'}} {{ $.inputs.n }}", "\"a \\\"}} b 3\"", NULL},
        {"{{ \"\" }}", "\"\"", NULL},
        /* what is put in is not looked at again */
        {"{{ $.inputs.brace }}", "\"{{ $.inputs.n }}\"", NULL},
    };
    _cleanup_(cjson_deletep) cJSON *root = json(root_text);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct error err = ERROR_INIT;
        for (unsigned flags = 0; flags <= TEMPLATE_TEXT; flags++) {
            struct template *t = compiled(cases[i].text, flags);
            cJSON *value = NULL;
            if (template_expand(t, root, &value, &err) < 0)
                fail_msg("%s: %s", cases[i].text, err.message);
            _cleanup_(freep) char *got = value_print(value);
            if (flags && cases[i].as_text)
                assert_string_equal(value->valuestring, cases[i].as_text);
            else
                assert_string_equal(got, cases[i].value);
            char *text = NULL;
            assert_int_equal(template_expand_text(t, root, &text, &err), 0);
            assert_string_equal(text, cases[i].as_text ? cases[i].as_text : value->valuestring);
            free(text);
            cJSON_Delete(value);
            template_destroy(t);
        }
    }
}

static void test_compile_errors(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
        unsigned column;
    } cases[] = {
        {"é {{ $.a", "`{{` without `}}`", 3},
        {"{{", "`{{` without `}}`", 1},
        {"a {{ $.a }} {{ $.b }", "`{{` without `}}`", 13},
        {"{{ }}", "needs a path", 1},
        {"x{{}}", "needs a path", 2},
        {"{{ $.a[ }}", "`{{ $.a[ }}`: ", 0},
        {"{{ $.a' }}", "`{{ $.a' }}`: ", 0},
        {"{{ \"a }}", "must end with its quote", 4},
        {"{{ \"a\" b }}", "must end with its quote", 4},
        {"{{.Names}}", "`{{ .Names }}`: ", 3},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct template *t = (void *)0x1;
        struct error err = ERROR_INIT;
        assert_int_equal(template_compile(cases[i].text, 0, &t, &err), -EINVAL);
        assert_ptr_equal(t, (void *)0x1);
        if (!strstr(err.message, cases[i].words))
            fail_msg("%s: %s", cases[i].text, err.message);
        if (cases[i].column)
            assert_int_equal(err.column, cases[i].column);
    }
    /* the path's own column is moved to the string's */
    struct template *t;
    struct error inner = ERROR_INIT, err = ERROR_INIT;
    struct path *p;
    assert_int_equal(path_compile("$.a[x y]", PATH_MAPPING, &p, &inner), -EINVAL);
    assert_int_equal(template_compile("éé {{ $.a[x y] }}", 0, &t, &err), -EINVAL);
    assert_int_equal(err.column, inner.column + 6);

    struct buf many = {0};
    for (int i = 0; i < TEMPLATE_PLACES_MAX; i++)
        buf_adds(&many, "{{ $.a }}");
    template_destroy(compiled(many.data, 0));
    buf_adds(&many, "{{ $.a }}");
    assert_int_equal(template_compile(many.data, 0, &t, &err), -EINVAL);
    assert_non_null(strstr(err.message, "at most 1000"));
    buf_fini(&many);
}

static void test_nothing_found(void **state)
{
    (void)state;
    _cleanup_(cjson_deletep) cJSON *root = json(root_text);
    static const char *const texts[] = {"{{ $.inputs.gone }}", "a {{ $.inputs.gone }}", "{{ $.inputs.gone[*] }}"};
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct template *t = compiled(texts[i], 0);
        struct error err = ERROR_INIT;
        cJSON *value = (void *)0x1;
        char *text = (void *)0x1;
        assert_int_equal(template_expand(t, root, &value, &err), -ENOENT);
        assert_int_equal(template_expand_text(t, root, &text, &err), -ENOENT);
        assert_ptr_equal(value, (void *)0x1);
        assert_ptr_equal(text, (void *)0x1);
        assert_non_null(strstr(err.message, "$.inputs.gone"));
        assert_int_equal(template_expand(t, root, &value, NULL), -ENOENT);
        template_destroy(t);
    }
}

static void count_path(void *ctx, const struct path *p, const char *where)
{
    buf_printf(ctx, "%s=%s;", where, path_text(p));
}

static void test_tree(void **state)
{
    (void)state;
    _cleanup_(cjson_deletep) cJSON *root = json(root_text);
    cJSON *tree =
        json("{\"url\": \"http://h/{{ $.inputs.n }}\", \"body\": {\"rows\": \"{{ $.steps.load.output.rows }}\","
             " \"{{ key }}\": \"plain\", \"deep\": [1, \"{{ inputs.n }}\", {\"e\": {}, \"l\": []}]},"
             " \"big\": 1.50, \"esc\": \"{{ '{{' }}\", \"t\": true}");
    struct template_tree *t = NULL;
    struct error err = ERROR_INIT;
    struct issues issues = ISSUES_INIT;
    assert_int_equal(template_tree_compile(tree, 0, "http", &t, &issues), 0);
    cJSON_Delete(tree);
    assert_false(template_tree_is_constant(t));
    struct buf seen = {0};
    template_tree_each_path(t, count_path, &seen);
    assert_string_equal(seen.data, "http.url=$.inputs.n;http.body.rows=$.steps.load.output.rows;"
                                   "http.body.deep[1]=inputs.n;");
    buf_fini(&seen);
    for (int i = 0; i < 2; i++) { /* compiled once, expanded often */
        cJSON *out = NULL;
        assert_int_equal(template_tree_expand(t, root, &out, &err), 0);
        _cleanup_(freep) char *text = value_print(out);
        assert_string_equal(
            text, "{\"url\":\"http://h/3\",\"body\":{\"rows\":[{\"id\":1},{\"id\":2}],\"{{ key }}\":\"plain\","
                  "\"deep\":[1,3,{\"e\":{},\"l\":[]}]},\"big\":1.50,\"esc\":\"{{\",\"t\":true}");
        cJSON_Delete(out);
    }
    _cleanup_(cjson_deletep) cJSON *other = json("{\"inputs\": {\"n\": \"x\"}}");
    cJSON *out = (void *)0x1;
    assert_int_equal(template_tree_expand(t, other, &out, &err), -ENOENT);
    assert_ptr_equal(out, (void *)0x1);
    assert_string_equal(err.message, "http.body.rows: `{{ $.steps.load.output.rows }}` finds nothing");
    template_tree_destroy(t);

    /* argv: always text; a member of a tree as well as a whole one */
    _cleanup_(cjson_deletep) cJSON *step = json("{\"command\": [\"./x\", \"{{ inputs.n }}\", \"{{ inputs.list }}\"]}");
    assert_int_equal(template_tree_compile(value_get(step, "command"), TEMPLATE_TEXT, "", &t, &issues), 0);
    assert_int_equal(template_tree_expand(t, root, &out, &err), 0);
    _cleanup_(freep) char *text = value_print(out);
    assert_string_equal(text, "[\"./x\",\"3\",\"[1,{\\\"x\\\":\\\"y\\\"}]\"]");
    cJSON_Delete(out);
    template_tree_destroy(t);

    _cleanup_(cjson_deletep) cJSON *constant = json("[\"a\", {\"b\": \"{{ '{{' }}\"}]");
    assert_int_equal(template_tree_compile(constant, 0, "", &t, &issues), 0);
    assert_true(template_tree_is_constant(t));
    template_tree_destroy(t);

    _cleanup_(cjson_deletep) cJSON *bad = json("{\"a\": [\"ok\", {\"b\": \"{{ \"}], \"c\": \"{{ }}\"}");
    struct template_tree *none = (void *)0x1;
    assert_int_equal(template_tree_compile(bad, 0, "body", &none, &issues), -EINVAL);
    assert_ptr_equal(none, (void *)0x1);
    assert_int_equal(issues.n, 2);
    assert_string_equal(issues.items[0].path, "body.a[1].b");
    assert_string_equal(issues.items[0].node->valuestring, "{{ ");
    assert_non_null(strstr(issues.items[0].message, "`{{` without"));
    assert_string_equal(issues.items[1].path, "body.c");
    /* what was wrong before is not this tree's fault */
    assert_int_equal(template_tree_compile(constant, 0, "", &none, &issues), 0);
    template_tree_destroy(none);
    issues_fini(&issues);

    /* a string alone is a tree too */
    _cleanup_(cjson_deletep) cJSON *alone = json("\"{{ inputs.n }}\"");
    assert_int_equal(template_tree_compile(alone, 0, "", &t, &issues), 0);
    assert_int_equal(template_tree_expand(t, root, &out, &err), 0);
    assert_true(value_is_number(out));
    cJSON_Delete(out);
    template_tree_destroy(t);
}

static cJSON *nested(unsigned levels, const char *inner)
{
    struct buf text = {0};
    for (unsigned i = 0; i < levels; i++)
        buf_addc(&text, '[');
    buf_adds(&text, inner);
    for (unsigned i = 0; i < levels; i++)
        buf_addc(&text, ']');
    cJSON *v = json(text.data);
    buf_fini(&text);
    return v;
}

static void test_bounds(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct issues issues = ISSUES_INIT;
    cJSON *out = NULL;
    /* size: one string of 1 MiB, 16 times and once more */
    _cleanup_(freep) char *mega = xmalloc((1 << 20) + 1);
    memset(mega, 'x', 1 << 20);
    mega[1 << 20] = '\0';
    _cleanup_(cjson_deletep) cJSON *root = cJSON_CreateObject();
    value_set(root, "m", value_string(mega));
    struct buf text = {0};
    for (int i = 0; i < 16; i++)
        buf_adds(&text, "{{ $.m }}");
    struct template *t = compiled(text.data, 0);
    assert_int_equal(template_expand(t, root, &out, &err), 0);
    assert_int_equal(strlen(out->valuestring), TEMPLATE_OUTPUT_MAX);
    cJSON_Delete(out);
    template_destroy(t);
    buf_adds(&text, "{{ $.m }}");
    t = compiled(text.data, 0);
    assert_int_equal(template_expand(t, root, &out, &err), -E2BIG);
    template_destroy(t);
    buf_fini(&text);

    /* the bound is on the tree as a whole */
    _cleanup_(cjson_deletep) cJSON *tree = cJSON_CreateArray();
    struct template_tree *tt;
    for (int i = 0; i < 17; i++) {
        cJSON_AddItemToArray(tree, value_string("{{ $.m }}"));
        if (i != 14 && i != 16)
            continue;
        assert_int_equal(template_tree_compile(tree, 0, "", &tt, &issues), 0);
        int rc = template_tree_expand(tt, root, &out, &err);
        assert_int_equal(rc, i == 14 ? 0 : -E2BIG);
        if (rc == 0)
            cJSON_Delete(out);
        template_tree_destroy(tt);
    }

    /* depth: what comes out can be parsed again */
    for (unsigned around = 0; around <= 3; around++) {
        _cleanup_(cjson_deletep) cJSON *deep = nested(VALUE_DEPTH_MAX - 2, "7");
        _cleanup_(cjson_deletep) cJSON *place = nested(around, "\"{{ $ }}\"");
        assert_int_equal(template_tree_compile(place, 0, "", &tt, &issues), 0);
        int rc = template_tree_expand(tt, deep, &out, &err);
        assert_int_equal(rc, around <= 2 ? 0 : -E2BIG);
        if (rc == 0) {
            _cleanup_(freep) char *printed = value_print(out);
            cJSON_Delete(json(printed));
            cJSON_Delete(out);
        }
        template_tree_destroy(tt);
    }

    /* work */
    _cleanup_(cjson_deletep) cJSON *wide = cJSON_CreateArray();
    for (int i = 0; i < 3000; i++)
        cJSON_AddItemToArray(wide, value_number_from_int(i));
    t = compiled("x{{ $[?count($[?@ == 1]) == 2] }}", 0);
    assert_int_equal(template_expand(t, wide, &out, &err), -E2BIG);
    template_destroy(t);
}

static void test_condition(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        bool truth;
    } cases[] = {
        {"$.inputs.file", true},
        {"$.inputs.gone", false},
        {"$.inputs.on", false},
        {"$.inputs.none", false},
        {"$.inputs.n", true},
        {"$.inputs.zero", true},
        {"$.inputs.empty", true},
        {"$.inputs['no', 'on']", false},
        {"$.inputs['on', 'n']", true},
        {"$.steps.load[?@.rows > 0]", true},
        {"$.steps.load[?@.rows > 9]", false},
        {"$.inputs[*]", true},
    };
    _cleanup_(cjson_deletep) cJSON *root =
        json("{\"inputs\": {\"file\": \"f\", \"n\": 3, \"on\": false, \"no\": null, \"none\": null, \"zero\": 0,"
             " \"empty\": \"\"}, \"steps\": {\"load\": {\"output\": {\"rows\": 3}}}}");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct path *p = NULL;
        assert_int_equal(path_compile(cases[i].path, PATH_MAPPING, &p, NULL), 0);
        bool truth = !cases[i].truth;
        assert_int_equal(condition_eval(p, root, &truth, NULL), 0);
        if (truth != cases[i].truth)
            fail_msg("%s", cases[i].path);
        path_destroy(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expand), cmocka_unit_test(test_compile_errors), cmocka_unit_test(test_nothing_found),
        cmocka_unit_test(test_tree),   cmocka_unit_test(test_bounds),         cmocka_unit_test(test_condition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
