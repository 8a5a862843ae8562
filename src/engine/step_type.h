/* What a kind of step is to the engine: a plug-in of one shape.
 *
 * A step is compiled once with its pipeline (compile → program), and started once an attempt: start() begins the work
 * of a `struct step_call` and returns; the type then calls step_done() exactly once, never from inside start() or
 * cancel(). cancel() asks for an early end: the type ends what runs (politely, then by force) and calls step_done()
 * with STEP_CANCELLED (or with what came first). All calls come on the loop thread.
 *
 * Time-outs and retries are the engine's: on a time-out it calls cancel() and takes the end as `timed_out`.
 */
#ifndef TRIGGERD_ENGINE_STEP_TYPE_H
#define TRIGGERD_ENGINE_STEP_TYPE_H

#include "base/clock.h"
#include "base/random.h"
#include "base/timer.h"
#include "lang/template.h"
#include "model/event.h"
#include "model/pipeline.h"

struct loop;
struct secret_dirs;
struct engine;
struct spawner;
struct ledger;
struct sweeper;
struct cgroups;
struct sandbox;
struct http_client;
struct worker_pools;
struct queue_publishers;
struct mcp_servers;
struct step_call;

/* What every step may use. `loop` and `spawner` are NULL in the simulator. */
struct step_env {
    struct loop *loop;
    struct timers *timers;
    struct clock *clock;
    struct random *random;
    struct spawner *spawner;
    struct ledger *ledger;                  /* where children are noted, NULL: nowhere */
    struct engine *engine;                  /* for the `emit` step */
    struct sweeper *sweeper;                /* ends what steps left behind, NULL: nobody */
    struct cgroups *cgroups;                /* one for each tree of processes, NULL: there are none */
    struct sandbox *sandbox;                /* for steps that ask for one, NULL: they are refused */
    struct http_client *http;               /* for the `http` step; NULL in the simulator */
    struct worker_pools *workers;           /* of the `worker` step */
    struct queue_publishers *publishers;    /* of the `publish` step; NULL in the simulator */
    struct mcp_servers *mcp;                /* of the `mcp` step */
    const char *node_id;                    /* for TRIGGERD_NODE_ID, by which orphans are found */
    const char *socket_path;                /* for TRIGGERD_SOCKET; NULL: none */
    const struct secret_dirs *secrets_dirs; /* below which `${file:}` reads; as secret_read.h has them. NULL: none */
};

struct step_type {
    struct kind kind; /* first: the model's part */

    /* Compile what the config holds (templates). Issues go under `path`. NULL: the type needs no program. */
    int (*compile)(const struct step *step, const cJSON *node, const char *path, void **ret_program,
                   struct issues *issues);
    void (*free_program)(void *program);
    /* Called for each path that the step's templates use, so that a validator can check them. NULL: none. */
    void (*each_path)(const void *program, void (*fn)(void *ctx, const char *path), void *ctx);
    /* Called for each reference to a secret that the step itself holds. NULL: none. */
    void (*each_reference)(const void *program, void (*fn)(void *ctx, const char *text), void *ctx);
    /* Why this machine must not run the step: a text, borrowed; NULL: it can, or it is not known yet (the first call
     * begins to find out). A run of a pipeline with such a step fails before its first. NULL: it can. */
    const char *(*refused)(const struct step *step, const struct step_env *env);
    void (*start)(struct step_call *call);
    void (*cancel)(struct step_call *call);
    /* What it printed so far: bytes from `offset`; *ret_data is borrowed until the next call. NULL: nothing to look at.
     */
    size_t (*peek)(struct step_call *call, bool standard_error, size_t offset, const char **ret_data);
};

/* One attempt of one step of a run. Made and freed by the engine; lives from start() to step_done(). */
struct step_call {
    const struct step_type *type;
    const struct step *step;
    const struct step_env *env;
    const void *program;
    const char *inputs_text; /* the run's inputs as JSON text, as they are stored: references are not replaced */
    const char *run_id;
    const char *pipeline_id;
    const char *pipeline_text; /* the pipeline as it was at the start of the run: JSON */
    const char *event_id;      /* "" where the run was started by hand */
    const char *trigger_id;    /* "" likewise */
    const char *traceparent;
    const char *idempotency_key; /* run and step: the same at every attempt */
    int attempt;                 /* of the step, from 1; attempts of interrupted runs count */
    /* What the references of the run stand for: of the step's own texts with it as it is, of inputs through
     * step_context_expanded(). What the step prints is masked with it. NULL: nothing of the run refers to secrets. */
    const struct template_secrets *secrets;
    void *state; /* the type's own */
};

struct step_result {
    enum step_status status; /* COMPLETED, FAILED, CANCELLED */
    bool permanent;          /* a failure that no retry can mend */
    int exit_code;           /* -1: none */
    int term_signal;         /* 0: none */
    cJSON *output;           /* taken; NULL: null */
    char *error;             /* taken; NULL where completed */
    char *out, *err;         /* taken: what was printed, bounded */
    size_t out_len, err_len;
    double retry_after_seconds; /* > 0: wait at least so long before the next attempt */
};
#define STEP_RESULT_INIT ((struct step_result){.exit_code = -1})

/* What templates see: {inputs, steps, run}; borrowed, built when first asked for. Implemented by the engine. Here
 * references are text: for what is stored or looked at. */
const cJSON *step_context(struct step_call *call);
/* The same with the references in the manifest's own inputs replaced, for what a program or a server is given, and the
 * inputs as JSON text likewise (either may be NULL); borrowed until the end of the call. -ENOENT: a reference could not
 * be read. */
int step_context_expanded(struct step_call *call, const cJSON **ret_context, const char **ret_inputs_text,
                          struct error *err);

/* The end of an attempt; implemented by the engine (or by a test that stands in for it). Frees `call`. */
void step_done(struct step_call *call, struct step_result *result);

/* It printed something: peek() has more. Implemented by the engine. */
void step_printed(struct step_call *call);

/* The variables that every child of a step gets: TRIGGERD_RUN_ID, TRIGGERD_ATTEMPT, …; in engine/step_env.c. */
void step_env_each(const struct step_call *call, void (*fn)(void *ctx, const char *name, const char *value), void *ctx);
/* Is it one of them that a manifest must not set: by these a child is found again. */
bool step_env_reserved(const char *name);

#endif
