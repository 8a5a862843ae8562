/* URLs with values pasted into them: a value can fill the place it stands in and never change what is around it.
 *
 *   https://USER:PASSWORD@HOST:PORT/PATH?QUERY#FRAGMENT
 *
 *   at the very beginning   a value or reference is taken as it is: it is a URL, or the beginning of one
 *   USER, PASSWORD          percent-encoded, all but letters, digits and - . _ ~
 *   HOST, PORT              letters, digits and - . _ only; anything else is an error
 *   PATH                    a value is percent-encoded, `/` too; of a reference all but `/`. It cannot make a segment
 *                           `.` or `..`
 *   QUERY, FRAGMENT         percent-encoded
 *
 * Pure; thread: any.
 */
#ifndef TRIGGERD_STEP_HTTP_URL_H
#define TRIGGERD_STEP_HTTP_URL_H

#include "base/error.h"
#include "base/util.h"
#include "lang/template.h"

struct http_url_piece {
    enum template_piece kind;
    char *text;
};
struct http_url_pieces {
    struct http_url_piece *items;
    size_t n;
};
void http_url_add(void *pieces, enum template_piece kind, const char *text); /* a template_piece_fn */
void http_url_pieces_fini(struct http_url_pieces *p);                        /* wipes */

/* *ret is to be freed. -EINVAL: a value does not fit its place; the message has no value in it. */
int http_url_build(const struct http_url_pieces *p, char **ret, struct error *err);

#endif
