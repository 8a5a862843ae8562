/* RabbitMQ as a broker: one connection, one channel, one consumer with manual acknowledgements.
 *
 *   waiting (backoff) ─► opening ─► ready ─► stopping       lost at any point: everything that was delivered and not
 *      ▲                    └──────────┘ │                  settled is the server's again
 *      └─────────────────────────────────┘
 *
 * All that sets the channel up is sent in one go; the answer to its last request means that all of it worked.
 *
 * Back-pressure: the server sends no more than `prefetch` (basic.qos). Pausing cancels the consumer. What is unsettled
 * then does not count against the next one, so that one may have only the rest; it is made anew when it can have more,
 * and when an edit lets it have less. The connection and its channel stay, and with them what is unsettled.
 */
#include "base/loop.h"
#include "base/util.h"
#include "client/amqp.h"
#include "source/broker.h"

#include <errno.h>
#include <stdio.h>
#include <utlist.h>

#define CHANNEL 1
#define CONSUMER_TAG "triggerd" /* of its channel; the connection's name says whose it is */
#define NAME_MAX_BYTES 255
#define LAG_MS 5000

enum phase { WAITING, OPENING, READY, STOPPING };
enum consumer { NONE, CONSUMING, CANCELLING };

/* A message that the server waits for, of the connection there is. */
struct delivery {
    uint64_t number; /* AMQP's delivery tag */
    uint32_t slot;
    bool done; /* to be acknowledged with what is below it */
    struct delivery *prev, *next;
    struct delivery *next_done;
};

struct broker {
    struct queue_consumer *host;
    struct queue_env env;
    struct queue_setup *setup;
    enum phase phase;
    bool paused;
    struct rabbit *rabbit;
    enum consumer consumer;
    int64_t limit; /* what the consumer may have unsettled */
    struct queue_backoff backoff;
    struct timer timer; /* waiting: connect; opening: give up; ready: ask how many messages wait */
    bool asked;         /* and no answer yet */
    int64_t lag;
    /* Deliveries: `slots` by number in the tag, `deliveries` in AMQP's order. */
    uint32_t life; /* of the connection: the upper half of the tag */
    struct delivery **slots;
    uint32_t n_slots;
    struct delivery *unused; /* linked by next */
    struct delivery *deliveries;
    int64_t unsettled; /* of them, those that are not done */
    struct delivery *done;
    struct loop_task flush;
    size_t farewells;
    void (*stopped)(void *ctx);
    void *stopped_ctx;
};

static void connect_now(struct broker *b);

/* ---- deliveries ---- */

static struct delivery *delivery_new(struct broker *b, uint64_t number)
{
    struct delivery *d = b->unused;
    if (d) {
        LL_DELETE(b->unused, d);
    } else {
        d = xcalloc(1, sizeof(*d));
        b->slots = xreallocarray(b->slots, b->n_slots + 1, sizeof(struct delivery *));
        d->slot = b->n_slots;
        b->slots[b->n_slots++] = d;
    }
    d->number = number;
    d->done = false;
    DL_APPEND(b->deliveries, d);
    return d;
}

static void delivery_drop(struct broker *b, struct delivery *d)
{
    DL_DELETE(b->deliveries, d);
    d->number = 0;
    LL_PREPEND(b->unused, d);
}

static void drop_all(struct broker *b)
{
    struct delivery *d, *next;
    DL_FOREACH_SAFE (b->deliveries, d, next)
        delivery_drop(b, d);
    b->done = NULL;
    b->unsettled = 0;
    b->life++;
}

/* ---- the consumer ---- */

static void consume(struct broker *b)
{
    int64_t room = b->setup->config.prefetch - b->unsettled;
    amqp_basic_qos_t qos = {0, (uint16_t)room, 0};
    amqp_basic_consume_t m = {.queue = rabbit_bytes(b->setup->config.queue_name),
                              .consumer_tag = rabbit_bytes(CONSUMER_TAG)};
    if (room <= 0)
        return;
    rabbit_send(b->rabbit, CHANNEL, AMQP_BASIC_QOS_METHOD, &qos);
    rabbit_send(b->rabbit, CHANNEL, AMQP_BASIC_CONSUME_METHOD, &m);
    b->consumer = CONSUMING;
    b->limit = room;
}

static void cancel(struct broker *b)
{
    amqp_basic_cancel_t m = {rabbit_bytes(CONSUMER_TAG), 0};
    rabbit_send(b->rabbit, CHANNEL, AMQP_BASIC_CANCEL_METHOD, &m);
    b->consumer = CANCELLING;
}

