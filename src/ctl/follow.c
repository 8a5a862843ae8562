#include "ctl/follow.h"

#include "ctl/input.h"
#include "ctl/print.h"
#include "ctl/request.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#define AGAIN_MS 500

/* What has come of the stream: https://html.spec.whatwg.org/#event-stream-interpretation, as far as the daemon uses
 * it. */
struct parser {
    const struct follow *follow;
    struct buf line, data;
    char *id;      /* of the last whole message */
    char *next_id; /* of the one that is coming */
    bool gap, enough;
};

/* ---- messages ---- */

static void tell_gap(const cJSON *data)
{
    const cJSON *n = value_get(data, "gap");
    if (cJSON_IsNumber(n))
        complain("%.0f message%s missed here: they came faster than they were read, or while nobody was connected",
                 n->valuedouble, n->valuedouble == 1 ? " was" : "s were");
    else
        complain("messages may have been missed here (triggerctl get events has them)");
}

static void end_message(struct parser *p)
{
    cJSON *data = NULL;
    if (p->data.len > 0 && value_parse(p->data.data, p->data.len, &data, NULL) < 0)
        data = cJSON_ParseWithLength(p->data.data, p->data.len);
    if (p->next_id) {
        free(p->id);
        p->id = steal(&p->next_id);
    }
    if (data && p->gap)
        tell_gap(data);
    else if (data)
        p->enough = !p->follow->message(p->follow->ctx, data);
    cJSON_Delete(data);
    p->data.len = 0;
    p->gap = false;
}

static void take_line(struct parser *p, const char *line)
{
    if (!*line) {
        end_message(p);
    } else if (strncmp(line, "data: ", 6) == 0) {
        buf_adds(&p->data, line + 6);
    } else if (strncmp(line, "id: ", 4) == 0) {
        free(p->next_id);
        p->next_id = xstrdup(line + 4);
    } else if (streq(line, "event: gap")) {
        p->gap = true;
    }
}

static bool take(void *ctx, const char *data, size_t len)
{
    struct parser *p = ctx;
    while (len > 0 && !p->enough) {
        const char *end = memchr(data, '\n', len);
        size_t n = end ? (size_t)(end - data) : len;
        if (p->line.len + n > INPUT_MAX) {
            complain("the daemon sent a line of more than %zu MiB", INPUT_MAX >> 20);
            return false;
        }
        buf_add(&p->line, data, n);
        if (end) {
            take_line(p, p->line.data);
            p->line.len = 0;
        }
        data += n + (end != NULL);
        len -= n + (end != NULL);
    }
    if (p->follow->drained)
        p->enough = p->enough || !p->follow->drained(p->follow->ctx);
    return !p->enough;
}

static bool began(void *ctx)
{
    struct parser *p = ctx;
    p->enough = p->enough || !p->follow->began(p->follow->ctx);
    return !p->enough;
}

/* ---- the connection ---- */

static int64_t now_ms(void)
{
    return clock_monotonic_ms(clock_system());
}

static bool is_over(const struct follow *f)
{
    return f->until_ms != 0 && now_ms() >= f->until_ms;
}

/* No longer than to the end. */
static void rest(const struct follow *f, int64_t ms)
{
    if (f->until_ms != 0)
        ms = MIN(ms, f->until_ms - now_ms());
    if (ms > 0)
        nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

/* One connection. -1: it began and broke off; else the exit code. `again`: nothing is told but what cannot be waited
 * for. */
static int connect_once(struct ctl *c, struct parser *p, bool again)
{
    struct client_reply reply = {0};
    struct error err = ERROR_INIT;
    const struct follow *f = p->follow;
    bool there = false, patient = again || f->patient;
    const struct client_stream stream = {.path = f->path,
                                         .last_event_id = p->id,
                                         .began = f->began ? began : NULL,
                                         .take = take,
                                         .timeout_ms = f->until_ms ? (long)MAX(f->until_ms - now_ms(), 1) : 0,
                                         .ctx = p};
    p->line.len = p->data.len = 0; /* half a message comes again */
    p->gap = false;
    int r = c->client ? 0 : client_create(c->socket, &c->client, &err);
    r = r < 0 ? r : client_follow(c->client, &stream, &reply, &there, &err);
    int status = p->enough ? CTL_OK : is_over(f) ? CTL_TIMEOUT : -1;
    if (r == 0 && reply.status != 200 && !(patient && reply.status == 503)) {
        ctl_tell_problem(&reply);
        status = CTL_FAILED;
    } else if (r < 0 && status < 0 && !there && !again) {
        complain("%s", err.message);
        status = r == -ECONNREFUSED ? CTL_NO_DAEMON : CTL_FAILED;
    }
    free(reply.body);
    return status;
}

int ctl_follow(struct ctl *c, const struct follow *f)
{
    struct parser p = {.follow = f};
    int r = connect_once(c, &p, false);
    if (r < 0)
        complain("the daemon has gone; waiting for it");
    while (r < 0) {
        rest(f, AGAIN_MS);
        r = is_over(f) ? CTL_TIMEOUT : connect_once(c, &p, true);
    }
    buf_fini(&p.line);
    buf_fini(&p.data);
    free(p.id);
    free(p.next_id);
    return r;
}

/* ---- what changes ---- */

#define REST_FACTOR 10 /* a look may take a tenth of the time */

struct watch_state {
    const struct watching *watching;
    const struct follow *follow;
    struct ctl asking;
    int64_t ended_ms, took_ms; /* of the last look */
    bool changed;              /* since */
    int status;
};

static bool look(void *ctx)
{
    struct watch_state *s = ctx;
    int64_t begin = now_ms();
    s->changed = false;
    s->status = s->watching->look(s->watching->ctx, &s->asking);
    s->ended_ms = now_ms();
    s->took_ms = s->ended_ms - begin;
    return s->status < 0;
}

static bool note_change(void *ctx, const cJSON *data)
{
    struct watch_state *s = ctx;
    s->changed = s->changed || value_get(data, "changed");
    return true;
}

static bool look_if_changed(void *ctx)
{
    struct watch_state *s = ctx;
    if (!s->changed)
        return true;
    rest(s->follow, s->ended_ms + REST_FACTOR * s->took_ms - now_ms());
    return look(s);
}

int ctl_watch(struct ctl *c, const struct watching *w)
{
    struct buf path = {0};
    url_add(&path, "/api/v1/changes");
    url_param(&path, "kind", w->kind);
    url_param(&path, "id", w->id);
    struct watch_state s = {.watching = w, .asking = {.socket = c->socket, .colour = c->colour}, .status = -1};
    const struct follow follow = {.path = path.data,
                                  .began = look,
                                  .message = note_change,
                                  .drained = look_if_changed,
                                  .until_ms = w->until_ms,
                                  .patient = w->patient,
                                  .ctx = &s};
    s.follow = &follow;
    int r = ctl_follow(c, &follow);
    client_destroy(s.asking.client);
    buf_fini(&path);
    return r == CTL_OK ? s.status : r;
}
