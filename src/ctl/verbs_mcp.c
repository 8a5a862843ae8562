/* mcp: the servers that the daemon knows, their tools and what they send; or, without a daemon, those of a command or a
 * URL. */
#include "base/clock.h"
#include "client/mcp_message.h"
#include "ctl/args.h"
#include "ctl/follow.h"
#include "ctl/input.h"
#include "ctl/mcp_direct.h"
#include "ctl/print.h"
#include "ctl/request.h"
#include "ctl/views.h"

#include <stdio.h>
#include <strings.h>

/* Who is asked: a server of the daemon's, or one that is spoken with from here. */
struct whom {
    const char *server; /* of the daemon; NULL: `place` */
    struct mcp_place place;
    const char *tool; /* of `call` */
};

static bool is_url(const char *word)
{
    return strncasecmp(word, "http://", 7) == 0 || strncasecmp(word, "https://", 8) == 0;
}

static int parse_seconds(const struct args *a, double *ret)
{
    const char *text = a->values[OPT_TIMEOUT];
    char *end = NULL;
    int64_t ms;
    *ret = 0;
    if (!text)
        return -1;
    double seconds = strtod(text, &end);
    if (*text && end && !*end && seconds > 0 && seconds <= 86400) {
        *ret = seconds;
        return -1;
    }
    if (duration_parse(text, &ms) == 0 && ms > 0) {
        *ret = (double)ms / 1000;
        return -1;
    }
    return args_refuse(a, "--timeout: expected a number of seconds, or a duration (5m), got \"%s\"", text);
}

/* The words behind the verb's first: `SERVER|URL [TOOL]`, or `[TOOL] -- COMMAND…`. -1: understood. */
static int find_whom(const struct args *a, bool tool, struct whom *ret)
{
    size_t before = a->dashes - 1; /* words before `--` but the first */
    bool command = a->dashes < a->n;
    int r = parse_seconds(a, &ret->place.timeout_seconds);
    if (r >= 0)
        return r;
    size_t wanted = (tool ? 1u : 0u) + (command ? 0u : 1u);
    if (before != wanted)
        return args_refuse(a, "%s: expected %s", a->words[0],
                           tool ? "SERVER|URL TOOL, or TOOL -- COMMAND..." : "SERVER|URL, or -- COMMAND...");
    if (tool)
        ret->tool = a->words[wanted];
    if (command)
        ret->place.command = &a->words[a->dashes];
    else if (is_url(a->words[1]))
        ret->place.url = a->words[1];
    else
        ret->server = a->words[1];
    return -1;
}

static char *path_of(const char *server, const char *after)
{
    struct buf url = {0};
    url_add(&url, "/api/v1/mcp_servers/");
    url_part(&url, server);
    url_add(&url, after);
    return buf_steal(&url);
}

/* ---- list ---- */

static void capability_cell(struct table *t, const cJSON *capabilities)
{
    struct buf b = {0};
    const cJSON *item;
    cJSON_ArrayForEach (item, capabilities)
        buf_printf(&b, "%s%s", b.len ? "," : "", item->string);
    table_cell(t, b.data);
    buf_fini(&b);
}