/* A consumer that may have little, while there is room for twice that. */
static bool too_narrow(const struct broker *b)
{
    int64_t prefetch = b->setup->config.prefetch, room = prefetch - b->unsettled;
    return b->limit < prefetch && room > b->limit && (b->unsettled == 0 || room >= 2 * b->limit);
}

static bool too_wide(const struct broker *b)
{
    return b->limit > b->setup->config.prefetch;
}

static void look_at_consumer(struct broker *b)
{
    if (b->phase != READY)
        return;
    if (b->consumer == NONE && !b->paused)
        consume(b);
    else if (b->consumer == CONSUMING && (b->paused || too_narrow(b) || too_wide(b)))
        cancel(b);
}

/* ---- how it stands ---- */

static void on_farewell(void *ctx)
{
    struct broker *b = ctx;
    if (--b->farewells > 0 || b->phase != STOPPING)
        return;
    void (*stopped)(void *ctx) = b->stopped;
    void *stopped_ctx = b->stopped_ctx;
    for (uint32_t i = 0; i < b->n_slots; i++)
        free(b->slots[i]);
    free(b->slots);
    queue_setup_unref(b->setup);
    free(b);
    stopped(stopped_ctx);
}

static void hang_up(struct broker *b)
{
    drop_all(b);
    loop_task_cancel(b->env.loop, &b->flush);
    loop_timer_stop(b->env.loop, &b->timer);
    b->consumer = NONE;
    b->asked = false;
    b->lag = -1;
    b->farewells++;
    rabbit_close(steal(&b->rabbit), b->env.loop, on_farewell, b);
}

static void lost(struct broker *b, const char *reason, const struct error *err)
{
    hang_up(b);
    b->phase = WAITING;
    loop_timer_start(b->env.loop, &b->timer, queue_backoff_next(&b->backoff, b->env.random));
    queue_state(b->host, SOURCE_FAILED, reason, err->message);
}

static void ready(struct broker *b)
{
    if (b->phase != OPENING)
        return;
    b->phase = READY;
    queue_backoff_reset(&b->backoff);
    loop_timer_start(b->env.loop, &b->timer, LAG_MS);
    queue_state(b->host, SOURCE_CONNECTED, "Consuming", NULL);
    look_at_consumer(b); /* it may have been paused or resumed since */
}

static void declare(struct broker *b, bool make)
{
    struct error err = ERROR_INIT;
    const struct queue_config *c = &b->setup->config;
    void *memory = NULL;
    amqp_queue_declare_t m = {.queue = rabbit_bytes(c->queue_name), .passive = !make, .durable = make};
    if (make && c->queue_arguments)
        rabbit_from_json(c->queue_arguments, &m.arguments, &memory, &err); /* validate() saw to it that this works */
    rabbit_send(b->rabbit, CHANNEL, AMQP_QUEUE_DECLARE_METHOD, &m);
    free(memory);
}

static void on_timer(struct timer *timer, void *ctx)
{
    (void)timer;
    struct broker *b = ctx;
    struct error err = ERROR_INIT;
    if (b->phase == WAITING) {
        connect_now(b);
    } else if (b->phase == OPENING || b->asked) {
        error_set(&err, -ETIMEDOUT, "queue \"%s\" gives no answer", b->setup->config.queue_name);
        lost(b, "NoProgress", &err);
    } else {
        declare(b, false);
        b->asked = true;
        loop_timer_start(b->env.loop, &b->timer, QUEUE_SILENCE_MS);
    }
}

/* ---- what the server says ---- */

static void on_opened(void *ctx)
{
    struct broker *b = ctx;
    const struct queue_config *c = &b->setup->config;
    amqp_channel_open_t open = {rabbit_bytes("")};
    rabbit_send(b->rabbit, CHANNEL, AMQP_CHANNEL_OPEN_METHOD, &open);
    declare(b, c->declare);
    if (c->bind) {
        amqp_queue_bind_t bind = {.queue = rabbit_bytes(c->queue_name),
                                  .exchange = rabbit_bytes(c->bind->exchange),
                                  .routing_key = rabbit_bytes(c->bind->routing_key)};
        rabbit_send(b->rabbit, CHANNEL, AMQP_QUEUE_BIND_METHOD, &bind);
    }
    if (!b->paused) {
        consume(b);
    } else {
        amqp_basic_qos_t last = {0, (uint16_t)c->prefetch, 0};
        rabbit_send(b->rabbit, CHANNEL, AMQP_BASIC_QOS_METHOD, &last);
    }
    loop_timer_start(b->env.loop, &b->timer, QUEUE_SILENCE_MS);
}

