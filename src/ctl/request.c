#include "ctl/request.h"

#include "ctl/print.h"

#include <errno.h>
#include <stdio.h>

/* ---- paths ---- */

void url_add(struct buf *url, const char *literal)
{
    buf_adds(url, literal);
}

/* RFC 3986: all but the unreserved characters is encoded; a part of dots alone too, as libcurl would resolve it. */
void url_part(struct buf *url, const char *text)
{
    bool dots = streq(text, ".") || streq(text, "..");
    for (const char *p = text; *p; p++) {
        char c = *p;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-_~", c) ||
                     (c == '.' && !dots);
        if (plain)
            buf_addc(url, c);
        else
            buf_printf(url, "%%%02X", (unsigned char)c);
    }
}

void url_param(struct buf *url, const char *name, const char *text)
{
    if (!text)
        return;
    bool first = !url->data || !strchr(url->data, '?');
    buf_printf(url, "%c%s=", first ? '?' : '&', name);
    url_part(url, text);
}

/* ---- requests ---- */

int ctl_raw(struct ctl *c, const struct client_request *request, struct client_reply *ret)
{
    struct error err = ERROR_INIT;
    int r = c->client ? 0 : client_create(c->socket, &c->client, &err);
    r = r < 0 ? r : client_request(c->client, request, ret, &err);
    if (r == 0)
        return CTL_OK;
    complain("%s", err.message);
    return r == -ECONNREFUSED ? CTL_NO_DAEMON : CTL_FAILED;
}

/* Our own parser, which keeps numbers digit for digit; what nests deeper than it takes (events that carry events) by
 * cJSON's. NULL: no JSON. */
static cJSON *parse_answer(const struct client_reply *reply)
{
    cJSON *v = NULL;
    if (value_parse(reply->body, reply->len, &v, NULL) == 0)
        return v;
    return cJSON_ParseWithLength(reply->body, reply->len);
}

/* Is it what the detail has said already? */
static bool says_it(const char *detail, const char *path, const char *message)
{
    _cleanup_(freep) char *full =
        xasprintf("%s%s%s", path ? path : "", path && *path ? ": " : "", message ? message : "");
    return detail && (streq(detail, full) || (message && streq(detail, message)));
}

void ctl_tell_problem(const struct client_reply *reply)
{
    _cleanup_(cjson_deletep) cJSON *problem = parse_answer(reply);
    const char *detail = value_get_string(problem, "detail");
    const cJSON *item;
    if (detail)
        complain("%s", detail);
    else
        complain("the daemon answered %ld: %.200s", reply->status, reply->body);
    cJSON_ArrayForEach (item, value_get(problem, "errors")) {
        const char *path = value_get_string(item, "path"), *message = value_get_string(item, "message");
        const char *file = value_get_string(item, "file");
        double line = cJSON_GetNumberValue(value_get(item, "line"));
        if (!file && says_it(detail, path, message))
            continue;
        struct buf b = {0}, safe = {0};
        buf_adds(&b, file ? file : "  "); /* of a file: as validate says it */
        if (file && line > 0)
            buf_printf(&b, ":%.0f:%.0f", line, cJSON_GetNumberValue(value_get(item, "column")));
        buf_printf(&b, "%s%s%s%s", file ? ": " : "", path ? path : "", path && *path ? ": " : "",
                   message ? message : "");
        text_escape(&safe, b.data);
        fprintf(stderr, "%s\n", safe.data);
        buf_fini(&b);
        buf_fini(&safe);
    }
}

int ctl_call(struct ctl *c, const struct client_request *request, cJSON **ret)
{
    struct client_reply reply = {0};
    int r = ctl_raw(c, request, &reply);
    if (r != CTL_OK)
        return r;
    cJSON *answer = NULL;
    if (reply.status < 200 || reply.status > 299) {
        ctl_tell_problem(&reply);
        r = CTL_FAILED;
    } else if (ret && !(answer = parse_answer(&reply))) {
        complain("the daemon's answer is not JSON: %.200s", reply.body);
        r = CTL_FAILED;
    } else if (ret) {
        *ret = answer;
    }
    free(reply.body);
    return r;
}

int ctl_get(struct ctl *c, const char *path, cJSON **ret)
{
    return ctl_call(c, &(struct client_request){.method = "GET", .path = path}, ret);
}

int ctl_send(struct ctl *c, const char *method, const char *path, const char *body, cJSON **ret)
{
    struct client_request request = {.method = method, .path = path, .body = body, .body_len = body ? strlen(body) : 0};
    return ctl_call(c, &request, ret);
}
