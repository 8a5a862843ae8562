#include "http/event_stream.h"

#include "base/util.h"

#include <inttypes.h>
#include <stdio.h>

/* All that a reader costs: no bytes wait here, they go from the ring straight into the connection's block. */
struct event_stream {
    struct http_stream *stream;
    struct feed_reader *reader;
    char head[96]; /* of the message on its way, or all of a gap; "": none is on its way */
    size_t head_len;
    size_t sent; /* bytes of the message, its head counted */
    bool broken; /* the message on its way is gone */
};

static const char tail[] = "\n\n";

static void begin_message(struct event_stream *s, const struct feed_message *m)
{
    int n;
    if (m->gap == FEED_GAP_UNKNOWN)
        n = snprintf(s->head, sizeof(s->head), "id: %" PRIu64 "\nevent: gap\ndata: {\"gap\": null}", m->position);
    else if (m->gap)
        n = snprintf(s->head, sizeof(s->head), "id: %" PRIu64 "\nevent: gap\ndata: {\"gap\": %" PRIu64 "}", m->position,
                     m->gap);
    else
        n = snprintf(s->head, sizeof(s->head), "id: %" PRIu64 "\ndata: ", m->position);
    s->head_len = (size_t)n;
    s->sent = 0;
}

/* The part of `text` that stands at `from` in the message and was not sent yet. */
static size_t copy_part(struct event_stream *s, size_t from, const char *text, size_t len, char *to, size_t max)
{
    if (s->sent < from || s->sent >= from + len)
        return 0;
    size_t at = s->sent - from, n = MIN(len - at, max);
    memcpy(to, text + at, n);
    s->sent += n;
    return n;
}

static ssize_t on_pull(void *ctx, char *to, size_t max)
{
    struct event_stream *s = ctx;
    struct feed_message m;
    size_t n = 0;
    if (s->broken)
        return -1;
    while (n < max && feed_reader_look(s->reader, &m)) {
        if (s->head_len == 0)
            begin_message(s, &m);
        size_t len = m.gap ? 0 : m.len;
        n += copy_part(s, 0, s->head, s->head_len, to + n, max - n);
        n += copy_part(s, s->head_len, m.json, len, to + n, max - n);
        n += copy_part(s, s->head_len + len, tail, sizeof(tail) - 1, to + n, max - n);
        if (s->sent < s->head_len + len + sizeof(tail) - 1)
            break;
        s->head_len = 0;
        feed_reader_take(s->reader);
    }
    return (ssize_t)n;
}

/* Half of a message cannot be told to be missing: the client comes again, and says what it had. */
static void on_wake(void *ctx, bool lost)
{
    struct event_stream *s = ctx;
    if (lost && s->head_len > 0 && s->sent > 0)
        s->broken = true;
    else if (lost)
        s->head_len = 0;
    http_stream_wake(s->stream);
}

static void on_closed(void *ctx)
{
    struct event_stream *s = ctx;
    feed_reader_close(s->reader);
    free(s);
}

void event_stream_open(struct feed *f, const struct feed_filter *filter, struct http_request *r)
{
    struct event_stream *s = xcalloc(1, sizeof(*s));
    s->reader = feed_reader_open(f, filter, http_header(r, "Last-Event-ID"), on_wake, s);
    s->stream = http_reply_stream(r, "text/event-stream", on_closed, s);
    http_stream_pull(s->stream, on_pull);
}

/* ---- changes ---- */

struct change_stream {
    struct http_stream *stream;
    struct change_reader *reader;
    char text[128]; /* the message on its way */
    size_t len, sent;
};

/* A message is made when the client takes it: what changes until then is in it. */
static void next_changes(struct change_stream *s)
{
    unsigned changed = change_reader_take(s->reader);
    s->len = s->sent = 0;
    if (!changed)
        return;
    for (int i = 0; change_kind_name(i); i++)
        if (changed & 1u << i)
            s->len += (size_t)snprintf(s->text + s->len, sizeof(s->text) - s->len, "%s\"%s\"",
                                       s->len ? ", " : "data: {\"changed\": [", change_kind_name(i));
    s->len += (size_t)snprintf(s->text + s->len, sizeof(s->text) - s->len, "]}%s", tail);
}

static ssize_t on_pull_changes(void *ctx, char *to, size_t max)
{
    struct change_stream *s = ctx;
    if (s->sent == s->len)
        next_changes(s);
    size_t n = MIN(s->len - s->sent, max);
    memcpy(to, s->text + s->sent, n);
    s->sent += n;
    return (ssize_t)n;
}

static void on_change(void *ctx)
{
    struct change_stream *s = ctx;
    http_stream_wake(s->stream);
}

static void on_changes_closed(void *ctx)
{
    struct change_stream *s = ctx;
    change_reader_close(s->reader);
    free(s);
}

void change_stream_open(struct changes *c, unsigned kinds, const char *id, struct http_request *r)
{
    struct change_stream *s = xcalloc(1, sizeof(*s));
    s->reader = change_reader_open(c, kinds, id, on_change, s);
    s->stream = http_reply_stream(r, "text/event-stream", on_changes_closed, s);
    http_stream_pull(s->stream, on_pull_changes);
}
