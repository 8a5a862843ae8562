#include "source/broker_kafka.h"

#include <glib.h>
#include <stdio.h>
#include <utlist.h>

#define COMMIT_EVERY_MS 25
#define COMMIT_RETRY_MS 500
#define BACK_AFTER_MS 200
#define BURY_AGAIN_MS 1000

/* ---- partitions ---- */

struct partition *kafka_partition_get(struct broker *b, int32_t number)
{
    struct partition *p = NULL;
    HASH_FIND(hh, b->partitions, &number, sizeof(number), p);
    if (p)
        return p;
    p = xcalloc(1, sizeof(*p));
    p->number = number;
    p->next = p->sent = p->high = p->end = -1;
    HASH_ADD(hh, b->partitions, number, sizeof(p->number), p);
    return p;
}

static void line_remove(struct broker *b, struct delivery *d)
{
    DL_DELETE2(b->line, d, line_prev, line_next);
    d->state = DELIVERY_IN_HAND;
}

static void delivery_free(struct broker *b, struct delivery *d)
{
    if (d->state == DELIVERY_LINED)
        line_remove(b, d);
    if (d->burial)
        kafka_publisher.cancel(d->burial);
    loop_timer_stop(b->env.loop, &d->pause);
    if (d->partition)
        DL_DELETE(d->partition->deliveries, d);
    else
        DL_DELETE2(b->orphans, d, line_prev, line_next);
    if (d->headers)
        b->lib.rd_kafka_headers_destroy(d->headers);
    free(d);
    b->held--;
}

static void tallies_clear(struct partition *p)
{
    struct tally *t = p->tallies, *next;
    HASH_CLEAR(hh, p->tallies); /* the table alone; they stay linked */
    for (; t; t = next) {
        next = t->hh.next;
        free(t);
    }
}

void kafka_partition_forget(struct broker *b, struct partition *p, bool others)
{
    struct delivery *d, *next;
    DL_FOREACH_SAFE (p->deliveries, d, next) {
        if (d->state == DELIVERY_IN_HAND) { /* the host still settles it */
            DL_DELETE(p->deliveries, d);
            d->partition = NULL;
            DL_APPEND2(b->orphans, d, line_prev, line_next);
            continue;
        }
        delivery_free(b, d);
    }
    if (others)
        tallies_clear(p);
    p->next = p->sent = p->high = p->end = -1;
    p->leaving = false;
    p->ours = false;
    p->seeks = 0;
}

static void tally_remove(struct partition *p, int64_t offset)
{
    struct tally *t = NULL;
    HASH_FIND(hh, p->tallies, &offset, sizeof(offset), t);
    if (t) {
        HASH_DEL(p->tallies, t);
        free(t);
    }
}

static void tally_set(struct partition *p, int64_t offset, int64_t count)
{
    struct tally *t = NULL;
    HASH_FIND(hh, p->tallies, &offset, sizeof(offset), t);
    if (!t) {
        t = xcalloc(1, sizeof(*t));
        t->offset = offset;
        HASH_ADD(hh, p->tallies, offset, sizeof(t->offset), t);
    }
    t->count = count;
}

static int64_t tally_get(const struct partition *p, int64_t offset)
{
    struct tally *t = NULL;
    HASH_FIND(hh, p->tallies, &offset, sizeof(offset), t);
    return t ? t->count : 0;
}

void kafka_partition_begin(struct broker *b, struct partition *p)
{
    kafka_partition_forget(b, p, false);
    p->ours = true;
    p->moved_ms = loop_now_ms(b->env.loop);
}

void kafka_partitions_fini(struct broker *b)
{
    struct partition *p = b->partitions, *next;
    struct delivery *d, *younger;
    DL_FOREACH_SAFE2(b->orphans, d, younger, line_next)
    {
        delivery_free(b, d);
    }
    HASH_CLEAR(hh, b->partitions); /* likewise */
    for (; p; p = next) {
        next = p->hh.next;
        DL_FOREACH_SAFE (p->deliveries, d, younger) {
            delivery_free(b, d);
        }
        tallies_clear(p);
        free(p);
    }
}

/* ---- handing over ---- */

bool kafka_has_room(const struct broker *b)
{
    return !b->paused && !b->stopping && b->phase == PHASE_OPEN && b->held < (size_t)b->setup->config.prefetch;
}

/* The last of those that have one name; bytes that are no text under NAME_base64. */
static cJSON *headers_object(const struct delivery *d)
{
    const struct kafka_lib *lib = &d->broker->lib;
    const char *name;
    const void *value;
    size_t size;
    if (!d->headers)
        return NULL;
    cJSON *object = cJSON_CreateObject();
    for (size_t i = 0; lib->rd_kafka_header_get_all(d->headers, i, &name, &value, &size) == 0; i++) {
        cJSON *item;
        _cleanup_(freep) char *other = NULL;
        if (!utf8_valid(name, strlen(name)))
            continue;
        if (!value) {
            item = cJSON_CreateNull();
        } else if (utf8_valid(value, size) && !memchr(value, 0, size)) {
            _cleanup_(freep) char *text = xstrndup(value, size);
            item = value_string(text);
        } else {
            gchar *text = g_base64_encode(value, size);
            other = xasprintf("%s_base64", name);
            item = value_string(text);
            g_free(text);
        }
        value_set(object, other ? other : name, item);
    }
    return object;
}

