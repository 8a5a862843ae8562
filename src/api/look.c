#include "api/look.h"

#include <errno.h>

/* ---- triggers ---- */

static int64_t last_transition(const struct conditions *conditions, int64_t at_least)
{
    for (unsigned i = 0; i < conditions->n; i++)
        at_least = MAX(at_least, conditions->items[i].transition_ms);
    return at_least;
}

/* Where a custom trigger listens. */
static const char *endpoint_of(const struct trigger *t)
{
    const struct source_type *type = (const struct source_type *)(const void *)t->kind; /* which it begins */
    struct channel_key key = {0};
    return streq(t->trigger_type, "custom") && type->channels(t->config, &key, 1) == 1 ? key.text : NULL;
}

static void look_at(struct live_trigger *t, struct api_trigger_look *ret)
{
    struct trigger_view v;
    trigger_look(t, &v);
    *ret = (struct api_trigger_look){
        .id = v.spec->id,
        .pipeline_id = v.spec->pipeline_id,
        .trigger_type = v.spec->trigger_type,
        .status = trigger_status_name(v.status),
        .endpoint = endpoint_of(v.spec),
        .file = origin_file(v.origin),
        .conditions = v.conditions,
        .created_ms = v.created_ms,
        .changed_ms = last_transition(v.conditions, MAX(MAX(v.created_ms, v.updated_ms), v.last_triggered_ms)),
        .updated_ms = MAX(v.created_ms, v.updated_ms),
        .read_only = v.origin && v.origin->read_only,
    };
}

bool api_look_trigger(struct api *a, const char *id, struct api_trigger_look *ret)
{
    struct live_trigger *t = engine_find_trigger(a->engine, id);
    if (t)
        look_at(t, ret);
    return t != NULL;
}

struct each_trigger {
    void (*fn)(void *ctx, const struct api_trigger_look *t);
    void *ctx;
};

static void one_trigger(void *ctx, struct live_trigger *t)
{
    struct each_trigger *each = ctx;
    struct api_trigger_look look;
    look_at(t, &look);
    each->fn(each->ctx, &look);
}

void api_each_trigger(struct api *a, void (*fn)(void *ctx, const struct api_trigger_look *t), void *ctx)
{
    struct each_trigger each = {fn, ctx};
    engine_each_trigger(a->engine, one_trigger, &each);
}

static void heard(void *ctx, struct live_trigger *t)
{
    (void)t;
    bool *found = ctx;
    *found = true;
}

struct endpoint_search {
    const char *name;
    bool found;
};

static void search_endpoint(void *ctx, const struct api_trigger_look *t)
{
    struct endpoint_search *s = ctx;
    s->found = s->found || streq(t->endpoint, s->name);
}

bool api_has_endpoint(struct api *a, const char *name)
{
    struct endpoint_search s = {.name = name};
    engine_each_listener(a->engine, "custom", name, heard, &s.found);
    if (!s.found) /* of one that is disabled, perhaps */
        api_each_trigger(a, search_endpoint, &s);
    return s.found;
}

struct each_id {
    void (*fn)(void *ctx, const char *id, int64_t created_ms);
    void *ctx;
};

static void one_id(void *ctx, struct live_trigger *t)
{
    struct each_id *each = ctx;
    struct trigger_view v;
    trigger_look(t, &v);
    each->fn(each->ctx, v.spec->id, v.created_ms);
}

void api_each_trigger_id(struct api *a, void (*fn)(void *ctx, const char *id, int64_t created_ms), void *ctx)
{
    struct each_id each = {fn, ctx};
    engine_each_trigger(a->engine, one_id, &each);
}

void api_render_trigger(struct api *a, const char *id, struct buf *b)
{
    struct live_trigger *t = engine_find_trigger(a->engine, id);
    if (t)
        render_trigger(b, NULL, t);
}

static uint64_t mark_text(uint64_t h, const char *text)
{
    return text ? hash_bytes(h, text, strlen(text) + 1) : hash_bytes(h, &h, 1);
}

uint64_t api_trigger_mark(struct api *a, const char *id)
{
    struct live_trigger *t = engine_find_trigger(a->engine, id);
    struct trigger_view v;
    if (!t)
        return 0;
    trigger_look(t, &v);
    const struct commit *commit = v.origin ? v.origin->commit : NULL;
    const int64_t numbers[] = {(int64_t)(uintptr_t)v.spec,
                               (int64_t)v.status,
                               v.generation,
                               v.observed_generation,
                               v.created_ms,
                               v.updated_ms,
                               v.last_triggered_ms,
                               v.trigger_count,
                               v.line,
                               commit ? commit->authored_ms : 0,
                               v.origin ? (int64_t)v.origin->state : 0};
    uint64_t h = hash_bytes(0, numbers, sizeof(numbers));
    h = mark_text(h, v.error_message);
    h = mark_text(h, origin_file(v.origin));
    h = mark_text(h, commit ? commit->id : NULL);
    for (unsigned i = 0; i < v.conditions->n; i++) {
        const struct condition *c = &v.conditions->items[i];
        const int64_t of[] = {(int64_t)c->status, c->transition_ms, c->observed_generation};
        h = hash_bytes(h, of, sizeof(of));
        h = mark_text(mark_text(mark_text(h, c->type), c->reason), c->message);
    }
    return h | 1;
}

