/* Steps. `work` takes its time, then completes, fails, fails for good, or hangs until it is cancelled; `emit` emits a
 * custom event in the chain of its run and completes when that is answered. */
#include "sim.h"

struct config {
    char *endpoint;
};

static const struct field work_rows[] = {
    {.name = "note", .type = &field_string, FIELD(struct config, endpoint, char *, .doc = "Nothing")},
};
static const struct field_table work_table = {"work", "Something that takes time", sizeof(struct config), work_rows,
                                              ARRAY_SIZE(work_rows)};
static const struct field emit_rows[] = {
    {.name = "endpoint",
     .type = &field_endpoint,
     FIELD(struct config, endpoint, char *, .flags = FIELD_REQUIRED, .doc = "Where")},
};
static const struct field_table emit_table = {"emit", "A custom event", sizeof(struct config), emit_rows,
                                              ARRAY_SIZE(emit_rows)};

struct work {
    struct step_call *call;
    struct life *life;
    struct timer timer;
    enum step_status status;
    bool permanent, cancelled;
    bool emitted;        /* emit: the answer is still to come */
    struct asked *asked; /* NULL in a ghost */
};

static void finish(struct work *w)
{
    struct step_call *call = w->call;
    struct life *life = w->life;
    struct step_result r = STEP_RESULT_INIT;
    r.status = w->status;
    r.permanent = w->permanent;
    r.exit_code = w->status == STEP_COMPLETED ? 0 : 1;
    if (w->status == STEP_COMPLETED) {
        r.output = cJSON_CreateObject();
        cJSON_AddBoolToObject(r.output, "ok", random_below(&life->random.random, 4) != 0);
    } else {
        r.error = xstrdup("it went wrong");
    }
    r.out = xstrdup("said\n");
    r.out_len = 5;
    if (random_below(&life->random.random, 10) == 0)
        r.retry_after_seconds = 1.5;
    call->state = NULL;
    life->steps--;
    model_step_ended(life, call, w->status, w->permanent || w->cancelled);
    free(w);
    step_done(call, &r);
}

static void due(struct timer *timer, void *ctx)
{
    (void)timer;
    finish(ctx);
}

static struct work *begin(struct step_call *call)
{
    struct work *w = xcalloc(1, sizeof(*w));
    w->call = call;
    w->life = life_of_timers(call->env->timers);
    call->state = w;
    timer_init(&w->timer, due, w);
    w->life->steps++;
    w->life->sim->stats->steps++;
    model_step_started(w->life, call);
    return w;
}

/* A reference of the manifest is replaced, whatever the run went through; the same text of an event is not. */
static void check_secrets(struct sim *sim, struct step_call *call)
{
    const cJSON *context = NULL;
    struct error err = ERROR_INIT;
    CHECK(sim, step_context_expanded(call, &context, NULL, &err) == 0, "%s: %s", call->run_id, err.message);
    const cJSON *inputs = value_get(context, "inputs"), *plain = value_get(step_context(call), "inputs");
    const char *s = value_get_string(inputs, "s");
    if (!s)
        return; /* by hand, or of a trigger without */
    bool forged = value_get(value_get(value_get(inputs, "_trigger_event"), "data"), "s") != NULL;
    CHECK(sim, streq(s, forged ? SECRET_REFERENCE : SECRET_VALUE), "%s: got %s", call->run_id, s);
    CHECK(sim, streq(value_get(inputs, "own")->child->valuestring, "<" SECRET_VALUE ">"), "%s: own is not replaced",
          call->run_id);
    CHECK(sim, streq(value_get_string(plain, "s"), SECRET_REFERENCE), "%s: stored as %s", call->run_id,
          value_get_string(plain, "s"));
}

