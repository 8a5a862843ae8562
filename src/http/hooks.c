/* Webhooks: who listens at the path, may it come this way, is it signed; then it is an event like any other. */
#include "http/exchange.h"

#include "base/clock.h"
#include "engine/secret_read.h"
#include "source/webhook.h"

#include <errno.h>
#include <glib.h>
#include <strings.h>

/* A trigger that listens at the path. */
struct listener {
    struct trigger *spec;
    char *dir; /* of its manifest */
    bool admitted;
};

struct hook {
    struct exchange *x;
    char *path;
    struct listener *listeners;
    size_t n;
    struct secrets *secrets;
};

static const struct webhook_config *config_of(const struct listener *l)
{
    return l->spec->config;
}

static void hook_free(struct hook *h)
{
    for (size_t i = 0; i < h->n; i++) {
        trigger_unref(h->listeners[i].spec);
        free(h->listeners[i].dir);
    }
    free(h->listeners);
    free(h->path);
    secrets_destroy(h->secrets);
    free(h);
}

static void add_listener(void *ctx, struct live_trigger *t)
{
    struct hook *h = ctx;
    struct trigger_view v;
    trigger_look(t, &v);
    h->listeners = xreallocarray(h->listeners, h->n + 1, sizeof(*h->listeners));
    h->listeners[h->n++] = (struct listener){.spec = trigger_ref((struct trigger *)v.spec),
                                             .dir = secret_dir_of(v.origin ? v.origin->file : NULL)};
}

/* ---- the event ---- */

static void add_header(void *ctx, const char *name, const char *value)
{
    cJSON *headers = ctx;
    _cleanup_(freep) char *lower = xstrdup(name);
    for (char *p = lower; *p; p++)
        *p = *p >= 'A' && *p <= 'Z' ? (char)(*p | 0x20) : *p;
    if (!utf8_valid(value, strlen(value)))
        value = "(not UTF-8)";
    const char *before = value_get_string(headers, lower);
    _cleanup_(freep) char *both = before ? xasprintf("%s, %s", before, value) : NULL; /* RFC 9110, 5.3 */
    value_set(headers, lower, value_string(both ? both : value));
}

/* What proves something to somebody is nobody's to read later. */
static void hide_headers(const struct hook *h, cJSON *headers)
{
    for (cJSON *item = headers->child; item; item = item->next) {
        bool secret = webhook_header_is_secret(NULL, item->string);
        for (size_t i = 0; i < h->n && !secret; i++)
            secret = webhook_header_is_secret(config_of(&h->listeners[i])->signature, item->string);
        if (secret)
            cJSON_SetValuestring(item, "***");
    }
}

static cJSON *query_of(const struct http_request *r)
{
    const struct http_param *params;
    size_t n = http_query(r, &params);
    cJSON *query = cJSON_CreateObject();
    for (size_t i = 0; i < n; i++) {
        if (!utf8_valid(params[i].key, strlen(params[i].key)) || !utf8_valid(params[i].value, strlen(params[i].value)))
            continue;
        cJSON *before = value_get(query, params[i].key);
        if (cJSON_IsArray(before)) {
            cJSON_AddItemToArray(before, value_string(params[i].value));
        } else if (before) {
            cJSON *list = cJSON_CreateArray();
            cJSON_AddItemToArray(list, cJSON_Duplicate(before, true));
            cJSON_AddItemToArray(list, value_string(params[i].value));
            value_set(query, params[i].key, list);
        } else {
            value_set(query, params[i].key, value_string(params[i].value));
        }
    }
    return query;
}

/* JSON where it parses, else the text, else base64 under another name. */
static void add_body(cJSON *data, const char *body, size_t len)
{
    cJSON *json = NULL;
    if (len == 0) {
        value_set(data, "body", cJSON_CreateNull());
    } else if (value_parse(body, len, &json, NULL) == 0) {
        value_set(data, "body", json);
    } else if (utf8_valid(body, len) && !memchr(body, 0, len)) {
        value_set(data, "body", value_string(body));
    } else {
        _cleanup_(freep) char *text = g_base64_encode((const guchar *)body, len);
        value_set(data, "body_base64", value_string(text));
    }
}

static cJSON *event_data(const struct hook *h)
{
    const struct http_request *r = h->x->request;
    size_t len;
    const char *body = http_body(r, &len);
    cJSON *data = cJSON_CreateObject(), *headers = cJSON_CreateObject();
    value_set(data, "method", value_string(http_method(r)));
    value_set(data, "path", value_string(h->path));
    value_set(data, "query", query_of(r));
    http_each_header(r, add_header, headers);
    hide_headers(h, headers);
    value_set(data, "headers", headers);
    add_body(data, body, len);
    return data;
}

/* The sender's own name for what it sends, by which a second delivery is known. Stripe's is in the body. */
static const char *delivery_id(const struct hook *h, const cJSON *data)
{
    static const char *const names[] = {"Idempotency-Key", "webhook-id", "X-GitHub-Delivery"};
    const char *id = NULL;
    for (size_t i = 0; i < ARRAY_SIZE(names) && !id; i++)
        id = http_header(h->x->request, names[i]);
    for (size_t i = 0; i < h->n && !id; i++) {
        const struct webhook_signature *s = config_of(&h->listeners[i])->signature;
        if (s && s->scheme == WEBHOOK_STRIPE && h->listeners[i].admitted)
            id = value_get_string(value_get(data, "body"), "id");
    }
    return id && *id && strlen(id) <= IDEMPOTENCY_KEY_MAX ? id : NULL;
}

