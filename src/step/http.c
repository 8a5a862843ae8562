/* http: one request as a step; its output is the body of the answer.
 *
 * What is pasted into the request stays in its place: into a URL as http_url.h has it, into headers without control
 * characters. The key that makes its effect happen once and the trace go with it, to wherever it is redirected. */
#include "client/http.h"
#include "base/loop.h"
#include "base/util.h"
#include "engine/step_type.h"
#include "step/http_url.h"
#include "step/list.h"

#include <errno.h>
#include <glib.h>
#include <strings.h>

#define ERROR_BODY_MAX 400

struct config {
    char *method; /* NULL: POST with a body, else GET */
    char *url;
    cJSON *headers; /* object of strings; NULL: none */
    cJSON *body;    /* NULL: none */
    int64_t max_redirects;
    double connect_timeout_seconds;
    int64_t max_output_bytes;
    cJSON *proxy; /* a boolean or a string; NULL: false */
    struct tls_config *tls;
};

struct program {
    struct template *url;
    struct header {
        char *name;
        struct template *value;
    } * headers;
    size_t n_headers;
    struct template_tree *body; /* NULL: none */
    struct template *proxy;     /* NULL: not a URL */
};

static const struct field rows[] = {
    {.name = "method",
     .type = &field_string,
     FIELD(struct config, method, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY, .max = 32,
           .doc = "The method, in upper case; by default POST with a body and GET without", .example = "\"PUT\"")},
    {.name = "url",
     .type = &field_string,
     FIELD(struct config, url, char *, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY | FIELD_REFERS, .max = 16384,
           .doc =
               "An http:// or https:// URL; what templates give is percent-encoded in path and query, plain names and "
               "numbers only in host and port, and as it is at the very beginning",
           .example = "\"https://example.org/rows/{{ $.inputs.id }}\"")},
    {.name = "headers",
     .type = &field_string_map,
     FIELD(struct config, headers, cJSON *, .flags = FIELD_NULL_OK | FIELD_REFERS | FIELD_HEADERS,
           .doc = "Headers beside Content-Type, Idempotency-Key and traceparent, which may be given as well; templates "
                  "are filled in, references to secrets (${env:NAME}, ${file:PATH}) replaced; redirects to another "
                  "origin go without them",
           .example = "{\"Authorization\": \"Bearer ${env:API_TOKEN}\"}")},
    {.name = "body",
     .type = &field_json,
     FIELD(struct config, body, cJSON *, .flags = FIELD_NULL_OK | FIELD_REFERS,
           .doc =
               "The body: a string as it is, anything else as JSON; templates are filled in, one alone in its string "
               "keeps its type",
           .example = "{\"rows\": \"{{ $.steps.load.output.rows }}\"}")},
    {.name = "max_redirects",
     .type = &field_int,
     FIELD(struct config, max_redirects, int64_t, .default_json = "10", .min = 0, .max = 50,
           .doc = "Redirects that are followed, never from https to http; more fail the step, with 0 a redirect is an "
                  "answer like others")},
    {.name = "connect_timeout_seconds",
     .type = &field_seconds,
     FIELD(struct config, connect_timeout_seconds, double, .default_json = "10", .min = 0.001, .max = 3600,
           .doc = "Within that the connection must stand, TLS included; the step's timeout_seconds is for all of it")},
    {.name = "max_output_bytes",
     .type = &field_int,
     FIELD(struct config, max_output_bytes, int64_t, .default_json = "1048576", .min = 0, .max = 67108864,
           .doc = "How long the body of an answer may be; a longer one fails the step, without retry")},
    {.name = "proxy",
     .type = &field_json,
     FIELD(struct config, proxy, cJSON *, .flags = FIELD_NULL_OK | FIELD_REFERS,
           .doc =
               "The proxy's URL (http, https, socks5, socks5h), or true for what http_proxy, https_proxy and no_proxy "
               "say in the environment of triggerd; by default none is used",
           .example = "\"http://proxy.example.org:3128\"")},
    {.name = "tls",
     .type = &field_object_opt,
     FIELD(struct config, tls, struct tls_config *, .sub = &tls_fields,
           .doc = "For https; by default the system's certificates are trusted",
           .example = "{\"ca_file\": \"/etc/ssl/company.pem\"}")},
};
static const struct field_table table = {"http", "Send an HTTP request", sizeof(struct config), rows, ARRAY_SIZE(rows)};

