/* The HTTP server over real sockets, with a client of its own that can also misbehave. Server and client share one
 * thread: the client's waits turn the loop. */
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

static void reply_text(struct http_request *r, int status, const char *text)
{
    struct http_reply reply = {.status = status, .content_type = "text/plain", .body = xstrdup(text)};
    reply.body_len = strlen(text);
    http_reply(r, &reply);
}

static void on_stream_closed(void *ctx)
{
    struct fixture *f = ctx;
    f->streams_closed++;
    f->stream = NULL;
}

static void show(struct fixture *f, struct http_request *r)
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

static struct http_request *take_held(struct fixture *f, size_t i)
{
    assert_true(i < f->n_held);
    struct http_request *r = f->held[i];
    memmove(&f->held[i], &f->held[i + 1], (--f->n_held - i) * sizeof(f->held[0]));
    return r;
}

static void answer_held(struct fixture *f, size_t i)
{
    struct http_request *r = take_held(f, i);
    reply_text(r, 200, http_path(r));
}

static void handle(void *ctx, struct http_request *r)
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

static char *problem(int status, const char *detail)
{
    return xasprintf("{\"status\":%d,\"detail\":\"%s\"}", status, detail);
}

static int open_server(struct fixture *f, const struct http_server_options *more, struct error *err)
{
    struct http_server_options options = *more;
    options.loop = &f->loop;
    options.max_body = MAX_BODY;
    options.handle = handle;
    options.problem = problem;
    options.ctx = f;
    return http_server_create(&options, &f->server, err);
}

static struct fixture *fixture_new(const struct http_server_options *more)
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

static struct fixture *fixture_plain(void)
{
    return fixture_new(&(struct http_server_options){.listen = "127.0.0.1:0"});
}

static void turn(struct fixture *f)
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

static void on_done(void *ctx)
{
    ((struct fixture *)ctx)->done++;
}

static void stop(struct fixture *f, bool now)
{
    http_server_stop(f->server, now, on_done, f);
    assert_int_equal(f->done, 0);
    WAIT_FOR(f, f->done);
}

/* After the server has stopped. */
static void fixture_free(struct fixture *f)
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

static void end(struct fixture *f)
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

static int connect_to(struct fixture *f, bool tcp)
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

static struct client client(struct fixture *f, bool tcp)
{
    struct client c = {.f = f, .fd = connect_to(f, tcp)};
    assert_true(c.fd >= 0);
    return c;
}

static void hang_up(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    buf_fini(&c->in);
}

static void put(struct client *c, const void *data, size_t len)
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

static void say(struct client *c, const char *text)
{
    put(c, text, strlen(text));
}

/* Whatever is there. */
static void hear(struct client *c)
{
    turn(c->f);
    for (;;) {
        char *to = buf_reserve(&c->in, 65536);
        ssize_t n = recv(c->fd, to, 65536, 0);
        if (n <= 0) {
            c->ended |= n == 0 || (errno != EAGAIN && errno != EINTR);
            return;
        }
        c->in.len += (size_t)n;
        c->in.data[c->in.len] = '\0';
    }
}

static const char *text_of(const struct client *c)
{
    return c->in.data ? c->in.data : "";
}

struct answer {
    int status;
    char *head, *body; /* owned; the body of a chunked answer is decoded */
    size_t len;
};

static void answer_free(struct answer *a)
{
    free(a->head);
    free(a->body);
}

/* The length of the chunked body at `s` with its end, 0 when it is not complete; decoded into `out`. */
static size_t chunks(const char *s, size_t len, struct buf *out)
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
static bool parse_answer(struct client *c, bool no_body, struct answer *ret)
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

static struct answer get_answer_of(struct client *c, bool no_body)
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

static struct answer get_answer(struct client *c)
{
    return get_answer_of(c, false);
}

static void expect_answer(struct client *c, int status, const char *body)
{
    struct answer a = get_answer(c);
    if (a.status != status || (body && strcmp(a.body, body) != 0))
        fail_msg("expected %d %s, got %s%s", status, body ? body : "", a.head, a.body);
    answer_free(&a);
}

static void expect_problem(struct client *c, int status)
{
    struct answer a = get_answer(c);
    assert_int_equal(a.status, status);
    assert_non_null(strcasestr(a.head, "\r\nContent-Type: " PROBLEM "\r\n"));
    assert_non_null(strstr(a.body, "\"detail\""));
    answer_free(&a);
}

static void expect_closed(struct client *c)
{
    WAIT_FOR(c->f, (hear(c), c->ended));
    assert_int_equal(c->in.len, 0);
}

/* ---- requests and answers ---- */

static void get_over_both_sockets(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    for (int tcp = 0; tcp < 2; tcp++) {
        struct client c = client(f, tcp);
        say(&c, "GET /show/a%20b HTTP/1.1\r\nHost: x\r\nX-Word: hello\r\n\r\n");
        expect_answer(&c, 200, tcp ? "GET /show/a%20b tcp [hello] 0:" : "GET /show/a%20b unix [hello] 0:");
        hang_up(&c);
    }
    end(f);
}

