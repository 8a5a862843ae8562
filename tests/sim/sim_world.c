/* Lives of the engine, the driver of the clock, and the operations of a history. */
#include "sim.h"

int64_t life_now(const struct life *life)
{
    return life->clock.realtime_ms;
}

struct life *life_of_timers(struct timers *timers)
{
    return container_of(timers, struct life, timers);
}

/* ---- the clock ---- */

static void advance_to(struct life *life, int64_t monotonic_ms)
{
    if (monotonic_ms > life->clock.monotonic_ms)
        clock_manual_advance(&life->clock, monotonic_ms - life->clock.monotonic_ms);
}

void life_run(struct life *life, int64_t ms)
{
    int64_t until = life->clock.monotonic_ms + ms;
    for (int64_t due; (due = timers_next(&life->timers)) >= 0 && due <= until;) {
        advance_to(life, due);
        timers_run(&life->timers, life->clock.monotonic_ms);
        model_look(life);
    }
    advance_to(life, until);
}

bool life_settle(struct life *life, int64_t ms)
{
    int64_t until = life->clock.monotonic_ms + ms;
    for (int64_t due; (due = timers_next(&life->timers)) >= 0;) {
        if (due > until)
            return false;
        advance_to(life, due);
        timers_run(&life->timers, life->clock.monotonic_ms);
        model_look(life);
    }
    return true;
}

/* ---- lives ---- */

static void engine_log(void *ctx, const char *trigger_id, const char *message)
{
    struct life *life = ctx;
    if (!life->ghost)
        sim_trace(life->sim, "engine: %s%s%s", trigger_id ? trigger_id : "", trigger_id ? ": " : "", message);
}

struct life *life_begin(struct sim *sim, struct sim_store *from, int64_t wall_ms)
{
    struct life *life = xcalloc(1, sizeof(*life));
    life->sim = sim;
    life->number = sim->life ? sim->life->number + 1 : 1;
    clock_manual_init(&life->clock, wall_ms, 1000 + (int64_t)pick(sim, 1000000));
    timers_init(&life->timers, NULL, NULL);
    random_seeded_init(&life->random, random_u64(&sim->random.random));
    life->store = from ? sim_store_fork(from, life) : sim_store_create(life);
    life->firing = !from || sim->calm || !chance(sim, 0.04);
    sim->stats->lives++;
    struct engine_options options = {
        .source_env = {.timers = &life->timers,
                       .clock = &life->clock.clock,
                       .random = &life->random.random,
                       .store = sim_store_port(life->store),
                       .state_dir = "/nowhere"},
        .step_env = {.timers = &life->timers,
                     .clock = &life->clock.clock,
                     .random = &life->random.random,
                     .node_id = "sim"},
        .source_types = sim_source_types,
        .step_types = sim_step_types,
        .firing = life->firing,
        .max_pending_bytes = sim->max_pending_bytes,
        .max_chain_depth = sim->max_depth,
        .max_runs = sim->max_runs,
        .log = engine_log,
        .ctx = life,
    };
    struct error err = ERROR_INIT;
    CHECK(sim, engine_create(&options, &life->engine, &err) == 0, "create: %s", err.message);
    CHECK(sim, engine_load(life->engine, &err) == 0, "load: %s", err.message);
    sim->life = life;
    for (size_t i = 0; i < sim->n_pipelines; i++)
        if (sim->pipelines[i].present) {
            struct pipeline *p = config_pipeline(life, &sim->pipelines[i]);
            engine_put_pipeline(life->engine, p, NULL, 0);
            pipeline_unref(p);
        }
    for (size_t i = 0; i < sim->n_triggers; i++)
        if (sim->triggers[i].present) {
            struct trigger *t = config_trigger(life, &sim->triggers[i]);
            engine_put_trigger(life->engine, t, NULL, 0);
            trigger_unref(t);
        }
    engine_start(life->engine);
    life->started = true;
    sim_trace(sim, "---- life %u ----", life->number);
    model_look(life);
    return life;
}

static void drained(void *ctx)
{
    struct life *life = ctx;
    CHECK(life->sim, !life->drained, "the drain ends twice");
    life->drained = true;
}