/* ---- the manifest ---- */

/* What the connection itself is made of. */
static bool is_ours(const char *name)
{
    static const char *const names[] = {"Connection", "Content-Length", "Expect",  "Keep-Alive",
                                        "TE",         "Trailer",        "Upgrade", "Transfer-Encoding"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (strcasecmp(name, names[i]) == 0)
            return true;
    return false;
}

static bool begins(const char *text, const char *prefix)
{
    return strncasecmp(text, prefix, strlen(prefix)) == 0;
}

static void validate_headers(const struct config *c, const cJSON *node, const char *path, struct issues *issues)
{
    const cJSON *item;
    char at[FIELD_PATH_MAX], base[FIELD_PATH_MAX];
    field_path(base, path, "headers");
    cJSON_ArrayForEach (item, c->headers) {
        const cJSON *place = value_get(value_get(node, "headers"), item->string);
        field_path(at, base, item->string);
        if (!http_name_valid(item->string))
            issue_add_key(issues, at, place, "not a header's name");
        else if (is_ours(item->string))
            issue_add_key(issues, at, place, "is set by triggerd itself");
        else if (!http_value_valid(item->valuestring))
            issue_add(issues, at, place, "a header has no control characters");
        for (const cJSON *other = c->headers->child; other != item; other = other->next)
            if (strcasecmp(other->string, item->string) == 0)
                issue_add_key(issues, at, place, "is the header `%s` again", other->string);
    }
}

static bool proxy_valid(const char *text)
{
    return begins(text, "http://") || begins(text, "https://") || begins(text, "socks5://") ||
           begins(text, "socks5h://") || begins(text, "${") || begins(text, "{{");
}

static void validate(const void *config, const cJSON *node, const char *path, struct issues *issues)
{
    const struct config *c = config;
    char at[FIELD_PATH_MAX];
    if (c->method && !http_method_valid(c->method))
        issue_add(issues, field_path(at, path, "method"), value_get(node, "method"),
                  "expected a method in upper case, not CONNECT or TRACE, got \"%s\"", c->method);
    if (c->method && streq(c->method, "HEAD") && c->body)
        issue_add_key(issues, field_path(at, path, "body"), value_get(node, "body"), "HEAD has none");
    if (c->url && *c->url && !begins(c->url, "http://") && !begins(c->url, "https://") && !begins(c->url, "{{") &&
        !begins(c->url, "${"))
        issue_add(issues, field_path(at, path, "url"), value_get(node, "url"),
                  "expected http:// or https://, got \"%.60s\"", c->url);
    validate_headers(c, node, path, issues);
    if (c->proxy && !cJSON_IsBool(c->proxy) && !(cJSON_IsString(c->proxy) && proxy_valid(c->proxy->valuestring)))
        issue_add(issues, field_path(at, path, "proxy"), value_get(node, "proxy"),
                  "expected true, false, or the URL of a proxy (http, https, socks5, socks5h)");
    if (c->tls)
        tls_validate(c->tls, value_get(node, "tls"), field_path(at, path, "tls"), issues);
}

static const char rules[] =
    "[{'properties': {'method': {'pattern': '^[A-Z][A-Z-]*$', 'not': {'enum': ['CONNECT', 'TRACE']}},"
    "'url': {'pattern': '^([hH][tT][tT][pP][sS]?://|\\\\$\\\\{|\\\\{\\\\{)'},"
    "'headers': {'propertyNames': {'pattern': '^[A-Za-z0-9!#\\\\$%&\\u0027*+.^_`|~-]+$', 'not': {'pattern': "
    "'^([cC][oO][nN][nN][eE][cC][tT][iI][oO][nN]|[cC][oO][nN][tT][eE][nN][tT]-[lL][eE][nN][gG][tT][hH]"
    "|[eE][xX][pP][eE][cC][tT]|[kK][eE][eE][pP]-[aA][lL][iI][vV][eE]|[tT][eE]|[tT][rR][aA][iI][lL][eE][rR]"
    "|[uU][pP][gG][rR][aA][dD][eE]|[tT][rR][aA][nN][sS][fF][eE][rR]-[eE][nN][cC][oO][dD][iI][nN][gG])$'}},"
    "'additionalProperties': {'pattern': '^[^\\u0001-\\u0008\\u000a-\\u001f\\u007f]*$'}},"
    "'proxy': {'anyOf': [{'type': ['boolean', 'null']}, {'type': 'string', 'pattern': "
    "'^([hH][tT][tT][pP][sS]?://|[sS][oO][cC][kK][sS]5[hH]?://|\\\\$\\\\{|\\\\{\\\\{)'}]}}},"
    "{'anyOf': [{'not': {'required': ['method'], 'properties': {'method': {'enum': ['HEAD']}}}},"
    "{'properties': {'body': {'type': 'null'}}}]},"
    "{'properties': {'tls': {'properties': {'ca_file': {'pattern': '^/'}, 'cert_file': {'pattern': '^/'},"
    "'key_file': {'pattern': '^/'}}, 'anyOf': [{'properties': {'key_file': {'type': 'null'}}},"
    "{'required': ['cert_file'], 'properties': {'cert_file': {'type': 'string'}}}]}}}]";

static void free_program(void *program)
{
    struct program *p = program;
    if (!p)
        return;
    template_destroy(p->url);
    for (size_t i = 0; i < p->n_headers; i++) {
        free(p->headers[i].name);
        template_destroy(p->headers[i].value);
    }
    free(p->headers);
    template_tree_destroy(p->body);
    template_destroy(p->proxy);
    free(p);
}

static int compile(const struct step *step, const cJSON *node, const char *path, void **ret_program,
                   struct issues *issues)
{
    const struct config *c = step->config;
    size_t before = issues->errors;
    struct program *p = xcalloc(1, sizeof(*p));
    char at[FIELD_PATH_MAX], item_path[FIELD_PATH_MAX];
    p->url = template_field(c->url, TEMPLATE_TEXT | TEMPLATE_SECRETS, value_get(node, "url"),
                            field_path(at, path, "url"), issues);
    p->headers = xcalloc(c->headers ? (size_t)cJSON_GetArraySize(c->headers) : 0, sizeof(*p->headers));
    field_path(at, path, "headers");
    const cJSON *item;
    cJSON_ArrayForEach (item, c->headers) {
        field_path(item_path, at, item->string);
        p->headers[p->n_headers].name = xstrdup(item->string);
        p->headers[p->n_headers++].value =
            template_field(item->valuestring, TEMPLATE_TEXT | TEMPLATE_SECRETS,
                           value_get(value_get(node, "headers"), item->string), item_path, issues);
    }
    if (c->body)
        template_tree_compile(value_get(node, "body"), TEMPLATE_SECRETS, field_path(at, path, "body"), &p->body,
                              issues);
    if (cJSON_IsString(c->proxy))
        p->proxy = template_field(c->proxy->valuestring, TEMPLATE_TEXT | TEMPLATE_SECRETS, value_get(node, "proxy"),
                                  field_path(at, path, "proxy"), issues);
    if (issues->errors != before) {
        free_program(p);
        return -EINVAL;
    }
    *ret_program = p;
    return 0;
}

static void each_path(const void *program, void (*fn)(void *ctx, const char *path), void *ctx)
{
    const struct program *p = program;
    struct path_teller t = {fn, ctx};
    template_each_path(p->url, path_tell, &t);
    for (size_t i = 0; i < p->n_headers; i++)
        template_each_path(p->headers[i].value, path_tell, &t);
    if (p->body)
        template_tree_each_path(p->body, path_tell, &t);
    if (p->proxy)
        template_each_path(p->proxy, path_tell, &t);
}

static void each_reference(const void *program, void (*fn)(void *ctx, const char *text), void *ctx)
{
    const struct program *p = program;
    template_each_reference(p->url, fn, ctx);
    for (size_t i = 0; i < p->n_headers; i++)
        template_each_reference(p->headers[i].value, fn, ctx);
    if (p->body)
        template_tree_each_reference(p->body, fn, ctx);
    if (p->proxy)
        template_each_reference(p->proxy, fn, ctx);
}

/* ---- the answer ---- */

struct request {
    struct step_call *call;
    struct http_transfer *transfer; /* NULL: it did not come to that, or was cancelled */
    struct loop_task ending;        /* what is told without a transfer */
    char *failure;                  /* NULL: cancelled */
    char *shown;                    /* method and URL, as they may be seen: references are text */
};

static void tell(struct request *q, struct step_result *r)
{
    struct step_call *call = q->call;
    loop_task_cancel(call->env->loop, &q->ending);
    call->state = NULL;
    free(q->failure);
    free(q->shown);
    free(q);
    step_done(call, r);
}

static void end(void *ctx)
{
    struct request *q = ctx;
    struct step_result r = STEP_RESULT_INIT;
    r.status = q->failure ? STEP_FAILED : STEP_CANCELLED;
    r.error = q->failure ? steal(&q->failure) : xstrdup("cancelled");
    tell(q, &r);
}

static const struct mask *mask_of(const struct step_call *call)
{
    return call->secrets ? secrets_mask(call->secrets->secrets) : NULL;
}

/* JSON as its value, other text as a string, bytes that are none as {"body_base64"}. */
static cJSON *output_value(const struct step_call *call, const struct buf *body)
{
    cJSON *v = NULL;
    const char *data = body->len > 0 ? body->data : "";
    if (body->len > 0 && value_parse(data, body->len, &v, NULL) == 0)
        return v;
    if (utf8_valid(data, body->len) && !memchr(data, '\0', body->len))
        return cJSON_CreateString(data);
    struct buf shown = {0}; /* masked here, as nobody would find it in base64 */
    mask_bytes(mask_of(call), data, body->len, &shown);
    char *text = g_base64_encode((const guchar *)shown.data, shown.len);
    v = cJSON_CreateObject();
    cJSON_AddStringToObject(v, "body_base64", text);
    g_free(text);
    buf_fini(&shown);
    return v;
}

/* The beginning of an error's body, on one line. Masked before it is cut, and JSON in one way of writing, so that values
 * are found. */
static void add_brief(struct buf *b, const struct step_call *call, const struct buf *body)
{
    struct buf all = {0}, text = {0};
    _cleanup_(cjson_deletep) cJSON *v = NULL;
    _cleanup_(freep) char *json = NULL;
    if (body->len > 0 && value_parse(body->data, body->len, &v, NULL) == 0)
        json = value_print(v);
    mask_bytes(mask_of(call), json ? json : body->data, json ? strlen(json) : body->len, &all);
    size_t n = MIN(all.len, ERROR_BODY_MAX);
    for (size_t i = 0, step; i < n; i += step) {
        step = utf8_sequence(all.data + i, all.len - i);
        if (step == 0 || !all.data[i]) {
            step = 1;
            buf_adds(&text, "\xEF\xBF\xBD");
        } else if ((unsigned char)all.data[i] <= ' ') {
            if (text.len > 0 && text.data[text.len - 1] != ' ')
                buf_addc(&text, ' ');
        } else {
            buf_add(&text, all.data + i, step);
        }
    }
    while (text.len > 0 && text.data[text.len - 1] == ' ')
        text.data[--text.len] = '\0';
    if (text.len > 0)
        buf_printf(b, ": %s%s", text.data, n < all.len ? "…" : "");
    buf_fini(&text);
    buf_fini(&all);
}

/* What is kept of a body: of one that was cut, without the beginning of a value at its end. */
static void keep(struct step_result *r, const struct step_call *call, struct http_answer *a)
{
    if (a->cut) {
        struct buf kept = {0};
        struct mask_stream stream = {0};
        if (mask_of(call))
            mask_feed(mask_of(call), &stream, a->body.len > 0 ? a->body.data : "", a->body.len, &kept);
        else
            buf_add(&kept, a->body.data, a->body.len);
        mask_stream_fini(&stream);
        buf_fini(&a->body);
        a->body = kept;
        buf_adds(&a->body, "\n[triggerd: more bytes were dropped]\n");
    }
    r->out_len = a->body.len;
    r->out = buf_steal(&a->body);
}

static void answered(void *ctx, struct http_answer *a)
{
    struct request *q = ctx;
    const struct config *c = q->call->step->config;
    struct step_result r = STEP_RESULT_INIT;
    struct buf why = {0};
    q->transfer = NULL;
    buf_printf(&why, "%s%s%s: ", q->shown, *a->origin ? ", redirected to " : "", a->origin);
    r.status = STEP_FAILED;
    if (a->error.code != 0) {
        buf_adds(&why, a->error.message);
        r.permanent = a->error.code == -EINVAL || a->error.code == -EPROTO;
    } else if (a->status >= 400) {
        buf_printf(&why, "HTTP %ld%s%s", a->status, *a->reason ? " " : "", a->reason);
        add_brief(&why, q->call, &a->body);
        if (q->call->step->retry)
            r.retry_after_seconds = MIN(a->retry_after_seconds, q->call->step->retry->max_seconds);
    } else if (a->cut) {
        buf_printf(&why, "the answer has more than %lld bytes (max_output_bytes)", (long long)c->max_output_bytes);
        r.permanent = true;
    } else {
        r.status = STEP_COMPLETED;
        r.output = output_value(q->call, &a->body);
    }
    r.error = buf_steal(&why);
    if (r.status == STEP_COMPLETED)
        free(steal(&r.error));
    keep(&r, q->call, a);
    tell(q, &r);
}

/* ---- the request ---- */

static int fill_url(struct request *q, const cJSON *context, struct http_request *r, struct error *err)
{
    const struct program *p = q->call->program;
    struct http_url_pieces pieces = {0};
    struct buf shown = {0};
    int e = template_each_piece(p->url, context, q->call->secrets, http_url_add, &pieces, err);
    if (e < 0)
        error_wrap(err, "url");
    else
        e = http_url_build(&pieces, &r->url, err);
    http_url_pieces_fini(&pieces);
    if (e == 0) {
        /* In it values are no longer as the mask knows them: what is shown is made of what was not replaced. */
        template_each_piece(p->url, step_context(q->call), NULL, http_url_add, &pieces, NULL);
        for (size_t i = 0; i < pieces.n; i++)
            buf_adds(&shown, pieces.items[i].text);
        http_url_pieces_fini(&pieces);
        q->shown = xasprintf("%s %.500s", r->method, shown.data ? shown.data : "");
        buf_fini(&shown);
    }
    return e;
}

static bool has_header(const struct http_request *r, const char *name)
{
    for (size_t i = 0; i < r->n_headers; i++)
        if (strcasecmp(r->headers[i].name, name) == 0)
            return true;
    return false;
}

static int fill_headers(struct request *q, const cJSON *context, bool json, struct http_request *r, struct error *err)
{
    const struct program *p = q->call->program;
    for (size_t i = 0; i < p->n_headers; i++) {
        const char *name = p->headers[i].name;
        char *text = NULL;
        int e = template_expand_text_with(p->headers[i].value, context, q->call->secrets, &text, err);
        if (e == 0 && !http_value_valid(text))
            e = error_set(err, -EINVAL, "the value holds a control character");
        if (e == 0)
            http_request_header(r, name, text, strcasecmp(name, "content-type") == 0 ? HTTP_HEADER_OF_BODY : 0);
        secret_free(text);
        if (e < 0)
            return error_wrap(err, "headers.%s", name);
    }
    if (r->body && !has_header(r, "content-type"))
        http_request_header(r, "Content-Type", json ? "application/json" : "text/plain; charset=utf-8",
                            HTTP_HEADER_OF_BODY);
    if (!has_header(r, "idempotency-key"))
        http_request_header(r, "Idempotency-Key", q->call->idempotency_key, HTTP_HEADER_ANYWHERE);
    if (*q->call->traceparent && !has_header(r, "traceparent"))
        http_request_header(r, "traceparent", q->call->traceparent, HTTP_HEADER_ANYWHERE);
    return 0;
}

static int fill(struct request *q, struct http_request *r, char **ret_proxy, struct error *err)
{
    const struct config *c = q->call->step->config;
    const struct program *p = q->call->program;
    const cJSON *context = NULL;
    bool json = false;
    if (step_context_expanded(q->call, &context, NULL, err) < 0)
        return err->code;
    r->method = xstrdup(c->method ? c->method : p->body ? "POST" : "GET");
    r->tls = c->tls;
    r->connect_timeout_seconds = c->connect_timeout_seconds;
    r->max_redirects = c->max_redirects;
    r->max_body_bytes = (size_t)c->max_output_bytes;
    if (fill_url(q, context, r, err) < 0)
        return err->code;
    if (p->body) {
        _cleanup_(cjson_deletep) cJSON *body = NULL;
        int e = template_tree_expand_with(p->body, context, q->call->secrets, &body, err);
        if (e < 0)
            return e;
        json = !cJSON_IsString(body);
        r->body = json ? value_print(body) : xstrdup(body->valuestring);
        r->body_len = strlen(r->body);
    }
    if (fill_headers(q, context, json, r, err) < 0)
        return err->code;
    if (p->proxy && template_expand_text_with(p->proxy, context, q->call->secrets, ret_proxy, err) < 0)
        return error_wrap(err, "proxy");
    if (!p->proxy && cJSON_IsTrue(c->proxy))
        *ret_proxy = xstrdup("");
    r->proxy = *ret_proxy;
    if (r->proxy && *r->proxy && !proxy_valid(r->proxy))
        return error_set(err, -EINVAL, "proxy: expected a URL (http, https, socks5, socks5h)");
    return 0;
}

static void start(struct step_call *call)
{
    struct request *q = xcalloc(1, sizeof(*q));
    struct http_request r = {0};
    struct error err = ERROR_INIT;
    char *proxy = NULL;
    q->call = call;
    call->state = q;
    loop_task_init(&q->ending, end, q);
    if (fill(q, &r, &proxy, &err) < 0) {
        q->failure = xstrdup(err.message);
        loop_defer(call->env->loop, &q->ending);
        http_request_fini(&r);
    } else {
        q->transfer = http_client_send(call->env->http, &r, answered, q);
    }
    secret_free(proxy);
}

static void cancel(struct step_call *call)
{
    struct request *q = call->state;
    if (!q || !q->transfer)
        return;
    http_transfer_cancel(steal(&q->transfer));
    loop_defer(call->env->loop, &q->ending);
}

const struct step_type step_http = {
    .kind = {.name = "http", .config = &table, .validate = validate, .rules = rules},
    .compile = compile,
    .free_program = free_program,
    .each_path = each_path,
    .each_reference = each_reference,
    .start = start,
    .cancel = cancel,
};
