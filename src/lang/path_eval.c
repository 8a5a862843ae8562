/* Evaluation: depth first, without lists between the segments, so that memory is bounded by the result. */
#include "lang/path_internal.h"

/* Where selected nodes go. `limit` reached ends the walk. */
struct sink {
    struct path_nodes *nodes; /* NULL: only counted */
    const cJSON *first;
    size_t n, limit;
};

/* Everything below returns 0 to go on, 1 when the sink has had enough, or a negative errno. */
static int walk(struct eval *ev, const struct segment *segment, const cJSON *node, struct sink *sink);
static int eval_logical(struct eval *ev, const struct expr *e, const cJSON *current);

static int sink_add(struct sink *sink, const cJSON *node)
{
    if (sink->n++ == 0)
        sink->first = node;
    struct path_nodes *nodes = sink->nodes;
    if (nodes) {
        if (nodes->n == nodes->cap) {
            nodes->cap = nodes->cap ? nodes->cap * 2 : 8;
            nodes->list = xreallocarray(nodes->list, nodes->cap, sizeof(*nodes->list));
        }
        nodes->list[nodes->n++] = node;
    }
    return sink->n >= sink->limit;
}

static bool is_container(const cJSON *v)
{
    return v->type & (cJSON_Array | cJSON_Object);
}

static int find_member(struct eval *ev, const cJSON *object, const char *name, const cJSON **ret)
{
    const cJSON *m = object->child;
    uint64_t looked = 1, whole = strlen(name) / 32;
    for (; m; m = m->next) {
        looked++;
        if (m->string[0] != name[0])
            continue;
        if (strcmp(m->string, name) == 0)
            break;
        looked += whole;
    }
    *ret = m;
    return eval_spend(ev, looked);
}

/* Negative indexes count from the end. */
static int find_element(struct eval *ev, const cJSON *array, int64_t index, const cJSON **ret)
{
    const cJSON *e = array->child;
    uint64_t looked = 1;
    if (index >= 0) {
        for (; e && index > 0; index--, looked++)
            e = e->next;
    } else if (e) {
        /* backwards from the last one, which the first one knows; the first one's own `prev` must not be followed */
        const cJSON *first = e;
        e = first->prev;
        for (index++; e != first && index < 0; index++, looked++)
            e = e->prev;
        if (index < 0)
            e = NULL;
    }
    *ret = e;
    return eval_spend(ev, looked);
}

static int walk_slice(struct eval *ev, const struct segment *segment, const struct selector *s, const cJSON *array,
                      struct sink *sink)
{
    int64_t len = 0;
    for (const cJSON *e = array->child; e; e = e->next)
        len++;
    int r = eval_spend(ev, (uint64_t)len);
    if (r < 0 || s->step == 0 || len == 0)
        return r;
    /* bounds as RFC 9535 2.3.4.2.2 has them */
    bool up = s->step > 0;
    int64_t start = s->has_start ? (s->start >= 0 ? s->start : len + s->start) : up ? 0 : len - 1;
    int64_t end = s->has_end ? (s->end >= 0 ? s->end : len + s->end) : up ? len : -1;
    int64_t low = up ? MIN(MAX(start, 0), len) : MIN(MAX(end, -1), len - 1);
    int64_t high = up ? MIN(MAX(end, 0), len) : MIN(MAX(start, -1), len - 1);
    int64_t at = up ? low : high; /* the next one wanted */
    const cJSON *e = up ? array->child : array->child->prev;
    for (int64_t i = up ? 0 : len - 1; up ? i < high : i > low; i += up ? 1 : -1, e = up ? e->next : e->prev) {
        if (i != at)
            continue;
        r = walk(ev, segment->next, e, sink);
        if (r != 0)
            return r;
        at += s->step;
    }
    return 0;
}

static int walk_children(struct eval *ev, const struct segment *segment, const struct selector *s, const cJSON *node,
                         struct sink *sink)
{
    for (const cJSON *child = node->child; child; child = child->next) {
        int r = eval_spend(ev, 1);
        if (r < 0)
            return r;
        r = s->kind == SELECT_FILTER ? eval_logical(ev, s->filter, child) : 1;
        if (r > 0)
            r = walk(ev, segment->next, child, sink);
        if (r != 0)
            return r;
    }
    return 0;
}

static int apply(struct eval *ev, const struct segment *segment, const struct selector *s, const cJSON *node,
                 struct sink *sink)
{
    const cJSON *found = NULL;
    bool object = node->type & cJSON_Object, array = node->type & cJSON_Array;
    int r = 0;
    switch (s->kind) {
    case SELECT_NAME:
        if (object)
            r = find_member(ev, node, s->name, &found);
        break;
    case SELECT_INDEX:
        if (array)
            r = find_element(ev, node, s->index, &found);
        break;
    case SELECT_DOT_INDEX:
        if (object)
            r = find_member(ev, node, s->name, &found);
        else if (array && s->index >= 0)
            r = find_element(ev, node, s->index, &found);
        break;
    case SELECT_SLICE:
        return array ? walk_slice(ev, segment, s, node, sink) : 0;
    case SELECT_WILDCARD:
    case SELECT_FILTER:
        return object || array ? walk_children(ev, segment, s, node, sink) : 0;
    }
    if (r < 0 || !found)
        return r;
    return walk(ev, segment->next, found, sink);
}

