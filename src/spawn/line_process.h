/* One long-lived child with lines: what is written to its standard input a line at a time, what it answers likewise.
 * It knows nothing of requests.
 *
 *   STARTING ─► RUNNING ─► (asked: end of input) ─► SIGTERM ─► SIGKILL to its tree ─► ENDED
 *                  └──────────────────────────────────▲  line_process_end()
 *
 * Its pipes are there, and take a line, before it has started. Its owner is told by callbacks, never from inside of a
 * call: of lines and output as they come, of faults, and once of the end, after which the owner forgets it. While the
 * owner's `hold` is open handles may remain.
 *
 * Thread: the loop's.
 */
#ifndef TRIGGERD_SPAWN_LINE_PROCESS_H
#define TRIGGERD_SPAWN_LINE_PROCESS_H

#include "spawn/process.h"

struct line_process;

struct line_process_end {
    const char *error; /* why it did not start; NULL: it did, and `status` tells how it ended */
    struct child_status status;
    struct cgroup_facts facts;
    size_t rest;  /* bytes of a line that it did not end */
    bool refused; /* its standard input was closed, which is why it was sent SIGTERM */
};

struct line_process_events {
    void (*line)(void *ctx, const char *line, size_t len, bool more); /* `more`: something followed it at once */
    /* One was longer than `line_max`, and is left out. NULL: that is a fault. */
    void (*too_long)(void *ctx);
    void (*printed)(void *ctx, const char *data, size_t len); /* on standard error; what came before a line first */
    void (*fault)(void *ctx, const char *what);               /* nothing more can be read from it, or written to it */
    void (*ended)(void *ctx, const struct line_process_end *end); /* all that it had written was told */
};

/* `line_max`: bytes of a line. Takes the request, filled but for its descriptors, its `done` and its tag. `mark`: its ORPHANS_TAG_VARIABLE with its
 * value, which is set here. `hold` gets a hold until the last handle is closed. */
int line_process_start(const struct process_env *env, struct loop_group *hold, struct spawn_request *request,
                       const char *mark, size_t line_max, const struct line_process_events *events, void *ctx,
                       struct line_process **ret, struct error *err);

/* Takes a line with its newline; the one before must have been answered. */
void line_process_send(struct line_process *p, char *line, size_t len);
/* The same behind whatever is still to be written. Returns how many bytes are. */
size_t line_process_queue(struct line_process *p, char *line, size_t len);
/* Tell of no more lines, and read none, until it is let go on. Its end is told all the same, after all its lines. */
void line_process_hold(struct line_process *p, bool hold);
/* Did it not read one byte of the line sent last? */
bool line_process_ignored(const struct line_process *p);
bool line_process_alive(const struct line_process *p);   /* not dead, and nobody asked it to end */
bool line_process_running(const struct line_process *p); /* it can take a line */

enum line_process_how {
    LINE_PROCESS_ASK,  /* end of input; SIGTERM when it takes longer than 2 s */
    LINE_PROCESS_TERM, /* SIGTERM to its group */
};
/* SIGKILL follows 5 s after SIGTERM. Again, with TERM after ASK, makes it so. */
void line_process_end(struct line_process *p, enum line_process_how how);

#endif
