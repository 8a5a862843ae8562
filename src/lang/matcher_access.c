#include "lang/matcher_access.h"

#include "model/value.h"

#include <math.h>

static void access_bytes(struct access *a, enum access_kind kind, const char *bytes, size_t len)
{
    a->kind = kind;
    a->bytes = (struct text){bytes, len};
}

static void access_prefix(struct access *a, enum access_kind kind, const struct text *t)
{
    access_bytes(a, t->len ? kind : ACCESS_SCALAR, t->s, MIN(t->len, ACCESS_END_MAX));
}

void access_reverse(char *to, const char *s, size_t len, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = s[len - 1 - i];
}

/* Suffixes are kept back to front. */
static void access_suffix(struct access *a, enum access_kind kind, const struct text *t)
{
    size_t n = MIN(t->len, ACCESS_END_MAX);
    access_reverse(a->room, t->s, t->len, n);
    access_bytes(a, n ? kind : ACCESS_SCALAR, a->room, n);
}

static void access_chunk(struct access *a, const struct text *t)
{
    size_t n = ACCESS_CHUNK_MAX;
    while (n > t->len)
        n /= 2;
    access_bytes(a, ACCESS_CHUNK, t->s, n);
}

static size_t wildcard_accesses(const struct wildcard *w, struct access out[ACCESSES_MAX])
{
    const struct text *first = &w->chunks[0], *last = &w->chunks[w->n - 1], *longest = NULL;
    if (w->n == 1) {
        access_bytes(&out[0], ACCESS_STRING, first->s, first->len);
        return 1;
    }
    size_t n = 0;
    for (size_t i = 1; i + 1 < w->n; i++)
        if (!longest || w->chunks[i].len > longest->len)
            longest = &w->chunks[i];
    if (first->len > 0)
        access_prefix(&out[n++], ACCESS_PREFIX, first);
    if (last->len > 0)
        access_suffix(&out[n++], ACCESS_SUFFIX, last);
    if (longest)
        access_chunk(&out[n++], longest);
    if (n == 0)
        access_bytes(&out[n++], ACCESS_SCALAR, "", 0);
    return n;
}

void access_number(struct access *a, const cJSON *number)
{
    size_t len = value_number_key(number, a->room, sizeof(a->room));
    access_bytes(a, ACCESS_NUMBER, a->room, len);
}

void access_literal(struct access *a, const cJSON *value)
{
    access_bytes(a, ACCESS_LITERAL, cJSON_IsNull(value) ? "n" : cJSON_IsTrue(value) ? "t" : "f", 1);
}

static void access_range(struct access *a, const struct range *r)
{
    if (r->low && r->high && value_number_compare(r->low, r->high) == 0) {
        access_number(a, r->low);
        return;
    }
    access_bytes(a, ACCESS_RANGE, "", 0);
    a->low = r->low ? r->low->valuedouble : -INFINITY;
    a->high = r->high ? r->high->valuedouble : INFINITY;
}

static void access_cidr(struct access *a, const struct cidr *cidr)
{
    memcpy(a->room, cidr->bytes, cidr->size);
    a->room[cidr->size] = (char)cidr->bits;
    access_bytes(a, cidr->size == 4 ? ACCESS_CIDR4 : ACCESS_CIDR6, a->room, (size_t)cidr->size + 1);
}

static void access_equal(struct access *a, const struct predicate *p)
{
    if (!p->value)
        access_bytes(a, ACCESS_STRING, p->text.s, p->text.len);
    else if (value_is_number(p->value))
        access_number(a, p->value);
    else
        access_literal(a, p->value);
}

size_t predicate_accesses(const struct predicate *p, struct access out[ACCESSES_MAX])
{
    switch (p->op) {
    case PREDICATE_EQUAL:
        access_equal(out, p);
        break;
    case PREDICATE_PREFIX:
        access_prefix(out, ACCESS_PREFIX, &p->text);
        break;
    case PREDICATE_SUFFIX:
        access_suffix(out, ACCESS_SUFFIX, &p->text);
        break;
    case PREDICATE_FOLD:
        access_bytes(out, ACCESS_FOLD, p->folded.s, p->folded.len);
        break;
    case PREDICATE_PREFIX_FOLD:
        access_prefix(out, ACCESS_PREFIX_FOLD, &p->folded);
        break;
    case PREDICATE_SUFFIX_FOLD:
        access_suffix(out, ACCESS_SUFFIX_FOLD, &p->folded);
        break;
    case PREDICATE_WILDCARD:
        return wildcard_accesses(p->wildcard, out);
    case PREDICATE_NUMERIC:
        access_range(out, &p->range);
        break;
    case PREDICATE_CIDR:
        access_cidr(out, &p->cidr);
        break;
    case PREDICATE_BUT:
        access_bytes(out, ACCESS_SCALAR, "", 0);
        break;
    case PREDICATE_PRESENT:
        access_bytes(out, ACCESS_PRESENT, "", 0);
        break;
    case PREDICATE_ABSENT:
        access_bytes(out, ACCESS_ABSENT, "", 0);
        break;
    }
    return 1;
}
