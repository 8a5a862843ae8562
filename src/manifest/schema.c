#include "manifest/schema.h"

#include "base/util.h"
#include "model/mcp_server.h"
#include "model/pipeline.h"
#include "model/trigger.h"
#include "source/list.h"
#include "step/list.h"

#include <stdio.h>

/* ---- what tables cannot say ---- */

/* JSON text, written with ' for ". */
static cJSON *literal(const char *text)
{
    _cleanup_(freep) char *json = xstrdup(text);
    for (char *p = json; (p = strchr(p, '\'')); p++)
        *p = '"';
    cJSON *v = NULL;
    struct error err = ERROR_INIT;
    if (value_parse(json, strlen(json), &v, &err) < 0) {
        fprintf(stderr, "schema: %s at column %u of %s\n", err.message, err.column, json);
        abort(); /* a constant of this program */
    }
    return v;
}

/* Event patterns (lang/pattern.h): all but their bounds, which of two bounds is the lower one, and addresses. */
static const char filter_definitions[] =
    "{'filter': {'description': 'An event pattern: which events of this kind are wanted', 'type': 'object', "
    "'properties': {'$or': {'$ref': '#/definitions/filter_or'}}, "
    "'additionalProperties': {'$ref': '#/definitions/filter_member'}},"

    "'filter_member': {'anyOf': [{'$ref': '#/definitions/filter_scalar'}, {'$ref': '#/definitions/filter_list'}, "
    "{'$ref': '#/definitions/filter_nested'}]},"

    "'filter_scalar': {'type': ['string', 'number', 'boolean', 'null']},"

    "'filter_list': {'type': 'array', 'minItems': 1, 'items': {'anyOf': [{'$ref': '#/definitions/filter_scalar'}, "
    "{'$ref': '#/definitions/filter_operator'}]}},"

    "'filter_nested': {'type': 'object', 'minProperties': 1, "
    "'properties': {'$or': {'$ref': '#/definitions/filter_or'}}, "
    "'propertyNames': {'not': {'enum': ['prefix', 'suffix', 'equals-ignore-case', 'wildcard', 'anything-but', "
    "'numeric', 'cidr', 'exists']}}, 'additionalProperties': {'$ref': '#/definitions/filter_member'}},"

    "'filter_or': {'type': 'array', 'minItems': 2, 'items': {'$ref': '#/definitions/filter_nested'}},"

    "'filter_operator': {'type': 'object', 'minProperties': 1, 'maxProperties': 1, 'additionalProperties': false, "
    "'properties': {'prefix': {'$ref': '#/definitions/filter_end'}, 'suffix': {'$ref': '#/definitions/filter_end'}, "
    "'equals-ignore-case': {'type': 'string'}, 'wildcard': {'$ref': '#/definitions/filter_wildcard'}, "
    "'anything-but': {'$ref': '#/definitions/filter_but'}, 'numeric': {'$ref': '#/definitions/filter_numeric'}, "
    "'cidr': {'type': 'string', 'pattern': '^[0-9A-Fa-f:.]+/[0-9]{1,3}$'}, 'exists': {'type': 'boolean'}}},"

    "'filter_end': {'anyOf': [{'type': 'string'}, {'type': 'object', 'required': ['equals-ignore-case'], "
    "'properties': {'equals-ignore-case': {'type': 'string'}}, 'additionalProperties': false}]},"

    "'filter_wildcard': {'type': 'string', 'maxLength': 1024, "
    "'pattern': '^(\\\\*?([^*\\\\\\\\]|\\\\\\\\[*\\\\\\\\]))*\\\\*?$'},"

    "'filter_but': {'anyOf': [{'type': ['string', 'number']}, "
    "{'type': 'array', 'minItems': 1, 'items': {'type': 'string'}}, "
    "{'type': 'array', 'minItems': 1, 'items': {'type': 'number'}}, "
    "{'type': 'object', 'minProperties': 1, 'maxProperties': 1, 'additionalProperties': false, 'properties': {"
    "'prefix': {'$ref': '#/definitions/filter_texts'}, 'suffix': {'$ref': '#/definitions/filter_texts'}, "
    "'equals-ignore-case': {'anyOf': [{'type': 'string'}, "
    "{'type': 'array', 'minItems': 1, 'items': {'type': 'string'}}]}, "
    "'wildcard': {'anyOf': [{'$ref': '#/definitions/filter_wildcard'}, "
    "{'type': 'array', 'minItems': 1, 'items': {'$ref': '#/definitions/filter_wildcard'}}]}}}]},"

    "'filter_texts': {'anyOf': [{'type': 'string', 'minLength': 1}, "
    "{'type': 'array', 'minItems': 1, 'items': {'type': 'string', 'minLength': 1}}]},"

    "'filter_numeric': {'anyOf': ["
    "{'type': 'array', 'minItems': 2, 'maxItems': 2, 'items': [{'enum': ['=', '<', '<=', '>', '>=']}, "
    "{'type': 'number'}]}, "
    "{'type': 'array', 'minItems': 4, 'maxItems': 4, 'items': [{'enum': ['>', '>=']}, {'type': 'number'}, "
    "{'enum': ['<', '<=']}, {'type': 'number'}]}]}}";

