/* Channels. There is nothing to acknowledge: what is published while nobody is connected is gone. What is published while
 * we take nothing waits in the server's buffer for the connection, up to its client-output-buffer-limit; after HELD_MS of
 * that the connection is given up until it is wanted again. */
#include "source/broker_redis.h"

#define PING_MS 4000
#define HELD_MS 30000

static void on_pong(void *ctx, redisReply **reply)
{
    struct broker *b = ctx;
    if (redis_is_error(*reply))
        redis_fail(b->reader, *reply, "PING");
}

/* ---- holding ---- */

static void hold(struct broker *b)
{
    struct redis_pubsub *p = &b->pubsub;
    bool held = b->paused || p->n_held >= (size_t)b->setup->config.prefetch;
    if (!held)
        broker_reopen(b);
    if (b->state != BROKER_UP || held == p->held)
        return;
    p->held = held;
    redis_hold(b->reader, held);
    loop_timer_start(b->env.loop, &p->tick, held ? HELD_MS : PING_MS);
}

static void on_tick(struct timer *timer, void *ctx)
{
    struct broker *b = ctx;
    if (b->pubsub.held) {
        broker_rest(b);
        return;
    }
    redis_say(b->reader, on_pong, b, "PING");
    loop_timer_start(b->env.loop, timer, PING_MS);
}

/* ---- messages ---- */

/* `message CHANNEL BODY`, `pmessage PATTERN CHANNEL BODY` */
void redis_pubsub_message(struct broker *b, const redisReply *message)
{
    struct redis_pubsub *p = &b->pubsub;
    const redisReply *channel = message->element[message->elements - 2];
    const redisReply *body = message->element[message->elements - 1];
    if (b->state != BROKER_UP || channel->type != REDIS_REPLY_STRING || body->type != REDIS_REPLY_STRING)
        return;
    struct queue_message m = {.body = body->str, .len = body->len, .queue = channel->str};
    p->n_held++;
    queue_delivered(b->host, ++p->tag, &m);
    hold(b);
}

static void pubsub_settle(struct broker *b, uint64_t tag, enum queue_settlement how)
{
    (void)tag;
    (void)how;
    b->pubsub.n_held--;
    hold(b);
}

/* ---- life ---- */

static void on_subscribed(void *ctx, redisReply **reply)
{
    struct broker *b = ctx;
    const char *queue = b->setup->config.queue_name;
    if (redis_is_error(*reply)) {
        redis_fail(b->reader, *reply, queue);
        return;
    }
    _cleanup_(freep) char *message =
        xasprintf("subscribed to %s; what is published while it is not connected is lost (at most once)", queue);
    loop_timer_start(b->env.loop, &b->pubsub.tick, PING_MS);
    broker_up(b, message);
    hold(b);
}

static void pubsub_connected(struct broker *b)
{
    redis_say(b->reader, on_subscribed, b, b->setup->config.pattern ? "PSUBSCRIBE" : "SUBSCRIBE",
              b->setup->config.queue_name);
}

static void pubsub_lost(struct broker *b)
{
    b->pubsub.held = false;
    loop_timer_stop(b->env.loop, &b->pubsub.tick);
}

static void pubsub_update(struct broker *b, const struct queue_setup *before)
{
    (void)before;
    hold(b);
}

static void pubsub_init(struct broker *b)
{
    timer_init(&b->pubsub.tick, on_tick, b);
}

static void pubsub_fini(struct broker *b)
{
    (void)b;
}

const struct redis_mode_ops redis_pubsub_ops = {
    .init = pubsub_init,
    .fini = pubsub_fini,
    .connected = pubsub_connected,
    .lost = pubsub_lost,
    .pump = hold,
    .pause = hold,
    .update = pubsub_update,
    .settle = pubsub_settle,
    .stop = broker_stopped,
};
