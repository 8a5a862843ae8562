#include "fixture.h"

#define PIPELINE "kind: pipeline\nid: p\nsteps: [{id: s, exec: {command: [/bin/true]}}]\n"

/* ---- loading ---- */

static void test_loads_what_is_a_manifest(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    make_dir(f->dir, "sub");
    make_dir(f->dir, "sub/deep.yaml"); /* a directory's name does not matter */
    make_dir(f->dir, ".git");
    make_dir(f->dir, ".hidden");
    write_text(f->dir, "p.yml", PIPELINE);
    write_trigger(f->dir, "a.yaml", "a", "");
    write_trigger(f->dir, "sub/b.yaml", "b", "");
    write_trigger(f->dir, "sub/deep.yaml/c.yml", "c", "");
    write_text(f->dir, "d.json",
               "{\"id\": \"d\", \"name\": \"d\", \"pipeline_id\": \"p\", \"trigger_type\": \"custom\", "
               "\"config\": {\"endpoint\": \"d\"}}");
    write_trigger(f->dir, ".hidden/x1.yaml", "x1", "");
    write_trigger(f->dir, ".git/x2.yaml", "x2", "");
    write_trigger(f->dir, ".x3.yaml", "x3", "");
    write_trigger(f->dir, "x4.yaml~", "x4", "");
    write_trigger(f->dir, "#x5.yaml#", "x5", "");
    write_trigger(f->dir, ".x6.yaml.swp", "x6", "");
    write_trigger(f->dir, "x7.txt", "x7", "");
    _cleanup_(freep) char *fifo = path_in(f->dir, "fifo.yaml"), *link = path_in(f->dir, "link.yaml");
    _cleanup_(freep) char *elsewhere = path_in(f->top, "elsewhere");
    write_trigger(f->top, "elsewhere", "l", "");
    assert_int_equal(mkfifo(fifo, 0644), 0);
    assert_int_equal(symlink(elsewhere, link), 0);
    start(f);
    const char *there[] = {"a", "b", "c", "d", "l"}, *not_there[] = {"x1", "x2", "x3", "x4", "x5", "x6", "x7"};
    for (size_t i = 0; i < ARRAY_SIZE(there); i++)
        assert_true(has(f, there[i]));
    for (size_t i = 0; i < ARRAY_SIZE(not_there); i++)
        assert_false(has(f, not_there[i]));
    assert_non_null(engine_find_pipeline(f->engine, "p"));
    assert_int_equal(view_of(f, "a").line, 1);
    struct errors e = {.name = ""};
    reconcile_each_file(f->r, collect_errors, &e);
    assert_int_equal(e.files, 6);
    _cleanup_(freep) char *text = reconcile_text(f->r, RESOURCE_TRIGGER, "a"), *want = trigger_text("a", "");
    assert_string_equal(text, want);
    assert_null(reconcile_text(f->r, RESOURCE_TRIGGER, "none"));
    stop(f);
    fixture_free(f);
}

static void test_nothing_to_load(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(2);
    assert_int_equal(rmdir(f->dir2), 0);
    start(f); /* one empty, one missing */
    assert_true(logged(f, "m2: the directory is not there"));
    assert_string_equal(reconcile_writable_dir(f->r), f->dir);
    make_dir(f->top, "m2");
    write_trigger(f->dir2, "a.yaml", "a", "");
    WAIT(f, has(f, "a"));
    stop(f);
    f->n_dirs = 0;
    start(f);
    assert_null(reconcile_writable_dir(f->r));
    stop(f);
    fixture_free(f);
}

static void test_changes_live(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    start(f);
    write_trigger(f->dir, "a.yaml", "a", "");
    WAIT(f, has(f, "a"));
    int64_t created = view_of(f, "a").created_ms;
    write_trigger(f->dir, "a.yaml", "a", "description: new\n");
    WAIT(f, streq(description_of(f, "a"), "new"));
    assert_int_equal(view_of(f, "a").generation, 2);
    assert_int_equal(view_of(f, "a").created_ms, created);
    write_trigger(f->dir, ".tmp", "a", "description: renamed over\n"); /* as editors save */
    move(f->dir, ".tmp", "a.yaml");
    WAIT(f, streq(description_of(f, "a"), "renamed over"));
    write_trigger(f->dir, "a.yaml", "a", "# a comment\ndescription: renamed over\n");
    _cleanup_(freep) char *text = NULL;
    WAIT(f, (free(text), text = reconcile_text(f->r, RESOURCE_TRIGGER, "a"), strstr(text, "# a comment")));
    assert_int_equal(view_of(f, "a").generation, 3);
    /* A whole directory moved in, and then out. */
    make_dir(f->top, "whole");
    make_dir(f->top, "whole/sub");
    write_trigger(f->top, "whole/sub/b.yaml", "b", "");
    move(f->top, "whole", "m/whole");
    WAIT(f, has(f, "b"));
    move(f->top, "m/whole", "whole");
    WAIT(f, !has(f, "b"));
    assert_true(has(f, "a"));
    stop(f);
    fixture_free(f);
}

/* ---- errors ---- */

static void test_bad_document_harms_nothing(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    _cleanup_(freep) char *a = trigger_text("a", ""), *b = trigger_text("b", "");
    _cleanup_(freep) char *both = xasprintf("%s---\n%s", a, b);
    write_text(f->dir, "ab.yaml", both);
    start(f);
    assert_true(has(f, "a") && has(f, "b"));
    /* a breaks where its id can be read, b is edited. */
    _cleanup_(freep) char *broken = xasprintf("%smax_concurrent: soon\n---\n%sdescription: new\n", a, b);
    write_text(f->dir, "ab.yaml", broken);
    WAIT(f, !accepted(f, "a"));
    assert_string_equal(description_of(f, "b"), "new");
    assert_true(accepted(f, "b"));
    assert_int_equal(errors_of(f, "ab.yaml"), 1);
    assert_true(logged(f, "ab.yaml:6:17: max_concurrent: "));
    const struct condition *c = condition_find(view_of(f, "a").conditions, "Accepted");
    assert_non_null(strstr(c->message, "ab.yaml:6:17: max_concurrent: "));
    /* … where it cannot: still nothing is deleted. */
    _cleanup_(freep) char *unread = xasprintf("id: [\nname: \"\n---\n%s", b);
    write_text(f->dir, "ab.yaml", unread);
    WAIT(f, description_of(f, "b")[0] == '\0');
    HOLDS(f, has(f, "a") && !accepted(f, "a"), 2 * f->delays.grace_ms);
    /* … also over a restart. */
    stop(f);
    start(f);
    assert_true(has(f, "a") && has(f, "b"));
    assert_false(accepted(f, "a"));
    assert_int_equal(view_of(f, "a").generation, 1);
    HOLDS(f, has(f, "a"), 2 * f->delays.grace_ms);
    write_text(f->dir, "ab.yaml", both);
    WAIT(f, accepted(f, "a"));
    assert_int_equal(errors_of(f, "ab.yaml"), 0);
    assert_int_equal(view_of(f, "a").generation, 1);
    assert_true(logged(f, "ab.yaml: no errors any more"));
    stop(f);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loads_what_is_a_manifest),
        cmocka_unit_test(test_nothing_to_load),
        cmocka_unit_test(test_changes_live),
        cmocka_unit_test(test_bad_document_harms_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
