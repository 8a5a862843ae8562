/* Intake: an occurrence becomes events. Match, look for a duplicate (where it carries an identity), decide for every
 * trigger that wants it, reserve, and record all of it in one batch; then confirm, or release everything. */
#include "engine/internal.h"

#include <assert.h>

#define LOOK_UPS_MAX 256 /* in one read */

struct intake {
    struct engine *engine;
    struct targets targets; /* pinned */
    /* for what happens after an asynchronous step: with copies of what does not stay */
    struct occurrence o;
    char *event_type, *identity, *traceparent, *root_event_id, *chain, *replay_of, *failed, *text;
    char *printed; /* the data as text, where we printed it: the last event takes it */
    cJSON *data;
    /* settlement of an active source */
    uint64_t epoch, token;
    const struct source_type *type;
    struct source *late; /* it is settled even if it was stopped meanwhile (source_type.settles_late); else NULL */
    bool until_end;
    enum event_status first_status; /* of the event that has the identity, or SKIPPED where there is none */
    struct live_event *first;       /* that one, while it waits or runs */
    intake_done_fn *done;
    void *ctx;
    struct live_event **events; /* as many as targets at most */
    size_t n_events;
    int64_t triggered;
    struct live_event *few_events[TARGETS_FEW];
    /* dedup */
    char *scope;
    uint64_t body_hash;
    bool redelivery; /* of a source, whose identity is its own word: the same, whatever it holds now */
    struct dedup_flight *flight;
    struct intake *next_waiting;          /* of the flight */
    struct intake *look_prev, *look_next; /* in engine->to_look_up */
    /* a deferred answer without a record */
    int code;
    char *message;
    char *duplicate_events;
    struct timer deferred;
};

/* Identities whose outcome is not yet on disk: whoever comes with the same one waits for the first. */
struct dedup_flight {
    char *key; /* `scope` NUL-free, a slash, and the identity */
    struct intake *waiting;
    UT_hash_handle hh;
};

static void intake_gate(struct intake *in, const struct occurrence *o, const char *text, struct batch *joined);
static void intake_look_up(struct intake *in);
static void look_up_next(struct engine *e);

/* FIRST/SECOND */
static char *join(const char *first, const char *second)
{
    size_t n = strlen(first), m = strlen(second);
    char *out = xmalloc(n + 1 + m + 1);
    memcpy(out, first, n);
    out[n] = '/';
    memcpy(out + n + 1, second, m + 1);
    return out;
}

static void intake_free(struct intake *in)
{
    for (size_t i = 0; i < in->targets.n; i++) {
        in->targets.list[i]->pins--;
        trigger_reap(in->targets.list[i]);
    }
    targets_fini(&in->targets);
    free(in->event_type);
    free(in->identity);
    free(in->traceparent);
    free(in->root_event_id);
    free(in->chain);
    free(in->replay_of);
    free(in->failed);
    free(in->text);
    free(in->printed);
    cJSON_Delete(in->data);
    if (in->events != in->few_events)
        free(in->events);
    free(in->scope);
    free(in->message);
    free(in->duplicate_events);
    free(in);
}

/* ---- answering ---- */

static void settle_source(struct intake *in, bool recorded, const char *why)
{
    if (!in->epoch || in->targets.n == 0)
        return; /* (a trigger whose source settles late is not dropped from its targets) */
    struct live_trigger *t = in->targets.list[0];
    uint64_t epoch = in->epoch;
    struct source *s = in->late ? in->late : t->source && t->source_epoch == epoch ? t->source : NULL;
    const struct source_type *type = in->type;
    in->epoch = 0;
    if (!s)
        return;
    if (!recorded) {
        if (type->nack)
            type->nack(s, in->token, why);
        return;
    }
    if (type->ack)
        type->ack(s, in->token);
    if (!in->until_end)
        return;
    if (in->first)
        event_watch(in->first, epoch, in->token);
    else if (in->n_events > 0)
        event_watch(in->events[0], epoch, in->token);
    else
        source_tell_end(t, epoch, in->token, in->first_status);
}

