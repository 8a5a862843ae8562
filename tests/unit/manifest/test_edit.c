#include "manifest/edit.h"

#include "base/util.h"
#include "manifest/yaml_print.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static cJSON *json(const char *text)
{
    cJSON *value = NULL;
    struct error err = ERROR_INIT;
    if (value_parse(text, strlen(text), &value, &err) < 0)
        fail_msg("%s: %s", text, err.message);
    return value;
}

struct path_case {
    const char *text, *path, *value; /* value NULL: remove */
    const char *expected;            /* NULL: -ENOTSUP */
};

static void check_paths(const struct path_case *cases, size_t n, enum document_format format)
{
    unsigned failed = 0;
    for (size_t i = 0; i < n; i++) {
        const struct path_case *c = &cases[i];
        cJSON *value = c->value ? json(c->value) : NULL;
        char *got = NULL;
        size_t len = 0;
        struct error err = ERROR_INIT;
        int rc = value ? edit_set(c->text, strlen(c->text), format, 0, c->path, value, &got, &len, &err)
                       : edit_remove(c->text, strlen(c->text), format, 0, c->path, &got, &len, &err);
        bool good = c->expected ? rc == 0 && len == strlen(got) && streq(got, c->expected) : rc == -ENOTSUP && !got;
        if (!good) {
            print_error("%s\n--- %s = %s: %d %s\n%s\n--- expected\n%s\n", c->text, c->path,
                        c->value ? c->value : "gone", rc, err.message, got ? got : "", c->expected ? c->expected : "");
            failed++;
        }
        cJSON_Delete(value);
        free(got);
    }
    assert_int_equal(failed, 0);
}

#define TRIGGER                                                                                                        \
    "# the nightly one\n"                                                                                              \
    "name: Night   # shown\n"                                                                                          \
    "config:   # where\n"                                                                                              \
    "  # folder\n"                                                                                                     \
    "  path: '/in'  # in\n"                                                                                            \
    "  events: [created, \"modified\"] # both\n"                                                                       \
    "\n"                                                                                                               \
    "  filter:\n"                                                                                                      \
    "  - a: 1 # one\n"                                                                                                 \
    "    b: 2\n"                                                                                                       \
    "  # last\n"                                                                                                       \
    "  - x\n"                                                                                                          \
    "enabled: true # on\n"                                                                                             \
    "# end\n"

