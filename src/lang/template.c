#include "lang/template.h"

#include "base/util.h"

#include <errno.h>

/* ---- One string ----------------------------------------------------------------------------------------------------
 */

/* Text, a placeholder, or a reference. */
struct part {
    char *text;
    struct path *path;
    char *reference;
};

struct template
{
    unsigned flags;
    size_t count;
    struct part *parts; /* no two texts in a row */
};

static unsigned column_of(const char *text, const char *at)
{
    unsigned column = 1;
    for (; text < at; text++)
        column += ((unsigned char)*text & 0xC0) != 0x80;
    return column;
}

static const char *skip_blanks(const char *p)
{
    return p + strspn(p, " \t\r\n");
}

static void add_text(struct template *t, const char *text, size_t len)
{
    if (len == 0)
        return;
    if (t->count > 0 && t->parts[t->count - 1].text) {
        struct part *last = &t->parts[t->count - 1];
        char *joined = xasprintf("%s%.*s", last->text, (int)len, text);
        free(last->text);
        last->text = joined;
        return;
    }
    t->parts = xreallocarray(t->parts, t->count + 1, sizeof(*t->parts));
    t->parts[t->count++] = (struct part){.text = xstrndup(text, len)};
}

/* Text of the manifest between placeholders, in which references may stand. */
static int add_literal(struct template *t, const char *whole, const char *text, size_t len, struct error *err)
{
    if (!(t->flags & TEMPLATE_SECRETS)) {
        add_text(t, text, len);
        return 0;
    }
    _cleanup_(freep) char *copy = xstrndup(text, len);
    struct reference r = {0};
    struct error inner = ERROR_INIT;
    const char *p = copy;
    int rc;
    for (; (rc = reference_next(p, &r, &inner)) > 0; p = r.start + r.len) {
        add_text(t, p, (size_t)(r.start - p));
        t->parts = xreallocarray(t->parts, t->count + 1, sizeof(*t->parts));
        t->parts[t->count++] = (struct part){.reference = xstrndup(r.start, r.len)};
    }
    if (rc < 0)
        return error_set_at(err, rc, 1, column_of(whole, text + (p - copy)) + inner.column - 1, "%s", inner.message);
    add_text(t, p, strlen(p));
    return 0;
}

/* The `}}` that ends a path; those inside quotes do not. NULL: there is none. */
static const char *find_end(const char *p)
{
    for (char quote = '\0'; *p; p++) {
        if (quote && *p == '\\' && p[1])
            p++;
        else if (quote && *p == quote)
            quote = '\0';
        else if (!quote && (*p == '\'' || *p == '"'))
            quote = *p;
        else if (!quote && p[0] == '}' && p[1] == '}')
            return p;
    }
    return NULL;
}

/* `open` is at the `{{`; *ret_next gets what follows the `}}`. */
static int parse_placeholder(struct template *t, const char *text, const char *open, const char **ret_next,
                             struct error *err)
{
    const char *start = skip_blanks(open + 2);
    if (*start == '"' || *start == '\'') {
        const char *close = strchr(start + 1, *start), *end = close ? skip_blanks(close + 1) : NULL;
        if (!end || end[0] != '}' || end[1] != '}')
            return error_set_at(err, -EINVAL, 1, column_of(text, start),
                                "a quoted text inside `{{ }}` must end with its quote and `}}`");
        add_text(t, start + 1, (size_t)(close - start - 1));
        *ret_next = end + 2;
        return 0;
    }
    const char *end = find_end(start);
    if (!end)
        end = strstr(start, "}}"); /* a quote that does not end: let the path say so */
    if (!end)
        return error_set_at(err, -EINVAL, 1, column_of(text, open),
                            "`{{` without `}}` (a literal `{{` is written {{ \"{{\" }})");
    *ret_next = end + 2;
    while (end > start && strchr(" \t\r\n", end[-1]))
        end--;
    if (end <= start)
        return error_set_at(err, -EINVAL, 1, column_of(text, open), "`{{ }}` needs a path");
    _cleanup_(freep) char *path_text = xstrndup(start, (size_t)(end - start));
    struct part part = {0};
    struct error inner = ERROR_INIT;
    int rc = path_compile(path_text, PATH_MAPPING, &part.path, &inner);
    if (rc < 0)
        return error_set_at(err, rc, 1, column_of(text, start) + MAX(inner.column, 1u) - 1, "`{{ %.100s }}`: %s",
                            path_text, inner.message);
    t->parts = xreallocarray(t->parts, t->count + 1, sizeof(*t->parts));
    t->parts[t->count++] = part;
    return 0;
}

