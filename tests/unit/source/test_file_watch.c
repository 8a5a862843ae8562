#include "watch_rig.h"

#include <sys/prctl.h>

#define ALL "\"events\": [\"created\", \"modified\", \"deleted\", \"moved\"]"
#define AT_ONCE "*\", \"debounce_seconds\": 0, " ALL
#define SOON "*\", \"debounce_seconds\": 0.15, " ALL

static const struct told *only(struct rig *r)
{
    WAIT(r, has_event);
    assert_int_equal(r->w.n_events, 1);
    return r->w.events;
}

static int64_t number(const struct told *t, const char *key)
{
    int64_t n = -1;
    assert_true(value_integer(value_get(t->data, key), &n));
    return n;
}

/* seteuid() makes the process one that cannot be looked into, by the leak sanitizer neither. */
static void be_root_again(void)
{
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(prctl(PR_SET_DUMPABLE, 1), 0);
}

/* ---- what an event says ---- */

static void test_created(void **state)
{
    struct rig *r = *state;
    struct stat st;
    char mtime[TIME_TEXT_SIZE];
    make_dir(r, "in");
    rig_start(r, AT_ONCE);
    assert_string_equal(r->w.reason, "Watching");
    int fd = open_file(r, "in/a", O_WRONLY | O_CREAT);
    put(fd, "hel");
    assert_false(rig_try(r, has_event, 100));
    put(fd, "lo");
    assert_false(rig_try(r, has_event, 100));
    close(fd);
    const struct told *t = only(r);
    assert_int_equal(stat(AT(r, "in/a"), &st), 0);
    time_format((int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000, mtime);
    _cleanup_(freep) char *wanted =
        xasprintf("{\"path\":\"%s/in/a\",\"event\":\"created\",\"name\":\"a\",\"dir\":\"%s/in\",\"size\":5,"
                  "\"mtime\":\"%s\",\"is_dir\":false}",
                  r->data, r->data, mtime);
    assert_string_equal(t->text, wanted);
    EXPECT(r, "created in/a");
    assert_int_equal(r->w.debounced, 0);
}

static void test_modified_and_deleted(void **state)
{
    struct rig *r = *state;
    write_file(r, "a", "old");
    rig_start(r, AT_ONCE);
    write_file(r, "a", "newer");
    WAIT(r, is_quiet);
    assert_int_equal(number(only(r), "size"), 5);
    EXPECT(r, "modified a");
    close(open_file(r, "a", O_WRONLY)); /* nothing was written */
    EXPECT(r, "");
    drop(r, "a");
    assert_int_equal(number(only(r), "size"), 5);
    assert_non_null(value_get_string(r->w.events->data, "mtime"));
    EXPECT(r, "deleted a");
}

static void test_a_name_that_is_not_utf8(void **state)
{
    struct rig *r = *state;
    rig_start(r, AT_ONCE);
    write_file(r, "x\xff\xe2\x82y", "");
    const struct told *t = only(r);
    assert_string_equal(value_get_string(t->data, "name"), "x\\xFF\\xE2\\x82y");
    size_t len;
    unsigned char *exact = g_base64_decode(value_get_string(t->data, "path_bytes_base64"), &len);
    assert_int_equal(len, strlen(AT(r, "x\xff\xe2\x82y")));
    assert_memory_equal(exact, AT(r, "x\xff\xe2\x82y"), len);
    g_free(exact);
    assert_null(value_get(t->data, "old_path_bytes_base64"));
    world_forget_events(&r->w);
    move(r, "x\xff\xe2\x82y", "ascii");
    t = only(r);
    assert_null(value_get(t->data, "path_bytes_base64"));
    assert_non_null(value_get(t->data, "old_path_bytes_base64"));
    world_forget_events(&r->w);
}

static void test_only_what_matches(void **state)
{
    struct rig *r = *state;
    rig_start(r, "**/in/[a-c]?.csv\", \"debounce_seconds\": 0, \"ignore_patterns\": [\"b*\", \"skip/\"]");
    make_dir(r, "in");
    make_dir(r, "skip");
    make_dir(r, "skip/in");
    make_dir(r, "x");
    make_dir(r, "x/in");
    make_dir(r, "x/in/deep");
    const char *names[] = {"in/a1.csv",      "in/a1.txt",   "in/b1.csv",        "in/d1.csv",
                           "skip/in/a1.csv", "x/in/c2.csv", "x/in/deep/a1.csv", "a1.csv"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        write_file(r, names[i], "x");
    EXPECT(r, "created in/a1.csv, created x/in/c2.csv, created x/in/deep/a1.csv");
}

static void test_only_the_events_asked_for(void **state)
{
    struct rig *r = *state;
    rig_start(r, "*\", \"debounce_seconds\": 0, \"events\": [\"deleted\"]");
    write_file(r, "a", "x");
    WAIT(r, is_quiet);
    write_file(r, "a", "xy");
    EXPECT(r, "");
    drop(r, "a");
    assert_int_equal(number(only(r), "size"), 2);
    EXPECT(r, "deleted a");
}

static void test_directories(void **state)
{
    struct rig *r = *state;
    rig_start(r, AT_ONCE);
    make_dir(r, "d");
    assert_true(cJSON_IsTrue(value_get(only(r)->data, "is_dir")));
    EXPECT(r, "created d");
    write_file(r, "d/f", "x");
    EXPECT(r, "created d/f");
    move(r, "d", "e");
    EXPECT(r, "moved d e, moved d/f e/f");
    drop(r, "e/f");
    drop(r, "e");
    EXPECT(r, "deleted e, deleted e/f");
}

/* ---- complete files ---- */

static void test_held_by_a_second_writer(void **state)
{
    struct rig *r = *state;
    rig_start(r, SOON);
    int fd = open_file(r, "a", O_WRONLY | O_CREAT);
    put(fd, "one");
    close(open_file(r, "a", O_WRONLY | O_APPEND));
    assert_false(rig_try(r, has_event, 1500));
    put(fd, "two");
    close(fd);
    assert_int_equal(number(only(r), "size"), 6);
    EXPECT(r, "created a");
    fd = open_file(r, "a", O_WRONLY | O_APPEND);
    put(fd, "three");
    assert_false(rig_try(r, has_event, 1500));
    close(fd);
    EXPECT(r, "modified a");
}

/* Where leases cannot be had it is what inotify tells. */
static void test_without_leases(void **state)
{
    struct rig *r = *state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(chmod(r->root, 0755), 0);
    assert_int_equal(seteuid(65534), 0);
    rig_start(r, SOON);
    be_root_again();
    int fd = open_file(r, "a", O_WRONLY | O_CREAT);
    put(fd, "one");
    assert_int_equal(seteuid(65534), 0);
    assert_false(rig_try(r, has_event, 1300));
    put(fd, "two");
    close(fd);
    assert_int_equal(number(only(r), "size"), 6);
    EXPECT(r, "created a");
    be_root_again();
    write_file(r, "../b", "x");
    assert_int_equal(link(AT(r, "../b"), AT(r, "b")), 0);
    assert_int_equal(seteuid(65534), 0);
    EXPECT(r, "created b");
    rig_stop(r);
    be_root_again();
}

static void test_without_a_close(void **state)
{
    struct rig *r = *state;
    write_file(r, "../source", "x");
    rig_start(r, AT_ONCE);
    int64_t begin = loop_now_ms(&r->loop);
    assert_int_equal(link(AT(r, "../source"), AT(r, "link")), 0);
    int fd = open(r->data, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0644);
    if (fd >= 0) {
        char proc[64];
        put(fd, "x");
        snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
        assert_int_equal(linkat(AT_FDCWD, proc, AT_FDCWD, AT(r, "tmpfile"), AT_SYMLINK_FOLLOW), 0);
    }
    assert_int_equal(symlink("/nonexistent", AT(r, "symlink")), 0);
    assert_int_equal(mkfifo(AT(r, "fifo"), 0644), 0);
    WAIT(r, has_event);
    assert_in_range(loop_now_ms(&r->loop) - begin, 1000, 3000);
    assert_false(rig_try(r, is_quiet, 500)); /* the O_TMPFILE is still being written */
    if (fd >= 0)
        close(fd);
    EXPECT(r, fd >= 0 ? "created fifo, created link, created symlink, created tmpfile"
                      : "created fifo, created link, created symlink");
}

static void test_truncated_without_a_close(void **state)
{
    struct rig *r = *state;
    write_file(r, "a", "long");
    rig_start(r, AT_ONCE);
    assert_int_equal(truncate(AT(r, "a"), 1), 0);
    EXPECT(r, "modified a");
}

/* ---- net changes ---- */

static void test_net_changes(void **state)
{
    struct rig *r = *state;
    write_file(r, "old", "x");
    write_file(r, "gone", "x");
    write_file(r, "again", "x");
    rig_start(r, SOON);
    write_file(r, "new", "1");
    write_file(r, "new", "12");
    write_file(r, "short", "x");
    drop(r, "short");
    write_file(r, "old", "1");
    write_file(r, "old", "123");
    write_file(r, "gone", "1");
    drop(r, "gone");
    drop(r, "again");
    write_file(r, "again", "x");
    EXPECT(r, "created new, deleted gone, modified again, modified old");
    /* new: 1, short: 2, old: 1, gone: 1, again: 1 */
    assert_int_equal(r->w.debounced, 6);
}

static bool is_debounced(struct rig *r)
{
    return r->w.debounced >= 4;
}

static void test_debounce_is_trailing(void **state)
{
    struct rig *r = *state;
    rig_start(r, "*\", \"debounce_seconds\": 0.3");
    for (int i = 0; i < 5; i++) {
        write_file(r, "a", "x");
        assert_false(rig_try(r, has_event, 120));
    }
    EXPECT(r, "created a");
    assert_true(is_debounced(r));
}

/* ---- renames ---- */

static void test_renames(void **state)
{
    struct rig *r = *state;
    write_file(r, "a", "1");
    write_file(r, "b", "2");
    write_file(r, "c", "3");
    write_file(r, "e", "5");
    rig_start(r, SOON);
    move(r, "a", "a2");
    move(r, "a2", "a3"); /* on */
    move(r, "b", "b2");
    move(r, "b2", "b"); /* and back */
    move(r, "c", "c2");
    write_file(r, "c2", "written"); /* moved, then modified */
    write_file(r, "d", "4");
    move(r, "d", "d2"); /* created, then moved */
    move(r, "e", "e2");
    drop(r, "e2"); /* moved, then deleted */
    EXPECT(r, "created d2, deleted e, moved a a3, moved c c2");
    move(r, "a3", "../outside");
    EXPECT(r, "deleted a3");
    move(r, "../outside", "a3");
    EXPECT(r, "created a3");
    move(r, "a3", "../outside");
    move(r, "../outside", "a3");
    EXPECT(r, "");
    move(r, "a3", "b"); /* over another */
    EXPECT(r, "moved a3 b");
}

static void test_rotation(void **state)
{
    struct rig *r = *state;
    const char *configs[] = {SOON, AT_ONCE};
    for (size_t i = 0; i < 2; i++) {
        write_file(r, "log", "0");
        write_file(r, "log.1", "11");
        write_file(r, "log.2", "222");
        r->w.host.is_new = true;
        rig_start(r, configs[i]);
        drop(r, "log.2");
        move(r, "log.1", "log.2");
        move(r, "log", "log.1");
        write_file(r, "log", "new");
        if (i == 0)
            EXPECT(r, "created log, moved log log.1, moved log.1 log.2");
        else
            EXPECT(r, "created log, deleted log.2, moved log log.1, moved log.1 log.2");
        /* Each name is known by what it is now. */
        write_file(r, "log", "newer");
        drop(r, "log.1");
        EXPECT(r, "deleted log.1, modified log");
        rig_stop(r);
        rig_start(r, NULL);
        EXPECT(r, "");
        rig_stop(r);
    }
}

/* Names that change places: whatever is told, all of it is, and both names live. */
static void test_exchange(void **state)
{
    struct rig *r = *state;
    write_file(r, "a", "1");
    write_file(r, "b", "22");
    rig_start(r, SOON);
    move(r, "a", "t");
    move(r, "b", "a");
    move(r, "t", "b");
    WAIT(r, is_quiet);
    assert_true(r->w.n_events >= 1);
    const struct told *t;
    DL_FOREACH (r->w.events, t)
        assert_string_not_equal(t->event_type, "file_deleted");
    world_forget_events(&r->w);
    assert_int_equal(renameat2(AT_FDCWD, AT(r, "a"), AT_FDCWD, AT(r, "b"), RENAME_EXCHANGE), 0);
    WAIT(r, is_quiet);
    assert_true(r->w.n_events >= 1);
    world_forget_events(&r->w);
    drop(r, "a");
    drop(r, "b");
    EXPECT(r, "deleted a, deleted b");
}

static void test_moved_is_not_asked_for(void **state)
{
    struct rig *r = *state;
    make_dir(r, "d");
    write_file(r, "d/f", "x");
    write_file(r, "a", "x");
    rig_start(r, "*\", \"debounce_seconds\": 0, \"events\": [\"created\", \"deleted\"]");
    move(r, "a", "b");
    move(r, "d", "e");
    EXPECT(r, "created b, created e, created e/f, deleted a, deleted d, deleted d/f");
}

static void test_in_and_out_of_the_pattern(void **state)
{
    struct rig *r = *state;
    rig_start(r, "*.csv\", \"debounce_seconds\": 0, " ALL);
    write_file(r, ".a.tmp", "x");
    move(r, ".a.tmp", "a.csv");
    EXPECT(r, "created a.csv");
    write_file(r, ".a.tmp", "xy"); /* replaced, as careful programs do it */
    move(r, ".a.tmp", "a.csv");
    EXPECT(r, "modified a.csv");
    move(r, "a.csv", "a.done");
    EXPECT(r, "deleted a.csv");
    make_dir(r, "../out");
    write_file(r, "../out/b.csv", "x");
    for (int i = 0; i < 3; i++) { /* the same file, with the same times, again and again */
        move(r, "../out", "in");
        EXPECT(r, "created in/b.csv");
        move(r, "in", "../out");
        EXPECT(r, "deleted in/b.csv");
    }
}

static void test_renamed_while_it_is_written(void **state)
{
    struct rig *r = *state;
    rig_start(r, AT_ONCE);
    int fd = open_file(r, "a", O_WRONLY | O_CREAT);
    put(fd, "x");
    move(r, "a", "b");
    assert_false(rig_try(r, has_event, 200));
    close(fd);
    EXPECT(r, "created b");
}

/* ---- the base ---- */

static void test_a_base_that_comes_and_goes(void **state)
{
    struct rig *r = *state;
    rig_start_only(r, "later/in/" AT_ONCE);
    WAIT(r, is_waiting);
    assert_string_equal(r->w.reason, "BaseMissing");
    for (int i = 0; i < 3; i++) {
        make_dir(r, "later");
        make_dir(r, "later/in");
        write_file(r, "later/in/a", "x");
        WAIT(r, is_connected);
        EXPECT(r, "created later/in/a");
        remove_all(AT(r, "later"));
        WAIT(r, is_waiting);
        EXPECT(r, "deleted later/in/a");
    }
    make_dir(r, "later");
    make_dir(r, "later/in");
    write_file(r, "later/in/a", "x");
    WAIT(r, is_connected);
    EXPECT(r, "created later/in/a");
    for (int i = 0; i < 3; i++) { /* the same file, gone and back */
        move(r, "later", "aside");
        WAIT(r, is_waiting);
        EXPECT(r, "deleted later/in/a");
        move(r, "aside", "later");
        WAIT(r, is_connected);
        EXPECT(r, "created later/in/a");
    }
}

static void test_a_base_that_is_swapped(void **state)
{
    struct rig *r = *state;
    make_dir(r, "v1");
    make_dir(r, "v2");
    write_file(r, "v1/a", "x");
    write_file(r, "v2/a", "x");
    assert_int_equal(symlink("v1", AT(r, "now")), 0);
    rig_start(r, "now/*\", \"debounce_seconds\": 0.1, " ALL);
    assert_int_equal(symlink("v2", AT(r, "next")), 0);
    move(r, "next", "now");
    WAIT(r, has_event);
    EXPECT(r, "created now/a, deleted now/a");
    WAIT(r, is_connected);
}

static void test_permission_denied(void **state)
{
    struct rig *r = *state;
    bool root = geteuid() == 0;
    make_dir(r, "shut");
    write_file(r, "shut/a", "x");
    assert_int_equal(chmod(r->root, 0755), 0);
    if (root) {
        assert_int_equal(chown(AT(r, "shut"), 65534, 65534), 0);
        assert_int_equal(chown(r->data, 65534, 65534), 0);
        assert_int_equal(seteuid(65534), 0);
    }
    assert_int_equal(chmod(AT(r, "shut"), 0), 0);
    rig_start(r, AT_ONCE);
    assert_int_equal(r->w.state, SOURCE_FAILED);
    assert_string_equal(r->w.reason, "PermissionDenied");
    write_file(r, "b", "x"); /* what can be watched is */
    WAIT(r, has_event);
    world_forget_events(&r->w);
    int reports = r->w.reports;
    assert_int_equal(chmod(AT(r, "shut"), 0700), 0);
    WAIT(r, is_connected);
    assert_int_equal(r->w.reports, reports + 1);
    EXPECT(r, "created shut/a");
    rig_stop(r);
    if (root)
        be_root_again();
}

/* ---- settling ---- */

static bool is_refused(struct rig *r)
{
    return r->w.refuse == 0;
}

static void test_refused(void **state)
{
    struct rig *r = *state;
    rig_start(r, AT_ONCE);
    r->w.refuse = 5;
    write_file(r, "a", "x");
    write_file(r, "b", "x");
    write_file(r, "c", "x");
    assert_false(rig_try(r, has_event, 300));
    write_file(r, "a", "xy");
    WAIT(r, has_event);
    EXPECT(r, "created a, created b, created c, modified a");
    r->w.refuse = 1;
    drop(r, "a");
    WAIT(r, is_refused);
    int64_t begin = loop_now_ms(&r->loop);
    source_file_watch.resume(r->w.source);
    WAIT(r, has_event); /* at once, not after 0.5 s */
    assert_in_range(loop_now_ms(&r->loop) - begin, 0, 300);
    EXPECT(r, "deleted a");
}

static void test_pause(void **state)
{
    struct rig *r = *state;
    write_file(r, "old", "x");
    rig_start(r, AT_ONCE);
    source_file_watch.pause(r->w.source);
    write_file(r, "a", "x");
    write_file(r, "b", "x");
    assert_false(rig_try(r, has_unsettled, 200));
    write_file(r, "a", "xy");
    drop(r, "b");
    drop(r, "old");
    write_file(r, "c", "x");
    assert_false(rig_try(r, has_unsettled, 200));
    source_file_watch.resume(r->w.source);
    EXPECT(r, "created a, created c, deleted old");
}

/* What happens while an event is on its way is another event. */
static void test_changes_in_flight(void **state)
{
    struct rig *r = *state;
    rig_start(r, AT_ONCE);
    r->w.hold = true;
    write_file(r, "a", "x");
    write_file(r, "b", "x");
    write_file(r, "c", "x");
    write_file(r, "d", "x");
    WAIT(r, has_unsettled);
    assert_false(rig_try(r, has_event, 100));
    write_file(r, "a", "xy");
    drop(r, "b");
    move(r, "c", "c2");
    move(r, "d", "d2");
    write_file(r, "d", "another");
    assert_false(rig_try(r, has_event, 100));
    r->w.hold = false;
    EXPECT(r, "created a, created b, created c, created d, created d, deleted b, modified a, moved c c2, moved d d2");
}

/* A name that was deleted is used again, and left again, while the deletion is on its way. */
static void test_renamed_in_flight(void **state)
{
    struct rig *r = *state;
    write_file(r, "a", "x");
    rig_start(r, AT_ONCE);
    r->w.hold = true;
    drop(r, "a");
    WAIT(r, has_unsettled);
    write_file(r, "a", "another");
    move(r, "a", "b");
    assert_false(rig_try(r, has_event, 100));
    r->w.hold = false;
    EXPECT(r, "created b, deleted a");
    drop(r, "b");
    EXPECT(r, "deleted b");
}

static void test_edit(void **state)
{
    struct rig *r = *state;
    char why[512];
    rig_start(r, "*\", \"debounce_seconds\": 0, \"events\": [\"created\"]");
    write_file(r, "a", "x");
    EXPECT(r, "created a");
    _cleanup_(freep) char *json = xasprintf("{\"path\": \"%s/*\", \"events\": [\"deleted\"]}", r->data);
    assert_int_equal(world_config(&r->w, json, why), 0);
    source_file_watch.update(r->w.source, &r->w.trigger);
    write_file(r, "b", "x");
    drop(r, "a");
    EXPECT(r, "deleted a");
}

/* ---- many ---- */

static bool has_all(struct rig *r)
{
    return r->w.n_events >= 5000;
}

static void test_a_burst(void **state)
{
    struct rig *r = *state;
    rig_start(r, "**\", \"debounce_seconds\": 0, " ALL);
    char name[32];
    int64_t begin = loop_now_ms(&r->loop);
    for (int i = 0; i < 5000; i++) {
        snprintf(name, sizeof(name), "%d", i);
        write_file(r, name, "x");
        if (i % 500 == 499)
            rig_try(r, has_all, 0);
    }
    int64_t made = loop_now_ms(&r->loop);
    WAIT(r, has_all);
    print_message("5000 files made in %d ms, told %d ms after\n", (int)(made - begin),
                  (int)(loop_now_ms(&r->loop) - made));
    WAIT(r, is_quiet);
    assert_int_equal(r->w.n_events, 5000);
    assert_int_equal(kv_count(&r->w, "snapshot/t"), 5001);
    world_forget_events(&r->w);
    make_dir(r, "../out");
    begin = loop_now_ms(&r->loop);
    move(r, "../data", "../out/data");
    WAIT(r, is_waiting);
    WAIT(r, has_all);
    print_message("5000 deletions in %d ms\n", (int)(loop_now_ms(&r->loop) - begin));
    WAIT(r, is_quiet);
    assert_int_equal(r->w.n_events, 5000);
    assert_int_equal(kv_count(&r->w, "snapshot/t"), 1);
    world_forget_events(&r->w);
}

static void test_overflow(void **state)
{
    struct rig *r = *state;
    char name[32];
    int limit = 0;
    FILE *f = fopen("/proc/sys/fs/inotify/max_queued_events", "re");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%d", &limit), 1);
    fclose(f);
    if (limit > 20000)
        skip();
    write_file(r, "old", "x");
    write_file(r, "gone", "x");
    rig_start(r, AT_ONCE);
    int n = limit / 2;
    for (int i = 0; i < n; i++) { /* nobody reads meanwhile */
        snprintf(name, sizeof(name), "%d", i);
        write_file(r, name, "x");
    }
    write_file(r, "old", "changed");
    drop(r, "gone");
    WAIT(r, is_quiet);
    assert_int_equal(r->w.n_events, n + 2);
    world_forget_events(&r->w);
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof(name), "%d", i);
        drop(r, name);
        write_file(r, "old", name);
    }
    WAIT(r, is_quiet);
    assert_int_equal(r->w.n_events, n + 1);
    world_forget_events(&r->w);
}

