/* The life of a mount.
 *
 *   IDLE ─► MOUNTING (pool) ─► MOUNTED ─► CLOSING ─► UNMOUNTING (pool) ─► IDLE, again after a delay, or the end
 *              └ failed: IDLE, again after a delay
 *
 * CLOSING: the descriptor is polled no more, and what was asked is being answered. UNMOUNTING also ends the session,
 * whose descriptor nobody uses any more.
 */
#include "fs/log.h"
#include "fs/manifest.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define REQUESTS_A_WAKE 128
#define LOOKS_A_WAKE 4 /* at the descriptor while it is empty */
#define DELAY_MIN_MS 250
#define DELAY_MAX_MS 30000
#define DEAD_MAX 16 /* dead mounts one over the other */

/* ---- on the pool ---- */

/* As root by the system, else by fusermount3. */
static int detach(const char *dir)
{
    if (umount2(dir, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
        return 0;
    if (errno != EPERM)
        return -errno;
    char *argv[] = {"fusermount3", "-u", "-z", "-q", "--", (char *)dir, NULL};
    pid_t pid;
    int status = 0, r = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);
    if (r != 0)
        return -r;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status == 0 ? 0 : -EBUSY;
}

/* Whatever a killed daemon left there goes. */
static int clear_dead(const char *dir)
{
    struct stat st;
    for (int i = 0; i < DEAD_MAX; i++) {
        if (stat(dir, &st) == 0)
            return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
        if (errno == ENOENT)
            return mkdir(dir, 0755) == 0 ? 0 : -errno;
        if (errno != ENOTCONN)
            return -errno;
        int r = detach(dir);
        if (r < 0)
            return r;
    }
    return -EBUSY;
}

static void work_mount(void *ctx)
{
    struct mount *m = ctx;
    struct stat st;
    struct statx stx;
    m->code = clear_dead(m->dir);
    if (m->code < 0 || stat(m->dir, &st) < 0)
        return;
    errno = 0;
    if (fuse_session_mount(m->fs->session, m->dir) < 0) {
        m->code = errno ? -errno : -EIO;
        return;
    }
    int fd = fuse_session_fd(m->fs->session);
    fcntl(fd, F_SETFD, FD_CLOEXEC); /* a child that kept it would keep the mount's readers waiting after our death */
    /* Its root is known to the kernel without asking us. */
    if (statx(AT_FDCWD, m->dir, AT_STATX_DONT_SYNC | AT_SYMLINK_NOFOLLOW, 0, &stx) == 0)
        m->dev = makedev(stx.stx_dev_major, stx.stx_dev_minor);
}

static void work_unmount(void *ctx)
{
    struct mount *m = ctx;
    fuse_session_unmount(m->fs->session);
    fuse_session_destroy(m->fs->session);
    m->fs->session = NULL;
}

/* ---- what must not be inside ---- */

/* Links followed, as far as there is something. */
static char *resolve(const char *path)
{
    char real[PATH_MAX];
    if (realpath(path, real))
        return xstrdup(real);
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path)
        return xstrdup(path);
    _cleanup_(freep) char *above = xstrndup(path, (size_t)(slash - path));
    _cleanup_(freep) char *resolved = resolve(above);
    return xasprintf("%s%s", streq(resolved, "/") ? "" : resolved, slash);
}

int mount_check_path(const char *mount_dir, const char *what, const char *path, struct error *err)
{
    _cleanup_(freep) char *in = resolve(mount_dir);
    _cleanup_(freep) char *real = resolve(path);
    size_t len = strlen(in);
    if (strncmp(real, in, len) == 0 && (real[len] == '\0' || real[len] == '/' || streq(in, "/")))
        return error_set(err, -ELOOP, "%s: %s lies in the mount %s (SelfMount)", what, path, mount_dir);
    return 0;
}

/* ---- telling ---- */

