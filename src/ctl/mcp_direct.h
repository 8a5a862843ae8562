/* An MCP server that triggerctl speaks with itself: no daemon is needed. One request, or a look at what it sends. */
#ifndef TRIGGERD_CTL_MCP_DIRECT_H
#define TRIGGERD_CTL_MCP_DIRECT_H

#include "base/error.h"
#include "model/value.h"

/* What to speak with: a command with its arguments (NULL-terminated, as execvp() takes them), which gets this process's
 * environment, or a URL. */
struct mcp_place {
    const char *const *command; /* NULL: it has a URL */
    const char *url;
    double timeout_seconds;
};

/* Told while a request is under way; NULL: nobody asks. */
struct mcp_told {
    void (*notification)(void *ctx, const char *method, const cJSON *params);
    void (*log)(void *ctx, const char *text);
    void *ctx;
};

/* One request; `params` is taken. `member`: of a list, all of whose pages are asked for (*ret is an array). 0: *ret is
 * the result, the caller's; else as struct mcp_result has it, or of what could not be set up. */
int mcp_direct_ask(const struct mcp_place *place, const char *method, cJSON *params, const char *member,
                   const struct mcp_told *told, cJSON **ret, struct error *err);
/* What it sends, until SIGINT or SIGTERM, or the connection fails. */
int mcp_direct_listen(const struct mcp_place *place, const struct mcp_told *told, struct error *err);

#endif
