/* Reading what references stand for: variables of this process at once, files on the pool, so that no path of a user can
 * hold up the loop.
 *
 * A file must lie below one of the directories, also after all links are followed (links that stay below, as Kubernetes
 * makes them, are well); be a regular file; have at most SECRET_FILE_MAX bytes, and no NUL. An absolute path names a file
 * below one of them, by the directory's own name or by the place it leads to; a relative one is looked for in each, in
 * order. Two entries of the list are words: `$CREDENTIALS_DIRECTORY` (nothing where systemd set none) and `.`, the
 * directory of the manifest that the reference stands in. What lies in triggerd's own mount is refused.
 *
 * A source uses it as a run does: secrets_want() for each text of its config with its manifest's directory, then
 * secret_read_start(), then secrets_expand(); what cannot be read makes it `Connected=False` with that message.
 */
#ifndef TRIGGERD_ENGINE_SECRET_READ_H
#define TRIGGERD_ENGINE_SECRET_READ_H

#include "lang/secret.h"
#include "model/field.h"

#define SECRET_FILE_MAX (64 * 1024)

struct loop;
struct secret_read;
struct self_mount;

/* Where files may lie. */
struct secret_dirs {
    const struct strings *list;
    const struct self_mount *avoid; /* our own mount; NULL: there is none */
};

/* Read what is wanted of `s` since it was last read. NULL: done, `done` is not called (no file is wanted, or loop is NULL and they were read
 * here); else `done` comes later from the loop, once. `s` stays until then. */
struct secret_read *secret_read_start(struct loop *loop, const struct secret_dirs *dirs, struct secrets *s,
                                      void (*done)(void *ctx), void *ctx);
/* Forget it: `done` is not called and `s` not touched any more. */
void secret_read_abandon(struct secret_read *r);

/* The directory of a manifest, for secrets_want(); free() it. NULL for NULL. */
char *secret_dir_of(const char *manifest);

#endif
