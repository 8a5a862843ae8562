#include "manifest/manifest.h"

#include "base/util.h"
#include "engine/engine.h"
#include "source/list.h"
#include "step/list.h"

#include <errno.h>
#include <stdio.h>

static const char *const kind_words[RESOURCE_KINDS] = {"trigger", "pipeline"};

const char *resource_kind_name(enum resource_kind kind)
{
    return kind_words[kind];
}

int resource_kind_parse(const char *name)
{
    for (int i = 0; i < RESOURCE_KINDS; i++)
        if (streq(name, kind_words[i]))
            return i;
    return -1;
}

bool manifest_name_ok(const char *name)
{
    enum document_format format;
    size_t n = strlen(name);
    if (name[0] == '.' || name[0] == '#' || n == 0 || name[n - 1] == '~' || name[n - 1] == '#')
        return false;
    return document_format_by_name(name, &format) == 0;
}

/* ---- errors ---- */

static void add_errorv(struct manifest *m, size_t entry, bool warning, unsigned line, unsigned column, const char *path,
                       char *message)
{
    m->errors = xreallocarray(m->errors, m->n_errors + 1, sizeof(*m->errors));
    struct manifest_error *e = &m->errors[m->n_errors++];
    *e = (struct manifest_error){entry, warning, line, column, .path = xstrdup(path)};
    e->message = message;
    if (warning)
        return;
    m->n_wrong++;
    if (entry < m->n_entries)
        m->entries[entry].bad = true;
}

void manifest_add_error(struct manifest *m, size_t entry, unsigned line, unsigned column, const char *path,
                        const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *message = xvasprintf(format, args);
    va_end(args);
    add_errorv(m, entry, false, line, column, path, message);
}

char *manifest_error_text(const struct manifest *m, const struct manifest_error *e)
{
    const char *word = e->warning ? "warning: " : "";
    const char *colon = *e->path ? ": " : "";
    if (e->line == 0)
        return xasprintf("%s: %s%s%s%s", m->file, word, e->path, colon, e->message);
    return xasprintf("%s:%u:%u: %s%s%s%s", m->file, e->line, e->column, word, e->path, colon, e->message);
}

static int by_place(const void *a, const void *b)
{
    const struct manifest_error *x = a, *y = b;
    if (x->line != y->line)
        return x->line < y->line ? -1 : 1;
    if (x->column != y->column)
        return x->column < y->column ? -1 : 1;
    return strcmp(x->path, y->path);
}

/* Issues of one document to errors of the file. */
static void place_issues(struct manifest *m, size_t entry, const struct document *doc, struct issues *issues)
{
    for (size_t i = 0; i < issues->n; i++) {
        struct issue *is = &issues->items[i];
        unsigned line = m->entries[entry].line, column = m->entries[entry].column;
        if (is->node)
            document_node_place(doc, is->node, is->at_key, &line, &column);
        add_errorv(m, entry, is->severity == ISSUE_WARNING, line, column, is->path, steal(&is->message));
    }
    issues_fini(issues);
}

/* ---- one document ---- */

