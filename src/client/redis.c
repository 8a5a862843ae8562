#include "client/redis.h"

#include "base/loop.h"
#include "client/wire.h"

#include <dlfcn.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

#define OWED_MIN 64

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define HIREDIS_FILE "libhiredis.so." TEXT(HIREDIS_SONAME)

/* What is used of hiredis, loaded with the first connection: the functions have their own names as members. */
#define HIREDIS_FUNCTIONS(X)                                                                                           \
    X(redisReaderCreate)                                                                                               \
    X(redisReaderFree)                                                                                                 \
    X(redisReaderFeed)                                                                                                 \
    X(redisReaderGetReply)

struct hiredis {
#define MEMBER(f) __typeof__ (&(f))(f);
    HIREDIS_FUNCTIONS(MEMBER)
#undef MEMBER
};

struct owed {
    redis_reply_fn *fn;
    void *ctx;
    int64_t patience_ms;
};

struct redis {
    struct loop *loop;
    struct queue_setup *setup;
    const struct redis_events *events;
    void *ctx;
    struct wire *wire;
    struct hiredis lib;
    redisReader *reader; /* NULL: the library could not be loaded */
    char *name, *place;  /* as the server shows it; where the server is, for texts */
    int64_t id;
    bool ready, dead, closed; /* ready() was called; ended() was, or will be; redis_close() was called */
    bool held;
    struct owed *owed; /* a ring */
    size_t cap, first, n_owed;
    int64_t since_ms; /* when the first of them became the first */
    struct timer silence;
    struct loop_task tell, freed, unheld;
    int code;
    const char *reason;
    char *message;
};

/* ---- ends ---- */

static void on_freed(void *ctx)
{
    struct redis *r = ctx;
    if (r->reader)
        r->lib.redisReaderFree(r->reader);
    queue_setup_unref(r->setup);
    free(r->owed);
    free(r->name);
    free(r->place);
    free(r->message);
    free(r);
}

static void hang_up(struct redis *r)
{
    loop_timer_stop(r->loop, &r->silence);
    wire_close(steal(&r->wire));
    loop_task_cancel(r->loop, &r->unheld);
    r->n_owed = 0;
    r->ready = false;
}

void redis_close(struct redis *r)
{
    if (!r || r->closed)
        return;
    r->closed = true;
    hang_up(r);
    loop_task_cancel(r->loop, &r->tell);
    loop_defer(r->loop, &r->freed); /* it may be in use, below us on the stack */
}

static void on_tell(void *ctx)
{
    struct redis *r = ctx;
    r->events->ended(r->ctx, r->code, r->reason, r->message);
}

__attribute__((format(printf, 4, 5))) static void end(struct redis *r, int code, const char *reason, const char *format,
                                                      ...)
{
    va_list args;
    if (r->dead || r->closed)
        return;
    r->dead = true;
    r->code = code;
    r->reason = reason;
    va_start(args, format);
    r->message = xvasprintf(format, args);
    va_end(args);
    mask_string(r->setup->mask, &r->message);
    hang_up(r);
    loop_defer(r->loop, &r->tell);
}

/* ---- answers that are errors ---- */

/* As freeReplyObject(): hiredis takes its memory from malloc(). */
void redis_reply_free(struct redisReply *reply)
{
    if (!reply)
        return;
    for (size_t i = 0; reply->element && i < reply->elements; i++)
        redis_reply_free(reply->element[i]);
    free(reply->element);
    free(reply->str);
    free(reply);
}

bool redis_is_error(const struct redisReply *reply)
{
    return reply->type == REDIS_REPLY_ERROR;
}

