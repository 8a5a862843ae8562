/* JSON values: cJSON trees, made by a strict parser, with numbers that come out digit for digit as they came in.
 *
 * The parser accepts exactly RFC 8259, with the limits of the contract: depth ≤ VALUE_DEPTH_MAX, valid UTF-8, no
 * duplicate member, no \u0000 (a C string cannot hold it), no lone surrogate, nothing after the value.
 *
 * Numbers: an integer of at most 15 digits that is written canonically (no fraction, no exponent, not "-0") is a
 * cJSON_Number: these, and no larger ones, are what cJSON 1.7.15 prints exactly (it takes 2^53 - 1 for
 * 9.00719925474099e+15). Every other number is a cJSON_Raw whose `valuestring` is the text as it came and whose
 * `valuedouble` is the nearest double (infinite past 1e308). Nothing else is ever cJSON_Raw, so value_is_number() is
 * the only test to use, and cJSON's own print functions give the text back unchanged. Conversions assume that
 * LC_NUMERIC is the "C" locale, as it is in a process that never sets it.
 *
 * Ownership: trees are freed with cJSON_Delete(). Thread: any; a tree has one user at a time.
 */
#ifndef TRIGGERD_MODEL_VALUE_H
#define TRIGGERD_MODEL_VALUE_H

#include "base/error.h"
#include "base/util.h"

#include <cjson/cJSON.h>
#include <stdint.h>

#define VALUE_DEPTH_MAX 128

/* Parse `len` bytes. On failure returns -EINVAL with line and column in `err`; *ret stays untouched. */
int value_parse(const char *text, size_t len, cJSON **ret, struct error *err);

/* As value_parse, but white space and one value from the start of `text`; *ret_used gets the bytes consumed (white
 * space before it included). -EAGAIN: the text ends inside a value that could still become one (also: before its first
 * byte, or with a bare number, which could go on; where no more text can come, value_parse() tells). */
int value_parse_prefix(const char *text, size_t len, cJSON **ret, size_t *ret_used, struct error *err);

/* Called for each value, in the order of the text, a container before what it holds (and so before it is filled), with
 * its place (1-based; columns count characters) and that of its key (0, 0 if none). When the parse fails the nodes told
 * so far are gone. */
typedef void value_place_fn(void *ctx, const cJSON *node, unsigned line, unsigned column, unsigned key_line,
                            unsigned key_column);
int value_parse_places(const char *text, size_t len, value_place_fn *place, void *ctx, cJSON **ret, struct error *err);

/* A number node from its JSON text (RFC 8259 `number`), canonical as described above. NULL: the text is none. */
cJSON *value_number_from_text(const char *text, size_t len);
cJSON *value_number_from_int(int64_t n);
cJSON *value_number_from_double(double d); /* finite; shortest text that reads back the same */

/* Compact JSON text; free() it. Members keep their order. */
char *value_print(const cJSON *v);
/* Append a JSON string; no more is added once `b` has `limit` bytes (SIZE_MAX: all). */
void value_print_string(struct buf *b, const char *s, size_t limit);
/* Two-space indented JSON text, no newline at the end; free() it. */
char *value_print_pretty(const cJSON *v);

bool value_is_number(const cJSON *v);
/* True, and *ret set, if v is a number whose value is an integer that an int64_t holds (1, 1.0, 1e3). */
bool value_integer(const cJSON *v, int64_t *ret);
/* Exact comparison by decimal value, whatever the size (1 = 1.0 = 10e-1): <0, 0, >0. Both must be numbers. Takes time
 * in proportion to their texts; decimal exponents past ±10^17 count as that. */
int value_number_compare(const cJSON *a, const cJSON *b);
/* Deep equality: numbers by value, objects without regard to order, strings by bytes. NULL equals only NULL. */
bool value_equal(const cJSON *a, const cJSON *b);
/* The same with a bound on the work: each node, each 64 bytes of strings and each 16 of numbers compared take one of
 * *steps. -E2BIG when they run out, else 0 or 1. */
int value_equal_within(const cJSON *a, const cJSON *b, uint64_t *steps);
/* A key with equal keys for equal numbers: the canonical decimal text; writes at most `cap` bytes and returns its
 * length, or 0 where it would not fit. For hashing numbers. */
size_t value_number_key(const cJSON *v, char *out, size_t cap);

/* Member by exact key (case matters), NULL if there is none or v is no object. */
cJSON *value_get(const cJSON *v, const char *key);
cJSON *value_getn(const cJSON *v, const char *key, size_t len);
/* A string member's text, NULL if absent or no string. */
const char *value_get_string(const cJSON *v, const char *key);
/* Set (replace or append) a member; takes `item`. */
void value_set(cJSON *object, const char *key, cJSON *item);
/* A string node, NULL text gives a null node. */
cJSON *value_string(const char *text);
/* Bytes as a string node: what is no UTF-8, and NUL, becomes U+FFFD. */
cJSON *value_from_bytes(const char *data, size_t len);
/* The word for a type in messages: object array string number boolean null. */
const char *value_type_name(const cJSON *v);
/* A short rendering for messages ("got …"): compact JSON cut to 40 characters, one line; into `out`, returned. A buffer
 * of VALUE_BRIEF_MAX holds any. */
#define VALUE_BRIEF_MAX 192
char *value_brief(const cJSON *v, char *out, size_t cap);

static inline void cjson_deletep(cJSON **v)
{
    cJSON_Delete(*v);
}

#endif
