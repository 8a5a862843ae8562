#include "spawn/sandbox.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
#include <utlist.h>

#define PROBE_MS 10000
#define PRINTED_MAX 300

struct sandbox {
    struct sandbox_options options;
    char *path;
    enum sandbox_state state;
    char *why;     /* REFUSED */
    char *program; /* bwrap; NULL: not found */
    bool has_run;  /* there is a /run to be emptied */
    bool begun, searching, destroyed;
    struct loop_work work;
    struct timer timer;
    struct sandbox_wait *waiting;

    /* The probe's process. */
    struct spawn_request *request; /* until it is told */
    struct spawn_exit exit;
    pid_t pid;
    int pidfd, slot;
    int errors; /* what it says is read here; -1: closed */
    bool late;
};

/* `why` is taken. */
static void known(struct sandbox *s, enum sandbox_state state, char *why)
{
    s->state = state;
    if (why)
        s->why = xasprintf("sandbox: strict is refused: %s", why);
    free(why);
    loop_timer_stop(s->options.group->loop, &s->timer);
    while (s->waiting) {
        struct sandbox_wait *w = s->waiting;
        DL_DELETE(s->waiting, w);
        w->fn(w->ctx);
    }
    if (s->options.known)
        s->options.known(s->options.ctx);
}

/* ---- what it is called with ---- */

static void arguments(struct spawn_request *r, const char *const *list)
{
    for (; *list; list++)
        spawn_request_arg(r, *list);
}

static bool below(const char *path, const char *dir)
{
    size_t n = strlen(dir);
    return path && strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* A place of what is empty inside; it stays as read-only as the rest. */
static void show(struct spawn_request *r, const char *path)
{
    if (below(path, "/tmp") || below(path, "/run"))
        arguments(r, (const char *const[]){"--ro-bind", path, path, NULL});
}

void sandbox_wrap(const struct sandbox *s, char *const *writable, size_t n_writable, const char *hidden,
                  struct spawn_request *request)
{
    size_t own = request->argc;
    const char *cwd = request->cwd;
    /* --unshare-all goes on where there are no user or cgroup namespaces, and that is enough: what the others need, it
     * insists on. */
    arguments(request,
              (const char *const[]){s->program, "--unshare-all", "--die-with-parent", "--cap-drop", "ALL", "--ro-bind",
                                    "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", NULL});
    if (s->has_run) /* where services listen */
        arguments(request, (const char *const[]){"--tmpfs", "/run", NULL});
    show(request, own > 0 ? request->argv[0] : NULL);
    show(request, cwd);
    for (size_t i = 0; i < n_writable; i++)
        arguments(request, (const char *const[]){"--bind", writable[i], writable[i], NULL});
    /* Later ones lie upon earlier ones: a writable directory does not bring the socket back. */
    if (hidden)
        arguments(request, (const char *const[]){"--ro-bind-try", "/dev/null", hidden, NULL});
    if (cwd && cwd[0] == '/')
        arguments(request, (const char *const[]){"--chdir", cwd, NULL});
    spawn_request_arg(request, "--");

    size_t added = request->argc - own;
    char **argv = xcalloc(own, sizeof(*argv));
    memcpy(argv, request->argv, own * sizeof(*argv));
    memmove(request->argv, request->argv + own, added * sizeof(*argv));
    memcpy(request->argv + added, argv, own * sizeof(*argv));
    free(argv);
}

/* ---- the probe ---- */

/* What it printed, on one line, without the newline at its end. */
static void read_errors(const struct sandbox *s, char out[PRINTED_MAX])
{
    ssize_t n = read(s->errors, out, PRINTED_MAX - 1);
    size_t len = n > 0 ? (size_t)n : 0;
    while (len > 0 && (out[len - 1] == '\n' || out[len - 1] == ' '))
        len--;
    out[len] = '\0';
    for (char *p = out; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
}

static void probe_ended(void *ctx)
{
    struct sandbox *s = ctx;
    struct child_status status;
    char how[CHILD_STATUS_TEXT_SIZE], printed[PRINTED_MAX];
    if (child_reap(s->pidfd, s->pid, CHILD_REAP_GROUP | CHILD_REAP_DEAD, &status) < 0)
        return;
    if (s->options.ledger && s->slot != SPAWN_NO_SLOT)
        ledger_release(s->options.ledger, (unsigned)s->slot);
    close(s->pidfd);
    s->pidfd = -1;
    read_errors(s, printed);
    close(s->errors);
    s->errors = -1;
    if (status.exit_code == 0) {
        known(s, SANDBOX_WORKS, NULL);
        return;
    }
    child_status_text(&status, how);
    known(s, SANDBOX_REFUSED,
          s->late ? xasprintf("%s did not answer within %d s", s->program, PROBE_MS / 1000)
                  : xasprintf("%s cannot make one here: %s%s%s", s->program, how, *printed ? ": " : "", printed));
}

static void probe_started(void *ctx, const struct spawn_result *result)
{
    struct sandbox *s = ctx;
    s->request = NULL;
    if (result->error.code != 0) {
        close(s->errors);
        s->errors = -1;
        if (!s->destroyed)
            known(s, SANDBOX_REFUSED, xstrdup(result->error.message));
        return;
    }
    s->pid = result->pid;
    s->pidfd = result->pidfd;
    s->slot = result->slot;
}

static void probe_late(struct timer *timer, void *ctx)
{
    (void)timer;
    struct sandbox *s = ctx;
    s->late = true;
    if (s->request)
        spawner_cancel(s->options.spawner, s->request);
    if (s->pidfd >= 0)
        kill(-s->pid, SIGKILL);
}

/* As a step is run: by the spawner, with no_new_privs and closed descriptors. */
static void probe(struct sandbox *s)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) {
        known(s, SANDBOX_REFUSED, xasprintf("pipe: %s", strerrordesc_np(errno)));
        return;
    }
    struct spawn_request *r = s->request = spawn_request_new();
    s->errors = fds[0];
    r->fds[2] = fds[1];
    spawn_request_arg(r, "/bin/true");
    sandbox_wrap(s, NULL, 0, NULL, r);
    spawn_request_env(r, "PATH", "/usr/bin:/bin");
    snprintf(r->tag, sizeof(r->tag), "sandbox");
    s->exit = (struct spawn_exit){.fn = probe_ended, .ctx = s};
    r->done = probe_started;
    r->ctx = s;
    r->exit = &s->exit;
    loop_timer_start(s->options.group->loop, &s->timer, PROBE_MS);
    spawner_submit(s->options.spawner, r);
}

