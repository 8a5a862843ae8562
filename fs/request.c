/* The operations, as the kernel asks for them: who answers what. */
#include "fs/internal.h"

#include <sys/statvfs.h>

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

void answer_entry(fuse_req_t req, struct node *n, const struct stat *st)
{
    struct fuse_entry_param e = {.ino = (fuse_ino_t)(uintptr_t)n,
                                 .generation = n->generation,
                                 .attr = *st,
                                 .entry_timeout = node_infos[n->kind].stays ? NAME_STAYS : 0};
    if (fuse_reply_entry(req, &e) == 0 && n->lookups++ == 0)
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

/* Answer with what the node is now; takes the reference. */
static void answer_node(fuse_req_t req, struct node *n, bool entry)
{
    struct asking *q = xmalloc(sizeof(*q));
    *q = (struct asking){req, n, entry};
    enum node_class class = node_infos[n->kind].class;
    if (class == CLASS_TEXT || class == CLASS_CONTROL || class == CLASS_MANIFEST)
        text_render(n, rendered, q);
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
        answer_node(ctx, n, true);
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
    answer_node(req, node_ref(node_of(fs_of(req), ino)), false);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
    (void)fi;
    (void)attr;
    struct node *n = node_of(fs_of(req), ino);
    enum node_class class = node_infos[n->kind].class;
    if ((to_set & FUSE_SET_ATTR_SIZE) && class != CLASS_CONTROL)
        answer_error(req, -EACCES);
    else
        answer_node(req, node_ref(n), false); /* modes, owners and times are not kept here */
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
    const struct node *n = node_of(fs_of(req), ino);
    _cleanup_(freep) char *to = xasprintf("../../triggers/%s", n->name);
    if (n->kind == NODE_LINK)
        fuse_reply_readlink(req, to);
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

static void handle_free(struct handle *h)
{
    DL_DELETE(h->node->handles, h);
    DL_DELETE2(h->fs->handles, h, of_fs_prev, of_fs_next);
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

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct node *n = node_of(fs_of(req), ino);
    enum node_class class = node_infos[n->kind].class;
    bool writes = (fi->flags & O_ACCMODE) != O_RDONLY || (fi->flags & O_TRUNC);
    if ((class == CLASS_TEXT || class == CLASS_MANIFEST) && writes)
        answer_error(req, -EACCES);
    else if (class == CLASS_TEXT || class == CLASS_CONTROL || class == CLASS_MANIFEST)
        open_text(req, n, fi);
    else
        answer_error(req, -EOPNOTSUPP);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    (void)ino;
    struct handle *h = handle_of(fi);
    if (node_infos[h->node->kind].class == CLASS_CONTROL)
        control_read(req, h, size, off);
    else
        answer_piece(req, h->text->data, h->text->len, size, off);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off,
                     struct fuse_file_info *fi)
{
    (void)ino;
    (void)off;
    struct handle *h = handle_of(fi);
    const struct fuse_ctx *ctx = fuse_req_ctx(req);
    h->uid = ctx->uid;
    h->gid = ctx->gid;
    h->pid = ctx->pid;
    control_write(req, h, data, size);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    struct handle *h = handle_of(fi);
    if (node_infos[h->node->kind].class == CLASS_CONTROL)
        control_flush(req, h);
    else
        answer_error(req, 0);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    (void)ino;
    (void)datasync;
    (void)fi;
    answer_error(req, 0);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    handle_release(handle_of(fi));
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
        answer_listing(r->req, l, r->size, 0);
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
    *r = (struct reading_dir){req, h, size};
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
    (void)parent;
    (void)name;
    (void)mode;
    answer_error(req, -EPERM);
}

static void op_remove(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    (void)parent;
    (void)name;
    answer_error(req, -EPERM);
}

static void op_symlink(fuse_req_t req, const char *to, fuse_ino_t parent, const char *name)
{
    (void)to;
    (void)parent;
    (void)name;
    answer_error(req, -EPERM);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
                      unsigned flags)
{
    (void)parent;
    (void)name;
    (void)new_parent;
    (void)new_name;
    (void)flags;
    answer_error(req, -EPERM);
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
    (void)name;
    (void)mode;
    (void)fi;
    const struct node *p = node_of(fs_of(req), parent);
    /* A file is not made by writing to it: for an endpoint that nobody listens at, that is what there is to say. */
    answer_error(req, p->kind == NODE_EMIT ? -ENOENT : -EPERM);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
    (void)ino;
    const struct statvfs st = {.f_bsize = 4096, .f_frsize = 4096, .f_namemax = 255};
    fuse_reply_statfs(req, &st);
}

static void op_init(void *ctx, struct fuse_conn_info *conn)
{
    (void)ctx;
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

void log_request(fuse_req_t req, const struct node *n, const char *what)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(req);
    log_by(n, what, ctx->uid, ctx->gid, ctx->pid);
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
    .unlink = op_remove,
    .rmdir = op_remove,
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
    while (fs->handles)
        handle_free(fs->handles);
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
    if (fs->pending == 0)
        loop_defer(fs->loop, &fs->close_task);
}
