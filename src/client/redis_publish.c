/* Publishing to Redis: RPUSH to a list, XADD to a stream (fields `body`, and `traceparent` where there is one), PUBLISH to
 * a channel. The server's answer is the confirmation. One connection for all who have the same key. */
#include "base/loop.h"
#include "client/redis.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <uthash.h>
#include <utlist.h>

struct line { /* one connection */
    struct queue_publisher *publisher;
    char *key;
    struct redis *redis;
    struct queue_publish *waiting, *sent; /* utlists, oldest first */
    struct timer kept;
    UT_hash_handle hh;
};

struct queue_publish {
    struct line *line;
    bool is_sent;
    int mode;
    char *queue, *body, *traceparent;
    size_t len;
    queue_published_fn *done; /* NULL: cancelled */
    void *ctx;
    struct queue_publish *prev, *next;
};

struct queue_publisher {
    struct queue_env env;
    struct line *lines; /* a uthash */
    struct loop_task closed;
    void (*done)(void *ctx);
    void *ctx;
};

static void publish_free(struct queue_publish *q)
{
    free(q->queue);
    free(q->body);
    free(q->traceparent);
    free(q);
}

static void publish_done(struct queue_publish *q, int result, const char *message)
{
    queue_published_fn *done = q->done;
    void *ctx = q->ctx;
    publish_free(q);
    if (done)
        done(ctx, result, message);
}

/* ---- a connection ---- */

/* Nobody finds it any more; what it has is the caller's to tell. */
static void line_close(struct line *l)
{
    loop_timer_stop(l->publisher->env.loop, &l->kept);
    HASH_DEL(l->publisher->lines, l);
    redis_close(steal(&l->redis));
}

static void line_free(struct line *l)
{
    free(l->key);
    free(l);
}

static void on_kept(struct timer *timer, void *ctx)
{
    (void)timer;
    line_close(ctx);
    line_free(ctx);
}

static void keep(struct line *l)
{
    if (l->redis && !l->waiting && !l->sent)
        loop_timer_start(l->publisher->env.loop, &l->kept, QUEUE_KEPT_MS);
}

static void on_ended(void *ctx, int code, const char *reason, const char *message)
{
    struct line *l = ctx;
    struct queue_publish *q, *next;
    _cleanup_(freep) char *text = xstrdup(message);
    (void)reason;
    line_close(l);
    DL_CONCAT(l->sent, l->waiting);
    DL_FOREACH (l->sent, q)
        q->is_sent = true; /* who cancels meanwhile leaves them where they are */
    DL_FOREACH_SAFE (l->sent, q, next)
        publish_done(q, code, text);
    line_free(l);
}

static void on_published(void *ctx, redisReply **reply)
{
    struct line *l = ctx;
    struct queue_publish *q = l->sent;
    DL_DELETE(l->sent, q);
    keep(l);
    if (redis_is_error(*reply))
        publish_done(q, redis_error_code(*reply, NULL), (*reply)->str);
    else
        publish_done(q, 0, NULL);
}

static void send_one(struct line *l, struct queue_publish *q)
{
    static const char *const commands[] = {[REDIS_LIST] = "RPUSH", [REDIS_PUBSUB] = "PUBLISH", [REDIS_STREAM] = "XADD"};
    struct redis_arg args[7] = {REDIS_ARG(commands[q->mode]), REDIS_ARG(q->queue)};
    size_t n = 2;
    if (q->mode == REDIS_STREAM) {
        args[n++] = REDIS_ARG("*");
        if (q->traceparent) {
            args[n++] = REDIS_ARG("traceparent");
            args[n++] = REDIS_ARG(q->traceparent);
        }
        args[n++] = REDIS_ARG("body");
    }
    args[n++] = (struct redis_arg){q->body, q->len};
    redis_command(l->redis, on_published, l, REDIS_PATIENCE_MS, n, args);
    q->is_sent = true;
    DL_APPEND(l->sent, q);
}

static void on_ready(void *ctx)
{
    struct line *l = ctx;
    struct queue_publish *q;
    while ((q = l->waiting)) {
        DL_DELETE(l->waiting, q);
        send_one(l, q);
    }
}

static struct line *line_get(struct queue_publisher *p, struct queue_setup *setup, const char *key)
{
    static const struct redis_events events = {.ready = on_ready, .ended = on_ended};
    struct line *l;
    HASH_FIND_STR(p->lines, key, l);
    if (l)
        return l;
    l = xcalloc(1, sizeof(*l));
    *l = (struct line){.publisher = p, .key = xstrdup(key)};
    timer_init(&l->kept, on_kept, l);
    l->redis = redis_open(&p->env, setup, "publish", &events, l);
    HASH_ADD_KEYPTR(hh, p->lines, l->key, strlen(l->key), l);
    return l;
}

/* ---- the type ---- */

static struct queue_publish *redis_send(struct queue_publisher *p, struct queue_setup *setup, const char *key,
                                        const struct queue_outgoing *m, queue_published_fn *done, void *ctx)
{
    struct line *l = line_get(p, setup, key);
    struct queue_publish *q = xcalloc(1, sizeof(*q));
    *q = (struct queue_publish){.line = l,
                                .mode = setup->config.redis_mode,
                                .queue = xstrdup(m->queue),
                                .body = xmemdup(m->body, m->len),
                                .len = m->len,
                                .traceparent = xstrdup0(m->traceparent),
                                .done = done,
                                .ctx = ctx};
    loop_timer_stop(p->env.loop, &l->kept);
    if (redis_is_ready(l->redis))
        send_one(l, q);
    else
        DL_APPEND(l->waiting, q);
    return q;
}

static void redis_cancel(struct queue_publish *q)
{
    struct line *l = q->line;
    q->done = NULL;
    if (q->is_sent)
        return; /* its answer is still to come */
    DL_DELETE(l->waiting, q);
    publish_free(q);
    keep(l);
}

static struct queue_publisher *redis_create(const struct queue_env *env)
{
    struct queue_publisher *p = xcalloc(1, sizeof(*p));
    p->env = *env;
    return p;
}

static void on_closed(void *ctx)
{
    struct queue_publisher *p = ctx;
    void (*done)(void *ctx) = p->done;
    void *done_ctx = p->ctx;
    free(p);
    done(done_ctx);
}

static void redis_close_all(struct queue_publisher *p, void (*done)(void *ctx), void *ctx)
{
    struct line *l, *next_line;
    struct queue_publish *q, *next;
    HASH_ITER (hh, p->lines, l, next_line) {
        line_close(l);
        DL_FOREACH_SAFE (l->sent, q, next)
            publish_free(q);
        DL_FOREACH_SAFE (l->waiting, q, next)
            publish_free(q);
        line_free(l);
    }
    p->done = done;
    p->ctx = ctx;
    loop_task_init(&p->closed, on_closed, p);
    loop_defer(p->env.loop, &p->closed);
}

const struct queue_publisher_type redis_publisher = {
    .type = QUEUE_REDIS,
    .create = redis_create,
    .close = redis_close_all,
    .send = redis_send,
    .cancel = redis_cancel,
};