static void flight_land(struct intake *in)
{
    struct dedup_flight *f = in->flight;
    if (!f)
        return;
    in->flight = NULL;
    HASH_DELETE(hh, in->engine->flights, f);
    struct intake *w = f->waiting;
    free(f->key);
    free(f);
    while (w) { /* they look again: the first takes the next flight, the others wait for it */
        struct intake *next = w->next_waiting;
        w->next_waiting = NULL;
        intake_look_up(w);
        w = next;
    }
}

static void answer(struct intake *in)
{
    struct intake_result r = {.code = in->code,
                              .events = NULL,
                              .n = in->code == 0 ? in->n_events : 0,
                              .triggered = in->code == 0 ? in->triggered : 0,
                              .duplicate = in->duplicate_events != NULL,
                              .duplicate_events = in->duplicate_events,
                              .message = in->message};
    const struct event *few[TARGETS_FEW];
    _cleanup_(freep) const struct event **many =
        in->n_events > TARGETS_FEW ? xcalloc(in->n_events, sizeof(*many)) : NULL;
    const struct event **rows = many ? many : few;
    for (size_t i = 0; i < in->n_events; i++)
        rows[i] = &in->events[i]->rec;
    r.events = rows;
    settle_source(in, in->code == 0, in->message);
    flight_land(in);
    if (in->done)
        in->done(in->ctx, &r);
}

static void answer_later(struct timer *timer, void *ctx)
{
    (void)timer;
    struct intake *in = ctx;
    struct engine *e = in->engine;
    answer(in);
    intake_free(in);
    e->reading--;
    drain_progress(e);
}

static void refuse(struct intake *in, int code, const char *message)
{
    in->code = code;
    in->message = xstrdup0(message);
    in->engine->reading++; /* under way, for the drain */
    timer_init(&in->deferred, answer_later, in);
    timer_start(in->engine->timers, &in->deferred, engine_now(in->engine));
}

/* ---- recording ---- */

/* One event is on disk. */
static void confirm(struct live_event *ev)
{
    struct live_trigger *t = ev->trigger;
    fire_settle(ev, true);
    feed_tell(t->engine, &ev->rec);
    switch (ev->rec.status) {
    case EVENT_EXECUTING:
        ev->recorded = true;
        trigger_decided(t, DECISION_FIRED);
        trigger_fired(t, ev->internal, ev->rec.started_ms);
        run_begin(ev->run);
        break;
    case EVENT_PENDING: {
        if (t->removed) { /* while this was being recorded */
            latest_unlink(ev);
            event_end_pending(ev, EVENT_CANCELLED, ev->rec.decision, "the trigger was deleted");
            break;
        }
        bool replaces = ev->rec.decision == DECISION_CONCURRENCY && t->spec->concurrency_policy == CONCURRENCY_REPLACE;
        if (replaces)
            lane_replace(ev);
        event_confirmed_waiting(ev);
        break;
    }
    default:
        trigger_decided(t, ev->rec.decision);
        if (ev->rec.decision == DECISION_FIRED)
            trigger_fired(t, ev->internal, ev->rec.completed_ms);
        t->n_recording--;
        event_tell_end(ev, ev->rec.status);
        event_free(ev);
        trigger_reap(t);
        break;
    }
}

static const char *store_words(int result)
{
    switch (result) {
    case -ENOSPC:
        return "the disk is full; nothing was recorded";
    case -EROFS:
        return "the state directory is read-only; nothing was recorded";
    case -ESHUTDOWN:
        return "triggerd is shutting down";
    default:
        return "the store failed; nothing was recorded";
    }
}

