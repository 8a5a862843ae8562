#include "base/inotify_internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utlist.h>

#define TREE_MASK (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF)
#define TREE_FLAGS (IN_ONLYDIR | IN_EXCL_UNLINK)

static void fd_release(struct inotify_fd *fd)
{
    if (--fd->users > 0)
        return;
    close(fd->fd);
    free(fd);
}

/* ---- work ---- */

static void run_job(void *ctx)
{
    struct watch_job *job = ctx;
    if (job->is_probe)
        probe_run(&job->probe);
    else
        scan_run(&job->scan);
}

static void on_job_done(void *ctx);

static void submit_job(struct watcher *w, struct watch_job *job)
{
    w->submit(w->loop, &job->work, run_job, on_job_done, job);
}

static void free_job(struct watch_job *job)
{
    if (job->is_probe)
        probe_fini(&job->probe);
    else
        scan_fini(&job->scan);
    fd_release(job->fd);
    free(job);
}

static char *scan_path(const struct watch_tree *tree, const struct watch_dir *dir)
{
    struct buf path = {0};
    dir_path(dir, NULL, &path);
    char *full =
        dir->key->parent ? xasprintf("%s/%s", tree->real, path.data) : xstrdup(tree->real[0] ? tree->real : "/");
    buf_fini(&path);
    return full;
}

static void fill_scan(struct watch_tree *tree, struct scan *scan)
{
    while (scan->count < SCAN_DIRS_MAX && tree->todo_from < tree->todo_end) {
        struct watch_dir *dir = tree->todo[tree->todo_from++];
        if (!dir)
            continue;
        dir->queued = false;
        dir->scanning = true;
        scan_add(scan, dir, scan_path(tree, dir), dir == tree->root);
    }
}

static bool has_work(struct watch_tree *tree)
{
    while (tree->todo_from < tree->todo_end && !tree->todo[tree->todo_from]) /* removed meanwhile */
        tree->todo_from++;
    return tree->need_probe || tree->todo_from < tree->todo_end;
}

static void start_job(struct watch_tree *tree)
{
    struct watcher *w = tree->watcher;
    struct watch_job *job = xcalloc(1, sizeof(*job));
    uint32_t mask = TREE_MASK | TREE_FLAGS | tree->options.mask;
    job->watcher = w;
    job->tree = tree;
    job->fd = w->fd;
    job->fd->users++;
    job->is_probe = tree->need_probe;
    if (job->is_probe) {
        tree->need_probe = false;
        probe_init(&job->probe, w->fd->fd, w->avoid, mask, tree->base);
    } else {
        scan_init(&job->scan, w->fd->fd, w->avoid, mask);
        fill_scan(tree, &job->scan);
        tree->scanned_any = true;
    }
    if (!tree->blocked) {
        tree->blocked = true;
        tree->blocked_since = w->seq;
    }
    tree->job = job;
    DL_APPEND(w->jobs, job);
    w->job_count++;
    submit_job(w, job);
}

static void on_kick(void *ctx)
{
    struct watcher *w = ctx;
    struct watch_tree *tree, *next, *last = w->trees ? w->trees->prev : NULL;
    DL_FOREACH_SAFE (w->trees, tree, next) {
        if (w->job_count >= WATCHER_JOBS_MAX)
            return;
        if (!tree->job && has_work(tree)) {
            start_job(tree);
            DL_DELETE(w->trees, tree); /* to the end, so that each has its turn */
            DL_APPEND(w->trees, tree);
        }
        if (tree == last)
            return;
    }
}

static void base_is_gone(struct watch_tree *tree)
{
    bool tell_it = tree->state != BASE_GONE || tree->failed;
    watch_tree_give_up_moves(tree);
    if (tree->dead)
        return;
    if (tree->root)
        watch_dir_remove(tree->root);
    tree->state = BASE_GONE;
    tree->scanned_any = false; /* what was scanned is gone, and so are its errors */
    tree->errors = 0;
    if (tell_it)
        watch_tree_tell_simple(tree, tree->options.base_gone);
}

