#include "client/mcp_feed.h"

#include "base/util.h"
#include "client/mcp_message.h"

#include <errno.h>
#include <stdio.h>
#include <utlist.h>

#define UNDER_WAY_MAX 512 /* on their way to the store, a lane */
#define WAITING_HIGH 1024
#define WAITING_LOW 512
#define BYTES_HIGH ((size_t)4 << 20)
#define BYTES_LOW ((size_t)2 << 20)
/* Past these also while somebody waits for an answer of the server, which comes behind its notifications. */
#define WAITING_HARD 65536
#define BYTES_HARD ((size_t)64 << 20)
#define AGAIN_MIN_MS 20
#define AGAIN_MAX_MS 500

enum item_state { ITEM_READING, ITEM_WAITS, ITEM_UNDER_WAY };

struct lane;

struct item {
    struct lane *lane;
    enum item_state state;
    enum mcp_channel channel;
    char *event_type;
    cJSON *data;
    size_t bytes;
    struct mcp_request *request; /* of ITEM_READING */
    struct item *prev, *next;
};

struct lane {
    struct mcp_feed *feed;
    bool reading; /* of triggers with `read` */
    struct item *items;
    size_t n, under_way, listeners;
};

struct mcp_feed {
    struct loop *loop;
    struct engine *engine;
    char *server;
    struct mcp *mcp;
    struct lane lanes[2];
    size_t bytes;
    bool refused; /* the engine takes nothing more for the time being */
    int64_t again_ms;
    struct timer again;
    struct loop_task pump;
    void (*empty)(void *ctx); /* NULL: it is not settling */
    void *empty_ctx;
    struct loop_task emptied;
    bool closing;
    struct loop_task gone;
    void (*done)(void *ctx);
    void *done_ctx;
};

void mcp_channel_name(enum mcp_channel c, const char *server, const char *event_type, char out[MCP_CHANNEL_MAX])
{
    snprintf(out, MCP_CHANNEL_MAX, "%c %s %s", (char)c, server, event_type);
}

const char *mcp_event_type(const char *method)
{
    static const char prefix[] = "notifications/";
    return strncmp(method, prefix, strlen(prefix)) == 0 ? method + strlen(prefix) : method;
}

/* ---- how much waits ---- */

static size_t waiting(const struct mcp_feed *f)
{
    return f->lanes[0].n + f->lanes[1].n;
}

static void set_hold(struct mcp_feed *f)
{
    size_t n = waiting(f);
    if (!f->mcp)
        return;
    if (n >= WAITING_HARD || f->bytes >= BYTES_HARD)
        mcp_hold(f->mcp, MCP_HOLD_ALL);
    else if (n >= WAITING_HIGH || f->bytes >= BYTES_HIGH || f->empty)
        mcp_hold(f->mcp, MCP_HOLD_UNASKED);
    else if (n <= WAITING_LOW && f->bytes <= BYTES_LOW)
        mcp_hold(f->mcp, MCP_HOLD_NOT);
}

static void item_free(struct item *it)
{
    struct lane *l = it->lane;
    DL_DELETE(l->items, it);
    l->n--;
    l->feed->bytes -= it->bytes;
    if (l->feed->empty && waiting(l->feed) == 0)
        loop_defer(l->feed->loop, &l->feed->emptied);
    cJSON_Delete(it->data);
    free(it->event_type);
    free(it);
}

/* ---- to the engine ---- */

static bool admits_plain(void *ctx, const struct trigger *t)
{
    (void)ctx;
    const struct mcp_trigger *c = t->config;
    return !c->read;
}

static bool admits_reading(void *ctx, const struct trigger *t)
{
    (void)ctx;
    const struct mcp_trigger *c = t->config;
    return c->read;
}

static void pump_later(struct mcp_feed *f)
{
    if (!f->closing)
        loop_defer(f->loop, &f->pump);
}

static void finish(struct mcp_feed *f)
{
    if (f->closing && f->lanes[0].under_way + f->lanes[1].under_way == 0)
        loop_defer(f->loop, &f->gone);
}

