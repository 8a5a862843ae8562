#include "base/inotify.h"

#include "base/random.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

#include <cmocka.h>

/* ---- an owner that believes what it is told: its picture must come to equal the directory ---- */

struct known {
    UT_hash_handle hh;
    bool is_dir, stale;
    char path[];
};

struct world {
    struct loop loop;
    struct watcher *watcher;
    struct watch_tree *tree;
    char root[32]; /* of the test */
    char base[256];
    struct known *known;
    struct buf log; /* one line an event */
    bool logging;
    bool here;
    int came, gone, scanned, overflows, errors;
    uint64_t dev;
    struct error error;
    size_t events;
    bool (*until)(struct world *w);
    struct timer timer;
    bool timed_out;
    char *waited_path;
};

static void forget_below(struct world *w, const char *path)
{
    struct known *k, *next;
    size_t len = strlen(path);
    HASH_ITER (hh, w->known, k, next)
        if (strncmp(k->path, path, len) == 0 && (len == 0 || k->path[len] == '\0' || k->path[len] == '/')) {
            HASH_DEL(w->known, k);
            free(k);
        }
}

static void know(struct world *w, const char *path, bool is_dir)
{
    struct known *k;
    HASH_FIND_STR(w->known, path, k);
    if (!k) {
        k = xcalloc(1, sizeof(*k) + strlen(path) + 1);
        memcpy(k->path, path, strlen(path) + 1);
        HASH_ADD_STR(w->known, path, k);
    }
    k->is_dir = is_dir;
    k->stale = false;
}

static void rename_known(struct world *w, const char *from, const char *to)
{
    struct known *k, *next, *moved = NULL;
    size_t len = strlen(from);
    HASH_ITER (hh, w->known, k, next)
        if (strncmp(k->path, from, len) == 0 && (k->path[len] == '\0' || k->path[len] == '/')) {
            HASH_DEL(w->known, k);
            char *path = xasprintf("%s%s", to, k->path + len);
            struct known *copy = xcalloc(1, sizeof(*copy) + strlen(path) + 1);
            copy->is_dir = k->is_dir;
            memcpy(copy->path, path, strlen(path) + 1);
            HASH_ADD_STR(moved, path, copy);
            free(path);
            free(k);
        }
    forget_below(w, to);
    HASH_ITER (hh, moved, k, next) {
        HASH_DEL(moved, k);
        HASH_ADD_STR(w->known, path, k);
    }
}

static void check_until(struct world *w)
{
    if (w->until && w->until(w))
        loop_stop(&w->loop);
}

static void note(struct world *w, const char *what, const char *old_path, const char *path)
{
    if (w->logging)
        buf_printf(&w->log, "%s %s%s%s\n", what, old_path ? old_path : "", old_path ? ">" : "", path);
}

static void on_event(void *ctx, const struct watch_event *e)
{
    struct world *w = ctx;
    w->events++;
    assert_true(e->path[0] != '\0' && e->path[0] != '/');
    if (e->kind == WATCH_FOUND) {
        assert_non_null(e->stat);
        assert_int_equal(S_ISDIR(e->stat->mode), e->is_dir);
        note(w, "found", NULL, e->path);
        know(w, e->path, e->is_dir);
    } else if (e->kind == WATCH_MOVED) {
        note(w, "moved", e->old_path, e->path);
        if (e->is_dir) {
            rename_known(w, e->old_path, e->path);
        } else {
            forget_below(w, e->old_path);
            forget_below(w, e->path);
        }
        know(w, e->path, e->is_dir);
    } else if (e->mask & (IN_DELETE | IN_MOVED_FROM)) {
        note(w, e->mask & IN_DELETE ? "delete" : "from", NULL, e->path);
        forget_below(w, e->path);
    } else if (e->mask & (IN_CREATE | IN_MOVED_TO)) {
        note(w, e->mask & IN_CREATE ? "create" : "to", NULL, e->path);
        forget_below(w, e->path);
        know(w, e->path, e->is_dir);
    } else {
        note(w, e->mask & IN_CLOSE_WRITE ? "close" : "other", NULL, e->path);
    }
    check_until(w);
}

static void on_came(void *ctx, const struct watch_stat *stat)
{
    struct world *w = ctx;
    assert_false(w->here);
    w->here = true;
    w->came++;
    w->dev = stat->dev;
    note(w, "came", NULL, "");
    check_until(w);
}

static void on_gone(void *ctx)
{
    struct world *w = ctx;
    w->here = false;
    w->gone++;
    forget_below(w, "");
    note(w, "gone", NULL, "");
    check_until(w);
}

static void on_scanned(void *ctx)
{
    struct world *w = ctx;
    struct known *k, *next;
    w->scanned++;
    assert_true(w->here);
    HASH_ITER (hh, w->known, k, next)
        if (k->stale) {
            HASH_DEL(w->known, k);
            free(k);
        }
    note(w, "scanned", NULL, "");
    check_until(w);
}

static void on_overflow(void *ctx)
{
    struct world *w = ctx;
    struct known *k, *next;
    w->overflows++;
    HASH_ITER (hh, w->known, k, next)
        k->stale = true;
    note(w, "overflow", NULL, "");
}

static void on_error(void *ctx, const struct error *error)
{
    struct world *w = ctx;
    w->errors++;
    w->error = *error;
    check_until(w);
}

static struct watch_tree_options options_of(struct world *w)
{
    return (struct watch_tree_options){
        .base = w->base,
        .mask = IN_CLOSE_WRITE,
        .recursive = true,
        .event = on_event,
        .base_came = on_came,
        .base_gone = on_gone,
        .scanned = on_scanned,
        .overflow = on_overflow,
        .error = on_error,
        .ctx = w,
    };
}

static int print_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)ftw;
    print_message("there: %s%s\n", path, type == FTW_D ? "/" : "");
    return 0;
}

static void on_timeout(struct timer *timer, void *ctx)
{
    (void)timer;
    struct world *w = ctx;
    w->timed_out = true;
    loop_stop(&w->loop);
}

