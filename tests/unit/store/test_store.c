/* Round trips, groups, order, lists and totals, loads. */
#include "fixture.h"

static int set_up(void **state)
{
    struct owner *o = xmalloc(sizeof(*o));
    owner_init(o, NULL);
    owner_open(o, NULL);
    *state = o;
    return 0;
}

static int tear_down(void **state)
{
    owner_fini(*state);
    free(*state);
    return 0;
}

static void assert_text(const char *a, const char *b)
{
    if (!streq(a, b))
        fail_msg("`%s` is not `%s`", a ? a : "NULL", b ? b : "NULL");
}

static void assert_event(const struct event *a, const struct event *b)
{
    assert_int_equal(a->seq, b->seq);
    assert_string_equal(a->id, b->id);
    assert_string_equal(a->run_id, b->run_id);
    assert_string_equal(a->root_event_id, b->root_event_id);
    assert_string_equal(a->replay_of, b->replay_of);
    assert_text(a->trigger_id, b->trigger_id);
    assert_text(a->pipeline_id, b->pipeline_id);
    assert_text(a->event_type, b->event_type);
    assert_text(a->data, b->data);
    assert_text(a->resolved_inputs, b->resolved_inputs);
    assert_text(a->referring, b->referring);
    assert_text(a->reason, b->reason);
    assert_text(a->error_message, b->error_message);
    assert_text(a->chain, b->chain);
    assert_text(a->concurrency_key, b->concurrency_key);
    assert_text(a->traceparent, b->traceparent);
    assert_int_equal(a->status, b->status);
    assert_int_equal(a->decision, b->decision);
    assert_int_equal(a->depth, b->depth);
    assert_int_equal(a->attempt, b->attempt);
    assert_int_equal(a->occurred_ms, b->occurred_ms);
    assert_int_equal(a->started_ms, b->started_ms);
    assert_int_equal(a->completed_ms, b->completed_ms);
}

static struct event full_event(struct owner *o, unsigned n)
{
    struct event e = make_event(o->port, "csv", n);
    strcpy(e.run_id, "run_00000000000000000000000001");
    strcpy(e.root_event_id, "evt_00000000000000000000000777");
    strcpy(e.replay_of, "evt_00000000000000000000000778");
    e.resolved_inputs = xstrdup("{\"a\":1.10}");
    e.referring = xstrdup("[\"a\"]");
    e.reason = xstrdup("because \xc3\xa9");
    e.error_message = xstrdup("no");
    e.chain = xstrdup("/a/b/");
    e.concurrency_key = xstrdup("k");
    e.traceparent = xstrdup("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    e.status = EVENT_EXECUTING;
    e.decision = DECISION_CONCURRENCY;
    e.depth = 3;
    e.attempt = 2;
    e.occurred_ms = 1700000000001;
    e.started_ms = 1700000000002;
    e.completed_ms = 1700000000003;
    return e;
}

static void count_soon(void *ctx)
{
    struct owner *o = ctx;
    o->soons++;
}

static void submit_event(struct owner *o, struct event *e, struct outcome *out)
{
    struct store_group *g = store_group_new(0, group_done, out);
    store_add_event_insert(g, e);
    o->port->submit(o->port, g);
}

/* Groups stay with the owner until the flush that was asked for, or until they are many; a close takes what is left. */
static void test_gathered(void **state)
{
    (void)state;
    struct owner own, *o = &own;
    owner_init(o, NULL);
    o->options.soon = count_soon;
    owner_open(o, NULL);
    struct outcome outcomes[40] = {0};
    struct event events[40];
    for (unsigned i = 0; i < ARRAY_SIZE(events); i++)
        events[i] = make_event(o->port, "csv", i);
    size_t n = 0;
    for (; n < 2; n++)
        submit_event(o, &events[n], &outcomes[n]);
    assert_int_equal(o->soons, 1);
    struct store *s = store_of(o->port);
    pthread_mutex_lock(&s->mutex);
    assert_null(s->queue.first);
    pthread_mutex_unlock(&s->mutex);
    assert_false(outcomes[0].done);
    store_flush(o->port);
    owner_wait(o, &outcomes[1].done);
    assert_true(outcomes[0].done);
    assert_int_equal(find_event(o, events[1].id, NULL), 0);

    for (; n < 34; n++) /* as many as are handed over without being asked */
        submit_event(o, &events[n], &outcomes[n]);
    assert_int_equal(o->soons, 2);
    owner_wait(o, &outcomes[33].done);

    for (; n < 36; n++)
        submit_event(o, &events[n], &outcomes[n]);
    assert_int_equal(o->soons, 3);
    owner_close(o);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(outcomes[i].calls, 1);
        assert_int_equal(outcomes[i].result, 0);
    }
    owner_open(o, NULL);
    assert_int_equal(find_event(o, events[n - 1].id, NULL), 0);
    assert_int_equal(find_event(o, events[n].id, NULL), -ENOENT);
    for (size_t i = 0; i < ARRAY_SIZE(events); i++)
        event_fini(&events[i]);
    owner_fini(o);
}

