/* The store on a disk that fails: at every write, sync, truncate, open of a short workload; full for a while; killed.
 * What was acknowledged is there afterwards, what was refused is not, and STORE_KEEP groups are never refused. */
#include "fault_vfs.h"

#include "../unit/store/fixture.h"

#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>

#define MOST 1000000

/* A directory in memory where there is one: thousands of syncs, none of which has to be real. */
static const char *base(void)
{
    return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : NULL;
}

struct item {
    struct event e;
    struct outcome out;
    bool keep;
};

struct workload {
    struct item items[24];
    size_t n;
    int refused;
};

static void add_item(struct workload *w, struct owner *o, unsigned flags)
{
    struct item *item = &w->items[w->n++];
    item->e = make_event(o->port, "t", w->n);
    item->keep = flags & STORE_KEEP;
    struct store_group *g = store_group_new(flags, group_done, &item->out);
    store_add_event_insert(g, &item->e);
    char key[32];
    snprintf(key, sizeof(key), "%s", item->e.id);
    store_add_kv_put(g, "seen", key, strlen(key), "1", 1);
    if (w->n % 5 == 0) { /* larger than a page, so that it takes several writes */
        free(item->e.data);
        item->e.data = xcalloc(1, 20001);
        memset(item->e.data, 'x', 20000);
    }
    o->port->submit(o->port, g);
}

static bool has_row(sqlite3 *db, const char *sql, const char *id)
{
    sqlite3_stmt *st = NULL;
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
    sqlite3_bind_text(st, 1, id, -1, SQLITE_STATIC);
    int rc = sqlite3_step(st);
    sqlite3_finalize(st);
    return rc == SQLITE_ROW;
}

static void workload_check(const struct workload *w, const char *dir, const char *what, long at)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/triggerd.db", dir);
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    for (size_t i = 0; i < w->n; i++) {
        const struct item *item = &w->items[i];
        if (!item->out.done)
            continue; /* a kept one may be there or not */
        bool event = has_row(db, "SELECT 1 FROM events WHERE id=?1", item->e.id);
        bool key = has_row(db, "SELECT 1 FROM kv WHERE scope='seen' AND key=CAST(?1 AS BLOB)", item->e.id);
        if (item->out.calls != 1 || event != key || event != (item->out.result == 0))
            fail_msg("%s at %ld: event %zu: result %d, told %d times, row %d, key %d", what, at, i, item->out.result,
                     item->out.calls, event, key);
    }
    sqlite3_close(db);
}

static void copy_file(const char *from_dir, const char *to_dir, const char *name)
{
    char from[256], to[256], bytes[65536];
    snprintf(from, sizeof(from), "%s/%s", from_dir, name);
    snprintf(to, sizeof(to), "%s/%s", to_dir, name);
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(out >= 0);
    ssize_t n;
    while (in >= 0 && (n = read(in, bytes, sizeof(bytes))) > 0)
        assert_int_equal(write(out, bytes, (size_t)n), n);
    close(in);
    close(out);
}

/* What a kill at this moment would leave, recovered. */
static void check_after_kill(const struct workload *w, struct owner *o, const char *what, long at)
{
    char dir[160];
    snprintf(dir, sizeof(dir), "%s.killed", o->dir);
    mkdir(dir, 0700);
    copy_file(o->dir, dir, "triggerd.db");
    copy_file(o->dir, dir, "triggerd.db-wal");
    workload_check(w, dir, what, at);
    assert_consistent(dir);
    remove_tree(dir);
}

/* Alone, three at once, alone …; every fourth is to be kept. Waits for all but those. `kill`: look at what a kill would
 * leave as soon as something was refused, and at the end. */
