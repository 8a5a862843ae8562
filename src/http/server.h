/* The HTTP server: libmicrohttpd on the loop, over a unix socket and, if asked, a TCP address. Transport
 * only: what a request means is the handler's (routes.c).
 *
 * A request is handed to `handle` once its body is complete and within bounds; from then on its owner answers it
 * exactly once with http_reply(), now or later (the connection is suspended meanwhile), also when the client has gone
 * (then the answer is dropped). Everything a request shows is valid until http_reply().
 *
 * What the server itself refuses, as application/problem+json through `problem`: bodies over max_body (413), broken
 * requests (400), too many connections (503), requests that come while it stops (503); the connection is closed then. So
 * is what libmicrohttpd itself answers to a request that it cannot take apart (400, 413, 414, 431, 505; see
 * own_answers.c); where there is no request line, there is no answer.
 *
 * Connections over TCP that are idle for two minutes are closed, and those of clients that are
 * too slow (deadline_ms); those over the unix socket never. Where there are too many connections, those over TCP that
 * have said nothing whole for a second make room, who waits longest first; is there none, the new one gets the 503.
 *
 * Thread: the loop's.
 */
#ifndef TRIGGERD_HTTP_SERVER_H
#define TRIGGERD_HTTP_SERVER_H

#include "base/error.h"
#include "base/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct http_server;
struct http_request;

/* PEM texts. */
struct http_tls {
    const char *cert, *key;
    const char *client_ca; /* a client shows a certificate of one of these authorities, or there is no handshake; NULL:
                              none is asked for */
};

struct http_server_options {
    struct loop *loop;
    const char
        *socket_path;   /* NULL: none. Made with mode 0600 in place of a dead one; -EADDRINUSE if one answers there */
    const char *listen; /* HOST:PORT, port 0: any; NULL: none */
    const struct http_tls *tls; /* of the TCP address; NULL: in the clear. For the call */
    bool any_address;           /* else `listen` is on loopback, or -EACCES */
    size_t max_body;            /* bytes; 0: 1 MiB */
    /* Another bound for a request, before its body is read; 0: max_body. NULL: none has one. */
    size_t (*body_bound)(const struct http_request *r);
    int64_t
        deadline_ms; /* over TCP, however slowly bytes come: of a request's headers since the last answer, then of its
                            body, then of taking an answer that is no stream; 0: two minutes, of answers ten */
    unsigned max_connections; /* 0: 1 024; each costs a descriptor, a stream two */
    void (*handle)(void *ctx, struct http_request *r);
    /* The body of the server's own refusals: problem JSON for a status and a detail; malloc'ed. */
    char *(*problem)(int status, const char *detail);
    void *ctx;
};

/* What http_server_create() would say of such a `listen`, without listening: -EINVAL, -EACCES. */
int http_listen_check(const char *listen, bool any_address, struct error *err);

/* On failure what was opened is shut at once, and freed when the loop turns. */
int http_server_create(const struct http_server_options *options, struct http_server **ret, struct error *err);
/* Another certificate from now on, for a server that began with one; connections that are there keep theirs. On failure
 * nothing changes. */
int http_server_set_tls(struct http_server *s, const struct http_tls *tls, struct error *err);
/* No new connections, no new requests on old ones; those under way are still answered. */
void http_server_quiesce(struct http_server *s);
/* `done` once every request is answered, every stream ended (which this asks of them) and every connection closed;
 * where `now`, connections are closed at once and `done` waits for nothing. Never from inside. A stop may be hurried by
 * a second call with `now`, whose `done` replaces the first. An owner that has a request still answers it, also after
 * `done`: what the request shows stays until then. */
void http_server_stop(struct http_server *s, bool now, void (*done)(void *ctx), void *ctx);
/* The TCP port in use, 0: none. */
int http_server_port(const struct http_server *s);

/* ---- a request ---- */

/* HEAD is to be answered as GET, where that only looks: the body is left out on the way. */
const char *http_method(const struct http_request *r);
/* Without the query; percent-escapes as they came. */
const char *http_path(const struct http_request *r);
/* A header by name (any case), NULL if absent. */
const char *http_header(const struct http_request *r, const char *name);
/* Every header, in order; names as they came. */
void http_each_header(const struct http_request *r, void (*fn)(void *ctx, const char *name, const char *value),
                      void *ctx);
/* Query parameters, decoded, in order. What is no escape stays as it is, as does %00; the bytes need not be UTF-8. */
struct http_param {
    const char *key, *value; /* value "" for `?key` */
};
size_t http_query(const struct http_request *r, const struct http_param **ret);
const char *http_body(const struct http_request *r, size_t *ret_len);
bool http_over_unix_socket(const struct http_request *r);

struct http_reply {
    int status;
    const char *content_type; /* constant or copied; NULL: application/json */
    char *body;               /* taken (malloc'ed), NULL: empty */
    size_t body_len;
    const char *headers[8][2]; /* name, value; copied; ends with a NULL name */
};
void http_reply(struct http_request *r, const struct http_reply *reply);

/* ---- streaming answers (server-sent events, logs that grow) ---- */

struct http_stream;
/* Answer with 200 and a body that comes in pieces, chunked; headers go out at once. `closed` comes exactly once when
 * the client has gone (or has shut down its sending side, which TCP does not let us tell apart), after
 * http_stream_end() or when the server stops, never from inside; then the stream is gone. */
struct http_stream *http_reply_stream(struct http_request *r, const char *content_type, void (*closed)(void *ctx),
                                      void *ctx);
/* Queue bytes (copied; dropped after the end). Returns the bytes now waiting to be sent: the owner bounds them. */
size_t http_stream_write(struct http_stream *s, const void *data, size_t len);
/* A stream that queues nothing: when the client can take bytes and none wait, `pull` is asked (with `closed`'s ctx) to
 * put at most `max` of them at `to`; it gives their number, 0: nothing now, it is asked again after http_stream_wake();
 * negative: the stream ends here. */
void http_stream_pull(struct http_stream *s, ssize_t (*pull)(void *ctx, char *to, size_t max));
void http_stream_wake(struct http_stream *s);
void http_stream_end(struct http_stream *s);

#endif
