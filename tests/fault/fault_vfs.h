/* An SQLite VFS that fails on demand: everything goes to the default one, but what changes the disk is counted, and
 * from the armed call on (or only there) it fails. The countdown is dqlite's idea (test/lib/fault.h).
 *
 * One for the process; any thread.
 */
#ifndef TRIGGERD_TESTS_FAULT_VFS_H
#define TRIGGERD_TESTS_FAULT_VFS_H

#include <stdbool.h>

#define FAULT_VFS "fault"

enum fault_call {
    FAULT_WRITE = 1 << 0,
    FAULT_SYNC = 1 << 1,
    FAULT_TRUNCATE = 1 << 2,
    FAULT_OPEN = 1 << 3,
    FAULT_MAP = 1 << 4,       /* of the log's index */
    FAULT_ALL = (1 << 5) - 1, /* that changes the disk */
    FAULT_READ = 1 << 5,
};

void fault_register(void);

/* Let the call number `countdown` (from 0) of the `calls` from now on fail with the SQLite result `code`, and the
 * `times`
 * - 1 after it too. A write that fails leaves half of its bytes. */
void fault_arm(unsigned calls, long countdown, long times, int code);
void fault_disarm(void);
/* Of those counted since fault_arm(). */
long fault_count(void);
/* How many failed since then. */
long fault_hits(void);

#endif
