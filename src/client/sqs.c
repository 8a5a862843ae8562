#include "client/sqs.h"

#include "base/loop.h"
#include "base/util.h"
#include "client/http.h"

#include <errno.h>
#include <stdio.h>

struct sqs_call {
    const struct queue_env *env;
    struct queue_setup *setup;
    struct http_transfer *transfer; /* NULL: given up */
    struct timer timeout;
    int64_t timeout_ms;
    sqs_done_fn *done;
    void *ctx;
};

static void call_free(struct sqs_call *c)
{
    loop_timer_stop(c->env->loop, &c->timeout);
    queue_setup_unref(c->setup);
    free(c);
}

static void finish(struct sqs_call *c, int result, const cJSON *answer, const char *reason, const char *message)
{
    char *shown = xstrdup0(message);
    mask_string(c->setup->mask, &shown);
    c->done(c->ctx, result, answer, reason, shown);
    free(shown);
    call_free(c);
}

/* What the service calls its errors, by the end of the name. */
static const struct {
    const char *type, *reason;
    int result;
} errors[] = {
    {"QueueDoesNotExist", "QueueNotFound", -ENOENT},
    {"NonExistentQueue", "QueueNotFound", -ENOENT},
    {"InvalidClientTokenId", "AuthenticationFailed", -EACCES},
    {"UnrecognizedClientException", "AuthenticationFailed", -EACCES},
    {"SignatureDoesNotMatch", "AuthenticationFailed", -EACCES},
    {"InvalidSignatureException", "AuthenticationFailed", -EACCES},
    {"IncompleteSignature", "AuthenticationFailed", -EACCES},
    {"MissingAuthenticationToken", "AuthenticationFailed", -EACCES},
    {"ExpiredTokenException", "AuthenticationFailed", -EACCES},
    {"AccessDenied", "AccessDenied", -EACCES},
    {"AccessDeniedException", "AccessDenied", -EACCES},
    {"InvalidMessageContents", "Refused", -EINVAL},
    {"InvalidParameterValue", "Refused", -EINVAL},
};

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static void refused(struct sqs_call *c, const struct http_answer *a, const cJSON *answer)
{
    const char *type = value_get_string(answer, "__type"), *reason = "Failed";
    const char *words = value_get_string(answer, "message");
    const char *name = type && strchr(type, '#') ? strchr(type, '#') + 1 : type;
    int result = a->status == 401 || a->status == 403 ? -EACCES : -EIO;
    words = words ? words : value_get_string(answer, "Message");
    if (result == -EACCES)
        reason = "AuthenticationFailed";
    for (size_t i = 0; type && i < ARRAY_SIZE(errors); i++)
        if (ends_with(type, errors[i].type)) {
            reason = errors[i].reason;
            result = errors[i].result;
        }
    _cleanup_(freep) char *message = xasprintf("HTTP %ld%s%s%s%.300s", a->status, name ? " " : "", name ? name : "",
                                               words ? ": " : "", words ? words : "");
    finish(c, result, NULL, reason, message);
}

static void answered(void *ctx, struct http_answer *a)
{
    struct sqs_call *c = ctx;
    _cleanup_(cjson_deletep) cJSON *answer = NULL;
    c->transfer = NULL;
    if (a->error.code != 0) {
        /* libcurl has one word for all that keeps a connection from coming about. */
        bool no = strstr(a->error.message, "onnect to"), late = a->error.code == -ETIMEDOUT;
        finish(c, no ? -ECONNREFUSED : a->error.code, NULL,
               no     ? "ConnectionRefused"
               : late ? "Timeout"
                      : "ConnectionLost",
               a->error.message);
        return;
    }
    if (a->body.len > 0)
        value_parse(a->body.data, a->body.len, &answer, NULL);
    if (a->status != 200)
        refused(c, a, answer);
    else if (a->body.len > 0 && !cJSON_IsObject(answer))
        finish(c, -EPROTO, NULL, "ProtocolError", a->cut ? "an answer that is too long" : "an answer that is no JSON");
    else
        finish(c, 0, answer, NULL, NULL);
}

static void late(struct timer *timer, void *ctx)
{
    (void)timer;
    struct sqs_call *c = ctx;
    char message[64];
    http_transfer_cancel(steal(&c->transfer));
    snprintf(message, sizeof(message), "no answer within %lld ms", (long long)c->timeout_ms);
    finish(c, -ETIMEDOUT, NULL, "Timeout", message);
}

struct sqs_call *sqs_call(const struct queue_env *env, struct queue_setup *setup, const char *action, cJSON *body,
                          int64_t timeout_ms, sqs_done_fn *done, void *ctx)
{
    const struct queue_url *u = &setup->url;
    struct sqs_call *c = xcalloc(1, sizeof(*c));
    struct http_request r = {.method = xstrdup("POST"),
                             .url = xasprintf("%s/", u->endpoint),
                             .tls = setup->config.tls,
                             .connect_timeout_seconds = QUEUE_CONNECT_MS / 1000.0,
                             .max_body_bytes = SQS_ANSWER_MAX};
    _cleanup_(freep) char *target = xasprintf("AmazonSQS.%s", action);
    *c = (struct sqs_call){
        .env = env, .setup = queue_setup_ref(setup), .timeout_ms = timeout_ms, .done = done, .ctx = ctx};
    http_request_header(&r, "Content-Type", "application/x-amz-json-1.0", HTTP_HEADER_OF_BODY);
    http_request_header(&r, "X-Amz-Target", target, 0);
    if (u->token)
        http_request_header(&r, "X-Amz-Security-Token", u->token, 0);
    r.sign = (struct http_sign){xasprintf("aws:amz:%s:sqs", u->region), xstrdup(u->user), xstrdup(u->password)};
    r.body = value_print(body);
    r.body_len = strlen(r.body);
    cJSON_Delete(body);
    timer_init(&c->timeout, late, c);
    c->transfer = http_client_send(env->http, &r, answered, c);
    loop_timer_start(env->loop, &c->timeout, timeout_ms);
    return c;
}

void sqs_call_cancel(struct sqs_call *c)
{
    if (!c)
        return;
    if (c->transfer)
        http_transfer_cancel(steal(&c->transfer));
    call_free(c);
}
