/* Streams. An entry is pending for us at the server from its delivery until XACK, and has an id, so after a loss nothing is
 * in doubt: what is pending for us and not known here is claimed (XPENDING, XCLAIM) before anything new is read.
 *
 * Its idle time there says to other consumers whether we still live: that of what we hold is set back in time, that of
 * what we give back is set so that everyone may claim it at once. Its count of deliveries is the server's; what was given
 * back is not counted.
 *
 * The reader does one thing at a time: what is pending, then what others left, then what is new. */
#include "source/broker_redis.h"

#include <assert.h>
#include <glib.h>
#include <inttypes.h>
#include <stdio.h>

#define PAGE 100
#define LAG_MS 1000
#define CLAIM_MIN_MS 100

/* To the dead-letter stream as it was, and acknowledged: both or neither. */
static const char DEAD_SCRIPT[] = "redis.call('XADD', KEYS[2], '*', unpack(ARGV, 3)) "
                                  "return redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])";

static const char *queue_of(const struct broker *b)
{
    return b->setup->config.queue_name;
}

static int64_t claim_idle_ms(const struct broker *b)
{
    return (int64_t)(b->setup->config.claim_idle_seconds * 1000);
}

/* Arguments of a command; texts are borrowed until it is sent. */
struct words {
    struct redis_arg *args;
    size_t n, cap;
};

static void add_bytes(struct words *w, const char *data, size_t len)
{
    if (w->n == w->cap) {
        w->cap = w->cap ? 2 * w->cap : 16;
        w->args = xreallocarray(w->args, w->cap, sizeof(*w->args));
    }
    w->args[w->n++] = (struct redis_arg){data, len};
}

static void add(struct words *w, const char *text)
{
    add_bytes(w, text, strlen(text));
}

/* COMMAND QUEUE GROUP, and us where `us` */
static struct words words_of(const struct broker *b, const char *command, bool us)
{
    struct words w = {0};
    add(&w, command);
    add(&w, queue_of(b));
    add(&w, b->setup->group);
    if (us)
        add(&w, b->setup->consumer);
    return w;
}

static void say(struct redis *r, struct words *w, redis_reply_fn *fn, struct broker *b)
{
    redis_command(r, fn, b, REDIS_PATIENCE_MS, w->n, w->args);
    free(w->args);
}

/* ---- messages ---- */

static bool is_entry(const redisReply *e)
{
    return e->type == REDIS_REPLY_ARRAY && e->elements == 2 && e->element[0]->type == REDIS_REPLY_STRING &&
           e->element[1]->type == REDIS_REPLY_ARRAY;
}

static bool is_text(const redisReply *value)
{
    return utf8_valid(value->str, value->len) && !memchr(value->str, '\0', value->len);
}

static void add_field(cJSON *object, const redisReply *name, const redisReply *value)
{
    _cleanup_(freep) char *key =
        is_text(name) ? xstrdup(name->str) : g_base64_encode((const guchar *)name->str, name->len);
    _cleanup_(freep) char *encoded = NULL;
    if (!is_text(value)) {
        char *other = xasprintf("%s_base64", key);
        free(key);
        key = other;
        encoded = g_base64_encode((const guchar *)value->str, value->len);
    }
    cJSON_DeleteItemFromObjectCaseSensitive(object, key);
    cJSON_AddStringToObject(object, key, encoded ? encoded : value->str);
}

/* Its field `body` and the others as headers, or all of them as an object. */
static void tell(struct broker *b, const struct delivery *d)
{
    const redisReply *fields = d->reply, *body = NULL;
    cJSON *object = NULL;
    for (size_t i = 0; i + 1 < fields->elements; i += 2) {
        if (streq(fields->element[i]->str, "body")) {
            body = fields->element[i + 1];
            continue;
        }
        object = object ? object : cJSON_CreateObject();
        add_field(object, fields->element[i], fields->element[i + 1]);
    }
    struct queue_message m = {.queue = queue_of(b),
                              .message_id = d->id,
                              .identity = d->id,
                              .deliveries = d->deliveries,
                              .timestamp_ms = (int64_t)redis_entry_parse(d->id).ms};
    if (!body) {
        m.fields = object ? object : cJSON_CreateObject();
    } else {
        m.body = body->str;
        m.len = body->len;
        m.headers = object;
    }
    queue_delivered(b->host, (uintptr_t)d, &m);
}

