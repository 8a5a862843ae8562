/* The engine's own structs: what lives while it runs. Files of src/engine only.
 *
 * Ownership at a glance:
 *   engine ─► live_trigger ─► lane ─► live_event (pending or running) ─► live_run ─► live_step ─► step_call
 *          ─► live_pipeline (spec and program are counted: a run keeps its own reference)
 *          ─► channel ─► subscription ◄─ live_trigger
 * A removed trigger or pipeline stays as long as something of it runs (`removed`, reaped by trigger_reap()).
 *
 * A live_event's path:  reserve → [recording] → pending → running → [recording] → freed
 *                                            └→ skipped/failed → freed
 */
#ifndef TRIGGERD_ENGINE_INTERNAL_H
#define TRIGGERD_ENGINE_INTERNAL_H

#include "base/id.h"
#include "base/util.h"
#include "engine/engine.h"
#include "lang/glob.h"
#include "lang/matcher.h"
#include "lang/path.h"
#include "lang/pattern.h"
#include "lang/schema.h"
#include "lang/template.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <uthash.h>
#include <utlist.h>

#define MAX_CHAIN_DEPTH_DEFAULT 32
#define MAX_RUNS_DEFAULT 256
#define BACKLOG_GROUPS_HIGH 20000          /* intake answers -EAGAIN past it */
#define BACKLOG_BYTES_HIGH (256UL << 20)   /* likewise */
#define PENDING_BYTES_DEFAULT (64UL << 20) /* data of waiting events kept in memory; past it they are read back */
#define STORM_WINDOW_MS 2000
#define ROUNDS_MAX 5           /* runs in a row that cause the next event of their own trigger … */
#define ROUNDS_WINDOW_MS 60000 /* … within this time; then it is a loop */
#define ROUNDS_REASON "each of the last %d runs caused the next event of its own trigger within a minute"
#define CREATE_RETRY_MIN_MS 500
#define CREATE_RETRY_MAX_MS 8000
#define RECENT_MAX 256 /* occurrences a channel remembers, for the reasons of non-matches */
#define RECENT_BYTES_MAX (256 << 10)
#define FILTERED_SHOWN_MAX 100

/* ---- programs: what the languages compiled; immutable, counted ---- */

struct mapping {
    char *key;
    struct path *path;
};

struct trigger_program {
    struct pattern *pattern; /* NULL: everything matches */
    cJSON *inputs;           /* default_inputs; NULL: none */
    struct mapping *mappings;
    size_t n_mappings;
    struct path *concurrency_key; /* NULL: none */
    char **referring;             /* keys of default_inputs whose values hold references */
    size_t n_referring;
};

struct output {
    char *key;
    struct path *path;         /* either this … */
    struct template *template; /* … or this */
};

struct pipeline_program {
    unsigned refs;
    struct schema *inputs;    /* NULL: anything */
    struct path **conditions; /* by step; NULL: always */
    void **steps;             /* by step: the type's program */
    struct output *outputs;
    size_t n_outputs;
    struct strings references;   /* of all steps */
    bool *referring;             /* by step: it holds some; NULL: none does */
    const struct pipeline *spec; /* borrowed: the program is freed first */
};

int trigger_program_compile(const struct trigger *t, const cJSON *doc, struct issues *issues,
                            struct trigger_program **ret);
void trigger_program_free(struct trigger_program *p);
int pipeline_program_compile(const struct pipeline *spec, const cJSON *doc, const struct step_type *const *types,
                             struct issues *issues, struct pipeline_program **ret);
struct pipeline_program *pipeline_program_ref(struct pipeline_program *p);
void pipeline_program_unref(struct pipeline_program *p);

/* ---- channels ---- */

struct recent {
    struct recent *prev, *next;
    int64_t number; /* of the occurrence on its channel */
    int64_t occurred_ms;
    char *event_type;
    char *data;
    size_t bytes;
};

/* A memory of the last occurrences that some filter turned away. */
struct recent_ring {
    struct recent *list; /* oldest first */
    size_t n, bytes;
};
void recent_add(struct recent_ring *ring, int64_t number, const struct occurrence *o, const char *text);
void recent_fini(struct recent_ring *ring);

struct channel {
    char *key; /* `type/name` */
    bool glob;
    struct glob *pattern; /* of the name, where glob */
    struct matcher *matcher;
    struct subscription *subscriptions;
    size_t n;
    int64_t seen; /* occurrences so far */
    struct recent_ring recent;
    UT_hash_handle hh;
};