static void base_is_here(struct watch_tree *tree, struct probe *probe)
{
    bool was_watched = tree->root && tree->root->user.wd >= 0;
    bool same =
        tree->root && !tree->root->deleted &&
        (was_watched ? tree->root->user.wd == probe->wd : tree->dev == probe->stat.dev && tree->ino == probe->stat.ino);
    if (tree->root && !same)
        base_is_gone(tree);
    if (tree->dead) {
        watcher_note_unused(tree->watcher, probe->wd);
        return;
    }
    free(tree->real);
    tree->real = steal(&probe->real);
    tree->dev = probe->stat.dev;
    tree->ino = probe->stat.ino;
    if (!same)
        tree->root = watch_dir_add(tree, NULL, "");
    if (tree->rescan || !same || !was_watched)
        watch_dir_queue(tree->root);
    watcher_attach(tree->watcher, &tree->root->user, probe->wd);
    if (!same) {
        tree->state = BASE_HERE;
        if (tree->options.base_came)
            tree->options.base_came(tree->options.ctx, &probe->stat);
    } else if (!was_watched) { /* and for a while */
        watch_tree_tell_simple(tree, tree->options.overflow);
    }
}

static void free_links(struct watcher *w, struct watch_link *links, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        watcher_detach(w, &links[i].user);
        free(links[i].missing);
    }
}

/* A directory was watched for a name to appear, and is not any more. Its wd may stay for other reasons, and with it the
 * kernel's mask, which can only be widened without harm: every file made in /tmp would wake us. So the watch goes, if
 * only links use it; its IN_IGNORED makes them look again, and watch it for what they want now. */
static void narrow_watch(struct watcher *w, int wd)
{
    const struct watch_user *user = wd_find(w->users, wd);
    if (!user)
        return;
    for (; user; user = user->next)
        if (!user->is_link || container_of(user, struct watch_link, user)->missing)
            return;
    inotify_rm_watch(w->fd->fd, wd);
}

static void apply_probe(struct watch_tree *tree, struct probe *probe)
{
    struct watcher *w = tree->watcher;
    struct watch_link *old = tree->links;
    size_t old_count = tree->link_count;
    tree->links = xcalloc(probe->count, sizeof(*tree->links));
    tree->link_count = probe->count;
    for (size_t i = 0; i < probe->count; i++) {
        struct watch_link *link = &tree->links[i];
        link->user.wd = -1;
        link->user.is_link = true;
        link->tree = tree;
        link->mask = probe->links[i].mask;
        link->missing = steal(&probe->links[i].missing);
        watcher_attach(w, &link->user, probe->links[i].wd);
    }
    /* Only now, so that a wd that both use stays. */
    int waited = old_count > 0 && old[old_count - 1].missing ? old[old_count - 1].user.wd : -1;
    free_links(w, old, old_count);
    free(old);
    narrow_watch(w, waited);
    if (probe->outcome == PROBE_HERE) {
        tree->failed = false;
        base_is_here(tree, probe);
    } else {
        base_is_gone(tree);
        tree->failed = probe->outcome == PROBE_FAILED;
        if (probe->outcome == PROBE_FAILED || probe->err.code == -ENOTDIR) {
            tree->err = probe->err;
            tree->errors = 1;
        }
    }
    tree->rescan = false;
}

static bool has_vanished(int code)
{
    return code == -ENOENT || code == -ENOTDIR || code == -ESTALE;
}

static void apply_begin(struct watcher *w, const struct scan_dir *scanned, const struct scan_record *record)
{
    struct watch_dir *dir = scanned->dir, *child;
    if (!dir) {
        watcher_note_unused(w, record->wd);
        return;
    }
    if (record->wd >= 0) {
        watcher_attach(w, &dir->user, record->wd);
        dir->deleted = false;
    } else if (record->code < 0 && !has_vanished(record->code)) {
        watch_tree_note_error(dir->tree, scanned->path, record->code);
    }
    DL_FOREACH (dir->children, child)
        child->seen = false;
}

static void apply_end(const struct scan_dir *scanned, const struct scan_record *record)
{
    struct watch_dir *dir = scanned->dir, *child, *next;
    struct watch_tree *tree = dir->tree;
    dir->scanning = false;
    if (has_vanished(record->code) && dir == tree->root) {
        tree->rescan = true;
        watch_tree_need_probe(tree);
    } else if (has_vanished(record->code)) {
        watch_dir_remove(dir);
    } else if (record->code < 0) {
        watch_tree_note_error(tree, scanned->path, record->code);
    } else {
        DL_FOREACH_SAFE (dir->children, child, next)
            if (!child->seen)
                watch_dir_remove(child);
    }
}

