#include "source/queue_consumer.h"

#include "base/loop.h"
#include "base/util.h"
#include "engine/secret_read.h"
#include "source/queue_data.h"

#include <errno.h>
#include <stdio.h>
#include <uthash.h>
#include <utlist.h>

#define PROGRESS_MS 1000
#define REREAD_MS 8000   /* after refused credentials that refer to secrets: these are read again */
#define COUNTS_MAX 10000 /* messages whose deliveries are counted here, where the server does not */

enum phase { CLOSED, OPENING, OPEN, CLOSING };

struct queue_member {
    struct queue_consumer *consumer;
    char *id;
    const struct queue_member_type *type;
    void *ctx;
    bool paused, retired;
    struct loop_task left; /* where others stay */
    void (*done)(void *ctx);
    void *done_ctx;
    struct queue_member *prev, *next; /* by id */
};

/* How often messages that we gave back were delivered; by the hash of their identity, or of their body. Of those that look
 * alike each has its own number; which of them is which makes no difference. */
struct count {
    uint64_t hash;
    int64_t n;
    struct count *next; /* of another that looks alike; only the first is in the table */
    UT_hash_handle hh;
};

struct queue_consumer {
    struct queue_hub *hub;
    char *key, *dir;
    struct queue_config config;
    const struct broker_type *type;
    enum phase phase;
    bool paused;    /* the broker was told so */
    bool abandoned; /* there are messages that only the end of the broker gives back */
    struct queue_member *members;
    char *owner; /* while it is open */
    struct queue_setup *setup;
    struct broker *broker;
    struct secrets *secrets;
    struct secret_read *reading;
    struct queue_backoff backoff;
    struct timer again;    /* to open; or, while it is open, to close and open with secrets read anew */
    struct loop_task soon; /* look whether to open, and give back what came when nobody was there */
    enum source_state state;
    const char *reason;
    char *message;
    struct queue_delivery *deliveries;
    int64_t in_flight, last_ms;
    int64_t told_last_ms, told_in_flight, told_lag;
    struct timer progress;
    struct count *counts;
    size_t n_counts;
    UT_hash_handle hh;
};

struct queue_hub {
    struct queue_env env;
    const struct secret_dirs *dirs;
    char *node_id;
    const struct broker_type *const *brokers;
    struct queue_consumer *consumers; /* by key */
};

static void consumer_look(struct queue_consumer *c);

struct queue_hub *queue_hub_create(const struct queue_env *env, const struct secret_dirs *dirs, const char *node_id,
                                   const struct broker_type *const *brokers)
{
    struct queue_hub *hub = xcalloc(1, sizeof(*hub));
    *hub = (struct queue_hub){.env = *env, .dirs = dirs, .node_id = xstrdup(node_id), .brokers = brokers};
    return hub;
}

void queue_hub_destroy(struct queue_hub *hub)
{
    if (!hub)
        return;
    free(hub->node_id);
    free(hub);
}

bool queue_has_broker(const struct queue_hub *hub, enum queue_type type)
{
    return hub->brokers[type] != NULL;
}

/* ---- what members are told ---- */

static void tell(struct queue_consumer *c, enum source_state state, const char *reason, const char *message)
{
    char *copy = xstrdup0(message);
    if (c->setup)
        mask_string(c->setup->mask, &copy);
    else if (c->secrets)
        mask_string(secrets_mask(c->secrets), &copy);
    free(c->message);
    c->message = copy;
    c->state = state;
    c->reason = reason;
    struct queue_member *m;
    DL_FOREACH (c->members, m) {
        if (!m->retired)
            m->type->state(m->ctx, state, reason, copy);
    }
}

