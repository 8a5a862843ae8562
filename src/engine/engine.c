/* The engine as a whole: its life from load to drain. */
#include "engine/internal.h"

static const struct kind **kinds_of(const void *const *types)
{
    size_t n = 0;
    while (types[n])
        n++;
    const struct kind **kinds = xcalloc(n + 1, sizeof(*kinds));
    for (size_t i = 0; i < n; i++)
        kinds[i] = types[i]; /* a kind is the first member of its type */
    return kinds;
}

static void drain_checked(struct timer *timer, void *ctx);
static void drain_expired(struct timer *timer, void *ctx);

int engine_create(const struct engine_options *options, struct engine **ret, struct error *err)
{
    (void)err;
    struct engine *e = xcalloc(1, sizeof(*e));
    e->options = *options;
    e->options.step_env.engine = e;
    e->store = options->source_env.store;
    e->clock = options->source_env.clock;
    e->timers = options->source_env.timers;
    e->random = options->source_env.random;
    e->max_runs = options->max_runs ? options->max_runs : MAX_RUNS_DEFAULT;
    e->max_pending_bytes = options->max_pending_bytes ? options->max_pending_bytes : PENDING_BYTES_DEFAULT;
    e->max_chain_depth = options->max_chain_depth ? options->max_chain_depth : MAX_CHAIN_DEPTH_DEFAULT;
    id_source_init(&e->ids, e->clock, e->random);
    e->source_kinds = kinds_of((const void *const *)options->source_types);
    e->step_kinds = kinds_of((const void *const *)options->step_types);
    timer_init(&e->drain_check, drain_checked, e);
    timer_init(&e->drain_deadline, drain_expired, e);
    *ret = e;
    return 0;
}

const struct kind *const *engine_source_kinds(const struct engine *e)
{
    return e->source_kinds;
}

const struct kind *const *engine_step_kinds(const struct engine *e)
{
    return e->step_kinds;
}

void engine_say(struct engine *e, const char *trigger_id, const char *format, ...)
{
    if (!e->options.log)
        return;
    va_list args;
    va_start(args, format);
    _cleanup_(freep) char *text = xvasprintf(format, args);
    va_end(args);
    e->options.log(e->options.ctx, trigger_id, text);
}

void engine_start(struct engine *e)
{
    e->started = true;
    struct live_trigger *t, *tmp;
    /* Not one by one as the triggers came: what a write takes would leave holes between what stays. */
    for (t = e->triggers; t; t = t->hh.next)
        if (t->state_dirty)
            trigger_save(t);
    if (e->options.firing)
        recover_start(e);
    HASH_ITER (hh, e->triggers, t, tmp) {
        t->pins++;
        trigger_source_start(t);
        t->pins--;
        trigger_pump(t);
    }
}

/* ---- the drain ---- */

void drain_progress(struct engine *e)
{
    if (e->draining && e->drained)
        timer_start(e->timers, &e->drain_check, engine_now(e));
}

static void drain_checked(struct timer *timer, void *ctx)
{
    (void)timer;
    struct engine *e = ctx;
    if (!e->drained || e->runs || e->batches > 0 || e->reading > 0)
        return;
    for (struct live_trigger *t = e->triggers; t; t = t->hh.next)
        trigger_source_stop(t);
    if (e->sources > 0)
        return;
    void (*done)(void *) = e->drained;
    e->drained = NULL;
    timer_stop(e->timers, &e->drain_deadline);
    done(e->drained_ctx);
}

static void drain_expired(struct timer *timer, void *ctx)
{
    (void)timer;
    struct engine *e = ctx;
    struct live_run *run, *tmp;
    HASH_ITER (hh, e->runs, run, tmp) {
        run_interrupt(run);
    }
    drain_progress(e);
}

void engine_drain(struct engine *e, int64_t grace_ms, void (*done)(void *ctx), void *ctx)
{
    e->draining = true;
    e->drained = done;
    e->drained_ctx = ctx;
    struct live_trigger *t, *tmp;
    HASH_ITER (hh, e->triggers, t, tmp) {
        timer_stop(e->timers, &t->cooldown);
        if (!t->type->settles_late)
            trigger_source_stop(t);
        else if (t->source && !t->source_paused)
            t->type->pause(t->source); /* the runs that go on have messages of it to settle */
    }
    /* Runs by hand that still wait for a slot are found again at the next start. */
    struct live_run *run, *next;
    HASH_ITER (hh, e->runs, run, next) {
        if (run->waiter.list)
            run_interrupt(run);
    }
    timer_start(e->timers, &e->drain_deadline, engine_now(e) + grace_ms);
    drain_progress(e);
}

/* ---- the end ---- */

static void free_pending(struct live_trigger *t)
{
    struct lane *l = t->lanes, *next_lane;
    HASH_CLEAR(hh, t->lanes); /* the table alone; the lanes stay linked */
    for (; l; l = next_lane) {
        next_lane = l->hh.next;
        struct live_event *ev, *next;
        DL_FOREACH_SAFE (l->pending, ev, next) {
            event_free(ev);
        }
        waiter_leave(&l->waiter);
        free(l->key);
        free(l);
    }
    while (t->latest) {
        struct live_event *ev = t->latest;
        t->latest = ev->supersedes;
        event_free(ev);
    }
}

void engine_destroy(struct engine *e)
{
    if (!e)
        return;
    struct live_trigger *t, *next;
    HASH_ITER (hh, e->triggers, t, next) {
        free_pending(t);
        trigger_free(t);
    }
    struct live_pipeline *p, *next_pipeline;
    HASH_ITER (hh, e->pipelines, p, next_pipeline) {
        p->present = false;
        p->n_runs = 0;
        p->waiters = NULL;
        pipeline_free(p);
    }
    channel_free_all(e);
    saved_free(e);
    timer_stop(e->timers, &e->drain_check);
    timer_stop(e->timers, &e->drain_deadline);
    conditions_fini(&e->everywhere);
    free(e->source_kinds);
    free(e->step_kinds);
    free(e);
}
