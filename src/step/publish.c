/* publish: one message to a broker as a step; it ends when the broker has confirmed. Its output is {queue, message_id}. */
#include "step/publish.h"

#include "base/loop.h"
#include "base/util.h"
#include "client/kafka.h"
#include "engine/step_type.h"
#include "step/list.h"

#include <errno.h>

const struct queue_publisher_type *const queue_publisher_types[QUEUE_TYPES] = {
    [QUEUE_REDIS] = &redis_publisher,
    [QUEUE_RABBITMQ] = &amqp_publisher,
    [QUEUE_KAFKA] = &kafka_publisher,
    [QUEUE_SQS] = &sqs_publisher,
};

/* ---- the publishers ---- */

struct queue_publishers {
    struct queue_env env;
    const struct queue_publisher_type *const *types;
    struct queue_publisher *made[QUEUE_TYPES];
    unsigned closing;
    struct loop_task gone;
    void (*done)(void *ctx);
    void *done_ctx;
};

static void all_gone(void *ctx)
{
    struct queue_publishers *p = ctx;
    void (*done)(void *) = p->done;
    void *done_ctx = p->done_ctx;
    free(p);
    done(done_ctx);
}

struct queue_publishers *queue_publishers_create(const struct queue_env *env,
                                                 const struct queue_publisher_type *const *types)
{
    struct queue_publishers *p = xcalloc(1, sizeof(*p));
    p->env = *env;
    p->types = types;
    loop_task_init(&p->gone, all_gone, p);
    return p;
}

static void one_gone(void *ctx)
{
    struct queue_publishers *p = ctx;
    if (--p->closing == 0)
        loop_defer(p->env.loop, &p->gone);
}

void queue_publishers_close(struct queue_publishers *p, void (*done)(void *ctx), void *ctx)
{
    p->done = done;
    p->done_ctx = ctx;
    p->closing = 1;
    for (size_t i = 0; i < QUEUE_TYPES; i++)
        if (p->made[i]) {
            p->closing++;
            p->types[i]->close(p->made[i], one_gone, p);
        }
    one_gone(p);
}

static struct queue_publisher *publisher_of(struct queue_publishers *p, int type)
{
    if (!p->made[type])
        p->made[type] = p->types[type]->create(&p->env);
    return p->made[type];
}

/* ---- the manifest ---- */

enum text { TEXT_QUEUE, TEXT_KEY, TEXT_MESSAGE_ID, TEXT_EXCHANGE, TEXT_ROUTING_KEY, TEXTS };

static const struct {
    const char *key;
    size_t offset;
} texts[TEXTS] = {
    [TEXT_QUEUE] = {"queue_name", offsetof(struct queue_config, queue_name)},
    [TEXT_KEY] = {"key", offsetof(struct queue_config, key)},
    [TEXT_MESSAGE_ID] = {"message_id", offsetof(struct queue_config, message_id)},
    [TEXT_EXCHANGE] = {"exchange", offsetof(struct queue_config, exchange)},
    [TEXT_ROUTING_KEY] = {"routing_key", offsetof(struct queue_config, routing_key)},
};

struct program {
    struct template *texts[TEXTS]; /* NULL: not given */
    struct template_tree *body, *headers;
    const struct queue_config *config; /* the step's */
};

static void validate(const void *config, const cJSON *node, const char *path, struct issues *issues)
{
    const struct queue_config *c = config;
    queue_step_validate(c, node, path, issues);
    if (c->queue_type == QUEUE_KAFKA)
        kafka_options_validate(c, node, path, issues);
}

static void free_program(void *program)
{
    struct program *p = program;
    if (!p)
        return;
    for (size_t i = 0; i < TEXTS; i++)
        template_destroy(p->texts[i]);
    template_tree_destroy(p->body);
    template_tree_destroy(p->headers);
    free(p);
}

