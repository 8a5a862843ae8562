/* message_queue: what main.c needs of it. */
#ifndef TRIGGERD_SOURCE_MESSAGE_QUEUE_H
#define TRIGGERD_SOURCE_MESSAGE_QUEUE_H

#include "source/queue_consumer.h"

/* By enum queue_type; NULL where there is none. */
extern const struct broker_type *const queue_brokers[QUEUE_TYPES];

#endif
