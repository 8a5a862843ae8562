/* /openapi.json, from the table of routes and the shapes of the api. */
#include "http/route.h"

#include "api/shape.h"
#include "source/webhook.h"

#include <ctype.h>
#include <stdio.h>

static cJSON *text_object(const char *key, const char *value)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, key, value);
    return o;
}

/* The words of a blank-separated list, one after the other; *ret_len 0 after the last. */
static const char *next_word(const char **at, size_t *ret_len)
{
    const char *word = *at ? *at + strspn(*at, " ") : "";
    *ret_len = strcspn(word, " ");
    *at = word + *ret_len;
    return word;
}

/* ---- parameters ---- */

static cJSON *parameter(cJSON *list, const char *name, const char *in, const char *doc, cJSON *schema)
{
    cJSON *o = text_object("name", name);
    cJSON_AddStringToObject(o, "in", in);
    if (streq(in, "path"))
        cJSON_AddBoolToObject(o, "required", true);
    if (doc)
        cJSON_AddStringToObject(o, "description", doc);
    cJSON_AddItemToObject(o, "schema", schema);
    cJSON_AddItemToArray(list, o);
    return o;
}

/* A word of a route's `params`: the name of a parameter, and perhaps `=` and the words it takes. */
static void query_parameter(cJSON *list, const char *word, size_t len)
{
    const char *equals = memchr(word, '=', len);
    const struct param *p = param_find(word, equals ? (size_t)(equals - word) : len);
    _cleanup_(freep) char *type = equals ? xstrndup(equals + 1, len - (size_t)(equals + 1 - word)) : NULL;
    cJSON *schema = shape_type(type                     ? type
                               : p->kind == PARAM_COUNT ? "integer"
                               : p->kind == PARAM_BOOL  ? "boolean"
                               : p->kind == PARAM_TIME  ? "moment"
                                                        : "string");
    if (p->kind == PARAM_COUNT) {
        cJSON_AddItemToObject(schema, "minimum", value_number_from_int(p->min));
        cJSON_AddItemToObject(schema, "maximum", value_number_from_int(p->max));
    }
    parameter(list, p->name, "query", p->doc, schema);
}

/* Headers that the handlers look at. */
static void header_parameters(cJSON *list, const struct route *r)
{
    bool edits = r->answer && (streq(r->method, "PUT") || streq(r->method, "DELETE"));
    bool occurs = r->scope != ACCESS_READ && (strstr(r->pattern, "emit") || strstr(r->pattern, "/test") ||
                                              strstr(r->pattern, "/run") || strstr(r->pattern, "cloudevents"));
    if (edits)
        parameter(list, "If-Match", "header", "The ETag that the manifest must still have", shape_type("string"));
    if (strstr(r->pattern, "/emit"))
        parameter(list, "Idempotency-Key", "header", "A second emit with it gives the first one's events",
                  shape_type("string"));
    if (occurs && !strstr(r->pattern, "cancel"))
        parameter(list, "traceparent", "header", "W3C trace context", shape_type("string"));
    if (streq(r->pattern, "api/v1/events/stream"))
        parameter(list, "Last-Event-ID", "header", "Go on after this position", shape_type("string"));
}

static cJSON *parameters(const struct route *r)
{
    cJSON *list = cJSON_CreateArray();
    const char *at = r->args, *word;
    size_t len;
    while (word = next_word(&at, &len), len > 0) {
        _cleanup_(freep) char *name = xstrndup(word, len);
        cJSON *schema = shape_type(streq(name, "kind")           ? "ResourceKind"
                                   : streq(name, "trigger_type") ? "TriggerType"
                                                                 : "string");
        parameter(list, name, "path", NULL, schema);
    }
    at = r->params;
    while (word = next_word(&at, &len), len > 0)
        query_parameter(list, word, len);
    header_parameters(list, r);
    return list;
}

/* ---- bodies ---- */

static cJSON *content(const char *media_type, cJSON *schema)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddItemToObject(cJSON_AddObjectToObject(o, media_type), "schema", schema);
    return o;
}

static cJSON *request_body(const struct route *r)
{
    cJSON *o = cJSON_CreateObject(), *types;
    bool optional = *r->request == '-';
    cJSON_AddBoolToObject(o, "required", !optional);
    if (r->body != BODY_RAW) {
        types = content("application/json", shape_type(r->request + optional));
    } else {
        types = content("application/cloudevents+json", shape_type(r->request));
        _cleanup_(freep) char *batch = xasprintf("[%s]", r->request);
        cJSON_AddItemToObject(cJSON_AddObjectToObject(types, "application/cloudevents-batch+json"), "schema",
                              shape_type(batch));
    }
    cJSON_AddItemToObject(o, "content", types);
    return o;
}

