/* explain: what the field tables say, as a page. */
#include "ctl/print.h"
#include "ctl/table.h"
#include "manifest/kinds.h"
#include "model/field_doc.h"
#include "model/mcp_server.h"
#include "model/pipeline.h"
#include "model/trigger.h"

#include <assert.h>
#include <stdio.h>

#define NAMES_MAX 128
#define COLUMNS 110

/* ---- finding a place in the tables ---- */

/* A table, or one field of a table. */
struct place {
    const struct field_table *table;
    const struct field *field;
    const struct kind *kind; /* where the table is the config of one */
    bool is_source;
};

struct names {
    const char *items[NAMES_MAX];
    size_t n;
};

static void names_add(struct names *names, const char *name)
{
    if (names->n < NAMES_MAX)
        names->items[names->n++] = name;
}

/* A field of a table. */
static bool find_field(const struct field_table *table, const char *name, struct place *ret, struct names *names)
{
    for (size_t i = 0; i < table->n; i++) {
        names_add(names, table->fields[i].name);
        if (streq(table->fields[i].name, name)) {
            *ret = (struct place){.table = table, .field = &table->fields[i]};
            return true;
        }
    }
    return false;
}

static bool find_kind(const struct kind *const *kinds, bool is_source, const char *name, struct place *ret,
                      struct names *names)
{
    for (size_t i = 0; kinds[i]; i++) {
        names_add(names, kinds[i]->name);
        if (!streq(kinds[i]->name, name))
            continue;
        *ret = (struct place){.table = kinds[i]->config, .kind = kinds[i], .is_source = is_source};
        return true;
    }
    return false;
}

#define ROOTS 5
static void get_roots(const struct field_table *ret[ROOTS])
{
    ret[0] = &trigger_fields;
    ret[1] = &pipeline_fields;
    ret[2] = &mcp_server_fields;
    ret[3] = &step_fields;
    ret[4] = fields_find(&step_fields, "retry")->sub;
}

/* The first word of a path. */
static bool find_root(const char *name, struct place *ret, struct names *names)
{
    const struct field_table *tables[ROOTS];
    get_roots(tables);
    for (size_t i = 0; i < ROOTS; i++) {
        names_add(names, tables[i]->name);
        if (streq(tables[i]->name, name)) {
            *ret = (struct place){.table = tables[i]};
            return true;
        }
    }
    return find_kind(manifest_source_kinds(), true, name, ret, names) ||
           find_kind(manifest_step_kinds(), false, name, ret, names);
}

/* `input_mapping`, which every type of trigger takes in its config too. */
static bool find_mapping(const char *name, struct place *ret, struct names *names)
{
    const struct field *mapping = fields_find(&trigger_fields, "input_mapping");
    names_add(names, mapping->name);
    if (!streq(mapping->name, name))
        return false;
    *ret = (struct place){.table = &trigger_fields, .field = mapping};
    return true;
}

/* A key of a trigger's config that only one type has, without the type, as errors in manifests name it. */
static bool find_only(const char *name, struct place *ret)
{
    unsigned found = 0;
    for (size_t i = 0; manifest_source_kinds()[i]; i++) {
        const struct kind *kind = manifest_source_kinds()[i];
        const struct field *f = fields_find(kind->config, name);
        if (f && ++found == 1)
            *ret = (struct place){.table = kind->config, .field = f, .is_source = true};
    }
    return found == 1;
}

/* A word below a place: a field of its table; below `trigger.config` the name of a kind, what all have or one has
 * alone, below a kind of trigger what its config has from all, below `pipeline.steps` what a step has, below `step` the name of a kind. */
static bool find_below(const struct place *from, const char *name, struct place *ret, struct names *names)
{
    const struct field_table *table = from->field ? from->field->sub : from->table;
    if (from->field && from->table == &trigger_fields && streq(from->field->name, "config"))
        return find_kind(manifest_source_kinds(), true, name, ret, names) ||
               find_field(&trigger_filter_fields, name, ret, names) || find_mapping(name, ret, names) ||
               find_only(name, ret);
    if (from->field && from->table == &pipeline_fields && streq(from->field->name, "steps"))
        table = &step_fields;
    if (table && find_field(table, name, ret, names))
        return true;
    if (from->kind && from->is_source)
        return (from->kind->has_filter && find_field(&trigger_filter_fields, name, ret, names)) ||
               find_mapping(name, ret, names);
    return table == &step_fields && find_kind(manifest_step_kinds(), false, name, ret, names);
}

/* The next word of a path, the first below nothing. */
static bool find_next(const struct place *at, bool first, const char *word, struct place *ret, struct names *names)
{
    if (!(first ? find_root(word, ret, names) : find_below(at, word, ret, names)))
        return false;
    ret->is_source = ret->is_source || (ret->field && at->is_source);
    return true;
}

size_t explain_below(const char *path, const char **ret, size_t cap)
{
    struct place at = {0}, next = {0};
    struct names names = {0};
    bool first = true;
    _cleanup_(freep) char *text = xstrdup(path);
    char *rest = text;
    for (char *word; (word = strsep(&rest, ".")); first = false) {
        if (!find_next(&at, first, word, &next, &names))
            return 0;
        at = next;
    }
    names.n = 0;
    find_below(&at, "", &next, &names);
    size_t n = MIN(names.n, cap);
    for (size_t i = 0; i < n; i++)
        ret[i] = names.items[i];
    return n;
}

