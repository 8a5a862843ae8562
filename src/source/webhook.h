/* webhook: requests that somebody else's server sends to /hooks/PATH. A passive type: the path is the channel. What a
 * request must prove is looked at by the HTTP side, with what is declared here. */
#ifndef TRIGGERD_SOURCE_WEBHOOK_H
#define TRIGGERD_SOURCE_WEBHOOK_H

#include "base/error.h"
#include "model/field.h"

#define WEBHOOK_PATH_MAX 255
#define WEBHOOK_TOLERANCE_S 300 /* of a signature that has a time */

enum webhook_scheme {
    WEBHOOK_GITHUB, /* X-Hub-Signature-256: sha256=HEX, over the body */
    WEBHOOK_STRIPE, /* Stripe-Signature: t=SECONDS,v1=HEX[,v1=HEX…], over `t.body` */
    WEBHOOK_STANDARD, /* Standard Webhooks: webhook-id, webhook-timestamp, webhook-signature: v1,BASE64 [v1,BASE64…], over
                         `id.timestamp.body`; a secret that starts with whsec_ is base64 */
    WEBHOOK_HMAC,     /* HEADER: [PREFIX]HEX, over the body */
};

struct webhook_signature {
    int scheme;
    char *secret;          /* as the manifest says it: may hold references */
    char *header, *prefix; /* of hmac-sha256 */
};

struct webhook_config {
    char *path;
    uint64_t methods;                    /* bits by the words of webhook_methods */
    struct webhook_signature *signature; /* NULL: none */
};

extern const char *const webhook_methods[]; /* NULL-terminated */

/* The headers of a request: the value of `name` (any case), NULL where there is none. */
struct webhook_request {
    const char *(*header)(void *ctx, const char *name);
    void *ctx;
    const char *body;
    size_t len;
    int64_t now_ms; /* wall clock */
};

/* Does one of the request's signatures fit? 0; -EACCES: none does, or there is none (the message says what is missing);
 * -EINVAL: the secret is empty or malformed. Compares in constant time. */
int webhook_verify(const struct webhook_signature *s, const char *secret, const struct webhook_request *r,
                   struct error *err);
/* The headers that prove something, which no view shows: is `name` (lower case) one of them? `s` may be NULL. */
bool webhook_header_is_secret(const struct webhook_signature *s, const char *name);

#endif