/* Let it end, free it. */
static void drain_and_destroy(struct life *life, int64_t grace_ms)
{
    struct sim *sim = life->sim;
    sim_store_full(life->store, false);
    life->drain = true;
    engine_drain(life->engine, grace_ms, drained, life);
    CHECK(sim, !life->drained, "the drain ends inside engine_drain()");
    int64_t until = life->clock.monotonic_ms + grace_ms + 10000;
    for (int64_t due; !life->drained && (due = timers_next(&life->timers)) >= 0 && due <= until;) {
        advance_to(life, due);
        timers_run(&life->timers, life->clock.monotonic_ms);
        model_look(life);
    }
    CHECK(sim, life->drained, "%s: the drain of life %u does not end (%zu steps under way, grace %" PRId64 " ms)",
          life->ghost ? "ghost" : "restart", life->number, life->steps, grace_ms);
    CHECK(sim, life->steps == 0, "%zu steps are under way after the drain", life->steps);
    engine_destroy(life->engine);
    life->engine = NULL;
    sim_store_close(life->store);
    CHECK(sim, timers_next(&life->timers) < 0, "%zu timers are left after engine_destroy()", life->timers.count);
}

static void life_free(struct life *life)
{
    sim_store_destroy(life->store);
    timers_fini(&life->timers);
    free(life);
}

/* What may happen to the manifests while the daemon is down. */
static void change_while_down(struct sim *sim)
{
    if (!chance(sim, 0.2))
        return;
    struct want_trigger *t = &sim->triggers[pick(sim, sim->n_triggers)];
    if (t->present && chance(sim, 0.4)) {
        t->present = false;
        t->edited = true;
        t->deleted_ms = life_now(sim->life);
        t->paused = false;
        t->pause_unknown = true; /* the next life may not know of the deletion */
        sim_trace(sim, "%s is deleted while down", t->id);
    } else if (t->present) {
        config_edit_trigger(sim, t);
        sim_trace(sim, "%s is edited while down", t->id);
    }
    if (chance(sim, 0.2)) {
        struct want_pipeline *p = &sim->pipelines[pick(sim, sim->n_pipelines)];
        p->present = !p->present;
        sim_trace(sim, "%s is %s while down", p->id, p->present ? "there again" : "deleted");
    }
}

void life_crash(struct sim *sim)
{
    struct life *old = sim->life;
    sim_trace(sim, "==== crash ====");
    sim->stats->crashes++;
    old->ghost = true;
    for (size_t i = 0; i < MAX_TRIGGERS; i++)
        sim->brokers[i].source = NULL;
    model_next_life(sim, true);
    change_while_down(sim);
    int64_t wall = life_now(old) + (int64_t)pick(sim, 3000);
    struct life *next = life_begin(sim, old->store, wall);
    drain_and_destroy(old, chance(sim, 0.5) ? 0 : 300);
    life_free(old);
    (void)next;
}

void life_restart(struct sim *sim, int64_t grace_ms)
{
    struct life *old = sim->life;
    sim_trace(sim, "==== drain, %" PRId64 " ms ====", grace_ms);
    sim->stats->drains++;
    drain_and_destroy(old, grace_ms);
    for (size_t i = 0; i < MAX_TRIGGERS; i++)
        CHECK(sim, !sim->brokers[i].source, "a source is left after the drain");
    model_next_life(sim, false);
    change_while_down(sim);
    life_begin(sim, old->store, life_now(old) + (int64_t)pick(sim, 3000));
    life_free(old);
}

void life_end(struct sim *sim)
{
    drain_and_destroy(sim->life, 1000);
    model_end(sim);
    life_free(sim->life);
    sim->life = NULL;
}

/* ---- operations ---- */

struct asked *ask(struct life *life, struct stimulus *s, unsigned targets)
{
    struct asked *a = xcalloc(1, sizeof(*a));
    a->life = life;
    a->at_ms = life_now(life);
    if (!s)
        return a;
    a->stimulus = s;
    a->targets = targets;
    a->group = s->group;
    a->oks = s->oks;
    s->open++;
    sim_trace(life->sim, "ask %" PRId64 " %c at %s%s%s%s", s->n, s->k, s->endpoint, s->trigger, *s->key ? " key " : "",
              s->key);
    return a;
}

