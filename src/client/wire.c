#include "client/wire.h"

#include "client/http_multi.h"

#include <errno.h>
#include <stdio.h>

#define PIECE_BYTES 65536
#define PIECES_A_WAKE 8 /* then others have their turn */

/* The poll outlives the wire until libuv has closed it. */
struct line {
    struct loop_poll poll;
    struct wire *wire;
};

struct wire {
    struct loop *loop;
    struct loop_group *group; /* held as long as the wire is in memory */
    struct http_lib *lib;
    const struct self_mount *avoid;
    const struct wire_events *events;
    void *ctx;
    bool closed, dead, open; /* wire_close() was called; ended() was, or will be; connected() was */
    bool preparing;          /* the pool has it */
    bool held;               /* wire_hold() */
    char *url, *path;
    int64_t connect_ms;
    bool own_tls;
    struct tls_config tls;
    struct tls_files files;
    struct error error;
    struct http_multi multi;
    CURL *easy;
    bool added;
    struct line *line;
    char text[CURL_ERROR_SIZE];
    struct buf out;     /* being sent, from `sent` on: OpenSSL wants the same bytes again at the same place */
    struct buf waiting; /* what was written since */
    size_t sent;
    struct loop_work work;
    struct loop_task flush, more, tell, freed;
};

static void on_freed(void *ctx)
{
    struct wire *w = ctx;
    struct loop_group *group = w->group;
    fields_fini(&tls_fields, &w->tls);
    tls_files_fini(&w->files);
    buf_fini(&w->out);
    buf_fini(&w->waiting);
    free(w->url);
    free(w->path);
    free(w);
    loop_group_release(group);
}

static void line_closed(void *ctx)
{
    free(ctx);
}

/* The connection is closed; the wire stays. */
static void hang_up(struct wire *w)
{
    struct line *line = steal(&w->line);
    if (line)
        loop_close(&line->poll.handle, line_closed, line);
    if (w->added)
        w->lib->curl_multi_remove_handle(w->multi.handle, w->easy);
    w->added = false;
    if (w->easy)
        w->lib->curl_easy_cleanup(steal(&w->easy));
    http_multi_close(&w->multi);
    loop_task_cancel(w->loop, &w->flush);
    loop_task_cancel(w->loop, &w->more);
}

void wire_close(struct wire *w)
{
    if (!w)
        return;
    w->closed = true;
    hang_up(w);
    loop_task_cancel(w->loop, &w->tell);
    if (!w->preparing)
        loop_defer(w->loop, &w->freed); /* it may be in use, below us on the stack */
}

static void on_tell(void *ctx)
{
    struct wire *w = ctx;
    w->events->ended(w->ctx, &w->error);
}

static int code_error(CURLcode code)
{
    switch ((int)code) {
    case CURLE_COULDNT_RESOLVE_HOST:
        return -EHOSTUNREACH;
    case CURLE_OPERATION_TIMEDOUT:
        return -ETIMEDOUT;
    case CURLE_COULDNT_CONNECT:
        return -ECONNREFUSED;
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
        return -ECONNRESET;
    case CURLE_OUT_OF_MEMORY:
        return -ENOMEM;
    default:
        return -EPROTO;
    }
}

/* The end, told by a task. `code` 0: w->error is set. */
static void fail(struct wire *w, CURLcode code)
{
    long system = 0;
    if (w->dead)
        return;
    w->dead = true;
    if (code != CURLE_OK) {
        int r = code_error(code);
        if (code == CURLE_COULDNT_CONNECT &&
            w->lib->curl_easy_getinfo(w->easy, CURLINFO_OS_ERRNO, &system) == CURLE_OK && system > 0)
            r = -(int)system;
        error_set(&w->error, r, "%s",
                  system > 0 ? strerror((int)system)
                  : *w->text ? w->text
                             : w->lib->curl_easy_strerror(code));
    }
    hang_up(w);
    loop_defer(w->loop, &w->tell);
}

/* ---- connected ---- */

static void watch(struct wire *w)
{
    if (w->line)
        loop_poll_start(&w->line->poll, (w->held ? 0 : UV_READABLE) | (w->out.len > w->sent ? UV_WRITABLE : 0));
}

static void send_out(struct wire *w)
{
    while (w->out.len > w->sent || w->waiting.len > 0) {
        if (w->out.len == w->sent) {
            struct buf empty = w->out;
            w->out = w->waiting;
            w->waiting = empty;
            w->waiting.len = 0;
            w->sent = 0;
        }
        size_t n = 0;
        CURLcode code = w->lib->curl_easy_send(w->easy, w->out.data + w->sent, w->out.len - w->sent, &n);
        if (code == CURLE_AGAIN)
            break;
        if (code != CURLE_OK) {
            fail(w, code);
            return;
        }
        w->sent += n;
    }
    watch(w);
}

static void on_flush(void *ctx)
{
    send_out(ctx);
}

static void on_more(void *ctx)
{
    struct wire *w = ctx;
    char piece[PIECE_BYTES];
    for (int i = 0; i < PIECES_A_WAKE && !w->dead && !w->closed && !w->held; i++) {
        size_t n = 0;
        CURLcode code = w->lib->curl_easy_recv(w->easy, piece, sizeof(piece), &n);
        if (code == CURLE_AGAIN)
            return;
        if (code != CURLE_OK) {
            fail(w, code);
        } else if (n == 0) {
            error_set(&w->error, -ECONNRESET, "the server closed the connection");
            fail(w, CURLE_OK);
        } else {
            w->events->received(w->ctx, piece, n);
        }
    }
    if (!w->dead && !w->closed && !w->held)
        loop_defer(w->loop, &w->more); /* what TLS holds already wakes nobody */
}

