/* The matcher against the patterns themselves: random patterns and events, with removals and changes in between; and
 * that the number of patterns evaluated for an event does not grow with the number of patterns. */
#include "lang/matcher.h"

#include "base/util.h"
#include "model/value.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static uint64_t random_state;

static unsigned pick(unsigned n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 33) % n;
}

#define PICK(array) ((array)[pick(ARRAY_SIZE(array))])

static cJSON *parse(const char *text)
{
    struct error err = ERROR_INIT;
    cJSON *v = NULL;
    if (value_parse(text, strlen(text), &v, &err) < 0)
        fail_msg("%s: %s", text, err.message);
    return v;
}

static struct pattern *compile(const char *text)
{
    _cleanup_(cjson_deletep) cJSON *json = parse(text);
    struct error err = ERROR_INIT;
    struct pattern *p = NULL;
    if (pattern_compile(json, &p, NULL, &err) < 0)
        fail_msg("%s: %s", text, err.message);
    return p;
}

/* Few words, so that patterns and events meet often. */

static const char *const names[] = {"a", "b", "c", "a.b", "b.c", "c.", ""};
static const char *const strings[] = {
    "",    "a",        "ab",        "b",       "abab", "aba",          "AbA",    "xaby",    "éa",
    "É",   "10.0.0.1", "10.0.1.77", "2.3.4.5", "::1",  "::ffff:a00:1", "straße", "STRASSE", "aaaaaaaaaaaaaaaaab",
    "ba*", "b\\\\a",
};
static const char *const numbers[] = {
    "0",
    "1",
    "-1",
    "1.0",
    "1.5",
    "10",
    "1e1",
    "-0.0",
    "9007199254740993",
    "9007199254740992.0",
    "1e400",
    "-1e400",
    "0.1",
    "0.1000000000000000000000001",
    "123456789012345678901234567890",
};
static const char *const wildcards[] = {"*",           "a*",      "*a", "*ab*", "a*b", "*a*b*",
                                        "*aaaaaaaaa*", "ba\\\\*", "ab", "*b*a", "*é*"};
static const char *const blocks[] = {"10.0.0.0/8", "10.0.0.0/24", "0.0.0.0/0", "10.0.0.1/32",
                                     "::/0",       "::1/128",     "::/64"};

static void add_string(struct buf *b)
{
    buf_printf(b, "\"%s\"", PICK(strings));
}

static void add_scalar(struct buf *b)
{
    switch (pick(5)) {
    case 0:
    case 1:
        add_string(b);
        break;
    case 2:
    case 3:
        buf_adds(b, PICK(numbers));
        break;
    default:
        buf_adds(b, (const char *const[]){"null", "true", "false"}[pick(3)]);
        break;
    }
}

static void add_but(struct buf *b)
{
    switch (pick(4)) {
    case 0:
        buf_printf(b, "[\"%s\",\"%s\"]", PICK(strings), PICK(strings));
        break;
    case 1:
        buf_printf(b, "[%s,%s]", PICK(numbers), PICK(numbers));
        break;
    case 2:
        buf_printf(b, "{\"wildcard\":\"%s\"}", PICK(wildcards));
        break;
    default:
        buf_printf(b, "{\"%s\":\"a\"}", (const char *const[]){"prefix", "suffix", "equals-ignore-case"}[pick(3)]);
        break;
    }
}

static void add_numeric(struct buf *b)
{
    switch (pick(4)) {
    case 0:
        buf_printf(b, "[\"=\",%s]", PICK(numbers));
        break;
    case 1:
        buf_printf(b, "[\">%s\",%d,\"<%s\",%d]", pick(2) ? "=" : "", -(int)pick(3), pick(2) ? "=" : "",
                   1 + (int)pick(10));
        break;
    default:
        buf_printf(b, "[\"%s\",%s]", (const char *const[]){"<", "<=", ">", ">="}[pick(4)], PICK(numbers));
        break;
    }
}

