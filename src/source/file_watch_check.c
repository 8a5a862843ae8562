/* Checks: what is there, and does anybody still write it? On the pool, many files at a time, one check a source, so
 * that the results come in order. A file system that hangs hangs this source's checks and nothing else; the source can
 * stop meanwhile, and leaves the check behind. */
#include "source/file_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

enum writer { WRITER_NONE, WRITER_SOME, WRITER_UNKNOWN };

struct check_item {
    char *path; /* absolute */
    uint64_t number;
    int code; /* 0, or a negative errno */
    struct file_stamp stamp;
    int64_t born_ns; /* INT64_MIN: unknown */
    enum writer writer;
};

struct file_check {
    struct loop_work work;
    struct source *source; /* NULL: it has stopped */
    size_t relative;       /* where the relative path begins */
    size_t n;
    struct check_item items[FILE_CHECK_MAX];
};

bool file_stamp_same(const struct file_stamp *a, const struct file_stamp *b)
{
    if (a->is_dir || b->is_dir)
        return a->is_dir == b->is_dir; /* what is in it speaks for itself */
    return a->ino == b->ino && a->size == b->size && a->mtime_ns == b->mtime_ns;
}

static int64_t nanoseconds(const struct statx_timestamp *t)
{
    return t->tv_sec * 1000000000 + t->tv_nsec;
}

static bool look(int fd, const char *path, int flags, struct statx *ret)
{
    return statx(fd, path, flags | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, ret) == 0;
}

static void take_stat(struct check_item *item, const struct statx *st)
{
    item->stamp = (struct file_stamp){
        .ino = st->stx_ino,
        .size = (int64_t)st->stx_size,
        .mtime_ns = nanoseconds(&st->stx_mtime),
        .ctime_ns = nanoseconds(&st->stx_ctime),
        .is_dir = S_ISDIR(st->stx_mode),
    };
    item->born_ns = st->stx_mask & STATX_BTIME ? nanoseconds(&st->stx_btime) : INT64_MIN;
}

/* A lease for reading is refused while anybody has the file open for writing. Whoever opens it for writing while we
 * have it waits until we let go, which is soon; the signal that tells us so must be one that is ignored (SIGIO,
 * which it is by default, ends the process). */
static enum writer find_writer(int fd)
{
    if (fcntl(fd, F_SETSIG, SIGURG) < 0)
        return WRITER_UNKNOWN;
    if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
        return errno == EAGAIN ? WRITER_SOME : WRITER_UNKNOWN;
    return WRITER_NONE; /* the lease goes with the descriptor */
}

static void check_item(struct check_item *item)
{
    struct statx st;
    item->writer = WRITER_NONE;
    if (!look(AT_FDCWD, item->path, 0, &st)) {
        item->code = -errno;
        return;
    }
    take_stat(item, &st);
    if (!S_ISREG(st.stx_mode))
        return;
    item->writer = WRITER_UNKNOWN;
    int fd = open(item->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return;
    enum writer writer = find_writer(fd);
    if (look(fd, "", AT_EMPTY_PATH, &st) && S_ISREG(st.stx_mode)) { /* as the last writer has left it */
        item->writer = writer;
        take_stat(item, &st);
    }
    close(fd);
}

static void run(void *ctx)
{
    struct file_check *c = ctx;
    for (size_t i = 0; i < c->n; i++)
        check_item(&c->items[i]);
}

/* It is not complete: wait for its close, and look again now and then, since a close elsewhere (by another of its
 * names) is not told. */
static void wait_for_writer(struct source *s, struct file *f)
{
    struct pending *p = f->p;
    int64_t delay = MIN((int64_t)FILE_SLOW_MS << MIN(p->looks, 3), FILE_SLOW_MAX_MS);
    p->looks++;
    file_pending_wait(s, f, MAX(delay, s->debounce_ms));
}

static void take_result(struct source *s, struct file *f, const struct check_item *item)
{
    struct pending *p = f->p;
    if (item->code == -ENOENT || item->code == -ENOTDIR) {
        /* inotify is about to say where it went; if not, it is gone. */
        if (p->looks++ == 0)
            file_pending_wait(s, f, FILE_SLOW_MS);
        else
            watched_vanished(s, f);
        return;
    }
    bool wait = item->code < 0 || item->writer == WRITER_SOME;
    if (item->writer == WRITER_UNKNOWN && !wait && !p->sure) {
        if (p->unclosed) {
            p->state = PENDING_CLOSE;
            return;
        }
        if (!p->waited) {
            p->waited = true;
            file_pending_wait(s, f, MAX(s->debounce_ms, FILE_SLOW_MS));
            return;
        }
    }
    if (wait) {
        wait_for_writer(s, f);
        return;
    }
    p->stamp = item->stamp;
    f->is_dir = item->stamp.is_dir;
    if (p->young && item->born_ns < s->began_ns) { /* no: an old one that was written meanwhile */
        f->known = true;
        f->k = item->stamp;
        file_snapshot_touch(s, f);
    }
    p->young = false;
    p->state = PENDING_READY;
    DL_APPEND(s->ready, p);
}

static void done(void *ctx)
{
    struct file_check *c = ctx;
    struct source *s = c->source;
    if (s) {
        s->check = NULL;
        file_track_enter(s);
        for (size_t i = 0; i < c->n; i++) {
            struct file *f = watched_find(s, c->items[i].path + c->relative);
            if (f && f->p && f->p->state == PENDING_CHECKING && f->p->number == c->items[i].number)
                take_result(s, f, &c->items[i]);
        }
        file_track_leave(s);
    }
    for (size_t i = 0; i < c->n; i++)
        free(c->items[i].path);
    free(c);
}

void file_check_start(struct source *s)
{
    if (s->check || !s->todo || s->stopped || s->full_scan)
        return;
    struct file_check *c = xmalloc(sizeof(*c));
    *c = (struct file_check){.source = s, .relative = strlen(s->base) + (s->base[1] != '\0')};
    while (s->todo && c->n < FILE_CHECK_MAX) {
        struct pending *p = s->todo;
        DL_DELETE(s->todo, p);
        p->state = PENDING_CHECKING;
        c->items[c->n++] = (struct check_item){
            .path = xasprintf("%s%s%s", s->base, s->base[1] ? "/" : "", p->file->path), .number = p->number};
    }
    s->check = c;
    loop_work_submit(s->env.loop, &c->work, run, done, c);
}

void file_check_abandon(struct source *s)
{
    if (s->check)
        s->check->source = NULL;
    s->check = NULL;
}
