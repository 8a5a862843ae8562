/* Static loops: what is told of a set of manifests, and that it is the same however they came to be. */
#include "manifest/loops.h"

#include "base/util.h"
#include "manifest/manifest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define TRIGGER(id, pipeline, type, config)                                                                            \
    "name: " id "\npipeline_id: " pipeline "\ntrigger_type: " type "\nconfig: {" config "}\n"
#define CUSTOM(id, pipeline, endpoint) TRIGGER(id, pipeline, "custom", "endpoint: " endpoint)
#define AFTER(id, pipeline, sources) TRIGGER(id, pipeline, "pipeline_completed", "source_pipeline_id: " sources)
#define FILES(id, pipeline, path) TRIGGER(id, pipeline, "file_watch", "path: " path)
#define STEP(id, step) "kind: pipeline\nid: " id "\nsteps: [{id: s, " step "}]\n"
#define EMIT(id, endpoint) STEP(id, "emit: {endpoint: " endpoint "}")
#define IDLE(id) STEP(id, "exec: {command: [/bin/true]}")
#define AND "---\n"

/* What is told now, a line a trigger, by id. */
struct told {
    struct {
        char *id, *text;
    } all[LOOPS_TOLD_MAX + 1];
    size_t n;
};

static void tell(void *ctx, const char *id, const char *text)
{
    struct told *t = ctx;
    size_t i = 0;
    while (i < t->n && strcmp(t->all[i].id, id) < 0)
        i++;
    bool known = i < t->n && streq(t->all[i].id, id);
    assert_true(known || text); /* nothing is taken back that was not said */
    if (known) {
        assert_false(streq(t->all[i].text, text));
        free(t->all[i].text);
        t->all[i].text = xstrdup0(text);
        if (text)
            return;
        free(t->all[i].id);
        memmove(&t->all[i], &t->all[i + 1], (--t->n - i) * sizeof(t->all[0]));
        return;
    }
    assert_true(t->n < LOOPS_TOLD_MAX);
    memmove(&t->all[i + 1], &t->all[i], (t->n++ - i) * sizeof(t->all[0]));
    t->all[i].id = xstrdup(id);
    t->all[i].text = xstrdup(text);
}

/* Without the hint at the end of each. */
static char *told_text(const struct told *t)
{
    struct buf b = {0};
    buf_reserve(&b, 1)[0] = '\0';
    for (size_t i = 0; i < t->n; i++) {
        const char *text = t->all[i].text, *end = strstr(text, " (allow_loops: true says that it is meant)");
        assert_non_null(end);
        assert_string_equal(strchr(end, ')'), ")");
        buf_printf(&b, "%.*s\n", (int)(end - text), text);
    }
    return buf_steal(&b);
}

static void told_fini(struct told *t)
{
    for (size_t i = 0; i < t->n; i++) {
        free(t->all[i].id);
        free(t->all[i].text);
    }
    t->n = 0;
}

static void put(struct loops *l, const struct manifest_entry *e)
{
    if (e->trigger)
        loops_put_trigger(l, e->trigger);
    else
        loops_put_pipeline(l, e->pipeline);
}

static void drop(struct loops *l, const struct manifest_entry *e)
{
    if (e->kind == RESOURCE_TRIGGER)
        loops_remove_trigger(l, e->id);
    else
        loops_remove_pipeline(l, e->id);
}

static void parse(const char *text, struct manifest *m)
{
    if (manifest_parse("m.yaml", text, strlen(text), m) < 0)
        fail_msg("%s\n%s", m->errors[0].message, text);
}

