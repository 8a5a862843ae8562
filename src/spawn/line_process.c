#include "spawn/line_process.h"

#include "base/mask.h"
#include "spawn/lines.h"
#include "spawn/orphans.h"
#include "spawn/sweeper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define READ_SIZE (16 * 1024)
#define READS_AT_ONCE 64 /* 1 MiB: it may write without end */
#define CLOSED_MS 1000
#define ASKED_MS 2000
#define TERM_GRACE_MS 5000

struct pipe_end {
    int fd; /* -1: closed */
    struct loop_poll poll;
};

enum ending { RUNS, ASKED, TERMINATED, KILLED };

struct line_process {
    struct process_env env;
    struct line_process_events events;
    void *ctx;
    struct loop_group group, *hold;
    struct spawn_request *starting; /* not known to run; it may be dead already */
    struct spawn_exit exit;
    pid_t pid;
    int pidfd, slot;
    struct cgroup *cgroup; /* NULL: none of its own */
    struct pipe_end in, out, err;
    struct lines lines;
    char *line; /* what is being sent */
    size_t len, sent;
    enum ending ending;
    struct timer timer; /* the next step of its end */
    bool dead, killing, refused, held;
    struct loop_task go_on; /* lines that came before it was held */
    char *mark;
};

/* ---- pipes ---- */

static void end_close(struct pipe_end *p)
{
    if (loop_is_open(&p->poll.handle))
        loop_close(&p->poll.handle, NULL, NULL);
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
}

static void read_err(struct line_process *p, int reads)
{
    char chunk[READ_SIZE];
    while (reads-- > 0 && p->err.fd >= 0) {
        ssize_t n = read(p->err.fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0)
            end_close(&p->err);
        else
            p->events.printed(p->ctx, chunk, (size_t)n);
        if (n < (ssize_t)sizeof(chunk))
            return;
    }
}

/* False: reading is over, or held up. */
static bool tell_lines(struct line_process *p)
{
    const char *line;
    size_t len;
    int r = 0;
    while ((!p->held || p->dead) && (r = lines_next(&p->lines, &line, &len)) != 0) {
        if (r > 0) {
            read_err(p, READS_AT_ONCE); /* what it printed before belongs to what it answers */
            p->events.line(p->ctx, line, len, lines_rest(&p->lines) > 0);
        } else if (p->events.too_long) {
            p->events.too_long(p->ctx);
            lines_skip(&p->lines);
        } else {
            p->events.fault(p->ctx, "it wrote a line of more than 1 MiB to standard output");
            end_close(&p->out);
            return false;
        }
    }
    return !p->held || p->dead;
}

static void read_out(struct line_process *p, int reads)
{
    while (reads-- > 0 && p->out.fd >= 0 && tell_lines(p)) {
        ssize_t n = read(p->out.fd, lines_room(&p->lines, READ_SIZE), READ_SIZE);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            end_close(&p->out);
            if (line_process_alive(p)) /* its death comes with it, as a rule a moment later */
                loop_timer_start(p->group.loop, &p->timer, CLOSED_MS);
            return;
        }
        lines_filled(&p->lines, (size_t)n);
        if (!tell_lines(p) || n < READ_SIZE)
            return;
    }
}

static void send_line(struct line_process *p)
{
    while (p->in.fd >= 0 && p->line) {
        ssize_t n = write(p->in.fd, p->line + p->sent, p->len - p->sent);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN) { /* nobody reads any more: its end comes, or is made to */
            p->refused = true;
            line_process_end(p, LINE_PROCESS_TERM);
            return;
        }
        p->sent += n > 0 ? (size_t)n : 0;
        if (p->sent < p->len) {
            loop_poll_start(&p->in.poll, UV_WRITABLE);
            return;
        }
        loop_poll_start(&p->in.poll, 0);
        secret_free(p->line);
        p->line = NULL;
    }
}

static void on_pipe(void *ctx, int fd, int events, int status)
{
    (void)events, (void)status;
    struct line_process *p = ctx;
    if (fd == p->in.fd)
        send_line(p);
    else if (fd == p->out.fd)
        read_out(p, 4);
    else
        read_err(p, 4);
}

