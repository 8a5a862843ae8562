#include "model/event.h"

#include "base/util.h"

static const char *const event_words[] = {"pending", "executing", "completed", "failed", "skipped", "cancelled"};
static const char *const run_words[] = {"pending", "running", "completed", "failed", "cancelled", "timed_out"};
static const char *const step_words[] = {"pending",   "running",   "completed", "failed",
                                         "cancelled", "timed_out", "skipped"};
static const char *const decision_words[] = {"filtered",     "duplicate",     "disabled", "paused",     "error",
                                             "loop_blocked", "debounced",     "cooldown", "queue_full", "concurrency",
                                             "replaced",     "mapping_error", "fired"};
_Static_assert(ARRAY_SIZE(decision_words) == DECISION_N, "a word for every decision");

const char *event_status_name(enum event_status s)
{
    return event_words[s];
}

const char *decision_name(enum decision d)
{
    return decision_words[d];
}

const char *run_status_name(enum run_status s)
{
    return run_words[s];
}

const char *step_status_name(enum step_status s)
{
    return step_words[s];
}

static int word_parse(const char *const *words, size_t n, const char *word)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(words[i], word) == 0)
            return (int)i;
    return -1;
}

int event_status_parse(const char *word)
{
    return word_parse(event_words, ARRAY_SIZE(event_words), word);
}

int run_status_parse(const char *word)
{
    return word_parse(run_words, ARRAY_SIZE(run_words), word);
}

void event_fini(struct event *e)
{
    free(e->trigger_id);
    free(e->pipeline_id);
    free(e->event_type);
    free(e->data);
    free(e->resolved_inputs);
    free(e->referring);
    free(e->reason);
    free(e->error_message);
    free(e->chain);
    free(e->concurrency_key);
    free(e->traceparent);
    *e = (struct event){0};
}

void run_row_fini(struct run_row *r)
{
    free(r->pipeline_id);
    free(r->pipeline_text);
    free(r->trigger_id);
    free(r->inputs);
    free(r->outputs);
    free(r->error_message);
    free(r->traceparent);
    *r = (struct run_row){0};
}

void step_row_fini(struct step_row *s)
{
    free(s->step_id);
    free(s->output);
    free(s->error_message);
    free(s->out);
    free(s->err);
    *s = (struct step_row){0};
}
