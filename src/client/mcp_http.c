/* MCP over streamable HTTP: each message is a POST, whose answer is a message or a stream of them; a GET holds a stream
 * for what the server says of itself.
 *
 * What comes is gathered by each transfer and looked at from the loop, never inside of libcurl, which must not be called
 * back from there. A transfer with more than GATHERED_MAX unread, or all of a link that is held, is not read from.
 *
 *   POST  202, 204              nothing to come
 *         2xx JSON              messages
 *         2xx event stream      messages; where it ends before the answer, and had ids, it is taken up by a GET with
 *                               `Last-Event-ID` after the time that `retry:` gives
 *         404, had a session    the session is over: begin anew, this request with it
 *         no answer             that request fails; the connection too, where no GET would find out
 *         other                 that request fails; the connection too, if it was `notifications/initialized`
 *   GET   2xx event stream      messages; where it ends it is asked for again, likewise
 *         405; 4xx, no session  there is no such stream, which is well
 *         4xx, had a session    it was heard before: begin anew; else a request is to tell whether the session is over
 *         2xx of another type   there is none, if none was heard before
 *         else, or no answer    deaf; asked again after 0.5 s, doubling to 8 s
 *
 * A connection that is over ebbs first: what streams have brought, or bring yet within EBB_MS, is told.
 */
#include "base/mask.h"
#include "base/util.h"
#include "client/mcp_link.h"
#include "client/mcp_message.h"
#include "client/mcp_sse.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <strings.h>
#include <utlist.h>

#define GATHERED_MAX ((size_t)256 * 1024)
#define RETRY_DEFAULT_MS 1000
#define RETRY_MAX_MS 60000
#define RETRY_VAIN_MS 100 /* at least, after a stream that brought nothing */
#define DEAF_MIN_MS 500
#define DEAF_MAX_MS 8000
#define DELETE_MS 2000
#define RESUMES_MAX 100 /* of one answer, without an event between */
#define LINGER_MS 30000 /* a stream that goes on after the answer that it was for */
#define BODY_SHOWN 300
#define SESSION_MAX 4096
#define EBB_MS 250
#define EBB_ROUNDS 20 /* of EBB_MS, while something comes */

/* One exchange: a POST, or the GET (id 0 and no text). */
struct exchange {
    struct mcp_link *link;
    int64_t id;  /* of the request that it waits for; 0: none */
    bool get;    /* it listens */
    bool resume; /* of a POST's stream that broke off: a GET with the last event's id */
    struct http_transfer *transfer;
    long status;
    bool is_sse, is_json, headed, ended, working, too_large;
    bool brought; /* this stream did: a message */
    bool waits;   /* for the first notification to be taken */
    char *text;   /* until the server has taken it; NULL: a GET, or it has */
    size_t len;
    struct http_answer answer; /* of `ended`: its error */
    struct buf in;             /* came, and was not looked at */
    struct sse sse;
    int resumes;
    int64_t deaf_ms; /* the next wait */
    struct loop_task work;
    struct timer again;
    struct exchange *prev, *next;
};

struct mcp_link {
    struct loop *loop;
    struct http_client *http;
    struct random *random;
    struct mcp_link_events events;
    void *ctx;
    char *url;
    cJSON *headers;
    double timeout_seconds;
    char *session; /* NULL: none */
    char *version; /* as agreed; NULL: not yet */
    bool held, over, deaf, closing;
    bool heard;                 /* there is a stream for it */
    bool listens;               /* … or may be: it is asked for */
    struct exchange *announced; /* `initialized` is on its way: what follows waits; NULL: nothing does */
    bool announce;              /* the next one is that */
    struct exchange *exchanges; /* a utlist */
    struct timer patience;      /* of the DELETE */
    bool ebbs, ebb_anew, ebb_moved;
    int ebb_rounds;
    const char *ebb_reason; /* of the end that is told when it has ebbed */
    char *ebb_why;
    struct timer ebb;
    struct loop_task gone;
    void (*done)(void *ctx);
    void *done_ctx;
};