static void progress_tell(struct timer *timer, void *ctx)
{
    (void)timer;
    struct queue_consumer *c = ctx;
    int64_t lag = c->broker && c->type->lag ? c->type->lag(c->broker) : -1;
    bool same = c->told_last_ms == c->last_ms && c->told_in_flight == c->in_flight && c->told_lag == lag;
    c->told_last_ms = c->last_ms;
    c->told_in_flight = c->in_flight;
    c->told_lag = lag;
    struct queue_member *m;
    DL_FOREACH (c->members, m) {
        if (!same && !m->retired)
            m->type->progress(m->ctx, c->last_ms, c->in_flight, lag);
    }
    /* What the server says of those that wait there changes without us. */
    if (c->phase == OPEN && c->state == SOURCE_CONNECTED && (!same || lag > 0))
        loop_timer_start(c->hub->env.loop, &c->progress, PROGRESS_MS);
}

static void progress_soon(struct queue_consumer *c)
{
    if (!timer_active(&c->progress))
        loop_timer_start(c->hub->env.loop, &c->progress, PROGRESS_MS);
}

/* ---- messages ---- */

static void delivery_free(struct queue_delivery *d)
{
    struct queue_consumer *c = d->consumer;
    DL_DELETE(c->deliveries, d);
    c->in_flight--;
    cJSON_Delete(d->data);
    free(d->identity);
    free(d->traceparent);
    free(d);
    progress_soon(c);
}

/* Takes one from the table: how often it was delivered. */
static int64_t count_remove(struct queue_consumer *c, struct count *first)
{
    int64_t n = first->n;
    HASH_DEL(c->counts, first);
    if (first->next)
        HASH_ADD(hh, c->counts, hash, sizeof(first->hash), first->next);
    free(first);
    c->n_counts--;
    return n;
}

static void count_put(struct queue_consumer *c, uint64_t hash, int64_t n)
{
    struct count *one = xcalloc(1, sizeof(*one)), *first = NULL;
    one->hash = hash;
    one->n = n;
    HASH_FIND(hh, c->counts, &hash, sizeof(hash), first);
    if (first) {
        one->next = first->next;
        first->next = one;
    } else {
        HASH_ADD(hh, c->counts, hash, sizeof(hash), one);
    }
    if (++c->n_counts > COUNTS_MAX)
        count_remove(c, c->counts); /* the oldest goes */
}

/* A delivery, counted; 0: it is not known. */
static int64_t count_take(struct queue_consumer *c, uint64_t hash)
{
    struct count *first = NULL;
    HASH_FIND(hh, c->counts, &hash, sizeof(hash), first);
    return first ? count_remove(c, first) + 1 : 0;
}

void queue_delivered(struct queue_consumer *c, uint64_t tag, struct queue_message *m)
{
    struct queue_delivery *d = xcalloc(1, sizeof(*d));
    struct queue_member *member;
    d->consumer = c;
    d->tag = tag;
    d->identity = xstrdup0(m->identity);
    d->deliveries = m->deliveries;
    d->bytes = m->len;
    d->hash = m->identity ? hash_bytes(0, m->identity, strlen(m->identity)) : hash_bytes(0, m->body, m->len);
    d->traceparent = xstrdup0(value_get_string(m->headers, "traceparent"));
    d->data = queue_message_data(m, &d->too_large);
    DL_APPEND(c->deliveries, d);
    c->in_flight++;
    c->last_ms = clock_realtime_ms(c->hub->env.clock);
    if (d->deliveries == 0)
        d->deliveries = count_take(c, d->hash);
    DL_FOREACH (c->members, member) {
        d->shares += !member->retired;
    }
    d->holds = d->shares;
    progress_soon(c);
    if (d->shares == 0) {
        loop_defer(c->hub->env.loop, &c->soon);
        return;
    }
    unsigned left = d->shares;
    struct queue_member *next;
    for (member = c->members; left > 0 && member; member = next) {
        next = member->next;
        if (member->retired)
            continue;
        left--;
        member->type->delivered(member->ctx, d);
    }
}