static int listen_to(struct line_process *p, struct pipe_end *e, int events)
{
    int r = loop_poll_init(&p->group, &e->poll, e->fd, on_pipe, p);
    return r < 0 ? r : loop_poll_start(&e->poll, events);
}

void line_process_send(struct line_process *p, char *line, size_t len)
{
    secret_free(p->line);
    p->line = line;
    p->len = len;
    p->sent = 0;
    send_line(p);
}

size_t line_process_queue(struct line_process *p, char *line, size_t len)
{
    if (!p->line) {
        line_process_send(p, line, len);
    } else {
        size_t rest = p->len - p->sent;
        char *both = xmalloc(rest + len + 1);
        memcpy(both, p->line + p->sent, rest);
        memcpy(both + rest, line, len);
        both[rest + len] = '\0';
        secret_free(line);
        secret_free(p->line);
        p->line = both;
        p->len = rest + len;
        p->sent = 0;
    }
    return p->line ? p->len - p->sent : 0;
}

static void go_on(void *ctx)
{
    struct line_process *p = ctx;
    if (!p->held && tell_lines(p) && loop_is_open(&p->out.poll.handle))
        loop_poll_start(&p->out.poll, UV_READABLE);
}

void line_process_hold(struct line_process *p, bool hold)
{
    if (p->held == hold)
        return;
    p->held = hold;
    if (!hold)
        loop_defer(p->group.loop, &p->go_on);
    else if (loop_is_open(&p->out.poll.handle))
        loop_poll_start(&p->out.poll, 0);
}

bool line_process_ignored(const struct line_process *p)
{
    int unread = 0;
    return p->in.fd >= 0 && ioctl(p->in.fd, FIONREAD, &unread) == 0 && (size_t)unread >= p->sent;
}

bool line_process_alive(const struct line_process *p)
{
    return !p->dead && p->ending == RUNS;
}

bool line_process_running(const struct line_process *p)
{
    return line_process_alive(p) && p->out.fd >= 0;
}

/* ---- its end ---- */

static void gone(void *ctx)
{
    struct line_process *p = ctx;
    struct loop_group *hold = p->hold;
    if (p->pidfd >= 0)
        close(p->pidfd);
    lines_fini(&p->lines);
    free(p->mark);
    free(p);
    loop_group_release(hold);
}

static void tell_end(struct line_process *p, const struct line_process_end *end)
{
    cgroup_release(steal(&p->cgroup));
    loop_timer_stop(p->group.loop, &p->timer);
    loop_task_cancel(p->group.loop, &p->go_on);
    p->events.ended(p->ctx, end);
    end_close(&p->in);
    end_close(&p->out);
    end_close(&p->err);
    secret_free(p->line);
    p->line = NULL;
    loop_group_close(&p->group, gone, p);
}

/* It is dead, and its number is still its own. */
static void ended(struct line_process *p)
{
    struct line_process_end end = {0};
    if (child_reap(p->pidfd, p->pid, CHILD_REAP_GROUP | CHILD_REAP_DEAD, &end.status) < 0)
        return;
    if (p->env.ledger && p->slot != SPAWN_NO_SLOT)
        ledger_release(p->env.ledger, (unsigned)p->slot);
    if (p->cgroup && end.status.exit_code != 0)
        cgroup_look(p->cgroup, &end.facts);
    if (!p->cgroup && p->env.sweeper)
        sweeper_note(p->env.sweeper, strchr(p->mark, '=') + 1);
    read_out(p, READS_AT_ONCE);
    read_err(p, READS_AT_ONCE);
    end.rest = lines_rest(&p->lines);
    end.refused = p->refused;
    tell_end(p, &end);
}

static void on_dead(void *ctx)
{
    struct line_process *p = ctx;
    p->dead = true;
    if (!p->killing) /* while a thread looks for the rest of its tree the pid must stay the zombie's */
        ended(p);
}

static void killed(void *ctx)
{
    struct line_process *p = ctx;
    p->killing = false;
    if (p->dead)
        ended(p);
    loop_group_release(&p->group);
}

