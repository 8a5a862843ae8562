#include "spawn/spawn.h"

#include "base/self_mount.h"

#include "base/util.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utlist.h>

#if defined(__SANITIZE_THREAD__)
#define HAVE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAVE_TSAN 1
#endif
#endif
#ifdef HAVE_TSAN
/* ThreadSanitizer's clone() takes the child for a fork with a memory of its own and resets the books of both. */
int __clone(int (*fn)(void *), void *stack, int flags, void *arg, ...);
#define clone __clone
#endif

#define STACK_SIZE ((size_t)256 << 10)
#define KERNEL_SIGSET_SIZE 8
#define EXITS_AT_ONCE 64
#define CHUNK_SIZE 2000
#define STRINGS_MIN 16 /* a power of two */
#define NO_MEMORY_WAIT_MS 10
#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin"

/* One thread, and what a start needs for itself. */
struct worker {
    struct spawner *spawner;
    pthread_t thread;
    char *stack; /* the child's; its first page is the guard */
    size_t stack_mapped;
    uint64_t signals;         /* the spawner's */
    int parked[CHILD_PARKED]; /* low numbers, held for good: /dev/null, but for the time of a start the request's */
};

struct spawner {
    struct spawner_options options;
    uint64_t ticks_per_second;
    int exits; /* epoll: the pidfds of children whose end is told */
    int null_fd;
    struct worker workers[SPAWN_THREADS_MAX];
    unsigned n_threads; /* of those asked for: started */

    pthread_mutex_t lock; /* guards what follows, and the state of every request */
    pthread_cond_t work;
    uint64_t signals;            /* child_signals(), looked at before the first start; 0: not yet */
    struct spawn_request *queue; /* QUEUED */
    struct spawn_request *ended; /* ENDED */
    bool woken;                  /* wake was called since spawner_collect() last looked */
    bool stopping;
};

/* ---- requests -----------------------------------------------------------------------------------------------------
 */

/* Strings live in chunks, freed at once: there are some twenty a request. */
struct spawn_chunk {
    struct spawn_chunk *next;
    size_t used, cap;
    char bytes[];
};

static char *chunk_take(struct spawn_request *request, size_t size)
{
    struct spawn_chunk *c = request->chunks;
    if (!c || c->cap - c->used < size) {
        size_t cap = MAX(size, (size_t)CHUNK_SIZE);
        c = xmalloc(sizeof(*c) + cap);
        *c = (struct spawn_chunk){.next = request->chunks, .cap = cap};
        request->chunks = c;
    }
    c->used += size;
    return c->bytes + c->used - size;
}

static char **strings_new(void)
{
    return xcalloc(STRINGS_MIN, sizeof(char *));
}

struct spawn_request *spawn_request_new(void)
{
    struct spawn_request *request = xcalloc(1, sizeof(*request));
    request->argv = strings_new();
    request->envp = strings_new();
    request->fds[0] = request->fds[1] = request->fds[2] = -1;
    request->cgroup_fd = -1;
    request->umask = -1;
    return request;
}

static void close_descriptors(struct spawn_request *request)
{
    int all[4] = {request->fds[0], request->fds[1], request->fds[2], request->cgroup_fd};
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        bool again = false;
        for (size_t k = 0; k < i; k++)
            again = again || all[k] == all[i];
        if (all[i] >= 0 && !again)
            close(all[i]);
    }
    request->fds[0] = request->fds[1] = request->fds[2] = request->cgroup_fd = -1;
}

