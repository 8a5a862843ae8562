#include "lang/redact.h"

#include "base/mask.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void test_urls(void **state)
{
    (void)state;
    static const struct {
        const char *text, *shown; /* NULL: the same */
    } cases[] = {
        {"", NULL},
        {"no url: a@b :// @", NULL},
        {"redis://h:6379/0", NULL},
        {"https://user@host/", NULL},
        {"https://user:@host/", NULL},
        {"https://host/a:b@c", NULL},
        {"https://host:80/a:b@c", NULL},
        {"https://[::1]:80/a@b", NULL},
        {"://u:pw@h", NULL},
        {"http://h?x=u:pw@h", NULL},
        {"redis://u:pw@h/0", "redis://u:***@h/0"},
        {"redis://:pw@h", "redis://:***@h"},
        {"redis+unix://:pw@/run/redis.sock", "redis+unix://:***@/run/redis.sock"},
        {"amqps://u:p@w@h", "amqps://u:***@h"}, /* the last @ */
        {"amqp://u:p:w@h:5672/v", "amqp://u:***@h:5672/v"},
        {"amqp://u:p%40w@h", "amqp://u:***@h"},
        {"amqp://u:p/w@h/v", "amqp://u:***@h/v"}, /* should have been %2F */
        {"amqp://u:12/w@h", NULL},                /* a port, as far as one can tell */
        {"sqs://KEY:s3/cr+et=@eu-west-1", "sqs://KEY:***@eu-west-1"},
        {"kafka://u:pw@a:1,b:2", "kafka://u:***@a:1,b:2"},
        {"see redis://u:pw@h, and 'http://a:b@c'", "see redis://u:***@h, and 'http://a:***@c'"},
        {"got \"redis://u:pw@h\"", "got \"redis://u:***@h\""},
        {"redis://u:${env:PW}@h", NULL},
        {"redis://u:${file:/run/a b@c}@h", NULL},
        {"redis://${env:U}:{{ $.inputs.pw }}@h", NULL},
        {"redis://u:x${env:PW}y@h", "redis://u:***${env:PW}***@h"},
        {"https://${env:HOST}:${env:PORT}/x@y", NULL},
        {"redis://u:${HOME}@h", "redis://u:***@h"},
        {"redis://u:\xC3\xA9t\xC3\xA9@h", "redis://u:***@h"},
        {"a://b:c@d://e:f@g", "a://b:***@d://e:***@g"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char *text = xstrdup(cases[i].text);
        bool changed = mask_urls(&text);
        assert_string_equal(text, cases[i].shown ? cases[i].shown : cases[i].text);
        assert_int_equal(changed, cases[i].shown != NULL);
        assert_false(mask_urls(&text)); /* what is shown has nothing to hide */
        free(text);
    }
}

/* Errors hide them before they are cut. */
static void test_errors(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    char long_password[800];
    memset(long_password, 'x', sizeof(long_password) - 1);
    long_password[sizeof(long_password) - 1] = '\0';
    error_set(&err, -1, "cannot reach redis://u:%s@h", long_password);
    assert_string_equal(err.message, "cannot reach redis://u:***@h");
    _cleanup_(freep) char *url = xasprintf("redis://u:%s@h", long_password);
    cJSON *node = value_string(url);
    char brief[VALUE_BRIEF_MAX];
    assert_string_equal(value_brief(node, brief, sizeof(brief)), "\"redis://u:***@h\"");
    struct issues issues = ISSUES_INIT;
    issue_add(&issues, "a", node, "not %s", url);
    assert_string_equal(issues.items[0].message, "not redis://u:***@h");
    issues_fini(&issues);
    cJSON_Delete(node);
}

struct inner {
    char *secret;
    int64_t n;
};
struct outer {
    char *url, *password;
    cJSON *map;
    struct inner signature;
};
static const struct field inner_rows[] = {
    {.name = "secret", .type = &field_string, FIELD(struct inner, secret, char *, .flags = FIELD_SECRET, .doc = "x")},
    {.name = "n", .type = &field_int, FIELD(struct inner, n, int64_t, .max = 9, .doc = "x")},
};
static const struct field_table inner = {"inner", "x", sizeof(struct inner), inner_rows, ARRAY_SIZE(inner_rows)};
static const struct field outer_rows[] = {
    {.name = "url", .type = &field_string, FIELD(struct outer, url, char *, .doc = "x")},
    {.name = "password",
     .type = &field_string,
     FIELD(struct outer, password, char *, .flags = FIELD_SECRET | FIELD_NULL_OK, .doc = "x")},
    {.name = "map", .type = &field_string_map, FIELD(struct outer, map, cJSON *, .flags = FIELD_SECRET, .doc = "x")},
    {.name = "signature",
     .type = &field_object,
     FIELD(struct outer, signature, struct inner, .sub = &inner, .doc = "x")},
};
static const struct field_table outer = {"outer", "x", sizeof(struct outer), outer_rows, ARRAY_SIZE(outer_rows)};
static const struct field_table plain = {"plain", "x", sizeof(struct inner), &inner_rows[1], 1};

static void test_fields(void **state)
{
    (void)state;
    static const struct {
        const char *text, *shown; /* NULL: there is nothing to hide, or no text is made */
    } cases[] = {
        {"{\"url\":\"a\",\"password\":\"hunter22\"}", "{\"url\":\"a\",\"password\":\"***\"}"},
        {"{\"password\":\"${env:PW}\"}", "{\"password\":\"${env:PW}\"}"},
        {"{\"password\":\"a${file:pw}\"}", "{\"password\":\"***${file:pw}\"}"},
        {"{\"password\":\"\",\"x\":{\"password\":\"p\"}}", "{\"password\":\"\",\"x\":{\"password\":\"p\"}}"},
        {"{\"map\":{\"authorization\":\"Bearer x\",\"n\":\"${env:N}\"}}",
         "{\"map\":{\"authorization\":\"***\",\"n\":\"${env:N}\"}}"},
        {"{\"signature\":{\"secret\":\"s\",\"n\":1.50}}", "{\"signature\":{\"secret\":\"***\",\"n\":1.50}}"},
        {"{\"url\":\"redis://u:p@h\",\"list\":[{\"a\":\"b://:c@d\"}]}",
         "{\"url\":\"redis://u:***@h\",\"list\":[{\"a\":\"b://:***@d\"}]}"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        _cleanup_(freep) char *hidden = redact_json(&outer, cases[i].text);
        assert_string_equal(hidden, cases[i].shown);
    }
    assert_null(redact_json(&plain, "{\"n\": 1}"));
    assert_null(redact_json(NULL, "{\"password\": \"p\"}"));
    assert_null(redact_json(&outer, NULL));
}

/* What was shown and comes back, edited or not. */
static void test_undo(void **state)
{
    (void)state;
    static const char old[] =
        "{\"url\":\"redis://u:pw@h/0\",\"password\":\"hunter22\",\"map\":{\"a\":\"x${env:A}\"},"
        "\"signature\":{\"secret\":\"${env:S}\"},\"list\":[\"a://b:c@d\",{\"x\":\"e://f:g@h i://j:k@l\"}]}";
    static const struct {
        const char *sent, *meant;
    } cases[] = {
        {"{\"password\":\"***\"}", "{\"password\":\"hunter22\"}"},
        {"{\"password\":\"new\"}", "{\"password\":\"new\"}"},
        {"{\"password\":\"${env:NEW}\"}", "{\"password\":\"${env:NEW}\"}"},
        {"{\"map\":{\"a\":\"***${env:A}\",\"b\":\"***\"}}", "{\"map\":{\"a\":\"x${env:A}\",\"b\":\"***\"}}"},
        {"{\"map\":{\"a\":\"***${env:B}\"}}", "{\"map\":{\"a\":\"***${env:B}\"}}"},
        {"{\"signature\":{\"secret\":\"${env:S}\"}}", "{\"signature\":{\"secret\":\"${env:S}\"}}"},
        {"{\"url\":\"redis://u:***@h/0\"}", "{\"url\":\"redis://u:pw@h/0\"}"},
        {"{\"url\":\"redis://other:***@new:1/2\"}", "{\"url\":\"redis://other:pw@new:1/2\"}"},
        {"{\"url\":\"redis://u:changed@h/0\"}", "{\"url\":\"redis://u:changed@h/0\"}"},
        {"{\"url\":\"***\"}", "{\"url\":\"***\"}"}, /* no field of secrets: it is what it says */
        {"{\"list\":[\"a://b:***@d\",{\"x\":\"e://f:new@h i://j:***@m\"},\"a://b:***@d\"]}",
         "{\"list\":[\"a://b:c@d\",{\"x\":\"e://f:new@h i://j:k@m\"},\"a://b:***@d\"]}"},
        {"{\"list\":{\"0\":\"a://b:***@d\"},\"password\":[\"***\"]}",
         "{\"list\":{\"0\":\"a://b:***@d\"},\"password\":[\"***\"]}"},
    };
    cJSON *before = NULL;
    assert_int_equal(value_parse(old, strlen(old), &before, NULL), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        cJSON *sent = NULL;
        assert_int_equal(value_parse(cases[i].sent, strlen(cases[i].sent), &sent, NULL), 0);
        redact_undo(&outer, sent, before);
        _cleanup_(freep) char *printed = value_print(sent);
        assert_string_equal(printed, cases[i].meant);
        cJSON_Delete(sent);
    }
    /* All of it, as it was shown. */
    cJSON *shown = cJSON_Duplicate(before, true);
    redact(&outer, shown);
    assert_false(value_equal(shown, before));
    redact_undo(&outer, shown, before);
    assert_true(value_equal(shown, before));
    cJSON_Delete(shown);
    cJSON_Delete(before);
}

static void test_wrong_type(void **state)
{
    (void)state;
    cJSON *doc = NULL;
    static const char text[] = "{\"password\": 12345678}";
    struct outer o = {0};
    struct issues issues = ISSUES_INIT;
    assert_int_equal(value_parse(text, strlen(text), &doc, NULL), 0);
    assert_false(fields_parse(&outer, doc, NULL, &o, "", &issues));
    assert_string_equal(issues.items[0].message, "expected a string, got number");
    issues_fini(&issues);
    fields_fini(&outer, &o);
    cJSON_Delete(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls), cmocka_unit_test(test_errors),     cmocka_unit_test(test_fields),
        cmocka_unit_test(test_undo), cmocka_unit_test(test_wrong_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
