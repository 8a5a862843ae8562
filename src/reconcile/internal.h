/* What the files of reconcile share.
 *
 *   watch.c   trees and their events → dirty files; bursts; passes
 *   read.c    one file on the pool: read, hash, parse
 *   apply.c   what was read → what the files are; trust in directories; order of a pass
 *   decide.c  one resource: which document it follows, and what the engine is told
 *   state.c   what survives a restart: scope `manifest` of the store
 *   put.c     edits by the views, one at a time; put_set.c: several resources in one
 *   tell.c    one line of the log for each change
 *   git.c     one look at a git work tree, on the pool
 *   provenance.c  work trees: when to look, and what the files know from it
 *
 * Three things: a *file* is what was last read at a path; a *def* is one document of a file that names a resource; a
 * *resource* is a kind and an id, with its defs and the one file that owns it.
 *
 * Delays are here so that tests can shorten them.
 */
#ifndef TRIGGERD_RECONCILE_INTERNAL_H
#define TRIGGERD_RECONCILE_INTERNAL_H

#include "base/inotify.h"
#include "base/loop.h"
#include "base/util.h"
#include "manifest/loops.h"
#include "reconcile/git.h"
#include "reconcile/reconcile.h"
#include "store/store.h"

#include <uthash.h>
#include <utlist.h>

#define AREA "reconcile"
#define PASS_WORKERS 2 /* of libuv's pool; one leaves the others to the rest of the program */

struct reconcile_delays {
    int64_t quiet_ms;     /* without a write: a burst is over */
    int64_t burst_max_ms; /* … or after so long */
    int64_t writer_ms;    /* a file is read though a writer holds it open */
    int64_t grace_ms;     /* a resource without a document is deleted */
    int64_t check_ms;     /* directories are looked at (a mount over one is no event), watches tried again */
    int64_t first_ms;     /* the first pass does not wait longer for directories that do not answer */
};
#define RECONCILE_DELAYS ((struct reconcile_delays){100, 2000, 10000, 2000, 5000, 10000})

struct dir {
    struct reconcile *r;
    size_t index;
    char *path; /* without a slash at the end */
    size_t path_len;
    struct watch_tree *tree;
    bool told;             /* it is known whether it is there */
    bool here;             /* it is, and watched */
    bool scanned;          /* … and all in it was heard of */
    bool rescan;           /* a scan is under way that tells all: files not `seen` are gone */
    bool failed;           /* the last scan had an error: to be tried again */
    char *error;           /* what it said; NULL: none */
    unsigned links_marked; /* the pass before which its links were last marked, and one */
    bool moved;            /* the last look found another directory at the path than the one watched */
    bool suspect;          /* it was gone and came back: nothing is taken as deleted before a manifest is seen in it */
    bool writable;
    uint64_t dev, ino;               /* of the one watched */
    uint64_t judged_dev, judged_ino; /* as of the last pass */
    bool trusted;                    /* as of the last pass: what is not in it is gone */
    char *trouble;                   /* why not */
    bool found;                      /* some resource of it has its document in it */
    bool foreign;                    /* some came from another device, and is not in it */
    int64_t retried_ms;
};

struct resource;
struct file;

struct def {
    struct file *file;
    struct resource *res;    /* NULL: its id could not be read */
    unsigned entry;          /* of the file's manifest */
    bool good;               /* valid in itself; its id may be another file's */
    bool doubt;              /* bad, and its id may be misread: an id of the file vanished when it came */
    struct def *prev, *next; /* of the resource */
};

struct file {
    struct origin *origin; /* what its resources show of it */
    const char *path;      /* absolute; the origin's */
    UT_hash_handle hh;
    struct dir *dir; /* NULL: below none (known from an earlier life) */
    uint64_t order;  /* of first load; 0: never loaded */
    struct manifest manifest;
    char *text; /* NULL: unreadable or not present */
    size_t len;
    uint64_t hash;
    struct def *defs; /* one an entry */
    size_t n_defs;
    struct resource *owned;     /* a utlist by oprev, onext */
    char *renamed_to;           /* absolute; NULL: not known to be renamed */
    struct link_target **leads; /* where it leads, as a link; changed by links_set() */
    size_t n_leads;
    uint64_t reported; /* digest of its errors as logged; 0: none */
    bool present;      /* as last read, also in error */
    bool is_link;
    bool unclear;  /* holds documents of which it is not known which resource they are */
    bool stale;    /* errors between files are to be told anew */
    bool changed;  /* read in this pass */
    bool attended; /* among reconcile.attended */
    bool seen;     /* by the scan under way */
    unsigned busy; /* passes and edits that hold it on the pool */
    /* waiting to be read */
    bool dirty;
    bool writing;             /* somebody holds it open */
    bool created;             /* … and has not written yet, as far as is known: it may also be a link */
    int64_t dirty_ms;         /* first event since it was read */
    uint64_t epoch;           /* of its last event: a result of before is old */
    struct file *prev, *next; /* of reconcile.dirty */
};

