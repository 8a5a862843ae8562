/* Scalars of the YAML 1.2 core schema (section 10.3.2): what a plain one is, and its number as JSON has it.
 *
 * Pure functions. Thread: any.
 */
#ifndef TRIGGERD_MANIFEST_YAML_SCALAR_H
#define TRIGGERD_MANIFEST_YAML_SCALAR_H

#include "model/value.h"

#include <stdbool.h>
#include <stddef.h>

#define YAML_RADIX_DIGITS_MAX 1024 /* digits of a hexadecimal or octal integer: making them decimal is quadratic */

enum yaml_kind {
    YAML_KIND_STRING,
    YAML_KIND_NULL,
    YAML_KIND_BOOL,
    YAML_KIND_INT,        /* 12, +012, 0o17, 0x1F */
    YAML_KIND_FLOAT,      /* 1.5, .5, 1., 1e3 */
    YAML_KIND_NOT_FINITE, /* .inf, -.Inf, .NaN */
};

enum yaml_kind yaml_plain_kind(const char *text, size_t len);

/* The exact JSON number of an INT or FLOAT (`+007` is 7, `.5` is 0.5, `0x1F` is 31). NULL: over YAML_RADIX_DIGITS_MAX.
 */
cJSON *yaml_number(const char *text, size_t len);

#endif
