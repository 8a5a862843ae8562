/* Lists. A message is moved into the processing list, handed over, and removed from there when it is settled. So it is in
 * one of the two lists until then, and `known` tells which entries of the processing list are ours.
 *
 * After a loss, two sorts of things may have happened that nobody told us: removals that we sent, and moves that we asked
 * for. reconcile() looks at the processing list: what we hold is there; what was sent and is there was not executed; the
 * rest came by moves. Messages have no identity: of equal ones it cannot tell which one it sees, and then rather gives one
 * twice.
 */
#include "source/broker_redis.h"

#include <inttypes.h>
#include <stdio.h>

#define RETURN_BATCH 64 /* entries moved back in one go */
#define LAG_MS 1000
#define HASHED_BYTES 256
#define SCAN_COUNT "1000"

/* To the queue, or the dead-letter list, and off the processing list: both or neither. */
static const char MOVE_SCRIPT[] =
    "redis.call(ARGV[1], KEYS[2], ARGV[2]) return redis.call('LREM', KEYS[1], 1, ARGV[2])";

static void up(struct broker *b);

static const char *queue_of(const struct broker *b)
{
    return b->setup->config.queue_name;
}

static bool pops_right(const struct broker *b)
{
    return b->setup->config.pop == POP_RIGHT;
}

/* ---- what is known ---- */

/* Of its beginning: equal ones are compared whole. */
static uint64_t hash_of(const redisReply *body)
{
    return hash_bytes(body->len, body->str, MIN(body->len, HASHED_BYTES));
}

static void drop(struct broker *b, struct delivery *d)
{
    DL_DELETE(b->list.known, d);
    b->list.n_known--;
    redis_reply_free(d->reply);
    free(d);
}

/* It will come again as itself, not as an equal one. */
static void forget_twin(struct redis_list *l, uint64_t hash)
{
    for (size_t i = 0; i < ARRAY_SIZE(l->last); i++)
        if (l->last[i] == hash)
            l->last[i] = 0;
}

/* Takes the body over, which is at the right end of the processing list now. `right`: of which end of the queue it was. */
static void deliver(struct broker *b, redisReply *body, bool right)
{
    struct redis_list *l = &b->list;
    struct delivery *d = xcalloc(1, sizeof(*d));
    *d = (struct delivery){.reply = body, .hash = hash_of(body), .right = right};
    l->last[l->n_last++ % ARRAY_SIZE(l->last)] = d->hash;
    DL_APPEND(l->known, d);
    l->n_known++;
    l->n_held++;
    struct queue_message m = {.body = body->str, .len = body->len, .queue = queue_of(b)};
    if (b->state != BROKER_STOPPING)
        queue_delivered(b->host, (uintptr_t)d, &m);
}

/* ---- settling ---- */

static void sent_pop(struct broker *b)
{
    struct redis_list *l = &b->list;
    struct delivery *d = l->sent;
    l->sent = d->sent_next;
    if (!l->sent)
        l->sent_end = &l->sent;
    drop(b, d);
}

static void stop_if_done(struct broker *b)
{
    if (b->state == BROKER_STOPPING && b->list.asked == 0 && b->list.n_known == 0)
        broker_stopped(b);
}

static void on_removed(void *ctx, redisReply **reply)
{
    struct broker *b = ctx;
    const struct delivery *d = b->list.sent;
    if (redis_is_error(*reply)) {
        const char *where = d->how == QUEUE_DEAD_LETTER ? b->setup->dead_letter
                            : d->how == QUEUE_DONE      ? b->list.processing
                                                        : queue_of(b);
        redis_fail(b->writer, *reply, where);
        return;
    }
    sent_pop(b);
    if (b->state == BROKER_RECOVERING && !b->list.sent)
        up(b);
    broker_pump(b);
    stop_if_done(b);
}

static void send_move(struct broker *b, const struct delivery *d, const char *command, const char *to)
{
    const struct redis_arg args[] = {
        REDIS_ARG("EVAL"),
        REDIS_ARG(MOVE_SCRIPT),
        REDIS_ARG("2"),
        REDIS_ARG(b->list.processing),
        REDIS_ARG(to),
        REDIS_ARG(command),
        {d->reply->str, d->reply->len},
    };
    redis_command(b->writer, on_removed, b, REDIS_PATIENCE_MS, ARRAY_SIZE(args), args);
}