void api_render_pipeline(struct api *a, const char *id, struct buf *b)
{
    struct live_pipeline *p = engine_find_pipeline(a->engine, id);
    if (p)
        render_pipeline(b, NULL, p);
}

const char *const *api_trigger_statuses(size_t *ret_n)
{
    static const char *const names[] = {"active", "paused", "error", "disabled"};
    *ret_n = ARRAY_SIZE(names);
    return names;
}

bool api_is_trigger_type(struct api *a, const char *name)
{
    return kind_find(engine_source_kinds(a->engine), name) != NULL;
}

void api_each_trigger_type(struct api *a, void (*fn)(void *ctx, const char *name), void *ctx)
{
    for (const struct kind *const *kind = engine_source_kinds(a->engine); *kind; kind++)
        fn(ctx, (*kind)->name);
}

/* ---- pipelines ---- */

static void look_at_pipeline(struct live_pipeline *p, struct api_pipeline_look *ret)
{
    struct pipeline_view v;
    pipeline_look(p, &v);
    int64_t updated = MAX(v.created_ms, v.updated_ms);
    *ret = (struct api_pipeline_look){.id = v.spec->id,
                                      .file = origin_file(v.origin),
                                      .conditions = v.conditions,
                                      .created_ms = v.created_ms,
                                      .changed_ms = last_transition(v.conditions, updated),
                                      .updated_ms = updated,
                                      .read_only = v.origin && v.origin->read_only};
}

bool api_look_pipeline(struct api *a, const char *id, struct api_pipeline_look *ret)
{
    struct live_pipeline *p = engine_find_pipeline(a->engine, id);
    if (p)
        look_at_pipeline(p, ret);
    return p != NULL;
}

struct each_pipeline {
    void (*fn)(void *ctx, const struct api_pipeline_look *p);
    void *ctx;
};

static void one_pipeline(void *ctx, struct live_pipeline *p)
{
    struct each_pipeline *each = ctx;
    struct api_pipeline_look look;
    look_at_pipeline(p, &look);
    each->fn(each->ctx, &look);
}

void api_each_pipeline(struct api *a, void (*fn)(void *ctx, const struct api_pipeline_look *p), void *ctx)
{
    struct each_pipeline each = {fn, ctx};
    engine_each_pipeline(a->engine, one_pipeline, &each);
}

/* ---- what the store has ---- */

struct asking {
    struct api *api;
    api_ids_fn *ids;
    api_event_fn *event;
    api_run_fn *run;
    void *ctx;
};

static struct asking *asking_new(const struct asking *what)
{
    return xmemdup(what, sizeof(*what));
}

static void ids_read(struct store_read *r, int result)
{
    struct asking *q = r->ctx;
    size_t n = r->n_events + r->n_runs;
    const char **ids = xcalloc(n + 1, sizeof(*ids));
    for (size_t i = 0; i < r->n_events; i++)
        ids[i] = r->events[i].id;
    for (size_t i = 0; i < r->n_runs; i++)
        ids[i] = r->runs[i].id;
    q->ids(q->ctx, result, ids, result < 0 ? 0 : n);
    free(ids);
    store_read_free(r);
    free(q);
}

static void ask_ids(struct api *a, enum store_read_type type, size_t max, api_ids_fn *fn, void *ctx,
                    struct store_filter filter)
{
    struct store_read *r =
        store_read_new(type, ids_read, asking_new(&(struct asking){.api = a, .ids = fn, .ctx = ctx}));
    r->filter = filter;
    r->filter.status = r->filter.decision = -1;
    r->page = 1;
    r->page_size = (int64_t)max;
    r->no_total = true;
    a->store->read(a->store, r);
}

void api_event_ids(struct api *a, const char *trigger_id, size_t max, api_ids_fn *fn, void *ctx)
{
    ask_ids(a, STORE_READ_EVENTS, max, fn, ctx, (struct store_filter){.trigger_id = xstrdup0(trigger_id)});
}

void api_run_ids(struct api *a, const char *pipeline_id, size_t max, api_ids_fn *fn, void *ctx)
{
    ask_ids(a, STORE_READ_RUNS, max, fn, ctx, (struct store_filter){.pipeline_id = xstrdup0(pipeline_id)});
}

static void one_read(struct store_read *r, int result)
{
    struct asking *q = r->ctx;
    if (q->event) {
        q->event(q->ctx, result, result < 0 ? NULL : &r->events[0]);
    } else {
        _cleanup_(freep) char *steps = result < 0 ? NULL : api_steps_text(q->api, r);
        q->run(q->ctx, result, result < 0 ? NULL : &r->runs[0], steps);
    }
    store_read_free(r);
    free(q);
}