static void apply_entry(struct watch_dir *dir, const char *name, const struct watch_stat *stat)
{
    struct watch_tree *tree = dir->tree;
    bool is_dir = (stat->mode & S_IFMT) == S_IFDIR;
    dir_path(dir, name, &tree->watcher->path);
    const char *path = tree->watcher->path.data;
    struct watch_dir *child = is_dir ? watch_dir_want(dir, name, path) : NULL;
    if (child)
        child->seen = true;
    watch_tree_tell(tree, &(struct watch_event){.kind = WATCH_FOUND, .path = path, .is_dir = is_dir, .stat = stat});
}

/* A directory that leaves the tree meanwhile (by a callback, with its tree) is NULL in scan->dirs from there on. */
static void apply_scan(struct watcher *w, struct scan *scan)
{
    for (size_t i = 0; i < scan->record_count; i++) {
        const struct scan_record *record = &scan->records[i];
        const struct scan_dir *scanned = &scan->dirs[record->dir];
        if (record->kind == SCAN_BEGIN)
            apply_begin(w, scanned, record);
        else if (scanned->dir && record->kind == SCAN_ENTRY)
            apply_entry(scanned->dir, scan->names.data + record->name, &record->stat);
        else if (scanned->dir && record->kind == SCAN_END)
            apply_end(scanned, record);
    }
}

/* The result of work for a tree that is gone. */
static void discard_job(struct watcher *w, const struct watch_job *job)
{
    if (job->is_probe) {
        watcher_note_unused(w, job->probe.wd);
        for (size_t i = 0; i < job->probe.count; i++)
            watcher_note_unused(w, job->probe.links[i].wd);
    } else {
        for (size_t i = 0; i < job->scan.record_count; i++)
            if (job->scan.records[i].kind == SCAN_BEGIN)
                watcher_note_unused(w, job->scan.records[i].wd);
    }
}

/* All work of the tree is done: tell, and give it what waited. */
static void unblock(struct watch_tree *tree)
{
    struct watcher *w = tree->watcher;
    if (tree->overflowed) { /* what waited is not whole: once more */
        tree->blocked_since = w->seq;
        watch_tree_overflow(tree);
        return;
    }
    tree->blocked = false;
    bool scanned = tree->scanned_any;
    tree->scanned_any = false;
    watch_tree_tell_errors(tree);
    if (scanned)
        watch_tree_tell_simple(tree, tree->options.scanned);
    watch_tree_replay(tree);
    if (!w->closing)
        watcher_arm_moves(w);
}

static void on_job_done(void *ctx)
{
    struct watch_job *job = ctx;
    struct watcher *w = job->watcher;
    struct watch_tree *tree = job->tree;
    if (!w) {
        free_job(job);
        return;
    }
    watcher_enter(w);
    if (!tree)
        discard_job(w, job);
    else if (job->is_probe)
        apply_probe(tree, &job->probe);
    else
        apply_scan(w, &job->scan);
    tree = job->tree; /* NULL now, if a callback has removed it */
    if (tree && !job->is_probe && !job->scan.finished) {
        submit_job(w, job);
        watcher_leave(w);
        return;
    }
    if (job->watcher) {
        DL_DELETE(w->jobs, job);
        w->job_count--;
    }
    free_job(job);
    if (tree) {
        tree->job = NULL;
        tree->work_epoch = w->epoch;
        if (!has_work(tree))
            unblock(tree);
    }
    if (!w->closing) {
        watcher_read_events(w); /* to the end, so that the epoch moves on */
        watcher_kick(w);
    }
    watcher_leave(w);
}

/* ---- the owner's calls ---- */

static void on_readable(void *ctx, int fd, int events, int status)
{
    (void)fd;
    (void)events;
    (void)status;
    watcher_read_events(ctx);
}

