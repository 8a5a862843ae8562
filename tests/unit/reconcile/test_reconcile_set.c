/* Several resources in one go. */
#include "fixture.h"

#include <dirent.h>
#include <sched.h>
#include <sys/mount.h>

static bool may_mount; /* in a mount namespace of our own */

struct set_seen {
    struct fixture *f;
    int calls, code;
    char message[512];
    char changes[512]; /* `id:outcome:file` … */
    bool in_force;     /* `awaited` was there when the answer came */
    const char *awaited;
};

static void set_done(void *ctx, const struct put_set_result *result)
{
    static const char *const words[] = {"same", "new", "edited", "gone"};
    struct set_seen *seen = ctx;
    seen->calls++;
    seen->code = result->put.code;
    seen->in_force = seen->awaited && seen->code == 0 && has(seen->f, seen->awaited);
    snprintf(seen->message, sizeof(seen->message), "%s", result->put.message ? result->put.message : "");
    size_t at = 0;
    for (size_t i = 0; i < result->n; i++) {
        const struct put_change *c = &result->changes[i];
        at += (size_t)snprintf(seen->changes + at, sizeof(seen->changes) - at, "%s%s:%s:%s", i ? " " : "", c->id,
                               words[c->outcome], c->file ? strrchr(c->file, '/') + 1 : "");
    }
}

static struct put_doc doc_of(const char *id, const char *text)
{
    return (struct put_doc){
        .kind = RESOURCE_TRIGGER, .id = id, .text = text, .len = strlen(text), .format = DOCUMENT_YAML};
}

static void ask(struct fixture *f, const struct put_request *request, struct set_seen *seen)
{
    *seen = (struct set_seen){.f = f, .awaited = request->n_docs ? request->docs[request->n_docs - 1].id : NULL};
    reconcile_put_set(f->r, request, set_done, seen);
    assert_int_equal(seen->calls, 0);
}

static struct set_seen put(struct fixture *f, const struct put_request *request)
{
    struct set_seen seen;
    ask(f, request, &seen);
    WAIT(f, seen.calls > 0);
    assert_int_equal(seen.calls, 1);
    return seen;
}

/* Hidden ones too. */
static size_t count_names(const char *dir)
{
    DIR *d = opendir(dir);
    size_t n = 0;
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d));)
        n += !streq(e->d_name, ".") && !streq(e->d_name, "..");
    closedir(d);
    return n;
}

static void test_one_step(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    _cleanup_(freep) char *a = trigger_text("a", "# of a\n"), *b = trigger_text("b", "# of b\n");
    _cleanup_(freep) char *all = xasprintf("# head\n%s---\nid: [broken\n--- # here\n%s", a, b);
    write_text(f->dir, "all.yaml", all);
    start(f);
    _cleanup_(freep) char *a2 = trigger_text("a", "description: two\n"), *b2 = trigger_text("b", "description: two\n");
    _cleanup_(freep) char *c = trigger_text("c", "");
    const struct put_doc docs[] = {doc_of("a", a2), doc_of("b", b2), doc_of("c", c)};
    struct put_request request = {.docs = docs, .n_docs = 3, .dry_run = true};
    struct set_seen seen = put(f, &request);
    assert_string_equal(seen.changes, "a:edited:all.yaml b:edited:all.yaml c:new:c.yaml");
    assert_false(has(f, "c"));
    _cleanup_(freep) char *untouched = read_text(f->dir, "all.yaml");
    assert_string_equal(untouched, all);
    int passes = f->passes;
    request.dry_run = false;
    seen = put(f, &request);
    assert_true(seen.in_force);
    assert_int_equal(f->passes, passes + 1);
    assert_string_equal(description_of(f, "a"), "two");
    assert_string_equal(description_of(f, "b"), "two");
    _cleanup_(freep) char *want = xasprintf("%s---\nid: [broken\n--- # here\n%s", a2, b2);
    _cleanup_(freep) char *now = read_text(f->dir, "all.yaml");
    assert_string_equal(now, want);
    assert_int_equal(count_names(f->dir), 2); /* nothing hidden is left */
    /* Once more: nothing is written, nothing is told. */
    int64_t generation = view_of(f, "a").generation;
    seen = put(f, &request);
    assert_string_equal(seen.changes, "a:same:all.yaml b:same:all.yaml c:same:c.yaml");
    assert_int_equal(view_of(f, "a").generation, generation);
    stop(f);
    fixture_free(f);
}

/* The rename of one fails after that of another: what is mounted cannot be renamed over. */
static void test_put_back(void **state)
{
    (void)state;
    if (!may_mount)
        skip();
    struct fixture *f = fixture_new(1);
    write_trigger(f->dir, "a.yaml", "a", "");
    write_trigger(f->dir, "b.yaml", "b", "");
    start(f);
    _cleanup_(freep) char *a = trigger_text("a", "description: two\n"), *b = trigger_text("b", "description: two\n");
    _cleanup_(freep) char *c = trigger_text("c", ""), *before = read_text(f->dir, "a.yaml");
    _cleanup_(freep) char *path = path_in(f->dir, "b.yaml");
    const struct put_doc docs[] = {doc_of("c", c), doc_of("a", a), doc_of("b", b)};
    const struct put_request request = {.docs = docs, .n_docs = 3};
    assert_int_equal(mount(path, path, NULL, MS_BIND, NULL), 0);
    struct set_seen seen = put(f, &request);
    assert_int_equal(seen.code, -EBUSY);
    assert_non_null(strstr(seen.message, "b.yaml: "));
    assert_null(strstr(seen.message, "put back"));
    _cleanup_(freep) char *after = read_text(f->dir, "a.yaml");
    assert_string_equal(after, before);
    assert_int_equal(count_names(f->dir), 2);
    assert_false(has(f, "c"));
    assert_string_equal(description_of(f, "a") ? description_of(f, "a") : "", "");
    assert_int_equal(umount(path), 0);
    HOLDS(f, !has(f, "c"), 2 * f->delays.quiet_ms);
    assert_int_equal(put(f, &request).code, 0);
    assert_string_equal(description_of(f, "b"), "two");
    stop(f);
    fixture_free(f);
}