void spawn_request_free(struct spawn_request *request)
{
    if (!request)
        return;
    close_descriptors(request);
    free(request->argv);
    free(request->envp);
    for (struct spawn_chunk *c = request->chunks, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    free(request->cwd);
    free(request->groups);
    free(request);
}

/* Append to a NULL-terminated array whose room is always the next power of two, from STRINGS_MIN. */
static void append(char ***strings, size_t *n, char *string)
{
    size_t used = *n + 1; /* with the NULL */
    if (used >= STRINGS_MIN && (used & (used - 1)) == 0)
        *strings = xreallocarray(*strings, 2 * used, sizeof(char *));
    (*strings)[(*n)++] = string;
    (*strings)[*n] = NULL;
}

/* `a`, then `separator`, then `b`. */
static char *chunk_join(struct spawn_request *request, const char *a, size_t a_len, char separator, const char *b)
{
    size_t b_len = strlen(b);
    char *text = chunk_take(request, a_len + 1 + b_len + 1);
    memcpy(text, a, a_len);
    text[a_len] = separator;
    memcpy(text + a_len + 1, b, b_len + 1);
    return text;
}

void spawn_request_arg(struct spawn_request *request, const char *arg)
{
    size_t size = strlen(arg) + 1;
    append(&request->argv, &request->argc, memcpy(chunk_take(request, size), arg, size));
}

void spawn_request_env(struct spawn_request *request, const char *name, const char *value)
{
    size_t len = strlen(name);
    char *entry = chunk_join(request, name, len, '=', value);
    for (size_t i = 0; i < request->envc; i++) {
        if (strncmp(request->envp[i], entry, len + 1) == 0) {
            request->envp[i] = entry;
            return;
        }
    }
    append(&request->envp, &request->envc, entry);
}

/* ---- one start (a spawn thread) -------------------------------------------------------------------------------------
 */

/* The paths to try for argv[0], as execvp(3) has it; the strings are the request's. */
static char **make_candidates(struct spawn_request *request)
{
    char *program = request->argv[0];
    char **candidates = strings_new();
    size_t n = 0;
    if (strchr(program, '/') || !*program) {
        append(&candidates, &n, program);
        return candidates;
    }
    const char *path = DEFAULT_PATH;
    for (char **e = request->envp; *e; e++)
        if (strncmp(*e, "PATH=", 5) == 0)
            path = *e + 5;
    for (;;) {
        size_t len = strcspn(path, ":");
        append(&candidates, &n,
               len > 0 ? chunk_join(request, path, len, '/', program) : chunk_join(request, ".", 1, '/', program));
        if (!path[len])
            return candidates;
        path += len + 1;
    }
}

/* Whether the child has to call setgroups() and the like: a daemon without privileges may be asked for its own user. */
static bool differs_from_own(const struct spawn_request *request)
{
    uid_t uid[3];
    gid_t gid[3];
    getresuid(&uid[0], &uid[1], &uid[2]);
    getresgid(&gid[0], &gid[1], &gid[2]);
    bool same = uid[0] != 0;
    for (int i = 0; i < 3; i++)
        same = same && uid[i] == request->uid && gid[i] == request->gid;
    return !same;
}

static void fill_plan(const struct worker *w, const struct spawn_request *request, struct child_plan *plan)
{
    const struct spawner *s = w->spawner;
    *plan = (struct child_plan){
        .argv = request->argv,
        .envp = request->envp,
        .cwd = request->cwd,
        .enter_cgroup = request->cgroup_fd >= 0,
        .umask = request->umask,
        .limits = request->limits,
        .default_open_soft = s->options.default_open_soft,
        .default_open_hard = MAX(s->options.default_open_hard, s->options.default_open_soft),
        .change_user = request->change_user && differs_from_own(request),
        .uid = request->uid,
        .gid = request->gid,
        .groups = request->groups,
        .n_groups = request->n_groups,
        .ticks_per_second = s->ticks_per_second,
        .signals = w->signals,
    };
    memcpy(plan->parked, w->parked, sizeof(plan->parked));
}

/* Put the request's descriptors where the child takes them from. */
static int park_descriptors(const struct worker *w, const struct spawn_request *request)
{
    const int fds[CHILD_PARKED] = {
        [CHILD_STDIN] = request->fds[0],
        [CHILD_STDOUT] = request->fds[1],
        [CHILD_STDERR] = request->fds[2],
        [CHILD_CGROUP] = request->cgroup_fd,
    };
    for (int i = 0; i < CHILD_PARKED; i++)
        if (fds[i] >= 0 && dup3(fds[i], w->parked[i], O_CLOEXEC) < 0)
            return -errno;
    return 0;
}

static void clear_parked(const struct worker *w, const struct spawn_request *request)
{
    int null_fd = w->spawner->null_fd;
    for (int i = CHILD_STDIN; i <= CHILD_STDERR; i++)
        if (request->fds[i] >= 0)
            dup3(null_fd, w->parked[i], O_CLOEXEC);
    if (request->cgroup_fd >= 0)
        dup3(null_fd, w->parked[CHILD_CGROUP], O_CLOEXEC);
}

/* Clone, and wait until the child has exec'ed or failed. Returns its pid or a negative errno. */
static pid_t clone_child(struct worker *w, struct child_plan *plan, int *ret_pidfd)
{
    /* Also the two signals that the C library uses itself and that pthread_sigmask() leaves out: a handler that ran in
     * the child would do so in our memory. */
    uint64_t all = ~(uint64_t)0, old = 0;
    int pidfd = -1;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, KERNEL_SIGSET_SIZE);
    pid_t pid = clone(child_main, w->stack + w->stack_mapped,
                      CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_PIDFD | SIGCHLD, plan, &pidfd);
    if (pid < 0)
        pid = -errno;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, KERNEL_SIGSET_SIZE);
    *ret_pidfd = pidfd;
    return pid;
}

