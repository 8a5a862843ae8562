/* Path globs: which files a trigger watches, which it ignores, and patterns for ids.
 *
 *   *        any run of characters without '/', also an empty one
 *   ?        one character: one UTF-8 character where the bytes form one, else one byte
 *   [a-z_]   one character of the set; [!…] or [^…] one not in it; ']' first and '-' first or last stand for themselves
 *   {a,b}    either; may be nested, may be empty, may hold '/'
 *   **       as a whole component: any number of directories, also none; at the end: everything below, at any depth;
 *            inside a component it is the same as *
 *   \x       x itself, whatever it is (but '/')
 *
 * All else stands for itself. Paths are bytes, as the kernel has them: a byte that is no part of valid UTF-8 is a
 * character of its own, which no set of characters holds and *, ?, and [!…] match. Hidden files are files: `*` matches
 * `.x` too (a watcher that overlooked them silently would have to be told so, and ignore_patterns can say `.*`).
 * Case matters. Repeated '/' count as one; `.` and `..` as components are refused, since no watched path has them.
 *
 * Work: braces are expanded when compiled (bounds below); matching one path costs at most
 * O(bytes of the expansion × bytes of the path) and allocates nothing.
 *
 * Errors: -EINVAL with line 1 and the column in the pattern. Thread: any; a compiled glob is constant.
 */
#ifndef TRIGGERD_LANG_GLOB_H
#define TRIGGERD_LANG_GLOB_H

#include "base/error.h"

#include <stdbool.h>

#define GLOB_PATTERN_MAX 4096    /* bytes of a pattern */
#define GLOB_ALTERNATIVES_MAX 64 /* what its braces expand to */
#define GLOB_BRACES_MAX 64       /* pairs of braces */
#define GLOB_EXPANSION_MAX 32768 /* bytes of all alternatives together */
#define GLOB_COMPONENTS_MAX 60   /* directories and name of one alternative */

/* The last component is matched at any depth below the directories that the others match (as if `**` stood before it).
 */
#define GLOB_RECURSIVE 1u
/* A pattern of things to leave out, for glob_ignores(). Allows '/' at the end: directories only. Not with the other. */
#define GLOB_IGNORE 2u

struct glob;

int glob_create(const char *pattern, unsigned flags, struct glob **ret, struct error *err);
void glob_destroy(struct glob *g);

// Does the whole path match? A pattern with '/' in front matches only absolute paths, any other only relative ones.
bool glob_match(const struct glob *g, const char *path);

// Could anything below this directory match? "" is where the pattern starts. Watch only where this is true.
bool glob_may_descend(const struct glob *g, const char *directory);

// Is the path left out by a pattern compiled with GLOB_IGNORE? A pattern without '/' matches the name of the file or of
// any directory that it lies in; one with '/' matches the path, or the path of any directory that it lies in, from the
// base (`relative` has no '/' in front). One that starts with '/' is tried from the base and from the root of the file
// system; `base` is the base's absolute path for that, NULL if unknown. `is_dir`: the path itself is a directory.
bool glob_ignores(const struct glob *g, const char *base, const char *relative, bool is_dir);

// Split a pattern into its base, the longest directory without a wildcard, and the rest, a pattern from there:
//   /data/in/x*.csv     →  /data/in  x*.csv
//   /data/**/in/?.json  →  /data     **/in/?.json
//   x*.csv              →  .         x*.csv
//   /data/in/x.csv      →  /data/in  x.csv
//   /data/in/           →  /data/in  *              all that is in it
// The base is a path, no pattern (its escapes are gone); `rest` is for glob_create(). Both are the caller's to free.
int glob_split(const char *pattern, char **ret_base, char **ret_rest, struct error *err);

// Has the text anything but characters that stand for themselves?
bool glob_has_meta(const char *pattern);

static inline void glob_destroyp(struct glob **g)
{
    glob_destroy(*g);
}

#endif