int template_compile(const char *text, unsigned flags, struct template **ret, struct error *err)
{
    _cleanup_(template_destroyp) struct template *t = xcalloc(1, sizeof(*t));
    t->flags = flags;
    size_t places = 0;
    for (const char *p = text, *open; *p;) {
        open = strstr(p, "{{");
        int rc = add_literal(t, text, p, open ? (size_t)(open - p) : strlen(p), err);
        if (rc < 0)
            return rc;
        if (!open)
            break;
        if (++places > TEMPLATE_PLACES_MAX)
            return error_set_at(err, -EINVAL, 1, column_of(text, open), "a string has at most %d `{{ }}`",
                                TEMPLATE_PLACES_MAX);
        rc = parse_placeholder(t, text, open, &p, err);
        if (rc < 0)
            return rc;
    }
    *ret = steal(&t);
    return 0;
}

void template_destroy(struct template *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->count; i++) {
        free(t->parts[i].text);
        path_destroy(t->parts[i].path);
        free(t->parts[i].reference);
    }
    free(t->parts);
    free(t);
}

bool template_is_constant(const struct template *t)
{
    return t->count == 0 || (t->count == 1 && t->parts[0].text);
}

void path_tell(void *ctx, const struct path *p, const char *where)
{
    const struct path_teller *t = ctx;
    (void)where;
    t->fn(t->ctx, path_text(p));
}

void template_each_path(const struct template *t, template_path_fn *fn, void *ctx)
{
    for (size_t i = 0; i < t->count; i++)
        if (t->parts[i].path)
            fn(ctx, t->parts[i].path, "");
}

void template_each_reference(const struct template *t, void (*fn)(void *ctx, const char *text), void *ctx)
{
    for (size_t i = 0; i < t->count; i++)
        if (t->parts[i].reference)
            fn(ctx, t->parts[i].reference);
}

static int too_large(struct error *err)
{
    return error_set(err, -E2BIG, "the expanded text would have more than %zu bytes", TEMPLATE_OUTPUT_MAX);
}

/* Take `n` bytes of what an expansion may still give. */
static int spend(size_t *budget, size_t n, struct error *err)
{
    if (n > *budget)
        return too_large(err);
    *budget -= n;
    return 0;
}

static int resolve(const struct path *p, const cJSON *root, cJSON **ret, struct error *err)
{
    int rc = path_value(p, root, ret, err);
    if (rc == 0)
        return error_set(err, -ENOENT, "`{{ %.200s }}` finds nothing", path_text(p));
    if (rc < 0)
        return error_wrap(err, "`{{ %.200s }}`", path_text(p)), rc;
    return 0;
}

/* What a reference stands for; NULL: an error was set. */
static const char *refer(const char *text, const struct template_secrets *with, struct error *err)
{
    struct reference r = {0};
    reference_next(text, &r, NULL); /* it was found when the template was compiled */
    return secrets_value(with ? with->secrets : NULL, &r, with ? with->dir : NULL, err);
}

/* `with` NULL: references are as they are written where `literal`, else an error. */
static int each_piece(const struct template *t, const cJSON *root, const struct template_secrets *with, bool literal,
                      size_t *budget, template_piece_fn *fn, void *ctx, struct error *err)
{
    for (size_t i = 0; i < t->count; i++) {
        _cleanup_(cjson_deletep) cJSON *value = NULL;
        _cleanup_(freep) char *json = NULL;
        enum template_piece kind = TEMPLATE_PIECE_TEXT;
        const char *text = t->parts[i].text;
        if (t->parts[i].reference) {
            kind = TEMPLATE_PIECE_REFERENCE;
            text = literal && !with ? t->parts[i].reference : refer(t->parts[i].reference, with, err);
            if (!text)
                return -ENOENT;
        }
        if (!text) {
            int rc = resolve(t->parts[i].path, root, &value, err);
            if (rc < 0)
                return rc;
            kind = TEMPLATE_PIECE_VALUE;
            if (!cJSON_IsString(value))
                json = value_print(value);
            text = json ? json : value->valuestring;
        }
        int rc = spend(budget, strlen(text), err);
        if (rc < 0)
            return rc;
        fn(ctx, kind, text);
    }
    return 0;
}

int template_each_piece(const struct template *t, const cJSON *root, const struct template_secrets *with,
                        template_piece_fn *fn, void *ctx, struct error *err)
{
    size_t budget = TEMPLATE_OUTPUT_MAX;
    return each_piece(t, root, with, true, &budget, fn, ctx, err);
}

