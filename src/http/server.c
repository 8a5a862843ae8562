#include "http/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#define MAX_BODY_DEFAULT (1024 * 1024)
#define MAX_CONNECTIONS_DEFAULT 1024
#define TCP_TIMEOUT_S 120
/* A connection's buffers: half of it reads a request's line and headers, the rest holds what they are parsed into. */
#define CONNECTION_MEMORY ((size_t)16 * 1024)
#define DEADLINE_DEFAULT_MS ((int64_t)120000)
#define DEADLINE_ANSWER_TIMES 5
#define ACCEPTS_A_WAKE 64
#define ACCEPT_AGAIN_MS 500
#define WAITED_LONG_MS 1000
/* MHD_run() moves each connection on by about one step (read, hand over, answer, look for more): as long as it wants
 * another one it gets it, unless that has taken so long that the rest of the loop should have a turn. */
#define RUNS_A_WAKE 8
#define RUN_BUDGET_MS 2

/* ---- driving libmicrohttpd ---- */

static void door_run(void *ctx)
{
    struct door *d = ctx;
    struct loop *loop = d->server->loop;
    loop_task_cancel(loop, &d->run);
    MHD_UNSIGNED_LONG_LONG left = 0;
    bool wanted = true;
    int64_t end = loop_now_ms(loop) + RUN_BUDGET_MS;
    for (int i = 0; i < RUNS_A_WAKE && wanted && left == 0 && (i == 0 || loop_now_ms(loop) < end); i++) {
        MHD_run(d->mhd);
        wanted = MHD_get_timeout(d->mhd, &left) == MHD_YES;
    }
    if (!wanted) {
        loop_timer_stop(loop, &d->timeout);
    } else if (left == 0) {
        loop_defer(loop, &d->run);
    } else if (!timer_active(&d->timeout) || d->timeout.due_ms > loop_now_ms(loop) + (int64_t)left) {
        /* One that is armed for an earlier time stays: it finds nothing to do and is armed anew. */
        loop_timer_start(loop, &d->timeout, (int64_t)left);
    }
}

static void on_epoll(void *ctx, int fd, int events, int status)
{
    (void)fd;
    (void)events;
    (void)status;
    door_run(ctx);
}

static void on_timeout(struct timer *timer, void *ctx)
{
    (void)timer;
    door_run(ctx);
}

void door_run_soon(struct door *d)
{
    loop_defer(d->server->loop, &d->run);
}

/* ---- slow clients ---- */

/* libmicrohttpd's time-out counts from the last byte: who sends one a minute stays for ever. */
static int64_t due_ms(const struct conn *c)
{
    int64_t allowed = c->door->server->options.deadline_ms;
    return c->since_ms + (c->request.state == REQUEST_ANSWERED ? allowed * DEADLINE_ANSWER_TIMES : allowed);
}

static void on_deadline(struct timer *timer, void *ctx)
{
    struct http_server *s = ctx;
    struct conn *c;
    int64_t now = loop_now_ms(s->loop), next = now + s->options.deadline_ms;
    DL_FOREACH (s->conns, c) {
        if (!c->hurried || c->request.state == REQUEST_HANDED)
            continue;
        if (due_ms(c) <= now)
            shutdown(c->fd, SHUT_RDWR); /* libmicrohttpd sees its end */
        else
            next = MIN(next, due_ms(c));
    }
    loop_timer_start(s->loop, timer, next - now);
}

void conn_hurry(struct conn *c, bool hurry)
{
    struct http_server *s = c->door->server;
    if (c->door->is_unix || c->hurried == hurry)
        return;
    c->hurried = hurry;
    s->hurried += hurry ? 1 : -1;
    if (s->stopped)
        return;
    if (s->hurried == 0)
        loop_timer_stop(s->loop, &s->deadline);
    else if (!timer_active(&s->deadline))
        loop_timer_start(s->loop, &s->deadline, s->options.deadline_ms);
}

/* ---- accepting ---- */

