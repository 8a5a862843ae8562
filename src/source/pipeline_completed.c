/* pipeline_completed: the end of another pipeline's run, of our own or reported from outside. A passive type: the
 * pipeline's id is the channel; a glob listens to many.
 *
 * Event data: source_pipeline_id, source_run_id, status (success, failed, timed_out, cancelled), outputs, error. */
#include "base/util.h"
#include "lang/glob.h"
#include "lang/path.h"
#include "source/list.h"

#include <stdio.h>

enum wanted_status { WANT_SUCCESS, WANT_FAILED, WANT_ANY };
static const char *const status_words[] = {"success", "failed", "any", NULL};

struct config {
    struct strings source_pipeline_id;
    int status;
    bool pass_outputs;
    cJSON *output_mapping; /* NULL: none */
};

static const struct field rows[] = {
    {.name = "source_pipeline_id",
     .type = &field_strings,
     FIELD(struct config, source_pipeline_id, struct strings, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY, .max = 256,
           .change = CHANGE_SOURCE, .doc = "The pipeline whose runs are waited for: an id, a glob, or a list of them",
           .example = "\"pipe_data_fetch\"")},
    {.name = "status",
     .type = &field_enum,
     FIELD(struct config, status, int, .default_json = "\"success\"", .words = status_words,
           .doc = "Which ends count: success; failed (timed out ones too); any (those and cancelled ones)")},
    {.name = "pass_outputs",
     .type = &field_bool,
     FIELD(struct config, pass_outputs, bool, .default_json = "false",
           .doc = "Give all outputs as inputs, where there is no output_mapping")},
    {.name = "output_mapping",
     .type = &field_string_map,
     FIELD(struct config, output_mapping, cJSON *, .flags = FIELD_NULL_OK,
           .doc = "Inputs from outputs, as {target: source}; the source is a key or a path in the outputs",
           .example = "{\"raw_data\": \"processed_data\"}")},
};
static const struct field_table table = {"pipeline_completed", "The end of another pipeline's run",
                                         sizeof(struct config), rows, ARRAY_SIZE(rows)};

static void validate(const void *config, const cJSON *node, const char *path, struct issues *issues)
{
    const struct config *c = config;
    const cJSON *ids = value_get(node, "source_pipeline_id");
    char at[FIELD_PATH_MAX], item_path[FIELD_PATH_MAX];
    field_path(at, path, "source_pipeline_id");
    for (size_t i = 0; i < c->source_pipeline_id.n; i++) {
        const cJSON *item = cJSON_IsArray(ids) ? cJSON_GetArrayItem(ids, (int)i) : ids;
        const char *where = cJSON_IsArray(ids) ? field_path_index(item_path, at, i) : at;
        const char *text = c->source_pipeline_id.items[i];
        struct error err = ERROR_INIT;
        _cleanup_(glob_destroyp) struct glob *g = NULL;
        if (!*text)
            issue_add(issues, where, item, "expected a pipeline id or a glob, got \"\"");
        else if (glob_create(text, 0, &g, &err) < 0)
            issue_add(issues, where, item, "not a glob: %s", err.message);
    }
    const cJSON *item;
    cJSON_ArrayForEach (item, c->output_mapping) {
        const cJSON *place = value_get(value_get(node, "output_mapping"), item->string);
        _cleanup_(path_destroyp) struct path *p = NULL;
        struct error err = ERROR_INIT;
        field_path(item_path, field_path(at, path, "output_mapping"), item->string);
        if (streq(item->string, "_trigger_event"))
            issue_warn(issues, item_path, place, "is always set by triggerd; this has no effect");
        else if (path_compile(item->valuestring, PATH_MAPPING, &p, &err) < 0)
            issue_add(issues, item_path, place, "not a key or path: %s", err.message);
    }
}

static const char rules[] = "[{'properties': {'source_pipeline_id': {'anyOf': ["
                            "{'type': 'string', 'minLength': 1},"
                            "{'type': 'array', 'items': {'minLength': 1}}]}}}]";

static size_t channels(const void *config, struct channel_key *ret, size_t cap)
{
    const struct config *c = config;
    for (size_t i = 0; i < c->source_pipeline_id.n && i < cap; i++) {
        const char *text = c->source_pipeline_id.items[i];
        ret[i] = (struct channel_key){.text = text, .glob = glob_has_meta(text)};
    }
    return c->source_pipeline_id.n;
}

static bool accepts(const void *config, const cJSON *data, char *why, size_t why_cap)
{
    const struct config *c = config;
    const char *status = value_get_string(data, "status");
    bool failed = streq(status, "failed") || streq(status, "timed_out");
    if (c->status == WANT_ANY || (c->status == WANT_FAILED ? failed : streq(status, "success")))
        return true;
    if (why)
        snprintf(why, why_cap, "status: expected %s, found %s", status_words[c->status], status ? status : "nothing");
    return false;
}

/* One input of output_mapping: the source is a key of the outputs, or a path in them. Borrowed or, in *ret_owned,
 * owned. */
static cJSON *mapped(const cJSON *outputs, const char *source, char **ret_error)
{
    const cJSON *direct = value_get(outputs, source);
    if (direct)
        return cJSON_Duplicate(direct, true);
    _cleanup_(path_destroyp) struct path *p = NULL;
    struct error err = ERROR_INIT;
    cJSON *value = NULL;
    if (path_compile(source, PATH_MAPPING, &p, &err) < 0 || path_value(p, outputs, &value, &err) < 0)
        *ret_error = xasprintf("output_mapping: %s: %s", source, err.message);
    return value;
}

static cJSON *inputs(const void *config, const cJSON *data, char **ret_error)
{
    const struct config *c = config;
    const cJSON *outputs = value_get(data, "outputs");
    if (!cJSON_IsObject(outputs) || (!c->pass_outputs && !c->output_mapping))
        return NULL;
    if (!c->output_mapping)
        return cJSON_Duplicate(outputs, true);
    cJSON *given = cJSON_CreateObject();
    const cJSON *item;
    cJSON_ArrayForEach (item, c->output_mapping) {
        cJSON *value = mapped(outputs, item->valuestring, ret_error);
        if (value)
            value_set(given, item->string, value);
        if (*ret_error)
            break;
    }
    return given;
}

const struct source_type source_pipeline_completed = {
    .kind = {.name = "pipeline_completed", .config = &table, .has_filter = true, .validate = validate, .rules = rules},
    .channels = channels,
    .accepts = accepts,
    .inputs = inputs,
};
