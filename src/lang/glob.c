/* A pattern is checked once as text (so that errors have columns), its braces are expanded into alternatives, and each
 * of those is a list of components, each a list of tokens. A path is matched component by component with the set of
 * all positions in the list that could have been reached: `**` needs no backtracking, and "could anything below match"
 * is the same set seen before its end. */
#include "lang/glob.h"

#include "base/util.h"

#include <errno.h>

#define UNIT_BYTE 0x110000u /* + byte: a byte that is no part of valid UTF-8 */

enum token_kind { TOKEN_LITERAL, TOKEN_ANY, TOKEN_STAR, TOKEN_SET };

struct token {
    enum token_kind kind;
    bool negated;    /* TOKEN_SET */
    uint32_t value;  /* TOKEN_LITERAL: the character; TOKEN_SET: index of its first range */
    uint32_t ranges; /* TOKEN_SET: how many */
};

struct range {
    uint32_t first, last;
};

struct component {
    bool globstar;
    uint32_t token, tokens; /* first and number */
};

struct alternative {
    bool absolute; /* starts with '/' */
    bool dir_only; /* ends with '/' (GLOB_IGNORE) */
    bool by_name;  /* one component, to be found anywhere (GLOB_IGNORE) */
    unsigned count;
    struct component components[GLOB_COMPONENTS_MAX + 2]; /* room for the inserted `**` and `*` */
};

struct glob {
    unsigned flags;
    struct alternative *alternatives;
    size_t count, tokens, ranges;
    struct token *token;
    struct range *range;
};

/* One character of [*p, end): a code point, or UNIT_BYTE + byte. */
static uint32_t next_unit(const char **p, const char *end)
{
    const unsigned char *u = (const unsigned char *)*p;
    if (u[0] < 0x80) {
        *p += 1;
        return u[0];
    }
    size_t n = utf8_sequence(*p, (size_t)(end - *p));
    *p += n ? n : 1;
    switch (n) {
    case 2:
        return (uint32_t)(u[0] & 0x1F) << 6 | (u[1] & 0x3F);
    case 3:
        return (uint32_t)(u[0] & 0x0F) << 12 | (uint32_t)(u[1] & 0x3F) << 6 | (u[2] & 0x3F);
    case 4:
        return (uint32_t)(u[0] & 0x07) << 18 | (uint32_t)(u[1] & 0x3F) << 12 | (uint32_t)(u[2] & 0x3F) << 6 |
               (u[3] & 0x3F);
    default:
        return UNIT_BYTE + u[0];
    }
}

/* Column (in characters, from 1) of `at` in `text`. */
static unsigned column_of(const char *text, const char *at)
{
    unsigned column = 1;
    while (text < at) {
        next_unit(&text, at);
        column++;
    }
    return column;
}

/* ---- Checking the text ---------------------------------------------------------------------------------------------
 */

/* One end of a range in a set; *p is on it. */
static int set_unit(const char *pattern, const char **p, const char *end, uint32_t *ret, struct error *err)
{
    if (**p == '[' && *p + 1 < end && strchr(":.=", (*p)[1]))
        return error_set_at(err, -EINVAL, 1, column_of(pattern, *p),
                            "classes such as [:alpha:] are not known here, write the range ([A-Za-z])");
    if (**p == '\\' && ++*p == end)
        return error_set_at(err, -EINVAL, 1, column_of(pattern, end - 1), "`\\` at the end escapes nothing");
    if (**p == '/')
        return error_set_at(err, -EINVAL, 1, column_of(pattern, *p), "`/` inside `[…]` never matches");
    *ret = next_unit(p, end);
    return 0;
}