static void on_counted(struct broker *b, const amqp_queue_declare_ok_t *m)
{
    b->lag = m->message_count;
    if (b->phase != READY)
        return;
    b->asked = false;
    loop_timer_start(b->env.loop, &b->timer, LAG_MS);
}

static void on_method(void *ctx, amqp_channel_t channel, const amqp_method_t *m)
{
    struct broker *b = ctx;
    struct error err = ERROR_INIT;
    if (channel != CHANNEL)
        return;
    switch (m->id) {
    case AMQP_QUEUE_DECLARE_OK_METHOD:
        on_counted(b, m->decoded);
        break;
    case AMQP_BASIC_QOS_OK_METHOD:
        if (b->consumer == NONE)
            ready(b);
        break;
    case AMQP_BASIC_CONSUME_OK_METHOD:
        ready(b);
        break;
    case AMQP_BASIC_CANCEL_OK_METHOD:
        b->consumer = NONE;
        look_at_consumer(b);
        break;
    case AMQP_BASIC_CANCEL_METHOD:
        error_set(&err, -ENOENT, "queue \"%s\" was deleted, or its server has trouble", b->setup->config.queue_name);
        lost(b, "QueueNotFound", &err);
        break;
    case AMQP_CHANNEL_CLOSE_METHOD: {
        const amqp_channel_close_t *c = m->decoded;
        const char *reason = rabbit_closed(c->reply_code, c->reply_text, &err);
        lost(b, reason, &err);
        break;
    }
    default:
        break;
    }
}

/* So often it was delivered: quorum queues say how often before; a first delivery is one anyway. */
static int64_t deliveries(const amqp_basic_deliver_t *m, const cJSON *headers)
{
    int64_t before;
    const cJSON *count = value_get(headers, "x-delivery-count");
    if (count && value_integer(count, &before))
        return before + 1;
    return m->redelivered ? 0 : 1;
}

/* NULL: it is not set, or no text. free() it. */
static char *text_of(const amqp_basic_properties_t *p, amqp_flags_t flag, amqp_bytes_t value)
{
    if (!(p->_flags & flag) || value.len == 0 || memchr(value.bytes, '\0', value.len) ||
        !utf8_valid(value.bytes, value.len))
        return NULL;
    return xstrndup(value.bytes, value.len);
}

static void on_content(void *ctx, amqp_channel_t channel, const amqp_method_t *m, const amqp_basic_properties_t *p,
                       const char *body, size_t len)
{
    struct broker *b = ctx;
    const amqp_basic_deliver_t *deliver = m->decoded;
    if (m->id != AMQP_BASIC_DELIVER_METHOD || channel != CHANNEL)
        return;
    struct delivery *d = delivery_new(b, deliver->delivery_tag);
    _cleanup_(freep) char *id = text_of(p, AMQP_BASIC_MESSAGE_ID_FLAG, p->message_id);
    cJSON *headers = p->_flags & AMQP_BASIC_HEADERS_FLAG ? rabbit_to_json(&p->headers) : NULL;
    struct queue_message message = {.body = body,
                                    .len = len,
                                    .queue = b->setup->config.queue_name,
                                    .headers = headers,
                                    .key = deliver->routing_key.bytes,
                                    .key_len = deliver->routing_key.len,
                                    .message_id = id,
                                    .identity = id,
                                    .deliveries = deliveries(deliver, headers)};
    if (p->_flags & AMQP_BASIC_TIMESTAMP_FLAG && p->timestamp <= (uint64_t)TIME_MAX_MS / 1000)
        message.timestamp_ms = (int64_t)p->timestamp * 1000;
    b->unsettled++;
    queue_delivered(b->host, (uint64_t)b->life << 32 | d->slot, &message);
}

static void on_ended(void *ctx, const char *reason, const struct error *err)
{
    lost(ctx, reason, err);
}

/* ---- what becomes of messages ---- */

static void send_ack(struct broker *b, uint64_t number, bool multiple)
{
    amqp_basic_ack_t m = {number, multiple};
    rabbit_send(b->rabbit, CHANNEL, AMQP_BASIC_ACK_METHOD, &m);
}

/* One for all that are done up to the first that is not; the others each. */
static void on_flush(void *ctx)
{
    struct broker *b = ctx;
    struct delivery *d, *next, *first = b->deliveries;
    uint64_t upto = 0;
    size_t n = 0;
    for (d = first; d && d->done; d = d->next, n++)
        upto = d->number;
    if (n > 0)
        send_ack(b, upto, n > 1);
    for (d = b->done; d; d = next) {
        next = d->next_done;
        if (d->number > upto)
            send_ack(b, d->number, false);
        delivery_drop(b, d);
    }
    b->done = NULL;
}

