/* What the engine promises to one source: when it is made and made again, what it is told of the past, and what is kept
 * or forgotten under its id. On a simulated clock, with the real store. (Everything else of the engine: tests/sim.) */
#include "engine/internal.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- a source that can be told to fail ---- */

struct config {
    char *where;
};
static const struct field rows[] = {
    {.name = "where",
     .type = &field_string,
     FIELD(struct config, where, char *, .change = CHANGE_SOURCE, .doc = "Nothing")},
};
static const struct field_table table = {"brittle", "Something brittle", sizeof(struct config), rows, ARRAY_SIZE(rows)};

struct rig {
    char dir[64];
    struct clock_manual clock;
    struct timers timers;
    struct random_seeded random;
    struct store_port *store;
    struct engine *engine;
    char log[4096];
    /* the source */
    int fails;         /* so many create() fail first */
    int64_t tried[32]; /* when create() was called */
    size_t n_tried;
    bool last_new;
    struct source *source;
    uint64_t acked, nacked;
    int n_acked;
    bool out_of_order; /* a token was acknowledged after a greater one */
    char ends[512];    /* ` token:status` for each that was told */
    /* steps under way, oldest first */
    struct step_call *calls[8];
    size_t n_calls;
    bool waits; /* the source is not gone before the test says so */
};

struct source {
    struct rig *rig;
    struct source_host *host;
    struct timer timer;
    void (*done)(void *ctx);
    void *done_ctx;
};

static void settle(struct rig *r);

static int create(struct source_host *host, const struct source_env *env, const struct trigger *trigger,
                  struct source **ret, struct error *err)
{
    (void)trigger;
    struct rig *r = container_of(env->timers, struct rig, timers);
    if (r->n_tried < ARRAY_SIZE(r->tried))
        r->tried[r->n_tried++] = r->clock.monotonic_ms;
    r->last_new = source_is_new(host);
    _cleanup_(freep) char *dir = source_manifest_dir(host);
    assert_string_equal(dir, "/manifests");
    if (r->fails > 0) {
        r->fails--;
        return error_set(err, -EIO, "it is not there");
    }
    struct source *s = xcalloc(1, sizeof(*s));
    s->rig = r;
    s->host = host;
    r->source = s;
    *ret = s;
    return 0;
}

static void start(struct source *s)
{
    source_report(s->host, SOURCE_CONNECTED, "Connected", NULL);
}

static void gone(struct timer *timer, void *ctx)
{
    (void)timer;
    struct source *s = ctx;
    s->done(s->done_ctx);
    free(s);
}

static void stop(struct source *s, void (*done)(void *ctx), void *ctx)
{
    s->done = done;
    s->done_ctx = ctx;
    s->rig->source = NULL;
    timer_init(&s->timer, gone, s);
    if (!s->rig->waits)
        timer_start(&s->rig->timers, &s->timer, s->rig->clock.monotonic_ms);
}

static void flow(struct source *s)
{
    (void)s;
}

static void ack(struct source *s, uint64_t token)
{
    s->rig->out_of_order |= token < s->rig->acked;
    s->rig->acked = token;
    s->rig->n_acked++;
}

static void nack(struct source *s, uint64_t token, const char *why)
{
    (void)why;
    s->rig->nacked = token;
}

static void forget(struct store_group *g, const char *trigger_id)
{
    store_add_kv_delete(g, "brittle", trigger_id, strlen(trigger_id));
}

static const struct source_type brittle = {
    .kind = {.name = "brittle", .config = &table, .lossless = true},
    .create = create,
    .start = start,
    .stop = stop,
    .ack = ack,
    .nack = nack,
    .forget = forget,
};

/* ---- one that wants to know how its events end, and steps that end as they are told ---- */

static void ended(struct source *s, uint64_t token, enum event_status status)
{
    size_t n = strlen(s->rig->ends);
    assert_true(s->rig->acked >= token);
    snprintf(s->rig->ends + n, sizeof(s->rig->ends) - n, " %d:%s", (int)token, event_status_name(status));
}

