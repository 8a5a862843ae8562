#include "lang/schema_internal.h"

#include <errno.h>
#include <stdio.h>

#define NUMBER_KEY_ROOM 64 /* what value_number_key() adds to the digits */

const char *const schema_type_names[TYPES] = {"string", "number", "integer", "boolean", "object", "array", "null"};

/* One keyword being compiled into `s`. */
struct context {
    struct schema *s;
    const char *path; /* of `value` */
    const cJSON *value;
    void *slot; /* the member of `s` that the keyword's row names */
    unsigned depth;
    struct issues *issues;
};

static struct schema *compile(const cJSON *json, const char *path, unsigned depth, struct issues *issues);

static void expected(const struct context *c, const char *what)
{
    char got[VALUE_BRIEF_MAX];
    issue_add(c->issues, c->path, c->value, "expected %s, got %s", what, value_brief(c->value, got, sizeof(got)));
}

/* ---- One function a shape of keyword -------------------------------------------------------------------------------
 */

static void take_any(const struct context *c)
{
    (void)c;
}

static void take_text(const struct context *c)
{
    if (!cJSON_IsString(c->value))
        expected(c, "a string");
}

static void take_remark_bool(const struct context *c)
{
    if (!cJSON_IsBool(c->value))
        expected(c, "true or false");
}

static void take_examples(const struct context *c)
{
    if (!cJSON_IsArray(c->value))
        expected(c, "a list");
}

static void take_bool(const struct context *c)
{
    take_remark_bool(c);
    *(bool *)c->slot = cJSON_IsTrue(c->value);
}

static void take_count(const struct context *c)
{
    int64_t n;
    if (!value_integer(c->value, &n) || n < 0)
        expected(c, "an integer of at least 0");
    else
        *(int64_t *)c->slot = n;
}

static void take_copy(const struct context *c)
{
    *(cJSON **)c->slot = cJSON_Duplicate(c->value, 1);
}

static void take_number(const struct context *c)
{
    if (!value_is_number(c->value))
        expected(c, "a number");
    else
        take_copy(c);
}

static void take_schema(const struct context *c)
{
    *(struct schema **)c->slot = compile(c->value, c->path, c->depth + 1, c->issues);
}

static void take_schemas(const struct context *c)
{
    struct schema_list *list = c->slot;
    int n = cJSON_GetArraySize(c->value);
    if (!cJSON_IsArray(c->value) || n == 0) {
        expected(c, "a list of at least one schema");
        return;
    }
    list->items = xcalloc((size_t)n, sizeof(*list->items));
    for (const cJSON *item = c->value->child; item; item = item->next) {
        char path[FIELD_PATH_MAX];
        struct schema *s = compile(item, field_path_index(path, c->path, list->n), c->depth + 1, c->issues);
        list->items[list->n++] = s;
    }
}

static bool add_type(const struct context *c, const cJSON *word)
{
    if (!cJSON_IsString(word)) {
        expected(c, "the name of a type or a list of them");
        return false;
    }
    for (unsigned i = 0; i < TYPES; i++)
        if (streq(word->valuestring, schema_type_names[i])) {
            c->s->types |= 1u << i;
            return true;
        }
    issue_add(c->issues, c->path, word, "unknown type \"%.40s\"; did you mean \"%s\"?", word->valuestring,
              nearest_name(word->valuestring, schema_type_names, TYPES));
    return false;
}

static void take_type(const struct context *c)
{
    if (!cJSON_IsArray(c->value)) {
        add_type(c, c->value);
        return;
    }
    if (!c->value->child)
        expected(c, "at least one type");
    for (const cJSON *word = c->value->child; word; word = word->next)
        if (!add_type(c, word))
            return;
}

static void take_enum(const struct context *c)
{
    if (!cJSON_IsArray(c->value) || !c->value->child)
        expected(c, "a list of at least one value");
    else
        take_copy(c);
}

static struct property *add_property(struct schema *s, const char *name)
{
    s->properties = xreallocarray(s->properties, s->property_count + 1, sizeof(*s->properties));
    struct property *p = &s->properties[s->property_count++];
    *p = (struct property){.name = xstrdup(name)};
    return p;
}

static void take_properties(const struct context *c)
{
    if (!cJSON_IsObject(c->value)) {
        expected(c, "an object of schemas");
        return;
    }
    for (const cJSON *member = c->value->child; member; member = member->next) {
        char path[FIELD_PATH_MAX];
        struct schema *s = compile(member, field_path(path, c->path, member->string), c->depth + 1, c->issues);
        add_property(c->s, member->string)->schema = s;
    }
}

static void take_required(const struct context *c)
{
    if (!cJSON_IsArray(c->value)) {
        expected(c, "a list of names");
        return;
    }
    for (const cJSON *name = c->value->child; name; name = name->next) {
        if (!cJSON_IsString(name)) {
            expected(c, "a list of names");
            return;
        }
        add_property(c->s, name->valuestring)->required = true;
    }
}

