#include "lang/matcher.h"

#include "lang/matcher_index.h"
#include "lang/matcher_table.h"

#include <utlist.h>

struct member {
    void *owner;
    const struct pattern *pattern;
    uint64_t place; /* in the order of adding */
    uint64_t epoch; /* of the last match that looked at it */
    struct match_ref *refs;
    struct member *next, *prev; /* in matcher->always */
};

struct matcher {
    struct matcher_table members; /* by owner */
    struct member *always;        /* those whose pattern matches everything */
    struct match_index *index;
    uint64_t places, epoch;
    const cJSON *event; /* being matched */
    struct member **found;
    void **owners; /* of `found`, what the caller sees */
    size_t n_found, cap;
    size_t evaluated;
};

struct matcher *matcher_create(void)
{
    struct matcher *m = xcalloc(1, sizeof(*m));
    m->index = match_index_create();
    return m;
}

static bool matches_everything(const struct pattern *pattern)
{
    return !pattern || pattern->n_conjunctions == 0;
}

static void member_detach(struct matcher *m, struct member *member)
{
    if (matches_everything(member->pattern))
        DL_DELETE(m->always, member);
    match_index_remove(m->index, &member->refs);
}

static int leaf_compare(const void *a, const void *b)
{
    const struct leaf *x = *(const struct leaf *const *)a, *y = *(const struct leaf *const *)b;
    return (x->order > y->order) - (x->order < y->order);
}

/* One list for every conjunction; several may choose the same. */
static void member_attach(struct matcher *m, struct member *member)
{
    const struct pattern *p = member->pattern;
    if (matches_everything(p)) {
        DL_APPEND(m->always, member);
        return;
    }
    uint64_t *costs = xcalloc(p->n_leaves, sizeof(*costs));
    for (size_t i = 0; i < p->n_leaves; i++)
        costs[i] = match_index_cost(m->index, p->leaves[i]);
    const struct leaf **chosen = xcalloc(p->n_conjunctions, sizeof(struct leaf *));
    for (size_t i = 0; i < p->n_conjunctions; i++) {
        const struct conjunction *c = &p->conjunctions[i];
        chosen[i] = c->leaves[0];
        for (size_t k = 1; k < c->n; k++)
            if (costs[c->leaves[k]->order] < costs[chosen[i]->order])
                chosen[i] = c->leaves[k];
    }
    qsort(chosen, p->n_conjunctions, sizeof(struct leaf *), leaf_compare);
    for (size_t i = 0; i < p->n_conjunctions; i++)
        if (i == 0 || chosen[i] != chosen[i - 1])
            match_index_add(m->index, chosen[i], member, &member->refs);
    free(chosen);
    free(costs);
}

static bool is_owners(const void *item, const void *owner)
{
    return ((const struct member *)item)->owner == owner;
}

static uint32_t owner_hash(const void *owner)
{
    uint32_t hash = (uint32_t)(((uintptr_t)owner * 0x9E3779B97F4A7C15ULL) >> 32);
    return hash ? hash : 1;
}

static struct member *member_find(const struct matcher *m, const void *owner)
{
    return matcher_table_find(&m->members, owner_hash(owner), is_owners, owner);
}

void matcher_add(struct matcher *m, void *owner, const struct pattern *pattern)
{
    struct member *member = member_find(m, owner);
    if (member) {
        member_detach(m, member);
    } else {
        member = xcalloc(1, sizeof(*member));
        member->owner = owner;
        member->place = ++m->places;
        matcher_table_add(&m->members, owner_hash(owner), member);
    }
    member->pattern = pattern;
    member_attach(m, member);
}

static void member_free(struct matcher *m, struct member *member)
{
    member_detach(m, member);
    free(member);
}

void matcher_remove(struct matcher *m, const void *owner)
{
    struct member *member = member_find(m, owner);
    if (!member)
        return;
    matcher_table_remove(&m->members, owner_hash(owner), member);
    member_free(m, member);
}

size_t matcher_size(const struct matcher *m)
{
    return m->members.n;
}

void matcher_destroy(struct matcher *m)
{
    if (!m)
        return;
    for (uint32_t i = 0; i < m->members.cap; i++)
        if (m->members.items[i])
            member_free(m, m->members.items[i]);
    matcher_table_fini(&m->members);
    match_index_destroy(m->index);
    free(m->found);
    free(m->owners);
    free(m);
}

static void candidate(void *ctx, void *item)
{
    struct matcher *m = ctx;
    struct member *member = item;
    if (member->epoch == m->epoch)
        return;
    member->epoch = m->epoch;
    m->evaluated++;
    if (!pattern_match(member->pattern, m->event, NULL))
        return;
    if (m->n_found == m->cap) {
        m->cap = m->cap ? m->cap * 2 : 16;
        m->found = xreallocarray(m->found, m->cap, sizeof(struct member *));
        m->owners = xreallocarray(m->owners, m->cap, sizeof(void *));
    }
    m->found[m->n_found++] = member;
}

static int place_compare(const void *a, const void *b)
{
    const struct member *x = *(struct member *const *)a, *y = *(struct member *const *)b;
    return (x->place > y->place) - (x->place < y->place);
}

size_t matcher_match(struct matcher *m, const cJSON *event, void *const **ret_owners)
{
    m->epoch++;
    m->event = event;
    m->n_found = m->evaluated = 0;
    struct member *member;
    DL_FOREACH (m->always, member)
        candidate(m, member);
    match_index_walk(m->index, event, candidate, m);
    if (m->n_found > 1)
        qsort(m->found, m->n_found, sizeof(struct member *), place_compare);
    for (size_t i = 0; i < m->n_found; i++)
        m->owners[i] = m->found[i]->owner;
    *ret_owners = m->owners;
    return m->n_found;
}

size_t matcher_evaluated(const struct matcher *m)
{
    return m->evaluated;
}
