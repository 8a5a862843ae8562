/* The keys of message queues, in source and step: one table with two windows on it, and what spans them. */
#include "base/util.h"
#include "client/queue_url.h"
#include "lang/secret.h"

#include <stdio.h>

const char *const queue_type_words[] = {"redis", "rabbitmq", "kafka", "sqs", NULL};
static const char *const mode_words[] = {"list", "pubsub", "stream", NULL};
static const char *const ack_words[] = {"auto", "manual", NULL};
static const char *const failure_words[] = {"requeue", "dead_letter", "drop", NULL};
static const char *const start_words[] = {"earliest", "latest", NULL};
static const char *const pop_words[] = {"left", "right", NULL};
const char *const queue_protocol_words[] = {"plaintext", "ssl", "sasl_plaintext", "sasl_ssl", NULL};
const char *const queue_mechanism_words[] = {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", NULL};

#define PROTOCOL_SASL 2 /* from that one on */

/* ---- the tables ---- */

static const struct field security_rows[] = {
    {.name = "protocol",
     .type = &field_enum,
     FIELD(struct queue_security, protocol, int, .flags = FIELD_REQUIRED, .words = queue_protocol_words,
           .doc = "How the brokers are spoken to", .example = "\"sasl_ssl\"")},
    {.name = "mechanism",
     .type = &field_enum,
     FIELD(struct queue_security, mechanism, int, .default_json = "\"PLAIN\"", .words = queue_mechanism_words,
           .doc = "How we prove who we are, where the protocol is sasl_plaintext or sasl_ssl")},
    {.name = "username",
     .type = &field_string,
     FIELD(struct queue_security, username, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY | FIELD_REFERS,
           .max = 1024, .doc = "Who we are", .example = "\"triggerd\"")},
    {.name = "password",
     .type = &field_string,
     FIELD(struct queue_security, password, char *,
           .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY | FIELD_SECRET | FIELD_REFERS, .max = 4096,
           .doc = "The password of username", .example = "\"${env:KAFKA_PASSWORD}\"")},
};
static const struct field_table security_table = {
    "security", "How Kafka's brokers know us", sizeof(struct queue_security), security_rows, ARRAY_SIZE(security_rows)};

static const struct field bind_rows[] = {
    {.name = "exchange",
     .type = &field_string,
     FIELD(struct queue_bind, exchange, char *, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY | FIELD_REFERS, .max = 255,
           .doc = "The exchange, which is there already", .example = "\"orders\"")},
    {.name = "routing_key",
     .type = &field_string,
     FIELD(struct queue_bind, routing_key, char *, .default_json = "\"\"", .flags = FIELD_REFERS, .max = 255,
           .doc = "The routing key, or a pattern of them", .example = "\"order.*\"")},
};
static const struct field_table bind_table = {"bind", "Where a queue gets its messages from", sizeof(struct queue_bind),
                                              bind_rows, ARRAY_SIZE(bind_rows)};

/* First what the step alone has, then what both have, then what the source alone has. Those without CHANGE_SOURCE say how
 * messages are read: an edit of them leaves the connection alone. */
static const struct field rows[] = {
    {.name = "body",
     .type = &field_json,
     FIELD(struct queue_config, body, cJSON *, .flags = FIELD_REQUIRED | FIELD_REFERS,
           .doc = "The message: a string as it is, anything else as JSON; templates are filled in, one alone in its "
                  "string keeps its type",
           .example = "{\"order\": \"{{ $.inputs.id }}\"}")},
    {.name = "queue_name",
     .type = &field_string,
     FIELD(struct queue_config, queue_name, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY | FIELD_REFERS,
           .max = 1024, .doc = "Where it goes: list, stream or channel; queue; topic. Templates are filled in",
           .example = "\"orders.done\"")},
    {.name = "key",
     .type = &field_string,
     FIELD(struct queue_config, key, char *, .flags = FIELD_NULL_OK | FIELD_REFERS, .max = 16384,
           .doc = "Kafka: the message's key, which chooses its partition. SQS: the message group of a FIFO queue",
           .example = "\"{{ $.inputs.customer }}\"")},
    {.name = "headers",
     .type = &field_string_map,
     FIELD(struct queue_config, headers, cJSON *, .flags = FIELD_NULL_OK | FIELD_REFERS,
           .doc = "RabbitMQ, Kafka, SQS (attributes): what goes beside the body; templates are filled in",
           .example = "{\"source\": \"{{ $.run.id }}\"}")},
    {.name = "message_id",
     .type = &field_string,
     FIELD(struct queue_config, message_id, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY | FIELD_REFERS,
           .max = 1024,
           .doc = "RabbitMQ: the message's id. SQS: the deduplication id of a FIFO queue. By default run and step",
           .example = "\"{{ $.inputs.id }}\"")},
    {.name = "exchange",
     .type = &field_string,
     FIELD(struct queue_config, exchange, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY | FIELD_REFERS, .max = 1024,
           .doc = "RabbitMQ: the exchange to publish to, instead of queue_name", .example = "\"orders\"")},
    {.name = "routing_key",
     .type = &field_string,
     FIELD(struct queue_config, routing_key, char *, .flags = FIELD_NULL_OK | FIELD_REFERS, .max = 1024,
           .doc = "RabbitMQ: the routing key at the exchange; empty by default", .example = "\"order.done\"")},
#define STEP_ONLY 7
    {.name = "queue_type",
     .type = &field_enum,
     FIELD(struct queue_config, queue_type, int, .flags = FIELD_REQUIRED | FIELD_GOVERNS, .words = queue_type_words,
           .change = CHANGE_SOURCE, .doc = "The kind of broker", .example = "\"redis\"")},
    {.name = "connection_url",
     .type = &field_string,
     FIELD(struct queue_config, connection_url, char *, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY | FIELD_REFERS,
           .max = 4096, .change = CHANGE_SOURCE,
           .doc = "Where the broker is: redis://, rediss://, redis+unix://; amqp://, amqps://; kafka://HOST,HOST; "
                  "sqs://REGION or https://. References are replaced after it is taken apart, or are all of it",
           .example = "\"redis://:${env:REDIS_PASSWORD}@localhost:6379/0\"")},
    {.name = "redis_mode",
     .type = &field_enum,
     FIELD(struct queue_config, redis_mode, int, .default_json = "\"list\"", .flags = FIELD_GOVERNS,
           .words = mode_words, .change = CHANGE_SOURCE,
           .doc = "Redis: whether queue_name is a list, a channel of pub/sub, or a stream")},
    {.name = "tls",
     .type = &field_object_opt,
     FIELD(struct queue_config, tls, struct tls_config *, .flags = FIELD_NULL_OK, .sub = &tls_fields,
           .change = CHANGE_SOURCE, .doc = "For connections over TLS; by default the system's certificates are trusted",
           .example = "{\"ca_file\": \"/etc/ssl/company.pem\"}")},
    {.name = "security",
     .type = &field_object_opt,
     FIELD(struct queue_config, security, struct queue_security *, .flags = FIELD_NULL_OK, .sub = &security_table,
           .change = CHANGE_SOURCE, .doc = "Kafka: TLS and who we are",
           .example = "{\"protocol\": \"sasl_ssl\", \"mechanism\": \"SCRAM-SHA-512\", \"username\": \"triggerd\", "
                      "\"password\": \"${env:KAFKA_PASSWORD}\"}")},
    {.name = "options",
     .type = &field_json,
     FIELD(struct queue_config, options, cJSON *, .flags = FIELD_NULL_OK | FIELD_REFERS, .change = CHANGE_SOURCE,
           .doc = "Kafka: settings of librdkafka by their names", .example = "{\"session.timeout.ms\": 10000}")},
    {.name = "region",
     .type = &field_string,
     FIELD(struct queue_config, region, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY | FIELD_REFERS, .max = 64,
           .change = CHANGE_SOURCE,
           .doc = "SQS: the region, where connection_url does not say it; by default AWS_REGION or AWS_DEFAULT_REGION",
           .example = "\"eu-south-1\"")},
    {.name = "endpoint_url",
     .type = &field_string,
     FIELD(struct queue_config, endpoint_url, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY | FIELD_REFERS,
           .max = 2048, .change = CHANGE_SOURCE, .doc = "SQS: another service than AWS's that speaks its protocol",
           .example = "\"http://localhost:9324\"")},
#define SHARED 8
    {.name = "queue_name",
     .type = &field_string,
     FIELD(struct queue_config, queue_name, char *, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY | FIELD_REFERS,
           .max = 1024, .change = CHANGE_SOURCE, .doc = "What is read: list, stream or channel; queue; topic",
           .example = "\"jobs:pending\"")},
    {.name = "ack_mode",
     .type = &field_enum,
     FIELD(struct queue_config, ack_mode, int, .default_json = "\"auto\"", .words = ack_words, .flags = FIELD_GOVERNS,
           .doc =
               "When the broker is told that a message is done: once its event is recorded, or (manual) once its run "
               "has completed")},
    {.name = "batch_size",
     .type = &field_int,
     FIELD(struct queue_config, batch_size, int64_t, .default_json = "1", .min = 1, .max = 1000,
           .doc = "Messages that make one event")},
    {.name = "batch_timeout_seconds",
     .type = &field_seconds,
     FIELD(struct queue_config, batch_timeout_seconds, double, .default_json = "1", .min = 0.01, .max = 3600,
           .doc = "How long after its first message a batch waits to be full")},
    {.name = "prefetch",
     .type = &field_int,
     FIELD(struct queue_config, prefetch, int64_t, .default_json = "100", .min = 1, .max = 65535,
           .doc = "Messages taken and not yet settled; at least batch_size, which is the default where it is more")},
    {.name = "max_deliveries",
     .type = &field_int,
     FIELD(struct queue_config, max_deliveries, int64_t, .default_json = "5", .min = 1, .max = 1000000,
           .doc = "How often a message is delivered at most; then it ends as a failed event with its original bytes")},
    {.name = "on_failure",
     .type = &field_enum,
     FIELD(struct queue_config, on_failure, int, .default_json = "\"requeue\"", .words = failure_words,
           .doc = "With ack_mode: manual: what becomes of a message whose run failed for good. requeue is at once, and "
                  "ends after max_deliveries as dead_letter does")},
    {.name = "dead_letter_queue",
     .type = &field_string,
     FIELD(struct queue_config, dead_letter_queue, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY | FIELD_REFERS,
           .max = 1024, .doc = "Redis, Kafka: where on_failure: dead_letter puts messages; QUEUE_NAME.dead by default",
           .example = "\"jobs:dead\"")},
    {.name = "pop",
     .type = &field_enum,
     FIELD(struct queue_config, pop, int, .default_json = "\"left\"", .words = pop_words,
           .doc = "Redis lists: the end at which messages are taken")},
    {.name = "pattern",
     .type = &field_bool,
     FIELD(struct queue_config, pattern, bool, .default_json = "false", .change = CHANGE_SOURCE,
           .doc = "Redis pub/sub: queue_name is a pattern of channels")},
    {.name = "consumer_group",
     .type = &field_string,
     FIELD(struct queue_config, consumer_group, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY | FIELD_REFERS,
           .max = 255, .change = CHANGE_SOURCE,
           .doc = "Redis streams, Kafka: who shares the messages; triggerd- and the trigger's id by default",
           .example = "\"billing\"")},
    {.name = "consumer_name",
     .type = &field_string,
     FIELD(struct queue_config, consumer_name, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY | FIELD_REFERS,
           .max = 255, .change = CHANGE_SOURCE,
           .doc = "Redis streams: our name within the group; the node's id by default", .example = "\"worker-1\"")},
    {.name = "start",
     .type = &field_enum,
     FIELD(struct queue_config, start, int, .default_json = "\"latest\"", .words = start_words,
           .doc = "Redis streams, Kafka: where a new group begins")},
    {.name = "claim_idle_seconds",
     .type = &field_seconds,
     FIELD(struct queue_config, claim_idle_seconds, double, .default_json = "60", .min = 0.1, .max = 86400,
           .doc = "Redis streams: messages that another consumer has had for so long are taken over")},
    {.name = "declare",
     .type = &field_bool,
     FIELD(struct queue_config, declare, bool, .default_json = "false", .flags = FIELD_GOVERNS, .change = CHANGE_SOURCE,
           .doc = "RabbitMQ: make the queue, durable, where it is missing; by default it must be there")},
    {.name = "queue_arguments",
     .type = &field_json,
     FIELD(struct queue_config, queue_arguments, cJSON *, .flags = FIELD_NULL_OK | FIELD_REFERS,
           .change = CHANGE_SOURCE, .doc = "RabbitMQ: the arguments with which it is declared",
           .example = "{\"x-queue-type\": \"quorum\"}")},
    {.name = "bind",
     .type = &field_object_opt,
     FIELD(struct queue_config, bind, struct queue_bind *, .flags = FIELD_NULL_OK, .sub = &bind_table,
           .change = CHANGE_SOURCE, .doc = "RabbitMQ: bind the queue to an exchange",
           .example = "{\"exchange\": \"orders\", \"routing_key\": \"order.*\"}")},
    {.name = "visibility_timeout_seconds",
     .type = &field_seconds,
     FIELD(struct queue_config, visibility_timeout_seconds, double, .default_json = "0", .min = 0, .max = 43200,
           .doc = "SQS: how long a message is hidden from others at a time; extended while it is in work. 0: as the "
                  "queue has it")},
};
const struct field_table queue_step_fields = {"publish", "Send a message to a broker", sizeof(struct queue_config),
                                              rows, STEP_ONLY + SHARED};
const struct field_table queue_source_fields = {"message_queue", "Messages of a broker", sizeof(struct queue_config),
                                                rows + STEP_ONLY, ARRAY_SIZE(rows) - STEP_ONLY};

/* ---- which broker knows which key ---- */

#define R (1u << QUEUE_REDIS)
#define Q (1u << QUEUE_RABBITMQ)
#define K (1u << QUEUE_KAFKA)
#define S (1u << QUEUE_SQS)

/* Those that not all of them know. `mode`: of redis, the one that knows it; -1: each. */
static const struct {
    const char *key;
    unsigned types;
    int mode;
} owners[] = {
    {"redis_mode", R, -1},
    {"pop", R, REDIS_LIST},
    {"pattern", R, REDIS_PUBSUB},
    {"consumer_name", R, REDIS_STREAM},
    {"claim_idle_seconds", R, REDIS_STREAM},
    {"consumer_group", R | K, REDIS_STREAM},
    {"start", R | K, REDIS_STREAM},
    {"declare", Q, -1},
    {"queue_arguments", Q, -1},
    {"bind", Q, -1},
    {"exchange", Q, -1},
    {"routing_key", Q, -1},
    {"security", K, -1},
    {"options", K, -1},
    {"region", S, -1},
    {"endpoint_url", S, -1},
    {"visibility_timeout_seconds", S, -1},
    {"key", K | S, -1},
    {"headers", Q | K | S, -1},
    {"message_id", Q | S, -1},
};

static void name_owners(unsigned types, char *out, size_t cap)
{
    size_t n = 0;
    *out = '\0';
    for (unsigned i = 0; i < QUEUE_TYPES; i++) {
        if (!(types & 1u << i))
            continue;
        types &= ~(1u << i);
        n += (size_t)snprintf(out + n, cap - n, "%s%s", n == 0 ? "" : types ? ", " : " and ", queue_type_words[i]);
    }
}

static void check_keys(const struct field_table *t, const struct queue_config *c, const cJSON *node, const char *path,
                       struct issues *issues)
{
    char at[FIELD_PATH_MAX], names[64];
    for (size_t i = 0; i < ARRAY_SIZE(owners); i++) {
        const struct field *f = fields_find(t, owners[i].key);
        const cJSON *given = f ? value_get(node, f->name) : NULL;
        if (!given || (cJSON_IsNull(given) && (f->flags & FIELD_NULL_OK)))
            continue;
        field_path(at, path, f->name);
        name_owners(owners[i].types, names, sizeof(names));
        if (!(owners[i].types & 1u << c->queue_type))
            issue_add_key(issues, at, given, "is a key of %s, not of %s", names, queue_type_words[c->queue_type]);
        else if (c->queue_type == QUEUE_REDIS && owners[i].mode >= 0 && c->redis_mode != owners[i].mode)
            issue_add_key(issues, at, given, "is a key of redis_mode: %s, not of %s", mode_words[owners[i].mode],
                          mode_words[c->redis_mode]);
    }
}

/* ---- what spans keys ---- */

static void check_object(const cJSON *v, const char *name, const cJSON *node, const char *path, struct issues *issues)
{
    char at[FIELD_PATH_MAX];
    if (v && !cJSON_IsObject(v))
        issue_add(issues, field_path(at, path, name), value_get(node, name), "expected an object");
}

static void check_security(const struct queue_security *s, const cJSON *node, const char *path, struct issues *issues)
{
    char at[FIELD_PATH_MAX];
    const struct {
        const char *key, *value;
    } texts[] = {{"username", s->username}, {"password", s->password}};
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        if (s->protocol >= PROTOCOL_SASL && !texts[i].value)
            issue_add(issues, field_path(at, path, texts[i].key), node, "required for %s, but missing",
                      queue_protocol_words[s->protocol]);
        else if (s->protocol < PROTOCOL_SASL && texts[i].value)
            issue_add_key(issues, field_path(at, path, texts[i].key), value_get(node, texts[i].key),
                          "is for sasl_plaintext and sasl_ssl; %s has none", queue_protocol_words[s->protocol]);
    }
}

