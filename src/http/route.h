/* The table of routes: what a request is dispatched by (dispatch.c) and what /openapi.json says (openapi.c). */
#ifndef TRIGGERD_HTTP_ROUTE_H
#define TRIGGERD_HTTP_ROUTE_H

#include "http/exchange.h"

typedef void handler_fn(struct exchange *x);

enum { BODY_NONE, BODY_OPTIONAL, BODY_REQUIRED, BODY_RAW /* the handler reads it */ };

struct route {
    const char *method;
    const char *pattern; /* segments; `*` is an argument */
    handler_fn *handler;
    int body;
    const char *params; /* query parameters, blank-separated, NULL: none; `status=EventStatus`: the words it takes */
    enum access_scope scope;
    const char *summary;  /* without a full stop */
    const char *args;     /* names of the arguments, blank-separated */
    const char *request;  /* type of the body, as in api/shape.h; NULL: none */
    const char *answer;   /* type of what is given on success; TEXT, BYTES, STREAM, HTML: not JSON */
    const char *problems; /* statuses of its own, beside those that every route may give */
};

#define ANSWER_TEXT "text/plain"
#define ANSWER_BYTES "application/octet-stream"
#define ANSWER_STREAM "text/event-stream"
#define ANSWER_HTML "text/html"

extern const struct route http_routes[];
extern const size_t http_routes_n;

/* ---- query parameters ---- */

struct param {
    const char *name;
    enum { PARAM_TEXT, PARAM_COUNT, PARAM_TIME, PARAM_BOOL } kind;
    size_t offset; /* in struct exchange */
    int64_t min, max;
    const char *expected; /* what a bad value is told; NULL: every text is taken */
    const char *doc;
};

extern const struct param http_params[];
extern const size_t http_params_n;

const struct param *param_find(const char *name, size_t len); /* NULL: none */
/* One parameter, which must be one of the table, into the exchange; NULL, or what was expected. */
const char *take_param(struct exchange *x, const char *key, const char *value);

/* The document; the caller's. */
char *openapi_text(void);

#endif
