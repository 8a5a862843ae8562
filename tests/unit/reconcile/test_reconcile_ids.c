/* Who owns an id, moves, deletions, and directories that go. */
#include "fixture.h"

#include <sched.h>
#include <sys/mount.h>

static bool may_mount; /* in a mount namespace of our own */

/* ---- one id, two files ---- */

static void test_the_first_keeps_the_id(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(2);
    write_trigger(f->dir, "b.yaml", "x", "description: b\n");
    write_trigger(f->dir, "c.yaml", "x", "description: c\n");
    write_trigger(f->dir2, "0.yaml", "x", "description: later directory\n");
    start(f); /* by directory and path */
    assert_string_equal(description_of(f, "x"), "b");
    assert_int_equal(errors_of(f, "b.yaml"), 0);
    assert_int_equal(errors_of(f, "c.yaml"), 1);
    assert_int_equal(errors_of(f, "0.yaml"), 1);
    assert_true(logged(f, "c.yaml:1:1: id: trigger \"x\" is already defined in "));
    assert_true(logged(f, "m/b.yaml:1"));
    assert_true(accepted(f, "x"));
    write_trigger(f->dir, "a.yaml", "x", "description: earlier path\n");
    WAIT(f, errors_of(f, "a.yaml") == 1);
    assert_string_equal(file_of(f, "x"), "b.yaml");
    /* Which file it was is state. */
    stop(f);
    start(f);
    assert_string_equal(description_of(f, "x"), "b");
    assert_int_equal(errors_of(f, "b.yaml"), 0);
    assert_int_equal(view_of(f, "x").generation, 1);
    int64_t created = view_of(f, "x").created_ms;
    /* The owner drops it: the next takes over by itself, as a move. */
    write_trigger(f->dir, "b.yaml", "y", "");
    WAIT(f, streq(description_of(f, "x"), "earlier path"));
    assert_int_equal(view_of(f, "x").created_ms, created);
    assert_int_equal(view_of(f, "x").generation, 2);
    WAIT(f, errors_of(f, "a.yaml") == 0);
    assert_int_equal(errors_of(f, "c.yaml"), 1);
    delete_file(f->dir, "a.yaml");
    WAIT(f, streq(description_of(f, "x"), "c"));
    assert_true(has(f, "y"));
    stop(f);
    fixture_free(f);
}

/* ---- deletion ---- */

static void test_deletion_has_a_grace(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    f->delays.grace_ms = 1000;
    _cleanup_(freep) char *a = trigger_text("a", ""), *b = trigger_text("b", "");
    _cleanup_(freep) char *both = xasprintf("%s---\n%s", a, b);
    write_text(f->dir, "ab.yaml", both);
    write_trigger(f->dir, "c.yaml", "c", "");
    start(f);
    /* Gone, and back in time. */
    int passes = f->passes;
    delete_file(f->dir, "c.yaml");
    WAIT(f, f->passes > passes);
    assert_true(has(f, "c"));
    write_trigger(f->dir, "c.yaml", "c", "");
    HOLDS(f, has(f, "c"), 2 * f->delays.grace_ms);
    /* A document edited out, a file emptied: not at once, but then both in one step. */
    int64_t began = now_ms();
    write_text(f->dir, "ab.yaml", a);
    write_text(f->dir, "c.yaml", "");
    while (has(f, "b")) {
        assert_true(has(f, "c"));
        turn(f);
        assert_true(now_ms() < began + DEADLINE_MS);
    }
    assert_false(has(f, "c"));
    assert_true(now_ms() - began >= f->delays.grace_ms);
    assert_true(has(f, "a"));
    assert_null(reconcile_text(f->r, RESOURCE_TRIGGER, "c"));
    /* Deleted while the daemon is down: it does not come back to life. */
    stop(f);
    delete_file(f->dir, "ab.yaml");
    start(f);
    assert_false(has(f, "a") || has(f, "b") || has(f, "c"));
    stop(f);
    fixture_free(f);
}

