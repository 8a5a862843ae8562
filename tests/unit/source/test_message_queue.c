/* message_queue with a broker and an engine that do as they are told: what becomes of each message, and when its broker
 * hears of it. */
#include "base/loop.h"
#include "base/util.h"
#include "source/list.h"
#include "source/message_queue.h"
#include "source/queue_data.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <utlist.h>

#include <cmocka.h>

#include "engine/secret_read.h"

/* ---- a broker that does as it is told ---- */

struct broker {
    struct queue_consumer *host;
    struct queue_setup *setup;
    char owner[64];
    bool started, stopping, paused, held_up; /* held_up: stop() does not end before the test says so */
    unsigned resumed, updated;
    char log[2048]; /* ` tag:how` for each settlement */
    struct loop *loop;
    struct loop_task gone;
    void (*done)(void *ctx);
    void *done_ctx;
    struct broker *prev, *next;
};

static struct broker *brokers; /* alive, in order of creation */
static char last_log[2048];    /* of the one that went last */
static unsigned n_created;
static bool hold_stops;
static int64_t fake_lag = -1;

static int fake_create(struct queue_consumer *host, const struct queue_env *env, struct queue_setup *setup,
                       struct broker **ret, struct error *err)
{
    (void)err;
    struct broker *b = xcalloc(1, sizeof(*b));
    b->host = host;
    b->setup = queue_setup_ref(setup);
    b->loop = env->loop;
    snprintf(b->owner, sizeof(b->owner), "%s", queue_owner(host));
    DL_APPEND(brokers, b);
    n_created++;
    *ret = b;
    return 0;
}

static void fake_start(struct broker *b)
{
    b->started = true;
}

static void fake_gone(void *ctx)
{
    struct broker *b = ctx;
    void (*done)(void *) = b->done;
    void *done_ctx = b->done_ctx;
    DL_DELETE(brokers, b);
    snprintf(last_log, sizeof(last_log), "%s", b->log);
    queue_setup_unref(b->setup);
    free(b);
    done(done_ctx);
}

static void fake_stop(struct broker *b, void (*done)(void *ctx), void *ctx)
{
    assert_true(b->started && !b->stopping);
    b->stopping = true;
    b->done = done;
    b->done_ctx = ctx;
    loop_task_init(&b->gone, fake_gone, b);
    if (!hold_stops)
        loop_defer(b->loop, &b->gone);
}

static void fake_pause(struct broker *b)
{
    assert_true(b->started && !b->paused);
    b->paused = true;
}

static void fake_resume(struct broker *b)
{
    b->paused = false;
    b->resumed++;
}

static void fake_update(struct broker *b, struct queue_setup *setup)
{
    assert_true(b->started && !b->stopping);
    queue_setup_replace(&b->setup, setup);
    b->updated++;
}

static void fake_settle(struct broker *b, uint64_t tag, enum queue_settlement how)
{
    static const char *const words[] = {"done", "again", "dead", "back"};
    size_t n = strlen(b->log);
    assert_false(b->stopping);
    snprintf(b->log + n, sizeof(b->log) - n, " %d:%s", (int)tag, words[how]);
}

static int64_t get_lag(const struct broker *b)
{
    (void)b;
    return fake_lag;
}

static const struct broker_type fake = {
    .type = QUEUE_REDIS,
    .create = fake_create,
    .start = fake_start,
    .stop = fake_stop,
    .pause = fake_pause,
    .resume = fake_resume,
    .update = fake_update,
    .settle = fake_settle,
    .lag = get_lag,
};
static const struct broker_type *const types[QUEUE_TYPES] = {&fake, &fake, &fake, NULL};

/* ---- an engine that does as it is told ---- */

struct told {
    uint64_t token;
    char *text, *identity, *identities, *failed, *traceparent, *event_type;
    bool until_end;
};

/* Of a batch: who of it is known? */
struct ask {
    uint64_t token;
    size_t n;
    char *identities; /* `-` for one that has none */
};

struct source_host {
    char id[32];
    struct source *source;
    struct trigger trigger;
    struct told told[64]; /* not settled yet, or not ended, in order */
    size_t n_told, n_ever;
    struct ask asks[8]; /* not answered yet, in order */
    size_t n_asks;
    uint64_t watched[8];
    size_t n_watched;
    uint64_t duplicates;
    enum source_state state;
    char reason[64], message[256];
    unsigned reports;
    int64_t last_ms, in_flight, lag;
    uint64_t withdrawn[8];
    size_t n_withdrawn;
    bool gone;
};

static char *join(const char *const *list, size_t n)
{
    struct buf b = {0};
    for (size_t i = 0; i < n; i++)
        buf_printf(&b, "%s%s", i ? " " : "", list[i] ? list[i] : "-");
    return n ? buf_steal(&b) : NULL;
}

void source_occurred(struct source_host *host, const struct occurrence *given, uint64_t token)
{
    assert_true(host->n_told < ARRAY_SIZE(host->told));
    host->n_ever++;
    host->told[host->n_told++] = (struct told){.token = token,
                                               .text = value_print(given->data),
                                               .identity = xstrdup0(given->identity),
                                               .identities = join(given->identities, given->n_identities),
                                               .failed = xstrdup0(given->failed),
                                               .traceparent = xstrdup0(given->traceparent),
                                               .event_type = xstrdup(given->event_type),
                                               .until_end = given->until_end};
}

void source_look_up(struct source_host *host, const char *const *identities, size_t n, uint64_t token)
{
    assert_true(host->n_asks < ARRAY_SIZE(host->asks) && n <= SOURCE_LOOK_UP_MAX);
    host->asks[host->n_asks++] = (struct ask){token, n, join(identities, n)};
}

void source_watch(struct source_host *host, const struct source_known *known, uint64_t token)
{
    assert_true(known->state == KNOWN_OPEN && host->n_watched < ARRAY_SIZE(host->watched));
    host->watched[host->n_watched++] = token;
}

void source_duplicates(struct source_host *host, uint64_t n)
{
    host->duplicates += n;
}

void source_report(struct source_host *host, enum source_state state, const char *reason, const char *message)
{
    host->reports++;
    host->state = state;
    snprintf(host->reason, sizeof(host->reason), "%s", reason);
    snprintf(host->message, sizeof(host->message), "%s", message ? message : "");
}

void source_progress(struct source_host *host, int64_t last_ms, int64_t in_flight, int64_t lag)
{
    host->last_ms = last_ms;
    host->in_flight = in_flight;
    host->lag = lag;
}

bool source_withdraw(struct source_host *host, uint64_t token)
{
    host->withdrawn[host->n_withdrawn++] = token;
    return true;
}

