/* message_queue: the messages of a broker. An active type; what triggers share is in queue_consumer.h.
 *
 * A report is one message, or a batch of them, on its way to be an event:
 *
 *   filling ─► (looking ⇄ held ⇄) told ─► recorded ─► ended        its messages are settled:
 *                                   └────────┴────────────────►    auto: once recorded; manual: once its run has ended
 *
 * Of a batch the identities are looked for first, and what the trigger has already is taken out. Between the look and the
 * record its identities are claimed: a report that brings one of them again waits until it is recorded, and finds it.
 *
 * Reports go to the engine in the order in which their messages came: after one that could not be recorded (a full
 * queue, a store that fails) the others are held, and it is tried again at resume() or after a while. So what is in
 * memory is bounded by `prefetch`, for the broker hands out no more.
 *
 * An edit of how messages are read leaves the consumer as it is, and the reports too: each ends as what it was told as.
 *
 * stop() waits until what the engine was told is settled: an event that is recorded just then would be delivered again,
 * and most brokers have no identity by which that would be noticed. */
#include "source/message_queue.h"

#include "base/loop.h"
#include "base/util.h"
#include "source/list.h"
#include "source/queue_data.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <uthash.h>
#include <utlist.h>

const struct broker_type *const queue_brokers[QUEUE_TYPES] = {
    [QUEUE_REDIS] = &broker_redis,
    [QUEUE_RABBITMQ] = &broker_rabbitmq,
    [QUEUE_KAFKA] = &broker_kafka,
    [QUEUE_SQS] = &broker_sqs,
};

enum stage { FILLING, HELD, LOOKING, TOLD, RECORDED };

struct report {
    enum stage stage;
    char *failed; /* why it is a failed event; NULL: it is not */
    size_t bytes;
    struct queue_delivery **messages;
    size_t n, cap;
    size_t shown;   /* of n; behind them are those that came twice in it */
    bool batch;     /* it is a list of messages, though there be one */
    bool until_end; /* its messages are settled when its event has ended */
    bool looked, claimed;
    struct report *prev, *next;
};

/* An identity that is on its way to be recorded. */
struct claim {
    const char *identity; /* the message's */
    UT_hash_handle hh;
};

struct source {
    struct source_host *host;
    const struct source_env *env;
    struct queue_config config;
    char *event_type;
    struct queue_member *member;
    struct report *reports;     /* oldest first */
    size_t held, looking, told; /* how many are at these stages */
    struct claim *claims;
    bool claiming; /* there are batches, or were: identities are claimed by everything */
    bool paused, stopping, going;
    struct queue_backoff backoff;
    struct timer full;  /* closes the one that is being filled */
    struct timer again; /* for those that are held */
    struct loop_task left;
    void (*done)(void *ctx);
    void *done_ctx;
};

/* ---- reports ---- */

static struct report *report_new(size_t cap)
{
    struct report *r = xcalloc(1, sizeof(*r));
    r->messages = xcalloc(cap, sizeof(struct queue_delivery *));
    r->cap = cap;
    return r;
}

static bool has_identity(const struct report *r)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->messages[i]->identity)
            return true;
    return false;
}

static void unclaim(struct source *s, struct report *r)
{
    for (size_t i = 0; r->claimed && i < r->shown; i++) {
        struct claim *c = NULL;
        if (r->messages[i]->identity)
            HASH_FIND_STR(s->claims, r->messages[i]->identity, c);
        if (!c)
            continue;
        HASH_DEL(s->claims, c);
        free(c);
    }
    r->claimed = false;
}

/* The identities of its messages are its own from now on, and those that have one twice stand behind the others. False:
 * another report has one of them. */
