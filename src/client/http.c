#include "client/http_multi.h"

#include <assert.h>
#include <errno.h>
#include <strings.h>
#include <utlist.h>

#define HEARD_MAX 100 /* headers of an answer that are kept */
#define USER_AGENT "triggerd/" TRIGGERD_VERSION

struct http_client {
    struct loop *loop;
    const struct self_mount *avoid;
    struct http_lib *lib;
    struct loop_group group; /* polls of sockets; held by work on the pool */
    struct http_multi multi; /* not open: nothing was sent for a while */
    struct timer idle;
    struct http_transfer *transfers; /* a utlist */
    size_t under_way;                /* of them, those that libcurl has */
    void (*closed)(void *ctx);
    void *closed_ctx;
};

struct http_transfer {
    struct http_client *client; /* NULL: cancelled while the pool works for it */
    struct http_request request;
    http_done_fn *done;
    void *ctx;
    struct loop_work work;
    struct loop_group *holding; /* the client's, while the pool works for it */
    struct http_lib *lib;
    const struct self_mount *avoid;
    char *proxy;           /* as in the request, but ours */
    struct tls_config tls; /* likewise */
    bool own_tls;
    struct tls_files files;
    struct loop_task failed; /* before libcurl had it, told later */
    CURL *easy;
    bool added;
    struct curl_slist *headers;
    struct http_origin origin;
    char *user, *password; /* of the URL; NULL: none */
    bool foreign;          /* it was led to another origin */
    int64_t redirects;
    struct http_answer answer;
    struct http_header *heard; /* of an answer that is told as it comes */
    size_t n_heard;
    bool headed, held;
    struct loop_task go_on;
    char text[CURL_ERROR_SIZE];
    struct http_transfer *prev, *next;
};

/* ---- what may stand in a request ---- */

