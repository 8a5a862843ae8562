#include "lang/matcher_index.h"

#include "lang/matcher_access.h"
#include "lang/matcher_table.h"
#include "model/value.h"

#include <math.h>
#include <utlist.h>

/* What a bucket, or a node below its parent, is found by. */
struct key {
    const struct path_node *node;
    const char *bytes;
    size_t len;
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

/* Says of a place in a string that no chunk begins there. */
struct chunk_filter {
    bool first[256];    /* a chunk starts with the byte */
    uint64_t pairs[64]; /* a bit for each pair of bytes, hashed, that a longer one starts with */
};

#define CHILD_BITS 256

struct path_node {
    struct path_node *parent;
    uint32_t id;
    uint32_t children;
    uint64_t child_bits[CHILD_BITS / 64]; /* name_bit() of the children, and perhaps of former ones */
    uint32_t refs;
    uint32_t counts[ACCESS_KINDS]; /* refs by kind */
    struct lengths *lengths;       /* NULL, or of the kinds from ACCESS_LENGTHS on */
    struct chunk_filter *filter;   /* NULL: no chunks so far */
    struct ranges *ranges;
    uint64_t seen;                 /* epoch of the last walk in which a value was certainly here */
    struct path_node *next, *prev; /* in index->absent */
    uint32_t name_len;
    char name[];
};

struct bucket {
    struct path_node *node;
    struct match_ref *refs; /* by next and prev */
    uint64_t epoch;         /* of the last walk that found it */
    uint32_t n;
    uint32_t len : 24, kind : 8; /* enum access_kind */
    char bytes[];
};

struct match_ref {
    void *item;
    struct match_ref *sibling; /* of the same item */
    struct bucket *bucket;     /* NULL: in the ranges of a node */
    union {
        struct {
            struct match_ref *prev, *next; /* in the bucket */
        };
        struct {
            struct path_node *node;
            size_t place; /* in its ranges */
        };
    };
};

struct match_index {
    struct path_node *root;
    struct matcher_table names; /* all nodes but the root */
    struct matcher_table buckets;
    struct path_node *absent; /* nodes with items under ABSENT */
    uint32_t ids;
    uint64_t epoch;
};

/* Hashing. */

static uint64_t hash_start(const struct path_node *node, enum access_kind kind)
{
    return ((uint64_t)node->id * ACCESS_KINDS + kind + 1) * 0x9E3779B97F4A7C15ULL;
}

static uint32_t hash_end(uint64_t h)
{
    uint32_t end = (uint32_t)(h ^ h >> 32);
    return end ? end : 1;
}

static uint64_t load(const char *s, size_t n)
{
    uint64_t word = 0;
    memcpy(&word, s, n);
    return word;
}

/* Up to eight bytes. */
static uint64_t load_rest(const char *s, size_t n)
{
    if (n >= 4)
        return load(s, 4) | load(s + n - 4, 4) << 32;
    return n == 0 ? 0 : load(s, 1) | load(s + n / 2, 1) << 8 | load(s + n - 1, 1) << 16;
}

static uint64_t hash_word(uint64_t h, uint64_t word)
{
    h = (h ^ word) * 0xD6E8FEB86659FD93ULL;
    return h ^ h >> 32;
}

/* Of kinds that are looked up with one length. */
static uint32_t hash_whole(const struct key *key)
{
    const char *s = key->bytes;
    size_t len = key->len;
    uint64_t h = hash_start(key->node, key->kind) + len;
    for (; len > 8; s += 8, len -= 8)
        h = hash_word(h, load(s, 8));
    return hash_end(hash_word(h, load_rest(s, len)) * 0xD6E8FEB86659FD93ULL);
}

/* The others' goes on over more bytes, so that prefixes of one text cost no more than the text. */
static uint32_t key_hash(const struct key *key)
{
    if (key->kind < ACCESS_LENGTHS)
        return hash_whole(key);
    return hash_end(hash_bytes(hash_start(key->node, key->kind), key->bytes, key->len));
}

static bool bucket_is(const void *item, const void *wanted)
{
    const struct bucket *bucket = item;
    const struct key *key = wanted;
    return bucket->node == key->node && bucket->kind == key->kind && bucket->len == key->len &&
           memcmp(bucket->bytes, key->bytes, key->len) == 0;
}

static bool child_is(const void *item, const void *wanted)
{
    const struct path_node *node = item;
    const struct key *key = wanted;
    return node->parent == key->node && node->name_len == key->len && memcmp(node->name, key->bytes, key->len) == 0;
}

static struct bucket *bucket_find(const struct match_index *x, const struct path_node *node, enum access_kind kind,
                                  const char *bytes, size_t len)
{
    const struct key key = {node, bytes, len, kind};
    return matcher_table_find(&x->buckets, key_hash(&key), bucket_is, &key);
}

static struct path_node *child_find(const struct match_index *x, const struct path_node *parent, const char *name,
                                    size_t len)
{
    const struct key key = {parent, name, len, ACCESS_NAME};
    return matcher_table_find(&x->names, hash_whole(&key), child_is, &key);
}

/* Most members of most events are in no pattern: a bit for each child's name says so before anything is hashed. */
static unsigned name_bit(const char *name, size_t len)
{
    size_t ends = len > 0 ? (size_t)(uint8_t)name[0] + 29 * (size_t)(uint8_t)name[len - 1] : 0;
    return (ends + 53 * len) % CHILD_BITS;
}

static bool has_child_bit(const struct path_node *node, unsigned bit)
{
    return node->child_bits[bit / 64] >> bit % 64 & 1;
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
    struct path_node *node = child_find(x, parent, name, len);
    if (node)
        return node;
    node = xcalloc(1, sizeof(*node) + len);
    memcpy(node->name, name, len);
    node->name_len = (uint32_t)len;
    node->parent = parent;
    node->id = ++x->ids;
    parent->children++;
    if (parent->children == 1)
        memset(parent->child_bits, 0, sizeof(parent->child_bits));
    unsigned bit = name_bit(name, len);
    parent->child_bits[bit / 64] |= 1ULL << bit % 64;
    const struct key key = {parent, name, len, ACCESS_NAME};
    matcher_table_add(&x->names, hash_whole(&key), node);
    return node;
}

/* Free the node if nothing is left in it, and then its parents likewise. */
static void node_release(struct match_index *x, struct path_node *node)
{
    while (node->parent && node->refs == 0 && node->children == 0) {
        struct path_node *parent = node->parent;
        const struct key key = {parent, node->name, node->name_len, ACCESS_NAME};
        parent->children--;
        matcher_table_remove(&x->names, hash_whole(&key), node);
        free(node->lengths);
        free(node->filter);
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
static size_t key_length(const struct bucket *bucket)
{
    bool cidr = bucket->kind == ACCESS_CIDR4 || bucket->kind == ACCESS_CIDR6;
    return cidr ? (uint8_t)bucket->bytes[bucket->len - 1] : bucket->len;
}

static size_t pair_bit(const char *s)
{
    unsigned pair = (uint8_t)s[0] | (unsigned)(uint8_t)s[1] << 8;
    return (pair * 0x9E3779B1U) >> 20; /* 12 bits */
}

static bool has_pair(const struct chunk_filter *filter, const char *s)
{
    return filter->pairs[pair_bit(s) / 64] >> pair_bit(s) % 64 & 1;
}

static void filter_add(struct path_node *node, const char *chunk, size_t len)
{
    if (!node->filter)
        node->filter = xcalloc(1, sizeof(*node->filter));
    node->filter->first[(uint8_t)chunk[0]] = true;
    if (len > 1)
        node->filter->pairs[pair_bit(chunk) / 64] |= 1ULL << pair_bit(chunk) % 64;
}

static struct bucket *bucket_get(struct match_index *x, struct path_node *node, const struct access *a)
{
    const struct key key = {node, a->bytes.s, a->bytes.len, a->kind};
    uint32_t hash = key_hash(&key);
    struct bucket *bucket = matcher_table_find(&x->buckets, hash, bucket_is, &key);
    if (bucket)
        return bucket;
    bucket = xcalloc(1, sizeof(*bucket) + key.len);
    memcpy(bucket->bytes, key.bytes, key.len);
    bucket->node = node;
    bucket->len = (uint32_t)key.len & 0xFFFFFF;
    bucket->kind = (uint8_t)key.kind;
    matcher_table_add(&x->buckets, hash, bucket);
    if (a->kind >= ACCESS_LENGTHS)
        lengths_add(lengths_of(node, a->kind), key_length(bucket));
    if (a->kind == ACCESS_CHUNK)
        filter_add(node, a->bytes.s, a->bytes.len);
    if (a->kind == ACCESS_ABSENT)
        DL_APPEND(x->absent, node);
    return bucket;
}

static void bucket_release(struct match_index *x, struct bucket *bucket)
{
    if (bucket->n > 0)
        return;
    struct path_node *node = bucket->node;
    const struct key key = {node, bucket->bytes, bucket->len, (enum access_kind)bucket->kind};
    if (key.kind >= ACCESS_LENGTHS)
        lengths_remove(lengths_of(node, key.kind), key_length(bucket));
    if (key.kind == ACCESS_ABSENT)
        DL_DELETE(x->absent, node);
    matcher_table_remove(&x->buckets, key_hash(&key), bucket);
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
    ref->node = node;
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
        struct bucket *bucket = ref->bucket;
        struct path_node *node = bucket ? bucket->node : ref->node;
        node->counts[bucket ? bucket->kind : ACCESS_RANGE]--;
        node->refs--;
        if (bucket) {
            DL_DELETE(bucket->refs, ref);
            bucket->n--;
            bucket_release(x, bucket);
        } else {
            ranges_remove(node, ref->place);
        }
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
        const struct key key = {node, s, done, kind};
        bucket_visit(w, matcher_table_find(&w->x->buckets, hash_end(hash), bucket_is, &key));
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
    const struct chunk_filter *filter = node->filter;
    bool single = node->lengths[ACCESS_CHUNK - ACCESS_LENGTHS].v[0].len == 1;
    for (size_t i = 0; i < len; i++) {
        if (!filter->first[(uint8_t)s[i]])
            continue;
        if (i + 1 < len && has_pair(filter, s + i))
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
        if (!has_child_bit(node, name_bit(name, len)) || !(node = child_find(x, node, name, len)))
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
    int type = v ? v->type & 0xFF : cJSON_Invalid;
    if (type == cJSON_Array) {
        for (const cJSON *element = v->child; element; element = element->next)
            walk_value(w, node, element, false);
    } else if (type == cJSON_Object) {
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
