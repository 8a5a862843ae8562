/* What changed: the watcher's events, applied to the picture of what is known and what is there. See file_watch.h. */
#include "source/file_watch.h"

#include <sys/stat.h>
#include <uthash.h>

/* ---- files ---- */

struct file *watched_find(const struct source *s, const char *path)
{
    return g_tree_lookup(s->files, path);
}

struct file *watched_get(struct source *s, const char *path)
{
    struct file *f = watched_find(s, path);
    if (f)
        return f;
    size_t size = strlen(path) + 1;
    f = xcalloc(1, sizeof(*f) + size);
    memcpy(f->path, path, size);
    g_tree_insert(s->files, f->path, f);
    return f;
}

void watched_reap(struct source *s, struct file *f)
{
    if (f->known || f->here || f->p || f->busy || f->to || f->from || f->unsaved || f->saving > 0)
        return;
    g_tree_remove(s->files, f->path);
    free(f);
}

static gboolean free_file(gpointer key, gpointer value, gpointer ctx)
{
    (void)key;
    (void)ctx;
    struct file *f = value;
    file_pending_free(f);
    free(f);
    return FALSE;
}

void watched_free(struct source *s)
{
    g_tree_foreach(s->files, free_file, NULL);
    g_tree_destroy(s->files);
    s->files = NULL;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(a, b);
}

void watched_init(struct source *s)
{
    s->files = g_tree_new(by_path);
}

/* Some files, collected before something is done to them that may change the tree. */
struct some {
    struct file **items;
    size_t n, cap;
};

static void some_add(struct some *some, struct file *f)
{
    if (some->n == some->cap) {
        some->cap = some->cap ? some->cap * 2 : 16;
        some->items = xreallocarray(some->items, some->cap, sizeof(*some->items));
    }
    some->items[some->n++] = f;
}

/* What has this path, and what is below it. */
static void some_below(const struct source *s, const char *path, struct some *ret)
{
    struct file *f = watched_find(s, path);
    if (f)
        some_add(ret, f);
    _cleanup_(freep) char *prefix = xasprintf("%s/", path);
    size_t len = strlen(prefix);
    for (GTreeNode *node = g_tree_lower_bound(s->files, prefix); node; node = g_tree_node_next(node)) {
        f = g_tree_node_value(node);
        if (strncmp(f->path, prefix, len) != 0)
            break;
        some_add(ret, f);
    }
}

static void some_all(const struct source *s, struct some *ret)
{
    for (GTreeNode *node = g_tree_node_first(s->files); node; node = g_tree_node_next(node))
        some_add(ret, g_tree_node_value(node));
}

/* ---- pending changes ---- */

static void leave_list(struct pending *p)
{
    struct source *s = p->source;
    timer_stop(s->env.timers, &p->timer);
    if (p->state == PENDING_DUE)
        DL_DELETE(s->todo, p);
    else if (p->state == PENDING_READY)
        DL_DELETE(s->ready, p);
    p->state = PENDING_QUIET;
}

void file_pending_free(struct file *f)
{
    if (!f->p)
        return;
    leave_list(f->p);
    free(steal(&f->p));
}

static void on_quiet(struct timer *timer, void *ctx)
{
    (void)timer;
    struct pending *p = ctx;
    struct source *s = p->source;
    file_track_enter(s);
    p->waited |= p->slow;
    file_pending_due(s, p->file);
    file_track_leave(s);
}

static struct pending *pending_get(struct source *s, struct file *f)
{
    if (f->p)
        return f->p;
    struct pending *p = f->p = xcalloc(1, sizeof(*p));
    p->source = s;
    p->file = f;
    timer_init(&p->timer, on_quiet, p);
    return p;
}

void file_pending_due(struct source *s, struct file *f)
{
    struct pending *p = f->p;
    leave_list(p);
    p->state = f->here ? PENDING_DUE : PENDING_READY;
    if (f->here)
        DL_APPEND(s->todo, p);
    else
        DL_APPEND(s->ready, p);
}

