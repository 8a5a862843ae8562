/* Shared by the value*.c (parser, numbers, printer, access); not for others. */
#ifndef TRIGGERD_MODEL_VALUE_INTERNAL_H
#define TRIGGERD_MODEL_VALUE_INTERNAL_H

#include "base/util.h"
#include "model/value.h"

/* The longest text of a double, "-1.7976931348623157e+308", with room to spare. */
#define VALUE_DOUBLE_MAX 32

/* Length of the RFC 8259 number at the start of `text`; 0: there is none. *ret_integer: canonical and ≤ 15 digits.
 * *ret_cut (NULL allowed): the text ended where the number needed, or could have taken, more. */
size_t value_number_scan(const char *text, size_t len, bool *ret_integer, bool *ret_cut);

/* The node for a text that value_number_scan() took whole. */
cJSON *value_number_node(const char *text, size_t len, bool integer);

/* Shortest decimal text of a double that reads back the same; "null" where it is not finite. Returns its length. */
size_t value_double_text(double d, char out[VALUE_DOUBLE_MAX]);

/* An empty node of cJSON type `type`. */
cJSON *value_node(int type);

#endif
