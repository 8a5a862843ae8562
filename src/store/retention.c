/* Deleting what is over the limits, oldest first, in slices of their own transactions.
 *
 * A pass goes through the phases events (with their runs), runs, logs, dedup, sweep; a phase ends with the first slice
 * that finds less to delete than a slice holds. A pass begins some seconds after something was written, at once where
 * the limit is passed by far, and every hour. What is still open is never deleted.
 */
#include "store/internal.h"

#define SLICE_ROWS 512
#define LOOK_NS (INT64_C(5) * 1000000000) /* after a write */
#define HOUR_NS (INT64_C(3600) * 1000000000)
#define DAY_MS 86400000.0

static int64_t cutoff_ms(double days)
{
    double age = days * DAY_MS, now = (double)realtime_ms();
    return age >= now ? INT64_MIN : (int64_t)(now - age);
}

static const char *text_of(sqlite3_stmt *st, int column)
{
    return (const char *)sqlite3_column_text(st, column);
}

static int delete_by_seq(struct writer *w, enum statement id, int64_t seq)
{
    sqlite3_stmt *st = writer_statement(w, id);
    if (!st)
        return sqlite3_errcode(w->db);
    sqlite3_bind_int64(st, 1, seq);
    return statement_run(st);
}

/* The row at which `st` (seq, status, trigger, pipeline) stands. */
static int delete_run(struct writer *w, sqlite3_stmt *st)
{
    int64_t seq = sqlite3_column_int64(st, 0);
    counts_add(&w->counts, COUNT_RUNS, text_of(st, 2), text_of(st, 3), NULL, sqlite3_column_int(st, 1), 0, -1);
    w->deleted_runs = true;
    static const enum statement all[] = {ST_LOGS_DELETE, ST_STEPS_DELETE, ST_RUN_DELETE};
    int rc = SQLITE_OK;
    for (size_t i = 0; i < ARRAY_SIZE(all) && rc == SQLITE_OK; i++)
        rc = delete_by_seq(w, all[i], seq);
    return rc;
}

static int delete_run_by_id(struct writer *w, const char *id)
{
    sqlite3_stmt *st = writer_statement(w, ST_RUN_BY_ID);
    if (!st)
        return sqlite3_errcode(w->db);
    sqlite3_bind_text(st, 1, id, -1, SQLITE_STATIC);
    int rc = sqlite3_step(st);
    int deleted = rc == SQLITE_ROW ? delete_run(w, st) : SQLITE_OK;
    int reset = sqlite3_reset(st);
    return deleted != SQLITE_OK ? deleted : rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : reset;
}

static int delete_event(struct writer *w, sqlite3_stmt *st)
{
    int status = sqlite3_column_int(st, 1);
    counts_add(&w->counts, COUNT_EVENTS, text_of(st, 4), text_of(st, 5), text_of(st, 6), status,
               sqlite3_column_int(st, 2), -1);
    counts_add_minute(&w->counts, sqlite3_column_int64(st, 3), status, -1);
    w->deleted_events = true;
    const char *run_id = text_of(st, 7);
    int rc = run_id ? delete_run_by_id(w, run_id) : SQLITE_OK;
    return rc == SQLITE_OK ? delete_by_seq(w, ST_EVENT_DELETE, sqlite3_column_int64(st, 0)) : rc;
}

/* Delete what `select` lists: its last parameter is the limit, the first, where it has two, a time. */
static int delete_listed(struct writer *w, enum statement select, bool by_time, int64_t before_ms, int64_t limit,
                         int (*delete_row)(struct writer *, sqlite3_stmt *), int *n)
{
    sqlite3_stmt *st = writer_statement(w, select);
    if (!st)
        return sqlite3_errcode(w->db);
    int i = 1;
    if (by_time)
        sqlite3_bind_int64(st, i++, before_ms);
    sqlite3_bind_int64(st, i, limit);
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        int deleted = delete_row(w, st);
        if (deleted != SQLITE_OK) {
            sqlite3_reset(st);
            return deleted;
        }
        ++*n;
    }
    int reset = sqlite3_reset(st);
    return rc == SQLITE_DONE ? SQLITE_OK : reset;
}

static int slice_rows(struct writer *w, enum count_kind kind, enum statement by_seq, enum statement by_time,
                      int (*delete_row)(struct writer *, sqlite3_stmt *), int *n)
{
    int rc = SQLITE_OK;
    w->behind = false;
    if (w->retention.events > 0) {
        int64_t excess = w->counts.total[kind] - w->retention.events;
        /* A flood must not outrun it: then slices take turns with batches, and delete no less than those can add. */
        w->behind = excess > 16 * SLICE_ROWS;
        int64_t limit = MIN(excess, w->behind ? STORE_BATCH_OPS : SLICE_ROWS);
        if (limit > 0)
            rc = delete_listed(w, by_seq, false, 0, limit, delete_row, n);
    }
    if (rc == SQLITE_OK && w->retention.days > 0 && *n < SLICE_ROWS)
        rc = delete_listed(w, by_time, true, cutoff_ms(w->retention.days), SLICE_ROWS - *n, delete_row, n);
    return rc;
}

