#include "lang/matcher_index.h"

#include "lang/matcher_access.h"
#include "model/value.h"

#include <assert.h>
#include <math.h>

/* Keys of the hash table are compared by content; see struct key. */
static int key_compare(const void *a, const void *b);
#define HASH_KEYCMP(a, b, n) key_compare(a, b)
#include <uthash.h>
#include <utlist.h>

struct key {
    const char *bytes;
    uint32_t len;
    uint32_t node; /* id of the path node */
    enum access_kind kind;
};

struct length {
    uint16_t len;
    uint32_t count;
};

/* Lengths in use, ascending, each with how often. */
struct lengths {
    struct length *v;
    size_t n;
};

struct range_item {
    double low, high;
    double reach; /* the highest `high` in the subtree */
    struct match_ref *ref;
};

/* Sorted by `low`, the array is a balanced tree: the root of [from, to) is in the middle. */
struct ranges {
    struct range_item *v;
    size_t n, cap;
    bool sorted;
    uint64_t epoch;
    size_t visited; /* items found in this walk */
};

struct path_node {
    struct key key; /* its name under its parent */
    UT_hash_handle hh;
    struct path_node *parent;
    uint32_t id;
    uint32_t children;
    uint64_t child_bits; /* name_bit() of the children, and perhaps of former ones */
    uint32_t refs;
    uint32_t counts[ACCESS_KINDS]; /* refs by kind */
    struct lengths *lengths;       /* NULL, or of the kinds from ACCESS_LENGTHS on */
    uint8_t *pairs;                /* NULL, or a bit for each pair of bytes, hashed, that a chunk starts with */
    struct ranges *ranges;
    uint64_t seen;                 /* epoch of the last walk in which a value was certainly here */
    struct path_node *next, *prev; /* in index->absent */
    char name[];                   /* the key's bytes */
};

struct bucket {
    struct key key;
    UT_hash_handle hh;
    struct match_ref *refs; /* by next and prev */
    size_t n;
    uint64_t epoch; /* of the last walk that found it */
    char bytes[];   /* the key's */
};

struct match_ref {
    void *item;
    struct path_node *node;
    struct bucket *bucket; /* NULL: in node->ranges */
    union {
        struct match_ref *prev; /* in the bucket */
        size_t place;           /* in the ranges */
    };
    struct match_ref *next;    /* in the bucket */
    struct match_ref *sibling; /* of the same item */
    enum access_kind kind;
};

struct match_index {
    struct path_node *root;
    struct path_node *names;  /* hash table: all nodes but the root */
    struct bucket *buckets;   /* hash table */
    struct path_node *absent; /* nodes with items under ABSENT */
    uint32_t ids;
    uint64_t epoch;
};

/* Hashing. A hash goes on over more bytes, so that prefixes of one text cost no more than the text. */

static int key_compare(const void *a, const void *b)
{
    const struct key *x = a, *y = b;
    return x->node != y->node || x->kind != y->kind || x->len != y->len || memcmp(x->bytes, y->bytes, x->len) != 0;
}

static uint64_t hash_start(const struct path_node *node, enum access_kind kind)
{
    return ((uint64_t)node->id * ACCESS_KINDS + kind + 1) * 0x9E3779B97F4A7C15ULL;
}

static unsigned hash_end(uint64_t h)
{
    return (unsigned)(h ^ h >> 32);
}

static unsigned key_hash(const struct path_node *node, enum access_kind kind, const char *bytes, size_t len)
{
    return hash_end(hash_bytes(hash_start(node, kind), bytes, len));
}

static struct bucket *bucket_find_hashed(const struct match_index *x, const struct path_node *node,
                                         enum access_kind kind, const char *bytes, size_t len, unsigned hash)
{
    const struct key key = {bytes, (uint32_t)len, node->id, kind};
    struct bucket *bucket;
    HASH_FIND_BYHASHVALUE(hh, x->buckets, &key, sizeof(key), hash, bucket);
    return bucket;
}

static struct bucket *bucket_find(const struct match_index *x, const struct path_node *node, enum access_kind kind,
                                  const char *bytes, size_t len)
{
    return bucket_find_hashed(x, node, kind, bytes, len, key_hash(node, kind, bytes, len));
}

