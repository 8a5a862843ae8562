/* Inputs of a run: default_inputs < what the type gives (outputs passed, output_mapping) < input_mapping <
 * _trigger_event. */
#include "engine/internal.h"

#define META_BYTES 256 /* about as much as there is of it beside the data */

/* {"trigger_id": …, "data": …} as text; the data goes in as it came, digit for digit. */
static void add_trigger_event(struct buf *b, const struct live_trigger *t, const struct occurrence *o, const char *text,
                              const char *event_id, int64_t occurred_ms)
{
    char when[TIME_TEXT_SIZE];
    size_t len = strlen(text);
    time_format(occurred_ms, when);
    buf_reserve(b, len + META_BYTES);
    buf_adds(b, "\"_trigger_event\":{\"trigger_id\":");
    value_print_string(b, t->id, SIZE_MAX);
    buf_adds(b, ",\"trigger_name\":");
    value_print_string(b, t->spec->name, SIZE_MAX);
    buf_adds(b, ",\"event_id\":");
    value_print_string(b, event_id, SIZE_MAX);
    buf_adds(b, ",\"event_type\":");
    value_print_string(b, o->event_type, SIZE_MAX);
    buf_adds(b, ",\"timestamp\":");
    value_print_string(b, when, SIZE_MAX);
    buf_adds(b, ",\"data\":");
    buf_add(b, text, len);
    buf_addc(b, '}');
}

/* Inputs while they are made; `own`: which of the program's referring keys are still the manifest's own. */
struct made {
    const struct trigger_program *program;
    cJSON *inputs;
    bool *own; /* NULL: there are none */
};

static void set_input(struct made *m, const char *key, cJSON *value)
{
    for (size_t i = 0; m->own && i < m->program->n_referring; i++)
        if (streq(m->program->referring[i], key))
            m->own[i] = false;
    value_set(m->inputs, key, value);
}

static char *still_referring(const struct made *m)
{
    cJSON *list = cJSON_CreateArray();
    for (size_t i = 0; m->own && i < m->program->n_referring; i++)
        if (m->own[i])
            cJSON_AddItemToArray(list, cJSON_CreateString(m->program->referring[i]));
    char *text = list->child ? value_print(list) : NULL;
    cJSON_Delete(list);
    return text;
}

static bool apply_mapping(struct made *made, const cJSON *data, char **ret_error)
{
    const struct trigger_program *p = made->program;
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
            set_input(made, m->key, value);
    }
    return true;
}

char *mapping_inputs(const struct live_trigger *t, const struct occurrence *o, const char *text, const char *event_id,
                     char **ret_referring, char **ret_error)
{
    cJSON *inputs = cJSON_Duplicate(t->program->inputs, true);
    if (!inputs)
        inputs = cJSON_CreateObject();
    struct made made = {t->program, inputs, NULL};
    _cleanup_(freep) bool *own = t->program->n_referring ? xmalloc(t->program->n_referring * sizeof(bool)) : NULL;
    for (size_t i = 0; own && i < t->program->n_referring; i++)
        own[i] = true;
    made.own = own;
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
        set_input(&made, key, item);
        free(key);
    }
    cJSON_Delete(given);
    if (!apply_mapping(&made, o->data, ret_error)) {
        cJSON_Delete(inputs);
        return NULL;
    }
    cJSON_DeleteItemFromObjectCaseSensitive(inputs, "_trigger_event");
    struct buf b = {0};
    if (inputs->child) {
        _cleanup_(freep) char *printed = value_print(inputs);
        buf_add(&b, printed, strlen(printed) - 1);
        buf_addc(&b, ',');
    } else {
        buf_addc(&b, '{');
    }
    add_trigger_event(&b, t, o, text, event_id, o->occurred_ms ? o->occurred_ms : engine_wall(t->engine));
    buf_addc(&b, '}');
    cJSON_Delete(inputs);
    *ret_referring = own ? still_referring(&made) : NULL;
    return buf_steal(&b);
}
