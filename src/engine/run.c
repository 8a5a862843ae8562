/* A run: the graph of a pipeline's steps going through its attempts.
 *
 *   step:  pending ─► running ─► completed
 *                       │  ▲ └─► failed | timed_out | cancelled
 *                       └──┘ retry, after a wait
 *          pending ─► skipped       (its `if` finds nothing, or something that it needs did not complete)
 *
 * A failed step fails the run; branches that do not need it go on to their end. The run ends when no step can still
 * start or is under way.
 */
#include "engine/internal.h"

#include <math.h>

static void step_timer(struct timer *timer, void *ctx);
static void run_timer(struct timer *timer, void *ctx);

/* ---- making ---- */

static struct live_run *run_alloc(struct engine *e, struct live_pipeline *p, struct pipeline *spec,
                                  struct pipeline_program *program, const char *run_id)
{
    struct live_run *run = xcalloc(1, sizeof(*run));
    run->engine = e;
    run->pipeline = p;
    p->n_runs++;
    run->spec = pipeline_ref(spec);
    run->program = pipeline_program_ref(program);
    run->ending = RUN_RUNNING;
    run->note = -1;
    run->waiter.run = run;
    run->n_steps = spec->n_steps;
    run->steps = xcalloc(spec->n_steps, sizeof(*run->steps));
    for (size_t i = 0; i < run->n_steps; i++) {
        struct live_step *s = &run->steps[i];
        s->run = run;
        s->spec = &spec->steps[i];
        s->index = i;
        s->row.step_id = s->spec->id; /* borrowed: step rows of a live run own only what they printed */
        s->row.exit_code = -1;
        timer_init(&s->timer, step_timer, s);
    }
    timer_init(&run->timeout, run_timer, run);
    memcpy(run->row.id, run_id, strlen(run_id) + 1);
    run->row.pipeline_id = run->spec->id;
    run->row.pipeline_text = run->spec->text;
    HASH_ADD_STR(e->runs, row.id, run);
    return run;
}

/* The run's event holds its trigger for as long as the run lives: its end is recorded after it left its lane. */
static void belong_to(struct live_run *run, struct live_event *ev)
{
    run->event = ev;
    if (ev)
        ev->trigger->pins++;
}

struct live_run *run_create(struct engine *e, struct live_pipeline *p, struct live_event *ev, const char *run_id)
{
    struct live_run *run = run_alloc(e, p, p->spec, p->program, run_id);
    belong_to(run, ev);
    run->row.status = RUN_PENDING;
    run->row.attempt = ev ? ev->rec.attempt : 1;
    run->row.created_ms = engine_wall(e);
    if (ev) {
        run->row.status = RUN_RUNNING;
        run->row.started_ms = run->row.created_ms;
        memcpy(run->row.event_id, ev->rec.id, sizeof(run->row.event_id));
        run->row.trigger_id = ev->rec.trigger_id;
        run->row.inputs = ev->rec.resolved_inputs;
        run->row.traceparent = ev->rec.traceparent;
        for (size_t i = 0; i < run->n_steps; i++)
            run->steps[i].attempt = ev->rec.attempt - 1;
        slot_take(run);
        rounds_run_started(ev->trigger, run, ev);
    }
    return run;
}

void run_free(struct live_run *run)
{
    if (!run->finished || run->writes > 0)
        return;
    struct engine *e = run->engine;
    change_tell(e, WATCHED_RUN, run->row.id);
    change_tell(e, WATCHED_PIPELINE, run->row.pipeline_id);
    HASH_DELETE(hh, e->runs, run);
    timer_stop(e->timers, &run->timeout);
    for (size_t i = 0; i < run->n_steps; i++) {
        struct live_step *s = &run->steps[i];
        timer_stop(e->timers, &s->timer);
        cJSON_Delete(s->output);
        s->row.step_id = NULL;
        step_row_fini(&s->row);
    }
    free(run->steps);
    cJSON_Delete(run->context);
    secrets_destroy(run->secrets);
    free(run->ending_why);
    /* Of the row, what was borrowed from the event or the pipeline stays theirs. */
    if (!run->event && !run->row.event_id[0]) {
        free(run->row.inputs);
        free(run->row.traceparent);
    }
    free(run->row.outputs);
    free(run->row.error_message);
    struct live_event *ev = run->event;
    struct live_pipeline *p = run->pipeline;
    pipeline_program_unref(run->program);
    pipeline_unref(run->spec);
    free(run);
    if (ev) {
        struct live_trigger *t = ev->trigger;
        event_free(ev);
        t->pins--;
        trigger_reap(t);
    }
    p->n_runs--;
    pipeline_free(p);
    drain_progress(e);
}

