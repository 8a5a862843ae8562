/* By what an entry of a pattern's list can be indexed, and the same key computed from a value in an event.
 *
 * Each access of a predicate finds every value that the predicate matches; which of them to use is the index's choice.
 */
#ifndef TRIGGERD_LANG_MATCHER_ACCESS_H
#define TRIGGERD_LANG_MATCHER_ACCESS_H

#include "lang/pattern_internal.h"

#define ACCESS_END_MAX 255 /* bytes of a prefix or suffix that are indexed */
#define ACCESS_CHUNK_MAX 8
#define ACCESS_KEY_MAX 320 /* room for what is computed; numbers with more digits share one key, the empty one */
#define ACCESSES_MAX 3

enum access_kind {
    ACCESS_NAME, /* of a child in the trie */
    ACCESS_STRING,
    ACCESS_NUMBER,
    ACCESS_LITERAL,
    ACCESS_FOLD,
    ACCESS_SCALAR,
    ACCESS_PRESENT,
    ACCESS_ABSENT,
    ACCESS_RANGE,
    /* looked up with several lengths */
    ACCESS_PREFIX,
    ACCESS_SUFFIX,
    ACCESS_PREFIX_FOLD,
    ACCESS_SUFFIX_FOLD,
    ACCESS_CHUNK,
    ACCESS_CIDR4,
    ACCESS_CIDR6,
    ACCESS_KINDS,
    ACCESS_LENGTHS = ACCESS_PREFIX,
};

/* One way to index an entry of a list. */
struct access {
    enum access_kind kind;
    struct text bytes; /* in the predicate or in `room` */
    double low, high;  /* RANGE */
    char room[ACCESS_KEY_MAX];
};

size_t predicate_accesses(const struct predicate *p, struct access out[ACCESSES_MAX]);

/* The key of a number, and of true, false and null. */
void access_number(struct access *a, const cJSON *number);
void access_literal(struct access *a, const cJSON *value);

/* The last `n` of `len` bytes, back to front, as suffixes are kept. */
void access_reverse(char *to, const char *s, size_t len, size_t n);

#endif
