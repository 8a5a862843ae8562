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

/* Once all is as it should be nothing is left that wakes the loop by the clock. */
static void test_idle_has_no_timer(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    f->delays.first_ms = 3600000;
    write_text(f->dir, "p.yml", PIPELINE);
    write_trigger(f->dir, "a.yaml", "a", "");
    start(f);
    WAIT(f, timers_next(&f->loop.timers) < 0);
    assert_true(accepted(f, "a"));
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
    /* What is wanted moved twice, what runs did not; a restart moves neither. */
    assert_int_equal(view_of(f, "a").generation, 3);
    assert_int_equal(view_of(f, "a").observed_generation, 1);
    HOLDS(f, has(f, "a"), 2 * f->delays.grace_ms);
    write_text(f->dir, "ab.yaml", both);
    WAIT(f, accepted(f, "a"));
    assert_int_equal(errors_of(f, "ab.yaml"), 0);
    assert_int_equal(view_of(f, "a").generation, view_of(f, "a").observed_generation);
    assert_true(logged(f, "trigger \"a\" rejected, it goes on as it was: "));
    assert_true(logged(f, "trigger \"a\" accepted again"));
    stop(f);
    fixture_free(f);
}

static void test_unreadable_file_deletes_nothing(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    write_trigger(f->dir, "a.yaml", "a", "");
    write_trigger(f->dir, "b.yaml", "b", "");
    write_trigger(f->dir, "c.yaml", "c", "");
    start(f);
    _cleanup_(freep) char *a = path_in(f->dir, "a.yaml"), *b = path_in(f->dir, "b.yaml");
    char *large = xmalloc(DOCUMENT_TEXT_MAX + 2);
    memset(large, '#', DOCUMENT_TEXT_MAX + 1);
    large[DOCUMENT_TEXT_MAX + 1] = '\0';
    write_text(f->dir, "c.yaml", large);
    delete_file(f->dir, "a.yaml");
    assert_int_equal(symlink("a.yaml", a), 0); /* ELOOP, also for root */
    delete_file(f->dir, "b.yaml");
    assert_int_equal(symlink("nowhere", b), 0);
    WAIT(f, !accepted(f, "a") && !accepted(f, "b") && !accepted(f, "c"));
    HOLDS(f, has(f, "a") && has(f, "b") && has(f, "c"), 2 * f->delays.grace_ms);
    assert_int_equal(errors_of(f, "a.yaml"), 1);
    assert_true(logged(f, "a.yaml: cannot be read: Too many levels"));
    assert_true(logged(f, "b.yaml: the link leads nowhere"));
    assert_true(logged(f, "c.yaml: larger than 4194304 bytes"));
    /* At the bound it is read: a file of comments, so c is gone. */
    large[DOCUMENT_TEXT_MAX] = '\0';
    write_text(f->dir, "c.yaml", large);
    WAIT(f, !has(f, "c"));
    free(large);
    delete_file(f->dir, "a.yaml");
    write_trigger(f->dir, "a.yaml", "a", "description: back\n");
    WAIT(f, accepted(f, "a") && streq(description_of(f, "a"), "back"));
    stop(f);
    fixture_free(f);
}

/* A misread id is no other resource: the document breaks before its id, after a name that gives one too. */
static void test_misread_id(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    write_text(f->dir, "x.yaml", "name: Other\nid: x\npipeline_id: p\ntrigger_type: custom\nconfig: {endpoint: x}\n");
    start(f);
    assert_true(has(f, "x"));
    write_text(f->dir, "x.yaml", "name: Other\nbroken: [\n");
    WAIT(f, errors_of(f, "x.yaml") > 0);
    write_text(f->dir, "x.yaml", "name: Other\nbroken: [[\n"); /* still so after another edit */
    HOLDS(f, has(f, "x"), 2 * f->delays.grace_ms);
    assert_false(accepted(f, "x"));
    assert_false(has(f, "other"));
    write_trigger(f->dir, "x.yaml", "other", "");
    WAIT(f, has(f, "other") && !has(f, "x")); /* now it is clear */
    stop(f);
    fixture_free(f);
}

static void test_bad_from_the_start(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    write_text(f->dir, "a.yaml", "id: a\nname: a\ntrigger_type: custom\n");
    write_trigger(f->dir, "b.yaml", "b", "");
    start(f);
    assert_false(has(f, "a"));
    assert_true(has(f, "b"));
    assert_int_not_equal(errors_of(f, "a.yaml"), 0);
    assert_null(reconcile_text(f->r, RESOURCE_TRIGGER, "a"));
    write_trigger(f->dir, "a.yaml", "a", "");
    WAIT(f, has(f, "a"));
    assert_int_equal(errors_of(f, "a.yaml"), 0);
    stop(f);
    fixture_free(f);
}

/* ---- writers and bursts ---- */