/* ---- what templates and paths see ---- */

static cJSON *step_object(const struct live_step *s, cJSON *output)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "status", step_status_name(s->status));
    cJSON_AddItemToObject(o, "output", output ? output : cJSON_CreateNull());
    if (s->row.exit_code >= 0)
        cJSON_AddNumberToObject(o, "exit_code", s->row.exit_code);
    cJSON_AddNumberToObject(o, "attempt", s->attempt);
    if (s->row.error_message)
        cJSON_AddStringToObject(o, "error", s->row.error_message);
    return o;
}

const cJSON *run_context(struct live_run *run)
{
    if (run->context)
        return run->context;
    cJSON *root = cJSON_CreateObject();
    cJSON *inputs = NULL;
    const char *text = run->row.inputs ? run->row.inputs : "{}";
    if (value_parse(text, strlen(text), &inputs, NULL) < 0)
        inputs = cJSON_CreateObject();
    cJSON_AddItemToObject(root, "inputs", inputs);
    cJSON *steps = cJSON_AddObjectToObject(root, "steps");
    for (size_t i = 0; i < run->n_steps; i++) {
        struct live_step *s = &run->steps[i];
        if (s->status >= STEP_COMPLETED)
            cJSON_AddItemToObject(steps, s->spec->id, step_object(s, steal(&s->output)));
    }
    cJSON *about = cJSON_AddObjectToObject(root, "run");
    cJSON_AddStringToObject(about, "id", run->row.id);
    cJSON_AddStringToObject(about, "pipeline_id", run->row.pipeline_id);
    cJSON_AddStringToObject(about, "event_id", run->row.event_id);
    cJSON_AddStringToObject(about, "trigger_id", run->row.trigger_id ? run->row.trigger_id : "");
    cJSON_AddNumberToObject(about, "attempt", run->row.attempt);
    return run->context = root;
}

const cJSON *step_context(struct step_call *call)
{
    return run_context(container_of(call, struct attempt, call)->step->run);
}

/* ---- ends of steps ---- */

static void step_ended(struct live_step *s, enum step_status status)
{
    struct live_run *run = s->run;
    s->status = status;
    s->row.status = status;
    s->row.attempt = s->attempt;
    s->row.completed_ms = engine_wall(run->engine);
    if (run->context) {
        cJSON *steps = value_get(run->context, "steps");
        cJSON_AddItemToObject(steps, s->spec->id, step_object(s, steal(&s->output)));
    }
}

static void start_attempt(struct live_step *s)
{
    struct live_run *run = s->run;
    struct engine *e = run->engine;
    const struct step_type *type = container_of(s->spec->kind, const struct step_type, kind);
    struct attempt *a = xcalloc(1, sizeof(*a));
    a->step = s;
    a->idempotency_key = xasprintf("%s/%s", run->row.id, s->spec->id);
    a->call = (struct step_call){
        .type = type,
        .step = s->spec,
        .env = &e->options.step_env,
        .program = run->program->steps[s->index],
        .inputs_text = run->row.inputs ? run->row.inputs : "{}",
        .run_id = run->row.id,
        .pipeline_id = run->row.pipeline_id,
        .pipeline_text = run->spec->text,
        .event_id = run->row.event_id,
        .trigger_id = run->row.trigger_id ? run->row.trigger_id : "",
        .traceparent = run->row.traceparent ? run->row.traceparent : "",
        .idempotency_key = a->idempotency_key,
        .attempt = ++s->attempt,
    };
    s->status = STEP_RUNNING;
    s->timed_out = s->cancelled = false;
    s->call = &a->call;
    run->running++;
    if (!s->started_once)
        s->row.started_ms = engine_wall(e);
    s->started_once = true;
    change_tell(e, WATCHED_RUN, run->row.id);
    if (s->spec->timeout_seconds > 0)
        timer_start(e->timers, &s->timer, engine_now(e) + (int64_t)ceil(s->spec->timeout_seconds * 1000));
    attempt_start(a);
}

