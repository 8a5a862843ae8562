/* The field types that every table may use. */
#include "model/field.h"

#include "base/util.h"

#include <math.h>
#include <stdio.h>

/* ---- small shared pieces ---- */

/* `expected WHAT, got VALUE`; always false. */
static bool wrong(struct issues *issues, const char *path, const cJSON *v, const char *what)
{
    char got[64];
    issue_add(issues, path, v, "expected %s, got %s", what, value_brief(v, got, sizeof(got)));
    return false;
}

static bool length_ok(const struct field *f, size_t n, const cJSON *v, const char *path, struct issues *issues,
                      const char *unit)
{
    if ((f->flags & FIELD_NOT_EMPTY) && n == 0) {
        issue_add(issues, path, v, "expected at least one %s, got none", unit);
        return false;
    }
    if (f->max > 0 && (double)n > f->max) {
        issue_add(issues, path, v, "expected at most %.0f %ss, got %zu", f->max, unit, n);
        return false;
    }
    return true;
}

/* ---- bool ---- */

static bool bool_parse(const struct field *f, const cJSON *v, void *slot, const char *path, struct issues *issues)
{
    (void)f;
    if (!cJSON_IsBool(v))
        return wrong(issues, path, v, "true or false");
    *(bool *)slot = cJSON_IsTrue(v);
    return true;
}

static cJSON *bool_print(const struct field *f, const void *slot)
{
    (void)f;
    return cJSON_CreateBool(*(const bool *)slot);
}

static bool bool_equal(const struct field *f, const void *a, const void *b)
{
    (void)f;
    return *(const bool *)a == *(const bool *)b;
}

static void bool_schema(const struct field *f, cJSON *o)
{
    (void)f;
    cJSON_AddStringToObject(o, "type", "boolean");
}

const struct field_type field_bool = {"boolean", sizeof(bool), bool_parse, bool_print, bool_equal, NULL, bool_schema};

/* ---- numbers ---- */

/* What was expected, by what is wrong: `a number ≥ 0`, or of one that is too large `a number ≤ 100`. */
static const char *range_words(const struct field *f, const cJSON *v, const char *noun, char out[128])
{
    if (value_is_number(v) && v->valuedouble > f->max)
        snprintf(out, 128, "%s ≤ %.15g", noun, f->max);
    else
        snprintf(out, 128, "%s %s %.15g", noun, f->flags & FIELD_MIN_OPEN ? ">" : "≥", f->min);
    return out;
}

static bool in_range(const struct field *f, double d)
{
    return (f->flags & FIELD_MIN_OPEN ? d > f->min : d >= f->min) && d <= f->max;
}

static bool int_parse(const struct field *f, const cJSON *v, void *slot, const char *path, struct issues *issues)
{
    char words[128];
    int64_t n;
    if (!value_integer(v, &n) || !in_range(f, (double)n))
        return wrong(issues, path, v, range_words(f, v, "an integer", words));
    *(int64_t *)slot = n;
    return true;
}

static cJSON *int_print(const struct field *f, const void *slot)
{
    (void)f;
    return value_number_from_int(*(const int64_t *)slot);
}

static bool int_equal(const struct field *f, const void *a, const void *b)
{
    (void)f;
    return *(const int64_t *)a == *(const int64_t *)b;
}

static void range_schema(const struct field *f, cJSON *o)
{
    cJSON_AddItemToObject(o, f->flags & FIELD_MIN_OPEN ? "exclusiveMinimum" : "minimum",
                          value_number_from_double(f->min));
    if (f->max < 1e18)
        cJSON_AddItemToObject(o, "maximum", value_number_from_double(f->max));
}

static void int_schema(const struct field *f, cJSON *o)
{
    cJSON_AddStringToObject(o, "type", "integer");
    range_schema(f, o);
}

const struct field_type field_int = {"integer", sizeof(int64_t), int_parse, int_print, int_equal, NULL, int_schema};

