#include "model/field.h"

#include "base/util.h"

static void *slot_of(const struct field *f, void *s)
{
    return (char *)s + f->offset;
}

static const void *slot_of_const(const struct field *f, const void *s)
{
    return (const char *)s + f->offset;
}

/* ---- tables ---- */

const struct field *fields_find(const struct field_table *t, const char *name)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->fields[i].name[0] == name[0] && strcmp(t->fields[i].name, name) == 0)
            return &t->fields[i];
    return NULL;
}

/* true, false and small whole numbers, which most defaults are, without a parse. */
static bool plain_default(const char *json, cJSON *ret)
{
    size_t digits = strspn(json, "0123456789");
    if (streq(json, "true") || streq(json, "false"))
        *ret = (cJSON){.type = *json == 't' ? cJSON_True : cJSON_False};
    else if (digits > 0 && digits < 10 && json[digits] == '\0')
        *ret =
            (cJSON){.type = cJSON_Number, .valueint = (int)strtol(json, NULL, 10), .valuedouble = strtod(json, NULL)};
    else
        return false;
    return true;
}

/* Reset one field to its default (the slot is zeroed or was finished). */
static void default_one(const struct field *f, void *s)
{
    if (f->default_json) {
        cJSON *v = NULL, plain;
        struct issues none = ISSUES_INIT;
        if (plain_default(f->default_json, &plain))
            f->type->parse(f, &plain, slot_of(f, s), f->name, &none);
        else if (value_parse(f->default_json, strlen(f->default_json), &v, NULL) == 0)
            f->type->parse(f, v, slot_of(f, s), f->name, &none);
        cJSON_Delete(v);
        issues_fini(&none); /* a default out of its own range is found by the table test, not here */
    } else if (f->type == &field_object) {
        fields_defaults(f->sub, slot_of(f, s));
    }
}

void fields_defaults(const struct field_table *t, void *ret)
{
    for (size_t i = 0; i < t->n; i++)
        default_one(&t->fields[i], ret);
}

static size_t slot_size(const struct field *f)
{
    return f->type == &field_object ? f->sub->size : f->type->size;
}

static void unknown_key(const struct field_table *t, const char *const *also, const cJSON *item, const char *path,
                        struct issues *issues)
{
    const char *names[128];
    size_t n = 0;
    for (size_t i = 0; i < t->n && n < ARRAY_SIZE(names); i++)
        names[n++] = t->fields[i].name;
    for (size_t i = 0; also && also[i] && n < ARRAY_SIZE(names); i++)
        names[n++] = also[i];
    const char *near = nearest_name(item->string, names, n);
    if (near)
        issue_add_key(issues, path, item, "unknown key; did you mean \"%s\"?", near);
    else
        issue_add_key(issues, path, item, "unknown key; none is known here");
}

static void raise_wrong(enum fields_wrong *wrong, const struct field *f)
{
    bool alone =
        f->type == &field_bool || f->type == &field_int || f->type == &field_number || f->type == &field_seconds;
    enum fields_wrong now = f->sub || (f->flags & FIELD_GOVERNS) ? FIELDS_BASIC : alone ? FIELDS_ALONE : FIELDS_SOME;
    *wrong = MAX(*wrong, now);
}

/* What a value that was wrong has left becomes the default. */
static void reset_one(const struct field *f, void *s)
{
    if (f->type->fini)
        f->type->fini(f, slot_of(f, s));
    memset(slot_of(f, s), 0, slot_size(f));
    default_one(f, s);
}

bool fields_read(const struct field_table *t, const cJSON *obj, const char *const *also, void *ret, const char *path,
                 struct issues *issues, enum fields_wrong *ret_wrong)
{
    size_t before = issues->errors;
    bool seen[128] = {false};
    *ret_wrong = FIELDS_ALONE;
    const cJSON *item;
    cJSON_ArrayForEach (item, obj) {
        char item_path[FIELD_PATH_MAX];
        field_path(item_path, path, item->string);
        const struct field *f = fields_find(t, item->string);
        if (f) {
            if (cJSON_IsNull(item) && (f->flags & FIELD_NULL_OK))
                continue;
            seen[f - t->fields] = true;
            if (f->type->parse(f, item, slot_of(f, ret), item_path, issues))
                continue;
            reset_one(f, ret);
            raise_wrong(ret_wrong, f);
            continue;
        }
        bool known = strncmp(item->string, "x-", 2) == 0;
        for (size_t i = 0; !known && also && also[i]; i++)
            known = strcmp(also[i], item->string) == 0;
        if (!known)
            unknown_key(t, also, item, item_path, issues);
    }
    for (size_t i = 0; i < t->n; i++) {
        const struct field *f = &t->fields[i];
        if (seen[i])
            continue;
        default_one(f, ret);
        if (f->flags & FIELD_REQUIRED) {
            char item_path[FIELD_PATH_MAX];
            issue_add(issues, field_path(item_path, path, f->name), obj, "required, but missing");
            raise_wrong(ret_wrong, f);
        }
    }
    return issues->errors == before;
}

