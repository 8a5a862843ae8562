/* What happened and what became of it, as it is recorded: events, runs, steps. Plain data, shared by store, engine,
 * api. */
#ifndef TRIGGERD_MODEL_EVENT_H
#define TRIGGERD_MODEL_EVENT_H

#include "base/id.h"
#include "model/value.h"

#include <stdbool.h>
#include <stdint.h>

#define ID_TEXT_MAX ID_SIZE /* `evt_` or `run_` and 26 characters */

enum event_status {
    EVENT_PENDING,   /* waits for a gate; runs by itself */
    EVENT_EXECUTING, /* its run is under way */
    EVENT_COMPLETED,
    EVENT_FAILED,
    EVENT_SKIPPED, /* held back by a gate for good */
    EVENT_CANCELLED,
};

enum decision {
    DECISION_FILTERED,
    DECISION_DUPLICATE,
    DECISION_DISABLED,
    DECISION_PAUSED,
    DECISION_ERROR,
    DECISION_LOOP_BLOCKED,
    DECISION_DEBOUNCED,
    DECISION_COOLDOWN,
    DECISION_QUEUE_FULL,
    DECISION_CONCURRENCY,
    DECISION_REPLACED,
    DECISION_MAPPING_ERROR,
    DECISION_FIRED,
    DECISION_N,
};

enum run_status { RUN_PENDING, RUN_RUNNING, RUN_COMPLETED, RUN_FAILED, RUN_CANCELLED, RUN_TIMED_OUT };

/* A step in a run: `pending running completed failed cancelled timed_out skipped`. */
enum step_status {
    STEP_PENDING,
    STEP_RUNNING,
    STEP_COMPLETED,
    STEP_FAILED,
    STEP_CANCELLED,
    STEP_TIMED_OUT,
    STEP_SKIPPED, /* its `if` was false, or something it needs was skipped or did not complete */
};

const char *event_status_name(enum event_status s);
const char *decision_name(enum decision d);
const char *run_status_name(enum run_status s);
const char *step_status_name(enum step_status s);
/* -1: no such word. */
int event_status_parse(const char *word);
int run_status_parse(const char *word);

static inline bool event_status_final(enum event_status s)
{
    return s >= EVENT_COMPLETED;
}
static inline bool run_status_final(enum run_status s)
{
    return s >= RUN_COMPLETED;
}

/* A row of `events`. Texts are owned; *_ms are Unix milliseconds, 0 when not yet. */
struct event {
    int64_t seq; /* order of recording; 0 before it is recorded */
    char id[ID_TEXT_MAX];
    char run_id[ID_TEXT_MAX];        /* "" if none */
    char root_event_id[ID_TEXT_MAX]; /* its own id where it starts a chain */
    char replay_of[ID_TEXT_MAX];     /* "" if none */
    char *trigger_id;
    char *pipeline_id;
    char *event_type;
    char *data;            /* JSON text, digit for digit as it came */
    char *resolved_inputs; /* JSON text, NULL until mapped */
    char *referring;       /* JSON array of the inputs (their keys) that are the manifest's own and hold `${…}`: they
                              are replaced when a step starts. NULL if none */
    char *reason;          /* of the decision, NULL if none */
    char *error_message;   /* NULL if none */
    char *chain;           /* trigger ids of the chain before this one, `/a/b/`; NULL: it starts one */
    char *concurrency_key; /* text of the key's value, NULL if none */
    char *traceparent;     /* NULL if none */
    enum event_status status;
    enum decision decision;
    int depth;   /* of the chain: 0 starts one */
    int attempt; /* from 1 */
    int64_t occurred_ms, started_ms, completed_ms;
};
void event_fini(struct event *e);

/* A row of `runs`. */
struct run_row {
    int64_t seq;
    char id[ID_TEXT_MAX];
    char event_id[ID_TEXT_MAX]; /* "" when started by hand */
    char *pipeline_id;
    char *pipeline_text; /* NULL where only the hash was asked for */
    char *trigger_id;    /* NULL when started by hand */
    char *inputs;        /* JSON text */
    char *outputs;       /* JSON text, NULL until completed */
    char *error_message;
    char *traceparent;
    enum run_status status;
    int attempt;
    int64_t created_ms, started_ms, completed_ms;
};
void run_row_fini(struct run_row *r);

/* A row of `steps`: the last recorded end of a step in a run. */
struct step_row {
    char *step_id;
    enum step_status status;
    int attempt;
    int exit_code;   /* -1: none */
    int term_signal; /* 0: none */
    char *output;    /* JSON text, NULL if none */
    char *error_message;
    int64_t started_ms, completed_ms;
    /* what it printed, bounded; owned; NULL where not asked for */
    char *out, *err;
    size_t out_len, err_len;
};
void step_row_fini(struct step_row *s);

#endif
