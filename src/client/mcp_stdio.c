/* MCP over the standard input and output of a child: a message a line, each way. What it prints on standard error goes
 * to the log; its last line is told with its end. */
#include "base/mask.h"
#include "base/util.h"
#include "client/mcp_link.h"
#include "spawn/line_process.h"
#include "spawn/orphans.h"

#include <inttypes.h>
#include <stdio.h>

#define UNSENT_MAX ((size_t)64 << 20) /* bytes that it does not read */
#define STDERR_LINE_MAX 4000          /* bytes of a line that are kept */

struct mcp_link {
    struct process_env env;
    struct mcp_link_events events;
    void *ctx;
    struct loop_group group;
    struct line_process *process; /* NULL: it has ended, or was never started */
    bool ending;                  /* it was asked to end: nothing more is told */
    bool over;                    /* lost() was told, or will be */
    struct loop_task failed;      /* the start failed: told later */
    char *why;                    /* a fault that its end comes from; NULL: none */
    struct buf line;              /* of standard error, as far as it came */
    char *last;                   /* its last line that was not empty */
    void (*done)(void *ctx);
    void *done_ctx;
};

static void lose(struct mcp_link *l, const char *reason, const char *why)
{
    if (l->over || l->ending)
        return;
    l->over = true;
    l->events.lost(l->ctx, reason, why, false);
}

/* ---- what comes from it ---- */

static void on_line(void *ctx, const char *line, size_t len, bool more)
{
    (void)more;
    struct mcp_link *l = ctx;
    if (l->ending || len == 0 || (len == 1 && *line == '\r'))
        return;
    l->events.message(l->ctx, line, len);
}

static void on_too_long(void *ctx)
{
    struct mcp_link *l = ctx;
    static const char text[] = "a line of more than 16 MiB on standard output is left out";
    if (!l->ending)
        l->events.log(l->ctx, text, strlen(text));
}

static void end_of_error_line(struct mcp_link *l)
{
    while (l->line.len > 0 && strchr(" \t\r", l->line.data[l->line.len - 1]))
        l->line.len--;
    if (l->line.len == 0)
        return;
    free(l->last);
    l->last = xstrndup(l->line.data, l->line.len);
    l->events.log(l->ctx, l->line.data, l->line.len);
    l->line.len = 0;
}

static void on_printed(void *ctx, const char *data, size_t len)
{
    struct mcp_link *l = ctx;
    for (size_t i = 0; i < len; i++) {
        if (data[i] == '\n')
            end_of_error_line(l);
        else if (l->line.len < STDERR_LINE_MAX && data[i])
            buf_addc(&l->line, data[i]);
    }
}

static void on_fault(void *ctx, const char *what)
{
    struct mcp_link *l = ctx;
    if (l->ending)
        return;
    free(l->why);
    l->why = xstrdup(what);
    line_process_end(l->process, LINE_PROCESS_TERM);
}

static void finish(struct mcp_link *l);

static void on_ended(void *ctx, const struct line_process_end *end)
{
    struct mcp_link *l = ctx;
    char how[CHILD_STATUS_TEXT_SIZE];
    bool was_ending = l->ending;
    struct buf b = {0};
    l->process = NULL;
    end_of_error_line(l);
    if (end->error)
        buf_printf(&b, "cannot be started: %s", end->error);
    else if (l->why)
        buf_printf(&b, "was ended: %s", l->why);
    else if (end->refused)
        buf_adds(&b, "closed its standard input");
    else
        buf_printf(&b, "ended: %s", child_status_text(&end->status, how));
    if (l->last)
        buf_printf(&b, ": %s", l->last);
    lose(l, end->error ? "StartFailed" : "ServerExited", b.data);
    buf_fini(&b);
    if (was_ending)
        finish(l);
}

static const struct line_process_events process_events = {
    .line = on_line, .too_long = on_too_long, .printed = on_printed, .fault = on_fault, .ended = on_ended};

