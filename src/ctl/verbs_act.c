/* What changes something: pause, resume, test, emit, run, replay, cancel, delete. */
#include "ctl/args.h"
#include "ctl/input.h"
#include "ctl/print.h"
#include "ctl/request.h"
#include "ctl/views.h"

#include <stdio.h>

/* `before` + id + `after`; free() it. */
static char *path_of(const char *before, const char *id, const char *after)
{
    struct buf url = {0};
    url_add(&url, before);
    url_part(&url, id);
    url_add(&url, after);
    return buf_steal(&url);
}

/* A request whose answer says in words what was done. */
static int told(struct ctl *c, const struct args *a, const char *method, const char *path)
{
    _cleanup_(cjson_deletep) cJSON *answer = NULL;
    int r = ctl_send(c, method, path, NULL, &answer);
    if (r != CTL_OK || show_value(a, answer))
        return r;
    struct buf b = {0};
    const char *message = value_get_string(answer, "message");
    text_escape(&b, message ? message : "done");
    printf("%s\n", b.data);
    buf_fini(&b);
    return CTL_OK;
}

int verb_pause(struct ctl *c, const struct args *a)
{
    _cleanup_(freep) char *path = path_of("/api/v1/triggers/", a->words[0], "/pause");
    return told(c, a, "POST", path);
}

int verb_resume(struct ctl *c, const struct args *a)
{
    const char *after = a->values[OPT_DISCARD] ? "/resume?discard=true" : "/resume";
    _cleanup_(freep) char *path = path_of("/api/v1/triggers/", a->words[0], after);
    return told(c, a, "POST", path);
}

int verb_delete(struct ctl *c, const struct args *a)
{
    _cleanup_(freep) char *route = xasprintf("/api/v1/%ss/", a->words[0]);
    _cleanup_(freep) char *path = path_of(route, a->words[1], "");
    return told(c, a, "DELETE", path);
}

/* ---- test ---- */

static void show_dry_run(const cJSON *answer)
{
    const char *decision = value_get_string(answer, "decision"), *reason = value_get_string(answer, "reason");
    struct buf b = {0};
    text_escape(&b, decision ? decision : "");
    if (reason && *reason) {
        buf_adds(&b, ": ");
        text_escape(&b, reason);
    }
    printf("%s\n", b.data ? b.data : "");
    buf_fini(&b);
    const cJSON *inputs = value_get(answer, "resolved_inputs");
    if (inputs && !cJSON_IsNull(inputs))
        print_json(inputs);
}

int verb_test(struct ctl *c, const struct args *a)
{
    const char *data = a->values[OPT_DATA];
    bool dry = a->values[OPT_DRY_RUN];
    _cleanup_(freep) char *body = NULL;
    if (input_data("--data", data ? data : "{}", &body) < 0)
        return CTL_FAILED;
    _cleanup_(freep) char *path = path_of("/api/v1/triggers/", a->words[0], dry ? "/test?dry_run=true" : "/test");
    _cleanup_(cjson_deletep) cJSON *answer = NULL;
    int r = ctl_send(c, "POST", path, body, &answer);
    if (r != CTL_OK)
        return r;
    if (!dry)
        show_event(a, answer);
    else if (!show_value(a, answer))
        show_dry_run(answer);
    return CTL_OK;
}

/* ---- emit ---- */

static bool key_ok(const char *key)
{
    size_t n = strlen(key);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)key[i] < 0x20 || key[i] == 0x7f)
            return false;
    return n >= 1 && n <= 255;
}

/* Where custom triggers listen: `names` with each endpoint, `takers` with the ids of those at `endpoint`. False: one
 * may not, or cannot, look. */
static bool get_endpoints(struct ctl *c, const char *endpoint, cJSON *names, cJSON *takers)
{
    const cJSON *item;
    for (int page = 1;; page++) {
        _cleanup_(freep) char *path = xasprintf("/api/v1/triggers/type/custom?page_size=100&page=%d", page);
        struct client_reply reply = {0};
        _cleanup_(cjson_deletep) cJSON *answer = NULL;
        int r = ctl_raw(c, &(struct client_request){.method = "GET", .path = path}, &reply);
        if (r == CTL_OK && reply.status == 200)
            value_parse(reply.body, reply.len, &answer, NULL);
        free(reply.body);
        if (!answer)
            return false;
        const cJSON *list = value_get(answer, "triggers");
        cJSON_ArrayForEach (item, list) {
            const char *at = value_get_string(value_get(item, "config"), "endpoint");
            const char *id = value_get_string(item, "id");
            if (at && streq(at, endpoint) && id)
                cJSON_AddItemToArray(takers, cJSON_CreateString(id));
            else if (at)
                cJSON_AddItemToArray(names, cJSON_CreateString(at));
        }
        if (cJSON_GetArraySize(list) < 100)
            return true;
    }
}

