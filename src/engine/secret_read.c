#include "engine/secret_read.h"

#include "base/loop.h"
#include "base/self_mount.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

struct wanted {
    size_t index; /* of the secret */
    char *path;
    char *dir; /* of the manifest; NULL: not known */
    char *value;
    char *error;
};

struct secret_read {
    struct loop_work work;
    struct secrets *secrets; /* NULL: abandoned */
    char **dirs;             /* those there are, `.` as it is */
    size_t n_dirs;
    const struct self_mount *avoid;
    struct wanted *files;
    size_t n_files;
    void (*done)(void *ctx);
    void *ctx;
};

char *secret_dir_of(const char *manifest)
{
    const char *slash = manifest ? strrchr(manifest, '/') : NULL;
    if (!manifest)
        return NULL;
    return !slash ? xstrdup(".") : slash == manifest ? xstrdup("/") : xstrndup(manifest, (size_t)(slash - manifest));
}

/* ---- one file ---- */

/* What follows `dir` in `path`; NULL: it is not below it. */
static const char *below(const char *dir, const char *path)
{
    size_t n = strlen(dir);
    while (n > 0 && dir[n - 1] == '/')
        n--;
    if (strncmp(dir, path, n) != 0 || path[n] != '/')
        return NULL;
    while (path[n] == '/')
        n++;
    return path + n;
}

/* Where an open file really lies. */
static int place_of(int fd, char out[PATH_MAX])
{
    char link[64];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, out, PATH_MAX - 1);
    if (n < 0)
        return -errno;
    out[n] = '\0';
    return 0;
}

static int read_text(int fd, char **ret, struct error *err)
{
    char *text = xmalloc(SECRET_FILE_MAX + 1);
    size_t len = 0;
    ssize_t n = 1;
    while (n > 0 && len <= SECRET_FILE_MAX) {
        n = read(fd, text + len, SECRET_FILE_MAX + 1 - len);
        if (n < 0 && errno == EINTR)
            n = 1;
        else if (n > 0)
            len += (size_t)n;
    }
    int rc = 0;
    if (n < 0)
        rc = error_set(err, -errno, "%s", strerror(errno));
    else if (len > SECRET_FILE_MAX)
        rc = error_set(err, -EFBIG, "has more than %d bytes", SECRET_FILE_MAX);
    else if (memchr(text, '\0', len))
        rc = error_set(err, -EILSEQ, "holds a NUL byte");
    if (rc == 0) {
        len -= len > 0 && text[len - 1] == '\n';
        *ret = xstrndup(text, len);
    }
    explicit_bzero(text, SECRET_FILE_MAX + 1);
    free(text);
    return rc;
}

/* `fd` is a handle without rights (O_PATH), so that nothing happened yet to what it leads to. `real_dir` is where `dir`
 * leads. */
