/* The operations, as the kernel asks for them: who answers what. */
#include "fs/manifest.h"
#include "fs/move.h"
#include "fs/real.h"
#include "fs/scratch.h"
#include "fs/stream.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

/* ---- answers ---- */

void answer_error(fuse_req_t req, int code)
{
    fuse_reply_err(req, -code);
}

int code_of_status(int status)
{
    switch (status) {
    case 200:
    case 201:
        return 0;
    case 400:
    case 422:
        return -EINVAL;
    case 404:
        return -ENOENT;
    case 409:
    case 503:
        return -EBUSY;
    case 413:
        return -EFBIG;
    case 429:
        return -EAGAIN;
    case 507:
        return -ENOSPC;
    default:
        return -EIO;
    }
}

static struct fuse_entry_param entry_of(struct node *n, const struct stat *st)
{
    return (struct fuse_entry_param){.ino = (fuse_ino_t)(uintptr_t)n,
                                     .generation = n->generation,
                                     .attr = *st,
                                     .entry_timeout = node_infos[n->kind].stays ? NAME_STAYS : 0};
}

void answer_entry(fuse_req_t req, struct node *n, const struct stat *st)
{
    struct fuse_entry_param e = entry_of(n, st);
    if (fuse_reply_entry(req, &e) == 0 && n->lookups++ == 0)
        node_ref(n);
}

void answer_create(fuse_req_t req, struct node *n, const struct stat *st, const struct fuse_file_info *fi,
                   struct handle *h)
{
    struct fuse_entry_param e = entry_of(n, st);
    if (fuse_reply_create(req, &e, fi) < 0)
        handle_drop(h);
    else if (n->lookups++ == 0)
        node_ref(n);
}

void answer_attr(fuse_req_t req, const struct stat *st)
{
    fuse_reply_attr(req, st, 0);
}

void answer_piece(fuse_req_t req, const char *data, size_t len, size_t size, off_t off)
{
    if (off < 0 || (size_t)off >= len)
        fuse_reply_buf(req, NULL, 0);
    else
        fuse_reply_buf(req, data + off, MIN(size, len - (size_t)off));
}

/* ---- attributes ---- */

struct asking {
    fuse_req_t req;
    struct node *node; /* a reference */
    bool entry;
};

static void sized(struct asking *q, int code, size_t size, int64_t changed_ms)
{
    struct node *n = q->node;
    struct stat st;
    if (code < 0) {
        answer_error(q->req, code);
    } else {
        node_stat(n, &st);
        st.st_size = (off_t)size;
        st.st_blocks = (blkcnt_t)((size + 511) / 512);
        if (changed_ms)
            stat_time(&st, changed_ms);
        manifest_stat(n, &st);
        if (q->entry)
            answer_entry(q->req, n, &st);
        else
            answer_attr(q->req, &st);
    }
    node_unref(n);
    free(q);
}

static void rendered(void *ctx, int code, struct text *t)
{
    sized(ctx, code, t ? t->len : 0, t ? t->changed_ms : 0);
    text_unref(t);
}

static void answer_seen(struct asking *q)
{
    struct stat st;
    node_stat(q->node, &st);
    if (q->entry)
        answer_entry(q->req, q->node, &st);
    else
        answer_attr(q->req, &st);
    node_unref(q->node);
    free(q);
}

static void manifest_sized(void *ctx, int code, struct text *t)
{
    struct asking *q = ctx;
    bool alive = q->node->mfile != NULL;
    if (code == -ENOENT && alive)
        code = 0;
    sized(q, code, t ? t->len : 0, 0);
    text_unref(t);
}

static void real_looked(struct real_job *j)
{
    struct asking *q = j->ctx;
    bool known = q->node->kind == NODE_MANIFEST && q->node->mfile; /* being made, or open though it is gone */
    if (j->code < 0 && !known && (q->node->key || !q->node->handles)) {
        answer_error(q->req, j->code);
        node_unref(q->node);
        free(q);
        return;
    }
    answer_seen(q);
}

