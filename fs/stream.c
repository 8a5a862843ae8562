#include "fs/stream.h"

#include "fs/log.h"

#include <fcntl.h>
#include <poll.h>

/* ---- streams ---- */

struct waiting_read {
    fuse_req_t req;
    struct handle *handle;
    size_t size;
    struct waiting_read *prev, *next;
};

/* Messages into the handle's buffer, until there is enough for a read. */
static void fill(struct handle *h, size_t size)
{
    struct feed_message m;
    while (h->buffer.len - h->taken < size && feed_reader_look(h->reader, &m)) {
        if (m.gap)
            buf_printf(&h->buffer, "{\"gap\": %llu}\n", (unsigned long long)m.gap);
        else
            buf_add(&h->buffer, m.json, m.len), buf_addc(&h->buffer, '\n');
        feed_reader_take(h->reader);
    }
}

static bool has_data(struct handle *h)
{
    struct feed_message m;
    return h->buffer.len > h->taken || feed_reader_look(h->reader, &m);
}

static void answer(fuse_req_t req, struct handle *h, size_t size)
{
    size_t n = MIN(size, h->buffer.len - h->taken);
    int r = fuse_reply_buf(req, h->buffer.data + h->taken, n);
    if (r < 0)
        return; /* the reader was gone: what it did not get is the next one's */
    h->taken += n;
    if (h->taken == h->buffer.len) {
        buf_fini(&h->buffer);
        h->taken = 0;
    }
}

static void stop_waiting(struct waiting_read *w)
{
    struct handle *h = w->handle;
    DL_DELETE(h->waiting, w);
    free(w);
    handle_idle(h);
}

static void interrupted(fuse_req_t req, void *data)
{
    struct waiting_read *w = data;
    struct fs *fs = w->handle->fs;
    stop_waiting(w);
    fuse_reply_err(req, EINTR);
    fs_release(fs);
}

static void wake(void *ctx, bool lost)
{
    (void)lost;
    struct handle *h = ctx;
    handle_busy(h);
    while (h->waiting) {
        struct waiting_read *w = h->waiting;
        fill(h, w->size);
        if (h->buffer.len == h->taken)
            break;
        fuse_req_t req = w->req;
        size_t size = w->size;
        fuse_req_interrupt_func(req, NULL, NULL);
        stop_waiting(w);
        answer(req, h, size);
        fs_release(h->fs);
    }
    if (h->poll && has_data(h)) {
        fuse_lowlevel_notify_poll(h->poll);
        fuse_pollhandle_destroy(h->poll);
        h->poll = NULL;
    }
    handle_idle(h);
}

void stream_open(fuse_req_t req, struct node *n, struct fuse_file_info *fi)
{
    enum resource_kind kind;
    const struct feed_filter filter = {.trigger_id = node_resource(n, &kind), .status = -1, .decision = -1};
    struct handle *h = handle_new(n, fi);
    fi->direct_io = fi->nonseekable = fi->noflush = 1;
    h->reader = feed_reader_open(n->fs->api->feed, &filter, NULL, wake, h);
    if (fuse_reply_open(req, fi) < 0)
        handle_drop(h);
}

void stream_read(fuse_req_t req, struct handle *h, size_t size, int flags)
{
    if (size == 0) {
        fuse_reply_buf(req, NULL, 0);
        return;
    }
    if (!h->waiting)
        fill(h, size);
    if (!h->waiting && h->buffer.len > h->taken) {
        answer(req, h, size);
    } else if (flags & O_NONBLOCK) {
        answer_error(req, -EAGAIN);
    } else if (fuse_req_interrupted(req)) {
        answer_error(req, -EINTR);
    } else {
        struct waiting_read *w = xmalloc(sizeof(*w));
        *w = (struct waiting_read){.req = req, .handle = h, .size = size};
        DL_APPEND(h->waiting, w);
        handle_busy(h);
        fs_hold(h->fs);
        fuse_req_interrupt_func(req, interrupted, w);
    }
}

