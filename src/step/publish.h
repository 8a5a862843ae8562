/* publish: what main.c needs of it: the publishers of all protocols, each made when it is first used. */
#ifndef TRIGGERD_STEP_PUBLISH_H
#define TRIGGERD_STEP_PUBLISH_H

#include "client/queue.h"

struct queue_publishers;

/* By enum queue_type; NULL where there is none. */
extern const struct queue_publisher_type *const queue_publisher_types[QUEUE_TYPES];

/* `env` is copied, what it points to is borrowed. */
struct queue_publishers *queue_publishers_create(const struct queue_env *env,
                                                 const struct queue_publisher_type *const *types);
/* No step is under way any more. `done` comes from the loop, once, when all connections are closed. */
void queue_publishers_close(struct queue_publishers *p, void (*done)(void *ctx), void *ctx);

#endif