static void fail(struct spawn_result *result, enum spawn_stage stage, int code, const char *why)
{
    result->stage = stage;
    error_set(&result->error, code, "%s: %s", spawn_stage_name(stage), why);
}

static void fork_failed(struct spawn_result *result, int code)
{
    const char *why = code == -EAGAIN   ? "too many processes"
                      : code == -EMFILE ? "too many open descriptors in the daemon"
                                        : strerrordesc_np(-code);
    fail(result, SPAWN_STAGE_FORK, code, why);
}

static void start_planned(struct worker *w, struct child_plan *plan, int slot, struct spawn_request *request)
{
    struct spawn_result *result = &request->result;
    int pidfd = -1;
    pid_t pid = clone_child(w, plan, &pidfd);
    clear_parked(w, request);
    if (pid > 0 && plan->error == 0) {
        *result = (struct spawn_result){.pid = pid, .pidfd = pidfd, .slot = slot};
        return;
    }
    if (pid > 0) {
        siginfo_t info;
        while (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED) < 0 && errno == EINTR)
            ;
        close(pidfd);
        result->stage = plan->stage;
        child_explain(plan, &result->error);
    } else {
        fork_failed(result, pid);
    }
    if (slot != SPAWN_NO_SLOT)
        ledger_release(w->spawner->options.ledger, (unsigned)slot);
}

/* Nothing is started in our own mount: a child's exec there would wait for us, and a daemon that ends for the child. */
static bool is_in_own_mount(const struct worker *w, const struct spawn_request *request, char *const *candidates,
                            struct spawn_result *result)
{
    const struct self_mount *m = w->spawner->options.avoid;
    if (!self_mount_any(m))
        return false;
    if (request->cwd && self_mount_holds(m, request->cwd)) {
        fail(result, SPAWN_STAGE_CWD, -ELOOP, "SelfMount: it lies in triggerd's own mount");
        return true;
    }
    for (; *candidates; candidates++) {
        bool relative = (*candidates)[0] != '/' && request->cwd;
        _cleanup_(freep) char *joined = relative ? xasprintf("%s/%s", request->cwd, *candidates) : NULL;
        if (!self_mount_holds(m, joined ? joined : *candidates))
            continue;
        fail(result, SPAWN_STAGE_EXEC, -ELOOP, "SelfMount: the program lies in triggerd's own mount");
        return true;
    }
    return false;
}

static void start(struct worker *w, struct spawn_request *request)
{
    struct spawner *s = w->spawner;
    struct spawn_result *result = &request->result;
    struct child_plan plan;
    int slot = SPAWN_NO_SLOT, r;

    *result = (struct spawn_result){.pidfd = -1, .slot = SPAWN_NO_SLOT};
    if (request->argc == 0 || !*request->argv[0]) {
        fail(result, SPAWN_STAGE_EXEC, -EINVAL, "the command is empty");
        goto done;
    }
    char **candidates = make_candidates(request);
    if (is_in_own_mount(w, request, candidates, result)) {
        free(candidates);
        goto done;
    }
    fill_plan(w, request, &plan);
    plan.candidates = candidates;
    r = park_descriptors(w, request);
    if (r < 0) {
        clear_parked(w, request);
        free(candidates);
        fail(result, SPAWN_STAGE_DESCRIPTORS, r, strerrordesc_np(-r));
        goto done;
    }
    if (s->options.ledger) {
        unsigned taken;
        r = ledger_take(s->options.ledger, request->tag, &taken);
        if (r < 0) {
            clear_parked(w, request);
            free(candidates);
            fail(result, SPAWN_STAGE_LEDGER, r, strerrordesc_np(-r));
            goto done;
        }
        slot = (int)taken;
        plan.slot = ledger_slot(s->options.ledger, taken);
    }
    start_planned(w, &plan, slot, request);
    free(candidates);
done:
    close_descriptors(request);
}

