/* How each resource looks, in every view. */
#include "api/internal.h"
#include "api/shape.h"

#include "lang/redact.h"

void render_commit(struct buf *b, const struct origin *origin)
{
    static const struct commit none = {0};
    const struct commit *c = origin && origin->commit ? origin->commit : &none;
    json_string(b, "commit", c->id);
    json_string(b, "commit_subject", c->subject);
    json_time(b, "commit_authored_at", c->authored_ms);
    if (c->id && origin->state != ORIGIN_UNKNOWN)
        json_bool(b, "dirty", origin->state == ORIGIN_DIRTY);
    else
        json_string(b, "dirty", NULL);
}

SHAPE(Source, "Where a resource is written, and the commit of it", {"file", "string?", NULL}, {"line", "integer", NULL},
      {"commit", "string?", "HEAD of the work tree; null: none"}, {"commit_subject", "string?", NULL},
      {"commit_authored_at", "time?", NULL}, {"dirty", "boolean?", "Does the file differ from the commit"});

void render_source(struct buf *b, const struct origin *origin, unsigned line)
{
    json_open(b, "source", '{');
    json_string(b, "file", origin_file(origin));
    json_int(b, "line", line);
    render_commit(b, origin);
    json_close(b, '}');
}

SHAPE(Condition, "What is so, in the sense of Kubernetes", {"type", "string", NULL},
      {"status", "ConditionStatus", NULL}, {"reason", "string", NULL}, {"message", "string", NULL},
      {"last_transition_time", "time", NULL}, {"observed_generation", "integer", NULL});

static void render_conditions(struct buf *b, const struct conditions *conditions)
{
    static const char *const words[] = {"False", "True", "Unknown"};
    json_open(b, "conditions", '[');
    for (unsigned i = 0; i < conditions->n; i++) {
        const struct condition *c = &conditions->items[i];
        json_open(b, NULL, '{');
        json_string(b, "type", c->type);
        json_string(b, "status", words[c->status]);
        json_string(b, "reason", c->reason);
        json_string(b, "message", c->message ? c->message : "");
        json_time(b, "last_transition_time", c->transition_ms);
        json_int(b, "observed_generation", c->observed_generation);
        json_close(b, '}');
    }
    json_close(b, ']');
}

/* JSON text without the secrets in it. */
static void render_hidden(struct buf *b, const char *key, const struct field_table *table, const char *text)
{
    _cleanup_(freep) char *hidden = redact_json(table, text);
    json_raw(b, key, hidden ? hidden : text);
}

static void render_steps(struct buf *b, const struct pipeline *p)
{
    bool wanted = false;
    for (size_t i = 0; i < p->n_steps && !wanted; i++)
        wanted = redact_wanted(p->steps[i].kind->config, p->text);
    if (!wanted) {
        json_value(b, "steps", p->steps_json);
        return;
    }
    cJSON *steps = cJSON_Duplicate(p->steps_json, true);
    hide_steps(steps);
    json_value(b, "steps", steps);
    cJSON_Delete(steps);
}

/* The settings that are not named here are shown where they are not the default. */
SHAPE_OF(Trigger, "A trigger", &trigger_fields, 0, {"id", "=", NULL}, {"name", "=", NULL}, {"description", "=", NULL},
         {"pipeline_id", "=", NULL}, {"trigger_type", "TriggerType", NULL}, {"config", "TriggerConfig", NULL},
         {"enabled", "=", NULL}, {"max_concurrent", "=", NULL}, {"cooldown_seconds", "=", NULL},
         {"default_inputs", "object", NULL}, {"status", "TriggerStatus", NULL}, {"last_triggered_at", "time?", NULL},
         {"trigger_count", "integer", "How often it fired"}, {"error_message", "string?", NULL},
         {"created_by", "string?", NULL}, {"created_at", "time?", NULL}, {"updated_at", "time?", NULL},
         {"conditions", "[Condition]", NULL}, {"generation", "integer", "Changes of what the manifest says"},
         {"observed_generation", "integer", "Of what is in force"}, {"source", "Source", NULL});