static void on_line(void *ctx, int fd, int events, int status)
{
    (void)fd;
    struct wire *w = ((struct line *)ctx)->wire;
    if ((events & UV_WRITABLE) || status < 0)
        send_out(w);
    if (!w->dead && !w->closed && ((events & UV_READABLE) || status < 0))
        on_more(w);
}

static void on_ended(void *ctx, CURL *easy, CURLcode code)
{
    struct wire *w = ctx;
    curl_socket_t fd = CURL_SOCKET_BAD;
    int r = 0;
    if (code == CURLE_OK)
        code = w->lib->curl_easy_getinfo(easy, CURLINFO_ACTIVESOCKET, &fd);
    if (code != CURLE_OK) {
        fail(w, code);
        return;
    }
    w->line = xcalloc(1, sizeof(*w->line));
    w->line->wire = w;
    if (fd == CURL_SOCKET_BAD || (r = loop_poll_init(w->group, &w->line->poll, fd, on_line, w->line)) < 0) {
        free(steal(&w->line));
        error_set(&w->error, r < 0 ? r : -ECONNRESET, "no connection");
        fail(w, CURLE_OK);
        return;
    }
    w->open = true;
    tls_files_fini(&w->files);
    w->events->connected(w->ctx);
    if (w->dead || w->closed)
        return;
    loop_defer(w->loop, &w->more); /* what came with the end of the handshake */
    send_out(w);
}

struct buf *wire_out(struct wire *w)
{
    if (w->dead || w->closed)
        return NULL;
    if (w->open && w->out.len == w->sent)
        loop_defer(w->loop, &w->flush);
    return &w->waiting;
}

void wire_write(struct wire *w, const void *data, size_t len)
{
    struct buf *out = wire_out(w);
    if (out)
        buf_add(out, data, len);
}

void wire_hold(struct wire *w, bool hold)
{
    w->held = hold;
    watch(w);
    if (!hold && w->line)
        loop_defer(w->loop, &w->more);
}

size_t wire_unsent(const struct wire *w)
{
    return w->out.len - w->sent + w->waiting.len;
}

/* ---- before it ---- */

static void begin(struct wire *w)
{
    struct http_lib *l = w->lib;
    CURL *e = w->easy = l->curl_easy_init();
    http_multi_open(&w->multi);
    l->curl_easy_setopt(e, CURLOPT_URL, w->url);
    l->curl_easy_setopt(e, CURLOPT_CONNECT_ONLY, 1L);
    l->curl_easy_setopt(e, CURLOPT_ERRORBUFFER, w->text);
    l->curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    l->curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L); /* an early end does not wait for the thread that resolves a name */
    l->curl_easy_setopt(e, CURLOPT_PROXY, "");
    l->curl_easy_setopt(e, CURLOPT_SSL_ENABLE_ALPN, 0L);
    l->curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    l->curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)w->connect_ms);
    if (w->path)
        l->curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, w->path);
    http_set_tls(l, e, w->own_tls ? &w->tls : NULL, &w->files);
    CURLMcode code = l->curl_multi_add_handle(w->multi.handle, e);
    w->added = code == CURLM_OK;
    if (!w->added) {
        error_set(&w->error, -EIO, "%s", l->curl_multi_strerror(code));
        fail(w, CURLE_OK);
    }
}

static void prepare(void *ctx)
{
    struct wire *w = ctx;
    if (http_lib_load(w->lib, &w->error) < 0)
        return;
    if (w->own_tls && tls_files_read(&w->tls, w->avoid, &w->files, &w->error) < 0)
        return;
    if (w->path && self_mount_any(w->avoid) && self_mount_holds(w->avoid, w->path))
        error_set(&w->error, -ELOOP, "%s: lies in triggerd's own mount (SelfMount)", w->path);
}

static void prepared(void *ctx)
{
    struct wire *w = ctx;
    w->preparing = false;
    if (w->closed)
        loop_defer(w->loop, &w->freed);
    else if (w->error.code != 0)
        fail(w, CURLE_OK);
    else
        begin(w);
}

struct wire *wire_open(struct http_client *http, const struct wire_target *target, const struct wire_events *events,
                       void *ctx)
{
    struct wire *w = xcalloc(1, sizeof(*w));
    struct loop_group *group = http_client_group(http);
    *w = (struct wire){.loop = group->loop,
                       .group = group,
                       .lib = http_client_lib(http),
                       .avoid = http_client_avoid(http),
                       .events = events,
                       .ctx = ctx,
                       .preparing = true,
                       .path = xstrdup0(target->path),
                       .connect_ms = target->connect_ms};
    const char *scheme = target->tls ? "https" : "http";
    if (target->path)
        w->url = xasprintf("%s://localhost/", scheme);
    else if (strchr(target->host, ':'))
        w->url = xasprintf("%s://[%s]:%d/", scheme, target->host, target->port);
    else
        w->url = xasprintf("%s://%s:%d/", scheme, target->host, target->port);
    if (target->tls && target->config) {
        w->own_tls = true;
        w->tls = tls_config_copy(target->config);
    }
    loop_task_init(&w->flush, on_flush, w);
    loop_task_init(&w->more, on_more, w);
    loop_task_init(&w->tell, on_tell, w);
    loop_task_init(&w->freed, on_freed, w);
    http_multi_init(&w->multi, w->loop, group, w->lib, on_ended, w);
    loop_group_hold(group);
    loop_work_submit(w->loop, &w->work, prepare, prepared, w);
    return w;
}
