/* The HTTP server: many connections, answers that come later, clients that go, streams, stopping. */
#include "server_fixture.h"

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

static void who_says_nothing_makes_room(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(&(struct http_server_options){.listen = "127.0.0.1:0", .max_connections = 4});
    struct client held = client(f, true), c[3];
    say(&held, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    for (int i = 0; i < 3; i++) {
        c[i] = client(f, true);
        say(&c[i], i == 0 ? "GET /sh" : i == 1 ? "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx" : "");
    }
    WAIT_FOR(f, f->n_held == 1);
    int64_t begin = loop_now_ms(&f->loop);
    WAIT_FOR(f, loop_now_ms(&f->loop) > begin + 1100);
    struct client more[3];
    for (int i = 0; i < 3; i++) {
        more[i] = client(f, i % 2);
        say(&more[i], "GET /show HTTP/1.1\r\nHost: x\r\n\r\n");
        expect_answer(&more[i], 200, NULL);
    }
    for (int i = 0; i < 3; i++) {
        expect_closed(&c[i]);
        hang_up(&c[i]);
    }
    answer_held(f, 0); /* who waits for us stays */
    expect_answer(&held, 200, "/hold");
    hang_up(&held);
    for (int i = 0; i < 3; i++)
        hang_up(&more[i]);
    end(f);
}

/* A byte now and then, for ever: is it shut out? At most until the loop's clock says `until_ms`. */
static bool drip(struct client *c, const char *begin, int64_t until_ms)
{
    struct fixture *f = c->f;
    int64_t next = 0;
    char got[256];
    say(c, begin);
    for (;;) {
        turn(f);
        ssize_t n = recv(c->fd, got, sizeof(got), MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            return true;
        if (loop_now_ms(&f->loop) > until_ms)
            return false;
        if (loop_now_ms(&f->loop) >= next) {
            (void)!send(c->fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
            next = loop_now_ms(&f->loop) + 10;
        }
    }
}

static void slow_clients_are_shut_out(void **state)
{
    (void)state;
    static const char *const slow[] = {"", "GET /show HTTP/1.1\r\nHost: x\r\nX-Long: ",
                                       "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n",
                                       "GET /show HTTP/1.1\r\nHost: x\r\n\r\nGET /sh"};
    struct fixture *f = fixture_new(&(struct http_server_options){.listen = "127.0.0.1:0", .deadline_ms = 200});
    struct client patient = client(f, true), local = client(f, false);
    say(&patient, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT_FOR(f, f->n_held == 1);
    for (size_t i = 0; i < ARRAY_SIZE(slow); i++) {
        struct client c = client(f, true);
        assert_true(drip(&c, slow[i], loop_now_ms(&f->loop) + DEADLINE_MS));
        hang_up(&c);
    }
    assert_false(drip(&local, slow[1], loop_now_ms(&f->loop) + 600)); /* over the unix socket nobody is hurried */
    hang_up(&local);
    answer_held(f, 0); /* and nobody is who waits for us */
    expect_answer(&patient, 200, "/hold");
    hang_up(&patient);
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

int main(void)
{
    signal(SIGPIPE, SIG_DFL); /* the server must not depend on its being ignored */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_connections_answered_in_other_order),
        cmocka_unit_test(too_many_connections),
        cmocka_unit_test(who_says_nothing_makes_room),
        cmocka_unit_test(slow_clients_are_shut_out),
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
