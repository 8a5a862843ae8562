#include "fs/real.h"

#include "manifest/manifest.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- places ---- */

bool real_is(const struct node *n)
{
    return n->kind == NODE_DIR || n->kind == NODE_FILE || n->kind == NODE_SYMLINK || n->kind == NODE_MANIFEST;
}

bool real_place(const struct node *n, const char *name, struct place *ret)
{
    struct buf path = {0};
    if (name)
        buf_adds(&path, name);
    for (; n && !n->path; n = n->parent) {
        if (!n->key) {
            buf_fini(&path);
            return false;
        }
        char *joined = path.len > 0 ? xasprintf("%s/%s", n->name, path.data) : xstrdup(n->name);
        path.len = 0;
        buf_adds(&path, joined);
        free(joined);
    }
    if (!n) {
        buf_fini(&path);
        return false;
    }
    *ret = (struct place){xstrdup(n->path), buf_steal(&path)};
    return true;
}

static void place_fini(struct place *p)
{
    free(p->base);
    free(p->path);
}

char *real_path(const struct node *n, const char *name)
{
    struct place p;
    if (!real_place(n, name, &p))
        return NULL;
    char *path = *p.path ? xasprintf("%s/%s", p.base, p.path) : xstrdup(p.base);
    place_fini(&p);
    return path;
}

bool real_is_hidden(const struct node *dir)
{
    for (; dir && !dir->path; dir = dir->parent)
        if (dir->name[0] == '.')
            return true;
    return false;
}

bool real_manifest_name(const struct node *parent, const char *name)
{
    return manifest_name_ok(name) && !real_is_hidden(parent);
}

/* ---- jobs ---- */

struct real_job *real_job_new(struct fs *fs, void (*run)(struct real_job *), void (*done)(struct real_job *))
{
    struct real_job *j = xcalloc(1, sizeof(*j));
    j->fs = fs;
    j->run = run;
    j->done = done;
    j->fd = -1;
    fs_hold(fs);
    return j;
}

static void job_run(void *ctx)
{
    struct real_job *j = ctx;
    if (j->code == 0)
        j->run(j);
}

static void job_done(void *ctx)
{
    struct real_job *j = ctx;
    struct fs *fs = j->fs;
    j->done(j);
    if (j->handle)
        handle_idle(j->handle);
    node_unref(j->node);
    node_unref(j->other);
    place_fini(&j->place);
    place_fini(&j->place2);
    free(j->name);
    buf_fini(&j->buf);
    free(j->statvfs);
    listing_free(j->listing);
    free(j);
    fs_release(fs);
}

void real_submit(struct real_job *j)
{
    if (j->handle)
        handle_busy(j->handle);
    loop_work_submit(j->fs->loop, &j->work, job_run, job_done, j);
}

/* A job about a name below `parent`, or with name NULL about the node itself. */
static struct real_job *job_at(struct node *parent, const char *name, void (*run)(struct real_job *),
                               void (*done)(struct real_job *))
{
    struct real_job *j = real_job_new(parent->fs, run, done);
    j->node = node_ref(parent);
    j->name = xstrdup0(name);
    if (!real_place(parent, name, &j->place))
        j->code = -ENOENT;
    return j;
}

static struct real_job *job_on(struct handle *h, void (*run)(struct real_job *), void (*done)(struct real_job *))
{
    struct real_job *j = real_job_new(h->fs, run, done);
    j->handle = h;
    j->fd = h->fd;
    return j;
}

/* ---- on the pool ---- */

static int open_beneath(int base, const char *path, int flags)
{
    assert(path);
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC),
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    long fd = syscall(SYS_openat2, base, *path ? path : ".", &how, sizeof(how));
    if (fd < 0 && errno == ENOSYS)
        fd = openat(base, *path ? path : ".", flags | O_CLOEXEC);
    return fd < 0 ? -errno : (int)fd;
}

