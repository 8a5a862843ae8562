#include "step/exec_config.h"

#include "base/util.h"
#include "engine/step_type.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>

static const struct field limit_rows[] = {
    {.name = "memory_bytes",
     .type = &field_int,
     FIELD(struct exec_limits, memory_bytes, int64_t, .min = 1 << 20, .max = 1LL << 50,
           .doc = "Memory of all its processes together, where triggerd has control groups with the memory controller; "
                  "else the address space of each process",
           .example = "1073741824")},
    {.name = "cpu_seconds",
     .type = &field_seconds,
     FIELD(struct exec_limits, cpu_seconds, double, .min = 0, .max = 31536000, .flags = FIELD_MIN_OPEN,
           .doc = "CPU time of each process, in whole seconds (what is given is rounded up), and of all together where "
                  "triggerd has control groups, after which it is ended",
           .example = "60")},
    {.name = "processes",
     .type = &field_int,
     FIELD(struct exec_limits, processes, int64_t, .min = 1, .max = 4194304,
           .doc =
               "Processes that it may have at a time, where triggerd has control groups with the pids controller; else "
               "that its user may have on this machine",
           .example = "100")},
    {.name = "open_files",
     .type = &field_int,
     FIELD(struct exec_limits, open_files, int64_t, .min = 3, .max = 1048576, .doc = "Open files of each process",
           .example = "256")},
};
const struct field_table exec_limit_fields = {"limits", "Limits of the step's processes", sizeof(struct exec_limits),
                                              limit_rows, ARRAY_SIZE(limit_rows)};

static const char *const sandbox_words[] = {"none", "strict", NULL};

static const struct field rows[] = {
    {.name = "command",
     .type = &field_strings,
     FIELD(struct exec_config, command, struct strings, .default_json = "[]", .flags = FIELD_REFERS, .max = 10000,
           .doc = "The program and its arguments, never seen by a shell; templates are filled in",
           .example = "[\"./import.sh\", \"{{ $.inputs.file_path }}\"]")},
    {.name = "script",
     .type = &field_string,
     FIELD(struct exec_config, script, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY | FIELD_REFERS, .max = 100000,
           .doc = "A script for /bin/sh -eu instead of a command; it sees inputs only as INPUT_<NAME> variables and on "
                  "standard input, nothing is pasted into its text; a reference (${env:NAME}, ${file:PATH}) in it "
                  "becomes a variable",
           .example = "\"wc -l \\\"$INPUT_FILE_PATH\\\"\"")},
    {.name = "cwd",
     .type = &field_string,
     FIELD(struct exec_config, cwd, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY | FIELD_REFERS, .max = 4096,
           .doc = "The directory that it runs in; by default that of triggerd", .example = "\"/srv/import\"")},
    {.name = "env",
     .type = &field_string_map,
     FIELD(struct exec_config, env, cJSON *, .flags = FIELD_NULL_OK | FIELD_REFERS,
           .doc = "Variables beside PATH, HOME, LANG, INPUT_<NAME> and TRIGGERD_…; templates are filled in, and "
                  "references to secrets (${env:NAME}, ${file:PATH}) replaced",
           .example = "{\"MODE\": \"batch\"}")},
    {.name = "user",
     .type = &field_string,
     FIELD(struct exec_config, user, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY, .max = 256,
           .doc = "The user (name or number) to run as, whose home is HOME then; triggerd itself must be root for that",
           .example = "\"nobody\"")},
    {.name = "limits",
     .type = &field_object,
     FIELD(struct exec_config, limits, struct exec_limits, .sub = &exec_limit_fields, .doc = "Limits of its processes",
           .example = "{\"cpu_seconds\": 60}")},
    {.name = "sandbox",
     .type = &field_enum,
     FIELD(struct exec_config, sandbox, int, .default_json = "\"none\"", .words = sandbox_words,
           .doc =
               "strict: by bubblewrap, without a network, with a read-only file system, a /tmp and a /run of its own; "
               "where that does not work the pipeline is refused",
           .example = "\"strict\"")},
    {.name = "writable",
     .type = &field_strings,
     FIELD(struct exec_config, writable, struct strings, .default_json = "[]", .max = 100,
           .doc = "Paths that can be written to within `sandbox: strict`; they must exist",
           .example = "[\"/srv/import/out\"]")},
    {.name = "max_output_bytes",
     .type = &field_int,
     FIELD(struct exec_config, max_output_bytes, int64_t, .default_json = "1048576", .min = 0, .max = 67108864,
           .doc = "How much of standard output, and of standard error, is kept; the rest is dropped with a mark")},
};
const struct field_table exec_fields = {"exec", "Run a program", sizeof(struct exec_config), rows, ARRAY_SIZE(rows)};

