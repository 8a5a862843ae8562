/* Compiling patterns: JSON to lists with paths, $or multiplied out, paths merged into one tree a conjunction. */
#include "lang/pattern_internal.h"

#include "model/value.h"

#include <errno.h>
#include <utlist.h>

/* A conjunction while it is gathered: indices of pattern->leaves. */
struct draft {
    unsigned *leaves;
    size_t n, cap;
};

struct drafts {
    struct draft *v;
    size_t n, cap;
    size_t total; /* names in all their paths */
};

struct compiler {
    struct arena *arena;
    struct leaf **leaves;
    size_t n_leaves, cap;
    struct drafts drafts;
    struct buf names; /* of the path so far, each NUL-terminated */
    size_t n_names;
    struct place at;
    unsigned depth;           /* of objects; $or nests without making a path longer */
    pattern_error_fn *report; /* NULL: the first error ends it */
    void *ctx;
    size_t n_errors; /* reported; the pattern is not to be used then */
};

#define FAIL(c, node, ...) place_error(&(c)->at, node, __VA_ARGS__)

static int compile_object(struct compiler *c, const cJSON *object, bool nested);

/* Of what failed with `r` (0: it did not): 0 where the rest is to be looked at as well. */
static int look_on(struct compiler *c, int r)
{
    if (r == 0 || !c->report || c->n_errors == PATTERN_ERRORS_MAX)
        return r;
    c->n_errors++;
    c->report(c->ctx, *c->at.ret_node, c->at.err->message);
    return c->n_errors < PATTERN_ERRORS_MAX ? 0 : r;
}

struct arena_chunk {
    struct arena_chunk *next;
    max_align_t memory[];
};

void *arena_alloc(struct arena *a, size_t size)
{
    enum { FIRST = 304, SECOND = 240, MOST = 16384 }; /* a pattern with one short path fits into the first */
    size = (size + sizeof(void *) - 1) & ~(sizeof(void *) - 1);
    if (size > a->left) {
        size_t next = a->chunks ? a->next : FIRST, room = MAX(next, size);
        a->next = a->chunks ? MIN(a->next * 2, (size_t)MOST) : SECOND;
        struct arena_chunk *chunk = xcalloc(1, sizeof(*chunk) + room);
        LL_PREPEND(a->chunks, chunk);
        a->at = (char *)chunk->memory;
        a->left = room;
    }
    void *p = a->at;
    a->at += size;
    a->left -= size;
    return p;
}

const char *arena_copy(struct arena *a, const char *s, size_t len)
{
    char *copy = arena_alloc(a, len + 1);
    memcpy(copy, s, len);
    return copy;
}

static void arena_fini(struct arena *a)
{
    struct arena_chunk *chunk, *next;
    LL_FOREACH_SAFE(a->chunks, chunk, next)
    free(chunk);
    *a = (struct arena){0};
}

static void drafts_fini(struct drafts *d)
{
    for (size_t i = 0; i < d->n; i++)
        free(d->v[i].leaves);
    free(d->v);
    *d = (struct drafts){0};
}

static void draft_add(struct draft *d, unsigned leaf)
{
    if (d->n == d->cap) {
        d->cap = d->cap ? d->cap * 2 : 4;
        d->leaves = xreallocarray(d->leaves, d->cap, sizeof(*d->leaves));
    }
    d->leaves[d->n++] = leaf;
}

/* Append copies of all of `from`. */
static void drafts_append(struct drafts *to, const struct drafts *from)
{
    if (to->n + from->n > to->cap) {
        to->cap = MAX(to->cap * 2, to->n + from->n);
        to->v = xreallocarray(to->v, to->cap, sizeof(*to->v));
    }
    for (size_t i = 0; i < from->n; i++) {
        const struct draft *d = &from->v[i];
        to->v[to->n++] = (struct draft){
            .leaves = d->n ? xmemdup(d->leaves, d->n * sizeof(*d->leaves)) : NULL,
            .n = d->n,
            .cap = d->n,
        };
    }
    to->total += from->total;
}

