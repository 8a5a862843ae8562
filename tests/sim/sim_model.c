/* The model: what must hold, whatever the engine does inside. It sees what the engine submits, what is committed, which
 * steps are started, and what is answered. */
#include "sim.h"

size_t trigger_index(struct sim *sim, const char *id)
{
    for (size_t i = 0; i < sim->n_triggers; i++)
        if (streq(sim->triggers[i].id, id))
            return i;
    return MAX_TRIGGERS;
}

static struct model_event *event_of(struct sim *sim, const char *id)
{
    struct model_event *ev = NULL;
    HASH_FIND_STR(sim->model.events, id, ev);
    return ev;
}

static struct model_run *run_of(struct sim *sim, const char *id)
{
    struct model_run *run = NULL;
    HASH_FIND_STR(sim->model.runs, id, run);
    return run;
}

static struct stimulus *stimulus_of(struct sim *sim, int64_t n)
{
    struct stimulus *s = NULL;
    HASH_FIND(hh, sim->model.stimuli, &n, sizeof(n), s);
    return s;
}

struct stimulus *model_stimulus(struct sim *sim, char k)
{
    struct stimulus *s = xcalloc(1, sizeof(*s));
    s->n = ++sim->model.next_n;
    s->k = k;
    HASH_ADD(hh, sim->model.stimuli, n, sizeof(s->n), s);
    return s;
}

static bool passes(const struct want_trigger *t, char k)
{
    return !t->filter || (t->filter & 1u << (k - 'a'));
}

unsigned model_targets(struct sim *sim, const char *endpoint, char k)
{
    unsigned bits = 0;
    for (size_t i = 0; i < sim->n_triggers; i++) {
        const struct want_trigger *t = &sim->triggers[i];
        if (t->present && t->type == WANT_CUSTOM && streq(t->endpoint, endpoint) && passes(t, k))
            bits |= 1u << i;
    }
    return bits;
}

/* ---- what may be said of an event ---- */

static bool decision_fits(enum event_status status, enum decision d)
{
    bool waits = d == DECISION_CONCURRENCY || d == DECISION_COOLDOWN || d == DECISION_PAUSED || d == DECISION_ERROR;
    switch (status) {
    case EVENT_PENDING:
        return waits;
    case EVENT_EXECUTING:
    case EVENT_COMPLETED:
        return d == DECISION_FIRED;
    case EVENT_FAILED:
        return d == DECISION_FIRED || d == DECISION_MAPPING_ERROR;
    case EVENT_SKIPPED:
        return waits || d == DECISION_DISABLED || d == DECISION_LOOP_BLOCKED;
    default:
        return waits || d == DECISION_FIRED || d == DECISION_REPLACED;
    }
}

static bool chain_holds(const char *chain, const char *id)
{
    char part[16];
    snprintf(part, sizeof(part), "/%s/", id);
    return chain && strstr(chain, part);
}

static int64_t number_in(const char *data)
{
    const char *at = strstr(data, "\"n\":");
    return at ? strtoll(at + 4, NULL, 10) : 0;
}

/* It starts to run (or fails for want of its pipeline, or because it had started in an earlier life). */
static void fired(struct life *life, struct model_event *ev, bool fails)
{
    struct sim *sim = life->sim;
    struct model *m = &sim->model;
    const struct want_trigger *t = &sim->triggers[ev->trigger];
    int64_t now = life_now(life);
    struct model_fire *last = &m->fires[ev->trigger];
    bool had = fails && ev->fired_life && ev->fired_life < life->number;
    if (t->present && !had) {
        CHECK(sim, !t->paused || t->pause_unknown, "%s fires %s and is paused", t->id, ev->id);
        CHECK(sim, t->enabled || ev->test, "%s fires %s and is disabled", t->id, ev->id);
    }
    if (last->seq && !had && t->present && last->at_ms > t->deleted_ms)
        CHECK(sim, now - last->at_ms >= t->cooldown_ms,
              "%s fires %s %" PRId64 " ms after the last; its cooldown is %" PRId64 " ms", t->id, ev->id,
              now - last->at_ms, t->cooldown_ms);
    *last = (struct model_fire){.at_ms = now, .seq = ev->seq};
    ev->fired_ms = now;
    ev->life = ev->fired_life = life->number;
    bool ordered =
        !t->edited && !had && t->concurrency_policy == CONCURRENCY_QUEUE && t->cooldown_policy != COOLDOWN_LATEST;
    int64_t *seq = &m->started_seq[ev->trigger][ev->lane];
    CHECK(sim, !ordered || ev->seq > *seq, "%s starts %s (%" PRId64 ") after the later %" PRId64, t->id, ev->id,
          ev->seq, *seq);
    *seq = MAX(*seq, ev->seq);
}

static bool group_has_run(const struct store_group *g, const char *event_id)
{
    for (const struct store_op *op = g->ops; op; op = op->next)
        if (op->type == STORE_RUN_INSERT && streq(op->run->event_id, event_id))
            return true;
    return false;
}