/* No event came of it: nobody listens there, or filters turned it away. */
static void tell_unheard(struct ctl *c, const char *endpoint)
{
    _cleanup_(cjson_deletep) cJSON *names = cJSON_CreateArray(), *takers = cJSON_CreateArray();
    const cJSON *item;
    if (!get_endpoints(c, endpoint, names, takers)) {
        fprintf(stderr, "nothing fired: nobody listens at \"%s\", or filters turned it away\n", endpoint);
        return;
    }
    if (cJSON_GetArraySize(takers) > 0) {
        struct buf b = {0};
        cJSON_ArrayForEach (item, takers) {
            buf_printf(&b, "%s%s", b.len ? ", " : "", item->valuestring);
        }
        fprintf(stderr, "nothing fired: turned away by the filter of %s (triggerctl describe trigger %s tells why)\n",
                b.data, takers->child->valuestring);
        buf_fini(&b);
        return;
    }
    size_t n = 0;
    const char **known = xcalloc((size_t)cJSON_GetArraySize(names) + 1, sizeof(*known));
    cJSON_ArrayForEach (item, names) {
        known[n++] = item->valuestring;
    }
    const char *near = nearest_name(endpoint, known, n);
    fprintf(stderr, "nothing fired: nobody listens at \"%s\"", endpoint);
    if (near)
        fprintf(stderr, "; did you mean \"%s\"?", near);
    fprintf(stderr, "\n");
    free(known);
}

int verb_emit(struct ctl *c, const struct args *a)
{
    const char *data = a->values[OPT_DATA], *key = a->values[OPT_KEY];
    _cleanup_(freep) char *text = NULL;
    if (key && !key_ok(key))
        return args_refuse(a, "--idempotency-key: expected 1 to 255 characters without control characters");
    if (input_data("--data", data ? data : "{}", &text) < 0)
        return CTL_FAILED;
    _cleanup_(cjson_deletep) cJSON *endpoint = value_string(a->words[0]);
    _cleanup_(freep) char *name = value_print(endpoint);
    _cleanup_(freep) char *body = xasprintf("{\"endpoint\":%s,\"data\":%s}", name, text);
    struct client_request request = {.method = "POST",
                                     .path = "/api/v1/triggers/emit",
                                     .body = body,
                                     .body_len = strlen(body),
                                     .idempotency_key = key};
    _cleanup_(cjson_deletep) cJSON *answer = NULL;
    int r = ctl_call(c, &request, &answer);
    if (r != CTL_OK || show_value(a, answer))
        return r;
    const cJSON *event, *events = value_get(answer, "events");
    cJSON_ArrayForEach (event, events) {
        show_event(a, event);
    }
    if (cJSON_GetArraySize(events) == 0)
        tell_unheard(c, a->words[0]);
    return CTL_OK;
}

/* ---- run, cancel, replay ---- */

static const char replay_route[] = "/api/v1/events/replay";

int verb_run(struct ctl *c, const struct args *a)
{
    const char *inputs = a->values[OPT_INPUTS];
    int64_t timeout_ms;
    int r = parse_timeout(a, &timeout_ms);
    if (r >= 0)
        return r;
    if (a->values[OPT_TIMEOUT] && !a->values[OPT_WAIT])
        return args_refuse(a, "--timeout goes with --wait");
    _cleanup_(freep) char *text = NULL;
    if (input_data("--inputs", inputs ? inputs : "{}", &text) < 0)
        return CTL_FAILED;
    _cleanup_(freep) char *body = xasprintf("{\"inputs\":%s}", text);
    _cleanup_(freep) char *path = path_of("/api/v1/pipelines/", a->words[0], "/run");
    _cleanup_(cjson_deletep) cJSON *run = NULL;
    _cleanup_(cjson_deletep) cJSON *end = NULL;
    r = ctl_send(c, "POST", path, body, &run);
    const char *id = value_get_string(run, "id");
    if (r != CTL_OK || !a->values[OPT_WAIT] || !id) {
        if (r == CTL_OK)
            show_run(a, run);
        return r;
    }
    r = wait_run(c, id, timeout_ms, &end);
    if (r == CTL_OK || r == CTL_TIMEOUT)
        show_run(a, end);
    if (r != CTL_OK)
        return r;
    return streq(value_get_string(end, "status"), "completed") ? CTL_OK : CTL_FAILED;
}

int verb_cancel(struct ctl *c, const struct args *a)
{
    _cleanup_(freep) char *path = path_of("/api/v1/runs/", a->words[0], "/cancel");
    _cleanup_(cjson_deletep) cJSON *run = NULL;
    int r = ctl_send(c, "POST", path, NULL, &run);
    if (r == CTL_OK)
        show_run(a, run);
    return r;
}

