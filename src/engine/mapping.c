/* Inputs of a run: default_inputs < what the type gives (outputs passed, output_mapping) < input_mapping <
 * _trigger_event. */
#include "engine/internal.h"

/* {"trigger_id": …, "data": …} as text; the data goes in as it came, digit for digit. */
static void add_trigger_event(struct buf *b, const struct live_trigger *t, const struct occurrence *o, const char *text,
                              const char *event_id, int64_t occurred_ms)
{
    char when[TIME_TEXT_SIZE];
    time_format(occurred_ms, when);
    cJSON *meta = cJSON_CreateObject();
    cJSON_AddStringToObject(meta, "trigger_id", t->id);
    cJSON_AddStringToObject(meta, "trigger_name", t->spec->name);
    cJSON_AddStringToObject(meta, "event_id", event_id);
    cJSON_AddStringToObject(meta, "event_type", o->event_type);
    cJSON_AddStringToObject(meta, "timestamp", when);
    _cleanup_(freep) char *printed = value_print(meta);
    cJSON_Delete(meta);
    buf_adds(b, "\"_trigger_event\":");
    buf_add(b, printed, strlen(printed) - 1);
    buf_adds(b, ",\"data\":");
    buf_adds(b, text);
    buf_addc(b, '}');
}

static bool apply_mapping(const struct trigger_program *p, const cJSON *data, cJSON *inputs, char **ret_error)
{
    for (size_t i = 0; i < p->n_mappings; i++) {
        const struct mapping *m = &p->mappings[i];
        cJSON *value = NULL;
        struct error err = ERROR_INIT;
        int r = path_value(m->path, data, &value, &err);
        if (r < 0) {
            *ret_error = xasprintf("input_mapping.%s: %s: %s", m->key, path_text(m->path), err.message);
            return false;
        }
        if (r > 0)
            value_set(inputs, m->key, value);
    }
    return true;
}

char *mapping_inputs(const struct live_trigger *t, const struct occurrence *o, const char *text, const char *event_id,
                     char **ret_error)
{
    cJSON *inputs = cJSON_Duplicate(t->program->inputs, true);
    if (!inputs)
        inputs = cJSON_CreateObject();
    /* A test carries data of the caller's own making; the type's inputs apply to it as to any other. */
    char *type_error = NULL;
    cJSON *given = t->type->inputs ? t->type->inputs(t->spec->config, o->data, &type_error) : NULL;
    if (type_error) {
        cJSON_Delete(given);
        cJSON_Delete(inputs);
        *ret_error = type_error;
        return NULL;
    }
    while (given && given->child) {
        cJSON *item = cJSON_DetachItemViaPointer(given, given->child);
        char *key = xstrdup(item->string);
        value_set(inputs, key, item);
        free(key);
    }
    cJSON_Delete(given);
    if (!apply_mapping(t->program, o->data, inputs, ret_error)) {
        cJSON_Delete(inputs);
        return NULL;
    }
    cJSON_DeleteItemFromObjectCaseSensitive(inputs, "_trigger_event");
    struct buf b = {0};
    _cleanup_(freep) char *printed = value_print(inputs);
    buf_add(&b, printed, strlen(printed) - 1);
    if (inputs->child)
        buf_addc(&b, ',');
    add_trigger_event(&b, t, o, text, event_id, o->occurred_ms ? o->occurred_ms : engine_wall(t->engine));
    buf_addc(&b, '}');
    cJSON_Delete(inputs);
    return buf_steal(&b);
}
