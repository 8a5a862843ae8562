/* Where links lead: a manifest that is a link changes with the file at its end, wherever that lies. Each name on the way
 * to it is watched in its directory; directories (which may be reached through links too) are the watcher's matter. */
#include "reconcile/internal.h"

#include <string.h>

/* ---- what happens there ---- */

static void mark(const struct link_target *t, bool writing, bool created)
{
    for (size_t i = 0; i < t->n_files; i++) {
        file_mark_dirty(t->spot->r, t->files[i]);
        t->files[i]->writing = writing;
        t->files[i]->created = created;
    }
    watch_burst(t->spot->r);
}

static void mark_all(const struct link_spot *s)
{
    for (const struct link_target *t = s->r->link_targets; t; t = t->hh.next)
        if (t->spot == s)
            mark(t, false, false);
}

static void mark_name(const struct link_spot *s, const char *name, bool writing, bool created)
{
    const struct link_target *t = NULL;
    _cleanup_(freep) char *path = xasprintf("%s/%s", s->dir, name);
    HASH_FIND_STR(s->r->link_targets, path, t);
    if (t)
        mark(t, writing, created);
}

static void spot_event(void *ctx, const struct watch_event *ev)
{
    const struct link_spot *s = ctx;
    bool changed = ev->kind == WATCH_CHANGED && !ev->is_dir;
    if (ev->kind == WATCH_FOUND) /* base_came said so of all */
        return;
    mark_name(s, ev->path, changed && (ev->mask & (IN_CREATE | IN_MODIFY)), changed && (ev->mask & IN_CREATE));
    if (ev->old_path)
        mark_name(s, ev->old_path, false, false);
}

/* Watched from here on: what was read before may be old. */
static void spot_came(void *ctx, const struct watch_stat *stat)
{
    (void)stat;
    mark_all(ctx);
}

static void spot_gone(void *ctx)
{
    mark_all(ctx);
}

/* ---- what is watched ---- */

static struct link_spot *spot_get(struct reconcile *r, const char *dir, size_t len)
{
    struct link_spot *s = NULL;
    HASH_FIND(hh, r->link_spots, dir, len, s);
    if (s)
        return s;
    s = xcalloc(1, sizeof(*s) + len + 1);
    s->r = r;
    memcpy(s->dir, dir, len);
    HASH_ADD_KEYPTR(hh, r->link_spots, s->dir, len, s);
    s->tree = watcher_add_tree(r->watcher, &(struct watch_tree_options){.base = len > 0 ? s->dir : "/",
                                                                        .mask = IN_CLOSE_WRITE | IN_MODIFY,
                                                                        .event = spot_event,
                                                                        .base_came = spot_came,
                                                                        .base_gone = spot_gone,
                                                                        .overflow = spot_gone,
                                                                        .ctx = s});
    return s;
}

static void spot_unref(struct link_spot *s)
{
    if (--s->refs > 0)
        return;
    if (s->r->watcher) /* else it is closed, and its trees with it */
        watcher_remove_tree(s->tree);
    HASH_DELETE(hh, s->r->link_spots, s);
    free(s);
}

static struct link_target *target_add(struct reconcile *r, const char *path, struct file *f)
{
    struct link_target *t = NULL;
    size_t len = strlen(path);
    HASH_FIND(hh, r->link_targets, path, len, t);
    if (!t) {
        t = xcalloc(1, sizeof(*t) + len + 1);
        memcpy(t->path, path, len);
        t->spot = spot_get(r, path, (size_t)(strrchr(path, '/') - path));
        t->spot->refs++;
        HASH_ADD_KEYPTR(hh, r->link_targets, t->path, len, t);
    }
    t->files = xreallocarray(t->files, t->n_files + 1, sizeof(struct file *));
    t->files[t->n_files++] = f;
    return t;
}

static void target_remove(struct reconcile *r, struct link_target *t, const struct file *f)
{
    for (size_t i = 0; i < t->n_files; i++) {
        if (t->files[i] != f)
            continue;
        t->files[i] = t->files[--t->n_files];
        break;
    }
    if (t->n_files > 0)
        return;
    HASH_DELETE(hh, r->link_targets, t);
    spot_unref(t->spot);
    free(t->files);
    free(t);
}

static bool leads_to(const struct file *f, char *const *paths, size_t n)
{
    for (size_t i = 0; i < n && n == f->n_leads; i++)
        if (!streq(f->leads[i]->path, paths[i]))
            return false;
    return n == f->n_leads;
}

void links_set(struct reconcile *r, struct file *f, char *const *paths, size_t n)
{
    struct link_target **old = f->leads;
    size_t n_old = f->n_leads;
    if (leads_to(f, paths, n) || (n > 0 && !r->watcher))
        return;
    f->leads = n > 0 ? xcalloc(n, sizeof(struct link_target *)) : NULL;
    f->n_leads = n;
    for (size_t i = 0; i < n; i++) /* before the old ones go: what stays is not watched anew */
        f->leads[i] = target_add(r, paths[i], f);
    for (size_t i = 0; i < n_old; i++)
        target_remove(r, old[i], f);
    free(old);
}
