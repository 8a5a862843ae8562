/* The reader threads: one typed query at a time, in a read transaction of its own.
 *
 * Lists of runs are newest first. Which index drives one is decided here and not by SQLite, which keeps no statistics
 * of this database: `counts` tells exactly how many rows each filter has, and so how far a scan must go to fill a page.
 */
#include "store/internal.h"

#include <errno.h>

enum fixed {
    FIXED_EVENT,
    FIXED_DEDUP,
    FIXED_SEEN,
    FIXED_KV,
    FIXED_KV_PAGE,
    FIXED_COUNTS,
    FIXED_MINUTES,
    FIXED_PART_MINUTE,
    FIXED_N
};

struct reader {
    struct store *s;
    sqlite3 *db; /* opened by the first read */
    sqlite3_stmt *fixed[FIXED_N];
    int64_t deadline_ns;
};

static const char *const fixed_texts[FIXED_N] = {
    [FIXED_DEDUP] = "SELECT value FROM dedup WHERE scope=?1 AND key=?2 AND expires_ms>?3",
    [FIXED_SEEN] = "SELECT d.value->>'$.events[0]',e.status FROM dedup d LEFT JOIN events e "
                   "ON e.id=d.value->>'$.events[0]' WHERE d.scope=?1 AND d.key=?2 AND d.expires_ms>?3",
    [FIXED_KV] = "SELECT value FROM kv WHERE scope=?1 AND key=?2",
    [FIXED_KV_PAGE] = "SELECT key,value FROM kv WHERE scope=?1 AND key>?2 ORDER BY key LIMIT ?3",
    [FIXED_COUNTS] =
        "SELECT coalesce(sum(n),0),"
        "coalesce(sum(n) FILTER (WHERE (?1 IS NULL OR trigger_id=?1) AND (?2 IS NULL OR pipeline_id=?2) AND "
        "(?3<0 OR status=?3)),0),coalesce(sum(n) FILTER (WHERE pipeline_id=?2),0),"
        "coalesce(sum(n) FILTER (WHERE status=?3),0) FROM counts WHERE kind=1",
    [FIXED_MINUTES] = "SELECT status,sum(n) FROM event_minutes WHERE minute>=?1 GROUP BY status",
    [FIXED_PART_MINUTE] = "SELECT status,count(*) FROM events INDEXED BY events_by_time "
                          "WHERE occurred_ms>=?1 AND occurred_ms<?2 GROUP BY status",
};

/* ---- statements ---- */

static sqlite3_stmt *fixed_statement(struct reader *t, enum fixed id)
{
    sqlite3_stmt **st = &t->fixed[id];
    if (*st)
        return *st;
    _cleanup_(freep) char *text = NULL;
    if (id == FIXED_EVENT)
        text = xasprintf("SELECT %s FROM events e WHERE e.id=?1", event_columns);
    sqlite3_prepare_v3(t->db, text ? text : fixed_texts[id], -1, SQLITE_PREPARE_PERSISTENT, st, NULL);
    return *st;
}

static void bind_text(sqlite3_stmt *st, int i, const char *text)
{
    sqlite3_bind_text(st, i, text, -1, SQLITE_STATIC);
}

/* The end of a statement that was stepped: SQLITE_DONE where nothing (more) was there, SQLITE_OK after a row. */
static int end_statement(sqlite3_stmt *st, int rc)
{
    int reset = sqlite3_reset(st);
    return rc == SQLITE_ROW ? SQLITE_OK : rc == SQLITE_DONE ? SQLITE_DONE : reset;
}

void where_text(struct where *w, const char *condition, const char *text)
{
    w->bound[w->n++].text = text;
    buf_printf(&w->sql, " AND %s?%d", condition, w->n);
}

void where_number(struct where *w, const char *condition, int64_t number)
{
    w->bound[w->n].text = NULL;
    w->bound[w->n++].number = number;
    buf_printf(&w->sql, " AND %s?%d", condition, w->n);
}