static const struct source_type patient = {
    .kind = {.name = "patient", .config = &table, .lossless = true, .has_filter = true},
    .settles_late = true,
    .create = create,
    .start = start,
    .stop = stop,
    .pause = flow,
    .resume = flow,
    .ack = ack,
    .nack = nack,
    .ended = ended,
};
static const struct source_type *const source_types[] = {&brittle, &patient, NULL};

static void work_start(struct step_call *call)
{
    struct rig *r = container_of(call->env->timers, struct rig, timers);
    assert_true(r->n_calls < ARRAY_SIZE(r->calls));
    r->calls[r->n_calls++] = call;
}

static void work_end(struct rig *r, enum step_status status)
{
    struct step_result result = STEP_RESULT_INIT;
    assert_true(r->n_calls > 0);
    struct step_call *call = r->calls[0];
    memmove(r->calls, r->calls + 1, --r->n_calls * sizeof(r->calls[0]));
    result.status = status;
    result.error = status == STEP_COMPLETED ? NULL : xstrdup("no");
    step_done(call, &result);
    settle(r);
}

static void work_cancel(struct step_call *call)
{
    (void)call; /* the test ends it */
}

static const struct step_type work = {
    .kind = {.name = "work", .config = &table}, .start = work_start, .cancel = work_cancel};
static const struct step_type *const step_types[] = {&work, NULL};

/* ---- the rig ---- */

static void note(void *ctx, const char *trigger_id, const char *message)
{
    struct rig *r = ctx;
    size_t n = strlen(r->log);
    snprintf(r->log + n, sizeof(r->log) - n, "%s: %s\n", trigger_id ? trigger_id : "", message);
}

/* Everything that was asked of the store is done, and told. */
static void settle(struct rig *r)
{
    size_t bytes;
    for (int quiet = 0; quiet < 2;) {
        store_collect(r->store);
        timers_run(&r->timers, r->clock.monotonic_ms);
        bool busy = r->store->backlog(r->store, &bytes) > 0 || r->engine->reading > 0 ||
                    (timers_next(&r->timers) >= 0 && timers_next(&r->timers) <= r->clock.monotonic_ms);
        quiet = busy ? 0 : quiet + 1;
        if (busy)
            usleep(200);
    }
}

static void advance(struct rig *r, int64_t ms)
{
    int64_t until = r->clock.monotonic_ms + ms;
    for (int64_t due; (due = timers_next(&r->timers)) >= 0 && due <= until;) {
        if (due > r->clock.monotonic_ms)
            clock_manual_advance(&r->clock, due - r->clock.monotonic_ms);
        settle(r);
    }
    clock_manual_advance(&r->clock, until - r->clock.monotonic_ms);
    settle(r);
}

static void begin(struct rig *r)
{
    struct error err = ERROR_INIT;
    timers_init(&r->timers, NULL, NULL);
    if (store_open(&(struct store_options){.dir = r->dir}, &r->store, &err) < 0)
        fail_msg("%s", err.message);
    struct engine_options options = {.source_env = {.timers = &r->timers,
                                                    .clock = &r->clock.clock,
                                                    .random = &r->random.random,
                                                    .store = r->store,
                                                    .state_dir = r->dir},
                                     .step_env = {.timers = &r->timers, .clock = &r->clock.clock},
                                     .source_types = source_types,
                                     .step_types = step_types,
                                     .firing = true,
                                     .log = note,
                                     .ctx = r};
    assert_int_equal(engine_create(&options, &r->engine, &err), 0);
    assert_int_equal(engine_load(r->engine, &err), 0);
}

static void drained(void *ctx)
{
    *(bool *)ctx = true;
}

static void end(struct rig *r)
{
    bool over = false;
    engine_drain(r->engine, 0, drained, &over);
    while (!over)
        settle(r);
    store_close(r->store);
    engine_destroy(r->engine);
    timers_fini(&r->timers);
}

