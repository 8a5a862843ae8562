#include "model/mcp_server.h"

#include "base/util.h"

#include <errno.h>
#include <strings.h>

const char *const mcp_log_levels[] = {"none",  "debug",    "info",  "notice",    "warning",
                                      "error", "critical", "alert", "emergency", NULL};

static const struct field root_rows[] = {
    {.name = "uri",
     .type = &field_string,
     FIELD(struct mcp_root, uri, char *, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY, .max = 4096,
           .doc = "A URI that the server may work below", .example = "\"file:///srv/data\"")},
    {.name = "name",
     .type = &field_string,
     FIELD(struct mcp_root, name, char *, .flags = FIELD_NULL_OK, .max = 200, .doc = "What people call it",
           .example = "\"data\"")},
};
static const struct field_table root_fields = {"root", "A place that a server is told of", sizeof(struct mcp_root),
                                               root_rows, ARRAY_SIZE(root_rows)};

static const struct field rows[] = {
    {.name = "name",
     .type = &field_endpoint,
     FIELD(struct mcp_server, name, char *, .flags = FIELD_REQUIRED,
           .doc = "The name by which triggers (server_name) and steps (server) call it", .example = "\"database\"")},
    {.name = "command",
     .type = &field_string,
     FIELD(struct mcp_server, command, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY | FIELD_REFERS, .max = 4096,
           .doc = "A program that speaks MCP over its standard input and output, started when something needs it and "
                  "never seen by a shell",
           .example = "\"npx\"")},
    {.name = "args",
     .type = &field_strings,
     FIELD(struct mcp_server, args, struct strings, .default_json = "[]", .flags = FIELD_REFERS, .max = 10000,
           .doc = "Its arguments", .example = "[\"-y\", \"@modelcontextprotocol/server-everything\"]")},
    {.name = "env",
     .type = &field_string_map,
     FIELD(struct mcp_server, env, cJSON *, .flags = FIELD_NULL_OK | FIELD_REFERS | FIELD_SECRET,
           .doc =
               "Variables beside PATH, HOME and LANG; references to secrets (${env:NAME}, ${file:PATH}) are replaced "
               "anew at each start",
           .example = "{\"DB_URL\": \"${file:db_url}\"}")},
    {.name = "cwd",
     .type = &field_string,
     FIELD(struct mcp_server, cwd, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY | FIELD_REFERS, .max = 4096,
           .doc = "The directory that it runs in; by default that of triggerd", .example = "\"/srv/mcp\"")},
    {.name = "url",
     .type = &field_string,
     FIELD(struct mcp_server, url, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY | FIELD_REFERS, .max = 16384,
           .doc = "Instead of a command: the http:// or https:// URL of a server that speaks streamable HTTP",
           .example = "\"https://mcp.example.org/mcp\"")},
    {.name = "headers",
     .type = &field_string_map,
     FIELD(struct mcp_server, headers, cJSON *, .flags = FIELD_NULL_OK | FIELD_REFERS | FIELD_SECRET,
           .doc = "Headers of each request to the URL; references to secrets are replaced anew for each connection",
           .example = "{\"Authorization\": \"Bearer ${env:MCP_TOKEN}\"}")},
    {.name = "subscribe",
     .type = &field_strings,
     FIELD(struct mcp_server, subscribe, struct strings, .default_json = "[]", .max = 10000,
           .doc = "URIs of resources whose updates the server is asked to tell, anew after each reconnect",
           .example = "[\"file:///srv/orders.json\"]")},
    {.name = "log_level",
     .type = &field_enum,
     FIELD(struct mcp_server, log_level, int, .default_json = "\"none\"", .words = mcp_log_levels,
           .doc = "The least severe log messages that the server is asked for; none: it is not asked",
           .example = "\"info\"")},
    {.name = "roots",
     .type = &field_objects,
     FIELD(struct mcp_server, roots, struct objects, .sub = &root_fields, .max = 1000,
           .doc = "What the server is answered when it asks for the client's roots",
           .example = "[{\"uri\": \"file:///srv/data\", \"name\": \"data\"}]")},
    {.name = "timeout_seconds",
     .type = &field_seconds,
     FIELD(struct mcp_server, timeout_seconds, double, .default_json = "30", .min = 0, .flags = FIELD_MIN_OPEN,
           .max = 86400, .doc = "Within that the server must have answered each request, the first one included")},
};
const struct field_table mcp_server_fields = {"mcp_server",
                                              "An MCP server, whose notifications are events and whose tools are steps",
                                              sizeof(struct mcp_server), rows, ARRAY_SIZE(rows)};

const char mcp_server_rules[] =
    "[{'oneOf': [{'required': ['command'], 'properties': {'command': {'type': 'string'}}}, {'required': ['url'], "
    "'properties': {'url': {'type': 'string'}}}]},"
    "{'if': {'required': ['command'], 'properties': {'command': {'type': 'string'}}}, 'then': {'properties': "
    "{'headers': {'type': 'null'}}}, 'else': {'properties': {'args': {'maxItems': 0, 'type': 'array'}, "
    "'env': {'type': 'null'}, 'cwd': {'type': 'null'}}}},"
    "{'properties': {'env': {'propertyNames': {'pattern': '^[^=]+$', 'not': {'pattern': '^TRIGGERD_(NODE_ID|TAG)$'}}},"
    "'url': {'anyOf': [{'pattern': '^([Hh][Tt][Tt][Pp][Ss]?://|\\\\x24\\\\{)'}, {'type': 'null'}]},"
    "'headers': {'propertyNames': {'pattern': '^[-!#\\\\x24%&*+.^_`|~0-9A-Za-z]+$'}}}}]";

