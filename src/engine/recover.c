/* After a start: what the last life left open goes on. Pending events wait again; events that were executing run again
 * with attempt + 1, keeping the steps whose end was recorded; all of it before anything new fires. */
#include "engine/internal.h"

struct saved_state {
    char *key; /* `scope/id` */
    cJSON *state;
    UT_hash_handle hh;
};

struct open_run {
    struct open_run *next;
    char id[ID_SIZE];
};

struct loading {
    struct engine *engine;
    const char *scope;
};

static int take_state(void *ctx, const char *key, size_t key_len, const char *value, size_t value_len)
{
    struct loading *l = ctx;
    cJSON *state = NULL;
    int64_t count, last;
    if (streq(l->scope, "fired")) { /* a tally */
        char text[64];
        snprintf(text, sizeof(text), "%.*s", (int)value_len, value);
        if (sscanf(text, "%" SCNd64 " %" SCNd64, &count, &last) < 2)
            return 0;
        state = cJSON_CreateObject();
        cJSON_AddItemToObject(state, "count", value_number_from_int(count));
        cJSON_AddItemToObject(state, "last", value_number_from_int(last));
    } else if (value_parse(value, value_len, &state, NULL) < 0) {
        return 0;
    }
    struct saved_state *s = xcalloc(1, sizeof(*s));
    s->key = xasprintf("%s/%.*s", l->scope, (int)key_len, key);
    s->state = state;
    HASH_ADD_KEYPTR(hh, l->engine->saved, s->key, strlen(s->key), s);
    return 0;
}

cJSON *saved_take(struct engine *e, const char *scope, const char *id)
{
    _cleanup_(freep) char *key = xasprintf("%s/%s", scope, id);
    struct saved_state *s = NULL;
    HASH_FIND_STR(e->saved, key, s);
    if (!s)
        return NULL;
    cJSON *state = s->state;
    HASH_DELETE(hh, e->saved, s);
    free(s->key);
    free(s);
    return state;
}

void saved_free(struct engine *e)
{
    struct saved_state *s = e->saved, *next_state;
    HASH_CLEAR(hh, e->saved); /* the table alone; the states stay linked */
    for (; s; s = next_state) {
        next_state = s->hh.next;
        cJSON_Delete(s->state);
        free(s->key);
        free(s);
    }
    struct live_event *ev, *next;
    DL_FOREACH_SAFE (e->orphaned, ev, next) {
        event_free(ev);
    }
    e->orphaned = NULL;
    while (e->open_runs) {
        struct open_run *r = e->open_runs;
        e->open_runs = r->next;
        free(r);
    }
}

static int take_event(void *ctx, struct event *row)
{
    struct engine *e = ctx;
    struct live_event *ev = xcalloc(1, sizeof(*ev));
    ev->rec = *row;
    *row = (struct event){0}; /* taken */
    ev->recorded = true;
    DL_APPEND(e->orphaned, ev);
    id_source_after(&e->ids, ev->rec.id);
    return 0;
}

static int take_run(void *ctx, struct run_row *row)
{
    struct engine *e = ctx;
    if (row->event_id[0])
        return 0; /* found through its event */
    struct open_run *r = xcalloc(1, sizeof(*r));
    memcpy(r->id, row->id, sizeof(r->id));
    LL_APPEND(e->open_runs, r);
    return 0;
}

int engine_load(struct engine *e, struct error *err)
{
    static const char *const scopes[] = {"trigger", "pipeline", "fired"};
    for (size_t i = 0; i < ARRAY_SIZE(scopes); i++) {
        struct loading l = {e, scopes[i]};
        int r = e->store->load_kv(e->store, scopes[i], take_state, &l, err);
        if (r < 0)
            return r;
    }
    int r = e->store->load_open_events(e->store, take_event, e, err);
    return r < 0 ? r : e->store->load_open_runs(e->store, take_run, e, err);
}

/* ---- taking up ---- */

/* The pipeline as the run began with it, from its row. */
static int old_pipeline(struct engine *e, const struct run_row *row, struct pipeline **ret_spec,
                        struct pipeline_program **ret_program)
{
    cJSON *doc = NULL;
    struct issues issues = ISSUES_INIT;
    struct pipeline *spec = NULL;
    int r = row->pipeline_text ? value_parse(row->pipeline_text, strlen(row->pipeline_text), &doc, NULL) : -ENOENT;
    if (r == 0)
        r = pipeline_parse(doc, e->step_kinds, &spec, &issues);
    if (r == 0)
        r = pipeline_program_compile(spec, NULL, e->options.step_types, &issues, ret_program);
    if (r == 0)
        *ret_spec = spec;
    else
        pipeline_unref(spec);
    issues_fini(&issues);
    cJSON_Delete(doc);
    return r;
}