/* Ask its attempt for an early end, once. */
static void cancel_call(struct live_step *s)
{
    if (!s->call || s->cancelled)
        return;
    s->cancelled = true;
    attempt_cancel(container_of(s->call, struct attempt, call));
}

static void step_timer(struct timer *timer, void *ctx)
{
    (void)timer;
    struct live_step *s = ctx;
    if (s->call) {
        s->timed_out = true;
        cancel_call(s);
    } else {
        start_attempt(s);
    }
}

/* The wait before the next attempt, in milliseconds. */
static int64_t backoff_ms(struct live_step *s)
{
    const struct retry *r = s->spec->retry;
    double seconds = r->initial_seconds * pow(r->factor, s->attempt - 1);
    seconds = MIN(seconds, r->max_seconds);
    seconds *= 1 + r->jitter * (2 * random_unit(s->run->engine->random) - 1);
    seconds = MAX(seconds, s->retry_after_seconds);
    return (int64_t)(seconds * 1000);
}

static bool may_retry(const struct live_step *s, const struct step_result *result)
{
    const struct live_run *run = s->run;
    return s->spec->retry && s->attempt < s->spec->retry->max_attempts && !result->permanent &&
           run->ending == RUN_RUNNING && !run->interrupted;
}

static void take_result(struct live_step *s, struct step_result *r)
{
    free(s->row.out);
    free(s->row.err);
    free(s->row.output);
    free(s->row.error_message);
    cJSON_Delete(s->output);
    s->row.out = r->out;
    s->row.out_len = r->out_len;
    s->row.err = r->err;
    s->row.err_len = r->err_len;
    s->row.exit_code = r->exit_code;
    s->row.term_signal = r->term_signal;
    s->row.error_message = r->error;
    s->output = r->output;
    s->row.output = r->output ? value_print(r->output) : NULL;
    s->retry_after_seconds = r->retry_after_seconds;
}

static void retry_recorded(struct batch *b, int result)
{
    struct live_step *s = b->ctx;
    const struct live_run *run = s->run;
    s->retrying = false;
    if (result == 0 && !run->finished && !run->interrupted && run->ending == RUN_RUNNING)
        timer_start(run->engine->timers, &s->timer, MAX(s->retry_at_ms, engine_now(run->engine)));
}

/* No two attempts have one number: that of the next is on disk before it can start. */
static void retry_later(struct live_step *s)
{
    struct engine *e = s->run->engine;
    s->status = STEP_PENDING;
    s->retrying = true;
    s->retry_at_ms = engine_now(e) + backoff_ms(s);
    struct batch *b = batch_new(e, STORE_LAZY | STORE_KEEP, retry_recorded, s);
    batch_retry(b, s);
    batch_submit(b);
    change_tell(e, WATCHED_RUN, s->run->row.id);
}

void step_done(struct step_call *call, struct step_result *result)
{
    struct attempt *a = container_of(call, struct attempt, call);
    struct live_step *s = a->step;
    struct live_run *run = s->run;
    struct engine *e = run->engine;
    timer_stop(e->timers, &s->timer);
    s->call = NULL;
    run->running--;
    attempt_mask(a, result);
    mask_urls(&result->error);
    take_result(s, result);
    attempt_fini(a);
    enum step_status status = result->status;
    if (s->timed_out && status != STEP_COMPLETED) {
        status = STEP_TIMED_OUT;
        free(s->row.error_message);
        s->row.error_message = xasprintf("timed out after %g s", s->spec->timeout_seconds);
    } else if (status == STEP_CANCELLED && run->ending == RUN_TIMED_OUT) {
        status = STEP_TIMED_OUT;
    }
    if (status != STEP_COMPLETED && status != STEP_CANCELLED && may_retry(s, result)) {
        retry_later(s);
        return;
    }
    if (!run->interrupted || status == STEP_COMPLETED)
        step_ended(s, status);
    run_advance(run);
}

