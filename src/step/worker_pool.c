#include "step/worker_pool.h"

#include "base/log.h"
#include "engine/secret_read.h"
#include "spawn/line_process.h"
#include "spawn/orphans.h"
#include "step/process.h"
#include "step/worker_line.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <uthash.h>
#include <utlist.h>

#define STDERR_MAX ((size_t)1 << 20) /* of a request */
#define SAID_MAX 400                 /* bytes of one line of the log */
#define IGNORED_MAX 3                /* how often a request is handed on by processes that died without reading it */
#define RESTART_MIN_MS 100           /* after the second process that never answered; doubles up to … */
#define RESTART_MAX_MS 2000
#define MARK_SIZE 200

struct worker_pools {
    struct worker_pools_options options;
    struct loop_group group; /* held by each worker and each process */
    struct worker_pool *open;
    int64_t started; /* processes so far; their numbers */
    bool closing;
    void (*done)(void *ctx);
    void *ctx;
};

/* One attempt of a step. */
struct request {
    struct step_call *call;
    struct worker_pool *pool;
    struct worker *worker; /* NULL: waits */
    const char *inputs_text;
    int64_t id;
    unsigned ignored;
    bool cancelled;
    struct buf err;
    struct mask_stream own, run; /* of the worker's secrets, of the run's */
    uint64_t dropped;
    struct loop_task told; /* an end without a process */
    char *failure;
    struct request *prev, *next;
};

/* A process, from the reading of its secrets on. */
struct worker {
    struct worker_pool *pool;
    struct line_process *process; /* NULL: before its start */
    struct secrets *secrets;      /* NULL: its config refers to none */
    struct secret_read *reading;
    struct request *request; /* NULL: idle, or ending */
    char *fault;             /* why it is being ended */
    int64_t answered;
    int64_t idle_since;
    struct timer timer; /* of its start while it has not answered, then of its idleness */
    bool idle;          /* in the pool's list */
    bool retired;       /* was asked to end */
    struct loop_task failed;
    struct worker *prev, *next; /* idle ones, the last used first */
};

struct worker_pool {
    char *key;
    struct worker_pools *pools; /* NULL: they are closed */
    const struct step_env *env;
    char *pipeline_id, *step_id;
    char *dir; /* of the manifest that its references stand in; NULL: it has none */
    int64_t size, max_requests, idle_ms, start_ms;
    unsigned refs; /* of programs */
    unsigned pins; /* of functions that go on with it */
    bool closed;
    struct request *waiting;
    struct worker *idle;
    int64_t n_workers;
    int64_t last_id;
    unsigned bad_starts; /* in a row */
    int64_t next_start_ms;
    struct timer restart; /* only while a request waits for it */
    struct log_limit limit;
    UT_hash_handle hh;
};

static void dispatch(struct worker_pool *pool);

static int64_t now_ms(const struct worker_pool *pool)
{
    return clock_monotonic_ms(pool->env->clock);
}

__attribute__((format(printf, 2, 3))) static void say(struct worker_pool *pool, const char *format, ...)
{
    uint64_t suppressed;
    if (!pool->pools || !pool->pools->options.log || !log_limit_pass(&pool->limit, now_ms(pool), &suppressed))
        return;
    va_list args;
    va_start(args, format);
    _cleanup_(freep) char *text = xvasprintf(format, args);
    va_end(args);
    if (suppressed > 0) {
        char *more = xasprintf("%s (%" PRIu64 " more were not logged)", text, suppressed);
        free(text);
        text = more;
    }
    pool->pools->options.log(pool->pools->options.ctx, pool->pipeline_id, pool->step_id, text);
}

/* ---- requests ---- */

static const struct mask *own_mask(const struct request *r)
{
    return r->worker && r->worker->secrets ? secrets_mask(r->worker->secrets) : NULL;
}

static const struct mask *run_mask(const struct request *r)
{
    return r->call->secrets ? secrets_mask(r->call->secrets->secrets) : NULL;
}

