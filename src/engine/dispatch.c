/* Lanes, slots and waiting: when a pending event starts. A lane is a trigger's queue for one value of its
 * concurrency_key; a run takes a slot of its lane, of its pipeline and of the engine. Starting is a loop over a list of
 * lanes that became ready, never a recursion, however many events fail on the way. */
#include "engine/internal.h"

#define READ_AGAIN_MS 1000

static void pump_ready(struct engine *e);

struct lane *lane_find(struct live_trigger *t, const char *key)
{
    struct lane *l = NULL;
    const char *k = key ? key : "";
    HASH_FIND_STR(t->lanes, k, l);
    return l;
}

struct lane *lane_get(struct live_trigger *t, const char *key)
{
    struct lane *l = lane_find(t, key);
    if (l)
        return l;
    l = xcalloc(1, sizeof(*l));
    l->trigger = t;
    l->key = xstrdup(key ? key : "");
    l->waiter.lane = l;
    HASH_ADD_KEYPTR(hh, t->lanes, l->key, strlen(l->key), l);
    return l;
}

void waiter_leave(struct waiter *w)
{
    if (w->list) {
        DL_DELETE(*w->list, w);
        w->list = NULL;
    }
}

static void waiter_join(struct waiter *w, struct waiter **list)
{
    if (w->list)
        return;
    DL_APPEND(*list, w);
    w->list = list;
}

void lane_reap(struct lane *l)
{
    if (l->pending || l->running || l->ready || l->busy)
        return;
    waiter_leave(&l->waiter);
    HASH_DELETE(hh, l->trigger->lanes, l);
    free(l->key);
    free(l);
}

void lane_push(struct lane *l, struct live_event *ev)
{
    ev->lane = l;
    ev->place = PLACE_PENDING;
    DL_APPEND(l->pending, ev);
    l->n_pending++;
    l->trigger->n_pending++;
    ev->bytes =
        strlen(ev->rec.data ? ev->rec.data : "") + strlen(ev->rec.resolved_inputs ? ev->rec.resolved_inputs : "");
    l->trigger->engine->pending_bytes += ev->bytes;
}

void lane_occupy(struct lane *l, struct live_event *ev)
{
    ev->lane = l;
    ev->place = PLACE_RUNNING;
    DL_APPEND(l->running, ev);
    l->n_running++;
    l->trigger->n_running++;
}

void lane_remove(struct live_event *ev)
{
    struct lane *l = ev->lane;
    if (ev->place == PLACE_PENDING) {
        DL_DELETE(l->pending, ev);
        l->n_pending--;
        l->trigger->n_pending--;
        l->trigger->engine->pending_bytes -= ev->bytes;
        ev->bytes = 0;
    } else if (ev->place == PLACE_RUNNING) {
        DL_DELETE(l->running, ev);
        l->n_running--;
        l->trigger->n_running--;
    }
    ev->place = PLACE_NOWHERE;
    ev->lane = NULL;
    if (!l->pending && !l->running)
        lane_reap(l);
}

bool slot_free(struct engine *e, struct live_pipeline *p)
{
    return e->n_running < e->max_runs &&
           (!p || !p->spec || p->spec->max_concurrent == 0 || p->n_running < p->spec->max_concurrent);
}

void slot_take(struct live_run *run)
{
    run->has_slot = true;
    run->engine->n_running++;
    run->pipeline->n_running++;
}

static void lane_ready(struct lane *l)
{
    struct engine *e = l->trigger->engine;
    if (l->ready)
        return;
    l->ready = true;
    DL_APPEND2(e->ready, l, ready_prev, ready_next);
}

void waiter_wake(struct engine *e, struct waiter **list)
{
    struct waiter *w = *list;
    if (!w)
        return;
    waiter_leave(w);
    if (w->lane)
        lane_ready(w->lane);
    else
        waiter_join(w, &e->woken);
    pump_ready(e);
}

