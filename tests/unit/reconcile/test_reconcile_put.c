/* Edits by the views. */
#include "fixture.h"

static void test_put_file(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    start(f);
    _cleanup_(freep) char *text = trigger_text("a", ""), *edited = trigger_text("a", "description: new\n");
    struct put_seen seen = put_file(f, "a.yaml", text);
    assert_int_equal(seen.code, 0);
    assert_true(has(f, "a")); /* in force when it is answered */
    assert_string_equal(file_of(f, "a"), "a.yaml");
    _cleanup_(freep) char *on_disk = read_text(f->dir, "a.yaml");
    assert_string_equal(on_disk, text);
    _cleanup_(freep) char *path = path_in(f->dir, "a.yaml");
    struct stat st;
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(put_file(f, "a.yaml", edited).code, 0);
    assert_string_equal(description_of(f, "a"), "new");
    assert_int_equal(view_of(f, "a").generation, 2);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    /* The watch's echo is no change. */
    int64_t updated = view_of(f, "a").updated_ms;
    int passes = f->passes;
    WAIT(f, f->passes > passes);
    assert_int_equal(view_of(f, "a").generation, 2);
    assert_int_equal(view_of(f, "a").updated_ms, updated);
    /* In sub-folders, made where they are missing. */
    _cleanup_(freep) char *b = trigger_text("b", "");
    assert_int_equal(put_file(f, "deep/er/b.yaml", b).code, 0);
    assert_true(has(f, "b"));
    write_trigger(f->dir, "deep/er/b.yaml", "b", "description: watched\n");
    WAIT(f, streq(description_of(f, "b"), "watched"));
    /* Deleted without grace; nothing hidden is left behind. */
    f->r->delays.grace_ms = 3600000;
    assert_int_equal(put_file(f, "a.yaml", NULL).code, 0);
    assert_false(has(f, "a"));
    assert_int_equal(put_file(f, "a.yaml", NULL).code, -ENOENT);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(rmdir(f->dir), -1);
    _cleanup_(freep) char *deep = path_in(f->dir, "deep");
    remove_tree(deep);
    WAIT(f, rmdir(f->dir) == 0);
    assert_true(has(f, "b")); /* rm -r of a directory and its base deletes nothing */
    stop(f);
    fixture_free(f);
}

static void test_put_file_refused(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    write_trigger(f->dir, "a.yaml", "a", "");
    start(f);
    _cleanup_(freep) char *text = trigger_text("b", "");
    struct put_seen seen = put_file(f, "b.yaml", "id: b\nname: b\ntrigger_type: custom\nconfig: {}\n");
    assert_int_equal(seen.code, -EINVAL);
    assert_true(seen.errors >= 2); /* all at once */
    assert_non_null(strstr(seen.message, "b.yaml:"));
    assert_int_equal(put_file(f, "/etc/b.yaml", text).code, -EINVAL);
    assert_int_equal(put_file(f, "../b.yaml", text).code, -EINVAL);
    assert_int_equal(put_file(f, "sub/../b.yaml", text).code, -EINVAL);
    assert_int_equal(put_file(f, "sub//b.yaml", text).code, -EINVAL);
    assert_int_equal(put_file(f, ".b.yaml", text).code, -EINVAL);
    assert_int_equal(put_file(f, ".git/b.yaml", text).code, -EINVAL);
    assert_int_equal(put_file(f, "b.txt", text).code, -EINVAL);
    assert_int_equal(put_file(f, "sub/", text).code, -EINVAL);
    assert_int_equal(put_file(f, "b\xff.yaml", text).code, -EINVAL);
    _cleanup_(freep) char *taken = trigger_text("a", "");
    seen = put_file(f, "b.yaml", taken);
    assert_int_equal(seen.code, -EEXIST);
    assert_non_null(strstr(seen.message, "trigger \"a\" is already defined in "));
    assert_int_equal(seen.errors, 1);
    /* A file is in the way of a directory. */
    seen = put_file(f, "a.yaml/b.yaml", text);
    assert_true(seen.code == -EEXIST || seen.code == -ENOTDIR);
    assert_false(has(f, "b"));
    _cleanup_(freep) char *none = read_text(f->dir, "b.yaml");
    assert_null(none);
    assert_true(accepted(f, "a"));
    stop(f);
    fixture_free(f);
}