static bool number_parse(const struct field *f, const cJSON *v, void *slot, const char *path, struct issues *issues)
{
    char words[128];
    if (!value_is_number(v) || !isfinite(v->valuedouble) || !in_range(f, v->valuedouble))
        return wrong(issues, path, v, range_words(f, v, "a number", words));
    *(double *)slot = v->valuedouble;
    return true;
}

static cJSON *number_print(const struct field *f, const void *slot)
{
    (void)f;
    return value_number_from_double(*(const double *)slot);
}

static bool number_equal(const struct field *f, const void *a, const void *b)
{
    (void)f;
    return *(const double *)a == *(const double *)b;
}

static void number_schema(const struct field *f, cJSON *o)
{
    cJSON_AddStringToObject(o, "type", "number");
    range_schema(f, o);
}

const struct field_type field_number = {"number",     sizeof(double), number_parse, number_print,
                                        number_equal, NULL,           number_schema};
const struct field_type field_seconds = {"seconds",    sizeof(double), number_parse, number_print,
                                         number_equal, NULL,           number_schema};

/* ---- strings ---- */

static bool string_parse(const struct field *f, const cJSON *v, void *slot, const char *path, struct issues *issues)
{
    if (!cJSON_IsString(v) && (f->flags & FIELD_SECRET)) { /* it may be the secret all the same */
        issue_add(issues, path, v, "expected a string, got %s", value_type_name(v));
        return false;
    }
    if (!cJSON_IsString(v))
        return wrong(issues, path, v, "a string");
    if (!length_ok(f, utf8_length(v->valuestring), v, path, issues, "character"))
        return false;
    *(char **)slot = xstrdup(v->valuestring);
    return true;
}

static cJSON *string_print(const struct field *f, const void *slot)
{
    (void)f;
    const char *s = *(char *const *)slot;
    return s ? cJSON_CreateString(s) : NULL;
}

static bool string_equal(const struct field *f, const void *a, const void *b)
{
    (void)f;
    return streq(*(char *const *)a, *(char *const *)b);
}

static void string_fini(const struct field *f, void *slot)
{
    (void)f;
    free(*(char **)slot);
    *(char **)slot = NULL;
}

static void string_schema(const struct field *f, cJSON *o)
{
    cJSON_AddStringToObject(o, "type", "string");
    if (f->flags & FIELD_NOT_EMPTY)
        cJSON_AddNumberToObject(o, "minLength", 1);
    if (f->max > 0)
        cJSON_AddNumberToObject(o, "maxLength", f->max);
}

const struct field_type field_string = {"string",     sizeof(char *), string_parse, string_print,
                                        string_equal, string_fini,    string_schema};

/* 1 to `max` of letters (large ones only with `upper`), digits, "_", "." and "-", of which those of `not_first` do not
 * begin it. By hand: asked of every event, and strspn() makes a table each time. */
static bool is_name(const char *s, bool upper, const char *not_first, size_t max)
{
    size_t n = 0;
    for (; s[n]; n++) {
        char c = s[n];
        bool fits = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-' ||
                    (upper && c >= 'A' && c <= 'Z');
        if (!fits || n == max)
            return false;
    }
    return n >= 1 && !strchr(not_first, s[0]);
}

bool id_text_valid(const char *s)
{
    return is_name(s, false, "_.-", 63);
}

bool endpoint_text_valid(const char *s)
{
    return is_name(s, true, ".", ENDPOINT_MAX);
}

static bool id_parse(const struct field *f, const cJSON *v, void *slot, const char *path, struct issues *issues)
{
    if (!cJSON_IsString(v) || !id_text_valid(v->valuestring))
        return wrong(issues, path, v, "an id ([a-z0-9][a-z0-9_.-]{0,62})");
    return string_parse(f, v, slot, path, issues);
}

static void id_schema(const struct field *f, cJSON *o)
{
    (void)f;
    cJSON_AddStringToObject(o, "type", "string");
    cJSON_AddStringToObject(o, "pattern", "^[a-z0-9][a-z0-9_.-]{0,62}$");
}

const struct field_type field_id = {"id", sizeof(char *), id_parse, string_print, string_equal, string_fini, id_schema};

