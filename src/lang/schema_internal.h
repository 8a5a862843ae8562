/* A compiled schema, between schema.c, which makes it, and schema_validate.c, which applies it; not for others. */
#ifndef TRIGGERD_LANG_SCHEMA_INTERNAL_H
#define TRIGGERD_LANG_SCHEMA_INTERNAL_H

#define PCRE2_CODE_UNIT_WIDTH 8

#include "lang/schema.h"

#include "base/util.h"

#include <pcre2.h>

enum {
    TYPE_STRING = 1 << 0,
    TYPE_NUMBER = 1 << 1,
    TYPE_INTEGER = 1 << 2,
    TYPE_BOOLEAN = 1 << 3,
    TYPE_OBJECT = 1 << 4,
    TYPE_ARRAY = 1 << 5,
    TYPE_NULL = 1 << 6,
    TYPES = 7
};
/* The words for them, in the order of the bits. */
extern const char *const schema_type_names[TYPES];

struct schema_list {
    struct schema **items;
    size_t n;
};

/* A name in `properties` or `required` or both. */
struct property {
    char *name;
    struct schema *schema; /* NULL: only required */
    bool required;
};

/* A multiple of digits × 10^exponent. */
struct divisor {
    uint64_t digits; /* 0: no such rule; the last digit is not 0 */
    int64_t exponent;
    cJSON *value;
};

struct schema {
    bool never;     /* the schema `false` */
    unsigned types; /* bits; 0: no rule */
    cJSON *constant, *words;
    struct schema_list all_of, any_of, one_of, prefix_items;
    struct schema *none_of, *items, *additional, *names;
    struct property *properties; /* sorted by name */
    size_t property_count;
    int64_t properties_min, properties_max, items_min, items_max, length_min, length_max; /* -1: no rule */
    bool unique_items;
    cJSON *minimum, *maximum, *above, *below; /* numbers */
    struct divisor multiple_of;
    pcre2_code *pattern;
    char *pattern_text;
};

/* The number as digits × 10^exponent, the last digit not 0 (0: no digits, "0"). Returns the digits, free() them. */
char *schema_decimal(const cJSON *number, int64_t *ret_exponent);

#endif
