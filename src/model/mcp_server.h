/* An MCP server as its manifest wants it: a command that is spoken with over its standard input and output, or a URL.
 * Immutable once parsed, and counted (loop thread only). Its name is its id among resources. */
#ifndef TRIGGERD_MODEL_MCP_SERVER_H
#define TRIGGERD_MODEL_MCP_SERVER_H

#include "model/field.h"

#define MCP_TIMEOUT_DEFAULT 30.0

struct mcp_root {
    char *uri;
    char *name; /* NULL: none */
};

struct mcp_server {
    unsigned refs;
    char *name;
    char *command; /* NULL: it has a URL */
    struct strings args;
    cJSON *env; /* object of strings; NULL: none */
    char *cwd;  /* NULL: triggerd's */
    char *url;  /* NULL: it has a command */
    cJSON *headers;
    struct strings subscribe; /* URIs of resources */
    int log_level;            /* index into mcp_log_levels; 0: it is not set */
    struct objects roots;     /* of struct mcp_root */
    double timeout_seconds;
};

extern const struct field_table mcp_server_fields;
extern const char *const mcp_log_levels[]; /* NULL-terminated */
/* What the table cannot say, as JSON Schema can: as kind.rules. */
extern const char mcp_server_rules[];

/* Parse a document. *ret is set (one reference) when no error was added. */
int mcp_server_parse(const cJSON *doc, struct mcp_server **ret, struct issues *issues);
struct mcp_server *mcp_server_ref(struct mcp_server *s);
void mcp_server_unref(struct mcp_server *s); /* NULL is allowed */
bool mcp_server_equal(const struct mcp_server *a, const struct mcp_server *b);
/* Does an edit from a to b need another connection? */
bool mcp_server_reconnects(const struct mcp_server *a, const struct mcp_server *b);

#endif
