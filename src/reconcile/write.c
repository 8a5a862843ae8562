#include "reconcile/write.h"

#include "reconcile/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_KEPT 200 /* of NAME_MAX: the temporary name is longer by eight */

static int fail(struct error *err, const char *path)
{
    int code = -errno;
    return error_set(err, code, "%s: %s", path, strerror(-code));
}

static char *parent_of(const char *path)
{
    return xstrndup(path, (size_t)(strrchr(path, '/') - path));
}

static int sync_dir(const char *path, struct error *err)
{
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL)) /* some file systems cannot sync a directory */
        return fail(err, path);
    return 0;
}

/* The directories between `top`, which must be there, and the file. */
static int make_parents(const char *top, const char *path, struct error *err)
{
    _cleanup_(freep) char *dir = xstrdup(path);
    for (char *slash = dir + strlen(top) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        if (mkdir(dir, 0755) == 0) {
            _cleanup_(freep) char *above = parent_of(dir);
            int rc = sync_dir(above, err);
            if (rc < 0)
                return rc;
        } else if (errno != EEXIST) {
            return fail(err, dir);
        }
        *slash = '/';
    }
    return 0;
}

static int write_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, text, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        text += n;
        len -= (size_t)n;
    }
    return 0;
}

static int fill(int fd, const char *path, const char *text, size_t len)
{
    struct stat st;
    mode_t mode = stat(path, &st) == 0 ? st.st_mode & 0777 : 0644;
    return write_all(fd, text, len) < 0 || fchmod(fd, mode) < 0 || fsync(fd) < 0 ? -1 : 0;
}

int write_begin(const struct write_target *target, const char *text, size_t len, struct write_pending *ret,
                struct error *err)
{
    char real[PATH_MAX];
    int rc = make_parents(target->top, target->path, err);
    if (rc < 0)
        return rc;
    const char *path = target->is_link && realpath(target->path, real) ? real : target->path;
    _cleanup_(freep) char *dir = parent_of(path);
    char *temporary = xasprintf("%s/.%.*s.XXXXXX", dir, NAME_KEPT, strrchr(path, '/') + 1);
    int fd = mkostemp(temporary, O_CLOEXEC);
    rc = fd < 0 || fill(fd, path, text, len) < 0 ? fail(err, path) : 0;
    if (fd >= 0)
        close(fd);
    if (rc < 0) {
        if (fd >= 0)
            unlink(temporary);
        free(temporary);
        return rc;
    }
    *ret = (struct write_pending){.temporary = temporary, .path = xstrdup(path), .fresh = target->fresh};
    return 0;
}

void write_abandon(struct write_pending *p)
{
    if (p->temporary)
        unlink(p->temporary);
    free(p->temporary);
    free(p->path);
    *p = (struct write_pending){0};
}

/* Some file systems cannot say no; there it is as it always was. */
static int put_in_place(const struct write_pending *p)
{
    int r = renameat2(AT_FDCWD, p->temporary, AT_FDCWD, p->path, p->fresh ? RENAME_NOREPLACE : 0);
    return r < 0 && p->fresh && errno == EINVAL ? rename(p->temporary, p->path) : r;
}

int write_commit(struct write_pending *p, struct error *err)
{
    if (put_in_place(p) < 0) {
        int rc = fail(err, p->path);
        write_abandon(p);
        return rc;
    }
    p->renamed = true;
    _cleanup_(freep) char *dir = parent_of(p->path);
    free(steal(&p->temporary));
    free(steal(&p->path));
    return sync_dir(dir, err);
}

int write_file(const struct write_target *target, const char *text, size_t len, struct error *err)
{
    struct write_pending pending;
    int rc = write_begin(target, text, len, &pending, err);
    return rc < 0 ? rc : write_commit(&pending, err);
}

int write_delete(const struct write_target *target, struct error *err)
{
    _cleanup_(freep) char *dir = parent_of(target->path);
    if (unlink(target->path) < 0)
        return fail(err, target->path);
    return sync_dir(dir, err);
}

int write_check(const char *path, uint64_t hash, struct error *err)
{
    struct read_job now = {.path = path};
    read_job_run(&now);
    bool same = now.status == READ_TEXT && now.hash == hash;
    read_job_fini(&now);
    return same ? 0 : error_set(err, -EAGAIN, "%s: the file keeps changing", path);
}
