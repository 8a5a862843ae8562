/* Which control group the daemon may divide. Any thread. */
#ifndef TRIGGERD_SPAWN_CGROUP_FIND_H
#define TRIGGERD_SPAWN_CGROUP_FIND_H

#include "base/error.h"

#include <stdbool.h>

/* `proc`: "/proc/self", or a directory with files `cgroup` and `mountinfo` like its. The directory given, to be freed;
 * *ret_inside: the process is in that group itself, and not in one below it. -ENOTSUP with the reason: none is. */
int cgroup_find_given(const char *proc, char **ret_directory, bool *ret_inside, struct error *err);

#endif
