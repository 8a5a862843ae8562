/* Replays: new events from the stored data of old ones, one or as many as a filter finds, in their order. */
#include "api/internal.h"
#include "api/shape.h"

#include <errno.h>

#define PAGE_EVENTS 32 /* read at once, with their data */

/* Of an event as it was read. The result of engine_occur(). */
static int replay_event(struct api *a, const struct event *e, intake_done_fn *done, void *ctx)
{
    cJSON *data = NULL;
    if (value_parse(e->data, strlen(e->data), &data, NULL) < 0)
        data = cJSON_CreateNull();
    const struct occurrence o = {.event_type = e->event_type,
                                 .data = data,
                                 .data_text = e->data,
                                 .traceparent = e->traceparent,
                                 .replay_of = e->id};
    int r = engine_occur(a->engine, e->trigger_id, &o, done, ctx);
    cJSON_Delete(data);
    return r;
}

/* ---- one ---- */

static void replay_read(struct store_read *r, int result)
{
    struct reading *q = r->ctx;
    if (result < 0) {
        api_problem(q->call, result == -ENOENT ? 404 : 500, result == -ENOENT ? "there is no event \"%s\"" : "%s",
                    result == -ENOENT ? q->id : r->error.message);
    } else {
        const struct event *e = &r->events[0];
        void *taking = api_taking_new(q->api, true, q->call);
        if (replay_event(q->api, e, api_taken, taking) < 0) {
            free(taking);
            api_problem(q->call, 409, "the trigger \"%s\" of this event is gone", e->trigger_id);
        }
    }
    store_read_free(r);
    reading_free(q);
}

SHAPE(Replay, "An event, or a filter of events", {"event_id", "-string", NULL}, {"trigger_id", "-string", NULL},
      {"pipeline_id", "-string", NULL}, {"event_type", "-string", NULL}, {"status", "-EventStatus", NULL},
      {"decision", "-Decision", NULL}, {"since", "-moment", "A time or a duration"},
      {"until", "-moment", "A time or a duration"}, {"dry_run", "-boolean", "Only say which"});

void api_replay(struct api *a, const char *event_id, struct api_call call)
{
    struct reading *q = reading_new(a, call, event_id);
    reading_begin(q, STORE_READ_EVENT, event_id, replay_read);
}

/* ---- many ---- */

/* The store gives the newest first: pages are read from the last one to the first, so that the oldest goes first. What
 * they hold can shift meanwhile (retention, an old event that ends): `last_seq` sees to it that none goes twice. */
struct many {
    struct api *api;
    struct api_call call;
    struct store_filter filter;
    bool dry_run;
    int64_t page; /* the one being replayed; 0: the first look, for the total */
    int64_t matched, replayed, gone;
    int64_t last_seq;
    size_t waiting; /* intakes of the page under way */
    int stopped;    /* a negative code: no more are replayed */
    char *why;
    struct buf events; /* of the answer */
    size_t shown;
};

SHAPE(EventBrief, "An event in brief", {"id", "string", NULL}, {"trigger_id", "string", NULL},
      {"status", "EventStatus", NULL}, {"decision", "Decision", NULL}, {"reason", "string?", NULL},
      {"replay_of", "string?", NULL});
SHAPE(Replayed, "What became of a replay of many", {"matched", "integer", NULL}, {"replayed", "integer", NULL},
      {"gone", "integer", "Whose triggers are"}, {"message", "string?", "Why it stopped before the end"},
      {"events", "[EventBrief]", "The new ones; dry, the old ones"});

static void many_read(struct store_read *r, int result);

static void many_free(struct many *m)
{
    free(m->filter.trigger_id);
    free(m->filter.pipeline_id);
    free(m->filter.event_type);
    free(m->why);
    buf_fini(&m->events);
    free(m);
}

static void many_answer(struct many *m)
{
    struct buf b = {0};
    json_close(&m->events, ']');
    json_open(&b, NULL, '{');
    json_int(&b, "matched", m->matched);
    json_int(&b, "replayed", m->replayed);
    json_int(&b, "gone", m->gone);
    json_string(&b, "message", m->why);
    json_raw(&b, "events", m->events.data);
    json_close(&b, '}');
    api_answer_text(m->call, 200, &b);
    many_free(m);
}