static void send_removal(struct broker *b, struct delivery *d)
{
    struct redis_list *l = &b->list;
    if (d->how == QUEUE_DONE) {
        const struct redis_arg args[] = {
            {"LREM", 4}, REDIS_ARG(l->processing), {"1", 1}, {d->reply->str, d->reply->len}};
        redis_command(b->writer, on_removed, b, REDIS_PATIENCE_MS, ARRAY_SIZE(args), args);
    } else if (d->how == QUEUE_DEAD_LETTER) {
        send_move(b, d, "RPUSH", b->setup->dead_letter);
    } else {
        send_move(b, d, d->right ? "RPUSH" : "LPUSH", queue_of(b));
    }
    d->state = DELIVERY_SENT;
    d->sent_next = NULL;
    *l->sent_end = d;
    l->sent_end = &d->sent_next;
}

static bool goes_back(const struct delivery *d)
{
    return d->how == QUEUE_AGAIN || d->how == QUEUE_BACK;
}

static bool may_send(const struct broker *b)
{
    return (b->state == BROKER_UP || b->state == BROKER_STOPPING) && !b->list.looking && redis_is_ready(b->writer);
}

/* What goes back to the queue goes newest first, so that the order there is what it was. */
static void send_decided(struct broker *b)
{
    struct redis_list *l = &b->list;
    struct delivery *d, *last = l->known ? l->known->prev : NULL;
    DL_FOREACH (l->known, d)
        if (d->state == DELIVERY_DECIDED && !goes_back(d))
            send_removal(b, d);
    for (d = last; d; d = d == l->known ? NULL : d->prev)
        if (d->state == DELIVERY_DECIDED)
            send_removal(b, d);
}

static void on_returns(void *ctx)
{
    struct broker *b = ctx;
    if (may_send(b))
        send_decided(b);
}

static void decide(struct broker *b, struct delivery *d, enum queue_settlement how)
{
    d->state = DELIVERY_DECIDED;
    d->how = how;
    b->list.n_held--;
    if (goes_back(d))
        forget_twin(&b->list, d->hash);
    if (!may_send(b))
        return; /* it is sent when the processing list is known again */
    if (goes_back(d))
        loop_defer(b->env.loop, &b->list.returns);
    else
        send_removal(b, d);
}

static void list_settle(struct broker *b, uint64_t tag, enum queue_settlement how)
{
    if (b->state != BROKER_STOPPING && b->state != BROKER_CLOSED)
        decide(b, (struct delivery *)(uintptr_t)tag, how);
}

/* ---- what the processing list holds ---- */

/* Nobody will say any more what became of what was sent. */
static void unsend(struct redis_list *l)
{
    l->sent = NULL;
    l->sent_end = &l->sent;
}

/* Equal entries of a processing list that nobody has been given yet. */
struct equals {
    const redisReply *body;
    size_t n, left;
    UT_hash_handle hh;
};

static struct equals *equals_of(const redisReply *list, struct equals *room)
{
    struct equals *all = NULL, *q;
    for (size_t i = 0; i < list->elements; i++) {
        const redisReply *body = list->element[i];
        HASH_FIND(hh, all, body->str, body->len, q);
        if (!q) {
            q = &room[i];
            q->body = body;
            HASH_ADD_KEYPTR(hh, all, body->str, body->len, q);
        }
        q->left = ++q->n;
    }
    return all;
}

static struct equals *find_equals(struct equals *all, const struct delivery *d)
{
    struct equals *q;
    HASH_FIND(hh, all, d->reply->str, d->reply->len, q);
    return q;
}

/* Its removal was sent, and something equal stands there. Was it never executed, or is that another message that came with
 * a move that we did not hear of? Where equal ones are about, nobody can tell. */
static bool may_be_another(const struct redis_list *l, const struct delivery *d, const struct equals *q)
{
    unsigned seen = 0;
    if (l->asked_when_lost == 0)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(l->last); i++)
        seen += l->last[i] == d->hash;
    return q->n > 1 || seen > 1;
}

/* The processing list as it is, against what is known of it: what we hold is in it; what was sent and is not has been
 * removed; what is left over came without our knowing. */
