#include "base/inotify_scan.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#define SELF_MASK (IN_DELETE_SELF | IN_MOVE_SELF)
/* A file or link that is unlinked, or that another is renamed over, loses a name: IN_ATTRIB at once, IN_DELETE_SELF
 * when nobody holds it any more. */
#define REPLACED_MASK (IN_ATTRIB | SELF_MASK)
#define APPEAR_MASK (IN_CREATE | IN_MOVED_TO)
#define PROBE_STEPS_MAX 4096 /* components looked at, retries included: a path that changes all the time ends too */

static struct watch_stat to_watch_stat(const struct stat *st)
{
    return (struct watch_stat){
        .dev = st->st_dev,
        .ino = st->st_ino,
        .size = st->st_size,
        .mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec,
        .ctime_ns = (int64_t)st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec,
        .mode = st->st_mode,
    };
}

const char *watch_reason(int code)
{
    if (code == -EXDEV)
        return "lies in triggerd's own mount";
    if (code == -ENOSPC)
        return "no inotify watches left (fs.inotify.max_user_watches)";
    const char *text = strerrordesc_np(-code);
    return text ? text : "unknown error";
}

/* IN_MASK_ADD, since other trees may use the same wd. */
static int add_watch(int fd, const char *path, uint32_t mask)
{
    int wd = inotify_add_watch(fd, path, mask | IN_MASK_ADD);
    return wd < 0 ? -errno : wd;
}

/* ---- the way to a base ---- */

void probe_init(struct probe *probe, int fd, const struct self_mount *avoid, uint32_t mask, const char *base)
{
    *probe = (struct probe){.fd = fd, .avoid = avoid, .mask = mask, .base = xstrdup(base), .wd = -1};
}

void probe_fini(struct probe *probe)
{
    for (size_t i = 0; i < probe->count; i++)
        free(probe->links[i].missing);
    free(probe->links);
    free(probe->base);
    free(probe->real);
    *probe = (struct probe){0};
}

static void add_link(struct probe *probe, int wd, uint32_t mask, const char *missing)
{
    probe->links = xreallocarray(probe->links, probe->count + 1, sizeof(*probe->links));
    probe->links[probe->count++] = (struct probe_link){.wd = wd, .mask = mask, .missing = xstrdup0(missing)};
}

struct walk {
    struct probe *probe;
    struct buf at;   /* the real path so far, "" for the root directory */
    struct buf rest; /* what is left to walk, from `from` */
    size_t from;
    unsigned links;
};

enum step { STEP_ON, STEP_AGAIN, STEP_OVER };

static enum step walk_fails(struct walk *walk, int outcome, int code, const char *path)
{
    walk->probe->outcome = outcome;
    error_set(&walk->probe->err, code, "%s: %s", path, watch_reason(code));
    return STEP_OVER;
}

static const char *at_path(const struct walk *walk)
{
    return walk->at.len > 0 ? walk->at.data : "/";
}

/* `name` is not there: wait for it in its directory. Watched first, then looked again. */
static enum step wait_for(struct walk *walk, const char *path, const char *name)
{
    int wd = add_watch(walk->probe->fd, at_path(walk), APPEAR_MASK | SELF_MASK | IN_ONLYDIR);
    struct stat st;
    if (wd == -ENOENT || wd == -ENOTDIR)
        return STEP_AGAIN;
    if (wd < 0)
        return walk_fails(walk, PROBE_FAILED, wd, at_path(walk));
    if (lstat(path, &st) == 0)
        return STEP_ON;
    add_link(walk->probe, wd, APPEAR_MASK | SELF_MASK, name);
    return walk_fails(walk, PROBE_MISSING, -ENOENT, path);
}