static void settled(struct queue_delivery *d)
{
    struct queue_consumer *c = d->consumer;
    if (d->worst == QUEUE_AGAIN)
        count_put(c, d->hash, MAX(d->deliveries, 1));
    else if (d->worst == QUEUE_BACK && d->deliveries > 1)
        count_put(c, d->hash, d->deliveries - 1);
    if (c->broker && c->phase == OPEN)
        c->type->settle(c->broker, d->tag, d->worst);
    delivery_free(d);
}

void queue_share_settle(struct queue_delivery *d, enum queue_settlement how)
{
    /* The heaviest wins: what one member needs must not be undone by another that is content. */
    static const int weight[] = {[QUEUE_DONE] = 0, [QUEUE_BACK] = 1, [QUEUE_AGAIN] = 2, [QUEUE_DEAD_LETTER] = 3};
    if (weight[how] > weight[d->worst])
        d->worst = how;
    if (--d->shares == 0)
        settled(d);
}

void queue_share_abandon(struct queue_delivery *d)
{
    struct queue_consumer *c = d->consumer;
    c->abandoned = true;
    if (--d->shares == 0)
        delivery_free(d);
    loop_defer(c->hub->env.loop, &c->soon);
}

void queue_share_let_go(struct queue_delivery *d)
{
    if (--d->holds > 0)
        return;
    cJSON_Delete(d->data);
    d->data = NULL;
}

enum queue_settlement queue_requeue(const struct queue_delivery *d, int64_t max_deliveries)
{
    return MAX(d->deliveries, 1) >= max_deliveries ? QUEUE_DEAD_LETTER : QUEUE_AGAIN;
}

/* What came when nobody was there to take it. */
static void give_back(struct queue_consumer *c)
{
    struct queue_delivery *d, *next;
    DL_FOREACH_SAFE (c->deliveries, d, next) {
        if (d->shares == 0) {
            d->worst = QUEUE_BACK;
            settled(d);
        }
    }
}

/* ---- opening and closing ---- */

static bool wanted(const struct queue_consumer *c)
{
    const struct queue_member *m;
    DL_FOREACH (c->members, m) {
        if (!m->retired)
            return true;
    }
    return false;
}

static bool all_paused(const struct queue_consumer *c)
{
    const struct queue_member *m;
    DL_FOREACH (c->members, m) {
        if (!m->retired && !m->paused)
            return false;
    }
    return true;
}

static void flow(struct queue_consumer *c)
{
    if (c->phase != OPEN || c->paused == all_paused(c))
        return;
    c->paused = !c->paused;
    if (c->paused)
        c->type->pause(c->broker);
    else
        c->type->resume(c->broker);
}

static void open_again(struct queue_consumer *c)
{
    c->phase = CLOSED;
    loop_timer_start(c->hub->env.loop, &c->again, queue_backoff_next(&c->backoff, c->hub->env.random));
}

static void reading_end(struct queue_consumer *c)
{
    if (c->reading)
        secret_read_abandon(steal(&c->reading));
}

static int make_setup(struct queue_consumer *c, struct queue_setup **ret, struct error *err)
{
    return queue_setup_create(&c->config, c->secrets, c->dir, c->owner, c->hub->node_id, ret, err);
}

static void opened(void *ctx)
{
    struct queue_consumer *c = ctx;
    struct error err = ERROR_INIT;
    const char *reason = "InvalidSettings";
    c->reading = NULL;
    queue_setup_unref(c->setup);
    c->setup = NULL;
    int r = make_setup(c, &c->setup, &err);
    if (r == -ENOENT)
        reason = "SecretUnreadable";
    else if (r == -EACCES)
        reason = "AuthenticationFailed";
    if (r == 0) {
        r = c->type->create(c, &c->hub->env, c->setup, &c->broker, &err);
        reason = "CreateFailed";
    }
    if (r < 0) {
        tell(c, SOURCE_FAILED, reason, err.message);
        free(steal(&c->owner));
        open_again(c);
        return;
    }
    c->phase = OPEN;
    c->paused = false;
    queue_backoff_reset(&c->backoff);
    c->type->start(c->broker);
    flow(c);
}