static int check_expansion(struct compiler *c, const cJSON *node, size_t conjunctions, size_t total)
{
    if (conjunctions > PATTERN_CONJUNCTIONS_MAX)
        return FAIL(c, node, "the alternatives of $or multiply out to more than %d combinations",
                    PATTERN_CONJUNCTIONS_MAX);
    if (total > PATTERN_EXPANDED_MAX)
        return FAIL(c, node, "the alternatives of $or multiply out to more than %d names", PATTERN_EXPANDED_MAX);
    return 0;
}

static void leaf_note_kinds(struct leaf *leaf)
{
    for (size_t i = 0; i < leaf->n; i++) {
        enum predicate_op op = leaf->predicates[i].op;
        leaf->present |= op == PREDICATE_PRESENT;
        leaf->absent |= op == PREDICATE_ABSENT;
        leaf->scalar |= op != PREDICATE_PRESENT && op != PREDICATE_ABSENT;
    }
}

static struct leaf *leaf_new(struct compiler *c)
{
    struct leaf *leaf = arena_alloc(c->arena, sizeof(*leaf));
    leaf->order = (unsigned)c->n_leaves;
    leaf->names = arena_copy(c->arena, c->names.data, c->names.len);
    leaf->n_names = (uint16_t)c->n_names;
    if (c->n_leaves == c->cap) {
        c->cap = c->cap ? c->cap * 2 : 8;
        c->leaves = xreallocarray(c->leaves, c->cap, sizeof(struct leaf *));
    }
    return c->leaves[c->n_leaves++] = leaf;
}

/* A list at the path so far, or a scalar that stands for a list of one: joins every conjunction. */
static int compile_leaf(struct compiler *c, const cJSON *value)
{
    bool list = cJSON_IsArray(value);
    if (list && !value->child)
        return FAIL(c, value, "expected at least one value, got []");
    if (c->n_leaves == PATTERN_PATHS_MAX)
        return FAIL(c, value, "expected at most %d paths in a pattern", PATTERN_PATHS_MAX);
    size_t added = c->drafts.n * c->n_names, outer = c->at.path.len;
    int r = check_expansion(c, value, c->drafts.n, c->drafts.total + added);
    if (r < 0)
        return r;
    size_t n = list ? (size_t)cJSON_GetArraySize(value) : 1;
    if (n > PATTERN_ENTRIES_MAX)
        return FAIL(c, value, "expected at most %d entries in a pattern", PATTERN_ENTRIES_MAX);

    struct leaf *leaf = leaf_new(c);
    leaf->predicates = arena_alloc(c->arena, n * sizeof(*leaf->predicates));
    for (const cJSON *entry = list ? value->child : value; leaf->n < n; entry = entry->next) {
        if (list)
            buf_printf(&c->at.path, "[%zu]", leaf->n);
        r = look_on(c, predicate_compile(&leaf->predicates[leaf->n++], entry, &c->at));
        if (r < 0)
            return r;
        c->at.path.len = outer;
    }
    leaf_note_kinds(leaf);
    for (size_t i = 0; i < c->drafts.n; i++)
        draft_add(&c->drafts.v[i], leaf->order);
    c->drafts.total += added;
    return 0;
}

