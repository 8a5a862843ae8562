/* Many files at once, as `triggerctl validate` and `triggerd --check` judge them: each by manifest_parse(), then all of
 * them together for a resource that is defined twice.
 *
 * A directory is walked with its sub-folders, as the daemon's watch does it: what counts as a manifest there is
 * manifest_name_ok(), hidden folders are left out, links to files are read, links to folders are not followed. A file
 * that is named by itself is read whatever its name. Files of one directory go by path, as the daemon's first start
 * does, so that the later of two definitions is the one in error. A file that two arguments reach by one path counts
 * once.
 *
 * Thread: any; it reads files, so not the loop.
 */
#ifndef TRIGGERD_MANIFEST_CHECK_H
#define TRIGGERD_MANIFEST_CHECK_H

#include "base/util.h"
#include "manifest/manifest.h"

#include <stdio.h>

#define MANIFEST_TREE_DEPTH_MAX 64 /* folders inside one another */

struct check_seen;
struct definition;
struct loops;

/* Indexes of a manifest, and in it. */
struct check_entry {
    size_t manifest, entry;
};

/* Zero-initialised is empty. */
struct manifest_check {
    struct manifest *manifests; /* in the order in which they were read; without their resources */
    size_t n, cap;
    struct check_seen *seen; /* paths that were read */
    struct definition *definitions[RESOURCE_KINDS];
    struct check_entry *later; /* that do not own their id, or were bad */
    size_t n_later;
    struct loops *loops;
    struct buf text;       /* of the file being read */
    char *dir, *dir_place; /* the folder of the last file, and where it is */
    bool keep;             /* set it before the first add: texts are kept */
    struct buf *texts;     /* of each manifest, empty where it could not be read; NULL unless kept */
};

/* Read and parse a file, every manifest below a directory, or with `-` standard input (YAML; shown as `<stdin>`). What
 * cannot be read is an error of its own. */
void manifest_check_add(struct manifest_check *c, const char *path);
/* What is found among files: an id given twice, added to the later file, and static loops (loops.h), which are
 * warnings; call once, after the last add. Returns how many errors (no warnings) there are in all. */
size_t manifest_check_finish(struct manifest_check *c);
/* Every error and warning as a line. */
void manifest_check_print(const struct manifest_check *c, FILE *out);
void manifest_check_fini(struct manifest_check *c);

#endif
