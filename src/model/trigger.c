#include "model/trigger.h"

#include "base/util.h"

#include <assert.h>
#include <errno.h>

static const char *const cooldown_words[] = {"skip", "latest", "queue", NULL};
static const char *const concurrency_words[] = {"queue", "skip", "replace", NULL};
static const char *const pause_words[] = {"skip", "hold", NULL};
static const char *const interrupt_words[] = {"retry", "fail", NULL};

const char *const trigger_reserved_ids[] = {"events", "stats", "emit", "type", "pipeline", NULL};

#define YEAR 31536000.0

static const struct field trigger_rows[] = {
    {.name = "id",
     .type = &field_id,
     FIELD(struct trigger, id, char *, .change = CHANGE_TRIGGER,
           .doc = "The trigger's id; without one, its name as a slug", .example = "\"process-new-csv-files\"")},
    {.name = "name",
     .type = &field_string,
     FIELD(struct trigger, name, char *, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY, .max = 200,
           .doc = "What people call it", .example = "\"Process New CSV Files\"")},
    {.name = "description",
     .type = &field_string,
     FIELD(struct trigger, description, char *, .flags = FIELD_NULL_OK, .max = 10000, .doc = "What it is for")},
    {.name = "pipeline_id",
     .type = &field_string,
     FIELD(struct trigger, pipeline_id, char *, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY, .max = 200,
           .doc = "The pipeline that it runs; one that does not exist is a condition, not an error",
           .example = "\"pipe_data_import\"")},
    {.name = "trigger_type",
     .type = &field_string,
     FIELD(struct trigger, trigger_type, char *, .flags = FIELD_REQUIRED, .change = CHANGE_TRIGGER,
           .doc = "What kind of event it waits for", .example = "\"custom\"")},
    {.name = "config",
     .type = &field_json_object,
     FIELD(struct trigger, config_text, char *, .flags = FIELD_REQUIRED, .doc = "The settings of its type")},
    {.name = "input_mapping",
     .type = &field_string_map,
     FIELD(struct trigger, input_mapping, cJSON *, .flags = FIELD_NULL_OK,
           .doc = "Inputs of the pipeline from paths in the event's data; here or in config, not both",
           .example = "{\"file_path\": \"$.path\"}")},
    {.name = "enabled",
     .type = &field_bool,
     FIELD(struct trigger, enabled, bool, .default_json = "true", .doc = "false: shown, but never fires")},
    {.name = "max_concurrent",
     .type = &field_int,
     FIELD(struct trigger, max_concurrent, int64_t, .default_json = "1", .min = 1, .max = 100000,
           .doc = "How many of its runs may be under way at once")},
    {.name = "concurrency_policy",
     .type = &field_enum,
     FIELD(struct trigger, concurrency_policy, int, .default_json = "\"queue\"", .words = concurrency_words,
           .doc = "What happens past max_concurrent: wait in order, be held back, or cancel the oldest run")},
    {.name = "concurrency_key",
     .type = &field_string,
     FIELD(struct trigger, concurrency_key, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY, .max = 4096,
           .doc = "A path: max_concurrent holds for each value that it finds in the event's data",
           .example = "\"$.customer\"")},
    {.name = "queue_limit",
     .type = &field_int,
     FIELD(struct trigger, queue_limit, int64_t, .default_json = "10000", .min = 1, .max = 10000000,
           .doc = "How many events may wait; past it sources are slowed down and emits answer 429")},
    {.name = "cooldown_seconds",
     .type = &field_seconds,
     FIELD(struct trigger, cooldown_seconds, double, .default_json = "0", .min = 0, .max = YEAR,
           .doc = "The least time between two fires")},
    {.name = "cooldown_policy",
     .type = &field_enum,
     FIELD(struct trigger, cooldown_policy, int, .default_json = "\"skip\"", .words = cooldown_words,
           .doc = "What happens within the cooldown: held back, only the latest fires at its end, or all wait their "
                  "turn (the default of message_queue)")},
    {.name = "default_inputs",
     .type = &field_json_object,
     FIELD(struct trigger, default_inputs, char *, .default_json = "{}", .flags = FIELD_NULL_OK | FIELD_REFERS,
           .doc = "Inputs that the event does not give; references to secrets (${env:NAME}, ${file:PATH}) in them are "
                  "replaced when a step starts",
           .example = "{\"mode\": \"batch\"}")},
    {.name = "pause_policy",
     .type = &field_enum,
     FIELD(struct trigger, pause_policy, int, .default_json = "\"skip\"", .words = pause_words,
           .doc = "What becomes of events while it is paused: held back for good, or kept until resume")},
    {.name = "allow_loops",
     .type = &field_bool,
     FIELD(struct trigger, allow_loops, bool, .default_json = "false",
           .doc = "Fire also when the chain of events already went through this trigger")},
    {.name = "failure_threshold",
     .type = &field_int,
     FIELD(struct trigger, failure_threshold, int64_t, .default_json = "0", .min = 0, .max = 1000000,
           .doc = "Runs that may fail in a row before the trigger goes into error until resumed; 0: any number")},
    {.name = "storm_limit",
     .type = &field_int,
     FIELD(struct trigger, storm_limit, int64_t, .default_json = "1000", .min = 1, .max = 10000000,
           .doc = "Fires within 2 s from events made inside triggerd, past which the trigger goes into error")},
    {.name = "on_interrupt",
     .type = &field_enum,
     FIELD(struct trigger, on_interrupt, int, .default_json = "\"retry\"", .words = interrupt_words,
           .doc = "What becomes of a run that a crash of the daemon interrupted")},
    {.name = "max_interruptions",
     .type = &field_int,
     FIELD(struct trigger, max_interruptions, int64_t, .default_json = "5", .min = 0, .max = 1000000,
           .doc = "How often a run may be interrupted before its event fails")},
    {.name = "dedup_window_seconds",
     .type = &field_seconds,
     FIELD(struct trigger, dedup_window_seconds, double, .default_json = "86400", .min = 0, .max = YEAR,
           .doc = "How long an idempotency key is remembered")},
};

