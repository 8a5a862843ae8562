#include "model/kind.h"

#include <string.h>

const struct kind *kind_find(const struct kind *const *kinds, const char *name)
{
    for (size_t i = 0; kinds[i]; i++)
        if (strcmp(kinds[i]->name, name) == 0)
            return kinds[i];
    return NULL;
}