static void event_inserted(struct life *life, const struct store_group *g, const struct event *e)
{
    struct sim *sim = life->sim;
    struct model *m = &sim->model;
    size_t i = trigger_index(sim, e->trigger_id);
    CHECK(sim, i < MAX_TRIGGERS, "an event of %s", e->trigger_id);
    struct want_trigger *t = &sim->triggers[i];
    CHECK(sim, !event_of(sim, e->id), "%s is inserted twice", e->id);
    CHECK(sim, decision_fits(e->status, e->decision), "%s is made %s, %s", e->id, event_status_name(e->status),
          decision_name(e->decision));
    CHECK(sim, e->decision == DECISION_FIRED || e->reason, "%s: %s without a reason", e->id,
          decision_name(e->decision));
    CHECK(sim, t->present, "%s is made for %s, which is deleted", e->id, t->id);
    CHECK(sim, event_status_final(e->status) || e->resolved_inputs, "%s has no inputs", e->id);
    struct model_event *ev = xcalloc(1, sizeof(*ev));
    memcpy(ev->id, e->id, sizeof(ev->id));
    memcpy(ev->run_id, e->run_id, sizeof(ev->run_id));
    ev->trigger = i;
    ev->seq = e->seq;
    ev->internal = e->depth > 0;
    ev->test = streq(e->event_type, "test");
    ev->n = streq(e->event_type, "pipeline_completed") ? 0 : number_in(e->data);
    ev->status = e->status;
    ev->decision = e->decision;
    ev->attempt = e->attempt;
    ev->lane = e->concurrency_key ? (size_t)(e->concurrency_key[0] - 'a') : KEYS;
    HASH_ADD_STR(m->events, id, ev);
    sim->stats->events++;
    sim_trace(sim, "%s %s of %s for %" PRId64 " (%s): %s, %s%s%s", e->id, e->event_type, t->id, ev->n,
              e->chain ? e->chain : "", event_status_name(e->status), decision_name(e->decision), e->reason ? ": " : "",
              e->reason ? e->reason : "");

    bool early = e->status == EVENT_SKIPPED &&
                 (e->decision == DECISION_DISABLED || e->decision == DECISION_PAUSED || e->decision == DECISION_ERROR);
    bool loop = e->depth > sim->max_depth || (ev->internal && !t->allow_loops && chain_holds(e->chain, t->id));
    CHECK(sim, early || loop == (e->decision == DECISION_LOOP_BLOCKED), "%s: %s with the chain %s, depth %d", e->id,
          decision_name(e->decision), e->chain ? e->chain : "", e->depth);
    bool latest = e->decision == DECISION_COOLDOWN && t->cooldown_policy == COOLDOWN_LATEST;
    if (e->decision == DECISION_COOLDOWN) {
        const struct model_fire *last = &m->fires[i];
        bool queued = t->cooldown_policy == COOLDOWN_QUEUE && m->pending[i] > 0;
        CHECK(sim, queued || (last->seq && life_now(life) - MAX(last->at_ms, m->fire_told_ms[i]) < t->cooldown_ms),
              "%s of %s: cooldown, and the last fire was %" PRId64 " ms ago", e->id, t->id,
              last->seq ? life_now(life) - last->at_ms : -1);
    }
    CHECK(sim, e->decision != DECISION_DISABLED || !t->enabled, "%s: %s is not disabled", e->id, t->id);
    CHECK(sim, e->decision != DECISION_PAUSED || t->paused || t->pause_unknown, "%s: %s is not paused", e->id, t->id);
    if (e->status == EVENT_PENDING) {
        CHECK(sim, ev->internal || latest || m->pending[i] < t->queue_limit,
              "%s waits as number %" PRId64 " at %s; queue_limit is %" PRId64, e->id, m->pending[i] + 1, t->id,
              t->queue_limit);
        m->pending[i]++;
    } else if (e->status == EVENT_EXECUTING) {
        CHECK(sim, group_has_run(g, e->id), "%s is executing without a run", e->id);
        m->executing[i]++;
        fired(life, ev, false);
    } else if (e->status == EVENT_FAILED && e->decision == DECISION_FIRED) {
        fired(life, ev, true);
    }
}

