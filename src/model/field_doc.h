/* What a field's row says, in words: for `explain` and the manual pages. */
#ifndef TRIGGERD_MODEL_FIELD_DOC_H
#define TRIGGERD_MODEL_FIELD_DOC_H

#include "base/util.h"
#include "model/field.h"

/* Which values are allowed, beside the type; nothing where any are. */
void field_add_bounds(struct buf *b, const struct field *f);
/* The type, its bounds, and the default or that it is required, on one line: `integer, 1 to 1000; default 1`. */
void field_add_summary(struct buf *b, const struct field *f);

#endif
