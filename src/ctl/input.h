/* What triggerctl reads: JSON from an argument, a file or standard input, and lines of any length. */
#ifndef TRIGGERD_CTL_INPUT_H
#define TRIGGERD_CTL_INPUT_H

#include "base/util.h"
#include "model/value.h"

#include <stdio.h>

#define INPUT_MAX ((size_t)64 << 20) /* bytes of a document or a line */

/* All of standard input as one JSON value. 0, or a negative errno after the error was told as `standard input:LINE:COL:
 * …`. */
int input_json(cJSON **ret);

/* JSON as an option gives it: the text itself, `@FILE`, or `-` for standard input. *ret_text is its text, digit for
 * digit; free() it. `name` is the option's, for messages, which are told. */
int input_data(const char *name, const char *arg, char **ret_text);
/* The same, parsed. */
int input_data_json(const char *name, const char *arg, cJSON **ret);

/* The next line of `in` without its newline, into `line`. 1: a line; 0: the end; -E2BIG: a line that is too long, and
 * was skipped; other: reading failed. */
int input_line(FILE *in, struct buf *line);

#endif
