/* The writer thread: one transaction and one sync for all that gathered.
 *
 * State, seen from here (`w->broken`):
 *
 *   0 ──── commit failed ───► -ENOSPC | -EIO | -EROFS ───── a probe was committed ────► 0
 *                                  │                                                 (not where `sticky`: damaged)
 *                                  └─ other groups fail with that code at once, STORE_KEEP ones gather in `kept`
 *
 * What a failed commit leaves in the log. SQLite publishes a transaction in the log's index only after its sync, so
 * that a commit that returned an error is not seen by any connection, and the next commit overwrites its frames. Only a
 * recovery (the first connection of a process) could take them for committed. Therefore the index must outlive the
 * writer's connection when that is reopened (`s->loader` holds it), and the first thing after a failed commit is
 * another small one at the same place in the log: even if its sync fails as well, a kill finds that one and not the
 * other.
 */
#include "store/internal.h"

#include <errno.h>
#include <stdio.h>

#define CHECKPOINT_FULL_PAGES 64       /* 256 KiB: while the disk is full */
#define CHECKPOINT_IDLE_PAGES 1024     /* 4 MiB: when nothing waits */
#define CHECKPOINT_BUSY_PAGES 4096     /* 16 MiB: also when something does */
#define CHECKPOINT_RESTART_PAGES 16384 /* 64 MiB: wait for readers, so that the log can start over */
#define PROBE_MAX_MS 8000

/* ---- transactions ---- */

static int run(struct writer *w, enum statement id)
{
    sqlite3_stmt *st = writer_statement(w, id);
    return st ? statement_run(st) : sqlite3_errcode(w->db);
}

int writer_begin(struct writer *w)
{
    return run(w, ST_BEGIN);
}

void writer_rollback(struct writer *w)
{
    /* Some errors have rolled back by themselves. */
    if (!sqlite3_get_autocommit(w->db))
        run(w, ST_ROLLBACK);
    apply_forget(w);
}

int writer_commit(struct writer *w)
{
    int rc = apply_gathered(w);
    if (rc == SQLITE_OK)
        rc = run(w, ST_COMMIT);
    if (rc == SQLITE_OK)
        counts_commit(&w->counts);
    else
        writer_rollback(w);
    return rc;
}

/* The smallest commit there is. */
static int touch(struct writer *w)
{
    sqlite3_stmt *st = writer_statement(w, ST_TOUCH);
    if (!st)
        return sqlite3_errcode(w->db);
    char value[24];
    snprintf(value, sizeof(value), "%lld", (long long)++w->touched);
    sqlite3_bind_text(st, 1, value, -1, SQLITE_TRANSIENT);
    return statement_run(st);
}

/* The group's own fault: it would fail again, and others would not. */
static bool fault_of_group(int rc)
{
    int primary = rc & 0xff;
    return primary == SQLITE_CONSTRAINT || primary == SQLITE_TOOBIG || primary == SQLITE_MISMATCH;
}

/* True if any of them can still be committed. */
static bool any_left(const struct group_list *list)
{
    for (const struct store_group *g = list->first; g; g = g->next)
        if (g->result == 0)
            return true;
    return false;
}

/* Commit the groups that have no result yet. One that violates a constraint gets -EINVAL and the rest go without it. */
static int commit_groups(struct writer *w, struct group_list *list)
{
again:
    if (!any_left(list))
        return SQLITE_OK;
    int rc = writer_begin(w);
    for (struct store_group *g = list->first; g && rc == SQLITE_OK; g = g->next) {
        if (g->result != 0)
            continue;
        rc = apply_group(w, g);
        if (rc != SQLITE_OK && fault_of_group(rc)) {
            writer_rollback(w);
            g->result = -EINVAL;
            goto again;
        }
    }
    if (rc == SQLITE_OK)
        return writer_commit(w);
    writer_rollback(w);
    return rc;
}

/* ---- connection ---- */

static int on_wal(void *ctx, sqlite3 *db, const char *name, int pages)
{
    (void)db;
    (void)name;
    struct writer *w = ctx;
    if (pages < w->wal_pages) /* it started over */
        w->checkpoint_pages = CHECKPOINT_IDLE_PAGES;
    w->wal_pages = pages;
    return SQLITE_OK;
}

static void attach(struct writer *w, sqlite3 *db)
{
    w->db = db;
    sqlite3_wal_hook(db, on_wal, w);
}

