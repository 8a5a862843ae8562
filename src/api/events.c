/* Operations on events: lists, emits, tests. */
#include "api/internal.h"
#include "api/shape.h"
#include "client/mcp_feed.h"

#include <errno.h>
#include <stdio.h>

/* ---- lists ---- */

SHAPE(EventList, "A page of events", {"events", "[Event]", NULL}, {"total", "integer", NULL}, {"page", "integer", NULL},
      {"page_size", "integer", NULL});

static void events_read(struct store_read *r, int result)
{
    struct reading *q = r->ctx;
    if (result < 0) {
        api_problem(q->call, 500, "%s", r->error.message);
    } else if (q->id && r->total == 0) {
        api_problem(q->call, 404, "there is no trigger \"%s\"", q->id);
    } else {
        struct buf b = {0};
        json_open(&b, NULL, '{');
        json_open(&b, "events", '[');
        for (size_t i = 0; i < r->n_events; i++)
            render_event(&b, NULL, &r->events[i]);
        render_page_end(&b, r->total, r->page, r->page_size);
        api_answer_text(q->call, 200, &b);
    }
    store_read_free(r);
    reading_free(q);
}

static int decision_parse(const char *word)
{
    for (int i = 0; i < DECISION_N; i++)
        if (streq(word, decision_name((enum decision)i)))
            return i;
    return -1;
}

static void unknown_decision(const char *word, int wrong, struct api_call call)
{
    struct buf known = {0};
    for (int i = 0; i < DECISION_N; i++)
        buf_printf(&known, "%s%s", i ? ", " : "", decision_name((enum decision)i));
    api_problem_at(call, wrong, "decision", "decision: expected one of %s, got \"%s\"", known.data, word);
    buf_fini(&known);
}

bool api_event_words(const struct api_list *f, int wrong, struct api_call call, int *ret_status, int *ret_decision)
{
    *ret_status = f->status ? event_status_parse(f->status) : -1;
    *ret_decision = f->decision ? decision_parse(f->decision) : -1;
    if (f->status && *ret_status < 0)
        api_problem_at(call, wrong, "status",
                       "status: expected one of pending, executing, completed, failed, skipped, cancelled");
    else if (f->decision && *ret_decision < 0)
        unknown_decision(f->decision, wrong, call);
    else
        return true;
    return false;
}

void api_list_events(struct api *a, const struct api_list *f, struct api_call call)
{
    int status, decision;
    if (!api_event_words(f, 400, call, &status, &decision))
        return;
    bool known = !f->of_trigger || engine_find_trigger(a->engine, f->trigger_id);
    struct reading *q = reading_new(a, call, known ? NULL : f->trigger_id);
    struct store_read *r = store_read_new(STORE_READ_EVENTS, events_read, q);
    r->filter = (struct store_filter){.trigger_id = xstrdup0(f->trigger_id),
                                      .pipeline_id = xstrdup0(f->pipeline_id),
                                      .event_type = xstrdup0(f->event_type),
                                      .status = status,
                                      .decision = decision,
                                      .since_ms = f->since_ms,
                                      .until_ms = f->until_ms};
    r->page = f->page;
    r->page_size = f->page_size;
    a->store->read(a->store, r);
}

static void event_read(struct store_read *r, int result)
{
    struct reading *q = r->ctx;
    if (result == -ENOENT) {
        api_problem(q->call, 404, "there is no event \"%s\"", r->id);
    } else if (result < 0) {
        api_problem(q->call, 500, "%s", r->error.message);
    } else {
        struct buf b = {0};
        render_event(&b, NULL, &r->events[0]);
        api_answer_text(q->call, 200, &b);
    }
    store_read_free(r);
    reading_free(q);
}

void api_get_event(struct api *a, const char *id, struct api_call call)
{
    struct reading *q = reading_new(a, call, NULL);
    reading_begin(q, STORE_READ_EVENT, id, event_read);
}

/* ---- what an intake gives ---- */