void intake_joined(struct intake *in, int result)
{
    in->code = result;
    if (result < 0)
        in->message = xstrdup(store_words(result));
    answer(in);
    for (size_t i = 0; i < in->n_events; i++) {
        if (result == 0)
            confirm(in->events[i]);
        else
            gate_release(in->events[i]);
    }
    /* Slots were held while this was recorded; those who wait may be its own triggers' events. */
    intake_free(in);
}

static void batch_done(struct batch *b, int result)
{
    intake_joined(b->ctx, result);
}

/* JSON for the dedup entry: the body's hash and the ids of the first events. */
static char *dedup_value(const struct intake *in)
{
    struct buf b = {0};
    char hash[17];
    snprintf(hash, sizeof(hash), "%016" PRIx64, in->body_hash);
    buf_adds(&b, "{\"body\":\"");
    buf_adds(&b, hash);
    buf_adds(&b, "\",\"events\":[");
    for (size_t i = 0; i < in->n_events; i++) {
        buf_adds(&b, i ? ",\"" : "\"");
        buf_adds(&b, in->events[i]->rec.id);
        buf_addc(&b, '"');
    }
    buf_adds(&b, "]}");
    return buf_steal(&b);
}

static double dedup_window(const struct intake *in)
{
    double longest = 0;
    for (size_t i = 0; i < in->targets.n; i++)
        longest = MAX(longest, in->targets.list[i]->spec->dedup_window_seconds);
    return longest;
}

/* Decide and reserve, one trigger after the other: they may share a pipeline's slots. False: a queue is full, and
 * nothing is reserved. */
static bool reserve_all(struct intake *in, const struct occurrence *o, const char *text)
{
    in->events = in->targets.n <= TARGETS_FEW ? in->few_events : xcalloc(in->targets.n, sizeof(*in->events));
    for (size_t i = 0; i < in->targets.n; i++) {
        struct live_trigger *t = in->targets.list[i];
        struct verdict v;
        gate_decide(t, o, text, &v);
        if (v.outcome == OUTCOME_FULL) {
            trigger_decided(t, DECISION_QUEUE_FULL);
            in->message = xasprintf("the queue of trigger \"%s\" is full: %s", t->id, v.reason);
            verdict_fini(&v);
            in->triggered = 0;
            while (in->n_events > 0)
                gate_release(in->events[--in->n_events]);
            trigger_source_flow(t);
            return false;
        }
        enum outcome outcome = v.outcome;
        char *own = i + 1 == in->targets.n ? steal(&in->printed) : NULL;
        struct live_event *ev = gate_reserve(t, o, own ? own : xstrdup(text), &v);
        in->events[in->n_events++] = ev;
        in->triggered += outcome == OUTCOME_RUN || outcome == OUTCOME_WAIT ||
                         (outcome == OUTCOME_FAIL && ev->rec.decision == DECISION_FIRED);
        if (ev->run)
            memcpy(ev->rec.run_id, ev->run->row.id, sizeof(ev->rec.run_id));
    }
    return true;
}

/* Triggers that were deleted while a duplicate was looked for. */
static void drop_removed(struct intake *in)
{
    size_t n = 0;
    for (size_t i = 0; i < in->targets.n; i++) {
        struct live_trigger *t = in->targets.list[i];
        if (!t->removed) {
            in->targets.list[n++] = t;
            continue;
        }
        t->pins--;
        trigger_reap(t);
    }
    in->targets.n = n;
}

/* Whoever brings the same again is told of these events. */
static void add_identities(const struct intake *in, const struct occurrence *o, struct store_group *g)
{
    if (!in->scope && o->n_identities == 0)
        return;
    _cleanup_(freep) char *value = dedup_value(in);
    int64_t until = engine_wall(in->engine) + (int64_t)(dedup_window(in) * 1000);
    if (in->scope)
        store_add_dedup(g, in->scope, o->identity, value, until);
    _cleanup_(freep) char *scope = o->n_identities > 0 ? join("trigger", in->targets.list[0]->id) : NULL;
    for (size_t i = 0; i < o->n_identities; i++)
        store_add_dedup(g, scope, o->identities[i], value, until);
}