static void put_trigger(struct rig *r, const char *id, const char *type, const char *pipeline, const char *more)
{
    _cleanup_(freep) char *text = xasprintf(
        "{\"id\":\"%s\",\"name\":\"n\",\"pipeline_id\":\"%s\",\"trigger_type\":\"%s\",%s}", id, pipeline, type, more);
    cJSON *doc = NULL;
    struct issues issues = ISSUES_INIT;
    struct trigger *spec = NULL;
    assert_int_equal(value_parse(text, strlen(text), &doc, NULL), 0);
    trigger_parse(doc, engine_source_kinds(r->engine), &spec, &issues);
    if (issues.errors > 0)
        fail_msg("%s: %s", issues.items[0].path, issues.items[0].message);
    issues_fini(&issues);
    cJSON_Delete(doc);
    struct origin *origin = origin_new("/manifests/m.yaml");
    engine_put_trigger(r->engine, spec, origin, 1);
    origin_unref(origin);
    trigger_unref(spec);
    settle(r);
}

static void put(struct rig *r, const char *id, const char *more)
{
    put_trigger(r, id, "brittle", "none", more);
}

/* A pipeline of one step, which the test ends; and a patient trigger on it. */
static void put_patient(struct rig *r, const char *more)
{
    static const char text[] = "{\"kind\":\"pipeline\",\"id\":\"p\",\"steps\":[{\"id\":\"s\",\"work\":{}}]}";
    cJSON *doc = NULL;
    struct issues issues = ISSUES_INIT;
    struct pipeline *spec = NULL;
    assert_int_equal(value_parse(text, strlen(text), &doc, NULL), 0);
    assert_int_equal(pipeline_parse(doc, engine_step_kinds(r->engine), &spec, &issues), 0);
    issues_fini(&issues);
    cJSON_Delete(doc);
    engine_put_pipeline(r->engine, spec, NULL, 0);
    pipeline_unref(spec);
    _cleanup_(freep) char *all = xasprintf("\"config\":{%s},\"max_concurrent\":2", more);
    put_trigger(r, "t", "patient", "p", all);
}

static struct trigger_view view(struct rig *r, const char *id)
{
    struct trigger_view v;
    struct live_trigger *t = engine_find_trigger(r->engine, id);
    assert_non_null(t);
    trigger_look(t, &v);
    return v;
}

static size_t count(const char *text, const char *word)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, word)); p++)
        n++;
    return n;
}

static void keep(struct rig *r, const char *id)
{
    struct store_group *g = store_group_new(0, NULL, NULL);
    g->done = (void (*)(struct store_group *, int))(void (*)(void))store_group_free;
    store_add_kv_put(g, "brittle", id, strlen(id), "kept", 4);
    r->store->submit(r->store, g);
    settle(r);
}

static int found(void *ctx, const char *key, size_t key_len, const char *value, size_t value_len)
{
    (void)value;
    (void)value_len;
    const char **id = ctx;
    if (*id && strlen(*id) == key_len && memcmp(*id, key, key_len) == 0)
        *id = NULL;
    return 0;
}

static bool kept(struct rig *r, const char *id)
{
    settle(r);
    assert_int_equal(store_load_kv(r->store, "brittle", found, &id, NULL), 0);
    return id == NULL;
}

/* ---- tests ---- */

static void test_a_source_that_cannot_be_made_is_made_again(void **state)
{
    struct rig *r = *state;
    r->fails = 8;
    engine_start(r->engine);
    put(r, "t", "\"config\":{\"where\":\"a\"}");
    assert_int_equal(view(r, "t").status, TRIGGER_ERROR);
    assert_string_equal(view(r, "t").error_message, "it is not there");
    advance(r, 60000);
    assert_int_equal(r->n_tried, 9);
    static const int64_t waits[] = {500, 1000, 2000, 4000, 8000, 8000, 8000, 8000};
    for (size_t i = 0; i < ARRAY_SIZE(waits); i++)
        assert_in_range(r->tried[i + 1] - r->tried[i], waits[i] * 8 / 10, waits[i] * 12 / 10 + 1);
    assert_int_equal(view(r, "t").status, TRIGGER_ACTIVE);
    assert_null(view(r, "t").error_message);
    assert_int_equal(count(r->log, "does not work"), 1);
    assert_int_equal(count(r->log, "works"), 1);
}

