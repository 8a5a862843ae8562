/* Static loops: triggers that lead back to themselves, as far as manifests tell.
 *
 *     trigger a → pipeline p → emit x → trigger b → pipeline q → completion → trigger a
 *
 * A graph of what causes what, kept up as resources come, change and go. From a pipeline it goes on
 *
 *   emit        by an `emit` step with a constant endpoint, to the triggers of that endpoint; not where the trigger's
 *               filter turns the step's data away, whatever its templates give
 *   completion  to the pipeline_completed triggers that name it or match it by a glob; not by a glob with
 *               `status: failed`, which is a dead-letter pipeline for everything: that it hears of its own failure
 *               once is meant
 *   write       by a step that runs in a directory, or names one or a file in its arguments, or redirects a script's
 *               output to one, below the base of a file_watch trigger whose path matches it
 *
 * Triggers with `allow_loops: true` are left out, so is what comes after a pipeline that is not declared. Of a group of
 * loops that share triggers, the trigger first by id has its shortest loop told, then the next one that has a loop
 * without those, and so on.
 *
 * Cost: a put in proportion to its edges; loops_update() to what can be reached from what changed since the last one,
 * and from the loops known. Bounds: the constants below; what is over them is left out.
 *
 * Thread: any, one at a time. Nothing here does I/O.
 */
#ifndef TRIGGERD_MANIFEST_LOOPS_H
#define TRIGGERD_MANIFEST_LOOPS_H

#include "model/pipeline.h"
#include "model/trigger.h"

#define LOOPS_TOLD_MAX 100     /* loops known at a time */
#define LOOPS_SEARCHES_MAX 300 /* of one update; each goes through a group of loops once at most */
#define LOOPS_GLOBS_MAX 256    /* different globs over pipelines */
#define LOOPS_PAIRS_MAX 200000 /* pairs of a step and a trigger with a filter or a path, from update to update */

struct loops;

struct loops *loops_create(void);
void loops_destroy(struct loops *l);

/* New, or changed. Of a trigger a reference may be kept, of a pipeline nothing. */
void loops_put_trigger(struct loops *l, struct trigger *t);
void loops_put_pipeline(struct loops *l, const struct pipeline *p);
/* Gone; unknown ids are none. */
void loops_remove_trigger(struct loops *l, const char *id);
void loops_remove_pipeline(struct loops *l, const char *id);

/* Told for each trigger whose loop is new or another than before: `text` as a warning has it, borrowed, NULL: it has
 * none any more (it may be gone itself). */
typedef void loops_fn(void *ctx, const char *trigger_id, const char *text);
void loops_update(struct loops *l, loops_fn *fn, void *ctx);

static inline void loops_destroyp(struct loops **l)
{
    loops_destroy(*l);
}

#endif