static void workload_run(struct workload *w, struct owner *o, bool kill, const char *what, long at)
{
    *w = (struct workload){0};
    int looks = 0;
    while (w->n + 3 <= ARRAY_SIZE(w->items)) {
        size_t first = w->n;
        unsigned n = w->n % 2 == 0 ? 1 : 3;
        while (n-- > 0)
            add_item(w, o, w->n % 4 == 3 ? STORE_KEEP : 0);
        for (size_t i = first; i < w->n; i++)
            if (!w->items[i].keep)
                owner_wait(o, &w->items[i].out.done);
        if (kill && o->downs > looks && looks < 3) {
            check_after_kill(w, o, what, at);
            looks++;
        }
    }
    if (kill)
        check_after_kill(w, o, what, at);
    for (size_t i = 0; i < w->n; i++)
        w->refused += w->items[i].out.done && w->items[i].out.result != 0;
}

static bool await_writable(struct owner *o)
{
    int64_t end = monotonic_ns() + 20 * INT64_C(1000000000);
    while (!o->port->writable(o->port) && monotonic_ns() < end) {
        usleep(1000);
        store_collect(o->port);
    }
    return o->port->writable(o->port);
}

/* Fail `times` calls from the `at`th on; *ret_hit: it came to that. */
static void fail_at(const char *what, unsigned calls, long at, long times, int code, bool *ret_hit)
{
    struct owner o;
    struct workload w;
    owner_init(&o, base());
    o.probe_ms = 1;
    owner_open(&o, FAULT_VFS);
    fault_arm(calls, at, times, code);
    /* Where the writes fail that should make an unsynced commit void, a kill may bring it back: no disk to tell it by.
     */
    workload_run(&w, &o, times == 1 || calls == FAULT_SYNC, what, at);
    *ret_hit = fault_hits() > 0;
    fault_disarm();
    for (size_t i = 0; i < w.n; i++) {
        owner_wait(&o, &w.items[i].out.done);
        if (w.items[i].out.result != 0 &&
            (w.items[i].keep || w.items[i].out.result != (code == SQLITE_FULL ? -ENOSPC : -EIO)))
            fail_msg("%s at %ld: event %zu: %d", what, at, i, w.items[i].out.result);
    }
    if (w.refused > 0)
        assert_true(o.downs > 0);
    /* It mends itself, and says so. */
    assert_true(await_writable(&o));
    assert_int_equal(o.ups, o.downs);
    struct event last = make_event(o.port, "t", 999);
    assert_int_equal(insert_event(&o, &last), 0);
    owner_close(&o);
    workload_check(&w, o.dir, what, at);
    assert_consistent(o.dir);
    owner_open(&o, NULL);
    assert_int_equal(find_event(&o, last.id, NULL), 0);
    for (size_t i = 0; i < w.n; i++)
        event_fini(&w.items[i].e);
    event_fini(&last);
    owner_fini(&o);
}

static void at_every_position(const char *what, unsigned calls, long times, int code)
{
    bool hit = true;
    long at = 0;
    while (hit) {
        fail_at(what, calls, at, times, code, &hit);
        at++;
    }
    print_message("%s: %ld positions\n", what, at - 1);
    assert_true(at > 10);
}

static void test_one_error(void **state)
{
    (void)state;
    at_every_position("one error", FAULT_WRITE | FAULT_SYNC | FAULT_TRUNCATE, 1, SQLITE_IOERR_WRITE);
}

static void test_errors_last(void **state)
{
    (void)state;
    at_every_position("all fail", FAULT_ALL, MOST, SQLITE_IOERR_WRITE);
}

static void test_syncs_fail(void **state)
{
    (void)state;
    at_every_position("no sync", FAULT_SYNC, MOST, SQLITE_IOERR_FSYNC);
}

static void test_full(void **state)
{
    (void)state;
    at_every_position("full", FAULT_WRITE, MOST, SQLITE_FULL);
}

/* Three in a row: the reopen and the first commit after it fail as well. */
static void test_some_errors(void **state)
{
    (void)state;
    at_every_position("three errors", FAULT_ALL, 3, SQLITE_IOERR_WRITE);
}