int where_prepare(sqlite3 *db, const struct where *w, const char *sql, sqlite3_stmt **ret)
{
    int rc = sqlite3_prepare_v2(db, sql, -1, ret, NULL);
    for (int i = 0; i < w->n && rc == SQLITE_OK; i++)
        rc = w->bound[i].text ? sqlite3_bind_text(*ret, i + 1, w->bound[i].text, -1, SQLITE_STATIC)
                              : sqlite3_bind_int64(*ret, i + 1, w->bound[i].number);
    return rc;
}

/* ---- lists ---- */

enum driver { DRIVER_TABLE, DRIVER_PIPELINE, DRIVER_STATUS, DRIVER_TIME, DRIVER_N };

static const char *const indexes[DRIVER_N] = {
    [DRIVER_PIPELINE] = "runs_by_pipeline", [DRIVER_STATUS] = "runs_by_status", [DRIVER_TIME] = "runs_by_time"};

struct list {
    struct reader *t;
    const struct store_filter *filter;
    bool timed;             /* filtered by time */
    int64_t matched;        /* rows of all times that match */
    int64_t rows[DRIVER_N]; /* that each index would go through, -1: of no use */
    int64_t low, high;      /* every match lies between these numbers */
    int64_t in_time;        /* rows of that time */
};

/* Rows that match whatever their time, and rows of each filter by itself. */
static int list_counts(struct list *l)
{
    sqlite3_stmt *st = fixed_statement(l->t, FIXED_COUNTS);
    if (!st)
        return sqlite3_errcode(l->t->db);
    const struct store_filter *f = l->filter;
    bind_text(st, 1, f->trigger_id);
    bind_text(st, 2, f->pipeline_id);
    sqlite3_bind_int(st, 3, f->status);
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        l->rows[DRIVER_TABLE] = sqlite3_column_int64(st, 0);
        l->matched = sqlite3_column_int64(st, 1);
        l->rows[DRIVER_PIPELINE] = f->pipeline_id ? sqlite3_column_int64(st, 2) : -1;
        l->rows[DRIVER_STATUS] = f->status >= 0 ? sqlite3_column_int64(st, 3) : -1;
    }
    return end_statement(st, rc);
}

/* Times are nearly in the order of recording: the least and the greatest number of that time bound every scan. */
static int list_time(struct list *l)
{
    struct where w = {0};
    if (l->filter->since_ms != 0)
        where_number(&w, "created_ms>=", l->filter->since_ms);
    if (l->filter->until_ms != 0)
        where_number(&w, "created_ms<", l->filter->until_ms);
    _cleanup_(freep) char *sql = xasprintf(
        "SELECT count(*),min(seq),max(seq) FROM runs INDEXED BY runs_by_time WHERE %s", w.sql.data + strlen(" AND "));
    sqlite3_stmt *st = NULL;
    int rc = where_prepare(l->t->db, &w, sql, &st);
    if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        l->in_time = l->rows[DRIVER_TIME] = sqlite3_column_int64(st, 0);
        l->low = MAX(l->low, sqlite3_column_int64(st, 1));
        l->high = MIN(l->high, sqlite3_column_int64(st, 2));
        rc = SQLITE_OK;
    }
    sqlite3_finalize(st);
    buf_fini(&w.sql);
    return rc;
}

static void list_where(const struct list *l, struct where *w, enum driver driver)
{
    const struct store_filter *f = l->filter;
    if (f->trigger_id)
        where_text(w, "trigger_id=", f->trigger_id);
    if (f->pipeline_id)
        where_text(w, "pipeline_id=", f->pipeline_id);
    if (f->status >= 0)
        where_number(w, "status=", f->status);
    if (f->since_ms != 0)
        where_number(w, "created_ms>=", f->since_ms);
    if (f->until_ms != 0)
        where_number(w, "created_ms<", f->until_ms);
    if (driver == DRIVER_TIME)
        return; /* by time: a bound on the number would not narrow it */
    if (l->low > INT64_MIN)
        where_number(w, "seq>=", l->low);
    if (l->high < INT64_MAX)
        where_number(w, "seq<=", l->high);
}