static struct path_node *child_find_hashed(const struct match_index *x, const struct path_node *parent,
                                           const char *name, size_t len, unsigned hash)
{
    const struct key key = {name, (uint32_t)len, parent->id, ACCESS_NAME};
    struct path_node *node;
    HASH_FIND_BYHASHVALUE(hh, x->names, &key, sizeof(key), hash, node);
    return node;
}

static struct path_node *child_find(const struct match_index *x, const struct path_node *parent, const char *name,
                                    size_t len)
{
    return child_find_hashed(x, parent, name, len, key_hash(parent, ACCESS_NAME, name, len));
}

/* Most members of most events are in no pattern: a bit for each child's name says so before anything is hashed. */
static uint64_t name_bit(const char *name, size_t len)
{
    size_t ends = len > 0 ? (size_t)(uint8_t)name[0] + 7 * (size_t)(uint8_t)name[len - 1] : 0;
    return 1ULL << ((ends + 13 * len) & 63);
}

/* The fewer events come this way, and the fewer others are kept there already, the better. */
static uint64_t access_cost(const struct match_index *x, const struct path_node *node, const struct access *a)
{
    static const uint64_t base[ACCESS_KINDS] = {
        [ACCESS_STRING] = 1,       [ACCESS_NUMBER] = 1,        [ACCESS_LITERAL] = 64,     [ACCESS_FOLD] = 2,
        [ACCESS_CIDR4] = 4,        [ACCESS_CIDR6] = 4,         [ACCESS_PREFIX] = 4,       [ACCESS_SUFFIX] = 4,
        [ACCESS_PREFIX_FOLD] = 6,  [ACCESS_SUFFIX_FOLD] = 6,   [ACCESS_CHUNK] = 8,        [ACCESS_RANGE] = 256,
        [ACCESS_SCALAR] = 1 << 16, [ACCESS_PRESENT] = 1 << 16, [ACCESS_ABSENT] = 1 << 20,
    };
    uint64_t cost = base[a->kind];
    bool end = a->kind >= ACCESS_PREFIX && a->kind <= ACCESS_CHUNK;
    if (end || a->kind == ACCESS_STRING || a->kind == ACCESS_NUMBER || a->kind == ACCESS_FOLD)
        cost += 64 / (a->bytes.len + 1); /* the shorter, the more values are or have it */
    if (!node)
        return cost;
    if (a->kind == ACCESS_RANGE)
        return cost + node->counts[ACCESS_RANGE] / 16;
    const struct bucket *bucket = bucket_find(x, node, a->kind, a->bytes.s, a->bytes.len);
    return cost + (bucket ? bucket->n : 0);
}

static const struct access *best_access(const struct match_index *x, const struct path_node *node,
                                        const struct predicate *p, struct access out[ACCESSES_MAX], uint64_t *ret_cost)
{
    size_t n = predicate_accesses(p, out), best = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t cost = access_cost(x, node, &out[i]);
        if (i == 0 || cost < *ret_cost) {
            *ret_cost = cost;
            best = i;
        }
    }
    return &out[best];
}

uint64_t match_index_cost(const struct match_index *x, const struct leaf *leaf)
{
    const struct path_node *node = x->root;
    const char *name = leaf->names;
    for (size_t i = 0; i < leaf->n_names && node; i++) {
        size_t len = strlen(name);
        node = child_find(x, node, name, len);
        name += len + 1;
    }
    uint64_t total = 0, cost = 0;
    struct access accesses[ACCESSES_MAX];
    for (size_t i = 0; i < leaf->n; i++) {
        best_access(x, node, &leaf->predicates[i], accesses, &cost);
        total += cost;
    }
    return total;
}

/* Adding and removing. */

struct match_index *match_index_create(void)
{
    struct match_index *x = xcalloc(1, sizeof(*x));
    x->root = xcalloc(1, sizeof(*x->root));
    return x;
}

void match_index_destroy(struct match_index *x)
{
    free(x->root);
    free(x);
}