static void test_put_resource(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    _cleanup_(freep) char *a = trigger_text("a", "# of a\n"), *b = trigger_text("b", "# of b\n");
    _cleanup_(freep) char *all = xasprintf("# head\n%s---\nid: [broken\n---\n# before b\n%s", a, b);
    write_text(f->dir, "all.yaml", all);
    start(f);
    f->r->delays.grace_ms = 3600000;
    assert_int_equal(errors_of(f, "all.yaml"), 1);
    _cleanup_(freep) char *edited = trigger_text("b", "description: new # why\n");
    assert_int_equal(put_resource(f, RESOURCE_TRIGGER, "b", edited).code, 0);
    assert_string_equal(description_of(f, "b"), "new");
    _cleanup_(freep) char *want = xasprintf("# head\n%s---\nid: [broken\n---\n%s", a, edited);
    _cleanup_(freep) char *now = read_text(f->dir, "all.yaml"), *text = reconcile_text(f->r, RESOURCE_TRIGGER, "b");
    assert_string_equal(now, want);
    assert_string_equal(text, edited);
    assert_int_equal(view_of(f, "a").generation, 1);
    /* Refused: not valid, another id, no such resource. */
    struct put_seen seen = put_resource(f, RESOURCE_TRIGGER, "b", "id: b\nname: 5\n");
    assert_int_equal(seen.code, -EINVAL);
    assert_non_null(strstr(seen.message, "all.yaml:"));
    assert_true(seen.errors > 2); /* that of the document before it is among them */
    seen = put_resource(f, RESOURCE_TRIGGER, "b", a);
    assert_int_equal(seen.code, -EINVAL);
    _cleanup_(freep) char *c = trigger_text("c", "");
    seen = put_resource(f, RESOURCE_TRIGGER, "b", c);
    assert_int_equal(seen.code, -EINVAL);
    assert_non_null(strstr(seen.message, "expected trigger \"b\", got trigger \"c\""));
    assert_int_equal(put_resource(f, RESOURCE_TRIGGER, "c", c).code, -ENOENT);
    assert_int_equal(put_resource(f, RESOURCE_PIPELINE, "b", edited).code, -ENOENT);
    assert_string_equal(description_of(f, "b"), "new");
    /* Taken out, the rest stays; with the last the file goes. */
    assert_int_equal(put_resource(f, RESOURCE_TRIGGER, "b", NULL).code, 0);
    assert_false(has(f, "b"));
    assert_true(has(f, "a"));
    write_text(f->dir, "all.yaml", a);
    WAIT(f, errors_of(f, "all.yaml") == 0);
    assert_int_equal(put_resource(f, RESOURCE_TRIGGER, "a", NULL).code, 0);
    assert_false(has(f, "a"));
    _cleanup_(freep) char *gone = read_text(f->dir, "all.yaml");
    assert_null(gone);
    stop(f);
    start(f);
    assert_false(has(f, "a") || has(f, "b"));
    stop(f);
    fixture_free(f);
}

/* Nor does a broken document of that id in another file, or one of no known id in its own, keep it. */
static void test_delete_beside_broken_documents(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    write_trigger(f->dir, "a.yaml", "x", "");
    write_trigger(f->dir, "b.yaml", "x", "max_concurrent: soon\n");
    _cleanup_(freep) char *y = trigger_text("y", ""), *z = trigger_text("z", "");
    _cleanup_(freep) char *both = xasprintf("%s---\n%s", y, z), *broken = xasprintf("%s---\nid: [\n", y);
    write_text(f->dir, "c.yaml", both);
    start(f);
    write_text(f->dir, "c.yaml", broken);
    WAIT(f, !accepted(f, "z"));
    assert_int_equal(put_resource(f, RESOURCE_TRIGGER, "x", NULL).code, 0);
    assert_false(has(f, "x"));
    assert_int_equal(put_resource(f, RESOURCE_TRIGGER, "y", NULL).code, 0);
    assert_false(has(f, "y"));
    HOLDS(f, has(f, "z") && !has(f, "x"), 2 * f->delays.grace_ms); /* z is the broken one */
    /* A whole file goes with all that it may hold. */
    assert_int_equal(put_file(f, "c.yaml", NULL).code, 0);
    assert_false(has(f, "z"));
    stop(f);
    fixture_free(f);
}

