/* Writing JSON text straight into a buffer, for answers that carry event data digit for digit and are made 50 000 times
 * a second. Commas are the writer's: each function puts one before itself where one is needed. A key is a name of ours,
 * which needs no escape. */
#ifndef TRIGGERD_API_JSON_TEXT_H
#define TRIGGERD_API_JSON_TEXT_H

#include "base/util.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

void json_open(struct buf *b, const char *key, char bracket); /* `{` or `[`; key NULL: an array's item or the top */
void json_close(struct buf *b, char bracket);                 /* `}` or `]` */
void json_string(struct buf *b, const char *key, const char *value); /* NULL: null */
void json_int(struct buf *b, const char *key, int64_t value);
void json_bool(struct buf *b, const char *key, bool value);
void json_raw(struct buf *b, const char *key, const char *text);     /* JSON text as it is; NULL: null */
void json_value(struct buf *b, const char *key, const cJSON *value); /* NULL: null */
void json_time(struct buf *b, const char *key, int64_t ms);          /* 0: null */

#endif
