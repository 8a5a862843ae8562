/* Triggers while they run: coming, changing, going; their state in the store; conditions; the source of each. */
#include "engine/internal.h"

#include "engine/secret_read.h"

static const char *const status_words[] = {"active", "paused", "error", "disabled"};

const char *trigger_status_name(enum trigger_status s)
{
    return status_words[s];
}

struct live_trigger *trigger_of(struct engine *e, const char *id)
{
    struct live_trigger *t = NULL;
    HASH_FIND_STR(e->triggers, id, t);
    return t;
}

struct live_trigger *engine_find_trigger(struct engine *e, const char *id)
{
    struct live_trigger *t = trigger_of(e, id);
    return t && !t->removed ? t : NULL;
}

enum trigger_status trigger_status(const struct live_trigger *t)
{
    if (!t->spec->enabled)
        return TRIGGER_DISABLED;
    if (t->paused)
        return TRIGGER_PAUSED;
    if (t->latched || t->source_state == LIVE_SOURCE_FAILED)
        return TRIGGER_ERROR;
    return TRIGGER_ACTIVE;
}

char *content_hash(const char *text)
{
    return xasprintf("%016" PRIx64, hash_bytes(0, text, strlen(text)));
}

/* ---- conditions ---- */

static void set(struct live_trigger *t, const char *type, bool status, const char *reason, const char *message)
{
    if (condition_set(&t->conditions, type, status ? CONDITION_TRUE : CONDITION_FALSE, reason, message,
                      engine_wall(t->engine), t->observed_generation))
        change_tell(t->engine, WATCHED_TRIGGER, t->id);
}

/* It works: with what the source says, and how it goes. */
static void set_connected(struct live_trigger *t)
{
    struct buf b = {0};
    char when[TIME_TEXT_SIZE];
    if (t->source_message)
        buf_printf(&b, "%s; ", t->source_message);
    if (t->source_last_ms > 0) {
        time_format(t->source_last_ms, when);
        buf_printf(&b, "last event %s; ", when);
    }
    if (t->source_last_ms > 0 || t->source_in_flight > 0)
        buf_printf(&b, "%" PRId64 " in flight; ", t->source_in_flight);
    if (t->source_lag >= 0)
        buf_printf(&b, "lag %" PRId64 "; ", t->source_lag);
    if (b.len > 0)
        b.data[b.len -= 2] = '\0';
    set(t, "Connected", true, t->source_reason ? t->source_reason : "Connected", b.data);
    buf_fini(&b);
}

static void refresh_connected(struct live_trigger *t)
{
    bool active = t->type->create != NULL;
    condition_remove(&t->conditions, "Waiting");
    if (!t->spec->enabled || !t->engine->options.firing)
        set(t, "Connected", false, "Disabled", "the trigger is disabled");
    else if (!active)
        set(t, "Connected", true, "Listening", NULL);
    else if (t->source_state == LIVE_SOURCE_UP)
        set_connected(t);
    else if (t->source_state == LIVE_SOURCE_FAILED)
        set(t, "Connected", false, t->source_reason ? t->source_reason : "Failed", t->source_message);
    else if (t->source_state == LIVE_SOURCE_WAITING) {
        set(t, "Connected", false, "Waiting", t->source_message);
        set(t, "Waiting", true, t->source_reason ? t->source_reason : "Waiting", t->source_message);
    } else {
        set(t, "Connected", false, "Starting", "the source is starting");
    }
}