static void bound(struct request *r)
{
    if (r->err.len <= STDERR_MAX)
        return;
    r->dropped += r->err.len - STDERR_MAX;
    r->err.len = STDERR_MAX;
}

/* What it printed, for as long as the request is in flight. */
static void request_printed(struct request *r, const char *data, size_t len)
{
    const struct mask *own = own_mask(r), *run = run_mask(r);
    struct buf between = {0};
    if (own) {
        mask_feed(own, &r->own, data, len, &between);
        data = between.data ? between.data : "";
        len = between.len;
    }
    if (run) {
        mask_feed(run, &r->run, data, len, &r->err);
    } else {
        size_t room = STDERR_MAX - MIN(r->err.len, STDERR_MAX);
        buf_add(&r->err, data, MIN(room, len));
        r->dropped += len - MIN(room, len);
    }
    buf_fini(&between);
    bound(r);
}

/* Nothing of what it printed is held back any more. */
static void request_flush(struct request *r)
{
    const struct mask *own = own_mask(r), *run = run_mask(r);
    struct buf rest = {0};
    if (own)
        mask_flush(own, &r->own, &rest);
    if (run) {
        mask_feed(run, &r->run, rest.data ? rest.data : "", rest.len, &r->err);
        mask_flush(run, &r->run, &r->err);
    } else if (rest.len > 0) {
        buf_add(&r->err, rest.data, rest.len);
    }
    buf_fini(&rest);
    bound(r);
}

/* Taken out of everything it was in. */
static void request_done(struct request *r, struct step_result *result)
{
    struct step_call *call = r->call;
    const struct mask *own = own_mask(r);
    request_flush(r);
    if (own) {
        mask_string(own, &result->error);
        if (result->output)
            secrets_mask_tree(r->worker->secrets, result->output);
    }
    process_add_mark(&r->err, r->dropped);
    result->err_len = r->err.len;
    result->err = buf_steal(&r->err);
    mask_stream_fini(&r->own);
    mask_stream_fini(&r->run);
    free(r->failure);
    free(r);
    call->state = NULL;
    step_done(call, result);
}

/* The end of one that never had a process, or lost it before it started. */
static void tell_failure(void *ctx)
{
    struct request *r = ctx;
    struct step_result result = STEP_RESULT_INIT;
    result.status = r->cancelled ? STEP_CANCELLED : STEP_FAILED;
    result.error = r->failure ? steal(&r->failure) : xstrdup("cancelled before it started");
    request_done(r, &result);
}

/* ---- workers ---- */

static void pool_free(struct worker_pool *pool)
{
    if (pool->refs > 0 || pool->pins > 0 || pool->n_workers > 0)
        return;
    timer_stop(pool->env->timers, &pool->restart);
    free(pool->key);
    free(pool->pipeline_id);
    free(pool->step_id);
    free(pool->dir);
    free(pool);
}

static void idle_leave(struct worker *w)
{
    if (w->idle)
        DL_DELETE(w->pool->idle, w);
    w->idle = false;
}

/* It has no process any more, and no request. The caller looks whether its pool goes, too. */
static void worker_free(struct worker *w)
{
    struct worker_pool *pool = w->pool;
    struct loop_group *hold = &pool->pools->group;
    idle_leave(w);
    timer_stop(pool->env->timers, &w->timer);
    secrets_destroy(w->secrets);
    free(w->fault);
    free(w);
    pool->n_workers--;
    loop_group_release(hold);
}

static void worker_retire(struct worker *w, enum line_process_how how)
{
    idle_leave(w);
    w->retired = true;
    timer_stop(w->pool->env->timers, &w->timer);
    line_process_end(w->process, how);
}

/* It cannot go on: its request fails when it has ended. */
__attribute__((format(printf, 2, 3))) static void worker_fault(struct worker *w, const char *format, ...)
{
    if (w->fault || w->retired)
        return;
    va_list args;
    va_start(args, format);
    w->fault = xvasprintf(format, args);
    va_end(args);
    if (!w->request)
        say(w->pool, "a worker without a request is replaced: %s", w->fault);
    if (line_process_alive(w->process))
        worker_retire(w, LINE_PROCESS_TERM);
}

