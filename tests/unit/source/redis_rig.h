/* A real redis-server on a Unix socket, a host that records what it is told, and a broker between them. Header only,
 * included by one test program each (the library's own host functions are then not linked). */
#ifndef TRIGGERD_TESTS_SOURCE_REDIS_RIG_H
#define TRIGGERD_TESTS_SOURCE_REDIS_RIG_H

#include "base/loop.h"
#include "client/http.h"
#include "model/value.h"
#include "source/broker.h"

#include <hiredis/hiredis.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utlist.h>

#include <cmocka.h>

#define RIG __attribute__((unused)) static
#define RIG_PATIENCE_MS 20000

struct message {
    struct message *prev, *next;
    uint64_t tag;
    char *body; /* NUL-terminated; of fields: their JSON */
    char *headers, *queue, *id;
    int64_t deliveries;
};

struct queue_consumer {   /* the host */
    struct message *held; /* a utlist, in the order of delivery */
    size_t n_held, max_held, delivered;
    enum source_state state;
    char reason[64], text[512];
    int reports;
    const char *owner;
};

struct rig {
    char dir[32], path[64];
    pid_t server;
    redisContext *redis; /* of the test's own */
    struct loop loop;
    struct http_client *http;
    struct queue_env env;
    struct queue_consumer host;
    struct queue_setup *setup;
    struct broker *broker;
    bool stopped;
    struct timer tick;
};

/* ---- the host ---- */

void queue_delivered(struct queue_consumer *host, uint64_t tag, struct queue_message *m)
{
    struct message *got = xcalloc(1, sizeof(*got));
    got->tag = tag;
    got->body = m->fields ? cJSON_PrintUnformatted(m->fields) : xstrndup(m->body, m->len);
    got->headers = m->headers ? cJSON_PrintUnformatted(m->headers) : NULL;
    got->queue = xstrdup(m->queue);
    got->id = xstrdup0(m->message_id);
    got->deliveries = m->deliveries;
    assert_true(m->identity == NULL || streq(m->identity, m->message_id));
    cJSON_Delete(m->fields);
    cJSON_Delete(m->headers);
    DL_APPEND(host->held, got);
    host->n_held++;
    host->delivered++;
    host->max_held = MAX(host->max_held, host->n_held);
}

void queue_state(struct queue_consumer *host, enum source_state state, const char *reason, const char *message)
{
    host->state = state;
    host->reports++;
    snprintf(host->reason, sizeof(host->reason), "%s", reason);
    snprintf(host->text, sizeof(host->text), "%s", message);
}

const char *queue_owner(const struct queue_consumer *host)
{
    return host->owner;
}

bool queue_owner_in_use(const struct queue_consumer *host, const char *name)
{
    return streq(name, host->owner) || streq(name, "t2");
}

RIG void message_free(struct queue_consumer *host, struct message *m)
{
    DL_DELETE(host->held, m);
    host->n_held--;
    free(m->body);
    free(m->headers);
    free(m->queue);
    free(m->id);
    free(m);
}

RIG void rig_settle(struct rig *r, struct message *m, enum queue_settlement how)
{
    uint64_t tag = m->tag;
    message_free(&r->host, m);
    broker_redis.settle(r->broker, tag, how);
}

/* ---- the server ---- */

#define RIG_SERVER "/usr/bin/redis-check-rdb" /* is the server too, as Debian has it */

/* tests/install-brokers.sh brings it. */
#define RIG_NEEDS_SERVER()                                                                                             \
    if (access(RIG_SERVER, X_OK) < 0) {                                                                                \
        printf("skipped: there is no redis-server\n");                                                                 \
        return 0;                                                                                                      \
    }

RIG void server_start(struct rig *r, const char *const *more)
{
    const char *args[24] = {"redis-server", "--port",    "0",        "--unixsocket", r->path, "--dir",
                            r->dir,         "--save",    "",         "--appendonly", "yes",   "--loglevel",
                            "warning",      "--logfile", "/dev/null"};
    size_t n = 15;
    for (; more && *more; more++)
        args[n++] = *more;
    unlink(r->path);
    r->server = fork();
    assert_true(r->server >= 0);
    if (r->server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execv(RIG_SERVER, (char **)args);
        _exit(127);
    }
    for (int i = 0; i < 12000; i++) {
        r->redis = redisConnectUnix(r->path);
        if (r->redis && !r->redis->err)
            return;
        redisFree(r->redis);
        usleep(5000);
        if (waitpid(r->server, NULL, WNOHANG) == r->server)
            break;
    }
    r->redis = NULL;
    fail_msg("redis-server does not start");
}

RIG void server_kill(struct rig *r)
{
    redisFree(r->redis);
    r->redis = NULL;
    kill(r->server, SIGKILL);
    waitpid(r->server, NULL, 0);
}

/* As redisCommand() takes it, with %b. */
RIG redisReply *ask(struct rig *r, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    redisReply *reply = redisvCommand(r->redis, format, args);
    va_end(args);
    if (!reply)
        fail_msg("%s: %s", format, r->redis->errstr);
    if (reply->type == REDIS_REPLY_ERROR)
        fail_msg("%s: %s", format, reply->str);
    return reply;
}

#define say(r, ...) freeReplyObject(ask((r), __VA_ARGS__))

