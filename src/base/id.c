#include "base/id.h"

#include "base/util.h"

#include <assert.h>

#define TIME_BITS_MAX ((1ULL << 48) - 1)
#define HALF_MAX ((1ULL << 40) - 1)
#define TIME_DIGITS 10
#define HALF_DIGITS 8

static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

static void put_base32(char *out, uint64_t value, int width)
{
    for (int i = width - 1; i >= 0; i--) {
        out[i] = digits[value & 31];
        value >>= 5;
    }
}

/* The value of one digit, -1 if it is none. */
static int digit_value(char c)
{
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

static uint64_t get_base32(const char *s, int width)
{
    uint64_t value = 0;
    for (int i = 0; i < width; i++)
        value = value << 5 | (uint64_t)digit_value(s[i]);
    return value;
}

static void put_id(char *out, const char *prefix, uint64_t time_ms, uint64_t high, uint64_t low)
{
    size_t len = strlen(prefix);
    assert(len <= ID_PREFIX_MAX);
    memcpy(out, prefix, len);
    out += len;
    put_base32(out, time_ms, TIME_DIGITS);
    put_base32(out + TIME_DIGITS, high, HALF_DIGITS);
    put_base32(out + TIME_DIGITS + HALF_DIGITS, low, HALF_DIGITS);
    out[ID_ULID_LENGTH] = '\0';
}

static uint64_t time_bits(int64_t ms)
{
    return ms < 0 ? 0 : MIN((uint64_t)ms, TIME_BITS_MAX);
}

static const char *ulid_of(const char *text)
{
    size_t len = strlen(text);
    assert(len >= ID_ULID_LENGTH);
    return text + len - ID_ULID_LENGTH;
}

void id_source_init(struct id_source *source, struct clock *clock, struct random *random)
{
    *source = (struct id_source){.clock = clock, .random = random};
}

void id_source_after(struct id_source *source, const char *text)
{
    const char *s = ulid_of(text);
    uint64_t time_ms = get_base32(s, TIME_DIGITS);
    uint64_t high = get_base32(s + TIME_DIGITS, HALF_DIGITS);
    uint64_t low = get_base32(s + TIME_DIGITS + HALF_DIGITS, HALF_DIGITS);
    if (time_ms < source->time_ms)
        return;
    if (time_ms == source->time_ms && (high < source->high || (high == source->high && low <= source->low)))
        return;
    source->time_ms = time_ms;
    source->high = high;
    source->low = low;
}

static void draw(struct id_source *source)
{
    uint64_t random[2];
    random_fill(source->random, random, sizeof(random));
    source->high = random[0] & HALF_MAX;
    source->low = random[1] & HALF_MAX;
}

void id_next(struct id_source *source, const char *prefix, char out[ID_SIZE])
{
    uint64_t now = time_bits(clock_realtime_ms(source->clock));
    if (now > source->time_ms) {
        source->time_ms = now;
        draw(source);
    } else if (source->low < HALF_MAX) {
        source->low++;
    } else if (source->high < HALF_MAX) {
        source->high++;
        source->low = 0;
    } else {
        source->time_ms = MIN(source->time_ms + 1, TIME_BITS_MAX);
        draw(source);
    }
    put_id(out, prefix, source->time_ms, source->high, source->low);
}

bool id_valid(const char *text, const char *prefix)
{
    size_t len = strlen(prefix);
    if (strncmp(text, prefix, len) != 0)
        return false;
    text += len;
    if (text[0] < '0' || text[0] > '7')
        return false;
    for (int i = 1; i < ID_ULID_LENGTH; i++)
        if (digit_value(text[i]) < 0)
            return false;
    return text[ID_ULID_LENGTH] == '\0';
}

int64_t id_time_ms(const char *text)
{
    return (int64_t)get_base32(ulid_of(text), TIME_DIGITS);
}

void id_first_at(int64_t time_ms, const char *prefix, char out[ID_SIZE])
{
    put_id(out, prefix, time_bits(time_ms), 0, 0);
}
