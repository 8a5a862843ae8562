/* Manifests: the text of one file as resources, with every error at its place. The one piece of code that says what is
 * valid: `triggerctl validate`, the daemon, and every view that takes a manifest call manifest_parse().
 *
 * A file always gives a struct manifest, one entry a document. An entry without errors carries its parsed resource; one
 * with errors carries its kind and id as far as they could be read, so that the errors find the resource that they
 * belong to. Thread: any (a parse may run off the loop; its result then has one user).
 */
#ifndef TRIGGERD_MANIFEST_MANIFEST_H
#define TRIGGERD_MANIFEST_MANIFEST_H

#include "manifest/document.h"
#include "model/mcp_server.h"
#include "model/pipeline.h"
#include "model/trigger.h"

enum resource_kind { RESOURCE_TRIGGER, RESOURCE_PIPELINE, RESOURCE_MCP_SERVER, RESOURCE_KINDS };
const char *resource_kind_name(enum resource_kind kind); /* `trigger`, `pipeline`, `mcp_server` */
int resource_kind_parse(const char *name);               /* -1: none */

struct manifest_entry {
    enum resource_kind kind;
    char *id;                  /* NULL: could not be read */
    unsigned line, column;     /* of the document's first node */
    size_t start, end;         /* bytes of its own text in the file */
    bool bad;                  /* has errors … */
    bool bad_text;             /* … in its own text, not only among files */
    struct trigger *trigger;   /* one reference, where good and of that kind */
    struct pipeline *pipeline; /* likewise */
    struct mcp_server *server; /* likewise; its id is its name */
};

struct manifest_error {
    size_t entry; /* index, or SIZE_MAX: of the file */
    bool warning;
    bool among;            /* found among files, not in this one's text */
    unsigned line, column; /* 0: of the file as a whole */
    char *path;            /* of the field; "" where there is none */
    char *message;
};

struct manifest {
    char *file; /* as it is shown in errors */
    struct manifest_entry *entries;
    size_t n_entries;
    struct manifest_error *errors; /* by place */
    size_t n_errors;
    size_t n_wrong; /* errors without the warnings */
};

/* Is it a manifest's name: *.yaml, *.yml, *.json, not hidden, no editor's backup or swap file. `name` without
 * directories. */
bool manifest_name_ok(const char *name);

/* Parse and validate. Always fills *ret (manifest_fini() it). 0, or -EINVAL when it has an error that is no warning. */
int manifest_parse(const char *file, const char *text, size_t len, struct manifest *ret);
/* A file that could not be read: one error of the file as a whole. */
void manifest_unreadable(const char *file, const char *message, struct manifest *ret);
/* … in the words that everybody uses for a negative errno (-EFBIG: over DOCUMENT_TEXT_MAX; -EXDEV: in our own mount). `is_link`: the file is one,
 * so that -ENOENT is about where it leads. */
void manifest_unread(const char *file, int code, bool is_link, struct manifest *ret);
/* Let go of the resources of its entries. */
void manifest_drop_resources(struct manifest *m);
void manifest_fini(struct manifest *m);

/* Add an error that is found only among files (an id taken elsewhere), at the place of its entry, or drop all of them.
 * After adding some, sort. */
void manifest_add_among(struct manifest *m, size_t entry, const char *path, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The same as a warning. */
void manifest_warn_among(struct manifest *m, size_t entry, const char *message);
void manifest_drop_among(struct manifest *m);
void manifest_sort_errors(struct manifest *m);

/* `FILE:LINE:COL: field: message`, as validate prints it, on one line (text_escape()); without a place `FILE: message`.
 * free() it. */
char *manifest_error_text(const struct manifest *m, const struct manifest_error *e);

#endif
