/* Secrets of a run: read before each attempt of a step that refers to some, so that a value which was changed meanwhile
 * is the new one, and before the first attempt at all, so that whatever any step prints is masked.
 *
 * The inputs of a run are stored with their references. Which of them are the manifest's own, and so may refer, was
 * written down when they were made (event.referring): what came with an event stays text. */
#include "engine/internal.h"

#include "engine/secret_read.h"

static bool is_referring(const struct live_run *run, const struct live_step *s)
{
    return (run->event && run->event->rec.referring) || (run->program->referring && run->program->referring[s->index]);
}

static cJSON *referring_keys(const struct live_run *run)
{
    const char *text = run->event ? run->event->rec.referring : NULL;
    cJSON *keys = NULL;
    if (text && value_parse(text, strlen(text), &keys, NULL) < 0)
        return NULL;
    return keys;
}

static void want_text(void *ctx, const char *text)
{
    struct attempt *a = ctx;
    secrets_want(a->step->run->secrets, text, a->dir);
}

/* At first all that the run refers to, so that each step masks what the others use; then what this one does. */
static void want(struct attempt *a)
{
    struct live_run *run = a->step->run;
    const struct step_type *type = a->call.type;
    for (size_t i = 0; !run->secrets_read && i < run->program->references.n; i++)
        want_text(a, run->program->references.items[i]);
    if (run->secrets_read && a->call.program && type->each_reference)
        type->each_reference(a->call.program, want_text, a);
    cJSON *keys = referring_keys(run);
    const cJSON *inputs = keys ? value_get(step_context(&a->call), "inputs") : NULL;
    const cJSON *key;
    cJSON_ArrayForEach (key, keys) {
        const cJSON *value = value_get(inputs, key->valuestring);
        if (value)
            secrets_want_tree(run->secrets, value, a->trigger_dir);
    }
    cJSON_Delete(keys);
}

static void secrets_read(void *ctx)
{
    struct attempt *a = ctx;
    a->reading = NULL;
    a->step->run->secrets_read = true;
    a->call.type->start(&a->call);
}

static void tell_given_up(struct timer *timer, void *ctx)
{
    (void)timer;
    struct attempt *a = ctx;
    struct step_result r = STEP_RESULT_INIT;
    r.status = STEP_CANCELLED;
    r.error = xstrdup("cancelled before it started");
    step_done(&a->call, &r);
}

void attempt_start(struct attempt *a)
{
    struct live_run *run = a->step->run;
    bool any = run->program->referring || (run->event && run->event->rec.referring);
    if (!any) {
        a->call.type->start(&a->call);
        return;
    }
    if (!run->secrets)
        run->secrets = secrets_create();
    a->dir = secret_dir_of(origin_file(run->pipeline->origin));
    a->trigger_dir = run->event ? secret_dir_of(origin_file(run->event->trigger->origin)) : NULL;
    a->secrets = (struct template_secrets){run->secrets, a->dir};
    a->call.secrets = &a->secrets;
    if (run->secrets_read && !is_referring(run, a->step)) {
        a->call.type->start(&a->call);
        return;
    }
    want(a);
    const struct step_env *env = a->call.env;
    a->reading = secret_read_start(env->loop, env->secrets_dirs, run->secrets, secrets_read, a);
    if (!a->reading)
        secrets_read(a);
}

void attempt_cancel(struct attempt *a)
{
    struct engine *e = a->step->run->engine;
    if (!a->reading) {
        a->call.type->cancel(&a->call);
        return;
    }
    secret_read_abandon(steal(&a->reading));
    timer_init(&a->gave_up, tell_given_up, a);
    timer_start(e->timers, &a->gave_up, engine_now(e));
}

int step_context_expanded(struct step_call *call, const cJSON **ret_context, const char **ret_inputs_text,
                          struct error *err)
{
    struct attempt *a = container_of(call, struct attempt, call);
    cJSON *keys = call->secrets && !a->context ? referring_keys(a->step->run) : NULL;
    if (keys) {
        const cJSON *plain = step_context(call);
        cJSON *root = cJSON_CreateObject();
        for (cJSON *item = plain->child; item; item = item->next)
            if (!streq(item->string, "inputs"))
                cJSON_AddItemReferenceToObject(root, item->string, item);
        cJSON *inputs = cJSON_Duplicate(value_get(plain, "inputs"), true);
        cJSON_AddItemToObject(root, "inputs", inputs);
        int r = 0;
        for (const cJSON *key = keys->child; key && r == 0; key = key->next) {
            char path[FIELD_PATH_MAX];
            cJSON *value = value_get(inputs, key->valuestring);
            if (value)
                r = secrets_expand_tree(call->secrets->secrets, value, field_path(path, "inputs", key->valuestring),
                                        a->trigger_dir, err);
        }
        cJSON_Delete(keys);
        if (r < 0) {
            cJSON_Delete(root);
            return r;
        }
        a->context = root;
        a->inputs_text = value_print(inputs);
    }
    if (ret_context)
        *ret_context = a->context ? a->context : step_context(call);
    if (ret_inputs_text)
        *ret_inputs_text = a->inputs_text ? a->inputs_text : call->inputs_text;
    return 0;
}

static void mask_bytes_of(const struct mask *m, char **bytes, size_t *len)
{
    struct buf b = {0};
    if (!*bytes || *len == 0)
        return;
    mask_bytes(m, *bytes, *len, &b);
    free(*bytes);
    *len = b.len;
    *bytes = buf_steal(&b);
}

void attempt_mask(struct attempt *a, struct step_result *r)
{
    struct secrets *s = a->step->run->secrets;
    if (!s)
        return;
    mask_string(secrets_mask(s), &r->error);
    mask_bytes_of(secrets_mask(s), &r->out, &r->out_len);
    mask_bytes_of(secrets_mask(s), &r->err, &r->err_len);
    if (r->output)
        secrets_mask_tree(s, r->output);
}

void attempt_fini(struct attempt *a)
{
    if (a->call.secrets) {
        cJSON_Delete(a->context);
        secret_free(a->inputs_text);
        free(a->dir);
        free(a->trigger_dir);
    }
    free(a->idempotency_key);
    free(a);
}