static void exchange_start(struct exchange *x);

static void exchange_free(struct exchange *x)
{
    struct mcp_link *l = x->link;
    if (x->transfer)
        http_transfer_cancel(x->transfer);
    if (l->announced == x)
        l->announced = NULL;
    loop_task_cancel(l->loop, &x->work);
    loop_timer_stop(l->loop, &x->again);
    DL_DELETE(l->exchanges, x);
    l->listens = l->listens && !x->get;
    secret_free(x->text);
    sse_fini(&x->sse);
    buf_fini(&x->in);
    free(x);
}

/* Does one of its streams bring something yet? */
static bool streams(const struct mcp_link *l)
{
    const struct exchange *x;
    DL_FOREACH (l->exchanges, x) {
        if (x->is_sse && (x->transfer || x->in.len > 0))
            return true;
    }
    return false;
}

static void on_ebb(struct timer *timer, void *ctx)
{
    struct mcp_link *l = ctx;
    bool on = streams(l) && (l->held || (l->ebb_moved && ++l->ebb_rounds < EBB_ROUNDS));
    l->ebb_moved = false;
    if (on) {
        loop_timer_start(l->loop, timer, EBB_MS);
        return;
    }
    struct exchange *x;
    DL_FOREACH (l->exchanges, x) {
        if (x->waits && x->id)
            l->events.unsent(l->ctx, x->id, steal(&x->text));
    }
    l->over = true;
    l->events.lost(l->ctx, l->ebb_reason, l->ebb_why, l->ebb_anew);
}

static void lose(struct mcp_link *l, const char *reason, const char *why, bool anew)
{
    if (l->ebbs || l->over || l->closing)
        return;
    l->ebbs = true;
    l->ebb_reason = reason;
    l->ebb_why = xstrdup(why);
    l->ebb_anew = anew;
    loop_timer_start(l->loop, &l->ebb, streams(l) ? EBB_MS : 0);
}

/* An exchange of a link that ebbs is over. */
static void ebbed(struct exchange *x)
{
    struct mcp_link *l = x->link;
    exchange_free(x);
    if (!streams(l))
        loop_timer_start(l->loop, &l->ebb, 0);
}

static void set_deaf(struct mcp_link *l, const char *reason, const char *why)
{
    if (!reason && !l->deaf)
        return;
    l->deaf = reason != NULL;
    if (!l->ebbs && !l->over && !l->closing)
        l->events.deaf(l->ctx, reason, why);
}

/* ---- what an exchange ends in ---- */

/* The word for a condition. */
static const char *reason_of(const char *error)
{
    if (strcasestr(error, "refused") || strcasestr(error, "connect to"))
        return "ConnRefused";
    if (strcasestr(error, "resolve"))
        return "HostUnknown";
    if (strcasestr(error, "certificate") || strcasestr(error, "SSL") || strcasestr(error, "TLS"))
        return "TlsFailed";
    return "ConnLost";
}

/* What a status says, with the beginning of its body where that is text. */
static char *status_text(const struct exchange *x)
{
    struct buf shown = {0};
    _cleanup_(freep) char *head = x->in.len ? xstrndup(x->in.data, MIN(x->in.len, (size_t)BODY_SHOWN)) : NULL;
    if (head)
        text_escape(&shown, head);
    char *text = xasprintf("HTTP %ld%s%s", x->status, shown.len ? ": " : "", shown.len ? shown.data : "");
    buf_fini(&shown);
    return text;
}

static void refuse(struct exchange *x, const char *why)
{
    struct mcp_link *l = x->link;
    int64_t id = x->id;
    exchange_free(x);
    if (id && !l->over && !l->closing)
        l->events.refused(l->ctx, id, why);
}

static void again(struct exchange *x, int64_t wait_ms)
{
    sse_end(&x->sse);
    buf_fini(&x->in);
    x->headed = x->ended = x->is_sse = x->is_json = x->brought = false;
    x->status = 0;
    loop_timer_start(x->link->loop, &x->again, MIN(wait_ms, RETRY_MAX_MS));
}

