#include "spawn/orphans.h"

#include "base/util.h"
#include "spawn/ledger.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <time.h>
#include <unistd.h>
#include <uthash.h>

#define ENVIRON_MAX ((size_t)8 << 20) /* execve(2) takes 6 MiB at most */
#define TREE_ROUNDS_MAX 64
#define STARTING_GRACE_MS 100 /* for a child that was cloned as its daemon was killed to write its pid */

enum { SPARED = 1 << 0, MARKED = 1 << 1, OTHER_NODE = 1 << 2 };

struct process {
    pid_t pid, parent, session;
    uint64_t start; /* ticks since boot */
    unsigned flags;
};

/* One that was sent SIGKILL. The key has no padding. */
struct victim {
    struct {
        int64_t pid;
        uint64_t start;
    } key;
    UT_hash_handle hh;
};

/* A tag hunted for: that of an attempt that has ended. */
struct ended {
    const char *tag;
    UT_hash_handle hh;
};

struct hunt {
    DIR *proc;
    struct ended *ended; /* by tag; or NULL */
    const char *mark;    /* NAME=value, or NULL */
    bool spare_others;   /* what has NAME with another value */
    pid_t root;          /* a child with all that is its, or 0 */
    struct ledger_entry *entries;
    size_t n_entries;
    struct process *processes; /* ascending by pid */
    size_t n, cap;
    pid_t highest; /* pid, parent or session seen */
    struct buf text;
    struct victim *victims;
};

/* ---- reading /proc ------------------------------------------------------------------------------------------------
 */

/* The file /proc/PID/name into h->text, up to `max` bytes. False: the process is gone, or not ours to look at. */
static bool read_text(struct hunt *h, pid_t pid, const char *name, size_t max)
{
    char path[40];
    snprintf(path, sizeof(path), "%d/%s", (int)pid, name);
    _cleanup_(closep) int fd = openat(dirfd(h->proc), path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    h->text.len = 0;
    while (h->text.len < max) {
        size_t want = MIN((size_t)4096, max - h->text.len);
        ssize_t n = read(fd, buf_reserve(&h->text, want), want);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        if (n == 0)
            break;
        h->text.len += (size_t)n;
    }
    buf_reserve(&h->text, 0);
    h->text.data[h->text.len] = '\0';
    return true;
}

/* proc_pid_stat(5). The name in parentheses can hold anything, so what follows its last one counts. */
static bool read_process(struct hunt *h, pid_t pid, struct process *ret)
{
    if (!read_text(h, pid, "stat", 4096))
        return false;
    const char *rest = strrchr(h->text.data, ')');
    int parent, session;
    uint64_t start;
    if (!rest || sscanf(rest, ") %*c %d %*d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %" SCNu64,
                        &parent, &session, &start) != 3)
        return false;
    /* 0: outside this pid namespace; -1: being reaped. */
    *ret = (struct process){.pid = pid, .parent = MAX(parent, 0), .session = MAX(session, 0), .start = start};
    return true;
}

static int compare_processes(const void *a, const void *b)
{
    const struct process *x = a, *y = b;
    return (x->pid > y->pid) - (x->pid < y->pid);
}

static struct process *find_process(struct hunt *h, pid_t pid)
{
    struct process key = {.pid = pid};
    return h->n == 0 ? NULL : bsearch(&key, h->processes, h->n, sizeof(key), compare_processes);
}

static int read_all(struct hunt *h)
{
    h->n = 0;
    h->highest = 0;
    rewinddir(h->proc);
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(h->proc);
        if (!entry)
            break;
        struct process p;
        if (!isdigit((unsigned char)entry->d_name[0]) || !read_process(h, (pid_t)atoi(entry->d_name), &p))
            continue;
        if (h->n == h->cap)
            h->processes = xreallocarray(h->processes, h->cap = h->cap ? 2 * h->cap : 256, sizeof(p));
        h->processes[h->n++] = p;
        h->highest = MAX(h->highest, MAX(p.pid, MAX(p.parent, p.session)));
    }
    if (errno)
        return -errno;
    if (h->n > 0)
        qsort(h->processes, h->n, sizeof(*h->processes), compare_processes);
    return 0;
}

