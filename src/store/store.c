#include "store/internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#define RESERVE_BYTES (4u << 20)
#define READERS 2
#define PROBE_MS 500
#define THREAD_STACK (1u << 20)

/* ---- the port ---- */

/* So many are handed to the writer at once, so that it begins while the owner goes on. Fewer would cost the two of them
 * a switch each for little, and all of a turn of the loop would make them wait for one another. */
#define HAND_OVER_GROUPS 32

static void hand_over(struct store *s)
{
    size_t ops = 0, bytes = 0, urgent = 0, groups = s->gathered_groups;
    for (const struct store_group *g = s->gathered.first; g; g = g->next) {
        ops += g->n_ops;
        bytes += g->bytes;
        urgent += !(g->flags & STORE_LAZY);
    }
    if (groups == 0)
        return;
    s->gathered_groups = 0;
    pthread_mutex_lock(&s->mutex);
    bool wake = false, signal = false;
    if (s->closing) {
        for (struct store_group *g = s->gathered.first; g; g = g->next)
            g->result = -ESHUTDOWN;
        group_move(&s->done, &s->gathered);
        wake = store_need_wake(s);
    } else {
        bool was_empty = !s->queue.first, was_lazy = s->queue_urgent == 0;
        if (was_empty)
            s->queue_since_ns = monotonic_ns();
        group_move(&s->queue, &s->gathered);
        s->queue_groups += groups;
        s->queue_ops += ops;
        s->queue_bytes += bytes;
        s->queue_urgent += urgent;
        /* The first, the first that does not wait, and whatever may have filled a batch of those that do. */
        signal = was_empty ||
                 (was_lazy && (urgent > 0 || s->queue_ops >= STORE_BATCH_OPS || s->queue_bytes >= STORE_BATCH_BYTES));
    }
    pthread_mutex_unlock(&s->mutex);
    if (signal)
        pthread_cond_signal(&s->writer_cond);
    if (wake)
        s->wake(s->ctx);
}

void store_flush(struct store_port *port)
{
    hand_over(store_of(port));
}

static void submit(struct store_port *port, struct store_group *g)
{
    struct store *s = store_of(port);
    g->number = s->submitted++;
    s->backlog_groups++;
    s->backlog_bytes += g->bytes;
    g->result = 0;
    group_push(&s->gathered, g);
    if (++s->gathered_groups >= HAND_OVER_GROUPS || !s->soon)
        hand_over(s);
    else if (s->gathered_groups == 1)
        s->soon(s->ctx);
}

static void read_push(struct read_list *list, struct store_read *r)
{
    r->next = NULL;
    if (list->last)
        list->last->next = r;
    else
        list->first = r;
    list->last = r;
}

static void submit_read(struct store_port *port, struct store_read *r)
{
    struct store *s = store_of(port);
    pthread_mutex_lock(&s->mutex);
    bool wake = false, closing = s->closing;
    if (closing) {
        error_set(&r->error, -ESHUTDOWN, "the store is closing");
        read_push(&s->reads_done, r);
        wake = store_need_wake(s);
    } else {
        read_push(&s->reads, r);
    }
    pthread_mutex_unlock(&s->mutex);
    if (!closing)
        pthread_cond_signal(&s->reader_cond);
    if (wake)
        s->wake(s->ctx);
}

static int64_t next_seq(struct store_port *port)
{
    return ++store_of(port)->seq;
}

static bool writable(struct store_port *port)
{
    return store_of(port)->told_writable;
}

static size_t backlog(struct store_port *port, size_t *ret_bytes)
{
    struct store *s = store_of(port);
    if (ret_bytes)
        *ret_bytes = s->backlog_bytes;
    return s->backlog_groups;
}

static int note_start(struct store_port *port, const char *run_id)
{
    struct store *s = store_of(port);
    return s->starts ? starts_note(s->starts, run_id) : -ENOSPC;
}

static void clear_start(struct store_port *port, int note)
{
    starts_clear(store_of(port)->starts, note);
}

static bool start_left(struct store_port *port, const char *run_id)
{
    struct store *s = store_of(port);
    return s->starts && starts_left(s->starts, run_id);
}

static void clear_starts_left(struct store_port *port)
{
    struct store *s = store_of(port);
    if (s->starts)
        starts_clear_left(s->starts);
}

bool store_need_wake(struct store *s)
{
    bool need = !s->woken && s->wake;
    s->woken = true;
    return need;
}

