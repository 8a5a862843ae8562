#include "api/feed.h"

#include "api/api.h"

#include <ctype.h>
#include <utlist.h>

/* One allocation: the struct, the JSON, and the names it is filtered by. */
struct entry {
    const char *trigger_id, *pipeline_id, *event_type;
    enum event_status status;
    enum decision decision;
    size_t len, size;
    char json[];
};

struct feed {
    struct loop *loop;
    struct engine *engine;
    struct feed_listener listener;
    struct entry *ring[FEED_MESSAGES_MAX]; /* of a position: at its remainder */
    uint64_t origin;                       /* the first position of this life */
    uint64_t first, end;                   /* kept: [first, end) */
    size_t bytes;
    struct feed_reader *readers;
    bool held;
    int64_t keep_until_ms; /* with nobody reading */
    struct buf scratch;
    struct loop_task waking;
};

struct feed_reader {
    struct feed *feed;
    char *trigger_id, *pipeline_id, *event_type;
    int status, decision;
    uint64_t next;    /* the first position not yet looked past */
    uint64_t missing; /* that were dropped before it came to them … */
    uint64_t told;    /* … and of these, what the message being looked at says */
    bool looking;     /* it was shown the message at `next` */
    bool dry;         /* it was told that there is nothing */
    bool lost;
    feed_wake_fn *wake;
    void *ctx;
    struct feed_reader *prev, *next_reader;
};

static struct entry **slot(struct feed *f, uint64_t position)
{
    return &f->ring[position % FEED_MESSAGES_MAX];
}

static bool wants(const struct feed_reader *r, const struct entry *e)
{
    return (r->status < 0 || r->status == (int)e->status) && (r->decision < 0 || r->decision == (int)e->decision) &&
           (!r->trigger_id || streq(r->trigger_id, e->trigger_id)) &&
           (!r->pipeline_id || streq(r->pipeline_id, e->pipeline_id)) &&
           (!r->event_type || streq(r->event_type, e->event_type));
}

/* ---- the ring ---- */

/* Readers that have not come to the oldest message miss it. */
static void drop_first(struct feed *f)
{
    struct entry *e = *slot(f, f->first);
    struct feed_reader *r;
    DL_FOREACH2(f->readers, r, next_reader)
    {
        if (r->next != f->first)
            continue;
        r->next++;
        if (!wants(r, e))
            continue;
        if (r->missing != FEED_GAP_UNKNOWN)
            r->missing++;
        if (r->looking) {
            r->looking = false;
            r->lost = true;
            loop_defer(f->loop, &f->waking);
        }
    }
    f->bytes -= e->size;
    free(e);
    *slot(f, f->first++) = NULL;
}

static struct entry *entry_new(struct feed *f, const struct event *ev)
{
    f->scratch.len = 0;
    render_event(&f->scratch, NULL, ev);
    size_t trigger = strlen(ev->trigger_id) + 1, pipeline = strlen(ev->pipeline_id) + 1,
           type = strlen(ev->event_type) + 1, len = f->scratch.len;
    size_t size = sizeof(struct entry) + len + 1 + trigger + pipeline + type;
    struct entry *e = xmalloc(size);
    char *at = e->json + len + 1;
    *e = (struct entry){.status = ev->status, .decision = ev->decision, .len = len, .size = size};
    memcpy(e->json, f->scratch.data, len + 1);
    e->trigger_id = memcpy(at, ev->trigger_id, trigger);
    e->pipeline_id = memcpy(at + trigger, ev->pipeline_id, pipeline);
    e->event_type = memcpy(at + trigger + pipeline, ev->event_type, type);
    if (f->scratch.cap > 65536)
        buf_fini(&f->scratch);
    return e;
}

static bool is_wanted(struct feed *f)
{
    return f->held || f->readers || (f->keep_until_ms && loop_now_ms(f->loop) < f->keep_until_ms);
}

static void on_event(struct feed_listener *l, const struct event *ev)
{
    struct feed *f = container_of(l, struct feed, listener);
    if (!is_wanted(f)) {
        while (f->first < f->end)
            drop_first(f);
        f->first = ++f->end;
        return;
    }
    struct entry *e = entry_new(f, ev);
    while (f->first < f->end && (f->end - f->first == FEED_MESSAGES_MAX || f->bytes + e->size > FEED_BYTES_MAX))
        drop_first(f);
    *slot(f, f->end++) = e;
    f->bytes += e->size;
    if (f->readers)
        loop_defer(f->loop, &f->waking);
}

/* ---- waking ---- */

