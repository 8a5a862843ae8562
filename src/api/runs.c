/* Operations on pipelines and runs. */
#include "api/internal.h"
#include "api/shape.h"

#include "base/id.h"

#include <errno.h>

/* ---- pipelines ---- */

struct pipeline_page {
    struct buf *b;
    int64_t index, from, to;
};

static void pipeline_item(void *ctx, struct live_pipeline *p)
{
    struct pipeline_page *page = ctx;
    if (page->index >= page->from && page->index < page->to)
        render_pipeline(page->b, NULL, p);
    page->index++;
}

SHAPE(PipelineList, "A page of pipelines", {"pipelines", "[Pipeline]", NULL}, {"total", "integer", NULL},
      {"page", "integer", NULL}, {"page_size", "integer", NULL});

void api_list_pipelines(struct api *a, int64_t page, int64_t page_size, struct api_call call)
{
    struct buf b = {0};
    struct pipeline_page p = {&b, 0, (page - 1) * page_size, page * page_size};
    json_open(&b, NULL, '{');
    json_open(&b, "pipelines", '[');
    engine_each_pipeline(a->engine, pipeline_item, &p);
    render_page_end(&b, p.index, page, page_size);
    api_answer_text(call, 200, &b);
}

void api_get_pipeline(struct api *a, const char *id, struct api_call call)
{
    struct live_pipeline *p = engine_find_pipeline(a->engine, id);
    if (!p) {
        api_problem(call, 404, "there is no pipeline \"%s\"", id);
        return;
    }
    struct buf b = {0};
    render_pipeline(&b, NULL, p);
    api_answer_resource(a, RESOURCE_PIPELINE, id, call, &b);
}

/* ---- runs ---- */

SHAPE(RunList, "A page of runs", {"runs", "[Run]", NULL}, {"total", "integer", NULL}, {"page", "integer", NULL},
      {"page_size", "integer", NULL});

SHAPE(Step, "A step of a run", {"id", "string", NULL}, {"status", "StepStatus", NULL}, {"attempt", "integer", NULL},
      {"exit_code", "integer?", NULL}, {"signal", "integer?", NULL}, {"output", "-any", "Not in lists"},
      {"error_message", "string?", NULL}, {"started_at", "time?", NULL}, {"completed_at", "time?", NULL});

static void render_step_row(struct buf *b, const struct step_row *s, bool output)
{
    json_open(b, NULL, '{');
    json_string(b, "id", s->step_id);
    json_string(b, "status", step_status_name(s->status));
    json_int(b, "attempt", s->attempt);
    if (s->exit_code >= 0)
        json_int(b, "exit_code", s->exit_code);
    else
        json_string(b, "exit_code", NULL);
    if (s->term_signal > 0)
        json_int(b, "signal", s->term_signal);
    else
        json_string(b, "signal", NULL);
    if (output)
        json_raw(b, "output", s->output);
    json_string(b, "error_message", s->error_message);
    json_time(b, "started_at", s->started_ms);
    json_time(b, "completed_at", s->completed_ms);
    json_close(b, '}');
}

static const struct step_row *recorded(const struct step_row *rows, size_t n, const char *id)
{
    for (size_t i = 0; i < n; i++)
        if (streq(rows[i].step_id, id))
            return &rows[i];
    return NULL;
}

/* The steps in the pipeline's order: what is recorded, what is under way, what never came to run; a run that has begun
 * since it was recorded is made one that runs. */
