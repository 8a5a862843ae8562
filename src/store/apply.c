/* One operation → SQL. Everything is bound where it lies (SQLITE_STATIC): it stays until the group's done(). */
#include "store/internal.h"

static const char *const statement_texts[ST_N] = {
    [ST_BEGIN] = "BEGIN IMMEDIATE",
    [ST_COMMIT] = "COMMIT",
    [ST_ROLLBACK] = "ROLLBACK",
    [ST_TOUCH] = "REPLACE INTO meta VALUES('touched',?1)",
    [ST_EVENT_INSERT] = "INSERT INTO events VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,"
                        "?20,?21,?22,?23,?24)",
    [ST_GROUP_FIND] = "SELECT id FROM event_groups WHERE trigger_id=?1 AND pipeline_id=?2 AND event_type=?3 AND "
                      "status=?4 AND decision=?5",
    [ST_GROUP_INSERT] = "INSERT INTO event_groups(trigger_id,pipeline_id,event_type,status,decision,n) "
                        "VALUES(?1,?2,?3,?4,?5,0)",
    [ST_GROUP_ADD] = "UPDATE event_groups SET n=n+?6 WHERE trigger_id=?1 AND pipeline_id=?2 AND event_type=?3 AND "
                     "status=?4 AND decision=?5",
    [ST_EVENT_STATE] = "SELECT status,decision,occurred_ms,trigger_id,pipeline_id,event_type FROM events WHERE seq=?1",
    [ST_EVENT_UPDATE] = "UPDATE events SET status=?2,decision=?3,attempt=?4,started_ms=?5,completed_ms=?6,run_id=?7,"
                        "reason=coalesce(?8,reason),error_message=coalesce(?9,error_message),"
                        "resolved_inputs=coalesce(?10,resolved_inputs),group_id=?11 WHERE seq=?1",
    [ST_RUN_INSERT] = "INSERT INTO runs VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15)",
    [ST_RUN_STATE] = "SELECT status,trigger_id,pipeline_id FROM runs WHERE seq=?1",
    [ST_RUN_UPDATE] = "UPDATE runs SET status=?2,attempt=?3,started_ms=?4,completed_ms=?5,error_message=?6,outputs=?7 "
                      "WHERE seq=?1",
    [ST_TEXT_FIND] = "SELECT id FROM pipeline_texts WHERE hash=?1 AND text=?2",
    [ST_TEXT_INSERT] = "INSERT INTO pipeline_texts(hash,text) VALUES(?1,?2)",
    [ST_STEP_PUT] = "REPLACE INTO steps VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10)",
    [ST_LOG_DELETE] = "DELETE FROM step_logs WHERE run_seq=?1 AND step_id=?2",
    [ST_LOG_PUT] = "INSERT INTO step_logs VALUES(?1,?2,?3,?4)",
    [ST_DEDUP_PUT] = "REPLACE INTO dedup VALUES(?1,?2,?3,?4)",
    [ST_KV_PUT] = "REPLACE INTO kv VALUES(?1,?2,?3)",
    [ST_KV_TALLY] = "INSERT INTO kv VALUES(?1,?2,CAST(?4||' '||?3 AS BLOB)) ON CONFLICT(scope,key) DO UPDATE SET "
                    "value=CAST((CAST(CAST(value AS TEXT) AS INTEGER)+?4)||' '||?3 AS BLOB)",
    [ST_KV_DELETE] = "DELETE FROM kv WHERE scope=?1 AND key=?2",
    [ST_KV_CLEAR] = "DELETE FROM kv WHERE scope=?1",
    [ST_COUNT_ADD] = "INSERT INTO counts VALUES(?1,?2,?3,?4,?5,?6,?7) ON CONFLICT DO UPDATE SET n=n+excluded.n",
    [ST_MINUTE_ADD] = "INSERT INTO event_minutes VALUES(?1,?2,?3) ON CONFLICT DO UPDATE SET n=n+excluded.n",
    [ST_OLD_EVENTS_BY_TIME] =
        "SELECT seq,status,decision,occurred_ms,trigger_id,pipeline_id,event_type,run_id FROM events"
        " INDEXED BY events_by_time WHERE occurred_ms<?1 AND status>=2 ORDER BY occurred_ms "
        "LIMIT ?2",
    [ST_OLD_EVENTS_BY_SEQ] =
        "SELECT seq,status,decision,occurred_ms,trigger_id,pipeline_id,event_type,run_id FROM events"
        " NOT INDEXED WHERE status>=2 ORDER BY seq LIMIT ?1",
    [ST_OLD_RUNS_BY_TIME] = "SELECT seq,status,trigger_id,pipeline_id FROM runs INDEXED BY runs_by_time "
                            "WHERE created_ms<?1 AND status>=2 ORDER BY created_ms LIMIT ?2",
    [ST_OLD_RUNS_BY_SEQ] = "SELECT seq,status,trigger_id,pipeline_id FROM runs NOT INDEXED WHERE status>=2 "
                           "ORDER BY seq LIMIT ?1",
    [ST_RUN_BY_ID] = "SELECT seq,status,trigger_id,pipeline_id FROM runs WHERE id=?1 AND status>=2",
    [ST_EVENT_DELETE] = "DELETE FROM events WHERE seq=?1",
    [ST_RUN_DELETE] = "DELETE FROM runs WHERE seq=?1",
    [ST_STEPS_DELETE] = "DELETE FROM steps WHERE run_seq=?1",
    [ST_LOGS_DELETE] = "DELETE FROM step_logs WHERE run_seq=?1",
    /* The runs that printed something, in their order, with how old each is. */
    [ST_OLD_LOGS] = "SELECT l.run_seq,r.created_ms,r.completed_ms FROM "
                    "(SELECT DISTINCT run_seq FROM step_logs WHERE run_seq>?1 ORDER BY run_seq LIMIT ?2) l "
                    "LEFT JOIN runs r ON r.seq=l.run_seq ORDER BY l.run_seq",
    [ST_DEDUP_EXPIRE] =
        "DELETE FROM dedup WHERE (scope,key) IN (SELECT scope,key FROM dedup INDEXED BY dedup_by_expiry "
        "WHERE expires_ms<=?1 ORDER BY expires_ms LIMIT ?2)",
    [ST_COUNT_SWEEP] = "DELETE FROM counts WHERE n<=0",
    [ST_GROUP_SWEEP] = "DELETE FROM event_groups WHERE n<=0",
    [ST_MINUTE_SWEEP] = "DELETE FROM event_minutes WHERE n<=0",
    [ST_TEXT_SWEEP] = "DELETE FROM pipeline_texts WHERE NOT EXISTS(SELECT 1 FROM runs WHERE text_id=pipeline_texts.id)",
};