static void worker_rest(struct worker *w)
{
    struct worker_pool *pool = w->pool;
    bool worn = pool->max_requests > 0 && w->answered >= pool->max_requests;
    if (!line_process_running(w->process))
        return;
    if (worn || pool->closed) {
        worker_retire(w, LINE_PROCESS_ASK);
        return;
    }
    DL_PREPEND(pool->idle, w);
    w->idle = true;
    if (pool->idle_ms > 0) {
        w->idle_since = now_ms(pool);
        if (!timer_active(&w->timer))
            timer_start(pool->env->timers, &w->timer, w->idle_since + pool->idle_ms);
    }
}

static void on_worker_timer(struct timer *timer, void *ctx)
{
    struct worker *w = ctx;
    struct worker_pool *pool = w->pool;
    if (w->answered == 0) {
        char seconds[32];
        snprintf(seconds, sizeof(seconds), "%g", (double)pool->start_ms / 1000);
        if (w->request && line_process_ignored(w->process))
            worker_fault(w, "the worker did not read its first request within %s s of its start", seconds);
        return;
    }
    if (!w->idle)
        return;
    int64_t due = w->idle_since + pool->idle_ms;
    if (due > now_ms(pool))
        timer_start(pool->env->timers, timer, due);
    else
        worker_retire(w, LINE_PROCESS_ASK);
}

static void worker_give(struct worker *w, struct request *r)
{
    struct worker_pool *pool = w->pool;
    const struct step_call *call = r->call;
    struct buf line = {0};
    r->worker = w;
    r->id = ++pool->last_id;
    w->request = r;
    worker_request_print(&(struct worker_request){.id = r->id,
                                                  .run_id = call->run_id,
                                                  .step = call->step->id,
                                                  .attempt = call->attempt,
                                                  .idempotency_key = call->idempotency_key,
                                                  .traceparent = call->traceparent,
                                                  .inputs_text = r->inputs_text},
                         &line);
    size_t len = line.len;
    line_process_send(w->process, buf_take(&line), len);
}

/* ---- what processes tell ---- */

static void on_line(void *ctx, const char *text, size_t len, bool more)
{
    struct worker *w = ctx;
    struct worker_pool *pool = w->pool;
    struct request *r = w->request;
    struct worker_answer answer;
    struct error err = ERROR_INIT;
    if (w->fault || (r && r->cancelled))
        return;
    if (worker_answer_parse(text, len, &answer, &err) < 0) {
        worker_fault(w, "%s", err.message);
        return;
    }
    if (!r || answer.id != r->id) {
        char id[32];
        snprintf(id, sizeof(id), "%" PRId64, answer.id);
        worker_fault(w,
                     r ? "it answered request %s, which is not the one that it has"
                       : "it answered request %s, which it does not have",
                     id);
        worker_answer_fini(&answer);
        return;
    }
    struct step_result result = STEP_RESULT_INIT;
    result.status = answer.error ? STEP_FAILED : STEP_COMPLETED;
    result.output = answer.output;
    result.error = answer.error;
    w->request = NULL;
    w->answered++;
    pool->bad_starts = 0;
    if (w->answered == 1)
        timer_stop(pool->env->timers, &w->timer);
    if (more)
        worker_fault(w, "%s", "it wrote more than its answer");
    else
        worker_rest(w);
    dispatch(pool); /* it works on while this end is recorded */
    request_done(r, &result);
}

static void on_printed(void *ctx, const char *data, size_t len)
{
    struct worker *w = ctx;
    if (w->request) {
        request_printed(w->request, data, len);
        return;
    }
    struct buf text = {0};
    while (len > 0 && strchr("\r\n", data[len - 1]))
        len--;
    if (w->secrets)
        mask_bytes(secrets_mask(w->secrets), data, MIN(len, SAID_MAX), &text);
    else
        buf_add(&text, data, MIN(len, SAID_MAX));
    if (text.len > 0)
        say(w->pool, "a worker without a request says: %s%s", text.data, len > SAID_MAX ? "…" : "");
    buf_fini(&text);
}

