#include "client/http_multi.h"

/* A socket of libcurl's while it wants to hear of it. */
struct sock {
    struct http_multi *multi;
    struct loop_poll poll;
    int wanted; /* UV_READABLE, UV_WRITABLE */
};

static int mask_of(int events)
{
    return (events & UV_READABLE ? CURL_CSELECT_IN : 0) | (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0);
}

static void act(struct http_multi *m, curl_socket_t fd, int events)
{
    int running, left;
    const CURLMsg *msg;
    m->lib->curl_multi_socket_action(m->handle, fd, events, &running);
    /* Whoever is told may close it. */
    while (m->handle && (msg = m->lib->curl_multi_info_read(m->handle, &left)))
        if (msg->msg == CURLMSG_DONE)
            m->ended(m->ctx, msg->easy_handle, msg->data.result);
}

static void sock_closed(void *ctx)
{
    free(ctx);
}

static void on_ready(void *ctx, int fd, int events, int status)
{
    struct sock *s = ctx;
    if (status >= 0) {
        act(s->multi, fd, mask_of(events));
        return;
    }
    /* Not as an error: what was received before it is read first, and then it is found, with its own words. */
    act(s->multi, fd, mask_of(s->wanted));
    if (loop_is_open(&s->poll.handle))
        loop_poll_start(&s->poll, s->wanted);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket)
{
    (void)easy;
    struct http_multi *m = ctx;
    struct sock *s = socket;
    if (what == CURL_POLL_REMOVE) {
        if (s) {
            m->lib->curl_multi_assign(m->handle, fd, NULL);
            loop_close(&s->poll.handle, sock_closed, s); /* libuv lets go of the descriptor at once */
        }
        return 0;
    }
    if (!s) {
        s = xcalloc(1, sizeof(*s));
        s->multi = m;
        if (loop_poll_init(m->group, &s->poll, fd, on_ready, s) < 0) {
            free(s);
            return 0; /* nobody hears of it: the connect time-out ends it */
        }
        m->lib->curl_multi_assign(m->handle, fd, s);
    }
    s->wanted = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    loop_poll_start(&s->poll, s->wanted);
    return 0;
}

static void on_timer(struct timer *timer, void *ctx)
{
    (void)timer;
    act(ctx, CURL_SOCKET_TIMEOUT, 0);
}

static int set_timer(CURLM *handle, long ms, void *ctx)
{
    (void)handle;
    struct http_multi *m = ctx;
    if (ms < 0)
        loop_timer_stop(m->loop, &m->timer);
    else
        loop_timer_start(m->loop, &m->timer, ms); /* of 0 too: not from inside libcurl */
    return 0;
}

void http_multi_init(struct http_multi *m, struct loop *loop, struct loop_group *group, struct http_lib *lib,
                     void (*ended)(void *ctx, CURL *easy, CURLcode code), void *ctx)
{
    *m = (struct http_multi){.loop = loop, .group = group, .lib = lib, .ended = ended, .ctx = ctx};
    timer_init(&m->timer, on_timer, m);
}

void http_multi_open(struct http_multi *m)
{
    if (m->handle)
        return;
    m->handle = m->lib->curl_multi_init();
    m->lib->curl_multi_setopt(m->handle, CURLMOPT_SOCKETFUNCTION, on_socket);
    m->lib->curl_multi_setopt(m->handle, CURLMOPT_SOCKETDATA, m);
    m->lib->curl_multi_setopt(m->handle, CURLMOPT_TIMERFUNCTION, set_timer);
    m->lib->curl_multi_setopt(m->handle, CURLMOPT_TIMERDATA, m);
}

void http_multi_close(struct http_multi *m)
{
    if (!m->handle)
        return;
    m->lib->curl_multi_cleanup(m->handle);
    m->handle = NULL;
    loop_timer_stop(m->loop, &m->timer);
}

static void set_blob(struct http_lib *lib, CURL *easy, CURLoption option, const struct buf *text)
{
    struct curl_blob blob = {text->data, text->len, CURL_BLOB_NOCOPY};
    if (text->len > 0)
        lib->curl_easy_setopt(easy, option, &blob);
}

void http_set_tls(struct http_lib *lib, CURL *easy, const struct tls_config *own, const struct tls_files *files)
{
    lib->curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    lib->curl_easy_setopt(easy, CURLOPT_CAPATH,
                          NULL); /* the file has all, and then they are read once, not each time */
    if (!own)
        return;
    set_blob(lib, easy, CURLOPT_CAINFO_BLOB, &files->ca);
    set_blob(lib, easy, CURLOPT_SSLCERT_BLOB, &files->cert);
    set_blob(lib, easy, CURLOPT_SSLKEY_BLOB, files->key.len > 0 ? &files->key : &files->cert);
    lib->curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, (long)own->verify);
    lib->curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, own->verify ? 2L : 0L);
}
