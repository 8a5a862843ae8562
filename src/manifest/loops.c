/* The graph of what causes what, and the search for loops in it.
 *
 * Nodes are triggers, pipelines, and hubs between them, so that many triggers at one endpoint are no product: endpoints
 * and globs over pipelines. Directories are no part of any way: their edges, and those from an endpoint to a trigger with
 * a filter, are an index (`blind`) by which the pairs of a step and a trigger are found that get an edge of their own.
 *
 * Loops lie within strongly connected groups (Tarjan), which are looked for from what changed. A group's loops are told
 * trigger by trigger, by id: the shortest through it, and then the search goes on without it. */
#include "manifest/loops.h"

#include "base/util.h"
#include "manifest/loops_internal.h"

#include <stdio.h>
#include <uthash.h>
#include <utlist.h>

#define SHOWN_MAX 24 /* nodes of a loop that its text names */

enum node_kind { NODE_TRIGGER, NODE_PIPELINE, NODE_ENDPOINT, NODE_GLOB, NODE_DIRECTORY };
static const char node_letters[] = "tpegd";

struct node;

struct edge {
    struct node *from, *to;
    struct edge *out_prev, *out_next; /* of from->out */
    struct edge *in_prev, *in_next;   /* of to->in */
    bool blind;
    char *label; /* what leads from a pipeline straight to a trigger; NULL: the node says it */
};

struct node {
    UT_hash_handle hh;
    enum node_kind kind;
    bool there;   /* a trigger or pipeline that was put */
    bool changed; /* since the last update: in loops.changed */
    struct node *changed_next;
    struct edge *out, *in;
    /* its own */
    struct trigger *filtered; /* a custom trigger with a filter; NULL: it is none */
    struct pattern *filter;   /* … compiled when it was first asked for: few triggers ever meet a step that emits */
    struct loop_watch *watch; /* of a file_watch trigger */
    struct loop_effects *effects; /* of a pipeline */
    struct glob *glob;
    struct node *glob_next; /* of loops.globs */
    char *text;             /* the loop told; NULL: none. In loops.told */
    struct node *told_next;
    /* of an update */
    char *found;
    unsigned seen, index, low; /* Tarjan's */
    bool stacked, left_out;
    unsigned group; /* of those that have loops; 0: none */
    struct node *parent, *below;
    struct edge *cursor;
    unsigned searched; /* by the search of that number … */
    struct edge *by;   /* … first by this edge */
    char key[];        /* a letter for the kind, and the name */
};

struct loops {
    struct node *nodes, *changed, *told, *globs;
    size_t n_globs;
    size_t pairs; /* looked at since the last update */
    unsigned update, search, groups;
    /* of an update */
    unsigned counter;
    struct node *stack;
    struct node **group;
    size_t n_group, cap_group;
    size_t searches, n_told;
};

static const char *name_of(const struct node *n)
{
    return n->key + 1;
}

/* ---- nodes and edges ---- */

static struct node *node_find(struct loops *l, enum node_kind kind, const char *name)
{
    struct node *n = NULL;
    char room[256], *key = room;
    size_t len = strlen(name);
    if (len + 2 > sizeof(room))
        key = xmalloc(len + 2);
    key[0] = node_letters[kind];
    memcpy(key + 1, name, len + 1);
    HASH_FIND(hh, l->nodes, key, len + 1, n);
    if (key != room)
        free(key);
    return n;
}

static struct node *node_get(struct loops *l, enum node_kind kind, const char *name)
{
    struct node *n = node_find(l, kind, name);
    if (n)
        return n;
    size_t len = strlen(name);
    n = xcalloc(1, sizeof(*n) + len + 2);
    n->kind = kind;
    n->key[0] = node_letters[kind];
    memcpy(n->key + 1, name, len + 1);
    HASH_ADD_KEYPTR(hh, l->nodes, n->key, len + 1, n);
    return n;
}

static void node_drop_own(struct node *n)
{
    trigger_unref(n->filtered);
    pattern_destroy(n->filter);
    n->filtered = NULL;
    n->filter = NULL;
    if (n->watch)
        loop_watch_fini(n->watch);
    free(n->watch);
    n->watch = NULL;
    if (n->effects)
        loop_effects_fini(n->effects);
    free(n->effects);
    n->effects = NULL;
}

/* Free it if nothing needs it. */
static void node_reap(struct loops *l, struct node *n)
{
    if (n->there || n->changed || n->text || n->out || n->in)
        return;
    if (n->glob) {
        LL_DELETE2(l->globs, n, glob_next);
        l->n_globs--;
        glob_destroy(n->glob);
    }
    node_drop_own(n);
    HASH_DEL(l->nodes, n);
    free(n);
}