static void take_multiple_of(const struct context *c)
{
    struct divisor *d = c->slot;
    if (!value_is_number(c->value)) {
        expected(c, "a number above 0");
        return;
    }
    _cleanup_(freep) char *digits = schema_decimal(c->value, &d->exponent);
    if (*digits == '-' || c->value->valuedouble <= 0) { /* what no double can tell from 0 is 0 to other tools */
        expected(c, "a number above 0");
    } else if (strlen(digits) > SCHEMA_DIVISOR_DIGITS) {
        issue_add(c->issues, c->path, c->value, "expected a number of at most %d digits", SCHEMA_DIVISOR_DIGITS);
    } else {
        d->digits = strtoull(digits, NULL, 10);
        d->value = cJSON_Duplicate(c->value, 1);
    }
}

static void take_pattern(const struct context *c)
{
    if (!cJSON_IsString(c->value)) {
        expected(c, "a regular expression");
        return;
    }
    const char *text = c->value->valuestring;
    if (strlen(text) > SCHEMA_PATTERN_MAX) {
        issue_add(c->issues, c->path, c->value, "a pattern has at most %d bytes", SCHEMA_PATTERN_MAX);
        return;
    }
    pcre2_compile_context *options = pcre2_compile_context_create(NULL);
    pcre2_set_newline(options, PCRE2_NEWLINE_ANYCRLF);
    pcre2_set_compile_extra_options(options, PCRE2_EXTRA_ALT_BSUX);
    int code;
    PCRE2_SIZE at;
    /* Callouts are where schema_validate() counts the work. */
    pcre2_code *pattern = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
                                        PCRE2_UTF | PCRE2_AUTO_CALLOUT | PCRE2_DOLLAR_ENDONLY |
                                            PCRE2_ALLOW_EMPTY_CLASS | PCRE2_ALT_BSUX | PCRE2_NEVER_BACKSLASH_C,
                                        &code, &at, options);
    pcre2_compile_context_free(options);
    if (!pattern) {
        char why[128];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof(why));
        issue_add(c->issues, c->path, c->value, "no regular expression: %s (after \"%.*s\")", why,
                  (int)MIN(at, (PCRE2_SIZE)80), text);
        return;
    }
    uint32_t references = 0;
    pcre2_pattern_info(pattern, PCRE2_INFO_BACKREFMAX, &references);
    if (references > 0) {
        pcre2_code_free(pattern);
        issue_add(c->issues, c->path, c->value, "back references are not supported in a pattern");
        return;
    }
    c->s->pattern = pattern;
    c->s->pattern_text = xstrdup(text);
}

/* ---- Keywords ------------------------------------------------------------------------------------------------------
 */

static const struct keyword {
    const char *name;
    void (*take)(const struct context *c);
    size_t offset;
} keywords[] = {
    {"type", take_type, 0},
    {"enum", take_enum, offsetof(struct schema, words)},
    {"const", take_copy, offsetof(struct schema, constant)},
    {"allOf", take_schemas, offsetof(struct schema, all_of)},
    {"anyOf", take_schemas, offsetof(struct schema, any_of)},
    {"oneOf", take_schemas, offsetof(struct schema, one_of)},
    {"not", take_schema, offsetof(struct schema, none_of)},
    {"properties", take_properties, 0},
    {"required", take_required, 0},
    {"additionalProperties", take_schema, offsetof(struct schema, additional)},
    {"propertyNames", take_schema, offsetof(struct schema, names)},
    {"minProperties", take_count, offsetof(struct schema, properties_min)},
    {"maxProperties", take_count, offsetof(struct schema, properties_max)},
    {"items", take_schema, offsetof(struct schema, items)},
    {"prefixItems", take_schemas, offsetof(struct schema, prefix_items)},
    {"minItems", take_count, offsetof(struct schema, items_min)},
    {"maxItems", take_count, offsetof(struct schema, items_max)},
    {"uniqueItems", take_bool, offsetof(struct schema, unique_items)},
    {"minimum", take_number, offsetof(struct schema, minimum)},
    {"maximum", take_number, offsetof(struct schema, maximum)},
    {"exclusiveMinimum", take_number, offsetof(struct schema, above)},
    {"exclusiveMaximum", take_number, offsetof(struct schema, below)},
    {"multipleOf", take_multiple_of, offsetof(struct schema, multiple_of)},
    {"minLength", take_count, offsetof(struct schema, length_min)},
    {"maxLength", take_count, offsetof(struct schema, length_max)},
    {"pattern", take_pattern, 0},
    {"title", take_text, 0},
    {"description", take_text, 0},
    {"default", take_any, 0},
    {"examples", take_examples, 0},
    {"format", take_text, 0},
    {"deprecated", take_remark_bool, 0},
    {"readOnly", take_remark_bool, 0},
    {"writeOnly", take_remark_bool, 0},
    {"$schema", take_text, 0},
    {"$id", take_text, 0},
    {"$comment", take_text, 0},
};

