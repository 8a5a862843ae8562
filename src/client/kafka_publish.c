#include "client/kafka.h"

#include <errno.h>
#include <stdio.h>
#include <uthash.h>
#include <utlist.h>

/* Publishing to Kafka: a producer a connection key, opened with the first message and ended QUEUE_KEPT_MS after the
 * last. librdkafka keeps order, repeats (idempotence sees to it that the log has it once) and gives up after
 * message.timeout.ms; its delivery report is the confirmation. */

struct producer;

struct queue_publish {
    struct queue_publish *prev, *next; /* of the producer's waiting or sent */
    struct producer *producer;
    queue_published_fn *done; /* NULL: cancelled */
    void *ctx;
    char *topic, *body, *key;
    size_t len, key_len;
    bool tombstone;
    cJSON *headers;
    rd_kafka_headers_t *raw; /* instead */
    char *traceparent;
};

struct producer {
    struct queue_publisher *owner;
    char *key; /* of the connection */
    UT_hash_handle hh;
    bool listed; /* in the hash: takes messages */
    struct queue_setup *setup;
    struct kafka_opening *opening;
    struct kafka_lib lib;
    rd_kafka_t *rk; /* NULL: not open */
    rd_kafka_queue_t *events;
    struct loop_group group;
    struct kafka_wake wake;
    struct loop_task task, ender;
    struct timer idle;
    struct queue_publish *waiting, *sent;
    rd_kafka_resp_err_t last_code; /* of the connection; 0: none since a message was confirmed */
    char *last_text;
    bool ending;
};

struct queue_publisher {
    struct queue_env env;
    struct producer *producers; /* by key */
    unsigned alive;
    bool closing;
    void (*done)(void *ctx);
    void *ctx;
    struct loop_task task;
};

/* ---- one message ---- */

static void publish_free(struct queue_publish *q)
{
    if (q->raw)
        q->producer->lib.rd_kafka_headers_destroy(q->raw);
    cJSON_Delete(q->headers);
    free(q->topic);
    free(q->body);
    free(q->key);
    free(q->traceparent);
    free(q);
}

