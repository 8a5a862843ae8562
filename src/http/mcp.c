/* MCP servers over HTTP, and events that a host hands in. */
#include "http/exchange.h"

#include "client/mcp_feed.h"

#include <stdio.h>

#define UNSENT_MAX ((size_t)4 << 20) /* bytes that a reader of notifications does not take; then they are left out */

void emit_mcp_handle(struct exchange *x)
{
    static cJSON empty = {.type = cJSON_Object};
    struct issues issues = ISSUES_INIT;
    if (!x->server_name || !*x->server_name)
        issue_add(&issues, "server_name", NULL, "required, but missing");
    if (!x->list.event_type || !*x->list.event_type)
        issue_add(&issues, "event_type", NULL, "required, but missing");
    const char *key = idempotency_key_of(x, &issues);
    if (issues.errors > 0) {
        answer_issues(x, "the emit is not valid", &issues);
        return;
    }
    const struct api_emit_mcp e = {.server_name = x->server_name,
                                   .event_type = x->list.event_type,
                                   .data = x->body ? x->body : &empty,
                                   .idempotency_key = key,
                                   .traceparent = traceparent_of(x),
                                   .parent_run = http_header(x->request, "Triggerd-Parent-Run")};
    api_emit_mcp(x->api, &e, call_of(x));
}

void mcp_list_handle(struct exchange *x)
{
    api_list_mcp_servers(x->api, call_of(x));
}

void mcp_get_handle(struct exchange *x)
{
    api_get_mcp_server(x->api, x->args[0], call_of(x));
}

void mcp_create_handle(struct exchange *x)
{
    api_create_resource(x->api, RESOURCE_MCP_SERVER, x->body, call_of(x));
}

void mcp_update_handle(struct exchange *x)
{
    api_update_resource(x->api, RESOURCE_MCP_SERVER, x->args[0], x->body, http_header(x->request, "If-Match"),
                        call_of(x));
}

void mcp_delete_handle(struct exchange *x)
{
    api_delete_resource(x->api, RESOURCE_MCP_SERVER, x->args[0], http_header(x->request, "If-Match"), call_of(x));
}

void mcp_tools_handle(struct exchange *x)
{
    api_mcp_tools(x->api, x->args[0], call_of(x));
}

void mcp_call_handle(struct exchange *x)
{
    static const char *const known[] = {"tool", "arguments"};
    struct issues issues = ISSUES_INIT;
    const cJSON *tool = value_get(x->body, "tool"), *arguments = value_get(x->body, "arguments");
    if (known_members(x, known, ARRAY_SIZE(known), &issues) && (!cJSON_IsString(tool) || !*tool->valuestring))
        issue_add(&issues, "tool", tool, tool ? "expected a name" : "required, but missing");
    if (arguments && !cJSON_IsObject(arguments))
        issue_add(&issues, "arguments", arguments, "expected an object, got %s", value_type_name(arguments));
    if (issues.errors > 0)
        answer_issues(x, "the call is not valid", &issues);
    else
        api_mcp_call(x->api, x->args[0], cJSON_GetStringValue(tool), arguments, call_of(x));
}

/* ---- what it sends ---- */

struct mcp_stream {
    struct mcp_servers *servers;
    struct mcp_watch watch;
    struct http_stream *stream;
    size_t unsent;
    uint64_t gap; /* left out since the last one */
};

static void on_notification(struct mcp_watch *w, const char *method, const cJSON *params)
{
    struct mcp_stream *s = container_of(w, struct mcp_stream, watch);
    struct buf b = {0};
    if (s->unsent > UNSENT_MAX)
        s->unsent = http_stream_write(s->stream, "", 0);
    if (s->unsent > UNSENT_MAX) {
        s->gap++;
        return;
    }
    if (s->gap > 0)
        buf_printf(&b, "event: gap\ndata: {\"gap\": %llu}\n\n", (unsigned long long)s->gap);
    s->gap = 0;
    buf_adds(&b, "data: ");
    json_open(&b, NULL, '{');
    json_string(&b, "event_type", mcp_event_type(method));
    json_string(&b, "method", method);
    json_value(&b, "params", params);
    json_close(&b, '}');
    buf_adds(&b, "\n\n");
    s->unsent = http_stream_write(s->stream, b.data, b.len);
    buf_fini(&b);
}

static void on_closed(void *ctx)
{
    struct mcp_stream *s = ctx;
    mcp_watch_close(s->servers, &s->watch);
    free(s);
}

void mcp_stream_handle(struct exchange *x)
{
    if (!mcp_servers_spec(x->api->mcp, x->args[0])) {
        api_problem(call_of(x), 404, "there is no mcp_server \"%s\"", x->args[0]);
        return;
    }
    struct mcp_stream *s = xcalloc(1, sizeof(*s));
    s->servers = x->api->mcp;
    s->watch.notification = on_notification;
    s->stream = http_reply_stream(x->request, "text/event-stream", on_closed, s);
    mcp_watch_open(s->servers, x->args[0], &s->watch);
    exchange_free(x);
}
