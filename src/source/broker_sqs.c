/* Amazon SQS, and what speaks as it does.
 *
 *   asking ─(GetQueueUrl, GetQueueAttributes)─► reading ─(any call fails)─► waiting ─► asking …
 *
 * Messages come by long polls of 20 s, 10 a call; while calls come back with messages more of them are made, up to what
 * `prefetch` has room for; with nothing to do there is one. While it reads it asks for the queue's attributes every
 * 5 s: that tells what waits, and whether somebody is there at all.
 *
 * A message is ours for the queue's visibility time-out, or visibility_timeout_seconds, which is extended while it is
 * not settled; at once where it came under another one than is in force now. Settled are ten at a time: deleted, or made visible again. What could not be sent is sent after the next
 * connect. A dead letter is left to the queue's redrive policy (it is visible again and counts), or deleted where there
 * is none. */
#include "source/broker.h"

#include "base/loop.h"
#include "base/util.h"
#include "client/sqs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <uthash.h>
#include <utlist.h>

#define POLL_S 20
#define POLL_MS 26000 /* for an answer of one */
#define CALL_MS 5000
#define LOOK_MS 5000
#define CALLS_MAX 8
#define STOP_MS 2000
#define VISIBILITY_DEFAULT_S 30

enum fate { FATE_HELD, FATE_DELETE, FATE_SHOW };

/* A message that is ours. */
struct held {
    uint64_t tag;
    char *receipt;
    enum fate fate;
    bool sending; /* in a call that is under way */
    struct held *prev, *next;
    UT_hash_handle hh;
};

struct poll {
    struct broker *broker;
    struct sqs_call *call;
    int64_t asked; /* so many may come */
    int64_t visibility_s;
    struct poll *prev, *next;
};

/* A call for up to ten messages. */
struct change {
    struct broker *broker;
    struct sqs_call *call;
    enum fate fate; /* FATE_HELD: extended */
    uint64_t tags[SQS_BATCH];
    size_t n;
    struct change *prev, *next;
};

struct broker {
    struct queue_consumer *host;
    const struct queue_env *env;
    struct queue_setup *setup;
    char *url; /* of the queue; NULL: not known */
    bool redrives, reading, paused, stopping;
    int64_t queue_visibility_s; /* 0: not known yet */
    int64_t visibility_s;       /* in force */
    int64_t lag;
    struct held *messages; /* by tag */
    struct held *settled;  /* that wait to be sent; a utlist */
    size_t n_settled, n_changes;
    uint64_t last_tag;
    struct poll *polls;
    size_t n_polls, wanted_polls;
    int64_t asked;
    struct change *changes;
    struct sqs_call *asking; /* GetQueueUrl, GetQueueAttributes */
    struct queue_backoff backoff;
    struct timer again, look, extend, end;
    struct loop_task flush, gone;
    void (*done)(void *ctx);
    void *done_ctx;
};

static void ask(struct broker *b);
static void read_on(struct broker *b);
static void flush_some(struct broker *b);
static void fail(struct broker *b, const char *reason, const char *message);

static cJSON *request(const struct broker *b)
{
    cJSON *o = cJSON_CreateObject();
    if (b->url)
        cJSON_AddStringToObject(o, "QueueUrl", b->url);
    return o;
}

static void add_list(cJSON *o, const char *name, const char *word)
{
    cJSON *list = cJSON_AddArrayToObject(o, name);
    cJSON_AddItemToArray(list, cJSON_CreateString(word));
}

static int64_t number(const cJSON *object, const char *name, int64_t otherwise)
{
    const cJSON *v = value_get(object, name);
    int64_t n = otherwise;
    if (cJSON_IsString(v) && *v->valuestring)
        n = strtoll(v->valuestring, NULL, 10);
    else
        value_integer(v, &n);
    return n;
}

/* ---- messages that are ours ---- */

static struct held *held_find(struct broker *b, uint64_t tag)
{
    struct held *h = NULL;
    HASH_FIND(hh, b->messages, &tag, sizeof(tag), h);
    return h;
}