static void validate_writable(const struct exec_config *c, const cJSON *node, const char *path, struct issues *issues)
{
    char at[FIELD_PATH_MAX], item_path[FIELD_PATH_MAX];
    const cJSON *list = value_get(node, "writable");
    field_path(at, path, "writable");
    if (c->writable.n > 0 && c->sandbox == EXEC_SANDBOX_NONE)
        issue_add_key(issues, at, list, "only `sandbox: strict` has use for it");
    for (size_t i = 0; i < c->writable.n; i++)
        if (c->writable.items[i][0] != '/')
            issue_add(issues, field_path_index(item_path, at, i),
                      cJSON_IsArray(list) ? cJSON_GetArrayItem(list, (int)i) : list,
                      "expected an absolute path, got \"%s\"", c->writable.items[i]);
}

void exec_validate(const void *config, const cJSON *node, const char *path, struct issues *issues)
{
    const struct exec_config *c = config;
    char at[FIELD_PATH_MAX];
    bool command = value_get(node, "command") != NULL;
    if (command && c->script)
        issue_add_key(issues, field_path(at, path, "script"), value_get(node, "script"),
                      "the step already has `command`; keep one of them");
    else if (!command && !c->script)
        issue_add(issues, path, node, "expected `command` or `script`");
    else if (command && (c->command.n == 0 || !*c->command.items[0]))
        issue_add(issues, field_path(at, path, "command"), value_get(node, "command"),
                  "expected a program and its arguments, got %s", c->command.n ? "an empty name" : "an empty list");
    validate_writable(c, node, path, issues);
    const cJSON *item;
    cJSON_ArrayForEach (item, c->env) {
        char env_path[FIELD_PATH_MAX];
        field_path(env_path, field_path(at, path, "env"), item->string);
        const cJSON *place = value_get(value_get(node, "env"), item->string);
        if (!*item->string || strchr(item->string, '='))
            issue_add_key(issues, env_path, place, "not a variable's name");
        else if (step_env_reserved(item->string))
            issue_add_key(issues, env_path, place, "is set by triggerd itself");
    }
}

const char exec_rules[] =
    "[{'oneOf': [{'required': ['command'], 'properties': {'script': {'type': 'null'}}},"
    "{'required': ['script'], 'properties': {'script': {'type': 'string'}},"
    "'not': {'required': ['command']}}]},"
    "{'anyOf': [{'required': ['sandbox'], 'properties': {'sandbox': {'const': 'strict'}}},"
    "{'properties': {'writable': {'type': 'array', 'maxItems': 0}}}]},"
    "{'properties': {'writable': {'anyOf': [{'type': 'string', 'pattern': '^/'},"
    "{'type': 'array', 'items': {'pattern': '^/'}}]},"
    "'command': {'anyOf': [{'type': 'string', 'minLength': 1},"
    "{'type': 'array', 'minItems': 1, 'items': [{'minLength': 1}]}]},"
    "'env': {'propertyNames': {'pattern': '^[^=]+$', 'not': {'pattern': '^TRIGGERD_(NODE_ID|RUN_ID|STEP_ID"
    "|PIPELINE_ID|ATTEMPT|IDEMPOTENCY_KEY|EVENT_ID|TRIGGER_ID|TAG)$'}}}}}]";

static void add_reference(void *ctx, const char *text)
{
    struct buf *b = ctx;
    if (b->len == 0)
        buf_adds(b, text);
}

static size_t strings_index(struct strings *s, const char *text, size_t len)
{
    size_t i = 0;
    while (i < s->n && (strlen(s->items[i]) != len || strncmp(s->items[i], text, len) != 0))
        i++;
    if (i == s->n) {
        s->items = xreallocarray(s->items, s->n + 1, sizeof(*s->items));
        s->items[s->n++] = xstrndup(text, len);
    }
    return i;
}

/* Each reference becomes a variable, which the shell replaces where it replaces variables. */
static void compile_script(const char *script, const cJSON *node, const char *path, struct exec_program *p,
                           struct issues *issues)
{
    struct buf b = {0};
    struct reference r = {0};
    const char *at = script;
    for (; reference_next(at, &r, NULL) > 0; at = r.start + r.len) {
        buf_add(&b, at, (size_t)(r.start - at));
        buf_printf(&b, "${" SECRET_VARIABLE "%zu}", strings_index(&p->secrets, r.start, r.len) + 1);
    }
    buf_adds(&b, at);
    p->script = buf_steal(&b);
    cJSON *text = node ? NULL : cJSON_CreateString(script);
    reference_check(node ? node : text, path, issues);
    cJSON_Delete(text);
}

/* What a program is called with is seen by everyone on the machine. */
static void warn_of_argument(const struct template *t, const cJSON *node, const char *path, struct issues *issues)
{
    struct buf found = {0};
    if (t)
        template_each_reference(t, add_reference, &found);
    if (found.len > 0)
        issue_warn(issues, path, node, "%s: arguments are seen in the list of processes; `env` is not", found.data);
    buf_fini(&found);
}