static void test_yaml_paths(void **state)
{
    (void)state;
    static const struct path_case cases[] = {
        /* scalars keep quotes and comments */
        {"a: 1 # c\nb: 2\n", "a", "5", "a: 5 # c\nb: 2\n"},
        {"a: 'x'  # c\n", "a", "\"it's\"", "a: 'it''s'  # c\n"},
        {"a: \"x\"\n", "a", "\"y\"", "a: \"y\"\n"},
        {"a: x\n", "a", "\"no\"", "a: \"no\"\n"},
        {"a: x\n", "a", "\"12:30\"", "a: \"12:30\"\n"},
        {"a: 'x'\n", "a", "\"\\u0001\\n\"", "a: \"\\x01\\n\"\n"},
        {"a: x y\n   z # c\nb: 1\n", "a", "true", "a: true # c\nb: 1\n"},
        {"a:   # c\nb: 1\n", "a", "12345678901234567890123", "a: 12345678901234567890123   # c\nb: 1\n"},
        {"a:", "a", "1", "a: 1"},
        {"a: !!str 1 # c\n", "a", "\"2\"", "a: \"2\" # c\n"},
        {"a: 1\r\nb: 2\r\n", "a", "{\"x\":1}", "a:\r\n  x: 1\r\nb: 2\r\n"},
        {"a: 1", "a", "null", "a: null"},
        {"a: 1", "a", "\"x\\ny\\n\"", "a: |\n  x\n  y\n"},
        {"a:\n- 1", "a[0]", "\"x\\ny\\n\"", "a:\n- |\n  x\n  y\n"},
        /* block scalars */
        {"a: |\n  x\n  y\n\nb: 1\n", "a", "\"z\"", "a: z\n\nb: 1\n"},
        {"a: |\n  x\n  y\n\nb: 1\n", "a", "\"z\\nw\\n\"", "a: |\n  z\n  w\n\nb: 1\n"},
        {"a: x # c\nb: 1\n", "a", "\"z\\n\\n w\"", "a: |- # c\n  z\n\n   w\nb: 1\n"},
        /* nested, flow */
        {"a: {b: [1 , 2 ], c: x} # c\n", "a.b[1]", "\"y z\"", "a: {b: [1 , y z ], c: x} # c\n"},
        {"a: {b: [1 , 2 ], c: x} # c\n", "a.d", "{\"e\":[\"a,b\"]}", "a: {b: [1 , 2 ], c: x, d: {e: [\"a,b\"]}} # c\n"},
        {"a: {b: 1, c: 2,}\n", "a.d", "3", "a: {b: 1, c: 2, d: 3,}\n"},
        {"a: {b: , c}\n", "a.b", "1", "a: {b: 1, c}\n"},
        {"a: {b, c}\n", "a.c", "1", "a: {b, c: 1}\n"},
        {"a: {\n  b: 1, # one\n  c: 2 # two\n}\n", "a.d", "3", "a: {\n  b: 1, # one\n  c: 2,\n  d: 3 # two\n}\n"},
        {"{}\n", "a", "1", "{a: 1}\n"},
        {"{ } # c\n", "a.b", "1", "{ a: {b: 1}} # c\n"},
        /* collections */
        {"a: {b: 1} # c\n", "a", "{\"b\":2}", "a: {b: 2} # c\n"},
        {"a: {b: 1} # c\n", "a", "[1,2]", "a: # c\n  - 1\n  - 2\n"},
        {"a: [] # c\n", "a", "[1]", "a: # c\n  - 1\n"},
        {"a: # c\n- 1\n- 2 # d\nb: 1\n", "a", "7", "a: 7 # c\nb: 1\n"},
        {"a: # c\n- 1\n- 2 # d\nb: 1\n", "a[1]", "[3,[4]]", "a: # c\n- 1\n- - 3 # d\n  - - 4\nb: 1\n"},
        {"a: # c\n- 1\n- 2 # d\nb: 1\n", "a[0]", "{\"x\":{\"y\":1}}", "a: # c\n- x:\n    y: 1\n- 2 # d\nb: 1\n"},
        {"a:\n- 1 # c\n- 2\n", "a[0]", "{\"x\":\"l\\nm\"}", "a:\n- x: |- # c\n    l\n    m\n- 2\n"},
        {"a:\n-\n- 2\n", "a[0]", "\"x\"", "a:\n- x\n- 2\n"},
        {"a:\n-\n- 2\n", "a[0]", "{\"x\":1,\"y\":2}", "a:\n- x: 1\n  y: 2\n- 2\n"},
        {"a:\n- x # c\n", "a[0]", "\"l\\nm\"", "a:\n- |- # c\n  l\n  m\n"},
        {"a:\n    b: 1\nc: 2\n", "a", "{\"x\":1}", "a:\n    x: 1\nc: 2\n"},
        /* new members */
        {"a: 1\n# end\n", "b", "2", "a: 1\nb: 2\n# end\n"},
        {"a: 1 # c", "b", "[]", "a: 1 # c\nb: []\n"},
        {"a: |\n  x\n\n\nb: >+\n  y\n\n", "c", "1", "a: |\n  x\n\n\nb: >+\n  y\n\nc: 1\n"},
        {"a: |\n  x\n\n", "c", "1", "a: |\n  x\nc: 1\n\n"},
        {"a:\n  b: 1\n\nc: 2\n", "a.\"q\"", "1", "a:\n  b: 1\n  \"\\\"q\\\"\": 1\n\nc: 2\n"},
        {"a:\n- b: 1\n  c: 2\n- d\n", "a[0].e", "{\"f\":1}", "a:\n- b: 1\n  c: 2\n  e:\n    f: 1\n- d\n"},
        {"config: # c\nb: 1\n", "config.filter.x", "1", "config: # c\n  filter:\n    x: 1\nb: 1\n"},
        {"a: 1\n", "x.y.z", "\"p\"", "a: 1\nx:\n  y:\n    z: p\n"},
        {"a: 1\n...\n# after\n", "b", "1", "a: 1\nb: 1\n...\n# after\n"},
        {"a: 1\n---\nb: 1\n", "c", "1", "a: 1\nc: 1\n---\nb: 1\n"},
        /* removal */
        {"a: 1 # one\n# of b\nb: 2 # two\nc: 3\n", "b", NULL, "a: 1 # one\n# of b\nc: 3\n"},
        {"a: 1\nb:\n  c: 1\n  d: 2\n\n# e\ne: 3\n", "b", NULL, "a: 1\n\n# e\ne: 3\n"},
        {"a: 1\nb:\n  c: 1 # c\n", "b.c", NULL, "a: 1\nb: {}\n"},
        {"b: # c\n  c: 1\nd: 1\n", "b.c", NULL, "b: {} # c\nd: 1\n"},
        {"# h\na: 1\n# t\n", "a", NULL, "# h\n{}\n# t\n"},
        {"a:\n- b: 1\n  c: 2\n", "a[0].b", NULL, "a:\n- c: 2\n"},
        {"a:\n- b: 1\n  c: 2\n", "a[0].c", NULL, "a:\n- b: 1\n"},
        {"a:\n- 1\n# two\n- 2 # t\n- x: 1\n  y: 2\nb: 1\n", "a[1]", NULL, "a:\n- 1\n# two\n- x: 1\n  y: 2\nb: 1\n"},
        {"a:\n- 1\n- x: 1\n  y: 2\nb: 1\n", "a[1]", NULL, "a:\n- 1\nb: 1\n"},
        {"a: # c\n  - 1\nb: 1\n", "a[0]", NULL, "a: [] # c\nb: 1\n"},
        {"a: {b: 1, c: 2, d: 3}\n", "a.c", NULL, "a: {b: 1, d: 3}\n"},
        {"a: {b: 1, c: 2, d: 3}\n", "a.d", NULL, "a: {b: 1, c: 2}\n"},
        {"a: {b: 1}\n", "a.b", NULL, "a: {}\n"},
        {"a: [1, 2]\n", "a[0]", NULL, "a: [2]\n"},
        {"a: 1\nb: 2", "b", NULL, "a: 1\n"},
        {"a: |\n  x\nb: 2\n", "a", NULL, "b: 2\n"},
        /* aliases: their own text can change, what comes out of them only with them; an anchor in use stays */
        {"a: &x {k: 1}\nb: *x # c\n", "b", "5", "a: &x {k: 1}\nb: 5 # c\n"},
        {"a: &x {k: 1}\nb: *x # c\n", "b.k", "2", "a: &x {k: 1}\nb: # c\n  k: 2\n"},
        {"a: &x {k: 1}\nb: *x # c\n", "b.l", "2", "a: &x {k: 1}\nb: # c\n  k: 1\n  l: 2\n"},
        {"a: &x {k: 1}\nb: *x # c\n", "a.k", "2", NULL},
        {"a: &x {k: 1}\nb: *x # c\n", "a", NULL, NULL},
        /* no plain `key:` */
        {"? a\n: 1\n", "a", "2", NULL},
    };
    check_paths(cases, ARRAY_SIZE(cases), DOCUMENT_YAML);
}

