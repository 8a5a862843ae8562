#include "base/timer.h"

#include "base/util.h"

#include <assert.h>
#include <utlist.h>

#define PLACE_IDLE SIZE_MAX
#define PLACE_READY (SIZE_MAX - 1)

void timers_init(struct timers *timers, void (*changed)(struct timers *timers, void *ctx), void *ctx)
{
    *timers = (struct timers){.changed = changed, .changed_ctx = ctx};
}

void timers_fini(struct timers *timers)
{
    assert(!timers->running);
    for (size_t i = 0; i < timers->count; i++)
        timers->heap[i]->place = PLACE_IDLE;
    free(timers->heap);
    *timers = (struct timers){0};
}

void timer_init(struct timer *timer, timer_fn *fn, void *ctx)
{
    *timer = (struct timer){.fn = fn, .ctx = ctx, .place = PLACE_IDLE};
}

bool timer_active(const struct timer *timer)
{
    return timer->place != PLACE_IDLE;
}

static bool before(const struct timer *a, const struct timer *b)
{
    return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->order < b->order;
}

static void put(struct timers *timers, size_t place, struct timer *timer)
{
    timers->heap[place] = timer;
    timer->place = place;
}

static void sift_up(struct timers *timers, size_t place, struct timer *timer)
{
    while (place > 0) {
        size_t parent = (place - 1) / 2;
        if (!before(timer, timers->heap[parent]))
            break;
        put(timers, place, timers->heap[parent]);
        place = parent;
    }
    put(timers, place, timer);
}

static void sift_down(struct timers *timers, size_t place, struct timer *timer)
{
    for (size_t child; (child = 2 * place + 1) < timers->count; place = child) {
        if (child + 1 < timers->count && before(timers->heap[child + 1], timers->heap[child]))
            child++;
        if (!before(timers->heap[child], timer))
            break;
        put(timers, place, timers->heap[child]);
    }
    put(timers, place, timer);
}

static void heap_add(struct timers *timers, struct timer *timer)
{
    if (timers->count == timers->cap) {
        timers->cap = timers->cap ? timers->cap * 2 : 16;
        timers->heap = xreallocarray(timers->heap, timers->cap, sizeof(struct timer *));
    }
    sift_up(timers, timers->count++, timer);
}

/* Take a timer out of the heap or out of what is ready. */
static void take_out(struct timers *timers, struct timer *timer)
{
    if (timer->place == PLACE_READY) {
        /* The item of a list of one is its own predecessor. */
        assert(timer->next || timer != timers->ready || timer->prev == timer);
        DL_DELETE(timers->ready, timer);
    } else if (timer->place != PLACE_IDLE) {
        size_t place = timer->place;
        struct timer *last = timers->heap[--timers->count];
        if (last != timer) {
            if (place > 0 && before(last, timers->heap[(place - 1) / 2]))
                sift_up(timers, place, last);
            else
                sift_down(timers, place, last);
        }
    }
    timer->place = PLACE_IDLE;
}

int64_t timers_next(const struct timers *timers)
{
    if (timers->ready)
        return timers->ready->due_ms;
    return timers->count > 0 ? timers->heap[0]->due_ms : -1;
}

static void tell_if_changed(struct timers *timers, int64_t next_before)
{
    if (timers->changed && !timers->running && timers_next(timers) != next_before)
        timers->changed(timers, timers->changed_ctx);
}

void timer_start(struct timers *timers, struct timer *timer, int64_t due_ms)
{
    int64_t next_before = timers_next(timers);
    take_out(timers, timer);
    timer->due_ms = MAX(due_ms, 0);
    timer->order = timers->started++;
    heap_add(timers, timer);
    tell_if_changed(timers, next_before);
}

void timer_stop(struct timers *timers, struct timer *timer)
{
    int64_t next_before = timers_next(timers);
    take_out(timers, timer);
    tell_if_changed(timers, next_before);
}

void timers_run(struct timers *timers, int64_t now_ms)
{
    assert(!timers->running);
    timers->running = true;
    /* All that are due leave the heap first: what the callbacks start cannot come between, nor make this endless. */
    while (timers->count > 0 && timers->heap[0]->due_ms <= now_ms) {
        struct timer *timer = timers->heap[0];
        take_out(timers, timer);
        timer->place = PLACE_READY;
        DL_APPEND(timers->ready, timer);
    }
    while (timers->ready) {
        struct timer *timer = timers->ready;
        take_out(timers, timer);
        timer->fn(timer, timer->ctx);
    }
    timers->running = false;
}
