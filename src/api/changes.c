#include "api/changes.h"

#include "base/util.h"

#include <utlist.h>

struct changes {
    struct loop *loop;
    struct engine *engine;
    struct change_listener on_change;
    struct feed_listener on_event;
    struct change_reader *readers;
    struct loop_task waking;
    struct timer pace; /* until the next reader may hear again */
};

struct change_reader {
    struct changes *changes;
    unsigned kinds, changed;
    char *id;
    int64_t quiet_until_ms;
    bool dry; /* it was told that there is nothing */
    void (*wake)(void *ctx);
    void *ctx;
    struct change_reader *prev, *next;
};

const char *change_kind_name(int i)
{
    static const char *const words[] = {"triggers", "pipelines", "runs", "events", "manifests", "mcp_servers"};
    return i >= 0 && (size_t)i < ARRAY_SIZE(words) ? words[i] : NULL;
}

/* ---- what changed ---- */

void changes_tell(struct changes *c, unsigned kinds, const char *id)
{
    struct change_reader *r;
    DL_FOREACH (c->readers, r) {
        if (!(r->kinds & kinds) || (id && r->id && !streq(id, r->id)))
            continue;
        r->changed |= r->kinds & kinds;
        if (r->dry)
            loop_defer(c->loop, &c->waking);
    }
}

static void on_change(struct change_listener *l, enum watched what, const char *id)
{
    struct changes *c = container_of(l, struct changes, on_change);
    changes_tell(c,
                 what == WATCHED_TRIGGER    ? CHANGED_TRIGGERS
                 : what == WATCHED_PIPELINE ? CHANGED_PIPELINES
                                            : CHANGED_RUNS,
                 id);
}

/* Triggers count what fired, pipelines what runs. */
static void on_event(struct feed_listener *l, const struct event *ev)
{
    struct changes *c = container_of(l, struct changes, on_event);
    changes_tell(c, CHANGED_EVENTS, ev->id);
    changes_tell(c, CHANGED_TRIGGERS, ev->trigger_id);
    if (!ev->run_id[0])
        return;
    changes_tell(c, CHANGED_PIPELINES, ev->pipeline_id);
    changes_tell(c, CHANGED_RUNS, ev->run_id);
}

/* ---- waking ---- */

/* A reader may close itself, but no other one, while it is woken. */
static void wake_all(void *ctx)
{
    struct changes *c = ctx;
    int64_t now = loop_now_ms(c->loop), next = INT64_MAX;
    struct change_reader *r, *after;
    DL_FOREACH_SAFE (c->readers, r, after) {
        if (!r->dry || !r->changed)
            continue;
        if (now < r->quiet_until_ms) {
            next = MIN(next, r->quiet_until_ms);
            continue;
        }
        r->dry = false;
        r->wake(r->ctx);
    }
    if (next < INT64_MAX && !timer_active(&c->pace))
        loop_timer_start(c->loop, &c->pace, next - now);
}

static void on_pace(struct timer *timer, void *ctx)
{
    (void)timer;
    wake_all(ctx);
}

/* ---- readers ---- */

struct change_reader *change_reader_open(struct changes *c, unsigned kinds, const char *id, void (*wake)(void *ctx),
                                         void *ctx)
{
    struct change_reader *r = xcalloc(1, sizeof(*r));
    *r = (struct change_reader){.changes = c, .kinds = kinds, .id = xstrdup0(id), .wake = wake, .ctx = ctx};
    if (!c->readers) {
        engine_watch(c->engine, &c->on_change);
        engine_listen(c->engine, &c->on_event);
    }
    DL_APPEND(c->readers, r);
    return r;
}

void change_reader_close(struct change_reader *r)
{
    struct changes *c = r->changes;
    DL_DELETE(c->readers, r);
    if (!c->readers) {
        engine_watch(c->engine, NULL);
        engine_unlisten(c->engine, &c->on_event);
        loop_timer_stop(c->loop, &c->pace);
    }
    free(r->id);
    free(r);
}

unsigned change_reader_take(struct change_reader *r)
{
    int64_t now = loop_now_ms(r->changes->loop);
    if (!r->changed || now < r->quiet_until_ms) {
        r->dry = true;
        if (r->changed)
            loop_defer(r->changes->loop, &r->changes->waking);
        return 0;
    }
    unsigned changed = r->changed;
    r->changed = 0;
    r->quiet_until_ms = now + CHANGES_PACE_MS;
    return changed;
}

/* ---- life ---- */

struct changes *changes_create(struct loop *loop, struct engine *engine)
{
    struct changes *c = xcalloc(1, sizeof(*c));
    *c = (struct changes){.loop = loop, .engine = engine, .on_change.fn = on_change, .on_event.fn = on_event};
    loop_task_init(&c->waking, wake_all, c);
    timer_init(&c->pace, on_pace, c);
    return c;
}

void changes_destroy(struct changes *c)
{
    if (!c)
        return;
    loop_task_cancel(c->loop, &c->waking);
    loop_timer_stop(c->loop, &c->pace);
    free(c);
}