/* Answer with what the node is now; takes the reference. `fresh`: what it is on disk was looked at just now. */
static void answer_node(fuse_req_t req, struct node *n, bool entry, bool fresh)
{
    struct asking *q = xmalloc(sizeof(*q));
    *q = (struct asking){req, n, entry};
    enum node_class class = node_infos[n->kind].class;
    if (class == CLASS_TEXT || class == CLASS_CONTROL)
        text_render(n, rendered, q);
    else if (n->kind == NODE_OWN_MANIFEST)
        manifest_text(n, manifest_sized, q);
    else if (real_is(n) && !fresh)
        real_look(n, real_looked, q);
    else if (real_is(n) || class == CLASS_SCRATCH || class == CLASS_LOG)
        answer_seen(q);
    else if (n->kind == NODE_LINK)
        sized(q, 0, strlen("../../triggers/") + strlen(n->name), 0);
    else
        sized(q, 0, 0, 0);
}

static void looked_up(void *ctx, int code, struct node *n)
{
    if (code < 0)
        answer_error(ctx, code);
    else
        answer_node(ctx, n, true, !n->path);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    if (strlen(name) > 255)
        answer_error(req, -ENAMETOOLONG);
    else
        tree_lookup(node_of(fs_of(req), parent), name, looked_up, req);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t lookups)
{
    node_forget(node_of(fs_of(req), ino), lookups);
    fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t n, struct fuse_forget_data *all)
{
    for (size_t i = 0; i < n; i++)
        node_forget(node_of(fs_of(req), all[i].ino), all[i].nlookup);
    fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)fi;
    answer_node(req, node_ref(node_of(fs_of(req), ino)), false, false);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
    struct node *n = node_of(fs_of(req), ino);
    enum node_class class = node_infos[n->kind].class;
    bool size = to_set & FUSE_SET_ATTR_SIZE;
    struct handle *h = fi ? handle_of(fi) : NULL;
    int r = 0;
    if (h)
        handle_by(h, req);
    if (class == CLASS_MANIFEST && size) {
        manifest_truncate(req, n, h, attr->st_size);
        return;
    }
    if (n->kind == NODE_DIR || n->kind == NODE_FILE ||
        (n->kind == NODE_MANIFEST && !manifest_stat(n, &(struct stat){}))) {
        real_setattr(req, n, attr, to_set, h);
        return;
    }
    if (class == CLASS_SCRATCH) {
        if (size)
            r = scratch_truncate(n, attr->st_size);
        scratch_setattr(n, attr, to_set);
    } else if (class == CLASS_MANIFEST) {
        manifest_set_time(n, attr, to_set);
    } else if (size && class != CLASS_CONTROL) {
        r = -EACCES;
    }
    if (r < 0)
        answer_error(req, r);
    else
        answer_node(req, node_ref(n), false, n->kind == NODE_MANIFEST); /* modes, owners and times are not kept here */
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
    struct node *n = node_of(fs_of(req), ino);
    _cleanup_(freep) char *to = xasprintf("../../triggers/%s", n->name);
    if (n->kind == NODE_LINK)
        fuse_reply_readlink(req, to);
    else if (n->kind == NODE_SYMLINK)
        real_readlink(req, n);
    else if (n->kind == NODE_SCRATCH && n->scratch->link)
        fuse_reply_readlink(req, n->scratch->link);
    else
        answer_error(req, -EINVAL);
}

/* ---- open files ---- */

struct handle *handle_new(struct node *n, struct fuse_file_info *fi)
{
    struct handle *h = xcalloc(1, sizeof(*h));
    h->fs = n->fs;
    h->node = node_ref(n);
    h->flags = fi->flags;
    h->answered = SIZE_MAX;
    h->fd = -1;
    DL_APPEND(n->handles, h);
    DL_APPEND2(n->fs->handles, h, of_fs_prev, of_fs_next);
    fi->fh = (uint64_t)(uintptr_t)h;
    return h;
}

/* Who writes with it. */
void handle_by(struct handle *h, fuse_req_t req)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(req);
    h->uid = ctx->uid;
    h->gid = ctx->gid;
    h->pid = ctx->pid;
}

static void handle_free(struct handle *h)
{
    if (h->fd >= 0 && h->fs->closing)
        close(h->fd);
    else if (h->fd >= 0)
        real_close(h);
    DL_DELETE(h->node->handles, h);
    DL_DELETE2(h->fs->handles, h, of_fs_prev, of_fs_next);
    if (h->reader)
        stream_close(h);
    text_unref(h->text);
    gather_fini(&h->gather);
    buf_fini(&h->line);
    buf_fini(&h->buffer);
    listing_free(h->listing);
    node_unref(h->node);
    free(h);
}