static void add_entry(struct buf *b)
{
    static const char *const ends[] = {"prefix", "suffix"};
    switch (pick(12)) {
    case 0:
        buf_printf(b, "{\"%s\":\"%s\"}", PICK(ends), PICK(strings));
        break;
    case 1:
        buf_printf(b, "{\"%s\":{\"equals-ignore-case\":\"%s\"}}", PICK(ends), PICK(strings));
        break;
    case 2:
        buf_printf(b, "{\"equals-ignore-case\":\"%s\"}", PICK(strings));
        break;
    case 3:
    case 4:
        buf_printf(b, "{\"wildcard\":\"%s\"}", PICK(wildcards));
        break;
    case 5:
        buf_adds(b, "{\"anything-but\":");
        add_but(b);
        buf_adds(b, "}");
        break;
    case 6:
        buf_adds(b, "{\"numeric\":");
        add_numeric(b);
        buf_adds(b, "}");
        break;
    case 7:
        buf_printf(b, "{\"cidr\":\"%s\"}", PICK(blocks));
        break;
    case 8:
        buf_printf(b, "{\"exists\":%s}", pick(2) ? "true" : "false");
        break;
    default:
        add_scalar(b);
        break;
    }
}

static void add_pattern(struct buf *b, unsigned depth);

static void add_or(struct buf *b, unsigned depth)
{
    buf_adds(b, "\"$or\":[");
    for (unsigned n = 2 + pick(2), i = 0; i < n; i++) {
        buf_adds(b, i ? "," : "");
        add_pattern(b, depth + 1);
    }
    buf_adds(b, "]");
}

/* Never empty. */
static void add_pattern(struct buf *b, unsigned depth)
{
    unsigned sure = pick(ARRAY_SIZE(names)), members = 0;
    buf_adds(b, "{");
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        if (i != sure && pick(6) != 0)
            continue;
        buf_printf(b, "%s\"%s\":", members++ ? "," : "", names[i]);
        if (depth < 3 && pick(4) == 0) {
            add_pattern(b, depth + 1);
            continue;
        }
        buf_adds(b, "[");
        for (unsigned n = 1 + pick(2), k = 0; k < n; k++) {
            buf_adds(b, k ? "," : "");
            add_entry(b);
        }
        buf_adds(b, "]");
    }
    if (depth < 2 && pick(6) == 0) {
        buf_adds(b, ",");
        add_or(b, depth);
    }
    buf_adds(b, "}");
}

static void add_event(struct buf *b, unsigned depth)
{
    unsigned kind = depth == 0 ? 9 : depth > 4 ? 0 : pick(10);
    if (kind < 5) {
        add_scalar(b);
    } else if (kind < 7) {
        buf_adds(b, "[");
        for (unsigned n = pick(4), i = 0; i < n; i++) {
            buf_adds(b, i ? "," : "");
            add_event(b, depth + 1);
        }
        buf_adds(b, "]");
    } else {
        unsigned members = 0;
        buf_adds(b, "{");
        for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
            if (pick(2))
                continue;
            buf_printf(b, "%s\"%s\":", members++ ? "," : "", names[i]);
            add_event(b, depth + 1);
        }
        buf_adds(b, "}");
    }
}

struct owner {
    char *text;
    struct pattern *pattern;
    bool in;
};

static void owner_renew(struct owner *o)
{
    struct buf text = {0};
    if (pick(50) == 0)
        buf_adds(&text, "{}");
    else
        add_pattern(&text, 0);
    free(o->text);
    pattern_destroy(o->pattern);
    o->text = buf_steal(&text);
    o->pattern = compile(o->text);
}

static size_t compare(struct matcher *m, const struct owner *owners, size_t n_owners, const char *event_text)
{
    _cleanup_(cjson_deletep) cJSON *event = parse(event_text);
    void *const *found = NULL;
    size_t n = matcher_match(m, event, &found), k = 0;
    for (size_t i = 0; i < n_owners; i++) {
        if (!owners[i].in)
            continue;
        bool want = pattern_match(owners[i].pattern, event, NULL), got = k < n && found[k] == &owners[i];
        if (want != got)
            fail_msg("%s on %s: the pattern says %d, the matcher %d", owners[i].text, event_text, want, got);
        k += got;
    }
    assert_int_equal(k, n);
    assert_true(matcher_evaluated(m) >= n);
    return n;
}

