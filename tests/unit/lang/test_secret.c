#include "lang/secret.h"

#include "lang/template.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void test_references(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int rc;
        enum secret_kind kind;
        const char *name; /* found, or what the message holds */
        unsigned column;
    } cases[] = {
        {"", 0, 0, NULL, 0},
        {"plain $ { } ${", 0, 0, NULL, 0},
        {"${env:TOKEN}", 1, SECRET_ENV, "TOKEN", 0},
        {"Bearer ${env:_a9} x", 1, SECRET_ENV, "_a9", 0},
        {"$${env:A}", 1, SECRET_ENV, "A", 0}, /* there is no escape */
        {"${${env:A}}", 1, SECRET_ENV, "A", 0},
        {"${file:/run/secrets/a b}", 1, SECRET_FILE, "/run/secrets/a b", 0},
        {"${file:token}", 1, SECRET_FILE, "token", 0},
        {"${file:../x}", 1, SECRET_FILE, "../x", 0}, /* where it may lead is not the text's to say */
        {"${file:\xC3\xA9}", 1, SECRET_FILE, "\xC3\xA9", 0},
        /* other languages' */
        {"${HOME} ${db:Status-Status} ${x:-y} ${env} ${ env:A} ${env :A}", 0, 0, NULL, 0},
        {"${env:-x} ${env:+x} ${env:=x} ${env:?x} ${file:-/x}", 0, 0, NULL, 0},
        {"${x} ${env:A}", 1, SECRET_ENV, "A", 0},
        /* malformed */
        {"${env:}", -EINVAL, 0, "names no variable", 1},
        {"${file:}", -EINVAL, 0, "names no file", 1},
        {"${env:1BAD}", -EINVAL, 0, "expected a variable's name", 1},
        {"a ${env:A-B}", -EINVAL, 0, "expected a variable's name", 3},
        {"${env:A B}", -EINVAL, 0, "expected a variable's name", 1},
        {"${env: A}", -EINVAL, 0, "expected a variable's name", 1},
        {"${env:\xC3\x89}", -EINVAL, 0, "expected a variable's name", 1},
        {"\xC3\xA9 ${env:A", -EINVAL, 0, "without `}`", 3},
        {"${file:/a", -EINVAL, 0, "without `}`", 1},
        {"${file:a\nb}", -EINVAL, 0, "control characters", 1},
        {"${env:${env:A}}", -EINVAL, 0, "expected a variable's name", 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct reference r = {0};
        struct error err = ERROR_INIT;
        int rc = reference_next(cases[i].text, &r, &err);
        const char *name = cases[i].name ? cases[i].name : "";
        if (rc != cases[i].rc)
            fail_msg("%s: %d", cases[i].text, rc);
        if (rc > 0) {
            assert_int_equal(r.kind, cases[i].kind);
            assert_int_equal(r.name_len, strlen(name));
            assert_memory_equal(r.name, name, r.name_len);
            assert_true(r.start[0] == '$' && r.start[r.len - 1] == '}');
        } else if (rc < 0) {
            assert_non_null(strstr(err.message, name));
            assert_int_equal(err.column, cases[i].column);
        }
        cJSON *node = value_string(cases[i].text);
        assert_int_equal(reference_in(node), rc != 0);
        cJSON_Delete(node);
    }
}

static cJSON *json(const char *text)
{
    cJSON *v = NULL;
    assert_int_equal(value_parse(text, strlen(text), &v, NULL), 0);
    return v;
}

static void test_check(void **state)
{
    (void)state;
    cJSON *tree = json("{\"a\": [\"${env:A} ${env:}\", 1], \"b\": {\"c\": \"${file:x}\"}, \"${env:}\": \"key\","
                       " \"d\": \"${evn:A} ${ENV:A} ${other:A}\", \"e\": \"${nev:-x}\"}");
    struct issues issues = ISSUES_INIT;
    reference_check(tree, "p", &issues);
    assert_int_equal(issues.errors, 1);
    assert_int_equal(issues.n, 3);
    assert_string_equal(issues.items[0].path, "p.a[0]");
    assert_string_equal(issues.items[0].message, "`${env:}` names no variable (at character 10)");
    assert_string_equal(issues.items[1].path, "p.d");
    assert_non_null(strstr(issues.items[1].message, "`${evn:` is text"));
    assert_non_null(strstr(issues.items[2].message, "`${ENV:` is text"));
    issues_fini(&issues);

    reference_check_unused(tree, "", "no use", &issues);
    assert_int_equal(issues.errors, 0);
    assert_int_equal(issues.n, 2);
    assert_string_equal(issues.items[0].message, "${env:A}: no use");
    assert_string_equal(issues.items[1].path, "b.c");
    issues_fini(&issues);
    cJSON_Delete(tree);
}

