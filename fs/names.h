/* Names below manifests/, triggers/ID/ and pipelines/ID/: which of them are an editor's own. Pure. */
#ifndef TRIGGERD_FS_NAMES_H
#define TRIGGERD_FS_NAMES_H

#include <stdbool.h>

/* A file that an editor makes beside the one it edits, and that nobody is to see later: 4913, .x.swp, x~, .#x, #x#,
 * x.tmp, sedAbC123, .goutputstream-X. */
bool name_is_scratch(const char *name);

#endif
