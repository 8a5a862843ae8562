/* What the tests of the HTTP server share: a server over real sockets, and a client that can also misbehave. Both share
 * one thread: the client's waits turn the loop. Header only. */
#ifndef TRIGGERD_TESTS_HTTP_SERVER_FIXTURE_H
#define TRIGGERD_TESTS_HTTP_SERVER_FIXTURE_H

#include "http/server.h"

#include "base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define FIXTURE __attribute__((unused)) static

#define MAX_BODY 100000
#define DEADLINE_MS 20000
#define PROBLEM "application/problem+json"

/* ---- the fixture: a loop, a server, and a handler that does what the path says ---- */

struct fixture {
    struct loop loop;
    struct http_server *server;
    char dir[32], path[64];
    struct http_request *held[512]; /* requests under way, oldest first */
    size_t n_held;
    unsigned handled, done, streams_closed;
    struct http_stream *stream;
    char seen[4096]; /* what the last request showed, when asked */
    bool late;       /* streams are opened later, by the test */
};

FIXTURE void reply_text(struct http_request *r, int status, const char *text)
{
    struct http_reply reply = {.status = status, .content_type = "text/plain", .body = xstrdup(text)};
    reply.body_len = strlen(text);
    http_reply(r, &reply);
}

FIXTURE void on_stream_closed(void *ctx)
{
    struct fixture *f = ctx;
    f->streams_closed++;
    f->stream = NULL;
}

FIXTURE void show(struct fixture *f, struct http_request *r)
{
    const struct http_param *params;
    size_t n = http_query(r, &params), len;
    const char *body = http_body(r, &len), *header = http_header(r, "x-WORD");
    int at = snprintf(f->seen, sizeof(f->seen), "%s %s %s [%s]", http_method(r), http_path(r),
                      http_over_unix_socket(r) ? "unix" : "tcp", header ? header : "-");
    for (size_t i = 0; i < n; i++)
        at += snprintf(f->seen + at, sizeof(f->seen) - (size_t)at, " %s=%s", params[i].key, params[i].value);
    snprintf(f->seen + at, sizeof(f->seen) - (size_t)at, " %zu:%.20s", len, body);
}

FIXTURE struct http_request *take_held(struct fixture *f, size_t i)
{
    assert_true(i < f->n_held);
    struct http_request *r = f->held[i];
    memmove(&f->held[i], &f->held[i + 1], (--f->n_held - i) * sizeof(f->held[0]));
    return r;
}

FIXTURE void answer_held(struct fixture *f, size_t i)
{
    struct http_request *r = take_held(f, i);
    reply_text(r, 200, http_path(r));
}

FIXTURE void handle(void *ctx, struct http_request *r)
{
    struct fixture *f = ctx;
    const char *path = http_path(r);
    f->handled++;
    if (strncmp(path, "/show", 5) == 0) {
        show(f, r);
        reply_text(r, 200, f->seen);
    } else if (strcmp(path, "/echo") == 0) {
        size_t len;
        const char *body = http_body(r, &len);
        struct http_reply reply = {.status = 200, .body = xmemdup(body, len + 1), .body_len = len};
        http_reply(r, &reply);
    } else if (strcmp(path, "/empty") == 0) {
        http_reply(r, &(struct http_reply){.status = 204});
    } else if (strcmp(path, "/headers") == 0) {
        http_reply(r, &(struct http_reply){.status = 201, .headers = {{"Location", "/a"}, {"ETag", "\"1\""}}});
    } else if (strcmp(path, "/stream") == 0) {
        f->stream = http_reply_stream(r, "text/event-stream", on_stream_closed, f);
    } else if (strcmp(path, "/release") == 0) { /* others first */
        while (f->n_held)
            answer_held(f, 0);
        reply_text(r, 200, "released");
    } else { /* /held… */
        assert_true(f->n_held < ARRAY_SIZE(f->held));
        f->held[f->n_held++] = r;
    }
}

FIXTURE char *problem(int status, const char *detail)
{
    return xasprintf("{\"status\":%d,\"detail\":\"%s\"}", status, detail);
}

