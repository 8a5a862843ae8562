/* A kind of plug-in as the model sees it: a name and the table of its config. `struct source_type` and `struct
 * step_type` (declared by the engine) begin with one, so that the model can parse triggers and pipelines without
 * knowing them. */
#ifndef TRIGGERD_MODEL_KIND_H
#define TRIGGERD_MODEL_KIND_H

#include "model/field.h"

struct kind {
    const char *name; /* `file_watch`, `exec` */
    const struct field_table *config;
    bool has_filter; /* source types: `filter` is taken in config */
    bool lossless;   /* source types: events must not be dropped by a cooldown (its policy defaults to `queue`) */
    /* What spans fields, and what needs the languages (paths, globs, cron). `config` is the parsed struct, `node` the
     * JSON it came from, `path` its path. Of source types also where fields are wrong or missing that are required:
     * strings may be NULL then (FIELDS_SOME). NULL: nothing more to check. */
    void (*validate)(const void *config, const cJSON *node, const char *path, struct issues *issues);
    /* What validate() demands beyond the table, as far as JSON Schema (draft-07) can say it: JSON text, with ' for
     * ", a list for the config's `allOf`. NULL: nothing. */
    const char *rules;
};

/* NULL-terminated lists of pointers to them. */
const struct kind *kind_find(const struct kind *const *kinds, const char *name);

#endif