static bool endpoint_parse(const struct field *f, const cJSON *v, void *slot, const char *path, struct issues *issues)
{
    if (!cJSON_IsString(v) || !endpoint_text_valid(v->valuestring))
        return wrong(issues, path, v, "an endpoint name ([A-Za-z0-9_-][A-Za-z0-9_.-]{0,127})");
    return string_parse(f, v, slot, path, issues);
}

static void endpoint_schema(const struct field *f, cJSON *o)
{
    (void)f;
    cJSON_AddStringToObject(o, "type", "string");
    cJSON_AddStringToObject(o, "pattern", "^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}$");
}

const struct field_type field_endpoint = {"endpoint",   sizeof(char *), endpoint_parse, string_print,
                                          string_equal, string_fini,    endpoint_schema};

/* ---- enums ---- */

static char *words_list(const struct field *f, const char *prefix)
{
    struct buf b = {0};
    buf_adds(&b, prefix);
    for (size_t i = 0; f->words[i]; i++)
        buf_printf(&b, "%s%s", i ? ", " : "", f->words[i]);
    return buf_steal(&b);
}

static int word_index(const struct field *f, const cJSON *v)
{
    if (cJSON_IsString(v))
        for (int i = 0; f->words[i]; i++)
            if (strcmp(f->words[i], v->valuestring) == 0)
                return i;
    return -1;
}

static bool enum_parse(const struct field *f, const cJSON *v, void *slot, const char *path, struct issues *issues)
{
    int i = word_index(f, v);
    if (i < 0) {
        _cleanup_(freep) char *what = words_list(f, "one of ");
        return wrong(issues, path, v, what);
    }
    *(int *)slot = i;
    return true;
}

static cJSON *enum_print(const struct field *f, const void *slot)
{
    return cJSON_CreateString(f->words[*(const int *)slot]);
}

static bool enum_equal(const struct field *f, const void *a, const void *b)
{
    (void)f;
    return *(const int *)a == *(const int *)b;
}

static cJSON *words_array(const struct field *f)
{
    cJSON *a = cJSON_CreateArray();
    for (size_t i = 0; f->words[i]; i++)
        cJSON_AddItemToArray(a, cJSON_CreateString(f->words[i]));
    return a;
}

static void enum_schema(const struct field *f, cJSON *o)
{
    cJSON_AddStringToObject(o, "type", "string");
    cJSON_AddItemToObject(o, "enum", words_array(f));
}

const struct field_type field_enum = {"word", sizeof(int), enum_parse, enum_print, enum_equal, NULL, enum_schema};

static bool words_parse(const struct field *f, const cJSON *v, void *slot, const char *path, struct issues *issues)
{
    if (!cJSON_IsArray(v)) {
        _cleanup_(freep) char *what = words_list(f, "a list of ");
        return wrong(issues, path, v, what);
    }
    if (!length_ok(f, (size_t)cJSON_GetArraySize(v), v, path, issues, "entry"))
        return false;
    uint64_t set = 0;
    bool ok = true;
    size_t index = 0;
    const cJSON *item;
    cJSON_ArrayForEach (item, v) {
        char item_path[FIELD_PATH_MAX];
        int i = word_index(f, item);
        if (i < 0) {
            _cleanup_(freep) char *what = words_list(f, "one of ");
            ok = wrong(issues, field_path_index(item_path, path, index), item, what);
        } else {
            set |= UINT64_C(1) << i;
        }
        index++;
    }
    *(uint64_t *)slot = set;
    return ok;
}

static cJSON *words_print(const struct field *f, const void *slot)
{
    cJSON *a = cJSON_CreateArray();
    for (size_t i = 0; f->words[i]; i++)
        if (*(const uint64_t *)slot & (UINT64_C(1) << i))
            cJSON_AddItemToArray(a, cJSON_CreateString(f->words[i]));
    return a;
}

static bool words_equal(const struct field *f, const void *a, const void *b)
{
    (void)f;
    return *(const uint64_t *)a == *(const uint64_t *)b;
}

