/* Conditions in the Kubernetes sense: type, status, reason, message, when it last changed. */
#ifndef TRIGGERD_MODEL_CONDITION_H
#define TRIGGERD_MODEL_CONDITION_H

#include "model/value.h"

#include <stdbool.h>
#include <stdint.h>

enum condition_status { CONDITION_FALSE, CONDITION_TRUE, CONDITION_UNKNOWN };

struct condition {
    const char *type;   /* constant: `Accepted`, `PipelineFound`, `Connected`, `Ready`, … */
    const char *reason; /* constant, CamelCase */
    char *message;      /* owned, may be NULL */
    enum condition_status status;
    int64_t transition_ms; /* last change of status */
    int64_t observed_generation;
};

#define CONDITIONS_MAX 12
struct conditions {
    struct condition *items; /* at most CONDITIONS_MAX */
    unsigned n;
};

/* Set one; returns true when its status, reason or message changed. */
bool condition_set(struct conditions *cs, const char *type, enum condition_status status, const char *reason,
                   const char *message, int64_t now_ms, int64_t generation);
void condition_remove(struct conditions *cs, const char *type);
const struct condition *condition_find(const struct conditions *cs, const char *type);
cJSON *conditions_print(const struct conditions *cs); /* a JSON array */
void conditions_fini(struct conditions *cs);

#endif