static void add_header(cJSON *response, const char *name, const char *doc)
{
    cJSON *headers = value_get(response, "headers");
    cJSON *header = text_object("description", doc);
    cJSON_AddItemToObject(header, "schema", shape_type("string"));
    cJSON_AddItemToObject(headers ? headers : cJSON_AddObjectToObject(response, "headers"), name, header);
}

static void success(cJSON *responses, const struct route *r)
{
    const char *type = r->answer;
    bool creates = streq(r->method, "POST") && r->request && strstr(r->request, "Create");
    bool single = streq(type, "Trigger") || streq(type, "Pipeline") || streq(type, "McpServer");
    cJSON *o = text_object("description", r->summary);
    bool raw = strchr(type, '/') != NULL;
    cJSON_AddItemToObject(o, "content", content(raw ? type : "application/json", shape_type(raw ? "string" : type)));
    if (streq(type, ANSWER_BYTES))
        cJSON_AddStringToObject(value_get(value_get(value_get(o, "content"), type), "schema"), "format", "binary");
    if (single)
        add_header(o, "ETag", "Of the manifest, not of the state");
    if (creates)
        add_header(o, "Location", "Where it is");
    cJSON_AddItemToObject(responses, creates ? "201" : "200", o);
    if (streq(r->pattern, "readyz")) {
        o = text_object("description", "It is not ready");
        cJSON *types = content(type, shape_type("string"));
        cJSON_AddItemToObject(cJSON_AddObjectToObject(types, "application/problem+json"), "schema",
                              shape_type("Problem"));
        cJSON_AddItemToObject(o, "content", types);
        cJSON_AddItemToObject(responses, "503", o);
    }
}

static void refused(cJSON *responses, const char *status)
{
    if (value_get(responses, status))
        return;
    _cleanup_(freep) char *ref = xasprintf("#/components/responses/%s", status);
    cJSON_AddItemToObject(responses, status, text_object("$ref", ref));
}

static void refusals(cJSON *responses, const struct route *r)
{
    static const char *const any[] = {"400", "401", "403", "413", "414", "431", "500", "503"};
    const char *at = r->problems, *word;
    size_t len;
    for (size_t i = 0; i < ARRAY_SIZE(any); i++)
        refused(responses, any[i]);
    if (r->body != BODY_NONE)
        refused(responses, "415");
    while (word = next_word(&at, &len), len > 0) {
        _cleanup_(freep) char *status = xstrndup(word, len);
        refused(responses, status);
    }
}

/* ---- operations ---- */

/* `/api/v1/triggers/{trigger_id}/events`; the caller's. */
static char *path_of(const struct route *r)
{
    struct buf b = {0};
    const char *args = r->args, *word;
    size_t len;
    buf_addc(&b, '/');
    for (const char *p = r->pattern; *p; p++) {
        if (*p == '*') {
            word = next_word(&args, &len);
            buf_printf(&b, "{%.*s}", (int)len, word);
        } else {
            buf_addc(&b, *p);
        }
    }
    return buf_steal(&b);
}

/* One that no other has: the method, and the words of the path in camel case. */
static char *operation_id(const char *method, const char *path)
{
    struct buf b = {0};
    bool upper = true;
    for (const char *p = method; *p; p++)
        buf_addc(&b, (char)tolower((unsigned char)*p));
    for (const char *p = strncmp(path, "/api/v1", 7) == 0 ? path + 7 : path; *p; p++) {
        bool letter = isalnum((unsigned char)*p);
        if (letter)
            buf_addc(&b, upper ? (char)toupper((unsigned char)*p) : *p);
        upper = !letter;
    }
    return buf_steal(&b);
}

static cJSON *operation(const struct route *r, const char *path)
{
    static const char *const scopes[] = {NULL, "read", "emit", "admin"};
    _cleanup_(freep) char *id = operation_id(r->method, path);
    cJSON *o = text_object("operationId", id), *list = parameters(r);
    cJSON_AddStringToObject(o, "summary", r->summary);
    if (scopes[r->scope]) {
        _cleanup_(freep) char *doc = xasprintf("Where tokens are asked for, one of scope `%s`.", scopes[r->scope]);
        cJSON_AddStringToObject(o, "description", doc);
    } else {
        cJSON_AddArrayToObject(o, "security");
    }
    if (cJSON_GetArraySize(list) > 0)
        cJSON_AddItemToObject(o, "parameters", list);
    else
        cJSON_Delete(list);
    if (r->request)
        cJSON_AddItemToObject(o, "requestBody", request_body(r));
    cJSON *responses = cJSON_AddObjectToObject(o, "responses");
    success(responses, r);
    refusals(responses, r);
    return o;
}

