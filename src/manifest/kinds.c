#include "manifest/kinds.h"

#include "source/list.h"
#include "step/list.h"

const struct kind *const *manifest_source_kinds(void)
{
    return source_kinds;
}

const struct kind *const *manifest_step_kinds(void)
{
    return step_kinds;
}
