#include "api/shape.h"

#include "api/api.h"
#include "api/changes.h"
#include "manifest/kinds.h"

#include <ctype.h>

#define SHAPE_ADDRESS(word) &shape_##word,
static const struct shape *const shapes[] = {SHAPES(SHAPE_ADDRESS)};

SHAPE(Problem, "What went wrong (RFC 9457)", {"type", "string", NULL}, {"title", "string", "The status in words"},
      {"status", "integer", "The HTTP status"}, {"detail", "string", "What is wrong"},
      {"errors", "-[ProblemError]", "Each error at its place; always there with 400 and 422"});
SHAPE(ProblemError, "One of the errors", {"path", "string", "Of the member, parameter or header; empty: all of it"},
      {"message", "string", NULL}, {"file", "-string", "Of many manifests, the one"}, {"line", "-integer", NULL},
      {"column", "-integer", NULL});

SHAPE(DaemonStatus, "The daemon", {"version", "string", NULL}, {"ready", "boolean", NULL},
      {"enabled", "boolean", "False: nothing fires"}, {"store_writable", "boolean", NULL}, {"pid", "integer", NULL},
      {"state_dir", "string", NULL},
      {"cgroup", "string", "Where steps have control groups of their own, or why they have none"});

/* ---- words ---- */

static const char *one_trigger_status(int i)
{
    return i <= TRIGGER_DISABLED ? trigger_status_name((enum trigger_status)i) : NULL;
}

static const char *one_event_status(int i)
{
    return i <= EVENT_CANCELLED ? event_status_name((enum event_status)i) : NULL;
}

static const char *one_decision(int i)
{
    return i < DECISION_N ? decision_name((enum decision)i) : NULL;
}

static const char *one_run_status(int i)
{
    return i <= RUN_TIMED_OUT ? run_status_name((enum run_status)i) : NULL;
}

static const char *one_step_status(int i)
{
    return i <= STEP_SKIPPED ? step_status_name((enum step_status)i) : NULL;
}

static const char *one_trigger_type(int i)
{
    return manifest_source_kinds()[i] ? manifest_source_kinds()[i]->name : NULL;
}

static const char *one_kind(int i)
{
    return i < RESOURCE_KINDS ? resource_kind_name((enum resource_kind)i) : NULL;
}

static const char *one_outcome(int i)
{
    static const char *const words[] = {"success", "completed", "failed", "timed_out", "cancelled", NULL};
    return words[i];
}

static const char *one_change(int i)
{
    static const char *const words[] = {"unchanged", "created", "changed", "deleted", NULL};
    return words[i];
}

static const char *one_condition_status(int i)
{
    static const char *const words[] = {"True", "False", "Unknown", NULL};
    return words[i];
}

static const struct words {
    const char *name, *doc;
    const char *(*word)(int i);
} words[] = {
    {"TriggerStatus", "The status of a trigger", one_trigger_status},
    {"TriggerType", "A type of trigger", one_trigger_type},
    {"EventStatus", "The status of an event", one_event_status},
    {"Decision", "What became of an event at a trigger", one_decision},
    {"RunStatus", "The status of a run", one_run_status},
    {"StepStatus", "The status of a step in a run", one_step_status},
    {"ConditionStatus", "The status of a condition", one_condition_status},
    {"ResourceKind", "A kind of resource", one_kind},
    {"CompletedStatus", "How a run ended; `completed` is `success`, as the status of a run has it", one_outcome},
    {"ChangeKind", "A kind of what changes", change_kind_name},
    {"ChangeResult", "What became of a resource", one_change},
};

static cJSON *words_schema(const struct words *w)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "type", "string");
    cJSON_AddStringToObject(o, "description", w->doc);
    cJSON *list = cJSON_AddArrayToObject(o, "enum");
    for (int i = 0; w->word(i); i++)
        cJSON_AddItemToArray(list, cJSON_CreateString(w->word(i)));
    return o;
}

/* ---- from a manifest's schema (draft-07) to what 3.0 can say ---- */

static cJSON *null_schema(void)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddItemToArray(cJSON_AddArrayToObject(o, "enum"), cJSON_CreateNull());
    return o;
}

