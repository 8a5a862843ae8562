#include "fs/names.h"

#include <fnmatch.h>
#include <stddef.h>

bool name_is_scratch(const char *name)
{
    static const char *const patterns[] = {"4913", ".*.sw?", "*~",        ".#*",
                                           "#*#",  "*.tmp",  "sed??????", ".goutputstream-?*"};
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++)
        if (fnmatch(patterns[i], name, 0) == 0)
            return true;
    return false;
}
