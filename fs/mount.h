/* The FUSE view: the system as files. See MOUNT/README (fs/text.c) for what a user is told, and internal.h for how it is
 * built.
 *
 * The session's descriptor is polled by the loop; requests are answered at once or later, never by a thread of their own.
 * Mounting, unmounting and every system call on a user's path happen on libuv's pool. A mount that is dead (of a daemon
 * that was killed) is replaced; one that goes away is made again, with growing delays. That it cannot be made stops
 * nothing else.
 *
 * Thread: the loop's.
 */
#ifndef TRIGGERD_FS_MOUNT_H
#define TRIGGERD_FS_MOUNT_H

#include "api/api.h"

#include <sys/types.h>

struct mount;

struct mount_options {
    struct loop *loop;
    struct api *api;
    const char *dir;              /* absolute */
    bool allow_other;             /* others may look, as the modes say */
    int64_t uid, gid;             /* of all files; -1: ours */
    int64_t umask;                /* taken off the modes */
    const char *const *manifests; /* the manifest directories, absolute */
    size_t n_manifests;
    /* It is mounted, or not, and why. Once a change. */
    void (*state)(void *ctx, bool mounted, const char *why);
    void *ctx;
};

/* -ELOOP (SelfMount) where `path`, links followed as far as it exists, lies in the directory of the mount: what we need
 * ourselves would wait for us. Looks at the file system: before the loop runs. */
int mount_check_path(const char *mount_dir, const char *what, const char *path, struct error *err);

struct mount *mount_create(const struct mount_options *options);
void mount_start(struct mount *m);
/* Unmounts and frees; `done` exactly once, never from inside. */
void mount_stop(struct mount *m, void (*done)(void *ctx), void *ctx);

/* `fn` when what was written and closed before this call is in force: now, or soon (within a second). `mount` is a struct
 * mount; as struct api wants it. */
void mount_settle(void *mount, void (*fn)(void *ctx), void *ctx);

/* Which file system is it: st_dev of everything in it, by whatever link or bind mount it is reached. False: not mounted
 * now. */
bool mount_identity(const struct mount *m, dev_t *ret_dev);

#endif