/* `FROM runs r INDEXED BY … WHERE …` */
static char *list_from(const struct list *l, struct where *w, enum driver driver)
{
    list_where(l, w, driver);
    struct buf sql = {0};
    buf_adds(&sql, " FROM runs r");
    if (driver == DRIVER_TABLE)
        buf_adds(&sql, " NOT INDEXED");
    else
        buf_printf(&sql, " INDEXED BY %s", indexes[driver]);
    if (w->sql.len > 0)
        buf_printf(&sql, " WHERE %s", w->sql.data + strlen(" AND "));
    return buf_steal(&sql);
}

/* The cheapest way to `wanted` matches (INT64_MAX: all) in the order of recording, or in any order. */
static enum driver list_driver(const struct list *l, int64_t wanted, bool ordered)
{
    double all = (double)MAX(l->rows[DRIVER_TABLE], 1);
    double share = l->timed ? (double)l->in_time / all : 1; /* of each index's rows that lie in that time */
    double matches = MAX((double)l->matched * share, 1);
    double part = MIN((double)wanted / matches, 1); /* of the way to the oldest */
    enum driver best = DRIVER_TABLE;
    double best_cost = all * share * part;
    for (int d = DRIVER_PIPELINE; d < DRIVER_N; d++) {
        if (l->rows[d] < 0 || (d == DRIVER_TIME && ordered))
            continue;
        double cost = (double)l->rows[d] * (d == DRIVER_TIME ? 1 : share) * part * 2; /* each a look-up in the table */
        if (cost < best_cost) {
            best = (enum driver)d;
            best_cost = cost;
        }
    }
    return best;
}

static int list_count(struct list *l, int64_t *ret)
{
    struct where w = {0};
    enum driver driver = list_driver(l, INT64_MAX, l->low > INT64_MIN || l->high < INT64_MAX);
    _cleanup_(freep) char *from = list_from(l, &w, driver);
    _cleanup_(freep) char *sql = xasprintf("SELECT count(*)%s", from);
    sqlite3_stmt *st = NULL;
    int rc = where_prepare(l->t->db, &w, sql, &st);
    if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        *ret = sqlite3_column_int64(st, 0);
        rc = SQLITE_OK;
    }
    sqlite3_finalize(st);
    buf_fini(&w.sql);
    return rc;
}

static int list_total(struct list *l, int64_t *ret)
{
    const struct store_filter *f = l->filter;
    if (!l->timed && f->before_seq == 0) {
        *ret = l->matched;
        return SQLITE_OK;
    }
    bool only_time = !f->trigger_id && !f->pipeline_id && f->status < 0;
    if (l->timed && f->before_seq == 0 && only_time) {
        *ret = l->in_time;
        return SQLITE_OK;
    }
    if (l->timed)
        return list_count(l, ret);
    /* All but the newest, which are fewer. */
    struct list newer = *l;
    newer.low = f->before_seq;
    newer.high = INT64_MAX;
    int64_t n = 0;
    int rc = list_count(&newer, &n);
    *ret = MAX(l->matched - n, 0);
    return rc;
}

static int list_page(struct list *l, struct store_read *r, int64_t limit, int64_t offset)
{
    struct where w = {0};
    _cleanup_(freep) char *from = list_from(l, &w, list_driver(l, offset + limit, true));
    _cleanup_(freep) char *sql = xasprintf("SELECT %s%s ORDER BY r.seq DESC LIMIT %lld OFFSET %lld", run_columns, from,
                                           (long long)limit, (long long)offset);
    sqlite3_stmt *st = NULL;
    size_t cap = 0;
    int rc = where_prepare(l->t->db, &w, sql, &st);
    while (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        if (r->n_runs == cap) {
            cap = cap ? cap * 2 : 16;
            r->runs = xreallocarray(r->runs, cap, sizeof(*r->runs));
        }
        r->runs[r->n_runs] = (struct run_row){0};
        run_from_row(st, &r->runs[r->n_runs++]);
        rc = SQLITE_OK;
    }
    sqlite3_finalize(st);
    buf_fini(&w.sql);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* The rows of `st`, bound to a run, behind the steps that are there. */
static int add_steps(sqlite3_stmt *st, struct store_read *r, size_t *cap)
{
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        if (r->n_steps == *cap) {
            *cap = *cap ? *cap * 2 : 16;
            r->steps = xreallocarray(r->steps, *cap, sizeof(*r->steps));
        }
        r->steps[r->n_steps] = (struct step_row){0};
        step_from_row(st, &r->steps[r->n_steps++]);
    }
    int reset = sqlite3_reset(st);
    return rc == SQLITE_DONE ? SQLITE_OK : reset;
}