/* ---- who belongs --------------------------------------------------------------------------------------------------
 */

/* True also where the kernel does not say. */
static bool has_no_new_privs(struct hunt *h, pid_t pid)
{
    if (!read_text(h, pid, "status", 16384))
        return false;
    const char *line = strstr(h->text.data, "\nNoNewPrivs:");
    return !line || strtol(line + strlen("\nNoNewPrivs:"), NULL, 10) == 1;
}

static void mark_if_ours(struct hunt *h, struct process *p)
{
    if (p->flags & (MARKED | SPARED | OTHER_NODE))
        return;
    p->flags |= has_no_new_privs(h, p->pid) ? MARKED : SPARED;
}

static void spare_own_line(struct hunt *h)
{
    pid_t pid = getpid();
    for (size_t depth = 0; depth <= h->n; depth++) {
        struct process *p = find_process(h, pid);
        if (!p)
            break;
        p->flags |= SPARED;
        pid = p->parent;
    }
    struct process *init = find_process(h, 1);
    if (init)
        init->flags |= SPARED;
}

static void mark_by_environment(struct hunt *h)
{
    if (!h->mark)
        return;
    size_t name_len = (size_t)(strchr(h->mark, '=') - h->mark) + 1;
    for (size_t i = 0; i < h->n; i++) {
        struct process *p = &h->processes[i];
        if ((p->flags & (SPARED | MARKED)) || !read_text(h, p->pid, "environ", ENVIRON_MAX))
            continue;
        bool same = false, other = false;
        const char *end = h->text.data + h->text.len;
        for (const char *e = h->text.data; e < end; e += strlen(e) + 1) {
            if (strncmp(e, h->mark, name_len) != 0)
                continue;
            if (strcmp(e, h->mark) == 0)
                same = true;
            else
                other = true;
        }
        if (same)
            mark_if_ours(h, p);
        else if (other && h->spare_others)
            p->flags |= OTHER_NODE;
    }
}

static void mark_by_tag(struct hunt *h)
{
    static const char name[] = ORPHANS_TAG_VARIABLE "=";
    for (size_t i = 0; h->ended && i < h->n; i++) {
        struct process *p = &h->processes[i];
        if ((p->flags & (SPARED | MARKED)) || !read_text(h, p->pid, "environ", ENVIRON_MAX))
            continue;
        const char *end = h->text.data + h->text.len;
        for (const char *e = h->text.data; e < end; e += strlen(e) + 1) {
            if (strncmp(e, name, sizeof(name) - 1) != 0)
                continue;
            struct ended *found = NULL;
            HASH_FIND_STR(h->ended, e + sizeof(name) - 1, found);
            if (found) {
                mark_if_ours(h, p);
                break; /* the text was read anew */
            }
        }
    }
}

static void mark_by_ledger(struct hunt *h)
{
    for (size_t i = 0; i < h->n_entries; i++) {
        const struct ledger_entry *e = &h->entries[i];
        if (e->pid <= 1)
            continue;
        struct process *leader = find_process(h, e->pid);
        if (leader) {
            /* There under another start time: the number was used again, so of the session nobody was left. */
            bool same = leader->start >= e->start_min && leader->start <= e->start_max;
            if (same && !(leader->flags & SPARED))
                leader->flags |= MARKED;
            continue;
        }
        for (size_t k = 0; k < h->n; k++)
            if (h->processes[k].session == e->pid && h->processes[k].start >= e->start_min)
                mark_if_ours(h, &h->processes[k]);
    }
}

static inline void set_bit(uint8_t *bits, pid_t i)
{
    bits[i / 8] = (uint8_t)(bits[i / 8] | 1u << i % 8);
}

static inline bool get_bit(const uint8_t *bits, pid_t i)
{
    return bits[i / 8] >> i % 8 & 1;
}