static bool claim(struct source *s, struct report *r)
{
    struct claim *c;
    if (r->claimed)
        return true;
    for (size_t i = 0; i < r->n; i++) {
        c = NULL;
        if (r->messages[i]->identity)
            HASH_FIND_STR(s->claims, r->messages[i]->identity, c);
        if (c)
            return false;
    }
    _cleanup_(freep) struct queue_delivery **twins = xcalloc(r->n, sizeof(struct queue_delivery *));
    size_t n_twins = 0;
    r->shown = 0;
    for (size_t i = 0; i < r->n; i++) {
        struct queue_delivery *d = r->messages[i];
        c = NULL;
        if (d->identity)
            HASH_FIND_STR(s->claims, d->identity, c);
        if (c) {
            twins[n_twins++] = d;
            continue;
        }
        r->messages[r->shown++] = d;
        if (!d->identity)
            continue;
        c = xcalloc(1, sizeof(*c));
        c->identity = d->identity;
        HASH_ADD_KEYPTR(hh, s->claims, c->identity, strlen(c->identity), c);
    }
    for (size_t i = 0; i < n_twins; i++)
        r->messages[r->shown + i] = twins[i];
    r->claimed = true;
    return true;
}

static void report_free(struct source *s, struct report *r)
{
    DL_DELETE(s->reports, r);
    s->held -= r->stage == HELD;
    assert(!r->claimed && r->stage != LOOKING);
    free(r->messages);
    free(r->failed);
    free(r);
}

/* Its messages are settled, and it is gone. */
static void report_settle(struct source *s, struct report *r, enum queue_settlement how)
{
    unclaim(s, r);
    for (size_t i = 0; i < r->n; i++) {
        enum queue_settlement one = how == QUEUE_AGAIN ? queue_requeue(r->messages[i], s->config.max_deliveries) : how;
        if (r->stage < RECORDED)
            queue_share_let_go(r->messages[i]);
        queue_share_settle(r->messages[i], one);
    }
    report_free(s, r);
}

static cJSON *report_data(const struct report *r)
{
    _cleanup_(freep) const cJSON **list = xcalloc(r->shown, sizeof(const cJSON *));
    for (size_t i = 0; i < r->shown; i++)
        list[i] = r->messages[i]->data;
    return queue_batch_data(list, r->shown);
}

static void report_tell(struct source *s, struct report *r)
{
    bool batch = r->batch;
    const struct queue_delivery *first = r->messages[0];
    cJSON *data = batch ? report_data(r) : first->data;
    _cleanup_(freep) const char **identities = batch ? xcalloc(r->shown, sizeof(const char *)) : NULL;
    size_t n_identities = 0;
    for (size_t i = 0; batch && i < r->shown; i++)
        if (r->messages[i]->identity)
            identities[n_identities++] = r->messages[i]->identity;
    struct occurrence o = {.event_type = s->event_type,
                           .data = data,
                           .identity = batch ? NULL : first->identity,
                           .identity_alone = true,
                           .identities = identities,
                           .n_identities = n_identities,
                           .traceparent = r->shown == 1 ? first->traceparent : NULL,
                           .stays = !batch,
                           .until_end = s->config.ack_mode == ACK_MANUAL && !r->failed,
                           .failed = r->failed};
    r->until_end = o.until_end;
    s->held -= r->stage == HELD;
    r->stage = TOLD;
    s->told++;
    source_occurred(s->host, &o, (uint64_t)(uintptr_t)r);
    if (data != first->data)
        cJSON_Delete(data);
}

/* ---- what is known already ---- */

static bool to_look_up(const struct report *r)
{
    return !r->looked && r->batch && has_identity(r);
}

static void look_up(struct source *s, struct report *r)
{
    _cleanup_(freep) const char **identities = xcalloc(r->n, sizeof(const char *));
    for (size_t i = 0; i < r->n; i++)
        identities[i] = r->messages[i]->identity;
    s->held--;
    s->looking++;
    r->stage = LOOKING;
    source_look_up(s->host, identities, r->n, (uint64_t)(uintptr_t)r);
}

/* The held ones, as far as nothing is in their way. */
static void go_on(struct source *s)
{
    struct report *r, *next;
    bool behind = false; /* one that is to be told before */
    size_t left = s->held;
    if (s->stopping || timer_active(&s->again))
        return;
    DL_FOREACH_SAFE (s->reports, r, next) {
        if (left == 0)
            break;
        behind = behind || r->stage == LOOKING;
        if (r->stage != HELD)
            continue;
        left--;
        if (s->claiming && !claim(s, r))
            break;
        if (to_look_up(r)) {
            look_up(s, r);
            behind = true;
        } else if (!behind) {
            report_tell(s, r);
        }
    }
}

