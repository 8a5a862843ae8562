#include "step/process.h"

#include "base/util.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>

#define ERROR_TAIL_MAX 400

/* ---- what it is given ---- */

int process_fill(const struct exec_config *c, const struct exec_program *p, const cJSON *context,
                 const struct template_secrets *with, struct spawn_request *r, struct error *err)
{
    if (c->user && exec_user(c->user, r, err) < 0) /* before `env`, which may say otherwise of HOME */
        return err->code;
    for (size_t i = 0; i < p->n_env; i++) {
        char *text = NULL;
        if (template_expand_text_with(p->env[i].value, context, with, &text, err) < 0)
            return error_wrap(err, "env.%s", p->env[i].name);
        spawn_request_env(r, p->env[i].name, text);
        secret_free(text);
    }
    for (size_t i = 0; i < p->n_args; i++) {
        char *text = NULL;
        if (template_expand_text_with(p->args[i], context, with, &text, err) < 0)
            return error_wrap(err, "command[%zu]", i);
        spawn_request_arg(r, text);
        secret_free(text);
    }
    if (p->cwd && template_expand_text_with(p->cwd, context, with, &r->cwd, err) < 0)
        return error_wrap(err, "cwd");
    r->limits = (struct spawn_limits){(uint64_t)c->limits.memory_bytes, (uint64_t)ceil(c->limits.cpu_seconds),
                                      (uint64_t)c->limits.processes, (uint64_t)c->limits.open_files};
    return 0;
}

/* ---- what it printed ---- */

char *process_error_tail(const struct buf *err)
{
    size_t end = err->len;
    while (end > 0 && strchr("\n\r \t", err->data[end - 1]))
        end--;
    size_t from = end > ERROR_TAIL_MAX ? end - ERROR_TAIL_MAX : 0;
    const char *newline = from > 0 ? memchr(err->data + from, '\n', end - from) : NULL;
    if (newline)
        from = (size_t)(newline - err->data) + 1;
    cJSON *v = value_from_bytes(end > from ? err->data + from : "", end - from);
    char *text = xstrdup(v->valuestring);
    cJSON_Delete(v);
    return text;
}

char *process_end_text(const struct child_status *status, const struct cgroup_facts *facts)
{
    char how[CHILD_STATUS_TEXT_SIZE];
    return xasprintf("%s%s", child_status_text(status, how), facts->out_of_memory ? ", out of memory" : "");
}

void process_add_mark(struct buf *kept, uint64_t dropped)
{
    if (dropped > 0)
        buf_printf(kept, "\n[triggerd: %" PRIu64 " more bytes were dropped]\n", dropped);
}
