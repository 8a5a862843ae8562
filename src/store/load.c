/* What is read before the loop runs, on the caller's thread, by a connection of its own. */
#include "store/internal.h"

#include <errno.h>

static int fail(struct store *s, int rc, struct error *err)
{
    return sqlite_error(s->loader, rc, s->path, "cannot read", err);
}

/* `fn` gets each row of `sql`; ends with its first result that is not 0. */
static int each(struct store *s, const char *sql, const char *bind, int (*fn)(void *ctx, sqlite3_stmt *st), void *ctx,
                struct error *err)
{
    sqlite3_stmt *st = NULL;
    int r = 0, rc = sqlite3_prepare_v2(s->loader, sql, -1, &st, NULL);
    if (rc == SQLITE_OK && bind)
        rc = sqlite3_bind_text(st, 1, bind, -1, SQLITE_STATIC);
    while (rc == SQLITE_OK && r == 0 && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        r = fn(ctx, st);
        rc = SQLITE_OK;
    }
    sqlite3_finalize(st);
    if (rc != SQLITE_OK && rc != SQLITE_DONE)
        r = fail(s, rc, err);
    sqlite3_db_release_memory(s->loader);
    return r;
}

struct event_call {
    int (*fn)(void *ctx, struct event *e);
    void *ctx;
};

static int on_event(void *ctx, sqlite3_stmt *st)
{
    struct event_call *call = ctx;
    struct event e = {0};
    event_from_row(st, &e);
    int r = call->fn(call->ctx, &e);
    event_fini(&e);
    return r;
}

int store_load_open_events(struct store_port *port, int (*fn)(void *ctx, struct event *e), void *ctx, struct error *err)
{
    _cleanup_(freep) char *sql = xasprintf("SELECT %s FROM events e WHERE e.seq IN "
                                           "(SELECT seq FROM events INDEXED BY events_by_group WHERE group_id IN "
                                           "(SELECT id FROM event_groups WHERE status IN (0,1))) ORDER BY e.seq",
                                           event_columns);
    return each(store_of(port), sql, NULL, on_event, &(struct event_call){fn, ctx}, err);
}

struct run_call {
    int (*fn)(void *ctx, struct run_row *r);
    void *ctx;
};

static int on_run(void *ctx, sqlite3_stmt *st)
{
    struct run_call *call = ctx;
    struct run_row row = {0};
    run_from_row(st, &row);
    row.pipeline_text = column_dup(st, sqlite3_column_count(st) - 1);
    int r = call->fn(call->ctx, &row);
    run_row_fini(&row);
    return r;
}

int store_load_open_runs(struct store_port *port, int (*fn)(void *ctx, struct run_row *r), void *ctx, struct error *err)
{
    _cleanup_(freep) char *sql = xasprintf("SELECT %s,t.text FROM runs r LEFT JOIN pipeline_texts t ON t.id=r.text_id "
                                           "WHERE r.seq IN (SELECT seq FROM runs INDEXED BY runs_by_status "
                                           "WHERE status IN (0,1)) ORDER BY r.seq",
                                           run_columns);
    return each(store_of(port), sql, NULL, on_run, &(struct run_call){fn, ctx}, err);
}

struct kv_call {
    int (*fn)(void *ctx, const char *key, size_t key_len, const char *value, size_t value_len);
    void *ctx;
};

static int on_kv(void *ctx, sqlite3_stmt *st)
{
    struct kv_call *call = ctx;
    const char *key = sqlite3_column_blob(st, 0), *value = sqlite3_column_blob(st, 1);
    size_t key_len = (size_t)sqlite3_column_bytes(st, 0), value_len = (size_t)sqlite3_column_bytes(st, 1);
    return call->fn(call->ctx, key ? key : "", key_len, value ? value : "", value_len);
}

int store_load_kv(struct store_port *port, const char *scope,
                  int (*fn)(void *ctx, const char *key, size_t key_len, const char *value, size_t value_len), void *ctx,
                  struct error *err)
{
    return each(store_of(port), "SELECT key,value FROM kv WHERE scope=?1 ORDER BY key", scope, on_kv,
                &(struct kv_call){fn, ctx}, err);
}

int store_load_run(struct store_port *port, const char *run_id, struct run_row *ret, struct step_row **ret_steps,
                   size_t *ret_n, struct error *err)
{
    struct store *s = store_of(port);
    struct run_row run = {0};
    struct step_row *steps = NULL;
    size_t n = 0;
    int rc = run_read(s->loader, run_id, &run);
    if (rc == SQLITE_OK)
        rc = steps_read(s->loader, run.seq, &steps, &n);
    int r = rc == SQLITE_DONE ? error_set(err, -ENOENT, "there is no run %s", run_id)
            : rc != SQLITE_OK ? fail(s, rc, err)
                              : 0;
    sqlite3_db_release_memory(s->loader);
    if (r < 0) {
        run_row_fini(&run);
        return r;
    }
    *ret = run;
    *ret_steps = steps;
    *ret_n = n;
    return 0;
}