static cJSON *or_null(cJSON *schema)
{
    cJSON *o = cJSON_CreateObject(), *any = cJSON_AddArrayToObject(o, "anyOf");
    cJSON_AddItemToArray(any, schema);
    cJSON_AddItemToArray(any, null_schema());
    return o;
}

static void narrow(cJSON *s);

static void narrow_each(cJSON *list)
{
    for (cJSON *item = list ? list->child : NULL; item; item = item->next)
        narrow(item);
}

static void rename_member(cJSON *o, const char *from, const char *to)
{
    cJSON *item = cJSON_DetachItemFromObjectCaseSensitive(o, from);
    if (item && !value_get(o, to))
        cJSON_AddItemToObject(o, to, item);
    else
        cJSON_Delete(item);
}

/* `type: [X, null]` is X or null; of more than two types nothing is said. */
static void narrow_type(cJSON *s)
{
    const cJSON *types = value_get(s, "type");
    if (!cJSON_IsArray(types))
        return;
    bool null = false;
    const char *other = NULL;
    const cJSON *item;
    size_t n = 0;
    cJSON_ArrayForEach (item, types) {
        null = null || streq(item->valuestring, "null");
        n += !streq(item->valuestring, "null");
        other = streq(item->valuestring, "null") ? other : item->valuestring;
    }
    _cleanup_(freep) char *type = n == 1 ? xstrdup(other) : NULL;
    cJSON_DeleteItemFromObjectCaseSensitive(s, "type");
    if (type)
        cJSON_AddStringToObject(s, "type", type);
    if (!type || !null)
        return;
    /* In place: all but what is said about both moves into the first of two. */
    cJSON *inner = cJSON_CreateObject();
    for (cJSON *at = s->child, *next; at; at = next) {
        next = at->next;
        if (!streq(at->string, "description") && !streq(at->string, "default"))
            cJSON_AddItemToObject(inner, at->string, cJSON_DetachItemViaPointer(s, at));
    }
    cJSON *any = cJSON_AddArrayToObject(s, "anyOf");
    cJSON_AddItemToArray(any, inner);
    cJSON_AddItemToArray(any, null_schema());
}

/* In place. What cannot be said is left out, so that the schema takes more than the manifest does, never less. */
static void narrow(cJSON *s)
{
    static const char *const gone[] = {"$schema", "if", "then", "else", "not", "allOf", "propertyNames", "$ref"};
    if (!cJSON_IsObject(s))
        return;
    for (size_t i = 0; i < ARRAY_SIZE(gone); i++)
        cJSON_DeleteItemFromObjectCaseSensitive(s, gone[i]);
    if (value_get(s, "patternProperties")) { /* keys that start with `x-` */
        cJSON_DeleteItemFromObjectCaseSensitive(s, "patternProperties");
        cJSON_DeleteItemFromObjectCaseSensitive(s, "additionalProperties");
    }
    cJSON *only = cJSON_DetachItemFromObjectCaseSensitive(s, "const");
    if (only)
        cJSON_AddItemToArray(cJSON_AddArrayToObject(s, "enum"), only);
    rename_member(s, "exclusiveMinimum", "minimum");
    rename_member(s, "exclusiveMaximum", "maximum");
    rename_member(s, "oneOf", "anyOf");
    const cJSON *otherwise = value_get(s, "default"); /* of objects and lists generators of clients make little */
    if (cJSON_IsObject(otherwise) || cJSON_IsArray(otherwise))
        cJSON_DeleteItemFromObjectCaseSensitive(s, "default");
    if (cJSON_IsArray(value_get(s, "items")))
        cJSON_ReplaceItemInObjectCaseSensitive(s, "items", cJSON_CreateObject());
    narrow_each(value_get(s, "properties"));
    narrow_each(value_get(s, "anyOf"));
    narrow(value_get(s, "items"));
    narrow(value_get(s, "additionalProperties"));
    narrow_type(s);
    const cJSON *any = value_get(s, "anyOf");
    for (const cJSON *at = any ? any->child : NULL; at; at = at->next)
        if (streq(value_get_string(at, "type") ? value_get_string(at, "type") : "", "null")) {
            cJSON_ReplaceItemViaPointer((cJSON *)any, (cJSON *)at, null_schema());
            break;
        }
}

