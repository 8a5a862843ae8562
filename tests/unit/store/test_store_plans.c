/* What lists of events cost: the statements as the readers run them, seen through SQLite's trace. No plan goes through the
 * table, and what a page costs does not grow with what is stored. */
#include "fixture.h"

#define STATEMENTS_MAX 64
#define DEEP 3 /* of the rare ones there are so many, and they are the oldest */

/* What the last read ran; written by a reader's thread while the test waits for it. */
static struct {
    char *texts[STATEMENTS_MAX];
    size_t n;
    int64_t steps; /* of SQLite's machine */
} seen;

static int on_trace(unsigned kind, void *ctx, void *p, void *x)
{
    (void)kind;
    (void)ctx;
    (void)x;
    sqlite3_stmt *st = p;
    seen.steps += sqlite3_stmt_status(st, SQLITE_STMTSTATUS_VM_STEP, 1);
    char *text = sqlite3_expanded_sql(st);
    if (text && strstr(text, "FROM events") && seen.n < STATEMENTS_MAX)
        seen.texts[seen.n++] = xstrdup(text);
    sqlite3_free(text);
    return 0;
}

/* Readers open their connections when they read first. */
static int trace_all(sqlite3 *db, char **message, const void *api)
{
    (void)message;
    (void)api;
    if (sqlite3_db_readonly(db, "main") != 1) /* the writer's */
        return SQLITE_OK;
    return sqlite3_trace_v2(db, SQLITE_TRACE_PROFILE, on_trace, NULL);
}

static void forget(void)
{
    while (seen.n > 0)
        free(seen.texts[--seen.n]);
    seen.steps = 0;
}

static const int64_t base_ms = 1700000000000;

/* Four triggers; of each of the five columns a value that nearly all have, and a rare one. */
static void write_events(struct owner *o, size_t from, size_t to)
{
    struct store_group *g = new_group(0);
    struct event *events = xcalloc(to - from, sizeof(*events));
    for (size_t i = from; i < to; i++) {
        struct event *e = &events[i - from];
        size_t rare = i < 5 * DEEP ? i / DEEP : 5;
        *e = make_event(o->port, rare == 0 ? "rare" : i % 2 ? "a" : i % 4 ? "b" : "c", i + 1);
        free(e->pipeline_id);
        e->pipeline_id = xstrdup(rare == 1 ? "rare" : "p");
        free(e->event_type);
        e->event_type = xstrdup(rare == 2 ? "rare" : "x");
        e->status = rare == 3 ? EVENT_CANCELLED : i % 10 ? EVENT_COMPLETED : EVENT_FAILED;
        e->decision = rare == 4 ? DECISION_MAPPING_ERROR : DECISION_FIRED;
        e->occurred_ms = base_ms + (int64_t)i * 1000;
        store_add_event_insert(g, e);
    }
    assert_int_equal(submit_wait(o, g), 0);
    for (size_t i = from; i < to; i++)
        event_fini(&events[i - from]);
    free(events);
}

/* Nothing of it goes through all events, or sorts more than a page of them. */
static void check_plans(sqlite3 *db)
{
    assert_true(seen.n > 0);
    for (size_t i = 0; i < seen.n; i++) {
        _cleanup_(freep) char *sql = xasprintf("EXPLAIN QUERY PLAN %s", seen.texts[i]);
        sqlite3_stmt *st = NULL;
        assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
        while (sqlite3_step(st) == SQLITE_ROW) {
            const char *line = (const char *)sqlite3_column_text(st, 3);
            if ((strstr(line, "SCAN e") && !strstr(line, "event_") && !strstr(line, "INDEX")) ||
                strstr(line, "TEMP B-TREE"))
                fail_msg("%s: %s", line, seen.texts[i]);
        }
        sqlite3_finalize(st);
    }
}

enum { NONE, COMMON, RARE };

