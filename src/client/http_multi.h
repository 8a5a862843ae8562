/* Of the clients that go by libcurl: its multi interface on the loop (its sockets are polls, its timer one of ours), and
 * TLS as manifests say it.
 *
 * Ownership: the owner embeds it; polls belong to `group` until they are closed. Thread: the loop's.
 */
#ifndef TRIGGERD_CLIENT_HTTP_MULTI_H
#define TRIGGERD_CLIENT_HTTP_MULTI_H

#include "base/loop.h"
#include "client/http_internal.h"

struct http_multi {
    struct loop *loop;
    struct loop_group *group;
    struct http_lib *lib;
    CURLM *handle; /* NULL: not open */
    struct timer timer;
    /* This one has ended, and is still added. It may close the multi, not free it. */
    void (*ended)(void *ctx, CURL *easy, CURLcode code);
    void *ctx;
};
void http_multi_init(struct http_multi *m, struct loop *loop, struct loop_group *group, struct http_lib *lib,
                     void (*ended)(void *ctx, CURL *easy, CURLcode code), void *ctx);
void http_multi_open(struct http_multi *m); /* the library is loaded; nothing where it is open */
/* With every connection that it kept; what was added was removed before. Nothing where it is not open. */
void http_multi_close(struct http_multi *m);

/* `own` NULL: the system's certificates, verified. The files are borrowed until the handle is cleaned up. */
void http_set_tls(struct http_lib *lib, CURL *easy, const struct tls_config *own, const struct tls_files *files);

#endif
