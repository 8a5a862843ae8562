#include "fs/gather.h"

#include <errno.h>

enum {
    SCAN_VALUE,      /* a value must come (at the top: white space before it) */
    SCAN_FIRST_ITEM, /* after [: a value or ] */
    SCAN_FIRST_KEY,  /* after {: a key or } */
    SCAN_KEY,        /* after a comma in an object */
    SCAN_COLON,      /* after a key */
    SCAN_NEXT,       /* after a value in a container: a comma or its end */
    SCAN_STRING,     /* inside a string */
    SCAN_ESCAPE,     /* after a backslash */
    SCAN_HEX,        /* in \uXXXX */
    SCAN_WORD,       /* in true, false, null */
    SCAN_MINUS,      /* after - */
    SCAN_ZERO,       /* after a leading 0 */
    SCAN_DIGITS,     /* in the integer part */
    SCAN_POINT,      /* after . */
    SCAN_FRACTION,   /* in the fraction */
    SCAN_E,          /* after e */
    SCAN_E_SIGN,     /* after its sign */
    SCAN_EXPONENT,   /* in the exponent */
    SCAN_BAD,
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool in_object(const struct json_scan *s)
{
    unsigned level = s->depth - 1;
    return s->stack[level / 8] >> (level % 8) & 1;
}

/* A value has ended; true: it was the document. */
static bool value_ended(struct json_scan *s)
{
    s->state = SCAN_NEXT;
    return s->depth == 0;
}

static bool open_container(struct json_scan *s, bool object)
{
    if (s->depth == VALUE_DEPTH_MAX)
        return false;
    unsigned char bit = (unsigned char)(1U << (s->depth % 8));
    if (object)
        s->stack[s->depth / 8] |= bit;
    else
        s->stack[s->depth / 8] = (unsigned char)(s->stack[s->depth / 8] & ~bit);
    s->depth++;
    s->state = object ? SCAN_FIRST_KEY : SCAN_FIRST_ITEM;
    return true;
}

static bool start_word(struct json_scan *s, const char *rest)
{
    s->word = rest;
    s->state = SCAN_WORD;
    return true;
}

/* The first byte of a value; false: none begins like this. */
static bool start_value(struct json_scan *s, char c)
{
    switch (c) {
    case '{':
    case '[':
        return open_container(s, c == '{');
    case '"':
        s->string_then = SCAN_NEXT;
        s->state = SCAN_STRING;
        return true;
    case 't':
        return start_word(s, "rue");
    case 'f':
        return start_word(s, "alse");
    case 'n':
        return start_word(s, "ull");
    case '-':
        s->state = SCAN_MINUS;
        return true;
    case '0':
        s->state = SCAN_ZERO;
        return true;
    default:
        s->state = SCAN_DIGITS;
        return c >= '1' && c <= '9';
    }
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* One byte within a number: its next state, or -1 where the number does not go on. */
static int number_next(int state, char c)
{
    switch (state) {
    case SCAN_MINUS:
        return c == '0' ? SCAN_ZERO : is_digit(c) ? SCAN_DIGITS : -1;
    case SCAN_DIGITS:
        if (is_digit(c))
            return SCAN_DIGITS;
        /* fall through */
    case SCAN_ZERO:
        return c == '.' ? SCAN_POINT : c == 'e' || c == 'E' ? SCAN_E : -1;
    case SCAN_POINT:
        return is_digit(c) ? SCAN_FRACTION : -1;
    case SCAN_FRACTION:
        return is_digit(c) ? SCAN_FRACTION : c == 'e' || c == 'E' ? SCAN_E : -1;
    case SCAN_E:
        return is_digit(c) ? SCAN_EXPONENT : c == '+' || c == '-' ? SCAN_E_SIGN : -1;
    default: /* SCAN_E_SIGN, SCAN_EXPONENT */
        return is_digit(c) ? SCAN_EXPONENT : -1;
    }
}

static bool number_whole(int state)
{
    return state == SCAN_ZERO || state == SCAN_DIGITS || state == SCAN_FRACTION || state == SCAN_EXPONENT;
}

/* Between values. False: bad. *ended: the document's last bracket. */
static bool feed_next(struct json_scan *s, char c, bool *ended)
{
    bool object = in_object(s);
    if (c == ',') {
        s->state = object ? SCAN_KEY : SCAN_VALUE;
        return true;
    }
    if (c != (object ? '}' : ']'))
        return false;
    s->depth--;
    *ended = value_ended(s);
    return true;
}

static bool feed_string(struct json_scan *s, char c, bool *ended)
{
    switch (s->state) {
    case SCAN_ESCAPE:
        s->hex = c == 'u' ? 4 : 0;
        s->state = c == 'u' ? SCAN_HEX : SCAN_STRING;
        return c && strchr("\"\\/bfnrtu", c);
    case SCAN_HEX:
        if (--s->hex == 0)
            s->state = SCAN_STRING;
        return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
    default:
        if (c == '\\') {
            s->state = SCAN_ESCAPE;
        } else if (c == '"') {
            s->state = s->string_then;
            *ended = s->state == SCAN_NEXT && s->depth == 0;
        }
        return (unsigned char)c >= 0x20;
    }
}

static bool feed_word(struct json_scan *s, char c, bool *ended)
{
    if (*s->word != c)
        return false;
    s->word++;
    if (!*s->word)
        *ended = value_ended(s);
    return true;
}

static bool feed_structure(struct json_scan *s, char c, bool *ended)
{
    if (is_space(c))
        return true;
    switch (s->state) {
    case SCAN_FIRST_ITEM:
        if (c == ']')
            return feed_next(s, c, ended);
        return start_value(s, c);
    case SCAN_FIRST_KEY:
        if (c == '}')
            return feed_next(s, c, ended);
        /* fall through */
    case SCAN_KEY:
        s->string_then = SCAN_COLON;
        s->state = SCAN_STRING;
        return c == '"';
    case SCAN_COLON:
        s->state = SCAN_VALUE;
        return c == ':';
    case SCAN_NEXT:
        return feed_next(s, c, ended);
    default:
        return start_value(s, c);
    }
}

/* One byte. *again: the byte ended a number, and is to be looked at once more. */
static bool feed_byte(struct json_scan *s, char c, bool *ended, bool *again)
{
    if (s->state == SCAN_BAD)
        return false;
    if (s->state >= SCAN_MINUS && s->state <= SCAN_EXPONENT) {
        int next = number_next(s->state, c);
        if (next >= 0) {
            s->state = (unsigned char)next;
            return true;
        }
        if (!number_whole(s->state))
            return false;
        *ended = value_ended(s);
        *again = !*ended;
        return !*ended || is_space(c);
    }
    if (s->state >= SCAN_STRING && s->state <= SCAN_HEX)
        return feed_string(s, c, ended);
    if (s->state == SCAN_WORD)
        return feed_word(s, c, ended);
    return feed_structure(s, c, ended);
}

enum json_scan_result json_scan_feed(struct json_scan *scan, const char *text, size_t len, size_t *ret_used)
{
    for (size_t i = 0; i < len; i++) {
        bool ended = false, again = true;
        while (again) {
            again = false;
            if (!feed_byte(scan, text[i], &ended, &again)) {
                scan->state = SCAN_BAD;
                return JSON_SCAN_BAD;
            }
        }
        if (ended) {
            *ret_used = i + 1;
            return JSON_SCAN_COMPLETE;
        }
    }
    return JSON_SCAN_MORE;
}

bool json_scan_end(const struct json_scan *scan)
{
    return scan->depth == 0 && number_whole(scan->state);
}

bool json_scan_blank(const struct json_scan *scan)
{
    return scan->state == SCAN_VALUE && scan->depth == 0;
}

/* ---- documents ---- */

static void start_anew(struct gather *g)
{
    g->scan = (struct json_scan){0};
    g->text.len = 0;
    if (g->text.cap > 65536)
        buf_fini(&g->text);
}

static int complete(struct gather *g, cJSON **ret)
{
    int r = value_parse(g->text.data, g->text.len, ret, NULL);
    start_anew(g);
    return r < 0 ? -EINVAL : 1;
}

static int give_up(struct gather *g, int code)
{
    start_anew(g);
    return code;
}

int gather_write(struct gather *g, const char *data, size_t len, cJSON **ret)
{
    size_t used = len;
    while (json_scan_blank(&g->scan) && len > 0 && is_space(*data)) {
        data++;
        len--;
    }
    if (len == 0)
        return 0;
    used = len;
    enum json_scan_result r = json_scan_feed(&g->scan, data, len, &used);
    if (r == JSON_SCAN_BAD)
        return give_up(g, -EINVAL);
    if (g->text.len + used > GATHER_MAX)
        return give_up(g, -EFBIG);
    buf_add(&g->text, data, used);
    if (r == JSON_SCAN_MORE)
        return 0;
    for (size_t i = used; i < len; i++)
        if (!is_space(data[i]))
            return give_up(g, -EINVAL);
    return complete(g, ret);
}

int gather_end(struct gather *g, cJSON **ret)
{
    if (json_scan_blank(&g->scan))
        return 0;
    return json_scan_end(&g->scan) ? complete(g, ret) : give_up(g, -EINVAL);
}

void gather_fini(struct gather *g)
{
    buf_fini(&g->text);
}
