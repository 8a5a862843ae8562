#include "client/mcp_internal.h"

#include "base/clock.h"

#define STEADY_MS 10000 /* a connection that lasted so long was a good one: the next wait is short again */
#define ANEW_MS 500     /* … and after so long it may be made anew without one */
#define IDLE_MS 60000
#define LOG_BURST 20
#define LOG_INTERVAL_MS 1000

static void connect_now(struct mcp *m);

/* ---- what is seen of it ---- */

const char *mcp_state_name(enum mcp_state state)
{
    static const char *const words[] = {"idle", "connecting", "connected", "error"};
    return words[state];
}

static char *masked(const struct mcp *m, const char *text)
{
    char *copy = xstrdup0(text);
    if (copy && m->secrets)
        mask_string(secrets_mask(m->secrets), &copy);
    return copy;
}

void mcp_set_state(struct mcp *m, enum mcp_state state, const char *reason, const char *message)
{
    bool moved = m->state != state;
    char *copy = masked(m, message);
    if (!moved && streq(m->reason, reason) && streq(m->message, copy)) {
        free(copy);
        return;
    }
    free(m->message);
    m->message = copy;
    m->reason = reason;
    m->state = state;
    if (moved)
        m->since_ms = clock_realtime_ms(clock_system());
    m->events.changed(m->ctx);
}

static const cJSON *server_info(const struct mcp *m)
{
    return value_get(m->answer, "serverInfo");
}

void mcp_look(const struct mcp *m, struct mcp_view *ret)
{
    *ret = (struct mcp_view){.state = m->state,
                             .reason = m->reason,
                             .message = m->message,
                             .since_ms = m->since_ms,
                             .protocol_version = m->version,
                             .name = value_get_string(server_info(m), "name"),
                             .version = value_get_string(server_info(m), "version"),
                             .capabilities = value_get(m->answer, "capabilities"),
                             .instructions = value_get_string(m->answer, "instructions")};
}

void mcp_say(struct mcp *m, const char *format, ...)
{
    uint64_t suppressed = 0;
    if (!m->events.log || !log_limit_pass(&m->log_limit, loop_now_ms(m->env.process.loop), &suppressed))
        return;
    va_list args;
    va_start(args, format);
    char *text = xvasprintf(format, args);
    va_end(args);
    if (m->secrets)
        mask_string(secrets_mask(m->secrets), &text);
    _cleanup_(freep) char *line =
        suppressed ? xasprintf("%s (%" PRIu64 " more were not logged)", text, suppressed) : xstrdup(text);
    free(text);
    m->events.log(m->ctx, line);
}

/* ---- requests ---- */

static void request_free(struct mcp_request *r)
{
    struct mcp *m = r->mcp;
    loop_timer_stop(m->env.process.loop, &r->timer);
    loop_task_cancel(m->env.process.loop, &r->tell);
    HASH_DEL(m->requests, r);
    cJSON_Delete(r->result.result);
    secret_free(r->text);
    free(r->message);
    free(r->method);
    free(r);
}

static bool has_waiting(const struct mcp *m)
{
    for (const struct mcp_request *r = m->requests; r; r = r->hh.next)
        if (!r->ended)
            return true;
    return false;
}

static bool has_unsent(const struct mcp *m)
{
    for (const struct mcp_request *r = m->requests; r; r = r->hh.next)
        if (!r->ended && r->text)
            return true;
    return false;
}

static void set_hold(struct mcp *m)
{
    bool held = m->hold == MCP_HOLD_ALL || (m->hold == MCP_HOLD_UNASKED && !has_waiting(m));
    if (held == m->held)
        return;
    m->held = held;
    if (m->link && !m->link_closing)
        m->type->hold(m->link, held);
}

void mcp_idle_check(struct mcp *m)
{
    struct loop *loop = m->env.process.loop;
    if (m->wanted || m->requests || m->closing || !m->link)
        loop_timer_stop(loop, &m->idle);
    else if (!timer_active(&m->idle))
        loop_timer_start(loop, &m->idle, IDLE_MS);
}

