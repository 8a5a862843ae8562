/* Which of several identities a trigger has an event of: for sources that put messages together, and must know before. */
#include "engine/internal.h"

#include <assert.h>

struct asked {
    struct live_trigger *trigger; /* pinned */
    const struct source_type *type;
    struct source *source;
    uint64_t token;
};

static struct source_known answer_of(struct live_trigger *t, const struct store_seen *seen, struct live_event *last)
{
    if (!seen->event)
        return (struct source_known){.state = KNOWN_NOT};
    enum event_status status = seen->status < 0 ? EVENT_COMPLETED : (enum event_status)seen->status;
    if (status != EVENT_PENDING && status != EVENT_EXECUTING)
        return (struct source_known){.state = KNOWN_ENDED, .status = status};
    struct live_event *ev = last && streq(last->rec.id, seen->event) ? last : trigger_find_event(t, seen->event);
    return (struct source_known){.state = ev ? KNOWN_OPEN : KNOWN_ENDING, .event = ev};
}

static void seen_read(struct store_read *r, int result)
{
    struct asked *a = r->ctx;
    struct live_trigger *t = a->trigger;
    struct engine *e = t->engine;
    _cleanup_(freep) struct source_known *answers = result == 0 ? xcalloc(r->n_seen, sizeof(*answers)) : NULL;
    struct live_event *last = NULL; /* messages that came together come again together */
    for (size_t i = 0; answers && i < r->n_seen; i++) {
        answers[i] = answer_of(t, &r->seen[i], last);
        last = answers[i].event ? answers[i].event : last;
    }
    store_read_free(r);
    e->reading--;
    a->type->known(a->source, a->token, answers);
    free(a);
    t->pins--;
    trigger_reap(t);
    drain_progress(e);
}

void source_look_up(struct source_host *host, const char *const *identities, size_t n, uint64_t token)
{
    struct live_trigger *t = host->trigger;
    struct engine *e = t->engine;
    assert(n <= SOURCE_LOOK_UP_MAX && t->type->settles_late);
    struct asked *a = xcalloc(1, sizeof(*a));
    *a = (struct asked){t, t->type, t->source, token};
    t->pins++;
    e->reading++;
    struct store_read *r = store_read_new(STORE_READ_SEEN, seen_read, a);
    r->scope = xasprintf("trigger/%s", t->id);
    r->seen = xcalloc(n, sizeof(*r->seen));
    r->n_seen = n;
    for (size_t i = 0; i < n; i++)
        r->seen[i].key = xstrdup0(identities[i]);
    r->now_ms = engine_wall(e);
    e->store->read(e->store, r);
}

void source_watch(struct source_host *host, const struct source_known *known, uint64_t token)
{
    event_watch(known->event, host->trigger->source_epoch, token);
}