static char *steps_text(struct api *a, struct run_row *run, const struct step_row *rows, size_t n, bool output)
{
    struct buf b = {0};
    int64_t began_ms = run->status == RUN_PENDING ? engine_run_began_ms(a->engine, run->id) : 0;
    if (began_ms > 0) { /* as its steps say */
        run->status = RUN_RUNNING;
        run->started_ms = began_ms;
    }
    cJSON *live = engine_run_steps(a->engine, run->id);
    cJSON *pipeline = NULL;
    const char *text = run->pipeline_text;
    if (!live && text)
        value_parse(text, strlen(text), &pipeline, NULL);
    cJSON *list = live ? live : cJSON_GetObjectItemCaseSensitive(pipeline, "steps");
    cJSON *item;
    json_open(&b, NULL, '[');
    cJSON_ArrayForEach (item, list) {
        const char *id = value_get_string(item, "id");
        const struct step_row *row = id ? recorded(rows, n, id) : NULL;
        struct step_row none = {.step_id = (char *)id, .status = STEP_PENDING, .exit_code = -1};
        if (row && (!live || row->status >= STEP_COMPLETED)) /* else it is tried again */
            render_step_row(&b, row, output);
        else if (live) {
            if (!output)
                cJSON_DeleteItemFromObjectCaseSensitive(item, "output");
            json_value(&b, NULL, item);
        } else if (id)
            render_step_row(&b, &none, output);
    }
    json_close(&b, ']');
    cJSON_Delete(live);
    cJSON_Delete(pipeline);
    return buf_steal(&b);
}

char *api_steps_text(struct api *a, struct store_read *r)
{
    return steps_text(a, &r->runs[0], r->steps, r->n_steps, true);
}

static void runs_read(struct store_read *r, int result)
{
    struct reading *q = r->ctx;
    if (result < 0) {
        api_problem(q->call, 500, "%s", r->error.message);
    } else {
        struct buf b = {0};
        json_open(&b, NULL, '{');
        json_open(&b, "runs", '[');
        for (size_t i = 0; i < r->n_runs; i++) {
            size_t from = i > 0 ? r->steps_end[i - 1] : 0;
            _cleanup_(freep) char *steps = steps_text(q->api, &r->runs[i], from < r->n_steps ? &r->steps[from] : NULL,
                                                      r->steps_end[i] - from, false);
            render_run(&b, NULL, &r->runs[i], steps);
        }
        render_page_end(&b, r->total, r->page, r->page_size);
        api_answer_text(q->call, 200, &b);
    }
    store_read_free(r);
    reading_free(q);
}

void api_list_runs(struct api *a, const struct api_list *f, struct api_call call)
{
    int status = f->status ? run_status_parse(f->status) : -1;
    if (f->status && status < 0) {
        api_problem_at(call, 400, "status",
                       "status: expected one of pending, running, completed, failed, cancelled, timed_out");
        return;
    }
    struct store_read *r = store_read_new(STORE_READ_RUNS, runs_read, reading_new(a, call, NULL));
    r->filter = (struct store_filter){.trigger_id = xstrdup0(f->trigger_id),
                                      .pipeline_id = xstrdup0(f->pipeline_id),
                                      .status = status,
                                      .decision = -1,
                                      .since_ms = f->since_ms,
                                      .until_ms = f->until_ms};
    r->page = f->page;
    r->page_size = f->page_size;
    r->with_steps = true;
    a->store->read(a->store, r);
}

/* The run that an event waits for, as it would be recorded now; its texts are borrowed. */
static void render_waiting(struct buf *b, struct api *a, const struct event *e)
{
    struct live_pipeline *p = engine_find_pipeline(a->engine, e->pipeline_id);
    struct pipeline_view view = {0};
    struct buf steps = {0};
    struct run_row row = {.pipeline_id = e->pipeline_id,
                          .trigger_id = e->trigger_id,
                          .inputs = e->resolved_inputs,
                          .status = RUN_PENDING,
                          .attempt = e->attempt,
                          .created_ms = e->occurred_ms};
    memcpy(row.id, e->run_id, sizeof(row.id));
    memcpy(row.event_id, e->id, sizeof(row.event_id));
    if (p)
        pipeline_look(p, &view);
    json_open(&steps, NULL, '[');
    for (size_t i = 0; view.spec && i < view.spec->n_steps; i++) {
        const struct step_row none = {.step_id = view.spec->steps[i].id, .status = STEP_PENDING, .exit_code = -1};
        render_step_row(&steps, &none, true);
    }
    json_close(&steps, ']');
    render_run(b, NULL, &row, steps.data);
    buf_fini(&steps);
}

