/* What a worker is told and what it answers, as text: one JSON object a line, each way. Pure: no loop, no I/O.
 *
 *   {"id":7,"run_id":"run_…","step":"s","attempt":1,"idempotency_key":"run_…/s","traceparent":"00-…","inputs":{…}}
 *   {"id":7,"output":…}   or   {"id":7,"error":"…"}       other members are ignored
 *
 * An id is an integer that comes first in its line, so that a shell can cut it out. Ownership as told below. Thread: any.
 */
#ifndef TRIGGERD_STEP_WORKER_LINE_H
#define TRIGGERD_STEP_WORKER_LINE_H

#include "base/util.h"
#include "model/value.h"

#define WORKER_LINE_MAX ((size_t)1 << 20) /* bytes of an answer, without its newline */
#define WORKER_ERROR_MAX ((size_t)4096)   /* bytes of its `error` that are kept */

struct worker_request {
    int64_t id;
    const char *run_id, *step, *idempotency_key;
    const char *traceparent; /* "": left out */
    int attempt;
    const char *inputs_text; /* a JSON object */
};
/* The line with its newline, added to `out`. */
void worker_request_print(const struct worker_request *r, struct buf *out);

struct worker_answer {
    int64_t id;
    cJSON *output; /* the caller's; NULL where there is an error */
    char *error;   /* the caller's; NULL where there is an output */
};
/* -EINVAL: it is no answer; the message says why and shows the beginning of it. */
int worker_answer_parse(const char *line, size_t len, struct worker_answer *ret, struct error *err);
void worker_answer_fini(struct worker_answer *a);

#endif
