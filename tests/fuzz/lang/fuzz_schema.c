/* Input: schema NUL value. No crash; the answer does not depend on whether somebody wants to hear why. */
#include "lang/schema.h"

#include "base/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void told(void *ctx, const char *path, const char *message)
{
    if (!utf8_valid(path, strlen(path)) || !utf8_valid(message, strlen(message)) || !*message)
        abort();
    ++*(int *)ctx;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = memchr(data, '\0', size);
    if (!end)
        return 0;
    size_t len = (size_t)(end - data);
    _cleanup_(cjson_deletep) cJSON *json = NULL;
    _cleanup_(cjson_deletep) cJSON *value = NULL;
    if (value_parse((const char *)data, len, &json, NULL) < 0 ||
        value_parse((const char *)end + 1, size - len - 1, &value, NULL) < 0)
        return 0;
    _cleanup_(schema_destroyp) struct schema *s = NULL;
    struct issues issues = ISSUES_INIT;
    if (schema_compile(json, "", &s, &issues) == 0) {
        int count = 0, n = schema_validate(s, value, told, &count, NULL);
        int quiet = schema_validate(s, value, NULL, NULL, NULL);
        if (n >= 0 && (count != n || quiet != (n > 0)))
            abort();
    } else if (issues.errors == 0) {
        abort();
    }
    issues_fini(&issues);
    return 0;
}
