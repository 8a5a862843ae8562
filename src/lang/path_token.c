#include "lang/path_parser.h"

#define INTEGER_MAX INT64_C(9007199254740991) /* I-JSON: 2^53 - 1 */

int parser_fail(const struct parser *s, const char *at, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    error_setv(s->err, code, format, args);
    va_end(args);
    if (s->err) {
        unsigned column = 1;
        for (const char *p = s->text; p < at; p++)
            column += ((unsigned char)*p & 0xC0) != 0x80;
        s->err->line = 1;
        s->err->column = column > s->skipped ? column - s->skipped : 1;
    }
    return code;
}

int parser_expected(const struct parser *s, const char *expected)
{
    unsigned char c = (unsigned char)*s->p;
    if (!c)
        return parser_fail(s, s->p, -EINVAL, "expected %s, the path ends", expected);
    if (c < 0x20 || c == 0x7F)
        return parser_fail(s, s->p, -EINVAL, "expected %s, got the byte 0x%02X", expected, c);
    return parser_fail(s, s->p, -EINVAL, "expected %s, got '%.*s'", expected, (int)utf8_sequence(s->p, strlen(s->p)),
                       s->p);
}

void parser_skip_blanks(struct parser *s)
{
    while (is_blank(*s->p))
        s->p++;
}

int parser_enter(struct parser *s)
{
    if (s->nesting == PATH_NESTING_MAX)
        return parser_fail(s, s->p, -E2BIG, "nested deeper than %d", PATH_NESTING_MAX);
    s->nesting++;
    return 0;
}

/* Four hexadecimal digits at p; -1: there are none. */
static int hex4(const char *p)
{
    int n = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        if (is_digit(c))
            n = n * 16 + (c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            n = n * 16 + ((c | 0x20) - 'a' + 10);
        else
            return -1;
    }
    return n;
}

static void put_character(struct buf *b, unsigned c)
{
    if (c == 0) {
        buf_adds(b, PATH_NUL);
    } else if (c < 0x80) {
        buf_addc(b, (char)c);
    } else if (c < 0x800) {
        buf_addc(b, (char)(0xC0 | c >> 6));
        buf_addc(b, (char)(0x80 | (c & 0x3F)));
    } else if (c < 0x10000) {
        buf_addc(b, (char)(0xE0 | c >> 12));
        buf_addc(b, (char)(0x80 | (c >> 6 & 0x3F)));
        buf_addc(b, (char)(0x80 | (c & 0x3F)));
    } else {
        buf_addc(b, (char)(0xF0 | c >> 18));
        buf_addc(b, (char)(0x80 | (c >> 12 & 0x3F)));
        buf_addc(b, (char)(0x80 | (c >> 6 & 0x3F)));
        buf_addc(b, (char)(0x80 | (c & 0x3F)));
    }
}

/* `\uXXXX`, with its second half where it is the first of a surrogate pair; s->p is at the `u`. */
static int parse_unicode_escape(struct parser *s, struct buf *b)
{
    const char *at = s->p - 1;
    int c = hex4(s->p + 1);
    if (c < 0)
        return parser_fail(s, s->p + 1, -EINVAL, "\\u takes four hexadecimal digits");
    s->p += 5;
    if (c >= 0xD800 && c <= 0xDBFF && s->p[0] == '\\' && s->p[1] == 'u') {
        int low = hex4(s->p + 2);
        if (low >= 0xDC00 && low <= 0xDFFF) {
            s->p += 6;
            put_character(b, 0x10000U + ((unsigned)(c - 0xD800) << 10) + (unsigned)(low - 0xDC00));
            return 0;
        }
    }
    if (c >= 0xD800 && c <= 0xDFFF)
        return parser_fail(s, at, -EINVAL, "half a surrogate pair");
    put_character(b, (unsigned)c);
    return 0;
}

int parser_string(struct parser *s, char **ret)
{
    static const char names[] = "bfnrt/\\", values[] = "\b\f\n\r\t/\\";
    const char *at = s->p;
    char quote = *s->p++;
    struct buf b = {0};
    int r = 0;
    while (r >= 0 && *s->p != quote) {
        if (!*s->p) {
            r = parser_fail(s, at, -EINVAL, "a string does not end");
        } else if ((unsigned char)*s->p < 0x20) {
            r = parser_fail(s, s->p, -EINVAL, "a control character must be escaped in a string");
        } else if (*s->p != '\\') {
            buf_addc(&b, *s->p++);
        } else {
            s->p++;
            const char *name = *s->p ? strchr(names, *s->p) : NULL;
            if (*s->p == 'u') {
                r = parse_unicode_escape(s, &b);
            } else if (name || *s->p == quote) {
                buf_addc(&b, name ? values[name - names] : quote);
                s->p++;
            } else {
                r = parser_fail(s, s->p, -EINVAL, "no such escape in a string");
            }
        }
    }
    if (r < 0) {
        buf_fini(&b);
        return r;
    }
    s->p++;
    *ret = buf_steal(&b);
    return 0;
}

int parser_int(struct parser *s, int64_t *ret)
{
    const char *at = s->p;
    bool negative = *s->p == '-';
    if (negative)
        s->p++;
    if (!is_digit(*s->p))
        return parser_expected(s, "a digit");
    if (*s->p == '0' && (negative || is_digit(s->p[1])))
        return parser_fail(s, at, -EINVAL, negative ? "-0 is no integer here" : "an integer has no leading zeros");
    int64_t n = 0;
    for (; is_digit(*s->p); s->p++) {
        n = n * 10 + (*s->p - '0');
        if (n > INTEGER_MAX)
            return parser_fail(s, at, -EINVAL, "integers end at 2^53 - 1");
    }
    *ret = negative ? -n : n;
    return 0;
}

int parser_number(struct parser *s, cJSON **ret)
{
    size_t n = strspn(s->p, "+-.0123456789eE");
    cJSON *v = value_number_from_text(s->p, n);
    if (!v)
        return parser_fail(s, s->p, -EINVAL, "not a number as JSON writes them");
    s->p += n;
    *ret = v;
    return 0;
}
