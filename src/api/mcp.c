/* MCP servers as the views show them; calls of their tools; events that a host hands in. */
#include "api/internal.h"
#include "api/shape.h"

#include "lang/redact.h"

#include <errno.h>

/* ---- servers ---- */

SHAPE(McpServer, "An MCP server, and its connection", {"name", "string", NULL},
      {"transport", "string", "stdio or http"}, {"command", "string?", NULL}, {"args", "[string]", NULL},
      {"env", "object?", NULL}, {"cwd", "string?", NULL}, {"url", "string?", NULL}, {"headers", "object?", NULL},
      {"subscribe", "[string]", NULL}, {"log_level", "string", NULL}, {"roots", "[any]", NULL},
      {"timeout_seconds", "number", NULL}, {"state", "string", "idle, connecting, connected or error"},
      {"reason", "string", "Of the state, in CamelCase"}, {"message", "string?", NULL},
      {"since", "time?", "When the state began"}, {"protocol_version", "string?", "As agreed"},
      {"server_name", "string?", "Its own word"}, {"server_version", "string?", NULL},
      {"capabilities", "any", "As it declares them; null: never connected"}, {"instructions", "string?", NULL},
      {"triggers", "integer", "How many listen"}, {"rejected", "string?", "Why its manifest is not as it runs"},
      {"source", "Source", NULL});
SHAPE(McpServerList, "Every MCP server", {"mcp_servers", "[McpServer]", NULL}, {"total", "integer", NULL});
SHAPE(McpServerResult, "What became of an MCP server", {"success", "boolean", NULL}, {"message", "string", NULL},
      {"mcp_server", "any", "null: it is deleted"});
SHAPE_OF(McpServerCreate, "An MCP server as a manifest says it", &mcp_server_fields, SHAPE_OPEN, {"name", "=", NULL});
SHAPE_OF(McpServerUpdate, "What is to change of an MCP server", &mcp_server_fields, SHAPE_OPEN | SHAPE_PARTIAL,
         {"name", "-string", "It never changes"});

static void render(struct buf *b, const char *key, const struct mcp_entry_view *v)
{
    const struct mcp_view *c = &v->connection;
    cJSON *all = fields_print(&mcp_server_fields, v->spec, false);
    redact(&mcp_server_fields, all);
    json_open(b, key, '{');
    for (size_t i = 0; i < mcp_server_fields.n; i++) {
        const char *name = mcp_server_fields.fields[i].name;
        json_value(b, name, value_get(all, name));
        if (i == 0)
            json_string(b, "transport", v->spec->url ? "http" : "stdio");
    }
    cJSON_Delete(all);
    json_string(b, "state", mcp_state_name(c->state));
    json_string(b, "reason", c->reason);
    json_string(b, "message", c->message);
    json_time(b, "since", c->since_ms);
    json_string(b, "protocol_version", c->protocol_version);
    json_string(b, "server_name", c->name);
    json_string(b, "server_version", c->version);
    json_value(b, "capabilities", c->capabilities);
    json_string(b, "instructions", c->instructions);
    json_int(b, "triggers", (int64_t)v->listeners);
    json_string(b, "rejected", v->rejected);
    render_source(b, v->origin, v->line);
    json_close(b, '}');
}

void render_mcp_server(struct buf *b, const char *key, struct api *a, const char *name)
{
    struct mcp_entry_view v;
    if (mcp_servers_look(a->mcp, name, &v) && v.spec)
        render(b, key, &v);
}

struct list {
    struct buf *b;
    int64_t n;
};

static void render_item(void *ctx, const struct mcp_entry_view *v)
{
    struct list *l = ctx;
    render(l->b, NULL, v);
    l->n++;
}

void api_list_mcp_servers(struct api *a, struct api_call call)
{
    struct buf b = {0};
    struct list l = {.b = &b};
    json_open(&b, NULL, '{');
    json_open(&b, "mcp_servers", '[');
    mcp_servers_each(a->mcp, render_item, &l);
    json_close(&b, ']');
    json_int(&b, "total", l.n);
    json_close(&b, '}');
    api_answer_text(call, 200, &b);
}

void api_get_mcp_server(struct api *a, const char *name, struct api_call call)
{
    struct buf b = {0};
    render_mcp_server(&b, NULL, a, name);
    if (b.len == 0)
        api_problem(call, 404, "there is no mcp_server \"%s\"", name);
    else
        api_answer_resource(a, RESOURCE_MCP_SERVER, name, call, &b);
}

/* ---- tools ---- */

SHAPE(McpTools, "The tools of an MCP server", {"tools", "[any]", "As the server describes them"});
SHAPE(McpCall, "A call of a tool", {"tool", "string", NULL}, {"arguments", "-object", "What it is given; default {}"});
SHAPE_OF(McpResult, "What a tool gave, as the server says it", NULL, SHAPE_OPEN, {"content", "-[any]", NULL},
         {"structuredContent", "-any", NULL}, {"isError", "-boolean", NULL});

/* An answer that waits for a server. */
struct asking {
    struct api_call call;
    const char *member; /* of a list; NULL: the result as it is */
};

static void asked(void *ctx, struct mcp_result *result)
{
    struct asking *q = ctx;
    struct buf b = {0};
    if (result->code != 0) {
        api_problem(q->call, result->code == -ETIMEDOUT ? 504 : 502, "%s", result->message);
    } else {
        if (q->member)
            json_open(&b, NULL, '{');
        json_value(&b, q->member, result->result);
        if (q->member)
            json_close(&b, '}');
        api_answer_text(q->call, 200, &b);
    }
    free(q);
}

static struct mcp *find(struct api *a, const char *name, struct api_call call)
{
    struct mcp *m = mcp_servers_find(a->mcp, name);
    if (!m)
        api_problem(call, 404, "there is no mcp_server \"%s\"", name);
    return m;
}

static struct asking *asking_new(const char *member, struct api_call call)
{
    struct asking *q = xcalloc(1, sizeof(*q));
    *q = (struct asking){call, member};
    return q;
}

void api_mcp_tools(struct api *a, const char *name, struct api_call call)
{
    struct mcp *m = find(a, name, call);
    if (m)
        mcp_list(m, "tools/list", "tools", asked, asking_new("tools", call));
}

void api_mcp_call(struct api *a, const char *name, const char *tool, const cJSON *arguments, struct api_call call)
{
    struct mcp *m = find(a, name, call);
    if (!m)
        return;
    cJSON *params = cJSON_CreateObject();
    cJSON_AddStringToObject(params, "name", tool);
    cJSON_AddItemToObject(params, "arguments", arguments ? cJSON_Duplicate(arguments, true) : cJSON_CreateObject());
    mcp_ask(m, "tools/call", params, NULL, asked, asking_new(NULL, call));
}