/* ---- config ---- */

static void test_errors(void **state)
{
    struct rig *r = *state;
    static const char *const cases[][2] = {
        {"{}", "config.path: "},
        {"{\"path\": \"\"}", "config.path: "},
        {"{\"path\": \"in/*.csv\"}", "config.path: expected an absolute path"},
        {"{\"path\": \"/in/[a\"}", "config.path: "},
        {"{\"path\": \"/in/../x\"}", "config.path: "},
        {"{\"path\": \"/x/*\", \"events\": []}", "config.events: "},
        {"{\"path\": \"/x/*\", \"events\": [\"made\"]}", "config.events"},
        {"{\"path\": \"/x/*\", \"debounce_seconds\": -0.1}", "config.debounce_seconds: "},
        {"{\"path\": \"/x/*\", \"debounce_seconds\": 86401}", "config.debounce_seconds: "},
        {"{\"path\": \"/x/*\", \"ignore_patterns\": [\"ok\", \"[\"]}", "config.ignore_patterns[1]: not a glob"},
        {"{\"path\": \"/x/*\", \"on_start\": \"some\"}", "config.on_start: "},
        {"{\"path\": \"/x/*\", \"endpoint\": \"e\"}", "config.endpoint: "},
    };
    char why[512];
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        if (world_config(&r->w, cases[i][0], why) == 0 || strncmp(why, cases[i][1], strlen(cases[i][1])) != 0)
            fail_msg("%s: %s", cases[i][0], why);
    }
    assert_int_equal(world_config(&r->w, "{\"path\": \"/x/*\", \"ignore_patterns\": \"*.tmp\"}", why), 0);
}