void trigger_refresh(struct live_trigger *t)
{
    if (!condition_find(&t->conditions, "Accepted"))
        set(t, "Accepted", true, "Valid", NULL);
    struct live_pipeline *p = engine_find_pipeline(t->engine, t->spec->pipeline_id);
    _cleanup_(freep) char *missing = p ? NULL : xasprintf("pipeline \"%s\" not found", t->spec->pipeline_id);
    set(t, "PipelineFound", p != NULL, p ? "Found" : "NotFound", missing);
    refresh_connected(t);
    condition_remove(&t->conditions, "Disabled");
    if (!t->engine->options.firing)
        set(t, "Disabled", true, "SwitchedOff", "FLOWMASON_TRIGGERS_ENABLED is false");
    const struct condition *connected = condition_find(&t->conditions, "Connected");
    const char *why = NULL, *message = NULL;
    if (!t->spec->enabled || !t->engine->options.firing)
        why = "Disabled";
    else if (t->paused)
        why = "Paused";
    else if (t->latched)
        why = "Error", message = t->latched;
    else if (!p)
        why = "PipelineNotFound", message = missing;
    else if (connected->status != CONDITION_TRUE)
        why = connected->reason, message = connected->message;
    set(t, "Ready", !why, why ? why : "Ready", message);
}

void triggers_of_pipeline_refresh(struct engine *e, const char *pipeline_id)
{
    struct live_pipeline *p = NULL;
    struct live_trigger *t, *next;
    HASH_FIND_STR(e->pipelines, pipeline_id, p);
    for (t = p ? p->triggers : NULL; t; t = next) {
        next = t->slot_next;
        if (t->removed)
            continue;
        trigger_refresh(t);
        trigger_pump(t);
    }
}

void engine_trigger_condition(struct engine *e, const char *id, const char *type, enum condition_status status,
                              const char *reason, const char *message)
{
    struct live_trigger *only = id ? engine_find_trigger(e, id) : NULL;
    int64_t now = engine_wall(e); /* the same for all */
    for (struct live_trigger *t = id ? only : e->triggers; t; t = id ? NULL : t->hh.next)
        if (!t->removed && condition_set(&t->conditions, type, status, reason, message, now, t->observed_generation))
            change_tell(e, WATCHED_TRIGGER, t->id);
    if (!id)
        condition_set(&e->everywhere, type, status, reason, message, now, 0);
}

/* A trigger that comes later shows them too. */
static void set_conditions_of_all(struct live_trigger *t)
{
    const struct conditions *all = &t->engine->everywhere;
    for (unsigned i = 0; i < all->n; i++)
        condition_set(&t->conditions, all->items[i].type, all->items[i].status, all->items[i].reason,
                      all->items[i].message, all->items[i].transition_ms, t->observed_generation);
}

void engine_trigger_rejected(struct engine *e, const char *id, const char *message)
{
    struct live_trigger *t = engine_find_trigger(e, id);
    if (!t)
        return;
    const struct condition *accepted = condition_find(&t->conditions, "Accepted");
    bool was = accepted && accepted->status == CONDITION_FALSE;
    /* What is wanted has changed, what runs has not: the generation moves, the observed one stays behind. One that was
     * already behind (after a restart, say) is not moved by the same text again. */
    if (message && (was ? !streq(accepted->message, message) : t->generation == t->observed_generation)) {
        t->generation++;
        trigger_save(t);
    }
    set(t, "Accepted", message == NULL, message ? "Invalid" : "Valid", message);
}

/* ---- state in the store ---- */

static char *state_text(const struct live_trigger *t)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddBoolToObject(o, "paused", t->paused);
    if (t->latched)
        cJSON_AddStringToObject(o, "latched", t->latched);
    cJSON_AddItemToObject(o, "generation", value_number_from_int(t->generation));
    cJSON_AddItemToObject(o, "observed", value_number_from_int(t->observed_generation));
    cJSON_AddItemToObject(o, "created", value_number_from_int(t->created_ms));
    cJSON_AddItemToObject(o, "updated", value_number_from_int(t->updated_ms));
    cJSON_AddItemToObject(o, "failures", value_number_from_int(t->failures));
    cJSON_AddStringToObject(o, "content", t->content);
    char *text = value_print(o);
    cJSON_Delete(o);
    return text;
}

static void state_saved(struct batch *b, int result)
{
    struct live_trigger *t = b->ctx;
    t->state_writing = false;
    t->pins--;
    if (t->state_dirty && result == 0 && !t->removed)
        trigger_save(t);
    trigger_reap(t);
}

static void put_state(struct live_trigger *t, struct batch *b)
{
    _cleanup_(freep) char *text = state_text(t);
    store_add_kv_put(&b->group, "trigger", t->id, strlen(t->id), text, strlen(text));
    t->state_dirty = false;
}

