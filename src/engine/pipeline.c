/* Pipelines while they run: coming, changing, going; runs by hand. */
#include "engine/internal.h"

struct live_pipeline *pipeline_slot(struct engine *e, const char *id)
{
    struct live_pipeline *p = NULL;
    HASH_FIND_STR(e->pipelines, id, p);
    if (p)
        return p;
    p = xcalloc(1, sizeof(*p));
    p->engine = e;
    p->id = xstrdup(id);
    HASH_ADD_KEYPTR(hh, e->pipelines, p->id, strlen(p->id), p);
    return p;
}

void pipeline_leave(struct live_trigger *t)
{
    struct live_pipeline *p = t->slot;
    if (!p)
        return;
    DL_DELETE2(p->triggers, t, slot_prev, slot_next);
    t->slot = NULL;
    pipeline_free(p);
}

void pipeline_join(struct live_trigger *t)
{
    struct live_pipeline *p = pipeline_slot(t->engine, t->spec->pipeline_id);
    if (p == t->slot)
        return;
    pipeline_leave(t);
    DL_APPEND2(p->triggers, t, slot_prev, slot_next);
    t->slot = p;
}

struct live_pipeline *engine_find_pipeline(struct engine *e, const char *id)
{
    struct live_pipeline *p = NULL;
    HASH_FIND_STR(e->pipelines, id, p);
    return p && p->present ? p : NULL;
}

void pipeline_free(struct live_pipeline *p)
{
    if (p->present || p->n_runs > 0 || p->waiters || p->triggers)
        return;
    HASH_DELETE(hh, p->engine->pipelines, p);
    pipeline_program_unref(p->program);
    pipeline_unref(p->spec);
    conditions_fini(&p->conditions);
    free(p->id);
    origin_unref(p->origin);
    free(p->content);
    free(p);
}

static void save(struct live_pipeline *p)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddItemToObject(o, "generation", value_number_from_int(p->generation));
    cJSON_AddItemToObject(o, "observed", value_number_from_int(p->observed_generation));
    cJSON_AddItemToObject(o, "created", value_number_from_int(p->created_ms));
    cJSON_AddItemToObject(o, "updated", value_number_from_int(p->updated_ms));
    cJSON_AddStringToObject(o, "content", p->content);
    _cleanup_(freep) char *text = value_print(o);
    cJSON_Delete(o);
    struct batch *b = batch_new(p->engine, STORE_LAZY | STORE_KEEP, NULL, NULL);
    store_add_kv_put(&b->group, "pipeline", p->id, strlen(p->id), text, strlen(text));
    batch_submit(b);
}

static char *spec_hash(const struct pipeline *spec)
{
    cJSON *o = fields_print(&pipeline_fields, spec, false);
    _cleanup_(freep) char *text = value_print(o);
    cJSON_Delete(o);
    return content_hash(text);
}

/* New here: what the store knew of this id. */
static void restore(struct live_pipeline *p, int64_t now)
{
    cJSON *state = saved_take(p->engine, "pipeline", p->id);
    bool same = state && streq(value_get_string(state, "content"), p->content);
    p->generation = p->observed_generation = 1;
    p->created_ms = p->updated_ms = now;
    if (state) {
        value_integer(value_get(state, "generation"), &p->generation);
        value_integer(value_get(state, "created"), &p->created_ms);
        if (same)
            value_integer(value_get(state, "updated"), &p->updated_ms);
        p->generation += !same;
        p->observed_generation = p->generation;
        if (same)
            value_integer(value_get(state, "observed"), &p->observed_generation);
    }
    cJSON_Delete(state);
}

const struct step *pipeline_refused(struct engine *e, const struct pipeline *spec, const char **ret_why)
{
    for (size_t i = 0; i < spec->n_steps; i++) {
        const struct step_type *type = container_of(spec->steps[i].kind, const struct step_type, kind);
        *ret_why = type->refused ? type->refused(&spec->steps[i], &e->options.step_env) : NULL;
        if (*ret_why)
            return &spec->steps[i];
    }
    return NULL;
}

/* `Runnable` is there where it is False. */
static void fit(struct live_pipeline *p)
{
    const char *why = NULL;
    const struct step *s = pipeline_refused(p->engine, p->spec, &why);
    _cleanup_(freep) char *text = s ? xasprintf("step \"%s\": %s", s->id, why) : NULL;
    if (s)
        condition_set(&p->conditions, "Runnable", CONDITION_FALSE, "Refused", text, engine_wall(p->engine),
                      p->observed_generation);
    else
        condition_remove(&p->conditions, "Runnable");
    change_tell(p->engine, WATCHED_PIPELINE, p->id);
}

void engine_fit_pipelines(struct engine *e)
{
    struct live_pipeline *p, *tmp;
    HASH_ITER (hh, e->pipelines, p, tmp) {
        if (p->present)
            fit(p);
    }
}