int watcher_create(struct loop *loop, watcher_submit_fn *submit, struct watcher **ret, struct error *err)
{
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (fd < 0 && errno == EMFILE)
        return error_set(err, -EMFILE, "too many inotify instances or open files (fs.inotify.max_user_instances)");
    if (fd < 0)
        return error_set(err, -errno, "inotify: %s", watch_reason(-errno));
    struct watcher *w = xcalloc(1, sizeof(*w));
    w->loop = loop;
    w->submit = submit ? submit : loop_work_submit;
    loop_group_init(&w->group, loop);
    int r = loop_poll_init(&w->group, &w->poll, fd, on_readable, w);
    if (r == 0)
        r = loop_poll_start(&w->poll, UV_READABLE);
    if (r < 0) { /* of the first: nothing is open */
        close(fd);
        free(w);
        return error_set(err, r, "inotify: %s", watch_reason(r));
    }
    w->fd = xcalloc(1, sizeof(*w->fd));
    *w->fd = (struct inotify_fd){.fd = fd, .users = 1};
    w->mounts_fd = -1;
    w->epoch = 1;
    loop_task_init(&w->kick_task, on_kick, w);
    timer_init(&w->move_timer, watcher_on_move_timeout, w);
    *ret = w;
    return 0;
}

void watcher_avoid(struct watcher *w, const struct self_mount *self)
{
    w->avoid = self;
}

void watcher_look_again(struct watcher *w)
{
    struct watch_tree *tree;
    DL_FOREACH (w->trees, tree)
        watch_tree_need_probe(tree);
}

static void on_mounts(void *ctx, int fd, int events, int status)
{
    (void)fd;
    (void)events;
    struct watcher *w = ctx;
    if (status < 0) /* it is told as an error */
        loop_poll_start(&w->mounts, UV_PRIORITIZED);
    watcher_look_again(w);
}

void watcher_follow_mounts(struct watcher *w)
{
    int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (loop_poll_init(&w->group, &w->mounts, fd, on_mounts, w) < 0) {
        close(fd);
        return;
    }
    w->mounts_fd = fd;
    loop_poll_start(&w->mounts, UV_PRIORITIZED);
}

static void on_closed(void *ctx)
{
    struct watcher *w = ctx;
    void (*done)(void *) = w->done;
    void *done_ctx = w->done_ctx;
    while (w->held) {
        struct held *held = w->held;
        w->held = held->next;
        free(held);
    }
    buf_fini(&w->path);
    buf_fini(&w->old_path);
    free(w->unused);
    closep(&w->mounts_fd);
    fd_release(w->fd);
    free(w);
    if (done)
        done(done_ctx);
}

void watcher_close(struct watcher *w, void (*done)(void *ctx), void *ctx)
{
    struct watch_job *job;
    assert(!w->closing);
    w->closing = true;
    w->done = done;
    w->done_ctx = ctx;
    watcher_enter(w);
    while (w->trees)
        watcher_remove_tree(w->trees);
    watcher_leave(w);
    while ((job = w->jobs)) {
        DL_DELETE(w->jobs, job);
        job->watcher = NULL;
    }
    loop_task_cancel(w->loop, &w->kick_task);
    timer_stop(&w->loop->timers, &w->move_timer);
    loop_group_close(&w->group, on_closed, w);
}

struct watch_tree *watcher_add_tree(struct watcher *w, const struct watch_tree_options *options)
{
    assert(options->base[0] == '/' && options->event && !w->closing);
    struct watch_tree *tree = xcalloc(1, sizeof(*tree));
    tree->watcher = w;
    tree->options = *options;
    tree->options.mask &= IN_ALL_EVENTS & ~(uint32_t)(IN_DELETE_SELF | IN_MOVE_SELF);
    tree->base = xstrdup(options->base);
    tree->options.base = tree->base;
    DL_APPEND(w->trees, tree);
    watch_tree_need_probe(tree);
    return tree;
}

void watcher_remove_tree(struct watch_tree *tree)
{
    if (!tree || tree->dead)
        return;
    struct watcher *w = tree->watcher;
    watcher_enter(w);
    tree->dead = true;
    if (tree->root)
        watch_dir_remove(tree->root);
    free_links(w, tree->links, tree->link_count);
    tree->link_count = 0;
    while (tree->moves) {
        struct move *move = tree->moves;
        DL_DELETE(tree->moves, move);
        free(move);
    }
    if (tree->job)
        tree->job->tree = NULL;
    DL_DELETE(w->trees, tree);
    LL_PREPEND(w->dead_trees, tree);
    watcher_leave(w);
}

void watcher_retry(struct watch_tree *tree)
{
    tree->rescan = true;
    watch_tree_need_probe(tree);
}

size_t watch_tree_dirs(const struct watch_tree *tree)
{
    return tree->dir_count;
}
