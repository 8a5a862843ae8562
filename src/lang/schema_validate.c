#include "lang/schema_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#define PATTERN_HEAP_KIB (32 * 1024) /* what PCRE2 may keep to go back to */

#define FAILURE_STEPS 32 /* what it costs to tell one */

/* Where failures go while the branches of anyOf and the like are tried: only the first of each is of interest. */
struct trial {
    bool failed;
    unsigned depth; /* of the value that failed first */
    char path[FIELD_PATH_MAX];
    char message[ERROR_MESSAGE_MAX];
};

struct run {
    schema_failure_fn *fn;
    void *ctx;
    int failures;
    uint64_t steps; /* left */
    bool out;       /* of steps */
    struct trial *trial;
    pcre2_match_data *match_data;
    pcre2_match_context *match_context;
    const char *match_at; /* in the pattern's subject, where the last callout was */
};

/* A value being checked, and how it was come by. */
struct place {
    const cJSON *value; /* NULL: it is missing */
    const struct place *parent;
    const char *name; /* in an object; NULL: in an array, or the root */
    size_t index;
    unsigned depth;
};

static bool check(struct run *r, const struct schema *s, const struct place *at);

static bool spend(struct run *r, uint64_t n)
{
    if (n > r->steps)
        r->out = true;
    else
        r->steps -= n;
    return !r->out;
}

/* Is the answer known, or is there nobody to tell more? */
static bool done(const struct run *r)
{
    return r->out || (r->trial ? r->trial->failed : r->failures == SCHEMA_FAILURES_MAX || (!r->fn && r->failures > 0));
}

/* ---- Telling -------------------------------------------------------------------------------------------------------
 */

/* Drop a character that a bounded printf cut. */
static void cut_clean(char *text)
{
    size_t len = strlen(text), start = len;
    while (start > 0 && len - start < 4 && ((unsigned char)text[start - 1] & 0xC0) == 0x80)
        start--;
    if (start > 0 && utf8_sequence(text + start - 1, len - start + 1) != len - start + 1)
        text[start - 1] = '\0';
}

static bool is_plain_name(const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || len > 100)
        return false;
    for (const char *p = name; *p; p++)
        if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || strchr("_-$@", *p)))
            return false;
    return true;
}

static void print_path(char out[FIELD_PATH_MAX], const struct place *at)
{
    char parent[FIELD_PATH_MAX];
    *out = '\0';
    if (!at->parent)
        return;
    print_path(parent, at->parent);
    if (!at->name) {
        field_path_index(out, parent, at->index);
    } else if (is_plain_name(at->name)) {
        field_path(out, parent, at->name);
    } else {
        const cJSON text = {.type = cJSON_String, .valuestring = (char *)at->name};
        char brief[VALUE_BRIEF_MAX];
        int len = snprintf(out, FIELD_PATH_MAX, "%s[%s]", parent, value_brief(&text, brief, sizeof(brief)));
        if (len >= FIELD_PATH_MAX)
            out[FIELD_PATH_MAX - 1] = '\0';
    }
    cut_clean(out);
}

/* Always false. */
__attribute__((format(printf, 3, 4))) static bool fail(struct run *r, const struct place *at, const char *format, ...)
{
    if (done(r) || !spend(r, FAILURE_STEPS))
        return false;
    struct trial told;
    struct trial *t = r->trial ? r->trial : &told;
    va_list args;
    va_start(args, format);
    vsnprintf(t->message, sizeof(t->message), format, args);
    va_end(args);
    cut_clean(t->message);
    print_path(t->path, at);
    t->failed = true;
    t->depth = at->depth;
    if (!r->trial) {
        r->failures++;
        if (r->fn)
            r->fn(r->ctx, t->path, t->message);
    }
    return false;
}

static bool fail_expected(struct run *r, const struct place *at, const char *what)
{
    char got[VALUE_BRIEF_MAX];
    return fail(r, at, "expected %s, got %s", what, value_brief(at->value, got, sizeof(got)));
}

/* ---- Any value -----------------------------------------------------------------------------------------------------
 */

static bool is_integer(const cJSON *number)
{
    int64_t n, exponent;
    if (value_integer(number, &n))
        return true;
    free(schema_decimal(number, &exponent));
    return exponent >= 0;
}

