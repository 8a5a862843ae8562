/* Messages as events have them. Pure; thread: any. */
#ifndef TRIGGERD_SOURCE_QUEUE_DATA_H
#define TRIGGERD_SOURCE_QUEUE_DATA_H

#include "source/broker.h"

/* As much as an event that is emitted may have. Of a longer body only the beginning is kept. */
#define QUEUE_BODY_MAX ((size_t)1 << 20)
#define QUEUE_BODY_KEPT ((size_t)64 << 10)
#define QUEUE_BATCH_MAX ((size_t)4 << 20) /* bytes of bodies that make one event: then a batch is full */

/* {body or body_base64, queue, headers, key or key_base64, partition, offset, message_id, timestamp}: those that are
 * known. Takes `fields` and `headers`. A body longer than QUEUE_BODY_MAX: `body_bytes` says how long, and body is its
 * beginning. */
cJSON *queue_message_data(struct queue_message *m, bool *ret_too_large);
/* {messages, body} of several; what they are made of is copied. */
cJSON *queue_batch_data(const cJSON *const *messages, size_t n);

#endif
