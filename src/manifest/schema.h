/* The JSON Schema (draft-07) of a manifest document, from the field tables: what editors complete and check by. */
#ifndef TRIGGERD_MANIFEST_SCHEMA_H
#define TRIGGERD_MANIFEST_SCHEMA_H

#include "model/field.h"

/* Of any document: a trigger or a pipeline. The caller's. */
cJSON *manifest_schema(void);

/* A table by the name of a kind (`trigger`, `pipeline`, `step`, `retry`, a source type, a step type), NULL: none. */
const struct field_table *manifest_table(const char *name);
/* The names, NULL-terminated. */
const char *const *manifest_table_names(void);

#endif
