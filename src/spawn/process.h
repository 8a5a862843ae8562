/* What all that run programs share: the least that a program is given, its pipes, and how its tree is ended. Thread: the
 * loop's. */
#ifndef TRIGGERD_SPAWN_PROCESS_H
#define TRIGGERD_SPAWN_PROCESS_H

#include "base/loop.h"
#include "spawn/cgroup.h"
#include "spawn/spawn.h"

struct sweeper;

/* What a child is started and ended with. */
struct process_env {
    struct loop *loop;
    struct spawner *spawner;
    struct ledger *ledger;   /* where it is noted; NULL: nowhere */
    struct sweeper *sweeper; /* ends what it left behind; NULL: nobody */
    struct cgroups *cgroups; /* one for each tree; NULL: there are none */
};

/* PATH, HOME and LANG. */
void process_base_env(struct spawn_request *r);

/* Pipes for standard input, output and error: our ends, in that order, and theirs in the request. Where it fails those
 * that were opened are in place, to be closed. */
int process_pipes(int *ours[3], struct spawn_request *r, struct error *err);

/* A control group for the request, where there are any; the limits that it keeps leave the request. The last before the
 * start: when the request is not submitted the group has to be released. NULL: it does without. */
struct cgroup *process_cgroup(struct cgroups *all, struct spawn_request *r);

/* SIGKILL to its group at once, and by a look through all processes to what left the group and has `mark` (NAME=value)
 * in its environment. `done` comes later from the loop; until then the process must not be reaped. */
void process_kill_tree(struct loop *loop, pid_t pid, const char *mark, void (*done)(void *ctx), void *ctx);

/* SIGTERM to all that is below it and not to itself, off the loop; `done` as above. For what runs in a sandbox. */
void process_ask_below(struct loop *loop, pid_t pid, void (*done)(void *ctx), void *ctx);

#endif
