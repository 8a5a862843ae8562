/* Shared by the files of this folder; nobody else includes it but tests of the store.
 *
 *   store.c      the port: submit, collect, open, close        group.c   groups and reads as values
 *   write.c      the writer thread: batches, commit, failure   apply.c   one operation → SQL
 *   read.c       the reader threads and their queries          row.c     columns → structs
 *   read_events.c  lists of events
 *   load.c       what is read before the loop runs             count.c   rows by sort
 *   migrate.c    connections, schema, version, damage          retention.c
 *   lock.c       the directory, its lock, the reserve file
 *   starts.c     runs whose start is not on disk yet
 *   wal_vfs.c    the log's writes in one
 *
 * Three kinds of state, by who may touch it: the owner's (no lock), what is shared (under `mutex`), the writer's (its
 * thread only, and the opener's before that thread starts and after it ended).
 */
#ifndef TRIGGERD_STORE_INTERNAL_H
#define TRIGGERD_STORE_INTERNAL_H

#include "base/util.h"
#include "store/count.h"
#include "store/starts.h"
#include "store/store.h"
#include "store/wal_vfs.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/types.h>
#include <time.h>

#define STORE_BATCH_OPS 4096
#define STORE_BATCH_BYTES (16u << 20)
#define STORE_READERS_MAX 16
#define STORE_READ_MS 5000 /* a read that takes longer ends with -ETIMEDOUT */
#define STORE_PAGE_SIZE_MAX 10000
#define STORE_GROUP_BYTES_MAX (512u << 20) /* well below SQLite's bound on one text, past which binding it fails */

/* ---- connections: migrate.c ---- */

enum connection { CONNECTION_WRITER, CONNECTION_READER };

/* Open and set up one connection. The writer's makes the file where there is none, and refuses one that is not ours or
 * newer before it changes anything; migrate_schema() then brings it up to date. A reader's finds all done. */
int connection_open(const char *path, const char *vfs, enum connection kind, sqlite3 **ret, struct error *err);
int migrate_schema(sqlite3 *db, const char *path, struct error *err);
/* What an SQLite result means: -ENOSPC, -EIO, -EROFS, -EBADMSG, -EACCES, -EBUSY, -ENOMEM, -ENOENT; 0 for OK, ROW, DONE.
 * `db` may be NULL. */
int sqlite_code(sqlite3 *db, int rc, const char *path);
/* The same with a message: `PATH: what: SQLite's words`, and advice where the file is damaged. */
int sqlite_error(sqlite3 *db, int rc, const char *path, const char *what, struct error *err);

/* ---- statements: one list for the writer ---- */

enum statement {
    ST_BEGIN,
    ST_COMMIT,
    ST_ROLLBACK,
    ST_TOUCH,
    ST_EVENT_INSERT,
    ST_EVENT_STATE,
    ST_EVENT_UPDATE,
    ST_GROUP_FIND,
    ST_GROUP_INSERT,
    ST_GROUP_ADD,
    ST_RUN_INSERT,
    ST_RUN_STATE,
    ST_RUN_UPDATE,
    ST_TEXT_FIND,
    ST_TEXT_INSERT,
    ST_STEP_PUT,
    ST_LOG_DELETE,
    ST_LOG_PUT,
    ST_DEDUP_PUT,
    ST_KV_PUT,
    ST_KV_TALLY,
    ST_KV_DELETE,
    ST_KV_CLEAR,
    ST_COUNT_ADD,
    ST_MINUTE_ADD,
    /* retention */
    ST_OLD_EVENTS_BY_TIME,
    ST_OLD_EVENTS_BY_SEQ,
    ST_OLD_RUNS_BY_TIME,
    ST_OLD_RUNS_BY_SEQ,
    ST_RUN_BY_ID,
    ST_EVENT_DELETE,
    ST_RUN_DELETE,
    ST_STEPS_DELETE,
    ST_LOGS_DELETE,
    ST_OLD_LOGS,
    ST_DEDUP_EXPIRE,
    ST_COUNT_SWEEP,
    ST_GROUP_SWEEP,
    ST_MINUTE_SWEEP,
    ST_TEXT_SWEEP,
    ST_N,
};

struct group_list {
    struct store_group *first, *last;
};