/* There is no room for one more: who has kept us waiting longest, for a request or the rest of one, goes. False: nobody
 * has, not for long. */
static bool make_room(struct http_server *s)
{
    struct conn *c, *longest = NULL;
    int64_t begin = loop_now_ms(s->loop) - WAITED_LONG_MS;
    if (s->leaving > 0)
        return true;
    DL_FOREACH (s->conns, c) {
        bool waits = c->hurried && (c->request.state == REQUEST_IDLE || c->request.state == REQUEST_READING);
        if (waits && c->since_ms <= begin && (!longest || c->since_ms < longest->since_ms))
            longest = c;
    }
    if (!longest)
        return false;
    longest->leaving = true;
    s->leaving++;
    shutdown(longest->fd, SHUT_RDWR); /* libmicrohttpd sees its end, and we are called again */
    return true;
}

static void on_connectable(void *ctx, int listen_fd, int events, int status)
{
    (void)events;
    (void)status;
    struct door *d = ctx;
    struct http_server *s = d->server;
    for (int i = 0; i < ACCEPTS_A_WAKE; i++) {
        bool full = s->connections >= s->options.max_connections;
        if (full && make_room(s))
            return;
        struct sockaddr_storage address;
        socklen_t len = sizeof(address);
        int fd = accept4(listen_fd, (struct sockaddr *)&address, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && (errno == ECONNABORTED || errno == EINTR))
            continue;
        if (fd < 0) {
            if (errno != EAGAIN) { /* descriptors or memory ran out: the listening socket would stay readable */
                loop_poll_start(&d->accept, 0);
                loop_timer_start(s->loop, &d->accept_again, ACCEPT_AGAIN_MS);
            }
            return;
        }
        if (full) {
            if (!d->tls)
                refuse_raw(s, fd, NULL, 503, "too many connections");
            close(fd);
            continue;
        }
        MHD_add_connection(d->mhd, fd, (struct sockaddr *)&address, len); /* closes it where it fails */
    }
}

static void on_accept_again(struct timer *timer, void *ctx)
{
    (void)timer;
    struct door *d = ctx;
    loop_poll_start(&d->accept, UV_READABLE);
}

/* ---- doors ---- */

/* Escapes stay as they came: http_path() gives them raw, http_query() decodes its own. */
static size_t leave_escapes(void *cls, struct MHD_Connection *mhd, char *s)
{
    (void)cls;
    (void)mhd;
    return strlen(s);
}

static void on_reap(void *ctx);

static struct door *door_new(struct http_server *s, bool is_unix)
{
    struct door *d = xcalloc(1, sizeof(*d));
    *d = (struct door){.server = s, .is_unix = is_unix, .listen_fd = -1};
    timer_init(&d->accept_again, on_accept_again, d);
    timer_init(&d->timeout, on_timeout, d);
    loop_task_init(&d->run, door_run, d);
    loop_task_init(&d->reap, on_reap, d);
    return d;
}

/* libmicrohttpd reads the texts while it starts, not later. */
static void door_start(struct door *d, const struct http_tls *tls)
{
    struct http_server *s = d->server;
    struct MHD_OptionItem secure[] = {
        {MHD_OPTION_END, 0, NULL}, {MHD_OPTION_END, 0, NULL}, {MHD_OPTION_END, 0, NULL}, {MHD_OPTION_END, 0, NULL}};
    if (tls) {
        secure[0] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)tls->cert};
        secure[1] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)tls->key};
        if (tls->client_ca)
            secure[2] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_TRUST, 0, (void *)(uintptr_t)tls->client_ca};
        d->tls = true;
        d->client_certs = tls->client_ca != NULL;
    }
    d->mhd = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET | (tls ? MHD_USE_TLS : 0), 0, NULL, NULL,
        on_request, s, MHD_OPTION_CONNECTION_LIMIT, s->options.max_connections + 1, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        CONNECTION_MEMORY, MHD_OPTION_CONNECTION_TIMEOUT, d->is_unix ? 0U : (unsigned)TCP_TIMEOUT_S,
        MHD_OPTION_STRICT_FOR_CLIENT, 0, MHD_OPTION_UNESCAPE_CALLBACK, leave_escapes, NULL, MHD_OPTION_NOTIFY_COMPLETED,
        on_request_completed, s, MHD_OPTION_NOTIFY_CONNECTION, on_connection, d, MHD_OPTION_ARRAY, secure,
        MHD_OPTION_END);
}

