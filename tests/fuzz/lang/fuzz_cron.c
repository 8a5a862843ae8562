/* Input: 8 bytes of time, expression NUL time zone. No crash, and times go forward. */
#include "lang/cron.h"

#include "base/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int64_t at;
    if (size < sizeof(at))
        return 0;
    memcpy(&at, data, sizeof(at));
    at %= INT64_C(200000000000000);
    size -= sizeof(at);
    _cleanup_(freep) char *text = xmalloc(size + 2);
    memcpy(text, data + sizeof(at), size);
    text[size] = text[size + 1] = '\0';
    const char *zone = text + strlen(text) + 1;
    cron_check_timezone(zone, NULL);
    static const char *const zones[] = {"UTC", "Europe/Rome", "Pacific/Apia", "Australia/Lord_Howe"};
    _cleanup_(cron_destroyp) struct cron *c = NULL;
    if (cron_create(text, *zone ? zone : zones[(uint64_t)at % ARRAY_SIZE(zones)], &c, NULL) < 0)
        return 0;
    for (int i = 0; i < 3; i++) {
        int64_t next;
        if (cron_next(c, at, &next) < 0)
            return 0;
        int64_t again;
        if (next <= at || next % 1000 != 0 || cron_next(c, next - 1, &again) < 0 || again != next)
            abort();
        at = next;
    }
    return 0;
}
