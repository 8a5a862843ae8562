/* The watcher's picture of its directories: who uses which watch descriptor, and who lies in whom.
 *
 * The kernel gives one watch descriptor (wd) for an inode, however many paths and trees lead to it: a wd has a list of
 * users, which are directories of trees, and links on the way to a base. A directory knows its parent and its own name,
 * so that a rename costs O(1) wherever it is. Private to the watcher. Thread: the loop's.
 */
#ifndef TRIGGERD_BASE_INOTIFY_TREE_H
#define TRIGGERD_BASE_INOTIFY_TREE_H

#include "base/util.h"

#include <uthash.h>

struct watch_tree;

/* wd -> users. The first of a list is the one in the hash. */
struct watch_user {
    UT_hash_handle hh;
    struct watch_user *next;
    int wd; /* -1: none */
    bool is_link;
};

void wd_attach(struct watch_user **table, struct watch_user *user, int wd);
/* Returns true if nobody uses the wd any more. The user has none afterwards; one without stays as it is (false). */
bool wd_detach(struct watch_user **table, struct watch_user *user);
struct watch_user *wd_find(struct watch_user *table, int wd);

struct dir_key {
    struct watch_dir *parent; /* NULL: the base */
    char name[];
};

struct watch_dir {
    struct watch_user user;
    UT_hash_handle hh; /* in the tree's names, by the bytes of *key */
    struct dir_key *key;
    struct watch_tree *tree;
    struct watch_dir *children, *prev, *next;
    bool queued;   /* to be scanned */
    bool scanning; /* in the scan under way */
    bool seen;     /* by the scan of its parent */
    bool deleted;  /* the inode is: nothing to watch again */
    bool dead;     /* taken out of its tree, to be freed */
};

/* A directory `name` in `parent` (NULL: the base; then it is in no table). */
struct watch_dir *dir_create(struct watch_dir **names, struct watch_tree *tree, struct watch_dir *parent,
                             const char *name);
/* Take a directory without children out of the tree; its memory stays. */
void dir_unlink(struct watch_dir **names, struct watch_dir *dir);
void dir_free(struct watch_dir *dir);

struct watch_dir *dir_find(struct watch_dir *names, struct watch_dir *parent, const char *name);
/* Not the base, and not into itself (dir_is_within()); the name must be free there. */
void dir_rename(struct watch_dir **names, struct watch_dir *dir, struct watch_dir *parent, const char *name);
/* Is `dir` the directory `outer`, or below it? */
bool dir_is_within(const struct watch_dir *dir, const struct watch_dir *outer);

/* Write the path from the base to `name` in `dir` (NULL: to dir itself) into *out, replacing what is there. */
void dir_path(const struct watch_dir *dir, const char *name, struct buf *out);

#endif
