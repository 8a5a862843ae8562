/* Operations on triggers, and the statistics. */
#include "api/internal.h"
#include "api/shape.h"

#include <errno.h>

/* ---- lists ---- */

static bool listed(const struct api_trigger_filter *f, const struct trigger_view *v)
{
    return (!f->pipeline_id || streq(f->pipeline_id, v->spec->pipeline_id)) &&
           (!f->trigger_type || streq(f->trigger_type, v->spec->trigger_type)) &&
           (!f->status || streq(f->status, trigger_status_name(v->status))) && (!f->enabled_only || v->spec->enabled);
}

struct found_trigger {
    struct live_trigger *trigger;
    int64_t created_ms;
};

struct found_triggers {
    const struct api_trigger_filter *filter;
    struct found_trigger *items;
    size_t n, cap;
};

static void find(void *ctx, struct live_trigger *t)
{
    struct found_triggers *f = ctx;
    struct trigger_view v;
    trigger_look(t, &v);
    if (!listed(f->filter, &v))
        return;
    if (f->n == f->cap) {
        f->cap = f->cap ? f->cap * 2 : 64;
        f->items = xreallocarray(f->items, f->cap, sizeof(*f->items));
    }
    f->items[f->n++] = (struct found_trigger){t, v.created_ms};
}

/* Newest first; of one moment, by id as they came. */
static int newest(const void *a, const void *b)
{
    const struct found_trigger *x = a, *y = b;
    return (x->created_ms < y->created_ms) - (x->created_ms > y->created_ms);
}

static void merge_sort_newest(struct found_trigger *items, size_t n, struct found_trigger *spare)
{
    if (n < 2)
        return;
    size_t half = n / 2, i = 0, k = half, out = 0;
    merge_sort_newest(items, half, spare);
    merge_sort_newest(items + half, n - half, spare);
    while (i < half || k < n)
        spare[out++] = k == n || (i < half && newest(&items[i], &items[k]) <= 0) ? items[i++] : items[k++];
    memcpy(items, spare, n * sizeof(*items));
}

static void unknown_type(struct api *a, const char *word, struct api_call call)
{
    struct buf known = {0};
    for (const struct kind *const *k = engine_source_kinds(a->engine); *k; k++)
        buf_printf(&known, "%s%s", known.len ? ", " : "", (*k)->name);
    api_problem_at(call, 400, "trigger_type", "trigger_type: expected one of %s, got \"%s\"", known.data, word);
    buf_fini(&known);
}

static bool filter_ok(struct api *a, const struct api_trigger_filter *f, struct api_call call)
{
    bool known = !f->status;
    for (int i = TRIGGER_ACTIVE; i <= TRIGGER_DISABLED; i++)
        known = known || streq(f->status, trigger_status_name((enum trigger_status)i));
    if (!known)
        api_problem_at(call, 400, "status", "status: expected one of active, paused, error, disabled");
    else if (f->trigger_type && !kind_find(engine_source_kinds(a->engine), f->trigger_type))
        unknown_type(a, f->trigger_type, call);
    else
        return true;
    return false;
}

SHAPE(TriggerList, "A page of triggers", {"triggers", "[Trigger]", NULL}, {"total", "integer", NULL},
      {"page", "integer", NULL}, {"page_size", "integer", NULL});

void api_list_triggers(struct api *a, const struct api_trigger_filter *f, struct api_call call)
{
    if (!filter_ok(a, f, call))
        return;
    struct found_triggers found = {.filter = f};
    engine_each_trigger(a->engine, find, &found);
    _cleanup_(freep) struct found_trigger *spare = xcalloc(found.n, sizeof(*spare));
    merge_sort_newest(found.items, found.n, spare);
    struct buf b = {0};
    json_open(&b, NULL, '{');
    json_open(&b, "triggers", '[');
    int64_t from = (f->page - 1) * f->page_size;
    for (int64_t i = from; i < (int64_t)found.n && i < from + f->page_size; i++)
        render_trigger(&b, NULL, found.items[i].trigger);
    render_page_end(&b, (int64_t)found.n, f->page, f->page_size);
    free(found.items);
    api_answer_text(call, 200, &b);
}