struct resource {
    enum resource_kind kind;
    unsigned line;    /* where it was last good … */
    bool running;     /* the engine has it */
    bool lost;        /* its last good text does not parse any more (an older version wrote it) */
    bool unreachable; /* as the engine was told: ManifestsReachable=False */
    bool save;
    bool deleted; /* by a view: without a document it goes at once, whatever else is unclear */
    bool touched;
    bool told;     /* in this pass: that it is rejected, or not any more */
    bool borrowed; /* text is a part of its owner's */
    char *key;     /* kind/id */
    const char *id;
    UT_hash_handle hh;
    struct def *defs;
    struct file *owner; /* NULL: never had a good document */
    struct resource *oprev, *onext;
    const char *text; /* … its own text then, `len` bytes … */
    size_t len;
    uint64_t dev, ino; /* … and the manifest directory that it was in; 0: not known */
    char *rejected;    /* as the engine was told; NULL: accepted */
    char *loop;        /* the loop that it is in, as far as manifests tell; NULL: none */
    uint64_t mark;
    int64_t due_ms;                 /* deleted then; -1: not missing */
    struct resource *mprev, *mnext; /* of reconcile.missing, while due_ms ≥ 0 */
    struct resource *tnext;         /* of reconcile.touched */
};

/* ---- reading, on the pool ---- */

enum read_status {
    READ_GONE,  /* no such name, or nothing that is read (a directory, a FIFO) */
    READ_SAME,  /* what was known */
    READ_TEXT,  /* new text and manifest */
    READ_ERROR, /* manifest with the one error */
    READ_WAIT,  /* just created and still empty: its writer has not begun */
};

struct read_job {
    struct file *file; /* the loop's */
    uint64_t epoch;
    const char *path;
    const struct self_mount *avoid;
    bool known; /* hash and len are those of what was read last */
    uint64_t hash;
    size_t len;
    bool wait_if_empty;
    /* found */
    enum read_status status;
    char *text;
    struct manifest manifest; /* of TEXT and ERROR */
    bool is_link, read_only;
    bool traced; /* `leads` are known: the names on the way, one after the other, a link each but the last */
    char **leads;
    size_t n_leads;
    struct git_job *git; /* asks git about it, where it changed; NULL: none */
    bool looked;
};
/* `known` false: always parsed. */
void read_job_run(struct read_job *job);
void read_job_fini(struct read_job *job);

/* Of a document, for reconcile_digest(). */
uint64_t text_digest(const char *text, size_t len);
/* The whole text; 0, or negative errno (-EFBIG: over the bound). */
int read_all(int fd, struct buf *ret);

struct dir_look {
    const char *path;
    int code; /* 0 or negative errno */
    uint64_t dev, ino;
    bool writable;
};
void dir_look_run(struct dir_look *look);

struct pass {
    struct reconcile *r;
    struct read_job *jobs;
    size_t n;
    struct dir_look *looks; /* one a directory; taken when all is read */
    struct git_job *git;    /* looks at the work trees that were read from; a utlist */
    unsigned git_left;
    _Atomic size_t next, running;
    struct loop_work work[PASS_WORKERS];
    unsigned left; /* the loop's */
};

/* ---- work trees ---- */

/* Where a commit is looked for: each manifest directory, and each directory below it that has a `.git` of its own. */
struct worktree {
    unsigned refs; /* its own, and one a job */
    bool dead;
    struct reconcile *r;
    struct dir *dir;
    char *start;
    size_t start_len;
    bool nested;
    struct commit *commit; /* of all origins below that are in no nested one */
    struct spot **spots;   /* what is watched */
    size_t n_spots;
    char *root, *tree;   /* the states of origins are as of this work tree and HEAD's tree; NULL: there is none */
    char *trouble;       /* as logged */
    struct git_job *job; /* under way, not of a pass or edit; NULL: none */
    bool again;          /* look once more after it */
    bool all;            /* with all files */
    unsigned seq;        /* looks that were taken over */
    bool slow;           /* a pass waited for it in vain */
    int64_t looked_ms;
    struct timer timer;
    struct worktree *prev, *next;
};