static void on_tell(void *ctx)
{
    struct mcp_request *r = ctx;
    struct mcp *m = r->mcp;
    struct mcp_result result = r->result;
    mcp_done_fn *done = r->done;
    void *done_ctx = r->ctx;
    _cleanup_(freep) char *message = steal(&r->message);
    result.message = message;
    r->result.result = NULL;
    request_free(r);
    set_hold(m);
    mcp_idle_check(m);
    done(done_ctx, &result);
    cJSON_Delete(result.result);
}

/* Its end, told soon. Takes `result`; `message` is copied, masked. */
void mcp_request_end(struct mcp_request *r, int code, cJSON *result, int64_t rpc_code, const char *message)
{
    struct mcp *m = r->mcp;
    if (r->ended) {
        cJSON_Delete(result);
        return;
    }
    r->ended = true;
    loop_timer_stop(m->env.process.loop, &r->timer);
    r->result = (struct mcp_result){.code = code, .result = result, .rpc_code = rpc_code};
    r->message = masked(m, message);
    loop_defer(m->env.process.loop, &r->tell);
}

static void tell_cancelled(struct mcp *m, const struct mcp_request *r, const char *why)
{
    bool sent = !r->text && !r->ended && m->link && !m->link_closing;
    if (!sent || streq(r->method, "initialize"))
        return;
    cJSON *params = cJSON_CreateObject();
    cJSON_AddItemToObject(params, "requestId", value_number_from_int(r->id));
    cJSON_AddStringToObject(params, "reason", why);
    char *text = mcp_notification_text("notifications/cancelled", params);
    cJSON_Delete(params);
    m->type->forget(m->link, r->id);
    m->type->send(m->link, text, strlen(text), 0);
}

static void on_timeout(struct timer *timer, void *ctx)
{
    (void)timer;
    struct mcp_request *r = ctx;
    struct mcp *m = r->mcp;
    _cleanup_(freep) char *why = xasprintf("%s: no answer within %g s", r->method, m->spec->timeout_seconds);
    tell_cancelled(m, r, why);
    mcp_request_end(r, -ETIMEDOUT, NULL, 0, why);
}

void mcp_request_send(struct mcp_request *r)
{
    struct mcp *m = r->mcp;
    char *text = steal(&r->text);
    m->type->send(m->link, text, strlen(text), r->id);
}

static cJSON *with_token(cJSON *params, int64_t id)
{
    if (!params)
        params = cJSON_CreateObject();
    cJSON *meta = value_get(params, "_meta");
    if (!cJSON_IsObject(meta)) {
        value_set(params, "_meta", cJSON_CreateObject());
        meta = value_get(params, "_meta");
    }
    value_set(meta, "progressToken", value_number_from_int(id));
    return params;
}

struct mcp_request *mcp_request_new(struct mcp *m, const char *method, cJSON *params, mcp_progress_fn *progress,
                                    mcp_done_fn *done, void *ctx)
{
    struct mcp_request *r = xcalloc(1, sizeof(*r));
    r->mcp = m;
    r->id = ++m->ids;
    r->method = xstrdup(method);
    r->progress = progress;
    r->done = done;
    r->ctx = ctx;
    if (progress)
        params = with_token(params, r->id);
    r->text = mcp_request_text(r->id, method, params);
    cJSON_Delete(params);
    timer_init(&r->timer, on_timeout, r);
    loop_task_init(&r->tell, on_tell, r);
    HASH_ADD(hh, m->requests, id, sizeof(r->id), r);
    loop_timer_start(m->env.process.loop, &r->timer, (int64_t)(m->spec->timeout_seconds * 1000));
    set_hold(m);
    return r;
}

struct mcp_request *mcp_ask(struct mcp *m, const char *method, cJSON *params, mcp_progress_fn *progress,
                            mcp_done_fn *done, void *ctx)
{
    struct mcp_request *r = mcp_request_new(m, method, params, progress, done, ctx);
    loop_timer_stop(m->env.process.loop, &m->idle);
    if (m->up)
        mcp_request_send(r);
    else
        mcp_retry(m);
    return r;
}

