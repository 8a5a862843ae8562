/* Columns → structs: the one place that knows their order. */
#include "store/internal.h"

const char event_columns[] =
    "e.seq,e.status,e.decision,e.depth,e.attempt,e.occurred_ms,e.started_ms,e.completed_ms,"
    "e.id,e.trigger_id,e.pipeline_id,e.event_type,e.run_id,e.root_event_id,e.replay_of,"
    "e.chain,e.concurrency_key,e.traceparent,e.reason,e.error_message,e.resolved_inputs,e.data,e.referring";
const char run_columns[] = "r.seq,r.status,r.attempt,r.created_ms,r.started_ms,r.completed_ms,r.id,r.event_id,"
                           "r.pipeline_id,r.trigger_id,r.traceparent,r.error_message,r.inputs,r.outputs";
#define STEP_FACTS "s.step_id,s.status,s.attempt,s.exit_code,s.term_signal,s.started_ms,s.completed_ms,s.error_message"
const char step_columns[] = STEP_FACTS ",s.output", step_facts[] = STEP_FACTS ",NULL";

char *column_dup(sqlite3_stmt *st, int column)
{
    const void *text = sqlite3_column_text(st, column);
    return text ? xstrndup(text, (size_t)sqlite3_column_bytes(st, column)) : NULL;
}

static void column_id(sqlite3_stmt *st, int column, char id[ID_TEXT_MAX])
{
    const void *text = sqlite3_column_text(st, column);
    size_t len = text ? MIN((size_t)sqlite3_column_bytes(st, column), (size_t)ID_TEXT_MAX - 1) : 0;
    if (len > 0)
        memcpy(id, text, len);
    id[len] = '\0';
}

void event_from_row(sqlite3_stmt *st, struct event *ret)
{
    int i = 0;
    ret->seq = sqlite3_column_int64(st, i++);
    ret->status = (enum event_status)sqlite3_column_int(st, i++);
    ret->decision = (enum decision)sqlite3_column_int(st, i++);
    ret->depth = sqlite3_column_int(st, i++);
    ret->attempt = sqlite3_column_int(st, i++);
    ret->occurred_ms = sqlite3_column_int64(st, i++);
    ret->started_ms = sqlite3_column_int64(st, i++);
    ret->completed_ms = sqlite3_column_int64(st, i++);
    column_id(st, i++, ret->id);
    ret->trigger_id = column_dup(st, i++);
    ret->pipeline_id = column_dup(st, i++);
    ret->event_type = column_dup(st, i++);
    column_id(st, i++, ret->run_id);
    if (sqlite3_column_type(st, i) == SQLITE_NULL)
        memcpy(ret->root_event_id, ret->id, sizeof(ret->id));
    else
        column_id(st, i, ret->root_event_id);
    i++;
    column_id(st, i++, ret->replay_of);
    ret->chain = column_dup(st, i++);
    ret->concurrency_key = column_dup(st, i++);
    ret->traceparent = column_dup(st, i++);
    ret->reason = column_dup(st, i++);
    ret->error_message = column_dup(st, i++);
    ret->resolved_inputs = column_dup(st, i++);
    ret->data = column_dup(st, i++);
    ret->referring = column_dup(st, i++);
}

void run_from_row(sqlite3_stmt *st, struct run_row *ret)
{
    int i = 0;
    ret->seq = sqlite3_column_int64(st, i++);
    ret->status = (enum run_status)sqlite3_column_int(st, i++);
    ret->attempt = sqlite3_column_int(st, i++);
    ret->created_ms = sqlite3_column_int64(st, i++);
    ret->started_ms = sqlite3_column_int64(st, i++);
    ret->completed_ms = sqlite3_column_int64(st, i++);
    column_id(st, i++, ret->id);
    column_id(st, i++, ret->event_id);
    ret->pipeline_id = column_dup(st, i++);
    ret->trigger_id = column_dup(st, i++);
    ret->traceparent = column_dup(st, i++);
    ret->error_message = column_dup(st, i++);
    ret->inputs = column_dup(st, i++);
    ret->outputs = column_dup(st, i++);
}

void step_from_row(sqlite3_stmt *st, struct step_row *ret)
{
    int i = 0;
    ret->step_id = column_dup(st, i++);
    ret->status = (enum step_status)sqlite3_column_int(st, i++);
    ret->attempt = sqlite3_column_int(st, i++);
    ret->exit_code = sqlite3_column_int(st, i++);
    ret->term_signal = sqlite3_column_int(st, i++);
    ret->started_ms = sqlite3_column_int64(st, i++);
    ret->completed_ms = sqlite3_column_int64(st, i++);
    ret->error_message = column_dup(st, i++);
    ret->output = column_dup(st, i++);
}

int steps_read(sqlite3 *db, int64_t run_seq, struct step_row **ret, size_t *ret_n)
{
    _cleanup_(freep) char *sql =
        xasprintf("SELECT %s FROM steps s WHERE s.run_seq=?1 ORDER BY s.started_ms,s.step_id", step_columns);
    sqlite3_stmt *st = NULL;
    struct step_row *rows = NULL;
    size_t n = 0, cap = 0;
    int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_int64(st, 1, run_seq);
    while (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        if (n == cap) {
            cap = cap ? cap * 2 : 8;
            rows = xreallocarray(rows, cap, sizeof(*rows));
        }
        rows[n] = (struct step_row){0};
        step_from_row(st, &rows[n++]);
        rc = SQLITE_OK;
    }
    sqlite3_finalize(st);
    if (rc != SQLITE_DONE) {
        for (size_t i = 0; i < n; i++)
            step_row_fini(&rows[i]);
        free(rows);
        return rc;
    }
    *ret = rows;
    *ret_n = n;
    return SQLITE_OK;
}

int run_read(sqlite3 *db, const char *id, struct run_row *ret)
{
    _cleanup_(freep) char *sql = xasprintf("SELECT %s,t.text FROM runs r LEFT JOIN pipeline_texts t ON t.id=r.text_id "
                                           "WHERE r.id=?1",
                                           run_columns);
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_text(st, 1, id, -1, SQLITE_STATIC);
    if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct run_row row = {0};
        run_from_row(st, &row);
        row.pipeline_text = column_dup(st, sqlite3_column_count(st) - 1);
        *ret = row;
        rc = SQLITE_OK;
    }
    sqlite3_finalize(st);
    return rc;
}
