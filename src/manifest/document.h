/* Manifest text as documents: JSON trees whose every node knows its place in the file.
 *
 * A file is parsed as a whole and always gives a set: the documents that could be read, in the order of the file, and
 * every error that could be found, each with its place. A bad document never stops a good one: YAML text is first cut
 * at its document markers and each piece is parsed by itself. This layer knows nothing of what a document means.
 *
 * A document in error is in the set too (`bad`), with the tree as far as it was read: a caller needs its `kind` and
 * `id` to say which resource the error belongs to, and validates the rest to report all errors at once. It must not be
 * applied. Where the text broke off (`complete` is false), a missing key means nothing.
 *
 * YAML: 1.2 core schema over libyaml; see yaml.h. JSON: RFC 8259; one object, or an array of objects that are one
 * document each (what `jq -s` and most exporters write); see json.h.
 *
 * Places: lines and columns count from 1, columns count characters (code points); a byte order mark is no column. A
 * place in a document is its place in the whole file. Offsets are bytes from the start of the text given.
 *
 * Ownership: the set owns everything, document_set_fini() frees it; the text is not kept. Thread: any; a set has one
 * user at a time. Nothing here does I/O.
 */
#ifndef TRIGGERD_MANIFEST_DOCUMENT_H
#define TRIGGERD_MANIFEST_DOCUMENT_H

#include "base/error.h"
#include "model/value.h"

#include <stdbool.h>
#include <stddef.h>

#define DOCUMENT_TEXT_MAX ((size_t)4 << 20)         /* bytes of one file */
#define DOCUMENT_COUNT_MAX 10000                    /* documents of one file */
#define DOCUMENT_ALIAS_NODES_MAX 100000             /* nodes that the aliases of one document may expand to, together */
#define DOCUMENT_ALIAS_BYTES_MAX ((size_t)16 << 20) /* and the bytes of their strings */
#define DOCUMENT_ERRORS_MAX 1000                    /* errors kept for one file … */
#define DOCUMENT_ERRORS_EACH_MAX 100                /* … and for one document */
#define DOCUMENT_NONE SIZE_MAX                      /* an error that belongs to no document */

enum document_format { DOCUMENT_YAML, DOCUMENT_JSON };

struct document_place {
    const cJSON *node;
    size_t offset, end;            /* bytes of the value: [offset, end), white space and comments around it excluded */
    size_t key_offset, key_end;    /* bytes of its key; 0 without a key */
    unsigned line, column;         /* of the value; of the alias, for all nodes that an alias expanded to */
    unsigned key_line, key_column; /* of its key; 0 without one (root, array item) */
    bool bad;                      /* null stands here for a value that was refused: its error is in the set */
    bool flow;                     /* a collection in [] or {} */
    bool copied;                   /* below an alias: its text is the alias's, and is not its own */
};

struct document {
    /* An object, unless the document is bad (then anything, or NULL). */
    cJSON *root;
    /* Bytes of its own text: comments included, its `---` line and the next `---` or `...` excluded. */
    size_t start, end;
    unsigned line;  /* where its first node is (where the text starts, if there is none) */
    bool bad;       /* has at least one error in the set */
    bool complete;  /* false: the text broke off, `root` is what came before */
    bool same_line; /* the text starts on the line of its `---`; put a newline before other text in its place */
    struct document_place *places; /* in the order of the text, until document_place() sorts them by node */
    size_t n_places;
    bool sorted;
    cJSON *dropped; /* values that have a place but no key to hang on (duplicate key, refused key); NULL if none */
};

struct document_error {
    size_t document; /* index in the set, or DOCUMENT_NONE */
    unsigned line, column;
    char *message; /* one line, UTF-8 */
};

struct document_set {
    struct document *documents;
    size_t n_documents;
    struct document_error *errors; /* sorted by place */
    size_t n_errors;
    size_t n_errors_left_out; /* found, but over the bounds above */
};

/* The format by the end of a file's name (.yaml, .yml, .json); -EINVAL for any other name. */
int document_format_by_name(const char *file_name, enum document_format *ret);

/* Parse `len` bytes. Always fills *ret (document_set_fini() it); 0, or -EINVAL when there is any error in it. */
int document_parse(const char *text, size_t len, enum document_format format, struct document_set *ret);

void document_set_fini(struct document_set *set);

/* The place of a node of this document's tree; NULL for a foreign node. */
const struct document_place *document_place(const struct document *doc, const cJSON *node);

/* Line and column of a node's value, or of its key where it has one and `key` is true. False: not of this document. */
bool document_node_place(const struct document *doc, const cJSON *node, bool key, unsigned *ret_line,
                         unsigned *ret_column);

/* One step of a path: a key, or with key NULL an index. */
struct document_step {
    const char *key; /* `len` bytes within the path */
    size_t len, index;
};

/* The next step of a path as document_find() takes it, moving *path behind it; `first` at its start. 1: *ret is set;
 * 0: the path ends here; -EINVAL: it is malformed. */
int document_path_next(const char **path, bool first, struct document_step *ret);

/* The member or item, NULL if there is none. */
cJSON *document_child(const cJSON *node, const struct document_step *step);

/* The node at a path such as `config.steps[2].id` or `config.env["a.b"]`; "" is the root. NULL: no such node. */
cJSON *document_find(const struct document *doc, const char *path);

/* --- for the readers (yaml.c, json.c) --- */

/* Note an error of document number `document` (which need not be added yet). */
void document_set_error(struct document_set *set, size_t document, unsigned line, unsigned column, const char *format,
                        ...) __attribute__((format(printf, 5, 6)));

/* Append `doc`, taking what it owns. */
void document_set_add(struct document_set *set, struct document *doc);

/* Append a place; `cap` is the caller's room so far. The result is valid until the next call. */
struct document_place *document_place_add(struct document *doc, size_t *cap, const cJSON *node);

/* Keep a value that is not part of the tree for as long as the document lives; takes `node`. */
void document_drop(struct document *doc, cJSON *node);

/* Note the error, and mark `doc` (number `index`), if its top is no object. */
void document_check_top(struct document_set *set, struct document *doc, size_t index);

void document_fini(struct document *doc);

#endif