/* What the manifest says: the first members. */
static void render_spec(struct buf *b, const struct trigger *spec)
{
    json_string(b, "id", spec->id);
    json_string(b, "name", spec->name);
    json_string(b, "description", spec->description);
    json_string(b, "pipeline_id", spec->pipeline_id);
    json_string(b, "trigger_type", spec->trigger_type);
    render_hidden(b, "config", spec->kind->config, spec->config_text);
    json_bool(b, "enabled", spec->enabled);
    json_int(b, "max_concurrent", spec->max_concurrent);
    cJSON *cooldown = value_number_from_double(spec->cooldown_seconds);
    json_value(b, "cooldown_seconds", cooldown);
    cJSON_Delete(cooldown);
    render_hidden(b, "default_inputs", NULL, spec->default_inputs);
    /* The other settings, where they are not the default. */
    cJSON *all = fields_print(&trigger_fields, spec, true);
    static const char *const shown[] = {"id",     "name",    "description",    "pipeline_id",      "trigger_type",
                                        "config", "enabled", "max_concurrent", "cooldown_seconds", "default_inputs"};
    for (size_t i = 0; i < ARRAY_SIZE(shown); i++)
        cJSON_DeleteItemFromObjectCaseSensitive(all, shown[i]);
    if (spec->config_mapping)
        cJSON_DeleteItemFromObjectCaseSensitive(all, "input_mapping");
    for (const cJSON *item = all->child; item; item = item->next)
        json_value(b, item->string, item);
    cJSON_Delete(all);
}

/* What is observed: the members behind. */
static void render_observed(struct buf *b, const struct trigger_view *v)
{
    json_string(b, "status", trigger_status_name(v->status));
    json_time(b, "last_triggered_at", v->last_triggered_ms);
    json_int(b, "trigger_count", v->trigger_count);
    json_string(b, "error_message", v->error_message);
    json_string(b, "created_by", NULL);
    json_time(b, "created_at", v->created_ms);
    json_time(b, "updated_at", v->updated_ms);
    render_conditions(b, v->conditions);
    json_int(b, "generation", v->generation);
    json_int(b, "observed_generation", v->observed_generation);
    render_source(b, v->origin, v->line);
}

void render_trigger(struct buf *b, const char *key, struct live_trigger *t)
{
    struct trigger_view v;
    trigger_look(t, &v);
    json_open(b, key, '{');
    render_spec(b, v.spec);
    render_observed(b, &v);
    json_close(b, '}');
}

/* ---- triggers that are asked for over and over ---- */

#define SHOWN_SLOTS 64

/* What was rendered of a spec, which never changes: an edit makes another one. */
struct shown {
    struct {
        struct trigger *spec;
        struct buf text;
    } slots[SHOWN_SLOTS];
};

void render_trigger_again(struct buf *b, struct shown **shown, struct live_trigger *t)
{
    struct trigger_view v;
    trigger_look(t, &v);
    if (!*shown)
        *shown = xcalloc(1, sizeof(**shown));
    size_t i = hash_bytes(0, &v.spec, sizeof(v.spec)) % SHOWN_SLOTS;
    struct buf *text = &(*shown)->slots[i].text;
    if ((*shown)->slots[i].spec != v.spec) {
        trigger_unref((*shown)->slots[i].spec);
        (*shown)->slots[i].spec = trigger_ref((struct trigger *)v.spec);
        buf_fini(text);
        json_open(text, NULL, '{');
        render_spec(text, v.spec);
    }
    buf_add(b, text->data, text->len);
    render_observed(b, &v);
    json_close(b, '}');
}

void shown_destroy(struct shown *shown)
{
    for (size_t i = 0; shown && i < SHOWN_SLOTS; i++) {
        trigger_unref(shown->slots[i].spec);
        buf_fini(&shown->slots[i].text);
    }
    free(shown);
}

SHAPE(Pipeline, "A pipeline", {"id", "string", NULL}, {"name", "string?", NULL}, {"description", "string?", NULL},
      {"inputs", "any", "JSON Schema of its inputs; null: none"}, {"steps", "[PipelineStep]", NULL},
      {"outputs", "any", "Names and the paths of their values; null: none"}, {"timeout_seconds", "number?", NULL},
      {"max_concurrent", "integer?", NULL}, {"running", "integer", "Runs under way"}, {"created_at", "time?", NULL},
      {"updated_at", "time?", NULL}, {"conditions", "[Condition]", NULL},
      {"generation", "integer", "Changes of what the manifest says"},
      {"observed_generation", "integer", "Of what is in force"}, {"source", "Source", NULL});