static void ask_one(struct api *a, enum store_read_type type, const char *id, const struct asking *what)
{
    struct store_read *r = store_read_new(type, one_read, asking_new(what));
    r->id = xstrdup(id);
    a->store->read(a->store, r);
}

void api_read_event(struct api *a, const char *id, api_event_fn *fn, void *ctx)
{
    ask_one(a, STORE_READ_EVENT, id, &(struct asking){.api = a, .event = fn, .ctx = ctx});
}

void api_read_run(struct api *a, const char *id, api_run_fn *fn, void *ctx)
{
    ask_one(a, STORE_READ_RUN, id, &(struct asking){.api = a, .run = fn, .ctx = ctx});
}

/* ---- texts ---- */

void api_conditions(const struct conditions *conditions, struct buf *b)
{
    static const char *const words[] = {"False", "True", "Unknown"};
    for (unsigned i = 0; i < conditions->n; i++) {
        const struct condition *c = &conditions->items[i];
        char when[TIME_TEXT_SIZE];
        time_format(c->transition_ms, when);
        buf_printf(b, "%s %s %s %s", c->type, words[c->status], *c->reason ? c->reason : "-", when);
        if (c->message && *c->message) {
            buf_addc(b, ' ');
            for (const char *p = c->message; *p; p++)
                buf_addc(b, *p == '\n' || *p == '\r' ? ' ' : *p);
        }
        buf_addc(b, '\n');
    }
}

static void errors_of(void *ctx, const struct manifest_file_view *v)
{
    struct buf *b = ctx;
    for (size_t i = 0; i < v->manifest->n_errors; i++) {
        if (v->manifest->errors[i].warning)
            continue;
        _cleanup_(freep) char *text = manifest_error_text(v->manifest, &v->manifest->errors[i]);
        buf_printf(b, "%s\n", text);
    }
}

void api_errors(struct api *a, struct buf *b)
{
    reconcile_each_file(a->reconcile, errors_of, b);
}

void api_manifest_errors(const struct manifest *m, size_t entry, const char *file, struct buf *b)
{
    for (size_t i = 0; i < m->n_errors; i++) {
        const struct manifest_error *e = &m->errors[i];
        if (e->warning || (entry != SIZE_MAX && e->entry != entry))
            continue;
        buf_printf(b, "%s:%u:%u: error: %s%s%s\n", file, MAX(e->line, 1U), MAX(e->column, 1U), e->path,
                   *e->path ? ": " : "", e->message);
    }
}

bool api_id_ok(const char *id)
{
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz0123456789_.-";
    size_t n = strlen(id);
    for (size_t i = 0; trigger_reserved_ids[i]; i++)
        if (streq(id, trigger_reserved_ids[i]))
            return false;
    return n >= 1 && n <= 63 && strspn(id, alphabet) == n && !strchr("_.-", id[0]);
}

/* ---- health ---- */

struct healing {
    struct buf *b;
    size_t wrong; /* manifest errors */
};

static void sick_trigger(void *ctx, struct live_trigger *t)
{
    struct healing *h = ctx;
    struct trigger_view v;
    trigger_look(t, &v);
    if (v.status == TRIGGER_ERROR)
        buf_printf(h->b, "trigger %s: %s\n", v.spec->id, v.error_message ? v.error_message : "in error");
    const struct condition *found = condition_find(v.conditions, "PipelineFound");
    if (v.status == TRIGGER_ACTIVE && found && found->status == CONDITION_FALSE)
        buf_printf(h->b, "trigger %s: %s\n", v.spec->id, found->message);
}

static void sick_file(void *ctx, const struct manifest_file_view *v)
{
    struct healing *h = ctx;
    h->wrong += v->manifest->n_wrong;
}

void api_health(struct api *a, struct buf *b)
{
    struct healing h = {.b = b};
    size_t before = b->len;
    if (!a->started)
        buf_adds(b, "starting: the manifests are being read\n");
    else if (!a->ready)
        buf_adds(b, "stopping\n");
    if (!a->firing)
        buf_adds(b, "disabled: FLOWMASON_TRIGGERS_ENABLED is false\n");
    if (!a->store->writable(a->store))
        buf_adds(b, "store: not writable; nothing is taken in\n");
    if (engine_starting_sources(a->engine) > 0)
        buf_printf(b, "sources: %zu are still setting up\n", engine_starting_sources(a->engine));
    engine_each_trigger(a->engine, sick_trigger, &h);
    reconcile_each_file(a->reconcile, sick_file, &h);
    if (h.wrong > 0)
        buf_printf(b, "manifests: %zu error%s\n", h.wrong, h.wrong == 1 ? "" : "s");
    if (b->len == before)
        buf_adds(b, "ok\n");
}
