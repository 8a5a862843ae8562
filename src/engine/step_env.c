/* The variables that every child of a step gets. */
#include "engine/internal.h"

void step_env_each(const struct step_call *call, void (*fn)(void *ctx, const char *name, const char *value), void *ctx)
{
    char attempt[16];
    snprintf(attempt, sizeof(attempt), "%d", call->attempt);
    fn(ctx, "TRIGGERD_NODE_ID", call->env->node_id);
    fn(ctx, "TRIGGERD_RUN_ID", call->run_id);
    fn(ctx, "TRIGGERD_STEP_ID", call->step->id);
    fn(ctx, "TRIGGERD_PIPELINE_ID", call->pipeline_id);
    fn(ctx, "TRIGGERD_ATTEMPT", attempt);
    fn(ctx, "TRIGGERD_IDEMPOTENCY_KEY", call->idempotency_key);
    if (*call->event_id) {
        fn(ctx, "TRIGGERD_EVENT_ID", call->event_id);
        fn(ctx, "TRIGGERD_TRIGGER_ID", call->trigger_id);
    }
    if (*call->traceparent)
        fn(ctx, "TRACEPARENT", call->traceparent);
    if (call->env->socket_path)
        fn(ctx, "TRIGGERD_SOCKET", call->env->socket_path);
}

bool step_env_reserved(const char *name)
{
    static const char *const names[] = {"TRIGGERD_NODE_ID",     "TRIGGERD_RUN_ID",     "TRIGGERD_STEP_ID",
                                        "TRIGGERD_PIPELINE_ID", "TRIGGERD_ATTEMPT",    "TRIGGERD_IDEMPOTENCY_KEY",
                                        "TRIGGERD_EVENT_ID",    "TRIGGERD_TRIGGER_ID", "TRIGGERD_TAG"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (streq(name, names[i]))
            return true;
    return false;
}