static void start_fresh(struct broker *b)
{
    if (!timer_active(&b->stream.fresh))
        loop_timer_start(b->env.loop, &b->stream.fresh, MAX(claim_idle_ms(b) / 3, 1));
}

/* Takes the fields out of the entry, unless we know it already. */
static void deliver(struct broker *b, redisReply *entry, int64_t deliveries)
{
    struct redis_stream *s = &b->stream;
    const redisReply *id = entry->element[0];
    struct delivery *d;
    HASH_FIND(hh, s->known, id->str, id->len, d);
    if (d)
        return;
    d = xcalloc(1, sizeof(*d));
    d->id = xstrndup(id->str, id->len);
    d->reply = steal(&entry->element[1]);
    d->deliveries = deliveries;
    d->fresh_ms = loop_now_ms(b->env.loop);
    HASH_ADD_KEYPTR(hh, s->known, d->id, id->len, d);
    s->n_held++;
    start_fresh(b);
    if (b->state != BROKER_STOPPING)
        tell(b, d);
}

static void delivery_free(struct delivery *d)
{
    redis_reply_free(d->reply);
    free(d->id);
    free(d);
}

static void drop(struct broker *b, struct delivery *d)
{
    assert(b->stream.known);
    HASH_DEL(b->stream.known, d);
    delivery_free(d);
}

/* ---- settling: one command at a time, for as many as there are ---- */

static void send_next(struct broker *b);

static void stop_if_done(struct broker *b)
{
    if (b->state == BROKER_STOPPING && !b->stream.reading && !b->stream.known)
        broker_stopped(b);
}

static void done(struct broker *b)
{
    send_next(b);
    broker_pump(b);
    stop_if_done(b);
}

static void on_settled(void *ctx, redisReply **reply)
{
    struct broker *b = ctx;
    struct redis_stream *s = &b->stream;
    struct delivery *d = s->doing, *next;
    if (redis_is_error(*reply)) {
        redis_fail(b->writer, *reply, d->how == QUEUE_DEAD_LETTER ? b->setup->dead_letter : queue_of(b));
        return;
    }
    if (d->how == QUEUE_BACK) {
        s->history = true;
        free(steal(&s->after));
    }
    s->doing = NULL;
    for (; d; d = next) {
        next = d->sent_next;
        drop(b, d);
    }
    done(b);
}

/* The same entries once more; one that the stream no longer has is done. */
static void on_claimed_again(void *ctx, redisReply **reply)
{
    struct broker *b = ctx;
    struct redis_stream *s = &b->stream;
    struct delivery *d = s->doing, *next;
    if (redis_is_error(*reply) || (*reply)->type != REDIS_REPLY_ARRAY) {
        redis_fail(b->writer, *reply, queue_of(b));
        return;
    }
    s->doing = NULL;
    for (; d; d = next) {
        next = d->sent_next;
        bool found = false;
        for (size_t i = 0; i < (*reply)->elements && !found; i++)
            found = is_entry((*reply)->element[i]) && streq((*reply)->element[i]->element[0]->str, d->id);
        if (!found) {
            s->n_held--;
            drop(b, d);
            continue;
        }
        d->state = DELIVERY_HELD;
        d->deliveries++;
        d->fresh_ms = loop_now_ms(b->env.loop);
        if (b->state != BROKER_STOPPING)
            tell(b, d);
    }
    if (b->state == BROKER_STOPPING)
        b->ops->stop(b);
    done(b);
}