/* Nothing starts later for it: it waits, and not as the first. */
static bool may_ride(const struct intake *in, const struct occurrence *o)
{
    for (size_t i = 0; i < in->n_events; i++)
        if (in->events[i]->place != PLACE_PENDING || in->events[i]->lane->n_pending == 1)
            return false;
    return o->unhurried;
}

/* Decide, reserve, record. With `joined` the batch is the caller's. */
static void intake_gate(struct intake *in, const struct occurrence *o, const char *text, struct batch *joined)
{
    struct engine *e = in->engine;
    if (in->late && in->targets.list[0]->removed) {
        refuse(in, -ESHUTDOWN, "the trigger was deleted");
        return;
    }
    drop_removed(in);
    if (in->targets.n == 0) {
        refuse(in, 0, NULL);
        return;
    }
    if (!reserve_all(in, o, text)) {
        char *message = steal(&in->message);
        refuse(in, -EAGAIN, message);
        free(message);
        return;
    }
    unsigned flags = (o->internal ? STORE_KEEP : 0) | (may_ride(in, o) ? STORE_LAZY : 0);
    struct batch *b = joined ? joined : batch_new(e, flags, batch_done, in);
    for (size_t i = 0; i < in->targets.n; i++) {
        batch_event_insert(b, in->events[i]);
        const struct event *rec = &in->events[i]->rec;
        if (rec->decision == DECISION_FIRED)
            batch_fired(b, in->targets.list[i], rec->started_ms ? rec->started_ms : rec->completed_ms);
        if (in->events[i]->run)
            batch_run_insert(b, in->events[i]->run);
        trigger_source_flow(in->targets.list[i]);
    }
    add_identities(in, o, &b->group);
    if (o->record)
        o->record(o->record_ctx, &b->group);
    if (!joined)
        batch_submit(b);
}

/* ---- duplicates ---- */

static void intake_duplicate(struct intake *in)
{
    for (size_t i = 0; i < in->targets.n; i++)
        trigger_decided(in->targets.list[i], DECISION_DUPLICATE);
    if (!in->first) {
        refuse(in, 0, NULL);
        return;
    }
    answer(in); /* at once: it might end before a later answer */
    intake_free(in);
}

/* How the event that has the identity ended. */
static void first_read(struct store_read *r, int result)
{
    struct intake *in = r->ctx;
    struct engine *e = in->engine;
    bool known = result == 0 && r->n_events == 1;
    enum event_status status = known ? r->events[0].status : EVENT_COMPLETED;
    store_read_free(r);
    e->reading--;
    if (result < 0 && result != -ENOENT) {
        refuse(in, -EIO, store_words(-EIO));
    } else if (known && status == EVENT_FAILED) {
        free(steal(&in->duplicate_events));
        if (e->draining)
            refuse(in, -ESHUTDOWN, store_words(-ESHUTDOWN));
        else
            intake_gate(in, &in->o, in->o.data_text, NULL);
    } else if (known && (status == EVENT_PENDING || status == EVENT_EXECUTING)) {
        free(steal(&in->duplicate_events));
        refuse(in, -EBUSY, "the first event of this message is just ending");
    } else {
        in->first_status = status;
        intake_duplicate(in);
    }
    drain_progress(e);
}

/* Whoever brought it wants to know how the first one ends. */
static void intake_find_first(struct intake *in, const cJSON *ids)
{
    struct engine *e = in->engine;
    const char *id = ids && cJSON_IsString(ids->child) ? ids->child->valuestring : "";
    in->first = trigger_find_event(in->targets.list[0], id);
    if (in->first) {
        intake_duplicate(in);
        return;
    }
    e->reading++;
    struct store_read *r = store_read_new(STORE_READ_EVENT, first_read, in);
    r->id = xstrdup(id);
    e->store->read(e->store, r);
}

