#include "spawn/sweeper.h"

#include "base/util.h"
#include "spawn/orphans.h"

#define SWEEP_AFTER_MS 500
#define TAGS_MAX 100000 /* at more ends in half a second the oldest are kept */

struct tags {
    char **items;
    size_t n, cap;
};

struct sweeper {
    struct loop *loop;
    struct timer timer;
    struct loop_work work;
    struct loop_task closing_task;
    struct tags noted, sweeping;
    bool busy, closing;
    void (*done)(void *ctx);
    void *ctx;
};

static void tags_fini(struct tags *t)
{
    for (size_t i = 0; i < t->n; i++)
        free(t->items[i]);
    free(t->items);
    *t = (struct tags){0};
}

static void sweep(void *ctx)
{
    struct sweeper *s = ctx;
    orphans_sweep(s->sweeping.items, s->sweeping.n);
}

static void begin(struct sweeper *s);

static void closed(void *ctx)
{
    struct sweeper *s = ctx;
    void (*done)(void *) = s->done;
    void *done_ctx = s->ctx;
    tags_fini(&s->noted);
    free(s);
    done(done_ctx);
}

static void swept(void *ctx)
{
    struct sweeper *s = ctx;
    s->busy = false;
    tags_fini(&s->sweeping);
    if (s->closing && s->noted.n == 0)
        closed(s);
    else if (s->closing)
        begin(s);
    else if (s->noted.n > 0)
        loop_timer_start(s->loop, &s->timer, SWEEP_AFTER_MS);
}

static void begin(struct sweeper *s)
{
    s->busy = true;
    s->sweeping = s->noted;
    s->noted = (struct tags){0};
    loop_work_submit(s->loop, &s->work, sweep, swept, s);
}

static void on_timer(struct timer *timer, void *ctx)
{
    (void)timer;
    begin(ctx);
}

struct sweeper *sweeper_create(struct loop *loop)
{
    struct sweeper *s = xcalloc(1, sizeof(*s));
    s->loop = loop;
    timer_init(&s->timer, on_timer, s);
    loop_task_init(&s->closing_task, closed, s);
    return s;
}

void sweeper_note(struct sweeper *s, const char *tag)
{
    if (s->noted.n >= TAGS_MAX)
        return;
    if (s->noted.n == s->noted.cap) {
        s->noted.cap = s->noted.cap ? s->noted.cap * 2 : 64;
        s->noted.items = xreallocarray(s->noted.items, s->noted.cap, sizeof(char *));
    }
    s->noted.items[s->noted.n++] = xstrdup(tag);
    if (!s->busy && !timer_active(&s->timer))
        loop_timer_start(s->loop, &s->timer, SWEEP_AFTER_MS);
}

void sweeper_close(struct sweeper *s, void (*done)(void *ctx), void *ctx)
{
    s->closing = true;
    s->done = done;
    s->ctx = ctx;
    loop_timer_stop(s->loop, &s->timer);
    if (s->busy)
        return;
    if (s->noted.n > 0)
        begin(s);
    else
        loop_defer(s->loop, &s->closing_task);
}
