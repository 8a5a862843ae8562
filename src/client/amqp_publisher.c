/* Publishing to RabbitMQ: one connection a key, on it one channel an exchange.
 *
 * A channel that fails (no such exchange, no right to write there) takes along what it carried, all of it for the same
 * exchange. On each, publisher confirms are on, and messages are mandatory: one that no queue takes comes back before
 * it is confirmed.
 */
#include "base/loop.h"
#include "client/amqp.h"

#include <errno.h>
#include <inttypes.h>
#include <uthash.h>
#include <utlist.h>

#define LANES_MAX 32 /* from there on an idle one is closed for a new one */
#define LANES_END 64 /* channel numbers below that */

struct queue_publish {
    struct link *link; /* NULL: it is told next */
    struct lane *lane; /* NULL: not sent yet */
    uint64_t sequence; /* on its lane */
    bool returned;
    char *queue; /* NULL: an exchange was given */
    char *exchange, *routing_key, *message_id, *body;
    size_t len;
    cJSON *headers;
    queue_published_fn *done; /* NULL: cancelled */
    void *ctx;
    int result;
    char *message;
    struct queue_publisher *publisher;
    struct queue_publish *prev, *next; /* in one of waiting, flying, ended */
};

struct lane {
    amqp_channel_t number; /* 0: free */
    bool closing;
    char *exchange;
    uint64_t sequence;
    struct queue_publish *flying; /* in the order of their sequences */
};

/* A connection. */
struct link {
    struct queue_publisher *publisher;
    char *key;
    struct queue_setup *setup;
    struct rabbit *rabbit;
    bool open;
    struct queue_publish *waiting; /* for it to be open, or for the pump */
    size_t under_way;
    struct lane lanes[LANES_END]; /* by number */
    struct timer idle;
    struct loop_task pump;
    UT_hash_handle hh;
};

