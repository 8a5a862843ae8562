/* What parses prints as JSON that parses to the same; cJSON's printer agrees; every cut of it is unfinished, not wrong.
 */
#include "base/util.h"
#include "model/value.h"

#include <errno.h>

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void count_place(void *ctx, const cJSON *node, unsigned line, unsigned column, unsigned key_line,
                        unsigned key_column)
{
    must(line > 0 && column > 0 && (node->string != NULL) == (key_line > 0) && (key_line > 0) == (key_column > 0));
    ++*(size_t *)ctx;
}

static void check_error(int r, const struct error *err)
{
    must(err->code == r && err->line > 0 && err->column > 0);
    must(*err->message && !strpbrk(err->message, "\r\n") && utf8_valid(err->message, strlen(err->message)));
}

static void check_printed(const cJSON *v)
{
    _cleanup_(freep) char *text = value_print(v);
    _cleanup_(freep) char *pretty = value_print_pretty(v);
    _cleanup_(freep) char *other = cJSON_PrintUnformatted(v);
    must(other && streq(text, other));
    _cleanup_(cjson_deletep) cJSON *again = NULL;
    _cleanup_(cjson_deletep) cJSON *indented = NULL;
    must(value_parse(text, strlen(text), &again, NULL) == 0);
    must(value_parse(pretty, strlen(pretty), &indented, NULL) == 0);
    must(value_equal(v, again) && value_equal(indented, v));
    _cleanup_(freep) char *twice = value_print(indented);
    must(streq(text, twice));

    char brief[VALUE_BRIEF_MAX], small[16];
    must(utf8_valid(value_brief(v, brief, sizeof(brief)), strlen(brief)));
    must(utf8_valid(value_brief(v, small, sizeof(small)), strlen(small)));

    cJSON *cut = NULL;
    size_t used;
    size_t len = strlen(text), at = len > 1 ? hash_bytes(0, text, len) % (len - 1) : 0;
    if (v->type & (cJSON_Object | cJSON_Array | cJSON_String))
        must(value_parse_prefix(text, at, &cut, &used, NULL) == -EAGAIN);
}

static void check_number(const cJSON *v)
{
    char key[128], same[128];
    if (!value_is_number(v))
        return;
    must(value_number_compare(v, v) == 0);
    size_t n = value_number_key(v, key, sizeof(key));
    int64_t integer;
    if (!value_integer(v, &integer))
        return;
    _cleanup_(cjson_deletep) cJSON *plain = value_number_from_int(integer);
    must(value_number_compare(v, plain) == 0);
    size_t m = value_number_key(plain, same, sizeof(same));
    must(m > 0 && (n == 0 || (m == n && memcmp(key, same, n) == 0)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    _cleanup_(cjson_deletep) cJSON *v = NULL;
    _cleanup_(cjson_deletep) cJSON *prefix = NULL;
    _cleanup_(cjson_deletep) cJSON *placed = NULL;
    struct error err = ERROR_INIT;
    size_t used = 0, places = 0;
    int r = value_parse(text, size, &v, &err);
    int p = value_parse_prefix(text, size, &prefix, &used, NULL);
    must(value_parse_places(text, size, count_place, &places, &placed, NULL) == r);
    if (r < 0) {
        check_error(r, &err);
        must(!v && !placed);
        return 0;
    }
    must(p == (value_is_number(v) && text[size - 1] >= '0' && text[size - 1] <= '9' ? -EAGAIN : 0));
    must(p < 0 || (used <= size && value_equal(prefix, v)));
    must(places > 0 && value_equal(placed, v));
    check_printed(v);
    check_number(v);
    return 0;
}