int real_open_parent(const struct place *p, const char **ret_name)
{
    assert(p->base && p->path); /* a job without a place is not run */
    _cleanup_(closep) int base = open(p->base, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (base < 0)
        return -errno;
    const char *slash = strrchr(p->path, '/');
    *ret_name = slash ? slash + 1 : *p->path ? p->path : ".";
    if (!slash)
        return steal_fd(&base);
    _cleanup_(freep) char *above = xstrndup(p->path, (size_t)(slash - p->path));
    return open_beneath(base, above, O_PATH | O_DIRECTORY);
}

static void run_stat(struct real_job *j)
{
    const char *name = "";
    _cleanup_(closep) int dir = real_open_parent(&j->place, &name);
    if (dir < 0 || fstatat(dir, name, &j->st, AT_SYMLINK_NOFOLLOW) < 0)
        j->code = dir < 0 ? dir : -errno;
}

static void run_fstat(struct real_job *j)
{
    if (fstat(j->fd, &j->st) < 0)
        j->code = -errno;
}

struct real_job *real_lstat_job(struct node *parent, const char *name, void (*done)(struct real_job *))
{
    return job_at(parent, name, run_stat, done);
}

/* ---- lookup ---- */

static enum node_kind kind_of(const struct node *parent, const char *name, const struct stat *st)
{
    if (S_ISDIR(st->st_mode))
        return NODE_DIR;
    if (S_ISLNK(st->st_mode))
        return NODE_SYMLINK;
    return S_ISREG(st->st_mode) && real_manifest_name(parent, name) ? NODE_MANIFEST : NODE_FILE;
}

/* A manifest is the same one whatever file its text is in. */
static struct node *node_of_stat(struct node *parent, const char *name, const struct stat *st)
{
    enum node_kind kind = kind_of(parent, name, st);
    uint64_t incarnation = hash_bytes(hash_bytes(0, &st->st_dev, sizeof(st->st_dev)), &st->st_ino, sizeof(st->st_ino));
    struct node *n = node_get(parent, name, kind, kind == NODE_MANIFEST ? 1 : incarnation | 1);
    if (kind != NODE_MANIFEST)
        n->ino = st->st_ino;
    n->seen = *st;
    return n;
}

static void lookup_done(struct real_job *j)
{
    struct node *n = j->code < 0 ? NULL : node_of_stat(j->node, j->name, &j->st);
    j->found(j->ctx, j->code, n);
}

void real_lookup(struct node *parent, const char *name, found_fn *found, void *ctx)
{
    struct real_job *j = job_at(parent, name, run_stat, lookup_done);
    j->found = found;
    j->ctx = ctx;
    real_submit(j);
}

static void look_done(struct real_job *j)
{
    if (j->code == 0)
        j->node->seen = j->st;
    j->then(j);
}

void real_look(struct node *n, void (*then)(struct real_job *j), void *ctx)
{
    bool open_file = !n->key && n->handles && n->handles->fd >= 0;
    struct real_job *j = job_at(n, NULL, open_file ? run_fstat : run_stat, look_done);
    j->then = then;
    j->ctx = ctx;
    if (open_file) {
        j->code = 0;
        j->handle = n->handles;
        j->fd = n->handles->fd;
    }
    real_submit(j);
}

/* ---- attributes ---- */

static int set_attributes(int dir, const char *name, int fd, const struct real_job *j)
{
    assert(fd >= 0 || name);
    const struct stat *st = &j->st;
    struct timespec times[2] = {st->st_atim, st->st_mtim};
    if (!(j->to_set & FUSE_SET_ATTR_ATIME))
        times[0].tv_nsec = j->to_set & FUSE_SET_ATTR_ATIME_NOW ? UTIME_NOW : UTIME_OMIT;
    if (!(j->to_set & FUSE_SET_ATTR_MTIME))
        times[1].tv_nsec = j->to_set & FUSE_SET_ATTR_MTIME_NOW ? UTIME_NOW : UTIME_OMIT;
    bool open_file = fd >= 0;
    if (j->to_set & FUSE_SET_ATTR_MODE) {
        int r = open_file ? fchmod(fd, st->st_mode & 07777) : fchmodat(dir, name, st->st_mode & 07777, 0);
        if (r < 0)
            return -errno;
    }
    if (j->to_set & FUSE_SET_ATTR_SIZE) {
        _cleanup_(closep) int own = open_file ? -1 : open_beneath(dir, name, O_WRONLY | O_NONBLOCK);
        if (!open_file && own < 0)
            return own;
        if (ftruncate(open_file ? fd : own, st->st_size) < 0)
            return -errno;
    }
    if (times[0].tv_nsec != UTIME_OMIT || times[1].tv_nsec != UTIME_OMIT) {
        int r = open_file ? futimens(fd, times) : utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW);
        if (r < 0)
            return -errno;
    }
    return 0; /* owner and group are those of the mount: asked for, they are as good as set */
}

static void run_setattr(struct real_job *j)
{
    const char *name = "";
    _cleanup_(closep) int dir = j->fd >= 0 ? -1 : real_open_parent(&j->place, &name);
    if (j->fd < 0 && dir < 0) {
        j->code = dir;
        return;
    }
    j->code = set_attributes(dir, name, j->fd, j);
    assert(j->fd >= 0 || name);
    if (j->code == 0 && (j->fd >= 0 ? fstat(j->fd, &j->st) : fstatat(dir, name, &j->st, AT_SYMLINK_NOFOLLOW)) < 0)
        j->code = -errno;
}