sqlite3_stmt *writer_statement(struct writer *w, enum statement id)
{
    sqlite3_stmt **st = &w->statements[id];
    if (!*st)
        sqlite3_prepare_v3(w->db, statement_texts[id], -1, SQLITE_PREPARE_PERSISTENT, st, NULL);
    return *st;
}

int statement_run(sqlite3_stmt *st)
{
    int rc;
    do
        rc = sqlite3_step(st);
    while (rc == SQLITE_ROW);
    int reset = sqlite3_reset(st);
    return rc != SQLITE_DONE ? rc : reset;
}

/* NULL and "" are NULL. */
static void bind_id(sqlite3_stmt *st, int i, const char *id)
{
    if (id && id[0])
        sqlite3_bind_text(st, i, id, -1, SQLITE_STATIC);
    else
        sqlite3_bind_null(st, i);
}

static void bind_text(sqlite3_stmt *st, int i, const char *text)
{
    sqlite3_bind_text(st, i, text, -1, SQLITE_STATIC);
}

static void bind_bytes(sqlite3_stmt *st, int i, const char *bytes, size_t len)
{
    if (len == 0)
        sqlite3_bind_zeroblob(st, i, 0);
    else
        sqlite3_bind_blob64(st, i, bytes, len, SQLITE_STATIC);
}

static void bind_group(sqlite3_stmt *st, const char *const texts[3], int status, int decision)
{
    for (int i = 0; i < 3; i++)
        bind_text(st, i + 1, texts[i] ? texts[i] : "");
    sqlite3_bind_int(st, 4, status);
    sqlite3_bind_int(st, 5, decision);
}

