/* Bytes are a JSON value, the pattern, and after it another, an event. What compiles is matched with that event, with a
 * fixed one, and with one made from the pattern itself, by evaluation and by the matcher beside a second pattern: both
 * must agree, and asking for the reason must change nothing. */
#include "lang/matcher.h"

#include "base/util.h"
#include "model/value.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char fixed_event[] =
    "{\"a\":[1,\"ab\",{\"b\":null,\"c\":\"10.0.0.1\"},[{\"b\":1.5}]],\"a.b\":\"x\",\"c\":{\"d\":true}}";

/* An event that has a value wherever the pattern has a list: the first entry, or its operator's operand. */
static cJSON *derive(const cJSON *pattern)
{
    if (cJSON_IsArray(pattern)) {
        const cJSON *first = pattern->child;
        return cJSON_IsObject(first) || cJSON_IsArray(first) ? derive(first) : cJSON_Duplicate(first, false);
    }
    if (!cJSON_IsObject(pattern))
        return cJSON_Duplicate(pattern, false);
    const cJSON *only = pattern->child;
    if (only && !only->next &&
        (streq(only->string, "prefix") || streq(only->string, "suffix") || streq(only->string, "equals-ignore-case") ||
         streq(only->string, "wildcard")))
        return derive(only);
    cJSON *event = cJSON_CreateObject();
    const cJSON *member;
    cJSON_ArrayForEach (member, pattern)
        value_set(event, member->string, derive(member));
    return event;
}

static void check(struct matcher *m, const struct pattern *const patterns[2], const cJSON *event)
{
    void *const *found = NULL;
    size_t n = matcher_match(m, event, &found), k = 0;
    for (size_t i = 0; i < 2; i++) {
        struct mismatch why;
        bool matches = pattern_match(patterns[i], event, &why);
        if (!matches && (why.text[0] == '\0' || !utf8_valid(why.text, strlen(why.text))))
            abort();
        if (matches != pattern_match(patterns[i], event, NULL))
            abort();
        if (matches != (k < n && found[k] == &patterns[i]))
            abort();
        k += matches;
    }
    if (k != n)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    _cleanup_(cjson_deletep) cJSON *json = NULL, *event = NULL, *fixed = NULL, *derived = NULL;
    size_t used = 0;
    if (value_parse_prefix(text, size, &json, &used, NULL) < 0)
        return 0;
    struct pattern *pattern = NULL, *other = NULL;
    struct error err = ERROR_INIT;
    const cJSON *node = NULL;
    if (pattern_compile(json, &pattern, &node, &err) < 0) {
        if (!node || err.message[0] == '\0' || !utf8_valid(err.message, strlen(err.message)))
            abort();
        return 0;
    }
    _cleanup_(cjson_deletep) cJSON *simple = NULL;
    if (value_parse(text + used, size - used, &event, NULL) < 0)
        event = NULL;
    value_parse(fixed_event, sizeof(fixed_event) - 1, &fixed, NULL);
    value_parse("{\"a\":1}", 7, &simple, NULL);
    pattern_compile(simple, &other, NULL, NULL);
    derived = derive(json);

    const struct pattern *const patterns[2] = {pattern, other};
    struct matcher *m = matcher_create();
    for (size_t i = 0; i < 2; i++)
        matcher_add(m, (void *)&patterns[i], patterns[i]);
    check(m, patterns, event);
    check(m, patterns, fixed);
    check(m, patterns, derived);
    matcher_add(m, (void *)&patterns[0], patterns[0]);
    check(m, patterns, derived);
    matcher_remove(m, &patterns[0]);
    matcher_destroy(m);
    pattern_destroy(pattern);
    pattern_destroy(other);
    return 0;
}