bool fields_parse(const struct field_table *t, const cJSON *obj, const char *const *also, void *ret, const char *path,
                  struct issues *issues)
{
    enum fields_wrong wrong;
    return fields_read(t, obj, also, ret, path, issues, &wrong);
}

void fields_fini(const struct field_table *t, void *s)
{
    for (size_t i = 0; i < t->n; i++) {
        const struct field *f = &t->fields[i];
        if (f->type->fini)
            f->type->fini(f, slot_of(f, s));
    }
}

static bool is_default(const struct field *f, const void *s)
{
    struct field copy = *f;
    copy.offset = 0;
    void *slot = xcalloc(1, slot_size(f));
    default_one(&copy, slot);
    bool same = f->type->equal(f, slot_of_const(f, s), slot);
    if (f->type->fini)
        f->type->fini(f, slot);
    free(slot);
    return same;
}

cJSON *fields_print(const struct field_table *t, const void *s, bool minimal)
{
    cJSON *o = cJSON_CreateObject();
    for (size_t i = 0; i < t->n; i++) {
        const struct field *f = &t->fields[i];
        if (minimal && !(f->flags & FIELD_REQUIRED) && is_default(f, s))
            continue;
        cJSON *v = f->type->print(f, slot_of_const(f, s));
        if (v)
            cJSON_AddItemToObject(o, f->name, v);
    }
    return o;
}

bool fields_equal(const struct field_table *t, const void *a, const void *b)
{
    bool differ = false;
    fields_compare(t, a, b, &differ, NULL, 0, NULL);
    return !differ;
}

enum field_change fields_compare(const struct field_table *t, const void *a, const void *b, bool *ret_differ,
                                 const char **names, size_t cap, size_t *ret_n)
{
    enum field_change cost = CHANGE_NONE;
    size_t n = 0;
    bool differ = false;
    for (size_t i = 0; i < t->n; i++) {
        const struct field *f = &t->fields[i];
        if (f->type->equal(f, slot_of_const(f, a), slot_of_const(f, b)))
            continue;
        differ = true;
        cost = MAX(cost, f->change);
        if (n < cap)
            names[n++] = f->name;
    }
    if (ret_differ)
        *ret_differ = differ;
    if (ret_n)
        *ret_n = n;
    return cost;
}

/* null beside what the type demands. */
static void allow_null(cJSON *p)
{
    cJSON *type = value_get(p, "type"), *words = value_get(p, "enum"), *any = value_get(p, "anyOf");
    if (type) {
        cJSON *types = cJSON_CreateArray();
        cJSON_AddItemToArray(types, cJSON_CreateString(type->valuestring));
        cJSON_AddItemToArray(types, cJSON_CreateString("null"));
        value_set(p, "type", types);
    }
    if (words)
        cJSON_AddItemToArray(words, cJSON_CreateNull());
    if (any) {
        cJSON *null = cJSON_CreateObject();
        cJSON_AddStringToObject(null, "type", "null");
        cJSON_AddItemToArray(any, null);
    }
}

cJSON *fields_schema(const struct field_table *t)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "type", "object");
    if (t->doc)
        cJSON_AddStringToObject(o, "description", t->doc);
    cJSON *properties = cJSON_AddObjectToObject(o, "properties");
    cJSON *required = cJSON_CreateArray();
    for (size_t i = 0; i < t->n; i++) {
        const struct field *f = &t->fields[i];
        cJSON *p = cJSON_AddObjectToObject(properties, f->name);
        f->type->schema(f, p);
        if (f->flags & FIELD_NULL_OK)
            allow_null(p);
        cJSON_DeleteItemFromObject(p, "description");
        cJSON_AddStringToObject(p, "description", f->doc);
        cJSON *v = NULL;
        if (f->default_json && value_parse(f->default_json, strlen(f->default_json), &v, NULL) == 0)
            cJSON_AddItemToObject(p, "default", v);
        if (f->flags & FIELD_REQUIRED)
            cJSON_AddItemToArray(required, cJSON_CreateString(f->name));
    }
    if (cJSON_GetArraySize(required) > 0)
        cJSON_AddItemToObject(o, "required", required);
    else
        cJSON_Delete(required);
    cJSON *x = cJSON_AddObjectToObject(o, "patternProperties");
    cJSON_AddObjectToObject(x, "^x-");
    cJSON_AddBoolToObject(o, "additionalProperties", false);
    return o;
}