struct read_list {
    struct store_read *first, *last;
};

#define TEXT_CACHE_SLOTS 16

/* A pipeline's text that the last runs had, and its row. */
struct text_cached {
    int64_t id;
    char *text;
    size_t len;
};

/* What was tallied (STORE_KV_TALLY), gathered over a batch: one statement a key and batch. */
#define TALLY_SLOTS 64
struct tally {
    const struct store_op *op; /* the last of its key; NULL: a free slot */
    int64_t n;
};

enum retention_phase { PHASE_IDLE, PHASE_EVENTS, PHASE_RUNS, PHASE_LOGS, PHASE_DEDUP, PHASE_SWEEP };

struct writer {
    sqlite3 *db; /* NULL while it could not be reopened */
    sqlite3_stmt *statements[ST_N];
    struct counts counts;
    struct text_cached texts[TEXT_CACHE_SLOTS];
    struct tally tallies[TALLY_SLOTS]; /* by the key's hash */
    int wal_pages;                     /* in the log after the last commit */
    int checkpoint_pages;              /* try the next checkpoint at this size */
    /* broken */
    int broken;  /* 0, or what groups fail with */
    bool sticky; /* damaged: no probe mends that */
    struct group_list kept;
    bool kept_stuck;           /* tried in vain since the last probe */
    struct group_list settled; /* kept ones that were committed, to be handed back */
    bool reserve_released;
    int64_t probe_at_ns, backoff_ms;
    int64_t touched;
    /* retention */
    struct store_retention retention;
    enum retention_phase phase;
    int64_t retention_at_ns; /* next slice, or look for work; monotonic */
    int64_t log_seq;         /* how far PHASE_LOGS got */
    bool behind;             /* far over the limit: takes turns with batches */
    int64_t left;            /* events after the last pass: what is open may be more than the limit */
    bool deleted_runs, deleted_events;
};

struct store_hooks {
    const char *vfs;  /* SQLite VFS by name, NULL: the default */
    int64_t probe_ms; /* how long after a failure the first probe comes, 0: 500 */
};

struct store {
    struct store_port port;
    void (*wake)(void *ctx);
    void (*soon)(void *ctx);
    void (*state)(void *ctx, bool writable, const char *reason);
    void *ctx;
    char *dir, *path;
    const char *vfs;
    int64_t probe_ms;
    char node_id[33];
    struct starts *starts; /* the owner's; NULL: there was no room for them */
    int lock_fd;
    int reserve_fd;
    int64_t reserve_bytes; /* what it should hold; set at open */

    /* the owner's */
    int64_t seq;
    uint64_t submitted;
    size_t backlog_groups, backlog_bytes;
    struct group_list gathered; /* submitted, not yet handed to the writer */
    size_t gathered_groups;
    bool told_writable;
    sqlite3 *loader; /* also what keeps the log's index alive while the writer reopens, see writer_reopen() */

    pthread_mutex_t mutex;
    pthread_cond_t writer_cond, reader_cond;
    struct group_list queue; /* submitted, not yet taken by the writer … */
    size_t queue_groups, queue_urgent, queue_ops, queue_bytes;
    int64_t queue_since_ns; /* when it was empty last */
    struct group_list done;
    struct read_list reads, reads_done;
    bool closing;
    atomic_bool stopping; /* the same, for a read that is under way */
    bool woken;           /* store_collect() was asked for and has not come yet */
    bool writable;
    bool fell; /* was not writable at some time since the last collect */
    char reason[ERROR_MESSAGE_MAX];
    bool retention_changed;
    struct store_retention retention;
    struct histogram commit_times;

    struct writer w;
    pthread_t writer_thread, reader_threads[STORE_READERS_MAX];
    unsigned n_readers;
    bool writer_started;
};

int store_open_hooked(const struct store_options *options, const struct store_hooks *hooks, struct store_port **ret,
                      struct error *err);

static inline struct store *store_of(struct store_port *port)
{
    return container_of(port, struct store, port);
}

static inline int64_t monotonic_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static inline int64_t realtime_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

static inline void group_push(struct group_list *list, struct store_group *g)
{
    g->next = NULL;
    if (list->last)
        list->last->next = g;
    else
        list->first = g;
    list->last = g;
}