static void on_fault(void *ctx, const char *what)
{
    worker_fault(ctx, "%s", what);
}

/* After a process that never answered: the first is replaced at once, then it takes longer each time. */
static void note_bad_start(struct worker_pool *pool)
{
    unsigned n = pool->bad_starts++;
    int64_t wait = n == 0 ? 0 : MIN((int64_t)RESTART_MIN_MS << MIN(n - 1, 10u), RESTART_MAX_MS);
    pool->next_start_ms = now_ms(pool) + wait;
}

/* Why its request came to no answer. */
static char *why_ended(const struct worker *w, const struct line_process_end *end, const struct buf *printed)
{
    if (w->fault && w->retired)
        return xstrdup(w->fault);
    _cleanup_(freep) char *how = process_end_text(&end->status, &end->facts);
    if (end->refused && end->status.signal == SIGTERM)
        return xstrdup("the worker closed its standard input");
    _cleanup_(freep) char *tail = process_error_tail(printed);
    if (w->fault)
        return xasprintf("%s; then it ended: %s%s%s", w->fault, how, *tail ? ": " : "", tail);
    return xasprintf("the worker ended %s: %s%s%s",
                     end->rest > 0 ? "in the middle of its answer" : "before it answered", how, *tail ? ": " : "",
                     tail);
}

static void request_lost(struct worker *w, struct request *r, const struct line_process_end *end)
{
    struct step_result result = STEP_RESULT_INIT;
    result.status = r->cancelled ? STEP_CANCELLED : STEP_FAILED;
    request_flush(r);
    if (end->error) {
        result.error = xstrdup(end->error);
    } else {
        result.exit_code = end->status.exit_code;
        result.term_signal = end->status.signal;
        result.error = why_ended(w, end, &r->err);
    }
    request_done(r, &result);
}

static void on_ended(void *ctx, const struct line_process_end *end)
{
    struct worker *w = ctx;
    struct worker_pool *pool = w->pool;
    struct request *r = steal(&w->request);
    bool served = w->answered > 0;
    bool handed_on =
        r && served && !r->cancelled && !w->fault && r->ignored < IGNORED_MAX && line_process_ignored(w->process);
    if (!served && !(r && r->cancelled))
        note_bad_start(pool);
    if (!r && !w->retired && !w->fault) {
        _cleanup_(freep) char *how = process_end_text(&end->status, &end->facts);
        say(pool, "an idle worker ended: %s", how);
    }
    pool->pins++;
    idle_leave(w);
    if (handed_on) {
        request_flush(r);
        r->ignored++;
        r->worker = NULL;
        DL_PREPEND(pool->waiting, r);
    } else if (r) {
        request_lost(w, r, end);
    }
    worker_free(w);
    dispatch(pool);
    pool->pins--;
    pool_free(pool);
}

static const struct line_process_events events = {
    .line = on_line, .printed = on_printed, .fault = on_fault, .ended = on_ended};

/* ---- starting one ---- */

static void start_failed(void *ctx)
{
    struct worker *w = ctx;
    struct worker_pool *pool = w->pool;
    struct request *r = steal(&w->request);
    pool->pins++;
    if (!r->cancelled)
        note_bad_start(pool);
    worker_free(w);
    r->worker = NULL;
    tell_failure(r);
    dispatch(pool);
    pool->pins--;
    pool_free(pool);
}

/* What is the same for all requests; the rest comes with each of them. */
static void set_variable(void *ctx, const char *name, const char *value)
{
    static const char *const shared[] = {"TRIGGERD_NODE_ID", "TRIGGERD_PIPELINE_ID", "TRIGGERD_STEP_ID",
                                         "TRIGGERD_SOCKET"};
    for (size_t i = 0; i < ARRAY_SIZE(shared); i++)
        if (streq(name, shared[i]))
            spawn_request_env(ctx, name, value);
}