/* An open that fails says so, and the next one finds everything. */
static void test_open(void **state)
{
    (void)state;
    struct owner o;
    owner_init(&o, base());
    owner_open(&o, FAULT_VFS);
    struct event e = make_event(o.port, "t", 1);
    assert_int_equal(insert_event(&o, &e), 0);
    owner_close(&o);
    for (int fresh = 0; fresh < 2; fresh++) {
        bool hit = true;
        int failed = 0;
        for (long at = 0; hit; at++) {
            struct owner other;
            owner_init(&other, base());
            struct owner *now = fresh ? &other : &o;
            struct error err = ERROR_INIT;
            fault_arm(FAULT_ALL, at, 1, SQLITE_IOERR_WRITE);
            int r = store_open_hooked(&now->options, &(struct store_hooks){.vfs = FAULT_VFS}, &now->port, &err);
            hit = fault_hits() > 0;
            fault_disarm();
            failed += r < 0;
            if (r < 0) {
                assert_int_equal(r, -EIO);
                assert_int_equal(err.code, -EIO);
                assert_non_null(strstr(err.message, now->dir));
                now->port = NULL;
            } else {
                owner_close(now);
            }
            owner_open(now, FAULT_VFS);
            if (!fresh)
                assert_int_equal(find_event(now, e.id, NULL), 0);
            owner_close(now);
            owner_fini(&other);
        }
        assert_true(failed > 3);
    }
    event_fini(&e);
    owner_fini(&o);
}

/* A reader that cannot read says so, and is not spoilt by it. */
static void test_read(void **state)
{
    (void)state;
    struct owner o;
    owner_init(&o, base());
    owner_open(&o, FAULT_VFS);
    struct event e = make_event(o.port, "t", 1);
    assert_int_equal(insert_event(&o, &e), 0);
    bool hit = true;
    int failed = 0;
    for (long at = 0; hit; at++) {
        fault_arm(FAULT_READ, at, MOST, SQLITE_IOERR_READ);
        int r = find_event(&o, e.id, NULL);
        hit = fault_hits() > 0;
        fault_disarm();
        assert_true(r == 0 || r == -EIO);
        failed += r != 0;
        assert_int_equal(find_event(&o, e.id, NULL), 0);
    }
    assert_true(failed > 0);
    event_fini(&e);
    owner_fini(&o);
}

/* ---- kill ---- */

#define KILL_RETENTION 3000 /* passed after some rounds, so that kills hit deletions too */

struct flood {
    struct owner *o;
    int fd;
    unsigned long long n;
    unsigned under_way;
};

struct flood_item {
    struct flood *f;
    struct event e;
    unsigned long long n;
    bool updated;
};

/* Tell the parent what is on disk: 2 n for the insert, 2 n + 1 for the update. */
static void flood_done(struct store_group *g, int result)
{
    struct flood_item *item = g->ctx;
    unsigned long long told = 2 * item->n + item->updated;
    store_group_free(g);
    if (result != 0 || write(item->f->fd, &told, sizeof(told)) != sizeof(told))
        _exit(3);
    if (!item->updated && item->n % 2 == 0) {
        item->updated = true;
        item->e.status = EVENT_COMPLETED;
        g = store_group_new(STORE_LAZY | STORE_KEEP, flood_done, item);
        store_add_event_update(g, &item->e);
        item->f->o->port->submit(item->f->o->port, g);
        return;
    }
    item->f->under_way--;
    event_fini(&item->e);
    free(item);
}

static void __attribute__((noreturn)) flood_child(struct owner *o, int fd, unsigned long long from)
{
    struct flood f = {.o = o, .fd = fd, .n = from};
    struct error err = ERROR_INIT;
    if (store_open(&o->options, &o->port, &err) < 0)
        _exit(4);
    store_set_retention(o->port, &(struct store_retention){.events = KILL_RETENTION});
    for (;;) {
        while (f.under_way < 64) {
            struct flood_item *item = xcalloc(1, sizeof(*item));
            item->f = &f;
            item->n = f.n++;
            item->e = make_event(o->port, item->n % 3 ? "a" : "b", item->n);
            struct store_group *g = store_group_new(0, flood_done, item);
            store_add_event_insert(g, &item->e);
            o->port->submit(o->port, g);
            f.under_way++;
        }
        pthread_mutex_lock(&o->mutex);
        while (!o->woken)
            pthread_cond_wait(&o->cond, &o->mutex);
        o->woken = false;
        pthread_mutex_unlock(&o->mutex);
        store_collect(o->port);
    }
}

