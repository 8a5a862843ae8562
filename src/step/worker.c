/* worker: a step whose work is done by a long-lived process. Here its config; worker_pool.h says how the processes
 * live, worker_line.h what is spoken with them. */
#include "engine/step_type.h"
#include "step/list.h"
#include "step/worker_pool.h"

#include <errno.h>

static const struct field rows[] = {
    {.name = "command",
     .type = &field_strings,
     FIELD(struct worker_config, exec.command, struct strings, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY | FIELD_REFERS,
           .max = 10000,
           .doc =
               "The program and its arguments, never seen by a shell. It reads requests from standard input and "
               "writes answers to standard output, one JSON object a line each: {\"id\", \"run_id\", \"step\", "
               "\"attempt\", \"idempotency_key\", \"traceparent\", \"inputs\"}, and {\"id\", \"output\"} or {\"id\", "
               "\"error\"} of at most 1 MiB. It is the same for all runs, so it holds no templates",
           .example = "[\"python3\", \"/srv/import/worker.py\"]")},
    {.name = "cwd",
     .type = &field_string,
     FIELD(struct worker_config, exec.cwd, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY | FIELD_REFERS, .max = 4096,
           .doc = "The directory that it runs in; by default that of triggerd", .example = "\"/srv/import\"")},
    {.name = "env",
     .type = &field_string_map,
     FIELD(struct worker_config, exec.env, cJSON *, .flags = FIELD_NULL_OK | FIELD_REFERS,
           .doc = "Variables beside PATH, HOME, LANG and TRIGGERD_…; references to secrets (${env:NAME}, ${file:PATH}) "
                  "are replaced, anew for each process",
           .example = "{\"DB\": \"${file:db_url}\"}")},
    {.name = "user",
     .type = &field_string,
     FIELD(struct worker_config, exec.user, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY, .max = 256,
           .doc = "The user (name or number) to run as, whose home is HOME then; triggerd itself must be root for that",
           .example = "\"nobody\"")},
    {.name = "limits",
     .type = &field_object,
     FIELD(struct worker_config, exec.limits, struct exec_limits, .sub = &exec_limit_fields,
           .doc = "Limits of its processes, which hold for as long as these live", .example = "{\"open_files\": 256}")},
    {.name = "size",
     .type = &field_int,
     FIELD(struct worker_config, size, int64_t, .default_json = "1", .min = 1, .max = 256,
           .doc = "How many processes there are at most; they are started when requests wait, and one that is idle is "
                  "used again. Requests past it wait in order")},
    {.name = "max_requests",
     .type = &field_int,
     FIELD(struct worker_config, max_requests, int64_t, .default_json = "0", .min = 0, .max = 1000000000,
           .doc = "After so many answers a process is replaced; 0: never", .example = "10000")},
    {.name = "idle_seconds",
     .type = &field_seconds,
     FIELD(struct worker_config, idle_seconds, double, .default_json = "0", .min = 0, .max = 31536000,
           .doc = "A process that is idle for so long is ended; 0: never", .example = "300")},
    {.name = "start_timeout_seconds",
     .type = &field_seconds,
     FIELD(struct worker_config, start_timeout_seconds, double, .default_json = "30", .min = 0, .flags = FIELD_MIN_OPEN,
           .max = 86400,
           .doc = "Within that time a new process must have begun to read its first request; else it is ended and the "
                  "request fails")},
};
static const struct field_table table = {"worker", "Let a long-lived process do it", sizeof(struct worker_config), rows,
                                         ARRAY_SIZE(rows)};

static void validate(const void *config, const cJSON *node, const char *path, struct issues *issues)
{
    const struct worker_config *c = config;
    if (c->exec.command.n > 0)
        exec_validate(&c->exec, node, path, issues);
}

static const char rules[] =
    "[{'properties': {'command': {'anyOf': [{'type': 'string', 'minLength': 1},"
    "{'type': 'array', 'minItems': 1, 'items': [{'minLength': 1}]}]},"
    "'env': {'propertyNames': {'pattern': '^[^=]+$', 'not': {'pattern': '^TRIGGERD_(NODE_ID|RUN_ID|STEP_ID"
    "|PIPELINE_ID|ATTEMPT|IDEMPOTENCY_KEY|EVENT_ID|TRIGGER_ID|TAG)$'}}}}}]";

/* A process serves many runs, so nothing of one run can be in what it is started with. */
static void refuse_template(const char *text, const cJSON *node, const char *path, struct issues *issues)
{
    struct template *t = NULL;
    if (template_compile(text, TEMPLATE_TEXT, &t, NULL) == 0 && !template_is_constant(t))
        issue_add(issues, path, node,
                  "a worker is started once for many runs: what a run has comes with its request, "
                  "not by a template");
    template_destroy(t);
}

static void refuse_templates(const struct exec_config *c, const cJSON *node, const char *path, struct issues *issues)
{
    char at[FIELD_PATH_MAX], item_path[FIELD_PATH_MAX];
    const cJSON *command = value_get(node, "command"), *item;
    field_path(at, path, "command");
    for (size_t i = 0; i < c->command.n; i++)
        refuse_template(c->command.items[i], cJSON_IsArray(command) ? cJSON_GetArrayItem(command, (int)i) : command,
                        field_path_index(item_path, at, i), issues);
    if (c->cwd)
        refuse_template(c->cwd, value_get(node, "cwd"), field_path(at, path, "cwd"), issues);
    field_path(at, path, "env");
    cJSON_ArrayForEach (item, c->env)
        refuse_template(item->valuestring, value_get(value_get(node, "env"), item->string),
                        field_path(item_path, at, item->string), issues);
}

static void free_program(void *program)
{
    struct worker_program *p = program;
    if (!p)
        return;
    worker_pool_unref(*p->pool);
    free(p->pool);
    exec_program_free(p->exec);
    free(p);
}

static int compile(const struct step *step, const cJSON *node, const char *path, void **ret_program,
                   struct issues *issues)
{
    const struct worker_config *c = step->config;
    size_t before = issues->errors;
    void *exec = NULL;
    refuse_templates(&c->exec, node, path, issues);
    if (exec_compile(step, node, path, &exec, issues) < 0 || issues->errors != before) {
        exec_program_free(exec);
        return -EINVAL;
    }
    struct worker_program *p = xcalloc(1, sizeof(*p));
    p->exec = exec;
    p->pool = xcalloc(1, sizeof(struct worker_pool *));
    *ret_program = p;
    return 0;
}

static void each_reference(const void *program, void (*fn)(void *ctx, const char *text), void *ctx)
{
    const struct worker_program *p = program;
    exec_each_reference(p->exec, fn, ctx);
}

static void start(struct step_call *call)
{
    const struct worker_program *p = call->program;
    if (!*p->pool)
        *p->pool = worker_pool_get(call->env->workers, call);
    worker_pool_start(*p->pool, call);
}

const struct step_type step_worker = {
    .kind = {.name = "worker", .config = &table, .validate = validate, .rules = rules},
    .compile = compile,
    .free_program = free_program,
    .each_reference = each_reference,
    .start = start,
    .cancel = worker_pool_cancel,
    .peek = worker_pool_peek,
};
