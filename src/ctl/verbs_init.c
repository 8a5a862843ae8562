/* init: a manifest to start from, made of the field tables. */
#include "ctl/args.h"
#include "ctl/print.h"
#include "manifest/kinds.h"
#include "manifest/yaml_print.h"
#include "model/trigger.h"

#include <stdio.h>

#define NAMES_MAX 64
#define COLUMNS 110

#ifndef TRIGGERD_SCHEMA
#define TRIGGERD_SCHEMA "/usr/share/triggerd/schemas/manifest.json"
#endif

/* What a manifest of a type shows beyond what its table demands. */
static const struct hint {
    const char *type;
    const char *show;    /* a key of config to set though it is optional; NULL: none */
    const char *mapping; /* `input: path` */
    const char *filter;  /* an example; NULL: none */
    bool fits;           /* only keys that go with those that are set; the others are told of */
} hints[] = {
    {"custom", NULL, "user_id: $.user.id", "{action: [signup]}", false},
    {"file_watch", "events", "file_path: $.path", NULL, false},
    {"message_queue", "queue_name", "payload: $.body", "{body: {kind: [order]}}", true},
    {"mcp_event", NULL, "order_id: $.id", "{table: [orders]}", false},
    {"pipeline_completed", NULL, "source_run: $.source_run_id", NULL, false},
    {"schedule", "cron", "when: $.scheduled_at", NULL, false},
    {"webhook", NULL, "payload: $.body", "{body: {ref: [refs/heads/main]}}", false},
};

static const char mcp_server_start[] =
    "# yaml-language-server: $schema=" TRIGGERD_SCHEMA "\n"
    "# An MCP server: mcp_event triggers hear what it sends, mcp steps call its tools. triggerctl explain mcp_server\n"
    "# tells the keys.\n"
    "kind: mcp_server\n"
    "name: my_server\n"
    "# A program that speaks over its standard input and output; or url: https://… for one over HTTP.\n"
    "command: npx\n"
    "args: [-y, \"@modelcontextprotocol/server-everything\"]\n"
    "# env: {TOKEN: \"${env:MY_TOKEN}\"}\n"
    "# subscribe: [\"demo://resource/1\"]\n"
    "# log_level: info\n"
    "timeout_seconds: 30\n";
static const char pipeline_start[] =
    "# yaml-language-server: $schema=" TRIGGERD_SCHEMA "\n"
    "# A pipeline: steps that run when a trigger fires. triggerctl explain pipeline, step, exec … tell the keys.\n"
    "kind: pipeline\n"
    "id: my_pipeline\n"
    "# What the inputs must look like, checked before a run starts (JSON Schema).\n"
    "inputs:\n"
    "  type: object\n"
    "  # required: [file_path]\n"
    "steps:\n"
    "  # Steps without `needs` start at once, side by side.\n"
    "  - id: first\n"
    "    exec:\n"
    "      # A program and its arguments, never seen by a shell. {{ path }} is filled in.\n"
    "      command: [echo, \"run {{ $.run.id }}\"]\n"
    "    # timeout_seconds: 60\n"
    "    # retry: {max_attempts: 3}\n"
    "  - id: second\n"
    "    needs: [first]\n"
    "    # Runs when the path finds something other than false or null.\n"
    "    # if: $.steps.first.output.stdout\n"
    "    exec:\n"
    "      # A script for /bin/sh -eu; inputs are INPUT_<NAME> variables, and a JSON object on standard input.\n"
    "      script: |\n"
    "        cat\n"
    "  # Another kind of step: a request; its output is the answer (triggerctl explain http).\n"
    "  # - id: tell\n"
    "  #   needs: [second]\n"
    "  #   http: {url: \"https://example.org/done\", body: {run: \"{{ $.run.id }}\"}}\n"
    "# What the run gives, from its steps.\n"
    "outputs:\n"
    "  result: $.steps.second.output\n"
    "# timeout_seconds: 600\n"
    "# max_concurrent: 4\n";

static const struct hint *hint_of(const char *type)
{
    static const struct hint none = {.mapping = "data: $"};
    for (size_t i = 0; i < ARRAY_SIZE(hints); i++)
        if (streq(hints[i].type, type))
            return &hints[i];
    return &none;
}

/* A key with its meaning above it; a key that need not be there is commented out. */
static void add_key(struct buf *b, const struct field *f, const char *indent, bool set)
{
    const char *json = set && f->example ? f->example : f->default_json ? f->default_json : f->example;
    cJSON *value = NULL;
    if (!json || value_parse(json, strlen(json), &value, NULL) < 0)
        return;
    struct buf text = {0}, prefix = {0};
    yaml_print_flow(&text, value);
    buf_printf(&prefix, "%s# ", indent);
    text_wrap(b, prefix.data, f->doc, COLUMNS);
    buf_printf(b, "%s%s%s: %s\n", indent, set ? "" : "# ", f->name, text.data);
    buf_fini(&prefix);
    buf_fini(&text);
    cJSON_Delete(value);
}

