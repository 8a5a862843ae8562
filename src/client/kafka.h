/* librdkafka, loaded with the first consumer or producer: what the source, the publisher and the checks of options share.
 *
 *   kafka_open()     the library, the configuration, TLS files and the client itself, made on the pool
 *   kafka_dispose()  its end: librdkafka waits for its threads, so that is done on a thread of ours
 *
 * Two threads and one a broker run as long as a client does; without a Kafka trigger or step there are none. What they
 * have to say comes in librdkafka's queues; one of those wakes the loop by an eventfd (struct kafka_wake).
 *
 * librdkafka's functions are members of struct kafka_lib under their own names: `lib->rd_kafka_queue_poll()`.
 */
#ifndef TRIGGERD_CLIENT_KAFKA_H
#define TRIGGERD_CLIENT_KAFKA_H

#include "base/loop.h"
#include "client/queue.h"

#include <librdkafka/rdkafka.h>

#define KAFKA_FUNCTIONS(X)                                                                                             \
    X(rd_kafka_commit_queue)                                                                                           \
    X(rd_kafka_conf_destroy)                                                                                           \
    X(rd_kafka_conf_dump)                                                                                              \
    X(rd_kafka_conf_dump_free)                                                                                         \
    X(rd_kafka_conf_new)                                                                                               \
    X(rd_kafka_conf_set)                                                                                               \
    X(rd_kafka_conf_set_events)                                                                                        \
    X(rd_kafka_consumer_close_queue)                                                                                   \
    X(rd_kafka_consumer_closed)                                                                                        \
    X(rd_kafka_consumer_group_metadata)                                                                                \
    X(rd_kafka_consumer_group_metadata_destroy)                                                                        \
    X(rd_kafka_destroy_flags)                                                                                          \
    X(rd_kafka_err2str)                                                                                                \
    X(rd_kafka_error_code)                                                                                             \
    X(rd_kafka_error_destroy)                                                                                          \
    X(rd_kafka_error_string)                                                                                           \
    X(rd_kafka_event_destroy)                                                                                          \
    X(rd_kafka_event_error)                                                                                            \
    X(rd_kafka_event_error_is_fatal)                                                                                   \
    X(rd_kafka_event_error_string)                                                                                     \
    X(rd_kafka_event_log)                                                                                              \
    X(rd_kafka_event_message_next)                                                                                     \
    X(rd_kafka_event_stats)                                                                                            \
    X(rd_kafka_event_topic_partition)                                                                                  \
    X(rd_kafka_event_topic_partition_list)                                                                             \
    X(rd_kafka_event_type)                                                                                             \
    X(rd_kafka_get_watermark_offsets)                                                                                  \
    X(rd_kafka_header_add)                                                                                             \
    X(rd_kafka_header_get_all)                                                                                         \
    X(rd_kafka_headers_copy)                                                                                           \
    X(rd_kafka_headers_destroy)                                                                                        \
    X(rd_kafka_headers_new)                                                                                            \
    X(rd_kafka_incremental_assign)                                                                                     \
    X(rd_kafka_incremental_unassign)                                                                                   \
    X(rd_kafka_assignment_lost)                                                                                        \
    X(rd_kafka_message_detach_headers)                                                                                 \
    X(rd_kafka_message_timestamp)                                                                                      \
    X(rd_kafka_new)                                                                                                    \
    X(rd_kafka_offsets_for_times)                                                                                      \
    X(rd_kafka_poll_set_consumer)                                                                                      \
    X(rd_kafka_produceva)                                                                                              \
    X(rd_kafka_purge)                                                                                                  \
    X(rd_kafka_queue_destroy)                                                                                          \
    X(rd_kafka_queue_forward)                                                                                          \
    X(rd_kafka_queue_get_consumer)                                                                                     \
    X(rd_kafka_queue_get_main)                                                                                         \
    X(rd_kafka_queue_get_partition)                                                                                    \
    X(rd_kafka_queue_io_event_enable)                                                                                  \
    X(rd_kafka_queue_new)                                                                                              \
    X(rd_kafka_queue_poll)                                                                                             \
    X(rd_kafka_seek_partitions)                                                                                        \
    X(rd_kafka_set_log_queue)                                                                                          \
    X(rd_kafka_subscribe)                                                                                              \
    X(rd_kafka_topic_partition_destroy)                                                                                \
    X(rd_kafka_topic_partition_list_add)                                                                               \
    X(rd_kafka_topic_partition_list_copy)                                                                              \
    X(rd_kafka_topic_partition_list_destroy)                                                                           \
    X(rd_kafka_topic_partition_list_new)