/* What a list tells of the steps of its runs: neither their output nor more of the pipeline than which they are. */
static int page_steps(struct reader *t, struct store_read *r)
{
    static const char ids[] =
        "SELECT (SELECT json_object('steps',json_group_array(json_object('id',value->>'$.id'))) "
        "FROM json_each(t.text,'$.steps')) FROM pipeline_texts t WHERE t.id=(SELECT text_id FROM runs WHERE seq=?1)";
    _cleanup_(freep) char *sql = xasprintf("SELECT %s FROM steps s WHERE s.run_seq=?1", step_facts);
    sqlite3_stmt *steps = NULL, *text = NULL;
    size_t cap = 0;
    int rc = sqlite3_prepare_v2(t->db, sql, -1, &steps, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(t->db, ids, -1, &text, NULL);
    r->steps_end = xcalloc(r->n_runs, sizeof(*r->steps_end));
    for (size_t i = 0; i < r->n_runs && rc == SQLITE_OK; i++) {
        struct run_row *run = &r->runs[i];
        sqlite3_bind_int64(text, 1, run->seq);
        rc = sqlite3_step(text);
        if (rc == SQLITE_ROW)
            run->pipeline_text = column_dup(text, 0);
        rc = end_statement(text, rc);
        if (rc != SQLITE_OK && rc != SQLITE_DONE)
            break;
        sqlite3_bind_int64(steps, 1, run->seq);
        rc = add_steps(steps, r, &cap);
        r->steps_end[i] = r->n_steps;
    }
    sqlite3_finalize(steps);
    sqlite3_finalize(text);
    return rc;
}

static int read_runs(struct reader *t, struct store_read *r)
{
    const struct store_filter *f = &r->filter;
    struct list l = {
        .t = t,
        .filter = f,
        .timed = f->since_ms != 0 || f->until_ms != 0,
        .low = INT64_MIN,
        .high = f->before_seq != 0 ? f->before_seq - 1 : INT64_MAX,
    };
    for (int d = 0; d < DRIVER_N; d++)
        l.rows[d] = -1;
    int rc = list_counts(&l);
    if (rc == SQLITE_OK && l.timed)
        rc = list_time(&l);
    if (rc != SQLITE_OK)
        return rc;
    int64_t size = MIN(MAX(r->page_size, 1), STORE_PAGE_SIZE_MAX),
            most = l.timed ? MIN(l.matched, l.in_time) : l.matched;
    int64_t offset = MIN(MAX(r->page, 1) - 1, INT64_MAX / STORE_PAGE_SIZE_MAX - 1) * size;
    if (!r->no_total) {
        rc = list_total(&l, &r->total);
        most = MIN(most, r->total);
    }
    if (rc != SQLITE_OK || offset >= most)
        return rc;
    /* No further than to the last that there is. */
    rc = list_page(&l, r, MIN(size, most - offset), offset);
    return rc == SQLITE_OK && r->with_steps ? page_steps(t, r) : rc;
}

/* ---- single ones ---- */

static int read_event(struct reader *t, struct store_read *r)
{
    sqlite3_stmt *st = fixed_statement(t, FIXED_EVENT);
    if (!st)
        return sqlite3_errcode(t->db);
    bind_text(st, 1, r->id);
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        r->events = xcalloc(1, sizeof(*r->events));
        r->n_events = 1;
        event_from_row(st, r->events);
    }
    return end_statement(st, rc);
}

