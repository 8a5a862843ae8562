#include "lang/matcher_table.h"

#include "base/util.h"

#include <assert.h>

#define CAP_MIN 8

void matcher_table_fini(struct matcher_table *t)
{
    free(t->hashes);
    free(t->items);
    *t = (struct matcher_table){0};
}

static void put(struct matcher_table *t, uint32_t hash, void *item)
{
    uint32_t i = hash & (t->cap - 1);
    while (t->hashes[i])
        i = (i + 1) & (t->cap - 1);
    t->hashes[i] = hash;
    t->items[i] = item;
}

static void resize(struct matcher_table *t, uint32_t cap)
{
    const struct matcher_table old = *t;
    t->hashes = xcalloc(cap, sizeof(*t->hashes));
    t->items = xcalloc(cap, sizeof(*t->items));
    t->cap = cap;
    for (uint32_t i = 0; i < old.cap; i++)
        if (old.hashes[i])
            put(t, old.hashes[i], old.items[i]);
    free(old.hashes);
    free(old.items);
}

void matcher_table_add(struct matcher_table *t, uint32_t hash, void *item)
{
    assert(hash != 0);
    if (t->n >= t->cap / 4 * 3)
        resize(t, t->cap ? t->cap * 2 : CAP_MIN);
    put(t, hash, item);
    t->n++;
}

void matcher_table_remove(struct matcher_table *t, uint32_t hash, const void *item)
{
    const uint32_t mask = t->cap - 1;
    uint32_t hole = hash & mask;
    while (t->items[hole] != item)
        hole = (hole + 1) & mask;
    /* What follows without a gap moves up, unless its own place is past the hole. */
    for (uint32_t i = (hole + 1) & mask; t->hashes[i]; i = (i + 1) & mask) {
        if (((i - t->hashes[i]) & mask) < ((i - hole) & mask))
            continue;
        t->hashes[hole] = t->hashes[i];
        t->items[hole] = t->items[i];
        hole = i;
    }
    t->hashes[hole] = 0;
    t->items[hole] = NULL;
    t->n--;
    if (t->n == 0)
        matcher_table_fini(t);
    else if (t->cap > CAP_MIN && t->n < t->cap / 8)
        resize(t, t->cap / 2);
}