static bool check_type(struct run *r, const struct schema *s, const struct place *at)
{
    static const struct {
        int json;
        unsigned type;
    } types[] = {{cJSON_NULL, TYPE_NULL},     {cJSON_True, TYPE_BOOLEAN}, {cJSON_False, TYPE_BOOLEAN},
                 {cJSON_Object, TYPE_OBJECT}, {cJSON_Array, TYPE_ARRAY},  {cJSON_String, TYPE_STRING}};
    unsigned type = 0;
    if (value_is_number(at->value)) {
        if (at->value->type & cJSON_Raw && !spend(r, strlen(at->value->valuestring) / 64))
            return false;
        type = TYPE_NUMBER | (s->types & TYPE_INTEGER && is_integer(at->value) ? TYPE_INTEGER : 0u);
    }
    for (size_t i = 0; i < ARRAY_SIZE(types); i++)
        if ((at->value->type & 0xFF) == types[i].json)
            type = types[i].type;
    if (s->types & type)
        return true;
    char what[128] = "";
    for (unsigned i = 0; i < TYPES; i++)
        if (s->types >> i & 1) {
            size_t len = strlen(what);
            snprintf(what + len, sizeof(what) - len, "%s%s", len ? " or " : "", schema_type_names[i]);
        }
    return fail_expected(r, at, what);
}

static bool is_equal(struct run *r, const cJSON *a, const cJSON *b)
{
    int rc = value_equal_within(a, b, &r->steps);
    if (rc < 0)
        r->out = true;
    return rc > 0;
}

static bool check_words(struct run *r, const struct schema *s, const struct place *at)
{
    char brief[VALUE_BRIEF_MAX];
    if (s->constant && !is_equal(r, at->value, s->constant))
        return fail_expected(r, at, value_brief(s->constant, brief, sizeof(brief)));
    if (!s->words)
        return true;
    assert(s->words->child); /* take_enum() refuses an empty list */
    for (const cJSON *word = s->words->child; word; word = word->next)
        if (is_equal(r, at->value, word))
            return true;
    if (r->out)
        return false;
    _cleanup_(buf_fini) struct buf all = {0};
    for (const cJSON *word = s->words->child; word; word = word->next) {
        if (all.len > 200) {
            buf_adds(&all, ", …");
            break;
        }
        buf_printf(&all, "%s%s", all.len ? ", " : "", value_brief(word, brief, sizeof(brief)));
    }
    return s->words->child->next
               ? fail(r, at, "expected one of %s, got %s", all.data, value_brief(at->value, brief, sizeof(brief)))
               : fail_expected(r, at, all.data);
}

/* Check one branch without telling; `nearest` keeps the failure deepest in the value. */
static bool try_branch(struct run *r, const struct schema *s, const struct place *at, struct trial *nearest)
{
    struct trial trial = {.failed = false}, *outer = r->trial;
    r->trial = &trial;
    bool valid = check(r, s, at);
    r->trial = outer;
    if (!valid && nearest && (!nearest->failed || trial.depth > nearest->depth))
        *nearest = trial;
    return valid;
}

static bool fail_nearest(struct run *r, const struct place *at, const char *keyword, const struct trial *nearest)
{
    char path[FIELD_PATH_MAX];
    print_path(path, at);
    const char *inner = nearest->path;
    size_t len = strlen(path);
    if (strncmp(inner, path, len) == 0)
        inner += len + (inner[len] == '.');
    return fail(r, at, "matches no schema of `%s` (nearest: %s%s%s)", keyword, inner, *inner ? ": " : "",
                nearest->message);
}

static bool check_combined(struct run *r, const struct schema *s, const struct place *at)
{
    bool valid = true;
    for (size_t i = 0; i < s->all_of.n && !done(r); i++)
        valid &= check(r, s->all_of.items[i], at);
    struct trial nearest = {.failed = false};
    if (s->any_of.n > 0 && !done(r)) {
        bool any = false;
        for (size_t i = 0; i < s->any_of.n && !any && !r->out; i++)
            any = try_branch(r, s->any_of.items[i], at, &nearest);
        if (!any)
            valid = fail_nearest(r, at, "anyOf", &nearest);
    }
    if (s->one_of.n > 0 && !done(r)) {
        size_t count = 0, which[2] = {0};
        nearest.failed = false;
        for (size_t i = 0; i < s->one_of.n && count < 2 && !r->out; i++)
            if (try_branch(r, s->one_of.items[i], at, &nearest))
                which[count++] = i;
        if (count == 0)
            valid = fail_nearest(r, at, "oneOf", &nearest);
        else if (count > 1)
            valid = fail(r, at, "matches the schemas %zu and %zu of `oneOf`, may match one only", which[0] + 1,
                         which[1] + 1);
    }
    if (s->none_of && !done(r) && try_branch(r, s->none_of, at, NULL) && !r->out)
        valid = fail(r, at, "matches the schema of `not`");
    return valid;
}