const struct field_table trigger_fields = {"trigger", "A trigger runs a pipeline when something happens",
                                           sizeof(struct trigger), trigger_rows, ARRAY_SIZE(trigger_rows)};

static const struct field filter_rows[] = {{
    .name = "filter",
    .type = &field_json_object,
    .doc = "An event pattern that the event's data must match (triggerctl match --help)",
    .example = "{\"status\": [\"new\"]}",
}};

const struct field_table trigger_filter_fields = {"filter", "What an event must be like", 0, filter_rows,
                                                  ARRAY_SIZE(filter_rows)};

char *trigger_slug(const char *name)
{
    struct buf b = {0};
    bool gap = false;
    for (const char *p = name; *p && b.len < 63; p++) {
        char c = *p;
        if (c >= 'A' && c <= 'Z')
            c = (char)(c - 'A' + 'a');
        bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!plain && !(b.len > 0 && !gap && (c == '_' || c == '.'))) {
            gap = true;
            continue;
        }
        if (gap && b.len > 0)
            buf_addc(&b, '-');
        gap = false;
        buf_addc(&b, c);
    }
    while (b.len > 0 && strchr("_.-", b.data[b.len - 1]))
        b.data[--b.len] = '\0';
    if (b.len > 63)
        b.data[b.len = 63] = '\0';
    if (b.len > 0)
        return buf_steal(&b);
    buf_fini(&b);
    return NULL;
}

/* The id, from `id` or the name. */
static void settle_id(struct trigger *t, const cJSON *doc, struct issues *issues)
{
    const cJSON *name_node = value_get(doc, "name");
    bool explicit_id = t->id != NULL;
    if (!t->id && t->name) {
        t->id = trigger_slug(t->name);
        if (!t->id) {
            issue_add(issues, "name", name_node, "gives no id (it has no letter or digit); add an `id`");
            return;
        }
    }
    for (size_t i = 0; t->id && trigger_reserved_ids[i]; i++)
        if (streq(t->id, trigger_reserved_ids[i]))
            issue_add(issues, explicit_id ? "id" : "name", explicit_id ? value_get(doc, "id") : name_node,
                      "\"%s\" is a word of the API and cannot be an id; %s", t->id,
                      explicit_id ? "choose another" : "add an `id`");
}

/* The config by its type, with `filter` and `input_mapping`, which all types share. */
static void parse_config(struct trigger *t, const cJSON *doc, struct issues *issues)
{
    const cJSON *config = value_get(doc, "config");
    static const char *const shared[] = {"input_mapping", "filter", NULL};
    static const char *const shared_no_filter[] = {"input_mapping", NULL};
    t->config = xcalloc(1, t->kind->config->size);
    enum fields_wrong wrong;
    fields_read(t->kind->config, config, t->kind->has_filter ? shared : shared_no_filter, t->config, "config", issues,
                &wrong);
    if (wrong != FIELDS_BASIC && t->kind->validate)
        t->kind->validate(t->config, config, "config", issues);
    const cJSON *mapping = value_get(config, "input_mapping");
    t->config_mapping = mapping != NULL;
    if (!mapping || cJSON_IsNull(mapping))
        return;
    if (t->input_mapping) {
        issue_add_key(issues, "config.input_mapping", mapping, "also given at the top; keep one of them");
        return;
    }
    const struct field *row = fields_find(&trigger_fields, "input_mapping");
    row->type->parse(row, mapping, &t->input_mapping, "config.input_mapping", issues);
}

