/* What the operations of this folder share. */
#ifndef TRIGGERD_API_INTERNAL_H
#define TRIGGERD_API_INTERNAL_H

#include "api/api.h"

/* An answer that waits for the store or the engine. */
struct reading {
    struct api *api;
    struct api_call call;
    char *id; /* NULL where nothing needs it */
};

static inline struct reading *reading_new(struct api *a, struct api_call call, const char *id)
{
    struct reading *q = xcalloc(1, sizeof(*q));
    *q = (struct reading){a, call, xstrdup0(id)};
    return q;
}

/* Ask the store for one row by its id; `done` owns the reading. */
static inline void reading_begin(struct reading *q, enum store_read_type type, const char *id,
                                 void (*done)(struct store_read *r, int result))
{
    struct store_read *r = store_read_new(type, done, q);
    r->id = xstrdup(id);
    q->api->store->read(q->api->store, r);
}

/* The ETag of a resource: of its manifest, not of its state. */
#define ETAG_SIZE 20
const char *api_etag(struct api *a, enum resource_kind kind, const char *id, char out[ETAG_SIZE]); /* NULL: none */
/* As api_answer_text(), with it. */
void api_answer_resource(struct api *a, enum resource_kind kind, const char *id, struct api_call call,
                         struct buf *body);

/* The member `source`. */
void render_source(struct buf *b, const struct origin *origin, unsigned line);

static inline void reading_free(struct reading *q)
{
    free(q->id);
    free(q);
}

/* What an intake gives, as the answer: the one event itself, or how many and all of them. To be handed to the engine
 * with api_taken() (or free()d). */
void *api_taking_new(struct api *a, bool one, struct api_call call);
intake_done_fn api_taken;

/* ---- hide.c: secrets that a manifest holds literally ---- */

/* In place, in a list of steps. */
void hide_steps(cJSON *steps);
/* The text of one resource, as it is in `file` (for its format; NULL: YAML), with its secrets hidden and all else as it
 * is; the caller's. NULL for NULL. */
char *hide_text(enum resource_kind kind, const char *file, const char *text);
/* A member that a client sent for this document: what it says of hidden secrets gets what the document says. */
void unhide_member(enum resource_kind kind, const cJSON *doc, cJSON *sent);

/* Why a put failed, but for errors of its text. */
void api_problem_put(struct api_call call, const struct put_result *r);
/* What a change of resources does at runtime, a line each, added to an open JSON array. The specs of what is to be;
 * NULL: it is deleted. */
void effects_of_trigger(struct buf *b, struct api *a, const char *id, const struct trigger *after);
void effects_of_mcp_server(struct buf *b, struct api *a, const char *id, const struct mcp_server *after);
void effects_of_pipeline(struct buf *b, struct api *a, const char *id, const struct pipeline *after);

#endif