static void add_operation(cJSON *paths, const struct route *r)
{
    _cleanup_(freep) char *path = path_of(r);
    _cleanup_(freep) char *method = xstrdup(r->method);
    for (char *p = method; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    cJSON *item = value_get(paths, path);
    if (!item)
        item = cJSON_AddObjectToObject(paths, path);
    cJSON_AddItemToObject(item, method, operation(r, path));
}

/* Webhooks: what a trigger at the path takes, in any of the methods that one may take. */
static void add_hooks(cJSON *paths)
{
    for (size_t i = 0; webhook_methods[i]; i++) {
        bool body = !streq(webhook_methods[i], "GET") && !streq(webhook_methods[i], "DELETE");
        const struct route r = {.method = webhook_methods[i],
                                .pattern = "hooks/*",
                                .body = BODY_OPTIONAL,
                                .scope = ACCESS_OPEN,
                                .summary = "A request for the webhook triggers at the path",
                                .args = "path",
                                .request = body ? "-any" : NULL,
                                .answer = "Emitted",
                                .problems = "404 405 422 429 507"};
        add_operation(paths, &r);
    }
}

static cJSON *problem_responses(void)
{
    static const struct {
        const char *status, *doc;
    } all[] = {
        {"400", "It does not parse"},
        {"401", "A token is needed, or this one is none"},
        {"403", "The token's scope does not reach, or it comes from elsewhere"},
        {"404", "It is not there"},
        {"405", "The method is not allowed here"},
        {"409", "It cannot be done as things are"},
        {"412", "The manifest is another one by now"},
        {"413", "The body is too large"},
        {"414", "The request target is too long"},
        {"415", "The body is of another type than is taken"},
        {"422", "It does not validate"},
        {"429", "A queue is full; come again"},
        {"431", "The headers are too large"},
        {"500", "It failed"},
        {"502", "The MCP server refused, or is not there"},
        {"503", "Not now"},
        {"504", "The MCP server did not answer in time"},
        {"507", "The disk is full"},
    };
    cJSON *o = cJSON_CreateObject();
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        cJSON *response = text_object("description", all[i].doc);
        cJSON_AddItemToObject(response, "content", content("application/problem+json", shape_type("Problem")));
        if (streq(all[i].status, "405"))
            add_header(response, "Allow", "The methods that are");
        if (streq(all[i].status, "401"))
            add_header(response, "WWW-Authenticate", "What is asked for");
        if (streq(all[i].status, "429") || streq(all[i].status, "503"))
            add_header(response, "Retry-After", "Seconds");
        cJSON_AddItemToObject(o, all[i].status, response);
    }
    return o;
}

char *openapi_text(void)
{
    cJSON *o = text_object("openapi", "3.1.0");
    cJSON *info = cJSON_AddObjectToObject(o, "info");
    cJSON_AddStringToObject(info, "title", "triggerd");
    cJSON_AddStringToObject(info, "version", TRIGGERD_VERSION);
    cJSON_AddStringToObject(info, "description", "Triggers, their events, pipelines and runs");
    cJSON *paths = cJSON_AddObjectToObject(o, "paths");
    for (size_t i = 0; i < http_routes_n; i++)
        add_operation(paths, &http_routes[i]);
    add_hooks(paths);
    cJSON *components = cJSON_AddObjectToObject(o, "components");
    cJSON_AddItemToObject(components, "schemas", shape_components());
    cJSON_AddItemToObject(components, "responses", problem_responses());
    cJSON *bearer = text_object("type", "http");
    cJSON_AddStringToObject(bearer, "scheme", "bearer");
    cJSON_AddItemToObject(cJSON_AddObjectToObject(components, "securitySchemes"), "token", bearer);
    /* One of both: over the unix socket, and on loopback without tokens, nothing is asked for. */
    cJSON *security = cJSON_AddArrayToObject(o, "security"), *with = cJSON_CreateObject();
    cJSON_AddArrayToObject(with, "token");
    cJSON_AddItemToArray(security, with);
    cJSON_AddItemToArray(security, cJSON_CreateObject());
    char *text = value_print(o);
    cJSON_Delete(o);
    return text;
}
