/* Writing a manifest so that a reader, and a power cut, finds the old text or the new one: a temporary file with a
 * hidden name beside it, synced, renamed, and its directory synced. Thread: the pool's. Errors: negative errno, `err`
 * filled. */
#ifndef TRIGGERD_RECONCILE_WRITE_H
#define TRIGGERD_RECONCILE_WRITE_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct write_target {
    const char *path; /* absolute */
    const char *top;  /* the manifest directory that it is below: what is missing under it is made */
    bool is_link;     /* then what it leads to is written, and the link stays */
    bool fresh;       /* nothing must be there: -EEXIST */
};

/* Keeps the mode that the file has. */
int write_file(const struct write_target *target, const char *text, size_t len, struct error *err);
int write_delete(const struct write_target *target, struct error *err);

/* The same in two steps, so that of several files either all are written or none: what can fail for want of room or
 * rights fails in the first. Zeroed memory is nothing pending. */
struct write_pending {
    char *temporary, *path; /* the text, and where it goes */
    bool fresh;
    bool renamed; /* it is there, also where the commit failed after that */
};
int write_begin(const struct write_target *target, const char *text, size_t len, struct write_pending *ret,
                struct error *err);
int write_commit(struct write_pending *p, struct error *err);
void write_abandon(struct write_pending *p);

/* -EAGAIN: the file's text is not the one with this hash any more. */
int write_check(const char *path, uint64_t hash, struct error *err);

#endif
