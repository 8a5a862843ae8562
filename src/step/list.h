/* Every kind of step. Adding one touches its file, this list, its test and its example. */
#ifndef TRIGGERD_STEP_LIST_H
#define TRIGGERD_STEP_LIST_H

#include "engine/step_type.h"

extern const struct step_type step_emit;
extern const struct step_type step_exec;
extern const struct step_type step_http;
extern const struct step_type step_publish;
extern const struct step_type step_mcp;
extern const struct step_type step_worker;

/* NULL-terminated. */
extern const struct step_type *const step_types[];
/* The same as kinds, for the model's parsers. */
extern const struct kind *const step_kinds[];

#endif