static void test_resume_and_edits_try_at_once(void **state)
{
    struct rig *r = *state;
    r->fails = 3;
    engine_start(r->engine);
    put(r, "t", "\"config\":{\"where\":\"a\"}");
    assert_int_equal(r->n_tried, 1);
    assert_int_equal(engine_resume(r->engine, "t", false, NULL, NULL), 0);
    assert_int_equal(r->n_tried, 2);
    put(r, "t", "\"config\":{\"where\":\"b\"}");
    assert_int_equal(r->n_tried, 3);
    put(r, "t", "\"enabled\":false,\"config\":{\"where\":\"b\"}");
    advance(r, 60000);
    assert_int_equal(r->n_tried, 3);
    assert_int_equal(view(r, "t").status, TRIGGER_DISABLED);
    put(r, "t", "\"config\":{\"where\":\"b\"}");
    assert_int_equal(r->n_tried, 4);
    assert_int_equal(view(r, "t").status, TRIGGER_ACTIVE);
    r->fails = 1000;
    put(r, "u", "\"config\":{\"where\":\"b\"}");
    engine_remove_trigger(r->engine, "u");
    size_t tried = r->n_tried;
    advance(r, 60000);
    assert_int_equal(r->n_tried, tried);
}

static void test_only_the_first_source_is_new(void **state)
{
    struct rig *r = *state;
    r->fails = 1;
    engine_start(r->engine);
    put(r, "t", "\"config\":{\"where\":\"a\"}");
    assert_true(r->last_new);
    advance(r, 1000);
    assert_non_null(r->source);
    assert_true(r->last_new); /* the first that could be made */
    put(r, "t", "\"config\":{\"where\":\"b\"}");
    assert_int_equal(r->n_tried, 3);
    assert_false(r->last_new);
    engine_remove_trigger(r->engine, "t");
    put(r, "t", "\"config\":{\"where\":\"b\"}");
    assert_true(r->last_new);
}

static void test_what_is_kept_goes_with_the_trigger(void **state)
{
    struct rig *r = *state;
    engine_start(r->engine);
    put(r, "t", "\"config\":{\"where\":\"a\"}");
    put(r, "u", "\"config\":{\"where\":\"a\"}");
    put(r, "v", "\"config\":{\"where\":\"a\"}");
    keep(r, "t");
    keep(r, "u");
    keep(r, "v");
    put(r, "t", "\"config\":{\"where\":\"b\"}");
    assert_true(kept(r, "t"));
    engine_remove_trigger(r->engine, "t");
    assert_false(kept(r, "t"));
    assert_true(kept(r, "u"));
    end(r);
    begin(r); /* u was deleted in between */
    put(r, "v", "\"config\":{\"where\":\"a\"}");
    engine_start(r->engine);
    assert_false(kept(r, "u"));
    assert_true(kept(r, "v"));
}

static void occur(struct rig *r, const char *identity, const char *text, uint64_t token)
{
    cJSON *data = NULL;
    assert_int_equal(value_parse(text, strlen(text), &data, NULL), 0);
    source_occurred(r->source->host,
                    &(struct occurrence){.event_type = "x", .data = data, .data_text = text, .identity = identity},
                    token);
    cJSON_Delete(data);
    settle(r);
}

static void test_a_redelivery_may_look_different(void **state)
{
    struct rig *r = *state;
    engine_start(r->engine);
    put(r, "t", "\"config\":{\"where\":\"a\"}");
    occur(r, "m-1", "{\"n\":1}", 1);
    assert_int_equal(r->acked, 1);
    occur(r, "m-1", "{\"n\":1,\"redelivered\":true}", 2);
    assert_int_equal(r->acked, 2);
    assert_int_equal(r->nacked, 0);
    assert_int_equal(view(r, "t").decisions[DECISION_DUPLICATE], 1);
    assert_int_equal(view(r, "t").decisions[DECISION_FIRED], 1);
}

/* ---- looking for duplicates ---- */

static struct {
    void (*read)(struct store_port *port, struct store_read *r);
    char sizes[64]; /* how many identities each read asked for */
    bool hold;
    struct store_read *held;
} looks;

static void count_read(struct store_port *port, struct store_read *read)
{
    size_t n = strlen(looks.sizes);
    assert_int_equal(read->type, STORE_READ_DEDUP);
    snprintf(looks.sizes + n, sizeof(looks.sizes) - n, " %zu", read->n_lookups);
    if (looks.hold)
        looks.held = read;
    else
        looks.read(port, read);
}

