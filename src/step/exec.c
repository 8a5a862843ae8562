/* exec: run a program as a step.
 *
 *   STARTING ─► RUNNING ─► (exited: drain) ─► ENDED
 *      │           └─ cancel: SIGTERM to its group, 5 s later SIGKILL to all of it
 *      └─ cancel: taken out of the spawner's queue, or killed as soon as it runs
 *
 * The inputs go to standard input as one JSON object and a newline; most fit into the pipe before the program starts.
 * Output is read when the program ends or has run for a while, so that a short program costs the loop no descriptor: of
 * its end the spawner tells, and only what is listened to is made non-blocking.
 * It ends when the process has exited and both outputs are at their end; what then still holds them is killed with the
 * group, and after a second they are not waited for any more.
 */
#include "step/exec_config.h"

#include "base/loop.h"
#include "base/util.h"
#include "engine/step_type.h"
#include "spawn/orphans.h"
#include "spawn/sandbox.h"
#include "spawn/sweeper.h"
#include "step/list.h"
#include "step/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define LISTEN_AFTER_MS 10
#define READS_AT_ONCE 64 /* 1 MiB: somebody may write without end */
#define TERM_GRACE_MS 5000
#define DRAIN_MS 1000
#define CPU_LOOK_MIN_MS 50
#define INPUT_VARIABLE_MAX (32 * 1024)

struct pipe_end {
    int fd; /* -1: closed */
    struct loop_poll poll;
    bool polled;
    struct buf kept;
    struct mask_stream unmasked; /* where the run has secrets: what may be the beginning of one */
    uint64_t dropped;
};

struct exec {
    struct step_call *call; /* NULL once it was told */
    const struct exec_config *config;
    const struct mask *mask; /* NULL: the run has no secrets */
    struct loop_group group;
    struct spawn_request *request; /* while STARTING */
    struct sandbox_wait wait;      /* before that, while it is not known whether there are sandboxes */
    pid_t pid;
    int pidfd, slot;
    struct cgroup *cgroup; /* from its start until it is dead; NULL: none of its own */
    struct cgroup_facts facts;
    struct timer cpu_timer; /* of a group: until its time could be used up */
    struct spawn_exit exit;
    struct pipe_end in, out, err;
    char *input;
    size_t input_len, input_sent;
    struct timer timer; /* listen, then the kill after a cancel, then the end of draining */
    bool running, cancelled, dead, reaped, killing, awaiting, refused, overtime;
    struct child_status status;
    struct loop_task failed; /* a failure before anything started, told later */
    char *failure;
    char mark[160];
};

static void finish(struct exec *x);

/* ---- pipes ---- */

static void end_close(struct exec *x, struct pipe_end *p)
{
    (void)x;
    if (p->polled)
        loop_close(&p->poll.handle, NULL, NULL);
    p->polled = false;
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
}

/* Of `kept`, what is past the bound goes. */
static void bound(const struct exec *x, struct pipe_end *p)
{
    size_t limit = (size_t)x->config->max_output_bytes;
    if (p->kept.len > limit) {
        p->dropped += p->kept.len - limit;
        p->kept.len = limit;
    }
}

static void keep(struct exec *x, struct pipe_end *p, const char *data, size_t len)
{
    if (x->mask) {
        mask_feed(x->mask, &p->unmasked, data, len, &p->kept);
        bound(x, p);
        return;
    }
    size_t limit = (size_t)x->config->max_output_bytes;
    size_t room = limit > p->kept.len ? limit - p->kept.len : 0;
    size_t take = MIN(room, len);
    buf_add(&p->kept, data, take);
    p->dropped += (uint64_t)len - take;
}

/* One read; closes at the end. */
static void read_some(struct exec *x, struct pipe_end *p)
{
    char chunk[16384];
    ssize_t n = read(p->fd, chunk, sizeof(chunk));
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) {
        end_close(x, p);
        return;
    }
    keep(x, p, chunk, (size_t)n);
    if (x->call)
        step_printed(x->call);
}