bool http_method_valid(const char *method)
{
    size_t n = strlen(method);
    return n > 0 && n <= 32 && strspn(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") == n && *method != '-' &&
           !streq(method, "CONNECT") && !streq(method, "TRACE");
}

bool http_name_valid(const char *name)
{
    const char *p = name;
    while ((*p >= '0' && *p <= '9') || (*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z') ||
           (*p && strchr("!#$%&'*+-.^_`|~", *p)))
        p++;
    return p > name && !*p;
}

bool http_value_valid(const char *value)
{
    for (; *value; value++)
        if (((unsigned char)*value < 0x20 && *value != '\t') || *value == 0x7f)
            return false;
    return true;
}

void http_request_header(struct http_request *r, const char *name, const char *value, unsigned flags)
{
    r->headers = xreallocarray(r->headers, r->n_headers + 1, sizeof(*r->headers));
    r->headers[r->n_headers++] = (struct http_header){xstrdup(name), xstrdup(value), flags};
}

static void wipe(char *text)
{
    if (text)
        explicit_bzero(text, strlen(text));
    free(text);
}

void http_request_fini(struct http_request *r)
{
    for (size_t i = 0; i < r->n_headers; i++) {
        free(r->headers[i].name);
        wipe(r->headers[i].value);
    }
    free(r->headers);
    free(r->method);
    wipe(r->url);
    if (r->body)
        explicit_bzero(r->body, r->body_len);
    free(r->body);
    free(r->sign.scheme);
    free(r->sign.user);
    wipe(r->sign.password);
    *r = (struct http_request){0};
}

/* ---- the multi handle ---- */

static void open_multi(struct http_client *c)
{
    loop_timer_stop(c->loop, &c->idle);
    if (c->multi.handle)
        return;
    http_multi_open(&c->multi);
    c->lib->curl_multi_setopt(c->multi.handle, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)HTTP_CONNECTIONS_MAX);
    c->lib->curl_multi_setopt(c->multi.handle, CURLMOPT_MAXCONNECTS, (long)HTTP_CONNECTIONS_KEPT);
}

static void close_multi(struct http_client *c)
{
    loop_timer_stop(c->loop, &c->idle);
    http_multi_close(&c->multi);
}

static void on_idle(struct timer *timer, void *ctx)
{
    (void)timer;
    close_multi(ctx);
}

/* ---- one transfer ---- */

static void leave_multi(struct http_transfer *t)
{
    struct http_client *c = t->client;
    if (!t->added)
        return;
    assert(c);
    c->lib->curl_multi_remove_handle(c->multi.handle, t->easy);
    t->added = false;
    if (--c->under_way == 0)
        loop_timer_start(c->loop, &c->idle, HTTP_IDLE_MS);
}

static void forget_headers(struct http_transfer *t)
{
    for (size_t i = 0; i < t->n_heard; i++) {
        free(t->heard[i].name);
        free(t->heard[i].value);
    }
    free(t->heard);
    t->heard = NULL;
    t->n_heard = 0;
}

static void transfer_free(struct http_transfer *t)
{
    forget_headers(t);
    if (t->easy)
        t->lib->curl_easy_cleanup(t->easy);
    if (t->headers)
        t->lib->curl_slist_free_all(t->headers);
    wipe(t->user);
    wipe(t->password);
    wipe(t->proxy);
    fields_fini(&tls_fields, &t->tls);
    tls_files_fini(&t->files);
    buf_fini(&t->answer.body);
    http_request_fini(&t->request);
    free(t);
}

/* Out of the client; what it is told of afterwards is nothing. */
static void leave(struct http_transfer *t)
{
    struct http_client *c = t->client;
    assert(c); /* once */
    leave_multi(t);
    loop_task_cancel(c->loop, &t->failed);
    loop_task_cancel(c->loop, &t->go_on);
    DL_DELETE(c->transfers, t);
    t->client = NULL;
}

static void finish(struct http_transfer *t)
{
    leave(t);
    t->done(t->ctx, &t->answer);
    transfer_free(t);
}

static void tell_failure(void *ctx)
{
    finish(ctx);
}

static bool moved(const struct http_transfer *t, long status)
{
    return t->request.max_redirects > 0 &&
           (status == 301 || status == 302 || status == 303 || status == 307 || status == 308);
}

/* An answer that is told as it comes has its headers; it is none if it leads elsewhere. */
static void tell_head(struct http_transfer *t)
{
    struct http_head head = {.headers = t->heard, .n_headers = t->n_heard};
    t->lib->curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &head.status);
    if (t->headed || head.status < 200 || (moved(t, head.status) && http_head_get(&head, "Location")))
        return;
    t->headed = true;
    t->request.stream->head(t->ctx, &head);
}

static size_t on_stream(struct http_transfer *t, const char *data, size_t len)
{
    if (t->held)
        return CURL_WRITEFUNC_PAUSE; /* it comes again */
    if (t->headed)
        t->request.stream->data(t->ctx, data, len);
    return len;
}

static size_t on_body(char *data, size_t size, size_t n, void *ctx)
{
    struct http_transfer *t = ctx;
    if (t->request.stream)
        return on_stream(t, data, size * n);
    size_t len = size * n, room = t->request.max_body_bytes - t->answer.body.len;
    buf_add(&t->answer.body, data, MIN(len, room));
    t->answer.cut = len > room;
    return t->answer.cut ? CURL_WRITEFUNC_ERROR : len;
}

const char *http_head_get(const struct http_head *h, const char *name)
{
    for (size_t i = 0; i < h->n_headers; i++)
        if (strcasecmp(h->headers[i].name, name) == 0)
            return h->headers[i].value;
    return NULL;
}

static void hear(struct http_transfer *t, const char *line, size_t len)
{
    const char *colon = memchr(line, ':', len), *end = line + len;
    if (!colon || t->n_heard >= HEARD_MAX)
        return;
    const char *value = colon + 1;
    while (end > value && strchr(" \t\r\n", end[-1]))
        end--;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    t->heard = xreallocarray(t->heard, t->n_heard + 1, sizeof(*t->heard));
    t->heard[t->n_heard++] = (struct http_header){.name = xstrndup(line, (size_t)(colon - line)),
                                                  .value = xstrndup(value, (size_t)(end - value))};
}

