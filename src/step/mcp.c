/* mcp: a call of a tool of an MCP server, over the connection that it shares with triggers. Its output is the answer's
 * `structuredContent`, else its text; what the tool says of how far it has come is kept as standard error. */
#include "base/util.h"
#include "client/mcp_message.h"
#include "client/mcp_servers.h"
#include "engine/step_type.h"
#include "step/list.h"

#include <errno.h>
#include <stdio.h>

#define PROGRESS_MAX ((size_t)1 << 20) /* bytes that are kept */
#define RPC_METHOD_NOT_FOUND (-32601)
#define RPC_INVALID_PARAMS (-32602)

struct config {
    char *server;
    char *tool;
    cJSON *arguments; /* NULL: {} */
};

struct program {
    struct template *server, *tool;
    struct template_tree *arguments; /* NULL: {} */
};

static const struct field rows[] = {
    {.name = "server",
     .type = &field_string,
     FIELD(struct config, server, char *, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY, .max = 4096,
           .doc = "The name of the server, as a document `kind: mcp_server` declares it; templates are filled in",
           .example = "\"database\"")},
    {.name = "tool",
     .type = &field_string,
     FIELD(struct config, tool, char *, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY, .max = 4096,
           .doc = "The tool that is called; templates are filled in", .example = "\"query\"")},
    {.name = "arguments",
     .type = &field_json,
     FIELD(struct config, arguments, cJSON *, .flags = FIELD_NULL_OK | FIELD_REFERS,
           .doc = "What the tool is given, an object; templates in its strings are filled in, one alone in its string "
                  "keeps its type",
           .example = "{\"id\": \"{{ $.inputs.order_id }}\"}")},
};
static const struct field_table table = {"mcp", "Call a tool of an MCP server", sizeof(struct config), rows,
                                         ARRAY_SIZE(rows)};

static bool is_template(const char *text)
{
    while (*text == ' ')
        text++;
    return strncmp(text, "{{", 2) == 0;
}

static void validate(const void *config, const cJSON *node, const char *path, struct issues *issues)
{
    const struct config *c = config;
    const cJSON *a = c->arguments;
    char at[FIELD_PATH_MAX], got[VALUE_BRIEF_MAX];
    if (a && !cJSON_IsObject(a) && !(cJSON_IsString(a) && is_template(a->valuestring)))
        issue_add(issues, field_path(at, path, "arguments"), value_get(node, "arguments"),
                  "expected an object (or a template that gives one), got %s", value_brief(a, got, sizeof(got)));
}

static const char rules[] = "[{'properties': {'arguments': {'anyOf': [{'type': 'object'}, "
                            "{'type': 'string', 'pattern': '^ *\\\\{\\\\{'}, {'type': 'null'}]}}}]";

static void free_program(void *program)
{
    struct program *p = program;
    if (!p)
        return;
    template_destroy(p->server);
    template_destroy(p->tool);
    template_tree_destroy(p->arguments);
    free(p);
}

static int compile(const struct step *step, const cJSON *node, const char *path, void **ret_program,
                   struct issues *issues)
{
    const struct config *c = step->config;
    size_t before = issues->errors;
    char at[FIELD_PATH_MAX];
    struct program *p = xcalloc(1, sizeof(*p));
    p->server =
        template_field(c->server, TEMPLATE_TEXT, value_get(node, "server"), field_path(at, path, "server"), issues);
    p->tool = template_field(c->tool, TEMPLATE_TEXT, value_get(node, "tool"), field_path(at, path, "tool"), issues);
    if (c->arguments)
        template_tree_compile(value_get(node, "arguments"), TEMPLATE_SECRETS, field_path(at, path, "arguments"),
                              &p->arguments, issues);
    if (issues->errors != before) {
        free_program(p);
        return -EINVAL;
    }
    *ret_program = p;
    return 0;
}

static void each_path(const void *program, void (*fn)(void *ctx, const char *path), void *ctx)
{
    const struct program *p = program;
    struct path_teller t = {fn, ctx};
    template_each_path(p->server, path_tell, &t);
    template_each_path(p->tool, path_tell, &t);
    if (p->arguments)
        template_tree_each_path(p->arguments, path_tell, &t);
}

static void each_reference(const void *program, void (*fn)(void *ctx, const char *text), void *ctx)
{
    const struct program *p = program;
    if (p->arguments)
        template_tree_each_reference(p->arguments, fn, ctx);
}

/* ---- running ---- */

struct call {
    struct step_call *step;
    struct mcp_request *request; /* NULL: it is over, or never began */
    struct step_result result;   /* of an end that is told later */
    struct timer later;
    struct buf progress;
};

static void tell(struct call *c)
{
    struct step_call *step = c->step;
    struct step_result r = c->result;
    r.err_len = c->progress.len;
    r.err = c->progress.len ? buf_steal(&c->progress) : NULL;
    buf_fini(&c->progress);
    free(c);
    step_done(step, &r);
}

static void on_later(struct timer *timer, void *ctx)
{
    (void)timer;
    tell(ctx);
}

