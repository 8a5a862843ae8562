/* mcp_event: what an MCP server sends. A type that is both passive and active: events come by channels, which all
 * triggers of a server share (client/mcp_feed.h), and each trigger's source keeps the server's connection wanted and
 * tells how it is. */
#include "base/loop.h"
#include "base/util.h"
#include "client/mcp_feed.h"
#include "client/mcp_servers.h"
#include "source/list.h"

#include <errno.h>

static const struct field rows[] = {
    {.name = "server_name",
     .type = &field_string,
     FIELD(struct mcp_trigger, server_name, char *, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY, .max = 128,
           .change = CHANGE_SOURCE, .doc = "The name of the MCP server, as a document `kind: mcp_server` declares it",
           .example = "\"database\"")},
    {.name = "event_type",
     .type = &field_string,
     FIELD(struct mcp_trigger, event_type, char *, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY, .max = 256,
           .change = CHANGE_SOURCE,
           .doc =
               "A notification's method without `notifications/`, or the member `event` (else `type`) of the data of "
               "a log message; * for all that it sends",
           .example = "\"row_inserted\"")},
    {.name = "read",
     .type = &field_bool,
     FIELD(struct mcp_trigger, read, bool, .default_json = "false", .change = CHANGE_SOURCE,
           .doc =
               "A `resources/updated` comes with the resource's `contents`, read before the event is recorded, or with "
               "a `read_error`")},
};
static const struct field_table table = {MCP_EVENT_TYPE, "What an MCP server sends", sizeof(struct mcp_trigger), rows,
                                         ARRAY_SIZE(rows)};

static size_t channels(const void *config, struct channel_key *ret, size_t cap)
{
    const struct mcp_trigger *c = config;
    const char marks[] = {MCP_CHANNEL_SENT, MCP_CHANNEL_LOGGED};
    size_t n = streq(c->event_type, "*") ? 1 : 2; /* what only a log message carries came as that message already */
    for (size_t i = 0; i < n && i < cap; i++)
        ret[i] = (struct channel_key){.text = c->event_type, .mark = marks[i], .scope = c->server_name};
    return n;
}

/* ---- the source: an interest in the connection ---- */

struct source {
    struct source_host *host;
    struct loop *loop;
    struct mcp_servers *servers;
    char *server;
    struct mcp_listener listener;
    struct loop_task report; /* of what was heard from inside a call */
    void (*done)(void *ctx);
    void *done_ctx;
};

static void report_missing(struct source *s)
{
    _cleanup_(freep) char *text = xasprintf("there is no mcp_server \"%s\"", s->server);
    source_report(s->host, SOURCE_FAILED, "ServerNotFound", text);
}

static void report(void *ctx)
{
    struct source *s = ctx;
    struct mcp_entry_view v;
    char since[TIME_TEXT_SIZE];
    mcp_listener_look(&s->listener, &v);
    if (!v.spec) {
        report_missing(s);
        return;
    }
    const struct mcp_view *c = &v.connection;
    time_format(c->since_ms, since);
    if (c->state == MCP_READY) {
        _cleanup_(freep) char *text =
            xasprintf("%s, connected since %s; what it sent before cannot be had again", c->message, since);
        source_report(s->host, SOURCE_CONNECTED, c->reason, text);
    } else if (c->state == MCP_FAILED) {
        _cleanup_(freep) char *text = xasprintf("%s; what it sends since %s cannot be had again", c->message, since);
        source_report(s->host, SOURCE_FAILED, c->reason, text);
    }
}

static void on_changed(struct mcp_listener *l)
{
    struct source *s = container_of(l, struct source, listener);
    loop_defer(s->loop, &s->report);
}

static int create(struct source_host *host, const struct source_env *env, const struct trigger *trigger,
                  struct source **ret, struct error *err)
{
    const struct mcp_trigger *c = trigger->config;
    if (!env->mcp)
        return error_set(err, -ENOTSUP, "there are no MCP servers here");
    struct source *s = xcalloc(1, sizeof(*s));
    *s = (struct source){.host = host, .loop = env->loop, .servers = env->mcp, .server = xstrdup(c->server_name)};
    s->listener = (struct mcp_listener){.reads = c->read, .changed = on_changed};
    loop_task_init(&s->report, report, s);
    *ret = s;
    return 0;
}

static void start(struct source *s)
{
    mcp_listen(s->servers, s->server, &s->listener);
}

static void gone(void *ctx)
{
    struct source *s = ctx;
    void (*done)(void *) = s->done;
    void *done_ctx = s->done_ctx;
    free(s->server);
    free(s);
    done(done_ctx);
}

static void stop(struct source *s, void (*done)(void *ctx), void *ctx)
{
    mcp_unlisten(s->servers, &s->listener);
    s->done = done;
    s->done_ctx = ctx;
    loop_task_cancel(s->loop, &s->report);
    loop_task_init(&s->report, gone, s);
    loop_defer(s->loop, &s->report);
}

/* Its queue has room again, or somebody wants it tried at once. */
static void resume(struct source *s)
{
    mcp_listener_retry(&s->listener);
}

const struct source_type source_mcp_event = {
    .kind = {.name = MCP_EVENT_TYPE, .config = &table, .has_filter = true},
    .channels = channels,
    .remote = true,
    .create = create,
    .start = start,
    .stop = stop,
    .resume = resume,
};
