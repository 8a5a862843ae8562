/* Lists against a plain model of them: every filter, page and total; stats; retention. */
#include "fixture.h"

#define EVENTS 600
#define RUNS 120

struct model {
    struct owner o;
    struct event events[EVENTS];
    struct run_row runs[RUNS];
};

static const int64_t base_ms = 1700000000000;

static unsigned next_random(unsigned *random)
{
    *random = *random * 1103515245u + 12345u;
    return *random >> 16;
}

static void write_events(struct model *m, unsigned *random)
{
    static const char *const triggers[] = {"a", "b", "c", "rare"}, *const types[] = {"x", "y"};
    struct store_group *g = new_group(0);
    for (size_t i = 0; i < EVENTS; i++) {
        struct event *e = &m->events[i];
        *e = make_event(m->o.port, triggers[i % 211 == 5 ? 3 : next_random(random) % 3], i + 1);
        free(e->event_type);
        e->event_type = xstrdup(types[next_random(random) % 2]);
        free(e->pipeline_id);
        e->pipeline_id = i % 50 == 0 ? NULL : xstrdup(e->trigger_id[0] == 'a' ? "p" : "q");
        e->occurred_ms = base_ms + (int64_t)i * 1000 + (int64_t)(next_random(random) % 5000) - 2500;
        e->decision = next_random(random) % 5 == 0 ? next_random(random) % DECISION_N : DECISION_FIRED;
        e->status = next_random(random) % 3 == 0 ? next_random(random) % 6 : EVENT_COMPLETED;
        store_add_event_insert(g, e);
    }
    assert_int_equal(submit_wait(&m->o, g), 0);
    /* A part of them moves on, so that the counts move too. */
    g = new_group(0);
    for (size_t i = 0; i < EVENTS; i += 3) {
        m->events[i].status = next_random(random) % 6;
        m->events[i].decision = DECISION_FIRED;
        store_add_event_update(g, &m->events[i]);
    }
    assert_int_equal(submit_wait(&m->o, g), 0);
}

static void write_runs(struct model *m, unsigned *random)
{
    struct store_group *g = new_group(0);
    for (size_t i = 0; i < RUNS; i++) {
        struct run_row *r = &m->runs[i];
        *r = (struct run_row){.seq = m->o.port->next_seq(m->o.port), .status = next_random(random) % 6, .attempt = 1};
        snprintf(r->id, sizeof(r->id), "run_%026zu", i + 1);
        r->pipeline_id = xstrdup(next_random(random) % 7 ? "p" : "q");
        r->trigger_id = i % 4 ? xstrdup("a") : NULL;
        r->pipeline_text = xasprintf("text %zu", i % 5);
        r->inputs = xstrdup("{}");
        r->created_ms = base_ms + (int64_t)i * 1000;
        store_add_run_insert(g, r);
    }
    assert_int_equal(submit_wait(&m->o, g), 0);
    g = new_group(0);
    for (size_t i = 0; i < RUNS; i += 2) {
        m->runs[i].status = RUN_COMPLETED;
        m->runs[i].completed_ms = m->runs[i].created_ms + 10;
        store_add_run_update(g, &m->runs[i]);
    }
    assert_int_equal(submit_wait(&m->o, g), 0);
}

static int set_up(void **state)
{
    struct model *m = xcalloc(1, sizeof(*m));
    unsigned random = 7;
    owner_init(&m->o, NULL);
    owner_open(&m->o, NULL);
    write_events(m, &random);
    write_runs(m, &random);
    *state = m;
    return 0;
}

static int tear_down(void **state)
{
    struct model *m = *state;
    owner_close(&m->o);
    assert_consistent(m->o.dir);
    for (size_t i = 0; i < EVENTS; i++)
        event_fini(&m->events[i]);
    for (size_t i = 0; i < RUNS; i++)
        run_row_fini(&m->runs[i]);
    owner_fini(&m->o);
    free(m);
    return 0;
}

static bool text_matches(const char *want, const char *have)
{
    return !want || (have && strcmp(want, have) == 0);
}

static bool time_matches(const struct store_filter *f, int64_t ms, int64_t seq)
{
    return (f->since_ms == 0 || ms >= f->since_ms) && (f->until_ms == 0 || ms < f->until_ms) &&
           (f->before_seq == 0 || seq < f->before_seq);
}