static void held_free(struct broker *b, struct held *h)
{
    HASH_DEL(b->messages, h);
    free(h->receipt);
    free(h);
}

static void held_queue(struct broker *b, struct held *h)
{
    DL_APPEND(b->settled, h);
    b->n_settled++;
}

/* ---- settling and extending ---- */

static void changed(void *ctx, int result, const cJSON *answer, const char *reason, const char *message)
{
    struct change *x = ctx;
    struct broker *b = x->broker;
    DL_DELETE(b->changes, x);
    b->n_changes--;
    /* A single message that is refused (its receipt is too old, say) will be delivered again: there is nothing more to
     * do for it. */
    (void)answer;
    for (size_t i = 0; i < x->n; i++) {
        struct held *h = held_find(b, x->tags[i]);
        if (!h || x->fate == FATE_HELD)
            continue;
        h->sending = false;
        if (result == 0 || result == -EINVAL || b->stopping)
            held_free(b, h);
        else
            held_queue(b, h);
    }
    free(x);
    if (b->stopping)
        flush_some(b);
    else if (result < 0 && result != -EINVAL)
        fail(b, reason, message);
    else
        read_on(b);
}

static struct change *change_new(struct broker *b, enum fate fate)
{
    struct change *x = xcalloc(1, sizeof(*x));
    x->broker = b;
    x->fate = fate;
    DL_APPEND(b->changes, x);
    b->n_changes++;
    return x;
}

static void change_send(struct change *x)
{
    struct broker *b = x->broker;
    cJSON *body = request(b), *list = cJSON_AddArrayToObject(body, "Entries");
    for (size_t i = 0; i < x->n; i++) {
        char id[24];
        cJSON *entry = cJSON_CreateObject();
        snprintf(id, sizeof(id), "m%" PRIu64, x->tags[i]);
        cJSON_AddStringToObject(entry, "Id", id);
        cJSON_AddStringToObject(entry, "ReceiptHandle", held_find(b, x->tags[i])->receipt);
        if (x->fate != FATE_DELETE)
            cJSON_AddNumberToObject(entry, "VisibilityTimeout", x->fate == FATE_SHOW ? 0 : (double)b->visibility_s);
        cJSON_AddItemToArray(list, entry);
    }
    x->call = sqs_call(b->env, b->setup, x->fate == FATE_DELETE ? "DeleteMessageBatch" : "ChangeMessageVisibilityBatch",
                       body, b->stopping ? STOP_MS : CALL_MS, changed, x);
}

/* Those of one fate, ten a call. */
/* Into the batch `x` (NULL: a new one); returns the one that has room yet, or NULL: it was sent. */
static struct change *change_add(struct broker *b, struct change *x, enum fate fate, const struct held *h)
{
    x = x ? x : change_new(b, fate);
    x->tags[x->n++] = h->tag;
    if (x->n < SQS_BATCH)
        return x;
    change_send(x);
    return NULL;
}

static void flush_fate(struct broker *b, enum fate fate)
{
    struct change *x = NULL;
    struct held *h, *next;
    DL_FOREACH_SAFE (b->settled, h, next) {
        if (h->fate != fate)
            continue;
        DL_DELETE(b->settled, h);
        b->n_settled--;
        h->sending = true;
        x = change_add(b, x, fate, h);
    }
    if (x)
        change_send(x);
}

static void flush(void *ctx)
{
    struct broker *b = ctx;
    if (!b->reading)
        return; /* after the next connect */
    flush_fate(b, FATE_DELETE);
    flush_fate(b, FATE_SHOW);
}

static void settle(struct broker *b, uint64_t tag, enum queue_settlement how)
{
    struct held *h = held_find(b, tag);
    h->fate = how == QUEUE_DONE || (how == QUEUE_DEAD_LETTER && !b->redrives) ? FATE_DELETE : FATE_SHOW;
    held_queue(b, h);
    if (b->n_settled % SQS_BATCH == 0)
        flush(b);
    else
        loop_defer(b->env->loop, &b->flush);
}

