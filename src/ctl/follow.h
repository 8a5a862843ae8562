/* The daemon's server-sent events, for as long as somebody wants them. */
#ifndef TRIGGERD_CTL_FOLLOW_H
#define TRIGGERD_CTL_FOLLOW_H

#include "ctl/table.h"

#include <cjson/cJSON.h>

struct follow {
    const char *path; /* of the stream, encoded */
    /* A connection stands: nothing that happens from now on is missed. False: enough. NULL: not needed. */
    bool (*began)(void *ctx);
    /* A message's data; false: enough. */
    bool (*message)(void *ctx, const cJSON *data);
    /* Of what has come, all messages were given; false: enough. NULL: not needed. */
    bool (*drained)(void *ctx);
    int64_t until_ms; /* of the monotonic clock; 0: for ever */
    bool patient;     /* a daemon that is starting is waited for */
    void *ctx;
};

/* Follow until enough is said. Where the daemon goes away it is waited for, and asked for what came meanwhile; what it
 * cannot give any more is told on standard error. CTL_OK, CTL_TIMEOUT, or the exit code of a first request that failed
 * (told). */
int ctl_follow(struct ctl *c, const struct follow *f);

struct watching {
    const char *kind; /* as /api/v1/changes names it */
    const char *id;   /* NULL: all of them */
    /* Look at once, then whenever something may have changed, less often where a look takes long. `asking` has a
     * connection beside the stream's. -1: go on; else: enough, and the exit code. */
    int (*look)(void *ctx, struct ctl *asking);
    int64_t until_ms; /* as above */
    bool patient;
    void *ctx;
};

/* The exit code of the last look, or ctl_follow()'s. */
int ctl_watch(struct ctl *c, const struct watching *w);

#endif