static enum step follow(struct walk *walk, const char *path)
{
    char target[PATH_MAX];
    int wd = add_watch(walk->probe->fd, path, REPLACED_MASK | IN_DONT_FOLLOW);
    ssize_t n = readlink(path, target, sizeof(target) - 1);
    if (n < 0)
        return STEP_AGAIN;
    if (wd >= 0)
        add_link(walk->probe, wd, REPLACED_MASK, NULL);
    if (++walk->links > PROBE_LINKS_MAX)
        return walk_fails(walk, PROBE_FAILED, -ELOOP, path);
    target[n] = '\0';
    char *rest = xasprintf("%s/%s", target, walk->rest.data + walk->from);
    buf_fini(&walk->rest);
    buf_adds(&walk->rest, rest);
    free(rest);
    walk->from = 0;
    if (target[0] == '/')
        walk->at.len = 0;
    return STEP_ON;
}

/* One component: watch it, look what it is, go there. Whatever replaces it afterwards is told by its watch, so that
 * everything looked up through it later is right or will be looked up again. */
static enum step walk_component(struct walk *walk, const char *name, size_t name_len)
{
    struct stat st;
    if (name_len == 1 && name[0] == '.')
        return STEP_ON;
    if (name_len == 2 && name[0] == '.' && name[1] == '.') {
        while (walk->at.len > 0 && walk->at.data[--walk->at.len] != '/')
            ;
        if (walk->at.data)
            walk->at.data[walk->at.len] = '\0';
        return STEP_ON;
    }
    _cleanup_(freep) char *path = xasprintf("%s/%.*s", walk->at.len ? walk->at.data : "", (int)name_len, name);
    const char *last = path + strlen(path) - name_len;
    int wd = add_watch(walk->probe->fd, path, SELF_MASK | IN_DONT_FOLLOW);
    int r = lstat(path, &st) < 0 ? -errno : 0;
    if (r == -ENOENT) {
        enum step step = wait_for(walk, path, last);
        if (step == STEP_ON) /* it has come meanwhile: the same component again */
            walk->from -= name_len;
        return step;
    }
    if (r < 0)
        return walk_fails(walk, PROBE_FAILED, r, path);
    /* A directory that may be passed but not read cannot be watched: its changes are not noticed, which is no reason to
     * give up. */
    if (wd < 0 && wd != -ENOENT && wd != -EACCES && wd != -EPERM)
        return walk_fails(walk, PROBE_FAILED, wd, path);
    if (wd >= 0)
        add_link(walk->probe, wd, SELF_MASK, NULL);
    if (self_mount_is(walk->probe->avoid, st.st_dev))
        return walk_fails(walk, PROBE_FAILED, -EXDEV, path);
    if (S_ISLNK(st.st_mode))
        return follow(walk, path);
    if (!S_ISDIR(st.st_mode)) {
        wd = add_watch(walk->probe->fd, path, REPLACED_MASK | IN_DONT_FOLLOW);
        if (wd >= 0)
            add_link(walk->probe, wd, REPLACED_MASK, NULL);
        return walk_fails(walk, PROBE_MISSING, -ENOTDIR, path);
    }
    walk->at.len = 0;
    buf_adds(&walk->at, path);
    return STEP_ON;
}

static enum step walk_end(struct walk *walk)
{
    struct probe *probe = walk->probe;
    struct stat st;
    int wd = add_watch(probe->fd, at_path(walk), probe->mask);
    if (wd == -ENOENT || wd == -ENOTDIR)
        return STEP_AGAIN;
    if (wd < 0)
        return walk_fails(walk, PROBE_FAILED, wd, at_path(walk));
    if (stat(at_path(walk), &st) < 0)
        return STEP_AGAIN;
    probe->outcome = PROBE_HERE;
    probe->wd = wd;
    probe->stat = to_watch_stat(&st);
    probe->real = xstrdup(walk->at.len > 0 ? walk->at.data : "");
    return STEP_OVER;
}