static void settle_type(struct trigger *t, const cJSON *doc, const struct kind *const *kinds, struct issues *issues)
{
    t->kind = kind_find(kinds, t->trigger_type);
    if (t->kind)
        return;
    struct buf b = {0};
    for (size_t i = 0; kinds[i]; i++)
        buf_printf(&b, "%s%s", i ? ", " : "", kinds[i]->name);
    char got[64];
    const cJSON *node = value_get(doc, "trigger_type");
    issue_add(issues, "trigger_type", node, "expected one of %s, got %s", b.data ? b.data : "nothing",
              value_brief(node, got, sizeof(got)));
    buf_fini(&b);
}

/* A key on the wrong side of `config` is not like another one there: it is told where it belongs. */
static void place_keys(const struct kind *kind, struct issues *issues, size_t first)
{
    for (size_t i = first; i < issues->n; i++) {
        struct issue *is = &issues->items[i];
        const char *name = is->at_key && is->node && is->node->string ? is->node->string : "";
        bool of_trigger = fields_find(&trigger_fields, name) != NULL;
        bool of_config = fields_find(kind->config, name) || (kind->has_filter && streq(name, "filter"));
        const char *dot = strchr(is->path, '.');
        bool at_top = streq(is->path, name),
             in_config = dot && dot - is->path == 6 && memcmp(is->path, "config", 6) == 0 && streq(dot + 1, name);
        if (at_top && of_config && !of_trigger) {
            free(is->message);
            is->message = xasprintf("unknown key; did you mean \"config.%s\"?", name);
        } else if (in_config && of_trigger && !of_config && !streq(name, "input_mapping")) {
            free(is->message);
            is->message = xasprintf("unknown key; did you mean \"%s\", beside config?", name);
        }
    }
}

struct trigger *trigger_read(const cJSON *doc, const struct kind *const *kinds, struct issues *issues)
{
    static const char *const also[] = {"kind", NULL};
    size_t first = issues->n;
    struct trigger *t = xcalloc(1, sizeof(*t));
    t->refs = 1;
    fields_parse(&trigger_fields, doc, also, t, "", issues);
    settle_id(t, doc, issues);
    if (t->trigger_type)
        settle_type(t, doc, kinds, issues);
    if (t->kind && t->config_text)
        parse_config(t, doc, issues);
    if (t->kind)
        place_keys(t->kind, issues, first);
    if (t->kind && t->kind->lossless && !value_get(doc, "cooldown_policy"))
        t->cooldown_policy = COOLDOWN_QUEUE;
    return t;
}

int trigger_parse(const cJSON *doc, const struct kind *const *kinds, struct trigger **ret, struct issues *issues)
{
    size_t before = issues->errors;
    struct trigger *t = trigger_read(doc, kinds, issues);
    if (issues->errors != before) {
        trigger_unref(t);
        return -EINVAL;
    }
    *ret = t;
    return 0;
}

struct trigger *trigger_ref(struct trigger *t)
{
    t->refs++;
    return t;
}

void trigger_unref(struct trigger *t)
{
    if (!t || --t->refs > 0)
        return;
    if (t->config) {
        assert(t->kind); /* by which parse_config() made it */
        fields_fini(t->kind->config, t->config);
        free(t->config);
    }
    fields_fini(&trigger_fields, t);
    free(t);
}

bool trigger_equal(const struct trigger *a, const struct trigger *b)
{
    return fields_equal(&trigger_fields, a, b);
}

enum field_change trigger_compare(const struct trigger *a, const struct trigger *b, const char **names, size_t cap,
                                  size_t *ret_n)
{
    enum field_change cost = fields_compare(&trigger_fields, a, b, NULL, names, cap, ret_n);
    if (a->kind != b->kind)
        return CHANGE_TRIGGER;
    enum field_change config = fields_compare(a->kind->config, a->config, b->config, NULL, NULL, 0, NULL);
    return MAX(cost, config);
}
