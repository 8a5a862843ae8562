/* Lists of events, the newest first: by the time at which they occurred, at one time by the order of recording.
 *
 * What a filter asks of trigger, pipeline, type, status and decision picks groups (event_groups), which know how many
 * events they have; in each the index events_by_group has them in order of time. So a page is
 *
 *   no filter, or of time alone      events_by_time from its end
 *   a few groups                     their ends, merged: each step of the page is one of the index
 *   many groups, of few events       all of their index entries, the first of them by time
 *   many groups, of many events      events_by_time from its end, in which a match is never far
 *
 * and the cost does not grow with the events that are stored: of the last two the cheaper one looks at no more than about
 * the root of (the page's events × all events). SQLite keeps no statistics of this database; the counts are exact.
 *
 * A total needs no look at events where no time is asked for, and little where nothing but a status and a time is: the
 * minutes are counted. Else index entries are counted, of that time or of all others, whichever should be fewer.
 */
#include "store/internal.h"

#include <stdio.h>

#define GROUPS_MERGED_MAX 64
#define ROW_COST 3 /* a row is looked at, beside an entry of an index */

struct events_list {
    sqlite3 *db;
    const struct store_filter *filter;
    bool all;          /* nothing is asked but a time */
    bool timed;        /* a time is asked for */
    int64_t rows;      /* events stored */
    int64_t groups, n; /* that match, whatever their time; and their events */
    int64_t total;     /* that match */
    int64_t limit, offset;
};

/* ---- conditions ---- */

static void where_groups(struct where *w, const struct store_filter *f)
{
    if (f->trigger_id)
        where_text(w, "trigger_id=", f->trigger_id);
    if (f->pipeline_id)
        where_text(w, "pipeline_id=", f->pipeline_id);
    if (f->event_type)
        where_text(w, "event_type=", f->event_type);
    if (f->status >= 0)
        where_number(w, "status=", f->status);
    if (f->decision >= 0)
        where_number(w, "decision=", f->decision);
}

static void where_time(struct where *w, const struct store_filter *f)
{
    if (f->since_ms != 0)
        where_number(w, "occurred_ms>=", f->since_ms);
    if (f->until_ms != 0)
        where_number(w, "occurred_ms<", f->until_ms);
    if (f->before_seq != 0)
        where_number(w, "seq<", f->before_seq);
}

static const char *after_and(const struct where *w)
{
    return w->sql.len > 0 ? w->sql.data + strlen(" AND ") : "1";
}

/* `group_id IN (…)` of the groups that match. */
static void where_in_groups(struct where *w, const struct store_filter *f)
{
    buf_adds(&w->sql, " AND group_id IN (SELECT id FROM event_groups WHERE n>0");
    where_groups(w, f);
    buf_adds(&w->sql, ")");
}

/* The first column of the first row; 0: there is none. */
static int number(sqlite3 *db, const struct where *w, const char *sql, int64_t *ret)
{
    sqlite3_stmt *st = NULL;
    int rc = where_prepare(db, w, sql, &st);
    *ret = 0;
    if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW)
        *ret = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* ---- how many ---- */

static int find_groups(struct events_list *l)
{
    struct where w = {0};
    int rc = number(l->db, &w, "SELECT coalesce(sum(n),0) FROM event_groups", &l->rows);
    l->n = l->rows;
    if (rc != SQLITE_OK || l->all)
        return rc;
    where_groups(&w, l->filter);
    _cleanup_(freep) char *n = xasprintf("SELECT coalesce(sum(n),0) FROM event_groups WHERE %s", after_and(&w));
    _cleanup_(freep) char *groups = xasprintf("SELECT count(*) FROM event_groups WHERE n>0%s", w.sql.data);
    rc = number(l->db, &w, n, &l->n);
    rc = rc == SQLITE_OK ? number(l->db, &w, groups, &l->groups) : rc;
    buf_fini(&w.sql);
    return rc;
}

