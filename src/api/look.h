/* Looking at single things, for a view that is no list of JSON documents (the FUSE tree): which resources there are, when
 * they last changed, which events and runs are the newest.
 *
 * What a function gives is borrowed until the loop goes on. Reads of the store answer exactly once, never from inside;
 * their codes: 0, -ENOENT, -ETIMEDOUT and -EIO from the store. Thread: the loop's.
 */
#ifndef TRIGGERD_API_LOOK_H
#define TRIGGERD_API_LOOK_H

#include "api/api.h"

struct api_trigger_look {
    const char *id, *pipeline_id, *trigger_type, *status;
    const char *endpoint; /* of a custom trigger; NULL: it has none */
    const char *file;     /* of its manifest; NULL: not known */
    const struct conditions *conditions;
    int64_t created_ms;
    int64_t changed_ms; /* what is shown of it: manifest, state, counters */
    int64_t updated_ms; /* its manifest */
    bool read_only;
};
bool api_look_trigger(struct api *a, const char *id, struct api_trigger_look *ret);
/* In order of id. */
void api_each_trigger(struct api *a, void (*fn)(void *ctx, const struct api_trigger_look *t), void *ctx);
/* Is it the endpoint of a custom trigger, one that listens or not? */
bool api_has_endpoint(struct api *a, const char *name);
/* In order of id, and when it was created: what a listing needs, for less. */
void api_each_trigger_id(struct api *a, void (*fn)(void *ctx, const char *id, int64_t created_ms), void *ctx);
/* As render_trigger() and render_pipeline(), by id; nothing where there is none. */
void api_render_trigger(struct api *a, const char *id, struct buf *b);
void api_render_pipeline(struct api *a, const char *id, struct buf *b);
/* A number that is another one whenever the text of the trigger is: to know without rendering it that it is the same. 0:
 * there is no such trigger. */
uint64_t api_trigger_mark(struct api *a, const char *id);
bool api_is_trigger_type(struct api *a, const char *name);
void api_each_trigger_type(struct api *a, void (*fn)(void *ctx, const char *name), void *ctx); /* all there can be */
const char *const *api_trigger_statuses(size_t *ret_n);

struct api_pipeline_look {
    const char *id, *file;
    const struct conditions *conditions;
    int64_t created_ms, changed_ms, updated_ms;
    bool read_only;
};
bool api_look_pipeline(struct api *a, const char *id, struct api_pipeline_look *ret);
void api_each_pipeline(struct api *a, void (*fn)(void *ctx, const struct api_pipeline_look *p), void *ctx);

/* The newest ids, newest first; `ids` live during the call. trigger_id NULL: of all. */
typedef void api_ids_fn(void *ctx, int code, const char *const *ids, size_t n);
void api_event_ids(struct api *a, const char *trigger_id, size_t max, api_ids_fn *fn, void *ctx);
void api_run_ids(struct api *a, const char *pipeline_id, size_t max, api_ids_fn *fn, void *ctx);

/* One event, as REST shows it. `e` NULL unless the code is 0. */
typedef void api_event_fn(void *ctx, int code, const struct event *e);
void api_read_event(struct api *a, const char *id, api_event_fn *fn, void *ctx);

/* One run with its steps (as JSON text, in the pipeline's order, and each by itself). */
typedef void api_run_fn(void *ctx, int code, const struct run_row *r, const char *steps_json);
void api_read_run(struct api *a, const char *id, api_run_fn *fn, void *ctx);

/* `ok`, or the reasons why not, one a line. */
void api_health(struct api *a, struct buf *b);
/* Every error of every manifest, one a line, as `validate` prints them. */
void api_errors(struct api *a, struct buf *b);
/* One condition a line: `Ready False ConnRefused 2026-01-02T03:04:05.678Z message`. */
void api_conditions(const struct conditions *conditions, struct buf *b);
/* The errors of a text (of one document of it, unless `entry` is SIZE_MAX) as lines `FILE:LINE:COL: error: …`; warnings
 * left out. */
void api_manifest_errors(const struct manifest *m, size_t entry, const char *file, struct buf *b);
/* Can a resource have this id, as its folder's name? */
bool api_id_ok(const char *id);

#endif