static void on_again(struct timer *timer, void *ctx)
{
    (void)timer;
    struct exchange *x = ctx;
    struct mcp_link *l = x->link;
    if (l->ebbs) {
        exchange_free(x);
    } else if (x->get || x->id) {
        exchange_start(x);
    } else if (l->announced == x) {
        _cleanup_(freep) char *why = xasprintf("notifications/initialized: no answer within %g s", l->timeout_seconds);
        exchange_free(x);
        lose(l, "InitializeTimeout", why, false);
    } else {
        exchange_free(x);
    }
}

/* As the server said, and else with some chance in it. */
static int64_t retry_of(const struct exchange *x)
{
    int64_t ms =
        x->sse.any_retry ? x->sse.retry_ms : (int64_t)(RETRY_DEFAULT_MS * (0.8 + 0.4 * random_unit(x->link->random)));
    return x->brought ? ms : MAX(ms, RETRY_VAIN_MS);
}

static bool succeeded(const struct exchange *x)
{
    return x->headed && x->status >= 200 && x->status < 300;
}

static void get_failed(struct exchange *x)
{
    struct mcp_link *l = x->link;
    const char *error = x->answer.error.code != 0 ? x->answer.error.message : NULL;
    _cleanup_(freep) char *status = error          ? NULL
                                    : succeeded(x) ? xasprintf("HTTP %ld, and no event stream", x->status)
                                                   : status_text(x);
    set_deaf(l, error ? reason_of(error) : "HttpStatus", error ? error : status);
    x->deaf_ms = x->deaf_ms ? MIN(x->deaf_ms * 2, DEAF_MAX_MS) : DEAF_MIN_MS;
    again(x, (int64_t)((double)x->deaf_ms * (0.8 + 0.4 * random_unit(l->random))));
}

static void get_ended(struct exchange *x)
{
    struct mcp_link *l = x->link;
    bool refused = x->headed && x->status >= 400 && x->status < 500 && x->status != 429;
    if (succeeded(x) && x->is_sse) { /* it broke off, or was closed: servers do that */
        again(x, retry_of(x));
    } else if (refused && l->session && l->heard && x->status != 405) {
        _cleanup_(freep) char *why = status_text(x);
        exchange_free(x);
        lose(l, "SessionEnded", why, true);
    } else if (refused || (succeeded(x) && !l->heard)) { /* there is none */
        bool doubt = refused && l->session && x->status != 405;
        exchange_free(x);
        set_deaf(l, NULL, NULL);
        if (doubt)
            l->events.doubt(l->ctx);
    } else {
        get_failed(x);
    }
}

/* The stream of an answer, or its GET, is over and the answer has not come. */
static bool resumed(struct exchange *x)
{
    if (!x->sse.id || !x->id || ++x->resumes > RESUMES_MAX)
        return false;
    bool server_trouble = x->status >= 500 || x->answer.error.code != 0;
    if (!(succeeded(x) && x->is_sse) && !(x->resume && server_trouble))
        return false;
    x->resume = true;
    again(x, retry_of(x));
    return true;
}

static void start_waiting(struct mcp_link *l)
{
    struct exchange *x;
    l->announced = NULL;
    DL_FOREACH (l->exchanges, x) {
        if (x->waits)
            exchange_start(x);
    }
}

/* The server may have dealt with it or not. */
static void post_broke(struct exchange *x, bool announcing)
{
    struct mcp_link *l = x->link;
    _cleanup_(freep) char *why = xstrdup(x->answer.error.message);
    if (l->listens && !announcing) { /* whether the server is there is for the GET to say */
        refuse(x, why);
    } else {
        exchange_free(x);
        lose(l, reason_of(why), why, false);
    }
}

static void post_refused(struct exchange *x, bool announcing)
{
    struct mcp_link *l = x->link;
    _cleanup_(freep) char *status = status_text(x);
    if (announcing) {
        _cleanup_(freep) char *why = xasprintf("notifications/initialized: %s", status);
        exchange_free(x);
        lose(l, "InitializeFailed", why, false);
    } else {
        refuse(x, status);
    }
}

