#include "ctl/mcp_direct.h"

#include "base/util.h"
#include "client/http.h"
#include "client/mcp.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

struct direct {
    struct loop loop;
    struct loop_group group;
    struct loop_async wake;
    struct loop_poll exits;
    struct loop_signal interrupt, term;
    struct spawner *spawner;
    struct http_client *http;
    struct mcp *mcp;
    struct mcp_told told;
    bool listening, over;
    int code;
    cJSON *result;
    struct error *err;
};

static void collect(void *ctx)
{
    struct direct *d = ctx;
    if (d->spawner)
        spawner_collect(d->spawner, 0);
}

static void wake(void *ctx)
{
    struct direct *d = ctx;
    loop_async_send(&d->wake);
}

static void on_exits(void *ctx, int fd, int events, int status)
{
    (void)fd, (void)events, (void)status;
    collect(ctx);
}

/* ---- the end, one after the other ---- */

static void all_gone(void *ctx)
{
    struct direct *d = ctx;
    loop_stop(&d->loop);
}

static void http_gone(void *ctx)
{
    struct direct *d = ctx;
    loop_close(&d->exits.handle, NULL, NULL); /* before its descriptor */
    spawner_destroy(steal(&d->spawner));
    loop_group_close(&d->group, all_gone, d);
}

static void mcp_gone(void *ctx)
{
    struct direct *d = ctx;
    http_client_close(d->http, http_gone, d);
}

static void end(struct direct *d, int code)
{
    if (d->over)
        return;
    d->over = true;
    d->code = code;
    mcp_close(d->mcp, mcp_gone, d);
}

static void on_signal(void *ctx, int signum)
{
    (void)signum;
    struct direct *d = ctx;
    end(d, d->listening ? 0 : error_set(d->err, -EINTR, "interrupted"));
}

/* ---- what is told ---- */

static void on_changed(void *ctx)
{
    struct direct *d = ctx;
    struct mcp_view v;
    mcp_look(d->mcp, &v);
    if (d->listening && v.state == MCP_FAILED && !d->over)
        end(d, error_set(d->err, -ENOTCONN, "%s", v.message));
}

static void on_notification(void *ctx, const char *method, const cJSON *params, size_t bytes)
{
    (void)bytes;
    struct direct *d = ctx;
    if (d->told.notification && !d->over)
        d->told.notification(d->told.ctx, method, params);
}

static void on_log(void *ctx, const char *text)
{
    struct direct *d = ctx;
    if (d->told.log)
        d->told.log(d->told.ctx, text);
}

static void answered(void *ctx, struct mcp_result *result)
{
    struct direct *d = ctx;
    d->result = steal(&result->result);
    end(d, result->code == 0 ? 0 : error_set(d->err, result->code, "%s", result->message));
}

static void on_progress(void *ctx, const cJSON *params)
{
    (void)ctx, (void)params; /* it is a notification too */
}

/* ---- the beginning ---- */

static cJSON *environment(void)
{
    cJSON *env = cJSON_CreateObject();
    for (char **e = environ; *e; e++) {
        const char *equals = strchr(*e, '=');
        if (!equals || equals == *e)
            continue;
        _cleanup_(freep) char *name = xstrndup(*e, (size_t)(equals - *e));
        value_set(env, name, cJSON_CreateString(equals + 1));
    }
    return env;
}

static struct mcp_server *spec_of(const struct mcp_place *place)
{
    struct mcp_server *s = xcalloc(1, sizeof(*s));
    fields_defaults(&mcp_server_fields, s);
    s->refs = 1;
    s->name = xstrdup("triggerctl");
    s->timeout_seconds = place->timeout_seconds > 0 ? place->timeout_seconds : MCP_TIMEOUT_DEFAULT;
    s->url = xstrdup0(place->url);
    if (!place->command)
        return s;
    s->command = xstrdup(place->command[0]);
    s->env = environment();
    for (const char *const *arg = place->command + 1; *arg; arg++) {
        s->args.items = xreallocarray(s->args.items, s->args.n + 1, sizeof(*s->args.items));
        s->args.items[s->args.n++] = xstrdup(*arg);
    }
    return s;
}

static int open_parts(struct direct *d, struct error *err)
{
    int r = loop_init(&d->loop);
    if (r < 0)
        return error_set(err, r, "loop: %s", strerror(-r));
    loop_group_init(&d->group, &d->loop);
    r = loop_async_init(&d->group, &d->wake, collect, d);
    if (r == 0)
        r = loop_signal_init(&d->group, &d->interrupt, SIGINT, on_signal, d);
    if (r == 0)
        r = loop_signal_init(&d->group, &d->term, SIGTERM, on_signal, d);
    if (r < 0)
        return error_set(err, r, "loop: %s", strerror(-r));
    struct spawner_options options = {.wake = wake, .wake_ctx = d, .threads = 1};
    r = spawner_create(&options, &d->spawner, err);
    if (r < 0)
        return r;
    r = loop_poll_init(&d->group, &d->exits, spawner_exits_fd(d->spawner), on_exits, d);
    r = r < 0 ? r : loop_poll_start(&d->exits, UV_READABLE);
    return r < 0 ? error_set(err, r, "loop: %s", strerror(-r)) : 0;
}

/* An error here ends the program: nothing is taken back. */
static int open_direct(struct direct *d, const struct mcp_place *place, const struct mcp_told *told, struct error *err)
{
    static const struct mcp_events events = {on_changed, on_notification, on_log};
    d->err = err;
    if (told)
        d->told = *told;
    signal(SIGPIPE, SIG_IGN); /* a server that ends while it is told something */
    int r = open_parts(d, err);
    if (r < 0)
        return r;
    d->http = http_client_create(&d->loop, NULL);
    struct mcp_env env = {.process = {.loop = &d->loop, .spawner = d->spawner},
                          .http = d->http,
                          .random = random_system(),
                          .literal = true,
                          .only_answers = !d->listening};
    struct mcp_server *spec = spec_of(place);
    d->mcp = mcp_create(&env, spec, NULL, &events, d);
    mcp_server_unref(spec);
    return 0;
}

static int run(struct direct *d, cJSON **ret)
{
    loop_run(&d->loop);
    loop_fini(&d->loop);
    if (d->code == 0 && ret)
        *ret = steal(&d->result);
    cJSON_Delete(d->result);
    return d->code;
}

int mcp_direct_ask(const struct mcp_place *place, const char *method, cJSON *params, const char *member,
                   const struct mcp_told *told, cJSON **ret, struct error *err)
{
    struct direct d = {0};
    int r = open_direct(&d, place, told, err);
    if (r < 0) {
        cJSON_Delete(params);
        return r;
    }
    if (member)
        mcp_list(d.mcp, method, member, answered, &d);
    else
        mcp_ask(d.mcp, method, params, on_progress, answered, &d);
    return run(&d, ret);
}

int mcp_direct_listen(const struct mcp_place *place, const struct mcp_told *told, struct error *err)
{
    struct direct d = {.listening = true};
    int r = open_direct(&d, place, told, err);
    if (r < 0)
        return r;
    mcp_want(d.mcp, true);
    return run(&d, NULL);
}
