#include "client/mcp_sse.h"

#define RETRY_DIGITS_MAX 9
#define KEPT_MAX (64 * 1024) /* memory that an empty buffer keeps */

static void set_text(char **slot, const char *text, size_t len)
{
    free(*slot);
    *slot = xstrndup(text, len);
}

static void empty(struct buf *b)
{
    if (b->cap > KEPT_MAX)
        buf_fini(b);
    b->len = 0;
}

static void take_retry(struct sse *s, const char *value, size_t len)
{
    int64_t ms = 0;
    if (len == 0 || len > RETRY_DIGITS_MAX)
        return;
    for (size_t i = 0; i < len; i++) {
        if (value[i] < '0' || value[i] > '9')
            return;
        ms = ms * 10 + (value[i] - '0');
    }
    s->retry_ms = ms;
    s->any_retry = true;
}

static void take_data(struct sse *s, const char *value, size_t len)
{
    if (s->too_long || s->data.len + s->any_data + len > s->max) {
        s->too_long = true;
        empty(&s->data);
        return;
    }
    if (s->any_data)
        buf_addc(&s->data, '\n');
    buf_add(&s->data, value, len);
    s->any_data = true;
}

static void dispatch(struct sse *s, sse_event_fn *fn, void *ctx)
{
    if (s->next_id) {
        free(s->id);
        s->id = *s->next_id ? xstrdup(s->next_id) : NULL; /* an empty one: none from here on */
        free(s->next_id);
        s->next_id = NULL;
    }
    if (s->too_long)
        fn(ctx, s->event ? s->event : "message", NULL, 0);
    else if (s->any_data && s->data.len > 0)
        fn(ctx, s->event ? s->event : "message", s->data.data, s->data.len);
    empty(&s->data);
    free(s->event);
    s->event = NULL;
    s->any_data = s->too_long = false;
}

static bool is(const char *name, size_t len, const char *word)
{
    return len == strlen(word) && memcmp(name, word, len) == 0;
}

static void take_line(struct sse *s, sse_event_fn *fn, void *ctx)
{
    const char *line = s->line.data ? s->line.data : "";
    size_t len = s->line.len;
    if (s->skip_line) { /* what it was is not known: it may have been data */
        s->too_long = true;
        s->skip_line = false;
        return;
    }
    if (len == 0) {
        dispatch(s, fn, ctx);
        return;
    }
    const char *colon = memchr(line, ':', len);
    size_t name = colon ? (size_t)(colon - line) : len;
    const char *value = colon ? colon + 1 : line + len;
    if (colon && value < line + len && *value == ' ')
        value++;
    size_t n = (size_t)(line + len - value);
    if (is(line, name, "data"))
        take_data(s, value, n);
    else if (is(line, name, "event"))
        set_text(&s->event, value, n);
    else if (is(line, name, "id") && !memchr(value, '\0', n) && n <= SSE_ID_MAX)
        set_text(&s->next_id, value, n);
    else if (is(line, name, "retry"))
        take_retry(s, value, n);
}

static void add_to_line(struct sse *s, const char *bytes, size_t len)
{
    if (s->skip_line || s->line.len + len > s->max + 16) {
        s->skip_line = true;
        empty(&s->line);
        return;
    }
    buf_add(&s->line, bytes, len);
}

void sse_feed(struct sse *s, const char *bytes, size_t len, sse_event_fn *fn, void *ctx)
{
    static const char mark[] = "\xEF\xBB\xBF";
    size_t from = 0;
    for (size_t i = 0; i < len; i++) {
        char c = bytes[i];
        bool second = c == '\n' && s->after_cr; /* of a CR LF */
        s->after_cr = c == '\r';
        if (second) {
            from = i + 1;
            continue;
        }
        if (c != '\n' && c != '\r')
            continue;
        add_to_line(s, bytes + from, i - from);
        if (!s->begun && s->line.len >= 3 && memcmp(s->line.data, mark, 3) == 0) {
            memmove(s->line.data, s->line.data + 3, s->line.len - 3);
            s->line.len -= 3;
        }
        s->begun = true;
        take_line(s, fn, ctx);
        empty(&s->line);
        from = i + 1;
    }
    if (from < len)
        add_to_line(s, bytes + from, len - from);
}

void sse_end(struct sse *s)
{
    empty(&s->line);
    empty(&s->data);
    free(s->event);
    free(s->next_id);
    s->event = s->next_id = NULL;
    s->begun = s->after_cr = s->any_data = s->too_long = s->skip_line = false;
}

void sse_fini(struct sse *s)
{
    sse_end(s);
    buf_fini(&s->line);
    buf_fini(&s->data);
    free(s->id);
    *s = (struct sse){0};
}
