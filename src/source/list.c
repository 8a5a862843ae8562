#include "source/list.h"

const struct source_type *const source_types[] = {
    &source_file_watch,    &source_pipeline_completed,
    &source_message_queue, &source_custom,
    &source_schedule,      &source_webhook,
    &source_mcp_event,     NULL,
};

const struct kind *const source_kinds[] = {
    &source_file_watch.kind,    &source_pipeline_completed.kind,
    &source_message_queue.kind, &source_custom.kind,
    &source_schedule.kind,      &source_webhook.kind,
    &source_mcp_event.kind,     NULL,
};