static void event_updated(struct life *life, const struct event *e)
{
    struct sim *sim = life->sim;
    struct model *m = &sim->model;
    struct model_event *ev = event_of(sim, e->id);
    CHECK(sim, ev, "%s is updated and not known", e->id);
    const struct want_trigger *t = &sim->triggers[ev->trigger];
    CHECK(sim, !event_status_final(ev->status), "%s is %s and becomes %s", e->id, event_status_name(ev->status),
          event_status_name(e->status));
    CHECK(sim, decision_fits(e->status, e->decision), "%s becomes %s, %s", e->id, event_status_name(e->status),
          decision_name(e->decision));
    sim_trace(sim, "%s of %s: %s, %s, attempt %d%s%s", e->id, t->id, event_status_name(e->status),
              decision_name(e->decision), e->attempt, e->reason ? ": " : "", e->reason ? e->reason : "");
    if (ev->status == EVENT_EXECUTING && e->status == EVENT_EXECUTING) {
        CHECK(sim, ev->life != life->number, "%s starts again within one life", e->id);
        CHECK(sim, e->attempt == ev->attempt + 1, "%s: attempt %d after %d", e->id, e->attempt, ev->attempt);
        CHECK(sim, t->edited || (!t->on_interrupt && e->attempt <= t->max_interruptions + 1),
              "%s: attempt %d, max_interruptions %" PRId64, e->id, e->attempt, t->max_interruptions);
        ev->life = life->number;
        sim->stats->interrupted++;
    }
    CHECK(sim, ev->status != EVENT_EXECUTING || e->status != EVENT_PENDING, "%s is pending again", e->id);
    if (ev->status == EVENT_PENDING && e->attempt != ev->attempt) {
        CHECK(sim, e->attempt == ev->attempt + 1, "%s: attempt %d after %d", e->id, e->attempt, ev->attempt);
        CHECK(sim, ev->fired_life && ev->fired_life < life->number, "%s did not start in an earlier life", e->id);
        sim->stats->interrupted++;
    }
    m->pending[ev->trigger] -= ev->status == EVENT_PENDING && e->status != EVENT_PENDING;
    m->executing[ev->trigger] -= ev->status == EVENT_EXECUTING && e->status != EVENT_EXECUTING;
    m->executing[ev->trigger] += ev->status != EVENT_EXECUTING && e->status == EVENT_EXECUTING;
    if (ev->status == EVENT_PENDING && (e->status == EVENT_EXECUTING || e->status == EVENT_FAILED)) {
        CHECK(sim, ev->committed, "%s starts before it is recorded", e->id);
        fired(life, ev, e->status == EVENT_FAILED);
    }
    ev->status = e->status;
    ev->decision = e->decision;
    ev->attempt = e->attempt;
}

/* ---- runs ---- */

static void run_inserted(struct life *life, const struct run_row *r)
{
    struct sim *sim = life->sim;
    CHECK(sim, !run_of(sim, r->id), "%s is inserted twice", r->id);
    struct model_run *run = xcalloc(1, sizeof(*run));
    memcpy(run->id, r->id, sizeof(run->id));
    memcpy(run->event_id, r->event_id, sizeof(run->event_id));
    snprintf(run->pipeline, sizeof(run->pipeline), "%s", r->pipeline_id);
    run->trigger = r->trigger_id ? trigger_index(sim, r->trigger_id) : MAX_TRIGGERS;
    HASH_ADD_STR(sim->model.runs, id, run);
    sim->stats->runs++;
    const struct model_event *ev = *r->event_id ? event_of(sim, r->event_id) : NULL;
    CHECK(sim, !*r->event_id || (ev && streq(ev->run_id, r->id)), "%s is the run of %s, whose run is %s", r->id,
          r->event_id, ev ? ev->run_id : "not known");
}

static bool listens(const struct want_trigger *t, const char *pipeline, enum run_status status)
{
    if (!t->present || t->type != WANT_COMPLETED || !(streq(t->source, "*") || streq(t->source, pipeline)))
        return false;
    bool failed = status == RUN_FAILED || status == RUN_TIMED_OUT;
    return t->source_status == 2 || (t->source_status == 1 ? failed : status == RUN_COMPLETED);
}

/* The end of a run, the end of its event and the completion events are one group. */
static void run_ended(struct life *life, const struct store_group *g, const struct run_row *r)
{
    struct sim *sim = life->sim;
    const struct event *parent = NULL;
    int told[MAX_TRIGGERS] = {0};
    for (const struct store_op *op = g->ops; op; op = op->next)
        if (op->type == STORE_EVENT_UPDATE && streq(op->event->run_id, r->id))
            parent = op->event;
    if (*r->event_id) {
        CHECK(sim, parent, "%s ends without its event", r->id);
        enum event_status expected = r->status == RUN_COMPLETED   ? EVENT_COMPLETED
                                     : r->status == RUN_CANCELLED ? EVENT_CANCELLED
                                                                  : EVENT_FAILED;
        CHECK(sim, parent->status == expected, "%s ends as %s, its event as %s", r->id, run_status_name(r->status),
              event_status_name(parent->status));
    }
    for (const struct store_op *op = g->ops; op; op = op->next) {
        const struct event *e = op->event;
        if (op->type != STORE_EVENT_INSERT)
            continue;
        CHECK(sim, strstr(e->data, r->id), "%s is made by the end of %s and does not name it", e->id, r->id);
        told[trigger_index(sim, e->trigger_id)]++;
        sim->stats->completions++;
        char chain[512] = "";
        if (parent)
            snprintf(chain, sizeof(chain), "%s%s/", parent->chain ? parent->chain : "/", parent->trigger_id);
        CHECK(sim, streq(e->chain ? e->chain : "", chain), "%s has the chain %s, not %s", e->id,
              e->chain ? e->chain : "", chain);
        CHECK(sim, e->depth == (parent ? parent->depth + 1 : 1), "%s has depth %d", e->id, e->depth);
        CHECK(sim, streq(e->root_event_id, parent ? parent->root_event_id : e->id), "%s has the root %s", e->id,
              e->root_event_id);
    }
    for (size_t i = 0; i < sim->n_triggers; i++)
        CHECK(sim, told[i] == listens(&sim->triggers[i], r->pipeline_id, r->status),
              "%s ends as %s; %s has %d events of it", r->id, run_status_name(r->status), sim->triggers[i].id, told[i]);
}