static void test_event_round_trip(void **state)
{
    struct owner *o = *state;
    struct event e = full_event(o, 1), back = {0}, bare = {.id = "evt_bare", .trigger_id = xstrdup("t")};
    assert_int_equal(insert_event(o, &e), 0);
    assert_int_equal(find_event(o, e.id, &back), 0);
    assert_event(&e, &back);
    event_fini(&back);

    bare.seq = o->port->next_seq(o->port);
    assert_int_equal(insert_event(o, &bare), 0);
    assert_int_equal(find_event(o, "evt_bare", &back), 0);
    assert_event(&bare, &back);
    event_fini(&back);

    /* An update changes its fields, and keeps what it gives as NULL. */
    struct event u = {.seq = e.seq, .status = EVENT_FAILED, .decision = DECISION_FIRED, .attempt = 5, .started_ms = 6};
    u.completed_ms = 7;
    u.error_message = xstrdup("broke");
    strcpy(u.run_id, "run_00000000000000000000000002");
    struct store_group *g = new_group(0);
    store_add_event_update(g, &u);
    assert_int_equal(submit_wait(o, g), 0);
    assert_int_equal(find_event(o, e.id, &back), 0);
    e.status = u.status;
    e.decision = u.decision;
    e.attempt = 5;
    e.started_ms = 6;
    e.completed_ms = 7;
    strcpy(e.run_id, u.run_id);
    free(e.error_message);
    e.error_message = xstrdup("broke");
    assert_event(&e, &back);
    event_fini(&back);
    assert_int_equal(find_event(o, "evt_none", NULL), -ENOENT);
    event_fini(&e);
    event_fini(&bare);
    event_fini(&u);
}

static void assert_run(const struct run_row *a, const struct run_row *b)
{
    assert_int_equal(a->seq, b->seq);
    assert_string_equal(a->id, b->id);
    assert_string_equal(a->event_id, b->event_id);
    assert_text(a->pipeline_id, b->pipeline_id);
    assert_text(a->pipeline_text, b->pipeline_text);
    assert_text(a->trigger_id, b->trigger_id);
    assert_text(a->inputs, b->inputs);
    assert_text(a->outputs, b->outputs);
    assert_text(a->error_message, b->error_message);
    assert_text(a->traceparent, b->traceparent);
    assert_int_equal(a->status, b->status);
    assert_int_equal(a->attempt, b->attempt);
    assert_int_equal(a->created_ms, b->created_ms);
    assert_int_equal(a->started_ms, b->started_ms);
    assert_int_equal(a->completed_ms, b->completed_ms);
}

static struct run_row make_run(struct owner *o, unsigned n, const char *pipeline, const char *text)
{
    struct run_row r = {.seq = o->port->next_seq(o->port), .status = RUN_PENDING, .attempt = 1};
    snprintf(r.id, sizeof(r.id), "run_%026u", n);
    r.pipeline_id = xstrdup(pipeline);
    r.pipeline_text = xstrdup(text);
    r.inputs = xstrdup("{\"x\":1}");
    r.created_ms = 1700000000000 + n;
    return r;
}

