/* Calls of Amazon SQS and what speaks as it does: its JSON protocol (`POST /`), signed by libcurl (Signature Version 4).
 *
 * A call ends once, never from inside; what goes wrong is told with what the service says. Thread: the loop's. */
#ifndef TRIGGERD_CLIENT_SQS_H
#define TRIGGERD_CLIENT_SQS_H

#include "client/queue.h"

#define SQS_BATCH 10 /* entries of one call at most */
#define SQS_ANSWER_MAX ((size_t)16 << 20)

struct sqs_call;

/* `answer` is borrowed, NULL where `result` < 0: -ENOENT no such queue, -EACCES refused, -EINVAL a request that the
 * service does not take, -ETIMEDOUT, -ECONNREFUSED, -EIO. `reason` is a constant in CamelCase, `message` masked. */
typedef void sqs_done_fn(void *ctx, int result, const cJSON *answer, const char *reason, const char *message);

/* `action`: `ReceiveMessage`; takes `body`. It is given up after `timeout_ms`. */
struct sqs_call *sqs_call(const struct queue_env *env, struct queue_setup *setup, const char *action, cJSON *body,
                          int64_t timeout_ms, sqs_done_fn *done, void *ctx);
void sqs_call_cancel(struct sqs_call *c); /* NULL is allowed; not from inside its own done() */

#endif
