#include "manifest/document.h"

#include "base/util.h"
#include "manifest/json.h"
#include "manifest/yaml.h"

#include <errno.h>
#include <stdio.h>

static bool ends_with(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n > m && streq(s + n - m, suffix);
}

int document_format_by_name(const char *file_name, enum document_format *ret)
{
    if (ends_with(file_name, ".yaml") || ends_with(file_name, ".yml"))
        *ret = DOCUMENT_YAML;
    else if (ends_with(file_name, ".json"))
        *ret = DOCUMENT_JSON;
    else
        return -EINVAL;
    return 0;
}

void document_set_error(struct document_set *set, size_t document, unsigned line, unsigned column, const char *format,
                        ...)
{
    size_t of_this = 0; /* a document's errors come in one go, so those before are at the end */
    while (of_this < set->n_errors && set->errors[set->n_errors - 1 - of_this].document == document)
        of_this++;
    if (set->n_errors >= DOCUMENT_ERRORS_MAX || of_this >= DOCUMENT_ERRORS_EACH_MAX) {
        set->n_errors_left_out++;
        return;
    }
    struct error err = ERROR_INIT;
    va_list args;
    va_start(args, format);
    error_setv(&err, -EINVAL, format, args);
    va_end(args);
    set->errors = xreallocarray(set->errors, set->n_errors + 1, sizeof(*set->errors));
    set->errors[set->n_errors++] =
        (struct document_error){.document = document, .line = line, .column = column, .message = xstrdup(err.message)};
}

static int compare_places(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const struct document_place *)a)->node;
    uintptr_t y = (uintptr_t)((const struct document_place *)b)->node;
    return (x > y) - (x < y);
}

void document_set_add(struct document_set *set, struct document *doc)
{
    if ((set->n_documents & (set->n_documents - 1)) == 0) /* full at every power of two */
        set->documents =
            xreallocarray(set->documents, set->n_documents ? set->n_documents * 2 : 1, sizeof(*set->documents));
    set->documents[set->n_documents++] = *doc;
    *doc = (struct document){0};
}

struct document_place *document_place_add(struct document *doc, size_t *cap, const cJSON *node)
{
    if (doc->n_places == *cap) {
        *cap = *cap ? *cap * 2 : 64;
        doc->places = xreallocarray(doc->places, *cap, sizeof(*doc->places));
    }
    struct document_place *place = &doc->places[doc->n_places++];
    *place = (struct document_place){.node = node};
    return place;
}

void document_drop(struct document *doc, cJSON *node)
{
    if (!doc->dropped)
        doc->dropped = cJSON_CreateArray();
    cJSON_AddItemToArray(doc->dropped, node);
}

void document_check_top(struct document_set *set, struct document *doc, size_t index)
{
    if (!doc->root || !doc->complete || cJSON_IsObject(doc->root))
        return;
    const struct document_place *place = NULL;
    for (size_t i = 0; i < doc->n_places && !place; i++) /* not sorted yet */
        if (doc->places[i].node == doc->root)
            place = &doc->places[i];
    doc->bad = true;
    if (place && place->bad)
        return;
    char brief[64];
    document_set_error(set, index, place ? place->line : doc->line, place ? place->column : 1,
                       "expected a mapping (an object), got %s", value_brief(doc->root, brief, sizeof(brief)));
}

void document_fini(struct document *doc)
{
    cJSON_Delete(doc->root);
    cJSON_Delete(doc->dropped);
    free(doc->places);
    *doc = (struct document){0};
}

void document_set_fini(struct document_set *set)
{
    for (size_t i = 0; i < set->n_documents; i++)
        document_fini(&set->documents[i]);
    free(set->documents);
    for (size_t i = 0; i < set->n_errors; i++)
        free(set->errors[i].message);
    free(set->errors);
    *set = (struct document_set){0};
}

/* By place, those at one place as they were found: an insertion sort is stable, and the errors are few. */
static void sort_errors(struct document_set *set)
{
    for (size_t i = 1; i < set->n_errors; i++) {
        struct document_error error = set->errors[i];
        size_t to = i;
        for (; to > 0; to--) {
            const struct document_error *before = &set->errors[to - 1];
            if (before->line < error.line || (before->line == error.line && before->column <= error.column))
                break;
            set->errors[to] = set->errors[to - 1];
        }
        set->errors[to] = error;
    }
}

/* The first line of [from, end) that begins with `mark` and a blank (or ends there); NULL: none. */
static const char *find_marker(const char *from, const char *end, const char *mark)
{
    size_t n = strlen(mark);
    for (const char *line = from; line && (size_t)(end - line) > n;) {
        if (memcmp(line, mark, n) == 0 && (line[n] == ' ' || line[n] == '\r' || line[n] == '\n'))
            return line;
        line = memchr(line, '\n', (size_t)(end - line));
        line = line ? line + 1 : NULL;
    }
    return NULL;
}

/* In the place of what a parser says of that line. */
static void tell_conflict(struct document_set *set, size_t document, unsigned line)
{
    static const char message[] = "a merge conflict that is not resolved (<<<<<<<)";
    for (size_t i = 0; i < set->n_errors; i++) {
        struct document_error *e = &set->errors[i];
        if (e->document != document || e->line != line)
            continue;
        free(e->message);
        e->message = xstrdup(message);
        e->column = 1;
        return;
    }
    document_set_error(set, document, line, 1, "%s", message);
}