/* The group of such an event, made where there is none. */
static int group_of(struct writer *w, const char *trigger_id, const char *pipeline_id, const char *event_type,
                    int status, int decision, int64_t *ret)
{
    int64_t *known = counts_group(&w->counts, trigger_id, pipeline_id, event_type, status, decision);
    if (*known == 0) {
        sqlite3_stmt *find = writer_statement(w, ST_GROUP_FIND), *insert = writer_statement(w, ST_GROUP_INSERT);
        if (!find || !insert)
            return sqlite3_errcode(w->db);
        const char *const texts[] = {trigger_id, pipeline_id, event_type};
        bind_group(find, texts, status, decision);
        int rc = sqlite3_step(find);
        if (rc == SQLITE_ROW)
            *known = sqlite3_column_int64(find, 0);
        int reset = sqlite3_reset(find);
        if (rc != SQLITE_ROW && rc != SQLITE_DONE)
            return reset;
        if (rc == SQLITE_DONE) {
            bind_group(insert, texts, status, decision);
            rc = statement_run(insert);
            if (rc != SQLITE_OK)
                return rc;
            *known = sqlite3_last_insert_rowid(w->db);
        }
    }
    *ret = *known;
    return SQLITE_OK;
}

static int event_insert(struct writer *w, const struct event *e)
{
    int64_t group = 0;
    int rc = group_of(w, e->trigger_id, e->pipeline_id, e->event_type, (int)e->status, (int)e->decision, &group);
    if (rc != SQLITE_OK)
        return rc;
    sqlite3_stmt *st = writer_statement(w, ST_EVENT_INSERT);
    if (!st)
        return sqlite3_errcode(w->db);
    int i = 1;
    sqlite3_bind_int64(st, i++, e->seq);
    sqlite3_bind_int(st, i++, (int)e->status);
    sqlite3_bind_int(st, i++, (int)e->decision);
    sqlite3_bind_int(st, i++, e->depth);
    sqlite3_bind_int(st, i++, e->attempt);
    sqlite3_bind_int64(st, i++, e->occurred_ms);
    sqlite3_bind_int64(st, i++, e->started_ms);
    sqlite3_bind_int64(st, i++, e->completed_ms);
    bind_text(st, i++, e->id);
    bind_text(st, i++, e->trigger_id);
    bind_text(st, i++, e->pipeline_id);
    bind_text(st, i++, e->event_type);
    bind_id(st, i++, e->run_id);
    bind_text(st, i++, strcmp(e->root_event_id, e->id) == 0 ? NULL : e->root_event_id);
    bind_id(st, i++, e->replay_of);
    bind_text(st, i++, e->chain);
    bind_text(st, i++, e->concurrency_key);
    bind_text(st, i++, e->traceparent);
    bind_text(st, i++, e->reason);
    bind_text(st, i++, e->error_message);
    bind_text(st, i++, e->resolved_inputs);
    bind_text(st, i++, e->data);
    bind_text(st, i++, e->referring);
    sqlite3_bind_int64(st, i++, group);
    rc = statement_run(st);
    if (rc == SQLITE_OK) {
        counts_add(&w->counts, COUNT_EVENTS, e->trigger_id, e->pipeline_id, e->event_type, (int)e->status,
                   (int)e->decision, 1);
        counts_add_minute(&w->counts, e->occurred_ms, (int)e->status, 1);
    }
    return rc;
}

static const char *text_of(sqlite3_stmt *st, int column)
{
    return (const char *)sqlite3_column_text(st, column);
}

static int event_update(struct writer *w, const struct event *e)
{
    sqlite3_stmt *old = writer_statement(w, ST_EVENT_STATE), *st = writer_statement(w, ST_EVENT_UPDATE);
    if (!old || !st)
        return sqlite3_errcode(w->db);
    sqlite3_bind_int64(old, 1, e->seq);
    int rc = sqlite3_step(old);
    if (rc != SQLITE_ROW) { /* deleted meanwhile, or never recorded: nothing to update */
        int reset = sqlite3_reset(old);
        return rc == SQLITE_DONE ? SQLITE_OK : reset;
    }
    int status = sqlite3_column_int(old, 0), decision = sqlite3_column_int(old, 1);
    int64_t group = 0;
    int found =
        group_of(w, text_of(old, 3), text_of(old, 4), text_of(old, 5), (int)e->status, (int)e->decision, &group);
    if (found != SQLITE_OK) {
        sqlite3_reset(old);
        return found;
    }
    if (status != (int)e->status || decision != (int)e->decision) {
        const char *trigger = text_of(old, 3), *pipeline = text_of(old, 4), *type = text_of(old, 5);
        counts_add(&w->counts, COUNT_EVENTS, trigger, pipeline, type, status, decision, -1);
        counts_add(&w->counts, COUNT_EVENTS, trigger, pipeline, type, (int)e->status, (int)e->decision, 1);
        int64_t occurred_ms = sqlite3_column_int64(old, 2);
        counts_add_minute(&w->counts, occurred_ms, status, -1);
        counts_add_minute(&w->counts, occurred_ms, (int)e->status, 1);
    }
    sqlite3_reset(old);
    int i = 1;
    sqlite3_bind_int64(st, i++, e->seq);
    sqlite3_bind_int(st, i++, (int)e->status);
    sqlite3_bind_int(st, i++, (int)e->decision);
    sqlite3_bind_int(st, i++, e->attempt);
    sqlite3_bind_int64(st, i++, e->started_ms);
    sqlite3_bind_int64(st, i++, e->completed_ms);
    bind_id(st, i++, e->run_id);
    bind_text(st, i++, e->reason);
    bind_text(st, i++, e->error_message);
    bind_text(st, i++, e->resolved_inputs);
    sqlite3_bind_int64(st, i++, group);
    return statement_run(st);
}

