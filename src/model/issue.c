#include "model/issue.h"

#include "base/mask.h"

#include <stdio.h>

void issues_fini(struct issues *is)
{
    for (size_t i = 0; i < is->n; i++) {
        free(is->items[i].path);
        free(is->items[i].message);
    }
    free(is->items);
    *is = ISSUES_INIT;
}

static void issue_addv(struct issues *is, enum issue_severity severity, const char *path, const cJSON *node,
                       bool at_key, const char *format, va_list args)
{
    if (severity == ISSUE_ERROR)
        is->errors++;
    if (is->n >= ISSUES_MAX) {
        is->left_out += severity == ISSUE_ERROR;
        return;
    }
    if (is->n == is->cap) {
        is->cap = is->cap ? is->cap * 2 : 8;
        is->items = xreallocarray(is->items, is->cap, sizeof(*is->items));
    }
    char *message = xvasprintf(format, args);
    mask_urls(&message);
    utf8_mend(message); /* what a format cut short */
    is->items[is->n++] =
        (struct issue){.severity = severity, .path = xstrdup(path), .message = message, .node = node, .at_key = at_key};
}

void issue_add(struct issues *is, const char *path, const cJSON *node, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    issue_addv(is, ISSUE_ERROR, path, node, false, format, args);
    va_end(args);
}

void issue_add_key(struct issues *is, const char *path, const cJSON *node, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    issue_addv(is, ISSUE_ERROR, path, node, true, format, args);
    va_end(args);
}

void issue_warn(struct issues *is, const char *path, const cJSON *node, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    issue_addv(is, ISSUE_WARNING, path, node, false, format, args);
    va_end(args);
}

char *field_path(char out[FIELD_PATH_MAX], const char *parent, const char *name)
{
    /* `parent` may be `out` itself. By hand: it is called for every key of every manifest. */
    size_t at = strnlen(parent, FIELD_PATH_MAX - 1), n = strnlen(name, 200);
    memmove(out, parent, at);
    if (at > 0 && at < FIELD_PATH_MAX - 1)
        out[at++] = '.';
    n = MIN(n, FIELD_PATH_MAX - 1 - at);
    while (n > 0 && (name[n] & 0xC0) == 0x80) /* never within a character */
        n--;
    memcpy(out + at, name, n);
    out[at + n] = '\0';
    return out;
}

char *field_path_index(char out[FIELD_PATH_MAX], const char *parent, size_t index)
{
    char place[32];
    int n = snprintf(place, sizeof(place), "[%zu]", index);
    size_t at = strnlen(parent, FIELD_PATH_MAX - 1);
    memmove(out, parent, at);
    if (at + (size_t)n < FIELD_PATH_MAX)
        memcpy(out + at, place, (size_t)n + 1);
    else
        out[at] = '\0';
    return out;
}
