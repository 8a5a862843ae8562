/* Starts a second of /bin/true, each reaped: through the spawn threads, one at a time and pipelined, beside plain
 * vfork+exec and posix_spawn in a loop; with a daemon of some size around them (memory touched, descriptors open).
 *
 *   bench_spawn [STARTS [MEBIBYTES [DESCRIPTORS [THREADS]]]]        default 5000 200 100 2
 *
 * Links src/spawn, src/base/{error,util}.c and pthread. */
#include "base/util.h"
#include "spawn/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LEDGER_PATH "/tmp/bench_spawn.children"

struct moment {
    double wall, cpu; /* seconds; processor time of this process and of its reaped children */
};

static double seconds_of(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static struct moment now(void)
{
    struct timespec t;
    struct rusage self, children;
    clock_gettime(CLOCK_MONOTONIC, &t);
    getrusage(RUSAGE_SELF, &self);
    getrusage(RUSAGE_CHILDREN, &children);
    return (struct moment){
        .wall = (double)t.tv_sec + (double)t.tv_nsec / 1e9,
        .cpu = seconds_of(self.ru_utime) + seconds_of(self.ru_stime) + seconds_of(children.ru_utime) +
               seconds_of(children.ru_stime),
    };
}

static void report(const char *name, unsigned n, struct moment from)
{
    struct moment to = now();
    double wall = to.wall - from.wall;
    printf("%-30s %8.0f /s  %7.1f us each, %7.1f us of processor\n", name, n / wall, wall / n * 1e6,
           (to.cpu - from.cpu) / n * 1e6);
}

static char *const true_argv[] = {"/bin/true", NULL};
static char *const true_envp[] = {"PATH=/usr/bin:/bin", NULL};

static void bench_vfork(unsigned n)
{
    struct moment from = now();
    for (unsigned i = 0; i < n; i++) {
        pid_t pid = vfork();
        if (pid == 0) {
            execve(true_argv[0], true_argv, true_envp);
            _exit(127);
        }
        waitpid(pid, NULL, 0);
    }
    report("vfork+exec+waitpid", n, from);
}

static void bench_posix_spawn(unsigned n)
{
    struct moment from = now();
    for (unsigned i = 0; i < n; i++) {
        pid_t pid;
        if (posix_spawn(&pid, true_argv[0], NULL, NULL, true_argv, true_envp) == 0)
            waitpid(pid, NULL, 0);
    }
    report("posix_spawn+waitpid", n, from);
}

/* An owner with an event loop: wake-ups and ends come in over one epoll, `width` are under way at a time. */
struct owner {
    struct spawner *spawner;
    struct ledger *ledger;
    int wake_fd, epoll_fd;
    unsigned submitted, ended, failed, n;
};

struct child {
    struct owner *owner;
    struct spawn_result result;
};

static void on_wake(void *ctx)
{
    struct owner *o = ctx;
    uint64_t one = 1;
    if (write(o->wake_fd, &one, sizeof(one)) < 0)
        abort();
}

static void submit(struct owner *o);

static void on_started(void *ctx, const struct spawn_result *result)
{
    struct child *child = ctx;
    child->result = *result;
    if (result->error.code) {
        fprintf(stderr, "%s\n", result->error.message);
        abort();
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = child};
    epoll_ctl(child->owner->epoll_fd, EPOLL_CTL_ADD, result->pidfd, &event);
}

static void on_exit_of(struct child *child)
{
    struct owner *o = child->owner;
    struct child_status status;
    if (child_reap(child->result.pidfd, child->result.pid, CHILD_REAP_GROUP, &status) < 0 || status.exit_code != 0)
        o->failed++;
    ledger_release(o->ledger, (unsigned)child->result.slot);
    epoll_ctl(o->epoll_fd, EPOLL_CTL_DEL, child->result.pidfd, NULL);
    close(child->result.pidfd);
    free(child);
    o->ended++;
    submit(o);
}

static void submit(struct owner *o)
{
    if (o->submitted == o->n)
        return;
    o->submitted++;
    struct child *child = xcalloc(1, sizeof(*child));
    child->owner = o;
    struct spawn_request *request = spawn_request_new();
    spawn_request_arg(request, "/bin/true");
    spawn_request_env(request, "PATH", "/usr/bin:/bin");
    request->done = on_started;
    request->ctx = child;
    spawner_submit(o->spawner, request);
}

static void owner_init(struct owner *o, unsigned threads)
{
    *o = (struct owner){.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(o->epoll_fd, EPOLL_CTL_ADD, o->wake_fd, &event);
    struct error err = ERROR_INIT;
    struct spawner_options options = {.wake = on_wake, .wake_ctx = o, .threads = threads};
    if (ledger_create(LEDGER_PATH, &o->ledger, &err) == 0) {
        options.ledger = o->ledger;
        spawner_create(&options, &o->spawner, &err);
    }
    if (err.code) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
}

static void owner_fini(struct owner *o)
{
    spawner_destroy(o->spawner);
    ledger_destroy(o->ledger);
    unlink(LEDGER_PATH);
    close(o->wake_fd);
    close(o->epoll_fd);
}

static void bench_spawner(const char *name, struct owner *o, unsigned n, unsigned width)
{
    o->n = n;
    o->submitted = o->ended = 0;
    struct moment from = now();
    for (unsigned i = 0; i < width; i++)
        submit(o);
    while (o->ended < n) {
        struct epoll_event events[64];
        int got = epoll_wait(o->epoll_fd, events, 64, -1);
        for (int i = 0; i < got; i++) {
            uint64_t count;
            if (events[i].data.ptr)
                on_exit_of(events[i].data.ptr);
            else if (read(o->wake_fd, &count, sizeof(count)) > 0)
                spawner_collect(o->spawner, 0);
        }
    }
    report(name, n, from);
}

int main(int argc, char **argv)
{
    unsigned n = argc > 1 ? (unsigned)atoi(argv[1]) : 5000;
    size_t mebibytes = argc > 2 ? (size_t)atoi(argv[2]) : 200;
    int descriptors = argc > 3 ? atoi(argv[3]) : 100;
    struct owner owner;
    owner_init(&owner, argc > 4 ? (unsigned)atoi(argv[4]) : 2); /* before the descriptors, as a daemon does it */
    char *ballast = xmalloc(mebibytes << 20 | 1);
    memset(ballast, 1, mebibytes << 20);
    for (int i = 0; i < descriptors; i++)
        if (open("/dev/null", O_RDONLY | O_CLOEXEC) < 0)
            return 1;
    printf("%u starts each, %zu MiB, %d descriptors\n", n, mebibytes, descriptors);
    bench_vfork(n);
    bench_posix_spawn(n);
    bench_spawner("spawn threads, one at a time", &owner, n, 1);
    bench_spawner("spawn threads, 4 under way", &owner, n, 4);
    bench_spawner("spawn threads, 64 under way", &owner, n, 64);
    if (owner.failed)
        printf("%u FAILED\n", owner.failed);
    owner_fini(&owner);
    free(ballast);
    return owner.failed ? 1 : 0;
}
