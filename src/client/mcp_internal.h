/* What mcp.c (its life, requests, connecting) and mcp_session.c (initialize, set-up, what comes) share. */
#ifndef TRIGGERD_CLIENT_MCP_INTERNAL_H
#define TRIGGERD_CLIENT_MCP_INTERNAL_H

#include "base/log.h"
#include "client/mcp_link.h"
#include "client/mcp_message.h"
#include "engine/secret_read.h"

#include <errno.h>
#include <inttypes.h>
#include <uthash.h>

#define MCP_BACKOFF_MIN_MS 500
#define MCP_BACKOFF_MAX_MS 8000

struct mcp_request {
    struct mcp *mcp;
    int64_t id;
    char *method;
    char *text; /* waits to be sent; NULL: it was */
    mcp_progress_fn *progress;
    mcp_done_fn *done;
    void *ctx;
    bool ended;
    int returned;             /* how often a session that was over has not taken it */
    struct mcp_result result; /* of a request that ended and is not told yet */
    char *message;            /* its message */
    struct timer timer;
    struct loop_task tell;
    UT_hash_handle hh;
};

struct mcp {
    struct mcp_env env;
    struct mcp_events events;
    void *ctx;
    struct mcp_server *spec;
    char *dir; /* of its manifest; NULL: none */
    struct secrets *secrets;
    struct secret_read *reading; /* under way; NULL: none */
    const struct mcp_link_type *type;
    struct mcp_link *link;   /* NULL: none */
    struct loop_task opened; /* secrets are there: open; or, closing: it is over */
    bool wanted, closing, barred;
    enum mcp_hold hold;
    bool held;
    bool link_closing;   /* its end is under way; nothing is opened before it is over */
    bool anew;           /* … and then at once */
    bool up;             /* requests are sent as they come */
    int64_t ready_at_ms; /* monotonic; when it was initialized; 0: it is not */
    int64_t backoff_ms;  /* the next wait */
    struct timer again, idle;

    /* What is seen. */
    enum mcp_state state;
    const char *reason;
    char *message;
    int64_t since_ms; /* wall clock */
    char *version;    /* agreed */
    cJSON *answer;    /* to initialize */

    /* Set-up. */
    struct mcp_request *setting_up; /* under way; NULL: none */
    bool levelled;                  /* the log level was asked for, or is not to be */
    size_t subscribed;              /* URIs done with */
    char *unsubscribed;             /* why one could not be subscribed to; NULL: all were */
    struct timer subscribe_again;
    int64_t subscribe_ms;
    const char *deaf; /* the reason why its stream is not heard; NULL: it is */
    char *deaf_why;

    int64_t ids;
    struct mcp_request *requests; /* by id */
    struct log_limit log_limit;
    void (*done)(void *ctx);
    void *done_ctx;
};

/* mcp.c */
void mcp_set_state(struct mcp *m, enum mcp_state state, const char *reason, const char *message);
/* To the log, masked. */
void mcp_say(struct mcp *m, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Made, and not sent; takes `params`. */
struct mcp_request *mcp_request_new(struct mcp *m, const char *method, cJSON *params, mcp_progress_fn *progress,
                                    mcp_done_fn *done, void *ctx);
void mcp_request_send(struct mcp_request *r);
/* Its end, told soon. Takes `result`; `message` is copied, masked. */
void mcp_request_end(struct mcp_request *r, int code, cJSON *result, int64_t rpc_code, const char *message);
/* Requests that were made before it was up. */
void mcp_send_waiting(struct mcp *m);
/* The connection, or an attempt at it, is over. `force`: it does not answer. `anew`: and is made again at once. */
void mcp_fail(struct mcp *m, const char *reason, const char *why, bool force, bool anew);
/* Is there somebody at the other end who is heard? */
bool mcp_live(const struct mcp *m);
void mcp_idle_check(struct mcp *m);

/* mcp_session.c */
extern const struct mcp_link_events mcp_session_events;
void mcp_initialize(struct mcp *m);
void mcp_subscribe_again(struct timer *timer, void *ctx);

#endif
