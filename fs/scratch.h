/* Files in memory: what editors make beside the file that they edit. They have a name below manifests/, triggers/ID or
 * pipelines/ID, are seen there by everybody, and are gone with the mount. Bounded together. */
#ifndef TRIGGERD_FS_SCRATCH_H
#define TRIGGERD_FS_SCRATCH_H

#include "fs/internal.h"

#define SCRATCH_BYTES_MAX ((size_t)64 << 20)
#define SCRATCH_FILES_MAX 10000
#define SCRATCH_FILE_MAX ((size_t)16 << 20)

struct scratch {
    struct node *node;
    struct scratch *prev, *next; /* of fs->scratches */
    struct buf data;
    char *link; /* it is a link to this; NULL: a file */
    mode_t mode;
    struct timespec mtime;
};

/* Would this name below this folder be one? */
bool scratch_name(const struct node *parent, const char *name);
struct node *scratch_find(const struct node *parent, const char *name); /* NULL: there is none; borrowed */
/* NULL: there are too many. A file of the name is replaced. Borrowed: its name holds it. */
struct node *scratch_new(struct node *parent, const char *name, mode_t mode, const char *link);
/* -ENOSPC, -EFBIG */
int scratch_set(struct node *n, const char *data, size_t len);
int scratch_write(struct node *n, const char *data, size_t len, off_t off, bool append);
int scratch_truncate(struct node *n, off_t size);
void scratch_remove(struct node *n); /* its name; open files stay */
void scratch_rename(struct node *n, struct node *parent, const char *name);
void scratch_forget_below(struct node *parent);
void scratch_stat(const struct node *n, struct stat *st);
void scratch_setattr(struct node *n, const struct stat *attr, int to_set);
void scratch_list(const struct node *parent, struct listing *l);
/* With its node. */
void scratch_free(struct scratch *s);

#endif