static void test_json_paths(void **state)
{
    (void)state;
    static const struct path_case cases[] = {
        {"{\"a\":1,\"b\":2}", "a", "{\"x\":[1,\"\xC3\xBC\"]}", "{\"a\":{\"x\":[1,\"\xC3\xBC\"]},\"b\":2}"},
        {"{\"a\":1}\n", "b", "1.50", "{\"a\":1, \"b\": 1.50}\n"},
        {"{}", "b", "1", "{\"b\": 1}"},
        {"{\n  \"a\": 1,\n  \"b\": {}\n}\n", "c", "\"x\"", "{\n  \"a\": 1,\n  \"b\": {},\n  \"c\": \"x\"\n}\n"},
        {"{\n  \"a\": 1,\n  \"b\": {}\n}\n", "b.c", "\"x\"", "{\n  \"a\": 1,\n  \"b\": {\n    \"c\": \"x\"\n  }\n}\n"},
        {"{\n  \"a\": 1\n}\n", "a", "{\"x\":1}", "{\n  \"a\": {\n    \"x\": 1\n  }\n}\n"},
        {"{\r\n  \"a\": 1\r\n}", "a", "[1]", "{\r\n  \"a\": [\r\n    1\r\n  ]\r\n}"},
        {"{\"a\":1,\"b\":2}", "a", NULL, "{\"b\":2}"},
        {"{\"a\":1,\"b\":2}", "b", NULL, "{\"a\":1}"},
        {"{\n  \"a\": 1,\n  \"b\": 2\n}\n", "a", NULL, "{\n  \"b\": 2\n}\n"},
        {"{\n  \"a\": 1,\n  \"b\": 2\n}\n", "b", NULL, "{\n  \"a\": 1\n}\n"},
        {"{\"a\":[1,2,3]}", "a[1]", NULL, "{\"a\":[1,3]}"},
        {"{\"a\":[{\"b\":1}]}", "a[0].b", NULL, "{\"a\":[{}]}"},
        {"[{\"a\":1},\n {\"b\":1}]", "a", "2", "[{\"a\":2},\n {\"b\":1}]"},
    };
    check_paths(cases, ARRAY_SIZE(cases), DOCUMENT_JSON);
}

