/* Shared by the files of file_watch; nobody else includes it.
 *
 *   file_watch.c           the type: config, life, what the watcher tells, conditions
 *   file_watch_track.c     what changed: one `struct file` a path, net changes, renames
 *   file_watch_report.c    due changes become events; settling them
 *   file_watch_check.c     size and time of files, and whether somebody still writes them, on the pool
 *   file_watch_snapshot.c  what is known, kept in the store
 *
 * What is reported is the difference between two pictures: what is known of a path (recorded as told, and kept in the
 * store), and what is there now. So whatever happened in between, and in whatever order, one event says the net change:
 *
 *     known   there now                       event
 *     no      yes                             created
 *     yes     yes, written or another file    modified
 *     yes     no                              deleted
 *     no      no                              none
 *     elsewhere, from where it was renamed    moved, with old_path (and whatever was written since)
 *
 * A rename hands what is known on: the file under the new name is linked to the old one (`from`, `to`), which may
 * meanwhile be another, new file. Renamed again, the link goes on (a → b → c is moved from a to c; back to a is
 * nothing); deleted, the old name is deleted. The new file under the old name waits until the rename is told.
 *
 * A pending change goes through these states; whatever happens to the file meanwhile starts it anew:
 *
 *     QUIET ─ debounce ─► DUE ─► CHECKING ─► READY ─► told ─► recorded: known
 *       ▲                            │         ▲└─► BLOCKED: an event of this path is not settled yet
 *       └── somebody writes it ◄─────┤         └── it is gone: there is nothing to check
 *     CLOSE ◄── same, waits for IN_CLOSE_WRITE alone
 *
 * Complete is a file that nobody has open for writing: a read lease (F_SETLEASE) can be had only then. Where leases
 * cannot be had (other owner and no CAP_LEASE, some file systems) it is what inotify told: closed, moved in, or quiet
 * for FILE_SLOW_MS with no write seen.
 *
 * Nothing is lost or told twice: what an event makes known is written into the snapshot in the transaction that records
 * the event. After a crash without it the change is still one, and is found again.
 *
 * Thread: the loop's, but for the work of a check. */
#ifndef TRIGGERD_SOURCE_FILE_WATCH_H
#define TRIGGERD_SOURCE_FILE_WATCH_H

#include "base/inotify.h"
#include "base/util.h"
#include "lang/glob.h"
#include "source/list.h"

#include <glib.h>
#include <utlist.h>

#define FILE_SLOW_MS 1000       /* quiet for so long, if nobody closes it */
#define FILE_SLOW_MAX_MS 8000   /* between looks at a file that stays open */
#define FILE_BACKOFF_MIN_MS 500 /* doubling, ± 20 % */
#define FILE_BACKOFF_MAX_MS 8000
#define FILE_CHECK_MAX 256 /* files a check */
#define FILE_WINDOW 512    /* events reported and not settled */
#define FILE_SAVE_OPS 4096 /* entries in one group */
#define FILE_SAVE_GROUPS 8 /* groups under way */
#define FILE_SAVE_RETRY_MS 1000
#define FILE_LOAD_PAGE 1000 /* entries of the snapshot that are taken in one turn of the loop */

enum net_change { NET_NONE, NET_CREATED, NET_MODIFIED, NET_DELETED, NET_MOVED };

struct file_stamp {
    uint64_t ino;
    int64_t size, mtime_ns;
    int64_t ctime_ns; /* 0: not known; not compared, nor kept in the store */
    bool is_dir;
};

struct file;
struct source;

/* What has happened to a file since the last event. */
struct pending {
    struct pending *prev, *next; /* in s->todo or s->ready */
    struct source *source;
    struct file *file;
    struct timer timer;
    enum { PENDING_QUIET, PENDING_DUE, PENDING_CHECKING, PENDING_READY, PENDING_BLOCKED, PENDING_CLOSE } state;
    bool written;  /* for certain, whatever the time stamp says */
    bool unclosed; /* a write was seen, and no close since */
    bool sure;     /* closed or moved in: complete, as far as inotify can tell */
    bool slow;     /* waits for FILE_SLOW_MS or more */
    bool waited;   /* did so already */
    bool young;    /* found by the scan that takes the snapshot; belongs to it if it was made before */
    unsigned looks;
    unsigned changes; /* that would have been events of their own */
    uint64_t number;  /* of the last change */
    int64_t changed_ms;
    struct file_stamp stamp; /* by the scan that found it, then by the check */
};

/* An event on its way, until it is recorded. */
struct file_event {
    struct file_event *prev, *next; /* in s->outbox or s->told */
    enum net_change net;
    struct file *file, *from; /* `from`: MOVED only */
    struct file_stamp stamp;
    int64_t occurred_ms;
    uint64_t number; /* their order */
    bool written;    /* a group under way records it, and what it makes known */
    bool resave;     /* its files were touched meanwhile */
};

struct file {
    bool known, here;
    bool is_dir;             /* what is here */
    bool unsaved;            /* in the list of those to be written */
    unsigned saving;         /* groups under way that hold it */
    uint32_t epoch;          /* the last full scan that saw it, or a later event */
    struct file_stamp k;     /* as known */
    struct file *to, *from;  /* see the top */
    struct pending *p;       /* NULL: as known */
    struct file_event *busy; /* its own, or the one of a rename away from here */
    struct file *next_unsaved;
    char path[]; /* relative to the base */
};

