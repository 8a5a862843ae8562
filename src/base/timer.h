/* Timers: a binary heap of intrusive timers on a monotonic clock that somebody else watches.
 *
 * The heap knows neither the time nor a loop. In production `struct loop` drives it by one uv_timer, armed for the
 * earliest due time and for nothing when there is none; the simulator drives it by hand:
 *
 *     for (int64_t due; (due = timers_next(timers)) >= 0;) { advance the clock to due; timers_run(timers, due); }
 *
 * Timers live inside their owners, which stop them before they are freed. Start and stop cost O(log n).
 * Thread: one (the loop's).
 */
#ifndef TRIGGERD_BASE_TIMER_H
#define TRIGGERD_BASE_TIMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct timer;
typedef void timer_fn(struct timer *timer, void *ctx);

struct timer {
    timer_fn *fn;
    void *ctx;
    int64_t due_ms; /* monotonic; of the last start */
    uint64_t order; /* ties go by it */
    size_t place;   /* in the heap, or one of two marks: idle, or taken out by timers_run() to be run */
    struct timer *prev, *next;
};

struct timers {
    struct timer **heap;
    size_t count, cap;
    uint64_t started;
    struct timer *ready; /* taken out by timers_run(), not yet called; a utlist */
    bool running;
    void (*changed)(struct timers *timers, void *ctx); /* see timers_init() */
    void *changed_ctx;
};

/* `changed` (may be NULL) is called when timers_next() has changed by a start or stop outside timers_run(). */
void timers_init(struct timers *timers, void (*changed)(struct timers *timers, void *ctx), void *ctx);
/* Whatever is still started is forgotten: its owner may free it, and may still stop it. */
void timers_fini(struct timers *timers);

/* An idle timer. Call once, before the others. */
void timer_init(struct timer *timer, timer_fn *fn, void *ctx);

/* Run it once at `due_ms` (≥ 0; a past time means: at the next timers_run()). A started timer is moved. */
void timer_start(struct timers *timers, struct timer *timer, int64_t due_ms);
/* Nothing happens if it is idle. When this returns, the callback will not be called. */
void timer_stop(struct timers *timers, struct timer *timer);
bool timer_active(const struct timer *timer);

/* When the earliest is due, -1 if there is none. */
int64_t timers_next(const struct timers *timers);

/* Call every timer due at `now_ms` or before, in order of due time, those of one time in the order of their starts. A
 * timer is idle when its callback is called, which may start, stop and free any timer, itself included; what it starts
 * waits for the next timers_run(), even if it is due, so that one call ends. Not to be called from a callback. */
void timers_run(struct timers *timers, int64_t now_ms);

#endif
