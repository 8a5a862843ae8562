/* A file_watch source on a real loop and real directories, with the host and store of fixture.h. The test's own
 * directory is /tmp/…/, the watched one `data` in it. Header only. */
#ifndef TRIGGERD_TESTS_SOURCE_WATCH_RIG_H
#define TRIGGERD_TESTS_SOURCE_WATCH_RIG_H

#include "fixture.h"

#include "base/inotify_internal.h"
#include "source/file_watch.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATIENCE_MS 30000
#define QUIET_MS 45 /* more than a rename waits for its second half */

struct rig {
    struct world w; /* first */
    struct loop loop;
    struct timer tick;
    int64_t deadline, quiet_since;
    bool (*until)(struct rig *r);
    bool timed_out;
    char root[64];
    char data[80];
};

#define AT(r, name) rig_path(r, name)
/* In a ring of buffers: good for some calls. */
FIXTURE const char *rig_path(struct rig *r, const char *name)
{
    static char buffers[8][512];
    static unsigned next;
    char *b = buffers[next++ % ARRAY_SIZE(buffers)];
    if (strncmp(name, "../", 3) == 0)
        snprintf(b, sizeof(buffers[0]), "%s/%s", r->root, name + 3);
    else
        snprintf(b, sizeof(buffers[0]), "%s/%s", r->data, name);
    return b;
}

/* ---- files ---- */

FIXTURE int open_file(struct rig *r, const char *name, int flags)
{
    int fd = open(AT(r, name), flags | O_CLOEXEC, 0644);
    if (fd < 0)
        fail_msg("open %s: %s", name, strerror(errno));
    return fd;
}

FIXTURE void put(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

FIXTURE void write_file(struct rig *r, const char *name, const char *text)
{
    int fd = open_file(r, name, O_WRONLY | O_CREAT | O_TRUNC);
    put(fd, text);
    close(fd);
}

FIXTURE void make_dir(struct rig *r, const char *name)
{
    assert_int_equal(mkdir(AT(r, name), 0755), 0);
}

FIXTURE void move(struct rig *r, const char *from, const char *to)
{
    if (rename(AT(r, from), AT(r, to)) < 0)
        fail_msg("rename %s to %s: %s", from, to, strerror(errno));
}

FIXTURE void drop(struct rig *r, const char *name)
{
    assert_int_equal(remove(AT(r, name)), 0);
}

FIXTURE int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st;
    (void)type;
    (void)walk;
    return remove(path);
}

