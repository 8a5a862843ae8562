/* The engine: what is desired and what happens become events, decisions and runs.
 *
 *   source ─► intake ─► match ─► gate ─► record ─► dispatch ─► run ─► step
 *                              (reserve)  (commit)                      │
 *             acknowledge, chain, count ◄──────── outcome ◄─────────────┘
 *
 * Everything here runs on one thread (the loop's) and blocks never. Time, randomness, the store and processes come
 * through ports, so that tests/sim can run all of it on a simulated clock.
 *
 * Gates run in memory before the commit, and the commit can fail. So: reserve (slot, cooldown) → record (joins the
 * batch) → confirm, or release where the batch failed. An occurrence that reaches several triggers is one transaction.
 */
#ifndef TRIGGERD_ENGINE_ENGINE_H
#define TRIGGERD_ENGINE_ENGINE_H

#include "engine/source_type.h"
#include "engine/step_type.h"
#include "model/origin.h"

#include <sys/types.h>

struct engine;
struct live_trigger;
struct live_pipeline;
struct live_run;

struct engine_options {
    struct source_env source_env;
    struct step_env step_env;                      /* `engine` is filled in */
    const struct source_type *const *source_types; /* NULL-terminated */
    const struct step_type *const *step_types;
    bool firing;              /* false: FLOWMASON_TRIGGERS_ENABLED=false */
    int64_t max_chain_depth;  /* 0: 32 */
    int64_t max_runs;         /* runs under way at once, over all triggers; 0: 256 */
    size_t max_pending_bytes; /* data of waiting events kept in memory; the rest is read back; 0: 64 MiB */
    void (*log)(void *ctx, const char *trigger_id, const char *message); /* one line a change of state; NULL: none */
    void *ctx;
};

int engine_create(const struct engine_options *options, struct engine **ret, struct error *err);
/* Read what the store knows: states of triggers, open events and runs. Once, before the first reconcile. */
int engine_load(struct engine *e, struct error *err);
/* The first reconcile is done: start sources, take up interrupted events, fire. */
void engine_start(struct engine *e);
/* Stop taking events; `done` when no run is left and every source has stopped. Runs left at the deadline are
 * interrupted (their processes ended, left `executing` for the next start). Never from inside the call. */
void engine_drain(struct engine *e, int64_t grace_ms, void (*done)(void *ctx), void *ctx);
/* Everything has ended (drained, or never started); frees. NULL is allowed. */
void engine_destroy(struct engine *e);

/* The plug-in lists as kinds, for the model's parsers. NULL-terminated, owned by the engine. */
const struct kind *const *engine_source_kinds(const struct engine *e);
const struct kind *const *engine_step_kinds(const struct engine *e);

/* ---- desired state: what reconcile calls ---- */

/* Compile what the languages need (filter, mapping, keys, templates). Used by validation too: the same code. What
 * trigger_read() and pipeline_read() made of a document with errors is looked at as far as it goes. */
int trigger_check(const struct trigger *t, const cJSON *doc, struct issues *issues);
int pipeline_check(const struct pipeline *p, const cJSON *doc, const struct step_type *const *types,
                   struct issues *issues);

/* Create or edit; takes references. Both were checked. `origin` NULL: from nowhere. */
void engine_put_trigger(struct engine *e, struct trigger *spec, struct origin *origin, unsigned line);
void engine_put_pipeline(struct engine *e, struct pipeline *spec, struct origin *origin, unsigned line);
/* Gone from the manifests: its runs end, its pending events are cancelled. */
void engine_remove_trigger(struct engine *e, const char *id);
void engine_remove_pipeline(struct engine *e, const char *id);
/* What step types say of this machine (step_type.refused) has changed: look at all pipelines again. */
void engine_fit_pipelines(struct engine *e);
/* A trigger's manifest was rejected: what runs goes on (`Accepted=False` with `message`; NULL: accepted again). */
void engine_trigger_rejected(struct engine *e, const char *id, const char *message);
void engine_pipeline_rejected(struct engine *e, const char *id, const char *message);
/* A condition of the daemon's own on one trigger (`ManifestsReachable`), or with id NULL on all, those that come later
 * too. */
