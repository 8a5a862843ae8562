/* The index behind the matcher: items under lists of patterns, found again by the events that such a list may match.
 *
 * A trie of member names leads to path nodes. Under a node each entry of a list is kept by what an event's value can be
 * looked up with:
 *
 *     STRING NUMBER LITERAL     the value itself (numbers by their canonical text, true, false and null by a letter)
 *     PREFIX SUFFIX             at most 255 bytes from that end; looked up for every length in use at the node
 *     FOLD PREFIX_FOLD …        the same of the case folding
 *     CHUNK                     the first 8, 4, 2 or 1 bytes of a literal inside a wildcard; looked up at every
 * position CIDR4 CIDR6               the masked address and its length; looked up for every length in use RANGE an
 * interval tree of doubles SCALAR PRESENT            any scalar (anything-but, *), any value ABSENT no value
 *
 * All are found in one hash table, keyed by node, kind and bytes. A lookup may find too much, never too little.
 */
#ifndef TRIGGERD_LANG_MATCHER_INDEX_H
#define TRIGGERD_LANG_MATCHER_INDEX_H

#include "lang/pattern_internal.h"

struct match_index;
struct match_ref; /* one item under one entry of a list */

struct match_index *match_index_create(void);
/* All items must have been removed. */
void match_index_destroy(struct match_index *x);

/* What keeping something under this list would cost events, roughly: the number of candidates. */
uint64_t match_index_cost(const struct match_index *x, const struct leaf *leaf);

/* Keep `item` under every entry of the list; the references are prepended to *refs. */
void match_index_add(struct match_index *x, const struct leaf *leaf, void *item, struct match_ref **refs);
/* Remove what *refs holds; *refs becomes NULL. */
void match_index_remove(struct match_index *x, struct match_ref **refs);

/* Call `found` for the items that the event may match, each at least once. `found` must not change the index. */
typedef void match_found_fn(void *ctx, void *item);
void match_index_walk(struct match_index *x, const cJSON *event, match_found_fn *found, void *ctx);

#endif