static size_t compare_some(struct matcher *m, const struct owner *owners, size_t n_owners, unsigned events)
{
    size_t found = 0;
    for (unsigned i = 0; i < events; i++) {
        struct buf event = {0};
        add_event(&event, 0);
        found += compare(m, owners, n_owners, event.data);
        buf_fini(&event);
    }
    return found;
}

/* Patterns are added in the order of the array, so the order of the results can be checked against it. Returns how many
 * were found, for more than 90 events. */
static size_t random_life(unsigned seed, size_t n)
{
    random_state = seed * 0x9E3779B97F4A7C15ULL;
    struct owner *owners = xcalloc(n, sizeof(*owners));
    struct matcher *m = matcher_create();
    for (size_t i = 0; i < n; i++) {
        owner_renew(&owners[i]);
        matcher_add(m, &owners[i], owners[i].pattern);
        owners[i].in = true;
    }
    size_t found = compare_some(m, owners, n, 40);

    for (size_t i = 0; i < n; i++) {
        unsigned what = pick(3);
        if (what == 0) {
            matcher_remove(m, &owners[i]);
            matcher_remove(m, &owners[i]);
            owners[i].in = false;
        } else if (what == 1) { /* another pattern, the same place */
            struct owner old = {0};
            old.pattern = steal(&owners[i].pattern);
            owner_renew(&owners[i]);
            matcher_add(m, &owners[i], owners[i].pattern);
            pattern_destroy(old.pattern);
        }
        if (i % (n / 6) == 0)
            found += compare_some(m, owners, n, 4);
    }
    found += compare_some(m, owners, n, 30);

    for (size_t i = n; i-- > 0;) {
        if (i > 0)
            matcher_remove(m, &owners[i]);
        owners[i].in &= i == 0;
    }
    found += compare_some(m, owners, n, 3);
    assert_int_equal(matcher_size(m), owners[0].in);
    matcher_destroy(m);
    for (size_t i = 0; i < n; i++) {
        free(owners[i].text);
        pattern_destroy(owners[i].pattern);
    }
    free(owners);
    return found;
}

static void test_random(void **state)
{
    (void)state;
    size_t found = 0;
    for (unsigned seed = 1; seed <= 30; seed++)
        found += random_life(seed, 300);
    assert_true(found > (size_t)30 * 100); /* patterns and events do meet */
}

static void test_random_ten_thousand(void **state)
{
    (void)state;
    assert_true(random_life(31, 10000) > 10000);
}

/* Many patterns of one shape, of which an event meets one: how many are evaluated? %06u is the pattern's number. */
static const struct {
    const char *pattern, *event;
} shapes[] = {
    {"{\"id\":\"x%06u\"}", "{\"id\":\"x000777\"}"},
    {"{\"id\":1%06u}", "{\"id\":1000777.0}"},
    {"{\"kind\":\"order\",\"id\":\"x%06u\"}", "{\"kind\":\"order\",\"id\":\"x000777\"}"},
    {"{\"id\":\"x%06u\",\"kind\":true}", "{\"kind\":true,\"id\":\"x000777\"}"},
    {"{\"kind\":[\"order\"],\"path\":[{\"prefix\":\"/in/%06u/\"}]}", "{\"kind\":\"order\",\"path\":\"/in/000777/x\"}"},
    {"{\"path\":[{\"suffix\":\"%06u.csv\"}]}", "{\"path\":\"/in/000777.csv\"}"},
    {"{\"id\":[{\"equals-ignore-case\":\"Ab%06u\"}]}", "{\"id\":\"aB000777\"}"},
    {"{\"id\":[{\"prefix\":{\"equals-ignore-case\":\"Ab%06u\"}}]}", "{\"id\":\"aB000777z\"}"},
    {"{\"id\":[{\"suffix\":{\"equals-ignore-case\":\"%06uAb\"}}]}", "{\"id\":\"x000777aB\"}"},
    {"{\"path\":[{\"wildcard\":\"*/%06u/*\"}]}", "{\"path\":\"/in/000777/x\"}"},
    {"{\"path\":[{\"wildcard\":\"/in/*/%06u/*.csv\"}]}", "{\"path\":\"/in/a/000777/x.csv\"}"},
    {"{\"path\":[{\"wildcard\":\"/in/%06u/*.csv\"}]}", "{\"path\":\"/in/000777/x.csv\"}"},
    {"{\"n\":[{\"numeric\":[\">\",1%06u,\"<\",1%1$06u.5]}]}", "{\"n\":1000777.1}"},
    {"{\"n\":[{\"numeric\":[\"=\",1%06u]}]}", "{\"n\":1000777}"},
    {"{\"ip\":[{\"cidr\":\"fd00::%u/112\"}],\"id\":\"%1$06u\"}", "{\"ip\":\"fd00::1\",\"id\":\"000777\"}"},
    {"{\"id\":[\"x%06u\"],\"state\":[{\"anything-but\":\"off\"}]}", "{\"id\":\"x000777\",\"state\":\"on\"}"},
    {"{\"f%06u\":[{\"exists\":true}]}", "{\"f000777\":1}"},
    {"{\"f%06u\":[{\"anything-but\":\"x\"}]}", "{\"f000777\":1}"},
    {"{\"id\":[\"x%06u\"],\"gone\":[{\"exists\":false}]}", "{\"id\":[\"x000777\"]}"},
    {"{\"a.b\":{\"c\":[\"x%06u\"]}}", "{\"a\":[{\"b.c\":\"x000777\"}]}"},
    {"{\"$or\":[{\"id\":\"x%06u\"},{\"other\":\"y%1$06u\"}],\"kind\":\"k\"}", "{\"other\":\"y000777\",\"kind\":\"k\"}"},
};