static int launch(struct worker *w, struct error *err)
{
    struct worker_pool *pool = w->pool;
    struct step_call *call = w->request->call;
    const struct worker_config *c = call->step->config;
    const struct worker_program *p = call->program;
    struct template_secrets with = {w->secrets, pool->dir};
    struct spawn_request *r = spawn_request_new();
    const struct process_env env = {pool->env->loop, pool->env->spawner, pool->env->ledger, pool->env->sweeper,
                                    pool->env->cgroups};
    char mark[MARK_SIZE];
    process_base_env(r);
    step_env_each(call, set_variable, r);
    if (process_fill(&c->exec, p->exec, NULL, w->secrets ? &with : NULL, r, err) < 0) {
        spawn_request_free(r);
        return err->code;
    }
    snprintf(mark, sizeof(mark), ORPHANS_TAG_VARIABLE "=worker/%s/%s/%" PRId64, pool->pipeline_id, pool->step_id,
             ++pool->pools->started);
    int e = line_process_start(&env, &pool->pools->group, r, mark, WORKER_LINE_MAX, &events, w, &w->process, err);
    if (e < 0)
        return e;
    timer_start(pool->env->timers, &w->timer, now_ms(pool) + pool->start_ms);
    worker_give(w, w->request);
    return 0;
}

static void secrets_read(void *ctx)
{
    struct worker *w = ctx;
    struct error err = ERROR_INIT;
    w->reading = NULL;
    if (launch(w, &err) == 0)
        return;
    w->request->failure = xstrdup(err.message);
    loop_defer(w->pool->env->loop, &w->failed);
}

struct wanting {
    struct worker *worker;
    const char *dir;
};

static void want(void *ctx, const char *text)
{
    struct wanting *x = ctx;
    if (!x->worker->secrets)
        x->worker->secrets = secrets_create();
    secrets_want(x->worker->secrets, text, x->dir);
}

static void worker_start(struct worker_pool *pool, struct request *r)
{
    struct worker *w = xcalloc(1, sizeof(*w));
    const struct worker_program *p = r->call->program;
    w->pool = pool;
    w->request = r;
    r->worker = w;
    pool->n_workers++;
    loop_group_hold(&pool->pools->group);
    timer_init(&w->timer, on_worker_timer, w);
    loop_task_init(&w->failed, start_failed, w);
    exec_each_reference(p->exec, want, &(struct wanting){w, pool->dir});
    if (w->secrets)
        w->reading = secret_read_start(pool->env->loop, pool->env->secrets_dirs, w->secrets, secrets_read, w);
    if (!w->reading)
        secrets_read(w);
}

static void dispatch(struct worker_pool *pool)
{
    struct request *r;
    while ((r = pool->waiting)) {
        struct worker *w = pool->idle;
        while (w && !line_process_running(w->process)) { /* its end is about to be told */
            idle_leave(w);
            w = pool->idle;
        }
        if (!w && pool->n_workers >= pool->size)
            return;
        if (!w && pool->next_start_ms > now_ms(pool)) {
            timer_start(pool->env->timers, &pool->restart, pool->next_start_ms);
            return;
        }
        DL_DELETE(pool->waiting, r);
        if (w) {
            idle_leave(w);
            worker_give(w, r);
        } else {
            worker_start(pool, r);
        }
    }
    timer_stop(pool->env->timers, &pool->restart);
}

static void on_restart(struct timer *timer, void *ctx)
{
    (void)timer;
    dispatch(ctx);
}

/* ---- calls ---- */

void worker_pool_start(struct worker_pool *pool, struct step_call *call)
{
    struct request *r = xcalloc(1, sizeof(*r));
    struct error err = ERROR_INIT;
    r->call = call;
    r->pool = pool;
    call->state = r;
    loop_task_init(&r->told, tell_failure, r);
    if (step_context_expanded(call, NULL, &r->inputs_text, &err) < 0) {
        r->failure = xstrdup(err.message);
        loop_defer(pool->env->loop, &r->told);
        return;
    }
    DL_APPEND(pool->waiting, r);
    dispatch(pool);
}