void trigger_save(struct live_trigger *t)
{
    t->state_dirty = true;
    if (t->state_writing || t->removed || !t->engine->started)
        return;
    t->state_writing = true;
    t->pins++;
    struct batch *b = batch_new(t->engine, STORE_LAZY | STORE_KEEP, state_saved, t);
    put_state(t, b);
    batch_submit(b);
}

static int64_t saved_int(const cJSON *state, const char *key, int64_t otherwise)
{
    int64_t n = otherwise;
    value_integer(value_get(state, key), &n);
    return n;
}

/* What the store knew of this id, and whether the content is what it was. */
static void restore(struct live_trigger *t)
{
    struct engine *e = t->engine;
    int64_t now = engine_wall(e);
    t->last_fire_ms = INT64_MIN;
    t->created_ms = t->updated_ms = now;
    t->generation = t->observed_generation = 1;
    cJSON *fired = saved_take(e, "fired", t->id);
    value_integer(value_get(fired, "count"), &t->trigger_count);
    value_integer(value_get(fired, "last"), &t->last_triggered_ms);
    cJSON_Delete(fired);
    if (t->last_triggered_ms > 0 && t->last_triggered_ms <= now)
        t->last_fire_ms = engine_now(e) - (now - t->last_triggered_ms);
    cJSON *state = saved_take(e, "trigger", t->id);
    t->is_new = state == NULL;
    if (!state)
        return;
    t->paused = cJSON_IsTrue(value_get(state, "paused"));
    t->latched = xstrdup0(value_get_string(state, "latched"));
    t->created_ms = saved_int(state, "created", now);
    t->failures = saved_int(state, "failures", 0);
    bool same = streq(value_get_string(state, "content"), t->content);
    t->generation = saved_int(state, "generation", 1) + !same;
    t->observed_generation = same ? saved_int(state, "observed", t->generation) : t->generation;
    t->updated_ms = same ? saved_int(state, "updated", now) : now;
    cJSON_Delete(state);
}

/* ---- sources ---- */

static void source_gone(void *ctx)
{
    struct engine *e = ctx;
    e->sources--;
    drain_progress(e);
}

/* A source that could not even be made: again after 0.5 s, doubling to 8 s, ± 20 %. */
struct create_retry {
    struct timer timer;
    int64_t wait_ms; /* before the next one */
};

static void create_again(struct timer *timer, void *ctx)
{
    (void)timer;
    trigger_source_start(ctx);
}

static void create_later(struct live_trigger *t)
{
    struct engine *e = t->engine;
    struct create_retry *r = t->create_retry;
    if (!r) {
        r = t->create_retry = xcalloc(1, sizeof(*r));
        timer_init(&r->timer, create_again, t);
        r->wait_ms = CREATE_RETRY_MIN_MS;
    }
    double wait = (double)r->wait_ms * (0.8 + 0.4 * random_unit(e->random));
    r->wait_ms = MIN(r->wait_ms * 2, CREATE_RETRY_MAX_MS);
    timer_start(e->timers, &r->timer, engine_now(e) + (int64_t)wait);
}

static void create_retry_end(struct live_trigger *t)
{
    if (!t->create_retry)
        return;
    timer_stop(t->engine->timers, &t->create_retry->timer);
    free(t->create_retry);
    t->create_retry = NULL;
}

void trigger_source_stop(struct live_trigger *t)
{
    struct source *s = t->source;
    create_retry_end(t);
    if (!s) {
        if (t->source_state == LIVE_SOURCE_FAILED)
            t->source_state = LIVE_SOURCE_NONE;
        return;
    }
    t->source = NULL;
    t->source_state = LIVE_SOURCE_NONE;
    t->source_paused = false;
    t->source_last_ms = t->source_in_flight = 0;
    t->source_lag = -1;
    t->type->stop(s, source_gone, t->engine);
}

