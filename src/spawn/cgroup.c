#include "spawn/cgroup.h"

#include "base/util.h"
#include "spawn/cgroup_find.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

#define IDLE_MAX 64
#define LOOK_AGAIN_MS 20
#define EARLIER_LIFE_MS 5000
#define LEFT_MS 200
#define SMALL_FILE 4096

enum controller { MEMORY, PIDS, CONTROLLERS };
static const char *const controller_names[CONTROLLERS] = {"memory", "pids"};

struct cgroup {
    struct cgroups *all;
    char name[24];
    int procs, events;          /* cgroup.procs to write to, cgroup.events to read */
    bool once;                  /* its counts are one attempt's: it is not used again */
    struct cgroup *prev, *next; /* while idle or dying */
};

struct cgroups {
    struct loop *loop;
    struct timer timer;
    char *directory, *text;
    char steps_name[96];
    int given, steps; /* the directories */
    bool has[CONTROLLERS];
    uint64_t made;
    struct cgroup *idle, *dying;
    size_t n_idle;
};

/* ---- files of groups ---- */

static int write_file(int dir, const char *path, const char *text)
{
    _cleanup_(closep) int fd = openat(dir, path, O_WRONLY | O_CLOEXEC);
    return fd < 0 || write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static bool read_file(int dir, const char *path, char out[SMALL_FILE])
{
    _cleanup_(closep) int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, out, SMALL_FILE - 1);
    out[MAX(n, 0)] = '\0';
    return n >= 0;
}

/* The number after `key` at the beginning of a line; -1: there is none. */
static int64_t number_of(const char *text, const char *key)
{
    size_t len = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n'), line += line != NULL)
        if (strncmp(line, key, len) == 0 && line[len] == ' ')
            return strtoll(line + len + 1, NULL, 10);
    return -1;
}

static bool has_word(const char *text, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = strstr(text, word); at; at = strstr(at + 1, word))
        if ((at == text || at[-1] == ' ') && (!at[len] || strchr(" \n", at[len])))
            return true;
    return false;
}

/* True also where it cannot be read: then it is not used again. */
static bool populated(int events)
{
    char text[SMALL_FILE];
    ssize_t n = pread(events, text, sizeof(text) - 1, 0);
    text[MAX(n, 0)] = '\0';
    return number_of(text, "populated") != 0;
}

