#include "manifest/edit.h"

#include "base/util.h"
#include "manifest/edit_splice.h"

#include <errno.h>

/* A text on its way from edit to edit. */
struct editing {
    enum document_format format;
    size_t index;
    char *text;
    size_t len;
    struct document_set set; /* of the text */
    size_t parsed;           /* bytes so far */
    struct error *err;
};

/* Where to the first difference is: a step for each level, the last of them the smallest splice. */
struct route {
    struct edit_step steps[VALUE_DEPTH_MAX];
    unsigned depth;
};

static void editing_fini(struct editing *e)
{
    free(e->text);
    document_set_fini(&e->set);
}

static int editing_init(struct editing *e, const char *text, size_t len, enum document_format format, size_t index,
                        struct error *err)
{
    *e = (struct editing){
        .format = format, .index = index, .text = xmemdup(len ? text : "", len), .len = len, .err = err};
    document_parse(text, len, format, &e->set);
    if (index >= e->set.n_documents) {
        editing_fini(e);
        return error_set(err, -ENOENT, "there is no document %zu", index);
    }
    return 0;
}

static const struct document *edited(const struct editing *e)
{
    return &e->set.documents[e->index];
}

/* Every document but the edited one is what it was; -1 documents: the edited one is gone. */
static bool others_same(const struct editing *e, const struct document_set *now, bool gone)
{
    if (now->n_documents + gone != e->set.n_documents)
        return false;
    for (size_t i = 0; i < e->set.n_documents; i++) {
        if (i == e->index)
            continue;
        const struct document *before = &e->set.documents[i], *after = &now->documents[i - (gone && i > e->index)];
        if (before->bad != after->bad || (before->root != after->root && !value_equal(before->root, after->root)))
            return false;
    }
    return true;
}

/* --- what is meant --- */

static cJSON *copy(const cJSON *node)
{
    cJSON *copied = cJSON_Duplicate(node, true);
    if (!copied)
        abort(); /* out of memory */
    return copied;
}

static void move_items(cJSON *from, cJSON *first, cJSON *to)
{
    for (cJSON *next; first; first = next) {
        next = first->next;
        cJSON_AddItemToArray(to, cJSON_DetachItemViaPointer(from, first));
    }
}

/* cJSON_InsertItemInArray() fails within an array in some releases (among them Debian 12's). */
static void insert_item(cJSON *array, int index, cJSON *item)
{
    cJSON rest = {.type = cJSON_Array};
    move_items(array, cJSON_GetArrayItem(array, index), &rest);
    cJSON_AddItemToArray(array, item);
    move_items(&rest, rest.child, array);
}

static void replace_child(cJSON *parent, const struct edit_step *step)
{
    if (step->key) {
        if (step->want)
            value_set(parent, step->key, copy(step->want));
        else
            cJSON_DeleteItemFromObjectCaseSensitive(parent, step->key);
        return;
    }
    int index = (int)step->index; /* an array of a text of at most DOCUMENT_TEXT_MAX bytes */
    if (!step->want)
        cJSON_DeleteItemFromArray(parent, index);
    else if (step->node)
        cJSON_ReplaceItemInArray(parent, index, copy(step->want));
    else
        insert_item(parent, index, copy(step->want));
}

/* The document's tree after the step at `depth` of the route. */
static cJSON *meant(const struct editing *e, const struct route *route, unsigned depth)
{
    cJSON *root = copy(edited(e)->root), *parent = root;
    for (unsigned i = 0; i + 1 < depth; i++) {
        const struct edit_step *step = &route->steps[i];
        parent = step->key ? value_get(parent, step->key) : cJSON_GetArrayItem(parent, (int)step->index);
    }
    replace_child(parent, &route->steps[depth - 1]);
    return root;
}

/* --- differences --- */

static struct edit_step *push(struct route *route, const struct edit_step *step)
{
    route->steps[route->depth] = *step;
    return &route->steps[route->depth++];
}

static bool find_difference(struct route *route, const cJSON *now, const cJSON *want);

/* Both are objects, or both arrays, with something in them and not too much of it. */
static bool is_divisible(const cJSON *now, const cJSON *want)
{
    if (!now->child || !want->child)
        return false;
    if (cJSON_IsObject(now) && cJSON_IsObject(want))
        return cJSON_GetArraySize(now) <= EDIT_MEMBERS_MAX && cJSON_GetArraySize(want) <= EDIT_MEMBERS_MAX;
    return cJSON_IsArray(now) && cJSON_IsArray(want);
}

