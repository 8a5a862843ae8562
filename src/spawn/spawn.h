/* The spawn threads: start processes so that neither the loop nor its memory size slows a start.
 *
 * They take requests in order and start each with clone(CLONE_VM | CLONE_VFORK | CLONE_PIDFD): nothing is copied but the
 * table of descriptors, and only the thread of a start waits for its exec, half of whose time passes on another
 * processor: with two threads that is not lost. What the child does until exec is child.h.
 *
 *   owner:   spawn_request_new ─► fill in ─► spawner_submit        spawner_collect ─► done(ctx, result)
 *                                                 │ (queued)              ▲
 *   threads:                                      └─► start it ─► wake ───┘ (ended)
 *
 * `done` runs exactly once for every request submitted, in the owner's thread, from inside spawner_collect() or
 * spawner_destroy() and from nowhere else.
 *
 * Most children live for a few milliseconds, and a wake of the owner for each start and a set of calls to watch each
 * pidfd would cost as much as the rest of its work. So a request may name a struct spawn_exit: its thread then
 * puts the pidfd into one epoll set of the spawner's, the owner waits for that set alone (spawner_exits_fd()), and is
 * not woken for a start that went well: that is told together with whatever comes next, at the latest with the end.
 *
 * Descriptors: a request's own (stdio and cgroup) are the spawner's from spawner_submit() on and closed by it as soon
 * as the start was tried, so that the owner sees the end of file when the child closes its ends. The pidfd of the
 * result is the owner's: poll it for reading (or have its end told), child_reap(), ledger_release() of the slot, close.
 * Every start needs one descriptor.
 *
 * The process must not ignore SIGCHLD (its children would be reaped by the kernel, and their numbers used again).
 */
#ifndef TRIGGERD_SPAWN_SPAWN_H
#define TRIGGERD_SPAWN_SPAWN_H

#include "base/error.h"
#include "spawn/child.h"
#include "spawn/ledger.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define SPAWN_NO_SLOT (-1)
#define SPAWN_THREADS_MAX 4

struct spawn_result {
    pid_t pid;              /* 0 when it failed; also its process group and session */
    int pidfd;              /* -1 when it failed; the receiver's to close */
    int slot;               /* in the ledger, the receiver's to release when the child is reaped; SPAWN_NO_SLOT: none */
    enum spawn_stage stage; /* NONE: it runs */
    struct error error;     /* code 0: it runs; -ECANCELED: never started; else as `exec: /x/y: is a directory` */
};

/* The owner's, until `fn` was called: once, from inside spawner_collect(), after the request's `done`, when the process
 * is dead and not reaped. A start that failed has no end. */
struct spawn_exit {
    void (*fn)(void *ctx);
    void *ctx;
    bool told, early; /* the spawner's: `done` has run; the end came before that */
};

struct spawn_chunk;

struct spawn_request {
    /* argv[0] with a '/' is the program (relative to cwd), without one it is searched in the PATH of envp (default
     * /usr/local/bin:/usr/bin:/bin; an empty element is cwd). Filled by spawn_request_arg() and _env(),
     * NULL-terminated. */
    char **argv, **envp;
    char *cwd;     /* malloc'ed; NULL: the daemon's */
    int fds[3];    /* stdin, stdout, stderr; -1 (the default): /dev/null. Two may be the same descriptor. */
    int cgroup_fd; /* cgroup.procs, open for writing; -1 (the default): none */
    int umask;     /* -1 (the default): the daemon's */
    bool change_user;
    uid_t uid;
    gid_t gid;
    gid_t *groups; /* malloc'ed; all its supplementary groups */
    size_t n_groups;
    struct spawn_limits limits;
    char tag[LEDGER_TAG_SIZE]; /* for the ledger: the run's id */
    void (*done)(void *ctx, const struct spawn_result *result);
    void *ctx;
    struct spawn_exit *exit; /* NULL (the default): the owner watches the pidfd itself */

    /* The spawner's. */
    struct spawn_request *prev, *next;
    enum { SPAWN_NEW, SPAWN_QUEUED, SPAWN_STARTING, SPAWN_ENDED } state;
    bool urgent; /* to be told of, though it went well */
    struct spawn_result result;
    size_t argc, envc;
    struct spawn_chunk *chunks; /* what argv and envp point to */
};

/* With everything at its default and no argv. */
struct spawn_request *spawn_request_new(void);
/* Only for one that was not submitted: closes its descriptors, frees it. NULL is allowed. */
void spawn_request_free(struct spawn_request *request);
/* Append a copy of one argument. */
void spawn_request_arg(struct spawn_request *request, const char *arg);
/* Set `name` to a copy of `value`; the last one set wins. */
void spawn_request_env(struct spawn_request *request, const char *name, const char *value);

struct self_mount;

struct spawner_options {
    struct ledger *ledger; /* borrowed until spawner_destroy(); NULL: none is kept */
    /* Something is to be collected. From a spawn thread, or from inside spawner_cancel() and spawner_collect(): hands a
     * signal on (as uv_async_send() does), calls no function of the spawner's. Not repeated until spawner_collect() has
     * looked, and not begun any more once spawner_destroy() was called. */
    void (*wake)(void *ctx);
    void *wake_ctx;
    /* RLIMIT_NOFILE for children without limits.open_files, where the daemon raised its own; 0: the daemon's. A soft
     * limit above 1024 surprises programs that use select(). */
    uint64_t default_open_soft, default_open_hard;
    unsigned threads;               /* at most SPAWN_THREADS_MAX; 0: 1 */
    const struct self_mount *avoid; /* nothing is started in it; NULL: there is none */
};

struct spawner;

/* Holds two descriptors, and four a thread. Errors: of opening them, starting a thread, mapping its child's stack. */
int spawner_create(const struct spawner_options *options, struct spawner **ret, struct error *err);

/* The owner's thread. Children get the default action of every signal; which of them this process ignores or handles is
 * looked at once, before the first start: set them up before it. Takes ownership of the request, which lives until its `done` has returned. */
void spawner_submit(struct spawner *spawner, struct spawn_request *request);

/* Readable when the end of a process is to be collected. The spawner's; do not read it. */
int spawner_exits_fd(const struct spawner *spawner);

/* The owner's thread, for a request whose `done` has not been called. True: it was still queued and will end with
 * -ECANCELED. False: too late, `done` will tell how the start went, soon. */
bool spawner_cancel(struct spawner *spawner, struct spawn_request *request);

/* The owner's thread, after a wake (or at any time): run what completed, in order, and then tell of ends; at most `max`
 * of each when that is not 0, and wake again for the rest (of ends, some at a time: spawner_exits_fd() stays readable).
 * Returns how many ran. A `done` may submit and cancel. */
size_t spawner_collect(struct spawner *spawner, size_t max);

/* The owner's thread, not from inside a `done`. Cancels what is queued, waits for starts under way (as long as its
 * exec takes), runs what is left to collect, frees. NULL is allowed. A `done` called from here must not submit. */
void spawner_destroy(struct spawner *spawner);

#endif
