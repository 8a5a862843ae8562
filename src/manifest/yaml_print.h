/* Values as YAML text, the way a person would write it: block style, plain scalars where nothing can misread them.
 *
 * A string is quoted wherever YAML 1.1 readers or people would take it for something else (`no`, `1_000`, `12:30`).
 * Members keep their order. What is printed reads back (yaml.h) as the same value. Thread: any.
 */
#ifndef TRIGGERD_MANIFEST_YAML_PRINT_H
#define TRIGGERD_MANIFEST_YAML_PRINT_H

#include "base/util.h"
#include "model/value.h"

#include <stdbool.h>

enum yaml_style {
    YAML_STYLE_AUTO,   /* plain where possible, else double quotes */
    YAML_STYLE_SINGLE, /* single quotes where possible, else double quotes */
    YAML_STYLE_DOUBLE,
};

/* A scalar on one line; `flow`: within [] or {}. */
void yaml_print_scalar(struct buf *out, const cJSON *value, bool flow, enum yaml_style style);

/* A key, without its colon. */
void yaml_print_key(struct buf *out, const char *key, bool flow);

/* Any value on one line, collections in flow style. */
void yaml_print_flow(struct buf *out, const cJSON *value);

/* A value that follows `key:` or `-`, in two parts: what stands on that line (empty for a collection in block style)
 * and the lines below, each starting with `newline` and at least `indent` spaces (empty for a scalar on one line). */
void yaml_print_block(struct buf *head, struct buf *lines, const cJSON *value, unsigned indent, const char *newline,
                      enum yaml_style style);

/* `- ` and an item of an array whose dashes stand at `indent`; a collection starts on the same line. No last newline.
 */
void yaml_print_item(struct buf *lines, const cJSON *value, unsigned indent, const char *newline);

/* A whole document, with its last newline; free() it. */
char *yaml_print(const cJSON *value);

#endif