static int compile(const struct step *step, const cJSON *node, const char *path, void **ret_program,
                   struct issues *issues)
{
    const struct queue_config *c = step->config;
    size_t before = issues->errors;
    struct program *p = xcalloc(1, sizeof(*p));
    char at[FIELD_PATH_MAX];
    p->config = c;
    for (size_t i = 0; i < TEXTS; i++) {
        const char *text = *(char *const *)((const char *)c + texts[i].offset);
        if (text)
            p->texts[i] = template_field(text, TEMPLATE_TEXT | TEMPLATE_SECRETS, value_get(node, texts[i].key),
                                         field_path(at, path, texts[i].key), issues);
    }
    if (c->body)
        template_tree_compile(value_get(node, "body"), TEMPLATE_SECRETS, field_path(at, path, "body"), &p->body,
                              issues);
    if (c->headers)
        template_tree_compile(value_get(node, "headers"), TEMPLATE_TEXT | TEMPLATE_SECRETS,
                              field_path(at, path, "headers"), &p->headers, issues);
    if (issues->errors != before) {
        free_program(p);
        return -EINVAL;
    }
    *ret_program = p;
    return 0;
}

static void each_path(const void *program, void (*fn)(void *ctx, const char *path), void *ctx)
{
    const struct program *p = program;
    struct path_teller t = {fn, ctx};
    for (size_t i = 0; i < TEXTS; i++)
        if (p->texts[i])
            template_each_path(p->texts[i], path_tell, &t);
    if (p->body)
        template_tree_each_path(p->body, path_tell, &t);
    if (p->headers)
        template_tree_each_path(p->headers, path_tell, &t);
}

static void each_reference(const void *program, void (*fn)(void *ctx, const char *text), void *ctx)
{
    const struct program *p = program;
    for (size_t i = 0; i < TEXTS; i++)
        if (p->texts[i])
            template_each_reference(p->texts[i], fn, ctx);
    if (p->body)
        template_tree_each_reference(p->body, fn, ctx);
    if (p->headers)
        template_tree_each_reference(p->headers, fn, ctx);
    queue_config_each_reference(p->config, fn, ctx);
}

/* ---- one message ---- */

struct request {
    struct step_call *call;
    const struct queue_publisher_type *type;
    struct queue_publish *publish; /* NULL: it did not come to that, or was cancelled */
    struct queue_setup *setup;
    char *texts[TEXTS]; /* filled in */
    char *body;
    cJSON *headers;
    struct loop_task ending; /* what is told without a broker */
    char *failure;           /* NULL: cancelled */
    bool permanent;
};

static void tell(struct request *q, struct step_result *r)
{
    struct step_call *call = q->call;
    loop_task_cancel(call->env->loop, &q->ending);
    call->state = NULL;
    for (size_t i = 0; i < TEXTS; i++)
        secret_free(q->texts[i]);
    secret_free(q->body);
    cJSON_Delete(q->headers);
    queue_setup_unref(q->setup);
    free(q->failure);
    free(q);
    step_done(call, r);
}

static void end(void *ctx)
{
    struct request *q = ctx;
    struct step_result r = STEP_RESULT_INIT;
    r.status = q->failure ? STEP_FAILED : STEP_CANCELLED;
    r.permanent = q->permanent;
    r.error = q->failure ? steal(&q->failure) : xstrdup("cancelled");
    tell(q, &r);
}

static const char *destination(const struct request *q)
{
    return q->texts[TEXT_QUEUE] ? q->texts[TEXT_QUEUE] : q->texts[TEXT_EXCHANGE];
}

static void published(void *ctx, int result, const char *message)
{
    struct request *q = ctx;
    struct step_result r = STEP_RESULT_INIT;
    q->publish = NULL;
    if (result == 0) {
        r.status = STEP_COMPLETED;
        r.output = cJSON_CreateObject();
        cJSON_AddStringToObject(r.output, q->texts[TEXT_QUEUE] ? "queue" : "exchange", destination(q));
        cJSON_AddStringToObject(r.output, "message_id", q->texts[TEXT_MESSAGE_ID]);
    } else {
        r.status = STEP_FAILED;
        r.permanent = result == -EMSGSIZE || result == -EINVAL;
        message = message ? message : strerror(-result);
        r.error = strstr(message, destination(q))
                      ? xasprintf("%s: %s", queue_type_words[q->setup->url.type], message)
                      : xasprintf("%s \"%s\": %s", queue_type_words[q->setup->url.type], destination(q), message);
        mask_string(q->setup->mask, &r.error);
    }
    tell(q, &r);
}