static void run_updated(struct life *life, const struct store_group *g, const struct run_row *r)
{
    struct sim *sim = life->sim;
    struct model_run *run = run_of(sim, r->id);
    CHECK(sim, run, "%s is updated and not known", r->id);
    CHECK(sim, !run->ended, "%s has ended and is %s", r->id, run_status_name(r->status));
    CHECK(sim, r->status != RUN_PENDING || !*r->event_id, "%s is pending", r->id);
    if (!run_status_final(r->status))
        return;
    CHECK(sim, run->under_way == 0, "%s ends with %d steps under way", r->id, run->under_way);
    CHECK(sim, r->status == RUN_COMPLETED || r->error_message, "%s is %s without an error", r->id,
          run_status_name(r->status));
    run->ended = true;
    sim->stats->run_statuses[r->status]++;
    sim_trace(sim, "%s of %s: %s%s%s", r->id, r->pipeline_id, run_status_name(r->status), r->error_message ? ": " : "",
              r->error_message ? r->error_message : "");
    if (r->error_message && strstr(r->error_message, "cannot be read any more"))
        return; /* nothing is known of it but its row */
    model_check_graph(life, run, r);
    run_ended(life, g, r);
}

/* ---- groups ---- */

void model_submitted(struct life *life, const struct store_group *g)
{
    if (life->ghost)
        return;
    for (const struct store_op *op = g->ops; op; op = op->next) {
        if (op->type == STORE_EVENT_INSERT)
            event_inserted(life, g, op->event);
        else if (op->type == STORE_EVENT_UPDATE)
            event_updated(life, op->event);
    }
    for (const struct store_op *op = g->ops; op; op = op->next) {
        if (op->type == STORE_RUN_INSERT)
            run_inserted(life, op->run);
        else if (op->type == STORE_RUN_UPDATE)
            run_updated(life, g, op->run);
    }
}

static void stimulus_recorded(struct life *life, const struct store_group *g, const struct model_event *ev)
{
    struct sim *sim = life->sim;
    struct stimulus *s = stimulus_of(sim, ev->n);
    unsigned bit = 1u << ev->trigger;
    CHECK(sim, s, "%s holds %" PRId64 ", which nobody emitted", ev->id, ev->n);
    if (s->rows && s->group != g->number) {
        bool forgotten =
            *s->key && sim->short_dedup && life_now(life) - s->recorded_ms >= 4000; /* of 5 s from its gates */
        CHECK(sim, forgotten, "%" PRId64 " is recorded a second time, for %s, as %s", s->n,
              sim->triggers[ev->trigger].id, ev->id);
        s->rows = 0;
    }
    CHECK(sim, !(s->rows & bit), "%" PRId64 " has two events of %s", s->n, sim->triggers[ev->trigger].id);
    s->rows |= bit;
    s->group = g->number;
    s->recorded_ms = life_now(life);
}

void model_committed(struct life *life, const struct store_group *g)
{
    struct sim *sim = life->sim;
    if (life->ghost)
        return;
    for (const struct store_op *op = g->ops; op; op = op->next) {
        if (op->type == STORE_EVENT_INSERT || op->type == STORE_EVENT_UPDATE) {
            struct model_event *ev = event_of(sim, op->event->id);
            CHECK(sim, op->type == STORE_EVENT_INSERT || ev->committed, "%s is updated before it is recorded", ev->id);
            CHECK(sim, !ev->committed || !event_status_final(ev->c_status), "%s is %s and changes", ev->id,
                  event_status_name(ev->c_status));
            ev->committed = true;
            ev->c_status = op->event->status;
            ev->c_decision = op->event->decision;
            ev->c_attempt = op->event->attempt;
            if (op->type == STORE_EVENT_INSERT && ev->n)
                stimulus_recorded(life, g, ev);
        } else if (op->type == STORE_RUN_INSERT || op->type == STORE_RUN_UPDATE) {
            struct model_run *run = run_of(sim, op->run->id);
            run->committed = true;
            run->c_ended = run_status_final(op->run->status);
        }
    }
}

/* The last fire of a trigger, after one of them turned out not to have happened. */
static void last_fire_again(struct sim *sim, size_t trigger)
{
    struct model_fire *last = &sim->model.fires[trigger];
    *last = (struct model_fire){0};
    for (const struct model_event *ev = sim->model.events; ev; ev = ev->hh.next)
        if (ev->trigger == trigger && ev->fired_ms > last->at_ms)
            *last = (struct model_fire){.at_ms = ev->fired_ms, .seq = ev->seq};
}

void model_done(struct life *life, const struct store_group *g, int result)
{
    struct sim *sim = life->sim;
    struct model *m = &sim->model;
    if (life->ghost)
        return;
    for (const struct store_op *op = g->ops; op && result == 0; op = op->next)
        if (op->type == STORE_EVENT_INSERT && op->event->decision == DECISION_FIRED)
            m->fire_told_ms[trigger_index(sim, op->event->trigger_id)] = life_now(life);
    if (result == 0)
        return;
    CHECK(sim, !(g->flags & STORE_KEEP), "a kept group fails");
    for (const struct store_op *op = g->ops; op; op = op->next) {
        if (op->type == STORE_EVENT_INSERT) {
            struct model_event *ev = event_of(sim, op->event->id);
            m->pending[ev->trigger] -= ev->status == EVENT_PENDING;
            m->executing[ev->trigger] -= ev->status == EVENT_EXECUTING;
            sim_trace(sim, "%s is not recorded: %d", ev->id, result);
            size_t i = ev->trigger;
            HASH_DEL(m->events, ev);
            free(ev);
            last_fire_again(sim, i);
        } else if (op->type == STORE_RUN_INSERT) {
            struct model_run *run = run_of(sim, op->run->id);
            CHECK(sim, run->under_way == 0, "%s is under way and was not recorded", run->id);
            HASH_DEL(m->runs, run);
            free(run);
        }
    }
}