void stream_poll(fuse_req_t req, struct handle *h, struct fuse_pollhandle *poll)
{
    bool ready = has_data(h);
    if (poll && h->poll)
        fuse_pollhandle_destroy(h->poll);
    if (poll)
        h->poll = poll;
    fuse_reply_poll(req, ready ? POLLIN | POLLRDNORM : 0);
}

void stream_close(struct handle *h)
{
    struct waiting_read *w, *next;
    h->busy++; /* it is the caller's to free */
    DL_FOREACH_SAFE (h->waiting, w, next) {
        fuse_req_t req = w->req;
        fuse_req_interrupt_func(req, NULL, NULL);
        stop_waiting(w);
        answer_error(req, -EIO);
        fs_release(h->fs);
    }
    h->busy--;
    if (h->poll)
        fuse_pollhandle_destroy(h->poll);
    h->poll = NULL;
    if (h->reader)
        feed_reader_close(h->reader);
    h->reader = NULL;
}

/* ---- logs ---- */

static struct log *log_of(const struct node *n)
{
    enum resource_kind kind;
    log_sync(n->fs->mount->logs);
    return log_find(n->fs->mount->logs, node_resource(n, &kind));
}

/* One that begins elsewhere is another node, so that the offsets of those who have the old one open stay what they are;
 * its inode number, as stat shows it, is the same. */
struct node *log_node(struct node *parent, const char *name)
{
    uint64_t number, offset;
    log_begin(log_of(parent), &number, &offset);
    struct node *n = node_get(parent, name, NODE_LOG, offset + 1);
    n->log_base = offset;
    n->log_number = number;
    return n;
}

void log_stat(const struct node *n, struct stat *st)
{
    const struct log *log = log_of(n);
    st->st_size = log ? (off_t)(log->end_offset - n->log_base) : 0;
    st->st_blocks = (st->st_size + 511) / 512;
    stat_time(st, log && log->changed_ms ? log->changed_ms : n->fs->started_ms);
}

void log_open(fuse_req_t req, struct node *n, struct fuse_file_info *fi)
{
    struct handle *h = handle_new(n, fi);
    fi->direct_io = fi->noflush = 1;
    h->log_base = n->log_base;
    if (fuse_reply_open(req, fi) < 0)
        handle_release(h);
}

/* The place was dropped: a line says how many lines are missing, and stands where the oldest is now. */
static void tell_gap(struct handle *h, const struct log *log, uint64_t place)
{
    uint64_t oldest, offset;
    uint64_t was = h->log_next == place && h->log_next_number ? h->log_next_number : h->node->log_number;
    log_oldest(log, &oldest, &offset);
    buf_printf(&h->buffer, "{\"gap\": %llu}\n", (unsigned long long)(oldest - MIN(oldest, was)));
    h->log_base += offset - place - h->buffer.len; /* what follows the line is at the offset that follows it */
}

void log_read(fuse_req_t req, struct handle *h, size_t size, off_t off)
{
    const struct log *log = log_of(h->node);
    struct buf out = {0};
    uint64_t oldest, offset;
    if (!log || off < 0) {
        fuse_reply_buf(req, NULL, 0);
        return;
    }
    uint64_t place = h->log_base + (uint64_t)off;
    log_oldest(log, &oldest, &offset);
    if (h->buffer.len == h->taken && place < offset)
        tell_gap(h, log, place);
    size_t n = MIN(size, h->buffer.len - h->taken); /* of the line about a gap */
    if (n > 0) {
        buf_add(&out, h->buffer.data + h->taken, n);
        h->taken += n;
        off += (off_t)n;
    }
    if (h->taken == h->buffer.len) {
        buf_fini(&h->buffer);
        h->taken = 0;
    }
    place = h->log_base + (uint64_t)off;
    if (size > n && place < log->end_offset)
        log_copy(log, place, size - n, &out);
    h->log_next = place + out.len - n;
    h->log_next_number = h->log_next >= offset ? log_number(log, h->log_next) : 0;
    fuse_reply_buf(req, out.data, out.len);
    buf_fini(&out);
}
