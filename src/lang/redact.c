#include "lang/redact.h"

#include "base/mask.h"

#include <strings.h>

/* What is shown of a string; NULL: all of it. */
static char *shown(bool secret, const char *text)
{
    if (secret && *text) {
        struct buf b = {0};
        mask_literal(text, strlen(text), &b);
        if (!streq(b.data, text))
            return buf_steal(&b);
        buf_fini(&b);
        return NULL;
    }
    if (!strstr(text, "://"))
        return NULL;
    char *copy = xstrdup(text);
    if (mask_urls(&copy))
        return copy;
    free(copy);
    return NULL;
}

static const struct field *field_of(const struct field_table *table, const cJSON *item)
{
    return table && item->string ? fields_find(table, item->string) : NULL;
}

/* Of a member of what `of` holds (NULL: no field): is its text a secret? */
static bool is_secret(const struct field *of, const struct field *f, const cJSON *item)
{
    static const char *const names[] = {"authorization", "proxy-authorization", "cookie", "x-api-key",
                                        "api-key",       "x-auth-token"};
    if (f && (f->flags & FIELD_SECRET))
        return true;
    if (!of || !(of->flags & FIELD_HEADERS) || !item->string || !cJSON_IsString(item) ||
        strstr(item->valuestring, "${") || strstr(item->valuestring, "{{"))
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (strcasecmp(item->string, names[i]) == 0)
            return true;
    return false;
}

/* `of`: the field that holds the tree, NULL: none. */
static void hide(const struct field_table *table, const struct field *of, bool secret, cJSON *tree)
{
    if (cJSON_IsString(tree)) {
        _cleanup_(freep) char *text = shown(secret, tree->valuestring);
        if (text)
            cJSON_SetValuestring(tree, text);
        return;
    }
    for (cJSON *item = tree->child; item; item = item->next) {
        const struct field *f = field_of(table, item);
        hide(f ? f->sub : NULL, f, secret || is_secret(of, f, item), item);
    }
}

void redact(const struct field_table *table, cJSON *tree)
{
    hide(table, NULL, false, tree);
}

/* Is there a field that would be hidden, were it set? */
static bool has_secrets(const struct field_table *table)
{
    for (size_t i = 0; table && i < table->n; i++)
        if ((table->fields[i].flags & (FIELD_SECRET | FIELD_HEADERS)) || has_secrets(table->fields[i].sub))
            return true;
    return false;
}

bool redact_wanted(const struct field_table *table, const char *text)
{
    return strstr(text, "://") || has_secrets(table);
}

char *redact_json(const struct field_table *table, const char *text)
{
    cJSON *tree = NULL;
    if (!text || !redact_wanted(table, text) || value_parse(text, strlen(text), &tree, NULL) < 0)
        return NULL;
    redact(table, tree);
    char *hidden = value_print(tree);
    cJSON_Delete(tree);
    return hidden;
}

/* The n-th password in the URLs of a text. */
static bool nth_password(const char *text, size_t n, const char **ret_start, const char **ret_end)
{
    for (;; text = *ret_end, n--)
        if (!url_password(text, ret_start, ret_end))
            return false;
        else if (n == 0)
            return true;
}

/* URLs were edited, but not the password of some. NULL: there is none such. */
static char *with_old_passwords(const char *sent, const char *old)
{
    struct buf b = {0};
    const char *start, *end, *old_start, *old_end, *rest = sent;
    bool any = false;
    for (size_t n = 0; url_password(rest, &start, &end) && nth_password(old, n, &old_start, &old_end); n++) {
        struct buf hidden = {0};
        mask_literal(old_start, (size_t)(old_end - old_start), &hidden);
        bool same = hidden.len == (size_t)(end - start) && memcmp(hidden.data, start, hidden.len) == 0;
        buf_fini(&hidden);
        buf_add(&b, rest, (size_t)(start - rest));
        buf_add(&b, same ? old_start : start, (size_t)(same ? old_end - old_start : end - start));
        any = any || same;
        rest = end;
    }
    buf_adds(&b, rest);
    if (any)
        return buf_steal(&b);
    buf_fini(&b);
    return NULL;
}

static void undo(const struct field_table *table, const struct field *of, bool secret, cJSON *sent, const cJSON *old)
{
    if (cJSON_IsString(sent) && cJSON_IsString(old)) {
        _cleanup_(freep) char *hidden = shown(secret, old->valuestring);
        _cleanup_(freep) char *spliced = NULL;
        if (hidden && streq(hidden, sent->valuestring))
            spliced = xstrdup(old->valuestring);
        else if (hidden && !secret)
            spliced = with_old_passwords(sent->valuestring, old->valuestring);
        if (spliced)
            cJSON_SetValuestring(sent, spliced);
        return;
    }
    if (!cJSON_IsObject(sent) && !cJSON_IsArray(sent))
        return;
    int index = 0;
    for (cJSON *item = sent->child; item; item = item->next, index++) {
        const struct field *f = field_of(table, item);
        const cJSON *before = item->string         ? value_get(old, item->string)
                              : cJSON_IsArray(old) ? cJSON_GetArrayItem(old, index)
                                                   : NULL;
        if (before)
            undo(f ? f->sub : NULL, f, secret || is_secret(of, f, before), item, before);
    }
}

void redact_undo(const struct field_table *table, cJSON *sent, const cJSON *old)
{
    undo(table, NULL, false, sent, old);
}

void redact_undo_member(const struct field_table *table, cJSON *sent, const cJSON *old)
{
    const struct field *f = field_of(table, sent);
    undo(f ? f->sub : NULL, f, is_secret(NULL, f, old), sent, old);
}
