/* What an edit does at runtime, told before it is made: by the `change` of the fields that differ. */
#include "api/internal.h"

#include "base/mask.h"

#include <inttypes.h>

#define NAMES_MAX 32

static void line(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void line(struct buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    _cleanup_(freep) char *text = xvasprintf(format, args);
    va_end(args);
    json_string(b, NULL, text);
}

static cJSON *config_of(const struct trigger *t)
{
    cJSON *config = NULL;
    value_parse(t->config_text, strlen(t->config_text), &config, NULL);
    return config;
}

/* What the trigger's source is connected to, where it is connected; free() it, NULL: it is not. */
static char *connection_of(const struct trigger *t)
{
    cJSON *config = config_of(t);
    const char *url = value_get_string(config, "connection_url");
    char *shown = xstrdup0(url);
    mask_urls(&shown);
    cJSON_Delete(config);
    return shown;
}

static void add_name(struct buf *text, const char *before, const char *name)
{
    buf_printf(text, "%s%s%s", text->len ? ", " : "", before, name);
}

/* Names of what differs: of the trigger, then of its config as its manifest says it. */
static char *names_of(const struct trigger *a, const struct trigger *b)
{
    const char *names[NAMES_MAX];
    size_t n = 0;
    struct buf text = {0};
    const cJSON *item;
    fields_compare(&trigger_fields, a, b, NULL, names, ARRAY_SIZE(names), &n);
    for (size_t i = 0; i < n; i++)
        if (!streq(names[i], "config"))
            add_name(&text, "", names[i]);
    cJSON *before = config_of(a), *after = config_of(b);
    cJSON_ArrayForEach (item, before) {
        if (!value_equal(item, value_get(after, item->string)))
            add_name(&text, "config.", item->string);
    }
    cJSON_ArrayForEach (item, after) {
        if (!value_get(before, item->string))
            add_name(&text, "config.", item->string);
    }
    cJSON_Delete(before);
    cJSON_Delete(after);
    if (text.len == 0)
        buf_adds(&text, "config");
    return buf_steal(&text);
}

static void pipeline_there(struct buf *b, struct api *a, const struct trigger *t)
{
    if (!engine_find_pipeline(a->engine, t->pipeline_id))
        line(b, "pipeline \"%s\" does not run now: where it does not come with this, events fail", t->pipeline_id);
}

static void begins(struct buf *b, struct api *a, const struct trigger *t)
{
    _cleanup_(freep) char *url = connection_of(t);
    if (!t->enabled)
        line(b, "does not start: it is disabled");
    else if (url)
        line(b, "connects %s", url);
    else
        line(b, "starts its source (%s)", t->trigger_type);
    pipeline_there(b, a, t);
}

/* What an edit leaves as it is. */
static void keeps(struct buf *b, const struct trigger_view *v)
{
    if (v->pending > 0)
        line(b, "keeps its queue of %" PRId64, v->pending);
    if (v->executing > 0)
        line(b, "lets %" PRId64 " run%s under way go on", v->executing, v->executing == 1 ? "" : "s");
    if (v->status == TRIGGER_PAUSED)
        line(b, "stays paused");
}

static void edited(struct buf *b, struct api *a, const struct trigger_view *v, const struct trigger *after)
{
    const struct trigger *before = v->spec;
    bool differ = false;
    enum field_change cost = trigger_compare(before, after, NULL, 0, NULL);
    fields_compare(&trigger_fields, before, after, &differ, NULL, 0, NULL);
    if (!differ && cost == CHANGE_NONE) {
        line(b, "no effect on what runs");
        return;
    }
    _cleanup_(freep) char *names = names_of(before, after);
    _cleanup_(freep) char *url = connection_of(after);
    if (before->enabled && !after->enabled)
        line(b, "stops its source: it is disabled");
    else if (!after->enabled)
        line(b, "takes effect when it is enabled (%s)", names);
    else if (!before->enabled)
        begins(b, a, after);
    else if (before->kind != after->kind)
        line(b, "becomes a trigger of another type: the %s source stops, a %s source starts", before->trigger_type,
             after->trigger_type);
    else if (cost >= CHANGE_SOURCE && url)
        line(b, "reconnects %s (%s)", url, names);
    else if (cost >= CHANGE_SOURCE)
        line(b, "restarts the source (%s)", names);
    else
        line(b, "takes effect at once, nothing restarts (%s)", names);
    if (!streq(before->pipeline_id, after->pipeline_id))
        pipeline_there(b, a, after);
    keeps(b, v);
}

void effects_of_trigger(struct buf *b, struct api *a, const char *id, const struct trigger *after)
{
    struct live_trigger *t = engine_find_trigger(a->engine, id);
    struct trigger_view v;
    if (t)
        trigger_look(t, &v);
    if (t && after) {
        edited(b, a, &v, after);
    } else if (after) {
        begins(b, a, after);
    } else if (t) {
        line(b, "stops its source");
        if (v.pending > 0)
            line(b, "cancels the %" PRId64 " event%s of its queue", v.pending, v.pending == 1 ? "" : "s");
        if (v.executing > 0)
            line(b, "lets %" PRId64 " run%s under way end", v.executing, v.executing == 1 ? "" : "s");
    }
}

void effects_of_mcp_server(struct buf *b, struct api *a, const char *id, const struct mcp_server *after)
{
    struct mcp_entry_view v;
    bool known = mcp_servers_look(a->mcp, id, &v);
    const struct mcp_server *before = known ? v.spec : NULL;
    if (before && after && mcp_server_equal(before, after))
        line(b, "no effect on what runs");
    else if (before && after && mcp_server_reconnects(before, after))
        line(b, v.connection.state == MCP_IDLE ? "takes effect with the next connection" : "connects anew");
    else if (before && after)
        line(b, "takes effect at once, nothing restarts (timeout_seconds)");
    else if (after)
        line(b, known && v.listeners ? "connects: triggers wait for it" : "connects when a trigger or a step needs it");
    else if (before)
        line(b, v.listeners ? "ends its connection: triggers miss it" : "ends its connection");
}

struct users {
    const char *pipeline;
    struct buf names;
    size_t n;
};

static void add_user(void *ctx, struct live_trigger *t)
{
    struct users *u = ctx;
    struct trigger_view v;
    trigger_look(t, &v);
    if (!streq(v.spec->pipeline_id, u->pipeline))
        return;
    buf_printf(&u->names, "%s%s", u->n ? ", " : "", v.spec->id);
    u->n++;
}

void effects_of_pipeline(struct buf *b, struct api *a, const char *id, const struct pipeline *after)
{
    struct live_pipeline *p = engine_find_pipeline(a->engine, id);
    struct pipeline_view v = {0};
    struct users users = {.pipeline = id};
    engine_each_trigger(a->engine, add_user, &users);
    if (p)
        pipeline_look(p, &v);
    if (p && after && pipeline_equal(v.spec, after))
        line(b, "no effect on what runs");
    else if (p && after)
        line(b, "is what runs from now on do");
    else if (after && users.n > 0)
        line(b, "is found by trigger%s %s", users.n == 1 ? "" : "s", users.names.data);
    else if (after)
        line(b, "can be run");
    else if (users.n > 0)
        line(b, "is missed by trigger%s %s: their events fail", users.n == 1 ? "" : "s", users.names.data);
    if (p && v.running > 0 && !(after && pipeline_equal(v.spec, after)))
        line(b, "lets %" PRId64 " run%s under way end as %s began", v.running, v.running == 1 ? "" : "s",
             v.running == 1 ? "it" : "they");
    buf_fini(&users.names);
}
