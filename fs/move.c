#include "fs/move.h"

#include "fs/manifest.h"
#include "fs/real.h"
#include "fs/scratch.h"
#include "model/field.h"

#include <fcntl.h>
#include <stdio.h>

/* What a name is to the folder that it is in. */
enum name_sort {
    SORT_NONE,     /* nothing can have this name here */
    SORT_FIXED,    /* one that is always there */
    SORT_OWN,      /* a resource's manifest.yaml */
    SORT_SCRATCH,  /* in memory */
    SORT_MANIFEST, /* below a manifest directory */
    SORT_REAL,     /* likewise, no manifest */
};

static enum name_sort sort_of(const struct node *parent, const char *name)
{
    if (parent->kind == NODE_DIR) {
        if (scratch_find(parent, name))
            return SORT_SCRATCH;
        return real_manifest_name(parent, name) ? SORT_MANIFEST : SORT_REAL;
    }
    if (!node_is_home(parent))
        return SORT_NONE;
    if (streq(name, "manifest.yaml") || (parent->kind == NODE_NEW && manifest_name_ok(name)))
        return SORT_OWN;
    return tree_is_fixed(parent, name) || streq(name, "manifest.rejected.yaml") ? SORT_FIXED : SORT_SCRATCH;
}

/* ---- create ---- */

static void create_scratch(fuse_req_t req, struct node *parent, const char *name, mode_t mode,
                           struct fuse_file_info *fi)
{
    struct stat st;
    struct node *n = scratch_find(parent, name);
    if (n && (fi->flags & O_EXCL)) {
        answer_error(req, -EEXIST);
        return;
    }
    if (!n)
        n = scratch_new(parent, name, mode, NULL);
    else if (fi->flags & O_TRUNC)
        scratch_truncate(n, 0);
    if (!n) {
        answer_error(req, -ENOSPC);
        return;
    }
    struct handle *h = handle_new(n, fi);
    fi->direct_io = fi->noflush = 1;
    node_stat(n, &st);
    answer_create(req, n, &st, fi, h);
}

/* Where nobody listens an event can be emitted all the same: it reaches nobody, as over REST. The name stays nobody's. */
static void create_endpoint(fuse_req_t req, struct node *parent, const char *name, struct fuse_file_info *fi)
{
    struct stat st;
    if (!endpoint_text_valid(name)) {
        answer_error(req, -EINVAL);
        return;
    }
    struct node *n = node_get(parent, name, NODE_ENDPOINT, 0);
    struct handle *h = handle_new(n, fi);
    fi->direct_io = 1;
    node_stat(n, &st);
    answer_create(req, n, &st, fi, h);
    node_unref(n);
}

void move_create(fuse_req_t req, struct node *parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    enum name_sort sort = sort_of(parent, name);
    if (sort == SORT_REAL && scratch_name(parent, name))
        sort = SORT_SCRATCH;
    if (sort == SORT_OWN || sort == SORT_MANIFEST)
        manifest_create(req, parent, name, fi);
    else if (sort == SORT_SCRATCH)
        create_scratch(req, parent, name, mode, fi);
    else if (sort == SORT_REAL)
        real_create(req, parent, name, mode, fi);
    else if (parent->kind == NODE_EMIT)
        create_endpoint(req, parent, name, fi);
    else
        answer_error(req, -EPERM);
}

void move_symlink(fuse_req_t req, struct node *parent, const char *name, const char *to)
{
    struct stat st;
    if (scratch_name(parent, name) && sort_of(parent, name) != SORT_OWN && sort_of(parent, name) != SORT_FIXED) {
        struct node *n = scratch_find(parent, name) ? NULL : scratch_new(parent, name, 0777, to);
        if (!n) {
            answer_error(req, scratch_find(parent, name) ? -EEXIST : -ENOSPC);
            return;
        }
        node_stat(n, &st);
        answer_entry(req, n, &st);
    } else if (parent->kind == NODE_DIR) {
        real_symlink(req, parent, name, to);
    } else {
        answer_error(req, -EPERM);
    }
}