static int read_checked(int fd, const struct self_mount *avoid, const char *dir, const char *real_dir, char **ret,
                        struct error *err)
{
    char place[PATH_MAX], link[64];
    struct stat st = {0};
    int rc = place_of(fd, place);
    if (rc == 0 && fstat(fd, &st) < 0)
        rc = -errno;
    if (rc < 0)
        return error_set(err, rc, "%s", strerror(-rc));
    if (!below(real_dir, place))
        return error_set(err, -EACCES, "leads out of %s", dir);
    if (self_mount_is(avoid, st.st_dev))
        return error_set(err, -ELOOP, "lies in triggerd's own mount (SelfMount)");
    if (!S_ISREG(st.st_mode))
        return error_set(err, -EINVAL, "is no regular file");
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    _cleanup_(closep) int readable = open(link, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (readable < 0)
        return error_set(err, -errno, "%s", strerror(errno));
    return read_text(readable, ret, err);
}

/* By way of one directory. -ENOENT: it is not there, -EXDEV: the path is none below it; then nothing was set. The
 * directory is held, so that a link to it may be swapped meanwhile. */
static int read_in(const struct self_mount *avoid, const char *dir, const char *path, char **ret, struct error *err)
{
    char real_dir[PATH_MAX] = "";
    _cleanup_(closep) int dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int rc = dir_fd < 0 ? -errno : place_of(dir_fd, real_dir);
    const char *rest = path[0] != '/' ? path : below(dir, path);
    if (rc == 0 && !rest)
        rest = below(real_dir, path);
    if (!rest)
        return -EXDEV;
    _cleanup_(closep) int fd = rc == 0 ? openat(dir_fd, *rest ? rest : ".", O_PATH | O_CLOEXEC) : -1;
    if (rc == 0 && fd < 0)
        rc = -errno;
    if (rc == 0)
        return read_checked(fd, avoid, dir, real_dir, ret, err);
    return rc == -ENOENT || rc == -ENOTDIR ? -ENOENT : error_set(err, rc, "%s: %s", dir, strerror(-rc));
}

static char *names_of(char *const *dirs, size_t n, const char *manifest_dir)
{
    struct buf b = {0};
    for (size_t i = 0; i < n; i++)
        if (!streq(dirs[i], ".") || manifest_dir)
            buf_printf(&b, "%s%s", b.len ? ", " : "", streq(dirs[i], ".") ? manifest_dir : dirs[i]);
    return b.len ? buf_steal(&b) : xstrdup("no directory");
}

static int read_file(const struct secret_read *r, const struct wanted *w, char **ret, struct error *err)
{
    char *const *dirs = r->dirs;
    size_t n = r->n_dirs;
    bool inside = false;
    struct error first = ERROR_INIT;
    for (size_t i = 0; i < n; i++) {
        const char *dir = streq(dirs[i], ".") ? w->dir : dirs[i];
        struct error e = ERROR_INIT;
        int rc = dir ? read_in(r->avoid, dir, w->path, ret, &e) : -EXDEV;
        inside = inside || rc != -EXDEV;
        if (rc == 0)
            return 0;
        if (e.code != 0 && first.code == 0) /* another may have it: not every one need be open to us */
            first = e;
    }
    if (first.code != 0) {
        *err = first;
        return first.code;
    }
    _cleanup_(freep) char *names = names_of(dirs, n, w->dir);
    if (!inside)
        return error_set(err, -EACCES, "is not below %s (secrets_dirs)", names);
    return error_set(err, -ENOENT, "there is no such file below %s", names);
}

/* ---- all of them ---- */

static void read_files(void *ctx)
{
    struct secret_read *r = ctx;
    for (size_t i = 0; i < r->n_files; i++) {
        struct error err = ERROR_INIT;
        if (read_file(r, &r->files[i], &r->files[i].value, &err) < 0)
            r->files[i].error = xstrdup(err.message);
    }
}

static void read_free(struct secret_read *r)
{
    for (size_t i = 0; i < r->n_files; i++) {
        free(r->files[i].path);
        free(r->files[i].dir);
        secret_free(r->files[i].value);
        free(r->files[i].error);
    }
    for (size_t i = 0; i < r->n_dirs; i++)
        free(r->dirs[i]);
    free(r->files);
    free(r->dirs);
    free(r);
}

static void take(struct secret_read *r)
{
    for (size_t i = 0; i < r->n_files; i++)
        secrets_set(r->secrets, r->files[i].index, steal(&r->files[i].value), steal(&r->files[i].error));
}

static void files_read(void *ctx)
{
    struct secret_read *r = ctx;
    void (*done)(void *ctx) = r->secrets ? r->done : NULL;
    void *done_ctx = r->ctx;
    if (done)
        take(r);
    read_free(r);
    if (done)
        done(done_ctx);
}

static void read_variable(struct secrets *s, size_t i)
{
    const char *value = getenv(secrets_at(s, i)->name);
    secrets_set(s, i, xstrdup0(value), value ? NULL : xstrdup("is not set in the environment of triggerd"));
}

static void add_dirs(struct secret_read *r, const struct strings *dirs)
{
    r->dirs = xcalloc(dirs ? dirs->n : 0, sizeof(*r->dirs));
    for (size_t i = 0; dirs && i < dirs->n; i++) {
        const char *dir =
            streq(dirs->items[i], "$CREDENTIALS_DIRECTORY") ? getenv("CREDENTIALS_DIRECTORY") : dirs->items[i];
        if (dir && *dir)
            r->dirs[r->n_dirs++] = xstrdup(dir);
    }
}

struct secret_read *secret_read_start(struct loop *loop, const struct secret_dirs *dirs, struct secrets *s,
                                      void (*done)(void *ctx), void *ctx)
{
    struct secret_read *r = xcalloc(1, sizeof(*r));
    *r = (struct secret_read){.secrets = s, .done = done, .ctx = ctx};
    r->files = xcalloc(secrets_count(s), sizeof(*r->files));
    for (size_t i = 0; i < secrets_count(s); i++) {
        const struct secret *item = secrets_at(s, i);
        if (item->due && item->kind == SECRET_ENV)
            read_variable(s, i);
        else if (item->due)
            r->files[r->n_files++] =
                (struct wanted){.index = i, .path = xstrdup(item->name), .dir = xstrdup0(item->dir)};
    }
    if (r->n_files > 0 && dirs) {
        add_dirs(r, dirs->list);
        r->avoid = dirs->avoid;
    }
    if (r->n_files > 0 && loop) {
        loop_work_submit(loop, &r->work, read_files, files_read, r);
        return r;
    }
    read_files(r);
    take(r);
    read_free(r);
    return NULL;
}

void secret_read_abandon(struct secret_read *r)
{
    r->secrets = NULL;
}
