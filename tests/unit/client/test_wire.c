/* The wire against servers of this test: bytes come as they went, over TCP, TLS and a Unix socket; each end is told once,
 * with its reason; an early end leaves nothing behind. */
#include "base/loop.h"
#include "client/http.h"
#include "client/wire.h"

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define BYTES ((size_t)8 << 20) /* more than any buffer on the way */

/* Says where it listens, sends back what it gets until the first connection ends. */
static const char *const ECHO_SERVER = "import socket, ssl, subprocess, sys, threading\n"
                                       "kind, base = sys.argv[1:]\n"
                                       "s = socket.socket(socket.AF_UNIX if kind == 'unix' else socket.AF_INET)\n"
                                       "s.bind(base + '/sock' if kind == 'unix' else ('127.0.0.1', 0))\n"
                                       "s.listen(8)\n"
                                       "if kind == 'tls':\n"
                                       "    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', "
                                       "'-nodes', '-days', '2', '-subj', '/CN=localhost',\n"
                                       "                    '-addext', 'subjectAltName=DNS:localhost', '-keyout', base "
                                       "+ '/key', '-out', base + '/cert'],\n"
                                       "                   check=True, stderr=subprocess.DEVNULL)\n"
                                       "    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n"
                                       "    c.load_cert_chain(base + '/cert', base + '/key')\n"
                                       "print(s.getsockname()[1] if kind != 'unix' else 0, flush=True)\n"
                                       "while True:\n"
                                       "    f, _ = s.accept()\n"
                                       "    try:\n"
                                       "        f = c.wrap_socket(f, server_side=True) if kind == 'tls' else f\n"
                                       "        while d := f.recv(100000):\n"
                                       "            f.sendall(d)\n"
                                       "            if d.endswith(b'bye'): break\n"
                                       "    except OSError: pass\n"
                                       "    f.close()\n";

struct world {
    struct loop loop;
    struct http_client *http;
    struct wire *wire;
    char dir[32], path[64], ca[64];
    pid_t server;
    int port;
    int connected, ended;
    struct error error;
    struct buf got;
    struct buf sent;
    bool inside, close_when_connected, close_when_received;
};

static void closed(void *ctx)
{
    (void)ctx;
}

static void finish(struct world *w)
{
    wire_close(w->wire);
    w->wire = NULL;
    http_client_close(w->http, closed, NULL);
}

static void on_connected(void *ctx)
{
    struct world *w = ctx;
    assert_false(w->inside);
    assert_int_equal(w->connected++, 0);
    if (w->close_when_connected)
        finish(w);
}

static void on_received(void *ctx, const char *data, size_t len)
{
    struct world *w = ctx;
    assert_int_equal(w->connected, 1);
    assert_int_equal(w->ended, 0);
    buf_add(&w->got, data, len);
    if (w->close_when_received) {
        finish(w);
    } else if (w->got.len == BYTES) {
        w->inside = true;
        wire_write(w->wire, "bye", 3);
        w->inside = false;
    }
}

static void on_ended(void *ctx, const struct error *err)
{
    struct world *w = ctx;
    assert_false(w->inside);
    assert_int_equal(w->ended++, 0);
    w->error = *err;
    finish(w);
}

static const struct wire_events events = {on_connected, on_received, on_ended};