/* *p is on the '['; moves past the ']'. With `g` the ranges are added to it. */
static int parse_set(const char *pattern, const char **p, const char *end, struct glob *g, struct token *ret,
                     struct error *err)
{
    const char *start = (*p)++;
    *ret = (struct token){.kind = TOKEN_SET};
    if (*p < end && (**p == '!' || **p == '^')) {
        ret->negated = true;
        ++*p;
    }
    if (g)
        ret->value = (uint32_t)g->ranges;
    for (bool first = true; *p < end && (first || **p != ']'); first = false) {
        struct range range = {0};
        const char *at = *p;
        int rc = set_unit(pattern, p, end, &range.first, err);
        if (rc < 0)
            return rc;
        range.last = range.first;
        if (end - *p >= 2 && (*p)[0] == '-' && (*p)[1] != ']') {
            ++*p;
            rc = set_unit(pattern, p, end, &range.last, err);
            if (rc < 0)
                return rc;
        }
        if (range.last < range.first)
            return error_set_at(err, -EINVAL, 1, column_of(pattern, at), "the range `%.*s` goes backwards",
                                (int)(*p - at), at);
        if (g) {
            g->range = xreallocarray(g->range, g->ranges + 1, sizeof(*g->range));
            g->range[g->ranges++] = range;
        }
        ret->ranges++;
    }
    if (*p == end)
        return error_set_at(err, -EINVAL, 1, column_of(pattern, start),
                            "`[` without `]` (write `\\[` for the character)");
    ++*p;
    return 0;
}

/* Everything about the text that can be wrong before its braces are expanded. */
static int check_pattern(const char *pattern, struct error *err)
{
    const char *end = pattern + strlen(pattern), *open[GLOB_BRACES_MAX];
    size_t depth = 0, braces = 0;
    if (pattern == end)
        return error_set_at(err, -EINVAL, 1, 1, "an empty pattern matches nothing");
    if (end - pattern > GLOB_PATTERN_MAX)
        return error_set_at(err, -EINVAL, 1, 1, "a pattern has at most %d bytes", GLOB_PATTERN_MAX);
    for (const char *p = pattern; p < end;) {
        if (*p == '\\') {
            if (++p == end)
                return error_set_at(err, -EINVAL, 1, column_of(pattern, end - 1), "`\\` at the end escapes nothing");
            if (*p == '/')
                return error_set_at(err, -EINVAL, 1, column_of(pattern, p), "`/` cannot be escaped");
            p++;
        } else if (*p == '[') {
            struct token ignored;
            int rc = parse_set(pattern, &p, end, NULL, &ignored, err);
            if (rc < 0)
                return rc;
        } else if (*p == '{') {
            if (++braces > GLOB_BRACES_MAX)
                return error_set_at(err, -EINVAL, 1, column_of(pattern, p), "more than %d pairs of braces",
                                    GLOB_BRACES_MAX);
            open[depth++] = p++;
        } else {
            if (*p == '}' && depth > 0)
                depth--;
            p++;
        }
    }
    if (depth > 0)
        return error_set_at(err, -EINVAL, 1, column_of(pattern, open[depth - 1]),
                            "`{` without `}` (write `\\{` for the character)");
    return 0;
}

/* ---- Braces --------------------------------------------------------------------------------------------------------
 */

struct expansion {
    char *text[GLOB_ALTERNATIVES_MAX];
    size_t count, bytes;
};

static void expansion_fini(struct expansion *x)
{
    for (size_t i = 0; i < x->count; i++)
        free(x->text[i]);
}

/* Past one character, escape or set of a checked pattern. */
static const char *skip_one(const char *p)
{
    if (*p == '\\')
        return p + 2;
    if (*p == '[') {
        struct token ignored;
        const char *end = p + strlen(p);
        return parse_set(p, &p, end, NULL, &ignored, NULL) < 0 ? end : p;
    }
    return p + 1;
}

