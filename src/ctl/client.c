#include "ctl/client.h"

#include "base/util.h"

#include <curl/curl.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <strings.h>

struct client {
    CURL *curl;
    char *target; /* for messages */
    char *base;   /* of URLs, without a slash at the end */
    struct curl_slist *headers;
};

static bool is_url(const char *target)
{
    return strncasecmp(target, "http://", 7) == 0 || strncasecmp(target, "https://", 8) == 0;
}

/* A header that the environment hands on; one that could break out of its line is left out. */
static void hand_on(struct client *c, const char *variable, const char *format)
{
    const char *value = getenv(variable);
    if (!value || !*value)
        return;
    for (const char *p = value; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return;
    struct buf b = {0};
    buf_adds(&b, format);
    buf_adds(&b, value);
    c->headers = curl_slist_append(c->headers, b.data);
    buf_fini(&b);
}

int client_create(const char *target, struct client **ret, struct error *err)
{
    struct client *c = xcalloc(1, sizeof(*c));
    bool url = is_url(target);
    size_t len = strlen(target);
    c->target = xstrdup(target);
    c->curl = curl_easy_init();
    if (!c->curl) {
        client_destroy(c);
        return error_set(err, -ENOMEM, "libcurl could not be set up");
    }
    while (len > 0 && target[len - 1] == '/')
        len--;
    c->base = url ? xstrndup(target, len) : xstrdup("http://localhost");
    if (!url) {
        curl_easy_setopt(c->curl, CURLOPT_UNIX_SOCKET_PATH, target);
        curl_easy_setopt(c->curl, CURLOPT_PROXY, "");
    }
    curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c->curl, CURLOPT_CONNECTTIMEOUT, CLIENT_CONNECT_SECONDS);
    curl_easy_setopt(c->curl, CURLOPT_TIMEOUT, CLIENT_ANSWER_SECONDS);
    curl_easy_setopt(c->curl, CURLOPT_USERAGENT, "triggerctl/" TRIGGERD_VERSION);
    c->headers = curl_slist_append(c->headers, "Content-Type: application/json");
    c->headers = curl_slist_append(c->headers, "Expect:");
    hand_on(c, "TRIGGERD_RUN_ID", "Triggerd-Parent-Run: ");
    hand_on(c, "TRACEPARENT", "traceparent: ");
    if (url)
        hand_on(c, "TRIGGERD_TOKEN", "Authorization: Bearer ");
    *ret = c;
    return 0;
}

void client_hurry(struct client *c, long ms)
{
    curl_easy_setopt(c->curl, CURLOPT_TIMEOUT_MS, ms);
}

void client_destroy(struct client *c)
{
    if (!c)
        return;
    curl_slist_free_all(c->headers);
    curl_easy_cleanup(c->curl);
    free(c->base);
    free(c->target);
    free(c);
}

static size_t take(char *data, size_t size, size_t n, void *ctx)
{
    buf_add(ctx, data, size * n);
    return size * n;
}

static int failure(const struct client *c, CURLcode code, const char *detail, struct error *err)
{
    const char *why = *detail ? detail : curl_easy_strerror(code);
    switch (code) {
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_URL_MALFORMAT: {
        long number = 0;
        curl_easy_getinfo(c->curl, CURLINFO_OS_ERRNO, &number);
        if (number == EACCES)
            return error_set(err, -ECONNREFUSED, "no way in to the daemon at %s: it is its user's and root's (sudo)",
                             c->target);
        return error_set(err, -ECONNREFUSED, "no daemon at %s: %s", c->target, number ? strerror((int)number) : why);
    }
    case CURLE_OPERATION_TIMEDOUT:
        return error_set(err, -ETIMEDOUT, "no answer from %s: %s", c->target, why);
    default:
        return error_set(err, -EIO, "%s: %s", c->target, why);
    }
}

/* ---- streams ---- */

struct following {
    struct client *client;
    const struct client_stream *stream;
    struct buf refusal;
    bool began, enough;
};

static size_t take_piece(char *data, size_t size, size_t n, void *ctx)
{
    struct following *f = ctx;
    long status = 0;
    curl_easy_getinfo(f->client->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200)
        return take(data, size, n, &f->refusal);
    f->began = true;
    f->enough = f->enough || !f->stream->take(f->stream->ctx, data, size * n);
    return f->enough ? 0 : size * n;
}

static size_t take_header(char *data, size_t size, size_t n, void *ctx)
{
    struct following *f = ctx;
    long status = 0;
    curl_easy_getinfo(f->client->curl, CURLINFO_RESPONSE_CODE, &status);
    if (size * n == 2 && memcmp(data, "\r\n", 2) == 0 && status == 200 && !f->began) {
        f->began = true;
        f->enough = f->enough || !f->stream->began(f->stream->ctx);
    }
    return f->enough ? 0 : size * n;
}

