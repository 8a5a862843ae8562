#include "client/kafka.h"

#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- the configuration ---- */

#define TEXT(x) TEXT_OF(x)
#define TEXT_OF(x) #x
/* How long it takes at most until it is seen twice that a connection is not there, or once that it is. */
#define STATISTICS_MS "500"

struct pair {
    const char *name, *value;
};

/* Defaults, which `options` may change. A silent peer is found within QUEUE_SILENCE_MS: librdkafka adds the wait of a
 * fetch and up to a second of its own to the time-out. */
static const struct pair common_defaults[] = {
    {"socket.timeout.ms", "7000"},
    {"socket.connection.setup.timeout.ms", "5000"},
    {"api.version.request.timeout.ms", "5000"},
    {"socket.keepalive.enable", "true"},
    {"socket.nagle.disable", "true"},
    {"reconnect.backoff.ms", "500"},
    {"reconnect.backoff.max.ms", "8000"},
    {"topic.metadata.refresh.interval.ms", "5000"},
};
static const struct pair consumer_defaults[] = {
    {"session.timeout.ms", "10000"},
    {"max.poll.interval.ms", "60000"}, /* also how long a silent coordinator is waited for */
    {"queued.min.messages", TEXT(KAFKA_AHEAD_MESSAGES)},
    {"queued.max.messages.kbytes", TEXT(KAFKA_AHEAD_KBYTES)},
    {"fetch.max.bytes", "4194304"},
};
static const struct pair producer_defaults[] = {
    {"message.timeout.ms", "10000"},
    {"topic.metadata.propagation.max.ms", "2000"}, /* a topic that is not there: a new one may take so long */
    {"linger.ms", "0"},
};
/* What the code goes by. */
static const struct pair consumer_fixed[] = {
    {"enable.auto.commit", "false"},
    {"enable.auto.offset.store", "false"},
    {"enable.partition.eof", "true"},
    {"auto.offset.reset", "error"}, /* we know better where to go on */
    {"partition.assignment.strategy", "cooperative-sticky"},
    {"statistics.interval.ms", STATISTICS_MS},
};
static const struct pair producer_fixed[] = {
    {"acks", "all"},
    {"enable.idempotence", "true"},
};

struct kafka_opening {
    struct loop *loop;
    struct loop_work work;
    const struct self_mount *avoid;
    struct queue_setup *setup;
    rd_kafka_type_t type;
    struct kafka_lib lib;
    rd_kafka_t *rk;
    const char *reason;
    struct error err;
    kafka_opened_fn *done; /* NULL: nobody waits any more */
    void *ctx;
};

static int conf_set(const struct kafka_lib *lib, rd_kafka_conf_t *conf, const char *name, const char *value,
                    struct error *err)
{
    char why[256];
    return lib->rd_kafka_conf_set(conf, name, value, why, sizeof(why)) == RD_KAFKA_CONF_OK
               ? 0
               : error_set(err, -EINVAL, "options: %s", why);
}

static int conf_set_all(const struct kafka_lib *lib, rd_kafka_conf_t *conf, const struct pair *pairs, size_t n,
                        struct error *err)
{
    for (size_t i = 0; i < n; i++)
        if (conf_set(lib, conf, pairs[i].name, pairs[i].value, err) < 0)
            return err->code;
    return 0;
}

static int conf_options(const struct kafka_lib *lib, rd_kafka_conf_t *conf, const cJSON *options, struct error *err)
{
    const cJSON *v;
    cJSON_ArrayForEach (v, options) {
        if (strncmp(v->string, "x-", 2) == 0)
            continue;
        _cleanup_(freep) char *printed = cJSON_IsString(v) ? NULL : value_print(v);
        if (conf_set(lib, conf, v->string, printed ? printed : v->valuestring, err) < 0)
            return err->code;
    }
    return 0;
}