static void end(struct call *c, enum step_status status, const char *error, bool permanent)
{
    c->result.status = status;
    c->result.error = xstrdup(error);
    c->result.permanent = permanent;
}

static void end_later(struct call *c, enum step_status status, const char *error)
{
    const struct step_env *env = c->step->env;
    end(c, status, error, false);
    timer_init(&c->later, on_later, c);
    timer_start(env->timers, &c->later, clock_monotonic_ms(env->clock));
}

static void answered(void *ctx, struct mcp_result *result)
{
    struct call *c = ctx;
    char *text = NULL;
    bool failed = false;
    c->request = NULL;
    if (result->code != 0) {
        end(c, STEP_FAILED, result->message,
            result->rpc_code == RPC_METHOD_NOT_FOUND || result->rpc_code == RPC_INVALID_PARAMS);
    } else {
        c->result.output = mcp_tool_output(result->result, &failed, &text);
        c->result.status = STEP_COMPLETED;
        if (failed)
            end(c, STEP_FAILED, text, false);
        free(text);
    }
    tell(c);
}

/* `3/10: half of it` */
static void on_progress(void *ctx, const cJSON *params)
{
    struct call *c = ctx;
    const char *message = value_get_string(params, "message");
    const cJSON *done = value_get(params, "progress"), *total = value_get(params, "total");
    _cleanup_(freep) char *done_text = done && value_is_number(done) ? value_print(done) : NULL;
    _cleanup_(freep) char *total_text = total && value_is_number(total) ? value_print(total) : NULL;
    if (c->progress.len > PROGRESS_MAX)
        return;
    buf_printf(&c->progress, "%s%s%s", done_text ? done_text : "?", total_text ? "/" : "",
               total_text ? total_text : "");
    if (message)
        buf_adds(&c->progress, ": ");
    if (message)
        text_escape(&c->progress, message);
    buf_addc(&c->progress, '\n');
}

static cJSON *params_of(const char *tool, cJSON *arguments)
{
    cJSON *params = cJSON_CreateObject();
    cJSON_AddStringToObject(params, "name", tool);
    cJSON_AddItemToObject(params, "arguments", arguments ? arguments : cJSON_CreateObject());
    return params;
}

/* The texts are the caller's. */
static int fill(struct step_call *step, char **ret_server, char **ret_tool, cJSON **ret_arguments, struct error *err)
{
    const struct program *p = step->program;
    const cJSON *context = NULL;
    int r = step_context_expanded(step, &context, NULL, err);
    if (r == 0 && template_expand_text(p->server, step_context(step), ret_server, err) < 0)
        r = error_wrap(err, "server");
    if (r == 0 && template_expand_text(p->tool, step_context(step), ret_tool, err) < 0)
        r = error_wrap(err, "tool");
    if (r == 0 && p->arguments)
        r = template_tree_expand_with(p->arguments, context, step->secrets, ret_arguments, err);
    if (r == 0 && *ret_arguments && !cJSON_IsObject(*ret_arguments))
        r = error_set(err, -EINVAL, "arguments: expected an object, got %s", value_type_name(*ret_arguments));
    return r;
}

static void start(struct step_call *step)
{
    struct call *c = xcalloc(1, sizeof(*c));
    _cleanup_(freep) char *server = NULL;
    _cleanup_(freep) char *tool = NULL;
    cJSON *arguments = NULL;
    struct error err = ERROR_INIT;
    *c = (struct call){.step = step, .result = STEP_RESULT_INIT};
    step->state = c;
    if (fill(step, &server, &tool, &arguments, &err) < 0) {
        cJSON_Delete(arguments);
        end_later(c, STEP_FAILED, err.message);
        return;
    }
    struct mcp *m = step->env->mcp ? mcp_servers_find(step->env->mcp, server) : NULL;
    if (!m) {
        cJSON_Delete(arguments);
        _cleanup_(freep) char *why = xasprintf("there is no mcp_server \"%s\"", server);
        end_later(c, STEP_FAILED, why);
        return;
    }
    c->request = mcp_ask(m, "tools/call", params_of(tool, arguments), on_progress, answered, c);
}

static void cancel(struct step_call *step)
{
    struct call *c = step->state;
    if (!c->request)
        return; /* its end is on its way */
    mcp_cancel(steal(&c->request), "the step was cancelled");
    end_later(c, STEP_CANCELLED, "cancelled");
}

static size_t peek(struct step_call *step, bool standard_error, size_t offset, const char **ret_data)
{
    const struct call *c = step->state;
    if (!standard_error || offset >= c->progress.len)
        return 0;
    *ret_data = c->progress.data + offset;
    return c->progress.len - offset;
}

const struct step_type step_mcp = {
    .kind = {.name = "mcp", .config = &table, .validate = validate, .rules = rules},
    .compile = compile,
    .free_program = free_program,
    .each_path = each_path,
    .each_reference = each_reference,
    .start = start,
    .cancel = cancel,
    .peek = peek,
};