static bool token(const char *name)
{
    size_t n = strspn(name, "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");
    return n > 0 && !name[n];
}

static void check_env(const struct mcp_server *s, const cJSON *doc, struct issues *issues)
{
    const cJSON *item;
    char at[FIELD_PATH_MAX];
    cJSON_ArrayForEach (item, s->env) {
        const cJSON *node = value_get(value_get(doc, "env"), item->string);
        field_path(at, "env", item->string);
        if (!*item->string || strchr(item->string, '='))
            issue_add_key(issues, at, node, "not a name of a variable");
        else if (streq(item->string, "TRIGGERD_NODE_ID") || streq(item->string, "TRIGGERD_TAG"))
            issue_add_key(issues, at, node, "is set by triggerd itself");
    }
}

static void check_headers(const struct mcp_server *s, const cJSON *doc, struct issues *issues)
{
    static const char *const ours[] = {"Accept",         "Content-Type",      "Content-Length",
                                       "Mcp-Session-Id", "Transfer-Encoding", "MCP-Protocol-Version",
                                       "Last-Event-ID"};
    const cJSON *item;
    char at[FIELD_PATH_MAX];
    cJSON_ArrayForEach (item, s->headers) {
        const cJSON *node = value_get(value_get(doc, "headers"), item->string);
        field_path(at, "headers", item->string);
        if (!token(item->string))
            issue_add_key(issues, at, node, "not a header's name");
        for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
            if (strcasecmp(item->string, ours[i]) == 0)
                issue_add_key(issues, at, node, "is set by triggerd itself");
        for (const char *p = item->valuestring; *p; p++)
            if (((unsigned char)*p < ' ' && *p != '\t') || *p == 0x7f) {
                issue_add(issues, at, node, "a header has no control characters");
                break;
            }
    }
}

/* Keys of the one way that are given with the other. */
static void refuse_keys(const char *const *keys, const char *why, const cJSON *doc, struct issues *issues)
{
    for (; *keys; keys++) {
        const cJSON *node = value_get(doc, *keys);
        bool empty = !node || cJSON_IsNull(node) || (cJSON_IsArray(node) && !node->child);
        if (!empty)
            issue_add_key(issues, *keys, node, "%s", why);
    }
}

static void check(const struct mcp_server *s, const cJSON *doc, struct issues *issues)
{
    static const char *const of_command[] = {"args", "env", "cwd", NULL}, *const of_url[] = {"headers", NULL};
    const cJSON *url = value_get(doc, "url");
    if (s->command && s->url)
        issue_add_key(issues, "url", url, "command is given already; a server has one of both");
    else if (!s->command && !s->url)
        issue_add(issues, "", doc, "expected command (a server over standard input and output) or url (over HTTP)");
    else if (s->command)
        refuse_keys(of_url, "only a server with a url has headers", doc, issues);
    else
        refuse_keys(of_command, "only a server with a command has this", doc, issues);
    if (s->url && strncasecmp(s->url, "http://", 7) != 0 && strncasecmp(s->url, "https://", 8) != 0 &&
        strncmp(s->url, "${", 2) != 0) {
        char got[VALUE_BRIEF_MAX];
        issue_add(issues, "url", url, "expected http:// or https://, got %s", value_brief(url, got, sizeof(got)));
    }
    check_env(s, doc, issues);
    check_headers(s, doc, issues);
}

int mcp_server_parse(const cJSON *doc, struct mcp_server **ret, struct issues *issues)
{
    static const char *const also[] = {"kind", NULL};
    size_t before = issues->errors;
    struct mcp_server *s = xcalloc(1, sizeof(*s));
    s->refs = 1;
    if (fields_parse(&mcp_server_fields, doc, also, s, "", issues))
        check(s, doc, issues);
    if (issues->errors != before) {
        mcp_server_unref(s);
        return -EINVAL;
    }
    *ret = s;
    return 0;
}

struct mcp_server *mcp_server_ref(struct mcp_server *s)
{
    s->refs++;
    return s;
}

void mcp_server_unref(struct mcp_server *s)
{
    if (!s || --s->refs > 0)
        return;
    fields_fini(&mcp_server_fields, s);
    free(s);
}

bool mcp_server_equal(const struct mcp_server *a, const struct mcp_server *b)
{
    return fields_equal(&mcp_server_fields, a, b);
}

bool mcp_server_reconnects(const struct mcp_server *a, const struct mcp_server *b)
{
    const char *names[16];
    size_t n = 0;
    fields_compare(&mcp_server_fields, a, b, NULL, names, ARRAY_SIZE(names), &n);
    for (size_t i = 0; i < n; i++)
        if (!streq(names[i], "timeout_seconds"))
            return true;
    return false;
}