/* Looks itself up with those that wait, or only waits in their line. */
static void look_queue(struct intake *in)
{
    struct engine *e = in->engine;
    DL_APPEND2(e->to_look_up, in, look_prev, look_next);
    e->reading++;
    if (in->redelivery)
        in->targets.list[0]->looking++;
    look_up_next(e);
}

static void look_land(struct intake *in, const struct store_lookup *found, int result)
{
    struct engine *e = in->engine;
    e->reading--;
    if (in->redelivery)
        in->targets.list[0]->looking--;
    if (result == 0 && found->value) {
        cJSON *entry = NULL;
        if (value_parse(found->value, found->value_len, &entry, NULL) == 0) {
            char hash[17];
            snprintf(hash, sizeof(hash), "%016" PRIx64, in->body_hash);
            cJSON *ids = value_get(entry, "events");
            if (in->redelivery || streq(value_get_string(entry, "body"), hash)) {
                in->duplicate_events = value_print(ids);
                if (in->until_end)
                    intake_find_first(in, ids);
                else
                    intake_duplicate(in);
            } else {
                refuse(in, -EEXIST, "this idempotency key was used here with another body");
            }
        }
        cJSON_Delete(entry);
        return;
    }
    if (result < 0 && in->o.identity)
        refuse(in, -EIO, store_words(-EIO));
    else if (e->draining)
        refuse(in, -ESHUTDOWN, store_words(-ESHUTDOWN));
    else
        intake_gate(in, &in->o, in->o.data_text, NULL);
}

static void looked_up(struct store_read *r, int result)
{
    struct engine *e = r->ctx;
    e->looking_up = false;
    look_up_next(e); /* the reader works while these are taken in */
    for (size_t i = 0; i < r->n_lookups; i++)
        look_land(r->lookups[i].ctx, &r->lookups[i], result);
    store_read_free(r);
}

/* One read at a time, for all that have come meanwhile: the way to a reader and back costs more than looking, and so
 * events are taken in as they came, whichever reader answers. */
static void look_up_next(struct engine *e)
{
    if (e->looking_up || !e->to_look_up)
        return;
    struct store_lookup *lookups = NULL;
    size_t n = 0, cap = 0;
    for (struct intake *in; n < LOOK_UPS_MAX && (in = e->to_look_up);) {
        DL_DELETE2(e->to_look_up, in, look_prev, look_next);
        if (n == cap) {
            cap = cap ? LOOK_UPS_MAX : 1; /* mostly it is one, or there are many */
            lookups = xreallocarray(lookups, cap, sizeof(*lookups));
        }
        lookups[n++] = (struct store_lookup){.scope = in->scope, .key = in->o.identity, .ctx = in};
    }
    struct store_read *r = store_read_new(STORE_READ_DEDUP, looked_up, e);
    r->lookups = lookups;
    r->n_lookups = n;
    r->now_ms = engine_wall(e);
    e->looking_up = true;
    e->store->read(e->store, r);
}

static void intake_look_up(struct intake *in)
{
    struct engine *e = in->engine;
    _cleanup_(freep) char *key = join(in->scope, in->o.identity);
    struct dedup_flight *f = NULL;
    HASH_FIND_STR(e->flights, key, f);
    if (f) {
        in->next_waiting = f->waiting;
        f->waiting = in;
        return;
    }
    f = xcalloc(1, sizeof(*f));
    f->key = steal(&key);
    HASH_ADD_KEYPTR(hh, e->flights, f->key, strlen(f->key), f);
    in->flight = f;
    look_queue(in);
}