void model_next_life(struct sim *sim, bool crashed)
{
    struct model *m = &sim->model;
    struct model_event *ev, *next_event;
    memset(m->pending, 0, sizeof(m->pending));
    memset(m->executing, 0, sizeof(m->executing));
    memset(m->started_seq, 0, sizeof(m->started_seq));
    HASH_ITER (hh, m->events, ev, next_event) {
        if (!ev->committed) {
            CHECK(sim, crashed, "%s is not recorded after a drain", ev->id);
            HASH_DEL(m->events, ev);
            free(ev);
            continue;
        }
        CHECK(sim, crashed || ev->status == ev->c_status, "%s is %s after a drain, recorded as %s", ev->id,
              event_status_name(ev->status), event_status_name(ev->c_status));
        ev->status = ev->c_status;
        ev->decision = ev->c_decision;
        ev->attempt = ev->c_attempt;
        if (ev->status == EVENT_PENDING)
            ev->fired_ms = 0;
        m->pending[ev->trigger] += ev->status == EVENT_PENDING;
        m->executing[ev->trigger] += ev->status == EVENT_EXECUTING;
        int64_t *seq = &m->started_seq[ev->trigger][ev->lane];
        if (ev->status != EVENT_PENDING && ev->fired_ms && ev->seq > *seq)
            *seq = ev->seq;
    }
    struct model_run *run, *next_run;
    HASH_ITER (hh, m->runs, run, next_run) {
        if (!run->committed) {
            HASH_DEL(m->runs, run);
            free(run);
            continue;
        }
        run->ended = run->c_ended;
        run->under_way = 0;
        run->cancelled = false;
        memset(run->steps, 0, sizeof(run->steps));
        memset(run->ended_as, 0, sizeof(run->ended_as));
    }
    for (struct stimulus *s = m->stimuli; s; s = s->hh.next)
        s->open = 0;
    for (size_t i = 0; i < MAX_TRIGGERS; i++)
        last_fire_again(sim, i);
}

/* ---- steps ---- */

static void check_limits(struct life *life, const struct model_run *run)
{
    struct sim *sim = life->sim;
    const struct model_event *ev = *run->event_id ? event_of(sim, run->event_id) : NULL;
    int64_t all = 1, same_pipeline = 1, same_lane = 1;
    for (const struct model_run *other = sim->model.runs; other; other = other->hh.next) {
        if (other == run || other->under_way == 0)
            continue;
        all++;
        same_pipeline += streq(other->pipeline, run->pipeline);
        const struct model_event *oev = *other->event_id ? event_of(sim, other->event_id) : NULL;
        same_lane += ev && oev && oev->trigger == ev->trigger && oev->lane == ev->lane;
    }
    CHECK(sim, !sim->max_runs || all <= sim->max_runs, "%" PRId64 " runs are under way; max_runs is %" PRId64, all,
          sim->max_runs);
    for (size_t i = 0; i < sim->n_pipelines; i++) {
        const struct want_pipeline *p = &sim->pipelines[i];
        if (streq(p->id, run->pipeline) && !p->once_unlimited)
            CHECK(sim, same_pipeline <= p->most_concurrent,
                  "%" PRId64 " runs of %s are under way; max_concurrent is %" PRId64, same_pipeline, p->id,
                  p->most_concurrent);
    }
    if (ev) {
        const struct want_trigger *t = &sim->triggers[ev->trigger];
        CHECK(sim, same_lane <= t->most_concurrent,
              "%" PRId64 " runs of %s, lane %zu, are under way; max_concurrent is %" PRId64, same_lane, t->id, ev->lane,
              t->most_concurrent);
    }
}

/* No two attempts share a number, over crashes too, whether or not the first was recorded. */
static void check_attempt(struct sim *sim, const struct step_call *call)
{
    char key[ID_SIZE + 8];
    struct model_attempt *a = NULL;
    snprintf(key, sizeof(key), "%s/%.6s", call->run_id, call->step->id);
    HASH_FIND_STR(sim->model.attempts, key, a);
    if (!a) {
        a = xcalloc(1, sizeof(*a));
        memcpy(a->key, key, sizeof(key));
        HASH_ADD_STR(sim->model.attempts, key, a);
    }
    CHECK(sim, call->attempt > a->attempt, "step %s of %s: attempt %d after %d", call->step->id, call->run_id,
          call->attempt, a->attempt);
    a->attempt = call->attempt;
}