/* The step that its end has come to, where it is known to run. */
static void pursue(struct line_process *p)
{
    if (p->dead || p->killing)
        return;
    if (p->ending == ASKED)
        loop_timer_start(p->group.loop, &p->timer, ASKED_MS);
    if (p->starting)
        return;
    if (p->ending == TERMINATED) {
        kill(-p->pid, SIGTERM);
        loop_timer_start(p->group.loop, &p->timer, TERM_GRACE_MS);
    } else if (p->ending == KILLED && p->cgroup) {
        cgroup_kill(p->cgroup);
    } else if (p->ending == KILLED) {
        p->killing = true;
        loop_group_hold(&p->group);
        process_kill_tree(p->group.loop, p->pid, p->mark, killed, p);
    }
}

void line_process_end(struct line_process *p, enum line_process_how how)
{
    enum ending want = how == LINE_PROCESS_ASK ? ASKED : TERMINATED;
    if (p->ending >= want)
        return;
    p->ending = want;
    if (how == LINE_PROCESS_ASK)
        end_close(&p->in);
    else if (p->starting)
        spawner_cancel(p->env.spawner, p->starting); /* or it is soon told that it runs */
    pursue(p);
}

static void on_timer(struct timer *timer, void *ctx)
{
    (void)timer;
    struct line_process *p = ctx;
    if (p->ending == RUNS) {
        p->events.fault(p->ctx, "it closed its standard output");
    } else if (p->ending == ASKED) {
        line_process_end(p, LINE_PROCESS_TERM);
    } else if (p->ending == TERMINATED) {
        p->ending = KILLED;
        pursue(p);
    }
}

static void started(void *ctx, const struct spawn_result *result)
{
    struct line_process *p = ctx;
    p->starting = NULL;
    if (result->error.code != 0) {
        p->dead = true;
        tell_end(p, &(struct line_process_end){.error = result->error.message});
        return;
    }
    p->pid = result->pid;
    p->pidfd = result->pidfd;
    p->slot = result->slot;
    if (p->ending != ASKED) /* that waits already */
        pursue(p);
}

/* ---- its start ---- */

int line_process_start(const struct process_env *env, struct loop_group *hold, struct spawn_request *request,
                       const char *mark, size_t line_max, const struct line_process_events *events, void *ctx,
                       struct line_process **ret, struct error *err)
{
    struct line_process *p = xcalloc(1, sizeof(*p));
    p->env = *env;
    p->events = *events;
    p->ctx = ctx;
    p->hold = hold;
    p->pidfd = p->in.fd = p->out.fd = p->err.fd = -1;
    p->slot = SPAWN_NO_SLOT;
    p->mark = xstrdup(mark);
    loop_group_hold(hold);
    loop_group_init(&p->group, env->loop);
    timer_init(&p->timer, on_timer, p);
    loop_task_init(&p->go_on, go_on, p);
    p->lines.max = line_max;
    int r = process_pipes((int *[]){&p->in.fd, &p->out.fd, &p->err.fd}, request, err);
    if (r == 0) {
        r = loop_poll_init(&p->group, &p->in.poll, p->in.fd, on_pipe, p);
        r = r < 0 ? r : listen_to(p, &p->out, UV_READABLE);
        r = r < 0 ? r : listen_to(p, &p->err, UV_READABLE);
        if (r < 0)
            error_set(err, r, "pipe: %s", strerrordesc_np(-r));
    }
    if (r < 0) {
        spawn_request_free(request);
        end_close(&p->in);
        end_close(&p->out);
        end_close(&p->err);
        loop_group_close(&p->group, gone, p);
        return r;
    }
    spawn_request_env(request, ORPHANS_TAG_VARIABLE, strchr(mark, '=') + 1);
    snprintf(request->tag, sizeof(request->tag), "%s", strchr(mark, '=') + 1);
    p->exit = (struct spawn_exit){.fn = on_dead, .ctx = p};
    request->done = started;
    request->ctx = p;
    request->exit = &p->exit;
    p->cgroup = process_cgroup(env->cgroups, request);
    p->starting = request;
    spawner_submit(env->spawner, request);
    *ret = p;
    return 0;
}
