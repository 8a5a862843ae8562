/* Pools of workers: for each worker step of a pipeline text one pool, which the programs compiled from that text share.
 *
 *   request:  waiting (in order) ─► in flight, with one process of its own ─► told (step_done)
 *                 ▲─────────────────┘ its process had served before and died without having read any of it
 *   process:  reading secrets ─► starting ─► busy ⇄ idle ─► ending ─► gone
 *
 * A process is started when a request waits, none is idle and there are fewer than `size`; those that are ending count.
 * The one used last is used first, so that the others reach their idle_seconds. A process that dies takes its own
 * request with it and no other. After processes that died without ever having answered the next start waits, longer
 * each time. There are timers only while something waits for them.
 *
 * A pool ends its processes when the last program lets go of it: that of an edited or deleted pipeline after its runs.
 *
 * Thread: the loop's.
 */
#ifndef TRIGGERD_STEP_WORKER_POOL_H
#define TRIGGERD_STEP_WORKER_POOL_H

#include "engine/step_type.h"
#include "step/exec_config.h"

struct worker_pools;
struct worker_pool;

struct worker_config {
    struct exec_config exec; /* first: exec_compile() takes it for its own */
    int64_t size;
    int64_t max_requests; /* 0: no bound */
    double idle_seconds;  /* 0: for ever */
    double start_timeout_seconds;
};

struct worker_program {
    struct exec_program *exec;
    struct worker_pool **pool; /* *pool: set by the first call, NULL before */
};

struct worker_pools_options {
    struct loop *loop;
    /* What concerns no run; limited in rate. */
    void (*log)(void *ctx, const char *pipeline_id, const char *step_id, const char *message);
    void *ctx;
};

struct worker_pools *worker_pools_create(const struct worker_pools_options *options);
/* When no run is left: ends all processes (SIGTERM, SIGKILL after 5 s), then frees, and `done`, never from inside. Pools
 * may be let go of later. */
void worker_pools_close(struct worker_pools *pools, void (*done)(void *ctx), void *ctx);

/* The pool for a call, with a reference for its program. */
struct worker_pool *worker_pool_get(struct worker_pools *pools, const struct step_call *call);
void worker_pool_unref(struct worker_pool *pool); /* NULL is allowed */

/* As struct step_type has them. */
void worker_pool_start(struct worker_pool *pool, struct step_call *call);
void worker_pool_cancel(struct step_call *call);
size_t worker_pool_peek(struct step_call *call, bool standard_error, size_t offset, const char **ret_data);

#endif
