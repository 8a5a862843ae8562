/* What the files of the FUSE view share.
 *
 *   mount.c     the life of a mount: mount, poll, unmount, again
 *   request.c   the operations as the kernel asks for them: who answers what
 *   tree.c      which files there are: lookup, listings
 *   asker.c     who waits for a change, and for how long
 *   node.c      inodes: identity, lookup counts, generations
 *   text.c      rendered files: one version an open
 *   ctl.c       ctl, status, test, emit, run: writes that do something
 *   manifest.c  manifests: a buffer an open, validated at flush, committed at release
 *   real.c      what passes through to the manifest directories, by the pool
 *   scratch.c   files in memory: editors' own
 *   stream.c    log and stream
 *   gather.c, names.c  pure parts
 *
 * One `struct fs` is one session with the kernel, from mount to unmount; after that the next mount is another one, and
 * nothing of the old inodes is left. A *node* is a name below a node, what the kernel calls an inode; a *handle* is an
 * open file. Both live in the fs and go with it.
 *
 * A request is answered exactly once. One that is answered later is counted (fs_hold()), and the fs outlives it.
 */
#ifndef TRIGGERD_FS_INTERNAL_H
#define TRIGGERD_FS_INTERNAL_H

#define FUSE_USE_VERSION 35

#include "api/look.h"
#include "base/log.h"
#include "base/loop.h"
#include "fs/gather.h"
#include "fs/mount.h"

#include <errno.h>
#include <fuse3/fuse_lowlevel.h>
#include <sys/stat.h>
#include <uthash.h>
#include <utlist.h>

#define AREA "fs"
#define LISTED_MAX 1000 /* events or runs in a listing */
/* What is read from the store is an EIO after that; with READER_WAITS_MS before it, within 5 s. */
#define STORE_WAITS_MS 3700
#define STORE_SILENT_MS 100
#define SHARED_STAYS_MS 1000 /* an endpoint that several wrote to at a time may be again */
#define GIVEN_STAYS_MS 10    /* who looked an endpoint up opens it within */
#define NAME_STAYS 3600.0    /* seconds: names that never change their meaning below their folder */

/* ---- nodes ---- */

enum node_kind {
    NODE_ROOT,
    NODE_README,
    NODE_VERSION,
    NODE_HEALTH,
    NODE_ERRORS,
    NODE_STATS,
    NODE_METRICS,
    NODE_TRIGGERS,
    NODE_TRIGGER,
    NODE_PIPELINES,
    NODE_PIPELINE,
    NODE_NEW, /* made by mkdir: a trigger or pipeline to be */
    /* below a trigger or a pipeline */
    NODE_OWN_MANIFEST,
    NODE_REJECTED,
    NODE_ERROR,
    NODE_STATUS,
    NODE_STATUS_JSON,
    NODE_CONDITIONS,
    NODE_CTL,
    NODE_TEST,
    NODE_LOG,
    NODE_STREAM,
    NODE_EVENTS, /* of a trigger, or of all */
    NODE_EVENT,
    NODE_RUNS,
    NODE_RUN,
    NODE_RUN_STATUS,
    NODE_RUN_INPUTS,
    NODE_RUN_OUTPUTS,
    NODE_RUN_CTL,
    NODE_STEPS,
    NODE_STEP,
    NODE_STDOUT,
    NODE_STDERR,
    NODE_BY_TYPE,
    NODE_BY_PIPELINE,
    NODE_BY_STATUS,
    NODE_TYPE,        /* by-type/TYPE */
    NODE_OF_PIPELINE, /* by-pipeline/PIPELINE */
    NODE_OF_STATUS,   /* by-status/STATUS */
    NODE_LINK,        /* to ../../triggers/ID */
    NODE_EMIT,
    NODE_ENDPOINT,
    NODE_SCHEMAS,
    NODE_SCHEMA, /* schemas/KIND.json */
    /* below manifests/ */
    NODE_MANIFESTS, /* holds the directories, where there are several */
    NODE_DIR,
    NODE_FILE,
    NODE_SYMLINK,
    NODE_MANIFEST,
    /* in memory, below manifests/, triggers/ID and pipelines/ID */
    NODE_SCRATCH,
    NODE_KINDS,
};

