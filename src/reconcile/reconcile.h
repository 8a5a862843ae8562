/* Reconcile: the manifest directories against what runs.
 *
 * Every change of a directory leads to one pass, at most 200 ms after the last write of a burst (a burst ends after 100
 * ms without one): the files that changed are read and parsed on the pool, then compared with what runs, and only what
 * differs is changed, in one go on the loop. What is wrong in a file is reported there and harms nothing: the resource
 * goes on as it was, its last good text kept in the store.
 *
 *   watch ─► dirty files ─► (quiet for 100 ms, no writer, at the latest 10 s) ─► read + parse (pool) ─► apply (loop)
 *
 * A resource belongs to the file that defined it first (state, kept in the store); the same id in a later file is an
 * error there. A document that turns up in another file while its own is gone moves with everything it has. A document
 * that is gone deletes its resource after 2 s in which nothing brings it back. A directory that is itself gone,
 * unmounted or on another device deletes nothing.
 *
 * Thread: the loop's.
 */
#ifndef TRIGGERD_RECONCILE_RECONCILE_H
#define TRIGGERD_RECONCILE_RECONCILE_H

#include "client/mcp_servers.h"
#include "engine/engine.h"
#include "manifest/manifest.h"

struct loop;
struct reconcile;

struct reconcile_options {
    struct loop *loop;
    struct engine *engine;
    struct mcp_servers *mcp;
    struct store_port *store;
    struct clock *clock;
    const char *const *dirs; /* absolute; in order of precedence */
    size_t n_dirs;
    const struct self_mount *avoid; /* no link leads into it; NULL: there is none */
    void (*first)(void *ctx);       /* the first pass is applied: once */
    void (*changed)(void *ctx);     /* a pass is applied (the first too); NULL: nobody asks */
    void *ctx;
};

int reconcile_create(const struct reconcile_options *options, struct reconcile **ret, struct error *err);
void reconcile_start(struct reconcile *r);
/* Look at everything again (SIGHUP). */
void reconcile_reload(struct reconcile *r);
/* Stops watching and frees; `done` exactly once, never from inside. */
void reconcile_stop(struct reconcile *r, void (*done)(void *ctx), void *ctx);

/* One file as the views show it. Texts are borrowed for the call. */
struct manifest_file_view {
    const char *path;                /* absolute */
    const struct origin *origin;     /* its commit, and whether it differs from it */
    const struct manifest *manifest; /* as last read: entries and errors */
};
void reconcile_each_file(struct reconcile *r, void (*fn)(void *ctx, const struct manifest_file_view *view), void *ctx);

/* The text that a resource has now in its file (its own document, comments and all), or last had good; owned by the
 * caller. NULL: no such resource. */
char *reconcile_text(struct reconcile *r, enum resource_kind kind, const char *id);

/* A digest of that text, never 0; 0: no such resource. */
uint64_t reconcile_digest(struct reconcile *r, enum resource_kind kind, const char *id);

/* Where it was last good; borrowed. -ENOENT: no such resource. */
int reconcile_source(struct reconcile *r, enum resource_kind kind, const char *id, const char **ret_file,
                     unsigned *ret_line);
/* What was last good of it, whatever its file says now; owned by the caller, *ret_len bytes. NULL: no such resource. */
char *reconcile_good_text(struct reconcile *r, enum resource_kind kind, const char *id, size_t *ret_len);
/* Its document as it is in its file, where that is in error (of a file that cannot be told apart, all of it), and the
 * file's manifest with the errors of `entry` (SIZE_MAX: all of them). False: it is good, or there is none. Borrowed. */
bool reconcile_bad_text(struct reconcile *r, enum resource_kind kind, const char *id, const char **ret_text,
                        size_t *ret_len, const struct manifest **ret_manifest, size_t *ret_entry);

/* ---- edits: what REST, FUSE and `apply` call; the watch's echo of them is no change ---- */

/* The outcome of a write; borrowed. code 0; -EINVAL: `errors` of the text; -EEXIST: the id is another file's; -EROFS,
 * -ENOSPC, -EACCES …: the file could not be written (message). */
struct put_result {
    int code;
    const char *message;
    const struct manifest *manifest; /* as parsed, with its errors; NULL where it did not come to that */
};
typedef void put_done_fn(void *ctx, const struct put_result *result);

