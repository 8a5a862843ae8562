/* What git knows of a manifest directory: the commit of HEAD, and which files differ from it. One blocking look, for a
 * thread of the pool; reading only.
 *
 * libgit2 is loaded when the first work tree is found: a machine without one neither pays for it nor needs it. Nothing
 * outside of the repository is consulted (no configuration of the user or the system, no environment), no hook or
 * filter program is run, no network used. The owner of a repository is not checked: the daemon often is another user,
 * and all that a repository can say here is a commit's name, for who may write manifests may run commands anyway.
 * Whatever is broken in it means that no commit is shown, and `trouble` says why.
 *
 * The work tree is the one that has `start` in it: the nearest directory above with a `.git`, on the same file system;
 * directories that everybody may write to (/tmp) do not count.
 */
#ifndef TRIGGERD_RECONCILE_GIT_H
#define TRIGGERD_RECONCILE_GIT_H

#include "model/origin.h"

#include <stddef.h>

#define GIT_ID_SIZE 65
#define GIT_REFS_MAX 5 /* symbolic references followed from HEAD */

struct git_lib;
struct git_lib *git_lib_create(void);
void git_lib_destroy(struct git_lib *lib); /* NULL is allowed */

struct git_file {
    const char *path;     /* absolute, below `start`; in */
    uint8_t state;        /* enum origin_state; in: as last found, UNKNOWN where the text is another since */
    struct stored stored; /* in: as of known_tree */
};

/* A directory where a name that changes means: look again. It need not exist. */
struct git_place {
    char *dir;
    char *name; /* of a reference; NULL: of what every repository has */
};

struct git_look {
    /* asked */
    struct git_lib *lib;
    const char *start;                              /* absolute */
    bool nested;                                    /* only a `.git` in `start` itself counts */
    char known_root[4096], known_tree[GIT_ID_SIZE]; /* `state` of the files is as of this work tree and HEAD's tree; ""
                                                       where it is not known */
    struct git_file *files;
    size_t n_files;
    /* found */
    bool gone;            /* `start` itself could not be looked at: nothing is known */
    char root[4096];      /* of the work tree; "": none */
    char id[GIT_ID_SIZE]; /* "": no commit */
    char tree[GIT_ID_SIZE];
    char subject[512];
    int64_t authored_ms;
    char trouble[512];        /* why there is a work tree and no commit; "": nothing */
    struct git_place *places; /* what to watch */
    size_t n_places;
};

void git_look_run(struct git_look *look);
void git_look_fini(struct git_look *look);

#endif
