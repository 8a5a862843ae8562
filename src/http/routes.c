#include "http/exchange.h"

#include "http/event_stream.h"

#include "base/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

#define MANIFESTS_MAX ((size_t)16 << 20) /* bytes of many manifests in one request */

typedef void handler_fn(struct exchange *x);

enum { BODY_NONE, BODY_OPTIONAL, BODY_REQUIRED, BODY_RAW /* the handler reads it */ };

struct route {
    const char *method;
    const char *pattern; /* segments; `*` is an argument */
    handler_fn *handler;
    int body;
    const char *params; /* names of query parameters, blank-separated, NULL: none */
    enum access_scope scope;
};

/* What can be told before the first reconcile was applied; of all else it would be a lie. */
static bool any_time(const struct route *r)
{
    return strncmp(r->pattern, "api/", 4) != 0 || streq(r->pattern, "api/v1/status");
}

/* ---- answering ---- */

void exchange_free(struct exchange *x)
{
    for (size_t i = 0; i < x->n_args; i++)
        free(x->args[i]);
    cJSON_Delete(x->body);
    free(x);
}

static void answered(void *ctx, struct api_answer *answer)
{
    struct exchange *x = ctx;
    char retry[16];
    struct http_reply reply = {.status = answer->status, .body = answer->body, .body_len = answer->len};
    size_t n = 0;
    reply.content_type = answer->problem ? "application/problem+json" : answer->type;
    if (answer->location) {
        reply.headers[n][0] = "Location";
        reply.headers[n++][1] = answer->location;
    }
    if (answer->etag) {
        reply.headers[n][0] = "ETag";
        reply.headers[n++][1] = answer->etag;
    }
    if (answer->retry_after > 0) {
        snprintf(retry, sizeof(retry), "%d", answer->retry_after);
        reply.headers[n][0] = "Retry-After";
        reply.headers[n++][1] = retry;
    }
    http_reply(x->request, &reply);
    exchange_free(x);
}

struct api_call call_of(struct exchange *x)
{
    return (struct api_call){answered, x};
}

static const char *take_param(struct exchange *x, const char *key, const char *value);

/* ---- handlers ---- */

static void list_triggers(struct exchange *x)
{
    struct api_trigger_filter f = {.pipeline_id = x->list.pipeline_id,
                                   .trigger_type = x->trigger_type,
                                   .status = x->list.status,
                                   .enabled_only = x->enabled_only,
                                   .page = x->list.page,
                                   .page_size = x->list.page_size};
    api_list_triggers(x->api, &f, call_of(x));
}

static void triggers_of_pipeline(struct exchange *x)
{
    x->list.pipeline_id = x->args[0];
    list_triggers(x);
}

static void triggers_of_type(struct exchange *x)
{
    x->trigger_type = x->args[0];
    list_triggers(x);
}

static void get_trigger(struct exchange *x)
{
    api_get_trigger(x->api, x->args[0], call_of(x));
}

static void describe_trigger(struct exchange *x)
{
    api_describe_trigger(x->api, x->args[0], call_of(x));
}

static void create_trigger(struct exchange *x)
{
    api_create_resource(x->api, RESOURCE_TRIGGER, x->body, call_of(x));
}

static void update_trigger(struct exchange *x)
{
    api_update_resource(x->api, RESOURCE_TRIGGER, x->args[0], x->body, http_header(x->request, "If-Match"), call_of(x));
}

static void delete_trigger(struct exchange *x)
{
    api_delete_resource(x->api, RESOURCE_TRIGGER, x->args[0], http_header(x->request, "If-Match"), call_of(x));
}

static void create_pipeline(struct exchange *x)
{
    api_create_resource(x->api, RESOURCE_PIPELINE, x->body, call_of(x));
}

static void update_pipeline(struct exchange *x)
{
    api_update_resource(x->api, RESOURCE_PIPELINE, x->args[0], x->body, http_header(x->request, "If-Match"),
                        call_of(x));
}

static void delete_pipeline(struct exchange *x)
{
    api_delete_resource(x->api, RESOURCE_PIPELINE, x->args[0], http_header(x->request, "If-Match"), call_of(x));
}

static void pause_trigger(struct exchange *x)
{
    api_pause(x->api, x->args[0], call_of(x));
}