void file_pending_wait(struct source *s, struct file *f, int64_t delay_ms)
{
    struct pending *p = pending_get(s, f);
    leave_list(p);
    p->number = ++s->changes;
    p->slow = delay_ms >= FILE_SLOW_MS;
    if (delay_ms == 0 || s->at_once)
        file_pending_due(s, f);
    else
        timer_start(s->env.timers, &p->timer, clock_monotonic_ms(s->env.clock) + delay_ms);
}

/* Something happened just now. */
static struct pending *changed(struct source *s, struct file *f, bool counts)
{
    struct pending *p = pending_get(s, f);
    p->changes += counts;
    p->changed_ms = clock_realtime_ms(s->env.clock);
    p->looks = 0;
    p->waited = false;
    return p;
}

/* Complete, as far as inotify can tell. */
static void settle_soon(struct source *s, struct file *f)
{
    f->p->sure = true;
    f->p->unclosed = false;
    file_pending_wait(s, f, s->debounce_ms);
}

static void settle_slowly(struct source *s, struct file *f)
{
    f->p->sure = false;
    file_pending_wait(s, f, MAX(s->debounce_ms, FILE_SLOW_MS));
}

void file_track_enter(struct source *s)
{
    s->depth++;
}

void file_track_leave(struct source *s)
{
    if (--s->depth > 0)
        return;
    file_check_start(s);
    file_report_pump(s);
}

/* ---- links ---- */

static void link_to(struct file *from, struct file *f)
{
    from->to = f;
    f->from = from;
}

/* What is here was renamed from somewhere, and is not here any more, or is another file now: the old name is gone. */
static void give_back(struct source *s, struct file *f)
{
    struct file *from = f->from;
    if (!from)
        return;
    f->from = NULL;
    from->to = NULL;
    changed(s, from, true)->written |= from->here;
    settle_soon(s, from);
}

void watched_unlink(struct source *s, struct file *from)
{
    struct file *f = from->to;
    if (!f)
        return;
    from->to = NULL;
    f->from = NULL;
    changed(s, f, false)->written = true;
    settle_soon(s, f);
}

/* ---- coming and going ---- */

static void appear(struct source *s, struct file *f, bool is_dir)
{
    if (f->here) /* another one: that the last went was not told */
        give_back(s, f);
    f->here = true;
    f->is_dir = is_dir;
    f->epoch = s->epoch;
}

static void disappear(struct source *s, struct file *f, bool counts)
{
    if (!f->here)
        return;
    give_back(s, f);
    f->here = false;
    changed(s, f, counts);
    settle_soon(s, f);
}

void watched_vanished(struct source *s, struct file *f)
{
    disappear(s, f, true);
}

void watched_missed(struct source *s, struct file *f)
{
    changed(s, f, true);
    settle_soon(s, f);
}

static struct file *wanted(struct source *s, const char *path, bool is_dir)
{
    return file_matches(s, path, is_dir) ? watched_get(s, path) : NULL;
}

static void gone_below(struct source *s, const char *path, bool counts)
{
    struct some some = {0};
    some_below(s, path, &some);
    for (size_t i = 0; i < some.n; i++)
        disappear(s, some.items[i], counts);
    free(some.items);
}

void file_track_gone(struct source *s, const char *path)
{
    gone_below(s, path, true);
}

void file_track_created(struct source *s, const char *path, bool is_dir)
{
    struct file *f = wanted(s, path, is_dir);
    if (f && f->here && f->known && !f->p && !f->to) { /* by a scan that was faster than this event */
        f->known = false;
        file_snapshot_touch(s, f);
    }
    gone_below(s, path, false);
    if (!f)
        return;
    appear(s, f, is_dir);
    struct pending *p = changed(s, f, is_dir);
    p->written = true;
    p->unclosed = p->young = false;
    if (is_dir)
        settle_soon(s, f);
    else
        settle_slowly(s, f);
}