static void reconcile(struct broker *b, redisReply *list)
{
    struct redis_list *l = &b->list;
    struct delivery *d, *next;
    struct equals *room = xcalloc(list->elements + 1, sizeof(*room)), *all = equals_of(list, room), *q;
    unsend(l);
    DL_FOREACH (l->known, d)
        if (d->state != DELIVERY_SENT && (q = find_equals(all, d)) && q->left > 0)
            q->left--;
    /* The newest first: what is there of equal ones was sent last. */
    for (d = l->known ? l->known->prev : NULL; d; d = next) {
        next = d == l->known ? NULL : d->prev;
        if (d->state != DELIVERY_SENT)
            continue;
        q = find_equals(all, d);
        if (q && q->left > 0 && !may_be_another(l, d, q)) {
            q->left--;
            d->state = DELIVERY_DECIDED;
        } else {
            drop(b, d);
        }
    }
    bool *left = xcalloc(list->elements + 1, sizeof(*left));
    for (size_t i = list->elements; i-- > 0;) { /* of equal ones, the newest is what came last */
        HASH_FIND(hh, all, list->element[i]->str, list->element[i]->len, q);
        left[i] = q && q->left > 0;
        if (left[i])
            q->left--;
    }
    HASH_CLEAR(hh, all);
    free(room);
    for (size_t i = 0; i < list->elements; i++)
        if (left[i])
            deliver(b, steal(&list->element[i]), pops_right(b));
    free(left);
    l->asked_when_lost = 0;
}

/* What was decided meanwhile is sent, and things go on. */
static void looked(struct broker *b)
{
    b->list.looking = false;
    if (b->state == BROKER_STOPPING) {
        b->ops->stop(b);
        return;
    }
    send_decided(b);
    if (b->state == BROKER_RECOVERING && !b->list.sent)
        up(b);
    broker_pump(b);
}

static void on_listed(void *ctx, redisReply **reply)
{
    struct broker *b = ctx;
    if (redis_is_error(*reply) || (*reply)->type != REDIS_REPLY_ARRAY) {
        redis_fail(b->reader, *reply, b->list.processing);
        return;
    }
    reconcile(b, *reply);
    looked(b);
}

static void on_counted(void *ctx, redisReply **reply)
{
    struct broker *b = ctx;
    struct redis_list *l = &b->list;
    if (redis_is_error(*reply))
        redis_fail(b->reader, *reply, l->processing);
    else if ((size_t)(*reply)->integer > l->n_known && !l->sent)
        redis_say(b->reader, on_listed, b, "LRANGE", l->processing, "0", "-1");
    else
        looked(b);
}

/* The queue is empty and nothing is asked for. Is there more in the processing list than we know, because an earlier
 * connection's move was executed late? Said on the reader, so that no move comes between; removals wait meanwhile. */
static void look(struct broker *b)
{
    b->list.look = false;
    b->list.looking = true;
    redis_say(b->reader, on_counted, b, "LLEN", b->list.processing);
}

/* ---- taking ---- */

static void on_length(void *ctx, redisReply **reply)
{
    struct broker *b = ctx;
    if ((*reply)->type == REDIS_REPLY_INTEGER)
        b->list.lag = (*reply)->integer;
}

static void moved(struct broker *b, redisReply **reply, bool right)
{
    struct redis_list *l = &b->list;
    if (redis_is_error(*reply)) {
        redis_fail(b->reader, *reply, queue_of(b));
        return;
    }
    l->asked--;
    if ((*reply)->type == REDIS_REPLY_STRING) {
        if (l->blocking)
            l->burst = 1;
        l->empty = false;
        deliver(b, steal(reply), right);
    } else {
        l->empty = true;
        l->lag = 0;
    }
    if (l->blocking && l->empty)
        l->look = true;
    l->blocking = false;
    if (b->state == BROKER_STOPPING)
        b->ops->stop(b);
    else if (l->asked == 0)
        broker_pump(b);
}

static void on_moved_left(void *ctx, redisReply **reply)
{
    moved(ctx, reply, false);
}

static void on_moved_right(void *ctx, redisReply **reply)
{
    moved(ctx, reply, true);
}

static void ask(struct broker *b, const char *command, int64_t patience_ms, bool wait)
{
    const char *from = pops_right(b) ? "RIGHT" : "LEFT";
    const struct redis_arg args[] = {REDIS_ARG(command), REDIS_ARG(queue_of(b)), REDIS_ARG(b->list.processing),
                                     REDIS_ARG(from),    REDIS_ARG("RIGHT"),     REDIS_ARG(REDIS_BLOCK_SECONDS)};
    b->list.asked++;
    redis_command(b->reader, pops_right(b) ? on_moved_right : on_moved_left, b, patience_ms, wait ? 6 : 5, args);
}

/* At most `prefetch` are held; settled ones that are not confirmed may be as many again, so that taking does not wait for
 * the server's word on them. */
