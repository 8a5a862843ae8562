#include "client/mcp_internal.h"

#define SHOWN_MAX 200 /* bytes of a line that is no message */
#define RETURNED_MAX 3

/* ---- set-up: log level and subscriptions, one request after the other ---- */

static void set_up(struct mcp *m);

/* What is seen of a connection that is up. */
static void show(struct mcp *m)
{
    if (!m->up)
        return;
    if (m->deaf || m->unsubscribed) {
        mcp_set_state(m, MCP_FAILED, m->deaf ? m->deaf : "SubscribeFailed", m->deaf ? m->deaf_why : m->unsubscribed);
        return;
    }
    struct mcp_view v;
    mcp_look(m, &v);
    _cleanup_(freep) char *text = xasprintf("%s%s%s speaks MCP %s", v.name ? v.name : "the server",
                                            v.version ? " " : "", v.version ? v.version : "", m->version);
    mcp_set_state(m, MCP_READY, "Connected", text);
}

/* Its tools and its notifications are to be had, whatever it says to the rest. */
static void go_up(struct mcp *m)
{
    m->up = true;
    show(m);
    mcp_send_waiting(m);
    mcp_idle_check(m);
}

static void level_set(void *ctx, struct mcp_result *result)
{
    struct mcp *m = ctx;
    m->setting_up = NULL;
    if (!mcp_live(m))
        return;
    if (result->code != 0)
        mcp_say(m, "logging/setLevel: %s", result->message);
    m->levelled = true;
    set_up(m);
}

static void subscribed(void *ctx, struct mcp_result *result)
{
    struct mcp *m = ctx;
    m->setting_up = NULL;
    if (!mcp_live(m))
        return;
    if (result->code == 0) {
        m->subscribed++;
        set_up(m);
        return;
    }
    free(m->unsubscribed);
    m->unsubscribed = xasprintf("cannot subscribe to %s: %s", m->spec->subscribe.items[m->subscribed], result->message);
    m->subscribe_ms = m->subscribe_ms ? MIN(m->subscribe_ms * 2, MCP_BACKOFF_MAX_MS) : MCP_BACKOFF_MIN_MS;
    loop_timer_start(m->env.process.loop, &m->subscribe_again, m->subscribe_ms);
    go_up(m);
}

static bool declares(const struct mcp *m, const char *capability, const char *member)
{
    const cJSON *c = value_get(value_get(m->answer, "capabilities"), capability);
    return c && (!member || cJSON_IsTrue(value_get(c, member)));
}

static void set_up_by(struct mcp *m, const char *method, const char *key, const char *value, mcp_done_fn *done)
{
    cJSON *params = cJSON_CreateObject();
    cJSON_AddStringToObject(params, key, value);
    m->setting_up = mcp_request_new(m, method, params, NULL, done, m);
    mcp_request_send(m->setting_up);
}

/* The next of what the server is to be asked at the start of a connection. */
static void set_up(struct mcp *m)
{
    const struct strings *uris = &m->spec->subscribe;
    bool subscribes = declares(m, "resources", "subscribe");
    if (!m->levelled && m->spec->log_level > 0 && declares(m, "logging", NULL)) {
        set_up_by(m, "logging/setLevel", "level", mcp_log_levels[m->spec->log_level], level_set);
    } else if (m->subscribed < uris->n && subscribes) {
        set_up_by(m, "resources/subscribe", "uri", uris->items[m->subscribed], subscribed);
    } else {
        if (uris->n > 0 && !subscribes)
            mcp_say(m, "it does not offer subscriptions: nothing was subscribed to");
        free(m->unsubscribed);
        m->unsubscribed = NULL;
        m->subscribe_ms = 0;
        go_up(m);
    }
}

void mcp_subscribe_again(struct timer *timer, void *ctx)
{
    (void)timer;
    set_up(ctx);
}

/* ---- initialize ---- */

static const char *check_answer(const cJSON *result, char **ret_words)
{
    const char *version = value_get_string(result, "protocolVersion");
    if (!version) {
        *ret_words = xstrdup("its answer to initialize has no protocolVersion");
        return "InitializeFailed";
    }
    if (mcp_version_known(version))
        return NULL;
    struct buf shown = {0};
    text_escape(&shown, version);
    *ret_words =
        xasprintf("the server speaks MCP %.64s; triggerd speaks %s", shown.data ? shown.data : "", MCP_VERSIONS_TEXT);
    buf_fini(&shown);
    return "UnsupportedVersion";
}