static void tell(struct mount *m, bool mounted, const char *why)
{
    if (m->told && m->mounted == mounted && streq(m->why, why))
        return;
    char *copy = xstrdup0(why);
    free(m->why);
    m->why = copy;
    m->told = true;
    m->mounted = mounted;
    if (mounted)
        log_info(AREA, "mounted at %s", m->dir);
    else
        log_warning(AREA, "%s: not mounted: %s", m->dir, why);
    m->options.state(m->options.ctx, mounted, why);
}

/* ---- requests ---- */

static void fs_gone(void *ctx);

static void poll_closed(void *ctx)
{
    struct mount *m = ctx;
    fs_close(m->fs, fs_gone, m);
}

/* No more requests are taken from the session, whoever ended it. */
static void end_session(struct mount *m)
{
    if (!m->polling)
        return;
    m->polling = false;
    fuse_session_exit(m->fs->session);
    loop_close(&m->poll.handle, poll_closed, m);
}

static void on_ready(void *ctx, int fd, int events, int status)
{
    (void)fd;
    (void)events;
    struct mount *m = ctx;
    struct fuse_session *se = m->fs->session;
    int looks = 0;
    for (int i = 0; i < REQUESTS_A_WAKE && m->polling; i++) {
        int n = fuse_session_receive_buf(se, &m->buf);
        /* Who was answered just now asks again within microseconds: to look a few times costs less than to be woken. */
        if (n == -EAGAIN && i > 0 && ++looks <= LOOKS_A_WAKE) {
            sched_yield();
            continue;
        }
        if (n == -EAGAIN || n == -EINTR)
            break;
        looks = 0;
        if (n <= 0 || fuse_session_exited(se)) {
            tell(m, false, m->stopping ? "stopping" : "it was unmounted");
            end_session(m);
            return;
        }
        fuse_session_process_buf(se, &m->buf);
    }
    if (status < 0 && m->polling)
        loop_poll_start(&m->poll, UV_READABLE);
}

/* ---- unmounted lazily: the session goes on for those who have something open, nobody else finds it ---- */

static void work_look(void *ctx)
{
    struct mount *m = ctx;
    struct statx stx;
    m->still_there = statx(AT_FDCWD, m->dir, AT_STATX_DONT_SYNC | AT_SYMLINK_NOFOLLOW, 0, &stx) == 0 &&
                     makedev(stx.stx_dev_major, stx.stx_dev_minor) == m->dev;
}

static void looked(void *ctx)
{
    struct mount *m = ctx;
    m->looking = false;
    loop_group_release(&m->group);
    if (m->still_there || !m->polling || m->stopping)
        return;
    tell(m, false, "it was unmounted");
    end_session(m);
}

static void on_mounts(void *ctx, int fd, int events, int status)
{
    (void)fd, (void)events;
    struct mount *m = ctx;
    if (status < 0)
        loop_poll_start(&m->mounts, UV_PRIORITIZED);
    if (m->looking || !m->polling || m->stopping)
        return;
    m->looking = true;
    loop_group_hold(&m->group);
    loop_work_submit(m->options.loop, &m->look, work_look, looked, m);
}

static void watch_mounts(struct mount *m)
{
    m->mounts_fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    if (m->mounts_fd < 0)
        return;
    if (loop_poll_init(&m->group, &m->mounts, m->mounts_fd, on_mounts, m) == 0)
        loop_poll_start(&m->mounts, UV_PRIORITIZED);
}

/* ---- life ---- */

static void finish(void *ctx)
{
    struct mount *m = ctx;
    void (*stopped)(void *) = m->stopped;
    void *stopped_ctx = m->stopped_ctx;
    rejects_free(m);
    log_store_destroy(m->logs);
    closep(&m->mounts_fd);
    free(m->buf.mem);
    free(m->dir);
    free(m->why);
    free(m);
    stopped(stopped_ctx);
}