/* Give the file `path` (absolute, below a manifest directory) this text: parse, validate, write a temporary file beside
 * it, sync, rename, apply; `done` when it is in force. `text` NULL deletes the file (no grace). Never from inside. */
void reconcile_put_file(struct reconcile *r, const char *path, const char *text, size_t len, put_done_fn *done,
                        void *ctx);
/* The same with a file that is not there: `DIR/ID.yaml`, or with a number behind the id where that is another's. */
void reconcile_create_file(struct reconcile *r, const char *dir, const char *id, const char *text, size_t len,
                           put_done_fn *done, void *ctx);
/* Replace one resource's document in its file, keeping the rest; text NULL: remove it. `base`: the digest that the
 * document must still have when its turn comes, else -ESTALE; 0: any. -ENOENT, -EROFS at once through done. */
void reconcile_put_resource(struct reconcile *r, enum resource_kind kind, const char *id, const char *text, size_t len,
                            uint64_t base, put_done_fn *done, void *ctx);
/* What the two above would say; nothing is written. Of a resource's text the errors have their places in it, not in its
 * file. `kind` and `id` may be those of a resource that is not there: then the text must be of it alone. Ids that the
 * file `besides` (NULL: none) has are not taken: it is to be renamed to this one. */
void reconcile_check_file(struct reconcile *r, const char *path, const char *besides, const char *text, size_t len,
                          put_done_fn *done, void *ctx);
void reconcile_check_resource(struct reconcile *r, enum resource_kind kind, const char *id, const char *text,
                              size_t len, put_done_fn *done, void *ctx);
/* The caller has changed, moved or removed these files itself (`other` may be NULL; names that are no manifest's are
 * passed over): read them now; `done` when what they say is in force. What is gone has its grace. */
void reconcile_look(struct reconcile *r, const char *path, const char *other, put_done_fn *done, void *ctx);
/* ---- several resources in one go, all of them or none: `apply` and `diff` ---- */

/* A resource as it should be. One that exists is edited in its file, the rest of which is kept; one that does not
 * becomes a file of its own in `new_dir`. Its text is valid by itself. Borrowed for the call. */
struct put_doc {
    enum resource_kind kind;
    const char *id;
    const char *text;
    size_t len;
    enum document_format format;
    size_t file; /* it stands in files[file - 1], and needs no writing; 0: it does not */
};
/* A file below a manifest directory as its reader found it: it is in force when the answer comes, whatever the watch
 * has seen of it. */
struct put_whole {
    const char *path, *text;
    size_t len;
};
struct put_request {
    const struct put_doc *docs;
    size_t n_docs;
    const struct put_whole *files;
    size_t n_files;
    const char *const *dirs; /* resources below these of which no document is among `docs` are told as deleted */
    size_t n_dirs;
    const char *new_dir; /* a manifest directory or a folder in one; NULL: the first that is writable */
    bool dry_run;        /* only tell */
};

enum put_outcome { PUT_UNCHANGED, PUT_CREATED, PUT_CHANGED, PUT_DELETED };
/* Borrowed. */
struct put_change {
    enum resource_kind kind;
    const char *id;
    enum put_outcome outcome;
    const char *file;           /* where it lives from now on */
    unsigned line;              /* 0: not known */
    const char *before, *after; /* its text: what runs, what is to; NULL: nothing */
};
struct put_set_result {
    struct put_result put;            /* code, message, manifest as of a single put */
    const struct put_change *changes; /* in the order of `docs`, then what is deleted; where the code is 0 */
    size_t n;
};
typedef void put_set_fn(void *ctx, const struct put_set_result *result);
/* `done` when all is in force (or, dry, when all is known), never from inside. -EAGAIN: a file of `files` is not any
 * more as its reader found it. */
void reconcile_put_set(struct reconcile *r, const struct put_request *request, put_set_fn *done, void *ctx);
/* Is it below a manifest directory, and a file that the watch reads? */
bool reconcile_watches(struct reconcile *r, const char *path);

/* The first writable manifest directory, or NULL. */
const char *reconcile_writable_dir(struct reconcile *r);

#endif