/* What the child was told, until it had so many of them, was killed, and the pipe ran dry. */
static size_t kill_after(struct owner *o, unsigned long long from, size_t until, unsigned long long *told, size_t cap)
{
    int fds[2], status;
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(fds[0]);
        flood_child(o, fds[1], from);
    }
    close(fds[1]);
    size_t n = 0;
    ssize_t got;
    while ((got = read(fds[0], &told[n], sizeof(told[n]))) == sizeof(told[n])) {
        if (++n == until)
            kill(pid, SIGKILL);
        assert_true(n < cap);
    }
    assert_int_equal(got, 0);
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFSIGNALED(status))
        fail_msg("the child ended with %d", WEXITSTATUS(status));
    return n;
}

#define KILL_IDS (1 << 18)

/* found[id]: 1 where the event is there, 2 where with its end. Returns the greatest id. */
static unsigned long long find_all(struct owner *o, char *found, int64_t *ret_total)
{
    struct store_read *r = store_read_new(STORE_READ_EVENTS, NULL, NULL);
    r->page_size = STORE_PAGE_SIZE_MAX;
    assert_int_equal(read_wait(o, r), 0);
    *ret_total = r->total;
    size_t expected = MIN((size_t)r->total, (size_t)STORE_PAGE_SIZE_MAX);
    assert_int_equal(r->n_events, expected);
    unsigned long long highest = 0;
    for (size_t i = 0; i < r->n_events; i++) {
        unsigned long long id = strtoull(r->events[i].id + 4, NULL, 10);
        assert_true(id < KILL_IDS);
        found[id] = 1 + (r->events[i].status == EVENT_COMPLETED);
        highest = MAX(highest, id);
    }
    store_read_free(r);
    return highest;
}

static void test_kill(void **state)
{
    (void)state;
    static unsigned long long told[KILL_IDS];
    struct owner o;
    owner_init(&o, NULL);
    unsigned long long from = 1, acknowledged = 0;
    for (int round = 0; round < 20; round++) {
        size_t n = kill_after(&o, from, 1 + (size_t)(round * 137) % 1500, told, ARRAY_SIZE(told));
        owner_open(&o, NULL);
        char *found = xcalloc(1, KILL_IDS);
        int64_t total = 0;
        from = find_all(&o, found, &total) + 1;
        for (size_t i = 0; i < n; i++) {
            unsigned long long id = told[i] / 2;
            bool ended = told[i] % 2;
            /* Only what ended is ever deleted, and nothing before there is more than the limit. */
            if (found[id] == 0 && (id % 2 != 0 || total < KILL_RETENTION / 2))
                fail_msg("round %d: event %llu was acknowledged and is not there", round, id);
            if (ended && found[id] == 1)
                fail_msg("round %d: the end of event %llu was acknowledged and is not there", round, id);
        }
        acknowledged += n;
        free(found);
        owner_close(&o);
        assert_consistent(o.dir);
    }
    print_message("20 kills, %llu acknowledgements\n", acknowledged);
    owner_fini(&o);
}

/* ---- a disk of 32 MiB ---- */

static void fill_file(const char *path, int64_t leave)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    assert_true(fd >= 0);
    static char zeros[65536];
    for (;;) {
        int64_t free_bytes = disk_free(path);
        if (free_bytes <= leave)
            break;
        if (write(fd, zeros, (size_t)MIN((int64_t)sizeof(zeros), free_bytes - leave)) <= 0)
            break;
    }
    close(fd);
}

#define FILL_MOST 1000

