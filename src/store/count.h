/* How many rows there are of each sort (tables `event_groups`, `counts` and `event_minutes`): changes gathered over a batch in memory,
 * written as one upsert a sort before its commit. The entries are kept from batch to batch, so that counting allocates
 * nothing once a sort was seen.
 *
 * Thread: the writer's.
 */
#ifndef TRIGGERD_STORE_COUNT_H
#define TRIGGERD_STORE_COUNT_H

#include "base/util.h"

enum count_kind {
    COUNT_EVENTS,
    COUNT_RUNS,
    COUNT_MINUTES, /* events by minute; only in memory a kind of its own */
    COUNT_KINDS,
};

#define COUNT_STATUSES 8
#define COUNT_DECISIONS 16
#define COUNT_CELLS (COUNT_STATUSES * COUNT_DECISIONS)

struct count_entry;

struct counts {
    struct count_entry *entries; /* a uthash by key */
    struct count_entry *dirty;   /* a utlist: those with changes */
    struct count_entry *last;    /* that was asked for; NULL: not known */
    size_t n_entries;
    struct buf key;
    int64_t pending[COUNT_KINDS]; /* rows more or less in this batch … */
    int64_t total[COUNT_KINDS];   /* … and after the last that was committed */
};

/* `n` rows more (or less) of that sort. NULL texts count as ''; statuses and decisions out of range as the last. */
void counts_add(struct counts *c, enum count_kind kind, const char *trigger_id, const char *pipeline_id,
                const char *event_type, int status, int decision, int n);
/* Where the id of a group of events is remembered; 0: not known yet. Until the next call. */
int64_t *counts_group(struct counts *c, const char *trigger_id, const char *pipeline_id, const char *event_type,
                      int status, int decision);
/* Groups were deleted. */
void counts_forget_groups(struct counts *c);
void counts_add_minute(struct counts *c, int64_t occurred_ms, int status, int n);

/* Tell `put` every change that is not zero (`minute` for COUNT_MINUTES, else the texts); stops at what is not 0. */
typedef int counts_put_fn(void *ctx, enum count_kind kind, int64_t minute, const char *const texts[3], int status,
                          int decision, int n);
int counts_flush(struct counts *c, counts_put_fn *put, void *ctx);

/* The batch was committed, or was not. */
void counts_commit(struct counts *c);
void counts_rollback(struct counts *c);
void counts_fini(struct counts *c);

/* The minute of a time, rounded down. */
static inline int64_t count_minute(int64_t ms)
{
    int64_t minute = ms / 60000;
    return ms % 60000 < 0 ? minute - 1 : minute;
}

#endif
