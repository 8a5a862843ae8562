#include "base/util.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

/* What glibc keeps for its thread when it is freed, and malloc() finds there again; its calloc() does not look there. */
#define SMALL_MAX 1032

static void *must(void *p, size_t size)
{
    if (!p && size > 0) {
        static const char text[] = "triggerd: out of memory\n";
        ssize_t n = write(STDERR_FILENO, text, sizeof(text) - 1);
        (void)n;
        abort();
    }
    return p;
}

/* Not inline: of malloc() and memset() beside each other the compiler makes a calloc(). */
__attribute__((noinline)) void *xmalloc(size_t size)
{
    return must(malloc(size ? size : 1), 1);
}

void *xcalloc(size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes) || bytes == 0 || bytes > SMALL_MAX)
        return must(calloc(n ? n : 1, size ? size : 1), 1);
    return memset(xmalloc(bytes), 0, bytes);
}

void *xrealloc(void *p, size_t size)
{
    return must(realloc(p, size ? size : 1), 1);
}

void *xreallocarray(void *p, size_t n, size_t size)
{
    return must(reallocarray(p, n ? n : 1, size ? size : 1), 1);
}

char *xstrdup(const char *s)
{
    return xmemdup(s, strlen(s) + 1);
}

char *xstrdup0(const char *s)
{
    return s ? xstrdup(s) : NULL;
}

char *xstrndup(const char *s, size_t n)
{
    size_t len = strnlen(s, n);
    char *copy = xmalloc(len + 1);
    memcpy(copy, s, len);
    copy[len] = '\0';
    return copy;
}

void *xmemdup(const void *p, size_t n)
{
    void *copy = xmalloc(n);
    if (n > 0)
        memcpy(copy, p, n);
    return copy;
}

char *xvasprintf(const char *format, va_list args)
{
    char *out = NULL;
    if (vasprintf(&out, format, args) < 0)
        must(NULL, 1);
    return out;
}

char *xasprintf(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *out = xvasprintf(format, args);
    va_end(args);
    return out;
}

void closep(const int *fd)
{
    if (*fd >= 0) {
        int saved = errno;
        close(*fd);
        errno = saved;
    }
}

int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

char *buf_reserve(struct buf *b, size_t extra)
{
    size_t want = b->len + extra + 1;
    if (want > b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 64;
        if (cap < want)
            cap = want;
        b->data = xrealloc(b->data, cap);
        b->cap = cap;
    }
    return b->data + b->len;
}

void buf_add(struct buf *b, const void *data, size_t len)
{
    char *to = buf_reserve(b, len);
    if (len > 0)
        memcpy(to, data, len);
    b->len += len;
    b->data[b->len] = '\0';
}

void buf_adds(struct buf *b, const char *s)
{
    buf_add(b, s, strlen(s));
}

void buf_addc(struct buf *b, char c)
{
    char *to = buf_reserve(b, 1);
    to[0] = c;
    to[1] = '\0';
    b->len++;
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    _cleanup_(freep) char *text = xvasprintf(format, args);
    va_end(args);
    buf_adds(b, text);
}

char *buf_take(struct buf *b)
{
    char *data = b->data ? b->data : xcalloc(1, 1);
    *b = (struct buf){0};
    return data;
}

char *buf_steal(struct buf *b)
{
    size_t len = b->len, cap = b->cap;
    char *data = buf_take(b);
    return cap > 1024 && cap / 2 > len ? xrealloc(data, len + 1) : data;
}

void buf_fini(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

/* Levenshtein distance over the first 64 bytes of each word. */
static unsigned edit_distance(const char *a, const char *b)
{
    enum { MAX_LEN = 64 };
    size_t la = strnlen(a, MAX_LEN), lb = strnlen(b, MAX_LEN);
    unsigned row[MAX_LEN + 1];
    for (size_t j = 0; j <= lb; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= la; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= lb; j++) {
            unsigned substitute = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            unsigned step = MIN(row[j], row[j - 1]) + 1;
            row[j] = MIN(substitute, step);
        }
    }
    return row[lb];
}

const char *nearest_name(const char *word, const char *const *names, size_t n)
{
    const char *best = NULL;
    unsigned best_distance = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned distance = edit_distance(word, names[i]);
        if (!best || distance < best_distance) {
            best = names[i];
            best_distance = distance;
        }
    }
    return best;
}