static void many_ask(struct many *m, int64_t page)
{
    struct store_read *r = store_read_new(STORE_READ_EVENTS, many_read, m);
    r->filter = m->filter;
    r->filter.trigger_id = xstrdup0(m->filter.trigger_id);
    r->filter.pipeline_id = xstrdup0(m->filter.pipeline_id);
    r->filter.event_type = xstrdup0(m->filter.event_type);
    m->page = page;
    r->page = page ? page : 1;
    r->page_size = page ? PAGE_EVENTS : 1;
    r->no_total = page != 0;
    m->api->store->read(m->api->store, r);
}

static void page_done(struct many *m)
{
    bool all = m->page <= 1 || (m->dry_run && m->shown >= API_REPLAY_SHOWN);
    if (m->stopped < 0 || all)
        many_answer(m);
    else
        many_ask(m, m->page - 1);
}

static void show(struct many *m, const struct event *e)
{
    if (m->shown++ >= API_REPLAY_SHOWN)
        return;
    json_open(&m->events, NULL, '{');
    json_string(&m->events, "id", e->id);
    json_string(&m->events, "trigger_id", e->trigger_id);
    json_string(&m->events, "status", event_status_name(e->status));
    json_string(&m->events, "decision", decision_name(e->decision));
    json_string(&m->events, "reason", e->reason);
    json_string(&m->events, "replay_of", *e->replay_of ? e->replay_of : NULL);
    json_close(&m->events, '}');
}

static void one_taken(void *ctx, const struct intake_result *result)
{
    struct many *m = ctx;
    if (result->code < 0 && m->stopped == 0) {
        m->stopped = result->code;
        m->why = xstrdup(result->message ? result->message : "nothing was recorded");
    }
    for (size_t i = 0; result->code == 0 && i < result->n; i++) {
        m->replayed++;
        show(m, result->events[i]);
    }
    if (--m->waiting == 0)
        page_done(m);
}

/* Made by this replay, in the millisecond in which it began. */
static bool is_ours(const struct many *m, const struct event *e)
{
    return !m->dry_run && e->occurred_ms + 1 >= m->filter.until_ms && *e->replay_of;
}

static void many_read(struct store_read *r, int result)
{
    struct many *m = r->ctx;
    if (result < 0) {
        api_problem(m->call, 500, "%s", r->error.message);
        many_free(m);
    } else if (m->page == 0 && r->total == 0) {
        many_answer(m);
    } else if (m->page == 0) {
        m->matched = r->total;
        many_ask(m, (r->total + PAGE_EVENTS - 1) / PAGE_EVENTS);
    } else {
        m->waiting = 1; /* so that nothing ends before all are asked for */
        for (size_t i = r->n_events; i-- > 0 && m->stopped == 0;) {
            const struct event *e = &r->events[i];
            if (e->seq <= m->last_seq || is_ours(m, e))
                continue;
            m->last_seq = e->seq;
            m->waiting++;
            if (m->dry_run)
                show(m, e);
            if (m->dry_run || replay_event(m->api, e, one_taken, m) < 0) {
                m->gone += !m->dry_run;
                m->waiting--;
            }
        }
        if (--m->waiting == 0)
            page_done(m);
    }
    store_read_free(r);
}

void api_replay_many(struct api *a, const struct api_list *f, bool dry_run, struct api_call call)
{
    int status, decision;
    if (!api_event_words(f, 422, call, &status, &decision))
        return;
    struct many *m = xcalloc(1, sizeof(*m));
    *m = (struct many){.api = a, .call = call, .dry_run = dry_run};
    /* Up to now and with it, for what was just acknowledged has been; what the replays bring is not among them. */
    int64_t end = clock_realtime_ms(a->clock) + 1;
    m->filter = (struct store_filter){.trigger_id = xstrdup0(f->trigger_id),
                                      .pipeline_id = xstrdup0(f->pipeline_id),
                                      .event_type = xstrdup0(f->event_type),
                                      .status = status,
                                      .decision = decision,
                                      .since_ms = f->since_ms,
                                      .until_ms = f->until_ms > 0 && f->until_ms < end ? f->until_ms : end};
    json_open(&m->events, NULL, '[');
    many_ask(m, 0);
}