/* The child is there and should be `step->want`: go into it, or replace it. False: it is the same. */
static bool differs(struct route *route, const struct edit_step *step)
{
    if (value_equal(step->node, step->want))
        return false;
    push(route, step);
    if (route->depth < VALUE_DEPTH_MAX && is_divisible(step->node, step->want))
        find_difference(route, step->node, step->want);
    return true;
}

/* New members first, so that a mapping which changes altogether is never empty on the way. */
static bool find_in_objects(struct route *route, const cJSON *now, const cJSON *want)
{
    for (const cJSON *child = want->child; child; child = child->next)
        if (!value_get(now, child->string)) {
            push(route, &(struct edit_step){.parent = now, .key = child->string, .want = child});
            return true;
        }
    for (const cJSON *child = now->child; child; child = child->next) {
        const cJSON *other = value_get(want, child->string);
        if (other &&
            differs(route, &(struct edit_step){.parent = now, .key = child->string, .node = child, .want = other}))
            return true;
    }
    for (const cJSON *child = now->child; child; child = child->next)
        if (!value_get(want, child->string)) {
            push(route, &(struct edit_step){.parent = now, .key = child->string, .node = child});
            return true;
        }
    return false;
}

/* Arrays: what is the same at the start and at the end is left; between, items are changed one by one, and then those
 * too few are put in or those too many taken out. */
static bool find_in_arrays(struct route *route, const cJSON *now, const cJSON *want)
{
    const cJSON *item = now->child, *other = want->child;
    size_t index = 0;
    for (; item && other && value_equal(item, other); item = item->next, other = other->next)
        index++;
    if (!item && !other)
        return false;
    size_t more_now = 0, more_want = 0;
    for (const cJSON *i = item; i; i = i->next)
        more_now++;
    for (const cJSON *i = other; i; i = i->next)
        more_want++;
    const cJSON *last = now->child ? now->child->prev : NULL, *last_want = want->child ? want->child->prev : NULL;
    const cJSON *before = NULL; /* the first item of the same end */
    for (; more_now > 0 && more_want > 0 && value_equal(last, last_want); more_now--, more_want--) {
        before = last;
        last = last->prev;
        last_want = last_want->prev;
    }
    if (more_now == 0)
        push(route, &(struct edit_step){.parent = now, .index = index, .want = other, .before = before});
    else if (more_want == 0)
        push(route, &(struct edit_step){.parent = now, .index = index, .node = item});
    else
        differs(route, &(struct edit_step){.parent = now, .index = index, .node = item, .want = other});
    return true;
}

/* False: they are the same. */
static bool find_difference(struct route *route, const cJSON *now, const cJSON *want)
{
    return cJSON_IsObject(now) ? find_in_objects(route, now, want) : find_in_arrays(route, now, want);
}

/* --- one splice --- */

/* The step at `depth` of the route, if the text after it says what is meant; then the text is the new one. */
static int try_splice(struct editing *e, const struct route *route, unsigned depth)
{
    e->parsed += e->len;
    if (e->parsed > EDIT_PARSED_MAX)
        return -ENOTSUP;
    struct buf out = {0};
    int rc = edit_splice(e->text, e->len, e->format, edited(e), &route->steps[depth - 1], &out);
    if (rc < 0) {
        buf_fini(&out);
        return rc;
    }
    if (out.len > DOCUMENT_TEXT_MAX) {
        buf_fini(&out);
        return -E2BIG;
    }
    struct document_set now;
    document_parse(out.data ? out.data : "", out.len, e->format, &now);
    _cleanup_(cjson_deletep) cJSON *root = meant(e, route, depth);
    if (!others_same(e, &now, false) || now.documents[e->index].bad ||
        !value_equal(now.documents[e->index].root, root)) {
        document_set_fini(&now);
        buf_fini(&out);
        return -ENOTSUP;
    }
    document_set_fini(&e->set);
    free(e->text);
    e->set = now;
    e->len = out.len;
    e->text = buf_steal(&out);
    return 0;
}

