/* A stream of bytes to a server, on the loop: TCP or a Unix socket, plain or TLS, the same to whoever speaks over it.
 *
 *   wire_open() ─► connected() ─► received()* ─► ended()       ended() may come first; wire_close() at any point
 *
 * libcurl looks up the name, connects and does TLS (its CONNECT_ONLY); it is loaded with the first wire. Keep-alive
 * probes are on, but whoever must know soon that a peer is silent asks it something.
 *
 * Thread: the loop's. Callbacks come from the loop, never from inside a call.
 */
#ifndef TRIGGERD_CLIENT_WIRE_H
#define TRIGGERD_CLIENT_WIRE_H

#include "base/error.h"
#include "client/tls.h"

struct http_client;
struct wire;

/* Borrowed for the call of wire_open(). */
struct wire_target {
    const char *host; /* a name or an address, an IPv6 one without brackets */
    int port;
    const char *path; /* of a Unix socket, instead of host and port; NULL: none */
    bool tls;
    const struct tls_config *config; /* NULL: the system's certificates, verified */
    int64_t connect_ms;              /* for name, connection and TLS */
};

struct wire_events {
    void (*connected)(void *ctx);
    void (*received)(void *ctx, const char *data, size_t len); /* borrowed */
    /* It does not work, or not any more: -ECONNREFUSED, -ETIMEDOUT, -EHOSTUNREACH (no such name), -ECONNRESET (also: the
     * server closed it), -EPROTO (TLS), …; nothing comes after it. wire_close() it all the same. */
    void (*ended)(void *ctx, const struct error *err);
};

/* On the library and the group of an HTTP client, whose closing waits for the wire. */
struct wire *wire_open(struct http_client *http, const struct wire_target *target, const struct wire_events *events,
                       void *ctx);
/* Nothing is told any more; NULL is allowed. What was written and not sent yet is lost. */
void wire_close(struct wire *w);

/* Sent soon, with what else is written until then. Before connected(): as soon as that comes. */
void wire_write(struct wire *w, const void *data, size_t len);
/* The same without a copy: what is added to the buffer now, before anything else is called. NULL: it has ended. */
struct buf *wire_out(struct wire *w);
size_t wire_unsent(const struct wire *w);
/* Take nothing in for now: the kernel's buffers fill up, and then the sender waits. An end is not seen meanwhile. */
void wire_hold(struct wire *w, bool hold);

#endif