const char *source_trigger_id(const struct source_host *host)
{
    return host->id;
}

char *source_manifest_dir(const struct source_host *host)
{
    (void)host;
    return xstrdup("/manifests");
}

void source_debounced(struct source_host *host, uint64_t n)
{
    (void)host, (void)n;
    fail();
}

bool source_is_new(const struct source_host *host)
{
    (void)host;
    return true;
}

static void told_free(struct told *t)
{
    free(t->text);
    free(t->identity);
    free(t->identities);
    free(t->failed);
    free(t->traceparent);
    free(t->event_type);
}

static void told_drop(struct source_host *h, size_t i)
{
    struct told gone = h->told[i];
    memmove(&h->told[i], &h->told[i + 1], (h->n_told - i - 1) * sizeof(h->told[0]));
    h->told[--h->n_told] = (struct told){0};
    told_free(&gone);
}

/* The i-th of those told is recorded. Of a manual one the end is still to come: it stays. */
static void ack(struct source_host *h, size_t i)
{
    assert_true(i < h->n_told);
    uint64_t token = h->told[i].token;
    if (!h->told[i].until_end)
        told_drop(h, i);
    source_message_queue.ack(h->source, token);
}

static void nack(struct source_host *h, size_t i)
{
    uint64_t token = h->told[i].token;
    told_drop(h, i);
    source_message_queue.nack(h->source, token, "the queue is full");
}

static void end(struct source_host *h, size_t i, enum event_status status)
{
    uint64_t token = h->told[i].token;
    told_drop(h, i);
    source_message_queue.ended(h->source, token, status);
}

/* The i-th look-up is answered, a letter for each: `-` not known, `c` completed, `f` failed, `o` open, `e` just ending.
 * NULL: it failed. */
static void answer(struct source_host *h, size_t i, const char *letters)
{
    struct source_known answers[8];
    assert_true(i < h->n_asks);
    struct ask a = h->asks[i];
    memmove(&h->asks[i], &h->asks[i + 1], (h->n_asks - i - 1) * sizeof(a));
    h->n_asks--;
    free(a.identities);
    for (size_t k = 0; letters && k < a.n; k++) {
        char c = letters[k];
        answers[k] = (struct source_known){.state = c == '-'   ? KNOWN_NOT
                                                    : c == 'o' ? KNOWN_OPEN
                                                    : c == 'e' ? KNOWN_ENDING
                                                               : KNOWN_ENDED,
                                           .status = c == 'f' ? EVENT_FAILED : EVENT_COMPLETED};
    }
    assert_true(!letters || strlen(letters) == a.n);
    source_message_queue.known(h->source, a.token, letters ? answers : NULL);
}

/* What was watched first has ended. */
static void watched_end(struct source_host *h, enum event_status status)
{
    assert_true(h->n_watched > 0);
    uint64_t token = h->watched[0];
    memmove(h->watched, h->watched + 1, --h->n_watched * sizeof(token));
    source_message_queue.ended(h->source, token, status);
}

/* ---- the rig ---- */

struct rig {
    struct loop loop;
    struct strings dirs_list;
    struct secret_dirs dirs;
    struct queue_hub *hub;
    struct source_env env;
    struct source_host hosts[4];
    size_t n_hosts;
};

static int setup(void **state)
{
    struct rig *r = xcalloc(1, sizeof(*r));
    assert_int_equal(loop_init(&r->loop), 0);
    r->dirs.list = &r->dirs_list;
    struct queue_env env = {.loop = &r->loop, .clock = clock_system(), .random = random_system()};
    r->hub = queue_hub_create(&env, &r->dirs, "node1", types);
    r->env = (struct source_env){.loop = &r->loop,
                                 .timers = &r->loop.timers,
                                 .clock = clock_system(),
                                 .random = random_system(),
                                 .queues = r->hub};
    n_created = 0;
    hold_stops = false;
    fake_lag = -1;
    *last_log = '\0';
    *state = r;
    return 0;
}

