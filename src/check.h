/* What settings ask for, beyond their form: whether it can be had is found out at the start, and by --check. */
#ifndef TRIGGERD_CHECK_H
#define TRIGGERD_CHECK_H

#include "config.h"
#include "http/access.h"

/* Who may ask. The errors of access_create(). */
int check_access(const struct config *c, struct access **ret, struct error *err);
/* What triggerd itself needs must not be answered by triggerd: -ELOOP. Looks at the file system: before the loop runs.
 */
int check_mount(const struct config *c, struct error *err);
/* --check: every error of the settings on standard error, and those of the manifests on standard output, as validate
 * prints them. The exit code. Takes nothing into use. */
int check_all(const struct config *c);

#endif
