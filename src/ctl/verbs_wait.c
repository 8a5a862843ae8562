/* wait: until a trigger, a run or an event is in a state. The daemon is asked every 100 ms. */
#include "base/clock.h"
#include "ctl/args.h"
#include "ctl/print.h"
#include "ctl/request.h"
#include "ctl/views.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

#define POLL_MS 100
#define TIMEOUT_MAX_SECONDS 31536000.0

static const struct waitable {
    const char *kind, *path;
    const char *const *states;
    size_t open;        /* the first `open` states are not final */
    const char *wanted; /* without --for */
    bool may_come;      /* one that does not exist is waited for */
    void (*show)(const struct args *a, const cJSON *v);
} waitables[] = {
    {"trigger", "/api/v1/triggers/", trigger_states, SIZE_MAX, "active", true, NULL},
    {"run", "/api/v1/runs/", run_states, STATES_OPEN, "completed", false, show_run},
    {"event", "/api/v1/triggers/events/", event_states, STATES_OPEN, "completed", false, show_event},
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

/* Ask until the state is `wanted` or final. CTL_TIMEOUT: *ret is as it was last, NULL: it did not come to exist. */
static int wait_state(struct ctl *c, const struct waitable *w, const char *id, const char *wanted, int64_t timeout_ms,
                      cJSON **ret)
{
    struct buf url = {0};
    int64_t begin = clock_monotonic_ms(clock_system());
    int r;
    url_add(&url, w->path);
    url_part(&url, id);
    for (;;) {
        cJSON *v = NULL;
        r = look(c, w, url.data, &v);
        if (r != CTL_OK)
            break;
        const char *status = value_get_string(v, "status");
        int64_t left = timeout_ms < 0 ? POLL_MS : timeout_ms - (clock_monotonic_ms(clock_system()) - begin);
        bool ended = v && (streq(status, wanted) || is_final(w, status));
        if (ended || left <= 0) {
            *ret = v;
            r = ended ? CTL_OK : CTL_TIMEOUT;
            break;
        }
        cJSON_Delete(v);
        int64_t pause = MIN(left, POLL_MS);
        nanosleep(&(struct timespec){.tv_nsec = (long)pause * 1000000}, NULL);
    }
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
