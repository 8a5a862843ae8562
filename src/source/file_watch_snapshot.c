/* The snapshot: what is known of each path, and the event that is on its way, in the store under `snapshot/<trigger>`.
 *
 * Key: the relative path, as it is. Value: what is known (`-`: nothing), then the event, if there is one:
 *
 *     f 1311 42 1767335400123456789 / 1 f 1311 42 1767335400123456789 1767335400125 7 3f00…/7 old/path
 *     sort ino size mtime_ns          net sort ino size mtime_ns      occurred_ms   number identity  (moved only)
 *
 * The key `/` (no relative path begins so) is the header: the config that it belongs to. It is written behind the first
 * complete snapshot; without it, or with another config, the rest is worth nothing and a new snapshot is taken. */
#include "source/file_watch.h"

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

static bool print_value(const struct file *f, struct buf *b)
{
    const struct file_event *ev = f->busy && f->busy->file == f ? f->busy : NULL;
    if (!f->known && !ev)
        return false;
    if (f->known)
        print_stamp(b, &f->k);
    else
        buf_addc(b, '-');
    if (ev) {
        buf_printf(b, " / %d ", (int)ev->net);
        print_stamp(b, &ev->stamp);
        buf_printf(b, " %" PRId64 " %" PRIu64 " %s %s", ev->occurred_ms, ev->number, ev->identity,
                   ev->from ? ev->from->path : "");
    }
    return true;
}

static const char *read_stamp(const char *text, struct file_stamp *ret)
{
    char sort;
    int n = 0;
    if (sscanf(text, "%c %" SCNu64 " %" SCNd64 " %" SCNd64 "%n", &sort, &ret->ino, &ret->size, &ret->mtime_ns, &n) < 4)
        return NULL;
    ret->is_dir = sort == 'd';
    return text + n;
}

static void read_event(struct source *s, struct file *f, const char *text)
{
    int net = 0, n = 0;
    char identity[64];
    struct file_stamp stamp;
    int64_t occurred_ms;
    uint64_t number;
    if (sscanf(text, " / %d %n", &net, &n) < 1 || net < NET_CREATED || net > NET_MOVED ||
        !(text = read_stamp(text + n, &stamp)) ||
        sscanf(text, " %" SCNd64 " %" SCNu64 " %63s%n", &occurred_ms, &number, identity, &n) < 3 || text[n] != ' ')
        return;
    const char *from = text + n + 1;
    if ((net == NET_MOVED) != (*from != '\0'))
        return;
    struct file *old = *from ? watched_get(s, from) : NULL;
    if (old == f || (old && old->busy))
        return;
    struct file_event *ev = xcalloc(1, sizeof(*ev));
    *ev = (struct file_event){.net = (enum net_change)net,
                              .file = f,
                              .from = old,
                              .stamp = stamp,
                              .identity = xstrdup(identity),
                              .occurred_ms = occurred_ms,
                              .number = number};
    file_report_again(s, ev);
}

struct load {
    struct source *source;
    bool has_header;
};

static int take(void *ctx, const char *key, size_t key_len, const char *value, size_t value_len)
{
    struct load *load = ctx;
    struct source *s = load->source;
    _cleanup_(freep) char *path = xstrndup(key, key_len), *text = xstrndup(value, value_len);
    if (streq(path, HEADER_KEY)) {
        load->has_header = streq(text, s->config_text);
        return 0;
    }
    struct file *f = watched_get(s, path);
    const char *rest = text + 1;
    if (*text != '-' && (rest = read_stamp(text, &f->k)))
        f->known = true;
    if (rest && *rest && !f->busy)
        read_event(s, f, rest);
    watched_reap(s, f);
    return 0;
}

/* ---- writing ---- */

void file_snapshot_touch(struct source *s, struct file *f)
{
    if (f->unsaved)
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
        struct buf value = {0};
        s->unsaved = f->next_unsaved;
        f->unsaved = false;
        f->saving++;
        save->files[save->n++] = f;
        if (print_value(f, &value))
            store_add_kv_put(g, s->scope, f->path, strlen(f->path), value.data, value.len);
        else
            store_add_kv_delete(g, s->scope, f->path, strlen(f->path));
        buf_fini(&value);
    }
    if (!s->unsaved && s->header_due) {
        store_add_kv_put(g, s->scope, HEADER_KEY, strlen(HEADER_KEY), s->config_text, strlen(s->config_text));
        save->header = true;
        s->header_due = false;
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

static void cleared(struct store_group *g, int result)
{
    (void)result;
    file_source_unref(g->ctx);
    store_group_free(g);
}

int file_snapshot_load(struct source *s, struct error *err)
{
    struct load load = {.source = s};
    if (!s->fresh) {
        int r = s->env.store->load_kv(s->env.store, s->scope, take, &load, err);
        if (r < 0)
            return r;
    }
    if (load.has_header)
        return 0;
    file_report_forget(s);
    watched_free(s);
    watched_init(s);
    s->fresh = true;
    s->refs++;
    struct store_group *g = store_group_new(STORE_LAZY, cleared, s);
    store_add_kv_delete(g, s->scope, NULL, 0);
    s->env.store->submit(s->env.store, g);
    return 0;
}
