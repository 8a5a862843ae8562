/* The error object: what a function that can fail for more than one reason fills in beside its negative errno.
 *
 * A function returns 0 (or a count) on success and a negative errno on failure. Where the reason needs words it also
 * takes a `struct error *` as its last parameter (NULL where the caller does not care): filled where the failure is
 * known, wrapped upward with error_wrap() as `outer: inner`. An error object owns no memory and needs no cleanup.
 */
#ifndef TRIGGERD_BASE_ERROR_H
#define TRIGGERD_BASE_ERROR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#define ERROR_MESSAGE_MAX 512

struct error {
    int code;                        /* negative errno; 0: nothing was set */
    unsigned line, column;           /* 1-based place in the text at fault (column counts characters); 0: no place */
    char message[ERROR_MESSAGE_MAX]; /* one line, UTF-8, no newline, cut at a character boundary with "…" */
};

#define ERROR_INIT ((struct error){0})

/* Fill `err` (NULL is allowed); passwords in URLs are masked. Returns `code`, so that a failing function can `return error_set(err, -EINVAL, …)`. */
int error_set(struct error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
int error_setv(struct error *err, int code, const char *format, va_list args) __attribute__((format(printf, 3, 0)));

/* The same with the place in the input. */
int error_set_at(struct error *err, int code, unsigned line, unsigned column, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* Put `prefix: ` before the message of an error that is set. Returns err->code. */
int error_wrap(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Forget what was set. */
void error_clear(struct error *err);

#endif
