/* Publishing to SQS: one message after the other for each queue, so that they come in order. */
#include "base/loop.h"
#include "base/util.h"
#include "client/sqs.h"

#include <errno.h>
#include <uthash.h>
#include <utlist.h>

#define CALL_MS 10000
#define FIFO ".fifo" /* at the end of a queue's name */

struct queue_publish {
    struct route *route;
    struct queue_setup *setup;
    char *name;  /* of the queue */
    cJSON *body; /* of SendMessage, but for the URL */
    bool first_try;
    queue_published_fn *done;
    void *ctx;
    struct queue_publish *prev, *next;
};

/* A queue of one connection, while something is on its way there, and a while after. */
struct route {
    struct queue_publisher *publisher;
    char *key;
    char *url; /* NULL: not asked for yet */
    struct queue_publish *waiting;
    struct sqs_call *call; /* for the first */
    struct timer idle;
    struct loop_task go;
    UT_hash_handle hh;
};

struct queue_publisher {
    struct queue_env env;
    struct route *routes;
    struct loop_task gone;
    void (*done)(void *ctx);
    void *done_ctx;
};

static void publish_free(struct queue_publish *q)
{
    DL_DELETE(q->route->waiting, q);
    queue_setup_unref(q->setup);
    free(q->name);
    cJSON_Delete(q->body);
    free(q);
}

static void route_free(struct route *r)
{
    struct loop *loop = r->publisher->env.loop;
    HASH_DEL(r->publisher->routes, r);
    loop_timer_stop(loop, &r->idle);
    loop_task_cancel(loop, &r->go);
    sqs_call_cancel(r->call);
    struct queue_publish *q, *next_one;
    DL_FOREACH_SAFE (r->waiting, q, next_one) {
        publish_free(q);
    }
    secret_free(r->key);
    free(r->url);
    free(r);
}

static void idle(struct timer *timer, void *ctx)
{
    (void)timer;
    route_free(ctx);
}

static void next(struct route *r)
{
    struct loop *loop = r->publisher->env.loop;
    if (r->waiting)
        loop_defer(loop, &r->go);
    else
        loop_timer_start(loop, &r->idle, QUEUE_KEPT_MS);
}

static void end_first(struct route *r, int result, const char *message)
{
    struct queue_publish *q = r->waiting;
    queue_published_fn *done = q->done;
    void *ctx = q->ctx;
    _cleanup_(freep) char *text = result < 0 ? xasprintf("queue %s: %s", q->name, message ? message : "") : NULL;
    publish_free(q);
    next(r);
    done(ctx, result, text);
}

static void sent(void *ctx, int result, const cJSON *answer, const char *reason, const char *message)
{
    struct route *r = ctx;
    (void)answer, (void)reason;
    r->call = NULL;
    if (result == -ENOENT && !r->waiting->first_try) { /* it was made anew meanwhile? */
        free(steal(&r->url));
        r->waiting->first_try = true;
        next(r);
        return;
    }
    end_first(r, result, message);
}

static void named(void *ctx, int result, const cJSON *answer, const char *reason, const char *message)
{
    struct route *r = ctx;
    (void)reason;
    r->call = NULL;
    if (result == 0 && !value_get_string(answer, "QueueUrl")) {
        result = -EPROTO;
        message = "an answer without QueueUrl";
    }
    if (result < 0) {
        end_first(r, result, message);
        return;
    }
    r->url = xstrdup(value_get_string(answer, "QueueUrl"));
    r->waiting->first_try = true;
    next(r);
}

static void go(void *ctx)
{
    struct route *r = ctx;
    struct queue_publish *q = r->waiting;
    const struct queue_env *env = &r->publisher->env;
    if (!q || r->call)
        return;
    if (!r->url) {
        cJSON *body = cJSON_CreateObject();
        cJSON_AddStringToObject(body, "QueueName", q->name);
        r->call = sqs_call(env, q->setup, "GetQueueUrl", body, CALL_MS, named, r);
        return;
    }
    cJSON *body = cJSON_Duplicate(q->body, true);
    cJSON_AddStringToObject(body, "QueueUrl", r->url);
    r->call = sqs_call(env, q->setup, "SendMessage", body, CALL_MS, sent, r);
}