struct taking {
    struct api *api;
    struct api_call call;
    bool one;   /* the answer is the event itself */
    int status; /* of success */
    /* the first events of a duplicate */
    struct buf events;
    size_t waiting;
};

/* The answer around the events: begin_taken(), each event, end_taken(). */
static void begin_taken(const struct taking *t, struct buf *b, int64_t triggered)
{
    if (t->one)
        return;
    json_open(b, NULL, '{');
    json_int(b, "triggered_count", triggered);
    json_open(b, "events", '[');
}

static void end_taken(const struct taking *t, struct buf *b)
{
    if (!t->one) {
        json_close(b, ']');
        json_close(b, '}');
    } else if (b->len == 0) {
        buf_adds(b, "null");
    }
    api_answer_text(t->call, t->status, b);
}

static void first_read(struct store_read *r, int result)
{
    struct taking *t = r->ctx;
    if (result == 0 && r->n_events == 1)
        render_event(&t->events, NULL, &r->events[0]);
    store_read_free(r);
    if (--t->waiting > 0)
        return;
    end_taken(t, &t->events);
    free(t);
}

/* A duplicate answers with the first events, read back. */
static void read_firsts(struct taking *t, const char *ids_text)
{
    cJSON *ids = NULL;
    const cJSON *id;
    value_parse(ids_text, strlen(ids_text), &ids, NULL);
    t->waiting = 1; /* so that nothing ends before all are asked for */
    begin_taken(t, &t->events, 0);
    cJSON_ArrayForEach (id, ids) {
        struct store_read *r = store_read_new(STORE_READ_EVENT, first_read, t);
        r->id = xstrdup(id->valuestring);
        t->waiting++;
        t->api->store->read(t->api->store, r);
    }
    cJSON_Delete(ids);
    if (--t->waiting == 0) {
        end_taken(t, &t->events);
        free(t);
    }
}

static int status_of(int code)
{
    switch (code) {
    case -EAGAIN:
        return 429;
    case -ENOSPC:
    case -EROFS:
        return 507;
    case -EEXIST:
        return 422;
    default:
        return 503;
    }
}

void api_taken(void *ctx, const struct intake_result *result)
{
    struct taking *t = ctx;
    if (result->code < 0) {
        api_problem(t->call, status_of(result->code), "%s", result->message ? result->message : "nothing was recorded");
        free(t);
        return;
    }
    if (result->duplicate) {
        read_firsts(t, result->duplicate_events);
        return;
    }
    struct buf b = {0};
    if (result->n > 0) /* most fit without growing */
        buf_reserve(&b, 64 + result->n * (900 + 2 * strlen(result->events[0]->data)));
    begin_taken(t, &b, result->triggered);
    for (size_t i = 0; i < result->n; i++)
        render_event(&b, NULL, result->events[i]);
    end_taken(t, &b);
    free(t);
}

static struct taking *taking_new(struct api *a, bool one, struct api_call call)
{
    struct taking *t = xcalloc(1, sizeof(*t));
    *t = (struct taking){.api = a, .call = call, .one = one, .status = 200};
    return t;
}

void *api_taking_new(struct api *a, bool one, struct api_call call)
{
    return taking_new(a, one, call);
}

/* ---- emit, test ---- */

SHAPE(Emit, "An event to emit", {"endpoint", "endpoint", "Where custom triggers listen"},
      {"data", "-any", "The event data; default {}"});
SHAPE(Emitted, "What an event met", {"triggered_count", "integer", "How many fired or queued"},
      {"events", "[Event]", "What fired, was held back, or is the first event of a duplicate"});
SHAPE_OF(CloudEvent, "A CloudEvent 1.0 in structured mode", NULL, SHAPE_OPEN, {"specversion", "1.0", "1.0"},
         {"type", "endpoint", "The endpoint"}, {"source", "name", NULL}, {"id", "name", NULL}, {"data", "-any", NULL});

