#include "http/event_stream.h"
#include "http/route.h"
#include "model/value_alloc.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

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
        api_test(x->api, x->args[0], data, NULL, traceparent_of(x), call_of(x));
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
    x->list.trigger_id = x->args[0];
    x->list.of_trigger = true;
    list_events(x);
}

static void get_event(struct exchange *x)
{
    api_get_event(x->api, x->args[0], call_of(x));
}

/* Members of a request's object that nobody knows. False: answered. */
bool known_members(struct exchange *x, const char *const *known, size_t n, struct issues *issues)
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

void answer_issues(struct exchange *x, const char *what, struct issues *issues)
{
    api_problem_issues(call_of(x), 422, what, issues);
    issues_fini(issues);
}

const char *traceparent_of(struct exchange *x)
{
    return http_header(x->request, "traceparent");
}

const char *idempotency_key_of(struct exchange *x, struct issues *issues)
{
    const char *key = http_header(x->request, "Idempotency-Key");
    if (key && (!*key || strlen(key) > IDEMPOTENCY_KEY_MAX))
        issue_add(issues, "Idempotency-Key", NULL, "expected 1 to %d characters", IDEMPOTENCY_KEY_MAX);
    return key;
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
    const char *key = idempotency_key_of(x, &issues);
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
            issue_add(issues, filters[i], v, "expected %s, got %s", expected,
                      cJSON_IsString(v) ? v->valuestring : value_type_name(v));
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
    if (!api_event_words(&x->list, 400, call_of(x), &status, &decision))
        return;
    const struct feed_filter filter = {.trigger_id = x->list.trigger_id,
                                       .pipeline_id = x->list.pipeline_id,
                                       .event_type = x->list.event_type,
                                       .status = status,
                                       .decision = decision};
    event_stream_open(x->api->feed, &filter, x->request);
    exchange_free(x);
}

static void stream_changes(struct exchange *x)
{
    unsigned kinds = x->kind ? 0 : CHANGED_ALL;
    for (int i = 0; x->kind && change_kind_name(i); i++)
        if (streq(x->kind, change_kind_name(i)))
            kinds = 1u << i;
    if (!kinds) {
        api_problem_at(call_of(x), 400, "kind",
                       "kind: expected one of triggers, pipelines, runs, events, manifests, mcp_servers");
        return;
    }
    change_stream_open(x->api->changes, kinds, x->id, x->request);
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
    if (x->body)
        known_members(x, known, ARRAY_SIZE(known), &issues);
    if (issues.errors > 0)
        answer_issues(x, "the request to run a pipeline is not valid", &issues);
    else
        api_run_pipeline(x->api, x->args[0], inputs, traceparent_of(x), call_of(x));
}

static void completed(struct exchange *x)
{
    api_completed(x->api, x->args[0], x->body, traceparent_of(x), call_of(x));
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
    json_string(&b, "cgroup", x->api->cgroup);
    json_close(&b, '}');
    api_answer_text(call_of(x), 200, &b);
}

static void openapi(struct exchange *x)
{
    struct buf b = {0};
    if (!x->routes->openapi) {
        x->routes->openapi = openapi_text();
        value_alloc_trim(); /* a megabyte of nodes was there for a moment */
    }
    buf_adds(&b, x->routes->openapi);
    api_answer_text(call_of(x), 200, &b);
}

/* ---- the table ---- */

#define PAGE "page page_size"