static void begin_looks(struct rig *r)
{
    memset(&looks, 0, sizeof(looks));
    looks.read = r->store->read;
    r->store->read = count_read;
    engine_start(r->engine);
    put_trigger(r, "t", "brittle", "nowhere", "\"config\":{\"where\":\"a\"},\"queue_limit\":1000");
}

static void come(struct rig *r, int first, int last)
{
    cJSON *data = cJSON_CreateObject();
    for (int i = first; i <= last; i++) {
        char identity[16];
        snprintf(identity, sizeof(identity), "m-%d", i);
        source_occurred(r->source->host, &(struct occurrence){.event_type = "x", .data = data, .identity = identity},
                        (uint64_t)i);
    }
    cJSON_Delete(data);
}

static void test_identities_are_looked_up_together(void **state)
{
    struct rig *r = *state;
    begin_looks(r);
    come(r, 1, 600);
    assert_string_equal(looks.sizes, " 1"); /* the first does not wait for others */
    settle(r);
    assert_string_equal(looks.sizes, " 1 256 256 87");
    assert_int_equal(r->n_acked, 600);
    assert_false(r->out_of_order);
    assert_int_equal(view(r, "t").decisions[DECISION_DUPLICATE], 0);
    come(r, 1, 3);
    come(r, 601, 602);
    come(r, 601, 603); /* two wait until the first of their identity is recorded */
    settle(r);
    assert_int_equal(r->n_acked, 608);
    assert_int_equal(view(r, "t").decisions[DECISION_DUPLICATE], 5);
    r->store->read = looks.read;
}

static void test_who_has_no_identity_overtakes_nobody(void **state)
{
    struct rig *r = *state;
    begin_looks(r);
    cJSON *data = cJSON_CreateObject();
    for (uint64_t i = 1; i <= 600; i++) {
        char identity[16];
        snprintf(identity, sizeof(identity), "m-%d", (int)i);
        source_occurred(r->source->host,
                        &(struct occurrence){.event_type = "x", .data = data, .identity = i % 3 == 1 ? identity : NULL},
                        i);
    }
    cJSON_Delete(data);
    settle(r);
    assert_int_equal(r->n_acked, 600);
    assert_false(r->out_of_order);
    looks.sizes[0] = '\0';
    data = cJSON_CreateObject();
    source_occurred(r->source->host, &(struct occurrence){.event_type = "x", .data = data}, 601);
    cJSON_Delete(data);
    settle(r);
    assert_int_equal(r->n_acked, 601);
    assert_string_equal(looks.sizes, ""); /* nobody is before it: nothing is read */
    r->store->read = looks.read;
}

static void test_a_failed_look_fails_its_own_only(void **state)
{
    struct rig *r = *state;
    begin_looks(r);
    looks.hold = true;
    come(r, 1, 3);
    assert_string_equal(looks.sizes, " 1");
    struct store_read *first = looks.held;
    first->done(first, -EIO);
    assert_string_equal(looks.sizes, " 1 2");
    looks.hold = false;
    come(r, 4, 4);
    struct store_read *second = looks.held;
    second->done(second, -EIO);
    settle(r);
    assert_string_equal(looks.sizes, " 1 2 1");
    assert_int_equal(r->nacked, 3);
    assert_int_equal(r->n_acked, 1);
    come(r, 2, 3); /* nothing is left of them */
    settle(r);
    assert_int_equal(r->n_acked, 3);
    assert_int_equal(view(r, "t").decisions[DECISION_DUPLICATE], 0);
    r->store->read = looks.read;
}

struct keeper {
    const char *id;
    int calls;
};

static void keep_with_the_event(void *ctx, struct store_group *g)
{
    struct keeper *k = ctx;
    k->calls++;
    store_add_kv_put(g, "brittle", k->id, strlen(k->id), "kept", 4);
}

static void occur_keeping(struct rig *r, struct keeper *k, uint64_t token)
{
    cJSON *data = cJSON_CreateObject();
    struct occurrence o = {.event_type = "x", .data = data, .record = keep_with_the_event, .record_ctx = k};
    source_occurred(r->source->host, &o, token);
    cJSON_Delete(data);
    settle(r);
}

