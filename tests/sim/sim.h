/* The simulator: the whole engine on a simulated clock, with injected faults, from a seed, against a small model.
 *
 *   sim.c           options, the history of one seed, statistics
 *   sim_world.c     lives of the engine: start, crash, drain; the driver of the clock; operations and their answers
 *   sim_config.c    what triggers and pipelines a seed has, and how they are edited
 *   sim_store.c     the store: committed rows in memory, group commit with latency, faults
 *   sim_step.c      steps that take time, fail, hang, emit
 *   sim_source.c    a broker that repeats what was not acknowledged, as an active source
 *   sim_graph.c     the graph of a run against how its steps ended
 *   sim_model.c     what must hold, checked at every submission, commit, step and answer
 *
 * A history is a chain of lives. A crash forks the committed rows into the next life; the life that crashed goes on as
 * a ghost, cut off from the model, and is drained, so that whatever state it was in must also end without a leak.
 * Nothing depends on addresses, the machine's clock or its randomness: a seed repeats exactly (its trace has a digest).
 *
 * Times are simulated wall-clock milliseconds, which all lives share; monotonic clocks start anew with each.
 */
#ifndef TRIGGERD_TESTS_SIM_H
#define TRIGGERD_TESTS_SIM_H

#include "base/util.h"
#include "engine/engine.h"
#include "source/list.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <uthash.h>
#include <utlist.h>

/* The one secret of the world. */
#define SECRET_REFERENCE "${env:SIM_SECRET}"
#define SECRET_VALUE "swordfish"

#define KEYS 4 /* values of `k` in event data: "a" … "d" */
#define MAX_TRIGGERS 6
#define MAX_PIPELINES 4
#define MAX_STEPS 8
#define SIM_EPOCH_MS 1767225600000LL

struct sim;
struct life;

/* ---- what is wanted (sim_config.c) ---- */

enum want_type { WANT_CUSTOM, WANT_COMPLETED, WANT_BROKER, WANT_TYPES };

struct want_trigger {
    char id[8];
    bool present;
    enum want_type type;
    char endpoint[8];  /* custom */
    unsigned filter;   /* bits of the values of `k` that pass; 0: all */
    char source[8];    /* pipeline_completed: an id, or a glob */
    int source_status; /* 0 success, 1 failed, 2 any */
    bool pass_outputs;
    char pipeline[8];
    bool enabled, keyed, allow_loops;
    int64_t max_concurrent, queue_limit, failure_threshold, max_interruptions, storm_limit;
    int64_t cooldown_ms;
    int concurrency_policy, cooldown_policy, pause_policy, on_interrupt;
    double dedup_seconds;
    /* what the model remembers of it */
    int64_t most_concurrent, most_queued; /* over all its edits */
    bool edited;                          /* ever, or deleted: order and cooldowns are judged mildly */
    int64_t deleted_ms;                   /* last time, 0 never */
    bool paused, pause_unknown;           /* as answered; unknown: the last control was cut off or refused */
    unsigned controls;
    int64_t edited_ms; /* last time, 0 never */
};

struct want_pipeline {
    char id[8];
    bool present;
    int64_t max_concurrent, most_concurrent;
    bool once_unlimited;
    char *steps; /* JSON */
    int64_t timeout_ms;
    bool outputs, schema;
};

void config_make(struct sim *sim);
void config_fini(struct sim *sim);
void config_edit_trigger(struct sim *sim, struct want_trigger *t);
void config_edit_pipeline(struct sim *sim, struct want_pipeline *p);
struct trigger *config_trigger(struct life *life, const struct want_trigger *t);    /* one reference */
struct pipeline *config_pipeline(struct life *life, const struct want_pipeline *p); /* one reference */

/* ---- the store ---- */

struct event_row {
    struct event e;
    uint64_t group; /* that inserted it */
    UT_hash_handle by_seq, by_id;
};

struct step_rows {
    struct step_row s;
    struct step_rows *next;
};

struct run_rows {
    struct run_row r;
    struct step_rows *steps;
    UT_hash_handle by_seq, by_id;
};

