/* Kafka's consumer against librdkafka's own mock of a cluster, with a host that records what it is handed and settles it
 * as the test says. */
#include "base/loop.h"
#include "client/kafka.h"
#include "source/broker_kafka.h"

#include <errno.h>
#include <librdkafka/rdkafka_mock.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <utlist.h>

#include <cmocka.h>

#define PATIENCE_MS 60000

struct got {
    struct got *prev, *next;
    uint64_t tag;
    char *body, *key, *identity, *headers;
    int32_t partition;
    int64_t offset, deliveries;
    bool settled;
};

struct queue_consumer {
    struct world *world;
    struct broker *broker; /* NULL: stopped */
    struct got *all;       /* in order */
    size_t n, n_open, most_open;
    enum source_state state;
    char reason[64], message[512];
    int reports;
    bool keep;     /* not settled at once */
    bool settling; /* the task waits */
    struct loop_task task;
};

struct world {
    struct loop loop;
    struct clock *clock;
    struct random_seeded random;
    struct timer patience;
    bool (*until)(struct world *w);
    rd_kafka_t *rk; /* a producer, and the cluster's */
    rd_kafka_mock_cluster_t *cluster;
    struct queue_consumer consumers[2]; /* of two topics: the mock's groups take one member */
    const char *topic;
    int64_t want;
};

/* ---- the host ---- */

static void settle_all(void *ctx)
{
    struct queue_consumer *c = ctx;
    struct got *g;
    DL_FOREACH (c->all, g) {
        if (g->settled || c->keep || !c->broker)
            continue;
        g->settled = true;
        c->n_open--;
        broker_kafka.settle(c->broker, g->tag, QUEUE_DONE);
    }
}

void queue_delivered(struct queue_consumer *c, uint64_t tag, struct queue_message *m)
{
    struct got *g = xcalloc(1, sizeof(*g));
    assert_non_null(c->broker);
    g->tag = tag;
    g->body = xstrndup(m->body, m->len);
    g->key = m->key ? xstrndup(m->key, m->key_len) : NULL;
    g->identity = xstrdup(m->identity);
    g->headers = m->headers ? value_print(m->headers) : NULL;
    g->partition = m->partition;
    g->offset = m->offset;
    g->deliveries = m->deliveries;
    assert_true(m->has_partition);
    cJSON_Delete(m->headers);
    DL_APPEND(c->all, g);
    c->n++;
    c->n_open++;
    c->most_open = MAX(c->most_open, c->n_open);
    if (!c->keep)
        loop_defer(&c->world->loop, &c->task);
}

void queue_state(struct queue_consumer *c, enum source_state state, const char *reason, const char *message)
{
    if (c->state == state && streq(c->reason, reason))
        return;
    c->state = state;
    snprintf(c->reason, sizeof(c->reason), "%s", reason);
    snprintf(c->message, sizeof(c->message), "%s", message);
    c->reports++;
}

const char *queue_owner(const struct queue_consumer *c)
{
    (void)c;
    return "t";
}

/* ---- the world ---- */

static void run_out(struct timer *timer, void *ctx)
{
    struct world *w = ctx;
    (void)timer;
    fail_msg("it took too long; state %s: %s; %zu messages", w->consumers[0].reason, w->consumers[0].message,
             w->consumers[0].n);
}

static void look(uv_prepare_t *check)
{
    struct world *w = check->data;
    if (w->until && w->until(w))
        loop_stop(&w->loop);
}

static void run_until(struct world *w, bool (*until)(struct world *w))
{
    uv_prepare_t check;
    w->until = until;
    uv_prepare_init(&w->loop.uv, &check);
    check.data = w;
    uv_prepare_start(&check, look);
    loop_timer_start(&w->loop, &w->patience, PATIENCE_MS);
    while (!until(w))
        loop_run(&w->loop);
    loop_timer_stop(&w->loop, &w->patience);
    w->until = NULL;
    uv_close((uv_handle_t *)&check, NULL);
    uv_run(&w->loop.uv, UV_RUN_NOWAIT);
}

static void produce(struct world *w, const char *topic, int32_t partition, const char *key, const char *body,
                    const char *header)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(2);
    if (header)
        rd_kafka_header_add(headers, "h", -1, header, -1);
    rd_kafka_resp_err_t err = rd_kafka_producev(
        w->rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
        RD_KAFKA_V_VALUE((void *)(uintptr_t)body, body ? strlen(body) : 0), RD_KAFKA_V_KEY(key, key ? strlen(key) : 0),
        RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_END);
    assert_int_equal(err, 0);
}