void probe_run(struct probe *probe)
{
    struct walk walk = {.probe = probe};
    enum step step = STEP_AGAIN;
    for (unsigned steps = 0; step != STEP_OVER; steps++) {
        if (step ==
            STEP_AGAIN) { /* at first, or something has changed under the walk; its links stay, as they are watched */
            walk.at.len = walk.rest.len = walk.from = walk.links = 0;
            buf_adds(&walk.rest, probe->base);
        }
        if (steps == PROBE_STEPS_MAX) {
            walk_fails(&walk, PROBE_FAILED, -EAGAIN, probe->base);
            break;
        }
        const char *name = walk.rest.data + walk.from;
        name += strspn(name, "/");
        size_t name_len = strcspn(name, "/");
        walk.from = (size_t)(name + name_len - walk.rest.data);
        step = name_len > 0 ? walk_component(&walk, name, name_len) : walk_end(&walk);
    }
    buf_fini(&walk.at);
    buf_fini(&walk.rest);
}

/* ---- directories ---- */

void scan_init(struct scan *scan, int fd, const struct self_mount *avoid, uint32_t mask)
{
    *scan = (struct scan){.fd = fd, .avoid = avoid, .mask = mask};
    scan->records = xreallocarray(NULL, SCAN_RECORDS_MAX, sizeof(*scan->records));
}

void scan_add(struct scan *scan, struct watch_dir *dir, char *path, bool is_base)
{
    struct scan_dir *added = &scan->dirs[scan->count++];
    *added = (struct scan_dir){.dir = dir, .is_base = is_base};
    added->path = path;
}

void scan_fini(struct scan *scan)
{
    if (scan->open)
        closedir(scan->open);
    for (unsigned i = 0; i < scan->count; i++)
        free(scan->dirs[i].path);
    free(scan->records);
    buf_fini(&scan->names);
}

static struct scan_record *add_record(struct scan *scan, int kind)
{
    struct scan_record *record = &scan->records[scan->record_count++];
    *record = (struct scan_record){.kind = kind, .dir = scan->at, .wd = -1};
    return record;
}

static bool has_room(const struct scan *scan, size_t records)
{
    return scan->record_count + records <= SCAN_RECORDS_MAX;
}

/* Watch and open. A directory that cannot be watched is read all the same; without permission neither will do. */
static void begin_dir(struct scan *scan)
{
    const struct scan_dir *dir = &scan->dirs[scan->at];
    struct scan_record *begin = add_record(scan, SCAN_BEGIN);
    if (!dir->is_base) {
        int wd = add_watch(scan->fd, dir->path, scan->mask | IN_DONT_FOLLOW);
        begin->wd = MAX(wd, -1);
        begin->code = MIN(wd, 0);
    }
    int fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && !(scan->open = fdopendir(fd)))
        close(fd);
    if (!scan->open) {
        add_record(scan, SCAN_END)->code = -errno;
        scan->at++;
    }
}

static void read_dir(struct scan *scan)
{
    while (has_room(scan, 1)) {
        errno = 0;
        const struct dirent *entry = readdir(scan->open);
        if (!entry) {
            add_record(scan, SCAN_END)->code = errno ? -errno : scan->code;
            closedir(steal(&scan->open));
            scan->code = 0;
            scan->at++;
            return;
        }
        struct stat st;
        if (streq(entry->d_name, ".") || streq(entry->d_name, ".."))
            continue;
        if (fstatat(dirfd(scan->open), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            if (errno != ENOENT) /* gone already: its events tell */
                scan->code = -errno;
            continue;
        }
        if (self_mount_is(scan->avoid, st.st_dev))
            continue;
        struct scan_record *record = add_record(scan, SCAN_ENTRY);
        record->stat = to_watch_stat(&st);
        record->name = scan->names.len;
        buf_add(&scan->names, entry->d_name, strlen(entry->d_name) + 1);
    }
}

void scan_run(struct scan *scan)
{
    scan->record_count = 0;
    scan->names.len = 0;
    while (scan->at < scan->count && has_room(scan, 2)) {
        if (!scan->open)
            begin_dir(scan);
        if (scan->open)
            read_dir(scan);
    }
    scan->finished = scan->at == scan->count;
}
