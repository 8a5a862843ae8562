/* Trees and their events become dirty files, bursts of them passes.
 *
 * A pass takes what is dirty and not being written, reads it on the pool, then looks at the directories themselves: a
 * file that is missing counts as deleted only where its directory was still the same one after the read.
 */
#include "reconcile/internal.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* ---- passes ---- */

static int by_order(const void *a, const void *b)
{
    const struct read_job *x = a, *y = b;
    if (x->file->dir != y->file->dir)
        return x->file->dir->index < y->file->dir->index ? -1 : 1;
    return strcmp(x->path, y->path);
}

static bool has_new_text(const struct read_job *job)
{
    return job->status == READ_TEXT || job->status == READ_ERROR;
}

static void pass_work(void *ctx)
{
    struct pass *p = ctx;
    for (size_t i; (i = p->next++) < p->n;)
        read_job_run(&p->jobs[i]);
    if (--p->running > 0)
        return;
    for (size_t i = 0; i < p->r->n_dirs; i++)
        dir_look_run(&p->looks[i]);
}

static struct dir_look *looks_new(const struct reconcile *r)
{
    struct dir_look *looks = xcalloc(r->n_dirs, sizeof(*looks));
    for (size_t i = 0; i < r->n_dirs; i++)
        looks[i].path = r->dirs[i].path;
    return looks;
}

static void pass_request(struct reconcile *r);

/* The look at the work tree of a file that is read; one for all of them. */
static struct git_job *git_job_of(struct pass *p, const struct file *f)
{
    struct git_job *git;
    DL_FOREACH (p->git, git)
        if (git->w->commit == f->origin->commit)
            return git;
    git = provenance_begin(p->r, f);
    if (git)
        DL_APPEND(p->git, git);
    return git;
}

static void pass_apply(struct pass *p)
{
    struct reconcile *r = p->r;
    struct git_job *git, *next;
    loop_timer_stop(r->loop, &r->git_wait);
    r->pass = NULL;
    for (size_t i = 0; i < p->n; i++)
        p->jobs[i].file->busy--;
    DL_FOREACH_SAFE (p->git, git, next) {
        DL_DELETE(p->git, git);
        provenance_end(git);
    }
    for (size_t i = 0; i < p->n && !r->closing; i++)
        if (has_new_text(&p->jobs[i]) && !p->jobs[i].looked)
            provenance_changed(r, p->jobs[i].file, ORIGIN_UNKNOWN);
    if (!r->closing) {
        apply_results(r, p->jobs, p->n, p->looks);
        if (!r->closing) { /* its callbacks may stop us */
            watch_schedule(r);
            if (r->again)
                pass_request(r);
            provenance_go_on(r);
        }
    }
    for (size_t i = 0; i < p->n; i++)
        read_job_fini(&p->jobs[i]);
    free(p->jobs);
    free(p->looks);
    free(p);
    loop_group_release(&r->group);
}

/* ---- what git says of it, where that does not take long ---- */

void pass_git_done(struct pass *p)
{
    if (--p->git_left == 0)
        pass_apply(p);
}

/* A repository that does not answer: the pass goes on without it. */
static void watch_git_late(struct timer *timer, void *ctx)
{
    (void)timer;
    struct reconcile *r = ctx;
    struct pass *p = r->pass;
    struct git_job *git, *next;
    DL_FOREACH_SAFE (p->git, git, next) {
        if (git->finished)
            continue;
        DL_DELETE(p->git, git);
        for (size_t i = 0; i < p->n; i++)
            p->jobs[i].looked = p->jobs[i].looked && p->jobs[i].git != git;
        provenance_late(git);
    }
    pass_apply(p);
}

/* What of the pass changed is compared with HEAD, unless it is very much. False: there is nothing to ask. */
static bool ask_git(struct pass *p)
{
    struct git_job *git, *next;
    for (size_t i = 0; i < p->n; i++)
        if (p->jobs[i].git && (has_new_text(&p->jobs[i]) || p->jobs[i].status == READ_GONE))
            p->jobs[i].git->wanted++;
    for (size_t i = 0; i < p->n; i++) {
        struct read_job *job = &p->jobs[i];
        job->looked = job->git && has_new_text(job) && job->git->wanted <= GIT_FILES_MAX;
        if (job->looked)
            git_job_add(job->git, job->file->origin, ORIGIN_UNKNOWN);
    }
    DL_FOREACH_SAFE (p->git, git, next) {
        if (git->wanted > 0) {
            p->git_left++;
            provenance_submit(git, p);
        } else {
            DL_DELETE(p->git, git);
            git_job_drop(git);
        }
    }
    if (p->git)
        loop_timer_start(p->r->loop, &p->r->git_wait, GIT_WAIT_MS);
    return p->git != NULL;
}