static void flush(struct world *w)
{
    assert_int_equal(rd_kafka_flush(w->rk, 20000), 0);
}

static void produce_many(struct world *w, int32_t partition, int from, int to)
{
    for (int i = from; i < to; i++) {
        char body[32];
        snprintf(body, sizeof(body), "%d", i);
        produce(w, w->topic, partition, NULL, body, NULL);
    }
    flush(w);
}

static void world_init(struct world *w, const char *topic, int partitions)
{
    char why[256];
    *w = (struct world){.topic = topic};
    assert_int_equal(loop_init(&w->loop), 0);
    random_seeded_init(&w->random, 1);
    timer_init(&w->patience, run_out, w);
    for (size_t i = 0; i < ARRAY_SIZE(w->consumers); i++) {
        w->consumers[i].world = w;
        w->consumers[i].state = SOURCE_WAITING;
        loop_task_init(&w->consumers[i].task, settle_all, &w->consumers[i]);
    }
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "linger.ms", "0", why, sizeof(why));
    rd_kafka_conf_set(conf, "log_level", "0", why, sizeof(why));
    rd_kafka_conf_set(conf, "test.mock.num.brokers", "1", why, sizeof(why));
    w->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
    assert_non_null(w->rk);
    w->cluster = rd_kafka_handle_mock_cluster(w->rk);
    rd_kafka_mock_topic_create(w->cluster, topic, partitions, 1);
}

static void consumer_reset(struct queue_consumer *c)
{
    struct got *g, *next;
    DL_FOREACH_SAFE (c->all, g, next) {
        DL_DELETE(c->all, g);
        free(g->body);
        free(g->key);
        free(g->identity);
        free(g->headers);
        free(g);
    }
    c->n = c->n_open = c->most_open = 0;
    c->reports = 0;
    c->state = SOURCE_WAITING;
    c->reason[0] = '\0';
}

static void start(struct world *w, struct queue_consumer *c, const char *more)
{
    struct issues issues = ISSUES_INIT;
    struct queue_config config = {0};
    struct queue_setup *setup = NULL;
    struct error err = ERROR_INIT;
    cJSON *node = NULL;
    struct queue_env env = {.loop = &w->loop, .random = &w->random.random};
    _cleanup_(freep) char *text =
        xasprintf("{\"queue_type\": \"kafka\", \"connection_url\": \"kafka://%s\", "
                  "\"queue_name\": \"%s\", "
                  "\"options\": {\"session.timeout.ms\": 4000, "
                  "\"heartbeat.interval.ms\": 500}%s%s}",
                  rd_kafka_mock_cluster_bootstraps(w->cluster), w->topic, *more ? ", " : "", more);
    assert_int_equal(value_parse(text, strlen(text), &node, &err), 0);
    if (!fields_parse(&queue_source_fields, node, NULL, &config, "config", &issues))
        fail_msg("%s: %s", issues.items[0].path, issues.items[0].message);
    assert_int_equal(queue_setup_create(&config, NULL, NULL, "t", "node", &setup, &err), 0);
    consumer_reset(c);
    assert_int_equal(broker_kafka.create(c, &env, setup, &c->broker, &err), 0);
    queue_setup_unref(setup);
    broker_kafka.start(c->broker);
    fields_fini(&queue_source_fields, &config);
    issues_fini(&issues);
    cJSON_Delete(node);
}

static bool stopping;
static void stop_done(void *ctx)
{
    (void)ctx;
    stopping = false;
}
static bool is_stopped(struct world *w)
{
    (void)w;
    return !stopping;
}
static void stop(struct world *w, struct queue_consumer *c)
{
    stopping = true;
    broker_kafka.stop(steal(&c->broker), stop_done, NULL);
    assert_true(stopping);
    run_until(w, is_stopped);
}

static void world_fini(struct world *w)
{
    for (size_t i = 0; i < ARRAY_SIZE(w->consumers); i++) {
        struct queue_consumer *c = &w->consumers[i];
        if (c->broker)
            stop(w, c);
        loop_task_cancel(&w->loop, &c->task);
        consumer_reset(c);
    }
    rd_kafka_destroy(w->rk);
    loop_run(&w->loop);
    assert_int_equal(loop_fini(&w->loop), 0);
}