void handle_busy(struct handle *h)
{
    h->busy++;
}

void handle_idle(struct handle *h)
{
    if (--h->busy == 0 && h->released)
        handle_free(h);
}

void handle_release(struct handle *h)
{
    h->released = true;
    if (h->busy == 0)
        handle_free(h);
}

void handle_drop(struct handle *h)
{
    if (node_infos[h->node->kind].class == CLASS_MANIFEST)
        manifest_released(h);
    if (h->reader)
        stream_close(h);
    handle_release(h);
}

struct opening {
    fuse_req_t req;
    struct handle *handle;
    struct fuse_file_info fi;
};

static void opened(void *ctx, int code, struct text *t)
{
    struct opening *o = ctx;
    struct handle *h = o->handle;
    h->text = t;
    if (code < 0 || fuse_reply_open(o->req, &o->fi) < 0) /* the opener is gone: there will be no release */
        h->released = true;
    if (code < 0)
        answer_error(o->req, code);
    free(o);
    handle_idle(h);
}

static void open_text(fuse_req_t req, struct node *n, struct fuse_file_info *fi)
{
    struct opening *o = xmalloc(sizeof(*o));
    fi->direct_io = 1;
    fi->noflush = node_infos[n->kind].class == CLASS_TEXT;
    *o = (struct opening){.req = req, .handle = handle_new(n, fi), .fi = *fi};
    o->fi.fh = fi->fh;
    handle_busy(o->handle);
    text_render(n, opened, o);
}

static void open_scratch(fuse_req_t req, struct node *n, struct fuse_file_info *fi)
{
    fi->direct_io = fi->noflush = 1;
    if (fi->flags & O_TRUNC)
        scratch_truncate(n, 0);
    struct handle *h = handle_new(n, fi);
    if (fuse_reply_open(req, fi) < 0)
        handle_release(h);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct node *n = node_of(fs_of(req), ino);
    bool writes = (fi->flags & O_ACCMODE) != O_RDONLY || (fi->flags & O_TRUNC);
    switch (node_infos[n->kind].class) {
    case CLASS_TEXT:
        if (writes)
            answer_error(req, -EACCES);
        else
            open_text(req, n, fi);
        break;
    case CLASS_CONTROL:
        n->given_ms = 0;
        open_text(req, n, fi);
        break;
    case CLASS_MANIFEST:
        manifest_open(req, n, fi);
        break;
    case CLASS_REAL:
        real_open(req, n, fi);
        break;
    case CLASS_SCRATCH:
        open_scratch(req, n, fi);
        break;
    case CLASS_STREAM:
    case CLASS_LOG:
        if (writes)
            answer_error(req, -EACCES);
        else if (n->kind == NODE_LOG)
            log_open(req, n, fi);
        else
            stream_open(req, n, fi);
        break;
    default:
        answer_error(req, -EOPNOTSUPP);
        break;
    }
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    (void)ino;
    struct handle *h = handle_of(fi);
    switch (node_infos[h->node->kind].class) {
    case CLASS_CONTROL:
        control_read(req, h, size, off);
        break;
    case CLASS_MANIFEST:
        manifest_read(req, h, size, off);
        break;
    case CLASS_REAL:
        real_read(req, h, size, off);
        break;
    case CLASS_STREAM:
        stream_read(req, h, size, fi->flags);
        break;
    case CLASS_LOG:
        log_read(req, h, size, off);
        break;
    case CLASS_SCRATCH:
        answer_piece(req, h->node->scratch->data.data, h->node->scratch->data.len, size, off);
        break;
    default:
        answer_piece(req, h->text->data, h->text->len, size, off);
        break;
    }
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off,
                     struct fuse_file_info *fi)
{
    (void)ino;
    struct handle *h = handle_of(fi);
    int r;
    handle_by(h, req);
    switch (node_infos[h->node->kind].class) {
    case CLASS_MANIFEST:
        manifest_write(req, h, data, size, off, fi->flags);
        break;
    case CLASS_REAL:
        real_write(req, h, data, size, off);
        break;
    case CLASS_SCRATCH:
        r = scratch_write(h->node, data, size, off, fi->flags & O_APPEND);
        if (r < 0)
            answer_error(req, r);
        else
            fuse_reply_write(req, size);
        break;
    default:
        control_write(req, h, data, size);
        break;
    }
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    struct handle *h = handle_of(fi);
    enum node_class class = node_infos[h->node->kind].class;
    if (class == CLASS_CONTROL)
        control_flush(req, h);
    else if (class == CLASS_MANIFEST)
        manifest_flush(req, h);
    else
        answer_error(req, 0);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    (void)ino;
    (void)datasync;
    struct handle *h = handle_of(fi);
    enum node_class class = node_infos[h->node->kind].class;
    if (class == CLASS_REAL)
        real_fsync(req, h);
    else if (class == CLASS_MANIFEST)
        manifest_flush(req, h);
    else
        answer_error(req, 0);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    handle_drop(handle_of(fi));
    answer_error(req, 0);
}

