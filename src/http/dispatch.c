/* From a request to its route, and what every route asks of a request: its path, its query, its body. */
#include "http/route.h"

#include "base/clock.h"

#include <ctype.h>
#include <errno.h>
#include <strings.h>

#define MANIFESTS_MAX ((size_t)16 << 20) /* bytes of many manifests in one request */

/* What can be told before the first reconcile was applied; of all else it would be a lie. */
static bool any_time(const struct route *r)
{
    return strncmp(r->pattern, "api/", 4) != 0 || streq(r->pattern, "api/v1/status");
}

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

/* Too short, and too many, for strcspn(), which prepares first. */
static size_t segment_length(const char *path)
{
    size_t n = 0;
    while (path[n] && path[n] != '/')
        n++;
    return n;
}

/* False: more than any route has. A trailing slash does not count. */
static bool split(const char *path, struct segments *s)
{
    *s = (struct segments){0};
    while (*path == '/')
        path++;
    while (*path) {
        size_t n = segment_length(path);
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
        size_t n = segment_length(pattern);
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
    for (size_t i = 0; i < http_routes_n; i++) {
        const struct route *r = &http_routes[i];
        if (!pattern_fits(r->pattern, s) || (pattern && !streq(pattern, r->pattern)))
            continue;
        pattern = r->pattern;
        if (streq(r->method, head ? "GET" : method))
            return r;
        buf_printf(ret_allow, "%s%s", ret_allow->len ? ", " : "", streq(r->method, "GET") ? "GET, HEAD" : r->method);
    }
    return NULL;
}

static bool take_args(struct exchange *x, const char *pattern, const struct segments *s)
{
    for (size_t i = 0; i < s->n; i++) {
        size_t n = segment_length(pattern);
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

/* The parameter among those of a route; `name=WORDS` says which words it takes. */
static bool has_param(const char *params, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = params; p && *p;) {
        size_t len = strcspn(p, " =");
        if (len == n && memcmp(p, name, n) == 0)
            return true;
        p += strcspn(p, " ");
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
    if (errno || end == text || *end || n < min || n > max || *text == '+' || isspace((unsigned char)*text))
        return false;
    *ret = n;
    return true;
}

#define AT(member) offsetof(struct exchange, member)

const struct param http_params[] = {
    {"trigger_id", PARAM_TEXT, AT(list.trigger_id), 0, 0, NULL, "Of this trigger"},
    {"pipeline_id", PARAM_TEXT, AT(list.pipeline_id), 0, 0, NULL, "Of this pipeline"},
    {"event_type", PARAM_TEXT, AT(list.event_type), 0, 0, NULL, "Of this type of event"},
    {"server_name", PARAM_TEXT, AT(server_name), 0, 0, NULL, "Of the MCP server of this name"},
    {"trigger_type", PARAM_TEXT, AT(trigger_type), 0, 0, NULL, "Of this type of trigger"},
    {"status", PARAM_TEXT, AT(list.status), 0, 0, NULL, "In this status"},
    {"decision", PARAM_TEXT, AT(list.decision), 0, 0, NULL, "Of this decision"},
    {"kind", PARAM_TEXT, AT(kind), 0, 0, NULL, "Of this kind of resource; all, if it is left out"},
    {"id", PARAM_TEXT, AT(id), 0, 0, NULL, "Of the resource with this id"},
    {"since", PARAM_TIME, AT(list.since_ms), 0, 0, "a time (2024-01-01T00:00:00Z) or a duration (15m)",
     "Not before this time (UTC where it names no zone), or this long ago"},
    {"until", PARAM_TIME, AT(list.until_ms), 0, 0, "a time (2024-01-01T00:00:00Z) or a duration (15m)",
     "Before this time (UTC where it names no zone), or this long ago"},
    {"page", PARAM_COUNT, AT(list.page), 1, 1000000000, "a number from 1", "The page, from 1"},
    {"page_size", PARAM_COUNT, AT(list.page_size), 1, 100, "a number from 1 to 100", "How many a page"},
    {"offset", PARAM_COUNT, AT(offset), 0, INT64_MAX, "a number of bytes", "From this byte on"},
    {"enabled_only", PARAM_BOOL, AT(enabled_only), 0, 0, "true or false", "Only those that are enabled"},
    {"dry_run", PARAM_BOOL, AT(dry_run), 0, 0, "true or false", "Say what would happen; nothing runs"},
    {"discard", PARAM_BOOL, AT(discard), 0, 0, "true or false", "What was held goes"},
};
const size_t http_params_n = ARRAY_SIZE(http_params);

const struct param *param_find(const char *name, size_t len)
{
    for (size_t i = 0; i < http_params_n; i++)
        if (strlen(http_params[i].name) == len && memcmp(http_params[i].name, name, len) == 0)
            return &http_params[i];
    return NULL;
}

/* A `+` that was not encoded has become a blank: before the zone, where there can be none, it is taken as meant. */
static bool parse_time(const struct exchange *x, const char *text, int64_t *ret)
{
    int64_t now = clock_realtime_ms(x->api->clock);
    if (time_parse_since(text, now, ret) == 0)
        return true;
    size_t len = strlen(text);
    if (len < sizeof("00:00:00 00:00") || text[len - 6] != ' ')
        return false;
    _cleanup_(freep) char *meant = xstrdup(text);
    meant[len - 6] = '+';
    return time_parse_since(meant, now, ret) == 0;
}

const char *take_param(struct exchange *x, const char *key, const char *value)
{
    const struct param *p = param_find(key, strlen(key));
    void *at = (char *)x + p->offset;
    bool ok = true;
    switch (p->kind) {
    case PARAM_TEXT:
        *(const char **)at = value;
        break;
    case PARAM_COUNT:
        ok = parse_count(value, p->min, p->max, at);
        break;
    case PARAM_BOOL:
        ok = parse_bool(value, at);
        break;
    case PARAM_TIME:
        ok = parse_time(x, value, at);
        break;
    }
    return ok ? NULL : p->expected;
}

static void unknown_param(struct exchange *x, const struct route *route, const char *key)
{
    struct buf known = {0};
    for (const char *p = route->params; p && *p; p += strspn(p, " ")) {
        buf_printf(&known, "%s%.*s", known.len ? " " : "", (int)strcspn(p, " ="), p);
        p += strcspn(p, " ");
    }
    api_problem_at(call_of(x), 400, key, "unknown query parameter \"%s\"; known here: %s", key,
                   known.len ? known.data : "none");
    buf_fini(&known);
}

/* False: answered with 400. */
static bool take_query(struct exchange *x, const struct route *route)
{
    const struct http_param *params;
    size_t n = http_query(x->request, &params);
    x->list.page = 1;
    x->list.page_size = 50;
    for (size_t i = 0; i < n; i++) {
        if (!has_param(route->params, params[i].key)) {
            unknown_param(x, route, params[i].key);
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
    struct routes *routing = ctx;
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