void file_track_came(struct source *s, const char *path, bool is_dir)
{
    file_track_gone(s, path);
    struct file *f = wanted(s, path, is_dir);
    if (!f)
        return;
    appear(s, f, is_dir);
    changed(s, f, true); /* in place of another: its stamp says so */
    settle_soon(s, f);
}

void file_track_written(struct source *s, const char *path)
{
    struct file *f = wanted(s, path, false);
    if (!f)
        return;
    if (!f->here)
        appear(s, f, false);
    struct pending *p = changed(s, f, false);
    p->written = p->unclosed = true;
    settle_slowly(s, f);
}

void file_track_closed(struct source *s, const char *path)
{
    struct file *f = wanted(s, path, false);
    if (!f)
        return;
    if (!f->here)
        appear(s, f, false);
    changed(s, f, true);
    settle_soon(s, f);
}

/* ---- renames ---- */

/* What is at f is at g now; the caller has seen to it that nothing is at g. */
static void move_file(struct source *s, struct file *f, struct file *g)
{
    struct file *origin = f->from;
    if (!origin && (f->known || f->busy) && !f->to)
        origin = f;
    if (f->from) {
        f->from->to = NULL;
        f->from = NULL;
    }
    appear(s, g, f->is_dir);
    struct pending *p = changed(s, g, true);
    if (!origin)
        p->written = true; /* if g is known: by another file than this */
    else if (origin != g)
        link_to(origin, g);
    bool unclosed = f->p && f->p->unclosed, sure = !f->p || f->p->sure;
    if (f->p) {
        p->written |= f->p->written;
        p->changes += f->p->changes;
        file_pending_free(f);
    }
    f->here = false;
    p->unclosed = unclosed;
    if (unclosed || !sure) /* it goes on being made under its new name */
        settle_slowly(s, g);
    else
        settle_soon(s, g);
    if ((f->known || f->busy) && !f->to) { /* its own name is gone: when what is known went with an earlier rename */
        changed(s, f, false);
        settle_soon(s, f);
    }
    watched_reap(s, f);
}

static void move_one(struct source *s, struct file *f, const char *path)
{
    if (!f->here)
        return;
    if (file_matches(s, path, f->is_dir))
        move_file(s, f, watched_get(s, path));
    else
        disappear(s, f, true);
}

void file_track_moved(struct source *s, const char *old_path, const char *path, bool is_dir)
{
    if (!(s->wants & 1u << NET_MOVED)) { /* what remains of a rename: one name went, another came */
        file_track_gone(s, old_path);
        file_track_came(s, path, is_dir);
        return;
    }
    struct some some = {0};
    struct file *f = watched_find(s, old_path);
    bool tracked = f && f->here;
    file_track_gone(s, path);
    some_below(s, old_path, &some);
    for (size_t i = 0; i < some.n; i++) {
        _cleanup_(freep) char *new_path = xasprintf("%s%s", path, some.items[i]->path + strlen(old_path));
        move_one(s, some.items[i], new_path);
    }
    free(some.items);
    if (!tracked)
        file_track_came(s, path, is_dir);
}

/* ---- scans ---- */

static struct file_stamp stamp_of(const struct watch_stat *stat)
{
    return (struct file_stamp){
        .ino = stat->ino, .size = stat->size, .mtime_ns = stat->mtime_ns, .is_dir = S_ISDIR(stat->mode)};
}

