/* What an MCP server sends, as server-sent events in pieces of any size: the same events as in one piece, and each that
 * is JSON is read as a message or not, without harm. */
#include "base/util.h"
#include "client/mcp_message.h"
#include "client/mcp_sse.h"

#include <stdlib.h>

#define LINE_MAX 512

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void take(void *ctx, const char *event, const char *data, size_t len)
{
    struct buf *all = ctx;
    cJSON *tree = NULL;
    buf_printf(all, "%s/%zu/", event, len);
    buf_add(all, data ? data : "-", data ? len : 1);
    if (!data || value_parse(data, len, &tree, NULL) < 0)
        return;
    struct mcp_message m;
    const char *why = NULL;
    if (mcp_message_read(tree, &m, &why)) {
        bool failed;
        char *text = NULL;
        mcp_domain_event(m.params);
        if (m.result)
            cJSON_Delete(mcp_tool_output(m.result, &failed, &text));
        free(m.error ? mcp_error_words(m.error) : NULL);
        free(text);
    } else if (!why) {
        abort();
    }
    cJSON_Delete(tree);
}

static void feed(const char *text, size_t len, size_t step, struct buf *all)
{
    struct sse s = {.max = LINE_MAX};
    for (size_t at = 0; at < len; at += step)
        sse_feed(&s, text + at, MIN(step, len - at), take, all);
    if (s.line.len > LINE_MAX + 16 || s.data.len > LINE_MAX)
        abort();
    sse_fini(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf whole = {0}, pieces = {0};
    if (size < 2)
        return 0;
    feed((const char *)data + 1, size - 1, size - 1, &whole);
    feed((const char *)data + 1, size - 1, 1 + data[0] % 16, &pieces);
    if (whole.len != pieces.len || (whole.len > 0 && memcmp(whole.data, pieces.data, whole.len) != 0))
        abort();
    buf_fini(&whole);
    buf_fini(&pieces);
    return 0;
}