enum node_class {
    CLASS_DIR,
    CLASS_TEXT,    /* rendered at open */
    CLASS_CONTROL, /* written to, perhaps rendered too */
    CLASS_LOG,
    CLASS_STREAM,
    CLASS_MANIFEST, /* written through a buffer */
    CLASS_REAL,     /* a file of a manifest directory */
    CLASS_SCRATCH,
    CLASS_LINK,
};

struct node_info {
    enum node_class class;
    mode_t mode; /* type and permissions, before the umask */
    bool stays;  /* its name means it as long as its folder is the same */
};
extern const struct node_info node_infos[NODE_KINDS];

struct fs;
struct node;
struct handle;
struct mfile;
struct scratch;

/* A node lives while the kernel knows it, a child or a handle needs it, or it is held otherwise. */
struct node {
    struct fs *fs;
    struct node *parent; /* NULL: the root */
    char *name;
    char *key; /* in fs->nodes: parent and name; NULL: it has no name any more (gone, or replaced) */
    UT_hash_handle hh;
    enum node_kind kind;
    uint64_t lookups; /* the kernel's */
    unsigned refs;    /* children, handles, others; with lookups > 0 one more */
    uint64_t generation;
    uint64_t ino;         /* as stat shows it */
    uint64_t incarnation; /* of what it stands for: another one is another node */
    struct handle *handles;
    struct node *prev, *next; /* of fs->orphans: without a key */
    /* by kind */
    int64_t given_ms;              /* ENDPOINT: when it was looked up, of the loop's clock; 0: and opened since */
    char *path;                    /* of a manifest directory's root: absolute */
    uint64_t log_base, log_number; /* LOG: where it begins */
    struct mfile *mfile;           /* manifests: what is being written; NULL: nothing */
    struct scratch *scratch;
    struct stat seen; /* DIR, FILE, SYMLINK, MANIFEST: as last looked at */
};

/* Text of one version. */
struct text {
    unsigned refs;
    char *data;
    size_t len;
    int64_t changed_ms;
    bool read_only; /* its file can not be written to */
};
struct text *text_new(struct buf *bytes, int64_t changed_ms); /* takes the bytes */
struct text *text_ref(struct text *t);
void text_unref(struct text *t);

/* ---- open files ---- */

struct waiting_read;
struct flushing;
struct feed_reader;

struct handle {
    struct fs *fs;
    struct node *node;
    struct handle *prev, *next; /* of the node */
    struct handle *of_fs_prev, *of_fs_next;
    int flags; /* of the open */
    uid_t uid; /* of the last writer */
    gid_t gid;
    pid_t pid;
    bool released; /* by the kernel */
    unsigned busy; /* requests under way with it */
    /* a version: of texts, of manifests read, an answer of a control file */
    struct text *text;
    size_t answered; /* bytes of the answer that were read; SIZE_MAX: there is none */
    struct gather gather;
    struct buf line; /* of a ctl: so far */
    bool closed;     /* a descriptor of it was, and nothing was written since */
    /* directories */
    struct listing *listing;
    /* manifests */
    struct buf buffer;
    bool buffered;             /* the buffer is what reads see */
    bool written;              /* since the last flush */
    bool refused;              /* what the buffer holds is invalid */
    struct flushing *flushing; /* the verdict that is awaited */
    struct timer idle;
    /* real files */
    int fd;
    /* streams */
    struct feed_reader *reader;
    size_t taken;                       /* bytes of the buffer that were read */
    uint64_t log_base;                  /* what of the log is at offset 0 */
    uint64_t log_next, log_next_number; /* where its last read ended, and in which line */
    struct waiting_read *waiting;
    struct fuse_pollhandle *poll;
};

struct handle *handle_new(struct node *n, struct fuse_file_info *fi);
/* What the kernel let go goes, once nothing is under way with it. */
void handle_busy(struct handle *h);
void handle_idle(struct handle *h);
void handle_release(struct handle *h);
void handle_by(struct handle *h, fuse_req_t req);
/* The kernel lets go of it, or never had it. */
void handle_drop(struct handle *h);
static inline struct handle *handle_of(const struct fuse_file_info *fi)
{
    return (struct handle *)(uintptr_t)fi->fh;
}