/* ---- folders ---- */

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct handle *h = handle_new(node_of(fs_of(req), ino), fi);
    if (fuse_reply_open(req, fi) < 0)
        handle_release(h);
}

/* One version of a folder from its first entry on: an offset is a place in it, and stays good whatever comes or goes. */
static void answer_listing(fuse_req_t req, const struct listing *l, size_t size, off_t off)
{
    char *out = xmalloc(size);
    size_t at = 0;
    for (size_t i = (size_t)off; i < l->n; i++) {
        const char *entry = l->names.data + l->starts[i];
        struct stat st = {.st_mode = (mode_t)((unsigned char)entry[0]) << 12};
        memcpy(&st.st_ino, entry + 1, sizeof(st.st_ino));
        size_t n = fuse_add_direntry(req, out + at, size - at, entry + 9, &st, (off_t)i + 1);
        if (n > size - at)
            break;
        at += n;
    }
    fuse_reply_buf(req, out, at);
    free(out);
}

struct reading_dir {
    fuse_req_t req;
    struct handle *handle;
    size_t size;
    off_t off; /* 0, but for a place that was told of another open */
};

static void listed(void *ctx, int code, struct listing *l)
{
    struct reading_dir *r = ctx;
    struct handle *h = r->handle;
    if (code < 0) {
        answer_error(r->req, code);
    } else {
        listing_free(h->listing);
        h->listing = l;
        answer_listing(r->req, l, r->size, r->off);
    }
    free(r);
    handle_idle(h);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    (void)ino;
    struct handle *h = handle_of(fi);
    if (off > 0 && h->listing) {
        answer_listing(req, h->listing, size, off);
        return;
    }
    struct reading_dir *r = xmalloc(sizeof(*r));
    *r = (struct reading_dir){req, h, size, off};
    handle_busy(h);
    tree_list(h->node, listed, r);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    handle_release(handle_of(fi));
    answer_error(req, 0);
}

/* ---- what is refused ---- */

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    (void)parent;
    (void)name;
    (void)mode;
    (void)rdev;
    answer_error(req, -EPERM);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    move_mkdir(req, node_of(fs_of(req), parent), name, mode);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    move_unlink(req, node_of(fs_of(req), parent), name);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    move_rmdir(req, node_of(fs_of(req), parent), name);
}

static void op_symlink(fuse_req_t req, const char *to, fuse_ino_t parent, const char *name)
{
    move_symlink(req, node_of(fs_of(req), parent), name, to);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
                      unsigned flags)
{
    struct fs *fs = fs_of(req);
    move_rename(req, node_of(fs, parent), name, node_of(fs, new_parent), new_name, flags);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
    (void)ino;
    (void)parent;
    (void)name;
    answer_error(req, -EPERM);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    move_create(req, node_of(fs_of(req), parent), name, mode, fi);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
    (void)ino;
    real_statfs(req);
}

static void op_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct fuse_pollhandle *poll)
{
    (void)ino;
    struct handle *h = handle_of(fi);
    if (h->node->kind == NODE_STREAM) {
        stream_poll(req, h, poll);
        return;
    }
    if (poll)
        fuse_pollhandle_destroy(poll);
    fuse_reply_poll(req, POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM);
}