static int mcp_list_servers(struct ctl *c, const struct args *a)
{
    _cleanup_(cjson_deletep) cJSON *answer = NULL;
    if (a->n > 1)
        return args_refuse(a, "list takes no more words");
    int r = ctl_get(c, "/api/v1/mcp_servers", &answer);
    if (r != CTL_OK || show_value(a, answer))
        return r;
    struct table t = {0};
    table_column(&t, "NAME", 0);
    table_column(&t, "STATE", CELL_STATUS);
    table_column(&t, "PROTOCOL", 0);
    table_column(&t, "SERVER", CELL_CUT);
    table_column(&t, "CAPABILITIES", CELL_CUT);
    table_column(&t, "TRIGGERS", CELL_RIGHT);
    table_column(&t, "MESSAGE", CELL_CUT);
    const cJSON *s, *list = value_get(answer, "mcp_servers");
    cJSON_ArrayForEach (s, list) {
        const char *name = value_get_string(s, "server_name"), *version = value_get_string(s, "server_version");
        const char *state = value_get_string(s, "state");
        _cleanup_(freep) char *own = name ? xasprintf("%s %s", name, version ? version : "") : NULL;
        _cleanup_(freep) char *triggers = value_text(value_get(s, "triggers"));
        table_cell(&t, value_get_string(s, "name"));
        table_cell(&t, state);
        table_cell(&t, value_get_string(s, "protocol_version"));
        table_cell(&t, own);
        capability_cell(&t, value_get(s, "capabilities"));
        table_cell(&t, triggers);
        table_cell(&t, streq(state, "error") ? value_get_string(s, "message") : NULL);
    }
    table_print(&t, c->colour);
    return CTL_OK;
}

/* ---- telling ---- */

static void print_line_json(const char *method, const cJSON *params)
{
    static const char prefix[] = "notifications/";
    bool plain = strncmp(method, prefix, strlen(prefix)) == 0;
    cJSON *line = cJSON_CreateObject();
    cJSON_AddStringToObject(line, "event_type", plain ? method + strlen(prefix) : method);
    cJSON_AddStringToObject(line, "method", method);
    cJSON_AddItemToObject(line, "params", params ? cJSON_Duplicate(params, true) : cJSON_CreateNull());
    _cleanup_(freep) char *text = value_print(line);
    cJSON_Delete(line);
    puts(text);
    fflush(stdout);
}

static void on_notification(void *ctx, const char *method, const cJSON *params)
{
    (void)ctx;
    print_line_json(method, params);
}

static void on_log(void *ctx, const char *text)
{
    (void)ctx;
    fprintf(stderr, "%s\n", text);
}

/* Of a call that is under way: how far it has come. */
static void on_progress(void *ctx, const char *method, const cJSON *params)
{
    (void)ctx;
    const char *message = value_get_string(params, "message");
    if (!streq(method, "notifications/progress"))
        return;
    _cleanup_(freep) char *done = value_text(value_get(params, "progress"));
    _cleanup_(freep) char *total = value_text(value_get(params, "total"));
    struct buf b = {0};
    buf_printf(&b, "%s%s%s%s", done ? done : "", total ? "/" : "", total ? total : "", message ? ": " : "");
    text_escape(&b, message ? message : "");
    fprintf(stderr, "%s\n", b.data);
    buf_fini(&b);
}

static int direct_failed(const struct error *err)
{
    complain("%s", err->message);
    return CTL_FAILED;
}

/* ---- tools ---- */

static int mcp_tools(struct ctl *c, const struct args *a)
{
    struct whom w = {0};
    _cleanup_(cjson_deletep) cJSON *answer = NULL;
    int r = find_whom(a, false, &w);
    if (r >= 0)
        return r;
    if (w.server) {
        _cleanup_(freep) char *path = path_of(w.server, "/tools");
        r = ctl_get(c, path, &answer);
        if (r != CTL_OK)
            return r;
    } else {
        static const struct mcp_told told = {.log = on_log};
        struct error err = ERROR_INIT;
        cJSON *tools = NULL;
        if (mcp_direct_ask(&w.place, "tools/list", NULL, "tools", &told, &tools, &err) < 0)
            return direct_failed(&err);
        answer = cJSON_CreateObject();
        cJSON_AddItemToObject(answer, "tools", tools);
    }
    if (show_value(a, answer))
        return CTL_OK;
    struct table t = {0};
    table_column(&t, "TOOL", 0);
    table_column(&t, "DESCRIPTION", CELL_CUT);
    const cJSON *tool, *list = value_get(answer, "tools");
    cJSON_ArrayForEach (tool, list) {
        table_cell(&t, value_get_string(tool, "name"));
        table_cell(&t, value_get_string(tool, "description"));
    }
    table_print(&t, c->colour);
    return CTL_OK;
}

