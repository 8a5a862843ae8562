/* Names that come and go: create, remove, rename, folders, links; by what they are the names of. */
#ifndef TRIGGERD_FS_MOVE_H
#define TRIGGERD_FS_MOVE_H

#include "fs/internal.h"

void move_create(fuse_req_t req, struct node *parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void move_mkdir(fuse_req_t req, struct node *parent, const char *name, mode_t mode);
void move_symlink(fuse_req_t req, struct node *parent, const char *name, const char *to);
void move_unlink(fuse_req_t req, struct node *parent, const char *name);
void move_rmdir(fuse_req_t req, struct node *parent, const char *name);
void move_rename(fuse_req_t req, struct node *from, const char *name, struct node *to, const char *new_name,
                 unsigned flags);

#endif