/* ---- the session ---- */

/* Of a text that is put together anew each time: what it last was, and since when. */
struct seen_text {
    uint64_t hash;
    int64_t changed_ms;
};

/* Of a rendered text: for which node, and what it was rendered from. */
struct kept_text {
    uint64_t generation; /* the node's; 0: free */
    uint64_t mark;
    struct text *text;
};
#define TEXTS_KEPT 256

struct fs {
    struct mount *mount;
    struct api *api;
    struct loop *loop;
    struct fuse_session *session;
    struct node *root;
    struct node *nodes; /* by key */
    struct node *orphans;
    struct handle *handles;
    uint64_t generations;
    unsigned pending;        /* requests to be answered later, and other work that needs us */
    bool store_silent;       /* what was asked of the store last was not answered in time */
    int64_t shared_until_ms; /* endpoints have several writers at a time; of the loop's clock */
    bool closing;
    void (*closed)(void *ctx);
    void *closed_ctx;
    struct loop_task close_task;
    int64_t started_ms;
    uid_t uid;
    gid_t gid;
    mode_t umask;
    size_t scratch_bytes;
    size_t scratch_n;
    struct scratch *scratches;
    struct new_dir *new_dirs;
    struct mfile *mfiles;
    struct absence *absences;
    struct departed *departed;
    unsigned commits;       /* under way */
    struct ticket *tickets; /* changes on their way */
    unsigned own_tickets;   /* of them: of resources' own manifests */
    uint64_t ticket_number;
    uint64_t commits_ended;
    struct settled_call *settled; /* who waits for them; a utlist */
    struct seen_text seen[NODE_KINDS];
    struct kept_text kept[TEXTS_KEPT]; /* at the remainder of the generation */
};

struct fs *fs_create(struct mount *m);
/* `closed` when nothing is under way any more; never from inside. */
void fs_close(struct fs *fs, void (*closed)(void *ctx), void *ctx);
void fs_free(struct fs *fs);
static inline void fs_hold(struct fs *fs)
{
    fs->pending++;
}
void fs_release(struct fs *fs);
extern const struct fuse_lowlevel_ops fs_operations; /* request.c */

static inline struct fs *fs_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

/* For something that is asked of the store: how long whoever asked waits, and whether the answer came. Where one did not
 * come, others do not wait as long: some of them have waited already, as the kernel has one look at a time in a folder. */
static inline int64_t store_patience_ms(const struct fs *fs)
{
    return fs->store_silent ? STORE_SILENT_MS : STORE_WAITS_MS;
}
static inline void store_answered(struct fs *fs, bool answered)
{
    fs->store_silent = !answered;
}

/* ---- node.c ---- */

/* The node `name` below `parent`, made where there is none like it. */
struct node *node_get(struct node *parent, const char *name, enum node_kind kind, uint64_t incarnation);
struct node *node_find(const struct node *parent, const char *name); /* NULL: not known */
struct node *node_ref(struct node *n);
void node_unref(struct node *n);
void node_forget(struct node *n, uint64_t lookups);
/* Its name is another file's, or nobody's. */
void node_unname(struct node *n);
void node_rename(struct node *n, struct node *parent, const char *name);
static inline struct node *node_of(struct fs *fs, fuse_ino_t ino)
{
    return ino == FUSE_ROOT_ID ? fs->root : (struct node *)(uintptr_t)ino;
}
/* A folder of a trigger or pipeline. */
static inline bool node_is_home(const struct node *n)
{
    return n->kind == NODE_TRIGGER || n->kind == NODE_PIPELINE || n->kind == NODE_NEW;
}
/* The nearest of this kind, itself included, upwards; NULL: none. */
const struct node *node_above(const struct node *n, enum node_kind kind);
/* Everything of it but the size. */
void node_stat(const struct node *n, struct stat *st);
int64_t node_changed_ms(const struct node *n); /* when what it shows last changed */
void stat_time(struct stat *st, int64_t ms);
struct node *node_root(struct fs *fs);
uint64_t node_ino(uint64_t parent_ino, const char *name, uint64_t incarnation);
void nodes_free(struct fs *fs);
/* The id of the resource that it belongs to, NULL: none. */
const char *node_resource(const struct node *n, enum resource_kind *ret_kind);

