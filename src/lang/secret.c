#include "lang/secret.h"

#include "base/util.h"

#include <errno.h>
#include <strings.h>

#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define DIGIT "0123456789"

/* ---- references ---- */

static const char *const kind_words[] = {[SECRET_ENV] = "env", [SECRET_FILE] = "file"};

static unsigned column_of(const char *text, const char *at)
{
    unsigned column = 1;
    for (; text < at; text++)
        column += ((unsigned char)*text & 0xC0) != 0x80;
    return column;
}

/* Does a reference begin at the `${`? *ret_name: what follows its colon. */
static bool begins(const char *open, enum secret_kind *ret_kind, const char **ret_name)
{
    for (size_t i = 0; i < ARRAY_SIZE(kind_words); i++) {
        size_t n = strlen(kind_words[i]);
        if (strncmp(open + 2, kind_words[i], n) != 0 || open[2 + n] != ':')
            continue;
        const char *name = open + 2 + n + 1;
        if (*name && strchr("-+=?", *name))
            return false;
        *ret_kind = (enum secret_kind)i;
        *ret_name = name;
        return true;
    }
    return false;
}

static bool parse(const char *text, const char *open, enum secret_kind kind, const char *name, struct reference *ret,
                  struct error *err)
{
    unsigned column = column_of(text, open);
    const char *end = strchr(name, '}');
    if (!end) {
        error_set_at(err, -EINVAL, 1, column, "`${%s:` without `}`", kind_words[kind]);
        return false;
    }
    size_t n = (size_t)(end - name);
    if (n == 0) {
        error_set_at(err, -EINVAL, 1, column, "`${%s:}` names no %s", kind_words[kind],
                     kind == SECRET_ENV ? "variable" : "file");
        return false;
    }
    if (kind == SECRET_ENV && (strspn(name, UPPER LOWER DIGIT "_") < n || strchr(DIGIT, *name))) {
        error_set_at(err, -EINVAL, 1, column, "`${env:%.*s}`: expected a variable's name ([A-Za-z_][A-Za-z0-9_]*)",
                     (int)MIN(n, (size_t)100), name);
        return false;
    }
    for (size_t i = 0; kind == SECRET_FILE && i < n; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f) {
            error_set_at(err, -EINVAL, 1, column, "`${file:…}`: a path holds no control characters");
            return false;
        }
    *ret = (struct reference){kind, open, (size_t)(end + 1 - open), name, n};
    return true;
}

int reference_next(const char *text, struct reference *ret, struct error *err)
{
    for (const char *p = text; (p = strstr(p, "${")); p += 2) {
        enum secret_kind kind;
        const char *name;
        if (begins(p, &kind, &name))
            return parse(text, p, kind, name, ret, err) ? 1 : -EINVAL;
    }
    return 0;
}

bool reference_in(const cJSON *tree)
{
    struct reference r = {0};
    if (cJSON_IsString(tree))
        return reference_next(tree->valuestring, &r, NULL) != 0;
    for (const cJSON *child = tree ? tree->child : NULL; child; child = child->next)
        if (reference_in(child))
            return true;
    return false;
}

/* `${ENV:X}`, `${evn:X}`: the letters of a kind in another order or case. */
static bool looks_like(const char *word, size_t n)
{
    for (size_t i = 0; i < ARRAY_SIZE(kind_words); i++) {
        size_t found = 0;
        for (const char *p = kind_words[i]; *p; p++)
            for (size_t k = 0; k < n; k++)
                if ((word[k] | 0x20) == *p) {
                    found++;
                    break;
                }
        if (n == strlen(kind_words[i]) && found == n)
            return true;
    }
    return false;
}

static void check_likes(const cJSON *node, const char *path, struct issues *issues)
{
    for (const char *p = node->valuestring; (p = strstr(p, "${")); p += 2) {
        size_t n = strspn(p + 2, UPPER LOWER);
        enum secret_kind kind;
        const char *name;
        if (p[2 + n] == ':' && !begins(p, &kind, &name) && looks_like(p + 2, n) && !strchr("-+=?", p[2 + n + 1]))
            issue_warn(issues, path, node, "`${%.*s:` is text; references are ${env:NAME} and ${file:PATH}", (int)n,
                       p + 2);
    }
}

struct walk {
    void (*fn)(void *ctx, const cJSON *node, const char *path);
    void *ctx;
};

