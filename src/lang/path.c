/* Paths: segments and selectors of RFC 9535's grammar, and the extended forms. */
#include "lang/path_parser.h"

/* ---- destruction ---- */

static void selector_destroy(struct selector *s)
{
    free(s->name);
    expr_destroy(s->filter);
    free(s);
}

static void segments_destroy(struct segment *segment)
{
    while (segment) {
        struct segment *next = segment->next;
        while (segment->selectors) {
            struct selector *s = segment->selectors;
            segment->selectors = s->next;
            selector_destroy(s);
        }
        free(segment);
        segment = next;
    }
}

void query_destroy(struct query *q)
{
    if (!q)
        return;
    segments_destroy(q->segments);
    free(q);
}

static void query_destroyp(struct query **q)
{
    query_destroy(*q);
}

/* ---- selectors and segments ---- */

static int parse_index_or_slice(struct parser *s, struct selector *sel)
{
    int r;
    if (*s->p != ':') {
        r = parser_int(s, &sel->start);
        if (r < 0)
            return r;
        sel->has_start = true;
        const char *after = s->p;
        parser_skip_blanks(s);
        if (*s->p != ':') {
            s->p = after;
            sel->kind = SELECT_INDEX;
            sel->index = sel->start;
            return 0;
        }
    }
    sel->kind = SELECT_SLICE;
    sel->step = 1;
    s->p++;
    parser_skip_blanks(s);
    if (is_digit(*s->p) || *s->p == '-') {
        r = parser_int(s, &sel->end);
        if (r < 0)
            return r;
        sel->has_end = true;
        parser_skip_blanks(s);
    }
    if (*s->p != ':')
        return 0;
    s->p++;
    parser_skip_blanks(s);
    return is_digit(*s->p) || *s->p == '-' ? parser_int(s, &sel->step) : 0;
}

static int parse_filter(struct parser *s, struct selector *sel)
{
    int r = parser_enter(s);
    if (r < 0)
        return r;
    s->p++;
    parser_skip_blanks(s);
    sel->kind = SELECT_FILTER;
    r = parser_logical(s, &sel->filter);
    s->nesting--;
    return r;
}

static int parse_selector(struct parser *s, struct selector *sel)
{
    switch (*s->p) {
    case '\'':
    case '"':
        sel->kind = SELECT_NAME;
        return parser_string(s, &sel->name);
    case '*':
        sel->kind = SELECT_WILDCARD;
        s->p++;
        return 0;
    case '?':
        return parse_filter(s, sel);
    case ':':
    case '-':
    case '0' ... '9':
        return parse_index_or_slice(s, sel);
    default:
        return parser_expected(s, "a quoted name, an index, a slice, '*' or a filter");
    }
}

static int parse_brackets(struct parser *s, struct segment *segment)
{
    struct selector **tail = &segment->selectors;
    s->p++;
    for (;;) {
        parser_skip_blanks(s);
        *tail = xcalloc(1, sizeof(**tail));
        int r = parse_selector(s, *tail);
        if (r < 0)
            return r;
        tail = &(*tail)->next;
        parser_skip_blanks(s);
        if (*s->p == ']') {
            s->p++;
            return 0;
        }
        if (*s->p != ',')
            return parser_expected(s, "',' or ']'");
        s->p++;
    }
}

static void take_name(struct parser *s, size_t n, struct selector *sel)
{
    sel->kind = SELECT_NAME;
    sel->name = xstrndup(s->p, n);
    s->p += n;
}

/* Digits after a dot: an element or a member. */
static void take_dot_index(struct parser *s, size_t n, struct selector *sel)
{
    bool index = n <= 15 && (n == 1 || *s->p != '0');
    sel->index = index ? 0 : -1;
    for (size_t i = 0; index && i < n; i++)
        sel->index = sel->index * 10 + (s->p[i] - '0');
    take_name(s, n, sel);
    sel->kind = SELECT_DOT_INDEX;
}

/* What follows `.` or `..` outside brackets. */
static int parse_shorthand(struct parser *s, struct segment *segment)
{
    struct selector *sel = xcalloc(1, sizeof(*sel));
    segment->selectors = sel;
    size_t n = 0;
    if (*s->p == '*') {
        sel->kind = SELECT_WILDCARD;
        s->p++;
    } else if (is_name_first(*s->p)) {
        while (is_name_first(s->p[n]) || is_digit(s->p[n]))
            n++;
        take_name(s, n, sel);
    } else if ((s->flags & PATH_MAPPING) && !segment->descendant && is_digit(*s->p)) {
        while (is_digit(s->p[n]))
            n++;
        take_dot_index(s, n, sel);
    } else {
        return parser_expected(s, "a name or '*'");
    }
    return 0;
}

static int parse_segment(struct parser *s, struct segment *segment)
{
    if (*s->p == '[')
        return parse_brackets(s, segment);
    s->p++;
    if (*s->p == '.') {
        segment->descendant = true;
        s->p++;
        if (*s->p == '[')
            return parse_brackets(s, segment);
    }
    return parse_shorthand(s, segment);
}