static void test_stop_at_any_time(void **state)
{
    struct rig *r = *state;
    write_file(r, "a", "x");
    for (int i = 0; i < 30; i++) {
        rig_start_only(r, AT_ONCE);
        rig_try(r, is_ready, i % 10);
        write_file(r, i % 2 ? "a" : "b", "xy");
        rig_try(r, has_event, i % 7);
        rig_stop(r);
    }
    world_forget_events(&r->w);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_created),
        TEST(test_modified_and_deleted),
        TEST(test_a_name_that_is_not_utf8),
        TEST(test_only_what_matches),
        TEST(test_only_the_events_asked_for),
        TEST(test_directories),
        TEST(test_held_by_a_second_writer),
        TEST(test_without_leases),
        TEST(test_without_a_close),
        TEST(test_truncated_without_a_close),
        TEST(test_net_changes),
        TEST(test_debounce_is_trailing),
        TEST(test_renames),
        TEST(test_rotation),
        TEST(test_exchange),
        TEST(test_moved_is_not_asked_for),
        TEST(test_in_and_out_of_the_pattern),
        TEST(test_renamed_while_it_is_written),
        TEST(test_a_base_that_comes_and_goes),
        TEST(test_a_base_that_is_swapped),
        TEST(test_permission_denied),
        TEST(test_refused),
        TEST(test_pause),
        TEST(test_changes_in_flight),
        TEST(test_renamed_in_flight),
        TEST(test_edit),
        TEST(test_a_burst),
        TEST(test_overflow),
        TEST(test_errors),
        TEST(test_stop_at_any_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