/* ---- one change on its way ---- */

struct moving {
    struct asker asker;
    struct fuse_ctx by; /* who asked */
    struct fs *fs;
    struct node *from, *to; /* references; `to` NULL: nothing is moved */
    char *name, *new_name;
    unsigned flags;
    bool folder;
    struct text *text;
    mode_t mode;
    int bad; /* what an invalid text is answered with */
    void (*start)(struct moving *m);
};

static void moving_free(struct moving *m)
{
    struct fs *fs = m->fs;
    node_unref(m->from);
    node_unref(m->to);
    free(m->name);
    free(m->new_name);
    text_unref(m->text);
    free(m);
    fs_release(fs);
}

static void finish(struct moving *m, int code)
{
    fuse_req_t req = asker_take(&m->asker);
    if (req)
        answer_error(req, code);
    moving_free(m);
}

static struct moving *moving_new(fuse_req_t req, struct node *from, const char *name, struct node *to,
                                 const char *new_name)
{
    struct moving *m = xcalloc(1, sizeof(*m));
    *m = (struct moving){.fs = from->fs, .from = node_ref(from), .name = xstrdup(name), .bad = -EBADMSG};
    m->by = *fuse_req_ctx(req);
    asker_init(&m->asker, m->fs, req);
    m->to = to ? node_ref(to) : NULL;
    m->new_name = xstrdup0(new_name);
    fs_hold(m->fs);
    return m;
}

static void settled(void *ctx)
{
    struct moving *m = ctx;
    if (asker_waits(&m->asker))
        m->start(m);
    else
        finish(m, -ETIMEDOUT); /* who asked has given it up */
}

/* After the commits that are under way. */
static void start_settled(struct moving *m, void (*start)(struct moving *m))
{
    m->start = start;
    manifest_settled(m->fs, settled, m);
}

/* What the disk says now is in force, then the answer. */
static void looked(void *ctx, const struct put_result *r)
{
    (void)r; /* the change itself was made */
    finish(ctx, 0);
}

static void look(struct moving *m)
{
    _cleanup_(freep) char *path = real_path(m->from, m->name);
    _cleanup_(freep) char *other = m->to && m->to->kind == NODE_DIR ? real_path(m->to, m->new_name) : NULL;
    if (path)
        reconcile_look(m->fs->api->reconcile, path, other, looked, m);
    else
        finish(m, 0);
}

static void unname(struct node *parent, const char *name)
{
    struct node *n = node_find(parent, name);
    if (!n)
        return;
    node_ref(n);
    manifest_discard(n);
    node_unname(n);
    node_unref(n);
}

/* ---- unlink ---- */

static void unlinked(struct real_job *j)
{
    struct moving *m = j->ctx;
    if (j->code < 0) {
        finish(m, j->code);
        return;
    }
    log_name(&m->by, m->from, m->name, "removed");
    unname(m->from, m->name);
    if (m->text && !m->folder) {
        _cleanup_(freep) char *path = real_path(m->from, m->name);
        reject_forget(m->fs, path);
        departed_add(m->fs, path, m->text);
    }
    if (m->folder || !real_manifest_name(m->from, m->name))
        finish(m, 0);
    else
        look(m);
}

static void remove_real(struct moving *m)
{
    struct real_job *j = real_remove_job(m->from, m->name, m->folder, unlinked);
    j->ctx = m;
    real_submit(j);
}

/* One that is only here so far goes without more; its text is kept for a moment. */
static void unlink_fetched(struct real_job *j)
{
    struct moving *m = j->ctx;
    struct node *n = node_find(m->from, m->name);
    if (j->code == -ENOENT && n && manifest_alive(n)) {
        unname(m->from, m->name);
        finish(m, 0);
        return;
    }
    if (j->code == 0)
        m->text = text_new(&j->buf, 0);
    remove_real(m);
}

static void unlink_settled(struct moving *m)
{
    if (!real_manifest_name(m->from, m->name)) {
        remove_real(m);
        return;
    }
    struct real_job *j = real_read_job(m->from, m->name, unlink_fetched);
    j->ctx = m;
    real_submit(j);
}