static void rabbitmq_settle(struct broker *b, uint64_t tag, enum queue_settlement how)
{
    uint32_t slot = (uint32_t)tag;
    struct delivery *d = slot < b->n_slots ? b->slots[slot] : NULL;
    if (tag >> 32 != b->life || !d || d->number == 0 || d->done || !b->rabbit)
        return; /* its connection is gone, and the server has it again */
    b->unsettled--;
    if (how == QUEUE_DONE) {
        d->done = true;
        LL_PREPEND2(b->done, d, next_done);
        loop_defer(b->env.loop, &b->flush);
    } else {
        amqp_basic_nack_t m = {d->number, 0, how != QUEUE_DEAD_LETTER};
        rabbit_send(b->rabbit, CHANNEL, AMQP_BASIC_NACK_METHOD, &m);
        delivery_drop(b, d);
    }
    look_at_consumer(b);
}

/* ---- its life ---- */

static void connect_now(struct broker *b)
{
    static const struct rabbit_events events = {on_opened, on_method, on_content, NULL, on_ended};
    b->phase = OPENING;
    loop_timer_stop(b->env.loop, &b->timer);
    b->rabbit = rabbit_open(&b->env, b->setup, "consume", &events, b);
}

static int rabbitmq_create(struct queue_consumer *host, const struct queue_env *env, struct queue_setup *setup,
                           struct broker **ret, struct error *err)
{
    if (strlen(setup->config.queue_name) > NAME_MAX_BYTES) /* it was a reference */
        return error_set(err, -EINVAL, "queue_name: a queue of RabbitMQ has a name of at most %d bytes",
                         NAME_MAX_BYTES);
    struct broker *b = xcalloc(1, sizeof(*b));
    b->host = host;
    b->env = *env;
    b->setup = queue_setup_ref(setup);
    b->life = 1;
    b->lag = -1;
    timer_init(&b->timer, on_timer, b);
    loop_task_init(&b->flush, on_flush, b);
    *ret = b;
    return 0;
}

static void rabbitmq_start(struct broker *b)
{
    connect_now(b);
}

static void rabbitmq_stop(struct broker *b, void (*done)(void *ctx), void *ctx)
{
    if (loop_task_waiting(&b->flush))
        on_flush(b);
    b->phase = STOPPING;
    b->stopped = done;
    b->stopped_ctx = ctx;
    hang_up(b);
}

static void rabbitmq_pause(struct broker *b)
{
    b->paused = true;
    look_at_consumer(b);
}

static void rabbitmq_resume(struct broker *b)
{
    b->paused = false;
    if (b->phase == WAITING)
        connect_now(b);
    look_at_consumer(b);
}

static void rabbitmq_update(struct broker *b, struct queue_setup *setup)
{
    bool more = setup->config.prefetch > b->setup->config.prefetch;
    queue_setup_replace(&b->setup, setup);
    if (more && b->phase == READY && b->consumer == CONSUMING && setup->config.prefetch > b->unsettled)
        cancel(b); /* and then all that there is room for */
    else
        look_at_consumer(b);
}

static int64_t rabbitmq_lag(const struct broker *b)
{
    return b->lag;
}

static void rabbitmq_validate(const struct queue_config *c, const cJSON *node, const char *path, struct issues *issues)
{
    char at[FIELD_PATH_MAX];
    struct error err = ERROR_INIT;
    amqp_table_t table;
    void *memory = NULL;
    if (c->queue_name && strlen(c->queue_name) > NAME_MAX_BYTES)
        issue_add(issues, field_path(at, path, "queue_name"), value_get(node, "queue_name"),
                  "a queue of RabbitMQ has a name of at most %d bytes", NAME_MAX_BYTES);
    if (cJSON_IsObject(c->queue_arguments) && rabbit_from_json(c->queue_arguments, &table, &memory, &err) < 0)
        issue_add(issues, field_path(at, path, "queue_arguments"), value_get(node, "queue_arguments"), "%s",
                  err.message);
    free(memory);
}

const struct broker_type broker_rabbitmq = {
    .type = QUEUE_RABBITMQ,
    .validate = rabbitmq_validate,
    .create = rabbitmq_create,
    .start = rabbitmq_start,
    .stop = rabbitmq_stop,
    .pause = rabbitmq_pause,
    .resume = rabbitmq_resume,
    .update = rabbitmq_update,
    .settle = rabbitmq_settle,
    .lag = rabbitmq_lag,
};