static cJSON *narrowed(cJSON *schema)
{
    narrow(schema);
    return schema;
}

/* `file_watch` with `Config`: FileWatchConfig. */
static char *camel(const char *name, const char *end)
{
    struct buf b = {0};
    bool upper = true;
    for (; *name; name++) {
        if (*name == '_')
            upper = true;
        else
            buf_addc(&b, upper ? (char)toupper((unsigned char)*name) : *name), upper = false;
    }
    buf_adds(&b, end);
    return buf_steal(&b);
}

static cJSON *config_schema(const struct kind *k)
{
    cJSON *o = narrowed(fields_schema(k->config));
    cJSON *properties = value_get(o, "properties");
    cJSON_AddItemToObject(properties, "input_mapping", shape_type("{string}?"));
    if (k->has_filter)
        cJSON_AddItemToObject(properties, "filter", shape_type("object?"));
    return o;
}

/* ---- types ---- */

static cJSON *simple(const char *type, const char *format)
{
    cJSON *o = cJSON_CreateObject();
    if (type)
        cJSON_AddStringToObject(o, "type", type);
    if (format)
        cJSON_AddStringToObject(o, "format", format);
    return o;
}

static cJSON *reference(const char *name)
{
    cJSON *o = cJSON_CreateObject();
    _cleanup_(freep) char *text = xasprintf("#/components/schemas/%s", name);
    cJSON_AddStringToObject(o, "$ref", text);
    return o;
}

static cJSON *either(const char *type, const char *bar)
{
    cJSON *o = cJSON_CreateObject(), *any = cJSON_AddArrayToObject(o, "anyOf");
    _cleanup_(freep) char *first = xstrndup(type, (size_t)(bar - type));
    cJSON_AddItemToArray(any, shape_type(first));
    cJSON_AddItemToArray(any, shape_type(bar + 1));
    return o;
}

/* Types that are texts of a certain form. */
static const struct form {
    const char *type, *pattern;
} forms[] = {
    {"name", "^."},
    {"endpoint", "^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}$"},
    {"path", "^/"},
    /* As long as durations are that anybody means, in falling units. */
    {"moment",
     "^([0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8])"
     ")"
     "([Tt ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]+)?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9]))?|"
     "([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29"
     "([Tt ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]+)?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9]))?|"
     "(?=.)([0-9]{1,4}(\\.[0-9]+)?w)?([0-9]{1,5}(\\.[0-9]+)?d)?([0-9]{1,6}(\\.[0-9]+)?h)?([0-9]{1,8}(\\.[0-9]+)?m)?"
     "([0-9]{1,9}(\\.[0-9]+)?s)?([0-9]{1,12}(\\.[0-9]+)?ms)?)$"},
    {"1.0", "^1\\.0$"},
};

static cJSON *form_schema(const char *type)
{
    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        if (!streq(type, forms[i].type))
            continue;
        cJSON *o = simple("string", NULL);
        cJSON_AddStringToObject(o, "pattern", forms[i].pattern);
        return o;
    }
    return NULL;
}

/* One of the configs by type. */
static cJSON *any_config(void)
{
    cJSON *o = cJSON_CreateObject(), *any = cJSON_AddArrayToObject(o, "anyOf");
    for (size_t i = 0; manifest_source_kinds()[i]; i++) {
        _cleanup_(freep) char *name = camel(manifest_source_kinds()[i]->name, "Config");
        cJSON_AddItemToArray(any, reference(name));
    }
    return o;
}

cJSON *shape_type(const char *type)
{
    size_t len = strlen(type);
    const char *bar = strchr(type, '|');
    if (bar)
        return either(type, bar);
    if (type[len - 1] == '?') {
        _cleanup_(freep) char *inner = xstrndup(type, len - 1);
        return or_null(shape_type(inner));
    }
    if (*type == '[' || *type == '{') {
        _cleanup_(freep) char *inner = xstrndup(type + 1, len - 2);
        cJSON *o = simple(*type == '[' ? "array" : "object", NULL);
        cJSON_AddItemToObject(o, *type == '[' ? "items" : "additionalProperties", shape_type(inner));
        return o;
    }
    if (streq(type, "any"))
        return cJSON_CreateObject();
    if (streq(type, "time"))
        return simple("string", "date-time");
    if (streq(type, "TriggerConfig"))
        return any_config();
    cJSON *form = form_schema(type);
    return form ? form : islower((unsigned char)*type) ? simple(type, NULL) : reference(type);
}

