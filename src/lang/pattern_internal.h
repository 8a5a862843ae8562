/* The compiled form of a pattern, for those that evaluate it (pattern_eval.c) and that index it (matcher.c).
 *
 * A pattern is a disjunction of conjunctions (one of them where there is no $or). A conjunction is a tree of member
 * names; a node carries the lists that hold for its path. Lists are shared by the conjunctions and owned by the
 * pattern.
 */
#ifndef TRIGGERD_LANG_PATTERN_INTERNAL_H
#define TRIGGERD_LANG_PATTERN_INTERNAL_H

#include "base/util.h"
#include "lang/pattern.h"

#include <cjson/cJSON.h>
#include <stdint.h>

enum predicate_op {
    PREDICATE_EQUAL,       /* .value */
    PREDICATE_PREFIX,      /* .text */
    PREDICATE_SUFFIX,      /* .text */
    PREDICATE_FOLD,        /* .folded */
    PREDICATE_PREFIX_FOLD, /* .folded */
    PREDICATE_SUFFIX_FOLD, /* .folded */
    PREDICATE_WILDCARD,    /* .wildcard */
    PREDICATE_NUMERIC,     /* .range */
    PREDICATE_CIDR,        /* .cidr */
    PREDICATE_BUT,         /* .but */
    PREDICATE_PRESENT,
    PREDICATE_ABSENT,
};

struct text {
    const char *s; /* NUL-terminated */
    size_t len;
};

/* Literal chunks between the stars: the first is anchored at the start, the last at the end; one alone is the whole. */
struct wildcard {
    size_t n;
    struct text chunks[]; /* the bytes follow in the same allocation */
};

struct range {
    cJSON *low, *high; /* numbers; NULL: unbounded */
    bool low_open, high_open;
};

struct cidr {
    uint8_t bytes[16]; /* masked */
    uint8_t size;      /* 4 or 16 */
    uint8_t bits;
};

struct predicate {
    enum predicate_op op;
    struct text text;   /* operand as written, for the ones that have a string; s owned */
    struct text folded; /* its case folding; s owned */
    union {
        cJSON *value; /* a scalar */
        struct wildcard *wildcard;
        struct range range;
        struct cidr cidr;
        struct {
            struct predicate *list; /* matches a scalar that none of these matches */
            size_t n;
        } but;
    };
};

/* A path with its list: matches if any of the predicates does. */
struct leaf {
    unsigned order; /* place in the pattern, and in pattern->leaves */
    char *path;     /* dotted, for messages */
    char *names;    /* its n_names names one after the other, each NUL-terminated; n_names ≥ 1 */
    size_t n_names;
    struct predicate *predicates;
    size_t n;
    bool present, absent, scalar; /* which kinds of predicates there are */
};

struct node {
    const char *name; /* in a leaf's names */
    size_t name_len;
    const struct leaf **leaves;
    size_t n_leaves;
    struct node *children, *next;
};

struct conjunction {
    struct node *root; /* NULL for the empty conjunction */
    const struct leaf **leaves;
    size_t n;
};

struct pattern {
    struct leaf **leaves;
    size_t n_leaves;
    struct conjunction *conjunctions; /* none: matches everything */
    size_t n_conjunctions;
};

/* A scalar under test, with what is computed of it at most once. */
struct scalar {
    const cJSON *node;
    size_t len;   /* of a string */
    char *folded; /* NULL: not yet */
    size_t folded_len;
};
void scalar_init(struct scalar *s, const cJSON *node);
void scalar_fini(struct scalar *s);
void scalar_fold(struct scalar *s);

/* Case folding of valid UTF-8: ASCII by hand, the rest by Unicode's full case folding. free() it. */
char *pattern_fold(const char *s, size_t len, size_t *ret_len);
/* An address as 4 or 16 bytes (an IPv4 one inside IPv6 gives 4). Returns the size, 0 if `s` is none. */
unsigned pattern_address(const char *s, size_t len, uint8_t out[16]);
/* Keep the first `bits` bits of `size` bytes. */
void pattern_mask(uint8_t *bytes, unsigned size, unsigned bits);

/* Compile one entry of a list. `path` is the place of `json`, extended while inside; counts entries in *entries. */
int predicate_compile(struct predicate *p, const cJSON *json, struct buf *path, size_t *entries, const cJSON **ret_node,
                      struct error *err);
void predicate_fini(struct predicate *p);
/* Does the scalar match? Not for PRESENT and ABSENT. */
bool predicate_match(const struct predicate *p, struct scalar *s);
/* The predicate in words, as in `expected …`. */
void predicate_describe(const struct predicate *p, struct buf *out);
/* Is `name` one of the operators? */
bool predicate_is_operator(const char *name);

/* Fill `err` as `path: text`, with `path` shortened so that the text survives; *ret_node = node. Returns -EINVAL. */
int pattern_error(struct error *err, const cJSON **ret_node, const cJSON *node, const struct buf *path,
                  const char *format, ...) __attribute__((format(printf, 5, 6)));

static inline bool text_is(const struct text *t, const char *s, size_t len)
{
    return t->len == len && memcmp(t->s, s, len) == 0;
}

#endif
