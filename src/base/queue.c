#include "base/queue.h"

void queue_init(struct queue *queue, void (*wake)(void *ctx), void *ctx)
{
    atomic_init(&queue->newest, NULL);
    queue->wake = wake;
    queue->ctx = ctx;
}

/* A stack that is only ever emptied whole, so that no node can come back while a push compares (no ABA). */
void queue_push(struct queue *queue, struct queue_node *node)
{
    struct queue_node *newest = atomic_load_explicit(&queue->newest, memory_order_relaxed);
    do
        node->next = newest;
    while (!atomic_compare_exchange_weak_explicit(&queue->newest, &newest, node, memory_order_release,
                                                  memory_order_relaxed));
    if (!newest && queue->wake)
        queue->wake(queue->ctx);
}

struct queue_node *queue_take(struct queue *queue)
{
    struct queue_node *node = atomic_exchange_explicit(&queue->newest, NULL, memory_order_acquire);
    struct queue_node *oldest = NULL;
    while (node) {
        struct queue_node *next = node->next;
        node->next = oldest;
        oldest = node;
        node = next;
    }
    return oldest;
}

bool queue_empty(const struct queue *queue)
{
    return atomic_load_explicit(&queue->newest, memory_order_relaxed) == NULL;
}
