#include "http/internal.h"

#include <assert.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <utlist.h>

#define BODY_MEMORY_KEPT ((size_t)4096)
#define DISCARD_RAW_MAX ((size_t)256 << 10)

/* ---- connections ---- */

void on_connection(void *cls, struct MHD_Connection *mhd, void **context, enum MHD_ConnectionNotificationCode what)
{
    struct door *d = cls;
    struct http_server *s = d->server;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        struct conn *c = xcalloc(1, sizeof(*c));
        c->door = d;
        c->mhd = mhd;
        c->since_ms = loop_now_ms(s->loop);
        c->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        DL_APPEND(s->conns, c);
        s->connections++;
        d->connections++;
        conn_hurry(c, true);
        if (d->client_certs) { /* before the handshake, which fails without one */
            gnutls_certificate_server_set_request(conn_tls(c), GNUTLS_CERT_REQUIRE);
            gnutls_session_set_verify_cert(conn_tls(c), NULL, 0);
        }
        *context = c;
        return;
    }
    struct conn *c = steal(context);
    conn_hurry(c, false);
    DL_DELETE(s->conns, c);
    s->connections--;
    s->leaving -= c->leaving;
    d->connections--;
    buf_fini(&c->request.body);
    free(c);
    door_check(d);
    if (!s->stopped)
        server_check(s);
}

gnutls_session_t conn_tls(const struct conn *c)
{
    return c->door->tls ? MHD_get_connection_info(c->mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION)->tls_session : NULL;
}

void conn_suspend(struct conn *c)
{
    MHD_suspend_connection(c->mhd);
    c->suspended = true;
}

void conn_resume(struct conn *c)
{
    c->suspended = false;
    MHD_resume_connection(c->mhd);
}

/* ---- refusals ---- */

static char *problem_text(struct http_server *s, int status, const char *detail)
{
    return s->options.problem ? s->options.problem(status, detail) : xasprintf("{\"status\":%d}", status);
}

void refuse_raw(struct http_server *s, int fd, gnutls_session_t tls, int status, const char *detail)
{
    _cleanup_(freep) char *body = problem_text(s, status, detail);
    _cleanup_(freep) char *text = xasprintf("HTTP/1.1 %d %s\r\nContent-Type: application/problem+json\r\n"
                                            "Content-Length: %zu\r\n%sConnection: close\r\n\r\n%s",
                                            status, MHD_get_reason_phrase_for((unsigned)status), strlen(body),
                                            status == 503 ? "Retry-After: 1\r\n" : "", body);
    /* Less than any socket's buffer; if it does not fit the client is not reading anyway. */
    if (tls)
        gnutls_record_send(tls, text, strlen(text));
    else
        (void)!send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
    shutdown(fd, SHUT_WR);
    /* What has come meanwhile goes: a close with something unread resets the connection, and the answer may be lost. */
    char rest[16384];
    for (size_t n = 0; n < DISCARD_RAW_MAX && recv(fd, rest, sizeof(rest), MSG_DONTWAIT) > 0; n += sizeof(rest))
        ;
}

/* Before the body is read, whereupon libmicrohttpd closes the connection; or in its place when it is complete. */
static enum MHD_Result refuse(struct conn *c, int status, const char *detail)
{
    char *body = problem_text(c->door->server, status, detail);
    struct MHD_Response *response = MHD_create_response_from_buffer(strlen(body), body, MHD_RESPMEM_MUST_FREE);
    if (!response) {
        free(body);
        return MHD_NO;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/problem+json");
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    if (status == 503)
        MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, "1");
    enum MHD_Result r = queue_response(c, status, response);
    MHD_destroy_response(response);
    c->request.state = REQUEST_ANSWERED;
    return r;
}

/* ---- a request arrives ---- */

/* What libmicrohttpd lets pass although RFC 9112 says 400: names with blanks (5.1), no host or several (3.2), lengths
 * that contradict each other (6.3). */
struct headers {
    const char *length, *encoding;
    unsigned hosts;
    bool blank, folded, conflict, expects;
};

/* A value that goes on in the next line (obs-fold): libmicrohttpd puts it together elsewhere, while any other stands in
 * what was read, behind its name, the colon (a NUL by now) and blanks. */
static bool is_folded(const char *key, const char *value)
{
    const char *p = key + strlen(key) + 1;
    while (p != value && (*p == ' ' || *p == '\t'))
        p++;
    return p != value;
}