static void go_on_later(struct source *s)
{
    if (!s->stopping && !timer_active(&s->again))
        loop_timer_start(s->env->loop, &s->again, queue_backoff_next(&s->backoff, s->env->random));
}

/* One that another event has: acknowledged, but under `manual` not before that has ended. */
static void settle_known(struct source *s, struct queue_delivery *d, const struct source_known *known)
{
    queue_share_let_go(d);
    if (s->config.ack_mode == ACK_AUTO || known->state == KNOWN_ENDED) {
        queue_share_settle(d, QUEUE_DONE);
        return;
    }
    struct report *r = report_new(1);
    r->messages[r->n++] = d;
    r->shown = 1;
    r->until_end = true;
    r->stage = RECORDED;
    DL_PREPEND(s->reports, r); /* the last one may be filling */
    source_watch(s->host, known, (uint64_t)(uintptr_t)r);
}

static void take_out(struct source *s, struct report *r, const struct source_known *answers)
{
    bool manual = s->config.ack_mode == ACK_MANUAL;
    size_t n = r->n;
    unclaim(s, r);
    r->n = 0;
    for (size_t i = 0; i < n; i++) {
        const struct source_known *k = &answers[i];
        if (k->state == KNOWN_NOT || (manual && k->state == KNOWN_ENDED && k->status == EVENT_FAILED))
            r->messages[r->n++] = r->messages[i];
        else
            settle_known(s, r->messages[i], k);
    }
    r->looked = true;
    bool claimed = claim(s, r); /* as it was just before, or less */
    assert(claimed);
    (void)claimed;
    if (n > r->shown)
        source_duplicates(s->host, n - r->shown);
    if (r->n > 0)
        return;
    unclaim(s, r);
    report_free(s, r);
}

/* It is complete. */
static void report_close(struct source *s, struct report *r)
{
    loop_timer_stop(s->env->loop, &s->full);
    r->shown = r->n;
    r->stage = HELD;
    s->held++;
    if (s->held == 1 && !s->claiming && !s->stopping)
        report_tell(s, r);
    else
        go_on(s);
}

static struct report *being_filled(const struct source *s)
{
    struct report *last = s->reports ? s->reports->prev : NULL;
    return last && last->stage == FILLING ? last : NULL;
}

static void time_is_up(struct timer *timer, void *ctx)
{
    (void)timer;
    struct source *s = ctx;
    struct report *r = being_filled(s);
    if (r)
        report_close(s, r);
}

static void try_again(struct timer *timer, void *ctx)
{
    (void)timer;
    go_on(ctx);
}

/* ---- what the consumer tells ---- */

static char *why_failed(const struct source *s, const struct queue_delivery *d)
{
    if (d->too_large)
        return xasprintf("the message has %zu bytes, more than the %zu that an event may have; its beginning is kept",
                         d->bytes, QUEUE_BODY_MAX);
    if (d->deliveries > s->config.max_deliveries)
        return xasprintf("delivered %" PRId64 " times (max_deliveries: %" PRId64 ")", d->deliveries,
                         s->config.max_deliveries);
    return NULL;
}

static void wait_for_more(struct source *s)
{
    loop_timer_start(s->env->loop, &s->full, (int64_t)(s->config.batch_timeout_seconds * 1000 + 0.5));
}

static void delivered(void *ctx, struct queue_delivery *d)
{
    struct source *s = ctx;
    struct report *r = being_filled(s);
    char *failed = why_failed(s, d);
    size_t size = failed ? 1 : (size_t)s->config.batch_size;
    if (r && (failed || r->bytes + d->bytes > QUEUE_BATCH_MAX)) {
        report_close(s, r);
        r = NULL;
    }
    if (!r) {
        r = report_new(size);
        DL_APPEND(s->reports, r);
        r->failed = failed;
        r->batch = size > 1;
        if (r->batch)
            wait_for_more(s);
    }
    r->messages[r->n++] = d;
    r->bytes += d->bytes;
    if (r->n == r->cap)
        report_close(s, r);
}