static void post_ended(struct exchange *x)
{
    struct mcp_link *l = x->link;
    bool announcing = l->announced == x;
    if (resumed(x))
        return;
    if (x->too_large) {
        refuse(x, "the answer is larger than 16 MiB");
    } else if (x->answer.error.code != 0) {
        post_broke(x, announcing);
    } else if (x->status == 404 && l->session) {
        if (x->id && x->text)
            l->events.unsent(l->ctx, x->id, steal(&x->text));
        exchange_free(x);
        lose(l, "SessionEnded", "the server has forgotten the session (HTTP 404)", true);
    } else if (succeeded(x)) {
        bool accepted = x->status == 202 || x->status == 204;
        refuse(x, accepted ? "the server took the request and gave no answer" : "the answer ended without a message");
    } else {
        post_refused(x, announcing);
    }
}

/* ---- what comes ---- */

static void take_message(struct exchange *x, const char *text, size_t len)
{
    struct mcp_link *l = x->link;
    if (!l->over && !l->closing)
        l->events.message(l->ctx, text, len);
}

static void on_event(void *ctx, const char *event, const char *data, size_t len)
{
    struct exchange *x = ctx;
    static const char text[] = "a message of more than 16 MiB is left out";
    x->resumes = 0;
    x->brought = true;
    if (!data)
        x->link->events.log(x->link->ctx, text, strlen(text));
    else if (streq(event, "message"))
        take_message(x, data, len);
}

static bool look_at_body(struct exchange *x)
{
    if (x->is_sse && succeeded(x) && x->in.len > 0) {
        struct buf in = x->in;
        x->in = (struct buf){0};
        sse_feed(&x->sse, in.data, in.len, on_event, x);
        buf_fini(&in);
    } else if (x->is_json && x->ended && x->answer.error.code == 0 && !x->too_large && succeeded(x) && x->in.len > 0) {
        struct buf in = x->in;
        x->in = (struct buf){0};
        take_message(x, in.data, in.len);
        buf_fini(&in);
    }
    return !x->link->over && !x->link->closing;
}

static void on_work(void *ctx)
{
    struct exchange *x = ctx;
    struct mcp_link *l = x->link;
    if (l->announced == x && succeeded(x) && !l->ebbs)
        start_waiting(l);
    if (l->held && !x->ended)
        return;
    if (x->get && succeeded(x) && x->is_sse) {
        l->heard = true;
        x->deaf_ms = 0;
        set_deaf(l, NULL, NULL);
    }
    x->working = true; /* forget() leaves it alone */
    bool on = look_at_body(x);
    x->working = false;
    if (!on) /* it goes with the link */
        return;
    if (x->transfer)
        http_transfer_hold(x->transfer, l->held);
    if (!x->ended)
        return;
    if (l->ebbs)
        ebbed(x);
    else if (x->get)
        get_ended(x);
    else
        post_ended(x);
}

static void on_head(void *ctx, const struct http_head *head)
{
    struct exchange *x = ctx;
    struct mcp_link *l = x->link;
    const char *type = http_head_get(head, "Content-Type"), *session = http_head_get(head, "Mcp-Session-Id");
    x->headed = true;
    x->status = head->status;
    x->is_sse = type && strncasecmp(type, "text/event-stream", 17) == 0;
    x->is_json = type && strncasecmp(type, "application/json", 16) == 0;
    if (session && *session && strlen(session) <= SESSION_MAX && !l->version && !x->get) {
        free(l->session);
        l->session = xstrdup(session);
    }
    if (succeeded(x)) { /* it is the server's now */
        secret_free(x->text);
        x->text = NULL;
    }
    loop_defer(l->loop, &x->work);
}