static void unknown_keyword(const cJSON *member, const char *path, struct issues *issues)
{
    static const char *const unsupported[] = {
        "$ref",
        "$defs",
        "$anchor",
        "$dynamicRef",
        "$dynamicAnchor",
        "definitions",
        "if",
        "then",
        "else",
        "contains",
        "patternProperties",
        "dependentRequired",
        "minContains",
        "maxContains",
        "contentEncoding",
        "contentMediaType",
        "dependentSchemas",
        "unevaluatedItems",
        "unevaluatedProperties",
        "additionalItems",
        "dependencies",
    };
    for (size_t i = 0; i < ARRAY_SIZE(unsupported); i++)
        if (streq(member->string, unsupported[i])) {
            issue_add_key(issues, path, member, "this keyword of JSON Schema is not supported here");
            return;
        }
    const char *names[ARRAY_SIZE(keywords)];
    for (size_t i = 0; i < ARRAY_SIZE(keywords); i++)
        names[i] = keywords[i].name;
    issue_add_key(issues, path, member, "unknown keyword; did you mean \"%s\"?",
                  nearest_name(member->string, names, ARRAY_SIZE(keywords)));
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct property *)a)->name, ((const struct property *)b)->name);
}

/* Sort, and make one of a name in `properties` and `required`. */
static void merge_properties(struct schema *s)
{
    if (s->property_count == 0)
        return;
    qsort(s->properties, s->property_count, sizeof(*s->properties), by_name);
    size_t n = 0;
    for (size_t i = 1; i < s->property_count; i++) {
        struct property *to = &s->properties[n], *p = &s->properties[i];
        if (!streq(to->name, p->name)) {
            s->properties[++n] = *p;
            continue;
        }
        if (!to->schema)
            to->schema = p->schema;
        else
            schema_destroy(p->schema);
        to->required |= p->required;
        free(p->name);
    }
    s->property_count = n + 1;
}

/* Never NULL; what was wrong has become an issue. */
static struct schema *compile(const cJSON *json, const char *path, unsigned depth, struct issues *issues)
{
    struct schema *s = xcalloc(1, sizeof(*s));
    s->properties_min = s->properties_max = s->items_min = s->items_max = s->length_min = s->length_max = -1;
    s->never = cJSON_IsFalse(json);
    struct context c = {.s = s, .path = path, .value = json, .depth = depth, .issues = issues};
    if (depth > VALUE_DEPTH_MAX)
        issue_add(issues, path, json, "a schema nests at most %d levels", VALUE_DEPTH_MAX);
    else if (!cJSON_IsObject(json) && !cJSON_IsBool(json))
        expected(&c, "a schema (an object, true or false)");
    if (depth > VALUE_DEPTH_MAX || !cJSON_IsObject(json))
        return s;
    for (const cJSON *member = json->child; member; member = member->next) {
        char member_path[FIELD_PATH_MAX];
        field_path(member_path, path, member->string);
        size_t i = 0;
        while (i < ARRAY_SIZE(keywords) && !streq(member->string, keywords[i].name))
            i++;
        if (i < ARRAY_SIZE(keywords)) {
            c.path = member_path;
            c.value = member;
            c.slot = (char *)s + keywords[i].offset;
            keywords[i].take(&c);
        } else if (strncmp(member->string, "x-", 2) != 0) {
            unknown_keyword(member, member_path, issues);
        }
    }
    merge_properties(s);
    return s;
}

int schema_compile(const cJSON *json, const char *path, struct schema **ret, struct issues *issues)
{
    size_t errors = issues->errors;
    _cleanup_(schema_destroyp) struct schema *s = compile(json, path, 0, issues);
    if (issues->errors > errors)
        return -EINVAL;
    *ret = steal(&s);
    return 0;
}

static void list_fini(struct schema_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        schema_destroy(list->items[i]);
    free(list->items);
}

void schema_destroy(struct schema *s)
{
    if (!s)
        return;
    cJSON *const values[] = {s->constant, s->words, s->minimum, s->maximum, s->above, s->below, s->multiple_of.value};
    for (size_t i = 0; i < ARRAY_SIZE(values); i++)
        cJSON_Delete(values[i]);
    list_fini(&s->all_of);
    list_fini(&s->any_of);
    list_fini(&s->one_of);
    list_fini(&s->prefix_items);
    schema_destroy(s->none_of);
    schema_destroy(s->items);
    schema_destroy(s->additional);
    schema_destroy(s->names);
    for (size_t i = 0; i < s->property_count; i++) {
        free(s->properties[i].name);
        schema_destroy(s->properties[i].schema);
    }
    free(s->properties);
    pcre2_code_free(s->pattern);
    free(s->pattern_text);
    free(s);
}

char *schema_decimal(const cJSON *number, int64_t *ret_exponent)
{
    /* value_number_key() writes 0.ddd × 10^e as "ddd" "e" e, with a sign in front, and zero as "0" */
    size_t cap = (number->type & cJSON_Raw ? strlen(number->valuestring) : 0) + NUMBER_KEY_ROOM;
    char *text = xmalloc(cap + 1);
    text[value_number_key(number, text, cap)] = '\0';
    char *exponent = strchr(text, 'e');
    *ret_exponent = 0;
    if (exponent) {
        *ret_exponent = strtoll(exponent + 1, NULL, 10) - (exponent - text - (*text == '-'));
        *exponent = '\0';
    }
    return text;
}