static void idle(struct mount *m)
{
    if (m->stopping) {
        loop_group_close(&m->group, finish, m);
        return;
    }
    loop_timer_start(m->options.loop, &m->again, m->delay_ms);
    m->delay_ms = MIN(m->delay_ms * 2, DELAY_MAX_MS);
}

static void unmounted(void *ctx)
{
    struct mount *m = ctx;
    m->working = false;
    fs_free(m->fs);
    m->fs = NULL;
    idle(m);
}

/* Nothing is under way in it any more. */
static void fs_gone(void *ctx)
{
    struct mount *m = ctx;
    m->working = true;
    loop_work_submit(m->options.loop, &m->work, work_unmount, unmounted, m);
}

static const char *why_not(const struct mount *m, int code)
{
    if (code == -EPERM && m->options.allow_other && geteuid() != 0)
        return "allow_other needs user_allow_other in /etc/fuse.conf where triggerd is not root";
    return strerror(-code);
}

static void mounted(void *ctx)
{
    struct mount *m = ctx;
    m->working = false;
    m->options.api->mounting = false;
    int r = m->code;
    if (r == 0)
        r = loop_poll_init(&m->group, &m->poll, fuse_session_fd(m->fs->session), on_ready, m);
    m->polling = r == 0 && loop_poll_start(&m->poll, UV_READABLE) == 0;
    if (!m->polling) {
        tell(m, false, why_not(m, r));
        fs_close(m->fs, fs_gone, m);
        return;
    }
    m->delay_ms = DELAY_MIN_MS;
    tell(m, true, NULL);
    if (m->stopping)
        end_session(m);
}

static struct fuse_session *session_new(struct mount *m)
{
    char *argv[] = {"triggerd", "-o", NULL};
    argv[2] = m->options.allow_other ? "fsname=triggerd,subtype=triggerd,allow_other,default_permissions"
                                     : "fsname=triggerd,subtype=triggerd";
    struct fuse_args args = FUSE_ARGS_INIT(3, argv);
    struct fuse_session *se = fuse_session_new(&args, &fs_operations, sizeof(fs_operations), m->fs);
    fuse_opt_free_args(&args);
    return se;
}

static void try_mount(struct timer *timer, void *ctx)
{
    (void)timer;
    struct mount *m = ctx;
    m->fs = fs_create(m);
    m->fs->session = session_new(m);
    m->working = true;
    loop_work_submit(m->options.loop, &m->work, work_mount, mounted, m);
}

struct mount *mount_create(const struct mount_options *options)
{
    struct mount *m = xcalloc(1, sizeof(*m));
    m->options = *options;
    m->dir = xstrdup(options->dir);
    m->delay_ms = DELAY_MIN_MS;
    m->mounts_fd = -1;
    loop_group_init(&m->group, options->loop);
    timer_init(&m->again, try_mount, m);
    options->api->mounting = true;
    m->logs = log_store_create(options->api->feed, options->api->clock);
    return m;
}

void mount_start(struct mount *m)
{
    watch_mounts(m);
    try_mount(NULL, m);
}

void mount_stop(struct mount *m, void (*done)(void *ctx), void *ctx)
{
    m->stopping = true;
    m->stopped = done;
    m->stopped_ctx = ctx;
    bool waits = timer_active(&m->again);
    loop_timer_stop(m->options.loop, &m->again);
    if (m->polling)
        end_session(m);
    else if (!m->fs || waits)
        idle(m);
}

/* A close whose release is still to be taken from the descriptor is one that has returned: first all of that. */
void mount_settle(void *mount, void (*fn)(void *ctx), void *ctx)
{
    struct mount *m = mount;
    if (m->polling && m->fs->mfiles) {
        on_ready(m, -1, UV_READABLE, 0);
    }
    if (m->polling)
        manifest_settled_soon(m->fs, fn, ctx);
    else
        fn(ctx);
}

bool mount_identity(const struct mount *m, dev_t *ret_dev)
{
    if (m->mounted)
        *ret_dev = m->dev;
    return m->mounted;
}