static void op_init(void *ctx, struct fuse_conn_info *conn)
{
    (void)ctx;
    /* A release is a background request: it must not wait behind others, as what comes after it goes by what it does. */
    conn->max_background = UINT16_MAX;
    conn->congestion_threshold = UINT16_MAX / 4 * 3;
    /* A look that waits (for the store) keeps no other look in its folder waiting (with libfuse from 3.17 on; those
     * before do not tell the kernel). */
    conn->want |= conn->capable & FUSE_CAP_PARALLEL_DIROPS;
    /* No readdirplus: attributes that are good for no time at all would be asked for again by whoever lists them. */
    conn->want &= ~(unsigned)(FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_SPLICE_READ |
                              FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
}

/* ---- what a change is logged with ---- */

static char *path_of(const struct node *n)
{
    if (!n->parent)
        return xstrdup("");
    _cleanup_(freep) char *above = path_of(n->parent);
    return xasprintf("%s/%s", above, n->name);
}

static void log_by(const struct node *n, const char *what, unsigned uid, unsigned gid, int pid)
{
    char u[16], g[16], p[16];
    _cleanup_(freep) char *path = path_of(n);
    snprintf(u, sizeof(u), "%u", uid);
    snprintf(g, sizeof(g), "%u", gid);
    snprintf(p, sizeof(p), "%d", pid);
    log_at(LOG_LEVEL_INFO, AREA, LOG_FIELDS({"uid", u}, {"gid", g}, {"pid", p}), "%s: %s", path + 1, what);
}

void log_change(const struct handle *h, const char *what)
{
    log_by(h->node, what, h->uid, h->gid, h->pid);
}

void log_name(const struct fuse_ctx *by, const struct node *parent, const char *name, const char *what)
{
    const struct node n = {.parent = (struct node *)parent, .name = (char *)name};
    log_by(&n, what, by->uid, by->gid, by->pid);
}

const struct fuse_lowlevel_ops fs_operations = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .readlink = op_readlink,
    .mknod = op_mknod,
    .mkdir = op_mkdir,
    .unlink = op_unlink,
    .rmdir = op_rmdir,
    .symlink = op_symlink,
    .rename = op_rename,
    .link = op_link,
    .open = op_open,
    .read = op_read,
    .write = op_write,
    .flush = op_flush,
    .fsync = op_fsync,
    .release = op_release,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .releasedir = op_releasedir,
    .statfs = op_statfs,
    .poll = op_poll,
    .create = op_create,
};

/* ---- the session's own life ---- */

struct fs *fs_create(struct mount *m)
{
    struct fs *fs = xcalloc(1, sizeof(*fs));
    const struct mount_options *o = &m->options;
    fs->mount = m;
    fs->api = o->api;
    fs->loop = o->loop;
    fs->started_ms = clock_realtime_ms(o->api->clock);
    fs->uid = o->uid < 0 ? geteuid() : (uid_t)o->uid;
    fs->gid = o->gid < 0 ? getegid() : (gid_t)o->gid;
    fs->umask = (mode_t)o->umask;
    fs->root = node_root(fs);
    return fs;
}

void fs_free(struct fs *fs)
{
    home_free(fs);
    kept_texts_free(fs);
    struct handle *h, *next;
    for (h = fs->handles; h; h = next) {
        next = h->of_fs_next;
        handle_free(h);
    }
    nodes_free(fs);
    free(fs);
}

static void fs_idle(void *ctx)
{
    struct fs *fs = ctx;
    fs->closed(fs->closed_ctx);
}

void fs_release(struct fs *fs)
{
    if (--fs->pending == 0 && fs->closing)
        loop_defer(fs->loop, &fs->close_task);
}

void fs_close(struct fs *fs, void (*closed)(void *ctx), void *ctx)
{
    fs->closing = true;
    fs->closed = closed;
    fs->closed_ctx = ctx;
    loop_task_init(&fs->close_task, fs_idle, fs);
    manifest_end(fs);
    struct handle *h;
    DL_FOREACH2(fs->handles, h, of_fs_next)
    {
        if (h->reader)
            stream_close(h);
    }
    if (fs->pending == 0)
        loop_defer(fs->loop, &fs->close_task);
}
