/* The daemon's HTTP API, over its unix socket or at a URL. One request at a time, one connection kept between them.
 *
 * Thread: one. */
#ifndef TRIGGERD_CTL_CLIENT_H
#define TRIGGERD_CTL_CLIENT_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

#define CLIENT_CONNECT_SECONDS 10L
#define CLIENT_ANSWER_SECONDS 120L /* a whole request may take so long */

struct client;

/* `target`: the path of a socket, or a URL (http://, https://). Headers that every request gets come from the
 * environment: TRIGGERD_RUN_ID, TRACEPARENT, and with a URL TRIGGERD_TOKEN. */
int client_create(const char *target, struct client **ret, struct error *err);
void client_destroy(struct client *c);

struct client_request {
    const char *method, *path; /* the path from its first slash, encoded */
    const char *body;          /* JSON; NULL: none */
    size_t body_len;
    const char *idempotency_key; /* NULL: none */
};
struct client_reply {
    long status;
    char *body; /* NUL-terminated; free() it */
    size_t len;
};
/* From now on a request may take so long, and no longer. */
void client_hurry(struct client *c, long ms);
/* 0: there is an answer, whatever its status; -ECONNREFUSED: nobody listens; -EIO, -ETIMEDOUT: it broke off. */
int client_request(struct client *c, const struct client_request *request, struct client_reply *ret, struct error *err);

/* A GET whose answer comes in pieces, for as long as the daemon gives them. */
struct client_stream {
    const char *path;
    const char *last_event_id; /* NULL: none */
    /* The headers of an answer with status 200 are there. False: enough. NULL: not needed. */
    bool (*began)(void *ctx);
    /* Pieces of such an answer. False: enough. */
    bool (*take)(void *ctx, const char *data, size_t len);
    long timeout_ms; /* 0: none */
    void *ctx;
};
/* 0: there was an answer; with a status other than 200 *ret has its body. Errors as above; *ret_began: there was a
 * status 200 before it broke off. */
int client_follow(struct client *c, const struct client_stream *stream, struct client_reply *ret, bool *ret_began,
                  struct error *err);

#endif