static void answered(void *ctx, const struct intake_result *r)
{
    struct asked *a = ctx;
    if (!a->life->ghost)
        model_answered(a, r);
    free(a);
}

static void edit_trigger(struct sim *sim, struct want_trigger *t);

static void emit(struct sim *sim)
{
    struct stimulus *s = NULL;
    /* Sometimes again what was emitted before, or its key with another body. */
    char key[16] = "";
    if (chance(sim, 0.35))
        snprintf(key, sizeof(key), "key%d", (int)pick(sim, 12));
    if (*key) {
        struct stimulus *old, *tmp;
        HASH_ITER (hh, sim->model.stimuli, old, tmp) {
            if (streq(old->key, key) && *old->endpoint && chance(sim, 0.8))
                s = old;
        }
    }
    if (!s) {
        s = model_stimulus(sim, (char)('a' + pick(sim, KEYS)));
        snprintf(s->endpoint, sizeof(s->endpoint), "e%d", (int)pick(sim, 2));
        memcpy(s->key, key, sizeof(key));
    }
    char text[96], type[32];
    /* Some say what the manifest of their trigger says. */
    snprintf(text, sizeof(text), "{\"n\":%" PRId64 ",\"k\":\"%c\"%s}", s->n, s->k,
             s->n % 3 == 0 ? ",\"s\":\"" SECRET_REFERENCE "\"" : "");
    cJSON *data = NULL;
    value_parse(text, strlen(text), &data, NULL);
    snprintf(type, sizeof(type), "custom_%s", s->endpoint);
    struct occurrence o = {.event_type = type, .data = data, .data_text = text, .identity = *s->key ? s->key : NULL};
    struct asked *a = ask(sim->life, s, model_targets(sim, s->endpoint, s->k));
    sim->stats->emits++;
    engine_publish(sim->life->engine, "custom", s->endpoint, &o, answered, a);
    cJSON_Delete(data);
    if (chance(sim, 0.02)) /* while it is looked at */
        edit_trigger(sim, &sim->triggers[pick(sim, sim->n_triggers)]);
}

static void test_trigger(struct sim *sim, struct want_trigger *t)
{
    struct stimulus *s = model_stimulus(sim, (char)('a' + pick(sim, KEYS)));
    snprintf(s->trigger, sizeof(s->trigger), "%s", t->id);
    char text[64];
    snprintf(text, sizeof(text), "{\"n\":%" PRId64 ",\"k\":\"%c\"}", s->n, s->k);
    cJSON *data = NULL;
    value_parse(text, strlen(text), &data, NULL);
    struct occurrence o = {.event_type = "test", .data = data, .data_text = text, .test = true};
    if (sim->model.events && chance(sim, 0.4)) {
        o.event_type = "custom_again";
        o.test = false;
        o.replay_of = sim->model.events->id;
    }
    struct asked *a = ask(sim->life, s, 1u << (t - sim->triggers));
    int r = engine_occur(sim->life->engine, t->id, &o, answered, a);
    CHECK(sim, (r == -ENOENT) == !t->present, "test %s: %d", t->id, r);
    if (r < 0) {
        s->open--;
        free(a);
    }
    cJSON_Delete(data);
}

static void filtered(void *ctx, const struct filtered_entry *f)
{
    struct life *life = ctx;
    CHECK(life->sim, *f->reason && *f->data && *f->event_type, "what was filtered has no reason, data or type");
    CHECK(life->sim, f->occurred_ms <= life_now(life), "what was filtered is still to come");
}

static void look_at_filtered(struct sim *sim, struct live_trigger *t)
{
    trigger_each_filtered(t, filtered, sim->life);
    struct trigger_view v;
    trigger_look(t, &v);
    CHECK(sim, v.filtered >= 0, "%" PRId64 " were filtered", v.filtered);
}