/* ---- shapes ---- */

static void add_member(cJSON *properties, const char *name, cJSON *schema, const char *doc)
{
    if (doc && value_get(schema, "$ref")) { /* what stands beside a $ref does not count in 3.0 */
        cJSON *o = cJSON_CreateObject();
        cJSON_AddItemToArray(cJSON_AddArrayToObject(o, "allOf"), schema);
        schema = o;
    }
    if (doc) {
        cJSON_DeleteItemFromObjectCaseSensitive(schema, "description");
        cJSON_AddStringToObject(schema, "description", doc);
    }
    cJSON_AddItemToObject(properties, name, schema);
}

static bool told(const struct shape *s, const char *name)
{
    for (const struct shape_member *m = s->members; m->name; m++)
        if (streq(m->name, name))
            return true;
    return false;
}

static cJSON *shape_schema(const struct shape *s)
{
    cJSON *o = simple("object", NULL), *properties, *required = cJSON_CreateArray();
    cJSON *table = s->fields ? narrowed(fields_schema(s->fields)) : NULL;
    cJSON_AddStringToObject(o, "description", s->doc);
    properties = cJSON_AddObjectToObject(o, "properties");
    for (const struct shape_member *m = s->members; m->name; m++) {
        const char *type = m->type + (*m->type == '-');
        const cJSON *field = value_get(value_get(table, "properties"), m->name);
        add_member(properties, m->name, *type == '=' ? cJSON_Duplicate(field, true) : shape_type(type), m->doc);
        if (*m->type != '-')
            cJSON_AddItemToArray(required, cJSON_CreateString(m->name));
    }
    const cJSON *field, *list = value_get(table, "properties");
    cJSON_ArrayForEach (field, list) {
        if (told(s, field->string))
            continue;
        cJSON *copy = cJSON_Duplicate(field, true);
        if (s->flags & SHAPE_PARTIAL) /* what is absent stays */
            cJSON_DeleteItemFromObjectCaseSensitive(copy, "default");
        add_member(properties, field->string, s->flags & SHAPE_PARTIAL ? or_null(copy) : copy, NULL);
    }
    if (cJSON_GetArraySize(required) > 0)
        cJSON_AddItemToObject(o, "required", required);
    else
        cJSON_Delete(required);
    if (!(s->flags & SHAPE_OPEN))
        cJSON_AddBoolToObject(o, "additionalProperties", false);
    cJSON_Delete(table);
    return o;
}

static cJSON *pipeline_step_schema(void)
{
    cJSON *o = narrowed(fields_schema(&step_fields)), *properties = value_get(o, "properties");
    for (size_t i = 0; manifest_step_kinds()[i]; i++) {
        _cleanup_(freep) char *name = camel(manifest_step_kinds()[i]->name, "Work");
        cJSON_AddItemToObject(properties, manifest_step_kinds()[i]->name, reference(name));
    }
    return o;
}

cJSON *shape_components(void)
{
    cJSON *o = cJSON_CreateObject();
    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        cJSON_AddItemToObject(o, words[i].name, words_schema(&words[i]));
    for (size_t i = 0; i < ARRAY_SIZE(shapes); i++)
        cJSON_AddItemToObject(o, shapes[i]->name, shape_schema(shapes[i]));
    for (const struct kind *const *k = manifest_source_kinds(); *k; k++) {
        _cleanup_(freep) char *name = camel((*k)->name, "Config");
        cJSON_AddItemToObject(o, name, config_schema(*k));
    }
    for (const struct kind *const *k = manifest_step_kinds(); *k; k++) {
        _cleanup_(freep) char *name = camel((*k)->name, "Work");
        cJSON_AddItemToObject(o, name, narrowed(fields_schema((*k)->config)));
    }
    cJSON_AddItemToObject(o, "PipelineStep", pipeline_step_schema());
    return o;
}