/* The JSON Schema that `inputs` may be (lang/schema.h): all but the syntax of regular expressions. */
static const char inputs_definitions[] =
    "{'inputs': {'type': ['object', 'boolean'], 'properties': {"
    "'type': {'anyOf': [{'$ref': '#/definitions/inputs_type'}, "
    "{'type': 'array', 'minItems': 1, 'items': {'$ref': '#/definitions/inputs_type'}}]}, "
    "'enum': {'type': 'array', 'minItems': 1}, 'const': {}, "
    "'allOf': {'$ref': '#/definitions/inputs_list'}, 'anyOf': {'$ref': '#/definitions/inputs_list'}, "
    "'oneOf': {'$ref': '#/definitions/inputs_list'}, 'not': {'$ref': '#/definitions/inputs'}, "
    "'properties': {'type': 'object', 'additionalProperties': {'$ref': '#/definitions/inputs'}}, "
    "'required': {'type': 'array', 'items': {'type': 'string'}}, "
    "'additionalProperties': {'$ref': '#/definitions/inputs'}, 'propertyNames': {'$ref': '#/definitions/inputs'}, "
    "'minProperties': {'$ref': '#/definitions/inputs_count'}, "
    "'maxProperties': {'$ref': '#/definitions/inputs_count'}, "
    "'items': {'$ref': '#/definitions/inputs'}, 'prefixItems': {'$ref': '#/definitions/inputs_list'}, "
    "'minItems': {'$ref': '#/definitions/inputs_count'}, 'maxItems': {'$ref': '#/definitions/inputs_count'}, "
    "'uniqueItems': {'type': 'boolean'}, 'minimum': {'type': 'number'}, 'maximum': {'type': 'number'}, "
    "'exclusiveMinimum': {'type': 'number'}, 'exclusiveMaximum': {'type': 'number'}, "
    "'multipleOf': {'type': 'number', 'exclusiveMinimum': 0}, "
    "'minLength': {'$ref': '#/definitions/inputs_count'}, 'maxLength': {'$ref': '#/definitions/inputs_count'}, "
    "'pattern': {'type': 'string', 'maxLength': 4096}, 'title': {'type': 'string'}, "
    "'description': {'type': 'string'}, 'default': {}, 'examples': {'type': 'array'}, "
    "'format': {'type': 'string'}, 'deprecated': {'type': 'boolean'}, 'readOnly': {'type': 'boolean'}, "
    "'writeOnly': {'type': 'boolean'}, '$schema': {'type': 'string'}, '$id': {'type': 'string'}, "
    "'$comment': {'type': 'string'}}, 'patternProperties': {'^x-': {}}, 'additionalProperties': false},"

    "'inputs_type': {'enum': ['string', 'number', 'integer', 'boolean', 'object', 'array', 'null']},"
    "'inputs_list': {'type': 'array', 'minItems': 1, 'items': {'$ref': '#/definitions/inputs'}},"
    "'inputs_count': {'type': 'integer', 'minimum': 0, 'maximum': 9223372036854775807}}";

/* `input_mapping` in one place alone; without an id, a name that gives one. */
static const char trigger_rules[] =
    "[{'not': {'required': ['input_mapping', 'config'], 'properties': {'input_mapping': {'type': 'object'}, "
    "'config': {'required': ['input_mapping'], 'properties': {'input_mapping': {'type': 'object'}}}}}},"
    "{'if': {'not': {'required': ['id']}}, 'then': {'properties': {'name': {'pattern': '[A-Za-z0-9]'}}}}]";