static void setattr_done(struct real_job *j)
{
    struct stat st;
    if (j->code < 0) {
        answer_error(j->req, j->code);
        return;
    }
    j->node->seen = j->st;
    node_stat(j->node, &st);
    answer_attr(j->req, &st);
}

void real_setattr(fuse_req_t req, struct node *n, const struct stat *attr, int to_set, struct handle *h)
{
    struct real_job *j = job_at(n, NULL, run_setattr, setattr_done);
    j->req = req;
    j->st = *attr;
    j->to_set = to_set;
    if (!h && !n->key)
        h = n->handles;
    if (h && h->fd >= 0) {
        j->code = 0;
        j->handle = h;
        j->fd = h->fd;
    }
    real_submit(j);
}

struct real_job *real_touch_job(struct node *parent, const char *name, void (*done)(struct real_job *))
{
    return job_at(parent, name, run_setattr, done);
}

/* ---- links and folders ---- */

static void run_readlink(struct real_job *j)
{
    const char *name = "";
    _cleanup_(closep) int dir = real_open_parent(&j->place, &name);
    char *to = buf_reserve(&j->buf, 4096);
    ssize_t n = dir < 0 ? -1 : readlinkat(dir, name, to, 4095);
    if (n < 0) {
        j->code = dir < 0 ? dir : -errno;
        return;
    }
    j->buf.len = (size_t)n;
    j->buf.data[n] = '\0';
}

static void readlink_done(struct real_job *j)
{
    if (j->code < 0)
        answer_error(j->req, j->code);
    else
        fuse_reply_readlink(j->req, j->buf.data);
}

void real_readlink(fuse_req_t req, struct node *n)
{
    struct real_job *j = job_at(n, NULL, run_readlink, readlink_done);
    j->req = req;
    real_submit(j);
}

static void entry_done(struct real_job *j)
{
    struct stat st;
    if (j->code < 0) {
        answer_error(j->req, j->code);
        return;
    }
    struct node *n = node_of_stat(j->node, j->name, &j->st);
    node_stat(n, &st);
    answer_entry(j->req, n, &st);
    node_unref(n);
}

static void run_mkdir(struct real_job *j)
{
    const char *name = "";
    _cleanup_(closep) int dir = real_open_parent(&j->place, &name);
    if (dir < 0 || mkdirat(dir, name, j->mode) < 0 || fstatat(dir, name, &j->st, AT_SYMLINK_NOFOLLOW) < 0)
        j->code = dir < 0 ? dir : -errno;
}

void real_mkdir(fuse_req_t req, struct node *parent, const char *name, mode_t mode)
{
    struct real_job *j = job_at(parent, name, run_mkdir, entry_done);
    j->req = req;
    j->mode = mode & 07777;
    real_submit(j);
}

static void run_symlink(struct real_job *j)
{
    const char *name = "";
    _cleanup_(closep) int dir = real_open_parent(&j->place, &name);
    if (dir < 0 || symlinkat(j->buf.data, dir, name) < 0 || fstatat(dir, name, &j->st, AT_SYMLINK_NOFOLLOW) < 0)
        j->code = dir < 0 ? dir : -errno;
}

void real_symlink(fuse_req_t req, struct node *parent, const char *name, const char *to)
{
    struct real_job *j = job_at(parent, name, run_symlink, entry_done);
    j->req = req;
    buf_adds(&j->buf, to);
    real_submit(j);
}

static void run_remove(struct real_job *j)
{
    const char *name = "";
    _cleanup_(closep) int dir = real_open_parent(&j->place, &name);
    if (dir < 0 || unlinkat(dir, name, j->flags) < 0)
        j->code = dir < 0 ? dir : -errno;
}

struct real_job *real_remove_job(struct node *parent, const char *name, bool folder, void (*done)(struct real_job *))
{
    struct real_job *j = job_at(parent, name, run_remove, done);
    j->flags = folder ? AT_REMOVEDIR : 0;
    return j;
}

static void run_rename(struct real_job *j)
{
    const char *name = "", *new_name = "";
    _cleanup_(closep) int from = real_open_parent(&j->place, &name);
    _cleanup_(closep) int to = from < 0 ? -1 : real_open_parent(&j->place2, &new_name);
    if (from < 0 || to < 0)
        j->code = from < 0 ? from : to;
    else if (renameat2(from, name, to, new_name, (unsigned)j->flags) < 0)
        j->code = -errno;
}