static bool event_matches(const struct store_filter *f, const struct event *e)
{
    return text_matches(f->trigger_id, e->trigger_id) && text_matches(f->pipeline_id, e->pipeline_id) &&
           text_matches(f->event_type, e->event_type) && (f->status < 0 || f->status == (int)e->status) &&
           (f->decision < 0 || f->decision == (int)e->decision) && time_matches(f, e->occurred_ms, e->seq);
}

static bool run_matches(const struct store_filter *f, const struct run_row *r)
{
    return text_matches(f->trigger_id, r->trigger_id) && text_matches(f->pipeline_id, r->pipeline_id) &&
           (f->status < 0 || f->status == (int)r->status) && time_matches(f, r->created_ms, r->seq);
}

static int newest_first(const void *a, const void *b)
{
    const struct event *x = *(const struct event *const *)a, *y = *(const struct event *const *)b;
    return x->occurred_ms != y->occurred_ms ? (x->occurred_ms < y->occurred_ms ? 1 : -1) : x->seq < y->seq ? 1 : -1;
}

/* Read one page and compare it with what the model has there. */
static void check_page(struct model *m, struct store_read *r)
{
    bool events = r->type == STORE_READ_EVENTS;
    const char *expected[EVENTS];
    size_t n = 0;
    if (events) {
        const struct event *found[EVENTS];
        for (size_t i = 0; i < EVENTS; i++)
            if (event_matches(&r->filter, &m->events[i]))
                found[n++] = &m->events[i];
        qsort(found, n, sizeof(*found), newest_first);
        for (size_t i = 0; i < n; i++)
            expected[i] = found[i]->id;
    } else {
        for (size_t i = RUNS; i-- > 0;)
            if (run_matches(&r->filter, &m->runs[i]))
                expected[n++] = m->runs[i].id;
    }
    if (read_wait(&m->o, r) != 0)
        fail_msg("%s", r->error.message);
    size_t first = (size_t)((r->page - 1) * r->page_size), got = events ? r->n_events : r->n_runs;
    size_t here = first >= n ? 0 : MIN(n - first, (size_t)r->page_size);
    if ((!r->no_total && r->total != (int64_t)n) || got != here)
        fail_msg("total %lld of %zu, %zu rows of %zu", (long long)r->total, n, got, here);
    for (size_t i = 0; i < here; i++)
        assert_string_equal(events ? r->events[i].id : r->runs[i].id, expected[first + i]);
}

static void test_every_filter(void **state)
{
    struct model *m = *state;
    static const char *const triggers[] = {NULL, "a", "rare", "none"}, *const pipelines[] = {NULL, "p", "q"},
                             *const types[] = {NULL, "x"};
    static const int statuses[] = {-1, EVENT_PENDING, EVENT_COMPLETED, EVENT_SKIPPED},
                     decisions[] = {-1, DECISION_FIRED, DECISION_COOLDOWN};
    static const int64_t times[][2] = {{0, 0},
                                       {base_ms + 100500, 0},
                                       {0, base_ms + 77000},
                                       {base_ms + 50000, base_ms + 90000},
                                       {base_ms + 9000000, 0}};
    size_t combinations = ARRAY_SIZE(triggers) * ARRAY_SIZE(pipelines) * ARRAY_SIZE(types) * ARRAY_SIZE(statuses) *
                          ARRAY_SIZE(decisions) * ARRAY_SIZE(times) * 2;
    for (size_t i = 0; i < combinations; i++) {
        struct store_read *r = store_read_new(i % 7 == 0 ? STORE_READ_RUNS : STORE_READ_EVENTS, NULL, NULL);
        size_t k = i;
        r->filter.trigger_id = xstrdup0(triggers[k % ARRAY_SIZE(triggers)]);
        k /= ARRAY_SIZE(triggers);
        r->filter.pipeline_id = xstrdup0(pipelines[k % ARRAY_SIZE(pipelines)]);
        k /= ARRAY_SIZE(pipelines);
        r->filter.event_type = r->type == STORE_READ_EVENTS ? xstrdup0(types[k % ARRAY_SIZE(types)]) : NULL;
        k /= ARRAY_SIZE(types);
        r->filter.status = statuses[k % ARRAY_SIZE(statuses)];
        k /= ARRAY_SIZE(statuses);
        r->filter.decision = r->type == STORE_READ_EVENTS ? decisions[k % ARRAY_SIZE(decisions)] : -1;
        k /= ARRAY_SIZE(decisions);
        r->filter.since_ms = times[k % ARRAY_SIZE(times)][0];
        r->filter.until_ms = times[k % ARRAY_SIZE(times)][1];
        k /= ARRAY_SIZE(times);
        r->filter.before_seq = k ? m->events[EVENTS - 100].seq : 0;
        r->page = 1 + (int64_t)(i % 3);
        r->page_size = i % 2 ? 7 : 40;
        r->no_total = i % 11 == 0;
        check_page(m, r);
        store_read_free(r);
    }
    assert_true(combinations > 2000);
}