static void pass_done(void *ctx)
{
    struct pass *p = ctx;
    if (--p->left == 0 && (p->r->closing || !ask_git(p)))
        pass_apply(p);
}

/* May it be read now? One that is held open waits, unless it does so for too long, or it may be a link. */
static bool is_ready(const struct reconcile *r, const struct file *f, int64_t now)
{
    return f->dir && f->dir->here && f->dir->scanned &&
           (!f->writing || f->created || now >= f->dirty_ms + r->delays.writer_ms);
}

/* A directory whose mode changed says nothing of what is in it, nor does everything that a link may lead to: what could
 * not be read is tried again with every pass. */
static void broken_again(struct reconcile *r)
{
    for (size_t i = 0; i < r->n_broken; i++)
        if (r->broken[i]->dir)
            file_mark_dirty(r, r->broken[i]);
}

/* ---- directories that came or went ---- */

struct folder {
    UT_hash_handle hh;
    char path[]; /* absolute */
};

static void folder_changed(struct dir *d, const char *path)
{
    struct folder *found = NULL;
    _cleanup_(freep) char *full = xasprintf("%s/%s", d->path, path);
    size_t len = strlen(full);
    HASH_FIND(hh, d->r->folders, full, len, found);
    if (found)
        return;
    found = xcalloc(1, sizeof(*found) + len + 1);
    memcpy(found->path, full, len);
    HASH_ADD_KEYPTR(hh, d->r->folders, found->path, len, found);
}

static bool in_folder(const struct reconcile *r, const struct file *f)
{
    const struct folder *found = NULL;
    const char *at = f->dir ? f->path + f->dir->path_len + 1 : NULL;
    for (const char *slash; at && !found && (slash = strchr(at, '/')); at = slash + 1)
        HASH_FIND(hh, r->folders, f->path, (size_t)(slash - f->path), found);
    return found != NULL;
}

/* All that is known below them is read again: one walk, however many they are. */
static void folders_again(struct reconcile *r)
{
    struct file *f, *next;
    if (!r->folders)
        return;
    HASH_ITER (hh, r->files, f, next) {
        if (!in_folder(r, f))
            continue;
        file_mark_dirty(r, f);
        f->writing = f->created = false;
    }
    watch_free(r);
}

void watch_free(struct reconcile *r)
{
    struct folder *list = r->folders, *next;
    HASH_CLEAR(hh, r->folders); /* the table alone; the items stay linked */
    for (; list; list = next) {
        next = list->hh.next;
        free(list);
    }
}

static void pass_start(struct reconcile *r)
{
    struct pass *p = xcalloc(1, sizeof(*p));
    int64_t now = reconcile_now(r);
    r->passes++;
    broken_again(r);
    folders_again(r);
    size_t cap = 0;
    struct file *f;
    p->r = r;
    DL_FOREACH (r->dirty, f)
        cap += is_ready(r, f, now);
    p->jobs = xcalloc(cap, sizeof(*p->jobs));
    DL_FOREACH (r->dirty, f) {
        if (!is_ready(r, f, now))
            continue;
        p->jobs[p->n++] = (struct read_job){
            .file = f,
            .epoch = f->epoch,
            .path = f->path,
            .avoid = r->options.avoid,
            .known = f->text != NULL,
            .hash = f->hash,
            .len = f->len,
            .wait_if_empty = f->writing && now < f->dirty_ms + r->delays.writer_ms,
            .git = git_job_of(p, f),
        };
        f->busy++;
    }
    if (p->n > 1)
        qsort(p->jobs, p->n, sizeof(*p->jobs), by_order);
    p->looks = looks_new(r);
    unsigned workers = p->n < 16 ? 1 : PASS_WORKERS;
    p->left = workers;
    p->running = workers;
    r->pass = p;
    r->again = false;
    r->burst_ms = -1;
    loop_timer_stop(r->loop, &r->burst);
    loop_timer_stop(r->loop, &r->late);
    loop_timer_stop(r->loop, &r->grace);
    loop_timer_stop(r->loop, &r->patience); /* is over with the first pass */
    loop_group_hold(&r->group);
    for (unsigned i = 0; i < workers; i++)
        loop_work_submit(r->loop, &p->work[i], pass_work, pass_done, p);
}

