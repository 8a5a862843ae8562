#include "base/mask.h"

struct needle {
    char *bytes;
    size_t len;
};

struct mask {
    struct needle *needles; /* longest first */
    size_t n;
    bool first[256];     /* bytes that some value begins with */
    uint64_t filter[64]; /* a bit for the first four of each, by a hash */
};

static unsigned hash_of_four(const char *p)
{
    uint32_t four;
    memcpy(&four, p, MASK_MIN);
    return four * 2654435761u >> 20;
}

struct mask *mask_create(void)
{
    return xcalloc(1, sizeof(struct mask));
}

void secret_free(char *value)
{
    if (!value)
        return;
    explicit_bzero(value, strlen(value));
    free(value);
}

void mask_destroy(struct mask *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->n; i++) {
        explicit_bzero(m->needles[i].bytes, m->needles[i].len);
        free(m->needles[i].bytes);
    }
    free(m->needles);
    free(m);
}

bool mask_is_empty(const struct mask *m)
{
    return !m || m->n == 0;
}

static void add(struct mask *m, const char *bytes, size_t len)
{
    size_t at = 0;
    for (; at < m->n && m->needles[at].len >= len; at++)
        if (m->needles[at].len == len && memcmp(m->needles[at].bytes, bytes, len) == 0)
            return;
    m->needles = xreallocarray(m->needles, m->n + 1, sizeof(*m->needles));
    memmove(&m->needles[at + 1], &m->needles[at], (m->n - at) * sizeof(*m->needles));
    m->needles[at] = (struct needle){xmemdup(bytes, len), len};
    m->n++;
    m->first[(unsigned char)bytes[0]] = true;
    unsigned bit = hash_of_four(bytes);
    m->filter[bit / 64] |= UINT64_C(1) << bit % 64;
}