struct inner {
    char *secret;
};
struct outer {
    char *plain;
    struct inner signature;
};
static const struct field inner_rows[] = {
    {.name = "secret", .type = &field_string, FIELD(struct inner, secret, char *, .flags = FIELD_REFERS, .doc = "x")}};
static const struct field_table inner = {"inner", "x", sizeof(struct inner), inner_rows, 1};
static const struct field outer_rows[] = {
    {.name = "plain", .type = &field_string, FIELD(struct outer, plain, char *, .doc = "x")},
    {.name = "signature",
     .type = &field_object,
     FIELD(struct outer, signature, struct inner, .sub = &inner, .doc = "x")},
};
static const struct field_table outer = {"outer", "x", sizeof(struct outer), outer_rows, 2};

static void test_check_fields(void **state)
{
    (void)state;
    cJSON *tree = json("{\"plain\": \"${env:A}\", \"signature\": {\"secret\": \"${env:}\"}, \"x-a\": \"${env:A}\","
                       " \"filter\": {\"a\": [\"${file:b}\"]}}");
    struct issues issues = ISSUES_INIT;
    reference_check_fields(&outer, tree, false, "config", &issues);
    assert_int_equal(issues.n, 3);
    assert_int_equal(issues.errors, 1);
    assert_string_equal(issues.items[0].path, "config.plain");
    assert_string_equal(issues.items[0].message, "${env:A}: is not replaced here");
    assert_string_equal(issues.items[1].path, "config.signature.secret");
    assert_string_equal(issues.items[1].message, "`${env:}` names no variable (at character 1)");
    assert_string_equal(issues.items[2].path, "config.filter.a[0]");
    issues_fini(&issues);
    reference_check_fields(&outer, tree, true, "config", &issues); /* others say what is wrong with the secret */
    assert_int_equal(issues.n, 2);
    assert_int_equal(issues.errors, 0);
    issues_fini(&issues);
    cJSON_Delete(tree);
}

/* As the owner of a set does it, with the values that are given. */
static void give(struct secrets *s)
{
    for (size_t i = 0; i < secrets_count(s); i++) {
        const struct secret *item = secrets_at(s, i);
        if (item->kind == SECRET_ENV && streq(item->name, "WORD"))
            secrets_set(s, i, xstrdup("sword${env:WORD}{{ $.x }}"), NULL);
        else if (item->kind == SECRET_FILE)
            secrets_set(s, i, xasprintf("from %s", item->dir ? item->dir : "nowhere"), NULL);
        else if (streq(item->name, "BYTES"))
            secrets_set(s, i, xstrdup("\xff\xfe\xfd\xfc"), NULL);
        else
            secrets_set(s, i, NULL, xstrdup("is not set"));
    }
}

static void test_expand(void **state)
{
    (void)state;
    struct secrets *s = secrets_create();
    secrets_want(s, "${env:WORD} ${env:WORD} ${file:a} ${file:a} ${env:GONE}", "/one");
    secrets_want(s, "${file:a} ${env:WORD} ${env:BYTES}", "/two");
    assert_int_equal(secrets_count(s), 5);
    give(s);
    char *text = NULL;
    struct error err = ERROR_INIT;
    /* what is replaced is not looked at again */
    assert_int_equal(secrets_expand(s, "<${env:WORD}|${file:a}>", "/two", &text, &err), 0);
    assert_string_equal(text, "<sword${env:WORD}{{ $.x }}|from /two>");
    secret_free(text);
    assert_int_equal(secrets_expand(s, "a ${env:WORD} ${env:GONE}", "/one", &text, &err), -ENOENT);
    assert_string_equal(err.message, "${env:GONE}: is not set");
    assert_int_equal(secrets_expand(s, "${file:a}", "/three", &text, &err), -ENOENT);
    assert_string_equal(err.message, "${file:a}: was not read");

    cJSON *tree = json("{\"a\": [\"x${file:a}\"], \"n\": 1, \"b\": \"${x}\"}");
    assert_int_equal(secrets_expand_tree(s, tree, "inputs", "/one", &err), 0);
    char *printed = value_print(tree);
    assert_string_equal(printed, "{\"a\":[\"xfrom /one\"],\"n\":1,\"b\":\"${x}\"}");
    free(printed);
    cJSON_Delete(tree);
    tree = json("{\"a\": [\"${env:GONE}\"]}");
    assert_int_equal(secrets_expand_tree(s, tree, "inputs", NULL, &err), -ENOENT);
    assert_string_equal(err.message, "inputs.a[0]: ${env:GONE}: is not set");
    cJSON_Delete(tree);
    tree = json("\"${env:BYTES}\"");
    assert_int_equal(secrets_expand_tree(s, tree, "", NULL, &err), -EILSEQ);
    cJSON_Delete(tree);
    secrets_destroy(s);
    secrets_destroy(NULL);
}

