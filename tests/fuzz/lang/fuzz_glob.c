/* Input: pattern NUL path. No crash, and what matches lies below directories that may be descended into. */
#include "lang/glob.h"

#include "base/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(freep) char *pattern = xmalloc(size + 2);
    memcpy(pattern, data, size);
    pattern[size] = pattern[size + 1] = '\0';
    char *path = pattern + strlen(pattern) + 1;
    for (unsigned flags = 0; flags <= (GLOB_RECURSIVE | GLOB_IGNORE); flags++) {
        struct glob *g = NULL;
        if (glob_create(pattern, flags, &g, NULL) < 0)
            continue;
        bool match = glob_match(g, path);
        if (match && (flags & GLOB_IGNORE) && *path != '/' && !glob_ignores(g, "/base", path, true))
            abort();
        for (char *slash = path; match && (slash = strchr(slash + 1, '/')) && strspn(slash, "/") < strlen(slash);) {
            *slash = '\0';
            if (!glob_may_descend(g, path))
                abort();
            *slash = '/';
        }
        glob_destroy(g);
    }
    char *base = NULL, *rest = NULL;
    if (glob_split(pattern, &base, &rest, NULL) == 0) {
        if (!*base || !*rest)
            abort();
        free(base);
        free(rest);
    }
    return 0;
}
