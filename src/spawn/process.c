#include "spawn/process.h"

#include "base/util.h"
#include "spawn/orphans.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

/* ---- what it is given ---- */

void process_base_env(struct spawn_request *r)
{
    const char *home = getenv("HOME");
    spawn_request_env(r, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    spawn_request_env(r, "HOME", home ? home : "/");
    spawn_request_env(r, "LANG", "C.UTF-8");
}

struct cgroup *process_cgroup(struct cgroups *all, struct spawn_request *r)
{
    return all ? cgroup_take(all, &r->limits, &r->cgroup_fd) : NULL;
}

int process_pipes(int *ours[3], struct spawn_request *r, struct error *err)
{
    for (int i = 0; i < 3; i++) {
        int fds[2];
        if (pipe2(fds, O_CLOEXEC) < 0)
            return error_set(err, -errno, "pipe: %s", strerrordesc_np(errno));
        *ours[i] = fds[i == 0];
        r->fds[i] = fds[i != 0];
    }
    return 0;
}

/* ---- its end ---- */

struct kill_work {
    struct loop_work work;
    pid_t pid;
    char *mark; /* NULL: only SIGTERM, to what is below it */
    void (*done)(void *ctx);
    void *ctx;
};

static void kill_run(void *ctx)
{
    struct kill_work *w = ctx;
    if (w->mark)
        child_kill_tree(w->pid, w->mark, SIGKILL);
    else if (child_signal_below(w->pid, SIGTERM) <= 0)
        kill(-w->pid, SIGTERM); /* the sandbox is not there yet */
}

static void kill_done(void *ctx)
{
    struct kill_work *w = ctx;
    w->done(w->ctx);
    free(w->mark);
    free(w);
}

static void submit(struct loop *loop, pid_t pid, const char *mark, void (*done)(void *ctx), void *ctx)
{
    struct kill_work *w = xcalloc(1, sizeof(*w));
    w->pid = pid;
    w->mark = xstrdup0(mark);
    w->done = done;
    w->ctx = ctx;
    loop_work_submit(loop, &w->work, kill_run, kill_done, w);
}

void process_kill_tree(struct loop *loop, pid_t pid, const char *mark, void (*done)(void *ctx), void *ctx)
{
    kill(-pid, SIGKILL);
    submit(loop, pid, mark, done, ctx);
}

void process_ask_below(struct loop *loop, pid_t pid, void (*done)(void *ctx), void *ctx)
{
    submit(loop, pid, NULL, done, ctx);
}