static void send_dead(struct broker *b, const struct delivery *d)
{
    struct words w = {0};
    add(&w, "EVAL");
    add(&w, DEAD_SCRIPT);
    add(&w, "2");
    add(&w, queue_of(b));
    add(&w, b->setup->dead_letter);
    add(&w, b->setup->group);
    add(&w, d->id);
    for (size_t i = 0; i < d->reply->elements; i++)
        add_bytes(&w, d->reply->element[i]->str, d->reply->element[i]->len);
    say(b->writer, &w, on_settled, b);
}

static void send_doing(struct broker *b)
{
    struct redis_stream *s = &b->stream;
    const struct delivery *first = s->doing;
    bool claim = first->how != QUEUE_DONE;
    char idle[24], count[24];
    if (first->how == QUEUE_DEAD_LETTER) {
        send_dead(b, first);
        return;
    }
    struct words w = words_of(b, claim ? "XCLAIM" : "XACK", claim);
    if (claim)
        add(&w, "0");
    for (const struct delivery *d = first; d; d = d->sent_next)
        add(&w, d->id);
    if (first->how == QUEUE_BACK) {
        snprintf(idle, sizeof(idle), "%" PRId64, claim_idle_ms(b));
        snprintf(count, sizeof(count), "%" PRId64, MAX(first->deliveries - 1, 0));
        add(&w, "IDLE");
        add(&w, idle);
        add(&w, "RETRYCOUNT");
        add(&w, count);
        add(&w, "JUSTID");
    }
    say(b->writer, &w, first->how == QUEUE_AGAIN ? on_claimed_again : on_settled, b);
}

static bool together(const struct delivery *a, const struct delivery *b)
{
    return a->how == b->how && a->how != QUEUE_DEAD_LETTER && (a->how != QUEUE_BACK || a->deliveries == b->deliveries);
}

static bool may_send(const struct broker *b)
{
    return (b->state == BROKER_UP || b->state == BROKER_STOPPING) && redis_is_ready(b->writer);
}

static void send_next(struct broker *b)
{
    struct redis_stream *s = &b->stream;
    if (!s->todo || s->doing || !may_send(b))
        return;
    struct delivery *last = s->doing = s->todo;
    for (int i = 1; i < REDIS_BATCH && last->sent_next && together(s->doing, last->sent_next); i++)
        last = last->sent_next;
    s->todo = last->sent_next;
    if (!s->todo)
        s->todo_end = &s->todo;
    last->sent_next = NULL;
    send_doing(b);
}

static void on_flush(void *ctx)
{
    send_next(ctx);
}

static void decide(struct broker *b, struct delivery *d, enum queue_settlement how)
{
    struct redis_stream *s = &b->stream;
    d->state = DELIVERY_DECIDED;
    d->how = how;
    d->sent_next = NULL;
    *s->todo_end = d;
    s->todo_end = &d->sent_next;
    s->n_held -= how != QUEUE_AGAIN; /* whose place is its own until it is there again */
    if (how == QUEUE_DONE)
        redis_reply_free(steal(&d->reply));
    loop_defer(b->env.loop, &s->flush);
}

static void stream_settle(struct broker *b, uint64_t tag, enum queue_settlement how)
{
    if (b->state == BROKER_STOPPING || b->state == BROKER_CLOSED)
        return;
    /* While nothing is taken, it waits at the server, and its next delivery is counted then. */
    struct delivery *d = (struct delivery *)(uintptr_t)tag;
    if (how == QUEUE_AGAIN && b->paused) {
        how = QUEUE_BACK;
        d->deliveries++;
    }
    decide(b, d, how);
}

/* ---- what we hold is not left ---- */

