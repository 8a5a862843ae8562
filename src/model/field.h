/* Field tables: the one description of each resource.
 *
 * A table of `struct field` rows describes a struct: the key in the manifest, its type, where it lives, its range, its
 * default, what it means, and what a change of it costs. From this one table come parsing (every error at once, each
 * with the node it is about, so that a caller with a text can name line and column), printing, comparing, freeing, JSON
 * Schema, `triggerctl explain`, and the manual.
 *
 * A field type is a vtable (struct field_type), so a layer above can bring types of its own (a cron expression, a path)
 * that compile while they parse.
 *
 * Ownership: what fields_parse() puts into a struct belongs to the struct; fields_fini() frees it. Thread: any.
 */
#ifndef TRIGGERD_MODEL_FIELD_H
#define TRIGGERD_MODEL_FIELD_H

#include "model/issue.h"
#include "model/value.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- tables ---- */

struct field;
struct field_table;

/* Dearest last, so that the cost of several changes is the largest. */
enum field_change {
    CHANGE_NONE,    /* takes effect at once; nothing restarts */
    CHANGE_SOURCE,  /* the source must reconnect or rebuild */
    CHANGE_TRIGGER, /* the trigger starts anew */
};

struct field_type {
    const char *name; /* for documentation: `string`, `number`, … */
    size_t size;      /* of the slot */
    /* Parse `v` into the zeroed slot; adds an issue and returns false when it is wrong (the slot then still may be
     * given to fini). */
    bool (*parse)(const struct field *f, const cJSON *v, void *slot, const char *path, struct issues *issues);
    /* A new node, or NULL for "absent" (an optional pointer that is not set). */
    cJSON *(*print)(const struct field *f, const void *slot);
    bool (*equal)(const struct field *f, const void *a, const void *b);
    void (*fini)(const struct field *f, void *slot);       /* NULL: nothing to free */
    void (*schema)(const struct field *f, cJSON *ret_obj); /* adds `type` and whatever else the type demands */
};

enum {
    FIELD_REQUIRED = 1 << 0,
    FIELD_SECRET = 1 << 1,    /* shown as `***` in parsed views unless it is a reference */
    FIELD_MIN_OPEN = 1 << 2,  /* the minimum itself is out of range */
    FIELD_NULL_OK = 1 << 3,   /* null means absent */
    FIELD_NOT_EMPTY = 1 << 4, /* strings, lists, objects: at least one character or entry */
    FIELD_REFERS = 1 << 5,    /* references to secrets in its strings are replaced when they are used (lang/secret.h) */
    FIELD_HEADERS = 1 << 7,   /* an object of HTTP headers: those of credentials are secret where they are literal */
    FIELD_GOVERNS = 1 << 6,   /* what other fields may be depends on it */
};

struct field {
    const char *name;
    const struct field_type *type;
    size_t offset;
    const char *default_json;      /* JSON text of the default, parsed like any value; NULL: zero value */
    double min, max;               /* numbers: inclusive range; strings and lists: bound of the length when max > 0 */
    const char *const *words;      /* enum: NULL-terminated, the slot is the index */
    const struct field_table *sub; /* object, and lists of objects */
    unsigned flags;
    enum field_change change;
    const char *doc;     /* a sentence or two, without a full stop at the end */
    const char *example; /* JSON text; NULL: the default or the obvious */
};

struct field_table {
    const char *name; /* `trigger`, `file_watch`, … */
    const char *doc;
    size_t size; /* of the struct described */
    const struct field *fields;
    size_t n;
};

/* A row; the offset is checked against the member's size at compile time. */
#define FIELD(strct, member, ctype, ...)                                                                               \
    .offset = offsetof(strct, member) + 0 * sizeof(char[sizeof(((strct *)0)->member) == sizeof(ctype) ? 1 : -1]),      \
    __VA_ARGS__

/* Parse `obj` into the zeroed struct `ret`: defaults first, then each key; unknown keys are issues that name the
 * nearest known one (`also`: NULL-terminated further keys that the caller handles itself; NULL none); keys starting
 * with `x-` are left alone. `path` is the object's own path. Returns true when no error was added. `ret` needs
 * fields_fini() either way. */
bool fields_parse(const struct field_table *t, const cJSON *obj, const char *const *also, void *ret, const char *path,
                  struct issues *issues);
/* The same, and says how far `ret` can be judged nonetheless, as a whole: each field that is wrong has its default (a
 * string none), as has one that is required and missing. */
enum fields_wrong {
    FIELDS_ALONE, /* at most unknown keys, numbers and booleans are wrong */
    FIELDS_SOME,  /* others too, but none on which the meaning of others depends */
    FIELDS_BASIC, /* objects, or fields that govern others */
};
bool fields_read(const struct field_table *t, const cJSON *obj, const char *const *also, void *ret, const char *path,
                 struct issues *issues, enum fields_wrong *ret_wrong);
/* Only the defaults. */
void fields_defaults(const struct field_table *t, void *ret);
void fields_fini(const struct field_table *t, void *s);
/* All fields as an object, in table order; with `minimal` those equal to their default are left out. */
cJSON *fields_print(const struct field_table *t, const void *s, bool minimal);
bool fields_equal(const struct field_table *t, const void *a, const void *b);
/* The dearest change among the fields that differ, and (optional) up to `cap` names of them; *ret_differ: any differs.
 */
enum field_change fields_compare(const struct field_table *t, const void *a, const void *b, bool *ret_differ,
                                 const char **names, size_t cap, size_t *ret_n);
const struct field *fields_find(const struct field_table *t, const char *name);
/* A draft-07 JSON Schema object for the table (`additionalProperties: false`, `patternProperties: {"^x-": {}}`). */
cJSON *fields_schema(const struct field_table *t);

/* ---- the types every table may use; the slot's C type in brackets ---- */

extern const struct field_type field_bool;     /* [bool] */
extern const struct field_type field_int;      /* [int64_t] an integer within min … max */
extern const struct field_type field_number;   /* [double] finite, within min … max */
extern const struct field_type field_seconds;  /* [double] as number, in seconds, fractions allowed */
extern const struct field_type field_string;   /* [char *] NULL when absent */
extern const struct field_type field_id;       /* [char *] a resource or step id: [a-z0-9][a-z0-9_.-]{0,62} */
extern const struct field_type field_endpoint; /* [char *] [A-Za-z0-9_-][A-Za-z0-9_.-]{0,127} */
extern const struct field_type field_enum;     /* [int] index into words */
extern const struct field_type field_words;    /* [uint64_t] a list of enum words, as a bit set */
extern const struct field_type
    field_strings; /* [struct strings] a list of strings; one string counts as a list of one */
extern const struct field_type field_string_map;  /* [cJSON *] an object whose values are strings */
extern const struct field_type field_json;        /* [cJSON *] any value, kept as it is */
extern const struct field_type field_json_object; /* [char *] any object, as compact JSON text */
extern const struct field_type field_object;      /* [struct] described by `sub`, in place */
extern const struct field_type field_object_opt;  /* [void *] described by `sub`, NULL when absent */
extern const struct field_type field_objects;     /* [struct objects] a list of objects described by `sub` */

struct objects {
    void *items; /* `n` structs one after the other */
    size_t n;
};

struct strings {
    char **items;
    size_t n;
};
bool strings_have(const struct strings *s, const char *word);

bool id_text_valid(const char *s); /* the rule of field_id */
#define ENDPOINT_MAX 128
bool endpoint_text_valid(const char *s); /* the rule of field_endpoint */

#endif
