/* How messages get to an MCP server and back: over the pipes of a child (mcp_stdio.c), or streamable HTTP (mcp_http.c).
 * A link knows nothing of what the messages say but the ids of requests.
 *
 *   create ─► send* ─► (lost) ─► close ─► done
 *
 * A link is made once and not opened again; after lost() it says nothing more and must be closed. No event comes from
 * inside a call. Thread: the loop's.
 */
#ifndef TRIGGERD_CLIENT_MCP_LINK_H
#define TRIGGERD_CLIENT_MCP_LINK_H

#include "base/loop.h"
#include "base/random.h"
#include "client/http.h"
#include "client/mcp.h"
#include "spawn/process.h"

#define MCP_MESSAGE_MAX ((size_t)16 << 20)

struct mcp_link;

/* Texts are borrowed for the call. */
struct mcp_link_events {
    void (*message)(void *ctx, const char *text, size_t len);
    /* The answer to a request will not come: the link itself works. */
    void (*refused)(void *ctx, int64_t id, const char *why);
    /* The server has not taken this request, and the link will be lost: it is for the next. Gives the text. */
    void (*unsent)(void *ctx, int64_t id, char *text);
    /* It may be that the server knows us no more: a request would tell. */
    void (*doubt)(void *ctx);
    /* It hears nothing at present, and tries by itself; `reason` NULL: it hears again. */
    void (*deaf)(void *ctx, const char *reason, const char *why);
    /* It is over. `anew`: the server has only forgotten us, and would take us again at once. */
    void (*lost)(void *ctx, const char *reason, const char *why, bool anew);
    void (*log)(void *ctx, const char *text, size_t len); /* what it printed, or wrote that is no message */
};

/* Where it leads, with secrets in place; borrowed for the call that makes the link. */
struct mcp_target {
    char **argv; /* NULL-terminated; NULL: it has a URL */
    cJSON *env;
    char *cwd;
    char *url;
    cJSON *headers;
    const char *name;
    double timeout_seconds;
};

struct mcp_link_type {
    struct mcp_link *(*create)(const struct mcp_env *env, const struct mcp_target *target,
                               const struct mcp_link_events *events, void *ctx);
    /* Takes the text, one message without line ends. `id` > 0: of the request that it is. `mark` > 0: of the request
     * that it answers or concerns. */
    void (*send)(struct mcp_link *l, char *text, size_t len, int64_t id);
    /* Nobody waits for the answer to this request any more. */
    void (*forget)(struct mcp_link *l, int64_t id);
    /* The server has answered `initialize`, with this version. */
    void (*agreed)(struct mcp_link *l, const char *version);
    /* It has been told so: now it may be listened to. */
    void (*listen)(struct mcp_link *l);
    /* Tell of no more messages until let go on (a few may still come). */
    void (*hold)(struct mcp_link *l, bool hold);
    /* `force`: it does not answer. `done` once, from the loop; then it has freed itself. */
    void (*close)(struct mcp_link *l, bool force, void (*done)(void *ctx), void *ctx);
};

extern const struct mcp_link_type mcp_stdio_link, mcp_http_link;

#endif