/* ---- its start ---- */

static void tell_failed(void *ctx)
{
    struct mcp_link *l = ctx;
    lose(l, "StartFailed", l->why);
}

static struct spawn_request *request_of(const struct mcp_env *env, const struct mcp_target *t)
{
    struct spawn_request *r = spawn_request_new();
    process_base_env(r);
    if (env->node_id)
        spawn_request_env(r, ORPHANS_NODE_VARIABLE, env->node_id);
    const cJSON *item;
    cJSON_ArrayForEach (item, t->env)
        spawn_request_env(r, item->string, item->valuestring);
    for (char **arg = t->argv; *arg; arg++)
        spawn_request_arg(r, *arg);
    r->cwd = xstrdup0(t->cwd);
    return r;
}

static struct mcp_link *stdio_create(const struct mcp_env *env, const struct mcp_target *target,
                                     const struct mcp_link_events *events, void *ctx)
{
    struct mcp_link *l = xcalloc(1, sizeof(*l));
    struct error err = ERROR_INIT;
    *l = (struct mcp_link){.env = env->process, .events = *events, .ctx = ctx};
    loop_group_init(&l->group, env->process.loop);
    loop_task_init(&l->failed, tell_failed, l);
    uint64_t number = random_u64(env->random);
    char mark[128];
    snprintf(mark, sizeof(mark), ORPHANS_TAG_VARIABLE "=mcp/%.40s/%016" PRIx64, target->name, number);
    if (line_process_start(&l->env, &l->group, request_of(env, target), mark, MCP_MESSAGE_MAX, &process_events, l,
                           &l->process, &err) < 0) {
        l->process = NULL;
        l->why = xasprintf("cannot be started: %s", err.message);
        loop_defer(l->env.loop, &l->failed);
    }
    return l;
}

/* ---- what goes to it ---- */

static void stdio_send(struct mcp_link *l, char *text, size_t len, int64_t id)
{
    (void)id;
    if (!l->process || l->ending || l->over) {
        secret_free(text);
        return;
    }
    text = xrealloc(text, len + 2);
    text[len] = '\n';
    text[len + 1] = '\0';
    if (line_process_queue(l->process, text, len + 1) > UNSENT_MAX)
        on_fault(l, "it does not read its standard input");
}

static void stdio_hold(struct mcp_link *l, bool hold)
{
    if (l->process)
        line_process_hold(l->process, hold);
}

static void nothing_id(struct mcp_link *l, int64_t id)
{
    (void)l, (void)id;
}

static void nothing_text(struct mcp_link *l, const char *text)
{
    (void)l, (void)text;
}

static void nothing(struct mcp_link *l)
{
    (void)l;
}

/* ---- its end ---- */

static void gone(void *ctx)
{
    struct mcp_link *l = ctx;
    void (*done)(void *) = l->done;
    void *done_ctx = l->done_ctx;
    buf_fini(&l->line);
    free(l->last);
    free(l->why);
    free(l);
    done(done_ctx);
}

static void finish(struct mcp_link *l)
{
    loop_task_cancel(l->env.loop, &l->failed);
    loop_group_close(&l->group, gone, l);
}

static void stdio_close(struct mcp_link *l, bool force, void (*done)(void *ctx), void *ctx)
{
    l->ending = true;
    l->done = done;
    l->done_ctx = ctx;
    if (!l->process) {
        finish(l);
        return;
    }
    line_process_hold(l->process, false); /* it may be stuck in a write */
    line_process_end(l->process, force ? LINE_PROCESS_TERM : LINE_PROCESS_ASK);
}

const struct mcp_link_type mcp_stdio_link = {
    .create = stdio_create,
    .send = stdio_send,
    .forget = nothing_id,
    .agreed = nothing_text,
    .listen = nothing,
    .hold = stdio_hold,
    .close = stdio_close,
};