/* Entries of the index that match and lie in that time. */
static int count_entries(struct events_list *l, const struct store_filter *time, int64_t *ret)
{
    struct where w = {0};
    where_time(&w, time);
    if (!l->all)
        where_in_groups(&w, l->filter);
    _cleanup_(freep) char *sql = xasprintf("SELECT count(*) FROM events INDEXED BY %s WHERE %s",
                                           l->all ? "events_by_time" : "events_by_group", after_and(&w));
    int rc = number(l->db, &w, sql, ret);
    buf_fini(&w.sql);
    return rc;
}

/* Whole minutes from their table, what lies before and behind them from the index. */
static int count_minutes(struct events_list *l)
{
    const struct store_filter *f = l->filter;
    int64_t first = f->since_ms ? count_minute(f->since_ms + 59999) : INT64_MIN / 60000,
            end = f->until_ms ? count_minute(f->until_ms) : INT64_MAX / 60000;
    if (first >= end)
        return count_entries(l, f, &l->total);
    struct where w = {0};
    where_number(&w, "minute>=", first);
    where_number(&w, "minute<", end);
    if (f->status >= 0)
        where_number(&w, "status=", f->status);
    _cleanup_(freep) char *sql = xasprintf("SELECT coalesce(sum(n),0) FROM event_minutes WHERE %s", after_and(&w));
    int64_t before = 0, behind = 0;
    int rc = number(l->db, &w, sql, &l->total);
    buf_fini(&w.sql);
    if (rc == SQLITE_OK && f->since_ms && f->since_ms < first * 60000)
        rc = count_entries(l, &(struct store_filter){.since_ms = f->since_ms, .until_ms = first * 60000}, &before);
    if (rc == SQLITE_OK && f->until_ms && end * 60000 < f->until_ms)
        rc = count_entries(l, &(struct store_filter){.since_ms = end * 60000, .until_ms = f->until_ms}, &behind);
    l->total += before + behind;
    return rc;
}

/* The part of all events that lies in that time, if they came evenly: a guess, of which nothing but the cost depends. */
static int guess_share(struct events_list *l, double *ret)
{
    struct where none = {0};
    int64_t oldest, newest;
    int rc = number(l->db, &none, "SELECT min(occurred_ms) FROM events", &oldest);
    rc = rc == SQLITE_OK ? number(l->db, &none, "SELECT max(occurred_ms) FROM events", &newest) : rc;
    if (rc != SQLITE_OK)
        return rc;
    double span = MAX((double)newest - (double)oldest, 1),
           from = l->filter->since_ms ? (double)MAX(l->filter->since_ms, oldest) : (double)oldest,
           to = l->filter->until_ms ? (double)MIN(l->filter->until_ms, newest) : (double)newest;
    *ret = (to - from) / span;
    return SQLITE_OK;
}

static int count_total(struct events_list *l)
{
    const struct store_filter *f = l->filter;
    l->total = l->n;
    if (l->n == 0 || (!l->timed && f->before_seq == 0))
        return SQLITE_OK;
    if (f->before_seq != 0)
        return count_entries(l, f, &l->total);
    if (!f->trigger_id && !f->pipeline_id && !f->event_type && f->decision < 0)
        return count_minutes(l);
    double share;
    int rc = guess_share(l, &share);
    if (rc != SQLITE_OK || share <= 0.5)
        return rc != SQLITE_OK ? rc : count_entries(l, f, &l->total);
    int64_t before = 0, behind = 0;
    if (f->since_ms)
        rc = count_entries(l, &(struct store_filter){.until_ms = f->since_ms}, &before);
    if (rc == SQLITE_OK && f->until_ms)
        rc = count_entries(l, &(struct store_filter){.since_ms = f->until_ms}, &behind);
    l->total = MAX(l->n - before - behind, 0);
    return rc;
}

/* ---- a page ---- */

