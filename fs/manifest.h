/* Manifests as files: in manifests/, where a file may hold several documents, and as triggers/ID/manifest.yaml and
 * pipelines/ID/manifest.yaml, where it is one resource's own.
 *
 *   open for writing ─► writes go to a buffer of the open ─► flush: judged
 *                                                   ├ bad: EINVAL; the text and its errors are kept for `error`
 *                                                   └ good: pending, what every open reads from here on
 *                          release, or 200 ms in which the open wrote no more ─► committed (reconcile's put) ─► on disk
 *
 * An mfile is what is known of a manifest that is being written; it goes when nothing of that is left.
 */
#ifndef TRIGGERD_FS_MANIFEST_H
#define TRIGGERD_FS_MANIFEST_H

#include "fs/internal.h"

#define COMMIT_IDLE_MS 200
#define GRACE_MS 2000
#define READER_WAITS_MS 1000
#define REJECTS_MAX 200

struct mfile {
    struct node *node;         /* a reference */
    struct mfile *prev, *next; /* of fs->mfiles */
    unsigned writers;          /* opens that may write */
    struct handle *newest;     /* whose buffer was written last and is not judged yet */
    struct text *pending;      /* judged good */
    struct ticket *ticket;     /* of it */
    struct handle *by;         /* the open that it is of; NULL: it will not change any more */
    struct text *committing;   /* on its way to the disk */
    bool is_new;               /* there is nothing of it yet but what is here */
    bool wrote;                /* an open has written to it */
    struct timespec written;   /* the last write */
    uid_t uid;                 /* the last writer */
    gid_t gid;
    pid_t pid;
};

/* What was refused last, by file or resource; kept over mounts. */
struct reject {
    char *key; /* `trigger/x`, `pipeline/x`, or the path of a file */
    UT_hash_handle hh;
    struct text *text;
    char *errors; /* lines FILE:LINE:COL: error: … */
    int64_t at_ms;
};

/* A folder of a trigger or pipeline that is not yet. */
struct new_dir {
    struct node *node; /* a reference */
    struct new_dir *prev, *next;
};

/* A resource whose manifest.yaml was removed: deleted when its time is over. */
struct absence {
    struct fs *fs;
    enum resource_kind kind;
    char *id;
    struct timer timer;
    struct absence *prev, *next;
};

/* ---- open files ---- */

void manifest_open(fuse_req_t req, struct node *n, struct fuse_file_info *fi);
/* A file that is not there: below a manifest directory, or a resource's own. */
void manifest_create(fuse_req_t req, struct node *parent, const char *name, struct fuse_file_info *fi);
void manifest_read(fuse_req_t req, struct handle *h, size_t size, off_t off);
void manifest_write(fuse_req_t req, struct handle *h, const char *data, size_t size, off_t off, int flags);
void manifest_flush(fuse_req_t req, struct handle *h);
void manifest_released(struct handle *h); /* the kernel lets go of it */
void manifest_truncate(fuse_req_t req, struct node *n, struct handle *h, off_t size);
/* Size and times, where they are those of what is being written; false: as they are on disk. */
bool manifest_stat(const struct node *n, struct stat *st);
/* The time of what is being written is this one. */
void manifest_set_time(struct node *n, const struct stat *attr, int to_set);
/* The session ends: what is pending is committed. */
void manifest_end(struct fs *fs);

/* ---- texts ---- */

/* What an open reads now; the callee's reference. */
void manifest_text(struct node *n, text_fn *done, void *ctx);
/* Judge a text that would be that of a name; done: 0, or -EINVAL (the text is kept as rejected), -EIO. The text is
 * borrowed for the call. Ids of the file `besides` (absolute; NULL: none) are not taken. */
typedef void judged_fn(void *ctx, int code);
void manifest_judge(struct node *parent, const char *name, const char *besides, const char *text, size_t len,
                    judged_fn *done, void *ctx);
/* A change on its way, from the verdict that it is good until it is in force or dropped: who looks waits for those that
 * were there before. `own`: of a resource's own manifest, whose file shows nothing of it yet. */
struct ticket *ticket_new(struct fs *fs, bool own);
void ticket_end(struct fs *fs, struct ticket *t);
/* Put it in force; takes the ticket (NULL: it had none yet). */
void manifest_commit(struct node *parent, const char *name, const char *text, size_t len, struct ticket *ticket,
                     judged_fn *done, void *ctx);
/* What was there before comes back: it does not make good what was refused in its place. */
void manifest_restore(struct node *parent, const char *name, const struct text *text, judged_fn *done, void *ctx);
/* `fn` once the commits that are under way now have ended: now, or later. */
void manifest_settled(struct fs *fs, void (*fn)(void *ctx), void *ctx);
/* The same also for what is pending, but for no longer than a reader may be kept waiting. */
void manifest_settled_soon(struct fs *fs, void (*fn)(void *ctx), void *ctx);
/* Something made of `n` is on its way or may come: it is there, whatever the disk says. */
bool manifest_alive(const struct node *n);
/* Forget what is pending or being written of it: its name was taken away. */
void manifest_discard(struct node *n);

/* ---- rejected texts ---- */

const struct reject *reject_of(const struct node *n);     /* of a resource's folder or what is in it; NULL: none */
void reject_errors(const struct mount *m, struct buf *b); /* all, as validate prints them */
void reject_forget(struct fs *fs, const char *path);      /* the file is gone; NULL: none */
void rejects_free(struct mount *m);

/* ---- resources without their manifest, and folders without a resource ---- */

struct node *new_dir_find(struct node *parent, const char *name); /* borrowed; NULL: none */
struct node *new_dir_add(struct node *parent, const char *name);
bool new_dir_remove(struct node *parent, const char *name);
bool new_dir_is(const struct fs *fs, enum resource_kind kind, const char *id);
bool is_absent(const struct fs *fs, enum resource_kind kind, const char *id);
void absence_begin(struct fs *fs, enum resource_kind kind, const char *id);
void absence_end(struct fs *fs, enum resource_kind kind, const char *id);
/* While something is being written in its place the time does not run. */
void absence_pause(struct fs *fs, enum resource_kind kind, const char *id);
void absence_resume(struct fs *fs, enum resource_kind kind, const char *id);
/* A manifest that was removed or moved away: an invalid text in its place within the grace brings it back. */
struct departed {
    struct fs *fs;
    char *path;
    struct text *text;
    struct timer timer;
    struct departed *prev, *next;
};
void departed_add(struct fs *fs, const char *path, struct text *text);
struct text *departed_take(struct fs *fs, const char *path); /* NULL: there is none */
void home_free(struct fs *fs);

#endif
