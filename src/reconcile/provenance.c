/* Work trees: when git is asked, and what the files know from it.
 *
 *   a reference moved (watched) ─► look (pool): HEAD ─► it did not move: that is all
 *                                                    └► it did: once more with all files ─► commit and states at once
 *   a pass ─► look with the files that changed; it waits a moment for that, unless it did in vain the last time
 *
 * The commit is one object for all of a work tree, so that a new HEAD costs nothing a resource; only files whose entry
 * differs between the two trees are read again. At most one look a work tree is under way outside of passes; one that
 * hangs delays nothing, the end of the program by at most a second.
 */
#include "reconcile/internal.h"

#include "base/log.h"

#include <stdio.h>

#define AGAIN_MS 50  /* between two looks at one work tree */
#define HUNG_MS 1000 /* not waited for longer at the end */

struct spot {
    char *dir;
    char **names; /* beside those that every repository has */
    size_t n_names;
    struct worktree *w;
    struct watch_tree *tree;
};

static void look(struct worktree *w);
static void look_done(void *ctx);

/* ---- jobs ---- */

static void worktree_unref(struct worktree *w)
{
    if (--w->refs > 0)
        return;
    free(w->start);
    free(w->root);
    free(w->tree);
    free(w->trouble);
    free(w);
}

static struct git_job *job_new(struct worktree *w)
{
    struct git_job *job = xcalloc(1, sizeof(*job));
    job->w = w;
    w->refs++;
    job->r = w->r;
    job->seq = w->seq;
    job->began_ms = reconcile_now(w->r);
    job->look.lib = w->r->git;
    job->start = xstrdup(w->start);
    job->look.start = job->start;
    job->look.nested = w->nested;
    snprintf(job->look.known_root, sizeof(job->look.known_root), "%s", w->root ? w->root : "");
    snprintf(job->look.known_tree, sizeof(job->look.known_tree), "%s", w->tree ? w->tree : "");
    return job;
}

void git_job_drop(struct git_job *job)
{
    for (size_t i = 0; job->counted && i < job->look.n_files; i++)
        origin_unref(job->origins[i]);
    git_look_fini(&job->look);
    worktree_unref(job->w);
    free(job->start);
    free(job->look.files);
    free(job->origins);
    free(job);
}

void git_job_add(struct git_job *job, struct origin *origin, enum origin_state known)
{
    struct git_look *l = &job->look;
    if (l->n_files == job->cap) {
        job->cap = MAX(job->cap * 2, (size_t)16);
        l->files = xreallocarray(l->files, job->cap, sizeof(*l->files));
        job->origins = xreallocarray(job->origins, job->cap, sizeof(*job->origins));
    }
    job->origins[l->n_files] = origin;
    l->files[l->n_files++] = (struct git_file){.path = origin->file, .state = (uint8_t)known, .stored = origin->stored};
}

static void add_all(struct git_job *job)
{
    job->all = job->counted = true;
    for (const struct file *f = job->r->files; f; f = f->hh.next)
        if (f->present && f->origin->commit == job->w->commit)
            git_job_add(job, origin_ref(f->origin), f->origin->state);
}

/* ---- what to watch ---- */

static bool spot_wants(const struct spot *s, const char *name)
{
    /* What says where HEAD is, and what makes a directory a repository. */
    static const char *const always[] = {"HEAD", "packed-refs", "config", "objects", "refs", "commondir"};
    for (size_t i = 0; i < ARRAY_SIZE(always); i++)
        if (streq(always[i], name))
            return true;
    for (size_t i = 0; i < s->n_names; i++)
        if (streq(s->names[i], name))
            return true;
    return false;
}

static void spot_event(void *ctx, const struct watch_event *ev)
{
    const struct spot *s = ctx;
    if (ev->kind != WATCH_FOUND && (spot_wants(s, ev->path) || (ev->old_path && spot_wants(s, ev->old_path))))
        look(s->w);
}

static void spot_came(void *ctx, const struct watch_stat *stat)
{
    (void)stat;
    look(((struct spot *)ctx)->w);
}

static void spot_gone(void *ctx)
{
    look(((struct spot *)ctx)->w);
}

/* It is a file (a linked work tree has such a `.git`), and another one than before. */
static void spot_error(void *ctx, const struct error *error)
{
    (void)error;
    look(((struct spot *)ctx)->w);
}