static struct path_node *child_get(struct match_index *x, struct path_node *parent, const char *name, size_t len)
{
    unsigned hash = key_hash(parent, ACCESS_NAME, name, len);
    struct path_node *node = child_find_hashed(x, parent, name, len, hash);
    if (node)
        return node;
    node = xcalloc(1, sizeof(*node) + len);
    memcpy(node->name, name, len);
    node->key = (struct key){node->name, (uint32_t)len, parent->id, ACCESS_NAME};
    node->parent = parent;
    node->id = ++x->ids;
    parent->children++;
    parent->child_bits = (parent->children > 1 ? parent->child_bits : 0) | name_bit(name, len);
    HASH_ADD_KEYPTR_BYHASHVALUE(hh, x->names, &node->key, sizeof(node->key), hash, node);
    return node;
}

/* Free the node if nothing is left in it, and then its parents likewise. */
static void node_release(struct match_index *x, struct path_node *node)
{
    while (node->parent && node->refs == 0 && node->children == 0) {
        struct path_node *parent = node->parent;
        parent->children--;
        assert(x->names); /* node is in it */
        HASH_DELETE(hh, x->names, node);
        free(node->lengths);
        free(node->pairs);
        free(node);
        node = parent;
    }
}

static struct lengths *lengths_of(struct path_node *node, enum access_kind kind)
{
    if (!node->lengths)
        node->lengths = xcalloc(ACCESS_KINDS - ACCESS_LENGTHS, sizeof(*node->lengths));
    return &node->lengths[kind - ACCESS_LENGTHS];
}

static void lengths_add(struct lengths *l, size_t len)
{
    size_t i = 0;
    while (i < l->n && l->v[i].len < len)
        i++;
    if (i == l->n || l->v[i].len != len) {
        l->v = xreallocarray(l->v, l->n + 1, sizeof(*l->v));
        memmove(l->v + i + 1, l->v + i, (l->n - i) * sizeof(*l->v));
        l->v[i] = (struct length){.len = (uint16_t)len};
        l->n++;
    }
    l->v[i].count++;
}

static void lengths_remove(struct lengths *l, size_t len)
{
    size_t i = 0;
    while (l->v[i].len != len)
        i++;
    if (--l->v[i].count > 0)
        return;
    l->n--;
    memmove(l->v + i, l->v + i + 1, (l->n - i) * sizeof(*l->v));
    if (l->n == 0) {
        free(l->v);
        l->v = NULL;
    }
}

/* What varies among keys of a kind: bytes, or the bits of an address block. */
static size_t key_length(const struct key *key)
{
    bool cidr = key->kind == ACCESS_CIDR4 || key->kind == ACCESS_CIDR6;
    return cidr ? (uint8_t)key->bytes[key->len - 1] : key->len;
}

#define PAIRS_BYTES 512

static size_t pair_bit(const char *s)
{
    unsigned pair = (uint8_t)s[0] | (unsigned)(uint8_t)s[1] << 8;
    return (pair * 0x9E3779B1U) >> 20; /* 12 bits */
}

static void pairs_add(struct path_node *node, const char *chunk)
{
    if (!node->pairs)
        node->pairs = xcalloc(1, PAIRS_BYTES);
    size_t bit = pair_bit(chunk);
    node->pairs[bit / 8] |= (uint8_t)(1U << bit % 8);
}

static struct bucket *bucket_get(struct match_index *x, struct path_node *node, const struct access *a)
{
    unsigned hash = key_hash(node, a->kind, a->bytes.s, a->bytes.len);
    struct bucket *bucket = bucket_find_hashed(x, node, a->kind, a->bytes.s, a->bytes.len, hash);
    if (bucket)
        return bucket;
    bucket = xcalloc(1, sizeof(*bucket) + a->bytes.len);
    memcpy(bucket->bytes, a->bytes.s, a->bytes.len);
    bucket->key = (struct key){bucket->bytes, (uint32_t)a->bytes.len, node->id, a->kind};
    HASH_ADD_KEYPTR_BYHASHVALUE(hh, x->buckets, &bucket->key, sizeof(bucket->key), hash, bucket);
    if (a->kind >= ACCESS_LENGTHS)
        lengths_add(lengths_of(node, a->kind), key_length(&bucket->key));
    if (a->kind == ACCESS_CHUNK && a->bytes.len > 1)
        pairs_add(node, a->bytes.s);
    if (a->kind == ACCESS_ABSENT)
        DL_APPEND(x->absent, node);
    return bucket;
}