void engine_trigger_condition(struct engine *e, const char *id, const char *type, enum condition_status status,
                              const char *reason, const char *message);

/* ---- intake ---- */

/* What became of an occurrence, event by event: in memory as recorded. */
struct intake_result {
    int code; /* 0 recorded; -EAGAIN a queue is full (nothing was recorded); -ENOSPC, -EIO, -EROFS store; -ESHUTDOWN
                 not taking events; -EEXIST the same key with another body (422) */
    const struct event *const *events; /* those that have a row (fired, queued or held back); n may be 0 */
    size_t n;
    int64_t triggered;            /* how many fired or wait to */
    bool duplicate;               /* `duplicate_events` has the ids of the first */
    const char *duplicate_events; /* JSON array text of event ids; NULL unless duplicate */
    const char *message;          /* why, where code ≠ 0 */
};
typedef void intake_done_fn(void *ctx, const struct intake_result *result);

/* Something happened on a channel of a passive type: `custom` and the endpoint, `pipeline_completed` and the pipeline.
 * Borrows `given` for the call; `done` comes exactly once, never from inside. */
void engine_publish(struct engine *e, const char *type, const char *channel, const struct occurrence *given,
                    intake_done_fn *done, void *ctx);
/* Make `o` follow from a run under way, in its chain; *ret_chain is to be freed after the call that uses `o`. -ENOENT:
 * the run is not under way; `o` is left as it is. */
int engine_chain(struct engine *e, const char *run_id, struct occurrence *o, char **ret_chain);
/* For one trigger only: `test`, replay. -ENOENT at once where there is none (done is not called then). */
int engine_occur(struct engine *e, const char *trigger_id, const struct occurrence *given, intake_done_fn *done,
                 void *ctx);
/* What would happen: the decision, its reason, and the inputs (owned by the caller, NULL where there are none). */
int engine_dry_run(struct engine *e, const char *trigger_id, const cJSON *data, enum decision *ret, char **ret_reason,
                   char **ret_inputs);

/* ---- control ---- */

/* Paused is state: kept over restarts. Answers when it is recorded. -ENOENT at once. */
typedef void engine_done_fn(void *ctx, int result);
int engine_pause(struct engine *e, const char *trigger_id, engine_done_fn *done, void *ctx);
/* Also clears a latched error and retries a source at once. `discard`: held events go as skipped instead of running. */
int engine_resume(struct engine *e, const char *trigger_id, bool discard, engine_done_fn *done, void *ctx);
/* Start a run by hand. `inputs` is taken. *ret_run_id as soon as it is recorded, through done. */
typedef void engine_run_fn(void *ctx, int result, const char *run_id, const char *message);
int engine_run_pipeline(struct engine *e, const char *pipeline_id, cJSON *inputs, const char *traceparent,
                        engine_run_fn *done, void *ctx);
/* 0: a run under way, which is being ended. 1: an event that waits for its run; `done` hears when both are recorded as
 * cancelled. -ENOENT: neither is there. */
int engine_cancel_run(struct engine *e, const char *run_id, const char *why, engine_done_fn *done, void *ctx);

/* ---- looking: everything here is borrowed until the loop goes on ---- */

enum trigger_status { TRIGGER_ACTIVE, TRIGGER_PAUSED, TRIGGER_ERROR, TRIGGER_DISABLED };
const char *trigger_status_name(enum trigger_status s);

struct filtered_entry {
    int64_t occurred_ms;
    const char *event_type;
    const char *data; /* JSON text */
    const char *reason;
};

