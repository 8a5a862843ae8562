/* Triggers and pipelines of a seed, as the documents that a manifest would hold. The model keeps its own copy of each
 * setting, so that it does not look at what the engine made of them. */
#include "sim.h"

static const char *const concurrency_words[] = {"queue", "skip", "replace"};
static const char *const cooldown_words[] = {"skip", "latest", "queue"};
static const char *const source_words[] = {"success", "failed", "any"};

/* ---- pipelines ---- */

static char *make_steps(struct sim *sim, bool may_emit)
{
    struct buf b = {0};
    size_t n = 1 + pick(sim, chance(sim, 0.3) ? MAX_STEPS : 4);
    buf_adds(&b, "[");
    for (size_t i = 0; i < n; i++) {
        buf_printf(&b, "%s{\"id\":\"s%zu\"", i ? "," : "", i);
        if (i > 0 && chance(sim, 0.6)) {
            size_t need = (size_t)pick(sim, i), also = (size_t)pick(sim, i);
            buf_printf(&b, ",\"needs\":[\"s%zu\"", need);
            if (also != need)
                buf_printf(&b, ",\"s%zu\"", also);
            buf_adds(&b, "]");
        }
        if (i > 0 && chance(sim, 0.25))
            buf_printf(&b, ",\"if\":\"$.steps.s%zu.output.ok\"", (size_t)pick(sim, i));
        if (chance(sim, 0.3))
            buf_printf(&b, ",\"timeout_seconds\":%.1f", 0.2 + (double)pick(sim, 40) / 10);
        if (chance(sim, 0.4))
            buf_printf(&b, ",\"retry\":{\"max_attempts\":%d,\"initial_seconds\":%.1f,\"max_seconds\":4}",
                       (int)pick(sim, 4) + 1, (double)pick(sim, 20) / 10);
        if (may_emit && i == 0)
            buf_printf(&b, ",\"emit\":{\"endpoint\":\"e%d\"}}", (int)pick(sim, 2));
        else
            buf_adds(&b, ",\"work\":{}}");
    }
    buf_adds(&b, "]");
    return buf_steal(&b);
}

static void make_pipeline(struct sim *sim, struct want_pipeline *p, size_t i)
{
    snprintf(p->id, sizeof(p->id), "p%u", (unsigned)i & 7);
    p->present = true;
    p->max_concurrent = chance(sim, 0.35) ? 1 + (int64_t)pick(sim, 3) : 0;
    p->most_concurrent = p->max_concurrent;
    p->once_unlimited = p->max_concurrent == 0;
    p->steps = make_steps(sim, i == 0 && chance(sim, 0.4));
    p->timeout_ms = chance(sim, 0.3) ? 500 + (int64_t)pick(sim, 8000) : 0;
    p->outputs = chance(sim, 0.4);
    p->schema = chance(sim, 0.25);
}

void config_edit_pipeline(struct sim *sim, struct want_pipeline *p)
{
    if (chance(sim, 0.5)) {
        free(p->steps);
        p->steps = make_steps(sim, false);
    } else {
        p->max_concurrent = chance(sim, 0.5) ? 1 + (int64_t)pick(sim, 3) : 0;
    }
    p->timeout_ms = chance(sim, 0.3) ? 500 + (int64_t)pick(sim, 8000) : 0;
    p->most_concurrent = MAX(p->most_concurrent, p->max_concurrent);
    p->once_unlimited = p->once_unlimited || p->max_concurrent == 0;
}

static cJSON *parsed(struct sim *sim, const char *text)
{
    cJSON *doc = NULL;
    struct error err = ERROR_INIT;
    CHECK(sim, value_parse(text, strlen(text), &doc, &err) == 0, "%s: %s", err.message, text);
    return doc;
}

static void check_issues(struct sim *sim, struct issues *issues, const char *text)
{
    CHECK(sim, issues->errors == 0, "%s: %s in %s", issues->items[0].path, issues->items[0].message, text);
    issues_fini(issues);
}