static void query_is_decoded(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    struct client c = client(f, false);
    say(&c, "GET /show?a=1&b&c=&d+e=f%2Bg+h&%C3%BC=%e2%82%ac&a=2&bad=%zz%4&nul=x%00y&eq=a=b&&z=%26%3D HTTP/1.1\r\n"
            "Host: x\r\n\r\n");
    expect_answer(&c, 200, "GET /show unix [-] a=1 b= c= d e=f+g h ü=€ a=2 bad=%zz%4 nul=x%00y eq=a=b = z=&= 0:");
    say(&c, "GET /show? HTTP/1.1\r\nHost: x\r\n\r\nGET http://x:1/show?k=v HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_answer(&c, 200, "GET /show unix [-] 0:");
    expect_answer(&c, 200, "GET /show unix [-] k=v 0:");
    hang_up(&c);
    end(f);
}

static void keep_alive_and_pipelining(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    for (int tcp = 0; tcp < 2; tcp++) {
        struct client c = client(f, tcp);
        struct buf b = {.len = 0};
        for (int i = 0; i < 300; i++)
            buf_printf(&b, "POST /show/%d HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n%05d", i, i);
        put(&c, b.data, b.len);
        for (int i = 0; i < 300; i++) {
            char expected[64];
            snprintf(expected, sizeof(expected), "POST /show/%d %s [-] 5:%05d", i, tcp ? "tcp" : "unix", i);
            expect_answer(&c, 200, expected);
        }
        buf_fini(&b);
        hang_up(&c);
    }
    end(f);
}

/* The same with answers that come later: one at a time a connection, in order. */
static void pipelining_with_later_answers(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    struct client c = client(f, false);
    for (int i = 0; i < 20; i++) {
        char text[128];
        snprintf(text, sizeof(text), "POST /held/%d HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n%03d", i, i);
        say(&c, text);
    }
    for (int i = 0; i < 20; i++) {
        char path[32];
        snprintf(path, sizeof(path), "/held/%d", i);
        WAIT_FOR(f, f->n_held);
        assert_int_equal(f->n_held, 1);
        size_t len;
        assert_int_equal(atoi(http_body(f->held[0], &len)), i);
        answer_held(f, 0);
        expect_answer(&c, 200, path);
    }
    hang_up(&c);
    end(f);
}

static void large_bodies(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    char *body = xmalloc(MAX_BODY);
    for (size_t i = 0; i < MAX_BODY; i++)
        body[i] = (char)('a' + i % 23);
    for (int tcp = 0; tcp < 2; tcp++) {
        struct client c = client(f, tcp);
        char head[128];
        for (int i = 0; i < 3; i++) {
            snprintf(head, sizeof(head), "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", MAX_BODY);
            say(&c, head);
            put(&c, body, MAX_BODY);
            struct answer a = get_answer(&c);
            assert_int_equal(a.status, 200);
            assert_int_equal(a.len, MAX_BODY);
            assert_memory_equal(a.body, body, MAX_BODY);
            answer_free(&a);
        }
        hang_up(&c);
    }
    free(body);
    end(f);
}

static void expect_continue(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    struct client c = client(f, true);
    say(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    WAIT_FOR(f, (hear(&c), strstr(text_of(&c), "HTTP/1.1 100 Continue\r\n\r\n")));
    buf_fini(&c.in);
    say(&c, "ok");
    expect_answer(&c, 200, "ok");
    hang_up(&c);
    /* refused before the body is asked for */
    c = client(f, true);
    say(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\nExpect: 100-continue\r\n\r\n");
    expect_problem(&c, 413);
    expect_closed(&c);
    hang_up(&c);
    end(f);
}

static void too_large_is_refused_at_once(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    for (int tcp = 0; tcp < 2; tcp++) {
        struct client c = client(f, tcp);
        char head[128];
        snprintf(head, sizeof(head), "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", MAX_BODY + 1);
        say(&c, head);
        expect_problem(&c, 413);
        expect_closed(&c);
        hang_up(&c);
        c = client(f, tcp);
        say(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n");
        struct answer a = get_answer(&c);
        assert_int_equal(a.status, 413); /* libmicrohttpd's own */
        answer_free(&a);
        hang_up(&c);
    }
    assert_int_equal(f->handled, 0);
    end(f);
}

static void chunked_bodies(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    for (int tcp = 0; tcp < 2; tcp++) {
        struct client c = client(f, tcp);
        const char *head = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        say(&c, head);
        say(&c, "5\r\nhello\r\n1;ext=1\r\n \r\nA\r\n0123456789\r\n");
        assert_int_equal(f->handled, 0);
        say(&c, "0\r\n\r\n");
        expect_answer(&c, 200, "hello 0123456789");
        say(&c, head);
        say(&c, "0\r\nTrailer: x\r\n\r\n");
        expect_answer(&c, 200, "");
        /* exactly as much as is allowed */
        char *body = xmalloc(MAX_BODY + 1), size[16];
        memset(body, 'x', MAX_BODY + 1);
        say(&c, head);
        snprintf(size, sizeof(size), "%x\r\n", MAX_BODY);
        say(&c, size);
        put(&c, body, MAX_BODY);
        say(&c, "\r\n0\r\n\r\n");
        struct answer a = get_answer(&c);
        assert_int_equal(a.len, MAX_BODY);
        answer_free(&a);
        /* one more, and the end never comes */
        f->handled = 0;
        say(&c, head);
        say(&c, size);
        put(&c, body, MAX_BODY);
        say(&c, "\r\n1\r\nx\r\n");
        expect_problem(&c, 413);
        expect_closed(&c);
        assert_int_equal(f->handled, 0);
        free(body);
        hang_up(&c);
    }
    end(f);
}

static void head_is_get_without_body(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    struct client c = client(f, false);
    say(&c, "HEAD /show HTTP/1.1\r\nHost: x\r\n\r\n");
    struct answer a = get_answer_of(&c, true);
    assert_int_equal(a.status, 200);
    char expected[64];
    assert_int_equal(strncmp(f->seen, "GET /show ", 10), 0);
    snprintf(expected, sizeof(expected), "\r\nContent-Length: %zu\r\n", strlen(f->seen));
    assert_non_null(strstr(a.head, expected));
    answer_free(&a);
    assert_int_equal(c.in.len, 0);
    say(&c, "HEAD /held HTTP/1.1\r\nHost: x\r\n\r\nGET /empty HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT_FOR(f, f->n_held);
    answer_held(f, 0);
    a = get_answer_of(&c, true);
    assert_int_equal(a.status, 200);
    answer_free(&a);
    a = get_answer(&c);
    assert_int_equal(a.status, 204);
    answer_free(&a);
    /* a stream asked for by HEAD ends with its headers */
    say(&c, "HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    a = get_answer_of(&c, true);
    assert_non_null(strstr(a.head, "text/event-stream"));
    answer_free(&a);
    WAIT_FOR(f, f->streams_closed == 1);
    hang_up(&c);
    end(f);
}

static void reply_headers(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    struct client c = client(f, false);
    say(&c, "GET /headers HTTP/1.1\r\nHost: x\r\n\r\nPOST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}");
    struct answer a = get_answer(&c);
    assert_int_equal(a.status, 201);
    assert_non_null(strstr(a.head, "\r\nLocation: /a\r\n"));
    assert_non_null(strstr(a.head, "\r\nETag: \"1\"\r\n"));
    assert_null(strstr(a.head, "Content-Type"));
    answer_free(&a);
    a = get_answer(&c);
    assert_non_null(strstr(a.head, "\r\nContent-Type: application/json\r\n"));
    answer_free(&a);
    hang_up(&c);
    end(f);
}

static void http_1_0_is_closed_after_its_answer(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    struct client c = client(f, false);
    say(&c, "GET /held HTTP/1.0\r\n\r\n");
    WAIT_FOR(f, f->n_held);
    answer_held(f, 0);
    expect_answer(&c, 200, "/held");
    expect_closed(&c);
    hang_up(&c);
    end(f);
}

static void broken_requests(void **state)
{
    (void)state;
    static const char *const ours[] = {
        "GET /show HTTP/1.1\r\n\r\n",
        "GET /show HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        "GET /show HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n",
        "GET /show HTTP/1.1\r\nHost: x\r\nX-Word : y\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    };
    /* What libmicrohttpd refuses before we see it. */
    static const char *const mhds[] = {
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1x\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        "GET /show HTTP/1.1\r\nno colon here\r\n\r\n",
    };
    /* It has no words for these. */
    static const char *const silent[] = {"GARBAGE\r\n\r\n", "\x16\x03\x01\x02\r\n\r\n"};
    struct fixture *f = fixture_plain();
    for (size_t i = 0; i < ARRAY_SIZE(ours); i++) {
        struct client c = client(f, i % 2);
        say(&c, ours[i]);
        expect_problem(&c, 400);
        expect_closed(&c);
        hang_up(&c);
    }
    for (size_t i = 0; i < ARRAY_SIZE(mhds); i++) {
        struct client c = client(f, i % 2);
        say(&c, mhds[i]);
        struct answer a = get_answer(&c);
        if (a.status != 400)
            fail_msg("%s: %s", mhds[i], a.head);
        answer_free(&a);
        WAIT_FOR(f, (hear(&c), c.ended));
        hang_up(&c);
    }
    for (size_t i = 0; i < ARRAY_SIZE(silent); i++) {
        struct client c = client(f, i % 2);
        say(&c, silent[i]);
        expect_closed(&c);
        hang_up(&c);
    }
    assert_int_equal(f->handled, 0);
    end(f);
}

static void oversized_headers(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    char *long_text = xmalloc(20001);
    memset(long_text, 'a', 20000);
    long_text[20000] = '\0';
    struct client c = client(f, false);
    say(&c, "GET /show HTTP/1.1\r\nHost: x\r\nX-Word: ");
    say(&c, long_text);
    struct answer a = get_answer(&c);
    assert_int_equal(a.status, 431);
    answer_free(&a);
    hang_up(&c);
    c = client(f, false);
    say(&c, "GET /");
    say(&c, long_text);
    a = get_answer(&c);
    assert_int_equal(a.status, 414);
    answer_free(&a);
    hang_up(&c);
    /* a request of 8 KiB is no trouble, and its answer neither */
    c = client(f, false);
    say(&c, "GET /show HTTP/1.1\r\nHost: x\r\nX-Long: ");
    put(&c, long_text, 7500);
    say(&c, "\r\nX-Word: w\r\n\r\n");
    expect_answer(&c, 200, "GET /show unix [w] 0:");
    hang_up(&c);
    free(long_text);
    assert_int_equal(f->handled, 1);
    end(f);
}

/* ---- many, later, gone ---- */

static void many_connections_answered_in_other_order(void **state)
{
    (void)state;
    enum { N = 300 };
    struct fixture *f = fixture_plain();
    static struct client c[N];
    for (int i = 0; i < N; i++) {
        c[i] = client(f, i % 3 == 0);
        char text[64];
        snprintf(text, sizeof(text), "GET /held/%d HTTP/1.1\r\nHost: x\r\n\r\n", i);
        say(&c[i], text);
    }
    for (int round = 0; round < 2; round++) {
        WAIT_FOR(f, f->n_held == N);
        for (size_t i = 0; f->n_held; i++)
            answer_held(f, i % 2 ? f->n_held - 1 : f->n_held / 2);
        for (int i = 0; i < N; i++) {
            char path[64];
            snprintf(path, sizeof(path), "/held/%d%s", i, round ? "/again" : "");
            expect_answer(&c[i], 200, path);
            snprintf(path, sizeof(path), "GET /held/%d/again HTTP/1.1\r\nHost: x\r\n\r\n", i);
            if (round == 0)
                say(&c[i], path);
        }
    }
    for (int i = 0; i < N; i++)
        hang_up(&c[i]);
    end(f);
}

static void too_many_connections(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(&(struct http_server_options){.listen = "127.0.0.1:0", .max_connections = 4});
    struct client c[4];
    for (int i = 0; i < 4; i++) {
        c[i] = client(f, i % 2);
        say(&c[i], "GET /show HTTP/1.1\r\nHost: x\r\n\r\n");
        expect_answer(&c[i], 200, NULL);
    }
    for (int tcp = 0; tcp < 2; tcp++) {
        struct client more = client(f, tcp);
        expect_problem(&more, 503);
        expect_closed(&more);
        hang_up(&more);
    }
    hang_up(&c[0]);
    /* there is room again, once the server has noticed */
    for (int64_t start = loop_now_ms(&f->loop);;) {
        struct client more = client(f, true);
        say(&more, "GET /show HTTP/1.1\r\nHost: x\r\n\r\n");
        struct answer a = get_answer(&more);
        int status = a.status;
        answer_free(&a);
        hang_up(&more);
        if (status == 200)
            break;
        assert_true(loop_now_ms(&f->loop) - start < DEADLINE_MS);
    }
    for (int i = 1; i < 4; i++)
        hang_up(&c[i]);
    end(f);
}

static void descriptors_run_out(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    struct client c = client(f, true);
    turn(f);
    struct client waiting[3];
    for (int i = 0; i < 3; i++)
        waiting[i] = client(f, i % 2);
    struct rlimit old, low;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    low = old;
    low.rlim_cur = (rlim_t)waiting[2].fd + 1; /* nothing can be accepted */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    for (int i = 0; i < 20; i++)
        turn(f);
    say(&c, "GET /show HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_answer(&c, 200, NULL); /* those who are in are served */
    for (int i = 0; i < 20; i++)
        turn(f);
    /* and the loop sleeps until the next attempt */
    assert_int_equal(poll(&(struct pollfd){.fd = uv_backend_fd(&f->loop.uv), .events = POLLIN}, 1, 0), 0);
    assert_true(f->loop.armed_ms >= 0 && uv_backend_timeout(&f->loop.uv) > 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    for (int i = 0; i < 3; i++) {
        say(&waiting[i], "GET /show HTTP/1.1\r\nHost: x\r\n\r\n");
        expect_answer(&waiting[i], 200, NULL);
        hang_up(&waiting[i]);
    }
    hang_up(&c);
    end(f);
}

static void client_gone_before_the_answer(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    for (int tcp = 0; tcp < 2; tcp++) {
        struct client c = client(f, tcp);
        say(&c, "POST /held HTTP/1.1\r\nHost: x\r\nX-Word: w\r\nContent-Length: 3\r\n\r\nabc");
        WAIT_FOR(f, f->n_held);
        hang_up(&c);
        for (int i = 0; i < 20; i++)
            turn(f);
        /* everything it shows is still there */
        size_t len;
        assert_memory_equal(http_body(f->held[0], &len), "abc", 3);
        assert_string_equal(http_header(f->held[0], "x-word"), "w");
        answer_held(f, 0);
        /* gone while its headers or body come */
        c = client(f, tcp);
        say(&c, "POST /held HTTP/1.1\r\nHos");
        turn(f);
        hang_up(&c);
        c = client(f, tcp);
        say(&c, "POST /held HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na");
        turn(f);
        hang_up(&c);
    }
    stop(f, false);
    fixture_free(f);
}

/* A client may say that it has no more to ask, and still wait for its answers. */
static void half_closed_client_gets_its_answers(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    for (int tcp = 0; tcp < 2; tcp++) {
        struct client c = client(f, tcp);
        say(&c, "GET /show HTTP/1.1\r\nHost: x\r\n\r\nPOST /held HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na");
        shutdown(c.fd, SHUT_WR);
        WAIT_FOR(f, f->n_held);
        for (int i = 0; i < 20; i++)
            turn(f);
        answer_held(f, 0);
        expect_answer(&c, 200, NULL);
        expect_answer(&c, 200, "/held");
        expect_closed(&c);
        hang_up(&c);
    }
    end(f);
}

/* The request of one client is answered from inside the handling of another's. */
static void answers_from_inside_another_request(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    struct client c[10], last = client(f, false);
    for (int i = 0; i < 10; i++) {
        c[i] = client(f, i % 2);
        say(&c[i], "GET /held HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    WAIT_FOR(f, f->n_held == 10);
    say(&last, "GET /release HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_answer(&last, 200, "released");
    for (int i = 0; i < 10; i++) {
        expect_answer(&c[i], 200, "/held");
        hang_up(&c[i]);
    }
    hang_up(&last);
    end(f);
}

/* ---- streams ---- */

static void stream_headers_at_once_then_pieces(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    for (unsigned tcp = 0; tcp < 2; tcp++) {
        struct client c = client(f, tcp);
        say(&c, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
        WAIT_FOR(f, (hear(&c), strstr(text_of(&c), "\r\n\r\n")));
        assert_non_null(strstr(text_of(&c), "HTTP/1.1 200 "));
        assert_non_null(strstr(text_of(&c), "Content-Type: text/event-stream\r\n"));
        assert_non_null(f->stream);
        assert_int_equal(http_stream_write(f->stream, "data: 1\n\n", 9), 9);
        WAIT_FOR(f, (hear(&c), strstr(text_of(&c), "9\r\ndata: 1\n\n\r\n")));
        assert_int_equal(http_stream_write(f->stream, "data: 2\n\n", 9), 9);
        assert_int_equal(http_stream_write(f->stream, "data: 3\n\n", 9), 18);
        WAIT_FOR(f, (hear(&c), strstr(text_of(&c), "data: 3\n\n")));
        assert_int_equal(f->streams_closed, tcp);
        http_stream_end(f->stream);
        assert_int_equal(f->streams_closed, tcp);
        expect_answer(&c, 200, "data: 1\n\ndata: 2\n\ndata: 3\n\n");
        WAIT_FOR(f, f->streams_closed == tcp + 1);
        /* the connection goes on */
        say(&c, "GET /show HTTP/1.1\r\nHost: x\r\n\r\n");
        expect_answer(&c, 200, NULL);
        hang_up(&c);
    }
    end(f);
}

static void stream_to_a_slow_client(void **state)
{
    (void)state;
    enum { N = 12000, PIECE = 1000 };
    struct fixture *f = fixture_plain();
    for (unsigned tcp = 0; tcp < 2; tcp++) {
        struct client c = client(f, tcp);
        say(&c, "GET /held/stream HTTP/1.1\r\nHost: x\r\n\r\n");
        WAIT_FOR(f, f->n_held);
        f->stream = http_reply_stream(take_held(f, 0), "text/plain", on_stream_closed, f);
        char piece[PIECE];
        size_t waiting = 0, most = 0;
        for (int i = 0; i < N; i++) {
            memset(piece, 'a' + i % 26, PIECE);
            waiting = http_stream_write(f->stream, piece, PIECE);
            most = MAX(most, waiting);
            turn(f);
        }
        assert_true(most > PIECE && waiting > PIECE); /* the client has not read a byte of these 12 MB */
        http_stream_end(f->stream);
        struct answer a = get_answer(&c);
        assert_int_equal(a.len, N * PIECE);
        for (int i = 0; i < N * PIECE; i++)
            if (a.body[i] != 'a' + i / PIECE % 26)
                fail_msg("byte %d is wrong", i);
        answer_free(&a);
        WAIT_FOR(f, f->streams_closed == tcp + 1);
        hang_up(&c);
    }
    end(f);
}

static void stream_client_goes(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    unsigned closed = 0;
    for (int tcp = 0; tcp < 2; tcp++) {
        /* while nothing is sent: nobody writes, and yet it is noticed */
        struct client c = client(f, tcp);
        say(&c, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
        WAIT_FOR(f, (hear(&c), strstr(text_of(&c), "\r\n\r\n")));
        hang_up(&c);
        WAIT_FOR(f, f->streams_closed == closed + 1);
        /* while its buffers are full */
        c = client(f, tcp);
        say(&c, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
        WAIT_FOR(f, f->stream);
        char *block = xcalloc(1, 8000000);
        http_stream_write(f->stream, block, 8000000);
        free(block);
        for (int i = 0; i < 50; i++)
            turn(f);
        assert_int_equal(f->streams_closed, closed + 1);
        hang_up(&c);
        WAIT_FOR(f, f->streams_closed == closed + 2);
        /* at once, with words of the owner still to come */
        c = client(f, tcp);
        say(&c, "GET /held HTTP/1.1\r\nHost: x\r\n\r\n");
        WAIT_FOR(f, f->n_held);
        hang_up(&c);
        struct http_stream *stream = http_reply_stream(take_held(f, 0), "text/plain", on_stream_closed, f);
        http_stream_write(stream, "a", 1);
        assert_int_equal(f->streams_closed, closed + 2);
        WAIT_FOR(f, f->streams_closed == closed + 3);
        closed += 3;
    }
    stop(f, false);
    fixture_free(f);
}

static void stream_to_http_1_0(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    struct client c = client(f, true);
    say(&c, "GET /stream HTTP/1.0\r\n\r\n");
    WAIT_FOR(f, (hear(&c), strstr(text_of(&c), "\r\n\r\n")));
    assert_null(strstr(text_of(&c), "chunked"));
    http_stream_write(f->stream, "one\n", 4);
    WAIT_FOR(f, (hear(&c), strstr(text_of(&c), "\r\n\r\none\n")));
    http_stream_write(f->stream, "two\n", 4);
    http_stream_end(f->stream);
    WAIT_FOR(f, (hear(&c), c.ended));
    assert_non_null(strstr(text_of(&c), "\r\n\r\none\ntwo\n"));
    WAIT_FOR(f, f->streams_closed);
    hang_up(&c);
    end(f);
}

/* ---- stopping ---- */

static void stop_waits_for_answers(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    struct client idle = client(f, false), busy = client(f, true), half = client(f, false),
                  listening = client(f, false);
    say(&idle, "GET /show HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_answer(&idle, 200, NULL);
    say(&busy, "GET /held HTTP/1.1\r\nHost: x\r\n\r\nGET /show HTTP/1.1\r\nHost: x\r\n\r\n");
    say(&half, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123");
    say(&listening, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT_FOR(f, f->n_held == 1 && f->stream);
    unsigned handled = f->handled;
    http_stream_write(f->stream, "last words", 10);
    http_server_quiesce(f->server);
    assert_int_equal(access(f->path, F_OK), -1);
    assert_int_equal(connect_to(f, false), -1);
    assert_int_equal(connect_to(f, true), -1);
    expect_closed(&idle);
    expect_closed(&half);
    assert_int_equal(f->streams_closed, 0);
    http_server_stop(f->server, false, on_done, f);
    expect_answer(&listening, 200, "last words");
    WAIT_FOR(f, f->streams_closed);
    expect_closed(&listening);
    for (int i = 0; i < 50; i++)
        turn(f);
    assert_int_equal(f->done, 0);
    answer_held(f, 0);
    struct answer a = get_answer(&busy);
    assert_string_equal(a.body, "/held");
    assert_non_null(strcasestr(a.head, "\r\nConnection: close\r\n"));
    answer_free(&a);
    WAIT_FOR(f, f->done);
    expect_closed(&busy);
    assert_int_equal(f->handled, handled); /* the second of the busy one was not taken */
    hang_up(&idle);
    hang_up(&busy);
    hang_up(&half);
    hang_up(&listening);
    fixture_free(f);
}

static void stop_now_while_busy(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    struct client c[10], streaming = client(f, true), half = client(f, false);
    for (int i = 0; i < 10; i++) {
        c[i] = client(f, i % 2);
        say(&c[i], "GET /held/now HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    say(&streaming, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    say(&half, "GET /echo HTTP/1.1\r\nHo");
    WAIT_FOR(f, f->n_held == 10 && f->stream);
    http_stream_write(f->stream, "x", 1);
    http_server_stop(f->server, true, on_done, f);
    assert_int_equal(f->done, 0);
    assert_int_equal(f->streams_closed, 0);
    answer_held(f, 0); /* in between */
    WAIT_FOR(f, f->done);
    assert_int_equal(f->streams_closed, 1);
    for (int i = 0; i < 10; i++)
        expect_closed(&c[i]);
    /* the owners have what they were given until they answer, one of them by a stream */
    assert_string_equal(http_path(f->held[0]), "/held/now");
    http_stream_write(http_reply_stream(take_held(f, 0), "text/plain", on_stream_closed, f), "x", 1);
    while (f->n_held)
        answer_held(f, 0);
    WAIT_FOR(f, f->streams_closed == 2);
    for (int i = 0; i < 10; i++)
        hang_up(&c[i]);
    expect_closed(&half);
    hang_up(&half);
    hang_up(&streaming);
    fixture_free(f);
}

static void stop_can_be_hurried(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    struct client c = client(f, false);
    say(&c, "GET /held HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT_FOR(f, f->n_held);
    http_server_stop(f->server, false, on_done, f);
    for (int i = 0; i < 20; i++)
        turn(f);
    assert_int_equal(f->done, 0);
    stop(f, true);
    answer_held(f, 0);
    expect_closed(&c);
    hang_up(&c);
    fixture_free(f);
}

/* A client that never reads its answer does not hold up a stop that is hurried. */
static void stop_with_an_answer_nobody_reads(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    struct client c = client(f, false);
    say(&c, "GET /held HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT_FOR(f, f->n_held);
    http_reply(take_held(f, 0), &(struct http_reply){.status = 200, .body = xcalloc(1, 4000000), .body_len = 4000000});
    for (int i = 0; i < 20; i++)
        turn(f);
    http_server_stop(f->server, false, on_done, f);
    for (int i = 0; i < 20; i++)
        turn(f);
    assert_int_equal(f->done, 0);
    stop(f, true);
    hang_up(&c);
    fixture_free(f);
}

/* ---- all at once: clients that come, go, stammer and hang up at any moment; a stop at any moment ---- */

static const char *const lines[] = {
    "GET /show?a=b HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /held/x HTTP/1.1\r\nHost: x\r\n\r\n",
    "POST /held/y HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
    "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /release HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /held/z HTTP/1.0\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n",
    "GET /a b HTTP/1.1\r\n\r\n",
};

static void chaos(unsigned seed)
{
    enum { N = 12 };
    struct fixture *f = fixture_plain();
    struct client c[N];
    bool there[N] = {false};
    bool stopped = false;
    for (int step = 0; step < 400; step++) {
        int i = rand_r(&seed) % N, what = rand_r(&seed) % 16;
        if (!there[i] && !stopped) {
            c[i] = client(f, i % 2);
            there[i] = true;
        } else if (there[i] && what < 8) {
            const char *line = lines[(size_t)rand_r(&seed) % ARRAY_SIZE(lines)];
            size_t len = strlen(line);
            (void)!send(c[i].fd, line, what < 6 ? len : (size_t)rand_r(&seed) % len, MSG_NOSIGNAL);
        } else if (there[i] && what == 8) {
            hang_up(&c[i]);
            there[i] = false;
        } else if (there[i] && what == 9) {
            shutdown(c[i].fd, SHUT_WR);
        } else if (there[i] && what == 10) {
            hear(&c[i]);
        } else if (what == 11 && f->n_held) {
            struct http_request *r = take_held(f, (size_t)rand_r(&seed) % f->n_held);
            struct http_stream *stream = http_reply_stream(r, "text/plain", on_stream_closed, f);
            http_stream_write(stream, "abc", 3);
            if (rand_r(&seed) % 2)
                http_stream_end(stream);
        } else if (what > 11 && f->n_held) {
            answer_held(f, (size_t)rand_r(&seed) % f->n_held);
        }
        if (rand_r(&seed) % 3)
            turn(f);
        if (!stopped && rand_r(&seed) % 400 == 0) {
            http_server_stop(f->server, false, on_done, f);
            stopped = true;
        }
    }
    if (!f->done) {
        http_server_stop(f->server, true, on_done, f);
        for (size_t n = f->n_held / 2; n; n--)
            answer_held(f, 0);
        WAIT_FOR(f, f->done);
    }
    while (f->n_held)
        answer_held(f, 0);
    for (int i = 0; i < N; i++)
        if (there[i])
            hang_up(&c[i]);
    fixture_free(f);
}

static void anything_may_happen(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 150; seed++)
        chaos(seed);
}

/* ---- sockets and addresses ---- */

static void unix_socket_is_ours_alone(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    struct stat st;
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    /* a second server is refused, and the first not disturbed */
    struct http_server *first = f->server;
    struct error err = ERROR_INIT;
    assert_int_equal(open_server(f, &(struct http_server_options){.socket_path = f->path}, &err), -EADDRINUSE);
    assert_non_null(strstr(err.message, f->path));
    f->server = first;
    struct client c = client(f, false);
    say(&c, "GET /show HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_answer(&c, 200, NULL);
    hang_up(&c);
    end(f);
}

static void stale_socket_is_replaced(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    /* as a crash leaves it: bound, and nobody listens */
    unlink(f->path);
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path, sizeof(un.sun_path), "%s", f->path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
    close(fd);
    stop(f, true); /* the one that was there does not remove what is not its own */
    assert_int_equal(access(f->path, F_OK), 0);
    f->done = 0;
    struct error err = ERROR_INIT;
    assert_int_equal(open_server(f, &(struct http_server_options){.socket_path = f->path}, &err), 0);
    assert_int_equal(http_server_port(f->server), 0);
    struct client c = client(f, false);
    say(&c, "GET /show HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_answer(&c, 200, NULL);
    hang_up(&c);
    end(f);
}

static void other_files_are_not_replaced(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    char path[64], longer[300];
    snprintf(path, sizeof(path), "%s/file", f->dir);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    struct http_server *first = f->server;
    struct error err = ERROR_INIT;
    assert_int_equal(open_server(f, &(struct http_server_options){.socket_path = path}, &err), -EEXIST);
    assert_int_equal(access(path, F_OK), 0);
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    assert_int_equal(open_server(f, &(struct http_server_options){.socket_path = longer}, &err), -ENAMETOOLONG);
    /* the door that was open already is shut again */
    unlink(path);
    assert_int_equal(open_server(f, &(struct http_server_options){.socket_path = path, .listen = "0.0.0.0:0"}, &err),
                     -EACCES);
    assert_int_equal(access(path, F_OK), -1);
    f->server = first;
    end(f);
}

static void only_loopback(void **state)
{
    (void)state;
    static const struct {
        const char *listen;
        int code;
    } cases[] = {
        {"0.0.0.0:80", -EACCES},
        {"[::]:80", -EACCES},
        {"10.1.2.3:80", -EACCES},
        {"example.org:80", -EACCES},
        {"*:80", -EACCES},
        {":80", -EACCES},
        {"[2001:db8::1]:80", -EACCES},
        {"128.0.0.1:80", -EACCES},
        {"127.0.0.1.example.org:80", -EACCES},
        {"127.0.0.1", -EINVAL},
        {"127.0.0.1:", -EINVAL},
        {"127.0.0.1:x", -EINVAL},
        {"127.0.0.1:65536", -EINVAL},
        {"127.0.0.1:-1", -EINVAL},
        {"127.0.0.1:123456789012", -EINVAL},
        {"::1:80", -EINVAL},
        {"[::1]", -EINVAL},
        {"[127.0.0.1]:80", -EINVAL},
        {"", -EINVAL},
    };
    struct fixture *f = fixture_plain();
    struct http_server *first = f->server;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct error err = ERROR_INIT;
        int r = open_server(f, &(struct http_server_options){.listen = cases[i].listen}, &err);
        if (r != cases[i].code)
            fail_msg("%s: %d %s", cases[i].listen, r, err.message);
        assert_true(r != -EACCES || strstr(err.message, "api.tokens"));
    }
    char taken[32];
    struct error err = ERROR_INIT;
    snprintf(taken, sizeof(taken), "127.0.0.1:%d", http_server_port(first));
    assert_int_equal(open_server(f, &(struct http_server_options){.listen = taken}, &err), -EADDRINUSE);
    f->server = first;
    stop(f, true);
    static const char *const good[] = {"127.1.2.3:0", "localhost:0", "[::1]:0"};
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        int r = open_server(f, &(struct http_server_options){.listen = good[i]}, &err);
        if (r == -EADDRNOTAVAIL && i == 2)
            continue; /* a machine without IPv6 */
        assert_int_equal(r, 0);
        assert_true(http_server_port(f->server) > 0);
        f->done = 0;
        stop(f, false);
    }
    fixture_free(f);
}

static void an_idle_server_sleeps(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    struct client c = client(f, false), s = client(f, true);
    say(&c, "GET /show HTTP/1.1\r\nHost: x\r\n\r\nGET /held HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_answer(&c, 200, NULL);
    say(&s, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT_FOR(f, f->n_held && (hear(&s), strstr(text_of(&s), "\r\n\r\n")));
    for (int i = 0; i < 20; i++)
        turn(f);
    assert_true(f->loop.armed_ms < 0);
    assert_int_equal(uv_backend_timeout(&f->loop.uv), -1);
    assert_int_equal(poll(&(struct pollfd){.fd = uv_backend_fd(&f->loop.uv), .events = POLLIN}, 1, 0), 0);
    answer_held(f, 0);
    expect_answer(&c, 200, "/held");
    for (int i = 0; i < 20; i++)
        turn(f);
    assert_int_equal(uv_backend_timeout(&f->loop.uv), -1); /* kept alive over the unix socket: no time-out */
    say(&c, "GET /show HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_answer(&c, 200, NULL);
    hang_up(&s);
    s = client(f, true);
    say(&s, "GET /show HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_answer(&s, 200, NULL);
    for (int i = 0; i < 20; i++)
        turn(f);
    int64_t left = f->loop.armed_ms - loop_now_ms(&f->loop);
    assert_true(left > 100000 && left <= 120000); /* over TCP: one look after two minutes */
    hang_up(&s);
    hang_up(&c);
    end(f);
}

int main(void)
{
    signal(SIGPIPE, SIG_DFL); /* the server must not depend on its being ignored */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(get_over_both_sockets),
        cmocka_unit_test(query_is_decoded),
        cmocka_unit_test(keep_alive_and_pipelining),
        cmocka_unit_test(pipelining_with_later_answers),
        cmocka_unit_test(large_bodies),
        cmocka_unit_test(expect_continue),
        cmocka_unit_test(too_large_is_refused_at_once),
        cmocka_unit_test(chunked_bodies),
        cmocka_unit_test(head_is_get_without_body),
        cmocka_unit_test(reply_headers),
        cmocka_unit_test(http_1_0_is_closed_after_its_answer),
        cmocka_unit_test(broken_requests),
        cmocka_unit_test(oversized_headers),
        cmocka_unit_test(many_connections_answered_in_other_order),
        cmocka_unit_test(too_many_connections),
        cmocka_unit_test(descriptors_run_out),
        cmocka_unit_test(client_gone_before_the_answer),
        cmocka_unit_test(half_closed_client_gets_its_answers),
        cmocka_unit_test(answers_from_inside_another_request),
        cmocka_unit_test(stream_headers_at_once_then_pieces),
        cmocka_unit_test(stream_to_a_slow_client),
        cmocka_unit_test(stream_client_goes),
        cmocka_unit_test(stream_to_http_1_0),
        cmocka_unit_test(stop_waits_for_answers),
        cmocka_unit_test(stop_now_while_busy),
        cmocka_unit_test(stop_can_be_hurried),
        cmocka_unit_test(stop_with_an_answer_nobody_reads),
        cmocka_unit_test(anything_may_happen),
        cmocka_unit_test(unix_socket_is_ours_alone),
        cmocka_unit_test(stale_socket_is_replaced),
        cmocka_unit_test(other_files_are_not_replaced),
        cmocka_unit_test(only_loopback),
        cmocka_unit_test(an_idle_server_sleeps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