int model_last_attempt(const struct sim *sim, const char *run_id, const char *step_id)
{
    char key[ID_SIZE + 8];
    struct model_attempt *a = NULL;
    snprintf(key, sizeof(key), "%s/%.6s", run_id, step_id);
    HASH_FIND_STR(sim->model.attempts, key, a);
    return a ? a->attempt : 0;
}

static size_t step_index(const struct step_call *call)
{
    return (size_t)(call->step->id[1] - '0');
}

void model_step_started(struct life *life, const struct step_call *call)
{
    struct sim *sim = life->sim;
    if (life->ghost)
        return;
    struct model_run *run = run_of(sim, call->run_id);
    size_t i = step_index(call);
    sim_trace(sim, "%s step %s attempt %d starts", call->run_id, call->step->id, call->attempt);
    CHECK(sim, run && !run->ended, "step %s of %s starts, which is not under way", call->step->id, call->run_id);
    CHECK(sim, run->committed || (*run->event_id && event_of(sim, run->event_id)->committed),
          "step %s of %s starts, which is not recorded", call->step->id, call->run_id);
    CHECK(sim, !run->cancelled, "step %s of %s starts, which was cancelled", call->step->id, call->run_id);
    CHECK(sim, run->steps[i] != 1, "step %s of %s overlaps with itself", call->step->id, call->run_id);
    CHECK(sim, run->steps[i] != 2, "step %s of %s has completed and starts again", call->step->id, call->run_id);
    const struct step_row *row = sim_store_step(life->store, call->run_id, call->step->id);
    CHECK(sim, !row, "step %s of %s is recorded as %s and starts again", call->step->id, call->run_id,
          step_status_name(row ? row->status : 0));
    check_attempt(sim, call);
    model_check_needs(life, run, call);
    const struct run_rows *stored = sim_store_run(life->store, call->run_id);
    CHECK(sim, !stored || call->attempt >= stored->r.attempt, "step %s of %s: attempt %d, the run's is %d",
          call->step->id, call->run_id, call->attempt, stored ? stored->r.attempt : 0);
    if (*run->event_id) {
        const struct event_row *e = sim_store_event(life->store, run->event_id);
        CHECK(sim, e && streq(e->e.resolved_inputs, call->inputs_text), "%s does not get the inputs of its event",
              call->run_id);
    }
    char key[64];
    snprintf(key, sizeof(key), "%s/%s", call->run_id, call->step->id);
    CHECK(sim, streq(key, call->idempotency_key), "%s: idempotency key %s", key, call->idempotency_key);
    if (run->under_way == 0)
        check_limits(life, run);
    run->steps[i] = 1;
    run->under_way++;
}

void model_step_ended(struct life *life, const struct step_call *call, enum step_status status, bool permanent)
{
    if (life->ghost)
        return;
    struct model_run *run = run_of(life->sim, call->run_id);
    sim_trace(life->sim, "%s step %s: %s", call->run_id, call->step->id, step_status_name(status));
    run->steps[step_index(call)] = status == STEP_COMPLETED ? 2 : 0;
    run->ended_as[step_index(call)] = (char)(1 + (int)status);
    run->permanent[step_index(call)] = permanent;
    run->under_way--;
}

/* ---- answers ---- */

static void answered_ok(struct asked *a, const struct intake_result *r)
{
    struct sim *sim = a->life->sim;
    struct stimulus *s = a->stimulus;
    unsigned bits = 0;
    int64_t triggered = 0;
    for (size_t i = 0; i < r->n; i++) {
        const struct event_row *row = sim_store_event(a->life->store, r->events[i]->id);
        CHECK(sim, row, "%s is acknowledged and not in the store", r->events[i]->id);
        size_t t = trigger_index(sim, row->e.trigger_id);
        CHECK(sim, number_in(row->e.data) == s->n, "%s is not an event of %" PRId64, row->e.id, s->n);
        CHECK(sim, !(bits & 1u << t), "two events of %" PRId64 " are told for %s", s->n, sim->triggers[t].id);
        bits |= 1u << t;
        const struct event *e = r->events[i];
        triggered += e->decision == DECISION_FIRED || e->status == EVENT_PENDING || e->status == EVENT_EXECUTING;
    }
    CHECK(sim, bits == s->rows || r->n == 0, "%" PRId64 ": events of %#x are told, those of %#x recorded", s->n, bits,
          s->rows);
    CHECK(sim, triggered == r->triggered, "%" PRId64 ": %" PRId64 " triggered, told %" PRId64, s->n, triggered,
          r->triggered);
    CHECK(sim, !(bits & ~a->targets), "%" PRId64 ": events of %#x, wanted %#x", s->n, bits, a->targets);
    for (size_t i = 0; i < sim->n_triggers; i++) {
        const struct want_trigger *t = &sim->triggers[i];
        bool stays = t->present && (t->deleted_ms == 0 || t->deleted_ms < a->at_ms);
        CHECK(sim, !(a->targets & 1u << i) || (bits & 1u << i) || !stays, "%" PRId64 " gave no event of %s", s->n,
              t->id);
    }
}