/* Read what there is, without waiting; closes what is at its end. */
static void drain(struct exec *x)
{
    struct pipe_end *ends[] = {&x->out, &x->err};
    struct pollfd fds[ARRAY_SIZE(ends)];
    for (int reads = 0; reads < READS_AT_ONCE && (x->out.fd >= 0 || x->err.fd >= 0); reads++) {
        for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
            fds[i] = (struct pollfd){.fd = ends[i]->fd, .events = POLLIN}; /* -1 is passed over */
        if (poll(fds, ARRAY_SIZE(ends), 0) <= 0)
            return;
        for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
            if (fds[i].revents & POLLIN)
                read_some(x, ends[i]);
            else if (fds[i].revents)
                end_close(x, ends[i]);
        }
    }
}

static void send_input(struct exec *x)
{
    while (x->in.fd >= 0) {
        ssize_t n = write(x->in.fd, x->input + x->input_sent, x->input_len - x->input_sent);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n > 0)
            x->input_sent += (size_t)n;
        if (n < 0 || x->input_sent == x->input_len) {
            end_close(x, &x->in); /* sent, or nobody reads it */
            free(x->input);
            x->input = NULL;
        }
    }
}

static void on_pipe(void *ctx, int fd, int events, int status)
{
    (void)events, (void)status;
    struct exec *x = ctx;
    if (fd == x->in.fd)
        send_input(x);
    else
        drain(x);
    if (x->reaped && x->out.fd < 0 && x->err.fd < 0)
        finish(x);
}

static void listen_to(struct exec *x, struct pipe_end *p, int events)
{
    if (p->fd < 0 || p->polled)
        return;
    if (loop_poll_init(&x->group, &p->poll, p->fd, on_pipe, x) < 0) {
        end_close(x, p);
        return;
    }
    p->polled = true;
    loop_poll_start(&p->poll, events);
}

/* ---- the end ---- */

static void gone(void *ctx)
{
    struct exec *x = ctx;
    if (x->pidfd >= 0)
        close(x->pidfd);
    buf_fini(&x->out.kept);
    buf_fini(&x->err.kept);
    mask_stream_fini(&x->out.unmasked);
    mask_stream_fini(&x->err.unmasked);
    free(x->input);
    free(x->failure);
    free(x);
}

static cJSON *output_value(const struct pipe_end *out)
{
    cJSON *v = NULL;
    if (out->dropped == 0 && out->kept.len > 0 && value_parse(out->kept.data, out->kept.len, &v, NULL) == 0)
        return v;
    v = cJSON_CreateObject();
    cJSON_AddItemToObject(v, "stdout", value_from_bytes(out->kept.data ? out->kept.data : "", out->kept.len));
    return v;
}

static void tell(struct exec *x, struct step_result *r)
{
    struct step_call *call = x->call;
    x->call = NULL;
    call->state = NULL;
    timer_stop(call->env->timers, &x->timer);
    timer_stop(call->env->timers, &x->cpu_timer);
    cgroup_release(steal(&x->cgroup));
    end_close(x, &x->in);
    end_close(x, &x->out);
    end_close(x, &x->err);
    loop_group_close(&x->group, gone, x);
    step_done(call, r);
}

static void flush(struct exec *x, struct pipe_end *p)
{
    if (!x->mask)
        return;
    mask_flush(x->mask, &p->unmasked, &p->kept);
    bound(x, p);
}