/* Before the first pass every directory must have answered, or `patience` be over. */
static bool is_early(const struct reconcile *r)
{
    if (r->first_done || !timer_active(&r->patience))
        return false;
    for (size_t i = 0; i < r->n_dirs; i++)
        if (!r->dirs[i].told)
            return true;
    return false;
}

static void pass_request(struct reconcile *r)
{
    if (r->closing || !r->started || is_early(r))
        return;
    if (r->pass)
        r->again = true;
    else
        pass_start(r);
}

static void on_due(struct timer *timer, void *ctx)
{
    (void)timer;
    pass_request(ctx);
}

void watch_burst(struct reconcile *r)
{
    if (r->closing || !r->started)
        return;
    int64_t now = reconcile_now(r);
    if (r->burst_ms < 0)
        r->burst_ms = now;
    int64_t end = MIN(now + r->delays.quiet_ms, r->burst_ms + r->delays.burst_max_ms);
    timer_start(&r->loop->timers, &r->burst, end);
}

void watch_schedule(struct reconcile *r)
{
    int64_t late = INT64_MAX, grace = INT64_MAX;
    const struct file *f;
    const struct resource *res;
    DL_FOREACH (r->dirty, f)
        if (f->writing)
            late = MIN(late, f->dirty_ms + r->delays.writer_ms);
    DL_FOREACH2(r->missing, res, mnext)
    {
        grace = MIN(grace, res->due_ms);
    }
    if (late < INT64_MAX)
        timer_start(&r->loop->timers, &r->late, late);
    if (grace < INT64_MAX)
        timer_start(&r->loop->timers, &r->grace, grace);
}

/* ---- events ---- */

/* Is each part of the relative path one that is read? */
bool watch_path_ok(const char *path)
{
    const char *name = path;
    for (const char *slash; (slash = strchr(name, '/')); name = slash + 1)
        if (name[0] == '.')
            return false;
    return manifest_name_ok(name) && utf8_valid(path, strlen(path));
}

static struct file *file_at(struct dir *d, const char *path, bool make)
{
    if (!watch_path_ok(path))
        return NULL;
    _cleanup_(freep) char *full = xasprintf("%s/%s", d->path, path);
    return make ? file_get(d->r, full) : file_find(d->r, full);
}

/* All that is known below a directory is to be read again, also where it was renamed to. */
static void below_moved(struct dir *d, const char *path, const char *to)
{
    struct reconcile *r = d->r;
    struct file *f, *next;
    _cleanup_(freep) char *prefix = xasprintf("%s/%s/", d->path, path);
    size_t len = strlen(prefix);
    HASH_ITER (hh, r->files, f, next) {
        if (strncmp(f->path, prefix, len) != 0)
            continue;
        file_mark_dirty(r, f);
        f->writing = f->created = false;
        _cleanup_(freep) char *there = xasprintf("%s/%s", to, f->path + len);
        struct file *now = file_at(d, there, true);
        if (!now)
            continue;
        file_mark_dirty(r, now);
        free(f->renamed_to);
        f->renamed_to = xstrdup(now->path);
    }
}

/* Kubernetes swaps what `..data` points to: links that go through it lead elsewhere then. */
static void links_changed(struct dir *d)
{
    struct file *f, *next;
    if (d->links_marked == d->r->passes + 1) /* nothing has read them since */
        return;
    d->links_marked = d->r->passes + 1;
    HASH_ITER (hh, d->r->files, f, next) {
        if (f->dir == d && f->is_link)
            file_mark_dirty(d->r, f);
    }
}