/* Add what `prefix` (free of braces) + `rest` expands to. */
static int expand(struct expansion *x, const char *prefix, size_t prefix_len, const char *rest, struct error *err)
{
    const char *open = rest;
    while (*open && *open != '{')
        open = skip_one(open);
    _cleanup_(buf_fini) struct buf head = {0};
    buf_add(&head, prefix, prefix_len);
    buf_add(&head, rest, (size_t)(open - rest));
    if (!*open) {
        if (x->count == GLOB_ALTERNATIVES_MAX)
            return error_set_at(err, -EINVAL, 1, 1, "the braces expand to more than %d alternatives",
                                GLOB_ALTERNATIVES_MAX);
        x->bytes += head.len;
        if (x->bytes > GLOB_EXPANSION_MAX)
            return error_set_at(err, -EINVAL, 1, 1, "the braces expand to more than %d bytes", GLOB_EXPANSION_MAX);
        x->text[x->count++] = buf_steal(&head);
        return 0;
    }
    const char *close = open + 1;
    for (unsigned depth = 1; depth > 0; close = skip_one(close))
        depth += (*close == '{') - (*close == '}');
    /* `close` is past the brace that closes */
    unsigned depth = 0;
    for (const char *p = open + 1, *start = p; p < close; p = skip_one(p)) {
        if ((*p == ',' && depth == 0) || p == close - 1) {
            _cleanup_(buf_fini) struct buf tail = {0};
            buf_add(&tail, start, (size_t)(p - start));
            buf_adds(&tail, close);
            int rc = expand(x, head.data, head.len, tail.data, err);
            if (rc < 0)
                return rc;
            start = p + 1;
        } else {
            depth += *p == '{';
            depth -= *p == '}';
        }
    }
    return 0;
}

/* ---- Compiling -----------------------------------------------------------------------------------------------------
 */

static void add_token(struct glob *g, struct component *c, struct token token)
{
    g->token = xreallocarray(g->token, g->tokens + 1, sizeof(*g->token));
    g->token[g->tokens++] = token;
    c->tokens++;
}

/* One component, [p, end), free of braces and checked. */
static void parse_component(struct glob *g, const char *p, const char *end, struct component *ret)
{
    *ret = (struct component){.token = (uint32_t)g->tokens};
    if (end - p == 2 && p[0] == '*' && p[1] == '*') {
        ret->globstar = true;
        return;
    }
    bool star = false;
    while (p < end) {
        struct token token = {.kind = TOKEN_LITERAL};
        if (*p == '*') {
            p++;
            if (!star)
                add_token(g, ret, (struct token){.kind = TOKEN_STAR});
            star = true;
            continue;
        }
        star = false;
        if (*p == '?') {
            p++;
            token.kind = TOKEN_ANY;
        } else if (*p == '[') {
            parse_set(p, &p, end, g, &token, NULL);
        } else {
            if (*p == '\\')
                p++;
            token.value = next_unit(&p, end);
        }
        add_token(g, ret, token);
    }
}

static bool is_dots(const char *p, size_t len)
{
    return (len == 1 && p[0] == '.') || (len == 2 && p[0] == '.' && p[1] == '.');
}

static int parse_alternative(struct glob *g, const char *text, struct alternative *a, struct error *err)
{
    const char *p = text;
    *a = (struct alternative){.absolute = *p == '/'};
    for (;;) {
        while (*p == '/')
            p++;
        if (!*p)
            break;
        const char *start = p;
        while (*p && *p != '/')
            p = skip_one(p);
        if (is_dots(start, (size_t)(p - start)))
            return error_set_at(err, -EINVAL, 1, 1, "the component `%.*s` can never match", (int)(p - start), start);
        if (a->count == GLOB_COMPONENTS_MAX)
            return error_set_at(err, -EINVAL, 1, 1, "a pattern has at most %d components", GLOB_COMPONENTS_MAX);
        parse_component(g, start, p, &a->components[a->count]);
        bool again = a->components[a->count].globstar && a->count > 0 && a->components[a->count - 1].globstar;
        a->count += !again;
    }
    if (a->count == 0)
        return error_set_at(err, -EINVAL, 1, 1, *text ? "the pattern names no file" : "an alternative is empty");
    if (p[-1] == '/') {
        if (!(g->flags & GLOB_IGNORE))
            return error_set_at(err, -EINVAL, 1, 1, "`/` at the end (write `/*` or `/**` for what is below)");
        a->dir_only = true;
    }
    a->by_name = (g->flags & GLOB_IGNORE) && a->count == 1 && !a->absolute && !a->components[0].globstar;
    struct component *last = &a->components[a->count - 1];
    if (last->globstar) {
        *++last = (struct component){.token = (uint32_t)g->tokens};
        add_token(g, last, (struct token){.kind = TOKEN_STAR});
        a->count++;
    } else if (g->flags == GLOB_RECURSIVE && (a->count == 1 || !last[-1].globstar)) {
        last[1] = last[0];
        last[0] = (struct component){.globstar = true};
        a->count++;
    }
    return 0;
}