static void initialized(void *ctx, struct mcp_result *result)
{
    struct mcp *m = ctx;
    _cleanup_(freep) char *words = NULL;
    m->setting_up = NULL;
    if (!mcp_live(m))
        return;
    if (result->code != 0) {
        words = result->code == -ETIMEDOUT ? xstrdup(result->message) : xasprintf("initialize: %s", result->message);
        mcp_fail(m, result->code == -ETIMEDOUT ? "InitializeTimeout" : "InitializeFailed", words,
                 result->code == -ETIMEDOUT, false);
        return;
    }
    const char *wrong = check_answer(result->result, &words);
    if (wrong) {
        mcp_fail(m, wrong, words, false, false);
        return;
    }
    cJSON_Delete(m->answer);
    m->answer = steal(&result->result);
    free(m->version);
    m->version = xstrdup(value_get_string(m->answer, "protocolVersion"));
    m->ready_at_ms = MAX(loop_now_ms(m->env.process.loop), (int64_t)1);
    m->type->agreed(m->link, m->version);
    char *text = mcp_notification_text("notifications/initialized", NULL);
    m->type->send(m->link, text, strlen(text), 0);
    if (!m->env.only_answers)
        m->type->listen(m->link);
    m->levelled = false;
    m->subscribed = 0;
    set_up(m);
}

void mcp_initialize(struct mcp *m)
{
    cJSON *params = cJSON_CreateObject();
    cJSON_AddStringToObject(params, "protocolVersion", MCP_VERSION_OFFERED);
    cJSON_AddObjectToObject(cJSON_AddObjectToObject(params, "capabilities"), "roots");
    cJSON *info = cJSON_AddObjectToObject(params, "clientInfo");
    cJSON_AddStringToObject(info, "name", "triggerd");
    cJSON_AddStringToObject(info, "version", TRIGGERD_VERSION);
    m->setting_up = mcp_request_new(m, "initialize", params, NULL, initialized, m);
    mcp_request_send(m->setting_up);
}

/* ---- what the server says ---- */

static void reply(struct mcp *m, const struct mcp_message *q)
{
    char *text;
    if (streq(q->method, "ping")) {
        cJSON *empty = cJSON_CreateObject();
        text = mcp_result_text(q->id, empty);
        cJSON_Delete(empty);
    } else if (streq(q->method, "roots/list")) {
        cJSON *result = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(result, "roots");
        const struct mcp_root *roots = m->spec->roots.items;
        for (size_t i = 0; i < m->spec->roots.n; i++) {
            cJSON *root = cJSON_CreateObject();
            cJSON_AddStringToObject(root, "uri", roots[i].uri);
            if (roots[i].name)
                cJSON_AddStringToObject(root, "name", roots[i].name);
            cJSON_AddItemToArray(list, root);
        }
        text = mcp_result_text(q->id, result);
        cJSON_Delete(result);
    } else {
        text = mcp_error_text(q->id, MCP_ERROR_METHOD_NOT_FOUND, "Method not found");
    }
    m->type->send(m->link, text, strlen(text), 0);
}

static void take_answer(struct mcp *m, cJSON *tree, const struct mcp_message *a)
{
    int64_t id = 0;
    struct mcp_request *r = NULL;
    if (a->id && value_is_number(a->id) && value_integer(a->id, &id))
        HASH_FIND(hh, m->requests, &id, sizeof(id), r);
    if (!r || r->ended || r->text) {
        if (!a->id || id <= 0 || id > m->ids) /* a late one is nothing to speak of */
            mcp_say(m, "an answer to no request is left out");
        return;
    }
    m->type->forget(m->link, id);
    if (a->error) {
        int64_t code = 0;
        value_integer(value_get(a->error, "code"), &code);
        _cleanup_(freep) char *words = mcp_error_words(a->error);
        mcp_request_end(r, -EREMOTEIO, NULL, code, words);
    } else {
        mcp_request_end(r, 0, cJSON_DetachItemViaPointer(tree, a->result), 0, NULL);
    }
}