static void file_event(struct dir *d, const struct watch_event *ev)
{
    struct file *f = file_at(d, ev->path, true);
    struct file *old = ev->kind == WATCH_MOVED ? file_at(d, ev->old_path, false) : NULL;
    if (old) {
        file_mark_dirty(d->r, old);
        old->writing = old->created = false;
        if (f) {
            free(old->renamed_to);
            old->renamed_to = xstrdup(f->path);
        }
    }
    if (!f)
        return;
    file_mark_dirty(d->r, f);
    f->seen = true;
    if (ev->kind == WATCH_FOUND || (ev->mask & IN_ATTRIB))
        return;
    f->created = ev->kind == WATCH_CHANGED && (ev->mask & IN_CREATE);
    f->writing = ev->kind == WATCH_CHANGED && (ev->mask & (IN_CREATE | IN_MODIFY));
}

static void dir_event(struct dir *d, const struct watch_event *ev)
{
    if (ev->kind == WATCH_FOUND || !(ev->mask & (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO)))
        return;
    if (ev->kind == WATCH_MOVED)
        below_moved(d, ev->old_path, ev->path);
    else
        folder_changed(d, ev->path);
    if (ev->kind == WATCH_MOVED)
        provenance_dir_moved(d, ev->old_path, ev->path);
    struct file *f = file_at(d, ev->path, false); /* a directory took its place */
    if (f)
        file_mark_dirty(d->r, f);
}

static void on_event(void *ctx, const struct watch_event *ev)
{
    struct dir *d = ctx;
    const char *slash = strrchr(ev->path, '/'), *name = slash ? slash + 1 : ev->path;
    if (ev->is_dir)
        dir_event(d, ev);
    else
        file_event(d, ev);
    if (strncmp(name, "..", 2) == 0)
        links_changed(d);
    if (streq(name, ".git")) {
        _cleanup_(freep) char *parent = xstrndup(ev->path, slash ? (size_t)(slash - ev->path) : 0);
        provenance_git_seen(d, parent);
    }
    watch_burst(d->r);
}

static bool on_descend(void *ctx, const char *dir)
{
    (void)ctx;
    const char *slash = strrchr(dir, '/');
    return (slash ? slash[1] : dir[0]) != '.';
}

/* ---- bases ---- */

static void expect_all(struct dir *d)
{
    struct file *f, *next;
    d->rescan = true;
    HASH_ITER (hh, d->r->files, f, next) {
        if (f->dir == d)
            f->seen = false;
    }
}

static void dir_told(struct dir *d)
{
    bool early = is_early(d->r);
    d->told = true;
    if (early && !is_early(d->r))
        pass_request(d->r); /* the last that the first pass waited for */
    else
        watch_burst(d->r);
}

static void on_came(void *ctx, const struct watch_stat *stat)
{
    struct dir *d = ctx;
    d->suspect = d->suspect || (d->told && d->r->first_done);
    d->here = true;
    d->scanned = d->moved = false;
    d->dev = stat->dev;
    d->ino = stat->ino;
    free(d->error);
    d->error = NULL;
    expect_all(d);
    provenance_dir_changed(d->r, d);
}

static void on_base_gone(void *ctx)
{
    struct dir *d = ctx;
    d->here = d->scanned = false;
    dir_told(d);
}

static void on_scanned(void *ctx)
{
    struct dir *d = ctx;
    struct file *f, *next;
    d->scanned = true;
    if (d->rescan) {
        HASH_ITER (hh, d->r->files, f, next) {
            if (f->dir == d && !f->seen)
                file_mark_dirty(d->r, f);
        }
    }
    d->rescan = false;
    dir_told(d);
}

static void on_overflow(void *ctx)
{
    expect_all(ctx);
}

static void check_later(struct reconcile *r);

static void on_error(void *ctx, const struct error *error)
{
    struct dir *d = ctx;
    if (!streq(d->error, error->message))
        log_warning(AREA, "%s: %s", d->path, error->message);
    free(d->error);
    d->error = xstrdup(error->message);
    d->failed = true;
    check_later(d->r);
}

void watch_look_again(struct reconcile *r, struct dir *d)
{
    d->retried_ms = reconcile_now(r);
    d->failed = false;
    expect_all(d);
    watcher_retry(d->tree);
}