static int update(struct editing *e, const cJSON *wanted)
{
    if (edited(e)->bad)
        return error_set(e->err, -EINVAL, "the document is in error itself");
    if (!cJSON_IsObject(wanted))
        return error_set(e->err, -EINVAL, "expected an object, got %s", value_type_name(wanted));
    _cleanup_(freep) struct route *route = xmalloc(sizeof(*route));
    for (int n = 0; n < EDIT_SPLICES_MAX; n++) {
        const cJSON *now = edited(e)->root;
        if (value_equal(now, wanted))
            return 0;
        if (now->child && wanted->child && !is_divisible(now, wanted))
            return error_set(e->err, -ENOTSUP, "more than %d members", EDIT_MEMBERS_MAX);
        route->depth = 0;
        find_difference(route, now, wanted);
        int rc = -ENOTSUP;
        for (unsigned depth = route->depth; depth > 0 && rc == -ENOTSUP; depth--) {
            rc = try_splice(e, route, depth);
            /* A comment below, indented further, would be part of a block scalar, say. */
            route->steps[depth - 1].one_line = true;
            if (rc == -ENOTSUP && e->format == DOCUMENT_YAML)
                rc = try_splice(e, route, depth);
        }
        if (rc == -E2BIG)
            return error_set(e->err, rc, "the text would be longer than %zu bytes", DOCUMENT_TEXT_MAX);
        if (rc < 0)
            return error_set(e->err, rc, "%s cannot be changed without writing the document anew", route->steps[0].key);
    }
    return error_set(e->err, -ENOTSUP, "more than %d changes", EDIT_SPLICES_MAX);
}

static int finish(struct editing *e, int rc, char **ret, size_t *ret_len)
{
    if (rc == 0) {
        e->text = xrealloc(e->text, e->len + 1);
        e->text[e->len] = '\0';
        *ret_len = e->len;
        *ret = steal(&e->text);
    }
    editing_fini(e);
    return rc;
}

int edit_update(const char *text, size_t len, enum document_format format, size_t index, const cJSON *wanted,
                char **ret, size_t *ret_len, struct error *err)
{
    struct editing e;
    int rc = editing_init(&e, text, len, format, index, err);
    return rc < 0 ? rc : finish(&e, update(&e, wanted), ret, ret_len);
}

/* --- by path --- */

/* Change the tree at a path: `value`, or NULL to remove. */
static int change(cJSON *root, const char *path, const cJSON *value, struct error *err)
{
    const char *rest = path;
    cJSON *parent = root;
    struct document_step step, next;
    int rc = document_path_next(&rest, true, &step);
    if (rc == 0)
        rc = -EINVAL;
    while (rc > 0 && (rc = document_path_next(&rest, false, &next)) > 0) {
        cJSON *child = document_child(parent, &step);
        if (value && step.key && cJSON_IsObject(parent) && (!child || cJSON_IsNull(child))) {
            _cleanup_(freep) char *key = xstrndup(step.key, step.len);
            value_set(parent, key, cJSON_CreateObject());
            child = value_get(parent, key);
        }
        if (!child)
            return error_set(err, -ENOENT, "there is no %.*s", (int)(rest - path), path);
        parent = child;
        step = next;
    }
    if (rc < 0)
        return error_set(err, rc, "%s is no path", path);
    const cJSON *node = document_child(parent, &step);
    if (step.key ? !cJSON_IsObject(parent) : !cJSON_IsArray(parent))
        return error_set(err, -EINVAL, "%s: not within %s", path, value_type_name(parent));
    if (!node && (!value || !step.key))
        return error_set(err, -ENOENT, "there is no %s", path);
    _cleanup_(freep) char *key = step.key ? xstrndup(step.key, step.len) : NULL;
    replace_child(parent, &(struct edit_step){.key = key, .index = step.index, .node = node, .want = value});
    return 0;
}

static int edit_path(const char *text, size_t len, enum document_format format, size_t index, const char *path,
                     const cJSON *value, char **ret, size_t *ret_len, struct error *err)
{
    struct editing e;
    int rc = editing_init(&e, text, len, format, index, err);
    if (rc < 0)
        return rc;
    if (edited(&e)->bad)
        return finish(&e, error_set(err, -EINVAL, "the document is in error itself"), ret, ret_len);
    _cleanup_(cjson_deletep) cJSON *wanted = copy(edited(&e)->root);
    rc = change(wanted, path, value, err);
    return finish(&e, rc < 0 ? rc : update(&e, wanted), ret, ret_len);
}