static struct store_read *get_run(struct owner *o, const char *id)
{
    struct store_read *r = store_read_new(STORE_READ_RUN, NULL, NULL);
    r->id = xstrdup(id);
    assert_int_equal(read_wait(o, r), 0);
    assert_int_equal(r->n_runs, 1);
    return r;
}

static void test_run_round_trip(void **state)
{
    struct owner *o = *state;
    struct run_row run = make_run(o, 1, "copy", "{\"id\":\"copy\"}"),
                   other = make_run(o, 2, "copy", "{\"id\":\"copy\"}");
    run.status = RUN_RUNNING;
    run.trigger_id = xstrdup("csv");
    run.traceparent = xstrdup("00-aa-bb-01");
    run.attempt = 4;
    run.started_ms = 11;
    strcpy(run.event_id, "evt_00000000000000000000000009");
    struct store_group *g = new_group(0);
    store_add_run_insert(g, &run);
    store_add_run_insert(g, &other);
    assert_int_equal(submit_wait(o, g), 0);
    struct store_read *r = get_run(o, run.id);
    assert_run(&run, &r->runs[0]);
    assert_int_equal(r->n_steps, 0);
    store_read_free(r);

    run.status = RUN_COMPLETED;
    run.outputs = xstrdup("[1]");
    run.error_message = xstrdup("a warning");
    run.completed_ms = 12;
    run.attempt = 5;
    struct step_row a = {
        .step_id = xstrdup("fetch"), .status = STEP_FAILED, .attempt = 1, .exit_code = 3, .started_ms = 20};
    struct step_row b = {.step_id = xstrdup("adapt"), .status = STEP_COMPLETED, .attempt = 2, .exit_code = -1};
    a.term_signal = 9;
    a.completed_ms = 21;
    a.output = xstrdup("{\"rows\":3}");
    a.error_message = xstrdup("exit 3");
    a.out = xmemdup("o\0ut", 4);
    a.out_len = 4;
    a.err = xstrdup("err");
    a.err_len = 3;
    b.started_ms = 30;
    g = new_group(STORE_KEEP);
    store_add_run_update(g, &run);
    store_add_step(g, run.seq, &a);
    store_add_step(g, run.seq, &b);
    assert_int_equal(submit_wait(o, g), 0);
    r = get_run(o, run.id);
    assert_run(&run, &r->runs[0]);
    assert_int_equal(r->n_steps, 2);
    assert_string_equal(r->steps[0].step_id, "fetch");
    assert_int_equal(r->steps[0].status, STEP_FAILED);
    assert_int_equal(r->steps[0].attempt, 1);
    assert_int_equal(r->steps[0].exit_code, 3);
    assert_int_equal(r->steps[0].term_signal, 9);
    assert_int_equal(r->steps[0].started_ms, 20);
    assert_int_equal(r->steps[0].completed_ms, 21);
    assert_text(r->steps[0].output, a.output);
    assert_text(r->steps[0].error_message, a.error_message);
    assert_null(r->steps[0].out);
    assert_int_equal(r->steps[1].exit_code, -1);
    store_read_free(r);

    /* What it printed; a later attempt that prints less replaces all of it. */
    for (int attempt = 1; attempt <= 2; attempt++) {
        r = store_read_new(STORE_READ_STEP, NULL, NULL);
        r->id = xstrdup(run.id);
        r->step_id = xstrdup("fetch");
        assert_int_equal(read_wait(o, r), 0);
        assert_int_equal(r->steps[0].attempt, attempt);
        assert_int_equal(r->steps[0].out_len, attempt == 1 ? 4 : 0);
        assert_memory_equal(r->steps[0].out, attempt == 1 ? "o\0ut" : "", attempt == 1 ? 5 : 1);
        assert_int_equal(r->steps[0].err_len, attempt == 1 ? 3 : 2);
        assert_string_equal(r->steps[0].err, attempt == 1 ? "err" : "er");
        store_read_free(r);
        a.attempt = 2;
        a.out_len = 0;
        a.err_len = 2;
        g = new_group(0);
        store_add_step(g, run.seq, &a);
        assert_int_equal(submit_wait(o, g), 0);
    }
    static const char *const missing[][2] = {{"run_none", "fetch"}, {"run_00000000000000000000000001", "none"}};
    for (size_t i = 0; i < ARRAY_SIZE(missing); i++) {
        r = store_read_new(STORE_READ_STEP, NULL, NULL);
        r->id = xstrdup(missing[i][0]);
        r->step_id = xstrdup(missing[i][1]);
        assert_int_equal(read_wait(o, r), -ENOENT);
        assert_true(r->error.message[0] != '\0');
        store_read_free(r);
    }

    struct run_row loaded = {0};
    struct step_row *steps = NULL;
    size_t n = 0;
    assert_int_equal(store_load_run(o->port, run.id, &loaded, &steps, &n, NULL), 0);
    assert_run(&run, &loaded);
    assert_int_equal(n, 2);
    run_row_fini(&loaded);
    for (size_t i = 0; i < n; i++)
        step_row_fini(&steps[i]);
    free(steps);
    struct error err = ERROR_INIT;
    assert_int_equal(o->port->load_run(o->port, "run_none", &loaded, &steps, &n, &err), -ENOENT);
    run_row_fini(&run);
    run_row_fini(&other);
    step_row_fini(&a);
    step_row_fini(&b);
}

