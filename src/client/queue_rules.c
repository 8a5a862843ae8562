/* What queue_source_validate() and queue_step_validate() demand, as far as JSON Schema can say it. */
#include "client/queue.h"

#define NO_REDIS                                                                                                       \
    "'redis_mode': false, 'pop': false, 'pattern': false, 'claim_idle_seconds': false, 'consumer_name': {'type': "     \
    "'null'}"
#define NO_GROUP "'consumer_group': {'type': 'null'}, 'start': false"
#define NO_RABBITMQ "'declare': false, 'queue_arguments': {'type': 'null'}, 'bind': {'type': 'null'}"
#define NO_KAFKA "'security': {'type': 'null'}, 'options': {'type': 'null'}"
#define NO_SQS "'region': {'type': 'null'}, 'endpoint_url': {'type': 'null'}, 'visibility_timeout_seconds': false"
#define NO_EXCHANGE "'exchange': {'type': 'null'}, 'routing_key': {'type': 'null'}"
#define NAMED "'required': ['queue_name']"
#define IF_TYPE(word)                                                                                                  \
    "{'if': {'required': ['queue_type'], 'properties': {'queue_type': {'const': '" word "'}}}, 'then': "
#define IF_MODE(word)                                                                                                  \
    "{'if': {'required': ['queue_type', 'redis_mode'], 'properties': {'queue_type': {'const': 'redis'}, "              \
    "'redis_mode': "                                                                                                   \
    "{'const': '" word "'}}}, 'then': "
#define REFERENCE "\\\\$\\\\{(env|file):[^}]+\\\\}$"
#define REDIS_URL                                                                                                      \
    "'connection_url': {'pattern': '^([rR][eE][dD][iI][sS]([sS]|\\\\+[uU][nN][iI][xX])?://|" REFERENCE ")'}"
#define AMQP_URL "'connection_url': {'pattern': '^([aA][mM][qQ][pP][sS]?://|" REFERENCE ")'}"
#define KAFKA_URL "'connection_url': {'pattern': '^([kK][aA][fF][kK][aA]://|" REFERENCE ")'}"
#define SQS_URL "'connection_url': {'pattern': '^([sS][qQ][sS]://|[hH][tT][tT][pP][sS]://|" REFERENCE ")'}"
/* TLS is asked for by the scheme. */
#define NO_TLS(pattern)                                                                                                \
    "{'if': {'required': ['queue_type', 'connection_url'], 'properties': {'connection_url': {'pattern': '" pattern     \
    "'}}}, 'then': {'properties': {'tls': {'type': 'null'}}}}"
#define SHARED_RULES                                                                                                   \
    NO_TLS("^([rR][eE][dD][iI][sS](\\\\+[uU][nN][iI][xX])?|[aA][mM][qQ][pP])://")                                      \
    ", {'properties': {'options': {'type': ['object', 'null'], 'patternProperties': {'^x-': {}}, "                     \
    "'additionalProperties': {'type': ['string', 'number', 'boolean']}},"                                              \
    "'endpoint_url': {'pattern': '^([hH][tT][tT][pP][sS]?://|" REFERENCE ")'},"                                        \
    "'security': {'if': {'required': ['protocol'], 'properties': {'protocol': {'pattern': '^sasl'}}}, 'then': "        \
    "{'required': ['username', 'password'], 'properties': {'username': {'type': 'string'}, 'password': {'type': "      \
    "'string'}}}, 'else': {'properties': {'username': {'type': 'null'}, 'password': {'type': 'null'}}}},"              \
    "'tls': {'properties': {'ca_file': {'pattern': '^/'}, 'cert_file': {'pattern': '^/'}, 'key_file': {'pattern': "    \
    "'^/'}}, 'anyOf': [{'properties': {'key_file': {'type': 'null'}}}, {'required': ['cert_file'], 'properties': "     \
    "{'cert_file': {'type': 'string'}}}]}}}"

/* clang-format off */
const char queue_source_rules[] = "["
    IF_TYPE("redis") "{'properties': {" REDIS_URL ", " NO_RABBITMQ ", " NO_KAFKA ", " NO_SQS "}}},"
    IF_TYPE("rabbitmq") "{'properties': {" AMQP_URL ", " NO_REDIS ", " NO_GROUP ", " NO_KAFKA ", " NO_SQS "}}},"
    IF_TYPE("kafka") "{'properties': {" KAFKA_URL ", " NO_REDIS ", " NO_RABBITMQ ", " NO_SQS "}}},"
    IF_TYPE("sqs") "{'properties': {" SQS_URL ", " NO_REDIS ", " NO_GROUP ", " NO_RABBITMQ ", " NO_KAFKA "}}},"
    IF_MODE("stream") "{'properties': {'pop': false, 'pattern': false}}},"
    IF_MODE("pubsub") "{'properties': {'pop': false, 'claim_idle_seconds': false, 'consumer_name': {'type': 'null'}, "
        NO_GROUP ", 'ack_mode': {'enum': ['auto']}}}},"
    "{'if': {'required': ['queue_type'], 'properties': {'queue_type': {'const': 'redis'}, 'redis_mode': {'const': "
        "'list'}}}, 'then': {'properties': {'pattern': false, 'claim_idle_seconds': false, 'consumer_name': {'type': "
        "'null'}, " NO_GROUP "}}},"
    "{'if': {'properties': {'ack_mode': {'const': 'auto'}}}, 'then': {'properties': {'on_failure': false}}},"
    "{'properties': {'queue_arguments': {'type': ['object', 'null']}}, 'anyOf': [{'properties': {'queue_arguments': "
        "{'type': 'null'}}}, {'required': ['declare'], 'properties': {'declare': {'const': true}}}]},"
    SHARED_RULES "]";

const char queue_step_rules[] = "["
    IF_TYPE("redis") "{" NAMED ", 'properties': {" REDIS_URL ", 'queue_name': {'type': 'string'}, " NO_EXCHANGE
        ", 'key': {'type': 'null'}, 'headers': {'type': 'null'}, 'message_id': {'type': 'null'}, " NO_KAFKA
        ", 'region': {'type': 'null'}, 'endpoint_url': {'type': 'null'}}}},"
    IF_TYPE("rabbitmq") "{'properties': {" AMQP_URL ", 'redis_mode': false, 'key': {'type': 'null'}, " NO_KAFKA
        ", 'region': {'type': 'null'}, 'endpoint_url': {'type': 'null'}},"
        "'oneOf': [{" NAMED ", 'properties': {'queue_name': {'type': 'string'}, " NO_EXCHANGE "}},"
        "{'required': ['exchange'], 'properties': {'exchange': {'type': 'string'}, 'queue_name': {'type': 'null'}}}]}},"
    IF_TYPE("kafka") "{" NAMED ", 'properties': {" KAFKA_URL ", 'queue_name': {'type': 'string'}, " NO_EXCHANGE
        ", 'redis_mode': false, 'message_id': {'type': 'null'}, 'region': {'type': 'null'}, 'endpoint_url': {'type': "
        "'null'}}}},"
    IF_TYPE("sqs") "{" NAMED ", 'properties': {" SQS_URL ", 'queue_name': {'type': 'string'}, " NO_EXCHANGE
        ", 'redis_mode': false, " NO_KAFKA "}}},"
    SHARED_RULES "]";
/* clang-format on */
