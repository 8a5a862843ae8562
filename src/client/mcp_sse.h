/* Server-sent events out of bytes as they come (WHATWG HTML, 9.2): lines end with CR, LF or both, `data` lines of one
 * event are joined by LF, an event ends with an empty line; one that the stream breaks off in is dropped. Pure.
 * Thread: any, one user at a time. */
#ifndef TRIGGERD_CLIENT_MCP_SSE_H
#define TRIGGERD_CLIENT_MCP_SSE_H

#include "base/util.h"

#include <stdint.h>

#define SSE_ID_MAX 8192 /* bytes of an id; longer ones are not kept */

/* Zero-initialised but for `max` is empty. */
struct sse {
    size_t max;       /* bytes of a line, and of the data of an event */
    struct buf line;  /* as far as it came */
    struct buf data;  /* of the event under way */
    char *id;         /* the last one of the stream; NULL: none */
    char *next_id;    /* of the event under way */
    char *event;      /* likewise; NULL: `message` */
    int64_t retry_ms; /* the last one given, where any was */
    bool any_retry;
    bool begun; /* past a byte order mark */
    bool after_cr, any_data, too_long, skip_line;
};

/* Called for each event with data, borrowed for the call; `data` is NUL-terminated. `data` NULL: one was too long, and
 * was left out. */
typedef void sse_event_fn(void *ctx, const char *event, const char *data, size_t len);
void sse_feed(struct sse *s, const char *bytes, size_t len, sse_event_fn *fn, void *ctx);
/* The stream is over: what was not finished is dropped; id and retry stay, for the next one. */
void sse_end(struct sse *s);
void sse_fini(struct sse *s);

#endif