struct queue_publisher {
    struct queue_env env;
    struct link *links;
    struct queue_publish *ended; /* to be told */
    struct loop_task tell;
    size_t farewells;
    bool closing;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

/* ---- one message ---- */

static void publish_free(struct queue_publish *q)
{
    free(q->queue);
    free(q->exchange);
    free(q->routing_key);
    free(q->message_id);
    secret_free(q->body);
    cJSON_Delete(q->headers);
    free(q->message);
    free(q);
}

/* It is in no list any more; told by a task. */
static void ended(struct queue_publish *q, int result, const char *message)
{
    struct link *l = steal(&q->link);
    struct queue_publisher *p = q->publisher;
    if (--l->under_way == 0)
        loop_timer_start(p->env.loop, &l->idle, QUEUE_KEPT_MS);
    if (!q->done) {
        publish_free(q);
        return;
    }
    q->result = result;
    q->message = xstrdup0(message);
    mask_string(l->setup->mask, &q->message);
    DL_APPEND(p->ended, q);
    loop_defer(p->env.loop, &p->tell);
}

static void end_all(struct queue_publish **list, int result, const char *message)
{
    while (*list) {
        struct queue_publish *q = *list;
        DL_DELETE(*list, q);
        ended(q, result, message);
    }
}

static void on_tell(void *ctx)
{
    struct queue_publisher *p = ctx;
    while (p->ended) {
        struct queue_publish *q = p->ended;
        DL_DELETE(p->ended, q);
        q->done(q->ctx, q->result, q->message);
        publish_free(q);
    }
}

/* ---- a connection ---- */

static void lane_fini(struct lane *lane)
{
    free(lane->exchange);
    *lane = (struct lane){0};
}

static void fail_lane(struct lane *lane, const struct error *err)
{
    end_all(&lane->flying, err->code, err->message);
    lane_fini(lane);
}

static void on_farewell(void *ctx)
{
    struct queue_publisher *p = ctx;
    if (--p->farewells > 0 || !p->closing)
        return;
    void (*closed)(void *ctx) = p->closed;
    void *closed_ctx = p->closed_ctx;
    free(p);
    closed(closed_ctx);
}

static void close_link(struct link *l, const struct error *err)
{
    struct queue_publisher *p = l->publisher;
    end_all(&l->waiting, err->code, err->message);
    for (size_t i = 1; i < LANES_END; i++)
        fail_lane(&l->lanes[i], err);
    HASH_DEL(p->links, l);
    p->farewells++;
    rabbit_close(l->rabbit, p->env.loop, on_farewell, p);
    loop_timer_stop(p->env.loop, &l->idle);
    loop_task_cancel(p->env.loop, &l->pump);
    queue_setup_unref(l->setup);
    secret_free(l->key);
    free(l);
}

static void on_idle(struct timer *timer, void *ctx)
{
    (void)timer;
    const struct error none = ERROR_INIT;
    close_link(ctx, &none);
}

/* Closes an idle one where there are many; its number is free when that is answered. */
static void make_room(struct link *l)
{
    amqp_channel_close_t bye = {AMQP_REPLY_SUCCESS, rabbit_bytes("bye"), 0, 0};
    struct lane *idle = NULL;
    size_t used = 0;
    for (size_t i = 1; i < LANES_END; i++) {
        struct lane *lane = &l->lanes[i];
        used += lane->number != 0 && !lane->closing;
        if (lane->number != 0 && !lane->closing && !lane->flying)
            idle = lane;
    }
    if (!idle || used < LANES_MAX)
        return;
    idle->closing = true;
    rabbit_send(l->rabbit, idle->number, AMQP_CHANNEL_CLOSE_METHOD, &bye);
}

/* NULL: there are none left. */
static struct lane *open_lane(struct link *l, const char *exchange)
{
    struct lane *unused = NULL;
    amqp_channel_open_t open = {rabbit_bytes("")};
    amqp_confirm_select_t confirm = {0};
    for (size_t i = 1; i < LANES_END; i++) {
        struct lane *lane = &l->lanes[i];
        if (lane->number == 0)
            unused = unused ? unused : lane;
        else if (!lane->closing && streq(lane->exchange, exchange))
            return lane;
    }
    make_room(l);
    if (!unused)
        return NULL;
    *unused = (struct lane){.number = (amqp_channel_t)(unused - l->lanes), .exchange = xstrdup(exchange)};
    rabbit_send(l->rabbit, unused->number, AMQP_CHANNEL_OPEN_METHOD, &open);
    rabbit_send(l->rabbit, unused->number, AMQP_CONFIRM_SELECT_METHOD, &confirm);
    return unused;
}

static int send_message(struct queue_publish *q, struct lane *lane)
{
    struct rabbit *r = q->link->rabbit;
    void *memory = NULL;
    struct error err = ERROR_INIT;
    amqp_basic_publish_t m = {0, rabbit_bytes(q->exchange), rabbit_bytes(q->routing_key), 1, 0};
    amqp_basic_properties_t p = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_TIMESTAMP_FLAG};
    p.delivery_mode = AMQP_DELIVERY_PERSISTENT;
    p.timestamp = (uint64_t)(clock_realtime_ms(q->publisher->env.clock) / 1000);
    if (q->message_id) {
        p._flags |= AMQP_BASIC_MESSAGE_ID_FLAG;
        p.message_id = rabbit_bytes(q->message_id);
    }
    if (q->headers && rabbit_from_json(q->headers, &p.headers, &memory, &err) < 0)
        return -EMSGSIZE;
    if (q->headers)
        p._flags |= AMQP_BASIC_HEADERS_FLAG;
    int e = rabbit_publish(r, lane->number, &m, &p, q->body, q->len);
    free(memory);
    return e;
}

static void put(struct link *l, struct queue_publish *q)
{
    struct lane *lane = open_lane(l, q->exchange);
    if (!lane) {
        ended(q, -EBUSY, "messages for too many exchanges are under way at once");
    } else if (send_message(q, lane) < 0) {
        ended(q, -EMSGSIZE, "a name or message_id of more than 255 bytes, or headers that are too large");
    } else {
        DL_APPEND(lane->flying, q);
        q->lane = lane;
        q->sequence = ++lane->sequence;
        secret_free(steal(&q->body));
    }
}

