#include "source/broker_redis.h"

#include <inttypes.h>
#include <stdio.h>

#define WORKED_MS 1000 /* so long, and a loss is no reason to wait */
#define TELL_MS 1000   /* a connection that is not back by then is told to be lost */
#define STOP_MS 2000   /* what cannot be given back by then is found at the next start */

static void open_connections(struct broker *b);

/* ---- ids of entries ---- */

struct redis_entry_id redis_entry_parse(const char *text)
{
    char *end;
    struct redis_entry_id id = {.ms = strtoull(text, &end, 10)};
    id.seq = *end == '-' ? strtoull(end + 1, NULL, 10) : 0;
    return id;
}

bool redis_entry_before(const char *a, const char *b)
{
    struct redis_entry_id x = redis_entry_parse(a), y = redis_entry_parse(b);
    return x.ms < y.ms || (x.ms == y.ms && x.seq < y.seq);
}

/* ---- connections ---- */

static void close_connections(struct broker *b)
{
    redis_close(steal(&b->reader));
    redis_close(steal(&b->writer));
}

static void tell_loss(struct broker *b)
{
    _cleanup_(freep) char *message = steal(&b->loss);
    loop_timer_stop(b->env.loop, &b->late);
    if (message)
        queue_state(b->host, SOURCE_FAILED, b->loss_reason, message);
}

static void note_loss(struct broker *b, const char *reason, const char *message)
{
    free(b->loss);
    b->loss = xstrdup(message);
    b->loss_reason = reason;
}

static void close_now(struct broker *b)
{
    b->state = BROKER_CLOSED;
    loop_timer_stop(b->env.loop, &b->retry);
    loop_timer_stop(b->env.loop, &b->late);
    loop_timer_stop(b->env.loop, &b->stop_timer);
    loop_task_cancel(b->env.loop, &b->pump);
    close_connections(b);
    b->ops->lost(b);
    loop_defer(b->env.loop, &b->gone);
}

static void lost(struct broker *b, const char *reason, const char *message)
{
    struct loop *loop = b->env.loop;
    bool worked = b->state == BROKER_UP && loop_now_ms(loop) - b->up_ms >= WORKED_MS;
    bool connected = b->state == BROKER_UP || b->state == BROKER_RECOVERING;
    close_connections(b);
    if (b->state == BROKER_STOPPING) {
        close_now(b);
        return;
    }
    if (connected)
        b->ops->lost(b);
    note_loss(b, reason, message);
    if (worked) {
        queue_backoff_reset(&b->backoff);
        loop_timer_start(loop, &b->late, TELL_MS);
        open_connections(b);
        return;
    }
    tell_loss(b);
    b->state = BROKER_WAITING;
    loop_timer_start(loop, &b->retry, queue_backoff_next(&b->backoff, b->env.random));
}

static void on_ended(void *ctx, int code, const char *reason, const char *message)
{
    (void)code;
    lost(ctx, reason, message);
}

static void on_ready(void *ctx)
{
    struct broker *b = ctx;
    if (b->state != BROKER_CONNECTING || !redis_is_ready(b->reader) || (b->ops->writer && !redis_is_ready(b->writer)))
        return;
    b->state = BROKER_RECOVERING;
    b->ops->connected(b);
}

static void on_message(void *ctx, redisReply **reply);

static void open_connections(struct broker *b)
{
    static const struct redis_events events = {.ready = on_ready, .ended = on_ended};
    static const struct redis_events subscriber = {.ready = on_ready, .ended = on_ended, .message = on_message};
    b->state = BROKER_CONNECTING;
    b->reader = redis_open(&b->env, b->setup, "read", b->ops->writer ? &events : &subscriber, b);
    if (b->ops->writer)
        b->writer = redis_open(&b->env, b->setup, "write", &events, b);
}

static void on_message(void *ctx, redisReply **reply)
{
    redis_pubsub_message(ctx, *reply);
}

static void on_retry(struct timer *timer, void *ctx)
{
    (void)timer;
    open_connections(ctx);
}

static void on_late(struct timer *timer, void *ctx)
{
    (void)timer;
    tell_loss(ctx);
}

void broker_up(struct broker *b, const char *message)
{
    b->state = BROKER_UP;
    b->up_ms = loop_now_ms(b->env.loop);
    free(steal(&b->loss));
    loop_timer_stop(b->env.loop, &b->late);
    queue_state(b->host, SOURCE_CONNECTED, "Connected", message);
    broker_pump(b);
}