static void test_evaluates_few(void **state)
{
    (void)state;
    enum { MANY = 3000 };
    static struct pattern *patterns[MANY];
    for (size_t s = 0; s < ARRAY_SIZE(shapes); s++) {
        struct matcher *m = matcher_create();
        for (unsigned i = 0; i < MANY; i++) {
            char text[256];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            snprintf(text, sizeof(text), shapes[s].pattern, i);
#pragma GCC diagnostic pop
            patterns[i] = compile(text);
            matcher_add(m, &patterns[i], patterns[i]);
        }
        _cleanup_(cjson_deletep) cJSON *event = parse(shapes[s].event);
        void *const *found = NULL;
        size_t n = matcher_match(m, event, &found);
        if (n != 1 || found[0] != &patterns[777] || matcher_evaluated(m) > 16)
            fail_msg("%s: %zu found, %zu evaluated", shapes[s].pattern, n, matcher_evaluated(m));
        for (unsigned i = 0; i < MANY; i++) {
            matcher_remove(m, &patterns[i]);
            pattern_destroy(patterns[i]);
        }
        assert_int_equal(matcher_size(m), 0);
        assert_int_equal(matcher_match(m, event, &found), 0);
        matcher_destroy(m);
    }
}

/* An event whose values meet every pattern over and over costs each of them once. */
static void test_evaluates_once(void **state)
{
    (void)state;
    enum { MANY = 500 };
    static struct pattern *patterns[MANY];
    struct matcher *m = matcher_create();
    for (unsigned i = 0; i < MANY; i++) {
        char text[128];
        snprintf(text, sizeof(text), "{\"n\":[{\"numeric\":[\">\",%u]},{\"prefix\":\"a\"}],\"z\":{\"n\":1}}", i);
        patterns[i] = compile(text);
        matcher_add(m, &patterns[i], patterns[i]);
    }
    struct buf text = {0};
    buf_adds(&text, "{\"n\":[");
    for (unsigned i = 0; i < 2000; i++)
        buf_printf(&text, "%s%u,\"ab\"", i ? "," : "", 100 + i);
    buf_adds(&text, "],\"z.n\":2}");
    _cleanup_(cjson_deletep) cJSON *event = parse(text.data);
    void *const *found;
    assert_int_equal(matcher_match(m, event, &found), 0);
    assert_true(matcher_evaluated(m) <= MANY);
    matcher_destroy(m);
    for (unsigned i = 0; i < MANY; i++)
        pattern_destroy(patterns[i]);
    buf_fini(&text);
}

static void repeat(struct buf *b, const char *before, char c, size_t n, const char *after)
{
    buf_adds(b, before);
    for (size_t i = 0; i < n; i++)
        buf_addc(b, c);
    buf_adds(b, after);
}