void store_collect(struct store_port *port)
{
    struct store *s = store_of(port);
    char reason[ERROR_MESSAGE_MAX];
    pthread_mutex_lock(&s->mutex);
    struct group_list groups = s->done;
    struct read_list reads = s->reads_done;
    bool now_writable = s->writable, fell = s->fell;
    memcpy(reason, s->reason, sizeof(reason));
    s->done = (struct group_list){0};
    s->reads_done = (struct read_list){0};
    s->fell = s->woken = false;
    pthread_mutex_unlock(&s->mutex);

    if (s->told_writable && (fell || !now_writable)) {
        s->told_writable = false;
        if (s->state)
            s->state(s->ctx, false, reason);
    }
    struct store_group *g;
    while ((g = group_pop(&groups))) {
        s->backlog_groups--;
        s->backlog_bytes -= g->bytes;
        g->done(g, g->result);
    }
    for (struct store_read *r = reads.first, *next; r; r = next) {
        next = r->next;
        r->done(r, r->error.code);
    }
    if (!s->told_writable && now_writable) {
        s->told_writable = true;
        if (s->state)
            s->state(s->ctx, true, "");
    }
}

void store_set_retention(struct store_port *port, const struct store_retention *retention)
{
    struct store *s = store_of(port);
    pthread_mutex_lock(&s->mutex);
    s->retention = *retention;
    s->retention_changed = true;
    pthread_mutex_unlock(&s->mutex);
    pthread_cond_signal(&s->writer_cond);
}

const char *store_node_id(struct store_port *port)
{
    return store_of(port)->node_id;
}

struct histogram store_commit_times(struct store_port *port)
{
    struct store *s = store_of(port);
    pthread_mutex_lock(&s->mutex);
    struct histogram times = s->commit_times;
    pthread_mutex_unlock(&s->mutex);
    return times;
}

/* ---- open and close ---- */

static int query_text(sqlite3 *db, const char *sql, char *out, size_t cap)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
    out[0] = '\0';
    if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(st, 0);
        snprintf(out, cap, "%s", text ? text : "");
        rc = SQLITE_OK;
    }
    sqlite3_finalize(st);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int query_number(sqlite3 *db, const char *sql, int64_t *ret)
{
    char text[32];
    int rc = query_text(db, sql, text, sizeof(text));
    if (rc == SQLITE_OK)
        *ret = strtoll(text, NULL, 10);
    return rc;
}

static int make_node_id(struct store *s, sqlite3 *db)
{
    int rc = query_text(db, "SELECT value FROM meta WHERE key='node_id'", s->node_id, sizeof(s->node_id));
    if (rc != SQLITE_OK || strlen(s->node_id) == 32)
        return rc;
    unsigned char bytes[16];
    if (getentropy(bytes, sizeof(bytes)) < 0)
        return SQLITE_IOERR;
    for (size_t i = 0; i < sizeof(bytes); i++)
        snprintf(s->node_id + 2 * i, 3, "%02x", bytes[i]);
    char sql[96];
    snprintf(sql, sizeof(sql), "REPLACE INTO meta VALUES('node_id','%s')", s->node_id);
    return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

/* What is known of the past when the threads start. */
static int read_start(struct store *s, sqlite3 *db)
{
    int64_t events = 0, runs = 0;
    int rc = make_node_id(s, db);
    if (rc == SQLITE_OK)
        rc = query_number(db, "SELECT max(seq) FROM events", &events);
    if (rc == SQLITE_OK)
        rc = query_number(db, "SELECT max(seq) FROM runs", &runs);
    s->seq = MAX(events, runs);
    for (int kind = COUNT_EVENTS; kind <= COUNT_RUNS && rc == SQLITE_OK; kind++) {
        char sql[64];
        snprintf(sql, sizeof(sql), "SELECT sum(n) FROM %s",
                 kind == COUNT_EVENTS ? "event_groups" : "counts WHERE kind=1");
        rc = query_number(db, sql, &s->w.counts.total[kind]);
    }
    if (rc == SQLITE_OK)
        rc = query_number(db, "SELECT value FROM meta WHERE key='touched'", &s->w.touched);
    return rc;
}

static int open_databases(struct store *s, struct error *err)
{
    sqlite3 *db = NULL;
    int r = connection_open(s->path, s->vfs, CONNECTION_WRITER, &db, err);
    if (r == 0) {
        writer_init(s, db);
        r = migrate_schema(db, s->path, err);
    }
    if (r == 0) {
        int rc = read_start(s, db);
        if (rc != SQLITE_OK)
            r = sqlite_error(db, rc, s->path, "cannot read", err);
    }
    if (r == 0)
        r = connection_open(s->path, s->vfs, CONNECTION_READER, &s->loader, err);
    if (r == 0) {
        int64_t any;
        int rc = query_number(s->loader, "SELECT count(*) FROM meta", &any); /* holds the log's index from here on */
        if (rc != SQLITE_OK)
            r = sqlite_error(s->loader, rc, s->path, "cannot read", err);
    }
    return r;
}

static void close_databases(struct store *s)
{
    sqlite3_close(s->loader);
    s->loader = NULL;
    writer_fini(s); /* the last one: empties the log and removes it */
}

static int open_directory(struct store *s, size_t reserve_bytes, struct error *err)
{
    int r = directory_make(s->dir, err);
    if (r == 0)
        r = directory_lock(s->dir, &s->lock_fd, err);
    bool held = false;
    if (r == 0)
        r = reserve_open(s->dir, reserve_bytes, &s->reserve_fd, &s->reserve_bytes, &held, err);
    if (r < 0)
        return r;
    s->w.reserve_released = !held;
    r = open_databases(s, err);
    if (r == -ENOSPC && held) {
        /* Room for the log's index, at least: what was open must be able to end. */
        close_databases(s);
        reserve_release(s->reserve_fd);
        s->w.reserve_released = true;
        error_clear(err);
        r = open_databases(s, err);
    }
    _cleanup_(freep) char *path = xasprintf("%s/starts", s->dir);
    if (r == 0 && starts_open(path, &s->starts, NULL) < 0)
        s->starts = NULL; /* a full disk: starts are recorded first */
    return r;
}

static int start_thread(pthread_t *ret, void *(*fn)(void *), struct store *s, const char *name)
{
    pthread_attr_t attr;
    sigset_t all, old;
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, THREAD_STACK);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int r = -pthread_create(ret, &attr, fn, s);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (r == 0)
        pthread_setname_np(*ret, name);
    return r;
}

