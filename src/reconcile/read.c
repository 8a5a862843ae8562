/* One file, on a thread of the pool: read it whole, and parse it where it is not what was known. */
#include "base/self_mount.h"
#include "reconcile/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINKS_MAX 40 /* as many as the kernel follows */

/* Can a file be put beside it? */
static bool is_read_only(const char *path)
{
    const char *slash = strrchr(path, '/');
    _cleanup_(freep) char *parent = xstrndup(path, (size_t)(slash - path) + (slash == path));
    return faccessat(AT_FDCWD, parent, W_OK, AT_EACCESS) < 0;
}

int read_all(int fd, struct buf *ret)
{
    for (;;) {
        char *to = buf_reserve(ret, 16384);
        ssize_t n = read(fd, to, 16384);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        ret->len += (size_t)n;
        if (ret->len > DOCUMENT_TEXT_MAX)
            return -EFBIG;
    }
}

/* The names that a link leads to, and those that they lead to if they are links. */
static void trace(struct read_job *job)
{
    char target[PATH_MAX];
    const char *at = job->path;
    struct stat st = {.st_mode = S_IFLNK};
    while (S_ISLNK(st.st_mode) && job->n_leads < LINKS_MAX) {
        ssize_t n = readlink(at, target, sizeof(target) - 1);
        while (n > 1 && target[n - 1] == '/')
            n--;
        if (n <= 0 || (n == 1 && target[0] == '/'))
            return;
        target[n] = '\0';
        int parent = target[0] == '/' ? 0 : (int)(strrchr(at, '/') - at) + 1;
        job->leads = xreallocarray(job->leads, job->n_leads + 1, sizeof(char *));
        at = job->leads[job->n_leads++] = xasprintf("%.*s%s", parent, at, target);
        if (lstat(at, &st) < 0)
            return;
    }
}

/* Nothing but a regular file is opened, and what came in its place since is not waited for. 0 with *ret_fd -1: there is
 * nothing to be read. */
static int open_regular(struct read_job *job, int *ret_fd)
{
    struct stat st;
    *ret_fd = -1;
    if (lstat(job->path, &st) < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
    job->is_link = S_ISLNK(st.st_mode);
    if (job->is_link)
        trace(job);
    if (job->is_link && stat(job->path, &st) < 0)
        return -errno; /* what it leads to may come back: no deletion */
    if (!S_ISREG(st.st_mode))
        return 0;
    if (self_mount_is(job->avoid, st.st_dev))
        return -EXDEV;
    int fd = open(job->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT && !job->is_link ? 0 : -errno;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return 0;
    }
    *ret_fd = fd;
    return st.st_size > (off_t)DOCUMENT_TEXT_MAX ? -EFBIG : 0;
}

void read_job_run(struct read_job *job)
{
    _cleanup_(closep) int fd = -1;
    struct buf text = {0};
    job->traced = true;
    int rc = open_regular(job, &fd);
    if (rc == 0 && fd < 0) {
        job->status = READ_GONE;
        return;
    }
    if (rc == 0)
        rc = read_all(fd, &text);
    if (rc < 0) {
        buf_fini(&text);
        job->status = READ_ERROR;
        manifest_unread(job->path, rc, job->is_link, &job->manifest);
        return;
    }
    uint64_t hash = hash_bytes(0, text.data ? text.data : "", text.len);
    job->read_only = is_read_only(job->path);
    if (job->wait_if_empty && text.len == 0) {
        job->status = READ_WAIT;
    } else if (job->known && job->hash == hash && job->len == text.len) {
        job->status = READ_SAME;
    } else {
        job->status = READ_TEXT;
        job->hash = hash;
        job->len = text.len;
        job->text = buf_steal(&text);
        manifest_parse(job->path, job->text, job->len, &job->manifest);
    }
    buf_fini(&text);
}

void read_job_fini(struct read_job *job)
{
    free(job->text);
    manifest_fini(&job->manifest);
    job->text = NULL;
    for (size_t i = 0; i < job->n_leads; i++)
        free(job->leads[i]);
    free(job->leads);
    job->leads = NULL;
    job->n_leads = 0;
}

void dir_look_run(struct dir_look *look)
{
    struct stat st;
    look->code = stat(look->path, &st) < 0 ? -errno : S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
    if (look->code < 0)
        return;
    look->dev = st.st_dev;
    look->ino = st.st_ino;
    look->writable = faccessat(AT_FDCWD, look->path, W_OK, AT_EACCESS) == 0;
}