static void publish_end(struct queue_publish *q, int result, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void publish_end(struct queue_publish *q, int result, const char *format, ...)
{
    queue_published_fn *done = q->done;
    void *ctx = q->ctx;
    char *text = NULL;
    if (done && format) {
        va_list args;
        va_start(args, format);
        text = xvasprintf(format, args);
        va_end(args);
        mask_string(q->producer->setup->mask, &text);
    }
    publish_free(q);
    if (done)
        done(ctx, result, text);
    free(text);
}

/* Why a message that librdkafka gave up did not arrive: what is wrong with the connection says more than its time-out. */
static void publish_fail(struct queue_publish *q, rd_kafka_resp_err_t code)
{
    struct producer *p = q->producer;
    const char *text = p->lib.rd_kafka_err2str(code);
    int r = kafka_errno(code, text);
    if (r == -ENOENT)
        publish_end(q, r, "topic \"%s\" does not exist", q->topic);
    else if (p->last_code && r != -EMSGSIZE)
        publish_end(q, kafka_errno(p->last_code, p->last_text), "topic \"%s\": %s", q->topic, p->last_text);
    else
        publish_end(q, r, "topic \"%s\": %s", q->topic, text);
}

/* What was not sent keeps its place. */
static rd_kafka_headers_t *publish_headers(struct queue_publish *q)
{
    const struct kafka_lib *lib = &q->producer->lib;
    const cJSON *h;
    if (q->raw)
        return steal(&q->raw);
    if (!q->headers && !q->traceparent)
        return NULL;
    rd_kafka_headers_t *headers = lib->rd_kafka_headers_new(8);
    cJSON_ArrayForEach (h, q->headers)
        if (cJSON_IsString(h))
            lib->rd_kafka_header_add(headers, h->string, -1, h->valuestring, -1);
    if (q->traceparent && !value_get(q->headers, "traceparent"))
        lib->rd_kafka_header_add(headers, "traceparent", -1, q->traceparent, -1);
    return headers;
}

static void publish_send(struct queue_publish *q)
{
    struct producer *p = q->producer;
    const struct kafka_lib *lib = &p->lib;
    rd_kafka_headers_t *headers = publish_headers(q);
    rd_kafka_vu_t v[6];
    size_t n = 0;
    v[n].vtype = RD_KAFKA_VTYPE_TOPIC;
    v[n++].u.cstr = q->topic;
    v[n].vtype = RD_KAFKA_VTYPE_MSGFLAGS;
    v[n++].u.i = RD_KAFKA_MSG_F_COPY;
    v[n].vtype = RD_KAFKA_VTYPE_VALUE;
    v[n].u.mem.ptr = q->tombstone ? NULL : q->body;
    v[n++].u.mem.size = q->len;
    v[n].vtype = RD_KAFKA_VTYPE_OPAQUE;
    v[n++].u.ptr = q;
    if (q->key) {
        v[n].vtype = RD_KAFKA_VTYPE_KEY;
        v[n].u.mem.ptr = q->key;
        v[n++].u.mem.size = q->key_len;
    }
    if (headers) {
        v[n].vtype = RD_KAFKA_VTYPE_HEADERS;
        v[n++].u.headers = headers;
    }
    DL_APPEND(p->sent, q);
    rd_kafka_error_t *error = lib->rd_kafka_produceva(p->rk, v, n);
    if (!error)
        return;
    rd_kafka_resp_err_t code = lib->rd_kafka_error_code(error);
    lib->rd_kafka_error_destroy(error);
    if (headers)
        lib->rd_kafka_headers_destroy(headers); /* it is ours again */
    DL_DELETE(p->sent, q);
    publish_fail(q, code);
}

/* ---- a producer ---- */

static void producer_free(void *ctx)
{
    struct producer *p = ctx;
    struct queue_publisher *owner = p->owner;
    kafka_wake_fini(&p->wake);
    queue_setup_unref(p->setup);
    free(p->last_text);
    free(p->key);
    free(p);
    if (--owner->alive == 0 && owner->closing)
        loop_defer(owner->env.loop, &owner->task);
}

static void producer_disposed(void *ctx)
{
    struct producer *p = ctx;
    loop_group_close(&p->group, producer_free, p);
}

/* Deferred, so that no event is in anyone's hands. */
static void producer_close(void *ctx)
{
    struct producer *p = ctx;
    if (p->events) {
        kafka_wake_close(&p->wake);
        kafka_wake_remove(&p->lib, p->events);
    }
    if (p->opening)
        kafka_open_abandon(p->opening);
    if (p->rk)
        kafka_dispose(p->owner->env.loop, &p->lib, p->rk, true, producer_disposed, p);
    else
        producer_disposed(p);
}

/* New messages open another one; who waits is told `result`, or nothing with 0. Never from inside send(). */
static void producer_end(struct producer *p, int result, const char *text)
{
    struct queue_publish *all[] = {p->sent, p->waiting};
    if (p->ending)
        return;
    p->ending = true;
    if (p->listed)
        HASH_DEL(p->owner->producers, p);
    p->listed = false;
    p->sent = p->waiting = NULL;
    loop_timer_stop(p->owner->env.loop, &p->idle);
    loop_task_cancel(p->owner->env.loop, &p->task);
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        struct queue_publish *q, *next;
        DL_FOREACH_SAFE (all[i], q, next) {
            if (result == 0)
                q->done = NULL;
            publish_end(q, result, "topic \"%s\": %s", q->topic, text ? text : "");
        }
    }
    loop_defer(p->owner->env.loop, &p->ender);
}

static void producer_idle(struct timer *timer, void *ctx)
{
    (void)timer;
    producer_end(ctx, 0, NULL);
}

static void producer_rest(struct producer *p)
{
    if (!p->ending && !p->sent && !p->waiting)
        loop_timer_start(p->owner->env.loop, &p->idle, QUEUE_KEPT_MS);
}

