/* The operations behind every view: what REST, FUSE and triggerctl do is done here, once.
 *
 * An operation takes plain arguments and gives a struct api_answer: a status (HTTP's numbers are the vocabulary, which
 * FUSE maps to errno) and JSON text, exactly once through `answer`, now or later but always on the loop thread.
 * Failures are problem objects (RFC 9457): {"type", "title", "status", "detail", "errors": [{"path", "message"}]}.
 */
#ifndef TRIGGERD_API_API_H
#define TRIGGERD_API_API_H

#include "api/json_text.h"
#include "client/mcp_servers.h"
#include "engine/engine.h"
#include "reconcile/reconcile.h"

struct changes;
struct feed;
struct shown;

struct writing;

struct api {
    struct engine *engine;
    struct mcp_servers *mcp;
    struct store_port *store;
    struct reconcile *reconcile;
    struct feed *feed;
    struct changes *changes;
    struct shown *shown; /* the owner destroys it, before the engine */
    struct loop *loop;
    struct clock *clock;
    const char *state_dir;    /* as it is named in the settings */
    const char *cgroup;       /* where steps have control groups of their own, or why they have none */
    const char *manifest_dir; /* of what is created; NULL: the first that is writable */
    bool firing;              /* false: FLOWMASON_TRIGGERS_ENABLED=false */
    bool started;             /* the first reconcile was applied: resources are known */
    bool ready;               /* and it is not stopping */
    bool mounting;            /* a mount was asked for and has not been tried yet */
    /* What was written to manifests by another view and is on its way to be in force: `fn` once it is, soon, or now;
     * NULL: there is no such view. */
    void (*settle)(void *ctx, void (*fn)(void *fn_ctx), void *fn_ctx);
    void *settle_ctx;
    struct writing *writings; /* asked for and not answered yet (manifests.c) */
};

struct api_answer {
    int status;
    char *body; /* taken by the receiver (free() it); never NULL */
    size_t len;
    bool problem;         /* application/problem+json */
    const char *type;     /* other content type; NULL: JSON */
    const char *location; /* borrowed; NULL: none */
    const char *etag;     /* borrowed; NULL: none */
    int retry_after;      /* seconds; 0: none */
};
typedef void api_answer_fn(void *ctx, struct api_answer *answer);

/* Where an answer goes. */
struct api_call {
    api_answer_fn *answer;
    void *ctx;
};

/* ---- answers ---- */