void engine_put_pipeline(struct engine *e, struct pipeline *spec, struct origin *origin, unsigned line)
{
    struct live_pipeline *p = pipeline_slot(e, spec->id);
    bool created = !p->present;
    bool changed = created || !pipeline_equal(p->spec, spec);
    set_origin(&p->origin, origin);
    p->line = line;
    if (changed) {
        struct issues none = ISSUES_INIT;
        struct pipeline_program *program = NULL;
        pipeline_program_compile(spec, NULL, e->options.step_types, &none, &program);
        issues_fini(&none);
        if (!program)
            return; /* it was checked before it came here */
        struct pipeline *old = p->spec;
        pipeline_program_unref(p->program);
        p->program = program;
        p->spec = pipeline_ref(spec);
        pipeline_unref(old);
        bool known = p->content != NULL;
        free(p->content);
        p->content = spec_hash(spec);
        if (!known) {
            restore(p, engine_wall(e));
        } else {
            p->generation++;
            p->observed_generation = p->generation;
            p->updated_ms = engine_wall(e);
        }
        p->present = true;
        save(p);
    }
    if (!created)
        p->observed_generation = p->generation;
    condition_set(&p->conditions, "Accepted", CONDITION_TRUE, "Valid", NULL, engine_wall(e), p->observed_generation);
    fit(p);
    if (created)
        triggers_of_pipeline_refresh(e, p->id);
    else if (changed)
        while (p->waiters && slot_free(e, p) && !e->draining)
            waiter_wake(e, &p->waiters);
}

void engine_remove_pipeline(struct engine *e, const char *id)
{
    struct live_pipeline *p = engine_find_pipeline(e, id);
    if (!p)
        return;
    p->present = false;
    struct batch *b = batch_new(e, STORE_LAZY | STORE_KEEP, NULL, NULL);
    store_add_kv_delete(&b->group, "pipeline", id, strlen(id));
    batch_submit(b);
    /* Those who waited for a slot find that it is gone: lanes when their triggers are looked at below, runs here. */
    struct live_run *run, *tmp;
    HASH_ITER (hh, e->runs, run, tmp) {
        if (run->pipeline == p && run->waiter.list)
            run_end_early(run, RUN_CANCELLED, "the pipeline was deleted");
    }
    while (p->waiters)
        waiter_leave(p->waiters);
    pipeline_program_unref(p->program); /* runs have it too; what steps keep for it (workers) ends with the last */
    p->program = NULL;
    _cleanup_(freep) char *copy = xstrdup(id);
    pipeline_free(p);
    triggers_of_pipeline_refresh(e, copy);
}

void engine_pipeline_rejected(struct engine *e, const char *id, const char *message)
{
    struct live_pipeline *p = engine_find_pipeline(e, id);
    if (!p)
        return;
    const struct condition *accepted = condition_find(&p->conditions, "Accepted");
    bool was = accepted && accepted->status == CONDITION_FALSE;
    if (message && (was ? !streq(accepted->message, message) : p->generation == p->observed_generation)) {
        p->generation++; /* as of a trigger that is rejected */
        save(p);
    }
    condition_set(&p->conditions, "Accepted", message ? CONDITION_FALSE : CONDITION_TRUE, message ? "Invalid" : "Valid",
                  message, engine_wall(e), p->observed_generation);
}

/* ---- by hand ---- */

static void hand_recorded(struct batch *b, int result)
{
    struct live_run *run = b->ctx;
    engine_run_fn *started = run->started;
    run->started = NULL;
    if (result < 0) {
        started(run->started_ctx, result, NULL, "nothing was recorded");
        run->finished = true; /* freed with the batch */
        return;
    }
    started(run->started_ctx, 0, run->row.id, NULL);
    change_tell(run->engine, WATCHED_RUN, run->row.id);
    run_try(run);
}

int engine_run_pipeline(struct engine *e, const char *pipeline_id, cJSON *inputs, const char *traceparent,
                        engine_run_fn *done, void *ctx)
{
    struct live_pipeline *p = engine_find_pipeline(e, pipeline_id);
    int r = !e->started                         ? -ESHUTDOWN
            : !p                                ? -ENOENT
            : e->draining || !e->options.firing ? -ESHUTDOWN
            : !e->store->writable(e->store)     ? -ENOSPC
                                                : 0;
    if (r < 0) {
        cJSON_Delete(inputs);
        return r;
    }
    char run_id[ID_SIZE];
    id_next(&e->ids, "run_", run_id);
    struct live_run *run = run_create(e, p, NULL, run_id);
    run->row.inputs = value_print(inputs);
    char *taken = trace_take(traceparent);
    run->row.traceparent = taken ? taken : trace_new(e);
    cJSON_Delete(inputs);
    run->started = done;
    run->started_ctx = ctx;
    struct batch *b = batch_new(e, 0, hand_recorded, run);
    batch_run_insert(b, run);
    batch_submit(b);
    return 0;
}

int engine_cancel_run(struct engine *e, const char *run_id, const char *why, engine_done_fn *done, void *ctx)
{
    struct live_run *run = NULL;
    HASH_FIND_STR(e->runs, run_id, run);
    struct live_event *waiting = run ? NULL : find_waiting_run(e, run_id);
    if (waiting) {
        event_cancel_pending(waiting, why, done, ctx);
        return 1;
    }
    if (!run || run->finished)
        return -ENOENT;
    run_end_early(run, RUN_CANCELLED, why);
    return 0;
}