/* Its file is there again, but somebody still writes it. */
static void test_grace_waits_for_a_writer(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    f->delays.writer_ms = 3600000;
    write_trigger(f->dir, "a.yaml", "a", "");
    start(f);
    _cleanup_(freep) char *a = path_in(f->dir, "a.yaml"), *text = trigger_text("a", "description: new\n");
    int passes = f->passes;
    delete_file(f->dir, "a.yaml");
    WAIT(f, f->passes > passes);
    int fd = open(a, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_int_equal(write(fd, text, 5), 5);
    HOLDS(f, has(f, "a"), 3 * f->delays.grace_ms);
    assert_int_equal(write(fd, text + 5, strlen(text) - 5), (ssize_t)strlen(text) - 5);
    close(fd);
    WAIT(f, streq(description_of(f, "a"), "new"));
    stop(f);
    fixture_free(f);
}

/* ---- moves ---- */

#define UNTOUCHED(f, id, created)                                                                                      \
    (has(f, id) && view_of(f, id).created_ms == (created) && view_of(f, id).generation == 1)

static void test_renames_are_moves(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(2);
    f->delays.grace_ms = 3600000; /* a move does not wait */
    make_dir(f->dir, "sub");
    write_trigger(f->dir, "sub/a.yaml", "a", "");
    write_trigger(f->dir, "b.yaml", "b", "");
    start(f);
    int64_t a = view_of(f, "a").created_ms, b = view_of(f, "b").created_ms;
    move(f->dir, "b.yaml", "b2.yaml");
    WAIT(f, streq(file_of(f, "b"), "b2.yaml"));
    assert_true(UNTOUCHED(f, "b", b));
    assert_int_equal(errors_of(f, "b2.yaml"), 0);
    move(f->dir, "sub", "other");
    WAIT(f, strstr(view_of(f, "a").origin->file, "/other/"));
    assert_true(UNTOUCHED(f, "a", a));
    move(f->top, "m/b2.yaml", "m2/b3.yaml"); /* to another directory */
    WAIT(f, strstr(view_of(f, "b").origin->file, "/m2/b3.yaml"));
    assert_true(UNTOUCHED(f, "b", b));
    /* A document cut out here and pasted there. */
    _cleanup_(freep) char *ta = trigger_text("a", ""), *tb = trigger_text("b", "");
    _cleanup_(freep) char *both = xasprintf("# moved\n%s---\n%s", tb, ta);
    write_text(f->dir, "both.yaml", both);
    WAIT(f, errors_of(f, "both.yaml") == 2);
    write_text(f->dir2, "b3.yaml", "# empty\n");
    delete_file(f->dir, "other/a.yaml");
    WAIT(f, streq(file_of(f, "a"), "both.yaml") && streq(file_of(f, "b"), "both.yaml"));
    assert_true(UNTOUCHED(f, "a", a) && UNTOUCHED(f, "b", b));
    assert_int_equal(view_of(f, "b").line, 2);
    WAIT(f, errors_of(f, "both.yaml") == 0);
    /* Over a restart. */
    stop(f);
    move(f->dir, "both.yaml", "again.yaml");
    start(f);
    assert_string_equal(file_of(f, "a"), "again.yaml");
    assert_true(UNTOUCHED(f, "a", a) && UNTOUCHED(f, "b", b));
    stop(f);
    fixture_free(f);
}

static void test_rename_of_a_broken_file(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    write_trigger(f->dir, "a.yaml", "a", "");
    write_trigger(f->dir, "b.yaml", "b", "");
    start(f);
    write_text(f->dir, "a.yaml", "id: [");
    write_text(f->dir, "b.yaml", "id: b\nname: [\n");
    WAIT(f, !accepted(f, "a") && !accepted(f, "b"));
    move(f->dir, "a.yaml", "a2.yaml");
    move(f->dir, "b.yaml", "b2.yaml");
    WAIT(f, errors_of(f, "a2.yaml") > 0 && errors_of(f, "b2.yaml") > 0);
    HOLDS(f, has(f, "a") && has(f, "b"), 2 * f->delays.grace_ms);
    assert_false(accepted(f, "a"));
    stop(f);
    start(f);
    assert_true(has(f, "a") && has(f, "b"));
    write_trigger(f->dir, "a2.yaml", "a", "description: mended\n");
    WAIT(f, streq(description_of(f, "a"), "mended"));
    delete_file(f->dir, "b2.yaml");
    WAIT(f, !has(f, "b"));
    stop(f);
    fixture_free(f);
}

/* ---- directories that go ---- */

static bool out_of_reach(struct fixture *f, const char *id)
{
    return condition_of(f, id, "ManifestsReachable") == CONDITION_FALSE;
}

static void test_a_directory_that_goes_deletes_nothing(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(2);
    write_trigger(f->dir, "a.yaml", "a", "");
    write_trigger(f->dir, "b.yaml", "b", "");
    write_trigger(f->dir2, "c.yaml", "c", "");
    start(f);
    assert_int_equal(condition_of(f, "a", "ManifestsReachable"), -1);
    move(f->top, "m", "away");
    WAIT(f, out_of_reach(f, "a") && out_of_reach(f, "b"));
    assert_false(out_of_reach(f, "c"));
    HOLDS(f, has(f, "a"), 2 * f->delays.grace_ms);
    assert_true(logged(f, "m: the directory is not there; what it defined goes on as it was"));
    /* Over a restart without it. */
    stop(f);
    start(f);
    assert_true(out_of_reach(f, "a") && out_of_reach(f, "b") && has(f, "c"));
    HOLDS(f, has(f, "a"), 2 * f->delays.grace_ms);
    move(f->top, "away", "m");
    WAIT(f, !out_of_reach(f, "a") && !out_of_reach(f, "b"));
    assert_int_equal(view_of(f, "a").generation, 1);
    /* What was taken out meanwhile is deleted when it is back. */
    move(f->top, "m", "away");
    WAIT(f, out_of_reach(f, "a"));
    delete_file(f->top, "away/b.yaml");
    move(f->top, "away", "m");
    WAIT(f, !has(f, "b"));
    assert_false(out_of_reach(f, "a"));
    /* File by file, and then itself. */
    remove_tree(f->dir);
    WAIT(f, out_of_reach(f, "a"));
    HOLDS(f, has(f, "a"), 2 * f->delays.grace_ms);
    make_dir(f->top, "m"); /* a mount point: empty is not deleted */
    HOLDS(f, has(f, "a") && out_of_reach(f, "a"), 2 * f->delays.grace_ms);
    write_trigger(f->dir, "a.yaml", "a", "");
    WAIT(f, !out_of_reach(f, "a"));
    stop(f);
    fixture_free(f);
}

/* The base is a link, so that it can lead to another device. */
static void test_another_device(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    struct stat here, there;
    char shm[] = "/dev/shm/triggerd-reconcile-XXXXXX";
    if (!mkdtemp(shm) || stat(shm, &there) < 0 || stat(f->top, &here) < 0 || here.st_dev == there.st_dev) {
        fixture_free(f);
        skip();
    }
    _cleanup_(freep) char *next = path_in(f->top, "next");
    assert_int_equal(rmdir(f->dir), 0);
    make_dir(f->top, "real");
    assert_int_equal(symlink("real", f->dir), 0);
    write_trigger(f->dir, "a.yaml", "a", "");
    write_trigger(f->dir, "b.yaml", "b", "");
    start(f);
    write_trigger(shm, "b.yaml", "b", "description: there\n");
    assert_int_equal(symlink(shm, next), 0);
    assert_int_equal(rename(next, f->dir), 0);
    WAIT(f, out_of_reach(f, "a") && streq(description_of(f, "b"), "there"));
    assert_false(out_of_reach(f, "b"));
    HOLDS(f, has(f, "a"), 2 * f->delays.grace_ms);
    assert_true(logged(f, "on another device than before"));
    /* The same over a restart, where nothing of it is there; then with all of it. */
    delete_file(shm, "b.yaml");
    stop(f);
    start(f);
    assert_true(out_of_reach(f, "a") && out_of_reach(f, "b"));
    HOLDS(f, has(f, "a") && has(f, "b"), 2 * f->delays.grace_ms);
    /* By hand one can let go of it. */
    assert_int_equal(put_resource(f, RESOURCE_TRIGGER, "b", NULL).code, 0);
    assert_true(!has(f, "b") && has(f, "a"));
    write_trigger(shm, "a.yaml", "a", "");
    WAIT(f, !out_of_reach(f, "a"));
    delete_file(shm, "a.yaml"); /* now it is the device */
    WAIT(f, !has(f, "a"));
    stop(f);
    remove_tree(shm);
    fixture_free(f);
}

/* A mount over a directory is told by nothing; one that is taken away shows the empty directory below. */
static void test_mounts(void **state)
{
    (void)state;
    if (!may_mount)
        skip();
    struct fixture *f = fixture_new(1);
    write_trigger(f->dir, "a.yaml", "a", "");
    start(f);
    assert_int_equal(mount("tmpfs", f->dir, "tmpfs", 0, NULL), 0);
    WAIT(f, out_of_reach(f, "a"));
    HOLDS(f, has(f, "a"), 2 * f->delays.grace_ms);
    write_trigger(f->dir, "b.yaml", "b", ""); /* deletes nothing, but is not ignored */
    WAIT(f, has(f, "b"));
    assert_true(out_of_reach(f, "a"));
    assert_int_equal(umount(f->dir), 0);
    WAIT(f, !out_of_reach(f, "a"));
    WAIT(f, out_of_reach(f, "b")); /* what was on the mount goes on too … */
    HOLDS(f, has(f, "b"), 2 * f->delays.grace_ms);
    assert_int_equal(put_resource(f, RESOURCE_TRIGGER, "b", NULL).code, 0); /* … unless somebody says otherwise */
    assert_false(has(f, "b"));
    /* The other way round: on a mount from the start. */
    stop(f);
    delete_file(f->dir, "a.yaml");
    assert_int_equal(mount("tmpfs", f->dir, "tmpfs", 0, NULL), 0);
    write_trigger(f->dir, "c.yaml", "c", "");
    start(f);
    assert_true(has(f, "c"));
    assert_int_equal(umount(f->dir), 0);
    WAIT(f, out_of_reach(f, "c"));
    HOLDS(f, has(f, "c"), 2 * f->delays.grace_ms);
    /* The machine starts without the mount. */
    stop(f);
    start(f);
    assert_true(out_of_reach(f, "c"));
    HOLDS(f, has(f, "c"), 2 * f->delays.grace_ms);
    stop(f);
    fixture_free(f);
}

/* Known from an earlier life, in a directory that is none any more. */
static void test_a_directory_dropped_from_the_settings(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(2);
    write_trigger(f->dir, "a.yaml", "a", "");
    write_trigger(f->dir2, "b.yaml", "b", "");
    start(f);
    stop(f);
    f->n_dirs = 1;
    start(f);
    assert_true(has(f, "a"));
    assert_false(has(f, "b"));
    stop(f);
    fixture_free(f);
}

int main(void)
{
    /* Before there are other threads. */
    may_mount = unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_keeps_the_id),
        cmocka_unit_test(test_deletion_has_a_grace),
        cmocka_unit_test(test_grace_waits_for_a_writer),
        cmocka_unit_test(test_renames_are_moves),
        cmocka_unit_test(test_rename_of_a_broken_file),
        cmocka_unit_test(test_a_directory_that_goes_deletes_nothing),
        cmocka_unit_test(test_mounts),
        cmocka_unit_test(test_another_device),
        cmocka_unit_test(test_a_directory_dropped_from_the_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
