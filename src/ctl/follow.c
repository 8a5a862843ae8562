#include "ctl/follow.h"

#include "ctl/input.h"
#include "ctl/print.h"
#include "ctl/request.h"

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
    return !p->enough;
}

static bool began(void *ctx)
{
    struct parser *p = ctx;
    p->enough = p->enough || !p->follow->began(p->follow->ctx);
    return !p->enough;
}

static bool tick(void *ctx)
{
    struct parser *p = ctx;
    p->enough = p->enough || !p->follow->tick(p->follow->ctx);
    return !p->enough;
}

/* ---- the connection ---- */

/* One connection. -1: it began and broke off; else the exit code. `again`: nothing is told but what cannot be waited
 * for. */
static int connect_once(struct ctl *c, struct parser *p, bool again)
{
    struct client_reply reply = {0};
    struct error err = ERROR_INIT;
    bool there = false;
    const struct client_stream stream = {.path = p->follow->path,
                                         .last_event_id = p->id,
                                         .began = p->follow->began ? began : NULL,
                                         .take = take,
                                         .tick = p->follow->tick ? tick : NULL,
                                         .ctx = p};
    p->line.len = p->data.len = 0; /* half a message comes again */
    p->gap = false;
    int r = c->client ? 0 : client_create(c->socket, &c->client, &err);
    r = r < 0 ? r : client_follow(c->client, &stream, &reply, &there, &err);
    int status = p->enough ? CTL_OK : -1;
    if (r == 0 && reply.status != 200 && !(again && reply.status == 503)) {
        ctl_tell_problem(&reply);
        status = CTL_FAILED;
    } else if (r < 0 && !there && !again) {
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
        nanosleep(&(struct timespec){.tv_nsec = AGAIN_MS * 1000000L}, NULL);
        r = connect_once(c, &p, true);
    }
    buf_fini(&p.line);
    buf_fini(&p.data);
    free(p.id);
    free(p.next_id);
    return r;
}
