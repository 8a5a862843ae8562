/* What views show of the secrets that a manifest holds literally, and the way back.
 *
 *   a field with FIELD_SECRET       hunter22          →  ***          (references and templates in it are shown)
 *   headers of credentials          Bearer abc    →  ***          (Authorization …, of a field with FIELD_HEADERS, where
 *                                                                  no reference nor template is in it)
 *   the password of a URL           redis://:pw@h/0   →  redis://:***@h/0          (in any string)
 *
 * What is shown may be sent back in an edit: it means the text that it was shown for. Thread: any.
 */
#ifndef TRIGGERD_LANG_REDACT_H
#define TRIGGERD_LANG_REDACT_H

#include "model/field.h"

/* Hide in place. `table` describes the object, NULL: nothing in it is a field. */
void redact(const struct field_table *table, cJSON *tree);
/* Might redact() find something in a tree with this text? For sparing the work where it cannot. */
bool redact_wanted(const struct field_table *table, const char *text);
/* The text of a JSON value, with what is to be hidden in it hidden; the caller's. NULL: there is nothing, show it as it
 * is. */
char *redact_json(const struct field_table *table, const char *text);

/* `sent` was made from what redact() shows of `old`: where it still says so, it gets what `old` says, in URLs whose other
 * parts were edited as well. */
void redact_undo(const struct field_table *table, cJSON *sent, const cJSON *old);
/* The same of a member of what `table` describes. */
void redact_undo_member(const struct field_table *table, cJSON *sent, const cJSON *old);

#endif
