#include "ctl/views.h"

#include "ctl/print.h"

#include <stdio.h>

const char *const trigger_states[] = {"active", "paused", "error", "disabled", NULL};
const char *const event_states[] = {"pending", "executing", "completed", "failed", "skipped", "cancelled", NULL};
const char *const run_states[] = {"pending", "running", "completed", "failed", "cancelled", "timed_out", NULL};

char *value_text(const cJSON *v)
{
    if (!v || cJSON_IsNull(v))
        return NULL;
    return cJSON_IsString(v) ? xstrdup(v->valuestring) : value_print(v);
}

char *source_text(const cJSON *resource)
{
    const cJSON *source = value_get(resource, "source");
    const char *file = value_get_string(source, "file");
    if (!file)
        return NULL;
    _cleanup_(freep) char *line = value_text(value_get(source, "line"));
    return line ? xasprintf("%s:%s", file, line) : xstrdup(file);
}

char *commit_text(const cJSON *source)
{
    const char *id = value_get_string(source, "commit");
    return id ? xasprintf("%.12s%s", id, cJSON_IsTrue(value_get(source, "dirty")) ? "-dirty" : "") : NULL;
}

const char *why_text(const cJSON *event)
{
    const char *error = value_get_string(event, "error_message");
    return error && *error ? error : value_get_string(event, "reason");
}

bool show_value(const struct args *a, const cJSON *v)
{
    const char *form = a->values[OPT_FORMAT];
    if (streq(form, "json"))
        print_json(v);
    else if (streq(form, "yaml"))
        print_yaml(v);
    else
        return false;
    return true;
}

static void add_word(struct buf *b, const char *word)
{
    if (!word || !*word)
        return;
    buf_adds(b, b->len ? "  " : "");
    text_escape(b, word);
}

void show_event(const struct args *a, const cJSON *event)
{
    if (show_value(a, event))
        return;
    struct buf b = {0};
    add_word(&b, value_get_string(event, "id"));
    add_word(&b, value_get_string(event, "trigger_id"));
    add_word(&b, value_get_string(event, "status"));
    add_word(&b, value_get_string(event, "decision"));
    add_word(&b, why_text(event));
    printf("%s\n", b.data ? b.data : "");
    buf_fini(&b);
}

void show_run(const struct args *a, const cJSON *run)
{
    if (show_value(a, run))
        return;
    struct buf b = {0};
    add_word(&b, value_get_string(run, "id"));
    add_word(&b, value_get_string(run, "pipeline_id"));
    add_word(&b, value_get_string(run, "status"));
    add_word(&b, value_get_string(run, "error_message"));
    printf("%s\n", b.data ? b.data : "");
    buf_fini(&b);
}