struct real_job *real_rename_job(struct node *from, const char *name, struct node *to, const char *new_name,
                                 unsigned flags, void (*done)(struct real_job *))
{
    struct real_job *j = job_at(from, name, run_rename, done);
    j->other = node_ref(to);
    j->flags = (int)flags;
    if (!real_place(to, new_name, &j->place2))
        j->code = -ENOENT;
    return j;
}

/* ---- whole texts ---- */

static void run_read_all(struct real_job *j)
{
    const char *name = "";
    _cleanup_(closep) int dir = real_open_parent(&j->place, &name);
    if (dir < 0) {
        j->code = dir;
        return;
    }
    j->read_only = faccessat(dir, ".", W_OK, AT_EACCESS) < 0;
    /* Not beneath: a manifest may be a link to where its text is. */
    _cleanup_(closep) int fd = openat(dir, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &j->st) < 0) {
        j->code = -errno;
        return;
    }
    for (;;) {
        char *to = buf_reserve(&j->buf, 16384);
        ssize_t n = read(fd, to, 16384);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            j->code = n < 0 ? -errno : 0;
            return;
        }
        j->buf.len += (size_t)n;
        if (j->buf.len > DOCUMENT_TEXT_MAX) {
            j->code = -EFBIG;
            return;
        }
    }
}

struct real_job *real_read_job(struct node *parent, const char *name, void (*done)(struct real_job *))
{
    return job_at(parent, name, run_read_all, done);
}

static void run_write_all(struct real_job *j)
{
    const char *name = "";
    _cleanup_(closep) int dir = real_open_parent(&j->place, &name);
    _cleanup_(closep) int fd =
        dir < 0 ? -1 : openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, j->mode & 0777);
    if (fd < 0) {
        j->code = dir < 0 ? dir : -errno;
        return;
    }
    for (size_t at = 0; at < j->buf.len;) {
        ssize_t n = write(fd, j->buf.data + at, j->buf.len - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            j->code = -errno;
            return;
        }
        at += (size_t)n;
    }
}

struct real_job *real_write_job(struct node *parent, const char *name, void (*done)(struct real_job *))
{
    return job_at(parent, name, run_write_all, done);
}

/* ---- listings ---- */

static mode_t type_of(const struct dirent *d, DIR *dir)
{
    struct stat st;
    if (d->d_type != DT_UNKNOWN)
        return (mode_t)DTTOIF(d->d_type);
    return fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_mode & S_IFMT : S_IFREG;
}

static void run_list(struct real_job *j)
{
    const char *name = "";
    _cleanup_(closep) int above = real_open_parent(&j->place, &name);
    int fd = above < 0 ? above : openat(above, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        j->code = above < 0 ? above : -errno;
        closep(&fd);
        return;
    }
    const struct dirent *d;
    while ((d = readdir(dir)))
        if (!streq(d->d_name, ".") && !streq(d->d_name, ".."))
            listing_add(j->listing, d->d_name, d->d_ino, type_of(d, dir));
    closedir(dir);
}

static void list_done(struct real_job *j)
{
    j->listed(j->ctx, j->code, j->code < 0 ? NULL : steal(&j->listing));
}

void real_list(struct node *n, listed_fn *listed, void *ctx)
{
    struct real_job *j = job_at(n, NULL, run_list, list_done);
    j->listing = xcalloc(1, sizeof(*j->listing));
    listing_add(j->listing, ".", n->ino, S_IFDIR);
    listing_add(j->listing, "..", n->parent->ino, S_IFDIR);
    j->listed = listed;
    j->ctx = ctx;
    real_submit(j);
}

/* ---- open files ---- */

static void run_open(struct real_job *j)
{
    const char *name = "";
    _cleanup_(closep) int dir = real_open_parent(&j->place, &name);
    j->fd = dir < 0 ? dir : openat(dir, name, j->flags | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC, j->mode & 07777);
    if (j->fd < 0 || fstat(j->fd, &j->st) < 0)
        j->code = dir < 0 ? dir : -errno;
}

/* The descriptor becomes the handle's. */
static struct handle *handle_of_job(struct real_job *j, struct node *n)
{
    struct handle *h = handle_new(n, &j->fi);
    h->fd = steal_fd(&j->fd);
    j->fi.noflush = 1;
    return h;
}

static void open_done(struct real_job *j)
{
    if (j->code < 0) {
        answer_error(j->req, j->code);
        closep(&j->fd);
        return;
    }
    struct handle *h = handle_of_job(j, j->node);
    if (fuse_reply_open(j->req, &j->fi) < 0)
        handle_release(h);
}

