/* Inside the routes: one request on its way to an operation of the api, and its answer on the way back. */
#ifndef TRIGGERD_HTTP_EXCHANGE_H
#define TRIGGERD_HTTP_EXCHANGE_H

#include "http/routes.h"

#define SEGMENTS_MAX 8
#define IDEMPOTENCY_KEY_MAX 255

struct route;

/* Lives until it is answered. */
struct exchange {
    struct routes *routes;
    const struct route *route; /* set when its handler is called */
    struct api *api;
    struct http_request *request;
    char *args[SEGMENTS_MAX]; /* what stood at the `*` of the pattern, decoded; owned */
    size_t n_args;
    cJSON *body;
    /* query parameters, parsed */
    struct api_list list;
    bool enabled_only, dry_run, discard;
    int64_t offset;
    const char *trigger_type, *kind, *id, *server_name;
};

void exchange_free(struct exchange *x);
/* Where its answer goes; with it the exchange ends. */
struct api_call call_of(struct exchange *x);
/* A body that must be an object: issues for it, and for members that nobody knows. False: it is none. */
bool known_members(struct exchange *x, const char *const *known, size_t n, struct issues *issues);
/* 422; with it the exchange ends. */
void answer_issues(struct exchange *x, const char *what, struct issues *issues);
/* The Idempotency-Key that came with it, NULL: none; an issue for one that is none. */
const char *idempotency_key_of(struct exchange *x, struct issues *issues);
/* A problem with one header of its own; ends the exchange. */
void refuse_with(struct exchange *x, int status, const char *detail, const char *header, const char *value);
/* The trace that came with it, whatever it is; NULL: none. */
const char *traceparent_of(struct exchange *x);
bool is_json_type(const char *content_type); /* NULL: yes */

/* hooks.c: a request to /hooks/PATH. */
void hooks_handle(struct exchange *x, const char *path);
/* page.c: GET /. */
void page_handle(struct exchange *x);
/* mcp.c */
void emit_mcp_handle(struct exchange *x);
void mcp_list_handle(struct exchange *x);
void mcp_get_handle(struct exchange *x);
void mcp_create_handle(struct exchange *x);
void mcp_update_handle(struct exchange *x);
void mcp_delete_handle(struct exchange *x);
void mcp_tools_handle(struct exchange *x);
void mcp_call_handle(struct exchange *x);
void mcp_stream_handle(struct exchange *x);
/* cloudevents.c: POST /api/v1/cloudevents. */
void cloudevents_handle(struct exchange *x);

#endif