static void bucket_release(struct match_index *x, struct path_node *node, struct bucket *bucket)
{
    if (bucket->n > 0)
        return;
    enum access_kind kind = bucket->key.kind;
    if (kind >= ACCESS_LENGTHS)
        lengths_remove(lengths_of(node, kind), key_length(&bucket->key));
    if (kind == ACCESS_ABSENT)
        DL_DELETE(x->absent, node);
    HASH_DELETE(hh, x->buckets, bucket);
    free(bucket);
}

static void ranges_add(struct path_node *node, double low, double high, struct match_ref *ref)
{
    if (!node->ranges)
        node->ranges = xcalloc(1, sizeof(*node->ranges));
    struct ranges *r = node->ranges;
    if (r->n == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 4;
        r->v = xreallocarray(r->v, r->cap, sizeof(*r->v));
    }
    ref->place = r->n;
    r->v[r->n++] = (struct range_item){.low = low, .high = high, .ref = ref};
    r->sorted = false;
}

static void ranges_remove(struct path_node *node, size_t place)
{
    struct ranges *r = node->ranges;
    r->v[place] = r->v[--r->n];
    r->v[place].ref->place = place;
    r->sorted = false;
    if (r->n == 0) {
        free(r->v);
        free(r);
        node->ranges = NULL;
    }
}

void match_index_add(struct match_index *x, const struct leaf *leaf, void *item, struct match_ref **refs)
{
    struct path_node *node = x->root;
    const char *name = leaf->names;
    for (size_t i = 0; i < leaf->n_names; i++) {
        size_t len = strlen(name);
        node = child_get(x, node, name, len);
        name += len + 1;
    }
    for (size_t i = 0; i < leaf->n; i++) {
        struct access accesses[ACCESSES_MAX];
        uint64_t cost;
        const struct access *a = best_access(x, node, &leaf->predicates[i], accesses, &cost);
        struct match_ref *ref = xcalloc(1, sizeof(*ref));
        ref->item = item;
        ref->node = node;
        ref->kind = a->kind;
        if (a->kind == ACCESS_RANGE) {
            ranges_add(node, a->low, a->high, ref);
        } else {
            ref->bucket = bucket_get(x, node, a);
            DL_APPEND(ref->bucket->refs, ref);
            ref->bucket->n++;
        }
        node->counts[a->kind]++;
        node->refs++;
        LL_PREPEND2(*refs, ref, sibling);
    }
}

void match_index_remove(struct match_index *x, struct match_ref **refs)
{
    struct match_ref *ref, *next;
    LL_FOREACH_SAFE2(*refs, ref, next, sibling)
    {
        struct path_node *node = ref->node;
        struct bucket *bucket = ref->bucket;
        if (bucket) {
            DL_DELETE(bucket->refs, ref);
            bucket->n--;
            bucket_release(x, node, bucket);
        } else {
            ranges_remove(node, ref->place);
        }
        node->counts[ref->kind]--;
        node->refs--;
        node_release(x, node);
        free(ref);
    }
    *refs = NULL;
}

/* Walking an event. */

struct walk {
    struct match_index *x;
    match_found_fn *found;
    void *ctx;
};

static void bucket_visit(struct walk *w, struct bucket *bucket)
{
    if (!bucket || bucket->epoch == w->x->epoch)
        return;
    bucket->epoch = w->x->epoch;
    const struct match_ref *ref;
    DL_FOREACH (bucket->refs, ref)
        w->found(w->ctx, ref->item);
}

static void visit(struct walk *w, const struct path_node *node, enum access_kind kind, const char *bytes, size_t len)
{
    if (node->counts[kind] > 0)
        bucket_visit(w, bucket_find(w->x, node, kind, bytes, len));
}