static void extend(struct timer *timer, void *ctx)
{
    struct broker *b = ctx;
    struct change *x = NULL;
    loop_timer_start(b->env->loop, timer, b->visibility_s * 1000 / 3);
    for (struct held *h = b->messages, *next; b->reading && h; h = next) {
        next = h->hh.next;
        if (h->fate != FATE_HELD)
            continue;
        x = change_add(b, x, FATE_HELD, h);
    }
    if (x)
        change_send(x);
}

/* The time for which messages are ours from now on, and also those that are ours already. */
static void take_visibility(struct broker *b, int64_t visibility_s)
{
    bool other = b->visibility_s != visibility_s;
    b->visibility_s = visibility_s;
    if (other && timer_active(&b->extend))
        extend(&b->extend, b);
}

/* ---- reading ---- */

static cJSON *headers_of(const cJSON *message)
{
    const cJSON *attribute, *all = value_get(message, "MessageAttributes");
    cJSON *headers = all && all->child ? cJSON_CreateObject() : NULL;
    cJSON_ArrayForEach (attribute, all) {
        const char *value = value_get_string(attribute, "StringValue");
        value = value ? value : value_get_string(attribute, "BinaryValue"); /* base64, as it comes */
        if (value)
            cJSON_AddStringToObject(headers, attribute->string, value);
    }
    return headers;
}

static void take(struct broker *b, const cJSON *message)
{
    const char *receipt = value_get_string(message, "ReceiptHandle"), *body = value_get_string(message, "Body");
    const cJSON *attributes = value_get(message, "Attributes");
    if (!receipt || !body)
        return;
    struct held *h = xcalloc(1, sizeof(*h));
    h->tag = ++b->last_tag;
    h->receipt = xstrdup(receipt);
    HASH_ADD(hh, b->messages, tag, sizeof(h->tag), h);
    const char *group = value_get_string(attributes, "MessageGroupId");
    struct queue_message m = {.body = body,
                              .len = strlen(body),
                              .queue = b->setup->config.queue_name,
                              .headers = headers_of(message),
                              .key = group,
                              .key_len = group ? strlen(group) : 0,
                              .message_id = value_get_string(message, "MessageId"),
                              .identity = value_get_string(message, "MessageId"),
                              .timestamp_ms = number(attributes, "SentTimestamp", 0),
                              .deliveries = number(attributes, "ApproximateReceiveCount", 0)};
    queue_delivered(b->host, h->tag, &m);
}

static void polled(void *ctx, int result, const cJSON *answer, const char *reason, const char *message)
{
    struct poll *p = ctx;
    struct broker *b = p->broker;
    const cJSON *item, *list = value_get(answer, "Messages");
    int64_t n = cJSON_GetArraySize(list);
    bool other = p->visibility_s != b->visibility_s;
    b->asked -= p->asked;
    b->n_polls--;
    DL_DELETE(b->polls, p);
    if (result == 0)
        b->wanted_polls = n == 0 ? 1 : MIN(b->wanted_polls + (n == p->asked), (size_t)CALLS_MAX);
    free(p);
    if (result < 0) {
        fail(b, reason, message);
        return;
    }
    cJSON_ArrayForEach (item, list) {
        take(b, item);
    }
    if (other && n > 0)
        extend(&b->extend, b);
    read_on(b);
}

