/* What requests and answers look like, for /openapi.json: a shape is a table of members that stands beside the renderer
 * or the operation that it describes; members that a manifest holds come from its field table.
 *
 * A type is a word: `string integer number boolean time object any`, a form of text (`name endpoint path moment 1.0`: see
 * shape.c), or the name of a shape or of a set of words (`EventStatus`); `[X]` is a list of X, `{X}` an object with values X, `X?` X or null, `X|Y` either; a leading `-` means
 * that the member may be absent; `=` is the type that the field table gives it.
 *
 * The JSON Schemas made of them say nothing that OpenAPI 3.0 cannot say: no `const`, no lists of types, no conditions.
 * Thread: any.
 */
#ifndef TRIGGERD_API_SHAPE_H
#define TRIGGERD_API_SHAPE_H

#include "model/field.h"

struct shape_member {
    const char *name, *type, *doc;
};

struct shape {
    const char *name, *doc;
    const struct shape_member *members; /* ends with a NULL name */
    const struct field_table *fields;   /* what of it is wanted, not observed; NULL: nothing */
    unsigned flags;
};

enum {
    SHAPE_OPEN = 1 << 0,    /* may have members that are not told here */
    SHAPE_PARTIAL = 1 << 1, /* members of `fields` may be absent or null; else they are as in a manifest */
};

#define SHAPE(word, text, ...)                                                                                         \
    const struct shape shape_##word = {                                                                                \
        .name = #word, .doc = (text), .members = (const struct shape_member[]){__VA_ARGS__, {NULL, NULL, NULL}}}
#define SHAPE_OF(word, text, table, bits, ...)                                                                         \
    const struct shape shape_##word = {.name = #word,                                                                  \
                                       .doc = (text),                                                                  \
                                       .members = (const struct shape_member[]){__VA_ARGS__, {NULL, NULL, NULL}},      \
                                       .fields = (table),                                                              \
                                       .flags = (bits)}

/* clang-format off */
#define SHAPES(X) \
    X(Problem) X(ProblemError) \
    X(Condition) X(Source) X(Trigger) X(TriggerCreate) X(TriggerUpdate) X(TriggerList) X(TriggerResult) \
    X(TriggerDescription) X(FilteredEvent) X(Stats) \
    X(Event) X(EventList) X(Emit) X(Emitted) X(CloudEvent) X(DryRun) X(Replay) X(Replayed) X(EventBrief) \
    X(Pipeline) X(PipelineCreate) X(PipelineUpdate) X(PipelineList) X(PipelineResult) \
    X(Run) X(RunList) X(Step) X(RunRequest) X(CompletedRun) \
    X(Manifest) X(ManifestResource) X(ManifestError) X(ManifestList) X(ManifestText) X(ManifestSet) X(ManifestFile) \
    X(ManifestChange) X(ManifestChanges) X(DaemonStatus) \
    X(McpServer) X(McpServerList) X(McpServerResult) X(McpServerCreate) X(McpServerUpdate) X(McpTools) X(McpCall) \
    X(McpResult)
/* clang-format on */
#define SHAPE_DECLARE(word) extern const struct shape shape_##word;
SHAPES(SHAPE_DECLARE)
#undef SHAPE_DECLARE

/* The schema of a type; the caller's. It refers to #/components/schemas/NAME. */
cJSON *shape_type(const char *type);
/* All that types refer to, by name; the caller's. */
cJSON *shape_components(void);

#endif
