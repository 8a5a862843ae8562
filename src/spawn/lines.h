/* Lines out of bytes as they come. Pure: no loop, no I/O. Thread: any. */
#ifndef TRIGGERD_SPAWN_LINES_H
#define TRIGGERD_SPAWN_LINES_H

#include "base/util.h"

/* Zero-initialised but for `max` is empty. */
struct lines {
    size_t max; /* bytes of a line, without its newline */
    struct buf held;
    size_t seen;   /* bytes of `held` without a newline */
    size_t from;   /* where the next line begins */
    bool skipping; /* the rest of a line that was too long is still to come */
};
/* Room for `room` bytes more, and how many of them were filled. What was told before is dropped. */
char *lines_room(struct lines *l, size_t room);
void lines_filled(struct lines *l, size_t len);
/* 1: the next line, without its newline, borrowed until lines_room(); 0: there is none that is whole yet; -EMSGSIZE: one
 * is longer than `max`: called on, it is told again, until lines_skip(). */
int lines_next(struct lines *l, const char **ret, size_t *ret_len);
/* After -EMSGSIZE: go on behind that line, of which nothing is kept. */
void lines_skip(struct lines *l);
/* Bytes of a line that is not whole. */
size_t lines_rest(const struct lines *l);
void lines_fini(struct lines *l);

#endif