static void run_read(struct store_read *r, int result)
{
    struct reading *q = r->ctx;
    const struct event *waits = result == -ENOENT ? engine_waiting_run(q->api->engine, r->id) : NULL;
    if (waits) {
        struct buf b = {0};
        render_waiting(&b, q->api, waits);
        api_answer_text(q->call, 200, &b);
    } else if (result == -ENOENT) {
        api_problem(q->call, 404, "there is no run \"%s\"", r->id);
    } else if (result < 0) {
        api_problem(q->call, 500, "%s", r->error.message);
    } else {
        struct buf b = {0};
        _cleanup_(freep) char *steps = api_steps_text(q->api, r);
        render_run(&b, NULL, &r->runs[0], steps);
        api_answer_text(q->call, 200, &b);
    }
    store_read_free(r);
    reading_free(q);
}

void api_get_run(struct api *a, const char *id, struct api_call call)
{
    reading_begin(reading_new(a, call, NULL), STORE_READ_RUN, id, run_read);
}

static void cancelled(void *ctx, int result)
{
    struct reading *q = ctx;
    if (result < 0)
        api_problem(q->call, 503, "the end of run \"%s\" was not recorded", q->id);
    else
        api_get_run(q->api, q->id, q->call);
    reading_free(q);
}

void api_cancel_run(struct api *a, const char *id, struct api_call call)
{
    struct reading *q = reading_new(a, call, id);
    int r = engine_cancel_run(a->engine, id, "cancelled by request", cancelled, q);
    if (r > 0)
        return;
    if (r < 0)
        api_problem(call, id_valid(id, "run_") ? 409 : 404, "there is no run \"%s\" under way", id);
    else
        api_get_run(a, id, call);
    reading_free(q);
}

struct output_reading {
    struct api_call call;
    bool standard_error;
    int64_t offset;
};

static void answer_output(struct api_call call, const char *data, size_t len)
{
    struct api_answer answer = {.status = 200, .len = len, .type = "application/octet-stream"};
    answer.body = xmalloc(len + 1);
    if (data) /* else there is none: len is 0 */
        memcpy(answer.body, data, len);
    answer.body[len] = '\0';
    call.answer(call.ctx, &answer);
}

static void step_read(struct store_read *r, int result)
{
    struct output_reading *q = r->ctx;
    if (result < 0) {
        api_problem(q->call, result == -ENOENT ? 404 : 500, "there is no output of step \"%s\" of run \"%s\"",
                    r->step_id, r->id);
    } else {
        const struct step_row *s = &r->steps[0];
        const char *data = q->standard_error ? s->err : s->out;
        size_t len = q->standard_error ? s->err_len : s->out_len, from = MIN((size_t)q->offset, len);
        answer_output(q->call, data ? data + from : NULL, len - from);
    }
    store_read_free(r);
    free(q);
}

void api_step_output(struct api *a, const char *run_id, const char *step_id, bool standard_error, int64_t offset,
                     struct api_call call)
{
    const char *data = NULL;
    ssize_t n = engine_step_peek(a->engine, run_id, step_id, standard_error, (size_t)offset, &data);
    if (n >= 0) {
        answer_output(call, data, (size_t)n);
        return;
    }
    struct output_reading *q = xcalloc(1, sizeof(*q));
    *q = (struct output_reading){call, standard_error, offset};
    struct store_read *r = store_read_new(STORE_READ_STEP, step_read, q);
    r->id = xstrdup(run_id);
    r->step_id = xstrdup(step_id);
    a->store->read(a->store, r);
}

/* ---- by hand, and from outside ---- */

