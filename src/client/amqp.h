/* A connection to RabbitMQ on the loop: AMQP 0-9-1, coded by rabbitmq-c, carried by a wire.
 *
 *   rabbit_open() ─► library, name, TCP, TLS, login, virtual host ─► opened() ─► method(), content()* ─► ended()
 *   ended() may come at any point and once; rabbit_close() at any point
 *
 * What it does by itself: heartbeats (a peer that is silent for RABBIT_DEAD_MS is gone), the handshake, and the protocol's
 * own closes. Channels are the owner's: what he sends on one goes out in order, many requests in one go, and he tells
 * answers by their method.
 *
 * Of rabbitmq-c only what codes and decodes frames is used: its sockets would need a thread a connection, and know
 * neither time-outs of writing nor an early end. It is loaded (with the OpenSSL that it brings) with the first connection.
 *
 * Thread: the loop's. Callbacks never come from inside a call.
 */
#ifndef TRIGGERD_CLIENT_AMQP_H
#define TRIGGERD_CLIENT_AMQP_H

#include "client/queue.h"

#include <amqp.h>
#include <amqp_framing.h>

#define RABBIT_HEARTBEAT_SECONDS 4 /* as the protocol says it: two of them without a byte mean that nobody is there */
#define RABBIT_DEAD_MS (2 * RABBIT_HEARTBEAT_SECONDS * 1000)
/* What is waited at most for the other side's farewell. */
#define RABBIT_FAREWELL_MS 2000

struct rabbit;

/* Everything is borrowed for the call. The connection may be closed from inside. */
struct rabbit_events {
    void (*opened)(void *ctx);
    /* On a channel; of those that carry content only by content(). A channel.close has been answered. */
    void (*method)(void *ctx, amqp_channel_t channel, const amqp_method_t *m);
    /* basic.deliver and basic.return */
    void (*content)(void *ctx, amqp_channel_t channel, const amqp_method_t *m, const amqp_basic_properties_t *p,
                    const char *body, size_t len);
    /* The broker is short of memory or disk and reads nothing of ours (NULL: it does again). NULL: not wanted. */
    void (*blocked)(void *ctx, const char *why);
    /* `reason` as for queue_state(): constant. rabbit_close() it all the same. */
    void (*ended)(void *ctx, const char *reason, const struct error *err);
};

/* `role` is shown to the broker's operator beside the name of the setup. The setup is referenced. */
struct rabbit *rabbit_open(const struct queue_env *env, struct queue_setup *setup, const char *role,
                           const struct rabbit_events *events, void *ctx);
/* No event comes any more. What was sent goes out, and the other side is asked to close, for at most RABBIT_FAREWELL_MS;
 * `done` comes from the loop then, once. It may be NULL, and so may `r`, for which done() comes as well. */
void rabbit_close(struct rabbit *r, struct loop *loop, void (*done)(void *ctx), void *ctx);

/* After opened(). `decoded` is the struct that belongs to the method. -EMSGSIZE: it cannot be said (a name of more than
 * 255 bytes, a table that is too large); nothing was sent. */
int rabbit_send(struct rabbit *r, amqp_channel_t channel, amqp_method_number_t id, void *decoded);
int rabbit_publish(struct rabbit *r, amqp_channel_t channel, amqp_basic_publish_t *m, amqp_basic_properties_t *p,
                   const char *body, size_t len);

/* What a channel.close or connection.close says: the reason as for queue_state(), and the error. */
const char *rabbit_closed(uint16_t code, amqp_bytes_t text, struct error *err);

/* ---- values ---- */

static inline amqp_bytes_t rabbit_bytes(const char *text)
{
    return (amqp_bytes_t){text ? strlen(text) : 0, (void *)text};
}
/* A table as an object: times are seconds, bytes are text (what is no UTF-8 as U+FFFD), what is too deep is null; of equal
 * names the last. */
cJSON *rabbit_to_json(const amqp_table_t *t);
/* An object as a table, made of one piece of memory, to be freed; strings are borrowed. -EINVAL: a number or a name is
 * larger than a table holds. */
int rabbit_from_json(const cJSON *o, amqp_table_t *ret, void **ret_memory, struct error *err);

#endif
