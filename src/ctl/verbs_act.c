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
    bool trigger = streq(a->words[0], "trigger");
    _cleanup_(freep) char *path = path_of(trigger ? "/api/v1/triggers/" : "/api/v1/pipelines/", a->words[1], "");
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
        fprintf(stderr,
                "nothing fired: no trigger takes this at the endpoint (triggerctl describe trigger ID tells why)\n");
    return CTL_OK;
}

/* ---- run, cancel, replay ---- */

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

int verb_replay(struct ctl *c, const struct args *a)
{
    int worst = CTL_OK;
    for (size_t i = 0; i < a->n; i++) {
        _cleanup_(cjson_deletep) cJSON *request = cJSON_CreateObject();
        _cleanup_(cjson_deletep) cJSON *event = NULL;
        value_set(request, "event_id", value_string(a->words[i]));
        _cleanup_(freep) char *body = value_print(request);
        int r = ctl_send(c, "POST", "/api/v1/events/replay", body, &event);
        if (r == CTL_OK)
            show_event(a, event);
        worst = MAX(worst, r);
        if (r == CTL_NO_DAEMON)
            break;
    }
    return worst;
}