static void test_update(void **state)
{
    (void)state;
    static const struct {
        enum document_format format;
        const char *text, *wanted, *expected;
    } cases[] = {
        {DOCUMENT_YAML, TRIGGER,
         "{\"name\":\"Day\",\"config\":{\"path\":\"/out\",\"events\":[\"created\",\"deleted\"],"
         "\"filter\":[{\"a\":1,\"c\":3},\"x\",\"y\"]},\"max_concurrent\":2,\"enabled\":true}",
         "# the nightly one\nname: Day   # shown\nconfig:   # where\n  # folder\n  path: '/out'  # in\n"
         "  events: [created, \"deleted\"] # both\n\n  filter:\n  - a: 1 # one\n    c: 3\n  # last\n  - x\n  - y\n"
         "enabled: true # on\nmax_concurrent: 2\n# end\n"},
        {DOCUMENT_YAML, TRIGGER, "{\"enabled\":true}", "# the nightly one\nenabled: true # on\n# end\n"},
        {DOCUMENT_YAML, "# c\na: 1\n", "{\"b\":2}", "# c\nb: 2\n"}, /* never empty on the way */
        {DOCUMENT_YAML, "a: 1 # c\n", "{\"a\":1.0}", "a: 1 # c\n"}, /* the same value */
        {DOCUMENT_YAML, "a: [1, 2, 3]\n", "{\"a\":[0,1,2,3]}", "a: [0, 1, 2, 3]\n"},
        {DOCUMENT_YAML, "a:\n- 1 # c\n- 2\n- 3\n", "{\"a\":[1,3]}", "a:\n- 1 # c\n- 3\n"},
        {DOCUMENT_YAML, "a:\n  - 1 # c\n", "{\"a\":[1,{\"x\":1,\"y\":[]}]}", "a:\n  - 1 # c\n  - x: 1\n    y: []\n"},
        {DOCUMENT_YAML, "a:\n- 1 # c\n# two\n- 2\n- 3\n", "{\"a\":[1,{\"x\":0,\"z\":1},2,3]}",
         "a:\n- 1 # c\n- x: 0\n  z: 1\n# two\n- 2\n- 3\n"},
        {DOCUMENT_YAML, "a: # c\n# one\n- 1\n", "{\"a\":[0,1]}", "a: # c\n# one\n- 0\n- 1\n"},
        {DOCUMENT_YAML, "a:\n- - 1\n  - 2\n", "{\"a\":[[0,1,2]]}", "a:\n- - 0\n  - 1\n  - 2\n"},
        {DOCUMENT_YAML, "s:\n  - id: a # a\n    x: 1\n  - id: b # b\n  - id: c # c\n",
         "{\"s\":[{\"id\":\"a\",\"x\":2},{\"id\":\"c\"}]}", "s:\n  - id: a # a\n    x: 2\n  - id: c # c\n"},
        {DOCUMENT_JSON, "{\n  \"a\": [\n    2\n  ]\n}", "{\"a\":[1,2]}", "{\n  \"a\": [\n    1,\n    2\n  ]\n}"},
        {DOCUMENT_JSON, "{\n\t\"a\": [1, 2],\n\t\"b\": {\"c\": 1}\n}\n", "{\"a\":[1,2,3],\"b\":{\"d\":1}}",
         "{\n\t\"a\": [1, 2, 3],\n\t\"b\": {\"d\": 1}\n}\n"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_(cjson_deletep) cJSON *wanted = json(cases[i].wanted);
        _cleanup_(freep) char *got = NULL;
        size_t len;
        struct error err = ERROR_INIT;
        int rc = edit_update(cases[i].text, strlen(cases[i].text), cases[i].format, 0, wanted, &got, &len, &err);
        if (rc != 0 || !streq(got, cases[i].expected))
            fail_msg("%s\n--- %s, got %d %s\n%s\n--- expected\n%s", cases[i].text, cases[i].wanted, rc, err.message,
                     got ? got : "", cases[i].expected);
    }
}

/* Other documents stay, good or bad; the number picks the document. */
static void test_among_documents(void **state)
{
    (void)state;
    static const char text[] = "# one\na: 1\n--- # two\nb: [1\n--- {c: 1}\n---\nd: 1 # d\n";
    _cleanup_(cjson_deletep) cJSON *two = json("2");
    static const char *const paths[] = {"a", "b", "c", "d"};
    static const char *const expected[] = {"# one\na: 2\n--- # two\nb: [1\n--- {c: 1}\n---\nd: 1 # d\n", NULL,
                                           "# one\na: 1\n--- # two\nb: [1\n--- {c: 2}\n---\nd: 1 # d\n",
                                           "# one\na: 1\n--- # two\nb: [1\n--- {c: 1}\n---\nd: 2 # d\n"};
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        _cleanup_(freep) char *got = NULL;
        size_t len;
        int rc = edit_set(text, strlen(text), DOCUMENT_YAML, i, paths[i], two, &got, &len, NULL);
        assert_int_equal(rc, expected[i] ? 0 : -EINVAL);
        if (expected[i])
            assert_string_equal(got, expected[i]);
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *path, *value;
        int rc;
    } cases[] = {
        {"a: {b: [1]}\n", "x", NULL, -ENOENT},       {"a: {b: [1]}\n", "a.x", NULL, -ENOENT},
        {"a: {b: [1]}\n", "x.y", NULL, -ENOENT},     {"a: {b: [1]}\n", "a.b[1]", "1", -ENOENT},
        {"a: {b: [1]}\n", "a.b[0].x", "1", -EINVAL}, {"a: {b: [1]}\n", "a[0]", "1", -EINVAL},
        {"a: {b: [1]}\n", "a..b", "1", -EINVAL},     {"a: {b: [1]}\n", "", "1", -EINVAL},
        {"a: {b: [1]}\n", "a.b.c", "1", -EINVAL},    {"a: [\n", "a", "1", -EINVAL},
        {"# nothing\n", "a", "1", -ENOENT},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_(cjson_deletep) cJSON *value = cases[i].value ? json(cases[i].value) : NULL;
        char *got = NULL;
        size_t len = 77;
        struct error err = ERROR_INIT;
        int rc = value ? edit_set(cases[i].text, strlen(cases[i].text), DOCUMENT_YAML, 0, cases[i].path, value, &got,
                                  &len, &err)
                       : edit_remove(cases[i].text, strlen(cases[i].text), DOCUMENT_YAML, 0, cases[i].path, &got, &len,
                                     &err);
        if (rc != cases[i].rc || got || len != 77 || !err.message[0])
            fail_msg("%s %s: got %d %s", cases[i].text, cases[i].path, rc, err.message);
    }
    _cleanup_(cjson_deletep) cJSON *many = cJSON_CreateObject();
    for (int i = 0; i <= EDIT_SPLICES_MAX; i++) {
        char key[16];
        snprintf(key, sizeof(key), "k%d", i);
        value_set(many, key, value_number_from_int(i));
    }
    char *got = NULL;
    size_t len;
    assert_int_equal(edit_update("a: 1\n", 5, DOCUMENT_YAML, 0, many, &got, &len, NULL), -ENOTSUP);
    for (int i = EDIT_SPLICES_MAX; i <= EDIT_MEMBERS_MAX; i++) {
        char key[16];
        snprintf(key, sizeof(key), "k%d", i);
        value_set(many, key, value_number_from_int(i));
    }
    _cleanup_(freep) char *printed = yaml_print(many); /* one member more than are compared one by one */
    _cleanup_(cjson_deletep) cJSON *one = json("1");
    assert_int_equal(edit_set(printed, strlen(printed), DOCUMENT_YAML, 0, "k1", one, &got, &len, NULL), 0);
    free(steal(&got));
    assert_int_equal(edit_set(printed, strlen(printed), DOCUMENT_YAML, 0, "k2", one, &got, &len, NULL), -ENOTSUP);
    /* The text may not outgrow what is read. */
    struct buf text = {0};
    buf_adds(&text, "a: 1\n#");
    while (text.len < DOCUMENT_TEXT_MAX - 3)
        buf_add(&text, "##################################", MIN(34, DOCUMENT_TEXT_MAX - 3 - text.len));
    _cleanup_(cjson_deletep) cJSON *value = json("\"12345\"");
    assert_int_equal(edit_set(text.data, text.len, DOCUMENT_YAML, 0, "b", value, &got, &len, NULL), -E2BIG);
    buf_fini(&text);
}

