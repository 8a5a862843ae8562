/* Message queues as manifests say them, for the source and the step: keys, URLs, and what a client needs to connect.
 *
 *   struct queue_config   what the manifest says: references to secrets are text, nothing was read
 *   struct queue_setup    the same when it is used: the URL taken apart and filled in. What a client gets
 *
 * URLs:
 *
 *   redis://[[USER]:PASSWORD@]HOST[:6379][/DB]      rediss:// the same over TLS
 *   redis+unix://[[USER]:PASSWORD@]/PATH[?db=DB]
 *   amqp://[USER:PASSWORD@]HOST[:5672][/VHOST]      amqps:// over TLS, port 5671; guest and `/` by default
 *   kafka://HOST[:9092][,HOST[:PORT]]…              credentials and TLS in `security`
 *   sqs://[KEY:SECRET@]REGION                       or the https:// URL of a service, or `endpoint_url`
 *   ${env:NAME}, ${file:PATH}                       alone: what it stands for is one of these, without references
 *
 * References are found in the text after it is taken apart, and what they stand for is taken literally, so a password
 * may hold any character. Literal userinfo, paths and names are percent-decoded.
 *
 * Thread: the loop's, where nothing else is said; what is pure says so.
 */
#ifndef TRIGGERD_CLIENT_QUEUE_H
#define TRIGGERD_CLIENT_QUEUE_H

#include "base/clock.h"
#include "base/error.h"
#include "base/mask.h"
#include "base/random.h"
#include "base/self_mount.h"
#include "base/timer.h"
#include "client/tls.h"
#include "lang/secret.h"
#include "model/field.h"

struct loop;
struct http_client;

enum queue_type { QUEUE_REDIS, QUEUE_RABBITMQ, QUEUE_KAFKA, QUEUE_SQS, QUEUE_TYPES };
enum redis_mode { REDIS_LIST, REDIS_PUBSUB, REDIS_STREAM };
enum queue_ack_mode { ACK_AUTO, ACK_MANUAL };
enum queue_on_failure { FAILURE_REQUEUE, FAILURE_DEAD_LETTER, FAILURE_DROP };
enum queue_start { START_EARLIEST, START_LATEST };
enum redis_pop { POP_LEFT, POP_RIGHT };

extern const char *const queue_type_words[]; /* `redis`, …; NULL-terminated, in the order of the enum */
extern const char *const queue_protocol_words[], *const queue_mechanism_words[]; /* of struct queue_security */

/* Kafka's `security`. */
struct queue_security {
    int protocol;  /* plaintext, ssl, sasl_plaintext, sasl_ssl: as librdkafka's security.protocol */
    int mechanism; /* PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 */
    char *username, *password;
};
/* RabbitMQ's `bind`. */
struct queue_bind {
    char *exchange, *routing_key;
};

/* All keys of all brokers, of source and step; which one knows which is checked by …_validate(). */
struct queue_config {
    int queue_type;
    char *connection_url;
    char *queue_name;
    struct tls_config *tls; /* NULL: none */
    /* redis */
    int redis_mode;
    int pop;
    bool pattern;
    double claim_idle_seconds;
    char *consumer_name; /* NULL: the node id */
    /* redis streams and kafka */
    char *consumer_group; /* NULL: triggerd-ID of the trigger */
    int start;
    /* rabbitmq */
    bool declare;
    cJSON *queue_arguments; /* an object; NULL: none */
    struct queue_bind *bind;
    /* kafka */
    struct queue_security *security;
    cJSON *options; /* an object of librdkafka's names; NULL: none */
    /* sqs */
    char *region, *endpoint_url;
    double visibility_timeout_seconds; /* 0: the queue's own */
    /* of the source */
    int ack_mode;
    int64_t batch_size;
    double batch_timeout_seconds;
    int64_t max_deliveries;
    int on_failure;
    char *dead_letter_queue; /* NULL: queue_name.dead */
    int64_t prefetch;
    /* of the step: what to send; references and templates are filled in by the step */
    cJSON *body;
    char *key, *message_id, *exchange, *routing_key;
    cJSON *headers;
};

extern const struct field_table queue_source_fields, queue_step_fields;
/* A copy without what the step alone has; fields_fini(&queue_source_fields, …). */
void queue_config_copy(const struct queue_config *from, struct queue_config *ret);
extern const char queue_source_rules[], queue_step_rules[]; /* as struct kind has them */
/* What spans keys, whatever the broker. Pure. */
void queue_source_validate(const struct queue_config *c, const cJSON *node, const char *path, struct issues *issues);
void queue_step_validate(const struct queue_config *c, const cJSON *node, const char *path, struct issues *issues);

/* ---- ready to connect ---- */