/* ---- the graph ---- */

/* Is the step's turn? 1: yes; 0: not yet; -1: never. */
static int step_turn(const struct live_step *s)
{
    for (size_t k = 0; k < s->spec->needs.n; k++) {
        const struct live_step *need = &s->run->steps[s->spec->needs_index[k]];
        if (need->status < STEP_COMPLETED)
            return 0;
        if (need->status != STEP_COMPLETED)
            return -1;
    }
    return 1;
}

/* `if`: runs when the path finds something other than false or null. False: an error. */
static bool step_wanted(struct live_step *s, bool *ret_wanted)
{
    const struct path *p = s->run->program->conditions[s->index];
    *ret_wanted = true;
    if (!p)
        return true;
    struct error err = ERROR_INIT;
    if (condition_eval(p, run_context(s->run), ret_wanted, &err) == 0)
        return true;
    s->row.error_message = xasprintf("if: %s: %s", path_text(p), err.message);
    return false;
}

/* A pending step whose turn may have come. True: its status changed to a final one. */
static bool step_consider(struct live_step *s)
{
    bool wanted;
    int turn = step_turn(s);
    if (turn == 0)
        return false;
    if (turn < 0) {
        step_ended(s, STEP_SKIPPED);
        return true;
    }
    if (!step_wanted(s, &wanted)) {
        step_ended(s, STEP_FAILED);
        return true;
    }
    if (!wanted) {
        step_ended(s, STEP_SKIPPED);
        return true;
    }
    start_attempt(s);
    return false;
}

/* What the ends of its steps make of the run; *ret_step: the first that went wrong. */
static enum run_status run_verdict(const struct live_run *run, const struct live_step **ret_step)
{
    *ret_step = NULL;
    if (run->ending != RUN_RUNNING)
        return run->ending;
    enum run_status status = RUN_COMPLETED;
    const struct live_step *first = NULL;
    for (size_t i = 0; i < run->n_steps; i++) {
        const struct live_step *s = &run->steps[i];
        bool wrong = s->status == STEP_FAILED || s->status == STEP_TIMED_OUT || s->status == STEP_CANCELLED;
        if (wrong && (!first || s->row.completed_ms < first->row.completed_ms))
            first = s;
    }
    if (first)
        status = first->status == STEP_TIMED_OUT ? RUN_TIMED_OUT : RUN_FAILED;
    *ret_step = first;
    return status;
}

static void run_over(struct live_run *run)
{
    const struct live_step *s;
    enum run_status status = run_verdict(run, &s);
    if (run->ending != RUN_RUNNING) {
        run_finish(run, status, run->ending_why);
    } else if (s) {
        _cleanup_(freep) char *text =
            xasprintf("step \"%s\": %s", s->spec->id, s->row.error_message ? s->row.error_message : "failed");
        run_finish(run, status, text);
    } else {
        run_finish(run, status, NULL);
    }
}

/* Steps that ended are recorded as the run goes on; the last ones together with the run's own end. */
static void record_steps(struct live_run *run)
{
    struct batch *b = NULL;
    for (size_t i = 0; i < run->n_steps; i++) {
        struct live_step *s = &run->steps[i];
        if (s->status < STEP_COMPLETED || s->recorded)
            continue;
        if (!b)
            b = batch_new(run->engine, STORE_LAZY | STORE_KEEP, NULL, NULL);
        batch_step(b, s);
    }
    if (b)
        batch_submit(b);
}

