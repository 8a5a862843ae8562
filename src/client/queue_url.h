/* URLs of brokers, taken apart; see client/queue.h. Pure; thread: any. */
#ifndef TRIGGERD_CLIENT_QUEUE_URL_H
#define TRIGGERD_CLIENT_QUEUE_URL_H

#include "client/queue.h"

/* How references in a text are replaced. `literal`: there are none in it. `secrets` NULL: they stay as they are. */
struct queue_filling {
    bool literal;
    const struct secrets *secrets;
    const char *dir;
};
int queue_url_fill(const char *text, enum queue_type type, const struct queue_filling *f, struct queue_url *ret,
                   struct error *err);
/* `scheme://HOST[:PORT]` of an http:// or https:// URL; what follows is at most a `/`. */
int queue_endpoint_fill(const char *text, const struct queue_filling *f, char **ret, struct error *err);

/* The text is nothing but one reference. */
bool queue_is_reference(const char *text);

#endif