FIXTURE void remove_all(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- the loop ---- */

FIXTURE void on_tick(struct timer *timer, void *ctx)
{
    struct rig *r = ctx;
    (void)timer;
    world_work(&r->w);
    r->timed_out = loop_now_ms(&r->loop) > r->deadline;
    if (r->until(r) || r->timed_out)
        loop_stop(&r->loop);
    else
        loop_timer_start(&r->loop, &r->tick, 1);
}

FIXTURE void dump(struct rig *r)
{
    const struct told *t;
    print_error("state %d %s: %s; recorded:\n", r->w.state, r->w.reason, r->w.message);
    DL_FOREACH (r->w.events, t)
        print_error("  %s %s\n", t->event_type, t->text);
}

FIXTURE bool rig_try(struct rig *r, bool (*until)(struct rig *r), int64_t ms)
{
    r->until = until;
    r->deadline = loop_now_ms(&r->loop) + ms;
    r->quiet_since = 0;
    loop_timer_start(&r->loop, &r->tick, 0);
    loop_run(&r->loop);
    return !r->timed_out;
}

FIXTURE void rig_wait_(struct rig *r, bool (*until)(struct rig *r), const char *what, int line)
{
    if (rig_try(r, until, PATIENCE_MS))
        return;
    dump(r);
    fail_msg("line %d: waited in vain: %s", line, what);
}
#define WAIT(r, until) rig_wait_(r, until, #until, __LINE__)

/* ---- conditions ---- */

FIXTURE bool is_ready(struct rig *r)
{
    return r->w.reports > 0;
}

FIXTURE bool is_connected(struct rig *r)
{
    return r->w.reports > 0 && r->w.state == SOURCE_CONNECTED;
}

FIXTURE bool is_waiting(struct rig *r)
{
    return r->w.reports > 0 && r->w.state == SOURCE_WAITING;
}

FIXTURE bool is_failed(struct rig *r)
{
    return r->w.reports > 0 && r->w.state == SOURCE_FAILED;
}

FIXTURE bool has_event(struct rig *r)
{
    return r->w.n_events > 0;
}

FIXTURE bool has_unsettled(struct rig *r)
{
    return r->w.unsettled != NULL;
}

FIXTURE bool is_gone(struct rig *r)
{
    return r->w.source != NULL;
}

FIXTURE gboolean is_busy_file(gpointer key, gpointer value, gpointer ctx)
{
    (void)key;
    const struct file *f = value;
    bool *busy = ctx;
    *busy = f->p || f->busy || f->unsaved || f->saving > 0;
    return *busy;
}

FIXTURE bool kernel_has_events(void)
{
    DIR *d = opendir("/proc/self/fd");
    const struct dirent *e;
    bool any = false;
    while ((e = readdir(d))) {
        char link[64] = "";
        int n = 0;
        if (readlinkat(dirfd(d), e->d_name, link, sizeof(link) - 1) > 0 && strstr(link, "inotify") &&
            ioctl(atoi(e->d_name), FIONREAD, &n) == 0)
            any |= n > 0;
    }
    closedir(d);
    return any;
}

/* Scans and looks for the base, events that wait for them, halves of renames that wait for the other. */
FIXTURE bool watcher_is_busy(const struct watcher *w)
{
    const struct watch_tree *tree;
    DL_FOREACH (w->trees, tree)
        if (tree->moves || tree->job || tree->need_probe || tree->blocked)
            return true;
    return w->jobs || w->held || loop_task_waiting(&w->kick_task);
}

FIXTURE bool is_idle(struct rig *r)
{
    const struct source *s = r->w.source;
    bool busy = s->outbox || s->told || s->check || s->unsaved || s->saves > 0 || s->full_scan;
    if (!busy)
        g_tree_foreach(s->files, is_busy_file, &busy);
    return !busy && !watcher_is_busy(r->w.env.watcher) && !kernel_has_events();
}

/* Nothing is under way, and nothing comes for a while. */
FIXTURE bool is_quiet(struct rig *r)
{
    int64_t now = loop_now_ms(&r->loop);
    if (!is_idle(r))
        r->quiet_since = 0;
    else if (r->quiet_since == 0)
        r->quiet_since = now;
    return r->quiet_since > 0 && now - r->quiet_since >= QUIET_MS;
}

/* ---- life ---- */

/* Until what was written before differs from what is written from now on by the stamps of the file system, whose clock
 * moves by ticks of some milliseconds. */
FIXTURE void rig_tick(void)
{
    struct stat first = {0}, now;
    do {
        int fd = memfd_create("tick", MFD_CLOEXEC);
        assert_int_equal(fstat(fd, &now), 0);
        close(fd);
        if (first.st_ctim.tv_sec == 0)
            first = now;
        usleep(500);
    } while (now.st_ctim.tv_sec == first.st_ctim.tv_sec && now.st_ctim.tv_nsec == first.st_ctim.tv_nsec);
}

FIXTURE void rig_start_only(struct rig *r, const char *config)
{
    rig_tick();
    _cleanup_(freep) char *json = config ? xasprintf("{\"path\": \"%s/%s}", r->data, config) : NULL;
    world_start(&r->w, json);
}

/* `config` goes on behind `{"path": "DATA/`: `*", "debounce_seconds": 0`. NULL: as before. */
FIXTURE void rig_start(struct rig *r, const char *config)
{
    rig_start_only(r, config);
    WAIT(r, is_ready);
}

FIXTURE void rig_stop(struct rig *r)
{
    if (!r->w.source || r->w.stopped)
        return;
    world_stop_begin(&r->w);
    WAIT(r, is_gone);
}

/* Stop, and what was not yet committed is lost. */
FIXTURE void rig_crash(struct rig *r)
{
    world_stop_begin(&r->w);
    world_lose(&r->w);
    WAIT(r, is_gone);
}

FIXTURE int rig_setup(void **state)
{
    struct rig *r = xcalloc(1, sizeof(*r));
    world_init(&r->w, &source_file_watch);
    strcpy(r->root, "/tmp/test_file_watch.XXXXXX");
    assert_non_null(mkdtemp(r->root));
    snprintf(r->data, sizeof(r->data), "%s/data", r->root);
    assert_int_equal(mkdir(r->data, 0755), 0);
    assert_int_equal(loop_init(&r->loop), 0);
    timer_init(&r->tick, on_tick, r);
    r->w.env.loop = &r->loop;
    r->w.env.timers = &r->loop.timers;
    r->w.env.clock = clock_system();
    assert_int_equal(watcher_create(&r->loop, NULL, &r->w.env.watcher, NULL), 0);
    *state = r;
    return 0;
}

FIXTURE int rig_teardown(void **state)
{
    struct rig *r = *state;
    rig_stop(r);
    watcher_close(r->w.env.watcher, NULL, NULL);
    world_work(&r->w);
    loop_run(&r->loop);
    world_fini(&r->w);
    assert_int_equal(loop_fini(&r->loop), 0);
    remove_all(r->root);
    free(r);
    return 0;
}

/* ---- expectations ---- */

/* `created a.txt`, `moved old new`: from the data, with paths from the watched directory. */
FIXTURE char *line_of(struct rig *r, const struct told *t)
{
    const char *path = value_get_string(t->data, "path"), *old = value_get_string(t->data, "old_path");
    const char *event = value_get_string(t->data, "event");
    size_t skip = strlen(r->data) + 1;
    _cleanup_(freep) char *type = xasprintf("file_%s", event);
    assert_string_equal(t->event_type, type);
    assert_true(strncmp(path, r->data, skip - 1) == 0);
    if (old)
        return xasprintf("%s %s %s", event, old + skip, path + skip);
    return xasprintf("%s %s", event, path + skip);
}

FIXTURE int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Exactly these, in any order, separated by commas; then they are forgotten. */
FIXTURE void expect_(struct rig *r, const char *wanted, int line)
{
    rig_wait_(r, is_quiet, "quiet", line);
    char *lines[64];
    size_t n = 0;
    const struct told *t;
    struct buf got = {0};
    buf_adds(&got, "");
    DL_FOREACH (r->w.events, t)
        if (n < ARRAY_SIZE(lines))
            lines[n++] = line_of(r, t);
    qsort(lines, n, sizeof(*lines), by_text);
    for (size_t i = 0; i < n; i++) {
        buf_printf(&got, "%s%s", i ? ", " : "", lines[i]);
        free(lines[i]);
    }
    bool same = streq(got.data, wanted);
    if (!same)
        print_error("expected: %s\n     got: %s\n", wanted, got.data);
    buf_fini(&got);
    if (!same)
        fail_msg("line %d", line);
    world_forget_events(&r->w);
}
#define EXPECT(r, wanted) expect_(r, wanted, __LINE__)

#endif