static int slice_logs(struct writer *w, int *n)
{
    if (w->retention.run_log_days <= 0)
        return SQLITE_OK;
    sqlite3_stmt *st = writer_statement(w, ST_OLD_LOGS);
    if (!st)
        return sqlite3_errcode(w->db);
    enum { RUNS = 128 };
    int64_t old[RUNS];
    int n_old = 0, n_seen = 0;
    bool past = false;
    int64_t before = cutoff_ms(w->retention.run_log_days), last = w->log_seq;
    sqlite3_bind_int64(st, 1, w->log_seq);
    sqlite3_bind_int(st, 2, RUNS);
    while (!past && sqlite3_step(st) == SQLITE_ROW && n_seen < RUNS) {
        n_seen++;
        last = sqlite3_column_int64(st, 0);
        int64_t created = sqlite3_column_int64(st, 1), completed = sqlite3_column_int64(st, 2);
        if (sqlite3_column_type(st, 1) == SQLITE_NULL || (completed != 0 && completed < before))
            old[n_old++] = last;
        else
            past = created >= before; /* nothing recorded later can have ended before */
    }
    int reset = sqlite3_reset(st);
    if (reset != SQLITE_OK)
        return reset;
    w->log_seq = last;
    for (int i = 0; i < n_old; i++) {
        int rc = delete_by_seq(w, ST_LOGS_DELETE, old[i]);
        if (rc != SQLITE_OK)
            return rc;
    }
    *n = !past && n_seen == RUNS ? SLICE_ROWS : 0;
    return SQLITE_OK;
}

static int slice_dedup(struct writer *w, int *n)
{
    sqlite3_stmt *st = writer_statement(w, ST_DEDUP_EXPIRE);
    if (!st)
        return sqlite3_errcode(w->db);
    sqlite3_bind_int64(st, 1, realtime_ms());
    sqlite3_bind_int(st, 2, SLICE_ROWS);
    int rc = statement_run(st);
    *n = sqlite3_changes(w->db);
    return rc;
}

static int sweep(struct writer *w)
{
    static const enum statement all[] = {ST_COUNT_SWEEP, ST_GROUP_SWEEP, ST_MINUTE_SWEEP, ST_TEXT_SWEEP};
    if (w->deleted_runs)
        texts_forget(w);
    counts_forget_groups(&w->counts);
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        if (i < 3 ? !w->deleted_events && !w->deleted_runs : !w->deleted_runs)
            continue;
        sqlite3_stmt *st = writer_statement(w, all[i]);
        int rc = st ? statement_run(st) : sqlite3_errcode(w->db);
        if (rc != SQLITE_OK)
            return rc;
    }
    w->deleted_events = w->deleted_runs = false;
    return SQLITE_OK;
}

static int slice(struct writer *w, int *n)
{
    switch (w->phase) {
    case PHASE_EVENTS:
        return slice_rows(w, COUNT_EVENTS, ST_OLD_EVENTS_BY_SEQ, ST_OLD_EVENTS_BY_TIME, delete_event, n);
    case PHASE_RUNS:
        return slice_rows(w, COUNT_RUNS, ST_OLD_RUNS_BY_SEQ, ST_OLD_RUNS_BY_TIME, delete_run, n);
    case PHASE_LOGS:
        return slice_logs(w, n);
    case PHASE_DEDUP:
        return slice_dedup(w, n);
    default:
        return sweep(w);
    }
}

int retention_slice(struct writer *w)
{
    if (w->phase == PHASE_IDLE) {
        w->phase = PHASE_EVENTS;
        w->log_seq = 0;
    }
    int n = 0, rc = writer_begin(w);
    if (rc == SQLITE_OK && (rc = slice(w, &n)) == SQLITE_OK)
        rc = writer_commit(w);
    else
        writer_rollback(w);
    int64_t now = monotonic_ns();
    if (rc != SQLITE_OK) {
        w->phase = PHASE_IDLE;
        w->retention_at_ns = now + HOUR_NS;
        return rc;
    }
    if (n < SLICE_ROWS)
        w->phase = w->phase == PHASE_SWEEP ? PHASE_IDLE : w->phase + 1;
    w->retention_at_ns = w->phase == PHASE_IDLE ? now + HOUR_NS : now;
    if (w->phase == PHASE_IDLE) {
        w->left = w->counts.total[COUNT_EVENTS];
        sqlite3_db_release_memory(w->db);
    }
    return SQLITE_OK;
}

void retention_wrote(struct writer *w, int64_t now_ns)
{
    w->retention_at_ns = MIN(w->retention_at_ns, now_ns + LOOK_NS);
    /* In a flood sooner: a fiftieth more than the limit, or than what the last pass had to leave, is enough. */
    int64_t limit = MAX(w->retention.events, w->left);
    if (w->retention.events > 0 && w->counts.total[COUNT_EVENTS] > limit + MAX(limit / 50, 16 * SLICE_ROWS))
        w->retention_at_ns = MIN(w->retention_at_ns, now_ns);
}