enum start_mode { START_DIFFER, START_SILENT, START_ALL };

struct file_check;

struct source {
    struct source_host *host;
    struct source_env env;
    unsigned refs; /* one for itself, one for each thing asked of the store */
    bool stopped, paused, fresh;
    int64_t began_ns; /* wall clock */

    /* config */
    unsigned wants; /* 1 << NET_… */
    int64_t debounce_ms;
    int on_start;
    char *base;
    struct glob *glob; /* of relative paths */
    struct glob **ignore;
    size_t n_ignore;
    char *config_text; /* what a snapshot is worth nothing without */

    /* watching */
    struct watch_tree *tree;
    bool started;   /* the base was seen to be there, or not to be */
    bool here;      /* it is */
    bool scanned;   /* and all of it was looked at */
    bool full_scan; /* under way: what it does not find is gone, or is what was found elsewhere; events wait for it */
    bool failed;    /* it had an error */
    enum start_mode mode;
    uint32_t epoch;
    struct error error; /* shown; code 0: none */
    int64_t retry_ms;
    struct timer retry;
    struct loop_task show;
    char *shown; /* what was reported last */

    /* tracking */
    GTree *files; /* path → struct file */
    uint64_t changes;
    bool at_once; /* without debounce */
    bool urgent;  /* what is ready is decided at once, however much it is */
    struct pending *todo, *ready;
    struct file_check *check; /* under way */
    unsigned depth;

    /* reporting */
    struct file_event *outbox, *told;
    unsigned n_events; /* in both */
    bool refused;      /* until the timer or resume() */
    int64_t refused_ms;
    struct timer refused_timer;
    struct loop_task pump;
    uint64_t sequence;

    /* snapshot */
    char *scope;
    struct file *unsaved, *last_unsaved;
    unsigned saves;  /* groups under way */
    bool header_due; /* to be written behind everything else */
    bool incomplete; /* the first one is not written yet: it would be forgotten in a crash */
    struct timer save_retry;

    struct loop_task gone;
    void (*done)(void *ctx);
    void *done_ctx;
};

void file_source_unref(struct source *s);
void file_show(struct source *s);                    /* report the state, soon, if it has changed */
int64_t file_backoff(struct source *s, int64_t *ms); /* the next step of it, with its jitter */
/* Is the path (relative) one of those watched for? */
bool file_matches(const struct source *s, const char *path, bool is_dir);

/* ---- track ---- */

struct file *watched_find(const struct source *s, const char *path);
struct file *watched_get(struct source *s, const char *path);
/* Free it if nothing is to be said about it. */
void watched_reap(struct source *s, struct file *f);
void watched_init(struct source *s);
void watched_free(struct source *s);
void file_pending_free(struct file *f);
/* Look again after so many milliseconds of quiet. */
void file_pending_wait(struct source *s, struct file *f, int64_t delay_ms);
/* It is due: check it, or it can be told. */
void file_pending_due(struct source *s, struct file *f);
/* It is gone by what a check says. */
void watched_vanished(struct source *s, struct file *f);
/* It is known and not here, and nothing was told of that. */
void watched_missed(struct source *s, struct file *f);
/* `from` is not known any more (or is again): what was linked to it stands alone. */
void watched_unlink(struct source *s, struct file *from);

/* Calls that change things come between these two: the work that has gathered is begun in the last leave. */
void file_track_enter(struct source *s);
void file_track_leave(struct source *s);

void file_track_found(struct source *s, const char *path, const struct watch_stat *stat);
void file_track_created(struct source *s, const char *path, bool is_dir);
void file_track_written(struct source *s, const char *path);
void file_track_closed(struct source *s, const char *path);
void file_track_came(struct source *s, const char *path, bool is_dir);
void file_track_gone(struct source *s, const char *path);
void file_track_moved(struct source *s, const char *old_path, const char *path, bool is_dir);
void file_track_full_scan(struct source *s);
void file_track_scanned(struct source *s);
void file_track_base_gone(struct source *s);

/* ---- check ---- */

bool file_stamp_same(const struct file_stamp *a, const struct file_stamp *b);
void file_check_start(struct source *s); /* if there is something to check, and nothing under way */
void file_check_abandon(struct source *s);

/* ---- report ---- */

void file_report_pump(struct source *s);
void file_report_soon(struct source *s);
void file_report_ack(struct source *s, uint64_t token);
void file_report_nack(struct source *s, uint64_t token);
void file_report_resume(struct source *s);
void file_report_forget(struct source *s); /* all events that are not settled */

/* ---- snapshot ---- */

/* Read what an earlier life has left, or begin anew: s->fresh says which. Then file_snapshot_loaded(), perhaps from
 * inside; not after the source has stopped. */
void file_snapshot_load(struct source *s);
/* In file_watch.c: it was read, or (err) could not be; then nothing of it is kept. */
void file_snapshot_loaded(struct source *s, const struct error *err);
/* All that is left, whether or not the store can follow: the source stops. */
void file_snapshot_stop(struct source *s);
void file_snapshot_touch(struct source *s, struct file *f); /* to be written */
/* What `ev` makes known, into the group that records it; its files are not written by others until it is settled. */
void file_snapshot_record(struct file_event *ev, const struct source *s, struct store_group *g);
/* The first scan is over. */
void file_snapshot_complete(struct source *s);
/* Begin to write. True: all that is to be written is on its way. */
bool file_snapshot_flush(struct source *s);

#endif