/* ---- Numbers -------------------------------------------------------------------------------------------------------
 */

/* 10^n modulo m. */
static uint64_t power_of_ten(int64_t n, uint64_t m)
{
    unsigned __int128 result = 1 % m, base = 10 % m;
    for (; n > 0; n >>= 1) {
        if (n & 1)
            result = result * base % m;
        base = base * base % m;
    }
    return (uint64_t)result;
}

static bool is_multiple(const cJSON *number, const struct divisor *d)
{
    int64_t exponent;
    _cleanup_(freep) char *digits = schema_decimal(number, &exponent);
    if (streq(digits, "0"))
        return true;
    /* The last digit is not 0: a divisor with more tens in it than the number has cannot divide it. */
    if (exponent < d->exponent)
        return false;
    unsigned __int128 rest = 0;
    for (const char *p = digits + (*digits == '-'); *p; p++)
        rest = (rest * 10 + (unsigned)(*p - '0')) % d->digits;
    return rest * power_of_ten(exponent - d->exponent, d->digits) % d->digits == 0;
}

static bool check_number(struct run *r, const struct schema *s, const struct place *at)
{
    const struct {
        const cJSON *bound;
        int wrong; /* the sign of a comparison that fails */
        bool open;
        const char *words;
    } bounds[] = {
        {s->minimum, -1, false, "at least"},
        {s->maximum, 1, false, "at most"},
        {s->above, -1, true, "more than"},
        {s->below, 1, true, "less than"},
    };
    bool valid = true;
    char brief[VALUE_BRIEF_MAX], what[VALUE_BRIEF_MAX + 32];
    if (at->value->type & cJSON_Raw && !spend(r, strlen(at->value->valuestring) / 16))
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(bounds); i++) {
        if (!bounds[i].bound)
            continue;
        int order = value_number_compare(at->value, bounds[i].bound);
        if (order * bounds[i].wrong > 0 || (order == 0 && bounds[i].open)) {
            snprintf(what, sizeof(what), "%s %s", bounds[i].words, value_brief(bounds[i].bound, brief, sizeof(brief)));
            valid = fail_expected(r, at, what);
        }
    }
    if (s->multiple_of.digits && !is_multiple(at->value, &s->multiple_of)) {
        snprintf(what, sizeof(what), "a multiple of %s", value_brief(s->multiple_of.value, brief, sizeof(brief)));
        valid = fail_expected(r, at, what);
    }
    return valid;
}

/* ---- Strings -------------------------------------------------------------------------------------------------------
 */

/* Before each item of a pattern: that is a step, and so is what was walked over since the last. */
static int count_work(pcre2_callout_block *block, void *data)
{
    struct run *r = data;
    const char *now = (const char *)block->subject + block->current_position;
    size_t moved = (size_t)(now > r->match_at ? now - r->match_at : r->match_at - now);
    r->match_at = now;
    return spend(r, 1 + moved / 64) ? 0 : PCRE2_ERROR_CALLOUT;
}

static bool pattern_matches(struct run *r, const pcre2_code *pattern, const char *text, size_t len)
{
    if (!r->match_data) {
        r->match_data = pcre2_match_data_create(1, NULL);
        r->match_context = pcre2_match_context_create(NULL);
        pcre2_set_callout(r->match_context, count_work, r);
        pcre2_set_heap_limit(r->match_context, PATTERN_HEAP_KIB);
    }
    r->match_at = text;
    int rc = pcre2_match(pattern, (PCRE2_SPTR)text, len, 0, 0, r->match_data, r->match_context);
    bool invalid_text = rc <= PCRE2_ERROR_UTF8_ERR1 && rc >= PCRE2_ERROR_UTF8_ERR21;
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH && !invalid_text)
        r->out = true;
    return rc >= 0;
}

