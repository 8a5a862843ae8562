/* The MCP servers that manifests declare, and who uses them: one connection a server, shared by its triggers and steps.
 *
 * A trigger listens to a name, whether or not a server of that name is declared. A connection is made when a trigger
 * listens or a step asks, and ends a minute after the last. An edit that another connection is needed for ends the one
 * of before first: two of one server never run side by side.
 *
 * Thread: the loop's.
 */
#ifndef TRIGGERD_CLIENT_MCP_SERVERS_H
#define TRIGGERD_CLIENT_MCP_SERVERS_H

#include "client/mcp.h"
#include "model/origin.h"

struct engine;
struct mcp_servers;
struct mcp_entry;

struct mcp_servers_options {
    struct mcp_env env;
    /* A change of state, and what a server prints; limited in rate. */
    void (*log)(void *ctx, bool warning, const char *server, const char *message);
    /* What is seen of a server is not as it was, but for what a manifest says. */
    void (*changed)(void *ctx, const char *server);
    void *ctx;
};

struct mcp_servers *mcp_servers_create(const struct mcp_servers_options *options);
/* Where events go; once, before any trigger listens. */
void mcp_servers_set_engine(struct mcp_servers *s, struct engine *engine);
/* When no trigger listens and no request waits any more: ends all connections. `done` from the loop; then it has freed
 * itself. */
void mcp_servers_close(struct mcp_servers *s, void (*done)(void *ctx), void *ctx);

/* Before the engine drains: what servers have sent, as far as it was read, is recorded, and nothing more is read of them
 * if that can be helped. `done` from the loop, once, MCP_SETTLE_MS later at the latest (a full queue takes nothing). */
#define MCP_SETTLE_MS 2000
void mcp_servers_settle(struct mcp_servers *s, void (*done)(void *ctx), void *ctx);

/* ---- what reconcile calls ---- */

void mcp_servers_put(struct mcp_servers *s, struct mcp_server *spec, struct origin *origin, unsigned line);
void mcp_servers_remove(struct mcp_servers *s, const char *name);
/* Its manifest was rejected, it goes on as it was; NULL: accepted again. */
void mcp_servers_rejected(struct mcp_servers *s, const char *name, const char *message);
const struct mcp_server *mcp_servers_spec(struct mcp_servers *s, const char *name); /* NULL: not declared */

/* ---- triggers ---- */

/* Embedded in its owner. */
struct mcp_listener {
    bool reads;
    void (*changed)(struct mcp_listener *l); /* look again; may come from inside mcp_listen() */
    struct mcp_entry *entry;
    struct mcp_listener *prev, *next;
};
void mcp_listen(struct mcp_servers *s, const char *server, struct mcp_listener *l);
void mcp_unlisten(struct mcp_servers *s, struct mcp_listener *l);
/* Try to connect at once, and to hand on at once what the engine would not take. */
void mcp_listener_retry(struct mcp_listener *l);

/* ---- steps and views ---- */

/* Requests may be made of it at once; borrowed until the loop goes on. NULL: not declared. */
struct mcp *mcp_servers_find(struct mcp_servers *s, const char *name);

/* Borrowed until the loop goes on. */
struct mcp_entry_view {
    const char *name;
    const struct mcp_server *spec; /* NULL: not declared, and triggers wait for it */
    struct mcp_view connection;
    size_t listeners;
    const struct origin *origin;
    unsigned line;
    const char *rejected; /* NULL: its manifest is accepted */
};
bool mcp_servers_look(struct mcp_servers *s, const char *name, struct mcp_entry_view *ret); /* false: none such */
/* In order of name; those declared. */
void mcp_servers_each(struct mcp_servers *s, void (*fn)(void *ctx, const struct mcp_entry_view *v), void *ctx);
void mcp_listener_look(const struct mcp_listener *l, struct mcp_entry_view *ret);

/* Notifications as they come, for who looks on. */
struct mcp_watch {
    void (*notification)(struct mcp_watch *w, const char *method,
                         const cJSON *params); /* borrowed; params may be NULL */
    struct mcp_entry *entry;
    struct mcp_watch *prev, *next;
};
/* Connects, and keeps it connected. */
void mcp_watch_open(struct mcp_servers *s, const char *server, struct mcp_watch *w);
void mcp_watch_close(struct mcp_servers *s, struct mcp_watch *w);

#endif