static int conf_hosts(const struct kafka_lib *lib, rd_kafka_conf_t *conf, const struct queue_url *url,
                      struct error *err)
{
    struct buf hosts = {0};
    for (size_t i = 0; i < url->n_hosts; i++) {
        bool six = strchr(url->hosts[i].host, ':');
        buf_printf(&hosts, "%s%s%s%s:%d", i ? "," : "", six ? "[" : "", url->hosts[i].host, six ? "]" : "",
                   url->hosts[i].port);
    }
    int r = conf_set(lib, conf, "bootstrap.servers", hosts.data ? hosts.data : "", err);
    buf_fini(&hosts);
    return r;
}

/* librdkafka reads the files itself, whole chains of them; they are read here first to refuse our own mount, and for
 * errors that name the key. */
static int conf_tls(const struct kafka_opening *o, rd_kafka_conf_t *conf, struct error *err)
{
    const struct kafka_lib *lib = &o->lib;
    const struct tls_config *tls = o->setup->config.tls;
    struct tls_files files = {0};
    int r = conf_set(lib, conf, "ssl.endpoint.identification.algorithm", tls && !tls->verify ? "none" : "https", err);
    if (r < 0 || !tls)
        return r;
    r = tls_files_read(tls, o->avoid, &files, err);
    tls_files_fini(&files);
    if (r == 0 && tls->ca_file)
        r = conf_set(lib, conf, "ssl.ca.location", tls->ca_file, err);
    if (r == 0 && tls->cert_file)
        r = conf_set(lib, conf, "ssl.certificate.location", tls->cert_file, err);
    if (r == 0 && tls->key_file)
        r = conf_set(lib, conf, "ssl.key.location", tls->key_file, err);
    if (r == 0 && !tls->verify)
        r = conf_set(lib, conf, "enable.ssl.certificate.verification", "false", err);
    return r;
}

static int conf_security(const struct kafka_opening *o, rd_kafka_conf_t *conf, struct error *err)
{
    const struct kafka_lib *lib = &o->lib;
    const struct queue_security *s = o->setup->config.security;
    int r = conf_tls(o, conf, err);
    if (r < 0)
        return r;
    if (!s)
        return o->setup->config.tls && !value_get(o->setup->config.options, "security.protocol")
                   ? conf_set(lib, conf, "security.protocol", "ssl", err)
                   : 0;
    const char *protocol = queue_protocol_words[s->protocol];
    r = conf_set(lib, conf, "security.protocol", protocol, err);
    if (r == 0 && strncmp(protocol, "sasl", 4) == 0) {
        r = conf_set(lib, conf, "sasl.mechanisms", queue_mechanism_words[s->mechanism], err);
        if (r == 0)
            r = conf_set(lib, conf, "sasl.username", s->username ? s->username : "", err);
        if (r == 0)
            r = conf_set(lib, conf, "sasl.password", s->password ? s->password : "", err);
    }
    return r;
}

static int conf_fill(const struct kafka_opening *o, rd_kafka_conf_t *conf, struct error *err)
{
    const struct kafka_lib *lib = &o->lib;
    bool consumer = o->type == RD_KAFKA_CONSUMER;
    _cleanup_(freep) char *id = xasprintf("triggerd-%s", o->setup->name);
    int r = conf_set(lib, conf, "client.id", id, err);
    if (r == 0)
        r = conf_set_all(lib, conf, common_defaults, ARRAY_SIZE(common_defaults), err);
    if (r == 0)
        r = consumer ? conf_set_all(lib, conf, consumer_defaults, ARRAY_SIZE(consumer_defaults), err)
                     : conf_set_all(lib, conf, producer_defaults, ARRAY_SIZE(producer_defaults), err);
    if (r == 0)
        r = conf_options(lib, conf, o->setup->config.options, err);
    if (r == 0)
        r = consumer ? conf_set_all(lib, conf, consumer_fixed, ARRAY_SIZE(consumer_fixed), err)
                     : conf_set_all(lib, conf, producer_fixed, ARRAY_SIZE(producer_fixed), err);
    if (r == 0 && consumer)
        r = conf_set(lib, conf, "group.id", o->setup->group, err);
    if (r == 0)
        r = conf_set(lib, conf, "log.queue", "true", err);
    if (r == 0)
        r = conf_hosts(lib, conf, &o->setup->url, err);
    if (r == 0)
        r = conf_security(o, conf, err);
    return r;
}