static void on_pump(void *ctx)
{
    struct link *l = ctx;
    while (l->waiting) {
        struct queue_publish *q = l->waiting;
        DL_DELETE(l->waiting, q);
        put(l, q);
    }
}

static void on_opened(void *ctx)
{
    struct link *l = ctx;
    l->open = true;
    on_pump(l);
}

static void settle(struct queue_publish *q, bool taken)
{
    char *why = NULL;
    if (q->returned && q->queue)
        why = xasprintf("there is no queue \"%s\"", q->queue);
    else if (q->returned)
        why = xasprintf("exchange \"%s\" leads to no queue for the routing key \"%s\"", q->exchange, q->routing_key);
    else if (!taken)
        why = xasprintf("the queue did not take the message: it is full, or its server has trouble");
    DL_DELETE(q->lane->flying, q);
    ended(q, q->returned ? -ENOENT : taken ? 0 : -EIO, why);
    free(why);
}

static void on_confirmed(struct lane *lane, uint64_t tag, bool multiple, bool taken)
{
    struct queue_publish *q, *next;
    DL_FOREACH_SAFE (lane->flying, q, next) {
        if (q->sequence > tag)
            break;
        if (multiple || q->sequence == tag)
            settle(q, taken);
    }
}

static void on_method(void *ctx, amqp_channel_t channel, const amqp_method_t *m)
{
    struct link *l = ctx;
    struct lane *lane = &l->lanes[channel];
    struct error err = ERROR_INIT;
    if (m->id == AMQP_BASIC_ACK_METHOD) {
        const amqp_basic_ack_t *a = m->decoded;
        on_confirmed(lane, a->delivery_tag, a->multiple, true);
    } else if (m->id == AMQP_BASIC_NACK_METHOD) {
        const amqp_basic_nack_t *n = m->decoded;
        on_confirmed(lane, n->delivery_tag, n->multiple, false);
    } else if (m->id == AMQP_CHANNEL_CLOSE_METHOD && !lane->closing) {
        const amqp_channel_close_t *c = m->decoded;
        rabbit_closed(c->reply_code, c->reply_text, &err);
        fail_lane(lane, &err);
    } else if (m->id == AMQP_CHANNEL_CLOSE_OK_METHOD) {
        lane_fini(lane);
    }
}

static bool bytes_are(amqp_bytes_t b, const char *text)
{
    return b.len == strlen(text) && memcmp(b.bytes, text, b.len) == 0;
}

/* Of several that look alike the oldest: what becomes of one becomes of the others. */
static void on_content(void *ctx, amqp_channel_t channel, const amqp_method_t *m, const amqp_basic_properties_t *p,
                       const char *body, size_t len)
{
    (void)body, (void)len;
    struct link *l = ctx;
    struct queue_publish *q;
    const amqp_basic_return_t *ret = m->decoded;
    if (m->id != AMQP_BASIC_RETURN_METHOD)
        return;
    bool has_id = p->_flags & AMQP_BASIC_MESSAGE_ID_FLAG;
    DL_FOREACH (l->lanes[channel].flying, q) {
        if (!q->returned && bytes_are(ret->routing_key, q->routing_key) && has_id == (q->message_id != NULL) &&
            (!has_id || bytes_are(p->message_id, q->message_id))) {
            q->returned = true;
            return;
        }
    }
}

/* What waits in the broker's socket would be published when its step has long failed: so it is not left there. */
static void on_blocked(void *ctx, const char *why)
{
    struct error err = ERROR_INIT;
    if (!why)
        return;
    error_set(&err, -EBUSY, "RabbitMQ takes no messages now: %s", why);
    close_link(ctx, &err);
}

static void on_ended(void *ctx, const char *reason, const struct error *err)
{
    (void)reason;
    close_link(ctx, err);
}

static const struct rabbit_events events = {on_opened, on_method, on_content, on_blocked, on_ended};