static int start_threads(struct store *s, unsigned readers, struct error *err)
{
    int r = start_thread(&s->writer_thread, writer_main, s, "store-write");
    s->writer_started = r == 0;
    while (r == 0 && s->n_readers < readers) {
        r = start_thread(&s->reader_threads[s->n_readers], reader_main, s, "store-read");
        if (r == 0)
            s->n_readers++;
    }
    return r == 0 ? 0 : error_set(err, r, "cannot start a thread of the store: %s", strerror(-r));
}

static struct store *store_new(const struct store_options *options, const struct store_hooks *hooks)
{
    struct store *s = xcalloc(1, sizeof(*s));
    s->port = (struct store_port){
        .submit = submit,
        .read = submit_read,
        .next_seq = next_seq,
        .writable = writable,
        .backlog = backlog,
        .note_start = note_start,
        .clear_start = clear_start,
        .start_left = start_left,
        .clear_starts_left = clear_starts_left,
        .load_open_events = store_load_open_events,
        .load_run = store_load_run,
        .load_open_runs = store_load_open_runs,
        .load_kv = store_load_kv,
    };
    s->wake = options->wake;
    s->soon = options->soon;
    s->state = options->state;
    s->ctx = options->ctx;
    s->dir = xstrdup(options->dir);
    s->path = xasprintf("%s/triggerd.db", options->dir);
    s->vfs = wal_vfs_over(hooks ? hooks->vfs : NULL);
    s->probe_ms = hooks && hooks->probe_ms ? hooks->probe_ms : PROBE_MS;
    s->lock_fd = s->reserve_fd = -1;
    s->writable = s->told_writable = true;
    pthread_mutex_init(&s->mutex, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->writer_cond, &attr);
    pthread_cond_init(&s->reader_cond, &attr);
    pthread_condattr_destroy(&attr);
    return s;
}

int store_open_hooked(const struct store_options *options, const struct store_hooks *hooks, struct store_port **ret,
                      struct error *err)
{
    struct error local = ERROR_INIT;
    if (!err)
        err = &local;
    /* SQLite's own memory statistics cost a lock at each allocation; too late, and no matter, if it is in use already.
     */
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    struct store *s = store_new(options, hooks);
    int r = open_directory(s, options->reserve_bytes ? options->reserve_bytes : RESERVE_BYTES, err);
    if (r == 0)
        r = start_threads(s, MIN(options->readers ? options->readers : READERS, (unsigned)STORE_READERS_MAX), err);
    if (r < 0) {
        store_close(&s->port);
        return r;
    }
    *ret = &s->port;
    return 0;
}

int store_open(const struct store_options *options, struct store_port **ret, struct error *err)
{
    return store_open_hooked(options, NULL, ret, err);
}

void store_close(struct store_port *port)
{
    if (!port)
        return;
    struct store *s = store_of(port);
    hand_over(s);
    s->soon = NULL;
    pthread_mutex_lock(&s->mutex);
    s->closing = true;
    atomic_store(&s->stopping, true);
    pthread_mutex_unlock(&s->mutex);
    pthread_cond_broadcast(&s->writer_cond);
    pthread_cond_broadcast(&s->reader_cond);
    if (s->writer_started)
        pthread_join(s->writer_thread, NULL);
    for (unsigned i = 0; i < s->n_readers; i++)
        pthread_join(s->reader_threads[i], NULL);
    /* What these call may submit more, which comes back at once with -ESHUTDOWN. */
    while (s->done.first || s->reads_done.first)
        store_collect(port);
    close_databases(s);
    starts_close(s->starts);
    if (s->reserve_fd >= 0)
        close(s->reserve_fd);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    pthread_cond_destroy(&s->writer_cond);
    pthread_cond_destroy(&s->reader_cond);
    pthread_mutex_destroy(&s->mutex);
    free(s->dir);
    free(s->path);
    free(s);
}