/* What git leaves in a file is told as such, where it makes a document bad (in a script's text it may be meant). */
static void find_conflicts(const char *text, struct document_set *set)
{
    const char *at = text, *newline;
    unsigned line = 1;
    for (size_t i = 0; i < set->n_documents; i++) {
        const struct document *doc = &set->documents[i];
        const char *begin = text + doc->start, *end = text + doc->end;
        const char *ours = doc->bad ? find_marker(begin, end, "<<<<<<<") : NULL;
        const char *middle = ours ? find_marker(ours, end, "=======") : NULL;
        if (!middle || !find_marker(middle, end, ">>>>>>>"))
            continue;
        for (; (newline = memchr(at, '\n', (size_t)(ours - at))); at = newline + 1)
            line++;
        tell_conflict(set, i, line);
    }
}

int document_parse(const char *text, size_t len, enum document_format format, struct document_set *ret)
{
    static const char utf16_le[] = {'\xFF', '\xFE'}, utf16_be[] = {'\xFE', '\xFF'}, utf8[] = {'\xEF', '\xBB', '\xBF'};
    struct document_set set = {0};
    size_t from = 0;
    if (len > DOCUMENT_TEXT_MAX) {
        document_set_error(&set, DOCUMENT_NONE, 1, 1, "the text is too long: %zu bytes, at most %zu are read", len,
                           DOCUMENT_TEXT_MAX);
    } else if (len >= 2 && (memcmp(text, utf16_le, 2) == 0 || memcmp(text, utf16_be, 2) == 0)) {
        document_set_error(&set, DOCUMENT_NONE, 1, 1, "the text is UTF-16; save it as UTF-8");
    } else {
        if (len >= sizeof(utf8) && memcmp(text, utf8, sizeof(utf8)) == 0)
            from = sizeof(utf8);
        if (format == DOCUMENT_JSON)
            document_read_json(text, len, from, &set);
        else
            document_read_yaml(text, len, from, &set);
        find_conflicts(text, &set);
    }
    sort_errors(&set);
    *ret = set;
    return set.n_errors > 0 ? -EINVAL : 0;
}

const struct document_place *document_place(const struct document *doc, const cJSON *node)
{
    struct document_place wanted = {.node = node};
    if (!node || doc->n_places == 0)
        return NULL;
    if (!doc->sorted && node == doc->places[0].node)
        return &doc->places[0];
    if (!doc->sorted) { /* by whom first asks: most documents have no errors to place */
        qsort(doc->places, doc->n_places, sizeof(*doc->places), compare_places);
        ((struct document *)doc)->sorted = true;
    }
    return bsearch(&wanted, doc->places, doc->n_places, sizeof(*doc->places), compare_places);
}

bool document_node_place(const struct document *doc, const cJSON *node, bool key, unsigned *ret_line,
                         unsigned *ret_column)
{
    const struct document_place *place = document_place(doc, node);
    if (!place)
        return false;
    bool by_key = key && place->key_line > 0;
    *ret_line = by_key ? place->key_line : place->line;
    *ret_column = by_key ? place->key_column : place->column;
    return true;
}

/* `[…]`, from after the bracket. */
static int next_bracket(const char **path, struct document_step *ret)
{
    const char *p = *path;
    if (*p == '"') {
        const char *close = strstr(p + 1, "\"]");
        if (!close)
            return -EINVAL;
        *path = close + 2;
        *ret = (struct document_step){.key = p + 1, .len = (size_t)(close - p - 1)};
        return 1;
    }
    size_t index = 0, digits = 0;
    for (; p[digits] >= '0' && p[digits] <= '9' && digits < 10; digits++)
        index = index * 10 + (size_t)(p[digits] - '0');
    if (digits == 0 || p[digits] != ']')
        return -EINVAL;
    *path = p + digits + 1;
    *ret = (struct document_step){.index = index};
    return 1;
}

int document_path_next(const char **path, bool first, struct document_step *ret)
{
    if (!**path)
        return 0;
    if (**path == '[') {
        ++*path;
        return next_bracket(path, ret);
    }
    if (!first && *(*path)++ != '.')
        return -EINVAL;
    size_t n = strcspn(*path, ".[");
    if (n == 0)
        return -EINVAL;
    *ret = (struct document_step){.key = *path, .len = n};
    *path += n;
    return 1;
}

cJSON *document_child(const cJSON *node, const struct document_step *step)
{
    if (step->key)
        return value_getn(node, step->key, step->len);
    cJSON *item = cJSON_IsArray(node) ? node->child : NULL;
    for (size_t i = 0; item && i < step->index; i++)
        item = item->next;
    return item;
}

cJSON *document_find(const struct document *doc, const char *path)
{
    cJSON *node = doc->root;
    struct document_step step;
    int rc = 1;
    for (bool first = true; node; first = false) {
        rc = document_path_next(&path, first, &step);
        if (rc <= 0)
            break;
        node = document_child(node, &step);
    }
    return rc < 0 ? NULL : node;
}