/* Prefixes of `s` in every length in use. */
static void visit_prefixes(struct walk *w, const struct path_node *node, enum access_kind kind, const char *s,
                           size_t len)
{
    const struct lengths *l = &node->lengths[kind - ACCESS_LENGTHS];
    uint64_t hash = hash_start(node, kind);
    size_t done = 0;
    for (size_t i = 0; i < l->n && l->v[i].len <= len; i++) {
        hash = hash_bytes(hash, s + done, l->v[i].len - done);
        done = l->v[i].len;
        bucket_visit(w, bucket_find_hashed(w->x, node, kind, s, done, hash_end(hash)));
    }
}

static void visit_ends(struct walk *w, const struct path_node *node, enum access_kind prefix, enum access_kind suffix,
                       const char *s, size_t len)
{
    if (node->counts[prefix] > 0)
        visit_prefixes(w, node, prefix, s, len);
    if (node->counts[suffix] > 0) {
        char reversed[ACCESS_END_MAX];
        size_t n = MIN(len, ACCESS_END_MAX);
        access_reverse(reversed, s, len, n);
        visit_prefixes(w, node, suffix, reversed, n);
    }
}

static void visit_chunks(struct walk *w, const struct path_node *node, const char *s, size_t len)
{
    const struct lengths *l = &node->lengths[ACCESS_CHUNK - ACCESS_LENGTHS];
    bool single = l->v[0].len == 1;
    for (size_t i = 0; i < len; i++) {
        size_t bit = node->pairs && i + 1 < len ? pair_bit(s + i) : 0;
        bool pair = node->pairs && i + 1 < len && node->pairs[bit / 8] >> bit % 8 & 1;
        if (pair)
            visit_prefixes(w, node, ACCESS_CHUNK, s + i, len - i);
        else if (single)
            visit(w, node, ACCESS_CHUNK, s + i, 1);
    }
}

static void visit_blocks(struct walk *w, const struct path_node *node, const char *s, size_t len)
{
    uint8_t address[16], key[17];
    unsigned size = pattern_address(s, len, address);
    if (size == 0)
        return;
    enum access_kind kind = size == 4 ? ACCESS_CIDR4 : ACCESS_CIDR6;
    if (node->counts[kind] == 0)
        return;
    const struct lengths *l = &node->lengths[kind - ACCESS_LENGTHS];
    for (size_t i = 0; i < l->n; i++) {
        memcpy(key, address, size);
        pattern_mask(key, size, l->v[i].len);
        key[size] = (uint8_t)l->v[i].len;
        visit(w, node, kind, (const char *)key, size + 1);
    }
}

static void visit_string(struct walk *w, const struct path_node *node, const char *s)
{
    size_t len = strlen(s);
    const uint32_t *counts = node->counts;
    if (len <= PATTERN_STRING_MAX)
        visit(w, node, ACCESS_STRING, s, len);
    visit_ends(w, node, ACCESS_PREFIX, ACCESS_SUFFIX, s, len);
    if (counts[ACCESS_CHUNK] > 0)
        visit_chunks(w, node, s, len);
    if (counts[ACCESS_CIDR4] > 0 || counts[ACCESS_CIDR6] > 0)
        visit_blocks(w, node, s, len);
    if (counts[ACCESS_FOLD] > 0 || counts[ACCESS_PREFIX_FOLD] > 0 || counts[ACCESS_SUFFIX_FOLD] > 0) {
        size_t n;
        _cleanup_(freep) char *folded = pattern_fold(s, len, &n);
        visit(w, node, ACCESS_FOLD, folded, n);
        visit_ends(w, node, ACCESS_PREFIX_FOLD, ACCESS_SUFFIX_FOLD, folded, n);
    }
}

static int range_compare(const void *a, const void *b)
{
    const struct range_item *x = a, *y = b;
    return (x->low > y->low) - (x->low < y->low);
}

static double ranges_reach(struct range_item *v, size_t from, size_t to)
{
    if (from >= to)
        return -INFINITY;
    size_t middle = from + (to - from) / 2;
    double left = ranges_reach(v, from, middle), right = ranges_reach(v, middle + 1, to);
    return v[middle].reach = MAX(v[middle].high, MAX(left, right));
}