void run_advance(struct live_run *run)
{
    if (run->finished)
        return;
    change_tell(run->engine, WATCHED_RUN, run->row.id);
    bool open = false, moved = true;
    while (moved && run->ending == RUN_RUNNING && !run->interrupted) {
        moved = false;
        open = false;
        for (size_t i = 0; i < run->n_steps; i++) {
            struct live_step *s = &run->steps[i];
            if (s->status == STEP_PENDING && !timer_active(&s->timer) && !s->retrying)
                moved = step_consider(s) || moved;
            open = open || s->status < STEP_COMPLETED;
        }
    }
    if (run->running > 0) {
        record_steps(run);
        return;
    }
    if (run->interrupted) {
        record_steps(run);
        run->finished = true;
        if (run->event && run->event->lane)
            lane_remove(run->event);
        slot_give(run);
        run_free(run);
        return;
    }
    if (run->ending != RUN_RUNNING) {
        for (size_t i = 0; i < run->n_steps; i++) {
            struct live_step *s = &run->steps[i];
            timer_stop(run->engine->timers, &s->timer);
            if (s->status < STEP_COMPLETED)
                step_ended(s, STEP_CANCELLED);
        }
        open = false;
    }
    if (open)
        record_steps(run); /* waits for a retry */
    else
        run_over(run);
}

/* ---- beginning and ending ---- */

static void schema_failed(void *ctx, const char *path, const char *message)
{
    struct buf *b = ctx;
    if (b->len > 400)
        return;
    buf_printf(b, "%sinputs%s%s: %s", b->len ? "; " : "", *path && *path != '[' ? "." : "", path, message);
}

/* NULL where the inputs fit the pipeline's schema, else what is wrong; free() it. */
static char *inputs_wrong(struct live_run *run)
{
    if (!run->program->inputs)
        return NULL;
    struct buf wrong = {0};
    struct error err = ERROR_INIT;
    int n = schema_validate(run->program->inputs, value_get(run_context(run), "inputs"), schema_failed, &wrong, &err);
    if (n < 0)
        buf_printf(&wrong, "inputs: %s", err.message);
    if (n != 0)
        return buf_steal(&wrong);
    buf_fini(&wrong);
    return NULL;
}

/* Why this machine must not run the pipeline; free() it. NULL: it may. */
static char *run_refused(const struct live_run *run)
{
    const char *why = NULL;
    const struct step *s = pipeline_refused(run->engine, run->spec, &why);
    return s ? xasprintf("step \"%s\": %s", s->id, why) : NULL;
}

void run_begin(struct live_run *run)
{
    struct engine *e = run->engine;
    if (run->finished)
        return;
    if (run->event)
        histogram_add(&e->start_times, (double)(engine_wall(e) - run->event->rec.occurred_ms) / 1000);
    _cleanup_(freep) char *wrong = run->ending == RUN_RUNNING ? run_refused(run) : NULL;
    if (!wrong && run->ending == RUN_RUNNING)
        wrong = inputs_wrong(run);
    if (wrong) {
        run_finish(run, RUN_FAILED, wrong);
        return;
    }
    if (run->spec->timeout_seconds > 0)
        timer_start(e->timers, &run->timeout, engine_now(e) + (int64_t)ceil(run->spec->timeout_seconds * 1000));
    run_advance(run);
}

static void start_recorded(struct batch *b, int result)
{
    struct live_run *run = b->ctx;
    struct store_port *store = b->engine->store;
    if (result < 0)
        return; /* the store closes: the note, if there is one, stays for the next life */
    change_tell(run->engine, WATCHED_RUN, run->row.id);
    change_tell(run->engine, WATCHED_PIPELINE, run->row.pipeline_id);
    if (run->note >= 0)
        store->clear_start(store, run->note);
    else
        run_begin(run);
    run->note = -1;
}

void run_start_recorded(struct live_run *run, struct batch *b)
{
    struct store_port *store = run->engine->store;
    run->note = store->note_start(store, run->row.id);
    bool noted = run->note >= 0;
    if (!noted)
        b->group.flags &= ~(unsigned)STORE_LAZY;
    b->done = start_recorded;
    b->ctx = run;
    batch_submit(b);
    if (noted)
        run_begin(run);
}

