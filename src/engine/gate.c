/* The gates, in the order of the contract: (filter and duplicate come before) enabled, paused, error; loops; cooldown;
 * concurrency; and the mapping of what gets through. gate_decide() only looks; gate_reserve() acts. */
#include "engine/internal.h"

static void decide(struct verdict *v, enum outcome outcome, enum decision d, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void decide(struct verdict *v, enum outcome outcome, enum decision d, const char *format, ...)
{
    v->outcome = outcome;
    v->decision = d;
    va_list args;
    va_start(args, format);
    vsnprintf(v->reason, sizeof(v->reason), format, args);
    va_end(args);
}

void verdict_fini(struct verdict *v)
{
    free(v->key);
    free(v->inputs);
    free(v->referring);
    free(v->error);
    v->key = v->inputs = v->referring = v->error = NULL;
}

/* Gate 3. True: decided (and where it waits, the mapping is still to be made). */
static bool gate_state(struct live_trigger *t, const struct occurrence *o, struct verdict *v)
{
    if (!o->test && !t->spec->enabled) {
        decide(v, OUTCOME_SKIP, DECISION_DISABLED, "the trigger is disabled (enabled: false)");
        return true;
    }
    if (!t->engine->options.firing) {
        decide(v, OUTCOME_SKIP, DECISION_DISABLED, "triggers are switched off (FLOWMASON_TRIGGERS_ENABLED)");
        return true;
    }
    if (!t->paused && !t->latched)
        return false;
    enum decision d = t->paused ? DECISION_PAUSED : DECISION_ERROR;
    bool hold = t->spec->pause_policy == PAUSE_HOLD || o->kept;
    if (t->paused)
        decide(v, hold ? OUTCOME_WAIT : OUTCOME_SKIP, d,
               hold ? "the trigger is paused; waits for resume" : "the trigger is paused");
    else
        decide(v, hold ? OUTCOME_WAIT : OUTCOME_SKIP, d, "the trigger is in error%s: %s",
               hold ? " (waits for resume)" : "", t->latched);
    return true;
}

static bool chain_holds(const char *chain, const char *id)
{
    if (!chain)
        return false;
    size_t n = strlen(id);
    for (const char *p = chain; (p = strstr(p, id)); p += n)
        if (p > chain && p[-1] == '/' && p[n] == '/')
            return true;
    return false;
}

/* `/a/b/` and t as `a → b → t`, its beginning left out where it is long. */
static const char *chain_words(const char *chain, const char *id, char out[400])
{
    struct buf b = {0};
    for (const char *p = chain ? chain : ""; *p; p++) {
        if (*p != '/')
            buf_addc(&b, *p);
        else if (p > chain)
            buf_adds(&b, " → ");
    }
    buf_adds(&b, id);
    size_t skip = b.len > 360 ? b.len - 360 : 0;
    while (skip > 0 && ((unsigned char)b.data[skip] & 0xC0) == 0x80)
        skip++;
    snprintf(out, 400, "%s%s", skip ? "… " : "", b.data + skip);
    buf_fini(&b);
    return out;
}

/* Gate 4. */
static bool gate_loop(const struct live_trigger *t, const struct occurrence *o, struct verdict *v)
{
    char words[400];
    if (o->depth > t->engine->max_chain_depth) {
        decide(v, OUTCOME_SKIP, DECISION_LOOP_BLOCKED, "the chain is deeper than %" PRId64 ": %s",
               t->engine->max_chain_depth, chain_words(o->chain, t->id, words));
        return true;
    }
    if (o->round.proved) {
        decide(v, OUTCOME_SKIP, DECISION_LOOP_BLOCKED, ROUNDS_REASON, ROUNDS_MAX);
        return true;
    }
    if (o->internal && !t->spec->allow_loops && chain_holds(o->chain, t->id)) {
        decide(v, OUTCOME_SKIP, DECISION_LOOP_BLOCKED, "the chain already went through this trigger: %s",
               chain_words(o->chain, t->id, words));
        return true;
    }
    if (v->outcome == OUTCOME_RUN &&
        (rounds_left(t) > 0 || rounds_suspect(t, &o->round, value_get_string(o->data, "path"))))
        decide(v, OUTCOME_WAIT, DECISION_LOOP_BLOCKED,
               "waits: each of the last runs seems to have written the next file of its own trigger; whether it is a "
               "loop is found out by runs that go alone");
    return false;
}

/* Gate 5. True: decided. */
static bool gate_cooldown(const struct live_trigger *t, struct verdict *v)
{
    int64_t left = cooldown_left(t);
    bool queued = t->spec->cooldown_policy == COOLDOWN_QUEUE && t->spec->cooldown_seconds > 0 && t->n_pending > 0;
    if (left <= 0 && !queued)
        return false;
    double seconds = (double)left / 1000;
    switch ((enum cooldown_policy)t->spec->cooldown_policy) {
    case COOLDOWN_SKIP:
        decide(v, OUTCOME_SKIP, DECISION_COOLDOWN, "%.3f s of cooldown are left", seconds);
        break;
    case COOLDOWN_LATEST:
        decide(v, OUTCOME_WAIT, DECISION_COOLDOWN, "waits %.3f s for the end of the cooldown, unless a later one comes",
               seconds);
        v->latest = true;
        break;
    case COOLDOWN_QUEUE:
        decide(v, OUTCOME_WAIT, DECISION_COOLDOWN, "waits its turn; %.3f s of cooldown are left", seconds);
        break;
    }
    return true;
}

/* The lane by concurrency_key: the text of the value, "" where it finds nothing. False: an error (v is decided). */
static bool lane_key(const struct live_trigger *t, const struct occurrence *o, struct verdict *v)
{
    if (!t->program->concurrency_key)
        return true;
    cJSON *value = NULL;
    struct error err = ERROR_INIT;
    int r = path_value(t->program->concurrency_key, o->data, &value, &err);
    if (r < 0) {
        decide(v, OUTCOME_FAIL, DECISION_MAPPING_ERROR, "concurrency_key: %s", err.message);
        v->error = xasprintf("concurrency_key: %s: %s", path_text(t->program->concurrency_key), err.message);
        v->key = xstrdup("");
        return false;
    }
    v->key = r == 0 ? xstrdup("") : cJSON_IsString(value) ? xstrdup(value->valuestring) : value_print(value);
    cJSON_Delete(value);
    return true;
}

/* Gate 6, for what is to fire now or to wait. */
static void gate_concurrency(struct live_trigger *t, const struct occurrence *o, struct verdict *v)
{
    struct lane *l = lane_find(t, v->key);
    int64_t running = l ? l->n_running : 0, pending = l ? l->n_pending : 0;
    bool full = running >= t->spec->max_concurrent;
    const char *of = v->key && *v->key ? " for this concurrency_key" : "";
    if (v->outcome == OUTCOME_RUN && t->engine->draining) /* what follows from the last runs */
        decide(v, OUTCOME_WAIT, DECISION_CONCURRENCY, "waits for the next start: triggerd is shutting down");
    if (v->outcome == OUTCOME_RUN && (full || pending > 0)) {
        switch ((enum concurrency_policy)t->spec->concurrency_policy) {
        case CONCURRENCY_SKIP:
            if (full) {
                decide(v, OUTCOME_SKIP, DECISION_CONCURRENCY, "%" PRId64 " of %" PRId64 " runs are under way%s",
                       running, t->spec->max_concurrent, of);
                return;
            }
            break;
        case CONCURRENCY_REPLACE:
            decide(v, OUTCOME_WAIT, DECISION_CONCURRENCY, "takes the place of the oldest%s", of);
            v->replace = true;
            break;
        case CONCURRENCY_QUEUE:
            decide(v, OUTCOME_WAIT, DECISION_CONCURRENCY,
                   "waits: %" PRId64 " of %" PRId64 " runs are under way%s, %" PRId64 " wait before it", running,
                   t->spec->max_concurrent, of, pending);
            break;
        }
    }
    struct live_pipeline *p = engine_find_pipeline(t->engine, t->spec->pipeline_id);
    if (v->outcome == OUTCOME_RUN && p && !slot_free(t->engine, p)) {
        if (t->engine->n_running >= t->engine->max_runs)
            decide(v, OUTCOME_WAIT, DECISION_CONCURRENCY, "waits: %" PRId64 " runs are under way in all",
                   t->engine->n_running);
        else
            decide(v, OUTCOME_WAIT, DECISION_CONCURRENCY, "waits: %" PRId64 " runs of pipeline \"%s\" are under way",
                   p->n_running, t->spec->pipeline_id);
    }
    if (v->outcome == OUTCOME_WAIT && !v->latest && !o->internal && t->n_pending >= t->spec->queue_limit)
        decide(v, OUTCOME_FULL, DECISION_QUEUE_FULL, "%" PRId64 " events wait already (queue_limit)", t->n_pending);
}

void gate_decide(struct live_trigger *t, const struct occurrence *o, const char *text, struct verdict *v)
{
    *v = (struct verdict){.outcome = OUTCOME_RUN, .decision = DECISION_FIRED};
    id_next(&t->engine->ids, "evt_", v->event_id);
    if (o->failed) {
        decide(v, OUTCOME_FAIL, DECISION_ERROR, "%s", o->failed);
        v->error = xstrdup(o->failed);
        return;
    }
    bool decided = gate_state(t, o, v);
    if (v->outcome == OUTCOME_SKIP || gate_loop(t, o, v))
        return;
    if (!decided)
        gate_cooldown(t, v);
    if (v->outcome == OUTCOME_SKIP || !lane_key(t, o, v))
        return;
    gate_concurrency(t, o, v);
    if (v->outcome == OUTCOME_SKIP || v->outcome == OUTCOME_FULL)
        return;
    v->inputs = mapping_inputs(t, o, text, v->event_id, &v->referring, &v->error);
    if (!v->inputs) {
        decide(v, OUTCOME_FAIL, DECISION_MAPPING_ERROR, "%s", v->error);
        return;
    }
    if (v->outcome == OUTCOME_RUN && !engine_find_pipeline(t->engine, t->spec->pipeline_id)) {
        v->outcome = OUTCOME_FAIL;
        v->error = xasprintf("pipeline \"%s\" not found", t->spec->pipeline_id);
    }
}

char *trace_new(struct engine *e)
{
    static const char hex[] = "0123456789abcdef";
    unsigned char r[24];
    random_fill(e->random, r, sizeof(r));
    char *out = xmalloc(56), *p = out;
    memcpy(p, "00-", 3);
    p += 3;
    for (size_t i = 0; i < sizeof(r); i++) {
        if (i == 16)
            *p++ = '-';
        *p++ = hex[r[i] >> 4];
        *p++ = hex[r[i] & 15];
    }
    memcpy(p, "-01", 4);
    return out;
}

/* 00-TRACE-PARENT-FLAGS in lower-case hex, no id all zeros; later versions begin in the same way, and may go on. */
char *trace_take(const char *given)
{
    static const char shape[] = "..-................................-................-..", hex[] = "0123456789abcdef";
    size_t n = given ? strlen(given) : 0;
    if (n < strlen(shape) || strncmp(given, "ff", 2) == 0)
        return NULL;
    for (size_t i = 0; shape[i]; i++)
        if (shape[i] == '-' ? given[i] != '-' : !strchr(hex, given[i]))
            return NULL;
    if (strspn(given + 3, "0") >= 32 || strspn(given + 36, "0") >= 16)
        return NULL;
    if (n > strlen(shape) && (strncmp(given, "00", 2) == 0 || given[strlen(shape)] != '-'))
        return NULL;
    return xasprintf("00%.*s", (int)strlen(shape) - 2, given + 2);
}

/* Nobody sees the trace of an event that is held back. */
static char *traceparent_for(struct engine *e, const char *given, enum outcome outcome)
{
    char *taken = trace_take(given);
    if (taken)
        return taken;
    return outcome == OUTCOME_RUN || outcome == OUTCOME_WAIT ? trace_new(e) : NULL;
}

static struct live_event *event_make(struct live_trigger *t, const struct occurrence *o, char *text, struct verdict *v)
{
    struct live_event *ev = xcalloc(1, sizeof(*ev));
    struct event *rec = &ev->rec;
    ev->trigger = t;
    ev->internal = o->internal;
    ev->round = o->round;
    ev->path = t->type->own_writes ? xstrdup0(value_get_string(o->data, "path")) : NULL;
    memcpy(rec->id, v->event_id, sizeof(rec->id));
    if (o->root_event_id)
        snprintf(rec->root_event_id, sizeof(rec->root_event_id), "%s", o->root_event_id);
    else
        memcpy(rec->root_event_id, rec->id, sizeof(rec->id));
    if (o->replay_of)
        snprintf(rec->replay_of, sizeof(rec->replay_of), "%s", o->replay_of);
    ev->spec = trigger_ref(t->spec);
    rec->trigger_id = ev->spec->id;
    rec->pipeline_id = ev->spec->pipeline_id;
    rec->event_type = xstrdup(o->event_type);
    rec->data = text;
    rec->resolved_inputs = steal(&v->inputs);
    rec->referring = steal(&v->referring);
    rec->reason = *v->reason ? xstrdup(v->reason) : NULL;
    rec->error_message = steal(&v->error);
    rec->chain = xstrdup0(o->chain);
    rec->concurrency_key = v->key && *v->key ? steal(&v->key) : NULL;
    rec->traceparent = traceparent_for(t->engine, o->traceparent, v->outcome);
    rec->decision = v->decision;
    rec->depth = o->depth;
    rec->attempt = 1;
    rec->occurred_ms = o->occurred_ms ? o->occurred_ms : engine_wall(t->engine);
    return ev;
}

/* The cooldown starts when an event takes it, and not at all where that is not recorded. */
static void fire_reserve(struct live_event *ev)
{
    struct live_trigger *t = ev->trigger;
    ev->reserved_fire_ms = t->reserved_fire_ms = engine_now(t->engine);
    t->n_reserved_fires++;
}

void fire_settle(struct live_event *ev, bool recorded)
{
    struct live_trigger *t = ev->trigger;
    if (!ev->reserved_fire_ms)
        return;
    if (recorded)
        t->last_fire_ms = MAX(t->last_fire_ms, ev->reserved_fire_ms);
    t->n_reserved_fires--;
    ev->reserved_fire_ms = 0;
}

struct live_event *gate_reserve(struct live_trigger *t, const struct occurrence *o, char *text, struct verdict *v)
{
    struct engine *e = t->engine;
    struct live_event *ev = event_make(t, o, text, v);
    int64_t now = engine_wall(e);
    switch (v->outcome) {
    case OUTCOME_SKIP:
        ev->rec.status = EVENT_SKIPPED;
        ev->rec.completed_ms = now;
        t->n_recording++;
        break;
    case OUTCOME_FULL:
    case OUTCOME_FAIL:
        ev->rec.status = EVENT_FAILED;
        ev->rec.completed_ms = now;
        t->n_recording++;
        if (v->decision == DECISION_FIRED)
            fire_reserve(ev);
        break;
    case OUTCOME_WAIT:
        ev->rec.status = EVENT_PENDING;
        id_next(&e->ids, "run_", ev->rec.run_id);
        if (v->latest) {
            ev->supersedes = t->latest;
            t->latest = ev;
            t->n_pending++;
        } else {
            lane_push(lane_get(t, ev->rec.concurrency_key), ev);
        }
        break;
    case OUTCOME_RUN:
        ev->rec.status = EVENT_EXECUTING;
        ev->rec.started_ms = now;
        fire_reserve(ev);
        lane_occupy(lane_get(t, ev->rec.concurrency_key), ev);
        char run_id[ID_SIZE];
        id_next(&e->ids, "run_", run_id);
        ev->run = run_create(e, engine_find_pipeline(e, t->spec->pipeline_id), ev, run_id);
        break;
    }
    verdict_fini(v);
    return ev;
}

void gate_release(struct live_event *ev)
{
    struct live_trigger *t = ev->trigger;
    struct live_run *run = ev->run;
    fire_settle(ev, false);
    if (latest_unlink(ev)) {
        t->n_pending--;
        cooldown_arm(t); /* what it would have superseded goes on waiting */
    } else if (ev->lane) {
        lane_remove(ev);
    } else if (!run) { /* (an interrupted run has left its lane) */
        t->n_recording--;
    }
    ev->run = NULL;
    if (run) {
        run->event = NULL;
        t->pins--;
        slot_give(run);
        run->finished = true;
        run_free(run);
    }
    event_free(ev);
    trigger_pump(t);
}
