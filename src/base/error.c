#include "base/error.h"

#include "base/mask.h"

#include <stdio.h>

/* Cut `message` (filled by a *printf that wanted `wanted` bytes) at a character boundary and mark the cut. */
static void mark_cut(char *message, size_t cap, int wanted)
{
    static const char mark[] = "…";
    if (wanted < 0) {
        message[0] = '\0';
        return;
    }
    if ((size_t)wanted < cap)
        return;
    size_t end = cap - sizeof(mark);
    while (end > 0 && ((unsigned char)message[end] & 0xC0) == 0x80)
        end--;
    memcpy(message + end, mark, sizeof(mark));
}

int error_setv(struct error *err, int code, const char *format, va_list args)
{
    if (!err)
        return code;
    err->code = code;
    err->line = err->column = 0;
    va_list again;
    va_copy(again, args);
    int wanted = vsnprintf(err->message, sizeof(err->message), format, args);
    if (strstr(err->message, "://")) { /* masked before it is cut: half a URL does not show where its password ends */
        char *whole = xvasprintf(format, again);
        mask_urls(&whole);
        wanted = snprintf(err->message, sizeof(err->message), "%s", whole);
        free(whole);
    }
    va_end(again);
    mark_cut(err->message, sizeof(err->message), wanted);
    utf8_mend(err->message); /* names of files, and what a format cut short */
    return code;
}

int error_set(struct error *err, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    error_setv(err, code, format, args);
    va_end(args);
    return code;
}

int error_set_at(struct error *err, int code, unsigned line, unsigned column, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    error_setv(err, code, format, args);
    va_end(args);
    if (err) {
        err->line = line;
        err->column = column;
    }
    return code;
}

int error_wrap(struct error *err, const char *format, ...)
{
    if (!err)
        return 0;
    char outer[ERROR_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(outer, sizeof(outer), format, args);
    va_end(args);
    char inner[ERROR_MESSAGE_MAX];
    memcpy(inner, err->message, sizeof(inner));
    int wanted = snprintf(err->message, sizeof(err->message), "%s: %s", outer, inner);
    mark_cut(err->message, sizeof(err->message), wanted);
    utf8_mend(err->message);
    return err->code;
}

void error_clear(struct error *err)
{
    if (err)
        *err = ERROR_INIT;
}