static void test_pages(void **state)
{
    struct model *m = *state;
    static const int64_t pages[][2] = {{1, 1}, {600, 1}, {601, 1}, {1, 599}, {1, 600}, {2, 599}, {1, 10000}};
    for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
        struct store_read *r = store_read_new(STORE_READ_EVENTS, NULL, NULL);
        r->page = pages[i][0];
        r->page_size = pages[i][1];
        check_page(m, r);
        store_read_free(r);
    }
    /* Bounds that no caller should send. */
    static const int64_t odd[][2] = {{INT64_MAX, INT64_MAX}, {INT64_MAX, 1}, {0, 0}, {-5, -5}, {INT64_MIN, INT64_MIN}};
    for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
        struct store_read *r = store_read_new(STORE_READ_EVENTS, NULL, NULL);
        r->page = odd[i][0];
        r->page_size = odd[i][1];
        assert_int_equal(read_wait(&m->o, r), 0);
        assert_int_equal(r->n_events, i < 2 ? 0 : 1);
        assert_int_equal(r->total, EVENTS);
        store_read_free(r);
    }
}

static void test_stats(void **state)
{
    struct model *m = *state;
    static const int64_t sinces[] = {
        0, 1, 60000 * 28333334ll, 60000 * 28333334ll + 1, 60000 * 28333334ll - 1, 1700000300123, base_ms + 10000000};
    for (size_t s = 0; s < ARRAY_SIZE(sinces); s++) {
        int64_t expected[8] = {0};
        for (size_t i = 0; i < EVENTS; i++)
            if (m->events[i].occurred_ms >= sinces[s])
                expected[m->events[i].status]++;
        struct store_read *r = store_read_new(STORE_READ_STATS, NULL, NULL);
        r->since_ms = sinces[s];
        assert_int_equal(read_wait(&m->o, r), 0);
        for (int i = 0; i < 8; i++)
            assert_int_equal(r->counts[i], expected[i]);
        store_read_free(r);
    }
}

static int64_t total_of(struct owner *o, enum store_read_type type, int status)
{
    struct store_read *r = store_read_new(type, NULL, NULL);
    r->filter.status = status;
    assert_int_equal(read_wait(o, r), 0);
    int64_t total = r->total;
    store_read_free(r);
    return total;
}

static int64_t query(const char *dir, const char *sql)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/triggerd.db", dir);
    sqlite3 *db = NULL;
    sqlite3_stmt *st = NULL;
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
    int64_t n = sqlite3_step(st) == SQLITE_ROW ? sqlite3_column_int64(st, 0) : -1;
    sqlite3_finalize(st);
    sqlite3_close(db);
    return n;
}

/* Until `sql` gives `want`, 20 s at most. */
static void await_query(struct owner *o, const char *sql, int64_t want)
{
    int64_t end = monotonic_ns() + 20 * INT64_C(1000000000);
    while (query(o->dir, sql) != want) {
        if (monotonic_ns() > end)
            fail_msg("%s: %lld and not %lld", sql, (long long)query(o->dir, sql), (long long)want);
        usleep(2000);
    }
}