static void on_pump(void *ctx)
{
    struct broker *b = ctx;
    if (b->state == BROKER_UP && !b->paused)
        b->ops->pump(b);
}

void broker_pump(struct broker *b)
{
    if (b->state == BROKER_UP && !b->paused)
        loop_defer(b->env.loop, &b->pump);
}

void broker_rest(struct broker *b)
{
    close_connections(b);
    b->ops->lost(b);
    b->state = BROKER_RESTING;
}

void broker_reopen(struct broker *b)
{
    if (b->state != BROKER_WAITING && b->state != BROKER_RESTING)
        return;
    loop_timer_stop(b->env.loop, &b->retry);
    open_connections(b);
}

void broker_unblock(struct broker *b)
{
    char id[24];
    if (!redis_is_ready(b->writer) || !b->reader || redis_client_id(b->reader) == 0)
        return;
    snprintf(id, sizeof(id), "%" PRId64, redis_client_id(b->reader));
    redis_say(b->writer, NULL, NULL, "CLIENT", "UNBLOCK", id);
}

/* ---- the type ---- */

static void on_gone(void *ctx)
{
    struct broker *b = ctx;
    void (*stopped)(void *ctx) = b->stopped;
    void *stopped_ctx = b->stopped_ctx;
    b->ops->fini(b);
    queue_setup_unref(b->setup);
    free(b->loss);
    free(b);
    stopped(stopped_ctx);
}

static void on_stop_timer(struct timer *timer, void *ctx)
{
    (void)timer;
    close_now(ctx);
}

static int redis_create(struct queue_consumer *host, const struct queue_env *env, struct queue_setup *setup,
                        struct broker **ret, struct error *err)
{
    static const struct redis_mode_ops *const modes[] = {
        [REDIS_LIST] = &redis_list_ops,
        [REDIS_PUBSUB] = &redis_pubsub_ops,
        [REDIS_STREAM] = &redis_stream_ops,
    };
    (void)err;
    struct broker *b = xcalloc(1, sizeof(*b));
    b->host = host;
    b->env = *env;
    b->setup = queue_setup_ref(setup);
    b->ops = modes[setup->config.redis_mode];
    timer_init(&b->retry, on_retry, b);
    timer_init(&b->late, on_late, b);
    timer_init(&b->stop_timer, on_stop_timer, b);
    loop_task_init(&b->pump, on_pump, b);
    loop_task_init(&b->gone, on_gone, b);
    b->ops->init(b);
    *ret = b;
    return 0;
}

static void redis_start(struct broker *b)
{
    if (b->state == BROKER_IDLE)
        open_connections(b);
}

static void redis_stop(struct broker *b, void (*done)(void *ctx), void *ctx)
{
    b->stopped = done;
    b->stopped_ctx = ctx;
    if (b->state != BROKER_UP) {
        close_now(b);
        return;
    }
    b->state = BROKER_STOPPING;
    loop_timer_start(b->env.loop, &b->stop_timer, STOP_MS);
    b->ops->stop(b);
}

void broker_stopped(struct broker *b)
{
    if (b->state == BROKER_STOPPING)
        close_now(b);
}

static void redis_pause(struct broker *b)
{
    if (b->paused)
        return;
    b->paused = true;
    if (b->state == BROKER_UP)
        b->ops->pause(b);
}

static void redis_resume(struct broker *b)
{
    b->paused = false;
    broker_reopen(b);
    broker_pump(b);
}

static void redis_update(struct broker *b, struct queue_setup *setup)
{
    struct queue_setup *before = queue_setup_ref(b->setup);
    queue_setup_replace(&b->setup, setup);
    if (b->ops->update)
        b->ops->update(b, before);
    queue_setup_unref(before);
    broker_pump(b);
}

static void redis_settle(struct broker *b, uint64_t tag, enum queue_settlement how)
{
    b->ops->settle(b, tag, how);
}

static int64_t redis_lag(const struct broker *b)
{
    if (b->ops == &redis_list_ops)
        return b->list.lag;
    return b->ops == &redis_stream_ops ? b->stream.lag : -1;
}

const struct broker_type broker_redis = {
    .type = QUEUE_REDIS,
    .create = redis_create,
    .start = redis_start,
    .stop = redis_stop,
    .pause = redis_pause,
    .resume = redis_resume,
    .update = redis_update,
    .settle = redis_settle,
    .lag = redis_lag,
};