static void read_on(struct broker *b)
{
    while (b->reading && !b->paused && !b->stopping && b->n_polls < b->wanted_polls) {
        int64_t room = b->setup->config.prefetch - (int64_t)HASH_COUNT(b->messages) - b->asked;
        if (room <= 0)
            return;
        struct poll *p = xcalloc(1, sizeof(*p));
        cJSON *body = request(b);
        p->broker = b;
        p->asked = MIN(room, SQS_BATCH);
        p->visibility_s = b->visibility_s;
        cJSON_AddNumberToObject(body, "MaxNumberOfMessages", (double)p->asked);
        cJSON_AddNumberToObject(body, "WaitTimeSeconds", POLL_S);
        if (b->setup->config.visibility_timeout_seconds > 0)
            cJSON_AddNumberToObject(body, "VisibilityTimeout", (double)b->visibility_s);
        add_list(body, "AttributeNames", "All");
        add_list(body, "MessageAttributeNames", "All");
        b->asked += p->asked;
        b->n_polls++;
        DL_APPEND(b->polls, p);
        p->call = sqs_call(b->env, b->setup, "ReceiveMessage", body, POLL_MS, polled, p);
    }
}

static void stop_reading(struct broker *b)
{
    while (b->polls) {
        struct poll *p = b->polls;
        DL_DELETE(b->polls, p);
        sqs_call_cancel(p->call);
        free(p);
    }
    b->n_polls = 0;
    b->asked = 0;
    b->reading = false;
    loop_timer_stop(b->env->loop, &b->look);
}

/* ---- connecting ---- */

static int64_t visibility_wanted(const struct broker *b)
{
    double wanted = b->setup->config.visibility_timeout_seconds;
    return wanted > 0 ? MAX((int64_t)(wanted + 0.5), 1) : b->queue_visibility_s;
}

static void fail(struct broker *b, const char *reason, const char *message)
{
    if (b->stopping || (!b->reading && timer_active(&b->again)))
        return;
    stop_reading(b);
    sqs_call_cancel(steal(&b->asking));
    b->lag = -1;
    _cleanup_(freep) char *text = xasprintf("queue %s: %s", b->setup->config.queue_name, message ? message : "");
    queue_state(b->host, SOURCE_FAILED, reason, text);
    loop_timer_start(b->env->loop, &b->again, queue_backoff_next(&b->backoff, b->env->random));
}

static void looked(void *ctx, int result, const cJSON *answer, const char *reason, const char *message)
{
    struct broker *b = ctx;
    const cJSON *attributes = value_get(answer, "Attributes");
    b->asking = NULL;
    if (result < 0) {
        fail(b, reason, message);
        return;
    }
    b->lag = number(attributes, "ApproximateNumberOfMessages", -1);
    b->redrives = value_get(attributes, "RedrivePolicy") != NULL;
    b->queue_visibility_s = MAX(number(attributes, "VisibilityTimeout", VISIBILITY_DEFAULT_S), 1);
    take_visibility(b, visibility_wanted(b));
    loop_timer_start(b->env->loop, &b->look, LOOK_MS);
    if (b->reading)
        return;
    b->reading = true;
    b->wanted_polls = 1;
    queue_backoff_reset(&b->backoff);
    if (!timer_active(&b->extend))
        loop_timer_start(b->env->loop, &b->extend, b->visibility_s * 1000 / 3);
    _cleanup_(freep) char *text = xasprintf("reads the queue %s", b->setup->config.queue_name);
    queue_state(b->host, SOURCE_CONNECTED, "Connected", text);
    flush(b);
    read_on(b);
}

static void look(struct timer *timer, void *ctx)
{
    (void)timer;
    struct broker *b = ctx;
    cJSON *body = request(b);
    add_list(body, "AttributeNames", "All");
    b->asking = sqs_call(b->env, b->setup, "GetQueueAttributes", body, CALL_MS, looked, b);
}

static void named(void *ctx, int result, const cJSON *answer, const char *reason, const char *message)
{
    struct broker *b = ctx;
    const char *url = value_get_string(answer, "QueueUrl");
    b->asking = NULL;
    if (result < 0 || !url) {
        fail(b, result < 0 ? reason : "ProtocolError", result < 0 ? message : "an answer without QueueUrl");
        return;
    }
    free(b->url);
    b->url = xstrdup(url);
    look(NULL, b);
}