/* Put forwards, backwards, one by one, with one taken out and put in again: the same is told. */
static void check(const char *text, const char *expected)
{
    struct manifest m;
    parse(text, &m);
    for (int way = 0; way < 4; way++) {
        struct told told = {0};
        struct loops *l = loops_create();
        for (size_t i = 0; i < m.n_entries; i++) {
            put(l, &m.entries[way == 1 ? m.n_entries - 1 - i : i]);
            if (way >= 2)
                loops_update(l, tell, &told);
        }
        for (size_t i = 0; way == 3 && i < m.n_entries; i++) {
            drop(l, &m.entries[i]);
            loops_update(l, tell, &told);
            put(l, &m.entries[i]);
            loops_update(l, tell, &told);
        }
        loops_update(l, tell, &told);
        _cleanup_(freep) char *got = told_text(&told);
        if (!streq(got, expected))
            fail_msg("way %d of\n%s\ngot\n%s\nexpected\n%s", way, text, got, expected);
        for (size_t i = 0; i < m.n_entries; i++)
            drop(l, &m.entries[i]);
        loops_update(l, tell, &told);
        assert_int_equal(told.n, 0);
        told_fini(&told);
        loops_destroy(l);
    }
    manifest_fini(&m);
}

static void test_emits(void **state)
{
    (void)state;
    check(CUSTOM("a", "p", "x") AND EMIT("p", "x"), "loop: trigger a → pipeline p → emit x → trigger a\n");
    check(CUSTOM("a", "p", "x") AND EMIT("p", "y"), "");
    check(CUSTOM("a", "p", "x") AND EMIT("q", "x"), "");
    check(CUSTOM("a", "p", "x") "allow_loops: true\n" AND EMIT("p", "x"), "");
    check(CUSTOM("a", "p", "x") "enabled: false\n" AND EMIT("p", "x"),
          "loop: trigger a → pipeline p → emit x → trigger a\n");
    check(CUSTOM("a", "p", "x") AND EMIT("p", "'{{ inputs.x }}'"), ""); /* nobody knows */
    check(CUSTOM("b", "q", "y") AND EMIT("q", "x") AND CUSTOM("a", "p", "x") AND EMIT("p", "y"),
          "loop: trigger a → pipeline p → emit y → trigger b → pipeline q → emit x → trigger a\n");
    /* of two ways the shorter; then what is left without its trigger */
    check(CUSTOM("a", "p", "x") AND CUSTOM("b", "p", "x") AND EMIT("p", "x"),
          "loop: trigger a → pipeline p → emit x → trigger a\nloop: trigger b → pipeline p → emit x → trigger b\n");
    check(CUSTOM("a", "p", "x") AND CUSTOM("b", "q", "y")
              AND STEP("p", "emit: {endpoint: y}}, {id: t, emit: {endpoint: x}") AND EMIT("q", "x"),
          "loop: trigger a → pipeline p → emit x → trigger a\n");
}

static void test_emits_with_filters(void **state)
{
    (void)state;
    static const struct {
        const char *filter, *data;
        bool loop;
    } cases[] = {
        {"{}", "null", true},
        {"{kind: start}", "{kind: done}", false},
        {"{kind: start}", "{kind: start}", true},
        {"{kind: start}", "null", false},
        {"{kind: start}", "{kind: '{{ inputs.kind }}'}", true},
        {"{kind: start, n: 1}", "{kind: done, n: '{{ inputs.n }}'}", false},
        {"{a: {b: [1]}}", "{a: {b: 2}}", false},
        {"{a: {b: [1]}}", "{a: '{{ inputs.a }}'}", true},
        {"{a.b: [1]}", "{a.b: '{{ inputs.a }}'}", true},
        {"{a: {b: [1]}}", "{a: [{b: 2}, {b: '{{ inputs.a }}'}]}", true},
        {"{a: [{exists: false}]}", "{b: '{{ inputs.a }}'}", true},
        {"{a: [{exists: false}]}", "{a: 1}", false},
        {"{$or: [{a: 1}, {b: 1}]}", "{a: 2, b: '{{ inputs.b }}'}", true},
        {"{$or: [{a: 1}, {b: 1}]}", "{a: 2, b: 2}", false},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_(freep) char *text =
            xasprintf("name: a\npipeline_id: p\ntrigger_type: custom\nconfig: {endpoint: x, filter: %s}\n---\n"
                      "kind: pipeline\nid: p\nsteps: [{id: s, emit: {endpoint: x, data: %s}}]\n",
                      cases[i].filter, cases[i].data);
        check(text, cases[i].loop ? "loop: trigger a → pipeline p → emit x → trigger a\n" : "");
    }
}