/* Nor does a document after it whose id is another file's. */
static void test_delete_beside_an_id_of_another_file(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    _cleanup_(freep) char *x = trigger_text("x", ""), *y = trigger_text("y", "");
    _cleanup_(freep) char *both = xasprintf("%s---\n%s", y, x);
    write_trigger(f->dir, "a.yaml", "x", "");
    write_text(f->dir, "b.yaml", both);
    start(f);
    assert_int_equal(errors_of(f, "b.yaml"), 1);
    assert_int_equal(put_resource(f, RESOURCE_TRIGGER, "y", NULL).code, 0);
    assert_true(has(f, "x") && !has(f, "y"));
    assert_int_equal(put_file(f, "b.yaml", both).code, -EEXIST); /* what is asked for is checked */
    stop(f);
    fixture_free(f);
}

/* What the daemon has not read yet is not overwritten by an edit beside it. */
static void test_put_resource_sees_the_disk(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    f->delays.quiet_ms = f->delays.burst_max_ms = 3600000;
    _cleanup_(freep) char *a = trigger_text("a", ""), *b = trigger_text("b", ""), *c = trigger_text("c", "");
    _cleanup_(freep) char *two = xasprintf("%s---\n%s", a, b), *three = xasprintf("%s---\n%s---\n%s", c, a, b);
    write_text(f->dir, "all.yaml", two);
    start(f);
    write_text(f->dir, "all.yaml", three);
    _cleanup_(freep) char *edited = trigger_text("b", "description: new\n");
    assert_int_equal(put_resource(f, RESOURCE_TRIGGER, "b", edited).code, 0);
    assert_string_equal(description_of(f, "b"), "new");
    assert_true(has(f, "c"));
    _cleanup_(freep) char *want = xasprintf("%s---\n%s---\n%s", c, a, edited), *now = read_text(f->dir, "all.yaml");
    assert_string_equal(now, want);
    stop(f);
    fixture_free(f);
}

static void test_put_json(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
#define JSON(id, more)                                                                                                 \
    "{\"id\": \"" id "\", \"name\": \"n\", \"pipeline_id\": \"p\", \"trigger_type\": \"custom\", "                     \
    "\"config\": {\"endpoint\": \"e\"}" more "}"
    write_text(f->dir, "all.json", "[" JSON("a", "") ", " JSON("b", "") "]\n");
    start(f);
    assert_true(has(f, "a") && has(f, "b"));
    assert_int_equal(put_resource(f, RESOURCE_TRIGGER, "b", JSON("b", ", \"description\": \"new\"")).code, 0);
    assert_string_equal(description_of(f, "b"), "new");
    assert_int_equal(put_resource(f, RESOURCE_TRIGGER, "b", "id: b\n").code, -EINVAL);
    assert_int_equal(put_resource(f, RESOURCE_TRIGGER, "a", NULL).code, 0);
    assert_true(!has(f, "a") && has(f, "b"));
    /* A broken document's last good text runs on in JSON too. */
    write_text(f->dir, "all.json", "[" JSON("b", ", \"max_concurrent\": []") "]\n");
    WAIT(f, !accepted(f, "b"));
    stop(f);
    start(f);
    assert_string_equal(description_of(f, "b"), "new");
    stop(f);
    fixture_free(f);
}

/* Through a link the file it leads to is written, and the link stays. */
static void test_put_through_a_link(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    make_dir(f->top, "real");
    _cleanup_(freep) char *real = path_in(f->top, "real"), *link = path_in(f->dir, "a.yaml");
    write_trigger(real, "a.yaml", "a", "");
    assert_int_equal(symlink("../real/a.yaml", link), 0);
    start(f);
    _cleanup_(freep) char *edited = trigger_text("a", "description: new\n");
    assert_int_equal(put_resource(f, RESOURCE_TRIGGER, "a", edited).code, 0);
    assert_string_equal(description_of(f, "a"), "new");
    struct stat st;
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    _cleanup_(freep) char *now = read_text(real, "a.yaml");
    assert_string_equal(now, edited);
    stop(f);
    fixture_free(f);
}