struct trigger_view {
    const struct trigger *spec;
    enum trigger_status status;
    const char *error_message; /* NULL: none */
    const struct conditions *conditions;
    int64_t generation, observed_generation;
    int64_t created_ms, updated_ms, last_triggered_ms;
    int64_t trigger_count;
    const int64_t *decisions; /* DECISION_N counters since the start of the daemon; of `filtered` see below */
    int64_t filtered;
    int64_t pending, executing;
    int64_t source_lag;          /* messages that wait outside; -1: not known */
    const struct origin *origin; /* NULL: from nowhere */
    unsigned line;
};
struct live_trigger *engine_find_trigger(struct engine *e, const char *id); /* NULL: none (removed ones are none) */
void trigger_look(struct live_trigger *t, struct trigger_view *ret);
/* In order of id. */
void engine_each_trigger(struct engine *e, void (*fn)(void *ctx, struct live_trigger *t), void *ctx);
/* Those that listen on a channel by its name. */
void engine_each_listener(struct engine *e, const char *type, const char *channel,
                          void (*fn)(void *ctx, struct live_trigger *t), void *ctx);
/* The last (≤ 100) events that only its filter turned away, newest first; entries live during the call. */
void trigger_each_filtered(struct live_trigger *t, void (*fn)(void *ctx, const struct filtered_entry *f), void *ctx);

struct pipeline_view {
    const struct pipeline *spec;
    const struct conditions *conditions;
    int64_t generation, observed_generation;
    int64_t created_ms, updated_ms;
    int64_t running;
    const int64_t *ended;        /* by enum run_status: runs since the start of the daemon */
    const struct origin *origin; /* NULL: from nowhere */
    unsigned line;
};
struct live_pipeline *engine_find_pipeline(struct engine *e, const char *id);
void pipeline_look(struct live_pipeline *p, struct pipeline_view *ret);
void engine_each_pipeline(struct engine *e, void (*fn)(void *ctx, struct live_pipeline *p), void *ctx);

/* When it began, of a run under way; 0: it waits, or there is no such run in memory. The store learns of it a moment later.
 */
int64_t engine_run_began_ms(struct engine *e, const char *run_id);
/* Steps of a run under way, as JSON: [{id, status, attempt, …}]; NULL: no such run in memory. Owned by the caller. */
cJSON *engine_run_steps(struct engine *e, const char *run_id);
/* The event that waits for its run, which is to have this id; NULL: there is none. */
const struct event *engine_waiting_run(struct engine *e, const char *run_id);
/* What a step of a run under way printed so far; -ENOENT: not running now. Borrowed. */
ssize_t engine_step_peek(struct engine *e, const char *run_id, const char *step_id, bool standard_error, size_t offset,
                         const char **ret_data);

/* ---- the feed: what happened, for every view ---- */

/* Called on each change of an event (recorded, started, ended), after it is on disk. Borrows. */
struct feed_listener {
    void (*fn)(struct feed_listener *l, const struct event *e);
    /* What a trigger's filter turned away, which has no event; called from inside of the intake, so it must not call the
     * engine. NULL: not asked for, and no reason is worked out. */
    void (*filtered)(struct feed_listener *l, const char *trigger_id, const struct filtered_entry *f);
    struct feed_listener *prev, *next;
};
void engine_listen(struct engine *e, struct feed_listener *l);
void engine_unlisten(struct engine *e, struct feed_listener *l);

/* ---- changes: something that views show is not as it was ---- */

enum watched { WATCHED_TRIGGER, WATCHED_PIPELINE, WATCHED_RUN };
/* Called from inside of what changes it, so it must not call the engine; events are told by the feed above. `id` is
 * borrowed. A run has changed also when one of its steps printed something. */
struct change_listener {
    void (*fn)(struct change_listener *l, enum watched what, const char *id);
};
/* One at most; NULL: nobody. */
void engine_watch(struct engine *e, struct change_listener *l);

/* How long events waited for their run to start, and runs took, since the start; borrowed. */
const struct histogram *engine_start_times(const struct engine *e);
const struct histogram *engine_run_times(const struct engine *e);

/* Sources that are still setting up (watches, snapshots): 0 when /readyz may be true. */
size_t engine_starting_sources(const struct engine *e);

#endif