int glob_create(const char *pattern, unsigned flags, struct glob **ret, struct error *err)
{
    int rc = check_pattern(pattern, err);
    if (rc < 0)
        return rc;
    _cleanup_(expansion_fini) struct expansion x = {.count = 0};
    rc = expand(&x, "", 0, pattern, err);
    if (rc < 0)
        return rc;
    _cleanup_(glob_destroyp) struct glob *g = xcalloc(1, sizeof(*g));
    g->flags = flags;
    g->alternatives = xcalloc(x.count, sizeof(*g->alternatives));
    for (size_t i = 0; i < x.count; i++) {
        rc = parse_alternative(g, x.text[i], &g->alternatives[i], err);
        if (rc < 0)
            return rc;
        g->count++;
    }
    *ret = steal(&g);
    return 0;
}

void glob_destroy(struct glob *g)
{
    if (!g)
        return;
    free(g->alternatives);
    free(g->token);
    free(g->range);
    free(g);
}

/* ---- Matching ------------------------------------------------------------------------------------------------------
 */

static bool token_matches(const struct glob *g, const struct token *t, uint32_t unit)
{
    if (t->kind == TOKEN_LITERAL)
        return t->value == unit;
    if (t->kind == TOKEN_ANY)
        return true;
    for (uint32_t i = 0; i < t->ranges; i++) {
        const struct range *r = &g->range[t->value + i];
        if (unit >= r->first && unit <= r->last)
            return !t->negated;
    }
    return t->negated;
}

/* Going back to the last star alone suffices: what an earlier one could take more, the last one can too. */
static bool component_matches(const struct glob *g, const struct component *c, const char *s, const char *end)
{
    const struct token *t = g->token + c->token, *tokens_end = t + c->tokens;
    const struct token *star = NULL;
    const char *star_s = NULL;
    for (;;) {
        if (t < tokens_end && t->kind == TOKEN_STAR) {
            star = ++t;
            star_s = s;
            if (t == tokens_end)
                return true;
            continue;
        }
        if (s == end && t == tokens_end)
            return true;
        if (s < end && t < tokens_end) {
            const char *next = s;
            if (token_matches(g, t, next_unit(&next, end))) {
                s = next;
                t++;
                continue;
            }
        }
        if (!star || star_s == end)
            return false;
        next_unit(&star_s, end);
        s = star_s;
        t = star;
    }
}

/* Positions in a list of components as a set of bits; bit `count` is its end. A position before `**` is also one after
 * it. */
static uint64_t closure(const struct alternative *a, uint64_t set)
{
    for (unsigned i = 0; i < a->count; i++)
        if ((set >> i & 1) && a->components[i].globstar)
            set |= 1ull << (i + 1);
    return set;
}

static uint64_t step(const struct glob *g, const struct alternative *a, uint64_t set, const char *s, const char *end)
{
    uint64_t next = 0;
    for (unsigned i = 0; i < a->count; i++) {
        if (!(set >> i & 1))
            continue;
        if (a->components[i].globstar)
            next |= 1ull << i;
        else if (component_matches(g, &a->components[i], s, end))
            next |= 1ull << (i + 1);
    }
    return closure(a, next);
}