static void detach(struct writer *w)
{
    for (size_t i = 0; i < ST_N; i++) {
        sqlite3_finalize(w->statements[i]);
        w->statements[i] = NULL;
    }
    sqlite3_close(w->db);
    w->db = NULL;
}

void writer_init(struct store *s, sqlite3 *db)
{
    s->w.checkpoint_pages = CHECKPOINT_IDLE_PAGES;
    attach(&s->w, db);
}

void writer_fini(struct store *s)
{
    struct writer *w = &s->w;
    detach(w);
    texts_forget(w);
    counts_fini(&w->counts);
}

static int writer_reopen(struct store *s, struct error *err)
{
    if (s->w.db)
        detach(&s->w);
    texts_forget(&s->w);
    sqlite3 *db = NULL;
    int r = connection_open(s->path, s->vfs, CONNECTION_WRITER, &db, err);
    if (r == 0)
        attach(&s->w, db);
    return r;
}

/* ---- handing back ---- */

static void hand_back(struct store *s, struct group_list *list)
{
    if (!list->first)
        return;
    pthread_mutex_lock(&s->mutex);
    group_move(&s->done, list);
    bool wake = store_need_wake(s);
    pthread_mutex_unlock(&s->mutex);
    if (wake)
        s->wake(s->ctx);
}

/* What failed and what was kept and then committed, in order of submission. */
static void hand_back_merged(struct store *s, struct group_list *failed)
{
    struct group_list *settled = &s->w.settled, merged = {0};
    while (failed->first && settled->first)
        group_push(&merged, group_pop(failed->first->number < settled->first->number ? failed : settled));
    group_move(&merged, failed);
    group_move(&merged, settled);
    hand_back(s, &merged);
}

static void tell_state(struct store *s, bool writable, const char *reason)
{
    pthread_mutex_lock(&s->mutex);
    s->writable = writable;
    if (!writable)
        s->fell = true;
    snprintf(s->reason, sizeof(s->reason), "%s", reason);
    bool wake = store_need_wake(s);
    pthread_mutex_unlock(&s->mutex);
    if (wake)
        s->wake(s->ctx);
}

static void note_commit(struct store *s, int64_t ns)
{
    pthread_mutex_lock(&s->mutex);
    histogram_add(&s->commit_times, (double)ns / 1e9);
    pthread_mutex_unlock(&s->mutex);
}

/* ---- failure and recovery ---- */

static int group_code(int code)
{
    return code == -ENOSPC || code == -EROFS ? code : -EIO;
}

/* KEEP groups without a result to `kept`, the others get `code` and go to `failed`. */
static void split(struct writer *w, struct group_list *list, int code, struct group_list *failed)
{
    struct store_group *g;
    while ((g = group_pop(list))) {
        if (g->result == 0 && (g->flags & STORE_KEEP)) {
            group_push(&w->kept, g);
            continue;
        }
        if (g->result == 0)
            g->result = code;
        group_push(failed, g);
    }
}

static void reason_of(struct store *s, int rc, int code, struct error *err)
{
    if (code == -ENOSPC)
        error_set(err, code, "%s: the disk is full: %.1f MiB are free, %.1f are needed to go on", s->dir,
                  (double)MAX(disk_free(s->dir), 0) / 1048576, (double)s->reserve_bytes * 1.25 / 1048576);
    else
        sqlite_error(s->w.db, rc, s->path, "cannot write", err);
}

static void set_broken(struct store *s, int code, const char *reason)
{
    struct writer *w = &s->w;
    if (w->broken == 0)
        w->backoff_ms = s->probe_ms;
    w->broken = group_code(code);
    w->sticky = code == -EBADMSG;
    w->probe_at_ns = monotonic_ns() + w->backoff_ms * 1000000;
    tell_state(s, false, reason);
}

/* The kept groups, as many in a transaction as fit; where there are none, a touch, so that something was committed. */
static int commit_kept(struct writer *w)
{
    do {
        struct group_list part = {0}, rest = w->kept;
        size_t ops = 0, bytes = 0;
        struct store_group *g;
        while ((g = rest.first) &&
               (ops == 0 || (ops + g->n_ops <= STORE_BATCH_OPS && bytes + g->bytes <= STORE_BATCH_BYTES))) {
            ops += g->n_ops;
            bytes += g->bytes;
            group_push(&part, group_pop(&rest));
        }
        int rc = commit_groups(w, &part);
        if (rc == SQLITE_OK && !any_left(&part))
            rc = touch(w);
        if (rc != SQLITE_OK) {
            group_move(&part, &rest);
            w->kept = part;
            return rc;
        }
        w->kept = rest;
        group_move(&w->settled, &part);
    } while (w->kept.first);
    return SQLITE_OK;
}

