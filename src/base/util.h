/* What every file needs: allocation that cannot fail, scoped cleanup, small helpers.
 *
 * Memory: the x… allocators end the process with a message when memory is out (inputs are bounded, so that can only be
 * the machine's own trouble, and the store is made to survive it).
 */
#ifndef TRIGGERD_BASE_UTIL_H
#define TRIGGERD_BASE_UTIL_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h> /* MIN, MAX: <uv.h> brings it too, and it redefines them unguarded */

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

void *xmalloc(size_t size) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t n, size_t size) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *p, size_t size) __attribute__((returns_nonnull));
/* `n` elements of `size`, overflow checked. */
void *xreallocarray(void *p, size_t n, size_t size) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
/* NULL stays NULL. */
char *xstrdup0(const char *s);
char *xstrndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
void *xmemdup(const void *p, size_t n) __attribute__((malloc, returns_nonnull));
char *xasprintf(const char *format, ...) __attribute__((format(printf, 1, 2), returns_nonnull));
char *xvasprintf(const char *format, va_list args) __attribute__((format(printf, 1, 0), returns_nonnull));

static inline bool streq(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* Scoped cleanup: `_cleanup_(freep) char *s = NULL;` frees at the end of the scope; `return steal(&s)` hands it out. */
#define _cleanup_(f) __attribute__((cleanup(f)))
static inline void freep(void *pp)
{
    free(*(void **)pp);
}
void closep(const int *fd); /* closes when ≥ 0 */

#define steal(pp)                                                                                                      \
    ({                                                                                                                 \
        __typeof__(*(pp)) stolen_ = *(pp);                                                                             \
        *(pp) = NULL;                                                                                                  \
        stolen_;                                                                                                       \
    })

/* The same for a descriptor that closep() would close. */
static inline int steal_fd(int *fd)
{
    int stolen = *fd;
    *fd = -1;
    return stolen;
}

int hex_digit(char c); /* its value; -1: it is none */

/* A growing byte buffer, always NUL-terminated once something was added. Zero-initialised is empty. */
struct buf {
    char *data;
    size_t len, cap;
};
void buf_add(struct buf *b, const void *data, size_t len);
void buf_adds(struct buf *b, const char *s);
void buf_addc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Room for `extra` more bytes (and the NUL); returns where they go. */
char *buf_reserve(struct buf *b, size_t extra);
/* Hand the bytes to the caller (never NULL; free() them) and leave the buffer empty: buf_steal() gives unused memory
 * back, for what is kept; buf_take() does not. */
char *buf_steal(struct buf *b);
char *buf_take(struct buf *b);
void buf_fini(struct buf *b);

/* The nearest of `n` names to `word` by edit distance (any distance; ties: the first), NULL when n is 0: for "did you
 * mean". */
const char *nearest_name(const char *word, const char *const *names, size_t n);

/* Length of the valid UTF-8 sequence at s (1–4), 0 when invalid or cut off (RFC 3629: no overlong forms, no
 * surrogates). */
size_t utf8_sequence(const char *s, size_t len);
bool utf8_valid(const char *s, size_t len);
/* In place: each byte that is not of a valid sequence becomes `?`. */
void utf8_mend(char *text);
/* Bytes at the start of `s` that stand for themselves in a JSON string and are ASCII: up to the first control character,
 * quotation mark, backslash or byte of another character. */
size_t ascii_plain(const char *s, size_t len);
/* Characters (code points) of valid UTF-8. */
size_t utf8_length(const char *s);
/* The code point of a valid sequence of `n` bytes. */
uint32_t utf8_decode(const char *s, size_t n);

/* Append `text` so that it stays on one line and cannot draw on a terminal: controls, and characters that turn or hide
 * the text around them, as \n, \t, \x1b, \u202e; bytes that are no UTF-8 as \x… */
void text_escape(struct buf *b, const char *text);

/* FNV-1a, 64 bit; `seed` 0 starts, an earlier result goes on. */
uint64_t hash_bytes(uint64_t seed, const void *data, size_t len);

#endif
