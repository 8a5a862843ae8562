/* Every kind of source. Adding one touches its file, this list, its test and its example. */
#ifndef TRIGGERD_SOURCE_LIST_H
#define TRIGGERD_SOURCE_LIST_H

#include "engine/source_type.h"

extern const struct source_type source_custom;
extern const struct source_type source_file_watch;
extern const struct source_type source_message_queue;
extern const struct source_type source_mcp_event;
extern const struct source_type source_pipeline_completed;
extern const struct source_type source_schedule;
extern const struct source_type source_webhook;

/* NULL-terminated. */
extern const struct source_type *const source_types[];
/* The same as kinds, for the model's parsers. */
extern const struct kind *const source_kinds[];

#endif