static size_t room(const struct broker *b)
{
    const struct redis_list *l = &b->list;
    size_t prefetch = (size_t)b->setup->config.prefetch, taken = l->n_held + l->asked, all = l->n_known + l->asked;
    return MIN(prefetch > taken ? prefetch - taken : 0, 2 * prefetch > all ? 2 * prefetch - all : 0);
}

static void list_pump(struct broker *b)
{
    struct redis_list *l = &b->list;
    size_t n = room(b);
    if (n == 0 || l->blocking || l->looking || (l->empty && l->asked > 0) || !redis_is_ready(b->reader))
        return;
    if (l->empty && l->look) {
        look(b);
        return;
    }
    if (l->empty) {
        l->blocking = true;
        ask(b, "BLMOVE", REDIS_READ_PATIENCE_MS, true);
        return;
    }
    n = MIN(n, l->burst);
    for (size_t i = 0; i < n; i++)
        ask(b, "LMOVE", REDIS_PATIENCE_MS, false);
    if (l->burst < REDIS_BATCH)
        l->burst *= 2;
    int64_t now = loop_now_ms(b->env.loop);
    if (now - l->lag_ms >= LAG_MS) {
        l->lag_ms = now;
        redis_say(b->reader, on_length, b, "LLEN", queue_of(b));
    }
}

static void list_pause(struct broker *b)
{
    if (b->list.blocking)
        broker_unblock(b);
}

/* What waits at the old end of the queue waits no more. */
static void list_update(struct broker *b, const struct queue_setup *before)
{
    if (b->list.blocking && before->config.pop != b->setup->config.pop)
        broker_unblock(b);
}

/* ---- what is nobody's: processing lists of this node by names that nothing reads under any more ---- */

static void scan(struct broker *b, const char *cursor);
static void on_stray(void *ctx, redisReply **reply);

static void scan_on(struct broker *b)
{
    struct redis_list *l = &b->list;
    if (l->n_strays > 0)
        redis_say(b->writer, on_stray, b, "LLEN", l->strays[l->n_strays - 1]);
    else if (!streq(l->cursor, "0"))
        scan(b, l->cursor);
    else
        free(steal(&l->cursor));
}

static void on_stray_moved(void *ctx, redisReply **reply)
{
    struct broker *b = ctx;
    struct redis_list *l = &b->list;
    if (redis_is_error(*reply))
        redis_fail(b->writer, *reply, queue_of(b));
    else if (--l->stray_moves == 0)
        scan_on(b);
}

static void on_stray(void *ctx, redisReply **reply)
{
    struct broker *b = ctx;
    struct redis_list *l = &b->list;
    const char *name = l->strays[l->n_strays - 1];
    int64_t n = (*reply)->type == REDIS_REPLY_INTEGER ? (*reply)->integer : 0;
    if (n <= 0 || b->state != BROKER_UP || queue_owner_in_use(b->host, name + l->prefix_len)) {
        free(l->strays[--l->n_strays]);
        scan_on(b);
        return;
    }
    for (l->stray_moves = 0; l->stray_moves < MIN(n, RETURN_BATCH); l->stray_moves++)
        redis_say(b->writer, on_stray_moved, b, "LMOVE", name, queue_of(b), "RIGHT", pops_right(b) ? "RIGHT" : "LEFT");
}

static void on_scanned(void *ctx, redisReply **reply)
{
    struct broker *b = ctx;
    struct redis_list *l = &b->list;
    const redisReply *r = *reply;
    /* Who may not ask goes without. */
    if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 || r->element[0]->type != REDIS_REPLY_STRING ||
        r->element[1]->type != REDIS_REPLY_ARRAY)
        return;
    free(l->cursor);
    l->cursor = xstrdup(r->element[0]->str);
    l->strays = xreallocarray(l->strays, r->element[1]->elements + 1, sizeof(*l->strays));
    for (size_t i = 0; i < r->element[1]->elements; i++) {
        const char *name = r->element[1]->element[i]->str;
        if (!queue_owner_in_use(b->host, name + l->prefix_len))
            l->strays[l->n_strays++] = xstrdup(name);
    }
    scan_on(b);
}

static void scan(struct broker *b, const char *cursor)
{
    struct buf pattern = {0};
    for (const char *p = b->list.processing, *end = p + b->list.prefix_len; p < end; p++) {
        if (strchr("*?[]\\", *p))
            buf_addc(&pattern, '\\');
        buf_addc(&pattern, *p);
    }
    buf_addc(&pattern, '*');
    redis_say(b->writer, on_scanned, b, "SCAN", cursor, "MATCH", pattern.data, "COUNT", SCAN_COUNT, "TYPE", "list");
    buf_fini(&pattern);
}