void trigger_source_start(struct live_trigger *t)
{
    struct engine *e = t->engine;
    if (!t->type->create || t->source || t->removed || !e->started || e->draining || !t->spec->enabled ||
        !e->options.firing)
        return;
    struct error err = ERROR_INIT;
    t->source_epoch++;
    if (t->source_state != LIVE_SOURCE_FAILED)
        t->source_state = LIVE_SOURCE_STARTING;
    if (t->type->create(&t->host, &e->options.source_env, t->spec, &t->source, &err) < 0) {
        source_report(&t->host, SOURCE_FAILED, "CreateFailed", err.message);
        create_later(t);
        return;
    }
    create_retry_end(t);
    t->is_new = false;
    if (t->source_state == LIVE_SOURCE_FAILED) { /* what it reports next tells whether it works */
        t->source_state = LIVE_SOURCE_STARTING;
        trigger_refresh(t);
    }
    e->sources++;
    t->type->start(t->source);
    trigger_source_flow(t);
}

void trigger_source_flow(struct live_trigger *t)
{
    if (!t->source || t->engine->draining)
        return;
    int64_t limit = t->spec->queue_limit;
    bool full = t->source_paused ? t->n_pending > limit * 3 / 4 : t->n_pending >= limit;
    bool held = t->type->kind.lossless && trigger_held(t);
    if ((full || held) == t->source_paused)
        return;
    t->source_paused = !t->source_paused;
    if (t->source_paused && t->type->pause)
        t->type->pause(t->source);
    else if (!t->source_paused && t->type->resume)
        t->type->resume(t->source);
}

void source_report(struct source_host *host, enum source_state state, const char *reason, const char *message)
{
    struct live_trigger *t = host->trigger;
    enum live_source_state to = state == SOURCE_CONNECTED ? LIVE_SOURCE_UP
                                : state == SOURCE_WAITING ? LIVE_SOURCE_WAITING
                                                          : LIVE_SOURCE_FAILED;
    bool changed = t->source_state != to || !streq(t->source_reason, reason);
    char *copy = xstrdup0(message);
    free(t->source_message);
    t->source_message = copy;
    t->source_reason = reason;
    t->source_state = to;
    trigger_refresh(t);
    if (changed)
        engine_say(t->engine, t->id, "source %s: %s%s%s",
                   to == LIVE_SOURCE_UP        ? "works"
                   : to == LIVE_SOURCE_WAITING ? "waits"
                                               : "does not work",
                   reason, message ? ": " : "", message ? message : "");
}

void source_progress(struct source_host *host, int64_t last_ms, int64_t in_flight, int64_t lag)
{
    struct live_trigger *t = host->trigger;
    t->source_last_ms = last_ms;
    t->source_in_flight = in_flight;
    t->source_lag = lag;
    if (t->source_state == LIVE_SOURCE_UP)
        set_connected(t);
}

const char *source_trigger_id(const struct source_host *host)
{
    return host->trigger->id;
}

char *source_manifest_dir(const struct source_host *host)
{
    return secret_dir_of(origin_file(host->trigger->origin));
}

void source_debounced(struct source_host *host, uint64_t n)
{
    trigger_counted(host->trigger, DECISION_DEBOUNCED, (int64_t)n);
}

void source_duplicates(struct source_host *host, uint64_t n)
{
    trigger_counted(host->trigger, DECISION_DUPLICATE, (int64_t)n);
}

bool source_is_new(const struct source_host *host)
{
    return host->trigger->is_new;
}

size_t engine_starting_sources(const struct engine *e)
{
    size_t n = 0;
    for (const struct live_trigger *t = e->triggers; t; t = t->hh.next)
        n += t->source_state == LIVE_SOURCE_STARTING && !t->removed && !t->type->remote;
    return n;
}

/* ---- coming, changing, going ---- */

void set_origin(struct origin **slot, struct origin *origin)
{
    struct origin *old = *slot;
    *slot = origin ? origin_ref(origin) : NULL;
    origin_unref(old);
}

static char *spec_hash(const struct trigger *spec)
{
    cJSON *o = fields_print(&trigger_fields, spec, false);
    _cleanup_(freep) char *text = value_print(o);
    cJSON_Delete(o);
    return content_hash(text);
}

