/* The parsed form of a path: made by path.c, walked by path_eval.c, with the functions of path_func.c. */
#ifndef TRIGGERD_LANG_PATH_INTERNAL_H
#define TRIGGERD_LANG_PATH_INTERNAL_H

#include "base/util.h"
#include "lang/iregexp.h"
#include "lang/path.h"

#include <errno.h>

/* A string literal may hold U+0000, a C string cannot: it is kept as these two bytes, which valid UTF-8 never holds. */
#define PATH_NUL "\xC0\x80"

enum selector_kind { SELECT_NAME, SELECT_INDEX, SELECT_DOT_INDEX, SELECT_SLICE, SELECT_WILDCARD, SELECT_FILTER };

struct selector {
    enum selector_kind kind;
    char *name;              /* NAME, DOT_INDEX */
    int64_t index;           /* INDEX; DOT_INDEX: -1 where the digits are no index (`.007`) */
    bool has_start, has_end; /* SLICE */
    int64_t start, end, step;
    struct expr *filter; /* FILTER */
    struct selector *next;
};

struct segment {
    bool descendant;
    struct selector *selectors;
    struct segment *next;
};

struct query {
    bool relative; /* to the current node: @ */
    bool singular;
    struct segment *segments;
};

/* Types of the type system of RFC 9535 2.4.1. */
enum value_type { TYPE_VALUE, TYPE_LOGICAL, TYPE_NODES };

enum expr_kind { EXPR_OR, EXPR_AND, EXPR_NOT, EXPR_COMPARE, EXPR_LITERAL, EXPR_QUERY, EXPR_CALL };
enum compare_op { COMPARE_EQ, COMPARE_NE, COMPARE_LT, COMPARE_LE, COMPARE_GT, COMPARE_GE };

struct expr {
    enum expr_kind kind;
    enum compare_op op;    /* COMPARE */
    struct expr *operands; /* linked by `next`: OR, AND any number; NOT one; COMPARE two; CALL its arguments */
    cJSON *literal;        /* LITERAL */
    struct query *query;   /* QUERY */
    const struct function *function; /* CALL */
    bool pattern_is_literal;         /* CALL of match or search: compiled below, NULL where it is no I-Regexp */
    struct iregexp *pattern;
    struct expr *next;
};

struct path {
    char *text;
    unsigned flags;
    struct query *query;
};

/* One evaluation. */
struct eval {
    const cJSON *root;
    uint64_t steps;    /* left */
    bool data_is_root; /* `$.data` stands for `$` (PATH_EVENT_DATA) */
};

/* Take `n` steps; -E2BIG when they have run out. */
static inline int eval_spend(struct eval *ev, uint64_t n)
{
    if (ev->steps < n) {
        ev->steps = 0;
        return -E2BIG;
    }
    ev->steps -= n;
    return 0;
}

/* Up to `limit` nodes of a query inside a filter: how many, the first one in *ret_first. */
int eval_query(struct eval *ev, const struct query *q, const cJSON *current, size_t limit, const cJSON **ret_first,
               size_t *ret_n);

/* The value of a literal, singular query or call of a function that returns one; NULL is RFC 9535's Nothing. A computed
 * value is put into *scratch. */
int eval_operand(struct eval *ev, const struct expr *e, const cJSON *current, cJSON *scratch, const cJSON **ret);

#define FUNCTION_PARAMETERS_MAX 2
struct function {
    const char *name;
    enum value_type result;
    size_t n_parameters;
    enum value_type parameters[FUNCTION_PARAMETERS_MAX];
    bool has_pattern; /* the last argument is a regular expression */
    /* TYPE_LOGICAL: 0 or 1; TYPE_VALUE: 0 with *ret as eval_operand() has it; or a negative errno. */
    int (*call)(struct eval *ev, const struct expr *e, const cJSON *current, cJSON *scratch, const cJSON **ret);
};

/* NULL: there is none by this name. */
const struct function *function_find(const char *name);
/* The known name nearest to `name`, for messages. */
const char *function_nearest(const char *name);

void expr_destroy(struct expr *e);
void query_destroy(struct query *q);

#endif