/* Takes `label`. */
static void edge_add(struct node *from, struct node *to, bool blind, char *label)
{
    struct edge *e = xcalloc(1, sizeof(*e));
    e->from = from;
    e->to = to;
    e->blind = blind;
    e->label = label;
    DL_APPEND2(from->out, e, out_prev, out_next);
    DL_APPEND2(to->in, e, in_prev, in_next);
}

static void edge_remove(struct loops *l, struct edge *e, const struct node *keep)
{
    struct node *from = e->from, *to = e->to;
    DL_DELETE2(from->out, e, out_prev, out_next);
    DL_DELETE2(to->in, e, in_prev, in_next);
    free(e->label);
    free(e);
    if (from != keep)
        node_reap(l, from);
    if (to != keep)
        node_reap(l, to);
}

static void mark_changed(struct loops *l, struct node *n)
{
    if (n->changed)
        return;
    n->changed = true;
    LL_PREPEND2(l->changed, n, changed_next);
}

/* What it was is gone: its edges away, and those that lead to it because of what it listens to. */
static void node_clear(struct loops *l, struct node *n)
{
    mark_changed(l, n);
    struct edge *e, *next;
    DL_FOREACH_SAFE2(n->out, e, next, out_next)
    {
        /* That a trigger names the pipeline is the trigger's own edge. */
        if (n->kind == NODE_TRIGGER || !streq(e->label, "completion"))
            edge_remove(l, e, n);
    }
    DL_FOREACH_SAFE2(n->in, e, next, in_next)
    {
        if (n->kind == NODE_TRIGGER)
            edge_remove(l, e, n);
    }
    node_drop_own(n);
    n->there = false;
}

/* ---- pairs ---- */

static bool pairs_are_spent(const struct loops *l)
{
    return l->pairs >= LOOPS_PAIRS_MAX;
}

static const struct pattern *filter_of(struct node *trigger)
{
    if (trigger->filter || !trigger->filtered)
        return trigger->filter;
    const char *text = trigger->filtered->config_text;
    _cleanup_(cjson_deletep) cJSON *config = NULL;
    if (value_parse(text, strlen(text), &config, NULL) == 0)
        pattern_compile(value_get(config, "filter"), &trigger->filter, NULL, NULL);
    return trigger->filter;
}

static void pair_emit(struct loops *l, struct node *pipeline, const struct loop_emit *emit, struct node *trigger)
{
    l->pairs++;
    if (loop_emit_may_match(emit, filter_of(trigger)))
        edge_add(pipeline, trigger, false, xasprintf("emit %s", emit->endpoint));
}

static void pair_write(struct loops *l, struct node *pipeline, const struct loop_write *write, struct node *trigger)
{
    l->pairs++;
    if (loop_watch_sees(trigger->watch, write))
        edge_add(pipeline, trigger, false, xasprintf("write %s %s", write->inside ? "in" : "to", write->path));
}

/* `directory` is the path or above it. */
static bool is_below(const char *path, const char *directory)
{
    size_t n = strlen(directory);
    return n == 1 || (strncmp(path, directory, n) == 0 && (path[n] == '\0' || path[n] == '/'));
}

/* ---- triggers ---- */

static void listen_custom(struct loops *l, struct node *t, struct trigger *spec, const cJSON *config)
{
    const char *endpoint = value_get_string(config, "endpoint");
    const cJSON *filter = value_get(config, "filter");
    if (!endpoint)
        return;
    struct node *at = node_get(l, NODE_ENDPOINT, endpoint);
    bool filtered = cJSON_IsObject(filter) && filter->child;
    edge_add(at, t, filtered, NULL);
    if (!filtered)
        return;
    t->filtered = trigger_ref(spec);
    struct edge *e;
    DL_FOREACH2(at->in, e, in_next)
    {
        if (pairs_are_spent(l))
            break;
        const struct loop_effects *effects = e->from->effects;
        for (size_t i = 0; i < effects->n_emits && !pairs_are_spent(l); i++)
            if (streq(effects->emits[i].endpoint, endpoint))
                pair_emit(l, e->from, &effects->emits[i], t);
    }
}