#define count(r, ...)                                                                                                  \
    ({                                                                                                                 \
        redisReply *reply_ = ask((r), __VA_ARGS__);                                                                    \
        long long n_ = reply_->integer;                                                                                \
        freeReplyObject(reply_);                                                                                       \
        n_;                                                                                                            \
    })

/* Its elements with a blank between. */
RIG char *list_of(struct rig *r, const char *name)
{
    struct buf b = {0};
    redisReply *reply = ask(r, "LRANGE %s 0 -1", name);
    for (size_t i = 0; i < reply->elements; i++)
        buf_printf(&b, "%s%s", i ? " " : "", reply->element[i]->str);
    freeReplyObject(reply);
    return buf_steal(&b);
}

RIG void assert_list(struct rig *r, const char *name, const char *expected)
{
    _cleanup_(freep) char *found = list_of(r, name);
    assert_string_equal(found, expected);
}

/* ---- the loop ---- */

RIG void rig_tick(struct timer *timer, void *ctx)
{
    (void)timer;
    (void)ctx;
}

/* One turn, of at most 20 ms. */
RIG void rig_turn(struct rig *r)
{
    loop_timer_start(&r->loop, &r->tick, 20);
    uv_run(&r->loop.uv, UV_RUN_ONCE);
    loop_timer_stop(&r->loop, &r->tick);
}

#define rig_until(r, condition)                                                                                        \
    do {                                                                                                               \
        int64_t end_ = loop_now_ms(&(r)->loop) + RIG_PATIENCE_MS;                                                      \
        while (!(condition)) {                                                                                         \
            if (loop_now_ms(&(r)->loop) > end_)                                                                        \
                fail_msg("never: %s (%s: %s)", #condition, (r)->host.reason, (r)->host.text);                          \
            rig_turn(r);                                                                                               \
        }                                                                                                              \
    } while (0)

RIG void rig_pass(struct rig *r, int64_t ms)
{
    int64_t end = loop_now_ms(&r->loop) + ms;
    while (loop_now_ms(&r->loop) < end)
        rig_turn(r);
}

RIG void rig_stopped(void *ctx)
{
    struct rig *r = ctx;
    r->stopped = true;
    r->broker = NULL;
}

/* `config`: what a manifest says beside queue_type and connection_url. */
RIG void broker_make(struct rig *r, const char *url, const char *config)
{
    struct error err = ERROR_INIT;
    struct issues issues = ISSUES_INIT;
    struct queue_config c = {0};
    _cleanup_(freep) char *text = url ? xstrdup(url) : xasprintf("redis+unix://%s", r->path);
    cJSON *node = NULL;
    assert_int_equal(value_parse(config, strlen(config), &node, &err), 0);
    cJSON_AddStringToObject(node, "queue_type", "redis");
    cJSON_AddStringToObject(node, "connection_url", text);
    fields_parse(&queue_source_fields, node, NULL, &c, "config", &issues);
    queue_source_validate(&c, node, "config", &issues);
    assert_int_equal(issues.n, 0);
    if (queue_setup_create(&c, NULL, "/", r->host.owner, "node-1", &r->setup, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(broker_redis.create(&r->host, &r->env, r->setup, &r->broker, &err), 0);
    queue_setup_unref(r->setup);
    fields_fini(&queue_source_fields, &c);
    issues_fini(&issues);
    cJSON_Delete(node);
    r->stopped = false;
    broker_redis.start(r->broker);
}

/* What it had and was not settled is its server's. */
RIG void broker_end(struct rig *r)
{
    if (!r->broker)
        return;
    broker_redis.stop(r->broker, rig_stopped, r);
    assert_false(r->stopped);
    rig_until(r, r->stopped);
    while (r->host.held)
        message_free(&r->host, r->host.held);
}

RIG bool rig_is_up(const struct rig *r)
{
    return r->host.reports > 0 && r->host.state == SOURCE_CONNECTED;
}

RIG void broker_begin(struct rig *r, const char *config)
{
    r->host.reports = 0;
    broker_make(r, NULL, config);
    rig_until(r, rig_is_up(r));
}

RIG void rig_init(struct rig *r, const char *const *more)
{
    *r = (struct rig){.host = {.owner = "t1"}};
    signal(SIGPIPE, SIG_IGN);
    snprintf(r->dir, sizeof(r->dir), "/tmp/redis-rig-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    snprintf(r->path, sizeof(r->path), "%s/sock", r->dir);
    server_start(r, more);
    assert_int_equal(loop_init(&r->loop), 0);
    timer_init(&r->tick, rig_tick, r);
    r->http = http_client_create(&r->loop, NULL);
    r->env = (struct queue_env){&r->loop, clock_system(), random_system(), NULL, r->http};
}

RIG void rig_closed(void *ctx)
{
    ((struct rig *)ctx)->http = NULL;
}

RIG void rig_fini(struct rig *r)
{
    broker_end(r);
    http_client_close(r->http, rig_closed, r);
    rig_until(r, !r->http);
    while (uv_loop_alive(&r->loop.uv))
        uv_run(&r->loop.uv, UV_RUN_ONCE);
    assert_int_equal(loop_fini(&r->loop), 0);
    if (r->redis)
        server_kill(r);
    _cleanup_(freep) char *command = xasprintf("rm -r %s", r->dir);
    assert_int_equal(system(command), 0);
}

#endif