void worker_pool_cancel(struct step_call *call)
{
    struct request *r = call->state;
    if (!r || r->cancelled)
        return;
    r->cancelled = true;
    struct worker *w = r->worker;
    if (!w && loop_task_waiting(&r->told))
        return;
    if (!w) {
        DL_DELETE(r->pool->waiting, r);
        loop_defer(r->pool->env->loop, &r->told);
    } else if (w->reading) {
        secret_read_abandon(steal(&w->reading));
        loop_defer(r->pool->env->loop, &w->failed);
    } else if (w->process) {
        worker_retire(w, LINE_PROCESS_TERM);
    }
}

size_t worker_pool_peek(struct step_call *call, bool standard_error, size_t offset, const char **ret_data)
{
    const struct request *r = call->state;
    if (!r || !standard_error || offset >= r->err.len)
        return 0;
    *ret_data = r->err.data + offset;
    return r->err.len - offset;
}

/* ---- pools ---- */

static void pool_close(struct worker_pool *pool, enum line_process_how how)
{
    struct worker *w, *tmp;
    pool->closed = true;
    DL_FOREACH_SAFE (pool->idle, w, tmp) {
        worker_retire(w, how);
    }
}

struct worker_pool *worker_pool_get(struct worker_pools *pools, const struct step_call *call)
{
    const struct worker_config *c = call->step->config;
    const char *dir = call->secrets && call->secrets->dir ? call->secrets->dir : "";
    _cleanup_(freep) char *key =
        xasprintf("%s\n%s\n%s\n%s", call->pipeline_id, call->step->id, dir, call->pipeline_text);
    struct worker_pool *pool;
    HASH_FIND_STR(pools->open, key, pool);
    if (pool) {
        pool->refs++;
        return pool;
    }
    pool = xcalloc(1, sizeof(*pool));
    pool->refs = 1;
    pool->key = steal(&key);
    pool->pools = pools;
    pool->env = call->env;
    pool->pipeline_id = xstrdup(call->pipeline_id);
    pool->step_id = xstrdup(call->step->id);
    pool->dir = *dir ? xstrdup(dir) : NULL;
    pool->size = c->size;
    pool->max_requests = c->max_requests;
    pool->idle_ms = (int64_t)ceil(c->idle_seconds * 1000);
    pool->start_ms = (int64_t)ceil(c->start_timeout_seconds * 1000);
    pool->limit = LOG_LIMIT_INIT(5, 1000);
    timer_init(&pool->restart, on_restart, pool);
    HASH_ADD_STR(pools->open, key, pool);
    return pool;
}

void worker_pool_unref(struct worker_pool *pool)
{
    if (!pool || --pool->refs > 0)
        return;
    if (pool->pools)
        HASH_DELETE(hh, pool->pools->open, pool);
    pool_close(pool, LINE_PROCESS_ASK);
    pool_free(pool);
}

struct worker_pools *worker_pools_create(const struct worker_pools_options *options)
{
    struct worker_pools *pools = xcalloc(1, sizeof(*pools));
    pools->options = *options;
    loop_group_init(&pools->group, options->loop);
    return pools;
}

static void pools_gone(void *ctx)
{
    struct worker_pools *pools = ctx;
    struct worker_pool *pool, *tmp;
    HASH_ITER (hh, pools->open, pool, tmp) {
        HASH_DELETE(hh, pools->open, pool);
        pool->pools = NULL; /* its programs are still there */
    }
    void (*done)(void *) = pools->done;
    void *done_ctx = pools->ctx;
    free(pools);
    done(done_ctx);
}

void worker_pools_close(struct worker_pools *pools, void (*done)(void *ctx), void *ctx)
{
    struct worker_pool *pool, *tmp;
    pools->done = done;
    pools->ctx = ctx;
    HASH_ITER (hh, pools->open, pool, tmp) {
        pool_close(pool, LINE_PROCESS_TERM);
    }
    loop_group_close(&pools->group, pools_gone, pools);
}