/* ---- the thread ---------------------------------------------------------------------------------------------------
 */

/* Move a request to the ended ones. True: the caller calls wake once it has let go of the lock. */
static bool end_locked(struct spawner *s, struct spawn_request *request)
{
    request->state = SPAWN_ENDED;
    DL_APPEND(s->ended, request);
    if (request->exit && request->result.error.code == 0 && !request->urgent)
        return false;
    bool wake = !s->woken;
    s->woken = true;
    return wake;
}

/* It runs, so this cannot fail: where the kernel has no room for it now, it will have. Once is enough: the set forgets
 * a descriptor that is closed. */
static void watch_exit(struct spawner *s, int pidfd, struct spawn_exit *exit)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = exit};
    while (epoll_ctl(s->exits, EPOLL_CTL_ADD, pidfd, &event) < 0)
        poll(NULL, 0, NO_MEMORY_WAIT_MS);
}

static void *run(void *arg)
{
    struct worker *w = arg;
    struct spawner *s = w->spawner;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (!s->queue && !s->stopping)
            pthread_cond_wait(&s->work, &s->lock);
        if (s->stopping)
            break;
        struct spawn_request *request = s->queue;
        DL_DELETE(s->queue, request);
        request->state = SPAWN_STARTING;
        if (!s->signals)
            s->signals = child_signals() | UINT64_C(1) << (SIGPIPE - 1);
        w->signals = s->signals;
        pthread_mutex_unlock(&s->lock);
        start(w, request);
        struct spawn_exit *exit = request->result.error.code == 0 ? request->exit : NULL;
        int pidfd = request->result.pidfd; /* the owner's from here on, which keeps it open until the end is told */
        pthread_mutex_lock(&s->lock);
        bool wake = end_locked(s, request);
        pthread_mutex_unlock(&s->lock);
        if (exit)
            watch_exit(s, pidfd, exit);
        if (wake)
            s->options.wake(s->options.wake_ctx);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static int start_thread(struct worker *w)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int r = -pthread_create(&w->thread, NULL, run, w);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (r == 0)
        pthread_setname_np(w->thread, "spawn");
    return r;
}

static int map_stack(struct worker *w)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    w->stack_mapped = STACK_SIZE + page;
    w->stack = mmap(NULL, w->stack_mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (w->stack == MAP_FAILED)
        return -errno;
    return mprotect(w->stack, page, PROT_NONE) < 0 ? -errno : 0;
}

static int open_descriptors(struct spawner *s)
{
    s->exits = epoll_create1(EPOLL_CLOEXEC);
    if (s->exits < 0)
        return -errno;
    s->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    return s->null_fd < 0 ? -errno : 0;
}

static int open_parked(struct worker *w)
{
    for (int i = 0; i < CHILD_PARKED; i++) {
        w->parked[i] = fcntl(w->spawner->null_fd, F_DUPFD_CLOEXEC, 3);
        if (w->parked[i] < 0)
            return -errno;
    }
    return 0;
}

static void worker_init(struct worker *w, struct spawner *s)
{
    w->spawner = s;
    w->stack = MAP_FAILED;
    for (int i = 0; i < CHILD_PARKED; i++)
        w->parked[i] = -1;
}

static void worker_fini(struct worker *w)
{
    for (int i = 0; i < CHILD_PARKED; i++)
        closep(&w->parked[i]);
    if (w->stack != MAP_FAILED)
        munmap(w->stack, w->stack_mapped);
}

/* They end when they have started what they are at. */
static void join_threads(struct spawner *s)
{
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    s->woken = true; /* nobody is left to be woken */
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
    for (unsigned i = 0; i < s->n_threads; i++)
        pthread_join(s->workers[i].thread, NULL);
}

