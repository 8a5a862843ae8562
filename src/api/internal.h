/* What the operations of this folder share. */
#ifndef TRIGGERD_API_INTERNAL_H
#define TRIGGERD_API_INTERNAL_H

#include "api/api.h"

/* An answer that waits for the store or the engine. */
struct reading {
    struct api *api;
    struct api_call call;
    char *id; /* NULL where nothing needs it */
};

static inline struct reading *reading_new(struct api *a, struct api_call call, const char *id)
{
    struct reading *q = xcalloc(1, sizeof(*q));
    *q = (struct reading){a, call, xstrdup0(id)};
    return q;
}

static inline void reading_free(struct reading *q)
{
    free(q->id);
    free(q);
}

#endif
