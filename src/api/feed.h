/* The feed for views: what engine_listen() tells, kept for a while and shared by all readers.
 *
 * Each change of an event's status is one message with a position. Positions grow by one a message and also from one
 * life of the daemon to the next (a life's first is the time of its start in microseconds), so that a reader that names
 * a position it had is either given all that came after it or told how much is missing: never less without a word.
 * Over a restart that is a gap of unknown size (FEED_GAP_UNKNOWN): what happened in an earlier life is in the store.
 *
 * Messages are rendered once, into a ring with bounds of its own; a reader is a position in it. So a reader that stops
 * reading costs nothing and holds nobody up: the ring goes on, and what it dropped is counted for that reader. Nothing
 * is rendered while nobody reads and nobody has for FEED_KEPT_MS, unless feed_hold() asks for it.
 *
 * Thread: the loop's.
 */
#ifndef TRIGGERD_API_FEED_H
#define TRIGGERD_API_FEED_H

#include "base/clock.h"
#include "base/loop.h"
#include "engine/engine.h"

#define FEED_MESSAGES_MAX 8192             /* kept in the ring … */
#define FEED_BYTES_MAX ((size_t)8 << 20)   /* … and their bytes; the newest is kept whatever its size */
#define FEED_KEPT_MS (INT64_C(10) * 60000) /* after the last reader has gone */
#define FEED_GAP_UNKNOWN UINT64_MAX

struct feed;
struct feed_reader;

int feed_create(struct loop *loop, struct engine *engine, struct clock *clock, struct feed **ret);
/* Every reader is closed. NULL is allowed. */
void feed_destroy(struct feed *f);
/* Keep messages though nobody reads, from now on. */
void feed_hold(struct feed *f);

struct feed_filter {
    const char *trigger_id, *pipeline_id, *event_type; /* NULL: any; copied */
    int status, decision;                              /* -1: any */
};

/* A message as a reader gets it. */
struct feed_message {
    uint64_t position;
    uint64_t gap;     /* ≠ 0: so many messages are missing here, FEED_GAP_UNKNOWN: some may be; no event then */
    const char *json; /* the event as REST shows it, one line; borrowed until the loop goes on */
    size_t len;
    const char *trigger_id; /* likewise borrowed */
};

/* `wake` comes when there is something for a reader that was told there is nothing, and when the message that it is
 * looking at was dropped (`lost`); once, never from inside a call of the reader's. */
typedef void feed_wake_fn(void *ctx, bool lost);

/* `after` NULL: from now on; else a position as text, after which it goes on. */
struct feed_reader *feed_reader_open(struct feed *f, const struct feed_filter *filter, const char *after,
                                     feed_wake_fn *wake, void *ctx);
void feed_reader_close(struct feed_reader *r);
/* The reader's next message, the same until it is taken; false: nothing now. */
bool feed_reader_look(struct feed_reader *r, struct feed_message *ret);
void feed_reader_take(struct feed_reader *r);

#endif