static void producer_error(struct producer *p, rd_kafka_event_t *ev)
{
    const struct kafka_lib *lib = &p->lib;
    rd_kafka_resp_err_t code = lib->rd_kafka_event_error(ev);
    const char *text = lib->rd_kafka_event_error_string(ev);
    /* `all brokers are down` comes after what says why. */
    if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN && p->last_code)
        return;
    free(p->last_text);
    p->last_text = xstrdup(text ? text : lib->rd_kafka_err2str(code));
    p->last_code = code;
    /* No later attempt can be better, and librdkafka would go on to the messages' time-out. */
    if (code == RD_KAFKA_RESP_ERR__AUTHENTICATION)
        lib->rd_kafka_purge(p->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
}

static void producer_report(struct producer *p, rd_kafka_event_t *ev)
{
    const rd_kafka_message_t *m;
    while (!p->ending && (m = p->lib.rd_kafka_event_message_next(ev))) {
        struct queue_publish *q = m->_private;
        DL_DELETE(p->sent, q);
        if (m->err) {
            publish_fail(q, m->err);
            continue;
        }
        p->last_code = RD_KAFKA_RESP_ERR_NO_ERROR;
        publish_end(q, 0, NULL);
    }
}

#define EVENTS_AT_ONCE 64

static void producer_serve(void *ctx)
{
    struct producer *p = ctx;
    const struct kafka_lib *lib = &p->lib;
    rd_kafka_event_t *ev = NULL;
    struct queue_publish *q;
    bool fatal = false;
    unsigned n = 0;
    if (!p->events)
        return;
    while ((q = p->waiting)) {
        DL_DELETE(p->waiting, q);
        publish_send(q);
    }
    while (!fatal && n++ < EVENTS_AT_ONCE && (ev = lib->rd_kafka_queue_poll(p->events, 0))) {
        switch (lib->rd_kafka_event_type(ev)) {
        case RD_KAFKA_EVENT_DR:
            producer_report(p, ev);
            break;
        case RD_KAFKA_EVENT_ERROR:
            fatal = lib->rd_kafka_event_error_is_fatal(ev);
            producer_error(p, ev);
            break;
        case RD_KAFKA_EVENT_LOG:
            kafka_log_event(lib, ev, p->setup->mask);
            break;
        default:
            break;
        }
        lib->rd_kafka_event_destroy(ev);
        if (p->ending) /* told by one of those that it reported to */
            return;
    }
    if (fatal)
        producer_end(p, kafka_errno(p->last_code, p->last_text), p->last_text);
    else if (ev)
        loop_defer(p->owner->env.loop, &p->task);
    else
        producer_rest(p);
}

static void producer_wake(void *ctx)
{
    struct producer *p = ctx;
    if (!p->ending)
        producer_serve(p);
}

static void producer_opened(void *ctx, const struct kafka_lib *lib, rd_kafka_t *rk, const char *reason,
                            const struct error *err)
{
    struct producer *p = ctx;
    (void)reason;
    p->opening = NULL;
    if (!rk) {
        producer_end(p, err->code, err->message);
        return;
    }
    p->lib = *lib;
    p->rk = rk;
    p->events = lib->rd_kafka_queue_get_main(rk);
    lib->rd_kafka_set_log_queue(rk, p->events);
    int r = kafka_wake_open(&p->group, &p->wake, producer_wake, p);
    if (r < 0) {
        producer_end(p, r, strerror(-r));
        return;
    }
    kafka_wake_add(&p->wake, lib, p->events);
    loop_defer(p->owner->env.loop, &p->task);
}