static void restored(struct batch *b, int result)
{
    struct live_run *run = b->ctx;
    if (result < 0)
        run_interrupt(run);
    else if (run->has_slot || run->finished)
        run_begin(run);
    else
        run_try(run); /* by hand, and it never had its turn */
}

/* With the numbers of what its steps begin with, where that is not the run's own. */
static void record_taken_up(struct batch *b, struct live_run *run)
{
    batch_run_update(b, run);
    for (size_t i = 0; i < run->n_steps; i++)
        if (run->steps[i].status == STEP_PENDING && run->steps[i].started_once)
            batch_retry(b, &run->steps[i]);
    batch_submit(b);
}

static void row_closed(struct batch *b, int result)
{
    (void)result;
    struct run_row *row = b->ctx;
    run_row_fini(row);
    free(row);
}

/* A run whose pipeline cannot be read any more (its kinds of steps are not known here) is not left open. Takes what the
 * row owns. */
static void close_row(struct engine *e, struct run_row *row)
{
    struct run_row *copy = xmemdup(row, sizeof(*row));
    *row = (struct run_row){0};
    copy->status = RUN_FAILED;
    copy->completed_ms = engine_wall(e);
    free(copy->error_message);
    copy->error_message = xstrdup("interrupted by a restart of triggerd, and its pipeline cannot be read any more");
    struct batch *b = batch_new(e, STORE_LAZY | STORE_KEEP, row_closed, copy);
    store_add_run_update(&b->group, copy);
    batch_submit(b);
}

/* Build the run again from its rows; NULL where that is not possible. */
static struct live_run *rebuild(struct engine *e, const char *run_id, struct live_event *ev)
{
    struct run_row row = {0};
    struct step_row *rows = NULL;
    size_t n = 0;
    struct live_run *run = NULL;
    struct pipeline *spec = NULL;
    struct pipeline_program *program = NULL;
    if (e->store->load_run(e->store, run_id, &row, &rows, &n, NULL) < 0)
        return NULL;
    if (old_pipeline(e, &row, &spec, &program) == 0) {
        if (row.status == RUN_PENDING && e->store->start_left(e->store, run_id))
            row.attempt++; /* it had started, and that was not on disk yet */
        run = run_restore(e, pipeline_slot(e, spec->id), spec, program, &row, rows, n, ev);
        pipeline_program_unref(program);
        pipeline_unref(spec);
    } else {
        close_row(e, &row);
    }
    for (size_t i = 0; i < n; i++)
        step_row_fini(&rows[i]);
    free(rows);
    run_row_fini(&row);
    return run;
}

static void fail_open(struct live_event *ev, const char *why)
{
    if (ev->rec.status == EVENT_PENDING) { /* it fired, too */
        ev->trigger->last_fire_ms = engine_now(ev->trigger->engine);
        trigger_fired(ev->trigger, ev->internal, engine_wall(ev->trigger->engine));
    }
    ev->trigger->n_pending++; /* event_end_pending() takes it out again */
    event_end_pending(ev, EVENT_FAILED, DECISION_FIRED, "%s", why);
}

/* It is not to run again? Then why; free() it. */
static char *given_up(const struct live_event *ev)
{
    const struct trigger *spec = ev->trigger->spec;
    if (spec->on_interrupt == INTERRUPT_FAIL)
        return xstrdup("interrupted by a restart of triggerd (on_interrupt: fail)");
    if (ev->rec.attempt > spec->max_interruptions)
        return xasprintf("interrupted %d times (max_interruptions: %" PRId64 ")", ev->rec.attempt,
                         spec->max_interruptions);
    return NULL;
}

/* The run ends as failed, as any other would: recorded with its event, and told to who waits for its completion. */
static void give_up(struct live_event *ev)
{
    _cleanup_(freep) char *why = given_up(ev);
    struct live_run *run = rebuild(ev->trigger->engine, ev->rec.run_id, ev);
    if (!run) { /* (or its start was not recorded) */
        fail_open(ev, why);
        return;
    }
    ev->run = run;
    run->row.attempt = ev->rec.attempt;
    run_finish(run, RUN_FAILED, why);
}

static void take_up_executing(struct live_event *ev)
{
    struct live_trigger *t = ev->trigger;
    struct engine *e = t->engine;
    struct live_run *run = rebuild(e, ev->rec.run_id, ev);
    if (!run) {
        fail_open(ev, "interrupted by a restart of triggerd, and its run could not be read back");
        return;
    }
    ev->run = run;
    ev->rec.attempt = run->row.attempt;
    lane_occupy(lane_get(t, ev->rec.concurrency_key), ev);
    struct batch *b = batch_new(e, STORE_KEEP, restored, run);
    batch_event_update(b, ev, false);
    record_taken_up(b, run);
}