/* The status line has the reason. */
static size_t on_header(char *data, size_t size, size_t n, void *ctx)
{
    struct http_transfer *t = ctx;
    size_t len = size * n, put = 0;
    if (len < 5 || strncmp(data, "HTTP/", 5) != 0) {
        if (t->request.stream && len <= 2 && strchr("\r\n", *data))
            tell_head(t);
        else if (t->request.stream)
            hear(t, data, len);
        return len;
    }
    forget_headers(t);
    const char *end = data + len, *p = memchr(data, ' ', len);
    p = p ? memchr(p + 1, ' ', (size_t)(end - p - 1)) : NULL;
    for (; p && p < end && put + 1 < sizeof(t->answer.reason); p++)
        if (*p > ' ' || (*p == ' ' && put > 0))
            t->answer.reason[put++] = *p;
    t->answer.reason[put] = '\0';
    return len;
}

static void set_always(struct http_transfer *t)
{
    struct http_lib *l = t->lib;
    CURL *e = t->easy;
    l->curl_easy_setopt(e, CURLOPT_PRIVATE, t);
    l->curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->text);
    l->curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    l->curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L); /* an early end does not wait for the thread that resolves a name */
    l->curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    l->curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    l->curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L);
    l->curl_easy_setopt(e, CURLOPT_USERAGENT, USER_AGENT);
    l->curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L); /* whoever is gone without a word is noticed */
    l->curl_easy_setopt(e, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    l->curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)(t->request.connect_timeout_seconds * 1000));
    l->curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    l->curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
    l->curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    l->curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
    if (!t->proxy || *t->proxy)
        l->curl_easy_setopt(e, CURLOPT_PROXY, t->proxy ? t->proxy : "");
    http_set_tls(l, e, t->own_tls ? &t->tls : NULL, &t->files);
}

static void add_line(struct http_transfer *t, const char *line)
{
    struct curl_slist *list = t->lib->curl_slist_append(t->headers, line);
    if (list)
        t->headers = list;
}

static void set_headers(struct http_transfer *t)
{
    bool typed = false;
    if (t->headers)
        t->lib->curl_slist_free_all(t->headers);
    t->headers = NULL;
    add_line(t, "Expect:");
    for (size_t i = 0; i < t->request.n_headers; i++) {
        const struct http_header *h = &t->request.headers[i];
        if (h->flags & HTTP_HEADER_OF_BODY ? !t->request.body : t->foreign && !(h->flags & HTTP_HEADER_ANYWHERE))
            continue;
        /* A name and a colon alone would mean: leave it out. */
        char *line = *h->value ? xasprintf("%s: %s", h->name, h->value) : xasprintf("%s;", h->name);
        add_line(t, line);
        wipe(line);
        typed = typed || strcasecmp(h->name, "content-type") == 0;
    }
    if (!typed)
        add_line(t, "Content-Type:"); /* not the one of forms */
    t->lib->curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
}

/* POST, PUT and PATCH have a body, be it empty. */
static void set_method(struct http_transfer *t)
{
    struct http_lib *l = t->lib;
    const struct http_request *r = &t->request;
    bool body = r->body || streq(r->method, "POST") || streq(r->method, "PUT") || streq(r->method, "PATCH");
    l->curl_easy_setopt(t->easy, CURLOPT_HTTPGET, 1L);
    if (streq(r->method, "HEAD")) {
        l->curl_easy_setopt(t->easy, CURLOPT_NOBODY, 1L);
    } else if (body) {
        l->curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, r->body ? r->body : "");
        l->curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body_len);
    }
    l->curl_easy_setopt(t->easy, CURLOPT_CUSTOMREQUEST, streq(r->method, "HEAD") ? NULL : r->method);
}

