#include "model/field_doc.h"

static void add_range(struct buf *b, const struct field *f)
{
    bool open = f->flags & FIELD_MIN_OPEN;
    if (f->max < 1e15)
        buf_printf(b, open ? "more than %.15g, at most %.15g" : "%.15g to %.15g", f->min, f->max);
    else
        buf_printf(b, open ? "more than %.15g" : "at least %.15g", f->min);
}

void field_add_bounds(struct buf *b, const struct field *f)
{
    const struct field_type *t = f->type;
    bool not_empty = f->flags & FIELD_NOT_EMPTY;
    if (f->words) {
        for (size_t i = 0; f->words[i]; i++)
            buf_printf(b, "%s%s", i ? ", " : "", f->words[i]);
    } else if (t == &field_int || t == &field_number || t == &field_seconds) {
        add_range(b, f);
    } else if (t == &field_id) {
        buf_adds(b, "[a-z0-9][a-z0-9_.-]{0,62}");
    } else if (t == &field_endpoint) {
        buf_adds(b, "[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}");
    } else if (f->max > 0) {
        buf_printf(b, "%sat most %.0f %s", not_empty ? "not empty, " : "", f->max,
                   t == &field_strings ? "entries" : "characters");
    } else if (not_empty) {
        buf_adds(b, "not empty");
    }
}

void field_add_summary(struct buf *b, const struct field *f)
{
    struct buf bounds = {0};
    bool one_of = f->type == &field_enum;
    field_add_bounds(&bounds, f);
    buf_adds(b, one_of ? "one of" : f->type->name);
    if (bounds.len > 0)
        buf_printf(b, "%s%s", one_of ? " " : f->words ? " of " : ", ", bounds.data);
    if (f->flags & FIELD_REQUIRED)
        buf_adds(b, "; required");
    else if (f->default_json)
        buf_printf(b, "; default %s", f->default_json);
    buf_fini(&bounds);
}