/* As curl_easy_perform(), which wakes every second, whatever comes. */
static CURLcode perform(CURL *curl)
{
    CURLM *multi = curl_multi_init();
    CURLcode code = CURLE_OUT_OF_MEMORY;
    int running = 0, left;
    CURLMcode r = multi ? curl_multi_add_handle(multi, curl) : CURLM_OUT_OF_MEMORY;
    while (r == CURLM_OK && (r = curl_multi_perform(multi, &running)) == CURLM_OK && running)
        r = curl_multi_poll(multi, NULL, 0, INT_MAX, NULL); /* it knows its own time-outs */
    for (const CURLMsg *m; r == CURLM_OK && (m = curl_multi_info_read(multi, &left));)
        code = m->data.result;
    if (multi)
        curl_multi_remove_handle(multi, curl);
    curl_multi_cleanup(multi);
    return code;
}

int client_follow(struct client *c, const struct client_stream *stream, struct client_reply *ret, bool *ret_began,
                  struct error *err)
{
    struct following f = {.client = c, .stream = stream};
    char detail[CURL_ERROR_SIZE] = "";
    struct curl_slist id_header = {0};
    _cleanup_(freep) char *url = xasprintf("%s%s", c->base, stream->path);
    _cleanup_(freep) char *id = stream->last_event_id ? xasprintf("Last-Event-ID: %s", stream->last_event_id) : NULL;
    if (id)
        id_header = (struct curl_slist){.data = id, .next = c->headers};
    curl_easy_setopt(c->curl, CURLOPT_URL, url);
    curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, id ? &id_header : c->headers);
    curl_easy_setopt(c->curl, CURLOPT_ERRORBUFFER, detail);
    curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, take_piece);
    curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, &f);
    curl_easy_setopt(c->curl, CURLOPT_HTTPGET, 1L);
    curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, "GET");
    curl_easy_setopt(c->curl, CURLOPT_TIMEOUT_MS, stream->timeout_ms);
    curl_easy_setopt(c->curl, CURLOPT_HEADERFUNCTION, stream->began ? take_header : NULL);
    curl_easy_setopt(c->curl, CURLOPT_HEADERDATA, stream->began ? &f : NULL);
    CURLcode code = perform(c->curl);
    curl_easy_setopt(c->curl, CURLOPT_HEADERFUNCTION, NULL);
    curl_easy_setopt(c->curl, CURLOPT_HEADERDATA, NULL);
    curl_easy_setopt(c->curl, CURLOPT_TIMEOUT, CLIENT_ANSWER_SECONDS);
    curl_easy_setopt(c->curl, CURLOPT_ERRORBUFFER, NULL);
    curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, NULL);
    *ret_began = f.began;
    if (code != CURLE_OK && !f.enough) {
        buf_fini(&f.refusal);
        return failure(c, code, detail, err);
    }
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &ret->status);
    ret->len = f.refusal.len;
    ret->body = buf_steal(&f.refusal);
    return 0;
}

int client_request(struct client *c, const struct client_request *request, struct client_reply *ret, struct error *err)
{
    struct buf body = {0};
    char detail[CURL_ERROR_SIZE] = "";
    struct curl_slist key_header = {0};
    _cleanup_(freep) char *url = xasprintf("%s%s", c->base, request->path);
    _cleanup_(freep) char *key =
        request->idempotency_key ? xasprintf("Idempotency-Key: %s", request->idempotency_key) : NULL;
    if (key)
        key_header = (struct curl_slist){.data = key, .next = c->headers};
    curl_easy_setopt(c->curl, CURLOPT_URL, url);
    curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, key ? &key_header : c->headers);
    curl_easy_setopt(c->curl, CURLOPT_ERRORBUFFER, detail);
    curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, &body);
    if (request->body || streq(request->method, "POST")) {
        curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, request->body ? request->body : "");
        curl_easy_setopt(c->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_len);
    } else {
        curl_easy_setopt(c->curl, CURLOPT_HTTPGET, 1L);
    }
    curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, request->method);
    CURLcode code = curl_easy_perform(c->curl);
    curl_easy_setopt(c->curl, CURLOPT_ERRORBUFFER, NULL);
    curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, NULL);
    if (code != CURLE_OK) {
        buf_fini(&body);
        return failure(c, code, detail, err);
    }
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &ret->status);
    ret->len = body.len;
    ret->body = buf_steal(&body);
    return 0;
}