/* Files that are the daemon's are taken as their reader found them, whatever the watch has seen. */
static void test_whole_files(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    f->delays.quiet_ms = f->delays.burst_max_ms = 3600000;
    start(f);
    write_trigger(f->dir, "a.yaml", "a", "");
    _cleanup_(freep) char *path = path_in(f->dir, "a.yaml"), *text = read_text(f->dir, "a.yaml");
    _cleanup_(freep) char *other = trigger_text("a", "description: two\n");
    struct put_doc doc = doc_of("a", text);
    doc.file = 1;
    struct put_whole whole = {.path = path, .text = text, .len = strlen(text)};
    const struct put_request request = {.docs = &doc, .n_docs = 1, .files = &whole, .n_files = 1};
    struct set_seen seen = put(f, &request);
    assert_true(seen.in_force);
    assert_string_equal(seen.changes, "a:new:a.yaml");
    whole.text = doc.text = other; /* it is not so on disk */
    whole.len = doc.len = strlen(other);
    seen = put(f, &request);
    assert_int_equal(seen.code, -EAGAIN);
    _cleanup_(freep) char *now = read_text(f->dir, "a.yaml");
    assert_string_equal(now, text);
    stop(f);
    fixture_free(f);
}

static void test_ids_and_names(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(2);
    write_trigger(f->dir, "a.yaml", "a", "");
    start(f);
    /* The same id in a file of the second directory. */
    write_trigger(f->dir2, "a.yaml", "a", "description: two\n");
    WAIT(f, errors_of(f, "a.yaml") > 0);
    _cleanup_(freep) char *path = path_in(f->dir2, "a.yaml"), *text = read_text(f->dir2, "a.yaml");
    struct put_doc doc = doc_of("a", text);
    doc.file = 1;
    const struct put_whole whole = {.path = path, .text = text, .len = strlen(text)};
    struct put_request request = {.docs = &doc, .n_docs = 1, .files = &whole, .n_files = 1};
    struct set_seen seen = put(f, &request);
    assert_int_equal(seen.code, -EEXIST);
    assert_non_null(strstr(seen.message, "trigger \"a\" is already defined in "));
    /* A name that is taken gets a number; the place can be said. */
    write_trigger(f->dir, "c.yaml", "other", "");
    WAIT(f, has(f, "other"));
    _cleanup_(freep) char *c = trigger_text("c", "");
    doc = doc_of("c", c);
    _cleanup_(freep) char *deep = path_in(f->dir2, "deep");
    request = (struct put_request){.docs = &doc, .n_docs = 1, .dry_run = true};
    assert_string_equal(put(f, &request).changes, "c:new:c-2.yaml");
    request.new_dir = deep;
    request.dry_run = false;
    assert_true(put(f, &request).in_force);
    _cleanup_(freep) char *made = read_text(deep, "c.yaml");
    assert_string_equal(made, c);
    assert_true(reconcile_watches(f->r, path));
    assert_false(reconcile_watches(f->r, "/etc/passwd"));
    assert_false(reconcile_watches(f->r, deep));
    stop(f);
    fixture_free(f);
}

static void test_what_is_gone(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(2);
    write_trigger(f->dir, "a.yaml", "a", "");
    write_trigger(f->dir2, "b.yaml", "b", "");
    start(f);
    const char *dirs[] = {f->dir};
    const struct put_request request = {.dirs = dirs, .n_dirs = 1, .dry_run = true};
    struct set_seen seen = put(f, &request);
    assert_string_equal(seen.changes, "a:gone:");
    assert_true(has(f, "a"));
    stop(f);
    fixture_free(f);
}

/* Edits are one at a time; a stop answers those that wait. */
static void test_stop(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(1);
    start(f);
    struct set_seen seen[3];
    for (size_t i = 0; i < ARRAY_SIZE(seen); i++) {
        _cleanup_(freep) char *id = xasprintf("t%zu", i), *text = trigger_text(id, "");
        struct put_doc doc = doc_of(id, text);
        const struct put_request request = {.docs = &doc, .n_docs = 1};
        ask(f, &request, &seen[i]);
        seen[i].awaited = NULL;
    }
    turn(f);
    stop(f);
    for (size_t i = 0; i < ARRAY_SIZE(seen); i++)
        assert_int_equal(seen[i].calls, 1);
    assert_int_equal(seen[2].code, -ESHUTDOWN);
    fixture_free(f);
}

int main(void)
{
    /* Before there are other threads. */
    may_mount = unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_step),      cmocka_unit_test(test_put_back),     cmocka_unit_test(test_whole_files),
        cmocka_unit_test(test_ids_and_names), cmocka_unit_test(test_what_is_gone), cmocka_unit_test(test_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