/* Run until the condition, which is asked after every event, or until minutes have passed. */
static void run_until(struct world *w, bool (*until)(struct world *w))
{
    w->until = until;
    w->timed_out = false;
    loop_timer_start(&w->loop, &w->timer, 300000);
    while (!w->timed_out && !until(w)) /* a stop lets the events go on that were read together */
        loop_run(&w->loop);
    loop_timer_stop(&w->loop, &w->timer);
    w->until = NULL;
    if (w->timed_out) {
        struct known *k, *next;
        HASH_ITER (hh, w->known, k, next)
            print_message("known: %s%s\n", k->path, k->is_dir ? "/" : "");
        nftw(w->base, print_entry, 32, FTW_PHYS);
        print_message("the last that was told:\n");
        for (const char *line = w->log.data ? w->log.data + w->log.len - MIN(w->log.len, (size_t)3000) : ""; *line;) {
            size_t len = strcspn(line, "\n");
            print_message("%.*s\n", (int)len, line);
            line += len + (line[len] == '\n');
        }
        fail_msg("timed out");
    }
}

/* ---- the directory as it is ---- */

static struct world *walking;
static size_t walked, walk_wrong;

static int check_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    if (ftw->level == 0)
        return 0;
    struct known *k;
    HASH_FIND_STR(walking->known, path + strlen(walking->base) + 1, k);
    walked++;
    if (!k || k->is_dir != (type == FTW_D || type == FTW_DP))
        walk_wrong++;
    return 0;
}

