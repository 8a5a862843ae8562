/* Batches: a group of the store with pictures of the rows as they were when they were added, since rows go on changing
 * while the writer thread reads. Texts that never change once set are borrowed from the live object, which stays until
 * the batch is done (live_run.writes); `reason` and `error_message` of an event do change, and are copied. */
#include "engine/internal.h"

struct snapshot {
    struct snapshot *next;
    struct live_run *run;  /* held by `writes`; NULL: none */
    struct live_event *ev; /* the feed hears of it once it is on disk; NULL: not an event. It goes with this batch or a
                              later one, after what is told here */
    bool owns_texts;
    union {
        struct event event;
        struct run_row row;
        struct step_row step;
    };
};

/* As it was recorded, with the texts that never change. */
static void tell(struct engine *e, const struct snapshot *s)
{
    struct event shown = s->event;
    shown.data = s->ev->rec.data;
    shown.resolved_inputs = s->ev->rec.resolved_inputs;
    if (shown.data) /* else it waits, with its data left in the store */
        feed_tell(e, &shown);
    if (shown.status != EVENT_PENDING && shown.status != EVENT_EXECUTING)
        event_tell_end(s->ev, shown.status);
}

static void batch_group_done(struct store_group *g, int result)
{
    struct batch *b = g->ctx;
    struct engine *e = b->engine;
    if (result == 0) {
        /* Pictures were added in front: tell in order of addition. */
        struct snapshot *reversed = NULL;
        while (b->snapshots) {
            struct snapshot *s = b->snapshots;
            b->snapshots = s->next;
            s->next = reversed;
            reversed = s;
        }
        b->snapshots = reversed;
        for (struct snapshot *s = b->snapshots; s; s = s->next)
            if (s->ev)
                tell(e, s);
    }
    if (b->done)
        b->done(b, result);
    while (b->snapshots) {
        struct snapshot *s = b->snapshots;
        b->snapshots = s->next;
        if (s->owns_texts) {
            free(s->event.reason);
            free(s->event.error_message);
        }
        if (s->run) {
            s->run->writes--;
            run_free(s->run);
        }
        free(s);
    }
    store_group_fini(g);
    free(b);
    e->batches--;
    drain_progress(e);
}

struct batch *batch_new(struct engine *e, unsigned flags, void (*done)(struct batch *b, int result), void *ctx)
{
    struct batch *b = xcalloc(1, sizeof(*b));
    b->engine = e;
    b->done = done;
    b->ctx = ctx;
    store_group_init(&b->group, flags, batch_group_done, b);
    return b;
}

static struct snapshot *picture(struct batch *b, struct live_run *run)
{
    struct snapshot *s = xcalloc(1, sizeof(*s));
    s->next = b->snapshots;
    b->snapshots = s;
    s->run = run;
    if (run)
        run->writes++;
    return s;
}

static struct snapshot *event_picture(struct batch *b, struct live_event *ev)
{
    struct snapshot *s = picture(b, NULL);
    s->event = ev->rec;
    s->event.reason = xstrdup0(ev->rec.reason);
    s->event.error_message = xstrdup0(ev->rec.error_message);
    s->owns_texts = true;
    s->ev = ev;
    return s;
}

void batch_event_insert(struct batch *b, struct live_event *ev)
{
    ev->rec.seq = b->engine->store->next_seq(b->engine->store);
    store_add_event_insert(&b->group, &ev->rec); /* nothing of it changes until it is recorded */
}

void batch_event_update(struct batch *b, struct live_event *ev, bool with_inputs)
{
    /* The texts that an update does not write may be freed before the writer comes to it. */
    struct snapshot *s = event_picture(b, ev);
    if (!with_inputs)
        s->event.resolved_inputs = NULL;
    store_add_event_update(&b->group, &s->event);
}

static struct snapshot *run_picture(struct batch *b, struct live_run *run)
{
    struct snapshot *s = picture(b, run);
    s->row = run->row;
    return s;
}

void batch_run_insert(struct batch *b, struct live_run *run)
{
    run->row.seq = b->engine->store->next_seq(b->engine->store);
    struct snapshot *s = run_picture(b, run);
    store_add_run_insert(&b->group, &s->row);
}

void batch_run_update(struct batch *b, struct live_run *run)
{
    struct snapshot *s = run_picture(b, run);
    store_add_run_update(&b->group, &s->row);
}

void batch_step(struct batch *b, struct live_step *step)
{
    picture(b, step->run);
    step->recorded = true;
    store_add_step(&b->group, step->run->row.seq, &step->row);
}

void batch_retry(struct batch *b, struct live_step *step)
{
    struct snapshot *s = picture(b, step->run);
    s->step = (struct step_row){
        .step_id = step->row.step_id,
        .status = STEP_PENDING,
        .attempt = step->attempt + 1,
        .exit_code = -1,
        .started_ms = step->row.started_ms,
    };
    store_add_step(&b->group, step->run->row.seq, &s->step);
}

void batch_submit(struct batch *b)
{
    b->engine->batches++;
    b->engine->store->submit(b->engine->store, &b->group);
}

void batch_fired(struct batch *b, const struct live_trigger *t, int64_t at_ms)
{
    store_add_kv_tally(&b->group, "fired", t->id, at_ms);
}
