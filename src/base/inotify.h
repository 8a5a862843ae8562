/* Recursive watches over inotify: trees of directories, their changes told as they happen and none lost unsaid.
 *
 * A watcher is one inotify descriptor on the loop; a tree is one base directory in it and what is below. Trees may
 * overlap. For each tree its owner is told, always from the loop and never from inside a call into this file:
 *
 *     base_came ─► event(FOUND)* ─► scanned ─► event(CHANGED | MOVED)* ─► …
 *        ▲                                          │
 *        └────────── base_gone ◄────────────────────┘ deleted, moved, unmounted, or another directory in its place
 *
 * base_came and base_gone alternate, one of them first. A directory is watched first and scanned then, and what the
 * scan finds is told as FOUND, so that nothing made in between is lost; something may be told twice, and a FOUND entry
 * may be gone or changed already: the owner compares. A directory that appears (or is moved in) is told as CREATE
 * (MOVED_TO), what is in it as FOUND, then `scanned` comes again. While a scan is under way the tree's events wait, in
 * order.
 *
 * A rename inside the tree is one MOVED. What only leaves is told as IN_MOVED_FROM, up to 20 ms late, what only comes
 * as IN_MOVED_TO; so are both halves for a directory so young that its scan and the rename may have crossed. The owner
 * carries out what it is told: with a directory that is MOVED goes what is below it, with a file its own name alone;
 * of a name that goes or comes (CREATE, DELETE, MOVED_FROM, MOVED_TO, either end of MOVED) nothing known before is
 * left, nor of what was below it. Then its picture comes to equal the directory, whatever happened and how fast.
 *
 * `overflow`: events were lost (the kernel's queue or ours was full, or a file system below was unmounted). From there
 * to the next `scanned`, everything that exists is told as FOUND: what the owner knows and does not hear of is gone.
 *
 * `error`: something cannot be watched (out of watches, permission). Told once a scan, before `scanned`; what can be
 * watched is. The owner shows it and calls watcher_retry() now and then; the error is over when `scanned` comes without
 * one before it. A base that cannot be reached is `base_gone` and then `error`; `base_gone` alone comes again where it
 * could then be seen that it does not exist.
 *
 * The base: waited for where it does not exist, by a watch on the nearest ancestor that does. Every symbolic link and
 * directory on the way to it is watched for being moved, removed or replaced, so that the swap of a link and the rename
 * of an ancestor are noticed. Below the base, links are not followed. Not noticed, as inotify cannot tell it: a file
 * system mounted over the base or over a directory on its way; changes made by other hosts on a network file system.
 *
 * Our own mount (watcher_avoid()) is left out: a base that lies in it, or would, is an error (-EXDEV), and below a base
 * it is as if it were not there.
 *
 * System calls on paths run on libuv's pool (or where `submit` puts them), at most WATCHER_JOBS_MAX at once: a file
 * system that hangs stops neither the loop nor the events of other trees.
 *
 * Cost: a kernel watch and about 250 bytes for each directory. Thread: the loop's.
 */
#ifndef TRIGGERD_BASE_INOTIFY_H
#define TRIGGERD_BASE_INOTIFY_H

#include "base/error.h"
#include "base/loop.h"
#include "base/self_mount.h"

#include <stdint.h>
#include <sys/inotify.h>

#define WATCHER_JOBS_MAX 2         /* scans at once */
#define WATCHER_HELD_MAX 65536     /* events that may wait for scans; past it, those trees overflow */
#define WATCHER_MOVE_TIMEOUT_MS 20 /* how long the first half of a rename waits for the second */

struct watcher;
struct watch_tree;

/* What lstat(2) says. */
struct watch_stat {
    uint64_t dev, ino;
    int64_t size;
    int64_t mtime_ns; /* since 1970 */
    int64_t ctime_ns; /* likewise; a rename sets it too */
    uint32_t mode;    /* with the type: S_ISREG() and so on */
};

enum watch_kind {
    WATCH_CHANGED, /* `mask` is what inotify told: one of its event bits */
    WATCH_MOVED,   /* from `old_path` to `path`, both in the tree */
    WATCH_FOUND,   /* by a scan; `stat` is set */
};

/* Valid during the callback. Names are passed byte for byte; they need not be UTF-8. */
struct watch_event {
    enum watch_kind kind;
    const char *path;     /* relative to the base, never empty */
    const char *old_path; /* MOVED only, else NULL */
    uint32_t mask; /* IN_CREATE, IN_DELETE, IN_MOVED_FROM, IN_MOVED_TO (MOVED too), IN_CLOSE_WRITE, …; FOUND: 0 */
    bool is_dir;
    const struct watch_stat *stat; /* FOUND only, else NULL */
};

struct watch_tree_options {
    const char *base; /* absolute; copied */
    uint32_t mask;    /* wanted beside CREATE, DELETE, MOVED_FROM and MOVED_TO, which always come: IN_CLOSE_WRITE,
                         IN_MODIFY (one for every write), IN_ATTRIB, … */
    bool recursive;   /* false: the base alone */
    /* May the directory (relative path) be watched? NULL: all are. Asked again after renames and in every scan; must
     * not call into the watcher. */
    bool (*descend)(void *ctx, const char *dir);
    void (*event)(void *ctx, const struct watch_event *event);
    void (*base_came)(void *ctx, const struct watch_stat *stat); /* may be NULL, as may those that follow */
    void (*base_gone)(void *ctx);
    void (*scanned)(void *ctx);
    void (*overflow)(void *ctx);
    void (*error)(void *ctx, const struct error *error);
    void *ctx;
};

/* How work gets to another thread and its completion back to the loop (never from inside the call): loop_work_submit(),
 * or another for tests and for owners with threads of their own. */
typedef void watcher_submit_fn(struct loop *loop, struct loop_work *work, void (*run)(void *ctx),
                               void (*done)(void *ctx), void *ctx);

/* `submit` NULL: loop_work_submit(). Fails with -EMFILE (too many inotify instances, or descriptors) or -ENOMEM. */
int watcher_create(struct loop *loop, watcher_submit_fn *submit, struct watcher **ret, struct error *err);

/* Before the first tree; `self` stays. */
void watcher_avoid(struct watcher *watcher, const struct self_mount *self);
/* Something was mounted: look again where the bases lie. */
void watcher_look_again(struct watcher *watcher);
/* Do so with every mount and unmount from now on: inotify does not tell that another directory lies over a base. Where
 * the kernel does not tell either, nothing happens. */
void watcher_follow_mounts(struct watcher *watcher);

/* Ends everything, its trees too, and frees it; no callback of theirs comes after this call. `done` (may be NULL) comes
 * once, later. A scan that hangs is left behind: it holds the descriptor and ends by itself, and until then the libuv
 * loop cannot be closed. May be called from a callback. */
void watcher_close(struct watcher *watcher, void (*done)(void *ctx), void *ctx);

struct watch_tree *watcher_add_tree(struct watcher *watcher, const struct watch_tree_options *options);
/* No callback of the tree comes after this call, which may be made from one. NULL does nothing. */
void watcher_remove_tree(struct watch_tree *tree);
/* Look for the base again and scan all: after an error, or to be sure. */
void watcher_retry(struct watch_tree *tree);

/* Directories watched in this tree. */
size_t watch_tree_dirs(const struct watch_tree *tree);

#endif
