/* Memory for JSON trees: small blocks are kept by size, a list a thread, so that the many nodes of an event cost
 * little.
 *
 * cJSON asks through its hooks, which are process-wide: value_alloc_init() sets them, once, before other threads.
 * Whatever cJSON gives out may be free()d as well, and whatever malloc() gave out may be handed to cJSON_Delete().
 * Built with a sanitizer it does nothing, so that every block is watched.
 */
#ifndef TRIGGERD_MODEL_VALUE_ALLOC_H
#define TRIGGERD_MODEL_VALUE_ALLOC_H

#include <stddef.h>

void value_alloc_init(void);

/* A block for a tree, as cJSON gets it; never NULL. */
void *value_alloc(size_t size) __attribute__((malloc, returns_nonnull));

/* After something large: what this thread keeps, and what malloc has free, goes back to the system. */
void value_alloc_trim(void);

#endif