static bool has_wanted(struct world *w)
{
    return (int64_t)(w->consumers[0].n + w->consumers[1].n) >= w->want;
}
static void await(struct world *w, int64_t n)
{
    w->want = n;
    run_until(w, has_wanted);
}
static bool is_connected(struct world *w)
{
    return w->consumers[0].state == SOURCE_CONNECTED;
}
static bool is_failed(struct world *w)
{
    return w->consumers[0].state == SOURCE_FAILED;
}
static int64_t patience_until;
static bool has_waited(struct world *w)
{
    return loop_now_ms(&w->loop) >= patience_until;
}
static void nothing(struct timer *timer, void *ctx)
{
    (void)timer, (void)ctx;
}
/* Long enough for what must not come. */
static void linger(struct world *w, int64_t ms)
{
    struct timer t;
    timer_init(&t, nothing, NULL);
    patience_until = loop_now_ms(&w->loop) + ms;
    loop_timer_start(&w->loop, &t, ms);
    run_until(w, has_waited);
}

static struct got *got_at(struct queue_consumer *c, size_t i)
{
    struct got *g = c->all;
    while (g && i-- > 0)
        g = g->next;
    assert_non_null(g);
    return g;
}

static void settle(struct queue_consumer *c, struct got *g, enum queue_settlement how)
{
    assert_false(g->settled);
    g->settled = true;
    c->n_open--;
    broker_kafka.settle(c->broker, g->tag, how);
}

/* What the group has committed, seen from outside it. */
static int64_t committed(struct world *w, int32_t partition)
{
    char why[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "group.id", "triggerd-t", why, sizeof(why));
    rd_kafka_conf_set(conf, "bootstrap.servers", rd_kafka_mock_cluster_bootstraps(w->cluster), why, sizeof(why));
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof(why));
    assert_non_null(rk);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, w->topic, partition);
    assert_int_equal(rd_kafka_committed(rk, list, 20000), 0);
    int64_t offset = list->elems[0].offset;
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(rk);
    return offset;
}

/* ---- tests ---- */

static void test_reads_and_commits(void **state)
{
    struct world w;
    struct queue_consumer *c = &w.consumers[0];
    (void)state;
    world_init(&w, "orders", 2);
    produce(&w, "orders", 0, "k", "{\"a\": 1}", "v");
    produce_many(&w, 1, 0, 20);
    start(&w, c, "\"start\": \"earliest\"");
    await(&w, 21);
    run_until(&w, is_connected);
    struct got *g = c->all;
    while (g->partition != 0)
        g = g->next;
    assert_string_equal(g->body, "{\"a\": 1}");
    assert_string_equal(g->key, "k");
    assert_string_equal(g->headers, "{\"h\":\"v\"}");
    assert_int_equal(strncmp(g->identity, "orders/0/0/", 11), 0);
    assert_int_equal(g->deliveries, 1);
    stop(&w, c);
    assert_int_equal(committed(&w, 0), 1);
    assert_int_equal(committed(&w, 1), 20);
    world_fini(&w);
}

static void test_never_past_a_gap(void **state)
{
    struct world w;
    struct queue_consumer *c = &w.consumers[0];
    (void)state;
    world_init(&w, "orders", 1);
    produce_many(&w, 0, 0, 10);
    start(&w, c, "\"start\": \"earliest\"");
    c->keep = true;
    await(&w, 10);
    for (size_t i = 0; i < 10; i++)
        if (i != 4)
            settle(c, got_at(c, i), QUEUE_DONE);
    linger(&w, 200);
    stop(&w, c);
    assert_int_equal(committed(&w, 0), 4);
    world_fini(&w);
}

static bool has_lag(struct world *w)
{
    return broker_kafka.lag(w->consumers[0].broker) == w->want;
}

static void test_prefetch_and_pause(void **state)
{
    struct world w;
    struct queue_consumer *c = &w.consumers[0];
    (void)state;
    world_init(&w, "orders", 1);
    produce_many(&w, 0, 0, 30);
    start(&w, c, "\"start\": \"earliest\", \"prefetch\": 5");
    c->keep = true;
    await(&w, 5);
    linger(&w, 300);
    assert_int_equal(c->n, 5);
    w.want = 25;
    run_until(&w, has_lag);
    broker_kafka.pause(c->broker);
    for (size_t i = 0; i < 5; i++)
        settle(c, got_at(c, i), QUEUE_DONE);
    linger(&w, 300);
    assert_int_equal(c->n, 5);
    c->keep = false;
    broker_kafka.resume(c->broker);
    await(&w, 30);
    assert_int_equal(c->most_open, 5);
    for (size_t i = 0; i < 30; i++)
        assert_int_equal(got_at(c, i)->offset, i);
    world_fini(&w);
}