/* `kind` of the document: a trigger where it names none. False: an error was added. */
static bool read_kind(const cJSON *root, enum resource_kind *ret, struct issues *issues)
{
    const cJSON *node = value_get(root, "kind");
    *ret = RESOURCE_TRIGGER;
    if (!node)
        return true;
    int kind = cJSON_IsString(node) ? resource_kind_parse(node->valuestring) : -1;
    if (kind >= 0) {
        *ret = (enum resource_kind)kind;
        return true;
    }
    char got[64];
    const char *near = cJSON_IsString(node) ? nearest_name(node->valuestring, kind_words, RESOURCE_KINDS) : NULL;
    issue_add(issues, "kind", node, "expected trigger or pipeline, got %s%s%s%s", value_brief(node, got, sizeof(got)),
              near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
    return false;
}

/* The id as far as it can be told, also of a document that is wrong elsewhere. */
static char *guess_id(enum resource_kind kind, const cJSON *root)
{
    const char *id = value_get_string(root, "id");
    if (id)
        return id_text_valid(id) ? xstrdup(id) : NULL;
    const char *name = value_get_string(root, "name");
    return kind == RESOURCE_TRIGGER && name ? trigger_slug(name) : NULL;
}

static void read_document(struct manifest *m, size_t index, const struct document *doc)
{
    struct manifest_entry *entry = &m->entries[index];
    struct issues issues = ISSUES_INIT;
    if (!cJSON_IsObject(doc->root))
        return;
    bool known = read_kind(doc->root, &entry->kind, &issues);
    entry->id = known ? guess_id(entry->kind, doc->root) : NULL;
    /* Of a text that broke off only what is there can be judged, and most of it follows from the break. */
    if (known && doc->complete) {
        if (entry->kind == RESOURCE_TRIGGER) {
            if (trigger_parse(doc->root, source_kinds, &entry->trigger, &issues) == 0)
                trigger_check(entry->trigger, doc->root, &issues);
        } else if (pipeline_parse(doc->root, step_kinds, &entry->pipeline, &issues) == 0) {
            pipeline_check(entry->pipeline, doc->root, step_types, &issues);
        }
    }
    place_issues(m, index, doc, &issues);
}

/* The same kind and id twice in this file: the later one is in error. */
static void check_twice(struct manifest *m)
{
    for (size_t i = 0; i < m->n_entries; i++) {
        for (size_t k = 0; k < i && m->entries[i].id; k++) {
            struct manifest_entry *a = &m->entries[k], *b = &m->entries[i];
            if (a->kind != b->kind || !streq(a->id, b->id))
                continue;
            manifest_add_error(m, i, b->line, b->column, "id", "%s \"%s\" is already defined at line %u",
                               kind_words[b->kind], b->id, a->line);
            break;
        }
    }
}

static void drop_bad(struct manifest *m)
{
    for (size_t i = 0; i < m->n_entries; i++) {
        struct manifest_entry *e = &m->entries[i];
        if (!e->bad)
            continue;
        trigger_unref(e->trigger);
        pipeline_unref(e->pipeline);
        e->trigger = NULL;
        e->pipeline = NULL;
    }
}

int manifest_parse(const char *file, const char *text, size_t len, struct manifest *ret)
{
    enum document_format format;
    struct document_set set;
    *ret = (struct manifest){.file = xstrdup(file)};
    if (document_format_by_name(file, &format) < 0)
        format = DOCUMENT_YAML;
    document_parse(text, len, format, &set);
    ret->entries = xcalloc(set.n_documents, sizeof(*ret->entries));
    ret->n_entries = set.n_documents;
    for (size_t i = 0; i < set.n_documents; i++) {
        const struct document *doc = &set.documents[i];
        struct manifest_entry *entry = &ret->entries[i];
        *entry = (struct manifest_entry){
            .line = doc->line, .column = 1, .start = doc->start, .end = doc->end, .bad = doc->bad};
        if (doc->root)
            document_node_place(doc, doc->root, false, &entry->line, &entry->column);
    }
    for (size_t i = 0; i < set.n_errors; i++) {
        const struct document_error *e = &set.errors[i];
        add_errorv(ret, e->document < set.n_documents ? e->document : SIZE_MAX, false, e->line, e->column, "",
                   xstrdup(e->message));
    }
    for (size_t i = 0; i < set.n_documents; i++)
        read_document(ret, i, &set.documents[i]);
    check_twice(ret);
    drop_bad(ret);
    if (ret->n_errors > 1)
        qsort(ret->errors, ret->n_errors, sizeof(*ret->errors), by_place);
    document_set_fini(&set);
    return ret->n_wrong > 0 ? -EINVAL : 0;
}

void manifest_unreadable(const char *file, const char *message, struct manifest *ret)
{
    *ret = (struct manifest){.file = xstrdup(file)};
    add_errorv(ret, SIZE_MAX, false, 0, 0, "", xstrdup(message));
}

void manifest_fini(struct manifest *m)
{
    for (size_t i = 0; i < m->n_entries; i++) {
        free(m->entries[i].id);
        trigger_unref(m->entries[i].trigger);
        pipeline_unref(m->entries[i].pipeline);
    }
    for (size_t i = 0; i < m->n_errors; i++) {
        free(m->errors[i].path);
        free(m->errors[i].message);
    }
    free(m->entries);
    free(m->errors);
    free(m->file);
    *m = (struct manifest){0};
}