/* As it stands inside a JSON string. */
static void escape(const char *value, size_t len, struct buf *out)
{
    static const char plain[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
    for (size_t i = 0; i < len; i++) {
        const char *special = value[i] ? strchr(plain, value[i]) : NULL;
        if (special)
            buf_printf(out, "\\%c", letter[special - plain]);
        else if ((unsigned char)value[i] < 0x20)
            buf_printf(out, "\\u%04x", (unsigned)value[i]);
        else
            buf_addc(out, value[i]);
    }
}

void mask_add(struct mask *m, const char *value, size_t len)
{
    if (len < MASK_MIN)
        return;
    add(m, value, len);
    struct buf escaped = {0};
    escape(value, len, &escaped);
    if (escaped.len != len)
        add(m, escaped.data, escaped.len);
    explicit_bzero(escaped.data, escaped.len);
    buf_fini(&escaped);
}

/* The longest value that starts at `p`; 0: none. */
static size_t match(const struct mask *m, const char *p, size_t len)
{
    if (len < MASK_MIN)
        return 0;
    unsigned bit = hash_of_four(p);
    if (!(m->filter[bit / 64] >> bit % 64 & 1))
        return 0;
    for (size_t i = 0; i < m->n; i++)
        if (m->needles[i].len <= len && memcmp(m->needles[i].bytes, p, m->needles[i].len) == 0)
            return m->needles[i].len;
    return 0;
}

/* Show what starts before `until`; what a value there covers may reach past it: the number of those bytes is kept. */
static void show(const struct mask *m, const char *p, size_t len, size_t until, size_t *covered, struct buf *out)
{
    size_t plain = 0; /* where the bytes begin that are not shown yet */
    for (size_t i = 0; i < until; i++) {
        size_t n = match(m, p + i, len - i);
        if (*covered == 0 && n > 0) {
            buf_add(out, p + plain, i - plain);
            buf_adds(out, MASK_TEXT);
        }
        *covered = MAX(*covered, n);
        if (*covered > 0) {
            --*covered;
            plain = i + 1;
        }
    }
    buf_add(out, p + plain, until - plain);
}

void mask_bytes(const struct mask *m, const char *text, size_t len, struct buf *out)
{
    size_t covered = 0;
    if (mask_is_empty(m))
        buf_add(out, text, len);
    else
        show(m, text, len, len, &covered, out);
}

void mask_string(const struct mask *m, char **text)
{
    if (!*text || mask_is_empty(m))
        return;
    struct buf b = {0};
    mask_bytes(m, *text, strlen(*text), &b);
    char *shown = buf_steal(&b);
    secret_free(*text);
    *text = shown;
}

/* How many bytes are decided: what follows them may be the beginning of a value. */
static size_t settled(const struct mask *m, const char *p, size_t len)
{
    size_t longest = mask_is_empty(m) ? 1 : m->needles[0].len;
    for (size_t at = len >= longest ? len - longest + 1 : 0; at < len; at++) {
        if (!m->first[(unsigned char)p[at]])
            continue;
        for (size_t i = 0; i < m->n && m->needles[i].len > len - at; i++)
            if (memcmp(m->needles[i].bytes, p + at, len - at) == 0)
                return at;
    }
    return len;
}

void mask_feed(const struct mask *m, struct mask_stream *s, const char *data, size_t len, struct buf *out)
{
    if (mask_is_empty(m) && s->held.len == 0) {
        buf_add(out, data, len);
        return;
    }
    buf_add(&s->held, data, len);
    size_t until = settled(m, s->held.data, s->held.len), keep = s->held.len - until;
    show(m, s->held.data, s->held.len, until, &s->covered, out);
    memmove(s->held.data, s->held.data + until, keep);
    s->held.len = keep;
}

void mask_flush(const struct mask *m, struct mask_stream *s, struct buf *out)
{
    if (s->held.len > 0)
        show(m, s->held.data, s->held.len, s->held.len, &s->covered, out);
    mask_stream_fini(s);
}

void mask_stream_fini(struct mask_stream *s)
{
    if (s->held.data)
        explicit_bzero(s->held.data, s->held.cap);
    buf_fini(&s->held);
    s->covered = 0;
}

/* ---- what is written where everyone may read it ---- */

/* Bytes of a reference or a template at `p`; 0: there is none. */
static size_t placeholder(const char *p, const char *limit)
{
    bool template = strncmp(p, "{{", 2) == 0;
    if (!template && strncmp(p, "${env:", 6) != 0 && strncmp(p, "${file:", 7) != 0)
        return 0;
    const char *end = strstr(p, template ? "}}" : "}");
    size_t n = end ? (size_t)(end - p) + (template ? 2 : 1) : 0;
    return n <= (size_t)(limit - p) ? n : 0;
}

void mask_literal(const char *text, size_t len, struct buf *out)
{
    bool literal = false;
    for (const char *p = text, *limit = text + len; p < limit;) {
        size_t n = placeholder(p, limit);
        if (n > 0)
            buf_add(out, p, n);
        else if (!literal)
            buf_adds(out, MASK_TEXT);
        literal = n == 0;
        p += MAX(n, (size_t)1);
    }
}

/* Where what follows `scheme://` ends; within it the last `@`, and the first `:` before that. */
struct authority {
    const char *end, *at, *colon;
    bool plain; /* what follows the last colon is a port */
};

static struct authority authority_of(const char *start, const char *stops)
{
    struct authority a = {.end = start, .plain = true};
    const char *limit = start + strlen(start), *colon = NULL;
    bool after_colon = false;
    while (*a.end && !strchr(stops, *a.end)) {
        size_t n = placeholder(a.end, limit);
        if (n == 0 && *a.end == '@') {
            a.at = a.end;
            a.colon = colon;
            a.plain = true;
            after_colon = false;
        } else if (n == 0 && *a.end == ':') {
            colon = colon ? colon : a.end;
            a.plain = after_colon = true;
        } else if (n == 0 && after_colon && (*a.end < '0' || *a.end > '9')) {
            a.plain = false;
        }
        a.end += MAX(n, (size_t)1);
    }
    return a;
}

bool url_password(const char *text, const char **ret_start, const char **ret_end)
{
    static const char outside[] = " \t\r\n\"'<>`\\";
    for (const char *p = text; (p = strstr(p, "://")); p += 3) {
        char before = p > text ? p[-1] : ' ';
        bool scheme = (before >= 'a' && before <= 'z') || (before >= 'A' && before <= 'Z') ||
                      (before >= '0' && before <= '9') || before == '+' || before == '-' || before == '.';
        if (!scheme)
            continue;
        struct authority a = authority_of(p + 3, "/?# \t\r\n\"'<>`\\");
        /* A password with a `/` that should have been written %2F: no host has such a port. */
        if (!a.at && !a.plain && p[3] != '[')
            a = authority_of(p + 3, outside);
        if (!a.at || !a.colon || a.colon + 1 == a.at)
            continue;
        *ret_start = a.colon + 1;
        *ret_end = a.at;
        return true;
    }
    return false;
}

bool mask_urls(char **text)
{
    const char *start, *end;
    if (!*text || !url_password(*text, &start, &end))
        return false;
    struct buf b = {0};
    const char *rest = *text;
    do {
        buf_add(&b, rest, (size_t)(start - rest));
        mask_literal(start, (size_t)(end - start), &b);
        rest = end;
    } while (url_password(rest, &start, &end));
    buf_adds(&b, rest);
    bool differs = !streq(b.data, *text);
    if (differs) {
        secret_free(*text);
        *text = buf_steal(&b);
    }
    buf_fini(&b);
    return differs;
}