void mcp_cancel(struct mcp_request *r, const char *why)
{
    struct mcp *m = r->mcp;
    tell_cancelled(m, r, why);
    request_free(r);
    set_hold(m);
    mcp_idle_check(m);
}

/* `unsent`: these too. */
static void end_requests(struct mcp *m, int code, const char *why, bool unsent)
{
    struct mcp_request *r, *tmp;
    HASH_ITER (hh, m->requests, r, tmp) {
        if (unsent || !r->text)
            mcp_request_end(r, code, NULL, 0, why);
    }
}

/* ---- connecting ---- */

bool mcp_live(const struct mcp *m)
{
    return m->link && !m->link_closing && !m->closing;
}

void mcp_send_waiting(struct mcp *m)
{
    struct mcp_request *r, *tmp;
    HASH_ITER (hh, m->requests, r, tmp) {
        if (r->text && !r->ended)
            mcp_request_send(r);
    }
}

static void link_gone(void *ctx)
{
    struct mcp *m = ctx;
    m->link = NULL;
    m->link_closing = false;
    if (m->closing)
        loop_defer(m->env.process.loop, &m->opened);
    else if (m->anew || (!timer_active(&m->again) && (m->wanted || has_waiting(m))))
        connect_now(m);
}

static void link_close(struct mcp *m, bool force)
{
    if (!m->link || m->link_closing)
        return;
    m->link_closing = true;
    m->type->close(m->link, force, link_gone, m);
}

static void stop_setting_up(struct mcp *m)
{
    if (m->setting_up)
        mcp_cancel(steal(&m->setting_up), "the connection ends");
    loop_timer_stop(m->env.process.loop, &m->subscribe_again);
}

/* The wait before the next attempt. */
static int64_t next_wait(struct mcp *m)
{
    int64_t least = m->env.backoff_min_ms ? m->env.backoff_min_ms : MCP_BACKOFF_MIN_MS;
    int64_t most = m->env.backoff_max_ms ? m->env.backoff_max_ms : MCP_BACKOFF_MAX_MS;
    bool steady = m->ready_at_ms && loop_now_ms(m->env.process.loop) - m->ready_at_ms >= STEADY_MS;
    if (!m->backoff_ms || steady)
        m->backoff_ms = least;
    int64_t wait = (int64_t)((double)m->backoff_ms * (0.8 + 0.4 * random_unit(m->env.random)));
    m->backoff_ms = MIN(m->backoff_ms * 2, most);
    return wait;
}

static void down(struct mcp *m)
{
    stop_setting_up(m);
    m->up = m->anew = false;
    m->ready_at_ms = 0;
    m->deaf = NULL;
    free(m->deaf_why);
    free(m->unsubscribed);
    m->deaf_why = m->unsubscribed = NULL;
}

void mcp_fail(struct mcp *m, const char *reason, const char *why, bool force, bool anew)
{
    struct loop *loop = m->env.process.loop;
    _cleanup_(freep) char *text = xstrdup(why);
    bool lasted = m->ready_at_ms && loop_now_ms(loop) - m->ready_at_ms >= ANEW_MS;
    bool at_once = anew && lasted && (m->wanted || has_unsent(m));
    int64_t wait = at_once ? 0 : next_wait(m);
    down(m);
    m->anew = at_once;
    end_requests(m, -ENOTCONN, text, !anew);
    link_close(m, force);
    if (m->anew)
        return; /* as soon as the old one is gone */
    mcp_set_state(m, MCP_FAILED, reason, text);
    if (m->wanted || has_unsent(m))
        loop_timer_start(loop, &m->again, wait);
}

static void on_again(struct timer *timer, void *ctx)
{
    (void)timer;
    struct mcp *m = ctx;
    if (m->wanted || has_waiting(m))
        connect_now(m);
}

