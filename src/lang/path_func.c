/* The functions of RFC 9535 2.4. */
#include "lang/path_internal.h"

static const cJSON *set_number(cJSON *scratch, size_t n)
{
    *scratch = (cJSON){.type = cJSON_Number, .valuedouble = (double)n};
    return scratch;
}

/* The characters of a string, its elements or members; of anything else Nothing. */
static int call_length(struct eval *ev, const struct expr *e, const cJSON *current, cJSON *scratch, const cJSON **ret)
{
    cJSON inner;
    const cJSON *v;
    int r = eval_operand(ev, e->operands, current, &inner, &v);
    if (r < 0)
        return r;
    size_t n = 0;
    if (v && (v->type & cJSON_String)) {
        const char *p = v->valuestring;
        for (; *p; p++)
            n += ((unsigned char)*p & 0xC0) != 0x80;
        r = eval_spend(ev, (uint64_t)(p - v->valuestring) / 16);
        *ret = set_number(scratch, n);
    } else if (v && (v->type & (cJSON_Array | cJSON_Object))) {
        for (const cJSON *child = v->child; child; child = child->next)
            n++;
        r = eval_spend(ev, n / 4);
        *ret = set_number(scratch, n);
    } else {
        *ret = NULL;
    }
    return r;
}

static int call_count(struct eval *ev, const struct expr *e, const cJSON *current, cJSON *scratch, const cJSON **ret)
{
    const cJSON *first;
    size_t n;
    int r = eval_query(ev, e->operands->query, current, SIZE_MAX, &first, &n);
    if (r >= 0)
        *ret = set_number(scratch, n);
    return r;
}

static int call_value(struct eval *ev, const struct expr *e, const cJSON *current, cJSON *scratch, const cJSON **ret)
{
    const cJSON *first;
    size_t n;
    (void)scratch;
    int r = eval_query(ev, e->operands->query, current, 2, &first, &n);
    if (r >= 0)
        *ret = n == 1 ? first : NULL;
    return r;
}

static int match(struct eval *ev, const struct expr *e, const cJSON *current, bool search)
{
    cJSON scratch[2];
    const cJSON *subject, *pattern;
    int r = eval_operand(ev, e->operands, current, &scratch[0], &subject);
    if (r >= 0)
        r = eval_operand(ev, e->operands->next, current, &scratch[1], &pattern);
    if (r < 0)
        return r;
    if (!subject || !(subject->type & cJSON_String) || !pattern || !(pattern->type & cJSON_String))
        return 0;
    if (e->pattern_is_literal)
        return e->pattern ? iregexp_match(e->pattern, subject->valuestring, search, &ev->steps) : 0;

    struct iregexp *re;
    size_t len = strlen(pattern->valuestring);
    r = eval_spend(ev, 50 + len);
    if (r < 0)
        return r;
    r = len > PATH_TEXT_MAX ? -E2BIG : iregexp_compile(pattern->valuestring, &ev->steps, &re, NULL);
    if (r == -EINVAL)
        return 0;
    if (r < 0)
        return r;
    r = iregexp_match(re, subject->valuestring, search, &ev->steps);
    iregexp_destroy(re);
    return r;
}

static int call_match(struct eval *ev, const struct expr *e, const cJSON *current, cJSON *scratch, const cJSON **ret)
{
    (void)scratch;
    (void)ret;
    return match(ev, e, current, false);
}

static int call_search(struct eval *ev, const struct expr *e, const cJSON *current, cJSON *scratch, const cJSON **ret)
{
    (void)scratch;
    (void)ret;
    return match(ev, e, current, true);
}

static const struct function functions[] = {
    {"length", TYPE_VALUE, 1, {TYPE_VALUE}, false, call_length},
    {"count", TYPE_VALUE, 1, {TYPE_NODES}, false, call_count},
    {"match", TYPE_LOGICAL, 2, {TYPE_VALUE, TYPE_VALUE}, true, call_match},
    {"search", TYPE_LOGICAL, 2, {TYPE_VALUE, TYPE_VALUE}, true, call_search},
    {"value", TYPE_VALUE, 1, {TYPE_NODES}, false, call_value},
};

const struct function *function_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(functions); i++)
        if (streq(functions[i].name, name))
            return &functions[i];
    return NULL;
}

const char *function_nearest(const char *name)
{
    const char *names[ARRAY_SIZE(functions)];
    for (size_t i = 0; i < ARRAY_SIZE(functions); i++)
        names[i] = functions[i].name;
    return nearest_name(name, names, ARRAY_SIZE(functions));
}