/* What is known is what is there. */
static bool picture_is_right(struct world *w)
{
    walking = w;
    walked = walk_wrong = 0;
    nftw(w->base, check_entry, 32, FTW_PHYS);
    return walk_wrong == 0 && walked == HASH_COUNT(w->known);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void remove_all(const char *path)
{
    nftw(path, remove_entry, 32, FTW_PHYS | FTW_DEPTH);
}

static bool was_scanned(struct world *w)
{
    return w->scanned > 0;
}

static bool was_gone(struct world *w)
{
    return w->gone > 0;
}

static bool knows_waited(struct world *w)
{
    struct known *k;
    HASH_FIND_STR(w->known, w->waited_path, k);
    return k != NULL;
}

static void wait_for_path(struct world *w, const char *path)
{
    w->waited_path = (char *)path;
    run_until(w, knows_waited);
}

static const char *in_base(struct world *w, const char *path)
{
    static char full[4][512];
    static unsigned turn;
    char *out = full[turn++ % 4];
    snprintf(out, sizeof(full[0]), "%s/%s", w->base, path);
    return out;
}

static const char *in_root(struct world *w, const char *path)
{
    static char full[4][512];
    static unsigned turn;
    char *out = full[turn++ % 4];
    snprintf(out, sizeof(full[0]), "%s/%s", w->root, path);
    return out;
}

static void touch(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        fail_msg("%s: %s", path, strerror(errno));
    close(fd);
}

static void make_dir(const char *path)
{
    if (mkdir(path, 0700) < 0)
        fail_msg("%s: %s", path, strerror(errno));
}

static void move(const char *from, const char *to)
{
    if (rename(from, to) < 0)
        fail_msg("%s -> %s: %s", from, to, strerror(errno));
}

static void setup_at(struct world *w, const char *base, bool make)
{
    *w = (struct world){.logging = true};
    strcpy(w->root, "/tmp/test_inotify.XXXXXX");
    assert_non_null(mkdtemp(w->root));
    snprintf(w->base, sizeof(w->base), "%s/%s", w->root, base);
    if (make)
        make_dir(w->base);
    assert_int_equal(loop_init(&w->loop), 0);
    timer_init(&w->timer, on_timeout, w);
}

static void start(struct world *w, watcher_submit_fn *submit)
{
    struct watch_tree_options options = options_of(w);
    assert_int_equal(watcher_create(&w->loop, submit, &w->watcher, NULL), 0);
    w->tree = watcher_add_tree(w->watcher, &options);
    assert_int_equal(w->events + (size_t)w->came + (size_t)w->gone, 0); /* nothing from inside the call */
}

static void setup(struct world *w)
{
    setup_at(w, "base", true);
    start(w, NULL);
    run_until(w, was_scanned);
    assert_int_equal(w->came, 1);
}

static void count(void *ctx)
{
    ++*(int *)ctx;
}

static void teardown(struct world *w)
{
    int done = 0;
    w->until = NULL;
    if (w->watcher)
        watcher_close(w->watcher, count, &done);
    assert_int_equal(done, 0);
    size_t events = w->events;
    loop_run(&w->loop);
    assert_int_equal(done, w->watcher != NULL);
    assert_int_equal(w->events, events);
    assert_int_equal(loop_fini(&w->loop), 0);
    forget_below(w, "");
    buf_fini(&w->log);
    remove_all(w->root);
}

static bool logged_waited(struct world *w)
{
    return w->log.data && strstr(w->log.data, w->waited_path);
}

static void wait_for_log(struct world *w, const char *line)
{
    w->waited_path = (char *)line;
    run_until(w, logged_waited);
}

static void clear_log(struct world *w)
{
    buf_fini(&w->log);
}

static unsigned occurrences(struct world *w, const char *text)
{
    unsigned n = 0;
    for (const char *at = w->log.data; at && (at = strstr(at, text)); at += strlen(text))
        n++;
    return n;
}

/* ---- the tests ---- */

static void what_is_there_is_found_before_scanned(void **state)
{
    (void)state;
    struct world w;
    setup_at(&w, "base", true);
    make_dir(in_base(&w, "d"));
    touch(in_base(&w, "d/f"));
    touch(in_base(&w, "odd \n\xff name"));
    assert_int_equal(symlink("d", in_base(&w, "link")), 0);
    start(&w, NULL);
    run_until(&w, was_scanned);
    assert_true(picture_is_right(&w));
    assert_int_equal(HASH_COUNT(w.known), 4);
    assert_int_equal(watch_tree_dirs(w.tree), 2); /* the link is not followed */
    assert_memory_equal(w.log.data, "came \n", 6);
    assert_string_equal(w.log.data + w.log.len - 9, "scanned \n");
    struct stat st;
    assert_int_equal(stat(w.base, &st), 0);
    assert_true(w.dev == st.st_dev);
    teardown(&w);
}

static void events_of_files(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    clear_log(&w);
    touch(in_base(&w, "f"));
    move(in_base(&w, "f"), in_base(&w, "g"));
    unlink(in_base(&w, "g"));
    touch(in_base(&w, "end"));
    wait_for_log(&w, "close end");
    assert_string_equal(w.log.data, "create f\nclose f\nmoved f>g\ndelete g\ncreate end\nclose end\n");
    teardown(&w);
}

static void renames_in_and_out(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    touch(in_root(&w, "f"));
    make_dir(in_root(&w, "d"));
    make_dir(in_root(&w, "d/e"));
    touch(in_root(&w, "d/e/f"));
    clear_log(&w);
    move(in_root(&w, "f"), in_base(&w, "f"));
    move(in_root(&w, "d"), in_base(&w, "d"));
    wait_for_log(&w, "found d/e/f\nscanned");
    assert_true(picture_is_right(&w));
    assert_int_equal(watch_tree_dirs(w.tree), 3);
    clear_log(&w);
    move(in_base(&w, "f"), in_root(&w, "f"));
    move(in_base(&w, "d"), in_root(&w, "d"));
    wait_for_log(&w, "from d\n");
    assert_true(picture_is_right(&w));
    assert_memory_equal(w.log.data, "from f\nfrom d\n",
                        14); /* perhaps a scan: what came and went was perhaps exchanged */
    assert_int_equal(watch_tree_dirs(w.tree), 1);
    /* Nothing is told any more of what has left. */
    touch(in_root(&w, "d/e/other"));
    touch(in_base(&w, "end"));
    wait_for_log(&w, "close end");
    assert_null(strstr(w.log.data, "other"));
    teardown(&w);
}

static void renames_of_directories_within(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    make_dir(in_base(&w, "a"));
    make_dir(in_base(&w, "a/b"));
    make_dir(in_base(&w, "a/b/c"));
    make_dir(in_base(&w, "x"));
    touch(in_base(&w, "a/b/c/f"));
    wait_for_log(&w, "found a/b/c/f\nscanned");
    touch(in_base(&w, "settled"));
    wait_for_log(&w, "close settled");
    clear_log(&w);
    move(in_base(&w, "a/b"), in_base(&w, "x/y"));
    touch(in_base(&w, "x/y/c/g"));
    wait_for_log(&w, "close x/y/c/g");
    assert_string_equal(w.log.data, "moved a/b>x/y\ncreate x/y/c/g\nclose x/y/c/g\n"); /* and no scan */
    assert_true(picture_is_right(&w));
    clear_log(&w);
    move(in_base(&w, "x"), in_base(&w, "a/x"));
    move(in_base(&w, "a"), in_base(&w, "z"));
    touch(in_base(&w, "z/x/y/c/h"));
    wait_for_log(&w, "close z/x/y/c/h");
    assert_true(picture_is_right(&w));
    assert_int_equal(watch_tree_dirs(w.tree), 5);
    teardown(&w);
}

static void exchanges(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    make_dir(in_base(&w, "a"));
    make_dir(in_base(&w, "b"));
    touch(in_base(&w, "a/of_a"));
    touch(in_base(&w, "b/of_b"));
    touch(in_base(&w, "f"));
    touch(in_base(&w, "g"));
    wait_for_path(&w, "b/of_b");
    wait_for_path(&w, "g");
    run_until(&w, picture_is_right);
    assert_int_equal(renameat2(AT_FDCWD, in_base(&w, "a"), AT_FDCWD, in_base(&w, "b"), RENAME_EXCHANGE), 0);
    wait_for_path(&w, "a/of_b");
    run_until(&w, picture_is_right);
    assert_int_equal(renameat2(AT_FDCWD, in_base(&w, "f"), AT_FDCWD, in_base(&w, "g"), RENAME_EXCHANGE), 0);
    assert_int_equal(renameat2(AT_FDCWD, in_base(&w, "f"), AT_FDCWD, in_base(&w, "a"), RENAME_EXCHANGE), 0);
    wait_for_path(&w, "f/of_b");
    run_until(&w, picture_is_right);
    touch(in_base(&w, "f/new"));
    wait_for_path(&w, "f/new");
    move(in_base(&w, "g"), in_base(&w, "h"));
    wait_for_path(&w, "h");
    run_until(&w, picture_is_right);
    teardown(&w);
}

static void bursts_of_nested_directories_lose_nothing(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.logging = false;
    for (int i = 0; i < 200; i++) {
        char path[64];
        snprintf(path, sizeof(path), "a%d", i);
        make_dir(in_base(&w, path));
        strcat(path, "/b");
        make_dir(in_base(&w, path));
        strcat(path, "/c");
        make_dir(in_base(&w, path));
        strcat(path, "/f");
        touch(in_base(&w, path));
        if (i % 7 == 0) /* let it run now and then */
            uv_run(&w.loop.uv, UV_RUN_NOWAIT);
    }
    run_until(&w, picture_is_right);
    assert_int_equal(HASH_COUNT(w.known), 800);
    assert_int_equal(watch_tree_dirs(w.tree), 601);
    assert_int_equal(w.overflows, 0);
    remove_all(in_base(&w, "a7"));
    run_until(&w, picture_is_right);
    assert_int_equal(watch_tree_dirs(w.tree), 598);
    teardown(&w);
}

static size_t closes;
static void count_closes(void *ctx, const struct watch_event *e)
{
    closes += e->kind == WATCH_CHANGED && e->mask == IN_CLOSE_WRITE;
    check_until(ctx);
}

static bool all_closed(struct world *w)
{
    (void)w;
    return closes == 5000;
}

static void five_thousand_files_at_once(void **state)
{
    (void)state;
    struct world w;
    setup_at(&w, "base", true);
    struct watch_tree_options options = options_of(&w);
    options.event = count_closes;
    assert_int_equal(watcher_create(&w.loop, NULL, &w.watcher, NULL), 0);
    watcher_add_tree(w.watcher, &options);
    run_until(&w, was_scanned);
    closes = 0;
    for (int i = 0; i < 5000; i++) {
        char name[32];
        snprintf(name, sizeof(name), "f%d", i);
        touch(in_base(&w, name));
    }
    run_until(&w, all_closed);
    assert_int_equal(w.overflows, 0);
    teardown(&w);
}

static bool overflowed_and_right(struct world *w)
{
    return w->overflows > 0 && picture_is_right(w);
}

static void an_overflow_of_the_kernels_queue_leads_to_a_scan(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    w.logging = false;
    make_dir(in_base(&w, "d"));
    make_dir(in_base(&w, "gone"));
    touch(in_base(&w, "gone/f"));
    wait_for_path(&w, "gone/f");
    for (int i = 0; i < 6000; i++) { /* more than max_queued_events, unread */
        touch(in_base(&w, "d/x"));
        touch(in_base(&w, "d/y"));
        unlink(in_base(&w, "d/x"));
        unlink(in_base(&w, "d/y"));
    }
    remove_all(in_base(&w, "gone"));
    make_dir(in_base(&w, "new"));
    touch(in_base(&w, "new/f"));
    run_until(&w, overflowed_and_right);
    assert_int_equal(w.came, 1);
    assert_int_equal(w.gone, 0);
    assert_int_equal(watch_tree_dirs(w.tree), 3);
    touch(in_base(&w, "new/g"));
    wait_for_path(&w, "new/g");
    teardown(&w);
}

static bool came_twice(struct world *w)
{
    return w->came == 2 && w->scanned >= 2;
}

static void a_base_deleted_and_made_again(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    touch(in_base(&w, "old"));
    wait_for_path(&w, "old");
    remove_all(w.base);
    run_until(&w, was_gone);
    assert_int_equal(HASH_COUNT(w.known), 0);
    assert_int_equal(watch_tree_dirs(w.tree), 0);
    make_dir(w.base);
    touch(in_base(&w, "new"));
    run_until(&w, came_twice);
    wait_for_path(&w, "new");
    /* So fast that it is never seen missing: another directory all the same. */
    w.came = w.gone = w.scanned = 0;
    remove_all(w.base);
    make_dir(w.base);
    touch(in_base(&w, "newer"));
    wait_for_path(&w, "newer");
    assert_int_equal(w.gone, 1);
    assert_int_equal(w.came, 1);
    run_until(&w, picture_is_right);
    teardown(&w);
}

static void a_base_that_comes_with_all_its_ancestors(void **state)
{
    (void)state;
    struct world w;
    setup_at(&w, "a/b/c/base", false);
    start(&w, NULL);
    run_until(&w, was_gone);
    assert_int_equal(w.came, 0);
    assert_int_equal(w.errors, 0);
    make_dir(in_root(&w, "other"));
    make_dir(in_root(&w, "a"));
    make_dir(in_root(&w, "a/b"));
    make_dir(in_root(&w, "a/b/c"));
    make_dir(w.base);
    touch(in_base(&w, "f"));
    wait_for_path(&w, "f");
    assert_int_equal(w.gone, 1);
    teardown(&w);
}

/* How many of our watches ask for IN_CREATE. */
static unsigned watches_for_create(void)
{
    unsigned n = 0;
    for (int fd = 3; fd < 64; fd++) {
        char path[64], line[256];
        snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
        FILE *in = fopen(path, "re");
        while (in && fgets(line, sizeof(line), in)) {
            const char *mask = strstr(line, " mask:");
            if (strncmp(line, "inotify ", 8) == 0 && mask && strtoul(mask + 6, NULL, 16) & IN_CREATE)
                n++;
        }
        if (in)
            fclose(in);
    }
    return n;
}

/* What is made beside the base wakes nobody, once the base is there. */
static void no_more_is_watched_than_needed(void **state)
{
    (void)state;
    struct world w;
    setup_at(&w, "a/base", false);
    make_dir(in_root(&w, "a"));
    start(&w, NULL);
    run_until(&w, was_gone);
    assert_int_equal(watches_for_create(), 1); /* a */
    make_dir(w.base);
    run_until(&w, was_scanned);
    for (int i = 0; i < 1000 && watches_for_create() > 1; i++)
        uv_run(&w.loop.uv, UV_RUN_ONCE);
    assert_int_equal(watches_for_create(), 1); /* the base */
    assert_int_equal(w.came, 1);
    remove_all(w.base);
    w.gone = 0;
    run_until(&w, was_gone);
    make_dir(w.base);
    run_until(&w, came_twice);
    teardown(&w);
}

static bool was_gone_and_rests(struct world *w)
{
    return w->gone > 0 && !w->here;
}

static void ancestors_that_move_or_go(void **state)
{
    (void)state;
    struct world w;
    setup_at(&w, "a/b/base", false);
    make_dir(in_root(&w, "a"));
    make_dir(in_root(&w, "a/b"));
    make_dir(w.base);
    touch(in_base(&w, "f"));
    start(&w, NULL);
    run_until(&w, was_scanned);
    /* An ancestor moves away: what happens there is not below the base any more. */
    move(in_root(&w, "a"), in_root(&w, "elsewhere"));
    run_until(&w, was_gone);
    clear_log(&w);
    touch(in_root(&w, "elsewhere/b/base/stray"));
    /* While waiting, the place of waiting changes: a comes, goes, and comes again with something in it. */
    make_dir(in_root(&w, "a"));
    for (int i = 0; i < 20; i++)
        uv_run(&w.loop.uv, UV_RUN_NOWAIT);
    move(in_root(&w, "a"), in_root(&w, "a2"));
    make_dir(in_root(&w, "a2/b"));
    move(in_root(&w, "a2"), in_root(&w, "a"));
    for (int i = 0; i < 20; i++)
        uv_run(&w.loop.uv, UV_RUN_NOWAIT);
    assert_false(w.here);
    move(in_root(&w, "elsewhere/b/base"), w.base);
    wait_for_path(&w, "f");
    run_until(&w, picture_is_right);
    assert_int_equal(w.came, 2);
    w.gone = 0;
    remove_all(in_root(&w, "a"));
    run_until(&w, was_gone_and_rests);
    teardown(&w);
}

static bool had_error(struct world *w)
{
    return w->errors > 0;
}

static void symbolic_links_that_are_swapped(void **state)
{
    (void)state;
    struct world w;
    setup_at(&w, "current/base", false);
    make_dir(in_root(&w, "rev1"));
    make_dir(in_root(&w, "rev1/base"));
    touch(in_root(&w, "rev1/base/one"));
    make_dir(in_root(&w, "rev2"));
    make_dir(in_root(&w, "rev2/base"));
    touch(in_root(&w, "rev2/base/two"));
    assert_int_equal(symlink("./rev1/../rev1", in_root(&w, "current")), 0);
    start(&w, NULL);
    wait_for_path(&w, "one");
    assert_int_equal(symlink(in_root(&w, "rev2"), in_root(&w, "next")), 0);
    move(in_root(&w, "next"), in_root(&w, "current"));
    wait_for_path(&w, "two");
    assert_int_equal(HASH_COUNT(w.known), 1);
    assert_int_equal(w.came, 2);
    assert_int_equal(w.gone, 1);
    /* A link that leads nowhere yet. */
    unlink(in_root(&w, "current"));
    assert_int_equal(symlink("rev3", in_root(&w, "current")), 0);
    w.gone = 0;
    run_until(&w, was_gone_and_rests);
    make_dir(in_root(&w, "rev3"));
    make_dir(in_root(&w, "rev3/base"));
    touch(in_root(&w, "rev3/base/three"));
    wait_for_path(&w, "three");
    /* And in circles. */
    w.gone = w.errors = 0;
    unlink(in_root(&w, "current"));
    assert_int_equal(symlink("current", in_root(&w, "current")), 0);
    run_until(&w, was_gone_and_rests);
    run_until(&w, had_error);
    assert_int_equal(w.error.code, -ELOOP);
    teardown(&w);
}

static void a_base_that_is_a_file(void **state)
{
    (void)state;
    struct world w;
    setup_at(&w, "base", false);
    touch(w.base);
    start(&w, NULL);
    run_until(&w, had_error);
    assert_int_equal(w.error.code, -ENOTDIR);
    assert_non_null(strstr(w.error.message, w.base));
    assert_int_equal(w.gone, 1);
    unlink(w.base);
    make_dir(w.base);
    touch(in_base(&w, "f"));
    wait_for_path(&w, "f");
    teardown(&w);
}

static bool only_keep(void *ctx, const char *dir)
{
    (void)ctx;
    return strncmp(dir, "keep", 4) == 0;
}

static void filters(void **state)
{
    (void)state;
    struct world w;
    setup_at(&w, "base", true);
    make_dir(in_base(&w, "keep"));
    make_dir(in_base(&w, "skip"));
    touch(in_base(&w, "skip/f"));
    struct watch_tree_options options = options_of(&w);
    options.descend = only_keep;
    assert_int_equal(watcher_create(&w.loop, NULL, &w.watcher, NULL), 0);
    w.tree = watcher_add_tree(w.watcher, &options);
    run_until(&w, was_scanned);
    assert_int_equal(watch_tree_dirs(w.tree), 2);
    assert_int_equal(HASH_COUNT(w.known), 2);
    /* A rename changes the answer, both ways. */
    move(in_base(&w, "skip"), in_base(&w, "keep2"));
    wait_for_path(&w, "keep2/f");
    assert_int_equal(watch_tree_dirs(w.tree), 3);
    clear_log(&w);
    move(in_base(&w, "keep2"), in_base(&w, "skip2"));
    touch(in_base(&w, "skip2/g"));
    touch(in_base(&w, "end"));
    wait_for_log(&w, "close end");
    assert_null(strstr(w.log.data, "skip2/g"));
    assert_int_equal(watch_tree_dirs(w.tree), 2);
    teardown(&w);
}

static void not_recursive(void **state)
{
    (void)state;
    struct world w;
    setup_at(&w, "base", true);
    make_dir(in_base(&w, "d"));
    struct watch_tree_options options = options_of(&w);
    options.recursive = false;
    assert_int_equal(watcher_create(&w.loop, NULL, &w.watcher, NULL), 0);
    w.tree = watcher_add_tree(w.watcher, &options);
    run_until(&w, was_scanned);
    make_dir(in_base(&w, "e"));
    touch(in_base(&w, "e/f"));
    touch(in_base(&w, "end"));
    wait_for_log(&w, "close end");
    assert_int_equal(watch_tree_dirs(w.tree), 1);
    assert_int_equal(HASH_COUNT(w.known), 3);
    teardown(&w);
}

/* Two trees in one watcher, one within the other, told apart by their own owners. */
static void trees_that_overlap(void **state)
{
    (void)state;
    struct world w, inner;
    setup(&w);
    make_dir(in_base(&w, "in"));
    wait_for_log(&w, "create in\nscanned");
    inner = (struct world){.logging = true};
    snprintf(inner.base, sizeof(inner.base), "%s/base/in", w.root);
    struct watch_tree_options options = options_of(&inner);
    options.mask = IN_MODIFY;
    struct watch_tree *tree = watcher_add_tree(w.watcher, &options);
    while (inner.scanned == 0)
        uv_run(&w.loop.uv, UV_RUN_ONCE);
    touch(in_base(&w, "in/f"));
    wait_for_log(&w, "close in/f");
    assert_string_equal(inner.log.data, "came \nscanned \ncreate f\n"); /* no close: not asked for */
    /* The inner one goes: the outer one keeps the watch that both used. */
    watcher_remove_tree(tree);
    touch(in_base(&w, "in/g"));
    wait_for_log(&w, "close in/g");
    assert_string_equal(inner.log.data, "came \nscanned \ncreate f\n");
    forget_below(&inner, "");
    buf_fini(&inner.log);
    teardown(&w);
}

static void remove_on_event(void *ctx, const struct watch_event *e)
{
    struct world *w = ctx;
    w->events++;
    (void)e;
    watcher_remove_tree(w->tree);
    loop_stop(&w->loop);
}

static void close_on_event(void *ctx, const struct watch_event *e)
{
    struct world *w = ctx;
    w->events++;
    (void)e;
    watcher_close(steal(&w->watcher), NULL, NULL);
    loop_stop(&w->loop);
}

static void a_tree_removed_by_its_own_event(void **state)
{
    (void)state;
    for (int round = 0; round < 4; round++) {
        struct world w;
        setup_at(&w, "base", true);
        make_dir(in_base(&w, "d"));
        if (round % 2 == 0) /* by a scan, else by a change */
            touch(in_base(&w, "d/f"));
        struct watch_tree_options options = options_of(&w);
        options.event = round < 2 ? remove_on_event : close_on_event;
        options.recursive = round % 2 == 0;
        if (round % 2)
            rmdir(in_base(&w, "d"));
        assert_int_equal(watcher_create(&w.loop, NULL, &w.watcher, NULL), 0);
        w.tree = watcher_add_tree(w.watcher, &options);
        if (round % 2) {
            run_until(&w, was_scanned);
            touch(in_base(&w, "f"));
            touch(in_base(&w, "g"));
        }
        w.until = NULL;
        loop_run(&w.loop);
        for (int i = 0; i < 20; i++)
            uv_run(&w.loop.uv, UV_RUN_NOWAIT);
        assert_int_equal(w.events, 1);
        teardown(&w);
    }
}

/* ---- work that is put off: what comes meanwhile is held ---- */

static struct {
    struct loop_work *work;
    struct loop *loop;
    void (*run)(void *ctx), (*done)(void *ctx);
    void *ctx;
    bool late; /* keep what comes */
} kept;

static void keep_work(struct loop *loop, struct loop_work *work, void (*run)(void *ctx), void (*done)(void *ctx),
                      void *ctx)
{
    if (!kept.late) {
        loop_work_submit(loop, work, run, done, ctx);
        return;
    }
    kept.loop = loop;
    kept.work = work;
    kept.run = run;
    kept.done = done;
    kept.ctx = ctx;
}

static void let_work_go(void)
{
    kept.late = false;
    loop_work_submit(kept.loop, kept.work, kept.run, kept.done, kept.ctx);
    kept.work = NULL;
}

static bool work_is_kept(struct world *w)
{
    (void)w;
    return kept.work != NULL;
}

static void run_until_kept(struct world *w)
{
    while (!work_is_kept(w))
        uv_run(&w->loop.uv, UV_RUN_ONCE);
}

static void a_scan_that_hangs_does_not_stop_other_trees(void **state)
{
    (void)state;
    struct world w, other = {.logging = true};
    setup_at(&w, "base", true);
    start(&w, keep_work);
    run_until(&w, was_scanned);
    snprintf(other.base, sizeof(other.base), "%s/other", w.root);
    make_dir(other.base);
    kept.late = true;
    make_dir(in_base(&w, "hangs"));
    run_until_kept(&w);
    kept.late = false;
    struct watch_tree_options options = options_of(&other);
    watcher_add_tree(w.watcher, &options);
    while (other.scanned == 0)
        uv_run(&w.loop.uv, UV_RUN_ONCE);
    clear_log(&w);
    touch(in_base(&w, "held"));
    move(in_base(&w, "held"), in_base(&w, "held2"));
    touch(in_base(&w, "hangs/f"));
    touch(in_base(&other, "f"));
    other.waited_path = "close f";
    while (!logged_waited(&other))
        uv_run(&w.loop.uv, UV_RUN_ONCE);
    assert_null(w.log.data); /* its own events wait */
    let_work_go();
    wait_for_log(&w, "moved held>held2");
    assert_string_equal(w.log.data, "found hangs/f\nscanned \ncreate held\nclose held\nmoved held>held2\n");
    run_until(&w, picture_is_right);
    forget_below(&other, "");
    buf_fini(&other.log);
    teardown(&w);
}

static void what_hangs_is_left_behind_at_close(void **state)
{
    (void)state;
    struct world w;
    setup_at(&w, "base", true);
    start(&w, keep_work);
    run_until(&w, was_scanned);
    kept.late = true;
    make_dir(in_base(&w, "hangs"));
    touch(in_base(&w, "hangs/f"));
    run_until_kept(&w);
    int done = 0;
    watcher_close(steal(&w.watcher), count, &done);
    loop_run(&w.loop);
    assert_int_equal(done, 1);
    size_t events = w.events;
    let_work_go();
    loop_run(&w.loop);
    assert_int_equal(w.events, events);
    teardown(&w);
}

static void a_tree_removed_while_its_work_hangs(void **state)
{
    (void)state;
    struct world w;
    setup_at(&w, "base", true);
    start(&w, keep_work);
    run_until(&w, was_scanned);
    kept.late = true;
    make_dir(in_base(&w, "hangs"));
    run_until_kept(&w);
    watcher_remove_tree(w.tree);
    size_t events = w.events;
    let_work_go();
    /* The same place anew, in the same watcher. */
    struct watch_tree_options options = options_of(&w);
    w.here = false;
    w.scanned = 0;
    w.tree = watcher_add_tree(w.watcher, &options);
    assert_int_equal(w.events, events);
    run_until(&w, was_scanned);
    touch(in_base(&w, "hangs/f"));
    wait_for_path(&w, "hangs/f");
    teardown(&w);
}

/* The name that is about to be watched comes to mean another directory. */
static void a_rename_that_crosses_the_scan(void **state)
{
    (void)state;
    struct world w;
    setup_at(&w, "base", true);
    start(&w, keep_work);
    run_until(&w, was_scanned);
    kept.late = true;
    make_dir(in_base(&w, "a"));
    run_until_kept(&w); /* will watch "a" */
    touch(in_base(&w, "a/of_first"));
    move(in_base(&w, "a"), in_base(&w, "b"));
    make_dir(in_base(&w, "a"));
    touch(in_base(&w, "a/of_second"));
    let_work_go();
    wait_for_path(&w, "b/of_first");
    run_until(&w, picture_is_right);
    touch(in_base(&w, "b/x"));
    touch(in_base(&w, "a/y"));
    wait_for_path(&w, "b/x");
    wait_for_path(&w, "a/y");
    run_until(&w, picture_is_right);
    assert_int_equal(watch_tree_dirs(w.tree), 3);
    assert_int_equal(w.overflows, 0);
    teardown(&w);
}

static void more_than_can_be_held(void **state)
{
    (void)state;
    struct world w, other = {.logging = false};
    setup_at(&w, "base", true);
    start(&w, keep_work);
    run_until(&w, was_scanned);
    w.logging = false;
    touch(in_base(&w, "gone"));
    wait_for_path(&w, "gone");
    kept.late = true;
    make_dir(in_base(&w, "d"));
    run_until_kept(&w);
    for (int i = 0; i < WATCHER_HELD_MAX / 6 + 100; i++) { /* 6 events each */
        touch(in_base(&w, "x"));
        touch(in_base(&w, "y"));
        unlink(in_base(&w, "x"));
        unlink(in_base(&w, "y"));
        if (i % 1000 == 0)
            for (int j = 0; j < 5; j++)
                uv_run(&w.loop.uv, UV_RUN_NOWAIT);
    }
    unlink(in_base(&w, "gone"));
    uv_run(&w.loop.uv, UV_RUN_NOWAIT);
    assert_int_equal(w.overflows, 0);
    let_work_go();
    run_until(&w, overflowed_and_right);
    forget_below(&other, "");
    teardown(&w);
}

/* ---- errors ---- */

/* The file system of /proc stands in for it. */
static void our_own_mount_is_left_out(void **state)
{
    (void)state;
    static const char *const bases[] = {"/proc/sys/fs", "/proc/none/yet", "LINK/fs"};
    struct stat st;
    struct self_mount self = {0};
    assert_int_equal(stat("/proc", &st), 0);
    for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
        struct world w;
        setup_at(&w, "link", false);
        assert_int_equal(symlink("/proc/sys", w.base), 0);
        if (bases[i][0] == '/')
            strcpy(w.base, bases[i]);
        else
            strcat(w.base, bases[i] + 4);
        struct watch_tree_options options = options_of(&w);
        self_mount_set(&self, i == 1 ? 0 : st.st_dev);
        assert_int_equal(watcher_create(&w.loop, NULL, &w.watcher, NULL), 0);
        watcher_avoid(w.watcher, &self);
        w.tree = watcher_add_tree(w.watcher, &options);
        if (i == 1) { /* it comes later */
            run_until(&w, was_gone);
            assert_int_equal(w.errors, 0);
            self_mount_set(&self, st.st_dev);
            watcher_look_again(w.watcher);
        }
        run_until(&w, had_error);
        assert_int_equal(w.error.code, -EXDEV);
        assert_non_null(strstr(w.error.message, "own mount"));
        assert_int_equal(w.came, 0);
        teardown(&w);
    }
    /* Below a base it is not there. */
    struct world w;
    setup_at(&w, "base", true);
    struct watch_tree_options options = options_of(&w);
    options.base = "/";
    options.recursive = false;
    assert_int_equal(watcher_create(&w.loop, NULL, &w.watcher, NULL), 0);
    watcher_avoid(w.watcher, &self);
    w.tree = watcher_add_tree(w.watcher, &options);
    run_until(&w, was_scanned);
    assert_non_null(strstr(w.log.data, "found tmp\n"));
    assert_null(strstr(w.log.data, "found proc\n"));
    teardown(&w);
}