void texts_forget(struct writer *w)
{
    for (size_t i = 0; i < TEXT_CACHE_SLOTS; i++) {
        free(w->texts[i].text);
        w->texts[i] = (struct text_cached){0};
    }
}

/* The row that holds this text, made where there is none. */
static int text_put(struct writer *w, const char *text, int64_t *ret_id)
{
    size_t len = strlen(text);
    uint64_t hash = hash_bytes(0, text, len);
    struct text_cached *slot = &w->texts[hash % TEXT_CACHE_SLOTS];
    if (slot->text && slot->len == len && memcmp(slot->text, text, len) == 0) {
        *ret_id = slot->id;
        return SQLITE_OK;
    }
    sqlite3_stmt *st = writer_statement(w, ST_TEXT_FIND);
    if (!st)
        return sqlite3_errcode(w->db);
    sqlite3_bind_int64(st, 1, (int64_t)hash);
    bind_text(st, 2, text);
    int64_t id = 0;
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        id = sqlite3_column_int64(st, 0);
    int reset = sqlite3_reset(st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return reset;
    if (rc == SQLITE_DONE) {
        st = writer_statement(w, ST_TEXT_INSERT);
        if (!st)
            return sqlite3_errcode(w->db);
        sqlite3_bind_int64(st, 1, (int64_t)hash);
        bind_text(st, 2, text);
        rc = statement_run(st);
        if (rc != SQLITE_OK)
            return rc;
        id = sqlite3_last_insert_rowid(w->db);
    }
    free(slot->text);
    *slot = (struct text_cached){.id = id, .text = xmemdup(text, len + 1), .len = len};
    *ret_id = id;
    return SQLITE_OK;
}

static int run_insert(struct writer *w, const struct run_row *r)
{
    int64_t text_id = 0;
    if (r->pipeline_text) {
        int rc = text_put(w, r->pipeline_text, &text_id);
        if (rc != SQLITE_OK)
            return rc;
    }
    sqlite3_stmt *st = writer_statement(w, ST_RUN_INSERT);
    if (!st)
        return sqlite3_errcode(w->db);
    int i = 1;
    sqlite3_bind_int64(st, i++, r->seq);
    sqlite3_bind_int(st, i++, (int)r->status);
    sqlite3_bind_int(st, i++, r->attempt);
    sqlite3_bind_int64(st, i++, r->created_ms);
    sqlite3_bind_int64(st, i++, r->started_ms);
    sqlite3_bind_int64(st, i++, r->completed_ms);
    if (text_id != 0)
        sqlite3_bind_int64(st, i++, text_id);
    else
        sqlite3_bind_null(st, i++);
    bind_text(st, i++, r->id);
    bind_id(st, i++, r->event_id);
    bind_text(st, i++, r->pipeline_id);
    bind_text(st, i++, r->trigger_id);
    bind_text(st, i++, r->traceparent);
    bind_text(st, i++, r->error_message);
    bind_text(st, i++, r->inputs);
    bind_text(st, i++, r->outputs);
    int rc = statement_run(st);
    if (rc == SQLITE_OK)
        counts_add(&w->counts, COUNT_RUNS, r->trigger_id, r->pipeline_id, NULL, (int)r->status, 0, 1);
    return rc;
}

static int run_update(struct writer *w, const struct run_row *r)
{
    sqlite3_stmt *old = writer_statement(w, ST_RUN_STATE), *st = writer_statement(w, ST_RUN_UPDATE);
    if (!old || !st)
        return sqlite3_errcode(w->db);
    sqlite3_bind_int64(old, 1, r->seq);
    int rc = sqlite3_step(old);
    if (rc != SQLITE_ROW) {
        int reset = sqlite3_reset(old);
        return rc == SQLITE_DONE ? SQLITE_OK : reset;
    }
    int status = sqlite3_column_int(old, 0);
    if (status != (int)r->status) {
        counts_add(&w->counts, COUNT_RUNS, text_of(old, 1), text_of(old, 2), NULL, status, 0, -1);
        counts_add(&w->counts, COUNT_RUNS, text_of(old, 1), text_of(old, 2), NULL, (int)r->status, 0, 1);
    }
    sqlite3_reset(old);
    int i = 1;
    sqlite3_bind_int64(st, i++, r->seq);
    sqlite3_bind_int(st, i++, (int)r->status);
    sqlite3_bind_int(st, i++, r->attempt);
    sqlite3_bind_int64(st, i++, r->started_ms);
    sqlite3_bind_int64(st, i++, r->completed_ms);
    bind_text(st, i++, r->error_message);
    bind_text(st, i++, r->outputs);
    return statement_run(st);
}

static int log_put(struct writer *w, int64_t run_seq, const char *step_id, int stream, const char *bytes, size_t len)
{
    if (!bytes || len == 0)
        return SQLITE_OK;
    sqlite3_stmt *st = writer_statement(w, ST_LOG_PUT);
    if (!st)
        return sqlite3_errcode(w->db);
    sqlite3_bind_int64(st, 1, run_seq);
    bind_text(st, 2, step_id);
    sqlite3_bind_int(st, 3, stream);
    bind_bytes(st, 4, bytes, len);
    return statement_run(st);
}

static int step_put(struct writer *w, int64_t run_seq, const struct step_row *s)
{
    sqlite3_stmt *st = writer_statement(w, ST_STEP_PUT), *clear = writer_statement(w, ST_LOG_DELETE);
    if (!st || !clear)
        return sqlite3_errcode(w->db);
    int i = 1;
    sqlite3_bind_int64(st, i++, run_seq);
    bind_text(st, i++, s->step_id);
    sqlite3_bind_int(st, i++, (int)s->status);
    sqlite3_bind_int(st, i++, s->attempt);
    sqlite3_bind_int(st, i++, s->exit_code);
    sqlite3_bind_int(st, i++, s->term_signal);
    sqlite3_bind_int64(st, i++, s->started_ms);
    sqlite3_bind_int64(st, i++, s->completed_ms);
    bind_text(st, i++, s->error_message);
    bind_text(st, i++, s->output);
    int rc = statement_run(st);
    if (rc == SQLITE_OK && s->attempt > 1) { /* what an earlier attempt printed */
        sqlite3_bind_int64(clear, 1, run_seq);
        bind_text(clear, 2, s->step_id);
        rc = statement_run(clear);
    }
    if (rc == SQLITE_OK)
        rc = log_put(w, run_seq, s->step_id, 1, s->out, s->out_len);
    if (rc == SQLITE_OK)
        rc = log_put(w, run_seq, s->step_id, 2, s->err, s->err_len);
    return rc;
}

static int tally_put(struct writer *w, struct tally *tally)
{
    sqlite3_stmt *st = writer_statement(w, ST_KV_TALLY);
    if (!st)
        return sqlite3_errcode(w->db);
    const struct store_op *op = tally->op;
    tally->op = NULL;
    bind_text(st, 1, op->scope);
    bind_bytes(st, 2, op->key, op->key_len);
    sqlite3_bind_int64(st, 3, op->expires_ms);
    sqlite3_bind_int64(st, 4, tally->n);
    return statement_run(st);
}

/* All of them, or those of a scope. */
static int tallies_put(struct writer *w, const char *scope)
{
    int rc = SQLITE_OK;
    for (size_t i = 0; i < TALLY_SLOTS && rc == SQLITE_OK; i++) {
        struct tally *tally = &w->tallies[i];
        if (tally->op && (!scope || strcmp(tally->op->scope, scope) == 0))
            rc = tally_put(w, tally);
    }
    return rc;
}

static int tally_add(struct writer *w, const struct store_op *op)
{
    struct tally *tally = &w->tallies[hash_bytes(0, op->key, op->key_len) % TALLY_SLOTS];
    const struct store_op *last = tally->op;
    if (last && (last->key_len != op->key_len || memcmp(last->key, op->key, op->key_len) != 0 ||
                 strcmp(last->scope, op->scope) != 0)) {
        int rc = tally_put(w, tally);
        if (rc != SQLITE_OK)
            return rc;
    }
    tally->n = (tally->op ? tally->n : 0) + 1;
    tally->op = op;
    return SQLITE_OK;
}

static int key_op(struct writer *w, const struct store_op *op)
{
    enum statement id = op->type == STORE_DEDUP_PUT ? ST_DEDUP_PUT
                        : op->type == STORE_KV_PUT  ? ST_KV_PUT
                        : op->key                   ? ST_KV_DELETE
                                                    : ST_KV_CLEAR;
    sqlite3_stmt *st = writer_statement(w, id);
    if (!st)
        return sqlite3_errcode(w->db);
    if (id != ST_DEDUP_PUT) { /* its key may be one of those */
        int rc = tallies_put(w, op->scope);
        if (rc != SQLITE_OK)
            return rc;
    }
    bind_text(st, 1, op->scope);
    if (id == ST_DEDUP_PUT) {
        bind_text(st, 2, op->key);
        bind_text(st, 3, op->value);
        sqlite3_bind_int64(st, 4, op->expires_ms);
    } else if (id != ST_KV_CLEAR) {
        bind_bytes(st, 2, op->key, op->key_len);
        if (id == ST_KV_PUT)
            bind_bytes(st, 3, op->value, op->value_len);
    }
    return statement_run(st);
}

static int apply(struct writer *w, const struct store_op *op)
{
    switch (op->type) {
    case STORE_EVENT_INSERT:
        return event_insert(w, op->event);
    case STORE_EVENT_UPDATE:
        return event_update(w, op->event);
    case STORE_RUN_INSERT:
        return run_insert(w, op->run);
    case STORE_RUN_UPDATE:
        return run_update(w, op->run);
    case STORE_STEP_PUT:
        return step_put(w, op->run_seq, op->step);
    case STORE_KV_TALLY:
        return tally_add(w, op);
    case STORE_DEDUP_PUT:
    case STORE_KV_PUT:
    case STORE_KV_DELETE:
        return key_op(w, op);
    }
    return SQLITE_MISUSE;
}

int apply_group(struct writer *w, const struct store_group *g)
{
    if (g->bytes > STORE_GROUP_BYTES_MAX)
        return SQLITE_TOOBIG;
    for (const struct store_op *op = g->ops; op; op = op->next) {
        int rc = apply(w, op);
        if (rc != SQLITE_OK)
            return rc;
    }
    return SQLITE_OK;
}

static int put_count(void *ctx, enum count_kind kind, int64_t minute, const char *const texts[3], int status,
                     int decision, int n)
{
    struct writer *w = ctx;
    sqlite3_stmt *st = writer_statement(w, kind == COUNT_MINUTES  ? ST_MINUTE_ADD
                                           : kind == COUNT_EVENTS ? ST_GROUP_ADD
                                                                  : ST_COUNT_ADD);
    if (!st)
        return sqlite3_errcode(w->db);
    int i = 1;
    if (kind == COUNT_EVENTS) {
        bind_group(st, texts, status, decision);
        sqlite3_bind_int(st, 6, n);
        return statement_run(st);
    }
    if (kind == COUNT_MINUTES) {
        sqlite3_bind_int64(st, i++, minute);
        sqlite3_bind_int(st, i++, status);
    } else {
        sqlite3_bind_int(st, i++, (int)kind);
        for (size_t t = 0; t < 3; t++)
            bind_text(st, i++, texts[t]);
        sqlite3_bind_int(st, i++, status);
        sqlite3_bind_int(st, i++, decision);
    }
    sqlite3_bind_int(st, i, n);
    return statement_run(st);
}

int apply_gathered(struct writer *w)
{
    int rc = tallies_put(w, NULL);
    return rc == SQLITE_OK ? counts_flush(&w->counts, put_count, w) : rc;
}

void apply_forget(struct writer *w)
{
    memset(w->tallies, 0, sizeof(w->tallies));
    counts_rollback(&w->counts);
    texts_forget(w);
}
