/* The end of a run: record it together with what follows from it (the events of triggers that wait for this
 * completion), so that no crash can come between; give back its slots; count. */
#include "engine/internal.h"

/* 1: found, 0: nothing there, which leaves the output out. */
static int output_value(const struct output *o, const cJSON *root, cJSON **ret, struct error *err)
{
    if (o->path)
        return path_value(o->path, root, ret, err);
    int r = template_expand(o->template, root, ret, err);
    return r == -ENOENT ? 0 : r < 0 ? r : 1;
}

/* The run's outputs as JSON text. False: an error text in *ret_error. */
static bool make_outputs(struct live_run *run, char **ret_text, char **ret_error)
{
    const struct pipeline_program *p = run->program;
    if (p->n_outputs == 0) {
        *ret_text = xstrdup("{}");
        return true;
    }
    cJSON *outputs = cJSON_CreateObject();
    for (size_t i = 0; i < p->n_outputs; i++) {
        cJSON *value = NULL;
        struct error err = ERROR_INIT;
        int r = output_value(&p->outputs[i], run_context(run), &value, &err);
        if (r < 0) {
            *ret_error = xasprintf("outputs.%s: %s", p->outputs[i].key, err.message);
            cJSON_Delete(outputs);
            return false;
        }
        if (r > 0)
            cJSON_AddItemToObject(outputs, p->outputs[i].key, value);
    }
    *ret_text = value_print(outputs);
    cJSON_Delete(outputs);
    return true;
}

/* `status` as triggers of completion see it: success, failed, timed_out, cancelled. */
static const char *completion_word(enum run_status s)
{
    return s == RUN_COMPLETED ? "success" : run_status_name(s);
}

/* Data of a completion: built as text around the outputs, which stay digit for digit. */
static char *completion_text(const struct live_run *run)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "source_pipeline_id", run->row.pipeline_id);
    cJSON_AddStringToObject(o, "source_run_id", run->row.id);
    cJSON_AddStringToObject(o, "status", completion_word(run->row.status));
    if (run->row.error_message)
        cJSON_AddStringToObject(o, "error", run->row.error_message);
    else
        cJSON_AddNullToObject(o, "error");
    _cleanup_(freep) char *head = value_print(o);
    cJSON_Delete(o);
    return xasprintf("%.*s,\"outputs\":%s}", (int)strlen(head) - 1, head, run->row.outputs ? run->row.outputs : "{}");
}

/* An occurrence that follows from a run: its chain is the event's, with the event's trigger at its end. */
void chain_from_run(const struct live_run *run, struct occurrence *o, char **ret_chain)
{
    const struct live_event *ev = run->event;
    *ret_chain = NULL;
    o->internal = true;
    o->depth = 1;
    o->traceparent = run->row.traceparent;
    if (!ev)
        return;
    *ret_chain = xasprintf("%s%s/", ev->rec.chain ? ev->rec.chain : "/", ev->rec.trigger_id);
    o->chain = *ret_chain;
    o->root_event_id = ev->rec.root_event_id;
    o->depth = ev->rec.depth + 1;
}

int engine_chain(struct engine *e, const char *run_id, struct occurrence *o, char **ret_chain)
{
    struct live_run *run = NULL;
    HASH_FIND_STR(e->runs, run_id, run);
    if (!run)
        return -ENOENT;
    chain_from_run(run, o, ret_chain);
    return 0;
}

static struct intake *publish_completion(struct live_run *run, struct batch *b)
{
    if (!channel_heard(run->engine, "pipeline_completed", run->row.pipeline_id))
        return NULL;
    _cleanup_(freep) char *text = completion_text(run);
    _cleanup_(freep) char *chain = NULL;
    cJSON *data = NULL;
    if (value_parse(text, strlen(text), &data, NULL) < 0)
        return NULL;
    struct occurrence o = {.event_type = "pipeline_completed", .data = data, .data_text = text};
    chain_from_run(run, &o, &chain);
    struct intake *in = intake_join(run->engine, "pipeline_completed", run->row.pipeline_id, &o, b);
    cJSON_Delete(data);
    return in;
}

/* ---- the event of the run ---- */

static void end_event(struct live_run *run, struct batch *b)
{
    struct live_event *ev = run->event;
    struct live_trigger *t = ev->trigger;
    int64_t failures = t->failures;
    switch (run->row.status) {
    case RUN_COMPLETED:
        ev->rec.status = EVENT_COMPLETED;
        t->failures = 0;
        break;
    case RUN_CANCELLED:
        ev->rec.status = EVENT_CANCELLED;
        break;
    default:
        ev->rec.status = EVENT_FAILED;
        t->failures++;
        break;
    }
    free(ev->rec.error_message);
    ev->rec.error_message = run->row.status == RUN_COMPLETED ? NULL : xstrdup0(run->row.error_message);
    ev->rec.completed_ms = run->row.completed_ms;
    batch_event_update(b, ev, false);
    if (t->spec->failure_threshold > 0 && t->failures != failures)
        trigger_save(t);
    if (t->spec->failure_threshold > 0 && t->failures >= t->spec->failure_threshold && !t->removed)
        trigger_latch(t, "%" PRId64 " runs failed in a row; the last: %s", t->failures,
                      run->row.error_message ? run->row.error_message : "");
}

static void finish_done(struct batch *b, int result)
{
    struct intake *in = b->ctx;
    if (in)
        intake_joined(in, result);
}

void run_finish(struct live_run *run, enum run_status status, const char *error)
{
    struct engine *e = run->engine;
    if (run->finished)
        return;
    run->finished = true;
    timer_stop(e->timers, &run->timeout);
    char *outputs = NULL, *outputs_error = NULL;
    if (status == RUN_COMPLETED && !make_outputs(run, &outputs, &outputs_error)) {
        status = RUN_FAILED;
        error = outputs_error;
    }
    run->row.status = status;
    run->pipeline->ended[status]++;
    run->row.outputs = outputs;
    run->row.error_message = xstrdup0(error);
    run->row.completed_ms = engine_wall(e);
    histogram_add(&e->run_times, (double)(run->row.completed_ms - run->row.started_ms) / 1000);
    free(outputs_error);

    struct live_event *ev = run->event;
    struct live_trigger *t = ev ? ev->trigger : NULL;
    if (t) {
        t->pins++;
        rounds_run_ended(t, run);
    }
    struct lane *lane = ev ? ev->lane : NULL;
    if (lane) {
        lane->busy++;
        lane_remove(ev);
    }
    struct batch *b = batch_new(e, STORE_LAZY | STORE_KEEP, finish_done, NULL);
    for (size_t i = 0; i < run->n_steps; i++)
        if (run->steps[i].status >= STEP_COMPLETED && !run->steps[i].recorded)
            batch_step(b, &run->steps[i]);
    batch_run_update(b, run);
    if (ev)
        end_event(run, b);
    b->ctx = publish_completion(run, b);
    batch_submit(b);
    slot_give(run);
    if (lane) {
        lane->busy--;
        lane_pump(lane);
    }
    if (t) {
        t->pins--;
        trigger_source_flow(t);
        trigger_reap(t);
    }
}
