/* Evaluating a pattern against an event, and saying why it does not match.
 *
 * A path is followed through *views*. A view is what an event holds at a path: usually one value, none where the path
 * leads nowhere, several only where member names with dots spell parts of the same path ({"a": {"b": 1}, "a.c": 2}).
 * An entry with a `tail` is a value further down: it will be at the path once the tail's names have been followed.
 *
 * Every step is counted. When the budget is used up everything evaluates to false, up to the top.
 */
#include "lang/pattern_internal.h"

#include "model/value.h"

#include <stdio.h>

#define STEP_BYTES 64   /* of a string that count as a step */
#define STEP_MEMBERS 16 /* names looked at that count as a step */
#define MISMATCH_TEXT sizeof(((struct mismatch *)0)->text)

struct entry {
    const cJSON *value;
    const char *tail; /* NULL: the value is here */
};

#define VIEW_INLINE 2

struct view {
    size_t n, cap;
    struct entry *v; /* `few`, or allocated */
    struct entry few[VIEW_INLINE];
};

struct eval {
    size_t steps; /* left; 0: given up */
};

static bool spend(struct eval *e, size_t steps)
{
    if (e->steps < steps) {
        e->steps = 0;
        return false;
    }
    e->steps -= steps;
    return e->steps > 0;
}

static void view_init(struct view *view)
{
    view->n = 0;
    view->cap = VIEW_INLINE;
    view->v = view->few;
}

static void view_fini(struct view *view)
{
    if (view->v != view->few)
        free(view->v);
}

static void view_add(struct view *view, const cJSON *value, const char *tail)
{
    if (view->n == view->cap) {
        struct entry *v = xcalloc(view->cap * 2, sizeof(*v));
        memcpy(v, view->v, view->n * sizeof(*v));
        view_fini(view);
        view->v = v;
        view->cap *= 2;
    }
    view->v[view->n++] = (struct entry){value, tail};
}

/* If `key` is `name`, or continues it after a dot, add what it leads to. */
static void follow_key(struct view *view, const char *key, const cJSON *value, const char *name, size_t len)
{
    if (key[0] != name[0] && len > 0) /* nearly always; name[len] may be a NUL, as key[0] of the empty key */
        return;
    if (strncmp(key, name, len) != 0)
        return;
    if (key[len] == '\0')
        view_add(view, value, NULL);
    else if (key[len] == '.')
        view_add(view, value, key + len + 1);
}

/* The view one name further down. Arrays in `from` have no members; callers choose their elements first. */
static void view_follow(struct eval *e, const struct view *from, const struct node *node, struct view *to)
{
    view_init(to);
    for (size_t i = 0; i < from->n; i++) {
        const struct entry *entry = &from->v[i];
        if (entry->tail) {
            follow_key(to, entry->tail, entry->value, node->name, node->name_len);
        } else if (cJSON_IsObject(entry->value)) {
            size_t looked = 0;
            for (const cJSON *member = entry->value->child; member; member = member->next, looked++)
                follow_key(to, member->string, member, node->name, node->name_len);
            spend(e, looked / STEP_MEMBERS);
        }
    }
}

/* Index of the first entry that is an array; view->n if there is none. */
static size_t view_array(const struct view *view)
{
    for (size_t i = 0; i < view->n; i++)
        if (!view->v[i].tail && cJSON_IsArray(view->v[i].value))
            return i;
    return view->n;
}

/* A copy in which `element` stands for entry `at`; NULL: for nothing. */
static void view_choose(const struct view *from, size_t at, const cJSON *element, struct view *to)
{
    view_init(to);
    for (size_t i = 0; i < from->n; i++) {
        if (i != at)
            view_add(to, from->v[i].value, from->v[i].tail);
        else if (element)
            view_add(to, element, NULL);
    }
}

static bool leaf_scalar(struct eval *e, const struct leaf *leaf, const cJSON *value)
{
    struct scalar s;
    scalar_init(&s, value);
    bool matches = false;
    for (size_t i = 0; i < leaf->n && !matches; i++) {
        const struct predicate *p = &leaf->predicates[i];
        if (p->op == PREDICATE_PRESENT || p->op == PREDICATE_ABSENT)
            continue;
        size_t cost = 1 + (p->op == PREDICATE_BUT ? p->but.n : 0);
        if (!spend(e, cost * (1 + (p->op == PREDICATE_EQUAL ? 0 : s.len / STEP_BYTES))))
            break;
        matches = predicate_match(p, &s);
    }
    scalar_fini(&s);
    return matches;
}

/* Any scalar at `value`, in arrays however nested. */
static bool leaf_value(struct eval *e, const struct leaf *leaf, const cJSON *value)
{
    if (cJSON_IsObject(value) || !spend(e, 1))
        return false;
    if (!cJSON_IsArray(value))
        return leaf_scalar(e, leaf, value);
    for (const cJSON *element = value->child; element; element = element->next)
        if (leaf_value(e, leaf, element))
            return true;
    return false;
}

