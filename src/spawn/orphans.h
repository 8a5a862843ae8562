/* Processes that got away: what an earlier life left running, and what of a run escaped its process group.
 *
 * Both hunts read all of /proc, mark what belongs to the run or life, kill it, and read again until nothing new is
 * found. That ends, since a process with a SIGKILL pending forks no more. A process belongs when it
 *
 *   - is named by the ledger with the same start time, or is the child hunted for;
 *   - has the mark, a `NAME=value`, in its environment (as of its exec);
 *   - is a child of one that belongs, or of a session that one of them is in. A session is always whole: setsid() made
 * it in a child of ours, or below one;
 *   - is in the session of a child in the ledger that is gone, and not older than it. (The kernel gives a session's
 *     number to no new process as long as the session has members.)
 *
 * For all but the first it must also have no_new_privs set. Every child of ours has it, no descendant can lose it, and
 * next to no other process has it: so neither a number used again nor a variable set for a whole container kills a
 * stranger. Never killed: this process, its ancestors, process 1, and, in orphans_kill(), what carries the id of
 * another node. Kills go by pidfd, after another look at the start time.
 *
 * What escapes: a process that left its session, cleared its environment and lost its parent, all before the hunt. Only
 * a cgroup holds that one.
 *
 * Cost: 10 to 30 µs a process on the machine, and a read of /proc/PID/environ can wait for a process that is stuck in a
 * page fault. So: a thread of the pool, not the loop.
 */
#ifndef TRIGGERD_SPAWN_ORPHANS_H
#define TRIGGERD_SPAWN_ORPHANS_H

#include "base/error.h"

#include <sys/types.h>

#define ORPHANS_NODE_VARIABLE "TRIGGERD_NODE_ID" /* every child has it; a manifest's `env` must not set it */
#define ORPHANS_TAG_VARIABLE "TRIGGERD_TAG"      /* likewise: one attempt of one step */
#define ORPHANS_DEADLINE_MS 5000

/* At the start of a life, under the lock of the state directory, before the first child and before ledger_create()
 * (which replaces the ledger): SIGKILL what the earlier life left and wait until it is gone. `node_id` NULL: by the
 * ledger alone.
 *
 * Returns how many were killed. Errors: -ETIMEDOUT: some were still there after ORPHANS_DEADLINE_MS (stuck in the
 * kernel), the message says which; of reading the ledger or /proc. Any thread. */
int orphans_kill(const char *ledger_path, const char *node_id, struct error *err);

/* Send `sig` to the group of a child that was not reaped yet (alive or zombie, so that the number is still its own).
 * With SIGKILL also to what left the group: descendants, the session, and whatever has `mark` in its environment
 * (`NAME=value` that only this step or run has; NULL: none). Does not wait. 0, or -EINVAL for a pid ≤ 1. Any thread. */
int child_kill_tree(pid_t pid, const char *mark, int sig);

/* `sig` to all that is below a child that was not reaped yet, by descent or in its session, but not to itself: for one
 * that only watches over the others (bwrap), and whose end would end them. How many got it, or the error of opening
 * /proc. Any thread. */
int child_signal_below(pid_t pid, int sig);

/* After attempts have ended: SIGKILL to whatever got away from their groups and still carries one of these tags in its
 * environment, with what belongs to it. Does not wait. How many were killed, or the error of opening /proc. Any thread.
 */
int orphans_sweep(char *const *tags, size_t n);

#endif