/* Where a reference is malformed, that is told, and no more of a URL that nobody can know. */
static bool references_read(const char *url)
{
    struct reference r;
    int found;
    while ((found = reference_next(url, &r, NULL)) > 0)
        url = r.start + r.len;
    return found == 0;
}

static void check_url(const struct queue_config *c, const cJSON *node, const char *path, struct issues *issues)
{
    struct queue_url url = {0};
    struct error err = ERROR_INIT;
    static const struct queue_filling as_text = {0};
    _cleanup_(freep) char *endpoint = NULL;
    char at[FIELD_PATH_MAX];
    const char *where = c->connection_url && references_read(c->connection_url) ? c->connection_url : NULL;
    if (where && queue_url_parse(where, (enum queue_type)c->queue_type, &url, &err) < 0)
        issue_add(issues, field_path(at, path, "connection_url"), value_get(node, "connection_url"), "%s", err.message);
    else if (where && c->tls && !url.reference && !url.tls && (url.type == QUEUE_REDIS || url.type == QUEUE_RABBITMQ))
        issue_add_key(issues, field_path(at, path, "tls"), value_get(node, "tls"), "is for %s://",
                      url.type == QUEUE_REDIS ? "rediss" : "amqps");
    queue_url_fini(&url);
    if (c->endpoint_url && references_read(c->endpoint_url) &&
        queue_endpoint_fill(c->endpoint_url, &as_text, &endpoint, &err) < 0)
        issue_add(issues, field_path(at, path, "endpoint_url"), value_get(node, "endpoint_url"), "%s", err.message);
}