static struct feed_reader *next_to_wake(struct feed *f)
{
    struct feed_reader *r;
    DL_FOREACH2(f->readers, r, next_reader)
    if (r->lost || (r->dry && r->next < f->end))
        return r;
    return NULL;
}

/* A reader may close itself, but no other one, while it is woken. */
static void wake_all(void *ctx)
{
    struct feed *f = ctx;
    struct feed_reader *r = next_to_wake(f), *next;
    for (; r; r = next) {
        next = r->next_reader;
        bool lost = r->lost;
        if (!lost && !(r->dry && r->next < f->end))
            continue;
        r->lost = r->dry = false;
        r->wake(r->ctx, lost);
    }
}

/* ---- readers ---- */

bool feed_reader_look(struct feed_reader *r, struct feed_message *ret)
{
    struct feed *f = r->feed;
    if (r->lost)
        return false;
    while (r->next < f->end && !r->missing && !wants(r, *slot(f, r->next)))
        r->next++;
    if (!r->missing && r->next == f->end) {
        r->dry = true;
        return false;
    }
    if (r->missing) {
        r->told = r->told ? r->told : r->missing;
        *ret = (struct feed_message){.position = r->next - 1, .gap = r->told};
        return true;
    }
    const struct entry *e = *slot(f, r->next);
    *ret = (struct feed_message){.position = r->next, .json = e->json, .len = e->len, .trigger_id = e->trigger_id};
    r->looking = true;
    return true;
}

void feed_reader_take(struct feed_reader *r)
{
    if (r->missing) {
        r->missing = r->missing == FEED_GAP_UNKNOWN ? 0 : r->missing - r->told;
        r->told = 0;
        return;
    }
    r->looking = false;
    r->next++;
}

/* False: it is no position of this life. */
static bool position_parse(const struct feed *f, const char *text, uint64_t *ret)
{
    uint64_t n = 0;
    for (const char *p = text; *p; p++) {
        if (!isdigit((unsigned char)*p) || n > (UINT64_MAX - 9) / 10)
            return false;
        n = n * 10 + (uint64_t)(*p - '0');
    }
    if (!*text || n + 1 < f->origin || n >= f->end)
        return false;
    *ret = n;
    return true;
}

static void start_after(struct feed_reader *r, const char *after)
{
    struct feed *f = r->feed;
    uint64_t position;
    r->next = f->end;
    if (!after)
        return;
    if (!position_parse(f, after, &position)) {
        r->missing = FEED_GAP_UNKNOWN;
        return;
    }
    r->next = MAX(position + 1, f->first);
    r->missing = r->next - (position + 1); /* whatever the filter: what they were is not known any more */
}

struct feed_reader *feed_reader_open(struct feed *f, const struct feed_filter *filter, const char *after,
                                     feed_wake_fn *wake, void *ctx)
{
    struct feed_reader *r = xcalloc(1, sizeof(*r));
    *r = (struct feed_reader){.feed = f,
                              .trigger_id = xstrdup0(filter->trigger_id),
                              .pipeline_id = xstrdup0(filter->pipeline_id),
                              .event_type = xstrdup0(filter->event_type),
                              .status = filter->status,
                              .decision = filter->decision,
                              .wake = wake,
                              .ctx = ctx};
    start_after(r, after);
    DL_APPEND2(f->readers, r, prev, next_reader);
    return r;
}

void feed_reader_close(struct feed_reader *r)
{
    struct feed *f = r->feed;
    DL_DELETE2(f->readers, r, prev, next_reader);
    f->keep_until_ms = loop_now_ms(f->loop) + FEED_KEPT_MS;
    free(r->trigger_id);
    free(r->pipeline_id);
    free(r->event_type);
    free(r);
}

/* ---- life ---- */

int feed_create(struct loop *loop, struct engine *engine, struct clock *clock, struct feed **ret)
{
    struct feed *f = xcalloc(1, sizeof(*f));
    f->loop = loop;
    f->engine = engine;
    f->origin = f->first = f->end = (uint64_t)clock_realtime_ms(clock) * 1000 + 1;
    f->listener.fn = on_event;
    loop_task_init(&f->waking, wake_all, f);
    engine_listen(engine, &f->listener);
    *ret = f;
    return 0;
}

void feed_hold(struct feed *f)
{
    f->held = true;
}

void feed_destroy(struct feed *f)
{
    if (!f)
        return;
    engine_unlisten(f->engine, &f->listener);
    loop_task_cancel(f->loop, &f->waking);
    while (f->first < f->end)
        drop_first(f);
    buf_fini(&f->scratch);
    free(f);
}
