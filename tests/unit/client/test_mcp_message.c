/* Messages and server-sent events of MCP servers, as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/util.h"
#include "client/mcp_message.h"
#include "client/mcp_sse.h"

static cJSON *parse(const char *text)
{
    cJSON *v = NULL;
    assert_int_equal(value_parse(text, strlen(text), &v, NULL), 0);
    return v;
}

static void what_is_a_message(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int kind; /* -1: none */
    } all[] = {
        {"{\"jsonrpc\":\"2.0\",\"method\":\"a\"}", MCP_NOTIFICATION},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"a\",\"id\":\"x\"}", MCP_REQUEST},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}", MCP_ANSWER},
        {"{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":1}}", MCP_ANSWER},
        {"{\"jsonrpc\":\"2.0\",\"id\":1}", -1},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1,\"error\":{}}", -1},
        {"{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":1}", -1},
        {"{\"jsonrpc\":\"1.0\",\"method\":\"a\"}", -1},
        {"{\"method\":\"a\"}", -1},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"a\",\"params\":[1]}", -1},
        {"[]", -1},
    };
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        struct mcp_message m = {0};
        const char *why = NULL;
        cJSON *v = parse(all[i].text);
        assert_int_equal(mcp_message_read(v, &m, &why), all[i].kind >= 0);
        if (all[i].kind >= 0)
            assert_int_equal(m.kind, all[i].kind);
        else
            assert_non_null(why);
        cJSON_Delete(v);
    }
}

static void output(const char *result, const char *want, const char *error)
{
    bool failed = false;
    char *text = NULL;
    cJSON *v = parse(result), *out = mcp_tool_output(v, &failed, &text);
    _cleanup_(freep) char *printed = out ? value_print(out) : NULL;
    assert_true(streq(printed, want));
    assert_true(streq(text, error));
    assert_int_equal(failed, error != NULL);
    free(text);
    cJSON_Delete(out);
    cJSON_Delete(v);
}

static void what_a_tool_gives(void **state)
{
    (void)state;
    output("{\"structuredContent\":{\"a\":1.50},\"content\":[]}", "{\"a\":1.50}", NULL);
    output("{\"content\":[{\"type\":\"text\",\"text\":\"[1]\"}]}", "[1]", NULL);
    output("{\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]}",
           "{\"text\":\"a\\nb\"}", NULL);
    output("{\"content\":[]}", "{\"text\":\"\"}", NULL);
    output("{\"isError\":true,\"content\":[{\"type\":\"text\",\"text\":\"no\"}]}", NULL, "no");
    output("{\"isError\":true}", NULL, "the tool failed and did not say why");
}

static void add_event(void *ctx, const char *event, const char *data, size_t len)
{
    buf_printf(ctx, "<%s:%.*s>", event, (int)len, data ? data : "");
}

/* The same events however the bytes come. */
static void events_in_pieces(void **state)
{
    (void)state;
    static const char text[] =
        "\xEF\xBB\xBF: hi\r\ndata: a\ndata:b\r\rid: 7\nretry: 50\ndata: \n\nevent: x\ndata: c\r\n\r\ndata: d\n";
    for (size_t step = 1; step < sizeof(text); step++) {
        struct sse s = {.max = 100};
        struct buf b = {0};
        for (size_t at = 0; at < strlen(text); at += step)
            sse_feed(&s, text + at, MIN(step, strlen(text) - at), add_event, &b);
        sse_end(&s);
        assert_string_equal(b.data, "<message:a\nb><x:c>");
        assert_string_equal(s.id, "7");
        assert_true(s.any_retry && s.retry_ms == 50);
        buf_fini(&b);
        sse_fini(&s);
    }
}

static void events_are_bounded(void **state)
{
    (void)state;
    struct sse s = {.max = 100};
    struct buf b = {0};
    for (size_t i = 0; i < 1000; i++)
        sse_feed(&s, "data: 0123456789\n", 17, add_event, &b);
    sse_feed(&s, "\n", 1, add_event, &b);
    for (size_t i = 0; i < 1000; i++)
        sse_feed(&s, "data: 0123456789", 16, add_event, &b);
    sse_feed(&s, "\n\ndata: x\n\n", 11, add_event, &b);
    assert_string_equal(b.data, "<message:><message:><message:x>");
    assert_true(s.data.cap < 4096 && s.line.cap < 4096);
    buf_fini(&b);
    sse_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_a_message),
        cmocka_unit_test(what_a_tool_gives),
        cmocka_unit_test(events_in_pieces),
        cmocka_unit_test(events_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