/* With the groups that a step made in it. 0, -EBUSY: it has members, or another negative errno. */
static int remove_group(int dir, const char *name)
{
    if (unlinkat(dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    if (errno != EBUSY && errno != ENOTEMPTY)
        return -errno;
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        closep(&fd);
        return -EBUSY;
    }
    for (const struct dirent *entry; (entry = readdir(d));)
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
            remove_group(dirfd(d), entry->d_name);
    closedir(d);
    return unlinkat(dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : -errno;
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Kill all that is in it and remove it. -EBUSY: something did not die. */
static int end_group(int dir, const char *name, int64_t patience_ms)
{
    char path[256];
    int64_t deadline = now_ms() + patience_ms;
    snprintf(path, sizeof(path), "%s/cgroup.kill", name);
    for (;;) {
        int r = remove_group(dir, name);
        if (r != -EBUSY || now_ms() > deadline)
            return r;
        write_file(dir, path, "1");
        poll(NULL, 0, 2);
    }
}

/* ---- one ---- */

static void group_free(struct cgroup *g)
{
    closep(&g->procs);
    closep(&g->events);
    free(g);
}

static int set_number(const struct cgroup *g, const char *file, uint64_t n)
{
    char path[64], text[24];
    snprintf(path, sizeof(path), "%s/%s", g->name, file);
    snprintf(text, sizeof(text), "%" PRIu64, n);
    return write_file(g->all->steps, path, text);
}

/* What it takes over leaves `limits`. */
static void set_limits(struct cgroup *g, struct spawn_limits *limits)
{
    const struct cgroups *all = g->all;
    g->once = limits->memory_bytes || limits->processes || limits->cpu_seconds;
    if (all->has[MEMORY]) {
        set_number(g, "memory.oom.group", 1); /* half of a step is no step */
        if (limits->memory_bytes && set_number(g, "memory.max", limits->memory_bytes) == 0) {
            set_number(g, "memory.swap.max", 0);
            limits->memory_bytes = 0;
        }
    }
    if (all->has[PIDS] && limits->processes && set_number(g, "pids.max", limits->processes) == 0)
        limits->processes = 0;
}

static struct cgroup *make_group(struct cgroups *all)
{
    char path[64];
    struct cgroup *g = xcalloc(1, sizeof(*g));
    g->all = all;
    g->procs = g->events = -1;
    do
        snprintf(g->name, sizeof(g->name), "%" PRIu64, ++all->made);
    while (mkdirat(all->steps, g->name, 0755) < 0 && errno == EEXIST);
    snprintf(path, sizeof(path), "%s/cgroup.procs", g->name);
    g->procs = openat(all->steps, path, O_WRONLY | O_CLOEXEC);
    snprintf(path, sizeof(path), "%s/cgroup.events", g->name);
    g->events = g->procs < 0 ? -1 : openat(all->steps, path, O_RDONLY | O_CLOEXEC);
    if (g->events >= 0)
        return g;
    unlinkat(all->steps, g->name, AT_REMOVEDIR);
    group_free(g);
    return NULL;
}

/* Those that have become empty are kept or removed. */
static void tidy(struct cgroups *all)
{
    struct cgroup *g, *next;
    DL_FOREACH_SAFE (all->dying, g, next) {
        if (populated(g->events)) {
            cgroup_kill(g);
            continue;
        }
        bool keep = !g->once && all->n_idle < IDLE_MAX;
        if (!keep && remove_group(all->steps, g->name) == -EBUSY)
            continue;
        DL_DELETE(all->dying, g);
        if (keep) {
            DL_PREPEND(all->idle, g);
            all->n_idle++;
        } else {
            group_free(g);
        }
    }
    if (all->dying && all->loop && !timer_active(&all->timer))
        loop_timer_start(all->loop, &all->timer, LOOK_AGAIN_MS);
}

static void on_timer(struct timer *timer, void *ctx)
{
    (void)timer;
    tidy(ctx);
}

struct cgroup *cgroup_take(struct cgroups *all, struct spawn_limits *limits, int *ret_fd)
{
    bool limited = limits->memory_bytes || limits->processes || limits->cpu_seconds;
    if (all->dying)
        tidy(all);
    struct cgroup *g = limited ? NULL : all->idle;
    if (g) {
        DL_DELETE(all->idle, g);
        all->n_idle--;
    } else {
        g = make_group(all);
        if (!g)
            return NULL;
        set_limits(g, limits);
    }
    *ret_fd = fcntl(g->procs, F_DUPFD_CLOEXEC, 3);
    if (*ret_fd >= 0)
        return g;
    cgroup_release(g);
    return NULL;
}

void cgroup_kill(struct cgroup *g)
{
    char path[64];
    snprintf(path, sizeof(path), "%s/cgroup.kill", g->name);
    write_file(g->all->steps, path, "1");
}

void cgroup_release(struct cgroup *g)
{
    if (!g)
        return;
    DL_APPEND(g->all->dying, g);
    tidy(g->all);
}

void cgroup_look(struct cgroup *g, struct cgroup_facts *ret)
{
    char path[64], text[SMALL_FILE];
    *ret = (struct cgroup_facts){.cpu_us = -1};
    snprintf(path, sizeof(path), "%s/memory.events", g->name);
    if (g->all->has[MEMORY] && read_file(g->all->steps, path, text))
        ret->out_of_memory = number_of(text, "oom_kill") > 0;
    g->once = g->once || ret->out_of_memory;
    snprintf(path, sizeof(path), "%s/pids.events", g->name);
    if (g->all->has[PIDS] && read_file(g->all->steps, path, text))
        ret->no_processes = number_of(text, "max") > 0;
    snprintf(path, sizeof(path), "%s/cpu.stat", g->name);
    if (g->once && read_file(g->all->steps, path, text))
        ret->cpu_us = number_of(text, "usage_usec");
}

/* ---- all ---- */

static int move_self(struct cgroups *all)
{
    if (mkdirat(all->given, "daemon", 0755) < 0 && errno != EEXIST)
        return -errno;
    return write_file(all->given, "daemon/cgroup.procs", "0");
}

/* A controller is used where both levels hand it on: that fails where something else is in the group given. */
static void enable_controllers(struct cgroups *all)
{
    char there[SMALL_FILE], path[128], plus[16];
    struct buf text = {0};
    if (!read_file(all->given, "cgroup.controllers", there))
        there[0] = '\0';
    snprintf(path, sizeof(path), "%s/cgroup.subtree_control", all->steps_name);
    for (size_t i = 0; i < CONTROLLERS; i++) {
        snprintf(plus, sizeof(plus), "+%s", controller_names[i]);
        all->has[i] = has_word(there, controller_names[i]) &&
                      write_file(all->given, "cgroup.subtree_control", plus) == 0 &&
                      write_file(all->given, path, plus) == 0;
        if (all->has[i])
            buf_printf(&text, "%s%s", text.len ? ", " : "", controller_names[i]);
    }
    all->text =
        xasprintf("%s (%s)", all->directory, text.len ? text.data : "neither memory nor processes can be limited");
    buf_fini(&text);
}

static int open_all(struct cgroups *all, bool move, struct error *err)
{
    all->given = open(all->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (all->given < 0)
        return error_set(err, -errno, "cgroup %s: %s", all->directory, strerrordesc_np(errno));
    int r = end_group(all->given, all->steps_name, EARLIER_LIFE_MS);
    if (r == -EBUSY)
        return error_set(err, r, "cgroup %s/%s: processes of an earlier life do not die", all->directory,
                         all->steps_name);
    if (mkdirat(all->given, all->steps_name, 0755) < 0) {
        r = errno == EACCES || errno == EPERM || errno == EROFS ? -ENOTSUP : -errno;
        return error_set(err, r, "cgroup %s: %s", all->directory, strerrordesc_np(errno));
    }
    all->steps = openat(all->given, all->steps_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (all->steps < 0)
        return error_set(err, -errno, "cgroup %s: %s", all->directory, strerrordesc_np(errno));
    if (faccessat(all->steps, "cgroup.kill", W_OK, AT_EACCESS) < 0)
        return error_set(err, -ENOTSUP, "cgroup %s: no cgroup.kill: Linux before 5.14", all->directory);
    r = move ? move_self(all) : 0;
    if (r < 0)
        return error_set(err, -ENOTSUP, "cgroup %s/daemon: %s", all->directory, strerrordesc_np(-r));
    enable_controllers(all);
    return 0;
}

int cgroups_create_in(struct loop *loop, const char *directory, bool move, const char *node_id, struct cgroups **ret,
                      struct error *err)
{
    struct cgroups *all = xcalloc(1, sizeof(*all));
    all->loop = loop;
    all->given = all->steps = -1;
    all->directory = xstrdup(directory);
    snprintf(all->steps_name, sizeof(all->steps_name), "steps-%s", node_id);
    timer_init(&all->timer, on_timer, all);
    int r = open_all(all, move, err);
    if (r < 0)
        cgroups_destroy(all);
    else
        *ret = all;
    return r;
}

int cgroups_create(struct loop *loop, const char *node_id, struct cgroups **ret, struct error *err)
{
    _cleanup_(freep) char *directory = NULL;
    bool inside;
    int r = cgroup_find_given("/proc/self", &directory, &inside, err);
    return r < 0 ? r : cgroups_create_in(loop, directory, inside, node_id, ret, err);
}

void cgroups_destroy(struct cgroups *all)
{
    if (!all)
        return;
    if (all->loop)
        loop_timer_stop(all->loop, &all->timer);
    DL_CONCAT(all->idle, all->dying);
    for (struct cgroup *g = all->idle, *next; g; g = next) {
        next = g->next;
        group_free(g);
    }
    if (all->steps >= 0)
        end_group(all->given, all->steps_name, LEFT_MS);
    closep(&all->steps);
    closep(&all->given);
    free(all->directory);
    free(all->text);
    free(all);
}

const char *cgroups_text(const struct cgroups *all)
{
    return all->text;
}