static void test_what_a_source_keeps_is_recorded_with_the_event(void **state)
{
    struct rig *r = *state;
    struct keeper k = {.id = "a"};
    engine_start(r->engine);
    put(r, "t", "\"config\":{\"where\":\"a\"}");
    occur_keeping(r, &k, 1);
    assert_int_equal(r->acked, 1);
    assert_int_equal(k.calls, 1);
    assert_true(kept(r, "a"));
    k = (struct keeper){.id = "b"}; /* held back: an event all the same */
    assert_int_equal(engine_pause(r->engine, "t", NULL, NULL), 0);
    occur_keeping(r, &k, 2);
    assert_int_equal(r->acked, 2);
    assert_true(kept(r, "b"));
    k = (struct keeper){.id = "c"}; /* not recorded */
    r->engine->options.firing = false;
    occur_keeping(r, &k, 3);
    assert_int_equal(r->nacked, 3);
    assert_int_equal(k.calls, 0);
    assert_false(kept(r, "c"));
}

static void test_the_last_fire_is_known_again(void **state)
{
    struct rig *r = *state;
    engine_start(r->engine);
    put(r, "t", "\"cooldown_seconds\":5,\"cooldown_policy\":\"skip\",\"config\":{\"where\":\"a\"}");
    advance(r, 1234);
    occur(r, NULL, "{\"n\":1}", 1);
    int64_t at = r->clock.realtime_ms;
    advance(r, 1000);
    end(r);
    begin(r);
    put(r, "t", "\"cooldown_seconds\":5,\"cooldown_policy\":\"skip\",\"config\":{\"where\":\"a\"}");
    engine_start(r->engine);
    assert_int_equal(view(r, "t").last_triggered_ms, at);
    assert_int_equal(view(r, "t").trigger_count, 1);
    advance(r, 3998);
    occur(r, NULL, "{\"n\":2}", 2);
    assert_int_equal(view(r, "t").decisions[DECISION_COOLDOWN], 1);
    advance(r, 2);
    occur(r, NULL, "{\"n\":3}", 3);
    assert_int_equal(view(r, "t").trigger_count, 2);
}

static void test_a_condition_of_one_trigger(void **state)
{
    struct rig *r = *state;
    put(r, "t", "\"config\":{\"where\":\"a\"}");
    put(r, "u", "\"config\":{\"where\":\"a\"}");
    engine_trigger_condition(r->engine, "t", "Odd", CONDITION_TRUE, "Odd", "it is odd");
    assert_non_null(condition_find(view(r, "t").conditions, "Odd"));
    assert_null(condition_find(view(r, "u").conditions, "Odd"));
    engine_trigger_condition(r->engine, "nobody", "Even", CONDITION_TRUE, "Even", NULL);
    assert_null(condition_find(view(r, "t").conditions, "Even"));
    engine_trigger_condition(r->engine, NULL, "Even", CONDITION_TRUE, "Even", NULL);
    assert_non_null(condition_find(view(r, "t").conditions, "Even"));
    assert_non_null(condition_find(view(r, "u").conditions, "Even"));
}

/* ---- how events end ---- */

static void occur_until_end(struct rig *r, const char *identity, const char *text, const char *failed, uint64_t token)
{
    cJSON *data = NULL;
    struct source *s = r->source;
    assert_int_equal(value_parse(text, strlen(text), &data, NULL), 0);
    struct occurrence o = {
        .event_type = "x", .data = data, .identity = identity, .failed = failed, .until_end = !failed};
    source_occurred(s->host, &o, token);
    cJSON_Delete(data);
    settle(r);
}

static void test_a_source_is_told_how_events_end(void **state)
{
    struct rig *r = *state;
    engine_start(r->engine);
    put_patient(r, "\"filter\":{\"n\":[1]}");
    occur_until_end(r, NULL, "{\"n\":1}", NULL, 1);
    occur_until_end(r, NULL, "{\"n\":1}", NULL, 2);
    occur_until_end(r, NULL, "{\"n\":1}", NULL, 3); /* waits for a slot */
    assert_int_equal(r->acked, 3);
    assert_string_equal(r->ends, "");
    occur_until_end(r, NULL, "{\"n\":2}", NULL, 4); /* filtered */
    assert_string_equal(r->ends, " 4:skipped");
    work_end(r, STEP_COMPLETED);
    work_end(r, STEP_FAILED);
    work_end(r, STEP_COMPLETED);
    assert_string_equal(r->ends, " 4:skipped 1:completed 2:failed 3:completed");
    put_trigger(r, "t", "patient", "nowhere", "\"config\":{}"); /* fails at once */
    occur_until_end(r, NULL, "{}", NULL, 5);
    assert_non_null(strstr(r->ends, " 5:failed"));
    assert_int_equal(r->n_calls, 0);
}

