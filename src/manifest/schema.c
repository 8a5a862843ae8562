#include "manifest/schema.h"

#include "base/util.h"
#include "model/pipeline.h"
#include "model/trigger.h"
#include "source/list.h"
#include "step/list.h"

static cJSON *constant(const char *word)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "const", word);
    return o;
}

static void set_property(cJSON *schema, const char *name, cJSON *property)
{
    value_set(value_get(schema, "properties"), name, property);
}

/* {if: {properties: {trigger_type: {const}}}, then: {properties: {config}}} for each source type. */
static cJSON *config_rules(void)
{
    cJSON *rules = cJSON_CreateArray();
    for (size_t i = 0; source_kinds[i]; i++) {
        const struct kind *k = source_kinds[i];
        cJSON *config = fields_schema(k->config);
        cJSON *mapping = cJSON_CreateObject();
        fields_find(&trigger_fields, "input_mapping")
            ->type->schema(fields_find(&trigger_fields, "input_mapping"), mapping);
        set_property(config, "input_mapping", mapping);
        if (k->has_filter) {
            cJSON *filter = cJSON_CreateObject();
            cJSON_AddStringToObject(filter, "type", "object");
            cJSON_AddStringToObject(filter, "description", "An event pattern: which events of this kind are wanted");
            set_property(config, "filter", filter);
        }
        cJSON *rule = cJSON_CreateObject();
        cJSON *when = cJSON_AddObjectToObject(cJSON_AddObjectToObject(rule, "if"), "properties");
        cJSON_AddItemToObject(when, "trigger_type", constant(k->name));
        cJSON *then = cJSON_AddObjectToObject(cJSON_AddObjectToObject(rule, "then"), "properties");
        cJSON_AddItemToObject(then, "config", config);
        cJSON_AddItemToArray(rules, rule);
    }
    return rules;
}

static cJSON *trigger_schema(void)
{
    cJSON *o = fields_schema(&trigger_fields);
    set_property(o, "kind", constant("trigger"));
    cJSON *types = cJSON_CreateArray();
    for (size_t i = 0; source_kinds[i]; i++)
        cJSON_AddItemToArray(types, cJSON_CreateString(source_kinds[i]->name));
    cJSON_AddItemToObject(value_get(value_get(o, "properties"), "trigger_type"), "enum", types);
    cJSON_AddItemToObject(o, "allOf", config_rules());
    return o;
}

static cJSON *pipeline_schema(void)
{
    cJSON *o = fields_schema(&pipeline_fields);
    set_property(o, "kind", constant("pipeline"));
    cJSON_AddItemToArray(value_get(o, "required"), cJSON_CreateString("kind"));
    cJSON *step = fields_schema(&step_fields);
    cJSON *one_of = cJSON_CreateArray();
    for (size_t i = 0; step_kinds[i]; i++) {
        set_property(step, step_kinds[i]->name, fields_schema(step_kinds[i]->config));
        cJSON *needs = cJSON_CreateObject();
        cJSON *list = cJSON_AddArrayToObject(needs, "required");
        cJSON_AddItemToArray(list, cJSON_CreateString(step_kinds[i]->name));
        cJSON_AddItemToArray(one_of, needs);
    }
    cJSON_AddItemToObject(step, "oneOf", one_of);
    cJSON *steps = cJSON_CreateObject();
    cJSON_AddStringToObject(steps, "type", "array");
    cJSON_AddNumberToObject(steps, "minItems", 1);
    cJSON_AddNumberToObject(steps, "maxItems", PIPELINE_STEPS_MAX);
    cJSON_AddStringToObject(steps, "description", fields_find(&pipeline_fields, "steps")->doc);
    cJSON_AddItemToObject(steps, "items", step);
    set_property(o, "steps", steps);
    return o;
}

cJSON *manifest_schema(void)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "$schema", "http://json-schema.org/draft-07/schema#");
    cJSON_AddStringToObject(o, "title", "triggerd manifest");
    cJSON *when = cJSON_AddObjectToObject(o, "if");
    cJSON_AddItemToObject(cJSON_AddObjectToObject(when, "properties"), "kind", constant("pipeline"));
    cJSON_AddItemToArray(cJSON_AddArrayToObject(when, "required"), cJSON_CreateString("kind"));
    cJSON_AddItemToObject(o, "then", pipeline_schema());
    cJSON_AddItemToObject(o, "else", trigger_schema());
    return o;
}

#define TABLES_MAX 64

const struct field_table *manifest_table(const char *name)
{
    static const struct field_table *const own[] = {&trigger_fields, &pipeline_fields, &step_fields};
    for (size_t i = 0; i < ARRAY_SIZE(own); i++)
        if (streq(own[i]->name, name))
            return own[i];
    if (streq(name, "retry"))
        return fields_find(&step_fields, "retry")->sub;
    const struct kind *k = kind_find(source_kinds, name);
    if (!k)
        k = kind_find(step_kinds, name);
    return k ? k->config : NULL;
}

const char *const *manifest_table_names(void)
{
    static const char *names[TABLES_MAX]; /* filled once, the same each time */
    size_t n = 0;
    names[n++] = "trigger";
    names[n++] = "pipeline";
    names[n++] = "step";
    names[n++] = "retry";
    for (size_t i = 0; source_kinds[i] && n + 1 < TABLES_MAX; i++)
        names[n++] = source_kinds[i]->name;
    for (size_t i = 0; step_kinds[i] && n + 1 < TABLES_MAX; i++)
        names[n++] = step_kinds[i]->name;
    names[n] = NULL;
    return names;
}