/* ---- call ---- */

/* What a tool gave: its texts as they are, other contents as JSON. */
static void print_contents(const cJSON *result)
{
    const cJSON *item, *content = value_get(result, "content"), *structured = value_get(result, "structuredContent");
    cJSON_ArrayForEach (item, content) {
        const char *text = streq(value_get_string(item, "type"), "text") ? value_get_string(item, "text") : NULL;
        if (text)
            printf("%s\n", text);
        else
            print_json(item);
    }
    if (!(content && content->child) && structured)
        print_json(structured);
}

static int ask_daemon(struct ctl *c, const struct whom *w, const cJSON *arguments, cJSON **ret)
{
    _cleanup_(freep) char *path = path_of(w->server, "/call");
    _cleanup_(cjson_deletep) cJSON *request = cJSON_CreateObject();
    cJSON_AddStringToObject(request, "tool", w->tool);
    cJSON_AddItemToObject(request, "arguments", cJSON_Duplicate(arguments, true));
    _cleanup_(freep) char *body = value_print(request);
    return ctl_send(c, "POST", path, body, ret);
}

static int mcp_call_tool(struct ctl *c, const struct args *a)
{
    static const struct mcp_told told = {.notification = on_progress, .log = on_log};
    struct whom w = {0};
    _cleanup_(cjson_deletep) cJSON *arguments = NULL;
    _cleanup_(cjson_deletep) cJSON *result = NULL;
    const char *given = a->values[OPT_ARGS];
    int r = find_whom(a, true, &w);
    if (r >= 0)
        return r;
    if (input_data_json("--args", given ? given : "{}", &arguments) < 0)
        return CTL_FAILED;
    if (!cJSON_IsObject(arguments))
        return args_refuse(a, "--args: expected an object");
    if (w.server) {
        r = ask_daemon(c, &w, arguments, &result);
        if (r != CTL_OK)
            return r;
    } else {
        struct error err = ERROR_INIT;
        cJSON *params = cJSON_CreateObject();
        cJSON_AddStringToObject(params, "name", w.tool);
        cJSON_AddItemToObject(params, "arguments", steal(&arguments));
        if (mcp_direct_ask(&w.place, "tools/call", params, NULL, &told, &result, &err) < 0)
            return direct_failed(&err);
    }
    if (!show_value(a, result))
        print_contents(result);
    return cJSON_IsTrue(value_get(result, "isError")) ? CTL_FAILED : CTL_OK;
}

/* ---- listen ---- */

static bool on_message(void *ctx, const cJSON *data)
{
    (void)ctx;
    _cleanup_(freep) char *text = value_print(data);
    puts(text);
    return fflush(stdout) == 0;
}

static int mcp_listen_to(struct ctl *c, const struct args *a)
{
    static const struct mcp_told told = {.notification = on_notification, .log = on_log};
    struct whom w = {0};
    struct error err = ERROR_INIT;
    int r = find_whom(a, false, &w);
    if (r >= 0)
        return r;
    if (!w.server)
        return mcp_direct_listen(&w.place, &told, &err) < 0 ? direct_failed(&err) : CTL_OK;
    _cleanup_(freep) char *path = path_of(w.server, "/notifications");
    return ctl_follow(c, &(struct follow){.path = path, .message = on_message});
}

int verb_mcp(struct ctl *c, const struct args *a)
{
    static const struct {
        const char *word;
        verb_fn *run;
    } words[] = {{"list", mcp_list_servers}, {"tools", mcp_tools}, {"call", mcp_call_tool}, {"listen", mcp_listen_to}};
    size_t i = 0;
    while (!streq(words[i].word, a->words[0]))
        i++;
    if (a->values[OPT_ARGS] && !streq(a->words[0], "call"))
        return args_refuse(a, "--args goes with call");
    return words[i].run(c, a);
}