int exec_compile(const struct step *step, const cJSON *node, const char *path, void **ret_program,
                 struct issues *issues)
{
    const struct exec_config *c = step->config;
    size_t before = issues->errors;
    struct exec_program *p = xcalloc(1, sizeof(*p));
    char at[FIELD_PATH_MAX], item_path[FIELD_PATH_MAX];
    const cJSON *command = value_get(node, "command");
    field_path(at, path, "command");
    p->args = xcalloc(c->command.n, sizeof(*p->args));
    for (size_t i = 0; i < c->command.n; i++) {
        const cJSON *item = cJSON_IsArray(command) ? cJSON_GetArrayItem(command, (int)i) : command;
        p->args[p->n_args] = template_field(c->command.items[i], TEMPLATE_TEXT | TEMPLATE_SECRETS, item,
                                            field_path_index(item_path, at, i), issues);
        warn_of_argument(p->args[p->n_args++], item, item_path, issues);
    }
    if (c->script)
        compile_script(c->script, value_get(node, "script"), field_path(at, path, "script"), p, issues);
    if (c->cwd)
        p->cwd = template_field(c->cwd, TEMPLATE_TEXT | TEMPLATE_SECRETS, value_get(node, "cwd"),
                                field_path(at, path, "cwd"), issues);
    p->env = xcalloc(c->env ? (size_t)cJSON_GetArraySize(c->env) : 0, sizeof(*p->env));
    const cJSON *item;
    cJSON_ArrayForEach (item, c->env) {
        field_path(item_path, field_path(at, path, "env"), item->string);
        p->env[p->n_env].name = xstrdup(item->string);
        p->env[p->n_env++].value = template_field(item->valuestring, TEMPLATE_TEXT | TEMPLATE_SECRETS,
                                                  value_get(value_get(node, "env"), item->string), item_path, issues);
    }
    if (issues->errors != before) {
        exec_program_free(p);
        return -EINVAL;
    }
    *ret_program = p;
    return 0;
}

void exec_program_free(void *program)
{
    struct exec_program *p = program;
    if (!p)
        return;
    for (size_t i = 0; i < p->n_args; i++)
        template_destroy(p->args[i]);
    free(p->args);
    template_destroy(p->cwd);
    free(p->script);
    for (size_t i = 0; i < p->secrets.n; i++)
        free(p->secrets.items[i]);
    free(p->secrets.items);
    for (size_t i = 0; i < p->n_env; i++) {
        free(p->env[i].name);
        template_destroy(p->env[i].value);
    }
    free(p->env);
    free(p);
}

void exec_each_path(const void *program, void (*fn)(void *ctx, const char *path), void *ctx)
{
    const struct exec_program *p = program;
    struct path_teller t = {fn, ctx};
    for (size_t i = 0; i < p->n_args; i++)
        template_each_path(p->args[i], path_tell, &t);
    if (p->cwd)
        template_each_path(p->cwd, path_tell, &t);
    for (size_t i = 0; i < p->n_env; i++)
        template_each_path(p->env[i].value, path_tell, &t);
}

void exec_each_reference(const void *program, void (*fn)(void *ctx, const char *text), void *ctx)
{
    const struct exec_program *p = program;
    for (size_t i = 0; i < p->n_args; i++)
        template_each_reference(p->args[i], fn, ctx);
    if (p->cwd)
        template_each_reference(p->cwd, fn, ctx);
    for (size_t i = 0; i < p->n_env; i++)
        template_each_reference(p->env[i].value, fn, ctx);
    for (size_t i = 0; i < p->secrets.n; i++)
        fn(ctx, p->secrets.items[i]);
}

int exec_user(const char *user, struct spawn_request *r, struct error *err)
{
    struct passwd pw, *found = NULL;
    char *end = NULL;
    _cleanup_(freep) char *buffer = xmalloc(16384);
    unsigned long number = strtoul(user, &end, 10);
    bool numeric = *user && end && !*end;
    int e =
        numeric ? getpwuid_r((uid_t)number, &pw, buffer, 16384, &found) : getpwnam_r(user, &pw, buffer, 16384, &found);
    if (!found)
        return error_set(err, e ? -e : -ENOENT, "user: there is no user \"%s\"", user);
    int n = 64;
    r->groups = xcalloc((size_t)n, sizeof(*r->groups));
    if (getgrouplist(pw.pw_name, pw.pw_gid, r->groups, &n) < 0) {
        r->groups = xreallocarray(r->groups, (size_t)n, sizeof(*r->groups));
        if (getgrouplist(pw.pw_name, pw.pw_gid, r->groups, &n) < 0)
            n = 0;
    }
    r->n_groups = (size_t)n;
    r->change_user = true;
    r->uid = pw.pw_uid;
    r->gid = pw.pw_gid;
    spawn_request_env(r, "HOME", pw.pw_dir && *pw.pw_dir ? pw.pw_dir : "/");
    return 0;
}