/* ---- the door ---- */

static struct queue_publisher *create(const struct queue_env *env)
{
    struct queue_publisher *p = xcalloc(1, sizeof(*p));
    p->env = *env;
    return p;
}

static void publisher_gone(void *ctx)
{
    struct queue_publisher *p = ctx;
    void (*done)(void *) = p->done;
    void *done_ctx = p->done_ctx;
    free(p);
    done(done_ctx);
}

static void publisher_close(struct queue_publisher *p, void (*done)(void *ctx), void *ctx)
{
    p->done = done;
    p->done_ctx = ctx;
    for (struct route *r = p->routes, *next_one; r; r = next_one) {
        next_one = r->hh.next;
        route_free(r);
    }
    loop_task_init(&p->gone, publisher_gone, p);
    loop_defer(p->env.loop, &p->gone);
}

static void add_attribute(cJSON *all, const char *name, const char *value)
{
    cJSON *a = cJSON_AddObjectToObject(all, name);
    cJSON_AddStringToObject(a, "DataType", "String");
    cJSON_AddStringToObject(a, "StringValue", value);
}

static cJSON *body_of(const struct queue_outgoing *m)
{
    cJSON *o = cJSON_CreateObject(), *all = cJSON_CreateObject();
    const cJSON *header;
    size_t n = strlen(m->queue), end = strlen(FIFO);
    cJSON_AddStringToObject(o, "MessageBody", m->body);
    cJSON_ArrayForEach (header, m->headers) {
        add_attribute(all, header->string, header->valuestring);
    }
    if (m->traceparent && !value_get(m->headers, "traceparent"))
        add_attribute(all, "traceparent", m->traceparent);
    if (all->child)
        cJSON_AddItemToObject(o, "MessageAttributes", all);
    else
        cJSON_Delete(all);
    if (m->key)
        cJSON_AddStringToObject(o, "MessageGroupId", m->key);
    if (m->message_id && n >= end && streq(m->queue + n - end, FIFO)) /* others take none */
        cJSON_AddStringToObject(o, "MessageDeduplicationId", m->message_id);
    return o;
}

static struct route *route_of(struct queue_publisher *p, const char *connection_key, const char *queue)
{
    char *key = xasprintf("%s\n%s", connection_key, queue);
    struct route *r = NULL;
    HASH_FIND_STR(p->routes, key, r);
    if (r) {
        secret_free(key);
        loop_timer_stop(p->env.loop, &r->idle);
        return r;
    }
    r = xcalloc(1, sizeof(*r));
    r->publisher = p;
    r->key = key;
    timer_init(&r->idle, idle, r);
    loop_task_init(&r->go, go, r);
    HASH_ADD_KEYPTR(hh, p->routes, r->key, strlen(r->key), r);
    return r;
}

static struct queue_publish *send_one(struct queue_publisher *p, struct queue_setup *setup, const char *connection_key,
                                      const struct queue_outgoing *m, queue_published_fn *done, void *ctx)
{
    struct queue_publish *q = xcalloc(1, sizeof(*q));
    q->route = route_of(p, connection_key, m->queue);
    q->setup = queue_setup_ref(setup);
    q->name = xstrdup(m->queue);
    q->body = body_of(m);
    q->done = done;
    q->ctx = ctx;
    DL_APPEND(q->route->waiting, q);
    loop_defer(p->env.loop, &q->route->go);
    return q;
}

static void cancel(struct queue_publish *q)
{
    struct route *r = q->route;
    if (r->waiting == q && r->call)
        sqs_call_cancel(steal(&r->call));
    publish_free(q);
    next(r);
}

const struct queue_publisher_type sqs_publisher = {
    .type = QUEUE_SQS, .create = create, .close = publisher_close, .send = send_one, .cancel = cancel};
