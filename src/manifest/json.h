/* JSON text to documents, by the strict parser of model/value.h: an object is one document, an array of objects
 * several.
 *
 * The parser stops at its first error, so a JSON file has one syntax error at most and then no documents but one
 * without a tree. Positions, ownership, thread: document.h.
 */
#ifndef TRIGGERD_MANIFEST_JSON_H
#define TRIGGERD_MANIFEST_JSON_H

#include "manifest/document.h"

/* Append the documents and errors of the text to `set`; `from` as in yaml.h. */
void document_read_json(const char *text, size_t len, size_t from, struct document_set *set);

#endif
