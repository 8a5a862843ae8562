#include "lang/glob.h"

#include "base/util.h"

#include <errno.h>
#include <fnmatch.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

static struct glob *compiled(const char *pattern, unsigned flags)
{
    struct glob *g = NULL;
    struct error err = ERROR_INIT;
    if (glob_create(pattern, flags, &g, &err) < 0)
        fail_msg("%s: %s", pattern, err.message);
    return g;
}

struct match_case {
    const char *pattern, *path;
    bool match;
    unsigned flags;
};

static void test_match(void **state)
{
    (void)state;
    static const struct match_case cases[] = {
        {"*.csv", "a.csv", true, 0},
        {"*.csv", ".csv", true, 0},
        {"*.csv", "a.csv.tmp", false, 0},
        {"*.csv", "d/a.csv", false, 0},
        {"*", "", false, 0},
        {"*", ".hidden", true, 0},
        {"a*b*c", "abc", true, 0},
        {"a*b*c", "a__b_b_c_c", true, 0},
        {"a*b*c", "a__c__b", false, 0},
        {"a**c", "a_b_c", true, 0},
        {"a**c", "a/c", false, 0},
        {"?.json", "x.json", true, 0},
        {"?.json", "é.json", true, 0},
        {"??.json", "é.json", false, 0},
        {"?.json", "\xc3.json", true, 0},
        {"??.json", "\xc3\xff.json", true, 0},
        {"*?", "日本", true, 0},
        {"*???", "日本", false, 0},
        {"[a-z]?.json", "q7.json", true, 0},
        {"[a-z]?.json", "Q7.json", false, 0},
        {"[!a-z]x", "Qx", true, 0},
        {"[^a-z]x", "qx", false, 0},
        {"[!a]", "\xff", true, 0},
        {"[a-\xf4\x8f\xbf\xbf]", "\xff", false, 0},
        {"[à-ü]", "é", true, 0},
        {"[]]", "]", true, 0},
        {"[!]]", "]", false, 0},
        {"[-a]", "-", true, 0},
        {"[a-]", "-", true, 0},
        {"[\\]x]", "]", true, 0},
        {"\\*", "*", true, 0},
        {"\\*", "x", false, 0},
        {"\\{a\\}", "{a}", true, 0},
        {"a}", "a}", true, 0},
        {"a,b", "a,b", true, 0},
        {"*.{csv,json}", "x.json", true, 0},
        {"*.{csv,json}", "x.xml", false, 0},
        {"x{,.gz}", "x", true, 0},
        {"x{,.gz}", "x.gz", true, 0},
        {"{a,b{c,d}}e", "bde", true, 0},
        {"{a,b{c,d}}e", "be", false, 0},
        {"{[,}],z}", "}", true, 0},
        {"{a\\,b,c}", "a,b", true, 0},
        {"{x,a/b}/*.t", "a/b/1.t", true, 0},
        {"{solo}", "solo", true, 0},
        {"**/x", "x", true, 0},
        {"**/x", "a/b/x", true, 0},
        {"**/x", "a/b/y", false, 0},
        {"a/**/b", "a/b", true, 0},
        {"a/**/b", "a/x/y/b", true, 0},
        {"a/**/b", "c/a/b", false, 0},
        {"a/**/b/**/c", "a/b/b/c", true, 0},
        {"a/**", "a", false, 0},
        {"a/**", "a/b", true, 0},
        {"a/**", "a/b/c", true, 0},
        {"**", "a", true, 0},
        {"**/**/a", "a", true, 0},
        {"**/in/[a-z]?.json", "q/w/in/a1.json", true, 0},
        {"**/in/[a-z]?.json", "in/a1.json", true, 0},
        {"**/in/[a-z]?.json", "in/x/a1.json", false, 0},
        {"**/in/[a-z]?.json", "in/x/a1.json", true, GLOB_RECURSIVE},
        {"*.csv", "a.csv", true, GLOB_RECURSIVE},
        {"*.csv", "d/e/a.csv", true, GLOB_RECURSIVE},
        {"*.csv", "d/e/a.txt", false, GLOB_RECURSIVE},
        {"in/*.csv", "in/d/e/a.csv", true, GLOB_RECURSIVE},
        {"in/*.csv", "d/in/a.csv", false, GLOB_RECURSIVE},
        {"**/*.csv", "d/a.csv", true, GLOB_RECURSIVE},
        {"/a/*", "/a/b", true, 0},
        {"/a/*", "a/b", false, 0},
        {"a/*", "/a/b", false, 0},
        {"a//b", "a/b", true, 0},
        {"a/b", "a//b", true, 0},
        {"etl_*", "etl_load", true, 0},
        {"etl_*", "load_etl_", false, 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct match_case *c = &cases[i];
        struct glob *g = compiled(c->pattern, c->flags);
        if (glob_match(g, c->path) != c->match)
            fail_msg("%s against %s should be %d", c->pattern, c->path, c->match);
        glob_destroy(g);
    }
}

static void test_descend(void **state)
{
    (void)state;
    static const struct match_case cases[] = {
        {"*.csv", "", true, 0},
        {"*.csv", "sub", false, 0},
        {"*.csv", "sub/deep", true, GLOB_RECURSIVE},
        {"a/*/c", "a", true, 0},
        {"a/*/c", "b", false, 0},
        {"a/*/c", "a/x", true, 0},
        {"a/*/c", "a/x/c", false, 0},
        {"a/*/c", "a/x/c", true, GLOB_RECURSIVE},
        {"in/*.csv", "out", false, GLOB_RECURSIVE},
        {"**/in/*.csv", "any/thing", true, 0},
        {"{a,b/c}/x", "b", true, 0},
        {"{a,b/c}/x", "c", false, 0},
        {"/data/*/x", "/data", true, 0},
        {"/data/*/x", "/home", false, 0},
        {"/data/*/x", "data", false, 0},
        {"a/**", "a/b/c", true, 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct match_case *c = &cases[i];
        struct glob *g = compiled(c->pattern, c->flags);
        if (glob_may_descend(g, c->path) != c->match)
            fail_msg("%s below %s should be %d", c->pattern, c->path, c->match);
        glob_destroy(g);
    }
}

static void test_ignore(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *base, *path;
        bool is_dir, match;
    } cases[] = {
        {"*.tmp", NULL, "a.tmp", false, true},
        {"*.tmp", NULL, "d/e/a.tmp", false, true},
        {"*.tmp", NULL, "d.tmp/a.csv", false, true},
        {"*.tmp", NULL, "d/a.csv", false, false},
        {".git", NULL, ".git/objects/aa", false, true},
        {"build/out", NULL, "build/out", false, true},
        {"build/out", NULL, "build/out/x/y", false, true},
        {"build/out", NULL, "x/build/out", false, false},
        {"**/out", NULL, "x/build/out", false, true},
        {"build/", NULL, "build", false, false},
        {"build/", NULL, "build", true, true},
        {"build/", NULL, "a/build/x", false, true},
        {"a/build/", NULL, "a/build", false, false},
        {"a/build/", NULL, "a/build/x", false, true},
        {"/top", NULL, "top", false, true},
        {"/top", NULL, "a/top", false, false},
        {"/data/in/skip/*", "/data/in", "skip/a", false, true},
        {"/data/in/skip/*", "/data/in", "keep/a", false, false},
        {"/data", "/data/in", "a", false, false}, /* the base itself is not left out */
        {"/data/**", "/data/in", "a", false, true},
        {"**", NULL, "a", false, true},
        {"{*.tmp,cache/}", NULL, "cache", false, false},
        {"{*.tmp,cache/}", NULL, "cache/x", false, true},
        {"{*.tmp,cache/}", NULL, "q/x.tmp", false, true},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct glob *g = compiled(cases[i].pattern, GLOB_IGNORE);
        if (glob_ignores(g, cases[i].base, cases[i].path, cases[i].is_dir) != cases[i].match)
            fail_msg("%s on %s should be %d", cases[i].pattern, cases[i].path, cases[i].match);
        glob_destroy(g);
    }
}

static void test_split(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *base, *rest;
    } cases[] = {
        {"/data/incoming/*.csv", "/data/incoming", "*.csv"},
        {"/data/**/in/[a-z]?.json", "/data", "**/in/[a-z]?.json"},
        {"/data/in/x.csv", "/data/in", "x.csv"},
        {"/data/in/", "/data/in", "*"},
        {"/data/*/", "/data", "*/*"},
        {"*.csv", ".", "*.csv"},
        {"x.csv", ".", "x.csv"},
        {"/*", "/", "*"},
        {"/x", "/", "x"},
        {"/", "/", "*"},
        {"//data///in//*", "/data/in", "*"},
        {"/da\\*ta/in/*", "/da*ta/in", "*"},
        {"/data/a\\*b", "/data", "a\\*b"},
        {"/data/{a,b}/c", "/data", "{a,b}/c"},
        {"/data/[/]x", NULL, NULL},
        {"rel/d/[ab]", "rel/d", "[ab]"},
        {"../in/*.x", "../in", "*.x"},
        {"", NULL, NULL},
        {"/data/x\\", NULL, NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char *base = NULL, *rest = NULL;
        int rc = glob_split(cases[i].pattern, &base, &rest, NULL);
        assert_int_equal(rc, cases[i].base ? 0 : -EINVAL);
        if (rc == 0) {
            assert_string_equal(base, cases[i].base);
            assert_string_equal(rest, cases[i].rest);
        }
        free(base);
        free(rest);
    }
    assert_true(glob_has_meta("a*"));
    assert_true(glob_has_meta("{a}"));
    assert_false(glob_has_meta("pipe_data-fetch.2"));
}

static char *repeated(const char *part, size_t n)
{
    struct buf b = {0};
    for (size_t i = 0; i < n; i++)
        buf_adds(&b, part);
    return buf_steal(&b);
}

static void test_errors(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *words;
        unsigned column;
    } cases[] = {
        {"", "empty", 1},
        {"é[ab", "`[` without `]`", 2},
        {"[]", "`[` without `]`", 1},
        {"a{b,c", "`{` without `}`", 2},
        {"{a,{b}", "`{` without `}`", 1},
        {"ab\\", "escapes nothing", 3},
        {"a\\/b", "cannot be escaped", 3},
        {"x[a/b]", "inside `[…]`", 0},
        {"[z-a]", "backwards", 2},
        {"[[:alpha:]]", "[:alpha:]", 2},
        {"a/../b", "`..`", 0},
        {"./b", "`.`", 0},
        {"a/", "at the end", 0},
        {"/", "names no file", 0},
        {"{a,}", "empty", 0},
        {"{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}", "more than 64 alternatives", 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct glob *g = (void *)0x1;
        struct error err = ERROR_INIT;
        assert_int_equal(glob_create(cases[i].pattern, 0, &g, &err), -EINVAL);
        assert_ptr_equal(g, (void *)0x1);
        if (!strstr(err.message, cases[i].words))
            fail_msg("%s: %s", cases[i].pattern, err.message);
        if (cases[i].column)
            assert_int_equal(err.column, cases[i].column);
    }
    static const struct {
        const char *part;
        size_t good, bad;
        const char *words;
    } bounds[] = {
        {"x", GLOB_PATTERN_MAX, GLOB_PATTERN_MAX + 1, "at most 4096 bytes"},
        {"a/", GLOB_COMPONENTS_MAX, GLOB_COMPONENTS_MAX + 1, "at most 60 components"},
        {"{a}", GLOB_BRACES_MAX, GLOB_BRACES_MAX + 1, "more than 64 pairs"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bounds); i++) {
        _cleanup_(freep) char *good = repeated(bounds[i].part, bounds[i].good);
        glob_destroy(compiled(good, GLOB_IGNORE));
        _cleanup_(freep) char *bad = repeated(bounds[i].part, bounds[i].bad);
        struct glob *g = NULL;
        struct error err = ERROR_INIT;
        assert_int_equal(glob_create(bad, GLOB_IGNORE, &g, &err), -EINVAL);
        assert_non_null(strstr(err.message, bounds[i].words));
    }
    _cleanup_(freep) char *filler = repeated("x", 1000);
    _cleanup_(freep) char *wide = xasprintf("{a,b}{a,b}{a,b}{a,b}{a,b}%s", filler);
    glob_destroy(compiled(wide, 0));
    _cleanup_(freep) char *wider = xasprintf("{a,b}%s", wide);
    struct glob *g = NULL;
    assert_int_equal(glob_create(wider, 0, &g, NULL), -EINVAL);
}

/* Every pattern that sets exponential matchers on fire, at the full size allowed. */
static void test_work_is_bounded(void **state)
{
    (void)state;
    static const char *const parts[][2] = {{"*a", "a"}, {"**/a/", "a/"}, {"*a*/", "aaaaaaaaaaaaaaaa/"}, {"?*", "a"}};
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        size_t n = strchr(parts[i][0], '/') ? (GLOB_COMPONENTS_MAX - 1) / 2 : GLOB_PATTERN_MAX / 2 - 1;
        _cleanup_(freep) char *head = repeated(parts[i][0], n);
        _cleanup_(freep) char *pattern = xasprintf("%sb", head);
        _cleanup_(freep) char *path = repeated(parts[i][1], 4096 / strlen(parts[i][1]));
        struct glob *g = compiled(pattern, 0);
        clock_t start = clock();
        assert_false(glob_match(g, path));
        assert_true(clock() - start < 2 * CLOCKS_PER_SEC);
        glob_destroy(g);
    }
}

