/* Manual pages in man(7), made of the tables that programs go by. */
#ifndef TRIGGERD_MANIFEST_MAN_H
#define TRIGGERD_MANIFEST_MAN_H

#include "base/util.h"
#include "model/field.h"

/* `.TH`, and NAME; `name` in lower case. */
void man_begin(struct buf *b, const char *name, int section, const char *title, const char *about);
void man_section(struct buf *b, const char *title);
void man_subsection(struct buf *b, const char *title);
/* Text of any kind, escaped, with a line break in the source after each of its own; an empty line starts a paragraph. */
void man_text(struct buf *b, const char *text);
/* The same as it stands, in the font of what is typed. */
void man_example(struct buf *b, const char *text);
/* A tagged paragraph: `tag` in bold, `value` in italics (NULL: none), then what it means. */
void man_item(struct buf *b, const char *tag, const char *value, const char *text);
/* An item a field, those of sub-tables within it. */
void man_fields(struct buf *b, const struct field_table *t);
/* `name(section)`, comma-separated, as SEE ALSO. */
void man_see_also(struct buf *b, const char *const *pages);

#endif
