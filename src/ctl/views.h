/* Small pieces of how resources are shown, shared by the verbs. */
#ifndef TRIGGERD_CTL_VIEWS_H
#define TRIGGERD_CTL_VIEWS_H

#include "ctl/table.h"
#include "model/value.h"

/* A scalar as text, a container as compact JSON; NULL for null and nothing. free() it. */
char *value_text(const cJSON *v);
/* `FILE:LINE` of a resource's source, NULL if it has none. free() it. */
char *source_text(const cJSON *resource);
/* The commit of a source or file in twelve digits, with `-dirty` where the file differs from it; NULL: none. free() it.
 */
char *commit_text(const cJSON *source);
/* What went wrong or held an event back: its error_message, else its reason; NULL: nothing. Borrowed. */
const char *why_text(const cJSON *event);

/* What a status can be; NULL-terminated. Of events and runs the first STATES_OPEN are not final. */
extern const char *const trigger_states[], *const event_states[], *const run_states[];
#define STATES_OPEN 2

/* Print an event or run as -o says; as text, a line `ID  WHOSE  STATUS  …`. */
void show_event(const struct args *a, const cJSON *event);
void show_run(const struct args *a, const cJSON *run);
/* A value where -o asks for json or yaml; false: text is wanted. */
bool show_value(const struct args *a, const cJSON *v);

/* --- of verbs_wait.c --- */

/* Wait for a run's end. CTL_OK with *ret, CTL_TIMEOUT, or the failure of a request. timeout_ms < 0: no limit. */
int wait_run(struct ctl *c, const char *id, int64_t timeout_ms, cJSON **ret);
/* --timeout, in milliseconds; -1 in *ret without one. -1: fine; else the exit code of what was said. */
int parse_timeout(const struct args *a, int64_t *ret);

#endif
