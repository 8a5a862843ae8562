/* I-Regexp (RFC 9485), the regular expressions of JSONPath, matched in linear time.
 *
 * Patterns and subjects are data of strangers, so backtracking is out: the pattern becomes a small program whose states
 * are all followed at once (Thompson's construction), and a match takes at most length × program steps. Each step is
 * counted against the caller's budget. The general categories of \p{…} are GLib's.
 *
 * `^` and `$`, plain characters in the grammar, stand for the start and the end of the text, as they do in every engine
 * that RFC 9485 section 5 maps to. `.` is any character but CR and LF.
 *
 * Thread: any; a compiled pattern is not changed by matching.
 */
#ifndef TRIGGERD_LANG_IREGEXP_H
#define TRIGGERD_LANG_IREGEXP_H

#include "base/error.h"

#include <stdint.h>

#define IREGEXP_STATES_MAX 4096 /* size of a compiled pattern; a{1000} takes 1000 */
#define IREGEXP_DEPTH_MAX 64    /* nested groups */

struct iregexp;

/* -EINVAL: no I-Regexp (err->column is the place in the pattern); -E2BIG: one past the limits above, or one that makes
 * many states to drop them again, as in (a{4000}){0}. Takes from *steps (NULL: not counted) what compiling cost, also
 * where it fails. */
int iregexp_compile(const char *pattern, uint64_t *steps, struct iregexp **ret, struct error *err);
void iregexp_destroy(struct iregexp *re);

/* Does the whole subject match, or with `search` some part of it: 1 or 0; -E2BIG when *steps, which it takes from, run
 * out. */
int iregexp_match(const struct iregexp *re, const char *subject, bool search, uint64_t *steps);

#endif