static void counted(struct batch *b, int result)
{
    struct live_event *ev = b->ctx;
    if (result < 0)
        return; /* the store closes */
    if (ev->trigger->removed)
        event_end_pending(ev, EVENT_CANCELLED, ev->rec.decision, "the trigger was deleted");
    else
        event_confirmed_waiting(ev);
}

/* It had started, and that was not on disk yet: it is the first of its lane, and its next attempt has a number of its
 * own, which is recorded before that can start. */
static void take_up_started(struct live_event *ev)
{
    struct live_trigger *t = ev->trigger;
    ev->rec.attempt++;
    ev->rec.decision = DECISION_CONCURRENCY;
    free(ev->rec.reason);
    ev->rec.reason = xstrdup("waits to start again: interrupted by a restart of triggerd");
    ev->recorded = false;
    lane_push(lane_get(t, ev->rec.concurrency_key), ev);
    struct batch *b = batch_new(t->engine, STORE_KEEP, counted, ev);
    batch_event_update(b, ev, false);
    batch_submit(b);
}

static void take_up_pending(struct live_event *ev, bool started)
{
    struct live_trigger *t = ev->trigger;
    if (started && !t->removed) {
        take_up_started(ev);
    } else if (t->removed) {
        t->n_pending++;
        event_end_pending(ev, EVENT_CANCELLED, ev->rec.decision, "the trigger was deleted");
    } else if (ev->rec.decision == DECISION_COOLDOWN && t->spec->cooldown_policy == COOLDOWN_LATEST) {
        struct live_event *old = t->latest;
        t->latest = ev;
        t->n_pending++;
        if (old) { /* the crash came before it was superseded, or the policy was another then: nothing is lost */
            t->n_pending--;
            lane_push(lane_get(t, old->rec.concurrency_key), old);
        }
        cooldown_arm(t);
    } else {
        lane_push(lane_get(t, ev->rec.concurrency_key), ev);
        event_unload(ev);
    }
}

static void take_up_by_hand(struct engine *e)
{
    while (e->open_runs) {
        struct open_run *r = e->open_runs;
        e->open_runs = r->next;
        struct live_run *run = rebuild(e, r->id, NULL);
        if (run) {
            struct batch *b = batch_new(e, STORE_KEEP, restored, run);
            record_taken_up(b, run);
        } else {
            engine_say(e, NULL, "run %s could not be read back", r->id);
        }
        free(r);
    }
}

/* States whose resource did not turn up in the first reconcile: it was deleted while the daemon was down. */
static void forget_unclaimed(struct engine *e)
{
    struct saved_state *s, *tmp;
    struct batch *b = NULL;
    HASH_ITER (hh, e->saved, s, tmp) {
        char *slash = strchr(s->key, '/');
        if (!b)
            b = batch_new(e, STORE_LAZY | STORE_KEEP, NULL, NULL);
        *slash = '\0';
        store_add_kv_delete(&b->group, s->key, slash + 1, strlen(slash + 1));
        if (streq(s->key, "trigger"))
            trigger_forget(e, b, slash + 1, NULL);
        HASH_DELETE(hh, e->saved, s);
        cJSON_Delete(s->state);
        free(s->key);
        free(s);
    }
    if (b)
        batch_submit(b);
}

static void left_recorded(struct batch *b, int result)
{
    struct store_port *store = b->engine->store;
    if (result == 0)
        store->clear_starts_left(store);
}

void recover_start(struct engine *e)
{
    struct live_event *ev, *tmp, *lost = NULL;
    DL_FOREACH_SAFE (e->orphaned, ev, tmp) {
        DL_DELETE(e->orphaned, ev);
        ev->prev = ev->next = NULL;
        ev->trigger = trigger_retired(e, ev->rec.trigger_id, ev->rec.pipeline_id);
        bool started = ev->rec.status == EVENT_PENDING && e->store->start_left(e->store, ev->rec.run_id);
        _cleanup_(freep) char *why = ev->rec.status == EVENT_EXECUTING || started ? given_up(ev) : NULL;
        if (why)
            DL_APPEND(lost, ev);
        else if (ev->rec.status == EVENT_EXECUTING)
            take_up_executing(ev);
        else
            take_up_pending(ev, started);
    }
    take_up_by_hand(e);
    /* What follows from these comes after what was there before. */
    DL_FOREACH_SAFE (lost, ev, tmp) {
        DL_DELETE(lost, ev);
        ev->prev = ev->next = NULL;
        give_up(ev);
    }
    forget_unclaimed(e);
    batch_submit(batch_new(e, STORE_KEEP, left_recorded, NULL)); /* what is submitted comes to the disk in order */
}