static void on_data(void *ctx, const char *data, size_t len)
{
    struct exchange *x = ctx;
    bool wanted = succeeded(x) && (x->is_sse || x->is_json);
    size_t max = wanted ? MCP_MESSAGE_MAX + 1 : BODY_SHOWN;
    if (x->is_sse && wanted)
        max = SIZE_MAX; /* the parser bounds each of its messages */
    buf_add(&x->in, data, x->in.len < max ? MIN(len, max - x->in.len) : 0);
    if (x->is_sse && wanted) {
        x->link->ebb_moved = true;
        loop_defer(x->link->loop, &x->work);
        if (x->in.len > GATHERED_MAX)
            http_transfer_hold(x->transfer, true);
    }
}

static void on_done(void *ctx, struct http_answer *answer)
{
    struct exchange *x = ctx;
    x->transfer = NULL;
    x->ended = true;
    x->answer.error = answer->error;
    if (!x->headed)
        x->status = answer->status;
    x->too_large = x->is_json && x->in.len > MCP_MESSAGE_MAX;
    loop_defer(x->link->loop, &x->work);
}

static const struct http_stream stream = {on_head, on_data};

/* ---- asking ---- */

static void add_headers(const struct mcp_link *l, struct http_request *r)
{
    const cJSON *item;
    cJSON_ArrayForEach (item, l->headers)
        http_request_header(r, item->string, item->valuestring, 0);
    if (l->session)
        http_request_header(r, "Mcp-Session-Id", l->session, HTTP_HEADER_ANYWHERE); /* whoever answered gave it */
    if (l->version)
        http_request_header(r, "MCP-Protocol-Version", l->version, HTTP_HEADER_ANYWHERE);
}

/* A POST of its text; without one a GET. What nobody waits for does not take longer than what somebody does. */
static void exchange_start(struct exchange *x)
{
    struct mcp_link *l = x->link;
    struct http_request r = {.method = xstrdup(x->text ? "POST" : "GET"),
                             .url = xstrdup(l->url),
                             .body = x->text ? xmemdup(x->text, x->len) : NULL,
                             .body_len = x->text ? x->len : 0,
                             .proxy = "",
                             .connect_timeout_seconds = MIN(l->timeout_seconds, 30.0),
                             .max_redirects = 5,
                             .redirects_keep = true,
                             .stream = &stream};
    x->waits = false;
    add_headers(l, &r);
    http_request_header(&r, "Accept", x->text ? "application/json, text/event-stream" : "text/event-stream",
                        HTTP_HEADER_ANYWHERE);
    if (x->text)
        http_request_header(&r, "Content-Type", "application/json", HTTP_HEADER_ANYWHERE | HTTP_HEADER_OF_BODY);
    else if (x->sse.id)
        http_request_header(&r, "Last-Event-ID", x->sse.id, HTTP_HEADER_ANYWHERE);
    if (!x->get && !x->id)
        loop_timer_start(l->loop, &x->again, (int64_t)(l->timeout_seconds * 1000));
    x->transfer = http_client_send(l->http, &r, on_done, x);
    if (l->held)
        http_transfer_hold(x->transfer, true);
}

static struct exchange *exchange_new(struct mcp_link *l, int64_t id)
{
    struct exchange *x = xcalloc(1, sizeof(*x));
    x->link = l;
    x->id = id;
    x->sse.max = MCP_MESSAGE_MAX;
    loop_task_init(&x->work, on_work, x);
    timer_init(&x->again, on_again, x);
    DL_APPEND(l->exchanges, x);
    return x;
}

static void http_send(struct mcp_link *l, char *text, size_t len, int64_t id)
{
    if (l->over || l->closing) {
        secret_free(text);
        return;
    }
    struct exchange *x = exchange_new(l, id);
    x->text = text;
    x->len = len;
    x->waits = l->announced || l->ebbs;
    if (l->announce)
        l->announced = x;
    l->announce = false;
    if (!x->waits)
        exchange_start(x);
}

static void http_forget(struct mcp_link *l, int64_t id)
{
    struct exchange *x, *tmp;
    DL_FOREACH_SAFE (l->exchanges, x, tmp) {
        if (x->id != id || x->get)
            continue;
        x->id = 0;
        if (!x->working) {
            exchange_free(x);
        } else if (!x->ended) { /* its stream may go on telling, for a while */
            loop_timer_start(l->loop, &x->again, LINGER_MS);
        }
    }
}