static int read_value(struct owner *o, const char *key, size_t len, const char *want)
{
    struct store_read *r = store_read_new(STORE_READ_KV, NULL, NULL);
    r->scope = xstrdup("s");
    r->key = xstrndup("", 0);
    r->key = xrealloc(r->key, len + 1);
    memcpy(r->key, key, len);
    r->key[len] = '\0';
    r->key_len = len;
    int result = read_wait(o, r);
    if (result == 0) {
        assert_int_equal(r->value_len, strlen(want));
        assert_string_equal(r->value, want);
    }
    store_read_free(r);
    return result;
}

/* All in one read; `want` has a word for each. */
static void look_up(struct owner *o, const char *const *keys, int64_t now, const char *want)
{
    struct store_read *r = store_read_new(STORE_READ_DEDUP, NULL, NULL);
    while (keys[r->n_lookups])
        r->n_lookups++;
    r->lookups = xcalloc(r->n_lookups, sizeof(*r->lookups));
    for (size_t i = 0; i < r->n_lookups; i++)
        r->lookups[i] = (struct store_lookup){.scope = "s", .key = keys[i]};
    r->now_ms = now;
    assert_int_equal(read_wait(o, r), 0);
    char found[256] = "";
    for (size_t i = 0; i < r->n_lookups; i++) {
        const struct store_lookup *l = &r->lookups[i];
        if (l->value)
            assert_int_equal(strlen(l->value), l->value_len);
        sprintf(found + strlen(found), "%s ", l->value ? l->value : "-");
    }
    assert_string_equal(found, want);
    store_read_free(r);
}

static int count_kv(void *ctx, const char *key, size_t key_len, const char *value, size_t value_len)
{
    (void)key;
    (void)value;
    *(size_t *)ctx += 1 + 10 * key_len + 1000 * value_len;
    return 0;
}

static int stop_kv(void *ctx, const char *key, size_t key_len, const char *value, size_t value_len)
{
    (void)key;
    (void)key_len;
    (void)value;
    (void)value_len;
    ++*(int *)ctx;
    return -ECANCELED;
}

static size_t read_page(struct owner *o, const char *after, int64_t size, char *ret)
{
    struct store_read *r = store_read_new(STORE_READ_KV_PAGE, NULL, NULL);
    r->scope = xstrdup("p");
    r->key = xstrdup0(after);
    r->key_len = after ? strlen(after) : 0;
    r->page_size = size;
    assert_int_equal(read_wait(o, r), 0);
    size_t n = r->n_pairs;
    *ret = '\0';
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(strlen(r->pairs[i].key), r->pairs[i].key_len);
        assert_int_equal(strlen(r->pairs[i].value), r->pairs[i].value_len);
        sprintf(ret + strlen(ret), "%s=%s ", r->pairs[i].key, r->pairs[i].value);
    }
    store_read_free(r);
    return n;
}