/* Programs say themselves that they ran into a limit, in the C library's words, but not that it is their step's. */
static void add_limit(const struct exec *x, struct buf *text, const char *tail)
{
    const struct exec_limits *l = &x->config->limits;
    const struct {
        const char *name;
        double value;
        bool met;
    } rows[] = {
        {"cpu_seconds", l->cpu_seconds,
         x->overtime || x->status.signal == SIGXCPU || (x->status.signal == SIGKILL && !x->facts.out_of_memory)},
        {"open_files", (double)l->open_files, strstr(tail, "oo many open files") != NULL},
        {"processes", (double)l->processes,
         x->facts.no_processes || strstr(tail, "esource temporarily unavailable") || strstr(tail, "annot fork")},
        {"memory_bytes", (double)l->memory_bytes,
         x->facts.out_of_memory || strstr(tail, "emoryError") || strstr(tail, "annot allocate memory") ||
             strcasestr(tail, "out of memory")},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (rows[i].value > 0 && rows[i].met && !x->cancelled)
            buf_printf(text, " (limits.%s is %.16g)", rows[i].name, rows[i].value);
}

/* How it ended, and the last lines of standard error. */
static char *failure_text(const struct exec *x)
{
    struct buf text = {0};
    _cleanup_(freep) char *how = process_end_text(&x->status, &x->facts);
    _cleanup_(freep) char *tail = process_error_tail(&x->err.kept);
    buf_adds(&text, how);
    add_limit(x, &text, tail);
    if (*tail)
        buf_printf(&text, ": %s", tail);
    return buf_steal(&text);
}

/* bwrap tells of a signal as shells do. */
static void signal_in_sandbox(struct exec *x)
{
    int signal = x->status.exit_code - 128;
    if (x->config->sandbox == EXEC_SANDBOX_STRICT && signal > 0 && signal < NSIG && sigabbrev_np(signal))
        x->status = (struct child_status){.exit_code = -1, .signal = signal};
}

static void finish(struct exec *x)
{
    struct step_result r = STEP_RESULT_INIT;
    flush(x, &x->out);
    flush(x, &x->err);
    signal_in_sandbox(x);
    r.exit_code = x->status.exit_code;
    r.term_signal = x->status.signal;
    bool ok = x->status.exit_code == 0 && !x->overtime;
    r.status = x->cancelled ? STEP_CANCELLED : ok ? STEP_COMPLETED : STEP_FAILED;
    if (ok)
        r.output = output_value(&x->out);
    if (r.status != STEP_COMPLETED)
        r.error = failure_text(x);
    process_add_mark(&x->out.kept, x->out.dropped);
    process_add_mark(&x->err.kept, x->err.dropped);
    r.out_len = x->out.kept.len;
    r.out = buf_steal(&x->out.kept);
    r.err_len = x->err.kept.len;
    r.err = buf_steal(&x->err.kept);
    tell(x, &r);
}

static void tell_failure(void *ctx)
{
    struct exec *x = ctx;
    struct step_result r = STEP_RESULT_INIT;
    r.status = x->cancelled ? STEP_CANCELLED : STEP_FAILED;
    r.permanent = x->refused;
    r.error = x->failure ? steal(&x->failure) : xstrdup("cancelled before it started");
    tell(x, &r);
}

/* ---- while it runs ---- */

static void ended(struct exec *x);

static void killed_tree(void *ctx)
{
    struct exec *x = ctx;
    x->killing = false;
    if (x->dead && !x->reaped)
        ended(x);
    loop_group_release(&x->group);
}

static void kill_all(struct exec *x)
{
    if (x->cgroup) {
        cgroup_kill(x->cgroup);
        return;
    }
    if (x->killing) {
        kill(-x->pid, SIGKILL);
        return;
    }
    x->killing = true;
    loop_group_hold(&x->group);
    process_kill_tree(x->group.loop, x->pid, x->mark, killed_tree, x);
}

static void on_timer(struct timer *timer, void *ctx)
{
    (void)timer;
    struct exec *x = ctx;
    if (x->reaped) {
        finish(x);           /* somebody outside the group holds its output */
    } else if (x->request) { /* a slow start, or one not told yet */
        loop_timer_start(x->group.loop, &x->timer, LISTEN_AFTER_MS);
        spawner_collect(x->call->env->spawner, 0);
    } else if (x->cancelled || x->overtime) {
        kill_all(x);
    } else {
        listen_to(x, &x->out, UV_READABLE);
        listen_to(x, &x->err, UV_READABLE);
        listen_to(x, &x->in, UV_WRITABLE);
        drain(x);
        send_input(x);
    }
}

/* It is dead, and its number is still its own. */
static void ended(struct exec *x)
{
    if (child_reap(x->pidfd, x->pid, CHILD_REAP_GROUP | CHILD_REAP_DEAD, &x->status) < 0)
        return;
    x->reaped = true;
    if (x->call->env->ledger && x->slot != SPAWN_NO_SLOT)
        ledger_release(x->call->env->ledger, x->slot);
    if (x->cgroup && x->status.exit_code != 0)
        cgroup_look(x->cgroup, &x->facts);
    if (!x->cgroup && x->call->env->sweeper)
        sweeper_note(x->call->env->sweeper, strchr(x->mark, '=') + 1);
    cgroup_release(steal(&x->cgroup)); /* with all that is left in it */
    end_close(x, &x->in);
    drain(x);
    if (x->out.fd < 0 && x->err.fd < 0) {
        finish(x);
        return;
    }
    listen_to(x, &x->out, UV_READABLE);
    listen_to(x, &x->err, UV_READABLE);
    loop_timer_start(x->group.loop, &x->timer, DRAIN_MS);
}

static void on_dead(void *ctx)
{
    struct exec *x = ctx;
    x->dead = true;
    if (!x->killing) /* while a thread looks for the rest of its tree the pid must stay the zombie's */
        ended(x);
}

static void terminate(struct exec *x)
{
    if (x->config->sandbox == EXEC_SANDBOX_STRICT && !x->killing) {
        x->killing = true;
        loop_group_hold(&x->group);
        process_ask_below(x->group.loop, x->pid, killed_tree, x);
    } else {
        kill(-x->pid, SIGTERM);
    }
    loop_timer_start(x->group.loop, &x->timer, TERM_GRACE_MS);
}

/* Its CPU time is that of the group, so that forking gets nobody around the limit. */
static void watch_cpu(struct exec *x)
{
    long processors = MAX(sysconf(_SC_NPROCESSORS_ONLN), 1L);
    struct cgroup_facts now;
    cgroup_look(x->cgroup, &now);
    int64_t left_us = (int64_t)(x->config->limits.cpu_seconds * 1e6) - now.cpu_us;
    if (left_us > 0) {
        loop_timer_start(x->group.loop, &x->cpu_timer, MAX(left_us / 1000 / processors, (int64_t)CPU_LOOK_MIN_MS));
        return;
    }
    x->overtime = true;
    terminate(x);
}

static void on_cpu_timer(struct timer *timer, void *ctx)
{
    (void)timer;
    struct exec *x = ctx;
    if (x->cgroup && !x->dead && !x->cancelled)
        watch_cpu(x);
}

static char *start_failure(const struct exec *x, const struct spawn_result *result)
{
    bool who = result->stage == SPAWN_STAGE_SETGROUPS || result->stage == SPAWN_STAGE_SETGID ||
               result->stage == SPAWN_STAGE_SETUID;
    if (who && result->error.code == -EPERM)
        return xasprintf("user: \"%s\": triggerd must be root to run a step as another user (%s)", x->config->user,
                         result->error.message);
    return xstrdup(result->error.message);
}

static void started(void *ctx, const struct spawn_result *result)
{
    struct exec *x = ctx;
    x->request = NULL;
    if (result->error.code != 0) {
        if (!x->cancelled)
            x->failure = start_failure(x, result);
        tell_failure(x);
        return;
    }
    x->running = true;
    x->pid = result->pid;
    x->pidfd = result->pidfd;
    x->slot = result->slot;
    if (x->cancelled)
        terminate(x);
    else if (x->cgroup && x->config->limits.cpu_seconds > 0)
        watch_cpu(x);
}

/* ---- starting ---- */

static void set_variable(void *ctx, const char *name, const char *value)
{
    spawn_request_env(ctx, name, value);
}

/* `INPUT_` and the key in upper case, each character but A–Z and 0–9 as `_`. */
static void set_inputs(struct spawn_request *r, const cJSON *inputs)
{
    const cJSON *item;
    cJSON_ArrayForEach (item, inputs) {
        if (streq(item->string, "_trigger_event"))
            continue;
        struct buf name = {0};
        buf_adds(&name, "INPUT_");
        for (const char *p = item->string; *p; p++) {
            char c = *p;
            if (((unsigned char)c & 0xc0) == 0x80) /* of a character that has its `_` */
                continue;
            if (c >= 'a' && c <= 'z')
                c = (char)(c - 'a' + 'A');
            buf_addc(&name, (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ? c : '_');
        }
        _cleanup_(freep) char *text = cJSON_IsString(item) ? xstrdup(item->valuestring) : value_print(item);
        if (strlen(text) <= INPUT_VARIABLE_MAX)
            spawn_request_env(r, name.data, text);
        buf_fini(&name);
    }
}

/* The script, and a variable for each of its references. */
static int set_script(struct exec *x, struct spawn_request *r, struct error *err)
{
    const struct exec_program *p = x->call->program;
    spawn_request_arg(r, "/bin/sh");
    spawn_request_arg(r, "-eu");
    spawn_request_arg(r, "-c");
    spawn_request_arg(r, p->script);
    for (size_t i = 0; i < p->secrets.n; i++) {
        char name[64];
        char *value = NULL;
        const struct template_secrets *with = x->call->secrets;
        int e = secrets_expand(with->secrets, p->secrets.items[i], with->dir, &value, err);
        if (e < 0)
            return error_wrap(err, "script");
        snprintf(name, sizeof(name), SECRET_VARIABLE "%zu", i + 1);
        spawn_request_env(r, name, value);
        secret_free(value);
    }
    return 0;
}

/* Everything of the request but its descriptors. */
static int fill(struct exec *x, struct spawn_request *r, struct error *err)
{
    struct step_call *call = x->call;
    const struct exec_config *c = x->config;
    const struct exec_program *p = call->program;
    const cJSON *context = NULL;
    const char *inputs_text = NULL;
    if (step_context_expanded(call, &context, &inputs_text, err) < 0)
        return err->code;
    process_base_env(r);
    set_inputs(r, value_get(context, "inputs"));
    step_env_each(call, set_variable, r);
    spawn_request_env(r, ORPHANS_TAG_VARIABLE, strchr(x->mark, '=') + 1);
    if (process_fill(c, p, context, call->secrets, r, err) < 0)
        return err->code;
    if (p->script && set_script(x, r, err) < 0)
        return err->code;
    if (c->sandbox == EXEC_SANDBOX_STRICT)
        /* Who reaches the socket may run anything. */
        sandbox_wrap(call->env->sandbox, c->writable.items, c->writable.n, call->env->socket_path, r);
    snprintf(r->tag, sizeof(r->tag), "%s", call->run_id);
    x->input = xasprintf("%s\n", inputs_text);
    x->input_len = strlen(x->input);
    return 0;
}

static void launch(struct exec *x)
{
    struct step_call *call = x->call;
    struct error err = ERROR_INIT;
    struct spawn_request *r = spawn_request_new();
    if (fill(x, r, &err) < 0 || process_pipes((int *[]){&x->in.fd, &x->out.fd, &x->err.fd}, r, &err) < 0) {
        spawn_request_free(r);
        x->failure = xstrdup(err.message);
        loop_defer(call->env->loop, &x->failed);
        return;
    }
    if (x->input_len > PIPE_BUF) /* that much has room in an empty pipe */
        fcntl(x->in.fd, F_SETFL, O_NONBLOCK);
    send_input(x);
    x->cgroup = process_cgroup(call->env->cgroups, r);
    x->exit = (struct spawn_exit){.fn = on_dead, .ctx = x};
    r->done = started;
    r->ctx = x;
    r->exit = &x->exit;
    x->request = r;
    loop_timer_start(x->group.loop, &x->timer, LISTEN_AFTER_MS);
    spawner_submit(call->env->spawner, r);
}

/* Never without a sandbox that was asked for. */
static const char *exec_refused(const struct step *step, const struct step_env *env)
{
    const struct exec_config *c = step->config;
    const char *why = "sandbox: strict is refused: there is none here";
    if (c->sandbox == EXEC_SANDBOX_NONE)
        return NULL;
    if (env->sandbox)
        sandbox_probe(env->sandbox);
    enum sandbox_state state = env->sandbox ? sandbox_state(env->sandbox, &why) : SANDBOX_REFUSED;
    return state == SANDBOX_REFUSED ? why : NULL;
}

static void sandbox_known(void *ctx)
{
    struct exec *x = ctx;
    x->awaiting = false;
    const char *why = exec_refused(x->call->step, x->call->env);
    if (!why) {
        launch(x);
        return;
    }
    x->failure = xstrdup(why);
    x->refused = true;
    loop_defer(x->call->env->loop, &x->failed);
}

static void await_sandbox(struct exec *x)
{
    x->awaiting = true;
    sandbox_await(x->call->env->sandbox, &x->wait);
}

static void exec_start(struct step_call *call)
{
    struct exec *x = xcalloc(1, sizeof(*x));
    x->call = call;
    x->config = call->step->config;
    x->mask = call->secrets ? secrets_mask(call->secrets->secrets) : NULL;
    x->pidfd = x->in.fd = x->out.fd = x->err.fd = -1;
    x->slot = SPAWN_NO_SLOT;
    call->state = x;
    loop_group_init(&x->group, call->env->loop);
    timer_init(&x->timer, on_timer, x);
    timer_init(&x->cpu_timer, on_cpu_timer, x);
    loop_task_init(&x->failed, tell_failure, x);
    snprintf(x->mark, sizeof(x->mark), ORPHANS_TAG_VARIABLE "=%s/%d", call->idempotency_key, call->attempt);

    x->wait = (struct sandbox_wait){.fn = sandbox_known, .ctx = x};
    if (x->config->sandbox == EXEC_SANDBOX_NONE)
        launch(x);
    else if (call->env->sandbox && sandbox_state(call->env->sandbox, NULL) == SANDBOX_UNKNOWN)
        await_sandbox(x);
    else
        sandbox_known(x);
}

static void exec_cancel(struct step_call *call)
{
    struct exec *x = call->state;
    if (!x || x->cancelled)
        return;
    x->cancelled = true;
    if (x->awaiting) {
        x->awaiting = false;
        sandbox_leave(call->env->sandbox, &x->wait);
        loop_defer(call->env->loop, &x->failed);
    } else if (x->running && !x->reaped && !x->overtime)
        terminate(x);
    else if (x->request)
        spawner_cancel(call->env->spawner, x->request);
}

static size_t exec_peek(struct step_call *call, bool standard_error, size_t offset, const char **ret_data)
{
    struct exec *x = call->state;
    struct pipe_end *p = x ? (standard_error ? &x->err : &x->out) : NULL;
    if (!p || offset >= p->kept.len)
        return 0;
    *ret_data = p->kept.data + offset;
    return p->kept.len - offset;
}

const struct step_type step_exec = {
    .kind = {.name = "exec", .config = &exec_fields, .validate = exec_validate, .rules = exec_rules},
    .compile = exec_compile,
    .free_program = exec_program_free,
    .each_path = exec_each_path,
    .each_reference = exec_each_reference,
    .refused = exec_refused,
    .start = exec_start,
    .cancel = exec_cancel,
    .peek = exec_peek,
};