static void http_agreed(struct mcp_link *l, const char *version)
{
    free(l->version);
    l->version = xstrdup(version);
    l->announce = true;
}

static void http_listen(struct mcp_link *l)
{
    struct exchange *x = exchange_new(l, 0);
    x->get = l->listens = true;
    x->waits = l->announced != NULL;
    if (!x->waits)
        exchange_start(x);
}

static void http_hold(struct mcp_link *l, bool hold)
{
    struct exchange *x;
    l->held = hold;
    DL_FOREACH (l->exchanges, x) {
        if (x->transfer && (!hold || !x->is_json))
            http_transfer_hold(x->transfer, hold);
        if (!hold && (x->in.len > 0 || x->ended))
            loop_defer(l->loop, &x->work);
    }
}

/* ---- life ---- */

static void on_gone(void *ctx)
{
    struct mcp_link *l = ctx;
    void (*done)(void *) = l->done;
    void *done_ctx = l->done_ctx;
    struct exchange *x, *next;
    DL_FOREACH_SAFE (l->exchanges, x, next)
        exchange_free(x);
    loop_timer_stop(l->loop, &l->patience);
    loop_timer_stop(l->loop, &l->ebb);
    free(l->ebb_why);
    secret_free(l->url);
    cJSON_Delete(l->headers);
    free(l->session);
    free(l->version);
    free(l);
    done(done_ctx);
}

static void on_patience(struct timer *timer, void *ctx)
{
    (void)timer;
    struct mcp_link *l = ctx;
    loop_defer(l->loop, &l->gone);
}

static void deleted(void *ctx, struct http_answer *answer)
{
    (void)answer;
    struct exchange *x = ctx;
    x->transfer = NULL;
    loop_defer(x->link->loop, &x->link->gone);
}

/* The session is given back, where the server may still know it. */
static void http_close(struct mcp_link *l, bool force, void (*done)(void *ctx), void *ctx)
{
    struct exchange *x;
    l->closing = true;
    loop_timer_stop(l->loop, &l->ebb);
    l->done = done;
    l->done_ctx = ctx;
    DL_FOREACH (l->exchanges, x) {
        if (x->transfer)
            http_transfer_cancel(steal(&x->transfer));
        loop_task_cancel(l->loop, &x->work);
        loop_timer_stop(l->loop, &x->again);
    }
    if (!l->session || force || l->ebbs) {
        loop_defer(l->loop, &l->gone);
        return;
    }
    x = exchange_new(l, 0);
    struct http_request r = {.method = xstrdup("DELETE"),
                             .url = xstrdup(l->url),
                             .proxy = "",
                             .connect_timeout_seconds = 1,
                             .max_body_bytes = 4096};
    add_headers(l, &r);
    x->transfer = http_client_send(l->http, &r, deleted, x);
    loop_timer_start(l->loop, &l->patience, DELETE_MS);
}

static struct mcp_link *http_create(const struct mcp_env *env, const struct mcp_target *target,
                                    const struct mcp_link_events *events, void *ctx)
{
    struct mcp_link *l = xcalloc(1, sizeof(*l));
    *l = (struct mcp_link){.loop = env->process.loop,
                           .http = env->http,
                           .random = env->random,
                           .events = *events,
                           .ctx = ctx,
                           .url = xstrdup(target->url),
                           .headers = target->headers ? cJSON_Duplicate(target->headers, true) : NULL,
                           .timeout_seconds = target->timeout_seconds};
    timer_init(&l->patience, on_patience, l);
    timer_init(&l->ebb, on_ebb, l);
    loop_task_init(&l->gone, on_gone, l);
    return l;
}

const struct mcp_link_type mcp_http_link = {
    .create = http_create,
    .send = http_send,
    .forget = http_forget,
    .agreed = http_agreed,
    .listen = http_listen,
    .hold = http_hold,
    .close = http_close,
};