static void spot_close(struct spot *s)
{
    if (s->w->r->watcher) /* else it is closed, and its trees with it */
        watcher_remove_tree(s->tree);
    for (size_t i = 0; i < s->n_names; i++)
        free(s->names[i]);
    free(s->names);
    free(s->dir);
    free(s);
}

static struct spot *spot_find(struct spot *const *spots, size_t n, const char *dir)
{
    for (size_t i = 0; i < n; i++)
        if (streq(spots[i]->dir, dir))
            return spots[i];
    return NULL;
}

static struct spot *spot_open(struct worktree *w, const char *dir)
{
    struct spot *s = xcalloc(1, sizeof(*s));
    s->dir = xstrdup(dir);
    s->w = w;
    s->tree = watcher_add_tree(w->r->watcher, &(struct watch_tree_options){.base = dir,
                                                                           .mask = IN_CLOSE_WRITE,
                                                                           .event = spot_event,
                                                                           .base_came = spot_came,
                                                                           .base_gone = spot_gone,
                                                                           .overflow = spot_gone,
                                                                           .error = spot_error,
                                                                           .ctx = s});
    return s;
}

/* Spots that stay keep their watches. */
static void watch_places(struct worktree *w, const struct git_look *l)
{
    struct spot **old = w->spots;
    size_t n_old = w->n_spots;
    w->spots = xcalloc(l->n_places, sizeof(struct spot *));
    w->n_spots = 0;
    for (size_t i = 0; i < l->n_places; i++) {
        const struct git_place *p = &l->places[i];
        struct spot *s = spot_find(w->spots, w->n_spots, p->dir);
        if (!s) {
            s = spot_find(old, n_old, p->dir);
            for (size_t j = 0; s && j < s->n_names; j++)
                free(s->names[j]);
            s = s ? s : spot_open(w, p->dir);
            s->n_names = 0;
            w->spots[w->n_spots++] = s;
        }
        if (p->name) {
            s->names = xreallocarray(s->names, s->n_names + 1, sizeof(char *));
            s->names[s->n_names++] = xstrdup(p->name);
        }
    }
    for (size_t i = 0; i < n_old; i++)
        if (!spot_find(w->spots, w->n_spots, old[i]->dir))
            spot_close(old[i]);
    free(old);
}

/* ---- taking over ---- */

static void replace(char **slot, const char *text)
{
    char *copy = text && *text ? xstrdup(text) : NULL;
    free(*slot);
    *slot = copy;
}

static void tell(struct worktree *w, const struct git_look *l, bool moved)
{
    if (moved && l->id[0])
        log_at(LOG_LEVEL_INFO, AREA, LOG_FIELDS({"commit", l->id}), "%s is at commit %.12s \"%s\"", w->start, l->id,
               l->subject);
    else if (moved)
        log_info(AREA, "%s: no commit any more%s%s", w->start, l->trouble[0] ? ": " : "", l->trouble);
    else if (l->trouble[0] && !streq(w->trouble, l->trouble))
        log_debug(AREA, "%s: no commit is shown: %s", w->start, l->trouble);
    replace(&w->trouble, l->trouble);
}

static bool same_tree(const struct worktree *w, const struct git_look *l)
{
    return streq(w->root ? w->root : "", l->root) && streq(w->tree ? w->tree : "", l->tree);
}

static void take_over(struct worktree *w, struct git_job *job)
{
    const struct git_look *l = &job->look;
    w->slow = false;
    if (l->gone)
        return; /* as its resources, the commit stays as it was */
    bool moved = commit_set(w->commit, l->id[0] ? l->id : NULL, l->subject, l->authored_ms);
    bool changed = moved;
    for (size_t i = 0; i < l->n_files; i++) {
        changed = changed || job->origins[i]->state != l->files[i].state;
        job->origins[i]->state = l->files[i].state;
        /* What is kept is as of the tree that the work tree has. */
        job->origins[i]->stored =
            job->all || same_tree(w, l) ? l->files[i].stored : (struct stored){.kind = STORED_UNKNOWN};
    }
    if (job->all) {
        replace(&w->root, l->root);
        replace(&w->tree, l->tree);
    } else if (!same_tree(w, l)) {
        w->all = w->again = true;
    }
    w->seq++;
    tell(w, l, moved);
    watch_places(w, l);
    if (changed && w->r->first_done && w->r->options.changed)
        w->r->options.changed(w->r->options.ctx);
}

/* ---- looks of their own ---- */

static void worktree_remove(struct worktree *w);

static void look_work(void *ctx)
{
    struct git_job *job = ctx;
    git_look_run(&job->look);
}