static void test_again_and_back(void **state)
{
    struct world w;
    struct queue_consumer *c = &w.consumers[0];
    (void)state;
    world_init(&w, "orders", 1);
    produce_many(&w, 0, 0, 2);
    start(&w, c, "\"start\": \"earliest\"");
    c->keep = true;
    await(&w, 2);
    settle(c, got_at(c, 0), QUEUE_AGAIN);
    await(&w, 3);
    assert_int_equal(got_at(c, 2)->offset, 0);
    assert_int_equal(got_at(c, 2)->deliveries, 2);
    assert_string_equal(got_at(c, 2)->body, "0");
    assert_string_equal(got_at(c, 2)->identity, got_at(c, 0)->identity);
    settle(c, got_at(c, 2), QUEUE_BACK);
    await(&w, 4);
    assert_int_equal(got_at(c, 3)->deliveries, 2);
    settle(c, got_at(c, 3), QUEUE_AGAIN);
    await(&w, 5);
    assert_int_equal(got_at(c, 4)->deliveries, 3);
    world_fini(&w);
}

static bool is_buried(struct world *w)
{
    int64_t low = 0, high = 0, all = 0;
    for (int32_t i = 0; i < 2; i++)
        if (rd_kafka_query_watermark_offsets(w->rk, "orders.dead", i, &low, &high, 1000) == 0)
            all += high;
    return all >= w->want;
}

static void test_dead_letter(void **state)
{
    struct world w;
    struct queue_consumer *c = &w.consumers[0], *dead = &w.consumers[1];
    (void)state;
    world_init(&w, "orders", 1);
    rd_kafka_mock_topic_create(w.cluster, "orders.dead", 2, 1);
    produce(&w, "orders", 0, "key", "poison \xff", "why");
    produce(&w, "orders", 0, NULL, NULL, NULL);
    flush(&w);
    start(&w, c, "\"start\": \"earliest\"");
    c->keep = true;
    await(&w, 2);
    assert_string_equal(got_at(c, 1)->body, "null"); /* a tombstone */
    settle(c, got_at(c, 0), QUEUE_DEAD_LETTER);
    settle(c, got_at(c, 1), QUEUE_DEAD_LETTER);
    w.want = 2;
    run_until(&w, is_buried);
    linger(&w, 200);
    stop(&w, c);
    consumer_reset(c);
    w.topic = "orders.dead";
    start(&w, dead, "\"start\": \"earliest\", \"consumer_group\": \"g\"");
    await(&w, 2);
    struct got *g = streq(got_at(dead, 0)->body, "null") ? got_at(dead, 1) : got_at(dead, 0);
    assert_string_equal(g->body, "poison \xff");
    assert_string_equal(g->key, "key");
    assert_string_equal(g->headers, "{\"h\":\"why\"}");
    stop(&w, dead);
    consumer_reset(dead);
    w.topic = "orders";
    assert_int_equal(committed(&w, 0), 2);
    world_fini(&w);
}

static void test_broker_down_and_up(void **state)
{
    struct world w;
    struct queue_consumer *c = &w.consumers[0];
    (void)state;
    world_init(&w, "orders", 1);
    start(&w, c, "\"start\": \"earliest\"");
    run_until(&w, is_connected);
    assert_int_equal(c->reports, 1);
    rd_kafka_mock_broker_set_down(w.cluster, 1);
    run_until(&w, is_failed);
    assert_non_null(strstr("ConnectionRefused ConnectionLost", c->reason));
    rd_kafka_mock_broker_set_up(w.cluster, 1);
    run_until(&w, is_connected);
    produce_many(&w, 0, 0, 3);
    await(&w, 3);
    world_fini(&w);
}

static void test_nobody_there(void **state)
{
    struct world w;
    struct queue_consumer *c = &w.consumers[0];
    (void)state;
    world_init(&w, "orders", 1);
    rd_kafka_mock_broker_set_down(w.cluster, 1);
    start(&w, c, "");
    run_until(&w, is_failed);
    stop(&w, c); /* before it ever joined */
    world_fini(&w);
}

/* ---- publishing ---- */

struct sending {
    struct world *w;
    int done, result;
    char message[256];
};
static struct sending sending;

/* A partition that librdkafka does not read any more: here it is paused behind the consumer's back, and goes on when it
 * is sought, as one does that librdkafka has forgotten. */