FIXTURE int open_server(struct fixture *f, const struct http_server_options *more, struct error *err)
{
    struct http_server_options options = *more;
    options.loop = &f->loop;
    options.max_body = MAX_BODY;
    options.handle = handle;
    options.problem = problem;
    options.ctx = f;
    return http_server_create(&options, &f->server, err);
}

FIXTURE struct fixture *fixture_new(const struct http_server_options *more)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    struct error err = ERROR_INIT;
    strcpy(f->dir, "/tmp/test_server.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof(f->path), "%s/run/api.sock", f->dir);
    assert_int_equal(loop_init(&f->loop), 0);
    struct http_server_options options = *more;
    options.socket_path = f->path;
    if (open_server(f, &options, &err) < 0)
        fail_msg("%s", err.message);
    return f;
}

FIXTURE struct fixture *fixture_plain(void)
{
    return fixture_new(&(struct http_server_options){.listen = "127.0.0.1:0"});
}

FIXTURE void turn(struct fixture *f)
{
    uv_run(&f->loop.uv, UV_RUN_NOWAIT);
}

/* Turn the loop until the condition holds; what happens meanwhile wakes it. */
#define WAIT_FOR(f, condition)                                                                                         \
    do {                                                                                                               \
        int64_t start_ = loop_now_ms(&(f)->loop);                                                                      \
        while (!(condition)) {                                                                                         \
            turn(f);                                                                                                   \
            if (loop_now_ms(&(f)->loop) - start_ > DEADLINE_MS)                                                        \
                fail_msg("waited in vain for %s", #condition);                                                         \
        }                                                                                                              \
    } while (0)

FIXTURE void on_done(void *ctx)
{
    ((struct fixture *)ctx)->done++;
}

FIXTURE void stop(struct fixture *f, bool now)
{
    http_server_stop(f->server, now, on_done, f);
    assert_int_equal(f->done, 0);
    WAIT_FOR(f, f->done);
}

/* After the server has stopped. */
FIXTURE void fixture_free(struct fixture *f)
{
    assert_int_equal(f->done, 1);
    assert_int_equal(f->n_held, 0);
    assert_int_equal(access(f->path, F_OK), -1);
    loop_run(&f->loop);
    assert_int_equal(loop_fini(&f->loop), 0);
    *strrchr(f->path, '/') = '\0';
    rmdir(f->path);
    assert_int_equal(rmdir(f->dir), 0);
    free(f);
}

FIXTURE void end(struct fixture *f)
{
    stop(f, true);
    fixture_free(f);
}

/* ---- the client ---- */

struct client {
    struct fixture *f;
    int fd;
    struct buf in;
    bool ended;
};

FIXTURE int connect_to(struct fixture *f, bool tcp)
{
    int fd = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path, sizeof(un.sun_path), "%s", f->path);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (tcp)
        in.sin_port = htons((in_port_t)http_server_port(f->server));
    int r = tcp ? connect(fd, (struct sockaddr *)&in, sizeof(in)) : connect(fd, (struct sockaddr *)&un, sizeof(un));
    if (r < 0) {
        close(fd);
        return -1;
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

FIXTURE struct client client(struct fixture *f, bool tcp)
{
    struct client c = {.f = f, .fd = connect_to(f, tcp)};
    assert_true(c.fd >= 0);
    return c;
}

FIXTURE void hang_up(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    buf_fini(&c->in);
}

FIXTURE void put(struct client *c, const void *data, size_t len)
{
    int64_t start = loop_now_ms(&c->f->loop);
    for (size_t sent = 0; sent < len;) {
        ssize_t n = send(c->fd, (const char *)data + sent, len - sent, MSG_NOSIGNAL);
        if (n > 0)
            sent += (size_t)n;
        else if (errno != EAGAIN)
            return; /* the server has closed: the test looks at what it said */
        turn(c->f);
        assert_true(loop_now_ms(&c->f->loop) - start < DEADLINE_MS);
    }
}

FIXTURE void say(struct client *c, const char *text)
{
    put(c, text, strlen(text));
}

/* Whatever is there. */
FIXTURE void hear(struct client *c)
{
    turn(c->f);
    for (;;) {
        char *to = buf_reserve(&c->in, 65536);
        *to = '\0'; /* nothing may come */
        ssize_t n = recv(c->fd, to, 65536, 0);
        if (n <= 0) {
            c->ended |= n == 0 || (errno != EAGAIN && errno != EINTR);
            return;
        }
        c->in.len += (size_t)n;
        c->in.data[c->in.len] = '\0';
    }
}

FIXTURE const char *text_of(const struct client *c)
{
    return c->in.data ? c->in.data : "";
}

struct answer {
    int status;
    char *head, *body; /* owned; the body of a chunked answer is decoded */
    size_t len;
};

FIXTURE void answer_free(struct answer *a)
{
    free(a->head);
    free(a->body);
}

/* The length of the chunked body at `s` with its end, 0 when it is not complete; decoded into `out`. */
FIXTURE size_t chunks(const char *s, size_t len, struct buf *out)
{
    const char *at = s, *end = s + len;
    if (len < 5 || memcmp(end - 5, "0\r\n\r\n", 5) != 0)
        return 0; /* the test has no more coming than this */
    for (;;) {
        char *line = memmem(at, (size_t)(end - at), "\r\n", 2), *digits_end;
        if (!line)
            return 0;
        size_t n = strtoul(at, &digits_end, 16);
        assert_ptr_equal(digits_end, line);
        if ((size_t)(end - line) < n + 4)
            return 0;
        buf_add(out, line + 2, n);
        at = line + 2 + n + 2;
        if (n == 0)
            return (size_t)(at - s);
    }
}

/* The next complete answer, if it is there. */
FIXTURE bool parse_answer(struct client *c, bool no_body, struct answer *ret)
{
    char *blank = strstr(text_of(c), "\r\n\r\n");
    if (!blank)
        return false;
    size_t head = (size_t)(blank - c->in.data) + 4, used = head;
    struct answer a = {.head = xstrndup(c->in.data, head)};
    struct buf body = {.len = 0};
    const char *length = strcasestr(a.head, "\r\nContent-Length:");
    bool whole = true;
    if (!no_body && length) {
        size_t n = strtoul(length + 17, NULL, 10);
        whole = c->in.len - head >= n;
        if (whole)
            buf_add(&body, c->in.data + head, n);
        used += n;
    } else if (!no_body && strcasestr(a.head, "\r\nTransfer-Encoding: chunked")) {
        size_t n = chunks(c->in.data + head, c->in.len - head, &body);
        whole = n != 0;
        used += n;
    }
    if (!whole) {
        free(a.head);
        buf_fini(&body);
        return false;
    }
    assert_int_equal(sscanf(a.head, "HTTP/1.1 %d ", &a.status), 1);
    a.len = body.len;
    a.body = buf_steal(&body);
    memmove(c->in.data, c->in.data + used, c->in.len - used + 1);
    c->in.len -= used;
    *ret = a;
    return true;
}

FIXTURE struct answer get_answer_of(struct client *c, bool no_body)
{
    struct answer a;
    int64_t start = loop_now_ms(&c->f->loop);
    while (!parse_answer(c, no_body, &a)) {
        if (c->ended || loop_now_ms(&c->f->loop) - start > DEADLINE_MS)
            fail_msg("%s, having heard %zu bytes: %s", c->ended ? "closed" : "no answer", c->in.len, text_of(c));
        hear(c);
    }
    return a;
}

FIXTURE struct answer get_answer(struct client *c)
{
    return get_answer_of(c, false);
}

FIXTURE void expect_answer(struct client *c, int status, const char *body)
{
    struct answer a = get_answer(c);
    if (a.status != status || (body && strcmp(a.body, body) != 0))
        fail_msg("expected %d %s, got %s%s", status, body ? body : "", a.head, a.body);
    answer_free(&a);
}

FIXTURE void expect_problem(struct client *c, int status)
{
    struct answer a = get_answer(c);
    assert_int_equal(a.status, status);
    assert_non_null(strcasestr(a.head, "\r\nContent-Type: " PROBLEM "\r\n"));
    assert_non_null(strstr(a.body, "\"detail\""));
    answer_free(&a);
}

FIXTURE void expect_closed(struct client *c)
{
    WAIT_FOR(c->f, (hear(c), c->ended));
    assert_int_equal(c->in.len, 0);
}

#endif