static void test_pages_of_keys(void **state)
{
    struct owner *o = *state;
    struct store_group *g = new_group(0);
    char text[256];
    store_add_kv_put(g, "p", "a/b", 3, "2", 1);
    store_add_kv_put(g, "p", "a", 1, "1", 1);
    store_add_kv_put(g, "p", "\xff", 1, "", 0);
    store_add_kv_put(g, "p", "b", 1, "3", 1);
    store_add_kv_put(g, "q", "c", 1, "4", 1);
    assert_int_equal(submit_wait(o, g), 0);
    assert_int_equal(read_page(o, NULL, 3, text), 3);
    assert_string_equal(text, "a=1 a/b=2 b=3 ");
    assert_int_equal(read_page(o, "b", 3, text), 1);
    assert_string_equal(text, "\xff= ");
    assert_int_equal(read_page(o, "\xff", 3, text), 0);
    assert_int_equal(read_page(o, NULL, 0, text), 1);
}

/* Of several keys at once the first event, and its status where it is still kept. */
static void check_seen(struct owner *o, int64_t expires)
{
    static const char *const keys[] = {"a", NULL, "b", "none", "c"};
    struct event e = make_event(o->port, "t", 1);
    e.status = EVENT_FAILED;
    _cleanup_(freep) char *value = xasprintf("{\"body\":\"0\",\"events\":[\"%s\",\"x\"]}", e.id);
    struct store_group *g = new_group(0);
    store_add_event_insert(g, &e);
    store_add_dedup(g, "seen", "a", value, expires);
    store_add_dedup(g, "seen", "b", "{\"events\":[\"gone\"]}", expires);
    store_add_dedup(g, "seen", "c", value, expires - 1000);
    store_add_dedup(g, "other", "none", value, expires);
    assert_int_equal(submit_wait(o, g), 0);
    struct store_read *r = store_read_new(STORE_READ_SEEN, NULL, NULL);
    r->scope = xstrdup("seen");
    r->seen = xcalloc(ARRAY_SIZE(keys), sizeof(*r->seen));
    r->n_seen = ARRAY_SIZE(keys);
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        r->seen[i].key = xstrdup0(keys[i]);
    r->now_ms = expires - 1000;
    assert_int_equal(read_wait(o, r), 0);
    assert_string_equal(r->seen[0].event, e.id);
    assert_int_equal(r->seen[0].status, EVENT_FAILED);
    assert_null(r->seen[1].event);
    assert_string_equal(r->seen[2].event, "gone");
    assert_int_equal(r->seen[2].status, -1);
    assert_null(r->seen[3].event);
    assert_null(r->seen[4].event);
    store_read_free(r);
    event_fini(&e);
}

static void test_keys(void **state)
{
    struct owner *o = *state;
    struct store_group *g = new_group(0);
    int64_t expires = realtime_ms() + 3600000; /* what has expired may be gone at any time */
    store_add_dedup(g, "s", "k", "{\"id\":1}", expires - 1000);
    store_add_dedup(g, "s", "k", "{\"id\":2}", expires);
    store_add_dedup(g, "s", "k2", "{\"id\":3}", expires - 1);
    store_add_dedup(g, "other", "none", "{\"id\":4}", expires);
    store_add_kv_put(g, "s", "a\0b", 3, "v1", 2);
    store_add_kv_put(g, "s", "a\0b", 3, "v2", 2);
    store_add_kv_put(g, "s", "", 0, "", 0);
    store_add_kv_put(g, "other", "a", 1, "v3", 2);
    assert_int_equal(submit_wait(o, g), 0);
    static const char *const both[] = {"none", "k", "k2", "k", NULL}, *const none[] = {NULL};
    look_up(o, both, expires - 2, "- {\"id\":2} {\"id\":3} {\"id\":2} ");
    look_up(o, both, expires - 1, "- {\"id\":2} - {\"id\":2} ");
    look_up(o, both, expires, "- - - - ");
    look_up(o, none, 0, "");
    assert_int_equal(read_value(o, "a\0b", 3, "v2"), 0);
    assert_int_equal(read_value(o, "", 0, ""), 0);
    assert_int_equal(read_value(o, "a", 1, NULL), -ENOENT);
    check_seen(o, expires);
    size_t sum = 0;
    assert_int_equal(store_load_kv(o->port, "s", count_kv, &sum, NULL), 0);
    assert_int_equal(sum, 2 + 30 + 2000);
    int calls = 0;
    assert_int_equal(store_load_kv(o->port, "s", stop_kv, &calls, NULL), -ECANCELED);
    assert_int_equal(calls, 1);

    g = new_group(0);
    store_add_kv_delete(g, "s", "a\0b", 3);
    assert_int_equal(submit_wait(o, g), 0);
    assert_int_equal(read_value(o, "a\0b", 3, NULL), -ENOENT);
    assert_int_equal(read_value(o, "", 0, ""), 0);
    g = new_group(0);
    store_add_kv_delete(g, "s", NULL, 0);
    assert_int_equal(submit_wait(o, g), 0);
    assert_int_equal(read_value(o, "", 0, NULL), -ENOENT);
    sum = 0;
    assert_int_equal(store_load_kv(o->port, "other", count_kv, &sum, NULL), 0);
    assert_int_equal(sum, 1 + 10 + 2000);
}

