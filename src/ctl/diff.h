/* Unified diffs of texts, line by line. */
#ifndef TRIGGERD_CTL_DIFF_H
#define TRIGGERD_CTL_DIFF_H

#include <stdbool.h>

#define DIFF_CONTEXT 3

/* Print the difference with its two file lines; `before` or `after` NULL is no file. Nothing where both are the same.
 * Lines are escaped as all text of others is, tabs apart. */
void diff_print(const char *before_name, const char *before, const char *after_name, const char *after, bool colour);

#endif