static void resume_trigger(struct exchange *x)
{
    api_resume(x->api, x->args[0], x->discard, call_of(x));
}

static void test_trigger(struct exchange *x)
{
    static cJSON empty = {.type = cJSON_Object};
    const cJSON *data = x->body ? x->body : &empty;
    if (x->dry_run)
        api_dry_run(x->api, x->args[0], data, call_of(x));
    else
        api_test(x->api, x->args[0], data, NULL, http_header(x->request, "traceparent"), call_of(x));
}

static void stats(struct exchange *x)
{
    api_stats(x->api, call_of(x));
}

static void list_events(struct exchange *x)
{
    api_list_events(x->api, &x->list, call_of(x));
}

static void events_of_trigger(struct exchange *x)
{
    if (!engine_find_trigger(x->api->engine, x->args[0])) {
        api_problem(call_of(x), 404, "there is no trigger \"%s\"", x->args[0]);
        return;
    }
    x->list.trigger_id = x->args[0];
    list_events(x);
}

static void get_event(struct exchange *x)
{
    api_get_event(x->api, x->args[0], call_of(x));
}

/* Members of a request's object that nobody knows. False: answered. */
static bool known_members(struct exchange *x, const char *const *known, size_t n, struct issues *issues)
{
    const cJSON *item;
    if (!cJSON_IsObject(x->body)) {
        issue_add(issues, "", x->body, "expected an object, got %s", value_type_name(x->body));
        return false;
    }
    cJSON_ArrayForEach (item, x->body) {
        bool found = false;
        for (size_t i = 0; i < n; i++)
            found = found || streq(known[i], item->string);
        if (!found)
            issue_add(issues, item->string, item, "unknown key; did you mean \"%s\"?",
                      nearest_name(item->string, known, n));
    }
    return true;
}

static void answer_issues(struct exchange *x, const char *what, struct issues *issues)
{
    api_problem_issues(call_of(x), 422, what, issues);
    issues_fini(issues);
}

/* W3C trace context, version 00: anything else is ignored, as the standard asks. */
const char *traceparent_of(struct exchange *x)
{
    const char *t = http_header(x->request, "traceparent");
    if (!t || strlen(t) != 55 || strncmp(t, "00-", 3) != 0 || t[35] != '-' || t[52] != '-')
        return NULL;
    for (size_t i = 3; i < 55; i++)
        if (i != 35 && i != 52 && !strchr("0123456789abcdef", t[i]))
            return NULL;
    return t;
}

static void emit(struct exchange *x)
{
    static const char *const known[] = {"endpoint", "data"};
    static cJSON empty = {.type = cJSON_Object};
    struct issues issues = ISSUES_INIT;
    const cJSON *endpoint = value_get(x->body, "endpoint"), *data = value_get(x->body, "data");
    if (known_members(x, known, ARRAY_SIZE(known), &issues) && !cJSON_IsString(endpoint))
        issue_add(&issues, "endpoint", endpoint, endpoint ? "expected a string, got %s" : "required, but missing%s",
                  endpoint ? value_type_name(endpoint) : "");
    const char *key = http_header(x->request, "Idempotency-Key");
    if (key && (!*key || strlen(key) > IDEMPOTENCY_KEY_MAX))
        issue_add(&issues, "Idempotency-Key", NULL, "expected 1 to %d characters", IDEMPOTENCY_KEY_MAX);
    if (issues.errors > 0) {
        answer_issues(x, "the emit is not valid", &issues);
        return;
    }
    struct api_emit e = {.endpoint = cJSON_GetStringValue(endpoint),
                         .data = data ? data : &empty,
                         .idempotency_key = key,
                         .traceparent = traceparent_of(x),
                         .parent_run = http_header(x->request, "Triggerd-Parent-Run")};
    api_emit(x->api, &e, call_of(x));
}

