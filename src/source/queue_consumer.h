/* What triggers share of a message queue: one consumer for all whose connection and way of reading are the same. It owns
 * the broker, hands each message to every member, and settles it when the last of them has.
 *
 *   hub ─► consumer (by key) ─► broker            closed → opening (secrets are read) → open → closing → closed …
 *               │  └─► delivery (a message that is not settled)
 *               └─► member (a trigger's source)
 *
 * A consumer opens when the first member joins and closes when the last has left; who joins meanwhile waits for the end
 * of that, and so does a consumer whose name another is just giving up. While all members are paused it takes nothing.
 * Where its only member comes to read in another way it gets another key and goes on as it is (queue_member_update()).
 *
 * Thread: the loop's.
 */
#ifndef TRIGGERD_SOURCE_QUEUE_CONSUMER_H
#define TRIGGERD_SOURCE_QUEUE_CONSUMER_H

#include "source/broker.h"

struct queue_hub;
struct secret_dirs;

/* `env` and `dirs` are borrowed. `brokers`: by enum queue_type; NULL where there is none. */
struct queue_hub *queue_hub_create(const struct queue_env *env, const struct secret_dirs *dirs, const char *node_id,
                                   const struct broker_type *const *brokers);
/* Every member has left, and was told so. NULL is allowed. */
void queue_hub_destroy(struct queue_hub *hub);
bool queue_has_broker(const struct queue_hub *hub, enum queue_type type);

/* A message taken and not settled. Counted: each member holds one until it has settled its share; `data` is there until
 * every member has let go of it. */
struct queue_delivery {
    struct queue_consumer *consumer;
    uint64_t tag;
    unsigned shares, holds;
    enum queue_settlement worst; /* of the shares settled so far */
    cJSON *data;                 /* as events have it; NULL: let go of */
    char *identity;              /* NULL: none */
    char *traceparent;           /* NULL: none */
    size_t bytes;                /* of the body */
    uint64_t hash;               /* of the identity, or of the body: by which deliveries are counted here */
    int64_t deliveries;          /* this one included; 0: not known */
    bool too_large;              /* `data` has the beginning of its body */
    struct queue_delivery *prev, *next;
};

/* What a member is told; never from inside its own calls. */
struct queue_member_type {
    /* Its share; settled later by queue_share_settle(). */
    void (*delivered)(void *ctx, struct queue_delivery *d);
    void (*state)(void *ctx, enum source_state state, const char *reason, const char *message);
    void (*progress)(void *ctx, int64_t last_ms, int64_t in_flight, int64_t lag);
};
struct queue_member;

/* `trigger_id`: by it members are in order, and the first gives the consumer its name. */
struct queue_member *queue_join(struct queue_hub *hub, const char *trigger_id, const struct queue_config *config,
                                const char *dir, const struct queue_member_type *type, void *ctx);
/* How things stand, told at once. */
void queue_member_tell(struct queue_member *m);
void queue_member_pause(struct queue_member *m);
void queue_member_resume(struct queue_member *m); /* also: connect now */
/* Its trigger was edited in nothing but keys of reading: it has these from now on, on the connection there is, and keeps
 * what it was delivered. False, and nothing has changed: others read here as before, or a consumer reads that way already;
 * leave, and join anew. */
bool queue_member_update(struct queue_member *m, const struct queue_config *config, const char *dir);
/* Nothing more is delivered to it; then, when it has settled what it wants to, queue_leave(): `done` comes once, from the
 * loop, when it no longer counts: the last one waits for the broker's end, and what it left open is the server's. */
void queue_member_retire(struct queue_member *m);
void queue_leave(struct queue_member *m, void (*done)(void *ctx), void *ctx);
bool queue_member_alone(const struct queue_member *m); /* no other is delivered to */

void queue_share_settle(struct queue_delivery *d, enum queue_settlement how);
/* The same without a word to the server, which has it back when the broker stops: it is stopped, and opened anew where
 * there are others by then. */
void queue_share_abandon(struct queue_delivery *d);
/* The member needs its data no more. */
void queue_share_let_go(struct queue_delivery *d);
/* What on_failure: requeue comes to: QUEUE_AGAIN, or QUEUE_DEAD_LETTER after max_deliveries. */
enum queue_settlement queue_requeue(const struct queue_delivery *d, int64_t max_deliveries);

#endif
