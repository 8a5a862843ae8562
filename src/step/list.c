#include "step/list.h"

const struct step_type *const step_types[] = {&step_exec, &step_worker, &step_http, &step_publish,
                                              &step_emit, &step_mcp,    NULL};

const struct kind *const step_kinds[] = {
    &step_exec.kind, &step_worker.kind, &step_http.kind, &step_publish.kind, &step_emit.kind, &step_mcp.kind, NULL};
