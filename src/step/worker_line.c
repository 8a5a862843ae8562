#include "step/worker_line.h"

#include <errno.h>
#include <inttypes.h>

#define SHOWN_MAX 80         /* bytes of a line that is no answer */
#define KEPT_MAX (64 * 1024) /* memory that an empty buffer keeps */

static void add_text(struct buf *out, const char *key, const char *text)
{
    cJSON *v = cJSON_CreateString(text);
    _cleanup_(freep) char *printed = value_print(v);
    cJSON_Delete(v);
    buf_printf(out, ",\"%s\":%s", key, printed);
}

void worker_request_print(const struct worker_request *r, struct buf *out)
{
    buf_printf(out, "{\"id\":%" PRId64, r->id);
    add_text(out, "run_id", r->run_id);
    add_text(out, "step", r->step);
    buf_printf(out, ",\"attempt\":%d", r->attempt);
    add_text(out, "idempotency_key", r->idempotency_key);
    if (*r->traceparent)
        add_text(out, "traceparent", r->traceparent);
    buf_adds(out, ",\"inputs\":");
    size_t at = out->len;
    buf_adds(out, r->inputs_text);
    /* Outside of strings a line end is a blank, and inside there is none. */
    for (size_t i = at; i < out->len; i++)
        if (out->data[i] == '\n' || out->data[i] == '\r')
            out->data[i] = ' ';
    buf_adds(out, "}\n");
}

static int no_answer(const char *line, size_t len, const char *why, struct error *err)
{
    struct buf shown = {0};
    _cleanup_(freep) char *head = xstrndup(line, MIN(len, SHOWN_MAX));
    text_escape(&shown, head);
    error_set(err, -EINVAL, "its line on standard output is no answer (%s): \"%s\"%s", why,
              shown.data ? shown.data : "", len > SHOWN_MAX ? "…" : "");
    buf_fini(&shown);
    return -EINVAL;
}

/* A string as it is, anything else as its JSON; cut between characters. */
static char *error_text(const cJSON *v)
{
    char *text = cJSON_IsString(v) ? xstrdup(v->valuestring) : value_print(v);
    if (strlen(text) <= WORKER_ERROR_MAX)
        return text;
    size_t end = WORKER_ERROR_MAX;
    while (end > 0 && ((unsigned char)text[end] & 0xC0) == 0x80)
        end--;
    text[end] = '\0';
    char *cut = xasprintf("%s…", text);
    free(text);
    return cut;
}

int worker_answer_parse(const char *line, size_t len, struct worker_answer *ret, struct error *err)
{
    _cleanup_(cjson_deletep) cJSON *v = NULL;
    struct error why = ERROR_INIT;
    if (value_parse(line, len, &v, &why) < 0)
        return no_answer(line, len, why.message, err);
    if (!cJSON_IsObject(v))
        return no_answer(line, len, "no object", err);
    int64_t id = 0;
    const cJSON *id_node = value_get(v, "id");
    if (!id_node || !value_integer(id_node, &id))
        return no_answer(line, len, id_node ? "its `id` is not that of a request" : "no `id`", err);
    const cJSON *error = value_get(v, "error");
    if (error && cJSON_IsNull(error))
        error = NULL;
    cJSON *output = value_get(v, "output");
    if (!error && !output)
        return no_answer(line, len, "neither `output` nor `error`", err);
    *ret = (struct worker_answer){.id = id};
    if (error)
        ret->error = error_text(error);
    else
        ret->output = cJSON_DetachItemViaPointer(v, output);
    return 0;
}

void worker_answer_fini(struct worker_answer *a)
{
    cJSON_Delete(a->output);
    free(a->error);
    *a = (struct worker_answer){0};
}