static int fill_texts(struct request *q, const cJSON *context, struct error *err)
{
    const struct program *p = q->call->program;
    for (size_t i = 0; i < TEXTS; i++) {
        if (!p->texts[i])
            continue;
        int e = template_expand_text_with(p->texts[i], context, q->call->secrets, &q->texts[i], err);
        if (e == 0 && i != TEXT_KEY && !utf8_valid(q->texts[i], strlen(q->texts[i])))
            e = error_set(err, -EINVAL, "what it stands for is no UTF-8 text");
        if (e == 0 && !*q->texts[i] && i != TEXT_KEY && i != TEXT_ROUTING_KEY)
            e = error_set(err, -EINVAL, "is empty");
        if (e < 0)
            return error_wrap(err, "%s", texts[i].key);
    }
    if (!q->texts[TEXT_MESSAGE_ID]) /* the same at each attempt, so that who reads it can tell */
        q->texts[TEXT_MESSAGE_ID] = xstrdup(q->call->idempotency_key);
    return 0;
}

static int fill(struct request *q, struct error *err)
{
    const struct program *p = q->call->program;
    const struct template_secrets *with = q->call->secrets;
    const cJSON *context = NULL;
    _cleanup_(cjson_deletep) cJSON *body = NULL;
    int e = step_context_expanded(q->call, &context, NULL, err);
    e = e < 0 ? e : fill_texts(q, context, err);
    e = e < 0 ? e : template_tree_expand_with(p->body, context, with, &body, err);
    if (e < 0)
        return e;
    q->body = cJSON_IsString(body) ? xstrdup(body->valuestring) : value_print(body);
    if (p->headers)
        e = template_tree_expand_with(p->headers, context, with, &q->headers, err);
    return e < 0 ? e
                 : queue_setup_create(q->call->step->config, with ? with->secrets : NULL, with ? with->dir : NULL,
                                      q->call->pipeline_id, q->call->env->node_id, &q->setup, err);
}

static void start(struct step_call *call)
{
    const struct queue_config *c = call->step->config;
    struct request *q = xcalloc(1, sizeof(*q));
    struct error err = ERROR_INIT;
    struct queue_publishers *all = call->env->publishers;
    q->call = call;
    call->state = q;
    loop_task_init(&q->ending, end, q);
    q->type = all ? all->types[c->queue_type] : NULL;
    if (!q->type)
        error_set(&err, -ENOTSUP, "this triggerd was built without %s", queue_type_words[c->queue_type]);
    if (!q->type || fill(q, &err) < 0) {
        q->failure = xstrdup(err.message);
        q->permanent = err.code == -EINVAL || err.code == -ENOTSUP;
        loop_defer(call->env->loop, &q->ending);
        return;
    }
    char *key = queue_connection_key(c, call->secrets ? call->secrets->dir : NULL, NULL, false);
    struct queue_outgoing m = {.queue = q->texts[TEXT_QUEUE],
                               .exchange = q->texts[TEXT_EXCHANGE],
                               .routing_key = q->texts[TEXT_ROUTING_KEY],
                               .body = q->body,
                               .len = strlen(q->body),
                               .key = q->texts[TEXT_KEY],
                               .headers = q->headers,
                               .message_id = q->texts[TEXT_MESSAGE_ID],
                               .traceparent = *call->traceparent ? call->traceparent : NULL};
    if (m.exchange && !m.routing_key)
        m.routing_key = "";
    q->publish = q->type->send(publisher_of(all, c->queue_type), q->setup, key, &m, published, q);
    secret_free(key);
}

static void cancel(struct step_call *call)
{
    struct request *q = call->state;
    if (!q || !q->publish)
        return;
    q->type->cancel(steal(&q->publish));
    loop_defer(call->env->loop, &q->ending);
}

const struct step_type step_publish = {
    .kind = {.name = "publish", .config = &queue_step_fields, .validate = validate, .rules = queue_step_rules},
    .compile = compile,
    .free_program = free_program,
    .each_path = each_path,
    .each_reference = each_reference,
    .start = start,
    .cancel = cancel,
};
