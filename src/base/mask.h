/* Masking: texts that must not be seen are replaced by `***` wherever their exact bytes stand.
 *
 * A value is found as it is, and as it is written inside a JSON string where that differs. One that overlaps another,
 * or itself, is covered to its end by the same `***`. Values of fewer than MASK_MIN bytes are not looked for: they would
 * be found everywhere. Other forms of a value (base64, percent-encoded, a part of it) are not known.
 *
 * Ownership: a mask keeps copies, and wipes them when it is destroyed. Thread: any, one user at a time.
 */
#ifndef TRIGGERD_BASE_MASK_H
#define TRIGGERD_BASE_MASK_H

#include "base/util.h"

#define MASK_MIN 4
#define MASK_TEXT "***"

struct mask;

struct mask *mask_create(void);
void mask_destroy(struct mask *m); /* NULL is allowed */
/* What is too short, or known, changes nothing. May be called while streams are under way. */
void mask_add(struct mask *m, const char *value, size_t len);
bool mask_is_empty(const struct mask *m); /* true for NULL */

/* `text` with all values masked, added to `out`. */
void mask_bytes(const struct mask *m, const char *text, size_t len, struct buf *out);
/* *text replaced by what is shown of it; it is freed where that differs. NULL texts and masks are allowed. */
void mask_string(const struct mask *m, char **text);

/* What comes in pieces: an end that may be the beginning of a value is held back until what follows is known.
 * Zero-initialised is empty. */
struct mask_stream {
    struct buf held;
    size_t covered; /* bytes from the start of `held` on that belong to a value already shown as `***` */
};
void mask_feed(const struct mask *m, struct mask_stream *s, const char *data, size_t len, struct buf *out);
/* The end: what was held back. */
void mask_flush(const struct mask *m, struct mask_stream *s, struct buf *out);
void mask_stream_fini(struct mask_stream *s);

/* ---- what is written where everyone may read it ---- */

/* The password of the first URL in `text` that has one (`scheme://user:password@host`), as it stands there: percent
 * signs, references and templates included. False: there is none. */
bool url_password(const char *text, const char **ret_start, const char **ret_end);
/* A secret as it is shown: `***` for each run of literal text, references (`${env:…}`, `${file:…}`) and templates
 * (`{{ … }}`) as they are. */
void mask_literal(const char *text, size_t len, struct buf *out);
/* *text with the passwords in its URLs so shown; it is freed where that differs. Returns whether it does. NULL is
 * allowed. */
bool mask_urls(char **text);

/* Free bytes that were secret, wiped. NULL is allowed. */
void secret_free(char *value);

#endif
