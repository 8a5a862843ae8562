/* describe: everything about one resource, for people; above all, why did it not fire? */
#include "ctl/args.h"
#include "ctl/print.h"
#include "ctl/request.h"
#include "ctl/views.h"

#include <stdio.h>

/* ---- pieces ---- */

static void line_of(const struct ctl *c, const char *label, const cJSON *object, const char *member)
{
    _cleanup_(freep) char *text = value_text(value_get(object, member));
    print_line(c->colour, label, text);
}

static void time_of(const struct ctl *c, const char *label, const cJSON *object, const char *member)
{
    const char *time = value_get_string(object, member);
    _cleanup_(freep) char *age = age_of(time);
    if (age)
        print_linef(c->colour, label, "%s (%s ago)", time, age);
}

static void source_line(const struct ctl *c, const cJSON *resource)
{
    const cJSON *source = value_get(resource, "source");
    _cleanup_(freep) char *text = source_text(resource), *commit = commit_text(source);
    const char *subject = value_get_string(source, "commit_subject");
    print_line(c->colour, "Source", text);
    if (!commit)
        return;
    print_linef(c->colour, "Commit", "%s%s%s", commit, subject && *subject ? "  " : "", subject ? subject : "");
    time_of(c, "Authored", source, "commit_authored_at");
    if (cJSON_IsTrue(value_get(source, "dirty")))
        print_line(c->colour, "Dirty", "the file is not as it is in that commit");
}

static void value_block(const struct ctl *c, const char *title, const cJSON *v)
{
    if (!v || cJSON_IsNull(v) || ((cJSON_IsObject(v) || cJSON_IsArray(v)) && !v->child))
        return;
    print_heading(c->colour, title);
    print_json(v);
}

static void conditions(const struct ctl *c, const cJSON *resource)
{
    const cJSON *item, *list = value_get(resource, "conditions");
    struct table t = {.indent = 2};
    if (cJSON_GetArraySize(list) == 0)
        return;
    table_column(&t, "CONDITION", 0);
    table_column(&t, "IS", CELL_STATUS);
    table_column(&t, "REASON", 0);
    table_column(&t, "SINCE", CELL_RIGHT);
    table_column(&t, "MESSAGE", 0);
    cJSON_ArrayForEach (item, list) {
        _cleanup_(freep) char *age = age_of(value_get_string(item, "last_transition_time"));
        table_cell(&t, value_get_string(item, "type"));
        table_cell(&t, value_get_string(item, "status"));
        table_cell(&t, value_get_string(item, "reason"));
        table_cell(&t, age);
        table_cell(&t, value_get_string(item, "message"));
    }
    print_heading(c->colour, "Conditions");
    table_print(&t, c->colour);
}

static void text_cell(struct table *t, const cJSON *object, const char *member)
{
    _cleanup_(freep) char *text = value_text(value_get(object, member));
    table_cell(t, text);
}

static void age_cell(struct table *t, const cJSON *object, const char *member)
{
    _cleanup_(freep) char *age = age_of(value_get_string(object, member));
    table_cell(t, age);
}

/* ---- why ---- */

static const cJSON *condition_of(const cJSON *resource, const char *type)
{
    const cJSON *item;
    cJSON_ArrayForEach (item, value_get(resource, "conditions")) {
        if (streq(value_get_string(item, "type"), type))
            return item;
    }
    return NULL;
}

static bool is_false(const cJSON *condition)
{
    return streq(value_get_string(condition, "status"), "False");
}

