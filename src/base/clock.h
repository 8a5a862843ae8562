/* Time: the clock port, RFC 3339 text, durations.
 *
 * Whatever needs the time takes a `struct clock *`, so that the simulator can hand in one of its own. Wall-clock times
 * are milliseconds since 1970-01-01T00:00:00Z, monotonic times are milliseconds since some fixed moment of this boot;
 * the two never mix. Thread: any (struct clock_manual: one thread, or a lock of the caller's).
 *
 * Standard: RFC 3339 section 5.6 (its grammar, `t`, `z` and a space for the `T` included), years 0000 to 9999.
 */
#ifndef TRIGGERD_BASE_CLOCK_H
#define TRIGGERD_BASE_CLOCK_H

#include <stdint.h>

struct clock {
    int64_t (*realtime_ms)(struct clock *clock);
    int64_t (*monotonic_ms)(struct clock *clock);
};

/* The machine's clocks (CLOCK_REALTIME, CLOCK_MONOTONIC). Always the same object; it holds no state. */
struct clock *clock_system(void);

static inline int64_t clock_realtime_ms(struct clock *clock)
{
    return clock->realtime_ms(clock);
}

static inline int64_t clock_monotonic_ms(struct clock *clock)
{
    return clock->monotonic_ms(clock);
}

/* A clock that moves only when told to: for tests and the simulator. Set the two fields at will. */
struct clock_manual {
    struct clock clock;
    int64_t realtime_ms, monotonic_ms;
};
void clock_manual_init(struct clock_manual *manual, int64_t realtime_ms, int64_t monotonic_ms);
/* Both go forward by `ms` ≥ 0. */
void clock_manual_advance(struct clock_manual *manual, int64_t ms);

/* The times that four digits of year can hold. */
#define TIME_MIN_MS (-62167219200000LL) /* 0000-01-01T00:00:00.000Z */
#define TIME_MAX_MS 253402300799999LL   /* 9999-12-31T23:59:59.999Z */
#define TIME_TEXT_SIZE 25               /* "2026-01-02T03:04:05.678Z" and its NUL */

/* Write `2026-01-02T03:04:05.678Z`. Times outside TIME_MIN_MS … TIME_MAX_MS are shown as the nearer of the two. */
void time_format(int64_t ms, char out[TIME_TEXT_SIZE]);

/* Read an RFC 3339 date-time (offset required; digits after the milliseconds are dropped; second 60 only where UTC is
 * at 23:59, read as the second after) or a date alone (its midnight in UTC). -EINVAL: anything else, also around it. */
int time_parse(const char *text, int64_t *ret_ms);

/* Read `1w2d3h4m5s6ms`: each unit at most once, largest first, digits with an optional fraction (`1.5h`); not negative.
 * -EINVAL: anything else (a bare number too); -ERANGE: more than 1000 years. */
int duration_parse(const char *text, int64_t *ret_ms);

/* `--since`: a time as time_parse() takes it, or one without an offset (in UTC, as a date alone is), or a duration before
 * `now_ms`. */
int time_parse_since(const char *text, int64_t now_ms, int64_t *ret_ms);

#endif