static void test_waits_for_the_writer(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    write_trigger(f->dir, "a.yaml", "a", "");
    start(f);
    _cleanup_(freep) char *a = path_in(f->dir, "a.yaml"), *text = trigger_text("a", "description: whole\n");
    int fd = open(a, O_WRONLY | O_TRUNC | O_CLOEXEC);
    assert_int_equal(write(fd, text, 10), 10);
    write_trigger(f->dir, "b.yaml", "b", "");
    WAIT(f, has(f, "b")); /* a pass has been */
    HOLDS(f, has(f, "a") && accepted(f, "a") && errors_of(f, "a.yaml") == 0, 300);
    assert_int_equal(write(fd, text + 10, strlen(text) - 10), (ssize_t)strlen(text) - 10);
    HOLDS(f, description_of(f, "a")[0] == '\0', 100);
    close(fd);
    WAIT(f, streq(description_of(f, "a"), "whole"));
    stop(f);
    fixture_free(f);
}

static void test_reads_under_a_writer_in_the_end(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    start(f);
    _cleanup_(freep) char *a = path_in(f->dir, "a.yaml"), *text = trigger_text("a", "");
    int fd = open(a, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    int64_t began = now_ms();
    WAIT(f, has(f, "a"));
    assert_true(now_ms() - began >= f->delays.writer_ms - 50);
    close(fd);
    stop(f);
    fixture_free(f);
}

/* A link is made, not written: nobody closes it. */
static void test_links_are_not_waited_for(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    f->delays.writer_ms = 3600000;
    start(f);
    write_trigger(f->top, "target", "a", "");
    write_trigger(f->top, "hard", "b", "");
    _cleanup_(freep) char *a = path_in(f->dir, "a.yaml"), *b = path_in(f->dir, "b.yaml");
    _cleanup_(freep) char *hard = path_in(f->top, "hard");
    assert_int_equal(symlink("../target", a), 0);
    assert_int_equal(link(hard, b), 0);
    WAIT(f, has(f, "a") && has(f, "b"));
    stop(f);
    fixture_free(f);
}

static void test_endless_writes_starve_nobody(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    start(f);
    write_trigger(f->dir, "a.yaml", "a", "");
    int64_t deadline = now_ms() + DEADLINE_MS;
    for (int i = 0; !has(f, "a") || !has(f, "busy"); i++) { /* never quiet for so long as a burst's end needs */
        _cleanup_(freep) char *extra = xasprintf("description: \"%d\"\n", i);
        write_trigger(f->dir, "busy.yaml", "busy", extra);
        turn(f);
        assert_true(now_ms() < deadline);
    }
    stop(f);
    fixture_free(f);
}

static void test_a_burst_is_one_pass(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    f->delays.quiet_ms = 100;
    start(f);
    int before = f->passes;
    int64_t last = 0;
    for (int i = 0; i < 20; i++) {
        char id[16], name[32];
        snprintf(id, sizeof(id), "t%d", i);
        snprintf(name, sizeof(name), "%s.yaml", id);
        write_trigger(f->dir, name, id, "");
        last = now_ms();
        turn(f);
    }
    WAIT(f, has(f, "t19"));
    assert_true(now_ms() - last < 1000); /* 200 on a machine that is not loaded */
    assert_true(f->passes - before <= 2);
    assert_true(has(f, "t0"));
    stop(f);
    fixture_free(f);
}

/* What Kubernetes does to a config map: all files change by one rename. */
static void test_swap_of_data_link(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    make_dir(f->dir, "..1");
    make_dir(f->dir, "..2");
    write_trigger(f->dir, "..1/a.yaml", "a", "description: one\n");
    write_trigger(f->dir, "..2/a.yaml", "a", "description: two\n");
    _cleanup_(freep) char *data = path_in(f->dir, "..data"), *next = path_in(f->dir, "..data_tmp");
    _cleanup_(freep) char *a = path_in(f->dir, "a.yaml");
    assert_int_equal(symlink("..1", data), 0);
    assert_int_equal(symlink("..data/a.yaml", a), 0);
    start(f);
    assert_string_equal(description_of(f, "a"), "one");
    assert_int_equal(symlink("..2", next), 0);
    assert_int_equal(rename(next, data), 0);
    WAIT(f, streq(description_of(f, "a"), "two"));
    stop(f);
    fixture_free(f);
}

/* What a link leads to is the manifest: written, replaced, gone and back, by way of other links, and another one. */
static void test_what_links_lead_to(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    _cleanup_(freep) char *a = path_in(f->dir, "a.yaml"), *b = path_in(f->dir, "b.yaml");
    _cleanup_(freep) char *way = path_in(f->top, "way"), *next = path_in(f->top, "next");
    make_dir(f->top, "one");
    make_dir(f->top, "two");
    write_trigger(f->top, "one/text", "a", "");
    write_trigger(f->top, "two/text", "a", "description: two\n");
    assert_int_equal(symlink("one", way), 0);
    assert_int_equal(symlink("../way/text", a), 0);
    assert_int_equal(symlink("../two/late", b), 0);
    start(f);
    write_trigger(f->top, "one/text", "a", "description: written\n");
    WAIT(f, streq(description_of(f, "a"), "written"));
    write_trigger(f->top, "one/new", "a", "description: replaced\n");
    move(f->top, "one/new", "one/text");
    WAIT(f, streq(description_of(f, "a"), "replaced"));
    delete_file(f->top, "one/text");
    WAIT(f, logged(f, "a.yaml: the link leads nowhere"));
    assert_true(has(f, "a"));
    write_trigger(f->top, "one/text", "a", "description: back\n");
    WAIT(f, streq(description_of(f, "a"), "back"));
    write_trigger(f->top, "two/late", "b", "");
    WAIT(f, has(f, "b"));
    assert_int_equal(symlink("two", next), 0);
    assert_int_equal(rename(next, way), 0);
    WAIT(f, streq(description_of(f, "a"), "two"));
    write_trigger(f->top, "two/text", "a", "description: \"two, written\"\n");
    WAIT(f, streq(description_of(f, "a"), "two, written"));
    assert_int_equal(symlink("../one/text", next), 0);
    assert_int_equal(rename(next, a), 0);
    WAIT(f, streq(description_of(f, "a"), "back"));
    assert_int_equal(HASH_COUNT(f->r->link_targets), 2); /* where it led before is left alone */
    assert_int_equal(HASH_COUNT(f->r->link_spots), 2);
    delete_file(f->dir, "b.yaml");
    WAIT(f, HASH_COUNT(f->r->link_spots) == 1);
    stop(f);
    fixture_free(f);
}

static void test_reload(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    write_trigger(f->top, "target", "a", "");
    _cleanup_(freep) char *a = path_in(f->dir, "a.yaml"), *target = path_in(f->top, "target");
    assert_int_equal(link(target, a), 0);
    start(f);
    write_trigger(f->top, "target", "a", "description: new\n"); /* by a name that lies outside: no event */
    HOLDS(f, description_of(f, "a")[0] == '\0', 200);
    reconcile_reload(f->r);
    WAIT(f, streq(description_of(f, "a"), "new"));
    stop(f);
    fixture_free(f);
}

/* ---- size ---- */

static void test_ten_thousand_files(void **state)
{
    (void)state;
    enum { FILES = 10000 };
    struct fixture *f = fixture_new(1);
    char name[32], id[16];
    for (int i = 0; i < FILES; i++) {
        snprintf(id, sizeof(id), "t%d", i);
        snprintf(name, sizeof(name), "%s.yaml", id);
        write_trigger(f->dir, name, id, "");
    }
    int64_t began = now_ms();
    start(f);
    print_message("             first pass over %d files: %d ms\n", FILES, (int)(now_ms() - began));
    assert_true(now_ms() - began < DEADLINE_MS);
    assert_true(has(f, "t0") && has(f, "t9999"));
    began = now_ms();
    write_trigger(f->dir, "t5000.yaml", "t5000", "description: new\n");
    WAIT(f, streq(description_of(f, "t5000"), "new"));
    print_message("             one edit among them: %d ms\n", (int)(now_ms() - began));
    stop(f);
    began = now_ms();
    start(f);
    print_message("             first pass with their state: %d ms\n", (int)(now_ms() - began));
    stop(f);
    _cleanup_(freep) char *away = path_in(f->top, "away");
    assert_int_equal(rename(f->dir, away), 0);
    began = now_ms();
    start(f);
    print_message("             without their directory: %d ms\n", (int)(now_ms() - began));
    assert_true(has(f, "t0") && condition_of(f, "t9999", "ManifestsReachable") == CONDITION_FALSE);
    stop(f);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loads_what_is_a_manifest),
        cmocka_unit_test(test_idle_has_no_timer),
        cmocka_unit_test(test_nothing_to_load),
        cmocka_unit_test(test_changes_live),
        cmocka_unit_test(test_bad_document_harms_nothing),
        cmocka_unit_test(test_unreadable_file_deletes_nothing),
        cmocka_unit_test(test_misread_id),
        cmocka_unit_test(test_bad_from_the_start),
        cmocka_unit_test(test_waits_for_the_writer),
        cmocka_unit_test(test_reads_under_a_writer_in_the_end),
        cmocka_unit_test(test_links_are_not_waited_for),
        cmocka_unit_test(test_endless_writes_starve_nobody),
        cmocka_unit_test(test_a_burst_is_one_pass),
        cmocka_unit_test(test_swap_of_data_link),
        cmocka_unit_test(test_what_links_lead_to),
        cmocka_unit_test(test_reload),
        cmocka_unit_test(test_ten_thousand_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
