#include "client/mcp_servers.h"

#include "base/util.h"
#include "client/mcp_feed.h"
#include "engine/secret_read.h"

#include <errno.h>
#include <stdio.h>
#include <uthash.h>
#include <utlist.h>

struct mcp_entry {
    struct mcp_servers *servers;
    char *name;
    struct mcp_server *spec; /* NULL: not declared */
    struct origin *origin;
    unsigned line;
    char *rejected;
    struct mcp *mcp;     /* NULL: not declared */
    unsigned closing;    /* connections of before that are not over yet */
    enum mcp_state told; /* in the log */
    const char *told_reason;
    struct mcp_feed *feed;
    bool feed_closing;
    struct mcp_listener *listeners;
    size_t n_listeners, n_reading;
    struct mcp_watch *watches;
    UT_hash_handle hh;
};

struct mcp_servers {
    struct mcp_servers_options options;
    struct engine *engine;
    struct mcp_entry *entries;
    size_t settling;            /* feeds in which something waits yet */
    void (*settled)(void *ctx); /* NULL: nobody asked, or it was told */
    void *settled_ctx;
    struct timer settle_over;
    bool ending;
    struct loop_task gone;
    void (*done)(void *ctx);
    void *done_ctx;
};

static struct mcp_entry *entry_find(struct mcp_servers *s, const char *name)
{
    struct mcp_entry *e = NULL;
    HASH_FIND_STR(s->entries, name, e);
    return e;
}

static struct mcp_entry *entry_get(struct mcp_servers *s, const char *name)
{
    struct mcp_entry *e = entry_find(s, name);
    if (e)
        return e;
    e = xcalloc(1, sizeof(*e));
    e->servers = s;
    e->name = xstrdup(name);
    HASH_ADD_KEYPTR(hh, s->entries, e->name, strlen(e->name), e);
    return e;
}

static void entry_reap(struct mcp_entry *e)
{
    struct mcp_servers *s = e->servers;
    if (e->mcp || e->closing > 0 || e->feed || e->listeners || e->watches || e->spec)
        return;
    HASH_DEL(s->entries, e);
    origin_unref(e->origin);
    free(e->rejected);
    free(e->name);
    free(e);
    if (s->ending && !s->entries)
        loop_defer(s->options.env.process.loop, &s->gone);
}

static void changed(const struct mcp_entry *e)
{
    const struct mcp_servers_options *o = &e->servers->options;
    if (o->changed)
        o->changed(o->ctx, e->name);
}

static void tell_listeners(struct mcp_entry *e)
{
    struct mcp_listener *l, *next;
    changed(e);
    DL_FOREACH_SAFE (e->listeners, l, next)
        l->changed(l);
}

/* ---- the connection ---- */

static void log_line(const struct mcp_entry *e, bool warning, const char *text)
{
    const struct mcp_servers_options *o = &e->servers->options;
    if (o->log)
        o->log(o->ctx, warning, e->name, text);
}

/* One line a change of state. */
static void on_changed(void *ctx)
{
    struct mcp_entry *e = ctx;
    struct mcp_view v;
    mcp_look(e->mcp, &v);
    bool news = v.state != e->told || !streq(v.reason, e->told_reason);
    if (news && (v.state == MCP_READY || v.state == MCP_FAILED || (v.state == MCP_IDLE && e->told == MCP_READY))) {
        _cleanup_(freep) char *text = v.state == MCP_READY  ? xasprintf("connected: %s", v.message)
                                      : v.state == MCP_IDLE ? xstrdup("closed: nothing uses it")
                                                            : xasprintf("not connected: %s: %s", v.reason, v.message);
        log_line(e, v.state == MCP_FAILED, text);
        e->told = v.state;
        e->told_reason = v.reason;
    }
    tell_listeners(e);
}

static void on_notification(void *ctx, const char *method, const cJSON *params, size_t bytes)
{
    struct mcp_entry *e = ctx;
    struct mcp_watch *w, *next;
    if (e->feed && !e->feed_closing)
        mcp_feed_take(e->feed, method, params, bytes);
    DL_FOREACH_SAFE (e->watches, w, next)
        w->notification(w, method, params);
}

static void on_log(void *ctx, const char *text)
{
    log_line(ctx, false, text);
}

static void want(struct mcp_entry *e)
{
    if (e->mcp)
        mcp_want(e->mcp, e->closing == 0 && (e->listeners || e->watches));
}

static void connection_gone(void *ctx)
{
    struct mcp_entry *e = ctx;
    e->closing--;
    if (e->mcp && e->closing == 0)
        mcp_bar(e->mcp, false);
    want(e);
    entry_reap(e);
}