static void answered_duplicate(struct asked *a, const struct intake_result *r)
{
    struct sim *sim = a->life->sim;
    struct stimulus *s = a->stimulus;
    cJSON *ids = NULL, *id;
    sim->stats->duplicates++;
    CHECK(sim, *s->key, "%" PRId64 " without a key is a duplicate", s->n);
    CHECK(sim, r->triggered == 0, "a duplicate triggers %" PRId64, r->triggered);
    value_parse(r->duplicate_events, strlen(r->duplicate_events), &ids, NULL);
    cJSON_ArrayForEach (id, ids) {
        const struct event_row *row = sim_store_event(a->life->store, id->valuestring);
        CHECK(sim, row && number_in(row->e.data) == s->n, "%s is no event of %" PRId64, id->valuestring, s->n);
    }
    CHECK(sim, cJSON_GetArraySize(ids) > 0, "a duplicate of nothing");
    cJSON_Delete(ids);
}

void model_answered(struct asked *a, const struct intake_result *r)
{
    struct sim *sim = a->life->sim;
    struct stimulus *s = a->stimulus;
    sim_trace(sim, "%" PRId64 " is answered: %d, %zu events%s%s%s", s->n, r->code, r->n,
              r->duplicate ? ", a duplicate" : "", r->message ? ": " : "", r->message ? r->message : "");
    CHECK(sim, s->open > 0, "%" PRId64 " is answered twice", s->n);
    s->open--;
    if (r->code == 0) {
        s->oks++;
        if (r->duplicate)
            answered_duplicate(a, r);
        else
            answered_ok(a, r);
        return;
    }
    sim->stats->refused++;
    CHECK(sim, r->message, "%" PRId64 " is refused (%d) without words", s->n, r->code);
    CHECK(sim, r->n == 0 && r->triggered == 0, "%" PRId64 " is refused (%d) with %zu events", s->n, r->code, r->n);
    CHECK(sim, s->group == a->group || s->open > 0 || s->oks > a->oks, "%" PRId64 " is refused (%d) and recorded", s->n,
          r->code);
    if (r->code == -EEXIST) {
        sim->stats->conflicts++;
        bool other = false;
        for (const struct stimulus *o = sim->model.stimuli; o; o = o->hh.next)
            other = other || (o != s && streq(o->key, s->key) && streq(o->endpoint, s->endpoint) && o->rows);
        CHECK(sim, other, "%" PRId64 ": no other body came with key %s", s->n, s->key);
    } else if (r->code == -EAGAIN) {
        bool full = false;
        for (size_t i = 0; i < sim->n_triggers; i++)
            full = full || ((a->targets & 1u << i) &&
                            (sim->model.pending[i] + 4 >= sim->triggers[i].queue_limit ||
                             MAX(sim->triggers[i].edited_ms, sim->triggers[i].deleted_ms) >= a->at_ms));
        CHECK(sim, full, "%" PRId64 " is refused, no queue is full: %s", s->n, r->message);
    } else {
        CHECK(sim, r->code == -ENOSPC || r->code == -EIO || r->code == -ESHUTDOWN, "%" PRId64 ": code %d", s->n,
              r->code);
    }
}

/* ---- looking ---- */

void model_look(struct life *life)
{
    struct sim *sim = life->sim;
    if (life->ghost || !life->started || life->drained || !life->firing)
        return;
    int64_t running = 0;
    for (const struct model_run *run = sim->model.runs; run; run = run->hh.next)
        running += run->under_way > 0;
    CHECK(sim, (size_t)running <= life->steps, "%" PRId64 " runs, %zu steps", running, life->steps);
    for (size_t i = 0; i < sim->n_triggers; i++) {
        struct want_trigger *t = &sim->triggers[i];
        struct live_trigger *live = engine_find_trigger(life->engine, t->id);
        CHECK(sim, (live != NULL) == t->present, "%s is %s", t->id, t->present ? "lost" : "still there");
        if (!live)
            continue;
        struct trigger_view v;
        trigger_look(live, &v);
        CHECK(sim, v.pending == sim->model.pending[i], "%s: %" PRId64 " pending, the model has %" PRId64, t->id,
              v.pending, sim->model.pending[i]);
        CHECK(sim, v.executing == sim->model.executing[i] || life->drain,
              "%s: %" PRId64 " executing, the model has %" PRId64, t->id, v.executing, sim->model.executing[i]);
        bool paused = v.status == TRIGGER_PAUSED;
        CHECK(sim, !t->enabled || paused == t->paused || t->pause_unknown, "%s is%s paused", t->id,
              paused ? "" : " not");
    }
}