static bool is_set(const struct field *f, const struct hint *hint)
{
    return f->flags & FIELD_REQUIRED || streq(f->name, hint->show);
}

static void set_example(cJSON *config, const struct field *f, bool set)
{
    const char *json = set && f->example ? f->example : f->default_json ? f->default_json : f->example;
    cJSON *value = NULL;
    if (json && value_parse(json, strlen(json), &value, NULL) == 0)
        value_set(config, f->name, value);
}

/* Would the manifest be valid with this key beside those that are set? */
static bool goes_with(const struct kind *kind, const struct hint *hint, const struct field *f)
{
    const struct field_table *t = kind->config;
    _cleanup_(cjson_deletep) cJSON *config = cJSON_CreateObject();
    struct issues issues = ISSUES_INIT;
    void *parsed = xcalloc(1, t->size);
    for (size_t i = 0; i < t->n; i++)
        if (is_set(&t->fields[i], hint))
            set_example(config, &t->fields[i], true);
    set_example(config, f, is_set(f, hint));
    if (fields_parse(t, config, NULL, parsed, "", &issues) && kind->validate)
        kind->validate(parsed, config, "", &issues);
    bool valid = issues.errors == 0;
    fields_fini(t, parsed);
    free(parsed);
    issues_fini(&issues);
    return valid;
}

static void add_config(struct buf *b, const struct kind *kind)
{
    const struct hint *hint = hint_of(kind->name);
    const struct field_table *t = kind->config;
    buf_adds(b, "config:\n");
    for (size_t i = 0; i < t->n; i++)
        if (!hint->fits || goes_with(kind, hint, &t->fields[i]))
            add_key(b, &t->fields[i], "  ", is_set(&t->fields[i], hint));
    if (hint->fits)
        buf_printf(b, "  # Other settings have more keys: triggerctl explain %s\n", kind->name);
    if (kind->has_filter && hint->filter)
        buf_printf(b, "  # Only events whose data match this pattern.\n  # filter: %s\n", hint->filter);
    buf_printf(b, "  # Inputs of the pipeline from the event's data.\n  input_mapping:\n    %s\n", hint->mapping);
}

static void add_settings(struct buf *b)
{
    static const char *const skip[] = {"id", "name", "pipeline_id", "trigger_type", "config", "input_mapping"};
    for (size_t i = 0; i < trigger_fields.n; i++) {
        bool skipped = false;
        for (size_t k = 0; k < ARRAY_SIZE(skip); k++)
            skipped = skipped || streq(trigger_fields.fields[i].name, skip[k]);
        if (!skipped)
            add_key(b, &trigger_fields.fields[i], "", false);
    }
}

/* `file_watch` as one would say it in a name: `My file watch`. */
static char *name_of(const char *type)
{
    bool mcp = strncmp(type, "mcp_", 4) == 0;
    char *name = xasprintf("My %s%s", mcp ? "MCP " : "", mcp ? type + 4 : type);
    for (char *p = name; *p; p++)
        if (*p == '_')
            *p = ' ';
    return name;
}

static void print_trigger(const struct kind *kind)
{
    _cleanup_(freep) char *name = name_of(kind->name), *slug = trigger_slug(name);
    struct buf b = {0};
    buf_printf(&b,
               "# yaml-language-server: $schema=%s\n"
               "# %s. What is commented out is optional, and shows its default.\n"
               "kind: trigger\n"
               "# Its id is the name as a slug: %s; an `id` of its own can be given instead.\n"
               "name: %s\n"
               "pipeline_id: my_pipeline\n"
               "trigger_type: %s\n",
               TRIGGERD_SCHEMA, kind->config->doc, slug, name, kind->name);
    add_config(&b, kind);
    add_settings(&b);
    fputs(b.data, stdout);
    buf_fini(&b);
}

int verb_init(struct ctl *c, const struct args *a)
{
    (void)c;
    const char *names[NAMES_MAX] = {"pipeline", "mcp_server"};
    const struct kind *const *kinds = manifest_source_kinds();
    const struct kind *kind = kind_find(kinds, a->words[0]);
    size_t n = 2;
    if (kind) {
        print_trigger(kind);
        return CTL_OK;
    }
    if (streq(a->words[0], "pipeline")) {
        fputs(pipeline_start, stdout);
        return CTL_OK;
    }
    if (streq(a->words[0], "mcp_server")) {
        fputs(mcp_server_start, stdout);
        return CTL_OK;
    }
    for (size_t i = 0; kinds[i] && n < NAMES_MAX; i++)
        names[n++] = kinds[i]->name;
    return args_refuse(a, "there is no type \"%s\"; did you mean \"%s\"?", a->words[0],
                       nearest_name(a->words[0], names, n));
}
