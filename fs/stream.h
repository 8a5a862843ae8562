/* `log` and `stream`: what happens, as JSON lines.
 *
 * A stream gives what happens after its open, waits for more, and tells by a line {"gap": N} that N lines were lost on a
 * reader that was too slow. A log is a file: it begins with the last 10 000 lines, and grows. */
#ifndef TRIGGERD_FS_STREAM_H
#define TRIGGERD_FS_STREAM_H

#include "fs/internal.h"

void stream_open(fuse_req_t req, struct node *n, struct fuse_file_info *fi);
void stream_read(fuse_req_t req, struct handle *h, size_t size, int flags);
void stream_poll(fuse_req_t req, struct handle *h, struct fuse_pollhandle *poll);
/* Who waits is told that it is over (-EIO), and nothing waits any more. */
void stream_close(struct handle *h);

/* The node of a log as it begins now. */
struct node *log_node(struct node *parent, const char *name);
void log_stat(const struct node *n, struct stat *st);
void log_open(fuse_req_t req, struct node *n, struct fuse_file_info *fi);
void log_read(fuse_req_t req, struct handle *h, size_t size, off_t off);

#endif
