/* One child: what it does between clone and exec, why that failed, how it ended.
 *
 * child_main() runs in the daemon's memory, on a stack of its own, while the spawn thread is suspended: it makes system
 * calls and nothing else, allocates nothing and takes no lock. What it needs is computed beforehand into a struct
 * child_plan, and its failure is written there for the parent to read. Its order:
 *
 *   ledger → descriptors of its own → signal handlers to default → setsid → cgroup → descriptors 0–2, close the rest
 *   → umask → limits → user → cwd → no_new_privs → signal mask empty → exec
 *
 * so the child is in the ledger before it can do harm, enters its cwd and opens its program as the user it runs as, and
 * the limit of open files comes after the juggling of descriptors. A core file could hold secrets: its size limit is 0.
 * PR_SET_PDEATHSIG is not used: it is bound to the thread that started the child.
 */
#ifndef TRIGGERD_SPAWN_CHILD_H
#define TRIGGERD_SPAWN_CHILD_H

#include "base/error.h"
#include "spawn/ledger.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What was being done when a start failed. */
enum spawn_stage {
    SPAWN_STAGE_NONE,
    SPAWN_STAGE_QUEUE,  /* cancelled before its turn */
    SPAWN_STAGE_LEDGER, /* no slot */
    SPAWN_STAGE_FORK,
    SPAWN_STAGE_CGROUP,
    SPAWN_STAGE_DESCRIPTORS,
    SPAWN_STAGE_LIMITS,
    SPAWN_STAGE_SETGROUPS,
    SPAWN_STAGE_SETGID,
    SPAWN_STAGE_SETUID,
    SPAWN_STAGE_CWD,
    SPAWN_STAGE_PRIVILEGES, /* no_new_privs */
    SPAWN_STAGE_EXEC,
};
/* "fork", "cwd", … */
const char *spawn_stage_name(enum spawn_stage stage);

/* 0 leaves a limit as it is. One above the hard limit that an unprivileged daemon has is lowered to that. */
struct spawn_limits {
    uint64_t memory_bytes; /* RLIMIT_AS: address space, each process */
    uint64_t cpu_seconds;  /* RLIMIT_CPU: SIGXCPU at this, SIGKILL 5 s of CPU later; each process */
    uint64_t processes;    /* RLIMIT_NPROC: of the child's user on this machine (the kernel does not hold root to it) */
    uint64_t open_files;   /* RLIMIT_NOFILE, each process */
};

/* Where child_plan.parked has what. */
enum { CHILD_STDIN, CHILD_STDOUT, CHILD_STDERR, CHILD_CGROUP, CHILD_PARKED };

struct child_plan {
    char *const *candidates; /* paths to try in turn, NULL-terminated, at least one */
    char *const *argv, *const *envp;
    const char *cwd;          /* NULL: stay */
    int parked[CHILD_PARKED]; /* standard input, output, error, cgroup.procs: all above 2, shared with the daemon */
    bool enter_cgroup;
    int umask;        /* -1: stay */
    uint64_t signals; /* those to be set to their default action: bit n - 1 of signal n (child_signals()) */
    struct spawn_limits limits;
    uint64_t default_open_soft, default_open_hard; /* RLIMIT_NOFILE without limits.open_files; 0: stay */
    bool change_user;
    uid_t uid;
    gid_t gid;
    const gid_t *groups;
    size_t n_groups;
    struct ledger_slot *slot; /* NULL: none */
    uint64_t ticks_per_second;

    /* What the child leaves when it fails; untouched when exec succeeded. */
    int error; /* positive errno */
    enum spawn_stage stage;
    size_t candidate;  /* EXEC: the one that the error is about */
    const char *limit; /* LIMITS: its name */
};

/* The signals that this process ignores or handles. */
uint64_t child_signals(void);

/* The child. Never returns; `arg` is its struct child_plan. For clone(CLONE_VM | CLONE_VFORK | CLONE_FILES) only. */
int child_main(void *arg);

/* The parent, after a failure: look again why, and say it as `stage: what: reason`. Returns the negative errno. Reads
 * the file system (relative to the plan's cwd), so it can block as exec can. */
int child_explain(const struct child_plan *plan, struct error *ret);

/* How a process ended. */
struct child_status {
    int exit_code; /* 0–255; -1: by a signal */
    int signal;    /* 0: by exit */
    bool core;     /* left a core dump */
};

enum child_reap_flags {
    CHILD_REAP_GROUP = 1 << 0, /* first SIGKILL what is left of its process group, while the zombie holds the number */
    CHILD_REAP_DEAD = 1 << 1,  /* its pidfd did poll readable: GROUP need not make sure */
};

/* Reap the child whose pidfd polled readable; the pidfd stays open. Any thread, once. -EAGAIN: it still runs (nothing
 * was done, unless DEAD was said); -ECHILD: no child of this process, or reaped already. */
int child_reap(int pidfd, pid_t pid, unsigned flags, struct child_status *ret);

#define CHILD_STATUS_TEXT_SIZE 48
/* "exit code 3", "killed by SIGKILL", "killed by SIGSEGV (core dumped)". Returns `out`. */
const char *child_status_text(const struct child_status *status, char out[CHILD_STATUS_TEXT_SIZE]);

#endif