static void words_schema(const struct field *f, cJSON *o)
{
    cJSON_AddStringToObject(o, "type", "array");
    cJSON *items = cJSON_AddObjectToObject(o, "items");
    enum_schema(f, items);
    if (f->flags & FIELD_NOT_EMPTY)
        cJSON_AddNumberToObject(o, "minItems", 1);
    if (f->max > 0)
        cJSON_AddNumberToObject(o, "maxItems", f->max);
}

const struct field_type field_words = {"list of words", sizeof(uint64_t), words_parse, words_print, words_equal, NULL,
                                       words_schema};

/* ---- lists of strings ---- */

bool strings_have(const struct strings *s, const char *word)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->items[i], word) == 0)
            return true;
    return false;
}

static bool strings_parse(const struct field *f, const cJSON *v, void *slot, const char *path, struct issues *issues)
{
    struct strings *s = slot;
    if (cJSON_IsString(v)) {
        s->items = xcalloc(1, sizeof(char *));
        s->items[s->n++] = xstrdup(v->valuestring);
        return true;
    }
    if (!cJSON_IsArray(v))
        return wrong(issues, path, v, "a list of strings");
    size_t n = (size_t)cJSON_GetArraySize(v);
    if (!length_ok(f, n, v, path, issues, "entry"))
        return false;
    s->items = xcalloc(n, sizeof(char *));
    bool ok = true;
    size_t index = 0;
    const cJSON *item;
    cJSON_ArrayForEach (item, v) {
        char item_path[FIELD_PATH_MAX];
        if (cJSON_IsString(item))
            s->items[s->n++] = xstrdup(item->valuestring);
        else
            ok = wrong(issues, field_path_index(item_path, path, index), item, "a string");
        index++;
    }
    return ok;
}

static cJSON *strings_print(const struct field *f, const void *slot)
{
    (void)f;
    const struct strings *s = slot;
    return cJSON_CreateStringArray((const char *const *)s->items, (int)s->n);
}

static bool strings_equal(const struct field *f, const void *a, const void *b)
{
    (void)f;
    const struct strings *x = a, *y = b;
    if (x->n != y->n)
        return false;
    for (size_t i = 0; i < x->n; i++)
        if (strcmp(x->items[i], y->items[i]) != 0)
            return false;
    return true;
}

static void strings_fini(const struct field *f, void *slot)
{
    (void)f;
    struct strings *s = slot;
    for (size_t i = 0; i < s->n; i++)
        free(s->items[i]);
    free(s->items);
    *s = (struct strings){0};
}

static void strings_schema(const struct field *f, cJSON *o)
{
    cJSON *any = cJSON_AddArrayToObject(o, "anyOf");
    cJSON *one = cJSON_CreateObject(), *list = cJSON_CreateObject();
    cJSON_AddStringToObject(one, "type", "string");
    cJSON_AddStringToObject(list, "type", "array");
    cJSON *items = cJSON_AddObjectToObject(list, "items");
    cJSON_AddStringToObject(items, "type", "string");
    if (f->flags & FIELD_NOT_EMPTY)
        cJSON_AddNumberToObject(list, "minItems", 1);
    if (f->max > 0)
        cJSON_AddNumberToObject(list, "maxItems", f->max);
    cJSON_AddItemToArray(any, list);
    cJSON_AddItemToArray(any, one);
}

const struct field_type field_strings = {"list of strings", sizeof(struct strings), strings_parse, strings_print,
                                         strings_equal,     strings_fini,           strings_schema};

/* ---- JSON kept as it is ---- */

static bool json_parse(const struct field *f, const cJSON *v, void *slot, const char *path, struct issues *issues)
{
    (void)f, (void)path, (void)issues;
    *(cJSON **)slot = cJSON_Duplicate(v, true);
    return true;
}