/* As the caller asks for; but what it writes goes where the kernel says, and it reads what it may write. */
static int flags_of(const struct fuse_file_info *fi)
{
    return fi->flags & ~(O_APPEND | O_CREAT | O_EXCL | O_DIRECT | O_ASYNC);
}

void real_open(fuse_req_t req, struct node *n, struct fuse_file_info *fi)
{
    struct real_job *j = job_at(n, NULL, run_open, open_done);
    j->req = req;
    j->fi = *fi;
    j->flags = flags_of(fi) | O_NONBLOCK;
    real_submit(j);
}

static void create_done(struct real_job *j)
{
    struct stat st;
    if (j->code < 0) {
        answer_error(j->req, j->code);
        closep(&j->fd);
        return;
    }
    struct node *n = node_of_stat(j->node, j->name, &j->st);
    struct handle *h = handle_of_job(j, n);
    node_stat(n, &st);
    answer_create(j->req, n, &st, &j->fi, h);
    node_unref(n);
}

void real_create(fuse_req_t req, struct node *parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    struct real_job *j = job_at(parent, name, run_open, create_done);
    j->req = req;
    j->fi = *fi;
    j->flags = flags_of(fi) | O_CREAT | (fi->flags & O_EXCL) | O_NONBLOCK;
    j->mode = mode;
    real_submit(j);
}

static void run_read(struct real_job *j)
{
    char *to = buf_reserve(&j->buf, j->size);
    ssize_t n = pread(j->fd, to, j->size, j->off);
    if (n < 0)
        j->code = -errno;
    else
        j->buf.len = (size_t)n;
}

static void read_done(struct real_job *j)
{
    if (j->code < 0)
        answer_error(j->req, j->code);
    else
        fuse_reply_buf(j->req, j->buf.data, j->buf.len);
}

void real_read(fuse_req_t req, struct handle *h, size_t size, off_t off)
{
    struct real_job *j = job_on(h, run_read, read_done);
    j->req = req;
    j->size = size;
    j->off = off;
    real_submit(j);
}

static void run_write(struct real_job *j)
{
    ssize_t n = pwrite(j->fd, j->buf.data, j->buf.len, j->off);
    if (n < 0)
        j->code = -errno;
    else
        j->size = (size_t)n;
}

static void write_done(struct real_job *j)
{
    if (j->code < 0)
        answer_error(j->req, j->code);
    else
        fuse_reply_write(j->req, j->size);
}

void real_write(fuse_req_t req, struct handle *h, const char *data, size_t size, off_t off)
{
    struct real_job *j = job_on(h, run_write, write_done);
    j->req = req;
    buf_add(&j->buf, data, size); /* what we were given belongs to the receive buffer */
    j->off = off;
    real_submit(j);
}

static void run_fsync(struct real_job *j)
{
    if (fsync(j->fd) < 0)
        j->code = -errno;
}

static void code_done(struct real_job *j)
{
    answer_error(j->req, j->code);
}

void real_fsync(fuse_req_t req, struct handle *h)
{
    struct real_job *j = job_on(h, run_fsync, code_done);
    j->req = req;
    real_submit(j);
}

static void run_close(struct real_job *j)
{
    close(j->fd); /* on a network file system this may take its time */
}

static void close_done(struct real_job *j)
{
    (void)j;
}

void real_close(struct handle *h)
{
    struct real_job *j = real_job_new(h->fs, run_close, close_done);
    j->fd = steal_fd(&h->fd);
    real_submit(j);
}

/* ---- the file system ---- */

static void run_statfs(struct real_job *j)
{
    if (statvfs(j->place.base, j->statvfs) < 0)
        j->code = -errno;
}

static void statfs_done(struct real_job *j)
{
    struct statvfs st = {.f_bsize = 4096, .f_frsize = 4096, .f_namemax = 255};
    if (j->code == 0) {
        st = *j->statvfs;
        st.f_namemax = 255;
    }
    fuse_reply_statfs(j->req, &st);
}

/* That of the manifests: what may be written here ends there. */
void real_statfs(fuse_req_t req)
{
    struct fs *fs = fs_of(req);
    struct real_job *j = real_job_new(fs, run_statfs, statfs_done);
    j->req = req;
    j->statvfs = xcalloc(1, sizeof(*j->statvfs));
    if (fs->mount->options.n_manifests > 0)
        j->place.base = xstrdup(fs->mount->options.manifests[0]);
    else
        j->code = -ENOENT;
    real_submit(j);
}
