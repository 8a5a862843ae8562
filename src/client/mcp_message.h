/* JSON-RPC 2.0 as MCP uses it: messages out of text and into text. Pure; thread: any. */
#ifndef TRIGGERD_CLIENT_MCP_MESSAGE_H
#define TRIGGERD_CLIENT_MCP_MESSAGE_H

#include "model/value.h"

#define MCP_VERSION_OFFERED "2025-11-25"
#define MCP_VERSIONS_TEXT "2024-11-05, 2025-03-26, 2025-06-18, 2025-11-25"
/* Is it one that is spoken here? */
bool mcp_version_known(const char *version);
/* May several messages come as an array under it? */
bool mcp_version_batches(const char *version);

#define MCP_ERROR_METHOD_NOT_FOUND (-32601)

enum mcp_kind { MCP_REQUEST, MCP_NOTIFICATION, MCP_ANSWER };

/* Borrowed from the tree that it was read from. */
struct mcp_message {
    enum mcp_kind kind;
    const char *method;  /* of a request and a notification */
    const cJSON *id;     /* of a request: a string or a number; of an answer: the same, or null */
    const cJSON *params; /* an object, or NULL */
    cJSON *result;       /* of an answer; NULL: it has an error */
    const cJSON *error;
};
/* False: it is no message; *ret_why says why not. */
bool mcp_message_read(const cJSON *v, struct mcp_message *ret, const char **ret_why);

/* The texts are malloc'ed; `params`, `result` and `id` are borrowed, NULL params are left out. */
char *mcp_request_text(int64_t id, const char *method, const cJSON *params);
char *mcp_notification_text(const char *method, const cJSON *params);
char *mcp_result_text(const cJSON *id, const cJSON *result);
char *mcp_error_text(const cJSON *id, int code, const char *message);

/* What an error object of an answer says: its message with its code, on one line; malloc'ed. */
char *mcp_error_words(const cJSON *error);

/* What the answer to `tools/call` says: its `structuredContent`, else its text, parsed if it is JSON, else {"text"}; the
 * caller's. *ret_failed: it is an error, whose text is *ret_text (malloc'ed). */
cJSON *mcp_tool_output(const cJSON *result, bool *ret_failed, char **ret_text);

/* The event that a log message carries: the member `event`, else `type`, of its `data`; NULL: none. */
const char *mcp_domain_event(const cJSON *params);

#endif