struct subscription {
    struct channel *channel;
    struct live_trigger *trigger;
    int64_t joined; /* channel->seen when it joined, or when its filter changed */
    int64_t matched;
    struct subscription *prev, *next; /* of the channel */
    struct subscription *mine;        /* next of the trigger */
};

/* ---- triggers ---- */

struct source_host {
    struct live_trigger *trigger;
};

/* A lane, or a run by hand, that waits for a slot of a pipeline or of the engine. */
struct waiter {
    struct lane *lane;    /* either */
    struct live_run *run; /* or */
    struct waiter **list; /* NULL: does not wait */
    struct waiter *prev, *next;
};

struct rounds;

struct lane {
    struct live_trigger *trigger;
    char *key;                            /* value of the concurrency key; "" where there is none */
    struct live_event *pending, *running; /* oldest first */
    int64_t n_pending, n_running;
    struct waiter waiter;
    bool ready;    /* in the engine's list of lanes to pump */
    unsigned busy; /* being pumped or left: not freed */
    struct lane *ready_prev, *ready_next;
    UT_hash_handle hh;
};

enum live_source_state {
    LIVE_SOURCE_NONE,
    LIVE_SOURCE_STARTING,
    LIVE_SOURCE_UP,
    LIVE_SOURCE_WAITING,
    LIVE_SOURCE_FAILED
};

struct live_trigger {
    struct engine *engine;
    char *id;
    struct trigger *spec;
    const struct source_type *type;
    struct trigger_program *program;
    struct origin *origin; /* NULL: from nowhere */
    unsigned line;
    bool removed;
    unsigned pins;    /* intakes that hold it over an asynchronous step */
    unsigned looking; /* occurrences of its source that wait for a look at the store */

    /* state, kept in the store */
    bool paused;
    char *latched; /* error that only resume clears; NULL: none */
    int64_t generation, observed_generation;
    int64_t created_ms, updated_ms, last_triggered_ms;
    int64_t trigger_count;
    int64_t failures; /* runs failed in a row */
    char *content;    /* hash of the spec, by which an edit while down is noticed */
    bool is_new;      /* no source of it was ever made */
    bool state_dirty, state_writing;

    /* observed */
    struct conditions conditions;
    int64_t *decisions; /* DECISION_N counters; NULL: all are 0 */
    struct source_host host;
    struct source *source;
    struct create_retry *create_retry; /* while it cannot be made */
    uint64_t source_epoch;             /* counts sources made, so that a late settlement does not reach the wrong one */
    bool source_paused;
    enum live_source_state source_state;
    const char *source_reason;
    char *source_message;
    int64_t source_last_ms, source_in_flight, source_lag; /* as source_progress() has them */
    struct subscription *subscriptions;
    struct recent_ring recent; /* of an active source */
    int64_t seen, recent_from; /* occurrences of an active source; those up to recent_from were for an older filter */

    /* gates */
    struct lane *lanes;           /* by key */
    int64_t n_pending, n_running; /* events of all lanes, `latest` included */
    int64_t n_recording;          /* skipped or failed ones whose record is under way */
    int64_t last_fire_ms;         /* monotonic; INT64_MIN: never */
    int64_t reserved_fire_ms;     /* the last of those whose record is under way */
    int64_t n_reserved_fires;     /* how many they are */
    struct timer cooldown;
    struct live_event *latest; /* cooldown_policy latest: the one that waits; in no lane yet, but counted as pending */
    int64_t storm_start_ms, storm_count;
    struct rounds *rounds;                      /* rounds.c; NULL: no run yet of a source with own_writes */
    struct live_pipeline *slot;                 /* of the pipeline that it names, present or not … */
    struct live_trigger *slot_prev, *slot_next; /* … and its fellows there */
    UT_hash_handle hh;
};

struct live_pipeline {
    struct engine *engine;
    char *id;
    struct pipeline *spec;
    struct pipeline_program *program;
    struct origin *origin; /* NULL: from nowhere */
    unsigned line;
    int64_t generation, observed_generation, created_ms, updated_ms;
    char *content;
    struct conditions conditions;
    int64_t n_running; /* runs under way */
    struct waiter *waiters;
    bool present;                     /* false: not declared now; it stays for the runs that hold it */
    size_t n_runs;                    /* run objects that point here */
    struct live_trigger *triggers;    /* that name it */
    int64_t ended[RUN_TIMED_OUT + 1]; /* runs that ended, by status, since the start of the daemon */
    UT_hash_handle hh;
};