/* ---- the publisher ---- */

static struct link *link_for(struct queue_publisher *p, struct queue_setup *setup, const char *key)
{
    struct link *l;
    HASH_FIND_STR(p->links, key, l);
    if (l)
        return l;
    l = xcalloc(1, sizeof(*l));
    l->publisher = p;
    l->key = xstrdup(key);
    l->setup = queue_setup_ref(setup);
    timer_init(&l->idle, on_idle, l);
    loop_task_init(&l->pump, on_pump, l);
    HASH_ADD_KEYPTR(hh, p->links, l->key, strlen(l->key), l);
    l->rabbit = rabbit_open(&p->env, setup, "publish", &events, l);
    return l;
}

static cJSON *headers_of(const struct queue_outgoing *m)
{
    cJSON *o = m->headers ? cJSON_Duplicate(m->headers, true) : NULL;
    if (m->traceparent && !(o && value_get(o, "traceparent"))) {
        o = o ? o : cJSON_CreateObject();
        value_set(o, "traceparent", value_string(m->traceparent));
    }
    return o;
}

static struct queue_publish *publisher_send(struct queue_publisher *p, struct queue_setup *setup,
                                            const char *connection_key, const struct queue_outgoing *m,
                                            queue_published_fn *done, void *ctx)
{
    struct queue_publish *q = xcalloc(1, sizeof(*q));
    struct link *l = link_for(p, setup, connection_key);
    q->publisher = p;
    q->link = l;
    q->queue = xstrdup0(m->queue);
    /* The default exchange leads to each queue by its name. */
    q->exchange = xstrdup(m->queue || !m->exchange ? "" : m->exchange);
    q->routing_key = xstrdup(m->queue ? m->queue : m->routing_key ? m->routing_key : "");
    q->message_id = xstrdup0(m->message_id);
    q->body = xmalloc(m->len + 1);
    memcpy(q->body, m->body, m->len);
    q->body[m->len] = '\0';
    q->len = m->len;
    q->headers = headers_of(m);
    q->done = done;
    q->ctx = ctx;
    DL_APPEND(l->waiting, q);
    if (l->under_way++ == 0)
        loop_timer_stop(p->env.loop, &l->idle);
    if (l->open)
        loop_defer(p->env.loop, &l->pump);
    return q;
}

static void publisher_cancel(struct queue_publish *q)
{
    struct queue_publisher *p = q->publisher;
    q->done = NULL;
    if (!q->link) {
        DL_DELETE(p->ended, q);
        publish_free(q);
    } else if (!q->lane) {
        DL_DELETE(q->link->waiting, q);
        ended(q, 0, NULL);
    } /* else it keeps its place until the broker has spoken */
}

static struct queue_publisher *publisher_create(const struct queue_env *env)
{
    struct queue_publisher *p = xcalloc(1, sizeof(*p));
    p->env = *env;
    loop_task_init(&p->tell, on_tell, p);
    return p;
}

static void forget(struct queue_publish *list)
{
    for (struct queue_publish *q = list; q; q = q->next)
        q->done = NULL;
}

static void publisher_close(struct queue_publisher *p, void (*done)(void *ctx), void *ctx)
{
    struct link *l, *next;
    const struct error none = ERROR_INIT;
    p->closed = done;
    p->closed_ctx = ctx;
    HASH_ITER (hh, p->links, l, next) {
        forget(l->waiting);
        for (size_t i = 1; i < LANES_END; i++)
            forget(l->lanes[i].flying);
        close_link(l, &none);
    }
    loop_task_cancel(p->env.loop, &p->tell);
    while (p->ended) {
        struct queue_publish *q = p->ended;
        DL_DELETE(p->ended, q);
        publish_free(q);
    }
    p->closing = true;
    p->farewells++;
    rabbit_close(NULL, p->env.loop, on_farewell, p);
}

const struct queue_publisher_type amqp_publisher = {QUEUE_RABBITMQ, publisher_create, publisher_close, publisher_send,
                                                    publisher_cancel};