/* Only shown: the events are there, and so are their triggers. */
static int replay_each_dry(struct ctl *c, const struct args *a)
{
    int worst = CTL_OK;
    size_t found = 0;
    for (size_t i = 0; i < a->n && worst != CTL_NO_DAEMON; i++) {
        _cleanup_(cjson_deletep) cJSON *event = NULL;
        _cleanup_(freep) char *path = path_of("/api/v1/triggers/events/", a->words[i], "");
        int r = ctl_get(c, path, &event);
        const char *trigger = value_get_string(event, "trigger_id");
        if (r == CTL_OK && trigger) {
            _cleanup_(freep) char *of = path_of("/api/v1/triggers/", trigger, "");
            r = ctl_get(c, of, NULL);
        }
        if (r == CTL_OK) {
            show_event(a, event);
            found++;
        }
        worst = MAX(worst, r);
    }
    fflush(stdout);
    fprintf(stderr, "%zu event%s would be replayed\n", found, found == 1 ? "" : "s");
    return worst;
}

static int replay_each(struct ctl *c, const struct args *a)
{
    int worst = CTL_OK;
    if (a->values[OPT_DRY_RUN])
        return replay_each_dry(c, a);
    for (size_t i = 0; i < a->n; i++) {
        _cleanup_(cjson_deletep) cJSON *request = cJSON_CreateObject();
        _cleanup_(cjson_deletep) cJSON *event = NULL;
        value_set(request, "event_id", value_string(a->words[i]));
        _cleanup_(freep) char *body = value_print(request);
        int r = ctl_send(c, "POST", replay_route, body, &event);
        if (r == CTL_OK)
            show_event(a, event);
        worst = MAX(worst, r);
        if (r == CTL_NO_DAEMON)
            break;
    }
    return worst;
}

static void show_replays(const struct args *a, const cJSON *answer, bool dry)
{
    const cJSON *event, *events = value_get(answer, "events");
    double matched = cJSON_GetNumberValue(value_get(answer, "matched"));
    double replayed = cJSON_GetNumberValue(value_get(answer, "replayed"));
    double gone = cJSON_GetNumberValue(value_get(answer, "gone"));
    cJSON_ArrayForEach (event, events) {
        show_event(a, event);
    }
    fflush(stdout);
    if (dry)
        fprintf(stderr, "%.0f event%s would be replayed\n", matched, matched == 1 ? "" : "s");
    else
        fprintf(stderr, "%.0f of %.0f event%s replayed\n", replayed, matched, matched == 1 ? "" : "s");
    if (gone > 0)
        complain("the triggers of %.0f of them are gone", gone);
}

static int replay_filtered(struct ctl *c, const struct args *a)
{
    static const struct {
        enum option_id option;
        const char *member;
    } filters[] = {{OPT_TRIGGER, "trigger_id"}, {OPT_PIPELINE, "pipeline_id"}, {OPT_TYPE, "event_type"},
                   {OPT_STATUS, "status"},      {OPT_DECISION, "decision"},    {OPT_SINCE, "since"},
                   {OPT_UNTIL, "until"}};
    _cleanup_(cjson_deletep) cJSON *request = cJSON_CreateObject();
    _cleanup_(cjson_deletep) cJSON *answer = NULL;
    bool dry = a->values[OPT_DRY_RUN] != NULL;
    for (size_t i = 0; i < ARRAY_SIZE(filters); i++)
        if (a->values[filters[i].option])
            value_set(request, filters[i].member, value_string(a->values[filters[i].option]));
    if (!request->child || a->n > 0)
        return args_refuse(a, a->n > 0 ? "EVENT does not go with a filter"
                                       : "expected an EVENT, or a filter such as --trigger and --status");
    value_set(request, "dry_run", cJSON_CreateBool(dry));
    if (a->values[OPT_STATUS] && args_check_word(a, "--status", a->values[OPT_STATUS], event_states) >= 0)
        return CTL_USAGE;
    _cleanup_(freep) char *body = value_print(request);
    int r = ctl_send(c, "POST", replay_route, body, &answer);
    if (r != CTL_OK)
        return r;
    if (!show_value(a, answer))
        show_replays(a, answer, dry);
    const char *why = value_get_string(answer, "message");
    if (why)
        complain("stopped: %s", why);
    return why || cJSON_GetNumberValue(value_get(answer, "gone")) > 0 ? CTL_FAILED : CTL_OK;
}

int verb_replay(struct ctl *c, const struct args *a)
{
    static const enum option_id filters[] = {OPT_TRIGGER,  OPT_PIPELINE, OPT_TYPE, OPT_STATUS,
                                             OPT_DECISION, OPT_SINCE,    OPT_UNTIL};
    bool filtered = a->n == 0;
    for (size_t i = 0; i < ARRAY_SIZE(filters); i++)
        filtered = filtered || a->values[filters[i]];
    return filtered ? replay_filtered(c, a) : replay_each(c, a);
}