/* Everything but the threads. */
static void release(struct spawner *s)
{
    for (unsigned i = 0; i < SPAWN_THREADS_MAX; i++)
        worker_fini(&s->workers[i]);
    closep(&s->null_fd);
    closep(&s->exits);
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* The descriptors of all before the threads: low numbers are what a start is fast by. */
static int open_workers(struct spawner *s, unsigned n, const char **ret_what)
{
    int r = 0;
    *ret_what = "descriptors";
    for (unsigned i = 0; i < n && r == 0; i++)
        r = open_parked(&s->workers[i]);
    for (unsigned i = 0; i < n && r == 0; i++) {
        *ret_what = "stack";
        r = map_stack(&s->workers[i]);
        if (r < 0)
            break;
        *ret_what = "thread";
        r = start_thread(&s->workers[i]);
        s->n_threads += r == 0;
    }
    return r;
}

int spawner_create(const struct spawner_options *options, struct spawner **ret, struct error *err)
{
    struct spawner *s = xcalloc(1, sizeof(*s));
    s->options = *options;
    s->ticks_per_second = (uint64_t)sysconf(_SC_CLK_TCK);
    s->exits = s->null_fd = -1;
    for (unsigned i = 0; i < SPAWN_THREADS_MAX; i++)
        worker_init(&s->workers[i], s);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);

    const char *what = "descriptors";
    int r = open_descriptors(s);
    if (r == 0)
        r = open_workers(s, MIN(MAX(options->threads, 1u), (unsigned)SPAWN_THREADS_MAX), &what);
    if (r < 0) {
        join_threads(s);
        release(s);
        return error_set(err, r, "spawner: %s: %s", what, strerrordesc_np(-r));
    }
    *ret = s;
    return 0;
}

/* ---- the owner's side ---------------------------------------------------------------------------------------------
 */

static bool cancel_locked(struct spawner *s, struct spawn_request *request)
{
    DL_DELETE(s->queue, request);
    close_descriptors(request);
    request->result = (struct spawn_result){.pidfd = -1, .slot = SPAWN_NO_SLOT, .stage = SPAWN_STAGE_QUEUE};
    error_set(&request->result.error, -ECANCELED, "cancelled before it was started");
    return end_locked(s, request);
}

void spawner_submit(struct spawner *s, struct spawn_request *request)
{
    pthread_mutex_lock(&s->lock);
    assert(request->state == SPAWN_NEW && !s->stopping);
    request->state = SPAWN_QUEUED;
    DL_APPEND(s->queue, request);
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
}

bool spawner_cancel(struct spawner *s, struct spawn_request *request)
{
    bool wake = false;
    pthread_mutex_lock(&s->lock);
    bool queued = request->state == SPAWN_QUEUED;
    request->urgent = true;
    if (queued) {
        wake = cancel_locked(s, request);
    } else if (request->state == SPAWN_ENDED && !s->woken) {
        wake = s->woken = true;
    }
    pthread_mutex_unlock(&s->lock);
    if (wake)
        s->options.wake(s->options.wake_ctx);
    return queued;
}

int spawner_exits_fd(const struct spawner *s)
{
    return s->exits;
}

static void tell_start(struct spawn_request *request)
{
    struct spawn_exit *exit = request->result.error.code == 0 ? request->exit : NULL;
    if (exit)
        exit->told = true;
    if (request->done)
        request->done(request->ctx, &request->result);
    if (exit && exit->early)
        exit->fn(exit->ctx);
    spawn_request_free(request);
}

/* Ends are looked at before starts are told of, so that of each end seen the start is told already, or waits behind
 * `max` others. */
size_t spawner_collect(struct spawner *s, size_t max)
{
    struct epoll_event ends[EXITS_AT_ONCE];
    int n_ends = epoll_wait(s->exits, ends, max == 0 ? EXITS_AT_ONCE : (int)MIN(max, (size_t)EXITS_AT_ONCE), 0);
    size_t n = 0;
    pthread_mutex_lock(&s->lock);
    s->woken = false;
    while (s->ended && (max == 0 || n < max)) {
        struct spawn_request *request = s->ended;
        DL_DELETE(s->ended, request);
        pthread_mutex_unlock(&s->lock);
        tell_start(request);
        n++;
        pthread_mutex_lock(&s->lock);
    }
    bool wake = s->ended && !s->woken;
    s->woken = s->ended;
    pthread_mutex_unlock(&s->lock);
    if (wake)
        s->options.wake(s->options.wake_ctx);
    for (int i = 0; i < n_ends; i++) {
        struct spawn_exit *exit = ends[i].data.ptr;
        if (exit->told)
            exit->fn(exit->ctx);
        else
            exit->early = true;
        n++;
    }
    return n;
}

void spawner_destroy(struct spawner *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    while (s->queue)
        cancel_locked(s, s->queue);
    pthread_mutex_unlock(&s->lock);
    join_threads(s);
    spawner_collect(s, 0);
    release(s);
}
