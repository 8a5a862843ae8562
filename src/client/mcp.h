/* One MCP server, seen from a client: a connection that is made when somebody wants it, kept, and made again.
 *
 *              want                    answer to initialize, subscriptions
 *   IDLE ─────────────► CONNECTING ───────────────────────────────────────► READY
 *     ▲                  │    ▲                                               │
 *     │ nobody wants it  │    │ 0.5 s, doubling to 8 s, ± 20 %; or retry()    │ lost
 *     └──────────────── FAILED ◄──────────────────────────────────────────────┘
 *
 * Requests may be made in any state: one that is made before READY waits for it, and fails when the attempt under way
 * does. Each ends exactly once, never from inside the call: with its answer, the server's error, the end of the
 * connection, or after timeout_seconds, when the server is told (`notifications/cancelled`).
 *
 * The server's own requests are answered here: `ping`, `roots/list`; any other with -32601.
 *
 * Values that came from references are masked in whatever the server says, before anybody sees it.
 *
 * Thread: the loop's.
 */
#ifndef TRIGGERD_CLIENT_MCP_H
#define TRIGGERD_CLIENT_MCP_H

#include "base/random.h"
#include "model/mcp_server.h"
#include "spawn/process.h"

struct http_client;
struct mcp;
struct mcp_request;
struct secret_dirs;

/* What a connection needs; borrowed for its life. */
struct mcp_env {
    struct process_env process;
    struct http_client *http;
    struct random *random;
    const struct secret_dirs *secrets_dirs;
    const char *node_id;                    /* by which orphans are found; NULL: none */
    bool literal;                           /* what looks like a reference is text */
    bool only_answers;                      /* over HTTP: no stream for what the server says of itself */
    int64_t backoff_min_ms, backoff_max_ms; /* 0: 500 and 8000 */
};

/* Texts and trees are borrowed for the call. */
struct mcp_events {
    void (*changed)(void *ctx);                                                             /* what mcp_look() tells */
    void (*notification)(void *ctx, const char *method, const cJSON *params, size_t bytes); /* params NULL: none */
    void (*log)(void *ctx, const char *text);                                               /* limited in rate */
};

struct mcp *mcp_create(const struct mcp_env *env, struct mcp_server *spec, const char *manifest_dir,
                       const struct mcp_events *events, void *ctx);
/* Ends the connection; requests end with -ECANCELED. `done` from the loop, then it has freed itself. */
void mcp_close(struct mcp *m, void (*done)(void *ctx), void *ctx);

/* Somebody wants it connected (and it stays so), or nobody does: then it is closed when it was idle for a minute. */
void mcp_want(struct mcp *m, bool wanted);
/* Try to connect at once, where it waits to. */
void mcp_retry(struct mcp *m);
/* Take in nothing more for the time being (a few messages may still come): nothing at all, or nothing while no request
 * waits for its answer, which would come behind it. */
enum mcp_hold { MCP_HOLD_NOT, MCP_HOLD_UNASKED, MCP_HOLD_ALL };
void mcp_hold(struct mcp *m, enum mcp_hold hold);
/* Do not connect, whoever wants it, until this is over. */
void mcp_bar(struct mcp *m, bool bar);
/* The edited manifest, where mcp_server_reconnects() is false. */
void mcp_update(struct mcp *m, struct mcp_server *spec);

enum mcp_state { MCP_IDLE, MCP_CONNECTING, MCP_READY, MCP_FAILED };
const char *mcp_state_name(enum mcp_state state); /* `idle`, `connecting`, `connected`, `error` */

/* Borrowed until the loop goes on. */
struct mcp_view {
    enum mcp_state state;
    const char *reason;           /* a constant in CamelCase */
    const char *message;          /* NULL: none */
    int64_t since_ms;             /* wall clock; of the state; 0: it was never anything else than idle */
    const char *protocol_version; /* of this connection or the last; NULL: there was none */
    const char *name, *version;   /* the server's own words; NULL likewise */
    const cJSON *capabilities;
    const char *instructions;
};
void mcp_look(const struct mcp *m, struct mcp_view *ret);

struct mcp_result {
    int code;            /* 0; -EREMOTEIO: the server answered with an error; -ETIMEDOUT; -ENOTCONN: there is no
                            connection, or it was lost; -ECANCELED */
    cJSON *result;       /* code 0; may be taken (set it to NULL) */
    int64_t rpc_code;    /* of the server's error; 0: none */
    const char *message; /* code ≠ 0 */
};
typedef void mcp_done_fn(void *ctx, struct mcp_result *result);
/* Told of how far it has come; borrowed. */
typedef void mcp_progress_fn(void *ctx, const cJSON *params);

/* Takes `params` (NULL: none). `progress` NULL: nobody asks. */
struct mcp_request *mcp_ask(struct mcp *m, const char *method, cJSON *params, mcp_progress_fn *progress,
                            mcp_done_fn *done, void *ctx);
/* Nobody wants the answer: the server is told, `done` is not called. */
void mcp_cancel(struct mcp_request *r, const char *why);

/* All pages of a list (`tools/list` and its `tools`), as one array in `result`. To be cancelled with the other. */
struct mcp_listing;
struct mcp_listing *mcp_list(struct mcp *m, const char *method, const char *member, mcp_done_fn *done, void *ctx);
void mcp_list_cancel(struct mcp_listing *l);

#endif