static bool admits(void *ctx, const struct trigger *t)
{
    const struct hook *h = ctx;
    for (size_t i = 0; i < h->n; i++)
        if (h->listeners[i].admitted && streq(h->listeners[i].spec->id, t->id))
            return true;
    return false;
}

static void publish(struct hook *h)
{
    _cleanup_(cjson_deletep) cJSON *data = event_data(h);
    size_t len;
    const char *body = http_body(h->x->request, &len);
    struct api_hook hook = {.path = h->path,
                            .body_hash = hash_bytes(0, body ? body : "", len),
                            .data = data,
                            .delivery_id = delivery_id(h, data),
                            .traceparent = traceparent_of(h->x),
                            .admits = admits,
                            .ctx = h};
    api_hook(h->x->api, &hook, call_of(h->x));
}

/* ---- who may have it ---- */

static const char *request_header(void *ctx, const char *name)
{
    return http_header(ctx, name);
}

/* 0, or why this one may not have it: -EACCES, -EPERM (unsigned, from afar), -EIO (no secret to check it with). */
static int admit(struct hook *h, struct listener *l, struct error *err)
{
    const struct webhook_signature *s = config_of(l)->signature;
    if (!s) {
        if (h->x->routes->on_loopback || http_over_unix_socket(h->x->request))
            return 0;
        return error_set(err, -EPERM, "a webhook without signature is served on loopback only");
    }
    char *secret = NULL;
    if (secrets_expand(h->secrets, s->secret, l->dir, &secret, err) < 0) {
        error_wrap(err, "the secret of trigger \"%s\"", l->spec->id);
        return -EIO;
    }
    struct webhook_request r = {
        .header = request_header, .ctx = h->x->request, .now_ms = clock_realtime_ms(h->x->api->clock)};
    r.body = http_body(h->x->request, &r.len);
    int result = webhook_verify(s, secret, &r, err);
    secret_free(secret);
    if (result != -EINVAL)
        return result;
    error_wrap(err, "trigger \"%s\"", l->spec->id);
    return -EIO;
}

static void verify(void *ctx)
{
    struct hook *h = ctx;
    struct error err = ERROR_INIT, worst = ERROR_INIT;
    int code = 0;
    size_t admitted = 0;
    for (size_t i = 0; i < h->n; i++) {
        int r = admit(h, &h->listeners[i], &err);
        h->listeners[i].admitted = r == 0;
        admitted += r == 0;
        if (r < 0 && (code == 0 || r == -EIO)) {
            code = r;
            worst = err;
        }
    }
    if (code == -EIO) /* the sender tries again later; else one trigger would have lost it */
        api_problem(call_of(h->x), 503, "%s", worst.message);
    else if (admitted > 0)
        publish(h);
    else if (code == -EPERM)
        api_problem(call_of(h->x), 403, "%s", worst.message);
    else
        refuse_with(h->x, 401, worst.message, "WWW-Authenticate", "Signature");
    hook_free(h);
}

/* Those that take the method stay; *ret_allow gets what the others would take. */
static void keep_by_method(struct hook *h, const char *method, struct buf *ret_allow)
{
    uint64_t known = 0;
    size_t n = 0;
    for (size_t i = 0; i < h->n; i++) {
        uint64_t methods = config_of(&h->listeners[i])->methods;
        bool takes = false;
        known |= methods;
        for (size_t k = 0; webhook_methods[k]; k++)
            takes = takes || (methods >> k & 1 && streq(webhook_methods[k], method));
        struct listener taken = h->listeners[i];
        h->listeners[i] = (struct listener){0};
        if (takes) {
            h->listeners[n++] = taken;
        } else {
            trigger_unref(taken.spec);
            free(taken.dir);
        }
    }
    h->n = n;
    for (size_t k = 0; webhook_methods[k]; k++)
        if (known >> k & 1)
            buf_printf(ret_allow, "%s%s", ret_allow->len ? ", " : "", webhook_methods[k]);
}

void hooks_handle(struct exchange *x, const char *path)
{
    if (!x->api->started) {
        api_problem(call_of(x), 503, "triggerd is starting; try again");
        return;
    }
    struct hook *h = xcalloc(1, sizeof(*h));
    h->x = x;
    h->path = xstrdup(path);
    h->secrets = secrets_create();
    engine_each_listener(x->api->engine, "webhook", path, add_listener, h);
    struct buf allow = {0};
    bool any = h->n > 0;
    keep_by_method(h, http_method(x->request), &allow);
    if (h->n == 0) {
        hook_free(h);
        if (any)
            refuse_with(x, 405, "the method is not taken here", "Allow", allow.data);
        else
            api_problem(call_of(x), 404, "no webhook listens at /hooks/%s", path);
        buf_fini(&allow);
        return;
    }
    buf_fini(&allow);
    for (size_t i = 0; i < h->n; i++) {
        const struct webhook_signature *s = config_of(&h->listeners[i])->signature;
        if (s)
            secrets_want(h->secrets, s->secret, h->listeners[i].dir);
    }
    if (!secret_read_start(x->routes->loop, x->routes->secrets_dirs, h->secrets, verify, h))
        verify(h);
}
