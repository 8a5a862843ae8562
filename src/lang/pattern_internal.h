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
    const cJSON *low, *high; /* numbers; NULL: unbounded */
    bool low_open, high_open;
};

struct cidr {
    uint8_t bytes[16]; /* masked */
    uint8_t size;      /* 4 or 16 */
    uint8_t bits;
};

struct predicate {
    enum predicate_op op;
    struct text text; /* the operand as written, of those that have a string */
    union {
        const cJSON *value; /* EQUAL: a scalar; NULL: the string `text` */
        struct text folded; /* case folding of `text` */
        const struct wildcard *wildcard;
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
    unsigned order;               /* place in the pattern, and in pattern->leaves */
    uint16_t n_names;             /* ≥ 1 */
    bool present, absent, scalar; /* which kinds of predicates there are */
    const char *names;            /* one after the other, each NUL-terminated */
    struct predicate *predicates;
    size_t n;
};

/* One of the lists of a node. */
struct leaf_cell {
    const struct leaf *leaf;
    struct leaf_cell *next;
};

struct node {
    const char *name; /* in a leaf's names */
    size_t name_len;
    struct leaf_cell *leaves;
    struct node *children, *next;
};

struct conjunction {
    struct node *root;
    const struct leaf **leaves;
    size_t n;
};

/* Everything of a pattern is allocated here, and freed with it at once: patterns are many and small, and what is
 * evaluated together should lie together. */
struct arena {
    struct arena_chunk *chunks;
    char *at;
    size_t left, next; /* bytes, in the chunk and of the next one */
};

/* Zeroed memory, aligned for anything. */
void *arena_alloc(struct arena *a, size_t size);
/* A copy of `len` bytes with a NUL after them. */
const char *arena_copy(struct arena *a, const char *s, size_t len);

struct pattern {
    struct arena arena;
    const struct leaf **leaves;
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

/* What is being compiled, and where complaints go. */
struct place {
    struct arena *arena;
    struct buf path;  /* of the node at hand, as messages spell it */
    size_t n_entries; /* so far */
    const cJSON **ret_node;
    struct error *err;
};

/* Compile one entry of a list, with `at` its place. */
int predicate_compile(struct predicate *p, const cJSON *json, struct place *at);
/* Does the scalar match? Not for PRESENT and ABSENT. */
bool predicate_match(const struct predicate *p, struct scalar *s);
/* The predicate in words, as in `expected …`. */
void predicate_describe(const struct predicate *p, struct buf *out);
/* Is `name` one of the operators? */
bool predicate_is_operator(const char *name);

/* Complain: `path: text`, with the path shortened so that the text survives, and `node` at fault. Returns -EINVAL. */
int place_error(const struct place *at, const cJSON *node, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static inline bool text_is(const struct text *t, const char *s, size_t len)
{
    return t->len == len && memcmp(t->s, s, len) == 0;
}

#endif
