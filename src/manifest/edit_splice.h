/* The splices of edit.c: one member or item of a parsed document set, added or removed in its text.
 *
 * Nothing is verified here: edit.c parses the result. Thread: any.
 */
#ifndef TRIGGERD_MANIFEST_EDIT_SPLICE_H
#define TRIGGERD_MANIFEST_EDIT_SPLICE_H

#include "base/util.h"
#include "manifest/document.h"

/* What to do with one child of `parent`. */
struct edit_step {
    const cJSON *parent;
    const char *key; /* of an object's member; NULL: `index` of an array's item */
    size_t index;
    const cJSON *node;   /* what is there now; NULL: it is new */
    const cJSON *want;   /* NULL: remove it */
    bool one_line;       /* in block style too, write the value on one line */
    const cJSON *before; /* where a new item goes; NULL, and for members always: to the end */
};

/* The text after the step, into `out`; -ENOTSUP where that cannot be done. */
int edit_splice(const char *text, size_t len, enum document_format format, const struct document *doc,
                const struct edit_step *step, struct buf *out);

#endif
