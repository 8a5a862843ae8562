/* The feed as server-sent events: an `id:` line with the position, a `data:` line with the event; what is missing as an
 * event of type `gap` with {"gap": N}, N null where it is not known. */
#ifndef TRIGGERD_HTTP_EVENT_STREAM_H
#define TRIGGERD_HTTP_EVENT_STREAM_H

#include "api/changes.h"
#include "api/feed.h"
#include "http/server.h"

/* Answers the request with a stream that lasts until the client goes or the server stops; the request's Last-Event-ID
 * says where it starts. */
void event_stream_open(struct feed *f, const struct feed_filter *filter, struct http_request *r);
/* The same of changes: messages {"changed": [KIND, …]}, without `id:`, for who comes again has to look again anyway. */
void change_stream_open(struct changes *c, unsigned kinds, const char *id, struct http_request *r);

#endif
