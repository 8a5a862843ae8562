/* One long-lived child with lines: what is written to its standard input a line at a time, what it answers likewise.
 * It knows nothing of requests.
 *
 *   STARTING ─► RUNNING ─► (asked: end of input) ─► SIGTERM ─► SIGKILL to its tree ─► ENDED
 *                  └──────────────────────────────────▲  worker_process_end()
 *
 * Its pipes are there, and take a line, before it has started. Its owner is told by callbacks, never from inside of a
 * call: of lines and output as they come, of faults, and once of the end, after which the owner forgets it. While the
 * owner's `hold` is open handles may remain.
 *
 * Thread: the loop's.
 */
#ifndef TRIGGERD_STEP_WORKER_PROCESS_H
#define TRIGGERD_STEP_WORKER_PROCESS_H

#include "base/loop.h"
#include "engine/step_type.h"
#include "spawn/spawn.h"

struct worker_process;

struct worker_process_end {
    const char *error; /* why it did not start; NULL: it did, and `status` tells how it ended */
    struct child_status status;
    size_t rest;  /* bytes of a line that it did not end */
    bool refused; /* its standard input was closed, which is why it was sent SIGTERM */
};

struct worker_process_events {
    void (*line)(void *ctx, const char *line, size_t len, bool more); /* `more`: something followed it at once */
    void (*printed)(void *ctx, const char *data, size_t len); /* on standard error; what came before a line first */
    void (*fault)(void *ctx, const char *what);               /* nothing more can be read from it, or written to it */
    void (*ended)(void *ctx, const struct worker_process_end *end); /* all that it had written was told */
};

/* Takes the request, filled but for its descriptors, its `done` and its tag. `mark`: its ORPHANS_TAG_VARIABLE with its
 * value, which is set here. `hold` gets a hold until the last handle is closed. */
int worker_process_start(const struct step_env *env, struct loop_group *hold, struct spawn_request *request,
                         const char *mark, const struct worker_process_events *events, void *ctx,
                         struct worker_process **ret, struct error *err);

/* Takes a line with its newline; the one before must have been answered. */
void worker_process_send(struct worker_process *p, char *line, size_t len);
/* Did it not read one byte of the line sent last? */
bool worker_process_ignored(const struct worker_process *p);
bool worker_process_alive(const struct worker_process *p);   /* not dead, and nobody asked it to end */
bool worker_process_running(const struct worker_process *p); /* it can take a line */

enum worker_process_how {
    WORKER_PROCESS_ASK,  /* end of input; SIGTERM when it takes longer than 2 s */
    WORKER_PROCESS_TERM, /* SIGTERM to its group */
};
/* SIGKILL follows 5 s after SIGTERM. Again, with TERM after ASK, makes it so. */
void worker_process_end(struct worker_process *p, enum worker_process_how how);

#endif
