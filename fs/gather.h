/* Documents out of writes: JSON texts and lines of verbs, gathered over the writes of one open until they are complete.
 *
 * Tools split what they write (jq at 4 KiB, tee at 8, bash at 16), and a write is told at once what is wrong with it. So
 * the text is followed byte by byte as it comes, by a machine that knows RFC 8259's grammar: what can no longer become
 * JSON is known at that byte, and the end of a document is known at its last one. What no grammar says (duplicate keys,
 * bad UTF-8, lone surrogates) is value_parse()'s to find when the document is complete.
 *
 * Thread: one. Nothing here does I/O.
 */
#ifndef TRIGGERD_FS_GATHER_H
#define TRIGGERD_FS_GATHER_H

#include "base/util.h"
#include "model/value.h"

#define GATHER_MAX ((size_t)1 << 20) /* bytes of one document, as over REST */

/* ---- the grammar ---- */

struct json_scan {
    unsigned char state;
    unsigned char string_then; /* what follows the string being read */
    unsigned char hex;         /* digits of \u that are still to come */
    const char *word;          /* rest of true, false, null */
    unsigned depth;
    unsigned char stack[VALUE_DEPTH_MAX / 8]; /* a bit a level: 1 an object */
};

enum json_scan_result {
    JSON_SCAN_MORE,     /* all of it was taken, and it is not complete */
    JSON_SCAN_COMPLETE, /* *ret_used bytes ended the document */
    JSON_SCAN_BAD,      /* this can never become JSON */
};
/* Zero-initialised is the start of a document. A top-level number is complete at the first byte that is not part of it,
 * which must be white space and is consumed. */
enum json_scan_result json_scan_feed(struct json_scan *scan, const char *text, size_t len, size_t *ret_used);
/* No more text comes: may what was fed stand as a document (a top-level number)? */
bool json_scan_end(const struct json_scan *scan);
/* Nothing but white space was fed. */
bool json_scan_blank(const struct json_scan *scan);

/* ---- one document over many writes ---- */

struct gather {
    struct json_scan scan;
    struct buf text; /* of the document so far */
};

/* Take a write. 0: taken, incomplete, or nothing but white space; 1: *ret (the caller's) is the document that it
 * completed. -EINVAL: it can not become JSON, or something follows the document; -EFBIG. After a failure nothing of the
 * document is left. */
int gather_write(struct gather *g, const char *data, size_t len, cJSON **ret);
/* The open ends: as gather_write(); -EINVAL also for what is incomplete. */
int gather_end(struct gather *g, cJSON **ret);
void gather_fini(struct gather *g);

#endif