static void hand_over(struct broker *b, struct delivery *d)
{
    char identity[400];
    d->state = DELIVERY_IN_HAND;
    d->count++;
    /* The time is that of the record, and tells it from another at its place in a topic that was made anew. */
    snprintf(identity, sizeof(identity), "%s/%d/%lld/%lld", b->topic, d->partition->number, (long long)d->offset,
             (long long)d->timestamp_ms);
    struct queue_message m = {
        .body = d->body ? d->body : "null",
        .len = d->body ? d->len : 4,
        .queue = b->topic,
        .headers = headers_object(d),
        .key = d->key,
        .key_len = d->key_len,
        .has_partition = true,
        .partition = d->partition->number,
        .offset = d->offset,
        .timestamp_ms = MAX(d->timestamp_ms, 0),
        .identity = identity,
        .deliveries = d->count,
    };
    queue_delivered(b->host, (uint64_t)(uintptr_t)d, &m);
}

static void bury(struct delivery *d);

static void bury_again(struct timer *timer, void *ctx)
{
    (void)timer;
    bury(ctx);
}

/* A copy: what librdkafka gave would hold on to all that came with it. */
static struct delivery *delivery_create(struct broker *b, struct partition *p, const rd_kafka_message_t *m)
{
    struct delivery *d = xcalloc(1, sizeof(*d) + m->key_len + m->len + 2);
    rd_kafka_timestamp_type_t type;
    d->broker = b;
    d->partition = p;
    d->offset = m->offset;
    d->timestamp_ms = b->lib.rd_kafka_message_timestamp(m, &type);
    d->count = tally_get(p, m->offset);
    timer_init(&d->pause, bury_again, d);
    if (m->key) {
        memcpy(d->bytes, m->key, m->key_len);
        d->key = d->bytes;
        d->key_len = m->key_len;
    }
    if (m->payload) {
        memcpy(d->bytes + m->key_len + 1, m->payload, m->len);
        d->body = d->bytes + m->key_len + 1;
        d->len = m->len;
    }
    union {
        const rd_kafka_message_t *in;
        rd_kafka_message_t *out;
    } message = {.in = m}; /* its headers are taken out of it */
    if (b->lib.rd_kafka_message_detach_headers(message.out, &d->headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
        d->headers = NULL;
    b->held++;
    DL_APPEND(p->deliveries, d);
    return d;
}

static void partition_moved(struct broker *b, struct partition *p)
{
    p->moved_ms = loop_now_ms(b->env.loop);
    p->seeks = 0;
    p->seen = true;
}

void kafka_partition_take(struct broker *b, const rd_kafka_message_t *m)
{
    struct partition *p = kafka_partition_get(b, m->partition);
    /* Before the next offset: it was sought anew, and has been taken. */
    if (!p->ours || p->leaving || m->offset < p->next)
        return;
    partition_moved(b, p);
    p->next = m->offset + 1;
    p->high = MAX(p->high, p->next);
    hand_over(b, delivery_create(b, p, m));
}

void kafka_partition_end(struct broker *b, struct partition *p, int64_t offset)
{
    if (!p->ours || p->leaving)
        return;
    partition_moved(b, p);
    p->end = offset;
    p->high = MAX(p->high, offset);
    /* Also what follows the last message: marks of transactions. And where a new group begins is committed, so that
     * nothing that comes from now on is passed over by a next life. */
    if (offset > p->next)
        p->next = offset;
    kafka_commit_soon(b);
}

void kafka_redeliver(struct broker *b)
{
    while (b->line && !b->line_waits && !b->paused && !b->stopping && b->phase == PHASE_OPEN) {
        struct delivery *d = b->line;
        line_remove(b, d);
        hand_over(b, d);
    }
}

/* ---- settling ---- */

static void delivery_line(struct broker *b, struct delivery *d)
{
    d->state = DELIVERY_LINED;
    DL_APPEND2(b->line, d, line_prev, line_next);
}

static void delivery_settled(struct broker *b, struct delivery *d)
{
    tally_remove(d->partition, d->offset);
    delivery_free(b, d);
    kafka_commit_soon(b);
    kafka_kick(b);
}

static void buried(void *ctx, int result, const char *message)
{
    struct delivery *d = ctx;
    struct broker *b = d->broker;
    d->burial = NULL;
    if (result == 0) {
        kafka_note(b, &b->grave_note, NULL, NULL);
        delivery_settled(b, d);
        return;
    }
    kafka_note(b, &b->grave_note, result == -ENOENT ? "QueueNotFound" : "DeadLetterFailed", "dead-letter %s", message);
    loop_timer_start(b->env.loop, &d->pause, BURY_AGAIN_MS);
}

static void bury(struct delivery *d)
{
    struct broker *b = d->broker;
    struct kafka_record record = {.topic = b->setup->dead_letter,
                                  .body = d->body,
                                  .len = d->len,
                                  .key = d->key,
                                  .key_len = d->key_len,
                                  .headers = d->headers};
    if (!b->graves)
        b->graves = kafka_publisher.create(&b->env);
    d->state = DELIVERY_DYING;
    d->burial = kafka_publish_record(b->graves, &b->lib, b->setup, "", &record, buried, d);
}

static void back_due(struct loop *loop, struct broker *b)
{
    b->line_waits = true;
    loop_timer_start(loop, &b->back_at, BACK_AFTER_MS);
}

void kafka_settle(struct broker *b, uint64_t tag, enum queue_settlement how)
{
    struct delivery *d = (struct delivery *)(uintptr_t)tag;
    if (!d->partition) {
        delivery_free(b, d);
        kafka_kick(b);
        return;
    }
    switch (how) {
    case QUEUE_DONE:
        delivery_settled(b, d);
        break;
    case QUEUE_AGAIN:
        tally_set(d->partition, d->offset, d->count);
        delivery_line(b, d);
        kafka_kick(b);
        break;
    case QUEUE_BACK:
        d->count--;
        delivery_line(b, d);
        back_due(b->env.loop, b);
        break;
    case QUEUE_DEAD_LETTER:
        bury(d);
        break;
    }
}

/* ---- committing ---- */

static int64_t position(const struct partition *p)
{
    return p->deliveries ? p->deliveries->offset : p->next;
}

bool kafka_partition_settled(const struct broker *b, const struct partition *p)
{
    return !p->deliveries && !b->committing && (p->next < 0 || p->next == p->sent);
}

/* Where it stays ours it is tried again; where it does not, its next owner reads from the last commit. */
static bool commit_failed(struct broker *b, const rd_kafka_topic_partition_list_t *list, bool all)
{
    bool failed = false;
    for (int i = 0; i < list->cnt; i++) {
        if (!all && !list->elems[i].err)
            continue;
        kafka_partition_get(b, list->elems[i].partition)->sent = -1;
        failed = true;
    }
    if (failed)
        loop_timer_start(b->env.loop, &b->commit_at, COMMIT_RETRY_MS);
    return failed;
}

bool kafka_commit(struct broker *b)
{
    struct partition *p, *next;
    if (b->committing || !b->rk)
        return false;
    rd_kafka_topic_partition_list_t *list = b->lib.rd_kafka_topic_partition_list_new(8);
    HASH_ITER (hh, b->partitions, p, next) {
        int64_t at = position(p);
        if (!p->ours || at < 0 || at == p->sent)
            continue;
        b->lib.rd_kafka_topic_partition_list_add(list, b->topic, p->number)->offset = at;
        p->sent = at;
    }
    if (list->cnt > 0) {
        b->committing = b->lib.rd_kafka_commit_queue(b->rk, list, b->events, NULL, NULL) == 0;
        if (!b->committing)
            commit_failed(b, list, true);
    }
    b->lib.rd_kafka_topic_partition_list_destroy(list);
    if (b->committing)
        b->committed_ms = loop_now_ms(b->env.loop);
    return b->committing;
}

void kafka_commit_soon(struct broker *b)
{
    if (timer_active(&b->commit_at) || b->committing)
        return;
    int64_t since = loop_now_ms(b->env.loop) - b->committed_ms;
    loop_timer_start(b->env.loop, &b->commit_at, since >= COMMIT_EVERY_MS ? 0 : COMMIT_EVERY_MS - since);
}

void kafka_committed(struct broker *b, rd_kafka_event_t *ev)
{
    const struct kafka_lib *lib = &b->lib;
    rd_kafka_resp_err_t err = lib->rd_kafka_event_error(ev);
    rd_kafka_topic_partition_list_t *list = lib->rd_kafka_event_topic_partition_list(ev);
    b->committing = false;
    if (err == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED || err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
        kafka_note(b, &b->topic_note, kafka_reason(err, NULL), "commit: %s", lib->rd_kafka_err2str(err));
    if (!list || !commit_failed(b, list, err != RD_KAFKA_RESP_ERR_NO_ERROR))
        kafka_commit_soon(b);
}

/* ---- how much waits ---- */

void kafka_watermarks(struct broker *b)
{
    struct partition *p, *next;
    HASH_ITER (hh, b->partitions, p, next) {
        int64_t low, high;
        if (p->ours && b->lib.rd_kafka_get_watermark_offsets(b->rk, b->topic, p->number, &low, &high) == 0 && high >= 0)
            p->high = MAX(p->high, high);
    }
}

int64_t kafka_lag(const struct broker *b)
{
    const struct partition *p;
    int64_t lag = 0;
    bool any = false;
    for (p = b->partitions; p; p = p->hh.next) {
        if (!p->ours || p->next < 0 || p->high < 0)
            continue;
        any = true;
        lag += MAX(p->high - p->next, 0);
    }
    return any ? lag : -1;
}