static void test_mask(void **state)
{
    (void)state;
    struct secrets *s = secrets_create();
    secrets_want(s, "${env:A}", NULL);
    secrets_set(s, 0, xstrdup("swordfish"), NULL);
    secrets_set(s, 0, xstrdup("12345"), NULL); /* rotated: both are masked */
    cJSON *tree = json("{\"swordfish\": {\"a\": \"the swordfish\", \"b\": 123450, \"c\": 1, \"d\": [12345]}}");
    secrets_mask_tree(s, tree);
    char *printed = value_print(tree);
    assert_string_equal(printed, "{\"***\":{\"a\":\"the ***\",\"b\":\"***0\",\"c\":1,\"d\":[\"***\"]}}");
    free(printed);
    cJSON_Delete(tree);
    char *text = xstrdup("no swordfish 12345");
    mask_string(secrets_mask(s), &text);
    assert_string_equal(text, "no *** ***");
    free(text);
    secrets_destroy(s);
}

static void each(void *ctx, const char *text)
{
    buf_adds(ctx, text);
}

static void test_template(void **state)
{
    (void)state;
    struct template *t = NULL;
    struct error err = ERROR_INIT;
    char *text = NULL;
    cJSON *root = json("{\"inputs\": {\"x\": \"${env:WORD}\", \"y\": \"${env:\"}}");
    struct secrets *s = secrets_create();
    secrets_want(s, "${env:WORD}", NULL);
    give(s);
    struct template_secrets with = {s, NULL};
    /* what is pasted is no reference, alone or together with what stands around it */
    assert_int_equal(template_compile("${env:WORD} {{ $.inputs.x }} {{ $.inputs.y }}WORD} {{ \"${env:WORD}\" }}",
                                      TEMPLATE_TEXT | TEMPLATE_SECRETS, &t, &err),
                     0);
    assert_int_equal(template_expand_text_with(t, root, &with, &text, &err), 0);
    assert_string_equal(text, "sword${env:WORD}{{ $.x }} ${env:WORD} ${env:WORD} ${env:WORD}");
    free(text);
    struct buf found = {0};
    template_each_reference(t, each, &found);
    assert_string_equal(found.data, "${env:WORD}");
    buf_fini(&found);
    assert_int_equal(template_expand_text(t, root, &text, &err), -ENOENT);
    assert_string_equal(err.message, "${env:WORD}: was not read");
    template_destroy(t);

    assert_int_equal(template_compile("${env:WORD}", TEMPLATE_SECRETS, &t, &err), 0);
    assert_false(template_is_constant(t));
    template_destroy(t);
    assert_int_equal(template_compile("${env:WORD", TEMPLATE_TEXT, &t, &err), 0); /* text without the flag */
    assert_true(template_is_constant(t));
    template_destroy(t);
    assert_int_equal(template_compile("\xC3\xA9{{ a }} ${env:A} ${env:1}", TEMPLATE_SECRETS, &t, &err), -EINVAL);
    assert_int_equal(err.column, 19);
    assert_int_equal(template_compile("${file:/x/{{ a }}}", TEMPLATE_SECRETS, &t, &err), -EINVAL);
    assert_int_equal(err.column, 1);
    cJSON_Delete(root);
    secrets_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_references), cmocka_unit_test(test_check),        cmocka_unit_test(test_expand),
        cmocka_unit_test(test_mask),       cmocka_unit_test(test_check_fields), cmocka_unit_test(test_template),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
