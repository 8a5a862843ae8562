/* The subset of JSON Schema against the JSON-Schema-Test-Suite (Debian's json-schema-test-suite), draft 7: every group
 * whose schema has only keywords of the subset is taken and judged as the suite says; what goes beyond is refused. Skipped
 * where the suite is not installed. */
#include "lang/schema.h"

#include "base/util.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#define SUITE "/usr/share/json-schema-test-suite/tests/draft7"
#define GROUPS_LEAST 80 /* within the subset; 2.0.0 has 134 in all */

/* What draft 7 has and the subset has not (or, of items and additionalItems, what 2020-12 has another way). */
static const char *const beyond[] = {
    "$ref",  "definitions",     "dependencies",     "contains",       "if", "then", "else", "patternProperties",
    "$defs", "additionalItems", "contentMediaType", "contentEncoding"};

struct counts {
    int groups, tests, refused;
};

static cJSON *read_json(const char *path)
{
    struct buf b = {0};
    FILE *in = fopen(path, "re");
    assert_non_null(in);
    for (size_t n = 1; n > 0;) {
        n = fread(buf_reserve(&b, 65536), 1, 65536, in);
        b.len += n;
    }
    fclose(in);
    cJSON *v = NULL;
    struct error err = ERROR_INIT;
    if (value_parse(b.data, b.len, &v, &err) < 0)
        v = NULL; /* a few files hold what is no strict JSON here */
    buf_fini(&b);
    return v;
}

/* Does a schema go beyond the subset, anywhere? */
static bool goes_beyond(const cJSON *schema)
{
    const cJSON *item;
    if (cJSON_IsObject(schema)) {
        for (size_t i = 0; i < ARRAY_SIZE(beyond); i++)
            if (value_get(schema, beyond[i]))
                return true;
        if (cJSON_IsArray(value_get(schema, "items")))
            return true;
    }
    cJSON_ArrayForEach (item, schema) {
        if (goes_beyond(item))
            return true;
    }
    return false;
}

static void check_group(const char *file, const cJSON *group, struct counts *counts)
{
    const cJSON *schema = value_get(group, "schema"), *test;
    const char *about = value_get_string(group, "description");
    struct schema *s = NULL;
    struct issues issues = ISSUES_INIT;
    int r = schema_compile(schema, "", &s, &issues);
    if (r < 0) {
        if (!goes_beyond(schema))
            fail_msg("%s: %s: refused: %s: %s", file, about, issues.items[0].path, issues.items[0].message);
        counts->refused++;
        issues_fini(&issues);
        return;
    }
    issues_fini(&issues);
    counts->groups++;
    cJSON_ArrayForEach (test, value_get(group, "tests")) {
        struct error err = ERROR_INIT;
        int failures = schema_validate(s, value_get(test, "data"), NULL, NULL, &err);
        bool valid = cJSON_IsTrue(value_get(test, "valid"));
        if (failures < 0 || (failures == 0) != valid)
            fail_msg("%s: %s: %s: expected %s, got %d %s", file, about, value_get_string(test, "description"),
                     valid ? "valid" : "invalid", failures, failures < 0 ? err.message : "failures");
        counts->tests++;
    }
    schema_destroy(s);
}

static void check_file(const char *path, struct counts *counts)
{
    _cleanup_(cjson_deletep) cJSON *groups = read_json(path);
    const cJSON *group;
    cJSON_ArrayForEach (group, groups) {
        check_group(path, group, counts);
    }
}

static void the_suite(void **state)
{
    (void)state;
    DIR *dir = opendir(SUITE);
    struct counts counts = {0};
    if (!dir) {
        skip();
        return;
    }
    for (struct dirent *entry; (entry = readdir(dir));) {
        _cleanup_(freep) char *path = xasprintf(SUITE "/%s", entry->d_name);
        size_t n = strlen(path);
        if (n > 5 && streq(path + n - 5, ".json"))
            check_file(path, &counts);
    }
    closedir(dir);
    check_file(SUITE "/optional/bignum.json", &counts);
    check_file(SUITE "/optional/zeroTerminatedFloats.json", &counts);
    print_message("%d groups with %d tests agree, %d are beyond the subset and refused\n", counts.groups, counts.tests,
                  counts.refused);
    assert_true(counts.groups >= GROUPS_LEAST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_suite)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