/* Where the transfer goes next: its URL, credentials, headers, method. */
static int aim(struct http_transfer *t, const char *url, bool first, struct error *err)
{
    struct http_lib *l = t->lib;
    _cleanup_(freep) char *clean = NULL;
    struct http_origin origin = {0};
    int r = http_url_parse(l, url, &clean, &origin, first ? &t->user : NULL, first ? &t->password : NULL, err);
    if (r < 0)
        return r;
    if (!first && streq(t->origin.scheme, "https") && !streq(origin.scheme, "https"))
        return error_set(err, -EPROTO, "refused to be redirected from https to http");
    t->foreign = t->foreign || (!first && !http_origin_equal(&t->origin, &origin));
    t->origin = origin;
    if (!first)
        snprintf(t->answer.origin, sizeof(t->answer.origin), "%s://%s:%d", origin.scheme, origin.host, origin.port);
    l->curl_easy_setopt(t->easy, CURLOPT_URL, clean);
    l->curl_easy_setopt(t->easy, CURLOPT_USERNAME, t->foreign ? NULL : t->user);
    l->curl_easy_setopt(t->easy, CURLOPT_PASSWORD, t->foreign ? NULL : t->password);
    if (t->request.sign.scheme && !t->foreign) {
        l->curl_easy_setopt(t->easy, CURLOPT_AWS_SIGV4, t->request.sign.scheme);
        l->curl_easy_setopt(t->easy, CURLOPT_USERNAME, t->request.sign.user);
        l->curl_easy_setopt(t->easy, CURLOPT_PASSWORD, t->request.sign.password);
    }
    set_method(t);
    set_headers(t);
    open_multi(t->client);
    CURLMcode code = l->curl_multi_add_handle(t->client->multi.handle, t->easy);
    if (code != CURLM_OK)
        return error_set(err, -EIO, "%s", l->curl_multi_strerror(code));
    t->added = true;
    t->client->under_way++;
    return 0;
}

static int begin(struct http_transfer *t)
{
    t->easy = t->lib->curl_easy_init();
    if (!t->easy)
        return error_set(&t->answer.error, -ENOMEM, "no memory");
    set_always(t);
    return aim(t, t->request.url, true, &t->answer.error);
}

/* True: it goes on elsewhere, or cannot (the answer then has an error). */
static bool redirected(struct http_transfer *t)
{
    char *location = NULL;
    long status = t->answer.status;
    t->lib->curl_easy_getinfo(t->easy, CURLINFO_REDIRECT_URL, &location);
    if (!location || !moved(t, status))
        return false;
    struct error *err = &t->answer.error;
    if (++t->redirects > t->request.max_redirects) {
        error_set(err, -ELOOP, "more than %lld redirects", (long long)t->request.max_redirects);
        return true;
    }
    _cleanup_(freep) char *url = xstrdup(location); /* libcurl's own until then */
    bool head = streq(t->request.method, "HEAD");
    if ((status == 303 && !head) ||
        ((status == 301 || status == 302) && streq(t->request.method, "POST") && !t->request.redirects_keep)) {
        free(t->request.method);
        t->request.method = xstrdup("GET");
        if (t->request.body)
            explicit_bzero(t->request.body, t->request.body_len);
        free(t->request.body);
        t->request.body = NULL;
        t->request.body_len = 0;
    }
    t->answer.body.len = 0;
    t->answer.cut = false;
    if (aim(t, url, false, err) < 0)
        error_wrap(err, "redirect");
    return true;
}

static void ended(struct http_transfer *t, CURLcode code)
{
    struct http_answer *a = &t->answer;
    curl_off_t wait = 0;
    leave_multi(t);
    t->lib->curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &a->status);
    bool whole = code == CURLE_OK || (code == CURLE_WRITE_ERROR && a->cut);
    if (whole && redirected(t)) {
        if (a->error.code == 0)
            return;
        whole = false;
    }
    if (!whole && a->error.code == 0)
        error_set(&a->error, code == CURLE_OPERATION_TIMEDOUT ? -ETIMEDOUT : -EIO, "%s",
                  *t->text ? t->text : t->lib->curl_easy_strerror(code));
    if (whole && (a->status == 429 || a->status == 503) &&
        t->lib->curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &wait) == CURLE_OK && wait > 0)
        a->retry_after_seconds = (double)wait;
    finish(t);
}