static int apply_all(struct eval *ev, const struct segment *segment, const cJSON *node, struct sink *sink)
{
    int r = 0;
    for (const struct selector *s = segment->selectors; s && r == 0; s = s->next) {
        r = eval_spend(ev, 1);
        if (r == 0)
            r = apply(ev, segment, s, node, sink);
    }
    return r;
}

static int walk_descendants(struct eval *ev, const struct segment *segment, const cJSON *node, struct sink *sink)
{
    int r = apply_all(ev, segment, node, sink);
    for (const cJSON *child = node->child; child && r == 0; child = child->next)
        r = is_container(child) ? walk_descendants(ev, segment, child, sink) : eval_spend(ev, 1);
    return r;
}

static int walk(struct eval *ev, const struct segment *segment, const cJSON *node, struct sink *sink)
{
    if (!segment) {
        int r = eval_spend(ev, 1);
        return r < 0 ? r : sink_add(sink, node);
    }
    if (!is_container(node))
        return eval_spend(ev, 1);
    return segment->descendant ? walk_descendants(ev, segment, node, sink) : apply_all(ev, segment, node, sink);
}

/* The segment to begin with: `data` may stand for the root itself. */
static const struct segment *first_segment(const struct eval *ev, const struct query *q)
{
    const struct segment *first = q->segments;
    if (!ev->data_is_root || q->relative || !first || first->descendant)
        return first;
    const struct selector *s = first->selectors;
    bool data = s->kind == SELECT_NAME && !s->next && streq(s->name, "data");
    return data ? first->next : first;
}

int eval_query(struct eval *ev, const struct query *q, const cJSON *current, size_t limit, const cJSON **ret_first,
               size_t *ret_n)
{
    struct sink sink = {.limit = limit};
    int r = walk(ev, first_segment(ev, q), q->relative ? current : ev->root, &sink);
    if (r < 0)
        return r;
    *ret_first = sink.first;
    *ret_n = sink.n;
    return 0;
}

/* ---- filters ---- */

int eval_operand(struct eval *ev, const struct expr *e, const cJSON *current, cJSON *scratch, const cJSON **ret)
{
    size_t n;
    switch (e->kind) {
    case EXPR_LITERAL:
        *ret = e->literal;
        return 0;
    case EXPR_QUERY:
        return eval_query(ev, e->query, current, 1, ret, &n);
    default: /* EXPR_CALL: the parser lets nothing else be an operand */
        return e->function->call(ev, e, current, scratch, ret);
    }
}

/* Where a byte stands in the order of characters: the end first, then U+0000 (PATH_NUL). */
static int byte_rank(char c)
{
    return c == PATH_NUL[0] ? 1 : c ? (unsigned char)c + 1 : 0;
}

static int string_order(struct eval *ev, const char *a, const char *b, int *ret)
{
    size_t i = 0;
    while (a[i] && a[i] == b[i])
        i++;
    *ret = byte_rank(a[i]) - byte_rank(b[i]);
    return eval_spend(ev, i / 16);
}

/* -1, 0, 1; 2 where the two have no order. NULL is Nothing. */
static int order(struct eval *ev, const cJSON *a, const cJSON *b, int *ret)
{
    *ret = 2;
    if (!a || !b)
        return 0;
    if ((a->type & cJSON_String) && (b->type & cJSON_String)) {
        int difference;
        int r = string_order(ev, a->valuestring, b->valuestring, &difference);
        *ret = (difference > 0) - (difference < 0);
        return r;
    }
    if (value_is_number(a) && value_is_number(b)) {
        *ret = value_number_compare(a, b);
        size_t bytes =
            (a->type & cJSON_Raw ? strlen(a->valuestring) : 0) + (b->type & cJSON_Raw ? strlen(b->valuestring) : 0);
        return eval_spend(ev, bytes / 8);
    }
    return 0;
}

static int eval_compare(struct eval *ev, const struct expr *e, const cJSON *current)
{
    cJSON scratch[2];
    const cJSON *a, *b;
    int r = eval_operand(ev, e->operands, current, &scratch[0], &a);
    if (r >= 0)
        r = eval_operand(ev, e->operands->next, current, &scratch[1], &b);
    if (r < 0)
        return r;
    int sign = 2;
    if (e->op != COMPARE_EQ && e->op != COMPARE_NE) {
        r = order(ev, a, b, &sign);
        if (r < 0)
            return r;
        if (sign != 2 || e->op == COMPARE_LT || e->op == COMPARE_GT)
            return e->op == COMPARE_LT   ? sign == -1
                   : e->op == COMPARE_LE ? sign <= 0
                   : e->op == COMPARE_GT ? sign == 1
                                         : sign == 0 || sign == 1;
        /* no order: <= and >= still hold for what is equal */
    }
    r = value_equal_within(a, b, &ev->steps);
    if (r < 0)
        ev->steps = 0;
    return r < 0 ? r : e->op == COMPARE_NE ? !r : r;
}