/* The filter of a replay: the same words as in a list's query. */
static void take_replay_filter(struct exchange *x, struct issues *issues)
{
    static const char *const filters[] = {"trigger_id", "pipeline_id", "event_type", "status",
                                          "decision",   "since",       "until"};
    bool any = false;
    for (size_t i = 0; i < ARRAY_SIZE(filters); i++) {
        const cJSON *v = value_get(x->body, filters[i]);
        const char *expected = !v ? NULL : cJSON_IsString(v) ? take_param(x, filters[i], v->valuestring) : "a string";
        if (expected)
            issue_add(issues, filters[i], v, "expected %s, got %s", expected, value_type_name(v));
        any = any || v;
    }
    const cJSON *dry = value_get(x->body, "dry_run");
    if (dry && !cJSON_IsBool(dry))
        issue_add(issues, "dry_run", dry, "expected true or false");
    x->dry_run = cJSON_IsTrue(dry);
    if (!any)
        issue_add(issues, "event_id", NULL, "expected the id of an event, or a filter (trigger_id, status, since, …)");
}

static void replay(struct exchange *x)
{
    static const char *const known[] = {"event_id", "trigger_id", "pipeline_id", "event_type", "status",
                                        "decision", "since",      "until",       "dry_run"};
    struct issues issues = ISSUES_INIT;
    const cJSON *id = value_get(x->body, "event_id");
    if (known_members(x, known, ARRAY_SIZE(known), &issues) && !id)
        take_replay_filter(x, &issues);
    else if (id && !cJSON_IsString(id))
        issue_add(&issues, "event_id", id, "expected the id of an event");
    else if (id && cJSON_GetArraySize(x->body) > 1)
        issue_add(&issues, "event_id", id, "an event's id goes with no filter");
    if (issues.errors > 0)
        answer_issues(x, "the replay is not valid", &issues);
    else if (id)
        api_replay(x->api, id->valuestring, call_of(x));
    else
        api_replay_many(x->api, &x->list, x->dry_run, call_of(x));
}

static void stream_events(struct exchange *x)
{
    int status, decision;
    if (!api_event_words(&x->list, call_of(x), &status, &decision))
        return;
    const struct feed_filter filter = {.trigger_id = x->list.trigger_id,
                                       .pipeline_id = x->list.pipeline_id,
                                       .event_type = x->list.event_type,
                                       .status = status,
                                       .decision = decision};
    event_stream_open(x->api->feed, &filter, x->request);
    exchange_free(x);
}

static void list_pipelines(struct exchange *x)
{
    api_list_pipelines(x->api, x->list.page, x->list.page_size, call_of(x));
}

static void get_pipeline(struct exchange *x)
{
    api_get_pipeline(x->api, x->args[0], call_of(x));
}

static void run_pipeline(struct exchange *x)
{
    static const char *const known[] = {"inputs"};
    struct issues issues = ISSUES_INIT;
    const cJSON *inputs = value_get(x->body, "inputs");
    if (x->body && known_members(x, known, ARRAY_SIZE(known), &issues) && inputs && !cJSON_IsObject(inputs))
        issue_add(&issues, "inputs", inputs, "expected an object, got %s", value_type_name(inputs));
    if (issues.errors > 0)
        answer_issues(x, "the request to run a pipeline is not valid", &issues);
    else
        api_run_pipeline(x->api, x->args[0], inputs, traceparent_of(x), call_of(x));
}

static void completed(struct exchange *x)
{
    api_completed(x->api, x->args[0], x->body, call_of(x));
}

static void list_runs(struct exchange *x)
{
    api_list_runs(x->api, &x->list, call_of(x));
}

static void get_run(struct exchange *x)
{
    api_get_run(x->api, x->args[0], call_of(x));
}

static void cancel_run(struct exchange *x)
{
    api_cancel_run(x->api, x->args[0], call_of(x));
}

static void step_stdout(struct exchange *x)
{
    api_step_output(x->api, x->args[0], x->args[1], false, x->offset, call_of(x));
}

static void step_stderr(struct exchange *x)
{
    api_step_output(x->api, x->args[0], x->args[1], true, x->offset, call_of(x));
}

static void list_manifests(struct exchange *x)
{
    api_list_manifests(x->api, call_of(x));
}

static void get_manifest(struct exchange *x)
{
    api_get_manifest(x->api, x->args[0], x->args[1], call_of(x));
}

static void put_manifests(struct exchange *x)
{
    static const char *const known[] = {"files", "directories", "dry_run"};
    struct issues issues = ISSUES_INIT;
    known_members(x, known, ARRAY_SIZE(known), &issues);
    if (issues.errors > 0)
        answer_issues(x, "the request is not valid", &issues);
    else
        api_put_manifests(x->api, x->body, call_of(x));
}