static void a_directory_without_permission(void **state)
{
    (void)state;
    struct world w;
    setup_at(&w, "base", true);
    make_dir(in_base(&w, "shut"));
    make_dir(in_base(&w, "open"));
    touch(in_base(&w, "shut/f"));
    chmod(in_base(&w, "shut"), 0);
    if (geteuid() == 0) { /* root may: so be somebody else, who owns it */
        assert_int_equal(chown(w.root, 65534, 65534), 0);
        assert_int_equal(chown(w.base, 65534, 65534), 0);
        assert_int_equal(chown(in_base(&w, "shut"), 65534, 65534), 0);
        assert_int_equal(chown(in_base(&w, "open"), 65534, 65534), 0);
        assert_int_equal(seteuid(65534), 0);
    }
    start(&w, NULL);
    run_until(&w, was_scanned);
    assert_true(w.errors >= 1);
    assert_int_equal(w.error.code, -EACCES);
    assert_non_null(strstr(w.error.message, "base/shut: Permission denied"));
    assert_int_equal(HASH_COUNT(w.known), 2);
    touch(in_base(&w, "open/g"));
    wait_for_path(&w, "open/g");
    w.errors = w.scanned = 0;
    chmod(in_base(&w, "shut"), 0700);
    watcher_retry(w.tree);
    run_until(&w, was_scanned);
    assert_int_equal(w.errors, 0);
    assert_int_equal(w.came, 1);
    touch(in_base(&w, "shut/h"));
    wait_for_path(&w, "shut/h");
    (void)!seteuid(0);
    teardown(&w);
}