void file_track_found(struct source *s, const char *path, const struct watch_stat *stat)
{
    struct file_stamp stamp = stamp_of(stat);
    struct file *f = wanted(s, path, stamp.is_dir);
    if (!f)
        return;
    bool was_here = f->here;
    f->here = true;
    f->is_dir = stamp.is_dir;
    f->epoch = s->epoch;
    bool silent = s->full_scan && s->mode == START_SILENT && !f->busy && !f->p;
    /* Made, changed or moved in since the trigger is there: then it is news. */
    bool young = silent && MAX(stat->mtime_ns, stat->ctime_ns) >= s->began_ns;
    if (silent && !young) {
        f->known = true;
        f->k = stamp;
        file_snapshot_touch(s, f);
        return;
    }
    if (s->full_scan && s->mode == START_ALL && !was_here)
        f->known = false;
    bool as_known = f->known && !f->to && !f->from && !f->busy && file_stamp_same(&f->k, &stamp);
    if (f->p ? was_here && !s->full_scan : as_known)
        return;
    struct pending *p = changed(s, f, false);
    p->stamp = stamp;
    p->young |= young;
    p->unclosed = p->sure = false;
    file_pending_wait(s, f, s->debounce_ms);
}

void file_track_full_scan(struct source *s)
{
    s->epoch++;
    s->full_scan = true;
    s->failed = false;
}

/* A file that is known and gone, by what is the same over a rename. */
struct lost {
    uint64_t ino;
    struct file *file;
    UT_hash_handle hh;
};

/* Renamed while nobody looked: what is new is what is gone elsewhere. */
static void find_renames(struct source *s, const struct some *gone)
{
    struct lost *lost = NULL, *l, *next, *items = xcalloc(gone->n, sizeof(*items));
    for (size_t i = 0; i < gone->n; i++) {
        struct file *f = gone->items[i];
        uint64_t ino = f->k.ino;
        HASH_FIND(hh, lost, &ino, sizeof(ino), l);
        if (!f->known || f->to || f->busy || f->k.is_dir || l)
            continue;
        items[i] = (struct lost){.ino = ino, .file = f};
        HASH_ADD(hh, lost, ino, sizeof(ino), &items[i]);
    }
    for (GTreeNode *node = g_tree_node_first(s->files); node && lost; node = g_tree_node_next(node)) {
        struct file *f = g_tree_node_value(node);
        if (!f->here || f->known || f->from || f->busy || !f->p || f->epoch != s->epoch)
            continue;
        uint64_t ino = f->p->stamp.ino;
        HASH_FIND(hh, lost, &ino, sizeof(ino), l);
        if (!l || !file_stamp_same(&l->file->k, &f->p->stamp))
            continue;
        link_to(l->file, f);
        file_pending_free(l->file);
        HASH_DEL(lost, l);
    }
    HASH_ITER (hh, lost, l, next)
        HASH_DEL(lost, l);
    free(items);
}

void file_track_scanned(struct source *s)
{
    struct some all = {0}, gone = {0};
    if (!s->full_scan)
        return;
    some_all(s, &all);
    for (size_t i = 0; i < all.n && !s->failed; i++) { /* else not everything was looked at */
        struct file *f = all.items[i];
        if (f->epoch == s->epoch)
            continue;
        if (f->here) {
            some_add(&gone, f);
            disappear(s, f, true);
        } else if (f->known && !f->to && !f->p && !f->busy && s->mode == START_SILENT) {
            f->known = false;
            file_snapshot_touch(s, f);
        } else if (f->known && !f->to && !f->p && !f->busy) { /* by an earlier life */
            some_add(&gone, f);
            watched_missed(s, f);
        }
    }
    if (gone.n > 0 && s->wants & 1u << NET_MOVED)
        find_renames(s, &gone);
    free(all.items);
    free(gone.items);
    s->full_scan = false;
    s->mode = START_DIFFER;
}

void file_track_base_gone(struct source *s)
{
    struct some all = {0};
    some_all(s, &all);
    s->at_once = s->urgent = true;
    for (size_t i = 0; i < all.n; i++) {
        struct file *f = all.items[i];
        if (f->here) {
            disappear(s, f, true);
        } else if (f->p) {
            file_pending_wait(s, f, 0);
        } else if (f->known && !f->to && !f->busy) {
            watched_missed(s, f);
        }
    }
    s->at_once = false;
    free(all.items);
}