static const struct source_type *type_of(const struct engine *e, const struct kind *kind)
{
    for (size_t i = 0; e->options.source_types[i]; i++)
        if (&e->options.source_types[i]->kind == kind)
            return e->options.source_types[i];
    return NULL;
}

static struct live_trigger *trigger_new(struct engine *e, struct trigger *spec)
{
    struct live_trigger *t = xcalloc(1, sizeof(*t));
    t->engine = e;
    t->id = xstrdup(spec->id);
    t->spec = trigger_ref(spec);
    t->type = type_of(e, spec->kind);
    t->host.trigger = t;
    t->source_message = NULL;
    t->source_lag = -1;
    t->content = spec_hash(spec);
    timer_init(&t->cooldown, cooldown_over, t);
    HASH_ADD_KEYPTR(hh, e->triggers, t->id, strlen(t->id), t);
    e->triggers_sorted = false;
    pipeline_join(t);
    return t;
}

static struct trigger_program *compile(const struct trigger *spec)
{
    struct issues none = ISSUES_INIT;
    struct trigger_program *p = NULL;
    trigger_program_compile(spec, NULL, &none, &p);
    issues_fini(&none); /* it was checked before it came here */
    return p ? p : xcalloc(1, sizeof(*p));
}

static void take_spec(struct live_trigger *t, struct trigger *spec)
{
    struct trigger *old = t->spec;
    t->spec = trigger_ref(spec);
    trigger_unref(old);
    trigger_program_free(t->program);
    t->program = compile(spec);
    t->recent_from = t->seen;
    pipeline_join(t);
}

static void edit(struct live_trigger *t, struct trigger *spec)
{
    struct engine *e = t->engine;
    bool same_kind = t->spec->kind == spec->kind;
    enum field_change cost = trigger_compare(t->spec, spec, NULL, 0, NULL);
    bool restart = cost >= CHANGE_SOURCE || !spec->enabled;
    struct trigger *old = trigger_ref(t->spec);
    struct live_pipeline *before = engine_find_pipeline(e, old->pipeline_id);
    for (struct lane *l = t->lanes; l; l = l->hh.next)
        waiter_leave(&l->waiter); /* it may be another pipeline's slots that it waits for from now on */
    channel_leave(t);
    if (restart || !same_kind)
        trigger_source_stop(t);
    if (!same_kind) {
        struct batch *b = batch_new(e, STORE_LAZY | STORE_KEEP, NULL, NULL);
        trigger_forget(e, b, t->id, t->type);
        batch_submit(b);
        t->is_new = true;
    }
    take_spec(t, spec);
    t->type = type_of(e, spec->kind);
    if (t->type->channels)
        channel_join(t);
    if (t->source && t->type->update && !t->type->update(t->source, t->spec))
        trigger_source_stop(t);
    slots_pass_on(e, before);
    trigger_unref(old);
}

/* An id that was removed while something of it still ran comes back. */
static void revive(struct live_trigger *t)
{
    t->removed = false;
    t->is_new = true;
    t->generation = 0;
    t->created_ms = engine_wall(t->engine);
    t->last_triggered_ms = t->trigger_count = t->failures = t->storm_count = 0;
    t->last_fire_ms = INT64_MIN;
    free(t->decisions);
    t->decisions = NULL;
}

/* What a type keeps under the trigger's id; `only` NULL: all types. */
void trigger_forget(struct engine *e, struct batch *b, const char *id, const struct source_type *only)
{
    for (size_t i = 0; e->options.source_types[i]; i++) {
        const struct source_type *type = e->options.source_types[i];
        if (type->forget && (!only || type == only))
            type->forget(&b->group, id);
    }
}

