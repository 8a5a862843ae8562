/* What the files of loops share: loops.c keeps the graph and searches it, loops_read.c says what a step may cause. */
#ifndef TRIGGERD_MANIFEST_LOOPS_INTERNAL_H
#define TRIGGERD_MANIFEST_LOOPS_INTERNAL_H

#include "lang/glob.h"
#include "lang/pattern.h"
#include "manifest/loops.h"

/* A step writes there. */
struct loop_write {
    char *path;  /* absolute, no `.` or `..` in it */
    bool inside; /* it is a directory: some file in it is written */
};

/* A step emits there. */
struct loop_emit {
    char *endpoint;
    cJSON *data; /* NULL: {} */
};

/* What the steps of a pipeline may cause. */
struct loop_effects {
    struct loop_write *writes;
    size_t n_writes;
    struct loop_emit *emits;
    size_t n_emits;
};
void loop_effects_read(const struct pipeline *p, struct loop_effects *ret);
void loop_effects_fini(struct loop_effects *e);

/* A file_watch trigger. */
struct loop_watch {
    char *base;
    char *pattern; /* of what is below it; globs are compiled when they are asked for, which is seldom */
    bool recursive;
    cJSON *ignore; /* NULL: none */
};
/* False: it is none that a write could fire. Takes what it keeps out of `config`. */
bool loop_watch_read(cJSON *config, struct loop_watch *ret);
void loop_watch_fini(struct loop_watch *w);
/* `write` is at or below its base. */
bool loop_watch_sees(const struct loop_watch *w, const struct loop_write *write);

/* May the data, its templates filled in with anything, match? */
bool loop_emit_may_match(const struct loop_emit *emit, const struct pattern *pattern);

#endif
