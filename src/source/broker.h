/* What one kind of broker is to the source message_queue: how messages are taken from it and settled.
 *
 *   message_queue.c       the source: keys, what triggers share, batches, back-pressure, what a run's end means
 *     queue_consumer      one for all triggers with an equal queue_connection_key(): its host
 *       broker            one connection and what it reads: broker_redis.c, broker_rabbitmq.c, …
 *
 * Life of a broker: create → start → (pause ⇄ resume | update)* → stop → done. It connects, and connects again, by itself
 * (queue_backoff_next()), and says how it stands with queue_state(). Calls come on the loop thread; what it calls of its
 * host never calls into it from inside. After stop() it says and delivers nothing more, but what was settled before is
 * still sent (within 2 s, where the server takes it); `done` comes once, never from inside; then it has freed itself, and
 * what was delivered and not settled is the broker's (the server's) to deliver again, to whoever comes next.
 *
 * Messages: it hands each one over with queue_delivered() and is told once what becomes of it by settle(): for each
 * delivery exactly one call, in any order, perhaps much later, perhaps when the connection it came by is gone. Then it
 * does what it can do: where the server has put such messages back by itself, nothing.
 * At most `prefetch` deliveries are not settled at any time; until then the server keeps the others (no buffer of ours).
 * While paused it takes nothing more; what is under way in its hands may still be delivered.
 *
 * What a settlement means is durable only when the server has it: a settlement that did not reach it leads to another
 * delivery, which its identity makes no second event.
 */
#ifndef TRIGGERD_SOURCE_BROKER_H
#define TRIGGERD_SOURCE_BROKER_H

#include "client/queue.h"
#include "engine/source_type.h"

struct broker;
struct queue_consumer; /* the host */

/* Borrowed for the call of queue_delivered(). What the broker does not know stays zero. */
struct queue_message {
    const char *body; /* the original bytes */
    size_t len;
    cJSON *fields;     /* instead of `body` (streams): taken. NULL: the body is parsed */
    const char *queue; /* where it was read: queue, channel, topic */
    cJSON *headers;    /* an object; taken. NULL: none */
    const char *key;   /* may hold any byte; NULL: none */
    size_t key_len;
    bool has_partition; /* partition and offset are known */
    int32_t partition;
    int64_t offset;
    const char *message_id;
    int64_t timestamp_ms;
    const char *identity; /* equal for each delivery of one message, and for no other on this consumer; NULL: none */
    int64_t deliveries;   /* so often it was delivered, this time included, as the server counts; 0: nobody counts */
};

enum queue_settlement {
    QUEUE_DONE,  /* acknowledge: its event is recorded (auto), or its run has completed (manual), or on_failure: drop */
    QUEUE_AGAIN, /* on_failure: requeue: at once, counted as a delivery */
    QUEUE_DEAD_LETTER, /* to the dead-letter queue with its original bytes, then acknowledged */
    QUEUE_BACK,        /* not wanted now (it could not be recorded, or nobody takes it): as if it had never been taken;
                          not counted where that can be helped */
};

struct broker_type {
    enum queue_type type;
    /* What spans keys, beyond what the tables say; `node` is the config as written. NULL: nothing. Pure. */
    void (*validate)(const struct queue_config *c, const cJSON *node, const char *path, struct issues *issues);
    /* `setup` is referenced. */
    int (*create)(struct queue_consumer *host, const struct queue_env *env, struct queue_setup *setup,
                  struct broker **ret, struct error *err);
    void (*start)(struct broker *b);
    void (*stop)(struct broker *b, void (*done)(void *ctx), void *ctx);
    void (*pause)(struct broker *b);
    void (*resume)(struct broker *b); /* also: connect now, if it waits to */
    /* From now on this one, which is referenced: it differs from the one before in keys of reading alone (`prefetch`, …),
     * and what is connected or in flight stays as it is. In every state from create() to stop(). */
    void (*update)(struct broker *b, struct queue_setup *setup);
    void (*settle)(struct broker *b, uint64_t tag, enum queue_settlement how);
    /* Messages that wait on the server; -1: it does not tell. Kept up to date as far as that is free. NULL: never. */
    int64_t (*lag)(const struct broker *b);
};
extern const struct broker_type broker_redis, broker_rabbitmq, broker_kafka, broker_sqs;

/* ---- what a broker calls of its host ---- */

/* `tag` is the broker's own name for it, until it is settled; never settled from inside the call. */
void queue_delivered(struct queue_consumer *c, uint64_t tag, struct queue_message *m);
/* As source_report(): told to every trigger of the consumer; only changes have an effect. `reason`: `ConnectionRefused`,
 * `AuthenticationFailed`, `QueueNotFound`, `ConnectionLost`, `NoProgress`, …; `message` is masked by the host as well. */
void queue_state(struct queue_consumer *c, enum source_state state, const char *reason, const char *message);
/* The name under which a broker keeps what is its own on the server (a processing list), the same from create() to the
 * end of stop(): the id of the first of the triggers that share it, or that with a number (`orders:2`) while another
 * consumer of this process still goes by it. So a trigger's name may change over a restart or an edit, and what an
 * earlier consumer left under another name of this node is nobody's, unless in use. */
const char *queue_owner(const struct queue_consumer *c);
bool queue_owner_in_use(const struct queue_consumer *c, const char *name);

#endif
