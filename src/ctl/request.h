/* Requests to the daemon as verbs make them: paths put together, failures told on standard error. */
#ifndef TRIGGERD_CTL_REQUEST_H
#define TRIGGERD_CTL_REQUEST_H

#include "base/util.h"
#include "ctl/table.h"
#include "model/value.h"

/* A path in the making: literal text, then encoded parts and parameters. */
void url_add(struct buf *url, const char *literal);
void url_part(struct buf *url, const char *text);
/* `?name=text` or `&name=text`; nothing where text is NULL. */
void url_param(struct buf *url, const char *name, const char *text);

/* One request. CTL_OK: *ret (unless ret is NULL) is the answer as a value, owned by the caller. Else it is the exit
 * code, and what went wrong was said: the daemon's `detail`, with a line for each of its `errors`. */
int ctl_call(struct ctl *c, const struct client_request *request, cJSON **ret);
int ctl_get(struct ctl *c, const char *path, cJSON **ret);
/* `body` NULL: none. */
int ctl_send(struct ctl *c, const char *method, const char *path, const char *body, cJSON **ret);

/* A refusal as it came: the daemon's `detail`, with a line for each of its `errors`. */
void ctl_tell_problem(const struct client_reply *reply);

/* The answer as it came, whatever its status; says only what went wrong on the way. Free ret->body. */
int ctl_raw(struct ctl *c, const struct client_request *request, struct client_reply *ret);

#endif
