/* What the kinds of steps that run programs share: what a program is given, its pipes, how its tree is ended, and how
 * what it printed is told. Thread: the loop's. */
#ifndef TRIGGERD_STEP_PROCESS_H
#define TRIGGERD_STEP_PROCESS_H

#include "base/loop.h"
#include "step/exec_config.h"

/* PATH, HOME and LANG. */
void process_base_env(struct spawn_request *r);
/* What the config says: `env`, `command`, `cwd`, `user`, `limits`. Called after what `env` may override was set. */
int process_fill(const struct exec_config *c, const struct exec_program *p, const cJSON *context,
                 const struct template_secrets *with, struct spawn_request *r, struct error *err);

/* Pipes for standard input, output and error: our ends, in that order, and theirs in the request. Where it fails those
 * that were opened are in place, to be closed. */
int process_pipes(int *ours[3], struct spawn_request *r, struct error *err);

/* SIGKILL to its group at once, and by a look through all processes to what left the group and has `mark` (NAME=value)
 * in its environment. `done` comes later from the loop; until then the process must not be reaped. */
void process_kill_tree(struct loop *loop, pid_t pid, const char *mark, void (*done)(void *ctx), void *ctx);

/* SIGTERM to all that is below it and not to itself, off the loop; `done` as above. For what runs in a sandbox. */
void process_ask_below(struct loop *loop, pid_t pid, void (*done)(void *ctx), void *ctx);

/* Bytes as a JSON string: what is no UTF-8, and NUL, becomes U+FFFD. */
cJSON *process_text(const char *data, size_t len);
/* The last lines of standard error, without the newline at the end; free() it. */
char *process_error_tail(const struct buf *err);
/* What was left out, at the end of what was kept. */
void process_add_mark(struct buf *kept, uint64_t dropped);

#endif