void run_try(struct live_run *run)
{
    struct engine *e = run->engine;
    if (run->finished || run->ending != RUN_RUNNING) {
        run_begin(run);
    } else if (e->draining) {
        run_interrupt(run);
    } else if (!run->pipeline->present) {
        run_end_early(run, RUN_CANCELLED, "the pipeline was deleted");
    } else if (!e->started) {
        waiter_join(&run->waiter, &e->waiters);
    } else if (!slot_free(e, run->pipeline)) {
        waiter_join(&run->waiter, e->n_running >= e->max_runs ? &e->waiters : &run->pipeline->waiters);
        slots_pass_on(e, run->pipeline);
    } else {
        slot_take(run);
        run->row.status = RUN_RUNNING;
        run->row.started_ms = engine_wall(e);
        struct batch *b = batch_new(e, STORE_LAZY | STORE_KEEP, NULL, NULL);
        batch_run_update(b, run);
        run_start_recorded(run, b);
    }
}

void slot_give(struct live_run *run)
{
    if (!run->has_slot)
        return;
    run->has_slot = false;
    run->engine->n_running--;
    run->pipeline->n_running--;
    waiter_wake(run->engine, &run->pipeline->waiters);
    waiter_wake(run->engine, &run->engine->waiters);
}

bool trigger_held(const struct live_trigger *t)
{
    return t->paused || t->latched || !t->spec->enabled || !t->engine->options.firing || t->removed;
}

/* The same for one event: a test runs on a disabled trigger too. */
static bool event_held(const struct live_trigger *t, const struct live_event *ev)
{
    return t->paused || t->latched || !t->engine->options.firing || t->removed ||
           (!t->spec->enabled && !streq(ev->rec.event_type, "test"));
}

int64_t cooldown_left(const struct live_trigger *t)
{
    int64_t last = t->n_reserved_fires > 0 ? MAX(t->last_fire_ms, t->reserved_fire_ms) : t->last_fire_ms;
    if (t->spec->cooldown_seconds <= 0 || last == INT64_MIN)
        return 0;
    int64_t end = last + (int64_t)(t->spec->cooldown_seconds * 1000 + 0.999);
    int64_t now = engine_now(t->engine);
    return end > now ? end - now : 0;
}

/* ---- who wants to know how an event ends ---- */

void event_watch(struct live_event *ev, uint64_t epoch, uint64_t token)
{
    struct ending *w = xcalloc(1, sizeof(*w));
    *w = (struct ending){ev->endings, epoch, token};
    ev->endings = w;
}

void source_tell_end(struct live_trigger *t, uint64_t epoch, uint64_t token, enum event_status status)
{
    if (t->source && t->source_epoch == epoch && t->type->ended)
        t->type->ended(t->source, token, status);
}

void event_tell_end(struct live_event *ev, enum event_status status)
{
    while (ev->endings) {
        struct ending *w = ev->endings;
        ev->endings = w->next;
        source_tell_end(ev->trigger, w->epoch, w->token, status);
        free(w);
    }
}

struct live_event *trigger_find_event(struct live_trigger *t, const char *id)
{
    struct live_event *ev;
    for (const struct lane *l = t->lanes; l; l = l->hh.next) {
        DL_FOREACH (l->running, ev) {
            if (streq(ev->rec.id, id))
                return ev;
        }
        DL_FOREACH (l->pending, ev) {
            if (streq(ev->rec.id, id))
                return ev;
        }
    }
    for (ev = t->latest; ev; ev = ev->supersedes)
        if (streq(ev->rec.id, id))
            return ev;
    return NULL;
}

struct live_event *find_waiting_run(struct engine *e, const char *run_id)
{
    struct live_event *ev;
    for (const struct live_trigger *t = e->triggers; t; t = t->hh.next) {
        for (const struct lane *l = t->lanes; l; l = l->hh.next)
            DL_FOREACH (l->pending, ev) {
                if (ev->recorded && streq(ev->rec.run_id, run_id))
                    return ev;
            }
        for (ev = t->latest; ev; ev = ev->supersedes)
            if (ev->recorded && streq(ev->rec.run_id, run_id))
                return ev;
    }
    return NULL;
}