static void test_completions(void **state)
{
    (void)state;
    check(AFTER("a", "p", "p") AND IDLE("p"), "loop: trigger a → pipeline p → completion → trigger a\n");
    check(AFTER("a", "p", "p"), ""); /* nothing of that name runs */
    check(AFTER("a", "p", "[x, q]") AND IDLE("p") AND AFTER("b", "q", "p") AND IDLE("q"),
          "loop: trigger a → pipeline p → completion → trigger b → pipeline q → completion → trigger a\n");
    check(AFTER("a", "p", "'*'") AND IDLE("p"), "loop: trigger a → pipeline p → completion → trigger a\n");
    check(AFTER("a", "px", "'p?'") AND IDLE("p") AND IDLE("px"),
          "loop: trigger a → pipeline px → completion → trigger a\n");
    check(AFTER("a", "p", "'p?'") AND IDLE("p") AND IDLE("px"), "");
    /* dead letters of everything are no loop, of itself by name they are */
    check(AFTER("a", "p", "'*', status: failed") AND IDLE("p"), "");
    check(AFTER("a", "p", "'*', status: any") AND IDLE("p"), "loop: trigger a → pipeline p → completion → trigger a\n");
    check(AFTER("a", "p", "p, status: failed") AND IDLE("p"),
          "loop: trigger a → pipeline p → completion → trigger a\n");
    check(AFTER("a", "p", "q") AND EMIT("p", "x") AND CUSTOM("b", "q", "x") AND IDLE("q"),
          "loop: trigger a → pipeline p → emit x → trigger b → pipeline q → completion → trigger a\n");
}

