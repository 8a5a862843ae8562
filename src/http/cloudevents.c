/* CloudEvents 1.0 over HTTP (HTTP protocol binding 1.0.2): structured, binary and batched. Each is an emit at the
 * endpoint named by its `type`; its `source` and `id` are its idempotency key. */
#include "http/exchange.h"

#include <glib.h>
#include <stdio.h>
#include <strings.h>

#define BATCH_MAX 1000

/* One of a batch. */
struct emitted {
    struct batch *batch;
    struct buf events; /* what it gave, as JSON text */
};

struct batch {
    struct exchange *x;
    struct emitted *items; /* in the order of the batch, in whatever order they are answered */
    size_t n, left;
    int64_t triggered;
    struct api_answer failed; /* the first emit that was refused; its body is ours */
};

/* ---- one event ---- */

/* What is wrong with the attributes, naming the one in *ret_at; NULL: nothing. */
static const char *attributes_wrong(const char *specversion, const char *type, const char *source, const char *id,
                                    const char **ret_at)
{
    *ret_at = "specversion";
    if (!specversion || !streq(specversion, "1.0"))
        return "expected \"1.0\"";
    *ret_at = "type";
    if (!type || !*type)
        return "required, but missing";
    if (!endpoint_text_valid(type))
        return "expected the name of an endpoint: letters, digits, \"_\", \"-\" and \".\", at most 128, not starting "
               "with "
               "\".\"";
    *ret_at = "source";
    if (!source || !*source)
        return "required, but missing";
    *ret_at = "id";
    if (!id || !*id)
        return "required, but missing";
    if (strlen(source) + strlen(id) + 1 > IDEMPOTENCY_KEY_MAX * 4)
        return "expected at most 1020 characters together with source";
    return NULL;
}

static void emit(struct api *a, const char *type, const char *source, const char *id, const cJSON *data,
                 const char *traceparent, struct api_call call)
{
    static cJSON empty = {.type = cJSON_Object};
    _cleanup_(freep) char *key = xasprintf("%s %s", source, id);
    struct api_emit e = {
        .endpoint = type, .data = data ? data : &empty, .idempotency_key = key, .traceparent = traceparent};
    api_emit(a, &e, call);
}

static const char *member(const cJSON *event, const char *name)
{
    return value_get_string(event, name);
}

/* `data`; bytes stay base64, under their own name. A new node; NULL: there is none. */
static cJSON *data_of(const cJSON *event)
{
    const cJSON *data = value_get(event, "data"), *bytes = value_get(event, "data_base64");
    if (data)
        return cJSON_Duplicate(data, true);
    if (!cJSON_IsString(bytes))
        return NULL;
    cJSON *object = cJSON_CreateObject();
    value_set(object, "data_base64", cJSON_Duplicate(bytes, false));
    return object;
}

/* What a structured event with these bytes would give. */
static cJSON *bytes_of(const char *bytes, size_t len)
{
    gchar *text = g_base64_encode((const guchar *)bytes, len);
    cJSON *object = cJSON_CreateObject();
    value_set(object, "data_base64", value_string(text));
    g_free(text);
    return object;
}

static bool is_base64(const char *text)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = strspn(text, digits), padding = strspn(text + n, "=");
    return text[n + padding] == '\0' && padding <= 2 && (n + padding) % 4 == 0;
}

static const char *event_wrong(const cJSON *event, const char **ret_at)
{
    *ret_at = "";
    if (!cJSON_IsObject(event))
        return "expected an object";
    const cJSON *bytes = value_get(event, "data_base64");
    *ret_at = "data_base64";
    if (bytes && !cJSON_IsNull(bytes)) { /* null: as if it were not there */
        if (value_get(event, "data"))
            return "there is data already: expected one of them";
        if (!cJSON_IsString(bytes) || !is_base64(bytes->valuestring))
            return "expected base64";
    }
    return attributes_wrong(member(event, "specversion"), member(event, "type"), member(event, "source"),
                            member(event, "id"), ret_at);
}

static void answer_wrong(struct exchange *x, const char *at, const char *wrong)
{
    api_problem_at(call_of(x), 422, at, "%s%s%s", at, *at ? ": " : "", wrong);
}

/* ---- structured ---- */

static void structured(struct exchange *x)
{
    const char *at, *wrong = event_wrong(x->body, &at);
    if (wrong) {
        answer_wrong(x, at, wrong);
        return;
    }
    _cleanup_(cjson_deletep) cJSON *data = data_of(x->body);
    const char *trace = member(x->body, "traceparent"); /* the distributed tracing extension */
    emit(x->api, member(x->body, "type"), member(x->body, "source"), member(x->body, "id"), data,
         trace ? trace : traceparent_of(x), call_of(x));
}

/* ---- batched ---- */

static void batch_end(struct batch *b)
{
    struct api_call call = call_of(b->x);
    struct buf out = {0};
    json_open(&out, NULL, '{');
    json_int(&out, "triggered_count", b->triggered);
    json_open(&out, "events", '[');
    for (size_t i = 0; i < b->n; i++) {
        if (b->items[i].events.len)
            json_raw(&out, NULL, b->items[i].events.data);
        buf_fini(&b->items[i].events);
    }
    json_close(&out, ']');
    json_close(&out, '}');
    if (b->failed.body) { /* what was taken is known by its source and id when the batch comes again */
        buf_fini(&out);
        call.answer(call.ctx, &b->failed);
    } else {
        api_answer_text(call, 200, &out);
    }
    free(b->items);
    free(b);
}