static void too_many_open_files(void **state)
{
    (void)state;
    struct world w;
    struct rlimit limit, none;
    setup_at(&w, "base", true);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    int next = dup(0);
    close(next);
    none = (struct rlimit){.rlim_cur = (rlim_t)next, .rlim_max = limit.rlim_max};
    struct watcher *watcher = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(watcher_create(&w.loop, NULL, &watcher, &err), -EMFILE);
    assert_null(watcher);
    assert_non_null(strstr(err.message, "max_user_instances"));
    /* A scan that cannot open. */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    start(&w, NULL);
    run_until(&w, was_scanned);
    make_dir(in_base(&w, "d"));
    touch(in_base(&w, "d/f"));
    next = dup(0);
    close(next);
    none.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    run_until(&w, had_error);
    assert_int_equal(w.error.code, -EMFILE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    watcher_retry(w.tree);
    wait_for_path(&w, "d/f");
    teardown(&w);
}

/* ---- anything at all, in any order, while the loop runs ---- */

struct chaos {
    struct world *w;
    uint64_t seed;
    int operations;
    pthread_t thread;
};

static void random_path(struct world *w, struct random *r, char *out, size_t size)
{
    static const char *const names[] = {"a", "b", "c", "d"};
    int n = snprintf(out, size, "%s", w->base);
    size_t depth = 1 + random_below(r, 4);
    for (size_t i = 0; i < depth; i++)
        n += snprintf(out + n, size - (size_t)n, "/%s", names[random_below(r, ARRAY_SIZE(names))]);
}

static void *make_chaos(void *ctx)
{
    struct chaos *c = ctx;
    struct random_seeded seeded;
    char a[512], b[512], out[128];
    random_seeded_init(&seeded, c->seed);
    struct random *r = &seeded.random;
    snprintf(out, sizeof(out), "%s/out", c->w->root);
    for (int i = 0; i < c->operations; i++) {
        random_path(c->w, r, a, sizeof(a));
        random_path(c->w, r, b, sizeof(b));
        uint64_t what = random_below(r, 100);
        if (what < 30) {
            mkdir(a, 0700);
        } else if (what < 50) {
            int fd = open(a, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
            if (fd >= 0)
                close(fd);
        } else if (what < 75) {
            (void)!rename(a, b);
        } else if (what < 80) {
            renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
        } else if (what < 85) {
            remove_all(a);
        } else if (what < 88) {
            remove_all(out);
            (void)!rename(a, out);
        } else if (what < 91) {
            (void)!rename(out, a);
        } else if (what < 96) {
            (void)!remove(a);
        } else if (what < 97 && c->seed % 3 == 0) {
            remove_all(c->w->base);
            mkdir(c->w->base, 0700);
        } else {
            struct timespec pause = {.tv_nsec = (long)random_below(r, 2000000)};
            nanosleep(&pause, NULL);
        }
    }
    snprintf(b, sizeof(b), "%s/ready", c->w->root);
    snprintf(a, sizeof(a), "%s/end", c->w->base);
    mkdir(c->w->base, 0700);
    close(open(b, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    (void)!rename(b, a);
    return NULL;
}

static bool chaos_is_over(struct world *w)
{
    return knows_waited(w) && picture_is_right(w);
}

static bool all_is_watched(struct world *w)
{
    size_t dirs = 1;
    for (const struct known *k = w->known; k; k = k->hh.next)
        dirs += k->is_dir;
    return picture_is_right(w) && watch_tree_dirs(w->tree) == dirs;
}

static void chaos(void **state)
{
    (void)state;
    const char *first = getenv("CHAOS_SEED"), *rounds = getenv("CHAOS_ROUNDS");
    uint64_t seed = first ? strtoull(first, NULL, 10) : 1;
    for (uint64_t end = seed + (rounds ? strtoull(rounds, NULL, 10) : 12); seed < end; seed++) {
        struct world w;
        setup(&w);
        struct chaos c = {.w = &w, .seed = seed, .operations = 2000};
        assert_int_equal(pthread_create(&c.thread, NULL, make_chaos, &c), 0);
        w.waited_path = "end";
        run_until(&w, chaos_is_over);
        pthread_join(c.thread, NULL);
        /* Every directory is watched: a file in each is noticed. */
        struct known *k, *next;
        size_t dirs = 1;
        char **paths = NULL;
        HASH_ITER (hh, w.known, k, next)
            if (k->is_dir) {
                paths = xreallocarray(paths, dirs, sizeof(char *));
                paths[dirs - 1] = xasprintf("%s/last", k->path);
                dirs++;
            }
        for (size_t i = 0; i + 1 < dirs; i++)
            touch(in_base(&w, paths[i]));
        for (size_t i = 0; i + 1 < dirs; i++) {
            wait_for_path(&w, paths[i]);
            free(paths[i]);
        }
        free(paths);
        run_until(&w, all_is_watched); /* late news of what was before may come between */
        assert_int_equal(watch_tree_dirs(w.tree), dirs);
        if (getenv("CHAOS_SEED"))
            print_message("seed %d: %zu events, %d scans, %d overflows, %d gone, %u moved, %zu dirs\n", (int)seed,
                          w.events, w.scanned, w.overflows, w.gone, occurrences(&w, "moved "), dirs);
        teardown(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_there_is_found_before_scanned),
        cmocka_unit_test(events_of_files),
        cmocka_unit_test(renames_in_and_out),
        cmocka_unit_test(renames_of_directories_within),
        cmocka_unit_test(exchanges),
        cmocka_unit_test(bursts_of_nested_directories_lose_nothing),
        cmocka_unit_test(five_thousand_files_at_once),
        cmocka_unit_test(an_overflow_of_the_kernels_queue_leads_to_a_scan),
        cmocka_unit_test(a_base_deleted_and_made_again),
        cmocka_unit_test(a_base_that_comes_with_all_its_ancestors),
        cmocka_unit_test(no_more_is_watched_than_needed),
        cmocka_unit_test(ancestors_that_move_or_go),
        cmocka_unit_test(symbolic_links_that_are_swapped),
        cmocka_unit_test(a_base_that_is_a_file),
        cmocka_unit_test(filters),
        cmocka_unit_test(not_recursive),
        cmocka_unit_test(trees_that_overlap),
        cmocka_unit_test(a_tree_removed_by_its_own_event),
        cmocka_unit_test(a_scan_that_hangs_does_not_stop_other_trees),
        cmocka_unit_test(what_hangs_is_left_behind_at_close),
        cmocka_unit_test(a_tree_removed_while_its_work_hangs),
        cmocka_unit_test(a_rename_that_crosses_the_scan),
        cmocka_unit_test(more_than_can_be_held),
        cmocka_unit_test(our_own_mount_is_left_out),
        cmocka_unit_test(a_directory_without_permission),
        cmocka_unit_test(too_many_open_files),
        cmocka_unit_test(chaos),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