static void listen_files(struct loops *l, struct node *t, cJSON *config)
{
    struct loop_watch watch;
    if (!loop_watch_read(config, &watch))
        return;
    t->watch = xmemdup(&watch, sizeof(watch));
    struct node *at = node_get(l, NODE_DIRECTORY, watch.base);
    edge_add(at, t, true, NULL);
    struct edge *e;
    DL_FOREACH2(at->in, e, in_next)
    {
        if (pairs_are_spent(l))
            break;
        const struct loop_effects *effects = e->from->effects;
        for (size_t i = 0; i < effects->n_writes && !pairs_are_spent(l); i++)
            if (is_below(effects->writes[i].path, watch.base))
                pair_write(l, e->from, &effects->writes[i], t);
    }
}

static struct node *glob_get(struct loops *l, const char *pattern)
{
    struct node *at = node_get(l, NODE_GLOB, pattern);
    struct error err = ERROR_INIT;
    if (at->glob || l->n_globs >= LOOPS_GLOBS_MAX || glob_create(pattern, 0, &at->glob, &err) < 0)
        return at;
    LL_PREPEND2(l->globs, at, glob_next);
    l->n_globs++;
    struct node *n, *next;
    HASH_ITER (hh, l->nodes, n, next)
        if (n->kind == NODE_PIPELINE && n->there && glob_match(at->glob, name_of(n)))
            edge_add(n, at, false, NULL);
    return at;
}

static void listen_completions(struct loops *l, struct node *t, const cJSON *config)
{
    const cJSON *ids = value_get(config, "source_pipeline_id");
    bool failed = streq(value_get_string(config, "status"), "failed");
    for (const cJSON *id = cJSON_IsArray(ids) ? ids->child : ids; id; id = cJSON_IsArray(ids) ? id->next : NULL) {
        const char *text = id->valuestring;
        if (!glob_has_meta(text))
            edge_add(node_get(l, NODE_PIPELINE, text), t, false, xstrdup("completion"));
        else if (!failed)
            edge_add(glob_get(l, text), t, false, NULL);
    }
}

void loops_put_trigger(struct loops *l, struct trigger *t)
{
    struct node *n = node_get(l, NODE_TRIGGER, t->id);
    node_clear(l, n);
    if (t->allow_loops)
        return;
    n->there = true;
    edge_add(n, node_get(l, NODE_PIPELINE, t->pipeline_id), false, NULL);
    const char *type = t->kind->name;
    bool custom = streq(type, "custom"), files = streq(type, "file_watch");
    if (!custom && !files && !streq(type, "pipeline_completed"))
        return;
    _cleanup_(cjson_deletep) cJSON *config = NULL;
    if (value_parse(t->config_text, strlen(t->config_text), &config, NULL) < 0)
        return;
    if (custom)
        listen_custom(l, n, t, config);
    else if (files)
        listen_files(l, n, config);
    else
        listen_completions(l, n, config);
}

/* ---- pipelines ---- */

static bool has_edge_to(const struct node *from, const struct node *to)
{
    const struct edge *e;
    DL_FOREACH2(from->out, e, out_next)
    {
        if (e->to == to)
            return true;
    }
    return false;
}

static void add_emit(struct loops *l, struct node *n, const struct loop_emit *emit)
{
    struct node *at = node_get(l, NODE_ENDPOINT, emit->endpoint);
    if (!has_edge_to(n, at))
        edge_add(n, at, false, NULL);
    struct edge *e;
    DL_FOREACH2(at->out, e, out_next)
    {
        if (pairs_are_spent(l))
            break;
        if (e->blind)
            pair_emit(l, n, emit, e->to);
    }
}

/* It and every directory above it. */
static void add_write(struct loops *l, struct node *n, const struct loop_write *write)
{
    _cleanup_(freep) char *dir = xstrdup(write->path);
    for (;;) {
        struct node *at = node_get(l, NODE_DIRECTORY, dir);
        struct edge *e;
        if (!has_edge_to(n, at))
            edge_add(n, at, true, NULL);
        DL_FOREACH2(at->out, e, out_next)
        {
            if (pairs_are_spent(l))
                break;
            pair_write(l, n, write, e->to);
        }
        char *slash = strrchr(dir, '/');
        if (slash == dir && dir[1] == '\0')
            return;
        slash[slash == dir] = '\0';
    }
}

void loops_put_pipeline(struct loops *l, const struct pipeline *p)
{
    struct node *n = node_get(l, NODE_PIPELINE, p->id), *at;
    node_clear(l, n);
    n->there = true;
    n->effects = xcalloc(1, sizeof(*n->effects));
    loop_effects_read(p, n->effects);
    for (size_t i = 0; i < n->effects->n_emits; i++)
        add_emit(l, n, &n->effects->emits[i]);
    for (size_t i = 0; i < n->effects->n_writes; i++)
        add_write(l, n, &n->effects->writes[i]);
    LL_FOREACH2(l->globs, at, glob_next)
    {
        if (glob_match(at->glob, name_of(n)))
            edge_add(n, at, false, NULL);
    }
}