/* A resource's own manifest: there is no file to be removed yet; it is, when nothing comes back in the grace. */
static void unlink_own(struct moving *m)
{
    enum resource_kind kind;
    const char *id = node_resource(m->from, &kind);
    struct node *n = node_find(m->from, m->name);
    if (is_absent(m->fs, kind, id) && !(n && manifest_alive(n))) {
        finish(m, -ENOENT);
        return;
    }
    log_name(&m->by, m->from, m->name, "removed");
    unname(m->from, m->name);
    if (tree_resource_there(m->fs, kind, id))
        absence_begin(m->fs, kind, id);
    finish(m, 0);
}

void move_unlink(fuse_req_t req, struct node *parent, const char *name)
{
    enum name_sort sort = sort_of(parent, name);
    struct node *scratch = scratch_find(parent, name);
    if (scratch) {
        scratch_remove(scratch);
        answer_error(req, 0);
    } else if (sort == SORT_OWN) {
        start_settled(moving_new(req, parent, name, NULL, NULL), unlink_own);
    } else if (sort == SORT_MANIFEST || sort == SORT_REAL) {
        start_settled(moving_new(req, parent, name, NULL, NULL), unlink_settled);
    } else {
        answer_error(req, sort == SORT_SCRATCH ? -ENOENT : -EPERM);
    }
}

/* ---- folders ---- */

void move_mkdir(fuse_req_t req, struct node *parent, const char *name, mode_t mode)
{
    struct stat st;
    enum resource_kind kind = parent->kind == NODE_PIPELINES ? RESOURCE_PIPELINE : RESOURCE_TRIGGER;
    if (parent->kind == NODE_DIR) {
        real_mkdir(req, parent, name, mode);
    } else if (parent->kind != NODE_TRIGGERS && parent->kind != NODE_PIPELINES) {
        answer_error(req, -EPERM);
    } else if (new_dir_find(parent, name) || tree_resource_there(parent->fs, kind, name)) {
        answer_error(req, -EEXIST);
    } else if (!api_id_ok(name)) {
        answer_error(req, -EINVAL);
    } else {
        struct node *n = new_dir_add(parent, name);
        node_stat(n, &st);
        answer_entry(req, n, &st);
    }
}

static void deleted(void *ctx, struct api_answer *answer)
{
    struct moving *m = ctx;
    free(answer->body);
    int code = code_of_status(answer->status);
    if (code == -EBUSY && answer->status == 409)
        code = -EROFS;
    finish(m, code);
}

static void rmdir_settled(struct moving *m)
{
    enum resource_kind kind = m->from->kind == NODE_PIPELINES ? RESOURCE_PIPELINE : RESOURCE_TRIGGER;
    bool had_new = new_dir_remove(m->from, m->name);
    if (!tree_resource_there(m->fs, kind, m->name)) {
        finish(m, had_new ? 0 : -ENOENT);
        return;
    }
    log_name(&m->by, m->from, m->name, "deleted");
    absence_end(m->fs, kind, m->name);
    api_delete_resource(m->fs->api, kind, m->name, NULL, (struct api_call){deleted, m});
}

void move_rmdir(fuse_req_t req, struct node *parent, const char *name)
{
    struct moving *m = moving_new(req, parent, name, NULL, NULL);
    m->folder = true;
    if (parent->kind == NODE_DIR) {
        struct node *n = node_find(parent, name);
        if (n && n->kind == NODE_DIR)
            scratch_forget_below(n);
        remove_real(m);
    } else if (parent->kind == NODE_TRIGGERS || parent->kind == NODE_PIPELINES) {
        start_settled(m, rmdir_settled);
    } else {
        finish(m, -EPERM);
    }
}

/* ---- rename ---- */

/* The text is in force under its new name; what was in memory goes. */
static void committed(void *ctx, int code)
{
    struct moving *m = ctx;
    struct node *scratch = scratch_find(m->from, m->name);
    if (code == 0) {
        log_name(&m->by, m->to, m->new_name, "written");
        if (scratch)
            scratch_remove(scratch);
    }
    finish(m, code == -EINVAL ? m->bad : code);
}

