/* The watcher's system calls on paths: finding a base, and watching and reading directories. Both kinds of work are
 * plain data that one thread fills in and another reads; they run on the pool. Private to the watcher.
 */
#ifndef TRIGGERD_BASE_INOTIFY_SCAN_H
#define TRIGGERD_BASE_INOTIFY_SCAN_H

#include "base/error.h"
#include "base/inotify.h"
#include "base/util.h"

#include <dirent.h>

/* ---- the way to a base ---- */

#define PROBE_LINKS_MAX 40 /* symbolic links followed, as the kernel does */

/* A watch on a directory or symbolic link on the way. */
struct probe_link {
    int wd;
    uint32_t mask; /* these events mean: look again */
    char *missing; /* with IN_CREATE and IN_MOVED_TO: only for this name; else NULL */
};

struct probe {
    int fd;                         /* inotify; in */
    const struct self_mount *avoid; /* in */
    uint32_t mask;                  /* for the base; in */
    char *base;                     /* in */
    enum { PROBE_HERE, PROBE_MISSING, PROBE_FAILED } outcome;
    struct error err; /* MISSING, FAILED */
    int wd;           /* HERE: of the base */
    char *real;       /* HERE: its path without links, "" for the root directory */
    struct watch_stat stat;
    struct probe_link *links; /* whatever the outcome */
    size_t count;
};

void probe_init(struct probe *probe, int fd, const struct self_mount *avoid, uint32_t mask, const char *base);
void probe_run(struct probe *probe);
void probe_fini(struct probe *probe);

/* ---- directories ---- */

#define SCAN_DIRS_MAX 64      /* in one scan */
#define SCAN_RECORDS_MAX 2048 /* of one run, so that neither memory nor the loop's time grows with the directory */

struct scan_record {
    enum { SCAN_BEGIN, SCAN_ENTRY, SCAN_END } kind;
    unsigned dir;           /* index into scan.dirs */
    int wd;                 /* BEGIN: -1 if it could not be watched, or is a base */
    int code;               /* BEGIN: why (negative errno); END: why reading stopped; else 0 */
    size_t name;            /* ENTRY: offset into scan.names */
    struct watch_stat stat; /* ENTRY */
};

struct scan_dir {
    struct watch_dir *dir; /* the loop's; the worker leaves it alone */
    char *path;
    bool is_base; /* watched already, and perhaps a link */
};

struct scan {
    int fd;
    const struct self_mount *avoid;
    uint32_t mask;
    struct scan_dir dirs[SCAN_DIRS_MAX];
    unsigned count;
    /* Where the next run goes on. */
    unsigned at;
    DIR *open;
    int code; /* why an entry of it could not be looked at */
    bool finished;
    /* What the last run gave. */
    struct scan_record *records;
    size_t record_count;
    struct buf names;
};

void scan_init(struct scan *scan, int fd, const struct self_mount *avoid, uint32_t mask);
/* Takes `path`. */
void scan_add(struct scan *scan, struct watch_dir *dir, char *path, bool is_base);
/* Watch, read, and record, until finished or the records are full: then run again. */
void scan_run(struct scan *scan);
void scan_fini(struct scan *scan);

/* "no inotify watches left (…)" and the like; what strerror says for other codes. Thread-safe. */
const char *watch_reason(int code);

#endif