/* $or: every conjunction so far, with each alternative. */
static int compile_or(struct compiler *c, const cJSON * or)
{
    char got[160];
    if (!cJSON_IsArray(or) || cJSON_GetArraySize(or) < 2)
        return FAIL(c, or, "expected a list of two or more alternatives, got %s", value_brief(or, got, sizeof(got)));
    struct drafts base = c->drafts, result = {0};
    c->drafts = (struct drafts){0};
    size_t outer = c->at.path.len;
    int r = 0, i = 0;
    const cJSON *alternative;
    cJSON_ArrayForEach (alternative, or) {
        c->at.path.len = outer;
        buf_printf(&c->at.path, "[%d]", i++);
        if (!cJSON_IsObject(alternative)) {
            r = FAIL(c, alternative, "expected an object, got %s", value_brief(alternative, got, sizeof(got)));
            r = look_on(c, r);
        } else {
            r = check_expansion(c, alternative, result.n + base.n, result.total + base.total);
        }
        if (r < 0)
            break;
        if (!cJSON_IsObject(alternative))
            continue;
        drafts_append(&c->drafts, &base);
        r = compile_object(c, alternative, true);
        if (r == 0)
            r = check_expansion(c, alternative, result.n + c->drafts.n, result.total + c->drafts.total);
        if (r < 0)
            break;
        drafts_append(&result, &c->drafts);
        drafts_fini(&c->drafts);
    }
    drafts_fini(&base);
    drafts_fini(&c->drafts);
    c->drafts = result;
    return r;
}

/* Add `key`, cut at its dots, to the path. */
static int push_names(struct compiler *c, const cJSON *member)
{
    const char *key = member->string;
    size_t len = strlen(key);
    if (len > PATTERN_STRING_MAX)
        return FAIL(c, member, "expected a key of at most %d bytes, got %zu", PATTERN_STRING_MAX, len);
    size_t from = c->names.len;
    buf_add(&c->names, key, len + 1);
    c->n_names++;
    for (char *dot = c->names.data + from; (dot = strchr(dot, '.')); dot++) {
        *dot = '\0';
        c->n_names++;
    }
    if (c->n_names > PATTERN_DEPTH_MAX)
        return FAIL(c, member, "expected a path of at most %d names", PATTERN_DEPTH_MAX);
    return 0;
}

/* A member called as an operator is: wherever it can only be meant as one, say how to write it. */
static int misplaced_operator(struct compiler *c, const cJSON *member, size_t outer)
{
    char value[160];
    value_brief(member, value, sizeof(value));
    _cleanup_(freep) char *parent = xstrndup(outer ? c->at.path.data : "", outer);
    if (parent[0] == '\0' || parent[outer - 1] == ']' || outer > 100)
        return FAIL(c, member, "an operator stands in the list of a key: write {\"key\": [{%s: %s}]}", member->string,
                    value);
    return FAIL(c, member,
                "an operator stands in a list: write [{%s: %s}], or the key \"%s.%s\" for a member of that name",
                member->string, value, parent, member->string);
}

static int compile_member(struct compiler *c, const cJSON *member, bool nested)
{
    size_t names = c->names.len, n_names = c->n_names, outer = c->at.path.len;
    buf_printf(&c->at.path, "%s%s", outer ? "." : "", member->string);
    int r;
    if (streq(member->string, "$or")) {
        r = compile_or(c, member);
    } else if (nested && predicate_is_operator(member->string)) {
        r = misplaced_operator(c, member, outer);
    } else {
        r = push_names(c, member);
        if (r == 0)
            r = cJSON_IsObject(member) ? compile_object(c, member, true) : compile_leaf(c, member);
    }
    c->names.len = names;
    c->n_names = n_names;
    c->at.path.len = outer;
    return r;
}

/* `nested`: not the pattern itself, so that operators' names are no members' names and there has to be a member. */
static int compile_object(struct compiler *c, const cJSON *object, bool nested)
{
    if (nested && !object->child)
        return FAIL(c, object, "expected at least one member, got {}");
    if (c->depth > PATTERN_DEPTH_MAX)
        return FAIL(c, object, "expected objects at most %d deep", PATTERN_DEPTH_MAX);
    c->depth++;
    int r = 0;
    for (const cJSON *member = object->child; member && r == 0; member = member->next)
        r = look_on(c, compile_member(c, member, nested));
    c->depth--;
    return r;
}

/* The tree of a conjunction. */