/* What each decision means, as the answer to "why did it not fire?". */
static const char *decision_text(const char *decision)
{
    static const char *const texts[][2] = {
        {"filtered", "the trigger's filter does not match the event"},
        {"duplicate", "an event with the same identity was taken before"},
        {"disabled", "the trigger was disabled"},
        {"paused", "the trigger was paused"},
        {"error", "the trigger was in error"},
        {"loop_blocked", "the chain of events went through this trigger before, or is too deep"},
        {"debounced", "a later change of the same thing took its place"},
        {"cooldown", "the trigger had fired less than cooldown_seconds before"},
        {"queue_full", "as many events as queue_limit allows were waiting"},
        {"concurrency", "as many runs as max_concurrent allows were under way"},
        {"replaced", "a newer event took its place"},
        {"mapping_error", "its inputs could not be made from the event"},
        {"fired", "it fired"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        if (streq(texts[i][0], decision))
            return texts[i][1];
    return NULL;
}

static bool fired(const cJSON *event)
{
    const char *decision = value_get_string(event, "decision");
    return !decision || streq(decision, "fired");
}

/* `because`, and the reason that was recorded. */
static void because(const struct ctl *c, const char *label, const cJSON *event)
{
    const char *text = decision_text(value_get_string(event, "decision"));
    const char *why = why_text(event);
    if (text && why && *why)
        print_linef(c->colour, label, "%s: %s", text, why);
    else
        print_line(c->colour, label, text ? text : why);
}

/* Why it would not fire now; false: nothing stands in the way. */
static bool why_not_now(const struct ctl *c, const cJSON *trigger)
{
    const char *status = value_get_string(trigger, "status"), *id = value_get_string(trigger, "id");
    const cJSON *pipeline = condition_of(trigger, "PipelineFound");
    const cJSON *all = condition_of(trigger, "Disabled");
    if (streq(value_get_string(all, "status"), "True"))
        print_line(c->colour, "Why not", "triggerd runs with FLOWMASON_TRIGGERS_ENABLED=false: nothing fires");
    else if (streq(status, "disabled"))
        print_line(c->colour, "Why not", "it is disabled: its manifest says enabled: false");
    else if (streq(status, "paused"))
        print_linef(c->colour, "Why not", "it is paused: triggerctl resume %s", id);
    else if (streq(status, "error"))
        print_linef(c->colour, "Why not", "it is in error: %s", why_text(trigger) ? why_text(trigger) : "see below");
    else if (is_false(pipeline))
        print_linef(c->colour, "Why not", "pipeline \"%s\" does not exist: its events fail",
                    value_get_string(trigger, "pipeline_id"));
    else
        return false;
    return true;
}

/* The newest thing that did not fire, where it is newer than what fired. */
static void why_not_lately(const struct ctl *c, const cJSON *answer)
{
    const cJSON *event = cJSON_GetArrayItem(value_get(answer, "events"), 0), *item, *newest = NULL;
    cJSON_ArrayForEach (item, value_get(answer, "filtered")) {
        const char *a = value_get_string(item, "occurred_at"), *b = value_get_string(newest, "occurred_at");
        if (a && (!b || strcmp(a, b) > 0))
            newest = item;
    }
    const char *of_event = value_get_string(event, "occurred_at"),
               *of_filtered = value_get_string(newest, "occurred_at");
    if (of_filtered && (!of_event || strcmp(of_filtered, of_event) > 0))
        because(c, "Last event", newest);
    else if (event && !fired(event))
        because(c, "Last event", event);
    else if (!event)
        print_line(c->colour, "Last event", "nothing has happened yet that this trigger waits for");
}

/* ---- trigger ---- */

static void counts(const struct ctl *c, const cJSON *answer)
{
    struct buf b = {0};
    const cJSON *item;
    cJSON_ArrayForEach (item, value_get(answer, "decisions")) {
        if (cJSON_GetNumberValue(item) > 0)
            buf_printf(&b, "%s%s %.0f", b.len ? ", " : "", item->string, cJSON_GetNumberValue(item));
    }
    print_line(c->colour, "Decisions", b.data);
    buf_fini(&b);
}

static void event_rows(const struct ctl *c, const char *title, const cJSON *list, bool whose)
{
    struct table t = {.indent = 2};
    const cJSON *item;
    if (cJSON_GetArraySize(list) == 0)
        return;
    table_column(&t, "EVENT", 0);
    if (whose)
        table_column(&t, "TRIGGER", 0);
    table_column(&t, "AGE", CELL_RIGHT);
    table_column(&t, "STATUS", CELL_STATUS);
    table_column(&t, "DECISION", CELL_STATUS);
    table_column(&t, "WHY", 0);
    cJSON_ArrayForEach (item, list) {
        text_cell(&t, item, "id");
        if (whose)
            text_cell(&t, item, "trigger_id");
        age_cell(&t, item, "occurred_at");
        text_cell(&t, item, "status");
        text_cell(&t, item, "decision");
        table_cell(&t, why_text(item));
    }
    print_heading(c->colour, title);
    table_print(&t, c->colour);
}

static void filtered_rows(const struct ctl *c, const cJSON *list)
{
    struct table t = {.indent = 2};
    const cJSON *item;
    if (cJSON_GetArraySize(list) == 0)
        return;
    table_column(&t, "AGE", CELL_RIGHT);
    table_column(&t, "WHY", 0);
    table_column(&t, "DATA", CELL_CUT);
    cJSON_ArrayForEach (item, list) {
        age_cell(&t, item, "occurred_at");
        text_cell(&t, item, "reason");
        text_cell(&t, item, "event_data");
    }
    print_heading(c->colour, "Turned away by its filter");
    table_print(&t, c->colour);
}

static int describe_trigger(struct ctl *c, const cJSON *answer)
{
    const cJSON *t = value_get(answer, "trigger");
    line_of(c, "Trigger", t, "id");
    line_of(c, "Name", t, "name");
    line_of(c, "About", t, "description");
    print_status(c->colour, "Status", value_get_string(t, "status"));
    if (!why_not_now(c, t))
        why_not_lately(c, answer);
    if (is_false(condition_of(t, "Accepted")))
        print_line(c->colour, "Edit refused", value_get_string(condition_of(t, "Accepted"), "message"));
    line_of(c, "Type", t, "trigger_type");
    line_of(c, "Pipeline", t, "pipeline_id");
    source_line(c, t);
    line_of(c, "Fired", t, "trigger_count");
    time_of(c, "Last fired", t, "last_triggered_at");
    line_of(c, "Waiting", answer, "pending");
    line_of(c, "Under way", answer, "executing");
    counts(c, answer);
    time_of(c, "Created", t, "created_at");
    time_of(c, "Edited", t, "updated_at");
    conditions(c, t);
    event_rows(c, "Last events", value_get(answer, "events"), false);
    filtered_rows(c, value_get(answer, "filtered"));
    value_block(c, "Config", value_get(t, "config"));
    return CTL_OK;
}

/* ---- pipeline ---- */

/* The kind of work that a step does: the key that holds an object and is no key of all steps. */
static const char *kind_of(const cJSON *step)
{
    static const char *const shared[] = {"id", "description", "needs", "if", "timeout_seconds", "retry"};
    const cJSON *item;
    cJSON_ArrayForEach (item, step) {
        bool is_shared = !cJSON_IsObject(item) || strncmp(item->string, "x-", 2) == 0;
        for (size_t i = 0; i < ARRAY_SIZE(shared); i++)
            is_shared = is_shared || streq(shared[i], item->string);
        if (!is_shared)
            return item->string;
    }
    return NULL;
}

static void step_rows(const struct ctl *c, const cJSON *steps)
{
    struct table t = {.indent = 2};
    const cJSON *step;
    table_column(&t, "STEP", 0);
    table_column(&t, "DOES", 0);
    table_column(&t, "NEEDS", 0);
    table_column(&t, "IF", 0);
    cJSON_ArrayForEach (step, steps) {
        text_cell(&t, step, "id");
        table_cell(&t, kind_of(step));
        text_cell(&t, step, "needs");
        text_cell(&t, step, "if");
    }
    print_heading(c->colour, "Steps");
    table_print(&t, c->colour);
}

static void run_rows(const struct ctl *c, const cJSON *runs)
{
    struct table t = {.indent = 2};
    const cJSON *run;
    if (cJSON_GetArraySize(runs) == 0)
        return;
    table_column(&t, "RUN", 0);
    table_column(&t, "STATUS", CELL_STATUS);
    table_column(&t, "AGE", CELL_RIGHT);
    table_column(&t, "TOOK", CELL_RIGHT);
    table_column(&t, "ERROR", CELL_CUT);
    cJSON_ArrayForEach (run, runs) {
        _cleanup_(freep) char *took =
            span_of(value_get_string(run, "started_at"), value_get_string(run, "completed_at"));
        text_cell(&t, run, "id");
        text_cell(&t, run, "status");
        age_cell(&t, run, "created_at");
        table_cell(&t, took);
        text_cell(&t, run, "error_message");
    }
    print_heading(c->colour, "Last runs");
    table_print(&t, c->colour);
}

static void trigger_rows(const struct ctl *c, const cJSON *triggers)
{
    struct table t = {.indent = 2};
    const cJSON *trigger;
    if (cJSON_GetArraySize(triggers) == 0) {
        print_heading(c->colour, "No trigger runs it");
        return;
    }
    table_column(&t, "TRIGGER", 0);
    table_column(&t, "TYPE", 0);
    table_column(&t, "STATUS", CELL_STATUS);
    table_column(&t, "FIRED", CELL_RIGHT);
    cJSON_ArrayForEach (trigger, triggers) {
        text_cell(&t, trigger, "id");
        text_cell(&t, trigger, "trigger_type");
        text_cell(&t, trigger, "status");
        text_cell(&t, trigger, "trigger_count");
    }
    print_heading(c->colour, "Triggers");
    table_print(&t, c->colour);
}

/* What belongs to a pipeline, by its id: a list of another route. */
static int list_of(struct ctl *c, const char *route, const char *id, const char *page_size, cJSON **ret)
{
    struct buf url = {0};
    url_add(&url, route);
    url_param(&url, "pipeline_id", id);
    url_param(&url, "page_size", page_size);
    int r = ctl_get(c, url.data, ret);
    buf_fini(&url);
    return r;
}

static int describe_pipeline(struct ctl *c, const cJSON *p)
{
    const char *id = value_get_string(p, "id");
    _cleanup_(cjson_deletep) cJSON *triggers = NULL;
    _cleanup_(cjson_deletep) cJSON *runs = NULL;
    int r = list_of(c, "/api/v1/triggers", id, "100", &triggers);
    r = r == CTL_OK ? list_of(c, "/api/v1/runs", id, "10", &runs) : r;
    if (r != CTL_OK)
        return r;
    line_of(c, "Pipeline", p, "id");
    line_of(c, "Name", p, "name");
    line_of(c, "About", p, "description");
    source_line(c, p);
    line_of(c, "Running", p, "running");
    line_of(c, "At most", p, "max_concurrent");
    line_of(c, "Timeout", p, "timeout_seconds");
    time_of(c, "Created", p, "created_at");
    time_of(c, "Edited", p, "updated_at");
    if (is_false(condition_of(p, "Accepted")))
        print_line(c->colour, "Edit refused", value_get_string(condition_of(p, "Accepted"), "message"));
    conditions(c, p);
    step_rows(c, value_get(p, "steps"));
    trigger_rows(c, value_get(triggers, "triggers"));
    run_rows(c, value_get(runs, "runs"));
    value_block(c, "Inputs (JSON Schema)", value_get(p, "inputs"));
    value_block(c, "Outputs", value_get(p, "outputs"));
    return CTL_OK;
}

/* ---- run ---- */

static void run_steps(const struct ctl *c, const cJSON *steps)
{
    struct table t = {.indent = 2};
    const cJSON *step;
    if (cJSON_GetArraySize(steps) == 0)
        return;
    table_column(&t, "STEP", 0);
    table_column(&t, "STATUS", CELL_STATUS);
    table_column(&t, "ATTEMPT", CELL_RIGHT);
    table_column(&t, "EXIT", CELL_RIGHT);
    table_column(&t, "TOOK", CELL_RIGHT);
    table_column(&t, "ERROR", 0);
    cJSON_ArrayForEach (step, steps) {
        _cleanup_(freep) char *signal = value_text(value_get(step, "signal"));
        _cleanup_(freep) char *took =
            span_of(value_get_string(step, "started_at"), value_get_string(step, "completed_at"));
        text_cell(&t, step, "id");
        text_cell(&t, step, "status");
        text_cell(&t, step, "attempt");
        if (signal)
            table_cellf(&t, "signal %s", signal);
        else
            text_cell(&t, step, "exit_code");
        table_cell(&t, took);
        text_cell(&t, step, "error_message");
    }
    print_heading(c->colour, "Steps");
    table_print(&t, c->colour);
}

static int describe_run(struct ctl *c, const cJSON *run)
{
    const char *from = value_get_string(run, "started_at"), *to = value_get_string(run, "completed_at");
    _cleanup_(freep) char *took = span_of(from, to);
    line_of(c, "Run", run, "id");
    print_status(c->colour, "Status", value_get_string(run, "status"));
    line_of(c, "Error", run, "error_message");
    line_of(c, "Pipeline", run, "pipeline_id");
    line_of(c, "Trigger", run, "trigger_id");
    line_of(c, "Event", run, "event_id");
    line_of(c, "Attempt", run, "attempt");
    time_of(c, "Created", run, "created_at");
    time_of(c, "Started", run, "started_at");
    time_of(c, "Ended", run, "completed_at");
    print_line(c->colour, "Took", took);
    run_steps(c, value_get(run, "steps"));
    value_block(c, "Inputs", value_get(run, "inputs"));
    value_block(c, "Outputs", value_get(run, "outputs"));
    return CTL_OK;
}

/* ---- event ---- */

/* What its run gets; the event's data, which stands above it, is not shown again. */
static void inputs_block(const struct ctl *c, const cJSON *event)
{
    _cleanup_(cjson_deletep) cJSON *inputs = cJSON_Duplicate(value_get(event, "resolved_inputs"), true);
    cJSON *about = value_get(inputs, "_trigger_event");
    if (value_equal(value_get(about, "data"), value_get(event, "event_data")))
        cJSON_DeleteItemFromObjectCaseSensitive(about, "data");
    value_block(c, "Inputs of its run (_trigger_event.data is the data)", inputs);
}

static int describe_event(struct ctl *c, const cJSON *e)
{
    const char *root = value_get_string(e, "root_event_id");
    line_of(c, "Event", e, "id");
    print_status(c->colour, "Status", value_get_string(e, "status"));
    print_status(c->colour, "Decision", value_get_string(e, "decision"));
    if (!fired(e))
        because(c, "Why not", e);
    else
        line_of(c, "Reason", e, "reason");
    line_of(c, "Error", e, "error_message");
    line_of(c, "Trigger", e, "trigger_id");
    line_of(c, "Pipeline", e, "pipeline_id");
    line_of(c, "Type", e, "event_type");
    line_of(c, "Run", e, "run_id");
    line_of(c, "Attempt", e, "attempt");
    time_of(c, "Occurred", e, "occurred_at");
    time_of(c, "Started", e, "started_at");
    time_of(c, "Ended", e, "completed_at");
    if (!streq(root, value_get_string(e, "id")))
        print_line(c->colour, "Chain from", root);
    line_of(c, "Replay of", e, "replay_of");
    value_block(c, "Data", value_get(e, "event_data"));
    inputs_block(c, e);
    return CTL_OK;
}

/* ---- MCP server ---- */

static int describe_mcp_server(struct ctl *c, const cJSON *s)
{
    line_of(c, "MCP server", s, "name");
    print_status(c->colour, "State", value_get_string(s, "state"));
    line_of(c, "Why", s, "reason");
    line_of(c, "Message", s, "message");
    time_of(c, "Since", s, "since");
    line_of(c, "Transport", s, "transport");
    line_of(c, "Command", s, "command");
    line_of(c, "URL", s, "url");
    line_of(c, "Protocol", s, "protocol_version");
    line_of(c, "Server", s, "server_name");
    line_of(c, "Version", s, "server_version");
    line_of(c, "Triggers", s, "triggers");
    line_of(c, "Timeout", s, "timeout_seconds");
    line_of(c, "Edit refused", s, "rejected");
    source_line(c, s);
    value_block(c, "Capabilities", value_get(s, "capabilities"));
    return CTL_OK;
}

int verb_describe(struct ctl *c, const struct args *a)
{
    static const struct {
        const char *kind, *path, *after;
        int (*show)(struct ctl *c, const cJSON *v);
    } kinds[] = {
        {"trigger", "/api/v1/triggers/", "/describe", describe_trigger},
        {"pipeline", "/api/v1/pipelines/", "", describe_pipeline},
        {"run", "/api/v1/runs/", "", describe_run},
        {"event", "/api/v1/triggers/events/", "", describe_event},
        {"mcp_server", "/api/v1/mcp_servers/", "", describe_mcp_server},
    };
    size_t i = 0;
    while (!streq(kinds[i].kind, a->words[0]))
        i++;
    struct buf url = {0};
    _cleanup_(cjson_deletep) cJSON *v = NULL;
    url_add(&url, kinds[i].path);
    url_part(&url, a->words[1]);
    url_add(&url, kinds[i].after);
    int r = ctl_get(c, url.data, &v);
    buf_fini(&url);
    if (r != CTL_OK || show_value(a, v))
        return r;
    return kinds[i].show(c, v);
}