/* Past what the index keeps of a key, the pattern decides. */
static void test_long_keys(void **state)
{
    (void)state;
    static const struct {
        const char *before, *after;
        char c;
        size_t n;
    } keys[] = {
        {"{\"a\":", "}", '7', 400},
        {"{\"a\":", "8}", '7', 400},
        {"{\"a\":\"", "\"}", 'x', 300},
        {"{\"a\":\"", "\"}", 'x', PATTERN_STRING_MAX},
        {"{\"a\":[{\"prefix\":\"", "\"}]}", 'x', 300},
        {"{\"a\":[{\"prefix\":\"", "y\"}]}", 'x', 300},
        {"{\"a\":[{\"suffix\":\"", "\"}]}", 'x', 300},
        {"{\"a\":[{\"suffix\":\"y", "\"}]}", 'x', 300},
        {"{\"a\":[{\"equals-ignore-case\":\"", "\"}]}", 'X', 300},
        {"{\"a\":[{\"wildcard\":\"*", "*\"}]}", 'x', 300},
        {"{\"a\":[{\"wildcard\":\"*", "*\"}]}", 'x', 1},
        {"{\"a\":[{\"numeric\":[\"<\",", "]}]}", '7', 400},
    };
    static const struct {
        const char *before, *after;
        char c;
        size_t n;
        size_t matches;
    } events[] = {
        {"{\"a\":", "}", '7', 400, 1},         {"{\"a\":", "8}", '7', 400, 1},
        {"{\"a\":", ".0}", '7', 400, 1},       {"{\"a\":", "}", '7', 399, 1},
        {"{\"a\":\"", "\"}", 'x', 300, 6},     {"{\"a\":\"", "\"}", 'x', 299, 1},
        {"{\"a\":\"", "\"}", 'x', 301, 4},     {"{\"a\":\"", "\"}", 'x', PATTERN_STRING_MAX, 5},
        {"{\"a\":\"", "y\"}", 'x', 300, 4},    {"{\"a\":\"", "\"}", 'x', PATTERN_STRING_MAX + 1, 4},
        {"{\"a\":\"", "x\"}", 'y', 100000, 1},
    };
    struct pattern *patterns[ARRAY_SIZE(keys)];
    struct matcher *m = matcher_create();
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        struct buf text = {0};
        repeat(&text, keys[i].before, keys[i].c, keys[i].n, keys[i].after);
        patterns[i] = compile(text.data);
        matcher_add(m, &patterns[i], patterns[i]);
        buf_fini(&text);
    }
    for (size_t i = 0; i < ARRAY_SIZE(events); i++) {
        struct buf text = {0};
        repeat(&text, events[i].before, events[i].c, events[i].n, events[i].after);
        _cleanup_(cjson_deletep) cJSON *event = parse(text.data);
        void *const *found;
        size_t n = matcher_match(m, event, &found), k = 0;
        for (size_t p = 0; p < ARRAY_SIZE(keys); p++) {
            bool got = k < n && found[k] == &patterns[p];
            assert_int_equal(pattern_match(patterns[p], event, NULL), got);
            k += got;
        }
        if (n != events[i].matches)
            fail_msg("event %zu: %zu match", i, n);
        buf_fini(&text);
    }
    matcher_destroy(m);
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        pattern_destroy(patterns[i]);
}

static void test_empty(void **state)
{
    (void)state;
    int owner = 0;
    void *const *found = NULL;
    struct matcher *m = matcher_create();
    assert_int_equal(matcher_match(m, NULL, &found), 0);
    matcher_remove(m, &owner);
    matcher_add(m, &owner, NULL);
    assert_int_equal(matcher_match(m, NULL, &found), 1);
    assert_ptr_equal(found[0], &owner);
    matcher_remove(m, &owner);
    assert_int_equal(matcher_match(m, NULL, &found), 0);
    matcher_destroy(m);
    matcher_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),        cmocka_unit_test(test_random_ten_thousand),
        cmocka_unit_test(test_evaluates_few), cmocka_unit_test(test_evaluates_once),
        cmocka_unit_test(test_long_keys),     cmocka_unit_test(test_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
