/* The JSON Schema (draft-07) of a manifest document, from the field tables: what editors complete and check by. */
#ifndef TRIGGERD_MANIFEST_SCHEMA_H
#define TRIGGERD_MANIFEST_SCHEMA_H

#include "model/field.h"

/* `manifest` (any document), `trigger`, `pipeline`, `mcp_server`; NULL for any other word. The caller's.
 *
 * It accepts every valid document. What it cannot say, and manifest_parse() does: cron expressions, time zones, globs,
 * paths, templates, regular expressions, addresses; bounds of event patterns and the order of numeric bounds; what is
 * between values (ids given twice, `needs`, steps that paths name). tests/mutate holds the two together. */
cJSON *manifest_schema(const char *kind);
/* The words above, NULL-terminated: schemas/WORD.json holds each. */
extern const char *const manifest_schema_kinds[];

/* A table by the name of a kind (`trigger`, `pipeline`, `mcp_server`, `step`, `retry`, a source type, a step type), NULL: none. */
const struct field_table *manifest_table(const char *name);
/* The names, NULL-terminated. */
const char *const *manifest_table_names(void);

#endif
