/* Control groups (cgroup v2): one for the processes of each step, where the daemon was given some to divide.
 *
 *   GIVEN/                what systemd delegated (Delegate=yes, DelegateSubgroup=), or the root of a container's own
 *   ├── daemon/           the daemon: a group with members of its own cannot hand controllers on
 *   └── steps-NODE/       everything that steps run, of this life or an earlier one
 *       ├── 1/            one tree of processes: an attempt, or a worker
 *       └── 2/ …
 *
 * Nothing leaves a group without the right to write to another's: what changed its session, its environment and its
 * parent is still in it, and one write kills all of it, whatever it forks meanwhile. So where there are groups, nothing
 * is looked for in /proc.
 *
 *   a group:  take ─► (start in it by the descriptor) ─► release ─► empty: kept for the next │ still has members: killed,
 *                                                                                            looked at again until empty
 *
 * Making and removing one costs 50 to 100 µs of processor time, entering one 20 µs: groups without limits are used again,
 * IDLE_MAX of them are kept; one with limits is made for its attempt and removed after it, so that its counts are its
 * own.
 *
 * Each in use holds two descriptors. Thread: the loop's.
 */
#ifndef TRIGGERD_SPAWN_CGROUP_H
#define TRIGGERD_SPAWN_CGROUP_H

#include "base/error.h"
#include "base/loop.h"
#include "spawn/child.h"

struct cgroups;
struct cgroup;

/* Find the group that was given, end what an earlier life of `node_id` left in it (waits for it up to 5 s), move this
 * process and make room for steps. Before the first child, under the lock of the state directory. `loop`: for looking
 * again at groups that are not empty yet; NULL: they are looked at only when another is taken or released.
 * -ENOTSUP: there is none, err says why: the usual case without systemd; other errors: of what was given. */
int cgroups_create(struct loop *loop, const char *node_id, struct cgroups **ret, struct error *err);
/* The same in a directory that is known to be given. */
int cgroups_create_in(struct loop *loop, const char *directory, bool move_self, const char *node_id,
                      struct cgroups **ret, struct error *err);
/* Every group must have been released. Kills what is left, waits a moment for it, removes. NULL is allowed. */
void cgroups_destroy(struct cgroups *all);

/* As `/sys/fs/cgroup/x.service (memory, pids)`: where, and the controllers there are. Borrowed. */
const char *cgroups_text(const struct cgroups *all);

/* An empty group, and a new descriptor of its cgroup.procs in *ret_fd (spawn_request.cgroup_fd). Limits that the group
 * keeps are its own from here on and are set to 0 in `limits`: memory_bytes and processes, where there are the
 * controllers; then they hold for the tree as a whole. cpu_seconds stays, and makes the group count from 0. NULL where
 * none can be had: the caller does without. */
struct cgroup *cgroup_take(struct cgroups *all, struct spawn_limits *limits, int *ret_fd);
/* SIGKILL to all that is in it. */
void cgroup_kill(struct cgroup *g);
/* What is still in it is killed. The caller forgets it. NULL is allowed. */
void cgroup_release(struct cgroup *g);

/* What an attempt ran into, before its group is released. */
struct cgroup_facts {
    bool out_of_memory; /* the kernel killed all of it for its memory */
    bool no_processes;  /* a fork failed at the limit of processes */
    int64_t cpu_us;     /* used by all of it, in user and system mode, if it has limits; -1: not known */
};
void cgroup_look(struct cgroup *g, struct cgroup_facts *ret);

#endif