static void take_progress(struct mcp *m, const cJSON *params)
{
    int64_t id = 0;
    struct mcp_request *r = NULL;
    const cJSON *token = value_get(params, "progressToken");
    if (token && value_is_number(token) && value_integer(token, &id))
        HASH_FIND(hh, m->requests, &id, sizeof(id), r);
    if (r && r->progress && !r->ended)
        r->progress(r->ctx, params);
}

static void no_message(struct mcp *m, const char *text, size_t len, const char *why)
{
    struct buf shown = {0};
    _cleanup_(freep) char *head = xstrndup(text, MIN(len, (size_t)SHOWN_MAX));
    text_escape(&shown, head);
    mcp_say(m, "what it wrote is no message (%s): \"%s\"%s", why, shown.data ? shown.data : "",
            len > SHOWN_MAX ? "…" : "");
    buf_fini(&shown);
}

static void take_one(struct mcp *m, cJSON *tree, const char *text, size_t len)
{
    struct mcp_message msg;
    const char *why = NULL;
    if (!mcp_message_read(tree, &msg, &why)) {
        no_message(m, text, len, why);
        return;
    }
    if (msg.kind == MCP_REQUEST) {
        reply(m, &msg);
    } else if (msg.kind == MCP_ANSWER) {
        take_answer(m, tree, &msg);
    } else {
        if (streq(msg.method, "notifications/progress"))
            take_progress(m, msg.params);
        m->events.notification(m->ctx, msg.method, msg.params, len);
    }
}

static void on_message(void *ctx, const char *text, size_t len)
{
    struct mcp *m = ctx;
    struct error err = ERROR_INIT;
    cJSON *tree = NULL;
    if (!mcp_live(m))
        return;
    if (value_parse(text, len, &tree, &err) < 0) {
        no_message(m, text, len, err.message);
        return;
    }
    if (m->secrets && !mask_is_empty(secrets_mask(m->secrets)))
        secrets_mask_tree(m->secrets, tree);
    if (cJSON_IsArray(tree) && m->version && mcp_version_batches(m->version)) {
        if (!tree->child)
            no_message(m, text, len, "an empty batch");
        for (cJSON *item = tree->child; item && mcp_live(m); item = item->next)
            take_one(m, item, text, len);
    } else {
        take_one(m, tree, text, len);
    }
    cJSON_Delete(tree);
}

static void on_refused(void *ctx, int64_t id, const char *why)
{
    struct mcp *m = ctx;
    struct mcp_request *r = NULL;
    HASH_FIND(hh, m->requests, &id, sizeof(id), r);
    if (r)
        mcp_request_end(r, -EREMOTEIO, NULL, 0, why);
}

static void on_unsent(void *ctx, int64_t id, char *text)
{
    struct mcp *m = ctx;
    struct mcp_request *r = NULL;
    HASH_FIND(hh, m->requests, &id, sizeof(id), r);
    if (r && !r->ended && !r->text && r->returned++ < RETURNED_MAX)
        r->text = text;
    else
        secret_free(text);
}

static void told(void *ctx, struct mcp_result *result)
{
    (void)ctx, (void)result; /* a session that is over is told by the link */
}

static void on_doubt(void *ctx)
{
    struct mcp *m = ctx;
    if (mcp_live(m))
        mcp_request_send(mcp_request_new(m, "ping", NULL, NULL, told, m));
}

static void on_deaf(void *ctx, const char *reason, const char *why)
{
    struct mcp *m = ctx;
    if (!mcp_live(m))
        return;
    free(m->deaf_why);
    m->deaf = reason;
    m->deaf_why = xstrdup0(why);
    show(m);
}

static void on_lost(void *ctx, const char *reason, const char *why, bool anew)
{
    struct mcp *m = ctx;
    if (mcp_live(m))
        mcp_fail(m, reason, why, false, anew);
}

static void on_log(void *ctx, const char *text, size_t len)
{
    struct buf shown = {0};
    _cleanup_(freep) char *line = xstrndup(text, len);
    text_escape(&shown, line);
    mcp_say(ctx, "%s", shown.data ? shown.data : "");
    buf_fini(&shown);
}

const struct mcp_link_events mcp_session_events = {on_message, on_refused, on_unsent, on_doubt,
                                                   on_deaf,    on_lost,    on_log};