/* The event that a source waits for, of those that have not started. */
static struct live_event *find_waiting(struct live_event *ev, uint64_t epoch, uint64_t token)
{
    for (const struct ending *w = ev->endings; w; w = w->next)
        if (w->epoch == epoch && w->token == token)
            return ev;
    return NULL;
}

bool source_withdraw(struct source_host *host, uint64_t token)
{
    struct live_trigger *t = host->trigger;
    struct live_event *ev, *found = NULL;
    for (const struct lane *l = t->lanes; l && !found; l = l->hh.next) {
        DL_FOREACH (l->pending, ev) {
            if ((found = find_waiting(ev, t->source_epoch, token)))
                break;
        }
    }
    for (ev = t->latest; ev && !found; ev = ev->supersedes)
        found = find_waiting(ev, t->source_epoch, token);
    if (!found || !found->recorded)
        return false;
    latest_unlink(found);
    event_end_pending(found, EVENT_CANCELLED, found->rec.decision,
                      "its source was stopped before it started; the message stays with the broker");
    return true;
}

void event_free(struct live_event *ev)
{
    while (ev->endings) {
        struct ending *w = ev->endings;
        ev->endings = w->next;
        free(w);
    }
    if (ev->spec) { /* two of its texts are borrowed */
        ev->rec.trigger_id = ev->rec.pipeline_id = NULL;
        trigger_unref(ev->spec);
    }
    event_fini(&ev->rec);
    free(ev->path);
    free(ev);
}

static void ended_recorded(struct batch *b, int result)
{
    (void)result; /* kept groups fail only when the store closes: the event is found pending again */
    struct live_event *ev = b->ctx;
    struct live_trigger *t = ev->trigger;
    if (ev->loading) { /* loaded() goes on from here */
        ev->ended = true;
        return;
    }
    t->n_recording--;
    event_free(ev);
    trigger_reap(t);
}

/* It leaves its queue and is as it will be recorded. True: it fires, and fails at once. */
static bool end_pending(struct live_event *ev, enum event_status status, enum decision d, const char *why)
{
    struct live_trigger *t = ev->trigger;
    if (ev->lane)
        lane_remove(ev);
    else
        t->n_pending--; /* the latest of a cooldown */
    bool fires = ev->rec.status == EVENT_PENDING && d == DECISION_FIRED;
    ev->rec.status = status;
    ev->rec.decision = d;
    ev->rec.completed_ms = engine_wall(t->engine);
    free(ev->rec.reason);
    ev->rec.reason = xstrdup(why);
    if (status == EVENT_FAILED) {
        free(ev->rec.error_message);
        ev->rec.error_message = xstrdup(why);
    }
    trigger_decided(t, d);
    t->n_recording++;
    return fires;
}