static void test_a_redelivery_of_a_failed_event_is_none(void **state)
{
    struct rig *r = *state;
    engine_start(r->engine);
    put_patient(r, "");
    occur_until_end(r, "m", "{}", NULL, 1);
    occur_until_end(r, "m", "{}", NULL, 2); /* takes over */
    assert_int_equal(r->acked, 2);
    assert_int_equal(r->n_calls, 1);
    assert_string_equal(r->ends, "");
    work_end(r, STEP_FAILED);
    assert_true(streq(r->ends, " 1:failed 2:failed") || streq(r->ends, " 2:failed 1:failed"));
    occur_until_end(r, "m", "{}", NULL, 3);
    assert_int_equal(r->n_calls, 1); /* it runs again */
    work_end(r, STEP_COMPLETED);
    occur_until_end(r, "m", "{}", NULL, 4);
    assert_int_equal(r->n_calls, 0);
    assert_string_equal(r->ends + strlen(" 1:failed 2:failed"), " 3:completed 4:completed");
    assert_int_equal(view(r, "t").decisions[DECISION_DUPLICATE], 2);
    /* Without the wish to know the end, what is recorded is recorded. */
    occur(r, "n", "{}", 5);
    work_end(r, STEP_FAILED);
    occur(r, "n", "{}", 6);
    assert_int_equal(r->acked, 6);
    assert_int_equal(r->n_calls, 0);
}

static void test_what_only_we_have_waits_while_paused(void **state)
{
    struct rig *r = *state;
    r->clock.realtime_ms = clock_realtime_ms(clock_system()); /* by which the store forgets identities */
    engine_start(r->engine);
    put_patient(r, "");
    assert_int_equal(engine_pause(r->engine, "t", NULL, NULL), 0);
    occur_until_end(r, "m", "{}", NULL, 1); /* pause_policy is `skip` */
    assert_int_equal(view(r, "t").pending, 1);
    end(r);
    begin(r); /* an event of an earlier life is taken over as well */
    *r->ends = '\0';
    put_patient(r, "");
    engine_start(r->engine);
    settle(r);
    occur_until_end(r, "m", "{}", NULL, 2);
    assert_int_equal(r->acked, 2);
    assert_int_equal(view(r, "t").pending, 1);
    assert_int_equal(engine_resume(r->engine, "t", false, NULL, NULL), 0);
    settle(r);
    work_end(r, STEP_COMPLETED);
    assert_string_equal(r->ends, " 2:completed");
}

static void test_poison_is_a_failed_event(void **state)
{
    struct rig *r = *state;
    engine_start(r->engine);
    put_patient(r, "\"filter\":{\"n\":[1]}");
    occur_until_end(r, NULL, "{}", "delivered 6 times", 1); /* whatever its filter says */
    assert_int_equal(r->acked, 1);
    assert_int_equal(r->n_calls, 0);
    assert_int_equal(view(r, "t").decisions[DECISION_ERROR], 1);
    assert_int_equal(view(r, "t").trigger_count, 0);
}

static void test_what_has_not_started_can_be_withdrawn(void **state)
{
    struct rig *r = *state;
    engine_start(r->engine);
    put_patient(r, "");
    for (uint64_t i = 1; i <= 3; i++)
        occur_until_end(r, NULL, "{}", NULL, i);
    assert_false(source_withdraw(r->source->host, 1)); /* it runs */
    assert_true(source_withdraw(r->source->host, 3));
    assert_false(source_withdraw(r->source->host, 3));
    settle(r);
    assert_int_equal(view(r, "t").pending, 0);
    assert_string_equal(r->ends, " 3:cancelled");
    work_end(r, STEP_COMPLETED);
    work_end(r, STEP_COMPLETED);
    assert_int_equal(r->n_calls, 0);
}