void render_pipeline(struct buf *b, const char *key, struct live_pipeline *p)
{
    struct pipeline_view v;
    pipeline_look(p, &v);
    json_open(b, key, '{');
    json_string(b, "id", v.spec->id);
    json_string(b, "name", v.spec->name);
    json_string(b, "description", v.spec->description);
    json_value(b, "inputs", v.spec->inputs);
    render_steps(b, v.spec);
    json_value(b, "outputs", v.spec->outputs);
    cJSON *timeout = v.spec->timeout_seconds > 0 ? value_number_from_double(v.spec->timeout_seconds) : NULL;
    json_value(b, "timeout_seconds", timeout);
    cJSON_Delete(timeout);
    if (v.spec->max_concurrent > 0)
        json_int(b, "max_concurrent", v.spec->max_concurrent);
    else
        json_string(b, "max_concurrent", NULL);
    json_int(b, "running", v.running);
    json_time(b, "created_at", v.created_ms);
    json_time(b, "updated_at", v.updated_ms);
    render_conditions(b, v.conditions);
    json_int(b, "generation", v.generation);
    json_int(b, "observed_generation", v.observed_generation);
    render_source(b, v.origin, v.line);
    json_close(b, '}');
}

static const char *or_null(const char *text)
{
    return *text ? text : NULL;
}

SHAPE(Event, "What happened at a trigger, and what became of it", {"id", "string", NULL},
      {"trigger_id", "string", NULL}, {"pipeline_id", "string", NULL}, {"run_id", "string?", NULL},
      {"event_type", "string", NULL}, {"event_data", "any", NULL}, {"resolved_inputs", "object?", "What its run gets"},
      {"status", "EventStatus", NULL}, {"decision", "Decision", NULL}, {"reason", "string?", NULL},
      {"error_message", "string?", NULL}, {"attempt", "integer", "From 1"}, {"occurred_at", "time?", NULL},
      {"started_at", "time?", NULL}, {"completed_at", "time?", NULL},
      {"root_event_id", "string", "The first of its chain"}, {"replay_of", "string?", NULL});

void render_event(struct buf *b, const char *key, const struct event *e)
{
    json_open(b, key, '{');
    json_string(b, "id", e->id);
    json_string(b, "trigger_id", e->trigger_id);
    json_string(b, "pipeline_id", e->pipeline_id);
    json_string(b, "run_id", or_null(e->run_id));
    json_string(b, "event_type", e->event_type);
    json_raw(b, "event_data", e->data);
    json_raw(b, "resolved_inputs", e->resolved_inputs);
    json_string(b, "status", event_status_name(e->status));
    json_string(b, "decision", decision_name(e->decision));
    json_string(b, "reason", e->reason);
    json_string(b, "error_message", e->error_message);
    json_int(b, "attempt", e->attempt);
    json_time(b, "occurred_at", e->occurred_ms);
    json_time(b, "started_at", e->started_ms);
    json_time(b, "completed_at", e->completed_ms);
    json_string(b, "root_event_id", e->root_event_id);
    json_string(b, "replay_of", or_null(e->replay_of));
    json_close(b, '}');
}

void render_page_end(struct buf *b, int64_t total, int64_t page, int64_t page_size)
{
    json_close(b, ']');
    json_int(b, "total", total);
    json_int(b, "page", page);
    json_int(b, "page_size", page_size);
    json_close(b, '}');
}

SHAPE(Run, "A run of a pipeline", {"id", "string", NULL}, {"pipeline_id", "string", NULL},
      {"event_id", "string?", NULL}, {"trigger_id", "string?", NULL}, {"status", "RunStatus", NULL},
      {"inputs", "any", NULL}, {"outputs", "any", NULL}, {"error_message", "string?", NULL},
      {"steps", "-[Step]", "In the pipeline's order"}, {"attempt", "integer", "From 1"}, {"created_at", "time?", NULL},
      {"started_at", "time?", NULL}, {"completed_at", "time?", NULL});

void render_run(struct buf *b, const char *key, const struct run_row *r, const char *steps)
{
    json_open(b, key, '{');
    json_string(b, "id", r->id);
    json_string(b, "pipeline_id", r->pipeline_id);
    json_string(b, "event_id", or_null(r->event_id));
    json_string(b, "trigger_id", r->trigger_id);
    json_string(b, "status", run_status_name(r->status));
    json_raw(b, "inputs", r->inputs);
    json_raw(b, "outputs", r->outputs);
    json_string(b, "error_message", r->error_message);
    if (steps)
        json_raw(b, "steps", steps);
    json_int(b, "attempt", r->attempt);
    json_time(b, "created_at", r->created_ms);
    json_time(b, "started_at", r->started_ms);
    json_time(b, "completed_at", r->completed_ms);
    json_close(b, '}');
}
