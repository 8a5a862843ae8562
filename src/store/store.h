/* The store: what happened. SQLite in WAL mode, one writer thread, group commit, reader threads of its own.
 *
 * Writing. The owner (the loop thread) builds a struct store_group: operations that are committed together or not at
 * all, and submits it. The writer takes every group that has gathered, applies them in order of submission in one
 * transaction, commits with one sync (synchronous=FULL), and hands the results back: `wake` is called on the writer
 * thread, after which the owner calls store_collect(), which runs each group's `done` on the owner's thread, in order
 * of submission, exactly once. A group is recorded when done() gets 0; then it survives a kill and a power cut.
 * Otherwise nothing of it was recorded:
 *
 *   -ENOSPC     the disk is full
 *   -EIO        the database failed (it is reopened; a failed sync is never retried)
 *   -EROFS      the file system is read-only
 *   -ESHUTDOWN  the store is closing
 *   -EINVAL     the group is at fault itself (an id or a number that is taken, more than 512 MiB): it alone fails
 *
 * While the store is not writable, groups fail with the reason of that.
 *
 * Groups with STORE_LAZY may wait up to STORE_LAZY_MS for company: they ride on the next commit. Groups with STORE_KEEP
 * (ends of steps and runs) are not failed when the disk is full or the database fails: they are kept in order, and
 * committed when it works again; for them a reserve of disk space is given up first. While kept groups wait, other
 * groups fail at once. `state` tells the owner of each change between writable and not.
 *
 * Reading. store_read() queues a typed query to a reader thread (read-only connections, short reads, no cursor kept);
 * its `done` comes through store_collect() as well; -ETIMEDOUT after 5 s. The load functions run on the caller's thread
 * and are for the time before the loop runs.
 *
 * The engine sees the store through struct store_port only, so that a simulator can stand in for it.
 */
#ifndef TRIGGERD_STORE_STORE_H
#define TRIGGERD_STORE_STORE_H

#include "base/error.h"
#include "base/histogram.h"
#include "model/event.h"

/* With the commit itself within the 5 ms that are promised between a step's exit and its record. */
#define STORE_LAZY_MS 2

/* ---- operations ---- */

enum store_op_type {
    STORE_EVENT_INSERT, /* event: all of it; `seq` was set by the engine (store_port.next_seq) */
    STORE_EVENT_UPDATE, /* event: status decision reason error_message run_id resolved_inputs attempt started completed,
                           found by `seq`. A NULL resolved_inputs, reason or error_message leaves the recorded one. */
    STORE_RUN_INSERT,   /* run: all of it; the pipeline's text is kept once by its hash */
    STORE_RUN_UPDATE,   /* run: status outputs error_message attempt started completed, found by `seq` */
    STORE_STEP_PUT,     /* run_seq, step: the end of a step (replaces an earlier attempt's row), with what it printed */
    STORE_DEDUP_PUT,    /* scope, key, value (JSON text), expires_ms: a key that was seen; replaces */
    STORE_KV_PUT,       /* scope, key (bytes), value (bytes): state by namespace */
    STORE_KV_TALLY,  /* scope, key: a tally `COUNT LAST` as decimal text: one more, the last of them at `expires_ms` */
    STORE_KV_DELETE, /* scope, key; key NULL: the whole scope */
};

struct store_op {
    struct store_op *next;
    enum store_op_type type;
    /* Borrowed from the submitter until done(), whatever they point to included. */
    struct event *event;
    struct run_row *run;
    struct step_row *step;
    int64_t run_seq;
    /* Owned by the op (freed with it). */
    char *scope;
    char *key;
    size_t key_len;
    char *value;
    size_t value_len;
    int64_t expires_ms; /* of TALLY: when */
};

enum { STORE_LAZY = 1 << 0, STORE_KEEP = 1 << 1 };

#define STORE_FEW_OPS 2

struct store_group {
    struct store_group *next; /* the store's */
    struct store_op *ops, *last;
    struct store_op few[STORE_FEW_OPS]; /* the first of `ops`: most groups need no memory but their own */
    size_t n_ops;
    size_t bytes; /* about what it holds, for the queue's bound */
    unsigned flags;
    int result;                                      /* set before done() */
    uint64_t number;                                 /* order of submission; the store's */
    void (*done)(struct store_group *g, int result); /* on the owner's thread; owns the group: store_group_free() it */
    void *ctx;
};