static void connection_close(struct mcp_entry *e)
{
    if (!e->mcp)
        return;
    e->closing++;
    if (e->feed)
        mcp_feed_attach(e->feed, NULL);
    mcp_close(steal(&e->mcp), connection_gone, e);
}

static void connection_open(struct mcp_entry *e)
{
    static const struct mcp_events events = {on_changed, on_notification, on_log};
    _cleanup_(freep) char *dir = secret_dir_of(origin_file(e->origin));
    e->mcp = mcp_create(&e->servers->options.env, e->spec, dir, &events, e);
    e->told = MCP_IDLE;
    e->told_reason = NULL;
    if (e->closing > 0)
        mcp_bar(e->mcp, true);
    if (e->feed && !e->feed_closing)
        mcp_feed_attach(e->feed, e->mcp);
    want(e);
}

/* ---- declared ---- */

static void set_origin(struct mcp_entry *e, struct origin *origin, unsigned line)
{
    struct origin *old = e->origin;
    e->origin = origin ? origin_ref(origin) : NULL;
    e->line = line;
    origin_unref(old);
}

void mcp_servers_put(struct mcp_servers *s, struct mcp_server *spec, struct origin *origin, unsigned line)
{
    struct mcp_entry *e = entry_get(s, spec->name);
    struct mcp_server *old = e->spec;
    _cleanup_(freep) char *dir = secret_dir_of(origin_file(e->origin)), *new_dir = secret_dir_of(origin_file(origin));
    bool anew = !old || mcp_server_reconnects(old, spec) || !streq(dir, new_dir);
    set_origin(e, origin, line);
    free(e->rejected);
    e->rejected = NULL;
    e->spec = mcp_server_ref(spec);
    mcp_server_unref(old);
    if (anew) {
        connection_close(e);
        connection_open(e);
    } else {
        mcp_update(e->mcp, spec);
    }
    tell_listeners(e);
}

void mcp_servers_remove(struct mcp_servers *s, const char *name)
{
    struct mcp_entry *e = entry_find(s, name);
    if (!e || !e->spec)
        return;
    mcp_server_unref(e->spec);
    e->spec = NULL;
    free(e->rejected);
    e->rejected = NULL;
    connection_close(e);
    tell_listeners(e);
    entry_reap(e);
}

void mcp_servers_rejected(struct mcp_servers *s, const char *name, const char *message)
{
    struct mcp_entry *e = entry_find(s, name);
    if (!e)
        return;
    free(e->rejected);
    e->rejected = xstrdup0(message);
}

const struct mcp_server *mcp_servers_spec(struct mcp_servers *s, const char *name)
{
    struct mcp_entry *e = entry_find(s, name);
    return e ? e->spec : NULL;
}

/* ---- triggers ---- */

static void feed_gone(void *ctx)
{
    struct mcp_entry *e = ctx;
    e->feed = NULL;
    e->feed_closing = false;
    if (e->listeners) { /* some came meanwhile */
        e->feed = mcp_feed_create(e->servers->options.env.process.loop, e->servers->engine, e->name);
        mcp_feed_set_listeners(e->feed, e->n_listeners - e->n_reading, e->n_reading);
        mcp_feed_attach(e->feed, e->mcp);
    }
    entry_reap(e);
}

void mcp_listen(struct mcp_servers *s, const char *server, struct mcp_listener *l)
{
    struct mcp_entry *e = entry_get(s, server);
    l->entry = e;
    DL_APPEND(e->listeners, l);
    e->n_listeners++;
    changed(e);
    e->n_reading += l->reads;
    if (!e->feed) {
        e->feed = mcp_feed_create(s->options.env.process.loop, s->engine, e->name);
        mcp_feed_attach(e->feed, e->mcp);
    }
    if (!e->feed_closing)
        mcp_feed_set_listeners(e->feed, e->n_listeners - e->n_reading, e->n_reading);
    want(e);
    l->changed(l);
}

void mcp_unlisten(struct mcp_servers *s, struct mcp_listener *l)
{
    (void)s;
    struct mcp_entry *e = l->entry;
    DL_DELETE(e->listeners, l);
    l->entry = NULL;
    e->n_listeners--;
    changed(e);
    e->n_reading -= l->reads;
    if (!e->feed_closing)
        mcp_feed_set_listeners(e->feed, e->n_listeners - e->n_reading, e->n_reading);
    want(e);
    if (!e->listeners && !e->feed_closing) {
        e->feed_closing = true;
        mcp_feed_close(e->feed, feed_gone, e);
        if (e->mcp)
            mcp_hold(e->mcp, MCP_HOLD_NOT);
    }
}

