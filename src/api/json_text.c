#include "api/json_text.h"

#include "base/clock.h"
#include "model/value.h"

static void quoted_plain(struct buf *b, const char *s, size_t len)
{
    char *to = buf_reserve(b, len + 2);
    to[0] = '"';
    memcpy(to + 1, s, len);
    to[len + 1] = '"';
    to[len + 2] = '\0';
    b->len += len + 2;
}

/* Up to the first byte that has to be escaped, or the end. */
static size_t plain_length(const char *s)
{
    const unsigned char *p = (const unsigned char *)s;
    while (*p >= 0x20 && *p != '"' && *p != '\\')
        p++;
    return (size_t)(p - (const unsigned char *)s);
}

static void quoted(struct buf *b, const char *s)
{
    static const char hex[] = "0123456789abcdef";
    size_t plain = plain_length(s);
    if (!s[plain]) {
        quoted_plain(b, s, plain);
        return;
    }
    buf_addc(b, '"');
    const char *from = s;
    for (const char *p = s + plain;; p += plain_length(p)) {
        unsigned char c = (unsigned char)*p;
        buf_add(b, from, (size_t)(p - from));
        if (!c)
            break;
        from = ++p;
        char escape[7] = {'\\', (char)c, 0};
        if (c == '\n')
            escape[1] = 'n';
        else if (c == '\t')
            escape[1] = 't';
        else if (c == '\r')
            escape[1] = 'r';
        else if (c < 0x20)
            memcpy(escape, (char[7]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15], 0}, 7);
        buf_adds(b, escape);
    }
    buf_addc(b, '"');
}

static void begin(struct buf *b, const char *key)
{
    char last = b->len > 0 ? b->data[b->len - 1] : '[';
    if (last != '{' && last != '[' && last != ':')
        buf_addc(b, ',');
    if (key) {
        quoted(b, key);
        buf_addc(b, ':');
    }
}

void json_open(struct buf *b, const char *key, char bracket)
{
    begin(b, key);
    buf_addc(b, bracket);
}

void json_close(struct buf *b, char bracket)
{
    buf_addc(b, bracket);
}

void json_string(struct buf *b, const char *key, const char *value)
{
    begin(b, key);
    if (value)
        quoted(b, value);
    else
        buf_adds(b, "null");
}

void json_int(struct buf *b, const char *key, int64_t value)
{
    char text[24], *at = text + sizeof(text) - 1;
    uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;
    *at = '\0';
    do
        *--at = (char)('0' + rest % 10);
    while (rest /= 10);
    if (value < 0)
        *--at = '-';
    json_raw(b, key, at);
}

void json_bool(struct buf *b, const char *key, bool value)
{
    json_raw(b, key, value ? "true" : "false");
}

void json_raw(struct buf *b, const char *key, const char *text)
{
    begin(b, key);
    buf_adds(b, text ? text : "null");
}

void json_value(struct buf *b, const char *key, const cJSON *value)
{
    _cleanup_(freep) char *text = value ? value_print(value) : NULL;
    json_raw(b, key, text);
}

void json_time(struct buf *b, const char *key, int64_t ms)
{
    char when[TIME_TEXT_SIZE];
    if (ms > 0)
        time_format(ms, when);
    json_string(b, key, ms > 0 ? when : NULL);
}