/* ---- building ---- */

static cJSON *constant(const char *word)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "const", word);
    return o;
}

static cJSON *reference(const char *definition)
{
    cJSON *o = cJSON_CreateObject();
    _cleanup_(freep) char *text = xasprintf("#/definitions/%s", definition);
    cJSON_AddStringToObject(o, "$ref", text);
    return o;
}

static void set_property(cJSON *schema, const char *name, cJSON *property)
{
    value_set(value_get(schema, "properties"), name, property);
}

/* Add the items of `rules` to the schema's `allOf`. */
static void add_rules(cJSON *schema, cJSON *rules)
{
    cJSON *all = value_get(schema, "allOf");
    if (!all)
        all = cJSON_AddArrayToObject(schema, "allOf");
    while (rules->child)
        cJSON_AddItemToArray(all, cJSON_DetachItemViaPointer(rules, rules->child));
    cJSON_Delete(rules);
}

static cJSON *kind_schema(const struct kind *k)
{
    cJSON *o = fields_schema(k->config);
    if (k->rules)
        add_rules(o, literal(k->rules));
    return o;
}

/* anyOf the definition and null. */
static cJSON *reference_or_null(const char *definition)
{
    cJSON *o = cJSON_CreateObject(), *any = cJSON_AddArrayToObject(o, "anyOf"), *null = cJSON_CreateObject();
    cJSON_AddItemToArray(any, reference(definition));
    cJSON_AddStringToObject(null, "type", "null");
    cJSON_AddItemToArray(any, null);
    return o;
}

/* {if: {properties: {trigger_type: {const}}}, then: {properties: {config}}} for each source type. */
static cJSON *config_rules(const cJSON *mapping)
{
    cJSON *rules = cJSON_CreateArray();
    for (size_t i = 0; source_kinds[i]; i++) {
        const struct kind *k = source_kinds[i];
        cJSON *config = kind_schema(k);
        set_property(config, "input_mapping", cJSON_Duplicate(mapping, true));
        if (k->has_filter)
            set_property(config, "filter", reference_or_null("filter"));
        cJSON *rule = cJSON_CreateObject();
        cJSON *when = cJSON_AddObjectToObject(cJSON_AddObjectToObject(rule, "if"), "properties");
        cJSON_AddItemToObject(when, "trigger_type", constant(k->name));
        cJSON *then = cJSON_AddObjectToObject(cJSON_AddObjectToObject(rule, "then"), "properties");
        cJSON_AddItemToObject(then, "config", config);
        cJSON_AddItemToArray(rules, rule);
    }
    return rules;
}

/* Words that are routes are no ids, nor slugs of names. */
static void forbid_reserved_ids(cJSON *schema)
{
    struct buf ids = {0}, names = {0};
    for (size_t i = 0; trigger_reserved_ids[i]; i++) {
        const char *word = trigger_reserved_ids[i];
        buf_printf(&ids, "%s'%s'", i ? ", " : "", word);
        buf_adds(&names, i ? "|" : "");
        for (const char *p = word; *p; p++)
            buf_printf(&names, "[%c%c]", *p - 'a' + 'A', *p);
    }
    _cleanup_(freep) char *rules =
        xasprintf("[{'properties': {'id': {'not': {'enum': [%s]}}}}, {'if': {'not': {'required': ['id']}}, 'then': "
                  "{'properties': {'name': {'not': {'pattern': '^[^A-Za-z0-9]*(%s)[^A-Za-z0-9]*$'}}}}}]",
                  ids.data, names.data);
    add_rules(schema, literal(rules));
    buf_fini(&ids);
    buf_fini(&names);
}

static cJSON *trigger_schema(void)
{
    cJSON *o = fields_schema(&trigger_fields);
    set_property(o, "kind", constant("trigger"));
    cJSON *types = cJSON_CreateArray();
    for (size_t i = 0; source_kinds[i]; i++)
        cJSON_AddItemToArray(types, cJSON_CreateString(source_kinds[i]->name));
    cJSON_AddItemToObject(value_get(value_get(o, "properties"), "trigger_type"), "enum", types);
    add_rules(o, config_rules(value_get(value_get(o, "properties"), "input_mapping")));
    add_rules(o, literal(trigger_rules));
    forbid_reserved_ids(o);
    return o;
}

