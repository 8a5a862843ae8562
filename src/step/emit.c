/* emit: a custom event at an endpoint, in the chain of the run. It ends when the event is recorded; a repetition of the
 * step (a retry, a run interrupted after it) is one event by the step's idempotency key. */
#include "base/util.h"
#include "engine/engine.h"
#include "lang/template.h"
#include "step/list.h"

#include <errno.h>

struct config {
    char *endpoint;
    cJSON *data; /* NULL: {} */
};

struct program {
    struct template *endpoint;
    struct template_tree *data; /* NULL: {} */
};

static const struct field rows[] = {
    {.name = "endpoint",
     .type = &field_string,
     FIELD(struct config, endpoint, char *, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY, .max = 4096,
           .doc = "The endpoint at which the event is emitted; templates are filled in", .example = "\"imported\"")},
    {.name = "data",
     .type = &field_json,
     FIELD(struct config, data, cJSON *, .flags = FIELD_NULL_OK,
           .doc = "The event data; templates in its strings are filled in, a template alone keeps its type",
           .example = "{\"rows\": \"{{ $.steps.load.output.rows }}\"}")},
};
static const struct field_table table = {"emit", "Emit a custom event", sizeof(struct config), rows, ARRAY_SIZE(rows)};

static void validate(const void *config, const cJSON *node, const char *path, struct issues *issues)
{
    const struct config *c = config;
    char at[FIELD_PATH_MAX];
    if (c->endpoint && !strstr(c->endpoint, "{{") && !endpoint_text_valid(c->endpoint))
        issue_add(issues, field_path(at, path, "endpoint"), value_get(node, "endpoint"),
                  "expected an endpoint name ([A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}), got \"%s\"", c->endpoint);
}

static const char rules[] = "[{'properties': {'endpoint': {'anyOf': ["
                            "{'pattern': '^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}$'}, {'pattern': '\\\\{\\\\{'}]}}}]";

static void free_program(void *program)
{
    struct program *p = program;
    if (!p)
        return;
    template_destroy(p->endpoint);
    template_tree_destroy(p->data);
    free(p);
}

static int compile(const struct step *step, const cJSON *node, const char *path, void **ret_program,
                   struct issues *issues)
{
    const struct config *c = step->config;
    size_t before = issues->errors;
    struct program *p = xcalloc(1, sizeof(*p));
    char at[FIELD_PATH_MAX];
    p->endpoint = template_field(c->endpoint, TEMPLATE_TEXT, value_get(node, "endpoint"),
                                 field_path(at, path, "endpoint"), issues);
    if (c->data)
        template_tree_compile(value_get(node, "data"), 0, field_path(at, path, "data"), &p->data, issues);
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
    template_each_path(p->endpoint, path_tell, &t);
    if (p->data)
        template_tree_each_path(p->data, path_tell, &t);
}

/* ---- running ---- */

struct emit {
    struct step_call *call;
    struct timer failed; /* a failure before the engine had it, told later */
    char *failure;
};

static void tell(struct emit *m, struct step_result *r)
{
    struct step_call *call = m->call;
    free(m);
    step_done(call, r);
}

static void tell_failure(struct timer *timer, void *ctx)
{
    (void)timer;
    struct emit *m = ctx;
    struct step_result r = STEP_RESULT_INIT;
    r.status = STEP_FAILED;
    r.error = m->failure;
    tell(m, &r);
}

static void emitted(void *ctx, const struct intake_result *result)
{
    struct step_result r = STEP_RESULT_INIT;
    if (result->code < 0) {
        r.status = STEP_FAILED;
        r.error = xstrdup(result->message ? result->message : "the event was not recorded");
        r.permanent = result->code == -EEXIST;
    } else {
        r.status = STEP_COMPLETED;
        r.output = cJSON_CreateObject();
        cJSON_AddNumberToObject(r.output, "triggered_count", (double)result->triggered);
        cJSON *ids = NULL;
        if (result->duplicate &&
            value_parse(result->duplicate_events, strlen(result->duplicate_events), &ids, NULL) < 0)
            ids = NULL;
        if (!ids)
            ids = cJSON_CreateArray();
        for (size_t i = 0; i < result->n; i++)
            cJSON_AddItemToArray(ids, cJSON_CreateString(result->events[i]->id));
        cJSON_AddItemToObject(r.output, "events", ids);
    }
    tell(ctx, &r);
}

static void start(struct step_call *call)
{
    const struct program *p = call->program;
    struct emit *m = xcalloc(1, sizeof(*m));
    m->call = call;
    call->state = m;
    _cleanup_(freep) char *endpoint = NULL;
    _cleanup_(freep) char *type = NULL;
    _cleanup_(freep) char *chain = NULL;
    _cleanup_(cjson_deletep) cJSON *data = NULL;
    struct error err = ERROR_INIT;
    int r = template_expand_text(p->endpoint, step_context(call), &endpoint, &err);
    if (r == 0 && !endpoint_text_valid(endpoint))
        r = error_set(&err, -EINVAL, "endpoint: expected a name, got \"%s\"", endpoint);
    if (r == 0 && p->data)
        r = template_tree_expand(p->data, step_context(call), &data, &err);
    if (r < 0) {
        m->failure = xstrdup(err.message);
        timer_init(&m->failed, tell_failure, m);
        timer_start(call->env->timers, &m->failed, clock_monotonic_ms(call->env->clock));
        return;
    }
    if (!data)
        data = cJSON_CreateObject();
    type = xasprintf("custom_%s", endpoint);
    struct occurrence o = {.event_type = type, .data = data, .identity = call->idempotency_key};
    engine_chain(call->env->engine, call->run_id, &o, &chain);
    o.internal = true;
    engine_publish(call->env->engine, "custom", endpoint, &o, emitted, m);
}

/* It ends by itself, soon. */
static void cancel(struct step_call *call)
{
    (void)call;
}

const struct step_type step_emit = {
    .kind = {.name = "emit", .config = &table, .validate = validate, .rules = rules},
    .compile = compile,
    .free_program = free_program,
    .each_path = each_path,
    .start = start,
    .cancel = cancel,
};