static void pass_look_done(void *ctx)
{
    struct git_job *job = ctx;
    struct reconcile *r = job->r;
    struct pass *p = job->pass;
    job->finished = true;
    if (!p) {
        look_done(job);
        return;
    }
    pass_git_done(p); /* the job may be gone then */
    loop_group_release(&r->group);
}

void provenance_submit(struct git_job *job, struct pass *p)
{
    job->pass = p;
    loop_group_hold(&job->r->group);
    loop_work_submit(job->r->loop, &job->work, look_work, pass_look_done, job);
}

/* It goes on as a look of its own. */
void provenance_late(struct git_job *job)
{
    struct worktree *w = job->w;
    job->pass = NULL;
    job->counted = true;
    for (size_t i = 0; i < job->look.n_files; i++)
        origin_ref(job->origins[i]);
    w->slow = true;
    if (!w->dead)
        w->job = job;
}

static void look_submit(struct worktree *w, bool all)
{
    struct git_job *job = job_new(w);
    if (all)
        add_all(job);
    w->job = job;
    w->again = w->all = false;
    w->looked_ms = job->began_ms;
    loop_timer_stop(w->r->loop, &w->timer);
    loop_group_hold(&w->r->group);
    loop_work_submit(w->r->loop, &job->work, look_work, look_done, job);
}

static void look_done(void *ctx)
{
    struct git_job *job = ctx;
    struct worktree *w = job->w;
    struct reconcile *r = job->r;
    if (!r) { /* it was left behind, with what it uses */
        git_job_drop(job);
        return;
    }
    const struct git_look *l = &job->look;
    w->job = NULL;
    if (r->closing || w->dead) {
        w->again = false;
    } else if (w->nested && (l->gone || !l->root[0])) {
        worktree_remove(w);
    } else if (r->pass || job->seq != w->seq) { /* that looks later, or did */
        w->again = true;
        w->all = w->all || job->all;
    } else if (!job->all && !l->gone && !same_tree(w, l)) {
        look_submit(w, true);
    } else {
        take_over(w, job);
    }
    if (!w->dead && w->again)
        look(w);
    git_job_drop(job);
    loop_group_release(&r->group);
}

static void on_again(struct timer *timer, void *ctx)
{
    (void)timer;
    struct worktree *w = ctx;
    if (w->job || w->r->pass)
        w->again = true;
    else
        look_submit(w, w->all || !w->root);
}

static void look(struct worktree *w)
{
    struct reconcile *r = w->r;
    w->again = true;
    if (r->closing || w->job || r->pass || timer_active(&w->timer))
        return;
    timer_start(&r->loop->timers, &w->timer, MAX(reconcile_now(r), w->looked_ms + AGAIN_MS));
}

void provenance_go_on(struct reconcile *r)
{
    struct worktree *w;
    DL_FOREACH (r->worktrees, w)
        if (w->again)
            look(w);
}

/* ---- looks within passes and edits ---- */

static struct worktree *worktree_of(struct reconcile *r, const char *path)
{
    struct worktree *w, *found = NULL;
    const struct dir *d = dir_of(r, path);
    DL_FOREACH (r->worktrees, w)
        if (w->dir == d && strncmp(path, w->start, w->start_len) == 0 && path[w->start_len] == '/' &&
            (!found || w->start_len > found->start_len))
            found = w;
    return found;
}

struct commit *provenance_commit(struct reconcile *r, const char *path)
{
    const struct worktree *w = worktree_of(r, path);
    return w ? w->commit : NULL;
}

struct git_job *provenance_begin(struct reconcile *r, const struct file *f)
{
    struct worktree *w = worktree_of(r, f->path);
    return w && w->commit->id && !w->job && !w->slow ? job_new(w) : NULL;
}

void provenance_end(struct git_job *job)
{
    if (!job)
        return;
    if (!job->w->dead && !job->r->closing)
        take_over(job->w, job);
    git_job_drop(job);
}

void provenance_changed(struct reconcile *r, struct file *f, enum origin_state guess)
{
    struct worktree *w = worktree_of(r, f->path);
    f->origin->state = (uint8_t)(w && w->commit->id ? guess : ORIGIN_UNKNOWN);
    f->origin->stored.kind = STORED_UNKNOWN; /* so that it is looked at */
    if (!w)
        return;
    w->all = true;
    if (w->commit->id || w->job || timer_active(&w->timer)) /* else there is nothing to compare it with */
        look(w);
}