static void add_piece(void *ctx, enum template_piece kind, const char *text)
{
    (void)kind;
    buf_adds(ctx, text);
}

static int expand_text(const struct template *t, const cJSON *root, const struct template_secrets *with, size_t *budget,
                       char **ret, struct error *err)
{
    _cleanup_(buf_fini) struct buf out = {0};
    int rc = each_piece(t, root, with, false, budget, add_piece, &out, err);
    if (rc < 0)
        return rc;
    *ret = buf_steal(&out);
    return 0;
}

/* About the bytes of its JSON text. *ret_depth: the levels of arrays and objects. */
static size_t measure(const cJSON *v, unsigned *ret_depth)
{
    size_t bytes = 4 + (v->valuestring ? strlen(v->valuestring) : 0) + (v->string ? strlen(v->string) : 0);
    unsigned deepest = 0;
    for (const cJSON *child = v->child; child; child = child->next) {
        unsigned depth;
        bytes += measure(child, &depth);
        deepest = MAX(deepest, depth);
    }
    *ret_depth = deepest + (cJSON_IsArray(v) || cJSON_IsObject(v));
    return bytes;
}

/* `place_depth`: levels around the place, 0 for the root. */
static int expand_value(const struct template *t, const cJSON *root, const struct template_secrets *with,
                        unsigned place_depth, size_t *budget, cJSON **ret, struct error *err)
{
    if (t->count != 1 || !t->parts[0].path || (t->flags & TEMPLATE_TEXT)) {
        _cleanup_(freep) char *text = NULL;
        int rc = expand_text(t, root, with, budget, &text, err);
        if (rc < 0)
            return rc;
        if (with && !utf8_valid(text, strlen(text)))
            return error_set(err, -EILSEQ, "a secret is no UTF-8");
        *ret = value_string(text);
        return 0;
    }
    _cleanup_(cjson_deletep) cJSON *value = NULL;
    int rc = resolve(t->parts[0].path, root, &value, err);
    if (rc < 0)
        return rc;
    unsigned depth;
    rc = spend(budget, measure(value, &depth), err);
    if (rc < 0)
        return rc;
    if (place_depth + depth > VALUE_DEPTH_MAX)
        return error_set(err, -E2BIG, "`{{ %.200s }}` would nest more than %d levels", path_text(t->parts[0].path),
                         VALUE_DEPTH_MAX);
    *ret = steal(&value);
    return 0;
}

int template_expand(const struct template *t, const cJSON *root, cJSON **ret, struct error *err)
{
    size_t budget = TEMPLATE_OUTPUT_MAX;
    return expand_value(t, root, NULL, 0, &budget, ret, err);
}

int template_expand_text(const struct template *t, const cJSON *root, char **ret, struct error *err)
{
    size_t budget = TEMPLATE_OUTPUT_MAX;
    return expand_text(t, root, NULL, &budget, ret, err);
}

int template_expand_text_with(const struct template *t, const cJSON *root, const struct template_secrets *with,
                              char **ret, struct error *err)
{
    size_t budget = TEMPLATE_OUTPUT_MAX;
    return expand_text(t, root, with, &budget, ret, err);
}

/* ---- A tree --------------------------------------------------------------------------------------------------------
 */

struct site {
    size_t index; /* of the node, in the order of the text */
    char *where;
    struct template *template;
};

struct template_tree {
    cJSON *tree;
    size_t count;
    struct site *sites; /* by index */
};

/* Compiling: `index` counts the nodes seen. */
struct compiler {
    struct template_tree *t;
    unsigned flags;
    size_t index;
    struct issues *issues;
};

static void compile_node(struct compiler *c, const cJSON *node, const char *where)
{
    size_t index = c->index++;
    if (cJSON_IsString(node) &&
        (strstr(node->valuestring, "{{") || ((c->flags & TEMPLATE_SECRETS) && strstr(node->valuestring, "${")))) {
        struct template *t;
        struct error err = ERROR_INIT;
        if (template_compile(node->valuestring, c->flags, &t, &err) < 0) {
            issue_add(c->issues, where, node, "%s", err.message);
            return;
        }
        c->t->sites = xreallocarray(c->t->sites, c->t->count + 1, sizeof(*c->t->sites));
        c->t->sites[c->t->count++] = (struct site){.index = index, .where = xstrdup(where), .template = t};
        return;
    }
    size_t i = 0;
    for (const cJSON *child = node->child; child; child = child->next, i++) {
        char path[FIELD_PATH_MAX];
        if (cJSON_IsArray(node))
            field_path_index(path, where, i);
        else
            field_path(path, where, child->string);
        compile_node(c, child, path);
    }
}