/* Each string of the tree with its place. */
static void each_string(const cJSON *tree, const char *path, const struct walk *w)
{
    if (cJSON_IsString(tree)) {
        if (strstr(tree->valuestring, "${"))
            w->fn(w->ctx, tree, path);
        return;
    }
    size_t i = 0;
    for (const cJSON *child = tree ? tree->child : NULL; child; child = child->next, i++) {
        char at[FIELD_PATH_MAX];
        if (cJSON_IsArray(tree))
            field_path_index(at, path, i);
        else
            field_path(at, path, child->string);
        each_string(child, at, w);
    }
}

static void check_one(void *ctx, const cJSON *node, const char *path)
{
    struct issues *issues = ctx;
    struct error err = ERROR_INIT;
    struct reference r = {0};
    int rc = 1;
    unsigned before = 0;
    for (const char *p = node->valuestring; (rc = reference_next(p, &r, &err)) > 0; p = r.start + r.len)
        before = column_of(node->valuestring, r.start + r.len) - 1;
    if (rc < 0)
        issue_add(issues, path, node, "%s (at character %u)", err.message, before + err.column);
    check_likes(node, path, issues);
}

void reference_check(const cJSON *tree, const char *path, struct issues *issues)
{
    struct walk w = {check_one, issues};
    each_string(tree, path, &w);
}

struct unused {
    const char *why;
    struct issues *issues;
};

static void warn_one(void *ctx, const cJSON *node, const char *path)
{
    struct unused *u = ctx;
    struct reference r = {0};
    if (reference_next(node->valuestring, &r, NULL) > 0)
        issue_warn(u->issues, path, node, "%.*s: %s", (int)MIN(r.len, (size_t)100), r.start, u->why);
}

void reference_check_unused(const cJSON *tree, const char *path, const char *why, struct issues *issues)
{
    struct unused u = {why, issues};
    struct walk w = {warn_one, &u};
    each_string(tree, path, &w);
}

void reference_check_fields(const struct field_table *t, const cJSON *object, bool compiled, const char *path,
                            struct issues *issues)
{
    const cJSON *item;
    for (item = cJSON_IsObject(object) ? object->child : NULL; item; item = item->next) {
        const struct field *f = fields_find(t, item->string);
        char at[FIELD_PATH_MAX];
        field_path(at, path, item->string);
        if (f && f->sub && cJSON_IsObject(item))
            reference_check_fields(f->sub, item, compiled, at, issues);
        else if (!f ? strncmp(item->string, "x-", 2) != 0 : !(f->flags & FIELD_REFERS))
            reference_check_unused(item, at, "is not replaced here", issues);
        else if (f && !compiled)
            reference_check(item, at, issues);
    }
}

/* ---- values ---- */

struct secrets {
    struct secret *items;
    size_t n;
    struct mask *mask;
};

struct secrets *secrets_create(void)
{
    struct secrets *s = xcalloc(1, sizeof(*s));
    s->mask = mask_create();
    return s;
}

void secrets_destroy(struct secrets *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->n; i++) {
        free((char *)s->items[i].name);
        free((char *)s->items[i].dir);
        secret_free(s->items[i].value);
        free(s->items[i].error);
    }
    free(s->items);
    mask_destroy(s->mask);
    free(s);
}

static struct secret *find(const struct secrets *s, const struct reference *r, const char *dir)
{
    for (size_t i = 0; i < s->n; i++) {
        struct secret *item = &s->items[i];
        if (item->kind == r->kind && strncmp(item->name, r->name, r->name_len) == 0 && !item->name[r->name_len] &&
            (r->kind == SECRET_ENV || streq(item->dir, dir)))
            return item;
    }
    return NULL;
}

void secrets_want(struct secrets *s, const char *text, const char *dir)
{
    struct reference r = {0};
    for (; reference_next(text, &r, NULL) > 0; text = r.start + r.len) {
        struct secret *known = find(s, &r, dir);
        if (known) {
            known->due = true;
            continue;
        }
        s->items = xreallocarray(s->items, s->n + 1, sizeof(*s->items));
        s->items[s->n++] = (struct secret){.kind = r.kind,
                                           .name = xstrndup(r.name, r.name_len),
                                           .dir = r.kind == SECRET_FILE ? xstrdup0(dir) : NULL,
                                           .due = true};
    }
}