static void run_started(void *ctx, int result, const char *run_id, const char *message)
{
    struct reading *q = ctx;
    if (result < 0)
        api_problem(q->call, result == -ENOSPC ? 507 : 503, "%s", message);
    else
        api_get_run(q->api, run_id, q->call);
    reading_free(q);
}

SHAPE(RunRequest, "A run to start", {"inputs", "-object", "The pipeline's inputs"});

void api_run_pipeline(struct api *a, const char *id, const cJSON *inputs, const char *traceparent, struct api_call call)
{
    if (inputs && !cJSON_IsObject(inputs)) {
        struct issues issues = ISSUES_INIT;
        issue_add(&issues, "inputs", inputs, "expected an object, got %s", value_type_name(inputs));
        api_problem_issues(call, 422, "the request to run a pipeline is not valid", &issues);
        issues_fini(&issues);
        return;
    }
    cJSON *copy = inputs ? cJSON_Duplicate(inputs, true) : cJSON_CreateObject();
    struct reading *q = reading_new(a, call, NULL);
    int r = engine_run_pipeline(a->engine, id, copy, traceparent, run_started, q);
    if (r == 0)
        return;
    reading_free(q);
    if (r == -ENOENT)
        api_problem(call, 404, "there is no pipeline \"%s\"", id);
    else
        api_problem(call, r == -ENOSPC ? 507 : 503, "no run can be started now");
}

SHAPE(CompletedRun, "The end of a run that ran elsewhere", {"run_id", "name", NULL},
      {"status", "CompletedStatus", NULL}, {"outputs", "-object?", NULL}, {"error", "-string?", NULL});

/* The statuses of runs, where `completed` is `success` by its other name; NULL: none of them. */
static const char *outcome_of(const cJSON *status)
{
    static const char *const words[] = {"success", "completed", "failed", "timed_out", "cancelled"};
    for (size_t i = 0; cJSON_IsString(status) && i < ARRAY_SIZE(words); i++)
        if (streq(words[i], status->valuestring))
            return i == 1 ? words[0] : words[i];
    return NULL;
}

static bool report_ok(const cJSON *report, struct issues *issues)
{
    static const char *const known[] = {"run_id", "status", "outputs", "error"};
    const cJSON *run_id = value_get(report, "run_id"), *status = value_get(report, "status");
    const cJSON *outputs = value_get(report, "outputs"), *error = value_get(report, "error"), *item;
    if (!cJSON_IsObject(report)) {
        issue_add(issues, "", report, "expected an object, got %s", value_type_name(report));
        return false;
    }
    if (!cJSON_IsString(run_id) || !*run_id->valuestring)
        issue_add(issues, "run_id", run_id, "expected the id of the run, a text that is not empty");
    if (!outcome_of(status))
        issue_add(issues, "status", status, "expected one of success (or completed), failed, timed_out, cancelled");
    if (outputs && !cJSON_IsObject(outputs) && !cJSON_IsNull(outputs))
        issue_add(issues, "outputs", outputs, "expected an object");
    if (error && !cJSON_IsString(error) && !cJSON_IsNull(error))
        issue_add(issues, "error", error, "expected a text");
    cJSON_ArrayForEach (item, report) {
        bool is_known = false;
        for (size_t i = 0; i < ARRAY_SIZE(known); i++)
            is_known = is_known || streq(known[i], item->string);
        if (!is_known)
            issue_add(issues, item->string, item, "unknown key; did you mean \"%s\"?",
                      nearest_name(item->string, known, ARRAY_SIZE(known)));
    }
    return issues->errors == 0;
}