struct git_job {
    struct worktree *w;
    struct reconcile *r; /* NULL: nobody waits for it any more */
    struct git_look look;
    char *start;             /* look.start */
    struct origin **origins; /* of look.files */
    size_t cap;
    bool counted;      /* it has a reference to each; else they live as long as it */
    struct pass *pass; /* that waits for it; NULL: none */
    bool finished;
    bool all;
    size_t wanted; /* of a pass: files that changed */
    unsigned seq;
    int64_t began_ms;
    struct loop_work work;
    struct git_job *prev, *next;
};

/* ---- links ---- */

/* A directory that links lead into. */
struct link_spot {
    struct reconcile *r;
    struct watch_tree *tree;
    unsigned refs; /* targets */
    UT_hash_handle hh;
    char dir[]; /* absolute, as the links spell it */
};

/* One name on the way; it may be a link again. */
struct link_target {
    struct link_spot *spot;
    struct file **files; /* that lead there */
    size_t n_files;
    UT_hash_handle hh;
    char path[]; /* the spot's directory, a slash, the name */
};

struct put;
struct put_set;

struct reconcile {
    struct reconcile_options options;
    struct reconcile_delays delays;
    struct loop *loop;
    struct engine *engine;
    struct store_port *store;
    struct loops *loops; /* of what runs */
    struct loop_group group;
    struct watcher *watcher;
    struct dir *dirs;
    size_t n_dirs;
    struct file *files;
    bool files_sorted;
    struct resource *resources;
    struct file *dirty;
    struct resource *missing, *touched;
    struct file **attended; /* looked at in this pass, so that it does not walk over all */
    size_t n_attended, attended_cap;
    struct file **broken; /* links that lead nowhere, and what else could not be read */
    size_t n_broken;
    struct link_spot *link_spots;
    struct link_target *link_targets;
    struct folder *folders; /* directories that came or went since the last pass */
    unsigned passes;
    uint64_t orders, marks;
    struct timer burst, late, grace, check, patience;
    int64_t burst_ms; /* when the burst began; -1: none */
    bool started, first_done, closing;
    void (*stopped)(void *ctx);
    void *stopped_ctx;
    struct pass *pass;
    bool again;                /* another pass after this one */
    struct dir_look *checking; /* under way; NULL: not now */
    struct loop_work check_work;
    struct loop_poll mounts; /* /proc/self/mountinfo: tells of every mount and unmount */
    int mounts_fd;           /* -1: it cannot be watched */
    struct put *puts;        /* the first is under way when `putting` */
    bool putting;
    struct loop_task put_task;
    struct git_lib *git;
    struct worktree *worktrees;
    struct timer git_wait; /* of the pass */
    struct timer hung;     /* at the end: a repository that does not answer is not waited for */
};

void reconcile_set_delays(struct reconcile *r, const struct reconcile_delays *delays);
int64_t reconcile_now(const struct reconcile *r);

/* links.c: `f` is read again when what is at one of `paths` (absolute) changes, comes or goes. Where that cannot be
 * watched (out of watches, permission) it is not noticed. `n` 0: it is no link. */
void links_set(struct reconcile *r, struct file *f, char *const *paths, size_t n);

/* watch.c */
int watch_open(struct reconcile *r, struct error *err);
void watch_start(struct reconcile *r);
void watch_look_again(struct reconcile *r, struct dir *d); /* rescan from scratch */
void watch_reload(struct reconcile *r);
void watch_stop_timers(struct reconcile *r);
void watch_free(struct reconcile *r);
void pass_git_done(struct pass *p);
/* Is each part of a path relative to its directory one that is read? */
bool watch_path_ok(const char *path);
/* Something changed that is no file: a pass soon. */
void watch_burst(struct reconcile *r);
/* What is due at which time, after a pass. */
void watch_schedule(struct reconcile *r);

/* reconcile.c */
struct file *file_find(struct reconcile *r, const char *path);
struct file *file_get(struct reconcile *r, const char *path); /* made where missing */
struct dir *dir_of(struct reconcile *r, const char *path);
void file_mark_dirty(struct reconcile *r, struct file *f);
void file_clean(struct reconcile *r, struct file *f);
/* Frees it where nothing needs it any more. */
void file_reap(struct reconcile *r, struct file *f);
struct resource *resource_find(struct reconcile *r, enum resource_kind kind, const char *id);
struct resource *resource_get(struct reconcile *r, enum resource_kind kind, const char *id);
void resource_own(struct resource *res, struct file *owner); /* NULL: nobody's */
/* Its text is this from now on: a part of its owner's, or a copy of its own (NULL: none). */
void resource_borrow_text(struct resource *res, const char *text, size_t len);
void resource_copy_text(struct resource *res, const char *text, size_t len);
/* What it has borrowed is about to go. */
void resource_keep_text(struct resource *res);
void resource_touch(struct reconcile *r, struct resource *res);
void resource_reap(struct reconcile *r, struct resource *res);