/* On the pool: it reads files and starts threads. */
static void open_work(void *ctx)
{
    struct kafka_opening *o = ctx;
    char why[512] = "";
    o->reason = "LibraryMissing";
    if (kafka_lib_load(&o->lib, &o->err) < 0)
        return;
    o->reason = "ConfigurationRejected";
    rd_kafka_conf_t *conf = o->lib.rd_kafka_conf_new();
    if (conf_fill(o, conf, &o->err) < 0) {
        o->lib.rd_kafka_conf_destroy(conf);
        return;
    }
    o->lib.rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_FETCH | RD_KAFKA_EVENT_LOG |
                                              RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_REBALANCE |
                                              RD_KAFKA_EVENT_OFFSET_COMMIT | RD_KAFKA_EVENT_STATS);
    o->rk = o->lib.rd_kafka_new(o->type, conf, why, sizeof(why));
    if (!o->rk) {
        o->lib.rd_kafka_conf_destroy(conf);
        error_set(&o->err, -EINVAL, "librdkafka: %s", why);
    }
}

static void open_done(void *ctx)
{
    struct kafka_opening *o = ctx;
    if (o->done)
        o->done(o->ctx, &o->lib, o->rk, o->reason, &o->err);
    else if (o->rk)
        kafka_dispose(o->loop, &o->lib, o->rk, true, NULL, NULL);
    queue_setup_unref(o->setup);
    free(o);
}

struct kafka_opening *kafka_open(struct loop *loop, const struct self_mount *avoid, struct queue_setup *setup,
                                 rd_kafka_type_t type, kafka_opened_fn *done, void *ctx)
{
    struct kafka_opening *o = xcalloc(1, sizeof(*o));
    o->loop = loop;
    o->avoid = avoid;
    o->setup = queue_setup_ref(setup);
    o->type = type;
    o->done = done;
    o->ctx = ctx;
    loop_work_submit(loop, &o->work, open_work, open_done, o);
    return o;
}

void kafka_open_abandon(struct kafka_opening *o)
{
    o->done = NULL;
}

/* ---- its end ---- */

/* Shared by the thread, which may hang in librdkafka for good, and the loop, which waits for it so long. */
struct disposal {
    struct kafka_lib lib;
    rd_kafka_t *rk;
    int flags;
    pthread_mutex_t lock; /* of what follows */
    bool waited_for;
    bool over;
    unsigned refs;

    /* the loop's */
    struct loop *loop;
    struct loop_group group;
    struct loop_async ended;
    struct timer bound;
    bool closing;
    void (*done)(void *ctx);
    void *ctx;
};

static void disposal_unref(struct disposal *d)
{
    pthread_mutex_lock(&d->lock);
    bool last = --d->refs == 0;
    pthread_mutex_unlock(&d->lock);
    if (last) {
        pthread_mutex_destroy(&d->lock);
        free(d);
    }
}

static void *disposal_run(void *ctx)
{
    struct disposal *d = ctx;
    d->lib.rd_kafka_destroy_flags(d->rk, d->flags);
    pthread_mutex_lock(&d->lock);
    d->over = true;
    if (d->waited_for)
        loop_async_send(&d->ended);
    pthread_mutex_unlock(&d->lock);
    disposal_unref(d);
    return NULL;
}

static void disposal_gone(void *ctx)
{
    struct disposal *d = ctx;
    if (d->done)
        d->done(d->ctx);
    disposal_unref(d);
}