static void work_start(struct step_call *call)
{
    struct work *w = begin(call);
    struct random *random = &w->life->random.random;
    uint64_t dice = random_below(random, 100);
    int64_t ms = (int64_t)(random_below(random, 4) == 0 ? random_below(random, 5000) : random_below(random, 300));
    w->status = dice < 75 ? STEP_COMPLETED : STEP_FAILED;
    w->permanent = dice >= 75 && dice < 82;
    if (random_below(random, 3) == 0) {
        const cJSON *context = step_context(call);
        CHECK(w->life->sim, value_get(context, "inputs") && value_get(context, "steps"), "%s: a context without inputs",
              call->run_id);
        check_secrets(w->life->sim, call);
    }
    if (dice >= 95)
        ms = 60000; /* hangs, longer than any time-out */
    if (ms < 10)
        ms = 0;
    timer_start(&w->life->timers, &w->timer, w->life->clock.monotonic_ms + ms);
}

static void work_cancel(struct step_call *call)
{
    struct work *w = call->state;
    struct sim *sim = w->life->sim;
    CHECK(sim, !w->cancelled, "%s: step %s is cancelled twice", call->run_id, call->step->id);
    w->cancelled = true;
    if (w->emitted)
        return; /* what came first */
    struct random *random = &w->life->random.random;
    uint64_t dice = random_below(random, 10);
    w->status = dice == 0 ? STEP_COMPLETED : dice == 1 ? STEP_FAILED : STEP_CANCELLED;
    w->permanent = false;
    timer_start(&w->life->timers, &w->timer,
                w->life->clock.monotonic_ms + (int64_t)(dice < 5 ? 0 : random_below(random, 400)));
}

static void emit_answered(void *ctx, const struct intake_result *r)
{
    struct work *w = ctx;
    if (w->asked && !w->life->ghost)
        model_answered(w->asked, r);
    free(w->asked);
    w->status = r->code == 0 ? STEP_COMPLETED : STEP_FAILED;
    finish(w);
}

static void emit_go(struct timer *timer, void *ctx)
{
    (void)timer;
    struct work *w = ctx;
    struct sim *sim = w->life->sim;
    if (w->cancelled) {
        finish(w);
        return;
    }
    const struct config *config = w->call->step->config;
    char text[64];
    struct stimulus *s = NULL;
    int64_t n = 0;
    if (!w->life->ghost) {
        s = model_stimulus(sim, (char)('a' + pick(sim, KEYS)));
        snprintf(s->endpoint, sizeof(s->endpoint), "%s", config->endpoint);
        n = s->n;
    }
    snprintf(text, sizeof(text), "{\"n\":%" PRId64 ",\"k\":\"%c\"}", n, s ? s->k : 'a');
    cJSON *data = NULL;
    value_parse(text, strlen(text), &data, NULL);
    char type[32];
    snprintf(type, sizeof(type), "custom_%s", config->endpoint);
    struct occurrence o = {.event_type = type, .data = data, .data_text = text};
    char *chain = NULL;
    int r = engine_chain(w->life->engine, w->call->run_id, &o, &chain);
    CHECK(sim, r == 0, "%s: a run with a step under way is not under way", w->call->run_id);
    w->emitted = true;
    if (s)
        w->asked = ask(w->life, s, model_targets(sim, s->endpoint, s->k));
    engine_publish(w->life->engine, "custom", config->endpoint, &o, emit_answered, w);
    free(chain);
    cJSON_Delete(data);
}

static void emit_start(struct step_call *call)
{
    struct work *w = begin(call);
    w->timer.fn = emit_go;
    timer_start(&w->life->timers, &w->timer, w->life->clock.monotonic_ms);
}

const struct step_type sim_step_work = {
    .kind = {.name = "work", .config = &work_table},
    .start = work_start,
    .cancel = work_cancel,
};
const struct step_type sim_step_emit = {
    .kind = {.name = "emit", .config = &emit_table},
    .start = emit_start,
    .cancel = work_cancel,
};
const struct step_type *const sim_step_types[] = {&sim_step_work, &sim_step_emit, NULL};