/* Does another consumer read under this name? *ret_going: it has no members any more, and will give it up. */
static bool owner_taken(const struct queue_consumer *c, const char *name, bool *ret_going)
{
    const struct queue_consumer *other;
    for (other = c->hub->consumers; other; other = other->hh.next)
        if (other != c && other->owner && streq(other->owner, name)) {
            *ret_going = !wanted(other);
            return true;
        }
    return false;
}

/* The first trigger's id, or that with a number where another consumer still has it. False: not now. */
static bool take_owner(struct queue_consumer *c)
{
    const struct queue_member *m = c->members;
    while (m->retired)
        m = m->next;
    for (unsigned i = 1;; i++) {
        char *name = i == 1 ? xstrdup(m->id) : xasprintf("%s:%u", m->id, i);
        bool going = false;
        if (!owner_taken(c, name, &going)) {
            c->owner = name;
            return true;
        }
        free(name);
        if (going)
            return false;
    }
}

static void consumer_open(struct queue_consumer *c)
{
    if (!take_owner(c))
        return; /* looked at again when the other is gone */
    c->phase = OPENING;
    secrets_destroy(c->secrets);
    c->secrets = secrets_create();
    queue_config_want(&c->config, c->secrets, c->dir);
    c->reading = secret_read_start(c->hub->env.loop, c->hub->dirs, c->secrets, opened, c);
    if (!c->reading)
        opened(c);
}

static void consumer_free(struct queue_consumer *c)
{
    struct loop *loop = c->hub->env.loop;
    while (c->counts)
        count_remove(c, c->counts);
    HASH_DEL(c->hub->consumers, c);
    loop_timer_stop(loop, &c->again);
    loop_timer_stop(loop, &c->progress);
    loop_task_cancel(loop, &c->soon);
    queue_setup_unref(c->setup);
    secrets_destroy(c->secrets);
    fields_fini(&queue_source_fields, &c->config);
    secret_free(c->key);
    free(c->dir);
    free(c->owner);
    free(c->message);
    free(c);
}

static void member_gone(void *ctx)
{
    struct queue_member *m = ctx;
    struct queue_consumer *c = m->consumer;
    void (*done)(void *) = m->done;
    void *done_ctx = m->done_ctx;
    DL_DELETE(c->members, m);
    free(m->id);
    free(m);
    consumer_look(c);
    done(done_ctx);
}

static void members_gone(struct queue_consumer *c)
{
    struct queue_member *m, *next;
    DL_FOREACH_SAFE (c->members, m, next) {
        if (m->done && !loop_task_waiting(&m->left))
            loop_defer(c->hub->env.loop, &m->left);
    }
}

/* The server has back what was not settled. Members that still hold something settle it later, for nothing. */
static void broker_gone(void *ctx)
{
    struct queue_consumer *c = ctx;
    struct queue_hub *hub = c->hub;
    c->broker = NULL;
    c->phase = CLOSED;
    c->abandoned = false;
    free(steal(&c->owner));
    struct queue_delivery *d, *next_delivery;
    DL_FOREACH_SAFE (c->deliveries, d, next_delivery) {
        if (d->shares == 0)
            delivery_free(d);
    }
    members_gone(c);
    struct queue_consumer *other, *next;
    HASH_ITER (hh, hub->consumers, other, next) {
        consumer_look(other);
    }
}

static void consumer_close(struct queue_consumer *c)
{
    c->phase = CLOSING;
    reading_end(c);
    loop_timer_stop(c->hub->env.loop, &c->again);
    c->type->stop(c->broker, broker_gone, c);
}

