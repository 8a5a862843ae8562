/* What passes through to the manifest directories. Every system call is made on the pool: a job is filled in on the loop,
 * run by a pool thread, and done on the loop again.
 *
 * A place is a manifest directory and a path below it. No part of that path is followed as a link, and none leads out of
 * the directory: links are the kernel's to resolve, which then comes back with names of ours. */
#ifndef TRIGGERD_FS_REAL_H
#define TRIGGERD_FS_REAL_H

#include "fs/internal.h"

struct place {
    char *base; /* the manifest directory, absolute */
    char *path; /* below it; "" is itself */
};

struct real_job {
    struct loop_work work;
    struct fs *fs;
    void (*run)(struct real_job *j);  /* on the pool */
    void (*done)(struct real_job *j); /* on the loop; then the job is freed */
    void *ctx;
    fuse_req_t req;
    struct node *node; /* references, or NULL */
    struct node *other;
    struct handle *handle; /* busy meanwhile */
    char *name;
    struct place place, place2;
    struct fuse_file_info fi;
    /* in and out */
    int code; /* 0 or negative errno */
    int fd;
    int flags;
    mode_t mode;
    struct stat st;
    int to_set;
    struct buf buf;
    size_t size;
    off_t off;
    struct listing *listing;
    struct statvfs *statvfs;
    bool read_only; /* its folder can not be written to */
    /* whom to tell, with `ctx` */
    found_fn *found;
    listed_fn *listed;
    void (*then)(struct real_job *j);
};

/* Where a node, or a name below it, is. False: its name is gone. */
bool real_place(const struct node *n, const char *name, struct place *ret);
char *real_path(const struct node *n, const char *name); /* absolute; NULL: its name is gone */

struct real_job *real_job_new(struct fs *fs, void (*run)(struct real_job *), void (*done)(struct real_job *));
/* With places that could not be found (-ENOENT set by the maker) it is done without being run. */
void real_submit(struct real_job *j);

/* Pool: a descriptor of the folder that holds the place (O_PATH), and the place's last part in it. Negative errno. */
int real_open_parent(const struct place *p, const char **ret_name);

/* ---- what the operations ask ---- */

bool real_is(const struct node *n); /* NODE_DIR, FILE, SYMLINK, MANIFEST */
/* May a name here be a manifest (no hidden folder on the way), and is it one by its looks? */
bool real_manifest_name(const struct node *parent, const char *name);
bool real_is_hidden(const struct node *dir);
void real_lookup(struct node *parent, const char *name, found_fn *found, void *ctx);
void real_list(struct node *n, listed_fn *listed, void *ctx);
/* What it is now, into n->seen; then then(j). */
void real_look(struct node *n, void (*then)(struct real_job *j), void *ctx);
void real_setattr(fuse_req_t req, struct node *n, const struct stat *attr, int to_set, struct handle *h);
void real_readlink(fuse_req_t req, struct node *n);
void real_mkdir(fuse_req_t req, struct node *parent, const char *name, mode_t mode);
void real_symlink(fuse_req_t req, struct node *parent, const char *name, const char *to);
void real_open(fuse_req_t req, struct node *n, struct fuse_file_info *fi);
void real_create(fuse_req_t req, struct node *parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void real_read(fuse_req_t req, struct handle *h, size_t size, off_t off);
void real_write(fuse_req_t req, struct handle *h, const char *data, size_t size, off_t off);
void real_fsync(fuse_req_t req, struct handle *h);
void real_close(struct handle *h); /* its descriptor */
void real_statfs(fuse_req_t req);
/* Jobs for others; the caller submits them. */
struct real_job *real_remove_job(struct node *parent, const char *name, bool folder, void (*done)(struct real_job *));
struct real_job *real_rename_job(struct node *from, const char *name, struct node *to, const char *new_name,
                                 unsigned flags, void (*done)(struct real_job *));
/* Reads all of a file into j->buf: at most DOCUMENT_TEXT_MAX bytes, -EFBIG past that; j->st and read_only are set. */
struct real_job *real_read_job(struct node *parent, const char *name, void (*done)(struct real_job *));
/* Its j->st, links not followed. */
struct real_job *real_lstat_job(struct node *parent, const char *name, void (*done)(struct real_job *));
/* Makes or replaces a file with j->buf, mode j->mode. */
struct real_job *real_write_job(struct node *parent, const char *name, void (*done)(struct real_job *));
/* Sets what j->to_set says of j->st. */
struct real_job *real_touch_job(struct node *parent, const char *name, void (*done)(struct real_job *));

#endif