static void test_puts_go_one_by_one(void **state)
{
    (void)state;
    enum { PUTS = 20 };
    struct fixture *f = fixture_new(1);
    start(f);
    struct put_seen seen[PUTS] = {0};
    _cleanup_(freep) char *path = path_in(f->dir, "a.yaml");
    for (int i = 0; i < PUTS; i++) {
        _cleanup_(freep) char *extra = xasprintf("description: \"%d\"\n", i), *text = trigger_text("a", extra);
        reconcile_put_file(f->r, path, text, strlen(text), put_done, &seen[i]);
    }
    _cleanup_(freep) char *b = trigger_text("b", "");
    struct put_seen one = {0}, two = {0};
    reconcile_create_file(f->r, f->dir, "b", b, strlen(b), put_done, &one);
    reconcile_create_file(f->r, f->dir, "b", b, strlen(b), put_done, &two);
    WAIT(f, two.calls > 0);
    for (int i = 0; i < PUTS; i++) {
        assert_int_equal(seen[i].calls, 1);
        assert_int_equal(seen[i].code, 0);
    }
    assert_string_equal(description_of(f, "a"), "19");
    assert_int_equal(view_of(f, "a").generation, PUTS);
    assert_int_equal(one.code, 0);
    assert_int_equal(two.code, -EEXIST);
    assert_string_equal(file_of(f, "b"), "b.yaml");
    stop(f);
    fixture_free(f);
}

static int create(struct fixture *f, const char *id)
{
    struct put_seen seen = {0};
    _cleanup_(freep) char *text = trigger_text(id, "");
    reconcile_create_file(f->r, f->dir, id, text, strlen(text), put_done, &seen);
    WAIT(f, seen.calls > 0);
    return seen.code;
}

/* A new file has the name of its resource, also where one of that name has just gone; what somebody else has just put
 * there stays. */
static void test_a_new_file_gets_a_free_name(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    start(f);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(create(f, "b"), 0);
        assert_string_equal(file_of(f, "b"), "b.yaml");
        assert_int_equal(put_resource(f, RESOURCE_TRIGGER, "b", NULL).code, 0);
    }
    write_trigger(f->dir, "c.yaml", "other", ""); /* not read yet */
    write_trigger(f->dir, "c-2.yaml", "another", "");
    assert_int_equal(create(f, "c"), 0);
    assert_string_equal(file_of(f, "c"), "c-3.yaml");
    WAIT(f, engine_find_trigger(f->engine, "other") && engine_find_trigger(f->engine, "another"));
    assert_string_equal(file_of(f, "other"), "c.yaml");
    stop(f);
    fixture_free(f);
}

static void test_stop_answers_puts(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    start(f);
    struct put_seen seen[3] = {0};
    _cleanup_(freep) char *path = path_in(f->dir, "a.yaml"), *text = trigger_text("a", "");
    for (int i = 0; i < 3; i++)
        reconcile_put_file(f->r, path, text, strlen(text), put_done, &seen[i]);
    turn(f); /* the first is under way */
    stop(f);
    for (int i = 0; i < 3; i++)
        assert_int_equal(seen[i].calls, 1);
    assert_int_equal(seen[2].code, -ESHUTDOWN);
    fixture_free(f);
}

/* A directory that cannot be written is said so. */
static void test_put_into_what_is_gone(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    write_trigger(f->dir, "a.yaml", "a", "");
    start(f);
    move(f->top, "m", "away");
    WAIT(f, condition_of(f, "a", "ManifestsReachable") == CONDITION_FALSE);
    _cleanup_(freep) char *text = trigger_text("a", "description: new\n"), *b = trigger_text("b", "");
    assert_int_equal(put_resource(f, RESOURCE_TRIGGER, "a", text).code, -EROFS);
    assert_int_equal(put_resource(f, RESOURCE_TRIGGER, "a", NULL).code, -EROFS);
    assert_int_equal(put_file(f, "b.yaml", b).code, -ENOENT);
    assert_true(has(f, "a"));
    assert_null(reconcile_writable_dir(f->r));
    stop(f);
    fixture_free(f);
}

