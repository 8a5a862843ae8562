/* The routes of the REST view: from a request to an operation of the api, and back. */
#ifndef TRIGGERD_HTTP_ROUTES_H
#define TRIGGERD_HTTP_ROUTES_H

#include "api/api.h"
#include "http/access.h"

struct routes {
    struct api *api;
    const struct access *access;
    bool on_loopback; /* nobody but this machine reaches the TCP address: webhooks need no signature */
    const struct secret_dirs *secrets_dirs;
    struct loop *loop;
    char *openapi; /* the document, once it was asked for; free() it at the end */
};

/* `ctx` is the struct routes. */
void routes_handle(void *ctx, struct http_request *r);

/* How long the body of a request may be, where it is not as the others: 0: as they. */
size_t routes_body_bound(const struct http_request *r);

#endif
