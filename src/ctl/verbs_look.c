/* stats, status, version, logs. */
#include "ctl/args.h"
#include "ctl/follow.h"
#include "ctl/print.h"
#include "ctl/request.h"
#include "ctl/views.h"

#include <inttypes.h>
#include <stdio.h>

int verb_stats(struct ctl *c, const struct args *a)
{
    _cleanup_(cjson_deletep) cJSON *stats = NULL;
    int r = ctl_get(c, "/api/v1/triggers/stats", &stats);
    if (r != CTL_OK || show_value(a, stats))
        return r;
    struct table t = {0};
    const cJSON *item, *type;
    table_column(&t, "WHAT", 0);
    table_column(&t, "COUNT", CELL_RIGHT);
    cJSON_ArrayForEach (item, stats) {
        if (cJSON_IsObject(item))
            continue;
        _cleanup_(freep) char *text = value_text(item);
        table_cell(&t, item->string);
        table_cell(&t, text);
    }
    cJSON_ArrayForEach (type, value_get(stats, "triggers_by_type")) {
        _cleanup_(freep) char *text = value_text(type);
        table_cellf(&t, "triggers of type %s", type->string);
        table_cell(&t, text);
    }
    table_print(&t, c->colour);
    return CTL_OK;
}

/* ---- status ---- */

static void count_manifests(const cJSON *manifests, size_t *ret_files, size_t *ret_errors)
{
    const cJSON *file;
    cJSON_ArrayForEach (file, value_get(manifests, "manifests")) {
        ++*ret_files;
        *ret_errors += (size_t)cJSON_GetArraySize(value_get(file, "errors"));
    }
}

int verb_status(struct ctl *c, const struct args *a)
{
    _cleanup_(cjson_deletep) cJSON *status = NULL;
    _cleanup_(cjson_deletep) cJSON *manifests = NULL;
    int r = ctl_get(c, "/api/v1/status", &status);
    if (r != CTL_OK || show_value(a, status))
        return r;
    r = ctl_get(c, "/api/v1/manifests", &manifests);
    if (r != CTL_OK)
        return r;
    size_t files = 0, errors = 0;
    count_manifests(manifests, &files, &errors);
    bool ready = cJSON_IsTrue(value_get(status, "ready"));
    _cleanup_(freep) char *pid = value_text(value_get(status, "pid"));
    print_linef(c->colour, "triggerd", "%s, pid %s, at %s", value_get_string(status, "version"), pid ? pid : "?",
                c->socket);
    print_status(c->colour, "state", ready ? "ready" : "not ready");
    print_line(c->colour, "firing",
               cJSON_IsFalse(value_get(status, "enabled")) ? "no (FLOWMASON_TRIGGERS_ENABLED is false)" : "yes");
    print_line(c->colour, "store", cJSON_IsFalse(value_get(status, "store_writable")) ? "not writable" : "writable");
    print_linef(c->colour, "manifests", "%zu file%s, %zu error%s%s", files, files == 1 ? "" : "s", errors,
                errors == 1 ? "" : "s", errors ? " (triggerctl get manifests)" : "");
    return CTL_OK;
}

int verb_version(struct ctl *c, const struct args *a)
{
    struct client_reply reply = {0};
    struct error err = ERROR_INIT;
    cJSON *status = NULL;
    /* That nobody answers is no failure here. */
    bool there = client_create(c->socket, &c->client, &err) == 0 &&
                 client_request(c->client, &(struct client_request){.method = "GET", .path = "/api/v1/status"}, &reply,
                                &err) == 0 &&
                 value_parse(reply.body, reply.len, &status, NULL) == 0;
    _cleanup_(cjson_deletep) cJSON *answer = cJSON_CreateObject();
    const char *version = there ? value_get_string(status, "version") : NULL;
    value_set(answer, "triggerctl", value_string(TRIGGERD_VERSION));
    value_set(answer, "triggerd", value_string(version));
    if (!show_value(a, answer)) {
        printf("triggerctl %s\n", TRIGGERD_VERSION);
        if (version)
            printf("triggerd %s\n", version);
        else
            fprintf(stderr, "triggerd does not answer: %s\n", there ? "no version in its status" : err.message);
    }
    cJSON_Delete(status);
    free(reply.body);
    return CTL_OK;
}

/* ---- logs ---- */

/* One output of a step, as far as it was printed. */
struct output {
    char *step;
    const char *stream;
    int64_t offset;
    double attempt; /* of the step; another one begins anew */
};

struct logs {
    struct ctl *ctl;
    const char *path;       /* of the run */
    const char *run, *only; /* `only` NULL: all steps, with titles */
    struct output *outputs;
    size_t n;
    char *titled; /* what the last title said; NULL: none yet */
    bool line_open;
};