struct kafka_lib {
#define MEMBER(f) __typeof__ (&(f))(f);
    KAFKA_FUNCTIONS(MEMBER)
#undef MEMBER
};

/* Any thread; waits for the disk where it was not loaded yet. It stays loaded. -ENOPKG: it is not there. */
int kafka_lib_load(struct kafka_lib *ret, struct error *err);

/* What is wrong with `options`: names that librdkafka does not know, values that it does not take, and what has a key of
 * ours. Where the library is missing, values are not looked at. `node` is the config as written. Any thread. */
void kafka_options_validate(const struct queue_config *c, const cJSON *node, const char *path, struct issues *issues);

/* A reason in CamelCase, a constant, for an error of librdkafka's; `text` is its message. */
const char *kafka_reason(rd_kafka_resp_err_t code, const char *text);
/* The same as negative errno. */
int kafka_errno(rd_kafka_resp_err_t code, const char *text);
/* librdkafka's log line of an event, to the debug log. */
void kafka_log_event(const struct kafka_lib *lib, rd_kafka_event_t *ev, const struct mask *mask);

/* ---- a client's begin and end ---- */

/* What a consumer reads ahead, of all its partitions, and one answer of the broker beyond it. A message takes about
 * a quarter of a kilobyte there beside its own bytes. */
#define KAFKA_AHEAD_MESSAGES 5000
#define KAFKA_AHEAD_KBYTES 4096

/* *lib and rk are the callee's to keep; rk NULL: `err` says why, and `reason` is as kafka_reason(). */
typedef void kafka_opened_fn(void *ctx, const struct kafka_lib *lib, rd_kafka_t *rk, const char *reason,
                             const struct error *err);
struct kafka_opening;
/* `done` comes once, from the loop. The setup is referenced meanwhile. */
struct kafka_opening *kafka_open(struct loop *loop, const struct self_mount *avoid, struct queue_setup *setup,
                                 rd_kafka_type_t type, kafka_opened_fn *done, void *ctx);
/* `done` is not called any more; what was made is disposed of. */
void kafka_open_abandon(struct kafka_opening *o);

/* Ends a client whose queues and events are gone. `leave`: it left its group properly (rd_kafka_consumer_closed()), or
 * has none. `done` (NULL: nobody waits) comes once, from the loop, at the latest after KAFKA_DISPOSE_MS: then its threads
 * are left to themselves. */
#define KAFKA_DISPOSE_MS 5000
void kafka_dispose(struct loop *loop, const struct kafka_lib *lib, rd_kafka_t *rk, bool leave, void (*done)(void *ctx),
                   void *ctx);

/* What wakes the loop for queues. */
struct kafka_wake {
    int fd; /* an eventfd; -1: closed */
    struct loop_poll poll;
    void (*fn)(void *ctx);
    void *ctx;
};
int kafka_wake_open(struct loop_group *group, struct kafka_wake *w, void (*fn)(void *ctx), void *ctx);
void kafka_wake_add(struct kafka_wake *w, const struct kafka_lib *lib, rd_kafka_queue_t *queue);
/* `queue` wakes nobody any more, and is destroyed. */
void kafka_wake_remove(const struct kafka_lib *lib, rd_kafka_queue_t *queue);
/* After all queues are removed, and before the group is gone: nothing is called any more. */
void kafka_wake_close(struct kafka_wake *w);
void kafka_wake_fini(struct kafka_wake *w); /* after the poll's close: the descriptor */

/* ---- publishing what came from Kafka, byte for byte ---- */

struct kafka_record {
    const char *topic;
    const char *body; /* NULL: a tombstone */
    size_t len;
    const char *key; /* NULL: none */
    size_t key_len;
    const rd_kafka_headers_t *headers; /* NULL: none; copied */
};
/* As queue_publisher_type.send() of kafka_publisher. */
struct queue_publish *kafka_publish_record(struct queue_publisher *publisher, const struct kafka_lib *lib,
                                           struct queue_setup *setup, const char *key,
                                           const struct kafka_record *record, queue_published_fn *done, void *ctx);

#endif