static void scratch_judged(void *ctx, int code)
{
    struct moving *m = ctx;
    enum resource_kind kind;
    const char *id = node_resource(m->to, &kind);
    if (code < 0) {
        finish(m, code == -EINVAL ? m->bad : code);
        return;
    }
    if (id)
        absence_end(m->fs, kind, id);
    unname(m->to, m->new_name);
    manifest_commit(m->to, m->new_name, m->text->data, m->text->len, NULL, committed, m);
}

static void scratch_written(struct real_job *j)
{
    struct moving *m = j->ctx;
    struct node *scratch = scratch_find(m->from, m->name);
    if (j->code == 0 && scratch)
        scratch_remove(scratch);
    finish(m, j->code);
}

/* Out of memory, onto a manifest or into a directory. */
static void from_scratch(struct moving *m, enum name_sort to)
{
    struct node *n = scratch_find(m->from, m->name);
    struct buf copy = {0};
    if (!n || n->scratch->link) {
        finish(m, n ? -EPERM : -ENOENT);
        return;
    }
    buf_add(&copy, n->scratch->data.data ? n->scratch->data.data : "", n->scratch->data.len);
    m->text = text_new(&copy, 0);
    if (to == SORT_SCRATCH || (to == SORT_REAL && scratch_name(m->to, m->new_name))) {
        scratch_rename(n, m->to, m->new_name);
        finish(m, 0);
    } else if (to == SORT_MANIFEST || to == SORT_OWN) {
        manifest_judge(m->to, m->new_name, NULL, m->text->data, m->text->len, scratch_judged, m);
    } else if (to == SORT_REAL) {
        struct real_job *j = real_write_job(m->to, m->new_name, scratch_written);
        buf_add(&j->buf, m->text->data, m->text->len);
        j->mode = n->scratch->mode & 0777;
        j->ctx = m;
        real_submit(j);
    } else {
        finish(m, -EPERM);
    }
}

static int put_in_memory(struct moving *m)
{
    struct node *n = scratch_new(m->to, m->new_name, m->mode ? m->mode : 0644, NULL);
    int r = n ? scratch_set(n, m->text->data, m->text->len) : -ENOSPC;
    if (r < 0 && n)
        scratch_remove(n);
    return r;
}

static void own_fetched(void *ctx, int code, struct text *t)
{
    struct moving *m = ctx;
    enum resource_kind kind;
    const char *id = node_resource(m->from, &kind);
    m->text = t;
    if (code == 0)
        code = put_in_memory(m);
    if (code == 0) {
        unname(m->from, m->name);
        absence_begin(m->fs, kind, id);
    }
    finish(m, code);
}

/* A resource's own manifest to a name beside it: an editor's backup. */
static void from_own(struct moving *m, enum name_sort to)
{
    enum resource_kind kind;
    const char *id = node_resource(m->from, &kind);
    struct node *n;
    if (to != SORT_SCRATCH) {
        finish(m, to == SORT_FIXED || to == SORT_NONE ? -EPERM : -EXDEV);
    } else if (is_absent(m->fs, kind, id)) {
        finish(m, -ENOENT);
    } else {
        n = node_get(m->from, m->name, NODE_OWN_MANIFEST, 0);
        manifest_text(n, own_fetched, m);
        node_unref(n);
    }
}

static void renamed(struct real_job *j)
{
    struct moving *m = j->ctx;
    if (j->code < 0) {
        finish(m, j->code);
        return;
    }
    struct node *n = node_find(m->from, m->name);
    log_name(&m->by, m->to, m->new_name, "renamed to this");
    unname(m->to, m->new_name);
    /* The kernel goes on with the node that it knows under the new name; one that is something else there is looked up
     * anew, as no name is kept. */
    if (n && n->kind != NODE_MANIFEST && n->kind != NODE_FILE)
        node_rename(n, m->to, m->new_name);
    else if (n)
        unname(m->from, m->name);
    bool manifests = real_manifest_name(m->from, m->name) || real_manifest_name(m->to, m->new_name);
    if (m->text && real_manifest_name(m->from, m->name)) {
        _cleanup_(freep) char *path = real_path(m->from, m->name);
        departed_add(m->fs, path, m->text);
    }
    if (manifests)
        look(m);
    else
        finish(m, 0);
}

