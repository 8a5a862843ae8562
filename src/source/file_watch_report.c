/* Reports: pending changes that are ready become events, one a path at a time. See file_watch.h. */
#include "source/file_watch.h"

static const char *const words[] = {NULL, "created", "modified", "deleted", "moved"};
static const char *const types[] = {NULL, "file_created", "file_modified", "file_deleted", "file_moved"};

/* ---- event data ---- */

/* A path as JSON can hold it: a byte that is no part of UTF-8 is shown as \xNN, and then the exact bytes are told too.
 */
static void add_path(cJSON *data, const char *key, const char *exact_key, const char *path)
{
    size_t len = strlen(path);
    if (utf8_valid(path, len)) {
        cJSON_AddStringToObject(data, key, path);
        return;
    }
    struct buf shown = {0};
    for (const char *at = path; *at;) {
        size_t n = utf8_sequence(at, (size_t)(path + len - at));
        if (n > 0)
            buf_add(&shown, at, n);
        else
            buf_printf(&shown, "\\x%02X", (unsigned char)*at);
        at += MAX(n, 1);
    }
    cJSON_AddStringToObject(data, key, shown.data);
    buf_fini(&shown);
    if (exact_key) {
        char *exact = g_base64_encode((const unsigned char *)path, len);
        cJSON_AddStringToObject(data, exact_key, exact);
        g_free(exact);
    }
}

static char *absolute(const struct source *s, const struct file *f)
{
    return xasprintf("%s%s%s", s->base, s->base[1] ? "/" : "", f->path);
}

static cJSON *event_data(const struct source *s, const struct file_event *ev)
{
    cJSON *data = cJSON_CreateObject();
    char mtime[TIME_TEXT_SIZE];
    _cleanup_(freep) char *path = absolute(s, ev->file);
    char *slash = strrchr(path, '/');
    int64_t ns = ev->stamp.mtime_ns;
    time_format(ns / 1000000 - (ns % 1000000 < 0), mtime);
    add_path(data, "path", "path_bytes_base64", path);
    cJSON_AddStringToObject(data, "event", words[ev->net]);
    add_path(data, "name", NULL, slash + 1);
    *slash = '\0';
    add_path(data, "dir", NULL, slash == path ? "/" : path);
    cJSON_AddItemToObject(data, "size", value_number_from_int(ev->stamp.size));
    cJSON_AddStringToObject(data, "mtime", mtime);
    cJSON_AddBoolToObject(data, "is_dir", ev->stamp.is_dir);
    if (ev->from) {
        _cleanup_(freep) char *old_path = absolute(s, ev->from);
        add_path(data, "old_path", "old_path_bytes_base64", old_path);
    }
    return data;
}

/* ---- deciding ---- */

static enum net_change net_of(const struct file *f)
{
    bool known = f->known && !f->to;
    if (!f->here)
        return known ? NET_DELETED : NET_NONE;
    if (f->from)
        return NET_MOVED;
    if (!known)
        return NET_CREATED;
    bool same_dir = f->k.is_dir && f->p->stamp.is_dir;
    return file_stamp_same(&f->k, &f->p->stamp) && (same_dir || !f->p->written) ? NET_NONE : NET_MODIFIED;
}

/* Must it wait for another event? */
static bool is_blocked(struct source *s, struct file *f)
{
    if (f->busy || (f->from && f->from->busy))
        return true;
    if (!f->here || !f->to)
        return false;
    /* What was here is told first as what it is elsewhere; names that were renamed in a circle would wait for ever. */
    for (const struct file *end = f->to; end; end = end->to)
        if (end == f) {
            watched_unlink(s, f);
            return false;
        }
    return true;
}

static void touch(struct source *s, struct file *f, struct file *from)
{
    file_snapshot_touch(s, f);
    if (from)
        file_snapshot_touch(s, from);
}

/* It is recorded, or need not be. */
static void apply(struct source *s, enum net_change net, struct file *f, struct file *from,
                  const struct file_stamp *stamp)
{
    f->known = net != NET_DELETED;
    if (f->known)
        f->k = *stamp;
    else
        watched_unlink(s, f);
    if (from) {
        from->known = false;
        watched_unlink(s, from);
    }
}

static void wake(struct source *s, struct pending *p)
{
    if (!p || p->state != PENDING_BLOCKED)
        return;
    p->state = PENDING_READY;
    DL_APPEND(s->ready, p);
}

/* The path is not busy any more. */
static void wake_file(struct source *s, struct file *f)
{
    wake(s, f->p);
    if (f->to)
        wake(s, f->to->p);
    bool scanning = !s->started || s->full_scan; /* which will find it out */
    if (!f->p && f->known && !f->here && !f->to && !scanning)
        watched_missed(s, f);
    watched_reap(s, f);
}

static void hold(struct file_event *ev)
{
    ev->file->busy = ev;
    if (ev->from)
        ev->from->busy = ev;
}

static void release(struct source *s, const struct file_event *ev)
{
    ev->file->busy = NULL;
    if (ev->from) {
        ev->from->busy = NULL;
        wake_file(s, ev->from);
    }
    wake_file(s, ev->file);
}