static void test_writes(void **state)
{
    (void)state;
    static const struct {
        const char *watch, *step;
        const char *loop; /* NULL: none */
    } cases[] = {
        {"/data/in/*.csv", "exec: {command: [x], cwd: /data/in}", "write in /data/in"},
        {"/data/in/*.csv", "exec: {script: x, cwd: /data/in/a/../b/}", "write in /data/in/b"},
        {"/data/in/*.csv, recursive: false", "exec: {command: [x], cwd: /data/in/b}", NULL},
        {"/data/in/*.csv", "exec: {command: [x], cwd: /data}", NULL},
        {"/data/in/*.csv", "exec: {command: [x], cwd: /data/inner}", NULL},
        {"/data/in/*.csv, ignore_patterns: [tmp/]", "exec: {command: [x], cwd: /data/in/tmp}", NULL},
        {"/data/in/*.csv, events: [deleted]", "exec: {command: [x], cwd: /data/in}", NULL},
        {"/data/in/*.csv", "exec: {command: [x], cwd: '/data/in/{{ inputs.x }}'}", NULL},
        {"/data/in/*.csv", "exec: {command: [/data/in/run.csv, y]}", NULL}, /* the program itself */
        {"/data/in/*.csv", "exec: {command: [cp, a, /data/in/b.csv]}", "write to /data/in/b.csv"},
        {"/data/in/*.csv", "exec: {command: [cp, a, /data/in/b.txt]}", NULL},
        {"/data/in/*.csv", "exec: {command: [cp, a, /data/in/]}", "write in /data/in"},
        {"/data/in/*.csv", "exec: {command: [cp, a, /data/in]}", "write in /data/in"},
        {"/data/in/*.csv", "exec: {command: [x, --out=/data/in/b.csv]}", "write to /data/in/b.csv"},
        {"/data/in/*.csv", "exec: {command: [x, '/data/in/{{ inputs.id }}.csv']}", "write to /data/in/x.csv"},
        {"/data/in/*.csv", "exec: {command: [x, '{{ inputs.path }}/b.csv']}", NULL},
        {"/data/in/*.csv", "exec: {command: [x, ../in/b.csv], cwd: /data/out}", "write to /data/in/b.csv"},
        {"/data/in/*.csv", "exec: {command: [x, 'http://h/data/in/b.csv'], cwd: /data/out}", NULL},
        {"/data/in/*.csv", "exec: {script: 'sort < /data/in/a.csv > /data/in/b.csv'}", "write to /data/in/b.csv"},
        {"/data/in/*.csv", "exec: {script: 'sort < /data/in/a.csv 2>&1'}", NULL},
        {"/data/in/*.csv", "exec: {script: 'sort >> \"/data/in/$(id) b/$X.csv\"'}", "write to /data/in/x b/x.csv"},
        {"'/*.csv'", "exec: {command: [x], cwd: /}", "write in /"},
        {"'/*.csv', recursive: false", "exec: {command: [x], cwd: /tmp}", NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_(freep) char *text =
            xasprintf("name: a\npipeline_id: p\ntrigger_type: file_watch\nconfig: {path: %s}\n---\n"
                      "kind: pipeline\nid: p\nsteps:\n  - {id: s, %s}\n",
                      cases[i].watch, cases[i].step);
        _cleanup_(freep) char *loop =
            cases[i].loop ? xasprintf("loop: trigger a → pipeline p → %s → trigger a\n", cases[i].loop) : xstrdup("");
        check(text, loop);
    }
}

/* An edit takes back what is no longer so. */
static void test_edits(void **state)
{
    (void)state;
    struct told told = {0};
    struct loops *l = loops_create();
    struct manifest first, second;
    parse(CUSTOM("a", "p", "x") AND EMIT("p", "x") AND FILES("f", "p", "/in/*"), &first);
    parse(CUSTOM("a", "p", "x") AND EMIT("p", "y") AND CUSTOM("b", "p", "y"), &second);
    for (size_t i = 0; i < first.n_entries; i++)
        put(l, &first.entries[i]);
    loops_update(l, tell, &told);
    assert_int_equal(told.n, 1);
    put(l, &second.entries[1]);
    loops_update(l, tell, &told);
    assert_int_equal(told.n, 0);
    put(l, &second.entries[2]);
    loops_update(l, tell, &told);
    _cleanup_(freep) char *text = told_text(&told);
    assert_string_equal(text, "loop: trigger b → pipeline p → emit y → trigger b\n");
    loops_remove_trigger(l, "nobody");
    loops_remove_trigger(l, "b");
    loops_update(l, tell, &told);
    assert_int_equal(told.n, 0);
    loops_destroy(l);
    manifest_fini(&first);
    manifest_fini(&second);
}

static void count(void *ctx, const char *id, const char *text)
{
    (void)id;
    *(size_t *)ctx += text != NULL;
}

/* Long loops, and many at once, are told within bounds: a ring of pipelines, then all of them at one endpoint. */
static void test_bounds(void **state)
{
    (void)state;
    enum { N = 5000 };
    for (int one = 0; one < 2; one++) {
        struct loops *l = loops_create();
        for (int i = 0; i < N; i++) {
            _cleanup_(freep) char *text =
                xasprintf("name: t%d\npipeline_id: p%d\ntrigger_type: custom\nconfig: {endpoint: e%d}\n---\n"
                          "kind: pipeline\nid: p%d\nsteps: [{id: s, emit: {endpoint: e%d}}]\n",
                          i, i, one ? 0 : i, i, one ? 0 : (i + 1) % N);
            struct manifest m;
            parse(text, &m);
            put(l, &m.entries[0]);
            put(l, &m.entries[1]);
            manifest_fini(&m);
        }
        size_t told = 0;
        loops_update(l, count, &told);
        assert_int_equal(told, one ? LOOPS_TOLD_MAX : 1);
        loops_update(l, count, &told); /* nothing new */
        assert_int_equal(told, one ? LOOPS_TOLD_MAX : 1);
        loops_destroy(l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_emits),       cmocka_unit_test(test_emits_with_filters),
        cmocka_unit_test(test_completions), cmocka_unit_test(test_writes),
        cmocka_unit_test(test_edits),       cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
