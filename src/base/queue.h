/* Messages handed between threads: any thread pushes, one consumer takes all that gathered at once.
 *
 * A message embeds a struct queue_node and belongs to the queue from queue_push() to queue_take(). The queue neither
 * blocks nor allocates. The consumer is woken (by a callback, in the pushing thread; usually loop_async_send()) only by
 * the push that finds the queue empty: it must take everything each time it is woken.
 *
 * The bound is the caller's: a producer of unbounded input counts what is under way.
 */
#ifndef TRIGGERD_BASE_QUEUE_H
#define TRIGGERD_BASE_QUEUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct queue_node {
    struct queue_node *next;
};

struct queue {
    _Atomic(struct queue_node *) newest;
    void (*wake)(void *ctx);
    void *ctx;
};

/* `wake` may be NULL for a consumer that looks by itself. There is no fini: an empty queue owns nothing. */
void queue_init(struct queue *queue, void (*wake)(void *ctx), void *ctx);

/* Any thread. The node is the consumer's from here on, perhaps freed already when this returns. */
void queue_push(struct queue *queue, struct queue_node *node);

/* The consumer. All messages, oldest first, linked by `next`; NULL if there is none. */
struct queue_node *queue_take(struct queue *queue);

/* Any thread; true only as of some moment. */
bool queue_empty(const struct queue *queue);

#endif
