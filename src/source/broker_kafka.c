#include "source/broker_kafka.h"

#include "model/value.h"

#include <errno.h>
#include <stdio.h>
#include <utlist.h>

#define TICK_MS 1000
#define URGE_MS 100
#define LEAVE_MS 5000  /* at most, for leaving the group */
#define REVOKE_MS 5000 /* what is in hand may take so long to be settled before a partition goes to another */
#define JOIN_MS 20000  /* without a word of the group, it is told */
#define PROBE_MS 5000  /* how often the ends of the logs are asked for */
#define SEEKS_MAX 3    /* then everything is opened anew */
#define REOPEN_MS 2000 /* resume() opens anew what has failed for so long */
#define MESSAGES_AT_ONCE 256
#define EVENTS_AT_ONCE 64

/* ---- how it stands ---- */

void kafka_note(struct broker *b, struct kafka_note *note, const char *reason, const char *format, ...)
{
    free(note->text);
    note->text = NULL;
    note->reason = reason;
    if (reason) {
        va_list args;
        va_start(args, format);
        note->text = xvasprintf(format, args);
        va_end(args);
        mask_string(b->setup->mask, &note->text);
    }
    kafka_judge(b);
}

static void note_clear(struct kafka_note *note)
{
    free(note->text);
    *note = (struct kafka_note){0};
}

void kafka_judge(struct broker *b)
{
    const struct kafka_note *worst = b->down && b->link.reason ? &b->link
                                     : b->topic_note.reason    ? &b->topic_note
                                     : b->stuck.reason         ? &b->stuck
                                     : b->grave_note.reason    ? &b->grave_note
                                                               : NULL;
    if (b->stopping || b->phase == PHASE_CLOSED)
        return;
    if (worst)
        queue_state(b->host, SOURCE_FAILED, worst->reason, worst->text);
    else if (b->down)
        queue_state(b->host, SOURCE_FAILED, "ConnectionLost", "no connection to the broker");
    else if (b->joined && b->up)
        queue_state(b->host, SOURCE_CONNECTED, "Connected", "");
}

/* A broker that matters: it leads one of our partitions, or is the group's coordinator. */
static bool broker_matters(const cJSON *broker)
{
    const char *name = value_get_string(broker, "name");
    const cJSON *parts = value_get(broker, "toppars");
    return streq(name, "GroupCoordinator") || (parts && parts->child);
}

static void stats_partitions(struct broker *b, const cJSON *stats)
{
    const cJSON *topic = value_get(value_get(stats, "topics"), b->topic);
    const cJSON *part;
    int32_t n = 0;
    cJSON_ArrayForEach (part, value_get(topic, "partitions"))
        if (!streq(part->string, "-1"))
            n++;
    if (n > 0 && b->known_partitions < 0)
        b->known_partitions = n;
}

/* Every half a second: librdkafka tells when a connection fails, but not when it is back. */
static void stats_event(struct broker *b, rd_kafka_event_t *ev)
{
    const char *text = b->lib.rd_kafka_event_stats(ev);
    cJSON *stats = cJSON_Parse(text);
    const cJSON *broker;
    bool up = streq(value_get_string(value_get(stats, "cgrp"), "state"), "up");
    cJSON_ArrayForEach (broker, value_get(stats, "brokers")) {
        const char *state = value_get_string(broker, "state");
        if (broker_matters(broker) && !streq(state, "UP") && !streq(state, "UPDATE"))
            up = false;
    }
    stats_partitions(b, stats);
    cJSON_Delete(stats);
    b->up = up;
    b->not_up = up ? 0 : b->not_up + 1;
    if (up) {
        b->down = false;
        note_clear(&b->link);
    } else if (b->not_up > 1 && (b->joined || b->link.reason)) {
        b->down = true;
    }
    if (up && b->joined)
        queue_backoff_reset(&b->backoff);
    if (!b->joined && !b->down && !b->topic_note.reason && loop_now_ms(b->env.loop) - b->opened_ms > JOIN_MS)
        kafka_note(b, &b->stuck, "NoProgress", "the group \"%s\" does not let us in", b->setup->group);
    kafka_judge(b);
}

/* ---- partitions come and go ---- */