/* 1, 0 or a negative errno. */
static int eval_logical(struct eval *ev, const struct expr *e, const cJSON *current)
{
    const cJSON *first;
    cJSON scratch;
    size_t n;
    int r = eval_spend(ev, 1);
    if (r < 0)
        return r;
    switch (e->kind) {
    case EXPR_OR:
    case EXPR_AND:
        for (const struct expr *o = e->operands; o; o = o->next) {
            r = eval_logical(ev, o, current);
            if (r < 0 || r == (e->kind == EXPR_OR))
                return r;
        }
        return e->kind == EXPR_AND;
    case EXPR_NOT:
        r = eval_logical(ev, e->operands, current);
        return r < 0 ? r : !r;
    case EXPR_COMPARE:
        return eval_compare(ev, e, current);
    case EXPR_QUERY:
        r = eval_query(ev, e->query, current, 1, &first, &n);
        return r < 0 ? r : n > 0;
    case EXPR_CALL:
        return e->function->call(ev, e, current, &scratch, &first);
    case EXPR_LITERAL:
        break; /* the parser lets no literal stand alone */
    }
    return 0;
}

/* ---- results ---- */

void path_nodes_fini(struct path_nodes *nodes)
{
    free(nodes->list);
    *nodes = (struct path_nodes){0};
}

int path_select(const struct path *p, const cJSON *root, struct path_nodes *ret, struct error *err)
{
    struct eval ev = {.root = root, .steps = PATH_STEPS_MAX};
    ev.data_is_root = (p->flags & PATH_EVENT_DATA) && !value_get(root, "data");
    struct path_nodes nodes = {0};
    struct sink sink = {.nodes = &nodes, .limit = SIZE_MAX};
    int r = walk(&ev, first_segment(&ev, p->query), root, &sink);
    if (r < 0) {
        path_nodes_fini(&nodes);
        return error_set(err, r, "the path is too much work on this document (more than %d steps)", PATH_STEPS_MAX);
    }
    *ret = nodes;
    return 0;
}

struct copy {
    size_t nodes, bytes; /* left */
};

/* A deep copy without the name; NULL: past the limits. */
static cJSON *copy_node(struct copy *c, const cJSON *v)
{
    if (c->nodes == 0)
        return NULL;
    c->nodes--;
    _cleanup_(cjson_deletep) cJSON *out = xcalloc(1, sizeof(*out));
    out->type = v->type & 0xFF;
    out->valueint = v->valueint;
    out->valuedouble = v->valuedouble;
    if (v->valuestring) {
        size_t size = strlen(v->valuestring) + 1;
        if (size > c->bytes)
            return NULL;
        c->bytes -= size;
        out->valuestring = xmemdup(v->valuestring, size);
    }
    for (const cJSON *child = v->child; child; child = child->next) {
        cJSON *copied = copy_node(c, child);
        if (!copied)
            return NULL;
        cJSON_AddItemToArray(out, copied);
        if (child->string) {
            size_t size = strlen(child->string) + 1;
            if (size > c->bytes)
                return NULL;
            c->bytes -= size;
            copied->string = xmemdup(child->string, size);
        }
    }
    return steal(&out);
}

int path_value(const struct path *p, const cJSON *root, cJSON **ret, struct error *err)
{
    struct path_nodes nodes = {0};
    int r = path_select(p, root, &nodes, err);
    if (r < 0)
        return r;
    _cleanup_(cjson_deletep) cJSON *out = NULL;
    if (nodes.n > 0 && p->query->singular) {
        struct copy c = {SIZE_MAX, SIZE_MAX}; /* never more than the document itself */
        out = copy_node(&c, nodes.list[0]);
    } else if (nodes.n > 0) {
        struct copy c = {PATH_COPY_NODES_MAX, PATH_COPY_BYTES_MAX};
        out = xcalloc(1, sizeof(*out));
        out->type = cJSON_Array;
        for (size_t i = 0; i < nodes.n && r >= 0; i++) {
            cJSON *copied = copy_node(&c, nodes.list[i]);
            if (copied)
                cJSON_AddItemToArray(out, copied);
            else
                r = error_set(err, -E2BIG, "what the path selects is too large: more than %d values or %d MiB",
                              PATH_COPY_NODES_MAX, PATH_COPY_BYTES_MAX >> 20);
        }
    }
    path_nodes_fini(&nodes);
    if (r < 0 || !out)
        return r;
    *ret = steal(&out);
    return 1;
}