static void test_retention_by_number(void **state)
{
    struct model *m = *state;
    int64_t open_events = total_of(&m->o, STORE_READ_EVENTS, 0) + total_of(&m->o, STORE_READ_EVENTS, 1);
    assert_true(open_events > 20);
    store_set_retention(m->o.port, &(struct store_retention){.events = 100});
    await_query(&m->o, "SELECT count(*) FROM events", MAX(100, open_events));
    await_query(&m->o, "SELECT count(*) FROM runs", 100);
    assert_int_equal(total_of(&m->o, STORE_READ_EVENTS, 0) + total_of(&m->o, STORE_READ_EVENTS, 1), open_events);
    /* The oldest went: of the ended ones that are left, none is older than one that is gone. */
    int64_t ended = MAX(100, open_events) - open_events;
    size_t seen = 0;
    for (size_t i = EVENTS; i-- > 0;) {
        if (!event_status_final(m->events[i].status))
            continue;
        assert_int_equal(find_event(&m->o, m->events[i].id, NULL), (int64_t)seen < ended ? 0 : -ENOENT);
        if (++seen > (size_t)ended + 20)
            break;
    }
    /* Nothing that is open goes, however small the limit. */
    store_set_retention(m->o.port, &(struct store_retention){.events = 1, .days = 0.0001});
    await_query(&m->o, "SELECT count(*) FROM events", open_events);
    await_query(&m->o, "SELECT count(*) FROM runs WHERE status>=2", 0);
    await_query(&m->o, "SELECT count(*) FROM counts WHERE n<=0", 0);
    await_query(&m->o, "SELECT count(*) FROM event_groups WHERE n<=0", 0);
    await_query(&m->o, "SELECT count(*) FROM pipeline_texts WHERE id NOT IN (SELECT text_id FROM runs)", 0);
}

/* An event takes its run along, with all that belongs to it; logs go before that; keys expire. */
static void test_retention_by_age(void **state)
{
    struct model *m = *state;
    int64_t now = realtime_ms();
    struct event old = make_event(m->o.port, "old", 9001), young = make_event(m->o.port, "old", 9002);
    struct run_row run[2] = {0};
    struct event *events[] = {&old, &young};
    struct step_row step = {
        .step_id = xstrdup("s"), .status = STEP_COMPLETED, .attempt = 1, .out = xstrdup("out"), .out_len = 3};
    struct store_group *g = new_group(0);
    for (int i = 0; i < 2; i++) {
        run[i] = (struct run_row){.seq = m->o.port->next_seq(m->o.port), .status = RUN_COMPLETED, .attempt = 1};
        snprintf(run[i].id, sizeof(run[i].id), "run_9%d", i);
        run[i].pipeline_text = xasprintf("own text %d", i);
        run[i].created_ms = run[i].completed_ms = now - (i == 0 ? 10 : 4) * 86400000ll;
        events[i]->status = EVENT_COMPLETED;
        events[i]->occurred_ms = now - (i == 0 ? 31 : 4) * 86400000ll;
        memcpy(events[i]->run_id, run[i].id, sizeof(run[i].id));
        store_add_event_insert(g, events[i]);
        store_add_run_insert(g, &run[i]);
        store_add_step(g, run[i].seq, &step);
    }
    store_add_dedup(g, "s", "gone", "1", now - 1);
    store_add_dedup(g, "s", "stays", "1", now + 3600000);
    assert_int_equal(submit_wait(&m->o, g), 0);
    store_set_retention(m->o.port, &(struct store_retention){.events = 1000000, .days = 30, .run_log_days = 3});
    await_query(&m->o, "SELECT count(*) FROM events WHERE trigger_id='old'", 1);
    await_query(&m->o, "SELECT count(*) FROM runs WHERE id='run_90'", 0);
    await_query(&m->o, "SELECT count(*) FROM runs WHERE id='run_91'", 1);
    await_query(&m->o, "SELECT count(*) FROM steps", 1);
    await_query(&m->o, "SELECT count(*) FROM step_logs", 0); /* the young run's too: 4 days */
    await_query(&m->o, "SELECT count(*) FROM dedup", 1);
    await_query(&m->o, "SELECT count(*) FROM pipeline_texts WHERE text='own text 0'", 0);
    await_query(&m->o, "SELECT count(*) FROM pipeline_texts WHERE text='own text 1'", 1);
    /* A text that was deleted comes back with the next run of it, though it was remembered. */
    struct run_row again = {
        .seq = m->o.port->next_seq(m->o.port), .id = "run_again", .status = RUN_RUNNING, .attempt = 1};
    again.pipeline_text = xstrdup("own text 0");
    again.created_ms = now;
    g = new_group(0);
    store_add_run_insert(g, &again);
    assert_int_equal(submit_wait(&m->o, g), 0);
    struct store_read *r = store_read_new(STORE_READ_RUN, NULL, NULL);
    r->id = xstrdup("run_again");
    assert_int_equal(read_wait(&m->o, r), 0);
    assert_string_equal(r->runs[0].pipeline_text, "own text 0");
    store_read_free(r);
    run_row_fini(&again);
    step_row_fini(&step);
    for (int i = 0; i < 2; i++) {
        event_fini(events[i]);
        run_row_fini(&run[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_filter, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_pages, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stats, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_retention_by_number, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_retention_by_age, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