static void dry_run(struct sim *sim, struct want_trigger *t)
{
    cJSON *data = NULL;
    char text[64];
    char k = (char)('a' + pick(sim, KEYS));
    snprintf(text, sizeof(text), "{\"n\":1,\"k\":\"%c\"}", k);
    value_parse(text, strlen(text), &data, NULL);
    enum decision d;
    char *reason = NULL, *inputs = NULL;
    sim->stats->dry_runs++;
    int r = engine_dry_run(sim->life->engine, t->id, data, &d, &reason, &inputs);
    CHECK(sim, (r == -ENOENT) == !t->present, "dry run of %s: %d", t->id, r);
    if (r == 0) {
        sim_trace(sim, "dry run of %s: %s (%s)", t->id, decision_name(d), reason ? reason : "");
        bool passes = t->type == WANT_COMPLETED || !t->filter || (t->filter & 1u << (k - 'a'));
        CHECK(sim, t->type == WANT_COMPLETED || (d == DECISION_FILTERED) == !passes, "dry run of %s with %c: %s", t->id,
              k, decision_name(d));
        look_at_filtered(sim, engine_find_trigger(sim->life->engine, t->id));
        CHECK(sim, d == DECISION_FIRED || reason, "dry run of %s: %s without a reason", t->id, decision_name(d));
        CHECK(sim, d != DECISION_FIRED || inputs, "dry run of %s: fired without inputs", t->id);
    }
    free(reason);
    free(inputs);
    cJSON_Delete(data);
}

static void controlled(void *ctx, int result)
{
    struct asked *a = ctx;
    struct want_trigger *t = a->trigger;
    if (!a->life->ghost) {
        sim_trace(a->life->sim, "%s of %s: %d", a->pause ? "pause" : "resume", t->id, result);
        if (result == 0 && a->control == t->controls)
            t->pause_unknown = false;
        /* Refused: the state in force is as asked, but may not be what the next life finds. */
    }
    free(a);
}

static void control(struct sim *sim, struct want_trigger *t, bool pause)
{
    struct asked *a = ask(sim->life, NULL, 0);
    a->trigger = t;
    a->pause = pause;
    a->control = ++t->controls;
    bool discard = chance(sim, 0.3);
    sim_trace(sim, "%s %s%s", pause ? "pause" : "resume", t->id, !pause && discard ? " --discard" : "");
    t->paused = t->paused && pause; /* resumed: at once; paused: when the call returns */
    int r = pause ? engine_pause(sim->life->engine, t->id, controlled, a)
                  : engine_resume(sim->life->engine, t->id, discard, controlled, a);
    CHECK(sim, (r == -ENOENT) == !t->present, "control of %s: %d", t->id, r);
    if (r < 0) {
        free(a);
        return;
    }
    t->paused = pause;
    t->pause_unknown = true;
}

static void put_trigger(struct sim *sim, struct want_trigger *t)
{
    struct trigger *spec = config_trigger(sim->life, t);
    engine_put_trigger(sim->life->engine, spec, NULL, 0);
    trigger_unref(spec);
}

static void edit_trigger(struct sim *sim, struct want_trigger *t)
{
    if (!t->present) {
        sim_trace(sim, "%s comes again", t->id);
        t->present = true;
        put_trigger(sim, t);
    } else if (chance(sim, 0.25)) {
        sim_trace(sim, "delete %s", t->id);
        t->present = false;
        t->edited = true;
        t->deleted_ms = life_now(sim->life);
        t->paused = false;
        t->pause_unknown = true; /* the next life may not know of the deletion */
        engine_remove_trigger(sim->life->engine, t->id);
        CHECK(sim, !engine_find_trigger(sim->life->engine, t->id), "%s is still there", t->id);
    } else {
        sim_trace(sim, "edit %s", t->id);
        config_edit_trigger(sim, t);
        put_trigger(sim, t);
    }
}