static int read_run(struct reader *t, struct store_read *r)
{
    struct run_row run = {0};
    int rc = run_read(t->db, r->id, &run);
    if (rc != SQLITE_OK)
        return rc;
    r->runs = xmemdup(&run, sizeof(run));
    r->n_runs = 1;
    return steps_read(t->db, run.seq, &r->steps, &r->n_steps);
}

static int read_step(struct reader *t, struct store_read *r)
{
    static const char from[] =
        ",(SELECT bytes FROM step_logs l WHERE l.run_seq=s.run_seq AND l.step_id=s.step_id AND l.stream=1),"
        "(SELECT bytes FROM step_logs l WHERE l.run_seq=s.run_seq AND l.step_id=s.step_id AND l.stream=2) "
        "FROM runs r JOIN steps s ON s.run_seq=r.seq AND s.step_id=?2 WHERE r.id=?1";
    _cleanup_(freep) char *sql = xasprintf("SELECT %s%s", step_columns, from);
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(t->db, sql, -1, &st, NULL);
    if (rc == SQLITE_OK) {
        bind_text(st, 1, r->id);
        bind_text(st, 2, r->step_id);
        rc = sqlite3_step(st);
    }
    if (rc == SQLITE_ROW) {
        struct step_row *step = r->steps = xcalloc(1, sizeof(*step));
        r->n_steps = 1;
        step_from_row(st, step);
        char **bytes[] = {&step->out, &step->err};
        size_t *lens[] = {&step->out_len, &step->err_len};
        for (int i = 0; i < 2; i++) {
            int column = sqlite3_column_count(st) - 2 + i;
            const void *blob = sqlite3_column_blob(st, column);
            *lens[i] = blob ? (size_t)sqlite3_column_bytes(st, column) : 0;
            *bytes[i] = xstrndup("", 0);
            if (blob) {
                *bytes[i] = xrealloc(*bytes[i], *lens[i] + 1);
                memcpy(*bytes[i], blob, *lens[i]);
                (*bytes[i])[*lens[i]] = '\0';
            }
        }
        rc = SQLITE_OK;
    }
    sqlite3_finalize(st);
    return rc;
}

/* The bytes of the first column, with a NUL behind them. */
static char *value_of(sqlite3_stmt *st, size_t *ret_len)
{
    const void *value = sqlite3_column_blob(st, 0);
    size_t len = value ? (size_t)sqlite3_column_bytes(st, 0) : 0;
    char *text = xmalloc(len + 1);
    if (len > 0)
        memcpy(text, value, len);
    text[len] = '\0';
    *ret_len = len;
    return text;
}

static int read_value(struct reader *t, struct store_read *r)
{
    sqlite3_stmt *st = fixed_statement(t, FIXED_KV);
    if (!st)
        return sqlite3_errcode(t->db);
    bind_text(st, 1, r->scope);
    if (r->key_len == 0)
        sqlite3_bind_zeroblob(st, 2, 0);
    else
        sqlite3_bind_blob64(st, 2, r->key, r->key_len, SQLITE_STATIC);
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        r->value = value_of(st, &r->value_len);
    return end_statement(st, rc);
}

static int read_lookups(struct reader *t, struct store_read *r)
{
    sqlite3_stmt *st = fixed_statement(t, FIXED_DEDUP);
    if (!st)
        return sqlite3_errcode(t->db);
    sqlite3_bind_int64(st, 3, r->now_ms);
    for (size_t i = 0; i < r->n_lookups; i++) {
        struct store_lookup *l = &r->lookups[i];
        if (!l->key)
            continue;
        bind_text(st, 1, l->scope);
        bind_text(st, 2, l->key);
        int rc = sqlite3_step(st);
        if (rc == SQLITE_ROW)
            l->value = value_of(st, &l->value_len);
        rc = end_statement(st, rc);
        if (rc != SQLITE_OK && rc != SQLITE_DONE)
            return rc;
    }
    return SQLITE_OK;
}