/* ---- work trees ---- */

static struct worktree *worktree_new(struct dir *d, const char *start, bool nested)
{
    struct worktree *w = xcalloc(1, sizeof(*w));
    w->r = d->r;
    w->dir = d;
    w->start = xstrdup(start);
    w->start_len = strlen(start);
    w->nested = nested;
    w->refs = 1;
    w->commit = commit_new();
    w->looked_ms = INT64_MIN / 2;
    timer_init(&w->timer, on_again, w);
    DL_APPEND(d->r->worktrees, w);
    return w;
}

static void worktree_close(struct worktree *w)
{
    w->dead = true;
    w->again = false;
    DL_DELETE(w->r->worktrees, w);
    loop_timer_stop(w->r->loop, &w->timer);
    for (size_t i = 0; i < w->n_spots; i++)
        spot_close(w->spots[i]);
    free(w->spots);
    w->spots = NULL;
    w->n_spots = 0;
    commit_unref(w->commit);
    w->commit = NULL;
    worktree_unref(w);
}

/* All below it belong to another now. */
static void assign(struct worktree *w, struct commit *from)
{
    for (struct file *f = w->r->files; f; f = f->hh.next) {
        if (f->origin->commit != from || worktree_of(w->r, f->path) != w)
            continue;
        origin_set_commit(f->origin, w->commit);
        f->origin->state = ORIGIN_UNKNOWN;
        f->origin->stored.kind = STORED_UNKNOWN;
    }
    w->all = true;
    look(w);
}

static void worktree_remove(struct worktree *w)
{
    struct reconcile *r = w->r;
    struct commit *commit = commit_ref(w->commit);
    _cleanup_(freep) char *start = xstrdup(w->start);
    worktree_close(w);
    struct worktree *outer = worktree_of(r, start);
    if (outer)
        assign(outer, commit);
    commit_unref(commit);
}

void provenance_git_seen(struct dir *d, const char *dir)
{
    _cleanup_(freep) char *start = *dir ? xasprintf("%s/%s", d->path, dir) : xstrdup(d->path);
    _cleanup_(freep) char *inside = xasprintf("%s/", start);
    struct worktree *w = worktree_of(d->r, inside);
    if (!w || streq(w->start, start)) {
        if (w)
            look(w);
        return;
    }
    assign(worktree_new(d, start, true), w->commit);
}

void provenance_dir_moved(struct dir *d, const char *from, const char *to)
{
    struct worktree *w, *next;
    _cleanup_(freep) char *old = xasprintf("%s/%s", d->path, from);
    size_t len = strlen(old);
    DL_FOREACH_SAFE (d->r->worktrees, w, next) {
        if (!w->nested || w->dir != d || strncmp(w->start, old, len) != 0 || (w->start[len] && w->start[len] != '/'))
            continue;
        _cleanup_(freep) char *now = xasprintf("%s%s", to, w->start + len);
        look(w); /* gone from there */
        provenance_git_seen(d, now);
    }
}

void provenance_dir_changed(struct reconcile *r, const struct dir *d)
{
    struct worktree *w;
    DL_FOREACH (r->worktrees, w)
        if (w->dir == d)
            look(w);
}

/* It ends by itself, or never: what it uses is left to it. */
static void on_hung(struct timer *timer, void *ctx)
{
    (void)timer;
    struct reconcile *r = ctx;
    struct worktree *w;
    DL_FOREACH (r->worktrees, w) {
        if (!w->job)
            continue;
        log_warning(AREA, "%s: the repository does not answer", w->start);
        w->job->r = NULL;
        w->job = NULL;
        r->git = NULL;
        loop_group_release(&r->group);
    }
}

void provenance_start(struct reconcile *r)
{
    r->git = git_lib_create();
    timer_init(&r->hung, on_hung, r);
    for (size_t i = 0; i < r->n_dirs; i++)
        worktree_new(&r->dirs[i], r->dirs[i].path, false);
}

void provenance_stop(struct reconcile *r)
{
    struct worktree *w;
    DL_FOREACH (r->worktrees, w)
        loop_timer_stop(r->loop, &w->timer);
    loop_timer_start(r->loop, &r->hung, HUNG_MS);
}

void provenance_free(struct reconcile *r)
{
    loop_timer_stop(r->loop, &r->hung);
    struct worktree *w, *next;
    DL_FOREACH_SAFE (r->worktrees, w, next)
        worktree_close(w);
    git_lib_destroy(r->git);
}