static void test_whole_documents(void **state)
{
    (void)state;
    static const char text[] = "# head\na: 1\n---\n# b\nb: 1\n--- {c: 1}\n--- # d\nd: [\n";
    static const struct {
        size_t index;
        const char *own, *expected; /* own NULL: delete */
    } cases[] = {
        {0, "# new\nx: 1", "# new\nx: 1\n---\n# b\nb: 1\n--- {c: 1}\n--- # d\nd: [\n"},
        {1, "x: 1\n", "# head\na: 1\n---\nx: 1\n--- {c: 1}\n--- # d\nd: [\n"},
        {2, "x: 1\n", "# head\na: 1\n---\n# b\nb: 1\n--- \nx: 1\n--- # d\nd: [\n"},
        {3, "d: []", "# head\na: 1\n---\n# b\nb: 1\n--- {c: 1}\n--- # d\nd: []"},
        {0, NULL, "---\n# b\nb: 1\n--- {c: 1}\n--- # d\nd: [\n"},
        {1, NULL, "# head\na: 1\n--- {c: 1}\n--- # d\nd: [\n"},
        {2, NULL, "# head\na: 1\n---\n# b\nb: 1\n--- # d\nd: [\n"},
        {3, NULL, "# head\na: 1\n---\n# b\nb: 1\n--- {c: 1}\n"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_(freep) char *got = NULL;
        size_t len;
        struct error err = ERROR_INIT;
        const char *own = cases[i].own;
        int rc =
            own ? edit_replace(text, strlen(text), DOCUMENT_YAML, cases[i].index, own, strlen(own), &got, &len, &err)
                : edit_delete(text, strlen(text), DOCUMENT_YAML, cases[i].index, &got, &len, &err);
        if (rc != 0 || !streq(got, cases[i].expected))
            fail_msg("%zu: got %d %s\n%s\n--- expected\n%s", i, rc, err.message, got ? got : "", cases[i].expected);
    }
    static const char *const refused[] = {"", "a: [", "a: 1\n---\nb: 1\n", "- 1\n"};
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        char *got = NULL;
        size_t len;
        assert_int_equal(
            edit_replace(text, strlen(text), DOCUMENT_YAML, 0, refused[i], strlen(refused[i]), &got, &len, NULL),
            -EINVAL);
    }
    static const char array[] = "[{\"a\":1} , {\"b\":1},\n{\"c\":1}]";
    static const char *const without[] = {"[{\"b\":1},\n{\"c\":1}]", "[{\"a\":1} , {\"c\":1}]",
                                          "[{\"a\":1} , {\"b\":1}]"};
    for (size_t i = 0; i < 3; i++) {
        _cleanup_(freep) char *got = NULL;
        size_t len;
        assert_int_equal(edit_delete(array, strlen(array), DOCUMENT_JSON, i, &got, &len, NULL), 0);
        assert_string_equal(got, without[i]);
    }
    char *got = NULL;
    size_t len = 1;
    assert_int_equal(edit_delete("# c\na: 1\n", 9, DOCUMENT_YAML, 0, &got, &len, NULL), 0);
    assert_int_equal(len, 0);
    free(got);
    assert_int_equal(edit_delete("a: 1\n", 5, DOCUMENT_YAML, 1, &got, &len, NULL), -ENOENT);
}