static void recorded(void *ctx, const struct intake_result *r)
{
    struct item *it = ctx;
    struct lane *l = it->lane;
    struct mcp_feed *f = l->feed;
    bool again = r->code == -EAGAIN || r->code == -ENOSPC || r->code == -EIO || r->code == -EROFS || r->code == -EBUSY;
    l->under_way--;
    if (f->closing || !again) {
        item_free(it);
        f->again_ms = again ? f->again_ms : 0;
        if (!f->refused)
            pump_later(f);
    } else {
        it->state = ITEM_WAITS; /* at its place */
        if (!f->refused) {
            f->refused = true;
            f->again_ms = f->again_ms ? MIN(f->again_ms * 2, AGAIN_MAX_MS) : AGAIN_MIN_MS;
            loop_timer_start(f->loop, &f->again, f->again_ms);
        }
    }
    set_hold(f);
    finish(f);
}

static void publish(struct item *it)
{
    struct lane *l = it->lane;
    struct mcp_feed *f = l->feed;
    char channel[MCP_CHANNEL_MAX];
    _cleanup_(freep) char *type = xasprintf("mcp_%s", it->event_type);
    bool split = f->lanes[0].listeners > 0 && f->lanes[1].listeners > 0;
    struct occurrence o = {.event_type = type,
                           .data = it->data,
                           .admits = !split       ? NULL
                                     : l->reading ? admits_reading
                                                  : admits_plain};
    char every[MCP_CHANNEL_MAX];
    mcp_channel_name(it->channel, f->server, it->event_type, channel);
    mcp_channel_name(MCP_CHANNEL_SENT, f->server, "*", every);
    o.also = it->channel == MCP_CHANNEL_SENT ? every : NULL;
    it->state = ITEM_UNDER_WAY;
    l->under_way++;
    engine_publish(f->engine, MCP_EVENT_TYPE, channel, &o, recorded, it);
}

static void pump_lane(struct lane *l)
{
    struct item *it;
    DL_FOREACH (l->items, it) {
        if (it->state == ITEM_READING || l->under_way >= UNDER_WAY_MAX)
            return;
        if (it->state == ITEM_WAITS)
            publish(it);
    }
}

static void on_pump(void *ctx)
{
    struct mcp_feed *f = ctx;
    if (f->refused)
        return;
    pump_lane(&f->lanes[0]);
    pump_lane(&f->lanes[1]);
}

static void on_again(struct timer *timer, void *ctx)
{
    (void)timer;
    struct mcp_feed *f = ctx;
    f->refused = false;
    on_pump(f);
}

void mcp_feed_kick(struct mcp_feed *f)
{
    if (!f->refused)
        return;
    loop_timer_stop(f->loop, &f->again);
    f->refused = false;
    pump_later(f);
}

/* ---- what is sent ---- */

static void was_read(void *ctx, struct mcp_result *result)
{
    struct item *it = ctx;
    it->request = NULL;
    cJSON *contents = result->code == 0 ? value_get(result->result, "contents") : NULL;
    if (contents)
        value_set(it->data, "contents", cJSON_DetachItemViaPointer(result->result, contents));
    else
        value_set(it->data, "read_error",
                  value_string(result->code == 0 ? "the server's answer has no contents" : result->message));
    it->state = ITEM_WAITS;
    pump_later(it->lane->feed);
}

static void read_resource(struct item *it)
{
    struct mcp_feed *f = it->lane->feed;
    const char *uri = value_get_string(it->data, "uri");
    if (!uri || !f->mcp) {
        value_set(it->data, "read_error", value_string(uri ? "there is no connection" : "the update names no uri"));
        return;
    }
    cJSON *params = cJSON_CreateObject();
    cJSON_AddStringToObject(params, "uri", uri);
    it->state = ITEM_READING;
    it->request = mcp_ask(f->mcp, "resources/read", params, NULL, was_read, it);
}