static bool string_map_parse(const struct field *f, const cJSON *v, void *slot, const char *path, struct issues *issues)
{
    if (!cJSON_IsObject(v))
        return wrong(issues, path, v, "an object of strings");
    bool ok = true;
    const cJSON *item;
    cJSON_ArrayForEach (item, v) {
        char item_path[FIELD_PATH_MAX];
        if (!cJSON_IsString(item))
            ok = wrong(issues, field_path(item_path, path, item->string), item, "a string (quote it)");
    }
    return ok && length_ok(f, (size_t)cJSON_GetArraySize(v), v, path, issues, "entry") &&
           json_parse(f, v, slot, path, issues);
}

static cJSON *json_print(const struct field *f, const void *slot)
{
    (void)f;
    const cJSON *v = *(cJSON *const *)slot;
    return v ? cJSON_Duplicate(v, true) : NULL;
}

static bool json_equal(const struct field *f, const void *a, const void *b)
{
    (void)f;
    const cJSON *x = *(cJSON *const *)a, *y = *(cJSON *const *)b;
    return value_equal(x, y);
}

static void json_fini(const struct field *f, void *slot)
{
    (void)f;
    cJSON_Delete(*(cJSON **)slot);
    *(cJSON **)slot = NULL;
}

static void json_schema(const struct field *f, cJSON *o)
{
    (void)f, (void)o;
}

static void string_map_schema(const struct field *f, cJSON *o)
{
    (void)f;
    cJSON_AddStringToObject(o, "type", "object");
    cJSON *sub = cJSON_AddObjectToObject(o, "additionalProperties");
    cJSON_AddStringToObject(sub, "type", "string");
}

const struct field_type field_json = {"any",      sizeof(cJSON *), json_parse, json_print,
                                      json_equal, json_fini,       json_schema};
const struct field_type field_string_map = {"object of strings", sizeof(cJSON *), string_map_parse, json_print,
                                            json_equal,          json_fini,       string_map_schema};

/* ---- a JSON object kept as its text: a tree takes ten times the room ---- */

static bool json_object_parse(const struct field *f, const cJSON *v, void *slot, const char *path,
                              struct issues *issues)
{
    if (!cJSON_IsObject(v))
        return wrong(issues, path, v, "an object");
    if (!length_ok(f, (size_t)cJSON_GetArraySize(v), v, path, issues, "entry"))
        return false;
    _cleanup_(freep) char *text = value_print(v);
    *(char **)slot = xstrdup(text); /* without the room that printing took */
    return true;
}

static cJSON *json_text_parse(const char *text)
{
    cJSON *v = NULL;
    if (text)
        value_parse(text, strlen(text), &v, NULL);
    return v;
}

static cJSON *json_object_print(const struct field *f, const void *slot)
{
    (void)f;
    return json_text_parse(*(char *const *)slot);
}

static bool json_object_equal(const struct field *f, const void *a, const void *b)
{
    (void)f;
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    if (streq(x, y))
        return true;
    _cleanup_(cjson_deletep) cJSON *v = json_text_parse(x), *w = json_text_parse(y);
    return value_equal(v, w);
}

static void json_object_schema(const struct field *f, cJSON *o)
{
    cJSON_AddStringToObject(o, "type", "object");
    if (f->flags & FIELD_NOT_EMPTY)
        cJSON_AddNumberToObject(o, "minProperties", 1);
    if (f->max > 0)
        cJSON_AddNumberToObject(o, "maxProperties", f->max);
}

const struct field_type field_json_object = {"object",          sizeof(char *), json_object_parse, json_object_print,
                                             json_object_equal, string_fini,    json_object_schema};

/* ---- objects described by a table ---- */

static bool object_parse(const struct field *f, const cJSON *v, void *slot, const char *path, struct issues *issues)
{
    if (!cJSON_IsObject(v))
        return wrong(issues, path, v, "an object");
    fields_fini(f->sub, slot);
    memset(slot, 0, f->sub->size);
    return fields_parse(f->sub, v, NULL, slot, path, issues);
}

static cJSON *object_print(const struct field *f, const void *slot)
{
    return fields_print(f->sub, slot, true);
}

static bool object_equal(const struct field *f, const void *a, const void *b)
{
    return fields_equal(f->sub, a, b);
}