static void answer_word(struct exchange *x, int status, const char *word)
{
    struct api_answer answer = {
        .status = status, .body = xasprintf("%s\n", word), .len = strlen(word) + 1, .type = "text/plain"};
    answered(x, &answer);
}

static void healthz(struct exchange *x)
{
    answer_word(x, 200, "ok");
}

static bool is_ready(const struct api *a)
{
    return a->ready && !a->mounting && engine_starting_sources(a->engine) == 0;
}

static void readyz(struct exchange *x)
{
    bool ready = is_ready(x->api);
    answer_word(x, ready ? 200 : 503, ready ? "ok" : "not ready");
}

static void metrics(struct exchange *x)
{
    api_metrics(x->api, call_of(x));
}

static void status(struct exchange *x)
{
    struct buf b = {0};
    json_open(&b, NULL, '{');
    json_string(&b, "version", TRIGGERD_VERSION);
    json_bool(&b, "ready", is_ready(x->api));
    json_bool(&b, "enabled", x->api->firing);
    json_bool(&b, "store_writable", x->api->store->writable(x->api->store));
    json_int(&b, "pid", getpid());
    json_string(&b, "state_dir", x->api->state_dir);
    json_close(&b, '}');
    api_answer_text(call_of(x), 200, &b);
}

/* ---- the table ---- */

#define PAGE "page page_size"

static const struct route routes[] = {
    {"GET", "api/v1/triggers", list_triggers, BODY_NONE, "pipeline_id trigger_type enabled_only status " PAGE,
     ACCESS_READ},
    {"POST", "api/v1/triggers", create_trigger, BODY_REQUIRED, NULL, ACCESS_ADMIN},
    {"GET", "api/v1/triggers/stats", stats, BODY_NONE, NULL, ACCESS_READ},
    {"GET", "api/v1/triggers/events", list_events, BODY_NONE,
     "trigger_id pipeline_id event_type status decision since until " PAGE, ACCESS_READ},
    {"GET", "api/v1/triggers/events/*", get_event, BODY_NONE, NULL, ACCESS_READ},
    {"POST", "api/v1/triggers/emit", emit, BODY_REQUIRED, NULL, ACCESS_EMIT},
    {"GET", "api/v1/triggers/pipeline/*", triggers_of_pipeline, BODY_NONE, "trigger_type enabled_only status " PAGE,
     ACCESS_READ},
    {"GET", "api/v1/triggers/type/*", triggers_of_type, BODY_NONE, "pipeline_id enabled_only status " PAGE,
     ACCESS_READ},
    {"GET", "api/v1/triggers/*", get_trigger, BODY_NONE, NULL, ACCESS_READ},
    {"PUT", "api/v1/triggers/*", update_trigger, BODY_REQUIRED, NULL, ACCESS_ADMIN},
    {"DELETE", "api/v1/triggers/*", delete_trigger, BODY_NONE, NULL, ACCESS_ADMIN},
    {"GET", "api/v1/triggers/*/describe", describe_trigger, BODY_NONE, NULL, ACCESS_READ},
    {"GET", "api/v1/triggers/*/events", events_of_trigger, BODY_NONE, "event_type status decision since until " PAGE,
     ACCESS_READ},
    {"POST", "api/v1/triggers/*/pause", pause_trigger, BODY_OPTIONAL, NULL, ACCESS_ADMIN},
    {"POST", "api/v1/triggers/*/resume", resume_trigger, BODY_OPTIONAL, "discard", ACCESS_ADMIN},
    {"POST", "api/v1/triggers/*/test", test_trigger, BODY_OPTIONAL, "dry_run", ACCESS_ADMIN},
    {"POST", "api/v1/cloudevents", cloudevents_handle, BODY_RAW, NULL, ACCESS_EMIT},
    {"POST", "api/v1/events/replay", replay, BODY_REQUIRED, NULL, ACCESS_ADMIN},
    {"GET", "api/v1/events/stream", stream_events, BODY_NONE, "trigger_id pipeline_id event_type status decision",
     ACCESS_READ},
    {"GET", "api/v1/pipelines", list_pipelines, BODY_NONE, PAGE, ACCESS_READ},
    {"POST", "api/v1/pipelines", create_pipeline, BODY_REQUIRED, NULL, ACCESS_ADMIN},
    {"GET", "api/v1/pipelines/*", get_pipeline, BODY_NONE, NULL, ACCESS_READ},
    {"PUT", "api/v1/pipelines/*", update_pipeline, BODY_REQUIRED, NULL, ACCESS_ADMIN},
    {"DELETE", "api/v1/pipelines/*", delete_pipeline, BODY_NONE, NULL, ACCESS_ADMIN},
    {"POST", "api/v1/pipelines/*/run", run_pipeline, BODY_OPTIONAL, NULL, ACCESS_ADMIN},
    {"POST", "api/v1/pipelines/*/completed", completed, BODY_REQUIRED, NULL, ACCESS_EMIT},
    {"GET", "api/v1/runs", list_runs, BODY_NONE, "pipeline_id trigger_id status since until " PAGE, ACCESS_READ},
    {"GET", "api/v1/runs/*", get_run, BODY_NONE, NULL, ACCESS_READ},
    {"POST", "api/v1/runs/*/cancel", cancel_run, BODY_OPTIONAL, NULL, ACCESS_ADMIN},
    {"GET", "api/v1/runs/*/steps/*/stdout", step_stdout, BODY_NONE, "offset", ACCESS_READ},
    {"GET", "api/v1/runs/*/steps/*/stderr", step_stderr, BODY_NONE, "offset", ACCESS_READ},
    {"GET", "api/v1/manifests", list_manifests, BODY_NONE, NULL, ACCESS_READ},
    {"GET", "api/v1/manifests/*/*", get_manifest, BODY_NONE, NULL, ACCESS_ADMIN},
    {"POST", "api/v1/manifests", put_manifests, BODY_REQUIRED, NULL, ACCESS_ADMIN},
    {"GET", "api/v1/status", status, BODY_NONE, NULL, ACCESS_READ},
    {"GET", "healthz", healthz, BODY_NONE, NULL, ACCESS_OPEN},
    {"GET", "readyz", readyz, BODY_NONE, NULL, ACCESS_OPEN},
    {"GET", "metrics", metrics, BODY_NONE, NULL, ACCESS_READ},
};

