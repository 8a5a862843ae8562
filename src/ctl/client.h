/* The daemon's HTTP API, over its unix socket or at a URL. One request at a time, one connection kept between them.
 *
 * Thread: one. */
#ifndef TRIGGERD_CTL_CLIENT_H
#define TRIGGERD_CTL_CLIENT_H

#include "base/error.h"

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
/* 0: there is an answer, whatever its status; -ECONNREFUSED: nobody listens; -EIO, -ETIMEDOUT: it broke off. */
int client_request(struct client *c, const struct client_request *request, struct client_reply *ret, struct error *err);

#endif
