/* Life of reconcile, its tables, and what the views see. */
#include "reconcile/internal.h"

#include "base/log.h"

#include <errno.h>

int64_t reconcile_now(const struct reconcile *r)
{
    return loop_now_ms(r->loop);
}

void reconcile_set_delays(struct reconcile *r, const struct reconcile_delays *delays)
{
    r->delays = *delays;
}

/* ---- files ---- */

struct dir *dir_of(struct reconcile *r, const char *path)
{
    for (size_t i = 0; i < r->n_dirs; i++) {
        struct dir *d = &r->dirs[i];
        if (strncmp(path, d->path, d->path_len) == 0 && path[d->path_len] == '/')
            return d;
    }
    return NULL;
}

struct file *file_find(struct reconcile *r, const char *path)
{
    struct file *f = NULL;
    HASH_FIND_STR(r->files, path, f);
    return f;
}

struct file *file_get(struct reconcile *r, const char *path)
{
    struct file *f = file_find(r, path);
    if (f)
        return f;
    f = xcalloc(1, sizeof(*f));
    f->origin = origin_new(path);
    f->path = f->origin->file;
    f->dir = dir_of(r, path);
    origin_set_commit(f->origin, provenance_commit(r, path));
    HASH_ADD_KEYPTR(hh, r->files, f->path, strlen(f->path), f);
    r->files_sorted = false;
    return f;
}

void file_mark_dirty(struct reconcile *r, struct file *f)
{
    f->epoch++;
    if (f->dirty)
        return;
    f->dirty = true;
    f->dirty_ms = reconcile_now(r);
    DL_APPEND(r->dirty, f);
}

void file_clean(struct reconcile *r, struct file *f)
{
    if (f->dirty)
        DL_DELETE(r->dirty, f);
    f->dirty = f->writing = f->created = false;
}

static void file_free(struct reconcile *r, struct file *f)
{
    file_clean(r, f);
    file_forget_manifest(r, f);
    links_set(r, f, NULL, 0);
    HASH_DELETE(hh, r->files, f);
    free(f->renamed_to);
    origin_unref(f->origin);
    free(f);
}

void file_reap(struct reconcile *r, struct file *f)
{
    if (!f->present && !f->owned && !f->dirty && !f->busy)
        file_free(r, f);
}

/* ---- resources ---- */

static char *resource_key(enum resource_kind kind, const char *id)
{
    return xasprintf("%s/%s", resource_kind_name(kind), id);
}

struct resource *resource_find(struct reconcile *r, enum resource_kind kind, const char *id)
{
    struct resource *res = NULL;
    _cleanup_(freep) char *key = resource_key(kind, id);
    HASH_FIND_STR(r->resources, key, res);
    return res;
}

struct resource *resource_get(struct reconcile *r, enum resource_kind kind, const char *id)
{
    struct resource *res = resource_find(r, kind, id);
    if (res)
        return res;
    res = xcalloc(1, sizeof(*res));
    res->kind = kind;
    res->key = resource_key(kind, id);
    res->id = strchr(res->key, '/') + 1;
    res->due_ms = -1;
    HASH_ADD_KEYPTR(hh, r->resources, res->key, strlen(res->key), res);
    return res;
}

void resource_own(struct resource *res, struct file *owner)
{
    if (res->owner == owner)
        return;
    resource_keep_text(res);
    if (res->owner)
        DL_DELETE2(res->owner->owned, res, oprev, onext);
    res->owner = owner;
    if (owner)
        DL_APPEND2(owner->owned, res, oprev, onext);
}

void resource_borrow_text(struct resource *res, const char *text, size_t len)
{
    if (!res->borrowed)
        free((char *)res->text);
    res->text = text;
    res->len = len;
    res->borrowed = true;
}

void resource_copy_text(struct resource *res, const char *text, size_t len)
{
    resource_borrow_text(res, text ? xstrndup(text, len) : NULL, len);
    res->borrowed = false;
}

void resource_keep_text(struct resource *res)
{
    if (res->borrowed)
        resource_copy_text(res, res->text, res->len);
}

void resource_touch(struct reconcile *r, struct resource *res)
{
    if (res->touched)
        return;
    res->touched = true;
    LL_PREPEND2(r->touched, res, tnext);
}

/* It has no owner, and is out of the map. */
static void resource_free(struct resource *res)
{
    free(res->key);
    resource_copy_text(res, NULL, 0);
    free(res->rejected);
    free(res->loop);
    free(res);
}

void resource_reap(struct reconcile *r, struct resource *res)
{
    if (res->owner || res->defs)
        return;
    HASH_DELETE(hh, r->resources, res);
    resource_free(res);
}

/* ---- life ---- */

static void on_gone(void *ctx)
{
    struct reconcile *r = ctx;
    struct file *f, *next_file;
    struct resource *res, *next;
    for (res = r->resources; res; res = res->hh.next)
        resource_own(res, NULL);
    HASH_ITER (hh, r->files, f, next_file)
        file_free(r, f);
    res = r->resources;
    HASH_CLEAR(hh, r->resources); /* the table alone; the items stay linked */
    for (; res; res = next) {
        next = res->hh.next;
        resource_free(res);
    }
    provenance_free(r);
    watch_free(r);
    free(r->attended);
    free(r->broken);
    for (size_t i = 0; i < r->n_dirs; i++) {
        free(r->dirs[i].path);
        free(r->dirs[i].error);
        free(r->dirs[i].trouble);
    }
    free(r->dirs);
    closep(&r->mounts_fd);
    void (*done)(void *) = r->stopped;
    void *done_ctx = r->stopped_ctx;
    loops_destroy(r->loops);
    free(r);
    if (done)
        done(done_ctx);
}