static void pause_behind(const struct broker *b, bool pause)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, b->topic, 0);
    assert_int_equal(pause ? rd_kafka_pause_partitions(b->rk, list) : rd_kafka_resume_partitions(b->rk, list), 0);
    rd_kafka_topic_partition_list_destroy(list);
}

static struct {
    unsigned calls;
    unsigned cures; /* the one that helps */
    int64_t offset;
} seeks;

static rd_kafka_error_t *seek_hook(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *list, int timeout_ms)
{
    assert_int_equal(list->cnt, 1);
    assert_int_equal(list->elems[0].partition, 0);
    seeks.offset = list->elems[0].offset;
    if (++seeks.calls == seeks.cures)
        rd_kafka_resume_partitions(rk, list);
    return rd_kafka_seek_partitions(rk, list, timeout_ms);
}

/* What takes 10 s: nobody waits for it, once the end of the log is known. */
static bool is_told_stuck(struct world *w)
{
    struct broker *b = w->consumers[0].broker;
    struct partition *p;
    for (p = b->partitions; p; p = p->hh.next)
        if (p->ours && p->high > p->next && b->hungry_ms > QUEUE_SILENCE_MS) {
            b->hungry_ms = MIN(b->hungry_ms, loop_now_ms(&w->loop) - QUEUE_SILENCE_MS);
            p->moved_ms = MIN(p->moved_ms, loop_now_ms(&w->loop) - QUEUE_SILENCE_MS);
        }
    return is_failed(w);
}

static bool is_sought_or_renewed(struct world *w)
{
    is_told_stuck(w);
    return has_wanted(w);
}

static void stand_still(struct world *w, struct queue_consumer *c)
{
    world_init(w, "orders", 1);
    produce_many(w, 0, 0, 5);
    start(w, c, "\"start\": \"earliest\"");
    await(w, 5);
    run_until(w, is_connected);
    seeks.calls = 0;
    c->broker->lib.rd_kafka_seek_partitions = seek_hook;
    pause_behind(c->broker, true);
    produce_many(w, 0, 5, 10);
    run_until(w, is_told_stuck);
    assert_string_equal(c->reason, "NoProgress");
    assert_string_equal(c->message, "partition 0 of \"orders\" stands still at offset 5 of 10");
    assert_int_equal(seeks.offset, 5);
}

static void each_came_once(struct world *w, const struct queue_consumer *c)
{
    size_t i = 0;
    const struct got *g;
    DL_FOREACH (c->all, g) {
        assert_int_equal(g->offset, i++);
    }
    assert_int_equal(i, 10);
    assert_int_equal(w->want, 10);
}

static void test_a_partition_that_stands_still_is_sought(void **state)
{
    struct world w;
    struct queue_consumer *c = &w.consumers[0];
    (void)state;
    seeks.cures = 1;
    stand_still(&w, c);
    await(&w, 10);
    run_until(&w, is_connected);
    each_came_once(&w, c);
    assert_int_equal(seeks.calls, 1);
    world_fini(&w);
}

static void test_seeking_in_vain_opens_anew(void **state)
{
    struct world w;
    struct queue_consumer *c = &w.consumers[0];
    (void)state;
    seeks.cures = 0;
    stand_still(&w, c);
    w.want = 10;
    run_until(&w, is_sought_or_renewed);
    run_until(&w, is_connected);
    each_came_once(&w, c);
    assert_int_equal(seeks.calls, 3);
    world_fini(&w);
}

static void sent(void *ctx, int result, const char *message)
{
    struct sending *s = ctx;
    s->done++;
    s->result = result;
    snprintf(s->message, sizeof(s->message), "%s", message ? message : "");
}
static bool is_sent(struct world *w)
{
    (void)w;
    return sending.done >= (int)w->want;
}