/* The ends of each group, merged. */
static int merge_groups(const struct events_list *l, struct where *w, struct buf *sql)
{
    struct where groups = {0};
    where_groups(&groups, l->filter);
    _cleanup_(freep) char *text = xasprintf("SELECT id FROM event_groups WHERE n>0%s", groups.sql.data);
    sqlite3_stmt *st = NULL;
    int rc = where_prepare(l->db, &groups, text, &st);
    where_time(w, l->filter);
    while (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        buf_printf(
            sql, "%sSELECT occurred_ms AS t,seq AS s FROM events INDEXED BY events_by_group WHERE group_id=%lld%s",
            sql->len ? " UNION ALL " : "", (long long)sqlite3_column_int64(st, 0), w->sql.data ? w->sql.data : "");
        rc = SQLITE_OK;
    }
    sqlite3_finalize(st);
    buf_fini(&groups.sql);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* The statement that gives the numbers of the page's events. */
static int page_statement(const struct events_list *l, struct where *w, struct buf *sql)
{
    int rc = SQLITE_OK;
    double wanted = (double)(l->offset + l->limit);
    bool gather = !l->all && (double)l->total <= wanted * (double)l->rows / (double)MAX(l->n, 1) * ROW_COST;
    if (!l->all && l->groups <= GROUPS_MERGED_MAX) {
        rc = merge_groups(l, w, sql);
    } else {
        where_time(w, l->filter);
        if (gather)
            where_in_groups(w, l->filter);
        else
            where_groups(w, l->filter);
        buf_printf(sql, "SELECT occurred_ms AS t,seq AS s FROM events INDEXED BY %s WHERE %s",
                   gather ? "events_by_group" : "events_by_time", after_and(w));
    }
    buf_printf(sql, " ORDER BY t DESC,s DESC LIMIT %lld OFFSET %lld", (long long)l->limit, (long long)l->offset);
    return rc;
}

static int read_row(sqlite3_stmt *st, int64_t seq, struct store_read *r)
{
    sqlite3_bind_int64(st, 1, seq);
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        r->events[r->n_events] = (struct event){0};
        event_from_row(st, &r->events[r->n_events++]);
    }
    int reset = sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : reset;
}

static int read_page(const struct events_list *l, struct store_read *r)
{
    struct where w = {0};
    struct buf sql = {0};
    sqlite3_stmt *page = NULL, *row = NULL;
    _cleanup_(freep) char *row_sql = xasprintf("SELECT %s FROM events e WHERE e.seq=?1", event_columns);
    int rc = page_statement(l, &w, &sql);
    rc = rc == SQLITE_OK ? where_prepare(l->db, &w, sql.data, &page) : rc;
    rc = rc == SQLITE_OK ? sqlite3_prepare_v2(l->db, row_sql, -1, &row, NULL) : rc;
    r->events = xcalloc((size_t)l->limit, sizeof(*r->events));
    while (rc == SQLITE_OK && (int64_t)r->n_events < l->limit && (rc = sqlite3_step(page)) == SQLITE_ROW)
        rc = read_row(row, sqlite3_column_int64(page, 1), r);
    sqlite3_finalize(page);
    sqlite3_finalize(row);
    buf_fini(&sql);
    buf_fini(&w.sql);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

int read_events(sqlite3 *db, struct store_read *r)
{
    const struct store_filter *f = &r->filter;
    struct events_list l = {
        .db = db,
        .filter = f,
        .all = !f->trigger_id && !f->pipeline_id && !f->event_type && f->status < 0 && f->decision < 0,
        .timed = f->since_ms != 0 || f->until_ms != 0,
    };
    int rc = find_groups(&l);
    l.total = l.n;
    if (rc == SQLITE_OK && !r->no_total)
        rc = count_total(&l);
    if (rc != SQLITE_OK)
        return rc;
    if (!r->no_total)
        r->total = l.total;
    int64_t size = MIN(MAX(r->page_size, 1), STORE_PAGE_SIZE_MAX);
    l.offset = MIN(MAX(r->page, 1) - 1, INT64_MAX / STORE_PAGE_SIZE_MAX - 1) * size;
    if (l.offset >= l.total)
        return SQLITE_OK;
    l.limit = MIN(size, l.total - l.offset); /* no further than to the last that there is */
    return read_page(&l, r);
}
