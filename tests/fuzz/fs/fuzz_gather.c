/* A document in writes of any size: taken as if it had come in one, and never what the parser refuses. */
#include "fs/gather.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gather g = {0};
    cJSON *value = NULL;
    if (size < 2)
        return 0;
    size_t step = 1 + data[0] % 16;
    const char *text = (const char *)data + 1;
    size_t len = size - 1, at = 0;
    int r = 0;
    while (r == 0 && at < len) {
        size_t n = len - at < step ? len - at : step;
        r = gather_write(&g, text + at, n, &value);
        at += n;
    }
    if (r == 0)
        r = gather_end(&g, &value);
    cJSON *whole = NULL;
    if (r == 1 && value_parse(text, at, &whole, NULL) < 0)
        abort();
    cJSON_Delete(whole);
    cJSON_Delete(value);
    gather_fini(&g);
    return 0;
}