static void test_publishes(void **state)
{
    struct world w;
    struct queue_consumer *c = &w.consumers[0];
    struct queue_config config = {.queue_type = QUEUE_KAFKA};
    struct queue_setup *setup = NULL;
    struct error err = ERROR_INIT;
    (void)state;
    world_init(&w, "orders", 1);
    struct queue_env env = {.loop = &w.loop, .random = &w.random.random};
    config.connection_url = xasprintf("kafka://%s", rd_kafka_mock_cluster_bootstraps(w.cluster));
    config.queue_name = xstrdup("orders");
    assert_int_equal(queue_setup_create(&config, NULL, NULL, "p", "node", &setup, &err), 0);
    struct queue_publisher *p = kafka_publisher.create(&env);
    cJSON *headers = cJSON_CreateObject();
    cJSON_AddStringToObject(headers, "a", "b");
    struct queue_outgoing m = {.queue = "orders", .key = "k", .headers = headers, .traceparent = "00-1"};
    char body[16];
    sending = (struct sending){0};
    for (int i = 0; i < 50; i++) {
        snprintf(body, sizeof(body), "%d", i);
        m.body = body;
        m.len = strlen(body);
        kafka_publisher.send(p, setup, "key", &m, sent, &sending);
        assert_int_equal(sending.done, 0);
    }
    w.want = 50;
    run_until(&w, is_sent);
    assert_int_equal(sending.result, 0);
    start(&w, c, "\"start\": \"earliest\"");
    await(&w, 50);
    for (size_t i = 0; i < 50; i++)
        assert_int_equal(atoi(got_at(c, i)->body), (int)i);
    assert_string_equal(got_at(c, 0)->headers, "{\"a\":\"b\",\"traceparent\":\"00-1\"}");

    /* A second use while the connection is open; one that nobody waits for. */
    struct queue_publish *q = kafka_publisher.send(p, setup, "key", &m, sent, &sending);
    kafka_publisher.cancel(q);
    kafka_publisher.send(p, setup, "key", &m, sent, &sending);
    w.want = 51;
    run_until(&w, is_sent);
    assert_int_equal(sending.result, 0);
    stop(&w, c);
    stopping = true;
    kafka_publisher.close(p, stop_done, NULL);
    run_until(&w, is_stopped);
    cJSON_Delete(headers);
    queue_setup_unref(setup);
    free(config.connection_url);
    free(config.queue_name);
    world_fini(&w);
}

/* ---- options ---- */

static void test_options(void **state)
{
    static const struct {
        const char *options, *path, *message;
    } rows[] = {
        {"{\"session.timeout.ms\": 6000, \"check.crcs\": true, \"client.rack\": \"a\"}", NULL, NULL},
        {"{\"session.timeout.m\": 6000}", "config.options.session.timeout.m", "did you mean \"session.timeout.ms\"?"},
        {"{\"session.timeout.ms\": \"soon\"}", "config.options.session.timeout.ms", "Invalid value"},
        {"{\"session.timeout.ms\": 0}", "config.options.session.timeout.ms", "outside allowed range"},
        {"{\"check.crcs\": []}", "config.options.check.crcs", "expected a string, a number or true or false"},
        {"{\"group.id\": \"g\"}", "config.options.group.id", "is said by `consumer_group`"},
        {"{\"enable.auto.commit\": true}", "config.options.enable.auto.commit", "is not to be set"},
        {"{\"ssl.key.password\": \"open\"}", "config.options.ssl.key.password", "expected a reference"},
        {"{\"ssl.key.password\": \"${env:KEY}\"}", NULL, NULL},
        {"{\"session.timeout.ms\": \"${env:X}\"}", NULL, NULL},
        {"{\"security.protocol\": \"ssl\"}", NULL, NULL},
        {"{\"error_cb\": \"x\"}", "config.options.error_cb", ""},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct issues issues = ISSUES_INIT;
        struct queue_config config = {.queue_type = QUEUE_KAFKA};
        struct error err = ERROR_INIT;
        cJSON *node = NULL;
        _cleanup_(freep) char *text = xasprintf("{\"options\": %s}", rows[i].options);
        assert_int_equal(value_parse(text, strlen(text), &node, &err), 0);
        broker_kafka.validate(&config, node, "config", &issues);
        if (!rows[i].path) {
            if (issues.n)
                fail_msg("%s: %s", rows[i].options, issues.items[0].message);
        } else {
            if (issues.n != 1)
                fail_msg("%s: %zu issues", rows[i].options, issues.n);
            assert_string_equal(issues.items[0].path, rows[i].path);
            assert_non_null(issues.items[0].node);
            if (!strstr(issues.items[0].message, rows[i].message))
                fail_msg("%s", issues.items[0].message);
        }
        issues_fini(&issues);
        cJSON_Delete(node);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_reads_and_commits),
        cmocka_unit_test(test_never_past_a_gap),
        cmocka_unit_test(test_prefetch_and_pause),
        cmocka_unit_test(test_again_and_back),
        cmocka_unit_test(test_dead_letter),
        cmocka_unit_test(test_broker_down_and_up),
        cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_a_partition_that_stands_still_is_sought),
        cmocka_unit_test(test_seeking_in_vain_opens_anew),
        cmocka_unit_test(test_publishes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