static bool leaf_match(struct eval *e, const struct leaf *leaf, const struct view *view)
{
    bool present = false;
    for (size_t i = 0; i < view->n; i++)
        present |= !view->v[i].tail;
    if (present ? leaf->present : leaf->absent)
        return true;
    if (!leaf->scalar)
        return false;
    for (size_t i = 0; i < view->n; i++)
        if (!view->v[i].tail && leaf_value(e, leaf, view->v[i].value))
            return true;
    return false;
}

static bool members_match(struct eval *e, const struct node *node, const struct view *view);

/* The lists of a node, each on its own, and the members below it. */
static bool node_match(struct eval *e, const struct node *node, const struct view *view)
{
    if (!spend(e, 1))
        return false;
    for (const struct leaf_cell *cell = node->leaves; cell; cell = cell->next)
        if (!leaf_match(e, cell->leaf, view))
            return false;
    return !node->children || members_match(e, node, view);
}

/* All members below, with one element chosen from every array. */
static bool members_match(struct eval *e, const struct node *node, const struct view *view)
{
    size_t at = view_array(view);
    if (at == view->n) {
        for (const struct node *child = node->children; child; child = child->next) {
            struct view below;
            view_follow(e, view, child, &below);
            bool matches = node_match(e, child, &below);
            view_fini(&below);
            if (!matches)
                return false;
        }
        return true;
    }

    const cJSON *element = view->v[at].value->child;
    do {
        if (!spend(e, 1))
            return false;
        struct view chosen;
        view_choose(view, at, element, &chosen);
        bool matches = members_match(e, node, &chosen);
        view_fini(&chosen);
        if (matches)
            return true;
        element = element ? element->next : NULL;
    } while (element);
    return false;
}

/* Why not. Runs after a match has failed; never finds more than one reason per conjunction: that of the failing list
 * which stands first in the pattern. */

struct reason {
    unsigned order;
    char *path; /* owned */
    char *text; /* owned */
};

static void reason_fini(struct reason *r)
{
    free(r->path);
    free(r->text);
}

/* Keep the earlier one; both are consumed. */
static void reason_keep(struct reason *best, struct reason other)
{
    if (other.text && (!best->text || other.order < best->order)) {
        reason_fini(best);
        *best = other;
    } else {
        reason_fini(&other);
    }
}

/* The dotted path; free() it. */
static char *leaf_path(const struct leaf *leaf)
{
    struct buf path = {0};
    const char *name = leaf->names;
    for (size_t i = 0; i < leaf->n_names; i++) {
        buf_printf(&path, "%s%s", i ? "." : "", name);
        name += strlen(name) + 1;
    }
    return buf_steal(&path);
}

static void leaf_describe(const struct leaf *leaf, struct buf *out)
{
    enum { SHOWN = 5 };
    for (size_t i = 0; i < leaf->n && i < SHOWN; i++) {
        buf_adds(out, i ? " or " : "");
        predicate_describe(&leaf->predicates[i], out);
    }
    if (leaf->n > SHOWN)
        buf_printf(out, " or %zu more", leaf->n - SHOWN);
}

static struct reason leaf_explain(const struct leaf *leaf, const struct view *view)
{
    struct buf text = {0};
    char *path = leaf_path(leaf);
    buf_printf(&text, "%s: expected ", path);
    leaf_describe(leaf, &text);
    const cJSON *found = NULL;
    for (size_t i = 0; i < view->n && !found; i++)
        found = view->v[i].tail ? NULL : view->v[i].value;
    char got[160];
    buf_printf(&text, ", found %s", value_brief(found, got, sizeof(got)));
    return (struct reason){leaf->order, path, buf_steal(&text)};
}

/* The lists below a node in words, without the first `skip` bytes of their paths; *first: the pattern's first of them.
 */
static void below_describe(const struct node *node, size_t skip, const struct leaf **first, struct buf *out)
{
    for (const struct leaf_cell *cell = node->leaves; cell; cell = cell->next) {
        if (!*first || cell->leaf->order < (*first)->order)
            *first = cell->leaf;
        if (out->len < MISMATCH_TEXT) {
            _cleanup_(freep) char *path = leaf_path(cell->leaf);
            buf_printf(out, "%s%s ", out->len ? " and " : "", path + skip);
            leaf_describe(cell->leaf, out);
        }
    }
    for (const struct node *child = node->children; child; child = child->next)
        below_describe(child, skip, first, out);
}

/* None of the `n` elements of the array at `path` has all members. */
static struct reason array_explain(const struct node *node, const struct buf *path, size_t n)
{
    const struct leaf *first = NULL;
    struct buf wanted = {0}, text = {0};
    for (const struct node *child = node->children; child; child = child->next)
        below_describe(child, path->len ? path->len + 1 : 0, &first, &wanted);
    if (path->len > 0)
        buf_printf(&text, "%.*s: ", (int)path->len, path->data);
    buf_printf(&text, "expected an element with %s, found none among %zu", wanted.data, n);
    buf_fini(&wanted);
    return (struct reason){first->order, xstrndup(path->len ? path->data : "", path->len), buf_steal(&text)};
}