struct pipeline *config_pipeline(struct life *life, const struct want_pipeline *p)
{
    struct buf b = {0};
    buf_printf(&b, "{\"id\":\"%s\",\"steps\":%s", p->id, p->steps);
    if (p->max_concurrent)
        buf_printf(&b, ",\"max_concurrent\":%" PRId64, p->max_concurrent);
    if (p->timeout_ms)
        buf_printf(&b, ",\"timeout_seconds\":%.3f", (double)p->timeout_ms / 1000);
    if (p->outputs)
        buf_adds(&b, ",\"outputs\":{\"n\":\"$.inputs.n\",\"first\":\"$.steps.s0.output\"}");
    if (p->schema)
        buf_adds(&b, ",\"inputs\":{\"type\":\"object\",\"required\":[\"n\"]}");
    buf_adds(&b, "}");
    cJSON *doc = parsed(life->sim, b.data);
    struct issues issues = ISSUES_INIT;
    struct pipeline *spec = NULL;
    pipeline_parse(doc, engine_step_kinds(life->engine), &spec, &issues);
    check_issues(life->sim, &issues, b.data);
    pipeline_check(spec, doc, sim_step_types, &issues);
    check_issues(life->sim, &issues, b.data);
    cJSON_Delete(doc);
    buf_fini(&b);
    return spec;
}

/* ---- triggers ---- */

static void settings(struct sim *sim, struct want_trigger *t)
{
    t->filter = chance(sim, 0.4) ? 1 + (unsigned)pick(sim, (1u << KEYS) - 1) : 0;
    t->enabled = chance(sim, 0.92);
    t->max_concurrent = chance(sim, 0.6) ? 1 : 1 + (int64_t)pick(sim, 4);
    t->keyed = chance(sim, 0.3);
    t->concurrency_policy = (int)(chance(sim, 0.6) ? 0 : pick(sim, 3));
    t->cooldown_ms = chance(sim, 0.4) ? 200 + (int64_t)pick(sim, 5000) : 0;
    t->cooldown_policy = (int)pick(sim, 3);
    t->pause_policy = (int)pick(sim, 2);
    t->queue_limit = chance(sim, 0.3) ? 1 + (int64_t)pick(sim, 6) : 1000;
    t->failure_threshold = chance(sim, 0.2) ? 1 + (int64_t)pick(sim, 4) : 0;
    t->on_interrupt = chance(sim, 0.2);
    t->max_interruptions = chance(sim, 0.3) ? (int64_t)pick(sim, 3) : 5;
    t->storm_limit = chance(sim, 0.1) ? 3 : 1000;
    t->dedup_seconds = chance(sim, 0.2) ? 5 : 86400;
    sim->short_dedup = sim->short_dedup || t->dedup_seconds < 100;
    snprintf(t->pipeline, sizeof(t->pipeline), "p%d",
             (int)(chance(sim, 0.05) ? MAX_PIPELINES : pick(sim, sim->n_pipelines)));
    t->most_concurrent = MAX(t->most_concurrent, t->max_concurrent);
    t->most_queued = MAX(t->most_queued, t->queue_limit);
}

static void make_trigger(struct sim *sim, struct want_trigger *t, size_t i)
{
    snprintf(t->id, sizeof(t->id), "t%u", (unsigned)i & 7);
    t->present = true;
    /* At most two wait for completions, one of which may loop: what follows from one event stays bounded. */
    t->type = i >= 1 && i <= 2 && chance(sim, 0.6) ? WANT_COMPLETED : chance(sim, 0.25) ? WANT_BROKER : WANT_CUSTOM;
    t->allow_loops = i == 1 && chance(sim, 0.3);
    snprintf(t->endpoint, sizeof(t->endpoint), "e%d", (int)pick(sim, 2));
    if (chance(sim, 0.3))
        snprintf(t->source, sizeof(t->source), "*");
    else
        snprintf(t->source, sizeof(t->source), "p%d", (int)pick(sim, sim->n_pipelines));
    t->source_status = (int)pick(sim, 3);
    t->pass_outputs = chance(sim, 0.5);
    settings(sim, t);
}

void config_edit_trigger(struct sim *sim, struct want_trigger *t)
{
    t->edited = true;
    t->edited_ms = life_now(sim->life);
    settings(sim, t);
    if (chance(sim, 0.2))
        snprintf(t->endpoint, sizeof(t->endpoint), "e%d", (int)pick(sim, 2));
}