/* Let the loop go on until `cond`; a test that waits for nothing fails. */
#define UNTIL(cond)                                                                                                    \
    do {                                                                                                               \
        for (int rounds_ = 0; !(cond); rounds_++) {                                                                    \
            if (rounds_ > 60000)                                                                                       \
                fail_msg("waited in vain for " #cond);                                                                 \
            uv_run(&r->loop.uv, UV_RUN_NOWAIT);                                                                        \
            uv_sleep(rounds_ > 100);                                                                                   \
        }                                                                                                              \
    } while (0)

static void turn(struct rig *r)
{
    for (int i = 0; i < 20; i++)
        uv_run(&r->loop.uv, UV_RUN_NOWAIT);
}

static void configure(struct source_host *h, const char *more)
{
    _cleanup_(freep) char *json = xasprintf("{\"queue_type\":\"redis\",\"connection_url\":\"redis://h\","
                                            "\"queue_name\":\"q\"%s%s}",
                                            *more ? "," : "", more);
    cJSON *v = NULL;
    struct issues issues = ISSUES_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(value_parse(json, strlen(json), &v, &err), 0);
    h->trigger.config = xcalloc(1, queue_source_fields.size);
    if (!fields_parse(&queue_source_fields, v, NULL, h->trigger.config, "config", &issues))
        fail_msg("%s: %s", issues.items[0].path, issues.items[0].message);
    cJSON_Delete(v);
    issues_fini(&issues);
}

/* As the engine does with an edit that costs no restart: did the source take it over? */
static bool edit(struct source_host *h, const char *more)
{
    struct queue_config *old = h->trigger.config;
    configure(h, more);
    enum field_change cost = fields_compare(&queue_source_fields, old, h->trigger.config, NULL, NULL, 0, NULL);
    assert_int_equal(cost, CHANGE_NONE);
    fields_fini(&queue_source_fields, old);
    free(old);
    return source_message_queue.update(h->source, &h->trigger);
}

static struct source_host *start(struct rig *r, const char *id, const char *more)
{
    struct source_host *h = &r->hosts[r->n_hosts++];
    struct error err = ERROR_INIT;
    *h = (struct source_host){.lag = -1};
    snprintf(h->id, sizeof(h->id), "%s", id);
    configure(h, more);
    if (source_message_queue.create(h, &r->env, &h->trigger, &h->source, &err) < 0)
        fail_msg("%s", err.message);
    source_message_queue.start(h->source);
    return h;
}

static void on_gone(void *ctx)
{
    struct source_host *h = ctx;
    h->gone = true;
}

static void stop_begin(struct source_host *h)
{
    source_message_queue.stop(h->source, on_gone, h);
    assert_false(h->gone); /* never from inside */
}

static void stop(struct rig *r, struct source_host *h)
{
    stop_begin(h);
    UNTIL(h->gone);
}

static int teardown(void **state)
{
    struct rig *r = *state;
    for (size_t i = 0; i < r->n_hosts; i++) {
        struct source_host *h = &r->hosts[i];
        if (!h->gone) {
            stop_begin(h);
            while (h->n_asks > 0)
                answer(h, 0, NULL);
            UNTIL(h->gone);
        }
        while (h->n_told > 0)
            told_drop(h, 0);
        fields_fini(&queue_source_fields, h->trigger.config);
        free(h->trigger.config);
    }
    UNTIL(!brokers);
    turn(r);
    queue_hub_destroy(r->hub);
    assert_int_equal(loop_fini(&r->loop), 0);
    free(r);
    return 0;
}

static void deliver(struct broker *b, uint64_t tag, const char *body)
{
    queue_delivered(b->host, tag, &(struct queue_message){.body = body, .len = strlen(body)});
}

/* Each has its tag as identity: `i7`. Tags to their end, 0. */
static void deliver_named(struct broker *b, const uint64_t *tags)
{
    for (; *tags; tags++) {
        char body[24], identity[24];
        snprintf(body, sizeof(body), "%d", (int)*tags % 100);
        snprintf(identity, sizeof(identity), "i%d", (int)*tags % 100);
        queue_delivered(b->host, *tags,
                        &(struct queue_message){.body = body, .len = strlen(body), .identity = identity});
    }
}

#define NAMED(...) ((const uint64_t[]){__VA_ARGS__, 0})

static void assert_log(const struct broker *b, const char *expected)
{
    if (!streq(b->log, expected))
        fail_msg("settled: `%s`, expected `%s`", b->log, expected);
}

/* ---- messages as events ---- */

static const struct {
    struct queue_message m;
    const char *headers, *fields, *expected;
} shapes[] = {
    {{.body = "{\"a\": 1.50, \"b\":12345678901234567890}", .len = 37},
     NULL,
     NULL,
     "{\"body\":{\"a\":1.50,\"b\":12345678901234567890}}"},
    {{.body = "not json", .len = 8}, NULL, NULL, "{\"body\":\"not json\"}"},
    {{.body = "", .len = 0}, NULL, NULL, "{\"body\":\"\"}"},
    {{.body = "null", .len = 4}, NULL, NULL, "{\"body\":null}"},
    {{.body = "{\"a\":1,\"a\":2}", .len = 13}, NULL, NULL, "{\"body\":\"{\\\"a\\\":1,\\\"a\\\":2}\"}"},
    {{.body = "a\0b", .len = 3}, NULL, NULL, "{\"body_base64\":\"YQBi\"}"},
    {{.body = "\xff\xfe", .len = 2}, NULL, NULL, "{\"body_base64\":\"//4=\"}"},
    {{.body = "1",
      .len = 1,
      .queue = "t",
      .key = "k\xff",
      .key_len = 2,
      .has_partition = true,
      .partition = 0,
      .offset = 7000000000,
      .message_id = "m1",
      .timestamp_ms = 1767335400000},
     "{\"h\":\"v\\u00e9\"}",
     NULL,
     "{\"body\":1,\"queue\":\"t\",\"headers\":{\"h\":\"vé\"},\"key_base64\":\"a/8=\",\"partition\":0,\"offset\":"
     "7000000000,\"message_id\":\"m1\",\"timestamp\":\"2026-01-02T06:30:00.000Z\"}"},
    {{.queue = "s", .message_id = "5-0"},
     NULL,
     "{\"x\":\"1\",\"y\":\"2\"}",
     "{\"body\":{\"x\":\"1\",\"y\":\"2\"},\"queue\":\"s\",\"message_id\":\"5-0\"}"},
};

static cJSON *json(const char *text)
{
    cJSON *v = NULL;
    if (text)
        assert_int_equal(value_parse(text, strlen(text), &v, NULL), 0);
    return v;
}

static void messages_become_data(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
        struct queue_message m = shapes[i].m;
        bool too_large = true;
        m.headers = json(shapes[i].headers);
        m.fields = json(shapes[i].fields);
        cJSON *data = queue_message_data(&m, &too_large);
        _cleanup_(freep) char *text = value_print(data);
        assert_string_equal(text, shapes[i].expected);
        assert_false(too_large);
        cJSON_Delete(data);
    }
}

/* A body that is as deep as JSON may be would make an event that cannot be read. */
static void deep_bodies_are_text(void **state)
{
    (void)state;
    for (int depth = VALUE_DEPTH_MAX - 6; depth <= VALUE_DEPTH_MAX; depth++) {
        struct buf b = {0};
        for (int i = 0; i < depth; i++)
            buf_addc(&b, '[');
        buf_addc(&b, '1');
        for (int i = 0; i < depth; i++)
            buf_addc(&b, ']');
        bool too_large;
        cJSON *data = queue_message_data(&(struct queue_message){.body = b.data, .len = b.len}, &too_large);
        cJSON *batch = queue_batch_data((const cJSON *const[]){data}, 1), *again = NULL;
        _cleanup_(freep) char *text = value_print(batch);
        assert_int_equal(value_parse(text, strlen(text), &again, NULL), 0);
        assert_true(cJSON_IsString(value_get(data, "body")) == (depth > VALUE_DEPTH_MAX - 4));
        cJSON_Delete(again);
        cJSON_Delete(batch);
        cJSON_Delete(data);
        buf_fini(&b);
    }
}

static void headers_are_made_text(void **state)
{
    (void)state;
    bool too_large;
    cJSON *headers = cJSON_CreateObject();
    cJSON_AddStringToObject(headers, "a\xff", "b\xfe");
    struct queue_message m = {.body = "1", .len = 1, .headers = headers};
    cJSON *data = queue_message_data(&m, &too_large);
    _cleanup_(freep) char *text = value_print(data);
    assert_string_equal(text, "{\"body\":1,\"headers\":{\"a\\\\xff\":\"b\\\\xfe\"}}");
    cJSON_Delete(data);
}

/* ---- auto ---- */