/* Children and sessions of the marked, and theirs. */
static void mark_closure(struct hunt *h)
{
    size_t size = (size_t)h->highest / 8 + 1;
    _cleanup_(freep) uint8_t *pids = xcalloc(2, size);
    uint8_t *sessions = pids + size;
    if (h->root > 0 && h->root <= h->highest) {
        set_bit(pids, h->root);
        set_bit(sessions, h->root);
    }
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < h->n; i++) {
            struct process *p = &h->processes[i];
            if (!(p->flags & MARKED) && (get_bit(pids, p->parent) || get_bit(sessions, p->session)))
                mark_if_ours(h, p);
            if ((p->flags & MARKED) && !get_bit(pids, p->pid)) {
                set_bit(pids, p->pid);
                if (p->session > 1)
                    set_bit(sessions, p->session);
                changed = true;
            }
        }
    }
}

/* ---- killing ------------------------------------------------------------------------------------------------------
 */

/* A pidfd of exactly this process, or a negative errno (-ESRCH: gone). */
static int open_exactly(struct hunt *h, pid_t pid, uint64_t start)
{
    int fd = pidfd_open(pid, 0);
    if (fd < 0)
        return -errno;
    /* Read after opening: while the start time is the same, so is the process that the descriptor stands for. */
    struct process now;
    if (!read_process(h, pid, &now) || now.start != start) {
        close(fd);
        return -ESRCH;
    }
    return fd;
}

static bool has_exited(int pidfd, int timeout_ms)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    return poll(&p, 1, timeout_ms) == 1;
}

/* Kill the marked. How many of them had not been killed before; or, when all were tried, the first failure: descriptors
 * ran out, or no permission. */
static int kill_marked(struct hunt *h)
{
    int n = 0, error = 0;
    for (size_t i = 0; i < h->n; i++) {
        const struct process *p = &h->processes[i];
        if (!(p->flags & MARKED))
            continue;
        struct victim *v = xcalloc(1, sizeof(*v));
        v->key.pid = p->pid;
        v->key.start = p->start;
        struct victim *known;
        HASH_FIND(hh, h->victims, &v->key, sizeof(v->key), known);
        _cleanup_(closep) int fd = known ? -1 : open_exactly(h, p->pid, p->start);
        if (known || fd == -ESRCH || (fd >= 0 && has_exited(fd, 0))) {
            free(v);
            continue;
        }
        int r = fd < 0 ? fd : pidfd_send_signal(fd, SIGKILL, NULL, 0) < 0 ? -errno : 0;
        if (r < 0 && r != -ESRCH) {
            free(v);
            error = error ? error : r;
            continue;
        }
        HASH_ADD(hh, h->victims, key, sizeof(v->key), v);
        n++;
    }
    return error ? error : n;
}