static void list_assign(struct broker *b, const rd_kafka_topic_partition_list_t *list, bool assign)
{
    rd_kafka_error_t *error =
        assign ? b->lib.rd_kafka_incremental_assign(b->rk, list) : b->lib.rd_kafka_incremental_unassign(b->rk, list);
    if (!error)
        return;
    kafka_note(b, &b->link, "ConnectionLost", "%s: %s", assign ? "assign" : "unassign",
               b->lib.rd_kafka_error_string(error));
    b->lib.rd_kafka_error_destroy(error);
}

/* Its messages come by a queue of their own, which is read only while there is room: so nothing needs to be paused, and
 * what librdkafka has read ahead is not thrown away and read again. Whenever it stops reading a partition it forgets
 * where that leads to, and keeps what comes next. */
static void partition_lead(struct broker *b, const struct partition *p)
{
    rd_kafka_queue_t *q = b->lib.rd_kafka_queue_get_partition(b->rk, b->topic, p->number);
    if (!q)
        return;
    b->lib.rd_kafka_queue_forward(q, b->messages);
    b->lib.rd_kafka_queue_destroy(q);
}

static void partitions_come(struct broker *b, const rd_kafka_topic_partition_list_t *list)
{
    for (int i = 0; i < list->cnt; i++) {
        struct partition *p = kafka_partition_get(b, list->elems[i].partition);
        kafka_partition_begin(b, p);
        partition_lead(b, p);
    }
    list_assign(b, list, true);
    b->joined = true;
    note_clear(&b->stuck);
    if (list->cnt > 0)
        note_clear(&b->topic_note);
    kafka_judge(b);
}

static void revoke_end(struct broker *b)
{
    rd_kafka_topic_partition_list_t *list = steal(&b->revoked);
    bool lost = b->lib.rd_kafka_assignment_lost(b->rk);
    for (int i = 0; i < list->cnt; i++)
        kafka_partition_forget(b, kafka_partition_get(b, list->elems[i].partition), !lost);
    list_assign(b, list, false);
    b->lib.rd_kafka_topic_partition_list_destroy(list);
    kafka_kick(b);
}

/* Given back once what is in hand of them is settled and committed, so that their next owner does not get it again. */
static void revoke_serve(struct broker *b)
{
    if (!b->revoked)
        return;
    bool settled = true;
    for (int i = 0; i < b->revoked->cnt; i++)
        settled = settled && kafka_partition_settled(b, kafka_partition_get(b, b->revoked->elems[i].partition));
    if (!settled && !b->lib.rd_kafka_assignment_lost(b->rk) && loop_now_ms(b->env.loop) < b->revoked_due_ms) {
        kafka_commit_soon(b);
        return;
    }
    revoke_end(b);
}

static void partitions_go(struct broker *b, const rd_kafka_topic_partition_list_t *list)
{
    if (b->revoked)
        revoke_end(b);
    b->revoked = b->lib.rd_kafka_topic_partition_list_copy(list);
    /* Where we go, nobody settles any more: only the commit is waited for. */
    b->revoked_due_ms = loop_now_ms(b->env.loop) + (b->stopping || b->phase == PHASE_LEAVING ? 1000 : REVOKE_MS);
    for (int i = 0; i < list->cnt; i++) {
        struct partition *p = kafka_partition_get(b, list->elems[i].partition);
        p->leaving = true;
        if (b->phase == PHASE_LEAVING && p->deliveries)
            b->revoked_due_ms = MIN(b->revoked_due_ms, loop_now_ms(b->env.loop) + 200);
    }
    kafka_commit(b);
    revoke_serve(b);
}

static void rebalance_event(struct broker *b, rd_kafka_event_t *ev)
{
    rd_kafka_topic_partition_list_t *list = b->lib.rd_kafka_event_topic_partition_list(ev);
    if (b->lib.rd_kafka_event_error(ev) == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS)
        partitions_come(b, list);
    else
        partitions_go(b, list);
}

/* No committed offset, or none that the log still has. What was read before in this life, what was not there when it
 * began, and what was committed once, goes on with all that there is. */