int edit_set(const char *text, size_t len, enum document_format format, size_t index, const char *path,
             const cJSON *value, char **ret, size_t *ret_len, struct error *err)
{
    return edit_path(text, len, format, index, path, value, ret, ret_len, err);
}

int edit_remove(const char *text, size_t len, enum document_format format, size_t index, const char *path, char **ret,
                size_t *ret_len, struct error *err)
{
    return edit_path(text, len, format, index, path, NULL, ret, ret_len, err);
}

/* --- whole documents --- */

/* `out` becomes the text, if it parses to what `e` held but for the edited document: `root`, or NULL for none. */
static int take(struct editing *e, struct buf *out, const cJSON *root)
{
    struct document_set now;
    document_parse(out->data ? out->data : "", out->len, e->format, &now);
    bool good = others_same(e, &now, !root);
    if (good && root)
        good = !now.documents[e->index].bad && value_equal(now.documents[e->index].root, root);
    document_set_fini(&now);
    if (!good) {
        buf_fini(out);
        return error_set(e->err, -ENOTSUP, "the document cannot be changed within its file");
    }
    free(e->text);
    e->len = out->len;
    e->text = buf_steal(out);
    return 0;
}

int edit_replace(const char *text, size_t len, enum document_format format, size_t index, const char *own,
                 size_t own_len, char **ret, size_t *ret_len, struct error *err)
{
    struct editing e;
    struct document_set alone;
    int rc = editing_init(&e, text, len, format, index, err);
    if (rc < 0)
        return rc;
    document_parse(own, own_len, format, &alone);
    if (alone.n_errors > 0)
        rc = error_set_at(err, -EINVAL, alone.errors[0].line, alone.errors[0].column, "%s", alone.errors[0].message);
    else if (alone.n_documents != 1)
        rc = error_set(err, -EINVAL, "expected one document, got %zu", alone.n_documents);
    else if (len + own_len > DOCUMENT_TEXT_MAX)
        rc = error_set(err, -E2BIG, "the text would be longer than %zu bytes", DOCUMENT_TEXT_MAX);
    if (rc == 0) {
        const struct document *doc = edited(&e);
        struct buf out = {0};
        buf_add(&out, text, doc->start);
        if (doc->same_line)
            buf_addc(&out, '\n');
        buf_add(&out, own, own_len);
        if (doc->end < len && format == DOCUMENT_YAML && own_len > 0 && own[own_len - 1] != '\n')
            buf_addc(&out, '\n');
        buf_add(&out, text + doc->end, len - doc->end);
        rc = take(&e, &out, alone.documents[0].root);
    }
    document_set_fini(&alone);
    return finish(&e, rc, ret, ret_len);
}

/* The bytes of a YAML document with its `---`; the first keeps its own, for what stands before it. */
static void yaml_extent(const struct editing *e, size_t *ret_from, size_t *ret_to)
{
    const struct document *doc = edited(e);
    *ret_from = doc->start;
    *ret_to = doc->end;
    if (e->index == 0)
        return;
    size_t line = doc->start;
    if (!doc->same_line && line > 0)
        line--; /* onto the newline of the `---` line */
    while (line > 0 && e->text[line - 1] != '\n')
        line--;
    if (doc->start - line >= 3 && memcmp(e->text + line, "---", 3) == 0)
        *ret_from = line;
}

/* An element of a JSON array, with the comma after it, or before it if it is the last. */
static void json_extent(const struct editing *e, size_t *ret_from, size_t *ret_to)
{
    const struct document *doc = edited(e);
    bool last = e->index + 1 == e->set.n_documents;
    *ret_from = last ? e->set.documents[e->index - 1].end : doc->start;
    *ret_to = last ? doc->end : e->set.documents[e->index + 1].start;
}

int edit_delete(const char *text, size_t len, enum document_format format, size_t index, char **ret, size_t *ret_len,
                struct error *err)
{
    struct editing e;
    int rc = editing_init(&e, text, len, format, index, err);
    if (rc < 0)
        return rc;
    if (e.set.n_documents == 1) {
        e.len = 0;
        return finish(&e, 0, ret, ret_len);
    }
    size_t from, to;
    if (format == DOCUMENT_JSON)
        json_extent(&e, &from, &to);
    else
        yaml_extent(&e, &from, &to);
    struct buf out = {0};
    buf_add(&out, text, from);
    buf_add(&out, text + to, len - to);
    return finish(&e, take(&e, &out, NULL), ret, ret_len);
}
