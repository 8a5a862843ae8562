/* A pipeline as its manifest wants it: a graph of steps. Immutable once parsed, and counted (loop thread only): a run
 * keeps the pipeline as it was at its start. */
#ifndef TRIGGERD_MODEL_PIPELINE_H
#define TRIGGERD_MODEL_PIPELINE_H

#include "model/kind.h"

#define PIPELINE_STEPS_MAX 1000

struct retry {
    int64_t max_attempts; /* 1: no retry */
    double initial_seconds, factor, max_seconds, jitter;
};

struct step {
    char *id;
    char *description;
    struct strings needs;
    char *condition;        /* `if`: path text, NULL: always */
    double timeout_seconds; /* 0: none of its own */
    struct retry *retry;    /* NULL: one attempt */
    const struct kind *kind;
    cJSON *config_json;
    void *config;        /* parsed by kind->config */
    bool sound;          /* nothing is wrong with `config` that forbids to compile it */
    size_t *needs_index; /* of the steps in `needs`, in its order */
};

struct pipeline {
    unsigned refs;
    char *id;
    char *name;
    char *description;
    cJSON *inputs; /* JSON Schema, NULL if none */
    struct step *steps;
    size_t n_steps;
    cJSON *outputs;         /* object of path texts, NULL if none */
    double timeout_seconds; /* 0: none */
    int64_t max_concurrent; /* over all its triggers; 0: no limit */
    cJSON *steps_json;      /* array */
    char *text;             /* the document as compact JSON: what a run keeps of it */
};

extern const struct field_table pipeline_fields;
extern const struct field_table step_fields; /* what all kinds share */

/* Parse a pipeline document, check ids, needs and cycles. *ret is set (one reference) when no error was added. */
int pipeline_parse(const cJSON *doc, const struct kind *const *kinds, struct pipeline **ret, struct issues *issues);
/* The same, but gives what there is of a document with errors too, for pipeline_check() alone. */
struct pipeline *pipeline_read(const cJSON *doc, const struct kind *const *kinds, struct issues *issues);
struct pipeline *pipeline_ref(struct pipeline *p);
void pipeline_unref(struct pipeline *p);
bool pipeline_equal(const struct pipeline *a, const struct pipeline *b);

#endif