/* ---- events and runs ---- */

/* A source that is to be told how an event ends. */
struct ending {
    struct ending *next;
    uint64_t epoch, token;
};

enum live_event_place { PLACE_NOWHERE, PLACE_PENDING, PLACE_RUNNING };

struct live_event {
    struct event rec;
    struct trigger *spec; /* as it was then: rec's trigger_id and pipeline_id are its; NULL: they are rec's own */
    struct live_trigger *trigger;
    struct lane *lane;
    enum live_event_place place;
    bool recorded;
    bool unloaded; /* data and inputs are only in the store */
    bool loading;
    bool ended; /* while it was loading */
    bool internal;
    struct round round;
    char *path;   /* of the file, where the source has own_writes, until its run starts */
    size_t bytes; /* of data and inputs in memory while pending */
    struct live_run *run;
    int64_t reserved_fire_ms;      /* when it took the cooldown, while that is not recorded; 0: it did not */
    struct live_event *supersedes; /* cooldown_policy latest: the one whose place it takes once it is recorded */
    struct ending *endings;
    struct live_event *prev, *next;
};

struct live_step {
    struct live_run *run;
    const struct step *spec;
    size_t index;
    enum step_status status;
    int attempt;
    struct step_call *call;    /* under way; NULL: none */
    cJSON *output;             /* until the context takes it */
    bool timed_out, cancelled; /* the call was asked to end */
    struct timer timer;        /* time-out of an attempt, or the wait before the next */
    bool retrying;             /* before that wait: the number of the next attempt is on its way to disk */
    int64_t retry_at_ms;       /* on the engine's clock */
    double retry_after_seconds;
    struct step_row row;
    bool started_once, recorded;
};

struct live_run {
    struct engine *engine;
    struct run_row row;
    struct live_pipeline *pipeline;
    struct pipeline *spec;
    struct pipeline_program *program;
    struct live_event *event; /* NULL: by hand */
    struct live_step *steps;
    size_t n_steps;
    size_t running;          /* steps with a call under way */
    cJSON *context;          /* built when first asked for */
    struct secrets *secrets; /* what its references stand for; NULL: none was looked at so far */
    bool secrets_read;       /* all of them, at least once */
    struct timer timeout;
    enum run_status ending; /* RUN_CANCELLED or RUN_TIMED_OUT: why steps are being ended; else RUN_RUNNING */
    char *ending_why;
    int note; /* of its start, while that is not on disk; -1: none */
    bool has_slot;
    bool advancing, finished, interrupted;
    unsigned writes; /* batches under way that borrow from it */
    struct waiter waiter;
    engine_run_fn *started; /* by hand: told when it is recorded */
    void *started_ctx;
    UT_hash_handle hh; /* by row.id */
};

struct engine {
    struct engine_options options;
    struct store_port *store;
    struct clock *clock;
    struct timers *timers;
    struct random *random;
    struct id_source ids;
    const struct kind **source_kinds, **step_kinds;
    struct live_trigger *triggers;
    bool triggers_sorted; /* by id */
    struct live_pipeline *pipelines;
    struct live_run *runs;
    struct channel *channels, *globs;
    struct dedup_flight *flights;
    struct intake *to_look_up; /* a utlist: those whose identity is to be asked for, in the order they came */
    bool looking_up;           /* others are being asked for; never without a read under way */
    struct feed_listener *listeners;
    struct change_listener *watcher; /* NULL: nobody */
    struct waiter *waiters;          /* for the engine's own slots */
    struct lane *ready;              /* lanes to pump; a utlist by ready_prev, ready_next */
    struct waiter *woken;            /* runs by hand whose turn it may be */
    bool pumping;
    struct saved_state *saved;   /* states read at load, until their trigger turns up */
    struct live_event *orphaned; /* open events read at load, until engine_start() */
    struct open_run *open_runs;  /* likewise, those started by hand */
    int64_t n_running, max_runs, max_chain_depth;
    size_t pending_bytes, max_pending_bytes;
    size_t batches; /* under way */
    size_t reading; /* reads under way */
    size_t sources; /* alive */
    bool started, draining, destroyed;
    void (*drained)(void *ctx);
    void *drained_ctx;
    struct timer drain_deadline, drain_check;
    struct histogram start_times, run_times;
    struct conditions everywhere; /* of the daemon's own, on every trigger */
};