/* ---- after connecting ---- */

static void up(struct broker *b)
{
    _cleanup_(freep) char *message = xasprintf("reads the list %s", queue_of(b));
    b->list.empty = b->list.look = false;
    b->list.burst = 1;
    broker_up(b, message);
    send_decided(b); /* what was decided meanwhile */
    if (!b->list.scanned)
        scan(b, "0");
    b->list.scanned = true;
}

static void on_left(void *ctx, redisReply **reply);

static void count_left(struct broker *b)
{
    redis_say(b->writer, on_left, b, "LLEN", b->list.processing);
}

static void on_returned(void *ctx, redisReply **reply)
{
    struct broker *b = ctx;
    if (redis_is_error(*reply))
        redis_fail(b->writer, *reply, queue_of(b));
    else if (redis_owed(b->writer) == 0)
        count_left(b); /* it was the last one of those */
}

/* Nothing is known, so all that is there is an earlier life's, or came with moves that we did not hear of. It goes back to
 * where it came from, newest first. */
static void on_left(void *ctx, redisReply **reply)
{
    struct broker *b = ctx;
    if (redis_is_error(*reply)) {
        redis_fail(b->writer, *reply, b->list.processing);
        return;
    }
    for (int64_t i = 0; i < MIN((*reply)->integer, RETURN_BATCH); i++)
        redis_say(b->writer, on_returned, b, "LMOVE", b->list.processing, queue_of(b), "RIGHT",
                  pops_right(b) ? "RIGHT" : "LEFT");
    if ((*reply)->integer <= 0)
        up(b);
}

/* Also whether it is a list. */
static void on_first_length(void *ctx, redisReply **reply)
{
    struct broker *b = ctx;
    if (redis_is_error(*reply)) {
        redis_fail(b->writer, *reply, queue_of(b));
        return;
    }
    b->list.lag = (*reply)->integer;
    if (b->list.known)
        redis_say(b->reader, on_listed, b, "LRANGE", b->list.processing, "0", "-1");
    else
        count_left(b);
}

static void list_connected(struct broker *b)
{
    redis_say(b->writer, on_first_length, b, "LLEN", queue_of(b));
}

/* A scan that was cut short is begun anew. */
static void strays_free(struct redis_list *l)
{
    l->scanned = l->scanned && !l->cursor && l->n_strays == 0;
    while (l->n_strays > 0)
        free(l->strays[--l->n_strays]);
    free(steal(&l->strays));
    free(steal(&l->cursor));
}

static void list_lost(struct broker *b)
{
    struct redis_list *l = &b->list;
    l->asked_when_lost = l->asked;
    l->asked = 0;
    l->blocking = l->looking = false;
    unsend(l);
    loop_task_cancel(b->env.loop, &l->returns);
    strays_free(l);
}

/* Everything is given back, once nothing more can come. */
static void list_stop(struct broker *b)
{
    struct redis_list *l = &b->list;
    struct delivery *d;
    if (l->blocking && !l->unblocked)
        broker_unblock(b);
    l->unblocked = true;
    if (l->asked > 0 || l->looking)
        return;
    DL_FOREACH (l->known, d)
        if (d->state == DELIVERY_HELD)
            decide(b, d, QUEUE_BACK);
    stop_if_done(b);
}

static void list_init(struct broker *b)
{
    struct redis_list *l = &b->list;
    const char *owner = queue_owner(b->host);
    l->processing = xasprintf("%s:triggerd:%s:%s", queue_of(b), b->setup->node_id, owner);
    l->prefix_len = strlen(l->processing) - strlen(owner);
    l->sent_end = &l->sent;
    l->burst = 1;
    l->lag = -1;
    loop_task_init(&l->returns, on_returns, b);
}

static void list_fini(struct broker *b)
{
    struct delivery *d, *next;
    DL_FOREACH_SAFE (b->list.known, d, next)
        drop(b, d);
    free(b->list.processing);
}

const struct redis_mode_ops redis_list_ops = {
    .writer = true,
    .init = list_init,
    .fini = list_fini,
    .connected = list_connected,
    .lost = list_lost,
    .pump = list_pump,
    .pause = list_pause,
    .update = list_update,
    .settle = list_settle,
    .stop = list_stop,
};