/* Tallies of a batch become one statement a key, and stand in their order among what else is done to the key. */
static void test_tallies(void **state)
{
    struct owner *o = *state;
    struct store_group *g = new_group(0);
    store_add_kv_tally(g, "s", "a", 10);
    store_add_kv_tally(g, "s", "b", 11);
    store_add_kv_tally(g, "t", "a", 12);
    store_add_kv_tally(g, "s", "a", 13);
    for (int i = 0; i < 300; i++) { /* more keys than are gathered at a time */
        char key[16];
        snprintf(key, sizeof(key), "k%d", i);
        store_add_kv_tally(g, "s", key, 20);
    }
    assert_int_equal(submit_wait(o, g), 0);
    assert_int_equal(read_value(o, "a", 1, "2 13"), 0);
    assert_int_equal(read_value(o, "b", 1, "1 11"), 0);
    assert_int_equal(read_value(o, "k0", 2, "1 20"), 0);
    assert_int_equal(read_value(o, "k299", 4, "1 20"), 0);
    g = new_group(0);
    store_add_kv_tally(g, "s", "a", 30);
    store_add_kv_put(g, "s", "b", 1, "7 8", 3);
    store_add_kv_tally(g, "s", "b", 31);
    store_add_kv_tally(g, "s", "k0", 32);
    store_add_kv_delete(g, "s", "k0", 2);
    store_add_kv_tally(g, "s", "k0", 33);
    assert_int_equal(submit_wait(o, g), 0);
    assert_int_equal(read_value(o, "a", 1, "3 30"), 0);
    assert_int_equal(read_value(o, "b", 1, "8 31"), 0);
    assert_int_equal(read_value(o, "k0", 2, "1 33"), 0);
}

/* A group that violates a constraint leaves nothing, and its neighbours in the batch all of theirs. */
static void test_group_is_atomic(void **state)
{
    struct owner *o = *state;
    struct event a = make_event(o->port, "t", 1), b = make_event(o->port, "t", 2), twin = make_event(o->port, "t", 1),
                 c = make_event(o->port, "t", 3);
    assert_int_equal(insert_event(o, &a), 0);
    struct outcome out[3] = {0};
    struct store_group *bad = store_group_new(STORE_KEEP, group_done, &out[1]);
    store_add_event_insert(bad, &b);
    store_add_kv_put(bad, "s", "k", 1, "v", 1);
    store_add_event_insert(bad, &twin);
    struct store_group *first = store_group_new(STORE_LAZY, group_done, &out[0]);
    store_add_kv_put(first, "s", "first", 5, "v", 1);
    struct store_group *last = store_group_new(0, group_done, &out[2]);
    store_add_event_insert(last, &c);
    o->port->submit(o->port, first);
    o->port->submit(o->port, bad);
    o->port->submit(o->port, last);
    size_t bytes = 0;
    assert_int_equal(o->port->backlog(o->port, &bytes), 3);
    assert_true(bytes > 0);
    owner_wait(o, &out[2].done);
    assert_true(out[0].done && out[1].done);
    assert_int_equal(out[0].result, 0);
    assert_int_equal(out[1].result, -EINVAL);
    assert_int_equal(out[2].result, 0);
    assert_int_equal(o->port->backlog(o->port, &bytes), 0);
    assert_int_equal(bytes, 0);
    assert_int_equal(find_event(o, b.id, NULL), -ENOENT);
    assert_int_equal(find_event(o, c.id, NULL), 0);
    assert_int_equal(read_value(o, "k", 1, NULL), -ENOENT);
    assert_int_equal(read_value(o, "first", 5, "v"), 0);
    assert_int_equal(o->downs, 0);
    event_fini(&a);
    event_fini(&b);
    event_fini(&c);
    event_fini(&twin);
}

