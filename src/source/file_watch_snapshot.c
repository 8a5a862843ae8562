/* The snapshot: what is known of each path, in the store under `snapshot/<trigger>`.
 *
 * Key: the relative path, as it is. Value: sort (f or d), ino, size, mtime_ns:
 *
 *     f 1311 42 1767335400123456789
 *
 * What is not known has no entry. The key `/` (no relative path begins so) is the header: the config that it belongs
 * to. It is written behind the first complete snapshot; without it, or with another config, the rest is worth nothing
 * and a new snapshot is taken. */
#include "source/file_watch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define HEADER_KEY "/"

/* Files in one group. */
struct save {
    struct source *source;
    bool header;
    size_t n;
    struct file *files[FILE_SAVE_OPS];
};

/* ---- values ---- */

static void print_stamp(struct buf *b, const struct file_stamp *stamp)
{
    buf_printf(b, "%c %" PRIu64 " %" PRId64 " %" PRId64, stamp->is_dir ? 'd' : 'f', stamp->ino, stamp->size,
               stamp->mtime_ns);
}

static bool read_stamp(const char *text, struct file_stamp *ret)
{
    char sort;
    if (sscanf(text, "%c %" SCNu64 " %" SCNd64 " %" SCNd64, &sort, &ret->ino, &ret->size, &ret->mtime_ns) < 4)
        return false;
    ret->is_dir = sort == 'd';
    return true;
}

static void take(struct source *s, const struct store_pair *pair)
{
    if (streq(pair->key, HEADER_KEY))
        return;
    struct file *f = watched_get(s, pair->key);
    f->known = read_stamp(pair->value, &f->k);
    watched_reap(s, f);
}

/* ---- writing ---- */

static void put(struct store_group *g, const struct source *s, const struct file *f, const struct file_stamp *stamp)
{
    if (!stamp) {
        store_add_kv_delete(g, s->scope, f->path, strlen(f->path));
        return;
    }
    struct buf value = {0};
    print_stamp(&value, stamp);
    store_add_kv_put(g, s->scope, f->path, strlen(f->path), value.data, value.len);
    buf_fini(&value);
}

void file_snapshot_record(struct file_event *ev, const struct source *s, struct store_group *g)
{
    ev->written = true;
    put(g, s, ev->file, ev->net == NET_DELETED ? NULL : &ev->stamp);
    if (ev->from)
        put(g, s, ev->from, NULL);
}

/* What is known of it is about to change with its event: to write what was known before would undo that. */
static bool in_flight(struct file *f)
{
    if (!f->busy || !f->busy->written)
        return false;
    f->busy->resave = true;
    return true;
}

void file_snapshot_touch(struct source *s, struct file *f)
{
    if (f->unsaved || in_flight(f))
        return;
    f->unsaved = true;
    f->next_unsaved = NULL;
    if (s->unsaved)
        s->last_unsaved->next_unsaved = f;
    else
        s->unsaved = f;
    s->last_unsaved = f;
}

static void save_later(struct source *s)
{
    if (!timer_active(&s->save_retry))
        timer_start(s->env.timers, &s->save_retry, clock_monotonic_ms(s->env.clock) + FILE_SAVE_RETRY_MS);
}

static void saved(struct store_group *g, int result)
{
    struct save *save = g->ctx;
    struct source *s = save->source;
    store_group_free(g);
    s->saves--;
    for (size_t i = 0; i < save->n && !s->stopped; i++) {
        struct file *f = save->files[i];
        f->saving--;
        if (result < 0)
            file_snapshot_touch(s, f);
        else
            watched_reap(s, f);
    }
    if (save->header && !s->stopped) {
        s->header_due |= result < 0;
        s->incomplete = false; /* if it could not be written, that is no reason not to watch */
        file_show(s);
    }
    if (!s->stopped && result < 0)
        save_later(s);
    else if (!s->stopped)
        file_report_soon(s);
    free(save);
    file_source_unref(s);
}