static cJSON *pipeline_schema(void)
{
    cJSON *o = fields_schema(&pipeline_fields);
    set_property(o, "kind", constant("pipeline"));
    cJSON_AddItemToArray(value_get(o, "required"), cJSON_CreateString("kind"));
    cJSON *inputs = reference_or_null("inputs");
    cJSON_AddStringToObject(inputs, "description", fields_find(&pipeline_fields, "inputs")->doc);
    set_property(o, "inputs", inputs);
    cJSON *step = fields_schema(&step_fields);
    cJSON *one_of = cJSON_CreateArray();
    for (size_t i = 0; step_kinds[i]; i++) {
        set_property(step, step_kinds[i]->name, kind_schema(step_kinds[i]));
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

static cJSON *mcp_server_schema(void)
{
    cJSON *o = fields_schema(&mcp_server_fields);
    set_property(o, "kind", constant("mcp_server"));
    cJSON_AddItemToArray(value_get(o, "required"), cJSON_CreateString("kind"));
    add_rules(o, literal(mcp_server_rules));
    return o;
}

#define DRAFT "http://json-schema.org/draft-07/schema#"

static cJSON *header(const char *title)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "$schema", DRAFT);
    cJSON_AddStringToObject(o, "title", title);
    return o;
}

/* The members of `from` become `to`'s; frees `from`. */
static void take_members(cJSON *to, cJSON *from)
{
    while (from->child) {
        cJSON *item = cJSON_DetachItemViaPointer(from, from->child);
        cJSON_AddItemToObject(to, item->string, item); /* copies the key before it lets go of the old one */
    }
    cJSON_Delete(from);
}

static void define(cJSON *schema, const char *definitions)
{
    cJSON *own = value_get(schema, "definitions");
    if (!own)
        own = cJSON_AddObjectToObject(schema, "definitions");
    take_members(own, literal(definitions));
}

/* {if: {properties: {kind: {const}}, required: [kind]}, then, else} */
static void when_kind(cJSON *o, const char *kind, cJSON *then, cJSON *otherwise)
{
    cJSON *when = cJSON_AddObjectToObject(o, "if");
    cJSON_AddItemToObject(cJSON_AddObjectToObject(when, "properties"), "kind", constant(kind));
    cJSON_AddItemToArray(cJSON_AddArrayToObject(when, "required"), cJSON_CreateString("kind"));
    cJSON_AddItemToObject(o, "then", then);
    cJSON_AddItemToObject(o, "else", otherwise);
}

cJSON *manifest_schema(const char *kind)
{
    if (streq(kind, "trigger")) {
        cJSON *o = header("triggerd trigger");
        take_members(o, trigger_schema());
        define(o, filter_definitions);
        return o;
    }
    if (streq(kind, "pipeline")) {
        cJSON *o = header("triggerd pipeline");
        take_members(o, pipeline_schema());
        define(o, inputs_definitions);
        return o;
    }
    if (streq(kind, "mcp_server")) {
        cJSON *o = header("triggerd MCP server");
        take_members(o, mcp_server_schema());
        return o;
    }
    if (!streq(kind, "manifest"))
        return NULL;
    cJSON *o = header("triggerd manifest"), *others = cJSON_CreateObject();
    when_kind(o, "pipeline", pipeline_schema(), others);
    when_kind(others, "mcp_server", mcp_server_schema(), trigger_schema());
    define(o, filter_definitions);
    define(o, inputs_definitions);
    return o;
}

const char *const manifest_schema_kinds[] = {"manifest", "trigger", "pipeline", "mcp_server", NULL};

#define TABLES_MAX 64

const struct field_table *manifest_table(const char *name)
{
    static const struct field_table *const own[] = {&trigger_fields, &pipeline_fields, &step_fields,
                                                    &mcp_server_fields};
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
    names[n++] = "mcp_server";
    for (size_t i = 0; source_kinds[i] && n + 1 < TABLES_MAX; i++)
        names[n++] = source_kinds[i]->name;
    for (size_t i = 0; step_kinds[i] && n + 1 < TABLES_MAX; i++)
        names[n++] = step_kinds[i]->name;
    names[n] = NULL;
    return names;
}