static struct live_trigger *find_or_404(struct api *a, const char *id, struct api_call call)
{
    struct live_trigger *t = engine_find_trigger(a->engine, id);
    if (!t)
        api_problem(call, 404, "there is no trigger \"%s\"", id);
    return t;
}

void api_get_trigger(struct api *a, const char *id, struct api_call call)
{
    struct live_trigger *t = find_or_404(a, id, call);
    if (!t)
        return;
    struct buf b = {0};
    render_trigger_again(&b, &a->shown, t);
    api_answer_resource(a, RESOURCE_TRIGGER, id, call, &b);
}

/* ---- describe ---- */

SHAPE(FilteredEvent, "What the filter turned away", {"occurred_at", "time?", NULL}, {"event_type", "string", NULL},
      {"decision", "Decision", NULL}, {"reason", "string?", NULL}, {"event_data", "any", NULL});
SHAPE(TriggerDescription, "A trigger and what became of its events", {"trigger", "Trigger", NULL},
      {"pending", "integer", NULL}, {"executing", "integer", NULL}, {"decisions", "{integer}", "How often each"},
      {"events", "[Event]", "The last ones"}, {"filtered", "[FilteredEvent]", "The last ones"});

struct describing {
    struct api *api;
    struct api_call call;
    char *id;
};

static void one_filtered(void *ctx, const struct filtered_entry *f)
{
    struct buf *b = ctx;
    json_open(b, NULL, '{');
    json_time(b, "occurred_at", f->occurred_ms);
    json_string(b, "event_type", f->event_type);
    json_string(b, "decision", decision_name(DECISION_FILTERED));
    json_string(b, "reason", f->reason);
    json_raw(b, "event_data", f->data);
    json_close(b, '}');
}

static void described(struct store_read *r, int result)
{
    struct describing *d = r->ctx;
    struct live_trigger *t = find_or_404(d->api, d->id, d->call);
    if (t && result < 0) {
        api_problem(d->call, 500, "%s", r->error.message);
    } else if (t) {
        struct trigger_view v;
        trigger_look(t, &v);
        struct buf b = {0};
        json_open(&b, NULL, '{');
        render_trigger(&b, "trigger", t);
        json_int(&b, "pending", v.pending);
        json_int(&b, "executing", v.executing);
        json_open(&b, "decisions", '{');
        for (int i = 0; i < DECISION_N; i++)
            json_int(&b, decision_name((enum decision)i), i == DECISION_FILTERED ? v.filtered : v.decisions[i]);
        json_close(&b, '}');
        json_open(&b, "events", '[');
        for (size_t i = 0; i < r->n_events; i++)
            render_event(&b, NULL, &r->events[i]);
        json_close(&b, ']');
        json_open(&b, "filtered", '[');
        trigger_each_filtered(t, one_filtered, &b);
        json_close(&b, ']');
        json_close(&b, '}');
        api_answer_text(d->call, 200, &b);
    }
    store_read_free(r);
    free(d->id);
    free(d);
}

void api_describe_trigger(struct api *a, const char *id, struct api_call call)
{
    if (!find_or_404(a, id, call))
        return;
    struct describing *d = xcalloc(1, sizeof(*d));
    *d = (struct describing){a, call, xstrdup(id)};
    struct store_read *r = store_read_new(STORE_READ_EVENTS, described, d);
    r->filter.trigger_id = xstrdup(id);
    r->page = 1;
    r->page_size = 10;
    r->no_total = true;
    a->store->read(a->store, r);
}

/* ---- pause and resume ---- */

SHAPE(TriggerResult, "What became of a trigger", {"success", "boolean", NULL}, {"message", "string", NULL},
      {"trigger", "Trigger?", "Null: it is deleted"});

struct controlling {
    struct api *api;
    struct api_call call;
    char *id;
    const char *word;
};