/* The next component of a path: false at its end. */
static bool next_component(const char **p, const char **ret_start, const char **ret_end)
{
    while (**p == '/')
        ++*p;
    if (!**p)
        return false;
    *ret_start = *p;
    *ret_end = *p = strchrnul(*p, '/');
    return true;
}

/* The positions reached after all components of `path`. */
static uint64_t walk(const struct glob *g, const struct alternative *a, uint64_t set, const char *path)
{
    const char *start, *end;
    while (set && next_component(&path, &start, &end))
        set = step(g, a, set, start, end);
    return set;
}

bool glob_match(const struct glob *g, const char *path)
{
    for (size_t i = 0; i < g->count; i++) {
        const struct alternative *a = &g->alternatives[i];
        if (a->absolute == (*path == '/') && (walk(g, a, closure(a, 1), path) >> a->count & 1))
            return true;
    }
    return false;
}

bool glob_may_descend(const struct glob *g, const char *directory)
{
    for (size_t i = 0; i < g->count; i++) {
        const struct alternative *a = &g->alternatives[i];
        if (*directory && a->absolute != (*directory == '/'))
            continue;
        if (walk(g, a, closure(a, 1), directory) & ((1ull << a->count) - 1))
            return true;
    }
    return false;
}

/* Does `a`, from the positions `set`, match the path or one of the directories it lies in? */
static bool ignored_from(const struct glob *g, const struct alternative *a, uint64_t set, const char *path, bool is_dir)
{
    const char *start, *end;
    while ((set || a->by_name) && next_component(&path, &start, &end)) {
        const char *rest = path + strspn(path, "/");
        bool match;
        if (a->by_name) {
            match = component_matches(g, &a->components[0], start, end);
        } else {
            set = step(g, a, set, start, end);
            match = set >> a->count & 1;
        }
        if (match && (*rest || is_dir || !a->dir_only))
            return true;
    }
    return false;
}

bool glob_ignores(const struct glob *g, const char *base, const char *relative, bool is_dir)
{
    for (size_t i = 0; i < g->count; i++) {
        const struct alternative *a = &g->alternatives[i];
        if (ignored_from(g, a, closure(a, 1), relative, is_dir))
            return true;
        if (a->absolute && base && ignored_from(g, a, walk(g, a, closure(a, 1), base), relative, is_dir))
            return true;
    }
    return false;
}

/* ---- Text ----------------------------------------------------------------------------------------------------------
 */

bool glob_has_meta(const char *pattern)
{
    return strpbrk(pattern, "*?[{\\") != NULL;
}

int glob_split(const char *pattern, char **ret_base, char **ret_rest, struct error *err)
{
    int rc = check_pattern(pattern, err);
    if (rc < 0)
        return rc;
    const char *cut = pattern, *p = pattern;
    bool meta = false;
    for (const char *start = p; *p && !meta; p = skip_one(p)) {
        if (*p == '/')
            start = p + 1;
        else
            cut = start;
        meta = *p == '*' || *p == '?' || *p == '[' || *p == '{';
    }
    size_t len = strlen(pattern);
    bool directory = pattern[len - 1] == '/';
    if (directory && !meta)
        cut = pattern + len;
    _cleanup_(buf_fini) struct buf base = {0};
    for (p = pattern; p < cut; p++) {
        if (*p == '\\')
            p++;
        if (*p != '/' || base.len == 0 || base.data[base.len - 1] != '/')
            buf_addc(&base, *p);
    }
    if (base.len == 0)
        buf_addc(&base, '.');
    else if (base.len > 1 && base.data[base.len - 1] == '/')
        base.data[--base.len] = '\0';
    *ret_rest = xasprintf("%s%s", cut, directory ? "*" : "");
    *ret_base = buf_steal(&base);
    return 0;
}