static struct put_seen check(struct fixture *f, const char *name, const char *besides, const char *text)
{
    _cleanup_(freep) char *path = path_in(f->dir, name);
    _cleanup_(freep) char *other = besides ? path_in(f->dir, besides) : NULL;
    struct put_seen seen = {0};
    reconcile_check_file(f->r, path, other, text, strlen(text), put_done, &seen);
    WAIT(f, seen.calls > 0);
    return seen;
}

static struct put_seen check_own(struct fixture *f, const char *id, const char *text)
{
    struct put_seen seen = {0};
    reconcile_check_resource(f->r, RESOURCE_TRIGGER, id, text, strlen(text), put_done, &seen);
    WAIT(f, seen.calls > 0);
    return seen;
}

/* What a write would say, without one. */
static void test_check(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    write_trigger(f->dir, "a.yaml", "a", "");
    start(f);
    _cleanup_(freep) char *a = trigger_text("a", "description: new\n"), *b = trigger_text("b", "");
    assert_int_equal(check(f, "a.yaml", NULL, a).code, 0);
    assert_int_equal(check(f, "b.yaml", NULL, b).code, 0);
    assert_int_equal(check(f, "b.yaml", NULL, a).code, -EEXIST);
    assert_int_equal(check(f, "b.yaml", "a.yaml", a).code, 0); /* it is to be renamed to this */
    assert_int_equal(check(f, "b.yaml", NULL, "id: b\nname: b\n").code, -EINVAL);
    assert_int_equal(check_own(f, "a", a).code, 0);
    assert_int_equal(check_own(f, "a", b).code, -EINVAL);
    assert_int_equal(check_own(f, "b", b).code, 0); /* one that is not there yet */
    assert_int_equal(check_own(f, "b", "").code, -EINVAL);
    _cleanup_(freep) char *both = xasprintf("%s---\n%s", a, b);
    assert_int_equal(check_own(f, "a", both).code, -EINVAL);
    assert_false(has(f, "b"));
    assert_string_equal(description_of(f, "a"), "");
    stop(f);
    fixture_free(f);
}

static struct put_seen look(struct fixture *f, const char *name, const char *other)
{
    _cleanup_(freep) char *path = path_in(f->dir, name);
    _cleanup_(freep) char *path2 = other ? path_in(f->dir, other) : NULL;
    struct put_seen seen = {0};
    reconcile_look(f->r, path, path2, put_done, &seen);
    WAIT(f, seen.calls > 0);
    return seen;
}

/* What the caller has changed on disk is in force when it is told, without the watch's delay. */
static void test_look(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    write_trigger(f->dir, "a.yaml", "a", "");
    start(f);
    f->r->delays.quiet_ms = 3600000; /* the watch alone would never come to it */
    write_trigger(f->dir, "a.yaml", "a", "description: new\n");
    assert_int_equal(look(f, "a.yaml", NULL).code, 0);
    assert_string_equal(description_of(f, "a"), "new");
    _cleanup_(freep) char *from = path_in(f->dir, "a.yaml"), *to = path_in(f->dir, "moved.yaml");
    assert_int_equal(rename(from, to), 0);
    assert_int_equal(look(f, "a.yaml", "moved.yaml").code, 0);
    assert_string_equal(file_of(f, "a"), "moved.yaml");
    assert_int_equal(view_of(f, "a").generation, 2);
    assert_int_equal(unlink(to), 0);
    assert_int_equal(look(f, "moved.yaml", NULL).code, 0);
    assert_true(has(f, "a")); /* it has its grace */
    assert_int_equal(look(f, "notes.txt", NULL).code, 0);
    stop(f);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_file),
        cmocka_unit_test(test_put_file_refused),
        cmocka_unit_test(test_put_resource),
        cmocka_unit_test(test_delete_beside_broken_documents),
        cmocka_unit_test(test_delete_beside_an_id_of_another_file),
        cmocka_unit_test(test_put_resource_sees_the_disk),
        cmocka_unit_test(test_put_json),
        cmocka_unit_test(test_put_through_a_link),
        cmocka_unit_test(test_puts_go_one_by_one),
        cmocka_unit_test(test_a_new_file_gets_a_free_name),
        cmocka_unit_test(test_stop_answers_puts),
        cmocka_unit_test(test_put_into_what_is_gone),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_look),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
