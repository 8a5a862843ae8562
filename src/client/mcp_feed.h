/* What an MCP server sends becomes events: notifications are handed to the engine in order, as many at once as one
 * transaction bears, and kept until they are recorded. While the engine does not take them (a queue is full, the store
 * is behind or broken) they wait here, and when many wait the server is not read from.
 *
 * Triggers that have `read: true` go by a lane of their own, so that what is read for them holds up nobody else.
 *
 * Channels of the engine: `n SERVER TYPE` for what is sent, `l SERVER TYPE` for what only a log message carries.
 *
 * Thread: the loop's.
 */
#ifndef TRIGGERD_CLIENT_MCP_FEED_H
#define TRIGGERD_CLIENT_MCP_FEED_H

#include "client/mcp.h"
#include "engine/engine.h"

#define MCP_EVENT_TYPE "mcp_event" /* the type of trigger */
#define MCP_CHANNEL_MAX 512

/* The config of such a trigger. */
struct mcp_trigger {
    char *server_name;
    char *event_type; /* `*`: any */
    bool read;
};

enum mcp_channel { MCP_CHANNEL_SENT = 'n', MCP_CHANNEL_LOGGED = 'l' };
void mcp_channel_name(enum mcp_channel c, const char *server, const char *event_type, char out[MCP_CHANNEL_MAX]);

struct mcp_feed;

struct mcp_feed *mcp_feed_create(struct loop *loop, struct engine *engine, const char *server);
/* What waits is dropped; `done` from the loop, when nothing is on its way to the store any more. */
void mcp_feed_close(struct mcp_feed *f, void (*done)(void *ctx), void *ctx);

/* Take nothing new in if that can be helped; `empty` from the loop, once, when nothing waits any more. Not with close. */
void mcp_feed_settle(struct mcp_feed *f, void (*empty)(void *ctx), void *ctx);

/* The connection that it reads by and holds up; NULL: none now. */
void mcp_feed_attach(struct mcp_feed *f, struct mcp *m);
/* How many triggers listen, and how many of them have `read`. */
void mcp_feed_set_listeners(struct mcp_feed *f, size_t plain, size_t reading);
/* A notification; borrows. */
void mcp_feed_take(struct mcp_feed *f, const char *method, const cJSON *params, size_t bytes);
/* Something that made the engine refuse may be over: try again at once. */
void mcp_feed_kick(struct mcp_feed *f);

/* `notifications/row_inserted` → `row_inserted`. */
const char *mcp_event_type(const char *method);

#endif
