#include "fs/log.h"

/* Shared by the log of all and that of its trigger; freed when it has left both. */
struct log_line {
    unsigned refs;
    struct log *of; /* its trigger's */
    size_t len;
    char text[];
};

struct log_store {
    struct feed *feed;
    struct feed_reader *reader;
    struct clock *clock;
    struct log all;
    struct log *of_triggers;
    size_t bytes;
};

static struct log_at *at(const struct log *log, uint64_t number)
{
    return &log->ring[number & (log->cap - 1)];
}

static void line_unref(struct log_store *s, struct log_line *line)
{
    if (--line->refs > 0)
        return;
    s->bytes -= sizeof(*line) + line->len;
    free(line);
}

static void drop_first(struct log_store *s, struct log *log)
{
    line_unref(s, at(log, log->first++)->line);
}

static void append(struct log_store *s, struct log *log, struct log_line *line, int64_t now)
{
    if (log->end - log->first == log->cap && log->cap >= LOG_LINES)
        drop_first(s, log);
    if (log->end - log->first == log->cap) {
        size_t cap = log->cap ? log->cap * 2 : 16;
        struct log_at *ring = xcalloc(cap, sizeof(*ring));
        for (uint64_t i = log->first; i < log->end; i++)
            ring[i & (cap - 1)] = *at(log, i);
        free(log->ring);
        log->ring = ring;
        log->cap = cap;
    }
    line->refs++;
    *at(log, log->end++) = (struct log_at){line, log->end_offset};
    log->end_offset += line->len;
    log->changed_ms = now;
}

static struct log *log_get(struct log_store *s, const char *trigger_id)
{
    struct log *log = NULL;
    HASH_FIND_STR(s->of_triggers, trigger_id, log);
    if (log)
        return log;
    log = xcalloc(1, sizeof(*log));
    log->trigger_id = xstrdup(trigger_id);
    HASH_ADD_KEYPTR(hh, s->of_triggers, log->trigger_id, strlen(log->trigger_id), log);
    return log;
}

static void add_line(struct log_store *s, const struct feed_message *m)
{
    static const char gap[] = "{\"gap\": %llu}";
    char text[64];
    const char *json = m->json;
    size_t len = m->len;
    if (m->gap) {
        len = (size_t)snprintf(text, sizeof(text), gap, (unsigned long long)m->gap);
        json = text;
    }
    struct log_line *line = xmalloc(sizeof(*line) + len + 1);
    int64_t now = clock_realtime_ms(s->clock);
    *line = (struct log_line){.len = len + 1};
    memcpy(line->text, json, len);
    line->text[len] = '\n';
    s->bytes += sizeof(*line) + line->len;
    append(s, &s->all, line, now);
    if (m->trigger_id)
        append(s, line->of = log_get(s, m->trigger_id), line, now);
    /* What is the oldest of all is the oldest of its trigger's, unless it has left that already. */
    while (s->bytes > LOG_BYTES_MAX && s->all.first + 1 < s->all.end) {
        struct log_line *oldest = at(&s->all, s->all.first)->line;
        struct log *own = oldest->of;
        if (own && own->first < own->end && at(own, own->first)->line == oldest)
            drop_first(s, own);
        drop_first(s, &s->all);
    }
}

static void on_wake(void *ctx, bool lost)
{
    (void)lost; /* told as a gap */
    struct log_store *s = ctx;
    struct feed_message m;
    while (feed_reader_look(s->reader, &m)) {
        add_line(s, &m);
        feed_reader_take(s->reader);
    }
}

void log_sync(struct log_store *s)
{
    on_wake(s, false);
}

struct log_store *log_store_create(struct feed *feed, struct clock *clock)
{
    static const struct feed_filter all = {.status = -1, .decision = -1};
    struct log_store *s = xcalloc(1, sizeof(*s));
    s->feed = feed;
    s->clock = clock;
    s->reader = feed_reader_open(feed, &all, NULL, on_wake, s);
    on_wake(s, false); /* to be woken from now on */
    return s;
}

static void log_fini(struct log_store *s, struct log *log)
{
    while (log->first < log->end)
        drop_first(s, log);
    free(log->ring);
    free(log->trigger_id);
}

void log_store_destroy(struct log_store *s)
{
    struct log *log, *next;
    if (!s)
        return;
    feed_reader_close(s->reader);
    log_fini(s, &s->all);
    log = s->of_triggers;
    HASH_CLEAR(hh, s->of_triggers); /* the table alone; the items stay linked */
    for (; log; log = next) {
        next = log->hh.next;
        log_fini(s, log);
        free(log);
    }
    free(s);
}

struct log *log_find(struct log_store *s, const char *trigger_id)
{
    struct log *log = NULL;
    if (!trigger_id)
        return &s->all;
    HASH_FIND_STR(s->of_triggers, trigger_id, log);
    return log;
}

/* ---- looking ---- */

static void place(const struct log *log, uint64_t number, uint64_t *ret_number, uint64_t *ret_offset)
{
    *ret_number = number;
    *ret_offset = number < log->end ? at(log, number)->offset : log->end_offset;
}

void log_begin(const struct log *log, uint64_t *ret_number, uint64_t *ret_offset)
{
    *ret_number = *ret_offset = 0;
    if (log)
        place(log, log->end - log->first > LOG_LINES ? log->end - LOG_LINES : log->first, ret_number, ret_offset);
}

void log_oldest(const struct log *log, uint64_t *ret_number, uint64_t *ret_offset)
{
    place(log, log->first, ret_number, ret_offset);
}

uint64_t log_number(const struct log *log, uint64_t offset)
{
    uint64_t low = log->first, high = log->end; /* of the last line that begins at or before `offset` */
    if (offset >= log->end_offset)
        return log->end;
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (at(log, middle)->offset <= offset)
            low = middle;
        else
            high = middle;
    }
    return low;
}

void log_copy(const struct log *log, uint64_t offset, size_t max, struct buf *b)
{
    for (uint64_t i = log_number(log, offset); i < log->end && max > 0; i++) {
        const struct log_at *a = at(log, i);
        size_t skip = offset > a->offset ? (size_t)(offset - a->offset) : 0;
        size_t n = MIN(max, a->line->len - skip);
        buf_add(b, a->line->text + skip, n);
        max -= n;
    }
}