static void submit(struct source *s)
{
    struct save *save = xmalloc(sizeof(*save));
    save->source = s;
    save->n = 0;
    save->header = false;
    struct store_group *g = store_group_new(STORE_LAZY, saved, save);
    while (s->unsaved && save->n < FILE_SAVE_OPS) {
        struct file *f = s->unsaved;
        s->unsaved = f->next_unsaved;
        f->unsaved = false;
        if (in_flight(f))
            continue;
        f->saving++;
        save->files[save->n++] = f;
        put(g, s, f, f->known ? &f->k : NULL);
    }
    if (!s->unsaved && s->header_due) {
        store_add_kv_put(g, s->scope, HEADER_KEY, strlen(HEADER_KEY), s->config_text, strlen(s->config_text));
        save->header = true;
        s->header_due = false;
    }
    if (save->n == 0 && !save->header) { /* all of them are in flight */
        store_group_free(g);
        free(save);
        return;
    }
    save = xrealloc(save, offsetof(struct save, files) + save->n * sizeof(*save->files));
    g->ctx = save;
    s->saves++;
    s->refs++;
    s->env.store->submit(s->env.store, g);
}

bool file_snapshot_flush(struct source *s)
{
    if (timer_active(&s->save_retry))
        return false;
    while ((s->unsaved || s->header_due) && s->saves < FILE_SAVE_GROUPS)
        submit(s);
    return !s->unsaved;
}

void file_snapshot_stop(struct source *s)
{
    while (s->unsaved || s->header_due)
        submit(s);
}

void file_snapshot_complete(struct source *s)
{
    if (!s->fresh)
        return;
    s->fresh = false;
    s->header_due = s->incomplete = true;
}

/* ---- beginning ---- */

static void forget(struct source *s)
{
    file_report_forget(s);
    watched_free(s);
    watched_init(s);
}

static void cleared(struct store_group *g, int result)
{
    (void)result;
    file_source_unref(g->ctx);
    store_group_free(g);
}

static void begin_anew(struct source *s)
{
    s->fresh = true;
    s->refs++;
    struct store_group *g = store_group_new(STORE_LAZY, cleared, s);
    store_add_kv_delete(g, s->scope, NULL, 0);
    s->env.store->submit(s->env.store, g);
    file_snapshot_loaded(s, NULL);
}

static void ask(struct source *s, enum store_read_type type, void (*done)(struct store_read *, int), const char *key,
                size_t key_len)
{
    struct store_read *r = store_read_new(type, done, s);
    r->scope = xstrdup(s->scope);
    r->key = key ? xmemdup(key, key_len) : NULL;
    r->key_len = key_len;
    r->page_size = FILE_LOAD_PAGE;
    s->refs++;
    s->env.store->read(s->env.store, r);
}

/* A page at a time: the loop has other things to do, and there may be many. */
static void on_page(struct store_read *r, int result)
{
    struct source *s = r->ctx;
    if (!s->stopped && result < 0) {
        forget(s);
        file_snapshot_loaded(s, &r->error);
    } else if (!s->stopped) {
        for (size_t i = 0; i < r->n_pairs; i++)
            take(s, &r->pairs[i]);
        const struct store_pair *last = r->n_pairs == FILE_LOAD_PAGE ? &r->pairs[r->n_pairs - 1] : NULL;
        if (last)
            ask(s, STORE_READ_KV_PAGE, on_page, last->key, last->key_len);
        else
            file_snapshot_loaded(s, NULL);
    }
    store_read_free(r);
    file_source_unref(s);
}

static void on_header(struct store_read *r, int result)
{
    struct source *s = r->ctx;
    if (!s->stopped && result < 0 && result != -ENOENT)
        file_snapshot_loaded(s, &r->error);
    else if (!s->stopped && (result < 0 || !streq(r->value, s->config_text)))
        begin_anew(s);
    else if (!s->stopped)
        ask(s, STORE_READ_KV_PAGE, on_page, NULL, 0);
    store_read_free(r);
    file_source_unref(s);
}

void file_snapshot_load(struct source *s)
{
    if (s->fresh)
        begin_anew(s);
    else
        ask(s, STORE_READ_KV, on_header, HEADER_KEY, strlen(HEADER_KEY));
}