static void acknowledged_once_recorded(void **state)
{
    struct rig *r = *state;
    struct source_host *h = start(r, "t", "");
    assert_int_equal(h->state, SOURCE_WAITING);
    UNTIL(brokers);
    struct broker *b = brokers;
    assert_true(b->started);
    assert_string_equal(b->owner, "t");
    queue_state(b->host, SOURCE_CONNECTED, "Connected", NULL);
    assert_int_equal(h->state, SOURCE_CONNECTED);
    unsigned reports = h->reports;
    queue_state(b->host, SOURCE_CONNECTED, "Connected", NULL);
    assert_int_equal(h->reports, reports); /* nothing new */
    cJSON *headers = json("{\"traceparent\":\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\"}");
    queue_delivered(b->host, 7, &(struct queue_message){.body = "1", .len = 1, .identity = "id7", .headers = headers});
    assert_int_equal(h->n_told, 1);
    assert_string_equal(h->told[0].event_type, "message_redis");
    assert_string_equal(h->told[0].identity, "id7");
    assert_string_equal(h->told[0].traceparent, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    assert_false(h->told[0].until_end);
    turn(r);
    assert_log(b, "");
    ack(h, 0);
    assert_log(b, " 7:done");
    fake_lag = 12;
    UNTIL(h->lag == 12);
    assert_true(h->last_ms > 0 && h->in_flight == 0);
}

static void what_cannot_be_recorded_is_tried_again_in_order(void **state)
{
    struct rig *r = *state;
    struct source_host *h = start(r, "t", "");
    UNTIL(brokers);
    struct broker *b = brokers;
    deliver(b, 1, "1");
    nack(h, 0);
    deliver(b, 2, "2");
    assert_int_equal(h->n_told, 0); /* it waits behind the first */
    source_message_queue.pause(h->source);
    assert_true(b->paused);
    deliver(b, 3, "3"); /* was under way */
    source_message_queue.resume(h->source);
    assert_false(b->paused);
    assert_int_equal(h->n_told, 3);
    assert_string_equal(h->told[0].text, "{\"body\":1}");
    assert_string_equal(h->told[2].text, "{\"body\":3}");
    nack(h, 0);
    ack(h, 0);
    UNTIL(h->n_told == 2); /* by itself, after a while */
    assert_string_equal(h->told[1].text, "{\"body\":1}");
    ack(h, 0);
    ack(h, 0);
    assert_log(b, " 2:done 3:done 1:done");
}

static void poison_ends(void **state)
{
    struct rig *r = *state;
    struct source_host *h = start(r, "t", "\"max_deliveries\":3");
    UNTIL(brokers);
    struct broker *b = brokers;
    queue_delivered(b->host, 1, &(struct queue_message){.body = "x", .len = 1, .deliveries = 3});
    assert_null(h->told[0].failed);
    queue_delivered(b->host, 2, &(struct queue_message){.body = "x", .len = 1, .deliveries = 4});
    assert_string_equal(h->told[1].failed, "delivered 4 times (max_deliveries: 3)");
    assert_string_equal(h->told[1].text, "{\"body\":\"x\"}");
    char *large = xmalloc(QUEUE_BODY_MAX + 1);
    memset(large, 'a', QUEUE_BODY_MAX + 1);
    memcpy(large + QUEUE_BODY_KEPT - 1, "é", 2); /* at the cut */
    queue_delivered(b->host, 3, &(struct queue_message){.body = large, .len = QUEUE_BODY_MAX});
    assert_null(h->told[2].failed);
    queue_delivered(b->host, 4, &(struct queue_message){.body = large, .len = QUEUE_BODY_MAX + 1});
    free(large);
    assert_non_null(strstr(h->told[3].failed, "1048577 bytes"));
    cJSON *data = json(h->told[3].text);
    assert_int_equal(strlen(value_get_string(data, "body")), QUEUE_BODY_KEPT - 1);
    int64_t n = 0;
    assert_true(value_integer(value_get(data, "body_bytes"), &n) && n == (int64_t)QUEUE_BODY_MAX + 1);
    cJSON_Delete(data);
    for (int i = 0; i < 4; i++)
        ack(h, 0);
    assert_log(b, " 1:done 2:done 3:done 4:dead"); /* the event does not hold all of the last */
}

/* ---- manual ---- */

static void acknowledged_once_its_run_has_completed(void **state)
{
    struct rig *r = *state;
    struct source_host *h = start(r, "t", "\"ack_mode\":\"manual\",\"max_deliveries\":2");
    UNTIL(brokers);
    struct broker *b = brokers;
    for (uint64_t i = 1; i <= 3; i++) {
        _cleanup_(freep) char *body = xasprintf("%d", (int)i);
        deliver(b, i, body);
    }
    assert_true(h->told[0].until_end);
    for (size_t i = 0; i < 3; i++)
        ack(h, i);
    assert_log(b, "");
    end(h, 1, EVENT_COMPLETED);
    end(h, 1, EVENT_SKIPPED);
    end(h, 0, EVENT_FAILED);
    assert_log(b, " 2:done 3:done 1:again");
    deliver(b, 4, "1"); /* again; the server does not count, so we do */
    ack(h, 0);
    end(h, 0, EVENT_FAILED);
    assert_log(b, " 2:done 3:done 1:again 4:dead");
    deliver(b, 5, "1"); /* another message that says the same: it is counted anew */
    ack(h, 0);
    end(h, 0, EVENT_FAILED);
    queue_delivered(b->host, 6,
                    &(struct queue_message){.body = "9", .len = 1, .deliveries = 2}); /* the server counts */
    ack(h, 0);
    end(h, 0, EVENT_FAILED);
    assert_log(b, " 2:done 3:done 1:again 4:dead 5:again 6:dead");
}

/* Messages that look alike are counted each for itself. */
static void twins_are_counted_apart(void **state)
{
    struct rig *r = *state;
    struct source_host *h = start(r, "t", "\"ack_mode\":\"manual\",\"max_deliveries\":3");
    UNTIL(brokers);
    struct broker *b = brokers;
    deliver(b, 1, "twin");
    deliver(b, 2, "twin");
    for (size_t i = 0; i < 2; i++)
        ack(h, i);
    for (size_t i = 2; i-- > 0;)
        end(h, i, EVENT_FAILED);
    for (uint64_t tag = 3; tag <= 6; tag++) {
        deliver(b, tag, "twin");
        ack(h, 0);
        end(h, 0, EVENT_FAILED);
    }
    assert_log(b, " 2:again 1:again 3:again 4:again 5:dead 6:dead"); /* three times each */
}

static void on_failure_chooses(void **state)
{
    struct rig *r = *state;
    static const char *const policies[] = {"dead_letter", "drop"};
    static const char *const logs[] = {" 1:dead 2:dead", " 1:done 2:done"};
    for (size_t i = 0; i < 2; i++) {
        _cleanup_(freep) char *more = xasprintf("\"ack_mode\":\"manual\",\"on_failure\":\"%s\"", policies[i]);
        struct source_host *h = start(r, i ? "b" : "a", more);
        UNTIL(brokers && streq(brokers->prev->owner, h->id));
        struct broker *b = brokers->prev;
        deliver(b, 1, "1");
        ack(h, 0);
        end(h, 0, EVENT_FAILED);
        queue_delivered(b->host, 2, &(struct queue_message){.body = "x", .len = 1, .deliveries = 99});
        assert_non_null(h->told[0].failed);
        ack(h, 0);
        assert_log(b, logs[i]);
    }
}

/* ---- batches ---- */

static void batches_close_when_full_or_in_time(void **state)
{
    struct rig *r = *state;
    struct source_host *h = start(r, "t", "\"batch_size\":3,\"batch_timeout_seconds\":0.02");
    UNTIL(brokers);
    struct broker *b = brokers;
    deliver(b, 1, "1");
    deliver(b, 2, "\"two\"");
    assert_int_equal(h->n_told, 0);
    queue_delivered(b->host, 3, &(struct queue_message){.body = "\xff", .len = 1, .queue = "q"});
    assert_int_equal(h->n_told, 1);
    assert_string_equal(h->told[0].text, "{\"body\":[1,\"two\",null],\"messages\":[{\"body\":1},{\"body\":\"two\"},{"
                                         "\"body_base64\":\"/w==\",\"queue\":\"q\"}]}");
    deliver(b, 4, "4");
    UNTIL(h->n_told == 2);
    assert_string_equal(h->told[1].text, "{\"body\":[4],\"messages\":[{\"body\":4}]}");
    ack(h, 0);
    ack(h, 0);
    assert_log(b, " 1:done 2:done 3:done 4:done");
    /* One that cannot be an event stands alone, in its place. */
    deliver(b, 5, "5");
    queue_delivered(b->host, 6, &(struct queue_message){.body = "6", .len = 1, .deliveries = 9});
    assert_int_equal(h->n_told, 2);
    assert_string_equal(h->told[0].text, "{\"body\":[5],\"messages\":[{\"body\":5}]}");
    assert_string_equal(h->told[1].text, "{\"body\":6}");
    ack(h, 0);
    ack(h, 0);
}

static void batches_have_a_bound_in_bytes(void **state)
{
    struct rig *r = *state;
    struct source_host *h = start(r, "t", "\"batch_size\":1000,\"batch_timeout_seconds\":3600,\"prefetch\":1000");
    UNTIL(brokers);
    char *body = xcalloc(1, QUEUE_BODY_MAX + 1);
    memset(body, 'x', QUEUE_BODY_MAX);
    for (uint64_t i = 1; i <= 5; i++)
        deliver(brokers, i, body);
    free(body);
    assert_int_equal(h->n_told, 1);
    ack(h, 0);
    assert_log(brokers, " 1:done 2:done 3:done 4:done");
}

/* ---- what came again in a batch ---- */

#define BATCHES_OF_3 "\"batch_size\":3,\"batch_timeout_seconds\":3600"
#define MANUAL_BATCHES BATCHES_OF_3 ",\"ack_mode\":\"manual\""

static void known_messages_are_taken_out(void **state)
{
    struct rig *r = *state;
    struct source_host *h = start(r, "t", BATCHES_OF_3);
    UNTIL(brokers);
    struct broker *b = brokers;
    deliver_named(b, NAMED(1, 2, 3));
    assert_int_equal(h->n_asks, 1);
    assert_string_equal(h->asks[0].identities, "i1 i2 i3");
    assert_int_equal(h->n_told, 0);
    answer(h, 0, "---");
    assert_string_equal(h->told[0].identities, "i1 i2 i3");
    assert_null(h->told[0].identity);
    assert_int_equal(h->duplicates, 0);
    ack(h, 0); /* and the broker never hears of it */
    assert_log(b, " 1:done 2:done 3:done");
    deliver_named(b, NAMED(102, 9, 103));
    answer(h, 0, "c-f"); /* recorded is recorded, however its run ended */
    assert_log(b, " 1:done 2:done 3:done 102:done 103:done");
    assert_string_equal(h->told[0].identities, "i9");
    assert_string_equal(h->told[0].text, "{\"body\":[9],\"messages\":[{\"body\":9}]}");
    assert_int_equal(h->duplicates, 2);
    ack(h, 0);
    deliver_named(b, NAMED(201, 203, 209));
    answer(h, 0, "oec"); /* auto: nobody waits for an end */
    assert_int_equal(h->n_told, 0);
    assert_int_equal(h->n_watched, 0);
    assert_int_equal(h->duplicates, 5);
    assert_log(b, " 1:done 2:done 3:done 102:done 103:done 9:done 201:done 203:done 209:done");
}

static void batches_are_told_in_the_order_they_came(void **state)
{
    struct rig *r = *state;
    struct source_host *h = start(r, "t", BATCHES_OF_3);
    UNTIL(brokers);
    deliver_named(brokers, NAMED(1, 2, 3, 4, 5, 6));
    for (uint64_t i = 7; i <= 9; i++)
        deliver(brokers, i, "7"); /* without identities: nothing to ask */
    assert_int_equal(h->n_asks, 2);
    answer(h, 1, "--c");
    assert_int_equal(h->n_told, 0);
    answer(h, 0, NULL); /* it cannot be said now */
    assert_int_equal(h->n_told, 0);
    UNTIL(h->n_asks == 1);
    assert_string_equal(h->asks[0].identities, "i1 i2 i3");
    answer(h, 0, "-c-");
    assert_int_equal(h->n_told, 3);
    assert_string_equal(h->told[0].identities, "i1 i3");
    assert_string_equal(h->told[1].identities, "i4 i5");
    assert_null(h->told[2].identities);
    for (size_t i = 0; i < 3; i++)
        ack(h, 0);
    assert_log(brokers, " 6:done 2:done 1:done 3:done 4:done 5:done 7:done 8:done 9:done");
}

/* What is on its way to be recorded is not told a second time. */
static void unrecorded_identities_are_waited_for(void **state)
{
    struct rig *r = *state;
    struct source_host *h = start(r, "t", BATCHES_OF_3);
    UNTIL(brokers);
    struct broker *b = brokers;
    deliver_named(b, NAMED(1, 2, 3, 103, 4, 5, 6, 7, 8));
    assert_int_equal(h->n_asks, 1);
    answer(h, 0, "---");
    assert_int_equal(h->n_asks, 0);
    nack(h, 0);
    UNTIL(h->n_told == 1); /* without another look */
    assert_int_equal(h->n_asks, 0);
    ack(h, 0);
    assert_int_equal(h->n_asks, 2);
    assert_string_equal(h->asks[0].identities, "i3 i4 i5");
    answer(h, 0, "c--");
    assert_string_equal(h->told[0].identities, "i4 i5");
    answer(h, 0, "---");
    assert_string_equal(h->told[1].identities, "i6 i7 i8");
    /* A poisoned one stands alone, and waits as well. */
    queue_delivered(b->host, 204, &(struct queue_message){.body = "4", .len = 1, .identity = "i4", .deliveries = 9});
    assert_int_equal(h->n_told, 2);
    ack(h, 0);
    assert_int_equal(h->n_told, 2);
    assert_string_equal(h->told[1].identity, "i4");
    assert_non_null(h->told[1].failed);
    ack(h, 0);
    ack(h, 0);
    assert_log(b, " 1:done 2:done 3:done 103:done 4:done 5:done 6:done 7:done 8:done 204:done");
}

static void twins_in_a_batch_are_one(void **state)
{
    struct rig *r = *state;
    struct source_host *h = start(r, "t", MANUAL_BATCHES);
    UNTIL(brokers);
    struct broker *b = brokers;
    deliver_named(b, NAMED(1, 101, 2));
    assert_string_equal(h->asks[0].identities, "i1 i2 i1");
    answer(h, 0, "---");
    assert_string_equal(h->told[0].identities, "i1 i2");
    assert_string_equal(h->told[0].text, "{\"body\":[1,2],\"messages\":[{\"body\":1},{\"body\":2}]}");
    assert_int_equal(h->duplicates, 1);
    ack(h, 0);
    assert_log(b, "");
    end(h, 0, EVENT_COMPLETED);
    assert_log(b, " 1:done 2:done 101:done");
}

static void known_messages_wait_for_the_end_of_their_event(void **state)
{
    struct rig *r = *state;
    struct source_host *h = start(r, "t", MANUAL_BATCHES);
    UNTIL(brokers);
    struct broker *b = brokers;
    deliver_named(b, NAMED(1, 2, 3));
    answer(h, 0, "ofc");
    assert_log(b, " 3:done");
    assert_string_equal(h->told[0].identities, "i2"); /* a failed event does not make it a duplicate */
    assert_int_equal(h->duplicates, 2);
    deliver_named(b, NAMED(4)); /* is filling meanwhile */
    watched_end(h, EVENT_COMPLETED);
    assert_log(b, " 3:done 1:done");
    ack(h, 0);
    end(h, 0, EVENT_COMPLETED);
    deliver_named(b, NAMED(5, 6));
    answer(h, 0, "oe-");
    assert_int_equal(h->n_watched, 0); /* nothing is done by half */
    UNTIL(h->n_asks == 1);
    answer(h, 0, "of-");
    assert_string_equal(h->told[0].identities, "i5 i6");
    watched_end(h, EVENT_FAILED); /* on_failure: requeue */
    assert_log(b, " 3:done 1:done 2:done 4:again");
    ack(h, 0);
}

static void of_two_that_share_one_has_it(void **state)
{
    struct rig *r = *state;
    struct source_host *a = start(r, "a", BATCHES_OF_3), *b = start(r, "b", BATCHES_OF_3);
    UNTIL(brokers);
    turn(r);
    assert_int_equal(n_created, 1);
    deliver_named(brokers, NAMED(1, 2, 3));
    answer(a, 0, "cc-");
    assert_string_equal(a->told[0].identities, "i3");
    answer(b, 0, "---");
    assert_string_equal(b->told[0].text, "{\"body\":[1,2,3],\"messages\":[{\"body\":1},{\"body\":2},{\"body\":3}]}");
    ack(a, 0);
    assert_log(brokers, "");
    ack(b, 0);
    assert_log(brokers, " 1:done 2:done 3:done");
}

static void a_look_up_is_waited_for(void **state)
{
    struct rig *r = *state;
    struct source_host *h = start(r, "t", MANUAL_BATCHES);
    UNTIL(brokers);
    deliver_named(brokers, NAMED(1, 2, 3));
    answer(h, 0, "o--");
    ack(h, 0); /* i2 and i3, which have not started; of a batch with an identity nothing is withdrawn */
    deliver_named(brokers, NAMED(4, 5, 6));
    stop_begin(h);
    turn(r);
    assert_false(h->gone);
    assert_true(!brokers->stopping);
    answer(h, 0, "co-");
    UNTIL(h->gone);
    assert_string_equal(last_log, ""); /* all is the server's again */
    assert_int_equal(h->n_told, 1);
    assert_int_equal(h->n_watched, 1);
    assert_int_equal(h->n_withdrawn, 0);
}

/* ---- sharing ---- */

static void triggers_share_what_is_equal(void **state)
{
    struct rig *r = *state;
    struct source_host *a = start(r, "a", ""), *b = start(r, "b", ""), *c = start(r, "c", "\"prefetch\":5");
    UNTIL(n_created == 2);
    turn(r);
    assert_int_equal(n_created, 2);
    struct broker *shared = brokers;
    assert_string_equal(shared->owner, "a");
    assert_string_equal(brokers->next->owner, "c");
    queue_state(shared->host, SOURCE_FAILED, "ConnectionRefused", "no");
    assert_string_equal(a->reason, "ConnectionRefused");
    assert_string_equal(b->reason, "ConnectionRefused");
    assert_int_equal(c->state, SOURCE_WAITING);
    deliver(shared, 1, "1");
    ack(a, 0);
    assert_log(shared, "");
    ack(b, 0);
    assert_log(shared, " 1:done");
    /* It takes messages until all of them are paused. */
    source_message_queue.pause(a->source);
    assert_false(shared->paused);
    deliver(shared, 2, "2");
    assert_int_equal(a->n_told, 1); /* its share, which the engine keeps as pending */
    source_message_queue.pause(b->source);
    assert_true(shared->paused);
    source_message_queue.resume(a->source);
    assert_false(shared->paused);
    ack(a, 0);
    ack(b, 0);
    assert_log(shared, " 1:done 2:done");
    /* Who comes later sees what comes later. */
    struct source_host *d = start(r, "aa", "");
    queue_state(shared->host, SOURCE_CONNECTED, "Connected", NULL);
    assert_int_equal(d->state, SOURCE_CONNECTED);
    deliver(shared, 3, "3");
    assert_int_equal(d->n_told, 1);
    /* Who leaves gives back what it had not recorded; the others keep the consumer. */
    nack(a, 0);
    ack(b, 0);
    ack(d, 0);
    stop(r, a);
    assert_log(shared, " 1:done 2:done 3:back");
    assert_ptr_equal(brokers, shared);
    deliver(shared, 4, "4");
    ack(b, 0);
    ack(d, 0);
    assert_log(shared, " 1:done 2:done 3:back 4:done");
}

static void the_heaviest_settlement_wins(void **state)
{
    struct rig *r = *state;
    static const char manual[] = "\"ack_mode\":\"manual\"";
    struct source_host *a = start(r, "a", manual), *b = start(r, "b", manual);
    UNTIL(brokers);
    turn(r);
    deliver(brokers, 1, "1");
    ack(a, 0);
    ack(b, 0);
    end(a, 0, EVENT_FAILED);
    assert_log(brokers, "");
    end(b, 0, EVENT_COMPLETED);
    assert_log(brokers, " 1:again");
}

static void names_are_not_shared(void **state)
{
    struct rig *r = *state;
    struct source_host *a = start(r, "a", "");
    start(r, "b", "");
    UNTIL(brokers);
    turn(r);
    hold_stops = true;
    stop_begin(a); /* the consumer goes on for b, under a's name */
    UNTIL(a->gone);
    start(r, "a", "\"prefetch\":7");
    UNTIL(n_created == 2);
    assert_string_equal(brokers->owner, "a");
    assert_string_equal(brokers->next->owner, "a:2");
    assert_true(queue_owner_in_use(brokers->host, "a:2"));
    assert_false(queue_owner_in_use(brokers->host, "b"));
    hold_stops = false;
}

static void the_next_waits_for_the_end_of_the_last(void **state)
{
    struct rig *r = *state;
    struct source_host *a = start(r, "a", "");
    UNTIL(brokers);
    struct broker *old = brokers;
    hold_stops = true;
    stop_begin(a);
    UNTIL(old->stopping);
    start(r, "a", "\"prefetch\":7");
    turn(r);
    assert_int_equal(n_created, 1); /* the name is still in use */
    start(r, "b", "");              /* the same consumer, which is going */
    turn(r);
    assert_int_equal(n_created, 1);
    hold_stops = false;
    loop_defer(&r->loop, &old->gone);
    UNTIL(n_created == 3 && a->gone);
}

/* ---- the end ---- */

static void what_is_being_recorded_is_waited_for(void **state)
{
    struct rig *r = *state;
    struct source_host *h = start(r, "t", "");
    UNTIL(brokers);
    deliver(brokers, 1, "1");
    deliver(brokers, 2, "2");
    stop_begin(h);
    turn(r);
    assert_false(h->gone);
    assert_true(brokers->paused && !brokers->stopping);
    nack(h, 1);
    ack(h, 0);
    UNTIL(h->gone);
    assert_string_equal(last_log, " 1:done"); /* the other is the server's again */
    assert_int_equal(h->n_withdrawn, 0);
}

static void what_has_not_started_is_withdrawn(void **state)
{
    struct rig *r = *state;
    struct source_host *h = start(r, "t", "\"ack_mode\":\"manual\"");
    UNTIL(brokers);
    struct broker *first = brokers;
    deliver(first, 1, "1");
    queue_delivered(first->host, 2, &(struct queue_message){.body = "2", .len = 1, .identity = "i"});
    ack(h, 0);
    ack(h, 1);
    uint64_t token = h->told[0].token;
    stop_begin(h);
    start(r, "u", "\"ack_mode\":\"manual\""); /* the same consumer; but what is left open must go back */
    UNTIL(h->gone && n_created == 2);
    assert_string_equal(last_log, "");
    /* Who is delivered the first again cannot tell; of the second the identity tells. */
    assert_int_equal(h->n_withdrawn, 1);
    assert_int_equal(h->withdrawn[0], token);
}

/* ---- what cannot connect ---- */

/* ---- edits of how messages are read ---- */

static void an_edit_keeps_the_broker_and_what_is_in_flight(void **state)
{
    struct rig *r = *state;
    struct source_host *h = start(r, "t", "");
    UNTIL(brokers);
    struct broker *b = brokers;
    deliver(b, 1, "1");
    deliver(b, 2, "2");
    assert_true(edit(h, "\"prefetch\":7,\"ack_mode\":\"manual\",\"dead_letter_queue\":\"graves\""));
    assert_int_equal(b->setup->config.prefetch, 7);
    assert_string_equal(b->setup->dead_letter, "graves");
    ack(h, 0); /* it was told as auto */
    assert_log(b, " 1:done");
    deliver(b, 3, "3");
    assert_true(h->told[1].until_end);
    assert_true(edit(h, "\"max_deliveries\":1"));
    ack(h, 0);
    ack(h, 0);
    assert_log(b, " 1:done 2:done"); /* the third was told as manual, and ends as that */
    end(h, 0, EVENT_FAILED);
    assert_log(b, " 1:done 2:done 3:dead"); /* by the bound that is in force by then */
    assert_true(edit(h, "\"max_deliveries\":1"));
    turn(r);
    assert_int_equal(b->updated, 2); /* the last was none */
    assert_int_equal(n_created, 1);
    assert_ptr_equal(brokers, b);
    assert_int_equal(h->reports, 1); /* that it connects, at the start */
}

static void an_edit_while_it_opens_or_waits_counts(void **state)
{
    struct rig *r = *state;
    struct source_host *h = start(r, "t", "");
    assert_true(edit(h, "\"prefetch\":7"));
    UNTIL(brokers);
    assert_int_equal(brokers->setup->config.prefetch, 7);
    turn(r);
    assert_int_equal(n_created, 1);
}

static void a_batch_that_is_being_filled_goes_by_the_new_size(void **state)
{
    struct rig *r = *state;
    struct source_host *h = start(r, "t", "\"batch_size\":3,\"batch_timeout_seconds\":3600");
    UNTIL(brokers);
    deliver(brokers, 1, "1");
    assert_true(edit(h, "\"batch_size\":4,\"batch_timeout_seconds\":3600"));
    for (uint64_t i = 2; i <= 4; i++) {
        assert_int_equal(h->n_told, 0);
        deliver(brokers, i, "2");
    }
    assert_int_equal(h->n_told, 1);
    deliver(brokers, 5, "5");
    deliver(brokers, 6, "6");
    assert_int_equal(h->n_told, 1);
    assert_true(edit(h, "\"batch_size\":2,\"batch_timeout_seconds\":3600"));
    assert_int_equal(h->n_told, 2);
    assert_string_equal(h->told[1].text, "{\"body\":[5,6],\"messages\":[{\"body\":5},{\"body\":6}]}");
    deliver(brokers, 7, "7");
    assert_true(edit(h, "\"batch_size\":2,\"batch_timeout_seconds\":0.01"));
    UNTIL(h->n_told == 3);
    assert_true(edit(h, ""));
    deliver(brokers, 8, "8");
    assert_string_equal(h->told[3].text, "{\"body\":8}");
    while (h->n_told > 0)
        ack(h, 0);
    assert_log(brokers, " 1:done 2:done 3:done 4:done 5:done 6:done 7:done 8:done");
    assert_int_equal(n_created, 1);
}

static void identities_are_one_over_a_change_of_the_size(void **state)
{
    struct rig *r = *state;
    struct source_host *h = start(r, "t", "");
    UNTIL(brokers);
    deliver_named(brokers, NAMED(1));
    assert_true(edit(h, "\"batch_size\":2"));
    deliver_named(brokers, NAMED(101, 2)); /* the first again */
    assert_int_equal(h->n_asks, 0);        /* it is just being recorded */
    ack(h, 0);
    assert_int_equal(h->n_asks, 1);
    assert_string_equal(h->asks[0].identities, "i1 i2");
    assert_true(edit(h, ""));
    deliver_named(brokers, NAMED(102));
    assert_int_equal(h->n_told, 0); /* the batch has it */
    answer(h, 0, "c-");
    assert_int_equal(h->n_told, 1);
    ack(h, 0);
    assert_string_equal(h->told[0].identity, "i2"); /* the engine sees that it is known */
    ack(h, 0);
    assert_log(brokers, " 1:done 101:done 2:done 102:done");
}

static void an_edit_that_ends_or_begins_sharing_is_not_taken_over(void **state)
{
    struct rig *r = *state;
    struct source_host *a = start(r, "a", ""), *b = start(r, "b", ""), *c = start(r, "c", "\"prefetch\":5");
    UNTIL(n_created == 2);
    assert_false(edit(a, "\"prefetch\":9")); /* b reads as before */
    assert_false(edit(c, ""));               /* a and b read so already */
    assert_int_equal(brokers->updated + brokers->next->updated, 0);
    stop(r, a);
    assert_true(edit(b, "\"prefetch\":9"));
    assert_int_equal(brokers->setup->config.prefetch, 9);
    /* Who comes and reads as it does now shares it. */
    start(r, "d", "\"prefetch\":9");
    turn(r);
    assert_int_equal(n_created, 2);
}

static void a_reference_that_an_edit_brings_is_read(void **state)
{
    struct rig *r = *state;
    setenv("MQ_TEST_DEAD", "graves", 1);
    unsetenv("MQ_TEST_NONE");
    struct source_host *h = start(r, "t", "");
    UNTIL(brokers);
    assert_true(edit(h, "\"dead_letter_queue\":\"${env:MQ_TEST_DEAD}\""));
    UNTIL(brokers->updated == 1);
    assert_string_equal(brokers->setup->dead_letter, "graves");
    assert_int_equal(n_created, 1);
    /* One that cannot be read is told as if it had been there from the start. */
    assert_true(edit(h, "\"dead_letter_queue\":\"${env:MQ_TEST_NONE}\""));
    UNTIL(h->state == SOURCE_FAILED);
    assert_string_equal(h->reason, "SecretUnreadable");
    assert_null(brokers);
    assert_true(edit(h, "")); /* it is tried at once */
    turn(r);
    assert_non_null(brokers);
    unsetenv("MQ_TEST_DEAD");
}

static void secrets_are_read_and_masked(void **state)
{
    struct rig *r = *state;
    unsetenv("MQ_TEST_PW");
    struct source_host *h = start(r, "t", "\"consumer_group\":\"${env:MQ_TEST_PW}\",\"redis_mode\":\"stream\"");
    UNTIL(h->state == SOURCE_FAILED);
    assert_string_equal(h->reason, "SecretUnreadable");
    assert_non_null(strstr(h->message, "${env:MQ_TEST_PW}"));
    setenv("MQ_TEST_PW", "hunter22", 1);
    source_message_queue.resume(h->source); /* at once, not at the end of the wait */
    turn(r);
    assert_non_null(brokers);
    assert_string_equal(brokers->setup->group, "hunter22");
    queue_state(brokers->host, SOURCE_FAILED, "AuthenticationFailed", "WRONGPASS hunter22 is wrong");
    assert_string_equal(h->message, "WRONGPASS *** is wrong");
    source_message_queue.resume(h->source);
    assert_int_equal(brokers->resumed, 1);
    unsetenv("MQ_TEST_PW");
}

static void a_broker_that_is_not_there_is_an_error(void **state)
{
    struct rig *r = *state;
    struct source_host h = {.id = "t"};
    struct queue_config c = {.queue_type = QUEUE_SQS};
    struct trigger t = {.config = &c};
    struct error err = ERROR_INIT;
    assert_int_equal(source_message_queue.create(&h, &r->env, &t, &h.source, &err), -ENOTSUP);
    assert_string_equal(err.message, "this triggerd was built without sqs");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_become_data),
        cmocka_unit_test(deep_bodies_are_text),
        cmocka_unit_test(headers_are_made_text),
        TEST(acknowledged_once_recorded),
        TEST(what_cannot_be_recorded_is_tried_again_in_order),
        TEST(poison_ends),
        TEST(acknowledged_once_its_run_has_completed),
        TEST(twins_are_counted_apart),
        TEST(on_failure_chooses),
        TEST(batches_close_when_full_or_in_time),
        TEST(batches_have_a_bound_in_bytes),
        TEST(known_messages_are_taken_out),
        TEST(batches_are_told_in_the_order_they_came),
        TEST(unrecorded_identities_are_waited_for),
        TEST(twins_in_a_batch_are_one),
        TEST(known_messages_wait_for_the_end_of_their_event),
        TEST(of_two_that_share_one_has_it),
        TEST(a_look_up_is_waited_for),
        TEST(triggers_share_what_is_equal),
        TEST(the_heaviest_settlement_wins),
        TEST(names_are_not_shared),
        TEST(the_next_waits_for_the_end_of_the_last),
        TEST(what_is_being_recorded_is_waited_for),
        TEST(what_has_not_started_is_withdrawn),
        TEST(an_edit_keeps_the_broker_and_what_is_in_flight),
        TEST(an_edit_while_it_opens_or_waits_counts),
        TEST(a_batch_that_is_being_filled_goes_by_the_new_size),
        TEST(identities_are_one_over_a_change_of_the_size),
        TEST(an_edit_that_ends_or_begins_sharing_is_not_taken_over),
        TEST(a_reference_that_an_edit_brings_is_read),
        TEST(secrets_are_read_and_masked),
        TEST(a_broker_that_is_not_there_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