static void ask(struct broker *b)
{
    free(steal(&b->url));
    cJSON *body = cJSON_CreateObject();
    cJSON_AddStringToObject(body, "QueueName", b->setup->config.queue_name);
    b->asking = sqs_call(b->env, b->setup, "GetQueueUrl", body, CALL_MS, named, b);
}

static void again(struct timer *timer, void *ctx)
{
    (void)timer;
    ask(ctx);
}

/* ---- life ---- */

static void broker_gone(void *ctx)
{
    struct broker *b = ctx;
    void (*done)(void *) = b->done;
    void *done_ctx = b->done_ctx;
    struct held *h = b->messages, *next;
    HASH_CLEAR(hh, b->messages); /* the table alone; they stay linked */
    for (; h; h = next) {
        next = h->hh.next;
        free(h->receipt);
        free(h);
    }
    while (b->changes) {
        struct change *x = b->changes;
        DL_DELETE(b->changes, x);
        sqs_call_cancel(x->call);
        free(x);
    }
    loop_timer_stop(b->env->loop, &b->end);
    loop_task_cancel(b->env->loop, &b->flush);
    queue_setup_unref(b->setup);
    free(b->url);
    free(b);
    done(done_ctx);
}

static void time_is_up(struct timer *timer, void *ctx)
{
    (void)timer;
    struct broker *b = ctx;
    loop_defer(b->env->loop, &b->gone);
}

/* What is left to say before the end. */
static void flush_some(struct broker *b)
{
    if (b->url && b->settled) {
        b->reading = true;
        flush(b);
    }
    if (b->n_changes == 0)
        loop_defer(b->env->loop, &b->gone);
}

static int create(struct queue_consumer *host, const struct queue_env *env, struct queue_setup *setup,
                  struct broker **ret, struct error *err)
{
    if (!env->http)
        return error_set(err, -ENOTSUP, "there is no HTTP client here");
    struct broker *b = xcalloc(1, sizeof(*b));
    b->host = host;
    b->env = env;
    b->setup = queue_setup_ref(setup);
    b->lag = -1;
    timer_init(&b->again, again, b);
    timer_init(&b->look, look, b);
    timer_init(&b->extend, extend, b);
    timer_init(&b->end, time_is_up, b);
    loop_task_init(&b->flush, flush, b);
    loop_task_init(&b->gone, broker_gone, b);
    *ret = b;
    return 0;
}

static void start(struct broker *b)
{
    ask(b);
}

/* Others get at once what is not settled. */
static void stop(struct broker *b, void (*done)(void *ctx), void *ctx)
{
    bool connected = b->reading;
    b->stopping = true;
    b->done = done;
    b->done_ctx = ctx;
    stop_reading(b);
    sqs_call_cancel(steal(&b->asking));
    loop_timer_stop(b->env->loop, &b->again);
    loop_timer_stop(b->env->loop, &b->extend);
    loop_timer_start(b->env->loop, &b->end, STOP_MS);
    for (struct held *h = b->messages; connected && h; h = h->hh.next)
        if (h->fate == FATE_HELD) {
            h->fate = FATE_SHOW;
            held_queue(b, h);
        }
    if (connected)
        flush_some(b);
    else
        loop_defer(b->env->loop, &b->gone);
}

static void hold(struct broker *b)
{
    b->paused = true; /* calls under way may still bring messages */
}

static void resume(struct broker *b)
{
    b->paused = false;
    if (timer_active(&b->again)) {
        loop_timer_stop(b->env->loop, &b->again);
        ask(b);
    }
    read_on(b);
}

static void update(struct broker *b, struct queue_setup *setup)
{
    queue_setup_replace(&b->setup, setup);
    if (b->queue_visibility_s > 0)
        take_visibility(b, visibility_wanted(b));
    read_on(b);
}

static int64_t lag(const struct broker *b)
{
    return b->lag;
}

const struct broker_type broker_sqs = {
    .type = QUEUE_SQS,
    .create = create,
    .start = start,
    .stop = stop,
    .pause = hold,
    .resume = resume,
    .update = update,
    .settle = settle,
    .lag = lag,
};