void api_answer_text(struct api_call call, int status, struct buf *body); /* takes the buffer's bytes */
void api_problem(struct api_call call, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The same for one field or parameter. */
void api_problem_at(struct api_call call, int status, const char *path, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* 422 (or `status`) with an entry an issue. */
void api_problem_issues(struct api_call call, int status, const char *detail, const struct issues *issues);
void api_problem_manifest(struct api_call call, int status, const char *detail, const struct manifest *m);
/* The same of several files: each error also says `file`, `line` and `column`. */
void api_problem_files(struct api_call call, int status, const char *detail, const struct manifest *const *files,
                       size_t n);
/* The text of a problem; malloc'ed. */
char *api_problem_text(int status, const char *detail);

/* ---- renderers: append to `b` ---- */

/* The members `commit`, `commit_subject`, `commit_authored_at`, `dirty`: null where there is no work tree. */
void render_commit(struct buf *b, const struct origin *origin);
void render_trigger(struct buf *b, const char *key, struct live_trigger *t);
/* The same; *shown (NULL at first) remembers a part of it for the next time. */
void render_trigger_again(struct buf *b, struct shown **shown, struct live_trigger *t);
void shown_destroy(struct shown *shown); /* NULL is allowed */
void render_pipeline(struct buf *b, const char *key, struct live_pipeline *p);
/* Nothing where it is not declared. */
void render_mcp_server(struct buf *b, const char *key, struct api *a, const char *name);
void render_event(struct buf *b, const char *key, const struct event *e);
/* Behind the items of a list: the end of its array, how many there are in all, the page, and the end of the answer. */
void render_page_end(struct buf *b, int64_t total, int64_t page, int64_t page_size);
/* `steps`: JSON text of the array, NULL leaves it out. */
void render_run(struct buf *b, const char *key, const struct run_row *r, const char *steps);

/* The steps of a run that was read with its pipeline, in the pipeline's order, as a JSON array; free() it. */
char *api_steps_text(struct api *a, struct store_read *r);

/* ---- triggers ---- */

struct api_trigger_filter {
    const char *pipeline_id, *trigger_type, *status; /* NULL: any */
    bool enabled_only;
    int64_t page, page_size;
};
void api_list_triggers(struct api *a, const struct api_trigger_filter *f, struct api_call call);
void api_get_trigger(struct api *a, const char *id, struct api_call call);
/* describe: the trigger, its last events, what its filter turned away, and why it does not fire. */
void api_describe_trigger(struct api *a, const char *id, struct api_call call);
void api_pause(struct api *a, const char *id, struct api_call call);
void api_resume(struct api *a, const char *id, bool discard, struct api_call call);
void api_stats(struct api *a, struct api_call call);
/* Prometheus text, version 0.0.4. */
void api_metrics(struct api *a, struct api_call call);

/* ---- events ---- */

struct api_list {
    const char *trigger_id, *pipeline_id, *event_type, *status, *decision; /* NULL: any */
    int64_t since_ms, until_ms;
    int64_t page, page_size;
    bool of_trigger; /* it is the trigger that is asked for: 404 where there is neither it nor an event of it */
};
void api_list_events(struct api *a, const struct api_list *f, struct api_call call);
/* Status and decision of a filter, -1: any. False: a word is none, and it was answered with the status `wrong`. */
bool api_event_words(const struct api_list *f, int wrong, struct api_call call, int *ret_status, int *ret_decision);
void api_get_event(struct api *a, const char *id, struct api_call call);
/* An emit at an endpoint. `data_text` is its JSON, digit for digit. */
struct api_emit {
    const char *endpoint;
    const cJSON *data;
    const char *data_text;
    const char *idempotency_key, *traceparent, *parent_run; /* NULL: none */
};
void api_emit(struct api *a, const struct api_emit *e, struct api_call call);
/* An event of an MCP server that a host holds the connection to: `data` as its params. */
struct api_emit_mcp {
    const char *server_name, *event_type;
    const cJSON *data;
    const char *idempotency_key, *traceparent, *parent_run; /* NULL: none */
};
void api_emit_mcp(struct api *a, const struct api_emit_mcp *e, struct api_call call);
/* A request that came to /hooks/PATH, for the triggers there that `admits` lets have it. */
struct api_hook {
    const char *path;
    const cJSON *data;
    const char *delivery_id, *traceparent; /* NULL: none */
    uint64_t body_hash;                    /* of its raw body: the headers of another attempt are others */
    bool (*admits)(void *ctx, const struct trigger *t);
    void *ctx;
};
void api_hook(struct api *a, const struct api_hook *h, struct api_call call);
void api_test(struct api *a, const char *id, const cJSON *data, const char *data_text, const char *traceparent,
              struct api_call call);
void api_dry_run(struct api *a, const char *id, const cJSON *data, struct api_call call);
void api_replay(struct api *a, const char *event_id, struct api_call call);
/* All that a filter finds, the oldest first: {matched, replayed, gone, message, events}. `gone`: their triggers are;
 * `message`: why it stopped before the end (a queue is full), null; `events`: the first API_REPLAY_SHOWN of the new ones,
 * in brief. Dry: nothing is replayed, and `events` are the old ones. */
#define API_REPLAY_SHOWN 1000
void api_replay_many(struct api *a, const struct api_list *f, bool dry_run, struct api_call call);

/* ---- pipelines and runs ---- */

void api_list_pipelines(struct api *a, int64_t page, int64_t page_size, struct api_call call);
void api_get_pipeline(struct api *a, const char *id, struct api_call call);
void api_run_pipeline(struct api *a, const char *id, const cJSON *inputs, const char *traceparent,
                      struct api_call call);
/* The end of a run reported from outside: {run_id, status, outputs, error}. */
void api_completed(struct api *a, const char *pipeline_id, const cJSON *report, const char *traceparent,
                   struct api_call call);
void api_list_runs(struct api *a, const struct api_list *f, struct api_call call);
void api_get_run(struct api *a, const char *id, struct api_call call);
void api_cancel_run(struct api *a, const char *id, struct api_call call);
/* What the step printed so far, from byte `offset` on. */
void api_step_output(struct api *a, const char *run_id, const char *step_id, bool standard_error, int64_t offset,
                     struct api_call call);

/* ---- MCP servers ---- */

void api_list_mcp_servers(struct api *a, struct api_call call);
void api_get_mcp_server(struct api *a, const char *name, struct api_call call);
void api_mcp_tools(struct api *a, const char *name, struct api_call call);
/* Gives the server's answer to tools/call: {content, structuredContent, isError}. `arguments` NULL: {}. */
void api_mcp_call(struct api *a, const char *name, const char *tool, const cJSON *arguments, struct api_call call);

/* ---- manifests ---- */

void api_list_manifests(struct api *a, struct api_call call);
/* Create, edit, delete by writing manifests. `body` is the trigger or pipeline object; `if_match` the value of that
 * header (RFC 9110, 13.1.1), 412 where the manifest is not as it says; NULL: any. */
void api_create_resource(struct api *a, enum resource_kind kind, const cJSON *body, struct api_call call);
void api_update_resource(struct api *a, enum resource_kind kind, const char *id, const cJSON *body,
                         const char *if_match, struct api_call call);
void api_delete_resource(struct api *a, enum resource_kind kind, const char *id, const char *if_match,
                         struct api_call call);
/* Several manifests in one go, all of them or none: {files: [{name, path, real, text}], directories: [path], dry_run}. `name`
 * is what errors call the file, `path` where it is, absolute, null if nowhere, `real` the same without links;
 * `directories`: all manifests below these
 * are among the files. Gives {resources: [{kind, id, result, file, line, from}], total}; dry, each also with `before`,
 * `after` (its text; null: nothing) and `effects`, what the change does at runtime. `body` stays until the answer. */
/* One resource's own text: {kind, id, file, line, text}. */
void api_get_manifest(struct api *a, const char *kind, const char *id, struct api_call call);
void api_put_manifests(struct api *a, const cJSON *body, struct api_call call);

#endif
