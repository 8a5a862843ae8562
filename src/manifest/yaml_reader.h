/* One YAML document, from libyaml's events to a tree with places. The rules are in yaml.h.
 *
 * Thread: any.
 */
#ifndef TRIGGERD_MANIFEST_YAML_READER_H
#define TRIGGERD_MANIFEST_YAML_READER_H

#include "manifest/document.h"

/* A document within its file's text; offsets are bytes of the text, lines count from 0. */
struct yaml_piece {
    const char *text;
    size_t from, to; /* what the parser sees: directives before the document and markers around it included */
    unsigned from_line;
    size_t start, end; /* the document's own text */
    unsigned start_line;
    bool same_line; /* as in struct document */
};

/* Append the document and its errors to `set`; nothing if it has no content. The piece is valid UTF-8 without the
 * characters that yaml.c refuses. */
void yaml_read_piece(const struct yaml_piece *piece, struct document_set *set);

#endif