static inline struct store_group *group_pop(struct group_list *list)
{
    struct store_group *g = list->first;
    if (g) {
        list->first = g->next;
        if (!list->first)
            list->last = NULL;
        g->next = NULL;
    }
    return g;
}

/* All of `from` to the end of `list`. */
static inline void group_move(struct group_list *list, struct group_list *from)
{
    if (!from->first)
        return;
    if (list->last)
        list->last->next = from->first;
    else
        list->first = from->first;
    list->last = from->last;
    *from = (struct group_list){0};
}

/* ---- store.c ---- */

/* Under the mutex: true where the caller must call s->wake() once it has let go of the mutex. */
bool store_need_wake(struct store *s);

/* ---- write.c ---- */

void *writer_main(void *store);
/* Before the thread: *w is set up on an open connection. After it: everything is given back. */
void writer_init(struct store *s, sqlite3 *db);
void writer_fini(struct store *s);
/* A prepared statement, reset; NULL when it cannot be prepared (sqlite3_errcode() says why). */
sqlite3_stmt *writer_statement(struct writer *w, enum statement id);
/* Run it to its end: SQLITE_OK or an error. */
int statement_run(sqlite3_stmt *st);
int writer_begin(struct writer *w);
/* Write the counts and commit; on an error everything since writer_begin() is undone. */
int writer_commit(struct writer *w);
void writer_rollback(struct writer *w);

/* ---- apply.c ---- */

/* SQLite result. */
int apply_group(struct writer *w, const struct store_group *g);
/* What was gathered over the batch: counts and tallies. */
int apply_gathered(struct writer *w);
/* The batch was undone: what was gathered, and what is known of texts. */
void apply_forget(struct writer *w);
void texts_forget(struct writer *w);

/* ---- retention.c ---- */

/* One slice, in a transaction of its own; sets w->retention_at_ns. SQLite result. */
int retention_slice(struct writer *w);
/* There may be something to delete: look no later than some seconds from now. */
void retention_wrote(struct writer *w, int64_t now_ns);

/* ---- read.c ---- */

void *reader_main(void *store);

/* ---- row.c ---- */

extern const char event_columns[], run_columns[], step_columns[];
extern const char step_facts[]; /* the columns of a step, without its output */
/* From a row whose first columns are those; *ret was zero. */
void event_from_row(sqlite3_stmt *st, struct event *ret);
void run_from_row(sqlite3_stmt *st, struct run_row *ret);
void step_from_row(sqlite3_stmt *st, struct step_row *ret);
/* A new string, NULL for NULL. */
char *column_dup(sqlite3_stmt *st, int column);
/* SQLite result. Steps of a run, without what they printed. */
int steps_read(sqlite3 *db, int64_t run_seq, struct step_row **ret, size_t *ret_n);
/* One run by id with its pipeline's text; SQLITE_DONE: there is none. */
int run_read(sqlite3 *db, const char *id, struct run_row *ret);

/* ---- lock.c ---- */

int directory_make(const char *dir, struct error *err);
int directory_lock(const char *dir, int *ret_fd, struct error *err);
/* Open DIR/reserve and make it as large as it should and can be: *ret_bytes (at most `wanted`), *ret_held
 * false where it could not. */
int reserve_open(const char *dir, size_t wanted, int *ret_fd, int64_t *ret_bytes, bool *ret_held, struct error *err);
void reserve_release(int fd);
/* Hold `bytes` again, and see that there is room beside it for what is written next. -ENOSPC … */
int reserve_take(int fd, int64_t bytes);
/* Bytes that an ordinary user can still write where `path` lies, -1 if unknown. */
int64_t disk_free(const char *path);

/* ---- read.c: conditions ---- */

/* A condition as it grows: text with numbered parameters, and what they are bound to. */
struct where {
    struct buf sql;
    int n;
    struct {
        const char *text; /* NULL: the number */
        int64_t number;
    } bound[12];
};
void where_text(struct where *w, const char *condition, const char *text);
void where_number(struct where *w, const char *condition, int64_t number);
int where_prepare(sqlite3 *db, const struct where *w, const char *sql, sqlite3_stmt **ret);

/* ---- read_events.c ---- */

int read_events(sqlite3 *db, struct store_read *r);

#endif
