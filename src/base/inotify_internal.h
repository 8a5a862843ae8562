/* What the files of the watcher share. Private to it; see inotify.h for what it does.
 *
 * How it stays right:
 *
 * - A tree is *blocked* while work of its own runs on the pool. Its events are then *held*, and given to it in order
 *   when the work is done. An event of a wd that nobody is known to use is held too, as the work may have added it.
 * - Work begins only between events, with paths as they are then in our picture; whatever changes on disk meanwhile is
 *   told by a held event. Where such an event is a rename of a directory, the work may have watched another inode under
 *   the old name: so a rename that may be older than the end of the work (`epoch`: how often the kernel's queue was
 *   seen empty) is told as a directory that went and one that came, which is scanned afresh.
 * - Every scan goes down into everything below, gives each directory the wd that its path has now, and drops those it
 *   does not find. So one remedy serves all doubts: queue the directory, or the base.
 * - The kernel tells with IN_IGNORED that a wd is no more. A wd that was removed here while work received it anew is
 *   noticed by that, and as its events are lost, the tree overflows.
 */
#ifndef TRIGGERD_BASE_INOTIFY_INTERNAL_H
#define TRIGGERD_BASE_INOTIFY_INTERNAL_H

#include "base/inotify.h"
#include "base/inotify_scan.h"
#include "base/inotify_tree.h"

/* The descriptor outlives the watcher while work that uses it hangs. */
struct inotify_fd {
    int fd;
    unsigned users;
};

struct held {
    struct held *next;
    uint64_t seq, epoch;
    struct inotify_event event;
};

/* The first half of a rename. */
struct move {
    struct move *prev, *next;
    uint32_t cookie;
    bool is_dir;
    bool doubtful;         /* perhaps half of an exchange with what is not watched: something else may be there now */
    struct watch_dir *dir; /* what moves, if it is in the tree */
    struct watch_dir *parent; /* whose path may change meanwhile; NULL: it has left itself, and all that was in it */
    int64_t deadline_ms;
    char name[];
};

/* A watch on the way to a base. */
struct watch_link {
    struct watch_user user;
    struct watch_tree *tree;
    uint32_t mask;
    char *missing;
};

struct watch_job {
    struct watch_job *prev, *next;
    struct loop_work work;
    struct watcher *watcher; /* NULL: closed */
    struct watch_tree *tree; /* NULL: removed */
    struct inotify_fd *fd;
    bool is_probe;
    union {
        struct probe probe;
        struct scan scan;
    };
};

struct watch_tree {
    struct watch_tree *prev, *next;
    struct watcher *watcher;
    struct watch_tree_options options;
    char *base, *real;
    enum { BASE_UNKNOWN, BASE_GONE, BASE_HERE } state;
    bool failed;       /* gone as far as the last look could tell */
    uint64_t dev, ino; /* of the base */
    struct watch_dir *root, *names;
    size_t dir_count;
    struct watch_link *links;
    size_t link_count;
    struct move *moves;
    uint64_t last_rename;  /* a hash of both paths */
    uint64_t last_arrival; /* a hash of the path that something moved to */
    /* Work to do. */
    bool need_probe, rescan, overflowed;
    struct watch_dir **todo;
    size_t todo_from, todo_end, todo_cap;
    struct watch_job *job;
    /* Work under way. */
    bool blocked, scanned_any, dead;
    uint64_t blocked_since; /* seq */
    uint64_t work_epoch;    /* when the last work ended */
    struct error err;
    unsigned errors;
};

struct watcher {
    struct loop *loop;
    watcher_submit_fn *submit;
    const struct self_mount *avoid;
    struct loop_group group;
    struct loop_poll poll, mounts;
    int mounts_fd; /* /proc/self/mountinfo, which tells of every mount and unmount; -1: not followed */
    struct inotify_fd *fd;
    struct watch_user *users;
    struct watch_tree *trees, *dead_trees;
    struct watch_dir *dead_dirs;
    struct watch_job *jobs;
    unsigned job_count;
    struct loop_task kick_task;
    struct timer move_timer;
    struct held *held, *held_last;
    size_t held_count;
    uint64_t seq, epoch;
    int *unused; /* watch descriptors that had no user left, to be removed if they have none at the end of the call */
    size_t unused_count;
    unsigned depth;            /* calls that may still hold pointers to what is dead */
    struct buf path, old_path; /* of the event that is told */
    bool closing;
    void (*done)(void *ctx);
    void *done_ctx;
};

/* ---- inotify_state.c: the picture ---- */

/* Start what work there is, soon. */
void watcher_kick(struct watcher *w);

/* Around whatever may call the owner: pointers to directories and trees that die meanwhile stay good until the last
 * watcher_leave(), which also removes watches without users. */
void watcher_enter(struct watcher *w);
void watcher_leave(struct watcher *w);

void watcher_attach(struct watcher *w, struct watch_user *user, int wd);
void watcher_detach(struct watcher *w, struct watch_user *user);
/* Work has added a wd that perhaps nobody uses. */
void watcher_note_unused(struct watcher *w, int wd);

struct watch_dir *watch_dir_add(struct watch_tree *tree, struct watch_dir *parent, const char *name);
/* With all below it. */
void watch_dir_remove(struct watch_dir *top);
/* To be scanned. */
void watch_dir_queue(struct watch_dir *dir);
/* The directory `name` in `parent` exists: have it in the tree, to be scanned, or out of it (NULL) if not wanted. */
struct watch_dir *watch_dir_want(struct watch_dir *parent, const char *name, const char *path);

bool watch_tree_may_descend(const struct watch_tree *tree, const char *path);
void watch_tree_need_probe(struct watch_tree *tree);
void watch_tree_tell(struct watch_tree *tree, const struct watch_event *event);
void watch_tree_tell_simple(struct watch_tree *tree, void (*fn)(void *ctx));
void watch_tree_note_error(struct watch_tree *tree, const char *path, int code);
void watch_tree_tell_errors(struct watch_tree *tree);

/* ---- inotify_event.c: what the kernel tells ---- */

/* Read and handle what is there; to its end, but for a bound. */
void watcher_read_events(struct watcher *w);
/* The events that were held for a tree while it was blocked. */
void watch_tree_replay(struct watch_tree *tree);
/* Tell that events were lost, and scan all. */
void watch_tree_overflow(struct watch_tree *tree);
/* First halves of renames: those that wait are told as having left. */
void watch_tree_give_up_moves(struct watch_tree *tree);
/* Arm the timer for the moves that can expire; those of blocked trees are looked at when these are not any more. */
void watcher_arm_moves(struct watcher *w);
void watcher_on_move_timeout(struct timer *timer, void *ctx);

#endif