void mcp_listener_retry(struct mcp_listener *l)
{
    struct mcp_entry *e = l->entry;
    if (e->feed && !e->feed_closing)
        mcp_feed_kick(e->feed);
    if (e->mcp)
        mcp_retry(e->mcp);
}

/* ---- steps and views ---- */

struct mcp *mcp_servers_find(struct mcp_servers *s, const char *name)
{
    struct mcp_entry *e = entry_find(s, name);
    return e ? e->mcp : NULL;
}

static void look(const struct mcp_entry *e, struct mcp_entry_view *ret)
{
    *ret = (struct mcp_entry_view){.name = e->name,
                                   .spec = e->spec,
                                   .listeners = e->n_listeners,
                                   .origin = e->origin,
                                   .line = e->line,
                                   .rejected = e->rejected};
    if (e->mcp)
        mcp_look(e->mcp, &ret->connection);
}

bool mcp_servers_look(struct mcp_servers *s, const char *name, struct mcp_entry_view *ret)
{
    struct mcp_entry *e = entry_find(s, name);
    if (!e)
        return false;
    look(e, ret);
    return true;
}

void mcp_listener_look(const struct mcp_listener *l, struct mcp_entry_view *ret)
{
    look(l->entry, ret);
}

static int by_name(const void *a, const void *b)
{
    const struct mcp_entry *x = a, *y = b;
    return strcmp(x->name, y->name);
}

void mcp_servers_each(struct mcp_servers *s, void (*fn)(void *ctx, const struct mcp_entry_view *v), void *ctx)
{
    HASH_SORT(s->entries, by_name);
    for (struct mcp_entry *e = s->entries; e; e = e->hh.next) {
        struct mcp_entry_view v;
        look(e, &v);
        if (e->spec)
            fn(ctx, &v);
    }
}

void mcp_watch_open(struct mcp_servers *s, const char *server, struct mcp_watch *w)
{
    struct mcp_entry *e = entry_get(s, server);
    w->entry = e;
    DL_APPEND(e->watches, w);
    want(e);
}

void mcp_watch_close(struct mcp_servers *s, struct mcp_watch *w)
{
    (void)s;
    struct mcp_entry *e = w->entry;
    DL_DELETE(e->watches, w);
    w->entry = NULL;
    want(e);
    entry_reap(e);
}

/* ---- life ---- */

static void settled(struct mcp_servers *s)
{
    void (*done)(void *) = s->settled;
    s->settled = NULL;
    loop_timer_stop(s->options.env.process.loop, &s->settle_over);
    if (done)
        done(s->settled_ctx);
}

static void feed_empty(void *ctx)
{
    struct mcp_servers *s = ctx;
    if (--s->settling == 0)
        settled(s);
}

static void on_settle_over(struct timer *timer, void *ctx)
{
    (void)timer;
    settled(ctx);
}

void mcp_servers_settle(struct mcp_servers *s, void (*done)(void *ctx), void *ctx)
{
    struct loop *loop = s->options.env.process.loop;
    s->settled = done;
    s->settled_ctx = ctx;
    for (struct mcp_entry *e = s->entries; e; e = e->hh.next) {
        if (!e->feed || e->feed_closing)
            continue;
        s->settling++;
        mcp_feed_settle(e->feed, feed_empty, s);
    }
    loop_timer_start(loop, &s->settle_over, s->settling > 0 ? MCP_SETTLE_MS : 0);
}

static void on_gone(void *ctx)
{
    struct mcp_servers *s = ctx;
    void (*done)(void *) = s->done;
    void *done_ctx = s->done_ctx;
    free(s);
    done(done_ctx);
}

struct mcp_servers *mcp_servers_create(const struct mcp_servers_options *options)
{
    struct mcp_servers *s = xcalloc(1, sizeof(*s));
    s->options = *options;
    loop_task_init(&s->gone, on_gone, s);
    timer_init(&s->settle_over, on_settle_over, s);
    return s;
}

void mcp_servers_set_engine(struct mcp_servers *s, struct engine *engine)
{
    s->engine = engine;
}

void mcp_servers_close(struct mcp_servers *s, void (*done)(void *ctx), void *ctx)
{
    struct mcp_entry *e, *tmp;
    s->ending = true;
    s->done = done;
    s->done_ctx = ctx;
    if (!s->entries) {
        loop_defer(s->options.env.process.loop, &s->gone);
        return;
    }
    HASH_ITER (hh, s->entries, e, tmp) {
        mcp_server_unref(e->spec);
        e->spec = NULL;
        connection_close(e);
        entry_reap(e);
    }
}