/* In the chain of the run that it comes from, where there is one; a trace of its own stays. */
static void follow(struct api *a, const char *parent_run, struct occurrence *o, char **ret_chain)
{
    const char *own = o->traceparent;
    if (parent_run)
        engine_chain(a->engine, parent_run, o, ret_chain);
    if (own)
        o->traceparent = own;
}

void api_emit(struct api *a, const struct api_emit *e, struct api_call call)
{
    if (!endpoint_text_valid(e->endpoint)) {
        api_problem_at(call, 422, "endpoint",
                       "endpoint: expected a name of letters, digits, \"_\", \"-\" and \".\", at most 128, not "
                       "starting with \".\"");
        return;
    }
    char type[sizeof("custom_") + ENDPOINT_MAX];
    memcpy(type, "custom_", sizeof("custom_") - 1);
    memcpy(type + sizeof("custom_") - 1, e->endpoint, strlen(e->endpoint) + 1); /* a valid one fits */
    _cleanup_(freep) char *chain = NULL;
    struct occurrence o = {.event_type = type,
                           .data = e->data,
                           .data_text = e->data_text,
                           .identity = e->idempotency_key,
                           .traceparent = e->traceparent};
    follow(a, e->parent_run, &o, &chain);
    engine_publish(a->engine, "custom", e->endpoint, &o, api_taken, taking_new(a, false, call));
}

void api_emit_mcp(struct api *a, const struct api_emit_mcp *e, struct api_call call)
{
    char channel[MCP_CHANNEL_MAX], every[MCP_CHANNEL_MAX];
    _cleanup_(freep) char *type = xasprintf("mcp_%s", e->event_type);
    _cleanup_(freep) char *chain = NULL;
    mcp_channel_name(MCP_CHANNEL_SENT, e->server_name, e->event_type, channel);
    mcp_channel_name(MCP_CHANNEL_SENT, e->server_name, "*", every);
    struct occurrence o = {.event_type = type,
                           .data = e->data,
                           .also = every,
                           .identity = e->idempotency_key,
                           .traceparent = e->traceparent};
    follow(a, e->parent_run, &o, &chain);
    engine_publish(a->engine, MCP_EVENT_TYPE, channel, &o, api_taken, taking_new(a, false, call));
}

void api_hook(struct api *a, const struct api_hook *h, struct api_call call)
{
    struct occurrence o = {.event_type = "webhook",
                           .data = h->data,
                           .identity = h->delivery_id,
                           .body_hash = h->body_hash,
                           .traceparent = h->traceparent,
                           .admits = h->admits,
                           .admits_ctx = h->ctx};
    engine_publish(a->engine, "webhook", h->path, &o, api_taken, taking_new(a, false, call));
}

void api_test(struct api *a, const char *id, const cJSON *data, const char *data_text, const char *traceparent,
              struct api_call call)
{
    struct occurrence o = {
        .event_type = "test", .data = data, .data_text = data_text, .traceparent = traceparent, .test = true};
    struct taking *t = taking_new(a, true, call);
    if (engine_occur(a->engine, id, &o, api_taken, t) < 0) {
        free(t);
        api_problem(call, 404, "there is no trigger \"%s\"", id);
    }
}

SHAPE(DryRun, "What an event would meet", {"decision", "Decision", NULL}, {"reason", "string?", NULL},
      {"resolved_inputs", "object?", NULL});

void api_dry_run(struct api *a, const char *id, const cJSON *data, struct api_call call)
{
    enum decision d = DECISION_FIRED;
    _cleanup_(freep) char *reason = NULL;
    _cleanup_(freep) char *inputs = NULL;
    if (engine_dry_run(a->engine, id, data, &d, &reason, &inputs) < 0) {
        api_problem(call, 404, "there is no trigger \"%s\"", id);
        return;
    }
    struct buf b = {0};
    json_open(&b, NULL, '{');
    json_string(&b, "decision", decision_name(d));
    json_string(&b, "reason", reason);
    json_raw(&b, "resolved_inputs", inputs);
    json_close(&b, '}');
    api_answer_text(call, 200, &b);
}