static void watcher_gone(void *ctx)
{
    struct reconcile *r = ctx;
    loop_group_release(&r->group);
}

void reconcile_stop(struct reconcile *r, void (*done)(void *ctx), void *ctx)
{
    r->closing = true;
    r->stopped = done;
    r->stopped_ctx = ctx;
    watch_stop_timers(r);
    if (r->watcher) {
        loop_group_hold(&r->group);
        watcher_close(r->watcher, watcher_gone, r);
        r->watcher = NULL;
    }
    put_abandon(r);
    provenance_stop(r);
    loop_group_close(&r->group, on_gone, r);
}

static void add_dirs(struct reconcile *r, const struct reconcile_options *options)
{
    r->dirs = xcalloc(options->n_dirs, sizeof(*r->dirs));
    for (size_t i = 0; i < options->n_dirs; i++) {
        struct dir *d = &r->dirs[r->n_dirs];
        size_t len = strlen(options->dirs[i]);
        while (len > 1 && options->dirs[i][len - 1] == '/')
            len--;
        *d = (struct dir){
            .r = r, .index = r->n_dirs, .path = xstrndup(options->dirs[i], len), .path_len = len, .trusted = true};
        r->n_dirs++;
    }
}

int reconcile_create(const struct reconcile_options *options, struct reconcile **ret, struct error *err)
{
    struct reconcile *r = xcalloc(1, sizeof(*r));
    r->options = *options;
    r->options.dirs = NULL; /* borrowed for the call */
    r->delays = RECONCILE_DELAYS;
    r->loop = options->loop;
    r->engine = options->engine;
    r->store = options->store;
    r->loops = loops_create();
    r->burst_ms = -1;
    r->mounts_fd = -1;
    loop_group_init(&r->group, r->loop);
    loop_task_init(&r->put_task, put_run, r);
    add_dirs(r, options);
    provenance_start(r);
    int rc = state_load(r, err);
    if (rc >= 0)
        rc = watch_open(r, err);
    if (rc < 0) {
        on_gone(r);
        return rc;
    }
    *ret = r;
    return 0;
}

void reconcile_start(struct reconcile *r)
{
    r->started = true;
    watch_start(r);
}

void reconcile_reload(struct reconcile *r)
{
    watch_reload(r);
}

/* ---- looking ---- */

static int by_path(const struct file *a, const struct file *b)
{
    return strcmp(a->path, b->path);
}

void reconcile_each_file(struct reconcile *r, void (*fn)(void *ctx, const struct manifest_file_view *view), void *ctx)
{
    if (!r->files_sorted)
        HASH_SORT(r->files, by_path);
    r->files_sorted = true;
    for (const struct file *f = r->files; f; f = f->hh.next) {
        struct manifest_file_view view = {.path = f->path, .origin = f->origin, .manifest = &f->manifest};
        if (f->present)
            fn(ctx, &view);
    }
}

/* Borrowed; NULL: no such resource. */
static const char *text_now(struct reconcile *r, enum resource_kind kind, const char *id, size_t *ret_len)
{
    struct resource *res = resource_find(r, kind, id);
    if (!res || !res->owner)
        return NULL;
    const struct def *def = def_of(res, res->owner);
    if (!def || !res->owner->text) {
        *ret_len = res->len;
        return res->text;
    }
    const struct manifest_entry *e = &res->owner->manifest.entries[def->entry];
    *ret_len = e->end - e->start;
    return res->owner->text + e->start;
}

char *reconcile_text(struct reconcile *r, enum resource_kind kind, const char *id)
{
    size_t len;
    const char *text = text_now(r, kind, id, &len);
    return text ? xstrndup(text, len) : NULL;
}

uint64_t text_digest(const char *text, size_t len)
{
    uint64_t digest = hash_bytes(0, text, len);
    return digest ? digest : 1;
}

uint64_t reconcile_digest(struct reconcile *r, enum resource_kind kind, const char *id)
{
    size_t len;
    const char *text = text_now(r, kind, id, &len);
    return text ? text_digest(text, len) : 0;
}

int reconcile_source(struct reconcile *r, enum resource_kind kind, const char *id, const char **ret_file,
                     unsigned *ret_line)
{
    const struct resource *res = resource_find(r, kind, id);
    if (!res || !res->owner)
        return -ENOENT;
    *ret_file = res->owner->path;
    *ret_line = res->line;
    return 0;
}

char *reconcile_good_text(struct reconcile *r, enum resource_kind kind, const char *id, size_t *ret_len)
{
    const struct resource *res = resource_find(r, kind, id);
    if (!res || !res->owner || !res->text)
        return NULL;
    *ret_len = res->len;
    return xstrndup(res->text, res->len);
}

bool reconcile_bad_text(struct reconcile *r, enum resource_kind kind, const char *id, const char **ret_text,
                        size_t *ret_len, const struct manifest **ret_manifest, size_t *ret_entry)
{
    const struct resource *res = resource_find(r, kind, id);
    const struct file *f = res ? res->owner : NULL;
    const struct def *def = f && f->present ? def_of(res, f) : NULL;
    if (!f || !f->present || !f->text || (def ? def->good : !f->unclear))
        return false;
    const struct manifest_entry *e = def ? &f->manifest.entries[def->entry] : NULL;
    *ret_text = e ? f->text + e->start : f->text;
    *ret_len = e ? e->end - e->start : f->len;
    *ret_manifest = &f->manifest;
    *ret_entry = def ? def->entry : SIZE_MAX;
    return true;
}

const char *reconcile_writable_dir(struct reconcile *r)
{
    for (size_t i = 0; i < r->n_dirs; i++)
        if (r->dirs[i].here && r->dirs[i].writable)
            return r->dirs[i].path;
    return NULL;
}