void secrets_want_tree(struct secrets *s, const cJSON *tree, const char *dir)
{
    if (cJSON_IsString(tree))
        secrets_want(s, tree->valuestring, dir);
    for (const cJSON *child = tree ? tree->child : NULL; child; child = child->next)
        secrets_want_tree(s, child, dir);
}

size_t secrets_count(const struct secrets *s)
{
    return s->n;
}

const struct secret *secrets_at(const struct secrets *s, size_t i)
{
    return &s->items[i];
}

void secrets_set(struct secrets *s, size_t i, char *value, char *error)
{
    struct secret *item = &s->items[i];
    secret_free(item->value);
    free(item->error);
    item->value = value;
    item->error = error;
    item->due = false;
    if (value)
        mask_add(s->mask, value, strlen(value));
}

const char *secrets_value(const struct secrets *s, const struct reference *r, const char *dir, struct error *err)
{
    const struct secret *item = s ? find(s, r, dir) : NULL;
    if (item && item->value)
        return item->value;
    error_set(err, -ENOENT, "%.*s: %s", (int)MIN(r->len, (size_t)200), r->start,
              item && item->error ? item->error : "was not read");
    return NULL;
}

int secrets_expand(const struct secrets *s, const char *text, const char *dir, char **ret, struct error *err)
{
    struct buf out = {0};
    struct reference r = {0};
    for (; reference_next(text, &r, NULL) > 0; text = r.start + r.len) {
        const char *value = secrets_value(s, &r, dir, err);
        if (!value) {
            secret_free(buf_steal(&out));
            return -ENOENT;
        }
        buf_add(&out, text, (size_t)(r.start - text));
        buf_adds(&out, value);
    }
    buf_adds(&out, text);
    *ret = buf_steal(&out);
    return 0;
}

static int expand_string(const struct secrets *s, cJSON *node, const char *path, const char *dir, struct error *err)
{
    char *text = NULL;
    if (!strstr(node->valuestring, "${"))
        return 0;
    int rc = secrets_expand(s, node->valuestring, dir, &text, err);
    if (rc == 0 && !utf8_valid(text, strlen(text)))
        rc = error_set(err, -EILSEQ, "%.200s: what it stands for is no UTF-8 text", node->valuestring);
    if (rc == 0)
        cJSON_SetValuestring(node, text);
    else if (*path)
        error_wrap(err, "%s", path);
    secret_free(text);
    return rc;
}

int secrets_expand_tree(const struct secrets *s, cJSON *tree, const char *path, const char *dir, struct error *err)
{
    if (cJSON_IsString(tree))
        return expand_string(s, tree, path, dir, err);
    size_t i = 0;
    for (cJSON *child = tree->child; child; child = child->next, i++) {
        char at[FIELD_PATH_MAX];
        if (cJSON_IsArray(tree))
            field_path_index(at, path, i);
        else
            field_path(at, path, child->string);
        int rc = secrets_expand_tree(s, child, at, dir, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

const struct mask *secrets_mask(const struct secrets *s)
{
    return s->mask;
}

/* What is shown of a text, NULL: all of it. */
static char *shown(const struct secrets *s, const char *text)
{
    struct buf b = {0};
    mask_bytes(s->mask, text, strlen(text), &b);
    if (streq(b.data ? b.data : "", text)) {
        buf_fini(&b);
        return NULL;
    }
    return buf_steal(&b);
}

void secrets_mask_tree(const struct secrets *s, cJSON *tree)
{
    _cleanup_(freep) char *key = tree->string ? shown(s, tree->string) : NULL;
    if (key) {
        cJSON_free(tree->string);
        tree->string = cJSON_malloc(strlen(key) + 1);
        memcpy(tree->string, key, strlen(key) + 1);
    }
    if (cJSON_IsString(tree)) {
        _cleanup_(freep) char *text = shown(s, tree->valuestring);
        if (text)
            cJSON_SetValuestring(tree, text);
    } else if (value_is_number(tree)) {
        _cleanup_(freep) char *printed = value_print(tree);
        _cleanup_(freep) char *text = shown(s, printed);
        if (text) { /* what is left of a number is none */
            cJSON *string = cJSON_CreateString(text);
            cJSON_free(tree->valuestring);
            tree->valuestring = string->valuestring;
            tree->type = cJSON_String;
            string->valuestring = NULL;
            cJSON_Delete(string);
        }
    }
    for (cJSON *child = tree->child; child; child = child->next)
        secrets_mask_tree(s, child);
}