static void disposal_leave(struct disposal *d)
{
    if (d->closing)
        return;
    d->closing = true;
    pthread_mutex_lock(&d->lock);
    d->waited_for = false;
    pthread_mutex_unlock(&d->lock);
    loop_timer_stop(d->loop, &d->bound);
    loop_group_close(&d->group, disposal_gone, d);
}

static void disposal_ended(void *ctx)
{
    disposal_leave(ctx);
}

static void disposal_late(struct timer *timer, void *ctx)
{
    (void)timer;
    disposal_leave(ctx);
}

void kafka_dispose(struct loop *loop, const struct kafka_lib *lib, rd_kafka_t *rk, bool leave, void (*done)(void *ctx),
                   void *ctx)
{
    struct disposal *d = xcalloc(1, sizeof(*d));
    pthread_attr_t attributes;
    pthread_t thread;
    d->lib = *lib;
    d->rk = rk;
    d->flags = leave ? 0 : RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE;
    d->refs = 2;
    d->waited_for = true;
    d->loop = loop;
    d->done = done;
    d->ctx = ctx;
    pthread_mutex_init(&d->lock, NULL);
    loop_group_init(&d->group, loop);
    timer_init(&d->bound, disposal_late, d);
    int r = loop_async_init(&d->group, &d->ended, disposal_ended, d);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (r < 0)
        d->waited_for = false;
    if (pthread_create(&thread, &attributes, disposal_run, d) != 0) {
        /* Its threads stay, and do no harm. */
        d->refs = 1;
        disposal_leave(d);
    } else if (r < 0) {
        disposal_leave(d);
    } else {
        loop_timer_start(loop, &d->bound, KAFKA_DISPOSE_MS);
    }
    pthread_attr_destroy(&attributes);
}

/* ---- waking the loop ---- */

static void wake_ready(void *ctx, int fd, int events, int status)
{
    struct kafka_wake *w = ctx;
    uint64_t n;
    (void)events;
    while (status == 0 && read(fd, &n, sizeof(n)) < 0 && errno == EINTR)
        ;
    w->fn(w->ctx);
}

int kafka_wake_open(struct loop_group *group, struct kafka_wake *w, void (*fn)(void *ctx), void *ctx)
{
    w->fn = fn;
    w->ctx = ctx;
    w->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = w->fd < 0 ? -errno : loop_poll_init(group, &w->poll, w->fd, wake_ready, w);
    if (r == 0)
        r = loop_poll_start(&w->poll, UV_READABLE);
    return r;
}

void kafka_wake_add(struct kafka_wake *w, const struct kafka_lib *lib, rd_kafka_queue_t *queue)
{
    static const uint64_t one = 1;
    lib->rd_kafka_queue_io_event_enable(queue, w->fd, &one, sizeof(one));
}

void kafka_wake_remove(const struct kafka_lib *lib, rd_kafka_queue_t *queue)
{
    lib->rd_kafka_queue_io_event_enable(queue, -1, NULL, 0);
    lib->rd_kafka_queue_destroy(queue);
}

void kafka_wake_close(struct kafka_wake *w)
{
    loop_close(&w->poll.handle, NULL, NULL);
}

void kafka_wake_fini(struct kafka_wake *w)
{
    closep(&w->fd);
    w->fd = -1;
}

/* ---- its log ---- */

void kafka_log_event(const struct kafka_lib *lib, rd_kafka_event_t *ev, const struct mask *mask)
{
    const char *facility = "", *text = "";
    int level = 0;
    if (!log_enabled(LOG_LEVEL_DEBUG) || lib->rd_kafka_event_log(ev, &facility, &text, &level) < 0)
        return;
    char *shown = xstrdup(text);
    mask_string(mask, &shown);
    log_debug("kafka", "%s: %s", facility, shown);
    free(shown);
}