struct ordered {
    struct owner *o;
    int next, n;
    bool all;
};

static void ordered_done(struct store_group *g, int result)
{
    struct ordered *all = g->ctx;
    assert_int_equal(result, 0);
    assert_int_equal(g->ops->expires_ms, all->next); /* the number it was given */
    all->all = ++all->next == all->n;
    store_group_free(g);
}

static void test_done_in_order(void **state)
{
    struct owner *o = *state;
    struct ordered all = {.o = o, .n = 5000};
    unsigned random = 1;
    for (int i = 0; i < all.n; i++) {
        random = random * 1103515245u + 12345u;
        unsigned flags = (random >> 16) & 3;
        struct store_group *g = store_group_new(flags, ordered_done, &all);
        store_add_dedup(g, "s", "k", "1", i);
        o->port->submit(o->port, g);
        if (random % 97 == 0)
            store_collect(o->port);
    }
    owner_wait(o, &all.all);
    struct histogram times = store_commit_times(o->port);
    uint64_t n = 0;
    for (size_t i = 0; i < ARRAY_SIZE(times.counts); i++)
        n += times.counts[i];
    assert_true(n > 0 && n == times.n && times.sum > 0);
}

/* A lazy group is committed without company after a while, and a done() may submit. */
static void test_lazy(void **state)
{
    struct owner *o = *state;
    struct store_group *g = new_group(STORE_LAZY);
    store_add_kv_put(g, "s", "k", 1, "v", 1);
    int64_t start = monotonic_ns();
    assert_int_equal(submit_wait(o, g), 0);
    assert_true(monotonic_ns() - start >= STORE_LAZY_MS * 1000000 - 500000);
    assert_int_equal(read_value(o, "k", 1, "v"), 0);
    assert_int_equal(submit_wait(o, new_group(0)), 0); /* an empty group is one all the same */
}

static void finish_in_close(struct store_group *g, int result)
{
    struct outcome *out = g->ctx;
    out->calls++;
    assert_int_equal(result, out->calls == 1 ? 0 : -ESHUTDOWN);
    store_group_free(g);
}

static struct store_port *closing_port;

static void submit_in_close(struct store_group *g, int result)
{
    struct store_group *more = store_group_new(STORE_LAZY, finish_in_close, g->ctx);
    finish_in_close(g, result);
    closing_port->submit(closing_port, more);
}

/* close() commits what was submitted and calls everything back; what those callbacks submit fails. */
static void test_close(void **state)
{
    struct owner *o = *state;
    struct outcome out = {0}, read_out = {0};
    struct store_group *g = store_group_new(STORE_LAZY, submit_in_close, &out);
    store_add_kv_put(g, "s", "k", 1, "v", 1);
    closing_port = o->port;
    o->port->submit(o->port, g);
    struct store_read *r = store_read_new(STORE_READ_EVENTS, read_done, &read_out);
    o->port->read(o->port, r);
    owner_close(o);
    assert_int_equal(out.calls, 2);
    assert_true(read_out.done);
    store_read_free(r);
    owner_open(o, NULL);
    assert_int_equal(read_value(o, "k", 1, "v"), 0);
}

static int count_events(void *ctx, struct event *e)
{
    int64_t *last = ctx;
    assert_true(e->seq > *last);
    assert_false(event_status_final(e->status));
    *last = e->seq;
    return 0;
}