/* ---- where else a name stands ---- */

/* Each `path.…name` in a table and those below it, as ` or "PATH"`. */
static void add_paths(struct buf *b, const char *path, const struct field_table *table, const char *name)
{
    for (size_t i = 0; i < table->n; i++) {
        const struct field *f = &table->fields[i];
        if (streq(f->name, name))
            buf_printf(b, "%s\"%s.%s\"", b->len ? " or " : "", path, name);
        if (!f->sub)
            continue;
        _cleanup_(freep) char *below = xasprintf("%s.%s", path, f->name);
        add_paths(b, below, f->sub, name);
    }
}

/* Every path at which a field of this name is found. */
static void add_places(struct buf *b, const char *name)
{
    const struct field_table *tables[ROOTS];
    get_roots(tables);
    for (size_t i = 0; i < ROOTS; i++)
        add_paths(b, tables[i]->name, tables[i], name);
    for (size_t i = 0; manifest_source_kinds()[i]; i++) {
        const struct kind *kind = manifest_source_kinds()[i];
        add_paths(b, kind->name, kind->config, name);
        if (kind->has_filter)
            add_paths(b, kind->name, &trigger_filter_fields, name);
    }
    for (size_t i = 0; manifest_step_kinds()[i]; i++)
        add_paths(b, manifest_step_kinds()[i]->name, manifest_step_kinds()[i]->config, name);
}

static const char *change_text(enum field_change change)
{
    switch (change) {
    case CHANGE_SOURCE:
        return "an edit reconnects the source";
    case CHANGE_TRIGGER:
        return "an edit starts the trigger anew";
    default:
        return "an edit takes effect at once";
    }
}

/* ---- explain ---- */

static void print_field(const struct place *p, const char *path)
{
    const struct field *f = p->field;
    struct buf bounds = {0}, doc = {0};
    field_add_bounds(&bounds, f);
    text_wrap(&doc, "", f->doc, COLUMNS);
    printf("%s\n\n%s\n", path, doc.data);
    print_line(false, "type", f->type->name);
    print_line(false, f->words ? "one of" : "range", bounds.data);
    print_line(false, "default",
               f->flags & FIELD_REQUIRED ? "none: required"
               : f->default_json         ? f->default_json
                                         : "none");
    print_line(false, "example", f->example);
    if (p->table == &trigger_fields || p->is_source)
        print_line(false, "change", change_text(f->change));
    buf_fini(&bounds);
    buf_fini(&doc);
}

/* `name  type, range; default`, and below it what it means. */
static void print_row(const struct field *f)
{
    struct buf b = {0}, doc = {0};
    field_add_summary(&b, f);
    text_wrap(&doc, "      ", f->doc, COLUMNS);
    printf("  %s  %s\n%s", f->name, b.data, doc.data);
    buf_fini(&b);
    buf_fini(&doc);
}

static void print_kinds(const char *title, const struct kind *const *kinds)
{
    printf("\n%s:\n", title);
    for (size_t i = 0; kinds[i]; i++)
        printf("  %-20s %s\n", kinds[i]->name, kinds[i]->config->doc);
}

static void print_table(const struct field_table *t, const struct kind *kind, bool is_source)
{
    printf("%s: %s\n\n", t->name, t->doc);
    for (size_t i = 0; i < t->n; i++)
        print_row(&t->fields[i]);
    if (is_source && kind->has_filter)
        print_row(&trigger_filter_fields.fields[0]);
    if (is_source)
        print_row(fields_find(&trigger_fields, "input_mapping"));
    if (t == &trigger_fields)
        print_kinds("trigger types, each with a config of its own", manifest_source_kinds());
    if (t == &step_fields)
        print_kinds("kinds of work, of which a step has one", manifest_step_kinds());
}

static int not_found(const char *word, const char *path, const struct names *names)
{
    const char *near = nearest_name(word, names->items, names->n);
    const char *place = *path ? path : "the manifests";
    struct buf elsewhere = {0};
    add_places(&elsewhere, word);
    if (elsewhere.len > 0)
        complain("there is no \"%s\" in %s; did you mean %s?", word, place, elsewhere.data);
    else if (near)
        complain("there is no \"%s\" in %s; did you mean \"%s\"?", word, place, near);
    else
        complain("there is no \"%s\" in %s: it has no fields of its own", word, place);
    buf_fini(&elsewhere);
    return CTL_FAILED;
}

int verb_explain(struct ctl *c, const struct args *a)
{
    (void)c;
    struct place at = {0};
    struct buf path = {0};
    int r = CTL_OK;
    _cleanup_(freep) char *text = xstrdup(a->words[0]);
    char *rest = text;
    for (char *word; r == CTL_OK && (word = strsep(&rest, "."));) {
        struct place next = {0};
        struct names names = {0};
        if (!find_next(&at, path.len == 0, word, &next, &names))
            r = not_found(word, path.data ? path.data : "", &names);
        at = next;
        buf_printf(&path, "%s%s", path.len ? "." : "", word);
    }
    if (r == CTL_OK && at.field) {
        print_field(&at, path.data);
        if (at.field->sub) {
            printf("\n");
            print_table(at.field->sub, NULL, false);
        }
    } else if (r == CTL_OK) {
        assert(at.table); /* what was found is a field or has a table of them */
        print_table(at.table, at.kind, at.is_source);
    }
    buf_fini(&path);
    return r;
}