static void on_ended(void *ctx, CURL *easy, CURLcode code)
{
    struct http_client *c = ctx;
    struct http_transfer *t = NULL;
    if (c->lib->curl_easy_getinfo(easy, CURLINFO_PRIVATE, &t) == CURLE_OK)
        ended(t, code);
}

/* ---- before it ---- */

static void prepare(void *ctx)
{
    struct http_transfer *t = ctx;
    struct error *err = &t->answer.error;
    if (http_lib_load(t->lib, err) == 0 && t->own_tls)
        tls_files_read(&t->tls, t->avoid, &t->files, err);
}

static void prepared(void *ctx)
{
    struct http_transfer *t = ctx;
    struct http_client *c = t->client;
    struct loop_group *group = steal(&t->holding);
    if (c && (t->answer.error.code != 0 || begin(t) < 0))
        finish(t);
    else if (!c)
        transfer_free(t);
    loop_group_release(group);
}

static void go_on(void *ctx)
{
    struct http_transfer *t = ctx;
    if (t->held || !t->added)
        return;
    t->lib->curl_easy_pause(t->easy, CURLPAUSE_CONT);
}

struct http_transfer *http_client_send(struct http_client *c, struct http_request *r, http_done_fn *done, void *ctx)
{
    struct http_transfer *t = xcalloc(1, sizeof(*t));
    *t = (struct http_transfer){.client = c, .request = *r, .done = done, .ctx = ctx, .lib = c->lib, .avoid = c->avoid};
    t->proxy = xstrdup0(r->proxy);
    if (r->tls) {
        t->own_tls = true;
        t->tls = tls_config_copy(r->tls);
    }
    *r = (struct http_request){0};
    loop_task_init(&t->failed, tell_failure, t);
    loop_task_init(&t->go_on, go_on, t);
    DL_APPEND(c->transfers, t);
    if (t->own_tls || !http_lib_loaded(c->lib)) {
        t->holding = &c->group;
        loop_group_hold(&c->group);
        loop_work_submit(c->loop, &t->work, prepare, prepared, t);
    } else if (begin(t) < 0) {
        loop_defer(c->loop, &t->failed);
    }
    return t;
}

void http_transfer_cancel(struct http_transfer *t)
{
    leave(t);
    if (!t->holding)
        transfer_free(t);
}

void http_transfer_hold(struct http_transfer *t, bool hold)
{
    if (t->held == hold)
        return;
    t->held = hold;
    if (!hold)
        loop_defer(t->client->loop, &t->go_on);
}

struct http_client *http_client_create(struct loop *loop, const struct self_mount *avoid)
{
    struct http_client *c = xcalloc(1, sizeof(*c));
    *c = (struct http_client){.loop = loop, .avoid = avoid, .lib = http_lib_create()};
    loop_group_init(&c->group, loop);
    http_multi_init(&c->multi, loop, &c->group, c->lib, on_ended, c);
    timer_init(&c->idle, on_idle, c);
    return c;
}

struct http_lib *http_client_lib(struct http_client *c)
{
    return c->lib;
}

struct loop_group *http_client_group(struct http_client *c)
{
    return &c->group;
}

const struct self_mount *http_client_avoid(const struct http_client *c)
{
    return c->avoid;
}

static void gone(void *ctx)
{
    struct http_client *c = ctx;
    void (*closed)(void *ctx) = c->closed;
    void *closed_ctx = c->closed_ctx;
    http_lib_destroy(c->lib);
    free(c);
    closed(closed_ctx);
}

void http_client_close(struct http_client *c, void (*done)(void *ctx), void *ctx)
{
    struct http_transfer *t, *next;
    DL_FOREACH_SAFE (c->transfers, t, next)
        http_transfer_cancel(t);
    close_multi(c);
    c->closed = done;
    c->closed_ctx = ctx;
    loop_group_close(&c->group, gone, c);
}