static void rename_real(struct moving *m)
{
    struct real_job *j = real_rename_job(m->from, m->name, m->to, m->new_name, m->flags, renamed);
    j->ctx = m;
    real_submit(j);
}

static void away_removed(struct real_job *j)
{
    struct moving *m = j->ctx;
    if (j->code < 0) {
        finish(m, j->code);
        return;
    }
    _cleanup_(freep) char *path = real_path(m->from, m->name);
    departed_add(m->fs, path, m->text);
    unname(m->from, m->name);
    look(m);
}

static void real_judged(void *ctx, int code)
{
    struct moving *m = ctx;
    if (code < 0)
        finish(m, code == -EINVAL ? m->bad : code);
    else
        rename_real(m);
}

/* The text is known, and the target is: into memory, or by the disk where the text is good for the target's name. */
static void real_fetched(struct real_job *j)
{
    struct moving *m = j->ctx;
    bool to_manifest = real_manifest_name(m->to, m->new_name);
    if (j->code < 0 && !(j->code == -EFBIG && !to_manifest)) {
        finish(m, j->code);
        return;
    }
    m->text = text_new(&j->buf, 0);
    m->mode = j->st.st_mode & 0777;
    if (scratch_name(m->to, m->new_name)) {
        int r = put_in_memory(m);
        if (r < 0) {
            finish(m, r);
            return;
        }
        struct real_job *away = real_remove_job(m->from, m->name, false, away_removed);
        away->ctx = m;
        real_submit(away);
    } else if (to_manifest) {
        _cleanup_(freep) char *path = real_path(m->from, m->name);
        manifest_judge(m->to, m->new_name, path, m->text->data, m->text->len, real_judged, m);
    } else {
        rename_real(m);
    }
}

/* A folder or a link is renamed as it is, whatever its name. */
static void real_seen(struct real_job *j)
{
    struct moving *m = j->ctx;
    if (j->code < 0) {
        finish(m, j->code);
    } else if (!S_ISREG(j->st.st_mode)) {
        rename_real(m);
    } else {
        struct real_job *next = real_read_job(m->from, m->name, real_fetched);
        next->ctx = m;
        real_submit(next);
    }
}

static void rename_settled(struct moving *m)
{
    enum name_sort from = sort_of(m->from, m->name), to = sort_of(m->to, m->new_name);
    if (m->to->kind == NODE_NEW && to == SORT_SCRATCH && manifest_name_ok(m->new_name))
        to = SORT_OWN;
    if (from == SORT_SCRATCH) {
        from_scratch(m, to);
    } else if (from == SORT_OWN) {
        from_own(m, to);
    } else if (from != SORT_MANIFEST && from != SORT_REAL) {
        finish(m, -EPERM);
    } else if (m->to->kind != NODE_DIR) {
        finish(m, -EXDEV);
    } else if (from == SORT_MANIFEST || to == SORT_MANIFEST) {
        struct real_job *j = real_lstat_job(m->from, m->name, real_seen);
        j->ctx = m;
        real_submit(j);
    } else {
        rename_real(m);
    }
}

void move_rename(fuse_req_t req, struct node *from, const char *name, struct node *to, const char *new_name,
                 unsigned flags)
{
    struct moving *m = moving_new(req, from, name, to, new_name);
    m->flags = flags;
    if (flags & ~(unsigned)RENAME_NOREPLACE)
        finish(m, -EINVAL);
    else if ((flags & RENAME_NOREPLACE) && (scratch_find(to, new_name) || tree_is_fixed(to, new_name)))
        finish(m, -EEXIST);
    else
        start_settled(m, rename_settled);
}