static void add(struct lane *l, enum mcp_channel channel, const char *event_type, const cJSON *data, size_t bytes)
{
    struct mcp_feed *f = l->feed;
    if (l->listeners == 0)
        return;
    struct item *it = xcalloc(1, sizeof(*it));
    *it = (struct item){.lane = l,
                        .state = ITEM_WAITS,
                        .channel = channel,
                        .event_type = xstrdup(event_type),
                        .data = data ? cJSON_Duplicate(data, true) : cJSON_CreateObject(),
                        .bytes = bytes + sizeof(*it)};
    DL_APPEND(l->items, it);
    l->n++;
    f->bytes += it->bytes;
    if (l->reading && streq(event_type, "resources/updated"))
        read_resource(it);
    pump_later(f);
}

void mcp_feed_take(struct mcp_feed *f, const char *method, const cJSON *params, size_t bytes)
{
    const char *type = mcp_event_type(method);
    const char *carried = streq(type, "message") ? mcp_domain_event(params) : NULL;
    for (size_t i = 0; i < 2; i++) {
        add(&f->lanes[i], MCP_CHANNEL_SENT, type, params, bytes);
        if (carried && !streq(carried, type)) /* which it is already */
            add(&f->lanes[i], MCP_CHANNEL_LOGGED, carried, value_get(params, "data"), bytes);
    }
    set_hold(f);
}

/* ---- life ---- */

static void on_emptied(void *ctx)
{
    struct mcp_feed *f = ctx;
    void (*empty)(void *) = f->empty;
    if (waiting(f) > 0) /* some came meanwhile: the last of them brings us here again */
        return;
    f->empty = NULL;
    empty(f->empty_ctx);
}

void mcp_feed_settle(struct mcp_feed *f, void (*empty)(void *ctx), void *ctx)
{
    f->empty = empty;
    f->empty_ctx = ctx;
    set_hold(f);
    mcp_feed_kick(f);
    if (waiting(f) == 0)
        loop_defer(f->loop, &f->emptied);
}

void mcp_feed_set_listeners(struct mcp_feed *f, size_t plain, size_t reading)
{
    f->lanes[0].listeners = plain;
    f->lanes[1].listeners = reading;
}

void mcp_feed_attach(struct mcp_feed *f, struct mcp *m)
{
    f->mcp = m;
    set_hold(f);
}

static void on_gone(void *ctx)
{
    struct mcp_feed *f = ctx;
    void (*done)(void *) = f->done;
    void *done_ctx = f->done_ctx;
    free(f->server);
    free(f);
    done(done_ctx);
}

struct mcp_feed *mcp_feed_create(struct loop *loop, struct engine *engine, const char *server)
{
    struct mcp_feed *f = xcalloc(1, sizeof(*f));
    *f = (struct mcp_feed){.loop = loop, .engine = engine, .server = xstrdup(server)};
    f->lanes[0].feed = f->lanes[1].feed = f;
    f->lanes[1].reading = true;
    timer_init(&f->again, on_again, f);
    loop_task_init(&f->pump, on_pump, f);
    loop_task_init(&f->emptied, on_emptied, f);
    loop_task_init(&f->gone, on_gone, f);
    return f;
}

void mcp_feed_close(struct mcp_feed *f, void (*done)(void *ctx), void *ctx)
{
    f->closing = true;
    f->empty = NULL;
    loop_task_cancel(f->loop, &f->emptied);
    f->done = done;
    f->done_ctx = ctx;
    loop_timer_stop(f->loop, &f->again);
    loop_task_cancel(f->loop, &f->pump);
    for (size_t i = 0; i < 2; i++) {
        struct item *it, *tmp;
        DL_FOREACH_SAFE (f->lanes[i].items, it, tmp) {
            if (it->request)
                mcp_cancel(it->request, "nobody waits for it any more");
            if (it->state != ITEM_UNDER_WAY)
                item_free(it);
        }
    }
    f->mcp = NULL;
    finish(f);
}