struct sim_store;
struct sim_store *sim_store_create(struct life *life);
/* The committed rows as a store of another life. */
struct sim_store *sim_store_fork(const struct sim_store *s, struct life *life);
void sim_store_close(struct sim_store *s); /* nothing is under way: stops its timers; the rows stay */
void sim_store_destroy(struct sim_store *s);
struct store_port *sim_store_port(struct sim_store *s);
void sim_store_full(struct sim_store *s, bool full);
struct event_row *sim_store_events(struct sim_store *s); /* the hash by seq, in order of insertion */
struct event_row *sim_store_event(struct sim_store *s, const char *id);
struct run_rows *sim_store_runs(struct sim_store *s);
struct run_rows *sim_store_run(struct sim_store *s, const char *id);
/* Of one that has ended; else NULL. */
const struct step_row *sim_store_step(struct sim_store *s, const char *run_id, const char *step_id);

/* ---- steps and the broker ---- */

extern const struct step_type sim_step_work, sim_step_emit;
extern const struct source_type sim_source_broker;
extern const struct step_type *const sim_step_types[];
extern const struct source_type *const sim_source_types[];

struct sim_message {
    int64_t n;
    char k;
    bool settled; /* acknowledged to the broker */
    struct sim_message *prev, *next;
};
struct broker { /* one a trigger; outlives the daemon */
    struct sim_message *messages;
    struct source *source; /* that takes from it now; NULL: none */
};
void broker_produce(struct sim *sim, size_t trigger);
void broker_stumble(struct sim *sim, size_t trigger); /* it reports what may happen to it */
void broker_fini(struct sim *sim);
size_t broker_unsettled(struct sim *sim, size_t trigger);

/* ---- the model ---- */

/* An emit, a test, a message: something that must become events, or nothing. */
struct stimulus {
    int64_t n; /* unique, in its data */
    char k;
    char endpoint[8]; /* custom; "" else */
    char trigger[8];  /* test and broker; "" else */
    char key[16];     /* idempotency key, "" none */
    int open;         /* asked and not yet answered, in this life */
    unsigned oks;     /* answers that were not refusals */
    unsigned rows;    /* bits of the triggers that have a committed event of it */
    uint64_t group;   /* that recorded them */
    int64_t recorded_ms;
    UT_hash_handle hh;
};

/* One asking of it. */
struct asked {
    struct life *life;
    struct stimulus *stimulus;
    struct want_trigger *trigger; /* pause, resume */
    bool pause;
    unsigned control; /* number of it */
    unsigned targets; /* bits of the triggers that should have it */
    uint64_t group;   /* of the stimulus at that time, and its oks */
    unsigned oks;
    int64_t at_ms;
};

struct model_event {
    char id[ID_SIZE];
    char run_id[ID_SIZE];
    size_t trigger;
    int64_t n; /* of the stimulus, 0 for completions */
    size_t lane;
    int64_t seq;
    bool internal, test;
    /* as submitted, and as committed */
    bool committed;
    enum event_status status, c_status;
    enum decision decision, c_decision;
    int attempt, c_attempt;
    unsigned life, fired_life; /* that last made it executing; in which it fired */
    int64_t fired_ms;
    UT_hash_handle hh;
};

struct model_run {
    char id[ID_SIZE], event_id[ID_SIZE], pipeline[8];
    size_t trigger; /* MAX_TRIGGERS: by hand */
    bool committed, ended, c_ended;
    bool cancelled;            /* in this life */
    int under_way;             /* step calls now */
    char steps[MAX_STEPS];     /* by index of sN, in this life: 1 under way, 2 completed */
    char ended_as[MAX_STEPS];  /* likewise, of the last attempt: 1 + enum step_status; 0: none */
    bool permanent[MAX_STEPS]; /* likewise, over all lives: no retry was to follow */
    UT_hash_handle hh;
};

struct model_fire {
    int64_t at_ms, seq; /* seq 0: none */
};

#define LANES (KEYS + 1) /* the last: no key */

/* The last attempt of a step that was seen to start, whatever was recorded of it. */
struct model_attempt {
    char key[ID_SIZE + 8]; /* run and step */
    int attempt;
    UT_hash_handle hh;
};