static void on_idle(struct timer *timer, void *ctx)
{
    (void)timer;
    struct mcp *m = ctx;
    down(m);
    mcp_set_state(m, MCP_IDLE, "Idle", NULL);
    link_close(m, false);
}

/* ---- opening ---- */

struct target {
    struct mcp_target t;
    char **args;
    size_t n_args;
};

static void target_fini(struct target *t)
{
    for (size_t i = 0; i < t->n_args; i++)
        secret_free(t->args[i]);
    free(t->args);
    cJSON_Delete(t->t.env);
    cJSON_Delete(t->t.headers);
    secret_free(t->t.cwd);
    secret_free(t->t.url);
}

static int expand(struct mcp *m, const char *field, const char *text, char **ret, struct error *err)
{
    if (!text || m->env.literal) {
        *ret = xstrdup0(text);
        return 0;
    }
    int r = secrets_expand(m->secrets, text, m->dir, ret, err);
    return r < 0 ? error_wrap(err, "%s", field) : 0;
}

static int expand_map(struct mcp *m, const char *field, const cJSON *map, cJSON **ret, struct error *err)
{
    *ret = map ? cJSON_Duplicate(map, true) : NULL;
    return *ret && !m->env.literal ? secrets_expand_tree(m->secrets, *ret, field, m->dir, err) : 0;
}

static int check_headers(const cJSON *headers, struct error *err)
{
    const cJSON *item;
    cJSON_ArrayForEach (item, headers)
        if (!http_value_valid(item->valuestring))
            return error_set(err, -EINVAL, "headers.%s: a header has no control characters", item->string);
    return 0;
}

static int aim(struct mcp *m, struct target *t, struct error *err)
{
    const struct mcp_server *s = m->spec;
    t->t.name = s->name;
    t->t.timeout_seconds = s->timeout_seconds;
    int r = expand_map(m, "env", s->env, &t->t.env, err);
    r = r < 0 ? r : expand_map(m, "headers", s->headers, &t->t.headers, err);
    r = r < 0 ? r : check_headers(t->t.headers, err);
    r = r < 0 ? r : expand(m, "cwd", s->cwd, &t->t.cwd, err);
    r = r < 0 ? r : expand(m, "url", s->url, &t->t.url, err);
    if (r < 0 || !s->command)
        return r;
    t->args = xcalloc(s->args.n + 2, sizeof(*t->args));
    r = expand(m, "command", s->command, &t->args[t->n_args++], err);
    for (size_t i = 0; i < s->args.n && r == 0; i++)
        r = expand(m, "args", s->args.items[i], &t->args[t->n_args++], err);
    t->t.argv = t->args;
    return r;
}

static void gone(struct mcp *m);

static void open_link(void *ctx)
{
    struct mcp *m = ctx;
    struct target t = {0};
    struct error err = ERROR_INIT;
    if (m->closing) {
        gone(m);
        return;
    }
    if (aim(m, &t, &err) < 0) {
        mcp_fail(m, "SecretUnreadable", err.message, false, false);
    } else {
        m->type = m->spec->url ? &mcp_http_link : &mcp_stdio_link;
        m->link = m->type->create(&m->env, &t.t, &mcp_session_events, m);
        if (m->held)
            m->type->hold(m->link, true);
        mcp_initialize(m);
    }
    target_fini(&t);
}

static void secrets_are_read(void *ctx)
{
    struct mcp *m = ctx;
    m->reading = NULL;
    open_link(m);
}

static void want_secrets(struct mcp *m)
{
    const struct mcp_server *s = m->spec;
    secrets_want(m->secrets, s->command ? s->command : "", m->dir);
    for (size_t i = 0; i < s->args.n; i++)
        secrets_want(m->secrets, s->args.items[i], m->dir);
    secrets_want(m->secrets, s->cwd ? s->cwd : "", m->dir);
    secrets_want(m->secrets, s->url ? s->url : "", m->dir);
    if (s->env)
        secrets_want_tree(m->secrets, s->env, m->dir);
    if (s->headers)
        secrets_want_tree(m->secrets, s->headers, m->dir);
}