static void controlled(void *ctx, int result)
{
    struct controlling *c = ctx;
    if (result < 0) {
        api_problem(c->call, result == -ENOSPC ? 507 : 503, "trigger \"%s\" was %s, but that could not be recorded",
                    c->id, c->word);
    } else {
        struct live_trigger *t = engine_find_trigger(c->api->engine, c->id);
        _cleanup_(freep) char *message = xasprintf("trigger \"%s\" %s", c->id, c->word);
        struct buf b = {0};
        json_open(&b, NULL, '{');
        json_bool(&b, "success", true);
        json_string(&b, "message", message);
        if (t)
            render_trigger(&b, "trigger", t);
        else
            json_string(&b, "trigger", NULL);
        json_close(&b, '}');
        api_answer_text(c->call, 200, &b);
    }
    free(c->id);
    free(c);
}

static struct controlling *controlling_new(struct api *a, const char *id, const char *word, struct api_call call)
{
    struct controlling *c = xcalloc(1, sizeof(*c));
    *c = (struct controlling){a, call, xstrdup(id), word};
    return c;
}

void api_pause(struct api *a, const char *id, struct api_call call)
{
    if (find_or_404(a, id, call))
        engine_pause(a->engine, id, controlled, controlling_new(a, id, "paused", call));
}

void api_resume(struct api *a, const char *id, bool discard, struct api_call call)
{
    if (find_or_404(a, id, call))
        engine_resume(a->engine, id, discard, controlled, controlling_new(a, id, "resumed", call));
}

/* ---- statistics ---- */

SHAPE(Stats, "Numbers", {"total_triggers", "integer", NULL}, {"active_triggers", "integer", NULL},
      {"paused_triggers", "integer", NULL}, {"error_triggers", "integer", NULL},
      {"total_events_24h", "integer", "Completed, failed and open ones"}, {"successful_events_24h", "integer", NULL},
      {"failed_events_24h", "integer", NULL}, {"skipped_events_24h", "integer", "Held back"},
      {"triggers_by_type", "{integer}", NULL});

struct counting {
    int64_t total, by_status[4];
    cJSON *by_type;
};

static void count(void *ctx, struct live_trigger *t)
{
    struct counting *c = ctx;
    struct trigger_view v;
    trigger_look(t, &v);
    c->total++;
    c->by_status[v.status]++;
    cJSON *n = value_get(c->by_type, v.spec->trigger_type);
    value_set(c->by_type, v.spec->trigger_type, cJSON_CreateNumber(n ? n->valuedouble + 1 : 1));
}

struct stating {
    struct api *api;
    struct api_call call;
};

static void stated(struct store_read *r, int result)
{
    struct stating *s = r->ctx;
    if (result < 0) {
        api_problem(s->call, 500, "%s", r->error.message);
    } else {
        struct counting c = {.by_type = cJSON_CreateObject()};
        engine_each_trigger(s->api->engine, count, &c);
        int64_t open = r->counts[EVENT_PENDING] + r->counts[EVENT_EXECUTING];
        struct buf b = {0};
        json_open(&b, NULL, '{');
        json_int(&b, "total_triggers", c.total);
        json_int(&b, "active_triggers", c.by_status[TRIGGER_ACTIVE]);
        json_int(&b, "paused_triggers", c.by_status[TRIGGER_PAUSED]);
        json_int(&b, "error_triggers", c.by_status[TRIGGER_ERROR]);
        json_int(&b, "total_events_24h", r->counts[EVENT_COMPLETED] + r->counts[EVENT_FAILED] + open);
        json_int(&b, "successful_events_24h", r->counts[EVENT_COMPLETED]);
        json_int(&b, "failed_events_24h", r->counts[EVENT_FAILED]);
        json_int(&b, "skipped_events_24h", r->counts[EVENT_SKIPPED]);
        json_value(&b, "triggers_by_type", c.by_type);
        json_close(&b, '}');
        cJSON_Delete(c.by_type);
        api_answer_text(s->call, 200, &b);
    }
    store_read_free(r);
    free(s);
}

void api_stats(struct api *a, struct api_call call)
{
    struct stating *s = xcalloc(1, sizeof(*s));
    *s = (struct stating){a, call};
    struct store_read *r = store_read_new(STORE_READ_STATS, stated, s);
    r->since_ms = clock_realtime_ms(a->clock) - 86400000;
    a->store->read(a->store, r);
}