static void test_what_was_told_is_settled_after_the_stop(void **state)
{
    struct rig *r = *state;
    struct source *old;
    engine_start(r->engine);
    put_patient(r, "");
    old = r->source;
    r->waits = true;
    cJSON *data = cJSON_CreateObject();
    source_occurred(old->host, &(struct occurrence){.event_type = "x", .data = data, .until_end = true}, 7);
    source_occurred(old->host, &(struct occurrence){.event_type = "x", .data = data, .identity = "i"}, 8);
    cJSON_Delete(data);
    engine_remove_trigger(r->engine, "t"); /* before the second was looked for */
    settle(r);
    assert_int_equal(r->acked, 7);
    assert_int_equal(r->nacked, 8);
    assert_string_equal(r->ends, "");
    r->waits = false;
    gone(&old->timer, old);
    work_end(r, STEP_CANCELLED);
}

static void test_runs_settle_what_they_have_before_the_end(void **state)
{
    struct rig *r = *state;
    bool over = false;
    engine_start(r->engine);
    put_patient(r, "");
    occur_until_end(r, NULL, "{}", NULL, 1);
    engine_drain(r->engine, 60000, drained, &over);
    settle(r);
    assert_non_null(r->source); /* its message waits for the run */
    assert_false(over);
    work_end(r, STEP_COMPLETED);
    assert_string_equal(r->ends, " 1:completed");
    while (!over)
        settle(r);
    assert_null(r->source);
    store_close(r->store);
    engine_destroy(r->engine);
    timers_fini(&r->timers);
    begin(r);
}

static void test_how_it_goes_is_shown(void **state)
{
    struct rig *r = *state;
    engine_start(r->engine);
    put(r, "t", "\"config\":{\"where\":\"a\"}");
    const struct condition *c = condition_find(view(r, "t").conditions, "Connected");
    assert_null(c->message);
    source_progress(r->source->host, 1767225600123LL, 3, 1200);
    c = condition_find(view(r, "t").conditions, "Connected");
    assert_string_equal(c->message, "last event 2026-01-01T00:00:00.123Z; 3 in flight; lag 1200");
    assert_int_equal(view(r, "t").source_lag, 1200);
    source_report(r->source->host, SOURCE_FAILED, "Gone", "it is gone");
    source_progress(r->source->host, 1767225600123LL, 0, -1);
    c = condition_find(view(r, "t").conditions, "Connected");
    assert_string_equal(c->message, "it is gone");
    assert_int_equal(count(r->log, "works"), 1); /* how it goes is no change of state */
}

/* ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int setup(void **state)
{
    struct rig *r = xcalloc(1, sizeof(*r));
    snprintf(r->dir, sizeof(r->dir), "/tmp/triggerd-engine-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    clock_manual_init(&r->clock, 1767225600000LL, 1000);
    random_seeded_init(&r->random, 7);
    begin(r);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    struct rig *r = *state;
    end(r);
    nftw(r->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(r);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_source_that_cannot_be_made_is_made_again),
        TEST(test_resume_and_edits_try_at_once),
        TEST(test_only_the_first_source_is_new),
        TEST(test_what_is_kept_goes_with_the_trigger),
        TEST(test_a_redelivery_may_look_different),
        TEST(test_identities_are_looked_up_together),
        TEST(test_who_has_no_identity_overtakes_nobody),
        TEST(test_a_failed_look_fails_its_own_only),
        TEST(test_what_a_source_keeps_is_recorded_with_the_event),
        TEST(test_the_last_fire_is_known_again),
        TEST(test_a_condition_of_one_trigger),
        TEST(test_a_source_is_told_how_events_end),
        TEST(test_a_redelivery_of_a_failed_event_is_none),
        TEST(test_what_only_we_have_waits_while_paused),
        TEST(test_poison_is_a_failed_event),
        TEST(test_what_has_not_started_can_be_withdrawn),
        TEST(test_what_was_told_is_settled_after_the_stop),
        TEST(test_runs_settle_what_they_have_before_the_end),
        TEST(test_how_it_goes_is_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
