/* Inside the HTTP server: what server.c, listen.c, connection.c, own_answers.c and stream.c share.
 *
 *     server ─┬─ door (unix socket) ─┬─ a listening socket, accepted from here
 *             └─ door (TCP)          ├─ a libmicrohttpd daemon without threads: its epoll descriptor is polled by the
 * loop └─ connections ── one request at a time ── a stream, if it is answered by one
 *
 * A connection lives exactly as long as libmicrohttpd's, its request inside it. While the owner of a request has not
 * answered, the connection is suspended, and libmicrohttpd never closes a suspended connection: so a request that was
 * handed out stays valid until its answer, whatever the client does.
 *
 * The request:
 *
 *     IDLE ─(headers)→ READING ─(body)→ COMPLETE ─(next run)→ HANDED ─(http_reply)→ ANSWERED ─(sent, or closed)→ IDLE
 *                         └── (refused) → ANSWERED          (closed before it was handed out: IDLE)
 *
 * Two doors and not one daemon, because idle connections time out on TCP and never on the unix socket, and
 * libmicrohttpd keeps connections sorted by time-out only where all of a daemon have the same.
 */
#ifndef TRIGGERD_HTTP_INTERNAL_H
#define TRIGGERD_HTTP_INTERNAL_H

#include "base/util.h"
#include "http/server.h"

#include <gnutls/gnutls.h>
#include <microhttpd.h>
#include <sys/types.h>

enum request_state {
    REQUEST_IDLE,     /* none, or its headers are still coming */
    REQUEST_READING,  /* headers complete, the body is coming */
    REQUEST_COMPLETE, /* about to be handed out */
    REQUEST_HANDED,   /* the owner has it */
    REQUEST_ANSWERED,
};

/* Bodies announced longer than this are refused before they are read. */
#define DISCARD_MAX ((size_t)16 << 20)

struct http_request {
    enum request_state state;
    bool handling; /* inside `handle` */
    size_t max_body;
    bool chunked;   /* its client takes chunks */
    bool too_large; /* its body is dropped as it comes; 413 at its end */
    const char *method, *path;
    struct buf body; /* its memory is kept for the next request if it is small */
    struct http_param *params;
    size_t n_params;
    bool params_known;
    struct http_stream *stream;
};

struct conn {
    struct door *door;
    struct MHD_Connection *mhd;
    int fd; /* libmicrohttpd's */
    bool suspended, hurried;
    bool leaving;     /* it was shut out to make room */
    int64_t since_ms; /* when it began, or its request entered the state that it is in */
    struct http_request request;
    struct conn *prev, *next; /* of the server */
};

struct door {
    struct http_server *server;
    struct door *prev, *next; /* of the retired: no more connections, those there are end when they end */
    unsigned connections;
    bool tls, client_certs; /* one of a trusted authority is asked for */
    bool retired, shut;     /* shut: its listening handle is closed */
    struct MHD_Daemon *mhd; /* NULL: this door does not exist */
    bool is_unix;
    int listen_fd; /* -1: closed */
    int port;
    char *path; /* of the socket */
    dev_t dev;  /* which file we made there */
    ino_t ino;
    struct loop_poll accept, epoll;
    struct timer accept_again; /* after descriptors ran out */
    struct timer timeout;      /* when libmicrohttpd wants to look at its idle connections */
    struct loop_task run;
    struct loop_task reap; /* of one that is retired and has no connections left */
};

struct http_server {
    struct http_server_options options;
    enum MHD_Result (*queue_response)(struct MHD_Connection *mhd, unsigned status, struct MHD_Response *response);
    struct loop *loop;
    struct loop_group group;
    struct door *doors[2];
    struct door *retired;
    struct conn *conns;
    unsigned connections, hurried, leaving;
    unsigned unanswered; /* requests that their owners have */
    bool quiesced, stopping, aborted, stopped;
    struct timer deadline; /* looks for slow clients while some are hurried */
    struct loop_task finish;
    void (*done)(void *ctx);
    void *done_ctx;
};

/* ---- server.c ---- */

/* Let libmicrohttpd look at what was resumed: once, soon. */
void door_run_soon(struct door *d);
/* May it be slow? It may not be over the unix socket, nor while it is a stream. */
void conn_hurry(struct conn *c, bool hurry);
/* A connection of it has gone. */
void door_check(struct door *d);
/* The last connection may be gone, or the last answer of a stopped server given. */
void server_check(struct http_server *s);

/* ---- listen.c ---- */

/* A listening unix socket at d->path; sets listen_fd, dev and ino. Missing directories are made. */
int listen_unix(struct door *d, struct error *err);
/* A listening TCP socket at `text` (HOST:PORT), on loopback unless any_address; sets listen_fd and port. */
int listen_tcp(struct door *d, const char *text, struct error *err);
/* Stop listening; the file of a unix socket goes if it is still ours. */
void listen_close(struct door *d);

/* ---- connection.c ---- */

enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
                           const char *version, const char *upload, size_t *upload_size, void **context);
void on_request_completed(void *cls, struct MHD_Connection *mhd, void **context, enum MHD_RequestTerminationCode why);
void on_connection(void *cls, struct MHD_Connection *mhd, void **context, enum MHD_ConnectionNotificationCode what);
/* Say no on a socket on which libmicrohttpd has nothing to say any more, or that it never saw; over `tls`, NULL: as it
 * is. */
void refuse_raw(struct http_server *s, int fd, gnutls_session_t tls, int status, const char *detail);
/* NULL: without TLS. */
gnutls_session_t conn_tls(const struct conn *c);
void conn_suspend(struct conn *c);
void conn_resume(struct conn *c);
/* Take the request back from its owner; false: the server was aborted, nobody waits for the answer. */
bool request_take_back(struct http_request *r);
/* Send `response` (taken; NULL closes the connection). */
void request_answer(struct http_request *r, int status, struct MHD_Response *response);

/* ---- own_answers.c ---- */

/* Once, before the first connection. */
int queue_response_find(struct http_server *s, struct error *err);
/* MHD_queue_response(), which must not be called by its name (see there). */
enum MHD_Result queue_response(struct conn *c, int status, struct MHD_Response *response);

/* ---- stream.c ---- */

/* Its connection has no more use for it: `closed` follows. */
void stream_detach(struct http_stream *stream);

#endif