static void object_fini(const struct field *f, void *slot)
{
    fields_fini(f->sub, slot);
}

static void object_schema(const struct field *f, cJSON *o)
{
    cJSON *sub = fields_schema(f->sub);
    while (sub->child) {
        cJSON *item = cJSON_DetachItemViaPointer(sub, sub->child);
        cJSON_AddItemToObject(o, item->string, item); /* copies the key before it lets go of the old one */
    }
    cJSON_Delete(sub);
}

const struct field_type field_object = {"object",     0,           object_parse, object_print,
                                        object_equal, object_fini, object_schema};

static void object_opt_fini(const struct field *f, void *slot)
{
    void *s = *(void **)slot;
    if (s)
        fields_fini(f->sub, s);
    free(s);
    *(void **)slot = NULL;
}

static bool object_opt_parse(const struct field *f, const cJSON *v, void *slot, const char *path, struct issues *issues)
{
    if (!cJSON_IsObject(v))
        return wrong(issues, path, v, "an object");
    object_opt_fini(f, slot);
    void *s = *(void **)slot = xcalloc(1, f->sub->size);
    return fields_parse(f->sub, v, NULL, s, path, issues);
}

static cJSON *object_opt_print(const struct field *f, const void *slot)
{
    const void *s = *(void *const *)slot;
    return s ? fields_print(f->sub, s, true) : NULL;
}

static bool object_opt_equal(const struct field *f, const void *a, const void *b)
{
    const void *x = *(void *const *)a, *y = *(void *const *)b;
    return x && y ? fields_equal(f->sub, x, y) : x == y;
}

const struct field_type field_object_opt = {"object",         sizeof(void *),  object_opt_parse, object_opt_print,
                                            object_opt_equal, object_opt_fini, object_schema};

/* ---- lists of them ---- */

static void *object_at(const struct field *f, const struct objects *list, size_t i)
{
    return (char *)list->items + i * f->sub->size;
}

static void objects_fini(const struct field *f, void *slot)
{
    struct objects *list = slot;
    for (size_t i = 0; i < list->n; i++)
        fields_fini(f->sub, object_at(f, list, i));
    free(list->items);
    *list = (struct objects){0};
}

static bool objects_parse(const struct field *f, const cJSON *v, void *slot, const char *path, struct issues *issues)
{
    struct objects *list = slot;
    if (!cJSON_IsArray(v))
        return wrong(issues, path, v, "a list of objects");
    size_t n = (size_t)cJSON_GetArraySize(v);
    if (!length_ok(f, n, v, path, issues, "entry"))
        return false;
    objects_fini(f, slot);
    list->items = xcalloc(n, f->sub->size);
    bool good = true;
    const cJSON *item;
    cJSON_ArrayForEach (item, v) {
        _cleanup_(freep) char *at = xasprintf("%s[%zu]", path, list->n);
        if (!cJSON_IsObject(item))
            good = wrong(issues, at, item, "an object");
        else
            good = fields_parse(f->sub, item, NULL, object_at(f, list, list->n++), at, issues) && good;
    }
    return good;
}

static cJSON *objects_print(const struct field *f, const void *slot)
{
    const struct objects *list = slot;
    cJSON *out = cJSON_CreateArray();
    for (size_t i = 0; i < list->n; i++)
        cJSON_AddItemToArray(out, fields_print(f->sub, object_at(f, list, i), true));
    return out;
}

static bool objects_equal(const struct field *f, const void *a, const void *b)
{
    const struct objects *x = a, *y = b;
    bool equal = x->n == y->n;
    for (size_t i = 0; i < x->n && equal; i++)
        equal = fields_equal(f->sub, object_at(f, x, i), object_at(f, y, i));
    return equal;
}

static void objects_schema(const struct field *f, cJSON *o)
{
    cJSON_AddStringToObject(o, "type", "array");
    cJSON_AddItemToObject(o, "items", fields_schema(f->sub));
}

const struct field_type field_objects = {"list of objects", sizeof(struct objects), objects_parse, objects_print,
                                         objects_equal,     objects_fini,           objects_schema};