static int read_seen(struct reader *t, struct store_read *r)
{
    sqlite3_stmt *st = fixed_statement(t, FIXED_SEEN);
    if (!st)
        return sqlite3_errcode(t->db);
    bind_text(st, 1, r->scope);
    sqlite3_bind_int64(st, 3, r->now_ms);
    for (size_t i = 0; i < r->n_seen; i++) {
        struct store_seen *seen = &r->seen[i];
        if (!seen->key)
            continue;
        bind_text(st, 2, seen->key);
        int rc = sqlite3_step(st);
        if (rc == SQLITE_ROW) {
            seen->event = column_dup(st, 0);
            seen->status = sqlite3_column_type(st, 1) == SQLITE_NULL ? -1 : sqlite3_column_int(st, 1);
        }
        rc = end_statement(st, rc);
        if (rc != SQLITE_OK && rc != SQLITE_DONE)
            return rc;
    }
    return SQLITE_OK;
}

static struct store_pair pair_of(sqlite3_stmt *st)
{
    const void *key = sqlite3_column_blob(st, 0), *value = sqlite3_column_blob(st, 1);
    size_t key_len = (size_t)sqlite3_column_bytes(st, 0), value_len = value ? (size_t)sqlite3_column_bytes(st, 1) : 0;
    char *text = xmalloc(key_len + value_len + 2);
    struct store_pair pair = {text, text + key_len + 1, key_len, value_len};
    memcpy(pair.key, key, key_len);
    if (value)
        memcpy(pair.value, value, value_len);
    pair.key[key_len] = pair.value[value_len] = '\0';
    return pair;
}

static int read_pairs(struct reader *t, struct store_read *r)
{
    sqlite3_stmt *st = fixed_statement(t, FIXED_KV_PAGE);
    if (!st)
        return sqlite3_errcode(t->db);
    int64_t limit = MIN(MAX(r->page_size, 1), STORE_PAGE_SIZE_MAX);
    bind_text(st, 1, r->scope);
    if (r->key_len == 0)
        sqlite3_bind_zeroblob(st, 2, 0);
    else
        sqlite3_bind_blob64(st, 2, r->key, r->key_len, SQLITE_STATIC);
    sqlite3_bind_int64(st, 3, limit);
    r->pairs = xcalloc((size_t)limit, sizeof(*r->pairs));
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW)
        r->pairs[r->n_pairs++] = pair_of(st);
    rc = end_statement(st, rc);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int add_counts(struct store_read *r, sqlite3_stmt *st)
{
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        int status = sqlite3_column_int(st, 0);
        if (status >= 0 && (size_t)status < ARRAY_SIZE(r->counts))
            r->counts[status] += sqlite3_column_int64(st, 1);
    }
    rc = end_statement(st, rc);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* Whole minutes from their table, the part of one before them from the events. */
static int read_stats(struct reader *t, struct store_read *r)
{
    sqlite3_stmt *minutes = fixed_statement(t, FIXED_MINUTES), *part = fixed_statement(t, FIXED_PART_MINUTE);
    if (!minutes || !part)
        return sqlite3_errcode(t->db);
    int64_t first = count_minute(r->since_ms), next = first * 60000 == r->since_ms ? first : first + 1;
    sqlite3_bind_int64(minutes, 1, next);
    sqlite3_bind_int64(part, 1, r->since_ms);
    sqlite3_bind_int64(part, 2, next * 60000);
    int rc = add_counts(r, minutes);
    return rc == SQLITE_OK ? add_counts(r, part) : rc;
}

/* ---- the threads ---- */