/* apply.c */
/* Take over what was read, and bring the engine to it. `looks` NULL: no pass, directories are as they were last judged.
 */
void apply_results(struct reconcile *r, struct read_job *jobs, size_t n, const struct dir_look *looks);
void file_forget_manifest(struct reconcile *r, struct file *f);
/* At the end of this pass the file's errors are told anew where they are stale, and the file goes where nothing needs it.
 */
void file_attend(struct reconcile *r, struct file *f);

/* decide.c */
struct def *def_of(const struct resource *res, const struct file *f);
/* Has the file a document that is the resource's, or may be a broken one of it? */
bool file_speaks_for(const struct file *f, const struct resource *res);
/* Which document the resource follows now; tells the engine. */
void decide(struct reconcile *r, struct resource *res, int64_t now);
/* It came from another device than its directory is on now. Numbers of devices change over restarts, so in the first
 * pass that says nothing where other documents of the directory are found. */
bool is_foreign(const struct reconcile *r, const struct resource *res);
void decide_remove(struct reconcile *r, struct resource *res);

/* state.c */
int state_load(struct reconcile *r, struct error *err);
struct state_batch {
    struct reconcile *r;
    struct store_group *group;
    size_t bytes;
};
void state_put(struct state_batch *b, const struct resource *res);
void state_delete(struct state_batch *b, const struct resource *res);
void state_submit(struct state_batch *b);

/* provenance.c */
#define GIT_FILES_MAX 256 /* compared within a pass; more of them soon after it */
#define GIT_WAIT_MS 50    /* that a pass waits for git, at most */
void provenance_start(struct reconcile *r);
void provenance_stop(struct reconcile *r);
void provenance_free(struct reconcile *r);
/* The commit that a file shows; NULL: it is below no manifest directory. */
struct commit *provenance_commit(struct reconcile *r, const char *path);
void provenance_dir_changed(struct reconcile *r, const struct dir *d); /* another is at the path, or none */
/* A `.git` was seen in `dir` (relative to d), or something of that name went. */
void provenance_git_seen(struct dir *d, const char *dir);
void provenance_dir_moved(struct dir *d, const char *from, const char *to);
/* A look at the work tree of the file, for a pass; NULL: there is none, or it is too slow for that. */
struct git_job *provenance_begin(struct reconcile *r, const struct file *f);
/* Run it; then pass_git_done(). The origins in it are borrowed meanwhile. */
void provenance_submit(struct git_job *job, struct pass *p);
/* The pass does not wait for it any more. */
void provenance_late(struct git_job *job);
/* `known`: its state as of what the job compares with; the origin is borrowed. */
void git_job_add(struct git_job *job, struct origin *origin, enum origin_state known);
/* Take over what was found. Frees the job. */
void provenance_end(struct git_job *job);
void git_job_drop(struct git_job *job); /* nothing is taken over */
/* Its text is another now, and no look was taken at it; `guess` is shown until there was one. */
void provenance_changed(struct reconcile *r, struct file *f, enum origin_state guess);
/* No pass is under way any more: what waited for that. */
void provenance_go_on(struct reconcile *r);

/* tell.c */
struct change {
    bool created, accepted, changed; /* accepted: after it was rejected */
    char *moved_from;                /* NULL: it did not move */
    struct buf fields;               /* names of those that changed */
};
/* What it means to the resource, as it is until now, that it follows the document from here on. */
void change_find(struct change *c, struct reconcile *r, const struct resource *res, const struct file *f,
                 const struct manifest_entry *e);
void tell_change(const struct resource *res, struct change *c); /* frees what is in it */
void tell_deleted(const struct resource *res);
void tell_refused(const struct resource *res, const char *message);

/* put.c */
void put_abandon(struct reconcile *r);
bool put_name_ok(const char *name); /* below a manifest directory: one that the watch reads */
/* `DIR/ID.END`, or `DIR/ID-NUMBER.END` from *number on, that no file has, here or on its way; as far as is known. */
char *put_free_path(struct reconcile *r, const char *dir, const char *id, const char *end, unsigned *number);
void put_set_queue(struct reconcile *r, struct put_set *set);
void put_set_ended(struct reconcile *r); /* its set was answered and freed */

/* put_set.c */
void put_set_run(struct put_set *s);     /* its turn has come; put_set_ended() follows, never from inside */
void put_set_abandon(struct put_set *s); /* it never came: answered and freed */
bool put_set_has(const struct put_set *s, const char *path);
void put_run(void *ctx); /* of reconcile.put_task */

#endif