static void connect_now(struct mcp *m)
{
    struct loop *loop = m->env.process.loop;
    m->anew = false;
    loop_timer_stop(loop, &m->again);
    if (m->closing || m->barred || m->link || m->reading || loop_task_waiting(&m->opened))
        return;
    if (m->state == MCP_IDLE) /* a failed one is shown as that until it works */
        mcp_set_state(m, MCP_CONNECTING, "Connecting", "connecting");
    if (!m->env.literal) {
        want_secrets(m);
        m->reading = secret_read_start(loop, m->env.secrets_dirs, m->secrets, secrets_are_read, m);
        if (m->reading)
            return;
    }
    loop_defer(loop, &m->opened);
}

/* ---- life ---- */

struct mcp *mcp_create(const struct mcp_env *env, struct mcp_server *spec, const char *manifest_dir,
                       const struct mcp_events *events, void *ctx)
{
    struct mcp *m = xcalloc(1, sizeof(*m));
    *m = (struct mcp){.env = *env,
                      .events = *events,
                      .ctx = ctx,
                      .spec = mcp_server_ref(spec),
                      .dir = xstrdup0(manifest_dir),
                      .secrets = secrets_create(),
                      .reason = "Idle",
                      .log_limit = LOG_LIMIT_INIT(LOG_BURST, LOG_INTERVAL_MS)};
    timer_init(&m->again, on_again, m);
    timer_init(&m->idle, on_idle, m);
    timer_init(&m->subscribe_again, mcp_subscribe_again, m);
    loop_task_init(&m->opened, open_link, m);
    return m;
}

static void gone(struct mcp *m)
{
    void (*done)(void *) = m->done;
    void *done_ctx = m->done_ctx;
    if (m->requests) { /* each is told first */
        end_requests(m, -ECANCELED, "the connection was closed", true);
        loop_defer(m->env.process.loop, &m->opened);
        return;
    }
    struct loop *loop = m->env.process.loop;
    loop_timer_stop(loop, &m->again);
    loop_timer_stop(loop, &m->idle);
    loop_timer_stop(loop, &m->subscribe_again);
    secrets_destroy(m->secrets);
    mcp_server_unref(m->spec);
    cJSON_Delete(m->answer);
    free(m->version);
    free(m->message);
    free(m->dir);
    free(m);
    done(done_ctx);
}

void mcp_close(struct mcp *m, void (*done)(void *ctx), void *ctx)
{
    struct loop *loop = m->env.process.loop;
    down(m);
    m->closing = true;
    m->wanted = false;
    m->done = done;
    m->done_ctx = ctx;
    loop_timer_stop(loop, &m->again);
    loop_timer_stop(loop, &m->idle);
    if (m->reading)
        secret_read_abandon(steal(&m->reading));
    end_requests(m, -ECANCELED, "the connection was closed", true);
    if (m->link)
        link_close(m, false);
    else
        loop_defer(loop, &m->opened);
}

void mcp_want(struct mcp *m, bool wanted)
{
    if (m->wanted == wanted || m->closing)
        return;
    m->wanted = wanted;
    if (wanted && !m->link)
        connect_now(m);
    if (!wanted && !has_unsent(m))
        loop_timer_stop(m->env.process.loop, &m->again);
    mcp_idle_check(m);
}

void mcp_retry(struct mcp *m)
{
    if (m->link || m->closing)
        return; /* when the old one is gone */
    connect_now(m);
}

void mcp_hold(struct mcp *m, enum mcp_hold hold)
{
    m->hold = hold;
    set_hold(m);
}

void mcp_bar(struct mcp *m, bool bar)
{
    m->barred = bar;
    if (!bar && !m->link && (m->wanted || has_waiting(m)))
        connect_now(m);
}

void mcp_update(struct mcp *m, struct mcp_server *spec)
{
    struct mcp_server *old = m->spec;
    m->spec = mcp_server_ref(spec);
    mcp_server_unref(old);
}