static struct node *node_child(struct arena *arena, struct node *node, const char *name, size_t len)
{
    struct node *child;
    LL_FOREACH (node->children, child)
        if (child->name_len == len && memcmp(child->name, name, len) == 0)
            return child;
    child = arena_alloc(arena, sizeof(*child));
    child->name = name;
    child->name_len = len;
    LL_APPEND(node->children, child);
    return child;
}

static void conjunction_add(struct conjunction *conjunction, const struct leaf *leaf, struct arena *arena)
{
    struct node *node = conjunction->root;
    const char *name = leaf->names;
    for (size_t k = 0; k < leaf->n_names; k++) {
        size_t len = strlen(name);
        node = node_child(arena, node, name, len);
        name += len + 1;
    }
    struct leaf_cell *cell = arena_alloc(arena, sizeof(*cell));
    cell->leaf = leaf;
    LL_APPEND(node->leaves, cell);
    conjunction->leaves[conjunction->n++] = leaf;
}

static void conjunction_build(struct conjunction *conjunction, const struct draft *draft,
                              const struct leaf *const *leaves, struct arena *arena)
{
    conjunction->root = arena_alloc(arena, sizeof(*conjunction->root));
    conjunction->leaves = arena_alloc(arena, draft->n * sizeof(struct leaf *));
    for (size_t i = 0; i < draft->n; i++)
        conjunction_add(conjunction, leaves[draft->leaves[i]], arena);
}

static struct pattern *pattern_build(const struct compiler *c)
{
    struct arena *arena = c->arena;
    struct pattern *p = arena_alloc(arena, sizeof(*p));
    if (c->leaves) {
        p->n_leaves = c->n_leaves;
        p->leaves = arena_alloc(arena, p->n_leaves * sizeof(struct leaf *));
        memcpy(p->leaves, c->leaves, p->n_leaves * sizeof(struct leaf *));
        p->n_conjunctions = c->drafts.n;
        p->conjunctions = arena_alloc(arena, p->n_conjunctions * sizeof(*p->conjunctions));
        for (size_t i = 0; i < p->n_conjunctions; i++)
            conjunction_build(&p->conjunctions[i], &c->drafts.v[i], p->leaves, arena);
    }
    p->arena = *arena;
    return p;
}

/* The pattern, NULL after an error. */
static struct pattern *compile(struct compiler *c, const cJSON *json)
{
    static const struct draft empty = {0};
    struct pattern *p = NULL;
    struct arena arena = {0};
    c->arena = c->at.arena = &arena;
    drafts_append(&c->drafts, &(struct drafts){.v = (struct draft *)&empty, .n = 1});
    int r = 0;
    char got[160];
    if (json && !cJSON_IsObject(json))
        r = FAIL(c, json, "expected an object, got %s", value_brief(json, got, sizeof(got)));
    else if (json)
        r = compile_object(c, json, false);
    r = look_on(c, r);
    if (r == 0 && c->n_errors == 0)
        p = pattern_build(c);
    else
        arena_fini(&arena);
    drafts_fini(&c->drafts);
    free(c->leaves);
    buf_fini(&c->names);
    buf_fini(&c->at.path);
    return p;
}

int pattern_compile(const cJSON *json, struct pattern **ret, const cJSON **ret_node, struct error *err)
{
    struct compiler c = {.at = {.ret_node = ret_node, .err = err}};
    struct pattern *p = compile(&c, json);
    if (!p)
        return -EINVAL;
    *ret = p;
    return 0;
}

size_t pattern_errors(const cJSON *json, pattern_error_fn *fn, void *ctx)
{
    const cJSON *node = NULL;
    struct error err = ERROR_INIT;
    struct compiler c = {.at = {.ret_node = &node, .err = &err}, .report = fn, .ctx = ctx};
    pattern_destroy(compile(&c, json));
    return c.n_errors;
}

void pattern_destroy(struct pattern *p)
{
    if (!p)
        return;
    struct arena arena = p->arena; /* the pattern itself lies in it */
    arena_fini(&arena);
}