static void on_fresh(struct timer *timer, void *ctx)
{
    struct broker *b = ctx;
    struct redis_stream *s = &b->stream;
    struct delivery *d, *next;
    int64_t now = loop_now_ms(b->env.loop), period = MAX(claim_idle_ms(b) / 3, 1);
    if (s->n_held == 0)
        return;
    loop_timer_start(b->env.loop, timer, period);
    if (!may_send(b))
        return;
    struct words w = words_of(b, "XCLAIM", true);
    add(&w, "0");
    size_t before = w.n;
    HASH_ITER (hh, s->known, d, next)
        if (d->state == DELIVERY_HELD && now - d->fresh_ms >= period / 2) {
            add(&w, d->id);
            d->fresh_ms = now;
        }
    if (w.n == before) {
        free(w.args);
        return;
    }
    add(&w, "JUSTID");
    say(b->writer, &w, NULL, b);
}

/* ---- what is pending for us ---- */

static void page_free(struct redis_stream *s)
{
    for (size_t i = 0; i < s->n_page; i++)
        free(s->ids[i]);
    free(steal(&s->ids));
    free(steal(&s->counts));
    s->n_page = 0;
}

static void reading_done(struct broker *b)
{
    b->stream.reading = false;
    if (b->state == BROKER_STOPPING)
        b->ops->stop(b);
    else
        broker_pump(b);
}

/* Those of the page; what is missing has been deleted from the stream. */
static void on_claimed(void *ctx, redisReply **reply)
{
    struct broker *b = ctx;
    struct redis_stream *s = &b->stream;
    if (redis_is_error(*reply) || (*reply)->type != REDIS_REPLY_ARRAY) {
        redis_fail(b->reader, *reply, queue_of(b));
        return;
    }
    struct words gone = words_of(b, "XACK", false);
    size_t before = gone.n, found = 0;
    for (size_t i = 0; i < s->n_page; i++) {
        size_t j = found;
        while (j < (*reply)->elements &&
               !(is_entry((*reply)->element[j]) && streq((*reply)->element[j]->element[0]->str, s->ids[i])))
            j++;
        if (j == (*reply)->elements) {
            add(&gone, s->ids[i]);
        } else {
            deliver(b, (*reply)->element[j], s->counts[i] + 1);
            found = j + 1;
        }
    }
    if (gone.n > before)
        say(b->writer, &gone, NULL, b);
    else
        free(gone.args);
    page_free(s);
    reading_done(b);
}

static bool is_pending(const redisReply *e)
{
    return e->type == REDIS_REPLY_ARRAY && e->elements == 4 && e->element[0]->type == REDIS_REPLY_STRING &&
           e->element[3]->type == REDIS_REPLY_INTEGER;
}

static void on_pending(void *ctx, redisReply **reply)
{
    struct broker *b = ctx;
    struct redis_stream *s = &b->stream;
    if (redis_is_error(*reply) || (*reply)->type != REDIS_REPLY_ARRAY) {
        redis_fail(b->reader, *reply, queue_of(b));
        return;
    }
    struct words w = words_of(b, "XCLAIM", true);
    add(&w, "0");
    s->ids = xcalloc((*reply)->elements + 1, sizeof(*s->ids));
    s->counts = xcalloc((*reply)->elements + 1, sizeof(*s->counts));
    for (size_t i = 0; i < (*reply)->elements; i++) {
        const redisReply *e = (*reply)->element[i];
        struct delivery *d;
        if (!is_pending(e))
            continue;
        free(s->after);
        s->after = xasprintf("(%s", e->element[0]->str);
        HASH_FIND(hh, s->known, e->element[0]->str, e->element[0]->len, d);
        if (d)
            continue;
        s->counts[s->n_page] = e->element[3]->integer;
        s->ids[s->n_page] = xstrdup(e->element[0]->str);
        add(&w, s->ids[s->n_page++]);
    }
    if ((*reply)->elements == 0) {
        s->history = false;
        free(steal(&s->after));
    }
    if (s->n_page > 0) {
        say(b->reader, &w, on_claimed, b);
    } else {
        free(w.args);
        page_free(s);
        reading_done(b);
    }
}