static void partition_reset(struct broker *b, struct partition *p, const char *why)
{
    bool fresh = !p->seen && !b->was_missing && (b->known_partitions < 0 || p->number < b->known_partitions) && why &&
                 strstr(why, b->lib.rd_kafka_err2str(RD_KAFKA_RESP_ERR__NO_OFFSET));
    int64_t offset = fresh && b->setup->config.start == START_LATEST ? RD_KAFKA_OFFSET_END : RD_KAFKA_OFFSET_BEGINNING;
    if (!p->ours || p->leaving)
        return;
    kafka_partition_begin(b, p);
    rd_kafka_topic_partition_list_t *list = b->lib.rd_kafka_topic_partition_list_new(1);
    b->lib.rd_kafka_topic_partition_list_add(list, b->topic, p->number)->offset = offset;
    list_assign(b, list, false);
    list_assign(b, list, true); /* it has stopped when this returns */
    partition_lead(b, p);
    b->lib.rd_kafka_topic_partition_list_destroy(list);
}

/* ---- errors ---- */

static void reopen(struct broker *b);

static void partition_error(struct broker *b, const rd_kafka_topic_partition_t *at, rd_kafka_resp_err_t code,
                            const char *text)
{
    struct partition *p = kafka_partition_get(b, at->partition);
    if (code == RD_KAFKA_RESP_ERR__PARTITION_EOF)
        kafka_partition_end(b, p, at->offset);
    else if (code == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET)
        partition_reset(b, p, text);
}

/* Whoever makes it anew may have filled it to where we stand before we look again: then only a client that begins with
 * what the group has committed, which went with the topic, sees that it is another one. */
static void topic_is_gone(struct broker *b)
{
    const struct partition *p;
    for (p = b->partitions; p; p = p->hh.next)
        if (p->ours)
            b->renew = true;
    if (b->renew)
        kafka_kick(b);
}

/* Told at once; others only where what stats say agrees: a cluster works without one of its brokers. */
static bool error_is_global(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || code == RD_KAFKA_RESP_ERR__AUTHENTICATION ||
           code == RD_KAFKA_RESP_ERR__SSL;
}

static void error_event(struct broker *b, rd_kafka_event_t *ev)
{
    rd_kafka_resp_err_t code = b->lib.rd_kafka_event_error(ev);
    const char *text = b->lib.rd_kafka_event_error_string(ev);
    const char *reason = kafka_reason(code, text);
    rd_kafka_topic_partition_t *at = b->lib.rd_kafka_event_topic_partition(ev);
    if (at && (code == RD_KAFKA_RESP_ERR__PARTITION_EOF || code == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET)) {
        partition_error(b, at, code, text);
    } else if (streq(reason, "QueueNotFound")) {
        b->was_missing = true;
        topic_is_gone(b);
        kafka_note(b, &b->topic_note, reason, "topic \"%s\" does not exist", b->topic);
    } else if (streq(reason, "AccessDenied")) {
        kafka_note(b, &b->topic_note, reason, "%s", text);
    } else if (code != RD_KAFKA_RESP_ERR__MAX_POLL_EXCEEDED) {
        b->down = b->down || error_is_global(code);
        /* `all brokers are down`, or that another connection is lost as well, may come after what says why; and what says
         * why is not repeated for half a minute. */
        if (!b->link.reason || !streq(reason, "ConnectionLost"))
            kafka_note(b, &b->link, reason, "%s", text ? text : b->lib.rd_kafka_err2str(code));
        kafka_judge(b);
    }
    if (at)
        b->lib.rd_kafka_topic_partition_destroy(at);
}

/* ---- the queues ---- */

/* Where the logs end of what is ours: to be asked for. */
static rd_kafka_topic_partition_list_t *partitions_ends(const struct broker *b)
{
    const struct partition *p;
    rd_kafka_topic_partition_list_t *list = b->lib.rd_kafka_topic_partition_list_new(8);
    for (p = b->partitions; p; p = p->hh.next)
        if (p->ours && !p->leaving)
            b->lib.rd_kafka_topic_partition_list_add(list, b->topic, p->number)->offset = RD_KAFKA_OFFSET_END;
    return list;
}

static void message_event(struct broker *b, rd_kafka_event_t *ev)
{
    const rd_kafka_message_t *m;
    while ((m = b->lib.rd_kafka_event_message_next(ev))) {
        b->taken++;
        b->taken_bytes += m->len + m->key_len;
        kafka_partition_take(b, m);
    }
}

/* A reader that has read far enough ahead looks again only after a second, or when its thread has something else to do.
 * So it is given something, which is not waited for, whenever half of what it may hold has been taken. */