int redis_error_code(const struct redisReply *reply, const char **ret_reason)
{
    static const struct {
        const char *start;
        int code;
        const char *reason;
    } known[] = {
        {"NOAUTH", -EACCES, "AuthenticationFailed"},
        {"WRONGPASS", -EACCES, "AuthenticationFailed"},
        {"ERR AUTH", -EACCES, "AuthenticationFailed"},
        {"ERR Client sent AUTH", -EACCES, "AuthenticationFailed"},
        {"ERR invalid password", -EACCES, "AuthenticationFailed"},
        {"NOPERM", -EACCES, "PermissionDenied"},
        {"DENIED", -EACCES, "PermissionDenied"},
        {"WRONGTYPE", -EINVAL, "WrongType"},
        {"NOGROUP", -ENOENT, "QueueNotFound"},
        {"UNBLOCKED", -ENOENT, "QueueNotFound"},
        {"LOADING", -EAGAIN, "Loading"},
        {"MASTERDOWN", -EAGAIN, "ReadOnly"},
        {"READONLY", -EROFS, "ReadOnly"},
        {"OOM", -ENOSPC, "OutOfMemory"},
        {"MISCONF", -EIO, "Misconfigured"},
        {"MOVED", -ENOTSUP, "NotSupported"},
        {"CROSSSLOT", -ENOTSUP, "NotSupported"},
        {"CLUSTERDOWN", -ENOTSUP, "NotSupported"},
        {"ERR unknown command", -ENOTSUP, "NotSupported"},
        {"ERR DB index", -EINVAL, "QueueNotFound"},
        {"ERR max number of clients", -EAGAIN, "TooManyClients"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        if (strncasecmp(reply->str, known[i].start, strlen(known[i].start)) == 0) {
            if (ret_reason)
                *ret_reason = known[i].reason;
            return known[i].code;
        }
    if (ret_reason)
        *ret_reason = "BrokerError";
    return -EIO;
}

static const char *advice(const char *reason)
{
    return streq(reason, "NotSupported") ? " (Redis 6.2 or later is needed, not as a cluster)" : "";
}

void redis_fail(struct redis *r, const struct redisReply *error, const char *what)
{
    const char *reason;
    int code = redis_error_code(error, &reason);
    end(r, code, reason, "%s%s%s%s", what ? what : "", what ? ": " : "", error->str, advice(reason));
}

/* ---- silence ---- */

static struct owed *first(struct redis *r)
{
    return &r->owed[r->first];
}

static void on_silence(struct timer *timer, void *ctx)
{
    (void)timer;
    struct redis *r = ctx;
    if (r->n_owed == 0)
        return;
    if (r->held) /* who does not listen hears no answer */
        r->since_ms = loop_now_ms(r->loop);
    int64_t left = r->since_ms + first(r)->patience_ms - loop_now_ms(r->loop);
    if (left > 0)
        loop_timer_start(r->loop, &r->silence, left);
    else
        end(r, -ETIMEDOUT, "NoAnswer", "%s does not answer any more", r->place);
}

/* ---- commands ---- */

static void owe(struct redis *r, redis_reply_fn *fn, void *ctx, int64_t patience_ms)
{
    if (r->n_owed == r->cap) {
        size_t cap = r->cap ? 2 * r->cap : OWED_MIN;
        struct owed *ring = xreallocarray(NULL, cap, sizeof(*ring));
        for (size_t i = 0; i < r->n_owed; i++)
            ring[i] = r->owed[(r->first + i) % r->cap];
        free(r->owed);
        r->owed = ring;
        r->cap = cap;
        r->first = 0;
    }
    r->owed[(r->first + r->n_owed) % r->cap] = (struct owed){fn, ctx, patience_ms};
    if (r->n_owed++ == 0) {
        r->since_ms = loop_now_ms(r->loop);
        /* A timer that runs already looks again when it is due, unless that were too late. */
        if (!timer_active(&r->silence) || r->silence.due_ms > r->since_ms + patience_ms)
            loop_timer_start(r->loop, &r->silence, patience_ms);
    }
}

static void add_number(struct buf *b, char kind, size_t number)
{
    char text[24], *p = text + sizeof(text);
    *--p = '\n';
    *--p = '\r';
    do {
        *--p = (char)('0' + number % 10);
    } while ((number /= 10) > 0);
    *--p = kind;
    buf_add(b, p, (size_t)(text + sizeof(text) - p));
}

static void put(struct redis *r, redis_reply_fn *fn, void *ctx, int64_t patience_ms, size_t n,
                const struct redis_arg *args)
{
    struct buf *out = wire_out(r->wire);
    if (!out)
        return;
    add_number(out, '*', n);
    for (size_t i = 0; i < n; i++) {
        add_number(out, '$', args[i].len);
        buf_add(out, args[i].data, args[i].len);
        buf_add(out, "\r\n", 2);
    }
    owe(r, fn, ctx, patience_ms);
}

void redis_command(struct redis *r, redis_reply_fn *fn, void *ctx, int64_t patience_ms, size_t n,
                   const struct redis_arg *args)
{
    if (redis_is_ready(r))
        put(r, fn, ctx, patience_ms, n, args);
}

static void send_words(struct redis *r, redis_reply_fn *fn, int64_t patience_ms, const char *const *words)
{
    struct redis_arg args[8];
    size_t n = 0;
    for (; words[n]; n++)
        args[n] = REDIS_ARG(words[n]);
    put(r, fn, r, patience_ms, n, args);
}

void redis_say_words(struct redis *r, redis_reply_fn *fn, void *ctx, int64_t patience_ms, const char *const *words)
{
    struct redis_arg args[16];
    size_t n = 0;
    for (; words[n]; n++)
        args[n] = REDIS_ARG(words[n]);
    redis_command(r, fn, ctx, patience_ms, n, args);
}

bool redis_is_ready(const struct redis *r)
{
    return r && r->ready;
}

const char *redis_name(const struct redis *r)
{
    return r->name;
}

int64_t redis_client_id(const struct redis *r)
{
    return r->id;
}

size_t redis_owed(const struct redis *r)
{
    return r->n_owed;
}

void redis_hold(struct redis *r, bool hold)
{
    r->held = hold;
    r->since_ms = loop_now_ms(r->loop);
    if (!r->wire)
        return;
    if (hold)
        wire_hold(r->wire, true);
    else
        loop_defer(r->loop, &r->unheld);
}

/* ---- the first words ---- */

static void on_authenticated(void *ctx, redisReply **reply)
{
    if (redis_is_error(*reply))
        redis_fail(ctx, *reply, NULL);
}

static void on_selected(void *ctx, redisReply **reply)
{
    struct redis *r = ctx;
    char what[48];
    const char *reason;
    if (!redis_is_error(*reply))
        return;
    snprintf(what, sizeof(what), "database %" PRId64, r->setup->url.db);
    if (redis_error_code(*reply, &reason) == -EIO)
        end(r, -ENOENT, "QueueNotFound", "%s: %s", what, (*reply)->str);
    else
        redis_fail(r, *reply, what);
}

static void on_id(void *ctx, redisReply **reply)
{
    struct redis *r = ctx;
    if ((*reply)->type == REDIS_REPLY_INTEGER)
        r->id = (*reply)->integer;
}

/* A user who may not ask may do what he is there for all the same. */
static void on_pong(void *ctx, redisReply **reply)
{
    struct redis *r = ctx;
    const char *reason;
    if (redis_is_error(*reply) &&
        (redis_error_code(*reply, &reason) != -EACCES || !streq(reason, "PermissionDenied"))) {
        redis_fail(r, *reply, NULL);
        return;
    }
    r->ready = true;
    r->events->ready(r->ctx);
}

static void on_connected(void *ctx)
{
    struct redis *r = ctx;
    const struct queue_url *u = &r->setup->url;
    char db[24];
    if (u->password && u->user)
        send_words(r, on_authenticated, QUEUE_CONNECT_MS, (const char *const[]){"AUTH", u->user, u->password, NULL});
    else if (u->password)
        send_words(r, on_authenticated, QUEUE_CONNECT_MS, (const char *const[]){"AUTH", u->password, NULL});
    if (u->db != 0) {
        snprintf(db, sizeof(db), "%" PRId64, u->db);
        send_words(r, on_selected, QUEUE_CONNECT_MS, (const char *const[]){"SELECT", db, NULL});
    }
    send_words(r, NULL, QUEUE_CONNECT_MS, (const char *const[]){"CLIENT", "SETNAME", r->name, NULL});
    send_words(r, on_id, QUEUE_CONNECT_MS, (const char *const[]){"CLIENT", "ID", NULL});
    send_words(r, on_pong, QUEUE_CONNECT_MS, (const char *const[]){"PING", NULL});
}

/* ---- answers ---- */

static bool is_message(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_ARRAY && reply->elements >= 3 && reply->element[0]->type == REDIS_REPLY_STRING &&
           (streq(reply->element[0]->str, "message") || streq(reply->element[0]->str, "pmessage"));
}

static void answered(struct redis *r, redisReply **reply, int64_t now_ms)
{
    if (r->events->message && is_message(*reply)) {
        r->events->message(r->ctx, reply);
    } else if (r->n_owed > 0) {
        struct owed o = *first(r);
        r->first = (r->first + 1) % r->cap;
        r->n_owed--;
        r->since_ms = now_ms;
        if (o.fn)
            o.fn(o.ctx, reply);
    } else if (redis_is_error(*reply)) { /* told before it hangs up: too many clients */
        redis_fail(r, *reply, NULL);
    }
}

static void read_on(struct redis *r)
{
    int64_t now_ms = loop_now_ms(r->loop);
    while (!r->dead && !r->closed && !r->held) {
        redisReply *reply = NULL;
        if (r->lib.redisReaderGetReply(r->reader, (void **)&reply) != REDIS_OK) {
            end(r, -EPROTO, "ProtocolError", "%s", r->reader->errstr);
            return;
        }
        if (!reply)
            return;
        answered(r, &reply, now_ms);
        redis_reply_free(reply);
    }
}

/* First what came before it was held: then more of it may come. */
static void on_unheld(void *ctx)
{
    struct redis *r = ctx;
    read_on(r);
    if (r->wire && !r->held)
        wire_hold(r->wire, false);
}

static void on_received(void *ctx, const char *data, size_t len)
{
    struct redis *r = ctx;
    if (r->lib.redisReaderFeed(r->reader, data, len) == REDIS_OK)
        read_on(r);
    else
        end(r, -EPROTO, "ProtocolError", "%s", r->reader->errstr);
}

static const char *reason_of(int code)
{
    switch (code) {
    case -ECONNREFUSED:
    case -ENOENT: /* no such socket */
        return "ConnectionRefused";
    case -ETIMEDOUT:
        return "TimedOut";
    case -EHOSTUNREACH:
    case -ENETUNREACH:
        return "HostNotFound";
    case -EPROTO:
        return "TlsFailed";
    case -ECONNRESET:
    case -EPIPE:
        return "ConnectionLost";
    default:
        return "ConnectionFailed";
    }
}

static void on_ended(void *ctx, const struct error *err)
{
    struct redis *r = ctx;
    end(r, err->code, reason_of(err->code), "%s: %s", r->place, err->message);
}

/* ---- life ---- */

/* It stays loaded; after the first time this only looks it up. */
static const char *load(struct hiredis *lib)
{
    void *handle = dlopen(HIREDIS_FILE, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!handle)
        return dlerror();
#define RESOLVE(f)                                                                                                     \
    *(void **)&lib->f = dlsym(handle, #f);                                                                             \
    if (!lib->f)                                                                                                       \
        return dlerror();
    HIREDIS_FUNCTIONS(RESOLVE)
#undef RESOLVE
    return NULL;
}

struct redis *redis_open(const struct queue_env *env, struct queue_setup *setup, const char *role,
                         const struct redis_events *events, void *ctx)
{
    static const struct wire_events wire_events = {on_connected, on_received, on_ended};
    const struct queue_url *u = &setup->url;
    struct redis *r = xcalloc(1, sizeof(*r));
    *r = (struct redis){.loop = env->loop, .setup = queue_setup_ref(setup), .events = events, .ctx = ctx};
    r->name =
        xasprintf("triggerd:%s:%s:%s:%08" PRIx32, setup->node_id, setup->name, role, (uint32_t)random_u64(env->random));
    r->place = u->path ? xstrdup(u->path) : xasprintf("%s:%d", u->hosts->host, u->hosts->port);
    timer_init(&r->silence, on_silence, r);
    loop_task_init(&r->tell, on_tell, r);
    loop_task_init(&r->freed, on_freed, r);
    loop_task_init(&r->unheld, on_unheld, r);
    const char *why = load(&r->lib);
    if (why) {
        end(r, -ENOPKG, "NotInstalled", "Redis needs libhiredis: %s", why);
        return r;
    }
    r->reader = r->lib.redisReaderCreate();
    const struct wire_target target = {.host = u->path ? NULL : u->hosts->host,
                                       .port = u->path ? 0 : u->hosts->port,
                                       .path = u->path,
                                       .tls = u->tls,
                                       .config = setup->config.tls,
                                       .connect_ms = QUEUE_CONNECT_MS};
    r->wire = wire_open(env->http, &target, &wire_events, r);
    return r;
}
