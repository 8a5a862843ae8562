/* How near the HTTP server comes to what libmicrohttpd can do: requests a second and CPU time a request of the serving
 * thread, for a small POST over connections that are kept alive, one request under way on each.
 *
 *     bench_http [SECONDS] [CONNECTIONS] [STREAMS]      (2, 64, 0: so many idle streams beside, on ours)
 *
 * Three servers: libmicrohttpd alone in its own loop, its handler answering a constant; ours, answered from inside
 * `handle`; ours, answered later, all that gathered in one iteration of the loop at once, as a commit of the store does
 * it. The client is a thread of this program, so on a small machine both share the cores: CPU time is the steadier
 * figure, and the ratio is taken of it.
 */
#include "base/util.h"
#include "http/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define ANSWER "{\"triggered_count\":1,\"events\":[\"018f3c5e-7a1b-7c3d-9e4f-123456789abc\"]}"
#define REQUEST_BODY "{\"event_type\":\"order.created\",\"data\":{\"id\":12345,\"total\":99.5}}"

static double seconds = 2;
static int connections = 64, streams;
static char socket_path[64];

static double now_s(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- the client ---- */

struct client {
    pthread_t thread;
    bool tcp, streams;
    int port;
    atomic_uint_fast64_t answers;
    atomic_bool stop;
};

static int client_connect(const struct client *c)
{
    int fd = socket(c->tcp ? AF_INET : AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    in.sin_port = htons((in_port_t)c->port);
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path, sizeof(un.sun_path), "%s", socket_path);
    int r = c->tcp ? connect(fd, (struct sockaddr *)&in, sizeof(in)) : connect(fd, (struct sockaddr *)&un, sizeof(un));
    if (r < 0) {
        perror("connect");
        exit(1);
    }
    if (c->tcp)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* An answer ends with the body's last byte, which no header has. */
static void *client_run(void *arg)
{
    struct client *c = arg;
    char request[512], in[4096];
    int len = snprintf(request, sizeof(request),
                       "POST /api/v1/triggers/emit HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n"
                       "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                       strlen(REQUEST_BODY), REQUEST_BODY);
    int ep = epoll_create1(0);
    int idle = c->streams ? streams : 0;
    int *fds = xreallocarray(NULL, (size_t)(connections + idle), sizeof(int));
    for (int i = 0; i < idle; i++) {
        const char *get = "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n";
        fds[connections + i] = client_connect(c);
        (void)!send(fds[connections + i], get, strlen(get), MSG_NOSIGNAL);
    }
    for (int i = 0; i < connections; i++) {
        fds[i] = client_connect(c);
        epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &(struct epoll_event){.events = EPOLLIN, .data.fd = fds[i]});
        (void)!send(fds[i], request, (size_t)len, MSG_NOSIGNAL);
    }
    while (!atomic_load(&c->stop)) {
        struct epoll_event events[256];
        int n = epoll_wait(ep, events, 256, 100);
        for (int i = 0; i < n; i++) {
            ssize_t got = recv(events[i].data.fd, in, sizeof(in), 0);
            if (got > 0 && in[got - 1] == '}') {
                atomic_fetch_add(&c->answers, 1);
                (void)!send(events[i].data.fd, request, (size_t)len, MSG_NOSIGNAL);
            } else if (got == 0 || (got < 0 && errno != EAGAIN)) {
                fprintf(stderr, "the server closed a connection\n");
                exit(1);
            }
        }
    }
    for (int i = 0; i < connections + idle; i++)
        close(fds[i]);
    free(fds);
    close(ep);
    return NULL;
}

/* ---- measuring ---- */

struct figures {
    double rate, cpu_us;
};

struct span {
    double wall, cpu;
    uint64_t answers;
};

static struct span span_begin(struct client *c)
{
    return (struct span){now_s(CLOCK_MONOTONIC), now_s(CLOCK_THREAD_CPUTIME_ID), atomic_load(&c->answers)};
}

static struct figures span_end(const struct span *from, struct client *c)
{
    struct span to = span_begin(c);
    double n = (double)(to.answers - from->answers);
    return (struct figures){n / (to.wall - from->wall), (to.cpu - from->cpu) * 1e6 / n};
}

/* ---- libmicrohttpd alone ---- */

static enum MHD_Result constant(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
                                const char *version, const char *upload, size_t *upload_size, void **context)
{
    (void)url;
    (void)method;
    (void)version;
    (void)upload;
    if (!*context) {
        *context = cls;
        return MHD_YES;
    }
    if (*upload_size) {
        *upload_size = 0;
        return MHD_YES;
    }
    return MHD_queue_response(mhd, MHD_HTTP_OK, cls);
}

static int listen_for_mhd(struct client *c)
{
    int fd = socket(c->tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path, sizeof(un.sun_path), "%s", socket_path);
    socklen_t len = sizeof(in);
    int r = c->tcp ? bind(fd, (struct sockaddr *)&in, sizeof(in)) : bind(fd, (struct sockaddr *)&un, sizeof(un));
    if (r < 0 || listen(fd, 1024) < 0 || (c->tcp && getsockname(fd, (struct sockaddr *)&in, &len) < 0)) {
        perror("listen");
        exit(1);
    }
    c->port = ntohs(in.sin_port);
    return fd;
}

static struct figures bench_mhd(bool tcp)
{
    struct client c = {.tcp = tcp};
    struct MHD_Response *answer =
        MHD_create_response_from_buffer(strlen(ANSWER), (void *)(uintptr_t)ANSWER, MHD_RESPMEM_PERSISTENT);
    MHD_add_response_header(answer, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
    struct MHD_Daemon *d = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, constant, answer, MHD_OPTION_LISTEN_SOCKET,
                                            listen_for_mhd(&c), MHD_OPTION_CONNECTION_LIMIT, 10000U, MHD_OPTION_END);
    if (!d)
        exit(1);
    pthread_create(&c.thread, NULL, client_run, &c);
    double start = now_s(CLOCK_MONOTONIC);
    while (now_s(CLOCK_MONOTONIC) < start + 0.3)
        MHD_run_wait(d, 10);
    struct span span = span_begin(&c);
    while (now_s(CLOCK_MONOTONIC) < span.wall + seconds)
        MHD_run_wait(d, 10);
    struct figures f = span_end(&span, &c);
    atomic_store(&c.stop, true);
    pthread_join(c.thread, NULL);
    MHD_stop_daemon(d);
    MHD_destroy_response(answer);
    unlink(socket_path);
    return f;
}

/* ---- ours ---- */

struct ours {
    struct loop loop;
    struct http_server *server;
    struct client client;
    bool later;
    struct http_request **held;
    unsigned n_held;
    uint64_t batches, held_in_all;
    struct loop_task commit;
    struct timer begin, end;
    struct span span;
    struct figures figures;
};

static void answer(struct http_request *r)
{
    struct http_reply reply = {.status = 200, .body = xstrdup(ANSWER), .body_len = strlen(ANSWER)};
    http_reply(r, &reply);
}

static void on_commit(void *ctx)
{
    struct ours *o = ctx;
    for (unsigned i = 0; i < o->n_held; i++)
        answer(o->held[i]);
    o->batches++;
    o->held_in_all += o->n_held;
    o->n_held = 0;
}

static void handle(void *ctx, struct http_request *r)
{
    struct ours *o = ctx;
    if (http_path(r)[1] == 's')
        http_reply_stream(r, "text/event-stream", NULL, NULL);
    else if (!o->later)
        answer(r);
    else
        o->held[o->n_held++] = r;
    if (o->n_held)
        loop_defer(&o->loop, &o->commit);
}

static void on_begin(struct timer *timer, void *ctx)
{
    (void)timer;
    struct ours *o = ctx;
    o->span = span_begin(&o->client);
    loop_timer_start(&o->loop, &o->end, (int64_t)(seconds * 1000));
}

static void on_end(struct timer *timer, void *ctx)
{
    (void)timer;
    struct ours *o = ctx;
    o->figures = span_end(&o->span, &o->client);
    atomic_store(&o->client.stop, true);
    loop_stop(&o->loop);
}

static struct figures bench_ours(bool tcp, bool later)
{
    struct ours o = {.client = {.tcp = tcp, .streams = true}, .later = later};
    struct error err = ERROR_INIT;
    o.held = xcalloc((size_t)connections, sizeof(*o.held));
    loop_init(&o.loop);
    loop_task_init(&o.commit, on_commit, &o);
    timer_init(&o.begin, on_begin, &o);
    timer_init(&o.end, on_end, &o);
    struct http_server_options options = {.loop = &o.loop,
                                          .socket_path = socket_path,
                                          .listen = "127.0.0.1:0",
                                          .max_connections = 10000,
                                          .handle = handle,
                                          .ctx = &o};
    if (http_server_create(&options, &o.server, &err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    o.client.port = http_server_port(o.server);
    pthread_create(&o.client.thread, NULL, client_run, &o.client);
    loop_timer_start(&o.loop, &o.begin, 300);
    loop_run(&o.loop);
    pthread_join(o.client.thread, NULL);
    http_server_stop(o.server, true, NULL, NULL);
    loop_run(&o.loop);
    on_commit(&o); /* what was still held */
    loop_fini(&o.loop);
    free(o.held);
    if (later)
        printf("    (batches of %.1f)\n", (double)o.held_in_all / (double)o.batches);
    return o.figures;
}

static void show(const char *name, struct figures f, struct figures of)
{
    printf("    %-34s %8.0f requests/s  %6.2f us of CPU each", name, f.rate, f.cpu_us);
    if (of.rate > 0)
        printf("   %3.0f %% of its rate, %3.0f %% of its CPU rate", 100 * f.rate / of.rate, 100 * of.cpu_us / f.cpu_us);
    printf("\n");
}

int main(int argc, char **argv)
{
    if (argc > 1)
        seconds = atof(argv[1]);
    if (argc > 2)
        connections = atoi(argv[2]);
    if (argc > 3)
        streams = atoi(argv[3]);
    snprintf(socket_path, sizeof(socket_path), "/tmp/bench_http.%d", (int)getpid());
    for (int tcp = 0; tcp < 2; tcp++) {
        printf("%s, %d connections, %.1f s each:\n", tcp ? "TCP" : "unix socket", connections, seconds);
        struct figures ceiling = bench_mhd(tcp);
        show("libmicrohttpd, a constant", ceiling, (struct figures){0, 0});
        show("triggerd, answered at once", bench_ours(tcp, false), ceiling);
        show("triggerd, answered in batches", bench_ours(tcp, true), ceiling);
    }
    return 0;
}