/* ---- answers ---- */

void answer_error(fuse_req_t req, int code); /* a negative errno */
void answer_entry(fuse_req_t req, struct node *n, const struct stat *st);
void answer_create(fuse_req_t req, struct node *n, const struct stat *st, const struct fuse_file_info *fi,
                   struct handle *h);
void answer_attr(fuse_req_t req, const struct stat *st);
/* errno for an answer of the api. */
int code_of_status(int status);
/* A piece of a text. */
void answer_piece(fuse_req_t req, const char *data, size_t len, size_t size, off_t off);

/* ---- asker.c ---- */

/* A change that does not come in time (a disk that hangs) is an ETIMEDOUT for who asked for it, and an EINTR when a
 * signal came so long ago. It may be made all the same, later. */
#define WRITER_WAITS_MS 30000
#define INTERRUPTED_WAITS_MS 200

struct asker {
    fuse_req_t req; /* NULL: answered */
    struct fs *fs;
    struct timer patience;
    bool interrupted;
};
void asker_init(struct asker *a, struct fs *fs, fuse_req_t req);
/* The request, to be answered now. NULL: it took too long, and was answered so. */
fuse_req_t asker_take(struct asker *a);
static inline bool asker_waits(const struct asker *a)
{
    return a->req != NULL;
}

/* ---- tree.c ---- */

bool tree_is_fixed(const struct node *parent, const char *name);
bool tree_resource_there(const struct fs *fs, enum resource_kind kind, const char *id);
/* Find a name: `found` once, now or later, with a node that is the caller's reference (NULL: code). */
typedef void found_fn(void *ctx, int code, struct node *n);
void tree_lookup(struct node *parent, const char *name, found_fn *found, void *ctx);

struct listing {
    struct buf names; /* a byte of d_type, 8 of the inode, the name, NUL */
    size_t *starts;
    size_t n, cap;
};
void listing_add(struct listing *l, const char *name, uint64_t ino, mode_t type);
void listing_free(struct listing *l);
typedef void listed_fn(void *ctx, int code, struct listing *l);
void tree_list(struct node *n, listed_fn *listed, void *ctx);

/* ---- text.c ---- */

typedef void text_fn(void *ctx, int code, struct text *t); /* t: the callee's reference */
void text_render(struct node *n, text_fn *done, void *ctx);
void kept_texts_free(struct fs *fs);

/* ---- ctl.c ---- */

const char *control_verbs(const struct node *n); /* what reading a ctl says */
void control_write(fuse_req_t req, struct handle *h, const char *data, size_t size);
void control_flush(fuse_req_t req, struct handle *h);
void control_read(fuse_req_t req, struct handle *h, size_t size, off_t off);
bool control_in_use(const struct node *n); /* somebody has it open */

/* What a change is logged with. */
void log_change(const struct handle *h, const char *what);
void log_name(const struct fuse_ctx *by, const struct node *parent, const char *name, const char *what);

/* ---- the mount ---- */

struct mount {
    struct mount_options options;
    char *dir;
    struct loop_group group;
    struct fs *fs;
    /* … */
    struct loop_poll poll;
    bool polling;
    struct loop_poll mounts; /* /proc/self/mountinfo: tells of every mount and unmount */
    int mounts_fd;           /* -1: it cannot be watched */
    struct loop_work look;
    bool looking, still_there;
    struct fuse_buf buf;
    struct loop_work work;
    struct timer again;
    int64_t delay_ms;
    int code; /* of the work */
    char *why;
    bool working, stopping, told, mounted;
    dev_t dev;
    uint64_t ino;
    struct reject *rejects;
    struct log_store *logs;
    void (*stopped)(void *ctx);
    void *stopped_ctx;
};

#endif
