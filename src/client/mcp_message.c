#include "client/mcp_message.h"

#include "base/util.h"

#include <inttypes.h>

#define WORDS_MAX 2000 /* bytes of a server's error that are kept */

bool mcp_version_known(const char *version)
{
    static const char *const known[] = {"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"};
    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        if (streq(version, known[i]))
            return true;
    return false;
}

bool mcp_version_batches(const char *version)
{
    return streq(version, "2025-03-26");
}

/* ---- reading ---- */

static bool id_valid(const cJSON *id)
{
    return cJSON_IsString(id) || value_is_number(id);
}

static const char *read_answer(const cJSON *v, struct mcp_message *ret)
{
    ret->kind = MCP_ANSWER;
    ret->result = value_get(v, "result");
    ret->error = value_get(v, "error");
    if (!ret->result == !ret->error)
        return ret->result ? "both `result` and `error`" : "neither `method` nor `result` nor `error`";
    if (ret->error && !cJSON_IsObject(ret->error))
        return "its `error` is no object";
    if (!ret->id || !(id_valid(ret->id) || (ret->error && cJSON_IsNull(ret->id))))
        return ret->id || ret->result ? "its `id` is not that of a request" : NULL; /* an error of the whole */
    return NULL;
}

static const char *read_message(const cJSON *v, struct mcp_message *ret)
{
    if (!cJSON_IsObject(v))
        return "no object";
    if (!streq(value_get_string(v, "jsonrpc"), "2.0"))
        return "no `jsonrpc` 2.0";
    const cJSON *method = value_get(v, "method");
    ret->id = value_get(v, "id");
    if (!method)
        return read_answer(v, ret);
    if (!cJSON_IsString(method) || !*method->valuestring)
        return "its `method` is no name";
    if (ret->id && !id_valid(ret->id))
        return "its `id` is neither string nor number";
    const cJSON *params = value_get(v, "params");
    if (params && !cJSON_IsObject(params) && !cJSON_IsNull(params))
        return "its `params` are no object";
    ret->kind = ret->id ? MCP_REQUEST : MCP_NOTIFICATION;
    ret->method = method->valuestring;
    ret->params = cJSON_IsObject(params) ? params : NULL;
    return NULL;
}

bool mcp_message_read(const cJSON *v, struct mcp_message *ret, const char **ret_why)
{
    struct mcp_message m = {0};
    const char *why = read_message(v, &m);
    if (why)
        *ret_why = why;
    else
        *ret = m;
    return !why;
}

/* ---- writing ---- */

static void add_member(struct buf *b, const char *key, const cJSON *v)
{
    _cleanup_(freep) char *text = v ? value_print(v) : NULL;
    if (text)
        buf_printf(b, ",\"%s\":%s", key, text);
}

static void add_text(struct buf *b, const char *key, const char *text)
{
    cJSON *v = cJSON_CreateString(text);
    add_member(b, key, v);
    cJSON_Delete(v);
}

char *mcp_request_text(int64_t id, const char *method, const cJSON *params)
{
    struct buf b = {0};
    buf_printf(&b, "{\"jsonrpc\":\"2.0\",\"id\":%" PRId64, id);
    add_text(&b, "method", method);
    add_member(&b, "params", params);
    buf_adds(&b, "}");
    return buf_take(&b);
}

char *mcp_notification_text(const char *method, const cJSON *params)
{
    struct buf b = {0};
    buf_adds(&b, "{\"jsonrpc\":\"2.0\"");
    add_text(&b, "method", method);
    add_member(&b, "params", params);
    buf_adds(&b, "}");
    return buf_take(&b);
}

char *mcp_result_text(const cJSON *id, const cJSON *result)
{
    struct buf b = {0};
    buf_adds(&b, "{\"jsonrpc\":\"2.0\"");
    add_member(&b, "id", id);
    add_member(&b, "result", result);
    buf_adds(&b, "}");
    return buf_take(&b);
}

char *mcp_error_text(const cJSON *id, int code, const char *message)
{
    struct buf b = {0};
    buf_adds(&b, "{\"jsonrpc\":\"2.0\"");
    add_member(&b, "id", id);
    buf_printf(&b, ",\"error\":{\"code\":%d", code);
    add_text(&b, "message", message);
    buf_adds(&b, "}}");
    return buf_take(&b);
}

/* ---- what answers say ---- */

static char *cut(const char *text)
{
    size_t end = strlen(text);
    if (end <= WORDS_MAX)
        return xstrdup(text);
    for (end = WORDS_MAX; end > 0 && ((unsigned char)text[end] & 0xC0) == 0x80;)
        end--;
    return xasprintf("%.*s…", (int)end, text);
}

char *mcp_error_words(const cJSON *error)
{
    int64_t code = 0;
    const char *message = value_get_string(error, "message");
    _cleanup_(freep) char *words = cut(message && *message ? message : "no message");
    return value_integer(value_get(error, "code"), &code) ? xasprintf("%s (error %" PRId64 ")", words, code)
                                                          : steal(&words);
}

/* The text contents, one below the other; false: there is none. */
static bool add_texts(const cJSON *content, struct buf *b)
{
    bool any = false;
    const cJSON *item;
    cJSON_ArrayForEach (item, content) {
        const char *text = streq(value_get_string(item, "type"), "text") ? value_get_string(item, "text") : NULL;
        if (!text)
            continue;
        if (any)
            buf_addc(b, '\n');
        buf_adds(b, text);
        any = true;
    }
    return any;
}

cJSON *mcp_tool_output(const cJSON *result, bool *ret_failed, char **ret_text)
{
    const cJSON *structured = value_get(result, "structuredContent"), *content = value_get(result, "content");
    struct buf text = {0};
    cJSON *output = NULL;
    bool any = add_texts(content, &text);
    *ret_failed = cJSON_IsTrue(value_get(result, "isError"));
    *ret_text = NULL;
    if (*ret_failed) {
        *ret_text = any && text.len > 0 ? cut(text.data) : xstrdup("the tool failed and did not say why");
        buf_fini(&text);
        return NULL;
    }
    if (structured && !cJSON_IsNull(structured)) {
        output = cJSON_Duplicate(structured, true);
    } else if (any) {
        if (value_parse(text.data ? text.data : "", text.len, &output, NULL) < 0) {
            output = cJSON_CreateObject();
            cJSON_AddStringToObject(output, "text", text.data ? text.data : "");
        }
    } else { /* images, sounds, resources: as they came */
        output = cJSON_CreateObject();
        cJSON_AddStringToObject(output, "text", "");
        if (content && content->child)
            cJSON_AddItemToObject(output, "content", cJSON_Duplicate(content, true));
    }
    buf_fini(&text);
    return output;
}

const char *mcp_domain_event(const cJSON *params)
{
    const cJSON *data = value_get(params, "data");
    if (!cJSON_IsObject(data))
        return NULL;
    const cJSON *event = value_get(data, "event");
    const char *name = cJSON_IsString(event) ? event->valuestring : value_get_string(data, "type");
    return name && *name ? name : NULL;
}