static struct output *output_of(struct logs *l, const char *step, const char *stream)
{
    for (size_t i = 0; i < l->n; i++)
        if (streq(l->outputs[i].step, step) && streq(l->outputs[i].stream, stream))
            return &l->outputs[i];
    l->outputs = xreallocarray(l->outputs, l->n + 1, sizeof(*l->outputs));
    l->outputs[l->n] = (struct output){.step = xstrdup(step), .stream = stream};
    return &l->outputs[l->n++];
}

/* With --step the bytes alone, so that they can be piped; else a title over each output. */
static void print_piece(struct logs *l, const struct output *o, const char *data, size_t len)
{
    if (!l->only) {
        _cleanup_(freep) char *title = xasprintf("==> %s %s <==", o->step, o->stream);
        if (!streq(title, l->titled)) {
            printf("%s%s%s\n", l->line_open ? "\n" : "", l->titled ? "\n" : "", title);
            free(l->titled);
            l->titled = steal(&title);
        }
    }
    fwrite(data, 1, len, stdout);
    l->line_open = data[len - 1] != '\n';
}

static int print_output(struct logs *l, const cJSON *step, const char *stream)
{
    struct buf url = {0};
    struct client_reply reply = {0};
    const char *id = value_get_string(step, "id");
    double attempt = cJSON_GetNumberValue(value_get(step, "attempt"));
    struct output *o = output_of(l, id, stream);
    if (o->attempt != attempt)
        o->offset = 0;
    o->attempt = attempt;
    url_add(&url, "/api/v1/runs/");
    url_part(&url, l->run);
    url_add(&url, "/steps/");
    url_part(&url, id);
    buf_printf(&url, "/%s?offset=%" PRId64, stream, o->offset);
    int r = ctl_raw(l->ctl, &(struct client_request){.method = "GET", .path = url.data}, &reply);
    if (r == CTL_OK && reply.status == 200 && reply.len > 0) {
        print_piece(l, o, reply.body, reply.len);
        o->offset += (int64_t)reply.len;
    } else if (r == CTL_OK && reply.status != 200 && reply.status != 404) {
        complain("step \"%s\": the daemon answered %ld", id, reply.status);
        r = CTL_FAILED;
    }
    free(reply.body);
    buf_fini(&url);
    return r;
}

static const cJSON *find_step(const cJSON *steps, const char *id)
{
    const cJSON *step;
    cJSON_ArrayForEach (step, steps) {
        if (streq(value_get_string(step, "id"), id))
            return step;
    }
    return NULL;
}

/* One round over the run's steps. */
static int print_outputs(struct logs *l, const char *path, bool *ret_ended)
{
    _cleanup_(cjson_deletep) cJSON *run = NULL;
    int r = ctl_get(l->ctl, path, &run);
    const cJSON *step, *steps = value_get(run, "steps");
    if (r != CTL_OK)
        return r;
    const char *status = value_get_string(run, "status");
    *ret_ended = !streq(status, "pending") && !streq(status, "running");
    if (l->only && !find_step(steps, l->only)) {
        complain("run \"%s\" has no step \"%s\"", l->run, l->only);
        return CTL_FAILED;
    }
    cJSON_ArrayForEach (step, steps) {
        const char *id = value_get_string(step, "id");
        if (r != CTL_OK || !id || (l->only && !streq(l->only, id)) ||
            !value_get_string(step, "started_at")) /* pending, and not between two attempts */
            continue;
        r = print_output(l, step, "stdout");
        r = r == CTL_OK ? print_output(l, step, "stderr") : r;
    }
    return r;
}

static int look_at_outputs(void *ctx, struct ctl *asking)
{
    struct logs *l = ctx;
    bool ended = false;
    l->ctl = asking;
    int r = print_outputs(l, l->path, &ended);
    return r == CTL_OK && !ended && fflush(stdout) == 0 ? -1 : r;
}

int verb_logs(struct ctl *c, const struct args *a)
{
    struct logs l = {.run = a->words[0], .only = a->values[OPT_STEP]};
    struct buf url = {0};
    url_add(&url, "/api/v1/runs/");
    url_part(&url, l.run);
    l.path = url.data;
    const struct watching watching = {.kind = "runs", .id = l.run, .look = look_at_outputs, .ctx = &l};
    int r = a->values[OPT_FOLLOW] ? ctl_watch(c, &watching) : look_at_outputs(&l, c);
    r = MAX(r, CTL_OK);
    if (!l.only && l.line_open)
        printf("\n");
    for (size_t i = 0; i < l.n; i++)
        free(l.outputs[i].step);
    free(l.outputs);
    free(l.titled);
    buf_fini(&url);
    return r;
}
