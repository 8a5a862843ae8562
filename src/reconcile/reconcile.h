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

#include "engine/engine.h"
#include "manifest/manifest.h"

struct loop;
struct reconcile;

struct reconcile_options {
    struct loop *loop;
    struct engine *engine;
    struct store_port *store;
    struct clock *clock;
    const char *const *dirs; /* absolute; in order of precedence */
    size_t n_dirs;
    void (*first)(void *ctx);   /* the first pass is applied: once */
    void (*changed)(void *ctx); /* a pass is applied (the first too); NULL: nobody asks */
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
/* Replace one resource's document in its file, keeping the rest; text NULL: remove it. -ENOENT, -EROFS at once through
 * done. */
void reconcile_put_resource(struct reconcile *r, enum resource_kind kind, const char *id, const char *text, size_t len,
                            put_done_fn *done, void *ctx);
/* The first writable manifest directory, or NULL. */
const char *reconcile_writable_dir(struct reconcile *r);

/* `DIR/ID.yaml`, or with a number behind the id where that file is there already (as last seen); free() it. */
char *reconcile_free_path(struct reconcile *r, const char *dir, const char *id);

#endif
