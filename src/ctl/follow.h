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
    /* About once a second while connected; false: enough. NULL: not needed. */
    bool (*tick)(void *ctx);
    void *ctx;
};

/* Follow until enough is said. Where the daemon goes away it is waited for, and asked for what came meanwhile; what it
 * cannot give any more is told on standard error. CTL_OK, or the exit code of a first request that failed (told). */
int ctl_follow(struct ctl *c, const struct follow *f);

#endif