struct store_group *store_group_new(unsigned flags, void (*done)(struct store_group *, int), void *ctx);
void store_group_free(struct store_group *g);
/* The same for a group inside something larger. */
void store_group_init(struct store_group *g, unsigned flags, void (*done)(struct store_group *, int), void *ctx);
void store_group_fini(struct store_group *g);
void store_add_event_insert(struct store_group *g, struct event *e);
void store_add_event_update(struct store_group *g, struct event *e);
void store_add_run_insert(struct store_group *g, struct run_row *r);
void store_add_run_update(struct store_group *g, struct run_row *r);
void store_add_step(struct store_group *g, int64_t run_seq, struct step_row *s);
void store_add_dedup(struct store_group *g, const char *scope, const char *key, const char *value, int64_t expires_ms);
void store_add_kv_put(struct store_group *g, const char *scope, const void *key, size_t key_len, const void *value,
                      size_t value_len);
void store_add_kv_tally(struct store_group *g, const char *scope, const char *key, int64_t last_ms);
void store_add_kv_delete(struct store_group *g, const char *scope, const void *key, size_t key_len);

/* ---- reads ---- */

enum store_read_type {
    STORE_READ_EVENTS, /* filter, page, page_size → events (newest first), total */
    STORE_READ_EVENT,  /* id → events[0]; -ENOENT */
    STORE_READ_RUNS,   /* filter, page, page_size, with_steps → runs (newest first), total, steps, steps_end */
    STORE_READ_RUN,    /* id → runs[0] with its pipeline text, steps (without output bytes); -ENOENT */
    STORE_READ_STEP,   /* id (of the run), step_id → steps[0] with out and err; -ENOENT */
    STORE_READ_DEDUP,  /* lookups, now_ms → the value of each */
    STORE_READ_SEEN,   /* scope, seen, now_ms → the first event of each key, and how it stands */
    STORE_READ_STATS,  /* since_ms → counts by event status */
    STORE_READ_KV,     /* scope, key → value; -ENOENT */
    STORE_READ_KV_PAGE, /* scope, key (NULL: from the start), page_size → pairs behind that key, in order of keys; none: 0 */
};

struct store_filter {
    char *trigger_id, *pipeline_id, *event_type; /* NULL: any; owned by the read */
    int status;                                  /* event or run status, -1: any */
    int decision;                                /* -1: any */
    int64_t since_ms, until_ms;                  /* occurred (events) or created (runs): since ≤ t < until; 0: open */
    int64_t before_seq; /* rows recorded before this one only; 0: all (for paging that does not shift) */
};

/* A key (not empty) and its value, in one piece of memory that begins with the key; both NUL-terminated. */
struct store_pair {
    char *key, *value;
    size_t key_len, value_len;
};

/* A key that may have been seen. */
struct store_lookup {
    const char *scope, *key; /* borrowed until done(); NULL: none, and unknown */
    void *ctx;               /* the asker's */
    char *value;             /* the answer, owned by the read; NULL: unknown or expired */
    size_t value_len;
};

/* The same, asking for the event that has it. */
struct store_seen {
    char *key;   /* asked; owned by the read; NULL: none, and unknown */
    char *event; /* the first one that has it, owned by the read; NULL: unknown or expired */
    int status;  /* of that event; -1: it is no longer kept */
};

struct store_read {
    struct store_read *next;
    enum store_read_type type;
    /* asked; texts owned by the read */
    struct store_filter filter;
    char *id, *step_id, *scope, *key;
    size_t key_len;
    struct store_lookup *lookups;
    size_t n_lookups;
    int64_t page, page_size; /* page from 1; at most 10000 rows a page */
    int64_t now_ms, since_ms;
    struct store_seen *seen; /* answered in place */
    size_t n_seen;
    bool no_total;   /* the caller does not want the count */
    bool with_steps; /* of RUNS: the ids of the pipeline's steps as its text, and the steps without their output */
    /* answered; owned by the read */
    struct event *events;
    size_t n_events;
    struct run_row *runs;
    size_t n_runs;
    struct step_row *steps;
    size_t n_steps;
    size_t *steps_end; /* with_steps: for each run the end of its own in `steps`; the first run's begin at 0 */
    char *value;
    size_t value_len;
    struct store_pair *pairs;
    size_t n_pairs;
    int64_t total;
    int64_t counts[8]; /* by event status */
    struct error error;
    void (*done)(struct store_read *r, int result); /* on the owner's thread; owns the read: store_read_free() it */
    void *ctx;
};