static void print_config(struct buf *b, const struct want_trigger *t)
{
    static const char *const types[] = {"custom", "pipeline_completed", "broker"};
    buf_printf(b, ",\"trigger_type\":\"%s\",\"config\":{", types[t->type]);
    if (t->type == WANT_CUSTOM)
        buf_printf(b, "\"endpoint\":\"%s\"", t->endpoint);
    else if (t->type == WANT_COMPLETED)
        buf_printf(b, "\"source_pipeline_id\":\"%s\",\"status\":\"%s\",\"pass_outputs\":%s", t->source,
                   source_words[t->source_status], t->pass_outputs ? "true" : "false");
    else
        buf_adds(b, "\"note\":\"x\"");
    if (t->filter && t->type != WANT_COMPLETED) {
        buf_adds(b, ",\"filter\":{\"k\":[");
        const char *comma = "";
        for (int k = 0; k < KEYS; k++)
            if (t->filter & 1u << k) {
                buf_printf(b, "%s\"%c\"", comma, 'a' + k);
                comma = ",";
            }
        buf_adds(b, "]}");
    }
    buf_adds(b, "}");
}

struct trigger *config_trigger(struct life *life, const struct want_trigger *t)
{
    struct buf b = {0};
    buf_printf(&b, "{\"id\":\"%s\",\"name\":\"trigger %s\",\"pipeline_id\":\"%s\"", t->id, t->id, t->pipeline);
    print_config(&b, t);
    if (t->type != WANT_COMPLETED)
        buf_adds(&b, ",\"default_inputs\":{\"s\":\"" SECRET_REFERENCE "\",\"own\":[\"<" SECRET_REFERENCE ">\"]}"
                     ",\"input_mapping\":{\"n\":\"$.n\",\"k\":\"$.k\",\"s\":\"$.s\"}");
    if (t->keyed)
        buf_adds(&b, ",\"concurrency_key\":\"$.k\"");
    buf_printf(
        &b, ",\"enabled\":%s,\"max_concurrent\":%" PRId64 ",\"concurrency_policy\":\"%s\",\"queue_limit\":%" PRId64,
        t->enabled ? "true" : "false", t->max_concurrent, concurrency_words[t->concurrency_policy], t->queue_limit);
    buf_printf(&b, ",\"cooldown_seconds\":%.3f,\"cooldown_policy\":\"%s\",\"pause_policy\":\"%s\",\"allow_loops\":%s",
               (double)t->cooldown_ms / 1000, cooldown_words[t->cooldown_policy], t->pause_policy ? "hold" : "skip",
               t->allow_loops ? "true" : "false");
    buf_printf(&b,
               ",\"failure_threshold\":%" PRId64 ",\"on_interrupt\":\"%s\",\"max_interruptions\":%" PRId64
               ",\"dedup_window_seconds\":%.0f,\"storm_limit\":%" PRId64 "}",
               t->failure_threshold, t->on_interrupt ? "fail" : "retry", t->max_interruptions, t->dedup_seconds,
               t->storm_limit);
    cJSON *doc = parsed(life->sim, b.data);
    struct issues issues = ISSUES_INIT;
    struct trigger *spec = NULL;
    trigger_parse(doc, engine_source_kinds(life->engine), &spec, &issues);
    check_issues(life->sim, &issues, b.data);
    trigger_check(spec, doc, &issues);
    check_issues(life->sim, &issues, b.data);
    cJSON_Delete(doc);
    buf_fini(&b);
    return spec;
}

void config_make(struct sim *sim)
{
    sim->n_pipelines = 1 + pick(sim, MAX_PIPELINES);
    sim->n_triggers = 1 + pick(sim, MAX_TRIGGERS);
    for (size_t i = 0; i < sim->n_pipelines; i++)
        make_pipeline(sim, &sim->pipelines[i], i);
    for (size_t i = 0; i < sim->n_triggers; i++)
        make_trigger(sim, &sim->triggers[i], i);
    sim->max_runs = chance(sim, 0.4) ? 1 + (int64_t)pick(sim, 6) : 0;
    sim->max_depth = 2 + (int64_t)pick(sim, 4);
    sim->max_pending_bytes = chance(sim, 0.4) ? 1 + pick(sim, 1500) : 0;
    sim->fault_rate = chance(sim, 0.4) ? (double)pick(sim, 8) / 100 : 0;
}

void config_fini(struct sim *sim)
{
    for (size_t i = 0; i < sim->n_pipelines; i++)
        free(sim->pipelines[i].steps);
}
