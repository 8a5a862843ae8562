#include "http/internal.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

/* A queue that was once long gives its memory back when it is empty. */
#define QUEUE_MEMORY_KEPT ((size_t)64 * 1024)
#define BLOCK ((size_t)1024) /* only where chunks are not spoken (HTTP/1.0); they come out of the connection's memory */

/* libmicrohttpd does not look at a suspended connection, and a stream is suspended most of its life. So we watch for
 * the client's going away on a descriptor of our own. */
struct http_stream {
    struct conn *conn; /* NULL: detached, `closed` is on its way */
    struct loop *loop;
    struct loop_group *group; /* held, if `closed` comes by the task */
    struct buf queue;
    size_t sent; /* bytes of the queue */
    bool ended, gone;
    ssize_t (*pull)(void *ctx, char *to, size_t max);
    int fd; /* dup() of the connection's */
    struct loop_poll poll;
    struct loop_task task;
    void (*closed)(void *ctx);
    void *ctx;
};

static size_t waiting(const struct http_stream *stream)
{
    return stream->queue.len - stream->sent;
}

static void wake(struct http_stream *stream)
{
    struct conn *c = stream->conn;
    if (!c->suspended)
        return;
    conn_resume(c);
    door_run_soon(c->door);
}

/* ---- the end ---- */

static void on_detached(void *ctx)
{
    struct http_stream *stream = ctx;
    void (*closed)(void *) = stream->closed;
    void *closed_ctx = stream->ctx;
    struct loop_group *group = stream->group;
    if (stream->fd >= 0)
        close(stream->fd);
    buf_fini(&stream->queue);
    free(stream);
    if (closed)
        closed(closed_ctx);
    if (group)
        loop_group_release(group);
}

void stream_detach(struct http_stream *stream)
{
    if (stream->conn) {
        stream->group = &stream->conn->door->server->group;
        stream->conn = NULL;
    }
    if (loop_is_open(&stream->poll.handle)) {
        stream->group = NULL; /* waits for the handle anyway */
        loop_close(&stream->poll.handle, on_detached, stream);
        return;
    }
    if (stream->group)
        loop_group_hold(stream->group);
    loop_task_init(&stream->task, on_detached, stream);
    loop_defer(stream->loop, &stream->task);
}

static void on_gone(void *ctx, int fd, int events, int status)
{
    (void)fd;
    (void)events;
    (void)status;
    struct http_stream *stream = ctx;
    loop_poll_start(&stream->poll, 0);
    stream->gone = true;
    if (stream->conn->suspended)
        wake(stream);
    else
        shutdown(stream->conn->fd, SHUT_RDWR); /* libmicrohttpd waits for it to become writable: now it does */
}

/* ---- the answer ---- */

/* End the connection by a write that fails. libmicrohttpd cleans up at once after that, but after an error or (without
 * chunks) an end that is told to it from in here only when it comes by the connection again, which idle older ones put
 * off for ever. */
static ssize_t break_off(struct conn *c, char *to)
{
    shutdown(c->fd, SHUT_RDWR); /* what was sent still arrives */
    *to = '\n';
    return 1;
}

static ssize_t on_room(void *cls, uint64_t pos, char *to, size_t max)
{
    (void)pos;
    struct conn *c = cls;
    struct http_stream *stream = c->request.stream;
    if (!stream)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (stream->gone)
        return break_off(c, to);
    size_t n = MIN(max, waiting(stream));
    if (n) {
        memcpy(to, stream->queue.data + stream->sent, n);
        stream->sent += n;
        if (waiting(stream) == 0) {
            stream->sent = stream->queue.len = 0;
            if (stream->queue.cap > QUEUE_MEMORY_KEPT)
                buf_fini(&stream->queue);
        }
        return (ssize_t)n;
    }
    ssize_t pulled = stream->ended ? -1 : stream->pull ? stream->pull(stream->ctx, to, max) : 0;
    if (pulled > 0)
        return pulled;
    if (pulled < 0)
        return c->request.chunked ? MHD_CONTENT_READER_END_OF_STREAM : break_off(c, to);
    conn_suspend(c);
    return 0;
}

struct http_stream *http_reply_stream(struct http_request *r, const char *content_type, void (*closed)(void *ctx),
                                      void *ctx)
{
    struct conn *c = container_of(r, struct conn, request);
    struct http_server *s = c->door->server;
    struct http_stream *stream = xcalloc(1, sizeof(*stream));
    stream->loop = s->loop;
    stream->fd = -1;
    stream->closed = closed;
    stream->ctx = ctx;
    stream->ended = s->stopping;
    if (s->aborted) {
        stream->group = s->stopped ? NULL : &s->group;
        stream_detach(stream);
        request_take_back(r);
        return stream;
    }
    request_take_back(r);
    stream->conn = c;
    r->stream = stream;
    conn_hurry(c, false);
    stream->fd = fcntl(c->fd, F_DUPFD_CLOEXEC, 0);
    /* Out of descriptors: the client's going away is then noticed at the next write. */
    if (stream->fd >= 0 && loop_poll_init(&s->group, &stream->poll, stream->fd, on_gone, stream) == 0)
        loop_poll_start(&stream->poll, UV_DISCONNECT);
    struct MHD_Response *response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, on_room, c, NULL);
    if (response) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
        MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache");
    }
    request_answer(r, MHD_HTTP_OK, response);
    return stream;
}

size_t http_stream_write(struct http_stream *stream, const void *data, size_t len)
{
    if (!stream->conn || stream->ended || stream->gone)
        return 0;
    if (stream->sent > waiting(stream)) {
        memmove(stream->queue.data, stream->queue.data + stream->sent, waiting(stream));
        stream->queue.len -= stream->sent;
        stream->sent = 0;
    }
    buf_add(&stream->queue, data, len);
    wake(stream);
    return waiting(stream);
}

void http_stream_pull(struct http_stream *stream, ssize_t (*pull)(void *ctx, char *to, size_t max))
{
    stream->pull = pull;
}

void http_stream_wake(struct http_stream *stream)
{
    if (stream->conn)
        wake(stream);
}

void http_stream_end(struct http_stream *stream)
{
    stream->ended = true;
    if (stream->conn)
        wake(stream);
}
