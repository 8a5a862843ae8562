/* Who may ask: tokens with scopes, and requests that a browser makes for somebody else.
 *
 * The unix socket's mode says who may use it: there everything passes. Over TCP, in this order:
 *   - Host (RFC 9110, 7.2) names the listening address, `localhost`, a loopback address or one of `hosts`: a page whose
 *     name was made to point here (DNS rebinding) is refused with 403. Where every address is listened to, any address
 *     written as numbers is taken too.
 *   - Origin (RFC 6454), where a browser sends one, is our own, or its host is one of `hosts`: else 403.
 *   - where there are tokens, `Authorization: Bearer TOKEN` (RFC 6750) with a token whose scopes reach: 401, 403.
 *
 * Tokens are kept as digests and compared in constant time. Thread: the loop's.
 */
#ifndef TRIGGERD_HTTP_ACCESS_H
#define TRIGGERD_HTTP_ACCESS_H

#include "http/server.h"

#include <stdint.h>

enum access_scope {
    ACCESS_OPEN, /* no token is asked for */
    ACCESS_READ,
    ACCESS_EMIT,
    ACCESS_ADMIN, /* has the others, and alone writes manifests: whoever may write a pipeline may run code */
};

struct access_token {
    const char *name, *file;
    unsigned scopes; /* bits: 1 << enum access_scope */
};

struct access_options {
    const struct access_token *tokens; /* borrowed, like all here, for the call; files are read below 4 KiB, one
                                          trailing newline dropped */
    size_t n_tokens;
    const char *listen; /* HOST:PORT; NULL: none */
    const char *const *hosts;
    size_t n_hosts;
};

struct access;

/* Is it HOST:PORT on loopback? */
bool access_loopback(const char *listen);

/* -ENOENT, -EACCES …: a token's file cannot be read; -EINVAL: it is empty, too long, or two tokens are the same. */
int access_create(const struct access_options *options, struct access **ret, struct error *err);
void access_destroy(struct access *a); /* NULL is allowed */

/* 0, or the status to refuse with: 401 (then `WWW-Authenticate: Bearer` goes with it) or 403, and why. */
int access_check(const struct access *a, const struct http_request *r, enum access_scope need, const char **ret_detail);

#endif
