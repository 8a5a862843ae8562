/* The folders of resources: made by mkdir before there is one, and what happens to a resource whose manifest.yaml was
 * removed. */
#include "fs/manifest.h"

#include "fs/scratch.h"

/* ---- folders without a resource ---- */

struct node *new_dir_find(struct node *parent, const char *name)
{
    struct node *n = node_find(parent, name);
    return n && n->kind == NODE_NEW ? n : NULL;
}

struct node *new_dir_add(struct node *parent, const char *name)
{
    struct fs *fs = parent->fs;
    struct new_dir *d = xcalloc(1, sizeof(*d));
    d->node = node_get(parent, name, NODE_NEW, ++fs->generations);
    DL_APPEND(fs->new_dirs, d);
    return d->node;
}

static void new_dir_free(struct new_dir *d)
{
    DL_DELETE(d->node->fs->new_dirs, d);
    scratch_forget_below(d->node);
    node_unname(d->node);
    node_unref(d->node);
    free(d);
}

bool new_dir_remove(struct node *parent, const char *name)
{
    struct fs *fs = parent->fs;
    struct new_dir *d, *next;
    DL_FOREACH_SAFE (fs->new_dirs, d, next) {
        if (d->node->parent != parent || !streq(d->node->name, name))
            continue;
        new_dir_free(d);
        return true;
    }
    return false;
}

bool new_dir_is(const struct fs *fs, enum resource_kind kind, const char *id)
{
    const struct new_dir *d;
    enum resource_kind its;
    DL_FOREACH (fs->new_dirs, d)
        if (streq(node_resource(d->node, &its), id) && its == kind)
            return true;
    return false;
}

/* ---- resources without a manifest ---- */

static struct absence *absence_find(const struct fs *fs, enum resource_kind kind, const char *id)
{
    struct absence *a;
    DL_FOREACH (fs->absences, a)
        if (a->kind == kind && streq(a->id, id))
            return a;
    return NULL;
}

static void absence_free(struct absence *a)
{
    loop_timer_stop(a->fs->loop, &a->timer);
    DL_DELETE(a->fs->absences, a);
    free(a->id);
    free(a);
}

static void removed(void *ctx, const struct put_result *r)
{
    struct fs *fs = ctx;
    if (r->code < 0)
        log_warning(AREA, "a manifest that was removed could not be: %s", r->message ? r->message : "");
    fs_release(fs);
}

static void on_due(struct timer *timer, void *ctx)
{
    (void)timer;
    struct absence *a = ctx;
    fs_hold(a->fs);
    reconcile_put_resource(a->fs->api->reconcile, a->kind, a->id, NULL, 0, 0, removed, a->fs);
    absence_free(a);
}

bool is_absent(const struct fs *fs, enum resource_kind kind, const char *id)
{
    return absence_find(fs, kind, id) != NULL;
}

void absence_begin(struct fs *fs, enum resource_kind kind, const char *id)
{
    struct absence *a = absence_find(fs, kind, id);
    if (!a) {
        a = xcalloc(1, sizeof(*a));
        a->fs = fs;
        a->kind = kind;
        a->id = xstrdup(id);
        timer_init(&a->timer, on_due, a);
        DL_APPEND(fs->absences, a);
    }
    loop_timer_start(fs->loop, &a->timer, GRACE_MS);
}

void absence_end(struct fs *fs, enum resource_kind kind, const char *id)
{
    struct absence *a = absence_find(fs, kind, id);
    if (a)
        absence_free(a);
}

void absence_pause(struct fs *fs, enum resource_kind kind, const char *id)
{
    struct absence *a = absence_find(fs, kind, id);
    if (a)
        loop_timer_stop(fs->loop, &a->timer);
}

void absence_resume(struct fs *fs, enum resource_kind kind, const char *id)
{
    struct absence *a = absence_find(fs, kind, id);
    if (a && !timer_active(&a->timer))
        loop_timer_start(fs->loop, &a->timer, GRACE_MS);
}

/* ---- files that went a moment ago ---- */

static struct departed *departed_find(const struct fs *fs, const char *path)
{
    struct departed *d;
    DL_FOREACH (fs->departed, d)
        if (streq(d->path, path))
            return d;
    return NULL;
}

static void departed_free(struct departed *d)
{
    loop_timer_stop(d->fs->loop, &d->timer);
    DL_DELETE(d->fs->departed, d);
    text_unref(d->text);
    free(d->path);
    free(d);
}

static void on_departed(struct timer *timer, void *ctx)
{
    (void)timer;
    departed_free(ctx);
}

void departed_add(struct fs *fs, const char *path, struct text *text)
{
    struct departed *d = departed_find(fs, path);
    if (d)
        departed_free(d);
    d = xcalloc(1, sizeof(*d));
    d->fs = fs;
    d->path = xstrdup(path);
    d->text = text_ref(text);
    timer_init(&d->timer, on_departed, d);
    DL_APPEND(fs->departed, d);
    loop_timer_start(fs->loop, &d->timer, GRACE_MS);
}

struct text *departed_take(struct fs *fs, const char *path)
{
    struct departed *d = departed_find(fs, path);
    struct text *t = d ? text_ref(d->text) : NULL;
    if (d)
        departed_free(d);
    return t;
}

/* ---- the end of a session ---- */

void home_free(struct fs *fs)
{
    struct absence *a, *next_absence;
    struct departed *d, *next_departed;
    struct new_dir *n, *next_dir;
    DL_FOREACH_SAFE (fs->absences, a, next_absence) /* its text is where it was: what was asked did not happen */
        absence_free(a);
    DL_FOREACH_SAFE (fs->departed, d, next_departed)
        departed_free(d);
    DL_FOREACH_SAFE (fs->new_dirs, n, next_dir)
        new_dir_free(n);
}