static void edit_pipeline(struct sim *sim, struct want_pipeline *p)
{
    if (p->present && chance(sim, 0.4)) {
        sim_trace(sim, "delete %s", p->id);
        p->present = false;
        engine_remove_pipeline(sim->life->engine, p->id);
        return;
    }
    sim_trace(sim, "%s %s", p->present ? "edit" : "again", p->id);
    if (p->present)
        config_edit_pipeline(sim, p);
    p->present = true;
    struct pipeline *spec = config_pipeline(sim->life, p);
    engine_put_pipeline(sim->life->engine, spec, NULL, 0);
    pipeline_unref(spec);
}

static void hand_started(void *ctx, int result, const char *run_id, const char *message)
{
    struct asked *a = ctx;
    if (!a->life->ghost) {
        sim_trace(a->life->sim, "run by hand: %d %s %s", result, run_id ? run_id : "", message ? message : "");
        CHECK(a->life->sim, result < 0 || sim_store_run(a->life->store, run_id), "a run told of is not in the store");
    }
    free(a);
}

static void run_by_hand(struct sim *sim, const struct want_pipeline *p)
{
    struct asked *a = ask(sim->life, NULL, 0);
    cJSON *inputs = cJSON_CreateObject();
    if (chance(sim, 0.8))
        cJSON_AddNumberToObject(inputs, "n", 1);
    sim->stats->hand_runs++;
    int r = engine_run_pipeline(sim->life->engine, p->id, inputs, NULL, hand_started, a);
    sim_trace(sim, "run %s by hand: %d", p->id, r);
    CHECK(sim, (r == -ENOENT) == !p->present, "run of %s: %d", p->id, r);
    if (r < 0)
        free(a);
}

static void cancel_recorded(void *ctx, int result)
{
    (void)ctx;
    (void)result;
}

static void cancel(struct sim *sim)
{
    struct model_run *open[64], *run, *tmp;
    size_t n = 0;
    HASH_ITER (hh, sim->model.runs, run, tmp) {
        if (!run->ended && n < ARRAY_SIZE(open))
            open[n++] = run;
    }
    if (n == 0)
        return;
    run = open[pick(sim, n)];
    int r = engine_cancel_run(sim->life->engine, run->id, "cancelled by the simulator", cancel_recorded, NULL);
    run->cancelled = r == 0;
    sim->stats->cancels++;
    sim_trace(sim, "cancel %s: %d", run->id, r);
}

void operate(struct sim *sim)
{
    struct want_trigger *t = &sim->triggers[pick(sim, sim->n_triggers)];
    struct want_pipeline *p = &sim->pipelines[pick(sim, sim->n_pipelines)];
    uint64_t dice = pick(sim, 1000);
    if (chance(sim, 0.08))
        sim_store_full(sim->life->store, false);
    bool much = HASH_COUNT(sim->model.events) > 2500;
    if (dice < 550) {
        for (uint64_t n = chance(sim, 0.2) ? 1 + pick(sim, 8) : 1; n > 0 && !much; n--)
            emit(sim);
    } else if (dice < 650) {
        for (uint64_t n = 1 + pick(sim, 4); n > 0 && !much; n--)
            if (t->type == WANT_BROKER)
                broker_produce(sim, (size_t)(t - sim->triggers));
        if (t->type == WANT_BROKER && chance(sim, 0.1))
            broker_stumble(sim, (size_t)(t - sim->triggers));
    } else if (dice < 700) {
        control(sim, t, chance(sim, 0.5));
    } else if (dice < 740) {
        control(sim, t, false);
    } else if (dice < 770) {
        edit_trigger(sim, t);
    } else if (dice < 785) {
        edit_pipeline(sim, p);
    } else if (dice < 830) {
        cancel(sim);
    } else if (dice < 870) {
        run_by_hand(sim, p);
    } else if (dice < 910) {
        if (!much)
            test_trigger(sim, t);
    } else if (dice < 940) {
        dry_run(sim, t);
    } else if (dice < 970) {
        bool full = chance(sim, 0.4);
        sim_trace(sim, "the store is %s", full ? "full" : "not full");
        sim_store_full(sim->life->store, full);
    } else if (dice < 985) {
        life_crash(sim);
    } else {
        life_restart(sim, (int64_t)pick(sim, 3) * 1500);
    }
    model_look(sim->life);
}