static void world_init(struct world *w, const char *kind)
{
    *w = (struct world){0};
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(loop_init(&w->loop), 0);
    w->http = http_client_create(&w->loop, NULL);
    snprintf(w->dir, sizeof(w->dir), "/tmp/wire-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->path, sizeof(w->path), "%s/sock", w->dir);
    snprintf(w->ca, sizeof(w->ca), "%s/cert", w->dir);
    if (!kind)
        return;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    w->server = fork();
    if (w->server == 0) {
        dup2(ends[1], 1);
        close(ends[0]);
        execlp("python3", "python3", "-c", ECHO_SERVER, kind, w->dir, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    FILE *f = fdopen(ends[0], "r");
    assert_int_equal(fscanf(f, "%d", &w->port), 1);
    fclose(f);
}

static void open_wire(struct world *w, const struct wire_target *t)
{
    w->inside = true;
    w->wire = wire_open(w->http, t, &events, w);
    w->inside = false;
}

static void world_end(struct world *w)
{
    assert_int_equal(loop_run(&w->loop), 0);
    assert_int_equal(loop_fini(&w->loop), 0);
    if (w->server > 0) {
        kill(w->server, SIGKILL);
        waitpid(w->server, NULL, 0);
    }
    char *rm = xasprintf("rm -r %s", w->dir);
    assert_int_equal(system(rm), 0);
    free(rm);
    buf_fini(&w->got);
    buf_fini(&w->sent);
}

static void echo(struct world *w, const struct wire_target *t)
{
    open_wire(w, t);
    for (size_t i = 0; i < BYTES / 8; i++) {
        char word[9];
        snprintf(word, sizeof(word), "%08zx", i);
        buf_add(&w->sent, word, 8);
    }
    /* In pieces, small and large ones. */
    for (size_t at = 0, n = 1; at < BYTES; at += n, n = MIN(n * 2, BYTES - at))
        wire_write(w->wire, w->sent.data + at, n);
    assert_int_equal(wire_unsent(w->wire), BYTES);
    assert_int_equal(loop_run(&w->loop), 0);
    assert_int_equal(w->got.len, BYTES + 3);
    assert_memory_equal(w->got.data, w->sent.data, BYTES);
    world_end(w);
    assert_int_equal(w->connected, 1);
    assert_int_equal(w->ended, 1);
    assert_int_equal(w->error.code, -ECONNRESET);
    assert_string_equal(w->error.message, "the server closed the connection");
}

static void check_echo(const char *kind, bool tls, bool path)
{
    struct world w;
    world_init(&w, kind);
    struct tls_config config = {.ca_file = w.ca, .verify = true};
    struct wire_target t = {.host = tls ? "localhost" : "127.0.0.1",
                            .port = w.port,
                            .path = path ? w.path : NULL,
                            .tls = tls,
                            .config = &config,
                            .connect_ms = 20000};
    echo(&w, &t);
}

static void test_tcp(void **state)
{
    (void)state;
    check_echo("tcp", false, false);
}

static void test_tls(void **state)
{
    (void)state;
    check_echo("tls", true, false);
}

static void test_unix(void **state)
{
    (void)state;
    check_echo("unix", false, true);
}

static void check_fails(const char *kind, const struct wire_target *target, int code)
{
    struct world w;
    world_init(&w, kind);
    struct wire_target t = *target;
    if (kind)
        t.port = w.port;
    open_wire(&w, &t);
    wire_write(w.wire, "hello", 5);
    world_end(&w);
    assert_int_equal(w.connected, 0);
    assert_int_equal(w.ended, 1);
    assert_int_equal(w.error.code, code);
    assert_true(*w.error.message);
}

static int closed_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    close(fd);
    return ntohs(a.sin_port);
}

static void test_no_connection(void **state)
{
    (void)state;
    struct tls_config missing = {.ca_file = "/nonexistent/ca.pem", .verify = true};
    check_fails(NULL, &(struct wire_target){.host = "127.0.0.1", .port = closed_port(), .connect_ms = 5000},
                -ECONNREFUSED);
    check_fails(NULL, &(struct wire_target){.host = "::1", .port = closed_port(), .connect_ms = 5000}, -ECONNREFUSED);
    check_fails(NULL, &(struct wire_target){.path = "/nonexistent/sock", .connect_ms = 5000}, -ENOENT);
    check_fails(NULL, &(struct wire_target){.host = "name.invalid", .port = 1, .connect_ms = 20000}, -EHOSTUNREACH);
    check_fails(
        NULL,
        &(struct wire_target){.host = "127.0.0.1", .port = 1, .tls = true, .config = &missing, .connect_ms = 5000},
        -ENOENT);
    /* Not signed by anyone we know; a server that speaks no TLS. */
    check_fails("tls", &(struct wire_target){.host = "localhost", .tls = true, .connect_ms = 20000}, -EPROTO);
    check_fails("tcp", &(struct wire_target){.host = "127.0.0.1", .tls = true, .connect_ms = 20000}, -EPROTO);
}

/* A server whose queue of connections is full answers nobody. */
static void test_time_out(void **state)
{
    (void)state;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM, 0), others[8];
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        others[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(others[i], (struct sockaddr *)&a, sizeof(a));
    }
    check_fails(NULL, &(struct wire_target){.host = "127.0.0.1", .port = ntohs(a.sin_port), .connect_ms = 300},
                -ETIMEDOUT);
    for (size_t i = 0; i < ARRAY_SIZE(others); i++)
        close(others[i]);
    close(fd);
}

static void test_early_end(void **state)
{
    (void)state;
    struct world w;
    struct wire_target t = {.host = "127.0.0.1", .port = closed_port(), .connect_ms = 5000};
    world_init(&w, NULL);
    open_wire(&w, &t);
    finish(&w); /* while the pool has it */
    world_end(&w);
    assert_int_equal(w.connected + w.ended, 0);

    world_init(&w, "tcp");
    t.port = w.port;
    w.close_when_connected = true;
    open_wire(&w, &t);
    wire_write(w.wire, "hello", 5);
    world_end(&w);
    assert_int_equal(w.connected, 1);
    assert_int_equal(w.ended, 0);

    world_init(&w, "tcp");
    t.port = w.port;
    w.close_when_received = true;
    open_wire(&w, &t);
    wire_write(w.wire, "hello", 5);
    world_end(&w);
    assert_int_equal(w.ended, 0);
    wire_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tcp),           cmocka_unit_test(test_tls),      cmocka_unit_test(test_unix),
        cmocka_unit_test(test_no_connection), cmocka_unit_test(test_time_out), cmocka_unit_test(test_early_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
