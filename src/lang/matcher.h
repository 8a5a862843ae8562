/* The matcher: which of many patterns match an event, without trying each.
 *
 * Of every conjunction of a pattern one list is chosen, the most selective, and each of its entries is put into an
 * index (matcher_index.h). An event is walked once through the member names that the index knows; what it finds there
 * are candidates, and each candidate's whole pattern is then evaluated. So the index may be generous but must not miss
 * any: matcher_match() gives exactly the owners whose pattern_match() is true. The work for an event depends on the
 * event and on the patterns that nearly match it, not on how many there are.
 *
 * Ownership: owners and patterns are borrowed, a pattern until its owner is removed. Thread: one at a time; a match
 * writes to the matcher.
 */
#ifndef TRIGGERD_LANG_MATCHER_H
#define TRIGGERD_LANG_MATCHER_H

#include "lang/pattern.h"

struct matcher;

struct matcher *matcher_create(void);
void matcher_destroy(struct matcher *m);

/* Add an owner with its pattern (NULL: matches everything). An owner that is there already gets the new pattern and
 * keeps its place. Costs time in proportion to the pattern's size. */
void matcher_add(struct matcher *m, void *owner, const struct pattern *pattern);
/* Nothing happens if it is not there. */
void matcher_remove(struct matcher *m, const void *owner);
size_t matcher_size(const struct matcher *m);

/* The owners that match, in the order in which they were added. Returns their number; *ret_owners belongs to the
 * matcher and is valid until its next call. */
size_t matcher_match(struct matcher *m, const cJSON *event, void *const **ret_owners);

/* How many patterns the last matcher_match() evaluated. For tests and figures. */
size_t matcher_evaluated(const struct matcher *m);

#endif