/* Read, mark, kill once. As kill_marked(). */
static int hunt_round(struct hunt *h)
{
    int r = read_all(h);
    if (r < 0)
        return r;
    spare_own_line(h);
    mark_by_ledger(h);
    mark_by_environment(h);
    mark_by_tag(h);
    mark_closure(h);
    return kill_marked(h);
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* All have their signal, so the time this takes is the slowest one's, not the sum. */
static int wait_for_victims(struct hunt *h, int64_t deadline, struct error *err)
{
    unsigned left = 0;
    pid_t one = 0;
    for (struct victim *v = h->victims; v; v = v->hh.next) {
        _cleanup_(closep) int fd = open_exactly(h, (pid_t)v->key.pid, v->key.start);
        if (fd == -ESRCH)
            continue;
        if (fd < 0)
            return error_set(err, fd, "processes of an earlier life: pid %d: %s", (int)v->key.pid,
                             strerrordesc_np(-fd));
        if (has_exited(fd, (int)MAX((int64_t)0, deadline - now_ms())))
            continue;
        left++;
        one = (pid_t)v->key.pid;
    }
    if (left == 0)
        return 0;
    return error_set(err, -ETIMEDOUT, "%u processes of an earlier life do not die of SIGKILL, pid %d is one", left,
                     (int)one);
}

static int hunt_init(struct hunt *h)
{
    h->proc = opendir("/proc");
    return h->proc ? 0 : -errno;
}

static void hunt_fini(struct hunt *h)
{
    struct victim *next, *v = h->victims; /* still linked in the order they were added when the table is gone */
    HASH_CLEAR(hh, h->victims);
    for (; v; v = next) {
        next = v->hh.next;
        free(v);
    }
    if (h->proc)
        closedir(h->proc);
    free(h->entries);
    free(h->processes);
    buf_fini(&h->text);
}

/* True while a child that the dead daemon had just cloned may still be about to write its pid. */
static bool child_is_starting(const struct hunt *h)
{
    for (size_t i = 0; i < h->n_entries; i++)
        if (h->entries[i].pid == 0)
            return true;
    return false;
}

static int hunt_orphans(struct hunt *h, const char *ledger_path, struct error *err)
{
    int64_t began = now_ms(), deadline = began + ORPHANS_DEADLINE_MS;
    for (;;) {
        free(steal(&h->entries));
        h->n_entries = 0;
        int r = ledger_read(ledger_path, &h->entries, &h->n_entries, err);
        if (r < 0)
            return r;
        int found = hunt_round(h);
        if (found < 0)
            return error_set(err, found, "processes of an earlier life: %s", strerrordesc_np(-found));
        if (found == 0 && !(child_is_starting(h) && now_ms() - began < STARTING_GRACE_MS))
            break;
        if (now_ms() > deadline)
            return error_set(err, -ETIMEDOUT, "processes of an earlier life fork faster than they can be killed");
        if (found == 0)
            poll(NULL, 0, 5);
    }
    return wait_for_victims(h, deadline, err);
}

int orphans_kill(const char *ledger_path, const char *node_id, struct error *err)
{
    _cleanup_(freep) char *mark = node_id && *node_id ? xasprintf("%s=%s", ORPHANS_NODE_VARIABLE, node_id) : NULL;
    _cleanup_(hunt_fini) struct hunt h = {.mark = mark, .spare_others = true};
    int r = hunt_init(&h);
    if (r < 0)
        return error_set(err, r, "/proc: %s", strerrordesc_np(-r));
    r = hunt_orphans(&h, ledger_path, err);
    return r < 0 ? r : (int)HASH_COUNT(h.victims);
}

int child_kill_tree(pid_t pid, const char *mark, int sig)
{
    if (pid <= 1)
        return -EINVAL;
    if (sig != SIGKILL) {
        kill(-pid, sig);
        return 0;
    }
    _cleanup_(hunt_fini) struct hunt h = {.mark = mark && strchr(mark, '=') ? mark : NULL, .root = pid};
    bool can_look = hunt_init(&h) == 0;
    /* The first look comes before the group is killed: as long as the parents live, it is seen whose the children are.
     */
    for (unsigned i = 0; can_look && i < TREE_ROUNDS_MAX && hunt_round(&h) > 0; i++)
        ;
    kill(-pid, SIGKILL);
    return 0;
}

int child_signal_below(pid_t pid, int sig)
{
    _cleanup_(hunt_fini) struct hunt h = {.root = pid};
    int r = hunt_init(&h), n = 0;
    r = r < 0 ? r : read_all(&h);
    if (r < 0)
        return r;
    spare_own_line(&h);
    mark_closure(&h);
    for (size_t i = 0; i < h.n; i++) {
        const struct process *p = &h.processes[i];
        if (!(p->flags & MARKED) || p->pid == pid)
            continue;
        _cleanup_(closep) int fd = open_exactly(&h, p->pid, p->start);
        n += fd >= 0 && pidfd_send_signal(fd, sig, NULL, 0) == 0;
    }
    return n;
}

int orphans_sweep(char *const *tags, size_t n)
{
    _cleanup_(hunt_fini) struct hunt h = {.mark = NULL};
    struct ended *list = xcalloc(n, sizeof(*list));
    for (size_t i = 0; i < n; i++) {
        struct ended *e = &list[i], *twice = NULL;
        HASH_FIND_STR(h.ended, tags[i], twice);
        e->tag = tags[i];
        if (!twice)
            HASH_ADD_KEYPTR(hh, h.ended, e->tag, strlen(e->tag), e);
    }
    int r = hunt_init(&h);
    for (unsigned i = 0; r == 0 && i < TREE_ROUNDS_MAX && hunt_round(&h) > 0; i++)
        ;
    HASH_CLEAR(hh, h.ended);
    free(list);
    return r < 0 ? r : (int)HASH_COUNT(h.victims);
}
