/* A hash table of pointers for the matcher: each item's hash stands in an array of its own, so that a search for what is
 * not there, as nearly all are, ends at one cache line, and an item costs 16 to 32 bytes. (uthash takes 56 in the item,
 * and reads items to tell them apart: with 10 000 patterns that was half of a match.)
 *
 * Linear probing, between 1/8 and 3/4 full. The owner hashes and compares; items are borrowed.
 */
#ifndef TRIGGERD_LANG_MATCHER_TABLE_H
#define TRIGGERD_LANG_MATCHER_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed: empty. */
struct matcher_table {
    uint32_t *hashes; /* 0: free */
    void **items;
    uint32_t n, cap; /* cap: 0 or a power of two */
};

void matcher_table_fini(struct matcher_table *t);
/* It must not be there yet. Hashes are never 0. */
void matcher_table_add(struct matcher_table *t, uint32_t hash, void *item);
/* It must be there. */
void matcher_table_remove(struct matcher_table *t, uint32_t hash, const void *item);

static inline void *matcher_table_find(const struct matcher_table *t, uint32_t hash,
                                       bool (*same)(const void *item, const void *key), const void *key)
{
    if (t->cap == 0)
        return NULL;
    for (uint32_t i = hash & (t->cap - 1); t->hashes[i]; i = (i + 1) & (t->cap - 1))
        if (t->hashes[i] == hash && same(t->items[i], key))
            return t->items[i];
    return NULL;
}

#endif