static void keep_copies(struct intake *in, const struct occurrence *o, const char *text)
{
    assert(!o->record && o->n_identities == 0);
    in->o = *o;
    if (!in->printed)
        in->text = xstrdup(text);
    in->o.data_text = in->printed ? in->printed : in->text;
    if (o->stays)
        return;
    in->event_type = xstrdup(o->event_type);
    in->identity = xstrdup0(o->identity);
    in->traceparent = xstrdup0(o->traceparent);
    in->root_event_id = xstrdup0(o->root_event_id);
    in->chain = xstrdup0(o->chain);
    in->replay_of = xstrdup0(o->replay_of);
    in->failed = xstrdup0(o->failed);
    in->data = cJSON_Duplicate(o->data, true);
    in->o.event_type = in->event_type;
    in->o.identity = in->identity;
    in->o.traceparent = in->traceparent;
    in->o.root_event_id = in->root_event_id;
    in->o.chain = in->chain;
    in->o.replay_of = in->replay_of;
    in->o.failed = in->failed;
    in->o.data = in->data;
}

/* ---- the doors ---- */

static struct intake *intake_new(struct engine *e, intake_done_fn *done, void *ctx)
{
    struct intake *in = xcalloc(1, sizeof(*in));
    in->engine = e;
    in->done = done;
    in->ctx = ctx;
    targets_init(&in->targets);
    return in;
}

/* The targets are known: from now on they stay, even deleted. */
static void intake_pin(struct intake *in)
{
    for (size_t i = 0; i < in->targets.n; i++)
        in->targets.list[i]->pins++;
}

static struct intake *intake_for(struct engine *e, struct live_trigger *t, intake_done_fn *done, void *ctx)
{
    struct intake *in = intake_new(e, done, ctx);
    targets_add(&in->targets, t);
    intake_pin(in);
    return in;
}

/* The data as text: as it came, or printed. Borrowed from the intake or the occurrence. */
static const char *intake_text(struct intake *in, const struct occurrence *o)
{
    if (!o->data_text)
        in->printed = value_print(o->data);
    return o->data_text ? o->data_text : in->printed;
}

/* May anything be taken in now? 0, or the code to refuse with. */
static int may_take(struct engine *e, bool internal, const char **ret_message)
{
    size_t bytes = 0;
    if (!e->started) { /* its triggers may not be known yet: nobody would hear it */
        *ret_message = "triggerd is starting; try again";
        return -EBUSY;
    }
    if ((e->draining && !internal) || !e->options.firing) {
        *ret_message = e->draining ? store_words(-ESHUTDOWN) : "triggers are switched off (FLOWMASON_TRIGGERS_ENABLED)";
        return -ESHUTDOWN;
    }
    if (internal)
        return 0;
    if (!e->store->writable(e->store)) {
        *ret_message = store_words(-ENOSPC);
        return -ENOSPC;
    }
    if (e->store->backlog(e->store, &bytes) >= BACKLOG_GROUPS_HIGH || bytes >= BACKLOG_BYTES_HIGH) {
        *ret_message = "the store is behind; try again";
        return -EAGAIN;
    }
    return 0;
}

/* `scope` is taken over. */
static void intake_take(struct intake *in, const struct occurrence *o, const char *text, char *scope)
{
    const char *message = NULL;
    int r = may_take(in->engine, o->internal, &message);
    in->scope = scope;
    if (r < 0) {
        refuse(in, r, message);
    } else if (in->targets.n == 0) {
        refuse(in, 0, NULL);
    } else if (scope) {
        keep_copies(in, o, text);
        in->body_hash = o->identity_alone ? 0 : o->body_hash ? o->body_hash : hash_bytes(0, text, strlen(text));
        intake_look_up(in);
    } else if (in->redelivery && in->targets.list[0]->looking > 0 && !o->record && o->n_identities == 0) {
        /* What a source brings without an identity does not overtake what it brought before. */
        keep_copies(in, o, text);
        look_queue(in);
    } else {
        intake_gate(in, o, text, NULL);
    }
}