struct template *template_field(const char *text, unsigned flags, const cJSON *node, const char *path,
                                struct issues *issues)
{
    struct template *t = NULL;
    struct error err = ERROR_INIT;
    if (template_compile(text, flags, &t, &err) < 0)
        issue_add(issues, path, node, "%s (at character %u)", err.message, err.column);
    return t;
}

int template_tree_compile(const cJSON *tree, unsigned flags, const char *path, struct template_tree **ret,
                          struct issues *issues)
{
    size_t errors = issues->errors;
    _cleanup_(template_tree_destroyp) struct template_tree *t = xcalloc(1, sizeof(*t));
    struct compiler c = {.t = t, .flags = flags, .issues = issues};
    compile_node(&c, tree, path);
    if (issues->errors > errors)
        return -EINVAL;
    t->tree = cJSON_Duplicate(tree, 1);
    *ret = steal(&t);
    return 0;
}

void template_tree_destroy(struct template_tree *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->count; i++) {
        free(t->sites[i].where);
        template_destroy(t->sites[i].template);
    }
    free(t->sites);
    cJSON_Delete(t->tree);
    free(t);
}

bool template_tree_is_constant(const struct template_tree *t)
{
    for (size_t i = 0; i < t->count; i++)
        if (!template_is_constant(t->sites[i].template))
            return false;
    return true;
}

/* Expanding: the same walk. */
struct expander {
    const struct template_tree *t;
    const cJSON *root;
    const struct template_secrets *with;
    size_t index, site; /* of the next node, and the next site */
    size_t budget;
    struct error *err;
};

static int expand_node(struct expander *x, const cJSON *node, unsigned depth, cJSON **ret)
{
    size_t index = x->index++;
    if (x->site < x->t->count && x->t->sites[x->site].index == index) {
        const struct site *site = &x->t->sites[x->site++];
        int rc = expand_value(site->template, x->root, x->with, depth, &x->budget, ret, x->err);
        if (rc < 0 && *site->where)
            error_wrap(x->err, "%s", site->where);
        return rc;
    }
    if (!node->child) {
        *ret = cJSON_Duplicate(node, 0);
        if ((*ret)->string) {
            cJSON_free((*ret)->string);
            (*ret)->string = NULL;
        }
        return 0;
    }
    bool array = cJSON_IsArray(node);
    _cleanup_(cjson_deletep) cJSON *copy = array ? cJSON_CreateArray() : cJSON_CreateObject();
    for (const cJSON *child = node->child; child; child = child->next) {
        cJSON *item = NULL;
        int rc = expand_node(x, child, depth + 1, &item);
        if (rc < 0)
            return rc;
        if (array)
            cJSON_AddItemToArray(copy, item);
        else
            cJSON_AddItemToObject(copy, child->string, item);
    }
    *ret = steal(&copy);
    return 0;
}

int template_tree_expand(const struct template_tree *t, const cJSON *root, cJSON **ret, struct error *err)
{
    return template_tree_expand_with(t, root, NULL, ret, err);
}

int template_tree_expand_with(const struct template_tree *t, const cJSON *root, const struct template_secrets *with,
                              cJSON **ret, struct error *err)
{
    struct expander x = {.t = t, .root = root, .with = with, .budget = TEMPLATE_OUTPUT_MAX, .err = err};
    return expand_node(&x, t->tree, 0, ret);
}

void template_tree_each_path(const struct template_tree *t, template_path_fn *fn, void *ctx)
{
    for (size_t i = 0; i < t->count; i++) {
        const struct template *template = t->sites[i].template;
        for (size_t k = 0; k < template->count; k++)
            if (template->parts[k].path)
                fn(ctx, template->parts[k].path, t->sites[i].where);
    }
}

void template_tree_each_reference(const struct template_tree *t, void (*fn)(void *ctx, const char *text), void *ctx)
{
    for (size_t i = 0; i < t->count; i++)
        template_each_reference(t->sites[i].template, fn, ctx);
}

/* ---- if ------------------------------------------------------------------------------------------------------------
 */

int condition_eval(const struct path *p, const cJSON *root, bool *ret, struct error *err)
{
    _cleanup_(path_nodes_fini) struct path_nodes nodes = {0};
    int rc = path_select(p, root, &nodes, err);
    if (rc < 0)
        return rc;
    bool any = false;
    for (size_t i = 0; i < nodes.n && !any; i++)
        any = !cJSON_IsFalse(nodes.list[i]) && !cJSON_IsNull(nodes.list[i]);
    *ret = any;
    return 0;
}