/* ---- from a request to its route ---- */

/* A percent-encoded segment; NULL when it is malformed, holds NUL, or is no UTF-8. */
static char *decode(const char *text, size_t len)
{
    struct buf b = {0};
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == '%') {
            int high = i + 2 < len ? hex_digit(text[i + 1]) : -1;
            int low = i + 2 < len ? hex_digit(text[i + 2]) : -1;
            if (high < 0 || low < 0 || (high == 0 && low == 0)) {
                buf_fini(&b);
                return NULL;
            }
            c = (char)(high << 4 | low);
            i += 2;
        }
        buf_addc(&b, c);
    }
    if (!utf8_valid(b.data ? b.data : "", b.len)) {
        buf_fini(&b);
        return NULL;
    }
    return buf_steal(&b);
}

struct segments {
    const char *at[SEGMENTS_MAX];
    size_t len[SEGMENTS_MAX];
    size_t n;
};

/* False: more than any route has. A trailing slash does not count. */
static bool split(const char *path, struct segments *s)
{
    *s = (struct segments){0};
    while (*path == '/')
        path++;
    while (*path) {
        size_t n = strcspn(path, "/");
        if (s->n == SEGMENTS_MAX)
            return false;
        s->at[s->n] = path;
        s->len[s->n++] = n;
        path += n;
        if (*path == '/')
            path++;
    }
    return true;
}

static bool pattern_fits(const char *pattern, const struct segments *s)
{
    size_t i = 0;
    while (*pattern) {
        size_t n = strcspn(pattern, "/");
        bool star = n == 1 && *pattern == '*';
        if (i == s->n || (!star && (s->len[i] != n || memcmp(s->at[i], pattern, n) != 0)) || s->len[i] == 0)
            return false;
        i++;
        pattern += n;
        if (*pattern == '/')
            pattern++;
    }
    return i == s->n;
}

/* The first route that fits path and method; literal words come before `*` in the table. *ret_allow gets the methods of
 * the first pattern that fits. */
