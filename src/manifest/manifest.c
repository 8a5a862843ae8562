#include "manifest/manifest.h"

#include "base/util.h"
#include "engine/engine.h"
#include "lang/secret.h"
#include "source/list.h"
#include "step/list.h"

#include <errno.h>
#include <stdio.h>
#include <uthash.h>

static const char *const kind_words[RESOURCE_KINDS] = {"trigger", "pipeline", "mcp_server"};

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

/* Takes `message`. */
static struct manifest_error *push_error(struct manifest *m, size_t entry, bool warning, unsigned line, unsigned column,
                                         const char *path, char *message)
{
    m->errors = xreallocarray(m->errors, m->n_errors + 1, sizeof(*m->errors));
    struct manifest_error *e = &m->errors[m->n_errors++];
    *e = (struct manifest_error){.entry = entry, .warning = warning, .line = line, .column = column};
    e->path = xstrdup(path);
    e->message = message;
    if (warning)
        return e;
    m->n_wrong++;
    if (entry < m->n_entries)
        m->entries[entry].bad = true;
    return e;
}

__attribute__((format(printf, 6, 7))) static void add_error(struct manifest *m, size_t entry, unsigned line,
                                                            unsigned column, const char *path, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    push_error(m, entry, false, line, column, path, xvasprintf(format, args));
    va_end(args);
}

void manifest_add_among(struct manifest *m, size_t entry, const char *path, const char *format, ...)
{
    const struct manifest_entry *e = &m->entries[entry];
    va_list args;
    va_start(args, format);
    push_error(m, entry, false, e->line, e->column, path, xvasprintf(format, args))->among = true;
    va_end(args);
}

void manifest_warn_among(struct manifest *m, size_t entry, const char *message)
{
    const struct manifest_entry *e = &m->entries[entry];
    push_error(m, entry, true, e->line, e->column, "", xstrdup(message))->among = true;
}

void manifest_drop_among(struct manifest *m)
{
    size_t kept = 0;
    for (size_t i = 0; i < m->n_errors; i++) {
        struct manifest_error *e = &m->errors[i];
        if (!e->among) {
            m->errors[kept++] = *e;
            continue;
        }
        m->entries[e->entry].bad = m->entries[e->entry].bad_text;
        m->n_wrong -= !e->warning;
        free(e->path);
        free(e->message);
    }
    m->n_errors = kept;
}

char *manifest_error_text(const struct manifest *m, const struct manifest_error *e)
{
    struct buf b = {0};
    text_escape(&b, m->file);
    if (e->line > 0)
        buf_printf(&b, ":%u:%u", e->line, e->column);
    buf_adds(&b, e->warning ? ": warning: " : ": ");
    if (*e->path) {
        text_escape(&b, e->path);
        buf_adds(&b, ": ");
    }
    text_escape(&b, e->message);
    return buf_steal(&b);
}

static int by_place(const void *a, const void *b)
{
    const struct manifest_error *x = a, *y = b;
    if (x->line != y->line)
        return x->line < y->line ? -1 : 1;
    if (x->column != y->column)
        return x->column < y->column ? -1 : 1;
    int by_path = strcmp(x->path, y->path);
    return by_path ? by_path : strcmp(x->message, y->message);
}

void manifest_sort_errors(struct manifest *m)
{
    if (m->n_errors > 1)
        qsort(m->errors, m->n_errors, sizeof(*m->errors), by_place);
}

/* Is a scalar there of which the text alone was wrong already (the first `n_text` errors)? Its value is none, which is no
 * error more; that error is told the path. */
static bool told_already(struct manifest *m, size_t n_text, struct issue *is, unsigned line, unsigned column)
{
    if (!cJSON_IsNull(is->node) || is->at_key)
        return false;
    for (size_t i = 0; i < n_text; i++) {
        struct manifest_error *e = &m->errors[i];
        if (e->line != line || e->column != column)
            continue;
        free(e->path);
        e->path = steal(&is->path);
        return true;
    }
    return false;
}

/* Issues of one document to errors of the file. */
static void place_issues(struct manifest *m, size_t entry, const struct document *doc, size_t n_text,
                         struct issues *issues)
{
    for (size_t i = 0; i < issues->n; i++) {
        struct issue *is = &issues->items[i];
        unsigned line = m->entries[entry].line, column = m->entries[entry].column;
        if (is->node)
            document_node_place(doc, is->node, is->at_key, &line, &column);
        if (told_already(m, n_text, is, line, column))
            continue;
        push_error(m, entry, is->severity == ISSUE_WARNING, line, column, is->path, steal(&is->message));
    }
    if (issues->left_out > 0)
        add_error(m, entry, m->entries[entry].line, m->entries[entry].column, "",
                  "%zu more errors in this document are not listed", issues->left_out);
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
    issue_add(issues, "kind", node, "expected trigger, pipeline or mcp_server, got %s%s%s%s",
              value_brief(node, got, sizeof(got)), near ? "; did you mean \"" : "", near ? near : "",
              near ? "\"?" : "");
    return false;
}