static int run_query(struct reader *t, struct store_read *r)
{
    switch (r->type) {
    case STORE_READ_EVENTS:
        return read_events(t->db, r);
    case STORE_READ_RUNS:
        return read_runs(t, r);
    case STORE_READ_EVENT:
        return read_event(t, r);
    case STORE_READ_RUN:
        return read_run(t, r);
    case STORE_READ_STEP:
        return read_step(t, r);
    case STORE_READ_DEDUP:
        return read_lookups(t, r);
    case STORE_READ_KV:
        return read_value(t, r);
    case STORE_READ_SEEN:
        return read_seen(t, r);
    case STORE_READ_KV_PAGE:
        return read_pairs(t, r);
    case STORE_READ_STATS:
        return read_stats(t, r);
    }
    return SQLITE_MISUSE;
}

static void reader_close(struct reader *t)
{
    for (size_t i = 0; i < FIXED_N; i++) {
        sqlite3_finalize(t->fixed[i]);
        t->fixed[i] = NULL;
    }
    sqlite3_close(t->db);
    t->db = NULL;
}

static int on_progress(void *ctx)
{
    struct reader *t = ctx;
    return monotonic_ns() > t->deadline_ns || atomic_load(&t->s->stopping);
}

static void not_found(struct store_read *r)
{
    switch (r->type) {
    case STORE_READ_EVENT:
        error_set(&r->error, -ENOENT, "there is no event %s", r->id);
        break;
    case STORE_READ_RUN:
        error_set(&r->error, -ENOENT, "there is no run %s", r->id);
        break;
    case STORE_READ_STEP:
        error_set(&r->error, -ENOENT, "run %s has recorded no step %s", r->id, r->step_id);
        break;
    default:
        error_set(&r->error, -ENOENT, "no such key");
    }
}

static void answer(struct reader *t, struct store_read *r)
{
    struct store *s = t->s;
    if (!t->db) {
        if (connection_open(s->path, s->vfs, CONNECTION_READER, &t->db, &r->error) < 0)
            return;
        sqlite3_progress_handler(t->db, 10000, on_progress, t);
    }
    t->deadline_ns = monotonic_ns() + STORE_READ_MS * INT64_C(1000000);
    int rc = sqlite3_exec(t->db, "BEGIN", NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = run_query(t, r);
    if (rc == SQLITE_DONE) {
        not_found(r);
    } else if ((rc & 0xff) == SQLITE_INTERRUPT) {
        if (atomic_load(&s->stopping))
            error_set(&r->error, -ESHUTDOWN, "the store is closing");
        else
            error_set(&r->error, -ETIMEDOUT, "%s: a read took too long", s->path);
    } else if (rc != SQLITE_OK) {
        sqlite_error(t->db, rc, s->path, "cannot read", &r->error);
    }
    bool ended = sqlite3_get_autocommit(t->db) || sqlite3_exec(t->db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK;
    if (!ended || (rc != SQLITE_OK && rc != SQLITE_DONE))
        reader_close(t); /* whatever is wrong with it, the next read starts afresh */
}

void *reader_main(void *store)
{
    struct store *s = store;
    struct reader t = {.s = s};
    pthread_mutex_lock(&s->mutex);
    for (;;) {
        while (!s->reads.first && !s->closing)
            pthread_cond_wait(&s->reader_cond, &s->mutex);
        struct store_read *r = s->reads.first;
        if (!r)
            break;
        s->reads.first = r->next;
        if (!s->reads.first)
            s->reads.last = NULL;
        bool closing = s->closing, more = s->reads.first != NULL;
        pthread_mutex_unlock(&s->mutex);
        if (closing)
            error_set(&r->error, -ESHUTDOWN, "the store is closing");
        else
            answer(&t, r);
        if (!more && t.db)
            sqlite3_db_release_memory(t.db);
        pthread_mutex_lock(&s->mutex);
        r->next = NULL;
        if (s->reads_done.last)
            s->reads_done.last->next = r;
        else
            s->reads_done.first = r;
        s->reads_done.last = r;
        if (store_need_wake(s)) {
            pthread_mutex_unlock(&s->mutex);
            s->wake(s->ctx);
            pthread_mutex_lock(&s->mutex);
        }
    }
    pthread_mutex_unlock(&s->mutex);
    reader_close(&t);
    return NULL;
}
