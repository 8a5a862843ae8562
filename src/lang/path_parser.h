/* What the three parts of the path parser share: path.c (paths, segments, selectors), path_expr.c (filter expressions),
 * path_token.c (strings, numbers, messages). Recursive descent over a text that ends with a NUL. */
#ifndef TRIGGERD_LANG_PATH_PARSER_H
#define TRIGGERD_LANG_PATH_PARSER_H

#include "lang/path_internal.h"

struct parser {
    const char *text, *p;
    unsigned skipped; /* characters of `text` before the user's own: `$.` put in front of a bare path */
    unsigned flags;
    unsigned nesting;
    struct error *err;
};

static inline bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static inline bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

/* name-first of RFC 9535 */
static inline bool is_name_first(char c)
{
    return is_lower(c) || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}

void parser_skip_blanks(struct parser *s);
/* One level deeper; the caller takes it back from `nesting`. */
int parser_enter(struct parser *s);

/* Fill s->err with the place of `at`. Returns `code`. */
int parser_fail(const struct parser *s, const char *at, int code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* "expected …, got …" at s->p. */
int parser_expected(const struct parser *s, const char *expected);

/* A string in either kind of quote; s->p is at the quote. */
int parser_string(struct parser *s, char **ret);
/* int of RFC 9535: no leading zeros, no -0, within ±(2^53 - 1). */
int parser_int(struct parser *s, int64_t *ret);
int parser_number(struct parser *s, cJSON **ret);

/* `$…` or `@…`; blanks after it are left. */
int parser_query(struct parser *s, struct query **ret);
/* logical-expr of RFC 9535. */
int parser_logical(struct parser *s, struct expr **ret);

#endif