static void add_event(struct source *s, enum net_change net, struct file *f, struct file *from,
                      const struct file_stamp *stamp)
{
    struct file_event *ev = xcalloc(1, sizeof(*ev));
    *ev = (struct file_event){.net = net, .file = f, .from = from, .stamp = *stamp};
    ev->occurred_ms = f->p->changed_ms;
    ev->number = ++s->sequence;
    DL_APPEND(s->outbox, ev);
    s->n_events++;
    hold(ev);
}

/* The first of those that are ready. */
static void decide(struct source *s, struct pending *p)
{
    struct file *f = p->file;
    DL_DELETE(s->ready, p);
    p->state = PENDING_BLOCKED;
    if (is_blocked(s, f))
        return;
    enum net_change net = net_of(f);
    struct file *from = f->from;
    struct file_stamp stamp = net == NET_DELETED ? f->k : p->stamp;
    if (net == NET_NONE) {
        if (!f->here && p->changes > 1)
            source_debounced(s->host, p->changes);
        file_pending_free(f);
        watched_reap(s, f);
        return;
    }
    if (from) { /* what happens from here on is another change */
        from->to = NULL;
        f->from = NULL;
    }
    if (s->wants & 1u << net) {
        if (p->changes > 1)
            source_debounced(s->host, p->changes - 1);
        add_event(s, net, f, from, &stamp);
        file_pending_free(f);
        return;
    }
    file_pending_free(f);
    apply(s, net, f, from, &stamp);
    touch(s, f, from);
    if (from)
        wake_file(s, from);
    wake_file(s, f);
}

/* ---- telling ---- */

/* What record() needs to know. */
struct telling {
    struct source *source;
    struct file_event *event;
};

static void record(void *ctx, struct store_group *g)
{
    struct telling *t = ctx;
    file_snapshot_record(t->event, t->source, g);
}

static void tell_outbox(struct source *s)
{
    while (s->outbox && !s->paused && !s->refused) {
        struct file_event *ev = s->outbox;
        DL_DELETE(s->outbox, ev);
        DL_APPEND(s->told, ev);
        _cleanup_(cjson_deletep) cJSON *data = event_data(s, ev);
        struct telling telling = {s, ev};
        source_occurred(s->host,
                        &(struct occurrence){.event_type = types[ev->net],
                                             .data = data,
                                             .occurred_ms = ev->occurred_ms,
                                             .unhurried = true,
                                             .written_ms = ev->net == NET_DELETED ? 0 : ev->stamp.ctime_ns / 1000000,
                                             .record = record,
                                             .record_ctx = &telling},
                        (uint64_t)(uintptr_t)ev);
    }
}

void file_report_pump(struct source *s)
{
    while (!s->stopped && !s->paused && !s->refused && !s->full_scan) {
        while (s->ready && (s->n_events < FILE_WINDOW || s->urgent))
            decide(s, s->ready);
        s->urgent = false;
        if (!file_snapshot_flush(s) || !s->outbox) /* what could not be written waits, and so do they */
            break;
        tell_outbox(s);
    }
    file_check_start(s); /* of files whose links were cut meanwhile */
}

void file_report_soon(struct source *s)
{
    loop_defer(s->env.loop, &s->pump);
}

static void event_free(struct source *s, struct file_event *ev)
{
    s->n_events--;
    free(ev);
}

void file_report_ack(struct source *s, uint64_t token)
{
    struct file_event *ev = (struct file_event *)(uintptr_t)token;
    DL_DELETE(s->told, ev);
    file_track_enter(s);
    bool saved = ev->written && !ev->resave;
    ev->written = false;
    apply(s, ev->net, ev->file, ev->from, &ev->stamp);
    if (!saved)
        touch(s, ev->file, ev->from);
    release(s, ev);
    event_free(s, ev);
    s->refused_ms = 0;
    s->depth--; /* what there is to tell now is told later, not from inside this call */
    file_report_soon(s);
}

static int by_number(const struct file_event *a, const struct file_event *b)
{
    return a->number < b->number ? -1 : a->number > b->number;
}

void file_report_nack(struct source *s, uint64_t token)
{
    struct file_event *ev = (struct file_event *)(uintptr_t)token;
    DL_DELETE(s->told, ev);
    DL_INSERT_INORDER(s->outbox, ev, by_number);
    ev->written = false;
    if (ev->resave)
        touch(s, ev->file, ev->from);
    ev->resave = false;
    if (s->refused)
        return;
    s->refused = true;
    timer_start(s->env.timers, &s->refused_timer, clock_monotonic_ms(s->env.clock) + file_backoff(s, &s->refused_ms));
}

void file_report_resume(struct source *s)
{
    timer_stop(s->env.timers, &s->refused_timer);
    s->refused = false;
    file_report_soon(s);
}

void file_report_forget(struct source *s)
{
    struct file_event *ev, *next;
    DL_CONCAT(s->outbox, s->told);
    s->told = NULL;
    DL_FOREACH_SAFE (s->outbox, ev, next)
        event_free(s, ev);
    s->outbox = NULL;
}