static void reader_wake(struct broker *b)
{
    if (b->taken < KAFKA_AHEAD_MESSAGES / 2 && b->taken_bytes < KAFKA_AHEAD_KBYTES * 1024 / 2)
        return;
    rd_kafka_topic_partition_list_t *list = partitions_ends(b);
    b->taken = b->taken_bytes = 0;
    if (list->cnt > 0)
        b->lib.rd_kafka_offsets_for_times(b->rk, list, 0);
    b->lib.rd_kafka_topic_partition_list_destroy(list);
}

/* True: the client cannot go on. */
static bool handle(struct broker *b, rd_kafka_event_t *ev)
{
    bool fatal = false;
    switch (b->lib.rd_kafka_event_type(ev)) {
    case RD_KAFKA_EVENT_FETCH:
        message_event(b, ev);
        break;
    case RD_KAFKA_EVENT_REBALANCE:
        rebalance_event(b, ev);
        break;
    case RD_KAFKA_EVENT_OFFSET_COMMIT:
        kafka_committed(b, ev);
        revoke_serve(b);
        break;
    case RD_KAFKA_EVENT_ERROR:
        fatal = b->lib.rd_kafka_event_error_is_fatal(ev);
        error_event(b, ev);
        break;
    case RD_KAFKA_EVENT_STATS:
        stats_event(b, ev);
        break;
    case RD_KAFKA_EVENT_LOG:
        kafka_log_event(&b->lib, ev, b->setup->mask);
        break;
    default:
        break;
    }
    b->lib.rd_kafka_event_destroy(ev);
    return fatal;
}

static void left(struct broker *b);

static void take_messages(struct broker *b)
{
    unsigned n = 0;
    rd_kafka_event_t *ev = NULL;
    kafka_redeliver(b);
    while (kafka_has_room(b) && n++ < MESSAGES_AT_ONCE && (ev = b->lib.rd_kafka_queue_poll(b->messages, 0)))
        handle(b, ev);
    reader_wake(b);
    if (!kafka_has_room(b))
        b->hungry_ms = 0;
    else if (ev)
        kafka_kick(b);
    else if (!b->hungry_ms)
        b->hungry_ms = loop_now_ms(b->env.loop);
}

static void serve(void *ctx)
{
    struct broker *b = ctx;
    unsigned n = 0;
    bool fatal = false;
    rd_kafka_event_t *ev = NULL;
    if (b->phase != PHASE_OPEN && b->phase != PHASE_LEAVING)
        return;
    while (!fatal && n++ < EVENTS_AT_ONCE && (ev = b->lib.rd_kafka_queue_poll(b->events, 0)))
        fatal = handle(b, ev);
    if (b->phase == PHASE_LEAVING && b->lib.rd_kafka_consumer_closed(b->rk)) {
        left(b);
    } else if (fatal || b->renew) {
        reopen(b);
    } else {
        revoke_serve(b);
        take_messages(b);
        if (ev)
            kafka_kick(b);
    }
}

void kafka_kick(struct broker *b)
{
    if (b->phase == PHASE_OPEN || b->phase == PHASE_LEAVING)
        loop_defer(b->env.loop, &b->task);
}

/* ---- once a second ---- */

static void *probe_run(void *ctx)
{
    struct broker *b = ctx;
    b->probe.result = b->lib.rd_kafka_offsets_for_times(b->rk, b->probe.list, 2000);
    loop_async_send(&b->probed);
    return NULL;
}

/* What librdkafka knows of the ends of the logs came with what it read; a reader that stands still knows nothing. It has
 * no call for this that does not wait, so a thread does. */
static void probe_start(struct broker *b)
{
    int64_t now = loop_now_ms(b->env.loop);
    if (b->probe.list || now - b->probed_ms < PROBE_MS)
        return;
    rd_kafka_topic_partition_list_t *list = partitions_ends(b);
    b->probed_ms = now;
    b->probe.list = list;
    if (list->cnt == 0 || pthread_create(&b->probe.thread, NULL, probe_run, b) != 0) {
        b->lib.rd_kafka_topic_partition_list_destroy(list);
        b->probe.list = NULL;
    }
}

static void end_client(struct broker *b);

