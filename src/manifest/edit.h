/* Edits of a manifest's text that leave all else as it is: comments, order, indentation, quotes.
 *
 * An edit is given as what the document should be. The difference to what it is becomes the smallest splices of the
 * text, one member or item at a time; where one cannot be made (the value comes out of an alias, say), it is tried on one
 * line, and then the value around it is written anew, which keeps what is outside of it. After each splice the text is parsed again: the document must
 * be what was meant and every other document what it was, else nothing is done and the result is -ENOTSUP.
 *
 * `index` is the document's place in document_parse()'s set. The text may hold other documents in error; the edited one
 * must be good. On success *ret gets the new text (free() it; NUL-terminated) and *ret_len its length; on failure `err`
 * says why and both stay untouched.
 *
 * Errors: -EINVAL the document or the path is no good; -ENOENT there is no such document or member; -ENOTSUP the edit
 * cannot be made by splices (write the document anew: yaml_print(), edit_replace()); -E2BIG past DOCUMENT_TEXT_MAX.
 * Thread: any. Nothing here does I/O.
 */
#ifndef TRIGGERD_MANIFEST_EDIT_H
#define TRIGGERD_MANIFEST_EDIT_H

#include "manifest/document.h"

#define EDIT_SPLICES_MAX 256               /* each costs a parse of the file … */
#define EDIT_PARSED_MAX ((size_t)64 << 20) /* … and no more bytes than these are parsed */
#define EDIT_MEMBERS_MAX 1024 /* members of an object that are compared one by one; a larger one is written anew */

/* Make the document equal to `wanted`, an object. Order is no difference: members that stay keep their place, new ones
 * go to the end of their mapping. */
int edit_update(const char *text, size_t len, enum document_format format, size_t index, const cJSON *wanted,
                char **ret, size_t *ret_len, struct error *err);

/* Set the value at a path (document_find()'s); missing mappings on the way are made. */
int edit_set(const char *text, size_t len, enum document_format format, size_t index, const char *path,
             const cJSON *value, char **ret, size_t *ret_len, struct error *err);

int edit_remove(const char *text, size_t len, enum document_format format, size_t index, const char *path, char **ret,
                size_t *ret_len, struct error *err);

/* Put `own` in the place of the document's own text ([start, end), comments included). `own` must be one good document
 * of the same format. The document may have been in error. */
int edit_replace(const char *text, size_t len, enum document_format format, size_t index, const char *own,
                 size_t own_len, char **ret, size_t *ret_len, struct error *err);

/* Take the document out, with its `---`. Where it was the only one, *ret_len is 0: remove the file. */
int edit_delete(const char *text, size_t len, enum document_format format, size_t index, char **ret, size_t *ret_len,
                struct error *err);

#endif
