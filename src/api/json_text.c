#include "api/json_text.h"

#include "base/clock.h"
#include "model/value.h"

static void begin(struct buf *b, const char *key)
{
    char last = b->len > 0 ? b->data[b->len - 1] : '[';
    size_t len = key ? strlen(key) : 0;
    char *to = buf_reserve(b, len + 4);
    if (last != '{' && last != '[' && last != ':')
        *to++ = ',';
    if (key) {
        *to++ = '"';
        to = mempcpy(to, key, len);
        to = mempcpy(to, "\":", 2);
    }
    *to = '\0';
    b->len = (size_t)(to - b->data);
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
        value_print_string(b, value, SIZE_MAX);
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