static struct producer *producer_get(struct queue_publisher *owner, struct queue_setup *setup, const char *key)
{
    struct producer *p = NULL;
    HASH_FIND_STR(owner->producers, key, p);
    if (p)
        return p;
    p = xcalloc(1, sizeof(*p));
    p->owner = owner;
    p->key = xstrdup(key);
    p->setup = queue_setup_ref(setup);
    p->wake.fd = -1;
    p->listed = true;
    loop_group_init(&p->group, owner->env.loop);
    loop_task_init(&p->task, producer_serve, p);
    loop_task_init(&p->ender, producer_close, p);
    timer_init(&p->idle, producer_idle, p);
    HASH_ADD_KEYPTR(hh, owner->producers, p->key, strlen(p->key), p);
    owner->alive++;
    p->opening = kafka_open(owner->env.loop, owner->env.avoid, setup, RD_KAFKA_PRODUCER, producer_opened, p);
    return p;
}

/* ---- the publisher ---- */

static struct queue_publish *enqueue(struct producer *p, const char *topic, queue_published_fn *done, void *ctx)
{
    struct queue_publish *q = xcalloc(1, sizeof(*q));
    q->producer = p;
    q->done = done;
    q->ctx = ctx;
    q->topic = xstrdup(topic);
    loop_timer_stop(p->owner->env.loop, &p->idle);
    DL_APPEND(p->waiting, q);
    loop_defer(p->owner->env.loop, &p->task);
    return q;
}

static struct queue_publish *kafka_send(struct queue_publisher *owner, struct queue_setup *setup, const char *key,
                                        const struct queue_outgoing *m, queue_published_fn *done, void *ctx)
{
    struct queue_publish *q = enqueue(producer_get(owner, setup, key), m->queue, done, ctx);
    q->body = xmemdup(m->body, m->len);
    q->len = m->len;
    q->key = xstrdup0(m->key);
    q->key_len = m->key ? strlen(m->key) : 0;
    q->headers = m->headers ? cJSON_Duplicate(m->headers, true) : NULL;
    q->traceparent = xstrdup0(m->traceparent);
    return q;
}

struct queue_publish *kafka_publish_record(struct queue_publisher *publisher, const struct kafka_lib *lib,
                                           struct queue_setup *setup, const char *key,
                                           const struct kafka_record *record, queue_published_fn *done, void *ctx)
{
    struct producer *p = producer_get(publisher, setup, key);
    struct queue_publish *q = enqueue(p, record->topic, done, ctx);
    p->lib = *lib;
    q->tombstone = !record->body;
    q->body = record->body ? xmemdup(record->body, record->len) : NULL;
    q->len = record->len;
    q->key = record->key ? xmemdup(record->key, record->key_len) : NULL;
    q->key_len = record->key_len;
    q->raw = record->headers ? lib->rd_kafka_headers_copy(record->headers) : NULL;
    return q;
}

/* What librdkafka has may still arrive, and reports. */
static void kafka_cancel(struct queue_publish *q)
{
    struct producer *p = q->producer;
    struct queue_publish *w;
    q->done = NULL;
    DL_FOREACH (p->waiting, w) {
        if (w != q)
            continue;
        DL_DELETE(p->waiting, q);
        publish_free(q);
        producer_rest(p);
        return;
    }
}

static void publisher_gone(void *ctx)
{
    struct queue_publisher *owner = ctx;
    void (*done)(void *ctx) = owner->done;
    void *done_ctx = owner->ctx;
    free(owner);
    done(done_ctx);
}

static struct queue_publisher *kafka_create(const struct queue_env *env)
{
    struct queue_publisher *owner = xcalloc(1, sizeof(*owner));
    owner->env = *env;
    loop_task_init(&owner->task, publisher_gone, owner);
    return owner;
}

static void kafka_close(struct queue_publisher *owner, void (*done)(void *ctx), void *ctx)
{
    struct producer *p, *next;
    owner->closing = true;
    owner->done = done;
    owner->ctx = ctx;
    HASH_ITER (hh, owner->producers, p, next) {
        producer_end(p, 0, NULL);
    }
    if (owner->alive == 0)
        loop_defer(owner->env.loop, &owner->task);
}

const struct queue_publisher_type kafka_publisher = {
    .type = QUEUE_KAFKA,
    .create = kafka_create,
    .close = kafka_close,
    .send = kafka_send,
    .cancel = kafka_cancel,
};
