/* The ledger of children: which processes this daemon started and has not reaped, kept where a kill -9 cannot reach.
 *
 * A file in the state directory, mapped shared: what was stored in it is in the page cache and survives the death of
 * the process at any instruction. (After a power loss its content is worthless, but then no process is left either; the
 * header's boot id tells.) The next life reads it with ledger_read() before it makes a new one.
 *
 *   FREE ──take──► STARTING ──started (by the child, before it does anything else)──► RUNNING ──release──► FREE
 *                     └───────────────── release (no child came to be) ─────────────────────────────────────┘
 *
 * The child itself writes its pid, so there is no moment at which it lives and is not in the ledger. A pid alone does
 * not name a process, since numbers are used again; pid and start time do. Instead of reading /proc for every child,
 * both sides of the clone note the boot-time clock, which is the one the kernel takes the start time from: field 22 of
 * /proc/PID/stat lies in start_min … start_max (proc_pid_stat(5); in clock ticks of sysconf(_SC_CLK_TCK)).
 *
 * A new life always makes a new file, so a child that the old one had just cloned writes into the old.
 */
#ifndef TRIGGERD_SPAWN_LEDGER_H
#define TRIGGERD_SPAWN_LEDGER_H

#include "base/error.h"

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define LEDGER_SLOTS_MAX 65536u
#define LEDGER_TAG_SIZE 40 /* with its NUL; longer tags are cut */

enum ledger_state { LEDGER_FREE, LEDGER_STARTING, LEDGER_RUNNING };

/* One child, one cache line; the file's format as well. */
struct ledger_slot {
    _Atomic uint32_t state; /* enum ledger_state */
    _Atomic int32_t pid;
    _Atomic uint64_t start_min, start_max; /* ticks since boot */
    char tag[LEDGER_TAG_SIZE];
};

struct ledger;

/* Make a new, empty ledger at `path`, replacing what is there (renamed into place). Errors: of the file system. */
int ledger_create(const char *path, struct ledger **ret, struct error *err);
/* Unmaps; the file stays. NULL is allowed. Nobody may hold a slot's address any more. */
void ledger_destroy(struct ledger *ledger);

/* Any thread. A slot in state STARTING with start_min = now. -ENOSPC: all LEDGER_SLOTS_MAX are in use, or the disk is
 * full; other errors of growing the file. */
int ledger_take(struct ledger *ledger, const char *tag, unsigned *ret_slot);
/* The slot's memory, for the child to write to. Valid until ledger_destroy(). */
struct ledger_slot *ledger_slot(struct ledger *ledger, unsigned slot);
/* Any thread, once a slot: its process was reaped, or never came to be. */
void ledger_release(struct ledger *ledger, unsigned slot);
/* How many slots are taken. Any thread. */
unsigned ledger_used(struct ledger *ledger);

/* A time of CLOCK_BOOTTIME in ticks, rounded down as the kernel does it. */
static inline uint64_t ledger_ticks(const struct timespec *t, uint64_t ticks_per_second)
{
    return (uint64_t)t->tv_sec * ticks_per_second + (uint64_t)t->tv_nsec / (1000000000u / ticks_per_second);
}

/* What an earlier life left: one entry for every slot that is not free. */
struct ledger_entry {
    pid_t pid; /* 0: STARTING, the child had not (yet) run */
    uint64_t start_min, start_max;
    char tag[LEDGER_TAG_SIZE];
};

/* Read the ledger at `path`. No entries and 0 when there is no file, or when it cannot speak of living processes: of
 * another boot or pid namespace, or damaged. free() the array. Errors: of opening and reading. */
int ledger_read(const char *path, struct ledger_entry **ret, size_t *ret_n, struct error *err);

#endif