static inline int64_t engine_wall(struct engine *e)
{
    return clock_realtime_ms(e->clock);
}
static inline int64_t engine_now(struct engine *e)
{
    return clock_monotonic_ms(e->clock);
}
void engine_say(struct engine *e, const char *trigger_id, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- secret.c: what references stand for, attempt by attempt ---- */

/* One attempt of a step, with the texts that the step_call shows. */
struct attempt {
    struct step_call call;
    struct live_step *step;
    char *idempotency_key;
    /* where the run refers to secrets */
    struct template_secrets secrets;
    char *dir, *trigger_dir;     /* of the manifests */
    struct secret_read *reading; /* under way, before the type's start() */
    struct timer gave_up;        /* ended while reading: told later */
    cJSON *context;              /* with references in the inputs replaced; NULL: not asked for yet */
    char *inputs_text;           /* likewise */
};

/* Read what the run refers to, where it does, then start() the call. */
void attempt_start(struct attempt *a);
/* Ask it for an early end. */
void attempt_cancel(struct attempt *a);
/* Nothing that it printed or said holds a secret of the run. */
void attempt_mask(struct attempt *a, struct step_result *result);
void attempt_fini(struct attempt *a);

/* ---- batch.c: groups of the store with the snapshots that they borrow ---- */

struct batch {
    struct engine *engine;
    struct store_group group;
    struct snapshot *snapshots;
    void (*done)(struct batch *b, int result); /* the batch is freed after it */
    void *ctx;
};
struct batch *batch_new(struct engine *e, unsigned flags, void (*done)(struct batch *b, int result), void *ctx);
/* Each takes a picture of what the row says now; texts that do not change any more are borrowed until the end. Of an
 * event that is inserted nothing may change until its batch is done: it is borrowed whole, and the caller tells the
 * feed. */
void batch_event_insert(struct batch *b, struct live_event *ev);
void batch_event_update(struct batch *b, struct live_event *ev, bool with_inputs);
void batch_run_insert(struct batch *b, struct live_run *run);
void batch_run_update(struct batch *b, struct live_run *run);
void batch_step(struct batch *b, struct live_step *step);
/* That it is to be tried again, and as which attempt. */
void batch_retry(struct batch *b, struct live_step *step);
/* One more of the trigger's fires: `trigger_count` and the time of the last are kept in the same transaction. */
void batch_fired(struct batch *b, const struct live_trigger *t, int64_t at_ms);
void batch_submit(struct batch *b);

/* ---- trigger.c ---- */

struct live_trigger *trigger_of(struct engine *e, const char *id);                               /* removed ones too */
struct live_trigger *trigger_retired(struct engine *e, const char *id, const char *pipeline_id); /* for events of a
                                                                  trigger that is gone */
char *content_hash(const char *text);
void set_origin(struct origin **slot, struct origin *origin);
void pipeline_free(struct live_pipeline *p);
/* The first step that this machine must not run, and why (borrowed); NULL: none. */
const struct step *pipeline_refused(struct engine *e, const struct pipeline *spec, const char **ret_why);
void trigger_free(struct live_trigger *t);
void triggers_of_pipeline_refresh(struct engine *e, const char *pipeline_id); /* it came or went */
struct live_pipeline *pipeline_slot(struct engine *e, const char *id);        /* made where missing, not present */
void pipeline_join(struct live_trigger *t);                                   /* the one that it names now */
void pipeline_leave(struct live_trigger *t);
enum trigger_status trigger_status(const struct live_trigger *t);
void trigger_refresh(struct live_trigger *t); /* conditions that follow from others */
void trigger_save(struct live_trigger *t);    /* its state, soon, or at engine_start(); many changes become one write */
void trigger_latch(struct live_trigger *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void trigger_reap(struct live_trigger *t); /* frees it if it is removed and nothing holds it */
void trigger_decided(struct live_trigger *t, enum decision d);
void trigger_counted(struct live_trigger *t, enum decision d, int64_t n); /* n of them */
void trigger_fired(struct live_trigger *t, bool internal, int64_t at_ms);
void trigger_source_start(struct live_trigger *t);
void trigger_source_stop(struct live_trigger *t);
/* What source types (`only`, or NULL: all) keep in the store under the id goes with the batch. */
void trigger_forget(struct engine *e, struct batch *b, const char *id, const struct source_type *only);
void trigger_source_flow(struct live_trigger *t); /* pause or resume the source as queues fill and drain */

/* ---- channel.c ---- */

void channel_join(struct live_trigger *t);
void channel_leave(struct live_trigger *t);
void channel_free_all(struct engine *e);
/* A list of triggers; few cost no memory of their own. */
#define TARGETS_FEW 2
struct targets {
    struct live_trigger **list;
    size_t n, cap;
    struct live_trigger *few[TARGETS_FEW];
};
void targets_init(struct targets *t);
void targets_add(struct targets *t, struct live_trigger *trigger);
void targets_fini(struct targets *t);
/* Adds the triggers that want it to *ret, counting and remembering what was turned away. */
void channel_match(struct engine *e, const char *type, const char *name, const struct occurrence *o, const char *text,
                   struct targets *ret);
/* Does any trigger listen there? */
bool channel_heard(struct engine *e, const char *type, const char *name);
int64_t trigger_filtered_count(const struct live_trigger *t);
/* Does its type and filter want it? Writes the reason where not. */
bool trigger_wants(const struct live_trigger *t, const cJSON *data, char *why, size_t cap);
/* Does any listener ask for what filters turn away? And tell them, if it was this trigger's that did. */
bool filtered_heard(const struct engine *e);
void filtered_tell(const struct live_trigger *t, const struct occurrence *o, const char *text);

/* ---- gate.c ---- */
/* W3C trace context for what came without; free() it. */
char *trace_new(struct engine *e);
/* That of `given` as version 00; NULL: it has none that W3C would know, and is ignored, as the standard asks. */
char *trace_take(const char *given);

enum outcome {
    OUTCOME_SKIP, /* held back for good */
    OUTCOME_FAIL, /* recorded as failed */
    OUTCOME_WAIT, /* pending */
    OUTCOME_RUN,  /* fires now */
    OUTCOME_FULL, /* refused: a queue is full */
};

struct verdict {
    enum outcome outcome;
    enum decision decision;
    char event_id[ID_SIZE];
    char reason[512];
    char *key;       /* of the lane; owned */
    char *inputs;    /* JSON text, NULL where it does not get so far; owned */
    char *referring; /* of its event; owned */
    char *error;     /* owned */
    bool latest;     /* takes the place of the trigger's latest */
    bool replace;    /* cancels the oldest run of its lane */
};
/* Decide in memory; changes nothing. `v` is filled, verdict_fini() it. */
void gate_decide(struct live_trigger *t, const struct occurrence *o, const char *text, struct verdict *v);
void verdict_fini(struct verdict *v);
/* rounds.c: runs that cause the next event of their own trigger */

/* The round of an event that its source reports now. */
struct round rounds_count(struct live_trigger *t, const struct occurrence *o);
void rounds_run_started(struct live_trigger *t, const struct live_run *run, struct live_event *ev); /* takes ev->path */
void rounds_run_ended(struct live_trigger *t, const struct live_run *run);
/* Is it, of a file of this path, to wait until it is known who wrote it? Then rounds_hold(), when it is its turn. */
bool rounds_suspect(const struct live_trigger *t, const struct round *round, const char *path);
void rounds_hold(struct live_trigger *t, const struct round *round, const char *path);
/* For how long nothing may start yet, in milliseconds; 0: the next one may. */
int64_t rounds_left(const struct live_trigger *t);
/* The time of standing still may be over. */
void rounds_judge(struct live_trigger *t);
void rounds_free(struct rounds *r);
/* Act on it: the event, with its slot or its place in the queue. Takes `text` and what v owns. */
struct live_event *gate_reserve(struct live_trigger *t, const struct occurrence *o, char *text, struct verdict *v);
/* What it did to the cooldown is on disk, or never happened. */
void fire_settle(struct live_event *ev, bool recorded);
/* Its record failed: undo. Frees it. */
void gate_release(struct live_event *ev);

/* ---- mapping.c ---- */

/* The inputs as JSON text; NULL with *ret_error set (owned) where they cannot be made. *ret_referring: as of the event,
 * NULL if none. */
char *mapping_inputs(const struct live_trigger *t, const struct occurrence *o, const char *text, const char *event_id,
                     char **ret_referring, char **ret_error);

/* ---- dispatch.c: lanes, slots, waiting ---- */

struct lane *lane_get(struct live_trigger *t, const char *key);
struct lane *lane_find(struct live_trigger *t, const char *key);
void lane_reap(struct lane *l);
void lane_push(struct lane *l, struct live_event *ev);     /* to the end of pending */
void lane_occupy(struct lane *l, struct live_event *ev);   /* to running */
void lane_remove(struct live_event *ev);                   /* from where it is */
void lane_pump(struct lane *l);                            /* start what can start */
void trigger_pump(struct live_trigger *t);                 /* all its lanes */
bool slot_free(struct engine *e, struct live_pipeline *p); /* of the engine, and of the pipeline (NULL: not known) */
void slot_take(struct live_run *run);
void slot_give(struct live_run *run);
void run_try(struct live_run *run); /* a run by hand: begin it, or wait for a slot */
void waiter_leave(struct waiter *w);
void waiter_wake(struct engine *e, struct waiter **list); /* the first */
bool trigger_held(const struct live_trigger *t);          /* paused, latched or disabled: nothing starts */
int64_t cooldown_left(const struct live_trigger *t);
/* A pending event ends without a run. Takes it out of its lane, records, frees. */
void event_end_pending(struct live_event *ev, enum event_status status, enum decision d, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The same of one that was cancelled by the id of the run that it waits for: that run is recorded too, as cancelled. */
void event_cancel_pending(struct live_event *ev, const char *why, engine_done_fn *done, void *ctx);
void event_free(struct live_event *ev);
/* Sources that want to know how it ends: one more; all are told. */
void event_watch(struct live_event *ev, uint64_t epoch, uint64_t token);
void event_tell_end(struct live_event *ev, enum event_status status);
void source_tell_end(struct live_trigger *t, uint64_t epoch, uint64_t token, enum event_status status);
/* That waits or runs; NULL: there is none. */
struct live_event *trigger_find_event(struct live_trigger *t, const char *id);
struct live_event *find_waiting_run(struct engine *e,
                                    const char *run_id); /* whose run is to have this id; NULL: none */
void event_confirmed_waiting(struct live_event *ev);     /* its record as pending is on disk */
void event_unload(struct live_event *ev);           /* leave its data in the store, if there is too much in memory */
void cooldown_over(struct timer *timer, void *ctx); /* ctx: the live_trigger */
void cooldown_arm(struct live_trigger *t);          /* for its `latest`, if it has one that is recorded */
bool latest_unlink(struct live_event *ev);          /* false: it is none of those that wait there */
void slots_pass_on(struct engine *e, struct live_pipeline *p); /* whoever could use a free slot of them is woken */
void lane_replace(struct live_event *ev);                      /* concurrency_policy replace, once ev is recorded */

/* ---- run.c ---- */

/* A run for an event that takes its slot now, or by hand (ev NULL). The pipeline must be present. */
struct live_run *run_create(struct engine *e, struct live_pipeline *p, struct live_event *ev, const char *run_id);
/* Take the start of a run that waited into the batch, submit it, and begin: at once, where the start can be noted, else
 * once it is on disk. */
void run_start_recorded(struct live_run *run, struct batch *b);
void run_begin(struct live_run *run); /* recorded, or as good as: start its first steps */
void run_advance(struct live_run *run);
void run_end_early(struct live_run *run, enum run_status why, const char *text); /* cancel, time-out */
void run_interrupt(struct live_run *run); /* shutdown: end processes, leave its record for the next start */
void run_free(struct live_run *run);
const cJSON *run_context(struct live_run *run);
struct live_run *run_restore(struct engine *e, struct live_pipeline *p, struct pipeline *spec,
                             struct pipeline_program *program, struct run_row *row, struct step_row *rows, size_t n,
                             struct live_event *ev);

/* ---- outcome.c ---- */

/* Every step has ended: record, chain, count, free. */
void run_finish(struct live_run *run, enum run_status status, const char *error);
/* Make `o` follow from the run: chain (also in *ret_chain, to be freed), root, depth, trace. */
void chain_from_run(const struct live_run *run, struct occurrence *o, char **ret_chain);

/* ---- intake.c ---- */

/* As engine_publish(), into a batch of the caller's (the end of a run), which is submitted by the caller and must keep
 * (STORE_KEEP): never refused. NULL where no trigger wants it. Exactly one intake_joined() when the batch is done. */
struct intake *intake_join(struct engine *e, const char *type, const char *channel, const struct occurrence *given,
                           struct batch *b);
void intake_joined(struct intake *in, int result);

/* ---- recover.c ---- */

void recover_start(struct engine *e);
/* What the store knew of a resource (scope `trigger` or `pipeline`): taken out, NULL if nothing. cJSON_Delete() it. */
cJSON *saved_take(struct engine *e, const char *scope, const char *id);
void saved_free(struct engine *e);
void feed_tell(struct engine *e, const struct event *ev);
void change_tell(struct engine *e, enum watched what, const char *id);
void drain_progress(struct engine *e);

#endif