static void search(void *ctx)
{
    struct sandbox *s = ctx;
    s->has_run = access("/run", F_OK) == 0;
    for (const char *at = s->path; *at;) {
        size_t n = strcspn(at, ":");
        char *file = xasprintf("%.*s/bwrap", (int)n, at);
        if (n > 0 && *at == '/' && access(file, X_OK) == 0) {
            s->program = file;
            return;
        }
        free(file);
        at += n + (at[n] == ':');
    }
}

static void sandbox_free(struct sandbox *s)
{
    free(s->path);
    free(s->why);
    free(s->program);
    free(s);
}

static void searched(void *ctx)
{
    struct sandbox *s = ctx;
    struct loop_group *group = s->options.group;
    s->searching = false;
    if (s->destroyed)
        sandbox_free(s);
    else if (s->program)
        probe(s);
    else
        known(s, SANDBOX_REFUSED, xstrdup("bubblewrap (bwrap) is not installed"));
    loop_group_release(group);
}

/* ---- for its users ---- */

struct sandbox *sandbox_create(const struct sandbox_options *options)
{
    struct sandbox *s = xcalloc(1, sizeof(*s));
    s->options = *options;
    s->path = xstrdup(options->path ? options->path : "/usr/local/bin:/usr/bin:/bin");
    s->pidfd = s->errors = -1;
    timer_init(&s->timer, probe_late, s);
    return s;
}

void sandbox_destroy(struct sandbox *s)
{
    if (!s)
        return;
    struct child_status status;
    s->destroyed = true;
    loop_timer_stop(s->options.group->loop, &s->timer);
    if (s->pidfd >= 0) {
        kill(-s->pid, SIGKILL);
        while (child_reap(s->pidfd, s->pid, CHILD_REAP_GROUP, &status) == -EAGAIN)
            usleep(1000);
        close(s->pidfd);
    }
    if (s->errors >= 0)
        close(s->errors);
    if (!s->searching)
        sandbox_free(s);
}

void sandbox_probe(struct sandbox *s)
{
    if (s->begun)
        return;
    s->begun = s->searching = true;
    loop_group_hold(s->options.group);
    loop_work_submit(s->options.group->loop, &s->work, search, searched, s);
}

enum sandbox_state sandbox_state(const struct sandbox *s, const char **ret_why)
{
    if (ret_why)
        *ret_why = s->why;
    return s->state;
}

void sandbox_await(struct sandbox *s, struct sandbox_wait *wait)
{
    DL_APPEND(s->waiting, wait);
    sandbox_probe(s);
}

void sandbox_leave(struct sandbox *s, struct sandbox_wait *wait)
{
    DL_DELETE(s->waiting, wait);
}
