/* Looking at what lives, for the views. */
#include "engine/internal.h"

void trigger_look(struct live_trigger *t, struct trigger_view *ret)
{
    static const int64_t none[DECISION_N];
    *ret = (struct trigger_view){
        .spec = t->spec,
        .status = trigger_status(t),
        .error_message = t->latched                              ? t->latched
                         : t->source_state == LIVE_SOURCE_FAILED ? t->source_message
                                                                 : NULL,
        .conditions = &t->conditions,
        .generation = t->generation,
        .observed_generation = t->observed_generation,
        .created_ms = t->created_ms,
        .updated_ms = t->updated_ms,
        .last_triggered_ms = t->last_triggered_ms,
        .trigger_count = t->trigger_count,
        .decisions = t->decisions ? t->decisions : none,
        .filtered = trigger_filtered_count(t),
        .pending = t->n_pending,
        .executing = t->n_running,
        .source_lag = t->source_lag,
        .origin = t->origin,
        .line = t->line,
    };
}

const struct histogram *engine_start_times(const struct engine *e)
{
    return &e->start_times;
}

const struct histogram *engine_run_times(const struct engine *e)
{
    return &e->run_times;
}

/* Ids in order, so that lists are stable. */
static int by_trigger_id(const struct live_trigger *a, const struct live_trigger *b)
{
    return strcmp(a->id, b->id);
}

/* The map keeps an order, which is that of ids from here on, until another one is added. */
void engine_each_trigger(struct engine *e, void (*fn)(void *ctx, struct live_trigger *t), void *ctx)
{
    if (!e->triggers_sorted)
        HASH_SORT(e->triggers, by_trigger_id);
    e->triggers_sorted = true;
    for (struct live_trigger *t = e->triggers; t; t = t->hh.next)
        if (!t->removed)
            fn(ctx, t);
}

static int by_pipeline_id(const void *a, const void *b)
{
    const struct live_pipeline *const *x = a, *const *y = b;
    return strcmp((*x)->id, (*y)->id);
}

void engine_each_pipeline(struct engine *e, void (*fn)(void *ctx, struct live_pipeline *p), void *ctx)
{
    size_t n = 0;
    _cleanup_(freep) struct live_pipeline **list = xcalloc(HASH_COUNT(e->pipelines), sizeof(*list));
    for (struct live_pipeline *p = e->pipelines; p; p = p->hh.next)
        if (p->present)
            list[n++] = p;
    qsort(list, n, sizeof(*list), by_pipeline_id);
    for (size_t i = 0; i < n; i++)
        fn(ctx, list[i]);
}

void pipeline_look(struct live_pipeline *p, struct pipeline_view *ret)
{
    *ret = (struct pipeline_view){
        .spec = p->spec,
        .conditions = &p->conditions,
        .generation = p->generation,
        .observed_generation = p->observed_generation,
        .created_ms = p->created_ms,
        .updated_ms = p->updated_ms,
        .running = p->n_running,
        .ended = p->ended,
        .origin = p->origin,
        .line = p->line,
    };
}

static void add_time(cJSON *o, const char *key, int64_t ms)
{
    char when[TIME_TEXT_SIZE];
    if (ms > 0) {
        time_format(ms, when);
        cJSON_AddStringToObject(o, key, when);
    } else {
        cJSON_AddNullToObject(o, key);
    }
}

static struct live_run *run_of(struct engine *e, const char *run_id)
{
    struct live_run *run = NULL;
    HASH_FIND_STR(e->runs, run_id, run);
    return run;
}

int64_t engine_run_began_ms(struct engine *e, const char *run_id)
{
    const struct live_run *run = run_of(e, run_id);
    return run && run->row.status == RUN_RUNNING ? run->row.started_ms : 0;
}

const struct event *engine_waiting_run(struct engine *e, const char *run_id)
{
    const struct live_event *ev = find_waiting_run(e, run_id);
    return ev ? &ev->rec : NULL;
}

cJSON *engine_run_steps(struct engine *e, const char *run_id)
{
    struct live_run *run = run_of(e, run_id);
    if (!run)
        return NULL;
    static const char *const unknown[] = {"exit_code", "signal", "output", "error_message"}; /* before its end */
    cJSON *list = cJSON_CreateArray();
    for (size_t i = 0; i < run->n_steps; i++) {
        const struct live_step *s = &run->steps[i];
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "id", s->spec->id);
        cJSON_AddStringToObject(o, "status", step_status_name(s->status));
        cJSON_AddNumberToObject(o, "attempt", s->attempt);
        for (size_t k = 0; k < ARRAY_SIZE(unknown); k++)
            cJSON_AddNullToObject(o, unknown[k]);
        add_time(o, "started_at", s->row.started_ms);
        add_time(o, "completed_at", s->status >= STEP_COMPLETED ? s->row.completed_ms : 0);
        cJSON_AddItemToArray(list, o);
    }
    return list;
}

ssize_t engine_step_peek(struct engine *e, const char *run_id, const char *step_id, bool standard_error, size_t offset,
                         const char **ret_data)
{
    struct live_run *run = run_of(e, run_id);
    for (size_t i = 0; run && i < run->n_steps; i++) {
        struct live_step *s = &run->steps[i];
        if (!streq(s->spec->id, step_id))
            continue;
        if (s->call)
            return s->call->type->peek ? (ssize_t)s->call->type->peek(s->call, standard_error, offset, ret_data) : 0;
        const char *text = standard_error ? s->row.err : s->row.out;
        size_t len = standard_error ? s->row.err_len : s->row.out_len;
        *ret_data = text && offset < len ? text + offset : "";
        return (ssize_t)(text && offset < len ? len - offset : 0);
    }
    return -ENOENT;
}

void engine_listen(struct engine *e, struct feed_listener *l)
{
    DL_APPEND(e->listeners, l);
}

void engine_unlisten(struct engine *e, struct feed_listener *l)
{
    DL_DELETE(e->listeners, l);
}

void engine_watch(struct engine *e, struct change_listener *l)
{
    e->watcher = l;
}

void change_tell(struct engine *e, enum watched what, const char *id)
{
    if (e->watcher)
        e->watcher->fn(e->watcher, what, id);
}

void step_printed(struct step_call *call)
{
    change_tell(container_of(call, struct attempt, call)->step->run->engine, WATCHED_RUN, call->run_id);
}

void feed_tell(struct engine *e, const struct event *ev)
{
    struct feed_listener *l, *tmp;
    DL_FOREACH_SAFE (e->listeners, l, tmp) {
        l->fn(l, ev);
    }
}
