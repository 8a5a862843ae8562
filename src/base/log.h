/* The log: lines on standard error, as text or JSON, each written by one write(2).
 *
 *     2026-01-02T03:04:05.678Z WARNING source: connection refused trigger=orders url="redis://db:6379/0"
 *     {"time":"2026-01-02T03:04:05.678Z","level":"warning","area":"source","message":"connection
 * refused","trigger":"orders"}
 *
 * An area is the layer or part that speaks ("engine", "fs"). Where standard error is the journal (JOURNAL_STREAM names
 * it), a line starts with its priority, `<4>`, which journald takes off. A line is at most LOG_LINE_MAX bytes, so that
 * lines of several threads do not mix in a pipe; what is longer is cut with "…". Control characters, line ends and
 * bytes that are no UTF-8 come out as escapes: nobody can forge a line. A line that cannot be written is lost.
 *
 * Library functions do not log; programs and the layers that own a resource do, once a change of state, not an attempt.
 * Thread: any. The only global state of the program.
 */
#ifndef TRIGGERD_BASE_LOG_H
#define TRIGGERD_BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define LOG_LINE_MAX 4096 /* PIPE_BUF */

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/* Without it: info, text, descriptor 2, no priorities. At start, before other threads. */
void log_init(enum log_level level, enum log_format format);
void log_set_level(enum log_level level); /* any time */
void log_set_fd(int fd);                  /* for tests; not closed; no priorities from here on */

/* "error", "warning", "info", "debug"; "text", "json". -EINVAL: another word. */
int log_level_parse(const char *name, enum log_level *ret);
int log_format_parse(const char *name, enum log_format *ret);
const char *log_level_name(enum log_level level);

/* What belongs to a line beside its message; a NULL value leaves the field out. A list ends with a NULL key. */
struct log_field {
    const char *key, *value;
};
#define LOG_FIELDS(...) ((const struct log_field[]){__VA_ARGS__, {0}})

#define log_error(area, ...) log_at(LOG_LEVEL_ERROR, area, NULL, __VA_ARGS__)
#define log_warning(area, ...) log_at(LOG_LEVEL_WARNING, area, NULL, __VA_ARGS__)
#define log_info(area, ...) log_at(LOG_LEVEL_INFO, area, NULL, __VA_ARGS__)
#define log_debug(area, ...) log_at(LOG_LEVEL_DEBUG, area, NULL, __VA_ARGS__)
/* With fields: log_at(LOG_LEVEL_INFO, "engine", LOG_FIELDS({"trigger", id}, {"run", run}), "fired after %d ms", ms).
 * The arguments are evaluated only if the level is enabled. errno is kept (%m works). */
#define log_at(level, area, fields, ...) (log_enabled(level) ? log_write(level, area, fields, __VA_ARGS__) : (void)0)

extern _Atomic int log_threshold; /* of log_enabled(); set by log_set_level() */
static inline bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&log_threshold, memory_order_relaxed);
}

void log_write(enum log_level level, const char *area, const struct log_field *fields, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* A token bucket for lines that outside events can cause at any rate: `burst` lines at once, then one an interval.
 *
 *     struct log_limit limit = LOG_LIMIT_INIT(5, 1000);
 *     uint64_t suppressed;
 *     if (log_limit_pass(&limit, now_ms, &suppressed))
 *         log_warning("http", "bad request from %s (%" PRIu64 " more were not logged)", peer, suppressed);
 *
 * Thread: its owner's. */
struct log_limit {
    int64_t interval_ms;
    unsigned burst, used;
    int64_t refilled_ms;
    uint64_t suppressed;
};
#define LOG_LIMIT_INIT(burst_, interval_ms_) ((struct log_limit){.burst = (burst_), .interval_ms = (interval_ms_)})

/* May a line be written at `now_ms` (monotonic)? If so, *ret_suppressed gets how many were not since the last one. */
bool log_limit_pass(struct log_limit *limit, int64_t now_ms, uint64_t *ret_suppressed);

#endif
