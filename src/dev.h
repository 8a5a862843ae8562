/* `triggerd --dev DIR`: a look within a minute. Manifests from DIR, everything else in a directory that goes away with
 * the daemon, the page and the API on loopback, a mount where there is FUSE, and what happens told in the terminal. */
#ifndef TRIGGERD_DEV_H
#define TRIGGERD_DEV_H

#include "config.h"
#include "engine/engine.h"

#define DEV_PORT 8420 /* or, where that is taken, any */

/* Fill in what neither file nor options have said. -EIO: it was said on standard error. */
int dev_config(const char *dir, struct config *c);
/* Remove what dev_config() made; the mount is gone. Nothing happens without it. */
void dev_remove(const struct config *c);

struct dev;
/* Tell on standard output from now on. Thread: the loop's. */
struct dev *dev_begin(struct engine *e, const struct config *c);
void dev_end(struct dev *d); /* NULL is allowed */

#endif