/* Events of 8 KiB until one is refused. Returns how many were recorded, the first of those in `e`. */
static size_t fill_up(struct owner *o, struct event *e, unsigned long long first)
{
    int r = 0;
    size_t n = 0;
    while (r == 0) {
        assert_true(n < FILL_MOST);
        e[n] = make_event(o->port, "t", first + n);
        free(e[n].data);
        e[n].data = xcalloc(1, 8001);
        memset(e[n].data, 'y', 8000);
        r = insert_event(o, &e[n]);
        n++;
    }
    assert_int_equal(r, -ENOSPC);
    return n - 1;
}

/* On the full disk: what is new is refused, the ends of what is open go into the reserve. */
static void record_ends(struct owner *o, struct event *open_one)
{
    struct event more = make_event(o->port, "t", 77);
    assert_int_equal(insert_event(o, &more), -ENOSPC);
    for (int i = 0; i < 200; i++) {
        struct store_group *g = new_group(STORE_KEEP);
        open_one->attempt++;
        store_add_event_update(g, open_one);
        assert_int_equal(submit_wait(o, g), 0);
    }
    assert_false(o->port->writable(o->port));
    event_fini(&more);
}

static void test_small_disk(void **state)
{
    (void)state;
    char mount_dir[] = "/tmp/triggerd-disk-XXXXXX", filler[64];
    assert_non_null(mkdtemp(mount_dir));
    if (mount("tmpfs", mount_dir, "tmpfs", 0, "size=32m") < 0) {
        print_message("skipped: cannot mount a tmpfs here (%s)\n", strerror(errno));
        rmdir(mount_dir);
        skip();
    }
    snprintf(filler, sizeof(filler), "%s/filler", mount_dir);
    struct owner o;
    owner_init(&o, mount_dir);
    o.probe_ms = 20;
    owner_open(&o, NULL);
    struct event open_one = make_event(o.port, "t", 1), back = {0};
    assert_int_equal(insert_event(&o, &open_one), 0);
    static struct event e[FILL_MOST];
    for (int round = 0; round < 4; round++) {
        fill_file(filler, (4 - round) * 300000);
        size_t recorded = fill_up(&o, e, 1000u * (unsigned)(round + 1));
        assert_non_null(strstr(o.reason, "full"));
        record_ends(&o, &open_one);
        if (round % 2 == 1) { /* a restart on the full disk */
            owner_close(&o);
            owner_open(&o, NULL);
        }
        assert_int_equal(find_event(&o, open_one.id, &back), 0);
        assert_int_equal(back.attempt, open_one.attempt);
        event_fini(&back);
        assert_int_equal(unlink(filler), 0);
        assert_true(await_writable(&o));
        assert_int_equal(o.downs, o.ups + (round >= 1) + (round >= 3)); /* a restart tells no change */
        for (size_t i = 0; i <= recorded; i++) {
            assert_int_equal(find_event(&o, e[i].id, NULL), i < recorded ? 0 : -ENOENT);
            event_fini(&e[i]);
        }
        struct event more = make_event(o.port, "t", 100000u + (unsigned)round);
        assert_int_equal(insert_event(&o, &more), 0);
        event_fini(&more);
        print_message("full after %zu events\n", recorded);
    }
    owner_close(&o);
    assert_consistent(o.dir);

    /* Nothing can begin on a full disk, and that is said. */
    fill_file(filler, 0);
    char fresh[96];
    snprintf(fresh, sizeof(fresh), "%s/fresh", mount_dir);
    struct error err = ERROR_INIT;
    struct store_options options = {.dir = fresh};
    struct store_port *port = NULL;
    assert_int_equal(store_open(&options, &port, &err), -ENOSPC);
    assert_non_null(strstr(err.message, fresh));
    event_fini(&open_one);
    owner_fini(&o);
    umount2(mount_dir, MNT_DETACH);
    rmdir(mount_dir);
}

static int set_up_all(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    fault_register();
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_error),  cmocka_unit_test(test_some_errors), cmocka_unit_test(test_errors_last),
        cmocka_unit_test(test_syncs_fail), cmocka_unit_test(test_full),        cmocka_unit_test(test_open),
        cmocka_unit_test(test_read),       cmocka_unit_test(test_kill),        cmocka_unit_test(test_small_disk),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, set_up_all, NULL);
}
