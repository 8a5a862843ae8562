#include "manifest/json.h"

#include "base/util.h"

/* The text was parsed already; the walk over it beside the tree finds where each value starts and ends. */
struct walk {
    const char *text;
    size_t len, from;           /* a byte order mark ends at `from` */
    const struct document *all; /* the places of the whole text, sorted */
    struct document *doc;       /* whose places are being made */
    size_t cap;
};

static void note_place(void *ctx, const cJSON *node, unsigned line, unsigned column, unsigned key_line,
                       unsigned key_column)
{
    struct walk *walk = ctx;
    struct document_place *place = document_place_add(walk->doc, &walk->cap, node);
    place->line = line;
    place->column = column;
    place->key_line = key_line;
    place->key_column = key_column;
    place->flow = true;
}

static size_t skip_space(const struct walk *walk, size_t at)
{
    while (at < walk->len && strchr(" \t\r\n", walk->text[at]))
        at++;
    return at;
}

static size_t skip_string(const struct walk *walk, size_t at)
{
    for (at++; at < walk->len && walk->text[at] != '"'; at++)
        if (walk->text[at] == '\\')
            at++;
    return at + 1;
}

static size_t walk_value(struct walk *walk, size_t at, const cJSON *node, size_t key_offset, size_t key_end);

static size_t walk_items(struct walk *walk, size_t at, const cJSON *node)
{
    at = skip_space(walk, at + 1);
    for (const cJSON *child = node->child; child; child = child->next) {
        size_t key_offset = 0, key_end = 0;
        if (cJSON_IsObject(node)) {
            key_offset = at;
            key_end = skip_string(walk, at);
            at = skip_space(walk, key_end) + 1; /* the colon */
            at = skip_space(walk, at);
        }
        at = skip_space(walk, walk_value(walk, at, child, key_offset, key_end));
        if (child->next)
            at = skip_space(walk, at + 1); /* the comma */
    }
    return at + 1;
}

/* The end of the value at `at`; its place and those below go to the document. Recurses at most VALUE_DEPTH_MAX deep. */
static size_t walk_value(struct walk *walk, size_t at, const cJSON *node, size_t key_offset, size_t key_end)
{
    size_t end = at;
    if (cJSON_IsObject(node) || cJSON_IsArray(node))
        end = walk_items(walk, at, node);
    else if (cJSON_IsString(node))
        end = skip_string(walk, at);
    else
        while (end < walk->len && !strchr(",]} \t\r\n", walk->text[end]))
            end++;
    const struct document_place *known = document_place(walk->all, node);
    struct document_place *place = document_place_add(walk->doc, &walk->cap, node);
    if (known)
        *place = *known;
    place->offset = at;
    place->end = end;
    place->key_offset = key_offset;
    place->key_end = key_end;
    return end;
}

/* Add `root`, whose text starts at `at`, as a document; its own text is the value's, or the `whole` text. */
static size_t add_document(struct walk *walk, cJSON *root, size_t at, bool whole, struct document_set *set)
{
    struct document doc = {.root = root, .complete = true};
    walk->doc = &doc;
    walk->cap = 0;
    size_t end = walk_value(walk, at, root, 0, 0);
    doc.start = whole ? walk->from : at;
    doc.end = whole ? walk->len : end;
    const struct document_place *place = document_place(walk->all, root);
    doc.line = place ? place->line : 1;
    document_check_top(set, &doc, set->n_documents);
    document_set_add(set, &doc);
    return end;
}

void document_read_json(const char *text, size_t len, size_t from, struct document_set *set)
{
    struct document all = {0};
    struct walk walk = {.text = text, .len = len, .from = from, .all = &all, .doc = &all};
    struct error err = ERROR_INIT;
    if (value_parse_places(text + from, len - from, note_place, &walk, &all.root, &err) < 0) {
        document_fini(&all);
        document_set_error(set, set->n_documents, err.line ? err.line : 1, err.column ? err.column : 1,
                           "could not parse: %s", err.message);
        struct document doc = {.start = from, .end = len, .line = 1, .bad = true};
        document_set_add(set, &doc);
        return;
    }
    struct document_set sorted = {0};
    document_set_add(&sorted, &all); /* sorts the places */
    walk.all = &sorted.documents[0];
    cJSON *root = steal(&sorted.documents[0].root);
    size_t at = skip_space(&walk, from);
    if (!cJSON_IsArray(root)) {
        add_document(&walk, root, at, true, set);
    } else {
        at = skip_space(&walk, at + 1);
        for (cJSON *item; (item = root->child);) {
            if (set->n_documents >= DOCUMENT_COUNT_MAX) {
                const struct document_place *place = document_place(walk.all, item);
                document_set_error(set, DOCUMENT_NONE, place ? place->line : 1, place ? place->column : 1,
                                   "more than %d documents", DOCUMENT_COUNT_MAX);
                break;
            }
            bool last = !item->next;
            cJSON_DetachItemViaPointer(root, item);
            at = skip_space(&walk, add_document(&walk, item, at, false, set));
            at = last ? at : skip_space(&walk, at + 1);
        }
        cJSON_Delete(root);
    }
    document_set_fini(&sorted);
}