size_t utf8_sequence(const char *s, size_t len)
{
    const unsigned char *u = (const unsigned char *)s;
    if (len == 0)
        return 0;
    if (u[0] < 0x80)
        return 1;
    size_t need;
    unsigned char low = 0x80, high = 0xBF; /* bounds of the second byte: no overlong forms, no surrogates */
    if (u[0] >= 0xC2 && u[0] <= 0xDF) {
        need = 2;
    } else if (u[0] >= 0xE0 && u[0] <= 0xEF) {
        need = 3;
        if (u[0] == 0xE0)
            low = 0xA0;
        else if (u[0] == 0xED)
            high = 0x9F;
    } else if (u[0] >= 0xF0 && u[0] <= 0xF4) {
        need = 4;
        if (u[0] == 0xF0)
            low = 0x90;
        else if (u[0] == 0xF4)
            high = 0x8F;
    } else {
        return 0;
    }
    if (len < need || u[1] < low || u[1] > high)
        return 0;
    for (size_t i = 2; i < need; i++)
        if (u[i] < 0x80 || u[i] > 0xBF)
            return 0;
    return need;
}

/* ASCII goes eight bytes at a time. */
bool utf8_valid(const char *s, size_t len)
{
    const uint64_t tops = UINT64_C(0x8080808080808080);
    uint64_t word;
    while (len > 0) {
        if (len >= sizeof(word)) {
            memcpy(&word, s, sizeof(word));
            if (!(word & tops)) {
                s += sizeof(word);
                len -= sizeof(word);
                continue;
            }
        }
        size_t n = utf8_sequence(s, len);
        if (n == 0)
            return false;
        s += n;
        len -= n;
    }
    return true;
}

void utf8_mend(char *text)
{
    size_t len = strlen(text);
    while (len > 0) {
        size_t n = utf8_sequence(text, len);
        if (n == 0)
            *text = '?';
        n = MAX(n, (size_t)1);
        text += n;
        len -= n;
    }
}

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

/* Of the eight bytes at `s` the top bit of each that is not plain, the first byte lowest. What is above the lowest bit
 * set may be wrong, as a byte that is not plain borrows from the next. */
static uint64_t not_plain(const char *s)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t word;
    memcpy(&word, s, sizeof(word));
    word = le64toh(word);
    uint64_t quote = word ^ (ones * '"'), backslash = word ^ (ones * '\\');
    uint64_t control = (word - ones * 0x20) & ~word;
    return (control | ((quote - ones) & ~quote) | ((backslash - ones) & ~backslash) | word) & (ones * 0x80);
}

size_t ascii_plain(const char *s, size_t len)
{
    size_t n = 0;
    uint64_t found = 0;
    for (; n + 8 <= len; n += 8)
        if ((found = not_plain(s + n)))
            return n + (size_t)__builtin_ctzll(found) / 8;
    if (n > 0) { /* the rest with some of what was seen before it */
        found = n < len ? not_plain(s + len - 8) : 0;
        return found ? len - 8 + (size_t)__builtin_ctzll(found) / 8 : len;
    }
    while (n < len && is_plain((unsigned char)s[n]))
        n++;
    return n;
}

size_t utf8_length(const char *s)
{
    size_t n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

uint32_t utf8_decode(const char *s, size_t n)
{
    const unsigned char *u = (const unsigned char *)s;
    if (n == 1)
        return u[0];
    uint32_t c = u[0] & (0xFFU >> (n + 1));
    for (size_t i = 1; i < n; i++)
        c = c << 6 | (u[i] & 0x3F);
    return c;
}

/* Controls, and characters that turn or hide text around them. */
static bool is_unsafe(uint32_t c)
{
    return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x061C || (c >= 0x200B && c <= 0x200F) ||
           (c >= 0x2028 && c <= 0x202E) || (c >= 0x2060 && c <= 0x206F) || c == 0xFEFF;
}

static void escape_one(struct buf *b, uint32_t c)
{
    if (c == '\n')
        buf_adds(b, "\\n");
    else if (c == '\t')
        buf_adds(b, "\\t");
    else if (c == '\r')
        buf_adds(b, "\\r");
    else if (c < 0x80)
        buf_printf(b, "\\x%02" PRIx32, c);
    else
        buf_printf(b, "\\u%04" PRIx32, c);
}

void text_escape(struct buf *b, const char *text)
{
    size_t len = strlen(text);
    for (size_t i = 0; i < len;) {
        size_t n = utf8_sequence(text + i, len - i);
        uint32_t c = n ? utf8_decode(text + i, n) : 0;
        if (!n)
            buf_printf(b, "\\x%02x", (unsigned char)text[i]);
        else if (is_unsafe(c))
            escape_one(b, c);
        else
            buf_add(b, text + i, n);
        i += n ? n : 1;
    }
}

uint64_t hash_bytes(uint64_t seed, const void *data, size_t len)
{
    const unsigned char *p = data;
    uint64_t h = seed ? seed : 0xcbf29ce484222325ULL;
    for (size_t i = 0; i < len; i++)
        h = (h ^ p[i]) * 0x100000001b3ULL;
    return h;
}