void engine_put_trigger(struct engine *e, struct trigger *spec, struct origin *origin, unsigned line)
{
    struct live_trigger *t = trigger_of(e, spec->id);
    bool created = !t || t->removed;
    bool changed = created;
    if (!t) {
        t = trigger_new(e, spec);
        restore(t);
        t->program = compile(spec);
        if (t->type->channels)
            channel_join(t);
        set_origin(&t->origin, origin);
    } else {
        changed = changed || !trigger_equal(t->spec, spec);
        if (t->removed)
            revive(t);
        set_origin(&t->origin, origin);
        if (changed) {
            edit(t, spec);
            char *content = spec_hash(spec);
            free(t->content);
            t->content = content;
            t->generation++;
            t->updated_ms = engine_wall(e);
        }
        t->observed_generation = t->generation;
    }
    t->line = line;
    set(t, "Accepted", true, "Valid", NULL);
    if (created)
        set_conditions_of_all(t);
    trigger_refresh(t);
    if (!changed)
        return;
    trigger_save(t);
    trigger_source_start(t);
    cooldown_arm(t);
    trigger_pump(t);
}

static void cancel_pending(struct live_trigger *t, enum event_status status, enum decision only, bool all,
                           const char *why)
{
    struct lane *l, *tmp;
    t->pins++;
    HASH_ITER (hh, t->lanes, l, tmp) {
        struct live_event *ev, *next;
        l->busy++;
        DL_FOREACH_SAFE (l->pending, ev, next) {
            if (ev->recorded && (all || ev->rec.decision == only))
                event_end_pending(ev, status, ev->rec.decision, "%s", why);
        }
        l->busy--;
        lane_reap(l);
    }
    for (struct live_event *ev = t->latest, *next; ev; ev = next) {
        next = ev->supersedes;
        if (!ev->recorded || (!all && ev->rec.decision != only))
            continue;
        latest_unlink(ev);
        event_end_pending(ev, status, ev->rec.decision, "%s", why);
    }
    t->pins--;
}

void engine_remove_trigger(struct engine *e, const char *id)
{
    struct live_trigger *t = engine_find_trigger(e, id);
    if (!t)
        return;
    trigger_source_stop(t);
    channel_leave(t);
    t->removed = true;
    t->paused = false;
    free(t->latched);
    t->latched = NULL;
    timer_stop(e->timers, &t->cooldown);
    cancel_pending(t, EVENT_CANCELLED, DECISION_FIRED, true, "the trigger was deleted");
    struct batch *b = batch_new(e, STORE_LAZY | STORE_KEEP, NULL, NULL);
    store_add_kv_delete(&b->group, "trigger", t->id, strlen(t->id));
    store_add_kv_delete(&b->group, "fired", t->id, strlen(t->id));
    trigger_forget(e, b, t->id, NULL);
    batch_submit(b);
    trigger_pump(t); /* those who waited behind it; frees it where nothing holds it */
}

/* For open events of a trigger that is gone: enough of one to let its runs end. */
struct live_trigger *trigger_retired(struct engine *e, const char *id, const char *pipeline_id)
{
    struct live_trigger *t = trigger_of(e, id);
    if (t)
        return t;
    struct trigger *spec = xcalloc(1, sizeof(*spec));
    spec->refs = 1;
    fields_defaults(&trigger_fields, spec);
    spec->id = xstrdup(id);
    spec->name = xstrdup(id);
    spec->pipeline_id = xstrdup(pipeline_id);
    spec->trigger_type = xstrdup(e->options.source_types[0]->kind.name);
    spec->kind = &e->options.source_types[0]->kind;
    spec->config = xcalloc(1, spec->kind->config->size);
    t = trigger_new(e, spec);
    trigger_unref(spec);
    t->program = xcalloc(1, sizeof(*t->program));
    t->last_fire_ms = INT64_MIN;
    t->removed = true;
    return t;
}

void trigger_free(struct live_trigger *t)
{
    struct engine *e = t->engine;
    HASH_DELETE(hh, e->triggers, t);
    timer_stop(e->timers, &t->cooldown);
    create_retry_end(t);
    channel_leave(t);
    pipeline_leave(t);
    recent_fini(&t->recent);
    rounds_free(t->rounds);
    free(t->decisions);
    conditions_fini(&t->conditions);
    trigger_program_free(t->program);
    trigger_unref(t->spec);
    free(t->id);
    origin_unref(t->origin);
    free(t->latched);
    free(t->content);
    free(t->source_message);
    free(t);
}

