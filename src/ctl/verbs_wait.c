/* wait: until a trigger, a run or an event is in a state. */
#include "base/clock.h"
#include "ctl/args.h"
#include "ctl/follow.h"
#include "ctl/print.h"
#include "ctl/request.h"
#include "ctl/views.h"

#include <math.h>
#include <stdio.h>

#define TIMEOUT_MAX_SECONDS 31536000.0

static const struct waitable {
    const char *kind, *changes, *path;
    const char *const *states;
    size_t open;        /* the first `open` states are not final */
    const char *wanted; /* without --for */
    bool may_come;      /* one that does not exist is waited for */
    void (*show)(const struct args *a, const cJSON *v);
} waitables[] = {
    {"trigger", "triggers", "/api/v1/triggers/", trigger_states, SIZE_MAX, "active", true, NULL},
    {"run", "runs", "/api/v1/runs/", run_states, STATES_OPEN, "completed", false, show_run},
    {"event", "events", "/api/v1/triggers/events/", event_states, STATES_OPEN, "completed", false, show_event},
};

static bool is_final(const struct waitable *w, const char *status)
{
    for (size_t i = 0; w->states[i]; i++)
        if (streq(w->states[i], status))
            return i >= w->open;
    return false;
}

int parse_timeout(const struct args *a, int64_t *ret)
{
    const char *text = a->values[OPT_TIMEOUT];
    char *end = NULL;
    *ret = -1;
    if (!text)
        return -1;
    double seconds = strtod(text, &end);
    if (end != text && !*end && isfinite(seconds) && seconds >= 0 && seconds <= TIMEOUT_MAX_SECONDS) {
        *ret = (int64_t)(seconds * 1000);
        return -1;
    }
    if (duration_parse(text, ret) == 0)
        return -1;
    return args_refuse(a, "--timeout: expected seconds or a duration such as 5m, got \"%s\"", text);
}

/* Ask for it. CTL_OK with *ret NULL: it does not exist, and may come. */
static int look(struct ctl *c, const struct waitable *w, const char *path, cJSON **ret)
{
    struct client_reply reply = {0};
    int r = ctl_raw(c, &(struct client_request){.method = "GET", .path = path}, &reply);
    *ret = NULL;
    if (r == CTL_OK && reply.status == 200 && value_parse(reply.body, reply.len, ret, NULL) < 0)
        *ret = cJSON_ParseWithLength(reply.body, reply.len);
    if (r == CTL_OK && reply.status != 200 && !(w->may_come && (reply.status == 404 || reply.status == 503))) {
        ctl_tell_problem(&reply);
        r = CTL_FAILED;
    }
    free(reply.body);
    return r;
}

struct waiting {
    const struct waitable *waitable;
    const char *path, *wanted;
    cJSON *last; /* as it was seen last */
};

static int look_at_state(void *ctx, struct ctl *asking)
{
    struct waiting *w = ctx;
    cJSON_Delete(steal(&w->last));
    int r = look(asking, w->waitable, w->path, &w->last);
    const char *status = value_get_string(w->last, "status");
    bool ended = status && (streq(status, w->wanted) || is_final(w->waitable, status));
    return r == CTL_OK && !ended ? -1 : r;
}

/* Until the state is `wanted` or final. CTL_TIMEOUT: *ret is as it was last, NULL: it did not come to exist. */
static int wait_state(struct ctl *c, const struct waitable *w, const char *id, const char *wanted, int64_t timeout_ms,
                      cJSON **ret)
{
    struct buf url = {0};
    url_add(&url, w->path);
    url_part(&url, id);
    struct waiting waiting = {.waitable = w, .path = url.data, .wanted = wanted};
    const struct watching watching = {
        .kind = w->changes,
        .id = id,
        .look = look_at_state,
        .until_ms = timeout_ms < 0 ? 0 : clock_monotonic_ms(clock_system()) + timeout_ms,
        .patient = w->may_come,
        .ctx = &waiting,
    };
    int r = ctl_watch(c, &watching);
    if (r == CTL_OK || r == CTL_TIMEOUT)
        *ret = steal(&waiting.last);
    cJSON_Delete(waiting.last);
    buf_fini(&url);
    return r;
}

int wait_run(struct ctl *c, const char *id, int64_t timeout_ms, cJSON **ret)
{
    return wait_state(c, &waitables[1], id, "completed", timeout_ms, ret);
}

static void show(const struct args *a, const struct waitable *w, const cJSON *v)
{
    if (w->show)
        w->show(a, v);
    else if (!show_value(a, v))
        printf("%s  %s\n", value_get_string(v, "id"), value_get_string(v, "status"));
}

int verb_wait(struct ctl *c, const struct args *a)
{
    const struct waitable *w = waitables;
    int64_t timeout_ms;
    while (!streq(w->kind, a->words[0]))
        w++;
    const char *wanted = a->values[OPT_FOR] ? a->values[OPT_FOR] : w->wanted;
    int r = args_check_word(a, "--for", wanted, w->states);
    r = r < 0 ? parse_timeout(a, &timeout_ms) : r;
    if (r >= 0)
        return r;
    _cleanup_(cjson_deletep) cJSON *v = NULL;
    r = wait_state(c, w, a->words[1], wanted, timeout_ms, &v);
    if (r != CTL_OK && r != CTL_TIMEOUT)
        return r;
    if (v)
        show(a, w, v);
    if (r == CTL_TIMEOUT) {
        complain(v ? "%s \"%s\" is not %s within --timeout %s" : "there is no %s \"%s\", to be %s, within --timeout %s",
                 w->kind, a->words[1], wanted, a->values[OPT_TIMEOUT]);
        return CTL_TIMEOUT;
    }
    return streq(value_get_string(v, "status"), wanted) ? CTL_OK : CTL_FAILED;
}