static void check_shared(const struct field_table *t, const struct queue_config *c, const cJSON *node, const char *path,
                         struct issues *issues)
{
    char at[FIELD_PATH_MAX];
    check_keys(t, c, node, path, issues);
    check_url(c, node, path, issues);
    check_object(c->options, "options", node, path, issues);
    if (c->tls)
        tls_validate(c->tls, value_get(node, "tls"), field_path(at, path, "tls"), issues);
    if (c->security)
        check_security(c->security, value_get(node, "security"), field_path(at, path, "security"), issues);
}

void queue_source_validate(const struct queue_config *c, const cJSON *node, const char *path, struct issues *issues)
{
    char at[FIELD_PATH_MAX];
    const cJSON *given;
    check_shared(&queue_source_fields, c, node, path, issues);
    check_object(c->queue_arguments, "queue_arguments", node, path, issues);
    if (c->queue_arguments && !c->declare && c->queue_type == QUEUE_RABBITMQ)
        issue_add_key(issues, field_path(at, path, "queue_arguments"), value_get(node, "queue_arguments"),
                      "only with `declare: true`");
    if ((given = value_get(node, "on_failure")) && c->ack_mode != ACK_MANUAL)
        issue_add_key(issues, field_path(at, path, "on_failure"), given, "only with `ack_mode: manual`");
    if (c->queue_type == QUEUE_REDIS && c->redis_mode == REDIS_PUBSUB && c->ack_mode == ACK_MANUAL)
        issue_add(issues, field_path(at, path, "ack_mode"), value_get(node, "ack_mode"),
                  "pub/sub has nothing to acknowledge; expected \"auto\"");
    if ((given = value_get(node, "prefetch")) && c->prefetch < c->batch_size)
        issue_add(issues, field_path(at, path, "prefetch"), given,
                  "must be at least batch_size (%lld), or a batch is never full", (long long)c->batch_size);
    if (c->dead_letter_queue && (c->queue_type == QUEUE_RABBITMQ || c->queue_type == QUEUE_SQS))
        issue_warn(issues, field_path(at, path, "dead_letter_queue"), value_get(node, "dead_letter_queue"),
                   "has no effect: %s",
                   c->queue_type == QUEUE_SQS ? "the queue's own redrive policy decides"
                                              : "the queue's own dead-letter exchange decides");
}

void queue_step_validate(const struct queue_config *c, const cJSON *node, const char *path, struct issues *issues)
{
    char at[FIELD_PATH_MAX];
    check_shared(&queue_step_fields, c, node, path, issues);
    if (c->queue_type != QUEUE_RABBITMQ) {
        if (!c->queue_name)
            issue_add(issues, field_path(at, path, "queue_name"), node, "required, but missing");
    } else if (c->queue_name && (c->exchange || c->routing_key)) {
        issue_add_key(issues, field_path(at, path, "queue_name"), value_get(node, "queue_name"),
                      "beside `exchange` and `routing_key`; keep one of them");
    } else if (!c->queue_name && !c->exchange) {
        issue_add(issues, field_path(at, path, "queue_name"), node, "required, or `exchange` instead");
    }
}