void trigger_reap(struct live_trigger *t)
{
    if (t->removed && t->pins == 0 && !t->lanes && t->n_recording == 0 && !t->latest && t->engine->started)
        trigger_free(t);
}

/* ---- counting ---- */

void trigger_counted(struct live_trigger *t, enum decision d, int64_t n)
{
    if (n == 0)
        return;
    if (!t->decisions)
        t->decisions = xcalloc(DECISION_N, sizeof(*t->decisions));
    t->decisions[d] += n;
}

void trigger_decided(struct live_trigger *t, enum decision d)
{
    trigger_counted(t, d, 1);
}

void trigger_fired(struct live_trigger *t, bool internal, int64_t at_ms)
{
    struct engine *e = t->engine;
    t->trigger_count++;
    t->last_triggered_ms = at_ms;
    if (!internal)
        return;
    int64_t now = engine_now(e);
    if (t->storm_count == 0 || now - t->storm_start_ms > STORM_WINDOW_MS) {
        t->storm_start_ms = now;
        t->storm_count = 0;
    }
    if (++t->storm_count > t->spec->storm_limit)
        trigger_latch(t, "storm: more than %" PRId64 " fires within 2 s from events made inside triggerd",
                      t->spec->storm_limit);
}

void trigger_latch(struct live_trigger *t, const char *format, ...)
{
    if (t->latched)
        return;
    va_list args;
    va_start(args, format);
    t->latched = xvasprintf(format, args);
    va_end(args);
    engine_say(t->engine, t->id, "error: %s", t->latched);
    trigger_refresh(t);
    trigger_save(t);
    trigger_source_flow(t);
}

/* ---- pause and resume ---- */

struct control {
    struct engine *engine;
    struct live_trigger *trigger;
    engine_done_fn *done;
    void *ctx;
};

static void control_recorded(struct batch *b, int result)
{
    struct control *c = b->ctx;
    struct live_trigger *t = c->trigger;
    if (c->done)
        c->done(c->ctx, result);
    if (result < 0) /* in force all the same: recorded as soon as the store works again */
        trigger_save(t);
    t->pins--;
    trigger_reap(t);
    free(c);
}

static void control_record(struct live_trigger *t, engine_done_fn *done, void *ctx)
{
    struct control *c = xcalloc(1, sizeof(*c));
    *c = (struct control){t->engine, t, done, ctx};
    t->pins++;
    struct batch *b = batch_new(t->engine, 0, control_recorded, c);
    put_state(t, b);
    batch_submit(b);
}

int engine_pause(struct engine *e, const char *trigger_id, engine_done_fn *done, void *ctx)
{
    struct live_trigger *t = engine_find_trigger(e, trigger_id);
    if (!t)
        return -ENOENT;
    if (!t->paused)
        engine_say(e, t->id, "paused");
    t->paused = true;
    trigger_refresh(t);
    trigger_source_flow(t);
    control_record(t, done, ctx);
    return 0;
}

int engine_resume(struct engine *e, const char *trigger_id, bool discard, engine_done_fn *done, void *ctx)
{
    struct live_trigger *t = engine_find_trigger(e, trigger_id);
    if (!t)
        return -ENOENT;
    if (discard) {
        cancel_pending(t, EVENT_SKIPPED, DECISION_PAUSED, false, "discarded at resume");
        cancel_pending(t, EVENT_SKIPPED, DECISION_ERROR, false, "discarded at resume");
    }
    if (t->paused || t->latched)
        engine_say(e, t->id, "resumed");
    t->paused = false;
    free(t->latched);
    t->latched = NULL;
    t->failures = 0;
    t->storm_count = 0;
    trigger_refresh(t);
    if (t->source && t->source_state == LIVE_SOURCE_FAILED && t->type->resume)
        t->type->resume(t->source);
    else if (!t->source)
        trigger_source_start(t);
    control_record(t, done, ctx);
    cooldown_arm(t);
    trigger_pump(t);
    return 0;
}