static const struct route *find_route(const char *method, const struct segments *s, struct buf *ret_allow)
{
    const char *pattern = NULL;
    bool head = streq(method, "HEAD");
    for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
        const struct route *r = &routes[i];
        if (!pattern_fits(r->pattern, s) || (pattern && !streq(pattern, r->pattern)))
            continue;
        pattern = r->pattern;
        if (streq(r->method, head ? "GET" : method))
            return r;
        buf_printf(ret_allow, "%s%s", ret_allow->len ? ", " : "", r->method);
    }
    return NULL;
}

static bool take_args(struct exchange *x, const char *pattern, const struct segments *s)
{
    for (size_t i = 0; i < s->n; i++) {
        size_t n = strcspn(pattern, "/");
        if (n == 1 && *pattern == '*') {
            x->args[x->n_args] = decode(s->at[i], s->len[i]);
            if (!x->args[x->n_args])
                return false;
            x->n_args++;
        }
        pattern += n + (pattern[n] == '/');
    }
    return true;
}

/* ---- query ---- */

static bool in_words(const char *words, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = words; p && *p;) {
        size_t len = strcspn(p, " ");
        if (len == n && memcmp(p, word, n) == 0)
            return true;
        p += len;
        p += strspn(p, " ");
    }
    return false;
}

static bool parse_bool(const char *text, bool *ret)
{
    if (!streq(text, "true") && !streq(text, "false") && !streq(text, "1") && !streq(text, "0"))
        return false;
    *ret = streq(text, "true") || streq(text, "1");
    return true;
}

static bool parse_count(const char *text, int64_t min, int64_t max, int64_t *ret)
{
    char *end = NULL;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (errno || end == text || *end || n < min || n > max || strchr("+ ", *text))
        return false;
    *ret = n;
    return true;
}

/* One parameter into the exchange; NULL, or what was expected. */
static const char *take_param(struct exchange *x, const char *key, const char *value)
{
    static const struct {
        const char *name;
        size_t offset;
    } texts[] = {
        {"trigger_id", offsetof(struct exchange, list.trigger_id)},
        {"pipeline_id", offsetof(struct exchange, list.pipeline_id)},
        {"event_type", offsetof(struct exchange, list.event_type)},
        {"status", offsetof(struct exchange, list.status)},
        {"decision", offsetof(struct exchange, list.decision)},
        {"trigger_type", offsetof(struct exchange, trigger_type)},
    };
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        if (streq(key, texts[i].name)) {
            *(const char **)((char *)x + texts[i].offset) = value;
            return NULL;
        }
    if (streq(key, "page"))
        return parse_count(value, 1, INT64_C(1000000000), &x->list.page) ? NULL : "a number from 1";
    if (streq(key, "page_size"))
        return parse_count(value, 1, 100, &x->list.page_size) ? NULL : "a number from 1 to 100";
    if (streq(key, "offset"))
        return parse_count(value, 0, INT64_MAX, &x->offset) ? NULL : "a number of bytes";
    if (streq(key, "enabled_only"))
        return parse_bool(value, &x->enabled_only) ? NULL : "true or false";
    if (streq(key, "dry_run"))
        return parse_bool(value, &x->dry_run) ? NULL : "true or false";
    if (streq(key, "discard"))
        return parse_bool(value, &x->discard) ? NULL : "true or false";
    int64_t *time = streq(key, "since") ? &x->list.since_ms : &x->list.until_ms;
    int r = time_parse_since(value, clock_realtime_ms(x->api->clock), time);
    return r == 0 ? NULL : "a time (2024-01-01T00:00:00Z) or a duration (15m)";
}

/* False: answered with 400. */
static bool take_query(struct exchange *x, const struct route *route)
{
    const struct http_param *params;
    size_t n = http_query(x->request, &params);
    x->list.page = 1;
    x->list.page_size = 50;
    for (size_t i = 0; i < n; i++) {
        if (!in_words(route->params, params[i].key)) {
            api_problem_at(call_of(x), 400, params[i].key, "unknown query parameter \"%s\"; known here: %s",
                           params[i].key, route->params ? route->params : "none");
            return false;
        }
        const char *expected = take_param(x, params[i].key, params[i].value);
        if (expected) {
            api_problem_at(call_of(x), 400, params[i].key, "%s: expected %s, got \"%s\"", params[i].key, expected,
                           params[i].value);
            return false;
        }
    }
    return true;
}