static int count_runs(void *ctx, struct run_row *r)
{
    assert_non_null(r->pipeline_text);
    ++*(int *)ctx;
    return 0;
}

static void test_loads_and_seq(void **state)
{
    struct owner *o = *state;
    int64_t last_open = 0;
    for (unsigned i = 1; i <= 40; i++) {
        struct event e = make_event(o->port, "t", i);
        e.status = i % 7 == 0 ? EVENT_EXECUTING : i % 3 == 0 ? EVENT_PENDING : EVENT_COMPLETED + i % 4;
        if (!event_status_final(e.status))
            last_open = e.seq;
        assert_int_equal(insert_event(o, &e), 0);
        event_fini(&e);
    }
    for (unsigned i = 1; i <= 5; i++) {
        struct run_row run = make_run(o, i, "p", i % 2 ? "odd" : "even");
        run.status = i == 5 ? RUN_TIMED_OUT : i == 4 ? RUN_RUNNING : RUN_PENDING;
        struct store_group *g = new_group(0);
        store_add_run_insert(g, &run);
        assert_int_equal(submit_wait(o, g), 0);
        run_row_fini(&run);
    }
    char node[33];
    strcpy(node, store_node_id(o->port));
    assert_int_equal(strspn(node, "0123456789abcdef"), 32);
    owner_close(o);
    owner_open(o, NULL);
    assert_string_equal(store_node_id(o->port), node);
    int64_t last = 0;
    assert_int_equal(store_load_open_events(o->port, count_events, &last, NULL), 0);
    assert_int_equal(last, last_open);
    int runs = 0;
    assert_int_equal(o->port->load_open_runs(o->port, count_runs, &runs, NULL), 0);
    assert_int_equal(runs, 4);
    assert_int_equal(o->port->next_seq(o->port), 46); /* the last was a run's */
    assert_int_equal(o->port->next_seq(o->port), 47);
}

struct mixed {
    struct owner *o;
    size_t written, read, under_way;
    bool all;
};

static void mixed_written(struct store_group *g, int result)
{
    struct mixed *m = g->ctx;
    assert_int_equal(result, 0);
    event_fini(g->ops->event);
    free(g->ops->event);
    m->written++;
    m->all = --m->under_way == 0;
    store_group_free(g);
}

/* Each read is of one moment, and no older than what was told before it was asked (now_ms carries how many). */
static void mixed_read(struct store_read *r, int result)
{
    struct mixed *m = r->ctx;
    assert_int_equal(result, 0);
    assert_int_equal(r->total, r->n_events);
    assert_true(r->total >= r->now_ms);
    for (size_t i = 1; i < r->n_events; i++)
        assert_true(r->events[i].seq < r->events[i - 1].seq);
    m->read++;
    m->all = --m->under_way == 0;
    store_read_free(r);
}

static void test_reads_while_writing(void **state)
{
    struct mixed m = {.o = *state};
    for (unsigned i = 1; i <= 2000; i++) {
        struct event *e = xmalloc(sizeof(*e));
        *e = make_event(m.o->port, "t", i);
        struct store_group *g = store_group_new(i % 3 ? 0 : STORE_LAZY, mixed_written, &m);
        store_add_event_insert(g, e);
        m.under_way++;
        m.o->port->submit(m.o->port, g);
        if (i % 50 == 0) {
            struct store_read *r = store_read_new(STORE_READ_EVENTS, mixed_read, &m);
            r->page_size = STORE_PAGE_SIZE_MAX;
            r->now_ms = (int64_t)m.written;
            m.under_way++;
            m.o->port->read(m.o->port, r);
            store_collect(m.o->port);
        }
    }
    m.all = m.under_way == 0;
    owner_wait(m.o, &m.all);
    assert_int_equal(m.under_way, 0);
    assert_int_equal(m.written, 2000);
    assert_int_equal(m.read, 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_event_round_trip, set_up, tear_down),
        cmocka_unit_test(test_gathered),
        cmocka_unit_test_setup_teardown(test_run_round_trip, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tallies, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_pages_of_keys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_group_is_atomic, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_done_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lazy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_close, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_loads_and_seq, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reads_while_writing, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
