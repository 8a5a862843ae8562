#include "store/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int sync_directory(const char *dir)
{
    _cleanup_(closep) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return fsync(fd) < 0 && errno != EINVAL ? -errno : 0;
}

/* Make what is missing of the path, durably, 0700 (as the XDG base directory specification wants parents made). */
int directory_make(const char *dir, struct error *err)
{
    _cleanup_(freep) char *path = xstrdup(dir);
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        path[--len] = '\0';
    if (len == 0)
        return error_set(err, -EINVAL, "the state directory has no name");
    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        char kept = path[i];
        path[i] = '\0';
        if (mkdir(path, 0700) == 0) {
            char *slash = strrchr(path, '/');
            _cleanup_(freep) char *parent = !slash          ? xstrdup(".")
                                            : slash == path ? xstrdup("/")
                                                            : xstrndup(path, (size_t)(slash - path));
            int r = sync_directory(parent);
            if (r < 0)
                return error_set(err, r, "%s: %s", parent, strerror(-r));
        } else if (errno != EEXIST && (kept == '\0' || (errno != EROFS && errno != EACCES && errno != EPERM))) {
            int code = -errno;
            return error_set(err, code, "%s: cannot make the directory: %s", path, strerror(-code));
        }
        path[i] = kept;
    }
    struct stat st;
    if (stat(path, &st) < 0) {
        int code = -errno;
        return error_set(err, code, "%s: %s", path, strerror(-code));
    }
    if (!S_ISDIR(st.st_mode))
        return error_set(err, -ENOTDIR, "%s: is not a directory", path);
    return 0;
}

#define LOCK_TRIES 200
#define LOCK_PAUSE_MS 10

/* Wait for the lock of a daemon that is dead: a child that it was just cloning when it was killed shares its
 * descriptors until exec, some milliseconds more. *ret_pid: what the file says of the holder. */
static int lock_of_the_dead(int fd, char ret_pid[24])
{
    for (int tries = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; tries++) {
        if (errno != EWOULDBLOCK)
            return -errno;
        ssize_t n = pread(fd, ret_pid, 23, 0);
        ret_pid[MAX(n, 0)] = '\0';
        ret_pid[strcspn(ret_pid, "\n")] = '\0';
        long pid = strtol(ret_pid, NULL, 10);
        if (pid <= 0 || kill((pid_t)pid, 0) == 0 || errno != ESRCH || tries >= LOCK_TRIES)
            return -EBUSY;
        poll(NULL, 0, LOCK_PAUSE_MS);
    }
    return 0;
}

int directory_lock(const char *dir, int *ret_fd, struct error *err)
{
    _cleanup_(freep) char *path = xasprintf("%s/lock", dir);
    _cleanup_(closep) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        int code = -errno;
        return error_set(err, code, "%s: %s", path, strerror(-code));
    }
    char pid[24] = "";
    int code = lock_of_the_dead(fd, pid);
    if (code == -EBUSY)
        return error_set(err, -EBUSY, "%s is in use by another triggerd%s%s", dir, pid[0] ? ", process " : "", pid);
    if (code < 0)
        return error_set(err, code, "%s: cannot lock: %s", path, strerror(-code));
    int len = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
    /* The lock is the kernel's, the number is only for the message: a full disk does not matter here. */
    if (ftruncate(fd, 0) == 0 && pwrite(fd, pid, (size_t)len, 0) < 0)
        (void)!ftruncate(fd, 0);
    *ret_fd = steal_fd(&fd);
    return 0;
}

int64_t disk_free(const char *path)
{
    struct statvfs v;
    if (statvfs(path, &v) < 0)
        return -1;
    return (int64_t)v.f_bavail * (int64_t)v.f_frsize;
}

static int allocate(int fd, int64_t bytes)
{
    int r;
    do
        r = -posix_fallocate(fd, 0, bytes);
    while (r == -EINTR);
    return r;
}

int reserve_open(const char *dir, size_t wanted, int *ret_fd, int64_t *ret_bytes, bool *ret_held, struct error *err)
{
    _cleanup_(freep) char *path = xasprintf("%s/reserve", dir);
    _cleanup_(closep) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        int code = -errno;
        return error_set(err, code, "%s: %s", path, strerror(-code));
    }
    int64_t held = (int64_t)st.st_blocks * 512;
    int64_t bytes = MIN((int64_t)wanted, (held + MAX(disk_free(path), 0)) / 8);
    bytes -= bytes % 4096;
    *ret_held = ftruncate(fd, MIN(bytes, (int64_t)st.st_size)) == 0 && (bytes == 0 || allocate(fd, bytes) == 0);
    if (!*ret_held)
        reserve_release(fd); /* the disk is full already: start without one, and take it when there is room */
    *ret_bytes = bytes;
    *ret_fd = steal_fd(&fd);
    return 0;
}

void reserve_release(int fd)
{
    if (ftruncate(fd, 0) < 0)
        return; /* then there was nothing to gain */
}

int reserve_take(int fd, int64_t bytes)
{
    if (bytes == 0)
        return 0;
    /* A quarter more than it keeps, so that the first writes after do not fill the disk again. */
    int r = allocate(fd, bytes + bytes / 4);
    if (r == 0 && ftruncate(fd, bytes) < 0)
        r = -errno;
    if (r < 0)
        reserve_release(fd);
    return r;
}