/* ---- body ---- */

bool is_json_type(const char *type)
{
    if (!type)
        return true;
    size_t n = strcspn(type, "; \t");
    return (n == 16 && strncasecmp(type, "application/json", n) == 0) ||
           (n > 5 && strncasecmp(type, "application/", 12) == 0 && strncasecmp(type + n - 5, "+json", 5) == 0);
}

/* False: answered. */
static bool take_body(struct exchange *x, const struct route *route)
{
    size_t len;
    const char *body = http_body(x->request, &len);
    if (route->body == BODY_NONE || route->body == BODY_RAW || (len == 0 && route->body == BODY_OPTIONAL))
        return true;
    if (len == 0) {
        api_problem(call_of(x), 400, "a JSON body is needed");
        return false;
    }
    if (!is_json_type(http_header(x->request, "Content-Type"))) {
        api_problem(call_of(x), 415, "expected Content-Type: application/json, got %s",
                    http_header(x->request, "Content-Type"));
        return false;
    }
    struct error err = ERROR_INIT;
    if (value_parse(body, len, &x->body, &err) < 0) {
        api_problem(call_of(x), 400, "the body is not valid JSON: line %u, column %u: %s", err.line, err.column,
                    err.message);
        return false;
    }
    return true;
}

void refuse_with(struct exchange *x, int status, const char *detail, const char *header, const char *value)
{
    struct http_reply reply = {.status = status, .content_type = "application/problem+json"};
    reply.body = api_problem_text(status, detail);
    reply.body_len = strlen(reply.body);
    reply.headers[0][0] = header;
    reply.headers[0][1] = value;
    http_reply(x->request, &reply);
    exchange_free(x);
}

/* Over the unix socket alone: elsewhere nobody has shown a token before the body is read. */
size_t routes_body_bound(const struct http_request *r)
{
    bool many = streq(http_method(r), "POST") && streq(http_path(r), "/api/v1/manifests");
    return many && http_over_unix_socket(r) ? MANIFESTS_MAX : 0;
}

/* What follows `prefix`; NULL: it is not there. */
static const char *path_after(const char *path, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(path, prefix, n) == 0 ? path + n : NULL;
}

static void handle_settled(void *ctx)
{
    struct exchange *x = ctx;
    x->route->handler(x);
}

void routes_handle(void *ctx, struct http_request *r)
{
    const struct routes *routing = ctx;
    struct exchange *x = xcalloc(1, sizeof(*x));
    x->routes = routing;
    x->api = routing->api;
    x->request = r;
    struct segments s;
    struct buf allow = {0};
    const char *hook = path_after(http_path(r), "/hooks/");
    const struct route *route = split(http_path(r), &s) ? find_route(http_method(r), &s, &allow) : NULL;
    const char *why = NULL;
    int refused = access_check(routing->access, r, hook ? ACCESS_OPEN : route ? route->scope : ACCESS_READ, &why);
    if (refused) {
        refuse_with(x, refused, why, refused == 401 ? "WWW-Authenticate" : NULL, "Bearer realm=\"triggerd\"");
    } else if (hook) {
        hooks_handle(x, hook);
    } else if (!route && allow.len > 0) {
        _cleanup_(freep) char *detail = xasprintf("%s is not allowed here; allowed: %s", http_method(r), allow.data);
        refuse_with(x, 405, detail, "Allow", allow.data);
    } else if (!route) {
        api_problem(call_of(x), 404, "there is nothing at %s", http_path(r));
    } else if (!x->api->started && !any_time(route)) {
        api_problem(call_of(x), 503, "triggerd is starting; try again");
    } else if (!take_args(x, route->pattern, &s)) {
        api_problem(call_of(x), 400, "the path is not valid UTF-8 in percent-encoding");
    } else if (take_query(x, route) && take_body(x, route)) {
        x->route = route;
        if (x->api->settle)
            x->api->settle(x->api->settle_ctx, handle_settled, x);
        else
            handle_settled(x);
    }
    buf_fini(&allow);
}