static void test_print(void **state)
{
    (void)state;
    static const struct {
        const char *json, *yaml;
    } cases[] = {
        {"{}", "{}\n"},
        {"{\"a\":1,\"b\":[],\"c\":{}}", "a: 1\nb: []\nc: {}\n"},
        {"{\"a\":{\"b\":[1,[2,[3]],{\"c\":{\"d\":null}},[{\"e\":1,\"f\":2}],\"l\\nm\\n\"]}}",
         "a:\n  b:\n    - 1\n    - - 2\n      - - 3\n    - c:\n        d: null\n    - - e: 1\n        f: 2\n    - |\n"
         "      l\n      m\n"},
        {"{\"s\":[\"plain text\",\"no\",\"Y\",\"1\",\"1e3\",\"\",\" x\",\"x \",\"a: b\",\"a "
         "#b\",\"a#b:c\",\"x:\",\"*.csv\","
         "\"#x\",\"- "
         "x\",\"null\",\"~\",\"${env:X}\",\"/a/b\",\"https://h/?q=[1]\",\"\\ttab\",\"\\u0085\\u2028\\ufeff\","
         "\"\xC3\xBC\xE2\x82\xAC\",\"\\\"\\\\\"]}",
         "s:\n  - plain text\n  - \"no\"\n  - Y\n  - \"1\"\n  - \"1e3\"\n  - \"\"\n  - \" x\"\n  - \"x \"\n  - "
         "\"a: "
         "b\"\n  - \"a #b\"\n  - a#b:c\n  - \"x:\"\n  - \"*.csv\"\n  - \"#x\"\n  - \"- x\"\n  - \"null\"\n  - \"~\"\n"
         "  - ${env:X}\n  - /a/b\n  - https://h/?q=[1]\n  - \"\\ttab\"\n  - \"\\N\\L\\ufeff\"\n  - "
         "\xC3\xBC\xE2\x82\xAC\n"
         "  - \"\\\"\\\\\"\n"},
        {"{\"no\":1,\"a b\":2,\"\":3,\"1\":4,\"<<\":5,\"a: b\":6}",
         "\"no\": 1\na b: 2\n\"\": 3\n\"1\": 4\n\"<<\": 5\n\"a: b\": 6\n"},
        {"{\"n\":[-0,1e400,0.10,123456789012345678901234567890]}",
         "n:\n  - -0\n  - 1e400\n  - 0.10\n  - 123456789012345678901234567890\n"},
        {"{\"l\":[\"a\\n\\n b\\n\",\"a\\nb\",\"a\\n\",\"\\na\",\" a\\nb\",\"a\\nb\\n\\n\",\"a\\r\\nb\",\"a\\n---\\nb "
         "\\n\"]}",
         "l:\n  - |\n    a\n\n     b\n  - |-\n    a\n    b\n  - \"a\\n\"\n  - \"\\na\"\n  - \" a\\nb\"\n  - "
         "\"a\\nb\\n\\n\"\n"
         "  - \"a\\r\\nb\"\n  - |\n    a\n    ---\n    b \n"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_(cjson_deletep) cJSON *value = json(cases[i].json);
        _cleanup_(freep) char *got = yaml_print(value);
        assert_string_equal(got, cases[i].yaml);
        struct document_set set;
        assert_int_equal(document_parse(got, strlen(got), DOCUMENT_YAML, &set), 0);
        assert_true(value_equal(set.documents[0].root, value));
        document_set_fini(&set);
        struct buf flow = {0};
        yaml_print_flow(&flow, value);
        assert_int_equal(document_parse(flow.data, flow.len, DOCUMENT_YAML, &set), 0);
        assert_true(value_equal(set.documents[0].root, value));
        document_set_fini(&set);
        buf_fini(&flow);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_print),           cmocka_unit_test(test_yaml_paths),
        cmocka_unit_test(test_json_paths),      cmocka_unit_test(test_update),
        cmocka_unit_test(test_among_documents), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_whole_documents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
