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
    size_t total; /* leaves of all of them */
};

struct compiler {
    struct pattern *pattern;
    struct drafts drafts;
    struct buf names; /* of the path so far, each NUL-terminated */
    size_t n_names;
    struct buf place; /* the path so far as messages spell it */
    size_t n_entries;
    unsigned depth; /* of objects; $or nests without making a path longer */
    const cJSON **ret_node;
    struct error *err;
};

#define FAIL(c, node, ...) pattern_error((c)->err, (c)->ret_node, node, &(c)->place, __VA_ARGS__)

static int compile_object(struct compiler *c, const cJSON *object, bool members_only);

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
        return FAIL(c, node, "the alternatives of $or multiply out to more than %d paths", PATTERN_EXPANDED_MAX);
    return 0;
}

static void leaf_destroy(struct leaf *leaf)
{
    for (size_t i = 0; i < leaf->n; i++)
        predicate_fini(&leaf->predicates[i]);
    free(leaf->predicates);
    free(leaf->names);
    free(leaf->path);
    free(leaf);
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

static char *dotted(const struct buf *names)
{
    char *path = xmemdup(names->data, names->len);
    for (size_t i = 0; i + 1 < names->len; i++)
        if (path[i] == '\0')
            path[i] = '.';
    return path;
}

/* A list at the path so far, or a scalar that stands for a list of one: joins every conjunction. */
static int compile_leaf(struct compiler *c, const cJSON *value)
{
    struct pattern *p = c->pattern;
    bool list = cJSON_IsArray(value);
    if (list && !value->child)
        return FAIL(c, value, "expected at least one value, got []");
    if (p->n_leaves == PATTERN_PATHS_MAX)
        return FAIL(c, value, "expected at most %d paths in a pattern", PATTERN_PATHS_MAX);
    int r = check_expansion(c, value, c->drafts.n, c->drafts.total + c->drafts.n);
    if (r < 0)
        return r;

    struct leaf *leaf = xcalloc(1, sizeof(*leaf));
    p->leaves = xreallocarray(p->leaves, p->n_leaves + 1, sizeof(struct leaf *));
    leaf->order = (unsigned)p->n_leaves;
    p->leaves[p->n_leaves++] = leaf;
    leaf->path = dotted(&c->names);
    leaf->names = xmemdup(c->names.data, c->names.len);
    leaf->n_names = c->n_names;
    size_t n = list ? (size_t)cJSON_GetArraySize(value) : 1;
    if (n > PATTERN_ENTRIES_MAX)
        return FAIL(c, value, "expected at most %d entries in a pattern", PATTERN_ENTRIES_MAX);
    leaf->predicates = xcalloc(n, sizeof(*leaf->predicates));

    const cJSON *entry = list ? value->child : value;
    size_t outer = c->place.len;
    for (; leaf->n < n; entry = entry->next) {
        if (list)
            buf_printf(&c->place, "[%zu]", leaf->n);
        r = predicate_compile(&leaf->predicates[leaf->n++], entry, &c->place, &c->n_entries, c->ret_node, c->err);
        if (r < 0)
            return r;
        c->place.len = outer;
    }
    leaf_note_kinds(leaf);
    for (size_t i = 0; i < c->drafts.n; i++)
        draft_add(&c->drafts.v[i], leaf->order);
    c->drafts.total += c->drafts.n;
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
    size_t outer = c->place.len;
    int r = 0, i = 0;
    const cJSON *alternative;
    cJSON_ArrayForEach (alternative, or) {
        buf_printf(&c->place, "[%d]", i++);
        if (!cJSON_IsObject(alternative))
            r = FAIL(c, alternative, "expected an object, got %s", value_brief(alternative, got, sizeof(got)));
        if (r == 0)
            r = check_expansion(c, alternative, result.n + base.n, result.total + base.total);
        if (r < 0)
            break;
        drafts_append(&c->drafts, &base);
        r = compile_object(c, alternative, true);
        if (r == 0)
            r = check_expansion(c, alternative, result.n + c->drafts.n, result.total + c->drafts.total);
        if (r < 0)
            break;
        c->place.len = outer;
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
    _cleanup_(freep) char *parent = xstrndup(outer ? c->place.data : "", outer);
    if (parent[0] == '\0' || parent[outer - 1] == ']' || outer > 100)
        return FAIL(c, member, "an operator stands in the list of a key: write {\"key\": [{%s: %s}]}", member->string,
                    value);
    return FAIL(c, member,
                "an operator stands in a list: write [{%s: %s}], or the key \"%s.%s\" for a member of that name",
                member->string, value, parent, member->string);
}

static int compile_member(struct compiler *c, const cJSON *member, bool nested)
{
    size_t names = c->names.len, n_names = c->n_names, outer = c->place.len;
    buf_printf(&c->place, "%s%s", outer ? "." : "", member->string);
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
    c->place.len = outer;
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
        r = compile_member(c, member, nested);
    c->depth--;
    return r;
}

/* The tree of a conjunction. */

static struct node *node_child(struct node *node, const char *name, size_t len)
{
    struct node *child;
    LL_FOREACH (node->children, child)
        if (child->name_len == len && memcmp(child->name, name, len) == 0)
            return child;
    child = xcalloc(1, sizeof(*child));
    child->name = name;
    child->name_len = len;
    LL_APPEND(node->children, child);
    return child;
}

static void node_destroy(struct node *node)
{
    struct node *child, *next;
    LL_FOREACH_SAFE(node->children, child, next)
    node_destroy(child);
    free(node->leaves);
    free(node);
}

static void conjunction_build(struct conjunction *conjunction, const struct draft *draft, const struct pattern *pattern)
{
    conjunction->root = xcalloc(1, sizeof(*conjunction->root));
    conjunction->leaves = xcalloc(draft->n, sizeof(*conjunction->leaves));
    for (size_t i = 0; i < draft->n; i++) {
        const struct leaf *leaf = pattern->leaves[draft->leaves[i]];
        struct node *node = conjunction->root;
        const char *name = leaf->names;
        for (size_t k = 0; k < leaf->n_names; k++) {
            size_t len = strlen(name);
            node = node_child(node, name, len);
            name += len + 1;
        }
        node->leaves = xreallocarray(node->leaves, node->n_leaves + 1, sizeof(*node->leaves));
        node->leaves[node->n_leaves++] = leaf;
        conjunction->leaves[conjunction->n++] = leaf;
    }
}

static void pattern_build(struct pattern *p, const struct drafts *drafts)
{
    p->conjunctions = xcalloc(drafts->n, sizeof(*p->conjunctions));
    for (size_t i = 0; i < drafts->n; i++)
        conjunction_build(&p->conjunctions[p->n_conjunctions++], &drafts->v[i], p);
}

int pattern_compile(const cJSON *json, struct pattern **ret, const cJSON **ret_node, struct error *err)
{
    static const struct draft empty = {0};
    struct compiler c = {.pattern = xcalloc(1, sizeof(*c.pattern)), .ret_node = ret_node, .err = err};
    drafts_append(&c.drafts, &(struct drafts){.v = (struct draft *)&empty, .n = 1});
    int r = 0;
    char got[160];
    if (json && !cJSON_IsObject(json))
        r = FAIL(&c, json, "expected an object, got %s", value_brief(json, got, sizeof(got)));
    else if (json)
        r = compile_object(&c, json, false);
    if (r == 0 && c.pattern->n_leaves > 0)
        pattern_build(c.pattern, &c.drafts);
    if (r == 0)
        *ret = steal(&c.pattern);
    drafts_fini(&c.drafts);
    buf_fini(&c.names);
    buf_fini(&c.place);
    pattern_destroy(c.pattern);
    return r;
}

void pattern_destroy(struct pattern *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->n_conjunctions; i++) {
        node_destroy(p->conjunctions[i].root);
        free(p->conjunctions[i].leaves);
    }
    for (size_t i = 0; i < p->n_leaves; i++)
        leaf_destroy(p->leaves[i]);
    free(p->conjunctions);
    free(p->leaves);
    free(p);
}