static uint32_t seed = 12345;

static uint32_t rnd(uint32_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

/* `**` by trying everything, on top of fnmatch(3) for a component. */
static bool slow_match(const char *pattern, const char *path)
{
    size_t plen = strcspn(pattern, "/"), slen = strcspn(path, "/");
    const char *pattern_next = pattern + plen + (pattern[plen] == '/'), *path_next = path + slen + (path[slen] == '/');
    if (!*pattern)
        return !*path;
    if (plen == 2 && strncmp(pattern, "**", 2) == 0) {
        if (*pattern_next && slow_match(pattern_next, path))
            return true;
        return *path && (slow_match(pattern, path_next) || (!*pattern_next && !*path_next));
    }
    if (!*path)
        return false;
    _cleanup_(freep) char *p = xstrndup(pattern, plen), *s = xstrndup(path, slen);
    return fnmatch(p, s, FNM_NOESCAPE) == 0 && slow_match(pattern_next, path_next);
}

static void test_random_against_fnmatch(void **state)
{
    (void)state;
    static const char *const pieces[] = {"a", "b", "*", "?", "[ab]", "[!a]", "c", "/", "/**/", "*"};
    unsigned matches = 0;
    for (unsigned round = 0; round < 60000; round++) {
        struct buf pattern = {0}, path = {0};
        if (rnd(5) == 0)
            buf_adds(&pattern, "**/");
        for (uint32_t n = 1 + rnd(7); n > 0; n--) {
            const char *piece = pieces[rnd(ARRAY_SIZE(pieces))];
            bool slash = pattern.len == 0 || pattern.data[pattern.len - 1] == '/';
            buf_adds(&pattern, slash && *piece == '/' ? "x" : piece);
        }
        if (pattern.data[pattern.len - 1] == '/')
            buf_adds(&pattern, rnd(3) ? "a" : "**");
        for (uint32_t n = 1 + rnd(8); n > 0; n--)
            buf_addc(&path, path.len && path.data[path.len - 1] != '/' && n > 1 ? "abc/"[rnd(4)] : "abc"[rnd(3)]);
        struct glob *g = compiled(pattern.data, 0);
        bool expected = slow_match(pattern.data, path.data);
        if (glob_match(g, path.data) != expected)
            fail_msg("%s against %s should be %d", pattern.data, path.data, expected);
        matches += expected;
        /* what matches is never below a directory that is not descended into */
        for (char *slash = strchr(path.data, '/'); expected && slash; slash = strchr(slash + 1, '/')) {
            *slash = '\0';
            if (!glob_may_descend(g, path.data))
                fail_msg("%s should be looked for below %s", pattern.data, path.data);
            *slash = '/';
        }
        glob_destroy(g);
        buf_fini(&pattern);
        buf_fini(&path);
    }
    assert_true(matches > 3000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_descend),
        cmocka_unit_test(test_ignore),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_work_is_bounded),
        cmocka_unit_test(test_random_against_fnmatch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