static void read_history(struct broker *b, size_t room)
{
    char count[24];
    snprintf(count, sizeof(count), "%zu", MIN(room, (size_t)PAGE));
    b->stream.reading = true;
    struct words w = words_of(b, "XPENDING", false);
    add(&w, b->stream.after ? b->stream.after : "-");
    add(&w, "+");
    add(&w, count);
    add(&w, b->setup->consumer);
    say(b->reader, &w, on_pending, b);
}

/* ---- what others left ---- */

/* How often each was delivered, now that it is ours. */
static void on_counts(void *ctx, redisReply **reply)
{
    struct broker *b = ctx;
    redisReply *claimed = steal(&b->stream.claimed);
    redisReply *entries = claimed->element[1];
    if (redis_is_error(*reply)) {
        redis_fail(b->reader, *reply, queue_of(b));
        redis_reply_free(claimed);
        return;
    }
    for (size_t i = 0, j = 0; i < entries->elements; i++) {
        redisReply *e = entries->element[i];
        if (!is_entry(e))
            continue;
        int64_t count = 2; /* somebody had it, and we */
        for (size_t k = j; k < (*reply)->elements; k++) {
            const redisReply *p = (*reply)->element[k];
            if (is_pending(p) && streq(p->element[0]->str, e->element[0]->str)) {
                count = p->element[3]->integer;
                j = k + 1;
                break;
            }
        }
        deliver(b, e, count);
    }
    redis_reply_free(claimed);
    reading_done(b);
}

static void on_autoclaimed(void *ctx, redisReply **reply)
{
    struct broker *b = ctx;
    struct redis_stream *s = &b->stream;
    redisReply *r = *reply, *first = NULL, *last = NULL;
    if (redis_is_error(r) || r->type != REDIS_REPLY_ARRAY || r->elements < 2 ||
        r->element[0]->type != REDIS_REPLY_STRING || r->element[1]->type != REDIS_REPLY_ARRAY) {
        redis_fail(b->reader, r, queue_of(b));
        return;
    }
    free(steal(&s->cursor));
    if (streq(r->element[0]->str, "0-0"))
        s->claim_due_ms = loop_now_ms(b->env.loop) + MAX(claim_idle_ms(b) / 2, CLAIM_MIN_MS);
    else
        s->cursor = xstrdup(r->element[0]->str);
    for (size_t i = 0; i < r->element[1]->elements; i++)
        if (is_entry(r->element[1]->element[i])) {
            last = r->element[1]->element[i];
            first = first ? first : last;
        }
    if (!first) {
        reading_done(b);
        return;
    }
    char count[24];
    snprintf(count, sizeof(count), "%zu", (size_t)b->setup->config.prefetch + r->element[1]->elements);
    struct words w = words_of(b, "XPENDING", false);
    add(&w, first->element[0]->str);
    add(&w, last->element[0]->str);
    add(&w, count);
    add(&w, b->setup->consumer);
    say(b->reader, &w, on_counts, b);
    s->claimed = steal(reply);
}

static void claim(struct broker *b, size_t room)
{
    char idle[24], count[24];
    snprintf(idle, sizeof(idle), "%" PRId64, claim_idle_ms(b));
    snprintf(count, sizeof(count), "%zu", MIN(room, (size_t)PAGE));
    b->stream.reading = true;
    struct words w = words_of(b, "XAUTOCLAIM", true);
    add(&w, idle);
    add(&w, b->stream.cursor ? b->stream.cursor : "0-0");
    add(&w, "COUNT");
    add(&w, count);
    say(b->reader, &w, on_autoclaimed, b);
}

/* ---- what is new ---- */

