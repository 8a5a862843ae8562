/* What `log` files say: the lines of the feed since the daemon's start, of all and of each trigger. Kept over mounts.
 *
 * A line has a number and an offset in each log that it is in, both of which only grow. A log keeps at least its last
 * LOG_LINES lines, as long as all lines together stay below LOG_BYTES_MAX; past that the oldest go.
 *
 * Thread: the loop's. */
#ifndef TRIGGERD_FS_LOG_H
#define TRIGGERD_FS_LOG_H

#include "api/feed.h"

#include <uthash.h>

#define LOG_LINES 10000
#define LOG_BYTES_MAX ((size_t)32 << 20)

struct log_line;

/* One log: a ring of lines. */
struct log {
    struct log_at {
        struct log_line *line;
        uint64_t offset; /* of its first byte */
    } * ring;
    size_t cap;          /* a power of two */
    uint64_t first, end; /* numbers of the lines kept: [first, end) */
    uint64_t end_offset; /* of what comes next */
    int64_t changed_ms;
    /* of a trigger */
    char *trigger_id;
    UT_hash_handle hh;
};

struct log_store;

struct log_store *log_store_create(struct feed *feed, struct clock *clock);
/* Before the feed's end. NULL is allowed. */
void log_store_destroy(struct log_store *s);
/* Take what the feed has already. */
void log_sync(struct log_store *s);
/* trigger_id NULL: of all. NULL: it has said nothing yet, or nothing of it is kept. */
struct log *log_find(struct log_store *s, const char *trigger_id);

/* Where the last LOG_LINES lines begin: number and offset. Of a NULL log zeroes. */
void log_begin(const struct log *log, uint64_t *ret_number, uint64_t *ret_offset);
/* Append at most `max` bytes from `offset` on to `b`; what is dropped before `offset` can not be told here. */
void log_copy(const struct log *log, uint64_t offset, size_t max, struct buf *b);
/* The oldest kept: offset and number; of an empty log those of what comes next. */
void log_oldest(const struct log *log, uint64_t *ret_number, uint64_t *ret_offset);
/* The number of the line that holds the byte at `offset`, which is kept, or the end. */
uint64_t log_number(const struct log *log, uint64_t offset);

#endif