/* Whatever can be written while broken: 0, or the code of what is wrong now, with the reason. */
static int try_kept(struct store *s, struct error *err)
{
    struct writer *w = &s->w;
    if (w->broken == -EIO || !w->db) {
        int r = writer_reopen(s, err);
        if (r < 0) {
            w->kept_stuck = true;
            return r;
        }
    }
    /* Where space is short the log goes round in what it has. */
    if (w->broken == -ENOSPC && w->wal_pages >= CHECKPOINT_FULL_PAGES)
        sqlite3_wal_checkpoint_v2(w->db, "main", SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    int rc = commit_kept(w);
    w->kept_stuck = rc != SQLITE_OK;
    if (rc == SQLITE_OK)
        return 0;
    int code = sqlite_code(w->db, rc, s->path);
    reason_of(s, rc, code, err);
    return code;
}

/* A checkpoint lets the log start over in the space it has. */
static void make_room(struct store *s)
{
    reserve_release(s->reserve_fd);
    s->w.reserve_released = true;
    if (s->w.db)
        sqlite3_wal_checkpoint_v2(s->w.db, "main", SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
}

static void recovered(struct store *s)
{
    s->w.broken = 0;
    s->w.kept_stuck = false;
    tell_state(s, true, "");
}

/* A write failed with `rc`; `list` (may be empty) is what it was to record. */
static void fall(struct store *s, int rc, struct group_list *list)
{
    struct writer *w = &s->w;
    struct error err = ERROR_INIT;
    int code = sqlite_code(w->db, rc, s->path);
    reason_of(s, rc, code, &err);
    set_broken(s, code, err.message);
    struct group_list failed = {0};
    split(w, list, w->broken, &failed);
    if (w->sticky) {
        w->kept_stuck = true;
    } else {
        if (code == -ENOSPC)
            make_room(s);
        int r = try_kept(s, &err);
        if (r < 0 && r != code)
            set_broken(s, r, err.message);
        else if (r == 0 && code != -ENOSPC)
            recovered(s); /* an error that passed */
    }
    hand_back_merged(s, &failed);
}

static void probe(struct store *s)
{
    struct writer *w = &s->w;
    struct error err = ERROR_INIT;
    int r = try_kept(s, &err);
    if (r == -ENOSPC && w->broken != -ENOSPC) {
        make_room(s);
        r = try_kept(s, &err);
    }
    if (r == 0 && w->reserve_released) {
        r = reserve_take(s->reserve_fd, s->reserve_bytes);
        if (r < 0)
            reason_of(s, SQLITE_FULL, -ENOSPC, &err);
        else
            w->reserve_released = false;
    }
    if (r == 0)
        recovered(s);
    hand_back(s, &w->settled);
    if (r == 0)
        return;
    w->backoff_ms = MIN(w->backoff_ms * 2, PROBE_MAX_MS);
    set_broken(s, r, err.message);
}

/* ---- checkpoints ---- */

static void checkpoint(struct store *s, bool idle)
{
    struct writer *w = &s->w;
    if (w->wal_pages < (idle ? w->checkpoint_pages : MAX(w->checkpoint_pages, CHECKPOINT_BUSY_PAGES)))
        return;
    int mode = w->wal_pages >= CHECKPOINT_RESTART_PAGES ? SQLITE_CHECKPOINT_RESTART : SQLITE_CHECKPOINT_PASSIVE;
    int rc = sqlite3_wal_checkpoint_v2(w->db, "main", mode, NULL, NULL);
    /* Unless the next commit starts the log over (a reader may be in the way), again when it has grown by as much. */
    w->checkpoint_pages = w->wal_pages + CHECKPOINT_IDLE_PAGES;
    if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_BUSY)
        fall(s, rc, &(struct group_list){0});
}

/* ---- the loop ---- */

static void write_batch(struct store *s, struct group_list *list, bool more)
{
    struct writer *w = &s->w;
    if (w->broken) {
        struct group_list failed = {0};
        split(w, list, w->broken, &failed);
        if (w->kept.first && !w->kept_stuck) {
            struct error err = ERROR_INIT;
            int r = try_kept(s, &err);
            if (r < 0)
                set_broken(s, r, err.message);
        }
        hand_back_merged(s, &failed);
        return;
    }
    int64_t start = monotonic_ns();
    int rc = commit_groups(w, list);
    if (rc != SQLITE_OK) {
        fall(s, rc, list);
        return;
    }
    int64_t end = monotonic_ns();
    note_commit(s, end - start);
    hand_back(s, list);
    retention_wrote(w, end);
    checkpoint(s, !more);
}

static void write_retention(struct store *s)
{
    int rc = retention_slice(&s->w);
    if (rc != SQLITE_OK)
        fall(s, rc, &(struct group_list){0});
    else
        checkpoint(s, true);
}

/* Under the mutex. */
static void take(struct store *s, struct group_list *ret)
{
    size_t ops = 0, bytes = 0;
    struct store_group *g;
    while ((g = s->queue.first) &&
           (ops == 0 || (ops + g->n_ops <= STORE_BATCH_OPS && bytes + g->bytes <= STORE_BATCH_BYTES))) {
        ops += g->n_ops;
        bytes += g->bytes;
        s->queue_groups--;
        if (!(g->flags & STORE_LAZY))
            s->queue_urgent--;
        group_push(ret, group_pop(&s->queue));
    }
    s->queue_ops -= ops;
    s->queue_bytes -= bytes;
}

enum task { TASK_WAIT, TASK_BATCH, TASK_PROBE, TASK_RETENTION, TASK_END };

/* Under the mutex: what to do now; for TASK_WAIT until when. */
static enum task next_task(struct store *s, int64_t now, int64_t *ret_until)
{
    struct writer *w = &s->w;
    int64_t until = INT64_MAX;
    bool retention = !w->broken && !s->closing && now >= w->retention_at_ns;
    if (s->queue.first) {
        int64_t ride = s->queue_since_ns + STORE_LAZY_MS * INT64_C(1000000);
        bool go = s->queue_urgent > 0 || s->closing || now >= ride || s->queue_ops >= STORE_BATCH_OPS ||
                  s->queue_bytes >= STORE_BATCH_BYTES;
        /* Under a load that never pauses, retention gets its turn all the same. */
        if (go && retention && (w->behind || now - w->retention_at_ns > 100 * INT64_C(1000000)))
            return TASK_RETENTION;
        if (go)
            return TASK_BATCH;
        until = ride;
    } else if (s->closing) {
        return TASK_END;
    }
    if (w->broken && !w->sticky) {
        if (now >= w->probe_at_ns)
            return TASK_PROBE;
        until = MIN(until, w->probe_at_ns);
    }
    if (retention)
        return TASK_RETENTION;
    if (!w->broken)
        until = MIN(until, w->retention_at_ns);
    *ret_until = until;
    return TASK_WAIT;
}

static void wait_until(struct store *s, int64_t until)
{
    if (until == INT64_MAX) {
        pthread_cond_wait(&s->writer_cond, &s->mutex);
        return;
    }
    struct timespec t = {.tv_sec = until / 1000000000, .tv_nsec = until % 1000000000};
    pthread_cond_timedwait(&s->writer_cond, &s->mutex, &t);
}

/* Everything was taken from the queue: what is kept gets a last chance. */
static void finish(struct store *s)
{
    struct writer *w = &s->w;
    struct error err = ERROR_INIT;
    if (w->broken && w->kept.first && !w->sticky)
        try_kept(s, &err);
    for (struct store_group *g = w->kept.first; g; g = g->next)
        if (g->result == 0)
            g->result = -ESHUTDOWN;
    hand_back_merged(s, &w->kept);
}

void *writer_main(void *store)
{
    struct store *s = store;
    struct writer *w = &s->w;
    pthread_mutex_lock(&s->mutex);
    for (;;) {
        if (s->retention_changed) {
            s->retention_changed = false;
            w->retention = s->retention;
            w->retention_at_ns = 0;
        }
        int64_t until;
        enum task task = next_task(s, monotonic_ns(), &until);
        if (task == TASK_WAIT) {
            wait_until(s, until);
            continue;
        }
        struct group_list batch = {0};
        if (task == TASK_BATCH)
            take(s, &batch);
        bool more = s->queue.first != NULL;
        pthread_mutex_unlock(&s->mutex);
        switch (task) {
        case TASK_BATCH:
            write_batch(s, &batch, more);
            break;
        case TASK_PROBE:
            probe(s);
            break;
        case TASK_RETENTION:
            write_retention(s);
            break;
        default:
            finish(s);
            return NULL;
        }
        pthread_mutex_lock(&s->mutex);
    }
}
