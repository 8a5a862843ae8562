/* What the kinds of steps that run programs share: what a program is given by its config, and how what it printed is told. Thread: the loop's. */
#ifndef TRIGGERD_STEP_PROCESS_H
#define TRIGGERD_STEP_PROCESS_H

#include "spawn/process.h"
#include "step/exec_config.h"

/* What the config says: `env`, `command`, `cwd`, `user`, `limits`. Called after what `env` may override was set. */
int process_fill(const struct exec_config *c, const struct exec_program *p, const cJSON *context,
                 const struct template_secrets *with, struct spawn_request *r, struct error *err);

/* The last lines of standard error, without the newline at the end; free() it. */
char *process_error_tail(const struct buf *err);
/* How it ended, as child_status_text(), and that it was for want of memory; free() it. */
char *process_end_text(const struct child_status *status, const struct cgroup_facts *facts);
/* What was left out, at the end of what was kept. */
void process_add_mark(struct buf *kept, uint64_t dropped);

#endif