/* The id as far as it can be told, also of a document that is wrong elsewhere. */
static char *guess_id(enum resource_kind kind, const cJSON *root)
{
    const char *id = value_get_string(root, "id"), *own = value_get_string(root, "name");
    if (kind == RESOURCE_MCP_SERVER)
        return own && endpoint_text_valid(own) ? xstrdup(own) : NULL;
    if (id)
        return id_text_valid(id) ? xstrdup(id) : NULL;
    return kind == RESOURCE_TRIGGER && own ? trigger_slug(own) : NULL;
}

static void drop_resource(struct manifest_entry *e)
{
    trigger_unref(e->trigger);
    pipeline_unref(e->pipeline);
    mcp_server_unref(e->server);
    e->trigger = NULL;
    e->pipeline = NULL;
    e->server = NULL;
}

static void read_document(struct manifest *m, size_t index, const struct document *doc, size_t n_text)
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
            entry->trigger = trigger_read(doc->root, source_kinds, &issues);
            trigger_check(entry->trigger, doc->root, &issues);
        } else if (entry->kind == RESOURCE_MCP_SERVER) {
            mcp_server_parse(doc->root, &entry->server, &issues);
            reference_check_fields(&mcp_server_fields, doc->root, false, "", &issues);
        } else {
            entry->pipeline = pipeline_read(doc->root, step_kinds, &issues);
            pipeline_check(entry->pipeline, doc->root, step_types, &issues);
        }
        if (issues.errors > 0)
            drop_resource(entry);
    }
    place_issues(m, index, doc, n_text, &issues);
}

/* The same kind and id twice in this file: the later one is in error. */
static void check_twice(struct manifest *m)
{
    struct first {
        UT_hash_handle hh;
        size_t entry;
    } * by_id[RESOURCE_KINDS] = {NULL};
    if (m->n_entries < 2)
        return;
    _cleanup_(freep) struct first *all = xcalloc(m->n_entries, sizeof(*all));
    for (size_t i = 0; i < m->n_entries; i++) {
        struct manifest_entry *e = &m->entries[i];
        struct first **table = &by_id[e->kind], *found = NULL;
        if (!e->id)
            continue;
        HASH_FIND_STR(*table, e->id, found);
        if (found) {
            add_error(m, i, e->line, e->column, "id", "%s \"%s\" is already defined at line %u", kind_words[e->kind],
                      e->id, m->entries[found->entry].line);
            continue;
        }
        all[i].entry = i;
        HASH_ADD_KEYPTR(hh, *table, e->id, strlen(e->id), &all[i]);
    }
    for (size_t k = 0; k < RESOURCE_KINDS; k++)
        HASH_CLEAR(hh, by_id[k]);
}

static void drop_bad(struct manifest *m)
{
    for (size_t i = 0; i < m->n_entries; i++) {
        struct manifest_entry *e = &m->entries[i];
        e->bad_text = e->bad;
        if (e->bad)
            drop_resource(e);
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
        push_error(ret, e->document < set.n_documents ? e->document : SIZE_MAX, false, e->line, e->column, "",
                   xstrdup(e->message));
    }
    if (set.n_errors_left_out > 0)
        add_error(ret, SIZE_MAX, 1, 1, "", "%zu more errors in this text are not listed", set.n_errors_left_out);
    size_t n_text = ret->n_errors;
    for (size_t i = 0; i < set.n_documents; i++)
        read_document(ret, i, &set.documents[i], n_text);
    check_twice(ret);
    drop_bad(ret);
    manifest_sort_errors(ret);
    document_set_fini(&set);
    return ret->n_wrong > 0 ? -EINVAL : 0;
}

void manifest_unreadable(const char *file, const char *message, struct manifest *ret)
{
    *ret = (struct manifest){.file = xstrdup(file)};
    push_error(ret, SIZE_MAX, false, 0, 0, "", xstrdup(message));
}

void manifest_unread(const char *file, int code, bool is_link, struct manifest *ret)
{
    _cleanup_(freep) char *message = code == -EFBIG ? xasprintf("larger than %zu bytes", DOCUMENT_TEXT_MAX)
                                     : code == -ENOENT && is_link ? xstrdup("the link leads nowhere")
                                     : code == -EXDEV             ? xstrdup("lies in triggerd's own mount (SelfMount)")
                                                                  : xasprintf("cannot be read: %s", strerror(-code));
    manifest_unreadable(file, message, ret);
}

void manifest_drop_resources(struct manifest *m)
{
    for (size_t i = 0; i < m->n_entries; i++)
        drop_resource(&m->entries[i]);
}

void manifest_fini(struct manifest *m)
{
    manifest_drop_resources(m);
    for (size_t i = 0; i < m->n_entries; i++)
        free(m->entries[i].id);
    for (size_t i = 0; i < m->n_errors; i++) {
        free(m->errors[i].path);
        free(m->errors[i].message);
    }
    free(m->entries);
    free(m->errors);
    free(m->file);
    *m = (struct manifest){0};
}