void model_quiet(struct life *life, bool open)
{
    struct sim *sim = life->sim;
    CHECK(sim, life->steps == 0, "quiet, and %zu steps are under way", life->steps);
    for (const struct stimulus *s = sim->model.stimuli; s; s = s->hh.next)
        CHECK(sim, s->open == 0, "%" PRId64 " was never answered", s->n);
    for (const struct model_run *run = sim->model.runs; run; run = run->hh.next)
        CHECK(sim, run->c_ended, "quiet, and %s of %s is open", run->id, run->pipeline);
    for (const struct model_event *ev = sim->model.events; ev; ev = ev->hh.next) {
        const struct want_trigger *t = &sim->triggers[ev->trigger];
        CHECK(sim, ev->c_status == ev->status, "quiet, and %s is %s, recorded as %s", ev->id,
              event_status_name(ev->status), event_status_name(ev->c_status));
        CHECK(sim, ev->status != EVENT_EXECUTING, "quiet, and %s of %s is executing", ev->id, t->id);
        if (ev->status != EVENT_PENDING)
            continue;
        CHECK(sim, t->present, "%s is pending, and %s is deleted", ev->id, t->id);
        struct trigger_view v;
        trigger_look(engine_find_trigger(life->engine, t->id), &v);
        bool waits = v.status == TRIGGER_DISABLED || (!open && v.status != TRIGGER_ACTIVE);
        CHECK(sim, waits, "quiet, and %s of %s (%s) waits for nothing: %s", ev->id, t->id,
              trigger_status_name(v.status), decision_name(ev->decision));
    }
    for (size_t i = 0; i < sim->n_triggers; i++) {
        const struct want_trigger *t = &sim->triggers[i];
        struct live_trigger *live = engine_find_trigger(life->engine, t->id);
        if (!live)
            continue;
        struct trigger_view v;
        trigger_look(live, &v);
        CHECK(sim, !open || v.status == TRIGGER_ACTIVE || v.status == TRIGGER_DISABLED || v.error_message,
              "%s is %s after resume", t->id, trigger_status_name(v.status));
        size_t left = t->type == WANT_BROKER && v.status == TRIGGER_ACTIVE ? broker_unsettled(sim, i) : 0;
        CHECK(sim, left == 0, "quiet, and %zu messages for %s are not acknowledged", left, t->id);
        if (open) { /* those that leave no row, of the last life */
            sim->stats->decisions[DECISION_FILTERED] += v.filtered;
            sim->stats->decisions[DECISION_DUPLICATE] += v.decisions[DECISION_DUPLICATE];
            sim->stats->decisions[DECISION_QUEUE_FULL] += v.decisions[DECISION_QUEUE_FULL];
            sim->stats->decisions[DECISION_DEBOUNCED] += v.decisions[DECISION_DEBOUNCED];
        }
        int64_t fires = 0;
        for (const struct model_event *ev = sim->model.events; ev; ev = ev->hh.next)
            fires += ev->trigger == i && ev->fired_ms > 0;
        CHECK(sim, t->deleted_ms || v.trigger_count == fires, "%s: trigger_count %" PRId64 ", fired %" PRId64, t->id,
              v.trigger_count, fires);
    }
}

/* `… came within the cooldown`: the one that came must be there, and later. */
static void check_superseded(struct sim *sim, const struct event_row *row)
{
    static const char words[] = " came within the cooldown";
    const char *at = row->e.reason ? strstr(row->e.reason, words) : NULL;
    if (!at)
        return;
    char id[ID_SIZE];
    snprintf(id, sizeof(id), "%.*s", (int)(at - row->e.reason), row->e.reason);
    const struct event_row *later = sim_store_event(sim->life->store, id);
    CHECK(sim, later && later->e.seq > row->e.seq, "%s gave way to %s, which is not there", row->e.id, id);
}

void model_end(struct sim *sim)
{
    struct sim_store *store = sim->life->store;
    size_t n = 0;
    for (struct event_row *row = sim_store_events(store); row; row = row->by_seq.next) {
        const struct model_event *ev = event_of(sim, row->e.id);
        n++;
        CHECK(sim, ev && ev->c_status == row->e.status, "%s in the store is not what was committed", row->e.id);
        CHECK(sim, decision_fits(row->e.status, row->e.decision), "%s ends as %s, %s", row->e.id,
              event_status_name(row->e.status), decision_name(row->e.decision));
        CHECK(sim, row->e.status != EVENT_FAILED || row->e.error_message, "%s failed without a message", row->e.id);
        CHECK(sim, !event_status_final(row->e.status) || row->e.completed_ms > 0, "%s has no end", row->e.id);
        CHECK(sim, !event_status_final(row->e.status) || !row->e.reason || strncmp(row->e.reason, "waits", 5) != 0,
              "%s is %s and still says why it waits: %s", row->e.id, event_status_name(row->e.status), row->e.reason);
        check_superseded(sim, row);
        sim->stats->decisions[row->e.decision]++;
        sim->stats->statuses[row->e.status]++;
    }
    CHECK(sim, n == HASH_COUNT(sim->model.events), "%zu events in the store, %u committed", n,
          HASH_COUNT(sim->model.events));
    for (struct run_rows *row = sim_store_runs(store); row; row = row->by_seq.next)
        CHECK(sim, run_status_final(row->r.status), "%s is left open", row->r.id);
}

void model_fini(struct sim *sim)
{
    struct model *m = &sim->model;
    struct stimulus *s, *next_s;
    HASH_ITER (hh, m->stimuli, s, next_s) {
        HASH_DEL(m->stimuli, s);
        free(s);
    }
    struct model_event *ev, *next_ev;
    HASH_ITER (hh, m->events, ev, next_ev) {
        HASH_DEL(m->events, ev);
        free(ev);
    }
    struct model_run *run, *next_run;
    HASH_ITER (hh, m->runs, run, next_run) {
        HASH_DEL(m->runs, run);
        free(run);
    }
    struct model_attempt *a, *next_a;
    HASH_ITER (hh, m->attempts, a, next_a) {
        HASH_DEL(m->attempts, a);
        free(a);
    }
}