void watch_reload(struct reconcile *r)
{
    struct file *f, *next;
    HASH_ITER (hh, r->files, f, next) {
        if (f->dir)
            file_mark_dirty(r, f);
    }
    for (size_t i = 0; i < r->n_dirs; i++)
        watch_look_again(r, &r->dirs[i]);
    watch_burst(r);
}

/* ---- what no event tells ---- */

static void check_work(void *ctx)
{
    struct reconcile *r = ctx;
    for (size_t i = 0; i < r->n_dirs; i++)
        dir_look_run(&r->checking[i]);
}

/* Only what failed is looked at again by the clock. */
static void check_later(struct reconcile *r)
{
    bool failed = r->mounts_fd < 0;
    for (size_t i = 0; i < r->n_dirs; i++)
        failed = failed || r->dirs[i].failed;
    if (failed && !r->closing && !r->checking && !timer_active(&r->check))
        loop_timer_start(r->loop, &r->check, r->delays.check_ms);
}

static void check_done(void *ctx)
{
    struct reconcile *r = ctx;
    for (size_t i = 0; i < r->n_dirs && !r->closing; i++) {
        struct dir *d = &r->dirs[i];
        const struct dir_look *look = &r->checking[i];
        bool same = look->code == 0 ? d->here && look->dev == d->dev && look->ino == d->ino : !d->here;
        if (d->failed || !same)
            watch_look_again(r, d);
    }
    free(r->checking);
    r->checking = NULL;
    check_later(r);
    loop_group_release(&r->group);
}

static void on_check(struct timer *timer, void *ctx)
{
    (void)timer;
    struct reconcile *r = ctx;
    r->checking = looks_new(r);
    loop_group_hold(&r->group);
    loop_work_submit(r->loop, &r->check_work, check_work, check_done, r);
}

/* Something was mounted or unmounted somewhere: perhaps over a manifest directory, or over what it is in. */
static void on_mounts(void *ctx, int fd, int events, int status)
{
    (void)fd, (void)events;
    struct reconcile *r = ctx;
    if (status < 0)
        loop_poll_start(&r->mounts, UV_PRIORITIZED);
    if (!r->checking && !r->closing)
        on_check(&r->check, r);
}

/* ---- life ---- */

int watch_open(struct reconcile *r, struct error *err)
{
    timer_init(&r->burst, on_due, r);
    timer_init(&r->late, on_due, r);
    timer_init(&r->grace, on_due, r);
    timer_init(&r->patience, on_due, r);
    timer_init(&r->check, on_check, r);
    timer_init(&r->git_wait, watch_git_late, r);
    int rc = watcher_create(r->loop, NULL, &r->watcher, err);
    if (rc < 0)
        return rc;
    watcher_avoid(r->watcher, r->options.avoid);
    r->mounts_fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    if (r->mounts_fd >= 0 && (loop_poll_init(&r->group, &r->mounts, r->mounts_fd, on_mounts, r) < 0 ||
                              loop_poll_start(&r->mounts, UV_PRIORITIZED) < 0)) {
        loop_close(&r->mounts.handle, NULL, NULL);
        close(r->mounts_fd);
        r->mounts_fd = -1;
    }
    return 0;
}

void watch_start(struct reconcile *r)
{
    for (size_t i = 0; i < r->n_dirs; i++) {
        struct dir *d = &r->dirs[i];
        d->rescan = true;
        d->tree = watcher_add_tree(r->watcher, &(struct watch_tree_options){
                                                   .base = d->path,
                                                   .mask = IN_CLOSE_WRITE | IN_MODIFY | IN_ATTRIB,
                                                   .recursive = true,
                                                   .descend = on_descend,
                                                   .event = on_event,
                                                   .base_came = on_came,
                                                   .base_gone = on_base_gone,
                                                   .scanned = on_scanned,
                                                   .overflow = on_overflow,
                                                   .error = on_error,
                                                   .ctx = d,
                                               });
    }
    loop_timer_start(r->loop, &r->patience, r->delays.first_ms);
    check_later(r);
    if (r->n_dirs == 0)
        pass_request(r);
}

void watch_stop_timers(struct reconcile *r)
{
    struct timer *timers[] = {&r->burst, &r->late, &r->grace, &r->check, &r->patience};
    for (size_t i = 0; i < ARRAY_SIZE(timers); i++)
        loop_timer_stop(r->loop, timers[i]);
}