static enum MHD_Result look_at_header(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
    (void)kind;
    struct headers *h = cls;
    h->blank |= strpbrk(key, " \t") != NULL;
    h->folded |= value && is_folded(key, value);
    if (strcasecmp(key, MHD_HTTP_HEADER_HOST) == 0) {
        h->hosts++;
    } else if (strcasecmp(key, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0) {
        h->conflict |= h->length && !streq(h->length, value);
        h->length = value;
    } else if (strcasecmp(key, MHD_HTTP_HEADER_EXPECT) == 0) {
        h->expects = true; /* it waits for our word before it sends */
    } else if (strcasecmp(key, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0) {
        h->conflict |= h->encoding != NULL;
        h->encoding = value;
    }
    return MHD_YES;
}

/* libmicrohttpd has checked that the length is a number of at most 64 bits, unless an encoding overrides it. */
static bool longer_than(const char *length, size_t max)
{
    return strtoull(length, NULL, 10) > max;
}

/* RFC 9112, 3.2.2: a server takes the absolute form as well. */
static const char *path_of(const char *url)
{
    const char *authority = strstr(url, "://");
    if (url[0] == '/' || !authority)
        return url;
    const char *path = strchr(authority + 3, '/');
    return path ? path : "/";
}

static enum MHD_Result begin(struct conn *c, const char *url, const char *method, const char *version)
{
    struct http_server *s = c->door->server;
    struct http_request *r = &c->request;
    r->state = REQUEST_READING;
    c->since_ms = loop_now_ms(s->loop);
    r->path = path_of(url);
    r->method = method;
    r->body.len = 0;
    r->chunked = streq(version, MHD_HTTP_VERSION_1_1);
    if (s->aborted)
        return MHD_NO;
    if (s->quiesced)
        return refuse(c, 503, "the server is stopping");
    struct headers h = {.hosts = 0};
    MHD_get_connection_values(c->mhd, MHD_HEADER_KIND, look_at_header, &h);
    if (strchr(url, ' '))
        return refuse(c, 400, "a blank in the request target");
    if (h.blank)
        return refuse(c, 400, "a blank in the name of a header");
    if (h.folded) /* RFC 9112, 5.2 */
        return refuse(c, 400, "a header that goes on in the next line");
    if (h.hosts > 1 || (h.hosts == 0 && streq(version, MHD_HTTP_VERSION_1_1)))
        return refuse(c, 400, "a request of HTTP/1.1 has one Host header");
    if (h.conflict || (h.encoding && h.length))
        return refuse(c, 400, "the headers contradict each other about the length of the body");
    if (h.encoding && strcasecmp(h.encoding, "chunked") != 0)
        return refuse(c, 400, "the only transfer encoding is chunked");
    size_t bound = s->options.body_bound ? s->options.body_bound(r) : 0;
    r->max_body = bound ? bound : s->options.max_body;
    r->too_large = h.length && longer_than(h.length, r->max_body);
    /* A client that sends all before it reads would never see the answer: what is not absurd is read and dropped. */
    if (r->too_large && (h.expects || longer_than(h.length, DISCARD_MAX)))
        return refuse(c, 413, "the body is too large");
    return MHD_YES;
}

static enum MHD_Result take_body(struct conn *c, const char *data, size_t len)
{
    struct http_server *s = c->door->server;
    struct http_request *r = &c->request;
    if (r->too_large)
        return MHD_YES;
    if (len > r->max_body - r->body.len) { /* a chunked one: no answer can be queued before its end */
        refuse_raw(s, c->fd, conn_tls(c), 413, "the body is too large");
        return MHD_NO;
    }
    buf_add(&r->body, data, len);
    return MHD_YES;
}

static enum MHD_Result hand_over(struct conn *c)
{
    struct http_server *s = c->door->server;
    struct http_request *r = &c->request;
    if (r->too_large)
        return refuse(c, 413, "the body is too large");
    if (s->quiesced)
        return refuse(c, 503, "the server is stopping");
    r->state = REQUEST_HANDED;
    s->unanswered++;
    r->handling = true;
    s->options.handle(s->options.ctx, r);
    r->handling = false;
    if (r->state == REQUEST_HANDED)
        conn_suspend(c);
    return MHD_YES;
}

enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
                           const char *version, const char *upload, size_t *upload_size, void **context)
{
    (void)cls;
    struct conn *c = *context;
    if (!c) {
        c = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
        *context = c;
        return begin(c, url, method, version);
    }
    if (c->request.state == REQUEST_COMPLETE)
        return hand_over(c);
    if (c->request.state != REQUEST_READING)
        return MHD_NO; /* its answer could not be made */
    if (*upload_size == 0) {
        /* Not yet: libmicrohttpd asks again at its next run, and only then has it stopped reading. If it were suspended
         * now it would read first when it is resumed, and take a client that has shut down its sending side, as may
         * be done after a request, for one that has gone. */
        c->request.state = REQUEST_COMPLETE;
        return MHD_YES;
    }
    size_t len = *upload_size;
    *upload_size = 0;
    return take_body(c, upload, len);
}

void on_request_completed(void *cls, struct MHD_Connection *mhd, void **context, enum MHD_RequestTerminationCode why)
{
    (void)mhd;
    (void)why;
    struct http_server *s = cls;
    struct conn *c = steal(context);
    if (!c)
        return;
    struct http_request *r = &c->request;
    if (r->stream)
        stream_detach(steal(&r->stream));
    free(steal(&r->params));
    r->params_known = false;
    r->n_params = 0;
    if (r->body.cap > BODY_MEMORY_KEPT)
        buf_fini(&r->body);
    r->state = REQUEST_IDLE;
    conn_hurry(c, true);
    c->since_ms = loop_now_ms(s->loop);
    if (s->quiesced)
        shutdown(c->fd, SHUT_RDWR); /* what was sent still arrives */
}

/* ---- what a request shows ---- */

static struct conn *conn_of(const struct http_request *r)
{
    return container_of((struct http_request *)r, struct conn, request);
}

const char *http_method(const struct http_request *r)
{
    return r->method;
}

const char *http_path(const struct http_request *r)
{
    return r->path;
}

const char *http_header(const struct http_request *r, const char *name)
{
    return MHD_lookup_connection_value(conn_of(r)->mhd, MHD_HEADER_KIND, name);
}

struct each_header {
    void (*fn)(void *ctx, const char *name, const char *value);
    void *ctx;
};

static enum MHD_Result tell_header(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
    (void)kind;
    const struct each_header *e = cls;
    e->fn(e->ctx, key, value ? value : "");
    return MHD_YES;
}

void http_each_header(const struct http_request *r, void (*fn)(void *ctx, const char *name, const char *value),
                      void *ctx)
{
    struct each_header e = {fn, ctx};
    MHD_get_connection_values(conn_of(r)->mhd, MHD_HEADER_KIND, tell_header, &e);
}

const char *http_body(const struct http_request *r, size_t *ret_len)
{
    *ret_len = r->body.len;
    return r->body.len ? r->body.data : "";
}

bool http_over_unix_socket(const struct http_request *r)
{
    return conn_of(r)->door->is_unix;
}

/* ---- the query ---- */

/* Decode percent-escapes to `to`, NUL-terminated; the end. What is no escape stays, and so does %00, which would cut
 * the text short. Every + was made a space by libmicrohttpd. */
static char *decode(char *to, const char *s)
{
    for (; *s; s++) {
        int high = *s == '%' ? hex_digit(s[1]) : -1, low = high >= 0 ? hex_digit(s[2]) : -1;
        if (low >= 0 && (high || low)) {
            *to++ = (char)(high << 4 | low);
            s += 2;
        } else {
            *to++ = *s;
        }
    }
    *to++ = '\0';
    return to;
}

struct query {
    struct http_param *params;
    size_t n, bytes;
    char *text;
};

static enum MHD_Result measure(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
    (void)kind;
    struct query *q = cls;
    q->n++;
    q->bytes += strlen(key) + (value ? strlen(value) : 0) + 2;
    return MHD_YES;
}

static enum MHD_Result add_param(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
    (void)kind;
    struct query *q = cls;
    struct http_param *p = &q->params[q->n++];
    p->key = q->text;
    q->text = decode(q->text, key);
    p->value = q->text;
    q->text = decode(q->text, value ? value : "");
    return MHD_YES;
}

size_t http_query(const struct http_request *request, const struct http_param **ret)
{
    struct http_request *r = (struct http_request *)request;
    if (!r->params_known) {
        struct MHD_Connection *mhd = conn_of(r)->mhd;
        struct query q = {.n = 0};
        MHD_get_connection_values(mhd, MHD_GET_ARGUMENT_KIND, measure, &q);
        if (q.n) {
            q.params = r->params = xmalloc(q.n * sizeof(*q.params) + q.bytes);
            q.text = (char *)&q.params[q.n];
            r->n_params = q.n;
            q.n = 0;
            MHD_get_connection_values(mhd, MHD_GET_ARGUMENT_KIND, add_param, &q);
        }
        r->params_known = true;
    }
    *ret = r->params;
    return r->n_params;
}

/* ---- the answer ---- */

bool request_take_back(struct http_request *r)
{
    struct http_server *s = conn_of(r)->door->server;
    assert(r->state == REQUEST_HANDED);
    r->state = REQUEST_ANSWERED;
    s->unanswered--;
    if (!s->aborted)
        return true;
    if (s->stopped)
        server_check(s);
    return false;
}

void request_answer(struct http_request *r, int status, struct MHD_Response *response)
{
    struct conn *c = conn_of(r);
    c->since_ms = loop_now_ms(c->door->server->loop);
    if (response) {
        if (c->door->server->quiesced)
            MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
        queue_response(c, status, response);
        MHD_destroy_response(response);
    }
    if (r->handling)
        return;
    conn_resume(c);
    door_run_soon(c->door);
}

void http_reply(struct http_request *r, const struct http_reply *reply)
{
    if (!request_take_back(r)) {
        free(reply->body);
        return;
    }
    struct MHD_Response *response =
        reply->body ? MHD_create_response_from_buffer(reply->body_len, reply->body, MHD_RESPMEM_MUST_FREE)
                    : MHD_create_response_from_buffer(0, "", MHD_RESPMEM_PERSISTENT);
    if (!response) {
        free(reply->body);
    } else {
        if (reply->body || reply->content_type)
            MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                                    reply->content_type ? reply->content_type : "application/json");
        for (size_t i = 0; i < ARRAY_SIZE(reply->headers) && reply->headers[i][0]; i++)
            MHD_add_response_header(response, reply->headers[i][0], reply->headers[i][1]);
    }
    request_answer(r, reply->status, response);
}