/* Filter number `i`: each column not asked for, common or rare; a time, or none. */
static struct store_read *filter_of(size_t i, size_t stored)
{
    struct store_read *r = store_read_new(STORE_READ_EVENTS, NULL, NULL);
    size_t k = i;
    int value[5];
    for (size_t c = 0; c < 5; c++, k /= 3)
        value[c] = (int)(k % 3);
    r->filter.trigger_id = value[0] ? xstrdup(value[0] == RARE ? "rare" : "a") : NULL;
    r->filter.pipeline_id = value[1] ? xstrdup(value[1] == RARE ? "rare" : "p") : NULL;
    r->filter.event_type = value[2] ? xstrdup(value[2] == RARE ? "rare" : "x") : NULL;
    r->filter.status = value[3] == RARE ? EVENT_CANCELLED : value[3] == COMMON ? EVENT_COMPLETED : -1;
    r->filter.decision = value[4] == RARE ? DECISION_MAPPING_ERROR : value[4] == COMMON ? DECISION_FIRED : -1;
    if (k % 4 == 1)
        r->filter.since_ms = base_ms + 1;
    else if (k % 4 == 2)
        r->filter.until_ms = base_ms + (int64_t)stored * 500;
    else if (k % 4 == 3)
        r->filter.since_ms = base_ms + ((int64_t)stored - 2) * 1000;
    r->page = 1;
    r->page_size = 50;
    r->no_total = k % 4 != 0; /* a total of some time is counted: see read_events.c */
    return r;
}

static void test_pages_cost_the_same(void **state)
{
    (void)state;
    enum { FILTERS = 243 * 4, FEW = 3000, MANY = 24000 };
    static int64_t steps[FILTERS];
    struct owner o;
    sqlite3_auto_extension((void (*)(void))trace_all);
    owner_init(&o, NULL);
    owner_open(&o, NULL);
    char path[256];
    snprintf(path, sizeof(path), "%s/triggerd.db", o.dir);
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    for (int round = 0; round < 2; round++) {
        size_t stored = round ? MANY : FEW;
        for (size_t from = round ? FEW : 0; from < stored; from += 1000)
            write_events(&o, from, from + 1000);
        for (size_t i = 0; i < FILTERS; i++) {
            struct store_read *r = filter_of(i, stored);
            forget();
            assert_int_equal(read_wait(&o, r), 0);
            if (r->n_events > 0)
                check_plans(db);
            if (round == 0)
                steps[i] = seen.steps;
            else if (seen.steps > steps[i] * 5 / 4 + 200)
                fail_msg("filter %zu: %lld steps of %d events, %lld of %d", i, (long long)steps[i], FEW,
                         (long long)seen.steps, MANY);
            store_read_free(r);
        }
    }
    forget();
    sqlite3_close(db);
    owner_close(&o);
    sqlite3_reset_auto_extension();
    owner_fini(&o);
}

/* More groups than are merged: either way costs about a root of what is stored at most. */
static void test_many_groups(void **state)
{
    (void)state;
    enum { TRIGGERS = 200, EACH = 40 };
    struct owner o;
    sqlite3_auto_extension((void (*)(void))trace_all);
    owner_init(&o, NULL);
    owner_open(&o, NULL);
    struct store_group *g = new_group(0);
    struct event *events = xcalloc(TRIGGERS * EACH, sizeof(*events));
    for (size_t i = 0; i < TRIGGERS * EACH; i++) {
        char id[16];
        snprintf(id, sizeof(id), "t%zu", i % TRIGGERS);
        events[i] = make_event(o.port, id, i + 1);
        events[i].status = i < TRIGGERS ? EVENT_FAILED : EVENT_COMPLETED; /* few of many groups, and old */
        events[i].occurred_ms = base_ms + (int64_t)i;
        store_add_event_insert(g, &events[i]);
    }
    assert_int_equal(submit_wait(&o, g), 0);
    for (int status = EVENT_COMPLETED; status <= EVENT_FAILED; status++) {
        struct store_read *r = store_read_new(STORE_READ_EVENTS, NULL, NULL);
        r->filter.status = status;
        r->filter.decision = -1;
        r->page_size = 50;
        forget();
        assert_int_equal(read_wait(&o, r), 0);
        size_t newest = status == EVENT_FAILED ? TRIGGERS : TRIGGERS * EACH;
        assert_int_equal(r->total, status == EVENT_FAILED ? TRIGGERS : TRIGGERS * (EACH - 1));
        assert_int_equal(r->n_events, 50);
        for (size_t i = 0; i < 50; i++)
            assert_string_equal(r->events[i].id, events[newest - 1 - i].id);
        if (seen.steps > 30000) /* all events: 8 000 times ten */
            fail_msg("%lld steps", (long long)seen.steps);
        store_read_free(r);
    }
    for (size_t i = 0; i < TRIGGERS * EACH; i++)
        event_fini(&events[i]);
    free(events);
    forget();
    owner_close(&o);
    sqlite3_reset_auto_extension();
    owner_fini(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pages_cost_the_same),
        cmocka_unit_test(test_many_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