static void ranges_sort(struct ranges *r)
{
    qsort(r->v, r->n, sizeof(*r->v), range_compare);
    for (size_t i = 0; i < r->n; i++)
        r->v[i].ref->place = i;
    ranges_reach(r->v, 0, r->n);
    r->sorted = true;
}

static void ranges_find(struct walk *w, struct ranges *r, size_t from, size_t to, double at)
{
    if (from >= to)
        return;
    size_t middle = from + (to - from) / 2;
    const struct range_item *item = &r->v[middle];
    if (item->reach < at)
        return;
    ranges_find(w, r, from, middle, at);
    if (item->low > at)
        return;
    if (item->high >= at) {
        r->visited++;
        w->found(w->ctx, item->ref->item);
    }
    ranges_find(w, r, middle + 1, to, at);
}

/* Doubles order numbers as their exact values do, but for those that it takes for equal: bounds count as inside. */
static void visit_ranges(struct walk *w, struct path_node *node, double at)
{
    struct ranges *r = node->ranges;
    if (!r->sorted)
        ranges_sort(r);
    if (r->epoch != w->x->epoch) {
        r->epoch = w->x->epoch;
        r->visited = 0;
    }
    if (r->visited > 2 * r->n) /* a long array of numbers: all were found, once below */
        return;
    ranges_find(w, r, 0, r->n, at);
    if (r->visited > 2 * r->n)
        for (size_t i = 0; i < r->n; i++)
            w->found(w->ctx, r->v[i].ref->item);
}

static void visit_scalar(struct walk *w, struct path_node *node, const cJSON *v)
{
    visit(w, node, ACCESS_SCALAR, "", 0);
    if (cJSON_IsString(v)) {
        visit_string(w, node, v->valuestring);
        return;
    }
    struct access a;
    if (!value_is_number(v)) {
        access_literal(&a, v);
        visit(w, node, ACCESS_LITERAL, a.bytes.s, a.bytes.len);
        return;
    }
    if (node->counts[ACCESS_NUMBER] > 0) {
        access_number(&a, v);
        visit(w, node, ACCESS_NUMBER, a.bytes.s, a.bytes.len);
    }
    if (node->ranges)
        visit_ranges(w, node, v->valuedouble);
}

static void walk_value(struct walk *w, struct path_node *node, const cJSON *v, bool certain);

/* The child that a member's name leads to; dots in it spell several names, and patterns' names have none. */
static struct path_node *child_named(const struct match_index *x, struct path_node *node, const char *name)
{
    for (;;) {
        size_t len = (size_t)(strchrnul(name, '.') - name);
        if (!(node->child_bits & name_bit(name, len)) || !(node = child_find(x, node, name, len)))
            return NULL;
        if (name[len] == '\0')
            return node;
        if (node->children == 0)
            return NULL;
        name += len + 1;
    }
}

static void walk_members(struct walk *w, struct path_node *node, const cJSON *object, bool certain)
{
    for (const cJSON *member = object->child; member; member = member->next) {
        struct path_node *child = child_named(w->x, node, member->string);
        if (!child)
            continue;
        if (certain)
            child->seen = w->x->epoch;
        visit(w, child, ACCESS_PRESENT, "", 0);
        walk_value(w, child, member, certain);
    }
}

/* `certain`: the way here leads through no array, of which a match would look at one element only. */
static void walk_value(struct walk *w, struct path_node *node, const cJSON *v, bool certain)
{
    if (cJSON_IsArray(v)) {
        for (const cJSON *element = v->child; element; element = element->next)
            walk_value(w, node, element, false);
    } else if (cJSON_IsObject(v)) {
        if (node->children > 0)
            walk_members(w, node, v, certain);
    } else if (v && node->refs > 0) {
        visit_scalar(w, node, v);
    }
}

void match_index_walk(struct match_index *x, const cJSON *event, match_found_fn *found, void *ctx)
{
    struct walk w = {x, found, ctx};
    x->epoch++;
    walk_value(&w, x->root, event, true);
    struct path_node *node;
    DL_FOREACH (x->absent, node)
        if (node->seen != x->epoch)
            visit(&w, node, ACCESS_ABSENT, "", 0);
}