struct store_read *store_read_new(enum store_read_type type, void (*done)(struct store_read *, int), void *ctx);
void store_read_free(struct store_read *r);

/* ---- the port ---- */

struct store_port {
    void (*submit)(struct store_port *, struct store_group *g); /* takes it; never calls back from inside */
    void (*read)(struct store_port *, struct store_read *r);    /* takes it; never calls back from inside */
    int64_t (*next_seq)(struct store_port *); /* the next number for an event or a run; grows, also over restarts */
    bool (*writable)(struct store_port *);    /* as last told through the state callback */
    /* Groups and bytes submitted and not yet done: what intake is measured against. */
    size_t (*backlog)(struct store_port *, size_t *ret_bytes);
    /* Notes of runs that start before their start is on disk; a kill finds them again (starts.h). note_start: the
     * note, or -ENOSPC: then the start is recorded first. */
    int (*note_start)(struct store_port *, const char *run_id);
    void (*clear_start)(struct store_port *, int note);
    bool (*start_left)(struct store_port *, const char *run_id); /* by an earlier life */
    void (*clear_starts_left)(struct store_port *);
    /* The load functions below. */
    int (*load_open_events)(struct store_port *, int (*fn)(void *ctx, struct event *e), void *ctx, struct error *err);
    int (*load_run)(struct store_port *, const char *run_id, struct run_row *ret, struct step_row **ret_steps,
                    size_t *ret_n, struct error *err);
    int (*load_open_runs)(struct store_port *, int (*fn)(void *ctx, struct run_row *r), void *ctx, struct error *err);
    int (*load_kv)(struct store_port *, const char *scope,
                   int (*fn)(void *ctx, const char *key, size_t key_len, const char *value, size_t value_len),
                   void *ctx, struct error *err);
};

/* ---- the real one ---- */

struct store_options {
    const char *dir;                                             /* the state directory; made (0700) where missing */
    void (*wake)(void *ctx);                                     /* any thread: call store_collect() soon */
    void (*soon)(void *ctx);                                     /* owner: call store_flush() soon; NULL: not needed */
    void (*state)(void *ctx, bool writable, const char *reason); /* from store_collect(), on a change */
    void *ctx;
    unsigned readers;     /* reader threads; 0: 2 */
    size_t reserve_bytes; /* kept free for ends of runs; 0: 4 MiB */
};

struct store_retention {
    int64_t events;      /* rows kept at most */
    double days;         /* events and runs */
    double run_log_days; /* what steps printed */
};

/* Opens or creates DIR/triggerd.db. Refuses (-EBUSY) a directory that another process has locked, naming its pid;
 * (-EPROTO) a database of a newer version; (-EBADMSG) one that is damaged; (-EACCES, -EROFS, -ENOSPC …) what the system
 * says, with the path in `err`. */
int store_open(const struct store_options *options, struct store_port **ret, struct error *err);
/* Commits what was submitted, ends the threads, runs the callbacks that are left, closes, unlocks. NULL is allowed. */
void store_close(struct store_port *port);
void store_collect(struct store_port *port);
/* Hands the writer what was submitted since, as `soon` asked for at the first: what one turn of the loop submits makes
 * few batches, not one of its first group and one of the rest. */
void store_flush(struct store_port *port);
/* Keep to these limits from now on: the writer deletes in short slices when it has nothing else to do. */
void store_set_retention(struct store_port *port, const struct store_retention *retention);
/* 32 lower-case hex digits made once for the directory. */
const char *store_node_id(struct store_port *port);
/* How long the commits took, since the start. */
struct histogram store_commit_times(struct store_port *port);

/* Before the loop runs; on the caller's thread. The callbacks borrow their arguments. Return 0 or what the callback
 * returned. */
int store_load_open_events(struct store_port *port, int (*fn)(void *ctx, struct event *e), void *ctx,
                           struct error *err);
int store_load_run(struct store_port *port, const char *run_id, struct run_row *ret, struct step_row **ret_steps,
                   size_t *ret_n, struct error *err); /* owned by the caller; -ENOENT */
int store_load_open_runs(struct store_port *port, int (*fn)(void *ctx, struct run_row *r), void *ctx,
                         struct error *err);
int store_load_kv(struct store_port *port, const char *scope,
                  int (*fn)(void *ctx, const char *key, size_t key_len, const char *value, size_t value_len), void *ctx,
                  struct error *err);

#endif