static void forget(struct loops *l, enum node_kind kind, const char *id)
{
    struct node *n = node_find(l, kind, id);
    if (n)
        node_clear(l, n);
}

void loops_remove_trigger(struct loops *l, const char *id)
{
    forget(l, NODE_TRIGGER, id);
}

void loops_remove_pipeline(struct loops *l, const char *id)
{
    forget(l, NODE_PIPELINE, id);
}

/* ---- the shortest loop through a trigger ---- */

static bool leads_on(const struct edge *e)
{
    return !e->blind && (e->from->there || e->from->kind > NODE_PIPELINE);
}

/* The edge straight back to `start`, the first by its label; NULL: none. */
static struct edge *edge_back(const struct node *n, const struct node *start)
{
    struct edge *e, *found = NULL;
    DL_FOREACH2(n->out, e, out_next)
    {
        if (leads_on(e) && e->to == start &&
            (!found || strcmp(e->label ? e->label : "", found->label ? found->label : "") < 0))
            found = e;
    }
    return found;
}

static int by_target(const void *a, const void *b)
{
    const struct edge *x = *(struct edge *const *)a, *y = *(struct edge *const *)b;
    int r = strcmp(x->to->key, y->to->key);
    return r ? r : strcmp(x->label ? x->label : "", y->label ? y->label : "");
}

/* In an order that does not depend on how the graph came to be. */
static size_t sorted_edges(const struct node *n, struct edge ***ret, size_t *cap)
{
    size_t count = 0;
    struct edge *e;
    DL_FOREACH2(n->out, e, out_next)
    {
        if (!leads_on(e) || e->to->group != n->group || e->to->left_out)
            continue;
        if (count == *cap) {
            *cap = *cap ? *cap * 2 : 16;
            *ret = xreallocarray(*ret, *cap, sizeof(struct edge *));
        }
        (*ret)[count++] = e;
    }
    if (count > 1)
        qsort(*ret, count, sizeof(struct edge *), by_target);
    return count;
}

static void add_step(struct buf *b, const struct edge *e)
{
    static const char *const words[] = {"trigger ", "pipeline ", "emit ", "completion", ""};
    const struct node *to = e->to;
    buf_adds(b, " → ");
    if (e->label)
        buf_printf(b, "%s → ", e->label);
    buf_adds(b, words[to->kind]);
    if (to->kind != NODE_GLOB)
        buf_adds(b, name_of(to));
}

/* From the trigger, by the edges that the search came by, to it again by `last`. */
static char *loop_text(const struct node *start, struct edge *last)
{
    size_t n = 1;
    for (const struct edge *e = last; e->from != start; e = e->from->by)
        n++;
    _cleanup_(freep) struct edge **way = xcalloc(n, sizeof(struct edge *));
    size_t at = n;
    way[--at] = last;
    for (const struct edge *e = last; at > 0; e = e->from->by)
        way[--at] = e->from->by;
    struct buf b = {0};
    buf_printf(&b, "loop: trigger %s", name_of(start));
    for (size_t i = 0; i < n; i++) {
        if (n > SHOWN_MAX && i == SHOWN_MAX - 1) {
            buf_printf(&b, " → … (%zu more)", n - SHOWN_MAX);
            i = n - 1;
        }
        add_step(&b, way[i]);
    }
    buf_adds(&b, " (allow_loops: true says that it is meant)");
    return buf_steal(&b);
}

/* Breadth first within its group; NULL: no loop without those left out. */
static char *shortest_loop(struct loops *l, struct node *start)
{
    _cleanup_(freep) struct node **queue = xcalloc(l->n_group + 1, sizeof(struct node *));
    _cleanup_(freep) struct edge **edges = NULL;
    size_t head = 0, tail = 0, cap = 0;
    unsigned search = ++l->search;
    start->searched = search;
    for (queue[tail++] = start; head < tail; head++) {
        struct edge *back = edge_back(queue[head], start);
        if (back)
            return loop_text(start, back);
        size_t n = sorted_edges(queue[head], &edges, &cap);
        for (size_t i = 0; i < n; i++) {
            struct node *to = edges[i]->to;
            if (to->searched == search)
                continue;
            to->searched = search;
            to->by = edges[i];
            queue[tail++] = to;
        }
    }
    return NULL;
}