/* With its listening socket there. */
static int door_open(struct door *d, const struct http_tls *tls, struct error *err)
{
    struct http_server *s = d->server;
    door_start(d, tls);
    if (!d->mhd && tls)
        return error_set(err, -EINVAL, "TLS: the certificate and the key are no PEM, or do not belong together");
    if (!d->mhd)
        return error_set(err, -ENOMEM, "libmicrohttpd does not start");
    int r = loop_poll_init(&s->group, &d->epoll, MHD_get_daemon_info(d->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd,
                           on_epoll, d);
    if (r == 0)
        r = loop_poll_start(&d->epoll, UV_READABLE);
    if (r == 0)
        r = loop_poll_init(&s->group, &d->accept, d->listen_fd, on_connectable, d);
    if (r == 0)
        r = loop_poll_start(&d->accept, UV_READABLE);
    return r < 0 ? error_set(err, r, "cannot poll: %s", strerror(-r)) : 0;
}

static void door_shut(struct door *d)
{
    loop_timer_stop(d->server->loop, &d->accept_again);
    loop_close(&d->accept.handle, NULL, NULL);
    listen_close(d);
}

static void door_free(struct door *d)
{
    if (d->mhd)
        MHD_stop_daemon(d->mhd);
    free(d->path);
    free(d);
}

static void door_quiet(struct door *d)
{
    loop_timer_stop(d->server->loop, &d->timeout);
    loop_timer_stop(d->server->loop, &d->accept_again);
    loop_task_cancel(d->server->loop, &d->run);
    loop_task_cancel(d->server->loop, &d->reap);
}

/* ---- another certificate ---- */

static void on_reaped(void *ctx)
{
    struct door *d = ctx;
    DL_DELETE(d->server->retired, d);
    door_free(d);
}

static void on_reap(void *ctx)
{
    struct door *d = ctx;
    door_quiet(d);
    if (loop_is_open(&d->epoll.handle))
        loop_close(&d->epoll.handle, on_reaped, d);
}

void door_check(struct door *d)
{
    if (d->retired && d->shut && d->connections == 0 && !d->server->group.closing && !d->server->stopped)
        loop_defer(d->server->loop, &d->reap);
}

static void on_shut(void *ctx)
{
    struct door *d = ctx;
    d->shut = true;
    door_check(d);
}

int http_server_set_tls(struct http_server *s, const struct http_tls *tls, struct error *err)
{
    struct door *old = s->doors[1];
    if (s->quiesced || !old->mhd)
        return 0;
    struct door *d = door_new(s, false);
    d->listen_fd = fcntl(old->listen_fd, F_DUPFD_CLOEXEC, 0);
    d->port = old->port;
    int r = d->listen_fd < 0 ? error_set(err, -errno, "TLS: %s", strerror(errno)) : door_open(d, tls, err);
    /* The one of the two that goes on has the listening socket to itself. */
    struct door *gone = r < 0 ? d : old;
    if (r == 0)
        s->doors[1] = d;
    gone->retired = true;
    DL_APPEND(s->retired, gone);
    loop_timer_stop(s->loop, &gone->accept_again);
    if (loop_is_open(&gone->accept.handle))
        loop_close(&gone->accept.handle, on_shut, gone);
    else
        gone->shut = true;
    listen_close(gone);
    if (!loop_is_open(&gone->epoll.handle)) {
        DL_DELETE(s->retired, gone);
        door_free(gone);
    }
    return r;
}

/* ---- the server ---- */

static void server_free(struct http_server *s)
{
    struct conn *c;
    DL_FOREACH (s->conns, c)
        if (c->suspended)
            conn_resume(c); /* libmicrohttpd insists */
    struct door *d, *next;
    DL_FOREACH_SAFE (s->retired, d, next)
        door_free(d);
    door_free(s->doors[0]);
    door_free(s->doors[1]);
    free(s);
}

static void on_group_closed(void *ctx)
{
    struct http_server *s = ctx;
    void (*done)(void *) = s->done;
    void *done_ctx = s->done_ctx;
    s->stopped = true;
    loop_timer_stop(s->loop, &s->deadline);
    struct door *d;
    for (size_t i = 0; i < 2; i++)
        door_quiet(s->doors[i]);
    DL_FOREACH (s->retired, d)
        door_quiet(d);
    server_check(s);
    if (done)
        done(done_ctx);
}

static void on_finish(void *ctx)
{
    struct http_server *s = ctx;
    if (!s->group.closing)
        loop_group_close(&s->group, on_group_closed, s);
}

void server_check(struct http_server *s)
{
    if (s->stopped) {
        if (s->unanswered == 0)
            server_free(s);
    } else if (s->stopping && (s->aborted || s->connections == 0)) {
        loop_defer(s->loop, &s->finish);
    }
}

int http_server_create(const struct http_server_options *options, struct http_server **ret, struct error *err)
{
    struct http_server *s = xcalloc(1, sizeof(*s));
    s->options = *options;
    s->loop = options->loop;
    if (s->options.max_body == 0)
        s->options.max_body = MAX_BODY_DEFAULT;
    if (s->options.max_connections == 0)
        s->options.max_connections = MAX_CONNECTIONS_DEFAULT;
    s->options.socket_path = s->options.listen = NULL;
    loop_group_init(&s->group, s->loop);
    loop_task_init(&s->finish, on_finish, s);
    if (s->options.deadline_ms == 0)
        s->options.deadline_ms = DEADLINE_DEFAULT_MS;
    timer_init(&s->deadline, on_deadline, s);
    s->options.tls = NULL;
    s->doors[0] = door_new(s, true);
    s->doors[1] = door_new(s, false);
    int r = queue_response_find(s, err);
    if (r == 0 && options->socket_path) {
        s->doors[0]->path = xstrdup(options->socket_path);
        r = listen_unix(s->doors[0], err);
        if (r == 0)
            r = door_open(s->doors[0], NULL, err);
    }
    if (r == 0 && options->listen) {
        r = listen_tcp(s->doors[1], options->listen, err);
        if (r == 0)
            r = door_open(s->doors[1], options->tls, err);
    }
    if (r < 0) {
        door_shut(s->doors[0]);
        door_shut(s->doors[1]);
        loop_group_close(&s->group, on_group_closed, s);
        return r;
    }
    *ret = s;
    return 0;
}

void http_server_quiesce(struct http_server *s)
{
    if (s->quiesced)
        return;
    s->quiesced = true;
    door_shut(s->doors[0]);
    door_shut(s->doors[1]);
    struct conn *c;
    DL_FOREACH (s->conns, c)
        if (c->request.state < REQUEST_HANDED)
            shutdown(c->fd, SHUT_RDWR); /* libmicrohttpd sees its end */
}

void http_server_stop(struct http_server *s, bool now, void (*done)(void *ctx), void *ctx)
{
    s->done = done;
    s->done_ctx = ctx;
    s->stopping = true;
    s->aborted |= now;
    http_server_quiesce(s);
    struct conn *c;
    DL_FOREACH (s->conns, c) {
        if (now)
            shutdown(c->fd, SHUT_RDWR);
        if (c->request.stream && now)
            stream_detach(steal(&c->request.stream));
        else if (c->request.stream)
            http_stream_end(c->request.stream);
    }
    server_check(s);
}

int http_server_port(const struct http_server *s)
{
    return s->doors[1]->port;
}