/* What is to be done now: open, close, or free. */
static void consumer_look(struct queue_consumer *c)
{
    bool want = wanted(c);
    if (c->phase == CLOSED && want && !timer_active(&c->again)) {
        consumer_open(c);
    } else if (!want && c->phase == OPENING) {
        reading_end(c);
        free(steal(&c->owner));
        c->phase = CLOSED;
    }
    struct queue_member *m;
    bool leaving = true; /* all who retired have said so */
    DL_FOREACH (c->members, m) {
        leaving = leaving && m->done;
    }
    if (c->phase == OPEN && ((!want && leaving) || c->abandoned))
        consumer_close(c);
    else if (!want && c->phase == CLOSED) {
        loop_timer_stop(c->hub->env.loop, &c->again);
        members_gone(c);
        if (!c->members && !c->deliveries)
            consumer_free(c);
    }
}

static void look_soon(void *ctx)
{
    struct queue_consumer *c = ctx;
    give_back(c);
    consumer_look(c);
}

/* What an edit added is read. Where that cannot be used it is opened anew, which tells why. */
static void updated(void *ctx)
{
    struct queue_consumer *c = ctx;
    struct queue_setup *setup = NULL;
    c->reading = NULL;
    if (make_setup(c, &setup, NULL) < 0) {
        consumer_close(c);
        return;
    }
    queue_setup_unref(c->setup);
    c->setup = setup;
    c->type->update(c->broker, setup);
}

/* Its config is another: also in what it has. The secrets that were read stay as they are, for the connection does. */
static void consumer_update(struct queue_consumer *c)
{
    if (c->phase == OPEN) {
        reading_end(c);
        queue_config_want(&c->config, c->secrets, c->dir);
        c->reading = secret_read_start(c->hub->env.loop, c->hub->dirs, c->secrets, updated, c);
        if (!c->reading)
            updated(c);
    } else if (c->phase == OPENING) {
        reading_end(c);
        free(steal(&c->owner));
        c->phase = CLOSED;
    }
    if (c->phase == CLOSED) {
        loop_timer_stop(c->hub->env.loop, &c->again);
        loop_defer(c->hub->env.loop, &c->soon);
    }
}

/* Time to open; or to try with secrets read anew. */
static void again(struct timer *timer, void *ctx)
{
    (void)timer;
    struct queue_consumer *c = ctx;
    if (c->phase == OPEN && c->state == SOURCE_FAILED)
        consumer_close(c);
    else
        consumer_look(c);
}

/* ---- what a broker calls ---- */

void queue_state(struct queue_consumer *c, enum source_state state, const char *reason, const char *message)
{
    if (c->phase != OPEN)
        return;
    _cleanup_(freep) char *shown = xstrdup0(message);
    mask_string(c->setup->mask, &shown);
    bool refused = state == SOURCE_FAILED && streq(reason, "AuthenticationFailed") && secrets_count(c->secrets) > 0;
    if (!refused)
        loop_timer_stop(c->hub->env.loop, &c->again);
    else if (!timer_active(&c->again))
        loop_timer_start(c->hub->env.loop, &c->again, REREAD_MS);
    if (state == c->state && streq(reason, c->reason) && streq(shown, c->message))
        return;
    tell(c, state, reason, shown);
    if (state == SOURCE_CONNECTED)
        progress_soon(c);
}

const char *queue_owner(const struct queue_consumer *c)
{
    return c->owner;
}

bool queue_owner_in_use(const struct queue_consumer *c, const char *name)
{
    const struct queue_consumer *other;
    for (other = c->hub->consumers; other; other = other->hh.next)
        if (other->owner && streq(other->owner, name))
            return true;
    return false;
}

/* ---- members ---- */

static char *key_of(const struct queue_config *config, const char *dir, const char *trigger_id)
{
    bool grouped =
        config->queue_type == QUEUE_KAFKA || (config->queue_type == QUEUE_REDIS && config->redis_mode == REDIS_STREAM);
    _cleanup_(freep) char *group = grouped && !config->consumer_group ? xasprintf("triggerd-%s", trigger_id) : NULL;
    return queue_connection_key(config, dir, group, true);
}

