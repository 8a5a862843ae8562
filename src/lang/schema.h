/* JSON Schema for a pipeline's `inputs`: a part of draft 2020-12 (json-schema.org), with its meaning.
 *
 *   any type    type (a word or a list), enum, const, allOf, anyOf, oneOf, not; `true` and `false` as schemas
 *   objects     properties, additionalProperties, required, propertyNames, minProperties, maxProperties
 *   arrays      items (one schema), prefixItems, minItems, maxItems, uniqueItems
 *   numbers     minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf: all in exact decimals, whatever
 *               the size
 *   strings     minLength, maxLength (in code points), pattern
 *   remarks     title, description, default, examples, format, deprecated, readOnly, writeOnly, $schema, $id,
 *               $comment, and keys starting with `x-`: checked for their own type at most, without effect (no
 *               default is filled in)
 *
 * Any other keyword is an error at compile, naming the nearest known one: a rule that does not hold is worse than none.
 * 1.0 is an integer, as the draft has it.
 *
 * `pattern` is a Perl-compatible expression (PCRE2) with ECMA-262's habits where they differ: not anchored, `$` is the
 * end alone, `\uXXXX` is a character, \d \w \s are ASCII, `[^]` is any character; of \p{…} it knows the short names
 * (\p{Lu}). Back references are refused; so is an empty `enum`, which nothing could satisfy.
 *
 * Bounds: a validation takes SCHEMA_STEPS_MAX steps (a value under a rule, 64 bytes of text, a step of a pattern) and
 * then fails with -E2BIG, whatever schema and value are. Nothing is decided by a check that was cut off.
 *
 * Ownership: a compiled schema keeps copies. Thread: any; a compiled schema is constant.
 */
#ifndef TRIGGERD_LANG_SCHEMA_H
#define TRIGGERD_LANG_SCHEMA_H

#include "model/field.h"
#include "model/value.h"

#define SCHEMA_STEPS_MAX 4000000
#define SCHEMA_FAILURES_MAX 100  /* failures told of one value */
#define SCHEMA_PATTERN_MAX 4096  /* bytes of a pattern */
#define SCHEMA_DIVISOR_DIGITS 18 /* significant digits of multipleOf */

struct schema;

/* Everything that is wrong becomes an issue; `path` is where the schema stands (`inputs`). Returns 0, or -EINVAL with
 * at least one error added. */
int schema_compile(const cJSON *json, const char *path, struct schema **ret, struct issues *issues);
void schema_destroy(struct schema *s);

/* Told for each failure: where (`rows[3].id`, a name that is no plain word as `["a b"]`; "" is the value itself) and
 * what, on one line. Both are valid during the call only. */
typedef void schema_failure_fn(void *ctx, const char *path, const char *message);

/* The number of failures told (0: the value is valid; SCHEMA_FAILURES_MAX: there may be more), or -E2BIG: too much
 * work. `fn` NULL: only the answer is wanted. */
int schema_validate(const struct schema *s, const cJSON *value, schema_failure_fn *fn, void *ctx, struct error *err);

static inline void schema_destroyp(struct schema **s)
{
    schema_destroy(*s);
}

#endif
