#include "step/http_url.h"

#include <errno.h>

void http_url_add(void *pieces, enum template_piece kind, const char *text)
{
    struct http_url_pieces *p = pieces;
    p->items = xreallocarray(p->items, p->n + 1, sizeof(*p->items));
    p->items[p->n++] = (struct http_url_piece){kind, xstrdup(text)};
}

void http_url_pieces_fini(struct http_url_pieces *p)
{
    for (size_t i = 0; i < p->n; i++) {
        explicit_bzero(p->items[i].text, strlen(p->items[i].text));
        free(p->items[i].text);
    }
    free(p->items);
    *p = (struct http_url_pieces){0};
}

static bool is_plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
           c == '_';
}

static void add_encoded(struct buf *b, const char *text, const char *keep)
{
    for (const char *p = text; *p; p++) {
        if (is_plain(*p) || *p == '~' || strchr(keep, *p))
            buf_addc(b, *p);
        else
            buf_printf(b, "%%%02X", (unsigned)(unsigned char)*p);
    }
}

/* Text that fixes the structure: the template's own, and what stands at the very beginning. */
static bool is_literal(const struct http_url_pieces *p, size_t i)
{
    return i == 0 || p->items[i].kind == TEMPLATE_PIECE_TEXT;
}

/* Where the authority ends and its userinfo does, as places in the structure: the literal pieces one after the other. */
struct structure {
    size_t authority, userinfo, end; /* the first byte of each but userinfo, which is the one after its `@`; 0: none */
};

static struct structure structure_of(const struct http_url_pieces *p)
{
    struct buf b = {0};
    struct structure s = {0};
    for (size_t i = 0; i < p->n; i++)
        if (is_literal(p, i))
            buf_adds(&b, p->items[i].text);
    const char *text = b.data ? b.data : "";
    const char *at = strstr(text, "://");
    if (at) {
        const char *from = at + 3, *end = from + strcspn(from, "/?#\\");
        s.authority = (size_t)(from - text);
        s.end = (size_t)(end - text);
        for (const char *c = from; c < end; c++)
            if (*c == '@')
                s.userinfo = (size_t)(c - text) + 1;
    }
    buf_fini(&b);
    return s;
}

/* `place`: how much of the structure stands before it. */
static int paste(struct buf *out, const struct structure *s, size_t place, const struct http_url_piece *piece,
                 bool in_query, struct error *err)
{
    const char *text = piece->text;
    if (s->authority == 0 || place < s->authority)
        return error_set(err, -EINVAL, "url: a value stands before the end of `http://`; only the whole beginning may");
    if (place < s->userinfo) {
        add_encoded(out, text, "");
    } else if (place <= s->end && !in_query && !strpbrk(out->data + s->authority, "/?#")) {
        if (!*text)
            return error_set(err, -EINVAL, "url: the value in the host is empty");
        for (const char *c = text; *c; c++)
            if (!is_plain(*c))
                return error_set(err, -EINVAL, "url: the value in the host holds more than letters, digits and - . _");
        buf_adds(out, text);
    } else {
        add_encoded(out, text, piece->kind == TEMPLATE_PIECE_REFERENCE && !in_query ? "/" : "");
    }
    return 0;
}

/* A dot, or its encoded form, of `n` bytes left; 0: it is none. */
static size_t dot_at(const char *p, size_t n)
{
    if (n >= 1 && *p == '.')
        return 1;
    return n >= 3 && p[0] == '%' && p[1] == '2' && (p[2] == 'e' || p[2] == 'E') ? 3 : 0;
}

static bool has_dot_segment(const char *url)
{
    const char *p = strstr(url, "://");
    p = p ? p + 3 + strcspn(p + 3, "/?#") : url;
    while (*p == '/') {
        size_t n = strcspn(++p, "/?#"), used = dot_at(p, n);
        used += used > 0 ? dot_at(p + used, n - used) : 0;
        if (used > 0 && used == n)
            return true;
        p += n;
    }
    return false;
}

int http_url_build(const struct http_url_pieces *p, char **ret, struct error *err)
{
    struct structure s = structure_of(p);
    _cleanup_(buf_fini) struct buf out = {0};
    size_t place = 0;
    bool in_query = false, pasted = false;
    for (size_t i = 0; i < p->n; i++) {
        if (!is_literal(p, i)) {
            int r = paste(&out, &s, place, &p->items[i], in_query, err);
            if (r < 0)
                return r;
            pasted = true;
            continue;
        }
        const char *text = p->items[i].text;
        for (const char *c = text; *c; c++)
            if ((unsigned char)*c < 0x20 || *c == 0x7f)
                return error_set(err, -EINVAL, "url: holds a control character");
        buf_adds(&out, text);
        place += strlen(text);
        in_query = in_query || strpbrk(text, "?#");
    }
    if (pasted && has_dot_segment(out.data ? out.data : ""))
        return error_set(err, -EINVAL, "url: a segment of the path is `.` or `..`");
    *ret = buf_steal(&out);
    return 0;
}