void engine_publish(struct engine *e, const char *type, const char *channel, const struct occurrence *given,
                    intake_done_fn *done, void *ctx)
{
    struct occurrence o = *given;
    if (!o.occurred_ms)
        o.occurred_ms = engine_wall(e);
    struct intake *in = intake_new(e, done, ctx);
    const char *text = intake_text(in, &o);
    if (e->started && (!e->draining || o.internal) && e->options.firing)
        channel_match(e, type, channel, &o, text, &in->targets);
    intake_pin(in);
    intake_take(in, &o, text, o.identity ? join(type, channel) : NULL);
}

int engine_occur(struct engine *e, const char *trigger_id, const struct occurrence *given, intake_done_fn *done,
                 void *ctx)
{
    struct live_trigger *t = engine_find_trigger(e, trigger_id);
    if (!t)
        return -ENOENT;
    struct occurrence o = *given;
    if (!o.occurred_ms)
        o.occurred_ms = engine_wall(e);
    struct intake *in = intake_for(e, t, done, ctx);
    const char *text = intake_text(in, &o);
    intake_take(in, &o, text, o.identity ? join("trigger", t->id) : NULL);
    return 0;
}

void source_occurred(struct source_host *host, const struct occurrence *given, uint64_t token)
{
    struct live_trigger *t = host->trigger;
    struct engine *e = t->engine;
    struct occurrence o = *given;
    if (!o.occurred_ms)
        o.occurred_ms = engine_wall(e);
    struct intake *in = intake_for(e, t, NULL, NULL);
    const char *text = intake_text(in, &o);
    t->seen++;
    o.kept = t->type->kind.lossless;
    bool wanted = o.failed || trigger_wants(t, o.data, NULL, 0);
    o.round = wanted ? rounds_count(t, &o) : (struct round){0};
    if (!wanted) {
        trigger_decided(t, DECISION_FILTERED);
        recent_add(&t->recent, t->seen, &o, text);
        filtered_tell(t, &o, text);
    }
    in->redelivery = true;
    in->epoch = t->source_epoch;
    in->token = token;
    in->type = t->type;
    in->late = t->type->settles_late ? t->source : NULL;
    in->until_end = o.until_end;
    in->first_status = EVENT_SKIPPED;
    if (!wanted) {
        refuse(in, 0, NULL);
        return;
    }
    intake_take(in, &o, text, o.identity ? join("trigger", t->id) : NULL);
}

struct intake *intake_join(struct engine *e, const char *type, const char *channel, const struct occurrence *given,
                           struct batch *b)
{
    struct occurrence o = *given;
    if (!o.occurred_ms)
        o.occurred_ms = engine_wall(e);
    struct intake *in = intake_new(e, NULL, NULL);
    const char *text = intake_text(in, &o);
    channel_match(e, type, channel, &o, text, &in->targets);
    if (in->targets.n == 0) {
        intake_free(in);
        return NULL;
    }
    intake_pin(in);
    intake_gate(in, &o, text, b);
    return in;
}

/* ---- the dry run ---- */

int engine_dry_run(struct engine *e, const char *trigger_id, const cJSON *data, enum decision *ret, char **ret_reason,
                   char **ret_inputs)
{
    struct live_trigger *t = engine_find_trigger(e, trigger_id);
    if (!t)
        return -ENOENT;
    char why[512] = "";
    if (!trigger_wants(t, data, why, sizeof(why))) {
        *ret = DECISION_FILTERED;
        *ret_reason = xstrdup(why);
        *ret_inputs = NULL;
        return 0;
    }
    struct occurrence o = {.event_type = "test", .data = data, .occurred_ms = engine_wall(e)};
    _cleanup_(freep) char *text = value_print(data);
    struct verdict v;
    gate_decide(t, &o, text, &v);
    *ret = v.decision;
    *ret_reason = v.error && v.outcome == OUTCOME_FAIL ? steal(&v.error) : *v.reason ? xstrdup(v.reason) : NULL;
    *ret_inputs = steal(&v.inputs);
    verdict_fini(&v);
    return 0;
}