static bool is_singular(const struct segment *segment)
{
    const struct selector *s = segment->selectors;
    return !segment->descendant && !s->next &&
           (s->kind == SELECT_NAME || s->kind == SELECT_INDEX || s->kind == SELECT_DOT_INDEX);
}

/* All segments from s->p on; blanks after the last one are left. */
static int parse_segments(struct parser *s, struct query *q)
{
    struct segment **tail = &q->segments;
    q->singular = true;
    for (;;) {
        const char *before = s->p;
        parser_skip_blanks(s);
        if (*s->p != '.' && *s->p != '[') {
            s->p = before;
            return 0;
        }
        *tail = xcalloc(1, sizeof(**tail));
        int r = parse_segment(s, *tail);
        if (r < 0)
            return r;
        q->singular = q->singular && is_singular(*tail);
        tail = &(*tail)->next;
    }
}

int parser_query(struct parser *s, struct query **ret)
{
    _cleanup_(query_destroyp) struct query *q = xcalloc(1, sizeof(*q));
    q->relative = *s->p == '@';
    s->p++;
    int r = parse_segments(s, q);
    if (r < 0)
        return r;
    *ret = steal(&q);
    return 0;
}

/* ---- paths ---- */

/* RFC 9535's jsonpath-query over the whole text (with `.0`, where the flags allow it). */
static int parse_whole(struct parser *s, struct query **ret)
{
    _cleanup_(query_destroyp) struct query *q = NULL;
    if (*s->p != '$')
        return parser_expected(s, "'$'");
    int r = parser_query(s, &q);
    if (r >= 0 && *s->p)
        r = parser_expected(s, "'.', '[' or the end of the path");
    if (r < 0)
        return r;
    *ret = steal(&q);
    return 0;
}

/* `$.` and names between dots. False: it is not that either. */
static bool parse_dotted(struct parser *s, struct query **ret)
{
    _cleanup_(query_destroyp) struct query *q = xcalloc(1, sizeof(*q));
    struct segment **tail = &q->segments;
    q->singular = true;
    if (*s->p++ != '$')
        return false;
    while (*s->p == '.') {
        s->p++;
        size_t n = 0;
        while ((unsigned char)s->p[n] > ' ' && s->p[n] != 0x7F && !strchr(".'\"[]()*?,", s->p[n]))
            n++;
        if (n == 0)
            return false;
        *tail = xcalloc(1, sizeof(**tail));
        struct selector *sel = (*tail)->selectors = xcalloc(1, sizeof(*sel));
        if (strspn(s->p, "0123456789") == n)
            take_dot_index(s, n, sel);
        else
            take_name(s, n, sel);
        tail = &(*tail)->next;
    }
    if (*s->p)
        return false;
    *ret = steal(&q);
    return true;
}

static int parse(const char *text, unsigned flags, struct query **ret, struct error *err)
{
    bool bare = (flags & PATH_MAPPING) && *text && !is_blank(*text) && !strchr("$.[*", *text);
    _cleanup_(freep) char *whole = xasprintf("%s%s", bare ? "$." : "", text);
    struct parser s = {.text = whole, .p = whole, .skipped = bare ? 2 : 0, .flags = flags, .err = err};
    int r = parse_whole(&s, ret);
    if (r < 0 && (flags & PATH_MAPPING)) {
        struct parser again = {.text = whole, .p = whole, .flags = flags};
        if (parse_dotted(&again, ret)) {
            error_clear(err);
            return 0;
        }
    }
    return r;
}

int path_compile(const char *text, unsigned flags, struct path **ret, struct error *err)
{
    size_t len = strnlen(text, PATH_TEXT_MAX + 1);
    if (len > PATH_TEXT_MAX)
        return error_set_at(err, -E2BIG, 1, PATH_TEXT_MAX + 1, "the path is longer than %d bytes", PATH_TEXT_MAX);
    if (!utf8_valid(text, len))
        return error_set_at(err, -EINVAL, 1, 1, "the path is not valid UTF-8");
    if (len == 0)
        return error_set_at(err, -EINVAL, 1, 1, "the path is empty");
    struct query *q = NULL;
    int r = parse(text, flags, &q, err);
    if (r < 0)
        return r;
    struct path *p = xcalloc(1, sizeof(*p));
    p->text = xstrdup(text);
    p->flags = flags;
    p->query = q;
    *ret = p;
    return 0;
}

void path_destroy(struct path *p)
{
    if (!p)
        return;
    query_destroy(p->query);
    free(p->text);
    free(p);
}

const char *path_text(const struct path *p)
{
    return p->text;
}

bool path_is_singular(const struct path *p)
{
    return p->query->singular;
}

const char *path_first_name(const struct path *p)
{
    const struct segment *first = p->query->segments;
    return first && is_singular(first) && first->selectors->kind == SELECT_NAME ? first->selectors->name : NULL;
}
