/* custom: events that somebody emits at an endpoint, by REST, `triggerctl emit`, or an `emit` step. A passive type: the
 * endpoint is a channel, and all the filters there share one index. */
#include "base/util.h"
#include "source/list.h"

struct config {
    char *endpoint;
};

static const struct field rows[] = {
    {.name = "endpoint",
     .type = &field_endpoint,
     FIELD(struct config, endpoint, char *, .flags = FIELD_REQUIRED, .change = CHANGE_SOURCE,
           .doc = "The name at which events are emitted", .example = "\"user_events\"")},
};
static const struct field_table table = {"custom", "Events emitted at an endpoint", sizeof(struct config), rows,
                                         ARRAY_SIZE(rows)};

static size_t channels(const void *config, struct channel_key *ret, size_t cap)
{
    const struct config *c = config;
    if (cap > 0)
        ret[0] = (struct channel_key){.text = c->endpoint};
    return 1;
}

const struct source_type source_custom = {
    .kind = {.name = "custom", .config = &table, .has_filter = true},
    .channels = channels,
};