/* Nothing starts any more, and what runs is asked to end. */
static void end_calls(struct live_run *run)
{
    timer_stop(run->engine->timers, &run->timeout);
    /* cancel() never completes a call from inside; the list of steps stays. */
    for (size_t i = 0; i < run->n_steps; i++) {
        timer_stop(run->engine->timers, &run->steps[i].timer);
        cancel_call(&run->steps[i]);
    }
}

void run_end_early(struct live_run *run, enum run_status why, const char *text)
{
    if (run->finished || run->ending != RUN_RUNNING)
        return;
    run->ending = why;
    run->ending_why = xstrdup(text);
    end_calls(run);
    bool begun = !run->waiter.list && (run->event ? run->event->recorded : !run->started);
    if (run->waiter.list) {
        waiter_leave(&run->waiter);
        slots_pass_on(run->engine, run->pipeline);
    } else if (!begun)
        return; /* run_begin() sees it */
    if (run->running == 0)
        run_advance(run);
}

static void run_timer(struct timer *timer, void *ctx)
{
    (void)timer;
    struct live_run *run = ctx;
    _cleanup_(freep) char *text = xasprintf("the run timed out after %g s", run->spec->timeout_seconds);
    run_end_early(run, RUN_TIMED_OUT, text);
}

void run_interrupt(struct live_run *run)
{
    if (run->finished || run->interrupted)
        return;
    run->interrupted = true;
    waiter_leave(&run->waiter);
    end_calls(run);
    if (run->running == 0)
        run_advance(run);
}

/* ---- after a restart ---- */

struct live_run *run_restore(struct engine *e, struct live_pipeline *p, struct pipeline *spec,
                             struct pipeline_program *program, struct run_row *row, struct step_row *rows, size_t n,
                             struct live_event *ev)
{
    struct live_run *run = run_alloc(e, p, spec, program, row->id);
    belong_to(run, ev);
    run->row.seq = row->seq;
    run->row.status = row->status;
    run->row.attempt = row->attempt + (row->status == RUN_RUNNING);
    run->row.created_ms = row->created_ms;
    run->row.started_ms = row->started_ms;
    if (ev) {
        memcpy(run->row.event_id, ev->rec.id, sizeof(run->row.event_id));
        run->row.trigger_id = ev->rec.trigger_id;
        run->row.inputs = ev->rec.resolved_inputs;
        run->row.traceparent = ev->rec.traceparent;
    } else {
        run->row.inputs = steal(&row->inputs);
        run->row.traceparent = steal(&row->traceparent);
    }
    for (size_t i = 0; i < run->n_steps; i++) {
        struct live_step *s = &run->steps[i];
        s->attempt = run->row.attempt - 1; /* interrupted attempts count */
        for (size_t k = 0; k < n; k++) {
            if (!streq(rows[k].step_id, s->spec->id))
                continue;
            if (rows[k].status < STEP_COMPLETED) { /* it was to be tried again, and may have begun to */
                s->attempt = MAX(s->attempt, rows[k].attempt);
                s->row.started_ms = rows[k].started_ms;
                s->started_once = true;
                continue;
            }
            s->status = rows[k].status;
            s->attempt = rows[k].attempt;
            s->recorded = true;
            s->row.status = rows[k].status;
            s->row.attempt = rows[k].attempt;
            s->row.exit_code = rows[k].exit_code;
            s->row.term_signal = rows[k].term_signal;
            s->row.started_ms = rows[k].started_ms;
            s->row.completed_ms = rows[k].completed_ms;
            s->row.output = steal(&rows[k].output);
            s->row.error_message = steal(&rows[k].error_message);
            if (s->row.output)
                value_parse(s->row.output, strlen(s->row.output), &s->output, NULL);
        }
    }
    if (row->status == RUN_RUNNING)
        slot_take(run);
    return run;
}