static struct reason members_explain(struct eval *e, const struct node *node, const struct view *view,
                                     struct buf *path);

static struct reason node_explain(struct eval *e, const struct node *node, const struct view *view, struct buf *path)
{
    struct reason best = {0};
    for (const struct leaf_cell *cell = node->leaves; cell; cell = cell->next)
        if (!leaf_match(e, cell->leaf, view))
            reason_keep(&best, leaf_explain(cell->leaf, view));
    if (node->children && !members_match(e, node, view))
        reason_keep(&best, members_explain(e, node, view, path));
    return best;
}

static struct reason members_explain(struct eval *e, const struct node *node, const struct view *view, struct buf *path)
{
    struct reason best = {0};
    if (!spend(e, 1))
        return best;
    size_t at = view_array(view), outer = path->len;
    if (at < view->n) {
        const cJSON *element = view->v[at].value->child;
        if (element && element->next)
            return array_explain(node, path, (size_t)cJSON_GetArraySize(view->v[at].value));
        struct view chosen;
        view_choose(view, at, element, &chosen);
        best = members_explain(e, node, &chosen, path);
        view_fini(&chosen);
        return best;
    }
    for (const struct node *child = node->children; child; child = child->next) {
        struct view below;
        view_follow(e, view, child, &below);
        if (!node_match(e, child, &below)) {
            buf_adds(path, outer ? "." : "");
            buf_add(path, child->name, child->name_len);
            reason_keep(&best, node_explain(e, child, &below, path));
            path->len = outer;
        }
        view_fini(&below);
    }
    return best;
}

/* `text` into `cap` bytes, cut between characters with "…". */
static void copy_cut(char *to, size_t cap, const char *text)
{
    static const char mark[] = "…";
    size_t len = strlen(text);
    if (len < cap) {
        memcpy(to, text, len + 1);
        return;
    }
    size_t end = cap - sizeof(mark);
    while (end > 0 && ((unsigned char)text[end] & 0xC0) == 0x80)
        end--;
    memcpy(to, text, end);
    memcpy(to + end, mark, sizeof(mark));
}

/* Each alternative's reason, once, shortened to share the room. */
static void join_reasons(const struct reason *reasons, size_t n, bool more, struct buf *out)
{
    size_t distinct = 0, share = MAX(MISMATCH_TEXT / n, 64);
    char *part = xmalloc(share);
    buf_adds(out, "$or: no alternative matches: ");
    for (size_t i = 0; i < n; i++) {
        bool seen = false;
        for (size_t k = 0; k < i && !seen; k++)
            seen = streq(reasons[k].text, reasons[i].text);
        if (seen)
            continue;
        copy_cut(part, share, reasons[i].text);
        buf_printf(out, "%s%s", distinct++ ? "; " : "", part);
    }
    buf_adds(out, more ? "; …" : "");
    free(part);
}

static void pattern_explain(const struct pattern *p, const struct view *view, struct mismatch *ret)
{
    enum { EXPLAINED = 8 };
    struct eval e = {.steps = PATTERN_STEPS_MAX};
    struct reason reasons[EXPLAINED];
    size_t n = 0;
    bool same = true;
    for (size_t i = 0; i < p->n_conjunctions && n < EXPLAINED; i++) {
        struct buf path = {0};
        struct reason reason = members_explain(&e, p->conjunctions[i].root, view, &path);
        buf_fini(&path);
        if (!reason.text)
            break;
        same &= n == 0 || streq(reason.text, reasons[0].text);
        reasons[n++] = reason;
    }
    if (n == 0) {
        copy_cut(ret->text, sizeof(ret->text), "the event is too large to say why it does not match");
    } else if (same && n == MIN(p->n_conjunctions, EXPLAINED)) {
        copy_cut(ret->path, sizeof(ret->path), reasons[0].path);
        copy_cut(ret->text, sizeof(ret->text), reasons[0].text);
    } else {
        struct buf text = {0};
        join_reasons(reasons, n, n < p->n_conjunctions, &text);
        copy_cut(ret->path, sizeof(ret->path), "$or");
        copy_cut(ret->text, sizeof(ret->text), text.data);
        buf_fini(&text);
    }
    for (size_t i = 0; i < n; i++)
        reason_fini(&reasons[i]);
}

bool pattern_match(const struct pattern *p, const cJSON *event, struct mismatch *ret_why)
{
    if (!p || p->n_conjunctions == 0)
        return true;
    struct eval e = {.steps = PATTERN_STEPS_MAX};
    struct view view;
    view_init(&view);
    view_add(&view, event, NULL);
    for (size_t i = 0; i < p->n_conjunctions; i++)
        if (members_match(&e, p->conjunctions[i].root, &view))
            return true;
    if (!ret_why)
        return false;
    *ret_why = (struct mismatch){0};
    if (e.steps == 0)
        snprintf(ret_why->text, sizeof(ret_why->text), "the event takes more than %d steps to match",
                 PATTERN_STEPS_MAX);
    else
        pattern_explain(p, &view, ret_why);
    return false;
}