static struct queue_consumer *consumer_of(struct queue_hub *hub, const struct queue_config *config, const char *dir,
                                          const char *trigger_id)
{
    char *key = key_of(config, dir, trigger_id);
    struct queue_consumer *c = NULL;
    HASH_FIND_STR(hub->consumers, key, c);
    if (c) {
        secret_free(key);
        return c;
    }
    c = xcalloc(1, sizeof(*c));
    c->hub = hub;
    c->key = key;
    c->dir = xstrdup0(dir);
    queue_config_copy(config, &c->config);
    c->type = hub->brokers[config->queue_type];
    c->state = SOURCE_WAITING;
    c->reason = "Connecting";
    c->message = xstrdup("connecting to the broker");
    c->told_lag = -1;
    timer_init(&c->again, again, c);
    timer_init(&c->progress, progress_tell, c);
    loop_task_init(&c->soon, look_soon, c);
    HASH_ADD_KEYPTR(hh, hub->consumers, c->key, strlen(c->key), c);
    return c;
}

static int by_id(const struct queue_member *a, const struct queue_member *b)
{
    return strcmp(a->id, b->id);
}

struct queue_member *queue_join(struct queue_hub *hub, const char *trigger_id, const struct queue_config *config,
                                const char *dir, const struct queue_member_type *type, void *ctx)
{
    struct queue_consumer *c = consumer_of(hub, config, dir, trigger_id);
    struct queue_member *m = xcalloc(1, sizeof(*m));
    m->consumer = c;
    m->id = xstrdup(trigger_id);
    m->type = type;
    m->ctx = ctx;
    loop_task_init(&m->left, member_gone, m);
    DL_INSERT_INORDER(c->members, m, by_id);
    flow(c);
    loop_defer(hub->env.loop, &c->soon);
    return m;
}

void queue_member_tell(struct queue_member *m)
{
    struct queue_consumer *c = m->consumer;
    m->type->state(m->ctx, c->state, c->reason, c->message);
}

bool queue_member_alone(const struct queue_member *m)
{
    const struct queue_member *other;
    DL_FOREACH (m->consumer->members, other) {
        if (other != m && !other->retired)
            return false;
    }
    return true;
}

bool queue_member_update(struct queue_member *m, const struct queue_config *config, const char *dir)
{
    struct queue_consumer *c = m->consumer, *other = NULL;
    struct queue_hub *hub = c->hub;
    char *key = key_of(config, dir, m->id);
    HASH_FIND_STR(hub->consumers, key, other);
    if (other || !queue_member_alone(m)) {
        secret_free(key);
        return other == c;
    }
    HASH_DEL(hub->consumers, c);
    secret_free(c->key);
    c->key = key;
    HASH_ADD_KEYPTR(hh, hub->consumers, c->key, strlen(c->key), c);
    free(c->dir);
    c->dir = xstrdup0(dir);
    fields_fini(&queue_source_fields, &c->config);
    queue_config_copy(config, &c->config);
    consumer_update(c);
    return true;
}

void queue_member_retire(struct queue_member *m)
{
    m->retired = true;
    flow(m->consumer);
}

void queue_leave(struct queue_member *m, void (*done)(void *ctx), void *ctx)
{
    struct queue_consumer *c = m->consumer;
    m->retired = true;
    m->done = done;
    m->done_ctx = ctx;
    if (!queue_member_alone(m))
        loop_defer(c->hub->env.loop, &m->left);
    loop_defer(c->hub->env.loop, &c->soon);
}

void queue_member_pause(struct queue_member *m)
{
    m->paused = true;
    flow(m->consumer);
}

void queue_member_resume(struct queue_member *m)
{
    struct queue_consumer *c = m->consumer;
    m->paused = false;
    if (c->phase == CLOSED && timer_active(&c->again)) {
        loop_timer_stop(c->hub->env.loop, &c->again);
        loop_defer(c->hub->env.loop, &c->soon);
    } else if (c->phase == OPEN && !c->paused && c->state == SOURCE_FAILED) {
        c->type->resume(c->broker); /* it waits to connect again */
    }
    flow(c);
}