static void state(void *ctx, enum source_state state, const char *reason, const char *message)
{
    struct source *s = ctx;
    source_report(s->host, state, reason, message);
}

static void progress(void *ctx, int64_t last_ms, int64_t in_flight, int64_t lag)
{
    struct source *s = ctx;
    source_progress(s->host, last_ms, in_flight, lag);
}

static const struct queue_member_type member_type = {.delivered = delivered, .state = state, .progress = progress};

/* ---- what the engine calls ---- */

static int create(struct source_host *host, const struct source_env *env, const struct trigger *trigger,
                  struct source **ret, struct error *err)
{
    const struct queue_config *c = trigger->config;
    if (!env->queues)
        return error_set(err, -ENOTSUP, "there are no message queues here");
    if (!queue_has_broker(env->queues, (enum queue_type)c->queue_type))
        return error_set(err, -ENOTSUP, "this triggerd was built without %s", queue_type_words[c->queue_type]);
    struct source *s = xcalloc(1, sizeof(*s));
    s->host = host;
    s->env = env;
    queue_config_copy(c, &s->config);
    s->claiming = c->batch_size > 1;
    s->event_type = xasprintf("message_%s", queue_type_words[c->queue_type]);
    timer_init(&s->full, time_is_up, s);
    timer_init(&s->again, try_again, s);
    *ret = s;
    return 0;
}

static void start(struct source *s)
{
    _cleanup_(freep) char *dir = source_manifest_dir(s->host);
    s->member = queue_join(s->env->queues, source_trigger_id(s->host), &s->config, dir, &member_type, s);
    queue_member_tell(s->member);
}

static void gone(void *ctx)
{
    struct source *s = ctx;
    void (*done)(void *) = s->done;
    void *done_ctx = s->done_ctx;
    free(s->event_type);
    fields_fini(&queue_source_fields, &s->config);
    free(s);
    done(done_ctx);
}

/* The engine has nothing more of it. Of what others have taken too nothing is lost: what is recorded counts as done,
 * what is not is given back. What it alone has is the server's again. */
static void leave(struct source *s)
{
    bool alone = queue_member_alone(s->member);
    s->going = true;
    while (s->reports) {
        struct report *r = s->reports;
        if (!alone) {
            report_settle(s, r, r->stage == RECORDED ? QUEUE_DONE : QUEUE_BACK);
            continue;
        }
        if (r->stage == RECORDED && !has_identity(r))
            source_withdraw(s->host, (uint64_t)(uintptr_t)r);
        unclaim(s, r);
        for (size_t i = 0; i < r->n; i++) {
            if (r->stage < RECORDED)
                queue_share_let_go(r->messages[i]);
            queue_share_abandon(r->messages[i]);
        }
        report_free(s, r);
    }
    queue_leave(s->member, gone, s);
}

static void leave_if_settled(struct source *s)
{
    if (s->stopping && !s->going && s->told == 0 && s->looking == 0)
        leave(s);
}

static void stop(struct source *s, void (*done)(void *ctx), void *ctx)
{
    s->stopping = true;
    s->done = done;
    s->done_ctx = ctx;
    loop_timer_stop(s->env->loop, &s->full);
    loop_timer_stop(s->env->loop, &s->again);
    queue_member_retire(s->member);
    leave_if_settled(s);
}

static void hold(struct source *s)
{
    s->paused = true;
    queue_member_pause(s->member);
}

static void resume(struct source *s)
{
    s->paused = false;
    queue_backoff_reset(&s->backoff);
    loop_timer_stop(s->env->loop, &s->again);
    go_on(s);
    queue_member_resume(s->member);
}

/* There are batches from now on: what is on its way has its identities too. */
static void claim_all(struct source *s)
{
    struct report *r;
    s->claiming = true;
    DL_FOREACH (s->reports, r) {
        if (r->stage == TOLD)
            claim(s, r);
    }
}

/* The batch that is being filled goes by the new size and, from now on, the new time. */
static void refill(struct source *s, bool other_time)
{
    struct report *r = being_filled(s);
    size_t size = (size_t)s->config.batch_size;
    if (!r)
        return;
    if (r->n >= size) {
        report_close(s, r);
        return;
    }
    r->messages = xreallocarray(r->messages, size, sizeof(struct queue_delivery *));
    r->cap = size;
    if (other_time)
        wait_for_more(s);
}

