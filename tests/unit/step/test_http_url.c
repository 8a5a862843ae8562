/* URLs with values pasted into them, and what may stand in a request's headers. */
#include "base/util.h"
#include "client/http.h"
#include "step/http_url.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* The URL that a template gives for these inputs; NULL: an error. */
static char *build(const char *text, const char *inputs)
{
    struct template *t = NULL;
    cJSON *root = NULL;
    char *url = NULL;
    struct http_url_pieces pieces = {0};
    struct error err = ERROR_INIT;
    assert_int_equal(template_compile(text, TEMPLATE_TEXT | TEMPLATE_SECRETS, &t, &err), 0);
    assert_int_equal(value_parse(inputs, strlen(inputs), &root, &err), 0);
    assert_int_equal(template_each_piece(t, root, NULL, http_url_add, &pieces, &err), 0);
    if (http_url_build(&pieces, &url, &err) < 0) {
        assert_int_equal(err.code, -EINVAL);
        assert_null(strstr(err.message, "SECRET"));
    }
    http_url_pieces_fini(&pieces);
    template_destroy(t);
    cJSON_Delete(root);
    return url;
}

static void check(const char *text, const char *inputs, const char *expected)
{
    char *url = build(text, inputs);
    if (expected) {
        assert_non_null(url);
        assert_string_equal(url, expected);
    } else {
        assert_null(url);
    }
    free(url);
}

static void pasted_values(void **state)
{
    (void)state;
    check("http://h/a?b=c#d", "{}", "http://h/a?b=c#d");
    check("http://h/{{ $.v }}/x", "{\"v\": \"a/b?c#d%e é\"}", "http://h/a%2Fb%3Fc%23d%25e%20%C3%A9/x");
    check("http://h/?q={{ $.v }}&r=1", "{\"v\": \"a&b=c d+\"}", "http://h/?q=a%26b%3Dc%20d%2B&r=1");
    check("http://h/x\xC3\xA9#{{ $.v }}", "{\"v\": \"#\"}", "http://h/x\xC3\xA9#%23");
    check("http://h/{{ $.v }}", "{\"v\": \"\\r\\nHost: evil\"}", "http://h/%0D%0AHost%3A%20evil");
    check("http://h/{{ $.v }}", "{\"v\": {\"a\": [1, null]}}", "http://h/%7B%22a%22%3A%5B1%2Cnull%5D%7D");
    check("http://h/{{ $.v }}/{{ $.v }}", "{\"v\": 12.50}", "http://h/12.50/12.50");
}

static void hosts(void **state)
{
    (void)state;
    check("https://{{ $.v }}.example.org:{{ $.p }}/", "{\"v\": \"eu-1\", \"p\": 8080}",
          "https://eu-1.example.org:8080/");
    static const char *const bad[] = {"\"\"",      "\"evil.com/\"", "\"a@evil.com\"", "\"a:1\"",     "\"evil.com#\"",
                                      "\"evil?\"", "\"a b\"",       "\"a\\\\b\"",     "\"%2e\"",     "\"a\\r\\nb\"",
                                      "\"[::1]\"", "\"SECRET/\"",   "{\"a\": 1}",     "\"\xC3\xA9\""};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        char *inputs = xasprintf("{\"v\": %s}", bad[i]);
        check("https://{{ $.v }}.example.org/", inputs, NULL);
        check("https://api.{{ $.v }}/", inputs, NULL);
        check("https://h:{{ $.v }}/", inputs, NULL);
        check("https://user@{{ $.v }}", inputs, NULL);
        free(inputs);
    }
    check("ht{{ $.v }}://h/", "{\"v\": \"tp\"}", NULL);
    check("https:{{ $.v }}/h/", "{\"v\": \"/\"}", NULL);
    /* In the userinfo: it cannot end it. */
    check("https://{{ $.v }}:{{ $.v }}@h/", "{\"v\": \"a:b@evil/\"}", "https://a%3Ab%40evil%2F:a%3Ab%40evil%2F@h/");
    check("https://user:${env:PW}@h/", "{}", "https://user:%24%7Benv%3APW%7D@h/");
}

static void beginnings(void **state)
{
    (void)state;
    check("{{ $.v }}", "{\"v\": \"https://h/a?b\"}", "https://h/a?b");
    check("{{ $.v }}/x/{{ $.w }}", "{\"v\": \"https://h\", \"w\": \"a/b\"}", "https://h/x/a%2Fb");
    check("${file:base}/x", "{}", "${file:base}/x");
    check("{{ $.v }}{{ $.w }}", "{\"v\": \"https://h\", \"w\": \"@evil\"}", NULL);
    check("{{ $.v }}{{ $.w }}", "{\"v\": \"https://h/\", \"w\": \"@evil\"}", "https://h/%40evil");
    check("{{ $.v }}", "{\"v\": \"https://h/\\r\\nX: y\"}", NULL);
    check("{{ $.v }}{{ $.w }}", "{\"v\": \"\", \"w\": \"https://evil\"}", NULL);
}

static void paths(void **state)
{
    (void)state;
    check("http://h/${file:a}/x", "{}", "http://h/%24%7Bfile%3Aa%7D/x");
    check("http://h/${file:a/b}?${file:a/b}", "{}", "http://h/%24%7Bfile%3Aa/b%7D?%24%7Bfile%3Aa%2Fb%7D");
    check("http://h/u/{{ $.v }}/x", "{\"v\": \"..\"}", NULL);
    check("http://h/u/{{ $.v }}", "{\"v\": \".\"}", NULL);
    check("http://h/u/.{{ $.v }}?a", "{\"v\": \".\"}", NULL);
    check("http://h/u/%2E{{ $.v }}#a", "{\"v\": \".\"}", NULL);
    check("http://h/u/{{ $.v }}/x", "{\"v\": \"...\"}", "http://h/u/.../x");
    check("http://h/?{{ $.v }}", "{\"v\": \"../..\"}", "http://h/?..%2F..");
    check("http://h/../x", "{}", "http://h/../x"); /* the author's own */
}

static void headers(void **state)
{
    (void)state;
    assert_true(http_name_valid("X-Mine_1~"));
    static const char *const names[] = {"", "a b", "a:", "a\r", "\xC3\xA9", "(a)", "a\nb"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        assert_false(http_name_valid(names[i]));
    assert_true(http_value_valid(""));
    assert_true(http_value_valid("a \t\xC3\xA9 \xFF"));
    static const char *const values[] = {"\r", "a\nb", "\x01", "\x7f", "a\x1b[0m"};
    for (size_t i = 0; i < ARRAY_SIZE(values); i++)
        assert_false(http_value_valid(values[i]));
    assert_true(http_method_valid("PROPFIND") && http_method_valid("M-SEARCH"));
    static const char *const methods[] = {"", "get", "GET ", "CONNECT", "TRACE", "-A", "GET\r\n", "É"};
    for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
        assert_false(http_method_valid(methods[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pasted_values), cmocka_unit_test(hosts),   cmocka_unit_test(beginnings),
        cmocka_unit_test(paths),         cmocka_unit_test(headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
