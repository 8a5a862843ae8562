/* The graph of a run, beside the model's own memory of how steps ended: what may start, what must have, and the verdict. */
#include "sim.h"

/* How the step of index `i` ended, of this life or as an earlier one recorded it; -1: it never began. */
static int step_end(struct life *life, const struct model_run *run, size_t i)
{
    char id[] = {'s', (char)('0' + i), '\0'};
    if (run->ended_as[i])
        return run->ended_as[i] - 1;
    const struct step_row *row = sim_store_step(life->store, run->id, id);
    return row && row->status != STEP_SKIPPED ? (int)row->status : -1;
}

static bool needs_met(struct life *life, const struct model_run *run, const cJSON *step)
{
    const cJSON *need;
    cJSON_ArrayForEach (need, value_get(step, "needs")) {
        if (step_end(life, run, (size_t)(need->valuestring[1] - '0')) != STEP_COMPLETED)
            return false;
    }
    return true;
}

/* A step that failed used up its attempts, unless no other could have mended it. */
static void check_retries(struct life *life, const struct model_run *run, const cJSON *step, size_t i)
{
    const cJSON *retry = value_get(step, "retry");
    int64_t most = 1;
    if (retry)
        value_integer(value_get(retry, "max_attempts"), &most);
    const char *id = value_get_string(step, "id");
    int last = model_last_attempt(life->sim, run->id, id);
    CHECK(life->sim, run->permanent[i] || last >= most, "%s: step %s failed for good at attempt %d of %" PRId64,
          run->id, id, last, most);
}

/* `if: $.steps.sN.output.ok` of a step that needs sN, which completed: then nothing but the output decides. */
static void check_condition(struct life *life, const struct model_run *run, const cJSON *step, int end)
{
    const char *text = value_get_string(step, "if");
    const cJSON *need;
    char id[3] = "";
    if (text)
        memcpy(id, text + strlen("$.steps."), 2);
    cJSON_ArrayForEach (need, value_get(step, "needs")) {
        const struct step_row *row = streq(need->valuestring, id) ? sim_store_step(life->store, run->id, id) : NULL;
        if (!row || row->status != STEP_COMPLETED)
            continue;
        bool ok = row->output && strstr(row->output, "\"ok\":true");
        CHECK(life->sim, (end >= 0) == ok, "%s: step %s %s, and its condition is %s", run->id,
              value_get_string(step, "id"), end >= 0 ? "ran" : "did not run", ok ? "true" : "false");
    }
}

void model_check_graph(struct life *life, const struct model_run *run, const struct run_row *r)
{
    struct sim *sim = life->sim;
    const char *guilty = r->error_message ? strstr(r->error_message, "step \"s") : NULL;
    if (r->status != RUN_COMPLETED && guilty != r->error_message)
        return; /* ended from outside, or never begun */
    cJSON *doc = NULL;
    CHECK(sim, value_parse(r->pipeline_text, strlen(r->pipeline_text), &doc, NULL) == 0, "%s: its pipeline", r->id);
    const cJSON *step;
    size_t i = 0;
    bool wrong = false;
    cJSON_ArrayForEach (step, value_get(doc, "steps")) {
        int end = step_end(life, run, i);
        bool met = needs_met(life, run, step);
        CHECK(sim, end < 0 || met, "%s: s%zu ran, and something that it needs did not complete", r->id, i);
        CHECK(sim, end >= 0 || !met || value_get(step, "if"), "%s is %s, and s%zu never ran", r->id,
              run_status_name(r->status), i);
        if (met)
            check_condition(life, run, step, end);
        if (end == STEP_FAILED)
            check_retries(life, run, step, i);
        wrong = wrong || (end >= 0 && end != STEP_COMPLETED);
        if (guilty && (size_t)(guilty[7] - '0') == i)
            CHECK(sim, end != STEP_COMPLETED && (end >= 0 || value_get(step, "if")), "%s: s%zu is not to blame", r->id,
                  i);
        i++;
    }
    CHECK(sim, !wrong || r->status != RUN_COMPLETED, "%s is completed, and a step of it is not", r->id);
    cJSON_Delete(doc);
}

void model_check_needs(struct life *life, const struct model_run *run, const struct step_call *call)
{
    for (size_t k = 0; k < call->step->needs.n; k++)
        CHECK(life->sim, step_end(life, run, (size_t)(call->step->needs.items[k][1] - '0')) == STEP_COMPLETED,
              "step %s of %s starts, and %s did not complete", call->step->id, call->run_id,
              call->step->needs.items[k]);
}