static bool update(struct source *s, const struct trigger *trigger)
{
    const struct queue_config *c = trigger->config;
    _cleanup_(freep) char *dir = source_manifest_dir(s->host);
    if (fields_equal(&queue_source_fields, c, &s->config))
        return true;
    if (!queue_member_update(s->member, c, dir))
        return false;
    bool other_time = c->batch_timeout_seconds < s->config.batch_timeout_seconds ||
                      c->batch_timeout_seconds > s->config.batch_timeout_seconds;
    fields_fini(&queue_source_fields, &s->config);
    queue_config_copy(c, &s->config);
    if (c->batch_size > 1 && !s->claiming)
        claim_all(s);
    refill(s, other_time);
    return true;
}

static void ack(struct source *s, uint64_t token)
{
    struct report *r = (struct report *)(uintptr_t)token;
    s->told--;
    queue_backoff_reset(&s->backoff);
    unclaim(s, r);
    for (size_t i = 0; i < r->n; i++)
        queue_share_let_go(r->messages[i]);
    r->stage = RECORDED;
    if (r->failed) /* what the event does not hold, or nobody can use, ends where such messages end */
        report_settle(s, r,
                      s->config.ack_mode == ACK_MANUAL && s->config.on_failure == FAILURE_DROP ? QUEUE_DONE
                      : s->config.ack_mode == ACK_MANUAL || r->messages[0]->too_large          ? QUEUE_DEAD_LETTER
                                                                                               : QUEUE_DONE);
    else if (!r->until_end)
        report_settle(s, r, QUEUE_DONE);
    if (s->held > 0)
        go_on(s);
    leave_if_settled(s);
}

static void nack(struct source *s, uint64_t token, const char *why)
{
    (void)why; /* the trigger shows it: a full queue, a store that fails */
    struct report *r = (struct report *)(uintptr_t)token;
    s->told--;
    r->stage = HELD;
    s->held++;
    go_on_later(s);
    leave_if_settled(s);
}

static void known(struct source *s, uint64_t token, const struct source_known *answers)
{
    struct report *r = (struct report *)(uintptr_t)token;
    bool sure = answers != NULL;
    for (size_t i = 0; sure && s->config.ack_mode == ACK_MANUAL && i < r->n; i++)
        sure = answers[i].state != KNOWN_ENDING;
    s->looking--;
    s->held++;
    r->stage = HELD;
    if (s->stopping) {
        leave_if_settled(s);
    } else if (sure) {
        take_out(s, r, answers);
        go_on(s);
    } else {
        go_on_later(s);
    }
}

static void ended(struct source *s, uint64_t token, enum event_status status)
{
    struct report *r = (struct report *)(uintptr_t)token;
    static const enum queue_settlement settlements[] = {
        [FAILURE_REQUEUE] = QUEUE_AGAIN, [FAILURE_DEAD_LETTER] = QUEUE_DEAD_LETTER, [FAILURE_DROP] = QUEUE_DONE};
    assert(r->stage == RECORDED);
    report_settle(s, r, status == EVENT_FAILED ? settlements[s->config.on_failure] : QUEUE_DONE);
}

/* ---- the manifest ---- */

static void validate(const void *config, const cJSON *node, const char *path, struct issues *issues)
{
    const struct queue_config *c = config;
    queue_source_validate(c, node, path, issues);
    const struct broker_type *broker = queue_brokers[c->queue_type];
    if (broker && broker->validate)
        broker->validate(c, node, path, issues);
}

const struct source_type source_message_queue = {
    .kind = {.name = "message_queue",
             .config = &queue_source_fields,
             .has_filter = true,
             .lossless = true,
             .validate = validate,
             .rules = queue_source_rules},
    .settles_late = true,
    .create = create,
    .start = start,
    .stop = stop,
    .pause = hold,
    .resume = resume,
    .update = update,
    .ack = ack,
    .nack = nack,
    .ended = ended,
    .known = known,
};