static void probe_done(void *ctx)
{
    struct broker *b = ctx;
    if (!b->probe.list)
        return;
    pthread_join(b->probe.thread, NULL);
    rd_kafka_topic_partition_list_t *list = steal(&b->probe.list);
    for (int i = 0; b->probe.result == 0 && i < list->cnt; i++) {
        struct partition *p = kafka_partition_get(b, list->elems[i].partition);
        if (!list->elems[i].err && p->ours)
            p->high = MAX(p->high, list->elems[i].offset);
    }
    b->lib.rd_kafka_topic_partition_list_destroy(list);
    if (b->phase == PHASE_ENDING)
        end_client(b);
}

static void seek(struct broker *b, struct partition *p)
{
    rd_kafka_topic_partition_list_t *list = b->lib.rd_kafka_topic_partition_list_new(1);
    b->lib.rd_kafka_topic_partition_list_add(list, b->topic, p->number)->offset =
        p->next >= 0 ? p->next : RD_KAFKA_OFFSET_BEGINNING;
    rd_kafka_error_t *error = b->lib.rd_kafka_seek_partitions(b->rk, list, 0);
    if (error)
        b->lib.rd_kafka_error_destroy(error);
    partition_lead(b, p);
    b->lib.rd_kafka_topic_partition_list_destroy(list);
}

/* librdkafka 2.0 can leave a partition unread for good, connected as it is. */
static bool partition_is_stuck(const struct broker *b, const struct partition *p, int64_t now)
{
    return p->ours && !p->leaving && b->hungry_ms > 0 && p->next >= 0 && p->high > MAX(p->next, p->end) &&
           now - MAX(b->hungry_ms, p->moved_ms) >= QUEUE_SILENCE_MS;
}

/* True: it was opened anew. */
static bool watch_progress(struct broker *b)
{
    struct partition *p, *next;
    int64_t now = loop_now_ms(b->env.loop);
    bool stuck = false;
    if (b->down || !b->joined || b->revoked)
        return false;
    HASH_ITER (hh, b->partitions, p, next) {
        if (p->seeks > 0 && p->ours)
            stuck = true;
        if (!partition_is_stuck(b, p, now))
            continue;
        stuck = true;
        kafka_note(b, &b->stuck, "NoProgress", "partition %d of \"%s\" stands still at offset %lld of %lld", p->number,
                   b->topic, (long long)p->next, (long long)p->high);
        if (p->seeks++ == SEEKS_MAX) {
            reopen(b);
            return true;
        }
        seek(b, p);
        p->moved_ms = now;
    }
    if (!stuck && b->stuck.reason)
        kafka_note(b, &b->stuck, NULL, NULL);
    return false;
}

/* librdkafka's own thread takes its next step into the group, as soon as a broker or the group's coordinator is there, when
 * it is asked something, or else once a second. */
static void urge(struct timer *timer, void *ctx)
{
    struct broker *b = ctx;
    (void)timer;
    if (b->phase != PHASE_OPEN || (b->joined && b->up))
        return;
    rd_kafka_consumer_group_metadata_t *any = b->lib.rd_kafka_consumer_group_metadata(b->rk);
    if (any)
        b->lib.rd_kafka_consumer_group_metadata_destroy(any);
    loop_timer_start(b->env.loop, &b->urge, URGE_MS);
}

static void tick(struct timer *timer, void *ctx)
{
    struct broker *b = ctx;
    (void)timer;
    if (b->phase != PHASE_OPEN)
        return;
    kafka_watermarks(b);
    probe_start(b);
    if (watch_progress(b))
        return;
    kafka_kick(b); /* also where nothing came: who does not poll is put out of the group */
    loop_timer_start(b->env.loop, &b->tick, TICK_MS);
    if (!timer_active(&b->urge))
        urge(&b->urge, b);
}

static void commit_due(struct timer *timer, void *ctx)
{
    struct broker *b = ctx;
    (void)timer;
    if (b->phase == PHASE_OPEN || b->phase == PHASE_LEAVING)
        kafka_commit(b);
    revoke_serve(b);
}

static void back_due(struct timer *timer, void *ctx)
{
    struct broker *b = ctx;
    (void)timer;
    b->line_waits = false;
    kafka_kick(b);
}

/* ---- a client's life ---- */

static void opened(void *ctx, const struct kafka_lib *lib, rd_kafka_t *rk, const char *reason, const struct error *err);

