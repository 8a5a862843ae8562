/* The HTTP server: requests and answers, what is refused, sockets and addresses. */
#include "server_fixture.h"

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
        say(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n");
        expect_problem(&c, 413);
        expect_closed(&c);
        hang_up(&c);
        c = client(f, tcp);
        say(&c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n");
        expect_problem(&c, 413);
        hang_up(&c);
    }
    assert_int_equal(f->handled, 0);
    end(f);
}

/* A client that sends all before it reads gets the answer too: what is not absurd is read and dropped. */
static void too_large_is_dropped(void **state)
{
    (void)state;
    struct fixture *f = fixture_plain();
    for (int tcp = 0; tcp < 2; tcp++) {
        struct client c = client(f, tcp);
        char head[128];
        snprintf(head, sizeof(head), "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", MAX_BODY + 1);
        char *body = xcalloc(MAX_BODY + 2, 1);
        memset(body, 'x', MAX_BODY + 1);
        say(&c, head);
        say(&c, body);
        free(body);
        expect_problem(&c, 413);
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
    assert_int_equal(strncmp(f->seen, "HEAD /show ", 11), 0);
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
        "GET /show HTTP/1.1\r\n\r\n",
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
        expect_problem(&c, 400);
        expect_closed(&c);
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
    expect_problem(&c, 431);
    hang_up(&c);
    c = client(f, false);
    say(&c, "GET /");
    say(&c, long_text);
    expect_problem(&c, 414);
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
        cmocka_unit_test(too_large_is_dropped),
        cmocka_unit_test(chunked_bodies),
        cmocka_unit_test(head_is_get_without_body),
        cmocka_unit_test(reply_headers),
        cmocka_unit_test(http_1_0_is_closed_after_its_answer),
        cmocka_unit_test(broken_requests),
        cmocka_unit_test(oversized_headers),
        cmocka_unit_test(unix_socket_is_ours_alone),
        cmocka_unit_test(stale_socket_is_replaced),
        cmocka_unit_test(other_files_are_not_replaced),
        cmocka_unit_test(only_loopback),
        cmocka_unit_test(an_idle_server_sleeps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