static void on_read(void *ctx, redisReply **reply)
{
    struct broker *b = ctx;
    struct redis_stream *s = &b->stream;
    redisReply *r = *reply, *entries = NULL;
    if (redis_is_error(r)) {
        redis_fail(b->reader, r, queue_of(b));
        return;
    }
    if (r->type == REDIS_REPLY_ARRAY && r->elements == 1 && r->element[0]->type == REDIS_REPLY_ARRAY &&
        r->element[0]->elements == 2)
        entries = r->element[0]->element[1];
    for (size_t i = 0; entries && i < entries->elements; i++) {
        if (!is_entry(entries->element[i]))
            continue;
        if (i + 1 == entries->elements) {
            free(s->last_id);
            s->last_id = xstrdup(entries->element[i]->element[0]->str);
        }
        deliver(b, entries->element[i], 1);
    }
    if (!entries)
        s->lag = 0;
    reading_done(b);
}

static void read_new(struct broker *b, size_t room, int64_t now)
{
    char count[24], block[24];
    int64_t wait = MAX(MIN(REDIS_BLOCK_MS, b->stream.claim_due_ms - now), 1);
    snprintf(count, sizeof(count), "%zu", MIN(room, (size_t)REDIS_BATCH));
    snprintf(block, sizeof(block), "%" PRId64, wait);
    b->stream.reading = true;
    redis_say_words(b->reader, on_read, b, wait + REDIS_PATIENCE_MS,
                    (const char *const[]){"XREADGROUP", "GROUP", b->setup->group, b->setup->consumer, "COUNT", count,
                                          "BLOCK", block, "STREAMS", queue_of(b), ">", NULL});
}

/* ---- the group ---- */

static const redisReply *member(const redisReply *map, const char *name)
{
    for (size_t i = 0; map->type == REDIS_REPLY_ARRAY && i + 1 < map->elements; i += 2)
        if (streq(map->element[i]->str, name))
            return map->element[i + 1];
    return NULL;
}

static void take_group(struct redis_stream *s, const redisReply *group)
{
    const redisReply *lag = member(group, "lag"), *last = member(group, "last-delivered-id");
    if (lag && lag->type == REDIS_REPLY_INTEGER)
        s->lag = lag->integer;
    if (last && last->type == REDIS_REPLY_STRING) {
        free(s->last_id);
        s->last_id = xstrdup(last->str);
    }
}

static void take_groups(struct broker *b, const redisReply *groups)
{
    for (size_t i = 0; groups->type == REDIS_REPLY_ARRAY && i < groups->elements; i++) {
        const redisReply *name = member(groups->element[i], "name");
        if (name && streq(name->str, b->setup->group))
            take_group(&b->stream, groups->element[i]);
    }
}

static void on_lag(void *ctx, redisReply **reply)
{
    take_groups(ctx, *reply);
}

static void on_groups(void *ctx, redisReply **reply)
{
    struct broker *b = ctx;
    struct redis_stream *s = &b->stream;
    take_groups(b, *reply);
    _cleanup_(freep) char *message =
        xasprintf("reads the stream %s as %s of group %s", queue_of(b), b->setup->consumer, b->setup->group);
    s->history = true;
    free(steal(&s->after));
    s->claim_due_ms = 0;
    broker_up(b, message);
    send_next(b);
}

static void on_made(void *ctx, redisReply **reply)
{
    struct broker *b = ctx;
    if (redis_is_error(*reply) && strncmp((*reply)->str, "BUSYGROUP", 9) != 0) {
        redis_fail(b->writer, *reply, queue_of(b));
        return;
    }
    b->stream.seen = true;
    redis_say(b->writer, on_groups, b, "XINFO", "GROUPS", queue_of(b));
}

static void make_group(struct broker *b, const char *start)
{
    redis_say(b->writer, on_made, b, "XGROUP", "CREATE", queue_of(b), b->setup->group, start, "MKSTREAM");
}

/* The group was there once. If it is gone, it goes on where it was; where the stream is another now, at its start. */
static void on_stream(void *ctx, redisReply **reply)
{
    struct broker *b = ctx;
    const redisReply *newest = redis_is_error(*reply) ? NULL : member(*reply, "last-generated-id");
    const char *last = b->stream.last_id;
    make_group(b, newest && last && !redis_entry_before(newest->str, last) ? last : "0");
}