static bool check_string(struct run *r, const struct schema *s, const struct place *at)
{
    const char *text = at->value->valuestring;
    size_t len = strlen(text);
    int64_t characters = 0;
    bool valid = true;
    if (s->length_min < 0 && s->length_max < 0 && !s->pattern)
        return true;
    if (!spend(r, len / 64))
        return false;
    for (const char *p = text; *p; p++)
        characters += ((unsigned char)*p & 0xC0) != 0x80;
    if (s->length_min >= 0 && characters < s->length_min)
        valid =
            fail(r, at, "expected at least %lld characters, got %lld", (long long)s->length_min, (long long)characters);
    if (s->length_max >= 0 && characters > s->length_max)
        valid =
            fail(r, at, "expected at most %lld characters, got %lld", (long long)s->length_max, (long long)characters);
    if (s->pattern && !pattern_matches(r, s->pattern, text, len)) {
        char what[256];
        snprintf(what, sizeof(what), "a match of /%.200s%s/", s->pattern_text,
                 strlen(s->pattern_text) > 200 ? "…" : "");
        valid = fail_expected(r, at, what);
    }
    return valid;
}

/* ---- Arrays --------------------------------------------------------------------------------------------------------
 */

/* A hash that is equal for equal values; members of objects count in any order. */
static uint64_t hash_value(struct run *r, const cJSON *v)
{
    uint64_t type = (uint64_t)(v->type & 0xFF), h = 0;
    if (!spend(r, 1))
        return 0;
    if (value_is_number(v)) {
        int64_t exponent;
        _cleanup_(freep) char *digits = schema_decimal(v, &exponent);
        size_t len = strlen(digits);
        spend(r, len / 16);
        return hash_bytes(hash_bytes(0, &exponent, sizeof(exponent)), digits, len);
    }
    if (v->valuestring) {
        size_t len = strlen(v->valuestring);
        spend(r, len / 64);
        h = hash_bytes(0, v->valuestring, len);
    }
    for (const cJSON *child = v->child; child && !r->out; child = child->next) {
        uint64_t inner = hash_value(r, child);
        if (cJSON_IsObject(v))
            h += hash_bytes(inner | 1, child->string, strlen(child->string));
        else
            h = hash_bytes(h, &inner, sizeof(inner));
    }
    return hash_bytes(h, &type, sizeof(type));
}

struct hashed {
    uint64_t hash;
    size_t index;
    const cJSON *value;
};

static int by_hash(const void *a, const void *b)
{
    const struct hashed *x = a, *y = b;
    return x->hash != y->hash ? (x->hash < y->hash ? -1 : 1) : (x->index > y->index) - (x->index < y->index);
}

static bool check_unique(struct run *r, const struct place *at, size_t n)
{
    if (n < 2 || !spend(r, n))
        return !r->out;
    _cleanup_(freep) struct hashed *items = xcalloc(n, sizeof(*items));
    size_t i = 0;
    for (const cJSON *item = at->value->child; item && !r->out; item = item->next, i++)
        items[i] = (struct hashed){.hash = hash_value(r, item), .index = i, .value = item};
    if (r->out)
        return false;
    qsort(items, n, sizeof(*items), by_hash);
    for (size_t first = 0; first < n; first++)
        for (size_t k = first + 1; k < n && items[k].hash == items[first].hash; k++) {
            if (is_equal(r, items[first].value, items[k].value))
                return fail(r, at, "the items %zu and %zu are equal", items[first].index, items[k].index);
            if (r->out)
                return false;
        }
    return true;
}

static bool check_array(struct run *r, const struct schema *s, const struct place *at)
{
    size_t n = 0;
    bool valid = true;
    for (const cJSON *item = at->value->child; item; item = item->next)
        n++;
    if (!spend(r, n / 8))
        return false;
    if (s->items_min >= 0 && (int64_t)n < s->items_min)
        valid = fail(r, at, "expected at least %lld items, got %zu", (long long)s->items_min, n);
    if (s->items_max >= 0 && (int64_t)n > s->items_max)
        valid = fail(r, at, "expected at most %lld items, got %zu", (long long)s->items_max, n);
    if (s->unique_items && !done(r))
        valid &= check_unique(r, at, n);
    size_t i = 0;
    for (const cJSON *item = at->value->child; item && !done(r); item = item->next, i++) {
        const struct schema *rule = i < s->prefix_items.n ? s->prefix_items.items[i] : s->items;
        if (!rule)
            break;
        struct place inner = {.value = item, .parent = at, .index = i, .depth = at->depth + 1};
        valid &= check(r, rule, &inner);
    }
    return valid;
}

