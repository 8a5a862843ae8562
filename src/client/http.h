/* An HTTP client on the loop: libcurl's multi interface, driven by our polls and timers.
 *
 *   http_client_send() ─► waiting: the library is loaded, TLS files are read (pool)
 *                      ─► under way ─► redirected ─► under way … ─► done(), exactly once
 *   http_transfer_cancel(): at any point before; done() is not called
 *
 * An answer is gathered, or told as it comes (struct http_stream).
 *
 * libcurl and what it brings (TLS, compression, Kerberos, LDAP, …) take about 6 MiB of resident memory, so it is loaded
 * with the first request, on the pool, and stays. While nothing is under way there are no timers and no polls, but one
 * that closes the kept connections once, HTTP_IDLE_MS after the last transfer.
 *
 * What it does not do: cookies, .netrc, proxies of the environment (unless asked), other schemes than http and https,
 * redirects from https to http. Names are resolved by a thread a lookup, which is left alone when its transfer ends
 * early: a name server that does not answer holds nobody up.
 *
 * Redirects: at most `max_redirects`. To another origin (scheme, host, port) go no credentials and only headers marked
 * HTTP_HEADER_ANYWHERE. 303, and 301 and 302 after a POST (unless told otherwise), go on as GET without body; others as
 * they were.
 *
 * Thread: the loop's.
 */
#ifndef TRIGGERD_CLIENT_HTTP_H
#define TRIGGERD_CLIENT_HTTP_H

#include "base/error.h"
#include "base/util.h"
#include "client/tls.h"

struct loop;
struct http_client;
struct http_transfer;

#define HTTP_CONNECTIONS_MAX 256 /* further transfers wait */
#define HTTP_CONNECTIONS_KEPT 16 /* idle ones, for reuse */
#define HTTP_IDLE_MS 15000

enum {
    HTTP_HEADER_ANYWHERE = 1 << 0, /* also after a redirect to another origin */
    HTTP_HEADER_OF_BODY = 1 << 1,  /* tells about the body: goes wherever that goes, and nowhere else */
};

struct http_header {
    char *name, *value; /* checked: http_name_valid(), http_value_valid() */
    unsigned flags;
};

/* An answer as it comes: the head once, then its bytes as they arrive. Of redirects that are followed nothing is told. */
struct http_head {
    long status;
    const struct http_header *headers;
    size_t n_headers;
};
const char *http_head_get(const struct http_head *h, const char *name); /* the first of that name; NULL: none */
struct http_stream {
    void (*head)(void *ctx, const struct http_head *head);
    void (*data)(void *ctx, const char *data, size_t len);
};

/* AWS's signature of the request; all NULL: none. */
struct http_sign {
    char *scheme; /* `aws:amz:REGION:SERVICE` */
    char *user, *password;
};

/* What is asked; http_client_send() takes it all and leaves it empty. */
struct http_request {
    char *method; /* GET, HEAD, POST, … */
    char *url;    /* userinfo in it becomes basic authentication */
    struct http_header *headers;
    size_t n_headers;
    char *body; /* NULL: none */
    size_t body_len;
    struct http_sign sign;
    const char *proxy;            /* borrowed for the call; NULL: none; "": as the environment says; else its URL */
    const struct tls_config *tls; /* likewise; NULL: the system's certificates, verified */
    double connect_timeout_seconds;
    int64_t max_redirects; /* 0: a redirect is an answer like others */
    bool redirects_keep;   /* a POST goes on as one after 301 and 302 too */
    size_t max_body_bytes;
    const struct http_stream
        *stream; /* borrowed until the end; the body is then told by it, whatever its length, and the
                                         answer has none. NULL: the answer has it */
};
void http_request_header(struct http_request *r, const char *name, const char *value, unsigned flags);
void http_request_fini(struct http_request *r); /* wipes */

struct http_answer {
    struct error error;         /* code ≠ 0: there is no answer, or not all of it; never the URL in it */
    long status;                /* 0: none came */
    char reason[64];            /* printable */
    struct buf body;            /* at most max_body_bytes; may be taken */
    bool cut;                   /* there was more; the transfer was ended */
    double retry_after_seconds; /* > 0: of 429 and 503, from Retry-After in either form */
    char origin[300];           /* where it was redirected to at last: scheme://host:port; "": nowhere */
};
typedef void http_done_fn(void *ctx, struct http_answer *answer);

struct http_client *http_client_create(struct loop *loop, const struct self_mount *avoid);
/* Ends everything under way without a word; `done` comes from the loop, when all descriptors are closed. */
void http_client_close(struct http_client *c, void (*done)(void *ctx), void *ctx);

/* Never completes from inside the call. */
struct http_transfer *http_client_send(struct http_client *c, struct http_request *r, http_done_fn *done, void *ctx);
/* Not from inside its own done(), nor from inside what its stream tells. */
void http_transfer_cancel(struct http_transfer *t);
/* Of a stream: no more data (but what was read already) until it is let go on. */
void http_transfer_hold(struct http_transfer *t, bool hold);

/* ---- what may stand in a request ---- */

bool http_method_valid(const char *method); /* upper case letters and `-`; not CONNECT or TRACE */
bool http_name_valid(const char *name);     /* a token of RFC 9110 */
bool http_value_valid(const char *value);   /* no control characters but tab */

#endif