static void stream_connected(struct broker *b)
{
    if (b->stream.seen)
        redis_say(b->writer, on_stream, b, "XINFO", "STREAM", queue_of(b));
    else
        make_group(b, b->setup->config.start == START_EARLIEST ? "0" : "$");
}

/* ---- life ---- */

/* What is held was kept from others by the old time: it is told anew at once. */
static void stream_update(struct broker *b, const struct queue_setup *before)
{
    struct redis_stream *s = &b->stream;
    if ((int64_t)(before->config.claim_idle_seconds * 1000) == claim_idle_ms(b))
        return;
    s->claim_due_ms = MIN(s->claim_due_ms, loop_now_ms(b->env.loop) + MAX(claim_idle_ms(b) / 2, CLAIM_MIN_MS));
    if (timer_active(&s->fresh))
        loop_timer_start(b->env.loop, &s->fresh, 0);
}

static void stream_pump(struct broker *b)
{
    struct redis_stream *s = &b->stream;
    size_t prefetch = (size_t)b->setup->config.prefetch, all = HASH_COUNT(s->known);
    size_t room = MIN(prefetch > s->n_held ? prefetch - s->n_held : 0, 2 * prefetch > all ? 2 * prefetch - all : 0);
    int64_t now = loop_now_ms(b->env.loop);
    if (room == 0 || s->reading || !redis_is_ready(b->reader))
        return;
    if (s->history) {
        read_history(b, room);
    } else if (now >= s->claim_due_ms) {
        claim(b, room);
    } else {
        read_new(b, room, now);
        if (now - s->lag_ms >= LAG_MS) {
            s->lag_ms = now;
            redis_say(b->writer, on_lag, b, "XINFO", "GROUPS", queue_of(b));
        }
    }
}

static void stream_pause(struct broker *b)
{
    if (b->stream.reading)
        broker_unblock(b);
}

static void stream_lost(struct broker *b)
{
    struct redis_stream *s = &b->stream;
    s->reading = false;
    page_free(s);
    if (s->claimed)
        redis_reply_free(steal(&s->claimed));
    free(steal(&s->cursor));
    loop_task_cancel(b->env.loop, &s->flush);
    if (!s->doing)
        return;
    /* Said once more: each of those commands may be. */
    struct delivery *last = s->doing;
    while (last->sent_next)
        last = last->sent_next;
    last->sent_next = s->todo;
    if (!s->todo)
        s->todo_end = &last->sent_next;
    s->todo = steal(&s->doing);
}

/* Everything is given back, once nothing more can come. */
static void stream_stop(struct broker *b)
{
    struct redis_stream *s = &b->stream;
    struct delivery *d, *next;
    if (s->reading) {
        if (!s->unblocked)
            broker_unblock(b);
        s->unblocked = true;
        return;
    }
    HASH_ITER (hh, s->known, d, next)
        if (d->state == DELIVERY_HELD)
            decide(b, d, QUEUE_BACK);
    stop_if_done(b);
}

static void stream_init(struct broker *b)
{
    struct redis_stream *s = &b->stream;
    s->todo_end = &s->todo;
    s->lag = -1;
    loop_task_init(&s->flush, on_flush, b);
    timer_init(&s->fresh, on_fresh, b);
}

static void stream_fini(struct broker *b)
{
    struct redis_stream *s = &b->stream;
    struct delivery *d = s->known, *next;
    loop_timer_stop(b->env.loop, &s->fresh);
    HASH_CLEAR(hh, s->known); /* the table alone; they stay linked */
    for (; d; d = next) {
        next = d->hh.next;
        delivery_free(d);
    }
    free(s->last_id);
    free(s->after);
}

const struct redis_mode_ops redis_stream_ops = {
    .writer = true,
    .init = stream_init,
    .fini = stream_fini,
    .connected = stream_connected,
    .lost = stream_lost,
    .pump = stream_pump,
    .pause = stream_pause,
    .update = stream_update,
    .settle = stream_settle,
    .stop = stream_stop,
};
