/* Issues: what is wrong with a document, each with the node that it is about, so that a caller who has the text can
 * name line and column. Ownership: the list owns its texts; nodes are borrowed. Thread: any; a list has one user. */
#ifndef TRIGGERD_MODEL_ISSUE_H
#define TRIGGERD_MODEL_ISSUE_H

#include "model/value.h"

#include <stdbool.h>
#include <stddef.h>

enum issue_severity { ISSUE_ERROR, ISSUE_WARNING };

struct issue {
    enum issue_severity severity;
    char *path;        /* `config.debounce_seconds`, `steps[2].exec`; "" is the document itself */
    char *message;     /* one line */
    const cJSON *node; /* the node at fault in the tree that was parsed, NULL if none; valid while that tree lives */
    bool at_key;       /* the place is the node's key, not its value */
};

struct issues {
    struct issue *items;
    size_t n, cap;
    size_t errors;   /* how many errors were added, kept or not */
    size_t left_out; /* errors that were not kept */
};
#define ISSUES_INIT ((struct issues){0})
#define ISSUES_MAX 1000 /* more are not kept, errors among them counted */

void issues_fini(struct issues *is);
void issue_add(struct issues *is, const char *path, const cJSON *node, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void issue_add_key(struct issues *is, const char *path, const cJSON *node, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void issue_warn(struct issues *is, const char *path, const cJSON *node, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* `parent.name`, or `name` where parent is "". Written into `out` (cut when too long), returned. */
#define FIELD_PATH_MAX 512
char *field_path(char out[FIELD_PATH_MAX], const char *parent, const char *name);
char *field_path_index(char out[FIELD_PATH_MAX], const char *parent, size_t index);

#endif