struct queue_host_port {
    char *host;
    int port;
};
struct queue_url {
    enum queue_type type;
    bool reference; /* the whole text is one reference: nothing else is known before it is filled in */
    bool tls;
    char *user, *password; /* NULL: none given */
    struct queue_host_port *hosts;
    size_t n_hosts;
    char *path; /* of a unix socket; NULL: none */
    int64_t db;
    char *vhost;
    char *region;   /* sqs */
    char *endpoint; /* sqs: scheme://HOST[:PORT] with no path; in a setup it is always there */
    char *token;    /* sqs: AWS_SESSION_TOKEN; NULL: none */
};

/* Counted, so that a connection may outlive who asked for it. Everything in it is filled in and constant. */
struct queue_setup {
    unsigned refs;
    struct queue_config config; /* references in it are replaced; `connection_url` is the text of the manifest */
    struct queue_url url;
    char *group, *consumer; /* consumer_group and consumer_name with their defaults; NULL where the broker has none */
    char *dead_letter;      /* dead_letter_queue with its default */
    char *name;             /* the trigger's or pipeline's id: for client names that a broker's operator sees */
    char *node_id;
    struct mask *mask; /* of all secrets in it, the URL's own included: no error text without it. NULL: nothing */
};
struct queue_setup *queue_setup_ref(struct queue_setup *s);
void queue_setup_replace(struct queue_setup **slot, struct queue_setup *s); /* by a reference to `s` */
void queue_setup_unref(struct queue_setup *s); /* wipes with the last one; NULL is allowed */

/* The URL of a config, its references still text. Pure. -EINVAL: what is wrong; never a password in it. */
int queue_url_parse(const char *text, enum queue_type type, struct queue_url *ret, struct error *err);
void queue_url_fini(struct queue_url *u);

/* Note every reference of a config (secrets_want). Pure. */
void queue_config_want(const struct queue_config *c, struct secrets *s, const char *dir);
/* Each reference of what both have, `${…}` and all. Pure. */
void queue_config_each_reference(const struct queue_config *c, void (*fn)(void *ctx, const char *text), void *ctx);
/* Fill it in. `secrets` NULL: there are none. -ENOENT: one could not be read; -EINVAL: what it stands for does not fit.
 */
int queue_setup_create(const struct queue_config *c, const struct secrets *s, const char *dir, const char *name,
                       const char *node_id, struct queue_setup **ret, struct error *err);

/* What connects two users of one consumer, or of one kept connection: a text that is equal where everything that matters
 * is. `reading`: also the keys of the source. Of the config, not the setup: references are text. free() it. Pure. */
char *queue_connection_key(const struct queue_config *c, const char *dir, const char *group, bool reading);

/* ---- what every client uses ---- */

struct queue_env {
    struct loop *loop;
    struct clock *clock;
    struct random *random;
    const struct self_mount *avoid;
    struct http_client *http; /* sqs */
};

/* Waiting before the next attempt: 0.5 s, doubling to at most 8 s, ± 20 %. */
struct queue_backoff {
    int64_t ms; /* 0: none failed yet */
};
int64_t queue_backoff_next(struct queue_backoff *b, struct random *random); /* milliseconds */
void queue_backoff_reset(struct queue_backoff *b);

/* A peer that stops answering is found within that. */
#define QUEUE_SILENCE_MS 10000
#define QUEUE_CONNECT_MS 5000

/* ---- publishing ---- */

/* What is sent; borrowed for the call. */
struct queue_outgoing {
    const char *queue; /* list, stream or channel; queue; topic; queue name. NULL: exchange and routing_key */
    const char *exchange, *routing_key;
    const char *body;
    size_t len;
    const char *key;         /* NULL: none */
    const cJSON *headers;    /* an object of strings; NULL: none */
    const char *message_id;  /* NULL: none */
    const char *traceparent; /* sent as a header where the protocol has them; NULL: none */
};
/* Confirmed by the broker, or why not: 0; -ENOENT no such queue (named); -ECONNREFUSED, -ETIMEDOUT, … no broker;
 * -EACCES; -EMSGSIZE. Messages are masked. */
typedef void queue_published_fn(void *ctx, int result, const char *message);

/* One a protocol: keeps its connections to publish by, each closed QUEUE_KEPT_MS after its last use. */
#define QUEUE_KEPT_MS 15000
struct queue_publish;
struct queue_publisher;
struct queue_publisher_type {
    enum queue_type type;
    struct queue_publisher *(*create)(const struct queue_env *env);
    /* Closes all; who waits is not told any more. `done` comes from the loop, once. */
    void (*close)(struct queue_publisher *p, void (*done)(void *ctx), void *ctx);
    /* `done` comes exactly once, never from inside; not after queue_publish_cancel(). `setup` is referenced. Messages on
     * one connection go out in the order of the calls. */
    struct queue_publish *(*send)(struct queue_publisher *p, struct queue_setup *setup, const char *connection_key,
                                  const struct queue_outgoing *m, queue_published_fn *done, void *ctx);
    void (*cancel)(struct queue_publish *q); /* it may arrive all the same */
};
extern const struct queue_publisher_type redis_publisher, amqp_publisher, kafka_publisher, sqs_publisher;

#endif