static void one_answered(void *ctx, struct api_answer *answer)
{
    struct emitted *e = ctx;
    struct batch *b = e->batch;
    _cleanup_(cjson_deletep) cJSON *given = NULL;
    if (answer->status >= 400 && !b->failed.body) {
        b->failed = *answer;
        answer->body = NULL;
    } else if (answer->status < 400 && value_parse(answer->body, answer->len, &given, NULL) == 0) {
        int64_t n = 0;
        const cJSON *event;
        value_integer(value_get(given, "triggered_count"), &n);
        b->triggered += n;
        cJSON_ArrayForEach (event, value_get(given, "events")) {
            _cleanup_(freep) char *text = value_print(event);
            buf_printf(&e->events, "%s%s", e->events.len ? "," : "", text);
        }
    }
    free(answer->body);
    if (--b->left == 0)
        batch_end(b);
}

static void batched(struct exchange *x)
{
    struct issues issues = ISSUES_INIT;
    const cJSON *event;
    size_t n = 0;
    if (!cJSON_IsArray(x->body) || cJSON_GetArraySize(x->body) > BATCH_MAX)
        issue_add(&issues, "", x->body, "expected an array of at most %d events", BATCH_MAX);
    else
        cJSON_ArrayForEach (event, x->body) {
            char where[64];
            const char *at, *wrong = event_wrong(event, &at);
            snprintf(where, sizeof(where), "[%zu]%s%s", n++, *at ? "." : "", at);
            if (wrong)
                issue_add(&issues, where, event, "%s", wrong);
        }
    if (issues.errors > 0) {
        api_problem_issues(call_of(x), 422, "the batch is not valid; nothing of it was taken", &issues);
        issues_fini(&issues);
        return;
    }
    struct batch *b = xcalloc(1, sizeof(*b));
    *b = (struct batch){.x = x, .items = xcalloc(n, sizeof(*b->items)), .n = n};
    b->left = 1; /* so that nothing ends before all are given */
    size_t i = 0;
    cJSON_ArrayForEach (event, x->body) {
        _cleanup_(cjson_deletep) cJSON *data = data_of(event);
        const char *trace = member(event, "traceparent");
        b->items[i].batch = b;
        b->left++;
        emit(x->api, member(event, "type"), member(event, "source"), member(event, "id"), data,
             trace ? trace : traceparent_of(x), (struct api_call){one_answered, &b->items[i++]});
    }
    if (--b->left == 0)
        batch_end(b);
}

/* ---- binary ---- */

/* An attribute from its header, percent-decoded (3.1.3.2); NULL: absent, or not UTF-8. */
static char *attribute(struct exchange *x, const char *name)
{
    const char *value = http_header(x->request, name);
    if (!value)
        return NULL;
    char *out = xstrdup(value), *to = out;
    for (const char *p = value; *p; p++) {
        int high = *p == '%' ? hex_digit(p[1]) : -1, low = high >= 0 ? hex_digit(p[2]) : -1;
        if (low >= 0 && (high || low)) {
            *to++ = (char)(high << 4 | low);
            p += 2;
        } else {
            *to++ = *p;
        }
    }
    *to = '\0';
    if (!utf8_valid(out, strlen(out))) {
        free(out);
        return NULL;
    }
    return out;
}

static void binary(struct exchange *x, const char *content_type)
{
    _cleanup_(freep) char *version = attribute(x, "ce-specversion");
    _cleanup_(freep) char *type = attribute(x, "ce-type");
    _cleanup_(freep) char *source = attribute(x, "ce-source");
    _cleanup_(freep) char *id = attribute(x, "ce-id");
    _cleanup_(freep) char *trace = attribute(x, "ce-traceparent");
    size_t len;
    const char *body = http_body(x->request, &len), *at;
    const char *wrong = attributes_wrong(version, type, source, id, &at);
    if (wrong) {
        answer_wrong(x, at, wrong);
        return;
    }
    _cleanup_(cjson_deletep) cJSON *data = NULL;
    struct error err = ERROR_INIT;
    if (len > 0 && is_json_type(content_type) && value_parse(body, len, &data, &err) < 0) {
        api_problem(call_of(x), 400, "the body is not valid JSON: line %u, column %u: %s", err.line, err.column,
                    err.message);
        return;
    }
    if (len > 0 && !data)
        data = utf8_valid(body, len) && !memchr(body, 0, len) ? value_string(body) : bytes_of(body, len);
    emit(x->api, type, source, id, data, trace ? trace : traceparent_of(x), call_of(x));
}

static bool type_is(const char *content_type, const char *name)
{
    size_t n = strlen(name);
    return content_type && strncasecmp(content_type, name, n) == 0 && strchr("; \t", content_type[n]);
}

void cloudevents_handle(struct exchange *x)
{
    const char *type = http_header(x->request, "Content-Type");
    bool is_batch = type_is(type, "application/cloudevents-batch+json");
    if (!is_batch && !type_is(type, "application/cloudevents+json")) {
        if (http_header(x->request, "ce-specversion") || http_header(x->request, "ce-type"))
            binary(x, type);
        else
            api_problem(call_of(x), 415,
                        "expected Content-Type: application/cloudevents+json or application/cloudevents-batch+json, or "
                        "the ce- headers of a binary event");
        return;
    }
    size_t len;
    const char *body = http_body(x->request, &len);
    struct error err = ERROR_INIT;
    if (value_parse(body, len, &x->body, &err) < 0) {
        api_problem(call_of(x), 400, "the body is not valid JSON: line %u, column %u: %s", err.line, err.column,
                    err.message);
        return;
    }
    if (is_batch)
        batched(x);
    else
        structured(x);
}