struct model {
    struct stimulus *stimuli;
    struct model_event *events;
    struct model_run *runs;
    struct model_attempt *attempts;
    int64_t next_n;
    int64_t started_seq[MAX_TRIGGERS][LANES];
    struct model_fire fires[MAX_TRIGGERS];
    int64_t fire_told_ms[MAX_TRIGGERS]; /* when the record of a fire was last told; a restart counts from there */
    int64_t pending[MAX_TRIGGERS], executing[MAX_TRIGGERS];
};

struct stimulus *model_stimulus(struct sim *sim, char k);
void model_submitted(struct life *life, const struct store_group *g);
void model_committed(struct life *life, const struct store_group *g);
void model_done(struct life *life, const struct store_group *g, int result); /* before the engine hears */
void model_next_life(struct sim *sim, bool crashed);                         /* only what is committed was */
/* A step starts only when all that it needs has completed. */
void model_check_needs(struct life *life, const struct model_run *run, const struct step_call *call);
/* A run that came to its own end: what could start did, what could not did not, and the verdict is that of its steps. */
void model_check_graph(struct life *life, const struct model_run *run, const struct run_row *r);
void model_step_started(struct life *life, const struct step_call *call);
/* `permanent`: no retry follows: none can mend it, or it was asked to end. */
void model_step_ended(struct life *life, const struct step_call *call, enum step_status status, bool permanent);
/* The number of the last attempt of a step, over all lives; 0: there was none. */
int model_last_attempt(const struct sim *sim, const char *run_id, const char *step_id);
void model_answered(struct asked *a, const struct intake_result *r);
void model_look(struct life *life);             /* counters against the model; outside of the engine */
void model_quiet(struct life *life, bool open); /* nothing goes on any more; open: nothing is paused either */
void model_end(struct sim *sim);
void model_fini(struct sim *sim);
unsigned model_targets(struct sim *sim, const char *endpoint, char k);
size_t trigger_index(struct sim *sim, const char *id); /* MAX_TRIGGERS: none */

/* ---- lives ---- */

struct life {
    struct sim *sim;
    unsigned number;
    bool ghost, drained, started, drain, firing;
    struct clock_manual clock;
    struct timers timers;
    struct random_seeded random;
    struct sim_store *store;
    struct engine *engine;
    size_t steps; /* step calls under way */
};

struct stats {
    int64_t seeds, lives, crashes, drains, events, runs, steps, emits, refused, duplicates, conflicts, commits, faults,
        interrupted, dry_runs, hand_runs, cancels, messages, completions, simulated_ms;
    int64_t decisions[DECISION_N], statuses[8], run_statuses[8];
};

#define TRACE_KEPT 60

struct sim {
    uint64_t seed;
    bool verbose;
    struct random_seeded random;
    uint64_t digest;
    char *trace[TRACE_KEPT];
    size_t traced;
    struct life *life;
    struct model model;
    struct want_trigger triggers[MAX_TRIGGERS];
    struct want_pipeline pipelines[MAX_PIPELINES];
    struct broker brokers[MAX_TRIGGERS];
    size_t n_triggers, n_pipelines;
    int64_t max_runs, max_depth;
    size_t max_pending_bytes;
    double fault_rate; /* of a commit */
    bool calm;         /* the end: nothing new, no faults */
    bool short_dedup;  /* some trigger forgets keys after 5 s */
    struct stats *stats;
};

int64_t life_now(const struct life *life); /* simulated wall clock */
struct life *life_of_timers(struct timers *timers);
struct life *life_begin(struct sim *sim, struct sim_store *from, int64_t wall_ms);
void life_run(struct life *life, int64_t ms);    /* let time pass */
bool life_settle(struct life *life, int64_t ms); /* until nothing is to come; false: it never ended */
void life_crash(struct sim *sim);
void life_restart(struct sim *sim, int64_t grace_ms); /* drain, start again */
void life_end(struct sim *sim);                       /* drain; no next one */
void operate(struct sim *sim);                        /* one operation at random */
struct asked *ask(struct life *life, struct stimulus *s, unsigned targets);

/* ---- all ---- */

uint64_t pick(struct sim *sim, uint64_t below);
bool chance(struct sim *sim, double p);
void sim_trace(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_fail(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));
#define CHECK(sim, what, ...)                                                                                          \
    do {                                                                                                               \
        if (!(what))                                                                                                   \
            sim_fail(sim, __VA_ARGS__);                                                                                \
    } while (0)

#endif
