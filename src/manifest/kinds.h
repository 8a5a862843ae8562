/* The kinds of sources and of steps, for a program that sees no layer below this one (triggerctl). */
#ifndef TRIGGERD_MANIFEST_KINDS_H
#define TRIGGERD_MANIFEST_KINDS_H

#include "model/kind.h"

/* NULL-terminated. */
const struct kind *const *manifest_source_kinds(void);
const struct kind *const *manifest_step_kinds(void);

#endif