void api_completed(struct api *a, const char *pipeline_id, const cJSON *report, const char *traceparent,
                   struct api_call call)
{
    struct issues issues = ISSUES_INIT;
    if (!report_ok(report, &issues)) {
        api_problem_issues(call, 422, "the report of a completed run is not valid", &issues);
        issues_fini(&issues);
        return;
    }
    const cJSON *outputs = value_get(report, "outputs");
    const char *run_id = value_get_string(report, "run_id");
    cJSON *data = cJSON_CreateObject();
    cJSON_AddStringToObject(data, "source_pipeline_id", pipeline_id);
    cJSON_AddStringToObject(data, "source_run_id", run_id);
    cJSON_AddStringToObject(data, "status", outcome_of(value_get(report, "status")));
    cJSON_AddItemToObject(data, "outputs",
                          cJSON_IsObject(outputs) ? cJSON_Duplicate(outputs, true) : cJSON_CreateObject());
    const char *error = value_get_string(report, "error");
    cJSON_AddItemToObject(data, "error", value_string(error));
    struct occurrence o = {.event_type = "pipeline_completed",
                           .data = data,
                           .identity = run_id,
                           .identity_alone = true,
                           .traceparent = traceparent};
    engine_publish(a->engine, "pipeline_completed", pipeline_id, &o, api_taken, api_taking_new(a, false, call));
    cJSON_Delete(data);
    issues_fini(&issues);
}

/* ---- manifests ---- */

SHAPE(ManifestError, "An error of a manifest", {"line", "integer", NULL}, {"column", "integer", NULL},
      {"path", "string", "Of the field; empty: all of the document"}, {"message", "string", NULL});

static void render_errors(struct buf *b, const struct manifest *m, bool warnings)
{
    json_open(b, warnings ? "warnings" : "errors", '[');
    for (size_t i = 0; i < m->n_errors; i++) {
        const struct manifest_error *e = &m->errors[i];
        if (e->warning != warnings)
            continue;
        json_open(b, NULL, '{');
        json_int(b, "line", e->line);
        json_int(b, "column", e->column);
        json_string(b, "path", e->path);
        json_string(b, "message", e->message);
        json_close(b, '}');
    }
    json_close(b, ']');
}

SHAPE(ManifestResource, "A resource in a manifest", {"kind", "ResourceKind", NULL}, {"id", "string?", NULL},
      {"line", "integer", NULL}, {"valid", "boolean", NULL});
SHAPE(Manifest, "A manifest file", {"file", "string", NULL}, {"commit", "string?", NULL},
      {"commit_subject", "string?", NULL}, {"commit_authored_at", "time?", NULL}, {"dirty", "boolean?", NULL},
      {"resources", "[ManifestResource]", NULL}, {"errors", "[ManifestError]", NULL},
      {"warnings", "[ManifestError]", NULL});
SHAPE(ManifestList, "Every manifest", {"manifests", "[Manifest]", NULL}, {"total", "integer", NULL});

static void render_file(void *ctx, const struct manifest_file_view *v)
{
    struct buf *b = ctx;
    json_open(b, NULL, '{');
    json_string(b, "file", v->path);
    render_commit(b, v->origin);
    json_open(b, "resources", '[');
    for (size_t i = 0; i < v->manifest->n_entries; i++) {
        const struct manifest_entry *e = &v->manifest->entries[i];
        json_open(b, NULL, '{');
        json_string(b, "kind", resource_kind_name(e->kind));
        json_string(b, "id", e->id);
        json_int(b, "line", e->line);
        json_bool(b, "valid", !e->bad);
        json_close(b, '}');
    }
    json_close(b, ']');
    render_errors(b, v->manifest, false);
    render_errors(b, v->manifest, true);
    json_close(b, '}');
}

struct counted_files {
    struct buf *b;
    int64_t n;
};

static void count_file(void *ctx, const struct manifest_file_view *v)
{
    struct counted_files *c = ctx;
    render_file(c->b, v);
    c->n++;
}

void api_list_manifests(struct api *a, struct api_call call)
{
    struct buf b = {0};
    struct counted_files c = {&b, 0};
    json_open(&b, NULL, '{');
    json_open(&b, "manifests", '[');
    reconcile_each_file(a->reconcile, count_file, &c);
    json_close(&b, ']');
    json_int(&b, "total", c.n);
    json_close(&b, '}');
    api_answer_text(call, 200, &b);
}