/* ---- groups ---- */

static int by_key(const void *a, const void *b)
{
    return strcmp((*(struct node *const *)a)->key, (*(struct node *const *)b)->key);
}

/* l->group is one that has a loop. */
static void tell_group(struct loops *l)
{
    l->groups++;
    for (size_t i = 0; i < l->n_group; i++) {
        l->group[i]->group = l->groups;
        l->group[i]->left_out = false;
    }
    qsort(l->group, l->n_group, sizeof(struct node *), by_key);
    for (size_t i = 0; i < l->n_group && l->searches < LOOPS_SEARCHES_MAX && l->n_told < LOOPS_TOLD_MAX; i++) {
        struct node *n = l->group[i];
        if (n->kind != NODE_TRIGGER)
            continue;
        l->searches++;
        n->found = shortest_loop(l, n);
        l->n_told += n->found != NULL;
        n->left_out = true;
        if (n->found && !n->text)
            LL_PREPEND2(l->told, n, told_next);
        if (n->found && !n->text)
            n->text = xstrdup(""); /* it is in the list */
    }
}

/* The nodes down to `n` on the stack are a group. */
static void pop_group(struct loops *l, struct node *n)
{
    l->n_group = 0;
    for (struct node *top = NULL; top != n;) {
        top = l->stack;
        l->stack = top->below;
        top->stacked = false;
        top->group = 0;
        if (l->n_group == l->cap_group) {
            l->cap_group = l->cap_group ? l->cap_group * 2 : 64;
            l->group = xreallocarray(l->group, l->cap_group, sizeof(struct node *));
        }
        l->group[l->n_group++] = top;
    }
    if (l->n_group > 1) /* no edge leads from a node to itself */
        tell_group(l);
}

static void enter(struct loops *l, struct node *n, struct node *parent)
{
    n->seen = l->update;
    n->index = n->low = ++l->counter;
    n->parent = parent;
    n->cursor = n->out;
    n->stacked = true;
    n->below = l->stack;
    l->stack = n;
}

/* All groups that can be reached from the node; what was seen in this update is known. */
static void find_groups(struct loops *l, struct node *root)
{
    if (root->seen == l->update)
        return;
    struct node *n = root;
    enter(l, root, NULL);
    while (n) {
        struct edge *e = n->cursor;
        if (e) {
            n->cursor = e->out_next;
            if (!leads_on(e))
                continue;
            if (e->to->seen != l->update) {
                enter(l, e->to, n);
                n = e->to;
            } else if (e->to->stacked) {
                n->low = MIN(n->low, e->to->index);
            }
            continue;
        }
        if (n->low == n->index)
            pop_group(l, n);
        if (n->parent)
            n->parent->low = MIN(n->parent->low, n->low);
        n = n->parent;
    }
}

void loops_update(struct loops *l, loops_fn *fn, void *ctx)
{
    struct node *n, *next;
    l->update++;
    l->counter = 0;
    l->searches = l->n_told = l->pairs = 0;
    for (n = l->told; n; n = next) { /* those found meanwhile come before it */
        next = n->told_next;
        find_groups(l, n);
    }
    LL_FOREACH2(l->changed, n, changed_next)
    {
        find_groups(l, n);
    }
    LL_FOREACH_SAFE2(l->changed, n, next, changed_next)
    {
        LL_DELETE2(l->changed, n, changed_next);
        n->changed = false;
        node_reap(l, n);
    }
    LL_FOREACH_SAFE2(l->told, n, next, told_next)
    {
        if (!streq(n->text, n->found) && fn)
            fn(ctx, name_of(n), n->found);
        free(n->text);
        n->text = steal(&n->found);
        if (n->text)
            continue;
        LL_DELETE2(l->told, n, told_next);
        node_reap(l, n);
    }
}

/* ---- life ---- */

struct loops *loops_create(void)
{
    return xcalloc(1, sizeof(struct loops));
}

void loops_destroy(struct loops *l)
{
    if (!l)
        return;
    struct node *n = l->nodes, *next;
    HASH_CLEAR(hh, l->nodes); /* the table alone; the items stay linked */
    for (struct node *i = n; i; i = i->hh.next) {
        struct edge *e, *next_edge;
        DL_FOREACH_SAFE2(i->out, e, next_edge, out_next)
        {
            free(e->label);
            free(e);
        }
        node_drop_own(i);
        glob_destroy(i->glob);
        free(i->text);
    }
    for (; n; n = next) {
        next = n->hh.next;
        free(n);
    }
    free(l->group);
    free(l);
}
