/* Which file system is our own mount: nothing that triggerd needs to answer a request may lie in it, or it would wait
 * for itself. By st_dev, which everything in a mount has, by whatever link or bind mount it is reached. */
#ifndef TRIGGERD_BASE_SELF_MOUNT_H
#define TRIGGERD_BASE_SELF_MOUNT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Zeroed: not mounted. Set by the loop, read by any thread. */
struct self_mount {
    _Atomic uint64_t dev;
};

static inline void self_mount_set(struct self_mount *m, uint64_t dev)
{
    atomic_store(&m->dev, dev);
}

/* Is this its st_dev? `m` may be NULL: then nothing is. */
static inline bool self_mount_is(const struct self_mount *m, uint64_t dev)
{
    return m && dev != 0 && atomic_load(&m->dev) == dev;
}

/* Is there one now? */
static inline bool self_mount_any(const struct self_mount *m)
{
    return m && atomic_load(&m->dev) != 0;
}

/* Does the path lie in it, links followed? Of what does not exist, the nearest directory above that does. Waits as
 * stat(2) does, for us as well: never on the loop. */
bool self_mount_holds(const struct self_mount *m, const char *path);

#endif
