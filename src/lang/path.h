/* JSONPath: RFC 9535, all of it, and the shorter forms that manifests may use.
 *
 * Extended forms (PATH_MAPPING):
 *   $.items.0        an index after a dot: element 0 of an array, the member "0" of an object
 *   a.b.c            $.a.b.c
 *   $.X-Id, $.@type  what is no RFC 9535 path but names between dots is walked name by name; a name holds no blank,
 * quote or any of ( ) [ ] * ? , Without the flag (PATH_STRICT) they are errors, as RFC 9535 wants it.
 *
 * Bounds: neither a path nor a document can make an evaluation long. Every node looked at, member compared and state of
 * a regular expression takes a step of PATH_STEPS_MAX; past it the evaluation fails with -E2BIG. The nodes of a
 * filter's inner queries count too. A pattern in match() or search() that is no I-Regexp matches nothing (RFC
 * 9535 2.4.6).
 *
 * The document is a tree of value_parse() or alike. Ownership: a path is destroyed by its creator and never changed by
 * evaluation. Thread: any.
 */
#ifndef TRIGGERD_LANG_PATH_H
#define TRIGGERD_LANG_PATH_H

#include "model/value.h"

#define PATH_TEXT_MAX 4096         /* bytes of a path */
#define PATH_NESTING_MAX 32        /* filters, parentheses and calls inside one another */
#define PATH_STEPS_MAX 1000000     /* work of one evaluation */
#define PATH_COPY_NODES_MAX 250000 /* what path_value() copies for a query that is not singular */
#define PATH_COPY_BYTES_MAX (16 << 20)

#define PATH_STRICT 0U
#define PATH_MAPPING 1U    /* the extended forms too */
#define PATH_EVENT_DATA 2U /* `$.data` is the root itself where the root has no member `data`; also inside filters */

struct path;

/* -EINVAL: no path, with err->column in its text; -E2BIG: too long or nested too deep. */
int path_compile(const char *text, unsigned flags, struct path **ret, struct error *err);
void path_destroy(struct path *p);

/* The text as it was given. */
const char *path_text(const struct path *p);
/* Can it select at most one node: names and indexes only. */
bool path_is_singular(const struct path *p);
/* The name of the first segment where it is one name (`$.a…`, `$['a']…`), else NULL. */
const char *path_first_name(const struct path *p);

/* Selected nodes, borrowed from the document, in the order of RFC 9535; the same node may come more than once. */
struct path_nodes {
    const cJSON **list;
    size_t n, cap;
};
void path_nodes_fini(struct path_nodes *nodes);

/* 0, or -E2BIG (too much work). *ret is overwritten; path_nodes_fini() it. */
int path_select(const struct path *p, const cJSON *root, struct path_nodes *ret, struct error *err);

/* What the path stands for, a deep copy: for a singular path the value, for any other the array of what it selects.
 * 1: found; 0: it selects nothing (*ret untouched); -E2BIG: too much work, or too large a result. */
int path_value(const struct path *p, const cJSON *root, cJSON **ret, struct error *err);

static inline void path_destroyp(struct path **p)
{
    path_destroy(*p);
}

#endif