void event_end_pending(struct live_event *ev, enum event_status status, enum decision d, const char *format, ...)
{
    struct live_trigger *t = ev->trigger;
    char why[ERROR_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    bool fires = end_pending(ev, status, d, why);
    struct batch *b = batch_new(t->engine, STORE_LAZY | STORE_KEEP, ended_recorded, ev);
    batch_event_update(b, ev, false);
    if (fires)
        batch_fired(b, t, ev->rec.completed_ms);
    batch_submit(b);
}

/* A run that ended before it began, on its way to the store with its event. */
struct unbegun {
    struct live_event *ev;
    struct run_row row;    /* owns its `inputs` and `error_message` */
    struct pipeline *spec; /* whose text it borrows; NULL: there is no such pipeline */
    engine_done_fn *done;
    void *ctx;
};

static void unbegun_recorded(struct batch *b, int result)
{
    struct unbegun *u = b->ctx;
    change_tell(b->engine, WATCHED_RUN, u->row.id);
    change_tell(b->engine, WATCHED_PIPELINE, u->row.pipeline_id);
    u->done(u->ctx, result);
    b->ctx = u->ev;
    free(u->row.inputs);
    free(u->row.error_message);
    pipeline_unref(u->spec);
    free(u);
    ended_recorded(b, result);
}

void event_cancel_pending(struct live_event *ev, const char *why, engine_done_fn *done, void *ctx)
{
    struct engine *e = ev->trigger->engine;
    const struct live_pipeline *p = engine_find_pipeline(e, ev->rec.pipeline_id);
    latest_unlink(ev);
    end_pending(ev, EVENT_CANCELLED, ev->rec.decision, why);
    struct unbegun *u = xcalloc(1, sizeof(*u));
    *u = (struct unbegun){.ev = ev, .spec = p ? pipeline_ref(p->spec) : NULL, .done = done, .ctx = ctx};
    u->row = (struct run_row){
        .seq = e->store->next_seq(e->store),
        .status = RUN_CANCELLED,
        .attempt = ev->rec.attempt,
        .created_ms = ev->rec.occurred_ms,
        .completed_ms = ev->rec.completed_ms,
        .pipeline_id = ev->rec.pipeline_id,
        .trigger_id = ev->rec.trigger_id,
        .traceparent = ev->rec.traceparent,
        .pipeline_text = u->spec ? u->spec->text : NULL,
        .inputs = xstrdup0(ev->rec.resolved_inputs),
        .error_message = xstrdup(why),
    };
    memcpy(u->row.id, ev->rec.run_id, sizeof(u->row.id));
    memcpy(u->row.event_id, ev->rec.id, sizeof(u->row.event_id));
    struct batch *b = batch_new(e, STORE_KEEP, unbegun_recorded, u);
    batch_event_update(b, ev, false);
    store_add_run_insert(&b->group, &u->row);
    batch_submit(b);
}

/* ---- events whose data was left in the store ---- */

static void loaded(struct store_read *r, int result)
{
    struct live_event *ev = r->ctx;
    struct live_trigger *t = ev->trigger;
    struct engine *e = t->engine;
    e->reading--;
    ev->loading = false;
    if (ev->place != PLACE_PENDING) { /* it ended meanwhile: without its data */
        if (ev->ended) {
            t->n_recording--;
            event_free(ev);
            trigger_reap(t);
        }
    } else if (result == 0 && r->n_events == 1) {
        ev->rec.data = steal(&r->events[0].data);
        ev->rec.resolved_inputs = steal(&r->events[0].resolved_inputs);
        ev->unloaded = false;
        ev->bytes = strlen(ev->rec.data) + strlen(ev->rec.resolved_inputs ? ev->rec.resolved_inputs : "");
        e->pending_bytes += ev->bytes;
        lane_pump(ev->lane);
    } else {
        engine_say(e, t->id, "event %s could not be read back: %s", ev->rec.id, r->error.message);
        timer_start(e->timers, &t->cooldown, engine_now(e) + READ_AGAIN_MS); /* pumps all its lanes */
    }
    store_read_free(r);
    drain_progress(e);
}

static void load(struct live_event *ev)
{
    struct engine *e = ev->trigger->engine;
    if (ev->loading)
        return;
    ev->loading = true;
    e->reading++;
    struct store_read *r = store_read_new(STORE_READ_EVENT, loaded, ev);
    r->id = xstrdup(ev->rec.id);
    e->store->read(e->store, r);
}

/* A recorded event that waits behind too much: its data can be read back when its turn comes. */
void event_unload(struct live_event *ev)
{
    struct engine *e = ev->trigger->engine;
    if (e->pending_bytes <= e->max_pending_bytes || ev->lane->pending == ev)
        return;
    e->pending_bytes -= ev->bytes;
    ev->bytes = 0;
    free(ev->rec.data);
    free(ev->rec.resolved_inputs);
    ev->rec.data = ev->rec.resolved_inputs = NULL;
    ev->unloaded = true;
}

/* ---- starting ---- */

/* Of the latest of a cooldown that is over: the slot was not what it waited for. */
#define AFTER_COOLDOWN "waits for a slot: the cooldown is over"

static void start_pending(struct lane *l, struct live_event *ev, struct live_pipeline *p)
{
    struct live_trigger *t = l->trigger;
    struct engine *e = t->engine;
    char run_id[ID_SIZE];
    memcpy(run_id, ev->rec.run_id, sizeof(run_id));
    lane_remove(ev);
    lane_occupy(l, ev);
    ev->rec.started_ms = engine_wall(e);
    bool cooled = ev->rec.reason && streq(ev->rec.reason, AFTER_COOLDOWN);
    free(ev->rec.reason);
    ev->rec.reason = xasprintf("waited %.3f s (%s)", (double)(ev->rec.started_ms - ev->rec.occurred_ms) / 1000,
                               decision_name(cooled ? DECISION_COOLDOWN : ev->rec.decision));
    ev->rec.decision = DECISION_FIRED;
    ev->rec.status = EVENT_EXECUTING;
    t->last_fire_ms = engine_now(e);
    ev->run = run_create(e, p, ev, run_id);
    trigger_decided(t, DECISION_FIRED);
    trigger_fired(t, ev->internal, ev->rec.started_ms);
    struct batch *b = batch_new(e, STORE_LAZY | STORE_KEEP, NULL, NULL);
    batch_event_update(b, ev, false);
    batch_fired(b, t, ev->rec.started_ms);
    batch_run_insert(b, ev->run);
    run_start_recorded(ev->run, b);
}

/* Start what can start in one lane, which stays while this lasts. Returns how many. */
static size_t pump(struct lane *l)
{
    struct live_trigger *t = l->trigger;
    struct engine *e = t->engine;
    size_t started = 0;
    while (l->pending && l->pending->recorded && !event_held(t, l->pending) && l->n_running < t->spec->max_concurrent) {
        struct live_event *ev = l->pending;
        if (!e->started || e->draining)
            break;
        if (rounds_suspect(t, &ev->round, ev->path))
            rounds_hold(t, &ev->round, ev->path);
        int64_t left = MAX(cooldown_left(t), rounds_left(t));
        if (left > 0) { /* whatever its policy made of later ones: two fires are never closer */
            timer_start(e->timers, &t->cooldown, engine_now(e) + left);
            break;
        }
        struct live_pipeline *p = engine_find_pipeline(e, t->spec->pipeline_id);
        if (!p) {
            t->last_fire_ms = engine_now(e);
            trigger_fired(t, ev->internal, engine_wall(e));
            event_end_pending(ev, EVENT_FAILED, DECISION_FIRED, "pipeline \"%s\" not found", t->spec->pipeline_id);
            continue;
        }
        if (!slot_free(e, p)) {
            waiter_join(&l->waiter, e->n_running >= e->max_runs ? &e->waiters : &p->waiters);
            break;
        }
        if (ev->unloaded) {
            load(ev);
            break;
        }
        start_pending(l, ev, p);
        started++;
    }
    return started;
}

/* Who was woken for a free slot and does not use it passes the wake on. */
void slots_pass_on(struct engine *e, struct live_pipeline *p)
{
    bool pipeline_free_slot =
        p && p->present && (p->spec->max_concurrent == 0 || p->n_running < p->spec->max_concurrent);
    if (e->n_running < e->max_runs) {
        waiter_wake(e, &e->waiters);
        if (pipeline_free_slot)
            waiter_wake(e, &p->waiters);
    } else if (pipeline_free_slot && p->waiters) {
        /* The engine is full: what the pipeline has free goes with one of the engine's own slots. */
        struct waiter *w = p->waiters;
        waiter_leave(w);
        waiter_join(w, &e->waiters);
    }
}

static void pump_lane(struct engine *e, struct lane *l)
{
    struct live_trigger *t = l->trigger;
    DL_DELETE2(e->ready, l, ready_prev, ready_next);
    l->ready = false;
    t->pins++;
    l->busy++;
    if (pump(l) == 0)
        slots_pass_on(e, engine_find_pipeline(e, t->spec->pipeline_id));
    l->busy--;
    lane_reap(l);
    t->pins--;
    trigger_source_flow(t);
    trigger_reap(t);
}

static void pump_ready(struct engine *e)
{
    if (e->pumping)
        return;
    e->pumping = true;
    while (e->woken || e->ready) {
        struct waiter *w = e->woken;
        if (w) {
            waiter_leave(w);
            run_try(w->run);
        } else {
            pump_lane(e, e->ready);
        }
    }
    e->pumping = false;
}

void lane_pump(struct lane *l)
{
    struct engine *e = l->trigger->engine;
    lane_ready(l);
    pump_ready(e);
}

void trigger_pump(struct live_trigger *t)
{
    struct engine *e = t->engine;
    t->pins++;
    for (struct lane *l = t->lanes; l; l = l->hh.next)
        lane_ready(l);
    pump_ready(e);
    slots_pass_on(e, engine_find_pipeline(e, t->spec->pipeline_id)); /* of lanes that are gone */
    t->pins--;
    trigger_source_flow(t);
    trigger_reap(t);
}

/* The end of a cooldown: the latest goes into its lane, or the next of the queue starts. */
static void latest_goes(struct live_trigger *t)
{
    struct live_event *ev = t->latest;
    if (!ev || !ev->recorded || event_held(t, ev) || cooldown_left(t) > 0 || t->engine->draining)
        return;
    t->latest = NULL;
    t->n_pending--;
    /* From here on it waits for a slot, and later ones do not supersede it; a restart must know that too. */
    free(ev->rec.reason);
    ev->rec.reason = xstrdup(AFTER_COOLDOWN);
    ev->rec.decision = DECISION_CONCURRENCY;
    struct batch *b = batch_new(t->engine, STORE_LAZY | STORE_KEEP, NULL, NULL);
    batch_event_update(b, ev, false);
    batch_submit(b);
    lane_push(lane_get(t, ev->rec.concurrency_key), ev);
    lane_pump(ev->lane);
}

void cooldown_arm(struct live_trigger *t)
{
    if (t->latest && t->latest->recorded)
        timer_start(t->engine->timers, &t->cooldown, engine_now(t->engine) + cooldown_left(t));
}

bool latest_unlink(struct live_event *ev)
{
    struct live_event **at = &ev->trigger->latest;
    while (*at && *at != ev)
        at = &(*at)->supersedes;
    if (!*at)
        return false;
    *at = ev->supersedes;
    ev->supersedes = NULL;
    return true;
}

void event_confirmed_waiting(struct live_event *ev)
{
    struct live_trigger *t = ev->trigger;
    ev->recorded = true;
    if (ev->lane) {
        event_unload(ev);
        lane_pump(ev->lane);
        return;
    }
    struct live_event *old = ev->supersedes;
    ev->supersedes = NULL;
    if (old)
        event_end_pending(old, EVENT_SKIPPED, DECISION_COOLDOWN, "%s came within the cooldown", ev->rec.id);
    cooldown_arm(t);
}

void cooldown_over(struct timer *timer, void *ctx)
{
    (void)timer;
    struct live_trigger *t = ctx;
    t->pins++;
    rounds_judge(t);
    if (cooldown_left(t) > 0)
        cooldown_arm(t);
    else
        latest_goes(t);
    t->pins--;
    trigger_pump(t);
}

/* concurrency_policy replace: once the new one is recorded, the oldest of its lane goes. */
void lane_replace(struct live_event *ev)
{
    struct lane *l = ev->lane;
    if (!l)
        return;
    int64_t alive = l->n_pending;
    struct live_event *old, *victim = NULL;
    DL_FOREACH (l->running, old) {
        if (old->run && old->run->ending != RUN_RUNNING)
            continue;
        alive++;
        if (!victim)
            victim = old;
    }
    if (alive <= l->trigger->spec->max_concurrent)
        return;
    if (victim) {
        free(victim->rec.reason);
        victim->rec.reason = xasprintf("replaced by %s", ev->rec.id);
        victim->rec.decision = DECISION_REPLACED;
        run_end_early(victim->run, RUN_CANCELLED, victim->rec.reason);
    } else if (l->pending != ev && l->pending->recorded) {
        event_end_pending(l->pending, EVENT_CANCELLED, DECISION_REPLACED, "replaced by %s", ev->rec.id);
    }
}