static void open_client(struct broker *b)
{
    loop_timer_stop(b->env.loop, &b->again);
    b->phase = PHASE_OPENING;
    b->opening = kafka_open(b->env.loop, b->env.avoid, b->setup, RD_KAFKA_CONSUMER, opened, b);
}

static void open_again(struct timer *timer, void *ctx)
{
    (void)timer;
    open_client(ctx);
}

static void wait_again(struct broker *b)
{
    b->phase = PHASE_CLOSED;
    loop_timer_start(b->env.loop, &b->again, queue_backoff_next(&b->backoff, b->env.random));
}

static void subscribe(struct broker *b)
{
    rd_kafka_topic_partition_list_t *list = b->lib.rd_kafka_topic_partition_list_new(1);
    b->lib.rd_kafka_topic_partition_list_add(list, b->topic, RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t code = b->lib.rd_kafka_subscribe(b->rk, list);
    b->lib.rd_kafka_topic_partition_list_destroy(list);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        kafka_note(b, &b->topic_note, "QueueNotFound", "topic \"%s\": %s", b->topic, b->lib.rd_kafka_err2str(code));
}

static void opened(void *ctx, const struct kafka_lib *lib, rd_kafka_t *rk, const char *reason, const struct error *err)
{
    struct broker *b = ctx;
    b->opening = NULL;
    if (!rk) {
        kafka_note(b, &b->topic_note, reason, "%s", err->message);
        wait_again(b);
        return;
    }
    b->lib = *lib;
    b->rk = rk;
    b->phase = PHASE_OPEN;
    b->joined = b->up = b->down = b->committing = b->renew = false;
    b->not_up = 0;
    b->hungry_ms = 0;
    b->opened_ms = b->probed_ms = loop_now_ms(b->env.loop);
    note_clear(&b->topic_note);
    lib->rd_kafka_poll_set_consumer(rk);
    b->events = lib->rd_kafka_queue_get_consumer(rk);
    b->messages = lib->rd_kafka_queue_new(rk);
    lib->rd_kafka_set_log_queue(rk, b->events);
    kafka_wake_add(&b->wake, lib, b->events);
    kafka_wake_add(&b->wake, lib, b->messages);
    subscribe(b);
    loop_timer_start(b->env.loop, &b->tick, TICK_MS);
    loop_timer_start(b->env.loop, &b->urge, URGE_MS);
    kafka_kick(b);
}

static void gone(void *ctx);

static void graves_closed(void *ctx)
{
    struct broker *b = ctx;
    b->graves = NULL;
    loop_group_close(&b->group, gone, b);
}

static void stopped(struct broker *b)
{
    loop_timer_stop(b->env.loop, &b->again);
    loop_timer_stop(b->env.loop, &b->back_at);
    kafka_partitions_fini(b);
    if (b->graves)
        kafka_publisher.close(b->graves, graves_closed, b);
    else
        graves_closed(b);
}

static void disposed(void *ctx)
{
    struct broker *b = ctx;
    if (b->stopping)
        stopped(b);
    else
        wait_again(b);
}

static void end_client(struct broker *b)
{
    rd_kafka_t *rk = steal(&b->rk);
    kafka_dispose(b->env.loop, &b->lib, rk, b->joined, disposed, b);
}

/* It has left its group, or could not in time (`joined` is false then: it has nothing more to close). */
static void left(struct broker *b)
{
    struct partition *p, *next;
    b->phase = PHASE_ENDING;
    loop_timer_stop(b->env.loop, &b->tick);
    loop_timer_stop(b->env.loop, &b->urge);
    loop_timer_stop(b->env.loop, &b->bound);
    loop_timer_stop(b->env.loop, &b->commit_at);
    loop_task_cancel(b->env.loop, &b->task);
    HASH_ITER (hh, b->partitions, p, next) {
        kafka_partition_forget(b, p, false);
    }
    if (b->revoked)
        b->lib.rd_kafka_topic_partition_list_destroy(steal(&b->revoked));
    kafka_wake_remove(&b->lib, b->messages);
    kafka_wake_remove(&b->lib, b->events);
    b->messages = b->events = NULL;
    if (!b->probe.list) /* else it goes on with the end of that */
        end_client(b);
}

static void leave_late(struct timer *timer, void *ctx)
{
    struct broker *b = ctx;
    (void)timer;
    b->joined = false;
    left(b);
}

/* To close a consumer of librdkafka 2.0 that never had an assignment can end the process: such a one is just ended. */
static void leave(struct broker *b)
{
    rd_kafka_error_t *error = b->joined ? b->lib.rd_kafka_consumer_close_queue(b->rk, b->events) : NULL;
    if (!b->joined || error) {
        if (error)
            b->lib.rd_kafka_error_destroy(error);
        b->joined = false;
        left(b);
        return;
    }
    b->phase = PHASE_LEAVING;
    loop_timer_start(b->env.loop, &b->bound, LEAVE_MS);
    kafka_kick(b);
}

static void reopen(struct broker *b)
{
    if (b->phase == PHASE_OPEN)
        leave(b);
}

/* ---- what the host calls ---- */

static int kafka_create(struct queue_consumer *host, const struct queue_env *env, struct queue_setup *setup,
                        struct broker **ret, struct error *err)
{
    struct broker *b = xcalloc(1, sizeof(*b));
    b->host = host;
    b->env = *env;
    b->setup = queue_setup_ref(setup);
    b->topic = setup->config.queue_name;
    b->wake.fd = -1;
    b->known_partitions = -1;
    loop_group_init(&b->group, env->loop);
    loop_task_init(&b->task, serve, b);
    timer_init(&b->tick, tick, b);
    timer_init(&b->urge, urge, b);
    timer_init(&b->again, open_again, b);
    timer_init(&b->bound, leave_late, b);
    timer_init(&b->commit_at, commit_due, b);
    timer_init(&b->back_at, back_due, b);
    int r = kafka_wake_open(&b->group, &b->wake, serve, b);
    if (r == 0)
        r = loop_async_init(&b->group, &b->probed, probe_done, b);
    if (r < 0) {
        loop_group_close(&b->group, gone, b);
        return error_set(err, r, "eventfd: %s", strerror(-r));
    }
    *ret = b;
    return 0;
}

static void gone(void *ctx)
{
    struct broker *b = ctx;
    void (*done)(void *ctx) = b->done;
    void *done_ctx = b->done_ctx;
    kafka_wake_fini(&b->wake);
    note_clear(&b->link);
    note_clear(&b->topic_note);
    note_clear(&b->grave_note);
    note_clear(&b->stuck);
    queue_setup_unref(b->setup);
    free(b);
    if (done)
        done(done_ctx);
}

static void kafka_start(struct broker *b)
{
    open_client(b);
}

static void kafka_stop(struct broker *b, void (*done)(void *ctx), void *ctx)
{
    b->stopping = true;
    b->done = done;
    b->done_ctx = ctx;
    switch (b->phase) {
    case PHASE_OPENING:
        kafka_open_abandon(b->opening);
        stopped(b);
        break;
    case PHASE_OPEN:
        leave(b);
        break;
    case PHASE_CLOSED:
        stopped(b);
        break;
    default:
        break; /* on its way already */
    }
}

static void kafka_pause(struct broker *b)
{
    b->paused = true;
    b->hungry_ms = 0;
}

static void kafka_resume(struct broker *b)
{
    b->paused = false;
    b->line_waits = false;
    loop_timer_stop(b->env.loop, &b->back_at);
    if (b->phase == PHASE_CLOSED && timer_active(&b->again))
        open_client(b);
    else if (b->phase == PHASE_OPEN && b->down && loop_now_ms(b->env.loop) - b->opened_ms > REOPEN_MS)
        reopen(b); /* librdkafka's own next attempt cannot be hastened */
    else
        kafka_kick(b);
}

static void kafka_update(struct broker *b, struct queue_setup *setup)
{
    queue_setup_replace(&b->setup, setup);
    b->topic = b->setup->config.queue_name;
    if (b->phase == PHASE_OPEN)
        kafka_kick(b); /* there may be more room */
}

static void kafka_validate(const struct queue_config *c, const cJSON *node, const char *path, struct issues *issues)
{
    kafka_options_validate(c, node, path, issues);
}

const struct broker_type broker_kafka = {
    .type = QUEUE_KAFKA,
    .validate = kafka_validate,
    .create = kafka_create,
    .start = kafka_start,
    .stop = kafka_stop,
    .pause = kafka_pause,
    .resume = kafka_resume,
    .update = kafka_update,
    .settle = kafka_settle,
    .lag = kafka_lag,
};