/* ---- Objects -------------------------------------------------------------------------------------------------------
 */

/* Index in the sorted properties, or their number. */
static size_t find_property(const struct schema *s, const char *name)
{
    size_t low = 0, high = s->property_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, s->properties[middle].name);
        if (order == 0)
            return middle;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return s->property_count;
}

/* Told when the schema takes no others. */
static bool fail_unknown(struct run *r, const struct schema *s, const struct place *at)
{
    if (r->trial || s->property_count == 0)
        return fail(r, at, "unknown key");
    _cleanup_(freep) const char **names = xcalloc(s->property_count, sizeof(*names));
    for (size_t i = 0; i < s->property_count; i++)
        names[i] = s->properties[i].name;
    return fail(r, at, "unknown key; did you mean \"%.60s\"?",
                nearest_name(at->value->string, names, s->property_count));
}

static bool check_member(struct run *r, const struct schema *s, const struct place *at, size_t property)
{
    bool valid = true;
    if (s->names) {
        const cJSON name = {.type = cJSON_String, .valuestring = at->value->string};
        struct place key = *at;
        key.value = &name;
        valid = check(r, s->names, &key);
    }
    const struct schema *rule = property < s->property_count ? s->properties[property].schema : NULL;
    if (rule)
        valid &= !done(r) && check(r, rule, at);
    else if (s->additional && s->additional->never)
        valid = fail_unknown(r, s, at);
    else if (s->additional)
        valid &= !done(r) && check(r, s->additional, at);
    return valid;
}

static bool check_object(struct run *r, const struct schema *s, const struct place *at)
{
    bool valid = true;
    int64_t n = 0;
    _cleanup_(freep) bool *seen = xcalloc(s->property_count + 1, sizeof(*seen));
    if (!spend(r, s->property_count / 16))
        return false;
    for (const cJSON *member = at->value->child; member && !done(r); member = member->next, n++) {
        if (!spend(r, 1 + strlen(member->string) / 64))
            return false;
        size_t property = find_property(s, member->string);
        seen[property] = true;
        struct place inner = {.value = member, .parent = at, .name = member->string, .depth = at->depth + 1};
        valid &= check_member(r, s, &inner, property);
    }
    for (size_t i = 0; i < s->property_count && !done(r); i++)
        if (s->properties[i].required && !seen[i]) {
            struct place missing = {.parent = at, .name = s->properties[i].name, .depth = at->depth};
            valid = fail(r, &missing, "required, but missing");
        }
    if (s->properties_min >= 0 && n < s->properties_min)
        valid = fail(r, at, "expected at least %lld members, got %lld", (long long)s->properties_min, (long long)n);
    if (s->properties_max >= 0 && n > s->properties_max)
        valid = fail(r, at, "expected at most %lld members, got %lld", (long long)s->properties_max, (long long)n);
    return valid;
}

/* ---- A schema ------------------------------------------------------------------------------------------------------
 */

/* The answer means nothing once r->out is set, and is only "no" for sure when done(r) cut it short. */
static bool check(struct run *r, const struct schema *s, const struct place *at)
{
    if (!spend(r, 1))
        return false;
    if (s->never)
        return fail(r, at, "no value is allowed here");
    if (s->types && !check_type(r, s, at))
        return false;
    bool valid = check_words(r, s, at);
    if (value_is_number(at->value))
        valid &= check_number(r, s, at);
    else if (cJSON_IsString(at->value))
        valid &= check_string(r, s, at);
    else if (cJSON_IsArray(at->value))
        valid &= check_array(r, s, at);
    else if (cJSON_IsObject(at->value))
        valid &= check_object(r, s, at);
    if (!done(r))
        valid &= check_combined(r, s, at);
    return valid;
}

int schema_validate(const struct schema *s, const cJSON *value, schema_failure_fn *fn, void *ctx, struct error *err)
{
    struct run r = {.fn = fn, .ctx = ctx, .steps = SCHEMA_STEPS_MAX};
    struct place root = {.value = value};
    check(&r, s, &root);
    pcre2_match_data_free(r.match_data);
    pcre2_match_context_free(r.match_context);
    if (r.out)
        return error_set(err, -E2BIG, "checking the value against its schema takes too much work");
    return r.failures;
}