const struct route http_routes[] = {
    {"GET", "api/v1/triggers", list_triggers, BODY_NONE,
     "pipeline_id trigger_type=TriggerType enabled_only status=TriggerStatus " PAGE, ACCESS_READ,
     "Triggers, newest first", NULL, NULL, "TriggerList", NULL},
    {"POST", "api/v1/triggers", create_trigger, BODY_REQUIRED, NULL, ACCESS_ADMIN, "Create a trigger: a new manifest",
     NULL, "TriggerCreate", "Trigger", "409 412 422 507"},
    {"GET", "api/v1/triggers/stats", stats, BODY_NONE, NULL, ACCESS_READ,
     "Numbers of triggers, and of events in the last 24 hours", NULL, NULL, "Stats", NULL},
    {"GET", "api/v1/triggers/events", list_events, BODY_NONE,
     "trigger_id pipeline_id event_type status=EventStatus decision=Decision since until " PAGE, ACCESS_READ,
     "Events, newest first", NULL, NULL, "EventList", NULL},
    {"GET", "api/v1/triggers/events/*", get_event, BODY_NONE, NULL, ACCESS_READ, "An event", "event_id", NULL, "Event",
     "404"},
    {"POST", "api/v1/triggers/emit", emit, BODY_REQUIRED, NULL, ACCESS_EMIT, "Emit a custom event at an endpoint", NULL,
     "Emit", "Emitted", "422 429 507"},
    {"POST", "api/v1/triggers/emit/mcp", emit_mcp_handle, BODY_OPTIONAL, "server_name event_type", ACCESS_EMIT,
     "Hand in an event of an MCP server that somebody else is connected to; the body is its data", NULL, "-any",
     "Emitted", "422 429 507"},
    {"GET", "api/v1/triggers/pipeline/*", triggers_of_pipeline, BODY_NONE,
     "trigger_type=TriggerType enabled_only status=TriggerStatus " PAGE, ACCESS_READ, "Triggers of a pipeline",
     "pipeline_id", NULL, "TriggerList", NULL},
    {"GET", "api/v1/triggers/type/*", triggers_of_type, BODY_NONE,
     "pipeline_id enabled_only status=TriggerStatus " PAGE, ACCESS_READ, "Triggers of a type", "trigger_type", NULL,
     "TriggerList", NULL},
    {"GET", "api/v1/triggers/*", get_trigger, BODY_NONE, NULL, ACCESS_READ, "A trigger", "trigger_id", NULL, "Trigger",
     "404"},
    {"PUT", "api/v1/triggers/*", update_trigger, BODY_REQUIRED, NULL, ACCESS_ADMIN,
     "Edit a trigger's manifest: what is absent or null stays", "trigger_id", "TriggerUpdate", "Trigger",
     "404 409 412 422 507"},
    {"DELETE", "api/v1/triggers/*", delete_trigger, BODY_NONE, NULL, ACCESS_ADMIN, "Delete a trigger's manifest",
     "trigger_id", NULL, "TriggerResult", "404 409 412 422 507"},
    {"GET", "api/v1/triggers/*/describe", describe_trigger, BODY_NONE, NULL, ACCESS_READ,
     "A trigger, its last events, and what its filter turned away", "trigger_id", NULL, "TriggerDescription", "404"},
    {"GET", "api/v1/triggers/*/events", events_of_trigger, BODY_NONE,
     "event_type status=EventStatus decision=Decision since until " PAGE, ACCESS_READ,
     "Events of a trigger, newest first; also of one that is deleted", "trigger_id", NULL, "EventList", "404"},
    {"POST", "api/v1/triggers/*/pause", pause_trigger, BODY_OPTIONAL, NULL, ACCESS_ADMIN, "Pause a trigger",
     "trigger_id", "-any", "TriggerResult", "404 507"},
    {"POST", "api/v1/triggers/*/resume", resume_trigger, BODY_OPTIONAL, "discard", ACCESS_ADMIN,
     "Resume a trigger; clears a latched error", "trigger_id", "-any", "TriggerResult", "404 507"},
    {"POST", "api/v1/triggers/*/test", test_trigger, BODY_OPTIONAL, "dry_run", ACCESS_ADMIN,
     "Run a trigger's pipeline with the body as event data", "trigger_id", "-any", "Event?|DryRun", "404 422 429 507"},
    {"POST", "api/v1/cloudevents", cloudevents_handle, BODY_RAW, NULL, ACCESS_EMIT,
     "Emit CloudEvents: structured, binary or batched", NULL, "CloudEvent", "Emitted", "422 429 507"},
    {"POST", "api/v1/events/replay", replay, BODY_REQUIRED, NULL, ACCESS_ADMIN,
     "Replay an event, or all that a filter finds", NULL, "Replay", "Event?|Replayed", "404 409 422 429 507"},
    {"GET", "api/v1/events/stream", stream_events, BODY_NONE,
     "trigger_id pipeline_id event_type status=EventStatus decision=Decision", ACCESS_READ,
     "Events as server-sent events, one a change of status", NULL, NULL, ANSWER_STREAM, NULL},
    {"GET", "api/v1/changes", stream_changes, BODY_NONE, "kind=ChangeKind id", ACCESS_READ,
     "That something has changed, as server-sent events: ask again for what is shown", NULL, NULL, ANSWER_STREAM, NULL},
    {"GET", "api/v1/pipelines", list_pipelines, BODY_NONE, PAGE, ACCESS_READ, "Pipelines", NULL, NULL, "PipelineList",
     NULL},
    {"POST", "api/v1/pipelines", create_pipeline, BODY_REQUIRED, NULL, ACCESS_ADMIN,
     "Create a pipeline: a new manifest", NULL, "PipelineCreate", "Pipeline", "409 412 422 507"},
    {"GET", "api/v1/pipelines/*", get_pipeline, BODY_NONE, NULL, ACCESS_READ, "A pipeline", "pipeline_id", NULL,
     "Pipeline", "404"},
    {"PUT", "api/v1/pipelines/*", update_pipeline, BODY_REQUIRED, NULL, ACCESS_ADMIN,
     "Edit a pipeline's manifest: what is absent or null stays", "pipeline_id", "PipelineUpdate", "Pipeline",
     "404 409 412 422 507"},
    {"DELETE", "api/v1/pipelines/*", delete_pipeline, BODY_NONE, NULL, ACCESS_ADMIN, "Delete a pipeline's manifest",
     "pipeline_id", NULL, "PipelineResult", "404 409 412 422 507"},
    {"POST", "api/v1/pipelines/*/run", run_pipeline, BODY_OPTIONAL, NULL, ACCESS_ADMIN, "Start a run of a pipeline",
     "pipeline_id", "-RunRequest", "Run", "404 422 507"},
    {"POST", "api/v1/pipelines/*/completed", completed, BODY_REQUIRED, NULL, ACCESS_EMIT,
     "Report the end of a run of a pipeline that ran elsewhere", "pipeline_id", "CompletedRun", "Emitted",
     "422 429 507"},
    {"GET", "api/v1/runs", list_runs, BODY_NONE, "pipeline_id trigger_id status=RunStatus since until " PAGE,
     ACCESS_READ, "Runs, newest first", NULL, NULL, "RunList", NULL},
    {"GET", "api/v1/runs/*", get_run, BODY_NONE, NULL, ACCESS_READ, "A run with its steps", "run_id", NULL, "Run",
     "404"},
    {"POST", "api/v1/runs/*/cancel", cancel_run, BODY_OPTIONAL, NULL, ACCESS_ADMIN, "Cancel a run", "run_id", "-any",
     "Run", "404 409"},
    {"GET", "api/v1/runs/*/steps/*/stdout", step_stdout, BODY_NONE, "offset", ACCESS_READ,
     "What a step wrote on standard output", "run_id step_id", NULL, ANSWER_BYTES, "404"},
    {"GET", "api/v1/runs/*/steps/*/stderr", step_stderr, BODY_NONE, "offset", ACCESS_READ,
     "What a step wrote on standard error", "run_id step_id", NULL, ANSWER_BYTES, "404"},
    {"GET", "api/v1/mcp_servers", mcp_list_handle, BODY_NONE, NULL, ACCESS_READ, "MCP servers and their connections",
     NULL, NULL, "McpServerList", NULL},
    {"POST", "api/v1/mcp_servers", mcp_create_handle, BODY_REQUIRED, NULL, ACCESS_ADMIN,
     "Declare an MCP server: a new manifest", NULL, "McpServerCreate", "McpServer", "409 412 422 507"},
    {"GET", "api/v1/mcp_servers/*", mcp_get_handle, BODY_NONE, NULL, ACCESS_READ, "An MCP server", "name", NULL,
     "McpServer", "404"},
    {"PUT", "api/v1/mcp_servers/*", mcp_update_handle, BODY_REQUIRED, NULL, ACCESS_ADMIN,
     "Edit an MCP server's manifest: what is absent or null stays", "name", "McpServerUpdate", "McpServer",
     "404 409 412 422 507"},
    {"DELETE", "api/v1/mcp_servers/*", mcp_delete_handle, BODY_NONE, NULL, ACCESS_ADMIN,
     "Delete an MCP server's manifest", "name", NULL, "McpServerResult", "404 409 412 422 507"},
    {"GET", "api/v1/mcp_servers/*/tools", mcp_tools_handle, BODY_NONE, NULL, ACCESS_ADMIN, "The tools of an MCP server",
     "name", NULL, "McpTools", "404 502 504"},
    {"POST", "api/v1/mcp_servers/*/call", mcp_call_handle, BODY_REQUIRED, NULL, ACCESS_ADMIN,
     "Call a tool of an MCP server", "name", "McpCall", "McpResult", "404 422 502 504"},
    {"GET", "api/v1/mcp_servers/*/notifications", mcp_stream_handle, BODY_NONE, NULL, ACCESS_ADMIN,
     "What an MCP server sends, as server-sent events", "name", NULL, ANSWER_STREAM, "404"},
    {"GET", "api/v1/manifests", list_manifests, BODY_NONE, NULL, ACCESS_READ,
     "Manifest files, their resources and errors", NULL, NULL, "ManifestList", NULL},
    {"GET", "api/v1/manifests/*/*", get_manifest, BODY_NONE, NULL, ACCESS_ADMIN, "The text of a resource's manifest",
     "kind id", NULL, "ManifestText", "404"},
    {"POST", "api/v1/manifests", put_manifests, BODY_REQUIRED, NULL, ACCESS_ADMIN,
     "Create and change many resources, all of them or none", NULL, "ManifestSet", "ManifestChanges",
     "409 412 422 507"},
    {"GET", "api/v1/status", status, BODY_NONE, NULL, ACCESS_READ, "The daemon", NULL, NULL, "DaemonStatus", NULL},
    {"GET", "healthz", healthz, BODY_NONE, NULL, ACCESS_OPEN, "Does it live", NULL, NULL, ANSWER_TEXT, NULL},
    {"GET", "readyz", readyz, BODY_NONE, NULL, ACCESS_OPEN, "Is it ready; 503 while it is not", NULL, NULL, ANSWER_TEXT,
     NULL},
    {"GET", "metrics", metrics, BODY_NONE, NULL, ACCESS_READ, "Prometheus text", NULL, NULL, ANSWER_TEXT, NULL},
    {"GET", "", page_handle, BODY_NONE, NULL, ACCESS_OPEN, "The web page", NULL, NULL, ANSWER_HTML, NULL},
    {"GET", "openapi.json", openapi, BODY_NONE, NULL, ACCESS_OPEN, "This document", NULL, NULL, "object", NULL},
};
const size_t http_routes_n = ARRAY_SIZE(http_routes);
